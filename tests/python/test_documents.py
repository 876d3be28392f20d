"""The documents against the project: links and paths exist, commands and their options are the program's, examples are
accepted, and the tables of configs/README.md are the program's own lists."""
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

DOCUMENTS = ["README.md", "configs/README.md", "launch/README.md", "src/README.md", "src/python/README.md",
             "tests/README.md"]
MANIFEST = job.ROOT / "tests/manifests/qwen3-0.6b.json"

checks = job.Checks()
documents = {name: (job.ROOT / name).read_text() for name in DOCUMENTS}


@functools.cache
def output(*line):
    """What a command prints, its errors too."""
    result = job.finish(line)
    return result.stdout + result.stderr


# ---- links, paths ----------------------------------------------------------------------------------------------------

def anchors(text):
    """The anchors of a document's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in text.splitlines() if line.startswith("#")}


def check_links(name, text):
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (job.ROOT / name).parent / path if path else job.ROOT / name
        if checks.that(file.exists(), f"{name}: link to {target}: there is no {path}") and anchor:
            checks.that(anchor in anchors(file.read_text()), f"{name}: link to {target}: no such heading")


def check_paths(name, text):
    """Files that are named from the root of the project."""
    for path in set(re.findall(r"(?<![\w./-])(?:src|tests|launch|configs|include)/[\w./-]*\w", text)):
        found = [job.ROOT / path, job.BUILD / path, *job.ROOT.glob(path + ".*")]
        example = path == "src/rules/sign.c" or re.search("NAME|FOLDER", path)
        checks.that(example or any(each.exists() for each in found), f"{name}: there is no {path}")
    if name == "src/README.md":
        rooms = "|".join(path.name for path in (job.ROOT / "src").iterdir() if path.is_dir())
        for path in set(re.findall(rf"(?<![\w./-])(?:{rooms})/\w+\.[ch]", text)):
            checks.that((job.ROOT / "src" / path).exists(), f"{name}: there is no src/{path}")


# ---- commands --------------------------------------------------------------------------------------------------------

def commands(text):
    """The indented lines of a document, with those that a backslash continues, without comments."""
    text = text.replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("    "):
            yield re.sub(r"\s{2,}#.*$", "", line.strip())


def check_options(name, command, line, usage):
    for option in re.findall(r"(?<=\s)--[a-z][a-z-]*", line):
        checks.that(re.search(re.escape(option) + r"(?![\w-])", usage), f"{name}: {command} has no {option}: {line}")


def check_commands(name, text):
    makefile = (job.ROOT / "Makefile").read_text()
    for line in commands(text):
        if match := re.search(r"build/equishard (bench \w+|\w+)(.*)", line):
            usage = output(job.COMMAND, *match[1].split(), "--help")
            checks.that("Usage: equishard " + match[1] in usage, f"{name}: no such command: {line}")
            check_options(name, match[1], match[2], usage)
        elif line.startswith("launch/pretrain.sh"):
            check_options(name, "launch/pretrain.sh", line, pretrain_usage)
        elif match := re.match(r"(?:FUZZ_SECONDS=\d+ )?make ([a-z-]+)", line):
            checks.that(re.search(rf"(?m)^{match[1]}:", makefile), f"{name}: no such target: {line}")
        elif match := re.match(r"tests/run ([^-\s]+)", line):
            tests = [str(path.relative_to(job.ROOT / "tests")) for path in (job.ROOT / "tests").glob("*/test_*.[cp]*")]
            checks.that(any(match[1] in test for test in tests), f"{name}: no test: {line}")


def check_plans(name, text):
    """Those of `plan` run as written."""
    for line in commands(text):
        if line.startswith("build/equishard plan"):
            words = line.split()
            result = job.finish([job.COMMAND, *words[1:]], timeout=60)
            checks.that(result.returncode == 0, f"{name}: {line}: status {result.returncode}\n{result.stderr}")


# ---- tables of configs/README.md -------------------------------------------------------------------------------------

def tables(text):
    """Heading of the first column -> the names in that column, and the rows; for all tables that begin so."""
    found = {}
    for block in re.findall(r"(?m)(?:^\|.*\n)+", text):
        head, _, *rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        names = [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]
        found.setdefault(head[0].strip("`"), []).append((names, rows))
    return found


def same(what, documented, program):
    checks.that(sorted(documented) == sorted(program),
                f"configs/README.md, {what}: not in the program: {sorted(set(documented) - set(program))}, "
                f"not documented: {sorted(set(program) - set(documented))}")


def check_tables():
    """Every key, value, rule and role, and the defaults, against `equishard rules`."""
    program = json.loads(output(job.COMMAND, "rules", "--format", "json"))
    values, mappings = program["values"], program["mappings"]
    found = tables(documents["configs/README.md"])
    whole, group, match, of_checkpoints = found["key"]
    same("keys of the whole", whole[0], mappings["configuration"])
    same("keys of a group", group[0], [key["name"] for key in program["keys"]])
    same("keys of match", match[0], mappings["match"])
    same("keys of checkpoint", of_checkpoints[0], mappings["checkpoint"])
    rules = {rule["name"]: rule["keys"] for rule in program["rules"]}
    for names, _ in found["rule"]:
        same("rules", names, rules)
    same("roles", found["role"][0][0], values["role"])
    same("schedules", found["kind"][0][0], values["kind"])
    for key in "momentum", "scale", "solver", "form", "layout":
        same(key, found[key][0][0], values[key])
    check_defaults(found["rule"][0][1], rules)
    check_values(group[1], values, rules)
    check_keys_of_rules(found["rule"][1][1], rules, program["keys"])


def check_defaults(rows, rules):
    """Momentum, solver and scale of every rule, in the third column."""
    for name, _, defaults, _ in rows:
        keys = rules[name.strip("`")]
        told = [str(keys[key]) for key in ("momentum", "solver", "scale") if key in keys]
        shown = [word.strip("`") for word in defaults.split(", ") if word != "none"]
        checks.that(shown == (told or ["betas"]), f"configs/README.md: {name} has {told} by default, not {shown}")


def check_values(rows, values, rules):
    """The values that the table of a group's keys lists, and its defaults in parentheses at the end."""
    for name, text in rows:
        key = name.strip("`")
        if key in values and key not in ("rule", "layout"):
            checks.that(all(f"`{value}`" in text for value in values[key]), f"configs/README.md: {key}: {values[key]}")
        if (default := re.search(r" \(`?([\w.]+|\[[^]]*\])`?(?:;[^)]*)?\)$", text)) is None:
            continue
        told = {str(keys[key]) for keys in rules.values() if key in keys}
        checks.that(told == {default[1]} or told == {"None"}, f"configs/README.md: {key} is by default {told}: {text}")


def check_keys_of_rules(rows, rules, keys):
    common = {"match", "rule", "lr", "weight_decay", "schedule", "grid", "block"}  # as the text above the table says
    documented = {}
    for name, text in rows:
        names = re.findall(r"`([^`]+)`", text)
        documented[name.strip("`")] = set(names) & {key["name"] for key in keys}
        if "those of" in text:
            documented[name.strip("`")] |= documented[names[0]]
    for rule, used in documented.items():
        with_layout = {"head_dim", "split"} if "layout" in used else set()
        same(f"keys of {rule}", used | with_layout, set(rules[rule]) - common)


# ---- examples --------------------------------------------------------------------------------------------------------

def indented(text, begin):
    """The first indented block that begins with a line."""
    lines = text[text.index("\n    " + begin) + 1:].splitlines()
    block = []
    for line in lines:
        if line and not line.startswith("    "):
            break
        block.append(line[4:])
    return "\n".join(block).strip() + "\n"


def check_examples(directory):
    text = documents["configs/README.md"]
    example = directory / "example.yaml"
    example.write_text(indented(text, "mode: service"))
    solver = directory / "custom.yaml"
    solver.write_text("groups:\n  - match: {ndim: 2}\n    lr: 1\n" +
                      re.sub("(?m)^(?=.)", "    ", indented(text, "rule: muon")) +
                      "  - {match: {}, rule: adamw, lr: 1}\n")
    for path in example, solver:
        result = job.finish([job.COMMAND, "plan", "--config", path, "--manifest", MANIFEST])
        checks.that(result.returncode == 0, f"configs/README.md, {path.name}: {result.stderr}")


def check_new_rule(directory):
    """The new rule of src/README.md compiles as it stands there."""
    text = documents["src/README.md"]
    source = directory / "sign.c"
    source.write_text(indented(text, '#include "rules/rules.h"'))
    with open(source, "a") as file:
        file.write("const eqs_rule *sign(void);\nconst eqs_rule *sign(void)\n{\n  return &eqs_rule_sign;\n}\n")
    result = subprocess.run(
        ["mpicc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-fsyntax-only", "-include", "rules/rule.h",
         f"-I{job.ROOT}/include", f"-I{job.ROOT}/src", source], capture_output=True, text=True)
    checks.that(result.returncode == 0, f"src/README.md: the new rule does not compile\n{result.stderr}")


os.chdir(job.ROOT)
pretrain_usage = output("launch/pretrain.sh", "--help")
for name, text in documents.items():
    check_links(name, text)
    check_paths(name, text)
    check_commands(name, text)
    check_plans(name, text)
checks.at_most(len(documents["README.md"].splitlines()), 250, "lines of README.md")
check_tables()
with tempfile.TemporaryDirectory() as temporary:
    check_examples(pathlib.Path(temporary))
    check_new_rule(pathlib.Path(temporary))
sys.exit(checks.failed > 0)

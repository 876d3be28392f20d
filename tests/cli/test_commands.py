"""The `equishard` command: help, versions, usage, and what plan, replay, inspect and verify say."""
import collections
import concurrent.futures
import json
import pathlib
import re
import sys
import tempfile

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

SUBCOMMANDS = ["serve", "plan", "rules", "replay", "bench", "inspect", "verify", "export", "import"]
# Kept between steps, beside weight and gradient; the rules' defaults.
KEPT = collections.defaultdict(lambda: 1, adamw=2)
checks = job.Checks()


def command(*arguments, status=0):
    result = job.finish([job.COMMAND, *arguments])
    checks.that(result.returncode == status, f"equishard {' '.join(map(str, arguments))}: status {result.returncode}, not "
                f"{status}\n{result.stdout}{result.stderr}")
    return result


def general():
    text = command("--help").stdout
    for word in SUBCOMMANDS + ["Exit status"]:
        checks.that(word in text, f"--help has {word!r}")
    for name in SUBCOMMANDS:
        text = command(name, "--help").stdout
        checks.that("Usage: equishard " + name in text and "Example:" in text, f"{name} --help\n{text}")
    text = command("--version").stdout
    for word in "equishard ", "Open MPI", "HDF5", "BLIS", "ScaLAPACK":
        checks.that(word in text, f"--version has {word!r}\n{text}")
    blas = [line for line in text.splitlines() if "sgemm" in line or "BLAS" in line]
    checks.that(all("libblis" in line for line in blas), f"BLAS is BLIS: {blas}")

    for arguments in [], ["sever"], ["--nothing"], ["plan"], ["plan", "--owners", "0"], ["replay"], ["inspect"], ["verify"], \
            ["verify", "a", "b"], ["plan", "--format", "xml"], ["inspect", "--format", "xml", "a"], ["serve", "x"], \
            ["replay", "--nothing"]:
        result = command(*arguments, status=2)
        checks.that("equishard" in result.stderr and not result.stdout, f"{arguments}: what is wrong: {result}")
    result = job.run((3, job.COMMAND, "replay", "--nothing"))
    checks.that(result.returncode == 2 and result.stderr.count("unrecognized option") == 1, f"under mpirun: {result}")


def plan(config, manifest, owners, *arguments, status=0):
    return command("plan", "--config", config, "--manifest", manifest, "--owners", owners, *arguments, status=status)


def matrices(entry, model):
    """How many matrices the layout makes of a tensor."""
    stack = entry["shape"][0] if len(entry["shape"]) == 3 else 1
    if entry["layout"].startswith("heads") and entry["rule"] != "adamw":
        keys = entry["name"].endswith(("k_proj.weight", "v_proj.weight"))
        return model["num_key_value_heads" if keys else "num_attention_heads"]
    return 2 * stack if entry["layout"].endswith("_split") else 1 if entry["rule"] == "adamw" else stack


def untied(model):
    """The manifest's entries that are parameters of their own."""
    return [entry for entry in model["parameters"] if "tied_to" not in entry
            and not (model.get("tie_word_embeddings") and entry["name"] == "lm_head.weight")]


MODELS = {"qwen3": "qwen3-0.6b", "gemma3": "gemma3-1b", "olmoe": "olmoe-1b-7b", "gpt-oss": "gpt-oss-20b"}


def plans(config):
    """A configuration on the manifest of its model."""
    config, manifest = job.ROOT / f"configs/{config}.yaml", job.ROOT / f"tests/manifests/{MODELS[config]}.json"
    model = json.loads(manifest.read_text())
    listed = untied(model)
    for owners in 1, 6:
        result = plan(config, manifest, owners, "--format", "json")
        entries = json.loads(result.stdout)
        what = f"{config.name}, {owners} owners"
        checks.that([entry["name"] for entry in entries] == [entry["name"] for entry in listed],
                    f"{what}: the parameters in the manifest's order")
        checks.that(plan(config, manifest, owners, "--format", "json").stdout == result.stdout, f"{what}: the same again")
        for entry, expected in zip(entries, listed):
            check_entry(f"{what}: {entry['name']}", entry, expected, model, owners)
        if owners > 1:
            held = {owner for entry in entries for owner in entry["owners"]}
            checks.that(held == set(range(owners)), f"{what}: every owner has something")
        check_table(what, plan(config, manifest, owners).stdout, entries, owners)


def check_entry(what, entry, expected, model, owners):
    checks.that(set(entry) == {"name", "shape", "role", "rule", "layout", "matrices", "grid", "owners", "flops", "bytes"},
                f"{what}: fields {sorted(entry)}")
    checks.that(entry["shape"] == expected["shape"], f"{what}: shape {entry['shape']}")
    checks.that(entry["role"] == expected["role"], f"{what}: role {entry['role']}, not {expected['role']}")
    if entry["rule"] in ("row_norm", "hybrid"):
        checks.that(entry["layout"] == expected.get("layout"), f"{what}: layout {entry['layout']}, not {expected}")
    count = matrices(entry, model)
    checks.that(entry["matrices"] == count, f"{what}: {entry['matrices']} matrices, not {count}")
    elements = int(np.prod(entry["shape"], dtype=np.int64))
    checks.that(entry["bytes"] == 4 * elements * (2 + KEPT[entry["rule"]]),
                f"{what}: {entry['bytes']} bytes of {elements} elements, {entry['rule']}")
    rows, cols = map(int, entry["grid"].split("x"))
    checks.that(rows * cols <= len(entry["owners"]) <= min(owners, rows * cols * entry["matrices"])
                and all(0 <= owner < owners for owner in entry["owners"]), f"{what}: {entry['owners']} of {entry['grid']}")
    checks.that(entry["flops"] >= elements, f"{what}: {entry['flops']} flops of {elements} elements")


def check_table(what, text, entries, owners):
    """A row per parameter; a row per owner, whose loads sum up to the whole."""
    lines = text.splitlines()
    for entry in entries:
        rows = [line.split() for line in lines if line.split()[:1] == [entry["name"]]]
        checks.that(len(rows) == 1 and rows[0][2:4] == [entry["role"], entry["rule"]] and entry["grid"] in rows[0],
                    f"{what}: the table's row of {entry['name']}: {rows}")
    start = next(number for number, line in enumerate(lines) if line.startswith("owner "))
    columns = re.split(r"\s{2,}", lines[start].strip())
    loads = [dict(zip(columns, line.split())) for line in lines[start + 1:start + 1 + owners]]
    checks.that([int(load["owner"]) for load in loads] == list(range(owners)), f"{what}: a row per owner: {loads}")
    mebibytes = sum(entry["bytes"] for entry in entries) / 2**20
    checks.at_most(abs(sum(float(load["MiB"]) for load in loads) - mebibytes), 0.005 * owners + 1e-6,
                   f"{what}: MiB of the owners together, less the parameters'")
    seconds = [float(load["predicted s"]) for load in loads]
    checks.at_most(max(seconds), 2 * min(seconds), f"{what}: the busiest owner, by twice the idlest")


def forced_grid(directory):
    config, manifest = directory / "grid.yaml", directory / "grid.json"
    config.write_text("groups: [{match: {}, rule: muon, lr: 1, grid: 2x3, layout: row}]\n")
    manifest.write_text(json.dumps({"parameters": [{"name": "x.weight", "shape": [64, 48]},
                                                   {"name": "y.weight", "shape": [5, 7]}]}))
    for entry in json.loads(plan(config, manifest, 6, "--format", "json").stdout):
        checks.that(entry["grid"] == "2x3" and entry["owners"] == list(range(6)), f"a forced grid: {entry}")
    for arguments in ((config, manifest, 5), (directory / "none.yaml", manifest, 5), (config, directory / "none.json", 5)):
        status = 2 if arguments[:2] == (config, manifest) else 3
        result = plan(*arguments, status=status)
        checks.that(result.stderr.count("equishard: error: ") == 1, f"plan, one message: {result}")
    manifest.write_text("{")
    checks.that("grid.json" in plan(config, manifest, 6, status=2).stderr, "a manifest that is not JSON")


def numpy_steps(rule, weight, gradients, center):
    """The formulas in float64, for lr 0.1 and the defaults of the rules."""
    w, m, v = weight.astype(np.float64), np.zeros(weight.shape), np.zeros(weight.shape)
    for t, g in enumerate(gradients, 1):
        g = g.astype(np.float64)
        if rule == "adamw":
            m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
            w = (1 - 0.1 * 0.01) * w - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
        else:
            m = 0.95 * m + 0.05 * g
            d = m - m.mean(axis=0) if center else m
            u = d / (np.linalg.norm(d, axis=1, keepdims=True) + 1e-8)
            w = w - 0.1 * (u - u.mean(axis=0) if center else u)
    return w


def replay(directory):
    """A checkpoint of known contents, against numpy."""
    random = np.random.default_rng(3)
    config, recording, output = directory / "config.yaml", directory / "gradients.h5", directory / "output.h5"
    config.write_text("groups:\n  - {match: {role: [embedding, lm_head]}, rule: row_norm, lr: 0.1}\n"
                      "  - {match: {}, rule: adamw, lr: 0.1, weight_decay: 0.01}\n")
    shapes = {"model.embed_tokens.weight": (21, 8), "lm_head.weight": (30, 8), "norm.weight": (8,), "up.weight": (7, 5),
              "scale": ()}
    weights = {name: np.asarray(random.standard_normal(shape), np.float32) for name, shape in shapes.items()}
    gradients = {name: [np.asarray(random.standard_normal(shape), np.float32) for _ in range(4)]
                 for name, shape in shapes.items()}
    with h5py.File(recording, "w") as file:
        for name in shapes:
            file[f"parameters/{name}/weight"] = weights[name]
            for t, gradient in enumerate(gradients[name]):
                file[f"gradients/{t}/{name}"] = gradient
    result = job.run((2, job.COMMAND, "replay", "--config", config, "--gradients", recording, "--output", output))
    checks.that(result.returncode == 0, f"replay: {result}")
    with h5py.File(output, "r") as file:
        checks.that(file.attrs["step"] == 4 and file.attrs["complete"] == 1, "four steps")
        checks.that(file.attrs["config"].decode() == config.read_text(), "the configuration's text")
        for name, weight in weights.items():
            group = file["parameters"][name]
            rule = "row_norm" if name in ("model.embed_tokens.weight", "lm_head.weight") else "adamw"
            kept = {"weight", "momentum"} if rule == "row_norm" else {"weight", "exp_avg", "exp_avg_sq"}
            checks.that(set(group) == kept and group.attrs["rule"].decode() == rule, f"{name}: {list(group)}")
            expected = numpy_steps(rule, weight, gradients[name], center=name == "lm_head.weight")
            error = np.abs(group["weight"][()] - expected).max()
            # As for the golden trajectories: rounding of float32, with a plain float32 program at 0.4 of it.
            checks.at_most(error, 2e-6 + 2e-5 * np.abs(expected - weight).max(), f"{name}: error against numpy")
    return output, shapes


def inspect(output, shapes):
    text = command("inspect", output).stdout
    for word in list(shapes) + ["step        4", "row_norm", "exp_avg_sq", "21x8", str(output)]:
        checks.that(word in text, f"inspect has {word!r}\n{text}")
    described = json.loads(command("inspect", output, "--format", "json").stdout)
    checks.that(described["step"] == 4 and described["bytes"] == output.stat().st_size
                and described["elements"] == sum(int(np.prod(shape)) for shape in shapes.values()), f"inspect: {described}")
    checks.that({entry["name"]: tuple(entry["shape"]) for entry in described["parameters"]} == shapes, "inspect: the shapes")
    attributes = {entry["name"]: entry["attributes"] for entry in described["parameters"]}
    checks.that(attributes["lm_head.weight"]["role"] == "lm_head" and attributes["norm.weight"]["lr"] == 0.1,
                f"inspect: attributes {attributes}")
    checks.that("equishard: error: " in command("inspect", output.parent / "none.h5", status=3).stderr, "inspect nothing")
    checks.that("equishard: error: " in command("inspect", output.parent / "gradients.h5", status=4).stderr,
                "inspect what is no checkpoint")


def verify(output):
    checks.that("whole" in command("verify", output).stdout, "verify a whole checkpoint")
    with h5py.File(output, "r") as file:
        dataset = file["parameters/model.embed_tokens.weight/momentum"]
        row = dataset.id.get_offset() + 4 * 8 * 17
        attributes = output.read_bytes().find(b"row_norm")
    data = bytearray(output.read_bytes())
    data[row + 2] ^= 4
    damaged = output.with_name("damaged.h5")
    damaged.write_bytes(data)
    for ranks in 1, 3:
        result = job.run((ranks, job.COMMAND, "verify", damaged))
        lines = [line for line in result.stdout.splitlines() if line.startswith("damaged: ")]
        checks.that(result.returncode == 4 and len(lines) == 1, f"verify on {ranks}, one byte: {result}")
        if lines:
            what, _, rows = lines[0].removeprefix("damaged: ").partition(", rows ")
            first, last = map(int, rows.split(" to "))
            checks.that(what == "model.embed_tokens.weight/momentum" and first <= 17 <= last < 21, lines[0])
        checks.that(result.stderr.count("equishard: error: ") == 1, f"verify on {ranks}, one message: {result}")
    data = bytearray(output.read_bytes())
    data[attributes] ^= 1
    damaged.write_bytes(data)
    command("verify", damaged, status=4)
    damaged.write_bytes(data[:-40])
    command("verify", damaged, status=4)
    command("verify", output.parent / "config.yaml", status=4)
    command("verify", output.parent / "none.h5", status=3)


def checkpoints(directory):
    output, shapes = replay(directory)
    inspect(output, shapes)
    verify(output)


# The command mostly waits for MPI to start: several at a time.
with tempfile.TemporaryDirectory() as name, concurrent.futures.ThreadPoolExecutor(4) as pool:
    scratch = pathlib.Path(name)
    parts = [pool.submit(checkpoints, scratch), pool.submit(general), *(pool.submit(plans, config) for config in MODELS),
             pool.submit(forced_grid, scratch)]
    for part in parts:
        part.result()
sys.exit(checks.failed > 0)

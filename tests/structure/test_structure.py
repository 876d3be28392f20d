"""The structure of src, as src/README.md states it:

- a room includes headers of itself and of rooms before it;
- only some rooms call MPI, BLAS and ScaLAPACK, HDF5 and YAML;
- a header declares what the source of its stem defines, and nothing that another source does;
- no two sources of a room need each other's headers, directly or through others.

Includes are read from the sources, calls and definitions from the objects that `make tests` has built.
"""
import collections
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

ROOMS = ["base", "dist", "polar", "rules", "model", "optimizer", "checkpoint", "weights", "service", "bench", "cli"]

# Library: the symbols that are its calls, the rooms and files that may make them.
LIBRARIES = {
    "MPI": (r"P?MPI_", ["dist", "checkpoint", "service", "bench", "cli", "weights/import.c"]),
    "BLAS and ScaLAPACK": (r"[a-z][a-z0-9]*_$|C[a-z0-9]+_|bli_|cblas_", ["dist", "polar"]),
    "HDF5": (r"H5", ["checkpoint", "cli/recording.c"]),
    "YAML": (r"yaml_", ["model"]),
}

# Headers that list the entries of a table, one source file each.
TABLES = {"cli/command.h", "bench/bench.h", "rules/rules.h"}

# What is still to be put right: files and circles that are not checked.
OPEN = {"dist/symmetric_set_kind.h"}
OPEN_CIRCLES = {"dist"}

checks = job.Checks()
sources = {path.relative_to(job.ROOT / "src").as_posix(): path for path in sorted((job.ROOT / "src").glob("*/*.[ch]"))}


def code(path):
    """A source without comments."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda comment: re.sub(r"[^\n]", " ", comment[0]), path.read_text(),
                  flags=re.DOTALL)


def includes(path):
    """(line, header) of every header of ours that a file includes."""
    for number, line in enumerate(code(path).splitlines(), 1):
        if match := re.match(r'\s*#\s*include\s+"([^"]+)"', line):
            yield number, match[1]


def check_order():
    for name, path in sources.items():
        room = name.split("/")[0]
        if not checks.that(room in ROOMS, f"src/{name}: unknown room {room}; name it in {__file__}"):
            continue
        for line, header in includes(path):
            if header != "equishard.h":
                other = header.split("/")[0]
                checks.that(header in sources, f"src/{name}:{line}: no header src/{header}")
                checks.that(other in ROOMS and ROOMS.index(other) <= ROOMS.index(room),
                            f"src/{name}:{line}: {room} comes before {other}; it must not include {header}")


def symbols():
    """What each source defines for others, and what it takes from elsewhere."""
    objects = {name: job.BUILD / "objects/src" / (name[:-2] + ".o") for name in sources if name.endswith(".c")}
    missing = [str(path) for path in objects.values() if not path.exists()]
    checks.that(not missing, f"run `make tests` first: there is no {', '.join(missing[:3])}")
    objects = {name: path for name, path in objects.items() if path.exists()}
    listing = subprocess.run(["nm", "--print-file-name", "--extern-only", *objects.values()], check=True,
                             capture_output=True, text=True).stdout
    by_object = {str(path): name for name, path in objects.items()}
    defined, taken = {name: set() for name in objects}, {name: set() for name in objects}
    for line in listing.splitlines():
        place, _, rest = line.rpartition(":")
        *_, kind, symbol = rest.split()
        (taken if kind in "Uw" else defined)[by_object[place]].add(symbol)
    return defined, taken


def check_calls(defined, taken):
    for library, (pattern, allowed) in LIBRARIES.items():
        callers = set()
        for name, names in taken.items():
            calls = sorted(symbol for symbol in names if re.match(pattern, symbol) and not symbol.startswith("_"))
            if calls and name not in OPEN and not (name.split("/")[0] in allowed or name in allowed):
                checks.that(False, f"src/{name} calls {library}: {', '.join(calls)}; only {', '.join(allowed)} may")
            callers.update(calls)
        checks.that(callers, f"nobody calls {library}: the pattern {pattern} is wrong")


def declarations(path):
    """(line, name) of what a header declares and does not define: functions and objects, at file level."""
    text = re.sub(r"(?m)^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda directive: re.sub(r"[^\n]", " ", directive[0]), code(path))
    depth, begin = 0, 0
    for position, character in enumerate(text):
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0 and re.search(r"\)\s*$", text[begin:text.index("{", begin)]):
                begin = position + 1  # an inline function ends without a semicolon
        elif character == ";" and depth == 0:
            statement = text[begin:position]
            line = text.count("\n", 0, position - len(statement.lstrip())) + 1
            flat = re.sub(r"\{.*\}|__attribute__\s*\(\(.*?\)\)", "", statement, flags=re.DOTALL)
            if not re.match(r"\s*(?:typedef|struct\s+\w+\s*$|enum\s*$|static|_Static_assert)", flat):
                if match := re.search(r"(\w+)\s*(?:\(|(?:\[[^\]]*\]\s*)*$)", flat.strip()):
                    yield line, match[1]
            begin = position + 1


def check_headers(defined):
    where = {symbol: name for name, names in defined.items() for symbol in names}
    declared = 0
    for name, path in sources.items():
        if name.endswith(".c") or name in TABLES:
            continue
        for line, symbol in declarations(path):
            declared += 1
            source = where.get(symbol)
            if source is not None:
                checks.that(name in OPEN or source == name[:-2] + ".c", f"src/{name}:{line}: {symbol} is defined in src/{source}")
            else:  # another library's, declared by hand
                checks.that(not symbol.startswith("eqs_"), f"src/{name}:{line}: nobody defines {symbol}")
    checks.that(declared > 100, f"only {declared} declarations found in the headers: the reader of headers is wrong")


def check_circles():
    """Stems of a room that reach each other by includes."""
    needs = collections.defaultdict(set)
    for name, path in sources.items():
        if name in TABLES:
            continue
        for _, header in includes(path):
            if header.split("/")[0] == name.split("/")[0] and header not in TABLES:
                needs[name[:-2]].add(header[:-2])

    def reached(stem):
        found, open_ends = set(), [stem]
        while open_ends:
            for other in needs[open_ends.pop()] - found - {stem}:
                found.add(other)
                open_ends.append(other)
        return found

    stems = {name[:-2] for name in sources}
    reach = {stem: reached(stem) for stem in stems}
    circles = {tuple(sorted({stem} | {other for other in reach[stem] if stem in reach[other]})) for stem in stems}
    for circle in sorted(circle for circle in circles if len(circle) > 1):
        checks.that(circle[0].split("/")[0] in OPEN_CIRCLES, f"these need each other's headers: {', '.join(circle)}")


check_order()
defined, taken = symbols()
check_calls(defined, taken)
check_headers(defined)
check_circles()
sys.exit(checks.failed > 0)

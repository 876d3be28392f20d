"""Weights in and out: `equishard export`, `equishard import`, and python3 -m equishard.convert, against h5py, torch and a
reader of safetensors of our own; and what becomes of files that are damaged or hostile."""
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job
import safetensors

checks = job.Checks()
# Numbers on which a conversion to 16 bits goes wrong: ties, the largest ones, subnormal ones, NaN.
HARD = np.array([0, 0x80000000, 0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x7f7fffff, 0xff7fffff, 0x7f7f7fff,
                 0x7f7f8000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff, 1, 0x7fff, 0x8000, 0x8001, 0x18000,
                 0x007fffff, 0x00800000, 0x80008001, 0x477fefff, 0x477ff000, 0x33000000, 0x33000001, 0x33c00000, 0x387fffff],
                np.uint32).view(np.float32)
# Those that float16 and bfloat16 would round to infinity: half a unit in the last place above their largest number, and more.
HARD_BEYOND = {dtype: np.flatnonzero(np.isfinite(HARD) & (np.abs(HARD) >= np.float32(first)))
               for dtype, first in (("float16", 65520), ("bfloat16", 2.0**128 - 2.0**119))}


def finish(words, status, what):
    result = job.finish(words)
    checks.that(result.returncode == status, f"{what}: status {result.returncode}, not {status}\n{result.stdout}"
                f"{result.stderr}")
    if status:
        checks.that(result.stderr.count("equishard: error: ") == 1 and not result.stdout, f"{what}: one message: {result}")
    return result


def command(*arguments, status=0):
    return finish([job.COMMAND, *arguments], status, f"equishard {' '.join(map(str, arguments))}")


def convert(*arguments, status=0):
    return finish([job.PYTHON, "-m", "equishard.convert", *arguments], status, f"convert {' '.join(map(str, arguments))}")


def checkpoint(directory, name, weights):
    """What replay makes of weights and one step with small gradients, so that there is state to be left behind."""
    recording, yaml, output = (directory / f"{name}.{ending}" for ending in ("recording", "yaml", "h5"))
    yaml.write_text("groups: [{match: {}, rule: adamw, lr: 0}]\n")  # the weights stay
    with h5py.File(recording, "w") as file:
        for key, weight in weights.items():
            path = key if isinstance(key, bytes) else key.encode()
            file[b"parameters/" + path + b"/weight"] = weight
        file.create_group("gradients")
        if "a.weight" in weights:
            file["gradients/0/a.weight"] = np.ones(weights["a.weight"].shape, np.float32)
    command("replay", "--config", yaml, "--gradients", recording, "--output", output)
    return output


def stored(file):
    """name -> (bits of the weight, its trainer_dtype)."""
    with h5py.File(file, "r") as opened:
        return {name: (group["weight"][()].view(np.uint32), group["weight"].attrs["trainer_dtype"].decode())
                for name, group in opened["parameters"].items()}


def same_bits(a, b):
    return a.shape == b.shape and a.dtype.itemsize == b.dtype.itemsize and a.tobytes() == b.tobytes()


def rounded(weight, dtype):
    """torch's conversion, as bits; and where it is NaN, which has many bits."""
    values = torch.from_numpy(np.array(weight, np.float32)).to(dtype)
    return values.contiguous().view(torch.int16).numpy().view(np.uint16).reshape(weight.shape), \
        torch.isnan(values).numpy().reshape(weight.shape)


def export(directory, random):
    weights = {"a.weight": random.standard_normal((3000, 700)).astype(np.float32),  # three tiles
               "hard": HARD, "scale": np.float32(random.standard_normal(())), "nothing": np.zeros((0, 5), np.float32),
               'quote " \\ and \t tab': np.ones((2, 1, 3), np.float32), "größe.权重": np.arange(4, dtype=np.float32)}
    source = checkpoint(directory, "export", weights)
    written = {name: bits for name, (bits, _) in stored(source).items()}
    for dtype, short, bits in ("float32", "F32", None), ("bfloat16", "BF16", torch.bfloat16), ("float16", "F16", torch.float16):
        output = directory / f"{dtype}.safetensors"
        if bits:  # HARD has numbers for which it has none
            said = command("export", source, "--output", output, "--dtype", dtype, status=2).stderr
            first, largest = HARD_BEYOND[dtype][0], "65504" if dtype == "float16" else "3.38953e+38"
            checks.that(f"parameter hard: element {first} is {HARD[first]:g}, and {dtype} ends at {largest}: " in said
                        and "--saturate" in said and not output.exists(), said)
        said = command("export", source, "--output", output, *(["--dtype", dtype, "--saturate"] if bits else []))
        checks.that(not bits or f"warning: {len(HARD_BEYOND[dtype])} elements were beyond {dtype}" in said.stderr, said)
        checks.that(f"6 tensors of step 1, {sum(map(np.size, weights.values()))} elements, {dtype}" in said.stdout, said)
        metadata, tensors = safetensors.read(output)
        checks.that(metadata["format"] == "pt" and metadata["step"] == "1", f"{dtype}: {metadata}")
        checks.that(list(tensors) == sorted(weights, key=str.encode), f"{dtype}: names {list(tensors)}")
        checks.that(not output.with_name(output.name + ".partial").exists(), f"{dtype}: nothing is left beside it")
        for name, (kind, array) in tensors.items():
            checks.that(kind == short, f"{dtype}: {name}: {kind}")
            if bits is None:
                checks.that(same_bits(array, written[name]), f"{dtype}: {name}: the bits of the checkpoint")
                continue
            expected, isnan = rounded(written[name].view(np.float32), bits)
            if name == "hard":  # torch's infinity, where it is finite; else its rounding
                expected[HARD_BEYOND[dtype]] = (expected[HARD_BEYOND[dtype]] & 0x8000) | (0x7bff if dtype == "float16" else 0x7f7f)
            mine = array.view(np.uint16)
            mine_nan = torch.isnan(torch.from_numpy(np.array(mine).view(np.int16)).view(bits)).numpy()
            checks.that(array.shape == expected.shape and np.array_equal(mine_nan, isnan)
                        and np.array_equal(mine[~isnan], expected[~isnan]), f"{dtype}: {name}: torch's rounding")
    again = directory / "again.safetensors"
    result = job.run((3, job.COMMAND, "export", source, "-o", again))
    checks.that(result.returncode == 0 and result.stdout.count("6 tensors") == 1
                and again.read_bytes() == (directory / "float32.safetensors").read_bytes(), f"on three ranks: {result}")
    few = directory / "few.safetensors"
    command("export", source, "--output", few, "--match", "*s*", "--match", "hard", "--exclude", "noth*")
    checks.that(list(safetensors.read(few)[1]) == ["hard", "scale"], "only what matches")
    refuse_to_export(directory, source)


def refuse_to_export(directory, source):
    output = directory / "refused.safetensors"
    output.write_text("as it was")
    command("export", source, "--output", output, "--match", "none", status=2)
    command("export", source, "--output", source, status=2)
    command("export", directory / "none.h5", "--output", output, status=3)
    command("export", source, "--output", directory / "none" / "x.safetensors", status=3)
    command("export", directory / "few.safetensors", "--output", output, status=4)
    for key, what in (b"caf\xe9.weight", r'"caf\xe9.weight": safetensors cannot hold this name, which is not UTF-8'), \
            ("__metadata__", "cannot hold this name"):
        named = checkpoint(directory, "named", {key: np.ones(3, np.float32)})
        checks.that(what in command("export", named, "--output", output, status=2).stderr, what)
    with h5py.File(source, "r") as file:
        place = file["parameters/a.weight/weight"].id.get_offset() + 4 * 700 * 2000
        moment = file["parameters/a.weight/exp_avg"].id.get_offset()
    damaged = directory / "damaged.h5"
    damaged.write_bytes(flip(source.read_bytes(), place))
    first = 2000 // ((1 << 20) // 700) * ((1 << 20) // 700)  # a tile has 2^20 elements, whole rows
    said = command("export", damaged, "--output", output, status=4).stderr
    checks.that(f"{damaged}: damaged: a.weight/weight, rows {first} to " in said, said)
    result = job.run((2, job.COMMAND, "export", damaged, "--output", output))
    checks.that(result.returncode == 4, f"damaged, on two ranks: {result}")
    command("export", damaged, "--output", directory / "rest.safetensors", "--exclude", "a.*")
    damaged.write_bytes(flip(source.read_bytes(), moment))
    command("export", damaged, "--output", directory / "rest.safetensors")
    checks.that(output.read_text() == "as it was" and not list(directory.glob("*.partial")),
                f"what was there stays: {list(directory.glob('*.partial'))}")


def flip(data, place):
    data = bytearray(data)
    data[place] ^= 1
    return data


def full_disk(directory):
    """No room for the output: status 3, nothing left. By a file system of 1 MiB where one can be mounted."""
    source = checkpoint(directory, "large", {"a.weight": np.ones((600, 700), np.float32)})
    whole, small = directory / "whole.safetensors", directory / "small"
    command("export", source, "--output", whole)
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], stderr=subprocess.DEVNULL).returncode:
        print("no file system can be mounted: the full disk is not tested")
        return
    try:
        command("export", source, "--output", small / "x.safetensors", status=3)
        command("import", whole, "--output", small / "x.h5", status=3)
        checks.that(not list(small.iterdir()), f"a full disk: nothing is left: {list(small.iterdir())}")
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def model(random):
    """Two parts of a model in all dtypes that are weights, and some that are not."""
    with np.errstate(over="ignore"):
        half = HARD.astype(np.float16)
    half = np.concatenate([half, np.array([1, 0x3ff, 0x400, 0x8001, 0x7bff, 0xfc00, 0x7e01], np.uint16).view(np.float16)])
    return [{"a.weight": ("F32", random.standard_normal((70, 30)).astype(np.float32)), "hard": ("F32", HARD),
             "bf": ("BF16", np.arange(0x10000, dtype=np.uint16).reshape(256, 256)), "odd": ("U8", np.ones(3, np.uint8)),
             "scalar": ("F32", np.float32(2.5).reshape(()))},
            {"half": ("F16", half), "double": ("F64", random.standard_normal((3, 2, 5)) * 10.0**30),
             "large": ("F16", random.standard_normal((1100, 1000)).astype(np.float16)),  # more than are read at once
             "edges": ("F64", np.array([3e38, -3e38, 1e-46, np.nan, 1 + 2.0**-24, 1 + 3 * 2.0**-24])),
             "nothing": ("F32", np.zeros((0, 3), np.float32)), "ids": ("I64", np.arange(4))}]


def as_float32(dtype, array):
    with np.errstate(over="ignore"):
        return (array.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else array.astype(np.float32)


def import_files(directory, random):
    parts, files = model(random), [directory / "part-1.safetensors", directory / "part-2.safetensors"]
    safetensors.write(files[0], parts[0], {"format": "pt"}, pad=3)
    safetensors.write(files[1], parts[1])
    outputs = {ranks: directory / f"import-{ranks}.h5" for ranks in (1, 3)}
    for ranks, output in outputs.items():
        result = job.run((ranks, job.COMMAND, "import", *files, "--output", output))
        checks.that(result.returncode == 0 and result.stdout.count("9 tensors") == 1, f"import: {result}")
        checks.that(result.stderr.count("left out: ") == 1 and "ids (I64)" in result.stderr and "odd (U8)" in result.stderr,
                    f"what is left out is said once: {result.stderr}")
    found, expected = stored(outputs[1]), {**parts[0], **parts[1]}
    del expected["odd"], expected["ids"]
    checks.that(set(found) == set(expected), f"names: {list(found)}")
    for name, (dtype, array) in expected.items():
        bits, trainer_dtype = found[name]
        checks.that(trainer_dtype == {"BF16": "bfloat16", "F16": "float16"}.get(dtype, "float32"), f"{name}: {trainer_dtype}")
        values, isnan = as_float32(dtype, array), np.isnan(as_float32(dtype, array))
        same = values.shape == bits.shape and np.array_equal(np.isnan(bits.view(np.float32)), isnan)
        exact = dtype in ("F32", "BF16")  # numpy makes quiet NaN of the others
        checks.that(same and np.array_equal(bits[~isnan], values.view(np.uint32)[~isnan])
                    and (not exact or same_bits(values, bits)), f"{name}: the values of the file")
    with h5py.File(outputs[1], "r") as file:
        checks.that(file.attrs["step"] == 0 and all(list(group) == ["weight"] for group in file["parameters"].values())
                    and len(file["trainer"]) == 0, "step 0, weights and nothing else")
    command("verify", outputs[3])
    checks.that(command("inspect", "--diff", outputs[1], outputs[3]).stdout.endswith("\nthe same\n"), "any ranks, the same")
    round_trips(directory, files[0], parts[0])
    other_dtypes(directory)
    command("import", *files, "--output", directory / "few.h5", "--match", "*a*", "--exclude", "[hl]*", "--exclude", "sc*")
    checks.that(list(stored(directory / "few.h5")) == ["a.weight"], "only what matches")
    refuse_to_import(directory, files)
    names_of_others(directory)
    too_large_numbers(directory)


def names_of_others(directory):
    """Names that a checkpoint cannot have are no damage: status 2, and the rest of the file can be had."""
    file, output = directory / "slashes.safetensors", directory / "slashes.h5"
    safetensors.write(file, {"a.weight": ("F32", np.ones(3, np.float32)), "params/dense/kernel": ("F32", np.ones(3, np.float32))})
    said = command("import", file, "--output", output, status=2).stderr
    checks.that(f"{file}: parameter 'params/dense/kernel': a checkpoint cannot have a name with '/': call it "
                "'params.dense.kernel'; change it in the file, or leave it out with --exclude" in said, said)
    command("import", file, "--output", output, "--exclude", "*/*")
    checks.that(list(stored(output)) == ["a.weight"], "the others")


def too_large_numbers(directory):
    """float64 beyond float32 is an error that names the number, or the largest number; infinity is what it was."""
    file, output = directory / "doubles.safetensors", directory / "doubles.h5"
    array = np.array([[1.0, -np.inf, 0.5], [1e300, -1e39, 3.4e38]])
    safetensors.write(file, {"big": ("F64", array)})
    for ranks in 1, 2:
        result = job.run((ranks, job.COMMAND, "import", file, "--output", output))
        checks.that(result.returncode == 2 and not output.exists()
                    and f"{file}: tensor big: element 3 is 1e+300, and float32 ends at 3.4e38: --saturate" in result.stderr, result)
    said = job.run((2, job.COMMAND, "import", file, "--output", output, "--saturate")).stderr
    checks.that(said.count("warning: 2 elements were beyond float32 and became its largest number") == 1, said)
    largest = np.finfo(np.float32).max
    checks.that(np.array_equal(stored(output)["big"][0].view(np.float32),
                               np.array([[1, -np.inf, 0.5], [largest, -largest, 3.4e38]], np.float32)), "the largest number")


def round_trips(directory, file, tensors):
    """export(import(x)) has the bits of x: of all bfloat16 but signalling NaN, which become quiet."""
    for dtype, short in ("float32", "F32"), ("bfloat16", "BF16"):
        given = {name: array for name, (kind, array) in tensors.items() if kind == short}
        back = directory / f"back-{dtype}.safetensors"
        command("import", file, "--output", directory / f"back-{dtype}.h5", *(f"--match={name}" for name in given))
        command("export", directory / f"back-{dtype}.h5", "--output", back, "--dtype", dtype)
        found = safetensors.read(back)[1]
        checks.that(set(found) == set(given), f"round trip: {list(found)}")
        for name, array in given.items():
            if short == "BF16":
                signalling = (array & 0x7fff > 0x7f80) & (array & 0x40 == 0)
                array = np.where(signalling, array | 0x40, array).astype(np.uint16)
            checks.that(found[name][0] == short and same_bits(found[name][1], array), f"round trip of {name}")


def other_dtypes(directory):
    """The same values in another dtype: the same tensors, of which inspect --diff says what differs."""
    for dtype, array in ("F32", np.ones(3, np.float32)), ("BF16", np.full(3, 0x3f80, np.uint16)):
        safetensors.write(directory / f"ones-{dtype}.safetensors", {"ones": (dtype, array)})
        command("import", directory / f"ones-{dtype}.safetensors", "--output", directory / f"ones-{dtype}.h5")
    pair = directory / "ones-F32.h5", directory / "ones-BF16.h5"
    said = command("inspect", "--diff", *pair).stdout
    checks.that("  trainer_dtype  A: float32, B: bfloat16  in ones\n" in said
                and said.endswith("\n0 of 1 tensors differ\n"), said)


def refuse_to_import(directory, files):
    output = directory / "refused.h5"
    output.write_text("as it was")
    said = command("import", files[0], files[1], files[0], "--output", output, status=2).stderr
    checks.that(f"is in two files: {files[0]} and {files[0]}" in said, said)
    command("import", files[0], "--output", output, "--match", "none", status=2)
    command("import", files[0], "--output", output, "--match", "odd", status=2)
    command("import", *files, "--output", files[1], status=2)
    command("import", directory / "none.safetensors", "--output", output, status=3)
    command("import", directory, "--output", output, status=3)
    command("import", files[0], "--output", directory / "none" / "x.h5", status=3)
    command("import", directory / "few.h5", "--output", output, status=4)
    checks.that(output.read_text() == "as it was", "what was there stays")


def wrapped_names(directory):
    """What wraps a model is no part of a name: neither in recordings nor in files that are imported."""
    recorded = checkpoint(directory, "wrapped", {"module.a.weight": np.ones(3, np.float32)})
    checks.that([*stored(recorded)] == ["a.weight"], f"replayed: {[*stored(recorded)]}")
    file, output = directory / "wrapped.safetensors", directory / "wrapped-imported.h5"
    safetensors.write(file, {f"_orig_mod.layers.0.module.{name}": ("F32", np.full(3, value, np.float32))
                             for name, value in (("a", 1), ("b", 2))})
    command("import", file, "--output", output, "--match", "*.module.b")
    checks.that([*stored(output)] == ["layers.0.b"], f"imported: {[*stored(output)]}")
    safetensors.write(file, {name: ("F32", np.ones(3, np.float32)) for name in ("a", "module.a")})
    said = command("import", file, "--output", output, status=2).stderr
    checks.that("'a' and 'module.a' have one name" in said, said)


def entry(dtype="F32", shape=(2, 3), offsets=(0, 24)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def hostile_headers():
    """what -> (header in JSON or as bytes, bytes of data, length of the header that is said or None). One of each kind;
    tests/unit/test_safetensors.c has them all."""
    yield "a longer header than the file", ({"a": entry()}, 24, 1 << 40)
    yield "no JSON", (b'{"a": ', 24, None)
    yield "deep nesting", (b'{"a": ' + b"[" * 100000 + b"]" * 100000 + b"}", 0, None)
    yield "a name twice", (b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2), 24, None)
    yield "a shape whose product overflows", ({"a": entry(shape=(1 << 62, 4))}, 24, None)
    yield "offsets that lead out of the file", ({"a": entry(offsets=(1 << 62, (1 << 62) + 24))}, 24, None)
    yield "an overlap", ({"a": entry(), "b": entry(offsets=(20, 44))}, 44, None)


def hostile(directory, pool):
    """Every violation: status 4, a message with the file's name, no output."""
    def attempt(number, what, header, data, length):
        file, output = directory / f"hostile-{number}.safetensors", directory / f"hostile-{number}.h5"
        header = header if isinstance(header, bytes) else json.dumps(header).encode()
        safetensors.write_raw(file, header, b"\1" * data, length)
        result = command("import", file, "--output", output, status=4)
        checks.that(str(file) in result.stderr and not output.exists(), f"{what}: {result}")

    return [pool.submit(attempt, number, what, *case) for number, (what, case) in enumerate(hostile_headers())]


def hostile_files(directory):
    """What is no safetensors file at all; a good one, so that it is not the test that is refused."""
    output = directory / "foreign.h5"
    good = directory / "good.safetensors"
    safetensors.write_raw(good, json.dumps({"a": entry()}).encode(), b"\1" * 24)
    command("import", good, "--output", output)
    output.unlink()
    for name, data in ("empty", b""), ("short", b"\0" * 8), ("text", b"weights of a model\n"), ("cut", good.read_bytes()[:-1]):
        file = directory / name
        file.write_bytes(data)
        command("import", file, "--output", output, status=4)
    result = job.run((3, job.COMMAND, "import", directory / "cut", "--output", output))
    checks.that(result.returncode == 4 and result.stderr.count("equishard: error: ") == 1 and not output.exists(),
                f"a file that is cut off, on three ranks: {result}")


class Unsafe:
    """What would be executed by a program that trusts a pickle."""

    def __reduce__(self):
        return (open, ("/tmp/never", "w"))


def from_torch(directory):
    torch.manual_seed(1)
    tied = torch.randn(5, 4)
    state = {"embed.weight": tied, "lm_head.weight": tied, "turned": torch.randn(3, 6).t(), "half": torch.randn(7).half(),
             "brain": torch.randn(2, 2).bfloat16(), "double": torch.randn(3).double(), "count": torch.tensor(9),
             "part": tied[1:3], "nothing": torch.zeros(0, 2), "bits": torch.tensor([True, False]),
             "module.name": torch.ones(1)}
    source, output, initial = directory / "model.pt", directory / "model.safetensors", directory / "model.h5"
    files = {"plain": state, "nested": {"model": state, "step": 3, "optimizer": {"state": {}}}}
    for name, content in files.items():
        torch.save(content, source, _use_new_zipfile_serialization=name == "plain")
        for ranks in 1, 2:
            result = job.run((ranks, job.COMMAND, "import", source, "--output", initial))
            checks.that(result.returncode == 2 and f"python3 -m equishard.convert {source} {output}\n" in result.stderr,
                        f"{name}: the command that converts: {result}")
        said = convert(source, output, "--strip", "module.").stdout
        checks.that("lm_head.weight is the same tensor as embed.weight" in said, said)
        checks.that(("'model'" in said) == (name == "nested"), f"what was taken: {said}")
        metadata, tensors = safetensors.read(output)
        checks.that(metadata == {"format": "pt", "lm_head.weight": "embed.weight"}, f"{name}: {metadata}")
        expected = {key.removeprefix("module."): value for key, value in state.items() if key != "lm_head.weight"}
        checks.that(set(tensors) == set(expected), f"{name}: {list(tensors)}")
        for key, tensor in expected.items():
            array = tensor.contiguous().view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor.contiguous()
            checks.that(same_bits(tensors[key][1], array.numpy()), f"{name}: {key}")
    command("import", output, "--output", initial)
    checks.that(np.array_equal(stored(initial)["turned"][0].view(np.float32), state["turned"].numpy()), "and imported")

    torch.save({"ema": {"w": tied}, "online": {"w": tied + 1}}, source)
    checks.that("--key" in convert(source, output, status=2).stderr, "two state_dicts")
    convert(source, output, "--key", "online")
    checks.that(same_bits(safetensors.read(output)[1]["w"][1], (tied + 1).numpy()), "the one that was chosen")
    before = output.read_bytes()
    torch.save({"w": Unsafe()}, source)
    convert(source, output, status=4)
    torch.save([1, 2], source)
    convert(source, output, status=2)
    source.write_bytes(source.read_bytes()[:100])
    convert(source, output, status=4)
    convert(directory / "none.pt", output, status=3)
    checks.that(output.read_bytes() == before and not pathlib.Path("/tmp/never").exists(), "nothing is written or executed")


TRAINER = """
import sys
import torch
import equishard

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(11, 6)
        self.up_proj = torch.nn.Linear(6, 9).to(torch.bfloat16)
        self.lm_head = torch.nn.Linear(6, 11, bias=False)
        self.lm_head.weight = self.embed.weight

torch.manual_seed(5)
model = Model()
optimizer = equishard.Optimizer(model, sys.argv[1], resume=sys.argv[2])
if optimizer.trainer_rank == 0:
    torch.save([optimizer.step_info().step, model.state_dict()], sys.argv[3])
for parameter in model.parameters():
    parameter.grad = torch.ones_like(parameter)
optimizer.step()
optimizer.checkpoint(samples=12)
optimizer.close()
"""


def training(directory):
    """A job that resumes from imported weights has them, bit for bit, and trains on; a tied head is left out."""
    random = np.random.default_rng(11)
    weights = {"embed.weight": ("F32", random.standard_normal((11, 6)).astype(np.float32)),
               "lm_head.weight": ("F32", np.zeros((11, 6), np.float32)),
               "up_proj.weight": ("BF16", random.integers(0x3f00, 0x4000, (9, 6)).astype(np.uint16)),
               "up_proj.bias": ("BF16", random.integers(0xbf00, 0xc000, 9).astype(np.uint16))}
    file, initial, config = directory / "start.safetensors", directory / "start.h5", directory / "start.yaml"
    safetensors.write(file, weights)
    config.write_text(f"deadline: 60\ncheckpoint: {{directory: {json.dumps(str(directory / 'run'))}}}\n"
                      "groups:\n  - {match: {ndim: 2}, rule: row_norm, lr: 0.1}\n  - {match: {}, rule: adamw, lr: 0.1}\n")
    (directory / "train.py").write_text(TRAINER)
    programs = [(2, job.PYTHON, directory / "train.py", config, initial, directory / "pulled.pt"), job.serve(1)]
    command("import", file, "--output", initial)
    result = job.run(*programs)
    checks.that(result.returncode == 0 and "1 parameter of the checkpoint is not in the model (lm_head.weight)" in result.stderr,
                f"a name that the model does not have: {result}")
    command("import", file, "--output", initial, "--exclude", "lm_head.*")
    result = job.run(*programs)
    checks.that(result.returncode == 0 and result.stderr.count("has weights alone") == 1
                and "warning" not in result.stderr, f"a job from imported weights: {result}")
    step, state = torch.load(directory / "pulled.pt")
    checks.that(step == 0 and set(state) == set(weights), f"step {step}, {list(state)}")
    for name, tensor in state.items():
        expected = weights["embed.weight" if name == "lm_head.weight" else name][1]
        bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
        checks.that(same_bits(bits.numpy(), expected), f"pulled: {name}")
    with h5py.File(directory / "run" / "latest", "r") as trained:
        group = trained["parameters/embed.weight"]
        moved = np.abs(group["weight"][()] - weights["embed.weight"][1]).max()
        checks.that(trained.attrs["step"] == 1 and group.attrs["step"] == 1 and 0.01 < moved < 0.2,
                    f"one step with lr 0.1 on: {moved}")
        # state began at zero: ema of a gradient of ones with beta 0.95, of which the trainers' mean is taken
        checks.at_most(np.abs(group["momentum"][()] - 0.05).max(), 1e-8, "momentum after a step from zero")
    told = json.loads(command("inspect", "--diff", initial, directory / "run", "--format", "json").stdout)
    of_program = [key for key in told["trainer"] if not key.startswith("equishard.")]
    checks.that((told["a"]["step"], told["b"]["step"], of_program, told["a"]["only"])
                == (0, 1, ["samples"], [])
                and {"parameter": "embed.weight", "tensor": "momentum"} in told["b"]["only"]
                and "trainer_dtype" not in [entry["attribute"] for entry in told["attributes"]], f"inspect --diff: {told}")


def usage():
    for arguments in ["export"], ["export", "a"], ["export", "a", "b", "-o", "c"], ["export", "a", "-o", "c", "-d", "int8"], \
            ["import"], ["import", "a"], ["import", "-o", "a"]:
        result = job.finish([job.COMMAND, *arguments])
        checks.that(result.returncode == 2 and "equishard" in result.stderr and not result.stdout, f"{arguments}: {result}")


# The command mostly waits for MPI to start: several at a time.
with tempfile.TemporaryDirectory() as name, concurrent.futures.ThreadPoolExecutor(4) as workers:
    scratch = pathlib.Path(name)
    generators = [np.random.default_rng(seed) for seed in (3, 4)]
    tasks = [workers.submit(training, scratch), workers.submit(export, scratch, generators[0]),
             workers.submit(import_files, scratch, generators[1]), workers.submit(from_torch, scratch),
             *hostile(scratch, workers), workers.submit(hostile_files, scratch), workers.submit(full_disk, scratch),
             workers.submit(usage), workers.submit(wrapped_names, scratch)]
    for task in tasks:
        task.result()
sys.exit(checks.failed > 0)

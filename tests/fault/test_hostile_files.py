"""Recordings and checkpoints that somebody made to do harm, or that came to harm: no path in them is followed, nothing of
their size is allocated, no library that they name is loaded; `replay` and `verify` end with status 4 and one message."""
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

checks = job.Checks()
OURS = "equishard: error: "
CONFIG = "groups: [{match: {ndim: 2}, rule: muon, lr: 0.1}, {match: {}, rule: adamw, lr: 0.1}]\n"
SHAPES = {"a.weight": (6, 4), "b.bias": (5,), "scale": ()}
UNKNOWN_FILTER = 32123


def record(path, version="earliest", userblock_size=0, **options):
    numbers = np.random.default_rng(0)
    with h5py.File(path, "w", libver=version, userblock_size=userblock_size) as file:
        for name, shape in SHAPES.items():
            more = options if shape else {}
            file.create_dataset(f"parameters/{name}/weight", data=numbers.standard_normal(shape).astype("f4"), **more)
            for t in range(2):
                file.create_dataset(f"gradients/{t}/{name}", data=numbers.standard_normal(shape), **more)
    return path


def replay(directory, gradients, output="out.h5", **variables):
    # One rank needs no mpirun.
    return job.finish([job.COMMAND, "replay", "--config", directory / "config.yaml", "--gradients", gradients,
                       "--output", directory / output], **variables)


def refused(what, result, *texts, status=4):
    lines = [line for line in result.stderr.splitlines() if OURS in line]
    checks.that(result.returncode == status and len(lines) == 1 and all(text in lines[0] for text in texts),
                f"{what}: status {result.returncode}, not {status}, or not one message with {texts}\n{result.stderr}")


def replace(file, path, **options):
    """Put another dataset in the place of one."""
    del file[path]
    return file.create_dataset(path, **options)


def external_dataset(file, secret):
    del file["parameters/a.weight/weight"]
    file.create_dataset("parameters/a.weight/weight", shape=(6, 4), dtype="f4", external=[(str(secret), 0, 96)])


def virtual_dataset(file, other):
    layout = h5py.VirtualLayout(shape=(6, 4), dtype="f4")
    layout[:] = h5py.VirtualSource(str(other), "parameters/a.weight/weight", shape=(6, 4))
    del file["parameters/a.weight/weight"]
    file.create_virtual_dataset("parameters/a.weight/weight", layout)


def link(file, path, target):
    del file[path]
    file[path] = target


def filtered(file):
    """A chunk for a filter that HDF5 does not have, and would look for in libraries."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((6, 4))
    properties.set_filter(UNKNOWN_FILTER, h5py.h5z.FLAG_OPTIONAL)
    del file["parameters/a.weight/weight"]
    dataset = h5py.h5d.create(file["parameters/a.weight"].id, b"weight", h5py.h5t.IEEE_F32LE,
                              h5py.h5s.create_simple((6, 4)), properties)
    dataset.write_direct_chunk((0, 0), bytes(96), 0)


def recordings(directory, other):
    """What is wrong: name -> (change of a file, what the message says)."""
    weight, gradient = "parameters/a.weight/weight", "gradients/1/a.weight"
    elsewhere, link_text = h5py.ExternalLink(str(other), "/parameters"), "a link to another file or name"
    return {
        "external group": (lambda f: link(f, "parameters", elsewhere), link_text),
        "external parameter": (lambda f: link(f, "parameters/a.weight",
                                              h5py.ExternalLink(str(other), "/parameters/a.weight")), link_text),
        "external weight": (lambda f: link(f, weight, h5py.ExternalLink(str(other), "/" + weight)), link_text),
        "external step": (lambda f: link(f, "gradients/1", h5py.ExternalLink(str(other), "/gradients/1")), link_text),
        "external gradient": (lambda f: link(f, gradient, h5py.ExternalLink(str(other), "/" + gradient)), link_text),
        "soft link": (lambda f: link(f, gradient, h5py.SoftLink("/gradients/0/a.weight")), link_text),
        "endless soft link": (lambda f: link(f, "parameters", h5py.SoftLink("/parameters")), link_text),
        "external storage": (lambda f: external_dataset(f, other), "data is in other files"),
        "virtual": (lambda f: virtual_dataset(f, other), "data is in other files"),
        "cycle": (lambda f: f["parameters"].__setitem__("again", f["parameters"]), "a name with '/'", 2),
        "huge": (lambda f: replace(f, weight, shape=(1 << 40, 1 << 20), dtype="f4", chunks=(64, 64)), "is stored"),
        "huge, compressed": (lambda f: replace(f, weight, shape=(1 << 20, 1 << 20), dtype="f4", chunks=(1 << 10, 1 << 10),
                                               compression="gzip"), "is stored"),
        "huge gradient": (lambda f: replace(f, gradient, shape=(1 << 40,), dtype="f4", chunks=(64,)), "is stored"),
        "never written": (lambda f: replace(f, weight, shape=(6, 4), dtype="f4"), "without space"),
        "nine dimensions": (lambda f: replace(f, weight, data=np.zeros([1] * 9)), "too many dimensions"),
        "texts": (lambda f: replace(f, weight, data=["x", "y"], dtype=h5py.string_dtype()), "a.weight"),
        "records": (lambda f: replace(f, weight, data=np.zeros((6, 4), "f4,f4")), "not of numbers"),
        "references": (lambda f: replace(f, weight, data=[f.ref], dtype=h5py.ref_dtype), "not of numbers"),
        "filter": (filtered, "a.weight"),
        "empty dataset": (lambda f: replace(f, weight, data=h5py.Empty("f4")), "without values"),
        "a group for a weight": (lambda f: (f.__delitem__(weight), f.create_group(weight)), "no dataset"),
        "no gradients": (lambda f: f.__delitem__("gradients"), 'no group "gradients"'),
    }


def library(directory):
    """A library that leaves a trace where it is loaded."""
    plugins, trace = directory / "plugins", directory / "loaded"
    plugins.mkdir()
    source = directory / "plugin.c"
    source.write_text("#include <stdio.h>\n__attribute__((constructor)) static void loaded(void)\n"
                      f"{{ FILE *file = fopen(\"{trace}\", \"w\"); if (file) fclose(file); }}\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", plugins / "libplugin.so", source], check=True)
    return plugins, trace


def hostile_recordings(directory):
    good = record(directory / "good.h5")
    for number, options in enumerate([dict(), dict(version="latest"), dict(compression="gzip", chunks=True),
                                   dict(userblock_size=512)]):
        result = replay(directory, record(directory / "recording.h5", **options), f"out{number}.h5")
        checks.that(result.returncode == 0, f"a good recording, {options}: {result}")
    name = "parameters/a.weight/weight"
    with h5py.File(directory / "out0.h5") as plain:
        for number in range(1, 4):
            with h5py.File(directory / f"out{number}.h5") as other:
                checks.that((plain[name][()] == other[name][()]).all(), f"the same numbers from recording {number}")
    plugins, trace = library(directory)
    bad = directory / "bad.h5"
    for what, (change, text, *status) in recordings(directory, good).items():
        shutil.copy(good, bad)
        with h5py.File(bad, "r+") as file:
            change(file)
        result = replay(directory, bad, "no.h5", HDF5_PLUGIN_PATH=str(plugins))
        refused(what, result, "bad.h5", text, status=status[0] if status else 4)
    checks.that(not trace.exists(), "a library was loaded because a recording names a filter")
    checks.that(not (directory / "no.h5").exists(), "nothing is written from a bad recording")


def garbled_recordings(directory):
    """Bytes changed at random, in a file of a version without checksums: whatever HDF5 does, the job ends by itself."""
    whole = bytearray(record(directory / "whole.h5").read_bytes())
    generator = random.Random(5)
    for _ in range(24 if job.EVERYTHING else 6):
        bad = bytearray(whole)
        for at in generator.sample(range(8, len(bad)), 40):
            bad[at] = generator.choice((0, 1, 0x7f, 0xff, bad[at] ^ 1 << generator.randrange(8)))
        (directory / "random.h5").write_bytes(bad)
        result = replay(directory, directory / "random.h5", "random-out.h5")
        checks.that(0 <= result.returncode <= 4, f"bytes at random: {result}")


def flipped_checkpoint(directory):
    """A flip of any bit in a tensor's values is told by parameter and rows; of any other is noticed or harmless."""
    file = directory / "out0.h5"
    whole = file.read_bytes()
    with h5py.File(file, "r") as opened:
        weight = opened["parameters/a.weight/weight"]
        begin, size = weight.id.get_offset(), weight.id.get_storage_size()
        header = whole.rfind(b"OHDR", 0, whole.find(opened.attrs["created"]))
    flipped = directory / "flipped.h5"

    def verify(at, bit):
        flipped.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1:])
        return job.finish([job.COMMAND, "verify", flipped])

    generator = random.Random(6)
    for _ in range(40 if job.EVERYTHING else 6):
        result = verify(begin + generator.randrange(size), generator.randrange(8))
        checks.that("damaged: a.weight/weight, rows 0 to 5" in result.stdout, f"a flip in values: {result}")
        refused("a flip in values", result, "damaged: 1 of")
    for _ in range(40 if job.EVERYTHING else 6):
        refused("a flip in the attributes of the file", verify(header + 4 + generator.randrange(100),
                                                               generator.randrange(8)), "flipped.h5: damaged")


with tempfile.TemporaryDirectory() as name:
    here = pathlib.Path(name)
    (here / "config.yaml").write_text(CONFIG)
    hostile_recordings(here)
    garbled_recordings(here)
    flipped_checkpoint(here)
sys.exit(checks.failed > 0)

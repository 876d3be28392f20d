"""A checkpoint as others see it: what `equishard replay` wrote is read by h5py, by `inspect` and by `verify`; it is the
same from any ranks; a flipped byte is named and ends with status 4."""
import json
import pathlib
import sys
import tempfile

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

ROOT = {"format", "format_version", "step", "skipped", "created", "equishard_version", "config", "complete"}
SHAPES = {"lm_head.weight": (48, 20), "model.layers.0.self_attn.q_proj.weight": (32, 20), "model.norm.weight": (20,)}
CONFIG = """groups:
  - match: {ndim: 2}
    rule: polar
    lr: 0.02
  - match: {}
    rule: adamw
    lr: 0.001
"""


def expect(status, result):
    assert result.returncode == status, f"{result.args}: status {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout


def write_recording(path):
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, shape in SHAPES.items():
            file[f"parameters/{name}/weight"] = random.standard_normal(shape).astype("f4")
            for t in range(2):
                file[f"gradients/{t}/{name}"] = random.standard_normal(shape).astype("f4")


def contents(path):
    """Everything in a file but `created`, as bytes."""
    found = {}
    with h5py.File(path, "r") as file:
        def add(name, item):
            if isinstance(item, h5py.Dataset):
                found[name] = (item.shape, item.dtype, item[()].tobytes())
            for key, value in item.attrs.items():
                found[name, key] = np.asarray(value).tobytes()
        file.visititems(add)
        found.update({("/", key): np.asarray(value).tobytes() for key, value in file.attrs.items() if key != "created"})
    return found


def check_form(path, described):
    with h5py.File(path, "r") as file:
        assert set(file.attrs) == ROOT, set(file.attrs)
        assert file.attrs["format"] == b"equishard-checkpoint"
        assert file.attrs["format_version"] == 2 and file.attrs["complete"] == 1
        assert file.attrs["step"] == described["step"] == 2
        assert file.attrs["config"].decode() == described["config"]
        assert sorted(file["parameters"]) == [p["name"] for p in described["parameters"]] == sorted(SHAPES)
        for parameter in described["parameters"]:
            group = file["parameters"][parameter["name"]]
            assert sorted(group) == parameter["tensors"] and "weight" in group
            assert group["weight"].attrs["trainer_dtype"].decode() == parameter["trainer_dtype"]
            for name, value in parameter["attributes"].items():
                stored = group.attrs[name]
                assert (stored.decode() if isinstance(stored, bytes) else stored) == value, name
            for tensor in group.values():
                assert tensor.shape == SHAPES[parameter["name"]] and tensor.dtype == np.dtype("<f4")
                assert np.isfinite(tensor[()]).all()
        tensors = sum(len(group) for group in file["parameters"].values())
        assert set(file["integrity"]) == {"index", "tiles"} and file["integrity/tiles"].shape == (tensors,)
        return file["parameters/lm_head.weight/weight"].id.get_offset()


def main():
    with tempfile.TemporaryDirectory() as directory:
        here = pathlib.Path(directory)
        write_recording(here / "recording.h5")
        (here / "config.yaml").write_text(CONFIG)
        for ranks in (1, 2):
            expect(0, job.run((ranks, job.COMMAND, "replay", "--config", here / "config.yaml", "--gradients",
                               here / "recording.h5", "--output", here / f"{ranks}.h5")))
        path = here / "1.h5"
        again = here / "again.h5"
        expect(0, job.run((1, job.COMMAND, "replay", "--config", here / "config.yaml", "--gradients",
                           here / "recording.h5", "--output", again)))
        assert contents(path) == contents(again)
        assert contents(path).keys() == contents(here / "2.h5").keys()

        described = json.loads(expect(0, job.finish([job.COMMAND, "inspect", path, "--format", "json"])))
        place = check_form(path, described)
        table = expect(0, job.finish([job.COMMAND, "inspect", path]))
        assert "48x20" in table and "adamw" in table
        assert expect(0, job.run((2, job.COMMAND, "verify", path))).startswith("whole: ")

        # What another program adds is seen, and harms nothing; what it changes of ours does.
        again.write_bytes(path.read_bytes())
        with h5py.File(again, "r+") as file:
            file.attrs["note"] = "to be kept"
            file["parameters/lm_head.weight"].attrs.create("role", np.bytes_("lm_head"), dtype="S7")
            file.create_dataset("notes/a", data=[1.0])
        result = job.run((2, job.COMMAND, "verify", again))
        assert expect(0, result).startswith("whole: ") and "another program has changed this file" in result.stderr
        with h5py.File(again, "r+") as file:
            file["parameters/lm_head.weight"].attrs["lr"] = 0.03
        expect(4, job.run((2, job.COMMAND, "verify", again)))

        with open(path, "r+b") as file:
            file.seek(place + 9)
            byte = file.read(1)[0]
            file.seek(place + 9)
            file.write(bytes([byte ^ 1]))
        out = expect(4, job.run((2, job.COMMAND, "verify", path)))
        assert "damaged: lm_head.weight/weight, rows 0 to 47" in out, out


if __name__ == "__main__":
    main()

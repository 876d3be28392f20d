"""A run: its options, its directory runs/<name>/, and what a job of it needs. Imports nothing slow."""

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "runs"

# What may be another on resuming; the rest makes another run of it.
MAY_CHANGE = {"resume", "mode", "trainers", "owners", "threads", "checkpoint_every", "keep", "evaluate_every", "steps", "config"}


class UsageError(Exception):
    """Wrong options; exit status 2."""


def parse(arguments):
    parser = argparse.ArgumentParser(
        prog="launch/pretrain.sh", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a language model of Qwen3's form on the King James Bible through the optimizer service.",
        epilog="With --resume, options that are not given are those of the run.\n\n"
               "exit status: 0 done; 1 failed; 2 wrong usage or configuration; 3 input or output failed;\n"
               "             4 a checkpoint is damaged or foreign; 5 a rank was lost\n\n"
               "PYTHON names the interpreter, EQUISHARD_HOSTFILE a host file for mpirun.")
    run = parser.add_argument_group("the run")
    run.add_argument("--name", help="results go to runs/NAME/ (default: qwen3-<date>-<time>; with --resume, the newest)")
    run.add_argument("--resume", nargs="?", const=True, metavar="PATH",
                     help="continue from the run's newest checkpoint, or from this one")
    run.add_argument("--runs", type=Path, default=RUNS, metavar="DIRECTORY", help="instead of runs/")
    job = parser.add_argument_group("the job")
    job.add_argument("--trainers", type=int, help="ranks that train (default: by the cores found)")
    job.add_argument("--owners", type=int, help="ranks that own weights and state (default: by the cores found)")
    job.add_argument("--mode", choices=["service", "embedded"], help="owners on ranks of their own, or every rank both "
                     "(default: service)")
    job.add_argument("--embedded", dest="mode", action="store_const", const="embedded", help="--mode embedded")
    job.add_argument("--threads", type=int, help="threads per rank (default: 1)")
    job.add_argument("--cores", type=int, default=os.cpu_count(), help=argparse.SUPPRESS)
    training = parser.add_argument_group("training")
    training.add_argument("--config", help="rules for the parameters (default: configs/qwen3.yaml)")
    training.add_argument("--steps", type=int, help="(default: 300)")
    training.add_argument("--seed", type=int, help="(default: 1)")
    training.add_argument("--batch", type=int, help="samples per step, of all trainers together (default: 16)")
    training.add_argument("--length", type=int, help="tokens per sample (default: 128)")
    training.add_argument("--warmup", type=float, help="part of the steps in which learning rates rise (default: 0.1)")
    training.add_argument("--final-lr", type=float, help="part of the learning rates at the end (default: 0.1)")
    training.add_argument("--dtype", choices=["float32", "bfloat16"], help="of the trainers' tensors (default: float32)")
    training.add_argument("--device", help="of the trainers' tensors: cpu, cuda (default: cpu)")
    training.add_argument("--checkpoint-every", type=int, metavar="STEPS", help="and at the end (default: 100)")
    training.add_argument("--keep", type=int, metavar="COUNT", help="newest checkpoints to keep (default: 3)")
    training.add_argument("--evaluate-every", type=int, metavar="STEPS", help="(default: 25)")
    model = parser.add_argument_group("the model")
    model.add_argument("--layers", type=int, help="(default: 3)")
    model.add_argument("--hidden", type=int, help="(default: 160)")
    model.add_argument("--intermediate", type=int, help="(default: 448)")
    model.add_argument("--heads", type=int, help="(default: 5)")
    model.add_argument("--key-value-heads", type=int, help="(default: 1)")
    model.add_argument("--head-dim", type=int, help="(default: 32)")
    model.add_argument("--pieces", type=int, help="vocabulary of the BPE (default: 4096)")
    return parser.parse_args(arguments)


DEFAULTS = {
    "mode": "service", "threads": 1, "config": str(ROOT / "configs" / "qwen3.yaml"),
    "steps": 300, "seed": 1, "batch": 16, "length": 128, "warmup": 0.1, "final_lr": 0.1,
    "dtype": "float32", "device": "cpu", "checkpoint_every": 100, "keep": 3, "evaluate_every": 25,
    "layers": 3, "hidden": 160, "intermediate": 448, "heads": 5, "key_value_heads": 1, "head_dim": 32, "pieces": 4096,
}


def prepare(arguments):
    """Directory and options of the run that the arguments ask for; writes what its job reads."""
    given = vars(parse(arguments))
    cores, runs, resume, name = (given.pop(key) for key in ("cores", "runs", "resume", "name"))
    given = {key: value for key, value in given.items() if value is not None}
    if "config" in given:
        given["config"] = os.path.abspath(given["config"])

    directory = _directory(runs.resolve(), name, resume)
    before = _read_options(directory) if resume else {}
    options = {**DEFAULTS, **before, **given}
    _default_ranks(options, given, before, cores)
    _check(options)
    options["resume"] = resume if resume in (None, True) else os.path.abspath(resume)

    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "config.yaml", _configuration(directory, options))
    _write(directory / "options.json", json.dumps(options, indent=2) + "\n")
    return directory, options


def load(directory):
    """The options that `prepare` wrote."""
    return argparse.Namespace(**_read_options(Path(directory)))


def fingerprint(options):
    """Of what must be the same for a resumed run to be the same run."""
    kept = {key: value for key, value in sorted(vars(options).items()) if key not in MAY_CHANGE}
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def _directory(runs, name, resume):
    if name is None and resume:
        found = sorted(runs.glob("*/options.json"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UsageError(f"--resume: there is no run in {runs}")
        return found[-1].parent
    if name is not None and (os.path.basename(name) != name or name in ("", ".", "..", "data")):
        raise UsageError(f"--name {name!r}: must be the name of a directory, and not data, which is the text's")
    directory = runs / (name or time.strftime("qwen3-%Y%m%d-%H%M%S"))
    if not resume and any((directory / "checkpoints").glob("step-*.h5")):
        raise UsageError(f"{directory} has checkpoints: --resume continues that run, another --name starts anew")
    return directory


def _read_options(directory):
    try:
        return json.loads((directory / "options.json").read_text())
    except FileNotFoundError:
        raise UsageError(f"there is no run in {directory}") from None


def _default_ranks(options, given, before, cores):
    """Trainers and owners work in turn: each may have all cores, and the idle ones sleep."""
    same_mode = before.get("mode") == options["mode"]
    options.setdefault("trainers", min(cores, 8))
    if "owners" in given:
        options["owners"] = given["owners"]
    elif options["mode"] == "embedded":
        options["owners"] = 0
    else:
        options["owners"] = before["owners"] if same_mode else min(cores, 4)


def _check(options):
    positive = ("trainers", "threads", "steps", "batch", "length", "layers", "hidden", "intermediate", "heads",
                "key_value_heads", "head_dim", "pieces", "evaluate_every", "keep", "checkpoint_every")
    for key in positive:
        if options[key] < 1:
            raise UsageError(f"--{key.replace('_', '-')} {options[key]}: must be at least 1")
    if options["owners"] < 0:
        raise UsageError(f"--owners {options['owners']}: must not be negative")
    if options["heads"] % options["key_value_heads"] or options["head_dim"] % 2:
        raise UsageError("--heads must be a multiple of --key-value-heads, and --head-dim even")
    if not 0 <= options["warmup"] <= 1 or not 0 <= options["final_lr"] <= 1:
        raise UsageError("--warmup and --final-lr are between 0 and 1")


def _configuration(directory, options):
    """The configuration in force: what the run adds to the file of rules."""
    text = json.dumps  # a JSON string is a YAML string
    return (f"mode: {options['mode']}\n"
            f"reduce: mean\n"
            f"checkpoint:\n"
            f"  directory: {text(str(directory / 'checkpoints'))}\n"
            f"  every: {options['checkpoint_every']}\n"
            f"  keep: {options['keep']}\n"
            f"include: {text(options['config'])}\n")


def _write(path, text):
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)

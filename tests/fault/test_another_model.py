"""Restarts from the checkpoint of a somewhat different model: frozen and unfrozen parameters, other names, other rules.
A restarted job here takes no step, unless it says so, and writes a checkpoint again: what is in it is what came back."""
import concurrent.futures
import os
import pathlib
import sys
import tempfile

import h5py
import numpy as np

import jobs
from jobs import GROUPS, Jobs, job

checks = job.Checks()
STEP = 10
UP = "model.layers.0.mlp.up_proj.weight"
WARNING = "equishard: warning: "


def same_bits(mine, expected, what):
    """Of the tensors of one and of the other: the same names, the same values."""
    different = [name for name in mine.keys() | expected.keys() if name not in mine or name not in expected
                 or mine[name].tobytes() != expected[name].tobytes()]
    checks.that(not different, f"{what}: other bits: {sorted(different)}")


def steps_of(file):
    with h5py.File(file, "r") as opened:
        return {name: int(item.attrs["step"]) for name, item in opened["parameters"].items()}


class Restarts:
    """Jobs with a trainer, and what they write below a directory."""

    def __init__(self, directory, trainer):
        directory.mkdir()
        self.jobs = Jobs(directory, trainer)

    def write(self, name, ranks, *arguments, step=STEP, head="", checkpoint="", groups=GROUPS):
        """A job that ends with a checkpoint: (its file, the job's warnings)."""
        result = self.run(name, ranks, *arguments, step=step, head=head, checkpoint=checkpoint, groups=groups)
        checks.that(result.returncode == 0, f"{name}: {result}")
        return (jobs.checkpoint(self.jobs.directory / name, step),
                [line.removeprefix(WARNING) for line in result.stderr.splitlines() if line.startswith(WARNING)])

    def run(self, name, ranks, *arguments, step=STEP, head="", checkpoint="", groups=GROUPS):
        """checkpoint  more keys of `checkpoint`"""
        config = self.jobs.config(name, "service" if ranks[1] else "embedded", head=head, groups=groups)
        config.write_text(config.read_text().replace("checkpoint: {", "checkpoint: {" + checkpoint))
        return self.jobs.run(config, *ranks, f"steps={step}", *arguments)

    def refused(self, name, ranks, *arguments, texts=(), **more):
        """Status 2, and one message of ours with these texts."""
        result = self.run(name, ranks, *arguments, **more)
        lines = [line for line in result.stderr.splitlines() if "equishard: error: " in line]
        checks.that(result.returncode == 2 and len(lines) == 1 and all(text in lines[0] for text in texts),
                    f"{name}: status 2 and {texts}: {result}")
        checks.that(not (self.jobs.directory / name).exists(), f"{name}: nothing is written")


def warned(warnings, what, *texts):
    """There are as many warnings as texts, and for every text one with all its parts ('a|b': both)."""
    good = len(warnings) == len(texts) and all(
        any(all(part in line for part in text.split("|")) for line in warnings) for text in texts)
    checks.that(good, f"{what}: warnings {texts}: {warnings}")


def frozen_and_unfrozen(restarts, whole, part, ranks, other_ranks):
    """A frozen parameter stays in the checkpoints as it was, state and count of steps too, and is trained again as if
    nothing had been; no warning, and nothing has to be asked for."""
    kept = {tensor: values for tensor, values in jobs.tensors(whole).items() if part in tensor}
    frozen, warnings = restarts.write("frozen", ranks, f"frozen={part}", f"resume={whole}")
    same_bits(jobs.tensors(frozen), jobs.tensors(whole), "frozen")
    warned(warnings, "frozen")
    frozen, warnings = restarts.write("frozen-on", other_ranks, f"frozen={part}", f"resume={frozen}", step=STEP + 2)
    after = jobs.tensors(frozen)
    same_bits({tensor: values for tensor, values in after.items() if part in tensor}, kept, "frozen, two steps on")
    moved = [tensor for tensor, values in jobs.tensors(whole).items()
             if part not in tensor and after[tensor].tobytes() == values.tobytes()]
    checks.that(not moved, f"frozen, two steps on: these have not moved: {moved}")
    checks.that(steps_of(frozen) == {one: STEP if part in one else STEP + 2 for one in steps_of(whole)},
                f"frozen, two steps on: steps {steps_of(frozen)}")
    warned(warnings, "frozen, two steps on")
    table = job.finish([job.COMMAND, "inspect", frozen]).stdout.splitlines()
    checks.that([line.split()[0] for line in table if " frozen " in line] == [one for one in steps_of(whole) if part in one],
                f"inspect: {table}")

    unfrozen, warnings = restarts.write("unfrozen", ranks, f"resume={frozen}", step=STEP + 2)
    same_bits(jobs.tensors(unfrozen), after, "unfrozen")
    warned(warnings, "unfrozen")
    on, _ = restarts.write("on", other_ranks, f"resume={unfrozen}", step=STEP + 4)
    checks.that(steps_of(on) == {one: STEP + 2 if part in one else STEP + 4 for one in steps_of(whole)},
                f"on after that: steps {steps_of(on)}")
    still = [tensor for tensor, values in jobs.tensors(on).items() if after[tensor].tobytes() == values.tobytes()]
    checks.that(not still, f"on after that: these have not moved: {still}")


def left_out_and_back(restarts, whole, initial, part, name, ranks, other_ranks):
    """A parameter that the model does not have is left out; one that is new begins with its initial weight, if that is
    asked for; all others come back bit for bit."""
    without, warnings = restarts.write("without", ranks, f"without={part}", f"resume={whole}")
    expected = {tensor: values for tensor, values in jobs.tensors(whole).items() if part not in tensor}
    same_bits(jobs.tensors(without), expected, "without")
    # Its group may be without a parameter now, which is said too.
    warnings = [line for line in warnings if "the group matches no parameter" not in line]
    warned(warnings, "without", f"of the checkpoint|not in the model|{name}|stays in that file only")

    restarts.refused("not-partial", other_ranks, f"resume={without}", texts=[name, "not in it", "partial: true"])
    added, warnings = restarts.write("added", other_ranks, f"resume={without}", checkpoint="partial: true, ")
    warned(warnings, "added", f"not in the checkpoint|{name}|initial weights, state at zero")
    begun = jobs.tensors(initial)
    expected.update({tensor: values for tensor, values in begun.items() if part in tensor})
    same_bits(jobs.tensors(added), expected, "added")
    checks.that(steps_of(added) == {one: 0 if part in one else STEP for one in steps_of(whole)},
                f"added: steps {steps_of(added)}")

    on, _ = restarts.write("on", ranks, f"resume={added}", step=STEP + 2)
    checks.that(steps_of(on) == {one: 2 if part in one else STEP + 2 for one in steps_of(whole)},
                f"on after that: steps {steps_of(on)}")


def other_names(restarts, whole):
    """`rename`, onto names with a prefix and back, while the numbers of ranks change; prefixes of wrappers need none."""
    before = jobs.tensors(whole)
    there, warnings = restarts.write("there", (1, 3), "prefix=base.", f"resume={whole}",
                                     checkpoint='rename: {"*": "base.*"}, ')
    same_bits(jobs.tensors(there), {f"base.{name}": values for name, values in before.items()}, "with a prefix")
    warned(warnings, "with a prefix")
    back, warnings = restarts.write("back", (3, 0), "prefix=module._orig_mod.", f"resume={there}",
                                    checkpoint='rename: {"base.model.*": "model.*", "base.*": "*"}, ')
    same_bits(jobs.tensors(back), before, "without the prefix")
    warned(warnings, "without the prefix")
    restarts.refused("names-collide", (1, 2), f"resume={whole}",
                     checkpoint='rename: {"*.mlp.*": "*.mlp"}, partial: true, ',
                     texts=[UP, "model.layers.0.mlp.down_proj.weight", "both taken as 'model.layers.0.mlp"])
    restarts.refused("not-renamed", (2, 0), "prefix=base.", f"resume={whole}",
                     texts=["nothing in common", "base.lm_head.weight", "(lm_head.weight", '`checkpoint: {rename: {"*": "base.*"}}`'])
    restarts.refused("nothing-in-common", (2, 1), f"resume={whole}",
                     checkpoint='rename: {"*": "x.*"}, partial: true, ', texts=["nothing in common", "x.lm_head.weight"])
    restarts.refused("stars", (1, 1), f"resume={whole}", checkpoint='rename: {"a.*": "*.*"}, ',
                     texts=["stars.yaml:3: ", '"*.*"'])


def other_shapes(restarts, whole):
    restarts.refused("shapes", (2, 1), "size=8", f"resume={whole}", checkpoint="partial: true, ",
                     texts=["of another shape", "lm_head.weight: 64x16, in the model 32x8"])


def other_rules(restarts, whole):
    """State that means the same stays; what begins anew, and what is not used, is said in one line for each kind. There
    and back."""
    embedding, attention = "model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"
    mlp = [UP, "model.layers.0.mlp.down_proj.weight"]
    both = f"2 parameters ({', '.join(mlp)})"
    groups = (GROUPS.replace("role: embedding}, rule: row_norm,", "role: embedding}, rule: row_norm, momentum: heavy_ball,")
              .replace("rule: muon,", "rule: polar, momentum: heavy_ball,")  # nesterov's buffer is the same
              .replace("mlp_gate_up}, rule: polar,", "mlp_gate_up}, rule: adamw,")
              .replace("mlp_down}, rule: right_spectral,", "mlp_down}, rule: adamw,"))
    there, warnings = restarts.write("there", (2, 2), f"resume={whole}", groups=groups)
    warned(warnings, "other rules",
           f"momentum starts at zero for 1 parameter ({embedding}: ema, now heavy_ball): |of another kind",
           *(f"{state} starts at zero for {both}: the checkpoint has none" for state in ("exp_avg", "exp_avg_sq")),
           f"momentum of {both} is not used")
    before, after = jobs.tensors(whole), jobs.tensors(there)
    anew = {f"{name}/{state}" for name in mlp for state in ("exp_avg", "exp_avg_sq")} | {f"{embedding}/momentum"}
    same_bits({name: values for name, values in after.items() if name not in anew},
              {name: values for name, values in before.items() if name in after and name not in anew}, "other rules")
    checks.that(anew <= after.keys() and not any(np.any(after[name]) for name in anew), "what begins anew is zero")
    checks.that(np.any(after[f"{attention}/momentum"]), "nesterov's momentum became heavy_ball's")
    begun = {embedding, *mlp}
    checks.that(steps_of(there) == {name: 0 if name in begun else STEP for name in steps_of(whole)},
                f"other rules: steps {steps_of(there)}")

    on, _ = restarts.write("on", (2, 2), f"resume={there}", step=STEP + 2, groups=groups)
    back, warnings = restarts.write("back", (1, 3), f"resume={on}", step=STEP + 2)
    warned(warnings, "the rules as before",
           f"momentum starts at zero for 1 parameter ({embedding}: heavy_ball, now ema): |of another kind",
           f"momentum starts at zero for {both}: the checkpoint has none",
           *(f"{state} of {both} is not used" for state in ("exp_avg", "exp_avg_sq")))
    anew = {f"{name}/momentum" for name in begun}
    after = jobs.tensors(back)
    checks.that(after.keys() == before.keys() and not any(np.any(after[name]) for name in anew), "momentum begins anew")
    checks.that(steps_of(back) == {name: 0 if name in begun else STEP + 2 for name in steps_of(whole)},
                f"the rules as before: steps {steps_of(back)}")


def damaged_and_partial(restarts, whole, initial):
    """The newest checkpoint, damaged, has a parameter that the older one does not have: it begins with its initial
    weight, not with what was read of the damaged one."""
    older, _ = restarts.write("older", (2, 2), f"without={UP}", step=5)
    newest = jobs.checkpoint(older.parent, STEP)
    with h5py.File(whole, "r") as opened:
        damaged = opened["parameters/model.norm.weight/weight"].id.get_offset()
    data = bytearray(whole.read_bytes())
    data[damaged] ^= 1
    newest.write_bytes(data)
    (older.parent / "latest").unlink()
    os.symlink(newest.name, older.parent / "latest")
    file, warnings = restarts.write("passed-over", (1, 2), f"resume={older.parent}", step=5, checkpoint="partial: true, ")
    warned(warnings, "passed over", f"DAMAGED|{older.name}", f"1 parameter is not in the checkpoint ({UP})")
    expected = jobs.tensors(older)
    expected.update({name: values for name, values in jobs.tensors(initial).items() if name.startswith(UP)})
    same_bits(jobs.tensors(file), expected, "passed over")

    file, warnings = restarts.write("frozen-passed-over", (2, 1), f"frozen={UP}", f"resume={older.parent}", step=5)
    warned(warnings, "frozen, passed over", f"DAMAGED|{older.name}")
    expected.pop(f"{UP}/momentum")  # nor the state of the damaged one
    same_bits(jobs.tensors(file), expected, "frozen, passed over")


def c_programs(directory, pool):
    trainer = [job.compiled(jobs.HERE / "trainer.c", directory)]
    first = Restarts(directory / "first", trainer)
    (whole, _), (initial, _) = (first.write(f"whole-{step}", (2, 2), step=step) for step in (STEP, 0))
    return [pool.submit(part, Restarts(directory / part.__name__, trainer), whole, *more) for part, *more in (
        (left_out_and_back, initial, "up_proj", UP, (2, 2), (3, 0)), (frozen_and_unfrozen, "mlp", (2, 2), (3, 0)),
        (other_names,), (other_shapes,), (other_rules,),
        (damaged_and_partial, initial))]


def python_programs(directory):
    restarts = Restarts(directory, jobs.python_trainer())
    whole, _ = restarts.write("whole", (2, 1))
    frozen_and_unfrozen(restarts, whole, "up_proj", (2, 0), (1, 2))


with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(3) as pool:
    (pathlib.Path(scratch) / "c").mkdir()
    parts = [pool.submit(python_programs, pathlib.Path(scratch) / "python"),
             *c_programs(pathlib.Path(scratch) / "c", pool)]
    for part in parts:
        part.result()
sys.exit(checks.failed > 0)

"""Every learning rate scheduler of torch goes on after a restart as if there had been none: the same rates and momenta in
every step, and the same weights, to the last bit. One process, `python3 test_schedulers.py`, is a whole embedded job."""
import math
import pathlib
import sys
import tempfile
import warnings

import torch
from torch.optim import lr_scheduler as schedulers
from torch.optim.swa_utils import SWALR

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

STEPS, RESTARTS = 14, (1, 5, 6, 10)
checks = job.Checks()


class Decay:
    """A function of LambdaLR with a state of its own."""

    def __init__(self):
        self.calls = 0

    def __call__(self, epoch):
        self.calls += 1
        return 0.9**epoch / (1 + self.calls)


class CosineThenAverage:
    """As programs use SWALR: another scheduler first."""

    def __init__(self, optimizer):
        self.parts = {"cosine": schedulers.CosineAnnealingLR(optimizer, 8),
                      "swa": SWALR(optimizer, swa_lr=of(optimizer, 0.004, 0.0007), anneal_epochs=4)}
        self.steps = 0

    def step(self):
        self.steps += 1
        self.parts["cosine" if self.steps < 6 else "swa"].step()

    def state_dict(self):
        return {"steps": self.steps, **{name: part.state_dict() for name, part in self.parts.items()}}

    def load_state_dict(self, state):
        self.steps = state["steps"]
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def of(optimizer, *values):
    """Those of the configuration's groups that have parameters."""
    return [values[group["group"]] for group in optimizer.param_groups]


SCHEDULERS = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, of(o, lambda epoch: 0.95**epoch, lambda epoch: 1 / (1 + epoch))),
    "LambdaLR of objects": lambda o: schedulers.LambdaLR(o, of(o, Decay(), Decay())),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda epoch: 1 - 0.01 * epoch),
    "StepLR": lambda o: schedulers.StepLR(o, 4, gamma=0.3),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [3, 7, 7, 9], gamma=0.5),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, factor=0.3, total_iters=6),
    "LinearLR": lambda o: schedulers.LinearLR(o, start_factor=0.2, total_iters=9),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.83),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 5, eta_min=1e-4),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, 0.1, 4), schedulers.ExponentialLR(o, 0.9), schedulers.StepLR(o, 3)]),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, total_iters=4), schedulers.CosineAnnealingLR(o, 5),
            schedulers.ExponentialLR(o, 0.9)], milestones=[4, 9]),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=1,
                                                                  min_lr=of(o, 1e-3, 1e-5)),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, of(o, 0.001, 0.0001), of(o, 0.03, 0.002), step_size_up=3, mode="triangular2"),
    "CyclicLR of a function": lambda o: schedulers.CyclicLR(o, of(o, 0.001, 0.0001), of(o, 0.03, 0.002), step_size_up=2,
                                                            step_size_down=3, scale_fn=lambda x: 1 / (1 + x)),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, max_lr=of(o, 0.03, 0.002), total_steps=STEPS + 1),
    "OneCycleLR in three phases": lambda o: schedulers.OneCycleLR(o, max_lr=of(o, 0.03, 0.002), total_steps=STEPS + 1,
                                                                  three_phase=True, anneal_strategy="linear"),
    # Where all groups have `betas`, it changes these.
    "OneCycleLR of betas": lambda o: schedulers.OneCycleLR(o, max_lr=of(o, 0.03, 0.002), total_steps=STEPS + 1),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 3, T_mult=2),
    "SWALR": CosineThenAverage,
}
if hasattr(schedulers, "PolynomialLR"):
    SCHEDULERS["PolynomialLR"] = lambda o: schedulers.PolynomialLR(o, total_iters=9, power=1.5)


def configuration(directory, first_rule):
    return {"mode": "embedded", "checkpoint": {"directory": directory, "keep": 0},
            "groups": [{"match": {"ndim": 2}, "rule": first_rule, "lr": 0.02, "weight_decay": 0.1},
                       {"match": {}, "rule": "adamw", "lr": 0.001}]}


def make_model():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 4)


def numbers(group, momentum):
    """What schedulers set, and a step was taken with."""
    return {key: group[key] for key in ("lr", momentum, "weight_decay")}


def train(equishard, name, directory, resume, last, checkpoints=(), frozen=()):
    """(rates of every step, weights at the end): from the beginning or from a checkpoint. frozen: names of parameters."""
    model, rates = make_model(), []
    for parameter in frozen:
        getattr(model, parameter).requires_grad_(False)
    rule, momentum = ("adamw", "betas") if "betas" in name else ("muon", "momentum")
    optimizer = equishard.Optimizer(model, configuration(directory, rule), resume=resume)
    scheduler = SCHEDULERS[name](optimizer)
    optimizer.register_for_checkpointing(scheduler=scheduler)
    first = int(optimizer.trainer_data("step") or 0)
    for step in range(first, last):
        torch.manual_seed(step)
        model(torch.randn(2, 3)).square().sum().backward()
        optimizer.step()
        rates.append([numbers(group, momentum) for group in optimizer.param_groups])
        optimizer.zero_grad()
        if isinstance(scheduler, schedulers.ReduceLROnPlateau):
            scheduler.step(math.cos(step))
        else:
            scheduler.step()
        if step + 1 in checkpoints:
            optimizer.checkpoint(step=step + 1)
    optimizer.close()
    return rates, [parameter.detach().clone() for parameter in model.parameters()]


def compare(equishard, name, directory):
    whole, weights = train(equishard, name, directory, None, STEPS, RESTARTS)
    changed = len({str(rates) for rates in whole})
    checks.that(changed > 1, f"{name}: only {changed} different rates in {STEPS} steps")
    # The last is of a run that was restarted itself.
    for restart in (*RESTARTS, 8):
        rates, end = train(equishard, name, directory, directory / f"step-{restart:08}.h5", STEPS,
                           [8] if restart == RESTARTS[0] else [])
        differences = [f"{one} in step {step}, not {other}" for step, one, other in
                       zip(range(restart, STEPS), rates, whole[restart:]) if one != other]
        checks.that(not differences, f"{name}, restarted after step {restart}: {' '.join(differences[:1])}")
        checks.that(all(map(torch.equal, end, weights)), f"{name}, restarted after step {restart}: other weights")


def compare_frozen(equishard, name, directory):
    """Groups that come and go with what is frozen: those that stay have the rates that they would have had."""
    whole = train(equishard, name, directory / "whole", None, STEPS, [5])[0]
    for frozen, kept, old, new in ((["weight"], "bias", 1, 0), (["bias"], "weight", 0, 0)):
        rates, _ = train(equishard, name, directory, directory / "whole/step-00000005.h5", STEPS, frozen=frozen)
        differences = [f"{one[new]} in step {step}, not {other[old]}" for step, one, other in
                       zip(range(5, STEPS), rates, whole[5:]) if one[new] != other[old]]
        checks.that(not differences and len(rates[0]) == 1, f"{name}, only {kept} trained: {' '.join(differences[:1])}")
    for frozen, index in (["weight"], 1), (["bias"], 0):
        part = train(equishard, name, directory / frozen[0], None, STEPS, [5], frozen=frozen)[0]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            rates, _ = train(equishard, name, directory, directory / frozen[0] / "step-00000005.h5", STEPS)
        said = [str(one.message) for one in said if "begins at the configuration's" in str(one.message)]
        checks.that(len(said) == 1 and f"[{1 - index}]" in said[0], f"{name}, {frozen} unfrozen: {said}")
        differences = [f"{one[index]} in step {step}, not {other[0]}" for step, one, other in
                       zip(range(5, STEPS), rates, part[5:]) if one[index] != other[0]]
        checks.that(not differences, f"{name}, {frozen[0]} trained again: {' '.join(differences[:1])}")
        first = rates[0][1 - index]["lr"]
        checks.that(first == (0.02, 0.001)[1 - index], f"{name}, {frozen[0]} trained again: it begins at {first}")


def main():
    import equishard

    warnings.simplefilter("error", UserWarning)  # such as of a scheduler that steps before the optimizer
    warnings.filterwarnings("ignore", "The epoch parameter")  # of SequentialLR's own calls
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        for number, name in enumerate(SCHEDULERS):
            directory = pathlib.Path(temporary) / str(number)
            directory.mkdir()
            compare(equishard, name, directory)
            compare_frozen(equishard, name, directory)
    sys.exit(checks.failed > 0)


if "--trainer" in sys.argv:
    main()
result = job.finish([job.PYTHON, __file__, "--trainer"], timeout=100)
expected = ("restored step", "starts at zero", "no matrix gets rule muon")
output = result.stdout + "".join(line for line in result.stderr.splitlines(True)
                                 if not any(words in line for words in expected))
checks.that(result.returncode == 0 and not output, f"status {result.returncode}\n{output}")
sys.exit(checks.failed > 0)

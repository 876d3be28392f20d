"""param_groups: what the program changes is honoured from the next step on, is in checkpoints, and is refused where the rule
has no such thing; torch's schedulers, and the ways in which rates get lost. One process is a whole embedded job."""
import copy
import io
import math
import pathlib
import pickle
import sys
import tempfile
import warnings

import torch
from torch.optim import lr_scheduler as schedulers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

checks = job.Checks()

TWO_GROUPS = [{"match": {"ndim": 2}, "rule": "row_norm", "momentum": "heavy_ball", "lr": 0.02, "beta": 0.9},
              {"match": {}, "rule": "adamw", "lr": 0.001, "betas": [0.9, 0.95]}]


def configuration(**more):
    return {"mode": "embedded", "groups": TWO_GROUPS, **more}


def model():
    torch.manual_seed(3)
    return torch.nn.Linear(3, 4)


def backward(module, step):
    torch.manual_seed(100 + step)
    module(torch.randn(5, 3)).square().sum().backward()


def step(optimizer, module):
    backward(module, optimizer.step_info().step)
    optimizer.step()
    optimizer.zero_grad()


def refused(kind, text, call, what):
    """Whether a call raises an error of the client of a kind, with a text in it and status 2."""
    try:
        call()
    except kind as error:
        checks.that(getattr(error, "status", None) == 2, f"{what}: status {getattr(error, 'status', None)}")
        checks.that(text in str(error), f"{what}: {text!r} is not in {error}")
    else:
        checks.that(False, f"{what}: no error")


def honoured(equishard):
    """Every setting, changed between steps, beside torch's AdamW and a heavy ball of row norms, in float64."""
    module = model()
    reference = copy.deepcopy(module).double()
    adamw = torch.optim.AdamW([reference.bias], lr=0.001, betas=(0.9, 0.95), eps=1e-8, weight_decay=0)
    ball = torch.zeros_like(reference.weight)
    with equishard.Optimizer(module, configuration()) as optimizer:
        rows, adam = optimizer.param_groups
        for number in range(8):
            backward(module, number)
            for ours, theirs in zip(module.parameters(), reference.parameters()):
                theirs.grad = ours.grad.double()
            if number > 0:
                adam.update(lr=0.01 * number, betas=(0.9 - 0.1 * number, 0.95 - 0.05 * number), eps=0.1 * number,
                            weight_decay=0.2 * number)
                adamw.param_groups[0].update({key: adam[key] for key in ("lr", "betas", "eps", "weight_decay")})
                rows.update(lr=0.02 * number, weight_decay=0.3 * number, eps=0.01 * number,
                            **{"beta" if number % 2 else "momentum": 0.9 - 0.1 * number})
            with torch.no_grad():
                weight, momentum = reference.weight, rows["beta" if number % 2 else "momentum"]
                ball.mul_(momentum).add_(weight.grad)
                weight.mul_(1 - rows["lr"] * rows["weight_decay"])
                weight.sub_(rows["lr"] * ball / (ball.norm(dim=1, keepdim=True) + rows["eps"]))
            adamw.step()
            optimizer.step()
            optimizer.zero_grad()
            checks.that(rows["beta"] == rows["momentum"] == momentum, f"step {number}: beta and momentum are one")
            checks.that(adam["momentum"] == adam["betas"][0], f"step {number}: Adam's first beta is its momentum")
            for (name, ours), theirs in zip(module.named_parameters(), reference.parameters()):
                checks.at_most((ours.double() - theirs).abs().max().item(), 1e-6, f"{name} in step {number}")


def refusals(equishard):
    """A key that the rule lacks, or that cannot change; a value that cannot be; in step, and the optimizer goes on."""
    cases = [(0, "nesterov", True, "rule row_norm"), (0, "betas", (0.9, 0.9), "no such setting"), (1, "beta", 0.5, "beta"),
             (1, "amsgrad", True, "amsgrad"), (0, "rule", "muon", "cannot change"),
             (0, "momentum_kind", "ema", "cannot change"), (0, "group", 7, "cannot change"),
             (0, "solver", "exact", "solver"), (0, "beta", 1.5, "below 1"), (0, "lr", -1, "at least 0"),
             (1, "eps", math.nan, "eps must be"), (1, "betas", (0.9,), "2 numbers"), (1, "betas", None, "2 numbers"),
             (0, "lr", "fast", "must be a number"), (0, "params", [], "'params'"),
             (0, "params", [torch.nn.Parameter(torch.ones(4, 3))], "'params'"),
             *((1, key, 0.5, f"['{key}'] was set to 0.5") for key in (
                 "restarts", "coefficients", "normalisation", "ns_steps", "backend_steps", "momentum_decay",
                 "clip_grad_norm", "max_grad_norm", "learning_rate", "wd", "weightdecay", "lr_scale", "warmup"))]
    module = model()
    with equishard.Optimizer(module, configuration()) as optimizer:
        for index, key, value, text in cases:
            group = optimizer.param_groups[index]
            before = dict(group)
            group[key] = value
            backward(module, 0)
            refused(ValueError, text, optimizer.step, f"{key} = {value}")
            group.clear()
            group.update(before)
            optimizer.zero_grad()
        optimizer.param_groups[0].update(beta=0.1, momentum=0.2)
        backward(module, 0)
        refused(ValueError, "another key", optimizer.step, "beta and momentum")
        optimizer.param_groups[0].update(beta=0.9, momentum=0.9, note="the program's own")
        del optimizer.param_groups[0]["lr"]
        refused(ValueError, "['lr']", optimizer.step, "no lr")
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
        checks.that(optimizer.step_info().step == 1, "after all that it takes a step")
        refused(ValueError, "configuration's", lambda: optimizer.add_param_group({"params": []}), "add_param_group")


def scheduled(equishard):
    """A scheduler begins from the rate in the group; with the configuration's schedule it is refused."""
    module = model()
    with equishard.Optimizer(module, configuration()) as optimizer:
        for group, rate in zip(optimizer.param_groups, (0.3, 0.7)):
            group["lr"] = rate
        scheduler = schedulers.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
        step(optimizer, module)
        scheduler.step()
        checks.that([group["lr"] for group in optimizer.param_groups] == [0.15, 0.35], "a scheduler begins from group['lr']")
    for change in (lambda o: schedulers.ExponentialLR(o, 0.9), lambda o: schedulers.LambdaLR(o, lambda _: 1.0),
                   lambda o: o.set_lr_factor(0.5), lambda o: o.param_groups[1].update(lr=0.5)):
        module = model()
        with equishard.Optimizer(module, configuration(schedule={"kind": "cosine", "steps": 9})) as optimizer:
            checks.that(optimizer.param_groups[0]["schedule"] == "cosine", "the schedule's kind is there to read")
            change(optimizer)
            backward(module, 0)
            refused(ValueError, "multiplies", optimizer.step, "two schedules")
    module = model()
    with equishard.Optimizer(module, configuration(schedule={"kind": "constant", "warmup": 2})) as optimizer:
        optimizer.set_lr_factor(0.5)
        backward(module, 0)
        refused(ValueError, "multiplies", optimizer.step, "a warm-up and a factor")


def one_rate(equishard):
    """`for g in param_groups: g["lr"] = x` is said to lose the rates, once; a factor keeps them."""
    module = model()
    with equishard.Optimizer(module, configuration()) as optimizer, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        optimizer.set_lr_factor(0.25)
        step(optimizer, module)
        checks.that([group["lr"] for group in optimizer.param_groups] == [0.005, 0.00025], "rates times a factor")
        optimizer.set_lr_factor(0)
        step(optimizer, module)
        checks.that(not said, f"a factor is no loss: {[str(warning.message) for warning in said]}")
        for rate in (0.1, 0.2):
            for group in optimizer.param_groups:
                group["lr"] = rate
            step(optimizer, module)
        checks.that(len(said) == 1 and "set_lr_factor" in str(said[0].message) and "row_norm 0.02" in str(said[0].message),
                    f"one warning: {[str(warning.message) for warning in said]}")
        optimizer.set_lr_factor(2)
        checks.that([group["lr"] for group in optimizer.param_groups] == [0.04, 0.002], "a factor is of the first rates")


def restored(equishard, directory):
    """What was changed, before a step or after it, is in the checkpoint; a configuration that changed wins."""
    def make(**more):
        module = model()
        groups = copy.deepcopy(TWO_GROUPS)
        for group in groups:
            group.update(more)
        return module, equishard.Optimizer(module, configuration(groups=groups, checkpoint={"directory": directory}),
                                           resume="auto")

    module, optimizer = make()
    checks.that(optimizer.resumed is False, "nothing to resume")
    step(optimizer, module)
    optimizer.param_groups[0].update(lr=0.5, weight_decay=0.25, momentum=0.75, note=("a", {1: 2}))
    optimizer.param_groups[1].update(lr=0.125, betas=(0.5, 0.625), eps=0.375)
    optimizer.checkpoint()
    expected = optimizer.state_dict()
    optimizer.close()
    module, optimizer = make()
    checks.that(optimizer.resumed is True and optimizer.state_dict() == expected,
                f"restored:\n{optimizer.state_dict()}\nnot\n{expected}")
    optimizer.set_lr_factor(1)
    checks.that([group["lr"] for group in optimizer.param_groups] == [0.02, 0.001], "factors are of the configuration's rates")
    optimizer.close()
    module, optimizer = make(lr=0.0625)
    checks.that([group["lr"] for group in optimizer.param_groups] == [0.0625] * 2, "the configuration's new rates")
    checks.that(optimizer.param_groups[0]["weight_decay"] == 0.25, "and what it does not change")
    scheduler = schedulers.ExponentialLR(optimizer, 0.5)
    optimizer.set_lr_factor(1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        optimizer.checkpoint()
        optimizer.checkpoint()
        checks.that(["not in this checkpoint" in str(warning.message) for warning in said] == [True],
                    "a scheduler that is not registered is said once")
    optimizer.register_for_checkpointing(scheduler=scheduler)
    step(optimizer, module)
    scheduler.step()
    optimizer.checkpoint()
    optimizer.close()
    # A scheduler that is restored goes on from where it was, with a new rate of the configuration.
    module, optimizer = make(lr=0.5)
    scheduler = schedulers.ExponentialLR(optimizer, 0.5)
    optimizer.register_for_checkpointing(scheduler=scheduler)
    checks.that([group["lr"] for group in optimizer.param_groups] == [0.25] * 2, "half of the new rate")
    checks.that(scheduler.last_epoch == 1 and scheduler.base_lrs == [0.5] * 2, "the scheduler's place, and its new base")
    optimizer.close()
    module, optimizer = make(lr=0.5)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        step(optimizer, module)
        step(optimizer, module)
        checks.that(["the state of scheduler" in str(warning.message) for warning in said] == [True],
                    "a registered object that is not there any more is said once")
    optimizer.close()


def regrouped(equishard, directory):
    """Groups of one rule in another order, and with one put before them: settings, notes and rates go with the parameters."""
    def make(*order, lr=0.25):
        known = {"weight": {"match": {"name": "weight"}, "rule": "adamw", "lr": lr},
                 "bias": {"match": {"name": "bias"}, "rule": "adamw", "lr": lr},
                 "nothing": {"match": {"name": "scale"}, "rule": "adamw", "lr": lr}}
        module = model()
        if "nothing" in order:
            module.scale = torch.nn.Parameter(torch.ones(2))
        optimizer = equishard.Optimizer(module, configuration(
            groups=[known[name] for name in order], checkpoint={"directory": directory, "partial": True}), resume="auto")
        groups = {name: next(group for group in optimizer.param_groups if any(tensor is one for one in group["params"]))
                  for name, tensor in module.named_parameters()}
        return module, optimizer, groups

    def check(groups, scheduler, what):
        for name, rate in (("weight", 0.5), ("bias", 0.125)):
            group = groups[name]
            place = [one is group for one in optimizer.param_groups].index(True)
            told = (group["initial_lr"], group["lr"], group["note"], group["eps"], scheduler.base_lrs[place])
            checks.that(told == (rate, rate / 2, name, rate, rate), f"{what}: {name} has {told}")

    module, optimizer, groups = make("weight", "bias")
    for name, rate in (("weight", 0.5), ("bias", 0.125)):
        groups[name].update(lr=rate, eps=rate, note=name)
    scheduler = schedulers.ExponentialLR(optimizer, 0.5)
    optimizer.register_for_checkpointing(scheduler=scheduler)
    step(optimizer, module)
    scheduler.step()
    check(groups, scheduler, "before")
    for order in (("bias", "weight"), ("nothing", "weight", "bias"), ("weight", "bias")):
        optimizer.checkpoint()
        optimizer.close()
        module, optimizer, groups = make(*order)
        scheduler = schedulers.ExponentialLR(optimizer, 0.5)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            optimizer.register_for_checkpointing(scheduler=scheduler)
            said = [str(one.message) for one in said if "param_groups[0] (adamw)" in str(one.message)]
        check(groups, scheduler, f"groups {order}")
        checks.that(len(said) == ("nothing" in order), f"groups {order}: warnings {said}")
    optimizer.close()


def dummy_step(optimizer):
    """What torch.distributed.checkpoint.state_dict does to an optimizer of which it wants the state."""
    if optimizer.state:
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def looked_at(equishard):
    """Tools that look at the state of an optimizer take no step; foreign states and copies are refused."""
    module = model()
    optimizer = equishard.Optimizer(module, configuration())
    checks.that(len(optimizer.state) == 2 and set(optimizer.state) == set(module.parameters()), "a state for every parameter")
    dummy_step(optimizer)
    checks.that(optimizer.step_info().step == 0, "to look is no step")
    step(optimizer, module)
    step(optimizer, module)
    checks.that(all(float(state["step"]) == 2 for state in optimizer.state.values()), "the state is the count of steps")
    own = optimizer.state_dict()
    optimizer.param_groups[0]["lr"] = 0.5
    # As torch.distributed.checkpoint gives it back: without what it does not know.
    optimizer.load_state_dict({"state": own["state"], "param_groups": own["param_groups"]})
    checks.that(optimizer.param_groups[0]["lr"] == 0.02 and len(optimizer.state) == 2, "its own state_dict is taken")
    step(optimizer, module)
    refused(ValueError, "of step 2", lambda: optimizer.load_state_dict(own), "a state of another step")
    other = torch.optim.AdamW(module.parameters())
    backward(module, 0)
    other.step()
    optimizer.zero_grad()
    refused(ValueError, "exp_avg", lambda: optimizer.load_state_dict(other.state_dict()), "AdamW's state")
    refused(ValueError, "another optimizer", lambda: optimizer.load_state_dict(torch.optim.SGD(
        module.parameters(), 0.1).state_dict()), "SGD's state")
    refused(ValueError, "no state_dict", lambda: optimizer.load_state_dict({}), "no state")
    for name, copying in (("deepcopy", copy.deepcopy), ("copy", copy.copy), ("pickle", pickle.dumps),
                          ("torch.save", lambda value: torch.save(value, io.BytesIO()))):
        refused(TypeError, "optimizer.checkpoint()", lambda copying=copying: copying(optimizer), name)
    optimizer.close()


def main():
    import equishard

    torch.set_num_threads(1)
    honoured(equishard)
    refusals(equishard)
    scheduled(equishard)
    one_rate(equishard)
    with tempfile.TemporaryDirectory() as directory:
        restored(equishard, directory)
    with tempfile.TemporaryDirectory() as directory:
        regrouped(equishard, directory)
    looked_at(equishard)
    sys.exit(checks.failed > 0)


if "--trainer" in sys.argv:
    main()
result = job.finish([job.PYTHON, __file__, "--trainer"], timeout=60)
checks.that(result.returncode == 0 and not result.stdout, f"status {result.returncode}\n{result.stdout}{result.stderr}")
sys.exit(checks.failed > 0)

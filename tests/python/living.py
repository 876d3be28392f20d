"""The trainer of test_client_life.py: `living.py --mode MODE --directory DIR`, on every trainer of a job. Sessions one after
another, beside one another and after errors, in one process. Prints what is wrong."""
import argparse
import os
import pathlib
import sys
import time

import torch
import torch.utils.checkpoint

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

import equishard

options = argparse.ArgumentParser()
options.add_argument("--mode")
options.add_argument("--directory", type=pathlib.Path)
options = options.parse_args()
torch.set_num_threads(1)
checks = job.Checks()
RANK, EMBEDDED = int(os.environ["OMPI_COMM_WORLD_RANK"]), options.mode == "embedded"
RULE = {"match": {}, "rule": "adamw", "lr": 0.25}


def configuration(**more):
    return {"mode": options.mode, "groups": [RULE], **more}


def model(value=1.0):
    torch.manual_seed(3)
    made = torch.nn.Linear(3, 2)
    with torch.no_grad():
        made.weight.fill_(value)
    return made


def train(module, optimizer, steps=2):
    """Gradients of one: every step takes the rate off."""
    before = module.weight.detach().clone()
    for _ in range(steps):
        module(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    checks.at_most((before - module.weight.detach() - 0.25 * steps).abs().max().item(), 1e-5, "the weights are trained")


def fails(action, *words, status=2):
    try:
        action()
    except equishard.EquishardError as error:
        checks.that(error.status == status, f"status {error.status}, not {status}: {error}")
        for word in words:
            checks.that(word in str(error), f"{word!r} is not in: {error}")
        return
    checks.that(False, f"no error that says {words}")


def one_after_another():
    """Train, close, train another, with a checkpoint between them."""
    config = configuration(checkpoint={"directory": str(options.directory / "between")})
    first = model()
    with equishard.Optimizer(first, config) as optimizer:
        train(first, optimizer)
        optimizer.checkpoint()
    with torch.no_grad():  # a closed optimizer does not mind what happens to the model
        first.weight.mul_(2)
        first(torch.ones(1, 3)).sum()
    first(torch.ones(1, 3)).sum().backward()
    second = model(5.0)
    with equishard.Optimizer(second, config, resume=True) as optimizer:
        checks.that(optimizer.step_info().step == 2, "the second session goes on from the first one's checkpoint")
        checks.at_most((second.weight.detach() - 0.5).abs().max().item(), 1e-5, "its weights")
        train(second, optimizer)
    with equishard.Optimizer(first, configuration()) as optimizer:  # the same module again
        first.zero_grad()
        train(first, optimizer)


def calls_after_close():
    module = model()
    optimizer = equishard.Optimizer(module, configuration())
    train(module, optimizer, 1)
    trainers = optimizer.trainers
    optimizer.close()
    optimizer.close()  # nothing
    module.weight.grad = torch.ones(2, 3)
    for call in (optimizer.step, optimizer.checkpoint, optimizer.checkpoint_due, optimizer.stop_requested,
                 optimizer.step_info, optimizer.phases, optimizer.traffic, optimizer.weights_changed,
                 lambda: optimizer.push("weight"), lambda: optimizer.clip_grad_norm_(1.0), optimizer.state_dict,
                 lambda: optimizer.load_state_dict({"step": 0, "state": {}, "param_groups": optimizer.param_groups}),
                 lambda: optimizer.trainer_data("x"), lambda: optimizer.set_lr_factor(1.0),
                 lambda: optimizer.register_for_checkpointing(x=torch.nn.Linear(1, 1)),
                 lambda: optimizer.no_sync().__enter__(),
                 lambda: trainers.mean([1.0]), trainers.barrier):
        fails(call, "closed")


def two_at_once():
    """In embedded mode each trains by itself; owners serve one session, so the second is refused, and the first goes on."""
    first, second = model(), model(2.0)
    one = equishard.Optimizer(first, configuration())
    train(first, one, 1)
    begin = time.monotonic()
    if EMBEDDED:
        other = equishard.Optimizer(second, configuration(groups=[{**RULE, "lr": 0.5}]))
        for _ in range(3):
            for module, optimizer in ((first, one), (second, other)):
                module(torch.ones(1, 3)).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
        checks.at_most((first.weight.detach() - 0.0).abs().max().item(), 1e-5, "the first of two")
        checks.at_most((second.weight.detach() - 0.5).abs().max().item(), 1e-5, "the second of two")
        other.close()
    else:
        fails(lambda: equishard.Optimizer(second, configuration()), "session is open", "close")
        checks.at_most(time.monotonic() - begin, 5, "seconds until it is refused")
    train(first, one, 1)
    one.close()


def errors_are_survived():
    """What fails is an exception, after which another session works."""
    module = model()

    def make(config=None, tensors=None, **arguments):
        return equishard.Optimizer(tensors or module, config or configuration(), **arguments)

    wrong = torch.nn.Parameter(torch.ones(3))
    fails(lambda: make(configuration(groups=[{**RULE, "rule": "adamww"}])), "adamww")
    works()
    fails(lambda: make(configuration(groups=[{**RULE, "match": {"name": "nothing"}}])), "weight")
    works()
    fails(lambda: make(placements={"weigth": ("Partial", "Replicate")}), "weigth")
    works()
    fails(lambda: make(weight_placement="Shard(0)") if RANK == 0 else make(weight_placement="Replicate"),
          "Shard(0) needs" if RANK == 0 else "another trainer")
    works()
    fails(lambda: make(tensors=[("w", wrong), ("w", torch.nn.Parameter(torch.ones(2)))]), "'w'")
    works()

    def step_of(gradient):
        with make(tensors=[("w", wrong)]) as optimizer:
            wrong.grad = gradient
            optimizer.step()

    fails(lambda: step_of(torch.full((3,), float("nan"))), "'w'", status=1)
    wrong.grad = None
    works()


def directory_after_errors():
    """What fails leaves a checkpoint directory to the next optimizer, whether the program closes it or not."""
    config = configuration(checkpoint={"directory": str(options.directory / "used")})
    wrong = torch.nn.Parameter(torch.ones(3))
    kept = []

    def broken():
        kept.append(equishard.Optimizer([("w", wrong)], config))
        wrong.grad = torch.full((3,), float("nan"))
        kept[-1].step()

    def left():
        with equishard.Optimizer([("w", wrong)], config):
            raise LookupError("the program's own")

    def left_failed():
        with equishard.Optimizer([("w", wrong)], config) as optimizer:
            wrong.grad = torch.full((3,), float("nan"))
            optimizer.step()

    for _ in range(2):
        fails(broken, "'w'", status=1)
        checks.that(kept[-1].failed, "a failed optimizer says so")
    fails(left_failed, "'w'", status=1)
    checks.that(not kept[-1].failed, "it was closed when another was made")
    fails(kept[-1].step, "closed")
    if int(os.environ["OMPI_COMM_WORLD_SIZE"]) == 1:
        for _ in range(2):
            try:
                left()
            except LookupError:
                pass
    module = model()
    with equishard.Optimizer(module, config) as optimizer:
        train(module, optimizer)
        optimizer.checkpoint()


def works():
    module = model()
    with equishard.Optimizer(module, configuration()) as optimizer:
        train(module, optimizer)


def reentrant():
    """A layer that reentrant checkpointing runs backward twice in one backward: the error says what to do; that is right."""
    class Shared(torch.nn.Module):
        def __init__(self, reentrant):
            super().__init__()
            torch.manual_seed(1)
            self.layer, self.reentrant = torch.nn.Linear(4, 4), reentrant

        def forward(self, x):
            for _ in range(2):
                x = torch.utils.checkpoint.checkpoint(self.layer, x, use_reentrant=self.reentrant)
            return x.sum()

    inputs = torch.ones(2, 4, requires_grad=True)
    module, reference = Shared(False), Shared(False)
    with equishard.Optimizer(module, configuration(), push_in_backward=True) as optimizer:
        module(inputs).backward()
        optimizer.step()
    other = torch.optim.AdamW(reference.parameters(), lr=0.25, betas=(0.9, 0.95), weight_decay=0.0)
    reference(inputs).backward()
    other.step()
    checks.at_most((module.layer.weight - reference.layer.weight).abs().max().item(), 1e-5, "checkpointed without reentry")
    module = Shared(True)
    optimizer = equishard.Optimizer(module, configuration(), push_in_backward=True)
    fails(lambda: module(inputs).backward(), "'layer.", "use_reentrant=False")
    optimizer.close()


for case in (one_after_another, calls_after_close, two_at_once, reentrant, *([errors_are_survived, directory_after_errors] if EMBEDDED else [])):
    failed = checks.failed
    case()
    if checks.failed > failed:
        print(f"in {case.__name__}, trainer {RANK}")
sys.exit(checks.failed > 0)

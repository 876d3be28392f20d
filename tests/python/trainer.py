"""A trainer of test_client.py, test_client_gpu.py and test_client_endings.py: `trainer.py CASE ...`, on every trainer of
a job. Prints what is wrong; silent otherwise."""
import argparse
import atexit
import copy
import ctypes
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import time
from sys import exit as imported_exit

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

options = argparse.ArgumentParser()
options.add_argument("case")
options.add_argument("--config")
options.add_argument("--device", default="cpu")
options.add_argument("--staged", action="store_true", help="move CPU tensors as if they were on a GPU")
options.add_argument("--decoy", help="a library with BLAS's names, loaded before Equishard")
options.add_argument("--resume", help="checkpoint to restore")
options.add_argument("--out", help="file for the weights at the end")
options.add_argument("--push", default="default", help="gradients in backward, or in step")
options.add_argument("--pushed", type=int, default=1, help="whether they are expected to be pushed in backward")
options.add_argument("--parts", type=int, default=1, help="backwards in a step")
options.add_argument("--scale", type=float, default=1, help="of the loss")
options = options.parse_args()

if options.decoy:
    ctypes.CDLL(options.decoy, ctypes.RTLD_GLOBAL)
if options.case.startswith("other_mpi"):  # as mpi4py does: MPI ends with the interpreter, before the process does
    other_mpi = ctypes.CDLL("libmpi.so.40", ctypes.RTLD_GLOBAL)
    other_mpi.MPI_Init(None, None)
    ctypes.pythonapi.Py_AtExit(other_mpi.MPI_Finalize)
import equishard  # noqa: E402, after the decoy
import equishard.job  # noqa: E402
from equishard.parameter import Parameter  # noqa: E402

torch.set_num_threads(1)
checks = job.Checks()

class NotYet:
    """An event of a GPU that comes after the second look at it."""

    def __init__(self):
        self.looks = 0

    def query(self):
        self.looks += 1
        return self.looks > 2


if options.staged:
    Parameter.on_gpu = True
    Parameter.wait = lambda self: None
    Parameter.record_event = lambda self: NotYet()
    Parameter.allocate_pinned = staticmethod(lambda count, dtype: torch.empty(count, dtype=dtype))


class Scale(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(shape))


class Model(torch.nn.Module):
    """Every kind of parameter. Gradients are made up, nothing is computed with it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.embed = torch.nn.Embedding(50, 12)
        self.head = torch.nn.Linear(12, 50, bias=False)
        self.head.weight = self.embed.weight  # tied
        self.inner = torch.nn.Linear(9, 7)  # a weight and a bias
        self.half = Scale((33, 5)).bfloat16()
        self.half16 = Scale((6, 4)).half()
        self.scalar = Scale(())
        self.stack = Scale((3, 4, 5))
        self.turned = torch.nn.Linear(8, 6, bias=False)
        self.turned.weight = torch.nn.Parameter(self.turned.weight.detach().t().contiguous().t())  # not contiguous
        self.frozen = Scale(3)
        self.frozen.weight.requires_grad_(False)
        self.unused = Scale(4)  # never has a gradient
        self.sometimes = Scale((2, 2))  # has one on the first trainer only


def gradient(name, tensor, step, trainer):
    """Of one trainer: made from name, step and trainer; a multiple of 1/64, exact in every type."""
    seed = [sum(map(ord, name)), step, trainer]
    numbers = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed))).integers(-64, 65, tuple(tensor.shape))
    return torch.from_numpy(np.asarray(numbers / 64)).to(tensor.dtype)


def mean_gradient(name, tensor, step, trainers):
    total = sum(gradient(name, tensor, step, t).double() for t in range(1 if name.startswith("sometimes") else trainers))
    return total / trainers


def schedule(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda steps: 1 / (1 + steps))


def compare_with_torch():
    """AdamW over six steps beside torch's own, in float64, on gradients that are reduced over the trainers."""
    model = Model().to(options.device)
    reference = copy.deepcopy(model).double()
    with equishard.Optimizer(model, options.config) as optimizer:
        trainers, rank = optimizer.trainer_count, optimizer.trainer_rank
        torch_optimizer = torch.optim.AdamW([p for p in reference.parameters() if p.requires_grad], lr=0.05,
                                            betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
        schedulers = schedule(optimizer), schedule(torch_optimizer)
        checks.that([g["rule"] for g in optimizer.param_groups] == ["adamw"], "one group, of AdamW")
        checks.that(optimizer.param_groups[0]["lr"] == 0.05, "the group's learning rate is the configuration's")
        checks.that(all(model.frozen.weight is not p for g in optimizer.param_groups for p in g["params"]),
                    "what needs no gradient is not trained")
        for step in range(6):
            optimizer.zero_grad(set_to_none=True)
            for (name, p), q in zip(model.named_parameters(), reference.parameters()):
                if name in ("frozen.weight", "unused.weight"):
                    continue
                q.grad = mean_gradient(name, p, step, trainers)
                if name != "sometimes.weight" or rank == 0:
                    g = gradient(name, p, step, rank).to(options.device)
                    p.grad = g.t().contiguous().t() if g.dim() == 2 and step % 2 else g
            if step == 3:
                optimizer.push("embed.weight")  # some early
                if options.staged:
                    optimizer.push("stack.weight")
            optimizer.step()
            torch_optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
        checks.that(optimizer.step_info().step == 6, "six steps are counted")
        checks.that(optimizer.state_dict()["param_groups"][0]["lr"] == optimizer.param_groups[0]["lr"], "lr in state_dict")
        compare(model, reference)
        sent = optimizer.traffic().gradient_sent
        size = sum(p.numel() * p.element_size() for n, p in model.named_parameters()
                   if p.requires_grad and n != "unused.weight")
        checks.that(sent <= 6 * size + 6 * 4096, f"a trainer sends each gradient once: {sent} bytes of {6 * size}")
        checks.that({"trainer push", "trainer step", "trainer pull"} <= {p.name for p in optimizer.phases()}, "phases")


def compare(model, reference):
    """Of float32 the error of the update, of narrower types one rounding of the float32 weight."""
    for (name, p), q in zip(model.named_parameters(), reference.parameters()):
        value, expected = p.detach().double().cpu(), q.detach().double().cpu()
        unit = {torch.float32: 0.0, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}[p.dtype]
        excess = ((value - expected).abs() - unit * expected.abs()).max().item()
        checks.at_most(excess, 1e-5, f"{name}: error against torch.optim.AdamW")


def shards():
    """Weights and gradients split over the trainers, gradients split and weights whole, and the reverse."""
    torch.manual_seed(3)
    full = {name: torch.randn(shape) for name, shape in
            {"both": (11, 3), "gradient": (11, 3), "weight": (7, 2), "short": (1, 5), "whole": (4, 4)}.items()}
    count, rank = int(os.environ["TRAINERS"]), int(os.environ["OMPI_COMM_WORLD_RANK"])

    def mine(tensor):
        chunk = -(-len(tensor) // count)
        return tensor[rank * chunk:(rank + 1) * chunk]

    local = {name: mine(t).clone() if name in ("both", "weight", "short") else t.clone() for name, t in full.items()}
    local = {name: torch.nn.Parameter(t.to(options.device)) for name, t in local.items()}
    placements = {"both": ("Shard(0)", "Shard(0)"), "short": ("Shard(0)", "Shard(0)"),
                  "gradient": ("Shard(0)", "Replicate"), "weight": ("Partial", "Shard(0)"),
                  "whole": ("Replicate", "Replicate")}
    shapes = {name: tuple(full[name].shape) for name in ("both", "weight", "short")}
    reference = {name: torch.nn.Parameter(t.double()) for name, t in full.items()}
    torch_optimizer = torch.optim.AdamW(reference.values(), lr=0.05, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    with equishard.Optimizer(local.items(), options.config, placements=placements, shapes=shapes) as optimizer:
        checks.that((optimizer.trainer_rank, optimizer.trainer_count) == (rank, count), "trainers are the first ranks")
        for step in range(3):
            for name, p in local.items():
                g = gradient(name, full[name], step, 0).to(options.device)
                reference[name].grad = g.double().cpu()
                if name == "weight":
                    optimizer.push(name, gradient=g)  # every trainer contributes the same: their mean
                else:
                    p.grad = mine(g) if name in ("both", "short") else g
            optimizer.step()
            torch_optimizer.step()
        for name, p in local.items():
            expected = reference[name].detach()
            expected = mine(expected) if name in ("both", "weight", "short") else expected
            error = (p.detach().double().cpu() - expected).abs()
            checks.at_most(error.max().item() if error.numel() else 0.0, 1e-5, f"{name}: error")


def restart():
    """Three steps and a checkpoint, three more; or, with --resume, only the last three."""
    model = Model().to(options.device)
    with equishard.Optimizer(model, options.config, resume=options.resume) as optimizer:
        first = 0
        if options.resume:
            first = json.loads(optimizer.trainer_data("counts"))["step"]
            checks.that(first == optimizer.step_info().step == 3, "the step is the checkpoint's")
            checks.that(optimizer.trainer_data("bytes") == b"\0\1\2" and optimizer.trainer_data("text") == "zwölf".encode(),
                        "bytes and text come back")
            checks.that(optimizer.trainer_data("nothing") is None, "no such key")
            if optimizer.trainer_rank == 0:
                compare_with_file(model, options.resume)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda steps: 1 / (1 + steps), last_epoch=first - 1)
        for step in range(first, 6):
            for name, p in model.named_parameters():
                if p.requires_grad and name != "unused.weight":
                    p.grad = gradient(name, p, step, 0).to(options.device)
            optimizer.step()
            scheduler.step()
            checks.that(optimizer.checkpoint_due() == (step in (2, 5)), "a checkpoint is due every third step")
            if step == 2:
                optimizer.checkpoint(counts={"step": 3}, bytes=b"\0\1\2", text="zwölf")
        if options.out and optimizer.trainer_rank == 0:
            np.savez(options.out, **{n: p.detach().float().cpu().numpy() for n, p in model.named_parameters()})


def compare_with_file(model, path):
    """The checkpoint has every weight, of frozen parameters too, under its first name, as float32."""
    import h5py

    file = pathlib.Path(path)
    with h5py.File(file if file.is_file() else file / "latest", "r") as checkpoint:
        names = {n for n, p in model.named_parameters()}
        checks.that(set(checkpoint["parameters"]) == names, f"parameters in the file: {sorted(checkpoint['parameters'])}")
        for name, p in model.named_parameters():
            stored = torch.from_numpy(np.asarray(checkpoint[f"parameters/{name}/weight"][()]))
            checks.that(torch.equal(stored.to(p.dtype), p.detach().cpu()), f"{name} is as in the file")


class Scaler:
    """What torch's GradScaler (which needs a GPU) shows to an optimizer."""

    def __init__(self, scale):
        self.scale, self._per_optimizer_states = scale, {}

    def get_scale(self):
        return self.scale

    def step(self, optimizer):
        self._per_optimizer_states[id(optimizer)] = {}
        optimizer.step(grad_scaler=self)
        return max(found.item() for found in self._per_optimizer_states[id(optimizer)]["found_inf_per_device"].values())


def scaler():
    """A scaled loss takes the same step; where one trainer's gradient overflows, all trainers skip and know it."""
    plain, scaled = torch.nn.Parameter(torch.ones(4)), Scaler(2.0**16)
    with equishard.Optimizer([("w", plain)], options.config) as optimizer:
        plain.grad = torch.full((4,), 3.0 * 2.0**16)
        checks.that(scaled.step(optimizer) == 0, "a finite gradient is no overflow")
        checks.at_most(abs(optimizer.step_info().gradient_norm - 6.0), 1e-5, "the norm is that of the loss itself")
        before = plain.detach().clone()
        if optimizer.trainer_rank == optimizer.trainer_count - 1:
            plain.grad[2] = float("inf")
        checks.that(scaled.step(optimizer) == 1, "every trainer hears of the overflow")
        checks.that(torch.equal(plain.detach(), before), "a skipped step changes nothing")
        checks.that(optimizer.step_info().skipped == 1, "it is counted")


class Net(torch.nn.Module):
    """A real forward: a tied weight, one that has a gradient on the first trainer only, one that never has."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.embed = torch.nn.Embedding(20, 6)
        self.inner = torch.nn.Linear(6, 6)
        self.head = torch.nn.Linear(6, 20, bias=False)
        self.head.weight = self.embed.weight
        self.sometimes = Scale(6)
        self.unused = Scale(3)

    def forward(self, tokens, first):
        x = torch.tanh(self.inner(self.embed(tokens)))
        return torch.nn.functional.cross_entropy(self.head(x * self.sometimes.weight if first else x), tokens.roll(1))


def batch(step, trainer, part):
    return torch.from_numpy(np.random.default_rng([step, trainer, part]).integers(0, 20, 8))


def hooks():
    """Three steps of a real model, pushed in backward by default, or as --push says."""
    net, scaler = Net(), Scaler(options.scale) if options.scale != 1 else None
    push = {"default": None, "step": False, "backward": True}[options.push]
    with equishard.Optimizer(net, options.config, push_in_backward=push, grad_scaler=scaler) as optimizer:
        scheduler, rank = schedule(optimizer), optimizer.trainer_rank
        # embed.weight, inner.weight, inner.bias, sometimes.weight
        expected = options.pushed and (4 if rank == 0 else 3)
        for step in range(3):
            with optimizer.no_sync():
                for part in range(1, options.parts):
                    (net(batch(step, rank, part), rank == 0) * options.scale).backward()
            checks.that(not any(p.pushed is not None for p in optimizer._parameters), "under no_sync nothing is pushed")
            (net(batch(step, rank, 0), rank == 0) * options.scale).backward()
            pushed = sum(p.pushed is not None for p in optimizer._parameters)
            checks.that(pushed == expected, f"{pushed} gradients were pushed in backward, not {expected}")
            if scaler:
                scaler.step(optimizer)
            else:
                optimizer.step()
            optimizer.zero_grad(set_to_none=step % 2 == 0)
            scheduler.step()
        checks.that(optimizer.step_info().step == 3, "three steps")
        if rank == 0:
            np.savez(options.out, **{name: p.detach().numpy() for name, p in net.named_parameters()})


def blas():
    """ScaLAPACK calls BLIS although another library with BLAS's names was loaded, globally, before."""
    lines = [line for line in equishard.libraries().splitlines() if "gemm of" in line]
    checks.that(len(lines) >= 2 and all("libblis" in line for line in lines), f"BLIS answers: {lines}")
    weight = torch.nn.Parameter(torch.eye(40, 64))
    with equishard.Optimizer([("layers.0.mlp.up_proj.weight", weight)], options.config) as optimizer:
        weight.grad = torch.eye(40, 64)
        optimizer.step()
    # The decoy would have ended the process. The polar factor of (I 0) is itself, up to Polar Express' error.
    change = (torch.eye(40, 64) - weight.detach()) / 0.02
    checks.at_most((change - torch.eye(40, 64)).abs().max().item(), 0.2, "the update is the polar factor")


def misuse():
    """What would take a step with something else than the gradients that backward has pushed, on one trainer."""
    net, scaler = Net(), Scaler(8.0)
    optimizer = equishard.Optimizer(net, options.config)
    backward = lambda: net(batch(0, optimizer.trainer_rank, 0), True).backward()  # noqa: E731
    backward()
    if optimizer.trainer_rank < optimizer.trainer_count - 1:
        pass
    elif options.case == "second_backward":
        backward()
    elif options.case == "scheduler_first":
        schedule(optimizer).step()
    elif options.case == "zeroed":
        optimizer.zero_grad(set_to_none=True)
    elif options.case == "zeroed_in_place":
        optimizer.zero_grad(set_to_none=False)
    elif options.case == "clipped":
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
    elif options.case == "unannounced_scale":
        scaler.step(optimizer)
    optimizer.step()


def lone():
    """A call of all trainers that one of them does not make. The others have an optimizer, or make one meanwhile."""
    trainers, weight = equishard.trainers(), torch.nn.Parameter(torch.ones(4))
    first = trainers.rank == 0
    make = lambda: equishard.Optimizer([("w", weight)], options.config)  # noqa: E731
    if options.case == "lone_mean":
        make()
        trainers.mean([1.0]) if first else time.sleep(60)
    elif options.case == "lone_before":  # what EQUISHARD_DEADLINE says
        trainers.minimum([1.0]) if first else time.sleep(60)
    elif options.case == "lone_optimizer":
        trainers.mean([1.0])
        None if first else make()
    elif options.case == "lone_mixed":
        trainers.mean([1.0]) if first else make()
    elif options.case == "lone_end":
        None if first else time.sleep(60)


def late_clip():
    """clip_grad_norm_ from the second step on, after the owners have updated weights."""
    net = torch.nn.Sequential(*[torch.nn.Linear(600, 600) for _ in range(3)])  # gradients that fill messages
    optimizer = equishard.Optimizer(net, options.config)
    for step in range(2):
        net(torch.ones(1, 600)).sum().backward()
        if step == 1:
            end = time.monotonic() + 1
            while any(optimizer.trainers.maximum([time.monotonic() < end])):  # MPI sends gradients meanwhile
                time.sleep(0.01)
            optimizer.clip_grad_norm_(1e-6)
        optimizer.step()
        optimizer.zero_grad()


def ending():
    """How a program ends, by the case's name."""
    if options.case.startswith("hanging_"):
        equishard.job._ATEXIT_SECONDS = 1
        atexit.register(time.sleep, 100)
    atexit.register(print, "atexit ran", file=sys.stderr)
    options.case = options.case.removeprefix("hanging_")
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = equishard.Optimizer([("w", weight)], options.config)
    second = optimizer.trainer_rank == optimizer.trainer_count - 1
    weight.grad = torch.ones(4)
    optimizer.step()
    if options.case == "nonfinite":
        weight.grad = torch.full((4,), float("nan"))
    elif options.case == "exception" and second:
        raise LookupError("something went wrong")
    elif options.case == "exit" and second:
        sys.exit(3)
    elif options.case in ("system_exit", "other_mpi_exit") and second:
        raise SystemExit(4)
    elif options.case == "imported_exit" and second:
        imported_exit(3)
    elif options.case == "text_exit" and second:
        sys.exit("what went wrong")
    elif options.case == "exit256" and second:
        sys.exit(256)
    elif options.case == "interrupt" and second:
        raise KeyboardInterrupt
    elif options.case == "twice" and second:
        optimizer.push("w")
        optimizer.push("w")
    elif options.case == "exit0":
        sys.exit(0)
    elif options.case == "workers":
        workers = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,), daemon=True) for _ in "12"]
        for worker in workers:
            worker.start()
        os.kill(workers[0].pid, signal.SIGUSR1)  # as mpirun sends it to all processes of a rank
        workers[0].join(0.3)
        checks.that(workers[0].is_alive(), "SIGUSR1 does not end a worker")
        workers[0].terminate()
        workers[0].join()
        checks.that(not optimizer.stop_requested(), "a worker's signal is no wish to stop")
        # the end of the program terminates the other and waits for it
    optimizer.step()
    # and no close: the end of the program does it


cases = {"compare": compare_with_torch, "shards": shards, "restart": restart, "scaler": scaler, "blas": blas,
         "hooks": hooks, "late_clip": late_clip, **dict.fromkeys(("lone_mean", "lone_before", "lone_optimizer",
                                                                 "lone_mixed", "lone_end"), lone),
         **dict.fromkeys(("second_backward", "scheduler_first", "zeroed", "zeroed_in_place", "clipped",
                          "unannounced_scale"), misuse)}
cases.get(options.case, ending)()
sys.exit(checks.failed > 0)

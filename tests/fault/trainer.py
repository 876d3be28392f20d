"""A trainer in Python for the tests of faults and restarts: trainer.py CONFIGURATION [key=value ...], as trainer.c.

A small language model on made-up text: the next token is a function of the last two.

    steps=N  resume=[PATH]  other=1  nan=STEP   as in trainer.c
    shape=1      rank 1 describes a parameter in another shape
    raise=STEP   the last trainer raises an exception in this step
"""
import os
import sys

import torch
import torch.nn.functional as F

import equishard

BATCH, LENGTH, PIECES = 12, 16, 40
options = dict(argument.split("=", 1) for argument in sys.argv[2:])
torch.set_num_threads(1)
torch.manual_seed(3)


class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up_proj = torch.nn.Linear(width, 2 * width, bias=False)
        self.down_proj = torch.nn.Linear(2 * width, width, bias=False)

    def forward(self, x):
        return x + self.down_proj(F.silu(self.up_proj(x)))


class Model(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(PIECES, width)
        self.mlp = Block(width)
        self.q_proj = torch.nn.Linear(width, width)
        self.norm = torch.nn.LayerNorm(width)
        self.lm_head = torch.nn.Linear(width, PIECES, bias=False)

    def forward(self, tokens):
        x = self.embed_tokens(tokens)
        x = x + self.q_proj(torch.roll(x, 1, dims=1))
        return self.lm_head(self.norm(self.mlp(x)))


def sample(step, index):
    generator = torch.Generator().manual_seed(step * BATCH + index)
    tokens = torch.randint(PIECES, (2,), generator=generator).tolist()
    while len(tokens) <= LENGTH:
        tokens.append((3 * tokens[-1] + 5 * tokens[-2] + 1) % PIECES)
    return tokens


steps, at_nan, at_raise = (int(options.get(key, default)) for key, default in (("steps", 30), ("nan", -1), ("raise", -1)))
model = Model(24 if "other" in options else 16)
if "shape" in options and os.environ["OMPI_COMM_WORLD_RANK"] == "1":
    model.q_proj = torch.nn.Linear(16, 15)
optimizer = equishard.Optimizer(model, sys.argv[1], resume=options["resume"] or True if "resume" in options else None)
rank, count = optimizer.trainer_rank, optimizer.trainer_count
first = optimizer.step_info().step
if "resume" in options and int(optimizer.trainer_data("step")) != first:
    sys.exit("the trainer's data is not what was handed over")

for step in range(first, steps):
    optimizer.zero_grad(set_to_none=True)
    mine = range(rank * BATCH // count, (rank + 1) * BATCH // count)
    tokens = torch.tensor([sample(step, index) for index in mine])
    loss = F.cross_entropy(model(tokens[:, :-1])[:, 1:].flatten(0, 1), tokens[:, 2:].flatten(), reduction="sum")
    (loss * count / (BATCH * (LENGTH - 1))).backward()
    if rank == count - 1 and step == at_nan:
        model.norm.weight.grad[3] = float("nan")
    if rank == count - 1 and step == at_raise:
        raise LookupError("something went wrong")
    optimizer.step()
    if rank == 0:
        print("step", step, "skipped" if optimizer.step_info().skipped_last else "", flush=True)
    if optimizer.checkpoint_due() or step == steps - 1:
        optimizer.checkpoint(step=optimizer.step_info().step)
    if optimizer.stop_requested():
        break
optimizer.close()

"""The trainer of test_many_small.py: seconds of this process in AdamW's step on many tensors of 8×8, ours
and torch's in turn."""
import statistics
import sys
import time

import torch

import equishard

torch.set_num_threads(1)
ROUNDS = 9


def seconds_of(count):
    """(ours, torch's): medians of pairs, of processor time, which other processes do not add to."""
    def parameters():
        return [torch.nn.Parameter(torch.full((8, 8), 1.0)) for _ in range(count)]

    tensors, others = parameters(), parameters()
    config = {"mode": "embedded", "groups": [{"match": {}, "rule": "adamw", "lr": 0.001}]}
    with equishard.Optimizer([(f"w{k}", tensor) for k, tensor in enumerate(tensors)], config) as optimizer:
        torch_optimizer = torch.optim.AdamW(others, lr=0.001)
        times = []
        for _ in range(ROUNDS):
            pair = []
            for mine, taken in ((tensors, optimizer), (others, torch_optimizer)):
                sum((tensor * tensor).sum() for tensor in mine).backward()
                begin = time.process_time()
                taken.step()
                pair.append(time.process_time() - begin)
                taken.zero_grad()
            times.append(pair)
    return [statistics.median(side) for side in zip(*times)]


few, torch_few = seconds_of(200)
many, torch_many = seconds_of(2000)
print(f"{few} {torch_few} {many} {torch_many}")

"""PyTorch client of Equishard: a sharded optimizer service for jobs that run under mpirun.

    import equishard
    optimizer = equishard.Optimizer(model, config="configs/qwen3.yaml")
    loss.backward(); optimizer.step(); optimizer.zero_grad()
"""

from ._library import EquishardError, EquishardTypeError, EquishardUsageError, libraries
from .job import Trainers, trainers
from .optimizer import Optimizer

__all__ = ["EquishardError", "EquishardTypeError", "EquishardUsageError", "Optimizer", "Trainers", "libraries",
           "trainers"]

#!/usr/bin/env python3
"""A trainer of the example: pretrain a small language model through the optimizer service.

pretrain.sh starts it, twice: `pretrain.py --prepare OPTIONS` makes the run's directory, its configuration and the text,
alone, and says how many ranks the job has; then every trainer of the job is a `pretrain.py RUN_DIRECTORY`.
"""

import math
import sys
import time
from pathlib import Path

from pretraining import run


def prepare(arguments):
    from pretraining import text

    directory, options = run.prepare(arguments)
    text.prepare(directory.parent / "data", options["pieces"])
    print(directory, options["trainers"], options["owners"], options["threads"], sep="\n")


class Trainer:
    """One trainer: its model, its part of every batch, and what it counted."""

    def __init__(self, directory):
        import torch

        sys.path.insert(0, str(run.ROOT / "src" / "python"))
        import equishard
        from pretraining.model import Qwen3ForCausalLM, Shape
        from pretraining.text import Text

        self.torch = torch
        self.directory = Path(directory)
        self.options = options = run.load(directory)
        torch.set_num_threads(options.threads)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(options.seed)
        self.device = torch.device(options.device)

        shape = Shape(options.pieces, options.hidden, options.intermediate, options.layers, options.heads,
                      options.key_value_heads, options.head_dim)
        self.model = Qwen3ForCausalLM(shape).to(self.device, getattr(torch, options.dtype))
        self.optimizer = equishard.Optimizer(self.model, self.directory / "config.yaml", resume=options.resume)
        self.trainers = self.optimizer.trainers
        self.first_step = self._continue_from_checkpoint()
        self.text = Text(self.directory.parent / "data" / f"kjv-{options.pieces}.npz")
        self.compute_seconds = self.evaluation_seconds = 0.0

    def _continue_from_checkpoint(self):
        """The number of the next step; steps are counted from 1."""
        if not self.options.resume:
            return 1
        if self.optimizer.trainer_data("options") != run.fingerprint(self.options).encode():
            if self.trainers.rank == 0:
                print("pretrain: the checkpoint is of a run with other options (seed, batch, ...)", file=sys.stderr)
            self.optimizer.close()
            sys.exit(2)
        return int(self.optimizer.trainer_data("step")) + 1

    def _lr_factor(self, step):
        """Linear warm-up, then half a cosine down to the final rate."""
        options = self.options
        warmup = max(1, round(options.warmup * options.steps))
        if step <= warmup:
            return step / warmup
        way = min(1.0, (step - warmup) / max(1, options.steps - warmup))
        return options.final_lr + (1 - options.final_lr) * (1 + math.cos(math.pi * way)) / 2

    def _mine(self, count):
        """This trainer's share of `count` things."""
        rank, trainers = self.trainers.rank, self.trainers.count
        return range(rank * count // trainers, (rank + 1) * count // trainers)

    def _loss(self, samples):
        """Sum of the cross entropies of samples, each an array of tokens."""
        import numpy

        return self.model(self.torch.from_numpy(numpy.stack(samples)).to(self.device))

    def step(self, step):
        """Take a step; the loss of its batch, over all trainers."""
        options, start = self.options, time.perf_counter()
        self.optimizer.set_lr_factor(self._lr_factor(step))  # of the rates in the configuration
        self.optimizer.zero_grad(set_to_none=True)
        samples = [self.text.sample(options.seed, step, index, options.length) for index in self._mine(options.batch)]
        loss = 0.0
        if samples:
            mean = self._loss(samples) / (options.batch * options.length)
            # The service takes the mean over trainers, whose shares may differ.
            (mean * self.trainers.count).backward()
            loss = mean.item()
        self.compute_seconds += time.perf_counter() - start
        self.optimizer.step()
        return self.trainers.sum([loss])[0]

    def evaluate(self, part=1):
        """Mean loss over the held-out text, or over every `part`-th piece of it."""
        start = time.perf_counter()
        windows = self.text.windows(self.options.length)[::part]
        mine = self._mine(len(windows))
        total = 0.0
        with self.torch.no_grad():
            for first in range(mine.start, mine.stop, 16):
                total += self._loss(windows[first:min(first + 16, mine.stop)]).item()
        self.evaluation_seconds += time.perf_counter() - start
        return self.trainers.sum([total])[0] / (len(windows) * self.options.length)

    def seconds(self):
        return {"forward+backward": self.compute_seconds, **self.optimizer.seconds}

    def checkpoint(self, step):
        """What continues the run: randomness follows from seed, step and sample, so a few counts suffice."""
        options = self.options
        self.optimizer.checkpoint(step=step, samples=step * options.batch, seed=options.seed,
                                  options=run.fingerprint(options))

    def phases(self):
        """Rows of (name, minimum, mean, maximum, slowest rank)."""
        rows = []
        for name, value in (("trainer forward+backward", self.compute_seconds),
                            ("trainer evaluation", self.evaluation_seconds)):
            mine, maximum = [value], self.trainers.maximum([value])[0]
            slowest = self.trainers.minimum([self.trainers.rank if value == maximum else math.inf])[0]
            rows.append((name, *self.trainers.minimum(mine), *self.trainers.mean(mine), maximum, int(slowest)))
        return rows + [tuple(phase) for phase in self.optimizer.phases()]


def train(directory, terminal):
    trainer = Trainer(directory)
    options, optimizer = trainer.options, trainer.optimizer
    speaks = trainer.trainers.rank == 0
    if speaks:
        from pretraining import record

        metrics = record.Metrics(trainer.directory / "metrics.jsonl", trainer.first_step)
        progress = record.Progress(trainer.first_step, options.steps, terminal)

    for step in range(trainer.first_step, options.steps + 1):
        start, before = time.perf_counter(), trainer.seconds()
        loss = trainer.step(step)
        elapsed = time.perf_counter() - start
        seconds = {phase: total - before[phase] for phase, total in trainer.seconds().items()}
        values = {"step": step, "samples": step * options.batch, "loss": loss,
                  "lr": [group["lr"] for group in optimizer.param_groups],
                  "gradient_norm": optimizer.step_info().gradient_norm,
                  "tokens_per_second": options.batch * options.length / elapsed, "seconds": seconds}
        if step % options.evaluate_every == 0 and step != options.steps:
            values["validation_loss"] = trainer.evaluate(part=4)
        elif step == options.steps:
            values["validation_loss"] = trainer.evaluate()
        if speaks:
            metrics.add(**values)
            progress.show(step, loss, values["tokens_per_second"], seconds)
        if optimizer.checkpoint_due() or step == options.steps:
            trainer.checkpoint(step)
        if optimizer.stop_requested() and step != options.steps:
            optimizer.close()
            if speaks:
                progress.close()
                print(f"pretrain: stopped by a signal after step {step}", file=sys.stderr)
            return

    phases = trainer.phases()
    optimizer.close()
    if speaks:
        progress.close()
        report(trainer, metrics, phases)


def report(trainer, metrics, phases):
    from pretraining import record

    directory, unigram_entropy = trainer.directory, trainer.text.unigram_entropy()
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    record.draw(directory / "loss.png", metrics.lines, unigram_entropy,
                f"Qwen3 form, {parameters / 1e6:.1f} M parameters, King James Bible")
    print("\n".join((
        "",
        record.table(phases),
        f"  {record.hidden(phases):.0%} of the owners' work was hidden from the trainers",
        "",
        f"validation loss  {metrics.lines[-1]['validation_loss']:.4f} nats per token, after step {metrics.lines[-1]['step']}",
        f"unigram entropy  {unigram_entropy:.4f} nats per token of the same held-out text",
        f"results          {directory}/: metrics.jsonl, loss.png, config.yaml, checkpoints/",
    )), flush=True)


def main(arguments):
    try:
        if not arguments:
            raise run.UsageError("launch/pretrain.sh starts this")
        if arguments[0] == "--prepare":
            prepare(arguments[1:])
        else:
            train(arguments[0], terminal="--terminal" in arguments)
    except run.UsageError as error:
        print(f"pretrain: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"pretrain: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

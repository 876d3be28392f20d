"""The record of a run: metrics.jsonl, a line on the screen, the picture of the loss, the table of phases."""

import json
import os
import sys
import time

from tqdm import tqdm


class Metrics:
    """metrics.jsonl: one line per step, each written at once, so that a killed run leaves whole lines."""

    def __init__(self, path, first_step):
        self.path = path
        self.lines = [line for line in self._read() if line["step"] < first_step]
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        os.replace(partial, path)
        self._file = open(path, "a", buffering=1)

    def _read(self):
        """What an earlier job of the run wrote; its last line may be cut."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return
        for line in text.splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return

    def add(self, **values):
        self.lines.append(values)
        self._file.write(json.dumps(values) + "\n")


class Progress:
    """A progress bar on a terminal, now and then a line elsewhere."""

    PHASES = ("forward+backward", "push", "step", "pull")

    def __init__(self, first_step, steps, terminal):
        self._steps, self._last_line = steps, 0.0
        # 80 columns hold it all.
        self._bar = tqdm(total=steps, initial=first_step - 1, file=sys.stderr, ascii=True, mininterval=0.2,
                         bar_format="{n_fmt}/{total_fmt}|{bar:6}|{remaining} {desc}") if terminal else None

    def show(self, step, loss, tokens_per_second, seconds):
        total = sum(seconds[phase] for phase in self.PHASES)
        shares = " ".join(f"{name} {seconds[phase] / total:.0%}"
                          for name, phase in zip(("compute", "push", "step", "pull"), self.PHASES))
        text = f"loss {loss:.3f} {tokens_per_second:,.0f} tok/s {shares}"
        if self._bar is not None:
            self._bar.set_description_str(text, refresh=False)
            self._bar.update()
        elif time.monotonic() - self._last_line > 10 or step == self._steps:
            self._last_line = time.monotonic()
            print(f"step {step}/{self._steps}: {text}", file=sys.stderr, flush=True)

    def close(self):
        if self._bar is not None:
            self._bar.close()


def draw(path, lines, unigram_entropy, title):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), constrained_layout=True)
    axes.plot([line["step"] for line in lines], [line["loss"] for line in lines], color="0.65", linewidth=0.8,
              label="training, each step's batch")
    evaluated = [line for line in lines if "validation_loss" in line]
    axes.plot([line["step"] for line in evaluated], [line["validation_loss"] for line in evaluated], color="C0",
              marker="o", markersize=3, label="validation, held-out text")
    axes.axhline(unigram_entropy, color="C3", linestyle="--", linewidth=1, label="unigram entropy of the held-out text")
    axes.set(title=title, xlabel="step", ylabel="loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend()
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, dpi=120, format="png")
    os.replace(partial, path)
    pyplot.close(figure)


def table(phases):
    """Rows of (name, minimum, mean, maximum, slowest rank) as text."""
    rows = [("seconds per phase", "min", "mean", "max", "slowest rank")]
    rows += [(name, f"{minimum:.2f}", f"{mean:.2f}", f"{maximum:.2f}", str(slowest))
             for name, minimum, mean, maximum, slowest in phases]
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"  {row[0]:<{width}}" + "".join(f"{cell:>9}" for cell in row[1:4]) + f"{row[4]:>14}" for row in rows)


def hidden(phases):
    """The share of the owners' work (receiving, updating, sending) that they did while no trainer waited for it."""
    mean = {row[0]: row[2] for row in phases}
    work = sum(mean[f"owner {phase}"] for phase in ("receive", "update", "send"))
    return mean["owner hidden"] / work if work > 0 else 0.0

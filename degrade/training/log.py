"""RunLog: the figures of a run, in metrics.jsonl and as tensorboard events."""

import json
import math
from collections.abc import Sequence
from pathlib import Path


class RunLog:
    """Append lines to metrics.jsonl and scalars to tensorboard.

    Lines of steps that a killed run reached but never saved are dropped when it is resumed.

    Args:
        out: folder of the run.
        start: the step that the run starts or resumes at.
    """

    def __init__(self, out: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = out / "metrics.jsonl"
        self.last: dict[str, float] = {}
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if _step_of(line) <= start]
        self.path.write_text("".join(line + "\n" for line in kept))
        if kept:
            self.last = json.loads(kept[-1])
        self.tensorboard = SummaryWriter(str(out), purge_step=start)

    def write(self, metrics: dict[str, float]) -> None:
        """Append one line, with its ``step``, and its scalars."""
        self.last = metrics
        with self.path.open("a") as file:
            file.write(json.dumps({k: float(f"{v:.6g}") for k, v in metrics.items()}) + "\n")
        for name, value in metrics.items():
            self.tensorboard.add_scalar(name, value, int(metrics["step"]))
        self.tensorboard.flush()

    def lowest(self, name: str) -> dict[str, float]:
        """Return the lowest value of a metric and its step; nothing when it was never logged."""
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        logged = [(line[name], line["step"]) for line in lines if name in line]
        return {f"lowest_{name}": min(logged)[0], f"lowest_{name}_at_step": min(logged)[1]} if logged else {}


def means(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of every term over the steps that have it: some terms begin or end in the middle of a run."""
    names = sorted({name for terms in steps for name in terms})
    return {k: sum(terms[k] for terms in steps if k in terms) / sum(k in terms for terms in steps) for k in names}


def _step_of(line: str) -> float:
    """Return the step of a line of the log; infinity for a line that a power cut left incomplete."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf

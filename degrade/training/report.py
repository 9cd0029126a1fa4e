"""Write what people look at after a training: sheets of samples, curves, and the model card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from degrade.degrader import RealisticDegrader
from degrade.images.contact_sheet import contact_sheet, encode_sheet
from degrade.images.geometry import Rgb
from degrade.images.tensors import to_image
from degrade.training.data import TrainingData

SHEET_ROWS = 6
ORIGINS = {"start_from": "the weights of", "teacher": "the teacher"}  # settings that name trained networks
CURVES = (
    "loss",
    "energy",
    "texture",
    "low",
    "encoder",
    "compression",
    "code",
    "critic",
    "adversarial",
    "spread",
    "energy_ratio",
)


def sample_sheet(degrader: RealisticDegrader, data: TrainingData, path: Path) -> None:
    """Draw a sheet of fixed scenes: HR, its true LR, ours with the look of that LR, and three draws from the bank.

    Args:
        degrader: the averaged model.
        data: the training data; the sheet uses a batch that training never reaches.
        path: the png to write.
    """
    batch = data[-1]
    hr, lr, paired = (batch[name][::2][:SHEET_ROWS] for name in ("hr", "lr", "paired"))  # one of each two alike
    generator = [torch.Generator().manual_seed(i) for i in range(len(hr))]
    device = degrader.device
    with torch.inference_mode():
        like = degrader(hr.to(device), reference=lr.to(device), generator=generator)
        drawn = [degrader(hr.to(device), generator=generator) for _ in range(3)]
    clean = torch.nn.functional.avg_pool2d(hr, degrader.config.scale)
    rows = [[to_image(part[i]) for part in (hr, clean, lr, like, *drawn)] for i in range(len(hr))]
    titles = ["HR", "clean", "real / recipe LR", "ours, like it", "ours", "ours", "ours"]
    sheet = contact_sheet(rows, column_titles=titles, row_titles=["pair" if p else "unpaired" for p in paired.tolist()])
    path.write_bytes(encode_sheet(sheet))


def plot_curves(metrics: Path, path: Path, curves: Sequence[str] = CURVES) -> None:
    """Draw the curves of metrics.jsonl as small multiples, each with its own range; nothing while it is empty.

    Args:
        metrics: one json object a line, with ``step``.
        path: the png to write.
        curves: names, in this order.
    """
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    names = [name for name in curves if any(name in line for line in lines)]
    panels = [_curve(name, [(x["step"], x[name]) for x in lines if name in x]) for name in names]
    columns = 3
    if not panels:
        return
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    grid = [np.hstack(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    path.write_bytes(encode_sheet(np.vstack(grid)))


def _curve(name: str, points: list[tuple[int, float]], width: int = 360, height: int = 200) -> Rgb:
    panel = np.full((height, width, 3), 255, np.uint8)
    left, right, top, bottom = 12, width - 12, 34, height - 22
    cv2.rectangle(panel, (left, top), (right, bottom), (225, 225, 225), 1)
    steps, values = np.array(points, np.float64).T
    # The first values of a run are far off and would flatten everything after them.
    low, high = np.quantile(values, [0, 0.98]) if len(values) > 20 else (values.min(), values.max())
    span = (high - low) or 1.0
    x = left + (right - left) * (steps - steps[0]) / max(1, steps[-1] - steps[0])
    y = bottom - (bottom - top) * np.clip((values - low) / span, 0, 1)
    line = np.stack([x, y], 1).round().astype(np.int32)
    cv2.polylines(panel, [line], False, (40, 90, 200), 1, cv2.LINE_AA)
    if len(line) == 1:  # no line to see
        cv2.circle(panel, line[0].tolist(), 3, (40, 90, 200), -1, cv2.LINE_AA)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(panel, f"{name}: {values[-1]:.4g}", (left, 22), font, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    label = f"step {int(steps[-1])}   range {low:.3g} .. {high:.3g}"
    cv2.putText(panel, label, (left, height - 6), font, 0.38, (120, 120, 120), 1, cv2.LINE_AA)
    return panel


def write_card(
    folder: Path, config: dict[str, Any], summary: dict[str, Any], *, title: str, what: str, tags: str, command: str
) -> None:
    """Write the model card of a run: what was trained, how to train it again, and its last figures.

    Args:
        folder: where the weights are.
        config: settings of the run; the images behind the weights that they name are behind these weights too.
        summary: with ``steps``, ``seconds``, ``metrics`` and ``left_out``.
        title: heading.
        what: a sentence on how to load the weights and what they do.
        tags: tags for the hub.
        command: the command that trained it.
    """
    figures = "\n".join(f"| {name} | {value:.4g} |" for name, value in summary["metrics"].items())
    origin = ", ".join(f"{part} {config[name]}" for name, part in ORIGINS.items() if config.get(name))
    left_out = "".join(f"- {reason}\n" for reason in summary["left_out"]) or "- nothing\n"
    (folder / "README.md").write_text(
        f"""---
library_name: diffusers
tags: [{tags}]
---
# {title}

{what}

Trained for {summary["steps"]} steps in {summary["seconds"]} s, seed {config["schedule"]["seed"]}, with

    {command}

It started from {origin or "new networks"}.

| last logged | value |
|---|---|
{figures}

Data: {json.dumps(config["data"])}

Left out of training:

{left_out}"""
    )

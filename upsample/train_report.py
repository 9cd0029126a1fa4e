"""What a training run of an upsampler leaves for people to look at: its curves and the model card."""

import json
from pathlib import Path
from typing import Any

CURVES = (
    "loss",
    "psnr",
    "val_psnr_y",
    "val_ssim_y",
    "x0",
    "distill",
    "inverse",
    "gt",
    "pair",
    "perceptual",
    "cycle",
    "critic_hr",
    "adversarial_hr",
    "critic_lr",
    "degrader_adversarial",
    "degrader_energy",
    "degrader_spread",
    "realism_kid",
    "realism_w1",
)


def write_card(out: Path, folder: Path, summary: dict[str, Any], command: str) -> None:
    """The model card of a run: what was trained, how to make it again, and what its last figures were.

    Args:
        out: of the run, with train_config.json.
        folder: of the weights.
        summary: of `upsample.train.train`.
        command: that made it.
    """
    config = json.loads((out / "train_config.json").read_text())
    figures = "\n".join(f"| {name} | {value:.4g} |" for name, value in summary["metrics"].items())
    left_out = "".join(f"- {reason}\n" for reason in summary["left_out"]) or "- nothing\n"
    (folder / "README.md").write_text(
        f"""---
library_name: diffusers
tags: [super-resolution]
---
# An upsampler: {summary["stage"]}

`ResidualShiftUpsampler.from_pretrained(<this folder>)` upscales LR images by {config["scale"]}.

Trained for {summary["steps"]} steps in {summary["seconds"]} s, seed {config["seed"]}, with

    {command or "upsample.train.train(config, out)"}

| last logged | value |
|---|---|
{figures}

Data: {json.dumps(config["data"])}

Left out of training:

{left_out}"""
    )

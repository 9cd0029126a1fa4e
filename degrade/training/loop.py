"""Train a degrader: the loop around `train_step`, its log, its checkpoints, and the bank of codes at the end."""

import time
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from degrade.degrader import RealisticDegrader
from degrade.training.config import DegraderTrainConfig
from degrade.training.data import TrainingData
from degrade.training.report import plot_curves, sample_sheet, write_card
from degrade.training.state import RunLog, TrainState, open_run, saved_at
from degrade.training.step import Models, Optimizers, train_step

BANK_CROPS_PER_IMAGE = 4
BANK_CROP_LR = 64


def train(
    config: DegraderTrainConfig,
    out: Path,
    *,
    device: str = "cpu",
    mixed_precision: str = "no",
    resume: bool = False,
    log_every: int = 20,
    sample_every: int = 500,
    save_every: int = 500,
    loaders: int = 1,
    command: str = "",
    progress: bool = True,
) -> dict[str, Any]:
    """Train to ``config.steps`` and leave the degrader in ``out/degrader``.

    Args:
        config: the run.
        out: folder of the run: train_config.json, metrics.jsonl, tensorboard events, curves.png, samples/, one state
            file for resuming, and degrader/, which `RealisticDegrader.from_pretrained` loads.
        device: where the networks run.
        mixed_precision: "no" or "bf16".
        resume: go on from the state in ``out`` (or start, when there is none yet).
        log_every: steps between lines of metrics.jsonl.
        sample_every: steps between contact sheets.
        save_every: steps between states.
        loaders: processes that make batches; the batches do not depend on it.
        command: what to write into the model card.
        progress: show a bar.

    Returns:
        summary: steps, seconds, the last metrics, the folder of the degrader, and the images left out.

    Raises:
        ValueError: ``out`` holds another run, or the data do not fit.
    """
    data = TrainingData(
        config.data, scale=config.scale, hr_crop=config.hr_crop, batch_size=config.batch_size, seed=config.seed
    )
    models = Models.build(config)
    state_file = out / "state.safetensors"
    open_run(config, out, resume=resume)  # last: what fails before leaves no folder
    start, seconds_before = saved_at(state_file)
    for module in models.parts().values():
        module.to(device)
    optimizers = Optimizers.build(models, config)
    ema = EMAModel(models.degrader.parameters(), decay=config.ema_decay)
    state = TrainState(models.parts(), vars(optimizers), {"degrader": ema})
    if start:
        state.load(state_file)
    autocast = torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=mixed_precision == "bf16")
    batches = DataLoader(
        data, batch_size=None, sampler=range(start, config.steps), num_workers=loaders,
        prefetch_factor=4 if loaders else None, worker_init_fn=one_thread_each,
    )  # fmt: skip
    log = RunLog(out, start)
    began = time.monotonic() - seconds_before
    recent: list[dict[str, float]] = []
    bar = tqdm(batches, initial=start, total=config.steps, unit="step", disable=None if progress else True)
    for step, batch in enumerate(bar, start):
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        recent.append(train_step(models, optimizers, batch, config, step, generator, autocast))
        if config.ema_decay:
            ema.step(models.degrader.parameters())
        done = step + 1
        saving = done % save_every == 0 or done == config.steps
        if done % log_every == 0 or saving:  # also at checkpoints: a resumed run could not write what is not logged
            names = sorted({name for r in recent for name in r})
            mean = {k: sum(r[k] for r in recent if k in r) / sum(k in r for r in recent) for k in names}
            log.write({"step": done, "seconds": round(time.monotonic() - began, 1), **mean})
            bar.set_postfix(loss=f"{mean['loss']:.3f}", spread=f"{mean['spread']:.3f}")
            recent = []
        if saving or done % sample_every == 0:
            averaged = averaged_degrader(models.degrader, ema if config.ema_decay else None, data)
            if done % sample_every == 0 or done == config.steps:
                sample_sheet(averaged, data, out / "samples" / f"{done:06d}.png")
            if saving:
                averaged.save_pretrained(out / "degrader")
                plot_curves(out / "metrics.jsonl", out / "curves.png")
                state.save(state_file, done, time.monotonic() - began)
    summary = {
        "steps": config.steps,
        "seconds": round(time.monotonic() - began),
        "degrader": str(out / "degrader"),
        "metrics": log.last,
        "left_out": data.left_out,
    }
    write_card(
        out / "degrader",
        asdict(config),
        summary,
        title="A realistic degrader",
        what="`RealisticDegrader.from_pretrained(<this folder>)` makes LR images of HR images.",
        tags="super-resolution, degradation",
        command=command or "degrade.training.loop.train(config, out)",
    )
    return summary


def averaged_degrader(trained: RealisticDegrader, ema: EMAModel | None, data: TrainingData) -> RealisticDegrader:
    """Copy a degrader with its averaged weights, and give it a bank of codes.

    Args:
        trained: the degrader that learns.
        ema: its moving average; None = the weights as they are.
        data: the bank holds codes of its real LR images, or else of LR images made by its recipes.
    """
    degrader = deepcopy(trained)
    if ema is not None:
        ema.copy_to(degrader.parameters())
    crops = data.real_lr_crops(BANK_CROPS_PER_IMAGE, BANK_CROP_LR)
    if not crops:
        crops = [data[-1 - i]["lr"] for i in range(64)]  # steps that training never reaches
    with torch.inference_mode():
        codes = [degrader.encode(part.to(degrader.device)) for part in crops]
    degrader.set_bank(torch.cat(codes))
    return degrader.eval()


def one_thread_each(_: int) -> None:
    """For the loaders: the cores are the training's."""
    torch.set_num_threads(1)

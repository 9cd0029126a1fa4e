"""Train an upsampler: the loop around the steps of the three stages.

teacher    ResShift: a chain of T steps (`upsample.training.teacher`)
student    SinSR: one step, distilled from the teacher (`upsample.training.colearn`, the arrows of the degrader off)
colearn    the paper: student and degrader together, under D_H and D_L, with the cycle (`upsample.training.colearn`)
"""

import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from tqdm import tqdm

from degrade.training.report import write_card
from degrade.training.state import RunLog
from upsample.training.config import UpsampleTrainConfig
from upsample.training.run import Run, RunOptions


def train(config: UpsampleTrainConfig, out: Path, options: RunOptions | None = None) -> dict[str, Any]:
    """Train to ``config.steps`` and leave the averaged weights in ``out``: teacher/, or student/ and degrader/.

    Started by ``torchrun`` or ``accelerate launch`` it trains in several processes, each with its own batches;
    ``batch_size`` is of one process.

    Args:
        config: the run.
        out: folder of the run: train_config.json, metrics.jsonl, tensorboard events, curves.png, samples/,
            checkpoints/, and the weights.
        options: how to run it.

    Returns:
        summary: process, stage, steps, seconds, the last metrics, the folder of the weights, what was left out, and,
        when a degrader learned, at which step its stop signal was lowest. Only process 0 has metrics.

    Raises:
        ValueError: ``out`` holds another run, or the settings do not fit.
    """
    options = options or RunOptions()
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=12))  # others wait while one stores the answers
    accelerator = Accelerator(cpu=options.device == "cpu", kwargs_handlers=[patience])
    run = Run(config, out, options, accelerator)
    loop = run.batches()
    log = RunLog(out, run.start) if accelerator.is_main_process else None
    began = time.monotonic() - run.seconds_before
    recent: list[dict[str, float]] = []
    hidden = None if options.progress and accelerator.is_main_process else True
    bar = tqdm(range(run.start, config.steps), initial=run.start, total=config.steps, unit="step", disable=hidden)
    for step in bar:
        recent += [run.step(step, micro, next(loop)) for micro in range(config.gradient_accumulation_steps)]
        run.average()
        done, final = step + 1, step + 1 == config.steps
        news: dict[str, float] = {}
        saving = done % options.checkpoint_every == 0 or final
        if done % options.log_every == 0 or saving:  # at checkpoints too: what is not written then is lost by a kill
            names = sorted({name for r in recent for name in r})
            news = {k: sum(r[k] for r in recent if k in r) / sum(k in r for r in recent) for k in names}
            recent = []
        if accelerator.is_main_process and log is not None:
            if done % options.validate_every == 0 or final:
                news |= run.look(out / "samples" / f"{done:07d}.png")
            if news:
                log.write({"step": done, "seconds": round(time.monotonic() - began, 1), **news})
                bar.set_postfix({k: f"{news[k]:.3f}" for k in ("loss", "psnr", "val_psnr_y") if k in news})
        if saving:
            run.save(done, time.monotonic() - began)
    accelerator.wait_for_everyone()
    summary = {
        "process": accelerator.process_index,
        "stage": config.stage,
        "steps": config.steps,
        "seconds": round(time.monotonic() - began),
        "weights": str(run.folder),
        "metrics": log.last if log else {},
        "left_out": list(dict.fromkeys(run.left_out)),
        **(log.lowest("realism_w1") if log else {}),
    }
    if accelerator.is_main_process:
        write_card(
            run.folder,
            asdict(config),
            summary,
            title=f"An upsampler: {config.stage}",
            what=f"`ResidualShiftUpsampler.from_pretrained(<this folder>)` upscales LR images by {config.scale}.",
            tags="super-resolution",
            command=options.command or "upsample.training.loop.train(config, out)",
        )
    return summary

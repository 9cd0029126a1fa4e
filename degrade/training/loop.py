"""The training loop of degraders and upsamplers: batches, precision, averages, logs, checkpoints, resume, processes.

A step is a function of the settings, the weights and its number alone, so that a run that was killed and resumed has
the numbers of an unbroken one.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from degrade.seeds import torch_seed
from degrade.training.checkpoints import Checkpoints
from degrade.training.config import Schedule
from degrade.training.log import RunLog, means
from degrade.training.run_folder import open_run_folder
from degrade.training.state import TrainState
from degrade.training.step import Step

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is run; none of it changes what is trained.

    Attributes:
        device: "auto", "cpu", "cuda" or "mps"; each process takes a GPU of its own.
        mixed_precision: "no" or "bf16"; ``accelerate launch`` can set it too.
        resume: "" for a new run; "latest", or the path of a checkpoint of this run.
        log_every: steps between lines of metrics.jsonl.
        validate_every: steps between validations and pictures.
        checkpoint_every: steps between checkpoints.
        checkpoints_total_limit: checkpoints that are kept, the newest.
        loaders: processes that make batches; the batches do not depend on their number.
        command: written into the model card.
        progress: show a bar.
    """

    device: str = "auto"
    mixed_precision: str = "no"
    resume: str = ""
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 500
    checkpoints_total_limit: int = 2
    loaders: int = 1
    command: str = ""
    progress: bool = True


class Training(Protocol):
    """What the loop needs of a training: the degrader's and the upsampler's have it.

    Attributes:
        state: networks, optimizers, averages and tensors, for checkpoints.
        left_out: one sentence for each image or pair that is not used.
    """

    state: TrainState
    left_out: list[str]

    def begin(self, out: Path) -> None:
        """Prepare what needs the folder of the run and the weights that a checkpoint may have brought."""

    def batches(self, numbers: range) -> Iterator[Any]:
        """Yield the batches with these numbers, in order."""

    def step(self, batch: Any, step: Step) -> dict[str, float]:
        """Take one micro-batch, and update the weights when ``step.update`` says so; return the terms of the loss."""

    def average(self) -> None:
        """Update the moving averages of the weights."""

    def validate(self, picture: Path) -> dict[str, float]:
        """Score the averaged weights and write a picture."""

    def save_weights(self, out: Path) -> None:
        """Write the averaged weights."""


def make_accelerator(options: RunOptions) -> Accelerator:
    """Join the processes that ``torchrun`` or ``accelerate launch`` started; one process without them."""
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=12))  # others wait while one stores teacher's answers
    return Accelerator(cpu=options.device == "cpu", kwargs_handlers=[patience])


def make_autocast(options: RunOptions, accelerator: Accelerator) -> torch.autocast:
    """Return the mixed precision of the network calls."""
    bf16 = "bf16" in (options.mixed_precision, accelerator.mixed_precision)
    return torch.autocast(accelerator.device.type, dtype=torch.bfloat16, enabled=bf16)


def run_training(
    training: Training,
    config: "DataclassInstance",
    schedule: Schedule,
    out: Path,
    options: RunOptions,
    accelerator: Accelerator,
) -> dict[str, Any]:
    """Train to ``schedule.steps``, or resume and train the rest.

    Args:
        training: what is trained.
        config: all settings, written into ``out``; a resumed run must have the same, but for the number of steps.
        schedule: the schedule in ``config``.
        out: folder of the run: train_config.yaml, metrics.jsonl, tensorboard events, samples/ and checkpoints/.
        options: how to run it.
        accelerator: knows the processes.

    Returns:
        summary: process, steps, seconds, the last metrics, and what was left out. Only process 0 has metrics.

    Raises:
        ValueError: ``out`` holds another run, or a checkpoint does not fit.
    """
    checkpoints = Checkpoints(out / "checkpoints", training.state, accelerator, options.checkpoints_total_limit)
    start, seconds_before = checkpoints.resume(options.resume)
    main = accelerator.is_main_process
    if main:
        open_run_folder(config, out, done=start, resume=bool(options.resume))
    accelerator.wait_for_everyone()
    training.begin(out)
    log = RunLog(out, start) if main else None
    began = time.monotonic() - seconds_before
    take = _taker(training, schedule, options, accelerator, start)
    recent: list[dict[str, float]] = []
    hidden = None if options.progress and main else True
    bar = tqdm(range(start, schedule.steps), initial=start, total=schedule.steps, unit="step", disable=hidden)
    for number in bar:
        recent += take(number)
        training.average()
        done, last = number + 1, number + 1 == schedule.steps
        saving = last or done % options.checkpoint_every == 0
        news: dict[str, float] = {}
        if saving or done % options.log_every == 0:  # at checkpoints too: a resumed run cannot log what came before
            news, recent = means(recent), []
        if log is not None:
            if last or done % options.validate_every == 0:
                news |= training.validate(out / "samples" / f"{done:07d}.png")
            if news:
                log.write({"step": done, "seconds": round(time.monotonic() - began, 1), **news})
                bar.set_postfix({k: f"{news[k]:.3f}" for k in ("loss", "psnr", "val_psnr_y") if k in news})
        if saving:
            if main:
                training.save_weights(out)
            checkpoints.save(done, time.monotonic() - began)
    accelerator.wait_for_everyone()
    own = {"process": accelerator.process_index, "steps": schedule.steps, "seconds": round(time.monotonic() - began)}
    return {**own, **_figures(training, log)}


def _figures(training: Training, log: RunLog | None) -> dict[str, Any]:
    """Return the last metrics, the step of the lowest stop signal, and what was left out."""
    metrics = {"metrics": log.last, **log.lowest("realism_w1")} if log else {"metrics": {}}
    return {**metrics, "left_out": list(dict.fromkeys(training.left_out))}


def _taker(
    training: Training, schedule: Schedule, options: RunOptions, accelerator: Accelerator, start: int
) -> Callable[[int], list[dict[str, float]]]:
    """Return a function that takes all micro-batches of a step, and returns the terms of each."""
    micro_batches = schedule.gradient_accumulation_steps
    processes, rank = accelerator.num_processes, accelerator.process_index
    # Batches count through steps, micro-batches and processes, so that no two of a run are alike.
    numbers = range(start * micro_batches * processes + rank, schedule.steps * micro_batches * processes, processes)
    batches = zip(numbers, training.batches(numbers), strict=False)
    autocast = make_autocast(options, accelerator)

    def take(number: int) -> list[dict[str, float]]:
        terms = []
        for micro in range(micro_batches):
            batch_number, batch = next(batches)
            generator = torch.Generator().manual_seed(torch_seed(schedule.seed * 1_000_003 + batch_number))
            update = micro == micro_batches - 1
            terms.append(training.step(batch, Step(number, generator, autocast, update)))
        if not math.isfinite(loss := sum(each["loss"] for each in terms)):
            raise ValueError(
                f"the loss is {loss} at step {number + 1}, so the weights are lost; start again with a lower "
                "--learning-rate, in another --out"
            )
        return terms

    return take


class NumberedBatches(Protocol):
    """What makes batches by their number, and names the images that it cannot use, also those that it meets later."""

    @property
    def left_out(self) -> list[str]:
        """Return one sentence for each image or pair that is not used."""

    def __getitem__(self, number: int) -> Batch:
        """Make the batch with a number."""


def load_batches(data: NumberedBatches, numbers: Iterable[int], loaders: int, left_out: list[str]) -> Iterator[Batch]:
    """Yield the batches of a data set with these numbers.

    Args:
        data: makes the batches.
        numbers: which ones.
        loaders: processes that make them, each with a copy of the data; 0 makes them in this process.
        left_out: gets a sentence for each image that turns out to be broken while batches are made, wherever that is.
    """
    batches = DataLoader(
        _WithLeftOut(data),
        batch_size=None,
        sampler=numbers,
        num_workers=loaders,
        prefetch_factor=4 if loaders else None,
        worker_init_fn=_one_thread,
    )
    for batch, found in batches:
        left_out += found
        yield batch


class _WithLeftOut(Dataset[tuple[Batch, list[str]]]):
    """Give each batch, and the sentences about images that this process has found broken since the last one."""

    def __init__(self, data: NumberedBatches) -> None:
        self.data, self.known = data, set(data.left_out)

    def __getitem__(self, number: int) -> tuple[Batch, list[str]]:
        batch = self.data[number]
        found = [reason for reason in self.data.left_out if reason not in self.known]
        self.known.update(found)
        return batch, found


def _one_thread(_: int) -> None:
    """Leave the cores to the training."""
    torch.set_num_threads(1)

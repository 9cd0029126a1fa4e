"""Train a degrader: its networks, its data and its outputs, driven by `degrade.training.loop`."""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from degrade.degrader import RealisticDegrader
from degrade.images.tensors import to_tensors
from degrade.training.average import moving_average
from degrade.training.config import DegraderTrainConfig
from degrade.training.data import TrainingData
from degrade.training.directions import find_directions
from degrade.training.loop import RunOptions, load_batches, make_accelerator, run_training
from degrade.training.report import CURVES, plot_curves, sample_sheet, write_card
from degrade.training.state import TrainState
from degrade.training.step import Models, Optimizers, Step, train_step

BANK_BATCHES = 64


def train(config: DegraderTrainConfig, out: Path, options: RunOptions | None = None) -> dict[str, Any]:
    """Train a degrader and leave its averaged weights in ``out/degrader``.

    ``torchrun`` or ``accelerate launch`` start it in several processes, each with batches of its own.

    Args:
        config: what to train.
        out: folder of the run: train_config.yaml, metrics.jsonl, tensorboard events, curves.png, samples/, checkpoints/
            and degrader/, which `RealisticDegrader.from_pretrained` loads.
        options: how to run it.

    Returns:
        summary: process, steps, seconds, the last metrics, the folder of the degrader, and the images left out.

    Raises:
        ValueError: ``out`` holds another run, or the data do not fit.
    """
    options = options or RunOptions()
    accelerator = make_accelerator(options)
    training = DegraderTraining(config, options, accelerator)
    summary = run_training(training, config, config.schedule, out, options, accelerator)
    summary["degrader"] = str(out / "degrader")
    if accelerator.is_main_process:
        write_card(
            out / "degrader",
            asdict(config),
            summary,
            title="A realistic degrader",
            what="`RealisticDegrader.from_pretrained(<this folder>)` makes LR images of HR images.",
            tags="super-resolution, degradation",
            command=options.command or "degrade.training.run.train(config, out)",
        )
    return summary


class DegraderTraining:
    """The networks, data and optimizers of one run; see `degrade.training.loop.Training` for its methods.

    Args:
        config: what to train.
        options: how to run it.
        accelerator: knows the device and the processes.

    Raises:
        ValueError: the data do not fit.
    """

    def __init__(self, config: DegraderTrainConfig, options: RunOptions, accelerator: Accelerator) -> None:
        schedule = config.schedule
        self.config, self.options, self.device = config, options, accelerator.device
        self.data = TrainingData(
            config.data,
            scale=config.scale,
            hr_crop=schedule.hr_crop,
            batch_size=schedule.batch_size,
            seed=schedule.seed,
        )
        self.left_out = list(self.data.left_out)
        self.models = Models.build(
            start_from=config.start_from,
            scale=config.scale,
            size=config.size,
            critic_width=config.critic.width,
            seed=schedule.seed,
        )
        for network in self.models.parts().values():
            network.to(self.device)
        self.optimizers = Optimizers.build(self.models, accelerator, clip=schedule.grad_clip)
        self.average_of = moving_average(self.models.degrader, schedule.ema_decay)
        optimizers = {"generator": self.optimizers.generator.adamw, "critic": self.optimizers.critic.adamw}
        self.state = TrainState(self.models.parts(), optimizers, {"degrader": self.average_of})

    def begin(self, out: Path) -> None:
        """Nothing is to be prepared."""

    def batches(self, numbers: range) -> Iterator[dict[str, Tensor]]:
        """Yield the batches with these numbers."""
        return load_batches(self.data, numbers, self.options.loaders, self.left_out)

    def step(self, batch: dict[str, Tensor], step: Step) -> dict[str, float]:
        """Take one micro-batch."""
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        return train_step(self.models, self.optimizers, batch, self.config, step)

    def average(self) -> None:
        """Update the moving average of the degrader's weights."""
        if self.config.schedule.ema_decay:
            self.average_of.update_parameters(self.models.degrader)

    def averaged(self) -> RealisticDegrader:
        """Return a copy of the degrader with averaged weights and a bank."""
        average = self.average_of if self.config.schedule.ema_decay else None
        return averaged_degrader(self.models.degrader, average, self.data)

    def validate(self, picture: Path) -> dict[str, float]:
        """Draw a sheet of samples; it has no score."""
        sample_sheet(self.averaged(), self.data, picture)
        return {}

    def save_weights(self, out: Path) -> None:
        """Write the averaged degrader, with the directions of its codes, and the curves."""
        degrader = self.averaged()
        hr = torch.cat([self.data[-1 - i]["hr"] for i in range(BANK_BATCHES)])  # numbers that training never reaches
        degrader.set_directions(find_directions(degrader, hr.to(degrader.device)))
        degrader.save_pretrained(out / "degrader")
        plot_curves(out / "metrics.jsonl", out / "curves.png", CURVES)


def averaged_degrader(
    trained: RealisticDegrader, average: AveragedModel | None, data: TrainingData
) -> RealisticDegrader:
    """Copy a degrader with its averaged weights, and give it a bank of codes.

    Args:
        trained: the degrader that learns.
        average: the moving average of its weights; None = the weights as they are.
        data: the bank holds codes of its real LR images, or else of LR images made by its recipes.
    """
    degrader = deepcopy(trained)
    if average is not None:
        degrader.load_state_dict(average.module.state_dict())
    crops: Iterable[Tensor] = map(to_tensors, data.real_lr_crops)
    if not data.real_lr_crops:
        crops = [data[-1 - i]["lr"] for i in range(BANK_BATCHES)]  # numbers that training never reaches
    with torch.inference_mode():
        codes = [degrader.encode(part.to(degrader.device)) for part in crops]
    degrader.set_bank(torch.cat(codes))
    return degrader.eval()

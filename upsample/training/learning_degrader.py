"""LearningDegrader: the degrader that learns beside the student in co-learning."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from degrade.degrader import RealisticDegrader
from degrade.images.crops import ImagePool, list_lr
from degrade.images.tensors import to_tensors
from degrade.realism.stop_signal import StopSignal
from degrade.training.average import moving_average
from degrade.training.data import DataConfig, TrainingData
from degrade.training.loop import load_batches
from degrade.training.run import averaged_degrader
from degrade.training.step import Models
from upsample.training.config import UpsampleTrainConfig

REFERENCE_SIDE = 32  # LR pixels of the crops whose looks are read anew at every step
REFERENCE_CROPS = 8  # of each reference photograph


class LearningDegrader:
    """Hold the networks that learn, the data they learn from, and the copy that makes pairs meanwhile.

    Args:
        config: the settings of the run.
        models: the degrader G, its texture head and D_L, trained in place by `colearn_step`.
        maker: the copy of G that makes pairs; it follows the averaged weights.

    Attributes:
        average: the moving average of G's weights.
        left_out: one sentence for each image or pair that is not used.

    Raises:
        ValueError: the data do not fit.
    """

    def __init__(self, config: UpsampleTrainConfig, models: Models, maker: RealisticDegrader) -> None:
        self.config, self.models, self.maker = config, models, maker
        data, schedule = config.data, config.schedule
        own = DataConfig(
            hr_dir=data.hr_dir,
            recipes=data.recipes,
            pairs=data.pairs,
            lr_dirs=config.real_lr,
            weights=config.degrader.weights,
            max_hr_side=data.max_hr_side,
        )
        self.references: Tensor | None = None
        self.left_out: list[str] = []
        if data.reference_dirs:
            looks = [source for folder in data.reference_dirs for source in list_lr(Path(folder))]
            pool = ImagePool.open(looks, min_side=REFERENCE_SIDE)
            crops = pool.crops(REFERENCE_CROPS * len(pool.sources), REFERENCE_SIDE, schedule.seed, grid=8)
            self.references = to_tensors(crops)
            self.left_out += pool.left_out
        self.data = TrainingData(
            own,
            scale=config.scale,
            hr_crop=schedule.hr_crop,
            batch_size=config.degrader.batch_size,
            seed=schedule.seed,
        )
        self.left_out += self.data.left_out
        self.average = moving_average(models.degrader, schedule.ema_decay)

    def stop_signal(self) -> StopSignal | None:
        """Build the stop signal; None without real LR, or when the images are too small to measure."""
        real = [*self.config.real_lr, *(lr for _, lr in self.config.data.pairs)]
        if not real:
            return None
        data = self.config.data
        try:
            return StopSignal(data.hr_dir, real, scale=self.config.scale, max_hr_side=data.max_hr_side)
        except ValueError as err:  # images that are large enough to learn from may be too small to measure
            self.left_out.append(f"the stop signal: {err}")
            return None

    def batches(self, numbers: range, loaders: int, left_out: list[str]) -> Iterator[dict[str, Tensor]]:
        """Yield the batches that the degrader learns from; see `load_batches`."""
        return load_batches(self.data, numbers, loaders, left_out)

    def looks(self, lr: Tensor, generator: torch.Generator) -> Tensor:
        """Encode this step's looks with the current degrader, because its stored bank predates its training.

        Args:
            lr: the LR images of the degrader's own batch, in [0, 1]; reference photographs take their place.
            generator: draws among the references.
        """
        if self.references is not None:
            rows = torch.randint(len(self.references), (self.config.schedule.batch_size,), generator=generator)
            lr = self.references[rows].to(lr)
        with torch.no_grad():
            return self.maker.encode(lr)

    def step_average(self) -> None:
        """Update the moving average, and give the copy that makes pairs its weights."""
        if self.config.schedule.ema_decay:
            self.average.update_parameters(self.models.degrader)
        self.follow()

    def follow(self) -> None:
        """Give the copy that makes pairs the averaged weights."""
        learned = self.average.module if self.config.schedule.ema_decay else self.models.degrader
        for ours, theirs in zip(self.maker.parameters(), learned.parameters(), strict=True):
            ours.data.copy_(theirs.data)

    def averaged(self) -> RealisticDegrader:
        """Return a copy of the degrader with averaged weights, and a bank of the looks that it learns from."""
        average = self.average if self.config.schedule.ema_decay else None
        return averaged_degrader(self.models.degrader, average, self.data)

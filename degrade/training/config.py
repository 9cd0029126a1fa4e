"""Configure the training of a degrader. `upsample.training.config` uses the same parts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from degrade.files.mappings import read_mapping
from degrade.training.config_file import resolve
from degrade.training.data import DataConfig, fitting_crop

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a run trains, on how many images at a time, and how fast."""

    steps: Count = 10_000  # optimizer steps
    batch_size: Count = 16  # samples of one process in one micro-batch
    gradient_accumulation_steps: Count = 1  # micro-batches of one step
    hr_crop: Count = 128  # side of the HR crops, HR pixels
    learning_rate: Rate = 5e-4  # after the warm-up; a cosine lowers it to a tenth
    warmup_steps: Annotated[int, Field(ge=0)] = 200  # 0 = no warm-up
    ema_decay: Share = 0.999  # of the moving average of the weights, per step; 0 = no average
    grad_clip: Weight = 1.0  # largest norm of the gradient; 0 = no limit
    seed: Annotated[int, Field(ge=0)] = 0

    def rate_factor(self, step: int) -> float:
        """Return what multiplies a peak learning rate at a step: a linear warm-up, then a cosine down to a tenth.

        It depends on the number of the step alone, so that a resumed run continues it.
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """When critics begin to count: 0 before ``start``, then a linear rise to 1; both are shares of the steps."""

    start: Share = 0.2
    length: Annotated[float, Field(gt=0)] = 0.1

    def at(self, step: int, steps: int) -> float:
        """Return the factor, 0..1, at a step of a run of ``steps``."""
        return min(1.0, max(0.0, (step / steps - self.start) / self.length))


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """One discriminator: its size, its speed, and its gradient penalty."""

    width: Count = 48  # channels of its first layer
    learning_rate: Rate = 4e-4  # the same at every step
    penalty: Weight = 0.002  # weight of R1 on real images; 0 = no penalty
    penalty_every: Count = 16  # steps between penalties, each of which counts that many times

    def penalty_at(self, step: int) -> float:
        """Return the weight of the gradient penalty at a step; 0 at most of them."""
        return self.penalty * self.penalty_every if step % self.penalty_every == 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class DegraderSize:
    """The networks of a new degrader."""

    widths: tuple[Count, Count, Count] = (48, 64, 96)  # channels of the U-Net at its three sizes
    blocks: Count = 2  # residual blocks at each size
    embedding_dim: Count = 128
    encoder_widths: tuple[Count, Count, Count] = (32, 64, 96)
    code_dim: Count = 16
    num_train_timesteps: Count = 4  # T, steps of the chain
    kappa: Rate = 1.0  # noise of the chain, in units of the image range [-1, 1]


@dataclass(frozen=True, kw_only=True)
class DegraderLoss:
    """The weights of the degrader's loss; 0 switches a term off. Images are in [-1, 1] unless a line says otherwise."""

    prior_share: Share = 0.6  # samples drawn at t = T, where one-step sampling starts; the rest lie anywhere below
    energy: Weight = 4.0  # energy score of two samples, in mean absolute pixel differences; 0 = no x0 loss
    energy_patches: tuple[Count, ...] = (3, 8)  # sides of the patches that the score compares, LR pixels
    texture: Weight = 0.5  # log statistics of the texture; 0 = noise and sharpness are left to the other terms
    low: Weight = 1.0  # low frequencies, mean absolute difference; 0 = colours are free to drift
    code: Weight = 0.1  # the code that is read from a sample against the one it was told; 0 = not compared
    encoder: Weight = 0.3  # texture that the code predicts, in log units; 0 = the code gets no direct lesson
    compression: Weight = 0.1  # JPEG coarseness and halved colour that recipes know, in log units; 0 = not taught
    kl: Weight = 2e-3  # KL divergence of the codes from N(0, 1), in nats; 0 = codes of any size
    adversarial: Weight = 0.05  # hinge of D_L on real and made LR; 0 = no D_L


@dataclass(frozen=True, kw_only=True)
class DegraderTrainConfig:
    """Everything that decides what a run trains; written into the run as train_config.yaml."""

    start_from: str = ""  # shipped name, folder or hub id of a degrader to start from, with its sizes; "" = a new one
    scale: Annotated[int, Field(ge=1, le=4)] = 4  # HR side / LR side
    data: DataConfig = field(default_factory=DataConfig)
    schedule: Schedule = field(default_factory=Schedule)  # its batch size is even: two samples share a degradation
    size: DegraderSize = field(default_factory=DegraderSize)
    loss: DegraderLoss = field(default_factory=DegraderLoss)
    ramp: Ramp = field(default_factory=Ramp)  # of D_L
    critic: CriticConfig = field(default_factory=CriticConfig)  # D_L


PRESETS = {
    "ci": DegraderTrainConfig(
        schedule=Schedule(hr_crop=64, batch_size=4, steps=20, warmup_steps=2, ema_decay=0.9),
        size=DegraderSize(widths=(16, 16, 16), encoder_widths=(8, 8, 8), embedding_dim=16, blocks=1),
        critic=CriticConfig(width=8),
    ),
    "tiny": DegraderTrainConfig(),
    # From weights that exist to a folder of photographs without HR. The critic alone knows the new look, so it starts
    # early and weighs more; recipes keep the code's meaning alive. In the hidden world of examples/ a third of this
    # weight, later, came out further from real LR by the feature distances and the classifier.
    "fit": DegraderTrainConfig(
        data=DataConfig(recipes=("real-esrgan", "bsrgan"), weights=(0.5, 0.25, 0.5)),
        schedule=Schedule(steps=2_000, learning_rate=2e-4, warmup_steps=100),
        loss=DegraderLoss(adversarial=0.1),
        ramp=Ramp(start=0.05, length=0.1),
    ),
    "paper": DegraderTrainConfig(
        schedule=Schedule(hr_crop=256, batch_size=64, steps=30_000, learning_rate=1e-4, warmup_steps=5_000),
        size=DegraderSize(widths=(192, 384, 512), blocks=4, embedding_dim=512, encoder_widths=(64, 128, 192)),
        critic=CriticConfig(learning_rate=1e-4),
    ),
}


def config_from_options(
    preset: str | None, file: Path | None, given: Mapping[str, Any]
) -> tuple[DegraderTrainConfig, list[str]]:
    """Build the settings of a run from a preset, a file, and the options of the command line, which win.

    Args:
        preset: a name in ``PRESETS``; None for "fit" when real LR images and a degrader to start from are given, else
            "tiny".
        file: YAML or TOML; None for none.
        given: options by dotted name.

    Returns:
        The settings, and sentences on what was added to them.

    Raises:
        ValueError: an unknown key, with the nearest known one, or a value that does not fit.
    """
    settings = {} if file is None else read_mapping(file)
    data = settings["data"] if isinstance(settings.get("data"), Mapping) else {}
    fits = (given.get("data.lr_dirs") or data.get("lr_dirs")) and (
        given.get("start_from") or settings.get("start_from")
    )
    start = PRESETS[preset or ("fit" if fits else "tiny")]
    start = replace(start, data=replace(start.data, recipes=()))  # those of "fit" count only where they are needed
    scale = given.get("scale") or settings.get("scale") or start.scale
    config = resolve(replace(start, schedule=fit_crop(start.schedule, scale)), file, settings, given)
    notes = []
    if config.data.lr_dirs and not (config.data.recipes or config.data.pairs):
        recipes = PRESETS["fit"].data.recipes
        config = replace(config, data=replace(config.data, recipes=recipes))
        notes.append(
            f"unpaired LR images cannot say how HR turns into LR, so {' and '.join(recipes)} are added to teach it "
            "(--recipe chooses others)"
        )
    if config.data.lr_dirs and not config.data.hr_dir:
        notes.append("no --hr-dir: the images of --lr-dir, area-reduced by the scale, stand in for HR")
    return config, notes


def fit_crop(schedule: Schedule, scale: Any) -> Schedule:
    """Make the HR crop a multiple of 8 LR pixels; `resolve` says what is wrong with a scale that is no number."""
    if not isinstance(scale, int) or scale < 1:
        return schedule
    return replace(schedule, hr_crop=fitting_crop(schedule.hr_crop, scale))

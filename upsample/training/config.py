"""Configure the training of an upsampler: everything that decides a run, and the presets."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from degrade.files.mappings import read_mapping
from degrade.files.sources import list_sources
from degrade.training.config import PRESETS as DEGRADER_PRESETS
from degrade.training.config import Count, CriticConfig, DegraderLoss, Ramp, Rate, Schedule, Share, Weight, fit_crop
from degrade.training.config_file import resolve
from upsample.training.data import PairConfig

Stage = Literal["teacher", "student", "colearn"]

# The networks of the papers: ResShift's widths, with diffusers' attention at the two small grids in the place of Swin
# blocks, on latents of LDM's VQ-f4.
PAPER_UNET: dict[str, Any] = {
    "block_out_channels": (160, 320, 320, 640),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "attention_head_dim": 32,
    "resnet_time_scale_shift": "scale_shift",
}
PAPER_AUTOENCODER: dict[str, Any] = {
    "_class_name": "VQModel",
    "block_out_channels": (128, 256, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 2,
    "latent_channels": 3,
    "num_vq_embeddings": 8192,
    "vq_embed_dim": 3,
    "mid_block_add_attention": True,
}


@dataclass(frozen=True, kw_only=True)
class UpsamplerSize:
    """The networks and the chain of a new upsampler."""

    widths: tuple[Count, Count, Count] = (64, 96, 160)  # channels of the U-Net at its three sizes
    blocks: Count = 2  # residual blocks at each size
    embedding_dim: Count = 128
    num_train_timesteps: Count = 15  # T, steps of the teacher's chain
    kappa: Rate = 1.0  # noise of the chain, in units of the latents: 1 for pixels, 2 for an autoencoder's
    min_noise_level: Rate = 0.04  # noise of the first step: 0.04 for T = 15, 0.2 for T = 4
    autoencoder: Mapping[str, Any] | None = None  # arguments of a diffusers autoencoder; None = pixel-unshuffle
    unet2d: Mapping[str, Any] | None = None  # arguments of a diffusers UNet2DModel; None = our own U-Net


@dataclass(frozen=True, kw_only=True)
class StudentLoss:
    """The weights of the student's loss; 0 switches a term off, and its arrow in the paper's figure.

    Latents have the range of images, [-1, 1], when they are unshuffled pixels. The teacher uses ``perceptual`` alone.
    """

    distill: Weight = 1.0  # squared distance to the teacher's answer; 0 = no teacher needed
    # In pixels the teacher's answer hardly tells the noise it came from, so the inverse can only be guessed: at its
    # weight for latents its error, which is that of the noise, would drown the other terms.
    inverse: Weight = 0.5  # squared error of x_T, predicted from the teacher's answer (SinSR); 0 = no inverse
    inverse_until: Share = 1.0  # share of the steps with the inverse; it dominates early and helps little later
    gt: Weight = 1.0  # squared error of x0 on given pairs, from the inverse's x_T as in SinSR, else from a drawn one
    perceptual: Weight = 0.5  # mean absolute error of pixels and gradients at three octaves; 0 = pixels alone
    pair: Weight = 1.0  # squared error of x0 on pairs that the degrader makes; 0 = they teach the degrader alone
    adversarial_hr: Weight = 0.0  # hinge of D_H on the student's pixels; 0 = no D_H


@dataclass(frozen=True, kw_only=True)
class DetailConfig:
    """The detail branch of the student, and the weights of its own terms; D_H and the cycle have theirs."""

    branch: bool = False  # train it; a new one where the student has none
    default: Share = 0.5  # strength that a new branch's weights are saved with
    pixels: Weight = 1.0  # mean absolute error of the sharp image, images in [-1, 1]
    means: Weight = 1.0  # the same of means over 4 x 4 pixels, which keeps colours
    features: Weight = 0.1  # distance of pretrained features, in units of their spread; 0 = not needed


@dataclass(frozen=True, kw_only=True)
class CycleConfig:
    """The cycle LR -> SR -> LR of co-learning."""

    weight: Weight = 0.0  # of its score, in mean absolute pixel differences of LR in [-1, 1]; 0 = no cycle
    score: Literal["energy", "l1"] = "energy"  # l1 takes the noise out of the degrader; kept for the ablation
    gradient: Weight = 0.2  # factor on the cycle's gradient that reaches the student; 0 = it teaches the degrader alone
    guard_noise: Weight = 0.05  # noise on the SR before it is degraded, in [-1, 1]: nothing finer can hide in it


@dataclass(frozen=True, kw_only=True)
class DegraderLearning:
    """How the degrader learns beside the student in co-learning."""

    train: bool = True  # False: it stays as it was
    batch_size: Count = 8  # even: two samples share a degradation
    learning_rate: Rate = 1e-4  # follows the student's schedule
    weights: tuple[Weight, Weight, Weight] = (0.5, 0.25, 0.25)  # how often recipes, pairs and real LR are drawn
    loss: DegraderLoss = field(default_factory=DegraderLoss)
    critic: CriticConfig = field(default_factory=CriticConfig)  # D_L


@dataclass(frozen=True, kw_only=True)
class UpsampleTrainConfig:
    """Everything that decides what a run trains; written into the run as train_config.yaml."""

    stage: Stage = "teacher"
    scale: Annotated[int, Field(ge=1, le=4)] = 4  # HR side / LR side
    teacher: str = ""  # shipped name, folder or hub id; for student and colearn
    start_from: str = ""  # upsampler to start from; "" = a new one, or a copy of the teacher
    first_stage: str = ""  # folder or hub id of a diffusers autoencoder with weights; "" = what `size.autoencoder` says
    data: PairConfig = field(default_factory=PairConfig)
    real_lr: tuple[str, ...] = ()  # folders of real LR photographs for D_L; colearn
    schedule: Schedule = field(default_factory=Schedule)
    size: UpsamplerSize = field(default_factory=UpsamplerSize)
    teacher_steps: Count = 4  # network calls behind one answer of the teacher
    stored_answers: Annotated[int, Field(ge=0)] = (
        0  # pairs whose answers are made once before training; 0 = at each step
    )
    student_learns: bool = True  # False: it stays as it was, and its detail branch learns; colearn
    loss: StudentLoss = field(default_factory=StudentLoss)
    detail: DetailConfig = field(default_factory=DetailConfig)  # colearn
    cycle: CycleConfig = field(default_factory=CycleConfig)
    ramp: Ramp = field(default_factory=lambda: Ramp(start=0.0))  # of critics and cycle
    critic: CriticConfig = field(default_factory=lambda: CriticConfig(width=24))  # D_H
    projected_critic: bool = False  # D_H sees through pretrained features; then its width and penalty have no effect
    degrader: DegraderLearning = field(default_factory=DegraderLearning)
    pool_batches: Annotated[int, Field(ge=0)] = 10  # replay buffer of pairs of earlier degraders, in batches; 0 = none

    def check(self) -> None:
        """Check that the settings fit together.

        Raises:
            ValueError: they do not.
        """
        loss, colearn = self.loss, self.stage == "colearn"
        if self.stage != "teacher" and (loss.distill or loss.inverse) and not self.teacher:
            raise ValueError(
                f"the {self.stage} stage distils from a teacher; give --teacher, or --distill 0 --inverse 0 for none"
            )
        if self.stage != "teacher" and not (self.teacher or self.start_from):
            raise ValueError(f"the {self.stage} stage starts from a student; give --from, or a --teacher to copy")
        if colearn and self.stored_answers:
            raise ValueError("stored answers need pairs that do not change; use them in the student stage")
        if self.stored_answers and self.stage == "teacher":
            raise ValueError("stored answers come from a teacher; use them in the student stage")
        if self.real_lr and not colearn:
            raise ValueError(
                f"real LR without HR teaches D_L, which the {self.stage} stage does not have; use --stage colearn"
            )
        if self.real_lr and not (self.data.online_degrader and self.degrader.train):
            raise ValueError("real LR without HR teaches a degrader; give an --online-degrader and do not freeze it")
        learns = (loss.distill, loss.inverse, loss.gt, loss.perceptual, loss.pair * bool(self.data.weights[3]))
        if self.stage != "teacher" and self.student_learns and not any(learns):
            raise ValueError(
                "distill, inverse, gt, perceptual and pair are all 0, so nothing teaches the student; give one a weight"
            )
        if not colearn and (self.detail.branch or not self.student_learns):
            raise ValueError(
                f"a detail branch learns beside a student, not in the {self.stage} stage; use --stage colearn"
            )
        if not self.student_learns and not self.detail.branch:
            raise ValueError(
                "a frozen student without a detail branch does not change; give --detail-branch, or let it learn"
            )
        new = self.stage == "teacher" and not self.start_from
        if new and self.size.autoencoder and not self.first_stage:
            raise ValueError("the first stage is an autoencoder without weights; give the folder of a trained one")


SHIPPED, SHIPPED_TEACHER, SHIPPED_SCALE = "tiny-x4", "tiny-x4-teacher", 4  # degrader and student have one name
SHIPPED_RECIPE = "real-esrgan-light"
CROPS_PER_PHOTOGRAPH, FEWEST_STEPS = 100, 10  # what the default of --steps comes from for small folders

_CI = UpsampleTrainConfig(
    schedule=Schedule(hr_crop=64, batch_size=4, steps=20, warmup_steps=2, ema_decay=0.9),
    size=UpsamplerSize(widths=(8, 8, 8), blocks=1, embedding_dim=8, num_train_timesteps=4, min_noise_level=0.2),
    critic=CriticConfig(width=8),
    degrader=DegraderLearning(batch_size=4, learning_rate=5e-4, critic=CriticConfig(width=8)),
)
_TINY = UpsampleTrainConfig()
_PAPER = UpsampleTrainConfig(
    schedule=Schedule(hr_crop=256, batch_size=64, steps=30_000, learning_rate=5e-5, warmup_steps=5_000),
    size=UpsamplerSize(kappa=2.0, autoencoder=PAPER_AUTOENCODER, unet2d=PAPER_UNET),
    teacher_steps=15,
    critic=CriticConfig(width=64, learning_rate=1e-4),
    degrader=DegraderLearning(
        batch_size=DEGRADER_PRESETS["paper"].schedule.batch_size,
        learning_rate=DEGRADER_PRESETS["paper"].schedule.learning_rate,
        critic=DEGRADER_PRESETS["paper"].critic,
    ),
)
_CYCLE_OF_PAPER: dict[str, Any] = {
    "cycle": CycleConfig(weight=1.0),
    "loss": StudentLoss(adversarial_hr=0.02, inverse_until=0.3),
}

# The later stages are shorter and gentler.
PRESETS: dict[str, dict[Stage, UpsampleTrainConfig]] = {
    "ci": {
        "teacher": _CI,
        "student": replace(_CI, stage="student"),
        "colearn": replace(_CI, stage="colearn", **_CYCLE_OF_PAPER),
    },
    "tiny": {
        "teacher": _TINY,
        "student": replace(
            _TINY,
            stage="student",
            schedule=Schedule(steps=4_000, learning_rate=2e-4),
            loss=StudentLoss(inverse=0.05),
        ),
        "colearn": replace(
            _TINY,
            stage="colearn",
            schedule=Schedule(steps=1_800, learning_rate=2e-4, ema_decay=0.998),
            loss=StudentLoss(inverse=0.0, distill=0.1, perceptual=0.1, adversarial_hr=0.001),
            cycle=CycleConfig(weight=0.5),
        ),
    },
    "paper": {
        "teacher": replace(_PAPER, schedule=replace(_PAPER.schedule, steps=500_000)),
        "student": replace(_PAPER, stage="student"),
        "colearn": replace(_PAPER, stage="colearn", ramp=Ramp(start=0.2), **_CYCLE_OF_PAPER),
    },
}


def preset(name: str, stage: Stage) -> UpsampleTrainConfig:
    """Return the settings of a size (ci, tiny, paper) at a stage.

    Raises:
        ValueError: an unknown name.
    """
    if name not in PRESETS or stage not in PRESETS[name]:
        sizes, stages = ", ".join(PRESETS), ", ".join(PRESETS["tiny"])
        raise ValueError(f"preset {name!r} at stage {stage!r} is unknown; use {sizes}; {stages}")
    return PRESETS[name][stage]


def config_from_options(preset_name: str, file: Path | None, given: Mapping[str, Any]) -> UpsampleTrainConfig:
    """Build the settings of a run from a preset, a file, and the options of the command line, which win.

    Without a stage, it is co-learning. Without networks or LR images, co-learning takes the shipped ones, and few steps
    when there are few photographs.

    Args:
        preset_name: ci, tiny or paper.
        file: YAML or TOML; None for none.
        given: options by dotted name.

    Raises:
        ValueError: an unknown key, with the nearest known one, or a value that does not fit.
    """
    settings = {} if file is None else read_mapping(file)
    start = preset(preset_name, given.get("stage") or settings.get("stage") or "colearn")
    scale = given.get("scale") or settings.get("scale") or start.scale
    if start.stage == "colearn":
        data = settings.get("data")
        of_file = {f"data.{name}": value for name, value in data.items()} if isinstance(data, Mapping) else {}
        start = _from_shipped_weights(start, scale, {**settings, **of_file, **given})
    return resolve(replace(start, schedule=fit_crop(start.schedule, scale)), file, settings, given)


def _from_shipped_weights(start: UpsampleTrainConfig, scale: int, chosen: Mapping[str, Any]) -> UpsampleTrainConfig:
    """Let co-learning start from the shipped networks where nothing else is chosen.

    Args:
        start: the preset.
        scale: HR side / LR side.
        chosen: what the user gave, by dotted name.
    """
    if not any(chosen.get(f"data.{name}") for name in ("shards", "pairs", "recipes", "online_degrader")):
        start = replace(start, data=replace(start.data, online_degrader=SHIPPED))
    learns = chosen.get("degrader.train", True) and not chosen.get("data.shards")
    if learns and not any(chosen.get(f"data.{name}") for name in ("pairs", "recipes")):
        # A degrader that learns needs pairs whose degradation is known, or its codes lose their meaning.
        start = replace(start, data=replace(start.data, recipes=(SHIPPED_RECIPE,)))
    if scale != SHIPPED_SCALE or chosen.get("teacher") or chosen.get("start_from"):
        return start
    start = replace(start, teacher=SHIPPED_TEACHER, start_from=SHIPPED)
    if hr_dir := chosen.get("data.hr_dir"):
        # Trained networks forget more than they learn when they see the same few photographs again and again.
        crops = CROPS_PER_PHOTOGRAPH * len(list_sources(hr_dir))
        steps = max(FEWEST_STEPS, crops // start.schedule.batch_size)
        if steps < start.schedule.steps:
            start = replace(start, schedule=replace(start.schedule, steps=steps, warmup_steps=steps // 9))
    return start

"""UpsampleTrainConfig: everything that decides a training run of an upsampler, and the presets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from degrade.training.config import PRESETS as DEGRADER_PRESETS
from degrade.training.config import DegraderTrainConfig
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
class UpsampleTrainConfig:
    """Everything that decides a run; written beside the weights as train_config.json.

    A weight of 0 switches its term, and with it its arrow in the paper's figure, off.
    """

    stage: Stage = "teacher"
    data: PairConfig = field(default_factory=PairConfig)
    real_lr: tuple[str, ...] = ()  # folders of real LR photographs for D_L; colearn
    teacher: str = ""  # shipped name, folder or hub id; student and colearn
    start_from: str = ""  # upsampler to go on from; "" = a new one, or a copy of the teacher
    first_stage: str = ""  # folder or hub id of a diffusers autoencoder with weights; "" = what `autoencoder` says
    scale: int = 4
    hr_crop: int = 128
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    steps: int = 10_000
    learning_rate: float = 5e-4  # of the upsampler, after warm-up; falls to a tenth along a cosine
    warmup_steps: int = 200
    ema_decay: float = 0.999  # per step; 0 = no averaging
    grad_clip: float = 1.0  # norm; 0 = none
    seed: int = 0
    # network, when it is new
    widths: tuple[int, int, int] = (64, 96, 160)
    blocks: int = 2
    embedding_dim: int = 128
    num_train_timesteps: int = 15
    kappa: float = 1.0
    min_noise_level: float = 0.04
    autoencoder: Mapping[str, Any] | None = None
    unet2d: Mapping[str, Any] | None = None
    # distillation
    teacher_steps: int = 4  # network calls behind one target
    stored_targets: int = 0  # pairs whose targets are made once, before training; 0 = anew at every step
    distill: float = 1.0
    inverse: float = 0.5
    inverse_until: float = 1.0  # share of the steps; it dominates early and helps little later
    gt: float = 1.0  # from the inverse's x_T, as SinSR; once the inverse is off, from a drawn one
    perceptual: float = 0.5
    # co-learning: each of these is an arrow
    adversarial_hr: float = 0.0  # D_H on the student's pixels
    pair: float = 1.0  # the student on pairs of the degrader
    cycle: float = 0.0  # LR -> SR -> LR
    cycle_score: Literal["energy", "l1"] = "energy"
    cycle_gradient: float = 0.2  # of the cycle, that reaches the student
    guard_noise: float = 0.05  # on the SR before it is degraded, in [-1, 1]: nothing finer can be hidden in it
    train_degrader: bool = True  # False: it stays as it was
    # Its batch size, rate, weights and D_L count; the schedule, seed and sizes of the run are those of this class.
    degrader: DegraderTrainConfig = field(default_factory=DegraderTrainConfig)
    critic_width: int = 24  # of D_H
    critic_learning_rate: float = 4e-4
    critic_start: float = 0.0  # share of the steps before critics and cycle begin
    critic_ramp: float = 0.1
    penalty: float = 0.002  # R1 of D_H, every `penalty_every` steps
    penalty_every: int = 16
    pool_batches: int = 10  # pairs of earlier degraders that are kept, in batches; 0 = none

    def ramp(self, step: int) -> float:
        """How much critics and cycle count: 0 before ``critic_start``, then rising to 1."""
        return min(1.0, max(0.0, (step / self.steps - self.critic_start) / self.critic_ramp))

    def check(self) -> None:
        """See that the settings fit together.

        Raises:
            ValueError: they do not.
        """
        if self.stage == "student" and not self.teacher:
            raise ValueError("the student stage needs a teacher; train one with --stage teacher and give its folder")
        needs = self.stage == "colearn" and (self.distill or self.inverse)
        if needs and not self.teacher:
            raise ValueError(
                "co-learning distils from a teacher; give --teacher, or --distill 0 --inverse 0 to do without"
            )
        if self.stage == "colearn" and not (self.teacher or self.start_from):
            raise ValueError("co-learning goes on from a student; give --from, or a --teacher to copy")
        if self.stage == "colearn" and self.stored_targets:
            raise ValueError("stored targets are of pairs that do not change; use them in the student stage")
        if self.stored_targets and self.stage == "teacher":
            raise ValueError("stored targets are a teacher's answers; use them in the student stage")
        if self.real_lr and self.stage != "colearn":
            raise ValueError(
                f"real LR without HR teaches D_L, which the {self.stage} stage has not; use --stage colearn"
            )
        if self.real_lr and not (self.data.online_degrader and self.train_degrader):
            raise ValueError("real LR without HR teaches a degrader; give an --online-degrader and do not freeze it")
        learns = (self.distill, self.inverse, self.gt, self.perceptual, self.pair * bool(self.data.weights[3]))
        if self.stage != "teacher" and not any(learns):
            raise ValueError(
                "distill, inverse, gt, perceptual and pair are all 0; switch on what shall teach the student"
            )
        new = self.stage == "teacher" and not self.start_from
        if new and self.autoencoder and not self.first_stage:
            raise ValueError("the first stage is an autoencoder without weights; give the folder of a trained one")


SIZES: dict[str, dict[str, Any]] = {
    "ci": {
        "hr_crop": 64, "batch_size": 4, "steps": 20, "warmup_steps": 2, "ema_decay": 0.9, "widths": (8, 8, 8),
        "blocks": 1, "embedding_dim": 8, "num_train_timesteps": 4, "min_noise_level": 0.2, "critic_width": 8,
        "degrader": DEGRADER_PRESETS["ci"],
    },
    "tiny": {"degrader": DegraderTrainConfig(batch_size=8, learning_rate=1e-4)},
    "paper": {
        "hr_crop": 256, "batch_size": 64, "steps": 30_000, "learning_rate": 5e-5, "warmup_steps": 5_000, "kappa": 2.0,
        "autoencoder": PAPER_AUTOENCODER, "unet2d": PAPER_UNET, "critic_width": 64, "teacher_steps": 15,
        "critic_learning_rate": 1e-4, "degrader": DEGRADER_PRESETS["paper"],
    },
}  # fmt: skip

# In pixels the teacher's answer hardly tells the noise it came from, so that the inverse can only be guessed: at its
# weight for latents its error, that of the noise, would drown the other terms.
# The later stages are shorter and gentler.
STAGES: dict[str, dict[str, dict[str, Any]]] = {
    "teacher": {"ci": {}, "tiny": {}, "paper": {"steps": 500_000}},
    "student": {"ci": {}, "tiny": {"steps": 4_000, "learning_rate": 2e-4, "inverse": 0.05}, "paper": {}},
    "colearn": {
        "ci": {"adversarial_hr": 0.02, "cycle": 1.0, "inverse_until": 0.3},
        "tiny": {
            "steps": 1_800, "learning_rate": 2e-4, "ema_decay": 0.998, "inverse": 0.0, "distill": 0.1,
            "perceptual": 0.1, "adversarial_hr": 0.001, "cycle": 0.5,
        },
        "paper": {"adversarial_hr": 0.02, "cycle": 1.0, "inverse_until": 0.3, "critic_start": 0.2},
    },
}  # fmt: skip


def preset(name: str, stage: Stage) -> UpsampleTrainConfig:
    """The settings of a size (ci, tiny, paper) at a stage.

    Raises:
        ValueError: an unknown name.
    """
    if name not in SIZES or stage not in STAGES:
        raise ValueError(f"preset {name!r} at stage {stage!r} is unknown; use {', '.join(SIZES)}; {', '.join(STAGES)}")
    return UpsampleTrainConfig(stage=stage, **{**SIZES[name], **STAGES[stage][name]})

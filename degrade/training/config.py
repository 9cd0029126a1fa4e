"""DegraderTrainConfig: the settings of a training run of the degrader, and presets of them."""

from dataclasses import dataclass, field

from degrade.training.data import DataConfig


@dataclass(frozen=True, kw_only=True)
class DegraderTrainConfig:
    """Everything that decides a run; written beside the weights as train_config.json.

    A weight of 0 switches its term off.
    """

    data: DataConfig = field(default_factory=DataConfig)
    start_from: str = ""  # shipped name or folder of a degrader to go on from; its sizes win; "" = new networks
    scale: int = 4
    hr_crop: int = 128
    batch_size: int = 16  # even: samples come in twos that share a degradation
    steps: int = 10_000
    learning_rate: float = 5e-4  # of degrader and encoder, after warm-up; falls to a tenth along a cosine
    critic_learning_rate: float = 4e-4
    warmup_steps: int = 200
    ema_decay: float = 0.999  # per step; 0 = no averaging
    grad_clip: float = 1.0  # norm
    seed: int = 0
    # network
    widths: tuple[int, int, int] = (48, 64, 96)
    blocks: int = 2
    embedding_dim: int = 128
    encoder_widths: tuple[int, int, int] = (32, 64, 96)
    code_dim: int = 16
    critic_width: int = 48
    num_train_timesteps: int = 4
    kappa: float = 1.0
    prior_share: float = 0.6  # of the samples trained at t = T, where one-step sampling lives; the rest anywhere below
    # terms of the loss
    energy: float = 4.0
    energy_patches: tuple[int, ...] = (3, 8)  # sides in LR pixels
    texture: float = 0.5
    low: float = 1.0
    code: float = 0.1
    encoder: float = 0.3
    compression: float = 0.1  # of what recipes say of JPEG
    kl: float = 2e-3
    adversarial: float = 0.05
    critic_start: float = 0.2  # share of the steps before the critic's gradient ramps up
    critic_ramp: float = 0.1
    penalty: float = 0.002  # R1, every `penalty_every` steps
    penalty_every: int = 16


PRESETS = {
    "ci": DegraderTrainConfig(
        hr_crop=64, batch_size=4, steps=20, warmup_steps=2, widths=(16, 16, 16), encoder_widths=(8, 8, 8),
        embedding_dim=16, blocks=1, critic_width=8, ema_decay=0.9,
    ),
    "tiny": DegraderTrainConfig(),
    # From weights that are there to a folder of photographs without HR. The critic is all that knows the new look, so
    # it starts early and weighs more; recipes keep the code's meaning alive. In the hidden world of examples/ a third
    # of this weight, later, came out further from real LR by the feature distances and the classifier.
    "fit": DegraderTrainConfig(
        steps=2_000, learning_rate=2e-4, warmup_steps=100, critic_start=0.05, critic_ramp=0.1, adversarial=0.1,
        data=DataConfig(recipes=("real-esrgan", "bsrgan"), weights=(0.5, 0.25, 0.5)),
    ),
    "paper": DegraderTrainConfig(
        hr_crop=256, batch_size=64, steps=30_000, learning_rate=1e-4, critic_learning_rate=1e-4, warmup_steps=5_000,
        widths=(192, 384, 512), blocks=4, embedding_dim=512, encoder_widths=(64, 128, 192),
    ),
}  # fmt: skip

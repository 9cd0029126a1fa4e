"""SynthSettings: all that decides the bytes of a data set, and the seeds that follow from it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

# The other settings decide which pairs there are, how they are packed and encoded, and where they are computed.
DEGRADATION = ("scale", "degrader_sha256", "recipe", "mix", "steps", "codes_sha256")
RAW_SHARE = 1.05  # a PNG is never much larger than its pixels
PAIR_OVERHEAD_BYTES = 8192  # three tar headers, padding, and the json, which a long recipe or path makes long
TAR_END_BYTES = 11_264  # two zero blocks, and zeros up to a whole record


@dataclass(frozen=True, kw_only=True)
class SynthSettings:
    """Everything that decides the bytes of a data set.

    The number of workers is not here since the bytes do not depend on it (a test shows it).
    Those in ``DEGRADATION`` decide how an LR image is made, and are part of the seed of every pair.

    Attributes:
        scale: HR side / LR side.
        degrader: name, folder or hub id; "none" for the recipe alone.
        degrader_sha256: of its weights; "" without one.
        recipe: the resolved recipe; None without one.
        mix: probability of the recipe when there is a degrader too.
        steps: network calls of the degrader.
        codes_sha256: of the codes of reference photographs; "" for the degrader's own bank.
        seed: of the run.
        variants: degradations of each crop.
        crop_size: side of the HR crops; 0 = whole images.
        crops_per_image: random crops of each image; 0 = a grid that covers it.
        shard_size: pairs planned in a shard.
        hr_ext: png, webp (lossless) or jpg.
        lr_ext: the same.
        jpg_quality: of jpg members.
        min_side: smaller images are left out.
        max_pixels: larger images are left out.
        max_hr_side: longer images are area-reduced by 2 until they fit; 0 = never.
        alpha: composite on white, or refuse.
        keep_flat: also keep nearly flat crops.
        device: cpu or cuda.
        batch_size: images in one network call on a GPU, whose sums depend on it; 0 on a CPU, where it is always one.

    Raises:
        ValueError: ``crop_size`` is not a multiple of ``scale``.
    """

    scale: int = 4
    degrader: str = "tiny-x4"
    degrader_sha256: str = ""
    recipe: dict[str, Any] | None = None
    mix: float = 0.5
    steps: int = 1
    codes_sha256: str = ""
    seed: int = 0
    variants: int = 1
    crop_size: int = 256
    crops_per_image: int = 0
    shard_size: int = 1000
    hr_ext: str = "png"
    lr_ext: str = "png"
    jpg_quality: int = 95
    min_side: int = 64
    max_pixels: int = 100_000_000
    max_hr_side: int = 0
    alpha: Literal["composite", "refuse"] = "composite"
    keep_flat: bool = False
    device: str = "cpu"
    batch_size: int = 0

    def __post_init__(self) -> None:
        if self.crop_size % self.scale:
            fitting = self.crop_size // self.scale * self.scale
            choice = f"{fitting} or {fitting + self.scale}" if fitting else f"{self.scale}"
            raise ValueError(f"crop size {self.crop_size} is not a multiple of scale {self.scale}; use {choice}")

    def hash(self) -> str:
        """Return the sha256 of all settings."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def degradation_hash(self) -> str:
        """Return the sha256 of the settings that decide how an LR image is made from its HR crop."""
        return digest(*(getattr(self, name) for name in DEGRADATION))


def pair_seed(degradation_hash: str, seed: int, name: str, crop: tuple[int, int, int, int], variant: int) -> int:
    """Return the seed of one pair, 0..2^62-1: a hash of what decides its pixels.

    So the pair is the same wherever it is made and however a data set is packed.

    Args:
        degradation_hash: of `SynthSettings.degradation_hash`.
        seed: the seed of the run.
        name: the path of the image relative to the source root.
        crop: top, left, height and width in the image, after its reduction to ``max_hr_side``.
        variant: which of several degradations of the crop.
    """
    return int(digest(seed, degradation_hash, name, crop, variant)[:16], 16) >> 2


def crop_seed(settings: SynthSettings, name: str) -> int:
    """The seed of an image's crop positions."""
    return int(digest(settings.seed, "crops", name, settings.crop_size)[:12], 16)


def shard_size_for(max_shard_mb: float, settings: SynthSettings) -> int:
    """The most pairs that surely fit: a plan is made before sizes are known, so it counts every pair as uncompressed.

    Args:
        max_shard_mb: bound on a tar, 10^6 bytes.
        settings: crop size and scale; its own shard size stays a bound too.

    Raises:
        ValueError: not one pair fits, or crops have no fixed size.
    """
    if not settings.crop_size:
        raise ValueError("--max-shard-mb needs crops of one size; give --crop-size, or bound --shard-size")
    pixels = settings.crop_size**2 * (1 + 1 / settings.scale**2)
    pairs = int((max_shard_mb * 1e6 - TAR_END_BYTES) / (pixels * 3 * RAW_SHARE + PAIR_OVERHEAD_BYTES))
    if pairs < 1:
        raise ValueError(f"--max-shard-mb {max_shard_mb} does not hold one pair of {settings.crop_size} px; raise it")
    return min(settings.shard_size, pairs)


def digest(*parts: object) -> str:
    """Return the sha256 of values that can be written as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

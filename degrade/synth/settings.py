"""Define SynthSettings, which decide the bytes of a data set, and the seeds that follow from them."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from degrade.adjustment import NEUTRAL, Adjustment
from degrade.images.encoder import check_side
from degrade.networks.backend import Backend

# The other settings decide which pairs there are, how they are packed and encoded, and where they are computed. The
# adjustment and the backend are not here, so that a pair has the same look and the same noise with each of them.
DEGRADATION = ("scale", "degrader_sha256", "recipe", "mix", "steps", "codes_sha256")
# What older data sets do not state, with the value that it has for them. A setting with this value is not stated now
# either, so that data sets and their hashes stay what they were.
UNSTATED = {"backend": "torch", "bf16": False}
LOADER_WORKERS = 8  # shards that a small data set is divided into, because every worker of a loader needs one
RAW_SHARE = 1.05  # a PNG is never much larger than its pixels
PAIR_OVERHEAD_BYTES = 8192  # three tar headers, padding, and the JSON record, which a long recipe or path makes long
TAR_END_BYTES = 11_264  # two zero blocks, and zeros up to a whole tar record

ImageFormat = Literal["png", "webp", "jpg"]
Alpha = Literal["composite", "refuse"]
WrittenFormat = Literal["shards", "folders"]


@dataclass(frozen=True, kw_only=True)
class SynthSettings:
    """Hold everything that decides the bytes of a data set.

    The number of workers is not here, because the bytes do not depend on it (a test shows this). The settings in
    ``DEGRADATION`` decide how an LR image is made, and are part of the seed of every pair.

    Attributes:
        scale: HR side / LR side.
        degrader: name, folder or hub id of the learned degrader; "none" for a recipe alone.
        degrader_sha256: hash of the degrader's weights; "" without one.
        recipe: the resolved recipe; None without one.
        mix: probability of the recipe if there is a degrader too.
        steps: network calls of the degrader.
        codes_sha256: hash of the codes of reference photographs; "" to use the degrader's own bank of codes.
        adjustment: how the looks of the degrader are changed.
        seed: seed of every random draw.
        variants: degradations of each crop.
        crop_size: side of the HR crops, px; 0 = whole images.
        crops_per_image: random crops of each image; 0 = a grid that covers it.
        format: shards for webdataset, or two folders of images, whose parts are planned as shards are.
        shard_size: most pairs planned in a shard.
        min_shards: plan smaller shards, so that there are at least this many, or one for each pair.
        hr_ext: format of the HR images: png, webp (lossless) or jpg.
        lr_ext: format of the LR images, likewise.
        jpg_quality: quality of jpg images, 1..100.
        min_side: leave out images with a shorter side than this, px.
        max_pixels: leave out images with more pixels than this.
        max_hr_side: area-reduce longer images by 2 until they fit, px; 0 = never.
        alpha: composite transparent images on white, or refuse them.
        keep_flat: keep nearly flat crops too.
        device: cpu or cuda.
        batch_size: images in one network call on a GPU, whose sums depend on it; 0 on a CPU, which takes one at a time.
        backend: the software that computes the network of the degrader.
        bf16: compute this network in bfloat16.

    Raises:
        ValueError: ``crop_size`` is not a multiple of ``scale``, or larger than ``hr_ext`` can hold.
    """

    scale: int = 4
    degrader: str = "tiny-x4"
    degrader_sha256: str = ""
    recipe: dict[str, Any] | None = None
    mix: float = 0.5
    steps: int = 1
    codes_sha256: str = ""
    adjustment: Adjustment = NEUTRAL
    seed: int = 0
    variants: int = 1
    crop_size: int = 256
    crops_per_image: int = 0
    format: WrittenFormat = "shards"
    shard_size: int = 1000
    min_shards: int = 1
    hr_ext: ImageFormat = "png"
    lr_ext: ImageFormat = "png"
    jpg_quality: int = 95
    min_side: int = 64
    max_pixels: int = 100_000_000
    max_hr_side: int = 0
    alpha: Alpha = "composite"
    keep_flat: bool = False
    device: str = "cpu"
    batch_size: int = 0
    backend: Backend = "torch"
    bf16: bool = False

    def __post_init__(self) -> None:
        if self.crop_size % self.scale:
            fitting = self.crop_size // self.scale * self.scale
            choice = f"{fitting} or {fitting + self.scale}" if fitting else f"{self.scale}"
            raise ValueError(f"crop size {self.crop_size} is not a multiple of scale {self.scale}; use {choice}")
        check_side(self.crop_size, self.crop_size, self.hr_ext, "give another --hr-ext or a smaller --crop-size")

    def stated(self) -> dict[str, Any]:
        """Return the settings as they are written down: all but those with their value in `UNSTATED`."""
        return {name: value for name, value in asdict(self).items() if UNSTATED.get(name, ...) != value}

    def hash(self) -> str:
        """Return the sha256 of all settings."""
        return hashlib.sha256(json.dumps(self.stated(), sort_keys=True).encode()).hexdigest()

    def degradation_hash(self) -> str:
        """Return the sha256 of the settings that decide how an LR image is made from its HR crop."""
        return digest(*(getattr(self, name) for name in DEGRADATION))


def pair_seed(degradation_hash: str, seed: int, name: str, crop: tuple[int, int, int, int], variant: int) -> int:
    """Return the seed of one pair, 0..2^62-1: a hash of what decides its pixels.

    So a pair is the same on every machine, however the data set is packed.

    Args:
        degradation_hash: result of `SynthSettings.degradation_hash`.
        seed: seed of the settings.
        name: path of the image relative to the source root.
        crop: top, left, height and width in the image, after its reduction to ``max_hr_side``.
        variant: number of the degradation of this crop.
    """
    return int(digest(seed, degradation_hash, name, crop, variant)[:16], 16) >> 2


def crop_seed(settings: SynthSettings, name: str) -> int:
    """Return the seed of the crop positions in an image."""
    return int(digest(settings.seed, "crops", name, settings.crop_size)[:12], 16)


def pairs_per_shard(pairs: int, settings: SynthSettings) -> int:
    """Return how many pairs are planned in a full shard of a part of the plan with this many pairs."""
    return min(settings.shard_size, max(1, pairs // settings.min_shards))


def shard_size_for(max_shard_mb: float, settings: SynthSettings) -> int:
    """Return how many pairs surely fit in a shard, with every pair counted as uncompressed.

    A plan is made before the sizes of compressed images are known.

    Args:
        max_shard_mb: limit on the size of a tar, 10^6 bytes.
        settings: crop size and scale; the result is never above the shard size given here.

    Raises:
        ValueError: not even one pair fits, or crops have no fixed size.
    """
    if not settings.crop_size:
        raise ValueError("--max-shard-mb needs crops of one size; give --crop-size, or limit --shard-size")
    pixels = settings.crop_size**2 * (1 + 1 / settings.scale**2)
    pairs = int((max_shard_mb * 1e6 - TAR_END_BYTES) / (pixels * 3 * RAW_SHARE + PAIR_OVERHEAD_BYTES))
    if pairs < 1:
        raise ValueError(f"--max-shard-mb {max_shard_mb} is too small for a pair of {settings.crop_size} px; raise it")
    return min(settings.shard_size, pairs)


def digest(*parts: object) -> str:
    """Return the sha256 of values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

"""The plan of a data set: which crop and variant of which image becomes which pair of which shard, before any work."""

import hashlib
import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from degrade.images import ImageError, crop_positions, probe_image
from degrade.sources import Source

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
        return _digest(*(getattr(self, name) for name in DEGRADATION))


@dataclass(frozen=True)
class PlannedSource:
    """An image that the plan uses.

    Attributes:
        name: relative to the source root.
        bytes_len: size of the file.
        crops: how many.
        part: 0 for the first run, then one more for every `--extend`.
    """

    name: str
    bytes_len: int
    height: int
    width: int
    crops: int
    part: int


@dataclass(frozen=True)
class Unit:
    """A piece of work: some crops and variants of one image, all in the same shard.

    Attributes:
        shard: its number.
        planned: the image.
        source: where it is now.
        slots: (key number, crop index, variant) of each pair.
    """

    shard: int
    planned: PlannedSource
    source: Source
    slots: tuple[tuple[int, int, int], ...]


def examine(source: Source, settings: SynthSettings, part: int = 0) -> PlannedSource | str:
    """Look at the header of an image and decide what to take from it.

    Returns:
        What the plan needs to know, or why the image is left out.
    """
    try:
        info = probe_image(source.head())
        height, width = reduced_size(info.height, info.width, settings.max_hr_side)
        if info.height * info.width > settings.max_pixels:
            raise ImageError(f"{info.width}x{info.height} is more than {settings.max_pixels} pixels (--max-pixels)")
        smallest = max(settings.min_side, settings.crop_size, settings.scale)
        if min(height, width) < smallest:
            raise ImageError(f"{width}x{height} is smaller than {smallest} (--crop-size, --min-side)")
    except (ImageError, OSError) as err:
        return failure_reason(err)
    return PlannedSource(source.name, source.bytes_len, height, width, _count_crops(height, width, settings), part)


def order_of(name: str, seed: int) -> bytes:
    """Where an image stands in a plan: neighbours in a folder are alike, shards should not be.

    The order depends on names and seed alone.
    """
    return bytes.fromhex(_digest(seed, "order", name))


def plan_units(
    images: Iterable[tuple[PlannedSource, Source]],
    settings: SynthSettings,
    wanted: Container[int] | None = None,
    max_pairs: int = 16,
) -> Iterator[Unit]:
    """Deal the pairs out to shards and pieces of work, in order; every part starts a new shard.

    Args:
        images: of the plan, in its order, and where each is now.
        settings: for variants and shard size.
        wanted: the shards whose units are asked for; None = all.
        max_pairs: in one unit, which bounds the memory of a worker; the bytes do not depend on it.
    """
    first_key = first_shard = in_part = part = 0
    for planned, source in images:
        if planned.part != part:
            first_shard += shards_of(in_part, settings)
            in_part, part = 0, planned.part
        pairs = planned.crops * settings.variants
        at = 0
        while at < pairs:
            shard, place = divmod(in_part + at, settings.shard_size)
            end = min(pairs, at + max_pairs, at + settings.shard_size - place)
            if wanted is None or first_shard + shard in wanted:
                slots = tuple((first_key + i, *divmod(i, settings.variants)) for i in range(at, end))
                yield Unit(first_shard + shard, planned, source, slots)
            at = end
        first_key += pairs
        in_part += pairs


def shards_of(pairs: int, settings: SynthSettings) -> int:
    """How many shards a part of a plan fills."""
    return -(-pairs // settings.shard_size)


def pairs_of_shards(parts: Iterable[int], settings: SynthSettings) -> list[int]:
    """How many pairs are planned in each shard.

    Args:
        parts: pairs of each part of the plan.
        settings: for the shard size.
    """
    sizes: list[int] = []
    for pairs in parts:
        sizes += [min(settings.shard_size, pairs - at) for at in range(0, pairs, settings.shard_size)]
    return sizes


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
    return int(_digest(seed, degradation_hash, name, crop, variant)[:16], 16) >> 2


def crop_seed(settings: SynthSettings, name: str) -> int:
    """The seed of an image's crop positions."""
    return int(_digest(settings.seed, "crops", name, settings.crop_size)[:12], 16)


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


def reduced_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    """Height and width after halving until the longer side fits; 0 = no limit."""
    while max_side and max(height, width) > max_side:
        height, width = height // 2, width // 2
    return height, width


def failure_reason(error: Exception) -> str:
    """One sentence without the path: what is recorded must not depend on where the source lies."""
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) and error.strerror else str(error)


def _count_crops(height: int, width: int, settings: SynthSettings) -> int:
    """How many `crop_positions` gives, without searching for well spread ones."""
    size = settings.crop_size
    if not size:
        return 1
    if not settings.crops_per_image:
        return len(crop_positions(height, width, size))
    return min(settings.crops_per_image, (height - size + 1) * (width - size + 1))


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

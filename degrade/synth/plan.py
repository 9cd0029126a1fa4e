"""Plan a data set before any work: which crop and variant of which image becomes which pair of which shard."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from degrade.errors import ImageError, PassedOverError, failure_reason
from degrade.files.sources import Source
from degrade.images.codec import probe_image
from degrade.images.encoder import check_side
from degrade.images.geometry import crop_positions, shrunk_size
from degrade.synth.settings import SynthSettings, digest, pairs_per_shard

# For each launcher of processes, the variables that hold the number of this process and the number of all.
_LAUNCHERS = {
    "Slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # set by srun only: a batch script also sees SLURM_NTASKS
    "torchrun": ("RANK", "WORLD_SIZE"),
}


@dataclass(frozen=True)
class PlannedSource:
    """Describe an image that the plan uses.

    Attributes:
        name: path relative to the source root.
        bytes_len: size of the file.
        height: height in pixels, after the reduction to ``max_hr_side``.
        width: width in pixels, likewise.
        crops: number of crops.
        part: 0 for the images of the first run, and one more for those of every `--extend`.
    """

    name: str
    bytes_len: int
    height: int
    width: int
    crops: int
    part: int


class LeftOut(NamedTuple):
    """Say why an image is not in the plan, and whether it is passed over on purpose, which is no failure."""

    reason: str
    passed_over: bool = False


class Examined(NamedTuple):
    """Hold what the header of an image says.

    Attributes:
        found: what the plan needs to know, or the reason why the image is left out.
        more_frames: whether the file holds further frames or pages, which are not used.
    """

    found: PlannedSource | LeftOut
    more_frames: bool = False


class Slot(NamedTuple):
    """Place one pair in the plan.

    Attributes:
        number: number of the pair in the data set, which gives its key.
        crop: number of the crop in its image.
        variant: number of the degradation of this crop.
    """

    number: int
    crop: int
    variant: int


@dataclass(frozen=True)
class Unit:
    """Describe a piece of work: some crops and variants of one image, all in the same shard.

    Attributes:
        shard: number of the shard.
        planned: the image as it was planned.
        source: where the image is now.
        slots: the pairs to make.
    """

    shard: int
    planned: PlannedSource
    source: Source
    slots: tuple[Slot, ...]


def examine(source: Source, settings: SynthSettings, part: int = 0) -> Examined:
    """Read the header of an image and decide what to take from it."""
    try:
        info = probe_image(source.head())
        height, width = shrunk_size((info.height, info.width), settings.max_hr_side)
        if info.height * info.width > settings.max_pixels:
            raise ImageError(f"{info.width}x{info.height} is more than {settings.max_pixels} pixels (--max-pixels)")
        smallest = max(settings.min_side, settings.crop_size, settings.scale)
        if min(height, width) < smallest:
            raise ImageError(f"{width}x{height} is smaller than {smallest} (--crop-size, --min-side)")
        if not settings.crop_size:
            way_out = "choose another format or smaller images (--hr-ext, --lr-ext, --crop-size, --max-hr-side)"
            check_side(width, height, settings.hr_ext, way_out)
            check_side(width // settings.scale, height // settings.scale, settings.lr_ext, way_out)
    except (ImageError, OSError) as err:
        return Examined(LeftOut(failure_reason(err), isinstance(err, PassedOverError)))
    crops = _count_crops(height, width, settings)
    return Examined(PlannedSource(source.name, source.bytes_len, height, width, crops, part), info.more_frames)


def order_of(name: str, seed: int) -> bytes:
    """Return the sort key of an image in a plan, a hash: neighbours in a folder are alike, and shards should not be."""
    return bytes.fromhex(digest(seed, "order", name))


def plan_units(
    images: Iterable[tuple[PlannedSource, Source]],
    parts: Sequence[int],
    settings: SynthSettings,
    wanted: Container[int] | None = None,
    max_pairs: int = 16,
) -> Iterator[Unit]:
    """Divide the pairs into shards and units, in order; every part starts a new shard.

    Args:
        images: the images of the plan, in its order, each with where it is now.
        parts: number of pairs in each part of the plan.
        settings: number of variants and shard size.
        wanted: numbers of the shards whose units to yield; None = all.
        max_pairs: most pairs in a unit, which limits the memory of a worker; the bytes do not depend on it.
    """
    sizes = [pairs_per_shard(pairs, settings) for pairs in parts]
    first_number = first_shard = in_part = part = 0
    for planned, source in images:
        if planned.part != part:
            first_shard += -(-in_part // sizes[part])
            in_part, part = 0, planned.part
        pairs = planned.crops * settings.variants
        at = 0
        while at < pairs:
            shard, place = divmod(in_part + at, sizes[part])
            end = min(pairs, at + max_pairs, at + sizes[part] - place)
            if wanted is None or first_shard + shard in wanted:
                slots = tuple(Slot(first_number + i, *divmod(i, settings.variants)) for i in range(at, end))
                yield Unit(first_shard + shard, planned, source, slots)
            at = end
        first_number += pairs
        in_part += pairs


def pairs_of_shards(parts: Iterable[int], settings: SynthSettings) -> list[int]:
    """Return how many pairs are planned in each shard.

    Args:
        parts: number of pairs in each part of the plan.
        settings: shard size.
    """
    sizes: list[int] = []
    for pairs in parts:
        size = pairs_per_shard(pairs, settings)
        sizes += [min(size, pairs - at) for at in range(0, pairs, size)]
    return sizes


def _count_crops(height: int, width: int, settings: SynthSettings) -> int:
    """Return how many positions `crop_positions` gives, without its search for positions that are far apart."""
    size = settings.crop_size
    if not size:
        return 1
    if not settings.crops_per_image:
        return len(crop_positions(height, width, size))
    return min(settings.crops_per_image, (height - size + 1) * (width - size + 1))


@dataclass(frozen=True)
class Share:
    """Choose the shards that one of several nodes makes: every ``count``-th shard, starting with ``rank``.

    Attributes:
        rank: number of this node, from 0.
        count: number of nodes.
        origin: where both numbers come from, for messages; "" if the user gave them.

    Raises:
        ValueError: there is no such node.
    """

    rank: int = 0
    count: int = 1
    origin: str = ""

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.rank < self.count:
            raise ValueError(f"node rank {self.rank} of {self.count} nodes: ranks go from 0 to the number of nodes - 1")

    def __contains__(self, shard: int) -> bool:
        return shard % self.count == self.rank

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Share":
        """Read the share from the variables that ``srun`` or ``torchrun`` set; all shards if neither set them.

        Raises:
            ValueError: the variables are not numbers, or there is no such node.
        """
        for launcher, (rank, count) in _LAUNCHERS.items():
            if rank in environment and count in environment:
                try:
                    return cls(int(environment[rank]), int(environment[count]), f"{launcher}'s {rank} and {count}")
                except ValueError as error:
                    values = f"{rank}={environment[rank]!r} and {count}={environment[count]!r}"
                    raise ValueError(
                        f"{values} do not say which node this is; unset them, or give --node-rank and --num-nodes"
                    ) from error
        return cls()

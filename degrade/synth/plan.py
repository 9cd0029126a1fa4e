"""The plan of a data set: which crop and variant of which image becomes which pair of which shard, before any work."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from degrade.errors import ImageError, failure_reason
from degrade.files.sources import Source
from degrade.images.codec import probe_image
from degrade.images.geometry import crop_positions, shrunk_size
from degrade.synth.settings import SynthSettings, digest

# who started the processes: the variables with the number of this one, and of all
_LAUNCHERS = {
    "Slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),  # of srun alone: SLURM_NTASKS also stands in a batch script
    "torchrun": ("RANK", "WORLD_SIZE"),
}


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
        height, width = shrunk_size((info.height, info.width), settings.max_hr_side)
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
    return bytes.fromhex(digest(seed, "order", name))


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


def _count_crops(height: int, width: int, settings: SynthSettings) -> int:
    """How many `crop_positions` gives, without searching for well spread ones."""
    size = settings.crop_size
    if not size:
        return 1
    if not settings.crops_per_image:
        return len(crop_positions(height, width, size))
    return min(settings.crops_per_image, (height - size + 1) * (width - size + 1))


@dataclass(frozen=True)
class Share:
    """Every ``count``-th shard from ``rank`` on.

    Attributes:
        rank: of this node, from 0.
        count: of nodes.
        said_by: who said so, for people.

    Raises:
        ValueError: no such node.
    """

    rank: int = 0
    count: int = 1
    said_by: str = ""

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.rank < self.count:
            raise ValueError(f"node rank {self.rank} of {self.count} nodes: ranks go from 0 to the number of nodes - 1")

    def __contains__(self, shard: int) -> bool:
        return shard % self.count == self.rank

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Share":
        """What ``srun`` or ``torchrun`` told this process; all shards when neither started it.

        Raises:
            ValueError: the variables are no numbers, or no such node.
        """
        for launcher, (rank, count) in _LAUNCHERS.items():
            if rank in environment and count in environment:
                try:
                    return cls(int(environment[rank]), int(environment[count]), f"{launcher}'s {rank} and {count}")
                except ValueError as error:
                    told = f"{rank}={environment[rank]!r} and {count}={environment[count]!r}"
                    raise ValueError(
                        f"{told} do not say which node this is; unset them, or give --node-rank and --num-nodes"
                    ) from error
        return cls()

"""Photographs and crops of them: what networks are shown of images that are larger than they can take at once."""

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from degrade.files.sources import Source, list_sources
from degrade.files.tars import LR_ROLES, shard_paths, split_member, tar_members
from degrade.images.codec import probe_image, read_image
from degrade.images.geometry import Image, Rgb, corner, crop, is_flat, reduce_by, shrink_to, shrunk_size
from degrade.images.tensors import Crops, to_tensor

CACHED_IMAGES = 256  # decoded photographs kept per loading process
FLAT_RETRIES = 4

Kept = TypeVar("Kept")


class ReadCache(Generic[Kept]):
    """What was read last, by index; forgotten on the way to another process, which reads its own.

    Args:
        read: called for what is not held.
    """

    def __init__(self, read: Callable[[int], Kept]) -> None:
        self.read = read
        self.held: OrderedDict[int, Kept] = OrderedDict()

    def __call__(self, index: int) -> Kept:
        """What ``read`` gives for ``index``."""
        if index not in self.held:
            self.held[index] = self.read(index)
            if len(self.held) > CACHED_IMAGES:
                self.held.popitem(last=False)
        self.held.move_to_end(index)
        return self.held[index]

    def __getstate__(self) -> dict[str, object]:
        return {"read": self.read, "held": OrderedDict()}


class HrCrops:
    """Random crops of HR photographs, decoded when first asked for; nearly flat crops are avoided.

    Args:
        sources: photographs that `image_sizes` could read.
        max_side: longer ones are area-reduced by 2 until they fit; 0 = never.
        reduction: area-reduce all of them by this instead.
    """

    def __init__(self, sources: Sequence[Source], *, max_side: int = 0, reduction: int = 1) -> None:
        self.sources, self.max_side, self.reduction = sources, max_side, reduction
        self._image = ReadCache(self._read)

    def __len__(self) -> int:
        return len(self.sources)

    def draw(self, rng: random.Random, side: int) -> Tensor:
        """One crop, mirrored half of the time: (1, 3, side, side) in [0, 1]."""
        for _ in range(FLAT_RETRIES):
            image = self._image(rng.randrange(len(self.sources)))
            part = crop(image, *corner(rng, image, side, 1), side)
            if not is_flat(part):
                break
        if rng.random() < 0.5:
            part = part[:, ::-1]
        return to_tensor(part)

    def _read(self, index: int) -> Image:
        image = read_image(self.sources[index].read())
        return reduce_by(image, self.reduction) if self.reduction > 1 else shrink_to(image, self.max_side)


def image_sizes(sources: Sequence[Source]) -> tuple[dict[Source, tuple[int, int]], list[str]]:
    """Height and width of the images that can be read, and a sentence for each that cannot."""
    sizes, left_out = {}, []
    for source in sources:
        try:
            height, width = read_image(source.read()).shape[:2]
        except (ValueError, OSError) as err:
            left_out.append(f"{source.name}: {err}")
        else:
            sizes[source] = (height, width)
    return sizes, left_out


def large_enough(sizes: dict[Source, tuple[int, int]], min_side: int) -> tuple[list[Source], list[str]]:
    """The images whose sides are at least ``min_side``, and a sentence for each that is smaller."""
    left_out = [
        f"{source.name}: {width}x{height} is smaller than the crop, {min_side}"
        for source, (height, width) in sizes.items()
        if min(height, width) < min_side
    ]
    return [source for source, size in sizes.items() if min(size) >= min_side], left_out


def hr_crops(folder: str, side: int, max_side: int, left_out: list[str]) -> HrCrops:
    """Crops of the photographs of a folder, list or tars that are large enough; sentences go to ``left_out``."""
    sizes, unreadable = image_sizes(list_sources(folder))
    usable, small = large_enough({source: shrunk_size(size, max_side) for source, size in sizes.items()}, side)
    left_out += unreadable + small
    return HrCrops(usable, max_side=max_side)


@dataclass
class ImagePool:
    """Images of one kind, large enough for a crop; decoded when first asked for.

    Attributes:
        sources: the usable ones.
        left_out: one sentence for each that is not.
        max_side: longer images are area-reduced by 2 until they fit; 0 = never.
    """

    sources: list[Source]
    left_out: list[str] = field(default_factory=list)
    max_side: int = 0
    _decoded: dict[Source, Rgb] = field(default_factory=dict)

    @classmethod
    def open(cls, sources: Sequence[Source], *, min_side: int, max_side: int = 0) -> "ImagePool":
        """Keep the sources whose header reads and promises ``min_side`` pixels.

        Raises:
            ValueError: none is usable.
        """
        pool = cls([], max_side=max_side)
        for source in sources:
            try:
                info = probe_image(source.head())
            except (ValueError, OSError) as err:
                pool.left_out.append(f"{source.name}: {err}")
                continue
            width, height = shrunk_size((info.width, info.height), max_side)
            if min(width, height) < min_side:
                pool.left_out.append(f"{source.name}: {width}x{height} is smaller than the crop, {min_side}")
            else:
                pool.sources.append(source)
        if not pool.sources:
            raise ValueError(f"no image is usable: {pool.left_out[0]}; pass larger images or a smaller --crop-size")
        return pool

    def image(self, source: Source) -> Rgb:
        """The decoded image."""
        if source not in self._decoded:
            self._decoded[source] = shrink_to(read_image(source.read()), self.max_side)
        return self._decoded[source]

    def halves(self, seed: int) -> tuple[list[Source], list[Source]]:
        """Split the images at random into two halves of equal size.

        Each is an even number of images where it can be, so that its own halves share none either; up to three images
        are left out for that.

        Raises:
            ValueError: there are fewer than two images.
        """
        if len(self.sources) < 2:
            raise ValueError(f"only {self.sources[0].name} is usable; two halves need at least 2 images, better 20")
        shuffled = list(self.sources)
        random.Random(f"{seed}/halves").shuffle(shuffled)
        half = len(shuffled) // 2
        half -= half % 2 if half > 1 else 0
        return shuffled[:half], shuffled[half : 2 * half]

    def crops(self, count: int, side: int, seed: int, *, among: Sequence[Source] | None = None, grid: int = 1) -> Crops:
        """Random crops, as evenly from the images as can be; nearly flat ones are avoided.

        Args:
            count: how many.
            side: of a crop.
            seed: of the places.
            among: the images to cut from, in this order, so that the first half of the crops shows other images than
                the second; all when None.
            grid: crops begin at multiples of it: 8 keeps JPEG blocks whole.
        """
        rng = random.Random(f"{seed}/crops")
        images = self.sources if among is None else among
        crops = []
        for number in range(count):
            image = self.image(images[number * len(images) // count])
            for _ in range(FLAT_RETRIES):
                top, left = (rng.randrange((length - side) // grid + 1) * grid for length in image.shape[:2])
                crop = image[top : top + side, left : left + side]
                if not is_flat(crop):
                    break
            crops.append(crop)
        return np.stack(crops)


def list_lr(path: Path) -> list[Source]:
    """List LR images: a folder, a text list, or shards, of which the ``lr`` or ``lq`` members are taken if any.

    Raises:
        ValueError: nothing is there.
    """
    if path.suffix == ".tar" or (path.is_dir() and any(path.glob("*.tar"))) or "{" in path.name:
        found = []
        for tar in shard_paths(path):
            for member in tar_members(tar):
                _, role, extension = split_member(member.name)
                if role in LR_ROLES and extension != "json":
                    found.append(Source(f"{Path(tar).name}/{member.name}", member.size, tar, member.offset))
        if found:
            return found
    return list_sources(path)

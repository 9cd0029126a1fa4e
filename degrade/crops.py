"""Crops of photographs: what networks are shown of images that are larger than they can take at once."""

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from degrade.images import is_flat, read_image
from degrade.sources import Source, list_sources

CACHED_IMAGES = 256  # decoded photographs kept per loading process
FLAT_RETRIES = 4

Image = NDArray[np.uint8]


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


def reduce_by(image: Image, factor: int) -> Image:
    """Area-reduce by an integer; rows and columns left over are cut."""
    height, width = (length // factor * factor for length in image.shape[:2])
    size = (width // factor, height // factor)
    return cv2.resize(image[:height, :width], size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def shrunk_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """What `shrink_to` makes of an image of these sides."""
    while max_side and max(size) > max_side:
        size = (size[0] // 2, size[1] // 2)
    return size


def shrink_to(image: Image, max_side: int) -> Image:
    """Area-reduce by 2 until the longer side is at most ``max_side``; 0 = never."""
    while max_side and max(image.shape[:2]) > max_side:
        image = reduce_by(image, 2)
    return image


def to_tensor(image: Image) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255


def corner(rng: random.Random, image: Image, side: int, grid: int) -> tuple[int, int]:
    """Where a random crop begins, (top, left), on multiples of ``grid``."""
    top, left = (rng.randrange((length - side) // grid + 1) * grid for length in image.shape[:2])
    return top, left


def crop(image: Image, top: int, left: int, side: int) -> Image:
    """A square part of an image; a view."""
    return image[top : top + side, left : left + side]

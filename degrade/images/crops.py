"""Photographs and crops of them: what networks are shown of images that are larger than they can take at once."""

import random
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from degrade.files.names import split_member
from degrade.files.sources import Source, list_sources
from degrade.files.tars import shard_paths, tar_members
from degrade.images.codec import probe_image, read_image
from degrade.images.geometry import Crops, Rgb, corner, crop, is_flat, reduce_by, shrink_to, shrunk_size
from degrade.images.tensors import to_tensor

CACHE_BYTES = 256 << 20  # decoded images that a cache keeps in each process
FLAT_RETRIES = 4
TRIES = 20  # images in a row that cannot be decoded before a draw gives up
SHIFT = 2  # images by which the window of a large pool moves from batch to batch
MIN_WINDOW = 8  # images, however large: a batch should not show two photographs alone
BANK_CROPS = 4  # of each real LR image, whose codes a bank holds
BANK_SIDE = 64  # LR pixels


class ReadCache:
    """Keep the images that were read last, up to `CACHE_BYTES`. Another process starts with an empty cache.

    Args:
        read: reads what is not held: one image, or the images of a pair.
    """

    def __init__(self, read: Callable[[int], tuple[Rgb, ...]]) -> None:
        self.read = read
        self.held: OrderedDict[int, tuple[Rgb, ...]] = OrderedDict()
        self.bytes = 0

    def __call__(self, index: int) -> tuple[Rgb, ...]:
        """Return what ``read`` gives for ``index``."""
        if index not in self.held:
            images = self.read(index)
            self.held[index] = images
            self.bytes += _bytes(images)
            while self.bytes > CACHE_BYTES and len(self.held) > 1:
                self.bytes -= _bytes(self.held.popitem(last=False)[1])
        self.held.move_to_end(index)
        return self.held[index]

    def __getstate__(self) -> dict[str, object]:
        return {"read": self.read, "held": OrderedDict(), "bytes": 0}


class ImagePool:
    """Photographs of one kind, large enough for a crop. Opening reads headers; pixels are decoded when they are needed.

    Memory does not grow with the number of photographs: see `ReadCache`. A photograph whose header is whole and whose
    pixels are not is named when it is met, and another one takes its place.

    Args:
        sources: where the photographs are.
        min_side: smaller ones are left out; after the reduction.
        max_side: longer ones are area-reduced by 2 until they fit; 0 = never.
        reduction: all of them are area-reduced by this instead; 1 = not at all.

    Attributes:
        sources: the usable ones.
        left_out: one sentence for each that is not.
    """

    def __init__(self, sources: Sequence[Source], *, min_side: int, max_side: int = 0, reduction: int = 1) -> None:
        self.min_side, self.max_side, self.reduction = min_side, max_side, reduction
        self.sources: list[Source] = []
        self.left_out: list[str] = []
        pixels = 0
        for source in sources:
            try:
                info = probe_image(source.head())
            except (ValueError, OSError) as err:
                self.left_out.append(f"{source.name}: {err}")
                continue
            width, height = (length // reduction for length in shrunk_size((info.width, info.height), max_side))
            if min(width, height) < min_side:
                self.left_out.append(f"{source.name}: {width}x{height} is smaller than the crop, {min_side}")
            else:
                self.sources.append(source)
                pixels += width * height
        self._places = {source: place for place, source in enumerate(self.sources)}
        self._broken: dict[int, str] = {}
        self._cache = ReadCache(self._read)
        # Half of the cache, because the images that just left the window are still in it.
        self._window = max(MIN_WINDOW, CACHE_BYTES * len(self.sources) // (2 * 3 * pixels)) if pixels else 0
        # Neighbours by name are often of one scene or one camera, which should not fill a window.
        self._order = list(range(len(self.sources)))
        random.Random("order").shuffle(self._order)

    @classmethod
    def open(cls, sources: Sequence[Source], *, min_side: int, max_side: int = 0) -> "ImagePool":
        """Open a pool that must hold a photograph.

        Raises:
            ValueError: none is usable.
        """
        pool = cls(sources, min_side=min_side, max_side=max_side)
        if not pool.sources:
            raise ValueError(f"no image is usable: {pool.left_out[0]}; pass larger images or a smaller --crop-size")
        return pool

    def __len__(self) -> int:
        return len(self.sources)

    def image(self, source: Source) -> Rgb:
        """Decode a photograph, or take it from the cache; a warning names it when it cannot be decoded.

        Raises:
            ValueError: it cannot be decoded.
        """
        place = self._places[source]
        if place in self._broken:
            raise ValueError(self._broken[place])
        try:
            return self._cache(place)[0]
        except (ValueError, OSError) as err:
            self._broken[place] = f"{source.name}: {err}"
            self.left_out.append(self._broken[place])
            warnings.warn(f"not used: {self._broken[place]}", stacklevel=2)
            raise ValueError(self._broken[place]) from err

    def pick(self, rng: random.Random, batch: int) -> Rgb:
        """Draw a photograph at random; for one that cannot be decoded, another is drawn from the whole pool.

        A pool that is too large for the cache is drawn from a window that moves by `SHIFT` images from batch to batch:
        drawn from all of it, nearly every crop would decode a whole photograph.

        Args:
            rng: the source of randomness of this batch.
            batch: its number, which places the window, so that a batch depends on nothing before it.

        Raises:
            ValueError: `TRIES` photographs in a row cannot be decoded.
        """
        place, reason = self._draw_place(rng, batch), ""
        for _ in range(TRIES):
            try:
                return self.image(self.sources[place])
            except ValueError as err:
                place, reason = rng.randrange(len(self.sources)), str(err)
        raise ValueError(f"{TRIES} images in a row cannot be used; the last: {reason}")

    def draw(self, rng: random.Random, side: int, batch: int) -> Tensor:
        """Draw a crop that is not nearly flat, mirrored half of the time: (1, 3, side, side) in [0, 1]."""
        for _ in range(FLAT_RETRIES):
            image = self.pick(rng, batch)
            part = crop(image, *corner(rng, image, side, 1), side)
            if not is_flat(part):
                break
        if rng.random() < 0.5:
            part = part[:, ::-1]
        return to_tensor(part)

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
        """Cut random crops, as evenly from the photographs as possible; nearly flat ones are avoided.

        Args:
            count: how many crops.
            side: the side of a crop.
            seed: decides the places.
            among: the photographs to cut from, in this order, so that the first half of the crops shows others than the
                second, also when a broken one is replaced; None for all.
            grid: crops begin at multiples of it: 8 keeps JPEG blocks whole.

        Raises:
            ValueError: no photograph of a half can be decoded.
        """
        rng = random.Random(f"{seed}/crops")
        images = self.sources if among is None else among
        crops = []
        for number in range(count):
            image = self._first_whole(images, number * len(images) // count)
            for _ in range(FLAT_RETRIES):
                part = crop(image, *corner(rng, image, side, grid), side)
                if not is_flat(part):
                    break
            crops.append(part.copy())  # a view would keep the whole photograph in memory
        return np.stack(crops)

    def whole_images(self) -> Iterator[Rgb]:
        """Decode all photographs, one after the other, without those that cannot be decoded."""
        for source in self.sources:
            try:
                image = self.image(source)
            except ValueError:  # named by now
                continue
            yield image

    def _draw_place(self, rng: random.Random, batch: int) -> int:
        if len(self.sources) <= 2 * self._window:
            return rng.randrange(len(self.sources))
        return self._order[(SHIFT * batch + rng.randrange(self._window)) % len(self.sources)]

    def _first_whole(self, images: Sequence[Source], place: int) -> Rgb:
        """Decode an image, or the next one of the same half of the list that can be decoded."""
        middle = len(images) // 2
        low, high = (0, middle) if place < middle else (middle, len(images))
        for other in [*range(place, high), *range(low, place)]:
            try:
                return self.image(images[other])
            except ValueError as err:
                reason = str(err)
        raise ValueError(f"none of {high - low} images can be used; the last: {reason}")

    def _read(self, place: int) -> tuple[Rgb, ...]:
        image = read_image(self.sources[place].read())
        image = reduce_by(image, self.reduction) if self.reduction > 1 else shrink_to(image, self.max_side)
        if min(image.shape[:2]) < self.min_side:
            raise ValueError(f"{image.shape[1]}x{image.shape[0]} is less than its header says")
        return (image,)


def _bytes(images: tuple[Rgb, ...]) -> int:
    return sum(image.nbytes for image in images)


def bank_crops(image: Rgb, rng: random.Random, *, grid: int) -> Crops:
    """Cut the crops of an LR image whose codes go into a bank.

    Args:
        image: (h, w, 3) uint8, sides of at least ``grid``.
        rng: decides the places.
        grid: crops begin at multiples of it: 8 keeps JPEG blocks whole.

    Returns:
        (BANK_CROPS, side, side, 3) uint8: the side is BANK_SIDE, or less for a smaller image.
    """
    side = min(BANK_SIDE, *(length // grid * grid for length in image.shape[:2]))
    return np.stack([crop(image, *corner(rng, image, side, grid), side) for _ in range(BANK_CROPS)])


def list_lr(path: Path) -> list[Source]:
    """List LR images: a folder, a text list, or shards, whose ``lr`` or ``lq`` members are taken if there are any.

    Raises:
        ValueError: nothing is there.
    """
    if path.suffix == ".tar" or (path.is_dir() and any(path.glob("*.tar"))) or "{" in path.name:
        found = []
        for tar in shard_paths(path):
            for member in tar_members(tar):
                if split_member(member.name).part == "lr":
                    found.append(Source(f"{Path(tar).name}/{member.name}", member.size, tar, member.offset))
        if found:
            return found
    return list_sources(path)

"""Crop, flip and rotate both images of a pair alike."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Patches:
    """Cut a patch out of both images of a pair, and flip and rotate it.

    A draw depends on the seed, the key of the pair and the number of the turn, and on nothing else: not on the order
    in which pairs are read, nor on the number of workers.

    Attributes:
        crop: side of the HR patch, px, a multiple of the scale; None for whole images.
        augment: flip and rotate by quarter turns, all eight positions equally often.
        seed: seed of every draw.

    Raises:
        ValueError: the crop is not positive.
    """

    crop: int | None
    augment: bool
    seed: int

    def __post_init__(self) -> None:
        if self.crop is not None and self.crop < 1:
            raise ValueError(f"crop {self.crop} is no side of a patch; pass HR pixels, or None for whole images")

    @property
    def is_random(self) -> bool:
        """Tell whether anything is drawn."""
        return self.crop is not None or self.augment

    def cut(self, hr: Tensor, lr: Tensor, key: str, turn: object) -> tuple[Tensor, Tensor]:
        """Cut the patch of one turn.

        Args:
            hr: (3, H, W).
            lr: (3, h, w), H/h = W/w a whole number.
            key: key of the pair.
            turn: number of times that this pair was read before, or whatever else tells its turns apart.

        Returns:
            Patches (3, crop, crop) and (3, crop/scale, crop/scale). Without a crop, images that are not square may come
            out turned on their sides.

        Raises:
            ValueError: the images or the crop do not fit together.
        """
        if not self.is_random:
            return hr, lr
        rng = random.Random(f"{self.seed}/{turn}/{key}")
        if self.crop is not None:
            scale = hr.shape[1] // lr.shape[1]
            if hr.shape[1:] != (lr.shape[1] * scale, lr.shape[2] * scale):
                raise ValueError(f"HR {_size(hr)} is not a whole multiple of LR {_size(lr)}, so no patches fit")
            if self.crop % scale:
                raise ValueError(f"crop {self.crop} is not a multiple of the scale, {scale}; crop counts HR pixels")
            if self.crop > min(hr.shape[1:]):
                raise ValueError(f"HR {_size(hr)} is smaller than the crop, {self.crop}; pass a smaller crop")
            side = self.crop // scale
            top, left = (rng.randrange(length - side + 1) for length in lr.shape[1:])
            lr = lr[:, top : top + side, left : left + side]
            hr = hr[:, top * scale : (top + side) * scale, left * scale : (left + side) * scale]
        if self.augment:
            flip, turns = rng.randrange(2), rng.randrange(4)
            hr, lr = (torch.rot90(image.flip(2) if flip else image, turns, (1, 2)) for image in (hr, lr))
        return hr.contiguous(), lr.contiguous()


def _size(image: Tensor) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"

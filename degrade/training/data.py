"""TrainingData: batches for the degrader from recipes, real pairs, and real LR images without HR.

A batch is a pure function of the seed and the step, so that a resumed run sees what an unbroken one would have
seen, with any number of loading processes. Its samples come in twos that share one degradation (2i and 2i + 1): each
serves as the other's reference, so the code must say how the image is degraded and cannot get by with what it shows.
"""

import math
import random
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor

from degrade.degrader import MIN_REFERENCE_SIDE
from degrade.files.sources import list_sources
from degrade.images.crops import ImagePool, bank_crops
from degrade.images.geometry import Crops, Rgb, corner, crop
from degrade.images.real_pairs import aligned_pairs
from degrade.images.tensors import to_tensor
from degrade.networks.block_quantiser import UNCOMPRESSED, coarseness_of_quality
from degrade.ops.compress import JPEG_BLOCK
from degrade.recipes.compress import DrawnJpeg, DrawnQuantise, DrawnWebp
from degrade.recipes.recipe import DrawnRecipe, Recipe
from degrade.recipes.resize import DrawnResize
from degrade.recipes.steps import DrawnStep


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Say where training images come from: recipes, real pairs, or both, and unpaired LR images beside them.

    Unpaired images show the looks to reach; what a look does to an image, and so what a code means, only pairs can say.

    Attributes:
        hr_dir: HR photographs (folder, list, or shards) for recipes and for unpaired LR. Without one, the images of
            ``lr_dirs`` stand in, area-reduced by the scale: that averages away most of what is wrong with them.
        recipes: names or files of recipes, drawn from evenly.
        pairs: folders (hr, lr) of real pairs.
        lr_dirs: folders of real LR images without HR.
        weights: how often recipes, pairs and unpaired LR are drawn; kinds that are not there count as 0.
        max_hr_side: longer HR photographs are area-reduced by 2 until they fit, since at full size big ones are soft;
            0 = never.
    """

    hr_dir: str = ""
    recipes: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    lr_dirs: tuple[str, ...] = ()
    weights: tuple[float, float, float] = (0.5, 0.25, 0.25)
    max_hr_side: int = 3000


def fitting_crop(hr_crop: int, scale: int) -> int:
    """Return the largest side of HR crops up to ``hr_crop`` whose LR crops are multiples of 8 pixels, at least 16."""
    return max(MIN_REFERENCE_SIDE // JPEG_BLOCK, hr_crop // (JPEG_BLOCK * scale)) * JPEG_BLOCK * scale


class TrainingData(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Make batches by their number.

    Args:
        config: where images come from.
        scale: HR side / LR side.
        hr_crop: side of the HR crops; a multiple of 8 * scale, so that JPEG blocks stay whole in LR.
        batch_size: even.
        seed: the seed of every draw.

    Raises:
        ValueError: nothing to learn from, or crop and batch sizes that do not fit.
    """

    def __init__(self, config: DataConfig, *, scale: int, hr_crop: int, batch_size: int, seed: int) -> None:
        if hr_crop % (JPEG_BLOCK * scale):
            raise ValueError(
                f"hr_crop {hr_crop} is not a multiple of {JPEG_BLOCK * scale} (8 LR pixels at scale {scale}); "
                f"use {fitting_crop(hr_crop, scale)}"
            )
        if hr_crop // scale < MIN_REFERENCE_SIDE:
            raise ValueError(
                f"hr_crop {hr_crop} gives LR crops of {hr_crop // scale} px, too small to tell their degradation; "
                f"use {MIN_REFERENCE_SIDE * scale} or more"
            )
        if batch_size % 2:
            raise ValueError(f"batch_size {batch_size} is odd; samples come in twos that share a degradation")
        if not (config.recipes or config.pairs):
            raise ValueError(
                "unpaired LR images alone cannot teach how HR turns into LR; give a recipe or real pairs too"
            )
        if config.recipes and not (config.hr_dir or config.lr_dirs):
            raise ValueError("recipes need HR photographs; give a folder of them")
        self.config, self.scale, self.hr_crop, self.batch_size, self.seed = config, scale, hr_crop, batch_size, seed
        self.recipes = [Recipe.load(name) for name in config.recipes]
        self.pairs, self._unusable_pairs = aligned_pairs(config.pairs, scale=scale, min_side=self.lr_crop)
        lr_sources = [source for folder in config.lr_dirs for source in list_sources(folder)]
        self.lr = ImagePool(lr_sources, min_side=self.lr_crop)
        if config.hr_dir:
            self.hr = ImagePool(list_sources(config.hr_dir), min_side=hr_crop, max_side=config.max_hr_side)
        else:
            self.hr = ImagePool(self.lr.sources, min_side=hr_crop, reduction=scale)
        # An LR image that is too small to stand in for HR is used all the same.
        self._hr_known = 0 if config.hr_dir else len(self.hr.left_out)
        if config.lr_dirs and not self.hr:
            stand_in = "" if config.hr_dir else f", since the LR images are too small to stand in, reduced by {scale}"
            side = hr_crop * self.hr.reduction
            reason = f" ({self.hr.left_out[0]})" if self.hr.left_out else ""
            raise ValueError(
                f"no HR photograph has sides of {side} px{reason}; give a folder of HR photographs{stand_in}"
            )
        counts = (len(self.hr) * bool(self.recipes), len(self.pairs), len(self.lr))
        self.kind_weights = [weight * bool(count) for weight, count in zip(config.weights, counts, strict=True)]
        if any(counts) and not sum(self.kind_weights):
            raise ValueError(f"the weights {config.weights} leave nothing to draw; raise that of what is there")
        if not any(counts):
            raise ValueError(f"no image is usable; the first reason: {(self.left_out or ['the folders are empty'])[0]}")

    @property
    def left_out(self) -> list[str]:
        """Return one sentence for each image or pair that is not used, also for those that drawing has found broken."""
        return [*self._unusable_pairs, *self.lr.left_out, *self.hr.left_out[self._hr_known :]]

    @property
    def lr_crop(self) -> int:
        """Return the side of the LR crops."""
        return self.hr_crop // self.scale

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Make the batch with a number.

        Returns:
            hr (B, 3, hr_crop, hr_crop) and lr (B, 3, hr_crop/scale, hr_crop/scale) in [0, 1]; paired (B,) bool, False
            where lr is a real image of some other scene; compression (B, 2), see `compression_of`, nan where unknown.
        """
        rng = random.Random(f"{self.seed}/{number}")
        looks = [self._look(rng, number) for _ in range(self.batch_size // 2)]
        hr, lr, paired, compression = (torch.cat(parts) for parts in zip(*looks, strict=True))
        return {"hr": hr, "lr": lr, "paired": paired, "compression": compression}

    @cached_property
    def real_lr_crops(self) -> list[Crops]:
        """Cut crops of every real LR image, once, for the bank of codes.

        Returns:
            For each image those of `bank_crops`.
        """
        crops = []
        for index, image in enumerate(chain((lr for _, lr in self.pairs), self.lr.whole_images())):
            crops.append(bank_crops(image, random.Random(f"{self.seed}/bank/{index}"), grid=JPEG_BLOCK))
        return crops

    def _look(self, rng: random.Random, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw two samples with one degradation: hr, lr, paired, compression."""
        unknown = torch.full((2, 2), float("nan"))
        kind = rng.choices(("recipe", "pair", "unpaired"), self.kind_weights)[0]
        if kind == "pair":
            hr_image, lr_image = rng.choice(self.pairs)
            parts = [self._pair_crop(rng, hr_image, lr_image) for _ in range(2)]
            return (
                torch.cat([hr for hr, _ in parts]),
                torch.cat([lr for _, lr in parts]),
                torch.ones(2, dtype=torch.bool),
                unknown,
            )
        hr = torch.cat([self.hr.draw(rng, self.hr_crop, number) for _ in range(2)])
        if kind == "recipe":
            recipe = rng.choice(self.recipes)
            params = recipe.draw(rng.getrandbits(62), self.scale)
            with torch.no_grad():
                lr = recipe.apply(hr, [params, params])
            compression = torch.tensor(compression_of(params)).expand(2, 2)
            return hr, lr, torch.ones(2, dtype=torch.bool), compression
        image = self.lr.pick(rng, number)
        crops = [crop(image, *corner(rng, image, self.lr_crop, JPEG_BLOCK), self.lr_crop) for _ in range(2)]
        return hr, torch.cat([to_tensor(crop) for crop in crops]), torch.zeros(2, dtype=torch.bool), unknown

    def _pair_crop(self, rng: random.Random, hr: Rgb, lr: Rgb) -> tuple[Tensor, Tensor]:
        top, left = corner(rng, lr, self.lr_crop, JPEG_BLOCK)
        hr_part = crop(hr, top * self.scale, left * self.scale, self.hr_crop)
        return to_tensor(hr_part), to_tensor(crop(lr, top, left, self.lr_crop))


def compression_of(params: DrawnRecipe) -> tuple[float, float]:
    """Return what `BlockQuantiser.strength` should be for a recipe's LR: log coarseness, and whether chroma is halved.

    A JPEG before the last real resize counts as none, because its blocks no longer lie on the grid. Both numbers are
    unknown, nan, for WebP and for a JPEG at LR size that another operation follows.
    """
    at_lr_size = False
    since_resize: list[DrawnStep] = []
    for step in params.steps:
        if isinstance(step, DrawnResize):
            unchanged = step.to_lr_size and at_lr_size
            at_lr_size = step.to_lr_size
            since_resize = since_resize if unchanged else []
        elif not isinstance(step, DrawnQuantise):
            since_resize.append(step)
    codecs = [step for step in since_resize if isinstance(step, DrawnJpeg | DrawnWebp)]
    if not codecs:
        return math.log(UNCOMPRESSED), 0.0
    last = since_resize[-1]
    if len(codecs) > 1 or not isinstance(last, DrawnJpeg):
        return math.nan, math.nan
    return math.log(coarseness_of_quality(last.quality)), float(last.chroma != "4:4:4")

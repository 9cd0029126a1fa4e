"""PairData: the pairs that an upsampler trains on, from shards, paired folders, recipes and an online degrader.

A batch is a pure function of the seed and its number, so that a resumed run sees what an unbroken one would have seen,
and processes that train together each see their own. Shards are read at random places, not as a stream: however
unequal they are, no process runs out before another.
"""

import random
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from degrade.files.names import split_member
from degrade.files.sources import Source, list_sources
from degrade.files.tars import shard_paths, tar_members
from degrade.images.codec import read_image
from degrade.images.crops import ImagePool, ReadCache
from degrade.images.geometry import Rgb, corner, crop, crop_to_scale
from degrade.images.real_pairs import aligned_pairs
from degrade.images.tensors import to_tensor
from degrade.ops.compress import JPEG_BLOCK
from degrade.recipes.recipe import Recipe

KINDS = ("shards", "pairs", "recipe", "online")
TRIES = 20  # draws of a pair from shards before giving up


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """Say where pairs come from; at least one of the four kinds.

    Attributes:
        shards: folders, tars or brace patterns of pair shards, ours or anyone's.
        pairs: folders (hr, lr) of real pairs.
        recipes: names or files of recipes, drawn from evenly; need ``hr_dir``.
        online_degrader: shipped name, folder or hub id of a degrader that makes LR during training; needs ``hr_dir``.
        hr_dir: HR photographs.
        reference_dirs: LR photographs whose looks the online degrader gives; () for those it was trained on.
        weights: how often shards, pairs, recipes and the online degrader are drawn; kinds that are not there count 0.
        max_hr_side: longer HR photographs are area-reduced by 2 until they fit; 0 = never.
        tones: share of samples whose channels are shuffled and whose contrast is lowered, HR and LR alike, so that few
            photographs teach no colours; 0 = never.
    """

    shards: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    recipes: tuple[str, ...] = ()
    online_degrader: str = ""
    hr_dir: str = ""
    reference_dirs: tuple[str, ...] = ()
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    max_hr_side: int = 3000
    tones: float = 0.5


class PairData(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Make batches by their number.

    Args:
        config: where pairs come from.
        scale: HR side / LR side.
        hr_crop: side of the HR crops, a multiple of ``scale``.
        batch_size: samples in a batch.
        seed: the seed of every draw.

    Raises:
        ValueError: nothing to learn from, or sizes that do not fit.
    """

    def __init__(self, config: PairConfig, *, scale: int, hr_crop: int, batch_size: int, seed: int) -> None:
        if hr_crop % scale:
            raise ValueError(
                f"hr_crop {hr_crop} is not a multiple of the scale, {scale}; use {hr_crop // scale * scale}"
            )
        made = bool(config.recipes) or bool(config.online_degrader)
        if not (config.shards or config.pairs or made):
            raise ValueError("nothing to learn from; give shards, pairs, a recipe or an online degrader")
        if config.reference_dirs and not config.online_degrader:
            raise ValueError("reference photographs give looks to a degrader; give an --online-degrader")
        if made and not config.hr_dir:
            raise ValueError(
                "--recipe and --online-degrader make LR images of HR photographs; give a folder of them (--hr-dir)"
            )
        self.config, self.scale, self.hr_crop, self.batch_size, self.seed = config, scale, hr_crop, batch_size, seed
        self.shards = [pair for shards in config.shards for pair in shard_pairs(shards)]
        self.pairs, self._unusable_pairs = aligned_pairs(config.pairs, scale=scale, min_side=hr_crop // scale)
        self.recipes = [Recipe.load(name) for name in config.recipes]
        self.hr: ImagePool | None = None
        if made:
            self.hr = ImagePool(list_sources(config.hr_dir), min_side=hr_crop, max_side=config.max_hr_side)
        if self.hr is not None and not self.hr:
            first = self.hr.left_out[0]
            raise ValueError(
                f"no HR photograph of {config.hr_dir} has sides of {hr_crop} px ({first}); use larger ones"
            )
        counts = (len(self.shards), len(self.pairs), len(self.recipes), bool(config.online_degrader))
        self.kind_weights = [weight * bool(count) for weight, count in zip(config.weights, counts, strict=True)]
        if not sum(self.kind_weights):
            reason = self.left_out[0] if self.left_out else f"the weights {config.weights} leave nothing to draw"
            raise ValueError(f"no pair is usable; the first reason: {reason}")
        self._shard_pair = ReadCache(self._read_shard_pair)

    @property
    def left_out(self) -> list[str]:
        """Return one sentence for each image or pair that is not used, also for those that drawing has found broken."""
        return [*self._unusable_pairs, *(self.hr.left_out if self.hr is not None else ())]

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Make the batch with a number.

        Returns:
            hr (B, 3, hr_crop, hr_crop) and lr (B, 3, hr_crop/scale, hr_crop/scale) in [0, 1]; online (B,) bool, where
            lr is yet to be made (`make_online`) and now zero; seed (B,) int64, of that.
        """
        rng = random.Random(f"{self.seed}/pairs/{number}")
        hr, lr, online, seeds = [], [], [], []
        for _ in range(self.batch_size):
            kind = rng.choices(KINDS, self.kind_weights)[0]
            one_hr, one_lr = self._draw(rng, kind, number)
            hr.append(one_hr)
            lr.append(one_lr)
            online.append(kind == "online")
            seeds.append(rng.getrandbits(62))
        return {
            "hr": torch.cat(hr),
            "lr": torch.cat(lr),
            "online": torch.tensor(online),
            "seed": torch.tensor(seeds, dtype=torch.int64),
        }

    def _draw(self, rng: random.Random, kind: str, number: int) -> tuple[Tensor, Tensor]:
        if kind == "shards":
            return self._cut(rng, *self._usable_shard_pair(rng))
        if kind == "pairs":
            return self._cut(rng, *rng.choice(self.pairs))
        assert self.hr is not None
        hr = self._toned(rng, self.hr.draw(rng, self.hr_crop, number))[0]
        if kind == "online":
            return hr, hr.new_zeros(1, 3, self.hr_crop // self.scale, self.hr_crop // self.scale)
        recipe = rng.choice(self.recipes)
        with torch.no_grad():
            return hr, Recipe.apply(hr, [recipe.draw(rng.getrandbits(62), self.scale)])

    def _usable_shard_pair(self, rng: random.Random) -> tuple[Rgb, Rgb]:
        """Draw a pair that can be read and is large enough; warn about a broken one and draw another."""
        for _ in range(TRIES):
            try:
                hr, lr = self._shard_pair(rng.randrange(len(self.shards)))
                return hr, lr
            except (ValueError, OSError) as err:
                warnings.warn(f"not used: {err}", stacklevel=2)
                reason = err
                if str(err) not in self._unusable_pairs:
                    self._unusable_pairs.append(str(err))
        raise ValueError(f"{TRIES} pairs in a row of the shards cannot be used; the last: {reason}")

    def _cut(self, rng: random.Random, hr: Rgb, lr: Rgb) -> tuple[Tensor, Tensor]:
        """Cut the same random crop of both images, turned and mirrored in one of eight ways."""
        side = self.hr_crop // self.scale
        grid = JPEG_BLOCK if min(lr.shape[:2]) >= side + JPEG_BLOCK else 1  # crops of JPEGs start where a block does
        top, left = corner(rng, lr, side, grid)
        parts = [
            to_tensor(crop(hr, top * self.scale, left * self.scale, self.hr_crop)),
            to_tensor(crop(lr, top, left, side)),
        ]
        flips, transposed = [axis for axis in (2, 3) if rng.random() < 0.5], rng.random() < 0.5
        parts = [part.flip(flips) for part in parts]
        hr_part, lr_part = self._toned(rng, *(part.transpose(2, 3) if transposed else part for part in parts))
        return hr_part, lr_part

    def _toned(self, rng: random.Random, *parts: Tensor) -> list[Tensor]:
        """Change the colours of images of one scene alike, or leave them as they are."""
        if rng.random() >= self.config.tones:
            return [part.contiguous() for part in parts]
        order, gain = rng.sample(range(3), 3), rng.uniform(0.6, 1)
        offset = rng.uniform(0, 1 - gain)
        return [part[:, order] * gain + offset for part in parts]

    def _read_shard_pair(self, index: int) -> tuple[Rgb, Rgb]:
        hr_source, lr_source = self.shards[index]
        hr, lr = read_image(hr_source.read()), read_image(lr_source.read())
        try:
            hr = crop_to_scale(hr, lr, self.scale)
        except ValueError as err:
            raise ValueError(f"{hr_source.name}: {err}") from err
        if min(hr.shape[:2]) < self.hr_crop:
            raise ValueError(f"{hr_source.name}: {hr.shape[1]}x{hr.shape[0]} is smaller than the crop, {self.hr_crop}")
        return hr, lr


def shard_pairs(shards: str) -> list[tuple[Source, Source]]:
    """List where HR and LR of every sample lie in local tars, without reading an image.

    Raises:
        ValueError: a sample lacks one of the two, or there is none.
    """
    pairs = []
    for tar in shard_paths(shards):
        samples: dict[str, dict[str, Source]] = {}
        for member in tar_members(tar):
            key, part, _ = split_member(member.name)
            if part in ("hr", "lr"):
                source = Source(f"{tar}/{member.name}", member.size, tar, member.offset)
                samples.setdefault(key, {})[part] = source
        for key, sample in samples.items():
            if len(sample) < 2:
                raise ValueError(f"{key} in {tar} has only its {next(iter(sample))} image; make the shard again")
            pairs.append((sample["hr"], sample["lr"]))
    if not pairs:
        raise ValueError(f"{shards} holds no pairs; its members should be called KEY.hr.png and KEY.lr.png")
    return pairs

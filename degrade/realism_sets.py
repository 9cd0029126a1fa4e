"""The crops that the realism report compares: real LR in two halves; ours, bicubic and Real-ESRGAN of the same HR.

The real images are split into two halves, whole images to a side. One half is what everything is measured against; the
other stands in the table as if it were a generator, and its distance is the best that can be hoped for: the noise
floor. So every distance, the floor too, compares equally many crops of different images.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from degrade.crops import reduce_by, shrink_to, shrunk_size, to_tensor
from degrade.images import Rgb, is_flat, probe_image, read_image
from degrade.mix import DegradationMix, Record
from degrade.recipe import Recipe
from degrade.recipe_steps import Drawn
from degrade.sources import Source, list_sources
from degrade.tars import LR_ROLES, shard_paths, split_member, tar_members
from degrade.texture import BLOCK
from degrade.train_report import to_image

Crops = NDArray[np.uint8]  # (N, side, side, 3) RGB

BATCH = 8
RECIPES = {"real_esrgan": "real-esrgan", "bicubic": "bicubic"}  # name in the report: preset
FLAT_RETRIES = 4


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


@dataclass(frozen=True)
class CropSets:
    """One seed's crops, all (N, side, side, 3) uint8 except ``hr``.

    Attributes:
        real: the half of the real images that everything is measured against.
        hr: what the made sets were made from, (N, side * scale, side * scale, 3).
        made: by name: ``real`` is the other half of the real images, then ``ours``, perhaps ``before``,
            ``real_esrgan``, ``bicubic``.
    """

    real: Crops
    hr: Crops
    made: dict[str, Crops]

    def shown(self) -> dict[str, Crops]:
        """What pictures and charts show: as ``real`` the half that is measured against, then what is made."""
        return {"real": self.real} | {name: crops for name, crops in self.made.items() if name != "real"}


def gather(
    real: ImagePool, hr: ImagePool, learned: dict[str, DegradationMix], *, count: int, side: int, seed: int,
    codes_from_real: bool,
) -> CropSets:  # fmt: skip
    """Cut and make the crops of one seed.

    Args:
        real: real LR images.
        hr: HR images.
        learned: the degraders under test by name: ``ours``, and perhaps ``before``.
        count: crops in each set.
        side: of an LR crop.
        seed: of the halves, the crops and the degradations.
        codes_from_real: take the codes from the half of the real images that is *not* measured against, in place of
            those that the degrader draws from.
    """
    scale = learned["ours"].scale
    count -= count % 2
    reference, held_out = real.halves(seed)
    # The same shuffle: where the HR images are the partners of the real ones, both have the same scenes in each half.
    hr_crops = hr.crops(count, side * scale, seed, among=[source for half in hr.halves(seed) for source in half])
    other = real.crops(count, side, seed + 1, among=reference, grid=BLOCK)
    if codes_from_real:
        learned = {name: _told_the_looks_of(other, mix) for name, mix in learned.items()}
    return CropSets(
        real=real.crops(count, side, seed, among=held_out, grid=BLOCK),
        hr=hr_crops,
        made={
            "real": other,
            **{name: make(hr_crops, mix, seed) for name, mix in learned.items()},
            **baselines(hr_crops, scale, seed),
        },
    )


def _told_the_looks_of(crops: Crops, mix: DegradationMix) -> DegradationMix:
    codes = codes_of(crops, mix)
    return DegradationMix(mix.degrader, None, scale=mix.scale, steps=mix.steps, codes=codes)


def baselines(hr: Crops, scale: int, seed: int) -> dict[str, Crops]:
    """LR of the HR crops by each baseline."""
    return {name: make_baseline(hr, name, scale, seed) for name in RECIPES}


def make_baseline(hr: Crops, name: str, scale: int, seed: int) -> Crops:
    """LR of the HR crops by the baseline that the report calls ``name``."""
    return make(hr, DegradationMix(None, Recipe.preset(RECIPES[name]), scale=scale), seed)


def make(hr: Crops, mix: DegradationMix, seed: int) -> Crops:
    """Degrade each crop with a draw of its own, as `synth` would: (N, H, W, 3) -> (N, H/scale, W/scale, 3)."""
    return degrade_crops(hr, mix, mix.draw(draw_seeds("make", seed, len(hr))))


def make_like(hr: Crops, mix: DegradationMix, codes: torch.Tensor, seed: int) -> Crops:
    """Degrade each crop by our degrader with the look that its code says, (N, code_dim); the seed is of the noise."""
    looks = zip(codes.tolist(), draw_seeds("noise", seed, len(hr)), strict=True)
    records = [{"kind": "learned", "code": code, "steps": mix.steps, "noise_seed": noise} for code, noise in looks]
    return degrade_crops(hr, mix, records)


def draw_seeds(purpose: str, seed: int, count: int) -> list[int]:
    """Seeds of ``count`` draws; another purpose has others, so that a baseline never repeats the truth's own draw."""
    rng = random.Random(f"{purpose}/{seed}")
    return [rng.getrandbits(53) for _ in range(count)]


def apply_drawn(hr: Crops, drawn: Sequence[Drawn]) -> Crops:
    """Degrade each crop by a recipe's drawn parameters."""
    carrier = DegradationMix(None, Recipe.preset("bicubic"), scale=drawn[0]["scale"])
    return degrade_crops(hr, carrier, [{"kind": "recipe", "params": params} for params in drawn])


def degrade_crops(hr: Crops, mix: DegradationMix, records: Sequence[Record]) -> Crops:
    """`DegradationMix.degrade` in batches, on 8-bit crops."""
    made = []
    device = mix.degrader.device if mix.degrader is not None else torch.device("cpu")
    for start in range(0, len(hr), BATCH):
        with torch.inference_mode():
            lr = mix.degrade(to_tensors(hr[start : start + BATCH]).to(device), records[start : start + BATCH])
        made += [to_image(image) for image in lr]
    return np.stack(made)


def codes_of(crops: Crops, mix: DegradationMix) -> torch.Tensor:
    """The codes of LR crops by the learned degrader of ``mix``, (N, code_dim)."""
    assert mix.degrader is not None
    with torch.inference_mode():
        device = mix.degrader.device
        return torch.cat([mix.degrader.encode(part.to(device)) for part in to_tensors(crops).split(BATCH)])


def clean_downsampling(hr: Crops, scale: int) -> Crops:
    """Area downsampling, the degrader's own anchor, rounded to 8 bits."""
    return np.stack([reduce_by(image, scale) for image in hr])


def to_tensors(crops: Crops) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float in [0, 1]."""
    return torch.cat([to_tensor(crop) for crop in crops])


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

"""UnitMaker: what a worker of `degrade synth` does with one unit of the plan: read, crop, degrade, encode."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from degrade.errors import ImageError, failure_reason
from degrade.files.sources import Source
from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import Rgb, crop_positions, is_flat, reduce_by, shrink_to
from degrade.images.tensors import to_tensor
from degrade.shards.layout import sample_key
from degrade.shards.record import SampleMeta
from degrade.shards.writer import PairShardWriter
from degrade.synth.job import Job
from degrade.synth.plan import PlannedSource, Unit
from degrade.synth.settings import SynthSettings, crop_seed, pair_seed

FLAT = "nearly flat crop, skipped (--keep-flat keeps it)"
PSNR_CAP_DB = 100.0


class MadePair(NamedTuple):
    """One pair, ready for a shard."""

    meta: SampleMeta
    hr: bytes
    lr: bytes


@dataclass(frozen=True)
class Progress:
    """Some work that is done: planned pairs, pairs that were made of these, their HR pixels, and where."""

    slots: int = 0
    pairs: int = 0
    pixels: int = 0
    host: str = ""

    def __add__(self, other: "Progress") -> "Progress":
        return Progress(
            self.slots + other.slots, self.pairs + other.pairs, self.pixels + other.pixels, self.host or other.host
        )


class Made(NamedTuple):
    """What a unit gave: pairs, and a failure for every key without one."""

    pairs: list[MadePair]
    failures: list[dict[str, object]]

    def write(self, writer: PairShardWriter, settings: SynthSettings) -> Progress:
        """Put all of it into the shard."""
        for pair in self.pairs:
            writer.write(pair.meta.key, pair.hr, pair.lr, pair.meta, hr_ext=settings.hr_ext, lr_ext=settings.lr_ext)
        for failure in self.failures:
            writer.fail(failure)
        pixels = sum(pair.meta.crop_height * pair.meta.crop_width for pair in self.pairs)
        return Progress(len(self.pairs) + len(self.failures), len(self.pairs), pixels)


class UnitMaker:
    """Makes the pairs of a unit: read, crop, degrade in batches, encode.

    Args:
        job: settings and model.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.settings = job, job.settings
        self.settings_hash = job.settings.hash()
        self.degradation_hash = job.settings.degradation_hash()
        self.mix = job.mix().to(job.settings.device)
        # Consecutive units are often of one image: decode it, and choose where to crop, once.
        self._decoded = lru_cache(1)(self._decode)
        self._corners = lru_cache(1)(self._choose_corners)

    def make(self, unit: Unit) -> Made:
        """All pairs of a unit; an image that turns out unusable gives failures, never an exception."""
        planned, source = unit.planned, unit.source
        keys = [sample_key(slot) for slot, _, _ in unit.slots]
        decoded = self._decoded(source, planned)
        if isinstance(decoded, str):
            return Made([], [{"key": key, "source": planned.name, "reason": decoded} for key in keys])
        image, digest = decoded
        corners = self._corners(planned)
        pairs: list[MadePair] = []
        failures: list[dict[str, object]] = []
        ready: list[tuple[str, int, int, Rgb, bytes]] = []
        crops: dict[int, tuple[Rgb, bytes] | None] = {}
        for key, (_, crop, variant) in zip(keys, unit.slots, strict=True):
            if crop not in crops:
                crops[crop] = self._crop(image, corners[crop])
            content = crops[crop]
            if content is None:
                failures.append({"key": key, "source": planned.name, "reason": FLAT, "skipped": True})
            else:
                ready.append((key, crop, variant, *content))
        batch_size = self.settings.batch_size or 1
        for at in range(0, len(ready), batch_size):
            pairs += self._pairs(ready[at : at + batch_size], planned.name, digest, corners)
        return Made(pairs, failures)

    def _pairs(
        self, batch: list[tuple[str, int, int, Rgb, bytes]], name: str, digest: str, corners: list[tuple[int, int]]
    ) -> list[MadePair]:
        settings = self.settings
        seeds = [
            pair_seed(self.degradation_hash, settings.seed, name, (*corners[crop], *image.shape[:2]), variant)
            for _, crop, variant, image, _ in batch
        ]
        records = self.mix.draw(seeds)
        hr = torch.cat([to_tensor(image) for *_, image, _ in batch]).to(settings.device)
        lr = (self.mix.degrade_exactly(hr, records) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        pairs = []
        for (key, crop, variant, image, hr_bytes), seed, record, small in zip(batch, seeds, records, lr, strict=True):
            learned = record["kind"] == "learned"
            meta = SampleMeta(
                key=key,
                source=name,
                source_sha256=digest,
                crop_top=corners[crop][0],
                crop_left=corners[crop][1],
                crop_height=image.shape[0],
                crop_width=image.shape[1],
                variant=variant,
                scale=settings.scale,
                seed=seed,
                settings_hash=self.settings_hash,
                kind=record["kind"],
                degrader=f"{settings.degrader}@{settings.degrader_sha256[:12]}" if learned else "",
                recipe="" if learned else record["recipe"],
                steps=record["steps"] if learned else 0,
                psnr_to_clean=psnr_db(small, reduce_by(image, settings.scale)),
                params=json.dumps(record, sort_keys=True),
            )
            pairs.append(MadePair(meta, hr_bytes, self._encode(small, settings.lr_ext)))
        return pairs

    def _decode(self, source: Source, planned: PlannedSource) -> tuple[Rgb, str] | str:
        """The image and the hash of its file, or why there is none."""
        try:
            data = source.read()
            image = read_image(data, alpha=self.settings.alpha, max_pixels=self.settings.max_pixels)
        except (ImageError, OSError) as err:
            return failure_reason(err)
        image = shrink_to(image, self.settings.max_hr_side)
        if image.shape[:2] != (planned.height, planned.width):
            return f"is {image.shape[1]}x{image.shape[0]} now, was {planned.width}x{planned.height} when planned"
        return image, hashlib.sha256(data).hexdigest()

    def _choose_corners(self, planned: PlannedSource) -> list[tuple[int, int]]:
        settings = self.settings
        if not settings.crop_size:
            return [(0, 0)]
        count = settings.crops_per_image or None
        seed = crop_seed(settings, planned.name)
        return crop_positions(planned.height, planned.width, settings.crop_size, count, seed)

    def _crop(self, image: Rgb, corner: tuple[int, int]) -> tuple[Rgb, bytes] | None:
        """The HR crop as a reader of the shard will see it, and its file; None when it is flat."""
        top, left = corner
        height, width = (self.settings.crop_size or length for length in image.shape[:2])
        crop = image[top : top + height, left : left + width]
        crop = crop[: crop.shape[0] // self.settings.scale * self.settings.scale]
        crop = np.ascontiguousarray(crop[:, : crop.shape[1] // self.settings.scale * self.settings.scale])
        if not self.settings.keep_flat and is_flat(crop):
            return None
        data = self._encode(crop, self.settings.hr_ext)
        # A lossy HR is degraded as it was stored, so that the pair fits together and can be replayed.
        return (read_image(data) if self.settings.hr_ext == "jpg" else crop), data

    def _encode(self, image: Rgb, ext: str) -> bytes:
        return encode_image(image, ext, self.settings.jpg_quality if ext == "jpg" else None)


def psnr_db(a: Rgb, b: Rgb) -> float:
    """PSNR of two 8-bit images over all channels, dB; at most 100."""
    mse = float(((a.astype(np.float64) - b) ** 2).mean())
    return min(PSNR_CAP_DB, 10 * float(np.log10(255**2 / mse))) if mse else PSNR_CAP_DB

"""Turn one unit of the plan into encoded pairs: read, crop, degrade, encode."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from degrade.errors import ImageError, failure_reason
from degrade.files.sources import Source
from degrade.files.store import Store
from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import Rgb, crop_positions, is_flat, reduce_by, shrink_to
from degrade.images.tensors import to_image, to_tensor
from degrade.mix import Record
from degrade.shards.folder_writer import PairFolderWriter
from degrade.shards.layout import sample_key
from degrade.shards.part_writer import PartWriter
from degrade.shards.record import SampleMeta
from degrade.shards.writer import PairShardWriter
from degrade.synth.job import Job
from degrade.synth.plan import PlannedSource, Slot, Unit
from degrade.synth.settings import SynthSettings, crop_seed, pair_seed

FLAT_CROP = "nearly flat crop, skipped (--keep-flat keeps it)"
PSNR_CAP_DB = 100.0


class EncodedPair(NamedTuple):
    """Hold one pair, ready for a shard."""

    meta: SampleMeta
    hr: bytes
    lr: bytes


@dataclass(frozen=True)
class WorkDone:
    """Count the work that is done.

    Attributes:
        slots: planned pairs that were tried.
        pairs: pairs that were made.
        pixels: HR pixels of these pairs.
        host: machine that did the work; "" for this machine.
    """

    slots: int = 0
    pairs: int = 0
    pixels: int = 0
    host: str = ""

    def __add__(self, other: "WorkDone") -> "WorkDone":
        return WorkDone(
            self.slots + other.slots, self.pairs + other.pairs, self.pixels + other.pixels, self.host or other.host
        )


class UnitResult(NamedTuple):
    """Hold the pairs of a unit, and a failure for every slot without a pair."""

    pairs: list[EncodedPair]
    failures: list[dict[str, object]]

    def write(self, writer: PartWriter, settings: SynthSettings) -> WorkDone:
        """Write pairs and failures to a shard."""
        for pair in self.pairs:
            writer.write(pair.meta.key, pair.hr, pair.lr, pair.meta.to_json(), settings.hr_ext, settings.lr_ext)
        for failure in self.failures:
            writer.fail(failure)
        pixels = sum(pair.meta.crop_height * pair.meta.crop_width for pair in self.pairs)
        return WorkDone(len(self.pairs) + len(self.failures), len(self.pairs), pixels)


def part_writer(store: Store, shard: int, settings: SynthSettings) -> PartWriter:
    """Return the writer of one shard in the format of the data set."""
    return PairFolderWriter(store, shard) if settings.format == "folders" else PairShardWriter(store, shard)


class _Photograph(NamedTuple):
    """Hold a decoded image and the sha256 of its file."""

    pixels: Rgb
    sha256: str


class _HrCrop(NamedTuple):
    """Hold an HR crop as a reader of the shard will see it, its encoded file, and its place in the image."""

    pixels: Rgb
    file: bytes
    top: int
    left: int


class UnitMaker:
    """Make the pairs of units.

    Args:
        job: settings and model.
    """

    def __init__(self, job: Job) -> None:
        self.settings = job.settings
        self._settings_hash = job.settings.hash()
        self._degradation_hash = job.settings.degradation_hash()
        self.mix = job.mix().to(job.settings.device)
        # Consecutive units often share an image: decode it, and choose its crops, only once.
        self._decoded = lru_cache(1)(self._decode)
        self._corners = lru_cache(1)(self._choose_corners)

    def make(self, unit: Unit) -> UnitResult:
        """Make all pairs of a unit. An image that turns out unusable gives failures, never an exception."""
        name = unit.planned.name
        photograph = self._decoded(unit.source, unit.planned)
        if isinstance(photograph, str):
            failure = {"source": name, "reason": photograph}
            return UnitResult([], [{"key": sample_key(slot.number), **failure} for slot in unit.slots])
        corners = self._corners(unit.planned)
        failures: list[dict[str, object]] = []
        wanted: list[tuple[Slot, _HrCrop]] = []
        crops: dict[int, _HrCrop | None] = {}
        for slot in unit.slots:
            if slot.crop not in crops:
                crops[slot.crop] = self._crop(photograph.pixels, *corners[slot.crop])
            hr = crops[slot.crop]
            if hr is None:
                key = sample_key(slot.number)
                failures.append({"key": key, "source": name, "reason": FLAT_CROP, "skipped": True})
            else:
                wanted.append((slot, hr))
        pairs: list[EncodedPair] = []
        batch_size = self.settings.batch_size or 1
        for at in range(0, len(wanted), batch_size):
            batch = wanted[at : at + batch_size]
            try:
                pairs += self._degrade(batch, name, photograph.sha256)
            except ImageError as err:  # a codec inside a recipe cannot hold so large a crop
                reason = failure_reason(err)
                failures += [{"key": sample_key(slot.number), "source": name, "reason": reason} for slot, _ in batch]
        return UnitResult(pairs, failures)

    def _degrade(self, batch: list[tuple[Slot, _HrCrop]], name: str, source_sha256: str) -> list[EncodedPair]:
        settings = self.settings
        seeds = [
            pair_seed(
                self._degradation_hash, settings.seed, name, (hr.top, hr.left, *hr.pixels.shape[:2]), slot.variant
            )
            for slot, hr in batch
        ]
        records = self.mix.draw(seeds)
        hr_batch = torch.cat([to_tensor(hr.pixels) for _, hr in batch]).to(settings.device)
        lr_batch = self.mix.degrade_exactly(hr_batch, records)
        pairs = []
        for (slot, hr), seed, record, tensor in zip(batch, seeds, records, lr_batch, strict=True):
            lr = to_image(tensor)
            meta = SampleMeta(
                key=sample_key(slot.number),
                source=name,
                source_sha256=source_sha256,
                crop_top=hr.top,
                crop_left=hr.left,
                crop_height=hr.pixels.shape[0],
                crop_width=hr.pixels.shape[1],
                variant=slot.variant,
                scale=settings.scale,
                seed=seed,
                settings_hash=self._settings_hash,
                psnr_to_clean=psnr_db(lr, reduce_by(hr.pixels, settings.scale)),
                params=json.dumps(record, sort_keys=True),
                **self._origin(record),
            )
            pairs.append(EncodedPair(meta, hr.file, self._encode(lr, settings.lr_ext)))
        return pairs

    def _origin(self, record: Record) -> dict[str, Any]:
        """Return the fields that say which degrader or recipe made the LR image."""
        if record["kind"] == "recipe":
            return {"kind": "recipe", "degrader": "", "recipe": record["recipe"], "steps": 0}
        degrader = f"{self.settings.degrader}@{self.settings.degrader_sha256[:12]}"
        return {"kind": "learned", "degrader": degrader, "recipe": "", "steps": record["steps"]}

    def _decode(self, source: Source, planned: PlannedSource) -> _Photograph | str:
        """Read an image; return the reason if it cannot be used."""
        try:
            data = source.read()
            image = read_image(data, alpha=self.settings.alpha, max_pixels=self.settings.max_pixels)
        except (ImageError, OSError) as err:
            return failure_reason(err)
        image = shrink_to(image, self.settings.max_hr_side)
        if image.shape[:2] != (planned.height, planned.width):
            return f"is {image.shape[1]}x{image.shape[0]} now, was {planned.width}x{planned.height} when planned"
        return _Photograph(image, hashlib.sha256(data).hexdigest())

    def _choose_corners(self, planned: PlannedSource) -> list[tuple[int, int]]:
        """Return the top left corners of the crops of an image."""
        settings = self.settings
        if not settings.crop_size:
            return [(0, 0)]
        count = settings.crops_per_image or None
        seed = crop_seed(settings, planned.name)
        return crop_positions(planned.height, planned.width, settings.crop_size, count, seed)

    def _crop(self, image: Rgb, top: int, left: int) -> _HrCrop | None:
        """Cut and encode an HR crop, with sides that are multiples of the scale; None if it is flat."""
        scale, ext = self.settings.scale, self.settings.hr_ext
        height, width = ((self.settings.crop_size or length) // scale * scale for length in image.shape[:2])
        crop = np.ascontiguousarray(image[top : top + height, left : left + width])
        if not self.settings.keep_flat and is_flat(crop):
            return None
        file = self._encode(crop, ext)
        # A lossy HR image is degraded as it was stored, so that the pair fits together and can be replayed.
        return _HrCrop(read_image(file) if ext == "jpg" else crop, file, top, left)

    def _encode(self, image: Rgb, ext: str) -> bytes:
        return encode_image(image, ext, self.settings.jpg_quality if ext == "jpg" else None)


def psnr_db(a: Rgb, b: Rgb) -> float:
    """Compute the PSNR of two 8-bit images over all channels, in dB; at most `PSNR_CAP_DB`."""
    mse = float(((a.astype(np.float64) - b) ** 2).mean())
    return min(PSNR_CAP_DB, 10 * float(np.log10(255**2 / mse))) if mse else PSNR_CAP_DB

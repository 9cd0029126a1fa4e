"""Synthesis of a data set: plan, then crop, degrade and encode in worker processes, then shards.

    SynthRun.open      resolves the settings, makes or checks the plan and the manifest
    SynthRun.run       the loop: units of work out, encoded pairs in, shard after shard
    UnitMaker          what a worker does with one unit; the same code makes a preview

Each pair depends on its own seed alone. The parent writes the shards in the order of the plan and keeps only a few
units in flight, so that memory does not grow with the data set.
"""

import hashlib
import json
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from degrade.degrader import RealisticDegrader
from degrade.images import ImageError, crop_positions, encode_image, is_flat, read_image
from degrade.mix import DegradationMix, fingerprint
from degrade.plan import (
    PlannedSource,
    SynthSettings,
    Unit,
    crop_seed,
    pair_seed,
    plan_sources,
    plan_units,
)
from degrade.recipe import Recipe
from degrade.sample_meta import SampleMeta
from degrade.shards import (
    PairShardWriter,
    remove_stale,
    sample_key,
    shard_is_done,
    write_atomic,
    write_indexes,
)
from degrade.sources import Source, list_sources
from degrade.tars import ShardError
from degrade.train_data import reduce_by, shrink_to, to_tensor

IN_FLIGHT_PER_WORKER = 3
MANIFEST, PLAN = "manifest.json", "plan.jsonl"
FLAT = "nearly flat crop, skipped (--keep-flat keeps it)"
PSNR_CAP_DB = 100.0

Image = NDArray[np.uint8]


class MadePair(NamedTuple):
    """One pair, ready for a shard."""

    meta: SampleMeta
    hr: bytes
    lr: bytes


class Made(NamedTuple):
    """What a unit gave: pairs, failures by key, and HR pixels degraded."""

    pairs: list[MadePair]
    failures: list[dict[str, object]]


@dataclass(frozen=True)
class Job:
    """What a worker needs beside its units; small and picklable.

    Attributes:
        settings: of the run.
        degrader: what `RealisticDegrader.from_pretrained` takes, "" without one.
        codes: of reference photographs, or None.
    """

    settings: SynthSettings
    degrader: str
    codes: list[list[float]] | None

    def mix(self) -> DegradationMix:
        """Load the degrader and build the mix."""
        settings = self.settings
        degrader = (
            RealisticDegrader.from_pretrained(self.degrader).eval().to(settings.device) if self.degrader else None
        )
        recipe = Recipe.from_dict(settings.recipe) if settings.recipe is not None else None
        codes = None if self.codes is None else torch.tensor(self.codes)
        return DegradationMix(
            degrader, recipe, mix=settings.mix, scale=settings.scale, steps=settings.steps, codes=codes
        )


class UnitMaker:
    """Makes the pairs of a unit: read, crop, degrade in batches, encode.

    Args:
        job: settings and model.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.settings = job, job.settings
        self.settings_hash = job.settings.hash()
        self.mix = job.mix()
        # Consecutive units are often of one image: decode it once.
        self._decoded = lru_cache(1)(self._decode)

    def make(self, unit: Unit, planned: PlannedSource, source: Source) -> Made:
        """All pairs of a unit; an image that turns out unusable gives failures, never an exception."""
        keys = [sample_key(slot) for slot, _, _ in unit.slots]
        try:
            image, digest = self._decoded(source)
            if image.shape[:2] != (planned.height, planned.width):
                raise ImageError(f"is {image.shape[1]}x{image.shape[0]} now, was {planned.width}x{planned.height}")
        except (ImageError, OSError) as err:
            return Made([], [{"key": key, "source": planned.name, "reason": str(err)} for key in keys])
        corners = self._corners(planned)
        pairs: list[MadePair] = []
        failures: list[dict[str, object]] = []
        ready: list[tuple[str, int, int, Image, bytes]] = []
        crops: dict[int, tuple[Image, bytes] | None] = {}
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
        self, batch: list[tuple[str, int, int, Image, bytes]], name: str, digest: str, corners: list[tuple[int, int]]
    ) -> list[MadePair]:
        settings = self.settings
        seeds = [pair_seed(self.settings_hash, settings.seed, name, crop, variant) for _, crop, variant, _, _ in batch]
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

    def _decode(self, source: Source) -> tuple[Image, str]:
        data = source.read()
        image = read_image(data, alpha=self.settings.alpha, max_pixels=self.settings.max_pixels)
        return shrink_to(image, self.settings.max_hr_side), hashlib.sha256(data).hexdigest()

    def _corners(self, planned: PlannedSource) -> list[tuple[int, int]]:
        settings = self.settings
        if not settings.crop_size:
            return [(0, 0)]
        count = settings.crops_per_image or None
        seed = crop_seed(settings, planned.name)
        return crop_positions(planned.height, planned.width, settings.crop_size, count, seed)

    def _crop(self, image: Image, corner: tuple[int, int]) -> tuple[Image, bytes] | None:
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

    def _encode(self, image: Image, ext: str) -> bytes:
        return encode_image(image, ext, self.settings.jpg_quality if ext == "jpg" else None)


class SynthRun:
    """A data set being made in a folder.

    Attributes:
        out: the folder.
        job: settings and model.
        planned: the images of the plan, in the order of the shards.
        sources: where to read them, by name; images of earlier parts may be gone.
        left_out: images that the plan does not use, with the reason.
    """

    def __init__(
        self,
        out: Path,
        job: Job,
        planned: list[PlannedSource],
        sources: dict[str, Source],
        left_out: list[dict[str, str]],
    ) -> None:
        self.out, self.job, self.planned, self.sources, self.left_out = out, job, planned, sources, left_out

    @classmethod
    def open(cls, hr_dir: Path, out: Path, job: Job, *, overwrite: bool = False, extend: bool = False) -> "SynthRun":
        """Plan the data set, or take up the one that ``out`` holds.

        Args:
            hr_dir: where HR images are: a folder, a list, or shards.
            out: the folder of the data set; made when missing.
            job: settings and model.
            overwrite: remove the data set that ``out`` holds.
            extend: add images that the plan does not know yet, as further shards.

        Raises:
            ValueError: settings or images differ from those of the data set in ``out``, or no image is usable.
        """
        listed = list_sources(hr_dir)
        if overwrite:
            remove_data_set(out)
        manifest = read_manifest(out)
        if manifest is None and any(out.glob("pairs-*.tar")):
            raise ValueError(f"{out} holds shards but no {MANIFEST}; choose another --out, or move them away")
        if manifest is None:
            planned, left_out = plan_sources(listed, job.settings)
        else:
            before, now = manifest["settings"], asdict(job.settings)
            differing = [name for name in now if before.get(name) != json.loads(json.dumps(now[name]))]
            if differing:
                told = "; ".join(f"{name} was {_short(before.get(name))}, is {_short(now[name])}" for name in differing)
                raise ValueError(
                    f"{out} holds a data set made with other settings ({told}); "
                    "use those, another --out, or --overwrite to remove it first"
                )
            planned = [PlannedSource(**json.loads(line)) for line in (out / PLAN).read_text().splitlines()]
            planned, left_out = cls._same_or_extended(planned, listed, job.settings, out, extend)
        if not planned:
            first = f"; {left_out[0]['source']}: {left_out[0]['reason']}" if left_out else ""
            raise ValueError(f"none of the {len(listed)} images in {hr_dir} is usable{first}")
        return cls(out, job, planned, {source.name: source for source in listed}, left_out)

    @staticmethod
    def _same_or_extended(
        planned: list[PlannedSource], listed: list[Source], settings: SynthSettings, out: Path, extend: bool
    ) -> tuple[list[PlannedSource], list[dict[str, str]]]:
        """The plan of the manifest, checked against the images there are now."""
        now = {source.name: source for source in listed}
        known = {source.name: source.bytes_len for source in planned}
        changed = [name for name, size in known.items() if name in now and now[name].bytes_len != size]
        new, left_out = plan_sources(
            [source for source in listed if source.name not in known], settings, part=planned[-1].part + 1
        )
        gone = [name for name in known if name not in now]
        if changed:
            raise ValueError(
                f"{len(changed)} images changed since {out} was begun, {changed[0]} first; "
                "put them back, use another --out, or --overwrite"
            )
        if (new or gone) and not extend:
            raise ValueError(
                f"the images are not those that {out} was begun with: {len(new)} new, {len(gone)} gone "
                f"({(new[0].name if new else gone[0])} first); --extend adds new ones as further shards"
            )
        return planned + new, left_out

    def units(self) -> list[Unit]:
        """The whole plan."""
        return list(plan_units(self.planned, self.job.settings))

    def describe(self) -> dict[str, Any]:
        """The resolved settings and the size of the plan, for a dry run."""
        units = self.units()
        return {
            "settings": asdict(self.job.settings),
            "settings_hash": self.job.settings.hash(),
            "images": len(self.planned),
            "images_left_out": self.left_out,
            "pairs": sum(len(unit.slots) for unit in units),
            "shards": len({unit.shard for unit in units}),
        }

    def run(self, *, workers: int, progress: bool = True) -> dict[str, Any]:
        """Make every shard that is not finished yet.

        Args:
            workers: processes; 0 works in this one.
            progress: show a bar.

        Returns:
            The content of stats.json: counts, bytes, failures, speed of this run.

        Raises:
            ShardError: the disk is full or not writable, or a worker died.
        """
        began = time.monotonic()
        self.out.mkdir(parents=True, exist_ok=True)
        self._write_manifest()
        remove_stale(self.out)
        units = self.units()
        shards = sorted({unit.shard for unit in units})
        missing = {shard for shard in shards if not shard_is_done(self.out, shard)}
        todo = [unit for unit in units if unit.shard in missing]
        pairs_of = {unit: len(unit.slots) for unit in units}
        total = sum(pairs_of.values())
        made_pixels = made_pairs = 0
        bar = tqdm(
            total=total, initial=total - sum(pairs_of[unit] for unit in todo), unit="pair", smoothing=0.1,
            disable=None if progress else True,
        )  # fmt: skip
        with bar, unit_results(self.job, todo, self.planned, self.sources, workers) as results:
            for shard in sorted(missing):
                with PairShardWriter(self.out, shard) as writer:
                    for unit in (unit for unit in todo if unit.shard == shard):
                        made = next(results)
                        for pair in made.pairs:
                            writer.write(
                                pair.meta.key, pair.hr, pair.lr, pair.meta,
                                hr_ext=self.job.settings.hr_ext, lr_ext=self.job.settings.lr_ext,
                            )  # fmt: skip
                            made_pixels += pair.meta.crop_height * pair.meta.crop_width
                        for failure in made.failures:
                            writer.fail(failure)
                        made_pairs += len(made.pairs)
                        bar.update(len(unit.slots))
                        megapixels = made_pixels / 1e6 / (time.monotonic() - began)
                        bar.set_postfix_str(f"{megapixels:.2f} HR MP/s", refresh=False)
        seconds = time.monotonic() - began
        summary = {
            "settings_hash": self.job.settings.hash(),
            "planned_pairs": total,
            "images": len(self.planned),
            "images_left_out": len(self.left_out),
        }
        stats = write_indexes(self.out, summary=summary, planning_failures=self.left_out)
        speed = {
            "pairs_made_now": made_pairs,
            "seconds": round(seconds, 2),
            "hr_megapixels_per_second": round(made_pixels / 1e6 / max(seconds, 1e-9), 3),
        }
        return {**stats, **speed}

    def _write_manifest(self) -> None:
        settings = self.job.settings
        plan = "".join(json.dumps(asdict(source), sort_keys=True) + "\n" for source in self.planned)
        manifest = {
            "format": 1,
            "settings": asdict(settings),
            "settings_hash": settings.hash(),
            "plan_sha256": hashlib.sha256(plan.encode()).hexdigest(),
            "reference_codes": self.job.codes,
            "versions": {name: version(name) for name in ("realistic-degrader", "torch", "opencv-python", "pillow")},
        }
        write_atomic(self.out / PLAN, plan.encode())
        write_atomic(self.out / MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())


@contextmanager
def unit_results(
    job: Job, todo: list[Unit], planned: list[PlannedSource], sources: dict[str, Source], workers: int
) -> Iterator[Iterator[Made]]:
    """Results of the units in their order, made here (``workers`` 0) or by processes, a few ahead and no more."""

    def arguments(unit: Unit) -> tuple[Unit, PlannedSource, Source]:
        name = planned[unit.source].name
        return unit, planned[unit.source], sources.get(name) or Source(name, 1, f"{name} (gone)")

    if not workers:
        maker = UnitMaker(job)
        yield (maker.make(*arguments(unit)) for unit in todo)
        return
    # spawn: a forked torch with its threads may hang, a forked CUDA fails
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(job,))

    def in_order() -> Iterator[Made]:
        waiting: deque[Future[Made]] = deque()
        for unit in todo:
            waiting.append(pool.submit(_work, *arguments(unit)))
            if len(waiting) >= workers * IN_FLIGHT_PER_WORKER:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())

    try:
        yield in_order()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: UnitMaker


def _start_worker(job: Job) -> None:
    global _worker  # one per process: the model is loaded once, not with every unit
    cv2.setNumThreads(1)  # the processes share the cores already
    _worker = UnitMaker(job)


def _work(unit: Unit, planned: PlannedSource, source: Source) -> Made:
    return _worker.make(unit, planned, source)


def _result(future: "Future[Made]") -> Made:
    try:
        return future.result()
    except BrokenProcessPool as err:
        raise ShardError(
            "a worker process died (out of memory?); run the same command again, with fewer --workers: "
            "finished shards are kept"
        ) from err


def resolve_job(settings: SynthSettings, *, degrader: str, reference_dir: Path | None) -> Job:
    """Load the degrader once to learn its fingerprint and the codes of reference photographs.

    Args:
        settings: as given; degrader, its hash, and the hash of the codes are filled in here.
        degrader: shipped name, folder, hub id, or "none".
        reference_dir: photographs to degrade like, or None.

    Raises:
        ValueError: nothing to degrade with, a scale that does not fit, or no readable reference.
    """
    if degrader == "none":
        if settings.recipe is None:
            raise ValueError("--degrader none leaves nothing to degrade with; give a --preset or a --recipe")
        if reference_dir is not None:
            raise ValueError("--reference-dir needs a learned degrader; --degrader none has no codes")
        return Job(replace(settings, degrader="none", steps=0), "", None)
    model = RealisticDegrader.from_pretrained(degrader).eval()
    codes = None if reference_dir is None else reference_codes(model, reference_dir)
    codes_sha256 = "" if codes is None else hashlib.sha256(json.dumps(codes).encode()).hexdigest()
    name = Path(degrader).name if os.path.isdir(degrader) else degrader
    settings = replace(settings, degrader=name, degrader_sha256=fingerprint(model), codes_sha256=codes_sha256)
    job = Job(settings, degrader, codes)
    job.mix()  # says now, in one sentence, what does not fit
    return job


def reference_codes(degrader: RealisticDegrader, folder: Path) -> list[list[float]]:
    """The code of every photograph in a folder, in the order of their names; unreadable ones are an error.

    Raises:
        ValueError: an image cannot be read or is smaller than 16 px.
    """
    codes = []
    for source in list_sources(folder):
        try:
            image = read_image(source.read())
            if min(image.shape[:2]) < 16:
                raise ImageError(
                    f"{image.shape[1]}x{image.shape[0]} is too small to tell its degradation; use 16 or more"
                )
        except (ImageError, OSError) as err:
            raise ValueError(f"reference {source.name}: {err}") from err
        with torch.inference_mode():
            codes.append(degrader.encode(to_tensor(image[:1024, :1024]))[0].tolist())
    return codes


def psnr_db(a: Image, b: Image) -> float:
    """PSNR of two 8-bit images over all channels, dB; at most 100."""
    mse = float(((a.astype(np.float64) - b) ** 2).mean())
    return min(PSNR_CAP_DB, 10 * float(np.log10(255**2 / mse))) if mse else PSNR_CAP_DB


def read_manifest(out: Path) -> dict[str, Any] | None:
    """The manifest of a data set; None where there is none.

    Raises:
        ValueError: there is one that cannot be read.
    """
    try:
        return json.loads((out / MANIFEST).read_text())
    except FileNotFoundError:
        return None
    except ValueError as err:
        raise ValueError(f"{out / MANIFEST} is not readable ({err}); --overwrite starts anew") from err


def remove_data_set(out: Path) -> None:
    """Remove what `synth` wrote to ``out`` and nothing else."""
    names = (MANIFEST, PLAN, "_info.json", "shardindex.json", "stats.json", "failures.jsonl", "preview.png")
    for path in [*out.glob("pairs-*.json"), *out.glob("pairs-*.tar"), *(out / name for name in names)]:
        path.unlink(missing_ok=True)
    if out.is_dir():
        remove_stale(out)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"

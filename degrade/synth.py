"""Synthesis of a data set: plan, then crop, degrade and encode in worker processes, then shards.

    SynthRun.open      makes or checks the plan, against the settings and the manifest
    SynthRun.run       the loop: units of work out, encoded pairs in, shard after shard

Each pair depends on its own seed alone. The parent writes the shards in the order of the plan and keeps only a few
units in flight, so that memory does not grow with the number of pairs.
"""

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from degrade.job import Job
from degrade.plan import PlannedSource, SynthSettings, Unit, plan_sources, plan_units
from degrade.shards import PairShardWriter, remove_stale, shard_is_done, write_atomic, write_indexes
from degrade.sources import Source, list_sources
from degrade.unit_maker import Made
from degrade.workers import unit_results

MANIFEST, PLAN = "manifest.json", "plan.jsonl"
FORMAT = 1


class SynthRun:
    """A data set being made in a folder.

    Attributes:
        out: the folder.
        job: settings and model.
        planned: the images of the plan, in the order of the shards.
        sources: where to read them, by name; images of earlier parts may be gone.
        left_out: images that the plan does not use, with the reason.
        replaces: whether `run` first removes the data set that ``out`` holds.
    """

    def __init__(
        self,
        out: Path,
        job: Job,
        planned: list[PlannedSource],
        sources: dict[str, Source],
        left_out: list[dict[str, str]],
        replaces: bool = False,
    ) -> None:
        self.out, self.job, self.planned, self.sources, self.left_out = out, job, planned, sources, left_out
        self.replaces = replaces

    @classmethod
    def open(cls, hr_dir: Path, out: Path, job: Job, *, overwrite: bool = False, extend: bool = False) -> "SynthRun":
        """Plan the data set, or take up the one that ``out`` holds; nothing is written or removed yet.

        Args:
            hr_dir: where HR images are: a folder, a list, or shards.
            out: the folder of the data set; made when missing.
            job: settings and model.
            overwrite: let `run` remove the data set that ``out`` holds.
            extend: add images that the plan does not know yet, as further shards.

        Raises:
            ValueError: settings or images differ from those of the data set in ``out``, no image is usable, or what
                ``out`` holds is not ours.
        """
        _check_places(hr_dir, out)
        listed = list_sources(hr_dir)
        manifest = read_manifest(out)
        if manifest is None and _data_files(out):
            raise ValueError(f"{out} holds shards but no {MANIFEST}; choose another --out, or move them away")
        if manifest is None or overwrite:
            planned, left_out = plan_sources(listed, job.settings)
        else:
            _check_settings(manifest["settings"], job.settings, out)
            planned, left_out = _same_or_extended(_read_plan(out), listed, job.settings, out, extend)
        if not planned:
            first = f"; {left_out[0]['source']}: {left_out[0]['reason']}" if left_out else ""
            raise ValueError(f"none of the {len(listed)} images in {hr_dir} is usable{first}")
        sources = {source.name: source for source in listed}
        return cls(out, job, planned, sources, left_out, replaces=manifest is not None and overwrite)

    def units(self) -> Iterator[Unit]:
        """The whole plan; made on the fly, since it may be millions."""
        return plan_units(self.planned, self.job.settings)

    def describe(self) -> dict[str, Any]:
        """The resolved settings and the size of the plan, for a dry run."""
        pairs_of = self._pairs_of_shards()
        return {
            "settings": asdict(self.job.settings),
            "settings_hash": self.job.settings.hash(),
            "images": len(self.planned),
            "images_left_out": self.left_out,
            "pairs": pairs_of.total(),
            "shards": len(pairs_of),
        }

    def run(self, *, workers: int, progress: bool = True) -> dict[str, Any]:
        """Make every shard that is not finished yet.

        Args:
            workers: processes; 0 works in this one.
            progress: show a bar.

        Returns:
            The content of stats.json (counts, bytes, failures), and the pairs, seconds and speed of this run.

        Raises:
            ShardError: the disk is full or not writable, or a worker died.
        """
        began = time.monotonic()
        if self.replaces:
            remove_data_set(self.out)
            self.replaces = False
        self.out.mkdir(parents=True, exist_ok=True)
        self._write_manifest()
        remove_stale(self.out)
        pairs_of = self._pairs_of_shards()
        missing = {shard for shard in pairs_of if not shard_is_done(self.out, shard)}
        total, todo = pairs_of.total(), sum(pairs_of[shard] for shard in missing)
        pixels = pairs = 0
        bar = tqdm(total=total, initial=total - todo, unit="pair", smoothing=0.1, disable=None if progress else True)
        with bar, unit_results(self.job, self._units_of(missing), self.planned, self.sources, workers) as results:
            for shard, units in groupby(self._units_of(missing), key=lambda unit: unit.shard):
                with PairShardWriter(self.out, shard) as writer:
                    for unit in units:
                        made = next(results)
                        self._write(writer, made)
                        pairs += len(made.pairs)
                        pixels += sum(pair.meta.crop_height * pair.meta.crop_width for pair in made.pairs)
                        bar.update(len(unit.slots))
                        bar.set_postfix_str(f"{pixels / 1e6 / (time.monotonic() - began):.2f} HR MP/s", refresh=False)
        seconds = time.monotonic() - began
        summary = {
            "settings_hash": self.job.settings.hash(),
            "planned_pairs": total,
            "images": len(self.planned),
            "images_left_out": len(self.left_out),
        }
        stats = write_indexes(self.out, summary=summary, planning_failures=self.left_out)
        speed = {
            "pairs_made_now": pairs,
            "seconds": round(seconds, 2),
            "hr_megapixels_per_second": round(pixels / 1e6 / max(seconds, 1e-9), 3),
        }
        return {**stats, **speed}

    def _pairs_of_shards(self) -> Counter[int]:
        pairs_of: Counter[int] = Counter()
        for unit in self.units():
            pairs_of[unit.shard] += len(unit.slots)
        return pairs_of

    def _units_of(self, shards: set[int]) -> Iterator[Unit]:
        return (unit for unit in self.units() if unit.shard in shards)

    def _write(self, writer: PairShardWriter, made: Made) -> None:
        extensions = {"hr_ext": self.job.settings.hr_ext, "lr_ext": self.job.settings.lr_ext}
        for pair in made.pairs:
            writer.write(pair.meta.key, pair.hr, pair.lr, pair.meta, **extensions)
        for failure in made.failures:
            writer.fail(failure)

    def _write_manifest(self) -> None:
        settings = self.job.settings
        plan = "".join(json.dumps(asdict(source), sort_keys=True) + "\n" for source in self.planned)
        manifest = {
            "format": FORMAT,
            "settings": asdict(settings),
            "settings_hash": settings.hash(),
            "plan_sha256": hashlib.sha256(plan.encode()).hexdigest(),
            "reference_codes": self.job.codes,
            "versions": {name: version(name) for name in ("realistic-degrader", "torch", "opencv-python", "pillow")},
        }
        write_atomic(self.out / PLAN, plan.encode())
        write_atomic(self.out / MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())


def read_manifest(out: Path) -> dict[str, Any] | None:
    """The manifest of a data set; None where there is none.

    Raises:
        ValueError: there is one that is not ours.
    """
    try:
        manifest = json.loads((out / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        manifest = None
    if isinstance(manifest, dict) and manifest.get("format") == FORMAT and isinstance(manifest.get("settings"), dict):
        return manifest
    raise ValueError(f"{out / MANIFEST} is not a manifest of `degrade synth`; choose another --out, or move it away")


def remove_data_set(out: Path) -> None:
    """Remove what `synth` wrote to ``out`` and nothing else; the manifest last, so that this can be taken up too."""
    names = ("_info.json", "shardindex.json", "stats.json", "failures.jsonl", "preview.png", PLAN, MANIFEST)
    for path in [*_data_files(out), *(out / name for name in names)]:
        path.unlink(missing_ok=True)
    remove_stale(out)


def _data_files(out: Path) -> list[Path]:
    """Shards and done markers, the marker before its tar."""
    return [path for path in sorted(out.glob("pairs-*")) if re.fullmatch(r"pairs-\d{6,}\.(json|tar)", path.name)]


def _check_places(hr_dir: Path, out: Path) -> None:
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"--out {out} cannot be a folder, since {place} is a file; give another")
    if hr_dir.is_dir() and out.resolve().is_relative_to(hr_dir.resolve()):
        raise ValueError(
            f"--out {out} lies inside --hr-dir {hr_dir}, whose images would then include ours; give a folder beside it"
        )


def _check_settings(before: dict[str, Any], settings: SynthSettings, out: Path) -> None:
    now = json.loads(json.dumps(asdict(settings)))
    differing = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if differing:
        told = "; ".join(f"{name} was {_short(before.get(name))}, is {_short(now.get(name))}" for name in differing)
        raise ValueError(
            f"{out} holds a data set made with other settings ({told}); "
            "use those, another --out, or --overwrite to remove it first"
        )


def _read_plan(out: Path) -> list[PlannedSource]:
    try:
        planned = [PlannedSource(**json.loads(line)) for line in (out / PLAN).read_text().splitlines()]
    except (OSError, ValueError, TypeError):
        planned = []
    if not planned:
        raise ValueError(f"{out / PLAN} is missing or damaged; put it back, use another --out, or --overwrite")
    return planned


def _same_or_extended(
    planned: list[PlannedSource], listed: list[Source], settings: SynthSettings, out: Path, extend: bool
) -> tuple[list[PlannedSource], list[dict[str, str]]]:
    """The plan of the data set, checked against the images there are now, and what it leaves out."""
    now = {source.name: source for source in listed}
    known = {source.name: source.bytes_len for source in planned}
    changed = [name for name, size in known.items() if name in now and now[name].bytes_len != size]
    if changed:
        raise ValueError(
            f"{len(changed)} images changed since {out} was begun, {changed[0]} first; "
            "put them back, use another --out, or --overwrite"
        )
    unknown = [source for source in listed if source.name not in known]
    new, left_out = plan_sources(unknown, settings, part=planned[-1].part + 1)
    gone = [name for name in known if name not in now]
    if (new or gone) and not extend:
        raise ValueError(
            f"the images are not those that {out} was begun with: {len(new)} new, {len(gone)} gone "
            f"({(new[0].name if new else gone[0])} first); --extend adds new ones as further shards"
        )
    return planned + new, left_out


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"

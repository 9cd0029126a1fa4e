"""Synthesis of a data set: plan, then crop, degrade and encode, in processes here or on a Ray cluster, then shards.

    SynthRun.open      makes or checks the plan, against the settings and the manifest
    SynthRun.run       the loop: shards that are not finished are made, by `local` or by `ray_cluster`

Each pair depends on its own seed alone, and a shard on the plan alone. Memory does not grow with the number of images:
the plan lies on a disk, and only a few pieces of work are in flight.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from degrade.files.sources import iter_sources
from degrade.files.store import DiskStore, Store, open_store
from degrade.shards.indexes import write_indexes
from degrade.shards.layout import (
    INDEXES,
    MANIFEST,
    PLAN,
    PREVIEW,
    has_shards,
    missing_shards,
    remove_data_set,
    remove_stale,
)
from degrade.synth.catalog import Catalog
from degrade.synth.job import Job
from degrade.synth.local import local_shards
from degrade.synth.manifest import check_settings, read_manifest, read_plan, write_manifest
from degrade.synth.plan import Share, Unit, pairs_of_shards, plan_units
from degrade.synth.preview import shard_preview
from degrade.synth.ray_cluster import RayCluster

_RUN_CLAIM = re.compile(r"run-\d+-of-(\d+)")


class SynthRun:
    """A data set being made; close it, or use it in a ``with`` block.

    Attributes:
        store: where it is written.
        job: settings and model.
        catalog: the plan.
        share: which shards are made by this process.
        hr_dir: where the images are.
    """

    def __init__(
        self, store: Store, job: Job, catalog: Catalog, *, share: Share, hr_dir: Path, held: ExitStack | None = None
    ) -> None:
        self.store, self.job, self.catalog, self.share, self.hr_dir = store, job, catalog, share, hr_dir
        self._held = held or ExitStack()

    def __enter__(self) -> "SynthRun":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others write to the store, and remove temporary files."""
        self._held.close()

    @classmethod
    def open(
        cls,
        hr_dir: Path,
        out: Path | str | Store,
        job: Job,
        *,
        share: Share | None = None,
        overwrite: bool = False,
        extend: bool = False,
        dry_run: bool = False,
        progress: bool = False,
    ) -> "SynthRun":
        """Plan the data set, or take up the one that ``out`` holds, and keep other runs away from it.

        Args:
            hr_dir: where HR images are: a folder, a list, or shards.
            out: a folder, made when missing, or an address that fsspec opens.
            job: settings and model.
            share: of the shards; None for all.
            overwrite: remove the data set that ``out`` holds.
            extend: add images that the plan does not know yet, as further shards.
            dry_run: write and remove nothing; only `describe` can follow.
            progress: show a bar while it plans.

        Raises:
            ValueError: settings or images differ from those of the data set in ``out``, no image is usable, or what
                ``out`` holds is not ours.
            ClaimedError: another run writes to it.
            ShardError: the disk is full or not writable.
        """
        _check_places(hr_dir, out)
        store, share, hr_dir = open_store(out), share or Share(), hr_dir.absolute()
        with ExitStack() as held:
            planning = ExitStack()
            if not dry_run:
                held.enter_context(store.claim(f"run-{share.rank}-of-{share.count}"))
                _refuse_other_shares(store, share)
                # one node plans, the others wait for it, and read what it has written
                held.enter_context(planning).enter_context(store.claim("plan", wait=True))
                store.remove_stale((MANIFEST, PLAN))  # of a node that was killed just here
            manifest = read_manifest(store)
            if manifest is None and has_shards(store):
                raise ValueError(f"{store} holds shards but no {MANIFEST}; choose another --out, or move them away")
            afresh = manifest is None or overwrite
            planned = () if manifest is None or overwrite else read_plan(store, manifest["plan_sha256"])
            if manifest is not None and not overwrite:
                check_settings(manifest["settings"], job.settings, store)
            catalog = held.enter_context(Catalog(iter_sources(hr_dir), planned, progress=progress))
            added = catalog.plan_new(job.settings, part=catalog.last_part() + 1)
            if not afresh:
                _refuse_changes(catalog, added, store, extend)
            if not catalog.count("planned"):
                first = next(catalog.left_out(), None)
                why = f"; {first['source']}: {first['reason']}" if first else ""
                raise ValueError(f"none of the {catalog.count('listed')} images in {hr_dir} is usable{why}")
            if not dry_run:
                if overwrite:
                    remove_data_set(store)
                if afresh or added:
                    write_manifest(store, job, catalog.plan_lines())
                planning.close()
            return cls(store, job, catalog, share=share, hr_dir=hr_dir, held=held.pop_all())

    def units(self, wanted: set[int] | None = None) -> Iterator[Unit]:
        """The plan as pieces of work; made on the fly, since it may be millions.

        Args:
            wanted: the shards that are asked for; None = all.
        """
        return plan_units(self.catalog.images(), self.job.settings, wanted)

    def describe(self) -> dict[str, Any]:
        """The resolved settings and the size of the plan, for a dry run."""
        sizes = self._pairs_of_shards()
        return {
            "settings": asdict(self.job.settings),
            "settings_hash": self.job.settings.hash(),
            "images": self.catalog.count("planned"),
            "images_left_out": list(self.catalog.left_out()),
            "pairs": sum(sizes),
            "shards": len(sizes),
        }

    def run(
        self,
        *,
        workers: int | None,
        cluster: RayCluster | None = None,
        retry_failed: bool = False,
        progress: bool = True,
    ) -> dict[str, Any]:
        """Make every shard of this share that is not finished yet.

        Args:
            workers: processes; 0 works in this one. On a cluster None takes all of it.
            cluster: work there.
            retry_failed: make those shards again in which a pair could not be made.
            progress: show a bar.

        Returns:
            The content of stats.json (counts, bytes, failures), and the pairs, seconds and speed of this run.

        Raises:
            ShardError: the disk is full or not writable, or workers died.
        """
        began = time.monotonic()
        sizes = self._pairs_of_shards()
        ours = [shard for shard in range(len(sizes)) if shard in self.share]
        missing = missing_shards(self.store, ours, retry_failed=retry_failed)
        remove_stale(self.store, None if self.share.count == 1 else missing)
        if cluster is None:
            made = local_shards(self.store, self.job, self.units(missing), workers or 0)
        else:
            units, count = self.units(missing), len(missing)
            made = cluster.shards(self.store, self.job, units, count=count, workers=workers, hr_dir=self.hr_dir)
        total, todo = sum(sizes[shard] for shard in ours), sum(sizes[shard] for shard in missing)
        pixels = pairs = 0
        shards_on: Counter[str] = Counter()
        bar = tqdm(total=total, initial=total - todo, unit="pair", smoothing=0.1, disable=None if progress else True)
        with bar, ExitStack() as stack:
            stack.callback(made.close)
            for piece in made:
                pairs += piece.pairs
                pixels += piece.pixels
                bar.update(piece.slots)
                where = ""
                if piece.host:
                    shards_on[piece.host] += 1
                    where = f", {len(shards_on)} nodes"
                rate = pixels / 1e6 / (time.monotonic() - began)
                bar.set_postfix_str(f"{rate:.2f} HR MP/s{where}", refresh=False)
        seconds = time.monotonic() - began
        stats = self._write_indexes(sum(sizes))
        speed = {
            "pairs_made_now": pairs,
            "seconds": round(seconds, 2),
            "hr_megapixels_per_second": round(pixels / 1e6 / max(seconds, 1e-9), 3),
            "shards_missing": len(sizes) - int(stats["shards"]) - int(stats["empty_shards"]),
        }
        return {**stats, **speed, **({"shards_made_on": dict(shards_on)} if shards_on else {})}

    def _write_indexes(self, planned_pairs: int) -> dict[str, Any]:
        """What is beside the shards; the last node to finish sees all of them, hence the claim."""
        summary = {
            "settings_hash": self.job.settings.hash(),
            "planned_pairs": planned_pairs,
            "images": self.catalog.count("planned"),
            "images_left_out": self.catalog.count("left_out"),
        }
        with self.store.claim("indexes", wait=True):
            self.store.remove_stale(INDEXES)  # of a node that was killed just here
            stats = write_indexes(self.store, summary=summary, planning_failures=self.catalog.left_out())
            shard_preview(self.store, PREVIEW)
        return stats

    def _pairs_of_shards(self) -> list[int]:
        return pairs_of_shards(self.catalog.pairs_of_parts(self.job.settings.variants), self.job.settings)


def _refuse_other_shares(store: Store, share: Share) -> None:
    """Nodes that count themselves otherwise would make the same shards as this one."""
    for claim in store.claims():
        found = _RUN_CLAIM.fullmatch(claim)
        if found and int(found[1]) != share.count:
            with store.claim(claim):  # free when its owner died
                pass


def _refuse_changes(catalog: Catalog, added: int, store: Store, extend: bool) -> None:
    """A data set goes on with the images that it was begun with.

    Raises:
        ValueError: with what is new, gone or changed.
    """
    if changed := catalog.changed():
        raise ValueError(
            f"{len(changed)} images changed since {store} was begun, {changed[0]} first; "
            "put them back, use another --out, or --overwrite"
        )
    gone = catalog.gone()
    if (added or gone) and not extend:
        first = catalog.newest() if added else gone[0]
        raise ValueError(
            f"the images are not those that {store} was begun with: {added} new, {len(gone)} gone "
            f"({first} first); --extend adds new ones as further shards"
        )


def _check_places(hr_dir: Path, out: Path | str | Store) -> None:
    store = open_store(out)
    if not isinstance(store, DiskStore):
        return
    for place in (store.folder, *store.folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"--out {out} cannot be a folder, since {place} is a file; give another")
    if hr_dir.is_dir() and store.folder.resolve().is_relative_to(hr_dir.resolve()):
        raise ValueError(
            f"--out {out} lies inside --hr-dir {hr_dir}, whose images would then include ours; give a folder beside it"
        )

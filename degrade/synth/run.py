"""Make a data set: plan it, then make the shards that are not finished, here or on a Ray cluster.

    SynthRun.open      makes the plan, or checks the existing one against the settings and the images
    SynthRun.run       makes the missing shards, by `local` or by `ray_cluster`, and then the index files

A pair depends on its own seed alone, and a shard on the plan alone. Memory does not grow with the number of images,
because the plan lies on a disk and only a few units are in flight.
"""

import re
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from degrade.errors import shown
from degrade.files.sources import iter_sources
from degrade.files.store import DiskStore, Store, check_output_folder, open_store
from degrade.shards.card import CARD, write_card
from degrade.shards.folder_writer import disk_folder, holds_images, remove_images
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
from degrade.synth.settings import SynthSettings
from degrade.synth.unit_maker import WorkDone

_RUN_CLAIM = re.compile(r"run-\d+-of-(\d+)")


class SynthRun(AbstractContextManager["SynthRun"]):
    """Make a data set. Close it at the end, or use it in a ``with`` block.

    Attributes:
        store: where the data set is written.
        job: settings and model.
        catalog: the plan.
        share: the shards that this process makes.
        hr_dir: where the images are.
    """

    def __init__(
        self, store: Store, job: Job, catalog: Catalog, *, share: Share, hr_dir: Path, held: ExitStack
    ) -> None:
        self.store, self.job, self.catalog, self.share, self.hr_dir = store, job, catalog, share, hr_dir
        self._held = held

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the claim on the store, and remove temporary files."""
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
        """Plan a data set, or continue the one in ``out``, and keep other runs away from it.

        Args:
            hr_dir: where the HR images are: a folder, a list, or shards.
            out: a folder, made if missing, or an address that fsspec opens.
            job: settings and model.
            share: the shards to make; None for all.
            overwrite: remove the data set in ``out`` first.
            extend: add images that the plan does not contain yet, as further shards.
            dry_run: write and remove nothing; only `describe` can follow.
            progress: show a bar during planning.

        Raises:
            ValueError: settings or images differ from those of the data set in ``out``, no image is usable, or
                ``out`` holds something else.
            ClaimedError: another run writes to ``out``.
            ShardError: the disk is full or not writable.
        """
        store, share, hr_dir = open_store(out), share or Share(), hr_dir.absolute()
        if job.settings.format == "folders":
            disk_folder(store)  # raises the error before anything is planned
        if isinstance(store, DiskStore):
            check_output_folder(store.folder, "--out", hr_dir, "--hr-dir")
        with ExitStack() as held, ExitStack() as planning:
            if not dry_run:
                held.enter_context(store.claim(f"run-{share.rank}-of-{share.count}"))
                _refuse_other_shares(store, share)
                # one node plans; the others wait for it, and read what it has written
                planning.enter_context(store.claim("plan", wait=True))
                store.remove_stale((MANIFEST, PLAN))  # left by a node that was killed at this point
            manifest = _manifest_to_continue(store, job.settings, overwrite)
            planned = () if manifest is None else read_plan(store, manifest["plan_sha256"])
            catalog = held.enter_context(Catalog(iter_sources(hr_dir), planned, progress=progress))
            added = catalog.plan_new(job.settings, part=catalog.last_part() + 1)
            if manifest is not None:
                _refuse_changes(catalog, added, store, extend)
            _refuse_empty_plan(catalog, hr_dir)
            if not dry_run:
                if overwrite:
                    _remove(store)
                if manifest is None or added:
                    write_manifest(store, job, catalog.plan_lines())
            return cls(store, job, catalog, share=share, hr_dir=hr_dir, held=held.pop_all())

    def units(self, wanted: set[int] | None = None) -> Iterator[Unit]:
        """Yield the plan as units of work. They are made on the fly, because there may be millions.

        Args:
            wanted: numbers of the shards whose units to yield; None = all.
        """
        return plan_units(self.catalog.images(), self._pairs_of_parts(), self.job.settings, wanted)

    def notes(self) -> list[str]:
        """Return sentences about choices that the user may not expect."""
        names, count = self.catalog.first_of_several, self.catalog.count_of_several
        if not count:
            return []
        listed = ", ".join(map(shown, names)) + (", ..." if count > len(names) else "")
        return [f"animations or files of several pages, of which the first image is taken: {count} ({listed})"]

    def describe(self) -> dict[str, Any]:
        """Return the resolved settings and the size of the plan, for a dry run."""
        sizes = self._pairs_of_shards()
        return {
            "settings": self.job.settings.stated(),
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
            workers: number of worker processes; 0 works in this process. On a cluster, None uses all of it.
            cluster: the cluster to work on; None works on this machine.
            retry_failed: make the shards again in which a pair could not be made.
            progress: show a bar.

        Returns:
            The content of stats.json (counts, bytes, failures), the pairs, seconds and speed of this run, and the
            most common reasons why images are left out.

        Raises:
            ShardError: the disk is full or not writable, or workers died.
        """
        began = time.monotonic()
        sizes = self._pairs_of_shards()
        own = [shard for shard in range(len(sizes)) if shard in self.share]
        missing = missing_shards(self.store, own, retry_failed=retry_failed)
        remove_stale(self.store, None if self.share.count == 1 else missing)
        units = self.units(missing)
        if cluster is None:
            work = local_shards(self.store, self.job, units, workers or 0)
        else:
            work = cluster.shards(self.store, self.job, units, count=len(missing), workers=workers, hr_dir=self.hr_dir)
        total, todo = sum(sizes[shard] for shard in own), sum(sizes[shard] for shard in missing)
        done, shards_made_on = _follow(work, total=total, todo=todo, progress=progress)
        seconds = time.monotonic() - began
        stats = self._write_indexes(sum(sizes))
        return {
            **stats,
            "pairs_made_now": done.pairs,
            "seconds": round(seconds, 2),
            "hr_megapixels_per_second": round(done.pixels / 1e6 / max(seconds, 1e-9), 3),
            "reasons": {what: self.catalog.reasons(what) for what in ("left_out", "passed_over")},
            "shards_missing": len(sizes) - int(stats["shards"]) - int(stats["empty_shards"]),
            **({"shards_made_on": shards_made_on} if shards_made_on else {}),
        }

    def _write_indexes(self, planned_pairs: int) -> dict[str, Any]:
        """Write the files beside the shards. The last node to finish sees all shards, so nodes take turns."""
        summary = {
            "settings_hash": self.job.settings.hash(),
            "planned_pairs": planned_pairs,
            "images": self.catalog.count("planned"),
            "images_left_out": self.catalog.count("left_out"),
            "passed_over": self.catalog.count("passed_over"),
        }
        with self.store.claim("indexes", wait=True):
            self.store.remove_stale((*INDEXES, CARD))  # left by a node that was killed at this point
            stats = write_indexes(
                self.store,
                kind=self.job.settings.format,
                summary=summary,
                planning_failures=self.catalog.left_out(),
            )
            write_card(self.store, self.job.settings.format, pairs=stats["pairs"], facts=self._facts())
            shard_preview(self.store, PREVIEW)
        return stats

    def _facts(self) -> dict[str, object]:
        """Say how the pairs were made, for the card of the data set."""
        settings = self.job.settings
        degrader = f"{settings.degrader} ({settings.degrader_sha256[:12]}), {settings.steps} steps"
        recipe = settings.recipe["name"] if settings.recipe else ""
        share = f" for {settings.mix:.0%} of the pairs" if settings.degrader_sha256 else ""
        return {
            "scale": settings.scale,
            **({"learned degrader": degrader} if settings.degrader_sha256 else {}),
            **({"recipe": f"{recipe}{share}"} if recipe else {}),
            "HR crops": f"{settings.crop_size} px" if settings.crop_size else "whole images",
            "seed": settings.seed,
            "all settings": f"{MANIFEST}, with the versions of the software",
        }

    def _pairs_of_shards(self) -> list[int]:
        return pairs_of_shards(self._pairs_of_parts(), self.job.settings)

    def _pairs_of_parts(self) -> list[int]:
        return self.catalog.pairs_of_parts(self.job.settings.variants)


def _follow(work: Generator[WorkDone], *, total: int, todo: int, progress: bool) -> tuple[WorkDone, dict[str, int]]:
    """Show the progress of the work, and sum it up.

    Args:
        work: the work, piece by piece.
        total: pairs planned in the shards of this share.
        todo: pairs planned in those that are not finished.
        progress: show a bar.

    Returns:
        The sum, and for a cluster how many shards each machine made.
    """
    began, done = time.monotonic(), WorkDone()
    shards_on: Counter[str] = Counter()
    bar = tqdm(total=total, initial=total - todo, unit="pair", smoothing=0.1, disable=None if progress else True)
    with bar, closing(work):
        for piece in work:
            done += piece
            bar.update(piece.slots)
            nodes = ""
            if piece.host:
                shards_on[piece.host] += 1
                nodes = f", {len(shards_on)} nodes"
            rate = done.pixels / 1e6 / (time.monotonic() - began)
            bar.set_postfix_str(f"{rate:.2f} HR MP/s{nodes}", refresh=False)
    return done, dict(shards_on)


def _manifest_to_continue(store: Store, settings: SynthSettings, overwrite: bool) -> dict[str, Any] | None:
    """Read the manifest of the data set that a store holds; None to start a new one.

    Raises:
        ValueError: the data set has no manifest, or was made with other settings.
    """
    manifest = read_manifest(store)
    if manifest is None and has_shards(store):
        raise ValueError(f"{store} holds shards but no {MANIFEST}; choose another --out, or move them away")
    if manifest is None and settings.format == "folders" and holds_images(store):
        raise ValueError(f"{store} holds files in hr or lr but no {MANIFEST}; choose another --out, or move them away")
    if manifest is None or overwrite:
        return None
    check_settings(manifest["settings"], settings, store)
    return manifest


def _remove(store: Store) -> None:
    """Remove the data set in a store, whatever its format."""
    before = read_manifest(store)
    if before is not None and before["settings"].get("format") == "folders":
        remove_images(store)
    remove_data_set(store)


def _refuse_other_shares(store: Store, share: Share) -> None:
    """Refuse to work beside nodes that divide the shards by another number: both would make the same shards."""
    for claim in store.claims():
        found = _RUN_CLAIM.fullmatch(claim)
        if found and int(found[1]) != share.count:
            with store.claim(claim):  # succeeds if its owner has died
                pass


def _refuse_changes(catalog: Catalog, added: int, store: Store, extend: bool) -> None:
    """Refuse to continue a data set with other images than those it was started with.

    Raises:
        ValueError: images are new, gone or changed.
    """
    if changed := catalog.changed():
        raise ValueError(
            f"{len(changed)} images changed since {store} was started, {changed[0]} first; "
            "restore them, use another --out, or --overwrite"
        )
    gone = catalog.gone()
    if (added or gone) and not extend:
        first = catalog.newest() if added else gone[0]
        raise ValueError(
            f"the images are not those that {store} was started with: {added} new, {len(gone)} gone "
            f"({first} first); --extend adds new ones as further shards"
        )


def _refuse_empty_plan(catalog: Catalog, hr_dir: Path) -> None:
    if not catalog.count("planned"):
        first = next(catalog.left_out(), None)
        reason = f"; {first['source']}: {first['reason']}" if first else ""
        raise ValueError(f"none of the {catalog.count('left_out')} images in {hr_dir} is usable{reason}")

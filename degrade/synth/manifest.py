"""Read and write manifest.json and plan.jsonl: the settings and images that a data set was started with.

A later run must match them, or it stops.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from degrade.files.store import Store, open_store
from degrade.shards.layout import MANIFEST, PLAN, json_page
from degrade.synth.job import Job
from degrade.synth.plan import PlannedSource
from degrade.synth.settings import UNSTATED, SynthSettings

FORMAT = 1  # version of the manifest


def read_manifest(out: Path | str | Store) -> dict[str, Any] | None:
    """Read the manifest of a data set; None if there is none.

    Raises:
        ValueError: the file is not a manifest of `degrade synth`.
        OSError: the file cannot be read.
    """
    store = open_store(out)
    try:
        manifest = json.loads(store.read(MANIFEST))
    except FileNotFoundError:
        return None
    except ValueError:
        manifest = None
    needed = {"settings": dict, "settings_hash": str, "plan_sha256": str}
    if (
        isinstance(manifest, dict)
        and manifest.get("format") == FORMAT
        and all(isinstance(manifest.get(name), kind) for name, kind in needed.items())
    ):
        return manifest
    raise ValueError(
        f"{store.place(MANIFEST)} is not a manifest of `degrade synth`; choose another --out, or move it away"
    )


def write_manifest(store: Store, job: Job, plan_lines: Iterable[bytes]) -> None:
    """Write the plan, and then the manifest, whose hash of the plan shows that the plan is complete.

    Args:
        store: where the data set is.
        job: settings, and codes of reference photographs.
        plan_lines: lines of the plan, from `Catalog.plan_lines`.

    Raises:
        ShardError: the disk is full or not writable.
    """
    digest = hashlib.sha256()
    with store.create(PLAN) as file:
        for line in plan_lines:
            digest.update(line)
            file.write(line)
    manifest = {
        "format": FORMAT,
        "settings": job.settings.stated(),
        "settings_hash": job.settings.hash(),
        "plan_sha256": digest.hexdigest(),
        "reference_codes": job.codes,
        "versions": {name: version(name) for name in _decide_bytes(job.settings)},
    }
    store.write(MANIFEST, json_page(manifest))


def _decide_bytes(settings: SynthSettings) -> list[str]:
    """List the installed packages whose versions may change the bytes of pairs."""
    backend = [] if settings.backend == "torch" else [settings.backend]
    video = ["av"] if find_spec("av") else []
    return ["realistic-degrader", "torch", "opencv-python", "pillow", *video, *backend]


def read_plan(store: Store, plan_sha256: str) -> Iterator[PlannedSource]:
    """Yield the images of the plan, line by line.

    A run that was killed while it extended the data set may have written a longer plan but not the manifest. Lines
    that the hash in the manifest does not cover are left out.

    Args:
        store: where the data set is.
        plan_sha256: hash in the manifest.

    Raises:
        ValueError: the plan is missing, or does not match the hash.
        OSError: the plan cannot be read.
    """
    try:
        count = _count_hashed_lines(store, plan_sha256)
        with store.open(PLAN) as file:
            for line in islice(file, count):
                yield PlannedSource(**json.loads(line))
    except (FileNotFoundError, ValueError, TypeError) as error:
        place = store.place(PLAN)
        raise ValueError(f"{place} is missing or damaged; put it back, use another --out, or --overwrite") from error


def check_settings(before: dict[str, Any], settings: SynthSettings, out: object) -> None:
    """Refuse to continue a data set with other settings.

    Args:
        before: settings in the manifest.
        settings: settings of this run.
        out: the data set, for the message.

    Raises:
        ValueError: settings differ; the message names them.
    """
    before, now = {**UNSTATED, **before}, json.loads(json.dumps(asdict(settings)))
    differing = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if differing:
        changes = "; ".join(f"{name} was {_short(before.get(name))}, is {_short(now.get(name))}" for name in differing)
        raise ValueError(
            f"{out} holds a data set made with other settings ({changes}); "
            "use the old ones, another --out, or --overwrite to remove the data set first"
        )


def _count_hashed_lines(store: Store, plan_sha256: str) -> int:
    """Return the number of lines of the plan that the hash covers."""
    digest, wanted = hashlib.sha256(), bytes.fromhex(plan_sha256)
    with store.open(PLAN) as file:
        for number, line in enumerate(file, start=1):
            digest.update(line)
            if digest.digest() == wanted:
                return number
    raise ValueError("no number of lines has the hash in the manifest")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"

"""The manifest and the plan of a data set: what it was begun with, so that a later run makes the same or is refused."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from degrade.files.store import Store, open_store
from degrade.shards.layout import MANIFEST, PLAN, json_page
from degrade.synth.job import Job
from degrade.synth.plan import PlannedSource
from degrade.synth.settings import SynthSettings

FORMAT = 1


def read_manifest(out: Path | str | Store) -> dict[str, Any] | None:
    """The manifest of a data set; None where there is none.

    Raises:
        ValueError: there is one that is not ours.
        OSError: it cannot be read.
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
    """Write the plan, and then the manifest, which says that the plan is whole.

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
        "settings": asdict(job.settings),
        "settings_hash": job.settings.hash(),
        "plan_sha256": digest.hexdigest(),
        "reference_codes": job.codes,
        "versions": {name: version(name) for name in ("realistic-degrader", "torch", "opencv-python", "pillow")},
    }
    store.write(MANIFEST, json_page(manifest))


def read_plan(store: Store, plan_sha256: str) -> Iterator[PlannedSource]:
    """The images of the plan, line by line.

    A run that was killed while it extended the data set may have written the longer plan and not the manifest: the
    lines that the manifest does not vouch for are left out.

    Raises:
        ValueError: it is missing, or not the one that the manifest vouches for.
        OSError: it cannot be read.
    """
    try:
        count = _lines_vouched_for(store, plan_sha256)
        with store.open(PLAN) as file:
            for line in islice(file, count):
                yield PlannedSource(**json.loads(line))
    except (FileNotFoundError, ValueError, TypeError) as error:
        place = store.place(PLAN)
        raise ValueError(f"{place} is missing or damaged; put it back, use another --out, or --overwrite") from error


def check_settings(before: dict[str, Any], settings: SynthSettings, out: object) -> None:
    """Refuse to go on with a data set under other settings.

    Raises:
        ValueError: with what differs.
    """
    now = json.loads(json.dumps(asdict(settings)))
    differing = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if differing:
        told = "; ".join(f"{name} was {_short(before.get(name))}, is {_short(now.get(name))}" for name in differing)
        raise ValueError(
            f"{out} holds a data set made with other settings ({told}); "
            "use those, another --out, or --overwrite to remove it first"
        )


def _lines_vouched_for(store: Store, plan_sha256: str) -> int:
    digest, wanted = hashlib.sha256(), bytes.fromhex(plan_sha256)
    with store.open(PLAN) as file:
        for number, line in enumerate(file, start=1):
            digest.update(line)
            if digest.digest() == wanted:
                return number
    raise ValueError("no beginning of it has the hash in the manifest")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"

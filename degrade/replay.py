"""Replay: make the LR of a stored pair again from its record alone, and compare bytes."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from degrade.contact_sheet import contact_sheet
from degrade.crops import to_tensor
from degrade.degrader import RealisticDegrader
from degrade.images import encode_image, read_image
from degrade.manifest import read_manifest
from degrade.mix import DegradationMix, fingerprint
from degrade.recipe import Recipe
from degrade.sample_meta import SampleMeta
from degrade.store import write_atomic
from degrade.tars import HR_ROLES, LR_ROLES, shard_paths, split_member, tar_members


@dataclass(frozen=True)
class Replayed:
    """What came out.

    Attributes:
        key: of the pair.
        identical: the file made again has the same bytes as the stored one.
        max_difference: largest difference of a pixel value, 0..255.
        record: what was done to the HR image.
    """

    key: str
    identical: bool
    max_difference: int
    record: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


def replay_pair(shards: Path, key: str, *, degrader: str | None = None, picture: Path | None = None) -> Replayed:
    """Make an LR image again.

    Args:
        shards: folder of the data set, or one tar of it.
        key: of the pair; leading zeros may be left out.
        degrader: where the weights are, when the name in the record does not find them.
        picture: a png to write with HR, stored LR and replayed LR.

    Raises:
        ValueError: no such pair, or the weights are not those that made it.
    """
    members = find_pair(shards, key.zfill(9))
    meta = SampleMeta.from_json(members["json"])
    record = json.loads(meta.params)
    hr, stored = read_image(members["hr"]), read_image(members["lr"])
    if hr.shape[:2] != (stored.shape[0] * meta.scale, stored.shape[1] * meta.scale):
        raise ValueError(
            f"HR and LR of pair {meta.key} do not fit together at scale {meta.scale}; see `degrade verify`"
        )
    model = None
    if record["kind"] == "learned":
        name, _, weights = meta.degrader.partition("@")
        try:
            model = RealisticDegrader.from_pretrained(degrader or name).eval()
        except ValueError as err:
            raise ValueError(f"{err}" if degrader else f"{err}; pass --degrader to say where {name} is now") from err
        if not fingerprint(model).startswith(weights):
            raise ValueError(
                f"{degrader or name} is not the degrader that made this pair, {meta.degrader}; pass --degrader"
            )
    mix = DegradationMix(model, None if model else Recipe.preset("bicubic"), scale=meta.scale)
    again = (mix.degrade_exactly(to_tensor(hr), [record])[0] * 255).round().byte().permute(1, 2, 0).numpy()
    extension = members["lr_extension"].decode()
    manifest = read_manifest(shards if shards.is_dir() else shards.parent) or {"settings": {"jpg_quality": 95}}
    quality = manifest["settings"]["jpg_quality"] if extension == "jpg" else None
    encoded = encode_image(again, extension, quality)
    if picture is not None:
        titles = ["HR", "stored LR", "replayed LR"]
        sheet = contact_sheet([[hr, stored, again]], column_titles=titles, row_titles=[f"{meta.key} {meta.source}"])
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(picture, encode_image(sheet, "png"))
    difference = int(np.abs(read_image(encoded).astype(int) - stored).max())
    return Replayed(meta.key, encoded == members["lr"], difference, record)


def find_pair(shards: Path, key: str) -> dict[str, bytes]:
    """The members of one pair: hr, lr, json, and lr_extension.

    Raises:
        ValueError: there is no such key.
    """
    for tar in shard_paths(shards):
        found: dict[str, bytes] = {}
        with open(tar, "rb") as file:
            for member in tar_members(tar):
                name, role, extension = split_member(member.name)
                if name != key:
                    continue
                file.seek(member.offset)
                kind = "json" if extension == "json" else "hr" if role in HR_ROLES else "lr" if role in LR_ROLES else ""
                found[kind] = file.read(member.size)
                if kind == "lr":
                    found["lr_extension"] = extension.encode()
        if {"hr", "lr", "json"} <= set(found):
            return found
    raise ValueError(f"no pair {key} in {shards}; keys are nine digits, as `tar -tf` shows them")

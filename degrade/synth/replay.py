"""Replay: make the LR of a stored pair again from its record alone, and compare bytes."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from degrade.degrader import RealisticDegrader
from degrade.errors import shown
from degrade.files.names import split_member
from degrade.files.store import write_atomic
from degrade.files.tars import read_member, shard_paths, tar_members
from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.tensors import to_tensor
from degrade.mix import DegradationMix, check_record, fingerprint
from degrade.recipes.recipe import Recipe
from degrade.shards.record import SampleMeta, read_record
from degrade.synth.manifest import read_manifest


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
        ValueError: no such pair, it is damaged, or the weights are not those that made it.
        ShardError: a tar cannot be read.
    """
    members = find_pair(shards, key.zfill(9))
    meta = SampleMeta.from_json(members["json"])
    record = read_record(meta.params)
    check_record(record, f"params of pair {shown(meta.key)}")
    hr, stored = read_image(members["hr"]), read_image(members["lr"])
    scales = {meta.scale, record["params"]["scale"] if record["kind"] == "recipe" else meta.scale}
    if {(stored.shape[0] * scale, stored.shape[1] * scale) for scale in scales} != {hr.shape[:2]}:
        told = " and ".join(map(str, sorted(scales)))
        raise ValueError(
            f"HR and LR of pair {shown(meta.key)} do not fit together at scale {told}; see `degrade verify`"
        )
    model = None
    if record["kind"] == "learned":
        name, _, weights = meta.degrader.partition("@")
        try:
            model = RealisticDegrader.from_pretrained(degrader or name).eval()
        except ValueError as err:
            where = f"pass --degrader to say where {shown(name)} is now"
            raise ValueError(f"{err}" if degrader else f"{err}; {where}") from err
        if not fingerprint(model).startswith(weights):
            raise ValueError(
                f"{degrader or name} is not the degrader that made this pair, {shown(meta.degrader)}; pass --degrader"
            )
    mix = DegradationMix(model, None if model else Recipe.preset("bicubic"), scale=meta.scale)
    again = (mix.degrade_exactly(to_tensor(hr), [record])[0] * 255).round().byte().permute(1, 2, 0).numpy()
    extension = members["lr_extension"].decode()
    manifest = read_manifest(shards if shards.is_dir() else shards.parent) or {"settings": {"jpg_quality": 95}}
    quality = manifest["settings"].get("jpg_quality") if extension == "jpg" else None
    if not isinstance(quality, int | None):
        raise ValueError(f"the manifest beside {shards} has jpg_quality {shown(quality)}; put the right one back")
    encoded = encode_image(again, extension, quality)
    if picture is not None:
        titles = ["HR", "stored LR", "replayed LR"]
        sheet = contact_sheet(
            [[hr, stored, again]], column_titles=titles, row_titles=[shown(f"{meta.key} {meta.source}")]
        )
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
        for member in tar_members(tar):
            name, part, extension = split_member(member.name)
            if name != key or not part:
                continue
            if part in found:
                raise ValueError(f"{shown(key)} in {shown(tar)} has two {part} files; see `degrade verify`")
            with open(tar, "rb") as file:
                found[part] = read_member(file, member)
            if part == "lr":
                found["lr_extension"] = extension.encode()
        if {"hr", "lr", "json"} <= set(found):
            return found
    raise ValueError(f"no pair {shown(key)} in {shards}; keys are nine digits, as `tar -tf` shows them")

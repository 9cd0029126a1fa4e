"""Make the LR of a stored pair again from its record alone, and compare the bytes."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from degrade.errors import shown
from degrade.files.names import split_member
from degrade.files.store import write_atomic
from degrade.files.tars import TarMember, read_member, shard_paths, tar_members
from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet, encode_sheet
from degrade.images.geometry import Rgb
from degrade.images.tensors import to_image, to_tensor
from degrade.mix import Record, apply_records_exactly, check_record, fingerprint, one_thread
from degrade.shards.record import SampleMeta, read_record
from degrade.synth.manifest import read_manifest
from degrade.synth.settings import SynthSettings

if TYPE_CHECKING:
    from degrade.degrader import RealisticDegrader


class StoredPair(NamedTuple):
    """Hold the files of one pair as they are stored in a shard.

    Attributes:
        hr: encoded HR image.
        lr: encoded LR image.
        record: the JSON record.
        lr_extension: extension of the LR image, without dot.
    """

    hr: bytes
    lr: bytes
    record: bytes
    lr_extension: str


@dataclass(frozen=True)
class ReplayResult:
    """Compare an LR image that was made again with the stored one.

    Attributes:
        key: key of the pair.
        identical: whether the new file has the same bytes as the stored one.
        max_difference: largest difference of a pixel value, 0..255.
        record: the degradation that was applied to the HR image.
    """

    key: str
    identical: bool
    max_difference: int
    record: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, fit for JSON."""
        return asdict(self)


def replay_pair(shards: Path, key: str, *, degrader: str | None = None, picture: Path | None = None) -> ReplayResult:
    """Make the LR image of a pair again.

    Args:
        shards: folder of the data set, or one tar of it.
        key: key of the pair; leading zeros may be left out.
        degrader: name or folder of the weights, if the name in the record does not find them.
        picture: a PNG file to write, with HR, stored LR and replayed LR side by side.

    Raises:
        ValueError: there is no such pair, it is damaged, the weights are not those that made it, or the software that
            computed it is not installed.
        ShardError: a tar cannot be read.
    """
    pair = find_pair(shards, key.zfill(9))
    meta = SampleMeta.from_json(pair.record)
    record = read_record(meta.params)
    check_record(record, f"params of pair {shown(meta.key)}")
    hr, stored = read_image(pair.hr), read_image(pair.lr)
    _check_sizes(hr, stored, meta, record)
    model = load_degrader(meta.degrader, degrader, record) if record["kind"] == "learned" else None
    again = to_image(apply_records_exactly(to_tensor(hr), [record], model)[0])
    quality = _stored_jpg_quality(shards) if pair.lr_extension == "jpg" else None
    encoded = encode_image(again, pair.lr_extension, quality)
    if picture is not None:
        name = shown(f"{meta.key} {meta.source}")
        titles = ["HR", "stored LR", "replayed LR"]
        sheet = contact_sheet([[hr, stored, again]], column_titles=titles, row_titles=[name])
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(picture, encode_sheet(sheet))
    difference = int(np.abs(read_image(encoded).astype(int) - stored).max())
    return ReplayResult(meta.key, encoded == pair.lr, difference, record)


def find_pair(shards: Path, key: str) -> StoredPair:
    """Read the files of one pair.

    Raises:
        ValueError: no shard holds a pair with this key, or a pair has two HR, LR or JSON files.
    """
    for tar in shard_paths(shards):
        found: dict[str, TarMember] = {}
        for member in tar_members(tar):
            name, part, _ = split_member(member.name)
            if name != key or not part:
                continue
            if part in found:
                raise ValueError(f"{shown(key)} in {shown(tar)} has two {part} files; see `degrade verify`")
            found[part] = member
        if {"hr", "lr", "json"} <= found.keys():
            with open(tar, "rb") as file:
                hr, lr, record = (read_member(file, found[part]) for part in ("hr", "lr", "json"))
            return StoredPair(hr, lr, record, split_member(found["lr"].name).extension)
    raise ValueError(f"no pair {shown(key)} in {shards}; keys have nine digits, `tar -tf` lists them")


def _check_sizes(hr: Rgb, lr: Rgb, meta: SampleMeta, record: dict[str, Any]) -> None:
    """Compare the sizes of both images with the scale, which a recipe's record states a second time."""
    scales = {meta.scale, record["params"]["scale"] if record["kind"] == "recipe" else meta.scale}
    if {(lr.shape[0] * scale, lr.shape[1] * scale) for scale in scales} != {hr.shape[:2]}:
        stated = " and ".join(map(str, sorted(scales)))
        raise ValueError(
            f"HR and LR of pair {shown(meta.key)} do not fit together at scale {stated}; see `degrade verify`"
        )


def load_degrader(stated: str, given: str | None, record: Record) -> "RealisticDegrader":
    """Load the degrader that a record states, from where the user says it is or else by its name.

    Args:
        stated: its name and the beginning of its hash, ``name@hash``.
        given: what the user says; None for nothing.
        record: a checked record of a learned degradation, which names the backend and the precision.

    Raises:
        ValueError: it is not found, has other weights, or its backend cannot run here.
    """
    from degrade.degrader import RealisticDegrader  # here, because records of recipes need no diffusers

    name, _, weights = stated.partition("@")
    try:
        model = RealisticDegrader.from_pretrained(given or name).eval()
    except ValueError as err:
        where = f"pass --degrader to say where {shown(name)} is now"
        raise ValueError(f"{err}" if given else f"{err}; {where}") from err
    if not fingerprint(model).startswith(weights):
        raise ValueError(f"{given or name} is not the degrader of the record, {shown(stated)}; pass --degrader")
    with one_thread():  # as in `Job.mix`
        model.use_backend(record.get("backend", "torch"), bf16=record.get("bf16", False))
    return model


def _stored_jpg_quality(shards: Path) -> int:
    """Return the JPEG quality in the manifest beside the shards; that of the defaults without a manifest."""
    manifest = read_manifest(shards if shards.is_dir() else shards.parent)
    quality = manifest["settings"].get("jpg_quality") if manifest else SynthSettings.jpg_quality
    if type(quality) is not int:
        raise ValueError(f"the manifest beside {shards} has jpg_quality {shown(quality)}; restore the original value")
    return quality

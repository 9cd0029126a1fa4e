"""Find the pairs in a tar, whoever made it, without reading an image."""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from degrade.errors import shown
from degrade.files.names import split_member
from degrade.files.tars import TarMember, read_member, tar_members


class TarPair(NamedTuple):
    """Locate the files of one pair in a tar.

    Attributes:
        tar: path of the tar.
        key: key of the pair.
        hr: the HR image.
        lr: the LR image.
        record: the JSON record; None without one.
    """

    tar: str
    key: str
    hr: TarMember
    lr: TarMember
    record: TarMember | None

    def __str__(self) -> str:
        return place_of(self.key, self.tar)

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Read the HR image, the LR image and the record; the record is ``{}`` without one.

        Raises:
            OSError: the tar cannot be read.
            ValueError: a file is impossibly large.
        """
        with open(self.tar, "rb") as file:
            hr, lr = read_member(file, self.hr), read_member(file, self.lr)
            return hr, lr, (read_member(file, self.record) if self.record else b"") or b"{}"


def find_pairs(tar: str) -> tuple[list[TarPair], list[str]]:
    """List the pairs of a local, uncompressed tar.

    Returns:
        The pairs in the order of their keys in the tar, and one sentence for each sample with a missing or second
        image. Samples that hold no image of a pair are passed over.

    Raises:
        ShardError: the tar cannot be read.
    """
    samples: dict[str, dict[str, TarMember]] = defaultdict(dict)
    problems: list[str] = []
    for member in tar_members(tar):
        key, part, _ = split_member(member.name)
        if part:
            if part in samples[key]:
                problems.append(f"{place_of(key, tar)} has two {part} files, {shown(member.name)} is one")
            samples[key][part] = member
    pairs = []
    for key, parts in samples.items():
        if "hr" in parts and "lr" in parts:
            pairs.append(TarPair(tar, key, parts["hr"], parts["lr"], parts.get("json")))
        elif "hr" in parts or "lr" in parts:
            has, lacks = ("HR", "LR") if "hr" in parts else ("LR", "HR")
            problems.append(f"{place_of(key, tar)} has an {has} image but no {lacks} image")
    return pairs, problems


def place_of(key: str, tar: str) -> str:
    """Name a sample and its tar, for messages."""
    return f"{shown(key)} in {shown(Path(tar).name)}"

"""Tell from the name of a file or tar member what it holds: an image, or the HR, LR or record of a pair."""

from typing import Literal, NamedTuple

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp"})
ROLES = {"hr": frozenset({"hr", "gt", "hq"}), "lr": frozenset({"lr", "lq"})}  # what data sets call the two sides
PREVIEW = "preview.png"  # the contact sheet that a data set holds beside its shards: not one of its images

Part = Literal["hr", "lr", "json", ""]


class MemberName(NamedTuple):
    """Hold the name of a tar member, split at the first dot of its file name as webdataset does.

    Attributes:
        key: name of the sample, with the folder.
        part: the part of a pair that the member holds, its record as "json"; "" for anything else.
        extension: extension without dot, in lower case.
    """

    key: str
    part: Part
    extension: str

    @property
    def is_image(self) -> bool:
        """Tell whether the extension is that of an image."""
        return f".{self.extension}" in IMAGE_SUFFIXES


def split_member(name: str) -> MemberName:
    """Split the name of a tar member: ``"a/000.gt.PNG"`` gives ``("a/000", "hr", "png")``.

    The part is the same wherever pairs are read: an image is HR or LR by the word before its extension, and a file
    ending in ``.json`` is the record.
    """
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    role, extension = ["", *suffix.lower().split(".")][-2:]
    part: Part = ""
    if extension == "json":
        part = "json"
    elif f".{extension}" in IMAGE_SUFFIXES:
        part = "hr" if role in ROLES["hr"] else "lr" if role in ROLES["lr"] else ""
    return MemberName(f"{folder}/{stem}" if folder else stem, part, extension)

"""Tell from the name of a file or tar member what it holds: an image, or the HR, LR or record of a pair."""

import os.path
import re
from typing import Literal, NamedTuple

# The suffixes that say that a file is a photograph. All others are passed over without a word: texts, films, icons,
# vector drawings.
_READ = {
    "PNG": ".png",
    "JPEG": ".jpg .jpeg .jpe .jfif .jif .mpo",
    "WebP": ".webp",
    "TIFF": ".tif .tiff",
    "BMP": ".bmp",
}
_NOT_READ = {
    "HEIC": ".heic .heif .heics .heifs .hif",
    "AVIF": ".avif .avifs .avci",
    "JPEG XL": ".jxl",
    "JPEG XR": ".jxr .wdp .hdp",
    "JPEG 2000": ".jp2 .j2k .jpf .jpx .jpm .j2c .jpc",
    "GIF": ".gif",
    "animated PNG": ".apng",
    "camera raw": ".dng .3fr .arw .cr2 .cr3 .crw .dcr .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw "
    ".rw2 .rwl .sr2 .srf .srw .x3f",
    "Photoshop": ".psd .psb",
    "GIMP": ".xcf",
    "Krita": ".kra",
    "OpenRaster": ".ora",
    "OpenEXR": ".exr",
    "Radiance HDR": ".hdr",
    "Targa": ".tga",
    "Netpbm": ".ppm .pgm .pbm .pnm .pam .pfm",
    "PCX": ".pcx",
    "DDS": ".dds",
    "QOI": ".qoi",
    "BPG": ".bpg",
    "FLIF": ".flif",
    "FITS": ".fits .fit .fts",
    "DICOM": ".dcm",
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in _READ.values() for suffix in suffixes.split())
_FORMAT_NOT_READ = {suffix: name for name, suffixes in _NOT_READ.items() for suffix in suffixes.split()}
_PROLONGED = re.compile(r"(\.(?:jpe?g|png|webp))[^a-z0-9].*", re.DOTALL)  # .jpg_large, .jpg~
# For regular expressions: every suffix of a photograph, read or not, without its dot.
ANY_IMAGE_SUFFIX = (
    "|".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES | _FORMAT_NOT_READ.keys())) + r"|(?:jpe?g|png|webp)_\w+"
)

# Folders that systems make beside photographs, in lower case, and what they hold. A folder that is asked for by its
# own name is read.
_SYSTEM_FOLDERS = {
    **dict.fromkeys(("@eadir", ".@__thumb", ".thumbnails", ".thumb", ".thumbs", "thumbs", "thumbnails"), "thumbnails"),
    **dict.fromkeys(("#recycle", "@recycle", "$recycle.bin", "recycler", ".trash", ".trashes"), "deleted files"),
    **dict.fromkeys(("#snapshot", "@recently-snapshot", ".snapshot", ".snapshots", ".zfs"), "snapshots of the disk"),
    **dict.fromkeys(("__macosx", "@tmp", "lost+found", "found.000", "system volume information"), "system files"),
}
CONTACT_SHEET = b"tEXtSoftware\0realistic-degrader contact sheet"  # a chunk at the beginning of our own PNG files
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
        """Tell whether the extension is that of an image, read or not."""
        return is_image(f".{self.extension}")


def is_image(suffix: str) -> bool:
    """Tell whether a suffix, with its dot and in lower case, says that a file is a photograph, read or not."""
    return suffix in IMAGE_SUFFIXES or bool(why_not_read(suffix))


def why_not_read(suffix: str) -> str:
    """Return why files with this suffix are not read; "" for those that are read, or are no photographs."""
    if name := _FORMAT_NOT_READ.get(suffix):
        return f"{name} is not read; convert it to PNG, or to JPEG of high quality"
    if found := _PROLONGED.fullmatch(suffix):
        return f"a name that ends in {suffix} is not read; rename it to end in {found[1]}"
    return ""


def why_passed_over(folder: str) -> str:
    """Return why a folder of this name is not searched; "" for a folder of the user."""
    content = _SYSTEM_FOLDERS.get(os.path.basename(folder).lower())
    return f"a folder of {content}, not searched" if content else ""


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
    elif is_image(f".{extension}"):
        part = "hr" if role in ROLES["hr"] else "lr" if role in ROLES["lr"] else ""
    return MemberName(f"{folder}/{stem}" if folder else stem, part, extension)

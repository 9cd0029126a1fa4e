"""Carry EXIF data over to an enlarged picture: copy what stays true byte for byte, correct or leave out the rest.

Values are never decoded and encoded again, so that text in any encoding and values of unusual types survive. A TIFF
file has the same layout, so its own tags are read as if they were EXIF data.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAX_BYTES = 1 << 20  # of all values together; the EXIF data of a JPEG has at most 64 KB

Dpi = tuple[float, float]  # horizontal and vertical, in pixels per inch

_BYTE_ORDER = {b"II": "<", b"MM": ">"}
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_LAST_KIND = 13  # those after it exist in BigTIFF only

_DESCRIPTION, _ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x010E, 0x0112, 0x011A, 0x011B, 0x0128
_EXIF, _GPS, _INTEROPERABILITY = 0x8769, 0x8825, 0xA005
_COLOR_SPACE, _WIDTH, _HEIGHT, _GAMMA = 0xA001, 0xA002, 0xA003, 0xA500
_XMP, _PROFILE = 0x02BC, 0x8773

# Of the first directory only these are kept: in a TIFF file, most of the others say where the pixels are.
_ABOUT = frozenset(
    {
        *(0x010D, _DESCRIPTION, 0x010F, 0x0110),  # document, description, make, model
        *(_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT),
        *(0x0131, 0x0132, 0x013B, 0x013C),  # software, date, artist, host computer
        *(0x4746, 0x4749, 0x8298),  # rating, rating in percent, copyright
        *range(0x9C9B, 0x9CA0),  # Windows' title, comment, author, keywords, subject
    }
)
# What scientific software writes as the description is a list of the file's dimensions.
_LAYOUTS = (b"{", b"<?xml", b"<OME", b"ImageJ=")
# Of the second directory all is kept but what counts pixels of the old picture, or holds offsets into the old file.
_DROPPED = frozenset(
    {
        0x9102,  # compressed bits per pixel
        *(0x9214, 0xA214),  # area and location of the subject
        0x927C,  # the maker's note
        *(0xA20E, 0xA20F, 0xA210),  # resolution of the focal plane
        0xEA1C,  # padding
    }
)


class _Entry(NamedTuple):
    """Hold one tag as it is stored; ``value`` has the byte order of its block."""

    kind: int
    number: int  # of values
    value: bytes


_Directory = dict[int, _Entry]


class _Block:
    """Read the directories of EXIF data or of a TIFF file, BigTIFF included.

    Raises:
        ValueError: it does not begin like one.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = _BYTE_ORDER.get(data[:2], "")
        version = int.from_bytes(data[2:4], "little" if self.order == "<" else "big")
        if not self.order or version not in (42, 43) or len(data) < 8:
            raise ValueError("it does not begin as EXIF data does")
        self._big = version == 43
        self._taken = 0
        self.first = self._number("Q" if self._big else "I", 8 if self._big else 4)

    def directory(self, offset: int, kept: frozenset[int] | None = None) -> _Directory:
        """Read the directory at an offset; entries whose values lie outside the data are left out.

        Args:
            offset: where the directory begins; 0 for none.
            kept: the tags to read; None reads all.

        Raises:
            ValueError: the values have more than `MAX_BYTES` bytes.
        """
        entries: _Directory = {}
        for tag, kind, count, place in self.places(offset):
            length = count * _TYPE_BYTES.get(kind, 0)
            if (kept is not None and tag not in kept) or length == 0 or place + length > len(self.data):
                continue
            self._taken += length
            if self._taken > MAX_BYTES:
                raise ValueError(f"its values have more than {MAX_BYTES} bytes")
            entries[tag] = _Entry(kind, count, self.data[place : place + length])
        return entries

    def places(self, offset: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield tag, type, count and the offset of the value of each entry of the directory at an offset."""
        count_code, entry_code, pointer = ("Q", "HHQ", "Q") if self._big else ("H", "HHI", "I")
        start, inline = offset + struct.calcsize(f"<{count_code}"), struct.calcsize(f"<{pointer}")
        if offset <= 0 or start > len(self.data):
            return
        size = struct.calcsize(f"<{entry_code}") + inline
        for at in range(start, start + size * min(self._number(count_code, offset), 65535), size):
            if at + size > len(self.data):
                return
            tag, kind, count = struct.unpack_from(f"{self.order}{entry_code}", self.data, at)
            place = at + size - inline
            yield (
                tag,
                kind,
                count,
                place if count * _TYPE_BYTES.get(kind, 0) <= inline else self._number(pointer, place),
            )

    def number(self, entry: _Entry | None) -> float | None:
        """Return the first number of an entry; None if it holds no positive number."""
        codes = {_SHORT: "H", _LONG: "I", _RATIONAL: "II", 13: "I", 16: "Q", 18: "Q"}
        if entry is None or entry.kind not in codes:
            return None
        top, *bottom = struct.unpack_from(f"{self.order}{codes[entry.kind]}", entry.value)
        return None if top == 0 or bottom == [0] else top / bottom[0] if bottom else top

    def offset(self, entry: _Entry | None) -> int:
        """Return the offset of the directory that an entry points to; 0 for none."""
        return int(self.number(entry) or 0)

    def _number(self, code: str, at: int) -> int:
        if at + struct.calcsize(f"<{code}") > len(self.data):
            raise ValueError("it is cut off")
        return int(struct.unpack_from(f"{self.order}{code}", self.data, at)[0])


def resolution(data: bytes) -> Dpi | None:
    """Read the resolution of a picture from its EXIF data; None if it does not say.

    Raises:
        ValueError: this is no EXIF data.
    """
    block = _Block(data)
    tags = block.directory(block.first, frozenset({_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT}))
    across, down = block.number(tags.get(_X_RESOLUTION)), block.number(tags.get(_Y_RESOLUTION))
    unit = block.number(tags.get(_RESOLUTION_UNIT)) or 2  # inches, unless it says otherwise
    if not across or not down or unit not in (2, 3):
        return None
    return (across, down) if unit == 2 else (across * 2.54, down * 2.54)


def tiff_xmp(data: bytes) -> bytes:
    """Return the XMP packet of a TIFF file; b"" if it has none.

    Raises:
        ValueError: this is no TIFF file.
    """
    block = _Block(data)
    return b"".join(entry.value for entry in block.directory(block.first, frozenset({_XMP})).values())


def has_profile(data: bytes) -> bool:
    """Tell whether a TIFF file has a colour profile.

    Raises:
        ValueError: this is no TIFF file.
    """
    block = _Block(data)
    return any(tag == _PROFILE for tag, *_ in block.places(block.first))


def for_enlarged(data: bytes, width: int, height: int, *, converted: bool, dpi: Dpi | None = None) -> bytes:
    """Make the EXIF data of an enlarged picture from those of its input.

    Date, camera, settings, place and author stay. The orientation becomes 1, and the width and height those of the
    enlarged picture. Thumbnails, the maker's note and all else that counts pixels of the input are left out.

    Args:
        data: EXIF data without the prefix ``Exif``, or a TIFF file; b"" for none.
        width: width of the enlarged picture, in pixels.
        height: its height.
        converted: whether its colours were converted to sRGB, from whatever the EXIF data says.
        dpi: the resolution to write; None keeps what the EXIF data says.

    Returns:
        EXIF data without the prefix, or b"" if nothing is left.

    Raises:
        ValueError: this is no EXIF data.
    """
    block = _Block(data or b"II*\0\0\0\0\0")
    order = block.order
    first = block.directory(block.first, _ABOUT | {_EXIF, _GPS})
    about = {tag: entry for tag, entry in first.items() if tag in _ABOUT and entry.kind <= _LAST_KIND}
    if _DESCRIPTION in about and about[_DESCRIPTION].value.startswith(_LAYOUTS):
        del about[_DESCRIPTION]
    if _ORIENTATION in about:
        about[_ORIENTATION] = _short(1, order)
    if dpi is not None:
        about |= {_X_RESOLUTION: _rational(dpi[0], order), _Y_RESOLUTION: _rational(dpi[1], order)}
        about[_RESOLUTION_UNIT] = _short(2, order)
    camera = block.directory(block.offset(first.get(_EXIF)))
    interoperability = {} if converted else block.directory(block.offset(camera.pop(_INTEROPERABILITY, None)))
    camera = {tag: entry for tag, entry in camera.items() if tag not in _DROPPED and entry.kind <= _LAST_KIND}
    for tag, side in ((_WIDTH, width), (_HEIGHT, height)):
        if tag in camera:
            camera[tag] = _Entry(_LONG, 1, struct.pack(f"{order}I", side))
    if converted:
        camera.pop(_GAMMA, None)
        if _COLOR_SPACE in camera:
            camera[_COLOR_SPACE] = _short(1, order)
    place = block.directory(block.offset(first.get(_GPS)))
    return _written(about, camera, interoperability, place, order) if about or camera or place else b""


def _written(
    about: _Directory, camera: _Directory, interoperability: _Directory, place: _Directory, order: str
) -> bytes:
    """Lay out the directories one after the other, each followed by its values."""
    pointer = _Entry(_LONG, 1, bytes(4))
    about = about | ({_EXIF: pointer} if camera else {}) | ({_GPS: pointer} if place else {})
    camera = camera | ({_INTEROPERABILITY: pointer} if camera and interoperability else {})
    at = 8 + _length(about)
    for owner, tag, directory in (
        (about, _EXIF, camera),
        (camera, _INTEROPERABILITY, interoperability),
        (about, _GPS, place),
    ):
        if tag in owner:
            owner[tag] = _Entry(_LONG, 1, struct.pack(f"{order}I", at))
            at += _length(directory)
    data = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    for directory in (about, camera, interoperability if _INTEROPERABILITY in camera else {}, place):
        if directory:
            data += _packed(directory, len(data), order)
    return data


def _length(directory: _Directory) -> int:
    values = (len(entry.value) for entry in directory.values())
    return 2 + 12 * len(directory) + 4 + sum(length + length % 2 for length in values if length > 4)


def _packed(directory: _Directory, start: int, order: str) -> bytes:
    """Write one directory that begins at an offset, without a successor."""
    entries, values = struct.pack(f"{order}H", len(directory)), b""
    beyond = start + 2 + 12 * len(directory) + 4
    for tag, (kind, count, value) in sorted(directory.items()):
        entries += struct.pack(f"{order}HHI", tag, kind, count)
        if len(value) <= 4:
            entries += value.ljust(4, b"\0")
        else:
            entries += struct.pack(f"{order}I", beyond + len(values))
            values += value + b"\0" * (len(value) % 2)
    return entries + bytes(4) + values


def _short(value: int, order: str) -> _Entry:
    return _Entry(_SHORT, 1, struct.pack(f"{order}H", value))


def _rational(value: float, order: str) -> _Entry:
    return _Entry(_RATIONAL, 1, struct.pack(f"{order}II", round(value * 10_000), 10_000))

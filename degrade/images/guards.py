"""Reject image files that would make native decoders hang, allocate gigabytes, or print to stderr.

Each check takes a file, or a part of one, before a decoder sees it, and raises `ValueError` with a reason in a few
words.
"""

import contextlib
import ctypes
import io
import logging
import re
import struct
import threading
import warnings
import zlib
from typing import BinaryIO

import cv2
from PIL import _imaging

from degrade.errors import ImageError

MAX_SCANS = 100  # in a JPEG; encoders write about ten, and each scan costs a pass over the image
MAX_EXIF_SEGMENTS = 16  # of 64 KB in a JPEG; Pillow takes quadratic time to join them
MAX_JUNK = 1 << 20  # bytes between the segments of a JPEG; Pillow reads them one by one
MAX_OVERLAP = 8  # the tags of a TIFF may claim this many times the size of the file

_STEP = 1 << 20
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # TIFF 6.0; 13 is IFD
_START_OF_SCAN = b"\xda"
_START_OF_FRAME = [bytes([code]) for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC)]
_BARE = [
    bytes([code]) for code in (0, 1, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE), 0xFF)
]  # JPEG markers without length
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)  # stuffed zeros and restart markers are part of a scan
_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}  # samples per PNG pixel, by colour type; palettes never have 16 bits
# Adam7 (PNG, section 8.2): first column, first row, step between columns, step between rows
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def silence_pillow() -> None:
    """Stop Pillow and its libtiff from printing to stderr about broken files; Pillow's exceptions say enough.

    The error handler to remove belongs to Pillow's own copy of libtiff, which is found through Pillow's extension.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # without one, Python's handler of last resort prints
    with contextlib.suppress(OSError, AttributeError):  # some builds of Pillow hide libtiff, as on Windows
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetErrorHandlerExt"):
            function = getattr(library, name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
            function(None)


class Quiet:
    """Turn off Python's warnings and OpenCV's log while any thread is inside ``with quiet:``.

    Both are settings of the whole process, so all threads must share one counter. If each thread changed and restored
    them on its own, they could stay off forever; a lock around the work would let only one thread decode at a time.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                self._before.callback(cv2.utils.logging.setLogLevel, cv2.utils.logging.getLogLevel())
                cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.close()


quiet = Quiet()  # the one instance, because the settings it changes belong to the process


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Read width and height from the first 30 bytes of a WebP file; return None if they do not hold the size.

    Pillow creates libwebp's decoder, which allocates two whole images, before Pillow itself knows the size.
    """
    kind = head[12:16]
    if kind == b"VP8X" and len(head) >= 30:
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L" and len(head) >= 25:
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(head) >= 30:
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def check_exif(exif: bytes) -> None:
    """Reject EXIF data whose tags claim the same bytes over and over; Pillow would copy each claim.

    Args:
        exif: the data, which has the format of a TIFF file, with or without the prefix ``Exif``.
    """
    tiff = io.BytesIO(exif.removeprefix(b"Exif\0\0"))
    size = tiff.seek(0, io.SEEK_END)
    tiff.seek(0)
    head = tiff.read(8)
    order = "<" if head[:2] == b"II" else ">"
    if len(head) == 8:
        tiff.seek(struct.unpack(f"{order}I", head[4:])[0])
        count = tiff.read(2)
        entries = tiff.read(12 * struct.unpack(f"{order}H", count)[0]) if len(count) == 2 else b""
        claimed = 0
        for at in range(0, len(entries) // 12 * 12, 12):
            _, kind, values, offset = struct.unpack(f"{order}HHII", entries[at : at + 12])
            length = values * _TYPE_BYTES.get(kind, 0)
            claimed += length if offset + length <= size else 0  # Pillow skips what lies outside the file
        if claimed > MAX_OVERLAP * size:
            raise ValueError(f"its tags claim {claimed} bytes of {size}")


def check_jpeg_header(jpeg: BinaryIO) -> None:
    """Reject a JPEG whose EXIF data or junk would cost Pillow minutes or gigabytes, or whose depth is not read.

    Args:
        jpeg: a stream, which is left at its start.

    Raises:
        ImageError: it has another depth than 8 bits.
        ValueError: reading it would cost too much.
    """
    exif, previous, junk = [], b"", 0
    jpeg.seek(2)
    while (byte := jpeg.read(1)) and not (previous == b"\xff" and byte == _START_OF_SCAN):
        bare = previous != b"\xff" or byte in _BARE  # decoders skip junk between segments
        previous = byte
        if bare:
            junk += 1
            if junk > MAX_JUNK:
                raise ValueError(f"more than {MAX_JUNK} bytes of junk between segments")
            continue
        previous, length = b"", int.from_bytes(jpeg.read(2), "big") - 2
        if byte in _START_OF_FRAME:
            bits = jpeg.read(1)
            if bits[:1] not in (b"", b"\x08"):
                raise ImageError(f"JPEG of {bits[0]} bits is not read; save it as JPEG of 8 bits, or PNG of 16")
            length -= 1
        if byte == b"\xe1" and (content := jpeg.read(max(0, length))).startswith(b"Exif\0\0"):
            exif.append(content[6:])
        elif byte != b"\xe1":
            jpeg.seek(max(0, length), io.SEEK_CUR)
        if len(exif) > MAX_EXIF_SEGMENTS:
            raise ValueError(f"more than {MAX_EXIF_SEGMENTS} segments of EXIF")
    check_exif(b"".join(exif))
    jpeg.seek(0)


def check_jpeg_scans(jpeg: bytes) -> None:
    """Reject a JPEG with more scans than encoders write, because each scan costs a pass over the whole image."""
    scans, at = 0, 2
    # only up to the end of the first image; other data, such as a video, may follow it
    while (found := _MARKER.search(jpeg, at)) and found[1] != b"\xd9":
        scans += found[1] == _START_OF_SCAN
        bare = found[1] in _BARE
        at = found.end() + (0 if bare else int.from_bytes(jpeg[found.end() : found.end() + 2], "big"))
        if scans > MAX_SCANS:
            raise ValueError(f"more than {MAX_SCANS} scans")


def clean_png(png: bytes) -> bytes:
    """Check the chunks that hold the pixels of a 16-bit PNG, and drop all others.

    libpng prints to stderr about damage and about profiles it objects to, and allocates as much as a chunk claims.
    """
    chunks: dict[bytes, list[bytes]] = {b"IHDR": [], b"IDAT": []}
    at = 8
    while len(head := png[at : at + 8]) == 8:
        kind, end = head[4:], at + 8 + int.from_bytes(head[:4], "big")
        if kind in chunks:
            if zlib.crc32(png[at + 4 : end]).to_bytes(4, "big") != png[end : end + 4]:
                raise ValueError(f"the checksum of {kind.decode()} does not match")
            chunks[kind].append(png[at + 8 : end])
        at = end + 4
    header = b"".join(chunks[b"IHDR"])[:13].ljust(13, b"\0")
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if bits != 16 or colour not in _SAMPLES:
        raise ValueError(f"it has {bits} bits of colour type {colour}")
    samples = _SAMPLES[colour]
    passes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in _PASSES]
    rows = [(w, h) for w, h in (passes if interlaced else [(width, height)]) if w > 0 and h > 0]
    pixels = _whole_zlib(b"".join(chunks[b"IDAT"]), sum(h * (1 + 2 * samples * w) for w, h in rows))
    kept = (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, bool(interlaced)))
    return png[:8] + b"".join(
        struct.pack(">I", len(content)) + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in [kept, (b"IDAT", pixels), (b"IEND", b"")]
    )


def _whole_zlib(packed: bytes, size: int) -> bytes:
    """Check, in little memory, that a zlib stream inflates to ``size`` bytes, and cut off what follows the stream."""
    inflater, inflated, at = zlib.decompressobj(), 0, 0
    try:
        while at < len(packed) and not inflater.eof and inflated <= size:
            rest = packed[at : at + _STEP]
            at += len(rest)
            while rest and inflated <= size:
                inflated += len(inflater.decompress(rest, _STEP))
                rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not inflater.eof or inflated != size:
        raise ValueError(f"it inflates to {'more' if inflated > size else 'less'} than {size} bytes")
    return packed[: at - len(inflater.unused_data)]

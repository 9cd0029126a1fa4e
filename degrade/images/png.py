"""Read the chunks of a PNG: what its numbers mean, and a copy without what decoders would stumble over.

Pillow refuses a PNG for a long text or profile, does not look for EXIF data behind the pixels, ignores cICP and gAMA,
and compares the transparent grey of a file of 2 or 4 bits with greys of 8.
"""

import io
import struct
import zlib
from typing import BinaryIO

from degrade.errors import ImageError
from degrade.images.color_profiles import profile_of_cicp, profile_of_gamma

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PROFILE = 16 << 20  # bytes; profiles of printers have one or two million
_MEANING = {b"IHDR", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"sBIT", b"acTL", b"eXIf"}
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_MAX_TEXT = 1 << 20  # bytes of a text that may hold the orientation
_FOR_PILLOW = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_XMP, _RAW_EXIF = b"XML:com.adobe.xmp", b"Raw profile type exif"


class PngFile:
    """Describe a PNG by its chunks.

    Args:
        stream: the file.

    Attributes:
        bits: bits per channel as stored: 1, 2, 4, 8 or 16.
        grey: whether the colour type is grey, with or without alpha.
        exif: EXIF data with its prefix, or b"". ImageMagick used to write it as a text.
        xmp: XMP data, or b"".
        key: the transparent colour of a file without alpha channel: one number for grey, three for RGB; () if none.
        significant_bits: bits that the values use, by the chunk sBIT.
        more_frames: whether it is an animation.

    Raises:
        ValueError: the header is damaged.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._places: list[tuple[bytes, int, int]] = []
        found: dict[bytes, bytes] = {}
        texts: dict[bytes, bytes] = {}
        at = len(SIGNATURE)
        while stream.seek(at) == at and len(head := stream.read(8)) == 8:
            kind, length = head[4:], int.from_bytes(head[:4], "big")
            if kind in _FOR_PILLOW:
                self._places.append((kind, at, at + 12 + length))
            if kind in _MEANING and kind not in found:
                found[kind] = stream.read(min(length, _MAX_PROFILE))
            elif (
                kind in _TEXTS and length <= _MAX_TEXT and stream.read(32).startswith((_XMP + b"\0", _RAW_EXIF + b"\0"))
            ):
                stream.seek(at + 8)
                texts |= _text(kind, stream.read(length))
            at += 12 + length
        if len(found.get(b"IHDR", b"")) < 13:
            raise ValueError("it has no header")
        self._found = found
        self.bits, color_type = found[b"IHDR"][8], found[b"IHDR"][9]
        self.grey = color_type in (0, 4)
        exif = found.get(b"eXIf", b"")
        self.exif = b"Exif\0\0" + exif if exif else _from_hex(texts.get(_RAW_EXIF, b""))
        self.xmp = texts.get(_XMP, b"")
        key, count = found.get(b"tRNS", b""), {0: 1, 2: 3}.get(color_type, 0)
        self.key = struct.unpack(f">{count}H", key[: 2 * count]) if count and len(key) >= 2 * count else ()
        self.significant_bits = min(max(found.get(b"sBIT", b"\x10")[: 1 if self.grey else 3], default=16), 16)
        self.more_frames = int.from_bytes(found.get(b"acTL", b"")[:4], "big") > 1

    def profile(self) -> bytes | None:
        """Return the colour profile, given or made of cICP or gAMA; None for sRGB.

        Raises:
            ImageError: the image is HDR, its colours are described in an unknown way, or the profile is too large.
        """
        found = self._found
        if b"cICP" in found:
            cicp = found[b"cICP"]
            return profile_of_cicp(b"\1" + cicp[1:] if self.grey else cicp)  # grey has no primaries
        if b"iCCP" in found:
            name, _, packed = found[b"iCCP"].partition(b"\0")
            inflater = zlib.decompressobj()
            try:
                profile = inflater.decompress(packed[1:], _MAX_PROFILE)
            except zlib.error:
                return None  # broken, and ignored as browsers do
            if inflater.unconsumed_tail:
                raise ImageError(f"its colour profile has more than {_MAX_PROFILE} bytes; save the image in sRGB")
            return profile or None
        gamma = int.from_bytes(found.get(b"gAMA", b"")[:4], "big")
        if b"sRGB" in found or not gamma:
            return None
        numbers = found.get(b"cHRM", b"")
        primaries = None
        if len(numbers) == 32 and not self.grey:
            primaries = tuple(each / 100_000 for each in struct.unpack(">8I", numbers))
        return profile_of_gamma(gamma / 100_000, primaries)

    def plain(self, *, pixels: bool) -> BinaryIO:
        """Copy the file without texts, profile, times and frames.

        Args:
            pixels: copy all; else only what comes before the pixels.
        """
        parts = [SIGNATURE]
        for kind, start, end in self._places:
            self._stream.seek(start)
            if kind == b"IDAT" and not pixels:
                parts.append(self._stream.read(8))
                break
            parts.append(self._stream.read(end - start))
        return io.BytesIO(b"".join(parts))


def _text(kind: bytes, content: bytes) -> dict[bytes, bytes]:
    """Return the keyword of a text chunk, and the text; nothing if it is damaged or too long."""
    keyword, _, rest = content.partition(b"\0")
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]  # after language and translated keyword
    elif packed:
        rest = rest[1:]
    if packed:
        inflater = zlib.decompressobj()
        try:
            rest = inflater.decompress(rest, _MAX_TEXT)
        except zlib.error:
            return {}
    return {keyword: rest}


def _from_hex(text: bytes) -> bytes:
    """Decode EXIF data that ImageMagick wrote as a text: a blank line, a name, a length, then digits."""
    try:
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""

"""Keep what an image file says about its picture: EXIF and XMP data, resolution, and that its colours are sRGB.

The pixels of an output are sRGB and upright whatever the input was, so a profile of the input is never copied: an
output whose input had one is marked as sRGB.
"""

import functools
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import ImageCms

from upsample.upscaling.exif import Dpi, for_enlarged, has_profile, resolution, tiff_xmp

MAX_XMP = 4 << 20  # bytes; a packet that inflates to more is left out

_JPEG, _PNG, _RIFF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_EXIF_HEAD, _XMP_HEAD, _ICC_HEAD = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_PNG_XMP_HEAD = b"XML:com.adobe.xmp\0"
_JPEG_SEGMENT = 65533  # bytes that one segment holds
_INCH_M = 0.0254
_WEBP_ICC, _WEBP_ALPHA, _WEBP_EXIF, _WEBP_XMP = 0x20, 0x10, 0x08, 0x04

# Words of an XMP packet that describes further pictures in the same file: video, depth, HDR gain maps.
_APPENDED = (b"Container:Directory", b"GCamera:MicroVideo", b"GCamera:MotionPhoto", b"hdrgm:", b"GDepth:", b"GImage:")
_THUMBNAILS = (b"<xmp:Thumbnails", b"</xmp:Thumbnails>")
_SRGB_NAME = b"sRGB IEC61966-2.1"


@dataclass(frozen=True)
class Metadata:
    """Hold what an image file says about its picture.

    Attributes:
        exif: EXIF data without the prefix ``Exif``, or a whole TIFF file, which has the same layout; b"" for none.
        xmp: the XMP packet; b"" for none.
        dpi: the resolution in pixels per inch, horizontal and vertical; None if the file does not say.
        profile: whether the file has a colour profile.
    """

    exif: bytes = b""
    xmp: bytes = b""
    dpi: Dpi | None = None
    profile: bool = False


def read_metadata(data: bytes) -> tuple[Metadata, list[str]]:
    """Read the metadata of an encoded image.

    Returns:
        The metadata, and a sentence for each part that is damaged and therefore left out.
    """
    try:
        found = _read(data)
    except (ValueError, IndexError, struct.error, zlib.error) as err:
        return Metadata(), [f"its metadata are damaged ({err}) and left out"]
    try:
        dpi = found.dpi or (resolution(found.exif) if found.exif else None)
    except ValueError as err:
        return Metadata(b"", found.xmp, found.dpi, found.profile), [f"its EXIF data are damaged ({err}) and left out"]
    usable = dpi is not None and all(1 <= value < 65536 for value in dpi)
    return Metadata(found.exif, found.xmp, dpi if usable else None, found.profile), []


def with_metadata(
    encoded: bytes, ext: str, metadata: Metadata, size: tuple[int, int], old_size: tuple[int, int], *, grey: bool
) -> tuple[bytes, list[str]]:
    """Add metadata to an enlarged picture.

    Args:
        encoded: the picture as OpenCV encodes it: without metadata.
        ext: its format: "png", "jpg" or "webp".
        metadata: those of the input.
        size: width and height of the enlarged picture, in pixels.
        old_size: width and height of the input, upright.
        grey: whether the picture is grey; a profile of colours would not fit it.

    Returns:
        The encoded picture, and a sentence for each part that is left out.
    """
    notes: list[str] = []
    exif = xmp = b""
    only_in_exif = metadata.dpi if ext == "webp" else None  # WebP has no other place for it
    if metadata.exif or only_in_exif:
        try:
            exif = for_enlarged(metadata.exif, *size, converted=metadata.profile, dpi=only_in_exif)
        except ValueError as err:
            notes.append(f"its EXIF data are damaged ({err}) and left out")
    if metadata.xmp:
        try:
            xmp = _xmp_for_enlarged(metadata.xmp, size, old_size, converted=metadata.profile)
        except ValueError as err:
            notes.append(f"its XMP data are left out: {err}")
    if ext == "jpg":
        for name, block, head in (("EXIF", exif, _EXIF_HEAD), ("XMP", xmp, _XMP_HEAD)):
            if len(head + block) > _JPEG_SEGMENT:
                notes.append(f"its {name} data are left out: {len(block)} bytes are more than a JPEG holds")
        exif = exif if len(_EXIF_HEAD + exif) <= _JPEG_SEGMENT else b""
        xmp = xmp if len(_XMP_HEAD + xmp) <= _JPEG_SEGMENT else b""
    add: Callable[[bytes, bytes, bytes, Dpi | None, bool], bytes] = {
        "png": _into_png,
        "jpg": _into_jpeg,
        "webp": _into_webp,
    }[ext]
    profile = metadata.profile and not (grey and ext == "jpg")  # a WebP is never grey, and PNG's mark is for both
    return add(encoded, exif, xmp, metadata.dpi, profile), notes


def _read(data: bytes) -> Metadata:
    if data.startswith(_JPEG):
        return _read_jpeg(data)
    if data.startswith(_PNG):
        return _read_png(data)
    if data.startswith(_RIFF):
        chunks = dict(_riff_chunks(data))
        exif = chunks.get(b"EXIF", b"").removeprefix(_EXIF_HEAD)
        return Metadata(exif, chunks.get(b"XMP ", b""), None, b"ICCP" in chunks)
    if data.startswith(_TIFF):
        return Metadata(data, tiff_xmp(data), None, has_profile(data))
    if data.startswith(b"BM") and len(data) >= 46 and struct.unpack_from("<I", data, 14)[0] >= 40:
        return Metadata(dpi=_per_inch(*struct.unpack_from("<ii", data, 38)))
    return Metadata()


def _read_jpeg(data: bytes) -> Metadata:
    exif = xmp = b""
    dpi, profile = None, False
    for marker, content in _jpeg_segments(data):
        if marker == 0xE0 and content.startswith(b"JFIF\0"):
            unit, across, down = struct.unpack_from(">BHH", content, 7)
            inches = {1: 1.0, 2: 2.54}.get(unit)
            dpi = (across * inches, down * inches) if inches and across and down else None
        elif marker == 0xE1 and content.startswith(_EXIF_HEAD):
            exif += content.removeprefix(_EXIF_HEAD)  # more than 64 KB go on in the next segment
        elif marker == 0xE1 and content.startswith(_XMP_HEAD):
            xmp = content.removeprefix(_XMP_HEAD)
        elif marker == 0xE2 and content.startswith(_ICC_HEAD):
            profile = True
    return Metadata(exif, xmp, dpi, profile)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of the segments before the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in (0xDA, 0xD9):
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def _read_png(data: bytes) -> Metadata:
    exif = xmp = b""
    dpi, profile, at = None, False, len(_PNG)
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind in (b"eXIf", b"iTXt", b"pHYs", b"iCCP"):
            content = data[at + 8 : at + 8 + length]
            if kind == b"eXIf":
                exif = content.removeprefix(_EXIF_HEAD)
            elif kind == b"iTXt" and content.startswith(_PNG_XMP_HEAD):
                xmp = _png_text(content.removeprefix(_PNG_XMP_HEAD))
            elif kind == b"pHYs" and length == 9 and content[8] == 1:  # per metre
                dpi = _per_inch(*struct.unpack(">II", content[:8]))
            profile = profile or kind == b"iCCP"
        at += 12 + length
    return Metadata(exif, xmp, dpi, profile)


def _png_text(content: bytes) -> bytes:
    """Read the text of an iTXt chunk, after its keyword: two flags, two strings that end in 0, the text."""
    packed, (_, _, text) = content[0] == 1, content[2:].split(b"\0", 2)
    if not packed:
        return text
    inflater = zlib.decompressobj()
    text = inflater.decompress(text, MAX_XMP)
    if not inflater.eof:
        raise ValueError(f"XMP data of more than {MAX_XMP} bytes")
    return text


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _per_inch(across_m: int, down_m: int) -> Dpi | None:
    return (across_m * _INCH_M, down_m * _INCH_M) if across_m > 0 and down_m > 0 else None


def _xmp_for_enlarged(xmp: bytes, size: tuple[int, int], old_size: tuple[int, int], *, converted: bool) -> bytes:
    """Correct what an XMP packet repeats of the file: orientation, sizes, thumbnails, colours.

    Raises:
        ValueError: it describes more than this picture, or is not UTF-8.
    """
    if b"\0" in xmp:
        raise ValueError("they are not in UTF-8")
    if any(word in xmp for word in _APPENDED):
        raise ValueError("they describe further pictures in the file, which the output does not have")
    while (start := xmp.find(_THUMBNAILS[0])) >= 0 and (end := xmp.find(_THUMBNAILS[1], start)) >= 0:
        xmp = xmp[:start] + xmp[end + len(_THUMBNAILS[1]) :]
    xmp = _replaced(xmp, rb"tiff:Orientation", rb"\d+", b"1")
    names = ((rb"exif:PixelXDimension", rb"tiff:ImageWidth"), (rb"exif:PixelYDimension", rb"tiff:ImageLength"))
    for pair, side in zip(names, size, strict=True):
        for name in pair:
            xmp = _replaced(xmp, name, rb"\d+", b"%d" % side)
    scale = size[0] / old_size[0]
    panorama = rb"GPano:(?:FullPano|CroppedArea)\w*Pixels"
    xmp = _replaced(xmp, panorama, rb"\d+", lambda value: b"%d" % round(int(value) * scale))
    xmp = _replaced(xmp, rb"xmpNote:HasExtendedXMP", rb"\w+", b"")  # that part is in another segment
    if converted:
        xmp = _replaced(xmp, rb"exif:ColorSpace", rb"\d+", b"1")
        xmp = _replaced(xmp, rb"photoshop:ICCProfile", rb"[^\"'<]*", _SRGB_NAME)
    return xmp


def _replaced(xmp: bytes, name: bytes, value: bytes, new: bytes | Callable[[bytes], bytes]) -> bytes:
    """Replace a property, which XMP writes as ``name="value"`` or as ``<name>value``, by bytes or by a function."""
    pattern = rb"(" + name + rb"(?:\s{0,9}=\s{0,9}[\"']|>))(" + value + rb")"
    return re.sub(pattern, lambda match: match[1] + (new(match[2]) if callable(new) else new), xmp)


def _into_png(encoded: bytes, exif: bytes, xmp: bytes, dpi: Dpi | None, profile: bool) -> bytes:
    chunks = [(b"sRGB", b"\0")] if profile else []  # perceptual intent; allowed for grey too
    if dpi is not None:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / _INCH_M) for value in dpi), 1)))
    if exif:
        chunks.append((b"eXIf", exif))
    if xmp:
        chunks.append((b"iTXt", _PNG_XMP_HEAD + bytes(4) + xmp))  # not packed, no language, no translated keyword
    after_header = len(_PNG) + 12 + 13
    return encoded[:after_header] + b"".join(_png_chunk(*chunk) for chunk in chunks) + encoded[after_header:]


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _into_jpeg(encoded: bytes, exif: bytes, xmp: bytes, dpi: Dpi | None, profile: bool) -> bytes:
    per_inch = (1, *map(round, dpi)) if dpi is not None else (0, 1, 1)
    segments = [(0xE0, b"JFIF\0\x01\x01" + struct.pack(">BHH", *per_inch) + bytes(2))]
    segments += [(0xE1, _EXIF_HEAD + exif)] if exif else []
    segments += [(0xE1, _XMP_HEAD + xmp)] if xmp else []
    segments += [(0xE2, _ICC_HEAD + b"\x01\x01" + srgb_profile())] if profile else []
    rest = 2
    while encoded[rest : rest + 2] == b"\xff\xe0":  # the encoder's own JFIF header
        rest += 2 + int.from_bytes(encoded[rest + 2 : rest + 4], "big")
    packed = (struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content for marker, content in segments)
    return encoded[:2] + b"".join(packed) + encoded[rest:]


def _into_webp(encoded: bytes, exif: bytes, xmp: bytes, dpi: Dpi | None, profile: bool) -> bytes:
    if not (exif or xmp or profile):
        return encoded
    pixels = [(kind, content) for kind, content in _riff_chunks(encoded) if kind in (b"ALPH", b"VP8 ", b"VP8L")]
    image = dict(pixels)[b"VP8L"]  # `encode_pixels` writes lossless files, whose header holds the size
    bits = int.from_bytes(image[1:5], "little")
    flags = (_WEBP_ICC if profile else 0) | (_WEBP_EXIF if exif else 0) | (_WEBP_XMP if xmp else 0)
    flags |= _WEBP_ALPHA if bits >> 28 & 1 else 0
    width, height = bits & 0x3FFF, bits >> 14 & 0x3FFF  # each less 1, as VP8X wants them
    head = struct.pack("<I", flags) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    chunks = [(b"VP8X", head), *([(b"ICCP", srgb_profile())] if profile else []), *pixels]
    chunks += ([(b"EXIF", exif)] if exif else []) + ([(b"XMP ", xmp)] if xmp else [])
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for kind, content in chunks
    )
    return _RIFF + struct.pack("<I", len(body)) + body


@functools.cache
def srgb_profile() -> bytes:
    """Return an ICC profile of sRGB, whose date is fixed so that outputs do not depend on when they were made."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]

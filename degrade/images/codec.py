"""Decode image files to 8-bit sRGB, and encode crops.

Pillow decodes, because it rejects truncated files, where OpenCV fills the missing part with grey. OpenCV decodes 16-bit
files, because Pillow drops their low byte, and it encodes.
"""

import contextlib
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, ImageCms, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL import Image as PillowImage

from degrade.errors import ImageError
from degrade.images.geometry import Rgb
from degrade.images.guards import (
    check_exif,
    check_jpeg_header,
    check_jpeg_scans,
    check_tags,
    clean_png,
    quiet,
    silence_pillow,
    webp_size,
)

MAX_PIXELS = 100_000_000  # a 10000 x 10000 image takes 300 MB as uint8 RGB

_FACTORIES: dict[bytes, Callable[[BinaryIO, str], ImageFile.ImageFile]] = {  # keys: the first bytes of the file
    b"\xff\xd8\xff": JpegImagePlugin.jpeg_factory,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    EOFError,
    struct.error,
    PillowImage.DecompressionBombError,
)
_ORIENTATION, _TIFF_WIDTH, _TIFF_HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 0x0112, 0x0100, 0x0101, 0x0142, 0x0143
silence_pillow()  # at import, so that it has run before any file is decoded


@dataclass(frozen=True)
class ImageInfo:
    """Describe an image file by its header.

    Attributes:
        width: width in pixels, after the EXIF orientation is applied.
        height: height in pixels, after the EXIF orientation is applied.
        format: JPEG, MPO, PNG, WEBP, TIFF or BMP.
        bits: bits per channel, 8 or 16 (1-bit and palette images count as 8).
        alpha: whether the image has transparency.
    """

    width: int
    height: int
    format: str
    bits: int
    alpha: bool


@dataclass(frozen=True)
class StoredImage:
    """Hold a decoded image that is neither converted to sRGB nor turned upright.

    Attributes:
        image: the image with 8 bits per channel; for a 16-bit file, only the header of this is useful.
        deep: the image with all 16 bits, (H, W), (H, W, 3) RGB or (H, W, 4) RGBA; None for an 8-bit file.
        profile: the embedded colour profile, or None.
        orientation: the EXIF orientation that `turn` must still undo, 1 to 8.
    """

    image: PillowImage.Image
    deep: NDArray[np.uint16] | None
    profile: bytes | None
    orientation: int


def probe_image(data: bytes | Path | BinaryIO) -> ImageInfo:
    """Read the header of an image without decoding it.

    Args:
        data: the bytes of a file, its path, or an open stream, which is closed.

    Raises:
        ImageError: the file is empty, unreadable, or not an image of a supported format.
    """
    with _naming(data), _stream(data) as stream:
        image, orientation = _open(stream)
        return _describe(image, orientation)


def read_image(
    data: bytes | Path, *, alpha: Literal["composite", "refuse"] = "composite", max_pixels: int = MAX_PIXELS
) -> Rgb:
    """Decode an image to 8-bit sRGB.

    JPEG (also CMYK), PNG, WebP, TIFF and BMP are supported, including grey, palette and 16-bit images. The EXIF
    orientation is applied, colours are converted from an embedded profile to sRGB (a broken profile is ignored), and
    16-bit values are rounded to x / 257. Animations and multi-page files give their first image.

    Args:
        data: the bytes of a file, or its path.
        alpha: ``"composite"`` lays transparent images on white, ``"refuse"`` raises an error for them. A fully opaque
            alpha channel is dropped in both cases.
        max_pixels: larger images are rejected before they are decoded.

    Returns:
        (H, W, 3) uint8 RGB, contiguous and writable.

    Raises:
        ImageError: the file is empty, unreadable, truncated, too large, or not an image of a supported format.
    """
    stored = decode_image(data, max_pixels=max_pixels)
    with _naming(data):
        image = stored.image if stored.deep is None else PillowImage.fromarray(_to_8_bit(stored.deep))
        rgb, opacity = to_srgb(image, stored.profile)
        if opacity is not None and (opacity < 255).any():
            if alpha == "refuse":
                raise ImageError("image is transparent; flatten it or pass alpha='composite' to lay it on white")
            weight = opacity[..., None].astype(np.uint32)
            rgb = ((rgb * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)
        return turn(rgb, stored.orientation)


def decode_image(data: bytes | Path, *, max_pixels: int = MAX_PIXELS) -> StoredImage:
    """Decode an image and keep all that it holds, for callers that need more than 8-bit RGB.

    Args:
        data: the bytes of a file, or its path.
        max_pixels: larger images are rejected before they are decoded.

    Raises:
        ImageError: the file is empty, unreadable, truncated, too large, or not an image of a supported format.
    """
    with _naming(data), _stream(data) as stream:
        file, orientation = _open(stream, max_pixels)
        info = _describe(file, orientation)
        _check_size(info.width, info.height, max_pixels)
        profile = file.info.get("icc_profile")
        deep = None
        try:
            if info.format in ("JPEG", "MPO"):
                stream.seek(0)
                check_jpeg_scans(stream.read())
            if isinstance(file, TiffImagePlugin.TiffImageFile):
                width, height = (int(file.tag_v2.get(tag, 1)) for tag in (_TILE_WIDTH, _TILE_HEIGHT))
                _check_size(width, height, max_pixels, "a tile of ")
            with quiet:
                file.load()
            if info.bits == 16:
                stream.seek(0)
                deep = _decode_16_bit(stream.read(), info.format)
        except ImageError:
            raise
        except _DECODER_ERRORS as error:
            raise ImageError(f"{info.format} data is truncated or corrupt ({error}); fetch the file again") from error
    return StoredImage(file, deep, profile, 1 if info.format == "TIFF" else orientation)  # decoders turn TIFF


def encode_image(image: Rgb, ext: str, quality: int | None = None) -> bytes:
    """Encode an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        ext: ``"png"``, ``"jpg"`` (with 4:4:4 chroma, so that colour is not subsampled a second time) or ``"webp"``.
        quality: 1 to 100; None means 95 for jpg and lossless for webp. PNG takes only None.

    Raises:
        ValueError: the extension or the quality is not supported, or the image has another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image is {image.dtype} {image.shape}; pass uint8 RGB (H, W, 3)")
    return cv2.imencode(f".{ext}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), encoder_options(ext, quality))[1].tobytes()


def encoder_options(ext: str, quality: int | None = None) -> list[int]:
    """Build the options of OpenCV's encoder for an extension and a quality that `encode_image` takes.

    Raises:
        ValueError: the extension or the quality is not supported.
    """
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality {quality} is outside 1..100")
    if ext == "png":
        if quality is not None:
            raise ValueError(f"png is lossless and takes no quality (got {quality}); leave it None or use jpg or webp")
        return []  # OpenCV's default is faster than every compression level that one can set
    if ext == "jpg":
        options = [cv2.IMWRITE_JPEG_QUALITY, 95 if quality is None else quality]
        return options + [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    if ext == "webp":
        return [cv2.IMWRITE_WEBP_QUALITY, 101 if quality is None else quality]  # above 100, WebP is lossless
    raise ValueError(f"cannot encode {ext!r}; use png, jpg or webp")


@contextlib.contextmanager
def _naming(data: bytes | Path | BinaryIO) -> Iterator[None]:
    """Turn system errors into `ImageError`, and put the name of the file before the reason."""
    try:
        yield
    except (ImageError, OSError) as error:
        reason = str(error) if isinstance(error, ImageError) else f"cannot be read ({error.strerror or error})"
        raise ImageError(f"{data.name}: {reason}" if isinstance(data, Path) else reason) from error


def _stream(data: bytes | Path | BinaryIO) -> BinaryIO:
    if isinstance(data, Path):
        return data.open("rb")
    return io.BytesIO(data) if isinstance(data, bytes) else data


def _open(stream: BinaryIO, max_pixels: int | None = None) -> tuple[ImageFile.ImageFile, int]:
    """Parse the header of an image, and return the image with its EXIF orientation (1 to 8).

    This calls the format's own factory instead of ``Image.open``, whose guard against huge images is a setting of the
    whole process and warns on stderr. ``max_pixels`` is the guard here.
    """
    prefix = stream.read(30)
    stream.seek(0)
    if not prefix:
        raise ImageError("file is empty (0 bytes); fetch it again or remove it")
    factory = next((factory for magic, factory in _FACTORIES.items() if prefix.startswith(magic)), None)
    if factory is None:
        raise ImageError(f"not a JPEG, PNG, WebP, TIFF or BMP image (begins with {prefix[:8]!r}); convert or remove it")
    if max_pixels is not None and prefix.startswith(b"RIFF"):
        _check_size(*(webp_size(prefix) or (0, 0)), max_pixels)
    with quiet:  # broken EXIF is common and harmless, but Pillow warns about it
        try:
            if prefix.startswith(b"\xff\xd8"):
                check_jpeg_header(stream)
            elif prefix.startswith((b"II", b"MM")):
                check_tags(stream)
            image = factory(stream, "")
        except _DECODER_ERRORS as error:
            raise ImageError(f"image header is truncated or corrupt ({error}); fetch the file again") from error
        try:
            if image.format == "PNG" and "exif" not in image.info:
                image.info["exif"] = _late_exif(stream)
            check_exif(image.info.get("exif", b""))
            # not image.getexif(), which decodes the whole image of a PNG
            orientation = PillowImage.Image.getexif(image).get(_ORIENTATION, 1)
        except _DECODER_ERRORS:
            orientation = 1
    return image, orientation if orientation in range(1, 9) else 1


def _check_size(width: int, height: int, max_pixels: int, what: str = "") -> None:
    if width * height > max_pixels:
        size = f"{what}{width}x{height}"
        raise ImageError(f"{size} is more than {max_pixels} pixels; reduce the image or raise max_pixels")


def _describe(image: ImageFile.ImageFile, orientation: int) -> ImageInfo:
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # in some Pillow versions, the size is turned already
        width, height = image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT]
    if orientation >= 5:
        width, height = height, width
    if image.mode in ("F", "LAB") or (image.mode == "I" and image.format == "TIFF"):
        raise ImageError(f"{image.format} of mode {image.mode} is not supported; convert it to RGB of 8 or 16 bits")
    # Pillow shows the depth of colour images only in the raw mode of the decoder, such as "RGB;16B"
    deep = image.format in ("PNG", "TIFF") and (image.mode.startswith("I") or ";16" in str(image.tile[:1]))
    alpha = "A" in image.getbands() or "transparency" in image.info
    return ImageInfo(width, height, str(image.format), 16 if deep else 8, alpha)


def _decode_16_bit(data: bytes, format_name: str) -> NDArray[np.uint16]:
    """Decode a file with all 16 bits: (H, W), (H, W, 3) RGB or (H, W, 4) RGBA."""
    data = clean_png(data) if format_name == "PNG" else data
    with quiet:
        deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16:
        raise ImageError(f"16-bit {format_name} of an unusual layout cannot be decoded; convert it to 8 bits")
    if deep.ndim == 2:
        return deep
    return cv2.cvtColor(deep, cv2.COLOR_BGRA2RGBA if deep.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _to_8_bit(deep: NDArray[np.uint16]) -> NDArray[np.uint8]:
    return ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)  # exactly round(x / 257)


def _png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, start and end of each chunk, without reading its content."""
    at = 8
    while stream.seek(at) == at and len(head := stream.read(8)) == 8:
        end = at + 12 + int.from_bytes(head[:4], "big")
        yield head[4:], at, end
        at = end


def _late_exif(png: BinaryIO) -> bytes:
    """Find EXIF data after the pixels, where exiftool puts it and Pillow does not look when it reads the header."""
    place = png.tell()
    for kind, start, end in _png_chunks(png):
        if kind == b"eXIf":
            png.seek(start + 8)
            exif = b"Exif\0\0" + png.read(end - start - 12)
            break
    else:
        exif = b""
    png.seek(place)
    return exif


def to_srgb(image: PillowImage.Image, icc_profile: bytes | None) -> tuple[Rgb, NDArray[np.uint8] | None]:
    """Split an image into its sRGB colours, (H, W, 3) uint8, and its opacity, (H, W) uint8, or None without alpha.

    Raises:
        ImageError: the palette does not fit the pixels.
    """
    try:
        with quiet:
            return _to_srgb(image, icc_profile)
    except _DECODER_ERRORS as error:
        raise ImageError(f"palette or colours are corrupt ({error}); fetch the file again") from error


def _to_srgb(image: PillowImage.Image, icc_profile: bytes | None) -> tuple[Rgb, NDArray[np.uint8] | None]:
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBa"):
        image = image.convert("RGBA")
    opacity = np.asarray(image.getchannel("A")) if image.mode == "RGBA" else None
    if image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    if icc_profile:
        image = through_profile(image, icc_profile)
    return np.array(image.convert("RGB")), opacity  # a copy, because Pillow's own memory is read-only


def through_profile(image: PillowImage.Image, icc_profile: bytes) -> PillowImage.Image:
    """Convert an image from its embedded profile to sRGB; ignore a broken or unsuitable profile, as browsers do."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        space = profile.profile.xcolor_space.strip()
        if space == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space) != image.mode:
            return image
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def turn(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn an image, (H, W, channels), upright by its EXIF orientation (1 to 8, EXIF 2.32 section 4.6.4)."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)

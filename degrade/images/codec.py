"""Decode image files to 8-bit sRGB, and encode crops.

Pillow decodes, because it rejects truncated files, where OpenCV fills the missing part with grey. OpenCV decodes 16-bit
PNG, because Pillow drops the low byte, and it encodes. What the numbers of a PNG or TIFF mean is read in `png` and
`tiff`, because both libraries guess some of it wrong.
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
from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL import Image as PillowImage

from degrade.errors import ImageError
from degrade.images.color_profiles import check_profile, through_profile
from degrade.images.depth import check_full_range, to_8_bit
from degrade.images.encoder import encode_pixels
from degrade.images.formats import READ_FORMATS, unread_format
from degrade.images.geometry import Rgb
from degrade.images.guards import (
    check_exif,
    check_jpeg_header,
    check_jpeg_scans,
    clean_png,
    quiet,
    silence_pillow,
    webp_size,
)
from degrade.images.png import SIGNATURE, PngFile
from degrade.images.tiff import TiffFile

MAX_PIXELS = 100_000_000  # a 10000 x 10000 image takes 300 MB as uint8 RGB

_FACTORIES: dict[bytes, Callable[[BinaryIO, str], ImageFile.ImageFile]] = {  # keys: the first bytes of the file
    b"\xff\xd8\xff": JpegImagePlugin.jpeg_factory,
    SIGNATURE: PngImagePlugin.PngImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
_HEAD = 64  # bytes that tell the format
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    EOFError,
    OverflowError,
    struct.error,
    PillowImage.DecompressionBombError,
)
_ORIENTATION = 0x0112
silence_pillow()  # at import, so that it has run before any file is decoded


@dataclass(frozen=True)
class ImageInfo:
    """Describe an image file by its header.

    Attributes:
        width: width in pixels, after the EXIF orientation is applied.
        height: height in pixels, after the EXIF orientation is applied.
        format: JPEG, MPO, PNG, WEBP, TIFF or BMP.
        bits: bits per channel, 8 or 16 (fewer than 8 count as 8, and 9 to 15 as 16).
        alpha: whether the image has transparency.
        more_frames: whether the file is an animation or holds further pages, of which only the first is read.
    """

    width: int
    height: int
    format: str
    bits: int
    alpha: bool
    more_frames: bool = False


@dataclass(frozen=True)
class StoredImage:
    """Hold a decoded image that is neither converted to sRGB nor turned upright.

    Attributes:
        image: the image with 8 bits per channel; for a 16-bit file, only the mode of this is useful, such as "I;16".
        deep: the image with all 16 bits, (H, W), (H, W, 3) RGB or (H, W, 4) RGBA; None for an 8-bit file.
        profile: the colour profile, or None for sRGB.
        orientation: the EXIF orientation that `turn` must still undo, 1 to 8.
    """

    image: PillowImage.Image
    deep: NDArray[np.uint16] | None
    profile: bytes | None
    orientation: int

    @property
    def grey(self) -> bool:
        """Whether the file holds a grey image, with or without transparency."""
        return self.image.mode in ("1", "L", "LA", "La") or self.image.mode.startswith("I")


@dataclass(frozen=True)
class _Opened:
    """Hold a file whose header is read.

    Attributes:
        info: what the header says.
        orientation: the EXIF orientation, 1 to 8.
        profile: the colour profile, or None for sRGB.
        image: the picture for Pillow, not decoded yet; None for TIFF.
        png: the chunks of a PNG.
        tiff: the tags of a TIFF.
    """

    info: ImageInfo
    orientation: int
    profile: bytes | None
    image: ImageFile.ImageFile | None = None
    png: PngFile | None = None
    tiff: TiffFile | None = None


def probe_image(data: bytes | Path | BinaryIO) -> ImageInfo:
    """Read the header of an image without decoding it.

    Args:
        data: the bytes of a file, its path, or an open stream, which is closed.

    Raises:
        ImageError: the file is empty, unreadable, or not an image of a supported format.
    """
    with _naming(data), _stream(data) as stream:
        return _open(stream).info


def read_image(
    data: bytes | Path, *, alpha: Literal["composite", "refuse"] = "composite", max_pixels: int = MAX_PIXELS
) -> Rgb:
    """Decode an image to 8-bit sRGB.

    JPEG (also CMYK), PNG, WebP, TIFF (also BigTIFF) and BMP are supported, including grey, palette and 16-bit images.
    The EXIF orientation is applied, colours are converted from an embedded profile to sRGB (a broken profile is
    ignored), and 16-bit values are rounded to x / 257. Animations and multi-page files give their first image, without
    thumbnails. What cannot be read right, such as floating point numbers or HDR, is refused by its name.

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
        rgb, opacity = to_srgb(_in_8_bit(stored), stored.profile)
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
        opened = _open(stream, max_pixels)
        info = opened.info
        _check_size(info.width, info.height, max_pixels)
        stream.seek(0)
        try:
            with quiet:
                image, deep = _decode(opened, stream, max_pixels)
        except ImageError:
            raise
        except _DECODER_ERRORS as error:
            raise ImageError(f"{info.format} data is truncated or corrupt ({error}); fetch the file again") from error
    return StoredImage(image, deep, opened.profile, opened.orientation)


def encode_image(image: Rgb, ext: str, quality: int | None = None) -> bytes:
    """Encode an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        ext: ``"png"``, ``"jpg"`` (with 4:4:4 chroma, so that colour is not subsampled a second time) or ``"webp"``.
        quality: 1 to 100; None means 95 for jpg and lossless for webp. PNG takes only None.

    Raises:
        ValueError: the extension or the quality is not supported, or the image has another shape or type.
        ImageError: the image is longer than the format can hold.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image is {image.dtype} {image.shape}; pass uint8 RGB (H, W, 3)")
    options = encoder_options(ext, quality)
    return encode_pixels(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), ext, options)


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


def _open(stream: BinaryIO, max_pixels: int | None = None) -> _Opened:
    """Parse the header of an image.

    This calls the format's own factory instead of ``Image.open``, whose guard against huge images is a setting of the
    whole process and warns on stderr. ``max_pixels`` is the guard here.

    Args:
        stream: the file.
        max_pixels: with it, the image is to be decoded afterwards; larger ones are refused.
    """
    head = stream.read(_HEAD)
    stream.seek(0)
    if not head:
        raise ImageError("file is empty (0 bytes); fetch it again or remove it")
    if name := unread_format(head):
        raise ImageError(f"its format is {name}, which is not read; convert it to {READ_FORMATS}, or remove it")
    factory = next((factory for magic, factory in _FACTORIES.items() if head.startswith(magic)), None)
    if factory is None and not head.startswith(_TIFF):
        raise ImageError(f"not a {READ_FORMATS} image (begins with {head[:8]!r}); convert or remove it")
    if max_pixels is not None and head.startswith(b"RIFF"):
        _check_size(*(webp_size(head) or (0, 0)), max_pixels)
    with quiet:  # broken EXIF is common and harmless, but Pillow warns about it
        try:
            if factory is None:
                return _open_tiff(stream)
            return _open_other(stream, factory, whole=max_pixels is not None)
        except ImageError:
            raise
        except _DECODER_ERRORS as error:
            if str(error).startswith(("Unsupported", "cannot handle")):  # said by Pillow's plugins for BMP and JPEG
                raise ImageError(f"this kind of image is not read ({error}); save it as RGB of 8 bits") from error
            raise ImageError(f"image header is truncated or corrupt ({error}); fetch the file again") from error


def _open_tiff(stream: BinaryIO) -> _Opened:
    tiff = TiffFile(stream)
    width, height = (tiff.width, tiff.height) if tiff.orientation < 5 else (tiff.height, tiff.width)
    if tiff.profile:
        check_profile(tiff.profile)
    info = ImageInfo(width, height, "TIFF", tiff.bits, tiff.alpha, tiff.more_pages)
    return _Opened(info, tiff.orientation, tiff.profile, tiff=tiff)


def _open_other(stream: BinaryIO, factory: Callable[[BinaryIO, str], ImageFile.ImageFile], *, whole: bool) -> _Opened:
    png = PngFile(stream) if factory is PngImagePlugin.PngImageFile else None
    if png is None:
        if factory is JpegImagePlugin.jpeg_factory:
            check_jpeg_header(stream)
        image = factory(stream, "")
        profile = image.info.get("icc_profile")
    else:
        image = factory(png.plain(pixels=whole), "")
        image.info |= {"exif": png.exif, "xmp": png.xmp}
        profile = png.profile()
    if profile:
        check_profile(profile)
    if png is not None and png.grey and png.bits in (2, 4) and png.key:  # Pillow would look for the key among 8 bits
        image.info["transparency"] = (png.key[0] & (1 << png.bits) - 1) * 255 // ((1 << png.bits) - 1)
    orientation = _orientation(image)
    width, height = image.size if orientation < 5 else image.size[::-1]
    info = ImageInfo(
        width,
        height,
        str(image.format),
        16 if png is not None and png.bits == 16 else 8,
        "A" in image.getbands() or "transparency" in image.info,
        png.more_frames if png is not None else image.format == "WEBP" and getattr(image, "n_frames", 1) > 1,
    )
    return _Opened(info, orientation, profile, image, png)


def _orientation(image: ImageFile.ImageFile) -> int:
    """Read the orientation in EXIF or XMP data, 1 to 8; 1 if the data is broken."""
    try:
        check_exif(image.info.get("exif", b""))
        # not image.getexif(), which decodes the whole image of a PNG
        found = PillowImage.Image.getexif(image).get(_ORIENTATION, 1)
    except _DECODER_ERRORS:
        return 1
    return found if found in range(1, 9) else 1


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(f"{width}x{height} is more than {max_pixels} pixels; reduce the image or raise max_pixels")


def _decode(opened: _Opened, stream: BinaryIO, max_pixels: int) -> tuple[PillowImage.Image, NDArray[np.uint16] | None]:
    """Decode the pixels of an opened file: 8 bits in the first result, or 16 in the second."""
    if opened.tiff is not None:
        decoded = opened.tiff.decode(stream.read(), max_pixels)
        if decoded.space != "cmyk" and decoded.values.dtype == np.uint16:
            return _mode_alone(decoded.space == "grey"), _channels(decoded.values)
        return _pillow_image(decoded.values, decoded.space), None
    image = opened.image
    assert image is not None
    if opened.png is not None and opened.info.bits == 16:
        return _mode_alone(opened.png.grey), _decode_deep_png(stream.read(), opened.png)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        check_jpeg_scans(stream.read())
    image.load()
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB"), None  # alpha that nobody has written; Windows shows such files opaque
    return image, None


def _mode_alone(grey: bool) -> PillowImage.Image:
    return PillowImage.new("I;16" if grey else "RGB", (1, 1))


def _decode_deep_png(data: bytes, png: PngFile) -> NDArray[np.uint16]:
    """Decode a 16-bit PNG: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA."""
    deep = cv2.imdecode(np.frombuffer(clean_png(data), np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16:
        raise ValueError("its pixels cannot be decoded")
    if deep.ndim == 3:
        deep = cv2.cvtColor(deep, cv2.COLOR_BGRA2RGBA if deep.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    check_full_range(deep[..., :3], png.significant_bits)
    if not png.key:
        return deep
    colors = np.dstack([deep] * 3) if deep.ndim == 2 else deep
    visible = (colors != np.array(png.key, np.uint16)).any(axis=2)
    return np.dstack([colors, visible.astype(np.uint16) * 65535])


def _channels(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Shape channels as `StoredImage` holds them: (H, W), (H, W, 3) or (H, W, 4)."""
    if values.shape[2] == 2:
        return values[..., [0, 0, 0, 1]]
    return values[..., 0] if values.shape[2] == 1 else values


def _pillow_image(values: NDArray[Any], space: Literal["grey", "rgb", "cmyk"]) -> PillowImage.Image:
    values = values if values.dtype == np.uint8 else to_8_bit(values)
    height, width, channels = values.shape
    mode = "CMYK" if space == "cmyk" else {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    return PillowImage.frombuffer(mode, (width, height), np.ascontiguousarray(values), "raw", mode, 0, 1)


def _in_8_bit(stored: StoredImage) -> PillowImage.Image:
    if stored.deep is None:
        return stored.image
    values = to_8_bit(stored.deep)
    if stored.grey and values.ndim == 3:
        return PillowImage.fromarray(np.ascontiguousarray(values[..., [0, 3]]), "LA")
    return PillowImage.fromarray(values)


def to_srgb(image: PillowImage.Image, icc_profile: bytes | None) -> tuple[Rgb, NDArray[np.uint8] | None]:
    """Split an image into its sRGB colours, (H, W, 3) uint8, and its opacity, (H, W) uint8, or None without alpha.

    Raises:
        ImageError: the palette does not fit the pixels.
    """
    try:
        with quiet:
            return _to_srgb(image, icc_profile)
    except ImageError:
        raise
    except _DECODER_ERRORS as error:
        raise ImageError(f"palette or colours are corrupt ({error}); fetch the file again") from error


def _to_srgb(image: PillowImage.Image, icc_profile: bytes | None) -> tuple[Rgb, NDArray[np.uint8] | None]:
    grey = image.mode in ("1", "L", "LA", "La")
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBa"):
        image = image.convert("RGBA")
    opacity = np.asarray(image.getchannel("A")) if image.mode == "RGBA" else None
    if grey and icc_profile:  # a profile of grey needs grey
        image = image.getchannel("R") if opacity is not None else image.convert("L")
    elif image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    if icc_profile:
        image = through_profile(image, icc_profile)
    return np.array(image.convert("RGB")), opacity  # a copy, because Pillow's own memory is read-only


def turn(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn an image, (H, W, channels), upright by its EXIF orientation (1 to 8, EXIF 2.32 section 4.6.4)."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)

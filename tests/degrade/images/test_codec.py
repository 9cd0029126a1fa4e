import errno
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data

from degrade.errors import ImageError
from degrade.images.codec import encode_image, probe_image, read_image

PHOTO = data.chelsea()[:200, :260]


def saved(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def sixteen_bit(array: np.ndarray, ext: str) -> bytes:
    return cv2.imencode(ext, array)[1].tobytes()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b.astype(float)) ** 2))))


def wide_gamut_profile() -> bytes:
    """Forge an RGB profile whose red and blue primaries are swapped: easy to see, never sRGB by name."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    tags = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = tags[b"rXYZ"] + 4, tags[b"bXYZ"] + 4
    profile[red : red + 8], profile[blue : blue + 8] = profile[blue : blue + 8], profile[red : red + 8]
    name = tags[b"desc"]
    start, size = struct.unpack(">II", profile[name + 4 : name + 12])
    profile[start : start + size] = bytes(profile[start : start + size]).replace(b"s\0R\0G\0B", b"x\0R\0G\0B")
    return bytes(profile)


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "TIFF", "BMP"])
def test_lossless_formats_come_back_exactly(format_name: str) -> None:
    file = saved(Image.fromarray(PHOTO), format_name, **({"lossless": True} if format_name == "WEBP" else {}))
    assert np.array_equal(read_image(file), PHOTO)
    info = probe_image(file)
    assert (info.width, info.height, info.format, info.bits, info.alpha) == (260, 200, format_name, 8, False)


def test_jpeg_comes_back_close() -> None:
    assert psnr(read_image(saved(Image.fromarray(PHOTO), "JPEG", quality=95)), PHOTO) > 38


def test_cmyk_jpeg_keeps_its_colours() -> None:
    file = saved(Image.fromarray(PHOTO).convert("CMYK"), "JPEG", quality=98)
    assert psnr(read_image(file), PHOTO) > 35


def test_grey_palette_and_one_bit_images_become_rgb() -> None:
    grey = Image.fromarray(PHOTO).convert("L")
    assert np.array_equal(read_image(saved(grey, "PNG")), np.repeat(np.asarray(grey)[..., None], 3, axis=2))
    palette = Image.fromarray(PHOTO).quantize(64)
    assert np.array_equal(read_image(saved(palette, "PNG")), np.asarray(palette.convert("RGB")))
    bilevel = grey.convert("1")
    assert np.array_equal(read_image(saved(bilevel, "PNG")), np.asarray(bilevel.convert("RGB")))


@pytest.mark.parametrize("ext", [".png", ".tiff"])
def test_sixteen_bits_round_to_the_nearest_of_eight(ext: str) -> None:
    every_level = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    nearest = np.round(every_level / 257).astype(np.uint8)
    grey = sixteen_bit(every_level, ext)
    assert np.array_equal(read_image(grey), np.repeat(nearest[..., None], 3, axis=2))
    assert probe_image(grey).bits == 16
    bgr = np.dstack([every_level, every_level.T, every_level[::-1]])
    assert np.array_equal(read_image(sixteen_bit(bgr, ext)), np.dstack([nearest[::-1], nearest.T, nearest]))


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turn_is_applied_to_pixels_and_probed_size(format_name: str, orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8], upright[:8, 16:], upright[8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    undo = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]  # stored = upright turned the other way
    methods = Image.Transpose
    turn = [
        None,
        methods.FLIP_LEFT_RIGHT,
        methods.ROTATE_180,
        methods.FLIP_TOP_BOTTOM,
        methods.TRANSPOSE,
        methods.ROTATE_270,
        methods.TRANSVERSE,
        methods.ROTATE_90,
    ][undo - 1]
    stored = Image.fromarray(upright) if turn is None else Image.fromarray(upright).transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(stored, format_name, exif=exif)
    assert psnr(read_image(file), upright) > 20
    assert (probe_image(file).width, probe_image(file).height) == (24, 16)


def test_exif_after_the_pixels_of_a_png_still_turns_it() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(payload)) + b"eXIf" + payload + struct.pack(">I", zlib.crc32(b"eXIf" + payload))
    plain = saved(Image.fromarray(PHOTO), "PNG")
    file = plain[:-12] + chunk + plain[-12:]  # IEND is the last 12 bytes
    assert (probe_image(file).width, probe_image(file).height) == (200, 260)
    assert np.array_equal(read_image(file), np.rot90(PHOTO, -1))


def test_alpha_is_laid_on_white_or_refused() -> None:
    opacity = np.tile(np.linspace(0, 255, 260).astype(np.uint8), (200, 1))
    file = saved(Image.fromarray(np.dstack([PHOTO, opacity])), "PNG")
    weight = opacity[..., None] / 255
    expected = np.round(PHOTO * weight + 255 * (1 - weight))
    assert np.abs(read_image(file) - expected).max() <= 1
    assert np.array_equal(read_image(file)[:, 0], np.full((200, 3), 255))
    with pytest.raises(ImageError, match="transparent; flatten it"):
        read_image(file, alpha="refuse")


def test_opaque_alpha_is_no_transparency() -> None:
    file = saved(Image.fromarray(np.dstack([PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8)])), "PNG")
    assert np.array_equal(read_image(file, alpha="refuse"), PHOTO)


def test_embedded_profile_is_converted_to_srgb() -> None:
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert read_image(saved(red, "PNG"))[0, 0].tolist() == [255, 0, 0]
    turned = read_image(saved(red, "PNG", icc_profile=wide_gamut_profile()))[0, 0]
    assert turned[2] > 240 and turned[0] < 15  # its "red" is our blue


def test_srgb_profile_and_broken_profile_change_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"garbage" * 40):
        assert np.array_equal(read_image(saved(Image.fromarray(PHOTO), "PNG", icc_profile=profile)), PHOTO)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.98])
def test_truncated_files_are_refused(format_name: str, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    file = saved(Image.fromarray(PHOTO), format_name, **({"compression": "tiff_lzw"} if format_name == "TIFF" else {}))
    with pytest.raises(ImageError):
        read_image(file[: int(len(file) * share)])
    assert capfd.readouterr().err == ""


def test_truncated_sixteen_bit_png_is_refused() -> None:
    file = sixteen_bit(PHOTO.astype(np.uint16) * 257, ".png")
    with pytest.raises(ImageError, match="truncated"):
        read_image(file[: len(file) // 2])


@pytest.mark.parametrize("garbage", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"BM", b"RIFF\0\0\0\0WEBP"])
def test_a_bare_magic_number_is_an_image_error(garbage: bytes) -> None:
    for content in (garbage, garbage + bytes(100), garbage + b"\xff" * 100):
        with pytest.raises(ImageError):
            read_image(content)


def test_header_is_probed_without_decoding() -> None:
    file = saved(Image.fromarray(PHOTO), "PNG")
    assert probe_image(file[: len(file) // 2]).width == 260


def test_oversized_images_are_refused_before_decoding() -> None:
    file = bytearray(saved(Image.fromarray(PHOTO), "PNG"))
    file[16:24] = struct.pack(">II", 60_000, 60_000)  # a bomb: the header promises 3.6 gigapixels
    file[29:33] = struct.pack(">I", zlib.crc32(file[12:29]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="60000x60000 is more than 100000000 pixels; reduce the image"):
            read_image(bytes(file))
        assert probe_image(bytes(file)).width == 60_000
    with pytest.raises(ImageError, match="raise max_pixels"):
        read_image(saved(Image.fromarray(PHOTO), "PNG"), max_pixels=51_999)


def test_files_that_are_no_images_are_named_with_a_reason(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    text = tmp_path / "text.png"
    text.write_text("this is not an image")
    for path, reason in ((empty, "empty.png: file is empty"), (text, "text.png: not a JPEG, PNG")):
        for function in (probe_image, read_image):
            with pytest.raises(ImageError, match=reason):
                function(path)
    with pytest.raises(ImageError, match="gone.png: cannot be read .No such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="cannot be read .Is a directory"):
        probe_image(tmp_path)


def test_float_images_are_refused() -> None:
    with pytest.raises(ImageError, match="TIFF of 32-bit floating point numbers is not read; save it as grey or RGB"):
        read_image(saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))


def test_broken_metadata_makes_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    photo = Image.fromarray(PHOTO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(saved(photo, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0"))
        read_image(saved(photo, "PNG", icc_profile=b"garbage" * 40))
        deep = np.repeat(np.arange(256, dtype=np.uint16)[None] * 257, 8, axis=0)
        read_image(saved(Image.fromarray(deep), "PNG", icc_profile=b"garbage" * 40))
        read_image(sixteen_bit(np.dstack([deep] * 4), ".tiff"))
    assert capfd.readouterr().err == ""


def test_png_and_lossless_webp_keep_every_pixel_and_jpg_keeps_colour_resolution() -> None:
    for ext in ("png", "webp"):
        assert np.array_equal(read_image(encode_image(PHOTO, ext)), PHOTO)
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 255, 255  # colour that 4:2:0 would smear to purple
    assert psnr(read_image(encode_image(stripes, "jpg")), stripes) > 25
    assert len(encode_image(PHOTO, "jpg", 30)) < len(encode_image(PHOTO, "jpg"))
    assert len(encode_image(PHOTO, "webp", 80)) < len(encode_image(PHOTO, "webp"))


@pytest.mark.parametrize(
    ("image", "ext", "quality", "sentence"),
    [
        (PHOTO, "gif", None, "use png, jpg or webp"),
        (PHOTO, "png", 90, "takes no quality"),
        (PHOTO, "jpg", 0, "outside 1..100"),
        (PHOTO.astype(np.float32), "png", None, "pass uint8 RGB"),
        (PHOTO[..., 0], "png", None, "pass uint8 RGB"),
    ],
)
def test_encode_says_what_it_cannot_do(image: np.ndarray, ext: str, quality: int | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        encode_image(image, ext, quality)


def test_unreadable_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(saved(Image.fromarray(PHOTO), "PNG"))

    def refuse(*_: object) -> None:  # chmod would not stop root, as whom containers run their tests
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match="locked.png: cannot be read .Permission denied"):
        read_image(path)

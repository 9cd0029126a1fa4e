"""Ways to store a picture: each is read right, or refused by its name."""

import io
import random
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from degrade.errors import ImageError
from degrade.images.codec import decode_image, probe_image, read_image
from degrade.images.depth import check_full_range
from degrade.images.formats import unread_format

sys.path.append(str(Path(__file__).parents[3] / "examples"))
from check_image_reading import LOST, NAMED, RIGHT, WRITERS, judge  # noqa: E402
from image_layouts.others import png  # noqa: E402
from image_layouts.picture import colors, quantized, seen  # noqa: E402
from image_layouts.tiff import tiff_layouts, write_tiff  # noqa: E402

RGB = {262: ("H", [2])}


def tiff(numbers: np.ndarray, bits: int, tags: dict, **options: object) -> bytes:
    return write_tiff(numbers, bits, "none", (numbers.shape[1], 8), False, tags, **options)


@pytest.mark.parametrize("container", [*WRITERS, "TIFF"])
def test_every_layout_is_read_right_or_refused_by_its_name(container: str) -> None:
    layouts = list(tiff_layouts(every=151) if container == "TIFF" else WRITERS[container]())
    assert len(layouts) > 10
    for layout in layouts:
        outcome, reason = judge(layout)
        expected = NAMED if layout.truth is None else RIGHT
        if layout.name.startswith("16 bits 444"):  # Pillow does not read it
            expected = LOST
        assert outcome == expected, (layout.name, reason)


@pytest.mark.slow
def test_every_seventh_combination_of_tiff_is_read_right_or_refused_by_its_name() -> None:
    for layout in tiff_layouts(every=7):
        outcome, reason = judge(layout)
        assert outcome == (NAMED if layout.truth is None else RIGHT), (layout.name, reason)


@pytest.mark.parametrize("photometric", [0, 1, 2])
@pytest.mark.parametrize("extra", [None, 0, 1, 2])
@pytest.mark.parametrize("planar", [1, 2])
def test_twins_of_8_and_16_bits_decode_alike(photometric: int, extra: int | None, planar: int) -> None:
    eight = quantized(colors()[..., : 3 if photometric == 2 else 1], 8)
    tags = {262: ("H", [photometric]), 284: ("H", [planar])}
    if extra is not None:
        eight = np.dstack([eight, np.linspace(0, 255, eight[..., 0].size).astype(np.uint8).reshape(eight.shape[:2])])
        tags[338] = ("H", [extra])
    files = [tiff(eight, 8, tags), tiff(eight.astype(np.uint16) * 257, 16, tags, order="MM")]
    if photometric == 0 and extra == 1:
        for file in files:
            with pytest.raises(ImageError, match="WhiteIsZero with associated transparency is not read"):
                read_image(file)
        return
    one, other = map(read_image, files)
    assert np.abs(one.astype(int) - other).max() <= (1 if extra == 1 else 0)
    assert [probe_image(file).alpha for file in files] == [extra in (1, 2)] * 2


@pytest.mark.parametrize(
    ("bits", "tags", "sentence"),
    [
        (32, RGB | {339: ("H", [3] * 3)}, "TIFF of 32-bit floating point numbers is not read; save it as grey or RGB"),
        (16, RGB | {339: ("H", [2] * 3)}, "TIFF of 16-bit signed integers is not read"),
        (32, RGB, "TIFF of 32-bit integers is not read"),
        (8, {262: ("H", [8])}, "TIFF of photometric interpretation CIELab is not read"),
        (8, {262: ("H", [32803])}, r"raw camera data \(CFA\) is not read"),
        (8, RGB | {259: ("H", [34712])}, "TIFF compressed with JPEG 2000 is not read"),
        (8, RGB | {259: ("H", [12345])}, "TIFF compressed with number 12345 is not read"),
        (8, RGB | {258: ("H", [8, 8, 16])}, r"channels of different depths \(8, 8, 16 bits\)"),
    ],
)
def test_a_whole_tiff_that_is_not_read_is_named_and_not_called_damaged(bits: int, tags: dict, sentence: str) -> None:
    file = tiff(quantized(colors(), bits), bits, tags)
    for read in (probe_image, read_image):
        with pytest.raises(ImageError, match=sentence) as refused:
            read(file)
        assert "corrupt" not in str(refused.value)


def test_a_tiff_cut_short_is_called_damaged() -> None:
    whole = tiff(quantized(colors(), 16), 16, RGB)
    start = int.from_bytes(whole[4:8], "little")
    with pytest.raises(ImageError, match="truncated or corrupt"):
        read_image(whole[: start + 30])
    cut = struct.pack("<I", len(whole) - 999).join([whole[:4], whole[8:]])
    with pytest.raises(ImageError, match="truncated or corrupt"):
        read_image(cut)


def test_a_damaged_layout_is_a_picture_of_its_size_or_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(0)
    layouts = [*tiff_layouts(every=601), *WRITERS["PNG"](), *WRITERS["BMP"]()]
    for _ in range(1500):
        content = bytearray(dice.choice(layouts).content)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(min(len(content), 300)) * dice.choice([1, -1])
            content[at] = dice.choice([0, 1, 127, 255, dice.randrange(256)])
        try:
            info, rgb = probe_image(bytes(content)), read_image(bytes(content), max_pixels=1_000_000)
            assert rgb.shape == (info.height, info.width, 3)
        except ImageError as error:
            assert len(str(error)) < 1000 and "\n" not in str(error)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("tag", [256, 257, 277])
def test_a_size_that_the_pixels_do_not_fill_is_an_error_and_never_a_picture(tag: int) -> None:
    for size in ("classic", "BigTIFF"):
        with pytest.raises(ImageError):
            read_image(tiff(quantized(colors(), 8), 8, RGB | {tag: ("H", [200])}, size=size))


def test_the_first_full_picture_is_read_and_further_ones_are_told() -> None:
    eight = quantized(colors(), 8)
    small = {254: ("I", [1]), 256: ("I", [8]), 257: ("I", [8])}
    thumbnail_first = tiff(eight, 8, RGB, pages_before=(small,))
    assert np.array_equal(read_image(thumbnail_first), eight) and not probe_image(thumbnail_first).more_frames
    two_pages = tiff(eight, 8, RGB, pages_before=({256: ("I", [8])},))
    assert read_image(two_pages).shape[1] == 8 and probe_image(two_pages).more_frames


@pytest.mark.parametrize("format_name", ["PNG", "WEBP"])
def test_an_animation_gives_its_first_frame_and_says_so(format_name: str) -> None:
    first, buffer = Image.fromarray(quantized(colors(), 8)), io.BytesIO()
    first.save(buffer, format_name, save_all=True, append_images=[first.rotate(180)], lossless=True)
    assert np.array_equal(read_image(buffer.getvalue()), np.asarray(first))
    assert probe_image(buffer.getvalue()).more_frames
    still = io.BytesIO()
    first.save(still, format_name)
    assert not probe_image(still.getvalue()).more_frames


def test_a_picture_below_its_thumbnail_is_found() -> None:
    eight = quantized(colors(), 8)
    whole = tiff(eight, 8, RGB)
    picture = int.from_bytes(whole[4:8], "little")
    entries = [(254, 4, 1, 1), (256, 4, 1, 4), (257, 4, 1, 4), (330, 4, 1, picture)]
    thumbnail = struct.pack("<H", 4) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    file = whole[:4] + struct.pack("<I", len(whole)) + whole[8:] + thumbnail
    assert np.array_equal(read_image(file), eight)


def test_values_of_a_sensor_in_16_bits_are_refused_and_dark_pictures_are_not() -> None:
    twelve = quantized(colors(), 12).astype(np.uint16)
    for file in (tiff(twelve, 16, RGB), png("RGB", twelve, 16, [])):
        with pytest.raises(ImageError, match="brightest 16-bit value is 4095 of 65535, as when 12-bit values"):
            read_image(file)
    check_full_range(np.array([0, 257, 5 * 257], np.uint16))  # a dark picture of 8 bits
    check_full_range(np.zeros(3, np.uint16))
    check_full_range(np.array([16383], np.uint16))
    with pytest.raises(ImageError, match="14-bit values"):
        check_full_range(np.array([16380], np.uint16), 14)
    real = tiff(quantized(colors(), 12), 12, RGB)  # a file that says that it has 12 bits
    assert np.abs(read_image(real).astype(int) - seen(colors())).max() <= 1


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"GIF89a", "GIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x20ftypisom\0\0\0\0isommp41", "MP4 or QuickTime video"),
        (b"\xff\x0a\x10\x20", "JPEG XL"),
        (b"  <!DOCTYPE html>", "HTML page"),
        (b"RIFF\0\0\0\0WAVEfmt ", "WAV sound"),
    ],
)
def test_a_foreign_format_is_refused_by_its_name_whatever_the_file_is_called(
    head: bytes, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(head + bytes(100))
    with pytest.raises(ImageError, match=f"photo.jpg: its format is {name}, which is not read; convert it to JPEG"):
        read_image(path)
    assert unread_format(b"RIFF\0\0\0\0WEBPVP8L") is None and unread_format(b"\xff\xd8\xff\xe0") is None


def test_a_long_text_or_profile_in_a_png_does_not_hide_the_picture() -> None:
    eight = quantized(colors(), 8)
    text = (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(bytes(2_000_000)))
    broken = (b"iCCP", b"scanner\0\0" + zlib.compress(bytes(1_500_000)))
    for chunks in ([text], [broken], [text, broken]):
        assert np.array_equal(read_image(png("RGB", eight, 8, chunks)), eight)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_an_orientation_in_a_text_of_a_png_is_applied(kind: bytes) -> None:
    eight = quantized(colors(), 8)
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0" + bytes(4)
    hexed = f"\nexif\n  {len(exif)}\n{exif.hex()}\n".encode()
    for keyword, text in ((b"XML:com.adobe.xmp", b'<x tiff:Orientation="6"/>'), (b"Raw profile type exif", hexed)):
        start = {b"tEXt": b"", b"zTXt": b"\0", b"iTXt": b"\1\0\0\0"}[kind]
        content = keyword + b"\0" + start + (text if kind == b"tEXt" else zlib.compress(text))
        assert np.array_equal(read_image(png("RGB", eight, 8, [(kind, content)])), np.rot90(eight, -1))


def test_a_grey_picture_with_alpha_goes_through_its_profile_as_without() -> None:
    grey = quantized(colors()[..., :1], 8)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 256)  # linear light
    tags = [(b"desc", b"desc\0\0\0\0" + struct.pack(">I", 2) + b"g\0" + bytes(78)), (b"kTRC", curve + bytes(2)),
            (b"wtpt", b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061))]  # fmt: skip
    table, content = b"", b""
    for name, body in tags:
        table += name + struct.pack(">II", 132 + 36 + len(content), len(body))
        content += body
    head = struct.pack(">I4sI4s4s4s", 168 + len(content), b"lcms", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    profile = (b"iCCP", b"g\0\0" + zlib.compress(head.ljust(128, b"\0") + struct.pack(">I", 3) + table + content))
    plain = read_image(png("grey", grey, 8, [profile]))
    assert plain.mean() > grey.mean() + 20
    for bits, factor in ((8, 1), (16, 257)):
        deep = grey.astype(np.uint8 if bits == 8 else np.uint16) * factor
        opaque = np.full_like(deep, 255 * factor)
        both = read_image(png("grey + alpha", np.dstack([deep, opaque]), bits, [profile]))
        assert np.array_equal(both, plain)
        assert decode_image(png("grey + alpha", np.dstack([deep, opaque]), bits, [profile])).grey

"""What a file says about its picture is still said, and still true, of the enlarged one."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from degrade.images.codec import read_image
from upsample.model import ResidualShiftUpsampler
from upsample.upscaling.metadata import Metadata, read_metadata, srgb_profile, with_metadata
from upsample.upscaling.pictures import Picture, encode_picture, read_picture
from upsample.upscaling.plan import plan_upscaling
from upsample.upscaling.upscale import UpscaleSettings, upscale_files

ORIENTATION, DATE, CAMERA, ARTIST, XRES = 0x0112, 0x0132, 0x010F, 0x013B, 0x011A
TAKEN, MAKER_NOTE, COLOR_SPACE, WIDTH, HEIGHT, SUBJECT = 0x9003, 0x927C, 0xA001, 0xA002, 0xA003, 0x9214
EXIF, GPS, LATITUDE = 0x8769, 0x8825, 2
EXTS = ("png", "jpg", "webp")

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description tiff:Orientation="6" exif:PixelXDimension="20" GPano:FullPanoWidthPixels = "48">'
    b"<tiff:ImageLength>24</tiff:ImageLength><xmp:Thumbnails>AAAA</xmp:Thumbnails><dc:title>Caf\xc3\xa9</dc:title>"
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def exif_of_a_camera() -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION], exif[DATE], exif[CAMERA] = 6, "2020:01:02 03:04:05", "TestCam"
    camera = exif.get_ifd(EXIF)
    camera |= {TAKEN: "2020:01:02 03:04:05", WIDTH: 24, HEIGHT: 20, SUBJECT: (10, 12)}
    camera[MAKER_NOTE] = b"private" * 20
    camera[0x829D] = IFDRational(28, 10)  # aperture
    exif.get_ifd(GPS)[LATITUDE] = (52.0, 31.0, 12.5)
    return exif


def saved(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


@pytest.fixture
def photo(photographs) -> Image.Image:
    return Image.fromarray(photographs["coffee"][100:120, 100:124])


@pytest.fixture
def made(tmp_path: Path):
    """Upscale one encoded image with an untrained upsampler; give the encoded result and what was told."""
    bicubic = ResidualShiftUpsampler(widths=(8, 8, 8), blocks=1, embedding_dim=8).eval()

    def make(data: bytes, ext: str, name: str = "a.jpg", **settings: object) -> tuple[bytes, list[str]]:
        (tmp_path / name).write_bytes(data)
        notes: list[str] = []
        plan = plan_upscaling(tmp_path / name, tmp_path / f"out.{ext}", overwrite=True)
        summary = upscale_files(plan, bicubic, UpscaleSettings(**settings), on_note=notes.append)
        assert summary["failures"] == []
        return (tmp_path / f"out.{ext}").read_bytes(), notes

    return make


@pytest.mark.parametrize("ext", EXTS)
def test_date_camera_place_and_resolution_stay_and_what_counts_pixels_is_corrected(made, photo, ext) -> None:
    data = saved(photo, "JPEG", quality=95, exif=exif_of_a_camera().tobytes(), dpi=(300, 200), xmp=XMP)
    result, notes = made(data, ext)
    image = Image.open(io.BytesIO(result))
    exif = image.getexif()
    assert image.size == (80, 96) and notes == []  # turned upright
    assert exif[ORIENTATION] == 1 and exif[DATE] == "2020:01:02 03:04:05" and exif[CAMERA] == "TestCam"
    camera = exif.get_ifd(EXIF)
    assert camera[TAKEN] == "2020:01:02 03:04:05" and camera[0x829D] == 2.8
    assert (camera[WIDTH], camera[HEIGHT]) == (80, 96) and not {MAKER_NOTE, SUBJECT} & set(camera)
    assert exif.get_ifd(GPS)[LATITUDE] == (52.0, 31.0, 12.5)
    dpi = image.info["dpi"] if ext != "webp" else (exif[XRES], exif[XRES + 1])
    assert dpi == pytest.approx((300, 200), abs=0.02)
    xmp = image.info["xmp"]
    assert b'tiff:Orientation="1"' in xmp and b'PixelXDimension="80"' in xmp and b"<tiff:ImageLength>96<" in xmp
    assert b"Caf\xc3\xa9" in xmp and b"Thumbnails" not in xmp and b'FullPanoWidthPixels = "192"' in xmp
    assert np.array_equal(read_image(result), read_image(made(data, ext, keep_metadata=False)[0]))


@pytest.mark.parametrize("ext", EXTS)
def test_stripped_outputs_say_nothing(made, photo, ext) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(photo, "JPEG", exif=exif_of_a_camera().tobytes(), dpi=(300, 300), xmp=XMP, icc_profile=profile)
    image = Image.open(io.BytesIO(made(data, ext, keep_metadata=False)[0]))
    assert not dict(image.getexif()) and not {"xmp", "icc_profile", "exif", "srgb"} & set(image.info)
    assert round(image.info.get("dpi", (1, 1))[0]) in (0, 1)


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "TIFF"])
def test_every_container_is_read(made, photo, format_name) -> None:
    options = {"exif": exif_of_a_camera().tobytes()} | ({} if format_name == "WEBP" else {"dpi": (300, 300)})
    options |= {"xmp": XMP} if format_name == "WEBP" else {}
    if format_name == "TIFF":
        exif = exif_of_a_camera()
        exif[0x02BC] = XMP
        options["exif"] = exif.tobytes()
    result, notes = made(saved(photo, format_name, **options), "png", "a.tif" if format_name == "TIFF" else "a.png")
    image = Image.open(io.BytesIO(result))
    assert notes == [] and image.size == (80, 96) and image.getexif()[CAMERA] == "TestCam"
    assert image.getexif()[ORIENTATION] == 1 and image.getexif().get_ifd(EXIF)[0x829D] == 2.8
    assert not {0x0100, 0x0101, 0x0111, 0x0117} & set(image.getexif())  # sizes and places of a TIFF's pixels
    if format_name != "WEBP":
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.02)
    if format_name != "PNG":
        assert b'tiff:Orientation="1"' in image.info["xmp"]


def test_packed_xmp_and_exif_after_the_pixels_of_a_png_are_read(photo) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    data = saved(photo, "PNG")
    text = b"XML:com.adobe.xmp\0\1\0en\0\0" + zlib.compress(XMP)
    exif = exif_of_a_camera().tobytes().removeprefix(b"Exif\0\0")
    found, notes = read_metadata(data[:-12] + chunk(b"iTXt", text) + chunk(b"eXIf", exif) + data[-12:])
    assert found == Metadata(exif, XMP, None, False) and notes == []
    bomb = b"XML:com.adobe.xmp\0\1\0en\0\0" + zlib.compress(bytes(30_000_000))
    assert "left out" in read_metadata(data[:-12] + chunk(b"iTXt", bomb) + data[-12:])[1][0]


def test_text_in_any_encoding_survives(made, photo) -> None:
    author = "Zoë Ångström".encode()
    values = author + b"\0"
    exif = struct.pack("<2sHIH", b"II", 42, 8, 1) + struct.pack("<HHII", ARTIST, 2, len(values), 26) + bytes(4) + values
    result, _ = made(saved(photo, "JPEG", exif=b"Exif\0\0" + exif), "jpg")
    assert author + b"\0" in result


def wide_profile() -> bytes:
    """A profile with other colours than sRGB: its gamma is 1."""
    numbers = {b"rXYZ": (0.436, 0.222, 0.014), b"gXYZ": (0.385, 0.717, 0.097), b"bXYZ": (0.143, 0.061, 0.714)}
    tags = {
        name: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in xyz)) for name, xyz in numbers.items()
    }
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    tags |= {name: b"curv\0\0\0\0\0\0\0\0" for name in (b"rTRC", b"gTRC", b"bTRC")}
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 7) + b"linear\0" + bytes(4 + 4 + 2 + 1 + 67)
    table, body, at = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("ext", EXTS)
def test_colours_are_converted_and_marked_as_what_they_are(made, photo, ext) -> None:
    exif = Image.Exif()
    exif.get_ifd(EXIF)[COLOR_SPACE] = 65535
    data = saved(photo, "PNG", icc_profile=wide_profile(), exif=exif.tobytes())
    assert np.abs(read_image(data).astype(int) - np.asarray(photo)).mean() > 20  # the profile matters
    result, _ = made(data, ext, "a.png", outscale=1)
    image = Image.open(io.BytesIO(result))
    shown = np.asarray(
        ImageCms.profileToProfile(image, io.BytesIO(image.info["icc_profile"]), ImageCms.createProfile("sRGB"))
        if "icc_profile" in image.info
        else image
    ).astype(int)
    assert ("srgb" if ext == "png" else "icc_profile") in image.info
    assert np.abs(shown - read_image(data)).mean() < 4 and np.abs(shown - np.asarray(photo)).mean() > 15
    assert image.getexif().get_ifd(EXIF)[COLOR_SPACE] == 1


def test_a_grey_picture_gets_no_profile_of_colours(made, photo) -> None:
    data = saved(photo.convert("L"), "JPEG", icc_profile=srgb_profile())
    image = Image.open(io.BytesIO(made(data, "jpg")[0]))
    assert image.mode == "L" and "icc_profile" not in image.info


def test_a_picture_without_metadata_gets_none(made, photo) -> None:
    for ext in EXTS:
        result, notes = made(saved(photo, "PNG"), ext, "a.png")
        assert notes == [] and result == made(saved(photo, "PNG"), ext, "a.png", keep_metadata=False)[0]


@pytest.mark.parametrize(
    ("exif", "reason"), [(b"Exif\0\0rubbish!", "does not begin as"), (b"Exif\0\0MM\0*\0\0\0\x99", None)]
)
def test_damaged_exif_is_told_and_costs_no_picture(made, photo, exif, reason) -> None:
    result, notes = made(saved(photo, "JPEG", exif=exif), "jpg")
    assert read_image(result).shape == (80, 96, 3)
    assert len(notes) == (reason is not None) and all(
        reason in note and note.startswith("a.jpg: its EXIF") for note in notes
    )


@pytest.mark.parametrize("word", [b"Container:Directory", b"hdrgm:Version"])
def test_xmp_about_pictures_that_are_not_there_is_left_out(made, photo, word) -> None:
    result, notes = made(saved(photo, "JPEG", xmp=XMP.replace(b"dc:title", word)), "jpg")
    assert "xmp" not in Image.open(io.BytesIO(result)).info
    assert len(notes) == 1 and "a.jpg: its XMP data are left out" in notes[0]


def test_what_a_jpeg_cannot_hold_is_told(made, photo) -> None:
    exif = exif_of_a_camera()
    exif[ARTIST] = "A" * 70_000
    result, notes = made(saved(photo, "PNG", exif=exif.tobytes()), "jpg", "a.png")
    assert not dict(Image.open(io.BytesIO(result)).getexif())
    assert len(notes) == 1 and "more than a JPEG holds" in notes[0]
    assert Image.open(io.BytesIO(made(saved(photo, "PNG", exif=exif.tobytes()), "png", "a.png")[0])).getexif()[ARTIST]


def test_transparency_survives_beside_metadata_in_a_webp(made, photo) -> None:
    clear = photo.convert("RGBA")
    clear.putalpha(100)
    result, _ = made(saved(clear, "PNG", exif=exif_of_a_camera().tobytes()), "webp", "a.png")
    image = Image.open(io.BytesIO(result))
    assert image.mode == "RGBA" and image.getpixel((5, 5))[3] == 100 and image.getexif()[CAMERA] == "TestCam"
    assert read_picture(result).alpha is not None


def test_outputs_do_not_depend_on_the_clock() -> None:
    assert srgb_profile()[24:36] == struct.pack(">6H", 2000, 1, 1, 0, 0, 0)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_hostile_files_raise_nothing(photo, format_name) -> None:
    options = {"exif": exif_of_a_camera().tobytes(), "xmp": XMP} if format_name in ("JPEG", "PNG", "WEBP") else {}
    data = saved(photo, format_name, **options)
    rng = random.Random(0)
    encoded = encode_picture(Picture(read_picture(data).color), "jpg")
    for _ in range(150):
        broken = bytearray(data[: rng.randrange(8, len(data) + 1)])
        for _ in range(rng.randrange(4)):
            broken[rng.randrange(8, min(len(broken), 600) + 1) - 1] = rng.randrange(256)
        metadata, _ = read_metadata(bytes(broken))
        with_metadata(encoded, "jpg", metadata, (80, 96), (20, 24), grey=False)

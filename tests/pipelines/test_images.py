"""PIL images go into both pipelines by the rules of `upsample run`."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from degrade.images.codec import read_image
from pipelines.images import to_tensor
from pipelines.pipeline_degrade import DegradePipeline
from pipelines.pipeline_upsample import UpsamplePipeline


@pytest.fixture
def photo(photographs) -> np.ndarray:
    return photographs["coffee"][100:132, 100:140]


def opened(image: Image.Image, format_name: str = "PNG", **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return Image.open(buffer)


def as_read(image: Image.Image, model: torch.nn.Module) -> np.ndarray:
    return (to_tensor(image, model)[0].permute(1, 2, 0) * 255).numpy()


def test_sixteen_bits_of_grey_are_kept(tiny_upsampler) -> None:
    grey = np.linspace(20_000, 24_000, 32 * 40).astype(np.uint16).reshape(32, 40)
    for image in (Image.fromarray(grey), opened(Image.fromarray(grey)), Image.fromarray(grey.astype(np.int32))):
        read = to_tensor(image, tiny_upsampler)
        assert read.shape == (1, 3, 32, 40)
        assert np.allclose(read[0, 1].numpy(), grey / 65535, atol=1e-6)


def test_the_grey_that_stands_for_nothing_becomes_white(tiny_upsampler) -> None:
    grey = np.full((8, 8), 5000, np.uint16)
    grey[:4] = 40_000
    read = as_read(opened(Image.fromarray(grey), transparency=5000), tiny_upsampler)
    assert (read[4:] == 255).all() and np.allclose(read[:4], 40_000 / 257, atol=0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_images_stand_upright_as_files_do(tiny_upsampler, photo, orientation, format_name) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format_name, exif=exif.tobytes())
    assert np.allclose(as_read(Image.open(buffer), tiny_upsampler), read_image(buffer.getvalue()), atol=1e-3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_images_are_laid_on_white(tiny_upsampler, photo, mode) -> None:
    image = Image.fromarray(photo).convert(mode)
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 40).astype(np.uint8), (32, 1))))
    rgb = np.asarray(image.convert("RGB")).astype(float)
    alpha = np.asarray(image.getchannel("A"))[..., None] / 255
    assert np.abs(as_read(image, tiny_upsampler) - (rgb * alpha + 255 * (1 - alpha))).max() < 0.01


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV"])
def test_other_modes_look_as_pillow_shows_them(tiny_upsampler, photo, mode) -> None:
    image = Image.fromarray(photo).convert(mode)
    assert np.allclose(as_read(image, tiny_upsampler), np.asarray(image.convert("RGB")), atol=1e-3)


def test_colours_go_through_the_profile(tiny_upsampler, photo, monkeypatch) -> None:
    seen = []

    def convert(image: Image.Image, profile: bytes) -> Image.Image:
        seen.append(profile)
        return Image.eval(image, lambda level: 255 - level)

    monkeypatch.setattr("degrade.images.codec.through_profile", convert)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    read = as_read(opened(Image.fromarray(photo), icc_profile=profile), tiny_upsampler)
    assert seen == [profile] and np.allclose(read, 255.0 - photo, atol=1e-3)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (Image.new("F", (8, 8)), "images of mode F are not supported; convert it to RGB"),
        (Image.fromarray(np.full((8, 8), 70_000, np.int32)), "70000..70000 do not fit in 16 bits"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (9, 8))], r"differ in size \(8x8, 9x8\); pass them one by one"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_way_out(tiny_upsampler, image, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        to_tensor(image, tiny_upsampler)


def test_a_cut_off_file_is_told(tiny_upsampler, photo) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    image = Image.open(io.BytesIO(buffer.getvalue()[:900]))
    with pytest.raises(ValueError, match="image is damaged"):
        to_tensor(image, tiny_upsampler)


def test_both_pipelines_read_them_so(tiny_upsampler, tiny_degrader, photo) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = opened(Image.fromarray(photo), exif=exif.tobytes())
    assert UpsamplePipeline(tiny_upsampler)(turned).images[0].size == (128, 160)
    assert DegradePipeline(tiny_degrader)(turned).images[0].size == (8, 10)
    reference = torch.zeros(1, 3, 32, 32)
    for look in (Image.fromarray(np.zeros((32, 32), np.uint16)), reference):
        assert DegradePipeline(tiny_degrader)(turned, reference=look).images[0].size == (8, 10)

import sys

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from degrade.ops.compress import jpeg, jpeg_differentiable, quantise, webp


@pytest.fixture(scope="module")
def photo():
    return torch.from_numpy(data.astronaut()[100:164, 180:250].copy()).permute(2, 0, 1)[None].float() / 255


def codec_bytes(photo, ext, options):
    bgr = (photo[0] * 255).round().byte().permute(1, 2, 0).numpy()[..., ::-1]
    encoded = cv2.imencode(ext, np.ascontiguousarray(bgr), options)[1]
    return torch.from_numpy(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1].copy()).permute(2, 0, 1)


def levels(images):
    return (images * 255).round().byte()


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean()))


def test_jpeg_is_the_round_trip_of_libjpeg(photo):
    decoded = jpeg(photo, [40])
    assert torch.equal(levels(decoded)[0], codec_bytes(photo, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 40]))


def test_webp_is_the_round_trip_of_libwebp(photo):
    decoded = webp(photo, [40])
    assert torch.equal(levels(decoded)[0], codec_bytes(photo, ".webp", [cv2.IMWRITE_WEBP_QUALITY, 40]))


@pytest.mark.parametrize("codec", [jpeg, webp])
def test_every_sample_has_its_own_quality(photo, codec):
    batch = codec(photo.repeat(2, 1, 1, 1), [10, 95])
    assert torch.equal(batch[:1], codec(photo, [10]))
    assert psnr(batch[0], photo[0]) + 5 < psnr(batch[1], photo[0])


@pytest.mark.parametrize("codec", [lambda x: jpeg(x, [30]), lambda x: webp(x, [30]), quantise])
def test_gradient_passes_straight_through(photo, codec):
    images = photo.clone().requires_grad_()
    weight = torch.rand_like(images)
    (codec(images) * weight).sum().backward()
    assert torch.equal(images.grad, weight)


def test_jpeg_chroma_formats_differ_in_colour_only(photo):
    coarse, full = (jpeg(photo, [95], chroma)[0] for chroma in ("4:1:1", "4:4:4"))
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    assert psnr(full, photo[0]) > psnr(coarse, photo[0]) + 2
    assert psnr((luma * full).sum(0), (luma * coarse).sum(0)) > psnr(full, coarse) + 2


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_differentiable_jpeg_agrees_with_libjpeg(photo, quality):
    assert psnr(jpeg_differentiable(photo, [quality]), jpeg(photo, [quality])) > 33


def test_without_kornia_its_codec_is_one_sentence_with_the_way_out(photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia.enhance", None)
    with pytest.raises(ValueError, match=r"needs kornia; pip install 'realistic-degrader\[kornia\]', or use"):
        jpeg_differentiable(photo, [50])


def test_differentiable_jpeg_has_a_gradient_in_image_and_quality(photo):
    images, quality = photo.clone().requires_grad_(), torch.tensor([50.0], requires_grad=True)
    (jpeg_differentiable(images, quality) - photo).square().sum().backward()
    assert images.grad.isfinite().all()
    assert images.grad.abs().sum() > 0
    assert quality.grad.abs() > 0


def test_quantise_rounds_to_8_bits_and_clips():
    values = torch.tensor([-0.2, 0.0, 0.1, 0.5, 1.7])
    assert torch.equal(quantise(values) * 255, torch.tensor([0.0, 0.0, 26.0, 128.0, 255.0]))


def test_errors_say_the_way_out(photo):
    with pytest.raises(ValueError, match=r"JPEG quality 0 is outside 1\.\.100"):
        jpeg(photo, [0])
    with pytest.raises(ValueError, match="2 qualities for 1 images; pass one WebP quality per sample"):
        webp(photo, [30, 40])

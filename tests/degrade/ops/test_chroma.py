import functools

import pytest
import torch
from skimage import data

from degrade.ops.chroma import subsample_chroma


@pytest.fixture(scope="module")
def photo():
    return torch.from_numpy(data.astronaut()[100:164, 180:250].copy()).permute(2, 0, 1)[None].float() / 255


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean()))


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
def test_chroma_subsampling_keeps_luma_and_grey(photo, chroma):
    odd = photo[..., :63, :61]
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    assert torch.allclose((luma * subsample_chroma(odd, chroma)).sum(1), (luma * odd).sum(1), atol=1e-5)
    grey = odd.mean(1, keepdim=True).repeat(1, 3, 1, 1)
    assert torch.allclose(subsample_chroma(grey, chroma), grey, atol=1e-5)


def test_chroma_subsampling_loses_more_colour_the_larger_its_blocks(photo):
    losses = [psnr(subsample_chroma(photo, chroma), photo) for chroma in ("4:2:2", "4:2:0")]
    assert losses[0] > losses[1]
    assert torch.allclose(subsample_chroma(photo, "4:4:4"), photo, atol=1e-5)


def test_gradient_of_chroma_subsampling_is_right():
    images = torch.rand(1, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(subsample_chroma, (images,))


SITINGS, KERNELS = ["centre", "left"], ["bilinear", "box"]


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("siting", SITINGS)
@pytest.mark.parametrize("enlarge", KERNELS)
@pytest.mark.parametrize("chroma", ["4:2:2", "4:2:0", "4:1:1"])
def test_every_matrix_keeps_its_luma_and_flat_colours(photo, chroma, enlarge, siting, matrix):
    weights = {"bt601": (0.299, 0.587, 0.114), "bt709": (0.2126, 0.7152, 0.0722), "bt2020": (0.2627, 0.678, 0.0593)}
    luma = torch.tensor(weights[matrix])[:, None, None]
    odd = photo[..., :63, :61]
    options = {"chroma": chroma, "matrix": matrix, "siting": siting, "enlarge": enlarge}
    made = subsample_chroma(odd, **options)
    assert made.shape == odd.shape and psnr(made, odd) < 45
    assert torch.allclose((luma * made).sum(1), (luma * odd).sum(1), atol=1e-5)
    flat = torch.tensor([0.8, 0.3, 0.1])[None, :, None, None].expand(1, 3, 7, 9)
    assert torch.allclose(
        subsample_chroma(flat, chroma, matrix=matrix, siting=siting, enlarge=enlarge), flat, atol=1e-5
    )


@pytest.mark.parametrize("siting", SITINGS)
@pytest.mark.parametrize("chroma", ["4:2:2", "4:1:1"])
def test_interpolated_colour_stays_in_place_for_every_siting(siting, chroma):
    ramp = torch.linspace(0.2, 0.8, 48, dtype=torch.float64).expand(4, 48)
    image = torch.stack([ramp, torch.full_like(ramp, 0.5), 1 - ramp])[None]
    made = subsample_chroma(image, chroma, siting=siting)
    assert torch.allclose(made[..., 8:-8], image[..., 8:-8])


def test_box_repeats_chroma_and_left_siting_samples_with_1_2_1():
    blue = torch.zeros(1, 3, 2, 12, dtype=torch.float64)
    blue[:, 2, :, 6] = 1
    repeated = subsample_chroma(blue, "4:2:2", enlarge="box")
    colour = repeated[:, 2] - repeated[:, 1]  # luma, which is not subsampled, has no part in the difference
    assert torch.allclose(colour[0, 0, 6:8], torch.full((2,), 0.5, dtype=torch.float64))
    assert torch.allclose(colour[0, 0, 4:6], torch.zeros(2, dtype=torch.float64), atol=1e-12)
    left = subsample_chroma(blue, "4:2:2", siting="left")
    colour = left[:, 2] - left[:, 1]
    assert torch.allclose(colour[0, 0, 4:9], torch.tensor([0, 0.25, 0.5, 0.25, 0], dtype=torch.float64), atol=1e-12)
    off_grid = subsample_chroma(blue.roll(1, -1), "4:2:2", siting="left")
    colour = off_grid[:, 2] - off_grid[:, 1]
    assert torch.allclose(colour[0, 0, 6:9], torch.full((3,), 0.25, dtype=torch.float64))


def test_gradient_with_every_option_is_right():
    images = torch.rand(1, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    for siting in SITINGS:
        for enlarge in KERNELS:
            call = functools.partial(subsample_chroma, chroma="4:1:1", siting=siting, enlarge=enlarge, matrix="bt709")
            assert torch.autograd.gradcheck(call, (images,))

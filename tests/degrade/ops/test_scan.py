import math

import pytest
import torch

from degrade.ops.scan import interlace, scan_lines


@pytest.fixture
def image():
    return torch.rand(1, 3, 13, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_odd_field_moves_and_the_even_one_stays(image):
    combed = interlace(image, torch.tensor([3.0]))
    assert torch.equal(combed[..., 0::2, :], image[..., 0::2, :])
    assert torch.equal(combed[..., 1::2, 3:], image[..., 1::2, :-3])
    assert torch.equal(combed[..., 1::2, :3], image[..., 1::2, :1].expand(-1, -1, -1, 3))
    back = interlace(image, torch.tensor([-2.0]))
    assert torch.equal(back[..., 1::2, :-2], image[..., 1::2, 2:])


def test_half_a_pixel_is_the_mean_of_two(image):
    combed = interlace(image, torch.tensor([0.5]))
    assert torch.allclose(combed[..., 1::2, 1:], (image[..., 1::2, 1:] + image[..., 1::2, :-1]) / 2)


def test_flat_rows_and_one_row_have_no_comb(image):
    flat = image.mean(-1, keepdim=True).expand_as(image)
    assert torch.allclose(interlace(flat, torch.tensor([5.0])), flat)
    assert torch.equal(interlace(image[..., :1, :], torch.tensor([5.0])), image[..., :1, :])


def test_scan_lines_darken_the_middle_of_gaps_by_their_strength(image):
    lines = scan_lines(image, torch.tensor([4.0]), torch.tensor([0.6]))
    assert torch.allclose(lines[..., 0::4, :], image[..., 0::4, :])
    assert torch.allclose(lines[..., 2::4, :], 0.4 * image[..., 2::4, :])
    assert torch.equal(scan_lines(image, torch.tensor([4.0]), torch.tensor([0.0])), image)


@pytest.mark.parametrize("period_px", [2.0, 3.0, 2.5])
def test_scan_lines_lose_half_their_strength_on_average(period_px):
    white = torch.ones(1, 3, 60, 8)
    lines = scan_lines(white, torch.tensor([period_px]), torch.tensor([0.5]))
    assert float(lines.mean()) == pytest.approx(0.75, abs=0.01)
    rows = lines[0, 0, :, 0] - lines[0, 0, :, 0].mean()
    strongest = int(torch.fft.rfft(rows).abs().argmax())
    assert strongest / 60 == pytest.approx(1 / period_px)


def test_samples_have_their_own_numbers(image):
    batch = image.repeat(2, 1, 1, 1)
    assert torch.equal(interlace(batch, torch.tensor([1.0, 4.0]))[1:], interlace(image, torch.tensor([4.0])))
    lines = scan_lines(batch, torch.tensor([2.0, 3.0]), torch.tensor([0.2, 0.9]))
    assert torch.equal(lines[1:], scan_lines(image, torch.tensor([3.0]), torch.tensor([0.9])))


def test_gradients_are_right():
    images = torch.rand(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: interlace(x, torch.tensor([1.3])), (images,))
    assert torch.autograd.gradcheck(lambda x: scan_lines(x, torch.tensor([math.e]), torch.tensor([0.4])), (images,))

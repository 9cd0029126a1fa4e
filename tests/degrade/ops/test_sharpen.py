import pytest
import torch

from degrade.ops.blur import unsharp_mask


def edge():
    image = torch.full((1, 3, 32, 32), 0.3, dtype=torch.float64)
    image[..., 16:] = 0.7
    return image


def sharpen(images, amount=1.0, sigma_px=2.0, threshold=None):
    threshold = None if threshold is None else torch.tensor([threshold])
    return unsharp_mask(images, torch.tensor([amount]), torch.tensor([sigma_px]), threshold)


def test_amount_zero_is_the_identity():
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(sharpen(images, amount=0.0), images)


def test_an_edge_overshoots_on_both_sides_and_flat_parts_stay():
    sharp = sharpen(edge())
    assert sharp.max() > 0.8
    assert sharp.min() < 0.2
    assert torch.allclose(sharp[..., 0], edge()[..., 0], atol=1e-5)


def test_detail_below_the_threshold_is_left_alone():
    faint = 0.5 + 0.01 * (edge() - 0.5)
    assert torch.equal(sharpen(faint, threshold=10 / 255), faint)
    assert not torch.equal(sharpen(faint), faint)
    assert sharpen(edge(), threshold=10 / 255).max() > 0.75


def test_every_sample_has_its_own_amount():
    images = edge().repeat(2, 1, 1, 1)
    sharp = unsharp_mask(images, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0]))
    assert torch.equal(sharp[0], images[0])
    assert sharp[1].max() > 0.8


@pytest.mark.parametrize("threshold", [None, 0.02])
def test_gradient_in_the_image_is_right(threshold):
    images = (0.3 + 0.4 * torch.rand(1, 1, 6, 6, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sharpen(x, sigma_px=0.6, threshold=threshold), (images,))

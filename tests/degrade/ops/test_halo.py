import pytest
import torch

from degrade.ops.blur import halo

SIGMA = torch.tensor([1.5], dtype=torch.float64)


def edge(low=0.3, high=0.7):
    """A vertical edge in the middle of 40 columns."""
    return torch.where(torch.arange(40) < 20, low, high).double().expand(1, 3, 16, 40)


def ones(value):
    return torch.tensor([value], dtype=torch.float64)


def test_an_edge_gets_a_dark_and_a_bright_line_no_stronger_than_the_limit():
    made = halo(edge(), ones(4.0), SIGMA, ones(0.1))
    assert torch.allclose(made[..., 19], torch.full_like(made[..., 19], 0.2))
    assert torch.allclose(made[..., 20], torch.full_like(made[..., 20], 0.8))
    assert torch.allclose(made[..., [0, 39]], edge()[..., [0, 39]])  # far from the edge


def test_below_the_limit_the_lines_are_the_amount_times_the_detail():
    weak, strong = (halo(edge(), ones(amount), SIGMA, ones(1.0)) - edge() for amount in (0.2, 0.4))
    assert torch.allclose(strong, 2 * weak)
    assert float(weak[..., 20].max()) == pytest.approx(0.2 * 0.147, abs=0.002)  # 0.4 (1 - Phi(0.5 / sigma))


def test_a_wider_blur_draws_wider_lines():
    widths = [
        int(((halo(edge(), ones(4.0), ones(sigma), ones(0.05)) - edge())[0, 0, 0].abs() > 0.04).sum())
        for sigma in (1.0, 3.0)
    ]
    assert widths[0] < widths[1]


def test_amount_0_and_flat_colours_change_nothing_and_all_channels_move_alike():
    colour = torch.rand(1, 3, 12, 14, dtype=torch.float64) * 0.4 + 0.3
    assert torch.allclose(halo(colour, ones(0.0), SIGMA, ones(0.2)), colour)
    flat = colour.mean((2, 3), keepdim=True).expand_as(colour)
    assert torch.allclose(halo(flat, ones(3.0), SIGMA, ones(0.2)), flat)
    change = halo(colour, ones(0.5), SIGMA, ones(0.1)) - colour
    assert torch.allclose(change[:, 0], change[:, 1]) and torch.allclose(change[:, 0], change[:, 2])


def test_the_result_stays_in_range_and_its_gradient_is_right():
    made = halo(edge(0.0, 1.0), ones(5.0), SIGMA, ones(0.3))
    assert made.min() == 0 and made.max() == 1
    images = (torch.rand(1, 3, 5, 6, dtype=torch.float64) * 0.2 + 0.4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: halo(x, ones(0.8), SIGMA, ones(0.5)), (images,))

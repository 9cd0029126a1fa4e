import pytest
import torch

from degrade.ops.resize import resize
from upsample.bicubic import enlarge

SCALES = pytest.mark.parametrize("scale", [2, 3, 4])


@SCALES
def test_a_constant_image_stays_constant_up_to_its_borders(scale) -> None:
    sr = enlarge(torch.full((2, 3, 5, 1), 0.3), scale)
    assert sr.shape == (2, 3, 5 * scale, scale)
    assert torch.allclose(sr, torch.full_like(sr, 0.3), atol=1e-6)


@SCALES
def test_a_ramp_goes_on_as_a_ramp_at_the_positions_of_the_new_pixels(scale) -> None:
    lr = torch.arange(12.0).expand(1, 3, 12, 12)
    expected = (torch.arange(12.0 * scale) + 0.5) / scale - 0.5
    inside = slice(2 * scale, -2 * scale)
    for picture in (enlarge(lr, scale), enlarge(lr.mT, scale).mT):
        assert torch.allclose(picture[..., inside], expected[inside].expand_as(picture[..., inside]), atol=1e-5)


@SCALES
def test_it_is_the_bicubic_of_pillow_and_matlab_in_the_interior(scale, normal) -> None:
    lr = normal(0, 1, 3, 20, 17)
    inside = (..., slice(2 * scale, -2 * scale), slice(2 * scale, -2 * scale))
    reference = resize(lr, (20 * scale, 17 * scale), "bicubic", antialias=True)
    assert torch.allclose(enlarge(lr, scale)[inside], reference[inside], atol=1e-5)


@SCALES
def test_channels_do_not_mix_and_precision_is_kept(scale, normal) -> None:
    lr = normal(0, 1, 3, 8, 8).double()
    together = enlarge(lr, scale)
    assert together.dtype == torch.float64
    assert torch.allclose(together, torch.cat([enlarge(lr[:, i : i + 1], scale) for i in range(3)], dim=1))

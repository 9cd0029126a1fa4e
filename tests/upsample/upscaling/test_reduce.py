"""Area reduction: means, edges and places stay, for any size and in any bands."""

import cv2
import numpy as np
import pytest
import torch

from upsample.upscaling.reduce import AreaReducer

SIZES = [((12, 20), (12, 20)), ((12, 20), (6, 5)), ((13, 20), (7, 17)), ((400, 36), (299, 11)), ((4, 4), (1, 1))]


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_it_is_the_mean_over_the_area_under_each_pixel(normal, source, target) -> None:
    image = normal(0, *source)
    rows, columns = (
        torch.tensor([[max(0.0, min(j + 1, (i + 1) * s / t) - max(j, i * s / t)) for j in range(s)] for i in range(t)])
        * t
        / s
        for s, t in zip(source, target, strict=True)
    )
    result = AreaReducer(source, target).add(image[None, None])
    assert result.shape == (1, 1, *target)
    assert torch.allclose(result[0, 0], rows @ image @ columns.T, atol=1e-5)
    assert result.mean().item() == pytest.approx(image.mean().item(), abs=1e-6)


@pytest.mark.parametrize(("source", "target"), SIZES[1:])
def test_it_agrees_with_opencv(normal, source, target) -> None:
    image = normal(0, *source, 3).sigmoid()
    expected = cv2.resize(image.numpy(), target[::-1], interpolation=cv2.INTER_AREA)
    result = AreaReducer(source, target).add(image.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    assert np.abs(result.numpy() - expected).max() < 1e-5


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_bands_give_the_bits_of_the_whole(normal, source, target) -> None:
    image = normal(0, 2, 4, *source)
    by_bands = AreaReducer(source, target)
    cuts = [0, 1, source[0] // 3, source[0] // 2, source[0]]
    parts = [by_bands.add(image[:, :, start:stop]) for start, stop in zip(cuts, cuts[1:], strict=False)]
    assert torch.equal(torch.cat(parts, dim=-2), AreaReducer(source, target).add(image))


def test_a_constant_stays_and_an_edge_does_not_overshoot() -> None:
    assert torch.allclose(AreaReducer((40, 40), (31, 17)).add(torch.full((1, 1, 40, 40), 0.3)), torch.tensor(0.3))
    edge = (torch.arange(40) >= 21).float().expand(1, 1, 40, 40)
    row = AreaReducer((40, 40), (31, 29)).add(edge)[0, 0, 5]
    assert row.min() >= 0 and row.max() <= 1 + 1e-6 and bool((row.diff() >= -1e-6).all())
    assert (1 - row).sum().item() == pytest.approx(21 * 29 / 40, abs=1e-5)  # the edge is where it was


def test_what_would_be_larger_is_refused() -> None:
    with pytest.raises(ValueError, match="4x4 cannot be reduced to 5x4"):
        AreaReducer((4, 4), (5, 4))

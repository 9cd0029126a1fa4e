import pytest
import torch

from degrade.ops.light import linear_to_srgb, srgb_to_linear


def test_srgb_curve_and_its_inverse_cancel():
    values = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert torch.allclose(srgb_to_linear(linear_to_srgb(values)), values)
    assert float(srgb_to_linear(torch.tensor(0.5, dtype=torch.float64))) == pytest.approx(0.2140, abs=1e-4)

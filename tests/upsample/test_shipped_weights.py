import pytest
import torch

from upsample.model import WEIGHTS_DIR, ResidualShiftUpsampler


@pytest.mark.parametrize("name", ResidualShiftUpsampler.shipped_names())
def test_shipped_weights_load_as_float32_whatever_they_are_stored_as(name) -> None:
    upsampler = ResidualShiftUpsampler.from_pretrained(name)
    assert {tensor.dtype for tensor in upsampler.state_dict().values()} == {torch.float32}
    half = ResidualShiftUpsampler.from_pretrained(name, torch_dtype=torch.float16)
    assert {tensor.dtype for tensor in half.state_dict().values()} == {torch.float16}  # where it is asked for


def test_all_shipped_upsamplers_together_stay_under_32_mb() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS_DIR.rglob("*.safetensors")) < 32e6

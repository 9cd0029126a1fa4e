"""bf16 is chosen where the processor has it, and a slow one is named."""

import time

import pytest
import torch
from torch.nn.functional import conv2d

from cli.common import chosen_precision
from degrade.networks.precision import has_fast_bf16


def test_the_answer_agrees_with_the_clock() -> None:
    image, weight = torch.rand(1, 32, 48, 48), torch.rand(32, 32, 3, 3)

    def seconds(dtype: torch.dtype) -> float:
        with torch.inference_mode():
            operands = image.to(dtype), weight.to(dtype)
            conv2d(*operands, padding=1)
            began = time.perf_counter()
            conv2d(*operands, padding=1)
            return time.perf_counter() - began

    ratio = min(seconds(torch.bfloat16) for _ in range(3)) / min(seconds(torch.float32) for _ in range(3))
    assert (ratio < 3) == has_fast_bf16("cpu")  # it is about 0.5 or 1 where oneDNN knows bf16, and above 10 elsewhere


@pytest.mark.parametrize(("fast", "auto", "warned"), [(True, "bf16", False), (False, "no", True)])
def test_auto_takes_what_is_fast_and_only_what_is_slow_is_warned_of(fast, auto, warned, monkeypatch, capsys) -> None:
    monkeypatch.setattr("degrade.networks.precision.has_fast_bf16", lambda device: fast)
    assert chosen_precision("auto", "cpu") == auto and chosen_precision("no", "cpu") == "no"
    assert not capsys.readouterr().err
    assert chosen_precision("bf16", "cpu", way_out="--fp32") == "bf16"
    assert (
        "many times slower than float32 on this cpu, which lacks it; use --fp32" in capsys.readouterr().err
    ) == warned

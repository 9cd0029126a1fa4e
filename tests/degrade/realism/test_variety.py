"""Spread of repeated draws of the same crops."""

import numpy as np
import pytest

from degrade.realism.variety import spread


def test_spread_of_known_noise_and_of_a_fixed_answer() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((2, 32, 32, 3), 128.0)
    draws = [(flat + rng.normal(0, 10, flat.shape)).round().astype(np.uint8) for _ in range(8)]
    high_share = np.sqrt((1 - 6 * 6 / 256) ** 2 + (70 / 256) ** 2 - (36 / 256) ** 2)  # of white noise, 5x5 binomial
    assert spread(draws) == pytest.approx(10 * high_share, rel=0.02)
    assert spread([draws[0], draws[0]]) == 0

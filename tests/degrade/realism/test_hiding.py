"""Detail of the HR that is hidden in LR."""

import numpy as np

from degrade.realism.hiding import hiding


def test_detail_hidden_in_the_last_bits_is_found_by_touching_them() -> None:
    """LR whose chroma low bits carry the sign of the HR's fine luma, as a co-trained degrader might learn to write."""
    hr = np.repeat(np.random.default_rng(0).choice([96, 160], (16, 128, 128, 1)), 3, axis=3).astype(np.uint8)
    hr[:, 0::4, 1::4] = hr[:, 0::4, 2::4] = hr[:, 0::4, 0::4]  # what one bit a pixel can tell
    honest = np.full((16, 32, 32, 3), 128, np.uint8)
    hidden = honest + (hr[:, ::4, ::4] > 128) * np.array([0, 0, 4], np.uint8)
    figures = hiding(hr, {"honest": honest, "hidden": hidden}, 4, steps=200, seed=0)
    assert figures["hiding_psnr"]["hidden"] > figures["hiding_psnr"]["honest"] + 0.2
    drops = figures["hiding_drop_jpeg_95"]  # colour at half resolution: nothing of one pixel survives
    assert drops["hidden"] > 0.1 > abs(drops["honest"])

"""The pictures of the page show the busiest and the smoothest part, at the same place of every image."""

import numpy as np

from upsample.evaluation.patches import PATCH, busy_and_smooth, cut_patches, raise_contrast


def test_the_busiest_and_the_smoothest_visible_part_are_found() -> None:
    image = np.random.default_rng(0).integers(90, 110, (288, 288, 3)).astype(np.uint8)
    image[:96, :96] = 255  # smooth, but nothing shows on white
    image[192:, :96] = 120
    image[96:192, 192:] = np.random.default_rng(1).integers(0, 256, (96, 96, 3))
    assert busy_and_smooth(image) == ((96, 192), (192, 0))
    assert busy_and_smooth(image[:64]) is None


def test_patches_show_the_same_place_at_any_scale() -> None:
    hr = np.random.default_rng(0).integers(0, 256, (192, 240, 3)).astype(np.uint8)
    for scale in (1, 2, 3, 4):
        lr = hr[::scale, ::scale]
        patches = cut_patches({"LR": lr, "HR": hr}, (72, 144), hr.shape[:2])
        assert np.array_equal(patches["LR"], patches["HR"][::scale, ::scale]) and len(patches["HR"]) == PATCH
    odd = cut_patches({"LR": hr[:100, :130]}, (96, 144), hr.shape[:2])["LR"]
    assert odd.size  # an LR whose scale is not whole is shown too


def test_contrast_is_raised_around_grey() -> None:
    patch = np.full((4, 4, 3), 60, np.uint8)
    patch[::2] += 2
    assert set(np.unique(raise_contrast(patch))) == {124, 132}

"""The comb finds faint patterns with the period of the scale, and nothing on clean images."""

import cv2
import numpy as np
import pytest

from upsample.evaluation.comb import comb, log_spectra
from upsample.evaluation.sets import cut_crops


def mean_spectrum(images):
    crops = [cut_crops({"hr": image}, scenes=len(images), seed=at)["hr"] for at, image in enumerate(images)]
    return log_spectra(np.concatenate(crops)).mean(0)


@pytest.fixture(scope="module")
def hr_spectrum(scenes):
    return mean_spectrum(scenes)


@pytest.mark.parametrize("period", [2, 3, 4])
def test_a_weave_of_one_grey_level_stands_out(scenes, weave, hr_spectrum, period) -> None:
    found = comb(mean_spectrum([weave(image, period) for image in scenes]), hr_spectrum, period)
    assert found.shape == (period**2 - 1,) and found.mean() > 0.5 and found.max() > 2


def test_a_chequer_on_smooth_parts_alone_stands_out(scenes, hr_spectrum) -> None:
    def chequer(image):
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] // 2
        smooth = cv2.blur(np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F)), (9, 9)) < 6
        return (image + (smooth * ((rows + columns) % 2 * 2 - 1))[..., None]).clip(0, 255).astype(np.uint8)

    assert comb(mean_spectrum([chequer(image) for image in scenes]), hr_spectrum, 4).mean() > 0.3


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_clean_images_have_none_whether_soft_or_sharp(scenes, hr_spectrum, sigma) -> None:
    soft = [cv2.GaussianBlur(image, (0, 0), sigma) for image in scenes]
    sharp = [cv2.addWeighted(image, 1.5, low, -0.5, 0) for image, low in zip(scenes, soft, strict=True)]
    for images in (scenes, soft, sharp):
        assert -0.2 < comb(mean_spectrum(images), hr_spectrum, 4).mean() < 0.05  # blur takes a little from HR's JPEG


def test_a_weave_of_another_period_is_no_comb(scenes, weave, hr_spectrum) -> None:
    assert comb(mean_spectrum([weave(image, 5) for image in scenes]), hr_spectrum, 4).max() < 0.1


def test_the_value_is_the_log_of_the_energy_over_that_of_the_neighbours() -> None:
    flat = np.zeros((120, 120))
    tooth = flat.copy()
    tooth[29:32, 59:62] = np.log(3)  # around (1/4, 1/2)
    found = comb(tooth, flat, 4)
    assert found[4 * 1 + 2 - 1] == pytest.approx(np.log(3)) and found.sum() == pytest.approx(np.log(3))


@pytest.mark.parametrize("period", [1, 7])
def test_a_period_that_does_not_fit_is_refused(period) -> None:
    with pytest.raises(ValueError, match=f"period {period} px does not divide crops of 120 px; use a period"):
        comb(np.zeros((120, 120)), np.zeros((120, 120)), period)

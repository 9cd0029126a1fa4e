"""Blind measurements: each answers what was put in."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from degrade.images.codec import encode_image, read_image
from degrade.realism.statistics import (
    STATISTICS,
    blockiness,
    edge_profile,
    haar_noise_sigma,
    jpeg_quality,
    lr_statistics,
    luma_chroma,
    noise_correlation,
    radial_spectrum,
    spectrum_frequencies,
    spectrum_slope,
    table_of,
)


def noise(sigma: float, side: int = 128, seed: int = 0) -> NDArray[np.float64]:
    return 128 + sigma * np.random.default_rng(seed).normal(size=(side, side))


def grey(plane: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.repeat(plane.clip(0, 255).round().astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("sigma", [2.0, 8.0, 20.0])
def test_noise_level_is_found(sigma: float) -> None:
    assert haar_noise_sigma(noise(sigma)) == pytest.approx(sigma, rel=0.06)


@pytest.mark.parametrize("quality", [30, 50, 75, 90])
def test_jpeg_quality_is_read_from_the_decoded_pixels(quality: int, photographs: dict[str, NDArray[np.uint8]]) -> None:
    crop = cv2.resize(photographs["astronaut"], (128, 128), interpolation=cv2.INTER_AREA)
    decoded = read_image(encode_image(crop, "jpg", quality))
    assert jpeg_quality(luma_chroma(decoded)[0]) == pytest.approx(quality, abs=3)


def test_an_image_that_was_no_jpeg_or_was_cropped_off_its_grid_has_quality_100(
    photographs: dict[str, NDArray[np.uint8]],
) -> None:
    crop = cv2.resize(photographs["astronaut"], (128, 128), interpolation=cv2.INTER_AREA)
    assert jpeg_quality(luma_chroma(crop)[0]) == 100
    decoded = read_image(encode_image(crop, "jpg", 40))
    assert jpeg_quality(luma_chroma(decoded[3:, 5:])[0]) == 100


def test_a_slope_is_not_noise() -> None:
    assert haar_noise_sigma(np.add.outer(np.arange(64.0), 2 * np.arange(64.0))) == pytest.approx(0, abs=1e-9)


def test_noise_is_found_on_a_photograph(photographs: dict[str, NDArray[np.uint8]]) -> None:
    luma = cv2.GaussianBlur(luma_chroma(photographs["chelsea"][:128, :128])[0], (0, 0), 1.5)
    assert haar_noise_sigma(luma + noise(6) - 128) == pytest.approx(6, rel=0.1)


def test_white_noise_has_no_correlation_and_smeared_noise_has() -> None:
    assert max(map(abs, noise_correlation(noise(10, 256)).values())) < 0.05
    sideways = noise_correlation(128 + cv2.GaussianBlur(noise(30, 256) - 128, (5, 1), 1))
    assert sideways["x"] > 0.5 and sideways["y"] < 0.1


def test_slanted_stripes_show_in_one_diagonal() -> None:
    white = noise(20, 256) - 128
    stripes = noise_correlation(128 + white + np.roll(white, (1, 1), (0, 1)))
    assert stripes["down"] > 0.3 > stripes["up"] + 0.2


@pytest.mark.parametrize("sigma_px", [1.0, 1.5, 2.0])
def test_width_of_a_blurred_step_is_the_sigma_of_the_blur(sigma_px: float) -> None:
    step = np.full((64, 64), 20.0)
    step[:, 32:] = 220
    width, ringing = edge_profile(cv2.GaussianBlur(step, (0, 0), sigma_px))
    assert width == pytest.approx(sigma_px, rel=0.04)
    assert ringing == pytest.approx(0, abs=1e-6)


def test_sharpening_shows_as_ringing() -> None:
    step = np.full((64, 64), 60.0)
    step[:, 32:] = 180
    soft = cv2.GaussianBlur(step, (0, 0), 1.0)
    halo = soft + 1.0 * (soft - cv2.GaussianBlur(soft, (0, 0), 2.0))
    assert edge_profile(halo)[1] > 0.1


def test_an_image_without_edges_has_no_width() -> None:
    assert edge_profile(np.full((32, 32), 100.0)) == (0.0, 0.0)


def test_jpeg_shows_blocks_and_more_of_them_at_lower_quality(photographs: dict[str, NDArray[np.uint8]]) -> None:
    photo = np.ascontiguousarray(photographs["astronaut"][:128, :128])
    none, some, many = (
        lr_statistics(image)["blockiness"]
        for image in (photo, *(read_image(encode_image(photo, "jpg", quality)) for quality in (40, 10)))
    )
    assert abs(none) < 0.1
    assert none + 0.2 < some < many


def test_blocks_are_looked_for_on_the_grid() -> None:
    blocks = np.kron(np.random.default_rng(0).uniform(0, 255, (8, 8)), np.ones((8, 8)))
    assert blockiness(blocks) > 3
    assert blockiness(blocks[3:-5, 3:-5]) < 0


def test_colour_noise_is_told_from_grey_noise() -> None:
    rng = np.random.default_rng(0)
    colour = (128 + 10 * rng.normal(size=(128, 128, 3))).round().astype(np.uint8)
    assert lr_statistics(grey(noise(10)))["chroma_noise_ratio"] < 0.1
    assert lr_statistics(colour)["chroma_noise_ratio"] == pytest.approx(1, abs=0.15)


def test_clipped_pixels_are_counted() -> None:
    image = np.full((16, 16, 3), 100, np.uint8)
    image[:4, :, 0] = 255
    image[12:, :, 2] = 0
    assert lr_statistics(image)["clipped_share"] == 0.5


def test_spectrum_of_white_noise_is_its_variance_at_every_frequency() -> None:
    spectrum = np.mean([radial_spectrum(grey(noise(10, seed=seed))) for seed in range(8)], axis=0)
    assert spectrum == pytest.approx(np.log(100), abs=0.25)
    assert spectrum_slope(spectrum) == pytest.approx(0, abs=0.1)


def test_slope_of_a_power_law_is_its_exponent() -> None:
    assert spectrum_slope(-2.5 * np.log(spectrum_frequencies())) == pytest.approx(-2.5)


def test_a_table_has_every_statistic_of_every_image(photographs: dict[str, NDArray[np.uint8]]) -> None:
    images = np.stack([photo[:64, :64] for photo in photographs.values()])
    table = table_of(images)
    assert tuple(table) == STATISTICS
    assert all(len(values) == 3 and np.isfinite(values).all() for values in table.values())

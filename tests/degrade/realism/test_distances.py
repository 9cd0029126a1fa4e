"""Distances between sets of samples and scores of random samples: closed forms and toys."""

import cv2
import numpy as np
import pytest

from degrade.realism.distances import (
    akld,
    correlation,
    crps,
    density_coverage,
    energy_score,
    frechet,
    kid,
    precision_recall,
    psnr,
    rank_histogram,
    ssim,
    wasserstein_1,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_shifting_a_set_moves_it_by_the_shift(rng: np.random.Generator) -> None:
    values = rng.normal(size=500)
    assert wasserstein_1(values, values + 0.7) == pytest.approx(0.7)
    assert wasserstein_1(values, values) == 0


def test_wasserstein_distance_takes_sets_of_different_size() -> None:
    # half of the earth at 0 has to move to 1
    assert wasserstein_1([0, 0, 0, 0], [0, 1]) == pytest.approx(0.5)


def test_kid_of_sets_from_one_distribution_is_zero_on_average(rng: np.random.Generator) -> None:
    values = [kid(rng.normal(size=(40, 6)), rng.normal(size=(60, 6))) for _ in range(200)]
    standard_error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * standard_error
    assert min(values) < 0  # unbiased: it cannot always be positive


def test_kid_grows_with_the_shift(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 200, 6))
    distances = [kid(a, b + shift) for shift in (0, 0.5, 1)]
    assert distances[0] < distances[1] < distances[2]


def test_kid_of_two_points_each_is_what_the_formula_says() -> None:
    # kernel (x.y/1 + 1)^3: k(0,.) = 1, k(1,1) = 8; within a: 1, within b: 8, across: 1
    assert kid(np.array([[0.0], [0.0]]), np.array([[1.0], [1.0]])) == pytest.approx(1 + 8 - 2)


def test_frechet_distance_of_known_normals(rng: np.random.Generator) -> None:
    a = rng.normal(size=(20_000, 2))
    b = rng.normal(size=(20_000, 2)) * [2, 1] + [3, 0]
    assert frechet(a, b) == pytest.approx(9 + 1, rel=0.03)  # |mean|^2 + (2 - 1)^2
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_made_samples_in_half_of_the_real_ones_have_full_precision_and_half_recall(rng: np.random.Generator) -> None:
    left, right = rng.normal(size=(2, 100, 2)) * 0.1
    real = np.concatenate([left, right + 100])
    made = rng.normal(size=(200, 2)) * 0.05
    toy = precision_recall(real, made)
    assert toy["precision"] > 0.95
    assert 0.2 < toy["recall"] <= 0.5
    swapped = precision_recall(made, real)
    assert swapped["precision"] == toy["recall"] and swapped["recall"] == toy["precision"]


def test_far_away_samples_have_neither_precision_nor_coverage(rng: np.random.Generator) -> None:
    real = rng.normal(size=(50, 3))
    assert precision_recall(real, real + 100) == {"precision": 0, "recall": 0}
    assert density_coverage(real, real + 100) == {"density": 0, "coverage": 0}


def test_equal_sets_have_full_coverage_and_density_of_about_one(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 400, 3))
    both = density_coverage(a, b)
    assert both["density"] == pytest.approx(1, abs=0.1)
    assert both["coverage"] > 0.9


def test_too_few_samples_for_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="use more than 3 crops"):
        precision_recall(np.zeros((3, 2)), np.zeros((3, 2)))


def test_energy_score_and_crps_reward_the_right_spread(rng: np.random.Generator) -> None:
    truths = rng.normal(size=(30, 16, 16, 3))
    scores = {
        spread: np.mean([energy_score(spread * rng.normal(size=(8, 16, 16, 3)), truth) for truth in truths])
        for spread in (0.3, 1, 3)
    }
    assert scores[1] < scores[0.3] and scores[1] < scores[3]
    narrow, right, wide = (
        np.mean([crps(spread * rng.normal(size=(8, 16, 16, 3)), truth) for truth in truths]) for spread in (0.3, 1, 3)
    )
    assert right < narrow and right < wide
    assert right == pytest.approx(1 / np.sqrt(np.pi), rel=0.03)  # of a normal truth under its own distribution


def test_one_sample_is_scored_by_its_distance() -> None:
    truth = np.zeros((8, 8, 3))
    assert crps(truth[None] + 2, truth) == 2
    assert energy_score(truth[None] + 2, truth) == pytest.approx(2)


def test_ranks_are_even_for_the_right_spread_and_u_shaped_for_too_little(rng: np.random.Generator) -> None:
    truth, samples = rng.normal(size=20_000), rng.normal(size=(4, 20_000))
    assert rank_histogram(samples, truth, rng) == pytest.approx(np.full(5, 0.2), abs=0.015)
    narrow = rank_histogram(0.2 * samples, truth, rng)
    assert narrow[0] > 0.3 and narrow[-1] > 0.3 and narrow[2] < 0.1
    ties = rank_histogram(np.zeros((4, 20_000)), np.zeros(20_000), rng)
    assert ties == pytest.approx(np.full(5, 0.2), abs=0.015)


def test_psnr_of_a_known_error() -> None:
    assert psnr(np.zeros(10), np.full(10, 25.5)) == pytest.approx(20)
    assert psnr(np.zeros(10), np.zeros(10)) == 100


def test_ssim_is_one_for_equal_images_and_falls_with_noise(photographs: dict[str, np.ndarray]) -> None:
    photo = np.ascontiguousarray(photographs["astronaut"][:64, :64])
    assert ssim(photo, photo) == pytest.approx(1)
    assert ssim(photo, cv2.GaussianBlur(photo, (0, 0), 2)) < 0.9


def test_ssim_agrees_with_scikit_image(photographs: dict[str, np.ndarray]) -> None:
    from skimage.metrics import structural_similarity

    photo = np.ascontiguousarray(photographs["chelsea"][:96, :96])
    blurred = cv2.GaussianBlur(photo, (0, 0), 1.5)
    grey, grey_blurred = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (photo, blurred))
    theirs = structural_similarity(
        grey, grey_blurred, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(photo, blurred) == pytest.approx(theirs, abs=1e-3)


def test_correlation_with_something_constant_is_zero() -> None:
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert correlation([1, 2, 3], [5, 5, 5]) == 0


def test_akld_is_the_divergence_of_local_noise_strength() -> None:
    rng = np.random.default_rng(0)
    truth, equal, double = (sigma * rng.normal(size=(128, 128, 3)) for sigma in (10, 10, 20))
    assert akld(truth, truth) == 0
    expected = 0.5 * (0.25 - 1 - np.log(0.25))  # KL of normal distributions, deviation 10 against 20
    assert akld(equal, truth) < 0.03 and akld(double, truth) == pytest.approx(expected, rel=0.1)

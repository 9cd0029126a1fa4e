"""Pairs whose truth is known: control, scores of samples and fidelity answer what was put in."""

import numpy as np
import pytest

from degrade.images.crops import ImagePool
from degrade.mix import DegradationMix
from degrade.realism.control import CHANGES, control, fidelity, make_recipe_pairs, score_pairs, wrong_partners
from degrade.realism.sets import clean_downsampling, draw_seeds, make_baseline


def test_a_baseline_never_repeats_the_draw_of_the_truth(pool: ImagePool) -> None:
    assert not set(draw_seeds("truth", 0, 50)) & set(draw_seeds("make", 0, 50))
    pairs = make_recipe_pairs(pool, 10, scale=4, side=32, seed=0)
    other = make_baseline(pairs.hr, "real_esrgan", 4, seed=0)
    assert (other[::5] != pairs.lr[::5]).any((1, 2, 3)).all()  # every fifth truth is Real-ESRGAN's too


def test_control_is_perfect_for_a_degrader_that_paints_the_truth(
    pool: ImagePool, mix: DegradationMix, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = make_recipe_pairs(pool, 10, scale=4, side=32, seed=0)
    outputs = iter([pairs.lr, np.roll(pairs.lr, 5, axis=0)])  # with the right reference, then with a wrong one
    monkeypatch.setattr("degrade.realism.control.make_like", lambda *_: next(outputs))
    figures = control(pairs, mix, seed=0)
    for key in CHANGES:
        assert figures[f"correlation_{key}"]["ours_like"] == pytest.approx(1)
        assert figures[f"correlation_{key}"]["ours_wrong"] < 0.9
    assert figures["high_band_energy_ratio"]["ours_like"] == pytest.approx(1)
    assert figures["top_quarter_energy_ratio"]["ours_like"] == pytest.approx(1)


def test_a_wrong_reference_is_never_the_right_one_and_of_any_recipe() -> None:
    images = [number // 2 for number in range(40)]
    wrong = wrong_partners(images, seed=0)
    assert all(images[a] != images[b] for a, b in enumerate(wrong))
    assert len({(a - b) % 5 for a, b in enumerate(wrong)}) == 5  # recipes come in turns of five
    assert set(wrong_partners([7, 7, 7], seed=0)) <= {0, 1, 2}  # a single photograph has no other


def test_samples_that_hold_the_truth_score_better(
    pool: ImagePool, mix: DegradationMix, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = make_recipe_pairs(pool, 4, scale=4, side=32, seed=0)
    monkeypatch.setattr("degrade.realism.control.make_like", lambda *_: pairs.lr)
    figures = score_pairs(pairs, mix, crops=4, samples=8, seed=0)
    assert figures["psnr_best"]["ours_like"] == 100 and figures["energy_score"]["ours_like"] == 0
    assert figures["crps"]["ours_like"] == 0 < figures["crps"]["bicubic"]


def test_fidelity_sees_a_cast_and_a_shift(pool: ImagePool) -> None:
    hr = pool.crops(4, 256, seed=0)
    clean = clean_downsampling(hr, 4)
    cast = (clean.astype(int) + [8, 0, 0]).clip(0, 255).astype(np.uint8)
    moved = np.roll(clean, 1, axis=2)
    figures = fidelity(hr, {"clean": clean, "cast": cast, "moved": moved}, 4)
    assert figures["colour_shift_delta_e"]["clean"] == 0
    assert figures["colour_shift_delta_e"]["cast"] > 2
    assert figures["low_frequency_error"]["cast"] == pytest.approx(8 / 3, rel=0.15)
    assert figures["shift_px"]["clean"] == pytest.approx(0, abs=1e-3)
    assert figures["shift_px"]["moved"] == pytest.approx(1, abs=0.05)

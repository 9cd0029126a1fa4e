import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from degrade.recipes.presets import NEOSR, PRESET_NAMES, REAL_ESRGAN, REAL_ESRGAN_LIGHT
from degrade.recipes.recipe import Recipe

# The published numbers, key by key: real-esrgan, real-esrgan-light, neosr.
PUBLISHED = {
    "kernel_list": [("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")] * 3,
    "kernel_prob": [(0.45, 0.25, 0.12, 0.03, 0.12, 0.03)] * 3,
    "kernel_size": [(7, 21)] * 3,
    "sinc_prob": [0.1] * 3,
    "sinc_prob2": [0.1] * 3,
    "final_sinc_prob": [0.8] * 3,
    "blur_sigma": [(0.2, 3), (0.2, 1.5), (0.2, 3)],
    "blur_sigma2": [(0.2, 1.5), (0.2, 1), (0.2, 1.5)],
    "betag_range": [(0.5, 4), (0.5, 2), (0.5, 4)],
    "betap_range2": [(1, 2), (1, 1.5), (1, 2)],
    "second_blur_prob": [0.8, 0.5, 0.4],
    "resize_prob": [(0.2, 0.7, 0.1), (0.2, 0.7, 0.1), (0.3, 0.4, 0.3)],
    "resize_prob2": [(0.3, 0.4, 0.3)] * 3,
    "resize_range": [(0.15, 1.5), (0.3, 1.5), (0.5, 1.5)],
    "resize_range2": [(0.3, 1.2), (0.6, 1.2), (0.3, 1.5)],
    "gaussian_noise_prob": [0.5, 0.5, 0.2],
    "noise_range": [(1, 30), (1, 15), (0, 2)],
    "noise_range2": [(1, 25), (1, 12), (0, 2)],
    "poisson_scale_range": [(0.05, 3), (0.05, 2), (0.05, 0.25)],
    "poisson_scale_range2": [(0.05, 2.5), (0.05, 1), (0.05, 0.1)],
    "gray_noise_prob": [0.4, 0.4, 0.1],
    "jpeg_range": [(30, 95), (60, 95), (40, 95)],
    "jpeg_range2": [(30, 95), (60, 100), (35, 95)],
}


def draws(name, count=2000, scale=4):
    preset = Recipe.preset(name)
    return [preset.draw(seed, scale).to_dict()["steps"] for seed in range(count)]


def share(conditions):
    conditions = list(conditions)
    return sum(conditions) / len(conditions)


@pytest.mark.parametrize("key", PUBLISHED)
def test_second_order_presets_have_the_published_numbers(key):
    assert [getattr(preset, key) for preset in (REAL_ESRGAN, REAL_ESRGAN_LIGHT, NEOSR)] == PUBLISHED[key]


def test_real_esrgan_draws_follow_the_published_probabilities():
    samples = draws("real-esrgan")
    first_blur = [steps[0] for steps in samples]
    assert share(blur["kernel"] == "sinc" for blur in first_blur) == pytest.approx(0.1, abs=0.025)
    plain = [blur for blur in first_blur if blur["kernel"] == "gaussian"]
    assert share(len(blur["sigma_px"]) == 1 for blur in plain) == pytest.approx(0.45 / 0.7, abs=0.04)
    assert len(plain) / 2000 == pytest.approx(0.9 * 0.7, abs=0.035)
    assert {blur["size_px"] for blur in first_blur} == set(range(7, 22, 2))
    assert share(steps[4]["op"] == "blur" for steps in samples) == pytest.approx(0.8, abs=0.03)
    assert share(steps[-1]["op"] == "jpeg" for steps in samples) == pytest.approx(0.5, abs=0.035)
    assert not any(step["antialias"] for steps in samples for step in steps if step["op"] == "resize")


def test_real_esrgan_sinc_cutoffs_depend_on_the_kernel_size():
    cutoffs = {False: [], True: []}
    for steps in draws("real-esrgan"):
        if steps[0]["kernel"] == "sinc":
            cutoffs[steps[0]["size_px"] < 13].append(steps[0]["cutoff_rad"] / np.pi)
    assert min(cutoffs[True]) >= 1 / 3
    assert 1 / 5 <= min(cutoffs[False]) < 1 / 3
    assert max(cutoffs[True] + cutoffs[False]) <= 1


def test_bsrgan_shuffles_seven_steps_and_ends_with_jpeg():
    samples = draws("bsrgan")
    assert all(steps[-1]["op"] == "jpeg" for steps in samples)
    assert share(sum(step["op"] == "jpeg" for step in steps) == 2 for steps in samples) == pytest.approx(0.9, abs=0.03)
    assert share(any(step["op"] == "camera" for step in steps) for steps in samples) == pytest.approx(0.25, abs=0.03)
    noises = [step for steps in samples for step in steps if step["op"] == "noise"]
    assert len(noises) == 2000
    assert share(noise["grey"] for noise in noises) == pytest.approx(0.4, abs=0.035)
    assert share("mixing" in noise for noise in noises) == pytest.approx(0.2, abs=0.03)
    assert all(2 <= noise["sigma_255"] <= 25 for noise in noises)
    assert {steps[0]["op"] for steps in samples} >= {"blur", "resize", "noise", "jpeg", "camera"}
    sizes = {step["size_px"] for steps in samples for step in steps if step["op"] == "blur"}
    assert sizes == set(range(7, 26, 2))


def test_bsrgan_halves_first_at_scale_4_only():
    def halves(steps):
        return steps[0]["op"] == "resize" and steps[0]["factor"] == 0.5 and steps[0]["of"] == "input"

    assert share(map(halves, draws("bsrgan"))) == pytest.approx(0.25, abs=0.03)
    assert share(map(halves, draws("bsrgan", count=500, scale=3))) == 0


def test_resshift_does_its_second_order_in_half_of_the_draws_with_its_own_kernels():
    # where real-esrgan has the sizes 7..21 twice, and always the second order
    samples = draws("resshift")
    assert {steps[0]["size_px"] for steps in samples} == set(range(3, 20, 2))
    second = [steps for steps in samples if sum(step["op"] == "noise" for step in steps) == 2]
    assert len(second) / 2000 == pytest.approx(0.5, abs=0.035)
    blurs = [steps[4] for steps in second if steps[4]["op"] == "blur"]
    assert {blur["size_px"] for blur in blurs} == set(range(3, 14, 2))


def test_wtp_codecs_have_the_published_ranges():
    published = {"jpeg": (40, 100), "webp": (40, 100), "h264": (23, 32), "hevc": (20, 34), "vp9": (20, 35),
                 "mpeg2": (2, 20), "mpeg4": (2, 20)}  # fmt: skip
    qualities: dict[str, list[int]] = {}
    for _, step in draws("wtp-codecs"):
        qualities.setdefault(step.get("codec", "webp") if step["op"] != "jpeg" else "jpeg", []).append(step["quality"])
    assert {codec: (min(drawn), max(drawn)) for codec, drawn in qualities.items()} == published
    assert all(len(drawn) / 2000 == pytest.approx(1 / 7, abs=0.03) for drawn in qualities.values())


def test_redux_is_resizes_and_light_jpeg():
    for steps in draws("redux", count=200):
        assert {step["op"] for step in steps} == {"resize", "jpeg"}
        assert all(75 <= step["quality"] <= 95 for step in steps if step["op"] == "jpeg")


def test_bicubic_is_that_of_pil_within_one_level():
    photo = data.astronaut()[:128, 160:288]
    channels = [Image.fromarray(photo[..., c].astype(np.float32)) for c in range(3)]  # float: one rounding, at the end
    resized = np.stack([np.asarray(channel.resize((32, 32), Image.Resampling.BICUBIC)) for channel in channels], -1)
    expected = resized.clip(0, 255).round().astype(int)
    preset = Recipe.preset("bicubic")
    hr = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 255
    lr = (preset.apply(hr, [preset.draw(0, 4)])[0] * 255).round().int().permute(1, 2, 0).numpy()
    assert np.abs(lr - expected).max() <= 1
    assert (lr == expected).mean() > 0.99


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_every_preset_has_a_one_line_summary(name):
    summary = Recipe.preset(name).summary()
    assert 10 < len(summary) < 100
    assert "\n" not in summary


def test_an_unknown_preset_is_answered_with_a_suggestion_and_the_list():
    with pytest.raises(ValueError, match=r"no preset 'real-ersgan'; did you mean 'real-esrgan'\? presets: bicubic, "):
        Recipe.preset("real-ersgan")

import hashlib
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
import torch
from skimage import data

from degrade.recipes.operations import Operation
from degrade.recipes.recipe import PRESET_NAMES, ClassicalDegrader, DrawnRecipe, Recipe

EVERY_OP = {
    "name": "every-op",
    "steps": [
        {"op": "sharpen", "amount": [0.2, 0.8], "sigma_px": 1},
        {
            "op": "blur",
            "kernels": [
                "iso",
                "aniso",
                "generalized_iso",
                "generalized_aniso",
                "plateau_iso",
                "plateau_aniso",
                "sinc",
                "disk",
                "motion",
            ],
        },
        {"op": "resize", "factor": [0.4, 1.2], "modes": ["area", "bilinear", "bicubic", "lanczos", "nearest"]},
        {
            "op": "one_of",
            "steps": [
                {"op": "noise", "families": ["gaussian", "poisson", "correlated"], "grey_probability": 0.3},
                {"op": "noise", "mixed_channels": True},
                {"op": "camera", "mosaic_probability": 0.5},
            ],
        },
        {"op": "chroma", "modes": ["4:2:2", "4:1:1"]},
        {"op": "quantise"},
        {
            "op": "shuffle",
            "steps": [
                {"op": "jpeg", "quality": [30, 90], "chroma": ["4:2:0", "4:4:4"]},
                {"op": "webp", "probability": 0.5},
                {"op": "resize", "of": "lr"},
            ],
        },
    ],
}

LATER_OPS = {
    "name": "later-ops",
    "steps": [
        {"op": "lens_blur"},
        {"op": "aberration"},
        {"op": "halftone", "probability": 0.5},
        {"op": "screentone", "probability": 0.3},
        {
            "op": "resize",
            "of": "lr",
            "modes": ["mitchell", "box", "bicubic"],
            "antialias": True,
            "linear_light_probability": 0.7,
        },
        {"op": "grain"},
        {"op": "halo"},
        {"op": "chroma", "modes": ["4:2:0", "4:1:1"], "matrix": ["bt709", "bt2020"], "siting": "left"},
        {"op": "chroma", "modes": ["4:2:2"], "enlarge": "box"},
        {"op": "interlace", "probability": 0.5},
        {"op": "scan_lines", "probability": 0.5},
        {"op": "banding", "probability": 0.5},
        {"op": "dither", "probability": 0.5},
        {"op": "video", "codecs": ["h264", "hevc", "vp9", "mpeg2", "mpeg4", "mjpeg"]},
    ],
}
HASHES = {"real-esrgan": "6eebfb1565b0bbc4", "bsrgan": "52b1a9478d512e63"}
SOURCES = {**{name: name for name in PRESET_NAMES}, "every-op": EVERY_OP, "later-ops": LATER_OPS}


@pytest.fixture(scope="module")
def hr():
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    return torch.stack([photo[:, top : top + 96, 150:278] for top in (0, 60, 150, 300)])


def recipe(*steps, **fields):
    return Recipe.from_dict({"steps": steps} | fields)


def named_or_written(source):
    return Recipe.preset(source) if isinstance(source, str) else Recipe.from_dict(source)


def drawn_ops(steps, count):
    """The operations of ``count`` draws at scale 4, without the resize that ends them."""
    own = recipe(*steps, {"op": "resize", "of": "lr"})
    return [own.draw(seed, 4).to_dict()["steps"][:-1] for seed in range(count)]


def test_same_seed_gives_same_parameters_and_json_keeps_them():
    own = Recipe.from_dict(EVERY_OP)
    for seed in range(20):
        params = own.draw(seed, 4)
        assert params == own.draw(seed, 4)
        assert DrawnRecipe.from_dict(json.loads(json.dumps(params.to_dict()))) == params
    assert own.draw(0, 4) != own.draw(1, 4)


def test_parameters_read_back_from_json_give_the_same_bytes(hr):
    own = Recipe.from_dict(EVERY_OP)
    params = [own.draw(seed, 4) for seed in range(4)]
    read_back = [DrawnRecipe.from_dict(json.loads(json.dumps(each.to_dict()))) for each in params]
    assert torch.equal(own.apply(hr, params), own.apply(hr, read_back))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_batch_has_the_bytes_of_its_samples_alone(hr, source):
    own = named_or_written(source)
    params = [own.draw(seed, 4) for seed in range(4)]
    singles = [own.apply(hr[i : i + 1], params[i : i + 1]) for i in range(4)]
    assert torch.equal(own.apply(hr, params), torch.cat(singles))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_bytes_do_not_depend_on_the_thread_count(hr, source):
    own = named_or_written(source)
    params = [own.draw(seed, 4) for seed in range(4)]
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(own.apply(hr, params))
    torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_output_is_8_bit_of_the_lr_size_for_every_scale():
    hr = torch.rand(1, 3, 24, 36, generator=torch.Generator().manual_seed(0))
    for scale in (2, 3, 4):
        lr = ClassicalDegrader("bsrgan", scale)(hr, seeds=[3])
        assert lr.shape == (1, 3, 24 // scale, 36 // scale)
        assert lr.dtype == hr.dtype
        assert torch.equal((lr * 255).round() / 255, lr)
        assert 0 <= lr.min() <= lr.max() <= 1


@pytest.mark.parametrize("source", [EVERY_OP, LATER_OPS], ids=["every-op", "later-ops"])
def test_the_smallest_images_pass_every_operation(source):
    own = Recipe.from_dict(source)
    hr = torch.rand(1, 3, 16, 16)
    for seed in range(30):
        assert own.apply(hr, [own.draw(seed, 4)]).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_gradient_to_hr_is_finite_and_not_zero(hr, name):
    images = hr.clone().requires_grad_()
    ClassicalDegrader(name)(images, seeds=[1, 2, 3, 4]).square().sum().backward()
    assert images.grad.isfinite().all()
    assert (images.grad.abs().sum((1, 2, 3)) > 1).all()


def test_float64_stays_float64(hr):
    assert ClassicalDegrader("real-esrgan")(hr.double(), seeds=range(4)).dtype == torch.float64


def test_layer_repeats_with_seeds_or_generator_and_differs_without(hr):
    layer = ClassicalDegrader("real-esrgan")
    assert torch.equal(layer(hr, seeds=[1, 2, 3, 4]), layer(hr, seeds=[1, 2, 3, 4]))
    first, second = (layer(hr, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    state = torch.get_rng_state()
    assert not torch.equal(layer(hr), layer(hr))
    assert torch.equal(state, torch.get_rng_state())


def test_samples_of_one_batch_are_degraded_differently(hr):
    lr = ClassicalDegrader("real-esrgan")(hr[:1].repeat(4, 1, 1, 1), seeds=range(4))
    assert len({image.numpy().tobytes() for image in lr}) == 4


def test_steps_happen_with_their_probability():
    ops = drawn_ops([{"op": "webp", "probability": 0.3}], 2000)
    assert sum(map(len, ops)) / 2000 == pytest.approx(0.3, abs=0.035)


def test_choices_follow_their_weights():
    ops = drawn_ops([{"op": "one_of", "weights": [3, 1], "steps": [{"op": "webp"}, {"op": "quantise"}]}], 2000)
    assert Counter(step["op"] for (step,) in ops)["webp"] / 2000 == pytest.approx(0.75, abs=0.03)
    ops = drawn_ops([{"op": "noise", "families": {"gaussian": 0.2, "poisson": 0.8}, "grey_probability": 0.4}], 2000)
    assert sum(step["family"] == "gaussian" for (step,) in ops) / 2000 == pytest.approx(0.2, abs=0.03)
    assert sum(step["grey"] for (step,) in ops) / 2000 == pytest.approx(0.4, abs=0.035)


def test_ranges_are_filled_evenly():
    qualities = [step["quality"] for (step,) in drawn_ops([{"op": "jpeg", "quality": [30, 95]}], 2000)]
    assert (min(qualities), max(qualities)) == (30, 95)
    assert sum(qualities) / 2000 == pytest.approx(62.5, abs=1.5)
    sizes = Counter(step["size_px"] for (step,) in drawn_ops([{"op": "blur", "kernels": "iso"}], 2000))
    assert sorted(sizes) == [7, 9, 11, 13, 15, 17, 19, 21]
    assert min(sizes.values()) > 190


def test_up_down_keep_have_their_own_halves_of_the_range():
    weights = {"up": 0.2, "down": 0.7, "keep": 0.1}
    ops = drawn_ops([{"op": "resize", "factor": [0.15, 1.5], "direction": weights}], 2000)
    factors = [step["factor"] for (step,) in ops]
    assert sum(factor > 1 for factor in factors) / 2000 == pytest.approx(0.2, abs=0.03)
    assert sum(factor == 1 for factor in factors) / 2000 == pytest.approx(0.1, abs=0.02)
    assert 0.15 <= min(factors) < 0.16
    assert 1.49 < max(factors) <= 1.5


def test_uniform_in_variance_and_in_divisor():
    blur = {"op": "blur", "kernels": "iso", "sigma_px": [0, 2], "uniform_in": "variance"}
    variances = [step["sigma_px"][0] ** 2 for (step,) in drawn_ops([blur], 2000)]
    assert sum(variances) / 2000 == pytest.approx(2, abs=0.08)
    resize = {"op": "resize", "factor": [0.125, 1], "uniform_in": "divisor"}
    divisors = [1 / step["factor"] for (step,) in drawn_ops([resize], 2000)]
    assert sum(divisors) / 2000 == pytest.approx(4.5, abs=0.15)


def test_shuffle_visits_every_order_but_keeps_resizes_in_order():
    steps = [{"op": "quantise"}, {"op": "resize", "factor": 0.5}, {"op": "webp"}, {"op": "resize", "factor": 0.25}]
    orders = Counter()
    for ops in drawn_ops([{"op": "shuffle", "steps": steps}], 2400):
        assert [step["factor"] for step in ops if step["op"] == "resize"] == [0.5, 0.25]
        orders[tuple(step["op"] for step in ops)] += 1
    assert len(orders) == math.factorial(4) / 2
    assert min(orders.values()) > 140


def test_a_chain_that_does_not_end_at_the_lr_size_gets_a_bicubic_resize(hr):
    own = recipe({"op": "resize", "of": "lr"}, {"op": "resize", "factor": 0.5})
    assert own.draw(0, 4).to_dict()["steps"][-1] == {
        "op": "resize",
        "of": "lr",
        "factor": 1.0,
        "mode": "bicubic",
        "antialias": True,
    }
    assert own.apply(hr, [own.draw(0, 4)] * 4).shape == (4, 3, 24, 32)


def test_by_scale_picks_the_chain_of_the_scale_also_with_json_keys():
    own = recipe({"op": "by_scale", "steps": {2: [{"op": "webp"}], "4": [{"op": "quantise"}]}})
    assert own.draw(0, 2).steps[0].op == "webp"
    assert own.draw(0, 4).steps[0].op == "quantise"
    assert Recipe.from_dict(json.loads(json.dumps(own.to_dict()))) == own
    with pytest.raises(ValueError, match=r"this recipe has no chain for scale 3; it has \[2, 4\]"):
        own.draw(0, 3)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_dictionary_and_json_round_trips_lose_nothing(source):
    own = named_or_written(source)
    copy = Recipe.from_dict(json.loads(json.dumps(own.to_dict())))
    assert copy == own
    assert copy.draw(7, 4) == own.draw(7, 4)


def test_options_that_came_later_are_written_out_only_when_they_are_used():
    # the seeds of the pairs in a data set are a hash of its recipe, so these must never change
    written = {name: json.dumps(Recipe.preset(name).to_dict(), sort_keys=True) for name in ("real-esrgan", "bsrgan")}
    assert {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in written.items()} == HASHES
    plain, linear = recipe({"op": "resize"}, {"op": "resize", "linear_light_probability": 0.2}).to_dict()["steps"]
    assert "linear_light_probability" not in plain and linear["linear_light_probability"] == 0.2
    plain, left = recipe({"op": "chroma"}, {"op": "chroma", "siting": "left"}).to_dict()["steps"]
    assert plain.keys() == {"probability", "op", "modes"} and left == plain | {"siting": {"left": 1.0}}


def test_linear_light_keeps_the_light_of_fine_detail(hr):
    stripes = (torch.arange(32) % 2).float().expand(1, 3, 32, 32)
    step = {"op": "resize", "of": "lr", "modes": "box", "antialias": True}
    levels = []
    for probability in (0, 1):
        own = recipe(step | {"linear_light_probability": probability})
        levels.append(own.apply(stripes, [own.draw(0, 4)]).unique().mul(255).round().tolist())
    assert levels == [[128.0], [188.0]]  # half of the display value, half of the light


def test_a_codec_takes_the_nearest_type_of_frame_that_it_has():
    for codec, frames in {"h264": {"b"}, "vp9": {"p"}, "mjpeg": {"i"}}.items():
        ops = drawn_ops([{"op": "video", "codecs": codec, "frames": "b"}], 20)
        assert {step["frame"] for (step,) in ops} == frames
    ops = drawn_ops([{"op": "video", "crf_h264": [30, 33]}], 200)
    assert {step["quality"] for (step,) in ops} == {30, 31, 32, 33}
    assert {step["frame"] for (step,) in ops} == {"p", "b"}


def test_yaml_and_toml_files_say_the_same(tmp_path):
    (tmp_path / "phone.yaml").write_text("steps:\n  - {op: jpeg, quality: [40, 90]}\n  - {op: resize, of: lr}\n")
    (tmp_path / "phone.toml").write_text(
        '[[steps]]\nop = "jpeg"\nquality = [40, 90]\n[[steps]]\nop = "resize"\nof = "lr"\n'
    )
    from_yaml, from_toml = (Recipe.from_file(tmp_path / f"phone.{ext}") for ext in ("yaml", "toml"))
    assert from_yaml == from_toml
    assert from_yaml.name == "phone"
    assert from_yaml.summary() == "JPEG 40-90 > to LR"


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (
            {"op": "blur", "kernels": "iso", "sigma": [1, 2]},
            "recipe: unknown key 'sigma' in steps[0] (blur); did you mean 'sigma_px'?",
        ),
        ({"op": "jpg"}, "recipe: unknown op 'jpg' in steps[0]; did you mean 'jpeg'?"),
        (
            {"op": "chain", "steps": [{"op": "webp"}, {"op": "jpeg", "qualty": 3}]},
            "recipe: unknown key 'qualty' in steps[0] (chain) steps[1] (jpeg); did you mean 'quality'?",
        ),
        (
            {"op": "blur", "kernels": {"isso": 1}},
            "recipe: unknown value 'isso' in steps[0] (blur) kernels isso; did you mean 'iso'?",
        ),
        (
            {"op": "jpeg", "quality": [95, 30]},
            "recipe: steps[0] (jpeg) quality: the range [95, 30] is reversed; write [30, 95], got [95, 30]",
        ),
        ({"op": "blur"}, "recipe: steps[0] (blur) lacks the key 'kernels'; add it"),
        (
            {"op": "one_of", "steps": [{"op": "webp"}], "weights": [1, 2]},
            "recipe: steps[0] (one_of): weights [1.0, 2.0] for 1 steps; write one per step, not all 0",
        ),
        (
            {"op": "blur", "kernels": "iso", "size_px": 20},
            "recipe: steps[0] (blur) size_px: kernel size 20 is even; use 21",
        ),
        (
            {"op": "screentone", "black": [0.2, 0.8], "white": 0.7},
            "recipe: steps[0] (screentone): black reaches 0.8, white begins at 0.7; leave tones between",
        ),
        (
            {"op": "video", "crf_h264": 60},
            "recipe: steps[0] (video) crf_h264: the range [60, 60] leaves [0, 51]; keep both ends inside",
        ),
    ],
)
def test_faults_of_a_recipe_are_one_sentence_with_place_and_way_out(step, sentence):
    with pytest.raises(ValueError, match=r"^recipe: ") as caught:
        recipe(step)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_unknown_top_level_key_is_named_with_the_file(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("stesp: []\nsteps: [{op: webp}]\n")
    with pytest.raises(ValueError, match=r"r\.yaml: unknown key 'stesp' in the recipe; did you mean 'steps'\?$"):
        Recipe.from_file(path)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("r.json", "{}", "is no settings file; use .yaml, .yml or .toml"),
        ("r.yaml", "steps: [", "is not valid YAML"),
        ("r.toml", "steps = [", "is not valid TOML"),
        ("r.yaml", "- 1", "holds no mapping"),
    ],
)
def test_broken_files_are_named(tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=sentence) as caught:
        Recipe.from_file(tmp_path / name)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be read"):
        Recipe.from_file(tmp_path / "missing.yaml")


def test_json_schema_has_descriptions_and_refuses_extra_keys():
    schema = Recipe.model_json_schema()
    blur = schema["$defs"]["Blur"]
    assert blur["additionalProperties"] is False
    assert blur["properties"]["sigma_px"]["description"].startswith("Standard deviation")
    assert "iso" in json.dumps(blur["properties"]["kernels"])


def test_errors_of_apply_say_the_way_out(hr):
    own = Recipe.preset("bicubic")
    four = own.draw(0, 4)
    with pytest.raises(ValueError, match="hr height 95 is not a multiple of scale 4; crop to 92"):
        own.apply(hr[:, :, 1:], [four] * 4)
    with pytest.raises(ValueError, match="3 parameters for 4 images; draw one per sample"):
        own.apply(hr, [four] * 3)
    with pytest.raises(ValueError, match=r"one batch has the scales \[2, 4\]"):
        own.apply(hr[:2], [four, own.draw(0, 2)])
    with pytest.raises(ValueError, match="pass float RGB of shape"):
        own.apply(hr[0], [four])
    with pytest.raises(ValueError, match="scale 5 is not supported; use 1, 2, 3 or 4"):
        ClassicalDegrader(own, scale=5)
    with pytest.raises(ValueError, match="seed -1 is negative"):
        own.draw(-1, 4)


JPEG = {"op": "jpeg", "quality": 50, "chroma": "4:2:0", "codec": "libjpeg"}
TO_LR = {"op": "resize", "of": "lr", "factor": 1.0, "mode": "area", "antialias": False}


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (JPEG | {"quality": 0}, r"^params: steps\[0\] \(jpeg\) quality: .* greater than or equal to 1, got 0$"),
        (JPEG | {"op": "jpg"}, r"^params: unknown op 'jpg' in steps\[0\]; did you mean 'jpeg'\?$"),
        (JPEG | {"qualty": 5}, r"^params: unknown key 'qualty' in steps\[0\] \(jpeg\); did you mean 'quality'\?$"),
        ({"op": "webp"}, r"^params: steps\[0\] \(webp\) lacks the key 'quality'; add it$"),
        ("jpeg", r"^params: steps\[0\] is no mapping of keys to values, got 'jpeg'"),
    ],
)
def test_drawn_steps_that_no_recipe_draws_are_refused_in_one_sentence(step, sentence):
    with pytest.raises(ValueError, match=sentence):
        DrawnRecipe.from_dict({"scale": 4, "steps": [step, TO_LR]})


def test_drawn_steps_that_end_at_another_size_are_refused(hr):
    own = DrawnRecipe.from_dict({"scale": 4, "steps": [JPEG]})
    with pytest.raises(ValueError, match=r"end at \(96, 128\), not at LR size \(24, 32\); draw them again"):
        Recipe.apply(hr[:1], [own])


def test_another_seed_changes_the_pixels_of_noise_and_nothing_else():
    noise, camera, jpeg, to_lr = recipe({"op": "noise"}, {"op": "camera"}, {"op": "jpeg"}).draw(0, 4).steps
    for step in (noise, camera):
        other = step.with_seed(7)
        assert other.model_dump() == step.model_dump() | {"seed": 7}
    assert (jpeg.with_seed(7), to_lr.with_seed(7)) == (jpeg, to_lr)


def test_the_page_of_recipes_lists_every_operation_and_option_with_its_default():
    page = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text()
    listed = dict(re.findall(r"^- `(\w+)`: (.*?)(?=^- |\n\n)", page, re.MULTILINE | re.DOTALL))
    for step in get_args(Operation):
        text = re.sub(r"\s+", " ", listed[step.model_fields["op"].default])
        for name, field in step.model_fields.items():
            if name in ("op", "probability"):
                continue
            assert f"`{name}`" in text, (step, name)
            if isinstance(field.default, tuple):
                low, high = field.default
                written = f"{low:g}" if low == high else f"±{high:g}" if low == -high else f"{low:g}-{high:g}"
                assert f" {written}" in text, (step, name, written)

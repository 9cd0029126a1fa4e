import pytest
import yaml

from degrade.recipes.real_esrgan import RealEsrganOptions
from degrade.recipes.recipe import Recipe

PLAIN = {
    "name": "train_RealESRGANx4plus",
    "scale": 4,
    "l1_gt_usm": True,
    "resize_prob": [0.2, 0.7, 0.1],
    "resize_range": [0.15, 1.5],
    "gaussian_noise_prob": 0.5,
    "noise_range": [1, 30],
    "poisson_scale_range": [0.05, 3],
    "gray_noise_prob": 0.4,
    "jpeg_range": [30, 95],
    "second_blur_prob": 0.8,
    "resize_prob2": [0.3, 0.4, 0.3],
    "resize_range2": [0.3, 1.2],
    "gaussian_noise_prob2": 0.5,
    "noise_range2": [1, 25],
    "poisson_scale_range2": [0.05, 2.5],
    "gray_noise_prob2": 0.4,
    "jpeg_range2": [30, 95],
    "gt_size": 256,
    "queue_size": 180,
    "datasets": {
        "train": {
            "type": "RealESRGANDataset",
            "blur_kernel_size": 21,
            "kernel_list": ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"],
            "kernel_prob": [0.45, 0.25, 0.12, 0.03, 0.12, 0.03],
            "sinc_prob": 0.1,
            "blur_sigma": [0.2, 3],
            "betag_range": [0.5, 4],
            "betap_range": [1, 2],
            "blur_kernel_size2": 11,
            "kernel_list2": ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"],
            "kernel_prob2": [0.45, 0.25, 0.12, 0.03, 0.12, 0.03],
            "sinc_prob2": 0.1,
            "blur_sigma2": [0.2, 1.5],
            "betag_range2": [0.5, 4],
            "betap_range2": [1, 2],
            "final_sinc_prob": 0.8,
        }
    },
}


@pytest.fixture
def imported(tmp_path):
    def read(options, name="options.yml"):
        (tmp_path / name).write_text(yaml.safe_dump(options))
        return Recipe.from_file(tmp_path / name)

    return read


def test_the_published_file_is_the_preset(imported):
    recipe = imported(PLAIN)
    assert recipe.steps == Recipe.preset("real-esrgan").steps
    assert recipe.name == "train_RealESRGANx4plus"


def test_dead_and_training_keys_are_named(imported):
    notes = imported(PLAIN).notes
    assert "blur_kernel_size 21 has no effect: the sizes drawn are 7..21, odd" in notes
    assert "blur_kernel_size2 11 has no effect: the sizes drawn are 7..21, odd" in notes
    assert notes[-1] == "for training only, ignored: gt_size, l1_gt_usm, name, queue_size, scale, type"


@pytest.mark.parametrize("section", ["degradation", "degradations"])
def test_keys_may_stand_in_the_section_of_a_fork(imported, section):
    options = {"sf": 4, section: {"noise_range": [2, 3], "jpeg_range2": [50, 60]}}
    recipe = imported(options)
    assert recipe.steps == RealEsrganOptions(noise_range=(2, 3), jpeg_range2=(50, 60)).steps()
    assert any(note.startswith("not given, so as published") and "blur_sigma2" in note for note in recipe.notes)


def test_toml_options_are_recognised(tmp_path):
    (tmp_path / "otf.toml").write_text("[degradations]\nresize_range = [0.5, 1.5]\n")
    assert Recipe.from_file(tmp_path / "otf.toml").steps == RealEsrganOptions(resize_range=(0.5, 1.5)).steps()


def test_resshift_honours_its_sizes_and_its_second_order_probability(imported):
    options = {"degradation": {"second_order_prob": 0.5}, "datasets": {"train": {"blur_kernel_size": 21}}}
    recipe = imported(options)
    assert recipe.steps[0].size_px == (3, 19)
    assert not any("has no effect" in note for note in recipe.notes)
    lengths = [len(recipe.draw(seed, 4).steps) for seed in range(400)]
    assert sum(length <= 7 for length in lengths) / 400 == pytest.approx(0.5, abs=0.08)


def test_imported_recipe_survives_the_round_trip(imported):
    recipe = imported(PLAIN)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("resize_range", [1.5, 0.15], "resize_range: the range"),
        ("kernel_prob", [0.5, 0.5], "kernel_list has 6 names and kernel_prob 2 numbers"),
        ("kernel_list2", ["iso", "anisotropic"], "unknown value 'anisotropic' in kernel_list2"),
    ],
)
def test_impossible_values_are_one_sentence_with_the_key(imported, key, value, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        imported(PLAIN | {key: value} | {"datasets": {"train": {}}})
    assert "\n" not in str(caught.value)
    assert "options.yml" in str(caught.value)

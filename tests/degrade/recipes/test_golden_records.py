"""Records stored in shards keep their meaning: a seed draws the same record, and a record makes the same LR.

golden_records.json stands for the data sets that people already have, so its entries must never be rewritten; the code
that wrote them kept drawn numbers in plain dictionaries. After a preset, a recipe or a seed is added below,
``python tests/degrade/recipes/test_golden_records.py`` adds the entries that are missing.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
from skimage import data

from degrade.images.codec import encode_image, read_image
from degrade.images.tensors import to_image, to_tensor
from degrade.mix import DegradationMix, apply_records_exactly
from degrade.recipes.groups import GROUPS, Step
from degrade.recipes.recipe import PRESET_NAMES, Recipe

GOLDEN = Path(__file__).with_name("golden_records.json")
HR_SIDE = 48
TOLERATED_SHARE = (
    1e-3  # of a recipe's values may differ by one grey level: another CPU may round the 7th digit differently
)

KERNELS = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso", "sinc", "disk",
           "motion"]  # fmt: skip
FAMILIES = ["gaussian", "poisson", "correlated"]
MODES = ["area", "bilinear", "bicubic", "lanczos", "nearest"]
CHROMA = ["4:4:4", "4:2:2", "4:2:0", "4:1:1"]
EVERY_OPERATION = {
    "name": "every-operation",
    "steps": [
        {"op": "blur", "kernels": KERNELS, "sigma_px": [0.3, 2], "probability": 0.9},
        {"op": "sharpen", "amount": [0.2, 0.8], "sigma_px": [0.8, 2], "threshold_255": [0, 10], "probability": 0.3},
        {"op": "resize", "factor": [0.5, 1.3], "direction": {"up": 1, "down": 1, "keep": 1}, "modes": MODES},
        {"op": "one_of", "weights": [5, 1, 2], "steps": [
            {"op": "noise", "families": FAMILIES, "grey_probability": 0.4},
            {"op": "noise", "families": FAMILIES, "mixed_channels": True},
            {"op": "camera", "mosaic_probability": 0.5},
        ]},
        {"op": "chroma", "modes": CHROMA, "probability": 0.3},
        {"op": "quantise", "probability": 0.3},
        {"op": "by_scale", "steps": {
            "2": [{"op": "webp", "probability": 0.3}],
            "3": [{"op": "blur", "kernels": "iso", "sigma_px": [0, 1], "uniform_in": "variance"}],
            "4": [{"op": "resize", "factor": [0.5, 1], "uniform_in": "divisor", "antialias": True}],
        }},
        {"op": "shuffle", "steps": [
            {"op": "chain", "steps": [{"op": "resize", "of": "lr", "modes": MODES}, {"op": "sharpen"}]},
            {"op": "one_of", "steps": [
                {"op": "jpeg", "quality": [30, 90], "chroma": CHROMA},
                {"op": "jpeg", "quality": [30, 90], "codec": "kornia"},
                {"op": "webp", "quality": [30, 90]},
            ]},
        ]},
    ],
}  # fmt: skip
RECIPES = {"every-operation": EVERY_OPERATION}  # add a new operation in a recipe of its own
SEEDS = {**dict.fromkeys(PRESET_NAMES, range(3)), "bicubic": range(1), "every-operation": range(12)}


class Case(NamedTuple):
    """One draw of one recipe."""

    recipe: str
    scale: int
    seed: int

    @property
    def name(self) -> str:
        """Name in the file."""
        return f"{self.recipe} x{self.scale} seed {self.seed}"

    def record(self) -> dict[str, Any]:
        """Draw the record that `degrade synth` writes into a shard."""
        own = Recipe.preset(self.recipe) if self.recipe in PRESET_NAMES else Recipe.from_dict(RECIPES[self.recipe])
        return DegradationMix(None, own, scale=self.scale).draw([self.seed])[0]

    def lr(self, record: dict[str, Any]) -> np.ndarray:
        """Make the LR of a record, (H, W, 3) uint8, from a crop that another case does not share."""
        top, left = 37 * self.seed % 400, (97 * self.scale + 61 * self.seed) % 400
        hr = np.ascontiguousarray(data.astronaut()[top : top + HR_SIDE, left : left + HR_SIDE])
        return to_image(apply_records_exactly(to_tensor(hr), [record])[0])


CASES = [Case(recipe, scale, seed) for recipe, seeds in SEEDS.items() for scale in (2, 3, 4) for seed in seeds]


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, Any]]:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("recipe", SEEDS)
def test_a_seed_draws_the_record_that_it_drew_then(golden, recipe):
    for case in (case for case in CASES if case.recipe == recipe):
        assert json.dumps(case.record(), sort_keys=True) == json.dumps(golden[case.name]["record"], sort_keys=True)


@pytest.mark.parametrize("recipe", SEEDS)
def test_a_record_makes_the_lr_that_it_made_then(golden, recipe):
    differences = []
    for case in (case for case in CASES if case.recipe == recipe):
        stored = read_image(base64.b64decode(golden[case.name]["lr_png"]))
        differences.append(np.abs(case.lr(golden[case.name]["record"]).astype(int) - stored).ravel())
    off = np.concatenate(differences)
    assert off.max() <= 1
    assert (off > 0).mean() <= TOLERATED_SHARE


def test_every_operation_and_every_kind_of_its_numbers_is_in_the_file(golden):
    steps = [step for entry in golden.values() for step in entry["record"]["params"]["steps"]]
    operations = {step.model_fields["op"].default for step in get_args(get_args(Step)[0]) if step not in GROUPS}
    assert {step["op"] for step in steps} == operations
    variants = {tuple(step.get(key) for key in ("op", "kernel", "family", "codec")) + (len(step),) for step in steps}
    assert {kernel for op, kernel, *_ in variants if op == "blur"} == {
        "gaussian", "generalized", "plateau", "sinc", "disk", "motion"
    }  # fmt: skip
    for kernel, numbers in {"gaussian": 4, "generalized": 5, "plateau": 5}.items():  # isotropic; turned, an angle more
        assert {("blur", kernel, None, None, numbers), ("blur", kernel, None, None, numbers + 1)} <= variants
    for family, numbers in {"gaussian": 5, "correlated": 6}.items():  # alike in all channels; or mixed
        assert {("noise", None, family, None, numbers), ("noise", None, family, None, numbers + 1)} <= variants
    assert ("noise", None, "poisson", None, 5) in variants
    assert {codec for op, _, _, codec, _ in variants if op == "jpeg"} == {"libjpeg", "kornia"}
    assert {step["mode"] for step in steps if step["op"] == "resize"} == set(MODES)
    assert {step["chroma"] for step in steps if step["op"] in ("jpeg", "chroma")} == set(CHROMA)
    for switch in ("grey", "mosaic", "antialias"):
        assert {step[switch] for step in steps if switch in step} == {False, True}


def missing_cases(golden: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make the entries that the file lacks."""
    for case in CASES:
        if case.name not in golden:
            record = case.record()
            png = encode_image(case.lr(record), "png")
            yield case.name, {"record": record, "lr_png": base64.b64encode(png).decode()}


if __name__ == "__main__":
    entries = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    entries |= dict(missing_cases(entries))
    lines = (f"{json.dumps(name)}: {json.dumps(entry, separators=(',', ':'))}" for name, entry in entries.items())
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")

"""The nodes of examples/comfyui, called as ComfyUI calls them: loaded from their folder, by names, with a batch."""

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "examples" / "comfyui"
LARGEST_SEED = 0xFFFFFFFFFFFFFFFF  # of ComfyUI's random seeds


@pytest.fixture(scope="module")
def nodes() -> Iterator[ModuleType]:
    """Load the folder as a package with a name of its own, as ComfyUI does with its folder of custom nodes."""
    spec = importlib.util.spec_from_file_location(
        "custom_nodes_comfyui", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    for name in (spec.name, f"{spec.name}.nodes"):
        sys.modules.pop(name)


def all_inputs(kind: type) -> dict[str, tuple]:
    declared = kind.INPUT_TYPES()
    return declared["required"] | declared.get("optional", {})


def call(nodes: ModuleType, name: str, **inputs: object) -> torch.Tensor:
    """Fill in the defaults and call a node by the names that it declares."""
    kind = nodes.NODE_CLASS_MAPPINGS[name]
    declared = all_inputs(kind)
    assert set(inputs) <= set(declared)
    defaults = {key: spec[1]["default"] for key, spec in declared.items() if len(spec) > 1}
    result = getattr(kind(), kind.FUNCTION)(**{**defaults, **inputs})
    assert isinstance(result, tuple) and len(result) == len(kind.RETURN_TYPES)
    return result[0]


@pytest.fixture
def image(photographs) -> torch.Tensor:
    photo = torch.from_numpy(photographs["coffee"][100:164, 100:180])
    return torch.stack([photo, photo.flip(1)]).float() / 255


def test_nodes_declare_what_the_interface_asks_for(nodes) -> None:
    assert set(nodes.NODE_CLASS_MAPPINGS) == set(nodes.NODE_DISPLAY_NAME_MAPPINGS)
    for kind in nodes.NODE_CLASS_MAPPINGS.values():
        assert isinstance(kind.CATEGORY, str) and kind.RETURN_TYPES == ("IMAGE",)
        declared = kind.INPUT_TYPES()["required"]
        assert declared["image"] == ("IMAGE",)
        assert set(all_inputs(kind)) == set(inspect.signature(getattr(kind, kind.FUNCTION)).parameters) - {"self"}


@pytest.mark.parametrize("seed", [0, 2**62 + 1, LARGEST_SEED])
def test_a_seed_of_any_size_decides_the_degradation(nodes, image, seed) -> None:
    one, again, other = (call(nodes, "RealisticDegrader", image=image, seed=s) for s in (seed, seed, seed ^ 8))
    assert one.shape == (2, 16, 20, 3) and one.dtype == torch.float32
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.min() >= 0 and one.max() <= 1
    small = torch.nn.functional.avg_pool2d(image.movedim(-1, 1), 4).movedim(1, -1)
    assert (one - small).abs().mean() < 0.15  # each LR shows its own HR


def test_images_of_a_batch_have_their_own_degradations(nodes, image) -> None:
    twice = call(nodes, "RealisticDegrader", image=image[:1].expand(2, -1, -1, -1), seed=3)
    assert not torch.equal(twice[0], twice[1])
    assert torch.allclose(twice[1], call(nodes, "RealisticDegrader", image=image[:1], seed=4)[0], atol=1e-5)


def test_sides_that_the_scale_does_not_divide_are_filled_up(nodes, image) -> None:
    assert call(nodes, "RealisticDegrader", image=image[:, :63, :77]).shape == (2, 16, 20, 3)


@pytest.mark.parametrize(("outscale", "size"), [(4.0, (64, 80)), (2.5, (40, 50)), (1.0, (16, 20))])
def test_upscaling_gives_the_size_that_was_asked_for(nodes, image, outscale, size) -> None:
    lr = image[:, 10:26, 30:50]
    sr = call(nodes, "ResidualShiftUpsampler", image=lr, outscale=outscale)
    assert sr.shape == (2, *size, 3) and sr.min() >= 0 and sr.max() <= 1
    assert (sr.mean((1, 2)) - lr.mean((1, 2))).abs().max() < 0.05


def test_detail_reaches_the_upsampler_and_below_zero_is_the_default_of_the_weights(
    nodes, image, detail_upsampler, tmp_path
) -> None:
    detail_upsampler.save_pretrained(tmp_path)
    options = {"image": image[:, 10:26, 30:50], "weights": str(tmp_path)}
    default, faithful, half = (call(nodes, "ResidualShiftUpsampler", detail=d, **options) for d in (-1.0, 0.0, 0.5))
    assert torch.equal(default, half) and not torch.equal(default, faithful)
    with pytest.raises(ValueError, match="no detail branch"):
        call(nodes, "ResidualShiftUpsampler", image=image, weights="tiny-x2", detail=0.5)


def test_scale_and_strength_reach_the_degrader(nodes, image) -> None:
    clean = call(nodes, "RealisticDegrader", image=image, scale=2, strength=0.0)
    assert clean.shape == (2, 32, 40, 3)
    assert torch.allclose(clean, torch.nn.functional.avg_pool2d(image.movedim(-1, 1), 2).movedim(1, -1), atol=1e-6)


def test_a_fourth_channel_is_no_colour(nodes, image) -> None:
    four = torch.cat([image, torch.zeros(2, 64, 80, 1)], dim=-1)
    assert torch.equal(
        call(nodes, "RealisticDegrader", image=four, seed=5), call(nodes, "RealisticDegrader", image=image, seed=5)
    )


def test_unknown_weights_are_one_sentence(nodes, image) -> None:
    with pytest.raises(ValueError, match="no upsampler 'none-such'"):
        call(nodes, "ResidualShiftUpsampler", image=image, weights="none-such")

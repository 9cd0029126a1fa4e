import json
import shutil

import pytest
import torch

from degrade.degrader import RealisticDegrader


@pytest.fixture
def divided(tiny_degrader, tmp_path):
    """The folder of a degrader whose weights are in several files."""
    tiny_degrader.save_pretrained(tmp_path / "divided", max_shard_size="20KB")
    assert len(list((tmp_path / "divided").glob("*-of-*.safetensors"))) > 2
    return tmp_path / "divided"


def edit(folder, **changes):
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    content = json.loads(index.read_text())
    index.write_text(json.dumps({**content, **changes}))


def test_weights_in_several_files_load_like_those_in_one(divided, tiny_degrader):
    loaded = RealisticDegrader.from_pretrained(divided).state_dict()
    assert loaded.keys() == tiny_degrader.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tiny_degrader.state_dict().items())


def test_a_variant_in_several_files_loads(tiny_degrader, tmp_path):
    tiny_degrader.save_pretrained(tmp_path, max_shard_size="20KB", variant="fp16")
    assert RealisticDegrader.from_pretrained(tmp_path, variant="fp16").config.scale == tiny_degrader.config.scale


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"weight_map": None}, "index.json has no weight_map and metadata"),
        ({"metadata": 3}, "index.json has no weight_map and metadata"),
        ({"weight_map": {"a": "../other/a.safetensors"}}, "is not the name of a file beside it"),
        ({"weight_map": {"a": 7}}, "names 7, which is missing"),
        ({"weight_map": {"a": "gone.safetensors"}}, "names gone.safetensors, which is missing"),
        ({"weight_map": {"a": "config.json"}}, "is not a complete safetensors file"),
    ],
)
def test_an_index_that_is_no_index_is_refused_in_a_sentence(divided, changes, sentence):
    edit(divided, **changes)
    with pytest.raises(ValueError, match=sentence):
        RealisticDegrader.from_pretrained(divided)


def test_a_missing_and_a_repeated_part_are_refused(divided):
    one, other, *_ = sorted(divided.glob("*-of-*.safetensors"))
    kept = one.read_bytes()
    shutil.copy(other, one)
    with pytest.raises(ValueError, match="as another file does"):
        RealisticDegrader.from_pretrained(divided)
    one.write_bytes(kept[:100])
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        RealisticDegrader.from_pretrained(divided)
    one.unlink()
    with pytest.raises(ValueError, match="which is missing"):
        RealisticDegrader.from_pretrained(divided)


@pytest.mark.parametrize("how", ["auto", "balanced"])
def test_dividing_a_network_among_devices_is_refused_by_name(divided, how):
    with pytest.raises(ValueError, match=f"device_map '{how}' divides a network among devices"):
        RealisticDegrader.from_pretrained(divided, device_map=how)
    assert RealisticDegrader.from_pretrained(divided, device_map="cpu").device.type == "cpu"


@pytest.mark.parametrize("count", [1, 3])
def test_a_list_of_generators_has_one_for_each_sample(tiny_degrader, tiny_upsampler, count):
    generators = [torch.Generator().manual_seed(number) for number in range(count)]
    scale = tiny_degrader.config.scale
    with pytest.raises(ValueError, match=f"{count} generators for a batch of 2; pass one, or a list of 2"):
        tiny_degrader(torch.rand(2, 3, 16 * scale, 16 * scale), generator=generators)
    with pytest.raises(ValueError, match=f"{count} generators for a batch of 2"):
        tiny_upsampler(torch.rand(2, 3, 16, 16), generator=generators)
    with pytest.raises(ValueError, match=f"{count} generators for a batch of 2"):
        tiny_degrader.sample_codes(2, generator=generators)

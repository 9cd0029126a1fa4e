"""The degrader and the upsampler inside other people's training loops, compilers and exporters."""

import inspect
from collections.abc import Mapping
from types import ModuleType

import pytest
import torch
import torch.distributed as dist
from torch import nn

from degrade import ClassicalDegrader, DegradationMix, RealisticDegrader, Recipe
from degrade.ops.border import repeat_border
from upsample import ResidualShiftUpsampler


@pytest.fixture(scope="module")
def degrader():
    return RealisticDegrader.from_pretrained("tiny-x4").eval()


@pytest.fixture(scope="module")
def hr():
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def given(degrader):
    generator = torch.Generator().manual_seed(1)
    code = degrader.sample_codes(1, generator=generator).detach()
    return {"code": code, "noise": torch.randn(1, 3, 16, 16, generator=generator)}


@pytest.mark.parametrize("sides", [(0, 0, 0, 0), (0, 3, 0, 0), (2, 1, 0, 4)])
def test_a_repeated_border_is_that_of_torch_with_its_gradient(sides):
    image = torch.rand(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    ours, torchs = repeat_border(image, *sides), nn.functional.pad(image, sides, mode="replicate")
    assert torch.equal(ours, torchs)
    weights = torch.rand_like(ours)
    gradients = [torch.autograd.grad((weights * padded).sum(), image)[0] for padded in (ours, torchs)]
    assert torch.allclose(*gradients)


def test_a_compiled_graph_is_whole_and_equal(degrader, hr, given):
    compiled = torch.compile(degrader, fullgraph=True, backend="eager")
    assert torch.allclose(compiled(hr, **given), degrader(hr, **given), atol=1e-6)


def test_a_compiled_upsampler_is_whole_and_equal(hr):
    upsampler = ResidualShiftUpsampler.from_pretrained("tiny-x4").eval()
    compiled = torch.compile(upsampler, fullgraph=True, backend="eager")
    lr = hr[..., :16, :16]
    assert torch.allclose(compiled(lr), upsampler(lr), atol=1e-6)


def test_an_exported_graph_is_equal(degrader, hr, given):
    exported = torch.export.export(degrader, (hr, given["code"]), {"noise": given["noise"]}).module()
    assert torch.allclose(exported(hr, given["code"], noise=given["noise"]), degrader(hr, **given), atol=1e-6)


def test_meta_tensors_have_shapes_and_no_values():
    assert RealisticDegrader().to("meta")(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 3, 16, 16)
    assert ResidualShiftUpsampler().to("meta")(torch.empty(1, 3, 16, 16, device="meta")).shape == (1, 3, 64, 64)


def test_vmap_gives_the_images_of_a_batch(degrader, given):
    images = torch.rand(3, 3, 64, 64)
    mapped = torch.func.vmap(lambda image: degrader(image[None], **given)[0])(images)
    batch = degrader(images, given["code"], noise=given["noise"].expand(3, -1, -1, -1))
    assert torch.allclose(mapped, batch, atol=1 / 255) and (mapped - batch).abs().mean() < 1e-4


def test_every_parameter_gets_a_gradient_in_a_process_group_and_only_there(degrader, hr, tmp_path):
    degrader(hr).sum().backward()
    idle = list(degrader.encoder.parameters())
    assert all(parameter.grad is None for parameter in idle)
    degrader.zero_grad()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(degrader)
        for _ in range(3):
            model(hr).sum().backward()
        assert all(parameter.grad is not None for parameter in degrader.parameters())
        assert all(not parameter.grad.any() for parameter in idle)
    finally:
        dist.destroy_process_group()
        degrader.zero_grad()


def test_weights_load_into_a_degrader_whose_bank_has_another_length(degrader):
    fresh = RealisticDegrader()
    fresh.load_state_dict(degrader.state_dict())
    assert torch.equal(fresh.bank, degrader.bank) and fresh.config.bank_size == len(degrader.bank)
    with pytest.raises(RuntimeError, match="size mismatch for bank"):
        RealisticDegrader(code_dim=8).load_state_dict({"bank": degrader.bank}, strict=False)


@pytest.mark.parametrize("network", [RealisticDegrader, ResidualShiftUpsampler])
def test_an_average_of_weights_of_diffusers_is_saved_and_loaded(network, tmp_path):
    from diffusers.training_utils import EMAModel

    model = network.from_pretrained("tiny-x4")
    average = EMAModel(model.parameters(), decay=0.5, model_cls=network, model_config=model.config)
    average.save_pretrained(tmp_path)
    again = EMAModel.from_pretrained(tmp_path, network)
    assert all(map(torch.equal, again.shadow_params, average.shadow_params)) and again.decay == 0.5
    assert all(map(torch.equal, network.from_pretrained(tmp_path).parameters(), average.shadow_params))


@pytest.fixture(scope="module")
def layers(degrader):
    """Name the three layers that degrade; each is called with HR and options."""
    mix = DegradationMix(degrader, Recipe.preset("real-esrgan"), mix=0.5)
    return {"learned": degrader, "mix": mix, "classical": ClassicalDegrader("real-esrgan")}


@pytest.fixture(scope="module")
def batch():
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ["learned", "mix", "classical"])
def test_values_outside_the_range_are_refused_clamped_or_passed(layers, batch, name):
    layer, outside = layers[name], (1.5 * batch - 0.25).requires_grad_()

    def lr(images, **options):
        return layer(images, generator=torch.Generator().manual_seed(0), **options)

    for wrong in (outside, batch * float("nan")):
        with pytest.raises(ValueError, match="pass floats in"):
            lr(wrong)
    with pytest.raises(ValueError, match="out_of_range 'ignore' is unknown; use 'refuse', 'clamp' or 'pass'"):
        lr(batch, out_of_range="ignore")
    for choice in ("clamp", "pass"):
        assert torch.equal(lr(batch, out_of_range=choice), lr(batch))
    clamped, passed = lr(outside, out_of_range="clamp"), lr(outside, out_of_range="pass")
    assert torch.equal(clamped, lr(outside.clamp(0, 1)))
    assert not torch.equal(clamped, passed) and passed.min() >= 0 and passed.max() <= 1
    passed.sum().backward()
    assert outside.grad.isfinite().all() and outside.grad.abs().sum() > 0


def test_a_clamped_value_gets_the_gradient_of_the_border(degrader, batch, given):
    outside = (1.5 * batch - 0.25).requires_grad_()
    border = outside.detach().clamp(0, 1).requires_grad_()
    weights = torch.rand(4, 3, 16, 16)
    (weights * degrader(outside, given["code"], noise=given["noise"], out_of_range="clamp")).sum().backward()
    (weights * degrader(border, given["code"], noise=given["noise"])).sum().backward()
    assert torch.equal(outside.grad, border.grad) and outside.grad[outside < 0].abs().sum() > 0


def test_clamping_works_in_compiled_exported_and_mapped_graphs(degrader, hr, given):
    class Clamping(nn.Module):
        def __init__(self):
            super().__init__()
            self.degrader = degrader

        def forward(self, images):
            return self.degrader(images, **given, out_of_range="clamp")

    outside, layer = 1.5 * hr - 0.25, Clamping()
    expected = layer(outside)
    assert torch.allclose(torch.compile(layer, fullgraph=True, backend="eager")(outside), expected, atol=1e-6)
    assert torch.allclose(torch.export.export(layer, (outside,)).module()(outside), expected, atol=1e-6)
    assert torch.allclose(torch.func.vmap(layer)(outside[None])[0], expected, atol=1e-6)
    _, pull = torch.func.vjp(layer, outside)
    assert pull(torch.ones_like(expected))[0][outside > 1].abs().sum() > 0


def test_the_default_device_of_torch_changes_nothing(layers, batch, degrader):
    def draw():
        options = {"generator": torch.Generator().manual_seed(0)}
        yield from (layer(batch, **options) for layer in layers.values())
        yield layers["learned"](batch, grain=0.5, strength=1.5, scale=2, **options)
        yield layers["learned"](batch, reference=batch[:1], steps=4, out_of_range="clamp", **options)
        yield degrader.move(degrader.sample_codes(3, **options), blur=1.0)
        yield DegradationMix(degrader, None, codes=degrader.bank[:5])(batch, range(4))

    expected = list(draw())
    with torch.device("meta"):  # stands in for cuda, which trainers such as neosr make the default
        assert all(map(torch.equal, draw(), expected))
        assert all(layer(batch).device.type == "cpu" for layer in layers.values())
        loaded = RealisticDegrader.from_pretrained("tiny-x4")
        again = loaded(batch, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again, expected[0]) and not loaded.scheduler.timesteps.is_meta


@pytest.mark.parametrize("name", ["learned", "mix", "classical"])
def test_the_global_generator_is_used_when_it_is_passed_and_only_then(layers, batch, name):
    layer = layers[name]
    with torch.random.fork_rng(devices=[]):
        first, other, again = (
            layer(batch, generator=torch.manual_seed(seed)) for seed in (0, 1, 0)
        )  # manual_seed returns torch.default_generator
        assert torch.equal(first, again) and not torch.equal(first, other)
        assert not torch.equal(layer(batch, generator=torch.default_generator), again)
        before = torch.get_rng_state()
        assert not torch.equal(layer(batch), layer(batch))
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("network", [RealisticDegrader, ResidualShiftUpsampler])
def test_no_chain_of_attributes_leads_to_a_module_of_python(network):
    """Physics.clone() of deepinv visits all that attributes and mappings lead to; from one module it reaches all."""
    queue = [network(widths=(8, 8, 8), blocks=1)]
    seen = {id(queue[0])}
    while queue:
        node = queue.pop()
        assert not isinstance(node, ModuleType)
        reached = [inspect.getattr_static(node, name, None) for name in dir(node)]
        reached += node.values() if isinstance(node, Mapping) else []
        queue += [each for each in reached if id(each) not in seen]
        seen |= {id(each) for each in reached}

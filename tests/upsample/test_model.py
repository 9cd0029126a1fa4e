import json

import pytest
import torch

from degrade.ops.resize import resize
from upsample.model import NOISE_PERIOD, ResidualShiftUpsampler


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def small(**options) -> ResidualShiftUpsampler:
    return ResidualShiftUpsampler(**{"widths": (8, 8, 8), "blocks": 1, "embedding_dim": 8, **options}).eval()


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("steps", [1, 15])
def test_untrained_upsampler_is_exactly_bicubic(scale, steps) -> None:
    lr = torch.rand(2, 3, 16, 13)
    inside = (..., slice(2 * scale, -2 * scale), slice(2 * scale, -2 * scale))
    bicubic = resize(lr, (16 * scale, 13 * scale), "bicubic", antialias=True).clamp(0, 1)
    assert torch.allclose(small(scale=scale, steps=steps)(lr)[inside], bicubic[inside], atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (37, 50), (3, 130)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_any_size_is_enlarged_by_the_scale_and_stays_in_range(scale, size) -> None:
    upsampler = small(scale=scale)
    torch.nn.init.normal_(upsampler.unet.head.weight)
    sr = upsampler(torch.rand(1, 3, *size))
    assert sr.shape == (1, 3, size[0] * scale, size[1] * scale)
    assert sr.min() >= 0 and sr.max() <= 1


def test_the_same_lr_gives_the_same_sr_whatever_else_is_in_the_batch(tiny_upsampler) -> None:
    lr = torch.rand(3, 3, 17, 22)
    together = tiny_upsampler(lr)
    assert torch.equal(together, tiny_upsampler(lr))
    alone = torch.cat([tiny_upsampler(one[None]) for one in lr])
    assert torch.allclose(together, alone, atol=1e-5)


def test_upscaling_never_touches_the_global_generator(tiny_upsampler) -> None:
    before = torch.get_rng_state()
    tiny_upsampler(torch.rand(1, 3, 8, 8, generator=torch.Generator()), steps=4)
    assert torch.equal(before, torch.get_rng_state())


def test_fixed_noise_is_one_endless_field_that_repeats(tiny_upsampler) -> None:
    field = tiny_upsampler.fixed_noise(150, 170)
    assert field.shape == (1, 48, 150, 170)
    assert torch.equal(tiny_upsampler.fixed_noise(30, 40, top=100, left=61), field[..., 100:130, 61:101])
    assert torch.equal(field[..., NOISE_PERIOD:, :], field[..., :-NOISE_PERIOD, :])
    one_period = field[..., :NOISE_PERIOD, :NOISE_PERIOD]
    assert abs(float(one_period.mean())) < 0.01 and float(one_period.std()) == pytest.approx(1, abs=0.01)


def test_the_fixed_noise_is_the_start_unless_another_is_given(tiny_upsampler, normal) -> None:
    lr = torch.rand(1, 3, 12, 20)
    fixed = tiny_upsampler(lr)
    assert torch.equal(fixed, tiny_upsampler(lr, noise=tiny_upsampler.fixed_noise(12, 20)))
    assert (fixed - tiny_upsampler(lr, noise=normal(0, 1, 48, 12, 20))).abs().mean() > 1e-3


def test_two_models_have_the_same_fixed_noise() -> None:
    assert torch.equal(small().noise, small().noise)


@pytest.mark.parametrize("sampling", ["deterministic", "posterior"])
@pytest.mark.parametrize("steps", [1, 4, 15])
def test_a_sample_depends_on_its_own_generator_and_not_on_its_batch(tiny_upsampler, steps, sampling) -> None:
    lr = torch.rand(1, 3, 9, 10).expand(2, -1, -1, -1)
    with torch.inference_mode():
        together = tiny_upsampler(lr, steps=steps, sampling=sampling, generator=generators(1, 2))
        alone = [tiny_upsampler(lr[:1], steps=steps, sampling=sampling, generator=generators(i + 1)) for i in range(2)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert (together[0] - together[1]).abs().mean() > 1e-3


def test_steps_make_as_many_network_calls_and_are_the_models_own_unless_told() -> None:
    upsampler = small(steps=4)
    calls = []
    upsampler.unet.register_forward_hook(lambda *_: calls.append(1))
    for steps, expected in ((None, 4), (1, 1), (15, 15), (None, 4)):
        calls.clear()
        upsampler(torch.rand(1, 3, 8, 8), steps=steps)
        assert len(calls) == expected


def test_posterior_sampling_draws_noise_at_every_step_and_deterministic_none(tiny_upsampler) -> None:
    lr, noise = torch.rand(1, 3, 8, 8), tiny_upsampler.fixed_noise(8, 8)
    both = {
        sampling: [tiny_upsampler(lr, steps=4, noise=noise, sampling=sampling, generator=generators(i)) for i in (1, 2)]
        for sampling in ("deterministic", "posterior")
    }
    assert torch.equal(*both["deterministic"]) and not torch.equal(*both["posterior"])


def test_set_steps_changes_what_the_model_is_meant_for_and_is_saved(tiny_upsampler, tmp_path) -> None:
    tiny_upsampler.set_steps(4)
    lr = torch.rand(1, 3, 8, 8)
    assert torch.equal(tiny_upsampler(lr), tiny_upsampler(lr, steps=4))
    tiny_upsampler.save_pretrained(tmp_path)
    again = ResidualShiftUpsampler.from_pretrained(tmp_path)
    assert again.config.steps == 4 and again.chain[1] == 4
    with pytest.raises(ValueError, match=r"steps 16 is outside 1\.\.15"):
        tiny_upsampler.set_steps(16)


def test_gradients_reach_lr_and_every_weight(tiny_upsampler) -> None:
    lr = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    tiny_upsampler(lr, steps=2).square().sum().backward()
    assert lr.grad is not None and (lr.grad != 0).any()
    assert all(parameter.grad is not None for parameter in tiny_upsampler.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_it_runs_in_other_precisions(tiny_upsampler, dtype) -> None:
    lr = torch.rand(1, 3, 10, 11)
    full = tiny_upsampler(lr, steps=2)
    sr = tiny_upsampler.to(dtype)(lr.to(dtype), steps=2)
    assert sr.dtype == dtype and (sr.float() - full).abs().max() < 0.1


def test_saved_and_loaded_upsampler_makes_the_same_sr(tiny_upsampler, tmp_path) -> None:
    tiny_upsampler.save_pretrained(tmp_path / "u")
    assert sorted(p.name for p in (tmp_path / "u").iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    again = ResidualShiftUpsampler.from_pretrained(tmp_path / "u")
    lr = torch.rand(2, 3, 12, 9)
    assert torch.equal(again(lr), tiny_upsampler(lr)) and not again.training
    assert json.loads((tmp_path / "u" / "config.json").read_text())["_class_name"] == "ResidualShiftUpsampler"


def test_networks_with_attention_pad_to_their_own_stride_and_load_again(tiny_unet2d, tmp_path) -> None:
    upsampler = small(unet2d=tiny_unet2d)
    lr = torch.rand(2, 3, 7, 10)
    untrained = upsampler(lr)
    assert torch.allclose(untrained, small()(lr), atol=1e-6)  # bicubic, as any
    torch.nn.init.normal_(upsampler.unet.conv_out.weight, std=0.05)
    sr = upsampler(lr, steps=2)
    assert sr.shape == (2, 3, 28, 40) and not torch.allclose(sr, untrained, atol=1e-3)
    upsampler.save_pretrained(tmp_path)
    assert torch.equal(ResidualShiftUpsampler.from_pretrained(tmp_path)(lr, steps=2), sr)


@pytest.mark.parametrize("name", ["VQModel", "AutoencoderKL", "AutoencoderTiny"])
def test_the_chain_runs_on_latents_of_an_autoencoder_and_loads_again(autoencoders, name, tmp_path) -> None:
    upsampler = small(autoencoder=autoencoders[name], kappa=2.0)
    torch.nn.init.normal_(upsampler.unet.head.weight, std=0.05)
    lr = torch.rand(2, 3, 7, 10)
    sr = upsampler(lr, steps=2)
    assert sr.shape == (2, 3, 28, 40) and sr.min() >= 0 and sr.max() <= 1
    assert upsampler.scheduler.config.latent and not upsampler.scheduler.config.clip_sample
    upsampler.save_pretrained(tmp_path)
    assert torch.equal(ResidualShiftUpsampler.from_pretrained(tmp_path)(lr, steps=2), sr)


def test_the_autoencoder_is_not_trained_with_the_rest(autoencoders) -> None:
    upsampler = small(autoencoder=autoencoders["AutoencoderKL"])
    upsampler.train()
    upsampler(torch.rand(1, 3, 8, 8)).sum().backward()
    assert not upsampler.first_stage.model.training and upsampler.unet.training
    assert all(parameter.grad is None for parameter in upsampler.first_stage.parameters())
    assert upsampler.unet.head.weight.grad is not None


@pytest.mark.parametrize("name", ["tiny-x9", "./nowhere", "runs/none/student"])
def test_a_name_that_is_not_there_lists_the_choices_without_asking_the_hub(name, monkeypatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(ValueError, match=f"no upsampler '{name}': .* has no config.json; use a shipped name"):
        ResidualShiftUpsampler.from_pretrained(name)


@pytest.mark.parametrize(
    ("lr", "options", "told"),
    [
        (torch.rand(3, 8, 8), {}, r"lr has shape \(3, 8, 8\); pass RGB images as \(B, 3, h, w\)"),
        (torch.rand(1, 4, 8, 8), {}, r"pass RGB images as \(B, 3, h, w\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), {}, r"lr.float\(\) / 255"),
        (torch.full((1, 3, 8, 8), 255.0), {}, r"ranges over 255..255; pass floats in \[0, 1\]"),
        (torch.full((1, 3, 8, 8), -1.0), {}, r"ranges over -1..-1; pass floats in \[0, 1\]"),
        (torch.rand(1, 3, 8, 8), {"steps": 16}, r"steps 16 is outside 1\.\.15"),
        (torch.rand(1, 3, 8, 8), {"steps": 0}, r"steps 0 is outside 1\.\.15"),
    ],
)
def test_input_that_does_not_fit_is_told_in_a_sentence(tiny_upsampler, lr, options, told) -> None:
    with pytest.raises(ValueError, match=told):
        tiny_upsampler(lr, **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"scale": 8}, "scale 8 is not supported; use 1, 2, 3 or 4"),
        ({"steps": 5, "num_train_timesteps": 4}, r"steps 5 is outside 1\.\.4"),
        ({"autoencoder": {"_class_name": "VQGAN"}}, "'VQGAN' is unknown; use one of VQModel"),
    ],
)
def test_configurations_that_cannot_be_are_refused(options, told) -> None:
    with pytest.raises(ValueError, match=told):
        ResidualShiftUpsampler(**options)

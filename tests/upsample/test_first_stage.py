import pytest
import torch

from upsample.first_stage import Autoencoder, PixelUnshuffle, build_first_stage


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pixel_unshuffle_is_exact_both_ways_and_has_no_weights(scale) -> None:
    stage = build_first_stage(None, scale)
    assert isinstance(stage, PixelUnshuffle) and not list(stage.parameters())
    hr = torch.rand(2, 3, 5 * scale, 7 * scale)
    latents = stage.encode(hr)
    assert latents.shape == (2, stage.channels, 5, 7)
    assert torch.equal(stage.decode(latents), hr)


@pytest.mark.parametrize("name", ["VQModel", "AutoencoderKL", "AutoencoderTiny"])
def test_autoencoders_put_latents_on_the_lr_grid_and_come_back(autoencoders, name) -> None:
    stage = build_first_stage(autoencoders[name], 4)
    latents = stage.encode(torch.rand(2, 3, 24, 32) * 2 - 1)
    assert latents.shape == (2, stage.channels, 6, 8)
    assert stage.decode(latents).shape == (2, 3, 24, 32)


@pytest.mark.parametrize("name", ["VQModel", "AutoencoderKL", "AutoencoderTiny"])
def test_an_autoencoder_is_frozen_and_stays_in_evaluation(autoencoders, name) -> None:
    stage = build_first_stage(autoencoders[name], 4)
    stage.train()
    assert not any(module.training for module in stage.modules())
    assert not any(parameter.requires_grad for parameter in stage.parameters())


def test_gradients_reach_the_latents_through_the_quantiser(autoencoders) -> None:
    stage = build_first_stage(autoencoders["VQModel"], 4)
    latents = torch.randn(1, 3, 4, 4, requires_grad=True)
    stage.decode(latents).square().sum().backward()
    assert latents.grad is not None and (latents.grad != 0).any()


def test_latents_of_a_kl_autoencoder_are_scaled_as_its_configuration_says(autoencoders) -> None:
    config = {**autoencoders["AutoencoderKL"], "scaling_factor": 2.0, "shift_factor": 0.5}
    stage = Autoencoder(config, 4)
    hr = torch.rand(1, 3, 16, 16)
    own = stage.model.encode(hr).latent_dist.mode()
    assert torch.allclose(stage.encode(hr), (own - 0.5) * 2, atol=1e-5)
    assert torch.allclose(stage.decode((own - 0.5) * 2), stage.model.decode(own).sample, atol=1e-5)


def test_encoding_is_the_same_every_time(autoencoders) -> None:
    stage = build_first_stage(autoencoders["AutoencoderKL"], 4)
    hr = torch.rand(1, 3, 16, 16)
    assert torch.equal(stage.encode(hr), stage.encode(hr))


@pytest.mark.parametrize("name", ["VQModel", "AutoencoderKL", "AutoencoderTiny"])
def test_an_autoencoder_that_reduces_by_another_factor_is_refused(autoencoders, name) -> None:
    with pytest.raises(ValueError, match=f"{name} with 3 blocks reduces by 4, not by 2"):
        build_first_stage(autoencoders[name], 2)


@pytest.mark.parametrize("config", [{"_class_name": "AutoencoderDC"}, {}])
def test_an_unknown_autoencoder_is_refused_with_those_that_are_known(config) -> None:
    with pytest.raises(ValueError, match="is unknown; use one of VQModel, AutoencoderKL, AutoencoderTiny"):
        build_first_stage(config, 4)

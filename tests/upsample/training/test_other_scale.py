import pytest
import torch
import torch.nn.functional as F

from upsample.model import ResidualShiftUpsampler
from upsample.training.other_scale import at_scale

TINY = {"widths": (8, 8, 8), "blocks": 1, "embedding_dim": 8}


def flat(upsampler: ResidualShiftUpsampler) -> torch.Tensor:
    """Upscale one colour, without noise."""
    lr = torch.tensor([0.3, 0.5, 0.6]).view(1, 3, 1, 1).expand(-1, -1, 9, 9)
    return upsampler(lr, noise=torch.zeros(1, upsampler.first_stage.channels, 9, 9))


@pytest.mark.parametrize(("old", "new"), [(4, 2), (4, 1), (4, 3), (2, 4), (3, 2), (1, 2)])
def test_where_the_lr_is_flat_the_new_scale_shows_the_old_ones_pixels_by_the_area_they_share(old, new, normal) -> None:
    upsampler = ResidualShiftUpsampler(scale=old, **TINY).eval()
    torch.nn.init.normal_(upsampler.unet.head.weight, std=0.05)
    before = torch.get_rng_state()
    moved = at_scale(upsampler, new)[0].eval()
    assert torch.equal(before, torch.get_rng_state()) and moved.config.scale == new
    finest = F.interpolate(flat(upsampler), scale_factor=new, mode="nearest")  # pixels that both scales are made of
    assert finest.std() > 0.01 and torch.allclose(flat(moved), F.avg_pool2d(finest, old), atol=1e-5)


def test_all_of_the_network_but_its_ends_is_copied_and_a_detail_branch_is_left_out() -> None:
    upsampler = ResidualShiftUpsampler(detail=0.5, **TINY)
    moved, sentence = at_scale(upsampler, 2)
    source, target = upsampler.state_dict(), moved.state_dict()
    differs = {name for name in target if target[name].shape != source[name].shape}
    assert differs == {"noise", "unet.stem.weight", "unet.head.weight", "unet.head.bias"}
    assert all(torch.equal(source[name], target[name]) for name in target.keys() - differs - {"chain"})
    assert torch.equal(source["unet.stem.weight"][:, -3:], target["unet.stem.weight"][:, -3:])
    assert moved.detail_branch is None and sentence.endswith("its detail branch is left out")


def test_latents_of_an_autoencoder_cannot_change_their_scale(autoencoders) -> None:
    upsampler = ResidualShiftUpsampler(autoencoder=autoencoders["VQModel"], kappa=2.0, **TINY)
    with pytest.raises(ValueError, match="train one for scale 2 anew"):
        at_scale(upsampler, 2)

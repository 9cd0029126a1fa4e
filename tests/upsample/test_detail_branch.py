import pytest
import torch

from upsample.detail_branch import RADIUS, DetailBranch
from upsample.model import ResidualShiftUpsampler


def test_a_new_branch_changes_nothing() -> None:
    branch = DetailBranch(4, 8, 48)
    assert branch(torch.randn(1, 8, 6, 5), torch.randn(1, 3, 6, 5), torch.randn(1, 48, 6, 5)).abs().max() == 0


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_it_draws_at_the_size_of_the_sr_at_every_scale(scale, make_detail_upsampler) -> None:
    assert make_detail_upsampler(scale)(torch.rand(1, 3, 7, 9)).shape == (1, 3, 7 * scale, 9 * scale)


def test_the_dial_is_a_straight_line_from_the_faithful_image_to_the_sharp_one(detail_upsampler) -> None:
    model, lr = detail_upsampler, torch.rand(2, 3, 12, 12) * 0.2 + 0.4  # far from black and white, where images are cut
    with torch.no_grad():
        faithful, half, sharp = (model(lr, detail=detail) for detail in (0, 0.5, 1))
    assert (sharp - faithful).abs().max() > 0.01
    torch.testing.assert_close(half, (faithful + sharp) / 2)


def test_detail_zero_is_the_image_of_the_same_network_without_a_branch(detail_upsampler) -> None:
    model = detail_upsampler
    plain = ResidualShiftUpsampler(widths=(8, 8, 8), blocks=1, embedding_dim=8).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("detail_")})
    lr = torch.rand(1, 3, 10, 11)
    with torch.no_grad():
        assert torch.equal(model(lr, detail=0), plain(lr)) and torch.equal(plain(lr, detail=0), plain(lr))


def test_the_default_is_saved_with_the_weights_and_a_number_of_steps_turns_it_off(
    tmp_path, make_detail_upsampler
) -> None:
    model, lr = make_detail_upsampler(default=0.25), torch.rand(1, 3, 8, 8)
    model.save_pretrained(tmp_path)
    again = ResidualShiftUpsampler.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(lr), model(lr, detail=0.25))
        assert torch.equal(again(lr, steps=2), model(lr, detail=0, steps=2))


def test_every_image_of_a_batch_can_have_its_own_detail(detail_upsampler) -> None:
    model, lr = detail_upsampler, torch.rand(1, 3, 8, 8).expand(2, -1, -1, -1)
    with torch.no_grad():
        both = model(lr, detail=torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(both, torch.cat([model(lr[:1], detail=0), model(lr[:1], detail=1)]))


def test_other_noise_draws_other_detail(detail_upsampler) -> None:
    model, lr, features = detail_upsampler, torch.rand(1, 3, 8, 8), torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        one, other = (model.draw_detail(features, lr, torch.randn(1, 48, 8, 8)) for _ in range(2))
    assert (one - other).abs().mean() > 1e-3


def test_it_sees_no_further_than_its_radius(detail_upsampler) -> None:
    model, side = detail_upsampler, 2 * RADIUS + 9
    features = torch.zeros(1, 8, side, side, requires_grad=True)
    drawn = model.draw_detail(features, torch.zeros(1, 3, side, side), torch.zeros(1, 48, side, side))
    middle = side // 2 * 4
    drawn[..., middle : middle + 4, middle : middle + 4].sum().backward()
    rows = features.grad.abs().sum((0, 1, 3)).nonzero()[:, 0]
    reach = max(side // 2 - int(rows.min()), int(rows.max()) - side // 2)
    assert RADIUS - 6 < reach <= RADIUS


def test_the_shipped_size_has_at_most_two_and_a_half_million_weights() -> None:
    assert sum(p.numel() for p in ResidualShiftUpsampler(detail=0.5).parameters()) <= 2_500_000


@pytest.mark.parametrize(
    ("detail", "options", "told"),
    [
        (1.5, {}, "detail 1.5 is outside 0..1"),
        (float("nan"), {}, "detail nan is outside 0..1"),
        (0.5, {"steps": 2}, "detail is for one step"),
        (torch.tensor([2.0]), {}, "detail 2.0 is outside 0..1"),
        (torch.tensor([float("nan")]), {}, "detail nan is outside 0..1"),
        (torch.tensor([0.5, 0.5]), {}, r"detail has shape \(2,\); pass one number, or one for each of 1 LR"),
    ],
)
def test_a_detail_that_cannot_be_is_told_in_a_sentence(detail, options, told, detail_upsampler) -> None:
    with pytest.raises(ValueError, match=told):
        detail_upsampler(torch.rand(1, 3, 8, 8), detail=detail, **options)


def test_weights_without_a_branch_have_no_detail(tiny_upsampler) -> None:
    with pytest.raises(ValueError, match="these weights have no detail branch"):
        tiny_upsampler(torch.rand(1, 3, 8, 8), detail=0.5)


def test_a_branch_needs_pixels_and_our_own_network(autoencoders, tiny_unet2d) -> None:
    with pytest.raises(ValueError, match="a detail branch needs an upsampler on pixels"):
        ResidualShiftUpsampler(autoencoder=autoencoders["VQModel"], kappa=2.0, detail=0.5)
    with pytest.raises(ValueError, match="a detail branch needs our own U-Net"):
        ResidualShiftUpsampler(unet2d=tiny_unet2d, detail=0.5)

"""The blur at the end of a degrader: its width in closed form, and that an untrained one changes no bit."""

import pytest
import torch
from torch import Tensor

from degrade import RealisticDegrader
from degrade.networks.softener import PASSES, Softener


def softener_of(amount: float) -> Softener:
    softener = Softener(1)
    with torch.no_grad():
        softener.read[2].bias.fill_(torch.tensor(4 * amount).atanh())
    return softener


def any_look(softener: Softener) -> Softener:
    with torch.no_grad():
        torch.nn.init.normal_(softener.read[2].weight, generator=torch.Generator().manual_seed(0))
    return softener


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 20, 23, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("amount", [-0.1, 0.05, 0.2])
def test_the_variance_of_the_blur_is_what_the_amount_says(amount: float) -> None:
    impulse = torch.zeros(1, 1, 17, 17)
    impulse[..., 8, 8] = 1
    softener, code = softener_of(amount), torch.zeros(1, 1)
    assert softener.amount(code).item() == pytest.approx(amount, abs=1e-6)
    spread = softener(impulse, code)[0, 0].detach()
    squared = (torch.arange(17.0) - 8) ** 2
    assert spread.sum().item() == pytest.approx(1, abs=1e-5)
    assert (spread.sum(0) @ squared).item() == pytest.approx(2 * PASSES * amount, abs=1e-4)
    torch.testing.assert_close(spread, spread.T)


def test_the_widest_blur_leaves_nothing_of_the_finest_pattern() -> None:
    softener = softener_of(0.0)
    with torch.no_grad():
        softener.read[2].bias.fill_(20.0)
    stripes = torch.tensor([1.0, -1.0]).repeat(10).expand(1, 1, 20, 20)
    assert softener(stripes, torch.zeros(1, 1))[..., PASSES:-PASSES].abs().max() < 1e-6
    assert torch.equal(softener(torch.ones(1, 1, 9, 9), torch.zeros(1, 1)), torch.ones(1, 1, 9, 9))


def test_an_untrained_softener_changes_no_bit(images: Tensor) -> None:
    assert torch.equal(Softener(4)(images, torch.randn(3, 4)), images)


def test_a_sample_is_the_same_alone_and_in_a_batch(images: Tensor) -> None:
    softener, codes = any_look(Softener(4)), torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    together = softener(images, codes)
    assert not torch.allclose(together, images, atol=1e-3)
    assert all(torch.equal(together[i], softener(images[i : i + 1], codes[i : i + 1])[0]) for i in range(3))


def test_weights_from_before_softeners_get_one_that_changes_nothing_and_is_saved(
    tiny_degrader: RealisticDegrader, tmp_path
) -> None:
    hr, generator = torch.rand(2, 3, 64, 64), torch.Generator()
    code = torch.randn(2, tiny_degrader.config.code_dim)
    assert tiny_degrader.softener is None
    before = tiny_degrader(hr, code, generator=generator.manual_seed(0))
    tiny_degrader.add_softener()
    assert torch.equal(tiny_degrader(hr, code, generator=generator.manual_seed(0)), before)
    any_look(tiny_degrader.softener)
    after = tiny_degrader(hr, code, generator=generator.manual_seed(0))
    assert not torch.allclose(after, before, atol=1e-3)
    tiny_degrader.save_pretrained(tmp_path)
    loaded = RealisticDegrader.from_pretrained(tmp_path)
    assert torch.equal(loaded(hr, code, generator=generator.manual_seed(0)), after)


def test_strength_0_is_the_clean_downsampling_whatever_the_softener_does(tiny_degrader: RealisticDegrader) -> None:
    tiny_degrader.add_softener()
    any_look(tiny_degrader.softener)
    hr = torch.rand(1, 3, 64, 64)
    clean = torch.nn.functional.avg_pool2d(hr, tiny_degrader.config.scale)
    torch.testing.assert_close(tiny_degrader(hr, strength=0.0), clean)


def test_a_loss_of_the_image_teaches_the_softener_and_the_code(images: Tensor) -> None:
    softener, code = any_look(Softener(4)), torch.ones(3, 4, requires_grad=True)
    softener(images, code).square().mean().backward()
    assert code.grad is not None and code.grad.abs().min() > 0
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in softener.parameters())


def test_codes_stay_the_same_when_the_encoder_begins_to_measure_the_finest_octave(
    tiny_degrader: RealisticDegrader,
) -> None:
    lr = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    before = tiny_degrader.encode(lr)
    tiny_degrader.add_softener()
    torch.testing.assert_close(tiny_degrader.encode(lr), before)
    with torch.no_grad():
        tiny_degrader.encoder.head[0].weight[:, -1] += 1
    assert not torch.allclose(tiny_degrader.encode(lr), before, atol=1e-3)

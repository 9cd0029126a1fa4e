import json

import pytest
import torch
import torch.nn.functional as F

from degrade.degrader import RealisticDegrader
from degrade.networks.unet import RADIUS, run_in_tiles


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_untrained_degrader_is_exactly_the_clean_downsampler() -> None:
    hr = torch.rand(2, 3, 64, 48)
    for steps in (1, 4):
        lr = RealisticDegrader(widths=(8, 8, 8), blocks=1)(hr, steps=steps)
        assert torch.allclose(lr, F.avg_pool2d(hr, 4), atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_scale_divides_the_sides(scale) -> None:
    degrader = RealisticDegrader(scale=scale, widths=(8, 8, 8), blocks=1)
    assert degrader(torch.rand(1, 3, 16 * scale, 21 * scale)).shape == (1, 3, 16, 21)


def test_output_stays_in_range_and_differs_for_every_sample_of_a_batch(tiny_degrader) -> None:
    hr = torch.rand(1, 3, 64, 64).expand(3, -1, -1, -1)
    lr = tiny_degrader(hr)
    assert lr.min() >= 0 and lr.max() <= 1
    assert (lr[0] - lr[1]).abs().mean() > 1e-3 and (lr[1] - lr[2]).abs().mean() > 1e-3


def test_noise_and_code_are_two_separate_sources_of_diversity(tiny_degrader) -> None:
    hr = torch.rand(1, 3, 64, 64)
    code, noise = torch.randn(2, 16), torch.randn(2, 1, 3, 16, 16)
    same = tiny_degrader(hr, code[:1], noise=noise[0])
    assert torch.equal(same, tiny_degrader(hr, code[:1], noise=noise[0]))
    assert not torch.equal(same, tiny_degrader(hr, code[:1], noise=noise[1]))
    assert not torch.equal(same, tiny_degrader(hr, code[1:], noise=noise[0]))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_sample_depends_on_its_own_generator_and_not_on_its_batch(tiny_degrader, steps) -> None:
    hr = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        together = tiny_degrader(hr, steps=steps, generator=generators(1, 2, 3))
        alone = [tiny_degrader(hr[i : i + 1], steps=steps, generator=generators(i + 1)) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_a_degrader_that_compresses_keeps_its_promises_too(jpeg_degrader, tmp_path) -> None:
    """Expect equal images in a batch, in tiles and after saving, except where a last bit changes a JPEG coefficient."""
    hr = torch.rand(2, 3, 320, 272, generator=torch.Generator().manual_seed(0))
    code = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    jpeg_degrader.save_pretrained(tmp_path / "d")
    loaded = RealisticDegrader.from_pretrained(tmp_path / "d").eval()
    with torch.inference_mode():
        together = jpeg_degrader(hr, code, generator=generators(1, 2))
        alone = [jpeg_degrader(hr[i : i + 1], code[i : i + 1], generator=generators(i + 1)) for i in range(2)]
        tiled = jpeg_degrader(hr, code, generator=generators(1, 2), tile=16)
        plain = jpeg_degrader(hr, code, generator=generators(1, 2), steps=4)
        assert torch.equal(together, loaded(hr, code, generator=generators(1, 2)))
    for other in (torch.cat(alone), tiled):
        assert ((together - other).abs() > 1e-4).float().mean() < 0.01
    assert plain.shape == together.shape
    strength, _ = jpeg_degrader.quantiser.strength(code)
    assert (strength > -2).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_runs_in_other_precisions(jpeg_degrader, dtype) -> None:
    degrader = jpeg_degrader.to(dtype)
    hr, photo = torch.rand(1, 3, 64, 64).to(dtype), torch.rand(1, 3, 40, 40).to(dtype)
    lr = degrader(hr, reference=photo, steps=2)
    assert lr.dtype == dtype and lr.shape == (1, 3, 16, 16) and torch.isfinite(lr).all()


def test_drawing_never_touches_the_global_generator(tiny_degrader) -> None:
    before = torch.get_rng_state()
    tiny_degrader(torch.rand(1, 3, 32, 32, generator=torch.Generator()))
    tiny_degrader.sample_codes(3)
    assert torch.equal(before, torch.get_rng_state())


def test_gradients_reach_hr_and_code_at_any_number_of_steps(tiny_degrader) -> None:
    for steps in (1, 3):
        hr = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
        code = torch.zeros(1, 16, requires_grad=True)
        tiny_degrader(hr, code, steps=steps, generator=generators(0)).sum().backward()
        assert hr.grad is not None and torch.isfinite(hr.grad).all() and (hr.grad != 0).any()
        assert code.grad is not None and (code.grad != 0).any()


def test_gradient_in_hr_agrees_with_finite_differences(tiny_degrader, normal) -> None:
    degrader = tiny_degrader.double()
    hr = 0.5 + 0.1 * normal(0, 1, 3, 16, 16).double().clamp(-2, 2)
    code, noise = normal(1, 1, 16).double(), 0.1 * normal(2, 1, 3, 4, 4).double()
    direction = normal(3, 1, 3, 16, 16).double()

    def along(step: float) -> torch.Tensor:
        return degrader((hr + step * direction), code, noise=noise).sum()

    leaf = hr.clone().requires_grad_()
    degrader(leaf, code, noise=noise).sum().backward()
    assert leaf.grad is not None
    numeric = (along(1e-5) - along(-1e-5)) / 2e-5
    assert (leaf.grad * direction).sum().item() == pytest.approx(numeric.item(), rel=1e-4)


def test_tiles_give_the_same_image_as_one_call(tiny_degrader, normal) -> None:
    hr = torch.rand(1, 3, 4 * 300, 4 * 170)
    with torch.inference_mode():
        whole = tiny_degrader(hr, tile=1000, steps=2, generator=generators(5))
        tiled = tiny_degrader(hr, tile=64, steps=2, generator=generators(5))
    assert (whole - tiled).abs().max() < 1e-5


def test_receptive_field_is_within_the_overlap_of_tiles() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        degrader = RealisticDegrader(widths=(8, 8, 8), blocks=2).double()
        torch.nn.init.normal_(degrader.unet.head.weight, std=0.05)  # small: where the LR is clipped nothing reaches it
    side = 2 * RADIUS + 40
    noise = torch.zeros(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    hr = torch.full((1, 3, 4 * side, 4 * side), 0.5, dtype=torch.float64)
    lr = degrader(hr, torch.zeros(1, 16).double(), noise=noise)
    middle = side // 2
    lr[0, :, middle, middle].sum().backward()
    assert noise.grad is not None
    rows = noise.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    reach = max(middle - int(rows.min()), int(rows.max()) - middle)
    assert RADIUS - 16 < reach <= RADIUS


def test_tiles_never_ask_for_more_than_their_size_and_overlap() -> None:
    asked = []

    def network(rows: slice, columns: slice) -> torch.Tensor:
        asked.append((rows.stop - rows.start, columns.stop - columns.start))
        return torch.zeros(1, 1, *asked[-1])

    assert run_in_tiles(network, 1000, 700, tile=128).shape == (1, 1, 1000, 700)
    assert max(max(size) for size in asked) <= 128 + 2 * RADIUS


def test_reference_gives_the_look_of_its_code(tiny_degrader) -> None:
    hr, reference = torch.rand(2, 3, 64, 64), torch.rand(1, 3, 24, 40)
    by_reference = tiny_degrader(hr, reference=reference, generator=generators(1, 2))
    by_code = tiny_degrader(hr, tiny_degrader.encode(reference), generator=generators(1, 2))
    assert torch.equal(by_reference, by_code) and tiny_degrader.encode(reference).shape == (1, 16)


def test_codes_come_from_the_bank_or_without_one_from_the_prior(tiny_degrader) -> None:
    tiny_degrader.set_bank(torch.full((5, 16), 7.0))
    assert torch.equal(tiny_degrader.sample_codes(3), torch.full((3, 16), 7.0))  # no spread, no jitter
    without = RealisticDegrader(widths=(8, 8, 8), blocks=1)
    prior = without.sample_codes(4000, generator=torch.Generator().manual_seed(0))
    assert abs(float(prior.mean())) < 0.02 and float(prior.std()) == pytest.approx(1, abs=0.02)


def test_saved_and_loaded_degrader_makes_the_same_lr(tiny_degrader, tmp_path) -> None:
    tiny_degrader.save_pretrained(tmp_path / "d")
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    again = RealisticDegrader.from_pretrained(tmp_path / "d").eval()
    hr = torch.rand(2, 3, 64, 64)
    assert torch.equal(again.bank, tiny_degrader.bank)
    assert torch.equal(tiny_degrader(hr, generator=generators(1, 2)), again(hr, generator=generators(1, 2)))
    assert json.loads((tmp_path / "d" / "config.json").read_text())["_class_name"] == "RealisticDegrader"


def test_pickled_weights_are_not_loaded(tiny_degrader, tmp_path) -> None:
    tiny_degrader.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match="no degrader"):
        RealisticDegrader.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["tiny-x9", "./nowhere", "runs/none/degrader"])
def test_a_name_that_is_not_there_lists_the_choices_without_asking_the_hub(name, monkeypatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(ValueError, match=f"no degrader '{name}': .* has no config.json; use a shipped name"):
        RealisticDegrader.from_pretrained(name)


@pytest.mark.parametrize(
    ("hr", "options", "sentence"),
    [
        (torch.rand(1, 3, 250, 248), {}, "hr height 250 is not a multiple of scale 4; crop to 248 or pad=True"),
        (torch.rand(3, 64, 64), {}, r"pass RGB images as \(B, 3, H, W\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), {}, r"hr.float\(\) / 255"),
        (torch.full((1, 3, 64, 64), 255.0), {}, r"ranges over 255..255; pass floats in \[0, 1\]"),
        (torch.rand(1, 3, 64, 64), {"steps": 9}, r"steps 9 is outside 1\.\.4"),
        (torch.rand(2, 3, 64, 64), {"code": torch.zeros(3, 16)}, r"code \(3, 16\) does not fit; pass \(2, 16\)"),
        (torch.rand(1, 3, 64, 64), {"code": torch.zeros(1, 16), "reference": torch.rand(1, 3, 32, 32)}, "one of them"),
    ],
)
def test_input_that_does_not_fit_raises_one_sentence(tiny_degrader, hr, options, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        tiny_degrader(hr, **options)


def test_padding_repeats_the_border_when_asked(tiny_degrader) -> None:
    assert tiny_degrader(torch.rand(1, 3, 62, 65), pad=True).shape == (1, 3, 16, 17)

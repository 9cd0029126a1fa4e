"""Every shipped degrader draws looks, follows a reference, and has directions that do what they are called."""

import pytest
import torch

from degrade.degrader import WEIGHTS_DIR, RealisticDegrader
from degrade.images.tensors import to_tensor
from degrade.networks.texture import high_pass

NAMES = RealisticDegrader.shipped_names()


@pytest.fixture(scope="module", params=NAMES)
def degrader(request) -> RealisticDegrader:
    return RealisticDegrader.from_pretrained(request.param).eval()


@pytest.fixture
def hr(photographs) -> torch.Tensor:
    return to_tensor(photographs["chelsea"][:256, :256].copy())


def grain(lr: torch.Tensor) -> float:
    return float(high_pass(lr).square().mean().sqrt()) * 255


def test_there_are_the_best_weights_and_those_that_anyone_may_use() -> None:
    assert NAMES == ["tiny-x4", "tiny-x4-free"]
    assert all((WEIGHTS_DIR / name / "README.md").is_file() for name in NAMES)


@torch.inference_mode()
def test_samples_differ_and_a_seed_repeats_them(degrader, hr) -> None:
    first, again = (degrader(hr.repeat(3, 1, 1, 1), generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again) and first.isfinite().all()
    assert min(float((first[i] - first[j]).abs().mean()) for i, j in ((0, 1), (0, 2), (1, 2))) > 1 / 255


@torch.inference_mode()
def test_a_noisy_reference_gives_noise_and_a_soft_one_softness(degrader, hr, photographs, normal) -> None:
    clean = torch.nn.functional.avg_pool2d(to_tensor(photographs["coffee"][:256, :256].copy()), 4)
    noisy = (clean + 15 / 255 * normal(0, *clean.shape)).clamp(0, 1)
    soft = torch.nn.functional.avg_pool2d(clean, 3, stride=1, padding=1, count_include_pad=False)
    plain, grainy, blurred = (
        grain(degrader(hr, reference=lr, generator=torch.Generator().manual_seed(0))) for lr in (clean, noisy, soft)
    )
    assert grainy > 1.3 * plain and blurred < 0.8 * plain


@torch.inference_mode()
def test_a_code_that_is_moved_towards_noise_gives_more_of_it(degrader, hr) -> None:
    code = degrader.sample_codes(8, generator=torch.Generator().manual_seed(0))
    images = hr.repeat(8, 1, 1, 1)
    less, more = (
        grain(degrader(images, code=degrader.move(code, noise=by), generator=torch.Generator().manual_seed(0)))
        for by in (-1.0, 1.0)
    )
    assert more > 1.2 * less

import math

import pytest
import torch

from degrade.images.tensors import to_tensor
from degrade.networks.block_quantiser import (
    CHROMA_STEPS,
    HIDDEN,
    LUMA_STEPS,
    UNCOMPRESSED,
    BlockQuantiser,
    block_statistics,
    coarseness_of_quality,
    cosine_basis,
    quantise_blocks,
)
from degrade.ops.compress import jpeg


@pytest.fixture
def photo(photographs) -> torch.Tensor:
    return torch.cat([to_tensor(photographs["astronaut"][:128, 100:228]), to_tensor(photographs["coffee"][:128, :128])])


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


@pytest.mark.parametrize("quality", [20, 50, 80, 95])
def test_it_loses_what_libjpeg_loses(photo, quality) -> None:
    real = jpeg(photo, [quality] * 2)
    coarseness = torch.full((2,), coarseness_of_quality(quality))
    ours = ((quantise_blocks(photo * 2 - 1, coarseness, torch.ones(2)) + 1) / 2).clamp(0, 1)
    # libjpeg also rounds its tables, its colours and its pixels; what is left is far below what JPEG does
    assert psnr(ours, real) > max(38, psnr(photo, real) + 5)


@pytest.mark.parametrize("quality", [20, 50, 75, 90])
def test_a_flat_image_lands_on_libjpegs_grey_level(quality) -> None:
    grey = torch.arange(90, 170, 6).view(-1, 1, 1, 1).expand(-1, 3, 16, 16) / 255
    real = jpeg(grey, [quality] * len(grey))
    ours = (
        quantise_blocks(grey * 2 - 1, torch.full((len(grey),), coarseness_of_quality(quality)), torch.ones(1)) + 1
    ) / 2
    assert (ours - real).abs().max() < 0.6 / 255


def test_mixed_precision_changes_neither_blocks_nor_what_is_read_of_them(photo) -> None:
    coarseness, halved = torch.tensor([0.3, 1.0]), torch.ones(2)
    full = quantise_blocks(photo * 2 - 1, coarseness, halved), block_statistics(photo[:, :1])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = quantise_blocks(photo * 2 - 1, coarseness, halved), block_statistics(photo[:, :1])
    assert all(torch.equal(a, b) for a, b in zip(full, mixed, strict=True))


def test_the_cosine_basis_is_orthonormal_and_begins_with_the_mean() -> None:
    basis = cosine_basis()
    assert torch.allclose(basis @ basis.T, torch.eye(8, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(basis[0], torch.full((8,), 8**-0.5, dtype=torch.float64))


def test_tables_are_those_of_the_standard() -> None:
    luma, chroma = torch.tensor(LUMA_STEPS), torch.tensor(CHROMA_STEPS)
    assert luma.shape == chroma.shape == (8, 8) and luma.sum() == 3688 and luma[0, 7] == 61 and luma[7, 0] == 72
    assert chroma[0, 0] == 17 and chroma[7, 0] == 99 and torch.equal(chroma, chroma.T)


def test_coarseness_is_libjpegs_rule() -> None:
    assert [coarseness_of_quality(q) for q in (25, 50, 75, 100)] == [2, 1, 0.5, UNCOMPRESSED]


def test_untrained_it_changes_nothing(photo) -> None:
    assert torch.equal(BlockQuantiser(16)(photo, torch.randn(2, 16)), photo)


def test_every_image_is_quantised_by_its_own_code_at_any_size(photo) -> None:
    quantiser = BlockQuantiser(1)
    with torch.no_grad():  # log coarseness 0 for code 1, none for code 0
        quantiser.read[0].weight.fill_(1.0)
        quantiser.read[0].bias.zero_()
        quantiser.read[2].weight[0].fill_(
            -math.log(UNCOMPRESSED) / HIDDEN / torch.nn.functional.silu(torch.tensor(1.0))
        )
    odd = photo[..., :45, :70]
    made = quantiser(odd, torch.tensor([[0.0], [1.0]]))
    assert torch.equal(made[0], odd[0]) and made.shape == odd.shape
    whole = quantise_blocks(odd, torch.ones(2), torch.zeros(2))
    assert torch.allclose(made[1], whole[1], atol=1e-4)


def test_gradient_passes_straight_through_to_the_image_and_none_to_the_code(photo) -> None:
    image, code = photo[..., :32, :32].clone().requires_grad_(), torch.zeros(2, 16, requires_grad=True)
    quantiser = BlockQuantiser(16)
    with torch.no_grad():
        quantiser.read[2].bias.copy_(torch.tensor([0.0, 0.0]))
    quantiser(image, code).sum().backward()
    assert torch.allclose(image.grad, torch.ones_like(image), atol=1e-4)
    assert code.grad is None


def test_only_blocks_on_the_grid_make_the_two_grids_differ(photo) -> None:
    luma = jpeg(photo, [30, 30])[:, :1]
    clean = photo[:, :1]

    def difference(image: torch.Tensor) -> float:
        return float(block_statistics(image)[:, 15:].abs().mean())

    assert difference(luma) > 3 * difference(clean)
    assert difference(luma[..., 3:, 5:]) < difference(luma) / 2

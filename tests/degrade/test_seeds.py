import pytest
import torch

from degrade.mix import DegradationMix
from degrade.recipes.recipe import Recipe
from degrade.seeds import torch_seed


def drawn(seed: int) -> list[float]:
    return torch.rand(4, generator=torch.Generator().manual_seed(torch_seed(seed))).tolist()


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_seeds_that_torch_takes_stay_as_they_are(seed: int) -> None:
    assert torch_seed(seed) == seed and drawn(seed)


def test_larger_seeds_all_differ_and_are_no_remainder() -> None:
    large = [2**64, 2**64 + 1, 2**65, 2**64 + 5, 10**100]
    assert len({torch_seed(seed) for seed in [*large, 0, 1, 5]}) == 8
    assert all(drawn(seed) == drawn(seed) for seed in large)


def test_a_negative_seed_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="seed -1 is negative; give a whole number from 0 on"):
        torch_seed(-1)


def test_a_mix_draws_from_seeds_of_any_size(tiny_degrader) -> None:
    for mix in (DegradationMix(tiny_degrader, None), DegradationMix(None, Recipe.preset("real-esrgan"))):
        one, again, other = mix.draw([2**64 + 5, 2**64 + 5, 5])
        assert one == again != other

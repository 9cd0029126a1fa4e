import json
from collections import Counter

import pytest
import torch

from degrade.adjustment import Adjustment
from degrade.degrader import RealisticDegrader
from degrade.mix import DegradationMix, apply_records, fingerprint, one_thread
from degrade.recipes.recipe import Recipe

SEEDS = [3, 141, 59, 26]


@pytest.fixture
def hr(photographs):
    crops = [photographs["chelsea"][y : y + 64, 100:164] for y in (40, 80, 120, 160)]
    return torch.stack([torch.from_numpy(crop).permute(2, 0, 1) for crop in crops]).float() / 255


@pytest.fixture
def mix(tiny_degrader):
    return DegradationMix(tiny_degrader, Recipe.preset("real-esrgan"), mix=0.5)


def test_a_seed_gives_the_same_lr_alone_and_in_a_batch(mix, hr):
    together = mix(hr, SEEDS)
    alone = torch.cat([mix(image[None], [seed]) for image, seed in zip(hr, SEEDS, strict=True)])
    assert (together - alone).abs().max() <= 1.001 / 255
    assert (together != alone).float().mean() < 1e-3


def test_exact_bytes_depend_neither_on_the_batch_nor_on_threads(mix, hr):
    records = mix.draw(SEEDS)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = mix.degrade_exactly(hr, records)
        assert torch.get_num_threads() == 2  # what the caller set is given back
        torch.set_num_threads(1)
        alone = [mix.degrade_exactly(image[None], [record]) for image, record in zip(hr, records, strict=True)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together, torch.cat(alone))


def test_exact_bytes_come_from_one_image_on_one_thread(mix, hr, monkeypatch):
    seen = []  # small networks may well give equal sums on two threads, large ones do not

    def spy(images, records, degrader):
        seen.append((len(images), torch.get_num_threads()))
        return images[..., ::4, ::4]

    before = torch.get_num_threads()
    monkeypatch.setattr("degrade.mix.apply_records", spy)
    try:
        torch.set_num_threads(2)
        mix.degrade_exactly(hr, mix.draw(SEEDS))
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, 1)] * 4


def test_a_record_makes_its_lr_again_after_json(mix, hr):
    records = mix.draw(SEEDS)
    assert torch.equal(mix.degrade(hr, json.loads(json.dumps(records))), mix.degrade(hr, records))
    assert {record["kind"] for record in records} == {"recipe", "learned"}


def test_different_seeds_give_different_degradations(mix, hr):
    same = hr[:1].expand(4, -1, -1, -1)
    lr = mix(same, SEEDS)
    assert all((lr[i] - lr[j]).abs().max() > 4 / 255 for i in range(4) for j in range(i))


@pytest.mark.parametrize(("share", "low", "high"), [(0, 0, 0), (0.3, 0.25, 0.35), (1, 1, 1)])
def test_the_recipe_is_drawn_as_often_as_mix_says(tiny_degrader, share, low, high):
    mix = DegradationMix(tiny_degrader, Recipe.preset("bicubic"), mix=share)
    kinds = Counter(record["kind"] for record in mix.draw(range(1000)))
    assert low <= kinds["recipe"] / 1000 <= high


def test_given_codes_take_the_place_of_the_bank(tiny_degrader):
    codes = torch.arange(3.0)[:, None].expand(3, 16)
    records = DegradationMix(tiny_degrader, None, codes=codes).draw(range(40))
    assert {tuple(record["code"]) for record in records} == {(float(n),) * 16 for n in range(3)}


def test_lr_is_eight_bit_and_yet_passes_gradients(tiny_degrader, hr):
    hr.requires_grad_()
    lr = DegradationMix(tiny_degrader, None)(hr, SEEDS)
    assert lr.shape == (4, 3, 16, 16)
    assert torch.allclose((lr * 255).round(), lr * 255, atol=1e-3) and lr.min() >= 0 and lr.max() <= 1
    lr.sum().backward()
    assert hr.grad.abs().sum() > 0


def test_without_seeds_every_call_differs_and_global_random_state_stays(mix, hr):
    before = torch.get_rng_state()
    assert not torch.equal(mix(hr), mix(hr))
    assert torch.equal(torch.get_rng_state(), before)


def test_mistakes_are_one_sentence(tiny_degrader, hr):
    bicubic = Recipe.preset("bicubic")
    with pytest.raises(ValueError, match="neither a degrader nor a recipe"):
        DegradationMix(None, None)
    with pytest.raises(ValueError, match="mix 1.5 is not a probability"):
        DegradationMix(tiny_degrader, bicubic, mix=1.5)
    with pytest.raises(ValueError, match="is for scales up to 4, not 5"):
        DegradationMix(tiny_degrader, None, scale=5)
    with pytest.raises(ValueError, match="a recipe has ranges of its own"):
        DegradationMix(tiny_degrader, bicubic, adjustment=Adjustment(strength=(0.5, 0.5)))
    with pytest.raises(ValueError, match="these weights have no directions"):
        DegradationMix(tiny_degrader, None, adjustment=Adjustment(blur=1.0))
    with pytest.raises(ValueError, match=r"steps 5 is outside 1\.\.4"):
        DegradationMix(tiny_degrader, None, steps=5)
    with pytest.raises(ValueError, match="1 records for 4 images"):
        apply_records(hr, [{}])
    with pytest.raises(ValueError, match="needs the degrader that drew it"):
        apply_records(hr, DegradationMix(tiny_degrader, None).draw(SEEDS))


def test_threads_are_given_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_a_fingerprint_is_of_the_weights_and_not_of_their_place(tiny_degrader, tmp_path):
    tiny_degrader.save_pretrained(tmp_path / "a")
    loaded = RealisticDegrader.from_pretrained(tmp_path / "a")
    assert fingerprint(loaded) == fingerprint(tiny_degrader)
    with torch.no_grad():
        loaded.bank[0, 0] += 1e-6
    assert fingerprint(loaded) != fingerprint(tiny_degrader)

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from degrade.degrader import RealisticDegrader
from degrade.images.codec import encode_image
from degrade.images.geometry import reduce_by
from degrade.mix import DegradationMix
from upsample.training.answers import StoredAnswers, make_answers
from upsample.training.data import PairConfig, PairData, shard_pairs
from upsample.training.online import ReplayBuffer, make_online


@pytest.fixture
def pair_folders(tmp_path: Path, photographs) -> tuple[str, str]:
    for side in ("hr", "lr"):
        (tmp_path / side).mkdir()
    for name, image in photographs.items():
        hr = image[:256, :256]
        for side, part in (("hr", hr), ("lr", reduce_by(hr, 4))):
            (tmp_path / side / f"{name}.png").write_bytes(encode_image(part, "png"))
    return str(tmp_path / "hr"), str(tmp_path / "lr")


@pytest.fixture
def shards(tmp_path: Path, photographs) -> str:
    """Two tars of unequal length, as someone else's tool might write them."""
    import io
    import tarfile

    images = [image[top : top + 128, :128] for image in photographs.values() for top in (0, 100)]
    for number, some in enumerate((images[:1], images[1:])):
        with tarfile.open(tmp_path / f"x-{number:06d}.tar", "w") as tar:
            for index, image in enumerate(some):
                for role, part in (("gt", image), ("lq", reduce_by(image, 4))):
                    data = encode_image(part, "png")
                    info = tarfile.TarInfo(f"{index:04d}.{role}.png")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return str(tmp_path / "x-{000000..000001}.tar")


def data(config: PairConfig, **sizes) -> PairData:
    return PairData(config, **{"scale": 4, "hr_crop": 64, "batch_size": 6, "seed": 0, **sizes})


def fits(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """How far LR is from the reduced HR, for each pair."""
    return (torch.nn.functional.avg_pool2d(batch["hr"], 4) - batch["lr"]).abs().mean((1, 2, 3))


def test_crops_of_folders_and_of_shards_are_of_the_same_place_however_they_are_turned(pair_folders, shards) -> None:
    for config in (PairConfig(pairs=(pair_folders,)), PairConfig(shards=(shards,))):
        batch = data(config, batch_size=24)[0]
        assert batch["hr"].shape == (24, 3, 64, 64) and batch["lr"].shape == (24, 3, 16, 16)
        assert fits(batch).max() < 0.02 and not batch["online"].any()


def test_other_tones_are_the_same_for_both_images_and_can_be_switched_off(pair_folders) -> None:
    never, always = (data(PairConfig(pairs=(pair_folders,), tones=tones), batch_size=24)[0] for tones in (0.0, 1.0))
    assert fits(always).max() < 0.02

    def levels(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (batch["hr"] * 255 - (batch["hr"] * 255).round()).abs().amax((1, 2, 3))

    assert levels(never).max() < 1e-3 and (levels(always) > 1e-3).float().mean() > 0.9
    assert always["hr"].std() < never["hr"].std() and always["hr"].min() >= 0 and always["hr"].max() <= 1


def test_a_batch_depends_on_seed_and_number_alone(pair_folders, photo_folder) -> None:
    config = PairConfig(pairs=(pair_folders,), recipes=("real-esrgan-light",), hr_dir=str(photo_folder))
    first, again, other = data(config)[5], data(config)[5], data(config)[6]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["hr"], other["hr"])


def test_kinds_are_mixed_by_their_weights(pair_folders, photo_folder) -> None:
    config = PairConfig(
        pairs=(pair_folders,), online_degrader="tiny-x4", hr_dir=str(photo_folder), weights=(5, 1, 5, 3)
    )
    share = torch.cat([data(config)[number]["online"] for number in range(50)]).float().mean()
    assert 0.65 < share < 0.85  # 3 of 4: kinds that are not there do not count


def test_what_a_degrader_makes_online_is_what_synth_would_write(photo_folder, tiny_degrader) -> None:
    config = PairConfig(recipes=("bicubic",), online_degrader="tiny-x4", hr_dir=str(photo_folder), weights=(0, 0, 1, 1))
    mix = DegradationMix(tiny_degrader, None)
    batch = data(config)[1]
    rows = batch["online"].nonzero()[:, 0]
    assert 0 < len(rows) < 6 and batch["lr"][rows].abs().max() == 0
    _, lr = make_online(batch, mix)
    alone = mix.degrade_exactly(batch["hr"][rows], mix.draw(batch["seed"][rows].tolist()))
    torch.testing.assert_close(lr[rows], alone, rtol=0, atol=1.01 / 255)  # a rounding may turn with the batch
    kept = (~batch["online"]).nonzero()[:, 0]
    assert torch.equal(lr[kept], batch["lr"][kept])


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (PairConfig(), "give shards, pairs, a recipe or an online degrader"),
        (PairConfig(recipes=("bicubic",)), "of HR photographs"),
    ],
)
def test_nothing_to_learn_from_is_told_in_a_sentence(config: PairConfig, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        data(config)


def test_photographs_smaller_than_the_crop_are_told(photo_folder) -> None:
    with pytest.raises(ValueError, match="no HR photograph of .* has sides of 2048 px"):
        data(PairConfig(recipes=("bicubic",), hr_dir=str(photo_folder)), hr_crop=2048)
    with pytest.raises(ValueError, match="hr_crop 66 is not a multiple of the scale, 4; use 64"):
        data(PairConfig(recipes=("bicubic",), hr_dir=str(photo_folder)), hr_crop=66)


def test_a_shard_whose_sample_lost_an_image_is_named(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("0007.hr.png")
        tar.addfile(info)
    with pytest.raises(ValueError, match=r"0007 in .*a.tar has only its hr image"):
        shard_pairs(str(tmp_path / "a.tar"))


def test_a_broken_pair_of_a_shard_is_named_and_another_drawn_and_only_broken_ones_are_an_error(shards) -> None:
    pairs = data(PairConfig(shards=(shards,)))
    broken = pairs.shards[0]
    pairs.shards[0] = (replace(broken[0], bytes_len=40), broken[1])
    with pytest.warns(UserWarning, match=r"not used: .*(truncated|corrupt)"):
        batches = [pairs[number] for number in range(4)]
    assert max(fits(batch).max() for batch in batches) < 0.02
    (told,) = pairs.left_out
    assert "truncated" in told or "corrupt" in told
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="20 pairs .* 128x128 is smaller than the crop, 256"),
    ):
        data(PairConfig(shards=(shards,)), hr_crop=256)[0]


def test_data_can_be_sent_to_another_process_after_use(pair_folders, photo_folder) -> None:
    pairs = data(PairConfig(pairs=(pair_folders,), recipes=("bicubic",), hr_dir=str(photo_folder)))
    before = pairs[3]
    assert all(torch.equal(before[name], other) for name, other in pickle.loads(pickle.dumps(pairs))[3].items())


def test_the_pool_gives_back_every_pair_whole_and_mixes_old_with_new() -> None:
    tensors: dict[str, torch.Tensor] = {}
    pool, generator = ReplayBuffer(8, tensors), torch.Generator().manual_seed(0)
    seen = []
    for number in range(6):
        lr = torch.full((4, 3, 2, 2), number / 255)
        hr, lr = pool.swap(lr.repeat_interleave(4, 2).repeat_interleave(4, 3), lr, generator)
        assert torch.equal(hr[:, :, ::4, ::4], lr)  # partners stay together
        seen.append(sorted((lr[:, 0, 0, 0] * 255).round().int().tolist()))
    assert seen[:2] == [[0] * 4, [1] * 4]  # while it fills, what goes in comes out
    assert all(value < number for number, batch in enumerate(seen[2:], 2) for value in batch)
    assert any(len(set(batch)) > 1 for batch in seen[2:])
    assert tensors["pool_lr"].dtype == torch.uint8 and len(tensors["pool_lr"]) == 8
    again = ReplayBuffer(8, {name: tensor.clone() for name, tensor in tensors.items()})
    ones = torch.ones(4, 3, 8, 8), torch.ones(4, 3, 2, 2)
    first = pool.swap(*ones, torch.Generator().manual_seed(1))
    assert all(
        torch.equal(a, b) for a, b in zip(first, again.swap(*ones, torch.Generator().manual_seed(1)), strict=True)
    )


def test_a_pool_of_one_batch_takes_batches_of_any_size() -> None:
    pool, generator = ReplayBuffer(4, {}), torch.Generator().manual_seed(0)
    for count in (3, 4, 1, 4, 2):
        hr, lr = pool.swap(torch.rand(count, 3, 8, 8), torch.rand(count, 3, 2, 2), generator)
        assert len(hr) == len(lr) == count


def test_stored_answers_are_the_teachers_on_the_same_noise(tmp_path: Path, pair_folders, tiny_upsampler) -> None:
    from upsample.training.teacher import teacher_answer

    pairs = data(PairConfig(pairs=(pair_folders,)), batch_size=2)
    autocast = torch.autocast("cpu", enabled=False)
    file = tmp_path / "answers.safetensors"
    make_answers(tiny_upsampler, [pairs[0], pairs[1]], file, steps=4, device="cpu", autocast=autocast)
    batch = StoredAnswers(file, seed=0).batch(3, 8)
    lr = batch["lr"] * 2 - 1
    anchor = tiny_upsampler.anchor(lr)
    xt = tiny_upsampler.scheduler.prior_sample(anchor, batch["noise"])
    answer = teacher_answer(tiny_upsampler, lr, anchor, xt, steps=4, autocast=autocast)
    torch.testing.assert_close(batch["answer"], answer, rtol=0, atol=2e-3)  # kept in 16 bits
    assert fits(batch).max() < 0.02 and not batch["generated"].any()


def test_a_real_degrader_can_be_named(photo_folder) -> None:
    mix = DegradationMix(RealisticDegrader.from_pretrained("tiny-x4"), None)
    _, lr = make_online(data(PairConfig(online_degrader="tiny-x4", hr_dir=str(photo_folder)))[0], mix)
    assert lr.std() > 0.05 and np.isfinite(lr.numpy()).all()


def test_pairs_whose_hr_the_scale_does_not_divide_are_cut_to_what_lr_shows(tmp_path: Path, photographs) -> None:
    hr = photographs["chelsea"][:131, :150].copy()
    for side, image in (("hr", hr), ("lr", reduce_by(hr, 4))):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.png").write_bytes(encode_image(image, "png"))
    pairs = data(PairConfig(pairs=((str(tmp_path / "hr"), str(tmp_path / "lr")),)), batch_size=2)
    (used, lr), *_ = pairs.pairs
    assert pairs.left_out == [] and np.array_equal(used, hr[:128, :148]) and lr.shape == (32, 37, 3)

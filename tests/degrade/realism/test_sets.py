"""Sets of crops: the halves of the real images share nothing, and every made set has the same HR."""

import tarfile
from pathlib import Path

import numpy as np

from degrade.images.codec import encode_image
from degrade.images.crops import ImagePool, list_lr
from degrade.mix import DegradationMix
from degrade.realism.sets import clean_downsampling, gather


def test_the_two_halves_of_the_real_images_share_no_image(real: ImagePool) -> None:
    first, second = real.halves(seed=0)
    assert len(first) == len(second) == 2  # of six: an even number in each half
    assert not {source.name for source in first} & {source.name for source in second}
    assert real.halves(seed=1) != real.halves(seed=0) == real.halves(seed=0)


def test_the_first_half_of_the_crops_shows_other_images_than_the_second(real: ImagePool) -> None:
    crops = real.crops(16, 32, seed=0, among=real.sources[:2], grid=8)
    whole = [real.image(source) for source in real.sources[:2]]
    for number, crop in enumerate(crops):
        views = np.lib.stride_tricks.sliding_window_view(whole[number // 8], (32, 32), (0, 1))[::8, ::8]
        assert (views == crop.transpose(2, 0, 1)).all((2, 3, 4)).any()


def test_all_sets_are_made_of_the_same_hr_and_are_as_many(
    real: ImagePool, pool: ImagePool, mix: DegradationMix
) -> None:
    sets = gather(real, pool, {"ours": mix}, count=8, side=32, seed=0, codes_from_real=False)
    assert set(sets.made) == {"real", "ours", "real_esrgan", "real_esrgan_light", "bicubic"}
    assert all(crops.shape == (8, 32, 32, 3) and crops.dtype == np.uint8 for crops in (sets.real, *sets.made.values()))
    error = np.abs(sets.made["bicubic"].astype(float) - clean_downsampling(sets.hr, 4)).mean()
    assert error < 4
    again = gather(real, pool, {"ours": mix}, count=8, side=32, seed=0, codes_from_real=False)
    assert all((sets.made[name] == again.made[name]).all() for name in sets.made)


def test_looks_can_come_from_the_half_that_is_not_measured_against(
    real: ImagePool, pool: ImagePool, mix: DegradationMix
) -> None:
    bank, reference = (
        gather(real, pool, {"ours": mix}, count=4, side=32, seed=0, codes_from_real=from_real)
        for from_real in (False, True)
    )
    assert (bank.made["ours"] != reference.made["ours"]).any()
    assert (bank.made["bicubic"] == reference.made["bicubic"]).all()


def test_images_too_small_for_a_crop_are_named(lr_folder: Path) -> None:
    (lr_folder / "tiny.png").write_bytes(encode_image(np.zeros((20, 20, 3), np.uint8), "png"))
    (lr_folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    pool = ImagePool.open(list_lr(lr_folder), min_side=32)
    assert len(pool.sources) == 6
    assert [line.split(":")[0] for line in pool.left_out] == ["broken.png", "tiny.png"]


def test_real_lr_is_read_from_the_lr_members_of_shards(tmp_path: Path, lr_folder: Path) -> None:
    image = next(lr_folder.iterdir())
    with tarfile.open(tmp_path / "pairs-000000.tar", "w") as tar:
        for role in ("hr", "lr"):
            tar.add(image, f"000.{role}.jpg")
    (source,) = list_lr(tmp_path / "pairs-000000.tar")
    assert source.name == "pairs-000000.tar/000.lr.jpg" and source.read() == image.read_bytes()

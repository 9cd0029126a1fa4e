import math
from pathlib import Path

import pytest
import torch

from degrade.networks.block_quantiser import UNCOMPRESSED
from degrade.recipes.blur import DrawnDiskBlur
from degrade.recipes.compress import DrawnJpeg, DrawnQuantise, DrawnWebp
from degrade.recipes.recipe import DrawnRecipe
from degrade.recipes.resize import DrawnResize
from degrade.recipes.steps import DrawnStep
from degrade.training.data import DataConfig, TrainingData, compression_of


@pytest.fixture
def pair_folders(tmp_path, photographs) -> tuple[str, str]:
    from degrade.images.codec import encode_image
    from degrade.images.geometry import reduce_by

    for name, image in photographs.items():
        hr = image[:256, :256]
        for side, part in (("hr", hr), ("lr", reduce_by(hr, 4))):
            (tmp_path / side).mkdir(exist_ok=True)
            (tmp_path / side / f"{name}.png").write_bytes(encode_image(part, "png"))
    return str(tmp_path / "hr"), str(tmp_path / "lr")


def test_batches_are_a_function_of_seed_and_step(photo_folder, pair_folders) -> None:
    config = DataConfig(
        hr_dir=str(photo_folder), recipes=("real-esrgan",), pairs=(pair_folders,), lr_dirs=(pair_folders[1],)
    )
    options = {"scale": 4, "hr_crop": 64, "batch_size": 8, "seed": 3}
    data, again = TrainingData(config, **options), TrainingData(config, **options)
    for name in ("hr", "lr", "paired"):
        assert torch.equal(data[17][name], again[17][name])
    assert not torch.equal(data[17]["hr"], data[18]["hr"])
    assert data[0]["hr"].shape == (8, 3, 64, 64) and data[0]["lr"].shape == (8, 3, 16, 16)


def test_real_pairs_stay_aligned_and_unpaired_ones_are_marked(pair_folders, photo_folder) -> None:
    paired = TrainingData(DataConfig(pairs=(pair_folders,)), scale=4, hr_crop=64, batch_size=4, seed=0)[0]
    assert paired["paired"].all()
    assert (torch.nn.functional.avg_pool2d(paired["hr"], 4) - paired["lr"]).abs().mean() < 0.01
    config = DataConfig(hr_dir=str(photo_folder), recipes=("bicubic",), lr_dirs=(pair_folders[1],), weights=(0, 0, 1))
    assert not TrainingData(config, scale=4, hr_crop=64, batch_size=4, seed=0)[0]["paired"].any()


def test_a_shifted_pair_is_left_out_and_said_so(pair_folders, photographs) -> None:
    import numpy as np

    from degrade.images.codec import encode_image, read_image

    path = Path(pair_folders[1]) / "coffee.png"
    path.write_bytes(encode_image(np.ascontiguousarray(np.roll(read_image(path), 2, axis=1)), "png"))
    data = TrainingData(DataConfig(pairs=(pair_folders,)), scale=4, hr_crop=64, batch_size=4, seed=0)
    assert len(data.pairs) == 2 and "coffee.png: LR is shifted by (+" in " ".join(data.left_out)


def test_an_exposure_difference_of_a_pair_is_undone(photographs) -> None:
    import numpy as np

    from degrade.images.geometry import reduce_by
    from degrade.images.real_pairs import match_brightness

    clean = reduce_by(photographs["chelsea"][:256, :256], 4)
    darker = (clean * 0.9 + 5).astype(np.uint8)
    assert np.abs(match_brightness(darker, clean).astype(int) - clean).mean() < 1


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (DataConfig(), "give a recipe or real pairs"),
        (DataConfig(hr_dir="hr", lr_dirs=("lr",)), "give a recipe or real pairs too"),
        (DataConfig(recipes=("bicubic",)), "recipes need HR photographs"),
    ],
)
def test_data_that_cannot_teach_are_told_in_a_sentence(config, told) -> None:
    with pytest.raises(ValueError, match=told):
        TrainingData(config, scale=4, hr_crop=64, batch_size=4, seed=0)


def test_without_hr_the_photographs_to_learn_from_stand_in_reduced(photo_folder) -> None:
    config = DataConfig(lr_dirs=(str(photo_folder),), recipes=("bicubic",), weights=(0.5, 0, 0.5))
    data = TrainingData(config, scale=4, hr_crop=64, batch_size=4, seed=0)
    assert max(data.hr.image(source).shape[0] for source in data.hr.sources) == 512 // 4
    batch = data[0]
    assert batch["hr"].shape == (4, 3, 64, 64) and batch["lr"].shape == (4, 3, 16, 16)
    with pytest.raises(ValueError, match="no HR photograph has sides of 1024 px.*too small to stand in, reduced by 4"):
        TrainingData(config, scale=4, hr_crop=256, batch_size=4, seed=0)


def test_what_a_recipe_says_of_jpeg_is_known_only_when_it_comes_last_at_lr_size() -> None:
    def said_of(*steps: DrawnStep) -> tuple[float, float]:
        return compression_of(DrawnRecipe(scale=4, steps=list(steps)))

    jpeg = DrawnJpeg(op="jpeg", quality=50, chroma="4:2:0", codec="libjpeg")
    resize = DrawnResize(op="resize", of="lr", factor=1.0, mode="area", antialias=False)
    blur, webp = DrawnDiskBlur(op="blur", kernel="disk", radius_px=1.0), DrawnWebp(op="webp", quality=50)
    assert said_of(resize, jpeg) == (0.0, 1.0)
    assert said_of(resize, jpeg.model_copy(update={"chroma": "4:4:4"})) == (0.0, 0.0)
    assert said_of(resize.model_copy(update={"factor": 1.2}), jpeg, resize) == (math.log(UNCOMPRESSED), 0.0)
    assert said_of(resize, jpeg, resize) == (0.0, 1.0)  # the last resize changes nothing
    assert said_of(resize, jpeg, DrawnQuantise(op="quantise")) == (0.0, 1.0)
    for unknown in ([resize, jpeg, blur], [resize, webp], [resize, jpeg, jpeg]):
        assert all(map(math.isnan, said_of(*unknown)))


def test_crops_that_are_too_small_to_tell_their_degradation_are_refused(pair_folders) -> None:
    with pytest.raises(ValueError, match="hr_crop 32 gives LR crops of 8 px, too small .*; use 64 or more"):
        TrainingData(DataConfig(pairs=(pair_folders,)), scale=4, hr_crop=32, batch_size=4, seed=0)

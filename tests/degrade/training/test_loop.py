import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from degrade.degrader import RealisticDegrader
from degrade.networks.block_quantiser import NONE
from degrade.recipes.blur import DrawnDiskBlur
from degrade.recipes.compress import DrawnJpeg, DrawnQuantise, DrawnWebp
from degrade.recipes.recipe import DrawnRecipe
from degrade.recipes.resize import DrawnResize
from degrade.recipes.steps import DrawnStep
from degrade.training.config import PRESETS, DegraderTrainConfig
from degrade.training.data import DataConfig, TrainingData, compression_of
from degrade.training.loop import train
from degrade.training.step import Models, Optimizers, learning_rate, train_step

CI = replace(PRESETS["ci"], hr_crop=64, batch_size=4)


def batch(seed: int = 0, paired: bool = True) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hr = torch.rand(4, 3, 64, 64, generator=generator)
    lr = (torch.nn.functional.avg_pool2d(hr, 4) + 0.1 * torch.randn(4, 3, 16, 16, generator=generator)).clamp(0, 1)
    compression = torch.tensor([[math.log(NONE), 0.0]] * 2 + [[float("nan")] * 2] * 2)
    return {"hr": hr, "lr": lr, "paired": torch.tensor([True, True, paired, paired]), "compression": compression}


def built(config: DegraderTrainConfig = CI) -> tuple[Models, Optimizers]:
    models = Models.build(config)
    return models, Optimizers.build(models, config)


def step_once(models: Models, optimizers: Optimizers, config: DegraderTrainConfig, step: int) -> dict[str, float]:
    return train_step(models, optimizers, batch(step), config, step, torch.Generator().manual_seed(step))


def parameters(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def unchanged(before: list[torch.Tensor], module: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_a_step_changes_degrader_and_encoder_and_reports_finite_terms() -> None:
    models, optimizers = built()
    before = {name: parameters(part) for name, part in models.parts().items()}
    terms = [step_once(models, optimizers, CI, step) for step in range(8, 11)][-1]
    assert all(not unchanged(before[name], part) for name, part in models.parts().items())
    assert all(torch.isfinite(torch.tensor(value)) for value in terms.values())
    assert {"energy", "texture", "low", "encoder", "kl", "code", "critic", "adversarial"} <= set(terms)


def test_the_critic_idles_until_its_share_of_the_run() -> None:
    models, optimizers = built()
    before = parameters(models.critic)
    terms = step_once(models, optimizers, CI, 0)
    assert unchanged(before, models.critic) and "critic" not in terms


def test_no_gradient_leaks_from_the_degraders_step_into_the_critic() -> None:
    models, optimizers = built()
    for step in range(10, 14):
        step_once(models, optimizers, CI, step)
        assert all(p.grad is None for p in models.critic.parameters())
        assert all(p.requires_grad for p in [*models.critic.parameters(), *models.degrader.encoder.parameters()])


def test_the_critics_update_leaves_the_degrader_alone() -> None:
    models, optimizers = built()
    frozen_rate = replace(CI, learning_rate=0.0)
    before = parameters(models.degrader)
    step_once(models, optimizers, frozen_rate, 12)
    assert unchanged(before, models.degrader)
    assert not unchanged(parameters(Models.build(CI).critic), models.critic)


def test_the_two_optimisers_share_no_parameter() -> None:
    _, optimizers = built()
    ours, theirs = (
        {id(p) for group in side.param_groups for p in group["params"]}
        for side in (optimizers.generator, optimizers.critic)
    )
    assert ours and theirs and not ours & theirs


def test_a_batch_without_any_pair_trains_too() -> None:
    config = replace(CI, seed=1)
    models, optimizers = built(config)
    data = {**batch(), "paired": torch.zeros(4, dtype=torch.bool)}
    terms = train_step(models, optimizers, data, config, 15, torch.Generator().manual_seed(0))
    assert terms["energy"] == 0 and all(torch.isfinite(torch.tensor(v)) for v in terms.values())


def test_the_same_step_twice_gives_the_same_numbers() -> None:
    first = step_once(*built(), CI, 12)
    assert first == step_once(*built(), CI, 12)


def test_training_paints_noise_of_the_right_strength_and_keeps_its_spread() -> None:
    """LR = clean + noise of 0.1: after 150 steps two samples differ by that noise, and not by nothing."""
    config = replace(CI, steps=150, learning_rate=3e-3, warmup_steps=10, adversarial=0.0)
    models, optimizers = built(config)
    for step in range(config.steps):
        step_once(models, optimizers, config, step)
    hr = batch(999)["hr"]
    with torch.inference_mode():
        one, two = (
            models.degrader(hr, torch.zeros(1, 16), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)
        )
    assert 0.07 < float((one - two).std()) / 2**0.5 < 0.13


def test_a_reference_gives_its_own_look_and_a_wrong_one_a_wrong_look() -> None:
    """Half of every batch is clean, half has noise of 0.15: after 200 steps the code alone decides which it is."""
    config = replace(CI, steps=200, batch_size=8, learning_rate=3e-3, warmup_steps=10, adversarial=0.0, kl=1e-4)
    models, optimizers = built(config)

    def looks(seed: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        hr = torch.nn.functional.avg_pool2d(torch.rand(8, 3, 128, 128, generator=generator), 2)
        sigma = torch.tensor([0.0, 0.0, 0.15, 0.15] * 2).view(-1, 1, 1, 1)
        clean = torch.nn.functional.avg_pool2d(hr, 4)
        lr = (clean + sigma * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
        none = torch.tensor([[math.log(NONE), 0.0]] * 8)
        return {"hr": hr, "lr": lr, "paired": torch.ones(8, dtype=torch.bool), "compression": none}

    for step in range(config.steps):
        train_step(models, optimizers, looks(step), config, step, torch.Generator().manual_seed(step))
    hr, lr = (looks(999)[name] for name in ("hr", "lr"))
    with torch.inference_mode():
        clean = torch.nn.functional.avg_pool2d(hr[:1], 4)
        like_clean, like_noisy = (models.degrader(hr[:1], reference=lr[row : row + 1]) - clean for row in (4, 6))
    assert like_clean.std() < 0.05 and 0.09 < like_noisy.std() < 0.2


def test_learning_rate_warms_up_and_falls_to_a_tenth() -> None:
    config = replace(CI, steps=1000, warmup_steps=10, learning_rate=1.0)
    assert learning_rate(
        config.learning_rate, 0, warmup_steps=config.warmup_steps, steps=config.steps
    ) == pytest.approx(0.1)
    assert learning_rate(
        config.learning_rate, 10, warmup_steps=config.warmup_steps, steps=config.steps
    ) == pytest.approx(1.0)
    assert learning_rate(
        config.learning_rate, 1000, warmup_steps=config.warmup_steps, steps=config.steps
    ) == pytest.approx(0.1)


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
        (DataConfig(hr_dir="hr", lr_dirs=("lr",)), "unpaired LR images only beside them"),
        (DataConfig(recipes=("bicubic",)), "recipes need HR photographs"),
    ],
)
def test_data_that_cannot_teach_are_told_in_a_sentence(config, told) -> None:
    with pytest.raises(ValueError, match=told):
        TrainingData(config, scale=4, hr_crop=64, batch_size=4, seed=0)


def test_without_hr_the_photographs_to_learn_from_stand_in_reduced(photo_folder) -> None:
    config = DataConfig(lr_dirs=(str(photo_folder),), recipes=("bicubic",), weights=(0.5, 0, 0.5))
    data = TrainingData(config, scale=4, hr_crop=64, batch_size=4, seed=0)
    assert data.hr._image(0).shape[0] == 512 // 4
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
    assert said_of(resize.model_copy(update={"factor": 1.2}), jpeg, resize) == (math.log(NONE), 0.0)
    assert said_of(resize, jpeg, resize) == (0.0, 1.0)  # the last resize changes nothing
    assert said_of(resize, jpeg, DrawnQuantise(op="quantise")) == (0.0, 1.0)
    for unknown in ([resize, jpeg, blur], [resize, webp], [resize, jpeg, jpeg]):
        assert all(map(math.isnan, said_of(*unknown)))


@pytest.fixture
def run_config(photo_folder) -> DegraderTrainConfig:
    data = DataConfig(hr_dir=str(photo_folder), recipes=("real-esrgan-light",))
    return replace(CI, data=data, steps=8, critic_start=0.0, critic_ramp=0.5)


def options(every: int = 2) -> dict[str, int | bool]:
    return {"log_every": 1, "sample_every": 8, "save_every": every, "loaders": 0, "progress": False}


def losses_of(out: Path) -> list[tuple[int, float]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


def test_a_run_leaves_a_degrader_that_loads_and_everything_to_look_at(run_config, tmp_path) -> None:
    summary = train(run_config, tmp_path / "run", command="degrade train ...", **options())
    names = {p.name for p in (tmp_path / "run").iterdir() if not p.name.startswith("events.")}
    assert names == {"train_config.json", "metrics.jsonl", "curves.png", "samples", "state.safetensors", "degrader"}
    assert (tmp_path / "run" / "samples" / "000008.png").stat().st_size > 1000
    degrader = RealisticDegrader.from_pretrained(summary["degrader"])
    assert len(degrader.bank) > 0 and degrader(torch.rand(1, 3, 64, 64)).shape == (1, 3, 16, 16)
    card = (tmp_path / "run" / "degrader" / "README.md").read_text()
    assert "degrade train ..." in card and "8 steps" in card


def test_a_resumed_run_has_the_loss_sequence_and_the_weights_of_an_unbroken_one(
    run_config, tmp_path, monkeypatch
) -> None:
    train(run_config, tmp_path / "whole", **options())

    def interrupted(models, optimizers, batch, config, step, *rest):
        if step == 5:  # after the state of step 4 and one unsaved step
            raise InterruptedError
        return train_step(models, optimizers, batch, config, step, *rest)

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr("degrade.training.loop.train_step", interrupted)
        train(run_config, tmp_path / "broken", **options())
    train(run_config, tmp_path / "broken", resume=True, **options())
    assert losses_of(tmp_path / "broken") == losses_of(tmp_path / "whole")
    whole, broken = (
        RealisticDegrader.from_pretrained(tmp_path / name / "degrader").state_dict() for name in ("whole", "broken")
    )
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_the_log_has_the_mean_of_every_term_and_no_step_is_lost_at_a_checkpoint(run_config, tmp_path) -> None:
    config = replace(run_config, critic_start=0.25, critic_ramp=0.01, penalty_every=4)
    rare = {**options(3), "log_every": 8}
    train(config, tmp_path / "run", **rare)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 8]
    train(config, tmp_path / "all", **options(8))
    every = [json.loads(line) for line in (tmp_path / "all" / "metrics.jsonl").read_text().splitlines()]
    critics = [line["critic"] for line in every[:3] if "critic" in line]  # it starts in the middle of the first line
    assert len(critics) == 1 and lines[0]["critic"] == pytest.approx(critics[0], rel=1e-4)
    assert lines[1]["critic"] == pytest.approx(sum(line["critic"] for line in every[3:6]) / 3, rel=1e-4)


def test_a_run_can_go_on_from_a_degrader_that_is_there(run_config, tmp_path, tiny_degrader) -> None:
    tiny_degrader.save_pretrained(tmp_path / "start")
    config = replace(run_config, start_from=str(tmp_path / "start"), steps=1, learning_rate=1e-12, ema_decay=0.0)
    summary = train(config, tmp_path / "run", **options(1))
    after = RealisticDegrader.from_pretrained(summary["degrader"]).eval()
    hr, code = torch.rand(1, 3, 64, 64), torch.zeros(1, 16)
    noise = torch.randn(1, 3, 16, 16)
    assert torch.allclose(after(hr, code, noise=noise), tiny_degrader(hr, code, noise=noise), atol=1e-4)
    assert after.config.widths == [8, 8, 8] and not torch.equal(after.bank[:20], tiny_degrader.bank)
    with pytest.raises(ValueError, match="is a degrader for scale 4, not 2"):
        Models.build(replace(config, scale=2))


def test_a_run_refused_for_its_data_leaves_no_folder(run_config, tmp_path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        train(replace(run_config, data=DataConfig(hr_dir="nowhere", recipes=("bicubic",))), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_run_in_the_same_folder_is_refused(run_config, tmp_path) -> None:
    train(run_config, tmp_path / "run", **options(8))
    with pytest.raises(ValueError, match="holds a run already; pass --resume"):
        train(run_config, tmp_path / "run", **options(8))
    with pytest.raises(ValueError, match="other settings .*seed was 0, is 5"):
        train(replace(run_config, seed=5), tmp_path / "run", resume=True, **options(8))


@pytest.mark.slow
def test_a_run_killed_with_sigkill_resumes_to_the_same_losses(run_config, photo_folder, tmp_path) -> None:
    command = [sys.executable, "-c", "from cli.degrade_commands import main; main()", "train", "--preset", "ci"]
    command += ["--hr-dir", str(photo_folder), "--recipe", "real-esrgan-light", "--steps", "60"]
    command += ["--save-every", "5", "--log-every", "1"]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], stdout=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "state.safetensors").exists():
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*command, "--out", str(tmp_path / "killed"), "--resume"], check=True, capture_output=True)
    assert losses_of(tmp_path / "killed") == losses_of(tmp_path / "whole")


@pytest.mark.slow
def test_the_paper_preset_builds_and_takes_a_step() -> None:
    config = replace(PRESETS["paper"], hr_crop=64, batch_size=2)
    models, optimizers = built(config)
    size = sum(p.numel() for p in models.degrader.unet.parameters())
    assert size == pytest.approx(42.9e6, rel=0.05)  # the size proposed for a downsampler "similar to the student"
    one = {name: tensor[:2] for name, tensor in batch().items()}
    terms = train_step(models, optimizers, one, config, 0, torch.Generator().manual_seed(0))
    assert torch.isfinite(torch.tensor(terms["loss"]))

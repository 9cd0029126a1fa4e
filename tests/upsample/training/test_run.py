import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from click.testing import CliRunner
from safetensors.torch import load_file

from cli.upsample_commands import main
from degrade.degrader import RealisticDegrader
from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import reduce_by
from degrade.realism.stop_signal import StopSignal
from degrade.training.config_file import with_settings
from degrade.training.loop import RunOptions
from degrade.training.optimizer import Optimizer
from degrade.training.step import Step
from upsample.model import ResidualShiftUpsampler
from upsample.training.config import UpsampleTrainConfig, preset
from upsample.training.data import PairConfig, PairData
from upsample.training.networks import build_upsampler
from upsample.training.run import UpsamplerTraining, train
from upsample.training.teacher import teacher_loss
from upsample.training.validate import validate

TERMS = ("distill", "inverse", "gt", "perceptual", "pair")  # what can teach a student
QUIET = RunOptions(device="cpu", loaders=0, log_every=1, checkpoint_every=3, progress=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, photographs) -> dict[str, str]:
    root = tmp_path_factory.mktemp("data")
    for side in ("hr", "lr", "photos"):
        (root / side).mkdir()
    for name, image in photographs.items():
        (root / "photos" / f"{name}.png").write_bytes(encode_image(image[:300, :400], "png"))
        hr = image[:128, 60:188]
        (root / "hr" / f"{name}.png").write_bytes(encode_image(hr, "png"))
        (root / "lr" / f"{name}.png").write_bytes(encode_image(reduce_by(hr, 4), "png"))
    return {side: str(root / side) for side in ("hr", "lr", "photos")}


@pytest.fixture(scope="module")
def degrader(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny untrained degrader in a folder."""
    folder = tmp_path_factory.mktemp("degrader")
    RealisticDegrader(widths=(8, 8, 8), blocks=1, embedding_dim=8, encoder_widths=(8, 8, 8)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, folders) -> str:
    out = tmp_path_factory.mktemp("teacher") / "run"
    data = PairConfig(pairs=((folders["hr"], folders["lr"]),))
    config = with_settings(preset("ci", "teacher"), {"data": data, "schedule.steps": 3})
    train(config, out, QUIET)
    return str(out / "teacher")


@pytest.fixture
def configs(folders, degrader, teacher) -> dict[str, UpsampleTrainConfig]:
    """Settings of a short run of each stage."""
    made = {"hr_dir": folders["photos"], "recipes": ("bicubic",), "online_degrader": degrader}
    mixed = PairConfig(pairs=((folders["hr"], folders["lr"]),), **made)
    short = {"data": mixed, "schedule.steps": 6}
    taught = {**short, "teacher": teacher}
    learning = {"real_lr": (folders["photos"],), "pool_batches": 1, "degrader.batch_size": 2}
    return {
        "teacher": with_settings(preset("ci", "teacher"), {**short, "schedule.gradient_accumulation_steps": 2}),
        "online student": with_settings(preset("ci", "student"), taught),
        "student": with_settings(preset("ci", "student"), {**taught, "stored_answers": 8}),
        "colearn": with_settings(preset("ci", "colearn"), {**taught, **learning}),
        "detail": with_settings(
            preset("ci", "colearn"),
            {
                **taught,
                "detail.branch": True,
                "projected_critic": True,
                "student_learns": False,
                "degrader.train": False,
            },
        ),
    }


def training_of(config: UpsampleTrainConfig) -> UpsamplerTraining:
    return UpsamplerTraining(config, QUIET, Accelerator(cpu=True))


def first_step() -> Step:
    return Step(0, torch.Generator().manual_seed(0), torch.autocast("cpu", enabled=False))


def log_of(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.parametrize("stage", ["teacher", "online student", "student", "colearn", "detail"])
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers_and_weights(stage, configs, tmp_path, monkeypatch) -> None:
    config, whole, broken = configs[stage], tmp_path / "whole", tmp_path / "broken"
    train(config, whole, QUIET)
    calls = []
    take = UpsamplerTraining.step

    def dies(self: UpsamplerTraining, batch: Any, step: Step) -> dict[str, float]:
        calls.append(step.number)
        if step.number == 4:
            raise KeyboardInterrupt
        return take(self, batch, step)

    monkeypatch.setattr(UpsamplerTraining, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(config, broken, QUIET)
    monkeypatch.undo()
    train(config, broken, replace(QUIET, resume="latest", loaders=1))
    assert log_of(broken) == log_of(whole) and len(log_of(whole)) == 6
    for file in sorted(whole.rglob("diffusion_pytorch_model.safetensors")):
        ours, theirs = load_file(file), load_file(broken / file.relative_to(whole))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), file


def test_a_colearning_run_leaves_student_degrader_curves_and_a_card(configs, folders, tmp_path) -> None:
    options = replace(QUIET, validate_every=3, command="upsample train ...")
    summary = train(configs["colearn"], tmp_path / "run", options, val_pairs=(folders["hr"], folders["lr"]))
    student = ResidualShiftUpsampler.from_pretrained(tmp_path / "run" / "student")
    degrader = RealisticDegrader.from_pretrained(tmp_path / "run" / "degrader")
    assert student.config.steps == 1 and len(degrader.bank) and summary["weights"].endswith("student")
    assert {p.name for p in (tmp_path / "run" / "samples").iterdir()} == {"0000003.png", "0000006.png"}
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    assert "upsample train ..." in (tmp_path / "run" / "student" / "README.md").read_text()
    validated = [line for line in log_of(tmp_path / "run") if "val_psnr_y" in line]
    assert [line["step"] for line in validated] == [3, 6]
    checkpoints = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert checkpoints == {"step-0000003.safetensors", "step-0000006.safetensors"}


def test_the_four_optimisers_share_no_parameter_and_leave_none_out(configs, tmp_path) -> None:
    run = training_of(configs["colearn"])
    sides = [{id(p) for p in side.parameters} for side in vars(run.optimizers).values()]
    trained = {id(p) for part in run.state.parts.values() for p in part.parameters() if p.requires_grad}
    assert len(sides) == 4 and all(sides)
    assert set().union(*sides) == trained and sum(map(len, sides)) == len(trained)
    assert not trained & {id(p) for p in run.nets.teacher.parameters()}


def test_the_looks_of_pairs_made_online_are_those_the_degrader_learns_from(configs, tmp_path) -> None:
    run = training_of(configs["colearn"])
    _, lower_batch = batches = next(run.batches(range(1)))
    mix = run.online.mix
    assert mix.codes is None
    run.step(batches, first_step())
    assert torch.equal(mix.codes, mix.degrader.encode(lower_batch["lr"]))


def test_reference_photographs_give_the_looks_of_pairs_made_online(configs, folders, tmp_path) -> None:
    for stage in ("teacher", "colearn"):
        told = replace(configs[stage].data, reference_dirs=(folders["lr"],))
        run = training_of(replace(configs[stage], data=told))
        mix = run.online.mix
        if stage == "teacher":
            assert mix.codes.shape == (3, 16)  # a code of each photograph, as `degrade synth` has it
            continue
        run.step(next(run.batches(range(1))), first_step())
        known = mix.degrader.encode(run.learning.references)
        assert torch.cdist(mix.codes, known).min(1).values.max() < 1e-4


def test_critics_that_are_switched_off_are_not_built(configs, tmp_path) -> None:
    off = {"loss.adversarial_hr": 0.0, "degrader.loss.adversarial": 0.0}
    run = training_of(with_settings(configs["colearn"], off))
    assert run.nets.hr_critic is None and run.optimizers.hr_critic is None and run.optimizers.lr_critic is None


def test_a_file_that_is_no_checkpoint_is_told_in_a_sentence(configs, tmp_path) -> None:
    train(configs["teacher"], tmp_path / "run", QUIET)
    weights = tmp_path / "run" / "teacher" / "diffusion_pytorch_model.safetensors"
    for wrong, told in (
        (tmp_path / "run" / "train_config.yaml", "is no checkpoint"),
        (weights, "no state of a training"),
    ):
        with pytest.raises(ValueError, match=told):
            train(configs["teacher"], tmp_path / "run", replace(QUIET, resume=str(wrong)))


def test_going_back_to_an_older_checkpoint_drops_the_later_ones(configs, tmp_path) -> None:
    train(configs["teacher"], tmp_path / "run", QUIET)
    older = tmp_path / "run" / "checkpoints" / "step-0000003.safetensors"
    train(configs["teacher"], tmp_path / "run", replace(QUIET, resume=str(older), checkpoints_total_limit=1))
    assert [path.name for path in older.parent.iterdir()] == ["step-0000006.safetensors"]
    assert [line["step"] for line in log_of(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def test_only_the_newest_checkpoints_are_kept(configs, tmp_path) -> None:
    train(configs["teacher"], tmp_path / "run", replace(QUIET, checkpoint_every=1, checkpoints_total_limit=2))
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-0000005.safetensors", "step-0000006.safetensors"]


def test_another_run_in_the_folder_is_refused_with_what_differs(configs, tmp_path) -> None:
    train(configs["teacher"], tmp_path / "run", QUIET)
    with pytest.raises(ValueError, match="holds a run already; pass --resume latest"):
        train(configs["teacher"], tmp_path / "run", QUIET)
    with pytest.raises(ValueError, match="learning_rate was 0.0005, is 0.1"):
        train(
            with_settings(configs["teacher"], {"schedule.learning_rate": 0.1}),
            tmp_path / "run",
            replace(QUIET, resume="latest"),
        )
    with pytest.raises(
        ValueError, match="there is no checkpoint .*nothing.safetensors; use latest, or one of: .*step-"
    ):
        train(configs["teacher"], tmp_path / "run", replace(QUIET, resume="nothing.safetensors"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stage": "student", "teacher": ""}, "the student stage distils from a teacher"),
        ({"stage": "colearn", "teacher": ""}, "the colearn stage distils from a teacher"),
        ({"stage": "colearn", "teacher": "", "loss.distill": 0.0, "loss.inverse": 0.0}, "starts from a student"),
        ({"stage": "colearn", "stored_answers": 5}, "stored answers need pairs that do not change"),
        ({"stage": "teacher", "real_lr": ("x",)}, "teaches D_L, which the teacher stage does not have"),
        (
            {"stage": "colearn", "real_lr": ("x",), "degrader.train": False},
            "give an --online-degrader and do not freeze",
        ),
        ({"stage": "teacher", "stored_answers": 5}, "stored answers come from a teacher"),
        ({f"loss.{name}": 0.0 for name in TERMS}, "are all 0, so nothing teaches the student"),
        ({"stage": "teacher", "size.autoencoder": {"_class_name": "VQModel"}}, "an autoencoder without weights"),
        ({"data": PairConfig(reference_dirs=("x",), shards=("y",))}, "reference photographs give looks to a degrader"),
        ({"teacher_steps": 9}, "teacher_steps 9 exceeds its 4"),
        ({"scale": 2}, "is for scale 4, not 2"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence_and_leave_no_folder(change, told, configs, tmp_path) -> None:
    with pytest.raises(ValueError, match=told):
        train(with_settings(configs["student"], {"stored_answers": 0, **change}), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


def test_a_teacher_learns_and_its_student_begins_as_its_copy(folders, tmp_path, photographs) -> None:
    data = PairConfig(pairs=((folders["hr"], folders["lr"]),))
    fast = {"schedule.steps": 200, "schedule.learning_rate": 3e-3, "size.widths": (16, 16, 16)}
    config = with_settings(preset("ci", "teacher"), {"data": data, **fast})
    before, _, _ = build_upsampler(config)
    summary = train(config, tmp_path / "run", replace(QUIET, log_every=50, checkpoint_every=200))
    after = ResidualShiftUpsampler.from_pretrained(summary["weights"])
    pairs = PairData(data, scale=4, hr_crop=64, batch_size=16, seed=1)[0]

    def error(model: ResidualShiftUpsampler) -> float:
        return float(teacher_loss(model, pairs, 0.0, first_step())[0].detach())

    assert error(after) < 0.93 * error(before)
    student, teacher, _ = build_upsampler(replace(preset("ci", "student"), teacher=summary["weights"]))
    lr = torch.rand(1, 3, 16, 16)
    assert teacher is not None and teacher.config.steps == 4 and student.config.steps == 1
    assert torch.equal(student(lr), teacher(lr, steps=1)) and not torch.equal(student(lr), teacher(lr))
    assert not any(p.requires_grad for p in teacher.parameters())


def test_validation_scores_bicubic_as_an_untrained_upsampler(photographs, tmp_path) -> None:
    hr = photographs["chelsea"][:128, :128]
    figures = validate(ResidualShiftUpsampler(), [(hr, reduce_by(hr, 4))], tmp_path / "look.png")
    assert figures["val_psnr_y"] == pytest.approx(figures["val_bicubic_psnr_y"], abs=0.01)
    assert figures["val_psnr_y"] > 20
    assert (
        figures["val_ssim_y"] == pytest.approx(figures["val_bicubic_ssim_y"], abs=1e-3)
        and (tmp_path / "look.png").stat().st_size > 1000
    )


def test_a_trained_first_stage_comes_from_its_folder(tmp_path, autoencoders) -> None:
    import diffusers

    config = autoencoders["VQModel"]
    vq = diffusers.VQModel.from_config(config)
    vq.save_pretrained(tmp_path / "vq")
    student, _, _ = build_upsampler(
        with_settings(preset("ci", "teacher"), {"first_stage": str(tmp_path / "vq"), "size.kappa": 2.0})
    )
    weight = student.first_stage.model.encoder.conv_in.weight
    assert torch.equal(weight, vq.encoder.conv_in.weight) and not weight.requires_grad
    assert student(torch.rand(1, 3, 16, 16)).shape == (1, 3, 64, 64)


def test_the_stop_signal_is_small_for_the_truth_and_large_for_clean_downsampling(folders, tmp_path) -> None:
    for source in Path(folders["photos"]).iterdir():  # "real" LR: the photographs reduced, with noise
        image = reduce_by(read_image(source), 2)
        noise = np.random.default_rng(0).normal(0, 12, image.shape)
        noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
        (tmp_path / source.name).write_bytes(encode_image(noisy, "png"))

    class Noisy(RealisticDegrader):
        def forward(self, hr: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            generator = torch.Generator().manual_seed(1)
            clean = torch.nn.functional.avg_pool2d(hr, 2)
            return (clean + 12 / 255 * torch.randn(clean.shape, generator=generator)).clamp(0, 1)

    signal = StopSignal(folders["photos"], [str(tmp_path)], scale=2)
    clean, noisy = signal.measure(RealisticDegrader(scale=2)), signal.measure(Noisy(scale=2))
    assert noisy["realism_w1"] < 0.5 * clean["realism_w1"] and noisy["realism_kid"] < 0.5 * clean["realism_kid"]
    assert signal.measure(RealisticDegrader(scale=2)) == clean


def test_the_command_trains_prints_json_and_tells_a_mistake_in_a_sentence(folders, tmp_path) -> None:
    command = ["train", "--stage", "teacher", "--preset", "ci", "--out", str(tmp_path / "run"), "--pairs"]
    command += [folders["hr"], folders["lr"], "--steps", "2", "--hr_crop", "32", "--device", "cpu"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["steps"] == 2
    wrong = CliRunner().invoke(
        main, ["train", "--stage", "student", "--out", str(tmp_path / "x"), "--shards", "none", "--device", "cpu"]
    )
    assert wrong.exit_code == 1 and wrong.output.count("\n") == 1 and "distils from a teacher" in wrong.output
    dry = CliRunner().invoke(main, [*command, "--cycle", "0", "--adversarial-lr", "0.3", "--dry-run"])
    settings = yaml.safe_load(dry.stdout)
    assert settings["cycle"]["weight"] == 0 and settings["degrader"]["loss"]["adversarial"] == 0.3
    assert settings["schedule"]["hr_crop"] == 32


def command_of(folders: dict[str, str], degrader: str, teacher: str) -> list[str]:
    return [
        sys.executable, "-c", "from cli.upsample_commands import main; main()", "train", "--stage", "colearn",
        "--preset", "ci", "--teacher", teacher, "--hr-dir", folders["photos"], "--recipe", "bicubic",
        "--online-degrader", degrader, "--log-every", "1", "--device", "cpu", "--hr-crop", "64",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_killed_with_sigkill_resumes_to_the_same_losses(folders, degrader, teacher, tmp_path) -> None:
    command = [*command_of(folders, degrader, teacher), "--steps", "40", "--checkpointing-steps", "4"]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], stdout=subprocess.DEVNULL)
    while not list((tmp_path / "killed" / "checkpoints").glob("*.safetensors")):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    reached = len(log_of(tmp_path / "killed"))
    assert 0 < reached < 40
    resumed = [*command, "--out", str(tmp_path / "killed"), "--resume", "latest"]
    subprocess.run(resumed, check=True, capture_output=True)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_on_unequal_shards_do_not_hang_and_agree_on_the_weights(
    folders, degrader, teacher, tmp_path
) -> None:
    """One shard of 1 pair and one of 9, 12 steps each: a stream per process would run dry in one of them."""
    from degrade.shards.reader import read_pairs

    synth = "from cli.degrade_commands import main; main()"
    for name, crops in (("a", "1"), ("b", "3")):
        source = folders["photos"] if name == "b" else str(Path(folders["photos"]) / "chelsea.png")
        subprocess.run(
            [sys.executable, "-c", synth, "synth", "--hr-dir", source, "--out", str(tmp_path / name), "--preset",
             "bicubic", "--mix", "1", "--crop-size", "128", "--crops-per-image", crops, "--workers", "1"],
            check=True, capture_output=True,
        )  # fmt: skip
    assert [len(list(read_pairs(tmp_path / name))) for name in "ab"] == [1, 9]
    command = command_of(folders, degrader, teacher)[3:]
    command += ["--shards", str(tmp_path / "a"), "--shards", str(tmp_path / "b"), "--steps", "12"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = tmp_path / "both.py"
    script.write_text(
        "import os, torch\n"
        "from upsample.training.run import UpsamplerTraining as Run\n"
        "average, step, rank, seen = Run.average, Run.step, os.environ['RANK'], []\n"
        "def noting_step(self, batches, number):\n"
        "    seen.append(float(batches[0]['hr'].double().sum()))\n"
        "    return step(self, batches, number)\n"
        "def noting_average(self):\n"
        "    average(self)\n"
        "    nets = {**self.state.parts}\n"
        "    held = {f'{n}/{k}': v for n, m in nets.items() for k, v in m.state_dict().items()}\n"
        f"    torch.save({{'held': held, 'seen': seen}}, f'{tmp_path}/rank{{rank}}.pt')\n"
        "Run.average, Run.step = noting_average, noting_step\n"
        "from cli.upsample_commands import main\nmain()\n"
    )
    done = subprocess.run(
        [*torchrun, str(script), *command, "--out", str(tmp_path / "run")],
        check=False, capture_output=True, text=True, timeout=400, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in "01")
    assert len(log_of(tmp_path / "run")) == 12 and done.stdout.count('"stage": "colearn"') == 1
    assert len(one["seen"]) == len(other["seen"]) == 12 and not set(one["seen"]) & set(other["seen"])
    ours, theirs = one["held"], other["held"]
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    alone = [sys.executable, "-c", "from cli.upsample_commands import main; main()", *command]
    alone += ["--out", str(tmp_path / "run"), "--resume", "latest"]
    refused = subprocess.run(alone, check=False, capture_output=True, text=True)
    assert refused.returncode == 1 and "was written by 2 processes, and this run has 1" in refused.stderr


@pytest.mark.slow
def test_the_paper_preset_has_the_published_size_and_takes_a_step(folders) -> None:
    config = with_settings(preset("paper", "teacher"), {"schedule.warmup_steps": 0})
    model, _, _ = build_upsampler(config)
    assert sum(p.numel() for p in model.unet.parameters()) == pytest.approx(118.6e6, rel=0.05)
    assert sum(p.numel() for p in model.first_stage.parameters()) == pytest.approx(55.3e6, rel=0.05)
    pairs = PairData(PairConfig(pairs=((folders["hr"], folders["lr"]),)), scale=4, hr_crop=64, batch_size=1, seed=0)[0]
    loss, _ = teacher_loss(model, pairs, config.loss.perceptual, first_step())
    loss.backward()
    moved = Optimizer(
        [p for p in model.parameters() if p.requires_grad], Accelerator(cpu=True), betas=(0.9, 0.99), clip=1
    )
    before = model.unet.conv_out.weight.detach().clone()
    moved.step(config.schedule.learning_rate)
    assert torch.isfinite(loss) and not torch.equal(before, model.unet.conv_out.weight)

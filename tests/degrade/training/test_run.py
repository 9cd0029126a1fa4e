import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from degrade.degrader import RealisticDegrader
from degrade.training.config import PRESETS, DegraderTrainConfig
from degrade.training.config_file import with_settings
from degrade.training.data import DataConfig
from degrade.training.loop import RunOptions, make_accelerator
from degrade.training.run import DegraderTraining, train
from degrade.training.step import train_step


@pytest.fixture
def run_config(photo_folder, monkeypatch) -> DegraderTrainConfig:
    monkeypatch.setattr("degrade.training.run.BANK_BATCHES", 3)  # a bank of 12 codes, because runs here are short
    data = DataConfig(hr_dir=str(photo_folder), recipes=("real-esrgan-light",))
    ramp = {"ramp.start": 0.0, "ramp.length": 0.5}
    return with_settings(PRESETS["ci"], {"data": data, "schedule.steps": 8, **ramp})


def options(every: int = 2, **others) -> RunOptions:
    kept = {"device": "cpu", "log_every": 1, "validate_every": 8, "loaders": 0, "progress": False, **others}
    return RunOptions(checkpoint_every=every, **kept)


def losses_of(out: Path) -> list[tuple[int, float]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


def test_a_run_leaves_a_degrader_that_loads_and_everything_to_look_at(run_config, tmp_path) -> None:
    summary = train(run_config, tmp_path / "run", options(command="degrade train ..."))
    names = {p.name for p in (tmp_path / "run").iterdir() if not p.name.startswith("events.")}
    assert names == {"train_config.yaml", "metrics.jsonl", "curves.png", "samples", "checkpoints", "degrader"}
    assert (tmp_path / "run" / "samples" / "0000008.png").stat().st_size > 1000
    degrader = RealisticDegrader.from_pretrained(summary["degrader"])
    assert len(degrader.bank) > 0 and degrader(torch.rand(1, 3, 64, 64)).shape == (1, 3, 16, 16)
    card = (tmp_path / "run" / "degrader" / "README.md").read_text()
    assert "degrade train ..." in card and "8 steps" in card and "It started from new networks." in card


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_resumed_run_has_the_loss_sequence_and_the_weights_of_an_unbroken_one(
    run_config, tmp_path, monkeypatch, micro_batches
) -> None:
    config = with_settings(run_config, {"schedule.gradient_accumulation_steps": micro_batches})
    train(config, tmp_path / "whole", options())

    def interrupted(models, optimizers, batch, config, step):
        if step.number == 5:  # after the checkpoint of step 4 and one unsaved step
            raise InterruptedError
        return train_step(models, optimizers, batch, config, step)

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr("degrade.training.run.train_step", interrupted)
        train(config, tmp_path / "broken", options())
    train(config, tmp_path / "broken", options(resume="latest", loaders=1))
    assert losses_of(tmp_path / "broken") == losses_of(tmp_path / "whole")
    whole, broken = (
        RealisticDegrader.from_pretrained(tmp_path / name / "degrader").state_dict() for name in ("whole", "broken")
    )
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_finished_run_can_be_resumed_for_more_steps(run_config, tmp_path) -> None:
    train(run_config, tmp_path / "run", options())
    longer = with_settings(run_config, {"schedule.steps": 11})
    train(longer, tmp_path / "run", options(resume="latest"))
    assert [step for step, _ in losses_of(tmp_path / "run")] == list(range(1, 12))
    assert "steps: 11" in (tmp_path / "run" / "train_config.yaml").read_text()
    with pytest.raises(ValueError, match="has 11 steps already, more than the 8 asked for"):
        train(run_config, tmp_path / "run", options(resume="latest"))
    train(longer, tmp_path / "run", options(resume="latest"))  # there is nothing left to do
    assert len(losses_of(tmp_path / "run")) == 11


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_the_checkpoint_before_it(run_config, tmp_path, monkeypatch):
    def diverges(models, optimizers, batch, config, step):
        terms = train_step(models, optimizers, batch, config, step)
        return {**terms, "loss": math.nan} if step.number == 5 else terms

    monkeypatch.setattr("degrade.training.run.train_step", diverges)
    with pytest.raises(ValueError, match="the loss is nan at step 6"):
        train(run_config, tmp_path / "run", options())
    assert max(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == "step-0000004.safetensors"


def test_the_log_has_the_mean_of_every_term_and_no_step_is_lost_at_a_checkpoint(run_config, tmp_path) -> None:
    config = with_settings(run_config, {"ramp.start": 0.25, "ramp.length": 0.01, "critic.penalty_every": 4})
    train(config, tmp_path / "run", options(3, log_every=8))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 8]
    train(config, tmp_path / "all", options(8))
    every = [json.loads(line) for line in (tmp_path / "all" / "metrics.jsonl").read_text().splitlines()]
    critics = [line["critic"] for line in every[:3] if "critic" in line]  # it starts in the middle of the first line
    assert len(critics) == 1 and lines[0]["critic"] == pytest.approx(critics[0], rel=1e-4)
    assert lines[1]["critic"] == pytest.approx(sum(line["critic"] for line in every[3:6]) / 3, rel=1e-4)


@pytest.mark.parametrize("loaders", [0, 1])
@pytest.mark.filterwarnings("ignore:not used")
def test_a_photograph_found_broken_in_training_is_left_out_by_name(run_config, photo_folder, loaders) -> None:
    whole = (photo_folder / "coffee.png").read_bytes()
    (photo_folder / "cut.png").write_bytes(whole[: len(whole) // 2])  # its header is whole
    training = DegraderTraining(run_config, options(loaders=loaders), make_accelerator(options()))
    assert training.left_out == []
    for _ in training.batches(range(2)):
        pass
    (told,) = training.left_out
    assert told.startswith("cut.png: PNG data is truncated")


def test_a_run_can_start_from_a_degrader_that_exists(run_config, tmp_path, tiny_degrader) -> None:
    tiny_degrader.save_pretrained(tmp_path / "start")
    config = with_settings(
        run_config,
        {
            "start_from": str(tmp_path / "start"),
            "schedule.steps": 1,
            "schedule.learning_rate": 1e-12,
            "schedule.ema_decay": 0.0,
        },
    )
    summary = train(config, tmp_path / "run", options(1))
    after = RealisticDegrader.from_pretrained(summary["degrader"]).eval()
    hr, code = torch.rand(1, 3, 64, 64), torch.zeros(1, 16)
    noise = torch.randn(1, 3, 16, 16)
    assert torch.allclose(after(hr, code, noise=noise), tiny_degrader(hr, code, noise=noise), atol=1e-4)
    assert after.config.widths == [8, 8, 8] and not torch.equal(after.bank[:20], tiny_degrader.bank)
    with pytest.raises(ValueError, match="is a degrader for scale 4, not 2"):
        train(with_settings(config, {"scale": 2}), tmp_path / "other", options(1))


def test_a_run_refused_for_its_data_leaves_no_folder(run_config, tmp_path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        train(with_settings(run_config, {"data": DataConfig(hr_dir="nowhere", recipes=("bicubic",))}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_run_in_the_same_folder_is_refused(run_config, tmp_path) -> None:
    train(run_config, tmp_path / "run", options(8))
    with pytest.raises(ValueError, match="holds a run already; pass --resume latest"):
        train(run_config, tmp_path / "run", options(8))
    with pytest.raises(ValueError, match="other settings .*seed was 0, is 5"):
        train(with_settings(run_config, {"schedule.seed": 5}), tmp_path / "run", options(8, resume="latest"))


@pytest.mark.slow
def test_a_run_killed_with_sigkill_resumes_to_the_same_losses(run_config, photo_folder, tmp_path) -> None:
    command = [sys.executable, "-c", "from cli.degrade_commands import main; main()", "train", "--preset", "ci"]
    command += ["--hr-dir", str(photo_folder), "--recipe", "real-esrgan-light", "--steps", "60"]
    command += ["--checkpointing-steps", "5", "--log-every", "1"]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], stdout=subprocess.DEVNULL)
    while not list((tmp_path / "killed").glob("checkpoints/*.safetensors")):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*command, "--out", str(tmp_path / "killed"), "--resume", "latest"], check=True, capture_output=True)
    assert losses_of(tmp_path / "killed") == losses_of(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_see_different_batches_and_agree_on_the_weights(photo_folder, tmp_path) -> None:
    script = tmp_path / "both.py"
    script.write_text(
        "import os, torch\n"
        "from degrade.training.run import DegraderTraining\n"
        "average, step, seen = DegraderTraining.average, DegraderTraining.step, []\n"
        "def noting_step(self, batch, number):\n"
        "    seen.append(float(batch['hr'].double().sum()))\n"
        "    return step(self, batch, number)\n"
        "def noting_average(self):\n"
        "    average(self)\n"
        "    held = {f'{n}/{k}': v for n, m in self.state.parts.items() for k, v in m.state_dict().items()}\n"
        f"    torch.save({{'held': held, 'seen': seen}}, f'{tmp_path}/rank{{os.environ[\"RANK\"]}}.pt')\n"
        "DegraderTraining.step, DegraderTraining.average = noting_step, noting_average\n"
        "from cli.degrade_commands import main\nmain()\n"
    )
    command = ["train", "--preset", "ci", "--hr-dir", str(photo_folder), "--recipe", "bicubic", "--steps", "6"]
    command += ["--gradient-accumulation-steps", "2", "--device", "cpu", "--out", str(tmp_path / "run")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, str(script), *command],
        check=False,
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('"degrader"') == 1  # one summary
    one, other = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in "01")
    assert len(one["seen"]) == len(other["seen"]) == 12 and not set(one["seen"]) & set(other["seen"])
    assert all(torch.equal(one["held"][name], other["held"][name]) for name in one["held"])

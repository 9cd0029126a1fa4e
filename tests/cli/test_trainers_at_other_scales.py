"""Every option of both trainers takes part in a run at scale 2 or 3: a 4 that is fixed somewhere would show here."""

import contextlib
import json
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner

from cli.degrade_commands import main as degrade_main
from cli.upsample_commands import main as upsample_main
from degrade.degrader import RealisticDegrader
from degrade.images.codec import encode_image
from degrade.images.geometry import reduce_by
from upsample.model import ResidualShiftUpsampler

TINY = {"widths": (8, 8, 8), "blocks": 1, "embedding_dim": 8}
EVERY = ["--seed", "1", "--device", "cpu", "--mixed-precision", "auto", "--dataloader-num-workers", "0"]
DEGRADER_RUNS = {
    "all data": [
        "--hr-dir", "photos", "--recipe", "real-esrgan", "--pairs", "hr", "lr", "--lr-dir", "lr", "--weights", "1", "1",
        "1", "--max-hr-side", "350", "--preset", "ci", "--batch-size", "4", "--learning-rate", "1e-3", "--log-every",
        "1", "--validation-steps", "2", "--checkpointing-steps", "1", "--checkpoints-total-limit", "1", "--ema-decay",
        "0.5", "--gradient-accumulation-steps", "2", "--hr-crop", "96",
    ],
    "fit": ["--from", "degrader", "--lr-dir", "lr", "--hr-dir", "photos", "--batch-size", "2"],
}  # fmt: skip
UPSAMPLER_DATA = [
    "--hr-dir", "photos", "--recipe", "bicubic", "--online-degrader", "degrader", "--pairs", "hr", "lr", "--shards",
    "shards", "--weights", "1", "1", "1", "1", "--reference-dir", "lr", "--max-hr-side", "350", "--tones", "0.2",
    "--val-pairs", "hr", "lr", "--preset", "ci", "--hr-crop", "48", "--train-batch-size", "4", "--learning-rate",
    "1e-3", "--log-every", "1", "--validation-steps", "2", "--checkpointing-steps", "1", "--checkpoints-total-limit",
    "1",
]  # fmt: skip
DISTILLED = ["--teacher", "teacher", "--teacher-steps", "2", "--distill", "1", "--inverse", "0.5", "--gt", "1"]
UPSAMPLER_RUNS = {
    "teacher": [
        "--stage", "teacher", *UPSAMPLER_DATA, "--num-train-timesteps", "4", "--kappa", "1", "--min-noise-level", "0.2",
        "--perceptual", "1", "--gradient-accumulation-steps", "2", "--first-stage", "",
    ],
    "student": ["--stage", "student", *UPSAMPLER_DATA, *DISTILLED, "--stored-answers", "8"],
    "colearn": [
        "--stage", "colearn", *UPSAMPLER_DATA, *DISTILLED, "--from", "student", "--real-lr", "lr", "--adversarial-hr",
        "0.1", "--adversarial-lr", "0.1", "--pair", "1", "--cycle", "1", "--cycle-score", "energy", "--cycle-gradient",
        "0.2", "--guard-noise", "0.05", "--train-degrader", "--ema-decay", "0.5",
    ],
    "colearn, nothing averaged": [
        "--stage", "colearn", *UPSAMPLER_DATA, *DISTILLED, "--cycle-score", "l1", "--cycle", "1", "--ema-decay", "0",
    ],
    "colearn, degrader frozen": ["--stage", "colearn", *UPSAMPLER_DATA, *DISTILLED, "--freeze-degrader"],
    "colearn, detail, degrader frozen": [
        "--stage", "colearn", *UPSAMPLER_DATA, "--from", "student", "--distill", "0", "--inverse", "0",
        "--detail-branch", "--detail-features", "0.1", "--projected-critic", "--adversarial-hr", "0.1",
        "--freeze-student", "--cycle", "1", "--freeze-degrader",
    ],
}  # fmt: skip
WHERE_ELSE = {
    "out",
    "config_file",
    "scale",
    "schedule__steps",
    "run__resume",
    "dry_run",
    "help",
}  # each run has them, or they train nothing


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, Any]) -> dict[int, Path]:
    """Photographs, pairs, shards and tiny networks, at scale 2 and 3."""
    roots = {}
    for scale in (2, 3):
        root = roots[scale] = tmp_path_factory.mktemp(f"x{scale}")
        for name, image in photographs.items():
            hr = image[:192, 60:252]
            for side, part in (("photos", image[:300, :400]), ("hr", hr), ("lr", reduce_by(hr, scale))):
                (root / side).mkdir(exist_ok=True)
                (root / side / f"{name}.png").write_bytes(encode_image(part, "png"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            RealisticDegrader(scale=scale, encoder_widths=(8, 8, 8), **TINY).save_pretrained(root / "degrader")
            teacher = ResidualShiftUpsampler(scale=scale, num_train_timesteps=4, min_noise_level=0.2, **TINY)
            teacher.save_pretrained(root / "teacher")
            teacher.set_steps(1)
            teacher.save_pretrained(root / "student")
        synth = ["synth", "-i", root / "photos", "-o", root / "shards", "--degrader", root / "degrader"]
        synth += ["--scale", scale, "--crop-size", 96, "--workers", 0]
        assert CliRunner().invoke(degrade_main, [str(argument) for argument in synth]).exit_code == 0
    return roots


def run(main: click.Group, scale: int, root: Path, options: list[str], out: Path) -> dict[str, Any]:
    """Train two steps in the folder ``root``, where the options find their data."""
    arguments = ["train", *options, *EVERY, "--scale", str(scale), "--steps", "2", "--out", str(out)]
    with contextlib.chdir(root):
        done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("name", DEGRADER_RUNS)
def test_a_degrader_trains_at_scales_other_than_4(name, scale, made, tmp_path):
    summary = run(degrade_main, scale, made[scale], DEGRADER_RUNS[name], tmp_path / "run")
    degrader = RealisticDegrader.from_pretrained(summary["degrader"])
    assert degrader.config.scale == scale and degrader(torch.rand(1, 3, 48, 48)).shape[-1] == 48 // scale


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("name", UPSAMPLER_RUNS)
def test_an_upsampler_trains_at_scales_other_than_4(name, scale, made, tmp_path):
    summary = run(upsample_main, scale, made[scale], UPSAMPLER_RUNS[name], tmp_path / "run")
    model = ResidualShiftUpsampler.from_pretrained(summary["weights"])
    assert model.config.scale == scale and model(torch.rand(1, 3, 16, 16)).shape[-1] == 16 * scale
    if "degrader frozen" in name or not name.startswith("colearn"):
        return
    learned = RealisticDegrader.from_pretrained(tmp_path / "run" / "degrader").state_dict()
    before = RealisticDegrader.from_pretrained(made[scale] / "degrader").state_dict()
    assert any(not torch.equal(learned[key], before[key]) for key in before if key.startswith("unet"))


def test_an_upsampler_starts_from_one_of_another_scale_beside_a_frozen_degrader(made, tmp_path):
    options = ["--preset", "ci", "--stage", "colearn", "--from", str(made[3] / "student"), "--hr-dir", "photos"]
    options += ["--online-degrader", str(made[3] / "degrader"), "--distill", "0", "--inverse", "0", "--cycle", "1"]
    summary = run(upsample_main, 2, made[2], [*options, "--freeze-degrader"], tmp_path / "run")
    assert ResidualShiftUpsampler.from_pretrained(summary["weights"]).config.scale == 2
    assert any("student: the start is for scale 3, not 2: its U-Net is copied" in line for line in summary["left_out"])
    with pytest.raises(AssertionError, match="is a degrader for scale 3, and learns nothing at 2; give --freeze"):
        run(upsample_main, 2, made[2], options, tmp_path / "learning")


@pytest.mark.parametrize(("main", "runs"), [(degrade_main, DEGRADER_RUNS), (upsample_main, UPSAMPLER_RUNS)])
def test_every_option_of_the_trainers_is_exercised_at_a_scale_other_than_4(main, runs):
    given = {option for options in [EVERY, *runs.values()] for option in options if option.startswith("--")}
    for option in main.commands["train"].params:
        spellings = {*option.opts, *option.secondary_opts}
        assert option.name in WHERE_ELSE or spellings & given, f"no run of this file uses {option.opts[0]}"

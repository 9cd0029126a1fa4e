"""Settings as files: what --dry-run prints is what --config reads."""

import pytest
import yaml
from click.testing import CliRunner

from cli.degrade_commands import main as degrade_main
from cli.upsample_commands import main as upsample_main
from degrade.files.mappings import read_mapping
from degrade.training.config import PRESETS, DegraderTrainConfig
from degrade.training.config_file import config_text, resolve
from upsample.training.config import PRESETS as UPSAMPLER_PRESETS
from upsample.training.config import UpsampleTrainConfig

DEGRADER = ["train", "--out", "unused", "--recipe", "bicubic", "--dry-run"]
UPSAMPLER = ["train", "--out", "unused", "--stage", "colearn", "--dry-run"]
CONFIGS = [*PRESETS.values(), *(config for stages in UPSAMPLER_PRESETS.values() for config in stages.values())]


def invoke(main, *arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_that_was_written_is_read_back_equal(config, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(config_text(config))
    blank = DegraderTrainConfig() if isinstance(config, DegraderTrainConfig) else UpsampleTrainConfig()
    again = resolve(blank, file, read_mapping(file), {})
    assert config_text(again) == config_text(config)


@pytest.mark.parametrize(("main", "command"), [(degrade_main, DEGRADER), (upsample_main, UPSAMPLER)])
def test_dry_run_prints_what_config_reads_and_options_win_over_it(main, command, tmp_path):
    given = ["--scale", 3, "--steps", 7, "--learning-rate", "2e-5", "--preset", "ci"]
    printed = invoke(main, *command, *given)
    assert printed.exit_code == 0, printed.output
    file = tmp_path / "config.yaml"
    file.write_text(printed.stdout)
    assert invoke(main, *command, "--config", file).stdout == printed.stdout
    settings = yaml.safe_load(invoke(main, *command, "--config", file, "--steps", 8).stdout)
    assert settings["schedule"]["steps"] == 8 and settings["schedule"]["learning_rate"] == 2e-5
    assert settings["scale"] == 3 and settings["schedule"]["hr_crop"] == 48


def test_a_toml_file_may_hold_some_settings_and_the_stage(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('stage = "student"\n[loss]\ninverse = 0.25\n[schedule]\nsteps = 11\n')
    printed = invoke(upsample_main, "train", "--out", "unused", "--config", file, "--dry-run")
    settings = yaml.safe_load(printed.stdout)
    assert (settings["stage"], settings["loss"]["inverse"], settings["schedule"]["steps"]) == ("student", 0.25, 11)
    assert settings["loss"]["gt"] == 1.0 and settings["schedule"]["learning_rate"] == 2e-4  # the preset's


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("schedul: {steps: 3}", "unknown key 'schedul'; did you mean 'schedule'?"),
        ("schedule: {step: 3}", "schedule: unknown key 'step'; did you mean 'steps'?"),
        ("loss: {zebra: 3}", "loss: unknown key 'zebra'; known: prior_share, energy"),
        ("schedule: 3", "schedule holds 3; write settings under it"),
        ("schedule: {steps: 0}", "schedule.steps: input should be greater than or equal to 1, got 0"),
        ("schedule: {learning_rate: .nan}", "schedule.learning_rate: input should be"),
        ("loss: {energy: -1}", "loss.energy: input should be greater than or equal to 0, got -1"),
        ("schedule: {steps: many}", "schedule.steps: input should be a valid integer"),
        ("scale: 5", "scale: input should be less than or equal to 4, got 5"),
        ("- 3", "holds no mapping"),
    ],
)
def test_a_fault_in_a_config_file_is_one_sentence_with_its_place(content, sentence, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(content)
    result = invoke(degrade_main, *DEGRADER, "--config", file)
    assert result.exit_code == 1 and result.output.count("\n") == 1
    assert result.output.startswith(f"Error: {file}") and sentence in result.output


@pytest.mark.parametrize(
    ("main", "config"), [(degrade_main, DegraderTrainConfig()), (upsample_main, UpsampleTrainConfig())]
)
def test_every_option_of_a_trainer_leads_to_a_setting_that_exists(main, config):
    from degrade.training.loop import RunOptions

    elsewhere = {"out", "config_file", "preset", "dry_run", "val_pairs", "help"}
    for option in main.commands["train"].params:
        if option.name in elsewhere:
            continue
        held = config
        *path, last = option.name.split("__")
        if path == ["run"]:
            held, path = RunOptions(), []
        for name in path:
            held = getattr(held, name)
        assert hasattr(held, last), option.name


def test_numbers_without_a_dot_in_yaml_are_numbers(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("schedule: {learning_rate: 1e-4}")  # YAML 1.1 reads 1e-4 as text
    result = invoke(degrade_main, *DEGRADER, "--config", file)
    assert yaml.safe_load(result.stdout)["schedule"]["learning_rate"] == 1e-4

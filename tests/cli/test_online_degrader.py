"""The words of the users: `upsample train --online-degrader --hr-dir photos`, and nothing else."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cli.upsample_commands import main
from degrade.images.codec import encode_image


@pytest.fixture
def photos(photographs, tmp_path, monkeypatch):
    """A folder `photos` with two photographs in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number, image in enumerate(list(photographs.values())[:2]):
        Path("photos", f"{number}.png").write_bytes(encode_image(image[:160, :160], "png"))


def run(*words):
    return CliRunner().invoke(main, ["train", *words])


def settings(*words):
    result = run(*words, "--dry-run")
    assert result.exit_code == 0, result.output
    return yaml.safe_load(result.stdout)


@pytest.mark.parametrize(
    "words",
    [
        ("--online-degrader", "--hr-dir", "photos"),
        ("--hr-dir", "photos", "--online-degrader"),
        ("--hr-dir", "photos", "--online-degrader", "--seed", "0"),
        ("--hr-dir", "photos", "--online-degrader", "tiny-x4"),
        ("--hr-dir", "photos"),
    ],
)
def test_the_option_means_the_shipped_degrader_wherever_it_stands(photos, words):
    config = settings(*words)
    assert config["stage"] == "colearn" and config["data"]["online_degrader"] == "tiny-x4"
    assert config["teacher"] == "tiny-x4-teacher" and config["start_from"] == "tiny-x4"
    assert config["data"]["recipes"] and config["degrader"]["train"]


def test_another_degrader_may_follow_the_option(photos):
    assert settings("--hr-dir", "photos", "--online-degrader", "mine")["data"]["online_degrader"] == "mine"


def test_what_the_user_chooses_is_not_replaced(photos):
    config = settings("--hr-dir", "photos", "--recipe", "bicubic", "--from", "mine", "--steps", "7")
    assert config["start_from"] == "mine" and config["teacher"] == "" and config["data"]["online_degrader"] == ""
    assert config["data"]["recipes"] == ["bicubic"] and config["schedule"]["steps"] == 7
    assert settings("--stage", "teacher", "--online-degrader", "--hr-dir", "photos")["data"]["recipes"] == []


def test_a_few_photographs_are_not_shown_a_thousand_times(photos):
    assert settings("--hr-dir", "photos")["schedule"]["steps"] == 2 * 100 // 16
    assert settings("--hr-dir", "photos", "--batch-size", "8")["schedule"]["steps"] == 2 * 100 // 16


def test_without_photographs_one_sentence_says_what_is_needed(photos):
    result = run("--online-degrader")
    assert result.exit_code == 1 and result.output.splitlines()[-1].startswith("Error: --recipe and --online-degrader")
    assert "--hr-dir" in result.output


def test_the_words_alone_train_into_a_folder_that_is_named(photos):
    result = run("--online-degrader", "--hr-dir", "photos", "--steps", "1", "--batch-size", "2", "--hr-crop", "64")
    assert result.exit_code == 0, result.output
    assert "runs/colearn (--out changes it)" in result.output
    assert Path("runs/colearn/student/config.json").exists() and Path("runs/colearn/degrader/config.json").exists()
    # Whoever wants weights of their own images alone must see that these are not.
    assert "starts from tiny-x4; --from names another upsampler" in result.stderr
    card = Path("runs/colearn/student/README.md").read_text()
    assert "It started from the weights of tiny-x4, the teacher tiny-x4-teacher." in card

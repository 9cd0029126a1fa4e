"""`upsample eval`: folders in, a table with its protocol out."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from cli.upsample_commands import main
from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import reduce_by
from upsample.evaluate import consistency, evaluate_folders, sheet_row


@pytest.fixture
def folders(tmp_path: Path, photographs) -> Path:
    """HR and LR of three photographs, and SR that is the HR with a little noise."""
    rng = np.random.default_rng(0)
    for name, photo in photographs.items():
        hr = np.ascontiguousarray(photo[:128, :128])
        sr = (hr + rng.normal(0, 2, hr.shape)).round().clip(0, 255).astype(np.uint8)
        for side, image in (("hr", hr), ("lr", reduce_by(hr, 4)), ("sr", sr)):
            (tmp_path / side).mkdir(exist_ok=True)
            (tmp_path / side / f"{name}.png").write_bytes(encode_image(image, "png"))
    return tmp_path


def test_means_are_those_of_the_images_and_bicubic_stands_beside(folders) -> None:
    report = evaluate_folders(folders / "sr", folders / "hr", lr_dir=folders / "lr")
    each = [scores["sr"]["psnr_y"] for scores in report["images"].values()]
    assert len(each) == 3 and report["mean"]["sr"]["psnr_y"] == pytest.approx(np.mean(each))
    assert report["mean"]["sr"]["psnr_y"] > report["mean"]["bicubic"]["psnr_y"] + 10
    assert "16..235" in report["protocol"]["psnr_y, ssim_y"] and "torch" in report["protocol"]["versions"]


def test_what_cannot_be_scored_is_named_and_the_rest_is_scored(folders) -> None:
    (folders / "sr" / "coffee.png").write_bytes(encode_image(np.zeros((64, 64, 3), np.uint8), "png"))
    (folders / "sr" / "chelsea.png").write_bytes(b"no image")
    (folders / "sr" / "stranger.png").write_bytes(encode_image(np.zeros((64, 64, 3), np.uint8), "png"))
    report = evaluate_folders(folders / "sr", folders / "hr")
    assert list(report["images"]) == ["astronaut.png"]
    told = " ".join(report["left_out"])
    assert "coffee.png: SR is 64x64, HR is 128x128" in told and "chelsea.png" in told and "stranger.png" in told


@pytest.mark.parametrize("hr_size", [(128, 128), (403, 402), (131, 250)])
def test_the_picture_shows_all_images_of_a_scene_even_if_lr_does_not_divide_hr(tmp_path, hr_size) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (*hr_size, 3), np.uint8)
    for side, image in (("hr", hr), ("sr", hr), ("lr", reduce_by(hr, 4))):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.png").write_bytes(encode_image(image, "png"))
    evaluate_folders(tmp_path / "sr", tmp_path / "hr", lr_dir=tmp_path / "lr", picture=tmp_path / "sheet.png")
    assert read_image(tmp_path / "sheet.png").shape[1] > 4 * 128


def test_a_row_of_the_picture_is_cut_at_the_same_place_of_every_image() -> None:
    hr = np.random.default_rng(0).integers(0, 256, (403, 402, 3), np.uint8)
    lr_part, sr_part, hr_part = sheet_row(hr[:400:4, :400:4], [hr], hr)
    assert lr_part.shape == (48, 48, 3) and sr_part.shape == hr_part.shape == (192, 192, 3)
    assert np.array_equal(sr_part, hr_part)


def test_a_picture_of_its_lr_is_more_consistent_than_another_picture(folders, tiny_degrader) -> None:
    hr, other = (read_image(folders / "hr" / f"{name}.png") for name in ("astronaut", "coffee"))
    lr = read_image(folders / "lr" / "astronaut.png")
    assert consistency(tiny_degrader, hr, lr) > consistency(tiny_degrader, other, lr) + 3


def test_the_command_prints_a_table_and_leaves_json_and_a_picture(folders, tiny_degrader) -> None:
    tiny_degrader.save_pretrained(folders / "degrader")
    arguments = ["eval", "--sr", folders / "sr", "--hr", folders / "hr", "--lr", folders / "lr"]
    arguments += ["--degrader", folders / "degrader", "--out", folders / "o.json", "--picture", folders / "o.png"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0 and "psnr_y" in result.output and "bicubic" in result.output
    report = json.loads((folders / "o.json").read_text())
    assert set(report["mean"]) == {"sr", "bicubic", "hr"} and "consistency" in report["mean"]["hr"]
    assert cv2.imread(str(folders / "o.png")) is not None


def test_mistakes_are_told_in_a_sentence(folders) -> None:
    def output(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["eval", "--sr", str(folders / "sr"), *arguments])
        assert result.exit_code != 0 and result.exception.__class__ is SystemExit
        return result.output

    assert "needs the LR images too" in output("--hr", str(folders / "hr"), "--degrader", "tiny-x4")
    (folders / "empty").mkdir()
    assert "Error: " in output("--hr", str(folders / "empty"))

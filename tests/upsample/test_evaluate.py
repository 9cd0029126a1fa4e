"""`upsample eval`: folders in, a table with its protocol out."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cli.upsample_commands import main
from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import reduce_by
from degrade.perceptual.pretrained_features import pretrained_features
from upsample.evaluate import consistency, evaluate_folders, sheet_row
from upsample.evaluation.figures import table_text


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
    report = evaluate_folders([folders / "sr"], folders / "hr", lr_dir=folders / "lr")
    each = [scores["sr"]["psnr_y"] for scores in report["images"].values()]
    assert len(each) == 3 and report["mean"]["sr"]["psnr_y"] == pytest.approx(np.mean(each))
    assert report["mean"]["sr"]["psnr_y"] > report["mean"]["bicubic"]["psnr_y"] + 10
    assert "16..235" in report["protocol"]["psnr_y, ssim_y"] and "torch" in report["protocol"]["versions"]


def test_what_cannot_be_scored_is_named_and_the_rest_is_scored(folders) -> None:
    (folders / "sr" / "coffee.png").write_bytes(encode_image(np.zeros((64, 64, 3), np.uint8), "png"))
    (folders / "sr" / "chelsea.png").write_bytes(b"no image")
    (folders / "sr" / "stranger.png").write_bytes(encode_image(np.zeros((64, 64, 3), np.uint8), "png"))
    report = evaluate_folders([folders / "sr"], folders / "hr")
    assert list(report["images"]) == ["astronaut.png"]
    told = " ".join(report["left_out"])
    assert "coffee.png: SR is 64x64, HR is 128x128" in told and "chelsea.png" in told and "stranger.png" in told


@pytest.mark.parametrize("hr_size", [(128, 128), (403, 402), (131, 250)])
def test_the_picture_shows_all_images_of_a_scene_even_if_lr_does_not_divide_hr(tmp_path, hr_size) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (*hr_size, 3), np.uint8)
    for side, image in (("hr", hr), ("sr", hr), ("lr", reduce_by(hr, 4))):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.png").write_bytes(encode_image(image, "png"))
    evaluate_folders([tmp_path / "sr"], tmp_path / "hr", lr_dir=tmp_path / "lr", picture=tmp_path / "sheet.png")
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


@pytest.mark.parametrize("with_lr", [False, True])
@pytest.mark.parametrize("whole_sr", [False, True])
def test_hr_that_the_scale_does_not_divide_is_cut_to_what_lr_shows(tmp_path, photographs, with_lr, whole_sr) -> None:
    hr = photographs["coffee"][:131, :126].copy()
    lr = reduce_by(hr, 4)
    sr = hr.copy()
    sr[:, 124:], sr[128:] = 255, 255  # beyond what LR shows
    for side, image in (("hr", hr), ("lr", lr), ("sr", sr if whole_sr else sr[:128, :124].copy())):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.png").write_bytes(encode_image(image, "png"))
    lr_dir = tmp_path / "lr" if with_lr else None
    report = evaluate_folders([tmp_path / "sr"], tmp_path / "hr", lr_dir=lr_dir, crop_border=0)
    assert (report["mean"]["sr"]["psnr_y"] == 100) == (with_lr or not whole_sr)
    assert "modcrop" in report["protocol"]["sizes"] and report["left_out"] == []
    if with_lr:  # the enlargement lies where the HR does
        assert report["mean"]["bicubic"]["psnr_y"] > 25


def test_sr_of_another_size_is_refused_with_the_way_out(tmp_path, photographs) -> None:
    for side, image in (("hr", photographs["coffee"][:131, :126]), ("sr", photographs["coffee"][:128, :120])):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.png").write_bytes(encode_image(image.copy(), "png"))
    with pytest.raises(ValueError, match="SR is 120x128, HR is 126x131; SR should be as large, or"):
        evaluate_folders([tmp_path / "sr"], tmp_path / "hr")


@pytest.fixture
def two_sets(tmp_path: Path, photographs, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HR and LR of six photographs, and two sets of SR: soft ones, and HR with a weave of four pixels."""
    monkeypatch.setattr("upsample.evaluation.sets.CROPS", 18)
    weave = np.tile(np.array([[1, 0, -1, 0]] * 4) * np.array([[1], [0], [-1], [0]]), (48, 48))[..., None] * 3
    for name, photo in photographs.items():
        for at in (0, 200):
            hr = np.ascontiguousarray(photo[60:252, at : at + 192])
            woven = (hr + weave).clip(0, 255).astype(np.uint8)
            sides = {"hr": hr, "lr": reduce_by(hr, 4), "soft": cv2.GaussianBlur(hr, (0, 0), 2), "woven": woven}
            for side, image in sides.items():
                (tmp_path / side).mkdir(exist_ok=True)
                (tmp_path / side / f"{name}-{at}.png").write_bytes(encode_image(image, "png"))
    return tmp_path


def test_several_sets_are_scored_as_sets_in_one_table_and_a_page_shows_them(two_sets) -> None:
    arguments = ["eval", "--sr", two_sets / "soft", "--sr", two_sets / "woven", "--hr", two_sets / "hr"]
    arguments += ["--lr", two_sets / "lr", "--classifier-steps", 0, "--out", two_sets / "o.json"]
    arguments += ["--page", two_sets / "o.html", "--picture", two_sets / "o.png"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert re.search(r"better +bicubic +soft +woven +hr\n", result.output)
    assert re.search(r"psnr_y +higher +[\d.]+ +[\d.]+ +[\d.]+ +-\n", result.output)
    assert re.search(r"kid +lower( +-?[\d.]+){4}\n", result.output) and "No figure decides alone" in result.output
    assert re.search(r"woven: comb \+\d.\d\d, .* \+\d.\d\d: a pattern repeats every 4 px or", result.output)
    assert "soft: comb" not in result.output
    report = json.loads((two_sets / "o.json").read_text())
    assert set(report["sets"]["hr"]) == set(report["figures"]) - {"psnr_y", "ssim_y", "feature_distance"}
    assert report["images"]["coffee-0.png"]["soft"]["feature_distance"] > 0
    assert "the classifier is left out, because its training steps are 0" in report["notes"]
    assert "6 images" in report["protocol"]["sets"] and "1/4" in report["protocol"]["comb"]
    page = (two_sets / "o.html").read_text()
    assert not re.search(r"(src|href)=['\"](?!data:)", page), "the page must fetch nothing"
    assert page.count("<img") == 2 * 6 * 5 and "Smooth parts" in page and "near 0" in page


def test_too_few_images_for_sets_are_scored_one_by_one_and_a_sentence_says_so(folders) -> None:
    report = evaluate_folders([folders / "sr"], folders / "hr")
    assert report["sets"] == {} and "feature_distance" in report["mean"]["sr"]
    (note,) = report["notes"]
    assert note.startswith("3 images are too few to compare as sets, so the distance of spectra, comb, classifier and")


def test_without_pretrained_features_the_rest_is_computed_and_a_sentence_says_so(two_sets, monkeypatch) -> None:
    monkeypatch.setattr("degrade.perceptual.pretrained_features.PACKAGE", "not_there")
    pretrained_features.cache_clear()
    report = evaluate_folders([two_sets / "soft"], two_sets / "hr", classifier_steps=0)
    assert "KID and the feature distance are left out: pretrained features need the package" in report["notes"][0]
    assert set(report["figures"]) == {"psnr_y", "ssim_y", "spectrum_distance", "comb", "comb_peak"}


def test_images_too_small_for_crops_are_counted(two_sets) -> None:
    for side, size in (("hr", 64), ("soft", 64)):
        file = two_sets / side / "coffee-0.png"
        file.write_bytes(encode_image(read_image(file)[:size, :size].copy(), "png"))
    report = evaluate_folders([two_sets / "soft"], two_sets / "hr", classifier_steps=0)
    assert len(report["images"]) == 6 and "5 images" in report["protocol"]["sets"]
    assert "left out of the measures of sets, as smaller than 120 x 120 px: 1 of 6 images" in report["notes"]
    assert "because the scale is unknown without LR" in report["protocol"]["comb"]


def test_scores_without_a_reference_are_computed_of_hr_too_and_the_better_side_is_told(folders, monkeypatch) -> None:
    class Brightness:
        metric_mode, lower_better = "NR", True

        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            return image.mean()

    monkeypatch.setattr("upsample.evaluate.load_scorers", lambda names: {name: Brightness() for name in names})
    report = evaluate_folders([folders / "sr"], folders / "hr", metrics=["brightness"])
    assert report["mean"]["hr"] == {"brightness": pytest.approx(report["mean"]["sr"]["brightness"], abs=0.01)}
    figure = report["figures"]["brightness"]
    assert figure == {"label": "brightness, without a reference (pyiqa)", "better": "lower"}
    assert re.search(r"brightness +lower +0\.\d{4} +0\.\d{4}$", table_text(report), re.MULTILINE)

"""Every command that reads a folder names what it passes over."""

import json
import os

import numpy as np
import pytest
from click.testing import CliRunner

import cli.degrade_commands
import cli.upsample_commands
from degrade.files.sources import list_sources
from degrade.images.codec import encode_image
from degrade.images.crops import ImagePool
from degrade.images.real_pairs import aligned_pairs
from degrade.mix import reference_codes
from degrade.realism.stop_signal import StopSignal
from degrade.synth.plan import examine
from degrade.synth.settings import SynthSettings
from degrade.training.data import DataConfig, TrainingData
from upsample.training.data import PairConfig, PairData

RECIPE = ("--degrader", "none", "--preset", "bicubic", "--crop-size", "0", "--workers", "0")


def degrade(*arguments):
    return CliRunner().invoke(cli.degrade_commands.main, [str(argument) for argument in arguments])


def upsample(*arguments):
    return CliRunner().invoke(cli.upsample_commands.main, [str(argument) for argument in arguments])


@pytest.fixture
def photograph():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).repeat(8, 0).repeat(8, 1)
    return encode_image(pixels.astype(np.uint8), "png")


@pytest.fixture
def phone(tmp_path, photograph):
    """A folder as it comes from a telephone by way of a NAS; one of its files is a photograph that can be used."""
    folder = tmp_path / "phone"
    (folder / "@eaDir").mkdir(parents=True)
    for name in ("a.png", "@eaDir/a.png", "b.HEIC", "notes.txt"):
        (folder / name).write_bytes(photograph)
    os.mkfifo(folder / "c.jpg")
    return folder


def test_synth_lists_counts_and_shows_what_it_leaves_out(phone, tmp_path):
    result = degrade("synth", "-i", phone, "-o", tmp_path / "out", *RECIPE)
    assert result.exit_code == 3, result.output
    assert "left out: b.HEIC: HEIC is not read; convert it" in result.output
    assert "left out: c.jpg: is a named pipe, not a file" in result.output
    assert "passed over: @eaDir: a folder of thumbnails, not searched" in result.output
    told = [json.loads(line) for line in (tmp_path / "out/failures.jsonl").read_text().splitlines()]
    assert [(each["source"], each.get("skipped", False)) for each in told] == [
        ("b.HEIC", False),
        ("c.jpg", False),
        ("@eaDir", True),
    ]
    stats = json.loads((tmp_path / "out/stats.json").read_text())
    assert (stats["pairs"], stats["failures"], stats["images_left_out"], stats["passed_over"]) == (1, 2, 2, 1)


def test_thumbnails_of_a_system_alone_are_no_failure(phone, tmp_path):
    (phone / "b.HEIC").unlink()
    (phone / "c.jpg").unlink()
    result = degrade("synth", "-i", phone, "-o", tmp_path / "out", *RECIPE)
    assert result.exit_code == 0 and "passed over: @eaDir" in result.output, result.output


def test_a_folder_of_another_format_alone_is_refused_by_the_name_of_the_format(tmp_path, photograph):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.heic").write_bytes(photograph)
    for command in ("synth", "preview"):
        result = degrade(
            command, "-i", tmp_path / "in", "-o", tmp_path / "out", *RECIPE[: 8 if command == "synth" else 6]
        )
        assert result.exit_code == 1 and "none of the 1 images" in result.output
        assert "a.heic: HEIC is not read" in result.output


def test_a_preview_in_the_folder_of_photographs_is_no_photograph(tmp_path, photograph):
    (tmp_path / "a.png").write_bytes(photograph)
    for _ in range(2):
        assert degrade("preview", "-i", tmp_path, "-o", tmp_path / "preview.png", *RECIPE[:6]).exit_code == 0
    result = degrade("synth", "-i", tmp_path, "-o", tmp_path.with_name("shards"), *RECIPE)
    assert result.exit_code == 0 and "passed over: preview.png: is a contact sheet" in result.output, result.output
    assert json.loads((tmp_path.with_name("shards") / "stats.json").read_text())["images"] == 1


def test_preview_names_what_it_leaves_out(phone, tmp_path):
    result = degrade("preview", "-i", phone, "-o", tmp_path / "look.png", "--rows", 1, *RECIPE[:6])
    assert result.exit_code == 0 and "left out: b.HEIC: HEIC is not read" in result.output, result.output


def test_upsample_run_names_what_it_leaves_out(phone, tmp_path, tiny_upsampler):
    tiny_upsampler.save_pretrained(tmp_path / "model")
    result = upsample("run", "-i", phone, "-o", tmp_path / "out", "-n", tmp_path / "model")
    assert result.exit_code == 3 and "@eaDir: a folder of thumbnails" in result.output, result.output
    assert "left out: b.HEIC: HEIC is not read" in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png"]
    (phone / "b.HEIC").unlink()
    (phone / "c.jpg").unlink()
    assert upsample("run", "-i", phone, "-o", tmp_path / "out", "-n", tmp_path / "model").exit_code == 0


def test_upsample_eval_and_pairs_name_what_they_leave_out(phone, tmp_path, photograph):
    (tmp_path / "sr").mkdir()
    (tmp_path / "sr/a.png").write_bytes(photograph)
    result = upsample("eval", "--sr", tmp_path / "sr", "--hr", phone)
    assert result.exit_code == 0 and "b.HEIC: HEIC is not read" in result.output, result.output
    assert any("b.HEIC: HEIC is not read" in each for each in aligned_pairs([(phone, phone)], scale=1, min_side=8)[1])


def test_training_and_reports_name_what_they_leave_out(phone, tiny_degrader):
    for data in (
        TrainingData(DataConfig(hr_dir=str(phone), recipes=("bicubic",)), scale=4, hr_crop=64, batch_size=2, seed=0),
        PairData(PairConfig(hr_dir=str(phone), recipes=("bicubic",)), scale=4, hr_crop=64, batch_size=1, seed=0),
        ImagePool(list_sources(phone), min_side=64),
    ):
        told = " ".join(data.left_out)
        assert "b.HEIC: HEIC is not read" in told and "@eaDir: a folder of thumbnails" in told and "c.jpg" in told
    with pytest.raises(ValueError, match="reference b.HEIC: HEIC is not read"):
        reference_codes(tiny_degrader, phone)
    (phone / "b.HEIC").unlink()
    (phone / "c.jpg").unlink()
    assert len(reference_codes(tiny_degrader, phone)) == 1


@pytest.mark.parametrize("of", [TrainingData, PairData, StopSignal])
def test_training_on_another_format_alone_is_refused_by_its_name(tmp_path, photograph, of):
    (tmp_path / "a.heic").write_bytes(photograph)
    with pytest.raises(ValueError, match="a.heic: HEIC is not read"):
        if of is StopSignal:
            StopSignal(str(tmp_path), [str(tmp_path)], scale=4)
        elif of is TrainingData:
            TrainingData(
                DataConfig(hr_dir=str(tmp_path), recipes=("bicubic",)), scale=4, hr_crop=64, batch_size=2, seed=0
            )
        else:
            PairData(PairConfig(hr_dir=str(tmp_path), recipes=("bicubic",)), scale=4, hr_crop=64, batch_size=1, seed=0)


def test_a_panorama_too_long_for_the_format_is_left_out_at_planning(tmp_path):
    for name, width in (("long", 16_640), ("longer", 70_000)):
        (tmp_path / f"{name}.png").write_bytes(encode_image(np.zeros((64, width, 3), np.uint8), "png"))
    long, longer = list_sources(tmp_path)
    whole = {"scale": 4, "crop_size": 0}
    webp, jpg = SynthSettings(**whole, hr_ext="webp"), SynthSettings(**whole, hr_ext="jpg")
    small_webp = SynthSettings(**whole, lr_ext="webp")
    assert "16640x64 is longer than the 16383 px of a webp; choose another format" in examine(long, webp).found.reason
    assert "70000x64 is longer than the 65500 px of a jpg" in examine(longer, jpg).found.reason
    assert "17500x16 is longer than the 16383 px of a webp" in examine(longer, small_webp).found.reason
    for fitting in (small_webp, jpg, SynthSettings(crop_size=64, hr_ext="webp")):
        assert examine(long, fitting).found.width == 16_640
    with pytest.raises(ValueError, match="16384x16384 is longer than the 16383 px of a webp; give another --hr-ext"):
        SynthSettings(crop_size=16_384, hr_ext="webp")


def test_a_crop_too_long_for_a_codec_of_its_recipe_is_a_failure_and_the_rest_is_made(tmp_path, photograph):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(photograph)
    noise = np.random.default_rng(0).integers(0, 256, (64, 16_640, 3), np.uint8)
    (tmp_path / "in/pano.png").write_bytes(encode_image(noise, "png"))
    recipe = {"name": "webp first", "steps": [{"op": "webp", "quality": [80, 90]}]}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    options = ("--degrader", "none", "--recipe", tmp_path / "recipe.yaml", "--crop-size", 0, "--workers", 0)
    result = degrade("synth", "-i", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert result.exit_code == 3, result.output
    (failure,) = map(json.loads, (tmp_path / "out/failures.jsonl").read_text().splitlines())
    assert failure["source"] == "pano.png" and "longer than the 16383 px of a webp" in failure["reason"]

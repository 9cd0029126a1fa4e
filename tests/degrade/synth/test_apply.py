"""`degrade apply`: whole images, their names, their log, and the same pictures again."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import reduce_by


@pytest.fixture
def photos(photographs, tmp_path):
    """Two photographs, one of them in a subfolder, 101 x 83 and 64 x 64."""
    first, second = list(photographs.values())[:2]
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(encode_image(first[:83, :101], "png"))
    (folder / "sub" / "b.jpg").write_bytes(encode_image(second[:64, :64], "jpg", 95))
    return folder


def run(*arguments):
    return CliRunner().invoke(main, ["apply", *map(str, arguments), "--workers", "0"])


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def pictures(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


def test_pictures_keep_names_and_subfolders_and_have_the_size_of_the_scale(photos, tmp_path):
    out = tmp_path / "out"
    assert run("-i", photos, "-o", out, "--scale", 2).exit_code == 0
    assert sorted(pictures(out)) == ["a.png", "log.jsonl", "sub/b.png"]
    assert read_image(out / "a.png").shape == (41, 50, 3) and read_image(out / "sub" / "b.png").shape == (32, 32, 3)


def test_a_log_makes_the_same_bytes_again(photos, tmp_path):
    options = ("--variants", 2, "--strength", "0.5..1.5", "--blur", 0.5, "--ext", "jpg")
    assert run("-i", photos, "-o", tmp_path / "out", *options).exit_code == 0
    result = run("-i", photos, "-o", tmp_path / "again", "--replay", tmp_path / "out" / "log.jsonl")
    assert result.exit_code == 0, result.output
    assert pictures(tmp_path / "again") == pictures(tmp_path / "out") and len(pictures(tmp_path / "out")) == 5
    assert len({line["params"]["strength"] for line in lines(tmp_path / "out")}) == 4


def test_a_log_of_a_recipe_needs_no_degrader(photos, tmp_path):
    assert run("-i", photos, "-o", tmp_path / "out", "--degrader", "none", "--preset", "real-esrgan").exit_code == 0
    log = tmp_path / "out" / "log.jsonl"
    assert run("-i", photos, "-o", tmp_path / "again", "--replay", log).exit_code == 0
    assert pictures(tmp_path / "again") == pictures(tmp_path / "out")


def test_a_picture_of_another_source_is_a_failure_and_not_written(photos, tmp_path):
    assert run("-i", photos, "-o", tmp_path / "out").exit_code == 0
    shutil.copy(photos / "sub" / "b.jpg", photos / "a.png")
    result = run("-i", photos, "-o", tmp_path / "again", "--replay", tmp_path / "out" / "log.jsonl")
    assert result.exit_code == 3 and "a.png: is not the file that was degraded" in result.output
    assert sorted(pictures(tmp_path / "again")) == ["log.jsonl", "sub/b.png"]


def test_a_second_run_skips_what_exists_and_makes_what_is_missing(photos, tmp_path):
    out = tmp_path / "out"
    run("-i", photos, "-o", out)
    before = pictures(out)
    (out / "a.png").unlink()
    result = run("-i", photos, "-o", out)
    assert result.exit_code == 0 and "1 pictures (1 exist already)" in result.output
    assert pictures(out)["a.png"] == before["a.png"]


def test_other_settings_in_the_same_folder_are_refused_until_overwritten(photos, tmp_path):
    out = tmp_path / "out"
    run("-i", photos, "-o", out)
    before = pictures(out)
    for options in (("--strength", 0.5), ("--seed", 1), ("--scale", 2)):
        result = run("-i", photos, "-o", out, *options)
        assert result.exit_code == 1 and "made with other settings" in result.output and pictures(out) == before
    assert run("-i", photos, "-o", out, "--strength", 0.5, "--overwrite").exit_code == 0
    assert pictures(out)["a.png"] != before["a.png"] and lines(out)[-1]["params"]["strength"] == 0.5


def test_strength_0_is_the_clean_downsampling(photos, tmp_path):
    assert run("-i", photos / "a.png", "-o", tmp_path / "clean.png", "--strength", 0).exit_code == 0
    clean = reduce_by(read_image(photos / "a.png")[:80, :100], 4).astype(int)
    assert np.abs(read_image(tmp_path / "clean.png").astype(int) - clean).max() <= 1
    assert json.loads((tmp_path / "clean.jsonl").read_text())["params"]["strength"] == 0


def test_what_cannot_be_used_is_listed_and_the_rest_is_made(photos, tmp_path):
    (photos / "broken.png").write_bytes(b"\x89PNG")
    (photos / "small.png").write_bytes(encode_image(np.zeros((2, 2, 3), np.uint8), "png"))
    (photos / "phone.heic").write_bytes(b"....ftypheic")
    result = run("-i", photos, "-o", tmp_path / "out")
    assert result.exit_code == 3 and len(pictures(tmp_path / "out")) == 3
    for name in ("broken.png", "small.png", "phone.heic"):
        assert name in result.output


def test_mistakes_are_one_sentence_and_write_nothing(photos, tmp_path):
    (photos / "a.jpg").write_bytes((photos / "sub" / "b.jpg").read_bytes())
    (tmp_path / "log").write_text('{"picture": 1}\n')
    for arguments, words in (
        (("-i", photos, "-o", tmp_path / "out"), "a.jpg and a.png would both be written to"),
        (("-i", photos, "-o", tmp_path / "x.png"), "is the name of one image"),
        (("-i", photos / "a.png", "-o", tmp_path / "x.tif"), "is no png"),
        (("-i", photos / "sub", "-o", photos / "sub" / "out"), "lies inside"),
        (("-i", photos / "sub", "-o", tmp_path / "out", "--replay", tmp_path / "log"), "line 1 is not a line of"),
        (("-i", photos / "sub", "-o", tmp_path / "out", "--preset", "bicubic", "--strength", 2), "ranges of its own"),
        (("-i", tmp_path / "nowhere", "-o", tmp_path / "out"), "does not exist"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1 and words in result.output and result.output.count("Error") == 1, result.output
    assert not (tmp_path / "out").exists() and not (tmp_path / "x.png").exists()


def test_workers_make_the_same_bytes(photos, tmp_path):
    run("-i", photos, "-o", tmp_path / "one")
    result = CliRunner().invoke(
        main, ["apply", "-i", str(photos), "-o", str(tmp_path / "two"), "--workers", "2", "--json"]
    )
    assert result.exit_code == 0 and pictures(tmp_path / "one") == pictures(tmp_path / "two")


def test_a_log_cannot_write_outside_the_output_folder(photos, tmp_path):
    run("-i", photos, "-o", tmp_path / "out")
    first = lines(tmp_path / "out")[0]
    (tmp_path / "evil.jsonl").write_text(json.dumps({**first, "picture": "../evil.png"}) + "\n")
    result = run("-i", photos, "-o", tmp_path / "again", "--replay", tmp_path / "evil.jsonl")
    assert result.exit_code == 1 and "leads out of the output folder" in result.output
    assert not (tmp_path / "evil.png").exists()

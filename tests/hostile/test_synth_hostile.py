import errno
import json
import os

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cli.degrade_commands import main
from degrade.images.codec import encode_image
from degrade.shards.reader import read_pairs
from degrade.shards.verify import verify_shards
from degrade.synth.unit_maker import UnitMaker

RECIPE = ["--degrader", "none", "--preset", "real-esrgan"]


def synth(hr_dir, out, *options):
    """Run the command in this process."""
    arguments = ["synth", "-i", hr_dir, "-o", out, "--workers", 0, *options]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def tars(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("pairs-*.tar"))}


@pytest.fixture
def hostile(photographs, tmp_path):
    """A folder as strangers have them."""
    folder = tmp_path / "hostile"
    (folder / "x.png").mkdir(parents=True)
    photo = photographs["coffee"]
    jpg = encode_image(photo, "jpg")
    (folder / "truncated.jpg").write_bytes(jpg[: len(jpg) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("I am no image")
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    cv2.imwrite(str(folder / "dot.png"), photo[:1, :1])
    (folder / "x.png" / "inside.jpg").write_bytes(jpg)
    Image.fromarray(photo).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    cv2.imwrite(str(folder / "grey16.png"), cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.uint16) * 257)
    (folder / "My holiday. v1.2 – Zürich 東京.final.PNG").write_bytes(encode_image(photo, "png"))
    with open(os.path.join(os.fsencode(folder), b"latin-\xe9.png"), "wb") as file:  # no UTF-8 at all
        file.write(encode_image(photo, "png"))
    return folder


def test_all_that_is_usable_is_used_and_the_rest_is_listed_with_reasons(hostile, tmp_path):
    out = tmp_path / "out"
    result = synth(hostile, out, *RECIPE, "--crop-size", 128, "--crops-per-image", 2)
    assert result.exit_code == 3, result.output
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    reasons = {failure["source"]: failure["reason"] for failure in failures}
    words = {
        "truncated.jpg": "truncated", "empty.jpg": "0 bytes", "text.png": "not a JPEG, PNG",
        "dangling.png": "broken link", "dot.png": "1x1 is smaller than 128",
    }  # fmt: skip
    assert reasons.keys() == words.keys()
    assert all(word in reasons[name] and "\n" not in reasons[name] for name, word in words.items())
    assert str(tmp_path) not in (out / "failures.jsonl").read_text()  # the same wherever the source lies
    used = [pair["meta"]["source"] for pair in read_pairs(out)]
    good = ["x.png/inside.jpg", "cmyk.jpg", "grey16.png", "My holiday. v1.2 – Zürich 東京.final.PNG", "latin-\\xe9.png"]
    assert sorted(used) == sorted(good * 2)
    assert "10 pairs in 10 shards" in result.output and "6 images or crops could not be used" in result.output
    assert "failures.jsonl" in result.output
    report = verify_shards(out)
    assert report.ok, report.text()


def test_a_grey_or_cmyk_photo_gives_the_pixels_that_the_rgb_one_gives(hostile, photographs, tmp_path):
    synth(hostile, tmp_path / "out", "--degrader", "none", "--preset", "bicubic", "--crop-size", 0)
    photo = photographs["coffee"].astype(int)
    grey = cv2.cvtColor(photographs["coffee"], cv2.COLOR_RGB2GRAY)[..., None].astype(int)
    found = {pair["meta"]["source"]: (pair["hr"] * 255).round().permute(1, 2, 0).int().numpy()
             for pair in read_pairs(tmp_path / "out")}  # fmt: skip
    assert np.abs(found["cmyk.jpg"] - photo).mean() < 3
    assert np.array_equal(found["grey16.png"], np.broadcast_to(grey, photo.shape))


def test_a_second_run_over_a_hostile_folder_says_the_same(hostile, tmp_path):
    out, options = tmp_path / "out", [*RECIPE, "--crop-size", 128, "--crops-per-image", 1]
    synth(hostile, out, *options)
    before = (out / "failures.jsonl").read_bytes()
    again = synth(hostile, out, *options)
    assert again.exit_code == 3 and "this run: 0 pairs" in again.output
    assert (out / "failures.jsonl").read_bytes() == before


def test_a_folder_without_one_usable_image_is_one_sentence(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "empty.jpg").write_bytes(b"")
    result = synth(tmp_path / "bad", tmp_path / "out", *RECIPE)
    assert result.exit_code == 1 and not (tmp_path / "out").exists()
    assert result.output.startswith("Error: none of the 1 images in") and "0 bytes" in result.output


def test_an_image_that_changes_after_planning_becomes_a_failure(photo_folder, photographs, tmp_path):
    from degrade.recipes.recipe import Recipe
    from degrade.synth.job import resolve_job
    from degrade.synth.run import SynthRun
    from degrade.synth.settings import SynthSettings

    settings = SynthSettings(recipe=Recipe.preset("bicubic").to_dict(), crop_size=256, crops_per_image=1)
    job = resolve_job(settings, degrader="none", reference_dir=None)
    run = SynthRun.open(photo_folder, tmp_path / "out", job)
    size = (photo_folder / "coffee.png").stat().st_size
    other = encode_image(np.ascontiguousarray(photographs["coffee"][:300]), "png")
    (photo_folder / "coffee.png").write_bytes(other + bytes(size - len(other)))
    (photo_folder / "chelsea.png").unlink()
    stats = run.run(workers=0, progress=False)
    failures = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert {failure["source"]: failure["reason"] for failure in failures} == {
        "coffee.png": "is 600x300 now, was 600x400 when planned",
        "chelsea.png": "cannot be read (No such file or directory)",
    }
    assert stats["pairs"] == 1 and stats["failures"] == 2


@pytest.mark.parametrize("syncs", [0, 4, 6, 8])  # full at the plan, at a tar, at its marker, at the next tar
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_done(photo_folder, tmp_path, monkeypatch, syncs):
    out, options = tmp_path / "out", [*RECIPE, "--crop-size", 128, "--shard-size", 10]
    synced, real = [], os.fsync

    def full_later(descriptor):
        synced.append(descriptor)
        if len(synced) > syncs:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full_later)
    result = synth(photo_folder, out, *options)
    monkeypatch.undo()
    assert result.exit_code == 1 and result.output.startswith("Error: disk full at") and result.output.count("\n") == 1
    assert not list(out.glob(".*"))
    finished = {path.stem for path in out.glob("pairs-*.json")}
    assert verify_markers(out) == finished and len(finished) == (syncs == 8)
    assert synth(photo_folder, out, *options).exit_code == 0 and verify_shards(out).ok


def verify_markers(out):
    """Shards whose tar is what their marker says."""
    markers = {path.stem: json.loads(path.read_text()) for path in out.glob("pairs-*.json")}
    return {name for name, marker in markers.items() if (out / f"{name}.tar").stat().st_size == marker["bytes"]}


def test_a_run_that_is_stopped_in_a_shard_leaves_no_part_of_it(photo_folder, tmp_path, monkeypatch):
    made, real = [], UnitMaker.make

    def stopped_at_the_third(self, *arguments):
        made.append(arguments)
        if len(made) == 3:
            raise KeyboardInterrupt
        return real(self, *arguments)

    options = [*RECIPE, "--crop-size", 128, "--shard-size", 1000]
    monkeypatch.setattr(UnitMaker, "make", stopped_at_the_third)
    result = synth(photo_folder, tmp_path / "out", *options)
    assert result.exit_code == 1 and result.output.startswith("Error: stopped; finished work is kept")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.json", "plan.jsonl"}
    monkeypatch.undo()
    assert synth(photo_folder, tmp_path / "out", *options).output.startswith("48 pairs")


def test_a_process_of_its_own_gives_the_same_bytes(photo_folder, tiny_degrader, tmp_path, monkeypatch):
    tiny_degrader.save_pretrained(tmp_path / "tiny")
    options = ["--degrader", tmp_path / "tiny", "--preset", "real-esrgan", "--crop-size", 128, "--shard-size", 4]
    assert synth(photo_folder, tmp_path / "alone", *options).exit_code == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert synth(photo_folder, tmp_path / "other", *options, "--workers", 1).exit_code == 0
    assert tars(tmp_path / "alone") == tars(tmp_path / "other")


@pytest.mark.slow
def test_sixty_megapixels_are_cropped_and_degraded_whole(photographs, tmp_path):
    large = cv2.resize(photographs["chelsea"], (9600, 6400), interpolation=cv2.INTER_LINEAR)
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "large.png").write_bytes(encode_image(large, "png"))
    result = synth(tmp_path / "large", tmp_path / "crops", *RECIPE, "--crops-per-image", 40, "--keep-flat")
    assert result.output.startswith("40 pairs")
    result = synth(tmp_path / "large", tmp_path / "whole", "--degrader", "none", "--preset", "bicubic",
                   "--crop-size", 0)  # fmt: skip
    assert result.output.startswith("1 pairs"), result.output
    refused = synth(tmp_path / "large", tmp_path / "none", *RECIPE, "--max-pixels", 50_000_000)
    assert refused.exit_code == 1 and "--max-pixels" in refused.output

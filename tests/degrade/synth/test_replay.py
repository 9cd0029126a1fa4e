import io
import json
import tarfile

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade.degrader import RealisticDegrader
from degrade.images.codec import encode_image, read_image
from degrade.shards.record import SampleMeta
from degrade.synth.replay import find_pair, replay_pair


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def degrader_dir(tiny_degrader, tmp_path):
    tiny_degrader.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def make(photo_folder, degrader_dir, tmp_path):
    """``make("--hr-ext", "jpg")`` makes a small data set of both kinds of pairs."""

    def make(*options):
        out = tmp_path / "out"
        result = run("synth", "-i", photo_folder, "-o", out, "--workers", 0, "--degrader", degrader_dir, "--preset",
                     "real-esrgan", "--crop-size", 64, "--crops-per-image", 3, "--shard-size", 1000,
                     *options)  # fmt: skip
        assert result.exit_code == 0, result.output
        return out

    return make


def rewrite(out, change):
    """Replace members of the first tar: ``change`` maps (name, data) to data."""
    path = out / "pairs-000000.tar"
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            data = change(member.name, data)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("hr_ext", ["png", "webp", "jpg"])
@pytest.mark.parametrize("lr_ext", ["png", "webp", "jpg"])
def test_every_pair_is_made_again_to_the_byte(make, degrader_dir, hr_ext, lr_ext):
    out = make("--hr-ext", hr_ext, "--lr-ext", lr_ext, "--jpg-quality", 80, "--steps", 2)
    results = [replay_pair(out, str(slot), degrader=degrader_dir) for slot in range(9)]
    assert all(result.identical and result.max_difference == 0 for result in results)
    assert {result.record["kind"] for result in results} == {"learned", "recipe"}


def test_pairs_by_reference_codes_are_made_again(make, degrader_dir, photo_folder):
    out = make("--reference-dir", photo_folder, "--mix", 0)
    assert all(replay_pair(out, str(slot), degrader=degrader_dir).identical for slot in range(9))


@pytest.mark.parametrize("kind", ["learned", "recipe"])
def test_one_changed_level_of_one_pixel_is_noticed(make, degrader_dir, kind):
    out = make("--mix", 0 if kind == "learned" else 1)

    def tamper(name, data):
        if name != "000000004.lr.png":
            return data
        lr = read_image(data)
        lr[3, 5, 1] ^= 1
        return encode_image(lr, "png")

    rewrite(out, tamper)
    result = replay_pair(out, "4", degrader=degrader_dir)
    assert not result.identical and result.max_difference == 1
    assert replay_pair(out, "5", degrader=degrader_dir).identical
    assert run("replay", out, "--key", 4, "--degrader", degrader_dir).exit_code == 1


def test_an_lr_encoded_anew_has_equal_pixels_but_not_equal_bytes(make, degrader_dir):
    out = make()

    def reencode(name, data):
        if not name.endswith(".lr.png"):
            return data
        pixels = cv2.cvtColor(read_image(data), cv2.COLOR_RGB2BGR)
        return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()

    rewrite(out, reencode)
    result = replay_pair(out, "0", degrader=degrader_dir)
    assert not result.identical and result.max_difference == 0


def test_the_wrong_weights_are_refused(make, degrader_dir, tiny_degrader, tmp_path):
    out = make("--mix", 0)
    with torch.no_grad():
        tiny_degrader.unet.head.weight[0, 0, 0, 0] += 1e-3
    tiny_degrader.save_pretrained(tmp_path / "other")
    result = run("replay", out, "--key", 0, "--degrader", tmp_path / "other")
    assert result.exit_code == 1 and "is not the degrader of the record, tiny@" in result.output


def test_weights_that_are_not_where_they_were_are_asked_for(make, tmp_path, monkeypatch):
    def nothing(name):
        raise ValueError(f"no degrader {name!r} here or on the hub")

    out = make("--mix", 0)
    monkeypatch.setattr(RealisticDegrader, "from_pretrained", nothing)
    result = run("replay", out, "--key", 0)
    assert result.exit_code == 1 and "pass --degrader to say where tiny is now" in result.output


def test_a_recipe_pair_needs_no_weights(make, degrader_dir, monkeypatch):
    out = make("--mix", 1)
    monkeypatch.setattr(RealisticDegrader, "from_pretrained", None)
    assert replay_pair(out, "000000003").identical


def test_one_tar_that_was_moved_alone_is_enough(make, degrader_dir, tmp_path):
    out = make()
    tar = (out / "pairs-000000.tar").rename(tmp_path / "renamed.tar")
    assert replay_pair(tar, "2", degrader=degrader_dir).identical


def test_the_command_prints_what_was_done_and_draws_it(make, degrader_dir, tmp_path):
    out, picture = make("--mix", 1), tmp_path / "new" / "picture.png"
    result = run("replay", out, "--key", "000000001", "-o", picture)
    assert result.exit_code == 0
    answer = json.loads(result.output)
    assert (answer["key"], answer["identical"], answer["record"]["recipe"]) == ("000000001", True, "real-esrgan")
    assert read_image(picture).shape[1] > 3 * 64


@pytest.mark.parametrize("what", ["size", "broken"])
def test_an_lr_that_cannot_be_compared_is_one_sentence(make, what):
    out = make("--mix", 1)
    small = encode_image(np.zeros((8, 8, 3), np.uint8), "png") if what == "size" else b"\x89PNG\r\n\x1a\n"
    rewrite(out, lambda name, data: small if name.endswith("lr.png") else data)
    result = run("replay", out, "--key", 0)
    assert result.exit_code == 1 and result.output.startswith("Error: ") and result.output.count("\n") == 1
    assert isinstance(result.exception, SystemExit)


def test_a_pair_that_is_not_there_is_named(make):
    result = run("replay", make("--mix", 1), "--key", 99)
    assert result.exit_code == 1 and "no pair 000000099 in" in result.output


def test_the_record_found_is_that_of_the_key(make):
    out = make("--mix", 1, "--shard-size", 4)
    for slot in (0, 3, 4, 8):
        assert SampleMeta.from_json(find_pair(out, f"{slot:09d}").record).key == f"{slot:09d}"

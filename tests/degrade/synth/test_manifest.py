import dataclasses
import errno
import hashlib
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade.files.sources import Source
from degrade.files.store import DiskStore
from degrade.images.codec import encode_image
from degrade.shards import layout as layout_module
from degrade.shards.layout import read_marker
from degrade.synth.job import Job
from degrade.synth.manifest import check_settings, read_manifest, read_plan, write_manifest
from degrade.synth.plan import PlannedSource
from degrade.synth.settings import SynthSettings

PLAN = [PlannedSource(f"{name}.png", 100, 64, 64, 4, 0) for name in ("c", "a", "b")]


class Killed(BaseException):
    """In the place of a kill -9: nothing of the command's own catches it."""


@pytest.fixture
def small_photos(photographs, tmp_path):
    """Three pieces of photographs, one of them half flat."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in photographs.items():
        piece = image[60:188, 60:188].copy()
        piece[:, :64] = 200 if name == "coffee" else piece[:, :64]
        (folder / f"{name}.png").write_bytes(encode_image(piece, "png"))
    return folder


@pytest.fixture
def synth(small_photos, tmp_path):
    """``synth("out", "--extend")`` runs the command in this process, which must end with the status; what it said."""

    def run(out, *options, status=0):
        arguments = ["synth", "-i", small_photos, "-o", tmp_path / out, "--degrader", "none", "--preset", "bicubic",
                     "--crop-size", 32, "--shard-size", 5, "--workers", 0, *options]  # fmt: skip
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == status, result.output
        assert status != 1 or (result.output.startswith("Error: ") and result.output.count("\n") == 1)
        return result.output

    return run


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("pairs-*")}


def add_photo(folder, photographs, name="new.png"):
    (folder / name).write_bytes(encode_image(np.ascontiguousarray(photographs["chelsea"][100:196, 200:296]), "png"))


def lines(plan):
    return [json.dumps(vars(image), sort_keys=True).encode() + b"\n" for image in plan]


@pytest.fixture
def planned(tmp_path):
    """A store with a plan of three images and its manifest, and the hash in there."""
    store = DiskStore(tmp_path / "out")
    write_manifest(store, Job(SynthSettings(), "", None), lines(PLAN))
    return store, read_manifest(store)["plan_sha256"]


def test_a_plan_comes_back_as_it_was_written(planned):
    assert list(read_plan(*planned)) == PLAN


@pytest.mark.parametrize(
    "damaged",
    [lines(PLAN[:2]), lines([PLAN[1], PLAN[0], PLAN[2]]), lines(PLAN)[1:], [b"\n", *lines(PLAN)], [b"\xff\n"], []],
)
def test_a_plan_that_the_manifest_does_not_vouch_for_is_refused(planned, damaged):
    store, digest = planned
    store.write("plan.jsonl", b"".join(damaged))
    with pytest.raises(ValueError, match="plan.jsonl is missing or damaged; put it back"):
        list(read_plan(store, digest))


@pytest.mark.parametrize("line", [b'{"name": 3}\n', b"[]\n", b"{\n"])
def test_a_plan_that_is_none_is_refused_even_when_it_is_vouched_for(tmp_path, line):
    store = DiskStore(tmp_path / "out")
    write_manifest(store, Job(SynthSettings(), "", None), [line])
    with pytest.raises(ValueError, match="plan.jsonl is missing or damaged"):
        list(read_plan(store, read_manifest(store)["plan_sha256"]))


def test_lines_beyond_those_that_the_manifest_vouches_for_are_left_out(planned):
    store, digest = planned
    longer = [*PLAN, PlannedSource("new.png", 100, 64, 64, 4, 1)]
    for more in (lines(longer), [*lines(PLAN), b'{"name": "cut o']):
        store.write("plan.jsonl", b"".join(more))
        assert list(read_plan(store, digest)) == PLAN


@pytest.mark.parametrize("part", ["settings", "settings_hash", "plan_sha256", "format"])
def test_a_manifest_without_one_of_its_parts_is_not_ours(planned, part):
    store, _ = planned
    manifest = read_manifest(store)
    del manifest[part]
    store.write("manifest.json", json.dumps(manifest).encode())
    with pytest.raises(ValueError, match="manifest.json is not a manifest of `degrade synth`"):
        read_manifest(store)


def test_a_manifest_or_plan_that_cannot_be_read_is_not_called_damaged(planned, monkeypatch):
    store, digest = planned

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(DiskStore, "read", broken)
    monkeypatch.setattr(DiskStore, "open", broken)
    for look in (lambda: read_manifest(store), lambda: list(read_plan(store, digest))):
        with pytest.raises(OSError, match="Input/output error"):
            look()


def test_settings_that_differ_are_all_named_also_those_that_only_one_version_knows():
    before = json.loads(json.dumps(dataclasses.asdict(SynthSettings(seed=1, recipe={"name": "x" * 100}))))
    check_settings(before, SynthSettings(seed=1, recipe={"name": "x" * 100}), "out")
    del before["keep_flat"]
    before["sharpness"] = 3
    with pytest.raises(ValueError) as told:
        check_settings(before, SynthSettings(seed=2, recipe={"name": "x" * 99 + "y"}), "out")
    for difference in ("keep_flat was null, is false", "seed was 1, is 2", "sharpness was 3, is null", "recipe was {"):
        assert difference in str(told.value)
    old, new = str(told.value).partition("recipe was ")[2].partition(";")[0].split(", is ")
    assert old != new and len(old) < 60  # a hash tells long values apart


def test_an_older_manifest_with_other_settings_is_refused_until_it_is_put_right(synth, tmp_path):
    synth("out")
    path = tmp_path / "out" / "manifest.json"
    whole, manifest = path.read_bytes(), json.loads(path.read_text())
    for change in ({"crop_shape": "square"}, {"scale": None}):
        path.write_text(json.dumps({**manifest, "settings": {**manifest["settings"], **change}}))
        assert f"{next(iter(change))} was" in synth("out", status=1)
    path.write_bytes(whole)
    assert "this run: 0 pairs" in synth("out")


@pytest.mark.parametrize("place", ["plan.jsonl", "manifest.json"])
def test_an_extension_that_was_killed_is_taken_up(synth, small_photos, photographs, tmp_path, monkeypatch, place):
    synth("whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "out")
    add_photo(small_photos, photographs)
    synth("whole", "--extend")
    real = DiskStore.publish

    def killed(self, growing, name):
        if name == place:
            raise Killed
        real(self, growing, name)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(DiskStore, "publish", killed)
        CliRunner().invoke(main, ["synth", "-i", str(small_photos), "-o", str(tmp_path / "out"), "--degrader", "none",
                                  "--preset", "bicubic", "--crop-size", "32", "--shard-size", "5", "--workers", "0",
                                  "--extend"], catch_exceptions=False)  # fmt: skip
    longer = len((tmp_path / "out" / "plan.jsonl").read_bytes().splitlines()) == 4
    assert longer == (place == "manifest.json")
    assert "1 new, 0 gone (new.png first)" in synth("out", status=1)  # without --extend
    (small_photos / "new.png").rename(tmp_path / "new.png")
    assert "this run: 0 pairs" in synth("out")  # without the new image it is the data set that it was
    (tmp_path / "new.png").rename(small_photos / "new.png")
    synth("out", "--extend")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


@pytest.mark.parametrize("removed", [0, 1, 9, 20, 26])
def test_an_overwrite_that_was_killed_while_it_removed_is_taken_up(synth, tmp_path, monkeypatch, removed):
    other = ("--seed", 1, "--crops-per-image", 6)
    synth("whole", *other)
    synth("out")
    calls, real = [], DiskStore.remove

    def killed(self, name):
        calls.append(name)
        if len(calls) > removed:
            raise Killed
        real(self, name)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(DiskStore, "remove", killed)
        layout_module.remove_data_set(DiskStore(tmp_path / "out"))
    if removed:
        assert not (tmp_path / "out" / "pairs-000000.json").exists()  # the marker goes before its tar
    synth("out", *other, status=1)  # still the data set of other settings
    synth("out", *other, "--overwrite")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_retry_failed_makes_only_shards_in_which_a_pair_could_not_be_made(synth, tmp_path, monkeypatch):
    synth("whole")
    real, broken = Source.read, {"astronaut.png"}

    def read(self):
        if self.name in broken:
            raise OSError(errno.EIO, "Input/output error")
        return real(self)

    monkeypatch.setattr(Source, "read", read)
    assert "16 images or crops could not be used" in synth("out", status=3)
    failures = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert {f["reason"] for f in failures if f["source"] == "astronaut.png"} == {"cannot be read (Input/output error)"}
    markers = {index: read_marker(tmp_path / "out", index) for index in range(10)}
    failed = {index for index, marker in markers.items() if marker.failed}
    assert any(marker.failures and not marker.failed for marker in markers.values())  # flat crops, by intention
    assert 3 < len(failed) < 10
    before = times(tmp_path / "out")
    broken.clear()
    assert "this run: 0 pairs" in synth("out", status=3)  # failures are kept until a retry is asked for
    assert times(tmp_path / "out") == before
    synth("out", "--retry-failed")
    after = times(tmp_path / "out")
    assert {int(name[6:12]) for name in after if after[name] != before.get(name)} == failed
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")
    assert "this run: 0 pairs" in synth("out", "--retry-failed")

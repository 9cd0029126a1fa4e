import itertools
import json
import os
import shutil
import tarfile

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from cli.degrade_commands import main
from degrade.degrader import RealisticDegrader
from degrade.images.codec import encode_image, read_image
from degrade.mix import DegradationMix
from degrade.recipes.recipe import Recipe
from degrade.shards.reader import read_pairs
from degrade.shards.verify import verify_shards

BICUBIC = ("--degrader", "none", "--preset", "bicubic")


@pytest.fixture
def degrader_dir(tiny_degrader, tmp_path):
    tiny_degrader.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def synth(photo_folder, tmp_path):
    """``synth("out", "--mix", 0.3)`` runs the command on the photographs in this process; its result must be 0."""

    def run(out, *options, hr_dir=photo_folder, status=0):
        crops = () if "--crop-size" in options else ("--crop-size", 128)
        arguments = ["synth", "-i", hr_dir, "-o", tmp_path / out, "--workers", 0, *crops, *options]
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == status, result.output
        return result

    return run


def tars(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("pairs-*.tar"))}


def records(folder):
    """The json of every pair, in order, with its params parsed."""
    found = []
    for path in sorted(folder.glob("pairs-*.tar")):
        with tarfile.open(path) as tar:
            metas = [json.load(tar.extractfile(member)) for member in tar if member.name.endswith(".json")]
        found += [{**meta, "params": json.loads(meta["params"])} for meta in metas]
    return found


def snapshot(folder):
    return {path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
            for path in folder.rglob("*") if path.is_file()}  # fmt: skip


def test_online_and_offline_give_the_same_lr(synth, degrader_dir, tmp_path):
    synth("out", "--degrader", degrader_dir, "--preset", "real-esrgan", "--crops-per-image", 4, "--steps", 2)
    degrader = RealisticDegrader.from_pretrained(degrader_dir).eval()
    mix = DegradationMix(degrader, Recipe.preset("real-esrgan"), mix=0.5, steps=2)
    pairs = list(read_pairs(tmp_path / "out"))
    assert {pair["meta"]["kind"] for pair in pairs} == {"learned", "recipe"} and len(pairs) == 12
    for at in range(0, 12, 3):
        batch = pairs[at : at + 3]
        with torch.inference_mode():
            lr = mix(torch.stack([pair["hr"] for pair in batch]), seeds=[pair["meta"]["seed"] for pair in batch])
        stored = torch.stack([pair["lr"] for pair in batch])
        assert (lr - stored).abs().max() <= 1.001 / 255 and (lr != stored).float().mean() < 1e-3


def test_bytes_depend_neither_on_threads_nor_batch_size_nor_place(synth, degrader_dir, photo_folder, tmp_path):
    options = ["--degrader", degrader_dir, "--preset", "real-esrgan", "--crops-per-image", 4, "--shard-size", 5]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        synth("one", *options, "--reference-dir", photo_folder)
        torch.set_num_threads(2)
        away = shutil.move(photo_folder, tmp_path / "away")
        synth("two", *options, "--reference-dir", away, "--batch-size", 3, hr_dir=away)
    finally:
        torch.set_num_threads(before)
    assert tars(tmp_path / "one") == tars(tmp_path / "two") and len(tars(tmp_path / "one")) == 3
    for name in ("manifest.json", "plan.jsonl", "pairs-000000.json", "_info.json", "preview.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_source_of_shards_makes_a_data_set_too(synth, tmp_path):
    synth("one", *BICUBIC, "--crop-size", 0, "--shard-size", 3)
    synth("two", *BICUBIC, hr_dir=tmp_path / "one" / "pairs-000000.tar")
    assert {record["source"] for record in records(tmp_path / "two")} == {
        f"pairs-000000.tar/{slot:09d}.hr.png" for slot in range(3)
    }


def test_variants_share_hr_and_differ_in_lr(synth, tmp_path):
    synth("out", "--degrader", "none", "--preset", "real-esrgan", "--variants", 3, "--crops-per-image", 1)
    pairs = list(read_pairs(tmp_path / "out"))
    for at in (0, 3, 6):
        one, two, three = pairs[at : at + 3]
        assert torch.equal(one["hr"], two["hr"]) and torch.equal(one["hr"], three["hr"])
        assert not torch.equal(one["lr"], two["lr"]) and not torch.equal(two["lr"], three["lr"])
        assert [pair["meta"]["variant"] for pair in (one, two, three)] == [0, 1, 2]
    assert len(pairs) == 9


def test_whole_images_lose_only_what_scale_does_not_divide(synth, photographs, tmp_path):
    synth("out", *BICUBIC, "--crop-size", 0)
    for pair in read_pairs(tmp_path / "out"):
        height, width = (side // 4 * 4 for side in photographs[pair["meta"]["source"][:-4]].shape[:2])
        assert pair["hr"].shape == (3, height, width) and pair["lr"].shape == (3, height // 4, width // 4)
        assert (pair["meta"]["crop_height"], pair["meta"]["crop_width"]) == (height, width)


def test_the_record_says_where_the_hr_was_cut(synth, photographs, tmp_path):
    synth("out", *BICUBIC, "--crops-per-image", 2)
    for pair in read_pairs(tmp_path / "out"):
        meta = pair["meta"]
        crop = photographs[meta["source"][:-4]][meta["crop_top"] :, meta["crop_left"] :][:128, :128]
        assert np.array_equal((pair["hr"] * 255).round().byte().permute(1, 2, 0).numpy(), crop)


def test_long_images_are_reduced_first(synth, photographs, tmp_path):
    synth("out", *BICUBIC, "--crop-size", 0, "--max-hr-side", 500)
    sizes = {pair["meta"]["source"]: pair["hr"].shape[1:] for pair in read_pairs(tmp_path / "out")}
    assert sizes == {"astronaut.png": (256, 256), "chelsea.png": (300, 448), "coffee.png": (200, 300)}


@pytest.mark.parametrize("extension", ["png", "webp", "jpg"])
def test_every_format_passes_verify_and_fits_its_scale(synth, extension, tmp_path):
    options = ["--hr-ext", extension, "--lr-ext", extension, "--crops-per-image", 2]
    synth("out", "--degrader", "none", "--preset", "real-esrgan-light", *options, "--scale", 3, "--crop-size", 129)
    report = verify_shards(tmp_path / "out")
    assert report.ok and report.scale == 3 and report.pairs == 6, report.text()
    with tarfile.open(tmp_path / "out" / "pairs-000000.tar") as tar:
        assert tar.getnames()[:3] == [f"000000000.{part}" for part in (f"hr.{extension}", "json", f"lr.{extension}")]


def test_mix_blends_and_replaces_nothing(synth, degrader_dir, tmp_path):
    for share in ("0", "0.5", "1"):
        synth(share, "--degrader", degrader_dir, "--preset", "redux", "--mix", share, "--crop-size", 64,
              "--crops-per-image", 14)  # fmt: skip
    kinds = {share: [record["kind"] for record in records(tmp_path / share)] for share in ("0", "0.5", "1")}
    assert set(kinds["0"]) == {"learned"} and set(kinds["1"]) == {"recipe"}
    assert len(kinds["0.5"]) == 42 and 10 < kinds["0.5"].count("recipe") < 32
    for record in records(tmp_path / "0.5"):
        learned = record["kind"] == "learned"
        assert (record["degrader"][:5], record["recipe"], record["steps"]) == (
            ("tiny@", "", 1) if learned else ("", "redux", 0)
        )


def test_references_give_the_codes(synth, degrader_dir, photo_folder, tmp_path):
    synth("bank", "--degrader", degrader_dir)
    synth("references", "--degrader", degrader_dir, "--reference-dir", photo_folder)
    codes = json.loads((tmp_path / "references" / "manifest.json").read_text())["reference_codes"]
    degrader = RealisticDegrader.from_pretrained(degrader_dir).eval()
    chelsea = torch.from_numpy(read_image(photo_folder / "chelsea.png")).permute(2, 0, 1)[None].float() / 255
    assert np.allclose(codes[1], degrader.encode(chelsea)[0].tolist(), atol=1e-5) and len(codes) == 3
    drawn = {tuple(record["params"]["code"]) for record in records(tmp_path / "references")}
    assert drawn == set(map(tuple, codes))
    assert not drawn & {tuple(record["params"]["code"]) for record in records(tmp_path / "bank")}


def test_a_run_goes_on_where_it_stopped(synth, tmp_path):
    options = [*BICUBIC, "--crops-per-image", 4, "--shard-size", 5]
    synth("out", *options)
    whole = tars(tmp_path / "out")
    before = snapshot(tmp_path / "out")
    (tmp_path / "out" / "pairs-000001.json").unlink()
    (tmp_path / "out" / "pairs-000002.tar").write_bytes(b"half")
    (tmp_path / "out" / ".pairs-000001.tar.0123456789ab.tmp").write_bytes(b"left by kill -9")
    assert "this run: 7 pairs" in synth("out", *options).output
    assert tars(tmp_path / "out") == whole and not list((tmp_path / "out").glob(".*"))
    after = snapshot(tmp_path / "out")
    assert after.keys() == before.keys()
    untouched = [path for path in before if path.name.startswith("pairs-000000")]
    assert len(untouched) == 2 and all(after[path] == before[path] for path in untouched)
    assert "this run: 0 pairs" in synth("out", *options).output


def test_other_settings_are_refused_and_named(synth, tmp_path):
    synth("out", *BICUBIC)
    before = snapshot(tmp_path / "out")
    told = synth("out", *BICUBIC, "--seed", 5, "--variants", 2, status=1).output
    assert "seed was 0, is 5; variants was 1, is 2" in told and "--overwrite" in told and told.count("\n") == 1
    assert "recipe was" in synth("out", "--degrader", "none", "--preset", "redux", status=1).output
    assert snapshot(tmp_path / "out") == before


def test_other_weights_of_the_same_name_are_refused(synth, degrader_dir, tiny_degrader, tmp_path):
    synth("out", "--degrader", degrader_dir)
    tiny_degrader.set_bank(torch.zeros(3, 16))
    tiny_degrader.save_pretrained(degrader_dir)
    assert "degrader_sha256 was" in synth("out", "--degrader", degrader_dir, status=1).output


def test_changed_new_and_lost_images_are_refused_and_named(synth, photo_folder, photographs, tmp_path):
    synth("out", *BICUBIC)
    (photo_folder / "new.png").write_bytes(encode_image(photographs["coffee"], "png"))
    assert "1 new, 0 gone (new.png first); --extend" in synth("out", *BICUBIC, status=1).output
    (photo_folder / "new.png").rename(photo_folder / "coffee.png")
    (photo_folder / "astronaut.png").unlink()
    assert "0 new, 1 gone (astronaut.png first)" in synth("out", *BICUBIC, status=1).output
    (photo_folder / "coffee.png").write_bytes(encode_image(photographs["chelsea"], "png"))
    assert "1 images changed since" in synth("out", *BICUBIC, "--extend", status=1).output


def test_extend_adds_only_new_images_and_leaves_old_shards_alone(synth, photo_folder, photographs, tmp_path):
    options = [*BICUBIC, "--shard-size", 7]
    synth("out", *options)
    before = snapshot(tmp_path / "out")
    old = records(tmp_path / "out")
    (photo_folder / "new.png").write_bytes(encode_image(photographs["coffee"][::-1].copy(), "png"))
    synth("out", *options, "--extend")
    after = snapshot(tmp_path / "out")
    assert all(after[path] == before[path] for path in before if path.name.startswith("pairs-"))
    found = records(tmp_path / "out")
    assert found[: len(old)] == old and {record["source"] for record in found[len(old) :]} == {"new.png"}
    assert [record["key"] for record in found] == [f"{slot:09d}" for slot in range(len(found))]
    info = json.loads((tmp_path / "out" / "_info.json").read_text())["splits"]["train"]
    assert info["num_samples"] == len(found) and verify_shards(tmp_path / "out").ok
    assert "this run: 0 pairs" in synth("out", *options).output  # now it is the plan


def test_overwrite_removes_only_what_synth_wrote(synth, tmp_path):
    synth("out", *BICUBIC, "--shard-size", 4)
    foreign = ["notes.txt", "pairs-best.json", "pairs-000000.tar.bak", "sub/pairs-000000.tar", ".hidden.tmp"]
    (tmp_path / "out" / "sub").mkdir()
    for name in foreign:
        (tmp_path / "out" / name).write_text("mine")
    synth("out", *BICUBIC, "--shard-size", 1000, "--overwrite")
    assert list(tars(tmp_path / "out")) == ["pairs-000000.tar"]
    assert all((tmp_path / "out" / name).read_text() == "mine" for name in foreign)


def test_a_refused_overwrite_removes_nothing(synth, photographs, tmp_path):
    synth("out", *BICUBIC)
    before = snapshot(tmp_path / "out")
    synth("out", *BICUBIC, "--overwrite", "--crop-size", 4000, status=1)  # no image is that large
    synth("out", "--degrader", "none", "--preset", "redux", "--overwrite", "--dry-run")
    assert snapshot(tmp_path / "out") == before


def test_what_is_not_ours_is_neither_used_nor_removed(synth, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    foreign = ('{"name": "a web page"}', '{"format": 2, "settings": {}}', "[]", "{", "\xff")
    for content, options in itertools.product(foreign, ((), ("--overwrite",), ("--extend",))):
        (out / "manifest.json").write_text(content, encoding="latin-1")
        assert "is not a manifest of `degrade synth`" in synth("out", *BICUBIC, *options, status=1).output
    (out / "manifest.json").rename(out / "pairs-000000.tar")
    for options in ((), ("--overwrite",)):
        assert "holds shards but no manifest.json" in synth("out", *BICUBIC, *options, status=1).output
    assert os.listdir(out) == ["pairs-000000.tar"]


def test_a_damaged_plan_is_named(synth, tmp_path):
    synth("out", *BICUBIC)
    for damage in ("", "{", '{"name": 3}\n', "[]\n"):
        (tmp_path / "out" / "plan.jsonl").write_text(damage)
        assert "plan.jsonl is missing or damaged" in synth("out", *BICUBIC, status=1).output
    (tmp_path / "out" / "plan.jsonl").unlink()
    assert "plan.jsonl is missing or damaged" in synth("out", *BICUBIC, status=1).output


def test_a_run_tells_of_which_files_only_the_first_frame_is_used(synth, photographs, tmp_path):
    photo = Image.fromarray(photographs["coffee"][:200, :200])
    (tmp_path / "frames").mkdir()
    photo.save(tmp_path / "frames" / "many.webp", save_all=True, append_images=[photo.rotate(90)], lossless=True)
    photo.save(tmp_path / "frames" / "one.png")
    said = synth("out", *BICUBIC, hr_dir=tmp_path / "frames").stderr
    assert "of which the first image is taken: 1 (many.webp)" in said


def test_a_dry_run_writes_nothing_and_tells_what_a_run_would_do(synth, tmp_path):
    plan = json.loads(synth("out", *BICUBIC, "--dry-run", "--shard-size", 10).stdout)
    assert not (tmp_path / "out").exists()
    stats = json.loads(synth("out", *BICUBIC, "--json", "--shard-size", 10).stdout)
    assert (plan["pairs"], plan["shards"], plan["images"]) == (stats["pairs"], stats["shards"], 3)
    assert plan["settings_hash"] == stats["settings_hash"] and plan["settings"]["crop_size"] == 128


@pytest.mark.parametrize("crop_size", [32, 128])
def test_no_shard_exceeds_its_bound_even_for_noise(synth, tmp_path, crop_size):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    (tmp_path / "noise").mkdir()
    deep = "/".join(["a long name of a folder ä" * 4] * 3)
    (tmp_path / "noise" / deep).mkdir(parents=True)
    (tmp_path / "noise" / deep / "n.png").write_bytes(encode_image(noise, "png"))
    bound = ["--max-shard-mb", 0.3, "--crop-size", crop_size, "--shard-size", 1000]
    synth("out", "--degrader", "none", "--preset", "real-esrgan", *bound, hr_dir=tmp_path / "noise")
    sizes = [len(data) for data in tars(tmp_path / "out").values()]
    assert len(sizes) > 1 and max(sizes) <= 300_000
    assert max(sizes) > 150_000  # a bound, not a waste


def test_eight_workers_find_a_shard_each_in_a_small_data_set(synth, tmp_path):
    synth("out", *BICUBIC, "--crops-per-image", 4)
    synth("one", *BICUBIC, "--crops-per-image", 4, "--shard-size", 1000)
    assert len(tars(tmp_path / "out")) == 12 and len(tars(tmp_path / "one")) == 1
    assert pairs_by_place(tmp_path / "out") == pairs_by_place(tmp_path / "one")
    synth("bounded", *BICUBIC, "--crops-per-image", 4, "--max-shard-mb", 100)
    assert len(tars(tmp_path / "bounded")) == 12


def test_flat_crops_are_skipped_but_not_called_failures(synth, photo_folder, tmp_path):
    half = np.full((128, 256, 3), 250, np.uint8)
    half[:, :128] = cv2.resize(read_image(photo_folder / "coffee.png"), (128, 128))
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "half.png").write_bytes(encode_image(half, "png"))
    result = synth("out", *BICUBIC, hr_dir=tmp_path / "flat")
    assert "1 pairs in 1 shards" in result.output and "1 nearly flat crops were skipped" in result.output
    assert synth("kept", *BICUBIC, "--keep-flat", hr_dir=tmp_path / "flat").output.startswith("2 pairs")


def test_all_the_files_that_readers_look_for_are_there(synth, tmp_path):
    synth("out", *BICUBIC, "--shard-size", 1000)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "pairs-000000.tar", "pairs-000000.json", "manifest.json", "plan.jsonl", "_info.json", "stats.json",
        "failures.jsonl", "preview.png", "README.md",
    }  # fmt: skip
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    hashes = {record["settings_hash"] for record in records(tmp_path / "out")}
    assert hashes == {manifest["settings_hash"]} and {"torch", "opencv-python"} < manifest["versions"].keys()


def pairs_by_place(folder):
    """The HR and LR files of every pair, by what identifies it: source, corner of the crop, variant."""
    found = {}
    for path in sorted(folder.glob("pairs-*.tar")):
        with tarfile.open(path) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}
        for key in sorted({name.partition(".")[0] for name in files}):
            meta = json.loads(files[f"{key}.json"])
            place = (meta["source"], meta["crop_top"], meta["crop_left"], meta["variant"])
            found[place] = (files[f"{key}.hr.png"], files[f"{key}.lr.png"], meta["seed"])
    return found


@pytest.mark.parametrize(
    "packing", [("--shard-size", 5), ("--max-shard-mb", 0.3), ("--variants", 3), ("--variants", 1), ("--keep-flat",)]
)
def test_a_pair_has_the_same_bytes_however_the_data_set_is_packed(synth, tmp_path, degrader_dir, packing):
    options = ("--degrader", degrader_dir, "--preset", "real-esrgan")
    synth("usual", *options, "--variants", 2)
    synth("packed", *options, *(() if "--variants" in packing else ("--variants", 2)), *packing)
    usual, packed = pairs_by_place(tmp_path / "usual"), pairs_by_place(tmp_path / "packed")
    shared = usual.keys() & packed.keys()
    assert len(shared) == min(len(usual), len(packed)) > 10
    assert all(usual[place] == packed[place] for place in shared)

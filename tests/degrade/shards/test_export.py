"""Shards copied into other formats, read by the tools that other people use."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import datasets
import lmdb
import numpy as np
import pytest
from click.testing import CliRunner
from pyarrow import parquet

from cli.degrade_commands import main
from degrade.errors import ClaimedError
from degrade.files.store import DiskStore
from degrade.images.codec import encode_image
from degrade.shards import export as export_module
from degrade.shards.export import export_shards
from degrade.shards.layout import sample_key
from degrade.shards.record import SampleMeta
from degrade.shards.writer import PairShardWriter

PAIRS = 10
KINDS = ("folders", "lmdb", "parquet")


def image(slot: int, side: int) -> bytes:
    return encode_image(np.random.default_rng(slot).integers(0, 256, (side, side, 3), np.uint8), "png")


def record(slot: int) -> SampleMeta:
    return SampleMeta(
        key=sample_key(slot), source="a/ä b.png", source_sha256="0" * 64, crop_top=0, crop_left=8, crop_height=32,
        crop_width=32, variant=slot, scale=4, seed=slot, settings_hash="f", kind="recipe", degrader="",
        recipe="real-esrgan", steps=0, psnr_to_clean=30.5, params="{}",
    )  # fmt: skip


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Ten pairs in three shards, and a fourth of which every pair failed."""
    folder = tmp_path / "shards"
    for index, slots in enumerate((range(4), range(4, 7), range(7, PAIRS), range(0))):
        with PairShardWriter(folder, index) as writer:
            for slot in slots:
                writer.write(sample_key(slot), image(slot, 32), image(slot, 8), record(slot).to_json())
            writer.fail({"source": "x", "reason": "broken"})
    return folder


def tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


def files(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.endswith("lock.mdb")}


def test_folders_hold_the_same_bytes_under_equal_names(shards: Path, tmp_path: Path) -> None:
    assert run(shards, "--to", "folders", "--out", tmp_path / "out").startswith("10 pairs as folders")
    found = files(tmp_path / "out")
    for slot in range(PAIRS):
        assert found[f"hr/{slot:09d}.png"] == image(slot, 32) and found[f"lr/{slot:09d}.png"] == image(slot, 8)
    others = {"meta_info.txt", "metadata.jsonl", "stats.json", "failures.jsonl", "README.md"}
    assert len(found) == 2 * PAIRS + len(others) and others < found.keys()
    assert found["meta_info.txt"].decode().splitlines() == [f"{slot:09d}.png (32,32,3)" for slot in range(PAIRS)]
    line = json.loads(found["metadata.jsonl"].splitlines()[3])
    assert (line.pop("hr_file_name"), line.pop("lr_file_name")) == ("hr/000000003.png", "lr/000000003.png")
    assert line == json.loads(record(3).to_json())


def test_lmdbs_hold_the_same_bytes_in_the_layout_of_basicsr(shards: Path, tmp_path: Path) -> None:
    run(shards, "--to", "lmdb", "--out", tmp_path / "out")
    for side, length in (("hr", 32), ("lr", 8)):
        folder = tmp_path / "out" / f"{side}.lmdb"
        assert {path.name for path in folder.iterdir()} == {"data.mdb", "lock.mdb", "meta_info.txt"}
        with lmdb.open(str(folder), readonly=True, lock=False) as opened, opened.begin() as transaction:
            values = {key.decode(): value for key, value in transaction.cursor()}
        assert values == {sample_key(slot): image(slot, length) for slot in range(PAIRS)}
        lines = (folder / "meta_info.txt").read_text().splitlines()
        assert lines == [f"{slot:09d}.png ({length},{length},3) 1" for slot in range(PAIRS)]
    records = (tmp_path / "out" / "records.jsonl").read_bytes().splitlines()
    assert records == [record(slot).to_json() for slot in range(PAIRS)]


def test_parquet_holds_the_same_bytes_and_says_that_they_are_images(shards: Path, tmp_path: Path) -> None:
    run(shards, "--to", "parquet", "--out", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").glob("*.parquet"))
    assert names == [f"pairs-00000{index}.parquet" for index in range(3)]
    rows = [row for name in names for row in parquet.read_table(tmp_path / "out" / name).to_pylist()]
    for slot, row in enumerate(rows):
        assert row["key"] == sample_key(slot) and row["json"].encode() == record(slot).to_json()
        assert row["hr"] == {"bytes": image(slot, 32), "path": f"{slot:09d}.hr.png"}
        assert row["lr"] == {"bytes": image(slot, 8), "path": f"{slot:09d}.lr.png"}
    metadata = json.loads(parquet.read_schema(tmp_path / "out" / names[0]).metadata[b"huggingface"])
    assert metadata["info"]["features"]["hr"] == {"_type": "Image"} and len(rows) == PAIRS


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["folders", "parquet"])
def test_load_dataset_of_the_folder_gives_pairs(shards: Path, tmp_path: Path, kind: str, streaming: bool) -> None:
    run(shards, "--to", kind, "--out", tmp_path / "out")
    found = datasets.load_dataset(
        str(tmp_path / "out"), split="train", streaming=streaming, cache_dir=str(tmp_path / "cache")
    )
    rows = list(found)
    assert len(rows) == PAIRS
    for slot, row in enumerate(rows):
        assert row["key"] == sample_key(slot)
        for side, length in (("hr", 32), ("lr", 8)):
            decoded = cv2.imdecode(np.frombuffer(image(slot, length), np.uint8), cv2.IMREAD_COLOR_RGB)
            assert np.array_equal(np.asarray(row[side]), decoded)


@pytest.mark.slow
def test_basicsr_reads_pairs_in_its_three_ways(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.transforms import functional

    removed = types.ModuleType("torchvision.transforms.functional_tensor")  # BasicSR 1.4.2 imports it
    removed.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, removed.__name__, removed)
    paired = pytest.importorskip("basicsr.data.paired_image_dataset")
    for kind in ("folders", "lmdb"):
        run(shards, "--to", kind, "--out", tmp_path / kind)
    folders = {"dataroot_gt": f"{tmp_path}/folders/hr", "dataroot_lq": f"{tmp_path}/folders/lr"}
    lmdbs = {"dataroot_gt": f"{tmp_path}/lmdb/hr.lmdb", "dataroot_lq": f"{tmp_path}/lmdb/lr.lmdb"}
    ways: list[dict[str, Any]] = [
        {**folders, "io_backend": {"type": "disk"}},
        {**folders, "io_backend": {"type": "disk"}, "meta_info_file": f"{tmp_path}/folders/meta_info.txt"},
        {**lmdbs, "io_backend": {"type": "lmdb"}},
    ]
    for way in ways:
        pairs = paired.PairedImageDataset({"phase": "val", "scale": 4, **way})
        keys = set()
        for number in range(PAIRS):
            pair = pairs[number]
            key = Path(pair["gt_path"]).stem
            keys.add(key)
            for side, length in (("gt", 32), ("lq", 8)):
                assert Path(pair[f"{side}_path"]).stem == key
                read = (pair[side].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
                stored = np.frombuffer(image(int(key), length), np.uint8)
                assert np.array_equal(read, cv2.imdecode(stored, cv2.IMREAD_COLOR_RGB))
        assert keys == {sample_key(slot) for slot in range(PAIRS)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_export_leaves_no_output_and_the_next_run_continues_it(
    shards: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, read = tmp_path / "out", export_module.TarPair.read
    tars: list[str] = []

    def stop_in_the_second_shard(pair: export_module.TarPair) -> tuple[bytes, bytes, bytes]:
        tars.append(Path(pair.tar).name)
        if pair.key == sample_key(5):
            raise KeyboardInterrupt
        return read(pair)

    with monkeypatch.context() as patch:
        patch.setattr(export_module.TarPair, "read", stop_in_the_second_shard)
        assert "run the same command again" in run(shards, "--to", kind, "--out", out, status=1)
    assert not out.exists()
    with monkeypatch.context() as patch:
        tars.clear()
        patch.setattr(export_module.TarPair, "read", lambda pair: (tars.append(Path(pair.tar).name), read(pair))[1])
        run(shards, "--to", kind, "--out", out)
    assert tars == ["pairs-000001.tar"] * 3 + ["pairs-000002.tar"] * 3
    run(shards, "--to", kind, "--out", tmp_path / "unbroken")
    stopped, unbroken = files(out), files(tmp_path / "unbroken")
    assert stopped.keys() == unbroken.keys()
    assert all(stopped[name] == data for name, data in unbroken.items() if not name.endswith("data.mdb"))
    assert {path.name for path in tmp_path.iterdir()} == {"shards", "out", "unbroken"}  # nothing hidden remains


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_that_is_killed_leaves_no_output_and_the_next_run_finishes_it(
    shards: Path, tmp_path: Path, kind: str
) -> None:
    script = (
        "import os, signal, sys; sys.path[:0] = eval(sys.argv[4])\n"
        "from pathlib import Path; from degrade.shards import export\n"
        "read = export.TarPair.read\n"
        "def kill(pair):\n"
        "    if pair.key == '000000008': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return read(pair)\n"
        "export.TarPair.read = kill\n"
        "export.export_shards(sys.argv[1], Path(sys.argv[2]), sys.argv[3])\n"
    )
    arguments = [sys.executable, "-c", script, str(shards), str(tmp_path / "out"), kind, repr(sys.path)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    run(shards, "--to", kind, "--out", tmp_path / "out")
    run(shards, "--to", kind, "--out", tmp_path / "unbroken")
    stopped, unbroken = files(tmp_path / "out"), files(tmp_path / "unbroken")
    assert stopped.keys() == unbroken.keys()
    assert all(stopped[name] == data for name, data in unbroken.items() if not name.endswith("data.mdb"))


def test_an_export_is_never_mixed_with_other_files(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(shards, "--to", "folders", "--out", out)
    before = files(out)
    summary = json.loads(run(shards, "--to", "folders", "--out", out, "--json"))  # the same again: nothing to do
    assert summary["pairs"] == PAIRS and files(out) == before
    assert "give another --out" in run(shards, "--to", "lmdb", "--out", out, status=1)
    (shards / "pairs-000002.tar").unlink()
    assert "give another --out" in run(shards, "--to", "folders", "--out", out, status=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert "give another --out" in run(shards, "--to", "folders", "--out", tmp_path / "mine", status=1)
    assert files(out) == before and files(tmp_path / "mine") == {"notes.txt": b"mine"}
    with DiskStore(tmp_path).claim("export-new"), pytest.raises(ClaimedError, match="another run"):
        export_shards(shards, tmp_path / "new", "folders")


def test_an_unfinished_export_of_other_shards_is_dropped(shards: Path, tmp_path: Path) -> None:
    stale = tmp_path / ".out.0123456789ab.export"
    (stale / "hr").mkdir(parents=True)
    (stale / "hr" / "000000000.png").write_bytes(b"of other shards")
    beside = tmp_path / ".out.two.0123456789ab.export"  # of --out out.two, which may be running
    beside.mkdir()
    run(shards, "--to", "folders", "--out", tmp_path / "out")
    assert beside.exists() and not stale.exists() and files(tmp_path / "out")["hr/000000000.png"] == image(0, 32)


def test_what_is_no_whole_pair_is_listed_and_the_rest_is_copied(tmp_path: Path) -> None:
    tar(
        tmp_path / "theirs.tar",
        {"../a b/1.GT.png": image(1, 32), "../a b/1.lq.png": image(1, 8), "2.gt.png": image(2, 32),
         "3.hr.png": image(3, 32), "3.lr.png": b"no image", "4.txt": b"caption"},
    )  # fmt: skip
    out = tmp_path / "out"
    assert "2 samples could not be used" in run(tmp_path / "theirs.tar", "--to", "folders", "--out", out, status=3)
    assert sorted(os.listdir(out / "hr")) == sorted(os.listdir(out / "lr")) == ["___a_b_1.png"]
    reasons = [json.loads(line)["reason"] for line in (out / "failures.jsonl").read_text().splitlines()]
    assert reasons[0] == "2 in theirs.tar has an HR image but no LR image" and reasons[1].startswith("3 in theirs.tar")


def test_two_pairs_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one.tar", "two.tar"):
        tar(tmp_path / name, {"1.hr.png": image(1, 32), "1.lr.png": image(1, 8)})
    message = run(tmp_path, "--to", "folders", "--out", tmp_path.parent / "out", status=1)
    assert "two pairs would be called 1" in message and "two.tar" in message
    assert "holds no pairs" in run(tar(tmp_path / "no.tar", {"a.png": image(1, 8)}), "--to", "lmdb", "--out",
                                   tmp_path / "out", status=1)  # fmt: skip


def test_a_data_set_that_is_not_finished_is_refused(shards: Path, tmp_path: Path) -> None:
    (shards / "manifest.json").write_text("{}")
    assert "is not finished" in run(shards, "--to", "folders", "--out", tmp_path / "out", status=1)
    (shards / "stats.json").write_text("{}")
    run(shards, "--to", "folders", "--out", tmp_path / "out")


def test_a_key_that_is_too_long_for_a_file_is_listed(tmp_path: Path) -> None:
    key = "k" * 252
    long = tar(tmp_path / "long.tar", {f"{key}.hr.png": image(1, 32), f"{key}.lr.png": image(1, 8)})
    run(long, "--to", "folders", "--out", tmp_path / "out", status=3)
    assert "its key is too long" in (tmp_path / "out" / "failures.jsonl").read_text()


def test_a_missing_package_is_one_sentence(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, kind in (("lmdb", "lmdb"), ("pyarrow", "parquet")):
        monkeypatch.setitem(sys.modules, package, None)
        assert f"realistic-degrader[{kind}]" in run(shards, "--to", kind, "--out", tmp_path / "out", status=1)

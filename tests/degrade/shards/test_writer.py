import hashlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from degrade.errors import ShardError
from degrade.files import store
from degrade.files.names import split_member
from degrade.files.store import DiskStore, write_atomic
from degrade.files.tars import shard_paths, tar_members
from degrade.shards import part_writer
from degrade.shards.indexes import write_indexes
from degrade.shards.layout import read_marker, remove_stale, sample_key, shard_is_done
from degrade.shards.record import SampleMeta
from degrade.shards.writer import PairShardWriter

FULL_DISK = Path("/dev/full")


def meta(slot: int = 0, **changes: object) -> SampleMeta:
    fields = {
        "key": sample_key(slot),
        "source": "photos/cat.jpg",
        "source_sha256": "0" * 64,
        "crop_top": 0,
        "crop_left": 64,
        "crop_height": 128,
        "crop_width": 128,
        "variant": 0,
        "scale": 4,
        "seed": 2**63 - 1,
        "settings_hash": "f" * 64,
        "kind": "recipe",
        "degrader": "",
        "recipe": "real-esrgan",
        "steps": 0,
        "psnr_to_clean": 30.0,
        "params": '{"blur_sigma_px":1.5}',
    }
    return SampleMeta(**{**fields, **changes})  # type: ignore[arg-type]


def write(out_dir: Path, index: int = 0, slots: range = range(3), failures: int = 0) -> None:
    with PairShardWriter(out_dir, index) as writer:
        for slot in slots:
            writer.write(sample_key(slot), b"hr%d" % slot, b"lr" * 300, meta(slot).to_json())
        for slot in range(failures):
            writer.fail({"key": sample_key(slots.stop + slot), "source": "bad.jpg", "reason": "truncated"})


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_shard_holds_sorted_members_that_tarfile_reads(tmp_path: Path) -> None:
    write(tmp_path, index=7)
    with tarfile.open(tmp_path / "pairs-000007.tar") as tar:
        members = tar.getmembers()
        assert [m.name for m in members[:3]] == ["000000000.hr.png", "000000000.json", "000000000.lr.png"]
        assert [m.name for m in members] == sorted(m.name for m in members) and len(members) == 9
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
        assert tar.extractfile("000000001.hr.png").read() == b"hr1"  # type: ignore[union-attr]
        assert tar.extractfile("000000002.lr.png").read() == b"lr" * 300  # type: ignore[union-attr]
    assert os.path.getsize(tmp_path / "pairs-000007.tar") % tarfile.RECORDSIZE == 0


def test_same_pairs_give_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, failures=1)
    for file in ("pairs-000000.tar", "pairs-000000.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_marker_tells_count_size_hash_and_failures(tmp_path: Path) -> None:
    write(tmp_path, failures=2)
    tar = (tmp_path / "pairs-000000.tar").read_bytes()
    marker = read_marker(tmp_path, 0)
    assert marker is not None
    assert (marker.count, marker.file_bytes, marker.sha256) == (3, len(tar), hashlib.sha256(tar).hexdigest())
    assert marker.failures[1] == {"key": "000000004", "source": "bad.jpg", "reason": "truncated"}
    assert shard_is_done(tmp_path, 0) and not shard_is_done(tmp_path, 1)
    assert visible(tmp_path) == ["pairs-000000.json", "pairs-000000.tar"] and hidden(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), PairShardWriter(tmp_path, 0) as writer:
        writer.write(sample_key(0), b"hr", b"lr", meta().to_json())
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_only_a_hidden_file_which_remove_stale_removes(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; sys.path[:0] = eval(sys.argv[2])\n"
        "from degrade.shards.writer import PairShardWriter\n"
        "from degrade.shards.layout import sample_key; from degrade.shards.record import SampleMeta\n"
        "record = SampleMeta.from_json(sys.argv[3].encode())\n"
        "with PairShardWriter(sys.argv[1], 3) as writer:\n"
        "    writer.write(sample_key(0), bytes(100_000), bytes(9), record.to_json())\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path), repr(sys.path), meta().to_json().decode()]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    assert visible(tmp_path) == [] and len(hidden(tmp_path)) == 1 and not shard_is_done(tmp_path, 3)
    for name in (".mine.tmp", ".pairs-000003.tar.backup", "pairs-000003.tar.tmp"):
        (tmp_path / name).touch()
    growing = hidden(tmp_path)
    remove_stale(DiskStore(tmp_path), shards=[2])
    assert hidden(tmp_path) == growing
    remove_stale(DiskStore(tmp_path), shards=[3])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".mine.tmp",
        ".pairs-000003.tar.backup",
        "pairs-000003.tar.tmp",
    ]


def test_two_writers_of_one_shard_do_not_disturb_each_other(tmp_path: Path) -> None:
    with PairShardWriter(tmp_path, 0) as first:
        first.write(sample_key(0), b"hr", b"lr", meta().to_json())
        write(tmp_path, slots=range(2))
        done = read_marker(tmp_path, 0)
        first.write(sample_key(1), b"hr", b"lr", meta(1).to_json())
    assert done is not None and done.count == 2
    assert shard_is_done(tmp_path, 0) and hidden(tmp_path) == []


def test_a_full_disk_is_one_sentence_and_leaves_no_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FULL_DISK.exists()
    for module in (part_writer, store):
        monkeypatch.setattr(module, "open", lambda *_: io.BufferedWriter(io.FileIO(FULL_DISK, "w")), raising=False)
    with (
        pytest.raises(ShardError, match=r"^disk full at .*pairs-000000.tar: free space and run the same command again"),
        PairShardWriter(tmp_path, 0) as writer,
    ):
        for slot in range(100):
            writer.write(sample_key(slot), bytes(100_000), b"lr", meta(slot).to_json())
    with pytest.raises(ShardError, match="^disk full at .*stats.json"):
        write_atomic(tmp_path / "stats.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_at_the_very_end_leaves_no_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (part_writer, store):
        monkeypatch.setattr(module, "open", lambda *_: io.BufferedWriter(io.FileIO(FULL_DISK, "w")), raising=False)
    with pytest.raises(ShardError, match="disk full"), PairShardWriter(tmp_path, 0) as writer:
        writer.write(sample_key(0), b"hr", b"lr", meta().to_json())  # small: it waits in the buffer until the end
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ShardError, match="cannot write .*Not a directory"), PairShardWriter(tmp_path / "file/out", 0):
        pass


def test_shard_errors_survive_the_way_back_from_a_worker() -> None:
    assert str(pickle.loads(pickle.dumps(ShardError("disk full at x")))) == "disk full at x"


def test_a_shard_without_any_pair_is_done_without_a_tar(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, slots=range(0), failures=2)  # made again, and now everything fails
    assert shard_is_done(tmp_path, 0) and visible(tmp_path) == ["pairs-000000.json"]
    assert read_marker(tmp_path, 0).count == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("damage", ["no tar", "short tar", "short marker", "empty marker", "foreign marker"])
def test_a_damaged_shard_is_not_done(tmp_path: Path, damage: str) -> None:
    write(tmp_path)
    tar, marker = tmp_path / "pairs-000000.tar", tmp_path / "pairs-000000.json"
    if damage == "no tar":
        tar.unlink()
    elif damage == "short tar":
        tar.write_bytes(tar.read_bytes()[:-512])
    else:
        marker.write_bytes({"short": marker.read_bytes()[:20], "empty": b"", "foreign": b"[1]"}[damage.split()[0]])
    assert not shard_is_done(tmp_path, 0)


@pytest.mark.parametrize("key", ["1", "0000000001", "cat000000", "000000.00", "000000001"])
def test_keys_must_be_growing_slots(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="growing slots"), PairShardWriter(tmp_path, 0) as writer:
        writer.write(sample_key(1), b"hr", b"lr", meta(1).to_json())
        writer.write(key, b"hr", b"lr", meta(1).to_json())
    assert list(tmp_path.iterdir()) == []


def test_failures_need_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gives no reason"), PairShardWriter(tmp_path, 0) as writer:
        writer.fail({"key": sample_key(0)})


def test_index_files_list_full_shards_and_all_failures(tmp_path: Path) -> None:
    write(tmp_path, 0, range(3), failures=1)
    write(tmp_path, 1, range(3, 3), failures=2)
    write(tmp_path, 2, range(6, 8))
    (tmp_path / "pairs-000003.json").write_text("{")  # a shard in ruins is left out
    stats = write_indexes(
        tmp_path,
        summary={"psnr_to_clean": 29.5},
        planning_failures=[
            {"source": "x.png", "reason": "empty"},
            {"source": "sky.png", "reason": "flat", "skipped": True},
        ],
    )
    sizes = [os.path.getsize(tmp_path / f"pairs-00000{i}.tar") for i in (0, 2)]
    assert stats == {
        "pairs": 5, "shards": 2, "empty_shards": 1, "bytes": sum(sizes), "failures": 4, "skipped": 1,
        "psnr_to_clean": 29.5,
    }  # fmt: skip
    assert json.loads((tmp_path / "stats.json").read_text()) == stats
    train = json.loads((tmp_path / "_info.json").read_text())["splits"]["train"]
    assert train["filenames"] == ["pairs-000000.tar", "pairs-000002.tar"]
    assert (train["num_samples"], train["shard_lengths"]) == (5, [3, 2])
    lines = (tmp_path / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["source"] for line in lines] == ["x.png", "sky.png"] + ["bad.jpg"] * 3


def test_the_record_of_a_pair_survives_the_round_trip() -> None:
    record = meta(psnr_to_clean=30.0)
    assert SampleMeta.from_json(record.to_json()) == record
    assert b'"psnr_to_clean":30.0' in record.to_json()  # 30 would turn the column into integers
    assert record.to_json() == meta().to_json()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"psnr_to_clean": 30}, "psnr_to_clean 30 is of type int; pass float"),
        ({"crop_top": np.int64(3)}, "crop_top .* is of type int64; pass int"),
        ({"variant": True}, "variant True is of type bool; pass int"),
        ({"seed": 2**63}, "outside 0..2"),
        ({"seed": -1}, "outside 0..2"),
        ({"kind": "magic"}, "use 'learned' or 'recipe'"),
        ({"psnr_to_clean": float("inf")}, "cap it, for example at 100 dB"),
    ],
)
def test_records_that_readers_would_spoil_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        meta(**changes)


def test_foreign_json_is_no_record() -> None:
    fields = json.loads(meta().to_json())
    for spoilt in ({**fields, "extra": 1}, {k: v for k, v in fields.items() if k != "seed"}):
        with pytest.raises(ValueError, match="(extra|seed) missing or unknown"):
            SampleMeta.from_json(json.dumps(spoilt).encode())
    with pytest.raises(ValueError, match="is a list"):
        SampleMeta.from_json(b"[]")


def test_member_names_split_as_webdataset_splits_them() -> None:
    assert split_member("000.hr.PNG") == ("000", "hr", "png")
    assert split_member("a.b/img.001.gt.jpg") == ("a.b/img", "hr", "jpg")
    assert split_member("000.LQ.webp") == ("000", "lr", "webp")
    assert split_member("000.json") == ("000", "json", "json")
    assert split_member("000.png") == ("000", "", "png")
    assert split_member("000.hr.txt") == ("000", "", "txt")
    assert split_member("README") == ("README", "", "")


def test_tar_members_can_be_read_by_offset(tmp_path: Path) -> None:
    write(tmp_path)
    data = (tmp_path / "pairs-000000.tar").read_bytes()
    member = next(m for m in tar_members(tmp_path / "pairs-000000.tar") if m.name == "000000001.hr.png")
    assert data[member.offset : member.offset + member.size] == b"hr1"


def test_shards_are_found_by_folder_file_pattern_list_and_address(tmp_path: Path) -> None:
    for index in (0, 1):
        write(tmp_path, index)
    tars = [str(tmp_path / f"pairs-00000{i}.tar") for i in (0, 1)]
    assert shard_paths(tmp_path) == shard_paths(f"{tmp_path}/pairs-{{000000..000001}}.tar") == tars
    assert shard_paths([tars[1], tars[0]]) == tars[::-1] and shard_paths(Path(tars[0])) == tars[:1]
    assert shard_paths("https://x.org/p-{0..1}.tar") == ["https://x.org/p-0.tar", "https://x.org/p-1.tar"]
    with pytest.raises(ValueError, match="pairs-000002.tar does not exist"):
        shard_paths(f"{tmp_path}/pairs-{{000001..000002}}.tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no .tar files"):
        shard_paths(tmp_path / "empty")

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset as wds
from torch.utils.data import DataLoader

from degrade.errors import ImageError
from degrade.images.codec import encode_image
from degrade.shards.reader import read_pairs


def picture(value: int, side: int) -> bytes:
    return encode_image(np.full((side, side, 3), (value, 2 * value, 255 - value), np.uint8), "png")


def tar(path: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five shards of four pairs; the pixels tell which pair."""
    for shard in range(5):
        members: dict[str, bytes] = {}
        for slot in range(4 * shard, 4 * shard + 4):
            members |= {f"{slot:09d}.hr.png": picture(slot, 8), f"{slot:09d}.json": b'{"scale":4}'}
            members[f"{slot:09d}.lr.png"] = picture(slot, 2)
        tar(tmp_path / f"pairs-{shard:06d}.tar", members)
    return tmp_path


def keys(pairs: object) -> list[int]:
    return [int(pair["key"]) for pair in pairs]  # type: ignore[attr-defined]


def test_pairs_come_as_float_tensors_in_zero_to_one_with_their_record(folder: Path) -> None:
    pairs = list(read_pairs(folder))
    assert keys(pairs) == list(range(20))
    assert set(pairs[7]) == {"key", "hr", "lr", "meta"} and pairs[7]["meta"] == {"scale": 4}
    assert pairs[7]["hr"].shape == (3, 8, 8) and pairs[7]["lr"].shape == (3, 2, 2)
    assert pairs[7]["hr"].dtype == torch.float32 and pairs[7]["hr"].is_contiguous()
    assert torch.equal(pairs[7]["lr"][:, 0, 0], torch.tensor([7, 14, 248]) / 255)


def test_anyones_names_are_read(tmp_path: Path) -> None:
    tar(tmp_path / "theirs.tar", {"a.GT.PNG": picture(1, 8), "a.lq.jpg": picture(1, 2), "a.txt": b"caption"})
    (pair,) = read_pairs(tmp_path / "theirs.tar")
    assert pair["hr"].shape == (3, 8, 8) and pair["lr"].shape == (3, 2, 2) and pair["meta"] == {}


def test_a_seed_fixes_the_order_and_every_epoch_has_another(folder: Path) -> None:
    one, two, other = (read_pairs(folder, shuffle=16, seed=seed) for seed in (1, 1, 2))
    first, second = keys(one), keys(one)
    assert sorted(first) == list(range(20)) and first != list(range(20))
    assert keys(two) == first and keys(two) == second and second != first
    assert keys(other) != first


def test_workers_share_the_shards_and_read_nothing_twice(folder: Path) -> None:
    loader = DataLoader(read_pairs(folder, shuffle=4), batch_size=2, num_workers=2)
    found = [key for batch in loader for key in batch["key"]]
    assert sorted(map(int, found)) == list(range(20))


def test_processes_share_the_shards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        found += keys(read_pairs(folder, shuffle=4, seed=5))
    assert sorted(found) == list(range(20))


def test_resampled_shards_never_end_and_stay_deterministic(folder: Path) -> None:
    runs = [keys(read_pairs(folder, resampled=True, seed=3).with_epoch(50)) for _ in range(2)]
    assert len(runs[0]) == 50 and runs[0] == runs[1]


def test_broken_samples_are_named_or_skipped(tmp_path: Path) -> None:
    good = {"2.hr.png": picture(2, 8), "2.lr.png": picture(2, 2)}
    tar(tmp_path / "cut.tar", {"1.hr.png": picture(1, 8)[:40], "1.lr.png": picture(1, 2), **good})
    tar(tmp_path / "lost.tar", {"1.hr.png": picture(1, 8), "1.json": b"{}", **good})
    with pytest.raises(ImageError, match=r"1.hr.png in .*cut.tar: .*(truncated|corrupt)"):
        list(read_pairs(tmp_path / "cut.tar"))
    with pytest.raises(ValueError, match=r"1 in .*lost.tar has hr.png, json, but no image called lq or lr"):
        list(read_pairs(tmp_path / "lost.tar"))
    skipped: list[Exception] = []

    def skip(error: Exception) -> bool:
        skipped.append(error)
        return True

    pairs = read_pairs(tmp_path, handler=skip)
    assert keys(pairs) == [2, 2] and len(skipped) == 2


def test_a_pipeline_can_be_extended_as_any_of_webdataset(folder: Path) -> None:
    assert isinstance(read_pairs(folder), wds.DataPipeline)
    with pytest.raises(ValueError, match="does not exist"):
        read_pairs(folder / "gone")


def test_where_takes_the_pairs_whose_record_it_likes_and_decodes_no_other(folder: Path, tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for slot, severity in enumerate((20.0, 30.0, 40.0)):
        lr = picture(slot, 2) if severity > 25 else b"no image"
        members |= {f"{slot}.hr.png": picture(slot, 8), f"{slot}.lr.png": lr}
        members[f"{slot}.json"] = b'{"psnr_to_clean":%.1f}' % severity
    tar(tmp_path / "severe.tar", members)
    mild = read_pairs(tmp_path / "severe.tar", where=lambda meta: meta["psnr_to_clean"] > 25)
    assert keys(mild) == [1, 2]
    with pytest.raises(ValueError, match="no 'psnr_to_clean' in its record.*there is scale"):
        list(read_pairs(folder, where=lambda meta: meta["psnr_to_clean"] > 25))
    assert not list(read_pairs(folder, where=lambda meta: False))

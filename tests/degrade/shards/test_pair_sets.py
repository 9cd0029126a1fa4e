"""Patches of pairs, and pairs by their numbers."""

import io
import json
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import degrade
from degrade import PairFolder, PairShards, read_pairs
from degrade.errors import ImageError, ShardError
from degrade.images.codec import encode_image
from degrade.shards.export import export_shards
from degrade.shards.patches import Patches

PAIRS = 12
SCALE = 4


def picture(slot: int, side: int = 48) -> tuple[bytes, bytes]:
    """An HR image, every pixel another, and its LR, the top left pixel of each block."""
    rows, columns = np.mgrid[:side, :side]
    hr = np.stack([rows, columns, np.full_like(rows, slot)], axis=2).astype(np.uint8)
    return encode_image(hr, "png"), encode_image(np.ascontiguousarray(hr[::SCALE, ::SCALE]), "png")


def tar(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs") / "shards"
    for shard in range(3):
        members: dict[str, bytes] = {}
        for slot in range(4 * shard, 4 * shard + 4):
            hr, lr = picture(slot)
            members |= {f"{slot:09d}.hr.png": hr, f"{slot:09d}.json": b'{"slot":%d}' % slot, f"{slot:09d}.lr.png": lr}
        tar(folder / f"pairs-{shard:06d}.tar", members)
    return folder


@pytest.fixture(scope="module")
def folders(shards: Path) -> Path:
    export_shards(shards, shards.parent / "folders", "folders")
    return shards.parent / "folders"


def fit(pair: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether every LR pixel is one of the corners of its block, as flips and rotations leave it."""
    hr, lr = pair["hr"], pair["lr"]
    last = SCALE - 1
    return any(torch.equal(hr[:, y::SCALE, x::SCALE], lr) for y in (0, last) for x in (0, last))


def same(one: Mapping[str, object], two: Mapping[str, object]) -> bool:
    return (
        one["key"] == two["key"]
        and one["meta"] == two["meta"]
        and all(torch.equal(one[side], two[side]) for side in ("hr", "lr"))  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("options", [{}, {"crop": 16}, {"augment": True}, {"crop": 16, "augment": True, "seed": 3}])
def test_shards_and_folders_give_what_read_pairs_yields(shards: Path, folders: Path, options: dict[str, Any]) -> None:
    stream = read_pairs(shards, **options)
    by_tar, by_folder = PairShards(shards, **options), PairFolder(folders, **options)
    assert len(by_tar) == len(by_folder) == PAIRS
    for _ in range(2):  # epochs
        epoch = list(stream)
        assert len(epoch) == PAIRS
        for pair, one, two in zip(epoch, by_tar, by_folder, strict=True):
            assert same(pair, one) and same(pair, two) and fit(pair)


def test_patches_lie_everywhere_and_are_turned_in_all_eight_ways() -> None:
    hr = torch.arange(48.0 * 48).view(1, 48, 48).expand(3, 48, 48)
    lr = hr[:, ::SCALE, ::SCALE]
    cut, turned = Patches(16, False, 0), Patches(None, True, 0)
    corners = {int(cut.cut(hr, lr, "key", turn)[0][0, 0, 0]) for turn in range(1000)}
    assert corners == {top * 48 + left for top in range(0, 33, SCALE) for left in range(0, 33, SCALE)}
    ways = Counter(tuple(turned.cut(hr, lr, "key", turn)[0][0, 0, :2].tolist()) for turn in range(800))
    assert len(ways) == 8 and min(ways.values()) > 60


def test_a_draw_depends_on_seed_key_and_turn_alone(shards: Path) -> None:
    def positions(**options: int) -> list[tuple[float, ...]]:
        return [tuple(pair["hr"][:2, 0, 0].tolist()) for pair in PairShards(shards, crop=16, **options)]  # type: ignore[index]

    assert positions() == positions() != positions(seed=1)
    shuffled = {pair["key"]: pair["hr"] for pair in read_pairs(shards, shuffle=10, crop=16)}
    assert all(torch.equal(shuffled[pair["key"]], pair["hr"]) for pair in read_pairs(shards, crop=16))
    resumed = PairShards(shards, crop=16)
    resumed.set_epoch(1)
    stream = read_pairs(shards, crop=16)
    list(stream)
    assert all(same(one, two) for one, two in zip(stream, resumed, strict=True))


def test_resampled_pairs_have_another_patch_each_time(shards: Path) -> None:
    tars = shards / "pairs-000000.tar"
    pairs = list(read_pairs(tars, resampled=True, crop=16).with_epoch(40))
    assert len({tuple(pair["hr"][:2, 0, 0].tolist()) for pair in pairs if pair["key"] == "000000000"}) > 3


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_give_another_patch_in_every_epoch(shards: Path, persistent: bool) -> None:
    pairs = PairShards(shards, crop=16, augment=True)
    loader = DataLoader(pairs, batch_size=3, num_workers=2, persistent_workers=persistent)
    stream = read_pairs(shards, crop=16, augment=True)
    for _ in range(2):
        found = [hr for batch in loader for hr in batch["hr"]]
        assert all(torch.equal(hr, pair["hr"]) for hr, pair in zip(found, stream, strict=True))


def test_folders_of_anyone_are_read(tmp_path: Path) -> None:
    for slot in range(3):
        for name, data in zip(("GT", "LQ"), picture(slot), strict=True):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{slot}.png").write_bytes(data)
    found = list(PairFolder(tmp_path, crop=16))
    assert [pair["key"] for pair in found] == ["0", "1", "2"] and found[0]["meta"] == {}
    assert all(same(one, two) for one, two in zip(found, PairFolder(tmp_path / "GT", tmp_path / "LQ", crop=16)))  # noqa: B905
    (tmp_path / "GT" / "3.png").write_bytes(picture(3)[0])
    with pytest.raises(ValueError, match=r"3.png has no partner in .*LQ \(1 images have none\)"):
        PairFolder(tmp_path)
    with pytest.raises(ValueError, match="has no folder gt or hq or hr"):
        PairFolder(tmp_path / "GT")


def test_what_does_not_fit_is_one_sentence_with_the_pair(shards: Path, tmp_path: Path) -> None:
    for read in (PairShards, read_pairs):
        with pytest.raises(ValueError, match=r"000000000 in .*crop 18 is not a multiple of the scale, 4"):
            next(iter(read(shards, crop=18)))
        with pytest.raises(ValueError, match=r"000000000 in .*HR 48x48 is smaller than the crop, 64"):
            next(iter(read(shards, crop=64)))
        with pytest.raises(ValueError, match="crop 0 is no side"):
            read(shards, crop=0)
    hr, lr = picture(1)
    odd = tar(tmp_path / "odd.tar", {"1.hr.png": picture(1, 46)[0], "1.lr.png": lr})
    with pytest.raises(ValueError, match="HR 46x46 is not a whole multiple of LR 12x12"):
        PairShards(odd, crop=16)[0]
    with pytest.raises(ValueError, match="1 in half.tar has an HR image but no LR image"):
        PairShards(tar(tmp_path / "half.tar", {"1.hr.png": hr}))
    with pytest.raises(ImageError, match=r"1 in .*cut.tar"):
        PairShards(tar(tmp_path / "cut.tar", {"1.hr.png": hr[:60], "1.lr.png": lr}))[0]
    (tmp_path / "no.tar").write_bytes(b"no tar")
    with pytest.raises(ShardError, match="not a readable tar"):
        PairShards(tmp_path / "no.tar")
    with pytest.raises(ValueError, match="s3://bucket/a.tar is not on a disk"):
        PairShards("s3://bucket/a.tar")
    with pytest.raises(IndexError):
        PairShards(shards)[PAIRS]


def test_a_damaged_list_of_records_is_named(folders: Path, tmp_path: Path) -> None:
    for side in ("hr", "lr"):
        (tmp_path / side).symlink_to(folders / side)
    lines = (folders / "metadata.jsonl").read_text().splitlines()
    (tmp_path / "metadata.jsonl").write_text("\n".join([lines[0], json.dumps([1])]))
    with pytest.raises(ValueError, match=f"metadata.jsonl is damaged at byte {len(lines[0]) + 1}"):
        PairFolder(tmp_path)


def test_they_are_public() -> None:
    assert {"PairShards", "PairFolder", "read_pairs"} <= set(dir(degrade))

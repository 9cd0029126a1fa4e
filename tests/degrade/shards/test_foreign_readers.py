"""Shards written by us, read by the tools that other people use."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import webdataset as wds
from PIL import Image
from timm.data.readers.reader_wds import ReaderWds

from degrade.images.codec import encode_image
from degrade.shards.indexes import write_indexes
from degrade.shards.layout import sample_key
from degrade.shards.record import SampleMeta
from degrade.shards.writer import PairShardWriter

PAIRS = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pairs in two shards, and a third shard of which every pair failed."""
    out_dir = tmp_path_factory.mktemp("shards")
    for index, slots in enumerate((range(4), range(4, PAIRS), range(0))):
        with PairShardWriter(out_dir, index) as writer:
            for slot in slots:
                # of the first five psnr values, none has a fraction: a type guessed from them must not cut the others
                record = SampleMeta(
                    key=sample_key(slot), source="a/ä b.png", source_sha256="0" * 64, crop_top=0, crop_left=8,
                    crop_height=16, crop_width=16, variant=slot, scale=4, seed=2**63 - 1 - slot, settings_hash="f",
                    kind="recipe", degrader="", recipe="real-esrgan", steps=0,
                    psnr_to_clean=30.0 if slot < 5 else 30.25, params=json.dumps({"noise": slot, f"p{slot}": [1.5]}),
                )  # fmt: skip
                writer.write(sample_key(slot), png(slot, 16), png(slot, 4), record.to_json())
            writer.fail({"source": "x", "reason": "broken"})
    write_indexes(out_dir)
    return out_dir


def image(slot: int, side: int) -> np.ndarray:
    return np.full((side, side, 3), (10 * slot, 0, 255), np.uint8)


def png(slot: int, side: int) -> bytes:
    return encode_image(image(slot, side), "png")


def tars(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.glob("*.tar"))


def check(found: list[tuple[str, Image.Image, Image.Image, dict[str, object]]]) -> None:
    assert [key for key, *_ in found] == [sample_key(slot) for slot in range(PAIRS)]
    for slot, (_, hr, lr, meta) in enumerate(found):
        assert np.array_equal(np.asarray(hr), image(slot, 16)) and np.array_equal(np.asarray(lr), image(slot, 4))
        assert meta["seed"] == 2**63 - 1 - slot and meta["source"] == "a/ä b.png"
        assert meta["psnr_to_clean"] == (30.0 if slot < 5 else 30.25)
        assert json.loads(str(meta["params"])) == {"noise": slot, f"p{slot}": [1.5]}


def test_plain_webdataset_reads_every_pair(folder: Path) -> None:
    samples = wds.WebDataset(tars(folder), shardshuffle=False).decode("pil")
    check([(s["__key__"], s["hr.png"], s["lr.png"], s["json"]) for s in samples])


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_datasets_reads_every_pair(folder: Path, tmp_path: Path, streaming: bool) -> None:
    found = datasets.load_dataset(
        "webdataset", data_files={"train": tars(folder)}, split="train", streaming=streaming, cache_dir=str(tmp_path)
    )
    check([(s["__key__"], s["hr.png"], s["lr.png"], s["json"]) for s in found])


@pytest.mark.parametrize(("member", "side"), [("hr.png", 16), ("lr.png", 4)])
def test_timm_reads_every_image_through_info_json(folder: Path, member: str, side: int) -> None:
    # timm renames the decoded image by the same key list as the encoded one, and calls it jpg in between
    reader = ReaderWds(str(folder), split="train", input_key=f"{member};jpg")
    assert len(reader) == PAIRS
    found = list(reader)
    assert [label for _, label in found] == [4] * PAIRS  # the scale: an integer label without a target key
    for slot, (picture, _) in enumerate(found):
        assert np.array_equal(np.asarray(picture), image(slot, side))
    by_variant = ReaderWds(str(folder), split="train", input_key=f"{member};jpg", target_key="variant")
    assert [label for _, label in by_variant] == list(range(PAIRS))

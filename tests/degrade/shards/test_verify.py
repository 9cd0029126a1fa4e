import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from degrade.images.codec import encode_image
from degrade.shards.layout import sample_key
from degrade.shards.record import SampleMeta
from degrade.shards.verify import verify_shards
from degrade.shards.writer import PairShardWriter

PHOTO = data.astronaut()
RECORD = SampleMeta(
    key="", source="a.png", source_sha256="", crop_top=0, crop_left=0, crop_height=128, crop_width=128, variant=0,
    scale=4, seed=0, settings_hash="", kind="recipe", degrader="", recipe="", steps=0, psnr_to_clean=30.0, params="{}",
)  # fmt: skip


def pair(number: int, scale: int = 4, shift: int = 0) -> tuple[bytes, bytes]:
    """A crop and its clean LR, which lies ``shift`` HR pixels too far to the right."""
    left = 20 * number + 16
    hr, moved = PHOTO[64:192, left : left + 128], PHOTO[64:192, left - shift : left - shift + 128]
    lr = cv2.resize(moved, (128 // scale, 128 // scale), interpolation=cv2.INTER_AREA)
    return encode_image(hr, "png"), encode_image(lr, "png")


def ours(folder: Path, index: int = 0, count: int = 4, shift: int = 0) -> Path:
    with PairShardWriter(folder, index) as writer:
        for number in range(count):
            slot = index * count + number
            writer.write(sample_key(slot), *pair(slot, shift=shift), RECORD.to_json())
    return folder / f"pairs-{index:06d}.tar"


def theirs(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_a_good_data_set_is_well(tmp_path: Path) -> None:
    for index in range(2):
        ours(tmp_path, index)
    report = verify_shards(tmp_path)
    assert report.ok, report.problems
    assert (report.shards, report.pairs, report.checked, report.scale) == (2, 8, 8, 4)
    assert report.shift_pairs >= 6 and report.shift_median_px < 0.02
    assert "all is well" in report.text() and json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_foreign_names_without_json_or_markers_are_checked_too(tmp_path: Path) -> None:
    members = {}
    for number in range(3):
        members[f"{number}.gt.png"], members[f"{number}.lq.png"] = pair(number, scale=2)
    report = verify_shards(theirs(tmp_path / "theirs.tar", members))
    assert report.ok and (report.pairs, report.scale) == (3, 2)


def test_a_shifted_lr_is_noticed_and_measured(tmp_path: Path) -> None:
    ours(tmp_path, count=6, shift=2)
    report = verify_shards(tmp_path)
    assert report.shift_median_px == pytest.approx(0.5, abs=0.03) and report.shift_x_px == pytest.approx(0.5, abs=0.03)
    assert any("shifted against HR by 0.5" in problem for problem in report.problems)


def test_a_corner_aligned_resize_is_noticed(tmp_path: Path) -> None:
    members = {}
    for number in range(4):
        hr, _ = pair(number)
        pixels = cv2.imdecode(np.frombuffer(hr, np.uint8), cv2.IMREAD_COLOR_RGB)
        members[f"{number}.hr.png"] = hr
        members[f"{number}.lr.png"] = encode_image(
            np.ascontiguousarray(cv2.GaussianBlur(pixels, (0, 0), 2)[::4, ::4]), "png"
        )
    report = verify_shards(theirs(tmp_path / "corner.tar", members))
    assert report.shift_x_px == pytest.approx(0.375, abs=0.05) and not report.ok  # (4 - 1) / 2 HR pixels


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    tar = ours(tmp_path)
    content = bytearray(tar.read_bytes())
    content[-1] ^= 1  # in the padding: no image changes
    tar.write_bytes(content)
    assert verify_shards(tmp_path).problems == [
        "pairs-000000.tar differs from the hash in its marker; remove both and run synth again"
    ]


def test_lost_tars_markers_and_ruined_markers_are_noticed(tmp_path: Path) -> None:
    for index in range(4):
        ours(tmp_path, index, count=2)
    (tmp_path / "pairs-000000.tar").unlink()
    (tmp_path / "pairs-000001.json").unlink()
    (tmp_path / "pairs-000002.json").write_text("{")
    problems = "\n".join(verify_shards(tmp_path).problems)
    assert "pairs-000000.tar is missing, but its marker exists" in problems
    assert "pairs-000001.tar has no readable done marker" in problems
    assert "pairs-000002.tar has no readable done marker" in problems
    assert "pairs-000003" not in problems
    assert verify_shards(tmp_path / "pairs-000003.tar").ok


def test_broken_images_lost_partners_and_bad_sizes_are_named(tmp_path: Path) -> None:
    hr, lr = pair(0)
    odd = encode_image(np.zeros((30, 31, 3), np.uint8), "png")
    report = verify_shards(
        theirs(
            tmp_path / "x.tar",
            {
                "cut.hr.png": hr[:900], "cut.lr.png": lr,
                "half.hr.png": hr,
                "odd.hr.png": hr, "odd.lr.png": odd,
                "other.hr.png": pair(1, 2)[0], "other.lr.png": pair(1, 2)[1], "other.json": b"{}",
                "says.hr.png": pair(2)[0], "says.json": b'{"scale": 2}', "says.lr.png": pair(2)[1],
                "z1.hr.png": hr, "z1.lr.png": lr,
                "z2.hr.png": pair(3)[0], "z2.lr.png": pair(3)[1],
            },
        )
    )  # fmt: skip
    expected = [
        "half in x.tar has an HR image but no LR image",
        "cut in x.tar: HR: PNG data is truncated or corrupt (image file is truncated); fetch the file again",
        "odd in x.tar: HR 128x128 is not a whole multiple of LR 31x30",
        "says in x.tar: the record has scale 2, but the images have scale 4",
        "1 pairs have scale 2 instead of 4, the scale of most; one is other in x.tar",
    ]
    assert report.problems == expected
    assert "- half in x.tar" in report.text() and "5 problems" in report.text()


def test_repeated_pairs_are_noticed_and_variants_are_not(tmp_path: Path) -> None:
    hr, lr = pair(0)
    worse = encode_image(np.zeros((32, 32, 3), np.uint8), "png")
    theirs(tmp_path / "a.tar", {"0.hr.png": hr, "0.lr.png": lr, "1.hr.png": hr, "1.lr.png": worse})
    theirs(tmp_path / "b.tar", {"0.hr.png": hr, "0.lr.webp": encode_image(
        cv2.imdecode(np.frombuffer(lr, np.uint8), cv2.IMREAD_COLOR_RGB), "webp")})  # fmt: skip
    report = verify_shards(tmp_path)
    assert report.duplicates == 1 and report.problems == ["0 in b.tar repeats both images of 0 in a.tar"]


def test_a_sample_decodes_only_so_many_but_counts_all(tmp_path: Path) -> None:
    for index in range(3):
        ours(tmp_path, index)
    report = verify_shards(tmp_path, sample=4)
    assert (report.pairs, report.checked) == (12, 4) and report.ok


def test_truncated_tars_and_sets_without_pairs_are_problems(tmp_path: Path) -> None:
    theirs(tmp_path / "captions.tar", {"0.jpg": pair(0)[0], "0.txt": b"a cat"})
    tar = ours(tmp_path / "cut")
    tar.write_bytes(tar.read_bytes()[:5000])
    assert "holds no pairs" in verify_shards(tmp_path / "captions.tar").problems[0]
    problems = "\n".join(verify_shards(tmp_path / "cut").problems)
    assert "differs from the hash" in problems and "is not a readable tar" in problems

"""`degrade fit` takes over the looks of photographs, unless they lie further from photographs that were held back."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade import RealisticDegrader
from degrade import fit as fit_module
from degrade.fit import fit
from degrade.images.codec import encode_image
from degrade.images.geometry import reduce_by
from degrade.images.tensors import to_tensor

BAD, GOOD = 8, 95  # qualities of JPEG


@pytest.fixture
def camera(tmp_path: Path, photographs, monkeypatch) -> Callable[[Sequence[int]], Path]:
    """Return a function that writes LR photographs, one for each quality of JPEG."""
    monkeypatch.setattr(fit_module, "CROPS", 24)

    def write(qualities: Sequence[int]) -> Path:
        folder = tmp_path / "camera"
        folder.mkdir()
        photos = list(photographs.values())
        for number, quality in enumerate(qualities):
            at = 32 * (number // len(photos))
            image = reduce_by(np.ascontiguousarray(photos[number % len(photos)][at : at + 256, at : at + 256]), 2)
            (folder / f"{number:02d}.jpg").write_bytes(encode_image(image, "jpg", quality))
        return folder

    return write


def test_made_lr_comes_nearer_to_photographs_that_the_fit_did_not_see(camera, photo_folder, tmp_path) -> None:
    summary = fit(camera([BAD] * 8), tmp_path / "fit", hr_dir=str(photo_folder))
    assert summary["kept"] == "fitted" and summary["ratio"] < 0.8
    assert (summary["photographs"], summary["held_back"], summary["codes"]) == (8, 2, 32)
    assert json.loads((tmp_path / "fit" / "fit.json").read_text()) == summary
    before, after = (RealisticDegrader.from_pretrained(name) for name in ("tiny-x4", summary["degrader"]))
    assert all(torch.equal(a, b) for (name, a), b in zip(
        before.state_dict().items(), after.state_dict().values(), strict=True) if name != "bank")  # fmt: skip
    quantised = [each.quantiser.strength(each.bank)[0].mean() for each in (before, after)]
    assert quantised[1] > quantised[0] + 1  # natural logarithms: the blocks are coarser by a factor of e and more


def test_looks_that_lie_further_away_are_not_taken_over(camera, photo_folder, tmp_path) -> None:
    photos = camera([GOOD if number % 4 == 0 else BAD for number in range(8)])  # the good ones are held back
    good = RealisticDegrader.from_pretrained("tiny-x4")
    with torch.inference_mode():
        crops = [to_tensor(fit_module.ImagePool.open(fit_module.list_lr(photos), min_side=64).image(source))
                 for source in fit_module.list_lr(photos)[::4]]  # fmt: skip
        good.set_bank(torch.cat([good.encode(crop) for crop in crops]))
    good.save_pretrained(tmp_path / "good")
    summary = fit(photos, tmp_path / "fit", hr_dir=str(photo_folder), degrader=str(tmp_path / "good"))
    assert summary["kept"] == "unchanged" and summary["ratio"] > 1
    assert torch.equal(RealisticDegrader.from_pretrained(summary["degrader"]).bank, good.bank)


def test_few_photographs_are_taken_over_unchecked_and_the_command_says_so(camera, tmp_path) -> None:
    photos = camera([BAD] * 3)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8")
    arguments = ["fit", str(photos), "-o", str(tmp_path / "fit")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "12 looks are taken over; with eight photographs of 64 px or more, they would be checked" in result.stderr
    assert "left out: broken.jpg" in result.stderr
    assert json.loads(result.stdout)["degrader"] == str(tmp_path / "fit" / "degrader")
    assert CliRunner().invoke(main, arguments).exit_code == 0  # again, over the earlier fit


def test_a_fit_that_was_stopped_while_it_wrote_can_be_run_again(camera, tmp_path, monkeypatch) -> None:
    photos = camera([BAD] * 2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def stop(self, folder) -> None:
            folder.mkdir()
            raise KeyboardInterrupt

        patch.setattr(RealisticDegrader, "save_pretrained", stop)
        fit(photos, tmp_path / "fit")
    assert fit(photos, tmp_path / "fit")["codes"] == 8


def test_mistakes_are_told_in_a_sentence(camera, tmp_path) -> None:
    photos = camera([BAD] * 8)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("kept")
    with pytest.raises(ValueError, match="holds something else than a fit; give another folder"):
        fit(photos, tmp_path / "full")
    with pytest.raises(ValueError, match=r"too small to stand in for HR .*; give --hr-dir to check the fit with"):
        fit(photos, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for photo in photos.iterdir():
        photo.write_bytes(b"no image")
    with pytest.raises(ValueError, match="has no photograph to fit to"):
        fit(photos, tmp_path / "out")

"""A fit takes its looks from photographs, keeps some of them back, and keeps its result only if the check says so."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cli.upsample_commands import main
from degrade.images.codec import encode_image, read_image
from degrade.training.loop import RunOptions
from upsample.model import ResidualShiftUpsampler
from upsample.training import fit as fit_module
from upsample.training.fit import STRENGTH, fit
from upsample.training.fit_check import Gain, gain_on_made_pairs

QUIET = RunOptions(device="cpu", loaders=0, progress=False)


@pytest.fixture
def parts(tmp_path, tiny_degrader, photographs) -> dict[str, str]:
    """A degrader, an upsampler with a detail branch, and five LR photographs of different size."""
    tiny_degrader.save_pretrained(tmp_path / "degrader")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        upsampler = ResidualShiftUpsampler(widths=(8, 8, 8), blocks=1, embedding_dim=8, detail=0.5)
        assert upsampler.detail_branch is not None
        torch.nn.init.normal_(upsampler.detail_branch.to_rgb.weight, std=0.05)
    upsampler.save_pretrained(tmp_path / "start")
    camera = tmp_path / "camera"
    camera.mkdir()
    for number, side in enumerate((128, 136, 144, 160, 200)):
        image = np.ascontiguousarray(photographs["chelsea"][10 * number : 10 * number + side, :side])
        (camera / f"{number}.png").write_bytes(encode_image(image, "png"))
    return {name: str(tmp_path / name) for name in ("degrader", "start", "camera")}


def fitted(parts: dict[str, str], out: Path, **settings) -> dict:
    chosen = {"start_from": parts["start"], "degrader": parts["degrader"], "steps": 2, **settings}
    return fit(Path(parts["camera"]), out, options=QUIET, **chosen)


@pytest.fixture
def better(monkeypatch) -> list[bool]:
    """Let the check say what the list holds."""
    verdict = [True]
    monkeypatch.setattr(
        fit_module, "gain_on_made_pairs", lambda *args, **kw: Gain(mean=2.0 if verdict[0] else -1.0, error=0.1)
    )
    return verdict


def test_a_fit_that_is_better_is_kept_and_carries_the_detail_branch_along(parts, better, tmp_path) -> None:
    summary = fitted(parts, tmp_path / "run")
    before = ResidualShiftUpsampler.from_pretrained(parts["start"])
    after = ResidualShiftUpsampler.from_pretrained(summary["weights"])
    changed = {
        name for name, tensor in after.state_dict().items() if not torch.equal(tensor, before.state_dict()[name])
    }
    assert summary["kept"] == "fitted" and any(name.startswith("unet.") for name in changed)
    assert not any(name.startswith("detail_branch.") for name in changed)
    learnt = ResidualShiftUpsampler.from_pretrained(tmp_path / "run" / "training" / "student").state_dict()
    part_of_the_way = before.state_dict()["unet.head.weight"].lerp(learnt["unet.head.weight"], STRENGTH)
    assert torch.allclose(after.state_dict()["unet.head.weight"], part_of_the_way, atol=1e-7)
    lr = torch.rand(1, 3, 16, 16)
    assert after.config.detail == 0.5 and not torch.equal(after(lr), after(lr, detail=0.0))


def test_a_fit_that_is_not_better_leaves_the_weights_as_they_were(parts, better, tmp_path) -> None:
    better[0] = False
    summary = fitted(parts, tmp_path / "run")
    kept = ResidualShiftUpsampler.from_pretrained(summary["weights"]).state_dict()
    before = ResidualShiftUpsampler.from_pretrained(parts["start"]).state_dict()
    assert summary["kept"] == "unchanged" and all(torch.equal(kept[name], before[name]) for name in before)
    fitted_all_the_same = ResidualShiftUpsampler.from_pretrained(tmp_path / "run" / "training" / "student").state_dict()
    assert not torch.equal(fitted_all_the_same["unet.head.weight"], before["unet.head.weight"])


def test_no_photograph_is_both_learnt_from_and_held_back(parts, better, tmp_path) -> None:
    summary = fitted(parts, tmp_path / "run")
    looks, held_back = (
        {path.name[:3] for path in (tmp_path / "run" / name).iterdir()} for name in ("looks", "held_back")
    )
    assert len(looks) == 3 and len(held_back) == 2 and not looks & held_back
    assert summary["photographs"] == 5 and summary["held_back"] == 2
    whole = [read_image(path) for path in sorted(Path(parts["camera"]).iterdir())]
    crops = [read_image(path) for path in sorted((tmp_path / "run" / "held_back").iterdir())]
    assert all(any(np.array_equal(crop, image[: len(crop), : len(crop)]) for image in whole) for crop in crops[:1])


def test_a_single_photograph_is_enough(parts, better, tmp_path) -> None:
    summary = fitted({**parts, "camera": str(Path(parts["camera"]) / "0.png")}, tmp_path / "run")
    assert summary["photographs"] == 1 and summary["held_back"] == 0


def test_a_finished_fit_is_not_done_again_and_another_one_is_refused(parts, better, tmp_path) -> None:
    first = fitted(parts, tmp_path / "run")
    weights = (tmp_path / "run" / "student" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns
    assert fitted(parts, tmp_path / "run") == first
    assert (tmp_path / "run" / "student" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns == weights
    with pytest.raises(ValueError, match=r"holds a fit with other settings \(steps\)"):
        fitted(parts, tmp_path / "run", steps=3)
    (Path(parts["camera"]) / "0.png").unlink()
    with pytest.raises(ValueError, match=r"holds a fit with other settings \(photographs\)"):
        fitted(parts, tmp_path / "run")


def test_photographs_that_are_too_small_are_one_sentence(parts, tmp_path, photographs) -> None:
    small = tmp_path / "small"
    small.mkdir()
    (small / "one.png").write_bytes(encode_image(np.ascontiguousarray(photographs["chelsea"][:64, :64]), "png"))
    with pytest.raises(ValueError, match="no photograph to fit to .*64x64.*--hr-dir"):
        fitted({**parts, "camera": str(small)}, tmp_path / "run")


def test_the_check_finds_the_better_of_two_upsamplers(parts, monkeypatch) -> None:
    monkeypatch.setattr("upsample.training.fit_check.PAIRS", 6)
    bicubic = ResidualShiftUpsampler(widths=(8, 8, 8), blocks=1, embedding_dim=8).eval()  # untrained
    wrong = ResidualShiftUpsampler.from_pretrained(parts["start"]).eval()
    torch.nn.init.normal_(wrong.unet.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    arguments = {"degrader": parts["degrader"], "hr_dir": parts["camera"], "looks": Path(parts["camera"]), "seed": 0}
    assert gain_on_made_pairs(wrong, bicubic, **arguments).counts
    assert not gain_on_made_pairs(bicubic, wrong, **arguments).counts
    assert gain_on_made_pairs(bicubic, bicubic, **arguments) == Gain(mean=0.0, error=0.0)


def test_the_commands_fit_and_upscale_with_the_result(parts, better, tmp_path) -> None:
    better[0] = False
    fit_command = ["fit", parts["camera"], "-o", str(tmp_path / "run"), "--from", parts["start"], "--steps", "2"]
    done = CliRunner().invoke(main, [*fit_command, "--degrader", parts["degrader"], "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["kept"] == "unchanged" and "the weights are kept as they were" in done.stderr
    run_command = [
        "run",
        "-i",
        str(Path(parts["camera"]) / "0.png"),
        "-o",
        str(tmp_path / "large.png"),
        "--device",
        "cpu",
    ]
    refused = CliRunner().invoke(main, [*run_command, "--hr-dir", parts["camera"]])
    assert refused.exit_code == 2 and "only --fit learns from HR photographs" in refused.output


def test_run_fits_to_its_input_first(parts, better, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(fit_module.fit, "__kwdefaults__", {**fit_module.fit.__kwdefaults__, "steps": 2})
    command = ["run", "-i", parts["camera"], "-o", str(tmp_path / "large"), "--model", parts["start"], "--fit"]
    done = CliRunner().invoke(main, [*command, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "large-fit" / "student" / "config.json").exists() and "the fit is kept" in done.stderr
    assert len(list((tmp_path / "large").iterdir())) == 5

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cli.upsample_commands import main
from degrade.networks import backend
from upsample.bicubic import enlarge
from upsample.export import OneStepStudent, export_onnx
from upsample.model import ResidualShiftUpsampler


@pytest.fixture(scope="module")
def packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)


def run_onnx(path, lr: torch.Tensor, detail: float | None = None) -> torch.Tensor:
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {} if detail is None else {"detail": np.array([detail], np.float32)}
    return torch.from_numpy(session.run(["sr"], {"lr": lr.numpy(), **given})[0])


def small(**options) -> ResidualShiftUpsampler:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        upsampler = ResidualShiftUpsampler(**{"widths": (8, 8, 8), "blocks": 1, "embedding_dim": 8, **options})
        last = upsampler.unet.conv_out if "unet2d" in options else upsampler.unet.head
        torch.nn.init.normal_(last.weight, std=0.05)
    return upsampler.eval()


@pytest.fixture(scope="module")
def exported(packages, tmp_path_factory) -> tuple[ResidualShiftUpsampler, Path, dict[str, Any]]:
    """A student in training with a detail branch that draws something, the file written of it, and the summary."""
    upsampler, path = small(detail=0.3).train(), tmp_path_factory.mktemp("onnx") / "student.onnx"
    assert upsampler.detail_branch is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        torch.nn.init.normal_(upsampler.detail_branch.to_rgb.weight, std=0.05)
        for strength in upsampler.detail_branch.noise_strengths:
            torch.nn.init.normal_(strength)
    return upsampler, path, export_onnx(upsampler, path, name="tiny-x4", opset=20)


def test_the_traceable_student_is_the_model_itself(tiny_upsampler, detail_upsampler) -> None:
    lr, detail = torch.rand(2, 3, 19, 70), torch.tensor([0.3, 1.0])
    assert torch.allclose(OneStepStudent(tiny_upsampler)(lr), tiny_upsampler(lr), atol=1e-6)
    assert torch.allclose(OneStepStudent(detail_upsampler)(lr, detail), detail_upsampler(lr, detail=detail), atol=1e-6)


def test_the_file_gives_the_images_of_torch_at_any_size_and_detail(exported) -> None:
    upsampler, path, summary = exported
    assert [p.name for p in path.parent.iterdir()] == ["student.onnx"]
    assert summary["bytes"] == path.stat().st_size and max(summary["max_difference"].values()) < 1e-5
    json.dumps(summary)
    for shape in ((1, 3, 1, 1), (3, 3, 2, 130), (1, 3, 65, 48)):
        lr = torch.rand(shape)
        for detail in (None, 0.0, 0.5, 1.0):
            assert (run_onnx(path, lr, detail) - upsampler(lr, detail=detail)).abs().max() < 1e-5
    assert (run_onnx(path, lr, 1.0) - run_onnx(path, lr, 0.0)).abs().mean() > 1e-3


def test_programs_that_know_no_dial_give_an_image_alone(exported) -> None:
    from onnxruntime import InferenceSession

    session = InferenceSession(str(exported[1]), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["lr"]
    assert [(each.name, each.shape) for each in session.get_overridable_initializers()] == [("detail", [1])]


def test_the_file_says_what_it_is_and_not_where_it_was_made(exported) -> None:
    import onnx

    _, path, summary = exported
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["name"] == "tiny-x4" and told["scale"] == "4" and "Apache-2.0" in told["licence"]
    assert told["detail"] == "0.3"
    axes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (model.graph.input[0], model.graph.output[0])]  # fmt: skip
    assert axes == [["batch", 3, "height", "width"], ["batch", 3, "4*height", "4*width"]]
    assert model.opset_import[0].version == summary["opset"] == 20
    assert b".py" not in path.read_bytes()


def test_the_model_is_left_as_it_was(exported) -> None:
    upsampler, _, _ = exported
    assert upsampler.training and all(parameter.requires_grad for parameter in upsampler.parameters())


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("AutoencoderTiny", 1e-4),
        pytest.param("AutoencoderKL", 1e-4, marks=pytest.mark.slow),
        pytest.param("VQModel", 1e-2, marks=pytest.mark.slow),
    ],
)
def test_students_on_latents_of_an_autoencoder_are_written_too(
    packages, autoencoders, tmp_path, name, tolerance
) -> None:
    upsampler = small(autoencoder=autoencoders[name], kappa=2.0)
    export_onnx(upsampler, tmp_path / "student.onnx", tolerance=tolerance)
    lr = torch.rand(1, 3, 10, 7)
    assert (run_onnx(tmp_path / "student.onnx", lr) - upsampler(lr)).abs().max() < tolerance


def test_students_with_attention_are_written_too(packages, tiny_unet2d, tmp_path) -> None:
    upsampler = small(unet2d=tiny_unet2d, scale=3)
    export_onnx(upsampler, tmp_path / "student.onnx")
    lr = torch.rand(1, 3, 10, 7)
    assert (run_onnx(tmp_path / "student.onnx", lr) - upsampler(lr)).abs().max() < 1e-4


def test_a_file_that_differs_from_torch_is_not_written(packages, tiny_upsampler, tmp_path, monkeypatch) -> None:
    path = tmp_path / "student.onnx"
    path.write_bytes(b"of before")
    monkeypatch.setattr(OneStepStudent, "forward", lambda self, lr: enlarge(lr, 4))
    with pytest.raises(
        ValueError,
        match=r"the ONNX file was not written because its images differ from torch's by .* more than 0\.0001",
    ):
        export_onnx(tiny_upsampler, path)
    assert path.read_bytes() == b"of before" and len(list(tmp_path.iterdir())) == 1


def test_a_teacher_is_refused(packages, tmp_path) -> None:
    with pytest.raises(
        ValueError, match="takes 15 steps, and only a one-step student can be exported to ONNX; distil it first"
    ):
        export_onnx(small(steps=15), tmp_path / "teacher.onnx")


@pytest.mark.parametrize("opset", [9, 17, 9999])
def test_an_opset_that_cannot_be_written_is_refused(packages, tiny_upsampler, tmp_path, opset) -> None:
    with pytest.raises(ValueError, match=f"opset {opset} cannot be written; use 18"):
        export_onnx(tiny_upsampler, tmp_path / "student.onnx", opset=opset)


def test_a_missing_package_is_told_with_the_extra(tiny_upsampler, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda name: None if name.startswith("onnxr") else object())
    with pytest.raises(ValueError, match=r"missing packages: onnxruntime; pip install 'realistic-degrader\[export\]'"):
        export_onnx(tiny_upsampler, tmp_path / "student.onnx")


def test_the_command_writes_both_files_and_prints_a_summary(packages, tiny_upsampler, tmp_path) -> None:
    pytest.importorskip("spandrel")
    tiny_upsampler.save_pretrained(tmp_path / "student")
    files = {"onnx": tmp_path / "a.onnx", "spandrel": tmp_path / "a.safetensors"}
    arguments = [f"--{kind}={path}" for kind, path in files.items()]
    result = CliRunner().invoke(main, ["export", "-n", str(tmp_path / "student"), *arguments])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert {kind: summary[kind]["bytes"] for kind in files} == {kind: p.stat().st_size for kind, p in files.items()}


def test_the_command_tells_mistakes_in_a_sentence(tmp_path) -> None:
    for arguments, told in (
        ([], "nothing to write; give --onnx FILE, --spandrel FILE, or both"),
        (["--onnx", str(tmp_path / "a.onnx"), "-n", "tiny-x9"], "no upsampler 'tiny-x9'"),
    ):
        result = CliRunner().invoke(main, ["export", *arguments])
        assert result.exit_code != 0 and told in result.output and "Traceback" not in result.output

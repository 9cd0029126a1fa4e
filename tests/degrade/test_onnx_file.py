"""`degrade export --onnx`: one step of the degrader in other software, for any batch and size."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade import onnx_file
from degrade.degrader import RealisticDegrader
from degrade.onnx_file import OneStepDegrader, export_onnx


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)


def inputs(degrader: RealisticDegrader, n: int, height: int, width: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    scale = degrader.config.scale
    return {
        "hr": torch.rand(n, 3, scale * height, scale * width, generator=generator),
        "code": torch.randn(n, degrader.config.code_dim, generator=generator),
        "noise": torch.randn(n, 3, height, width, generator=generator),
    }


def run_onnx(path: Path, given: dict[str, torch.Tensor]) -> torch.Tensor:
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["lr"], {name: tensor.numpy() for name, tensor in given.items()})[0])


def test_the_traceable_degrader_is_the_model_itself(jpeg_degrader) -> None:
    given = inputs(jpeg_degrader, 2, 21, 34)
    assert OneStepDegrader(jpeg_degrader)(**given).equal(jpeg_degrader(**given))


def test_the_file_gives_the_images_of_torch_for_any_batch_and_size(jpeg_degrader, tmp_path) -> None:
    path = tmp_path / "degrader.onnx"
    jpeg_degrader.train().use_backend("torch", bf16=True)
    summary = export_onnx(jpeg_degrader, path, name="mine")
    assert jpeg_degrader.training and jpeg_degrader.computed_by == ("torch", True)  # left as it was
    jpeg_degrader.eval().use_backend("torch")
    assert summary["bytes"] == path.stat().st_size and [p.name for p in tmp_path.iterdir()] == ["degrader.onnx"]
    json.dumps(summary)
    for shape in ((1, 8, 8), (3, 17, 40), (5, 9, 130)):
        given = inputs(jpeg_degrader, *shape)
        with torch.inference_mode():
            exact = jpeg_degrader(**given)
        lr = run_onnx(path, given)
        assert lr.shape == exact.shape and ((lr - exact).abs() > 1e-5).float().mean() < 0.01
    other = {**given, "code": given["code"] + 1}
    assert (run_onnx(path, other) - lr).abs().mean() > 1e-3

    import onnx

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["name"] == "mine" and told["scale"] == "4" and "Apache-2.0" in told["licence"]
    axes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*model.graph.input, *model.graph.output)]  # fmt: skip
    small = ["batch", 3, "height", "width"]
    assert axes == [["batch", 3, "4*height", "4*width"], ["batch", 16], small, small]
    assert b".py" not in path.read_bytes()


def test_a_file_that_differs_from_torch_is_not_written(tiny_degrader, tmp_path, monkeypatch) -> None:
    path = tmp_path / "degrader.onnx"
    path.write_bytes(b"of before")
    monkeypatch.setattr(OneStepDegrader, "forward", lambda self, hr, code, noise: noise * 0 + code.mean())
    with pytest.raises(ValueError, match="the ONNX file was not written because .* differ from torch's"):
        export_onnx(tiny_degrader, path)
    assert path.read_bytes() == b"of before" and len(list(tmp_path.iterdir())) == 1


def test_an_opset_that_cannot_be_written_is_refused(tiny_degrader, tmp_path) -> None:
    with pytest.raises(ValueError, match="opset 17 cannot be written; use 18"):
        export_onnx(tiny_degrader, tmp_path / "degrader.onnx", opset=17)


def test_the_command_writes_the_degrader_that_is_named(tiny_degrader, tmp_path, monkeypatch) -> None:
    tiny_degrader.save_pretrained(tmp_path / "mine")
    called = []
    monkeypatch.setattr(onnx_file, "export_onnx", lambda *given, **options: called.append((given, options)) or {"a": 1})
    arguments = ["export", "--onnx", str(tmp_path / "a.onnx"), "--degrader", str(tmp_path / "mine"), "--opset", "20"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0 and json.loads(result.output) == {"a": 1}
    (model, path), options = called[0]
    assert list(model.config.widths) == list(tiny_degrader.config.widths) and path == tmp_path / "a.onnx"
    assert options == {"name": "mine", "opset": 20, "tolerance": 1e-4}


@pytest.mark.parametrize(("arguments", "told"), [
    ([], "nothing to export; give SHARDS with --to and --out, or --onnx FILE"),
    (["shards", "--to", "folders"], "nothing to export; give SHARDS with --to and --out, or --onnx FILE"),
    (["shards", "--onnx", "a.onnx", "--out", "b"], "--onnx writes the degrader and no pairs; leave out SHARDS, --out"),
    (["shards", "--to", "lmdb", "--out", "b", "--opset", "20"], "--opset can only be given with --onnx FILE"),
    (["--onnx", "a.onnx", "--degrader", "tiny-x9"], "no degrader 'tiny-x9'"),
])  # fmt: skip
def test_mistakes_are_told_in_a_sentence(arguments, told) -> None:
    result = CliRunner().invoke(main, ["export", *arguments])
    assert result.exit_code != 0 and told in result.output and "Traceback" not in result.output

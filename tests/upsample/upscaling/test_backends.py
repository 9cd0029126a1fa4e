"""`--backend`: other software computes the networks, and the images stay those of torch."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from cli.upsample_commands import main
from degrade.images.codec import read_image
from degrade.networks import backend as backend_module
from degrade.networks import onnx_trace, runtimes
from degrade.networks.onnx_trace import trace_digest
from upsample.model import ResidualShiftUpsampler
from upsample.upscaling.backends import _WithFeatures, cache_folder, use_backend
from upsample.upscaling.tiling import upscale_in_tiles
from upsample.upscaling.upscale import load_upsampler


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def model(detail_upsampler, cache, tmp_path, monkeypatch) -> Path:
    """The saved model; its networks are traced for the first test and taken from the cache by the others."""
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    detail_upsampler.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_images_are_those_of_torch_in_tiles_of_any_size_at_any_detail(model, detail_upsampler, backend, normal) -> None:
    lr = normal(0, 2, 3, 90, 71).sigmoid()
    other = load_upsampler(model, backend=backend)
    for tile, detail in ((0, None), (64, 1.0), (32, torch.tensor([0.5, 0.0]))):
        expected = upscale_in_tiles(detail_upsampler, lr, tile=tile, detail=detail)
        assert (upscale_in_tiles(other, lr, tile=tile, detail=detail) - expected).abs().max() < 1e-5
    steps = {"tile": 64, "steps": 3}
    expected = upscale_in_tiles(detail_upsampler, lr, **steps)
    assert (upscale_in_tiles(other, lr, **steps) - expected).abs().max() < 1e-5
    assert (load_upsampler(model, backend=backend, seed=3)(lr) - other(lr)).abs().mean() > 1e-4  # other noise


def test_networks_are_traced_once(model, monkeypatch) -> None:
    load_upsampler(model, backend="onnxruntime")
    monkeypatch.setattr(onnx_trace, "trace_onnx", lambda *inputs, **options: pytest.fail("traced again"))
    told: list[str] = []
    load_upsampler(model, backend="openvino", seed=9, on_note=told.append)
    assert not told and len(list(cache_folder().iterdir())) == 2


def test_openvino_computes_corrections_in_bf16_but_not_the_image(model, detail_upsampler, normal) -> None:
    import openvino

    lr = normal(0, 1, 3, 40, 40).sigmoid()
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(ValueError, match="this processor has no bfloat16, so openvino would compute in float32"):
            load_upsampler(model, backend="openvino", bf16=True)
        return
    coarse = load_upsampler(model, backend="openvino", bf16=True)
    with torch.inference_mode():
        difference = (coarse(lr) - detail_upsampler(lr)).abs()
    assert difference.max() < 0.5 / 255 and difference.mean() < 0.05 / 255


def test_what_fits_in_no_memory_is_told_as_torch_tells_it(model, monkeypatch) -> None:
    def refuse(x: bytes, bf16: bool) -> object:
        def run(arrays: dict) -> list:
            if arrays.get("x", arrays.get("lr")).shape[-1] > 64:
                raise RuntimeError("[CPU] Convolution node with name 'a' Failed to allocate 56623104 bytes of memory")
            return start(x, bf16)(arrays)

        return run

    start = runtimes._start_openvino
    monkeypatch.setattr(runtimes, "_start_openvino", refuse)
    upsampler = load_upsampler(model, backend="openvino")
    told: list[int] = []
    upscale_in_tiles(upsampler, torch.rand(1, 3, 20, 100), tile=0, on_halved=told.append)
    assert told == [50]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_memory_that_is_really_short_raises_and_gives_no_image_of_before(model, backend) -> None:
    program = f"""
import resource, torch
from upsample.upscaling.upscale import load_upsampler
upsampler = load_upsampler({str(model)!r}, backend={backend!r})
lr = torch.rand(1, 51, 1024, 1024)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
try:
    upsampler.unet(lr, torch.rand(1, 8, 1, 1))
except torch.OutOfMemoryError:
    print("out of memory")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "out of memory\n"


def test_the_command_writes_the_same_file(model, tmp_path) -> None:
    Image.effect_noise((40, 30), 50).convert("RGBA").save(tmp_path / "a.png")
    for backend in ("torch", "onnxruntime"):
        options = ["-i", str(tmp_path / "a.png"), "-o", str(tmp_path / backend), "-n", str(model)]
        result = CliRunner().invoke(main, ["run", *options, "--backend", backend], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    one, other = (read_image(tmp_path / backend / "a.png").astype(int) for backend in ("torch", "onnxruntime"))
    assert abs(one - other).max() <= 1 and (one != other).mean() < 1e-3  # a rounding may fall otherwise


def test_a_trace_of_other_weights_is_refused(model, detail_upsampler) -> None:
    load_upsampler(model, backend="onnxruntime")
    traced = cache_folder() / f"{trace_digest(_WithFeatures(detail_upsampler.unet))}.onnx"
    torch.nn.init.zeros_(detail_upsampler.unet.head.weight)
    wrong = cache_folder() / f"{trace_digest(_WithFeatures(detail_upsampler.unet))}.onnx"
    shutil.copy(traced, wrong)
    try:
        with pytest.raises(ValueError, match="onnxruntime differ from torch's by .*; delete .* and try again"):
            use_backend(detail_upsampler, "onnxruntime")
    finally:
        wrong.unlink()


def test_mistakes_are_told_in_a_sentence(model, tiny_unet2d, monkeypatch) -> None:
    with pytest.raises(ValueError, match="onnxruntime computes in float32 on a CPU; use --fp32, or --backend openvino"):
        load_upsampler(model, backend="onnxruntime", bf16=True)
    with pytest.raises(ValueError, match="openvino works on the CPU here, not on meta; use --device cpu"):
        use_backend(load_upsampler(model).to("meta"), "openvino")
    with pytest.raises(ValueError, match="openvino runs our own U-Net, and these weights have a unet2d"):
        use_backend(ResidualShiftUpsampler(unet2d=tiny_unet2d), "openvino")
    monkeypatch.setattr(backend_module, "find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(ValueError, match=r"missing packages: openvino; pip install 'realistic-degrader\[openvino\]'"):
        load_upsampler(model, backend="openvino")

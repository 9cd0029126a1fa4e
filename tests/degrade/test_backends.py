"""`--backend` and `--bf16`: other software or precision for the network of the degrader, and the same looks."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade.degrader import RealisticDegrader
from degrade.images.codec import read_image
from degrade.mix import DegradationMix, one_thread
from degrade.networks import backend as backend_module
from degrade.networks.onnx_trace import cache_folder, trace_digest

WAYS = [("onnxruntime", False), ("openvino", False), ("torch", True), ("openvino", True)]
SEEDS = [3, 141, 59, 26]


def has_bf16() -> bool:
    openvino = pytest.importorskip("openvino")
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def packages(cache, monkeypatch) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{'bf16' if way[1] else 'fp32'}")
def way(request) -> tuple[str, bool]:
    if request.param == ("openvino", True) and not has_bf16():
        pytest.skip("this processor has no bfloat16")
    return request.param


@pytest.fixture
def hr(photographs) -> torch.Tensor:
    crops = [photographs["chelsea"][y : y + 60, 100:168] for y in (40, 80, 120, 160)]
    return torch.stack([torch.from_numpy(crop).permute(2, 0, 1) for crop in crops]).float() / 255


def degraded(degrader: RealisticDegrader, hr: torch.Tensor, **options) -> torch.Tensor:
    generator = [torch.Generator().manual_seed(seed) for seed in SEEDS[: len(hr)]]
    with torch.inference_mode():
        return degrader(hr, generator=generator, **options)


def test_images_are_those_of_torch_at_any_size_scale_and_strength(way, tiny_degrader, hr) -> None:
    tolerance = 0.01 if way[1] else 1e-5
    ways = ({}, {"tile": 8}, {"scale": 2}, {"steps": 3}, {"strength": 1.5, "grain": 0.5})
    exact = [degraded(tiny_degrader, hr, **options) for options in ways]
    tiny_degrader.use_backend(way[0], bf16=way[1])
    assert tiny_degrader.computed_by == way
    for options, expected in zip(ways, exact, strict=True):
        difference = (degraded(tiny_degrader, hr, **options) - expected).abs()
        assert difference.mean() < tolerance / 5 and difference.max() < tolerance * (5 if "steps" in options else 1)
    assert way[1] == bool((degraded(tiny_degrader, hr) - exact[0]).abs().max() > 1e-5)  # bf16 does something
    tiny_degrader.use_backend("torch")
    assert degraded(tiny_degrader, hr).equal(exact[0]) and tiny_degrader.computed_by == ("torch", False)


def test_a_seed_gives_the_same_lr_alone_and_in_a_batch(way, tiny_degrader, hr) -> None:
    tiny_degrader.use_backend(way[0], bf16=way[1])
    mix = DegradationMix(tiny_degrader, None)
    with torch.inference_mode():
        together = mix(hr, SEEDS)
        alone = torch.cat([mix(image[None], [seed]) for image, seed in zip(hr, SEEDS, strict=True)])
    assert (together - alone).abs().max() <= 1.001 / 255
    assert (together != alone).float().mean() < (5e-2 if way[1] else 1e-3)


def test_exact_bytes_depend_neither_on_the_batch_nor_on_threads(way, tiny_degrader, hr) -> None:
    with one_thread():
        tiny_degrader.use_backend(way[0], bf16=way[1])
    mix = DegradationMix(tiny_degrader, None)
    records = mix.draw(SEEDS)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = mix.degrade_exactly(hr, records)
        torch.set_num_threads(1)
        alone = [mix.degrade_exactly(image[None], [record]) for image, record in zip(hr, records, strict=True)]
    finally:
        torch.set_num_threads(before)
    assert together.equal(torch.cat(alone))


def test_bf16_computes_the_network_alone(tiny_degrader, hr) -> None:
    seen = []
    tiny_degrader.use_backend("torch", bf16=True)
    tiny_degrader.unet.head.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    tiny_degrader.quantiser.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    assert degraded(tiny_degrader, hr).dtype == torch.float32
    assert seen == [torch.bfloat16, torch.float32]


def test_gradients_are_refused_rather_than_lost(tiny_degrader, hr) -> None:
    tiny_degrader.use_backend("onnxruntime")
    assert not tiny_degrader(hr).requires_grad
    with pytest.raises(ValueError, match="onnxruntime computes no gradients; call it in torch.no_grad"):
        tiny_degrader(hr.requires_grad_())


def test_the_choice_changes_no_global_random_state_and_is_not_saved(tiny_degrader, tmp_path) -> None:
    before = torch.get_rng_state()
    tiny_degrader.use_backend("openvino")
    assert torch.get_rng_state().equal(before)
    tiny_degrader.save_pretrained(tmp_path)
    assert RealisticDegrader.from_pretrained(tmp_path).computed_by == ("torch", False)


def test_a_trace_of_other_weights_is_refused(tiny_degrader) -> None:
    tiny_degrader.use_backend("onnxruntime")
    traced = cache_folder() / f"{trace_digest(tiny_degrader.unet)}.onnx"
    tiny_degrader.use_backend("torch")
    torch.nn.init.zeros_(tiny_degrader.unet.head.weight)
    wrong = cache_folder() / f"{trace_digest(tiny_degrader.unet)}.onnx"
    shutil.copy(traced, wrong)
    try:
        with pytest.raises(ValueError, match="onnxruntime differ from torch's by .*; delete .* and try again"):
            tiny_degrader.use_backend("onnxruntime")
    finally:
        wrong.unlink()


def test_mistakes_are_told_in_a_sentence(tiny_degrader, monkeypatch) -> None:
    with pytest.raises(ValueError, match="onnxruntime computes in float32 on a CPU; use --fp32, or --backend openvino"):
        tiny_degrader.use_backend("onnxruntime", bf16=True)
    if not has_bf16():
        with pytest.raises(ValueError, match="this processor has no bfloat16, so openvino would compute in float32"):
            tiny_degrader.use_backend("openvino", bf16=True)
    with pytest.raises(ValueError, match="openvino works on the CPU here, not on meta; use --device cpu"):
        RealisticDegrader(widths=(8, 8, 8)).to("meta").use_backend("openvino")
    monkeypatch.setattr(backend_module, "find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(ValueError, match=r"missing packages: openvino; pip install 'realistic-degrader\[openvino\]'"):
        tiny_degrader.use_backend("openvino")


def run(*arguments, status: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def weights(tiny_degrader, tmp_path) -> Path:
    tiny_degrader.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(pattern)}


@pytest.mark.parametrize(("options", "stated"), [
    (["--backend", "openvino"], {"backend": "openvino"}), (["--bf16"], {"bf16": True}),
])  # fmt: skip
def test_a_data_set_states_its_software_and_every_later_command_uses_it(
    weights, photo_folder, tmp_path, options, stated
) -> None:
    command = ["synth", "-i", photo_folder, "--degrader", weights, "--crop-size", 64, "--crops-per-image", 2]
    run(*command, "-o", tmp_path / "one", *options, "--workers", 0)
    run(*command, "-o", tmp_path / "two", *options, "--workers", 2)
    run(*command, "-o", tmp_path / "plain", "--workers", 0)
    assert files(tmp_path / "one", "*.tar") == files(tmp_path / "two", "*.tar") != files(tmp_path / "plain", "*.tar")
    settings = json.loads((tmp_path / "one" / "manifest.json").read_text())["settings"]
    assert {name: settings.get(name) for name in stated} == stated
    told = run(*command, "-o", tmp_path / "one", "--workers", 0, status=1)
    name, value = next(iter(stated.items()))
    assert f"{name} was {json.dumps(value)}, is {json.dumps({'backend': 'torch', 'bf16': False}[name])}" in told
    assert "is not those" not in told and "backend" in run(*command, "-o", tmp_path / "plain", "--backend", "openvino",
                                                           status=1)  # fmt: skip
    tar = shutil.copy(tmp_path / "one" / "pairs-000000.tar", tmp_path / "alone.tar")
    answer = json.loads(run("replay", tar, "--key", 0, "--degrader", weights))
    assert answer["identical"] and {name: answer["record"].get(name) for name in stated} == stated
    run("verify", tmp_path / "one")


def test_the_default_states_nothing_so_that_data_sets_stay_what_they_were(weights, photo_folder, tmp_path) -> None:
    run("synth", "-i", photo_folder, "-o", tmp_path / "out", "--degrader", weights, "--crop-size", 64, "--workers", 0)
    manifest = (tmp_path / "out" / "manifest.json").read_text()
    assert "backend" not in manifest and "bf16" not in manifest and "openvino" not in manifest
    assert b"backend" not in (tmp_path / "out" / "pairs-000000.tar").read_bytes()


def test_pictures_of_apply_are_made_again_by_the_same_software(weights, photo_folder, tmp_path) -> None:
    command = ["apply", "-i", photo_folder, "--degrader", weights, "--workers", 0]
    run(*command, "-o", tmp_path / "out", "--backend", "openvino")
    assert "made with other settings" in run(*command, "-o", tmp_path / "out", status=1)
    run("apply", "-i", photo_folder, "-o", tmp_path / "again", "--replay", tmp_path / "out" / "log.jsonl", "--degrader",
        weights, "--workers", 0)  # fmt: skip
    assert files(tmp_path / "again", "*.png") == files(tmp_path / "out", "*.png")
    run(*command, "-o", tmp_path / "plain")
    for name, data in files(tmp_path / "plain", "*.png").items():
        difference = abs(read_image(data).astype(int) - read_image(tmp_path / "out" / name))
        assert (difference != 0).mean() < 1e-3


def test_a_recipe_alone_takes_no_backend(photo_folder, tmp_path) -> None:
    told = run("synth", "-i", photo_folder, "-o", tmp_path / "out", "--degrader", "none", "--preset", "bicubic",
               "--backend", "openvino", status=1)  # fmt: skip
    assert "--backend and --bf16 need a learned degrader" in told

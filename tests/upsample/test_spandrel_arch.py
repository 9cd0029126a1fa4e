import json

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from cli.upsample_commands import main
from upsample.export import export_spandrel
from upsample.model import ResidualShiftUpsampler

spandrel = pytest.importorskip("spandrel")

from upsample.spandrel_arch import register  # noqa: E402 - imports spandrel


@pytest.fixture
def loader() -> "spandrel.ModelLoader":
    registry = spandrel.MAIN_REGISTRY.copy()
    register(registry)
    return spandrel.ModelLoader(registry=registry)


def test_saved_weights_load_in_spandrel_and_give_the_same_image(tiny_upsampler, loader, tmp_path) -> None:
    tiny_upsampler.save_pretrained(tmp_path)
    theirs = loader.load_from_file(tmp_path / "diffusion_pytorch_model.safetensors")
    ours = ResidualShiftUpsampler.from_pretrained(tmp_path)
    lr = torch.rand(1, 3, 21, 34)
    with torch.inference_mode():
        assert torch.equal(theirs(lr), ours(lr))


def test_it_says_what_it_is(tiny_upsampler, loader) -> None:
    model = loader.load_from_state_dict(tiny_upsampler.state_dict())
    assert isinstance(model, spandrel.ImageModelDescriptor)
    assert (model.purpose, model.scale, model.input_channels, model.output_channels) == ("SR", 4, 3, 3)
    assert model.architecture.id == "ResidualShiftUpsampler" and model.tags == ["8-8-8", "1 blocks", "1 steps"]
    assert model.size_requirements.none and model.tiling == spandrel.ModelTiling.SUPPORTED


def test_every_hyperparameter_is_deduced(loader) -> None:
    chosen = {
        "scale": 3,
        "steps": 4,
        "widths": (8, 16, 24),
        "blocks": 3,
        "embedding_dim": 12,
        "num_train_timesteps": 4,
        "kappa": 1.5,
        "min_noise_level": 0.2,
    }
    model = loader.load_from_state_dict(ResidualShiftUpsampler(**chosen).state_dict()).model
    assert {name: model.config[name] for name in chosen} == chosen


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_runs_in_the_half_precisions_that_it_claims(tiny_upsampler, loader, dtype) -> None:
    model = loader.load_from_state_dict(tiny_upsampler.state_dict())
    lr = torch.rand(1, 3, 16, 16)
    full = model(lr)
    half = model.to(dtype)(lr.to(dtype))
    assert half.dtype == dtype and (half.float() - full).abs().max() < 0.05


def test_registering_twice_changes_nothing() -> None:
    registry = spandrel.MAIN_REGISTRY.copy()
    register(registry)
    count = len(registry)
    register(registry)
    assert (
        len(registry) == count == len(spandrel.MAIN_REGISTRY) + ("ResidualShiftUpsampler" not in spandrel.MAIN_REGISTRY)
    )


def test_the_default_registry_is_that_of_every_loader(tiny_upsampler, monkeypatch) -> None:
    for name in ("_architectures", "_ordered", "_by_id"):
        monkeypatch.setattr(spandrel.MAIN_REGISTRY, name, getattr(spandrel.MAIN_REGISTRY, name))
    register()
    assert spandrel.ModelLoader().load_from_state_dict(tiny_upsampler.state_dict()).scale == 4


def test_other_peoples_weights_are_not_claimed(loader) -> None:
    with pytest.raises(spandrel.UnsupportedModelError):
        loader.load_from_state_dict({"conv.weight": torch.zeros(3, 3, 1, 1), "noise": torch.zeros(1)})


def test_what_weights_do_not_tell_is_said(autoencoders, tiny_unet2d, loader, tmp_path) -> None:
    for options in ({"unet2d": tiny_unet2d}, {"autoencoder": autoencoders["VQModel"]}):
        upsampler = ResidualShiftUpsampler(widths=(8, 8, 8), blocks=1, **options)
        with pytest.raises(ValueError, match=r"only config\.json describes; load the folder"):
            loader.load_from_state_dict(upsampler.state_dict())
        with pytest.raises(ValueError, match=r"only config\.json describes"):
            export_spandrel(upsampler, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_exported_file_loads_and_gives_the_same_image(tiny_upsampler, loader, tmp_path) -> None:
    path = tmp_path / "student.safetensors"
    summary = export_spandrel(tiny_upsampler, path, name="tiny-x4")
    assert summary["bytes"] == path.stat().st_size and max(summary["max_difference"].values()) == 0
    lr = torch.rand(1, 3, 9, 13)
    with torch.inference_mode():
        assert torch.equal(loader.load_from_file(path)(lr), tiny_upsampler(lr))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["name"] == "tiny-x4" and metadata["scale"] == "4" and "Apache-2.0" in metadata["licence"]
    json.dumps(summary)


def test_a_file_with_a_detail_branch_has_the_default_that_was_chosen_for_it(detail_upsampler, loader, tmp_path) -> None:
    detail_upsampler.save_pretrained(tmp_path / "sharp")
    path, lr = tmp_path / "sharp.safetensors", torch.rand(1, 3, 9, 13)
    for options, detail in (((), 0.5), (("--detail", "0.3"), 0.3), (("--detail", "0"), 0.0)):
        result = CliRunner().invoke(
            main, ["export", "-n", str(tmp_path / "sharp"), "--spandrel", str(path), *options], catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        model = loader.load_from_file(path)
        assert model.model.config.detail == detail and model.tags[-1] == f"detail {detail:g}"
        with torch.inference_mode():
            assert torch.equal(model(lr), detail_upsampler(lr, detail=detail))
        with safe_open(path, "pt") as file:
            assert file.metadata()["detail"] == f"{detail:g}"


def test_a_default_for_weights_without_a_branch_is_refused(tiny_upsampler, tmp_path) -> None:
    tiny_upsampler.save_pretrained(tmp_path / "plain")
    arguments = ["export", "-n", str(tmp_path / "plain"), "--spandrel", str(tmp_path / "a.safetensors")]
    result = CliRunner().invoke(main, [*arguments, "--detail", "0.3"])
    assert result.exit_code == 1 and "these weights have no detail branch; use detail 0" in result.output
    assert not (tmp_path / "a.safetensors").exists()


def test_a_student_that_computes_in_bf16_is_exported_in_float32(tiny_upsampler, tmp_path) -> None:
    tiny_upsampler.set_bf16(True)
    summary = export_spandrel(tiny_upsampler, tmp_path / "student.safetensors")
    assert max(summary["max_difference"].values()) == 0


def test_an_export_by_another_ending_is_refused(tiny_upsampler, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"student\.pth does not end in \.safetensors"):
        export_spandrel(tiny_upsampler, tmp_path / "student.pth")

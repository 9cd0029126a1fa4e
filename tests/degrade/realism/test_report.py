"""The realism report: its sets, its judges, and the page, end to end on real photographs."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from cli.degrade_commands import main
from degrade.degrader import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.images.codec import encode_image
from degrade.images.crops import ImagePool, list_lr
from degrade.mix import DegradationMix
from degrade.realism.control import CHANGES, _wrong_partners, control, fidelity, make_recipe_pairs, score_pairs
from degrade.realism.features import FEATURES, LrFeatures
from degrade.realism.hiding import hiding
from degrade.realism.nearness import area_under_roc, classify, matched_scenes, tell_apart
from degrade.realism.report import RealismConfig, evaluate
from degrade.realism.scores import load_scorers, score_distances
from degrade.realism.sets import clean_downsampling, draw_seeds, gather, make, make_baseline
from degrade.realism.variety import spread
from degrade.recipes.recipe import Recipe

Photos = dict[str, NDArray[np.uint8]]


@pytest.fixture
def lr_folder(tmp_path: Path, photographs: Photos) -> Path:
    """Six small images, as real LR."""
    folder = tmp_path / "lr"
    folder.mkdir()
    for name, photo in photographs.items():
        for part, image in enumerate((photo[:128, :128], photo[128:256, 128:256])):
            data = encode_image(np.ascontiguousarray(image), "jpg", 40)
            (folder / f"{name}{part}.jpg").write_bytes(data)
    return folder


@pytest.fixture
def pool(photo_folder: Path) -> ImagePool:
    return ImagePool.open(list_sources(photo_folder), min_side=128)


@pytest.fixture
def degrader_folder(tiny_degrader: RealisticDegrader, tmp_path: Path) -> Path:
    tiny_degrader.save_pretrained(tmp_path / "degrader")
    return tmp_path / "degrader"


def config(lr_folder: Path, photo_folder: Path, degrader_folder: Path, **changes: object) -> RealismConfig:
    settings: dict[str, object] = {"crops": 16, "crop_size": 32, "seeds": 1, "degrader": str(degrader_folder)}
    return RealismConfig(real_lr=lr_folder, hr_dir=photo_folder, **(settings | changes))  # type: ignore[arg-type]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter training of the classifier and fewer samples: the page is the same."""
    monkeypatch.setattr("degrade.realism.nearness.STEPS", 4)
    monkeypatch.setattr("degrade.realism.variety.CROPS", 2)
    monkeypatch.setattr("degrade.realism.variety.SAMPLES", 2)
    monkeypatch.setattr("degrade.realism.control.SAMPLES", 2)
    monkeypatch.setattr("degrade.realism.control.SCORED", 4)
    monkeypatch.setattr("degrade.realism.hiding.STEPS", 2)


def test_the_two_halves_of_the_real_images_share_no_image(lr_folder: Path) -> None:
    real = ImagePool.open(list_lr(lr_folder), min_side=32)
    first, second = real.halves(seed=0)
    assert len(first) == len(second) == 2  # of six: an even number in each half
    assert not {source.name for source in first} & {source.name for source in second}
    assert real.halves(seed=1) != real.halves(seed=0) == real.halves(seed=0)


def test_the_first_half_of_the_crops_shows_other_images_than_the_second(lr_folder: Path) -> None:
    real = ImagePool.open(list_lr(lr_folder), min_side=32)
    crops = real.crops(16, 32, seed=0, among=real.sources[:2], grid=8)
    whole = [real.image(source) for source in real.sources[:2]]
    for number, crop in enumerate(crops):
        views = np.lib.stride_tricks.sliding_window_view(whole[number // 8], (32, 32), (0, 1))[::8, ::8]
        assert (views == crop.transpose(2, 0, 1)).all((2, 3, 4)).any()


def test_all_sets_are_made_of_the_same_hr_and_are_as_many(
    lr_folder: Path, pool: ImagePool, tiny_degrader: RealisticDegrader
) -> None:
    real = ImagePool.open(list_lr(lr_folder), min_side=32)
    mix = DegradationMix(tiny_degrader, None)
    sets = gather(real, pool, {"ours": mix}, count=8, side=32, seed=0, codes_from_real=False)
    assert set(sets.made) == {"real", "ours", "real_esrgan", "bicubic"}
    assert all(crops.shape == (8, 32, 32, 3) and crops.dtype == np.uint8 for crops in (sets.real, *sets.made.values()))
    error = np.abs(sets.made["bicubic"].astype(float) - clean_downsampling(sets.hr, 4)).mean()
    assert error < 4
    again = gather(real, pool, {"ours": mix}, count=8, side=32, seed=0, codes_from_real=False)
    assert all((sets.made[name] == again.made[name]).all() for name in sets.made)


def test_looks_can_come_from_the_half_that_is_not_measured_against(
    lr_folder: Path, pool: ImagePool, tiny_degrader: RealisticDegrader
) -> None:
    real = ImagePool.open(list_lr(lr_folder), min_side=32)
    mix = DegradationMix(tiny_degrader, None)
    bank, reference = (
        gather(real, pool, {"ours": mix}, count=4, side=32, seed=0, codes_from_real=from_real)
        for from_real in (False, True)
    )
    assert (bank.made["ours"] != reference.made["ours"]).any()
    assert (bank.made["bicubic"] == reference.made["bicubic"]).all()


def test_images_too_small_for_a_crop_are_named(lr_folder: Path) -> None:
    (lr_folder / "tiny.png").write_bytes(encode_image(np.zeros((20, 20, 3), np.uint8), "png"))
    (lr_folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    pool = ImagePool.open(list_lr(lr_folder), min_side=32)
    assert len(pool.sources) == 6
    assert [line.split(":")[0] for line in pool.left_out] == ["broken.png", "tiny.png"]


def test_real_lr_is_read_from_the_lr_members_of_shards(tmp_path: Path, lr_folder: Path) -> None:
    image = next(lr_folder.iterdir())
    with tarfile.open(tmp_path / "pairs-000000.tar", "w") as tar:
        for role in ("hr", "lr"):
            tar.add(image, f"000.{role}.jpg")
    (source,) = list_lr(tmp_path / "pairs-000000.tar")
    assert source.name == "pairs-000000.tar/000.lr.jpg" and source.read() == image.read_bytes()


def test_a_baseline_never_repeats_the_draw_of_the_truth(pool: ImagePool) -> None:
    assert not set(draw_seeds("truth", 0, 50)) & set(draw_seeds("make", 0, 50))
    pairs = make_recipe_pairs(pool, 10, scale=4, side=32, seed=0)
    other = make_baseline(pairs.hr, "real_esrgan", 4, seed=0)
    assert (other[::5] != pairs.lr[::5]).any((1, 2, 3)).all()  # every fifth truth is Real-ESRGAN's too


def test_features_follow_the_degradation_more_than_the_scene(pool: ImagePool) -> None:
    hr = pool.crops(24, 256, seed=0)
    features = LrFeatures.shipped()
    noisy = Recipe.from_dict({"steps": [{"op": "noise", "sigma_255": [18, 20]}, {"op": "resize", "of": "lr"}]})
    clean, other = (
        features.of_crops(make_baseline(hr, "bicubic", 4, 0)),
        features.of_crops(make(hr, DegradationMix(None, noisy), 0)),
    )
    assert clean.shape == (24, FEATURES)
    between = np.linalg.norm(clean.mean(0) - other.mean(0))
    within = np.linalg.norm(clean[:8].mean(0) - clean[16:].mean(0))  # other photographs, same degradation
    assert between > 1.5 * within


def test_shipped_features_are_no_degrader() -> None:
    assert "lr-features" not in RealisticDegrader.shipped_names()


def test_classifier_finds_noise_and_nothing_between_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("degrade.realism.nearness.STEPS", 20)
    rng = np.random.default_rng(0)
    smooth = [rng.integers(100, 140, (24, 32, 32, 3)).astype(np.uint8) // 4 * 2 for _ in range(6)]
    noisy = [(part + rng.normal(0, 12, part.shape)).clip(0, 255).astype(np.uint8) for part in smooth[:2]]
    assert tell_apart((smooth[2], noisy[0]), (smooth[3], noisy[1]), seed=0).accuracy > 0.95
    equal = tell_apart((smooth[2], smooth[4]), (smooth[3], smooth[5]), seed=0)
    assert 0.2 < equal.auc < 0.8


def test_a_judge_of_several_sets_calls_each_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("degrade.realism.nearness.STEPS", 30)
    rng = np.random.default_rng(0)
    sets = [
        [(128 + rng.normal(0, sigma, (24, 32, 32, 3))).clip(0, 255).astype(np.uint8) for sigma in (0.5, 6, 30)]
        for _ in range(2)
    ]
    logits = classify(sets[0], sets[1], seed=0)
    assert [float((rows.argmax(1) == number).mean()) > 0.8 for number, rows in enumerate(logits)] == [True] * 3


def test_detail_hidden_in_the_last_bits_is_found_by_touching_them(pool: ImagePool) -> None:
    """LR whose chroma low bits carry the sign of the HR's fine luma, as a co-trained degrader might learn to write."""
    hr = np.repeat(np.random.default_rng(0).choice([96, 160], (16, 128, 128, 1)), 3, axis=3).astype(np.uint8)
    hr[:, 0::4, 1::4] = hr[:, 0::4, 2::4] = hr[:, 0::4, 0::4]  # what one bit a pixel can tell
    honest = np.full((16, 32, 32, 3), 128, np.uint8)
    hidden = honest + (hr[:, ::4, ::4] > 128) * np.array([0, 0, 4], np.uint8)
    figures = hiding(hr, {"honest": honest, "hidden": hidden}, 4, seed=0)
    assert figures["hiding_psnr"]["hidden"] > figures["hiding_psnr"]["honest"] + 0.2
    drops = figures["hiding_drop_jpeg_95"]  # colour at half resolution: nothing of one pixel survives
    assert drops["hidden"] > 0.1 > abs(drops["honest"])


def test_a_score_without_pyiqa_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ValueError, match=r"metric piqe needs pyiqa.*pip install"):
        load_scorers(["piqe"])
    assert load_scorers([]) == {}


def test_distance_of_scores_is_that_of_their_distributions(
    lr_folder: Path, pool: ImagePool, tiny_degrader: RealisticDegrader
) -> None:
    real = ImagePool.open(list_lr(lr_folder), min_side=32)
    mix = DegradationMix(tiny_degrader, None)
    sets = gather(real, pool, {"ours": mix}, count=4, side=32, seed=0, codes_from_real=False)
    sets.made["ours"] = sets.real
    figures = score_distances(sets, {"brightness": lambda image: image.mean()})
    assert figures["w1_score_brightness"]["ours"] == 0 < figures["w1_score_brightness"]["bicubic"]
    assert figures["mean_score_brightness"]["ours"] == pytest.approx(float(sets.real.mean()) / 255)
    with pytest.raises(ValueError, match="metric nothing has no value for some crops of 32 px"):
        score_distances(sets, {"nothing": lambda image: image.mean() * float("nan")})


def test_area_under_roc_counts_pairs() -> None:
    assert area_under_roc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert area_under_roc(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.5


def test_scenes_are_matched_whatever_the_degradation(pool: ImagePool) -> None:
    hr = pool.crops(9, 128, seed=0)
    order = np.random.default_rng(0).permutation(9)
    rows, partners = matched_scenes(make_baseline(hr, "bicubic", 4, 0), clean_downsampling(hr, 4)[order])
    assert len(rows) == 5
    assert rows == order[partners].tolist()


def test_control_is_perfect_for_a_degrader_that_paints_the_truth(
    pool: ImagePool, tiny_degrader: RealisticDegrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = make_recipe_pairs(pool, 10, scale=4, side=32, seed=0)
    outputs = iter([pairs.lr, np.roll(pairs.lr, 5, axis=0)])  # with the right reference, then with a wrong one
    monkeypatch.setattr("degrade.realism.control.make_like", lambda *_: next(outputs))
    figures = control(pairs, DegradationMix(tiny_degrader, None), seed=0)
    for key in CHANGES:
        assert figures[f"correlation_{key}"]["ours_like"] == pytest.approx(1)
        assert figures[f"correlation_{key}"]["ours_wrong"] < 0.9
    assert figures["high_band_energy_ratio"]["ours_like"] == pytest.approx(1)


def test_a_wrong_reference_is_never_the_right_one_and_of_any_recipe() -> None:
    images = [number // 2 for number in range(40)]
    wrong = _wrong_partners(images, seed=0)
    assert all(images[a] != images[b] for a, b in enumerate(wrong))
    assert len({(a - b) % 5 for a, b in enumerate(wrong)}) == 5  # recipes come in turns of five
    assert set(_wrong_partners([7, 7, 7], seed=0)) <= {0, 1, 2}  # a single photograph has no other


def test_samples_that_hold_the_truth_score_better(
    pool: ImagePool, tiny_degrader: RealisticDegrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = make_recipe_pairs(pool, 4, scale=4, side=32, seed=0)
    monkeypatch.setattr("degrade.realism.control.make_like", lambda *_: pairs.lr)
    figures = score_pairs(pairs, DegradationMix(tiny_degrader, None), seed=0)
    assert figures["psnr_best"]["ours_like"] == 100 and figures["energy_score"]["ours_like"] == 0
    assert figures["crps"]["ours_like"] == 0 < figures["crps"]["bicubic"]


def test_spread_of_known_noise_and_of_a_fixed_answer() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((2, 32, 32, 3), 128.0)
    draws = [(flat + rng.normal(0, 10, flat.shape)).round().astype(np.uint8) for _ in range(8)]
    high_share = np.sqrt((1 - 6 * 6 / 256) ** 2 + (70 / 256) ** 2 - (36 / 256) ** 2)  # of white noise, 5x5 binomial
    assert spread(draws) == pytest.approx(10 * high_share, rel=0.02)
    assert spread([draws[0], draws[0]]) == 0


def test_fidelity_sees_a_cast_and_a_shift(pool: ImagePool) -> None:
    hr = pool.crops(4, 256, seed=0)
    clean = clean_downsampling(hr, 4)
    cast = (clean.astype(int) + [8, 0, 0]).clip(0, 255).astype(np.uint8)
    moved = np.roll(clean, 1, axis=2)
    figures = fidelity(hr, {"clean": clean, "cast": cast, "moved": moved}, 4)
    assert figures["colour_shift_delta_e"]["clean"] == 0
    assert figures["colour_shift_delta_e"]["cast"] > 2
    assert figures["low_frequency_error"]["cast"] == pytest.approx(8 / 3, rel=0.15)
    assert figures["shift_px"]["clean"] == pytest.approx(0, abs=1e-3)
    assert figures["shift_px"]["moved"] == pytest.approx(1, abs=0.05)


@pytest.mark.usefixtures("quick")
def test_report_of_a_folder_and_real_pairs(
    tmp_path: Path, lr_folder: Path, photo_folder: Path, degrader_folder: Path, photographs: Photos
) -> None:
    for side, size in (("pair_hr", 256), ("pair_lr", 64)):
        (tmp_path / side).mkdir()
        for name, photo in photographs.items():
            hr = np.ascontiguousarray(photo[:256, :256])
            image = hr if size == 256 else clean_downsampling(hr[None], 4)[0]
            (tmp_path / side / f"{name}.png").write_bytes(encode_image(image, "png"))
    pairs = (tmp_path / "pair_hr", tmp_path / "pair_lr")
    changes: dict[str, object] = {"pairs": pairs, "seeds": 2, "before": str(degrader_folder)}
    report = evaluate(config(lr_folder, photo_folder, degrader_folder, **changes), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert set(report["realism"]["kid"]) == {"real", "ours", "before", "real_esrgan", "bicubic"}
    assert report["realism"]["frechet"]["before"] == report["realism"]["frechet"]["ours"]  # the same degrader
    assert set(report["hiding"]["hiding_drop_last_bit"]) == {"real", "ours_like", "real_esrgan", "bicubic"}
    assert report["fidelity_pairs"]["low_frequency_error"]["real"]["mean"] < 1  # these pairs are clean downsamplings
    assert report["diversity"]["spread_of_both"]["bicubic"] == {"mean": 0, "sd": 0}
    assert report["images"] == {"real_lr": 6, "hr": 3, "pair_crops": 12}
    tables = (tmp_path / "out" / "report.md").read_text()
    assert "| Distance to real images | real | ours | before | Real-ESRGAN | bicubic |" in tables
    for block in tables.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1, block
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.search(r"(src|href)=['\"](?!data:)", page), "the page must fetch nothing"
    assert "Fréchet" in page and "Does it follow a reference? Real pairs" in page


@pytest.mark.usefixtures("quick")
def test_the_command_prints_where_to_look(
    tmp_path: Path, lr_folder: Path, photo_folder: Path, degrader_folder: Path
) -> None:
    arguments = ["eval", "--real-lr", lr_folder, "--hr_dir", photo_folder, "--degrader", degrader_folder]
    arguments += ["--crops", 16, "--crop-size", 32, "--seeds", 1, "--codes", "real", "--out", tmp_path / "out"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output.endswith(f"look at {tmp_path / 'out' / 'report.html'}\n")
    assert "One seed." in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_size": 36}, "crop size 36 does not fit JPEG blocks; use a multiple of 8"),
        ({"crops": 3}, "3 crops are too few"),
        ({"codes": "none"}, "codes 'none' is unknown"),
        ({"codes": "real", "reference_dir": "x"}, "both say where looks come from"),
        ({"crop_size": 512}, "no image is usable: .* is smaller than the crop"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_a_sentence(
    tmp_path: Path, lr_folder: Path, photo_folder: Path, degrader_folder: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(config(lr_folder, photo_folder, degrader_folder, **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_page_shows_every_picture_in_a_browser(
    tmp_path: Path, lr_folder: Path, photo_folder: Path, degrader_folder: Path
) -> None:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed; on Debian: apt-get install -y chromium"
    evaluate(config(lr_folder, photo_folder, degrader_folder), tmp_path / "out")
    page = tmp_path / "out" / "report.html"
    probe = (
        "<script>addEventListener('load', () => {"
        "document.getElementById('reveal').click();"
        "const pictures = [...document.images];"
        "document.body.dataset.pictures = pictures.length;"
        "document.body.dataset.broken = pictures.filter(p => !p.naturalWidth).length;});</script></body>"
    )
    (tmp_path / "probed.html").write_text(page.read_text().replace("</body>", probe))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--enable-logging=stderr",
    ]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    address = (tmp_path / "probed.html").as_uri()
    run = subprocess.run([chromium, *options, address], capture_output=True, text=True, timeout=120, check=True)
    assert ":CONSOLE" not in run.stderr, run.stderr
    pictures = re.search(r'data-pictures="(\d+)"', run.stdout)
    assert pictures and int(pictures[1]) >= 24
    assert 'data-broken="0"' in run.stdout
    assert re.search(r"\d+ of 24 right", run.stdout)

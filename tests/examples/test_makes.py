"""The examples that judge by makes keep them apart, and measure what they say."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import reduce_by

NAMES = ("Canon_1", "IMG_1", "DSC_1", "P114_1", "panasonic_1", "sony_1")


@pytest.fixture
def pairs(tmp_path, photographs):
    """A pair for each name, and a second one for each."""
    for folder in ("hr", "lr"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate(f"{name}{end}" for name in NAMES for end in "ab"):
        hr = np.ascontiguousarray(photographs["chelsea"][2 * number : 2 * number + 256, 4 * number : 4 * number + 256])
        for folder, image in (("hr", hr), ("lr", reduce_by(hr, 4))):
            (tmp_path / folder / f"{name}.png").write_bytes(encode_image(image, "png"))
    return tmp_path / "hr", tmp_path / "lr"


def stems(folder) -> list[str]:
    return sorted(path.stem for path in Path(folder).iterdir())


def test_a_make_is_judged_by_what_learned_from_the_others(load, pairs, tmp_path, monkeypatch, capsys) -> None:
    module = load("five_makes")
    seen: dict[str, list[str]] = {}
    judged: dict[str, tuple[str, list[str]]] = {}

    def train(config, out, options):
        seen[out.parent.name] = [name for hr, _ in config.data.pairs for name in stems(hr)]
        return {"degrader": f"trained without {out.parent.name}"}

    def evaluate(config, out, progress):
        judged[out.name] = (config.degrader, stems(config.real_lr))
        value = {"mean": float(len(judged))}  # 1 for the first make, 2 for the second, ...
        figures = dict.fromkeys([*module.COLUMNS, "ours_like"], value)
        out.mkdir(parents=True, exist_ok=True)
        report = {
            "realism": dict.fromkeys(module.DISTANCES, figures),
            "control_pairs": dict.fromkeys(module.CONTROL, figures),
        }
        (out / "report.json").write_text(json.dumps(report))

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "evaluate", evaluate)
    (tmp_path / "recipe.yaml").write_text("start_from: tiny-x4-free\n")
    arguments = ["--config", str(tmp_path / "recipe.yaml"), "--pairs", *map(str, pairs), "--out", str(tmp_path / "out")]
    module.main(arguments)
    everything = sorted(f"{name}{end}" for name in NAMES for end in "ab")
    for make in module.MAKES:
        degrader, files = judged[make]
        assert degrader == f"trained without {make}"
        assert files and sorted([*files, *seen[make]]) == everything
    assert judged["Canon"][1] == ["Canon_1a", "Canon_1b", "IMG_1a", "IMG_1b"]
    rows = capsys.readouterr().out.splitlines()
    assert rows[2].startswith("| kid | 3.000 ± 1.414 |")  # of 1..5
    module.main(arguments)  # again: the reports are there
    assert len(judged) == 5


@pytest.mark.parametrize("source", ["--config", "--untrained"])
def test_a_degrader_that_has_seen_a_make_is_refused_before_anything_is_trained(load, pairs, tmp_path, source) -> None:
    (tmp_path / "recipe.yaml").write_text("start_from: tiny-x4\n")
    given = str(tmp_path / "recipe.yaml") if source == "--config" else "tiny-x4"
    arguments = [source, given, "--pairs", *map(str, pairs), "--out", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="tiny-x4 is tiny-x4, which has learned from pairs of Canon"):
        load("five_makes").main(arguments)
    assert not (tmp_path / "out").exists()


def test_a_pair_of_no_make_is_named(load, pairs, tmp_path) -> None:
    for folder in pairs:
        (folder / "sony_1a.png").rename(folder / "leica_1.png")
    with pytest.raises(ValueError, match=r"leica_1.png is of no make that is known here; add its make to MAKES"):
        load("five_makes").split_makes([pairs], tmp_path / "makes")


def test_what_a_fit_gains_is_measured_against_photographs_that_it_did_not_see(
    load, pairs, tiny_degrader, tmp_path, monkeypatch
) -> None:
    module = load("measure_degrader_fit")
    tiny_degrader.save_pretrained(tmp_path / "degrader")
    own = module.link(sorted(pairs[1].glob("*a.png")), tmp_path / "own")
    figures = module.measure(*pairs, own, tmp_path / "out", str(tmp_path / "degrader"), crops=6)
    assert list(figures) == [*module.COLUMNS, "fit"]
    assert figures["before"] != figures["fitted"] and all(value > 0 for value in figures["fitted"].values())


def test_a_fit_sees_so_many_photographs_of_the_camera_and_other_ones_each_time(
    load, tmp_path, monkeypatch, capsys
) -> None:
    module = load("how_many_photographs")
    seen: dict[str, set[str]] = {}

    def make_world(hr_dir, world, seed):
        for number in range(7):
            (world / "given_lr").mkdir(parents=True, exist_ok=True)
            (world / "given_lr" / f"{number}.png").touch()

    def measure(hr, lr, own, out, degrader, crops):
        seen[out.name] = {path.name for path in own.iterdir()}
        before = {"frechet": 4.0, "spectrum_distance": 1.0}
        return {"before": before, "fitted": {"frechet": 1.0, "spectrum_distance": 0.5}, "fit": {"seconds": 20.0}}

    monkeypatch.setattr(module, "make_world", make_world)
    monkeypatch.setattr(module, "measure", measure)
    options = ["--hr-dir", "hr", "--counts", "2", "5", "--repetitions", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["how_many_photographs.py", *options])
    module.main()
    assert {name: len(files) for name, files in seen.items()} == {"2-0": 2, "2-1": 2, "5-0": 5, "5-1": 5}
    assert seen["2-0"] != seen["2-1"] and seen["5-0"] != seen["5-1"]
    assert capsys.readouterr().out.splitlines()[2:] == ["| 2 | 0.25 | 0.50 | 20.00 |", "| 5 | 0.25 | 0.50 | 20.00 |"]
    options[3] = "8"
    monkeypatch.setattr(sys, "argv", ["how_many_photographs.py", *options])
    with pytest.raises(ValueError, match="--counts 8 is more than the 7 photographs that the fit may see"):
        module.main()


def test_degraders_are_compared_on_pairs_and_shown(load, pairs, tiny_degrader, tmp_path, monkeypatch, capsys) -> None:
    module = load("compare_degraders")
    monkeypatch.setattr(module, "SIDE", 32)
    tiny_degrader.save_pretrained(tmp_path / "tiny")
    picture, figures = tmp_path / "looks.png", tmp_path / "figures.json"
    outputs = ["--rows", "2", "--picture", str(picture), "--json", str(figures)]
    arguments = ["compare_degraders.py", *map(str, pairs), "tiny-x4", str(tmp_path / "tiny"), *outputs]
    monkeypatch.setattr(sys, "argv", arguments)
    module.main()
    kept = json.loads(figures.read_text())
    assert list(kept) == ["tiny-x4", str(tmp_path / "tiny"), "real_esrgan", "real_esrgan_light", "bicubic"]
    assert kept["tiny-x4"] != kept[str(tmp_path / "tiny")]
    assert "48 crops; left out: nothing" in capsys.readouterr().out  # four of each of twelve photographs
    height, width, _ = read_image(picture.read_bytes()).shape
    assert 2 * 128 < height < 3 * 128 and 6 * 128 < width < 7 * 128  # two rows; HR, true LR and four that are made


def test_the_recipe_of_the_five_trainings_is_valid_and_knows_no_pair(load) -> None:
    module = load("five_makes")
    config, _ = module.config_from_options("tiny", Path(module.__file__).with_suffix(".yaml"), {})
    assert config.schedule.steps == 400 and len(config.data.recipes) == 9 and not config.data.pairs
    module.check_unseen(config.start_from, list(module.MAKES))

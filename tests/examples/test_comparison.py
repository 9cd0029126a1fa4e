"""The comparisons in examples/: their statistics, what each arm and each row of the ablation differs in, resuming."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from degrade.files.sources import list_sources
from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import reduce_by
from degrade.images.tensors import to_tensor
from degrade.recipes.recipe import Recipe
from degrade.shards.reader import read_pairs
from degrade.synth.job import resolve_job
from degrade.synth.run import SynthRun
from degrade.synth.settings import SynthSettings
from upsample.training.data import PairConfig, PairData, shard_pairs

pytestmark = pytest.mark.usefixtures("examples")


@pytest.fixture
def data(tmp_path: Path, photographs) -> Path:
    """A folder as data/: every picture is another part of the photographs."""
    folder, number = tmp_path / "data", 0

    def cut(side: int) -> np.ndarray:
        nonlocal number
        image = photographs[("astronaut", "chelsea", "coffee")[number % 3]]
        top, left = 30 * (number // 3 % 5), 10 + 40 * (number // 15) + 10 * (number % 5)
        number += 1
        return np.ascontiguousarray(image[top : top + side, left : left + side])

    def put(place: str, name: int, image: np.ndarray) -> None:
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / f"{name:02d}.png").write_bytes(encode_image(image, "png"))

    for part, count, side in (("train", 3, 160), ("val", 2, 256)):
        for name in range(count):
            hr = cut(side)
            put(f"real_pairs/{part}/hr", name, hr)
            put(f"real_pairs/{part}/lr", name, reduce_by(hr, 4))
    for place, count in (("realset80", 20), ("rni15", 3), ("realsrset", 2)):
        for name in range(count):
            put(f"real_lr/{place}", name, cut(48))
    return folder


def no_training(*_: object, **__: object) -> None:
    raise AssertionError("trained although the scores are there")


def scores_of(values: np.ndarray, metric: str = "psnr_y") -> list[dict[str, dict[str, float]]]:
    """(seeds, images) -> runs; the other metrics are functions of it."""
    return [
        {
            str(image): {"psnr_y": 0.0, "ssim_y": value / 40, "gmsd": 1 / value, "niqe": value / 5, metric: value}
            for image, value in enumerate(run.tolist())
        }
        for run in values
    ]


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


# Statistics


def test_a_constant_difference_with_jitter_is_found_with_its_error_its_sign_and_wilcoxons_exact_p() -> None:
    from comparison.table import against

    reference = np.random.default_rng(0).uniform(20, 40, (2, 12))
    jitter = np.linspace(-0.01, 0.01, 12)
    better = reference + 0.1 + jitter
    found, turned = (
        against(scores_of(a), scores_of(b), "psnr_y") for a, b in ((better, reference), (reference, better))
    )
    assert found["difference"] == pytest.approx(0.1) and turned["difference"] == pytest.approx(-0.1)
    assert found["error"] == pytest.approx(jitter.std(ddof=1) / math.sqrt(12)) == turned["error"]
    assert (found["larger"], turned["larger"]) == (12, 0)
    assert found["p"] == turned["p"] == pytest.approx(2 / 2**12)  # all of twelve signs are alike


def test_a_difference_on_few_images_counts_those_and_is_within_chance() -> None:
    from comparison.table import against

    reference = np.full((3, 12), 30.0)
    change = np.array([1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11, -12]) / 100
    found = against(scores_of(reference + change), scores_of(reference), "psnr_y")
    assert found["larger"] == 6 and found["p"] > 0.5


def test_identical_runs_do_not_differ_and_seeds_are_averaged_before_images_are_compared() -> None:
    from comparison.table import against

    one = np.random.default_rng(0).uniform(20, 40, (2, 12))
    same = against(scores_of(one), scores_of(one), "ssim_y")
    assert same == {"difference": 0, "error": 0, "larger": 0, "p": 1}
    apart = np.stack([one[0] + 0.5, one[0] - 0.25])  # 0.125 in the mean, of which every image has the same
    found = against(scores_of(apart), scores_of(one[:1]), "psnr_y")
    assert found["difference"] == pytest.approx(0.125) and found["error"] == pytest.approx(0, abs=1e-12)


def test_images_are_compared_by_their_number_in_whatever_order_they_are_written() -> None:
    from comparison.table import against, per_image

    (run,) = scores_of(np.arange(1, 13)[None].astype(float))
    shuffled = {name: run[name] for name in sorted(run)}  # "0", "1", "10", "11", "2"
    assert list(shuffled) != list(run) and per_image([shuffled], "psnr_y").tolist() == [list(range(1, 13))]
    assert against([shuffled], [run], "psnr_y")["p"] == 1


def test_the_spread_is_over_seeds_of_the_means_over_images() -> None:
    from comparison.table import mean_and_spread

    runs = scores_of(np.array([[0.5, 1.5], [2.0, 4.0]]))  # means 1 and 3
    assert mean_and_spread(runs, "psnr_y") == (2, pytest.approx(math.sqrt(2)))
    assert mean_and_spread(runs[:1], "psnr_y") == (1, 0)
    assert math.isnan(mean_and_spread([], "psnr_y")[0])


def test_pgap_is_what_the_oracle_is_ahead_and_cells_without_meaning_are_empty() -> None:
    from comparison.table import Row, table_of_arms

    level = np.random.default_rng(0).uniform(29, 31, (2, 12))
    low, high = scores_of(level - 1.5), scores_of(level + 0.25)
    rows = {
        "": Row("plain", scores_of(level[:1]), []),
        "weak": Row("weak", low, [], 7.4),
        "best": Row("best", high, []),
    }
    header, _, plain, weak, best = cells(table_of_arms(rows, reference="weak", oracle="best"))
    column = header.index("PGap, dB")
    assert (weak[column], best[column]) == ("1.75", "0.00") and "NIQE, no HR" not in header
    over, ssim_over = header.index("PSNR-Y over weak"), header.index("SSIM-Y over it")
    assert weak[over] == weak[ssim_over] == "" and best[over] == "+1.75 ± 0.00, p < 0.001"
    assert best[ssim_over].startswith("+0.0437 ± 0.0000")
    assert "±" in weak[1] and "±" not in plain[1]  # a single seed has no spread
    assert [row[-2:] for row in (plain, weak, best)] == [["1", ""], ["2", "7"], ["2", ""]]


def test_a_table_without_oracle_or_reference_has_no_such_figures_and_every_line_is_as_long() -> None:
    from comparison.table import Row, table_of_arms

    runs = scores_of(np.random.default_rng(0).uniform(29, 31, (2, 12)))
    rows = {"a": Row("a", runs, runs), "b": Row("b", runs, runs)}
    for reference, oracle in (("a", ""), ("", "b"), ("", "")):
        lines = cells(table_of_arms(rows, reference=reference, oracle=oracle))
        assert len({len(line) for line in lines}) == 1 and "NIQE, no HR" in lines[0]
        assert any(" over " in cell for cell in lines[0]) == bool(reference)
        assert ("PGap, dB" in lines[0]) == bool(oracle)


# Scores


def test_scores_are_kept_with_their_settings_and_others_are_refused(tmp_path: Path) -> None:
    from comparison.scores import keep_scores, kept_scores

    file, settings = tmp_path / "scores.json", {"steps": 5, "arm": "ours", "weights": (1, 2)}
    assert kept_scores(file, settings) is None
    keep_scores(file, settings, {"pairs": {"0": {"psnr_y": 30.25}}, "lr": {}}, 12.6)
    kept = kept_scores(file, settings)
    assert kept is not None and kept["pairs"] == {"0": {"psnr_y": 30.25}} and kept["seconds"] == 13
    for other in ({"steps": 6}, {"arm": "oracle"}, {"seed": 0}):
        with pytest.raises(ValueError, match="is of a run with other settings, .*give another --out"):
            kept_scores(file, {**settings, **other})


def test_who_finds_the_hr_has_the_best_scores_and_pairs_that_lie_apart_are_left_out(
    data: Path, plain_metrics, photographs
) -> None:
    from comparison.scores import TestImages
    from comparison.worlds import camera_world

    chelsea = photographs["chelsea"]
    for side, image in (("hr", chelsea[40:200, 40:200]), ("lr", reduce_by(chelsea[48:208, 40:200], 4))):
        (data / "real_pairs" / "val" / side / "shifted.png").write_bytes(encode_image(image.copy(), "png"))
    world = camera_world(data)
    tests = TestImages(world, Path("niqe.mat"))
    assert len(tests.pairs) == 2 and len(tests.lr) == 2
    assert len(tests.left_out) == 1 and "shifted.png" in tests.left_out[0]
    truth = {lr.tobytes(): to_tensor(hr) for hr, lr in tests.pairs}
    known = tests.score(lambda lr: truth.get((lr * 255).round().byte()[0].permute(1, 2, 0).numpy().tobytes(), lr))
    plain = tests.score(tests.bicubic)
    for image in ("0", "1"):
        assert known["pairs"][image]["psnr_y"] == 100 and known["pairs"][image]["ssim_y"] == pytest.approx(1)
        assert known["pairs"][image]["gmsd"] == 0 < plain["pairs"][image]["gmsd"]
        assert 20 < plain["pairs"][image]["psnr_y"] < 45
    assert set(plain["lr"]) == {"0", "1"} and set(plain["lr"]["0"]) == {"niqe"}
    assert tests.niqe_of_hr() == pytest.approx(np.mean([known["pairs"][image]["niqe"] for image in ("0", "1")]))


def test_the_middles_of_a_pair_are_the_same_place(data: Path, plain_metrics) -> None:
    from comparison.scores import TestImages
    from comparison.worlds import camera_world

    world = camera_world(data)
    whole, middles = (TestImages(replace(world, test_side=side), Path("niqe.mat")).pairs for side in (0, 96))
    for (hr, lr), (whole_hr, _) in zip(middles, whole, strict=True):
        assert hr.shape == (96, 96, 3) and lr.shape == (24, 24, 3)
        assert np.array_equal(hr, whole_hr[80:176, 80:176])
        assert np.abs(reduce_by(hr, 4).astype(int) - lr).max() <= 2


# The small network


def toy_batch(step: int) -> dict[str, torch.Tensor]:
    """Enlarging that darkens, which no interpolation does."""
    lr = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
    return {"lr": lr, "hr": 0.8 * lr.repeat_interleave(4, 2).repeat_interleave(4, 3)}


def test_the_small_network_learns_a_mapping_and_its_seed_alone_decides_its_weights(tmp_path: Path) -> None:
    from comparison.compact_network import compact_network, load_compact_network, train_compact_network

    state = torch.get_rng_state()
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        file = tmp_path / name / "small.safetensors"
        train_compact_network(toy_batch, file, steps=100, seed=seed, mixed_precision="no")
    assert torch.equal(torch.get_rng_state(), state)
    one, same, other = (
        load_compact_network(tmp_path / name / "small.safetensors") for name in ("one", "same", "other")
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    unseen = toy_batch(-1)

    def error(network: torch.nn.Module) -> float:
        with torch.inference_mode():
            return float((network(unseen["lr"]) - unseen["hr"]).abs().mean())

    assert error(one) < 0.6 * error(compact_network(1)) and error(other) < 0.6 * error(compact_network(2))
    assert 40_000 < sum(parameter.numel() for parameter in one.parameters()) < 46_000


def test_the_small_network_trains_in_bf16_too_to_other_weights_near_by(tmp_path: Path) -> None:
    from comparison.compact_network import load_compact_network, train_compact_network

    weights = []
    for precision in ("no", "bf16"):
        train_compact_network(toy_batch, tmp_path / precision, steps=3, seed=0, mixed_precision=precision)
        weights.append(torch.cat([p.flatten() for p in load_compact_network(tmp_path / precision).parameters()]))
    assert 0 < (weights[0] - weights[1]).abs().max() < 0.01


# Worlds and arms


def test_the_camera_world_tests_on_folders_that_nothing_is_trained_on(data: Path) -> None:
    from comparison.worlds import camera_world

    world = camera_world(data)
    trained_on = {world.hr_dir, world.looks_dir, *world.real_lr, *world.truth_pairs}
    assert not trained_on & {*world.test_pairs, world.test_lr}
    assert world.looks_dir in world.real_lr and all(folder.is_dir() for folder in trained_on)


def test_every_arm_has_its_own_pairs_as_many_as_the_others_and_making_them_again_makes_nothing(
    data: Path, tmp_path: Path, degrader: str, tiny_degrader, small_shards
) -> None:
    from comparison.arms import ARMS, identity, make_pairs, pairs_of
    from comparison.worlds import camera_world
    from hidden_world import camera_recipe

    paired, shards = replace(camera_world(data), other_pairs=(("a", "b"), ("c", "d"))), tmp_path / "shards"
    hidden = replace(paired, truth_pairs=(), truth_recipe=camera_recipe())

    def all_pairs() -> dict[str, PairConfig]:
        for name in ARMS:
            make_pairs(paired, name, shards, degrader)
        make_pairs(hidden, "oracle", shards, degrader)
        made = {name: pairs_of(paired, name, shards) for name in ARMS}
        return {**made, "oracle of a recipe": pairs_of(hidden, "oracle", shards)}

    made = all_pairs()
    known = {name: tuple(identity(config)) for name, config in made.items()}
    assert known["oracle"] == known.pop("others") == () and known["half"] == known["ours"] + known["real-esrgan"]
    assert known.pop("colearned") == known["ours"]  # the same degrader with the same looks, here
    assert len(set(known.values())) == len(known)
    assert made["oracle"] == PairConfig(pairs=((str(paired.truth_pairs[0]), str(paired.truth_pairs[1])),))
    assert made["others"] == PairConfig(pairs=(("a", "b"), ("c", "d")))
    assert made["half"].shards == (str(shards / "ours"), str(shards / "real-esrgan"))
    assert made["oracle of a recipe"].shards == (str(shards / "oracle"),)
    folders = {Path(folder) for config in made.values() for folder in config.shards}
    assert {len(shard_pairs(str(folder))) for folder in folders} == {3 * small_shards.crops * small_shards.variants}

    def record(name: str) -> dict[str, Any]:
        return next(iter(read_pairs(shards / name)))["meta"]

    assert {name: record(name)["recipe"] for name in ("bicubic", "real-esrgan", "real-esrgan-light", "bsrgan")} == {
        name: name for name in ("bicubic", "real-esrgan", "real-esrgan-light", "bsrgan")
    }
    assert record("oracle")["recipe"] == "hidden-world" and record("ours")["kind"] == "learned"

    def strengths(name: str) -> list[float]:
        return [json.loads(pair["meta"]["params"])["strength"] for pair in read_pairs(shards / name)]

    assert 0 <= min(strengths("ours-range")) < 0.5 < max(strengths("ours-range")) <= 1
    assert set(strengths("ours-looks")) == {1.0}
    own, looks = (
        json.loads((shards / name / "manifest.json").read_text())["reference_codes"] for name in ("ours", "ours-looks")
    )
    with torch.inference_mode():
        told = [tiny_degrader.encode(to_tensor(read_image(s.read())))[0] for s in list_sources(paired.looks_dir)]
    assert own is None and torch.allclose(torch.tensor(looks), torch.stack(told), atol=1e-6)

    tars = {tar: tar.stat().st_mtime_ns for tar in shards.rglob("*.tar")}
    assert len(tars) == len(folders) and all_pairs() == made
    assert {tar: tar.stat().st_mtime_ns for tar in shards.rglob("*.tar")} == tars


def test_arms_of_the_same_hr_show_the_same_crops_and_differ_in_their_lr_alone(
    data: Path, tmp_path: Path, degrader: str, small_shards
) -> None:
    from comparison.arms import make_pairs
    from comparison.worlds import camera_world

    for name in ("bicubic", "ours"):
        make_pairs(camera_world(data), name, tmp_path, degrader)
    one, other = ({pair["key"]: pair for pair in read_pairs(tmp_path / name)} for name in ("bicubic", "ours"))
    assert one.keys() == other.keys() and len({pair["meta"]["source"] for pair in one.values()}) == 3
    assert all(torch.equal(one[key]["hr"], other[key]["hr"]) for key in one)
    assert not any(torch.equal(one[key]["lr"], other[key]["lr"]) for key in one)


def test_pairs_made_of_other_photographs_are_refused(data: Path, tmp_path: Path, small_shards) -> None:
    from comparison.arms import make_pairs
    from comparison.worlds import camera_world

    world = camera_world(data)
    make_pairs(world, "bicubic", tmp_path / "shards", "none")
    with pytest.raises(ValueError, match="images changed since .* was started"):
        make_pairs(replace(world, hr_dir=world.test_pairs[0]), "bicubic", tmp_path / "shards", "none")


# The student


def test_students_of_all_arms_are_trained_alike_and_the_co_learned_one_differs_in_the_degrader_alone(
    data: Path,
) -> None:
    from comparison.student import arm_config, colearned_config
    from comparison.worlds import camera_world

    world, stored = camera_world(data), PairConfig(shards=("shards/ours",))
    plain = arm_config("base", stored, steps=7, seed=3)
    truth = arm_config("base", PairConfig(pairs=(("hr", "lr"),)), steps=7, seed=3)
    beside = colearned_config("base", stored, world, "tiny-x4", steps=7, seed=3)
    for config in (plain, truth, beside):
        config.check()
        assert (config.start_from, config.schedule.steps, config.schedule.seed, config.teacher) == ("base", 7, 3, "")
    assert replace(truth, data=stored) == plain
    differing = {name for name, value in asdict(beside).items() if value != asdict(plain)[name]}
    assert differing == {"data", "cycle", "real_lr"}
    assert beside.data.shards == stored.shards and beside.data.online_degrader == "tiny-x4"
    shards, pairs, recipes, online = beside.data.weights
    assert shards == online > 0 == pairs == recipes  # half and half
    assert beside.real_lr == beside.data.reference_dirs == tuple(map(str, world.real_lr))
    assert plain.cycle.weight == plain.loss.adversarial_hr == beside.loss.adversarial_hr == 0 < beside.cycle.weight


# The ablation


def test_every_row_of_the_ablation_differs_in_what_its_part_says_and_in_nothing_else(
    data: Path, tmp_path: Path, small_shards
) -> None:
    import ablation
    from comparison.arms import pairs_of
    from comparison.student import arm_config, colearned_config
    from comparison.worlds import camera_world
    from degrade.training.config_file import with_settings

    world = camera_world(data)
    stored = pairs_of(world, ablation.RECIPE, tmp_path / "shards")
    configs = {
        name: ablation.row_config(part, world, tmp_path, "start", "tiny-x4", tmp_path / "out", 4)
        for name, part in ablation.ROWS.items()
    }
    full = colearned_config("start", stored, world, "tiny-x4", steps=ablation.STEPS, seed=4)
    assert configs.pop("all") == full
    assert configs.pop("none") == arm_config("start", stored, steps=ablation.STEPS, seed=4)

    def fewer(percent: int) -> dict[str, Any]:
        lists = tuple(
            str(tmp_path / "out" / "lists" / f"{name}-{percent}.txt")
            for name in ("train-lr", "real_lr-realset80", "real_lr-rni15")
        )
        return {"real_lr": lists, "data.reference_dirs": lists}

    frozen = {"degrader.train": False, "real_lr": ()}
    synthetic = {"real_lr": (), "data.reference_dirs": ()}
    expected: dict[str, dict[str, Any]] = {
        "frozen": frozen,
        "frozen-l1": {**frozen, "cycle.score": "l1"},
        "l1": {"cycle.score": "l1"},
        "synthetic": synthetic,
        "synthetic-l1": {**synthetic, "cycle.score": "l1"},
        "no-cycle": {"cycle.weight": 0.0},
        "hr-critic": {"loss.adversarial_hr": 0.001},
        "real-10": fewer(10),
        "real-50": fewer(50),
    }
    assert full.cycle.score == "energy" and full.degrader.train and full.loss.adversarial_hr == 0 < full.cycle.weight
    assert configs == {name: with_settings(full, change) for name, change in expected.items()}
    for config in configs.values():
        config.check()
    # 3, 20 and 3 photographs
    shares = {name: [len(list_sources(file)) for file in configs[name].real_lr] for name in ("real-10", "real-50")}
    assert shares == {"real-10": [1, 2, 1], "real-50": [2, 10, 2]}
    chosen = {source.path for source in list_sources(configs["real-50"].real_lr[1])}
    assert chosen < {str(path) for path in world.real_lr[1].iterdir()}


def test_the_table_of_the_ablation_has_the_finished_rows_against_the_full_one(
    tmp_path: Path, data: Path, degrader: str
) -> None:
    import ablation
    from comparison.scores import keep_scores

    shared = (data, tmp_path, tmp_path / "camera", degrader, "no")

    level = np.random.default_rng(0).uniform(29, 31, (1, 12))
    for name, values in (("all", level), ("none", level - 0.25), ("frozen", level + 0.25)):
        judged = {"realism_kid": 0.125, "realism_w1": 0.5, "spread": 2.0}
        scores = {"pairs": scores_of(values)[0], "lr": {"0": {"niqe": 5.0}}}
        (tmp_path / name / "seed-0").mkdir(parents=True)
        keep_scores(
            tmp_path / name / "seed-0" / "scores.json", ablation.run_settings(shared, name, 0),
            scores if name == "none" else {**scores, "degrader": {"0": judged}}, 60,
        )  # fmt: skip
    text = ablation.write_table(shared, tuple(ablation.ROWS), [0, 1])
    assert (tmp_path / "table.md").read_text() == text
    header, _, full, none, frozen = cells(text.partition("\n\n")[2])
    assert [row[0] for row in (full, none, frozen)] == [ablation.ROWS[name].title for name in ("all", "none", "frozen")]
    over = next(number for number, title in enumerate(header) if title.startswith("PSNR-Y over"))
    assert full[over] == "" and none[over].startswith("-0.25 ±") and frozen[over].startswith("+0.25 ±")
    kid = header.index("degrader: KID")
    assert none[kid] == "" and frozen[kid] == "0.12" and {row[-2] for row in (full, none, frozen)} == {"1"}
    with pytest.raises(ValueError, match="other settings"):
        ablation.write_table((*shared[:3], "tiny-x4", "no"), ["all"], [0])


def test_the_spread_of_a_degrader_is_that_of_its_draws_and_nothing_when_its_noise_has_collapsed(
    data: Path, plain_metrics, tiny_degrader
) -> None:
    import ablation
    from comparison.scores import TestImages
    from comparison.worlds import camera_world

    world = camera_world(data)
    tests = TestImages(world, Path("niqe.mat"))
    alive = ablation.judge(tiny_degrader, world, tests)
    with torch.no_grad():
        tiny_degrader.unet.head.weight.zero_()
    collapsed = ablation.judge(tiny_degrader, world, tests)
    assert set(alive) == {"realism_kid", "realism_w1", "spread"} and all(map(math.isfinite, alive.values()))
    assert alive["spread"] > 1 and collapsed["spread"] == 0  # grey levels
    assert collapsed["realism_w1"] < alive["realism_w1"]  # the LR here are clean, and so is what it makes now


def test_the_ablation_trains_its_rows_judges_their_degraders_and_goes_on_where_it_stopped(
    tmp_path: Path, data: Path, degrader: str, small_students, small_shards, plain_metrics, in_turn, monkeypatch, capsys
) -> None:
    import ablation

    monkeypatch.setattr(ablation, "STEPS", 2)
    monkeypatch.setattr(ablation, "run_all", in_turn)
    out, base = tmp_path / "out", tmp_path / "camera"
    arguments = ["--data", str(data), "--out", str(out), "--base", str(base), "--degrader", degrader, "--seeds", "0"]
    ablation.main([*arguments, "--rows", "all", "none", "frozen"])
    scores = {row: json.loads((out / row / "seed-0" / "scores.json").read_text()) for row in ("all", "none", "frozen")}
    assert "degrader" not in scores["none"] and not (out / "frozen" / "seed-0" / "degrader").exists()
    assert scores["all"]["degrader"] != scores["frozen"]["degrader"]  # the first has learned
    assert scores["all"]["pairs"] != scores["frozen"]["pairs"] != scores["none"]["pairs"]
    assert (out / "table.md").read_text() in capsys.readouterr().out
    monkeypatch.setattr(ablation, "train_run", no_training)
    ablation.main([*arguments, "--rows", "all", "none", "frozen"])
    with pytest.raises(AssertionError, match="trained"):
        ablation.main([*arguments, "--rows", "l1"])


# Severity


@pytest.fixture
def severities(tmp_path: Path, photo_folder: Path, monkeypatch) -> tuple[Path, dict[bytes, float]]:
    """Shards of 96 pairs from mild to severe, and the severity of each by the pixels of its LR."""
    import severity

    monkeypatch.setattr(severity, "BUFFER", 200)  # twice as many as there are, and quick to fill
    recipe = Recipe.from_dict(
        {
            "name": "noisy",
            "steps": [
                {"op": "resize", "of": "lr", "modes": ["area"]},
                {"op": "noise", "families": {"gaussian": 1}, "sigma_255": [1, 30]},
            ],
        }
    )
    settings = SynthSettings(recipe=recipe.to_dict(), crop_size=32, crops_per_image=4, variants=8, shard_size=32)
    job = resolve_job(settings, degrader="none", reference_dir=None)
    SynthRun.open(photo_folder, tmp_path / "pairs", job).run(workers=0, progress=False)
    known = {pair["lr"].numpy().tobytes(): pair["meta"]["psnr_to_clean"] for pair in read_pairs(tmp_path / "pairs")}
    assert len(known) == 96
    return tmp_path / "pairs", known


def drawn(order: str, severities: tuple[Path, dict[bytes, float]], count: int, seed: int = 0) -> np.ndarray:
    """(batches, pairs): psnr_to_clean of what is drawn."""
    import severity

    shards, known = severities
    batches = severity.batches_of(order, shards, seed)
    return np.array([[known[lr.numpy().tobytes()] for lr in next(batches)["lr"]] for _ in range(count)])


def test_the_severities_of_shards_are_their_records(severities) -> None:
    import severity

    shards, known = severities
    assert severity.severities(shards) == sorted(known.values())


def test_pairs_as_they_come_are_all_of_them_and_the_milder_half_is_those_from_the_median_up(severities) -> None:
    everything = np.array(sorted(severities[1].values()))
    assert set(drawn("uniform", severities, 60).flat) == set(everything)
    mild = drawn("mild", severities, 40)
    assert set(mild.flat) == set(everything[everything >= np.median(everything)])


def test_the_curriculum_begins_with_the_mildest_third_and_ends_with_all(severities, monkeypatch) -> None:
    import severity

    monkeypatch.setattr(severity, "STEPS", 30)
    third, two_thirds = np.quantile(list(severities[1].values()), [1 / 3, 2 / 3])
    batches = drawn("curriculum", severities, 40)
    assert batches[:10].min() >= two_thirds
    assert third <= batches[10:20].min() < two_thirds
    assert batches[20:].min() < third and batches[20:].max() >= two_thirds


def test_balanced_batches_have_as_many_of_every_severity(severities) -> None:
    everything = list(severities[1].values())
    low, high = np.quantile(everything, [0.02, 0.98])
    edges = np.linspace(low, high, 5)[1:-1]

    def counts(order: str) -> np.ndarray:
        return np.array([np.bincount(np.digitize(batch, edges), minlength=4) for batch in drawn(order, severities, 30)])

    assert (counts("balanced") == 4).all()
    share = np.bincount(np.digitize(everything, edges), minlength=4) / len(everything)
    assert share.max() > 0.3  # so that balancing is something else than taking them as they come
    assert np.abs(counts("uniform").sum(0) / (30 * 16) - share).max() < 0.1


def test_batches_of_a_severity_are_pairs_and_the_same_for_the_same_seed(severities) -> None:
    import severity

    batch = next(severity.batches_of("balanced", severities[0], 0))
    assert batch["hr"].shape == (16, 3, 32, 32) and batch["lr"].shape == (16, 3, 8, 8)
    apart = (torch.nn.functional.avg_pool2d(batch["hr"], 4) - batch["lr"]).abs().mean((1, 2, 3))
    assert apart.max() < 30 / 255  # the noise, and no other scene
    first, again, other = (drawn("mild", severities, 3, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_every_order_is_trained_and_compared_with_the_pairs_as_they_come(
    tmp_path: Path, data: Path, severities, plain_metrics, in_turn, monkeypatch, capsys
) -> None:
    import severity

    monkeypatch.setattr(severity, "STEPS", 3)
    monkeypatch.setattr(severity, "run_all", in_turn)
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--shards", str(severities[0]), "--seeds", "0"]
    severity.main(arguments)
    text = (tmp_path / "out" / "table.md").read_text()
    assert text in capsys.readouterr().out and text.startswith("96 pairs; psnr_to_clean at 2, 25, 50, 75 and 98 %: ")
    header, _, *lines = cells(text.partition("\n\n")[2])
    assert [line[0] for line in lines] == list(severity.ORDERS.values())
    column = header.index("PSNR-Y over as they come")
    assert lines[0][column] == "" and all(", p = " in line[column] for line in lines[1:])
    monkeypatch.setattr(severity, "train_compact_network", no_training)
    severity.main(arguments)


# The page and the pictures


TABLES = ("makes", "camera", "hidden", "hidden-x2", "hidden-x1", "severity", "ablation")


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of pages, without any yet, beside the tables and pictures of a run."""
    import results

    monkeypatch.setattr(results, "FOLDER", tmp_path / "pages")
    (tmp_path / "pages").mkdir()
    for name in TABLES:
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "table.md").write_text(f"| {name} \\1 \\g<0> |\n")
    pictures = encode_image(np.full((8, 12, 3), (200, 30, 60), np.uint8), "png")
    (tmp_path / "run" / "camera" / "pictures.png").write_bytes(pictures)
    colearned = tmp_path / "run" / "camera" / "student" / "colearned" / "seed-0"
    colearned.mkdir(parents=True)
    (colearned / "curves.png").write_bytes(b"curves")
    return results.FOLDER


def marks(*names: str, between: str = "") -> str:
    return "".join(f"<!-- {name} -->\n{between}<!-- end of {name} -->\n" for name in names)


def test_only_what_stands_between_marks_is_replaced_and_again_by_the_same(pages: Path, tmp_path: Path) -> None:
    import results

    short, long = pages / "RESULTS.md", pages / "RESULTS_TABLES.md"
    first, *others = TABLES[1:]
    old = "old\n"
    short.write_text(f"# Title\n{marks('makes', between=old)}The end.\n")
    long.write_text(f"# Tables\n{marks(first, between=old)}between <!-- a remark -->\n{marks(*others)}The end.\n")
    results.write_pages(tmp_path / "run")

    def part(name: str) -> str:
        return f"<!-- {name} -->\n\n| {name} \\1 \\g<0> |\n\n<!-- end of {name} -->\n"

    written = (
        f"# Title\n{part('makes')}The end.\n",
        f"# Tables\n{part(first)}between <!-- a remark -->\n{''.join(map(part, others))}The end.\n",
    )
    assert (short.read_text(), long.read_text()) == written
    picture = read_image((pages / "results.jpg").read_bytes())
    assert picture.shape == (8, 12, 3) and np.abs(picture[4, 6].astype(int) - (200, 30, 60)).max() < 6
    assert (pages / "results_curves.png").read_bytes() == b"curves"
    results.write_pages(tmp_path / "run")
    assert (short.read_text(), long.read_text()) == written


@pytest.mark.parametrize("names", [TABLES[1:-1], ("camera", *TABLES[1:])])
def test_when_a_page_lacks_a_mark_or_has_it_twice_both_are_left_alone(
    pages: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    import results

    (pages / "RESULTS.md").write_text(marks("makes"))
    (pages / "RESULTS_TABLES.md").write_text(marks(*names))
    with pytest.raises(ValueError, match=r"has (0 places marked ablation|2 places marked camera); it needs one"):
        results.write_pages(tmp_path / "run")
    assert (pages / "RESULTS.md").read_text() == marks("makes") and not (pages / "results.jpg").exists()
    assert (pages / "RESULTS_TABLES.md").read_text() == marks(*names)


def test_the_pages_of_the_repository_have_every_mark_once() -> None:
    import results

    for name, tables in results.PAGES.items():
        page = (results.FOLDER / name).read_text()
        for table in tables:
            assert page.count(f"<!-- {table} -->\n") == page.count(f"<!-- end of {table} -->") == 1
            assert page.index(f"<!-- {table} -->") < page.index(f"<!-- end of {table} -->")


class Grey(torch.nn.Module):
    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 3, 4 * lr.shape[2], 4 * lr.shape[3]), 0.4)


def test_the_sheet_has_a_column_for_every_network_beside_lr_bicubic_and_hr(data: Path, plain_metrics) -> None:
    from comparison.pictures import show_arms
    from comparison.scores import TestImages
    from comparison.worlds import camera_world

    tests = TestImages(camera_world(data), Path("niqe.mat"))
    tests.pairs = [(hr[:160, :160], lr[:40, :40]) for hr, lr in tests.pairs]  # smaller than a cell: nothing is cut off
    for count in (0, 2):
        png = show_arms(tests, {f"network {number}": Grey() for number in range(count)})
        assert png.startswith(b"\x89PNG")
        sheet = read_image(png)
        lefts = [6 + 198 * column for column in range(3 + count)]
        assert lefts[-1] + 160 + 6 <= sheet.shape[1] <= lefts[-1] + 192 + 6
        first, last = 26 + 5, sheet.shape[0] - 12  # inside the first row, which has HR, and the last, which has none
        for left in lefts[2:-1]:
            assert (sheet[[first, last], left + 5] == 102).all()
        assert np.array_equal(sheet[26 : 26 + 160, lefts[-1] : lefts[-1] + 160], tests.pairs[0][0])
        assert (sheet[last, lefts[-1] :] == 250).all()  # paper


def test_the_sheet_shows_the_part_with_most_detail_at_the_same_place_in_lr_and_hr(data: Path, plain_metrics) -> None:
    from comparison.pictures import show_arms
    from comparison.scores import TestImages
    from comparison.worlds import camera_world

    lr = np.full((96, 136, 3), 90, np.uint8)
    lr[16:64, 72:120] = np.random.default_rng(0).integers(0, 256, (48, 48, 3))
    hr = lr.repeat(4, 0).repeat(4, 1)
    tests = TestImages(camera_world(data), Path("niqe.mat"))
    tests.pairs, tests.lr = [(hr, lr)], []
    sheet = read_image(show_arms(tests, {}))
    for left in (6, 6 + 2 * 198):  # LR, whose pixels are repeated, and HR
        assert np.array_equal(sheet[26 : 26 + 192, left : left + 192], hr[64:256, 288:480])


# Processes and whole runs


def test_all_calls_are_made_in_processes_of_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from comparison.processes import run_all

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    run_all(os.system, [(f"echo $OMP_NUM_THREADS > {tmp_path}/{n}",) for n in range(3)], workers=2, title="calls")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "1", "2"]
    assert {file.read_text() for file in tmp_path.iterdir()} == {"1\n"}


def test_the_first_error_is_raised_and_what_was_waiting_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    from comparison.processes import run_all

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    calls = [(["false"],), *((["sh", "-c", f"sleep 0.2; touch {tmp_path}/{number}"],) for number in range(8))]
    with pytest.raises(subprocess.CalledProcessError):
        run_all(subprocess.check_call, calls, workers=1, title="calls")
    assert len(list(tmp_path.iterdir())) < 8


def test_a_run_whose_scores_are_there_returns_at_once_and_one_with_other_settings_is_refused(
    tmp_path: Path, data: Path, deciding, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comparison import runs
    from comparison.scores import keep_scores

    monkeypatch.setattr(runs, "train_compact_network", no_training)
    run = runs.Run(runs.Setup(data, tmp_path, "none", "no"), ("camera",), "small", "oracle", 5)
    run.folder.mkdir(parents=True)
    file = run.folder / "scores.json"
    keep_scores(file, run.settings("camera"), {"pairs": {}, "lr": {}}, 1)
    before = file.read_bytes()
    deciding.train_and_score(run)
    assert file.read_bytes() == before
    with pytest.raises(AssertionError, match="trained"):
        deciding.train_and_score(replace(run, seed=6))
    with pytest.raises(ValueError, match="other settings"):
        deciding.train_and_score(replace(run, setup=replace(run.setup, mixed_precision="bf16")))
    with pytest.raises(ValueError, match="other settings"):
        deciding.train_and_score(replace(run, setup=replace(run.setup, steps=runs.Steps(small=4))))


def test_the_deciding_table_is_made_from_photographs_to_page_and_goes_on_where_it_stopped(
    tmp_path: Path, data: Path, degrader: str, deciding, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from comparison import runs

    out = tmp_path / "out"
    paths = ["--data", str(data), "--out", str(out), "--degrader", degrader]
    arguments = [*paths, "--networks", "small", "--steps-small", "4", "--arms"]
    arms = ["bicubic", "real-esrgan", "ours", "oracle"]
    deciding.main([*arguments, *arms, "--seeds", "0", "1"])
    text = (out / "table.md").read_text()
    assert text in capsys.readouterr().out and "Left out: nothing." in text
    header, _, *lines = cells(text.partition("4 steps:\n\n")[2].partition("\n\n")[0])
    assert [line[0] for line in lines] == [
        "bicubic enlargement", "bicubic", "Real-ESRGAN", "ours, stored, its own looks", "true pairs (oracle)"
    ]  # fmt: skip
    gap, over = header.index("PGap, dB"), header.index("PSNR-Y over Real-ESRGAN")
    assert lines[-1][gap] == "0.00" and lines[2][over] == "" and all(", p = " in lines[n][over] for n in (0, 1, 3, 4))
    assert [line[header.index("seeds")] for line in lines] == ["1", "2", "2", "2", "2"]
    assert read_image((out / "pictures.png").read_bytes()).ndim == 3

    # A kill leaves some runs without scores: they alone are made again, and come out the same.
    lost = out / "small" / "ours" / "seed-1" / "scores.json"
    before = json.loads(lost.read_text())
    lost.unlink()
    setup = runs.Setup(data, out, degrader, "no", runs.Steps(small=4))
    every = runs.runs_of(setup, ["camera"], ["small"], arms, [0, 1])
    shortened = deciding.write_table(every, setup.tests("camera"))
    short = cells(shortened.partition("4 steps:\n\n")[2].partition("\n\n")[0])
    assert short[-2][0].startswith("ours") and short[-2][header.index("seeds")] == "1"
    assert "| ours, stored, its own looks over bicubic |" in text
    train, trained = runs.train_compact_network, []
    monkeypatch.setattr(
        runs,
        "train_compact_network",
        lambda batch_of, file, **how: (trained.append(file), train(batch_of, file, **how)),
    )
    deciding.main([*arguments, *arms, "--seeds", "0", "1"])
    assert trained == [lost.with_name("small.safetensors")]
    after = json.loads(lost.read_text())
    assert after["pairs"] == before["pairs"] and after["lr"] == before["lr"]
    with pytest.raises(ValueError, match="made with other settings .*degrader_sha256"):
        deciding.main([*arguments, "ours", "--seeds", "0", "--degrader", "tiny-x4"])


def test_the_small_network_learns_from_the_degrader_that_the_student_beside_it_leaves(
    tmp_path: Path, data: Path, degrader: str, deciding, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comparison import runs

    out = tmp_path / "out"
    paths = ["--data", str(data), "--out", str(out), "--degrader", degrader]
    steps = ["--steps-small", "4", "--steps-student", "4"]
    arguments = [*paths, *steps, "--seeds", "0", "--arms", "colearned"]
    deciding.main(arguments)
    beside = out / "student" / "colearned" / "seed-0"
    stored, learned = (
        json.loads((folder / "manifest.json").read_text())["settings"]
        for folder in (out / "shards" / "ours", beside / "colearned")
    )
    assert stored["degrader_sha256"] != learned["degrader_sha256"]  # it did learn
    assert {**stored, "degrader": "", "degrader_sha256": ""} == {**learned, "degrader": "", "degrader_sha256": ""}
    text = (out / "table.md").read_text()
    assert text.count("| ours, co-learned |") == 2 and text.count("| tiny-x4, as shipped |") == 1
    # After four steps the student is still bicubic enlargement, and so is half of what it adds.
    enlarged = cells(text.partition("Our student, 4 steps:\n\n")[2])[2][1]
    assert text.endswith(f"with half of what the network adds to the enlargement: ours, co-learned: {enlarged}.\n")
    weights = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    monkeypatch.setattr(runs, "train_compact_network", no_training)
    deciding.main(arguments)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == weights


def test_arms_in_a_batch_are_those_of_their_folders(data: Path, tmp_path: Path, degrader: str, small_shards) -> None:
    from comparison.arms import make_pairs, pairs_of
    from comparison.worlds import camera_world

    make_pairs(camera_world(data), "half", tmp_path / "shards", degrader)
    config = pairs_of(camera_world(data), "half", tmp_path / "shards")
    pairs = PairData(config, scale=4, hr_crop=small_shards.crop, batch_size=8, seed=0)
    halves = [sum(f"/{name}/" in hr.path for hr, _ in pairs.shards) for name in ("ours", "real-esrgan")]
    assert halves[0] == halves[1] == len(pairs.shards) / 2
    assert pairs[0]["lr"].shape == (8, 3, small_shards.crop // 4, small_shards.crop // 4)

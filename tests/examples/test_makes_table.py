"""The deciding table over makes: what is kept from training, its statistics, and a run from photographs to tables."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import reduce_by
from degrade.images.tensors import to_tensor
from upsample.training.data import PairConfig

pytestmark = pytest.mark.usefixtures("examples")

STARTS = {"Canon": ("Canon_", "IMG_"), "Nikon": ("DSC_",), "Olympus": ("P1",), "Panasonic": ("panasonic_",),
          "Sony": ("sony_",)}  # fmt: skip
SIDE = 160


@pytest.fixture
def data(tmp_path: Path, photographs) -> Path:
    """A folder as data/, with four pairs of each make and three HR photographs; every picture is another part."""
    folder, number = tmp_path / "data", 0

    def cut() -> np.ndarray:
        nonlocal number
        image = photographs[("astronaut", "chelsea", "coffee")[number % 3]]
        top, left = 16 * (number // 3 % 8), 40 * (number // 24) + 20 * (number // 12)
        number += 1
        return np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE])

    def put(place: str, name: str, image: np.ndarray) -> None:
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / f"{name}.png").write_bytes(encode_image(image, "png"))

    for make, starts in STARTS.items():
        part = "val" if make == "Sony" else "train"
        for name in range(4):
            hr = cut()
            put(f"real_pairs/{part}/hr", f"{starts[name % len(starts)]}{name}", hr)
            put(f"real_pairs/{part}/lr", f"{starts[name % len(starts)]}{name}", reduce_by(hr, 4))
    for name in range(3):
        put("hr/cameras", f"{name:02d}", cut())
    return folder


def files(*folders: Path) -> set[str]:
    """Pixels of all images: what is the same photograph, whatever it is called."""
    return {read_image(path.read_bytes()).tobytes() for folder in folders for path in folder.iterdir()}


def rows_of(levels: dict[str, dict[str, Sequence[float]]]) -> dict:
    """PSNR-Y of each image, by make and arm, as the rows of a table; every arm has one seed."""
    from comparison.table import Row

    def row(arm: str, values: Sequence[float]) -> Row:
        runs = {str(n): {"psnr_y": v, "ssim_y": v / 40, "gmsd": 1 / v, "niqe": v / 5} for n, v in enumerate(values)}
        return Row(f"title of {arm}", [runs], [])

    return {make: {arm: row(arm, values) for arm, values in arms.items()} for make, arms in levels.items()}


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


# The split


@pytest.mark.parametrize("make", STARTS)
def test_nothing_that_is_tested_of_a_make_is_trained_on_in_any_arm(data: Path, tmp_path: Path, make: str) -> None:
    from comparison.worlds import the_world

    world = the_world(make, data, tmp_path / "out")
    tested = [files(folder) for folder in world.test_pairs]
    trained_on = [world.hr_dir, world.looks_dir, *world.real_lr, *world.truth_pairs]
    trained_on += [folder for pair in world.other_pairs for folder in pair]
    assert [len(each) for each in tested] == [2, 2]
    assert not (tested[0] | tested[1]) & files(*trained_on)


def test_a_make_is_halved_by_every_second_photograph_and_all_other_makes_are_given(data: Path, tmp_path: Path) -> None:
    from comparison.worlds import the_world

    def stems(folder: Path) -> list[str]:
        return sorted(path.stem for path in folder.iterdir())

    world = the_world("Canon", data, tmp_path / "out")
    assert [stems(folder) for folder in world.truth_pairs] == [["Canon_0", "IMG_1"]] * 2
    assert [stems(folder) for folder in world.test_pairs] == [["Canon_2", "IMG_3"]] * 2
    assert world.real_lr == (world.looks_dir,) == (world.truth_pairs[1],)
    others = [name for hr, lr in world.other_pairs for name in stems(hr) if stems(lr) == stems(hr)]
    assert sorted(others) == sorted(f"{STARTS[make][0]}{n}" for make in STARTS if make != "Canon" for n in range(4))
    assert world.hr_dir == data / "hr" / "cameras"


def test_photographs_that_came_later_do_not_move_the_halves(data: Path, tmp_path: Path) -> None:
    from comparison.worlds import world_of_make

    for _ in range(2):  # the second time, the links are there
        world_of_make("Sony", data, tmp_path / "out")
    for folder in ("hr", "lr"):
        photograph = data / "real_pairs" / "val" / folder / "sony_0.png"
        photograph.rename(photograph.with_name("sony_9.png"))
    with pytest.raises(ValueError, match="is of other pairs than are given now; give another --out"):
        world_of_make("Sony", data, tmp_path / "out")


def test_true_pairs_of_other_makes_are_those_of_four_folders_and_only_worlds_of_makes_have_them(
    data: Path, tmp_path: Path
) -> None:
    from comparison.arms import make_pairs, pairs_of
    from comparison.worlds import camera_world, the_world

    world = the_world("Nikon", data, tmp_path / "out")
    make_pairs(world, "others", tmp_path / "shards", "none")
    expected = tuple((str(hr), str(lr)) for hr, lr in world.other_pairs)
    assert pairs_of(world, "others", tmp_path / "shards") == PairConfig(pairs=expected) and len(expected) == 4
    assert not (tmp_path / "shards").exists()
    with pytest.raises(ValueError, match="the world camera has no true pairs of other makes; leave out the arm others"):
        pairs_of(camera_world(data), "others", tmp_path / "shards")


def test_the_shipped_degrader_is_refused_for_makes_that_it_has_seen_under_whatever_name(
    tmp_path: Path, tiny_degrader
) -> None:
    from comparison.makes import check_unseen
    from degrade.degrader import RealisticDegrader

    check_unseen("tiny-x4", ["Sony"])
    with pytest.raises(ValueError, match="has learned from pairs of Nikon and is fair for Sony only; give --makes"):
        check_unseen("tiny-x4", ["Sony", "Nikon"])
    tiny_degrader.save_pretrained(tmp_path / "Nikon" / "degrader")
    check_unseen(str(tmp_path / "{make}" / "degrader"), ["Nikon"])
    RealisticDegrader.from_pretrained("tiny-x4").save_pretrained(tmp_path / "Canon" / "degrader")
    with pytest.raises(ValueError, match="Canon/degrader is tiny-x4, which has learned from pairs of Canon"):
        check_unseen(str(tmp_path / "{make}" / "degrader"), ["Nikon", "Canon"])


# Statistics


def test_holms_correction_is_his_and_keeps_the_order() -> None:
    from comparison.table import holm

    # 4 * .005, 3 * .01, 2 * .03, and the last not below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1, 1] and holm([0.25]) == [0.25] and holm([]) == []


def test_the_best_recipe_is_that_of_each_make_and_no_arm_of_another_kind() -> None:
    from comparison.table_of_makes import best_recipes

    rows = rows_of(
        {
            "Canon": {"": [40, 40], "bicubic": [30, 31], "bsrgan": [29, 33], "ours": [35, 36]},
            "Sony": {"": [40, 40], "bicubic": [30, 30], "bsrgan": [29, 30], "ours": [35, 36], "real-esrgan": [50, 50]},
        }
    )
    assert best_recipes(rows) == {"Canon": "bsrgan", "Sony": "bicubic"}  # real-esrgan is not finished for Canon
    assert best_recipes(rows_of({"Canon": {"ours": [30, 31]}})) == {}


def test_means_are_over_makes_however_many_images_each_has_and_the_spread_is_between_makes() -> None:
    from comparison.table_of_makes import table_of_means

    levels = {"Canon": {"bicubic": [29, 31], "ours": [31, 31]}, "Sony": {"bicubic": [33, 33, 33, 33], "ours": [32]}}
    header, _, bicubic, ours = cells(table_of_means(rows_of(levels)))
    assert header == ["", "PSNR-Y, dB", "SSIM-Y", "GMSD", "NIQE", "seeds", "seconds"]
    assert bicubic[:2] == ["title of bicubic", "31.50 ± 2.12"] and ours[1] == "31.50 ± 0.71"
    levels["Sony"].pop("ours")
    assert [line[0] for line in cells(table_of_means(rows_of(levels)))[2:]] == ["title of bicubic"]


def test_differences_are_paired_over_all_makes_and_corrected_for_the_rows_of_the_table() -> None:
    from comparison.table_of_makes import table_of_differences

    level = np.linspace(29, 31, 6)
    near, far, canon, sony = np.random.default_rng(0).uniform(-0.01, 0.01, (4, 6))  # no two differences are alike
    levels = {
        "Canon": {"bicubic": level, "bsrgan": level - 1, "ours-looks": level + 0.5 + near, "colearned": level + canon},
        "Sony": {"bicubic": level - 2, "bsrgan": level, "ours-looks": level + 0.5 + far, "colearned": level + sony},
    }
    text = table_of_differences(rows_of(levels))
    assert "over the 12 images of all makes" in text and "Holm's correction for the 6 rows of this table" in text
    assert "by PSNR-Y, which favours it: Canon: title of bicubic; Sony: title of bsrgan.\n" in text
    lines = {line[0]: line[1] for line in cells(text)[2:]}
    assert len(lines) == 6
    # All of twelve signs are alike: p = 2 / 2^12 before the correction, the smallest of six.
    best = lines["title of ours-looks over the best recipe of each make"]
    assert best == f"+0.50 ± 0.00, p = {6 * 2 / 2**12:.3f}"
    assert lines["title of ours-looks over title of bicubic"].startswith("+1.50 ± 0.30, p = 0.0")  # .5 and 2.5
    chance = lines["title of colearned over the best recipe of each make"]
    assert chance[1:].startswith("0.00 ± 0.00") and float(chance.rpartition(" ")[2]) > 0.05
    assert table_of_differences(rows_of({"Canon": {"bicubic": level}})) == ""


def test_the_share_of_the_way_is_from_the_best_recipe_of_each_make_to_its_true_pairs() -> None:
    from comparison.table_of_makes import share_of_the_way

    levels = {
        "Canon": {"bicubic": [30.0], "bsrgan": [31.0], "ours-looks": [31.5], "oracle": [33.0]},
        "Sony": {"bicubic": [33.0], "bsrgan": [31.0], "ours-looks": [33.0], "oracle": [33.0]},
    }  # from 32 to 33, and ours at 32.25
    text = share_of_the_way(rows_of(levels), "oracle")
    assert "(32.00 dB) to true pairs of the same make (33.00 dB), in PSNR-Y: title of ours-looks: 25%.\n" in text
    for make in levels:
        levels[make]["oracle"] = [31.0]
    assert share_of_the_way(rows_of(levels), "oracle").endswith("the true pairs are not better.\n")
    assert share_of_the_way(rows_of({"Canon": {"bicubic": [30.0]}}), "oracle") == ""


# Scores, networks and curves


def test_hr_itself_has_no_comb_and_no_feature_distance_and_a_pattern_of_the_scale_has(
    data: Path, tmp_path: Path, plain_metrics
) -> None:
    from comparison.scores import TestImages
    from comparison.worlds import the_world

    tests = TestImages(the_world("Sony", data, tmp_path / "out"), Path("niqe.mat"))
    truth = {to_tensor(lr).numpy().tobytes(): to_tensor(hr) for hr, lr in tests.pairs}
    pattern = torch.tensor([0.03, -0.01, -0.01, -0.01]).repeat(SIDE // 4)
    hr, chequers, plain = (
        tests.score(upscale)
        for upscale in (
            lambda lr: truth[lr.numpy().tobytes()], lambda lr: (tests.bicubic(lr) + pattern).clamp(0, 1),
            tests.bicubic,
        )
    )  # fmt: skip
    assert hr["set"] == {"comb": 0, "comb_peak": 0} and chequers["set"]["comb_peak"] > plain["set"]["comb_peak"] + 1
    distances = [[image["feature_distance"] for image in scores["pairs"].values()] for scores in (hr, plain)]
    assert distances[0] == [0, 0] and min(distances[1]) > 0


def test_without_the_weights_the_feature_distance_is_left_out_in_one_line(
    data: Path, tmp_path: Path, plain_metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comparison import report, scores
    from comparison.worlds import the_world

    def missing() -> None:
        raise ValueError("pretrained features need a package")

    world = the_world("Sony", data, tmp_path / "out")
    tests = scores.TestImages(world, Path("niqe.mat"))
    assert report.without_features(report.rows_of([], "small", "Sony", tests)) == ""
    monkeypatch.setattr(scores, "pretrained_features", missing)
    rows = report.rows_of([], "small", "Sony", scores.TestImages(world, Path("niqe.mat")))
    assert report.without_features(rows).count("\n") == 1
    header = cells(report.table_of_arms(rows, reference="", oracle=""))[0]
    assert "feature distance" not in header and "comb" in header


def test_the_compact_network_has_its_published_size_and_is_looked_at_without_being_changed(tmp_path: Path) -> None:
    from comparison.compact_network import compact_network, load_compact_network, train_compact_network

    assert sum(parameter.numel() for parameter in compact_network(0, "compact").parameters()) == 621_424
    lr = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    batch, seen = {"lr": lr, "hr": lr.repeat_interleave(4, 2).repeat_interleave(4, 3)}, []
    calls = {step: lambda network, step=step: seen.append((step, network(lr).detach())) for step in (2, 4)}
    for name, given in (("plain", None), ("seen", calls)):
        train_compact_network(
            lambda _: batch, tmp_path / name, steps=4, seed=0, mixed_precision="no", size="compact", calls=given
        )
    one, other = (load_compact_network(tmp_path / name, "compact") for name in ("plain", "seen"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert [step for step, _ in seen] == [2, 4]
    with torch.inference_mode():
        assert torch.equal(seen[-1][1], other(lr)) and not torch.equal(seen[0][1], other(lr))


def test_a_student_is_looked_at_after_each_quarter_without_being_changed(
    data: Path, tmp_path: Path, small_students
) -> None:
    from comparison.student import arm_config, base_student, curve_of, train_run
    from comparison.worlds import the_world

    world = the_world("Sony", data, tmp_path)
    base = base_student(world, tmp_path, "no")
    hr, lr = world.truth_pairs
    config = arm_config(base, PairConfig(pairs=((str(hr), str(lr)),)), steps=4, seed=0)
    seen: list[float] = []

    def look(network: torch.nn.Module) -> dict[str, float]:
        seen.append(float(sum(parameter.detach().abs().sum() for parameter in network.parameters())))
        return {"Sony": float(len(seen))}

    train_run(config, tmp_path / "plain", "no")
    train_run(config, tmp_path / "seen", "no", look, 4)
    assert curve_of(tmp_path / "seen") == {1: {"Sony": 1}, 2: {"Sony": 2}, 3: {"Sony": 3}, 4: {"Sony": 4}}
    assert curve_of(tmp_path / "plain") == {} and len(set(seen)) == 4
    weights = [
        (tmp_path / name / "student" / "diffusion_pytorch_model.safetensors").read_bytes() for name in ("plain", "seen")
    ]
    assert weights[0] == weights[1]


def test_the_picture_of_the_curves_has_a_panel_for_each_network_and_a_line_for_each_arm() -> None:
    from comparison.curves import COLOURS, WIDTH, draw_curves

    picture = read_image(
        draw_curves({"one": {"a": {5: 30.0, 10: 31.0}, "b": {5: 29.0, 10: 29.5}}, "two": {"b": {5: 30.0}}})
    )
    assert picture.shape[1] == 2 * WIDTH

    def has(part: np.ndarray, colour: tuple[int, int, int]) -> bool:
        return bool((part == colour).all(2).any())

    left, right = picture[:420, :WIDTH], picture[:420, WIDTH:]
    assert [has(left, colour) for colour in COLOURS[:3]] == [True, True, False]
    assert [has(right, colour) for colour in COLOURS[:3]] == [False, True, False]
    rises = [(left == COLOURS[0]).all(2)[:, column].argmax() for column in (320, 500)]
    assert rises[0] > rises[1] > 0


# A whole run


def test_the_table_of_makes_is_made_from_photographs_to_tables_and_goes_on_where_it_stopped(
    data: Path, tmp_path: Path, tiny_degrader, deciding, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from comparison import runs

    out = tmp_path / "out"
    for make in ("Canon", "Sony"):
        tiny_degrader.save_pretrained(tmp_path / make / "degrader")
    arguments = ["--data", str(data), "--out", str(out), "--world", "makes", "--makes", "Canon", "Sony", "--networks",
                 "small", "compact", "--seeds", "0", "--degrader", str(tmp_path / "{make}" / "degrader"),
                 "--steps-small", "4", "--steps-compact", "8", "--arms"]  # fmt: skip
    arms = ["bicubic", "ours-looks", "others", "oracle"]
    deciding.main([*arguments, *arms])
    text = (out / "table.md").read_text()
    assert text in capsys.readouterr().out
    small, compact = text.partition("Fixed network of published size, 8 steps:")[::2]
    assert "Fixed small network, 4 steps:" in small and compact
    titles = [line[0] for line in cells(compact)]
    assert titles[:6] == ["", "---", "bicubic enlargement", "bicubic", "ours, stored, looks of the photographs",
                          "true pairs of the other makes"]  # fmt: skip
    assert "correction for the 2 rows" in text and text.count("with half of what the network adds") == 2
    by_make = (out / "tables_by_make.md").read_text()
    assert [by_make.count(f"\n{make}: Fixed ") for make in ("Canon", "Sony", "Nikon")] == [2, 2, 0]
    for picture in (out / "curves.png", out / "Canon" / "pictures.png", out / "Sony" / "pictures.png"):
        assert read_image(picture.read_bytes()).ndim == 3

    # What is the same for every make is trained once, and scored for each.
    trained = sorted(str(file.relative_to(out).parent.parent) for file in out.rglob("small.safetensors"))
    own = [f"{make}/small/{arm}" for make in ("Canon", "Sony") for arm in ("oracle", "others", "ours-looks")]
    assert trained == [*own, "small/bicubic"]
    for file in out.rglob("compact/*/*/scores.json"):
        kept = json.loads(file.read_text())
        assert list(kept["curve"]) == ["2", "4", "6", "8"] and kept["settings"]["world"] == file.parts[-5]
        assert kept["curve"]["8"] == pytest.approx(np.mean([image["psnr_y"] for image in kept["pairs"].values()]))

    train, again = runs.train_compact_network, []
    monkeypatch.setattr(
        runs, "train_compact_network", lambda batch_of, file, **how: (again.append(file), train(batch_of, file, **how))
    )
    lost = out / "Sony" / "small" / "bicubic" / "seed-0" / "scores.json"
    before = json.loads(lost.read_text())
    lost.unlink()
    deciding.main([*arguments, *arms])
    assert again == [out / "small" / "bicubic" / "seed-0" / "small.safetensors"]
    assert json.loads(lost.read_text())["pairs"] == before["pairs"]
    with pytest.raises(ValueError, match="other settings"):
        deciding.main([*arguments, "bicubic", "--steps-small", "8"])


def test_steps_that_have_no_quarters_are_refused(deciding, capsys) -> None:
    with pytest.raises(SystemExit):
        deciding.main(["--data", "data", "--out", "out", "--steps-small", "10"])
    assert "10 is not a multiple of 4, for a score after each quarter" in capsys.readouterr().err


def test_the_page_has_a_degrader_for_each_make_that_has_not_seen_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import five_makes
    import results

    seen: dict[str, set[str]] = {}

    def train(config, out, options) -> dict[str, str]:
        seen[out.parent.name] = files(*(Path(folder) for pair in config.data.pairs for folder in pair))
        assert config.data.hr_dir == str(data / "hr") and config.data.lr_dirs == (str(data / "real_lr"),)
        return {"degrader": str(out / "degrader")}

    monkeypatch.setattr(five_makes, "train", train)
    degrader = results.train_without_makes(data, tmp_path / "out", "no")
    assert degrader == str(tmp_path / "out" / "{make}" / "training" / "degrader")
    for make in STARTS:
        own = [tmp_path / "out" / "pairs" / make / folder for folder in ("hr", "lr")]
        assert len(seen[make]) == 32 and not seen[make] & files(*own)

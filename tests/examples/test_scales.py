"""The deciding table at scale 2, and at scale 1, where nothing is enlarged and networks denoise."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import reduce_by
from degrade.images.tensors import to_tensor
from degrade.recipes.recipe import Recipe
from degrade.shards.reader import read_pairs
from upsample.metrics import psnr_y

pytestmark = pytest.mark.usefixtures("examples")


@pytest.fixture
def data(tmp_path: Path, photographs) -> Path:
    """A folder as data/: HR photographs for the hidden world, and two photographs at high ISO."""
    folder = tmp_path / "data"

    def put(place: str, number: int, side: int) -> None:
        image = photographs[("astronaut", "chelsea", "coffee")[number % 3]]
        top, left = 12 * (number // 3), 20 * number
        (folder / place).mkdir(parents=True, exist_ok=True)
        part = np.ascontiguousarray(image[top : top + side, left : left + side])
        (folder / place / f"{number}.png").write_bytes(encode_image(part, "png"))

    for number in range(12):
        put("hr", number, 160)
    for number in range(2):
        put("real_lr/high_iso", number, 140)
    return folder


def images_at(scale: int, folder: Path, photographs):
    """Images to test on at a scale, with one exactly reduced pair, and nothing else."""
    from comparison.scores import TestImages
    from comparison.worlds import camera_world

    hr = np.ascontiguousarray(photographs["chelsea"][40:200, 40:200] // 2 + 64)  # room for errors of either sign
    for name, image in (("hr", hr), ("lr", reduce_by(hr, scale))):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.png").write_bytes(encode_image(image, "png"))
    world = replace(camera_world(folder), test_pairs=(folder / "hr", folder / "lr"), test_lr=None, scale=scale)
    tests = TestImages(world, Path("niqe.mat"))
    assert [(pair[0].shape, pair[1].shape) for pair in tests.pairs] == [
        ((160, 160, 3), (160 // scale, 160 // scale, 3))
    ]
    return tests


# Scores


@pytest.mark.parametrize("scale", [1, 2])
def test_an_upscaler_that_errs_by_a_few_grey_levels_has_their_psnr_at_every_scale(
    scale: int, tmp_path: Path, photographs, plain_metrics
) -> None:
    tests = images_at(scale, tmp_path, photographs)
    hr = to_tensor(tests.pairs[0][0])
    score = tests.score(lambda _: hr + 4 / 255)["pairs"]["0"]
    of_y = 4 * 219 / 255  # Y has 219 levels where grey has 255
    assert score["psnr_y"] == pytest.approx(20 * math.log10(255 / of_y))
    assert tests.psnr_at_half_strength(lambda lr: 2 * hr - tests.bicubic(lr)) == pytest.approx(100)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_border_as_wide_as_the_scale_is_not_scored_and_what_lies_inside_is(
    scale: int, tmp_path: Path, photographs, plain_metrics
) -> None:
    tests = images_at(scale, tmp_path, photographs)
    hr = to_tensor(tests.pairs[0][0])

    def with_error(rows: int) -> float:
        sr = hr.clone()
        sr[:, :, :rows] = 0
        return tests.psnr(lambda _: sr)

    assert with_error(scale) == 100 > 40 > with_error(scale + 1)


def test_a_pattern_with_the_period_of_scale_2_is_a_comb_and_at_scale_1_there_is_none_to_measure(
    tmp_path: Path, photographs, plain_metrics
) -> None:
    twice, same = (images_at(scale, tmp_path / str(scale), photographs) for scale in (2, 1))
    hr = to_tensor(twice.pairs[0][0])
    chequers = torch.tensor([0.03, -0.03]).repeat(80)
    assert twice.score(lambda _: hr)["set"] == {"comb": 0, "comb_peak": 0}
    assert twice.score(lambda _: hr + chequers)["set"]["comb_peak"] > 1
    assert same.score(lambda _: hr + chequers)["set"] == {}


def test_at_scale_1_the_first_row_is_lr_as_it_is_with_its_own_psnr(tmp_path: Path, photographs, plain_metrics) -> None:
    from comparison.report import rows_of

    tests = images_at(1, tmp_path, photographs)
    ((hr, _),) = tests.pairs
    noisy = np.clip(hr + np.random.default_rng(0).normal(0, 10, hr.shape), 0, 255).astype(np.uint8)
    tests.pairs = [(hr, noisy)]
    assert torch.equal(tests.bicubic(to_tensor(noisy)), to_tensor(noisy))
    row = rows_of([], "small", "hidden", tests)[""]
    assert row.title == "LR as it is" and row.pairs[0]["0"]["psnr_y"] == pytest.approx(psnr_y(noisy, hr, 1))
    assert rows_of([], "small", "hidden", images_at(2, tmp_path / "2", photographs))[""].title == "bicubic enlargement"


@pytest.mark.parametrize(("scale", "columns"), [(1, ["LR", "grey", "HR"]), (2, ["LR", "enlarged", "grey", "HR"])])
def test_the_sheet_shows_as_much_hr_at_every_scale_and_an_enlargement_only_where_there_is_one(
    scale: int, columns: list[str], tmp_path: Path, photographs, plain_metrics
) -> None:
    from comparison.pictures import show_arms

    tests = images_at(scale, tmp_path, photographs)
    grey = torch.nn.Module()
    grey.forward = lambda lr: torch.full((1, 3, scale * lr.shape[2], scale * lr.shape[3]), 0.4)
    sheet = read_image(show_arms(tests, {"grey": grey}))
    lefts = [6 + 166 * number for number in range(len(columns))]
    assert sheet.shape[1] == lefts[-1] + 166
    last, before = (sheet[26 : 26 + 160, left : left + 160] for left in (lefts[-1], lefts[-2]))
    assert np.array_equal(last, tests.pairs[0][0]) and (before == 102).all()
    repeated = tests.pairs[0][1].repeat(scale, 0).repeat(scale, 1)
    assert np.array_equal(sheet[26 : 26 + 160, 6 : 6 + 160], repeated)


# The network


@pytest.mark.parametrize("scale", [1, 2])
def test_the_compact_network_adds_to_lr_and_comes_back_from_its_file_at_every_scale(scale: int, tmp_path: Path) -> None:
    from comparison.compact_network import compact_network, load_compact_network, train_compact_network

    lr = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    repeated = lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    network = compact_network(0, "small", scale)
    with torch.no_grad():
        for parameter in network.body[-1].parameters():
            parameter.zero_()
        assert torch.equal(network(lr), repeated)  # with nothing to add
    seen: list[torch.Tensor] = []
    train_compact_network(
        lambda _: {"lr": lr, "hr": repeated}, tmp_path / "weights", steps=2, seed=0, mixed_precision="no", scale=scale,
        calls={2: lambda trained: seen.append(trained(lr).detach())},
    )  # fmt: skip
    with torch.inference_mode():
        assert torch.equal(load_compact_network(tmp_path / "weights", "small", scale)(lr), seen[0])


# The world


def test_the_camera_shakes_by_as_many_lr_pixels_at_every_scale_and_does_all_else_alike() -> None:
    from hidden_world import WORLD, camera_recipe

    assert camera_recipe(4).to_dict() == Recipe.load(WORLD).to_dict()  # so older pairs are still those of this recipe
    for seed in range(5):
        drawn = {scale: camera_recipe(scale).draw(seed, scale).to_dict()["steps"] for scale in (1, 2, 4)}
        lengths = {scale: steps[0].pop("length_px") / scale for scale, steps in drawn.items()}
        assert lengths[1] == pytest.approx(lengths[4]) == pytest.approx(lengths[2]) and 1.5 <= lengths[1] <= 5
        assert drawn[1] == drawn[2] == drawn[4]


def test_the_hidden_world_has_its_scale_the_same_photographs_in_every_part_and_refuses_one_of_another_scale(
    data: Path, tmp_path: Path
) -> None:
    from hidden_world import make_world

    parts = ("given_lr", "given_hr", "truth/hr", "truth/lr")
    names = {}
    for scale in (1, 2, 4):
        world = tmp_path / f"world-{scale}"
        make_world(data / "hr", world, 0, scale)
        names[scale] = {part: sorted(path.name for path in (world / part).iterdir()) for part in parts}
        for name in names[scale]["truth/hr"]:
            hr, lr = (read_image((world / "truth" / side / name).read_bytes()) for side in ("hr", "lr"))
            assert hr.shape == (160, 160, 3) and lr.shape == (160 // scale, 160 // scale, 3)
            assert 1 < np.abs(reduce_by(hr, scale).astype(float) - lr).mean() < 40  # bad, and of the same scene
    assert names[1] == names[2] == names[4] and all(names[1].values())
    for made, asked in ((4, 2), (2, 4), (2, 1)):
        with pytest.raises(ValueError, match=f"another seed or another scale than {asked}; give another --out"):
            make_world(data / "hr", tmp_path / f"world-{made}", 0, asked)


def test_worlds_and_runs_of_scale_4_state_no_scale_as_those_that_were_made_before(data: Path, tmp_path: Path) -> None:
    from comparison.runs import Run, Setup

    settings = {}
    for scale in (4, 2, 1):
        setup = Setup(data, tmp_path / str(scale), "none", "no", scale=scale)
        settings[scale] = Run(setup, ("hidden",), "small", "bicubic", 0).settings("hidden")
    assert {scale: found.pop("scale", None) for scale, found in settings.items()} == {4: None, 2: 2, 1: 1}
    assert settings[4] == settings[2] == settings[1]
    stated = json.loads((tmp_path / "4" / "world" / "settings.json").read_text())
    assert stated.keys() == {"seed", "photographs"}


def test_noisy_photographs_without_hr_are_tested_on_at_scale_1_where_they_are_there(
    data: Path, tmp_path: Path, plain_metrics
) -> None:
    from comparison.runs import Setup
    from comparison.worlds import hidden_world

    noisy = data / "real_lr" / "high_iso"
    worlds = {scale: hidden_world(data, tmp_path / str(scale), scale) for scale in (1, 2, 4)}
    assert {scale: world.test_lr for scale, world in worlds.items()} == {1: noisy, 2: None, 4: None}
    tests = Setup(data, tmp_path / "1", "none", "no", scale=1).tests("hidden")
    assert [image.shape for image in tests.lr] == [(128, 128, 3)] * 2
    noisy.rename(data / "elsewhere")
    assert hidden_world(data, tmp_path / "1", 1).test_lr is None


# Whole runs


@pytest.fixture
def tiny_networks(deciding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact networks that take no time, which on the grid of HR the small one does."""
    from comparison import compact_network

    monkeypatch.setattr(compact_network, "SIZES", {"small": (4, 1)})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--scale", "2"], "the pairs of the world camera have scale 4, not 2; give --world hidden"),
        (["--scale", "1", "--world", "makes", "--makes", "Sony"],
         "the pairs of the world Sony have scale 4, not 1; give --world hidden"),
        (["--scale", "2", "--world", "hidden", "--networks", "small", "student"],
         "our student has scale 4, not 2; give --networks small compact"),
        (["--scale", "2", "--world", "hidden", "--arms", "ours", "colearned"],
         r"the arm colearned cannot be made at scale 2 \(the student that its degrader learns beside has scale 4\); "
         "leave it out of --arms"),
        (["--scale", "1", "--world", "hidden", "--arms", "bsrgan"],
         r"the arm bsrgan cannot be made at scale 1 \(this recipe has no chain for scale 1; it has \[2, 3, 4\]\); "
         "leave it out of --arms"),
    ],
)  # fmt: skip
def test_what_has_no_such_scale_is_refused_before_anything_is_made(
    options: list[str], sentence: str, data: Path, tmp_path: Path, deciding
) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        deciding.main(["--data", str(data), "--out", str(tmp_path / "out"), *options])
    assert not (tmp_path / "out").exists()


def test_other_scales_than_1_2_and_4_are_refused(deciding, capsys) -> None:
    with pytest.raises(SystemExit):
        deciding.main(["--data", "data", "--out", "out", "--world", "hidden", "--scale", "3"])
    assert "argument --scale: invalid choice: 3 (choose from" in capsys.readouterr().err


@pytest.mark.parametrize("scale", [2, 1])
def test_the_table_of_the_hidden_world_is_made_at_other_scales_with_every_arm_that_can_be(
    scale: int,
    data: Path,
    tmp_path: Path,
    degrader: str,
    deciding,
    small_shards,
    tiny_networks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from comparison import runs

    out = tmp_path / "out"
    arguments = ["--data", str(data), "--out", str(out), "--degrader", degrader, "--world", "hidden", "--seeds", "0",
                 "--steps-small", "4", "--scale"]  # fmt: skip
    deciding.main([*arguments, str(scale)])
    text = (out / "table.md").read_text()
    assert text.count(" 4 steps:") == 1 and "Fixed small network, 4 steps:" in text
    table = text.partition(" 4 steps:\n\n")[2].partition("\n\n")[0]
    header, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    assert ("comb" in header) == (scale == 2) and ("NIQE, no HR" in header) == (scale == 1)
    titles = [line[0] for line in lines]
    made = ["bicubic", "Real-ESRGAN", "Real-ESRGAN, light", "BSRGAN", "ours, stored, its own looks",
            "ours, stored, looks of the photographs", "ours, looks of the photographs, strength 0..1",
            "half ours, half Real-ESRGAN", "true pairs (oracle)"]  # fmt: skip
    student = "ours, co-learned: the student that its degrader learns beside has scale 4.\n"
    if scale == 2:
        assert titles == ["bicubic enlargement", *made]
        assert f"\nArms that cannot be made at scale 2: {student}" in text
        assert "half of what the network adds to the enlargement: " in text
    else:
        made.remove("BSRGAN")
        assert titles == ["LR as it is", *made]
        no_chain = "BSRGAN: this recipe has no chain for scale 1; it has [2, 3, 4]"
        assert f"\nArms that cannot be made at scale 1: {no_chain}; {student}" in text
        assert "half of what the network adds to LR: " in text
    for shards in (out / "shards").iterdir():
        pair = next(iter(read_pairs(shards)))
        side = small_shards.crop
        assert pair["hr"].shape == (3, side, side) and pair["lr"].shape == (3, side // scale, side // scale)
    kept = json.loads((out / "small" / "ours" / "seed-0" / "scores.json").read_text())
    assert kept["settings"]["scale"] == scale and len(kept["lr"]) == (2 if scale == 1 else 0)

    def no_training(*_: object, **__: object) -> None:
        raise AssertionError("trained although the scores are there")

    monkeypatch.setattr(runs, "train_compact_network", no_training)
    deciding.main([*arguments, str(scale)])
    assert (out / "table.md").read_text() == text
    with pytest.raises(ValueError, match="another scale than 4; give another --out"):
        deciding.main([*arguments, "4"])


def test_the_pictures_show_what_the_fixed_network_makes_where_no_student_is_trained(
    data: Path, tmp_path: Path, deciding, tiny_networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comparison import report

    shown: list[list[str]] = []
    monkeypatch.setattr(report, "show_arms", lambda tests, networks: shown.append(list(networks)) or b"")
    deciding.main(
        ["--data", str(data), "--out", str(tmp_path / "out"), "--world", "hidden", "--scale", "1", "--seeds", "0",
         "--steps-small", "4", "--arms", "bicubic", "oracle"]
    )  # fmt: skip
    assert shown == [["bicubic", "true pairs (oracle)"]]


def test_the_page_needs_the_hidden_world_at_three_scales_each_in_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import results

    calls: list[list[str]] = []
    monkeypatch.setattr(results, "train_degraders", lambda *_: ("synthetic", "real"))
    monkeypatch.setattr(results, "train_without_makes", lambda *_: "unseen")
    monkeypatch.setattr(results, "write_pages", lambda _: None)
    monkeypatch.setattr(results.deciding_table, "main", calls.append)
    for other in (results.severity, results.ablation):
        monkeypatch.setattr(other, "main", lambda _: None)
    results.main(["--data", "data", "--out", str(tmp_path)])
    options = results.deciding_table.options()
    hidden = [given for given in map(options.parse_args, calls) if given.world == "hidden"]
    assert [(given.out.relative_to(tmp_path).as_posix(), given.scale) for given in hidden] == [
        ("hidden", 4), ("hidden-x2", 2), ("hidden-x1", 1)
    ]  # fmt: skip
    assert all((given.networks, given.degrader) == (["small"], "real") for given in hidden)
    assert len({given.out for given in map(options.parse_args, calls)}) == len(calls) == 5

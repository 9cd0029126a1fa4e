import json
import subprocess
import sys
import time

import click
import pytest
import yaml
from click.testing import CliRunner

from cli.common import friendly
from cli.degrade_commands import main
from degrade.degrader import RealisticDegrader
from degrade.images.codec import read_image
from degrade.recipes.recipe import PRESET_NAMES, Recipe
from degrade.shards.verify import verify_shards

BICUBIC = ("--degrader", "none", "--preset", "bicubic", "--workers", "0")
COMMANDS = ["apply", "eval", "synth", "export", "train", "fit", "preview", "verify", "replay", "presets"]

HELP_PROGRAM = """
import sys, time
from click.testing import CliRunner
from cli.degrade_commands import main
for command in sys.argv[1:]:
    began = time.perf_counter()
    result = CliRunner().invoke(main, [*command.split(), "--help"])
    assert result.exit_code == 0 and "Usage" in result.output, result.output
    assert time.perf_counter() - began < 1
print(*[name for name in ("torch", "diffusers", "cv2", "numpy", "webdataset", "kornia") if name in sys.modules])
"""


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def heavy_imports():
    """Modules that the help of all commands imports, and the seconds it took with the interpreter's own start."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", HELP_PROGRAM, "", *COMMANDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), time.perf_counter() - began


def test_help_imports_nothing_heavy(heavy_imports):
    assert heavy_imports[0] == []


def test_help_of_all_commands_together_takes_a_moment(heavy_imports):
    assert heavy_imports[1] < 5  # 0.1 s each on an idle core; with torch in each it would be ten times that


def test_every_command_is_known_here():
    assert sorted(main.commands) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is_for(command):
    silent = {"scale", "steps", "learning_rate", "seed", "dataloader_num_workers", "log_every", "save_every"}
    options = [parameter for parameter in main.commands[command].params if isinstance(parameter, click.Option)]
    assert all(option.help for option in options if command != "train" or option.name not in silent)


@pytest.mark.parametrize(
    "spelling",
    [
        ["--hr-dir", "IN", "--out", "OUT", "--crop-size", "128", "--shard-size", "4"],
        ["-i", "IN", "-o", "OUT", "--crop_size", "128", "--number-sample-per-shard", "4"],
        ["--input", "IN", "--output", "OUT", "--crop_size=128", "--number_sample_per_shard=4"],
        ["--hr_dir=IN", "--out=OUT", "--crop-size=128", "--shard_size", "4"],
    ],
)
def test_the_spellings_that_people_are_used_to_mean_the_same(photo_folder, tmp_path, spelling):
    places = {"IN": str(photo_folder), "OUT": str(tmp_path / "my_out")}
    arguments = [part.replace("IN", places["IN"]).replace("OUT", places["OUT"]) for part in spelling]
    plan = json.loads(run("synth", *arguments, *BICUBIC, "--dry_run").stdout)
    assert (plan["settings"]["crop_size"], plan["settings"]["shard_size"], plan["images"]) == (128, 4, 3)


def test_underscores_in_values_stay(photo_folder, tmp_path):
    place = tmp_path / "with_under_scores"
    assert run("synth", f"--hr_dir={photo_folder}", f"--out={place}", *BICUBIC).exit_code == 0
    assert verify_shards(place).ok


MISTAKES = {
    "synth -i nowhere -o OUT --degrader none --preset bicubic": "nowhere does not exist; pass a folder",
    "synth -i EMPTY -o OUT --degrader none --preset bicubic": "holds no images",
    "synth -i IN -o FILE --degrader none --preset bicubic": "is a file; give another",
    "synth -i IN -o FILE/deeper --degrader none --preset bicubic": "is a file; give another",
    "synth -i IN -o IN/shards --degrader none --preset bicubic": "lies inside --hr-dir",
    "synth -i IN -o IN --degrader none --preset bicubic": "lies inside --hr-dir",
    "synth -i IN -o OUT --degrader none": "give a --preset or a --recipe",
    "synth -i IN -o OUT --degrader ./nowhere": "no degrader",
    "synth -i IN -o OUT --preset real-esgran": "did you mean 'real-esrgan'?",
    "synth -i IN -o OUT --preset bicubic --recipe FILE": "give one of them",
    "synth -i IN -o OUT --recipe FILE": "is no settings file",
    "synth -i IN -o OUT --degrader none --preset bicubic --reference-dir IN": "has no codes",
    "synth -i IN -o OUT --overwrite --extend": "contradict each other",
    "synth -i IN -o OUT --degrader none --preset bicubic --crop-size 250": "use 248 or 252",
    "synth -i IN -o OUT --degrader none --preset bicubic --crop-size 2": "use 4",
    "synth -i IN -o OUT --degrader none --preset bicubic --crop-size 4000": "--crop-size",
    "synth -i IN -o OUT --degrader none --preset bicubic --max-shard-mb 0.01": "too small for a pair",
    "synth -i IN -o OUT --degrader none --preset bicubic --device gpu": "give cpu, cuda, mps or auto",
    "synth -i IN -o OUT --degrader none --preset bicubic --device meta": "give cpu, cuda, mps or auto",
    "fit nowhere -o OUT": "does not exist",
    "fit EMPTY -o OUT": "holds no images",
    "fit IN -o IN/fitted": "lies inside the photographs",
    "fit IN -o OUT --degrader ./nowhere": "no degrader",
    "synth -i IN -o OUT --scale 5": "is not in the range",
    "synth -i IN -o OUT --mix 1.5": "is not in the range",
    "synth -i IN -o OUT --seed -1": "is not in the range",
    "synth -i IN -o OUT --hr-ext gif": "is not one of",
    "synth -i IN": "Missing option '--out'",
    "synth -i IN -o OUT --overwritee": "No such option",
    "preview -i EMPTY -o OUT --degrader none --preset bicubic": "holds no images",
    "verify nowhere": "nowhere does not exist",
    "verify EMPTY": "holds no .tar files",
    "replay EMPTY --key 1": "holds no .tar files",
    "replay nowhere --key 1": "does not exist",
    "presets --show nothing": "there is no preset 'nothing'",
}


@pytest.mark.parametrize(("command", "sentence"), MISTAKES.items())
def test_a_mistake_ends_in_one_sentence_with_the_way_out(command, sentence, photo_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    places = {"IN": photo_folder, "EMPTY": tmp_path / "empty", "FILE": tmp_path / "file", "OUT": tmp_path / "out"}
    for word, place in places.items():
        command = command.replace(f" {word}", f" {place}")
    result = run(*command.split())
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit), result.exception
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and result.output.endswith(f"{errors[0]}\n") and sentence in errors[0], result.output
    assert not (tmp_path / "out").exists()


def test_wrong_steps_scale_and_references_are_named_before_any_work(photo_folder, tiny_degrader, tmp_path):
    tiny_degrader.save_pretrained(tmp_path / "tiny")
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "a.jpg").write_bytes(b"")
    start = ("synth", "-i", photo_folder, "-o", tmp_path / "out", "--degrader", tmp_path / "tiny", "--device", "cpu")
    for options, words in {
        ("--steps", 9): "steps 9 is outside 1..4",
        ("--preset", "bicubic", "--strength", 0.5): "a recipe has ranges of its own",
        ("--reference-dir", tmp_path / "references"): "reference a.jpg: file is empty",
    }.items():
        result = run(*start, *options)
        assert result.exit_code == 1 and words in result.output and result.output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_error_of_ours_keeps_its_traceback():
    @friendly
    def broken():
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        broken()


@pytest.mark.parametrize("error", [ValueError("wrong"), OSError("wrong")])
def test_an_error_of_the_user_becomes_a_sentence(error):
    @friendly
    def refused():
        raise error

    with pytest.raises(click.ClickException, match="wrong"):
        refused()


def test_crops_at_scale_3_are_255_by_default(photo_folder, tmp_path):
    sizes = [json.loads(run("synth", "-i", photo_folder, "-o", tmp_path / "out", *BICUBIC, "--dry-run", "--scale", n)
                        .stdout)["settings"]["crop_size"] for n in (2, 3, 4)]  # fmt: skip
    assert sizes == [256, 255, 256]


def test_a_recipe_file_does_what_the_preset_does(photo_folder, tmp_path):
    (tmp_path / "mine.yaml").write_text(run("presets", "--show", "redux").stdout)
    for name, options in {"a": ("--preset", "redux"), "b": ("--recipe", tmp_path / "mine.yaml")}.items():
        arguments = ("-i", photo_folder, "-o", tmp_path / name, "--degrader", "none", "--workers", 0, *options)
        assert run("synth", *arguments, "--crops-per-image", 1).exit_code == 0
    assert (tmp_path / "a" / "pairs-000000.tar").read_bytes() == (tmp_path / "b" / "pairs-000000.tar").read_bytes()


def test_presets_are_listed_shown_and_described():
    listed = run("presets").output
    assert all(f"  {name}" in listed for name in PRESET_NAMES)
    assert Recipe.from_dict(yaml.safe_load(run("presets", "--show", "bsrgan").output)) == Recipe.preset("bsrgan")
    assert "steps" in json.loads(run("presets", "--schema").output)["properties"]


def test_verify_speaks_to_people_and_to_programs(photo_folder, tmp_path):
    out = tmp_path / "out"
    run("synth", "-i", photo_folder, "-o", out, *BICUBIC)
    good = run("verify", out)
    assert good.exit_code == 0 and good.output.endswith("all is well\n") and "VerifyReport" not in good.output
    tar = out / "pairs-000000.tar"
    data = bytearray(tar.read_bytes())
    data[1000] ^= 1
    tar.write_bytes(data)
    bad = run("verify", out, "--json")
    assert bad.exit_code == 1 and "differs from the hash" in json.loads(bad.output)["problems"][0]


def test_the_summary_can_be_read_by_programs(photo_folder, tmp_path):
    stats = json.loads(run("synth", "-i", photo_folder, "-o", tmp_path / "out", *BICUBIC, "--json").stdout)
    assert stats["pairs"] == stats["pairs_made_now"] == stats["planned_pairs"] > 0 and stats["failures"] == 0


def test_the_default_command_loads_the_shipped_weights(photo_folder, tmp_path):
    assert "tiny-x4" in RealisticDegrader.shipped_names()
    result = run("synth", "-i", photo_folder, "-o", tmp_path / "out", "--crops-per-image", 1, "--workers", 0)
    assert result.exit_code == 0, result.output
    assert verify_shards(tmp_path / "out").pairs == 3 and read_image(tmp_path / "out" / "preview.png").size


def test_fitting_to_a_folder_takes_the_schedule_for_it_and_says_where_hr_comes_from(photo_folder, tmp_path) -> None:
    arguments = ["train", "--lr-dir", str(photo_folder), "--from", "tiny-x4", "--out", str(tmp_path / "o"), "--dry-run"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    config = yaml.safe_load(result.stdout)
    assert config["schedule"]["steps"] == 2000 and config["start_from"] == "tiny-x4"
    assert config["data"]["weights"] == [0.5, 0.25, 0.5]
    assert config["data"]["recipes"] == ["real-esrgan", "bsrgan"]
    assert "no --hr-dir: the images of --lr-dir" in result.stderr and "are added to teach it" in result.stderr

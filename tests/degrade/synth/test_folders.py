"""`degrade synth --format folders`: the pairs of the shards, as images in two folders."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.degrade_commands import main

OPTIONS = ("--degrader", "none", "--preset", "bicubic", "--crop-size", 128, "--crops-per-image", 3,
           "--shard-size", 4, "--workers", 0)  # fmt: skip
LISTS = ("meta_info.txt", "metadata.jsonl", "stats.json", "failures.jsonl", "preview.png", "manifest.json")


@pytest.fixture
def synth(photo_folder: Path, tmp_path: Path) -> Callable[..., Result]:
    def run(out: str, *options: object, status: int = 0) -> Result:
        arguments = ["synth", "-i", photo_folder, "-o", tmp_path / out, *OPTIONS, *options]
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == status, result.output
        return result

    return run


def in_tars(folder: Path) -> dict[str, bytes]:
    """The images in shards, named as they would be in folders."""
    found = {}
    for path in folder.glob("pairs-*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                key, side, *extension = member.name.split(".")
                if extension:
                    found[f"{side}/{key}.{extension[0]}"] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return found


def in_folders(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("[hl]r/*")}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folders_hold_the_bytes_of_the_shards(synth: Callable[..., Result], tmp_path: Path) -> None:
    synth("shards", "--preset", "real-esrgan")
    result = synth("out", "--preset", "real-esrgan", "--format", "folders")
    assert "9 pairs in two folders, hr and lr" in result.output
    assert in_folders(tmp_path / "out") == in_tars(tmp_path / "shards") and len(in_folders(tmp_path / "out")) == 18
    assert {"README.md", *LISTS} >= {name for name in os.listdir(tmp_path / "out") if "pairs-" not in name} - {
        "hr", "lr", "plan.jsonl",
    }  # fmt: skip
    lines = (tmp_path / "out" / "meta_info.txt").read_text().splitlines()
    assert lines == [f"{slot:09d}.png (128,128,3)" for slot in range(9)]
    assert (tmp_path / "out" / "preview.png").read_bytes() == (tmp_path / "shards" / "preview.png").read_bytes()


def test_the_format_is_one_of_the_settings(synth: Callable[..., Result], tmp_path: Path) -> None:
    synth("out", "--format", "folders")
    assert 'format was "folders", is "shards"' in synth("out", status=1).output
    before = in_folders(tmp_path / "out")
    (tmp_path / "out" / "hr" / "mine.png").write_bytes(b"mine")
    synth("out", "--overwrite")
    assert in_folders(tmp_path / "out") == {"hr/mine.png": b"mine"} and in_tars(tmp_path / "out") == before
    shutil.rmtree(tmp_path / "out" / "hr")
    (tmp_path / "new" / "lr").mkdir(parents=True)
    (tmp_path / "new" / "lr" / "0.png").write_bytes(b"mine")
    assert "holds files in hr or lr" in synth("new", "--format", "folders", status=1).output
    refused = CliRunner().invoke(main, ["synth", "-i", str(tmp_path / "photos"), "-o", "memory://out", "--format",
                                        "folders", "--degrader", "none", "--preset", "bicubic"])  # fmt: skip
    assert refused.exit_code == 1 and "not a folder on a disk" in refused.output


@pytest.mark.parametrize("moves", [1, 11])
def test_a_kill_at_any_move_of_an_image_is_made_good_by_the_next_run(
    synth: Callable[..., Result], tmp_path: Path, photo_folder: Path, moves: int
) -> None:
    synth("unbroken", "--format", "folders")
    script = (
        "import os, signal, sys; sys.path[:0] = eval(sys.argv.pop())\n"
        "replace, moves = os.replace, int(sys.argv.pop())\n"
        "def counted(source, target):\n"
        "    global moves\n"
        "    if '.images.' in str(source):\n"
        "        if not moves: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        moves -= 1\n"
        "    replace(source, target)\n"
        "os.replace = counted\n"
        "from cli.degrade_commands import main; main()\n"
    )
    arguments = ["synth", "-i", photo_folder, "-o", tmp_path / "out", "--format", "folders", *OPTIONS]
    command = [sys.executable, "-c", script, *map(str, arguments), str(moves), repr(sys.path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(in_folders(tmp_path / "out")) == moves and not (tmp_path / "out" / "meta_info.txt").exists()
    synth("out", "--format", "folders")
    assert everything(tmp_path / "out") == everything(tmp_path / "unbroken")


def test_a_pair_that_cannot_be_made_any_more_leaves_no_image(
    synth: Callable[..., Result], tmp_path: Path, photo_folder: Path
) -> None:
    synth("out", "--format", "folders")
    before = in_folders(tmp_path / "out")
    records = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    (tmp_path / "out" / "pairs-000000.json").unlink()  # as if this part had been killed after its last move
    first = records[0]["source"]
    photo = photo_folder / first
    photo.write_bytes(photo.read_bytes()[:1000].ljust(photo.stat().st_size, b"\0"))
    synth("out", "--format", "folders", status=3)
    lost = {name for record in records[:4] if record["source"] == first
            for name in (record["hr_file_name"], record["lr_file_name"])}  # fmt: skip
    assert lost and in_folders(tmp_path / "out").keys() == before.keys() - lost

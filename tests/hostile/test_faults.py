"""Real processes that are killed, stopped and starved while they make a data set.

Whatever happened, the same command run again must end in the bytes of a run that nothing happened to: every file of the
folder is compared, hidden ones too. ``KILLS=25`` kills at more moments, ``SEED=1`` at others.
"""

import errno
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade.files import claims as claims_module
from degrade.files import sources as sources_module
from degrade.files import store as store_module
from degrade.files.store import open_store
from degrade.images.codec import encode_image
from degrade.recipes.recipe import Recipe
from degrade.shards.reader import read_pairs
from degrade.shards.verify import verify_shards
from degrade.synth.job import Job
from degrade.synth.run import SynthRun
from degrade.synth.settings import SynthSettings

pytestmark = pytest.mark.faults

KILLS, SEED = int(os.environ.get("KILLS", 3)), int(os.environ.get("SEED", 0))
RECIPE = ("--degrader", "none", "--preset", "real-esrgan-light", "--crop-size", 64)
LONG = (*RECIPE, "--variants", 6, "--shard-size", 90)  # 1044 pairs in 12 shards, some seconds
SHORT = ("--degrader", "none", "--preset", "bicubic", "--crop-size", 64, "--shard-size", 20)  # 174 pairs in 9 shards
STOPPED = "Error: stopped; finished work is kept, run the same command again\n"
GO = "from cli.degrade_commands import main; main()"


def synth(hr_dir, out, *options):
    """Run the command in this process."""
    arguments = ["synth", "-i", hr_dir, "-o", out, "--workers", 0, *options]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def start():
    """Start the command as a process of its own, in a session of its own; what is left of it ends with the test."""
    started = []

    def run(hr_dir, out, *options, first="", environment=None, wrapper=(), **popen):
        arguments = [*wrapper, sys.executable, "-c", first + GO, "synth", "-i", hr_dir, "-o", out, *options]
        process = subprocess.Popen(
            [str(argument) for argument in arguments], start_new_session=True, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            **{"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **popen},
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        for line in session(process):
            os.kill(int(line.split()[0]), signal.SIGKILL)


def session(process):
    """Processes of its session that still live."""
    listed = subprocess.run(["ps", "-s", str(process.pid), "-o", "pid=,stat="], capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if " Z" not in line]


def workers_of(process):
    listed = subprocess.run(["ps", "--ppid", str(process.pid), "-o", "pid=,args="], capture_output=True, text=True)
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line]


def ended(process, seconds=90):
    """What it said when it ended; nothing of it lives on."""
    error = process.communicate(timeout=seconds)[1]
    wait_for(lambda: not session(process), 20)
    return error


def one_sentence(error):
    return error.startswith("Error: ") and error.count("\n") == 1


def wait_for(condition, seconds=60, process=None):
    """Wait; not in vain for what a process that has ended would have done."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        assert process is None or process.poll() is None, f"ended early: {process.communicate()}"
        time.sleep(0.02)


def hashes(folder):
    """All that is in a folder, hidden files too."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def claimed(folder, process):
    """Whether a process has the lock on a folder; that of one that was killed may still lie there."""
    lock = folder / ".run-0-of-1.lock"
    return lock.exists() and lock.read_text().startswith(f"process {process.pid} ")


def hidden(folder):
    return [path.name for path in folder.glob(".*")] if folder.exists() else []


def finished(folder):
    """Shards with a marker, which must be of the very tar that lies beside it."""
    markers = {path.stem: json.loads(path.read_text()) for path in folder.glob("pairs-*.json")}
    for name, marker in markers.items():
        assert hashlib.sha256((folder / f"{name}.tar").read_bytes()).hexdigest() == marker["sha256"], name
    return set(markers)


def failures(folder):
    return [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def photos(photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name, image in photographs.items():
        (folder / f"{name}.png").write_bytes(encode_image(image, "png"))
    return folder


@pytest.fixture
def own_photos(photos, tmp_path):
    """The same photographs, for a test that spoils them."""
    return Path(shutil.copytree(photos, tmp_path / "own"))


@pytest.fixture(scope="module")
def unbroken(photos, tmp_path_factory):
    """``unbroken(LONG)`` is the folder of a run of these options that nothing happened to, made once."""
    folders = {}

    def folder(options):
        if options not in folders:
            folders[options] = tmp_path_factory.mktemp("unbroken") / "out"
            assert synth(photos, folders[options], *options).exit_code == 0
        return folders[options]

    return folder


# kill -9


def test_kill_9_of_any_process_at_any_moment_and_a_second_run_give_the_same_bytes(
    start, photos, tiny_degrader, tmp_path
):
    tiny_degrader.save_pretrained(tmp_path / "tiny")
    options = ("--degrader", tmp_path / "tiny", *LONG[2:])
    assert synth(photos, tmp_path / "whole", *options).exit_code == 0
    whole = hashes(tmp_path / "whole")
    dice = random.Random(SEED)
    out = tmp_path / "out-0"
    for number in range(KILLS):
        victim, workers, more = dice.choice(["driver", "worker"]), dice.choice([1, 2]), dice.choice([0, 0, 1, 2])
        seconds = dice.uniform(0, 0.5 if more else 5)
        process = start(photos, out, *options, "--workers", workers)
        wait_for(lambda out=out, process=process: claimed(out, process), process=process)
        shards = len(finished(out)) + more
        wait_for(lambda out=out, shards=shards: len(list(out.glob("pairs-*.json"))) >= min(shards, 12))
        time.sleep(seconds)
        told = f"seed {SEED}, kill {number}: {victim} of {workers} workers, {more} shards and {seconds:.2f} s later"
        if process.poll() is None:
            living = workers_of(process)
            pid = dice.choice(living) if living and victim == "worker" else process.pid
            os.kill(pid, signal.SIGKILL)
            error = ended(process)
            if pid != process.pid and process.returncode:  # else it was done, and needed that worker no longer
                assert process.returncode == 1 and error.startswith("Error: a worker process died"), error
                assert one_sentence(error) and not hidden(out)
            assert "Traceback" not in error, error
        else:
            ended(process)
        print(f"{told}: {len(finished(out))} shards are finished")
        if len(finished(out)) == 12:  # nothing is left to be killed at: once more from the start
            assert synth(photos, out, *options).exit_code == 0
            assert hashes(out) == whole
            out = tmp_path / f"out-{number + 1}"
    process = start(photos, out, *options, "--workers", 2)
    error = ended(process)
    assert process.returncode == 0, error
    assert hashes(out) == whole


SUBMITTED = """
import os, signal, time
from concurrent.futures import ProcessPoolExecutor
real, seen = ProcessPoolExecutor.submit, []
def submit(self, *arguments):
    seen.append(arguments)
    if len(seen) == 20:
        os.kill(next(iter(self._processes)), signal.SIGKILL)
        while not self._broken:
            time.sleep(0.01)
    return real(self, *arguments)
ProcessPoolExecutor.submit = submit
"""


@pytest.mark.parametrize("noticed", ["when it is waited for", "when it gets more work"])
def test_a_worker_that_dies_is_one_sentence_and_the_next_run_goes_on(start, photos, unbroken, tmp_path, noticed):
    out = tmp_path / "out"
    process = start(photos, out, *LONG, "--workers", 2, first=SUBMITTED if "more" in noticed else "")
    if "more" not in noticed:
        wait_for(lambda: list(out.glob("pairs-*.json")), process=process)
        os.kill(workers_of(process)[0], signal.SIGKILL)
    error = ended(process)
    assert process.returncode == 1 and error.startswith("Error: a worker process died") and one_sentence(error), error
    assert not hidden(out)
    assert synth(photos, out, *LONG).exit_code == 0
    assert hashes(out) == hashes(unbroken(LONG))


# asked to stop


@pytest.mark.parametrize(
    ("name", "to", "moment"),
    [
        ("SIGINT", "all, as a terminal does", "manifest.json"),
        ("SIGINT", "all, as a terminal does", "pairs-000002.json"),
        ("SIGTERM", "the driver, as sbatch --signal does", "manifest.json"),
        ("SIGTERM", "the driver, as sbatch --signal does", "pairs-000002.json"),
        ("SIGTERM", "all, as scancel does", "pairs-000002.json"),
    ],
)
def test_a_stop_is_one_sentence_and_leaves_nothing_half_done(start, photos, unbroken, tmp_path, name, to, moment):
    out = tmp_path / "out"
    process = start(photos, out, *LONG, "--workers", 2)
    wait_for((out / moment).exists, process=process)
    time.sleep(0.2)
    (os.killpg if to.startswith("all") else os.kill)(process.pid, getattr(signal, name))
    assert ended(process) == STOPPED and process.returncode == 1
    assert not hidden(out) and len(finished(out)) < 12
    assert synth(photos, out, *LONG).exit_code == 0
    assert hashes(out) == hashes(unbroken(LONG))


STARTING = """
import multiprocessing.popen_spawn_posix, os, signal
popen = multiprocessing.popen_spawn_posix.Popen
real = popen._launch
def launch(self, process):
    real(self, process)
    os.kill(os.getpid(), signal.SIGTERM)
popen._launch = launch
"""


def test_a_stop_at_the_very_moment_a_worker_starts_is_one_sentence_too(start, photos, tmp_path):
    process = start(photos, tmp_path / "out", *LONG, "--workers", 2, first=STARTING)
    assert ended(process) == STOPPED and process.returncode == 1 and not hidden(tmp_path / "out")


SLOW_LISTING = """
import time
import degrade.files.sources
locate = degrade.files.sources._file
def slow(name, file):
    time.sleep(2)
    return locate(name, file)
degrade.files.sources._file = slow
"""


def test_a_stop_while_images_are_listed_leaves_no_folder(start, photos, tmp_path):
    process = start(photos, tmp_path / "out", *LONG, first=SLOW_LISTING)
    wait_for((tmp_path / "out").exists, process=process)
    process.terminate()
    assert ended(process) == STOPPED and process.returncode == 1 and not (tmp_path / "out").exists()


# several nodes


def test_a_node_that_is_killed_is_made_up_for_by_its_own_rerun_or_by_one_whole_run(start, photos, unbroken, tmp_path):
    out = tmp_path / "out"
    nodes = [start(photos, out, *LONG, "--workers", 0, "--node-rank", rank, "--num-nodes", 3) for rank in range(3)]
    wait_for((out / "pairs-000001.json").exists, process=nodes[1])
    nodes[1].kill()
    wait_for((out / ".run-0-of-3.lock").exists, process=nodes[0])
    nodes[0].send_signal(signal.SIGSTOP)
    for options in (("--node-rank", 0, "--num-nodes", 2), ("--node-rank", 0, "--num-nodes", 3), ()):
        refused = synth(photos, out, *LONG, *options)
        assert refused.exit_code == 1 and one_sentence(refused.output)
        assert f"another run (process {nodes[0].pid} on " in refused.output
    nodes[0].send_signal(signal.SIGCONT)
    errors = [ended(node) for node in nodes]
    assert [node.returncode for node in nodes] == [0, -signal.SIGKILL, 0], errors
    assert {int(name[6:]) for name in finished(out)} >= {0, 2, 3, 5, 6, 8, 9, 11} and len(finished(out)) < 12
    assert json.loads((out / "stats.json").read_text())["shards"] == len(finished(out))
    shutil.copytree(out, tmp_path / "copy")
    assert synth(photos, out, *LONG, "--node-rank", 1, "--num-nodes", 3).exit_code == 0
    assert hashes(out) == hashes(unbroken(LONG))
    assert synth(photos, tmp_path / "copy", *LONG).exit_code == 0
    assert hashes(tmp_path / "copy") == hashes(unbroken(LONG))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_whichever_node_is_last_writes_what_is_beside_the_shards(photos, unbroken, tmp_path, order):
    for rank in order:
        result = synth(photos, tmp_path / "out", *SHORT, "--node-rank", rank, "--num-nodes", 3)
        assert result.exit_code == 0
    assert hashes(tmp_path / "out") == hashes(unbroken(SHORT))


def test_what_a_node_left_that_was_killed_between_two_files_is_removed_by_the_next(photos, unbroken, tmp_path):
    store = open_store(tmp_path / "out")
    for name in ("manifest.json", "plan.jsonl", "stats.json", "_info.json", "preview.png", "pairs-000001.tar"):
        store.growing(name).touch()
    for rank in range(3):
        assert synth(photos, tmp_path / "out", *SHORT, "--node-rank", rank, "--num-nodes", 3).exit_code == 0
    assert hashes(tmp_path / "out") == hashes(unbroken(SHORT))


def test_a_node_that_is_done_does_not_mind_the_ruins_of_another(photos, unbroken, tmp_path):
    shutil.copytree(unbroken(SHORT), tmp_path / "out")
    for shard in (0, 3):  # node 0's: an older version was killed in the middle of them
        (tmp_path / "out" / f"pairs-{shard:06d}.json").unlink()
        (tmp_path / "out" / f"pairs-{shard:06d}.tar").write_bytes(b"half of a tar")
    result = synth(photos, tmp_path / "out", *SHORT, "--node-rank", 1, "--num-nodes", 3)
    assert result.exit_code == 0 and "2 shards are still missing" in result.output, result.output
    assert synth(photos, tmp_path / "out", *SHORT, "--node-rank", 0, "--num-nodes", 3).exit_code == 0
    assert hashes(tmp_path / "out") == hashes(unbroken(SHORT))


# full disks


@pytest.fixture
def small_disk(tmp_path):
    """``small_disk(kilobytes)``: the folder of a disk of that size; called again, the disk has another size."""
    place = tmp_path / "disk"

    def sized(kilobytes):
        kind = ["-o", f"remount,size={kilobytes}k"] if place.is_mount() else ["-t", "tmpfs", "-o", f"size={kilobytes}k"]
        place.mkdir(exist_ok=True)
        mounted = subprocess.run(["mount", *kind, "tmpfs", str(place)], capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
        return place

    yield sized
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_keeps_finished_shards_and_the_same_command_completes(
    small_disk, photos, unbroken, tmp_path
):
    out = small_disk(5000) / "out"
    result = synth(photos, out, *LONG)
    assert result.exit_code == 1 and result.output.startswith(f"Error: disk full at {out}/pairs-")
    assert one_sentence(result.output) and "free space and run the same command again" in result.output
    kept = hashes(out)
    assert not hidden(out) and 1 < len(finished(out)) < 12
    again = synth(photos, out, *LONG)
    assert again.exit_code == 1 and "disk full" in again.output and hashes(out) == kept
    small_disk(40_000)
    assert synth(photos, out, *LONG).exit_code == 0
    assert hashes(out) == hashes(unbroken(LONG))


def test_a_disk_with_any_number_of_free_pages_is_one_sentence_and_nothing_half_done(small_disk, photos, unbroken):
    disk = small_disk(400)
    ends = set()
    for pages in range(0, 60, 3):
        (disk / "filler").write_bytes(b"")
        (disk / "filler").write_bytes(bytes((100 - pages) * 4096))
        result = synth(photos, disk / "out", *SHORT)
        assert result.exit_code == 1 and one_sentence(result.output), result.output
        assert result.output.startswith(f"Error: disk full at {disk}/out/"), result.output
        ends.add(result.output.partition("/out/")[2].partition(":")[0])
        assert not hidden(disk / "out")
        finished(disk / "out")
    assert len(ends) > 2  # at the plan, at shards
    (disk / "filler").unlink()
    small_disk(40_000)
    assert synth(photos, disk / "out", *SHORT).exit_code == 0
    assert hashes(disk / "out") == hashes(unbroken(SHORT))


def test_a_full_disk_for_temporary_files_is_one_sentence_that_names_it(start, small_disk, photos, tmp_path):
    gaps = "".join(f"{'deep/' * 180}{number}.png\n" for number in range(50_000))  # 90 MB of names and paths
    listing = tmp_path / "list.txt"
    listing.write_text(f"{photos}/coffee.png\n{gaps}")
    environment = {"TMPDIR": str(small_disk(4000))}
    process = start(listing, tmp_path / "out", *SHORT, "--workers", 0, environment=environment)
    error = ended(process)
    assert process.returncode == 1 and one_sentence(error), error
    assert f"does not fit into {environment['TMPDIR']}" in error and "set TMPDIR to a folder with more" in error
    assert not (tmp_path / "out").exists() and not list(Path(environment["TMPDIR"]).iterdir())


def test_a_write_that_the_system_cuts_short_is_one_sentence(start, photos, tmp_path):
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))}
    process = start(photos, tmp_path / "out", *LONG, "--workers", 0, **limit)
    error = ended(process)
    assert process.returncode == 1 and error.startswith("Error: cannot write") and one_sentence(error)
    assert hashes(tmp_path / "out").keys() == {"manifest.json", "plan.jsonl"}


# sources that cannot be read, or change


class Broken:
    """An open file whose disk fails under it."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def seek(self, *_):
        pass

    def read(self, *_):
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("at", ["open", "read"])
def test_a_disk_that_fails_under_one_image_is_a_failure_and_a_retry_makes_it_good(
    photos, unbroken, tmp_path, monkeypatch, at
):
    opened = []

    def failing(path, *mode):
        opened.append(path)
        if "coffee" in str(path) and sum("coffee" in str(name) for name in opened) > 1:  # first is the header
            if at == "open":
                raise OSError(errno.EIO, "Input/output error", path)
            return Broken(open(path, *mode))
        return open(path, *mode)

    monkeypatch.setattr(sources_module, "open", failing, raising=False)
    out = tmp_path / "out"
    result = synth(photos, out, *SHORT)
    assert result.exit_code == 3 and "failures.jsonl says why" in result.output
    assert {(f["source"], f["reason"]) for f in failures(out)} == {
        ("coffee.png", "cannot be read (Input/output error)")
    }
    assert {pair["meta"]["source"] for pair in read_pairs(out)} == {"astronaut.png", "chelsea.png"}
    monkeypatch.undo()
    assert synth(photos, out, *SHORT).exit_code == 3  # only when asked to
    assert synth(photos, out, *SHORT, "--retry-failed").exit_code == 0
    assert hashes(out) == hashes(unbroken(SHORT))


def test_a_disk_that_fails_under_a_header_leaves_the_image_out_until_the_data_set_is_extended(
    photos, tmp_path, monkeypatch
):
    def failing(path, *mode):
        if "coffee" in str(path):
            raise OSError(errno.EIO, "Input/output error", path)
        return open(path, *mode)

    monkeypatch.setattr(sources_module, "open", failing, raising=False)
    result = synth(photos, tmp_path / "out", *SHORT)
    assert result.exit_code == 3
    assert failures(tmp_path / "out") == [{"source": "coffee.png", "reason": "cannot be read (Input/output error)"}]
    monkeypatch.undo()
    refused = synth(photos, tmp_path / "out", *SHORT, "--retry-failed")
    assert refused.exit_code == 1 and "1 new, 0 gone (coffee.png first); --extend adds" in refused.output
    assert synth(photos, tmp_path / "out", *SHORT, "--extend").exit_code == 0
    assert not failures(tmp_path / "out")


def bmp(image):
    """Uncompressed: any other picture of the same sides has as many bytes."""
    return cv2.imencode(".bmp", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def test_an_image_that_becomes_another_between_plan_and_work_is_a_failure_or_true_to_what_it_is(
    own_photos, photographs, tmp_path
):
    coffee, chelsea = photographs["coffee"], photographs["chelsea"][::-1]  # upside down, as no other image is
    for name in ("longer", "shorter", "turned", "replaced", "vanished", "folder"):
        (own_photos / f"{name}.bmp").write_bytes(bmp(coffee[:192, :256]))
    job = Job(
        SynthSettings(degrader="none", steps=0, recipe=Recipe.preset("bicubic").to_dict(), crop_size=64), "", None
    )
    with SynthRun.open(own_photos, tmp_path / "out", job) as run:
        with open(own_photos / "longer.bmp", "ab") as file:
            file.write(b"more")
        (own_photos / "shorter.bmp").write_bytes(bmp(coffee[:192, :256])[:-9])
        (own_photos / "turned.bmp").write_bytes(bmp(coffee[:256, :192]))
        (own_photos / "replaced.bmp").write_bytes(bmp(chelsea[:192, :256]))
        (own_photos / "vanished.bmp").unlink()
        (own_photos / "folder.bmp").unlink()
        (own_photos / "folder.bmp").mkdir()
        stats = run.run(workers=0, progress=False)
    assert stats["failures"] == 5 * 12
    assert {failure["source"]: failure["reason"] for failure in failures(tmp_path / "out")} == {
        "longer.bmp": "longer.bmp has become longer since it was listed; run the command again",
        "shorter.bmp": "shorter.bmp has become shorter since it was listed; run the command again",
        "turned.bmp": "is 192x256 now, was 256x192 when planned",
        "vanished.bmp": "cannot be read (No such file or directory)",
        "folder.bmp": "cannot be read (Is a directory)",
    }
    pairs = list(read_pairs(tmp_path / "out"))
    assert {pair["meta"]["source"] for pair in pairs} == {
        "replaced.bmp", "astronaut.png", "chelsea.png", "coffee.png"
    }  # fmt: skip
    digest = hashlib.sha256(bmp(chelsea[:192, :256])).hexdigest()
    for pair in pairs:
        if pair["meta"]["source"] == "replaced.bmp":
            top, left = pair["meta"]["crop_top"], pair["meta"]["crop_left"]
            hr = (pair["hr"] * 255).round().byte().permute(1, 2, 0).numpy()
            assert np.array_equal(hr, chelsea[top : top + 64, left : left + 64])
            assert pair["meta"]["source_sha256"] == digest
    assert verify_shards(tmp_path / "out").ok


LOCKED_AWAY = """
import os
from degrade.synth.run import SynthRun
real = SynthRun.run
def run(self, **options):
    os.chmod(self.hr_dir / "coffee.png", 0)
    return real(self, **options)
SynthRun.run = run
"""


def test_an_image_that_may_no_longer_be_read_is_a_failure_and_a_retry_makes_it_good(
    start, own_photos, unbroken, tmp_path
):
    # root may read anything, unless it gives that up
    limits = "--bounding-set=-dac_override,-dac_read_search"
    wrapper = ["setpriv", limits] if os.geteuid() == 0 else []
    if wrapper and not shutil.which("setpriv"):
        pytest.skip("root reads every file, and there is no setpriv to take that away")
    process = start(own_photos, tmp_path / "out", *SHORT, "--workers", 0, first=LOCKED_AWAY, wrapper=wrapper)
    error = ended(process)
    assert process.returncode == 3, error
    assert {f["reason"] for f in failures(tmp_path / "out")} == {"cannot be read (Permission denied)"}
    (own_photos / "coffee.png").chmod(0o644)
    assert synth(own_photos, tmp_path / "out", *SHORT, "--retry-failed").exit_code == 0
    assert hashes(tmp_path / "out") == hashes(unbroken(SHORT))


def test_an_image_that_changes_between_two_runs_stops_the_second(own_photos, photos, unbroken, tmp_path):
    out, path, data = tmp_path / "out", own_photos / "coffee.png", (photos / "coffee.png").read_bytes()
    shutil.copytree(unbroken(SHORT), out)
    (out / "pairs-000004.json").unlink()  # there is work to do
    before = hashes(out)
    for change, told in (
        (lambda: path.write_bytes(data + b"more"), "1 images changed since"),
        (lambda: path.write_bytes(data[:-9]), "1 images changed since"),
        (path.unlink, "0 new, 1 gone (coffee.png first)"),
        (path.mkdir, "0 new, 1 gone (coffee.png first)"),
    ):
        change()
        for options in ((), ("--retry-failed",)):
            result = synth(own_photos, out, *SHORT, *options)
            assert result.exit_code == 1 and told in result.output and one_sentence(result.output), result.output
        assert hashes(out) == before
    path.rmdir()
    path.write_bytes(data)
    assert synth(own_photos, out, *SHORT).exit_code == 0
    assert hashes(out) == hashes(unbroken(SHORT))


def test_a_decompression_bomb_is_left_out_and_takes_no_memory(start, own_photos, tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(10_000_000)))
    (own_photos / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b""))
    process = start(own_photos, tmp_path / "out", *SHORT, "--workers", 0)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    (failure,) = failures(tmp_path / "out")
    assert failure["source"] == "bomb.png" and "50000x50000 is more than 100000000 pixels" in failure["reason"]
    assert usage.ru_maxrss < 1_500_000  # kilobytes; it would take 7.5 GB, the loaded program takes 0.9


# two at once, and a clock that is wrong


def test_a_second_run_on_the_same_folder_is_refused_while_the_first_plans_and_while_it_works(
    start, photos, unbroken, tmp_path
):
    out = tmp_path / "out"
    process = start(photos, out, *LONG, "--workers", 0, first=SLOW_LISTING)
    wait_for(lambda: claimed(out, process), process=process)
    assert not (out / "manifest.json").exists()
    for moment in (".run-0-of-1.lock", "pairs-000001.json"):
        wait_for((out / moment).exists, process=process)
        for options in ((), ("--overwrite",), ("--extend",), ("--retry-failed",)):
            refused = synth(photos, out, *LONG, *options)
            assert refused.exit_code == 1 and one_sentence(refused.output), refused.output
            assert f"another run (process {process.pid} on {socket.gethostname()})" in refused.output
    error = ended(process)
    assert process.returncode == 0, error
    assert hashes(out) == hashes(unbroken(LONG))


BACKWARDS = """
import time
began, calls = time.time(), []
def backwards():
    calls.append(None)
    return began - 3600 * len(calls)
time.time = backwards
"""


def test_a_clock_that_goes_back_and_files_of_the_future_change_nothing(start, own_photos, unbroken, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BACKWARDS)
    environment = {"PYTHONPATH": f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}"}
    ask = [sys.executable, "-c", "import time; print(time.time() > time.time() + 3000)"]
    answer = subprocess.run(ask, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    assert answer.stdout == "True\n"
    for path in own_photos.iterdir():
        os.utime(path, (time.time() + 10**8,) * 2)
    process = start(own_photos, tmp_path / "out", *SHORT, "--workers", 1, environment=environment)
    error = ended(process)
    assert process.returncode == 0, error
    assert hashes(tmp_path / "out") == hashes(unbroken(SHORT))


# what an older version, or a crash of the machine, may have left


def swap(path, content):
    path.write_bytes(content)


RUINS = {
    "a tar without marker": lambda out: (out / "pairs-000003.json").unlink(),
    "a marker without tar": lambda out: (out / "pairs-000003.tar").unlink(),
    "a marker of another format": lambda out: swap(out / "pairs-000003.json", b'{"samples": 20, "ok": true}'),
    "an empty marker": lambda out: swap(out / "pairs-000003.json", b""),
    "a truncated tar": lambda out: swap(out / "pairs-000003.tar", (out / "pairs-000003.tar").read_bytes()[:-512]),
    "half a tar without marker": lambda out: (
        swap(out / "pairs-000003.tar", (out / "pairs-000003.tar").read_bytes()[:1000]),
        (out / "pairs-000003.json").unlink(),
    ),
    "the marker of another shard": lambda out: shutil.copy(out / "pairs-000008.json", out / "pairs-000003.json"),
    "growing files": lambda out: (
        [swap(out / f".{name}.0123456789ab.tmp", b"half") for name in ("pairs-000003.tar", "plan.jsonl", "stats.json")],
        (out / "pairs-000003.json").unlink(),
    ),
    "locks of the dead": lambda out: (
        [swap(out / f".{name}.lock", b"process 7") for name in ("run-0-of-1", "run-1-of-3", "plan", "indexes")],
        (out / "pairs-000003.json").unlink(),
    ),
    "no files beside the shards": lambda out: [
        (out / name).unlink() for name in ("stats.json", "_info.json", "failures.jsonl")
    ],
}


@pytest.mark.parametrize("ruin", RUINS)
def test_what_is_half_written_is_made_again_and_nothing_else(photos, unbroken, tmp_path, ruin):
    out = tmp_path / "out"
    shutil.copytree(unbroken(SHORT), out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("pairs-*")}
    RUINS[ruin](out)
    result = synth(photos, out, *SHORT)
    assert result.exit_code == 0, result.output
    assert hashes(out) == hashes(unbroken(SHORT))
    again = {path.name for path in out.glob("pairs-*") if path.stat().st_mtime_ns != before[path.name]}
    assert again <= {"pairs-000003.tar", "pairs-000003.json"}
    assert bool(again) == ("beside" not in ruin)


# an object store


@pytest.fixture
def server(monkeypatch):
    """A process that serves an object store with a bucket, whose address is in the environment."""
    pytest.importorskip("moto.server", reason="moto[server] serves the object store of this test")
    s3fs = pytest.importorskip("s3fs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"), ("AWS_ACCESS_KEY_ID", "someone"),
        ("AWS_SECRET_ACCESS_KEY", "nothing"), ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_MAX_ATTEMPTS", "1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)

    def answers():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(answers, process=process)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        yield process
    finally:
        process.kill()
        process.wait()
        s3fs.S3FileSystem.clear_instance_cache()


QUICK = "import degrade.files.claims; degrade.files.claims.BEAT_S, degrade.files.claims.PATIENCE_S = 0.2, 2\n"


def test_a_run_into_an_object_store_that_was_killed_is_taken_up(start, server, photos, unbroken, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(store_module.tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(claims_module, "BEAT_S", 0.2)
    store = open_store("s3://bucket/out")
    environment = {"TMPDIR": str(temporary)}
    process = start(photos, store, *LONG, "--workers", 1, first=QUICK, environment=environment)
    wait_for(lambda: store.size("pairs-000001.json"), process=process)
    refused = synth(photos, store, *LONG)  # as patient as people are: the first is slow here, but lives
    assert refused.exit_code == 1 and f"another run (process {process.pid} on " in refused.output, refused.output
    wait_for(lambda: list(temporary.glob(".pairs-*.degrade-on-*")), process=process)
    process.kill()
    ended(process)
    done = [name for name in store.names() if name.endswith(".json") and name.startswith("pairs-")]
    assert 1 < len(done) < 12 and ".run-0-of-1.beat" in store.names()
    for name in done:
        tar = store.read(f"{name[:-5]}.tar")
        assert hashlib.sha256(tar).hexdigest() == json.loads(store.read(name))["sha256"]
    monkeypatch.setattr(claims_module, "PATIENCE_S", 1)
    result = synth(photos, store, *LONG)
    assert result.exit_code == 0, result.output
    assert {name: hashlib.sha256(store.read(name)).hexdigest() for name in store.names()} == hashes(unbroken(LONG))
    assert not list(temporary.glob(".*"))


def test_an_object_store_that_goes_away_is_one_sentence(start, server, photos, tmp_path):
    environment = {"TMPDIR": str(tmp_path)}
    process = start(photos, "s3://bucket/out", *LONG, "--workers", 0, first=QUICK, environment=environment)
    wait_for(lambda: open_store("s3://bucket/out").size("pairs-000001.json"), process=process)
    server.kill()
    error = ended(process)
    assert process.returncode == 1 and one_sentence(error), error
    assert error.startswith("Error: no access to s3://bucket/out/") and "run the same command again" in error
    assert not list(tmp_path.glob(".*"))

"""Real Ray clusters of two raylets on this machine, and real kills; `KILLS=25` for as many random moments."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade.images.codec import encode_image

pytest.importorskip("ray")
pytestmark = pytest.mark.faults

KILLS, SEED = int(os.environ.get("KILLS", "3")), 6
BICUBIC = ("--degrader", "none", "--preset", "bicubic", "--crop-size", "64", "--keep-flat")
LONG = (*BICUBIC, "--crops-per-image", "334", "--shard-size", "5", "--variants", "1")  # 1002 pairs, 201 shards
SHORT = (*BICUBIC, "--crops-per-image", "300", "--shard-size", "30", "--variants", "2")  # 1800 pairs, 60 shards
GO = "from cli.degrade_commands import main; main()"


@pytest.fixture
def cluster():
    """A head without CPUs beside which machines can die."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def photos(photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name, image in photographs.items():
        (folder / f"{name}.png").write_bytes(encode_image(image, "png"))
    return folder


@pytest.fixture(scope="module")
def unbroken(photos, tmp_path_factory):
    """``unbroken(LONG)``: hashes of all files that one local run makes, made once."""
    known = {}

    def of(options):
        if options not in known:
            out = tmp_path_factory.mktemp("unbroken") / "out"
            assert locally(photos, out, options).exit_code == 0
            known[options] = hashes(out)
        return known[options]

    return of


def locally(photos, out, options):
    return CliRunner().invoke(main, ["synth", "-i", str(photos), "-o", str(out), *options, "--workers", "0"])


def start(photos, out, options, cluster):
    command = [sys.executable, "-c", GO, "synth", "-i", str(photos), "-o", str(out), *options]
    command += ["--engine", "ray", "--address", cluster.address, "--json"]
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test in the background ignores SIGINT
    )  # fmt: skip


def hashes(out):
    """All visible files; a worker that was just killed may leave a hidden one, which the next run removes."""
    files = [path for path in out.iterdir() if not path.name.startswith(".")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def finished(out):
    """Shards with a marker, which must be of the very tar that lies beside it."""
    for path in out.glob("pairs-*.json"):
        tar = path.with_suffix(".tar")
        assert hashlib.sha256(tar.read_bytes()).hexdigest() == json.loads(path.read_text())["sha256"], path.name
    return len(list(out.glob("pairs-*.json")))


def wait_for(condition, process, seconds=120):
    until = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def raylet(node):
    return node.all_processes["raylet"][0].process.pid


def actors():
    """Workers that make shards, of whichever driver."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any("_ShardWorker" in part for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


def test_of_two_machines_that_make_200_shards_one_dies_half_way_and_the_bytes_are_those_of_a_local_run(
    cluster, photos, unbroken, tmp_path
):
    cluster.add_node(num_cpus=1)
    doomed = cluster.add_node(num_cpus=1)
    process = start(photos, tmp_path / "out", LONG, cluster)
    wait_for(lambda: len(list((tmp_path / "out").glob("pairs-*.json"))) >= 100, process)
    assert process.poll() is None, "it ended before half of it was done"
    os.kill(raylet(doomed), signal.SIGKILL)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    stats = json.loads(output)
    print(f"\n{stats['shards']} shards, made on {stats['shards_made_on']}")
    assert stats["shards"] == 201 and len(stats["shards_made_on"]) == 2 and finished(tmp_path / "out") == 201
    assert hashes(tmp_path / "out") == unbroken(LONG)


def test_kill_9_of_a_driver_a_worker_or_a_machine_at_any_moment_gives_the_same_bytes(
    cluster, photos, unbroken, tmp_path
):
    dice = random.Random(SEED)
    expected = unbroken(SHORT)
    cluster.add_node(num_cpus=1)
    doomed = cluster.add_node(num_cpus=1)
    for kill in range(KILLS):
        out = tmp_path / f"out-{kill}"
        victim, shards, seconds = dice.choice(["driver", "worker", "machine"]), dice.randrange(55), dice.uniform(0, 0.3)
        process = start(photos, out, SHORT, cluster)
        wait_for(lambda out=out, shards=shards: len(list(out.glob("pairs-*.json"))) >= shards, process)
        time.sleep(seconds)
        print(f"\n{kill}: {victim} after {shards} shards and {seconds:.2f} s", end="")
        if victim == "driver":
            process.kill()
        elif victim == "worker":
            for worker in actors()[:1]:
                worker.kill()
        else:
            os.kill(raylet(doomed), signal.SIGKILL)
        error = process.communicate(timeout=300)[1]
        if victim == "driver":
            print(f", {finished(out)} were whole", end="")
            again = start(photos, out, SHORT, cluster) if kill % 2 else None
            if again:
                error = again.communicate(timeout=300)[1]
                assert again.returncode == 0, error
            else:
                assert locally(photos, out, SHORT).exit_code == 0
        else:
            assert process.returncode == 0, error
        if victim == "machine":
            cluster.remove_node(doomed, allow_graceful=False)
            doomed = cluster.add_node(num_cpus=1)
        assert hashes(out) == expected
        until = time.monotonic() + 30
        while actors():
            assert time.monotonic() < until, "workers outlive their driver"
            time.sleep(0.2)


def test_a_machine_that_joins_gets_work(cluster, photos, tmp_path):
    cluster.add_node(num_cpus=1)
    process = start(photos, tmp_path / "out", (*LONG, "--crop-size", "128", "--variants", "5"), cluster)
    wait_for(lambda: list((tmp_path / "out").glob("pairs-*.json")), process)
    cluster.add_node(num_cpus=1)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert len(json.loads(output)["shards_made_on"]) == 2


def test_a_stop_is_one_sentence_and_a_second_run_gives_the_same_bytes(cluster, photos, unbroken, tmp_path):
    cluster.add_node(num_cpus=2)
    process = start(photos, tmp_path / "out", SHORT, cluster)
    wait_for(lambda: len(list((tmp_path / "out").glob("pairs-*.json"))) > 5, process)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and error.strip().endswith("run the same command again") and error.count("\n") == 1
    assert locally(photos, tmp_path / "out", SHORT).exit_code == 0
    assert hashes(tmp_path / "out") == unbroken(SHORT) and not list((tmp_path / "out").glob(".*"))

import errno
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import cv2
import pytest
import torch
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade.errors import ShardError
from degrade.files.store import DiskStore, open_store
from degrade.images.codec import encode_image
from degrade.recipes.recipe import Recipe
from degrade.synth import ray_cluster
from degrade.synth.job import resolve_job
from degrade.synth.manifest import write_manifest
from degrade.synth.ray_cluster import RayCluster, _ShardWorker
from degrade.synth.run import SynthRun
from degrade.synth.settings import SynthSettings

ray = pytest.importorskip("ray")

CROPS = ("--crop-size", 64, "--crops-per-image", 4, "--shard-size", 5)
BICUBIC = ("--degrader", "none", "--preset", "bicubic", *CROPS)


@pytest.fixture(scope="module")
def two_cpus():
    """A Ray that the caller has started: RayCluster uses it, and leaves it alone."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray._private.worker._worker_logs_enabled = False
    yield
    ray.shutdown()


@pytest.fixture
def cluster(two_cpus):
    with RayCluster() as cluster:
        yield cluster
    assert ray.is_initialized()


@pytest.fixture
def no_ray(monkeypatch):
    """Calls of Ray that were made, instead of a cluster."""
    calls = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda address, **_: calls.append(address))
    monkeypatch.setattr(ray, "shutdown", lambda: calls.append("shutdown"))
    return calls


@pytest.fixture
def synth(photo_folder, tmp_path):
    """``synth("out", "--engine", "ray")`` runs the command in this process."""

    def run(out, *options, status=0):
        place = out if "://" in str(out) else tmp_path / out
        arguments = ["synth", "-i", photo_folder, "-o", place, *options]
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == status, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def begun(photo_folder, tmp_path):
    """A job, and the address of a data set that was begun with it and has no shards."""
    settings = SynthSettings(recipe=Recipe.preset("bicubic").to_dict(), crop_size=64, crops_per_image=4, shard_size=5)
    job = resolve_job(settings, degrader="none", reference_dir=None)
    write_manifest(DiskStore(tmp_path / "begun"), job, [b""])
    return job, str(tmp_path / "begun")


@pytest.fixture
def threads():
    """What a worker changes for its whole process."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def snapshot(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def gone(process, seconds=20):
    """Whether no process of its session lives any more, sooner or later."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        listed = subprocess.run(["ps", "-s", str(process.pid), "-o", "stat="], capture_output=True, text=True).stdout
        if not [state for state in listed.split() if not state.startswith("Z")]:
            return True
        time.sleep(0.2)
    return False


def shards_by(cluster, monkeypatch, tmp_path, worker, *, units=(), count=3, workers=1):
    """The engine with workers of a simple kind, which need no torch and so start at once."""
    monkeypatch.setattr(ray_cluster, "_ShardWorker", worker)
    job = SimpleNamespace(settings=SimpleNamespace(device="cpu"))
    units = units or (SimpleNamespace(shard=shard) for shard in range(count))
    return cluster.shards(DiskStore(tmp_path), job, iter(units), count=count, workers=workers, hr_dir=tmp_path)


def test_ray_gives_the_files_of_the_local_engine_and_says_where_they_were_made(
    two_cpus, synth, tiny_degrader, photo_folder, tmp_path
):
    tiny_degrader.save_pretrained(tmp_path / "tiny")
    half = encode_image(cv2.imread(str(photo_folder / "coffee.png")), "jpg")
    (photo_folder / "half.jpg").write_bytes(half[: len(half) // 2])  # its header is good: it fails in a worker
    (photo_folder / "text.png").write_text("I am no image")  # and this while planning
    options = ["--degrader", tmp_path / "tiny", "--preset", "real-esrgan", *CROPS]
    synth("local", *options, "--workers", 0, status=3)
    stats = json.loads(synth("ray", *options, "--engine", "ray", "--workers", 2, "--json", status=3).stdout)
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    assert b"half.jpg" in files(tmp_path / "ray")["failures.jsonl"] and stats["failures"] == 5
    assert sum(stats["shards_made_on"].values()) == 4 and len(list((tmp_path / "ray").glob("pairs-*.tar"))) == 4
    assert ray.is_initialized()


def test_a_run_on_ray_goes_on_where_a_local_one_stopped(two_cpus, synth, tmp_path):
    synth("out", *BICUBIC, "--workers", 0)
    before = snapshot(tmp_path / "out")
    (tmp_path / "out" / "pairs-000001.json").unlink()
    (tmp_path / "out" / "pairs-000002.tar").write_bytes(b"half")
    (tmp_path / "out" / ".pairs-000001.tar.0123456789ab.tmp").write_bytes(b"left by kill -9")
    address = f"file://{tmp_path}/out"
    stats = json.loads(synth(address, *BICUBIC, "--engine", "ray", "--workers", 1, "--json").stdout)
    after = snapshot(tmp_path / "out")
    assert {name: data for name, (_, data) in after.items()} == {name: data for name, (_, data) in before.items()}
    assert after["pairs-000000.tar"] == before["pairs-000000.tar"]
    assert after["pairs-000001.tar"][0] > before["pairs-000001.tar"][0]
    assert list(stats["shards_made_on"].values()) == [2] and stats["pairs_made_now"] == 7
    assert stats["shards_missing"] == 0


def test_a_worker_loads_the_model_once_for_all_its_shards(cluster, tiny_degrader, photo_folder, tmp_path, monkeypatch):
    tiny_degrader.save_pretrained(tmp_path / "tiny")
    log = tmp_path / "loads.txt"

    class Counting(_ShardWorker):
        def start(self, hr_dir):
            from degrade.degrader import RealisticDegrader

            load = RealisticDegrader.from_pretrained

            def counted(name):
                with open(log, "a") as file:
                    file.write(f"{os.getpid()}\n")
                return load(name)

            RealisticDegrader.from_pretrained = counted
            super().start(hr_dir)

    monkeypatch.setattr(ray_cluster, "_ShardWorker", Counting)
    settings = SynthSettings(crop_size=64, crops_per_image=4, shard_size=4)
    job = resolve_job(settings, degrader=str(tmp_path / "tiny"), reference_dir=None)
    with SynthRun.open(photo_folder, tmp_path / "out", job) as run:
        stats = run.run(workers=None, cluster=cluster)
    workers = log.read_text().split()
    assert stats["shards"] == 3 and 1 <= len(workers) <= 2 and len(set(workers)) == len(workers)
    assert str(os.getpid()) not in workers


def test_without_an_address_a_cluster_of_this_machine_comes_and_goes_in_silence(photo_folder, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    arguments = ["-i", photo_folder, "-o", tmp_path / "out", *BICUBIC, "--engine", "ray", "--workers", 1]
    process = subprocess.Popen(
        [sys.executable, "-c", "from cli.degrade_commands import main; main()", "synth", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment,
    )  # fmt: skip
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and errors == ""
    assert output.startswith("12 pairs in 3 shards") and output.count("\n") == 3
    assert gone(process)
    assert not list((tmp_path / "out").glob(".*"))


def test_an_address_is_taken_from_the_option_then_from_the_environment(no_ray, monkeypatch):
    with RayCluster():
        pass
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with RayCluster():
        pass
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with RayCluster("auto"):
        pass
    assert no_ray == ["local", "shutdown", "auto", "shutdown", "auto", "shutdown"]


def test_an_address_where_nobody_answers_is_one_sentence_at_once(no_ray, synth, tmp_path):
    began = time.monotonic()
    output = synth("out", *BICUBIC, "--engine", "ray", "--address", "127.0.0.1:1", status=1).output
    assert output.startswith("Error: no Ray cluster at 127.0.0.1:1 (") and "refused" in output
    assert output.count("\n") == 1 and no_ray == [] and not (tmp_path / "out").exists()
    assert time.monotonic() - began < 5


def test_a_cluster_that_refuses_is_one_sentence(no_ray, synth, monkeypatch):
    def refuse(address, **_):
        raise RuntimeError("Version mismatch: the cluster has Ray 2.1.\nThis process has 2.2.")

    monkeypatch.setattr(ray, "init", refuse)
    output = synth("out", *BICUBIC, "--engine", "ray", "--address", "auto", status=1).output
    assert output == ("Error: no Ray cluster at auto (Version mismatch: the cluster has Ray 2.1); see `ray status`\n")


def test_without_ray_the_sentence_says_how_to_install_it(synth, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    output = synth("out", *BICUBIC, "--engine", "ray", status=1).output
    assert output == "Error: --engine ray needs Ray; pip install 'realistic-degrader[ray]'\n"


def test_sigterm_still_does_what_the_caller_wanted(no_ray, monkeypatch):
    monkeypatch.setattr(ray, "init", lambda *_, **__: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        RayCluster()
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_gpu_on_a_cluster_without_one_is_one_sentence(two_cpus, synth):
    output = synth("out", *BICUBIC, "--engine", "ray", "--device", "cuda", status=1).output
    assert output == "Error: the Ray cluster has no GPU; see `ray status`\n"


def test_a_machine_that_sees_another_folder_is_refused(two_cpus, begun, photo_folder, tmp_path):
    job, address = begun
    with pytest.raises(
        ShardError, match=r"/\w{8} does not see the data set in .*elsewhere; --out must be a folder that"
    ):
        _ShardWorker(job, str(tmp_path / "elsewhere")).start(str(photo_folder))
    assert not (tmp_path / "elsewhere").exists()
    other = resolve_job(SynthSettings(recipe=job.settings.recipe, seed=1), degrader="none", reference_dir=None)
    with pytest.raises(ShardError, match="does not see the data set"):  # of the same name, made with other settings
        _ShardWorker(other, address).start(str(photo_folder))


def test_a_machine_that_sees_no_images_is_refused(two_cpus, begun, photo_folder, tmp_path, threads):
    for place in ("nowhere", "nowhere/pairs-{000000..000003}.tar"):
        with pytest.raises(ShardError, match=r"/\w{8} does not see .*nowhere.*--hr-dir must have the same path on all"):
            _ShardWorker(*begun).start(str(tmp_path / place))
    _ShardWorker(*begun).start(str(tmp_path / "begun" / "pairs-{000000..000003}.tar"))


def test_a_machine_with_other_weights_is_refused(two_cpus, tiny_degrader, photo_folder, tmp_path, threads):
    tiny_degrader.save_pretrained(tmp_path / "tiny")
    job = resolve_job(SynthSettings(crop_size=64), degrader=str(tmp_path / "tiny"), reference_dir=None)
    write_manifest(DiskStore(tmp_path / "out"), job, [b""])
    tiny_degrader.set_bank(torch.zeros(3, 16))
    tiny_degrader.save_pretrained(tmp_path / "tiny")
    with pytest.raises(
        ValueError, match="tiny are not those that this run started with .*install the same ones everywhere"
    ):
        _ShardWorker(job, str(tmp_path / "out")).start(str(photo_folder))


def test_a_worker_removes_what_dead_ones_left_in_the_temporary_folder(
    two_cpus, begun, photo_folder, tmp_path, monkeypatch, threads
):
    job, address = begun
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    store = open_store(f"local://{address}")  # uploads go through a temporary folder, as to an object store
    mine = store.growing("pairs-000000.tar")
    left = mine.with_name(mine.name.replace(str(os.getpid()), dead.stdout.strip()))
    for path in (mine, left):
        path.write_bytes(b"half")
    _ShardWorker(job, store.address).start(str(photo_folder))
    assert mine.exists() and not left.exists()


def test_a_full_disk_in_a_worker_is_the_sentence_of_the_local_engine(two_cpus, synth, tmp_path, monkeypatch):
    class Full(_ShardWorker):
        def make(self, shard, units):
            def full(descriptor):
                raise OSError(errno.ENOSPC, "No space left on device")

            os.fsync = full
            return super().make(shard, units)

    monkeypatch.setattr(ray_cluster, "_ShardWorker", Full)
    told = synth("out", *BICUBIC, "--engine", "ray", "--workers", 1, status=1).output
    assert told.startswith(f"Error: disk full at {tmp_path}/out/pairs-000000.tar: free space") and told.count("\n") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.json", "plan.jsonl"}
    real, synced = os.fsync, []

    def full_after_the_plan(descriptor):
        synced.append(descriptor)
        if len(synced) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full_after_the_plan)
    assert synth("local", *BICUBIC, "--workers", 0, status=1).output == told.replace("/out/", "/local/")


def test_a_shard_that_kills_every_worker_ends_the_run_in_one_sentence(cluster, monkeypatch, tmp_path, caplog):
    deaths = tmp_path / "deaths.txt"

    class Dying:
        def __init__(self, job, address):
            pass

        def start(self, hr_dir):
            pass

        def make(self, shard, units):
            if shard == 1:
                with open(deaths, "a") as file:
                    file.write("one\n")
                os._exit(1)
            return shard

    monkeypatch.setattr(ray_cluster, "MAX_DEATHS", 3)
    made = shards_by(cluster, monkeypatch, tmp_path, Dying)
    assert next(made) == 0
    with pytest.raises(ShardError, match=r"shard 1 has cost 3 workers \(.*\); look at the memory") as told:
        next(made)
    assert "\n" not in str(told.value) and deaths.read_text().count("one") == 3
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == ["shard 1 has lost its worker"] * 2
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_workers_that_die_while_they_start_end_the_run_in_one_sentence(cluster, monkeypatch, tmp_path):
    class Stillborn:
        def __init__(self, job, address):
            raise RuntimeError("no module named degrade")

        def start(self, hr_dir):
            pass

    monkeypatch.setattr(ray_cluster, "MAX_DEATHS", 2)
    with pytest.raises(ShardError, match=r"workers die while they start \(.*\)") as told:
        list(shards_by(cluster, monkeypatch, tmp_path, Stillborn))
    print(told.value)
    assert "\n" not in str(told.value) and "no module named degrade" in str(told.value)


def test_a_worker_that_dies_is_replaced_and_leaves_no_file(cluster, monkeypatch, tmp_path):
    class DyingOnce:
        def __init__(self, job, address):
            self.folder = address

        def start(self, hr_dir):
            pass

        def make(self, shard, units):
            path = f"{self.folder}/.pairs-{shard:06d}.tar.0123456789ab.tmp"
            if shard == 1 and not os.path.exists(path):
                with open(path, "w") as file:
                    file.write("half")
                os._exit(1)
            return shard, len(units)

    foreign = tmp_path / ".pairs-000007.tar.0123456789ab.tmp"  # of a shard that this run does not make
    foreign.write_text("half")
    made = list(shards_by(cluster, monkeypatch, tmp_path, DyingOnce, workers=2))
    assert sorted(made) == [(0, 1), (1, 1), (2, 1)]
    assert list(tmp_path.iterdir()) == [foreign]


def test_work_is_planned_only_when_a_worker_is_free_for_it(cluster, monkeypatch, tmp_path):
    class Quick:
        def __init__(self, job, address):
            pass

        def start(self, hr_dir):
            pass

        def make(self, shard, units):
            return len(units)

    planned = []

    def plan():
        for number in range(600):
            planned.append(number)
            yield SimpleNamespace(shard=number // 3)

    done = 0
    for size in shards_by(cluster, monkeypatch, tmp_path, Quick, units=plan(), count=200, workers=2):
        done += 1
        assert size == 3 and len(planned) <= 3 * (done + 3) + 1  # two at work, one next, the first unit after it
    assert done == 200 and len(planned) == 600


def test_workers_that_find_no_place_do_no_harm(cluster, monkeypatch, tmp_path):
    class Quick:
        def __init__(self, job, address):
            pass

        def start(self, hr_dir):
            pass

        def make(self, shard, units):
            return shard

    made = list(shards_by(cluster, monkeypatch, tmp_path, Quick, count=20, workers=7))
    assert sorted(made) == list(range(20))
    until = time.monotonic() + 20
    while ray.available_resources().get("CPU") != 2:  # nobody works, and nobody took a place that became free
        assert time.monotonic() < until
        time.sleep(0.1)
    time.sleep(1)
    assert ray.available_resources()["CPU"] == 2


def test_a_run_that_is_stopped_stops_its_workers_and_removes_what_they_began(cluster, monkeypatch, tmp_path):
    class Slow:
        def __init__(self, job, address):
            self.folder = address

        def start(self, hr_dir):
            pass

        def make(self, shard, units):
            if not shard:
                time.sleep(8)  # the other worker has begun by then
            else:
                with open(f"{self.folder}/.pairs-{shard:06d}.tar.0123456789ab.tmp", "w") as file:
                    file.write(str(os.getpid()))
                    file.flush()
                    time.sleep(60)
            return shard

    made = shards_by(cluster, monkeypatch, tmp_path, Slow, workers=2)
    assert next(made) == 0
    until = time.monotonic() + 20
    while not (begun := [path.read_text() for path in tmp_path.glob(".*")]) or not all(begun):
        assert time.monotonic() < until
        time.sleep(0.05)
    made.close()
    assert not list(tmp_path.iterdir())
    for process in begun:
        while os.path.exists(f"/proc/{process}"):  # killed, and not yet buried by its raylet
            assert time.monotonic() < until + 20
            time.sleep(0.05)

import errno
import fcntl
import io
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from degrade.errors import ClaimedError, ShardError
from degrade.files import claims as claims_module
from degrade.files import store as store_module
from degrade.files.store import DiskStore, ObjectStore, open_store
from degrade.shards.indexes import write_indexes

KINDS = ("disk", "disk without locks", "local", "memory", "s3")
BEATING = ("disk without locks", "local", "s3")  # whose claims another process sees, and which no system frees

HOLDER = """
import sys, time
sys.path[:0] = {path}
from degrade.files import claims
from degrade.files.store import open_store
claims.BEAT_S = 0.03
if {without_locks}:
    import fcntl, errno
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")
    fcntl.flock = refuse
with open_store({address!r}).claim("run"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def s3():
    """An address below a bucket of a real server on this machine."""
    server = pytest.importorskip("moto.server", reason="moto[server] serves the object store of this test")
    s3fs = pytest.importorskip("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = server.ThreadedMotoServer(port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket"
        s3fs.S3FileSystem.clear_instance_cache()
    moto.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Beats of a human being would make these tests last minutes."""
    monkeypatch.setattr(claims_module, "BEAT_S", 0.03)
    monkeypatch.setattr(claims_module, "POLL_S", 0.02)


@pytest.fixture
def lose_patience(monkeypatch):
    """Call it where an owner is dead: on a busy machine one who lives may be silent for longer."""
    return lambda: monkeypatch.setattr(claims_module, "PATIENCE_S", 0.3)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files, which must be empty after the test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert os.listdir(folder) == []


def refuse_locks(*_):
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def address(kind, tmp_path, request, monkeypatch):
    """Where a store of every kind is, empty."""
    if kind == "disk without locks":
        monkeypatch.setattr(fcntl, "flock", refuse_locks)
    return {
        "disk": lambda: str(tmp_path / "out"),
        "disk without locks": lambda: str(tmp_path / "out"),
        "local": lambda: f"local://{tmp_path}/out",
        "memory": lambda: f"memory://{tmp_path.name}",
        "s3": lambda: f"{request.getfixturevalue('s3')}/{tmp_path.name}",
    }[kind]()


@pytest.fixture
def store(address, temporary):
    return open_store(address)


@pytest.fixture
def holder(address, kind):
    """A process that holds the claim "run"."""
    script = HOLDER.format(path=sys.path, address=address, without_locks=kind == "disk without locks")
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_file_appears_whole_when_its_block_ends(store):
    with store.create("a.json") as file:
        file.write(b"half")
        file.flush()
        assert store.size("a.json") is None and "a.json" not in store.names()
        file.write(b" and half")
    assert store.read("a.json") == b"half and half" and store.size("a.json") == 13
    assert store.names() == ["a.json"]
    with store.open("a.json") as file:
        file.seek(5)
        assert file.read(3) == b"and"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_what_was_there(store, error):
    for before in ([], ["a.json"]):
        with pytest.raises(error), store.create("a.json") as file:
            file.write(b"half")
            raise error
        assert store.names() == before
        store.write("a.json", b"whole")
    assert store.read("a.json") == b"whole"


def test_what_is_not_there_is_said_so_and_can_be_removed_twice(store):
    assert store.names() == [] and store.size("x") is None
    with pytest.raises(FileNotFoundError):
        store.read("x")
    store.write("x", b"1")
    store.remove("x")
    store.remove("x")
    assert store.names() == []


def test_a_new_file_is_put_once(store):
    with store.claim("so that there is a folder"):
        store.put_new("x", b"first")
        with pytest.raises(FileExistsError):
            store.put_new("x", b"second")
        assert store.read("x") == b"first"


def test_indexes_are_written_to_every_kind_of_store(store):
    assert write_indexes(store, planning_failures=[{"source": "x.png", "reason": "empty"}])["failures"] == 1
    assert store.names() == ["_info.json", "failures.jsonl", "stats.json"]
    assert json.loads(store.read("failures.jsonl")) == {"source": "x.png", "reason": "empty"}


def test_a_second_claim_is_refused_with_the_name_of_the_first(store, address):
    with store.claim("run"):
        with pytest.raises(ClaimedError) as refused, open_store(address).claim("run"):
            pass
        with open_store(address).claim("another"):
            pass
    told = str(refused.value)
    assert told.startswith(f"another run (process {os.getpid()} on ") and address in told and "--out" in told
    with store.claim("run"):
        pass  # it is free again


def test_a_claim_leaves_no_file_behind(store):
    with store.claim("run"):
        store.write("result", b"1")
        assert len(store.names()) == 2
    assert store.names() == ["result"]
    with pytest.raises(KeyboardInterrupt), store.claim("run"):
        raise KeyboardInterrupt
    assert store.names() == ["result"]


def test_a_claim_can_be_waited_for(store, address):
    order, holding = [], threading.Event()

    def hold():
        with store.claim("run"):
            holding.set()
            time.sleep(0.5)
            order.append("first is done")

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(10)
    with open_store(address).claim("run", wait=True):
        order.append("second")
    thread.join()
    assert order == ["first is done", "second"]


@pytest.mark.parametrize("kind", ["disk", *BEATING], indirect=True)
def test_the_claim_of_a_killed_process_becomes_free_and_that_of_a_living_one_does_not(store, holder, lose_patience):
    with pytest.raises(ClaimedError, match=f"process {holder.pid} on"), store.claim("run"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lose_patience()
    began = time.monotonic()
    with store.claim("run"):
        waited = time.monotonic() - began
    assert store.names() == []
    assert waited < 0.2 if isinstance(store, DiskStore) and not beats(store) else waited >= 0.3


def beats(store):
    return fcntl.flock is refuse_locks


@pytest.mark.parametrize("kind", ["disk without locks"], indirect=True)
@pytest.mark.parametrize("content", [b"", b"{", b"[1]"])  # killed, or the disk full, between opening and writing
def test_a_claim_that_was_cut_off_is_taken_over(store, content, lose_patience):
    lose_patience()
    store.write(".run.beat", content)
    for wait in (False, True):
        with store.claim("run", wait=wait):
            pass
        assert store.names() == []
        store.write(".run.beat", content)


@pytest.mark.parametrize("kind", BEATING, indirect=True)
def test_who_was_taken_for_dead_leaves_the_claim_to_its_new_owner(store):
    other = json.dumps({"token": "of another", "beat": 3, "owner": "process 1 on elsewhere"}).encode()
    with store.claim("run"):
        store.write(".run.beat", other)
        time.sleep(0.15)
    assert store.read(".run.beat") == other


def test_without_locks_a_claim_leaves_no_lock_either(tmp_path, monkeypatch):
    for gone in ("locks", "the module, as on Windows"):
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", refuse_locks)
            if gone != "locks":
                patch.setitem(sys.modules, "fcntl", None)
            with DiskStore(tmp_path / "out").claim("run"):
                assert [path.name for path in (tmp_path / "out").iterdir()] == [".run.beat"]
        assert not (tmp_path / "out").exists()


def test_an_error_of_the_disk_is_not_taken_for_a_lack_of_locks(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"), DiskStore(tmp_path / "out").claim("run"):
        pass


def test_a_claim_on_a_new_folder_removes_it_unless_something_was_written(tmp_path):
    store = DiskStore(tmp_path / "out")
    with store.claim("run"), store.claim("plan"):
        assert (tmp_path / "out").is_dir()
    assert not (tmp_path / "out").exists()
    with store.claim("run"):
        store.write("result", b"1")
    assert store.names() == ["result"]
    (tmp_path / "mine").mkdir()
    with DiskStore(tmp_path / "mine").claim("run"):
        pass
    assert (tmp_path / "mine").is_dir()


def test_only_growing_files_of_the_named_shards_are_removed_from_a_folder(tmp_path):
    store = DiskStore(tmp_path)
    foreign = [".mine.tmp", ".pairs-000003.tar.backup", "pairs-000003.tar", ".pairs-000003.tar.0123456789ag.tmp"]
    growing = [store.growing(name) for name in ("pairs-000003.tar", "pairs-000004.json", ".run-0-of-1.beat")]
    for path in [*growing, *(tmp_path / name for name in foreign)]:
        path.touch()
    store.remove_stale(["pairs-000004.json"])
    assert [path.exists() for path in growing] == [True, False, True]
    store.remove_stale()
    assert store.names() == sorted(foreign)


def test_only_files_of_dead_processes_are_removed_from_where_uploads_grow(tmp_path, temporary):
    store = ObjectStore(f"local://{tmp_path}/out")
    script = (
        f"import sys; sys.path[:0] = {sys.path}\n"
        "import os, signal, tempfile; from degrade.files.store import open_store\n"
        f"tempfile.tempdir = {str(temporary)!r}\n"
        f"with open_store('local://{tmp_path}/out').create('pairs-000000.tar') as file:\n"
        "    file.write(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    (dead,) = os.listdir(temporary)
    elsewhere = temporary / f"{dead.rpartition('-')[0]}-{'0' * 12}"  # of another machine, or container
    elsewhere.touch()
    with store.create("pairs-000001.tar") as file:
        file.write(b"mine")
        store.remove_stale()
        assert dead not in os.listdir(temporary) and len(os.listdir(temporary)) == 2
    assert store.names() == ["pairs-000001.tar"] and os.listdir(temporary) == [elsewhere.name]
    elsewhere.unlink()


def test_an_upload_that_arrives_short_is_no_upload(tmp_path, temporary, monkeypatch):
    store = ObjectStore(f"local://{tmp_path}/out")
    monkeypatch.setattr(type(store.files), "put_file", lambda _, __, path: Path(path).write_bytes(b"hal"))
    with pytest.raises(ShardError, match="has 3 bytes after an upload of 4; run it again"):
        store.write("a", b"half")


def test_a_full_disk_for_what_grows_is_named_rather_than_the_object_store(tmp_path, temporary, monkeypatch):
    monkeypatch.setattr(store_module, "open", lambda *_: io.BufferedWriter(io.FileIO("/dev/full", "w")), raising=False)
    with pytest.raises(ShardError, match=rf"^disk full at {temporary} \(TMPDIR\), which holds local://.*/a until"):
        ObjectStore(f"local://{tmp_path}/out").write("a", bytes(100_000))


def test_an_address_of_a_file_is_a_folder(tmp_path):
    store = open_store(f"file://{tmp_path}/out")
    assert isinstance(store, DiskStore) and store.folder == tmp_path / "out"
    assert open_store(store) is store


@pytest.mark.parametrize("address", ["nonsense://bucket/x", "abfs://container/x"])  # unknown; its package is missing
def test_a_scheme_that_cannot_be_opened_is_one_sentence(address):
    with pytest.raises(ShardError, match=rf"^{address} cannot be opened \(.*\); s3:// needs `pip install") as told:
        open_store(address)
    assert "\n" not in str(told.value)


def test_a_bucket_that_does_not_exist_is_one_sentence_and_is_not_made(s3, temporary):
    store = open_store("s3://nobody-made-this/out")
    for attempt in (lambda: store.write("x", b"1"), lambda: store.claim("run").__enter__()):
        with pytest.raises(ShardError, match="^cannot write s3://nobody-made-this/out/.*bucket does not exist") as told:
            attempt()
        assert "\n" not in str(told.value)
    assert store.names() == [] and store.size("x") is None
    assert [name.strip("/") for name in store.files.ls("", refresh=True)] == ["bucket"]


OPERATIONS = {
    "names": lambda store: store.names(),
    "read": lambda store: store.read("x"),
    "open": lambda store: store.open("x").__enter__().read(),
    "size": lambda store: store.size("x"),
    "write": lambda store: store.write("x", b"1"),
    "remove": lambda store: store.remove("x"),
    "claim": lambda store: store.claim("run").__enter__(),
}


@pytest.fixture
def impatient(s3, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("trouble", ["no server", "no credentials"])
def test_an_object_store_without_access_is_one_sentence(impatient, temporary, monkeypatch, operation, trouble):
    if trouble == "no server":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    else:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(name, os.devnull)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ShardError, match=r"^no access to s3://bucket/out.* \(.+\): fix this and run") as told:
        OPERATIONS[operation](open_store("s3://bucket/out"))
    assert "\n" not in str(told.value)


def test_pairs_are_read_from_an_object_store_by_its_prefix(s3, tmp_path):
    from degrade.images.codec import encode_image
    from degrade.shards.layout import sample_key
    from degrade.shards.reader import read_pairs
    from degrade.shards.record import SampleMeta
    from degrade.shards.writer import PairShardWriter

    place = f"{s3}/{tmp_path.name}"
    images = [encode_image(np.full((side, side, 3), 9, np.uint8), "png") for side in (32, 8)]
    fields = {name: kind() for name, kind in SampleMeta.__annotations__.items()}
    for shard in range(2):
        with PairShardWriter(place, shard) as writer:
            for slot in (2 * shard, 2 * shard + 1):
                record = SampleMeta(**{**fields, "key": sample_key(slot), "kind": "recipe"})
                writer.write(sample_key(slot), *images, record.to_json())
    assert [pair["key"] for pair in read_pairs(place)] == [sample_key(slot) for slot in range(4)]
    assert next(iter(read_pairs(f"{place}/pairs-000001.tar")))["hr"].shape == (3, 32, 32)
    with pytest.raises(ValueError, match="holds no .tar files"):
        read_pairs(f"{place}/nothing")


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "\u00e9" * 120 + ".webp"])
def test_a_name_as_long_as_the_disk_allows_can_be_written(tmp_path, temporary, name):
    for store in (DiskStore(tmp_path / "disk"), ObjectStore(f"local://{tmp_path / 'objects'}")):
        store.write(name, b"whole")
        assert store.names() == [name] and store.read(name) == b"whole"
        assert len(os.fsencode(store.growing(name).name)) < 143  # the longest name in an encrypted home folder

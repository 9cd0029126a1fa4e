"""RayCluster: the shards of a plan made by the machines of a Ray cluster, each by one idempotent task.

A worker loads the model once, and writes the shards that it is given where all can see them. Whoever dies is replaced,
and the shard is given out again: made twice, it has the same bytes. Machines that join while the run goes on get work.
An answer that is lost costs a shard made twice, never one that is missing.
"""

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import cv2
import torch

from degrade.errors import ShardError, is_address
from degrade.files.store import DiskStore, Store, open_store
from degrade.shards.layout import remove_stale
from degrade.shards.writer import PairShardWriter
from degrade.synth.job import Job
from degrade.synth.manifest import read_manifest
from degrade.synth.plan import Unit
from degrade.synth.unit_maker import Progress, UnitMaker

MAX_DEATHS = 5  # of workers at one shard, which then must be what kills them; and of workers of which none ever began
RECOUNT_S = 5.0  # how often machines that joined are looked for
REACH_S = 10.0  # for a cluster to be found at an address
STOP_S = 10.0  # for workers that are stopped to be gone

_log = logging.getLogger(__name__)


class RayCluster:
    """A connection to a Ray cluster, to be used in a ``with`` block.

    A run survives the death of workers and of machines, also of the one that it was started on. It does not survive
    that of the head node: after 60 s (``RAY_gcs_rpc_server_reconnect_timeout_s``) Ray ends the process, with a line of
    its own and exit status 1, which no Python code can catch. What was finished is kept, as after ``kill -9``.

    Args:
        address: of the cluster, "auto" for the one that runs on this machine; None for the one that ``RAY_ADDRESS``
            names, or, without that, for one of this machine alone, which ends with the block. Where the caller has
            called ``ray.init``, that cluster is used, and goes on.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns on machines without a GPU
        try:
            import ray
        except ImportError as error:
            raise ValueError("--engine ray needs Ray; pip install 'realistic-degrader[ray]'") from error
        self._ray = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            # without "local" Ray would join whatever was last started on this machine
            place = address or os.environ.get("RAY_ADDRESS") or "local"
            try:
                _refuse_unreachable(place)
                with _sigterm_kept():
                    ray.init(place, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
            except (OSError, RuntimeError, ValueError) as error:
                raise ValueError(f"no Ray cluster at {place} ({_first_line(error)}); see `ray status`") from error
            # of every worker and machine that dies Ray would print twenty lines of log, into our stdout
            ray._private.worker._worker_logs_enabled = False

    def __enter__(self) -> "RayCluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ours:
            self._ray.shutdown()

    def shards(
        self, store: Store, job: Job, units: Iterator[Unit], *, count: int, workers: int | None, hr_dir: Path
    ) -> Generator[Progress]:
        """Make shards.

        Args:
            store: where they are written; every machine must see it.
            job: settings and model.
            units: of the shards that are to be made, in order; taken as they are needed.
            count: of these shards.
            workers: at most so many; None for one on every CPU, or every GPU, of the cluster.
            hr_dir: where the images are; every machine must see it under this path.

        Yields:
            What was done, shard by shard, in the order in which they are finished.

        Raises:
            ShardError: the store is full or not writable, a shard kills all that try it, or a machine sees another
                store, no images, or other weights.
        """
        ray = self._ray
        kind = "GPU" if job.settings.device.startswith("cuda") else "CPU"
        available = self.available(kind)
        if not available:
            raise ShardError(f"the Ray cluster has no {kind}; see `ray status`")
        gpus = 1 / -(-(workers or 1) // available) if kind == "GPU" else 0  # several to one only if asked for more
        worker_class = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_ShardWorker)
        address = store.address if is_address(store.address) else str(Path(store.address).absolute())
        tasks = _Tasks(units)
        busy: dict[Any, tuple[Any, _Task | None]] = {}  # by the answer to come: worker, and its task, None = it starts
        wanted, counted, unborn = 0, -RECOUNT_S, 0
        try:
            while tasks or any(task for _, task in busy.values()):
                if time.monotonic() - counted > RECOUNT_S:
                    wanted, counted = min(count, workers or max(1, self.available(kind))), time.monotonic()
                while tasks and len(busy) < wanted:
                    worker = worker_class.remote(job, address)
                    busy[worker.start.remote(str(hr_dir))] = worker, None
                finished, _ = ray.wait(list(busy), timeout=RECOUNT_S)
                for answer in finished:
                    worker, task = busy.pop(answer)
                    try:
                        progress = ray.get(answer)
                    except ray.exceptions.RayTaskError as error:
                        if isinstance(error.cause, (OSError, ValueError)):
                            raise error.cause from None
                        raise
                    except ray.exceptions.RayError as error:  # the worker, or its machine, has died
                        ray.kill(worker)  # or cannot be reached
                        if task is not None:
                            tasks.give_back(task, error)
                            continue
                        unborn += 1
                        if unborn >= MAX_DEATHS and not any(task for _, task in busy.values()):
                            raise ShardError(f"workers die while they start ({_last_line(error)})") from error
                        continue
                    unborn = 0
                    if task is not None:
                        yield progress
                    if tasks:
                        task = tasks.take()
                        busy[worker.make.remote(task.shard, task.units)] = worker, task
                    else:
                        ray.kill(worker)
        finally:
            self._stop(busy)
            unfinished = {task.shard for _, task in busy.values() if task is not None}
            with contextlib.suppress(OSError):  # else the next run removes it
                remove_stale(store, tasks.died_of | unfinished)

    def _stop(self, busy: dict[Any, tuple[Any, "_Task | None"]]) -> None:
        """Kill workers, and wait until they are dead: until then they may begin a file."""
        for worker, _ in busy.values():
            self._ray.kill(worker)
        if working := [answer for answer, (_, task) in busy.items() if task is not None]:
            self._ray.wait(working, num_returns=len(working), timeout=STOP_S)

    def available(self, kind: str) -> int:
        """How many of a ``kind``, "CPU" or "GPU", the cluster has."""
        return int(self._ray.cluster_resources().get(kind, 0))


class _Task(NamedTuple):
    shard: int
    units: list[Unit]
    deaths: int = 0


class _Tasks:
    """Shards to give out: those that a worker died of, then those of the plan, which is read as they are needed."""

    def __init__(self, units: Iterator[Unit]) -> None:
        self._planned = (_Task(shard, list(own)) for shard, own in groupby(units, key=lambda unit: unit.shard))
        self._next: deque[_Task] = deque()
        self.died_of: set[int] = set()

    def __bool__(self) -> bool:
        if not self._next:
            self._next.extend(islice(self._planned, 1))
        return bool(self._next)

    def take(self) -> _Task:
        return self._next.popleft()

    def give_back(self, task: _Task, error: Exception) -> None:
        """To be tried again; a `ShardError` when it has cost too many workers."""
        self.died_of.add(task.shard)
        if task.deaths + 1 >= MAX_DEATHS:
            raise ShardError(
                f"shard {task.shard} has cost {MAX_DEATHS} workers ({_first_line(error)}); look at the memory of the "
                "machines, use fewer --workers, or leave out images by --max-pixels; finished shards are kept"
            ) from error
        _log.warning("shard %d has lost its worker (%s); it is made again", task.shard, _first_line(error))
        self._next.appendleft(task._replace(deaths=task.deaths + 1))


class _ShardWorker:
    """An actor: one process on some machine of the cluster."""

    def __init__(self, job: Job, address: str) -> None:
        self.job, self.address = job, address  # nothing here that can fail: Ray takes that for a death

    def start(self, hr_dir: str) -> None:
        """Load the model, and refuse to work where files would be lost or missed."""
        import ray

        self.host = f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:8]}"
        self.store = open_store(self.address)
        if not isinstance(self.store, DiskStore):
            self.store.remove_stale()  # of workers that died on this machine; on a shared disk others are writing
        manifest = read_manifest(self.store)
        if manifest is None or manifest["settings_hash"] != self.job.settings.hash():
            raise ShardError(
                f"{self.host} does not see the data set in {self.store}; --out must be a folder that all machines "
                "share, or an address such as s3://bucket/prefix"
            )
        # of a brace pattern the folder is looked for
        if not os.path.exists(hr_dir if "{" not in hr_dir else os.path.dirname(hr_dir)):
            raise ShardError(f"{self.host} does not see {hr_dir}; --hr-dir must have the same path on all machines")
        torch.set_num_threads(1)  # as many workers as cores already, and the bytes must not depend on it
        cv2.setNumThreads(1)
        self.maker = UnitMaker(self.job)

    def make(self, shard: int, units: list[Unit]) -> Progress:
        """Write one shard; the answer comes after its done marker."""
        total = Progress(host=self.host)
        with PairShardWriter(self.store, shard) as writer:
            for unit in units:
                total += self.maker.make(unit).write(writer, self.job.settings)
        return total


def _refuse_unreachable(address: str) -> None:
    """Knock first: Ray would try for a quarter of an hour, and print why every few seconds.

    Raises:
        OSError: nobody answers.
    """
    host, _, port = address.rpartition(":")
    if "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Ray sets handlers of its own, by which SIGTERM aborts the process with a stack trace."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _last_line(error: Exception) -> str:
    """Where Ray puts what a worker raised while it was made."""
    return str(error).strip().rpartition("\n")[2].rstrip(". ")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(". ")

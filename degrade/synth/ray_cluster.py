"""Make the shards of a plan on the machines of a Ray cluster, each shard by one idempotent task.

A worker loads the model once, and writes its shards to a store that all machines can see. A worker that dies is
replaced, and its shard is given out again: made twice, a shard has the same bytes. Machines that join during the run
get work too. If the answer of a worker is lost, its shard is made twice; a shard is never missing.
"""

import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch

from degrade.errors import ShardError, is_address
from degrade.files.platform import sigterm_kept
from degrade.files.store import DiskStore, Store, open_store
from degrade.shards.layout import remove_stale
from degrade.synth.job import Job
from degrade.synth.manifest import read_manifest
from degrade.synth.plan import Unit
from degrade.synth.unit_maker import UnitMaker, WorkDone, part_writer

MAX_DEATHS = 5  # give up after so many worker deaths on one shard, or so many workers in a row that did not start
RECOUNT_S = 5.0  # time between looks for machines that joined
REACH_S = 10.0  # time in which a cluster must answer at its address
STOP_S = 10.0  # time in which workers that are killed must be gone

_log = logging.getLogger(__name__)


class RayCluster(contextlib.AbstractContextManager["RayCluster"]):
    """Connect to a Ray cluster, for the length of a ``with`` block.

    A run survives the death of workers and machines, even of the machine where it was started, but not the death of
    the head node: after 60 s (``RAY_gcs_rpc_server_reconnect_timeout_s``) Ray ends the process with exit status 1 and
    a line of its own, which no Python code can catch. Finished shards are kept, as after ``kill -9``.

    Args:
        address: address of the cluster, or "auto" for the cluster that runs on this machine. None uses the cluster
            that ``RAY_ADDRESS`` names, or else starts one on this machine alone, which ends with the block. If the
            caller has called ``ray.init``, that cluster is used and left running.

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
            # without "local", Ray would join the cluster that was last started on this machine
            place = address or os.environ.get("RAY_ADDRESS") or "local"
            try:
                _refuse_unreachable(place)
                with sigterm_kept():
                    ray.init(place, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
            except (OSError, RuntimeError, ValueError) as error:
                raise ValueError(f"no Ray cluster at {place} ({_first_line(error)}); see `ray status`") from error
            # for each worker or machine that dies, Ray would print twenty lines of log to our stdout
            ray._private.worker._worker_logs_enabled = False

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._ray.shutdown()

    def shards(
        self, store: Store, job: Job, units: Iterator[Unit], *, count: int, workers: int | None, hr_dir: Path
    ) -> Generator[WorkDone]:
        """Make shards.

        Args:
            store: where to write the shards; every machine must see it.
            job: settings and model.
            units: units of the shards to make, in order; read as they are needed.
            count: number of these shards.
            workers: most workers to use; None for one on every CPU, or every GPU, of the cluster.
            hr_dir: where the images are; every machine must see them under this path.

        Yields:
            The work done, shard by shard, in the order in which they are finished.

        Raises:
            ShardError: the store is full or not writable, a shard kills all workers that try it, or a machine sees
                another store, no images, or other weights.
        """
        kind = "GPU" if job.settings.device.startswith("cuda") else "CPU"
        available = self.available(kind)
        if not available:
            raise ShardError(f"the Ray cluster has no {kind}; see `ray status`")
        gpus = 1 / -(-(workers or 1) // available) if kind == "GPU" else 0  # workers share a GPU only if asked for more
        worker_class = self._ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_ShardWorker)
        address = store.address if is_address(store.address) else str(Path(store.address).absolute())
        tasks = _Tasks(units)
        pool = _Pool(
            self._ray,
            new_worker=lambda: worker_class.remote(job, address),
            hr_dir=hr_dir,
            size=lambda: min(count, workers or max(1, self.available(kind))),
        )
        try:
            while tasks or pool.has_work():
                pool.fill(tasks)
                for worker, task, answer in pool.answers():
                    if isinstance(answer, Exception):
                        if task is not None:
                            tasks.give_back(task, answer)
                        continue
                    if task is not None:
                        yield answer
                    if tasks:
                        pool.give(worker, tasks.take())
                    else:
                        self._ray.kill(worker)
        finally:
            unfinished = pool.stop()
            with contextlib.suppress(OSError):  # if this fails, the next run removes them
                remove_stale(store, tasks.died_of | unfinished)

    def available(self, kind: str) -> int:
        """Return how many of a ``kind``, "CPU" or "GPU", the cluster has."""
        return int(self._ray.cluster_resources().get(kind, 0))


class _Task(NamedTuple):
    """Describe one shard to make, and how many workers died on it."""

    shard: int
    units: list[Unit]
    deaths: int = 0


class _Tasks:
    """Give out shards: first those that a worker died on, then those of the plan, which is read as needed."""

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
        """Put a task back after the death of its worker; raise a `ShardError` after `MAX_DEATHS` of them."""
        self.died_of.add(task.shard)
        if task.deaths + 1 >= MAX_DEATHS:
            raise ShardError(
                f"shard {task.shard} has cost {MAX_DEATHS} workers ({_first_line(error)}); look at the memory of the "
                "machines, use fewer --workers, or leave out images by --max-pixels; finished shards are kept"
            ) from error
        _log.warning("shard %d has lost its worker (%s); it is made again", task.shard, _first_line(error))
        self._next.appendleft(task._replace(deaths=task.deaths + 1))


class _Pool:
    """Start workers, give them tasks and collect their answers.

    Args:
        ray: the ray module.
        new_worker: starts a `_ShardWorker` on some machine.
        hr_dir: where the images are.
        size: returns how many workers there should be; asked again every `RECOUNT_S`.
    """

    def __init__(self, ray: Any, new_worker: Callable[[], Any], hr_dir: Path, size: Callable[[], int]) -> None:
        self._ray, self._new_worker, self._hr_dir, self._wanted_size = ray, new_worker, hr_dir, size
        self._busy: dict[Any, tuple[Any, _Task | None]] = {}  # by pending answer; the task of a starting worker is None
        self._size, self._counted = 0, -RECOUNT_S
        self._failed_starts = 0

    def has_work(self) -> bool:
        """Tell whether a worker is at a task."""
        return any(task for _, task in self._busy.values())

    def fill(self, tasks: _Tasks) -> None:
        """Start workers up to the size of the pool, as long as there are tasks for them."""
        if time.monotonic() - self._counted > RECOUNT_S:
            self._size, self._counted = self._wanted_size(), time.monotonic()
        while tasks and len(self._busy) < self._size:
            worker = self._new_worker()
            self._busy[worker.start.remote(str(self._hr_dir))] = worker, None

    def give(self, worker: Any, task: _Task) -> None:
        """Let a worker make a shard."""
        self._busy[worker.make.remote(task.shard, task.units)] = worker, task

    def answers(self) -> Iterator[tuple[Any, _Task | None, Any]]:
        """Wait a while for workers to finish.

        Yields:
            A worker, its task (None if it has just started), and its answer: the work done, or an error of Ray if the
            worker or its machine has died.

        Raises:
            ShardError: a worker cannot go on, or `MAX_DEATHS` workers in a row died while they started.
        """
        finished, _ = self._ray.wait(list(self._busy), timeout=RECOUNT_S)
        for pending in finished:
            worker, task = self._busy.pop(pending)
            try:
                answer = self._ray.get(pending)
                self._failed_starts = 0
            except self._ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, (OSError, ValueError)):
                    raise error.cause from None
                raise
            except self._ray.exceptions.RayError as error:
                self._ray.kill(worker)  # it may still live, out of reach
                if task is None:
                    self._count_failed_start(error)
                answer = error
            yield worker, task, answer

    def _count_failed_start(self, error: Exception) -> None:
        self._failed_starts += 1
        if self._failed_starts >= MAX_DEATHS and not self.has_work():
            raise ShardError(f"workers die while they start ({_last_line(error)})") from error

    def stop(self) -> set[int]:
        """Kill all workers, and wait until they are dead: until then they may begin a file.

        Returns:
            Numbers of the shards that were not finished.
        """
        for worker, _ in self._busy.values():
            self._ray.kill(worker)
        working = {pending: task.shard for pending, (_, task) in self._busy.items() if task is not None}
        if working:
            self._ray.wait(list(working), num_returns=len(working), timeout=STOP_S)
        return set(working.values())


class _ShardWorker:
    """Make shards in one process on some machine of the cluster (a Ray actor)."""

    def __init__(self, job: Job, address: str) -> None:
        self.job, self.address = job, address  # nothing here may fail: Ray would take that for a death

    def start(self, hr_dir: str) -> None:
        """Load the model, and refuse to work where the data set, the images or the weights are not the same."""
        import ray

        self.host = f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:8]}"
        self.store = open_store(self.address)
        if not isinstance(self.store, DiskStore):
            self.store.remove_stale()  # left by workers that died on this machine; on a shared disk others are writing
        manifest = read_manifest(self.store)
        if manifest is None or manifest["settings_hash"] != self.job.settings.hash():
            raise ShardError(
                f"{self.host} does not see the data set in {self.store}; --out must be a folder that all machines "
                "share, or an address such as s3://bucket/prefix"
            )
        # for a brace pattern, look for its folder
        if not os.path.exists(hr_dir if "{" not in hr_dir else os.path.dirname(hr_dir)):
            raise ShardError(f"{self.host} does not see {hr_dir}; --hr-dir must have the same path on all machines")
        torch.set_num_threads(1)  # there are as many workers as cores, and the bytes must not depend on threads
        cv2.setNumThreads(1)
        self.maker = UnitMaker(self.job)

    def make(self, shard: int, units: list[Unit]) -> WorkDone:
        """Write one shard, and return after its done marker is written."""
        total = WorkDone(host=self.host)
        with part_writer(self.store, shard, self.job.settings) as writer:
            for unit in units:
                total += self.maker.make(unit).write(writer, self.job.settings)
        return total


def _refuse_unreachable(address: str) -> None:
    """Try to connect first, because Ray tries for a quarter of an hour and prints why every few seconds.

    Raises:
        OSError: nothing answers at the address.
    """
    host, _, port = address.rpartition(":")
    if "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()


def _last_line(error: Exception) -> str:
    """Return the last line of an error, where Ray puts what a worker raised in its constructor."""
    return str(error).strip().rpartition("\n")[2].rstrip(". ")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(". ")

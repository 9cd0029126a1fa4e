"""RayCluster: the shards of a plan made by the machines of a Ray cluster, each by one idempotent task.

A worker loads the model once, and writes the shards that it is given where all can see them. Whoever dies is replaced,
and the shard is given out again: made twice, it has the same bytes. Machines that join while the run goes on get work.
"""

import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Generator, Iterator
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import cv2
import torch

from degrade.job import Job
from degrade.manifest import read_manifest
from degrade.plan import Unit
from degrade.shards import PairShardWriter
from degrade.store import Store, is_address, open_store
from degrade.tars import ShardError
from degrade.unit_maker import Progress, UnitMaker

MAX_DEATHS = 5  # of workers at one shard, which then must be what kills them; and of workers that never began
RECOUNT_S = 5.0  # how often machines that joined are looked for


class RayCluster:
    """A connection to a Ray cluster, to be used in a ``with`` block.

    Args:
        address: of the cluster, "auto" for the one that runs on this machine; None for the one that ``RAY_ADDRESS``
            names, or, without that, for one of this machine alone, which ends with the block.

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
            try:
                ray.init(address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                place = address or "this machine"
                raise ValueError(f"no Ray cluster at {place} ({_first_line(error)}); see `ray status`") from error

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
        available = self._available(kind)
        if not available:
            raise ShardError(f"the Ray cluster has no {kind}; see `ray status`")
        gpus = 0.0 if kind == "CPU" else min(1.0, available / (workers or available))
        worker_class = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_ShardWorker)
        address = store.address if is_address(store.address) else str(Path(store.address).absolute())
        tasks = _Tasks(units)
        busy: dict[
            Any, tuple[Any, _Task | None]
        ] = {}  # worker and what it does, by the answer to come; None = it starts
        wanted, counted, unborn = 0, -RECOUNT_S, 0
        try:
            while tasks or any(task for _, task in busy.values()):
                if time.monotonic() - counted > RECOUNT_S:
                    wanted, counted = min(count, workers or max(1, self._available(kind))), time.monotonic()
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
                        unborn += task is None
                        if unborn > MAX_DEATHS:
                            raise ShardError(f"workers die while they start ({_first_line(error)})") from error
                        if task is not None:
                            tasks.give_back(task, error)
                        continue
                    if task is not None:
                        yield progress
                    if tasks:
                        task = tasks.take()
                        busy[worker.make.remote(task.shard, task.units)] = worker, task
                    else:
                        ray.kill(worker)
        except ray.exceptions.RayConnectionError as error:
            raise ShardError(
                f"the Ray cluster has gone ({_first_line(error)}); run the same command again, finished shards are kept"
            ) from error
        finally:
            for worker, _ in busy.values():
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.kill(worker)

    def _available(self, kind: str) -> int:
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

    def __bool__(self) -> bool:
        if not self._next:
            self._next.extend(islice(self._planned, 1))
        return bool(self._next)

    def take(self) -> _Task:
        return self._next.popleft()

    def give_back(self, task: _Task, error: Exception) -> None:
        """To be tried again; a `ShardError` when it has cost too many workers."""
        if task.deaths + 1 >= MAX_DEATHS:
            raise ShardError(
                f"shard {task.shard} has cost {MAX_DEATHS} workers ({_first_line(error)}); look at the memory of the "
                "machines, use fewer --workers, or leave out images by --max-pixels; finished shards are kept"
            ) from error
        self._next.appendleft(task._replace(deaths=task.deaths + 1))


class _ShardWorker:
    """An actor: one process on some machine of the cluster."""

    def __init__(self, job: Job, address: str) -> None:
        self.job, self.store = job, open_store(address)
        self.host = socket.gethostname()

    def start(self, hr_dir: str) -> None:
        """Load the model, and refuse to work where files would be lost or missed."""
        import ray

        self.host += f"/{ray.get_runtime_context().get_node_id()[:8]}"
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


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(". ")

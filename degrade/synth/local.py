"""Make the shards of a plan on this machine: units go out to worker processes, and their results into tars."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import groupby
from multiprocessing import connection

import cv2
import torch

from degrade.errors import ShardError
from degrade.files.store import Store
from degrade.shards.writer import PairShardWriter
from degrade.synth.job import Job
from degrade.synth.plan import Unit
from degrade.synth.unit_maker import UnitMaker, UnitResult, WorkDone

IN_FLIGHT_PER_WORKER = 3  # units sent out ahead of the one that is written


def local_shards(store: Store, job: Job, units: Iterator[Unit], workers: int) -> Generator[WorkDone]:
    """Make shards on this machine. This process writes them, in the order of the plan.

    Args:
        store: where to write the shards.
        job: settings and model.
        units: units of the shards to make, in order; read as they are needed.
        workers: number of worker processes; 0 works in this process.

    Yields:
        The work done, unit by unit.

    Raises:
        ShardError: the store is full or not writable, or a process died.
    """
    with _unit_results(job, units, workers) as results:
        for shard, results_of_shard in groupby(results, key=lambda result: result[0].shard):
            with PairShardWriter(store, shard) as writer:
                for _, result in results_of_shard:
                    yield result.write(writer, job.settings)


@contextmanager
def _unit_results(job: Job, units: Iterable[Unit], workers: int) -> Iterator[Iterator[tuple[Unit, UnitResult]]]:
    """Yield an iterator of units and their results, in order; only a few units are in flight at a time."""
    if not workers:
        maker = UnitMaker(job)
        yield ((unit, maker.make(unit)) for unit in units)
        return
    # spawn: a forked torch with its threads may hang, and a forked CUDA fails
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(job,))

    def in_order() -> Iterator[tuple[Unit, UnitResult]]:
        waiting: deque[tuple[Unit, Future[UnitResult]]] = deque()
        for unit in units:
            with _signals_blocked(), _death_explained():  # submitting starts processes, and may find them dead
                waiting.append((unit, pool.submit(_work, unit)))
            if len(waiting) >= workers * IN_FLIGHT_PER_WORKER:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())

    try:
        yield in_order()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block SIGINT and SIGTERM while workers start, because the pool would never stop a half-started one.

    Workers inherit the block. They unblock SIGTERM and never see Ctrl-C: the parent stops them, without tracebacks.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _death_explained() -> Iterator[None]:
    """Turn the death of a worker into a `ShardError` with the way out."""
    try:
        yield
    except BrokenProcessPool as err:
        raise ShardError(
            "a worker process died (out of memory?); run the same command again with fewer --workers: "
            "finished shards are kept"
        ) from err


_worker: UnitMaker


def _start_worker(job: Job) -> None:
    global _worker  # one per process: the model is loaded once, not with every unit
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # once: switching back and forth halves the speed, as idle threads spin on other cores
    cv2.setNumThreads(1)  # the processes already share the cores
    _worker = UnitMaker(job)


def _die_with_parent() -> None:
    """End this worker when its parent dies; after a ``kill -9`` of the parent it would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _work(unit: Unit) -> UnitResult:
    return _worker.make(unit)


def _result(unit: Unit, future: "Future[UnitResult]") -> tuple[Unit, UnitResult]:
    with _death_explained():
        return unit, future.result()

"""The shards of a plan made on this machine: units of work out to processes, their results back, and into tars."""

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
from degrade.synth.unit_maker import Made, Progress, UnitMaker

IN_FLIGHT_PER_WORKER = 3


def local_shards(store: Store, job: Job, units: Iterator[Unit], workers: int) -> Generator[Progress]:
    """Make shards on this machine; this process writes them, in the order of the plan.

    Args:
        store: where they are written.
        job: settings and model.
        units: of the shards that are to be made, in order; taken as they are needed.
        workers: processes; 0 works in this one.

    Yields:
        What was done, unit by unit.

    Raises:
        ShardError: the store is full or not writable, or a process died.
    """
    with _unit_results(job, units, workers) as results:
        for shard, made_of_shard in groupby(results, key=lambda result: result[0].shard):
            with PairShardWriter(store, shard) as writer:
                for _, made in made_of_shard:
                    yield made.write(writer, job.settings)


@contextmanager
def _unit_results(job: Job, todo: Iterable[Unit], workers: int) -> Iterator[Iterator[tuple[Unit, Made]]]:
    """Units and their results, in order, made here or by processes, a few ahead and no more."""
    if not workers:
        maker = UnitMaker(job)
        yield ((unit, maker.make(unit)) for unit in todo)
        return
    # spawn: a forked torch with its threads may hang, a forked CUDA fails
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(job,))

    def in_order() -> Iterator[tuple[Unit, Made]]:
        waiting: deque[tuple[Unit, Future[Made]]] = deque()
        for unit in todo:
            with _signals_held(), _death_told():  # submitting starts processes, and may find them dead
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
def _signals_held() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM wait: a process that was half started would never be told to end.

    Processes started here inherit that. Of Ctrl-C for good, since the parent ends them, without tracebacks.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _death_told() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as err:
        raise ShardError(
            "a worker process died (out of memory?); run the same command again, with fewer --workers: "
            "finished shards are kept"
        ) from err


_worker: UnitMaker


def _start_worker(job: Job) -> None:
    global _worker  # one per process: the model is loaded once, not with every unit
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # for good: to and fro costs half the speed, as idle threads spin on the neighbour's core
    cv2.setNumThreads(1)  # the processes share the cores already
    _worker = UnitMaker(job)


def _die_with_parent() -> None:
    """After a ``kill -9`` of the parent, its workers would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _work(unit: Unit) -> Made:
    return _worker.make(unit)


def _result(unit: Unit, future: "Future[Made]") -> tuple[Unit, Made]:
    with _death_told():
        return unit, future.result()

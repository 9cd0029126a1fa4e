"""Units of work out to processes and their results back, in order, a few ahead and no more."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection

import cv2
import torch

from degrade.job import Job
from degrade.plan import PlannedSource, Unit
from degrade.sources import Source
from degrade.tars import ShardError
from degrade.unit_maker import Made, UnitMaker

IN_FLIGHT_PER_WORKER = 3


@contextmanager
def unit_results(
    job: Job, todo: Iterable[Unit], planned: Sequence[PlannedSource], sources: Mapping[str, Source], workers: int
) -> Iterator[Iterator[Made]]:
    """Results of the units in their order, made here (``workers`` 0) or by processes.

    Args:
        job: settings and model.
        todo: units, taken as they are needed.
        planned: what their ``source`` counts through.
        sources: where to read images, by name; a missing one gives failures.
        workers: processes.

    Raises:
        ShardError: while iterating, when a process died.
    """

    def arguments(unit: Unit) -> tuple[Unit, PlannedSource, Source]:
        name = planned[unit.source].name
        return unit, planned[unit.source], sources.get(name) or Source(name, 1, f"{name} (gone)")

    if not workers:
        maker = UnitMaker(job)
        yield (maker.make(*arguments(unit)) for unit in todo)
        return
    # spawn: a forked torch with its threads may hang, a forked CUDA fails
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(job,))

    def in_order() -> Iterator[Made]:
        waiting: deque[Future[Made]] = deque()
        for unit in todo:
            with _ctrl_c_held():  # submitting starts processes
                waiting.append(pool.submit(_work, *arguments(unit)))
            if len(waiting) >= workers * IN_FLIGHT_PER_WORKER:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())

    try:
        yield in_order()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Inside, Ctrl-C waits. Processes started here inherit that for good: the parent ends them, without tracebacks."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_worker: UnitMaker


def _start_worker(job: Job) -> None:
    global _worker  # one per process: the model is loaded once, not with every unit
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


def _work(unit: Unit, planned: PlannedSource, source: Source) -> Made:
    return _worker.make(unit, planned, source)


def _result(future: "Future[Made]") -> Made:
    try:
        return future.result()
    except BrokenProcessPool as err:
        raise ShardError(
            "a worker process died (out of memory?); run the same command again, with fewer --workers: "
            "finished shards are kept"
        ) from err

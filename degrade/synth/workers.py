"""Do work in processes of this machine, in order, and stop them in good order."""

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any, TypeVar

import cv2
import torch

from degrade.errors import ShardError
from degrade.files.platform import stop_signals_blocked, wait_for_sigterm

IN_FLIGHT_PER_WORKER = 3  # items sent out ahead of the one whose result is awaited

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def results_in_order(
    start: Callable[[], Callable[[Item], Result]], items: Iterable[Item], workers: int
) -> Iterator[Iterator[tuple[Item, Result]]]:
    """Yield an iterator of items and their results, in order; only a few items are in flight at a time.

    Args:
        start: returns the function that does the work. It is called once in every process, to load a model only once,
            and must be picklable, as all items and results.
        items: the work; read as it is needed.
        workers: number of processes; 0 works in this process.

    Raises:
        ShardError: a process died.
    """
    if not workers:
        work = start()
        yield ((item, work(item)) for item in items)
        return
    # spawn: a forked torch with its threads may hang, and a forked CUDA fails
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(start,))

    def in_order() -> Iterator[tuple[Item, Result]]:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            # Submitting starts processes, and may find them dead. A signal meanwhile would leave a half-started one
            # that the pool never stops. Workers keep the block of Ctrl-C: the parent stops them, without tracebacks.
            with stop_signals_blocked(), _death_explained():
                waiting.append((item, pool.submit(_work, item)))
            if len(waiting) >= workers * IN_FLIGHT_PER_WORKER:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())

    try:
        yield in_order()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _death_explained() -> Iterator[None]:
    """Turn the death of a worker into a `ShardError` with the way out."""
    try:
        yield
    except BrokenProcessPool as err:
        raise ShardError(
            "a worker process died (out of memory?); run the same command again with fewer --workers: "
            "finished work is kept"
        ) from err


_worker: Callable[[Any], Any]
_stopping = threading.Event()


def _start_worker(start: Callable[[], Callable[[Any], Any]]) -> None:
    global _worker  # one per process: the model is loaded once, not with every item
    threading.Thread(target=_stop_when_asked, daemon=True).start()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # once: switching back and forth halves the speed, as idle threads spin on other cores
    cv2.setNumThreads(1)  # the processes already share the cores
    _worker = start()


def _die_with_parent() -> None:
    """End this worker when its parent dies; after a ``kill -9`` of the parent it would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _stop_when_asked() -> None:
    """End this worker on SIGTERM, but never while it sends a result.

    The pool would wait for the rest of a half-sent result forever. After SIGTERM no result is sent any more (`_work`),
    and a second is long enough to send the one that had begun.
    """
    if wait_for_sigterm():
        _stopping.set()
        time.sleep(1)
        os._exit(1)


def _work(item: Any) -> Any:
    result = _worker(item)
    if _stopping.is_set():
        os._exit(1)
    return result


def _result(item: Item, future: "Future[Result]") -> tuple[Item, Result]:
    with _death_explained():
        return item, future.result()

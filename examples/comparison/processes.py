"""Run independent trainings in several processes, one thread each, which on few cores beats one with all threads."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

from tqdm import tqdm


def run_all(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], *, workers: int, title: str) -> None:
    """Call a function of a module with each of these arguments; the first error ends all.

    Args:
        function: importable.
        calls: its arguments.
        workers: processes.
        title: of the bar.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # before the children load torch
    context = get_context("spawn")
    calls = list(calls)
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting = [pool.submit(function, *call) for call in calls]
        try:
            for done in tqdm(as_completed(waiting), total=len(waiting), desc=title, unit="run"):
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise

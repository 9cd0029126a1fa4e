"""Make the shards of a plan on this machine: units go out to worker processes, and their results into tars."""

from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import groupby

from degrade.files.store import Store
from degrade.synth.job import Job
from degrade.synth.plan import Unit
from degrade.synth.unit_maker import UnitMaker, UnitResult, WorkDone, part_writer
from degrade.synth.workers import results_in_order


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
    with results_in_order(partial(_unit_maker, job), units, workers) as results:
        for shard, results_of_shard in groupby(results, key=lambda result: result[0].shard):
            with part_writer(store, shard, job.settings) as writer:
                for _, result in results_of_shard:
                    yield result.write(writer, job.settings)


def _unit_maker(job: Job) -> Callable[[Unit], UnitResult]:
    return UnitMaker(job).make

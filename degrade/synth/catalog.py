"""Keep the images of a plan, and where they are now, in a temporary file, so that millions take no memory."""

import json
import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import TypeVar

from tqdm import tqdm

from degrade.errors import ShardError
from degrade.files.sources import Source, two_alike
from degrade.synth.plan import Examined, LeftOut, PlannedSource, examine, order_of
from degrade.synth.settings import SynthSettings

Item = TypeVar("Item")

HEADER_READERS = 16  # threads, for network disks
WAITING = 4.0  # ratio of elapsed to computing time above which reading headers is mostly waiting
_TRIED = 256  # images on which this ratio is measured
_BATCH = 64  # images that a thread takes at once
_REASONS = 8  # different reasons that a summary holds
_ROWS = 1000  # images that are written at once

_TABLES = """
pragma journal_mode = off;
pragma synchronous = off;
pragma cache_size = -32768;
create table listed (name text not null, bytes_len integer, path blob, start integer, flaw text, passed_over integer);
create table planned (place integer primary key, name text not null, bytes_len integer, height integer, width integer,
                      crops integer, part integer);
create table examined (rank blob, name text, bytes_len integer, height integer, width integer, crops integer,
                       part integer);
create table left_out (name text, reason text);
create table passed_over (name text, reason text);
"""
_INDEXES = """
create index listed_names on listed (name);
create index planned_names on planned (name);
"""
_ONCE = """
create table twice as select name from listed group by name having count(*) > 1;
delete from listed where name in (select name from twice) and rowid not in
  (select min(rowid) from listed where name in (select name from twice) group by name, path, start);
"""


class Catalog(AbstractContextManager["Catalog"]):
    """Look up and sort the images of a plan on a disk: about 300 bytes per image, in the folder of ``TMPDIR``.

    The file has no name, so nothing of it remains, not even after a ``kill -9``.

    Args:
        sources: the images that exist now, in any order.
        planned: the images of an existing plan, in its order.
        progress: show a bar during listing and planning.

    Attributes:
        first_of_several: names of a few newly planned files that hold further frames or pages, which are not used.
        count_of_several: number of these files.

    Raises:
        ValueError: two images have the same name.
        ShardError: the disk for temporary files is full; `plan_new` raises this too.
    """

    def __init__(
        self, sources: Iterable[Source], planned: Iterable[PlannedSource] = (), *, progress: bool = False
    ) -> None:
        self.first_of_several: list[str] = []
        self.count_of_several = 0
        self._quiet = None if progress else True  # for tqdm: None shows a bar on a terminal only
        self._db = sqlite3.connect("")  # a temporary file that SQLite makes
        try:
            with _full_disk_explained():
                self._db.executescript(_TABLES)
                listed = map(_listed, self._bar(sources, "listing"))
                self._db.executemany("insert into listed values (?, ?, ?, ?, ?, ?)", listed)
                self._db.executemany("insert into planned values (null, ?, ?, ?, ?, ?, ?)", map(_planned, planned))
                self._db.executescript(_INDEXES)
                self._refuse_namesakes()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file."""
        self._db.close()

    def plan_new(self, settings: SynthSettings, part: int = 0) -> int:
        """Examine the images that the plan does not contain, and append the usable ones, in the order of `order_of`.

        Args:
            settings: limits on the sizes of images, and what to take from each.
            part: number of the part of the plan that these images form.

        Returns:
            How many images were added.
        """
        unknown = self._db.execute(
            "select name, bytes_len, path, start, flaw, passed_over from listed "
            "where not exists (select 1 from planned where planned.name = listed.name)"
        )
        sources = (
            Source(name, bytes_len, os.fsdecode(path), start, flaw, bool(passed_over))
            for name, bytes_len, path, start, flaw, passed_over in unknown
        )
        examined = _examine_all(sources, settings, part)
        examined = iter(self._bar(examined, "planning", total=self.count("listed") - self.count("planned")))
        with _full_disk_explained():
            while batch := list(islice(examined, _ROWS)):
                usable = [found for _, (found, _) in batch if isinstance(found, PlannedSource)]
                several = [name for name, (_, more_frames) in batch if more_frames]
                self.count_of_several += len(several)
                self.first_of_several = (self.first_of_several + several)[:3]
                ranked = [(order_of(found.name, settings.seed), *_planned(found)) for found in usable]
                self._db.executemany("insert into examined values (?, ?, ?, ?, ?, ?, ?)", ranked)
                for table, on_purpose in (("left_out", False), ("passed_over", True)):
                    reasons = [
                        (name, found.reason)
                        for name, (found, _) in batch
                        if isinstance(found, LeftOut) and found.passed_over == on_purpose
                    ]
                    self._db.executemany(f"insert into {table} values (?, ?)", reasons)
            added = self._db.execute(
                "insert into planned "
                "select null, name, bytes_len, height, width, crops, part from examined order by rank"
            ).rowcount
            self._db.execute("delete from examined")
        return added

    def _bar(self, items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
        return tqdm(items, what, total, leave=False, unit=" images", smoothing=0.1, disable=self._quiet)

    def images(self) -> Iterator[tuple[PlannedSource, Source]]:
        """Yield the images of the plan, in its order, with where each is now. Reading one that is gone fails."""
        rows = self._db.execute(
            "select planned.name, planned.bytes_len, height, width, crops, part, path, start "
            "from planned left join listed on listed.name = planned.name order by place"
        )
        for name, bytes_len, height, width, crops, part, path, start in rows:
            source = Source(name, bytes_len, os.fsdecode(path), start) if path else Source(name, 1, f"{name} (gone)")
            yield PlannedSource(name, bytes_len, height, width, crops, part), source

    def plan_lines(self) -> Iterator[bytes]:
        """Yield the plan as lines of JSON."""
        for planned, _ in self.images():
            yield json.dumps(vars(planned), sort_keys=True).encode() + b"\n"

    def left_out(self) -> Iterator[dict[str, object]]:
        """Yield what was examined but not planned, with the reason, sorted by name; at the end what is passed over."""
        for name, reason in self._db.execute("select name, reason from left_out order by name"):
            yield {"source": name, "reason": reason}
        for name, reason in self._db.execute("select name, reason from passed_over order by name"):
            yield {"source": name, "reason": reason, "skipped": True}

    def reasons(self, what: str) -> list[dict[str, object]]:
        """Sum up why images are ``left_out`` or ``passed_over``, for the screen: the reasons met most often.

        Returns:
            Each ``reason`` with its ``count``, and the ``first`` image by name; at most `_REASONS`.
        """
        rows = self._db.execute(
            f"select reason, count(*), min(name) from {what} group by reason order by count(*) desc, reason limit ?",
            (_REASONS,),
        )
        return [dict(zip(("reason", "count", "first"), row, strict=True)) for row in rows]

    def count(self, what: str) -> int:
        """Return how many images are ``listed``, ``planned``, ``left_out`` or ``passed_over``."""
        return int(self._db.execute(f"select count(*) from {what}").fetchone()[0])

    def last_part(self) -> int:
        """Return the number of the last part of the plan; -1 if the plan is empty."""
        return int(self._db.execute("select coalesce(max(part), -1) from planned").fetchone()[0])

    def pairs_of_parts(self, variants: int) -> list[int]:
        """Return how many pairs are planned in each part."""
        crops = self._db.execute("select sum(crops) from planned group by part order by part")
        return [of_part * variants for (of_part,) in crops]

    def changed(self) -> list[str]:
        """Return the names of images whose file size has changed since they were planned, in the order of the plan."""
        return self._names("join listed using (name) where listed.bytes_len != planned.bytes_len order by place")

    def gone(self) -> list[str]:
        """Return the names of planned images that no longer exist, in the order of the plan."""
        return self._names("where not exists (select 1 from listed where listed.name = planned.name) order by place")

    def newest(self) -> str:
        """Return the name of the first image of the last part."""
        return self._names("where part = (select max(part) from planned) order by place limit 1")[0]

    def _names(self, where: str) -> list[str]:
        return [name for (name,) in self._db.execute(f"select name from planned {where}")]

    def _refuse_namesakes(self) -> None:
        """Refuse two images with the same name. A list may name one image twice."""
        self._db.executescript(_ONCE)
        query = (
            "select name, min(path), max(path) from listed where name in (select name from twice) "
            "group by name having count(*) > 1 limit 1"
        )
        for name, one, other in self._db.execute(query):
            raise two_alike(name, os.fsdecode(one), os.fsdecode(other))


@contextmanager
def _full_disk_explained() -> Iterator[None]:
    """Turn SQLite's error for a full disk, which is not an `OSError`, into a `ShardError`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        folder = os.environ.get("TMPDIR", "/var/tmp")
        raise ShardError(
            f"the list of images does not fit into {folder} ({error}): free space there, or set TMPDIR to a folder "
            "with more, and run the same command again"
        ) from error


def _listed(source: Source) -> tuple[str, int, bytes, int, str, bool]:
    path = os.fsencode(source.path)  # which may not be UTF-8
    return source.name, source.bytes_len, path, source.offset, source.flaw, source.passed_over


def _planned(source: PlannedSource) -> tuple[str, int, int, int, int, int]:
    return source.name, source.bytes_len, source.height, source.width, source.crops, source.part


def _examine_all(sources: Iterator[Source], settings: SynthSettings, part: int) -> Iterator[tuple[str, Examined]]:
    """Examine all images, in threads if reading a header is mostly waiting, with a limited number in flight.

    On a local disk it is not, and threads that compete for the interpreter would take three times as long.
    """

    def examine_some(some: Iterable[Source]) -> list[tuple[str, Examined]]:
        return [(source.name, examine(source, settings, part)) for source in some]

    began, computing = time.perf_counter(), time.thread_time()
    first = examine_some(islice(sources, _TRIED))
    mostly_waiting = time.perf_counter() - began > WAITING * (time.thread_time() - computing)
    yield from first
    if not mostly_waiting:
        while found := examine_some(islice(sources, _BATCH)):
            yield from found
        return
    with ThreadPoolExecutor(HEADER_READERS) as pool:
        waiting: deque[Future[list[tuple[str, Examined]]]] = deque()
        while batch := list(islice(sources, _BATCH)):
            waiting.append(pool.submit(examine_some, batch))
            if len(waiting) > 2 * HEADER_READERS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from degrade.files import sources as sources_module
from degrade.files.sources import Source, iter_sources
from degrade.images.codec import encode_image
from degrade.synth import catalog as catalog_module
from degrade.synth.catalog import Catalog
from degrade.synth.plan import PlannedSource, examine, order_of
from degrade.synth.settings import SynthSettings

SETTINGS = SynthSettings(crop_size=16, min_side=16)


@pytest.fixture
def pictures(tmp_path):
    """A few real images, which any number of sources can share."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for side in (16, 24, 32):
        (folder / f"{side}.png").write_bytes(encode_image(np.full((side, side, 3), side, np.uint8), "png"))
    return sorted(folder.iterdir())


@pytest.fixture
def sources(pictures):
    """``sources(3)`` are images with names of their own, one after the other; nothing keeps them."""

    def some(count, start=0):
        for number in range(start, start + count):
            path = pictures[number % len(pictures)]
            yield Source(f"folder/{number:07d}.png", path.stat().st_size, str(path))

    return some


def planned(catalog):
    return [image for image, _ in catalog.images()]


def names(catalog):
    return [image.name for image in planned(catalog)]


def test_the_plan_has_the_images_of_use_in_the_order_of_their_names_hashes(sources):
    with Catalog(sources(50)) as catalog:
        assert catalog.plan_new(SETTINGS) == 50 == catalog.count("planned") == catalog.count("listed")
        expected = sorted((f"folder/{i:07d}.png" for i in range(50)), key=lambda name: order_of(name, SETTINGS.seed))
        assert names(catalog) == expected
        assert {(image.height, image.width) for image in planned(catalog)} == {(16, 16), (24, 24), (32, 32)}


def test_the_order_in_which_a_disk_lists_does_not_matter(sources):
    shuffled = list(sources(300))
    random.Random(0).shuffle(shuffled)
    with Catalog(sources(300)) as one, Catalog(shuffled) as other:
        assert one.plan_new(SETTINGS) == other.plan_new(SETTINGS) == 300
        assert list(one.images()) == list(other.images()) and list(one.plan_lines()) == list(other.plan_lines())


def test_the_plan_is_the_same_where_headers_are_waited_for(sources, monkeypatch):
    with Catalog(sources(600)) as catalog:
        catalog.plan_new(SETTINGS)
        expected = list(catalog.images())

    threads = set()

    def slow(*arguments):
        threads.add(threading.get_ident())
        time.sleep(0.002)
        return examine(*arguments)

    monkeypatch.setattr(catalog_module, "examine", slow)
    with Catalog(sources(600)) as catalog:
        catalog.plan_new(SETTINGS)
        assert list(catalog.images()) == expected
    assert len(threads) > 2  # that of this test, which looked at the first images, and more


def test_an_image_that_a_list_names_twice_is_taken_once(sources):
    with Catalog([*sources(4), *sources(3), *sources(2)]) as catalog:
        assert catalog.plan_new(SETTINGS) == 4 == catalog.count("listed")


def test_two_images_of_one_name_are_refused_with_both_places(sources, pictures):
    twins = [Source("twin.png", 1, str(path)) for path in (pictures[2], pictures[0], pictures[2])]
    with pytest.raises(ValueError) as told:
        Catalog([*sources(3), *twins])
    assert str(told.value) == f"two images are called twin.png, in {pictures[0]} and {pictures[2]}; rename one"


def test_two_members_of_one_tar_with_one_name_are_two_images(pictures):
    with pytest.raises(ValueError, match="two images are called x.tar/0.png"):
        Catalog([Source("x.tar/0.png", 1, "x.tar", offset) for offset in (512, 2048)])


def test_a_file_whose_name_is_no_utf_8_is_found_again(tmp_path, pictures):
    folder = os.fsencode(tmp_path / "strange")
    os.mkdir(folder)
    for name in (b"latin-\xe9.png", "東京.png".encode()):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(pictures[0].read_bytes())
    with Catalog(iter_sources(tmp_path / "strange")) as catalog:
        assert catalog.plan_new(SETTINGS) == 2
        found = dict(catalog.images())
        assert {image.name for image in found} == {"latin-\\xe9.png", "東京.png"}
        assert all(source.read() == pictures[0].read_bytes() for source in found.values())
        assert b"".join(catalog.plan_lines()).isascii()


def test_what_is_left_out_is_told_by_name_and_gets_no_place(sources, tmp_path):
    bad = [Source("z.png", 0, str(tmp_path / "nothing.png")), Source("a.png", 5, str(tmp_path))]
    with Catalog([*bad, *sources(2)]) as catalog:
        assert catalog.plan_new(SETTINGS) == 2 == len(names(catalog)) and catalog.count("left_out") == 2
        assert list(catalog.left_out()) == [
            {"source": "a.png", "reason": "cannot be read (Is a directory)"},
            {"source": "z.png", "reason": "cannot be read (No such file or directory)"},
        ]


def test_an_image_that_has_gone_keeps_its_place_and_fails_when_it_is_read(sources):
    with Catalog(sources(5)) as catalog:
        catalog.plan_new(SETTINGS)
        before = planned(catalog)
    lost = before[2].name
    with Catalog((source for source in sources(5) if source.name != lost), before) as catalog:
        assert catalog.plan_new(SETTINGS, part=1) == 0 and planned(catalog) == before
        assert catalog.gone() == [lost] and catalog.changed() == []
        image, source = list(catalog.images())[2]
        assert image.name == lost
        with pytest.raises(FileNotFoundError):
            source.read()


def test_an_image_of_another_size_has_changed(sources):
    with Catalog(sources(5)) as catalog:
        catalog.plan_new(SETTINGS)
        before = planned(catalog)
    grown = [Source(s.name, s.bytes_len + (s.name == before[3].name), s.path) for s in sources(5)]
    with Catalog(grown, before) as catalog:
        assert catalog.changed() == [before[3].name] and catalog.gone() == []


def test_new_images_come_after_all_others_as_a_part_of_their_own(sources):
    with Catalog(sources(5)) as catalog:
        assert catalog.last_part() == -1
        catalog.plan_new(SETTINGS)
        before = planned(catalog)
        assert catalog.last_part() == 0
    with Catalog(sources(9), before) as catalog:
        assert catalog.plan_new(SETTINGS, part=1) == 4
        assert planned(catalog)[:5] == before and [image.part for image in planned(catalog)] == [0] * 5 + [1] * 4
        assert catalog.newest() == names(catalog)[5] and catalog.last_part() == 1
        crops = [sum(image.crops for image in planned(catalog) if image.part == part) for part in (0, 1)]
        assert catalog.pairs_of_parts(variants=3) == [3 * crops[0], 3 * crops[1]]
        assert names(catalog)[5:] == sorted(names(catalog)[5:], key=lambda name: order_of(name, SETTINGS.seed))


def test_the_lines_of_a_plan_give_the_plan_again(sources):
    with Catalog(sources(5)) as catalog:
        catalog.plan_new(SETTINGS)
        lines, before = list(catalog.plan_lines()), planned(catalog)
    assert [PlannedSource(**json.loads(line)) for line in lines] == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_listing_or_planning_comes_through(sources, monkeypatch, error):
    def breaks_off(*_):
        yield from sources(3)
        raise error("while listing")

    def fails(*_):
        raise error("while planning")

    with pytest.raises(error, match="while listing"):
        Catalog(breaks_off())
    monkeypatch.setattr(catalog_module, "examine", fails)
    with Catalog(sources(3)) as catalog, pytest.raises(error, match="while planning"):
        catalog.plan_new(SETTINGS)


ON_DISK = """
import os, sys, time
sys.path[:0] = {path}
from degrade.synth.catalog import Catalog
from degrade.files.sources import Source
catalog = Catalog(Source(f"{{number}}" * 100, 1, "x" * 2000) for number in range(20_000))
files = [os.readlink(f"/proc/self/fd/{{name}}") for name in os.listdir("/proc/self/fd") if name.isdecimal()
         and os.path.islink(f"/proc/self/fd/{{name}}")]
print(*[file for file in files if file.startswith(os.environ["TMPDIR"])], flush=True)
if sys.argv[1] == "close":
    catalog.close()
elif sys.argv[1] == "raise":
    raise SystemExit(0)
else:
    time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks for the file in /proc")
@pytest.mark.parametrize("end", ["close", "raise", "kill -9"])
def test_a_large_catalog_lies_on_the_disk_for_temporary_files_and_leaves_nothing_there(tmp_path, end):
    arguments = [sys.executable, "-c", ON_DISK.format(path=sys.path), end]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
    assert str(tmp_path) in process.stdout.readline()
    if end == "kill -9":
        process.kill()
    process.communicate(timeout=30)
    assert process.returncode == (-signal.SIGKILL if end == "kill -9" else 0)
    assert os.listdir(tmp_path) == []


def most_memory(action):
    """Bytes that Python objects took at most, beyond those that were there."""
    gc.collect()
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_python_holds_no_image_of_a_plan(sources):
    def plan(count):
        long_names = (replace(source, name=f"{'long' * 60}/{source.name}") for source in sources(count))
        with Catalog(long_names) as catalog:
            catalog.plan_new(SETTINGS)
            assert sum(1 for _ in catalog.images()) == count

    plan(2_000)
    few, many = (most_memory(lambda count=count: plan(count)) for count in (2_000, 8_000))
    assert many - few < 6_000 * 100  # bytes; a name alone has 300


PEAK = """
import resource, sys
sys.path[:0] = {path}
from degrade.synth.catalog import Catalog
from degrade.synth.settings import SynthSettings
from degrade.files.sources import Source
count, path, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with Catalog(Source(f"folder/{{number:07d}}.png", size, path) for number in range(count)) as catalog:
    assert catalog.plan_new(SynthSettings(crop_size=16, min_side=16)) == count
    assert sum(1 for _ in catalog.images()) == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_the_process_does_not_grow_with_the_images(pictures):
    def peak_mb(count):
        arguments = [sys.executable, "-c", PEAK.format(path=sys.path), str(count)]
        arguments += [str(pictures[0]), str(pictures[0].stat().st_size)]
        return int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout) / 1024

    few, some, many = map(peak_mb, (20_000, 200_000, 400_000))
    assert many - few < 100  # SQLite's own cache and sorter, 32 MB each
    assert many - some < 10  # which are full then


def test_a_folder_is_gone_through_while_it_is_read(tmp_path, pictures, monkeypatch):
    for folder in ("a", "b", "c"):
        (tmp_path / "tree" / folder).mkdir(parents=True)
        (tmp_path / "tree" / folder / "x.png").write_bytes(pictures[0].read_bytes())
    read, real = [], os.scandir

    def scandir(place):
        read.append(os.path.basename(place))
        return real(place)

    monkeypatch.setattr(sources_module.os, "scandir", scandir)
    found = iter_sources(tmp_path / "tree")
    assert next(found).name == "a/x.png" and read == ["tree", "a"]
    assert [source.name for source in found] == ["b/x.png", "c/x.png"]


def test_no_line_of_a_text_list_is_held(pictures):
    def go_through(count):
        listing = pictures[0].parent / f"{count}.txt"
        listing.write_text(f"{pictures[0].name}\n" * count)
        return most_memory(lambda: deque(iter_sources(listing), maxlen=0))

    few, many = go_through(1_000), go_through(10_000)
    assert many - few < 9_000 * 8  # one pointer each

import pickle
import random
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from degrade.files.sources import list_sources
from degrade.images import crops
from degrade.images.codec import encode_image, read_image
from degrade.images.crops import ImagePool, ReadCache


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """Twelve 64 x 48 pictures of noise whose mean grey is 20, 40, ... and a small and a broken one."""
    folder, rng = tmp_path / "numbered", np.random.default_rng(0)
    folder.mkdir()
    for number in range(12):
        image = rng.integers(-15, 15, (48, 64, 3)) + 20 * (number + 1)
        (folder / f"{number:02d}.png").write_bytes(encode_image(image.clip(0, 255).astype(np.uint8), "png"))
    (folder / "small.png").write_bytes(encode_image(np.zeros((16, 16, 3), np.uint8), "png"))
    (folder / "text.png").write_bytes(b"no image")
    return folder


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def number_of(image: np.ndarray | torch.Tensor) -> int:
    """Which of the numbered pictures an image or a tensor shows."""
    mean = float(image.mean() * (255 if isinstance(image, torch.Tensor) else 1))
    return round(mean / 20) - 1


def shown_in(pool: ImagePool, batch: int) -> set[int]:
    """Which pictures many draws for a batch show."""
    rng = random.Random(batch)
    return {number_of(pool.pick(rng, batch)) for _ in range(40)}


def test_opening_reads_headers_alone_and_names_what_is_left_out(numbered, monkeypatch):
    monkeypatch.setattr(crops, "read_image", lambda data: pytest.fail("decoded while it opens"))
    pool = ImagePool(list_sources(numbered), min_side=32)
    assert len(pool) == 12 and len(pool.left_out) == 2
    assert "small.png: 16x16 is smaller than the crop, 32" in pool.left_out
    with pytest.raises(ValueError, match="no image is usable"):
        ImagePool.open(list_sources(numbered), min_side=100)


def test_a_cache_keeps_a_bounded_number_of_bytes_and_the_images_used_last(monkeypatch):
    monkeypatch.setattr(crops, "CACHE_BYTES", 3 * 300)
    read = []

    def reader(index):
        read.append(index)
        return (np.zeros((10, 10, 3), np.uint8),)

    cache = ReadCache(reader)
    for index in (0, 1, 2, 0, 3, 0, 1):
        cache(index)
        assert sum(images[0].nbytes for images in cache.held.values()) == cache.bytes <= 900
    assert read == [0, 1, 2, 3, 1]
    monkeypatch.setattr(crops, "CACHE_BYTES", 10)
    assert cache(7)[0].nbytes == 300 and len(cache.held) == 1  # one image is always kept


def test_a_pool_goes_to_another_process_without_its_images(numbered):
    pool = ImagePool(list_sources(numbered), min_side=32)
    pool.crops(12, 32, 0)
    assert pool._cache.bytes > 0
    copy = pickle.loads(pickle.dumps(pool))
    assert copy._cache.bytes == 0 and not copy._cache.held
    assert np.array_equal(copy.crops(12, 32, 0), pool.crops(12, 32, 0))


def test_a_draw_depends_on_its_generator_and_batch_alone_whatever_was_drawn_before(numbered, monkeypatch):
    monkeypatch.setattr(crops, "CACHE_BYTES", 4 * 48 * 64 * 3)
    used, fresh = (ImagePool(list_sources(numbered), min_side=32) for _ in range(2))
    for batch in range(9):
        used.draw(random.Random(batch), 32, batch)
    assert torch.equal(used.draw(random.Random(5), 32, 5), fresh.draw(random.Random(5), 32, 5))


def test_a_large_pool_is_drawn_from_a_window_that_passes_over_all_of_it(numbered, monkeypatch):
    monkeypatch.setattr(crops, "CACHE_BYTES", 4 * 48 * 64 * 3)  # four images: a window of two
    monkeypatch.setattr(crops, "MIN_WINDOW", 2)
    pool = ImagePool(list_sources(numbered), min_side=32)
    decoded = []
    read = pool._read
    monkeypatch.setattr(pool._cache, "read", lambda place: decoded.append(place) or read(place))
    windows = [shown_in(pool, batch) for batch in range(7)]
    assert all(len(window) == 2 for window in windows) and set().union(*windows[:6]) == set(range(12))
    assert windows[6] == windows[0] and len(decoded) == 14  # each is decoded once a round
    # neighbours by name, such as those of one folder of several, do not make a window
    assert windows[:6] != [{number, number + 1} for number in range(0, 12, 2)]


def test_photographs_larger_than_the_cache_are_all_drawn(numbered, monkeypatch):
    monkeypatch.setattr(crops, "CACHE_BYTES", 100)
    monkeypatch.setattr(crops, "MIN_WINDOW", 3)
    pool = ImagePool(list_sources(numbered), min_side=32)
    windows = [shown_in(pool, batch) for batch in range(6)]
    assert all(len(window) == 3 for window in windows) and set().union(*windows) == set(range(12))


def test_a_window_of_broken_photographs_is_replaced_from_the_whole_pool(numbered, monkeypatch):
    monkeypatch.setattr(crops, "CACHE_BYTES", 4 * 48 * 64 * 3)
    monkeypatch.setattr(crops, "MIN_WINDOW", 2)
    broken = shown_in(ImagePool(list_sources(numbered), min_side=32), 0)
    for number in broken:
        cut(numbered / f"{number:02d}.png", 3000)
    with pytest.warns(UserWarning, match="not used"):
        shown = shown_in(ImagePool(list_sources(numbered), min_side=32), 0)
    assert len(shown) > 5 and not shown & broken


def test_crops_do_not_keep_their_photographs_in_memory(numbered, monkeypatch):
    monkeypatch.setattr(crops, "CACHE_BYTES", 2 * 48 * 64 * 3)
    decoded, most = [], 0

    def decode(data):
        nonlocal most
        image = read_image(data)
        decoded.append(weakref.ref(image))
        most = max(most, sum(each() is not None for each in decoded))
        return image

    monkeypatch.setattr(crops, "read_image", decode)
    ImagePool(list_sources(numbered), min_side=32).crops(24, 32, 0)
    assert len(decoded) == 12 and most <= 3


def test_a_small_pool_is_drawn_from_as_a_whole(numbered):
    pool = ImagePool(list_sources(numbered), min_side=32)
    assert {number_of(pool.pick(random.Random(i), 0)) for i in range(200)} == set(range(12))


def test_a_photograph_that_breaks_off_is_named_once_and_replaced(numbered):
    cut(numbered / "04.png", 3000)
    pool = ImagePool(list_sources(numbered), min_side=32)
    assert len(pool) == 12  # its header is whole
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        picked = {number_of(pool.pick(random.Random(i), 0)) for i in range(200)}
    assert picked == set(range(12)) - {4} and "not used: 04.png" in str(told[0].message)
    assert [reason for reason in pool.left_out if reason.startswith("04.png")] and len(pool.left_out) == 3
    shown = [number_of(crop) for crop in pool.crops(12, 32, 0)]
    assert shown == [0, 1, 2, 3, 5, 5, 6, 7, 8, 9, 10, 11]
    assert sum("04.png" in str(each.message) for each in told) == 1


def test_a_broken_photograph_at_the_border_of_the_halves_is_replaced_within_its_half(numbered):
    cut(numbered / "05.png", 3000)
    cut(numbered / "11.png", 3000)
    pool = ImagePool(list_sources(numbered), min_side=32)
    with pytest.warns(UserWarning, match="not used: (05|11).png"):
        shown = [number_of(crop) for crop in pool.crops(12, 32, 0)]
    assert shown == [0, 1, 2, 3, 4, 0, 6, 7, 8, 9, 10, 6]


def test_when_nothing_can_be_decoded_it_is_one_sentence(numbered):
    for number in range(12):
        cut(numbered / f"{number:02d}.png", 3000)
    pool = ImagePool(list_sources(numbered), min_side=32)
    with pytest.warns(UserWarning):
        with pytest.raises(ValueError, match="none of 6 images can be used; the last: "):
            pool.crops(2, 32, 0)
        with pytest.raises(ValueError, match="20 images in a row cannot be used"):
            pool.draw(random.Random(0), 32, 0)


def test_photographs_are_reduced_before_they_are_measured_and_cut(numbered):
    assert len(ImagePool(list_sources(numbered), min_side=32, max_side=60)) == 0  # 64 x 48 becomes 32 x 24
    pool = ImagePool(list_sources(numbered), min_side=24, reduction=2)
    assert pool.image(pool.sources[0]).shape == (24, 32, 3)

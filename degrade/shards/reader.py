"""Read pair shards, made here or by other software, as tensors for training."""

import contextlib
import io
import lzma
import os
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import webdataset as wds
from torch import Tensor
from torch.utils.data import IterableDataset
from webdataset.tariterators import group_by_keys, tar_file_expander

from degrade.errors import ImageError, ShardError, shown
from degrade.files.names import ROLES, split_member
from degrade.files.store import is_object, open_store
from degrade.files.tars import TAR_ERRORS, shard_paths, tar_members
from degrade.images.codec import read_image
from degrade.images.tensors import to_tensor
from degrade.shards.patches import Patches
from degrade.shards.record import read_record

_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")  # gzip, bzip2, xz


def read_pairs(
    shards: str | Path | Sequence[str | Path],
    *,
    shuffle: int = 0,
    seed: int = 0,
    resampled: bool = False,
    where: Callable[[dict[str, Any]], bool] | None = None,
    crop: int | None = None,
    augment: bool = False,
    handler: Callable[[Exception], bool] = wds.reraise_exception,
) -> wds.DataPipeline:
    """Iterate over the pairs of a data set.

    The result is an ``IterableDataset`` for a ``DataLoader``. Shards are divided among processes and workers, so that
    no pair is read twice; with more workers than shards, some get none. The result is also a webdataset pipeline:
    ``.with_epoch(n)`` sets the length of an epoch.

    Every sample needs an image called ``hr``, ``gt`` or ``hq`` and an image called ``lr`` or ``lq``; a ``json`` is
    optional.

    Args:
        shards: folder of tars, a tar, a brace pattern, addresses that webdataset opens, or a list of these.
        shuffle: number of pairs in the shuffle buffer; shards are shuffled too. 0 = in order.
        seed: seed of all shuffling and of the patches. Every iteration is another epoch with another order and other
            patches, so keep the workers of a ``DataLoader`` alive (``persistent_workers=True``).
        resampled: draw shards at random without end, in every process. For distributed training, where shards cannot
            be divided evenly, and the first process to finish would make the others wait forever.
        where: called with the record of a pair before its images are decoded; returns whether the pair is wanted. For
            example, ``lambda meta: meta["psnr_to_clean"] > 30`` selects mild degradations. None for all pairs.
        crop: cut patches with this side, in HR pixels, a multiple of the scale; another one in every epoch. None for
            whole images.
        augment: flip and rotate HR and LR alike.
        handler: called with the error of a broken sample: ``webdataset.warn_and_continue`` skips the sample; the
            default raises the error.

    Returns:
        Dicts of ``key`` (str), ``hr`` (3, H, W) and ``lr`` (3, h, w), float32 in [0, 1], and ``meta`` (dict, the json).

    Raises:
        ValueError: the shards do not exist. While iterating: a sample lacks an image, its record lacks a key that
            ``where`` uses, or it is smaller than the crop.
        ImageError: while iterating: an image cannot be decoded.
        ShardError: while iterating: a tar cannot be read, or not to its end.
    """
    order = _ShardOrder(shard_paths(shards), seed, shuffled=shuffle > 0, resampled=resampled)
    buffer = [wds.detshuffle(shuffle, initial=shuffle, seed=seed)] if shuffle else []
    pairs = partial(_pairs, where=where, patches=Patches(crop, augment, seed), handler=handler)
    return wds.DataPipeline(order, partial(_samples, handler=handler), *buffer, pairs)


class _ShardOrder(IterableDataset[dict[str, str]]):
    """Yield the shards of this process and worker, in the order of this epoch."""

    def __init__(self, tars: list[str], seed: int, *, shuffled: bool, resampled: bool) -> None:
        super().__init__()
        self.tars, self.seed, self.shuffled, self.resampled = tars, seed, shuffled, resampled
        self.epoch = -1

    def __iter__(self) -> Iterator[dict[str, str]]:
        self.epoch += 1
        rank, processes, worker, workers = wds.utils.pytorch_worker_info()
        place, places = rank * workers + worker, processes * workers
        if self.resampled:
            draw = random.Random(f"{self.seed}/{self.epoch}/{place}")
            for turn in count():
                yield {"url": draw.choice(self.tars), "turn": f"{self.epoch}/{place}/{turn}"}
        order = list(self.tars)
        if self.shuffled:
            random.Random(f"{self.seed}/{self.epoch}").shuffle(order)  # equal everywhere: shares must not overlap
        yield from ({"url": tar, "turn": str(self.epoch)} for tar in order[place::places])


def _samples(shards: Iterable[dict[str, str]], handler: Callable[[Exception], bool]) -> Iterator[dict[str, Any]]:
    """Yield the samples of tars as webdataset reads them; damage is a `ShardError`."""
    for shard in shards:
        url = shard["url"]
        try:
            with contextlib.ExitStack() as opened:
                files = tar_file_expander([{"url": url, "stream": _open(url, opened)}], wds.reraise_exception)
                for sample in group_by_keys(files, handler=wds.reraise_exception):
                    yield {**sample, "__turn__": shard["turn"]}
        except ShardError as error:
            if not handler(error):
                return
        except (*TAR_ERRORS, EOFError, zlib.error, lzma.LZMAError) as error:
            reason = error.args[0] if error.args else error  # webdataset adds its stream to the arguments
            problem = ShardError(f"{shown(url)} is not a readable tar ({reason}); make it again or remove it")
            problem.__cause__ = error
            if not handler(problem):
                return


def _open(url: str, opened: contextlib.ExitStack) -> BinaryIO:
    """Open a tar for streaming.

    Local uncompressed tars are scanned first, because webdataset takes a damaged header for the end of the tar and
    would silently drop the remaining pairs.
    """
    if is_object(url):
        folder, _, name = url.rpartition("/")
        return opened.enter_context(open_store(folder).open(name))
    if not os.path.exists(url):
        stream: BinaryIO = wds.gopen(url)
        if isinstance(stream, io.IOBase):  # else a pipe: closing it would wait for the process behind it
            opened.enter_context(stream)
        return stream
    if not os.path.isfile(url):
        raise ValueError("it is not a regular file")  # opening a fifo would hang
    file = opened.enter_context(Path(url).open("rb"))  # noqa: SIM115
    if not file.read(6).startswith(_PACKED):
        tar_members(url, file)
    file.seek(0)
    return file


def _pairs(
    samples: Iterable[dict[str, Any]],
    where: Callable[[dict[str, Any]], bool] | None,
    patches: Patches,
    handler: Callable[[Exception], bool],
) -> Iterator[dict[str, str | Tensor | dict[str, Any]]]:
    for sample in samples:
        try:
            try:
                meta = read_record(sample.get("json", b"{}"))
            except ValueError as error:
                raise ValueError(f"{_place(sample)}: {error}") from error
            if where is not None and not _wanted(where, meta, sample):
                continue
            hr, lr = _image(sample, "hr"), _image(sample, "lr")
            try:
                hr, lr = patches.cut(hr, lr, sample["__key__"], sample["__turn__"])
            except ValueError as error:
                raise ValueError(f"{_place(sample)}: {error}") from error
        except Exception as error:  # the handler decides, as in webdataset's own stages
            if handler(error):
                continue
            break
        yield {"key": sample["__key__"], "hr": hr, "lr": lr, "meta": meta}


def _wanted(where: Callable[[dict[str, Any]], bool], meta: dict[str, Any], sample: dict[str, Any]) -> bool:
    try:
        return where(meta)
    except KeyError as err:
        raise ValueError(
            f"{_place(sample)} has no {err} in its record, which `where` asks for; "
            f"there is {shown(', '.join(meta)) or 'no record'}"
        ) from err


def _image(sample: dict[str, Any], part: str) -> Tensor:
    for name, data in sample.items():
        if split_member(f"key.{name}").part == part:
            try:
                return to_tensor(read_image(data))[0]
            except ImageError as error:
                place = f"{shown(sample['__key__'])}.{shown(name)} in {shown(sample['__url__'])}"
                raise ImageError(f"{place}: {error}") from error
    found = shown(", ".join(name for name in sample if not name.startswith("__")))
    raise ValueError(f"{_place(sample)} has {found}, but no image called {' or '.join(sorted(ROLES[part]))}")


def _place(sample: dict[str, Any]) -> str:
    return f"{shown(sample['__key__'])} in {shown(sample['__url__'])}"

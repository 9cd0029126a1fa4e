"""Read pair shards, ours or anyone's, as tensors for training."""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from torch import Tensor
from torch.utils.data import IterableDataset

from degrade.images import IMAGE_SUFFIXES, ImageError, read_image
from degrade.tars import HR_ROLES, LR_ROLES, shard_paths, split_member


def read_pairs(
    shards: str | Path | Sequence[str | Path],
    *,
    shuffle: int = 0,
    seed: int = 0,
    resampled: bool = False,
    where: Callable[[dict[str, Any]], bool] | None = None,
    handler: Callable[[Exception], bool] = wds.reraise_exception,
) -> wds.DataPipeline:
    """Iterate over the pairs of a data set.

    The result is an ``IterableDataset``: give it to a ``DataLoader``. Shards are dealt out to processes and workers,
    so that no pair is read twice; workers beyond the number of shards find nothing. It is also a webdataset pipeline:
    ``.with_epoch(n)`` sets the length of an epoch.

    Every sample needs an image ``hr``, ``gt`` or ``hq`` and an image ``lr`` or ``lq``; a ``json`` is optional.

    Args:
        shards: folder of tars, a tar, a brace pattern, addresses that webdataset opens, or a list of these.
        shuffle: pairs in the shuffle buffer; shards are shuffled too. 0 = in order.
        seed: of all shuffling. Every iteration is another epoch with another order, so keep the workers of a
            ``DataLoader`` alive (``persistent_workers=True``).
        resampled: draw shards at random without end, every process its own. For distributed training, where shards
            cannot be shared out evenly and the first process to finish would hang the others.
        where: takes the record of a pair and says whether it is wanted, before its images are decoded: for one severity
            after another, ``lambda meta: meta["psnr_to_clean"] > 30``. None for all pairs.
        handler: what to do about a broken sample: ``webdataset.warn_and_continue`` skips it; the default raises.

    Returns:
        Dicts of ``key`` (str), ``hr`` (3, H, W) and ``lr`` (3, h, w), float32 in [0, 1], and ``meta`` (dict, the json).

    Raises:
        ValueError: the shards do not exist; while iterating, a sample lacks an image, or ``where`` asks for what its
            record has not.
        ImageError: while iterating, an image cannot be decoded.
    """
    order = _ShardOrder(shard_paths(shards), seed, shuffled=shuffle > 0, resampled=resampled)
    buffer = [wds.detshuffle(shuffle, initial=shuffle, seed=seed)] if shuffle else []
    pairs = partial(_pairs, where=where, handler=handler)
    return wds.DataPipeline(order, wds.tarfile_to_samples(handler=handler), *buffer, pairs)


class _ShardOrder(IterableDataset[dict[str, str]]):
    """The shards of this process and worker, in the order of this epoch."""

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
            while True:
                yield {"url": draw.choice(self.tars)}
        order = list(self.tars)
        if self.shuffled:
            random.Random(f"{self.seed}/{self.epoch}").shuffle(order)  # alike everywhere: the shares must not overlap
        yield from ({"url": tar} for tar in order[place::places])


def _pairs(
    samples: Iterable[dict[str, Any]],
    where: Callable[[dict[str, Any]], bool] | None,
    handler: Callable[[Exception], bool],
) -> Iterator[dict[str, str | Tensor | dict[str, Any]]]:
    for sample in samples:
        try:
            meta = json.loads(sample.get("json", b"{}"))
            if where is not None and not _wanted(where, meta, sample):
                continue
            pair = {
                "key": sample["__key__"],
                "hr": _image(sample, HR_ROLES),
                "lr": _image(sample, LR_ROLES),
                "meta": meta,
            }
        except Exception as error:  # as webdataset's own stages do: the handler decides
            if handler(error):
                continue
            break
        yield pair


def _wanted(where: Callable[[dict[str, Any]], bool], meta: dict[str, Any], sample: dict[str, Any]) -> bool:
    try:
        return where(meta)
    except KeyError as err:
        raise ValueError(
            f"{sample['__key__']} in {sample['__url__']} has no {err} in its record, which `where` asks for; "
            f"there is {', '.join(meta) or 'no record'}"
        ) from err


def _image(sample: dict[str, Any], roles: frozenset[str]) -> Tensor:
    for name, data in sample.items():
        _, role, extension = split_member(f"key.{name}")
        if role in roles and f".{extension}" in IMAGE_SUFFIXES:
            try:
                pixels = torch.from_numpy(read_image(data))
            except ImageError as error:
                raise ImageError(f"{sample['__key__']}.{name} in {sample['__url__']}: {error}") from error
            return pixels.permute(2, 0, 1).float().div_(255).contiguous()
    found = ", ".join(name for name in sample if not name.startswith("__"))
    raise ValueError(
        f"{sample['__key__']} in {sample['__url__']} has {found} but no image called {' or '.join(sorted(roles))}"
    )

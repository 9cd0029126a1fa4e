"""Write the card of a data set, README.md, whose head tells Hugging Face `datasets` and its Hub how to read the pairs.

Without it, `datasets` would take the JSON files beside the shards for the data.
"""

from collections.abc import Mapping
from typing import Literal

from degrade.files.store import Store

PairFormat = Literal["shards", "folders", "parquet"]

CARD = "README.md"
MARK = "<!-- written by realistic-degrader; without this line, it is yours and stays as it is -->"

_DATA_FILES: dict[PairFormat, tuple[str, ...]] = {
    "shards": ("pairs-*.tar",),
    "folders": ("metadata.jsonl", "hr/*", "lr/*"),
    "parquet": ("pairs-*.parquet",),
}
_COLUMNS: dict[PairFormat, str] = {
    "shards": "`hr.png` and `lr.png` (or their other extensions), `json` (the record), `__key__`",
    "folders": "`hr`, `lr`, and the fields of the record",
    "parquet": "`key`, `hr`, `lr`, `json` (the record, as text)",
}
_TAGS: dict[PairFormat, str] = {"shards": "webdataset", "folders": "imagefolder", "parquet": "parquet"}
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "n>1B")


def write_card(store: Store, kind: PairFormat, *, pairs: int, facts: Mapping[str, object]) -> None:
    """Write the card, unless there is one that its owner has made his own by removing the last line.

    Args:
        store: where the data set is.
        kind: its format.
        pairs: number of pairs.
        facts: how the pairs were made, for a list in the text.

    Raises:
        ShardError: the disk is full or not writable.
    """
    if is_ours(store):
        store.write(CARD, _card(kind, pairs, facts).encode())


def is_ours(store: Store) -> bool:
    """Tell whether the card may be replaced or removed: there is none, or one that was written here."""
    try:
        return MARK.encode() in store.read(CARD)
    except FileNotFoundError:
        return True


def _card(kind: PairFormat, pairs: int, facts: Mapping[str, object]) -> str:
    paths = "".join(f"\n    - {path!r}" for path in _DATA_FILES[kind])
    made = "".join(f"\n- {name}: {value}" for name, value in facts.items())
    size = _SIZES[min(len(_SIZES) - 1, max(0, len(str(pairs)) - 3))]
    return f"""---
license: unknown  # set it to the licence of your photographs
task_categories:
- image-to-image
tags:
- super-resolution
- image-restoration
- {_TAGS[kind]}
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path:{paths}
---

# {pairs} pairs of sharp (HR) and degraded (LR) images

Made with `realistic-degrader`: every LR image is a degraded copy of its HR image, and the record of a pair says how it
was degraded.
{made}

```python
from datasets import load_dataset

pairs = load_dataset("path or name of this data set", split="train", streaming=True)
```

The columns are {_COLUMNS[kind]}.

{MARK}
"""

"""Write pairs as Parquet files that Hugging Face `datasets` and its viewer show as images.

A part is one file, ``pairs-000000.parquet``, with the columns ``key``, ``hr`` and ``lr`` (each a struct of the bytes
and the name of an image file), and ``json`` (the record).
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

from degrade.files.store import Store
from degrade.images.codec import probe_image
from degrade.shards.part_writer import PartWriter
from degrade.shards.record import read_record

ROWS = 100  # in a row group, the least that a reader takes at once: datasets' own choice for images

_FEATURES = {
    "key": {"dtype": "string", "_type": "Value"},
    "hr": {"_type": "Image"},
    "lr": {"_type": "Image"},
    "json": {"dtype": "string", "_type": "Value"},
}


class ParquetWriter(PartWriter):
    """Write one Parquet file; see `PartWriter`.

    Raises:
        ValueError: the package pyarrow is missing; or, from `write`, an image or a record cannot be read.
        ShardError: the disk is full or not writable.
    """

    extension = "parquet"

    def __init__(self, out: Path | str | Store, index: int) -> None:
        super().__init__(out, index)
        self._arrow = import_pyarrow()

    def start(self) -> None:
        """Begin the file."""
        from pyarrow import parquet

        arrow = self._arrow
        image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
        types = {"key": arrow.string(), "hr": image, "lr": image, "json": arrow.string()}
        metadata = {"huggingface": json.dumps({"info": {"features": _FEATURES}})}
        self._schema = arrow.schema(list(types.items()), metadata=metadata)
        self._rows: list[dict[str, Any]] = []
        self._parquet = parquet.ParquetWriter(self.file, self._schema)

    def add(self, key: str, hr: bytes, lr: bytes, record: bytes, hr_ext: str, lr_ext: str) -> None:
        """Add one row."""
        probe_image(hr)
        probe_image(lr)
        read_record(record)
        images = {
            "hr": {"bytes": hr, "path": f"{key}.hr.{hr_ext}"},
            "lr": {"bytes": lr, "path": f"{key}.lr.{lr_ext}"},
        }
        self._rows.append({"key": key, **images, "json": record.decode()})
        if len(self._rows) == ROWS:
            self._write_rows()

    def complete(self) -> None:
        """Write the last rows and the end of the file."""
        self._write_rows()
        self._parquet.close()

    def clean_up(self) -> None:
        """Close the file, which would otherwise close itself later."""
        self._parquet.close()

    def _write_rows(self) -> None:
        if self._rows:
            self._parquet.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def import_pyarrow() -> ModuleType:
    """Import pyarrow.

    Raises:
        ValueError: the package is missing.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ValueError("Parquet needs the package pyarrow; pip install 'realistic-degrader[parquet]'") from error
    return pyarrow

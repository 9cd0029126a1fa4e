"""Write the pairs of one shard: a tar."""

import io
import re
import tarfile

from degrade.shards.part_writer import PartWriter


class PairShardWriter(PartWriter):
    """Write one shard, a tar for webdataset; see `PartWriter`.

    Raises:
        ShardError: the disk is full or not writable.
        ValueError: a key is not nine digits, or not greater than the key before: members are sorted, so that equal
            plans give equal bytes.
    """

    extension = "tar"

    def start(self) -> None:
        """Open the tar."""
        self._last_key = ""
        self._tar = tarfile.TarFile(fileobj=self.file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, key: str, hr: bytes, lr: bytes, record: bytes, hr_ext: str, lr_ext: str) -> None:
        """Add one pair as three members."""
        if not re.fullmatch(r"\d{9}", key) or key <= self._last_key:
            raise ValueError(f"key {key!r} after {self._last_key!r}: pass sample_key(slot) with growing slots")
        self._last_key = key
        self._add_member(f"{key}.hr.{hr_ext}", hr)
        self._add_member(f"{key}.json", record)
        self._add_member(f"{key}.lr.{lr_ext}", lr)

    def complete(self) -> None:
        """Write the end mark of the tar."""
        self._tar.close()

    def _add_member(self, name: str, data: bytes) -> None:
        header = tarfile.TarInfo(name)  # its defaults are fixed: mtime 0, user and group 0, mode 644
        header.size = len(data)
        self._tar.addfile(header, io.BytesIO(data))

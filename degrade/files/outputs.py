"""Check the names of files that a command writes for its input images, before any work is done."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

from degrade.errors import ImageError
from degrade.files.sources import Source

MAX_NAME = 255  # bytes of a file name, on every disk in use
OUTPUT_SUFFIXES: dict[str, Literal["png", "jpg", "webp"]] = {  # suffixes, and the format that they stand for
    ".png": "png",
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".webp": "webp",
}


def output_in(folder: Path, source: Source, suffix: str, ext: str) -> Path:
    """Return where the output for an input goes: the same subfolder and name, with a suffix and another extension.

    Raises:
        ImageError: the name leads out of the folder, or is too long.
    """
    name = PurePosixPath(source.name)
    if ".." in name.parts:
        raise ImageError("its name contains '..', which leads out of the output folder; rename it")
    output = folder / name.parent / f"{name.stem}{suffix}.{ext}"
    if (length := len(os.fsencode(output.name))) > MAX_NAME:
        raise ImageError(f"the name of its output has {length} bytes, more than {MAX_NAME}; shorten it")
    return output


def check_collisions(outputs: Iterable[tuple[Source, Path]]) -> None:
    """Refuse outputs of the same name, and outputs that would replace an input.

    Raises:
        ValueError: there is one.
    """
    wanted = list(outputs)
    inputs = {Path(source.path).resolve() for source, _ in wanted}
    seen: dict[Path, Source] = {}
    for source, output in wanted:
        if output.resolve() in inputs:
            raise ValueError(f"{output} would replace an input; give another folder or a suffix")
        if output in seen:
            raise ValueError(f"{seen[output].name} and {source.name} would both be written to {output}; rename one")
        seen[output] = source

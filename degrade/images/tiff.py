"""Read TIFF: choose the directory that holds the picture, judge its layout, and turn stored numbers into colours.

libtiff, through Pillow, only decompresses here. What the numbers mean (depth, order of bytes, planes, tiles,
photometric interpretation, extra channels) is worked out in this file, because Pillow and OpenCV each guess some of it
wrong without an error. A layout that is not read is refused by its name.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import TiffImagePlugin

from degrade.errors import ImageError
from degrade.images.depth import check_full_range
from degrade.images.guards import MAX_OVERLAP

Values = NDArray[Any]  # uint8 or uint16

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_FILL_ORDER, _STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES = 266, 273, 274, 277, 278, 279
_MOST, _PLANAR = 281, 284
_T4_OPTIONS, _T6_OPTIONS, _PREDICTOR, _COLORS, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = (
    292, 293, 317, 320, 322, 323, 324, 325
)  # fmt: skip
_SUB_DIRECTORIES, _INK_SET, _EXTRA, _SAMPLE_FORMAT, _JPEG_TABLES = 330, 332, 338, 339, 347
_YCBCR_WEIGHTS, _YCBCR_SUBSAMPLING, _YCBCR_RANGE, _PROFILE, _DNG_VERSION = 529, 530, 532, 34675, 50706

_COMPRESSIONS = {
    1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 6: "old-style JPEG", 7: "JPEG", 8: "Deflate",
    32773: "PackBits", 32946: "Deflate", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000",
    34887: "LERC", 34892: "lossy DNG JPEG", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL",
    52546: "JPEG XL",
}  # fmt: skip
_READ_COMPRESSIONS = {"none", "CCITT", "LZW", "JPEG", "Deflate", "PackBits", "LZMA", "Zstandard"}
_PREDICTED = {"LZW", "Deflate", "LZMA", "Zstandard"}  # libtiff ignores the predictor of all others
_PHOTOMETRICS = {
    0: "WhiteIsZero", 1: "BlackIsZero", 2: "RGB", 3: "palette", 4: "transparency mask", 5: "CMYK", 6: "YCbCr",
    8: "CIELab", 9: "ICCLab", 10: "ITULab", 32803: "raw camera data (CFA)", 32844: "LogL", 32845: "LogLuv",
    34892: "raw camera data (linear raw)", 51177: "depth map",
}  # fmt: skip
_COLOR_CHANNELS = {"WhiteIsZero": 1, "BlackIsZero": 1, "RGB": 3, "palette": 1, "CMYK": 4, "YCbCr": 3}
_SAMPLE_FORMATS = {2: "signed integers", 3: "floating point numbers", 5: "complex integers", 6: "complex numbers"}

_LETTERS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d",
            13: "I", 16: "Q", 17: "q", 18: "Q"}  # fmt: skip
_MAX_DIRECTORIES = 64  # that are looked at in search of the picture
_MAX_CHANNELS = 8
_MAX_ENTRIES = 4096  # tags of a directory
_MAX_VALUES = 1 << 24  # values of a tag: the offsets of strips or tiles are the longest
_BLOCK = 1 << 20  # values that are unpacked at once
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(256, 8)[:, ::-1])


@dataclass(frozen=True)
class TiffPixels:
    """Hold the decoded colours of a TIFF, not yet turned upright.

    Attributes:
        values: (H, W, channels), uint8 or uint16 of full range: grey, RGB or CMYK (0 = no ink), then opacity if any.
        space: the colour space of the values.
    """

    values: Values
    space: Literal["grey", "rgb", "cmyk"]


class TiffFile:
    """Describe the picture of a TIFF, by its tags.

    Args:
        stream: the file; classic or BigTIFF, of either byte order. It is read only here.

    Attributes:
        more_pages: whether there are further pictures of full size, which are not read.

    Raises:
        ImageError: the layout is not read; the message names it.
        ValueError: the file is damaged. `struct.error` means the same.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._tags, self.more_pages = _choose(_Directories(stream))
        self._check()

    @property
    def width(self) -> int:
        """Width in pixels, as stored."""
        return self._one(_WIDTH)

    @property
    def height(self) -> int:
        """Height in pixels, as stored."""
        return self._one(_HEIGHT)

    @property
    def orientation(self) -> int:
        """Orientation, 1 to 8, as in EXIF."""
        found = self._one(_ORIENTATION, 1)
        return found if found in range(1, 9) else 1

    @property
    def profile(self) -> bytes | None:
        """The embedded colour profile."""
        found = self._tags.values(_PROFILE)
        return bytes(found) if found and max(found) < 256 else None

    @property
    def alpha(self) -> bool:
        """Whether a channel is opacity."""
        return self._alpha is not None

    @property
    def bits(self) -> int:
        """Bits per channel of the decoded picture, 8 or 16."""
        return 16 if self._depth > 8 and self._space != "CMYK" else 8

    @property
    def _depth(self) -> int:
        return self._tags.values(_BITS, (1,))[0]

    @property
    def _samples(self) -> int:
        return self._one(_SAMPLES, 1)

    @property
    def _compression(self) -> str:
        found = self._one(_COMPRESSION, 1)
        return _COMPRESSIONS.get(found, f"number {found}")

    @property
    def _space(self) -> str:
        found = self._one(_PHOTOMETRIC, 1)
        return _PHOTOMETRICS.get(found, f"number {found}")

    @property
    def _planar(self) -> bool:
        return self._one(_PLANAR, 1) == 2 and self._samples > 1

    @property
    def _tiled(self) -> bool:
        return _TILES in self._tags or _TILE_WIDTH in self._tags

    @cached_property
    def _alpha(self) -> int | None:
        """Number of the channel that is opacity."""
        colors = _COLOR_CHANNELS.get(self._space, self._samples)
        if _EXTRA not in self._tags:  # a single channel that nobody has explained is opacity to most readers
            return colors if self._samples == colors + 1 and self._space in ("RGB", "BlackIsZero") else None
        kinds = self._tags.values(_EXTRA)[: max(0, self._samples - colors)]
        return next((colors + place for place, kind in enumerate(kinds) if kind in (1, 2)), None)

    @property
    def _associated(self) -> bool:
        """Whether the colours are multiplied by the opacity."""
        if self._alpha is None or _EXTRA not in self._tags:
            return False
        return self._tags.values(_EXTRA)[self._alpha - _COLOR_CHANNELS[self._space]] == 1

    def _one(self, tag: int, default: int | None = None) -> int:
        values = self._tags.values(tag, None if default is None else (default,))
        if not values:
            raise ValueError(f"its tag {tag} is missing")
        return int(values[0])

    def _check(self) -> None:
        """Refuse what is not read."""
        if min(self.width, self.height) < 1:
            raise ValueError(f"it is {self.width}x{self.height}")
        for what in self._unread():
            raise ImageError(f"TIFF {what} is not read; save it as grey or RGB of 8 or 16 bits")

    def _unread(self) -> Iterator[str]:
        """Name what is not read in this layout."""
        space, samples, depth, compression = self._space, self._samples, self._depth, self._compression
        depths = self._tags.values(_BITS, (1,))[:samples]
        formats = [each for each in self._tags.values(_SAMPLE_FORMAT)[:samples] if each not in (1, 4)]
        if _DNG_VERSION in self._tags and space.startswith("raw"):
            yield f"that is a DNG of {space}"
        if space not in _COLOR_CHANNELS:
            yield f"of photometric interpretation {space}"
        if formats:
            yield f"of {depth}-bit {_SAMPLE_FORMATS.get(formats[0], 'numbers of an unknown kind')}"
        if not 1 <= depth <= 16:
            yield f"of {depth}-bit integers"
        if len(set(depths)) > 1:
            yield f"with channels of different depths ({', '.join(map(str, depths))} bits)"
        if compression not in _READ_COMPRESSIONS:
            yield f"compressed with {compression}"
        colors = _COLOR_CHANNELS[space]
        if samples < colors:
            yield f"of {space} with {samples} channels"
        if samples > _MAX_CHANNELS or (colors == 1 and samples > 2 and self._alpha is None):
            yield f"of {samples} channels in {space}"
        if self._one(_PLANAR, 1) not in (1, 2):
            yield f"of planar configuration {self._one(_PLANAR, 1)}"
        if space == "CMYK" and self._one(_INK_SET, 1) != 1:
            yield "of inks other than CMYK"
        if space == "CMYK" and self.alpha:
            yield "of CMYK with transparency"
        if space in ("WhiteIsZero", "YCbCr") and self._associated:
            yield f"of {space} with associated transparency"
        if space == "palette" and (self._associated or _COLORS not in self._tags):
            yield "with a palette and associated transparency" if self._associated else "with a palette that is missing"
        if self._one(_FILL_ORDER, 1) == 2 and compression not in ("none", "CCITT"):
            yield f"of reversed bits compressed with {compression}"
        if compression == "CCITT" and (depth, samples) != (1, 1):
            yield f"of {samples} channels of {depth} bits compressed with CCITT"
        if compression == "JPEG" and (depth != 8 or samples != colors or (self._planar and space == "YCbCr")):
            yield f"of {space} in {samples} channels of {depth} bits compressed with JPEG"
        if compression == "JPEG" and space == "palette":
            yield "with a palette compressed with JPEG"
        predictor = self._predictor
        if predictor != 1 and (predictor != 2 or depth not in (8, 16)):
            yield f"of {depth} bits with predictor {predictor}"
        if space == "YCbCr" and compression != "JPEG":
            if depth != 8:
                yield f"of YCbCr with {depth} bits"
            if tuple(self._tags.values(_YCBCR_SUBSAMPLING, (2, 2))) != (1, 1):
                yield "of YCbCr with reduced chroma, not compressed with JPEG,"
        if space == "YCbCr":
            weights = self._tags.values(_YCBCR_WEIGHTS, (0.299, 0.587, 0.114))
            full = self._tags.values(_YCBCR_RANGE, (0, 255, 128, 255, 128, 255))
            if max(abs(a - b) for a, b in zip(weights, (0.299, 0.587, 0.114), strict=True)) > 1e-3:
                yield "of YCbCr with other weights than those of JPEG"
            if max(abs(a - b) for a, b in zip(full, (0, 255, 128, 255, 128, 255), strict=True)) > 1:
                yield "of YCbCr with a limited range"

    @property
    def _predictor(self) -> int:
        return self._one(_PREDICTOR, 1) if self._compression in _PREDICTED else 1

    def decode(self, data: bytes, max_pixels: int) -> TiffPixels:
        """Decode the picture.

        Args:
            data: the whole file.
            max_pixels: larger tiles are refused.

        Raises:
            ImageError: a tile is too large, or 16-bit values use fewer bits.
            ValueError: the file is damaged; `OSError` from Pillow means the same.
        """
        space, colors = self._space, _COLOR_CHANNELS[self._space]
        values = self._stored(data, max_pixels)
        if space == "palette":
            return TiffPixels(self._through_palette(values), "rgb")
        ink, alpha = values[..., :colors], values[..., colors:]
        if space == "YCbCr":
            if self._compression != "JPEG":  # of JPEG, libtiff has made RGB
                image = PillowImage.frombytes("YCbCr", (self.width, self.height), np.ascontiguousarray(ink).tobytes())
                ink = np.asarray(image.convert("RGB"))
        elif self._depth == 16 and space != "CMYK":
            most = int(max(self._tags.values(_MOST, (65535,))))
            check_full_range(ink, most.bit_length() if most in (1023, 4095, 16383) else 16)
        full = (1 << self._depth) - 1
        if space == "WhiteIsZero":
            ink = full - ink
        if self._alpha is not None and _EXTRA not in self._tags and not alpha.any():
            alpha = alpha[..., :0]  # nobody calls it opacity, and nothing would be left of the picture
        ink, alpha = _spread(ink, self._depth), _spread(alpha, self._depth)
        if self._associated:
            ink = _unmultiplied(ink, alpha)
        whole = np.concatenate([ink, alpha], axis=2) if alpha.shape[2] else ink
        return TiffPixels(whole, "grey" if colors == 1 else "cmyk" if space == "CMYK" else "rgb")

    def _through_palette(self, values: Values) -> Values:
        table = np.array(self._tags.values(_COLORS), np.uint16)
        if len(table) != 3 << self._depth:
            raise ValueError(f"its palette has {len(table)} numbers, not {3 << self._depth}")
        table = table.reshape(3, -1).T
        if self._depth <= 8:
            table = (table if table.max() < 256 else table >> 8).astype(np.uint8)  # some writers store 8-bit colours
        alpha = _spread(values[..., 1:], self._depth)
        return np.concatenate([table[values[..., 0]], alpha], axis=2)

    def _stored(self, data: bytes, max_pixels: int) -> Values:
        """Decompress the stored numbers of colours and opacity, (H, W, channels)."""
        keep = [*range(_COLOR_CHANNELS[self._space]), *([] if self._alpha is None else [self._alpha])]
        grid = self._grid(max_pixels)
        if self._planar:
            return np.concatenate([self._plane(data, grid, plane, 1) for plane in keep], axis=2)
        values = self._plane(data, grid, 0, self._samples)
        return values if len(keep) == self._samples else np.ascontiguousarray(values[..., keep])

    def _grid(self, max_pixels: int) -> "_Grid":
        width, height = self.width, self.height
        chunk_width, chunk_height = width, min(self._one(_ROWS, 2**32 - 1), height)
        if self._tiled:
            chunk_width, chunk_height = self._one(_TILE_WIDTH), self._one(_TILE_HEIGHT)
        if min(chunk_width, chunk_height) < 1:
            raise ValueError(f"it has strips or tiles of {chunk_width}x{chunk_height}")
        grid = _Grid(chunk_width, chunk_height, -(-width // chunk_width), -(-height // chunk_height))
        area = chunk_width * chunk_height
        if self._tiled and (area > max_pixels or area * grid.across * grid.down > 4 * max_pixels):
            size = f"a tile of {chunk_width}x{chunk_height}"
            raise ImageError(f"{size} is more than {max_pixels} pixels; reduce the image or raise max_pixels")
        return grid

    def _plane(self, data: bytes, grid: "_Grid", plane: int, channels: int) -> Values:
        """Decompress one plane, or all channels if they are interleaved: (H, W, channels)."""
        count = grid.across * grid.down
        rows = count * grid.height if self._tiled else self.height
        row_bytes = -(-grid.width * channels * self._depth // 8)
        chunks = self._chunks(data, plane * count, count, grid, rows, row_bytes)
        values: Values
        if self._compression in ("JPEG", "CCITT"):
            image = self._through_libtiff(chunks, grid.width, rows, grid.height, channels)
            values = np.asarray(image).reshape(rows, grid.width, channels).astype(np.uint8)
        else:
            if self._compression == "none":
                packed = np.frombuffer(b"".join(chunks), np.uint8).reshape(rows, row_bytes)
                packed = _REVERSED[packed] if self._one(_FILL_ORDER, 1) == 2 else packed
            else:
                packed = np.asarray(self._through_libtiff(chunks, row_bytes, rows, grid.height, 0))
            values = _unpacked(packed, grid.width * channels, self._depth, self._tags.order)
            values = values.reshape(rows, grid.width, channels)
            if self._predictor == 2:
                values = np.cumsum(values, axis=1, dtype=values.dtype)  # modulo 2^bits
        if self._tiled:
            values = values.reshape(grid.down, grid.across, grid.height, grid.width, channels).swapaxes(1, 2)
            values = values.reshape(grid.down * grid.height, grid.across * grid.width, channels)
        return np.ascontiguousarray(values[: self.height, : self.width])

    def _chunks(
        self, data: bytes, first: int, count: int, grid: "_Grid", rows: int, row_bytes: int
    ) -> list[memoryview]:
        """Cut the strips or tiles of a plane out of the file."""
        tags = self._tags
        offsets = tags.values(_TILES if _TILES in tags else _STRIPS)[first : first + count]
        lengths = tags.values(_TILE_BYTES if _TILE_BYTES in tags else _STRIP_BYTES)[first : first + count]
        if len(offsets) != count:
            raise ValueError(f"it has {len(offsets)} strips or tiles, not {count}")
        if self._compression == "none":
            sizes = [min(grid.height, rows - at * grid.height) * row_bytes for at in range(count)]
            if lengths and any(have < need for have, need in zip(lengths, sizes, strict=False)):
                raise ValueError("a strip or tile is shorter than its pixels")
            lengths = sizes
        if len(lengths) != count or sum(lengths) > MAX_OVERLAP * len(data):
            raise ValueError("the sizes of its strips or tiles cannot be right")
        if any(at + length > len(data) for at, length in zip(offsets, lengths, strict=True)):
            raise ValueError("a strip or tile lies behind the end of the file")
        view = memoryview(data)
        return [view[at : at + length] for at, length in zip(offsets, lengths, strict=True)]

    def _through_libtiff(
        self, chunks: list[memoryview], width: int, rows: int, chunk_rows: int, channels: int
    ) -> PillowImage.Image:
        """Decompress with libtiff, by a TIFF of one column of strips, made for this.

        Args:
            chunks: the compressed strips or tiles.
            width: width of a strip in pixels, or in bytes if the numbers are to stay as they are.
            rows: height of all strips together.
            chunk_rows: height of a strip.
            channels: channels of the picture; 0 for numbers that stay as they are.
        """
        tags: dict[int, tuple[str, Any]] = {
            _WIDTH: ("I", [width]), _HEIGHT: ("I", [rows]), _BITS: ("H", [8] * max(1, channels)),
            _COMPRESSION: ("H", [self._one(_COMPRESSION)]), _PHOTOMETRIC: ("H", [1]),
            _SAMPLES: ("H", [max(1, channels)]),
            _ROWS: ("I", [chunk_rows]), _STRIP_BYTES: ("I", [len(chunk) for chunk in chunks]), _PLANAR: ("H", [1]),
        }  # fmt: skip
        starts = np.cumsum([8, *map(len, chunks)])
        if int(starts[-1]) > 2**32 - 2**26:
            raise ValueError("it has more than 4 GB of compressed data")
        tags[_STRIPS] = ("I", starts[:-1].tolist())
        if self._compression == "CCITT":
            tags[_BITS] = ("H", [1])
            for tag in (_FILL_ORDER, _T4_OPTIONS, _T6_OPTIONS):
                if tag in self._tags:
                    tags[tag] = ("H" if tag == _FILL_ORDER else "I", [self._one(tag)])
        elif channels and self._compression == "JPEG":
            tags[_PHOTOMETRIC] = ("H", [1 if channels == 1 else self._one(_PHOTOMETRIC)])
            if _JPEG_TABLES in self._tags:
                tags[_JPEG_TABLES] = ("B", self._tags.values(_JPEG_TABLES))
            if self._space == "YCbCr":
                tags[_YCBCR_SUBSAMPLING] = ("H", self._tags.values(_YCBCR_SUBSAMPLING, (2, 2)))
        file = _written(tags, b"".join(chunks))
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(file), "")
        image.load()
        if image.size != (width, rows) or len(image.getbands()) != max(1, channels):
            raise ValueError("its compressed data has another shape than its tags")
        return image


@dataclass(frozen=True)
class _Grid:
    """Hold the size of a strip or tile, and how many lie side by side and one below the other."""

    width: int
    height: int
    across: int
    down: int


class _Tags:
    """Look up the values of the tags of one directory."""

    def __init__(self, stream: BinaryIO, order: str, big: bool, entries: bytes, size: int) -> None:
        self.order = order
        self._found: dict[int, tuple[int, ...]] = {}
        room = 8 if big else 4  # bytes of a value, or of the offset of values
        claimed, fractions = 0, (_YCBCR_WEIGHTS, _YCBCR_RANGE)
        for at in range(0, len(entries), 12 + 2 * (room - 4)):
            tag, kind, count = struct.unpack_from(f"{order}HHQ" if big else f"{order}HHI", entries, at)
            if tag not in _WANTED or kind not in _LETTERS or tag in self._found:
                continue
            if kind in (5, 10, 11, 12) and tag not in fractions:
                continue
            at += 4 + room
            letters = _LETTERS[kind]
            length = struct.calcsize("<" + letters) * count
            place = entries[at : at + room]
            claimed += length
            if count > _MAX_VALUES or claimed > MAX_OVERLAP * size:
                raise ValueError(f"its tag {tag} claims {count} values")
            if length > len(place):
                stream.seek(struct.unpack(f"{order}{'Q' if big else 'I'}", place)[0])
                place = stream.read(length)
                if len(place) < length:
                    raise ValueError(f"its tag {tag} lies behind the end of the file")
            self._found[tag] = _numbers(place[:length], order, letters, count)

    def __contains__(self, tag: int) -> bool:
        return bool(self._found.get(tag))

    def values(self, tag: int, default: Any = ()) -> Any:
        """Return the values of a tag as a tuple of numbers."""
        return self._found.get(tag) or default or ()


_WANTED = {
    _SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _STRIPS, _ORIENTATION,
    _SAMPLES, _ROWS, _STRIP_BYTES, _MOST, _PLANAR, _T4_OPTIONS, _T6_OPTIONS, _PREDICTOR, _COLORS, _TILE_WIDTH,
    _TILE_HEIGHT, _TILES, _TILE_BYTES, _SUB_DIRECTORIES, _INK_SET, _EXTRA, _SAMPLE_FORMAT, _JPEG_TABLES, _YCBCR_WEIGHTS,
    _YCBCR_SUBSAMPLING, _YCBCR_RANGE, _PROFILE, _DNG_VERSION,
}  # fmt: skip


class _Directories:
    """Walk through the directories of a TIFF."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        head = stream.read(16)
        self._order = "<" if head[:2] == b"II" else ">"
        version = struct.unpack(f"{self._order}H", head[2:4])[0]
        self._big = version == 43
        layout = f"{self._order}HHQ" if self._big else f"{self._order}I"
        if self._big and struct.unpack(layout, head[4:16])[:2] != (8, 0):
            raise ValueError("its BigTIFF header is damaged")
        self.first = struct.unpack(layout, head[4:16] if self._big else head[4:8])[-1]

    def chain(self, offset: int) -> Iterator[_Tags]:
        """Yield the directories of a chain, from the one at ``offset``."""
        seen: set[int] = set()
        while offset and offset not in seen and len(seen) < _MAX_DIRECTORIES:
            seen.add(offset)
            self._stream.seek(offset)
            counted, step, link = ("Q", 20, "Q") if self._big else ("H", 12, "I")
            head = self._stream.read(struct.calcsize("<" + counted))
            if len(head) < struct.calcsize("<" + counted):
                break
            count = struct.unpack(self._order + counted, head)[0]
            if not 0 < count <= _MAX_ENTRIES:
                break
            entries = self._stream.read(count * step)
            after = self._stream.read(struct.calcsize("<" + link))
            if len(entries) < count * step:
                break
            offset = struct.unpack(self._order + link, after)[0] if len(after) == struct.calcsize("<" + link) else 0
            yield _Tags(self._stream, self._order, self._big, entries, self._size)


def _choose(directories: _Directories) -> tuple[_Tags, bool]:
    """Find the first directory that holds a picture of full size, and tell whether there are further ones."""
    pages = [tags for tags in directories.chain(directories.first) if _WIDTH in tags]
    if not pages:
        raise ValueError("it has no picture")
    full = [tags for tags in pages if _is_full(tags)]
    if not full:  # cameras and scanners may put the picture below its thumbnail
        below = [offset for tags in pages for offset in tags.values(_SUB_DIRECTORIES)[:_MAX_DIRECTORIES]]
        subs = [tags for offset in below[:_MAX_DIRECTORIES] for tags in directories.chain(offset) if _WIDTH in tags]
        full = [tags for tags in subs if _is_full(tags)]
        full = full or [max(pages, key=lambda tags: tags.values(_WIDTH)[0] * tags.values(_HEIGHT, (0,))[0])]
    return full[0], len(full) > 1


def _is_full(tags: _Tags) -> bool:
    """Tell whether a directory is neither a reduced picture nor a mask."""
    return not (tags.values(_SUBFILE, (0,))[0] & 0b101 or tags.values(_OLD_SUBFILE, (0,))[0] == 2)


def _numbers(content: bytes, order: str, letters: str, count: int) -> tuple[Any, ...]:
    numbers = struct.unpack(f"{order}{count * len(letters)}{letters[0]}", content)
    if len(letters) == 2:
        return tuple(top / bottom if bottom else 0.0 for top, bottom in zip(numbers[::2], numbers[1::2], strict=True))
    return numbers


def _written(tags: dict[int, tuple[str, Any]], content: bytes) -> bytes:
    """Write a TIFF of little-endian byte order: header, content, values, directory."""
    values, entries = b"", b""
    base = 8 + len(content) + len(content) % 2
    for tag, (letter, numbers) in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}{letter}", *numbers)
        place = packed.ljust(4, b"\0")
        if len(packed) > 4:
            place = struct.pack("<I", base + len(values))
            values += packed + bytes(len(packed) % 2)
        entries += struct.pack("<HHI", tag, {"B": 7, "H": 3, "I": 4}[letter], len(numbers)) + place
    head = b"II*\0" + struct.pack("<I", base + len(values))
    return b"".join([head, content, bytes(len(content) % 2), values, struct.pack("<H", len(tags)), entries, bytes(4)])


def _unpacked(packed: NDArray[np.uint8], count: int, bits: int, order: str) -> Values:
    """Turn rows of packed bytes into rows of ``count`` numbers."""
    if bits == 8:
        return packed[:, :count]
    if bits == 16:
        return np.ascontiguousarray(packed[:, : 2 * count]).view(f"{order}u2").astype(np.uint16)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    values = np.empty((len(packed), count), np.uint8 if bits < 8 else np.uint16)
    step = max(1, _BLOCK // max(1, count))
    for top in range(0, len(packed), step):
        single = np.unpackbits(packed[top : top + step], axis=1, count=count * bits)
        values[top : top + step] = single.reshape(-1, count, bits) @ weights
    return values


def _spread(values: Values, bits: int) -> Values:
    """Scale numbers of some bits to the full range of uint8 (up to 8 bits) or of uint16."""
    if bits in (8, 16):
        return values
    full = (1 << bits) - 1
    most, dtype = (255, np.uint8) if bits < 8 else (65535, np.uint16)
    return ((np.arange(full + 1, dtype=np.uint32) * most + full // 2) // full).astype(dtype)[values]


def _unmultiplied(ink: Values, alpha: Values) -> Values:
    """Divide colours by the opacity that they are multiplied by; both of full range."""
    full, weight = np.iinfo(ink.dtype).max, alpha.astype(np.uint32)
    colors = (ink * np.uint32(full) + weight // 2) // np.maximum(weight, 1)
    return np.where(weight, np.minimum(colors, full), 0).astype(ink.dtype)

"""Write the picture as TIFF in every combination of layouts, with a writer that shares nothing with the reader."""

import io
import itertools
import lzma
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from image_layouts.picture import HEIGHT, WIDTH, Layout, colors, opacity, quantized, seen

Numbers = NDArray[np.unsignedinteger]
SPACES = {"WhiteIsZero": 0, "BlackIsZero": 1, "RGB": 2, "palette": 3, "CMYK": 5, "YCbCr": 6}
CHANNELS = {"WhiteIsZero": 1, "BlackIsZero": 1, "RGB": 3, "palette": 1, "CMYK": 4, "YCbCr": 3}
EXTRAS: dict[str, tuple[int, ...]] = {  # the kinds of extra channels, and what each holds
    "none": (), "associated alpha": (1,), "unassociated alpha": (2,), "unspecified": (0,), "not described": (-1,),
    "unspecified, alpha": (0, 2),
}  # fmt: skip
COMPRESSIONS = {"none": 1, "LZW": 5, "LZW predicted": 5, "Deflate": 8, "Deflate predicted": 8, "PackBits": 32773,
                "LZMA": 34925}  # fmt: skip
GRIDS = {"strip": (WIDTH, HEIGHT), "strips": (WIDTH, 8), "tiles": (16, 16)}
DEPTHS = (1, 2, 4, 6, 8, 10, 12, 14, 16, 32)


def tiff_layouts(every: int = 1) -> Iterator[Layout]:
    """Yield every n-th combination that a TIFF can express, then what lies outside of the grid."""
    number = 0
    axes = itertools.product(
        SPACES, DEPTHS, EXTRAS, ("chunky", "planar"), COMPRESSIONS, GRIDS, ("II", "MM"), ("classic", "BigTIFF")
    )
    for space, bits, extra, planar, compression, grid, order, size in axes:
        if planar == "planar" and CHANNELS[space] + len(EXTRAS[extra]) == 1:
            continue
        if "predicted" in compression and bits not in (8, 16, 32):
            continue
        if space == "palette" and bits > 8 or space == "YCbCr" and bits != 8 or space == "CMYK" and bits < 8:
            continue
        if compression == "LZMA" and (grid != "strips" or order != "II"):
            continue
        number += 1
        if number % every:
            continue
        yield _layout(space, bits, extra, planar, compression, grid, order, size)
    yield from _with_jpeg()
    yield from _with_fax()
    yield from _special()


def _layout(
    space: str, bits: int, extra: str, planar: str, compression: str, grid: str, order: str, size: str
) -> Layout:
    numbers, tags, truth = _numbers(space, bits, extra)
    tags |= {262: ("H", [SPACES[space]]), 284: ("H", [2 if planar == "planar" else 1])}
    content = write_tiff(numbers, bits, compression, GRIDS[grid], grid == "tiles", tags, order=order, size=size)
    name = f"{space}, {bits} bits, extra: {extra}, {planar}, {compression}, {grid}, {order}, {size}"
    return Layout("TIFF", name, content, truth, numbers)


def _numbers(space: str, bits: int, extra: str) -> tuple[Numbers, dict, NDArray[np.uint8] | None]:
    """Work out the numbers to store, the tags that explain them, and how they look."""
    full, tags = 2**bits - 1, {}
    grey, rgb, alpha = colors()[..., 0], colors(), opacity()
    kinds = EXTRAS[extra]
    marked = any(kind in (1, 2) for kind in kinds)
    # a fourth channel that nobody describes is taken for opacity by most readers; so is the second of BlackIsZero
    as_alpha = marked or (kinds == (-1,) and space in ("RGB", "BlackIsZero"))
    opaque = quantized(alpha, bits) / full if as_alpha else None
    if space in ("WhiteIsZero", "BlackIsZero", "RGB"):
        ink = quantized(rgb if space == "RGB" else grey[..., None], bits)
        if 1 in kinds:
            ink = np.round(ink * opaque[..., None]).astype(ink.dtype)
            safe = np.where(opaque > 0, opaque, 1)[..., None]
            shown = (ink / full / safe).clip(0, 1)
        else:
            shown = ink / full
        if space == "WhiteIsZero":
            ink = (full - ink).astype(ink.dtype)
    elif space == "palette":
        ink = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) % (full + 1)).astype(np.uint8)
        table = np.stack([np.linspace(0, 1, full + 1) ** power for power in (0.5, 1, 2)])
        table[:, full // 2] = (1, 0, 0)
        stored = np.round(table * 255).astype(np.uint16) * 257
        tags[320] = ("H", stored.ravel().tolist())
        shown = stored.T[ink[..., 0]] / 65535
    elif space == "CMYK":
        ink = quantized(np.dstack([1 - rgb, 0.3 * grey]), bits)
        eight = np.round(ink / full * 255).astype(np.uint8)
        shown = np.asarray(Image.fromarray(np.ascontiguousarray(eight), "CMYK").convert("RGB")) / 255
    else:
        ink = np.asarray(Image.fromarray(seen(rgb)).convert("YCbCr"))
        shown = np.asarray(Image.fromarray(np.ascontiguousarray(ink), "YCbCr").convert("RGB")) / 255
        tags[530] = ("H", [1, 1])
    layers = [ink]
    for kind in kinds:  # an unspecified channel holds zeros, as from a film scanner: opacity it is not
        layers.append(np.zeros((HEIGHT, WIDTH, 1), ink.dtype) if kind == 0 else quantized(alpha, bits)[..., None])
    if kinds and -1 not in kinds:
        tags[338] = ("H", list(kinds))
    # what colours multiplied by opacity mean there, and how CMYK is laid on white, nobody has defined
    known = bits <= 16 and not (1 in kinds and space not in ("BlackIsZero", "RGB")) and not (marked and space == "CMYK")
    truth = seen(shown if shown.shape[2] == 3 else shown[..., 0], opaque) if known else None
    return np.dstack(layers), tags, truth


def write_tiff(
    numbers: Numbers,
    bits: int,
    compression: str,
    grid: tuple[int, int],
    tiled: bool,
    tags: dict,
    *,
    order: str = "II",
    size: str = "classic",
    pages_before: tuple[dict, ...] = (),
) -> bytes:
    """Write a TIFF of one picture.

    Args:
        numbers: (H, W, channels).
        bits: bits of each number in the file.
        compression: a key of COMPRESSIONS.
        grid: width and height of a strip or tile.
        tiled: whether these are tiles.
        tags: further tags, as struct's letter and values.
        order: II or MM.
        size: classic or BigTIFF.
        pages_before: tags of directories before the one of the picture; they share its pixels.
    """
    height, width, channels = numbers.shape
    planar = tags.get(284, ("H", [1]))[1][0] == 2
    planes = [numbers[..., at : at + 1] for at in range(channels)] if planar else [numbers]
    chunks = [_packed(chunk, bits, compression, order) for plane in planes for chunk in _cut(plane, grid, tiled)]
    head = 16 if size == "BigTIFF" else 8
    places = np.cumsum([head, *map(len, chunks)])[:-1].tolist()
    own = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [bits] * channels),
        259: ("H", [COMPRESSIONS[compression]]), 277: ("H", [channels]),
    }  # fmt: skip
    if tiled:
        own |= {322: ("I", [grid[0]]), 323: ("I", [grid[1]]), 324: ("I", places), 325: ("I", list(map(len, chunks)))}
    else:
        own |= {273: ("I", places), 278: ("I", [grid[1]]), 279: ("I", list(map(len, chunks)))}
    if "predicted" in compression:
        own[317] = ("H", [2])
    own |= tags
    return assembled([*({**own, **page} for page in pages_before), own], b"".join(chunks), order, size)


def assembled(directories: list[dict], pixels: bytes, order: str = "II", size: str = "classic") -> bytes:
    """Write header, pixels and a chain of directories."""
    end, big = {"II": "<", "MM": ">"}[order], size == "BigTIFF"
    offset, count, room = ("Q", "Q", 8) if big else ("I", "H", 4)
    content = bytearray(16 if big else 8) + pixels
    links = [4 + 4 * big]
    for tags in directories:
        entries = b""
        for tag, (letter, values) in sorted(tags.items()):
            packed = struct.pack(f"{end}{len(values)}{letter}", *values)
            kind = {"B": 7, "H": 3, "I": 4, "Q": 16}[letter]
            if len(packed) > room:
                content += bytes(len(content) % 2)
                place = struct.pack(end + offset, len(content))
                content += packed
            else:
                place = packed.ljust(room, b"\0")
            entries += struct.pack(f"{end}HH{offset}", tag, kind, len(values)) + place
        content += bytes(len(content) % 2)
        content[links[-1] : links[-1] + room] = struct.pack(end + offset, len(content))
        content += struct.pack(end + count, len(tags)) + entries
        links.append(len(content))
        content += bytes(room)
    version = struct.pack(end + "HHH", 43, 8, 0) if big else struct.pack(end + "H", 42)
    content[: 2 + len(version)] = order.encode() + version
    return bytes(content)


def _cut(plane: Numbers, grid: tuple[int, int], tiled: bool) -> Iterator[Numbers]:
    height, width = plane.shape[:2]
    across, down = grid
    for top in range(0, height, down):
        for left in range(0, width, across):
            chunk = plane[top : top + down, left : left + across]
            missing = (down - chunk.shape[0], across - chunk.shape[1]) if tiled else (0, 0)
            yield np.pad(chunk, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")


def _packed(chunk: Numbers, bits: int, compression: str, order: str) -> bytes:
    rows = chunk
    if "predicted" in compression:
        rows = chunk.copy()
        rows[:, 1:] -= chunk[:, :-1]
    flat = rows.reshape(len(rows), -1)
    if bits in (8, 16, 32):
        content = flat.astype(f"{'<' if order == 'II' else '>'}u{bits // 8}").tobytes()
    else:
        single = flat[..., None].astype(np.uint32) >> np.arange(bits - 1, -1, -1, dtype=np.uint32) & 1
        content = np.packbits(single.reshape(len(flat), -1).astype(np.uint8), axis=1).tobytes()
    match compression.split()[0]:
        case "LZW":
            return _lzw(content)
        case "Deflate":
            return zlib.compress(content)
        case "PackBits":
            length = len(content) // len(rows)
            return b"".join(_packbits(content[at : at + length]) for at in range(0, len(content), length))
        case "LZMA":
            return lzma.compress(content, format=lzma.FORMAT_XZ)
    return content


def _packbits(row: bytes) -> bytes:
    out, at = b"", 0
    while at < len(row):
        run = 1
        while run < 128 and row[at : at + 1] * (run + 1) == row[at : at + run + 1]:
            run += 1
        if run > 1:
            out += bytes([257 - run]) + row[at : at + 1]
        else:
            out += b"\0" + row[at : at + 1]
        at += run
    return out


def _lzw(content: bytes) -> bytes:
    """Compress as TIFF 6.0 section 13: codes of 9 to 12 bits, most significant bit first."""
    bits: list[str] = []
    table: dict[bytes, int] = {}
    width, word = 9, b""

    def start() -> None:
        nonlocal table, width
        bits.append(f"{256:0{width}b}")
        table, width = {bytes([code]): code for code in range(256)}, 9

    start()
    for at in range(len(content)):
        longer = word + content[at : at + 1]
        if longer in table:
            word = longer
            continue
        bits.append(f"{table[word]:0{width}b}")
        table[longer] = len(table) + 2
        word = content[at : at + 1]
        width = max(9, (len(table) + 2).bit_length())
        if len(table) + 2 == 4094:
            start()
    bits.append(f"{table[word]:0{width}b}")
    table[word + b"."] = 0
    width = min(12, max(9, (len(table) + 2).bit_length()))
    bits.append(f"{257:0{width}b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _with_jpeg() -> Iterator[Layout]:
    rgb = Image.fromarray(seen(colors()))
    for mode, space in (("L", "BlackIsZero"), ("RGB", "YCbCr"), ("CMYK", "CMYK")):
        image, file = rgb.convert(mode), io.BytesIO()
        image.save(file, "TIFF", compression="jpeg", quality=95)
        yield Layout("TIFF", f"{space}, 8 bits, JPEG", file.getvalue(), np.asarray(image.convert("RGB")), None, 6)
    for subsampling in (0, 2):
        for grid, tiled in (((WIDTH, 16), False), ((WIDTH, HEIGHT), False), ((32, 16), True)):
            chunks = []
            for chunk in _cut(np.asarray(rgb), grid, tiled):
                file = io.BytesIO()
                Image.fromarray(np.ascontiguousarray(chunk)).save(file, "JPEG", quality=95, subsampling=subsampling)
                chunks.append(file.getvalue())
            places = np.cumsum([8, *map(len, chunks)])[:-1].tolist()
            names = (324, 325) if tiled else (273, 279)
            tags = {256: ("I", [WIDTH]), 257: ("I", [HEIGHT]), 258: ("H", [8] * 3), 259: ("H", [7]), 262: ("H", [6]),
                    277: ("H", [3]), 530: ("H", [subsampling or 1] * 2), names[0]: ("I", places),
                    names[1]: ("I", list(map(len, chunks)))}  # fmt: skip
            tags |= {322: ("I", [grid[0]]), 323: ("I", [grid[1]])} if tiled else {278: ("I", [grid[1]])}
            name = f"YCbCr, 8 bits, JPEG, chroma {'1/2' if subsampling else 'full'}, {'tiles' if tiled else grid}"
            yield Layout("TIFF", name, assembled([tags], b"".join(chunks)), seen(colors()), None, 16)


def _with_fax() -> Iterator[Layout]:
    black = colors()[..., 0] > 0.5
    for compression in ("tiff_ccitt", "group3", "group4"):
        for photometric in (0, 1):
            file = io.BytesIO()
            Image.fromarray(black).save(file, "TIFF", compression=compression, tiffinfo={262: photometric})
            truth = seen(np.asarray(Image.open(io.BytesIO(file.getvalue()))).astype(np.float64))
            name = f"{['White', 'Black'][photometric]}IsZero, 1 bit, {compression}"
            yield Layout("TIFF", name, file.getvalue(), truth)


def _special() -> Iterator[Layout]:
    """Yield layouts beside the grid: other kinds of numbers, orientations, thumbnails, unused bits."""
    rgb, strip = colors(), GRIDS["strip"]
    eight, deep, truth = quantized(rgb, 8), quantized(rgb, 16), seen(rgb)
    plain = {262: ("H", [2])}

    def special(name: str, numbers: Numbers, bits: int, tags: dict, truth: NDArray[np.uint8] | None,
                compression: str = "none", **more: object) -> Layout:  # fmt: skip
        content = write_tiff(numbers, bits, compression, strip, False, plain | tags, **more)  # type: ignore[arg-type]
        return Layout("TIFF", name, content, truth, None)

    for order in ("II", "MM"):
        for kind, bits, what in ((2, 8, "signed"), (2, 16, "signed"), (3, 16, "float"), (3, 32, "float")):
            numbers = (rgb * 127).astype(np.uint32) if kind == 2 else quantized(rgb, 16)
            if (kind, bits) == (3, 32):
                numbers = rgb.astype(np.float32).view(np.uint32)
            tags = {339: ("H", [kind] * 3)}
            yield special(f"RGB, {bits}-bit {what}, {order}", numbers, bits, tags, None, order=order)
        for orientation in range(1, 9):
            for numbers, bits in ((eight, 8), (deep, 16)):
                for compression in ("none", "LZW"):
                    name = f"RGB, {bits} bits, orientation {orientation}, {compression}, {order}"
                    tags = {274: ("H", [orientation])}
                    yield special(name, numbers, bits, tags, upright(truth, orientation), compression, order=order)
    for space, photometric in (("CIELab", 8), ("ICCLab", 9), ("LogLuv", 32845), ("CFA", 32803), ("linear raw", 34892)):
        for numbers, bits in ((eight, 8), (deep, 16)):
            yield special(f"{space}, {bits} bits", numbers, bits, {262: ("H", [photometric])}, None)
    for bits in (10, 12):
        few = quantized(rgb, bits)
        yield special(f"RGB, {bits}-bit values in 16 bits", few.astype(np.uint16), 16, {}, None)
        yield special(f"WhiteIsZero, {bits}-bit values in 16 bits", few[..., :1].astype(np.uint16), 16,
                      {262: ("H", [0])}, None)  # fmt: skip
    yield special("RGB, 14-bit values in 16 bits, told by MaxSampleValue", quantized(rgb, 14), 16,
                  {281: ("H", [16383] * 3)}, None)  # fmt: skip
    dark = np.round(rgb * 10).astype(np.uint8)
    yield special("RGB, a dark picture of 8 bits in 16", dark.astype(np.uint16) * 257, 16, {}, dark)
    for numbers, bits in ((eight, 8), (deep, 16)):
        small = {254: ("I", [1]), 256: ("I", [WIDTH // 2]), 257: ("I", [HEIGHT // 2])}
        old = {**small, 254: ("I", [0]), 255: ("H", [2])}
        for what, page in (("thumbnail", small), ("thumbnail of the old kind", old), ("mask", {254: ("I", [4])})):
            yield special(f"RGB, {bits} bits, {what} first", numbers, bits, {}, truth, pages_before=(page,))
        clear = np.dstack([numbers, np.zeros((HEIGHT, WIDTH), numbers.dtype)])
        yield special(f"RGB, {bits} bits, a fourth channel of zeros that nobody describes", clear, bits, {}, truth)
        many = np.dstack([numbers] * 3)
        yield special(f"{bits} bits, nine grey channels", many, bits, {262: ("H", [1]), 338: ("H", [0] * 8)}, None)
        yield special(f"{bits} bits, inks other than CMYK", np.dstack([numbers, numbers[..., :1]]), bits,
                      {262: ("H", [5]), 332: ("H", [2])}, None)  # fmt: skip
    half = {262: ("H", [6]), 530: ("H", [2, 2])}
    yield special("YCbCr, 8 bits, reduced chroma, no JPEG", eight, 8, half, None)


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn an image as EXIF says."""
    turns = {1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
             5: lambda x: x.swapaxes(0, 1), 6: lambda x: np.rot90(x, -1), 7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
             8: lambda x: np.rot90(x)}  # fmt: skip
    return np.ascontiguousarray(turns[orientation](image))

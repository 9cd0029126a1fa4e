"""Write the picture as PNG, BMP, WebP and JPEG in their combinations of layouts."""

import io
import itertools
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from image_layouts.picture import HEIGHT, WIDTH, Layout, colors, opacity, quantized, seen
from image_layouts.tiff import upright

_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_LINEAR = struct.pack(">I", 100_000)


def png_layouts() -> Iterator[Layout]:
    """Yield every colour type and depth with every kind of transparency, then what other chunks say."""
    both = (8, 16)
    depths = {"grey": (1, 2, 4, 8, 16), "palette": (1, 2, 4, 8), "RGB": both, "grey + alpha": both, "RGBA": both}
    for kind, interlaced in itertools.product(depths, (False, True)):
        for bits in depths[kind]:
            for transparent in (False, True) if "alpha" not in kind and kind != "RGBA" else (False,):
                numbers, truth, chunks = _png_numbers(kind, bits, transparent)
                name = f"{kind}, {bits} bits{', tRNS' * transparent}{', interlaced' * interlaced}"
                content = png(kind, numbers, bits, chunks, interlaced=interlaced)
                yield Layout("PNG", name, content, truth)
    text = b"workflow\0\0" + zlib.compress(bytes(3_000_000))
    orientation = [b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0" + bytes([turn, 0, 0, 0]) + bytes(4) for turn in range(9)]
    wide = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
    kinds = [*itertools.product(("grey", "RGB", "RGBA"), both), ("grey + alpha", 16)]
    for kind, bits in kinds:
        numbers, truth, _ = _png_numbers(kind, bits, False)
        for what, extra, after in (("text of 3 MB", (b"zTXt", text), False), ("text behind", (b"zTXt", text), True)):
            yield Layout("PNG", f"{kind}, {bits} bits, {what}", png(kind, numbers, bits, [extra], after=after), truth)
        for turn, after in itertools.product(range(1, 9), (False, True)):
            content = png(kind, numbers, bits, [(b"eXIf", orientation[turn])], after=after)
            place = "behind the pixels" if after else "before them"
            yield Layout("PNG", f"{kind}, {bits} bits, orientation {turn} {place}", content, upright(truth, turn))
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        srgb: tuple[tuple[str, list[tuple[bytes, bytes]]], ...] = (
            ("gAMA of sRGB", [(b"gAMA", struct.pack(">I", 45455))]),
            ("sRGB over gAMA", [(b"sRGB", b"\0"), (b"gAMA", _LINEAR)]),
            ("cICP of sRGB over gAMA", [(b"cICP", bytes([1, 13, 0, 1])), (b"gAMA", _LINEAR)]),
            ("animation", [(b"acTL", struct.pack(">II", 5, 0))]),
        )
        for what, chunks in srgb:
            yield Layout("PNG", f"{kind}, {bits} bits, {what}", png(kind, numbers, bits, chunks), truth)
        if kind[:4] != "grey":
            chunk = (b"iCCP", b"x\0\0" + zlib.compress(profile))
            yield Layout("PNG", f"{kind}, {bits} bits, profile of sRGB", png(kind, numbers, bits, [chunk]), truth)
        for transfer, what in ((16, "PQ"), (18, "HLG")):
            content = png(kind, numbers, bits, [(b"cICP", bytes([9, transfer, 0, 1]))])
            yield Layout("PNG", f"{kind}, {bits} bits, cICP of {what}", content, None)
        content = png(kind, numbers, bits, [(b"cICP", bytes([1, 13, 0, 0]))])
        yield Layout("PNG", f"{kind}, {bits} bits, cICP of a limited range", content, None)
    shown = colors()
    light = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    for bits in (8, 16):
        numbers, truth = quantized(light, bits), seen(_srgb(quantized(light, bits) / (2**bits - 1)))
        named = _matrix_profile(b"a linear sRGB", 1.0)
        for what, chunk in (("gAMA 1.0", (b"gAMA", _LINEAR)), ("cICP linear", (b"cICP", bytes([1, 8, 0, 1]))),
                            ("profile called a linear sRGB", (b"iCCP", b"x\0\0" + zlib.compress(named)))):  # fmt: skip
            yield Layout("PNG", f"RGB, {bits} bits, {what}", png("RGB", numbers, bits, [chunk]), truth, None, 1.2)
        inside = 0.3 + 0.3 * shown  # colours that fit into both gamuts
        linear = np.where(inside <= 0.04045, inside / 12.92, ((inside + 0.055) / 1.055) ** 2.4)
        other = linear @ (np.linalg.inv(_to_xyz(wide)) @ _to_xyz((0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06))).T
        content = png("RGB", quantized(_srgb(other), bits), bits, [(b"cICP", bytes([12, 13, 0, 1]))])
        yield Layout("PNG", f"RGB, {bits} bits, cICP of Display P3", content, seen(inside), None, 1.2)
    for bits in (10, 12):
        for kind, few in (("grey", quantized(shown[..., :1], bits)), ("RGB", quantized(shown, bits))):
            yield Layout("PNG", f"{kind}, {bits}-bit values in 16 bits", png(kind, few.astype(np.uint16), 16, []), None)
    few = quantized(shown, 14).astype(np.uint16)
    content = png("RGB", few, 16, [(b"sBIT", bytes([14] * 3))])
    yield Layout("PNG", "RGB, 14-bit values in 16 bits, told by sBIT", content, None)


def _png_numbers(
    kind: str, bits: int, transparent: bool
) -> tuple[NDArray[np.unsignedinteger], NDArray[np.uint8], list[tuple[bytes, bytes]]]:
    full, rgb, alpha = 2**bits - 1, colors(), opacity()
    if kind == "palette":
        table = np.stack([np.linspace(0, 1, full + 1) ** power for power in (0.5, 1, 2)], axis=1)
        numbers = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) % (full + 1)).astype(np.uint8)
        chunks = [(b"PLTE", np.round(table * 255).astype(np.uint8).tobytes())]
        clear = np.linspace(0, 1, full + 1) if transparent else np.ones(full + 1)
        if transparent:
            chunks.append((b"tRNS", np.round(clear * 255).astype(np.uint8).tobytes()))
        eight, weight = np.round(table * 255) / 255, np.round(clear * 255) / 255
        return numbers, seen(eight[numbers[..., 0]], weight[numbers[..., 0]]), chunks
    numbers = quantized(rgb[..., :1] if "grey" in kind else rgb, bits)
    shown, chunks = numbers / full, []
    if transparent:
        key = numbers[20, 11]
        chunks = [(b"tRNS", key.astype(">u2").tobytes())]
        return numbers, seen(_plain(shown), (numbers != key).any(axis=2).astype(float)), chunks
    if kind in ("RGBA", "grey + alpha"):
        opaque = quantized(alpha, bits)
        return np.dstack([numbers, opaque]), seen(_plain(shown), opaque / full), []
    return numbers, seen(_plain(shown)), []


def _plain(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values if values.shape[2] == 3 else values[..., 0]


def png(
    kind: str,
    numbers: NDArray[np.unsignedinteger],
    bits: int,
    chunks: list[tuple[bytes, bytes]],
    *,
    interlaced: bool = False,
    after: bool = False,
) -> bytes:
    """Write a PNG; further chunks come before the pixels, or after them."""
    color_type = {"grey": 0, "RGB": 2, "palette": 3, "grey + alpha": 4, "RGBA": 6}[kind]
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    raw = b""
    for left, top, across, down in passes:
        part = numbers[top::down, left::across]
        for row in part if part.size else ():
            flat = row.reshape(-1)
            if bits < 8:
                single = flat[:, None] >> np.arange(bits - 1, -1, -1) & 1
                raw += b"\0" + np.packbits(single.astype(np.uint8).ravel()).tobytes()
            else:
                raw += b"\0" + flat.astype(f">u{bits // 8}").tobytes()
    header = struct.pack(">IIBBBBB", numbers.shape[1], numbers.shape[0], bits, color_type, 0, 0, int(interlaced))
    pixels = [(b"IDAT", zlib.compress(raw))]
    ordered = [(b"IHDR", header), *([] if after else chunks), *pixels, *(chunks if after else []), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + zlib.crc32(name + data).to_bytes(4, "big")
        for name, data in ordered
    )


def bmp_layouts() -> Iterator[Layout]:
    """Yield palettes, masks, alpha and both directions."""
    rgb, alpha = colors(), opacity()
    eight, truth = quantized(rgb, 8), seen(rgb)
    bgr = eight[..., ::-1]
    masks = {"555": (0x7C00, 0x3E0, 0x1F), "565": (0xF800, 0x7E0, 0x1F), "444": (0xF00, 0xF0, 0xF)}
    for down in (False, True):
        way = ", top down" if down else ""
        yield Layout("BMP", f"24 bits{way}", _bmp(bgr, 24, down=down), truth)
        for name, rgb_masks in masks.items():
            few = [int(digit) for digit in name]
            numbers = sum(
                quantized(rgb[..., c], few[c]).astype(np.uint16) << ((m & -m).bit_length() - 1)
                for c, m in enumerate(rgb_masks)
            )
            parts = [quantized(rgb[..., c], few[c]) / (2 ** few[c] - 1) for c in range(3)]
            for fields in (True, False) if name == "555" else (True,):
                content = _bmp(
                    numbers.astype("<u2")[..., None].view(np.uint8), 16, down=down, masks=rgb_masks if fields else ()
                )
                what = f"16 bits {name}{' by masks' if fields else ''}{way}"
                yield Layout("BMP", what, content, seen(np.dstack(parts)), None, 5 if name != "444" else 9)
        zeros, opaque = np.zeros((HEIGHT, WIDTH), np.uint8), quantized(alpha, 8)
        all_masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        for what, layer, fields, expected in (
            ("unused zeros", zeros, (), truth),
            ("alpha of zeros", zeros, all_masks, truth),
            ("alpha", opaque, all_masks, seen(rgb, opaque / 255)),
        ):
            content = _bmp(np.dstack([bgr, layer]), 32, down=down, masks=fields)
            yield Layout("BMP", f"32 bits, {what}{way}", content, expected)
        for bits in (1, 4, 8):
            count = 2**bits
            table = np.stack([np.linspace(0, 255, count) * f for f in (1, 0.7, 0.4)], axis=1).round().astype(np.uint8)
            numbers = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % count).astype(np.uint8)
            expected = table[numbers]
            yield Layout("BMP", f"palette of {bits} bits{way}", _bmp(numbers, bits, down=down, table=table), expected)
            if bits == 8 and not down:
                content = _bmp(numbers, bits, table=table, run_lengths=True)
                yield Layout("BMP", "palette of 8 bits, run lengths", content, expected)


def _bmp(
    numbers: NDArray[np.uint8],
    bits: int,
    *,
    down: bool = False,
    masks: tuple[int, ...] = (),
    table: NDArray[np.uint8] | None = None,
    run_lengths: bool = False,
) -> bytes:
    rows = numbers if down else numbers[::-1]
    if run_lengths:
        lines = [b"".join(bytes([1, value]) for value in row) for row in rows]
        pixels = b"\0\0".join(lines) + b"\0\0\0\1"
    elif bits < 8:
        single = rows[..., None] >> np.arange(bits - 1, -1, -1) & 1
        packed = np.packbits(single.reshape(HEIGHT, -1).astype(np.uint8), axis=1)
        pixels = b"".join(row.tobytes() + bytes(-len(row) % 4) for row in packed)
    else:
        flat = np.ascontiguousarray(rows).reshape(HEIGHT, -1)
        pixels = b"".join(row.tobytes() + bytes(-len(row) % 4) for row in flat)
    palette = b"" if table is None else np.pad(table[:, ::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
    size = 108 if len(masks) == 4 else 40
    method = 1 if run_lengths else 3 if masks else 0
    head = struct.pack("<IiiHHIIiiII", size, WIDTH, -HEIGHT if down else HEIGHT, 1, bits, method, len(pixels), 0, 0,
                       0 if table is None else len(table), 0)  # fmt: skip
    head += struct.pack(f"<{len(masks)}I", *masks)
    head = head.ljust(size, b"\0")
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + palette + pixels


def webp_layouts() -> Iterator[Layout]:
    """Yield lossless WebP with alpha, orientation and frames."""
    rgb, opaque = quantized(colors(), 8), quantized(opacity(), 8)
    yield Layout("WebP", "RGB", _saved(Image.fromarray(rgb), "WEBP", lossless=True), rgb)
    clear = Image.fromarray(np.dstack([rgb, opaque]))
    yield Layout("WebP", "RGBA", _saved(clear, "WEBP", lossless=True, exact=True), seen(rgb / 255, opaque / 255))
    yield Layout("WebP", "lossy", _saved(Image.fromarray(rgb), "WEBP", quality=95), rgb, None, 16)
    frames = [Image.fromarray(rgb[::-1])] * 3
    content = _saved(Image.fromarray(rgb), "WEBP", lossless=True, save_all=True, append_images=frames)
    yield Layout("WebP", "animation", content, rgb)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        content = _saved(Image.fromarray(rgb), "WEBP", lossless=True, exif=exif)
        yield Layout("WebP", f"orientation {turn}", content, upright(rgb, turn))


def jpeg_layouts() -> Iterator[Layout]:
    """Yield grey, RGB and CMYK with every chroma and orientation."""
    rgb = Image.fromarray(quantized(colors(), 8))
    for mode, progressive in itertools.product(("L", "RGB", "CMYK"), (False, True)):
        image = rgb.convert(mode)
        for subsampling in (0, 1, 2) if mode == "RGB" else (0,):
            content = _saved(image, "JPEG", quality=95, progressive=progressive, subsampling=subsampling)
            name = f"{mode}, chroma {subsampling}{', progressive' * progressive}"
            yield Layout("JPEG", name, content, np.asarray(image.convert("RGB")), None, 16 if subsampling else 5)
    yield Layout("JPEG", "RGB without YCbCr", _saved(rgb, "JPEG", quality=95, keep_rgb=True), np.asarray(rgb), None, 5)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        content = _saved(rgb, "JPEG", quality=95, subsampling=0, exif=exif)
        yield Layout("JPEG", f"orientation {turn}", content, upright(np.asarray(rgb), turn), None, 5)
    gigantic = bytearray(_saved(rgb.convert("L"), "JPEG", quality=95))
    gigantic[gigantic.index(b"\xff\xc0") + 4] = 12
    yield Layout("JPEG", "grey, 12 bits", bytes(gigantic), None)


def foreign_layouts() -> Iterator[Layout]:
    """Yield formats that are not read, under any name."""
    rgb = Image.fromarray(quantized(colors(), 8))
    for format_name, options in (("GIF", {}), ("JPEG2000", {}), ("ICO", {}), ("PPM", {}), ("DDS", {}), ("ICNS", {})):
        image = rgb.resize((16, 16)) if format_name == "ICNS" else rgb
        yield Layout("other", format_name, _saved(image, format_name, **options), None)
    brands = {b"avif": "AVIF", b"heic": "HEIC", b"mif1": "HEIF", b"crx ": "CR3", b"isom": "MP4"}
    for brand, name in brands.items():
        box = struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + brand + b"miaf"
        yield Layout("other", name, box + bytes(99), None)
    heads = {
        "JPEG XL": b"\xff\x0a", "JPEG XL in boxes": b"\0\0\0\x0cJXL \r\n\x87\n", "PSD": b"8BPS\0\1",
        "OpenEXR": b"v/1\1", "WAV": b"RIFF\0\0\0\0WAVE",
        "SVG": b"<svg xmlns=", "HTML": b"<!DOCTYPE html>", "PDF": b"%PDF-1.7", "AVI": b"RIFF\0\0\0\0AVI ",
        "CR2": b"II*\0\x10\0\0\0CR\2\0", "QOI": b"qoif",
    }  # fmt: skip
    for name, head in heads.items():
        yield Layout("other", name, head + bytes(200), None)


def _saved(image: Image.Image, format_name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_name, **options)
    return file.getvalue()


def _srgb(light: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def _to_xyz(primaries: tuple[float, ...]) -> NDArray[np.float64]:
    """Compute the matrix from linear RGB to XYZ, of x and y of white, red, green and blue."""
    points = np.array(primaries).reshape(4, 2)
    white, *columns = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in points)
    matrix = np.stack(columns, axis=1)
    return matrix * np.linalg.solve(matrix, white)


def _matrix_profile(name: bytes, gamma: float) -> bytes:
    """Write an ICC profile of version 2 with the primaries of sRGB and a power for a curve."""

    def fixed(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    text = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + bytes(1 + 78)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": fixed(0.9642, 1, 0.8249)}
    points = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
    for letter, point in zip("rgb", points, strict=True):
        tags |= {f"{letter}XYZ".encode(): fixed(*point), f"{letter}TRC".encode(): curve}
    table, content = b"", b""
    for signature, body in tags.items():
        table += signature + struct.pack(">II", 132 + 12 * len(tags) + len(content), len(body))
        content += body + bytes(-len(body) % 4)
    head = struct.pack(">I4sI4s4s4s", 132 + len(table) + len(content), bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + content

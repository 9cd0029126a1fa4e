"""Damaged and invented input: whatever comes, the answer or one sentence.

The examples are the same in every run. `FUZZ_EXAMPLES=20 python -m pytest tests/hostile/test_fuzz.py` tries twenty
times as many, other ones each time.
"""

import copy
import io
import json
import os
import random
import struct
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage import data as photographs

from degrade.degrader import RealisticDegrader
from degrade.errors import ImageError, ShardError
from degrade.files.tars import tar_members
from degrade.images.codec import encode_image, probe_image, read_image
from degrade.images.tensors import to_image, to_tensor
from degrade.mix import DegradationMix
from degrade.recipes.recipe import PRESET_NAMES, ClassicalDegrader, DrawnRecipe, Recipe
from degrade.shards.layout import sample_key
from degrade.shards.reader import read_pairs
from degrade.shards.record import SampleMeta
from degrade.shards.verify import verify_shards
from degrade.shards.writer import PairShardWriter
from degrade.synth.replay import replay_pair
from upsample.model import ResidualShiftUpsampler

TIMES = int(os.environ.get("FUZZ_EXAMPLES", "1"))
PHOTO = Image.fromarray(photographs.chelsea()[100:140, 120:168])
MAX_PIXELS = 1_000_000


def fuzz(examples: int) -> Callable[[Any], Any]:
    return settings(
        deadline=None, derandomize=TIMES == 1, max_examples=examples * TIMES, database=None,
        suppress_health_check=list(HealthCheck), print_blob=True,
    )  # fmt: skip


def assert_one_sentence(error: BaseException) -> None:
    said = str(error)
    assert said.strip() and len(said.splitlines()) == 1 and len(said) < 1500, said[:2000]


# ------------------------------------------------------------------------------------------------------------- images


def saved(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def good_images() -> dict[str, bytes]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"s\0R\0G\0B", b"x\0R\0G\0B")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a cat"
    clear = PHOTO.copy()
    clear.putalpha(128)
    deep = np.asarray(PHOTO).astype(np.uint16) * 257
    palette, grey, bilevel = PHOTO.quantize(16), PHOTO.convert("L"), PHOTO.convert("1")
    images = {
        "png": saved(PHOTO, "PNG"),
        "png profile": saved(PHOTO, "PNG", icc_profile=profile),
        "png exif": saved(PHOTO, "PNG", exif=exif),
        "png grey": saved(grey, "PNG"),
        "png bilevel": saved(bilevel, "PNG"),
        "png palette": saved(palette, "PNG", transparency=3),
        "png alpha": saved(clear, "PNG"),
        "jpeg": saved(PHOTO, "JPEG"),
        "jpeg progressive": saved(PHOTO, "JPEG", progressive=True, exif=exif, icc_profile=profile),
        "jpeg cmyk": saved(PHOTO.convert("CMYK"), "JPEG"),
        "mpo": saved(PHOTO, "MPO", save_all=True, append_images=[grey]),
        "webp": saved(PHOTO, "WEBP"),
        "webp lossless": saved(clear, "WEBP", lossless=True, exif=exif, icc_profile=profile),
        "webp animation": saved(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(90)]),
        "tiff": saved(PHOTO, "TIFF", exif=exif),
        "tiff pages": saved(PHOTO, "TIFF", save_all=True, append_images=[PHOTO]),
        "tiff fax": saved(bilevel, "TIFF", compression="group4"),
        "bmp": saved(PHOTO, "BMP"),
        "bmp palette": saved(palette, "BMP"),
    }
    for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        images[f"tiff {name}"] = saved(PHOTO, "TIFF", compression=name)
    for name, pixels in (("", deep), (" grey", deep[..., 0]), (" alpha", np.dstack([deep, deep[..., 0]]))):
        images[f"png 16{name}"] = cv2.imencode(".png", pixels)[1].tobytes()
        images[f"tiff 16{name}"] = cv2.imencode(".tiff", pixels)[1].tobytes()
    return images


IMAGES = good_images()
EXTREMES = [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\xff\xff"]


def with_checksums(png: bytes) -> bytes:
    """Make the checksums of a PNG right again, so that decoders look further."""
    out, at = bytearray(png[:8]), 8
    while at + 12 <= len(png) and at + 12 + (length := int.from_bytes(png[at : at + 4], "big")) <= len(png):
        body = png[at + 4 : at + 8 + length]
        out += png[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out) + png[at:]


@st.composite
def damaged(draw: st.DrawFn, files: dict[str, bytes], most: int = 3) -> bytes:
    """A good file after some accidents."""
    content = bytearray(files[draw(st.sampled_from(sorted(files)))])
    for _ in range(draw(st.integers(1, most))):
        if not content:
            break
        near = draw(st.sampled_from([len(content), min(len(content), 600), min(len(content), 64)]))
        at = draw(st.integers(0, near - 1))
        match draw(st.sampled_from(["cut", "flip", "set", "repeat", "remove", "splice", "extreme", "noise"])):
            case "cut":
                del content[at:]
            case "flip":
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                content[at] = draw(st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))
            case "repeat":
                content[at:at] = content[at : at + draw(st.sampled_from([1, 4, 16, 100]))]
            case "remove":
                del content[at : at + draw(st.sampled_from([1, 4, 16, 100]))]
            case "splice":
                other = files[draw(st.sampled_from(sorted(files)))]
                content[at:] = other[draw(st.integers(0, len(other) - 1)) :]
            case "extreme":
                content[at : at + 4] = draw(st.sampled_from(EXTREMES))
            case "noise":
                content[at:] = random.Random(at).randbytes(draw(st.sampled_from([4, 40, 400])))
    return bytes(content)


def check_image(content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            info = probe_image(content)
            assert info.width > 0 and info.height > 0 and info.bits in (8, 16)
        except ImageError as error:
            assert_one_sentence(error)
        try:
            rgb = read_image(content, max_pixels=MAX_PIXELS)
            assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and 0 < rgb.size <= 3 * MAX_PIXELS
            assert rgb.flags.c_contiguous and rgb.flags.writeable
            assert rgb.shape[:2] == (probe_image(content).height, probe_image(content).width)
        except ImageError as error:
            assert_one_sentence(error)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", IMAGES)
def test_good_images_are_read(name: str) -> None:
    assert read_image(IMAGES[name], max_pixels=MAX_PIXELS).shape in ((40, 48, 3), (48, 40, 3))


@given(content=damaged(IMAGES))
@fuzz(2500)
def test_a_damaged_image_is_an_array_or_one_sentence_and_nothing_on_stderr(
    content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    check_image(content, capfd)


@given(content=damaged({name: content for name, content in IMAGES.items() if name.startswith("png")}))
@fuzz(700)
def test_a_png_with_wrong_content_and_right_checksums_is_an_array_or_one_sentence(
    content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    check_image(with_checksums(content), capfd)


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_an_image_cut_at_any_byte_is_an_array_or_one_sentence(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = IMAGES[name]
    for end in [*range(80), *range(80, len(content), max(1, len(content) // 60))]:
        check_image(content[:end], capfd)


@given(head=st.sampled_from(sorted({content[:size] for content in IMAGES.values() for size in (4, 8, 12, 16, 30)})),
       tail=st.binary(max_size=200))  # fmt: skip
@fuzz(500)
def test_noise_after_a_good_beginning_is_an_array_or_one_sentence(
    head: bytes, tail: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    check_image(head + tail, capfd)


@st.composite
def invented_tiffs(draw: st.DrawFn) -> bytes:
    """Every tag there, and in none of them what others would lead one to expect."""
    order, pick = draw(st.sampled_from("<>")), lambda *values: draw(st.sampled_from(values))
    width, height = pick((8, 8), (16, 8), (1, 1), (33, 17))
    samples, bits, packing = pick(1, 2, 3, 3, 4, 5, 60000), pick(1, 4, 8, 8, 12, 16, 16, 32, 64), pick(1, 1, 3, 5, 7, 8)
    pixels = random.Random(samples).randbytes(min(9000, width * height * min(samples, 8) * max(1, bits // 8) + 10))
    pixels = zlib.compress(pixels) if packing == 8 else IMAGES["jpeg"] if packing == 7 else pixels
    tags: list[tuple[int, int, int, Any]] = [
        (256, pick(3, 4), 1, width), (257, pick(3, 4), 1, height),
        (258, 3, pick(samples, 1, 3), [bits] * min(samples, 99)), (259, 3, 1, packing),
        (262, 3, 1, pick(0, 1, 2, 2, 3, 5, 6, 8)), (277, 3, 1, samples), (284, 3, 1, pick(1, 1, 2, 3)),
        (317, 3, 1, pick(1, 1, 2, 3)), (339, 3, min(samples, 99), [pick(1, 1, 2, 3)] * min(samples, 99)),
        (pick(274, 320, 338, 700, 34665, 34675), pick(1, 3, 4, 5, 7, 12), pick(1, 5, 2**31, 2**32 - 1), pick(6, 300)),
    ]  # fmt: skip
    if draw(st.booleans()):
        tags += [(322, 4, 1, pick(16, 32, 8, 0, 4096, 60000)), (323, 4, 1, pick(16, 8, 0, 60000))]
        tags += [(324, 4, 1, None), (325, 4, 1, len(pixels))]
    else:
        tags += [(273, 4, 1, None), (278, 4, 1, pick(height, 1, 0, 2**32 - 1)), (279, 4, 1, len(pixels))]
    if draw(st.booleans()):
        tags.pop(draw(st.integers(0, len(tags) - 1)))
    tags.sort(key=lambda tag: tag[0])
    base, extra, entries = 8 + 2 + 12 * len(tags) + 4, b"", b""
    room = sum(2 * len(value) for *_, value in tags if isinstance(value, list) and len(value) > 2)
    for tag, kind, count, value in tags:
        value = base + room if value is None else value
        letter = "H" if kind == 3 else "I"
        packed = struct.pack(f"{order}{len(value)}H", *value) if isinstance(value, list) else (
            struct.pack(f"{order}{letter}", value & (0xFFFF if letter == "H" else 0xFFFFFFFF)))  # fmt: skip
        if len(packed) > 4:
            extra += packed
            packed = struct.pack(f"{order}I", base + len(extra) - len(packed))
        entries += struct.pack(f"{order}HHI", tag, kind, count) + packed.ljust(4, b"\0")
    after = struct.pack(f"{order}I", pick(0, 0, 8, base))
    return (
        {"<": b"II*\0", ">": b"MM\0*"}[order]
        + struct.pack(f"{order}IH", 8, len(tags))
        + entries
        + after
        + extra
        + pixels
    )


@given(content=invented_tiffs())
@fuzz(900)
def test_an_invented_tiff_is_an_array_or_one_sentence(content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    check_image(content, capfd)


# ------------------------------------------------------------------------------------------------------------- shards


@pytest.fixture(scope="module")
def good_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs that can be replayed, with their done marker."""
    folder = tmp_path_factory.mktemp("good")
    mix, dice = DegradationMix(None, Recipe.preset("real-esrgan-light"), scale=4), random.Random(0)
    scene = photographs.chelsea()[:, :, :3]
    with PairShardWriter(folder, 0) as writer:
        for slot in range(3):
            hr = np.ascontiguousarray(scene[40 * slot + 60 : 40 * slot + 92, 150:182])
            record = mix.draw([dice.getrandbits(62)])
            lr = to_image(mix.degrade_exactly(to_tensor(hr), record)[0])
            meta = SampleMeta(
                key=sample_key(slot), source="cat.png", source_sha256="0" * 64, crop_top=60, crop_left=150,
                crop_height=32, crop_width=32, variant=0, scale=4, seed=slot, settings_hash="0" * 64, kind="recipe",
                degrader="", recipe="real-esrgan-light", steps=0, psnr_to_clean=30.0, params=json.dumps(record[0]),
            )  # fmt: skip
            writer.write(sample_key(slot), encode_image(hr, "png"), encode_image(lr, "png"), meta.to_json())
    assert verify_shards(folder).ok and replay_pair(folder, "2").identical
    return folder


@st.composite
def damage_to_a_tar(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """An accident, to be applied to the bytes of a tar, of which headers are hit as often as content."""
    kind, place = draw(st.sampled_from(["cut", "flip", "extreme", "remove", "noise"])), draw(st.integers(0, 2**30))
    block, bit, extreme = draw(st.booleans()), draw(st.integers(0, 7)), draw(st.sampled_from(EXTREMES))

    def apply(tar: bytes) -> bytes:
        content = bytearray(tar)
        headers = [at for at in range(0, len(tar), 512) if tar[at + 257 : at + 262] == b"ustar"]
        at = headers[place % len(headers)] + place // 7 % 512 if block else place % len(tar)
        match kind:
            case "cut":
                del content[at:]
            case "flip":
                content[at] ^= 1 << bit
            case "extreme":
                content[at : at + 4] = extreme
            case "remove":
                del content[at : at + 512]
            case "noise":
                content[at : at + 64] = random.Random(place).randbytes(64)
        return bytes(content)

    return apply


def pixels_of(shards: Path) -> dict[str, tuple[bytes, bytes]]:
    return {pair["key"]: (pair["hr"].numpy().tobytes(), pair["lr"].numpy().tobytes()) for pair in read_pairs(shards)}


@given(damage=damage_to_a_tar())
@fuzz(350)
def test_a_damaged_tar_is_pairs_or_one_sentence_and_verify_finds_what_changed(
    damage: Callable[[bytes], bytes], good_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    marked, alone = folder / "marked", folder / "alone.tar"
    marked.mkdir()
    good = (good_shards / "pairs-000000.tar").read_bytes()
    bad = damage(good)
    alone.write_bytes(bad)
    (marked / "pairs-000000.tar").write_bytes(bad)
    (marked / "pairs-000000.json").write_bytes((good_shards / "pairs-000000.json").read_bytes())
    assert verify_shards(marked).ok == (bad == good)  # the hash in the marker sees every bit

    report = verify_shards(alone)  # without a marker
    try:
        found = pixels_of(alone)
    except (ValueError, ShardError) as error:
        assert_one_sentence(error)
        assert not report.ok
    else:
        assert not report.ok or found == pixels_of(good_shards)
    for problem in report.problems:
        assert_one_sentence(ValueError(problem))
    try:
        tar_members(alone)
    except ShardError as error:
        assert_one_sentence(error)
    for key in "012":
        try:
            replay_pair(alone, key)
        except (ValueError, ShardError) as error:
            assert_one_sentence(error)


@given(damage=damage_to_a_tar())
@fuzz(60)
def test_a_handler_decides_about_every_damage(
    damage: Callable[[bytes], bytes], good_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("two")
    good = (good_shards / "pairs-000000.tar").read_bytes()
    (folder / "a.tar").write_bytes(damage(good))
    (folder / "b.tar").write_bytes(good)
    told: list[Exception] = []
    pairs = list(read_pairs(folder, handler=lambda error: told.append(error) is None))
    assert len(pairs) >= 3  # all of the good tar
    assert all(isinstance(error, ValueError | ShardError) for error in told)
    list(read_pairs(folder, handler=lambda error: False))  # stops, without a word


@given(text=damaged({"record": SampleMeta(
    key="0", source="a", source_sha256="0", crop_top=0, crop_left=0, crop_height=8, crop_width=8, variant=0, scale=4,
    seed=1, settings_hash="0", kind="recipe", degrader="", recipe="x", steps=0, psnr_to_clean=1.5, params="{}",
).to_json(), "deep": b"[" * 5000, "long": b"9" * 5000}))  # fmt: skip
@fuzz(700)
def test_a_damaged_record_is_a_record_or_one_sentence(text: bytes) -> None:
    try:
        record = SampleMeta.from_json(text)
        assert SampleMeta.from_json(record.to_json()) == record
    except ValueError as error:
        assert_one_sentence(error)


# ------------------------------------------------------------------------------------------------------------ recipes

EVERY_STEP = {
    "name": "every step",
    "steps": [
        {"op": "blur", "kernels": ["iso", "aniso", "sinc", "disk", "motion", "plateau_iso", "generalized_aniso"],
         "uniform_in": "variance"},
        {"op": "noise", "families": ["gaussian", "poisson", "correlated"], "mixed_channels": True,
         "grey_probability": 0.5},
        {"op": "camera"}, {"op": "jpeg", "quality": [30, 90]}, {"op": "webp"},
        {"op": "chroma", "modes": ["4:2:0", "4:1:1"]}, {"op": "sharpen"}, {"op": "quantise"},
        {"op": "lens_blur"}, {"op": "aberration"}, {"op": "grain"}, {"op": "halo"}, {"op": "banding"}, {"op": "dither"},
        {"op": "one_of", "steps": [{"op": "halftone"}, {"op": "screentone"}]}, {"op": "interlace"},
        {"op": "scan_lines"}, {"op": "video", "codecs": ["h264", "mpeg2", "mjpeg"], "probability": 0.3},
        {"op": "one_of", "weights": [0.5, 0.5], "steps": [
            {"op": "jpeg"}, {"op": "resize", "factor": [0.5, 2], "direction": {"up": 1, "down": 1, "keep": 1}}]},
        {"op": "shuffle", "steps": [{"op": "resize", "of": "lr"}, {"op": "sharpen", "probability": 0.5}]},
        {"op": "by_scale", "steps": {"2": [{"op": "quantise"}], "3": [{"op": "quantise"}], "4": [{"op": "quantise"}]}},
    ],
}  # fmt: skip
RECIPES = [EVERY_STEP, *(Recipe.preset(name).to_dict() for name in PRESET_NAMES)]
ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 101, 1000, 1e9, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"),
    10**400, 2**63, "", "5", "iso", "lr", "jpeg", "4:2:0", "nan", "a\nb", "x" * 5000, [], {}, [1], [1, 2], [2, 1],
    [0, 0], [1, 2, 3], [float("nan")] * 2, [0, float("inf")], [1e9, 1e9], [0, 1e308], [100, 100], ["iso"],
    {"iso": 1e308, "aniso": 1e308}, {"iso": float("nan")}, {"iso": float("inf")}, {"bicubic": 0}, [[1, 2], [3, 4]],
    {"a": {"b": {}}}, {1: 2}, {None: 1},
]  # fmt: skip


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list | tuple) else ():
        yield from places(value[key], (*place, key))


def at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    value = list(value) if isinstance(value, tuple) else copy.copy(value)
    value[place[0]] = put(value[place[0]], place[1:], new)
    return value


@st.composite
def altered(draw: st.DrawFn, good: list[dict[str, Any]]) -> dict[str, Any]:
    """A good mapping with something else at some places."""
    data = draw(st.sampled_from(good))
    for _ in range(draw(st.integers(1, 3))):
        everywhere = list(places(data))
        place = draw(st.sampled_from(everywhere[1:] or everywhere))
        match draw(st.sampled_from(["value", "value", "copy", "key", "lose", "repeat"])):
            case "value":
                data = put(data, place, draw(st.sampled_from(ODD_VALUES)))
            case "copy":
                data = put(data, place, at(data, draw(st.sampled_from(everywhere))))
            case "key" if isinstance(at(data, place), dict):
                key = draw(
                    st.sampled_from(["op", "steps", "sigma_px", "factor", "radius_px", "probability", "xx", 3, "a\nb"])
                )
                data = put(data, place, {**at(data, place), key: draw(st.sampled_from(ODD_VALUES))})
            case "lose" if isinstance(at(data, place), dict) and at(data, place):
                inner = dict(at(data, place))
                inner.pop(draw(st.sampled_from(sorted(inner, key=str))))
                data = put(data, place, inner)
            case "repeat" if isinstance(at(data, place), list | tuple):
                data = put(data, place, [*at(data, place)] * draw(st.sampled_from([0, 2, 3])))
    return data


def check_recipe(recipe: Recipe) -> None:
    assert Recipe.from_dict(recipe.to_dict()) == recipe and recipe.summary()
    for scale in (2, 3, 4):
        hr = torch.linspace(0, 1, 3 * 36 * 36).reshape(1, 3, 36, 36)[
            ..., : 36 if scale == 3 else 32, : 36 if scale == 3 else 32
        ]
        try:
            params = json.loads(json.dumps(recipe.draw(7, scale).to_dict(), allow_nan=False))
            lr = recipe.apply(hr, [DrawnRecipe.from_dict(params)])
        except ValueError as error:  # what can only be known of one scale or size
            assert "no chain for scale" in str(error) or "lower its factor" in str(error), str(error)
            continue
        assert lr.shape == (1, 3, hr.shape[2] // scale, hr.shape[3] // scale)
        assert torch.isfinite(lr).all() and lr.min() >= 0 and lr.max() <= 1


@given(data=altered(RECIPES))
@example(data={"steps": [{"op": "resize", "factor": 100}] * 9})
@example(data={"steps": [{"op": "noise", "mixed_channels": True, "grey_probability": 1}]})
@fuzz(500)
def test_an_altered_recipe_runs_or_is_one_sentence(data: dict[str, Any]) -> None:
    try:
        recipe = Recipe.from_dict(data)
    except ValueError as error:
        assert_one_sentence(error)
        assert str(error).startswith("recipe: ")
        return
    check_recipe(recipe)


@given(name=st.sampled_from(["r.yaml", "r.toml"]), text=damaged({
    "yaml": yaml.safe_dump(EVERY_STEP).encode(),
    "small": b"steps:\n- {op: jpeg, quality: [40, 90]}\n- &a {op: webp}\n- *a\n- {<<: *a}\n- !!int ''\n",
    "toml": b'name = "x"\n[[steps]]\nop = "jpeg"\nquality = [40, 90]\n[[steps]]\nop = "webp"\n',
}))  # fmt: skip
@fuzz(400)
def test_a_damaged_recipe_file_runs_or_is_one_sentence_that_names_it(
    name: str, text: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("recipe") / name
    file.write_bytes(text)
    try:
        Recipe.from_file(file)
    except ValueError as error:
        assert_one_sentence(error)
        assert name in str(error)


REAL_ESRGAN = {
    "scale": 4, "resize_prob": [0.2, 0.7, 0.1], "resize_range": [0.15, 1.5], "gaussian_noise_prob": 0.5,
    "noise_range": [1, 30], "gray_noise_prob": 0.4, "jpeg_range": [30, 95], "second_blur_prob": 0.8,
    "blur_kernel_size": 21, "kernel_list": ["iso", "aniso"], "kernel_prob": [0.5, 0.5], "sinc_prob": 0.1,
    "blur_sigma": [0.2, 3], "second_order_prob": 0.5, "final_sinc_prob": 0.8, "degradation": {"jpeg_range2": [30, 95]},
    "datasets": {"train": {"blur_kernel_size2": 21, "resize_prob2": [0.3, 0.4, 0.3], "name": "x"}},
}  # fmt: skip


@given(data=altered([REAL_ESRGAN]))
@example(data={**REAL_ESRGAN, "kernel_prob": [0, 0]})
@example(data={**REAL_ESRGAN, "blur_kernel_size": "21"})
@fuzz(250)
def test_an_altered_options_file_runs_or_is_one_sentence_that_names_it(
    data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("options") / "options.yml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    try:
        recipe = Recipe.from_file(file)
    except ValueError as error:
        assert_one_sentence(error)
        assert "options.yml" in str(error)
        return
    check_recipe(recipe)


# ------------------------------------------------------------------------------------------------------------- shapes

SIDES = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 31, 33, 48])
BATCHES = st.sampled_from([0, 1, 1, 2, 3])
SCALES = st.sampled_from([2, 3, 4])


@pytest.fixture(scope="module")
def networks() -> dict[int, tuple[RealisticDegrader, ResidualShiftUpsampler]]:
    """By scale; small ones whose last layer is not zero."""
    found = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for scale in (2, 3, 4):
            degrader = RealisticDegrader(scale, widths=(8, 8, 8), blocks=1, embedding_dim=8, encoder_widths=(8, 8, 8))
            upsampler = ResidualShiftUpsampler(scale, widths=(8, 8, 8), blocks=1, embedding_dim=8)
            for network in (degrader, upsampler):
                torch.nn.init.normal_(network.unet.head.weight, std=0.05)
            found[scale] = (degrader.eval(), upsampler.eval())
    return found


def check_shape(call: Callable[[], torch.Tensor], shape: tuple[int, ...], *, bounded: bool = True) -> None:
    """The right shape and finite, or one sentence."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error")
            result = call()
    except ValueError as error:
        assert_one_sentence(error)
        return
    assert result.shape == shape and result.numel() and torch.isfinite(result).all()
    assert not bounded or (result.min() >= 0 and result.max() <= 1)


@given(batch=BATCHES, height=SIDES, width=SIDES, scale=SCALES, fitting=st.booleans(), steps=st.integers(0, 5))
@fuzz(120)
def test_degraders_take_any_shape_or_say_why_not(batch, height, width, scale, fitting, steps, networks) -> None:
    height, width = (height * scale, width * scale) if fitting else (height, width)
    degrader, hr = networks[scale][0], torch.rand(batch, 3, height, width)
    low = (batch, 3, height // scale, width // scale)
    check_shape(lambda: degrader(hr, steps=steps), low)
    check_shape(lambda: degrader(hr, pad=True, tile=steps), (batch, 3, -(-height // scale), -(-width // scale)))
    if hr.numel():
        check_shape(lambda: ClassicalDegrader("bsrgan", scale)(hr), low)


@given(height=SIDES, width=SIDES, scale=SCALES, value=st.sampled_from([0.5, -1.0, 2.0, float("nan"), float("inf")]))
@fuzz(120)
def test_references_codes_and_values_are_taken_or_refused_but_never_turn_into_nan(
    height, width, scale, value, networks
) -> None:
    degrader, upsampler = networks[scale]
    hr, spoilt = torch.rand(1, 3, 8 * scale, 8 * scale), torch.full((1, 3, 8 * scale, 8 * scale), value)
    check_shape(lambda: degrader(hr, reference=torch.rand(1, 3, height, width)), (1, 3, 8, 8))
    check_shape(lambda: degrader(hr, reference=torch.full((1, 3, 24, 24), value)), (1, 3, 8, 8))
    check_shape(lambda: degrader(hr, torch.full((1, 16), value)), (1, 3, 8, 8))
    check_shape(lambda: degrader(spoilt), (1, 3, 8, 8))
    check_shape(lambda: upsampler(spoilt), (1, 3, 8 * scale * scale, 8 * scale * scale))


@given(batch=BATCHES, height=SIDES, width=SIDES, scale=SCALES)
@fuzz(120)
def test_upsamplers_take_any_shape_or_say_why_not(batch, height, width, scale, networks) -> None:
    upsampler, lr = networks[scale][1], torch.rand(batch, 3, height, width)
    check_shape(lambda: upsampler(lr), (batch, 3, height * scale, width * scale))


def test_the_tar_that_is_damaged_above_is_an_ordinary_one(good_shards: Path) -> None:
    with tarfile.open(good_shards / "pairs-000000.tar") as tar:
        names = [member.name for member in tar]
    assert names == [member.name for member in tar_members(good_shards / "pairs-000000.tar")] and len(names) == 9

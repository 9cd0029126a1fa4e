"""Files of strangers: refused in one sentence, nothing executed, nothing written, memory bounded."""

import gzip
import json
import os
import pickle
import resource
import struct
import tarfile
import time
import zlib
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from degrade.degrader import RealisticDegrader
from degrade.errors import ImageError, ShardError
from degrade.images.codec import probe_image, read_image
from degrade.recipes.recipe import Recipe
from degrade.shards.reader import read_pairs
from degrade.shards.verify import verify_shards
from degrade.synth.replay import find_pair
from upsample.model import ResidualShiftUpsampler

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _little_memory():
    """Whatever comes, it takes less than 4 GB above what is there, and a minute."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 4 * 10**9, before[1]))
    began = time.monotonic()
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.monotonic() - began < 60


def one_sentence(error):
    return str(error).strip() and "\n" not in str(error) and len(str(error)) < 1000


def header(name, **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def raw(info, content=b""):
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def with_size(block, size):
    """A header whose size field says something else, with the right checksum."""
    block = bytearray(block)
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def pax(records, body):
    text = b"".join(f"{len(line) + 3} {line}\n".encode() for line in records)
    return raw(header("pax", type=tarfile.XHDTYPE, size=len(text)), text) + body


END = bytes(10240)
HOSTILE_TARS = {
    "absolute path": raw(header("/etc/passwd.hr.png", size=4), b"data"),
    "folder above": raw(header("../../x.hr.png", size=4), b"data"),
    "line feed in a name": raw(header("a\nb\x1b[31m.hr.png", size=4), b"data"),
    "name of 100 kB": raw(header("x" * 100_000 + ".hr.png", size=4), b"data"),
    "no extension": raw(header("key", size=4), b"data"),
    "link": raw(header("0.hr.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "hard link": raw(header("0.hr.png", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
    "fifo": raw(header("0.hr.png", type=tarfile.FIFOTYPE)),
    "device": raw(header("0.hr.png", type=tarfile.CHRTYPE, devmajor=1, devminor=5)),
    "negative size": with_size(raw(header("0.hr.png")), b"\xff" * 11 + b"\0") * 3,
    "gigantic size": with_size(raw(header("0.hr.png")), b"\x80" + b"\0" * 3 + b"\x7f" * 8),
    "gigantic size in pax": pax(["size=99999999999999"], raw(header("0.hr.png"))),
    "negative size in pax": pax(["size=-1024"], raw(header("0.hr.png"))),
    "json of 100 MB claimed": with_size(raw(header("0.json")), b"00575360400\0"),
    "the same name twice": raw(header("0.hr.png", size=1), b"a") * 2,
    "a zip": b"PK\x03\x04" + bytes(600),
    "nothing": b"",
    "a packed tar": gzip.compress(bytes(10**6)),
}


@pytest.mark.parametrize("kind", HOSTILE_TARS)
def test_a_hostile_tar_gives_no_pair_and_touches_nothing(kind, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tar = tmp_path / "x.tar"
    tar.write_bytes(HOSTILE_TARS[kind] + (END if HOSTILE_TARS[kind][:2] not in (b"", b"PK", b"\x1f\x8b") else b""))
    report = verify_shards(tar)
    assert not report.ok and not report.checked and all(map(one_sentence, report.problems)), report.problems
    for read in (lambda: list(read_pairs(tar)), lambda: find_pair(tar, "000000000")):
        try:
            assert read() == []
        except (ValueError, ShardError) as error:
            assert one_sentence(error), error
    assert sorted(os.listdir(tmp_path)) == ["here", "x.tar"]
    assert not os.listdir(tmp_path / "here")


class Bomb:
    """What a pickle can do: make a file when it is read."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


@pytest.mark.parametrize("model", [RealisticDegrader, ResidualShiftUpsampler])
@pytest.mark.parametrize("name", [WEIGHTS, "diffusion_pytorch_model.bin", "diffusion_pytorch_model.pt"])
def test_a_pickle_offered_as_weights_is_refused_and_not_run(model, name, tiny_degrader, tiny_upsampler, tmp_path):
    good = tiny_degrader if model is RealisticDegrader else tiny_upsampler
    good.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / WEIGHTS).unlink()
    (tmp_path / "m" / name).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(ValueError, match="m'") as refused:
        model.from_pretrained(tmp_path / "m")
    assert one_sentence(refused.value) and not (tmp_path / "ran").exists()


def truncated(file):
    file.write_bytes(file.read_bytes()[:-100])


def claims_gigabytes(file):
    file.write_bytes(struct.pack("<Q", 2**40) + file.read_bytes()[8:])


def flipped_header(file):
    content = bytearray(file.read_bytes())
    content[12] ^= 0x55
    file.write_bytes(content)


def with_nan(file):
    tensors = load_file(file)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize("damage", [truncated, claims_gigabytes, flipped_header, with_nan])
def test_damaged_weights_are_refused_in_one_sentence(damage, tiny_degrader, tmp_path):
    tiny_degrader.save_pretrained(tmp_path / "m")
    damage(tmp_path / "m" / WEIGHTS)
    with pytest.raises(ValueError) as refused:
        RealisticDegrader.from_pretrained(tmp_path / "m")
    assert one_sentence(refused.value)


@pytest.mark.parametrize("change", [{"widths": [10**6] * 3}, {"widths": "x"}, {"scale": -1}, {"unknown": 1}, None])
def test_a_hostile_configuration_of_a_model_is_refused_or_harmless(change, tiny_degrader, tmp_path):
    tiny_degrader.save_pretrained(tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    config.write_text("{" if change is None else json.dumps({**json.loads(config.read_text()), **change}))
    try:
        RealisticDegrader.from_pretrained(tmp_path / "m")
        assert change == {"unknown": 1}  # diffusers ignores it
    except ValueError as error:
        assert one_sentence(error)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
HOSTILE_RECIPES = {
    "a command": b"steps: !!python/object/apply:os.system ['touch ran']\n",
    "a billion laughs": f"{LAUGHS}steps: *a59\n".encode(),
    "very deep": b"steps: " + b"[" * 10_000,
    "very deep in blocks": b"".join(b" " * i + b"a:\n" for i in range(2000)),
    "huge": b"steps: [" + b"{op: jpeg}, " * 800_000 + b"]",
    "unknown": b"stepz: []\n",
    "another encoding": "name: \xe9\nsteps: []\n".encode("latin-1"),
    "binary": bytes(range(256)) * 10,
    "a huge number": b"steps: [{op: jpeg, quality: " + b"9" * 10_000 + b"}]",
    "not a number": b"steps: [{op: blur, sigma_px: .nan}]",
}


@pytest.mark.parametrize("kind", HOSTILE_RECIPES)
@pytest.mark.parametrize("suffix", ["yaml", "toml"])
def test_a_hostile_recipe_is_one_sentence(kind, suffix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"r.{suffix}"
    file.write_bytes(HOSTILE_RECIPES[kind])
    with pytest.raises(ValueError) as refused:
        Recipe.from_file(file)
    assert one_sentence(refused.value) and os.listdir(tmp_path) == [file.name]


@pytest.mark.parametrize("place", ["/dev/zero", "."])
def test_what_is_no_recipe_file_at_all_is_one_sentence(place):
    with pytest.raises((ValueError, OSError)) as refused:
        Recipe.from_file(place)
    assert one_sentence(refused.value)


def png(width, height, *chunks):
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


ZEROS = zlib.compress(bytes(200_000_000), 9)
BOMBS = {
    "50000x50000": png(50_000, 50_000, (b"IDAT", ZEROS)),
    "a profile of gigabytes": png(8, 8, (b"iCCP", b"x\0\0" + ZEROS), (b"IDAT", zlib.compress(bytes(8 * 25)))),
    "a text of gigabytes": png(8, 8, (b"zTXt", b"x\0\0" + ZEROS), (b"IDAT", zlib.compress(bytes(8 * 25)))),
    "BMP": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 2**30, 2**30, 1, 24, *[0] * 6),
    "WebP": b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4 + b"\xff" * 6,
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_decompression_bomb_is_refused_or_read_in_little_memory(kind):
    for read in (read_image, probe_image):
        try:
            read(BOMBS[kind])
        except ImageError as error:
            assert one_sentence(error)

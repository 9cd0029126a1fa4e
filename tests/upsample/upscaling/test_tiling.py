"""Tiles: the same image as one large call, in bounded memory, also when that turns out to be less than hoped."""

import pytest
import torch

from degrade.images.geometry import Rgb
from degrade.images.tensors import to_tensor
from upsample.detail_branch import RADIUS
from upsample.model import ResidualShiftUpsampler
from upsample.upscaling.tiling import is_out_of_memory, upscale_in_bands, upscale_in_tiles


@pytest.fixture
def upsampler(tiny_upsampler: ResidualShiftUpsampler) -> ResidualShiftUpsampler:
    return tiny_upsampler


@pytest.fixture
def lr(photographs: dict[str, Rgb]) -> torch.Tensor:
    return to_tensor(photographs["astronaut"][:203, 100:350])


def refuse_beyond(monkeypatch, upsampler, side: int, error: Exception) -> list[int]:
    """Let memory be short for tiles with more than ``side`` px; the sides that were tried are in the list."""
    forward, tried = upsampler.forward, []

    def short(part, **options):
        tried.append(max(part.shape[-2:]))
        if tried[-1] > side:
            raise error
        return forward(part, **options)

    monkeypatch.setattr(upsampler, "forward", short)
    return tried


@pytest.mark.parametrize("tile", [64, 128])
def test_tiles_agree_with_one_large_call_to_less_than_a_grey_level(upsampler, lr, tile) -> None:
    with torch.inference_mode():
        whole = upsampler(lr)
    difference = (upscale_in_tiles(upsampler, lr, tile=tile) - whole).abs()
    assert difference.max() < 0.9 / 255 and difference.mean() < 0.02 / 255


def test_the_middle_of_a_tile_is_that_of_the_large_call(upsampler, lr) -> None:
    with torch.inference_mode():
        whole = upsampler(lr)
    middle = slice(0, 4 * (160 - 48))  # of the first tile, as far from its rim as the network sees
    tiled = upscale_in_tiles(upsampler, lr, tile=160, overlap=16)
    assert torch.allclose(tiled[..., middle, middle], whole[..., middle, middle], rtol=0, atol=2e-6)


def test_tiles_with_detail_agree_with_the_large_call_where_the_branch_sees_no_rim(detail_upsampler, lr) -> None:
    with torch.inference_mode():
        whole = detail_upsampler(lr, detail=1.0)
        faithful = detail_upsampler(lr, detail=0.0)
    difference = (upscale_in_tiles(detail_upsampler, lr, tile=128, overlap=64, detail=1.0) - whole).abs()
    assert difference.max() < 0.5 / 255 < (whole - faithful).abs().mean()
    middle = slice(0, 4 * (160 - 48 - RADIUS))
    tiled = upscale_in_tiles(detail_upsampler, lr, tile=160, overlap=16, detail=1.0)
    assert torch.allclose(tiled[..., middle, middle], whole[..., middle, middle], rtol=0, atol=2e-6)


def test_each_image_of_a_batch_may_have_its_own_detail_and_none_is_the_default(detail_upsampler, lr) -> None:
    lr = lr[..., :70, :90]
    both = upscale_in_tiles(detail_upsampler, lr.repeat(2, 1, 1, 1), tile=64, detail=torch.tensor([0.5, 0.0]))
    for sr, detail in zip(both, (None, 0.0), strict=True):
        assert torch.allclose(sr, upscale_in_tiles(detail_upsampler, lr, tile=64, detail=detail)[0], atol=2e-6)


def test_a_tile_of_zero_is_exactly_one_call(upsampler, lr) -> None:
    with torch.inference_mode():
        assert torch.equal(upscale_in_tiles(upsampler, lr, tile=0), upsampler(lr))


def test_bands_come_as_soon_as_they_are_finished_and_make_the_image(upsampler, lr) -> None:
    done: list[float] = []
    bands, shares = [], []
    for band in upscale_in_bands(upsampler, lr, tile=64, on_tile=done.append):
        bands.append(band)
        shares.append(done[-1])
    assert torch.equal(torch.cat(bands, dim=-2), upscale_in_tiles(upsampler, lr, tile=64))
    assert len(bands) > 3 and shares[0] < 0.4 and max(band.shape[-2] for band in bands) <= 4 * 64


@pytest.mark.parametrize("overlap", [0, 8, 32, 1000])
@pytest.mark.parametrize(("height", "width"), [(37, 50), (5, 3), (1, 1), (33, 1), (131, 64)])
def test_every_pixel_is_covered_whatever_the_sides(upsampler, height, width, overlap) -> None:
    torch.nn.init.zeros_(upsampler.unet.head.weight)
    sr = upscale_in_tiles(upsampler, torch.full((2, 3, height, width), 0.25), tile=32, overlap=overlap)
    assert sr.shape == (2, 3, 4 * height, 4 * width)
    assert torch.allclose(sr, torch.tensor(0.25), atol=1e-6)


def test_the_network_never_sees_more_than_a_tile(upsampler, lr) -> None:
    sides: list[int] = []
    upsampler.unet.register_forward_pre_hook(lambda module, inputs: sides.extend(inputs[0].shape[-2:]))
    upscale_in_tiles(upsampler, lr, tile=50)
    assert max(sides) <= 50 and len(sides) > 2 * 20


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_short_memory_halves_the_tile_and_keeps_the_image(monkeypatch, upsampler, lr, error) -> None:
    with torch.inference_mode():
        whole = upsampler(lr)
    tried = refuse_beyond(monkeypatch, upsampler, 64, error)
    told: list[int] = []
    sr = upscale_in_tiles(upsampler, lr, tile=0, on_halved=told.append)
    assert told == [125, 62] and tried[:2] == [250, 124]
    assert (sr - whole).abs().max() < 2 / 255


def test_memory_that_gets_short_on_the_way_loses_no_finished_tile(monkeypatch, upsampler, lr) -> None:
    done: list[float] = []
    forward = upsampler.forward

    def short(part, **options):
        if len(done) >= 2 and max(part.shape[-2:]) > 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(part, **options)

    expected = upscale_in_tiles(upsampler, lr, tile=128)
    monkeypatch.setattr(upsampler, "forward", short)
    sr = upscale_in_tiles(upsampler, lr, tile=128, on_tile=done.append)
    assert done == sorted(done) and done[-1] == pytest.approx(1)
    assert torch.equal(sr[..., :256, :256], expected[..., :256, :256])
    assert (sr - expected).abs().max() < 2 / 255


def test_no_room_for_the_smallest_tile_is_said_in_a_sentence(monkeypatch, upsampler, lr) -> None:
    tried = refuse_beyond(monkeypatch, upsampler, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(ValueError, match="not even a tile of 32 px fits in memory"):
        upscale_in_tiles(upsampler, lr)
    assert tried == [250, 124, 60, 32]


def test_other_errors_are_not_taken_for_short_memory(monkeypatch, upsampler, lr) -> None:
    refuse_beyond(monkeypatch, upsampler, 0, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        upscale_in_tiles(upsampler, lr)
    assert is_out_of_memory(RuntimeError("not enough memory: you tried to allocate 9 bytes"))


def test_sizes_that_make_no_tiles_are_refused(upsampler, lr) -> None:
    with pytest.raises(ValueError, match="tile 8 is too small; use 32 or more, or 0"):
        upscale_in_tiles(upsampler, lr, tile=8)
    with pytest.raises(ValueError, match="overlap -1 is negative"):
        upscale_in_tiles(upsampler, lr, overlap=-1)


def test_steps_reach_the_network(upsampler, lr) -> None:
    calls: list[object] = []
    upsampler.unet.register_forward_pre_hook(lambda module, inputs: calls.append(1))
    upscale_in_tiles(upsampler, lr, steps=3)
    assert len(calls) == 3

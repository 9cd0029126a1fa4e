"""`upsample run`: image files in, larger image files out, with everything that the files hold."""

import errno
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from cli.upsample_commands import main
from degrade.errors import ShardError, one_sentence
from degrade.images.codec import StoredImage, encode_image, read_image
from upsample.bicubic import enlarge
from upsample.model import ResidualShiftUpsampler
from upsample.upscaling.pictures import Picture, encode_picture, fill_hidden, keep_flat, read_picture, to_pixels
from upsample.upscaling.plan import plan_upscaling
from upsample.upscaling.reduce import AreaReducer
from upsample.upscaling.tiling import upscale_in_bands, upscale_in_tiles
from upsample.upscaling.upscale import UpscaleSettings, load_upsampler, upscale_files, upscale_picture


@pytest.fixture
def upsampler(tiny_upsampler: ResidualShiftUpsampler) -> ResidualShiftUpsampler:
    return tiny_upsampler


@pytest.fixture
def bicubic() -> ResidualShiftUpsampler:
    """An untrained upsampler, which is exactly bicubic."""
    return ResidualShiftUpsampler(widths=(8, 8, 8), blocks=1, embedding_dim=8).eval()


@pytest.fixture
def model(tmp_path: Path, upsampler) -> Path:
    upsampler.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def inputs(tmp_path: Path, photographs) -> Path:
    """A folder with a png, and a jpg in a subfolder."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.png").write_bytes(encode_image(photographs["chelsea"][:37, :50].copy(), "png"))
    (tmp_path / "in" / "sub" / "b.jpg").write_bytes(encode_image(photographs["coffee"][:40, :30].copy(), "jpg"))
    return tmp_path / "in"


def saved(image: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, arguments)])


def upscaled(upsampler: ResidualShiftUpsampler, data: bytes, ext: str = "png", **settings: object) -> bytes:
    return encode_picture(upscale_picture(upsampler, read_picture(data), UpscaleSettings(**settings)), ext)


def pixels(data: bytes) -> np.ndarray:
    """As stored: depth, and channels in OpenCV's order."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_folder_is_searched_through_and_keeps_its_shape(inputs, model, tmp_path) -> None:
    result = run("-i", inputs, "-o", tmp_path / "out", "-n", model, "--suffix", "_x4", "--json", tmp_path / "s.json")
    assert result.exit_code == 0, result.output
    assert read_image(tmp_path / "out" / "a_x4.png").shape == (148, 200, 3)
    assert read_image(tmp_path / "out" / "sub" / "b_x4.jpg").shape == (160, 120, 3)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix == ".tmp"]
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["images"] == 2 and summary["failures"] == [] and summary["tile_halvings"] == 0
    assert summary["hr_megapixels"] == pytest.approx((148 * 200 + 160 * 120) / 1e6)
    assert "2 images in" in result.output and "HR megapixels/s" in result.output


def test_the_image_is_that_of_the_model(inputs, model, upsampler, tmp_path) -> None:
    assert run("-i", inputs / "a.png", "-o", tmp_path / "out", "-n", model).exit_code == 0
    lr = read_picture((inputs / "a.png").read_bytes()).color
    with torch.inference_mode():
        expected = (upsampler(lr)[0].permute(1, 2, 0) * 255).round().numpy()
    assert np.array_equal(read_image(tmp_path / "out" / "a.png"), expected)


def test_detail_is_what_the_model_makes_of_it_and_by_default_what_its_weights_say(
    inputs, detail_upsampler, tmp_path
) -> None:
    detail_upsampler.save_pretrained(tmp_path / "sharp")
    lr = read_picture((inputs / "a.png").read_bytes()).color
    for options, detail in (((), 0.5), (("--detail", 0), 0.0), (("--detail", 1), 1.0), (("--steps", 2), 0.0)):
        result = run("-i", inputs / "a.png", "-o", tmp_path / "out", "-n", tmp_path / "sharp", "--overwrite", *options)
        assert result.exit_code == 0, result.output
        with torch.inference_mode():
            sr = detail_upsampler(lr, detail=detail, steps=2 if "--steps" in options else 1)
        assert np.array_equal(read_image(tmp_path / "out" / "a.png"), to_pixels(sr, grey=False, bits=8)[..., ::-1]), (
            options
        )


def test_transparency_gets_no_detail(detail_upsampler) -> None:
    layers = np.random.default_rng(0).integers(0, 256, (24, 30, 4), np.uint8)
    picture = read_picture(saved(Image.fromarray(layers)))
    sharp, faithful = (
        upscale_picture(detail_upsampler, picture, UpscaleSettings(detail=detail)) for detail in (1.0, 0.0)
    )
    assert torch.allclose(sharp.alpha, faithful.alpha, atol=1e-6)
    assert (sharp.color - faithful.color).abs().mean() > 0.5 / 255


@pytest.mark.parametrize(("height", "width"), [(37, 50), (5, 3), (1, 1)])
@pytest.mark.parametrize("outscale", [1, 1.5, 2, 3, 3.3, 4])
def test_outscale_gives_that_many_times_the_sides_rounded(upsampler, height, width, outscale) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8))
    for color_fix in ("none", "wavelet", "adain"):
        larger = pixels(upscaled(upsampler, saved(image), outscale=outscale, color_fix=color_fix))
        assert larger.shape == (round(height * outscale), round(width * outscale), 4)


@pytest.mark.parametrize("outscale", [1, 1.25, 1.5, 2, 2.75, 3, 3.5])
def test_reduced_results_lie_where_the_input_does(bicubic, outscale) -> None:
    ramp = torch.linspace(0.2, 0.8, 32).expand(1, 3, 32, 32)
    result = upscale_picture(bicubic, Picture(ramp), UpscaleSettings(outscale=outscale)).color
    centres = (torch.arange(round(32 * outscale)) + 0.5) / outscale - 0.5
    exact = 0.2 + 0.6 / 31 * centres
    inside = slice(round(8 * outscale), -round(8 * outscale))
    tenth_of_a_pixel = 0.1 * 0.6 / 31 / 4
    assert (result[0, 0, 16, inside] - exact[inside]).abs().max() < tenth_of_a_pixel


@pytest.mark.parametrize("alpha", ["network", "bicubic"])
@pytest.mark.parametrize("outscale", [1.5, 4])
def test_a_file_made_from_bands_is_that_of_the_whole_picture(tmp_path, upsampler, normal, alpha, outscale) -> None:
    layers = (normal(0, 90, 70, 4).sigmoid() * 255).byte().numpy()
    layers[20:50, :, 3] = 255
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(layers)))
    settings = UpscaleSettings(tile=32, overlap=8, alpha=alpha, outscale=outscale)
    upscale_files(plan_upscaling(tmp_path / "a.png", tmp_path / "out"), upsampler, settings)
    made = pixels((tmp_path / "out" / "a.png").read_bytes())
    picture = read_picture((tmp_path / "a.png").read_bytes())
    opacity = picture.alpha
    sr = upscale_in_tiles(upsampler, torch.cat([fill_hidden(picture.color, opacity), opacity.expand(-1, 3, -1, -1)]),
                          tile=32, overlap=8)  # fmt: skip
    larger = sr[1:].mean(1, keepdim=True) if alpha == "network" else enlarge(opacity, 4)
    layers = torch.cat([sr[:1], keep_flat(larger, opacity)], dim=1)
    size = (round(90 * outscale), round(70 * outscale))
    whole = to_pixels(AreaReducer((360, 280), size).add(layers), grey=False, bits=8)
    assert made.shape == (*size, 4) and np.abs(made.astype(int) - whole).max() <= 1  # a rounding may fall otherwise
    assert (made != whole).mean() < 1e-3


def test_memory_holds_bands_not_the_whole_sr(tmp_path, upsampler, monkeypatch) -> None:
    (tmp_path / "a.png").write_bytes(saved(Image.effect_noise((64, 640), 50)))
    tall = []
    add = AreaReducer.add
    monkeypatch.setattr(AreaReducer, "add", lambda self, band: tall.append(band.shape[-2]) or add(self, band))
    settings = UpscaleSettings(tile=64, outscale=1)
    upscale_files(plan_upscaling(tmp_path / "a.png", tmp_path / "out"), upsampler, settings)
    assert sum(tall) == 4 * 640 and max(tall) <= 4 * 64


def test_sixteen_bits_stay_sixteen_bits(bicubic) -> None:
    levels = np.linspace(20000, 24000, 64).astype(np.uint16)  # 16 levels of 8 bits
    gradient = np.repeat(levels[None], 8, axis=0)
    data = cv2.imencode(".png", np.dstack([gradient, gradient[:, ::-1], gradient]))[1].tobytes()
    larger = pixels(upscaled(bicubic, data))
    assert larger.dtype == np.uint16 and len(np.unique(larger[..., 0])) > 200
    assert np.array_equal(read_picture(data).color[0, 0].numpy(), (gradient / np.float32(65535)))


def test_a_sixteen_bit_gradient_of_many_levels_keeps_them(upsampler) -> None:
    gradient = np.arange(0, 64 * 64 * 16, 16, dtype=np.uint16).reshape(64, 64)
    larger = pixels(upscaled(upsampler, cv2.imencode(".png", gradient)[1].tobytes()))
    assert larger.dtype == np.uint16 and larger.ndim == 2 and len(np.unique(larger)) > 4096


def test_grey_stays_grey_and_colour_stays_colour(upsampler, photographs) -> None:
    photo = Image.fromarray(photographs["coffee"][:20, :24])
    assert pixels(upscaled(upsampler, saved(photo.convert("L")))).shape == (80, 96)
    assert pixels(upscaled(upsampler, saved(photo.convert("L"), "JPEG"), "jpg")).shape == (80, 96)
    assert pixels(upscaled(upsampler, saved(photo.convert("LA")))).shape == (80, 96)  # opaque
    assert pixels(upscaled(upsampler, saved(photo))).shape == (80, 96, 3)


def disc(color: tuple[int, int, int], hidden: tuple[int, int, int]) -> bytes:
    """A disc of one colour on nothing, below which another is hidden."""
    y, x = np.mgrid[:32, :32] - 15.5
    seen = np.hypot(x, y) < 10
    return saved(Image.fromarray(np.dstack([np.where(seen[..., None], color, hidden), seen * 255]).astype(np.uint8)))


@pytest.mark.parametrize("method", ["network", "bicubic"])
def test_transparency_is_upscaled_and_stays_flat_where_it_was(upsampler, method) -> None:
    alpha = pixels(upscaled(upsampler, disc((200, 100, 50), (0, 0, 0)), alpha=method))[..., 3]
    y, x = np.mgrid[:128, :128] - 63.5
    assert (alpha[np.hypot(x, y) < 30] == 255).all() and (alpha[np.hypot(x, y) > 50] == 0).all()
    assert len(np.unique(alpha)) > 10  # and between them an edge, not a step


def test_the_network_makes_the_transparency_that_it_would_make_of_a_grey_image(upsampler) -> None:
    picture = read_picture(disc((200, 100, 50), (0, 0, 0)))
    by_network, by_bicubic = (
        upscale_picture(upsampler, picture, UpscaleSettings(alpha=method)).alpha for method in ("network", "bicubic")
    )
    with torch.inference_mode():
        grey = upsampler(picture.alpha.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
    edge = (by_network > 0) & (by_network < 1)
    assert torch.allclose(by_network[edge], grey[edge], atol=1e-6) and not torch.equal(by_network, by_bicubic)


def test_what_hides_below_transparency_does_not_show(upsampler) -> None:
    black, green = (upscaled(upsampler, disc((200, 100, 50), hidden)) for hidden in ((0, 0, 0), (0, 255, 0)))
    assert black == green
    shown = upscale_picture(
        ResidualShiftUpsampler().eval(), read_picture(disc((200, 100, 50), (0,) * 3)), UpscaleSettings()
    )
    assert (shown.color - torch.tensor([200, 100, 50]).view(3, 1, 1) / 255).abs().max() < 0.01


def test_dropped_transparency_lays_the_image_on_white(bicubic) -> None:
    larger = pixels(upscaled(bicubic, disc((200, 100, 50), (0, 0, 0)), alpha="drop"))
    assert larger.shape == (128, 128, 3)
    assert larger[0, 0].tolist() == [255, 255, 255] and larger[64, 64].tolist() == [50, 100, 200]


def test_opaque_alpha_costs_no_second_pass(upsampler) -> None:
    picture = read_picture(saved(Image.new("RGBA", (8, 8), (9, 9, 9, 255))))
    assert picture.alpha is None


def test_pictures_stand_upright(bicubic, photographs) -> None:
    photo = Image.fromarray(photographs["coffee"][:20, :24])
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photo.convert("RGBA")
    turned.putalpha(Image.fromarray(np.tile(np.arange(24, dtype=np.uint8) * 10, (20, 1))))
    picture = read_picture(saved(turned, exif=exif))
    assert picture.color.shape == (1, 3, 24, 20)
    assert torch.equal(picture.alpha[0, 0, :, 0] * 255, torch.arange(24) * 10.0)


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_deep_images_go_through_their_profile_with_all_their_levels(monkeypatch, mode) -> None:
    def bend(image: np.ndarray) -> np.ndarray:  # a profile with its channels in another order, and darker
        return image[..., [2, 0, 1]] ** 1.2

    def convert(image: Image.Image, profile: bytes) -> Image.Image:
        assert profile == b"profile"
        return Image.fromarray((bend(np.asarray(image.convert("RGB")) / 255) * 255).round().astype(np.uint8))

    ramp = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    deep = ramp if mode == "I;16" else np.dstack([ramp, ramp.T, ramp[::-1]])
    stored = StoredImage(Image.new(mode, (64, 64)), deep, b"profile", 1)
    monkeypatch.setattr("upsample.upscaling.pictures.decode_image", lambda data, **_: stored)
    monkeypatch.setattr("upsample.upscaling.pictures.through_profile", convert)
    color = read_picture(b"").color[0].permute(1, 2, 0).numpy()
    exact = bend((np.dstack([ramp] * 3) if mode == "I;16" else deep) / 65535)
    assert np.abs(color - exact).max() < 1 / 255 and len(np.unique(color)) > 3000


def test_a_plan_tells_that_only_the_first_frame_is_upscaled(tmp_path, photographs) -> None:
    photo = Image.fromarray(photographs["coffee"][:20, :24])
    (tmp_path / "in").mkdir()
    photo.save(tmp_path / "in" / "a.webp", save_all=True, append_images=[photo.rotate(90)])
    photo.save(tmp_path / "in" / "b.png")
    notes = plan_upscaling(tmp_path / "in", tmp_path / "out").notes
    assert notes == ["animations or files of several pages, of which the first image is taken: 1"]


def test_the_format_is_kept_and_png_where_that_holds_too_little(tmp_path, photographs) -> None:
    photo = Image.fromarray(photographs["coffee"][:20, :24])
    clear = photo.convert("RGBA")
    clear.putalpha(100)
    files = {"a.jpg": saved(photo, "JPEG"), "b.webp": saved(clear, "WEBP"), "c.bmp": saved(photo, "BMP")}
    files |= {"d.tiff": saved(photo, "TIFF"), "e.png": saved(clear)}
    files |= {"f.png": cv2.imencode(".png", np.zeros((4, 4), np.uint16))[1].tobytes()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def names(**options: object) -> list[str]:
        return [task.output.name for task in plan_upscaling(tmp_path, tmp_path.parent / "elsewhere", **options).tasks]

    assert names() == ["a.jpg", "b.webp", "c.png", "d.png", "e.png", "f.png"]
    assert names(ext="jpg") == ["a.jpg", "b.png", "c.jpg", "d.jpg", "e.png", "f.png"]
    assert names(ext="jpg", keep_alpha=False) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.png"]
    assert names(ext="webp")[4:] == ["e.webp", "f.png"]
    notes = plan_upscaling(tmp_path, tmp_path.parent / "elsewhere", ext="jpg").notes
    assert notes == ["images with transparency or 16 bits, written as png instead: 3"]


def test_what_exists_is_skipped_unless_it_is_to_be_overwritten(inputs, model, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    result = run("-i", inputs, "-o", out, "-n", model)
    assert result.exit_code == 0 and "1 images in" in result.output and "1 skipped because they exist" in result.output
    assert (out / "a.png").read_bytes() == b"mine" and (out / "sub" / "b.jpg").exists()
    result = run("-i", inputs, "-o", out, "-n", model, "--overwrite")
    assert "2 images in" in result.output and read_image(out / "a.png").shape == (148, 200, 3)


def test_bad_files_are_named_and_the_rest_is_made(inputs, model, tmp_path) -> None:
    (inputs / "bad.png").write_bytes(b"this is no image")
    (inputs / "half.png").write_bytes((inputs / "a.png").read_bytes()[:1500])
    (inputs / "long.webp").write_bytes(saved(Image.new("RGB", (5000, 1)), "WEBP"))
    result = run("-i", inputs, "-o", tmp_path / "out", "-n", model, "--json", tmp_path / "s.json")
    assert result.exit_code == 3
    failures = json.loads((tmp_path / "s.json").read_text())["failures"]
    assert [failure.split(":")[0] for failure in failures] == ["bad.png", "long.webp", "half.png"]
    assert failures[1].endswith("20000x4 is longer than the 16383 px of a webp; write it as png (--ext png)")
    assert "truncated" in failures[2]
    assert all(f"left out: {failure}" in result.output for failure in failures)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.png", "b.jpg"]


def test_inputs_that_would_share_an_output_are_refused_before_any_work(inputs, model, tmp_path) -> None:
    (inputs / "a.bmp").write_bytes(saved(Image.new("RGB", (4, 4)), "BMP"))
    result = run("-i", inputs, "-o", tmp_path / "out", "-n", model)
    assert result.exit_code == 1 and "a.bmp and a.png would both be written to" in result.output
    assert not (tmp_path / "out").exists()


def test_one_image_may_be_written_to_a_file_of_any_name(inputs, model, tmp_path) -> None:
    assert run("-i", inputs / "a.png", "-o", tmp_path / "deep" / "x.JPEG", "-n", model, "-s", 2).exit_code == 0
    assert read_image(tmp_path / "deep" / "x.JPEG").shape == (74, 100, 3)
    assert (tmp_path / "deep" / "x.JPEG").read_bytes()[:2] == b"\xff\xd8"


def test_a_single_image_may_have_any_suffix(inputs, model, tmp_path) -> None:
    (inputs / "sub" / "b.jpg").rename(inputs / "b.jpg_large")
    assert run("-i", inputs / "b.jpg_large", "-o", tmp_path / "b.png", "-n", model).exit_code == 0
    assert read_image(tmp_path / "b.png").shape == (160, 120, 3)


def test_long_names_are_written_and_too_long_ones_listed(inputs, model, tmp_path) -> None:
    longest = "n" * 251 + ".png"
    (inputs / longest).write_bytes((inputs / "a.png").read_bytes())
    assert run("-i", inputs, "-o", tmp_path / "out", "-n", model).exit_code == 0
    assert (tmp_path / "out" / longest).exists() and (tmp_path / "out" / "sub" / "b.jpg").exists()
    result = run("-i", inputs, "-o", tmp_path / "more", "-n", model, "--suffix", "_x4")
    assert result.exit_code == 3 and "the name of its output has 258 bytes, more than 255" in result.output
    assert sorted(path.name for path in (tmp_path / "more").rglob("*.*")) == ["a_x4.png", "b_x4.jpg"]


def test_an_output_that_cannot_be_written_is_listed_and_the_rest_is_made(inputs, model, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("a file where a folder should be")
    result = run("-i", inputs, "-o", tmp_path / "out", "-n", model)
    assert result.exit_code == 3 and "left out: sub/b.jpg: cannot write" in result.output
    assert (tmp_path / "out" / "a.png").exists()


def test_a_full_disk_ends_the_run(inputs, upsampler, tmp_path, monkeypatch) -> None:
    def full(path: Path, data: bytes) -> None:
        with one_sentence(str(path)):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("upsample.upscaling.upscale.write_atomic", full)
    with pytest.raises(ShardError, match="disk full"):
        upscale_files(plan_upscaling(inputs, tmp_path / "out"), upsampler, UpscaleSettings())


def test_what_is_too_large_is_refused_before_the_first_image_is_upscaled(inputs, upsampler, tmp_path) -> None:
    (inputs / "long.jpg").write_bytes(saved(Image.new("RGB", (16400, 1)), "JPEG"))
    calls: list[object] = []
    upsampler.register_forward_pre_hook(lambda module, lr: calls.append(1))
    told: list[float] = []
    summary = upscale_files(
        plan_upscaling(inputs, tmp_path / "out"), upsampler, UpscaleSettings(max_pixels=1500), on_progress=told.append
    )
    assert summary["failures"][0] == "a.png: 50x37 is more than 1500 pixels; raise --max-pixels, or reduce it"
    assert summary["images"] == 1 and len(calls) == 1 and told[-1] == 3
    alone = plan_upscaling(inputs / "long.jpg", tmp_path / "out")
    assert upscale_files(alone, upsampler, UpscaleSettings())["failures"] == [
        "long.jpg: 65600x4 is longer than the 65500 px of a jpg; write it as png (--ext png)"
    ]


def test_as_many_pixels_as_one_allows_are_taken(inputs, model, tmp_path) -> None:
    few = run("-i", inputs / "a.png", "-o", tmp_path / "out", "-n", model, "--max-pixels", 50 * 37 - 1)
    assert few.exit_code == 3 and "50x37 is more than 1849 pixels; raise --max-pixels" in few.output
    assert run("-i", inputs / "a.png", "-o", tmp_path / "out", "-n", model, "--max-pixels", 50 * 37).exit_code == 0


def test_a_list_of_images_is_an_input(inputs, model, tmp_path) -> None:
    (inputs / "list.txt").write_text("sub/b.jpg\n")
    assert run("-i", inputs / "list.txt", "-o", tmp_path / "out", "-n", model).exit_code == 0
    assert (tmp_path / "out" / "sub" / "b.jpg").exists() and not (tmp_path / "out" / "a.png").exists()


def test_short_memory_is_told_once_and_remembered_for_the_images_that_follow(
    inputs, upsampler, tmp_path, monkeypatch
) -> None:
    forward, tried = upsampler.forward, []

    def short(part: torch.Tensor, **options: object) -> torch.Tensor:
        tried.append(max(part.shape[-2:]))
        if tried[-1] > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(part, **options)

    monkeypatch.setattr(upsampler, "forward", short)
    notes: list[str] = []
    summary = upscale_files(
        plan_upscaling(inputs, tmp_path / "out"), upsampler, UpscaleSettings(), on_note=notes.append
    )
    assert notes == ["memory is short: continuing with tiles of 32 px"] and tried.count(50) == 1
    assert summary["images"] == 2 and summary["tile_halvings"] == 1 and summary["tile"] == 32


def test_a_result_too_large_for_memory_leaves_only_that_image_out(inputs, upsampler, tmp_path, monkeypatch) -> None:
    def short(upsampler: object, lr: torch.Tensor, **options: object) -> Iterator[torch.Tensor]:
        if lr.shape[-1] == 50:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return upscale_in_bands(upsampler, lr, **options)

    monkeypatch.setattr("upsample.upscaling.upscale.upscale_in_bands", short)
    summary = upscale_files(plan_upscaling(inputs, tmp_path / "out"), upsampler, UpscaleSettings())
    assert summary["images"] == 1 and summary["failures"] == [
        "a.png: the result does not fit in memory; use a smaller --outscale or cut the image"
    ]


def test_progress_grows_to_the_number_of_images(inputs, upsampler, tmp_path) -> None:
    told: list[float] = []
    upscale_files(
        plan_upscaling(inputs, tmp_path / "out"), upsampler, UpscaleSettings(tile=32), on_progress=told.append
    )
    assert told == sorted(told) and told[0] == 0 and told[-1] == 2 and any(0 < value < 1 for value in told)


def test_a_seed_draws_another_noise_and_the_same_again(inputs, model, upsampler) -> None:
    lr = read_picture((inputs / "a.png").read_bytes()).color
    with torch.inference_mode():
        fixed, one, again, other = (
            each(lr) for each in (upsampler, *(load_upsampler(model, seed=seed) for seed in (1, 1, 2)))
        )
    assert torch.equal(one, again) and not torch.equal(one, fixed) and not torch.equal(one, other)


def test_a_seed_may_have_any_size(inputs, model, tmp_path) -> None:
    for seed in (2**64 - 1, 2**64 + 5, 10**40):
        out = tmp_path / str(seed)
        assert run("-i", inputs / "a.png", "-o", out, "-n", model, "--seed", seed).exit_code == 0
    assert run("-i", inputs / "a.png", "-o", tmp_path / "five", "-n", model, "--seed", 5).exit_code == 0
    assert (tmp_path / "five" / "a.png").read_bytes() != (tmp_path / str(2**64 + 5) / "a.png").read_bytes()
    assert (tmp_path / "five" / "a.png").read_bytes() != (tmp_path / str(2**64 - 1) / "a.png").read_bytes()


def test_bf16_computes_corrections_coarsely_but_not_the_image(model, bicubic, tmp_path, normal) -> None:
    lr = (0.5 + 0.1 * normal(0, 1, 3, 40, 40)).clamp(0, 1)
    bicubic.save_pretrained(tmp_path / "bicubic")
    with torch.inference_mode():
        exact, coarse = (load_upsampler(model, bf16=bf16)(lr) for bf16 in (False, True))
        assert torch.equal(load_upsampler(tmp_path / "bicubic", bf16=True)(lr), bicubic(lr))
    assert coarse.dtype == torch.float32 and 0 < (exact - coarse).abs().max() < 2 / 255


def test_options_of_other_tools_mean_the_same(inputs, model, tmp_path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    options = ("--color-fix", "none", "--tile", 32, "--tile-overlap", 8)
    assert run("-i", inputs, "-o", one, "-n", model, *options).exit_code == 0
    options = ("--align_method", "nofix", "-t", 32, "--tile_pad", 8)
    assert run("--in_path", inputs, "--out", other, "--model_name", model, *options).exit_code == 0
    assert (one / "a.png").read_bytes() == (other / "a.png").read_bytes()


MISTAKES = {
    "-i nowhere -o OUT": "nowhere does not exist; pass a folder",
    "-i nowhere.jpg -o OUT.png": "nowhere.jpg does not exist",
    "-i IN/moving.gif -o OUT.png": "moving.gif: its format is GIF, which is not read; convert it",
    "-i IN -o IN/larger": "lies inside input",
    "-i IN -o IN": "lies inside input",
    "-i IN/a.png -o IN": "would replace an input; give another folder or a suffix",
    "-i IN/a.png -o IN/a.png": "would replace an input",
    "-i IN -o OUT.png": "is the name of one image",
    "-i IN/a.png -o OUT.tif": "cannot be written as tif; use png, jpg or webp",
    "-i IN/a.png -o OUT.png --ext jpg": "contradict each other",
    "-i IN/clear.png -o OUT.jpg": "which a jpg cannot hold; name a .png",
    "-i IN/a.png -o IN/a.png/deeper": "is a file; give another",
    "-i IN -o OUT -n nothing": "no upsampler 'nothing'",
    "-i IN -o OUT --steps 99": "steps 99 is outside 1..15",
    "-i IN -o OUT --detail 0.5": "these weights have no detail branch; use detail 0",
    "-i IN -o OUT --detail 1.5": "is not in the range",
    "-i IN -o OUT --detail nan": "detail nan is outside 0..1",
    "-i IN -o OUT -n SHARP --detail 0.5 --steps 4": "detail is for one step, as the branch was trained; use detail 0",
    "-i IN -o OUT --tile 8": "tile 8 is too small; use 32 or more, or 0",
    "-i IN -o OUT --tile big": "'big' is not a size; give auto",
    "-i IN -o OUT -s 5": "is not in the range",
    "-i IN -o OUT -s 0.5": "is not in the range",
    "-i IN -o OUT --device gpu": "give cpu, cuda, mps or auto",
    "-i IN -o OUT --color-fix hsv": "is not one of",
    "-i IN -o OUT --json nowhere/s.json": "is not a folder; create it first",
    "-i IN": "Missing option '--output'",
}


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES.items())
def test_a_mistake_ends_in_one_sentence_with_the_way_out(
    arguments, sentence, inputs, model, detail_upsampler, tmp_path
) -> None:
    if "SHARP" in arguments:
        detail_upsampler.save_pretrained(tmp_path / "sharp")
    (inputs / "clear.png").write_bytes(saved(Image.new("RGBA", (4, 4))))
    (inputs / "moving.gif").write_bytes(saved(Image.new("L", (4, 4)), "GIF"))
    for word, place in {"IN": inputs, "OUT": tmp_path / "out", "SHARP": tmp_path / "sharp"}.items():
        arguments = arguments.replace(f" {word}", f" {place}")
    result = run("-n", model, *arguments.split())
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit), result.exception
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and sentence in errors[0], result.output
    assert not (tmp_path / "out").exists()


def test_a_scale_beyond_the_models_is_refused(inputs, tmp_path) -> None:
    double = ResidualShiftUpsampler(scale=2, widths=(8, 8, 8), blocks=1, embedding_dim=8)
    double.save_pretrained(tmp_path / "double")
    result = run("-i", inputs, "-o", tmp_path / "out", "-n", tmp_path / "double", "-s", 3)
    assert result.exit_code == 1 and "outscale 3 is outside 1..2, the model's scale" in result.output
    assert run("-i", inputs, "-o", tmp_path / "out", "-n", tmp_path / "double").exit_code == 0
    assert read_image(tmp_path / "out" / "a.png").shape == (74, 100, 3)


@pytest.mark.parametrize(
    ("options", "used"),
    [
        (["-s", 1.5], "tiny-x2"), (["-s", 2], "tiny-x2"), (["-s", 2.1], "tiny-x4"), ([], "tiny-x4"),
        (["-s", 2, "--detail", 0], "tiny-x2"), (["-s", 2, "--detail", 0.5], "tiny-x4"),
    ],
)  # fmt: skip
def test_without_a_model_the_shipped_one_of_the_scale_is_used_and_named(options, used, inputs, tmp_path) -> None:
    result = run("-i", inputs / "a.png", "-o", tmp_path / "out", "--json", tmp_path / "summary.json", *options)
    assert result.exit_code == 0 and f"by {used}\n" in result.output, result.output
    assert json.loads((tmp_path / "summary.json").read_text())["model"] == used
    settings = {"outscale": options[1] if options else None, "detail": options[3] if options[2:] else None}
    expected = upscaled(load_upsampler(used), (inputs / "a.png").read_bytes(), **settings)
    assert np.array_equal(read_image(tmp_path / "out" / "a.png"), read_image(expected))


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom cli.upsample_commands import main\n"
        "assert 'Usage' in CliRunner().invoke(main, ['run', '--help']).output\n"
        "print(*[name for name in ('torch', 'diffusers', 'cv2', 'numpy', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split() == [], done.stdout + done.stderr

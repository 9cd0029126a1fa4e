import numpy as np
import pytest
import torch
from PIL import Image

from degrade.ops.resize import resize

MODES = ["area", "bilinear", "bicubic", "lanczos", "nearest", "mitchell", "box"]


@pytest.fixture
def image():
    return torch.rand(1, 3, 24, 36, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(7, 9), (24, 36), (40, 41), (1, 1)])
def test_a_constant_image_stays_constant_at_every_size(mode, antialias, size):
    out = resize(torch.full((1, 3, 24, 36), 0.3, dtype=torch.float64), size, mode, antialias=antialias)
    assert out.shape == (1, 3, *size)
    assert torch.allclose(out, torch.full_like(out, 0.3))


def test_area_is_the_block_mean(image):
    expected = image.unflatten(3, (9, 4)).unflatten(2, (6, 4)).mean((3, 5))
    assert torch.allclose(resize(image, (6, 9), "area"), expected)


@pytest.mark.parametrize(
    ("mode", "filter_"),
    [
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
        ("lanczos", Image.Resampling.LANCZOS),
        ("box", Image.Resampling.BOX),
    ],
)
@pytest.mark.parametrize("size", [(6, 9), (10, 15), (48, 50)])
def test_antialiased_modes_are_those_of_pil(image, mode, filter_, size):
    channel = Image.fromarray(image[0, 0].float().numpy())
    expected = np.asarray(channel.resize(size[::-1], filter_))
    assert np.abs(resize(image, size, mode, antialias=True)[0, 0].numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("size", [(7, 11), (31, 50)])
def test_plain_bilinear_is_that_of_torch(image, size):
    expected = torch.nn.functional.interpolate(image, size, mode="bilinear")
    assert torch.allclose(resize(image, size, "bilinear"), expected)


def test_box_is_the_block_mean_for_whole_factors_and_nearest_without_antialiasing(image):
    assert torch.allclose(resize(image, (6, 9), "box", antialias=True), resize(image, (6, 9), "area"))
    assert torch.equal(resize(image, (7, 50), "box"), resize(image, (7, 50), "nearest"))


def test_mitchell_has_the_published_kernel():
    point = torch.zeros(1, 1, 1, 32, dtype=torch.float64)
    point[..., 16] = 1
    large = resize(point, (1, 32 * 5), "mitchell")[0, 0, 0]
    b = c = 1 / 3
    for step in range(-9, 10):  # around the pixel's centre, which lies on place 16 * 5 + 2
        x = abs(step) / 5
        near = ((12 - 9 * b - 6 * c) * x**3 + (-18 + 12 * b + 6 * c) * x**2 + 6 - 2 * b) / 6
        far = ((-b - 6 * c) * x**3 + (6 * b + 30 * c) * x**2 + (-12 * b - 48 * c) * x + 8 * b + 24 * c) / 6
        assert float(large[82 + step]) == pytest.approx(near if x < 1 else far, abs=1e-9)


def test_without_antialiasing_fine_stripes_alias_and_with_it_they_turn_grey():
    stripes = (torch.arange(96) % 3 == 0).double().expand(1, 1, 96, 96)
    aliased = resize(stripes, (24, 24), "bicubic")[..., 2:-2]
    smooth = resize(stripes, (24, 24), "bicubic", antialias=True)[..., 2:-2]
    assert aliased.std() > 0.2
    assert torch.allclose(smooth, torch.full_like(smooth, 1 / 3), atol=0.03)


@pytest.mark.parametrize("mode", MODES)
def test_pixel_centres_stay_aligned(mode):
    ramp = torch.linspace(0, 1, 64, dtype=torch.float64).expand(1, 1, 64, 64)
    there_and_back = resize(resize(ramp, (48, 48), mode, antialias=True), (64, 64), mode)
    assert (there_and_back - ramp)[..., 8:-8].mean().abs() < 5e-3  # half a pixel is 8e-3


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_one_and_two_threads_give_the_same_bytes(mode, antialias):
    images = torch.rand(1, 3, 122, 154, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append([resize(images, size, mode, antialias=antialias) for size in ((61, 77), (200, 201))])
    torch.set_num_threads(threads)
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("mode", MODES)
def test_gradient_in_the_image_is_right(mode):
    small = torch.rand(1, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize(x, (3, 7), mode), (small,))


def test_errors_say_the_way_out(image):
    with pytest.raises(ValueError, match="resize target 0x4 is empty"):
        resize(image, (0, 4))
    with pytest.raises(ValueError, match="unknown resize mode 'cubic'; use area, bilinear"):
        resize(image, (4, 4), "cubic")

import cv2
import numpy as np
import pytest
from skimage import data

from degrade.images.alignment import subpixel_shift

SCALE = 8  # shifting by n pixels before reducing by 8 shifts by exactly n / 8
SIDE = 96
PHOTOS = {"astronaut": data.astronaut()[..., 0], "coins": data.camera(), "retina": data.retina()[300:1300, 200:1200, 1]}


def reduced(photo: np.ndarray, dx: int = 0, dy: int = 0, side: int = SIDE) -> np.ndarray:
    """Cut the centre of a photograph with its content moved by (dx, dy), and reduce it by SCALE."""
    photo = cv2.resize(photo, (1000, 1000), interpolation=cv2.INTER_CUBIC)
    top = 500 - side * SCALE // 2
    part = photo[top - dy : top - dy + side * SCALE, top - dx : top - dx + side * SCALE]
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)


def error(shift: tuple[float, float, float], dx: int, dy: int) -> float:
    return max(abs(shift[0] - dx / SCALE), abs(shift[1] - dy / SCALE))


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (0, -3), (4, 4), (-7, 2), (20, -12), (36, 30)])
def test_known_shifts_are_found_within_a_twentieth_of_a_pixel(name: str, dx: int, dy: int) -> None:
    shift = subpixel_shift(reduced(PHOTOS[name]), reduced(PHOTOS[name], dx, dy))
    assert error(shift, dx, dy) < 0.05
    assert shift[2] > 0.5


def test_noise_blur_jpeg_and_brightness_hardly_move_the_estimate() -> None:
    clean, moved = reduced(PHOTOS["astronaut"]), reduced(PHOTOS["astronaut"], 3, -2)
    noisy = np.clip(moved + np.random.default_rng(0).normal(0, 10, moved.shape), 0, 255).astype(np.uint8)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", moved, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_GRAYSCALE)
    darker = (moved * 0.7 + 20).astype(np.uint8)
    for bad in (noisy, cv2.GaussianBlur(moved, (0, 0), 1.0), jpeg, darker):
        shift = subpixel_shift(clean, bad)
        assert error(shift, 3, -2) < 0.1 and shift[2] > 0.5


def test_small_lr_crops_can_be_measured() -> None:
    shift = subpixel_shift(reduced(PHOTOS["astronaut"], side=32), reduced(PHOTOS["astronaut"], 4, -2, side=32))
    assert error(shift, 4, -2) < 0.1 and shift[2] > 0.5


def test_swapping_the_images_turns_the_shift_round() -> None:
    a, b = reduced(PHOTOS["coins"]), reduced(PHOTOS["coins"], 5, -3)
    assert np.allclose(subpixel_shift(a, b)[:2], -np.array(subpixel_shift(b, a)[:2]), atol=0.03)


def test_colour_and_float_images_measure_like_uint8_luma() -> None:
    photo = data.astronaut()
    a, b = photo[100:164, 100:164], photo[101:165, 100:164]
    dx, dy, response = subpixel_shift(a, b)
    assert abs(dx) < 0.05 and abs(dy + 1) < 0.05
    assert np.allclose(subpixel_shift(a / 255, b / 255), (dx, dy, response), atol=1e-3)


def test_images_without_content_or_with_one_edge_get_no_response() -> None:
    flat = np.full((64, 64), 128, np.uint8)
    edge = np.full((64, 64), 60, np.uint8)
    edge[:, 32:] = 200  # a shift along the edge cannot be seen
    noise = np.random.default_rng(0).normal(0, 1, (2, 64, 64))
    assert subpixel_shift(flat, flat) == (0.0, 0.0, 0.0)
    assert subpixel_shift(flat, reduced(PHOTOS["coins"], side=64)) == (0.0, 0.0, 0.0)
    assert subpixel_shift(edge + noise[0] * 2, edge + noise[1] * 2)[2] < 0.5
    assert subpixel_shift(128 + noise[0] * 20, 128 + noise[1] * 20)[2] < 0.5


def test_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 20x10 and 10x10 cannot be aligned"):
        subpixel_shift(np.zeros((10, 20)), np.zeros((10, 10)))

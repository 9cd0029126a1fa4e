import numpy as np
import pytest

from degrade.errors import ImageError
from degrade.images.codec import encode_image, read_image
from degrade.images.encoder import LONGEST_SIDE, encode_pixels


@pytest.mark.parametrize("ext", ["jpg", "webp"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_longest_side_of_each_format_is_encoded_and_one_pixel_more_is_refused(ext: str, turned: bool) -> None:
    longest = LONGEST_SIDE[ext]
    for length in (longest, longest + 1):
        image = np.zeros((length, 4, 3) if turned else (4, length, 3), np.uint8)
        if length == longest:
            assert read_image(encode_image(image, ext)).shape == image.shape
        else:
            with pytest.raises(ImageError, match=f"is longer than the {longest} px of a {ext}; use png"):
                encode_image(image, ext)


def test_png_ends_where_libpng_does() -> None:
    assert encode_pixels(np.zeros((1, LONGEST_SIDE["png"]), np.uint8), "png", [])
    with pytest.raises(ImageError, match="1x1000001 is longer than the 1000000 px of a png"):
        encode_pixels(np.zeros((1_000_001, 1), np.uint8), "png", [])


def test_an_encoder_that_refuses_for_another_reason_is_not_taken_at_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.imencode", lambda *_: (False, ()))
    with pytest.raises(ImageError, match="8x4 cannot be encoded as png; use another format"):
        encode_pixels(np.zeros((4, 8), np.uint8), "png", [])

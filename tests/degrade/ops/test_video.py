import os
import subprocess
import sys

import pytest
import torch
from av.video.frame import PictureType
from skimage import data

from degrade.ops import video as module
from degrade.ops.video import frame_types, video

CODECS = {"h264": (24, 42), "hevc": (24, 42), "vp9": (30, 62), "mpeg2": (3, 24), "mpeg4": (3, 24), "mjpeg": (3, 24)}
EVERY_FRAME = [(codec, frame) for codec in CODECS for frame in frame_types(codec)]
MOTION = (0.7, 1.4)


@pytest.fixture(scope="module")
def photo():
    return torch.from_numpy(data.astronaut()[100:164, 180:250].copy()).permute(2, 0, 1)[None].float() / 255


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean()))


@pytest.mark.parametrize(("codec", "frame"), EVERY_FRAME)
def test_a_worse_quality_has_a_larger_error_and_all_keep_the_place_of_the_picture(photo, codec, frame):
    good, bad = (video(photo, [quality], codec, frame=frame, motion_px=MOTION) for quality in CODECS[codec])
    assert good.shape == bad.shape == photo.shape  # 64 x 70: the width is no multiple of a block
    assert psnr(good, photo) > psnr(bad, photo) + 4
    assert psnr(good, photo) > 28
    assert psnr(good[..., 1:, :], photo[..., :-1, :]) < psnr(good, photo) - 5
    assert psnr(good[..., 1:], photo[..., :-1]) < psnr(good, photo) - 5


@pytest.mark.parametrize(("codec", "frame"), EVERY_FRAME)
def test_the_same_picture_gives_the_same_bytes(photo, codec, frame):
    first, second = (video(photo, [CODECS[codec][1]], codec, frame=frame, motion_px=MOTION) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal((first * 255).round() / 255, first)


@pytest.mark.parametrize(("codec", "frame"), EVERY_FRAME)
def test_a_flat_image_of_an_odd_size_stays_flat(codec, frame):
    colours = torch.tensor([0.7, 0.4, 0.2])[None, :, None, None].expand(1, 3, 17, 5)
    decoded = video(colours, [CODECS[codec][0]], codec, frame=frame, motion_px=MOTION)
    assert (decoded - colours).abs().max() <= 3 / 255  # luma has 220 levels in a video


@pytest.mark.parametrize(("codec", "frame"), EVERY_FRAME)
def test_the_frame_is_coded_as_it_was_asked_for(photo, codec, frame, monkeypatch):
    pictures, real = [], module._round_trip
    monkeypatch.setattr(module, "_round_trip", lambda *clip: pictures.extend(real(*clip)) or pictures)
    video(photo, [CODECS[codec][0]], codec, frame=frame, motion_px=MOTION)
    types = "".join(PictureType(picture.pict_type).name for picture in pictures)
    assert types == {"i": "I", "p": "IPPP", "b": "IBBP"}[frame]


def test_predicted_frames_have_errors_that_a_frame_alone_does_not_have(photo):
    alone, predicted = (video(photo, [34], "h264", frame=frame, motion_px=MOTION) for frame in ("i", "p"))
    still = video(photo, [34], "h264", frame="p")
    assert not torch.equal(alone, predicted)
    assert not torch.equal(still, predicted)


def test_every_sample_has_its_own_quality(photo):
    batch = video(photo.repeat(2, 1, 1, 1), [20, 40], "h264", motion_px=MOTION)
    assert torch.equal(batch[1:], video(photo, [40], "h264", motion_px=MOTION))
    assert psnr(batch[0], photo[0]) > psnr(batch[1], photo[0]) + 5


def test_the_gradient_passes_straight_through(photo):
    images = photo.clone().requires_grad_()
    weight = torch.rand_like(images)
    (video(images, [30]) * weight).sum().backward()
    assert torch.equal(images.grad, weight)


def test_errors_say_the_way_out(photo, monkeypatch):
    with pytest.raises(ValueError, match=r"h264 quality 52 is outside 0\.\.51"):
        video(photo, [52])
    with pytest.raises(ValueError, match="2 qualities for 1 images; pass one vp9 quality per sample"):
        video(photo, [30, 40], "vp9")
    with pytest.raises(ValueError, match="vp9 has no 'b' frames here; use i or p"):
        video(photo, [30], "vp9", frame="b")
    with pytest.raises(ValueError, match="unknown video codec 'av1'; use h264, hevc"):
        video(photo, [30], "av1")
    with pytest.raises(ValueError, match=r"mpeg2video cannot encode 17000x8 pixels \(Invalid argument\); make"):
        video(torch.zeros(1, 3, 8, 17000), [4], "mpeg2", frame="i")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"need PyAV; pip install 'realistic-degrader\[video\]', or take"):
        video(photo, [30])


@pytest.mark.slow
def test_the_bytes_of_tiny_pictures_do_not_depend_on_what_was_in_memory():
    code = (
        "import hashlib, torch\n"
        "from degrade.ops.video import video\n"
        "image = torch.arange(3 * 20 * 36).reshape(1, 3, 20, 36) / 2160\n"
        "made = torch.cat([video(image, [36], 'hevc', frame=frame) for frame in 'pb'])\n"
        "digest = hashlib.sha256(made.numpy().tobytes()).hexdigest()\n"
    )
    here: dict[str, str] = {}
    exec(code, here)
    filled = subprocess.run(
        [sys.executable, "-c", code + "print(digest)"], env=os.environ | {"MALLOC_PERTURB_": "170"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert filled.stdout.strip() == here["digest"]

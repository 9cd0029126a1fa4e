"""Convert colours to sRGB by a colour profile, and make profiles of the numbers with which PNG describes colours."""

import functools
import io
import struct

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageCms

from degrade.errors import ImageError

Chromaticities = tuple[float, float, float, float, float, float, float, float]  # x, y of white, red, green, blue

SRGB_PRIMARIES: Chromaticities = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_SAME_LEVELS = 3  # a profile that moves no colour further is sRGB: makers round its curve and primaries differently
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

# ITU-T H.273, which cICP of PNG and of ICC profiles refers to
_PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB_PRIMARIES,
    5: (0.3127, 0.329, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: (0.3127, 0.329, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    12: (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # of ICC: (a x + b)^g above d, c x below
_VIDEO_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES = {1: _VIDEO_CURVE, 4: (2.2,), 5: (2.8,), 6: _VIDEO_CURVE, 8: (1.0,), 13: _SRGB_CURVE, 14: _VIDEO_CURVE,
           15: _VIDEO_CURVE}  # fmt: skip
_HDR = {16: "PQ", 18: "HLG"}


def through_profile(image: PillowImage.Image, icc_profile: bytes) -> PillowImage.Image:
    """Convert an image from its embedded profile to sRGB; ignore a broken or unsuitable profile, as browsers do.

    An image whose profile is sRGB, by what it does and not by its name, comes back as it is.

    Raises:
        ImageError: the profile says that the image is HDR.
    """
    check_profile(icc_profile)
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        space = profile.profile.xcolor_space.strip()
        if space == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space) != image.mode or _is_srgb(icc_profile):
            return image
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB") or image
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def check_profile(icc_profile: bytes) -> None:
    """Refuse a profile that declares HDR by a tag ``cicp``.

    Raises:
        ImageError: its transfer function is PQ or HLG.
    """
    count = int.from_bytes(icc_profile[128:132], "big")
    for at in range(132, min(132 + 12 * count, len(icc_profile) - 11), 12):
        if icc_profile[at : at + 4] == b"cicp":
            start = int.from_bytes(icc_profile[at + 4 : at + 8], "big")
            check_transfer(int.from_bytes(icc_profile[start + 9 : start + 10], "big"))


def check_transfer(transfer: int) -> None:
    """Refuse a transfer function of HDR, by its number in ITU-T H.273.

    Raises:
        ImageError: it is PQ or HLG.
    """
    if transfer in _HDR:
        raise ImageError(f"HDR image ({_HDR[transfer]}) is not read; save it as SDR, in sRGB")


def profile_of_cicp(cicp: bytes) -> bytes | None:
    """Make a profile of the four numbers of a PNG chunk ``cICP``; None if they mean sRGB.

    Raises:
        ImageError: they mean HDR, or something unknown.
    """
    if len(cicp) != 4:
        raise ImageError(f"colour description (cICP) of {len(cicp)} bytes is not read; save the image in sRGB")
    primaries, transfer, matrix, full_range = cicp
    check_transfer(transfer)
    if primaries not in _PRIMARIES or transfer not in _CURVES or matrix or full_range != 1:
        raise ImageError(f"colour description (cICP) {tuple(cicp)} is not read; save the image in sRGB")
    if (primaries, transfer) == (1, 13):
        return None
    return _make_profile(_PRIMARIES[primaries], _CURVES[transfer])


def profile_of_gamma(gamma: float, primaries: Chromaticities | None) -> bytes | None:
    """Make a profile of the chunks ``gAMA`` and ``cHRM`` of a PNG; None if they mean sRGB, or nothing possible.

    Args:
        gamma: the exponent of the file, 1 / 2.2 for sRGB.
        primaries: the chromaticities; None for those of sRGB.
    """
    primaries = primaries or SRGB_PRIMARIES
    srgb_curve = abs(gamma * 2.2 - 1) < 0.03
    srgb_primaries = max(abs(a - b) for a, b in zip(primaries, SRGB_PRIMARIES, strict=True)) < 0.005
    if srgb_curve and srgb_primaries or not 0.1 <= gamma <= 4:
        return None
    return _make_profile(primaries, _SRGB_CURVE if srgb_curve else (1 / gamma,))


@functools.lru_cache(16)
def _is_srgb(icc_profile: bytes) -> bool:
    """Tell whether a profile of RGB leaves colours nearly as they are.

    Both intents are tried, because a perceptual one may move the colours of a profile that is called sRGB v4.
    """
    levels = np.array([0, 1, 2, 5, 10, 20, 40, 80, 128, 160, 192, 224, 245, 255], np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(1, -1, 3)
    image, srgb = PillowImage.fromarray(colors), ImageCms.createProfile("sRGB")
    for intent in (ImageCms.Intent.PERCEPTUAL, ImageCms.Intent.RELATIVE_COLORIMETRIC):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        if profile.profile.xcolor_space.strip() != "RGB":
            return False
        turned = ImageCms.profileToProfile(image, profile, srgb, renderingIntent=intent, outputMode="RGB")
        if turned is not None and np.abs(np.asarray(turned).astype(int) - colors).max() <= _SAME_LEVELS:
            return True
    return False


def _make_profile(primaries: Chromaticities, curve: tuple[float, ...]) -> bytes | None:
    """Write an ICC profile of three primaries and one curve; None if the primaries span no colours."""
    points = np.array(primaries).reshape(4, 2)
    if (points[:, 1] <= 0).any():
        return None
    white, *columns = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in points)
    matrix = np.stack(columns, axis=1)
    if abs(np.linalg.det(matrix)) < 1e-6:
        return None
    matrix = matrix * np.linalg.solve(matrix, white)
    cones = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ white)
    matrix = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ matrix

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    name = "colours of a PNG".encode("utf-16-be")
    text = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(name), 28) + name
    para = b"para\0\0\0\0" + struct.pack(">HH", 0 if len(curve) == 1 else 3, 0) + fixed(*curve)
    tags = {b"desc": text, b"cprt": text, b"wtpt": b"XYZ \0\0\0\0" + fixed(*_D50)}
    for letter, column in zip((b"r", b"g", b"b"), matrix.T, strict=True):
        tags[letter + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*column)
        tags[letter + b"TRC"] = para
    table, content = b"", b""
    for signature, body in tags.items():
        table += signature + struct.pack(">II", 132 + 12 * len(tags) + len(content), len(body))
        content += body + bytes(-len(body) % 4)
    head = struct.pack(">I4sI4s4s4s", 132 + len(table) + len(content), bytes(4), 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(*_D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + content

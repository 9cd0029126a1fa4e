"""A sheet of what networks make of the test images, for readers to judge."""

from collections.abc import Mapping

import torch
from torch import nn

from comparison.scores import SCALE, TestImages, bicubic
from degrade.images.contact_sheet import contact_sheet, encode_sheet
from degrade.images.geometry import Rgb
from degrade.images.tensors import to_image, to_tensor
from degrade.networks.texture import high_pass

ROWS, SIDE = 6, 48  # LR pixels


def show_arms(tests: TestImages, networks: Mapping[str, nn.Module]) -> bytes:
    """LR, its bicubic enlargement, each network's SR, and HR where there is one: a png.

    Of every image the part with most detail is shown; of the images, evenly many with and without HR.
    """
    pairs: list[tuple[Rgb | None, Rgb]] = [*tests.pairs[:: max(1, len(tests.pairs) // ROWS)][:ROWS]]
    pairs += [(None, lr) for lr in tests.lr[:: max(1, len(tests.lr) // ROWS)][:ROWS]]
    rows = []
    for hr, lr in pairs:
        top, left = _busiest(lr)
        low = lr[top : top + SIDE, left : left + SIDE]
        with torch.inference_mode():
            whole = to_tensor(lr)
            large = [to_image(network(whole)[0]) for network in (bicubic, *networks.values())]
        images = [*large, *([hr] if hr is not None else [])]
        area = (slice(top * SCALE, (top + SIDE) * SCALE), slice(left * SCALE, (left + SIDE) * SCALE))
        rows.append([low, *(image[area] for image in images)])
    return encode_sheet(contact_sheet(rows, column_titles=["LR", "enlarged", *networks, "HR"]))


def _busiest(lr: Rgb) -> tuple[int, int]:
    """Top and left of the window with most detail, on a coarse grid."""
    energy = high_pass(to_tensor(lr)).square().mean(1, keepdim=True)
    if min(lr.shape[:2]) <= SIDE:
        return 0, 0
    windows = torch.nn.functional.avg_pool2d(energy, SIDE, stride=8)[0, 0]
    place = int(windows.argmax())
    return place // windows.shape[1] * 8, place % windows.shape[1] * 8

"""A sheet of what networks make of the test images, for readers to judge."""

from collections.abc import Mapping

import torch
from torch import nn

from comparison.scores import TestImages
from degrade.images.contact_sheet import contact_sheet, encode_sheet
from degrade.images.geometry import Rgb
from degrade.images.tensors import to_image, to_tensor
from degrade.networks.texture import high_pass

ROWS, SIDE = 6, 192  # HR pixels


def show_arms(tests: TestImages, networks: Mapping[str, nn.Module]) -> bytes:
    """LR, its bicubic enlargement, each network's SR, and HR where there is one: a png.

    At scale 1 there is no enlargement. Of every image the part with most detail is shown; of the images, evenly many
    with and without HR.
    """
    pairs: list[tuple[Rgb | None, Rgb]] = [*tests.pairs[:: max(1, len(tests.pairs) // ROWS)][:ROWS]]
    pairs += [(None, lr) for lr in tests.lr[:: max(1, len(tests.lr) // ROWS)][:ROWS]]
    scale = tests.scale
    shown = ({} if scale == 1 else {"enlarged": tests.bicubic}) | dict(networks)
    side, rows = SIDE // scale, []
    for hr, lr in pairs:
        top, left = _busiest(lr, side)
        low = lr[top : top + side, left : left + side]
        with torch.inference_mode():
            whole = to_tensor(lr)
            large = [to_image(network(whole)[0]) for network in shown.values()]
        images = [*large, *([hr] if hr is not None else [])]
        area = (slice(top * scale, (top + side) * scale), slice(left * scale, (left + side) * scale))
        rows.append([low, *(image[area] for image in images)])
    return encode_sheet(contact_sheet(rows, column_titles=["LR", *shown, "HR"]))


def _busiest(lr: Rgb, side: int) -> tuple[int, int]:
    """Top and left of the window with most detail, on a coarse grid."""
    energy = high_pass(to_tensor(lr)).square().mean(1, keepdim=True)
    if min(lr.shape[:2]) <= side:
        return 0, 0
    windows = torch.nn.functional.avg_pool2d(energy, side, stride=8)[0, 0]
    place = int(windows.argmax())
    return place // windows.shape[1] * 8, place % windows.shape[1] * 8

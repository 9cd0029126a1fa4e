"""Decide what to do with image values outside [0, 1]: refuse them, clamp them, or take them as they are."""

from typing import Literal, get_args

from torch import Tensor

from degrade.images.tensors import check_batch
from degrade.ops.straight_through import straight_through

OutOfRange = Literal["refuse", "clamp", "pass"]


def bounded(images: Tensor, name: str, out_of_range: OutOfRange) -> Tensor:
    """Check a batch of RGB images, and treat values outside [0, 1] as asked.

    Args:
        images: floats, (B, 3, H, W), with no empty side.
        name: name of the argument, for the error message.
        out_of_range: "refuse" raises an error; "clamp" moves values to 0 or 1, and their gradient passes straight
            through; "pass" changes nothing. Only "refuse" reads the values, for which a GPU has to wait; the others
            keep nan.

    Returns:
        The images, (B, 3, H, W).

    Raises:
        ValueError: the tensor has another shape or type, "refuse" finds a value outside [0, 1] or nan, or
            ``out_of_range`` is unknown.
    """
    if out_of_range not in get_args(OutOfRange):
        raise ValueError(f"out_of_range {out_of_range!r} is unknown; use 'refuse', 'clamp' or 'pass'")
    check_batch(images, name, values=out_of_range == "refuse")
    return straight_through(images, images.detach().clamp(0, 1)) if out_of_range == "clamp" else images

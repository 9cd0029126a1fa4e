"""Convert images of any kind to tensors and back, as both pipelines take and return them."""

from typing import Any, Literal

import numpy as np
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

OutputType = Literal["pil", "np", "pt"]


def to_tensor(image: PipelineImageInput, model: ModelMixin) -> Tensor:
    """Convert one image, or several of one size, to a tensor on a model's device and in its precision.

    Args:
        image: PIL images, arrays (H, W, 3) or tensors (3, H, W) in [0, 1]: a single one, a list or a batch.
        model: the model that will read the tensor.

    Returns:
        (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: the list is empty, or the arrays are uint8.
    """
    first = image[0] if isinstance(image, list) else image
    if isinstance(first, np.ndarray) and first.dtype == np.uint8:
        raise ValueError("numpy images are uint8; pass floats in [0, 1], for example image / 255.0")
    return _processor().preprocess(image).to(model.device, model.dtype)


def from_tensor(images: Tensor, output_type: OutputType) -> Any:
    """Convert (B, 3, H, W) in [0, 1] to a list of PIL images ("pil") or an array (B, H, W, 3) ("np"), or not ("pt")."""
    return _processor().postprocess(images, output_type=output_type)


def _processor() -> VaeImageProcessor:
    return VaeImageProcessor(do_normalize=False, do_resize=False, do_convert_rgb=True)

"""Images of any kind to the tensors of a model and back, as every pipeline takes and returns them."""

from typing import Any, Literal

import numpy as np
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

OutputType = Literal["pil", "np", "pt"]

_PROCESSOR = VaeImageProcessor(do_normalize=False, do_resize=False, do_convert_rgb=True)


def to_tensor(image: PipelineImageInput, model: ModelMixin) -> Tensor:
    """One image or several of one size to where a model is and in its precision.

    Args:
        image: PIL, numpy (H, W, 3) or tensors (3, H, W) in [0, 1], single, as a list or as a batch.
        model: the network that is to read them.

    Returns:
        (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: numpy images of 8 bits, or no images at all.
    """
    first = image[0] if isinstance(image, list) else image
    if isinstance(first, np.ndarray) and first.dtype == np.uint8:
        raise ValueError("numpy images are uint8; pass floats in [0, 1], for example image / 255.0")
    return _PROCESSOR.preprocess(image).to(model.device, model.dtype)


def from_tensor(images: Tensor, output_type: OutputType) -> Any:
    """(B, 3, H, W) in [0, 1] to a list of PIL images ("pil"), an array (B, H, W, 3) ("np") or itself ("pt")."""
    return _PROCESSOR.postprocess(images, output_type=output_type)

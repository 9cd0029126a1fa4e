"""Convert images of any kind to tensors and back, as both pipelines take and return them."""

from typing import Any, Literal

import numpy as np
import torch
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image as PillowImage
from torch import Tensor

from upsample.upscaling.pictures import on_white, opened_picture

OutputType = Literal["pil", "np", "pt"]


def to_tensor(image: PipelineImageInput, model: ModelMixin) -> Tensor:
    """Convert one image, or several of one size, to a tensor on a model's device and in its precision.

    PIL images follow the rules of `upsample run`: they are turned upright by their EXIF orientation, converted from
    their colour profile to sRGB, and keep all their bits. Transparent ones are laid on white.

    Args:
        image: PIL images, arrays (H, W, 3) or tensors (3, H, W) in [0, 1]: a single one, a list or a batch.
        model: the model that will read the tensor.

    Returns:
        (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: the list is empty, its images differ in size, the arrays are uint8, or a PIL image is damaged or
            has a mode without a fixed range.
    """
    images = image if isinstance(image, list) else [image]
    if images and all(isinstance(each, PillowImage.Image) for each in images):
        tensors = [_from_pillow(each) for each in images]
        sizes = {f"{tensor.shape[-1]}x{tensor.shape[-2]}" for tensor in tensors}
        if len(sizes) > 1:
            raise ValueError(f"the images differ in size ({', '.join(sorted(sizes))}); pass them one by one")
        return torch.cat(tensors).to(model.device, model.dtype)
    if images and isinstance(images[0], np.ndarray) and images[0].dtype == np.uint8:
        raise ValueError("numpy images are uint8; pass floats in [0, 1], for example image / 255.0")
    return _processor().preprocess(image).to(model.device, model.dtype)


def from_tensor(images: Tensor, output_type: OutputType) -> Any:
    """Convert (B, 3, H, W) in [0, 1] to a list of PIL images ("pil") or an array (B, H, W, 3) ("np"), or not ("pt")."""
    return _processor().postprocess(images, output_type=output_type)


def _from_pillow(image: PillowImage.Image) -> Tensor:
    picture = opened_picture(image)
    return picture.color if picture.alpha is None else on_white(picture.color, picture.alpha)


def _processor() -> VaeImageProcessor:
    return VaeImageProcessor(do_normalize=False, do_resize=False, do_convert_rgb=True)

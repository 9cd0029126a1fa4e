"""Wrap the degrader in a diffusers pipeline, with PIL images, arrays or tensors as input and output."""

from typing import Any

import diffusers
import torch
from diffusers.image_processor import PipelineImageInput
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor

from degrade.degrader import RealisticDegrader
from degrade.schedule import Generators
from pipelines.images import OutputType, from_tensor, to_tensor
from pipelines.one_model import OneModelPipeline


class DegradePipeline(OneModelPipeline):
    """Degrade HR images to LR images.

    Args:
        degrader: the model that the pipeline calls.

    Example:
        >>> pipeline = DegradePipeline.from_pretrained("tiny-x4")
        >>> lr = pipeline(Image.open("photo.png"), generator=torch.Generator().manual_seed(0)).images[0]
    """

    model_class = RealisticDegrader
    model_cpu_offload_seq = "degrader"

    def __init__(self, degrader: RealisticDegrader) -> None:
        super().__init__()
        self.register_modules(degrader=degrader)

    @torch.no_grad()
    def __call__(
        self,
        image: PipelineImageInput,
        reference: PipelineImageInput | None = None,
        code: Tensor | None = None,
        num_inference_steps: int = 1,
        generator: Generators = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Degrade one HR image, or several of one size.

        Args:
            image: PIL images, arrays (H, W, 3) or tensors (3, H, W) in [0, 1]. If the scale does not divide a side, the
                image is padded by repeating its border. PIL images are turned upright, converted to sRGB, and laid on
                white where they are transparent (see `pipelines.images.to_tensor`).
            reference: LR images whose look the output takes, one for all images or one for each, in any of these forms.
            code: codes of looks, (B, code_dim), instead of ``reference``.
            num_inference_steps: network calls, 1..T.
            generator: draws the noise: one generator, or one for each image.
            output_type: "pil", "np" for (B, h, w, 3) or "pt" for (B, 3, h, w), both in [0, 1].
            return_dict: False returns a tuple.

        Returns:
            ``ImagePipelineOutput`` with ``images``; PIL images are rounded to 8 bits.

        Raises:
            ValueError: the inputs do not fit each other or the model; see `RealisticDegrader.forward`.
        """
        lr = self.degrader(
            to_tensor(image, self.degrader),
            code,
            reference=None if reference is None else to_tensor(reference, self.degrader),
            steps=num_inference_steps,
            generator=generator,
            pad=True,
        )
        images = from_tensor(lr, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)


diffusers.DegradePipeline = DegradePipeline  # `DiffusionPipeline.from_pretrained` looks for classes there only

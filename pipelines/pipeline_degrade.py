"""DegradePipeline: the degrader behind diffusers' pipeline interface: PIL, numpy or tensors in and out."""

from typing import Any, Literal

import numpy as np
import torch
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from torch import Tensor

from degrade.degrader import RealisticDegrader


class DegradePipeline(DiffusionPipeline):
    """HR images in, LR images out.

    Args:
        degrader: the model.

    Example:
        >>> pipeline = DegradePipeline(RealisticDegrader.from_pretrained("tiny-x4"))
        >>> lr = pipeline(Image.open("photo.png"), generator=torch.Generator().manual_seed(0)).images[0]
    """

    def __init__(self, degrader: RealisticDegrader) -> None:
        super().__init__()
        self.register_modules(degrader=degrader)
        self.image_processor = VaeImageProcessor(
            vae_scale_factor=degrader.config.scale, do_normalize=False, do_resize=False, do_convert_rgb=True
        )

    @torch.no_grad()
    def __call__(
        self,
        image: PipelineImageInput,
        reference: PipelineImageInput | None = None,
        code: Tensor | None = None,
        num_inference_steps: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: Literal["pil", "np", "pt"] = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Degrade images.

        Args:
            image: one HR image or several of one size: PIL, numpy (H, W, 3) or tensors (3, H, W) in [0, 1]. Sides that
                the scale does not divide are padded by repeating their border.
            reference: LR images to degrade like, one or one for each; any of the same kinds.
            code: (B, code_dim), in place of ``reference``.
            num_inference_steps: network calls, 1..T.
            generator: one, or one for each image.
            output_type: "pil", "np" (B, h, w, 3) or "pt" (B, 3, h, w) in [0, 1].
            return_dict: False returns a tuple.

        Returns:
            ``ImagePipelineOutput`` with ``images``, 8-bit rounded when PIL.

        Raises:
            ValueError: inputs that do not fit; see `RealisticDegrader.forward`.
        """
        lr = self.degrader(
            self._tensor(image),
            code,
            reference=None if reference is None else self._tensor(reference),
            steps=num_inference_steps,
            generator=generator,
            pad=True,
        )
        images = self.image_processor.postprocess(lr, output_type=output_type, do_denormalize=[False] * len(lr))
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _tensor(self, image: PipelineImageInput) -> Tensor:
        first = image[0] if isinstance(image, list) else image
        if isinstance(first, np.ndarray) and first.dtype == np.uint8:
            raise ValueError("numpy images are uint8; pass floats in [0, 1], for example image / 255.0")
        return self.image_processor.preprocess(image).to(self.degrader.device, self.degrader.dtype)

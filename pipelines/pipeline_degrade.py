"""DegradePipeline: the degrader behind diffusers' pipeline interface: PIL, numpy or tensors in and out."""

from typing import Any

import torch
from diffusers.image_processor import PipelineImageInput
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from torch import Tensor

from degrade.degrader import RealisticDegrader
from degrade.schedule import Generators
from pipelines.images import OutputType, from_tensor, to_tensor


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
            to_tensor(image, self.degrader),
            code,
            reference=None if reference is None else to_tensor(reference, self.degrader),
            steps=num_inference_steps,
            generator=generator,
            pad=True,
        )
        images = from_tensor(lr, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

"""Wrap the upsampler in a diffusers pipeline, with PIL images, arrays or tensors as input and output."""

from typing import Any

import diffusers
import torch
from diffusers.image_processor import PipelineImageInput
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor

from degrade.schedule import Generators
from pipelines.images import OutputType, from_tensor, to_tensor
from pipelines.one_model import OneModelPipeline
from upsample.model import ResidualShiftUpsampler
from upsample.upscaling.tiling import TILE, upscale_in_tiles


class UpsamplePipeline(OneModelPipeline):
    """Upscale LR images to SR images.

    Args:
        upsampler: the model that the pipeline calls, a teacher or a student.

    Example:
        >>> pipeline = UpsamplePipeline.from_pretrained("tiny-x4")
        >>> sr = pipeline(Image.open("photo.png")).images[0]
    """

    model_class = ResidualShiftUpsampler
    model_cpu_offload_seq = "upsampler"

    def __init__(self, upsampler: ResidualShiftUpsampler) -> None:
        super().__init__()
        self.register_modules(upsampler=upsampler)

    @torch.no_grad()
    def __call__(
        self,
        image: PipelineImageInput,
        num_inference_steps: int | None = None,
        generator: Generators = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        tile: int = TILE,
        detail: float | None = None,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Upscale one LR image, a batch or a list.

        Args:
            image: PIL images, arrays (h, w, 3) or tensors (3, h, w) in [0, 1], with any sides. The images of a list may
                differ in size; they are upscaled one by one, with a progress bar. PIL images are turned upright,
                converted to sRGB, and laid on white where they are transparent (see `pipelines.images.to_tensor`).
            num_inference_steps: network calls, 1..T; None uses the number that the weights were trained for.
            generator: draws the noise at the start of the chain: one generator, or one for each image. None uses the
                fixed noise, which gives the same SR for the same LR.
            output_type: "pil", "np" for (B, H, W, 3) or "pt" for (B, 3, H, W), both in [0, 1]; "np" and "pt" give lists
                when sizes differ.
            return_dict: False returns a tuple.
            tile: longest side, in LR pixels, that is upscaled at once (see `upscale_in_tiles`); 0 upscales whole
                images. With a generator, images are always upscaled whole.
            detail: how much detail is added, from 0 (faithful) to 1 (sharp); None uses the default of the weights.

        Returns:
            ``ImagePipelineOutput`` with ``images``; PIL images are rounded to 8 bits.

        Raises:
            ValueError: the inputs do not fit each other or the model; see `ResidualShiftUpsampler.forward`.
        """
        if not isinstance(image, list):
            images = from_tensor(self._upscale(image, num_inference_steps, generator, tile, detail), output_type)
        else:
            generators = generator if isinstance(generator, list) else [generator] * len(image)
            if len(generators) != len(image):
                raise ValueError(f"{len(generators)} generators for {len(image)} images; pass one, or one for each")
            each = [
                self._upscale(one, num_inference_steps, own, tile, detail)
                for one, own in self.progress_bar(list(zip(image, generators, strict=True)))
            ]
            if len({sr.shape for sr in each}) == 1:
                images = from_tensor(torch.cat(each), output_type)
            else:
                images = [from_tensor(sr, output_type)[0] for sr in each]
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _upscale(
        self, image: PipelineImageInput, steps: int | None, generator: Generators, tile: int, detail: float | None
    ) -> Tensor:
        lr = to_tensor(image, self.upsampler)
        if generator is None:  # only the fixed noise can be cut to match a tile
            return upscale_in_tiles(self.upsampler, lr, tile=tile, steps=steps, detail=detail)
        return self.upsampler(lr, detail=detail, steps=steps, generator=generator)


diffusers.UpsamplePipeline = UpsamplePipeline  # `DiffusionPipeline.from_pretrained` looks for classes there only

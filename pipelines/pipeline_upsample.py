"""UpsamplePipeline: the upsampler behind diffusers' pipeline interface: PIL, numpy or tensors in and out."""

from typing import Any

import torch
from diffusers.image_processor import PipelineImageInput
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from torch import Tensor

from degrade.schedule import Generators
from pipelines.images import OutputType, from_tensor, to_tensor
from upsample.model import ResidualShiftUpsampler
from upsample.upscaling.tiling import TILE, upscale_in_tiles


class UpsamplePipeline(DiffusionPipeline):
    """LR images in, HR images out.

    Args:
        upsampler: the model, teacher or student.

    Example:
        >>> pipeline = UpsamplePipeline(ResidualShiftUpsampler.from_pretrained("tiny-x4"))
        >>> sr = pipeline(Image.open("photo.png")).images[0]
    """

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
    ) -> ImagePipelineOutput | tuple[Any]:
        """Upscale images.

        Args:
            image: one LR image, a batch, or a list: PIL, numpy (h, w, 3) or tensors (3, h, w) in [0, 1], any sides.
                The images of a list may differ in size; they are taken one by one, under a progress bar.
            num_inference_steps: network calls, 1..T; None for the number that the model was trained for.
            generator: one, or one for each image, to draw the noise that the chain starts from; None for the fixed
                noise, which gives the same SR for the same LR.
            output_type: "pil", "np" (B, H, W, 3) or "pt" (B, 3, H, W) in [0, 1]; the latter two are lists when sizes
                differ.
            return_dict: False returns a tuple.
            tile: longest side in LR pixels that is upscaled at once, see `upscale_in_tiles`; 0 for whole images, as
                always with a generator.

        Returns:
            ``ImagePipelineOutput`` with ``images``, 8-bit rounded when PIL.

        Raises:
            ValueError: inputs that do not fit; see `ResidualShiftUpsampler.forward`.
        """
        if not isinstance(image, list):
            images = from_tensor(self._upscale(image, num_inference_steps, generator, tile), output_type)
        else:
            generators = generator if isinstance(generator, list) else [generator] * len(image)
            if len(generators) != len(image):
                raise ValueError(f"{len(generators)} generators for {len(image)} images; pass one, or one for each")
            each = [
                self._upscale(one, num_inference_steps, own, tile)
                for one, own in self.progress_bar(list(zip(image, generators, strict=True)))
            ]
            if len({sr.shape for sr in each}) == 1:
                images = from_tensor(torch.cat(each), output_type)
            else:
                images = [from_tensor(sr, output_type)[0] for sr in each]
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _upscale(self, image: PipelineImageInput, steps: int | None, generator: Generators, tile: int) -> Tensor:
        lr = to_tensor(image, self.upsampler)
        if generator is None:  # tiles know their part of the fixed noise, not of one that is drawn
            return upscale_in_tiles(self.upsampler, lr, tile=tile, steps=steps)
        return self.upsampler(lr, steps=steps, generator=generator)

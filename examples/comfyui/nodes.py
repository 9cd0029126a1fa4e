"""Define the nodes by ComfyUI's documented interface; images there are floats (B, H, W, C) in [0, 1].

Nothing of ComfyUI is imported, so the nodes can be called from any program.
"""

import functools

import torch
from torch import Tensor

from degrade import RealisticDegrader
from upsample import ResidualShiftUpsampler
from upsample.upscaling.pictures import Picture
from upsample.upscaling.upscale import UpscaleSettings, upscale_picture

CATEGORY = "image/upscaling"
LARGEST_SEED = 2**64 - 1


class DegradeImage:
    """Make LR images with a degradation that the seed draws; each image of a batch gets its own."""

    CATEGORY = CATEGORY
    FUNCTION = "degrade"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("lr",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - ComfyUI's name
        """List the inputs; a scale of 1 keeps the size, and a strength of 0 is the clean downsampling."""
        return {
            "required": {
                "image": ("IMAGE",),
                "seed": ("INT", {"default": 0, "min": 0, "max": LARGEST_SEED, "control_after_generate": True}),
                "scale": ("INT", {"default": 4, "min": 1, "max": 4}),
                "strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.05}),
                "grain": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.05}),
                "weights": ("STRING", {"default": "tiny-x4"}),  # a shipped name, a folder or a hub id
            }
        }

    @torch.inference_mode()
    def degrade(
        self, image: Tensor, seed: int, scale: int, strength: float, grain: float, weights: str
    ) -> tuple[Tensor]:
        """Degrade a batch: (B, H, W, 3) -> (B, H / scale, W / scale, 3); borders are repeated to whole LR pixels."""
        degrader = _loaded(RealisticDegrader, weights)
        lr = []
        for index, hr in enumerate(_channels_first(image)):
            generator = torch.Generator().manual_seed((seed + index) % (LARGEST_SEED + 1))
            amounts = {"scale": scale, "strength": strength, "grain": grain}
            lr.append(degrader(hr[None].to(degrader.device), **amounts, generator=generator, pad=True).cpu())
        return (_channels_last(torch.cat(lr)),)


class UpscaleImage:
    """Upscale images in tiles; the same image always gives the same result."""

    CATEGORY = CATEGORY
    FUNCTION = "upscale"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("sr",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - ComfyUI's name
        """List the inputs; ``outscale`` may be smaller than the scale of the weights, and no whole number.

        ``detail`` goes from 0 (faithful) to 1 (sharp); below 0 stands for the default of the weights, because ComfyUI
        has no empty numbers.
        """
        return {
            "required": {
                "image": ("IMAGE",),
                "outscale": ("FLOAT", {"default": 4.0, "min": 1.0, "max": 4.0, "step": 0.1}),
                "weights": ("STRING", {"default": "tiny-x4"}),
            },
            "optional": {"detail": ("FLOAT", {"default": -1.0, "min": -1.0, "max": 1.0, "step": 0.05})},
        }

    def upscale(self, image: Tensor, outscale: float, weights: str = "tiny-x4", detail: float = -1.0) -> tuple[Tensor]:
        """Upscale a batch: (B, h, w, 3) -> (B, round(h * outscale), round(w * outscale), 3)."""
        upsampler = _loaded(ResidualShiftUpsampler, weights)
        settings = UpscaleSettings(outscale=outscale, detail=None if detail < 0 else detail)
        sr = [upscale_picture(upsampler, Picture(lr[None]), settings).color for lr in _channels_first(image)]
        return (_channels_last(torch.cat(sr)),)


@functools.lru_cache(maxsize=4)
def _loaded(kind: type, weights: str) -> torch.nn.Module:
    return kind.from_pretrained(weights).to(_device()).eval()


def _device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _channels_first(image: Tensor) -> Tensor:
    return image[..., :3].movedim(-1, 1).float().cpu()  # some nodes pass a fourth channel, which is no colour


def _channels_last(images: Tensor) -> Tensor:
    return images.movedim(1, -1).float().contiguous()


NODE_CLASS_MAPPINGS = {"RealisticDegrader": DegradeImage, "ResidualShiftUpsampler": UpscaleImage}
NODE_DISPLAY_NAME_MAPPINGS = {
    "RealisticDegrader": "Degrade Image (learned)",
    "ResidualShiftUpsampler": "Upscale Image (residual shift)",
}

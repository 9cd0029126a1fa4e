"""Provide tiny networks and real photographs to more than one test file."""

from degrade.thread_waiting import wait_asleep

wait_asleep()  # before torch is imported, as the commands do

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from degrade.degrader import RealisticDegrader
from degrade.images.codec import encode_image
from upsample.model import ResidualShiftUpsampler


@pytest.fixture
def tiny_degrader() -> RealisticDegrader:
    """Build a small degrader with a bank, whose last layer is not zero, so that code, noise and HR all matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        degrader = RealisticDegrader(widths=(8, 8, 8), blocks=1, embedding_dim=8, encoder_widths=(8, 8, 8))
        torch.nn.init.normal_(degrader.unet.head.weight, std=0.05)
        for name, parameter in degrader.named_parameters():
            if ".film." in name:
                torch.nn.init.normal_(parameter, std=0.3)
        degrader.set_bank(torch.randn(20, degrader.config.code_dim))
    return degrader.eval()


@pytest.fixture
def jpeg_degrader(tiny_degrader: RealisticDegrader) -> RealisticDegrader:
    """Make the same degrader compress, with a strength that depends on the code."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        last = tiny_degrader.quantiser.read[-1]
        torch.nn.init.normal_(last.weight, std=0.3)
        torch.nn.init.zeros_(last.bias)
    return tiny_degrader


@pytest.fixture
def tiny_upsampler() -> ResidualShiftUpsampler:
    """Build a small one-step student whose last layer is not zero, so that the noise matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        upsampler = ResidualShiftUpsampler(widths=(8, 8, 8), blocks=1, embedding_dim=8)
        torch.nn.init.normal_(upsampler.unet.head.weight, std=0.05)
    return upsampler.eval()


@pytest.fixture
def make_detail_upsampler() -> Callable[..., ResidualShiftUpsampler]:
    """Return a function that builds the same student, at any scale, with a detail branch that draws something."""

    def make(scale: int = 4, default: float = 0.5) -> ResidualShiftUpsampler:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            upsampler = ResidualShiftUpsampler(scale=scale, widths=(8, 8, 8), blocks=1, embedding_dim=8, detail=default)
            torch.nn.init.normal_(upsampler.unet.head.weight, std=0.05)
            assert upsampler.detail_branch is not None
            torch.nn.init.normal_(upsampler.detail_branch.to_rgb.weight, std=0.05)
            for strength in upsampler.detail_branch.noise_strengths:
                torch.nn.init.constant_(strength, 0.3)
        return upsampler.eval()

    return make


@pytest.fixture
def detail_upsampler(make_detail_upsampler: Callable[..., ResidualShiftUpsampler]) -> ResidualShiftUpsampler:
    """Build that student for x4, with a default strength of 0.5."""
    return make_detail_upsampler()


@pytest.fixture
def autoencoders() -> dict[str, dict[str, Any]]:
    """Configure tiny autoencoders that reduce by 4; keys are their classes in diffusers."""
    blocks = {
        "block_out_channels": (8, 8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
    }
    tiny = {
        "encoder_block_out_channels": (8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8),
        "num_encoder_blocks": (1, 1, 1),
        "num_decoder_blocks": (1, 1, 1),
    }
    return {
        "VQModel": {"_class_name": "VQModel", "latent_channels": 3, "num_vq_embeddings": 64, **blocks},
        "AutoencoderKL": {"_class_name": "AutoencoderKL", "latent_channels": 4, **blocks},
        "AutoencoderTiny": {"_class_name": "AutoencoderTiny", "latent_channels": 4, **tiny},
    }


@pytest.fixture
def tiny_unet2d() -> dict[str, Any]:
    """Configure a tiny UNet2DModel with attention, to replace the upsampler's own network."""
    return {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }


@pytest.fixture(scope="session")
def photographs() -> dict[str, NDArray[np.uint8]]:
    """Load real photographs from the scikit-image wheel, (H, W, 3) uint8."""
    from skimage import data

    return {name: np.ascontiguousarray(getattr(data, name)()[..., :3]) for name in ("astronaut", "chelsea", "coffee")}


@pytest.fixture
def photo_folder(tmp_path: Path, photographs: dict[str, NDArray[np.uint8]]) -> Path:
    """Write the photographs to a folder, as PNG files."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in photographs.items():
        (folder / f"{name}.png").write_bytes(encode_image(image, "png"))
    return folder


@pytest.fixture
def normal() -> Callable[..., torch.Tensor]:
    """Return a function that draws standard normal tensors from a seed: ``normal(0, 2, 3, 8, 8)``."""
    return lambda seed, *shape: torch.randn(shape, generator=torch.Generator().manual_seed(seed))

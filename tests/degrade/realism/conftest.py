"""Fixtures of the realism report: real LR, photographs, a degrader, and a budget that takes seconds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from degrade.degrader import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.images.codec import encode_image
from degrade.images.crops import ImagePool, list_lr
from degrade.images.geometry import Rgb
from degrade.mix import DegradationMix
from degrade.realism.budget import Budget
from degrade.realism.report import RealismConfig


@pytest.fixture
def lr_folder(tmp_path: Path, photographs: dict[str, Rgb]) -> Path:
    """Six small JPEG files that stand for real LR."""
    folder = tmp_path / "lr"
    folder.mkdir()
    for name, photo in photographs.items():
        for part, image in enumerate((photo[:128, :128], photo[128:256, 128:256])):
            data = encode_image(np.ascontiguousarray(image), "jpg", 40)
            (folder / f"{name}{part}.jpg").write_bytes(data)
    return folder


@pytest.fixture
def real(lr_folder: Path) -> ImagePool:
    return ImagePool.open(list_lr(lr_folder), min_side=32)


@pytest.fixture
def pool(photo_folder: Path) -> ImagePool:
    return ImagePool.open(list_sources(photo_folder), min_side=128)


@pytest.fixture
def mix(tiny_degrader: RealisticDegrader) -> DegradationMix:
    return DegradationMix(tiny_degrader, None)


@pytest.fixture
def degrader_folder(tiny_degrader: RealisticDegrader, tmp_path: Path) -> Path:
    tiny_degrader.save_pretrained(tmp_path / "degrader")
    return tmp_path / "degrader"


@pytest.fixture
def config(lr_folder: Path, photo_folder: Path, degrader_folder: Path) -> Callable[..., RealismConfig]:
    """Make settings of a small report; arguments replace some of them."""

    def make_config(**changes: object) -> RealismConfig:
        settings: dict[str, object] = {"crops": 16, "crop_size": 32, "seeds": 1, "degrader": str(degrader_folder)}
        return RealismConfig(real_lr=lr_folder, hr_dir=photo_folder, **(settings | changes))  # type: ignore[arg-type]

    return make_config


@pytest.fixture
def quick() -> Budget:
    return Budget(classifier_steps=4, upscaler_steps=2, samples=2, varied_crops=2, scored_crops=4)

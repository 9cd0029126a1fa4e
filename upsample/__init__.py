"""Super-resolution for real LR images: a one-step student, its teacher, and co-learning with the degrader.

Public names are loaded on first use, so that `import upsample` does not import torch and every `--help` starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upsample.model import ResidualShiftUpsampler

_HOME = {"ResidualShiftUpsampler": "upsample.model"}

__all__ = ["ResidualShiftUpsampler"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'upsample' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__

"""Name the software that computes a network, and what it needs; without torch, because settings name it too."""

from importlib.util import find_spec
from typing import Literal

Backend = Literal["torch", "onnxruntime", "openvino"]

_EXTRAS: dict[Backend, str] = {"onnxruntime": "export", "openvino": "openvino"}  # what brings the package of each


def require(*packages: str, extra: str = "export") -> None:
    """Refuse to go on without these packages.

    Raises:
        ValueError: one is missing.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ValueError(f"missing packages: {', '.join(missing)}; pip install 'realistic-degrader[{extra}]'")


def check_backend(backend: Backend, *, bf16: bool, device: str) -> None:
    """Refuse a backend that cannot compute with this precision, on this device or with these packages.

    Args:
        backend: the software.
        bf16: whether the networks are computed in bfloat16.
        device: where the weights are, such as "cpu" or "cuda:0".

    Raises:
        ValueError: it cannot.
    """
    if backend == "torch":
        return
    require("onnx", "onnxscript", backend, extra=_EXTRAS[backend])
    if not device.startswith("cpu"):
        raise ValueError(f"{backend} works on the CPU here, not on {device}; use --device cpu")
    if bf16 and backend == "onnxruntime":
        raise ValueError("onnxruntime computes in float32 on a CPU; use --fp32, or --backend openvino")

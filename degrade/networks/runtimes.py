"""Compute networks by other software than torch, on a CPU: onnxruntime or OpenVINO."""

import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from degrade.networks.backend import Backend
from degrade.networks.onnx_trace import TOLERANCE, cache_folder, cached_trace
from degrade.networks.unet import FilmUNet

_BF16_TOLERANCE = 0.02  # for images in [0, 1]; what goes wrong gives a tenth and more
_OUT_OF_MEMORY = ("bad_alloc", "failed to allocate")  # in the messages of both runtimes

Run = Callable[..., list[Tensor]]


def start_runtime(backend: Backend, model: bytes, *, bf16: bool = False) -> Run:
    """Load an ONNX model, and return a function that takes its inputs by name and returns its outputs.

    It computes with as many threads as torch has now.

    Args:
        backend: "onnxruntime" or "openvino".
        model: the ONNX model.
        bf16: compute in bfloat16; for OpenVINO.

    Raises:
        ValueError: the processor has no bfloat16; OpenVINO would take float32 and say nothing.
    """
    run = _start_openvino(model, bf16) if backend == "openvino" else partial(start_onnxruntime(model).run, None)

    def call(**inputs: Tensor) -> list[Tensor]:
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs.values()):
            raise ValueError(f"{backend} computes no gradients; call it in torch.no_grad(), or use the backend torch")
        arrays = {name: np.ascontiguousarray(tensor.numpy(force=True)) for name, tensor in inputs.items()}
        try:
            return [torch.from_numpy(array) for array in run(arrays)]
        except Exception as err:  # onnxruntime's are no RuntimeError
            if any(word in str(err).lower() for word in _OUT_OF_MEMORY):
                raise torch.OutOfMemoryError(str(err)) from err  # what tiles understand
            raise

    return call


def start_onnxruntime(model: bytes) -> Any:
    """Start an ``onnxruntime.InferenceSession`` on the CPU, with as many threads as torch has."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # without it, it sends what it ran to its maker
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # it warns of every input with a default
    return InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def _openvino_core() -> Any:
    """Load OpenVINO once, for as long as the process lives.

    Each core gives the thread a stack for signals, and puts the one before back when it ends. Two cores that end in the
    order of their start leave one that is freed: the next signal that Python handles, such as Ctrl-C, would then end
    the process with a segmentation fault.
    """
    from openvino import Core

    return Core()


def _start_openvino(model: bytes, bf16: bool) -> Callable[[dict[str, Any]], list[Any]]:
    core = _openvino_core()
    if bf16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ValueError("this processor has no bfloat16, so openvino would compute in float32; use --fp32")
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",  # by default it takes bf16 where the processor has it
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",  # one tile after the other
    }
    compiled = core.compile_model(core.read_model(model), "CPU", options)
    request = compiled.create_infer_request()

    def run(arrays: dict[str, Any]) -> list[Any]:
        # Not request.infer: when memory runs out, it raises nothing and returns the results of the call before.
        request.start_async(arrays, share_inputs=True)
        request.wait()
        return [np.array(request.get_output_tensor(index).data) for index in range(len(compiled.outputs))]

    return run


def check_difference(backend: Backend, ours: Tensor, exact: Tensor, *, bf16: bool) -> None:
    """Refuse a backend whose result, an image or a part of one, is another than torch's in float32.

    Raises:
        ValueError: the largest difference is above what the precision explains, or no number.
    """
    difference = float((ours - exact).abs().max())
    if not difference <= (_BF16_TOLERANCE if bf16 else TOLERANCE):  # written so that nan is refused too
        raise ValueError(
            f"images of {backend} differ from torch's by {difference:.2g}; delete {cache_folder()} and try again, or "
            "use --backend torch"
        )


def start_unet(unet: FilmUNet, backend: Backend, *, bf16: bool, on_note: Callable[[str], object]) -> Run:
    """Start a U-Net, without its features, in other software: the inputs ``x`` and ``embedding``, one output."""
    inputs = unet_inputs(unet)
    return start_runtime(backend, cached_trace(unet, inputs, ["residual"], {"embedding": (0,)}, on_note), bf16=bf16)


def unet_inputs(unet: FilmUNet) -> dict[str, Tensor]:
    """Return example inputs of a U-Net, by the names of its arguments."""
    channels, embedding = unet.stem.in_channels, unet.top_up.film.in_channels
    return {"x": torch.zeros(2, channels, 12, 20), "embedding": torch.zeros(2, embedding, 1, 1)}

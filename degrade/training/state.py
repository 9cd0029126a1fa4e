"""TrainState: everything that a run is resumed from, in one safetensors file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from degrade.errors import shown
from degrade.networks.weight_files import check_shapes, read_header, read_tensors

Held = TypeVar("Held")


class CheckpointInfo(NamedTuple):
    """What a checkpoint says about itself: steps done, seconds of training, and processes."""

    step: int
    seconds: float
    processes: int


@dataclass
class TrainState:
    """Everything that a run is resumed from, by name.

    Attributes:
        parts: networks.
        optimizers: their optimizers.
        averages: moving averages of their weights.
        tensors: what else a step reads and changes; `load` replaces its content, and the dictionary stays the same.
    """

    parts: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    averages: Mapping[str, AveragedModel]
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: Path, step: int, seconds: float, processes: int) -> None:
        """Write one file, which replaces an old one in one move."""
        tensors = {f"part/{part}/{k}": v for part, net in self.parts.items() for k, v in net.state_dict().items()}
        for name, average in self.averages.items():
            tensors |= {f"ema/{name}/{i}": tensor for i, tensor in enumerate(average.module.parameters())}
        for name, optimizer in self.optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer/{name}/{index}/{slot}": value for slot, value in slots.items()}
        tensors |= {f"tensor/{name}": tensor for name, tensor in self.tensors.items()}
        temporary = path.with_suffix(".tmp")
        copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        save_file(copies, temporary, metadata={"step": str(step), "seconds": str(seconds), "processes": str(processes)})
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        """Put back what `save` wrote.

        Raises:
            ValueError: the file is no checkpoint, or one of other networks.
        """
        step = checkpoint_info(path).step
        try:
            tensors = read_tensors(path)
        except ValueError as err:
            raise ValueError(f"cannot resume from {path} ({err}); use an earlier checkpoint of this run") from err
        try:
            self._check(tensors)
        except ValueError as err:
            raise ValueError(f"{path} is a checkpoint of other networks ({err}); use one of this run") from err
        self._put_back(tensors, step)

    def _check(self, tensors: dict[str, Tensor]) -> None:
        """Check that the file fits the networks. Optimizers are empty before their first step, so less is known there.

        Raises:
            ValueError: it does not.
        """
        expected = {
            f"part/{part}/{key}": tensor.shape
            for part, network in self.parts.items()
            for key, tensor in network.state_dict().items()
        }
        for name, average in self.averages.items():
            expected |= {f"ema/{name}/{i}": tensor.shape for i, tensor in enumerate(average.module.parameters())}
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        check_shapes({name: shape for name, shape in shapes.items() if name.startswith(("part/", "ema/"))}, expected)
        for name, optimizer in self.optimizers.items():
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            slots = _under(shapes, f"optimizer/{name}/")
            for slot, shape in slots.items():
                index = slot.partition("/")[0]
                known = index.isdecimal() and slot.count("/") == 1 and int(index) < len(parameters)
                if not known or shape not in ((), parameters[int(index)].shape):
                    raise ValueError(f"optimizer {name} has no {shown(slot)} of shape {tuple(shape)}")

    def _put_back(self, tensors: dict[str, Tensor], step: int) -> None:
        for part, module in self.parts.items():
            module.load_state_dict(_under(tensors, f"part/{part}/"))
        for name, average in self.averages.items():
            averaged = _under(tensors, f"ema/{name}/")
            for i, parameter in enumerate(average.module.parameters()):
                parameter.data.copy_(averaged[str(i)])
            average.n_averaged.fill_(step)
        for name, optimizer in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, f"optimizer/{name}/").items():
                index, slot = key.split("/")
                state.setdefault(int(index), {})[slot] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self.tensors.clear()
        self.tensors |= _under(tensors, "tensor/")


def checkpoint_info(path: Path) -> CheckpointInfo:
    """Read what a checkpoint says about itself.

    Raises:
        ValueError: the file is no checkpoint.
    """
    try:
        metadata = read_header(path)[1]
    except ValueError as err:
        raise ValueError(f"{path} is no checkpoint ({err}); use a step-*.safetensors of this run") from err
    try:
        return CheckpointInfo(int(metadata["step"]), float(metadata["seconds"]), int(metadata["processes"]))
    except (KeyError, ValueError) as err:
        raise ValueError(
            f"{path} holds weights but no state of a training; use a step-*.safetensors of this run"
        ) from err


def _under(named: Mapping[str, Held], prefix: str) -> dict[str, Held]:
    """Return what has a prefix, without it."""
    return {name[len(prefix) :]: held for name, held in named.items() if name.startswith(prefix)}

"""A training run on disk: its settings, its log, and the state from which it goes on after a stop."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file
from torch import Tensor, nn

from degrade.errors import shown
from degrade.networks.weight_files import check_shapes, read_header, read_tensors
from degrade.shards.record import read_record

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Held = TypeVar("Held")


@dataclass
class TrainState:
    """Everything that a run goes on from after a stop, by name.

    Attributes:
        parts: networks.
        optimizers: of them.
        averages: moving averages of weights.
        tensors: whatever else a step reads and changes; replaced on loading.
    """

    parts: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    averages: Mapping[str, EMAModel]
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def save(self, path: Path, step: int, seconds: float, processes: int = 1) -> None:
        """Write one safetensors file, which replaces an old one in one move."""
        tensors = {f"part/{part}/{k}": v for part, net in self.parts.items() for k, v in net.state_dict().items()}
        for name, ema in self.averages.items():
            tensors |= {f"ema/{name}/{i}": shadow for i, shadow in enumerate(ema.shadow_params)}
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
            ValueError: the file is none of these, or of other networks.
        """
        step, _ = saved_at(path)
        try:
            tensors = read_tensors(path)
        except ValueError as err:
            raise ValueError(f"{path} cannot be gone on from ({err}); use an earlier checkpoint of this run") from err
        try:
            self._check(tensors)
        except ValueError as err:
            raise ValueError(f"{path} is a checkpoint of other networks ({err}); use one of this run") from err
        self._put_back(tensors, step)

    def _check(self, tensors: dict[str, Tensor]) -> None:
        """See that what is stored fits what is there, optimizers apart, which are empty before their first step."""
        expected = {
            f"part/{part}/{key}": tensor.shape
            for part, network in self.parts.items()
            for key, tensor in network.state_dict().items()
        }
        for name, ema in self.averages.items():
            expected |= {f"ema/{name}/{i}": shadow.shape for i, shadow in enumerate(ema.shadow_params)}
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        check_shapes({name: shape for name, shape in shapes.items() if name.startswith(("part/", "ema/"))}, expected)
        for name, optimizer in self.optimizers.items():
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            slots = _under(shapes, f"optimizer/{name}/")
            for slot, shape in slots.items():
                index = slot.partition("/")[0]
                known = index.isdecimal() and slot.count("/") == 1 and int(index) < len(parameters)
                if not known or shape not in ((), parameters[int(index)].shape):
                    raise ValueError(f"optimizer {name} has no {shown(slot)} of {tuple(shape)}")

    def _put_back(self, tensors: dict[str, Tensor], step: int) -> None:
        for part, module in self.parts.items():
            module.load_state_dict(_under(tensors, f"part/{part}/"))
        for name, ema in self.averages.items():
            shadows = _under(tensors, f"ema/{name}/")
            ema.shadow_params = [shadows[str(i)].to(p.device) for i, p in enumerate(ema.shadow_params)]
            ema.optimization_step = step
        for name, optimizer in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, f"optimizer/{name}/").items():
                index, slot = key.split("/")
                state.setdefault(int(index), {})[slot] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self.tensors = _under(tensors, "tensor/")


def _under(named: Mapping[str, Held], prefix: str) -> dict[str, Held]:
    return {name[len(prefix) :]: held for name, held in named.items() if name.startswith(prefix)}


def saved_at(path: Path) -> tuple[int, float]:
    """The step and the seconds of training that a state file holds; (0, 0) when there is none.

    Raises:
        ValueError: it is no such file.
    """
    if not path.exists():
        return 0, 0.0
    step, seconds, _ = _metadata(path)
    return step, seconds


def saved_by(path: Path) -> int:
    """How many processes trained what a state file holds.

    Raises:
        ValueError: it is no such file.
    """
    return _metadata(path)[2]


def _metadata(path: Path) -> tuple[int, float, int]:
    """Step, seconds, processes."""
    try:
        told = read_header(path)[1]
    except ValueError as err:
        raise ValueError(f"{path} is no checkpoint ({err}); use a step-*.safetensors of this run") from err
    try:
        return int(told["step"]), float(told["seconds"]), int(told.get("processes", 1))
    except (KeyError, ValueError) as err:
        raise ValueError(
            f"{path} holds weights but no state of a training; use a step-*.safetensors of this run"
        ) from err


class RunLog:
    """metrics.jsonl and tensorboard events; lines of steps that a killed run reached but never saved are dropped."""

    def __init__(self, out: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = out / "metrics.jsonl"
        self.last: dict[str, float] = {}
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if _step_of(line) <= start]
        self.path.write_text("".join(line + "\n" for line in kept))
        if kept:
            self.last = json.loads(kept[-1])
        self.tensorboard = SummaryWriter(str(out), purge_step=start)

    def write(self, metrics: dict[str, float]) -> None:
        """Append one line and its scalars."""
        self.last = metrics
        with self.path.open("a") as file:
            file.write(json.dumps({k: float(f"{v:.6g}") for k, v in metrics.items()}) + "\n")
        for name, value in metrics.items():
            self.tensorboard.add_scalar(name, value, int(metrics["step"]))
        self.tensorboard.flush()

    def lowest(self, name: str) -> dict[str, float]:
        """At which step a metric was lowest, and what it was; nothing when it was never logged."""
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        logged = [(line[name], line["step"]) for line in lines if name in line]
        return {f"lowest_{name}": min(logged)[0], f"lowest_{name}_at_step": min(logged)[1]} if logged else {}


def _step_of(line: str) -> float:
    """The step of a line of the log; beyond all of one that is not whole: a power cut leaves such."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def open_run(config: "DataclassInstance", out: Path, *, resume: bool) -> None:
    """Check that ``out`` is free or holds this very run, and write the settings into it.

    Raises:
        ValueError: it holds another run.
    """
    config_file = out / "train_config.json"
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    if config_file.exists():
        if not resume:
            raise ValueError(f"{out} holds a run already; pass --resume to go on with it, or another --out")
        try:
            before = read_record(config_file.read_bytes())
        except ValueError as err:
            raise ValueError(f"{config_file} is damaged ({err}); put it back, or use another --out") from err
        different = [f.name for f in fields(config) if before.get(f.name) != settings[f.name]]
        if different:
            told = "; ".join(f"{name} was {before.get(name)!r}, is {settings[name]!r}" for name in different)
            raise ValueError(f"{out} holds a run with other settings ({told}); use the old ones, or another --out")
    (out / "samples").mkdir(parents=True, exist_ok=True)
    config_file.write_text(json.dumps(settings, indent=2) + "\n")

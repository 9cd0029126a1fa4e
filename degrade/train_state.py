"""A training run on disk: its settings, its log, and the state from which it goes on after a stop."""

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from degrade.train import DegraderTrainConfig, Models, Optimizers


def save_state(
    path: Path, models: "Models", optimizers: "Optimizers", ema: EMAModel, step: int, seconds: float
) -> None:
    """Everything that resuming needs, in one safetensors file that replaces the old one in one move."""
    tensors = {f"{part}/{k}": v for part, module in models.parts().items() for k, v in module.state_dict().items()}
    tensors |= {f"ema/{i}": shadow for i, shadow in enumerate(ema.shadow_params)}
    for side in ("generator", "critic"):
        for index, slots in getattr(optimizers, side).state_dict()["state"].items():
            tensors |= {f"optimizer/{side}/{index}/{slot}": value for slot, value in slots.items()}
    temporary = path.with_suffix(".tmp")
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(copies, temporary, metadata={"step": str(step), "seconds": str(seconds)})
    os.replace(temporary, path)


def load_state(path: Path, models: "Models", optimizers: "Optimizers", ema: EMAModel, step: int) -> None:
    """Put back what `save_state` wrote."""
    tensors = load_file(path)

    def under(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    for part, module in models.parts().items():
        module.load_state_dict(under(f"{part}/"))
    shadows = under("ema/")
    ema.shadow_params = [shadows[str(i)].to(p.device) for i, p in enumerate(ema.shadow_params)]
    ema.optimization_step = step
    for side in ("generator", "critic"):
        optimizer: torch.optim.Optimizer = getattr(optimizers, side)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in under(f"optimizer/{side}/").items():
            index, slot = name.split("/")
            state.setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class RunLog:
    """metrics.jsonl and tensorboard events; lines of steps that a killed run reached but never saved are dropped."""

    def __init__(self, out: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = out / "metrics.jsonl"
        self.last: dict[str, float] = {}
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= start]
        self.path.write_text("".join(line + "\n" for line in kept))
        self.tensorboard = SummaryWriter(str(out), purge_step=start)

    def write(self, metrics: dict[str, float]) -> None:
        """Append one line and its scalars."""
        self.last = metrics
        with self.path.open("a") as file:
            file.write(json.dumps({k: float(f"{v:.6g}") for k, v in metrics.items()}) + "\n")
        for name, value in metrics.items():
            self.tensorboard.add_scalar(name, value, int(metrics["step"]))
        self.tensorboard.flush()


def open_run(config: "DegraderTrainConfig", out: Path, state_file: Path, resume: bool) -> tuple[int, float]:
    """Check that ``out`` is free or holds this very run; the step and the seconds to go on from."""
    config_file = out / "train_config.json"
    settings = json.loads(json.dumps(asdict(config)))
    if config_file.exists():
        if not resume:
            raise ValueError(f"{out} holds a run already; pass --resume to go on with it, or another --out")
        before = json.loads(config_file.read_text())
        different = [f.name for f in fields(config) if before.get(f.name) != settings[f.name]]
        if different:
            told = "; ".join(f"{name} was {before.get(name)!r}, is {settings[name]!r}" for name in different)
            raise ValueError(f"{out} holds a run with other settings ({told}); use the old ones, or another --out")
    (out / "samples").mkdir(parents=True, exist_ok=True)
    config_file.write_text(json.dumps(settings, indent=2) + "\n")
    if not state_file.exists():
        return 0, 0.0
    with safe_open(state_file, "pt") as state:
        return int(state.metadata()["step"]), float(state.metadata()["seconds"])

"""Checkpoints: the states of a run that it can be resumed from, on a disk."""

import re
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from degrade.training.state import TrainState, checkpoint_info

_NAME = re.compile(r"step-(\d{7})\.safetensors")


@dataclass
class Checkpoints:
    """Write, find, load and remove the checkpoints of a run.

    Process 0 writes networks, optimizers and averages, which are the same in all processes. Tensors that each process
    has of its own (a replay buffer) lie beside them, in one file of each process.

    Attributes:
        folder: ``checkpoints/`` of the run.
        state: what is saved and loaded.
        accelerator: knows the processes.
        limit: how many are kept, the newest.
    """

    folder: Path
    state: TrainState
    accelerator: Accelerator
    limit: int

    def resume(self, choice: str) -> tuple[int, float]:
        """Load a checkpoint into the state.

        Args:
            choice: "" for a new run, "latest", or the path of a checkpoint of this run.

        Returns:
            The steps that are done, and the seconds they took; zeros for a new run.

        Raises:
            ValueError: there is no such checkpoint, or it does not fit this run.
        """
        path = self._chosen(choice)
        if path is None:
            return 0, 0.0
        info = checkpoint_info(path)
        if info.processes != self.accelerator.num_processes:
            raise ValueError(
                f"{path} was written by {info.processes} processes, and this run has {self.accelerator.num_processes}; "
                "start as many, because each process has its own batches"
            )
        self.state.load(path)
        if not self.accelerator.is_main_process:
            self.state.tensors.clear()
            self.state.tensors |= load_file(self._own(path)) if self._own(path).exists() else {}
        return info.step, info.seconds

    def save(self, step: int, seconds: float) -> None:
        """Write a checkpoint after ``step`` steps, and remove the oldest beyond the limit."""
        path = self.folder / f"step-{step:07d}.safetensors"
        self.folder.mkdir(exist_ok=True)
        if not self.accelerator.is_main_process:
            if self.state.tensors:
                save_file(self.state.tensors, self._own(path))
            return
        for later in (other for other in self._all() if other.name > path.name):
            _remove(later)  # they belong to the same run before it was taken back to an older checkpoint
        self.state.save(path, step, seconds, self.accelerator.num_processes)
        for old in self._all()[: -self.limit]:
            _remove(old)

    def _chosen(self, choice: str) -> Path | None:
        if not choice:
            return None
        if choice == "latest":
            return max(self._all(), default=None)
        if not Path(choice).is_file():
            found = ", ".join(map(str, self._all())) or "none"
            raise ValueError(f"there is no checkpoint {choice}; use latest, or one of: {found}")
        return Path(choice)

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*.safetensors") if _NAME.fullmatch(path.name))

    def _own(self, path: Path) -> Path:
        """Return the file in which this process keeps its own tensors."""
        return path.with_suffix(f".rank-{self.accelerator.process_index}")


def _remove(checkpoint: Path) -> None:
    for path in checkpoint.parent.glob(f"{checkpoint.stem}.*"):
        path.unlink()

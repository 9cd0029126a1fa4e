"""StoredAnswers: pairs with the teacher's answers, made once, so that a step costs no call of the teacher."""

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from upsample.model import ResidualShiftUpsampler
from upsample.training.teacher import teacher_answer


class StoredAnswers:
    """Draw batches of stored pairs with their noise and the answer of the teacher.

    Args:
        file: what `make_answers` wrote.
        seed: decides which rows are drawn.
    """

    def __init__(self, file: Path, seed: int) -> None:
        self.tensors, self.seed = load_file(file), seed

    def batch(self, number: int, size: int) -> dict[str, Tensor]:
        """Draw a batch, the same for the same number.

        Returns:
            hr and lr in [0, 1], noise, answer, and generated (B,), all False.
        """
        rng = random.Random(f"{self.seed}/stored/{number}")
        rows = [rng.randrange(len(self.tensors["seed"])) for _ in range(size)]
        held = {name: tensor[rows] for name, tensor in self.tensors.items()}
        answer = held["answer"].float()
        return {
            "hr": held["hr"].float() / 255,
            "lr": held["lr"].float() / 255,
            "noise": noise_of(held["seed"], answer),
            "answer": answer,
            "generated": torch.zeros(size, dtype=torch.bool),
        }


def make_answers(
    teacher: ResidualShiftUpsampler,
    batches: Iterable[dict[str, Tensor]],
    file: Path,
    *,
    steps: int,
    device: str,
    autocast: torch.autocast,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = lambda batches: batches,
) -> None:
    """Run the teacher over batches (hr, lr, seed) and write one safetensors file.

    Images are kept in 8 bits and answers in 16: 1 MB for eight pairs of 128 px. The noise is kept as its seed.
    """
    parts: list[dict[str, Tensor]] = []
    for batch in progress(batches):
        eight_bit = {name: (batch[name] * 255).round().byte().cpu() for name in ("hr", "lr")}
        lr = eight_bit["lr"].to(device) / 127.5 - 1
        with torch.no_grad():
            anchor = teacher.anchor(lr)
            xt = teacher.scheduler.prior_sample(anchor, noise_of(batch["seed"], anchor).to(anchor))
        answer = teacher_answer(teacher, lr, anchor, xt, steps=steps, autocast=autocast)
        parts.append({**eight_bit, "seed": batch["seed"], "answer": answer.cpu().half()})
    temporary = file.with_suffix(".making")
    save_file({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, temporary)
    temporary.replace(file)


def noise_of(seeds: Tensor, like: Tensor) -> Tensor:
    """Draw standard normal noise from each seed, (B,) -> the shape of ``like``."""
    each = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    return torch.stack(each)

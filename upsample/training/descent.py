"""Descent: an optimiser whose gradients come from several micro-batches and several processes."""

from collections.abc import Iterable

import torch
from accelerate import Accelerator
from torch import Tensor, nn


class Descent:
    """Averages gradients over the processes, clips, steps, and leaves no gradient behind.

    The networks are not wrapped in DistributedDataParallel: a step here calls each several times, and some without
    gradients, which its hooks do not allow. One averaging of all gradients per step does the same.

    Args:
        parameters: what it moves, and nothing else does.
        accelerator: of the processes.
        betas: of AdamW.
        clip: largest norm of the gradient; 0 = none.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], accelerator: Accelerator, *, betas: tuple[float, float], clip: float
    ) -> None:
        self.parameters = list(parameters)
        self.accelerator, self.clip = accelerator, clip
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, betas=betas, weight_decay=0.0)

    def step(self, learning_rate: float) -> None:
        """Move along what has been collected since the last step."""
        self._average()
        if self.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _average(self) -> None:
        if self.accelerator.num_processes == 1:
            return
        grads: list[Tensor] = []
        for parameter in self.parameters:
            if parameter.grad is None:  # here, but perhaps not in another process
                parameter.grad = torch.zeros_like(parameter)
            grads.append(parameter.grad)
        flat = torch.cat([grad.flatten() for grad in grads])
        mean = self.accelerator.reduce(flat, reduction="mean")
        for grad, part in zip(grads, mean.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

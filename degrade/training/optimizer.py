"""Optimizer: AdamW whose gradients come from several micro-batches and several processes."""

from collections.abc import Iterable

import torch
from accelerate import Accelerator
from torch import Tensor, nn


class Optimizer:
    """Average the gradients over the processes, clip them, take a step, and clear them.

    The networks are not wrapped in DistributedDataParallel: a step calls each of them several times, and some without
    gradients, which its hooks do not allow. One average of all gradients per update does the same.

    Args:
        parameters: the weights that this optimizer, and no other, changes.
        accelerator: knows the processes.
        betas: AdamW's momentum terms.
        clip: largest norm of the gradient; 0 = no limit.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], accelerator: Accelerator, *, betas: tuple[float, float], clip: float
    ) -> None:
        self.parameters = list(parameters)
        self.accelerator, self.clip = accelerator, clip
        self.adamw = torch.optim.AdamW(self.parameters, lr=0.0, betas=betas, weight_decay=0.0)

    def step(self, learning_rate: float) -> None:
        """Change the weights by the gradients collected since the last step."""
        self._average()
        if self.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)

    def _average(self) -> None:
        if self.accelerator.num_processes == 1:
            return
        grads: list[Tensor] = []
        for parameter in self.parameters:
            if parameter.grad is None:  # in this process, but perhaps not in another
                parameter.grad = torch.zeros_like(parameter)
            grads.append(parameter.grad)
        flat = torch.cat([grad.flatten() for grad in grads])
        mean = self.accelerator.reduce(flat, reduction="mean")
        for grad, part in zip(grads, mean.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

"""Degrade batches inside your own training loop: import, call, and gradients flow.

python examples/degrade_in_your_loop.py
"""

import torch
from torch import nn

from degrade import RealisticDegrader


def train(degrader: RealisticDegrader, steps: int = 20) -> list[float]:
    """A toy SR network learns on LR images that are degraded anew in every step."""
    network = nn.Sequential(nn.Conv2d(3, 48, 3, padding=1), nn.PixelShuffle(4))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        hr = torch.rand(8, 3, 128, 128)  # your HR batch, RGB in [0, 1]
        with torch.no_grad():
            lr = degrader(hr)  # (8, 3, 32, 32), another look for every image
        loss = (network(lr) - hr).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    degrader = RealisticDegrader.from_pretrained("tiny-x4")  # shipped, offline; or a folder; or a hub id
    print("losses", [round(loss, 3) for loss in train(degrader)])

    hr = torch.rand(1, 3, 128, 128, requires_grad=True)
    degrader(hr, code=degrader.sample_codes(1)).sum().backward()  # it is differentiable: put it behind your generator
    print("gradient in hr", tuple(hr.grad.shape), "is finite:", bool(torch.isfinite(hr.grad).all()))

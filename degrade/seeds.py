"""Make seeds, and turn a seed of any size into one that torch takes."""

import hashlib
import secrets

import torch

_TORCH_SEEDS = 1 << 64


def torch_seed(seed: int) -> int:
    """Return a seed for torch's generators, which take 64 bits: a larger one is hashed, any other stays as it is.

    Raises:
        ValueError: the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; give a whole number from 0 on")
    if seed < _TORCH_SEEDS:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed:x}".encode()).digest()[:8], "big")


def draw_seeds(count: int, generator: torch.Generator | None) -> list[int]:
    """Draw seeds of 63 bits.

    Args:
        count: number of seeds.
        generator: draws them; None takes them from the operating system's entropy.
    """
    if generator is None:
        return [secrets.randbits(63) for _ in range(count)]
    return torch.randint(2**63 - 1, (count,), generator=generator, device=generator.device).tolist()

"""Average the weights of upsamplers of one architecture, and save the mean as one more upsampler.

    python examples/average_weights.py tiny-x4 runs/both/student -o runs/mean

Trainings that began from the same weights and saw other data often make other mistakes, and their mean makes fewer
(model soups, arXiv 2203.05482). Judge it on validation pairs before use.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from upsample import ResidualShiftUpsampler


def mean_of(names: Sequence[str]) -> ResidualShiftUpsampler:
    """Return an upsampler whose weights are the mean of the named ones, with the configuration of the first.

    Raises:
        ValueError: they differ in their architecture.
    """
    models = [ResidualShiftUpsampler.from_pretrained(name) for name in names]
    states = [model.state_dict() for model in models]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    for name, other in zip(names[1:], shapes[1:], strict=True):
        if other != shapes[0]:
            raise ValueError(f"{name} is another architecture than {names[0]}; average weights of one architecture")
    models[0].load_state_dict({key: torch.stack([state[key] for state in states]).mean(0) for key in states[0]})
    return models[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME|DIR")
    parser.add_argument("--out", "-o", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    mean_of(options.models).save_pretrained(options.out)
    print(options.out)

"""Train any network of neosr on pairs that the learned degrader makes, anew in every step.

PYTHONPATH=neosr python examples/in_neosr.py -opt options.toml

In the options: ``model_type = "LearnedDegraderModel"``, and a training set of type "otf". It demands the settings of
its blur kernels, which nobody reads here. Losses and augmentations are those of neosr's model "image".
"""

import os

import torch
from neosr.models.image import image
from neosr.utils.registry import MODEL_REGISTRY

from degrade import RealisticDegrader, online_pairs


@MODEL_REGISTRY.register()
class LearnedDegraderModel(image):
    """Feed a network pairs of an HR image and its degradation."""

    def __init__(self, opt: dict) -> None:
        super().__init__(opt)
        degrader = RealisticDegrader.from_pretrained("tiny-x4")  # or a folder, or a hub id
        self.degrader = degrader.eval().requires_grad_(False).to(self.device)

    @torch.no_grad()
    def feed_data(self, data: dict) -> None:
        """Make pairs of a training batch, which has HR alone; a batch for validation is fed as it is."""
        if "lq" not in data:
            hr, lr = online_pairs(
                data["gt"].to(self.device),
                self.degrader,
                crop=self.opt["datasets"]["train"]["patch_size"] * self.opt["scale"],  # neosr counts LR pixels
                scale=self.opt["scale"],
                generator=torch.default_generator,  # follows manual_seed of the options
            )
            data = data | {"gt": hr, "lq": lr}
        super().feed_data(data)


if __name__ == "__main__":
    from train import train_pipeline

    train_pipeline(os.getcwd())

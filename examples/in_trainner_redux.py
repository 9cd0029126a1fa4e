"""Train any network of traiNNer-redux on pairs that the learned degrader makes, anew in every step.

PYTHONPATH=traiNNer-redux python examples/in_trainner_redux.py --auto_resume -opt options.yml

In the options: ``high_order_degradation: true``, and a training set of type RealESRGANDataset. Its settings of blur
kernels and of other degradations have no effect. Losses and augmentations are those of traiNNer-redux's SRModel.
"""

import os

import torch
import traiNNer.models
from traiNNer.models.sr_model import SRModel
from traiNNer.utils.redux_options import ReduxOptions

from degrade import RealisticDegrader, online_pairs


class LearnedDegraderModel(SRModel):
    """Feed a network pairs of an HR image and its degradation."""

    def __init__(self, opt: ReduxOptions) -> None:
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
                crop=self.opt.datasets["train"].gt_size,
                scale=self.opt.scale,
                generator=torch.default_generator,  # follows manual_seed of the options
            )
            data = data | {"gt": hr, "lq": lr}
        super().feed_data(data)


traiNNer.models.RealESRGANModel = LearnedDegraderModel  # build_model asks no registry, it names its classes

if __name__ == "__main__":
    from train import train_pipeline

    train_pipeline(os.getcwd())

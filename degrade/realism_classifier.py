"""Can a small network tell made LR from real (Lopez-Paz and Oquab, ICLR 2017), and what does it take for real?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from degrade.bands import high_pass
from degrade.lr_features import FEATURES, LrFeatures
from degrade.realism_sets import BATCH, Crops, to_tensors

STEPS = 150
CLASS_BATCH = 16
LEARNING_RATE = 1e-3


class Verdict(NamedTuple):
    """How well the two sets were told apart on crops of images that the classifier had not seen.

    Attributes:
        accuracy: balanced between the sets; 0.5 is guessing.
        auc: area under the ROC curve; 0.5 is guessing.
    """

    accuracy: float
    auc: float


def tell_apart(train: tuple[Crops, Crops], test: tuple[Crops, Crops], *, seed: int) -> Verdict:
    """Train a classifier of two sets on one half of each and try it on the other.

    Args:
        train: crops of the one and the other set, (N, side, side, 3) uint8.
        test: the same, of other images.
        seed: of the batches and the last layer.
    """
    first, second = (logits[:, 1] - logits[:, 0] for logits in classify(train, test, seed=seed))
    return Verdict(float(((first < 0).mean() + (second > 0).mean()) / 2), area_under_roc(first, second))


def classify(train: Sequence[Crops], test: Sequence[Crops], *, seed: int) -> list[NDArray[np.float32]]:
    """Train a classifier of sets, and ask it about other crops.

    It starts from `LrFeatures`, so that it needs seconds and a hundred crops, and all of it is trained further. Like
    that net it sees the high-pass band only: telling scenes apart is not the question.

    Args:
        train: one set of crops a class, (N, side, side, 3) uint8.
        test: sets to judge.
        seed: of the batches and the last layer.

    Returns:
        For each set of ``test`` its logits, (N, classes).
    """
    generator = torch.Generator().manual_seed(seed)
    net = LrFeatures.shipped().requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(FEATURES, len(train))
    optimiser = torch.optim.AdamW([*net.parameters(), *head.parameters()], LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
    bands = [high_pass(to_tensors(crops)) for crops in train]
    truth = torch.arange(len(train)).repeat_interleave(CLASS_BATCH)
    for _ in range(STEPS):
        rows = [torch.randint(len(band), (CLASS_BATCH,), generator=generator) for band in bands]
        batch = torch.cat([band[row] for band, row in zip(bands, rows, strict=True)])
        with torch.autocast("cpu", torch.bfloat16):  # two to three times as fast
            features = net(_turned(batch, generator))
        loss = F.cross_entropy(head(features), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.inference_mode():
        return [
            torch.cat([head(net(part)) for part in high_pass(to_tensors(crops)).split(BATCH)]).numpy() for crops in test
        ]


def area_under_roc(low: NDArray[np.floating], high: NDArray[np.floating]) -> float:
    """Probability that a random score of ``high`` is above a random one of ``low``; ties count half."""
    return float((np.sign(high[None] - low[:, None]).mean() + 1) / 2)


def _turned(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror or transpose the batch at random; block borders stay where they are, since sides are multiples of 8."""
    flip_x, flip_y, swap = (torch.rand(3, generator=generator) < 0.5).tolist()
    batch = batch.flip(3) if flip_x else batch
    batch = batch.flip(2) if flip_y else batch
    return batch.transpose(2, 3) if swap else batch

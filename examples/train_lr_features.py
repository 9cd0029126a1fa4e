"""Train the feature network of `degrade eval` on recipes applied to crops of photographs.

python examples/train_lr_features.py HR_DIR OUT_DIR
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from degrade.files.sources import list_sources
from degrade.images.crops import ImagePool
from degrade.images.tensors import to_tensors
from degrade.mix import DegradationMix
from degrade.networks.precision import has_fast_bf16
from degrade.networks.texture import high_pass, texture_statistics
from degrade.realism.features import FAMILIES, WEIGHTS, LrFeatures
from degrade.realism.sets import BATCH, clean_downsampling, make
from degrade.recipes.recipe import Recipe

SIDE = 64  # px, side of the LR crops
SCALE = 4  # HR side / LR side
HELD_OUT = 8  # every eighth photograph is for testing


def train_features(hr_dir: Path, out: Path, *, crops: int, steps: int, seed: int) -> dict[str, float]:
    """Train on recipes applied to crops of the photographs in ``hr_dir``, and write the weights to ``out``.

    Args:
        hr_dir: folder of photographs.
        out: folder of the weights; it is created if needed.
        crops: number of HR crops.
        steps: training steps.
        seed: seed of the crops, the recipes, the weights and the batches.

    Returns:
        Figures on photographs that were held out: ``change_r2``, the explained share of the variance of the change of
        texture against clean downsampling; ``family_accuracy``, the share of crops whose recipe was recognised. Also
        ``crops`` and ``steps``.
    """
    pool = ImagePool.open(list_sources(hr_dir), min_side=SIDE * SCALE, max_side=3000)
    hr = pool.crops(crops, SIDE * SCALE, seed)
    family = torch.arange(crops) % len(FAMILIES)
    lr = np.empty((crops, SIDE, SIDE, 3), np.uint8)
    for number, name in enumerate(FAMILIES):
        own = (family == number).numpy()
        lr[own] = make(hr[own], DegradationMix(None, Recipe.preset(name), scale=SCALE), seed + number)
    images = to_tensors(lr)
    change = texture_statistics(images) - texture_statistics(to_tensors(clean_downsampling(hr, SCALE)))
    change = (change - change.mean(0)) / change.std(0)
    bands = high_pass(images)
    held_out = torch.arange(crops) * len(pool.sources) // crops % HELD_OUT == 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = LrFeatures()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    trainable = torch.nonzero(~held_out)[:, 0]
    for _ in range(steps):
        rows = trainable[torch.randint(len(trainable), (32,), generator=generator)]
        batch = bands[rows]
        if torch.rand((), generator=generator) < 0.5:
            batch = batch.flip(3)  # block borders stay in place, because the side is a multiple of 8
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16("cpu")):  # twice as fast there
            features = net.raw_features(batch)
        loss = F.mse_loss(net.change(features), change[rows]) + 0.3 * F.cross_entropy(
            net.family(features), family[rows]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    net.eval().requires_grad_(False)
    features = torch.cat([net.raw_features(part) for part in bands.split(BATCH)])
    net.mean.copy_(features[~held_out].mean(0))
    net.spread.copy_(features[~held_out].std(0) + 1e-3)
    out.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), out / WEIGHTS.name)
    seen = features[held_out]
    unexplained = ((net.change(seen) - change[held_out]) ** 2).mean() / change[held_out].var(0).mean()
    accuracy = (net.family(seen).argmax(1) == family[held_out]).float().mean()
    return {"change_r2": 1 - float(unexplained), "family_accuracy": float(accuracy), "crops": crops, "steps": steps}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the feature network of `degrade eval`.")
    parser.add_argument("hr_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--crops", type=int, default=4200)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(train_features(given.hr_dir, given.out_dir, crops=given.crops, steps=given.steps, seed=given.seed))

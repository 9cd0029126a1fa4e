"""Job: what every worker of `degrade synth` must know, resolved once: settings, degrader, codes of references."""

import hashlib
import json
import os.path
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from degrade.mix import DegradationMix, fingerprint, reference_codes
from degrade.recipes.recipe import Recipe
from degrade.synth.settings import SynthSettings

if TYPE_CHECKING:
    from degrade.degrader import RealisticDegrader


@dataclass(frozen=True)
class Job:
    """What a worker needs beside its units; small and picklable.

    Attributes:
        settings: of the run.
        degrader: what `RealisticDegrader.from_pretrained` takes, "" without one.
        codes: of reference photographs, or None.
    """

    settings: SynthSettings
    degrader: str
    codes: list[list[float]] | None

    def mix(self) -> DegradationMix:
        """Load the degrader and build the mix, on the CPU.

        Raises:
            ValueError: the weights are not those that the settings name, or do not fit them.
        """
        settings = self.settings
        degrader = _load(self.degrader) if self.degrader else None
        if degrader and fingerprint(degrader) != settings.degrader_sha256:
            raise ValueError(
                f"the weights of {self.degrader} are not those that this run began with "
                f"({fingerprint(degrader)[:12]}, not {settings.degrader_sha256[:12]}); install the same ones everywhere"
            )
        recipe = Recipe.from_dict(settings.recipe) if settings.recipe is not None else None
        codes = None if self.codes is None else torch.tensor(self.codes)
        return DegradationMix(
            degrader, recipe, mix=settings.mix, scale=settings.scale, steps=settings.steps, codes=codes
        )


def resolve_job(settings: SynthSettings, *, degrader: str, reference_dir: Path | None) -> Job:
    """Load the degrader once to learn its fingerprint and the codes of reference photographs.

    Args:
        settings: as given; degrader, its hash, and the hash of the codes are filled in here.
        degrader: shipped name, folder, hub id, or "none".
        reference_dir: photographs to degrade like, or None.

    Raises:
        ValueError: nothing to degrade with, a scale that does not fit, or no readable reference.
    """
    if degrader == "none":
        if settings.recipe is None:
            raise ValueError("--degrader none leaves nothing to degrade with; give a --preset or a --recipe")
        if reference_dir is not None:
            raise ValueError("--reference-dir needs a learned degrader; --degrader none has no codes")
        return Job(replace(settings, degrader="none", steps=0), "", None)
    model = _load(degrader)
    codes = None if reference_dir is None else reference_codes(model, reference_dir)
    codes_sha256 = "" if codes is None else hashlib.sha256(json.dumps(codes).encode()).hexdigest()
    name = Path(degrader).resolve().name if os.path.isdir(degrader) else degrader
    if os.path.isdir(degrader):
        degrader = os.path.abspath(degrader)  # workers have working folders of their own
    settings = replace(settings, degrader=name, degrader_sha256=fingerprint(model), codes_sha256=codes_sha256)
    job = Job(settings, degrader, codes)
    job.mix()  # says now, in one sentence, what does not fit
    return job


def _load(name: str) -> "RealisticDegrader":
    from degrade.degrader import RealisticDegrader  # here, since workers that apply only a recipe need no diffusers

    return RealisticDegrader.from_pretrained(name).eval()

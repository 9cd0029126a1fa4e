"""Resolve, once for all workers of `degrade synth`, what they must know: settings, degrader and codes."""

import hashlib
import json
import os.path
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from degrade.adjustment import NEUTRAL
from degrade.mix import DegradationMix, fingerprint, one_thread, reference_codes
from degrade.networks.backend import check_backend
from degrade.recipes.recipe import Recipe
from degrade.synth.settings import SynthSettings

if TYPE_CHECKING:
    from degrade.degrader import RealisticDegrader


@dataclass(frozen=True)
class Job:
    """Hold what a worker needs beside its units. It is small, and is sent to workers.

    Attributes:
        settings: settings of the data set.
        degrader: name or folder for `RealisticDegrader.from_pretrained`; "" without a learned degrader.
        codes: codes of reference photographs; None to use the degrader's own bank.
    """

    settings: SynthSettings
    degrader: str
    codes: list[list[float]] | None

    def mix(self, *, on_note: Callable[[str], object] = lambda sentence: None) -> DegradationMix:
        """Load the degrader and build the mix, on the CPU.

        Args:
            on_note: called with a sentence before the network is traced for other software than torch.

        Raises:
            ValueError: the weights do not have the hash in the settings, or do not fit the settings.
        """
        settings = self.settings
        degrader = _load(self.degrader) if self.degrader else None
        if degrader and fingerprint(degrader) != settings.degrader_sha256:
            raise ValueError(
                f"the weights of {self.degrader} are not those that this run started with "
                f"({fingerprint(degrader)[:12]}, not {settings.degrader_sha256[:12]}); install the same ones everywhere"
            )
        if degrader:
            check_backend(settings.backend, bf16=settings.bf16, device=settings.device)
            with one_thread():  # other software keeps the number of threads that it starts with
                degrader.use_backend(settings.backend, bf16=settings.bf16, on_note=on_note)
        recipe = Recipe.from_dict(settings.recipe) if settings.recipe is not None else None
        codes = None if self.codes is None else torch.tensor(self.codes)
        return DegradationMix(
            degrader,
            recipe,
            mix=settings.mix,
            scale=settings.scale,
            steps=settings.steps,
            codes=codes,
            adjustment=settings.adjustment,
        )


def resolve_job(
    settings: SynthSettings,
    *,
    degrader: str,
    reference_dir: Path | None,
    on_note: Callable[[str], object] = lambda sentence: None,
) -> Job:
    """Load the degrader once, to get its fingerprint and the codes of reference photographs.

    Args:
        settings: the settings as given; the degrader, its hash and the hash of the codes are filled in here.
        degrader: shipped name, folder or hub id of the learned degrader, or "none".
        reference_dir: folder of photographs to degrade like; None for the degrader's own bank of codes.
        on_note: called with a sentence before the network is traced for other software than torch.

    Raises:
        ValueError: there is neither a degrader nor a recipe, the scale does not fit, a reference cannot be read, or the
            backend cannot run the degrader.
    """
    if degrader == "none":
        if settings.recipe is None:
            raise ValueError("--degrader none leaves nothing to degrade with; give a --preset or a --recipe")
        if reference_dir is not None:
            raise ValueError("--reference-dir needs a learned degrader; --degrader none has no codes")
        if settings.adjustment != NEUTRAL:
            raise ValueError("--strength, --grain, --blur, --noise and --jpeg need a learned degrader")
        if (settings.backend, settings.bf16) != ("torch", False):
            raise ValueError("--backend and --bf16 need a learned degrader; a recipe is always computed by torch")
        return Job(replace(settings, degrader="none", steps=0), "", None)
    model = _load(degrader)
    codes = None if reference_dir is None else reference_codes(model, reference_dir)
    codes_sha256 = "" if codes is None else hashlib.sha256(json.dumps(codes).encode()).hexdigest()
    name = Path(degrader).resolve().name if os.path.isdir(degrader) else degrader
    if os.path.isdir(degrader):
        degrader = os.path.abspath(degrader)  # workers have other working folders
    settings = replace(settings, degrader=name, degrader_sha256=fingerprint(model), codes_sha256=codes_sha256)
    job = Job(settings, degrader, codes)
    job.mix(on_note=on_note)  # raises the error now, rather than in a worker, if something does not fit
    return job


def _load(name: str) -> "RealisticDegrader":
    from degrade.degrader import RealisticDegrader  # here, because workers that only apply a recipe need no diffusers

    return RealisticDegrader.from_pretrained(name).eval()

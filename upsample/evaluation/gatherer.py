"""Gatherer: keeps what the measures of sets and the page need of every scene, while scenes are read one by one."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from degrade.images.geometry import Crops
from degrade.perceptual.pretrained_features import PretrainedFeatures
from upsample.evaluation.page import Evidence
from upsample.evaluation.patches import busy_and_smooth, cut_patches
from upsample.evaluation.scenes import HR, SceneImages
from upsample.evaluation.sets import CROPS, MIN_IMAGES, SIDE, SetFigures, SrSets, compare_sets, cut_crops

SHOWN = 8  # scenes on the page
PERIOD_WITHOUT_LR = 4  # px; half of it is looked for too
NOTED_PEAK = 0.75  # of the comb; two halves of real HR differ by about 0.2


class Gatherer:
    """Keep crops and pictures of scenes, and measure the sets in the end.

    Args:
        scenes: how many scenes there are; crops and pictures are spread evenly over them.
    """

    def __init__(self, scenes: int) -> None:
        self.scenes = scenes
        self.evidence = Evidence()
        self._every = max(1, -(-scenes // CROPS))  # of so many scenes one gives crops
        self._shown = set(np.linspace(0, scenes - 1, min(SHOWN, scenes)).round().astype(int).tolist())
        self._crops: list[dict[str, Crops]] = []
        self._scales: set[int | None] = set()
        self._small = 0
        self._has_lr = False

    def add(self, number: int, images: SceneImages) -> None:
        """Keep what is needed of a scene; ``number`` counts all scenes from 0."""
        of_set = {**images.made, HR: images.hr}
        if number in self._shown:
            self._show(images)
        self._has_lr = images.lr is not None
        self._scales.add(images.scale if self._has_lr else PERIOD_WITHOUT_LR)
        if number % self._every:
            return
        if min(images.hr.shape[:2]) < SIDE:
            self._small += 1
        else:
            self._crops.append(cut_crops(of_set, scenes=self.scenes, seed=number))

    def measure(
        self,
        features: PretrainedFeatures | None,
        classifier_steps: int,
        progress: Callable[[Iterable[Any]], Iterable[Any]],
    ) -> tuple[SetFigures, dict[str, str], list[str]]:
        """Compute the measures of sets; see `compare_sets` for the arguments.

        Returns:
            The figures, how they were measured, and a sentence for each measure that is left out and each warning.
        """
        if len(self._crops) < MIN_IMAGES:
            small = f" ({self._small} are smaller than {SIDE} x {SIDE} px)" if self._small else ""
            return {}, {}, [
                f"{len(self._crops)} images{small} are too few to compare as sets, so the distance of spectra, comb, "
                f"classifier and KID are left out; give at least {MIN_IMAGES}, better 20"
            ]  # fmt: skip
        notes = []
        if self._small:
            notes.append(
                f"left out of the measures of sets, as smaller than {SIDE} x {SIDE} px: {self._small} of {self.scenes} "
                "images"
            )
        period, reason = self._period()
        notes += [reason] if reason else []
        sets = SrSets.join(self._crops)
        self.evidence.spectra = sets.ring_spectra
        figures = compare_sets(
            sets, period=period, features=features, classifier_steps=classifier_steps, progress=progress
        )
        if not classifier_steps:
            notes.append("the classifier is left out, because its training steps are 0")
        for name, values in figures.items():
            if name != HR and values.get("comb_peak", 0) > NOTED_PEAK:
                notes.append(
                    f"{name}: comb {values['comb']:+.2f}, its strongest frequency {values['comb_peak']:+.2f}: a "
                    f"pattern repeats every {period} px or a part of that; look at the smooth parts of its pictures"
                )
        return figures, self._protocol(sets, period, classifier_steps), notes

    def _show(self, images: SceneImages) -> None:
        corners = busy_and_smooth(images.hr)
        if corners is not None:
            busy, smooth = corners
            size = images.hr.shape[0], images.hr.shape[1]
            columns = {**({} if images.lr is None else {"LR": images.lr}), **images.made, "HR": images.hr}
            self.evidence.busy.append(cut_patches(columns, busy, size))
            self.evidence.smooth.append(cut_patches(columns, smooth, size))

    def _period(self) -> tuple[int | None, str]:
        """Return the period of the comb, or None and the reason why there is none."""
        (scale, *others) = self._scales
        if others or scale is None:
            return None, "comb is left out, because the scenes have different scales, or scales that are not whole"
        if scale == 1:
            return None, "comb is left out, because nothing repeats with a period of 1 px"
        return scale, ""

    def _protocol(self, sets: SrSets, period: int | None, classifier_steps: int) -> dict[str, str]:
        size = f"{SIDE} x {SIDE} px"
        protocol = {
            "sets": f"{len(sets.image)} crops of {size} from {sets.images} images, at the same places of each set"
        }
        if period is not None:
            assumed = "" if self._has_lr else f" (for a scale of {period}, because the scale is unknown without LR)"
            protocol["comb"] = (
                f"multiples of 1/{period} of the sampling rate{assumed}; mean log power of luma in a Hann window; "
                "neighbours 3 to 6 bins away"
            )
        if classifier_steps:
            protocol["classifier"] = f"{classifier_steps} steps, trained on half of the images and tested on the other"
        return protocol

"""Set how much the realism report computes for each seed."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Set how long the small networks of a report train, and how many crops and samples it uses.

    Compare the figures of two reports only when both used the same budget.

    Attributes:
        classifier_steps: training steps of every classifier that tells sets of crops apart.
        upscaler_steps: training steps of every small upscaler that looks for hidden detail.
        samples: random LR samples of each HR crop, wherever their spread matters.
        varied_crops: HR crops that variety is measured on.
        scored_crops: crops of real pairs that the samples are scored on, spread evenly over all crops.
    """

    classifier_steps: int = 150
    upscaler_steps: int = 200
    samples: int = 8
    varied_crops: int = 16
    scored_crops: int = 40


DEFAULT_BUDGET = Budget()

"""How much the realism report computes for each seed."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Say how long the small networks of a report train and how many crops and samples it takes.

    Figures of two reports compare only when both were made with the same budget.

    Attributes:
        classifier_steps: training steps of every classifier that tells sets of crops apart.
        upscaler_steps: training steps of every small upscaler that looks for hidden detail.
        samples: random samples that are made of one HR crop, wherever their spread counts.
        varied_crops: HR crops that these samples are made of, where variety is measured.
        scored_crops: HR crops that these samples are made of, where they are scored against the true LR.
    """

    classifier_steps: int = 150
    upscaler_steps: int = 200
    samples: int = 8
    varied_crops: int = 16
    scored_crops: int = 40


DEFAULT_BUDGET = Budget()

"""Name the columns of the realism report: the sets of LR crops that it compares."""

from enum import StrEnum

Figures = dict[str, dict[str, float]]  # value of each metric and column


class Column(StrEnum):
    """Name a set of LR crops as report.json spells it.

    Attributes:
        REAL: crops of real LR images.
        OURS: LR from the degrader under test, with codes drawn at random.
        BEFORE: LR from another degrader, such as the one that training started from.
        OURS_LIKE: LR from the degrader under test, with the code of a reference that has the wanted degradation.
        OURS_WRONG: the same, but with a reference that has another degradation.
        REAL_ESRGAN: LR from the recipe of Real-ESRGAN.
        LIGHT: LR from its light recipe (StableSR, S3Diff).
        BICUBIC: LR from bicubic downsampling.
    """

    REAL = "real"
    OURS = "ours"
    BEFORE = "before"
    OURS_LIKE = "ours_like"
    OURS_WRONG = "ours_wrong"
    REAL_ESRGAN = "real_esrgan"
    LIGHT = "real_esrgan_light"
    BICUBIC = "bicubic"


LABELS: dict[str, str] = {
    Column.REAL: "real",
    Column.OURS: "ours",
    Column.BEFORE: "before",
    Column.OURS_LIKE: "ours, right reference",
    Column.OURS_WRONG: "ours, wrong reference",
    Column.REAL_ESRGAN: "Real-ESRGAN",
    Column.LIGHT: "its light recipe",
    Column.BICUBIC: "bicubic",
}

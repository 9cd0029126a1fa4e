"""The columns of the realism report: the names of the sets of LR crops that it compares, and how people read them."""

from enum import StrEnum

Figures = dict[str, dict[str, float]]  # metric: column: value


class Column(StrEnum):
    """Name a set of LR crops, as report.json spells it.

    Attributes:
        REAL: real LR.
        OURS: LR made by the degrader under test, with codes that it draws itself.
        BEFORE: LR made by the degrader that the one under test is compared with.
        OURS_LIKE: LR made by the degrader under test with the code of a reference that has the right degradation.
        OURS_WRONG: the same with a reference that has another degradation.
        REAL_ESRGAN: LR made by the recipe of Real-ESRGAN.
        BICUBIC: LR made by bicubic downsampling.
    """

    REAL = "real"
    OURS = "ours"
    BEFORE = "before"
    OURS_LIKE = "ours_like"
    OURS_WRONG = "ours_wrong"
    REAL_ESRGAN = "real_esrgan"
    BICUBIC = "bicubic"


LABELS: dict[str, str] = {
    Column.REAL: "real",
    Column.OURS: "ours",
    Column.BEFORE: "before",
    Column.OURS_LIKE: "ours, told the look",
    Column.OURS_WRONG: "ours, wrong reference",
    Column.REAL_ESRGAN: "Real-ESRGAN",
    Column.BICUBIC: "bicubic",
}

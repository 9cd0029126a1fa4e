import cv2
import numpy as np
import pytest
from skimage import data

from degrade.images.contact_sheet import contact_sheet

HR = data.chelsea()[60:188, 110:238]
LR = cv2.resize(HR, (32, 32), interpolation=cv2.INTER_AREA)
PAPER = 250


def holds(sheet: np.ndarray, picture: np.ndarray) -> bool:
    """Search the sheet for the picture, pixel by pixel."""
    score = cv2.matchTemplate(sheet, picture, cv2.TM_SQDIFF)
    _, _, (left, top), _ = cv2.minMaxLoc(score)
    return np.array_equal(sheet[top : top + picture.shape[0], left : left + picture.shape[1]], picture)


def test_lr_is_repeated_to_the_size_of_its_hr() -> None:
    sheet = contact_sheet([[HR, LR]], column_titles=["HR", "LR"])
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert holds(sheet, HR) and holds(sheet, LR.repeat(4, axis=0).repeat(4, axis=1))


def test_small_images_are_enlarged_by_a_whole_factor_to_fill_the_cell() -> None:
    sheet = contact_sheet([[HR, LR]], column_titles=["HR", "LR"], cell_px=300)
    assert holds(sheet, HR.repeat(2, axis=0).repeat(2, axis=1))


@pytest.mark.parametrize("cell_px", [64, 50, 61])
def test_large_images_show_the_same_centre_in_every_column(cell_px: int) -> None:
    sheet = contact_sheet([[HR, LR]], column_titles=["HR", "LR"], cell_px=cell_px)
    visible = cell_px // 4
    top = (32 - visible) // 2
    assert holds(sheet, HR[top * 4 : (top + visible) * 4, top * 4 : (top + visible) * 4])
    assert holds(sheet, LR[top : top + visible, top : top + visible].repeat(4, axis=0).repeat(4, axis=1))


def test_titles_are_drawn_and_do_not_touch_the_images() -> None:
    blank = np.full((64, 64, 3), PAPER, np.uint8)
    without = contact_sheet([[blank]], column_titles=[""])
    titled = contact_sheet([[blank]], column_titles=["HR"], row_titles=["pair 000000012"])
    assert (without == PAPER).all()
    ink_rows = np.flatnonzero((titled != PAPER).any(axis=(1, 2)))
    assert len(ink_rows) and ink_rows.min() >= 4 and ink_rows.max() < titled.shape[0] - 64


def test_long_titles_are_shortened_not_cut() -> None:
    blank = np.full((64, 64, 3), PAPER, np.uint8)
    sheet = contact_sheet([[blank, blank]], column_titles=["a very long title of a column" * 3, "B"], cell_px=64)
    assert sheet.shape[1] == 2 * 64 + 3 * 6
    assert (sheet[:, 64 + 6 : 64 + 12] == PAPER).all()  # the gutter stays free


def test_rows_may_have_different_sizes_and_lengths() -> None:
    sheet = contact_sheet([[HR, LR], [LR]], column_titles=["HR", "LR"])
    assert holds(sheet, HR) and holds(sheet, LR.repeat(6, axis=0).repeat(6, axis=1))


def test_grids_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([[]], column_titles=[])
    with pytest.raises(ValueError, match="1 column titles and 0 row titles do not fit 2 columns"):
        contact_sheet([[HR, LR]], column_titles=["HR"])
    with pytest.raises(ValueError, match="100x128 does not fit one of 32x32"):
        contact_sheet([[HR[:, :100], LR]], column_titles=["HR", "LR"])

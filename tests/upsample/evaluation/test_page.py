"""The page is one file, and names of folders do no harm to it."""

import numpy as np

from upsample.evaluation.page import Evidence, write_page


def test_names_are_text_and_not_html(tmp_path) -> None:
    name, patch = "a<b>'c", np.zeros((96, 96, 3), np.uint8)
    row = {"LR": patch[::4, ::4], name: patch, "HR": patch}
    report = {
        "protocol": {"psnr_y, ssim_y": "Y", "versions": {"torch": "2"}},
        "figures": {"psnr_y": {"label": "PSNR", "better": "higher"}, "kid": {"label": "KID", "better": "lower"}},
        "mean": {name: {"psnr_y": 30.0}},
        "sets": {name: {"kid": 1.0}, "hr": {"kid": 0.5}},
        "images": {"1.png": {}},
        "left_out": ["<i>"],
        "notes": [],
    }
    spectra = {name: np.ones((4, 20)), "hr": np.zeros((4, 20))}
    write_page(report, Evidence(busy=[row], smooth=[row], spectra=spectra), tmp_path / "o.html")
    page = (tmp_path / "o.html").read_text()
    assert "<b>" not in page and "<i>" not in page and "b>'c" not in page
    assert "a&lt;b&gt;&#x27;c" in page and "left out: &lt;i&gt;" in page and page.count("<img") == 6
    assert page.count("</svg>") == 1


def test_images_smaller_than_a_patch_leave_a_sentence_in_place_of_pictures(tmp_path) -> None:
    report = {"protocol": {"versions": {}}, "figures": {}, "mean": {"sr": {}}, "sets": {}, "images": {}}
    write_page(report | {"left_out": [], "notes": ["few"]}, Evidence(), tmp_path / "o.html")
    page = (tmp_path / "o.html").read_text()
    assert "No image is as large as 96 × 96 px." in page and "<li>few</li>" in page and "Spectra" not in page

"""The realism report from end to end: its files, its command and its page in a browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade.images.codec import encode_image
from degrade.images.geometry import Rgb
from degrade.realism.budget import Budget
from degrade.realism.report import RealismConfig, evaluate
from degrade.realism.sets import clean_downsampling


def test_report_of_a_folder_and_real_pairs(
    tmp_path: Path,
    config: Callable[..., RealismConfig],
    quick: Budget,
    degrader_folder: Path,
    photographs: dict[str, Rgb],
) -> None:
    for side, size in (("pair_hr", 256), ("pair_lr", 64)):
        (tmp_path / side).mkdir()
        for name, photo in photographs.items():
            hr = np.ascontiguousarray(photo[:256, :256])
            image = hr if size == 256 else clean_downsampling(hr[None], 4)[0]
            (tmp_path / side / f"{name}.png").write_bytes(encode_image(image, "png"))
    pairs = (tmp_path / "pair_hr", tmp_path / "pair_lr")
    settings = config(pairs=pairs, seeds=2, before=str(degrader_folder))
    report = evaluate(settings, tmp_path / "out", budget=quick)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert set(report["realism"]["kid"]) == {"real", "ours", "before", "real_esrgan", "real_esrgan_light", "bicubic"}
    assert report["realism"]["frechet"]["before"] == report["realism"]["frechet"]["ours"]  # the same degrader
    assert set(report["hiding"]["hiding_drop_last_bit"]) == {
        "real",
        "ours_like",
        "real_esrgan",
        "real_esrgan_light",
        "bicubic",
    }
    assert report["fidelity_pairs"]["low_frequency_error"]["real"]["mean"] < 1  # these pairs are clean downsamplings
    assert report["diversity"]["spread_of_both"]["bicubic"] == {"mean": 0, "sd": 0}
    assert report["images"] == {"real_lr": 6, "hr": 3, "pair_crops": 12}
    tables = (tmp_path / "out" / "report.md").read_text()
    assert "| Distance to real images | real | ours | before | Real-ESRGAN | its light recipe | bicubic |" in tables
    for block in tables.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1, block
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.search(r"(src|href)=['\"](?!data:)", page), "the page must fetch nothing"
    assert "Fréchet" in page and "Does it follow a reference? Real pairs" in page


def test_the_command_prints_where_to_look(
    tmp_path: Path,
    lr_folder: Path,
    photo_folder: Path,
    degrader_folder: Path,
    quick: Budget,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("degrade.realism.report.evaluate", partial(evaluate, budget=quick))
    arguments = ["eval", "--real-lr", lr_folder, "--hr_dir", photo_folder, "--degrader", degrader_folder]
    arguments += ["--crops", 16, "--crop-size", 32, "--seeds", 1, "--codes", "real", "--out", tmp_path / "out"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output.endswith(f"look at {tmp_path / 'out' / 'report.html'}\n")
    assert "The tables show one seed" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_size": 36}, "crop size 36 does not fit JPEG blocks; use a multiple of 8"),
        ({"crops": 3}, "3 crops are too few"),
        ({"codes": "none"}, "codes 'none' is unknown"),
        ({"codes": "real", "reference_dir": "x"}, "choose one source of the codes"),
        ({"crop_size": 512}, "no image is usable: .* is smaller than the crop"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_a_sentence(
    tmp_path: Path, config: Callable[..., RealismConfig], change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(config(**change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_page_shows_every_picture_in_a_browser(
    tmp_path: Path, config: Callable[..., RealismConfig], quick: Budget
) -> None:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed; on Debian: apt-get install -y chromium"
    evaluate(config(), tmp_path / "out", budget=quick)
    page = tmp_path / "out" / "report.html"
    probe = (
        "<script>addEventListener('load', () => {"
        "document.getElementById('reveal').click();"
        "const pictures = [...document.images];"
        "document.body.dataset.pictures = pictures.length;"
        "document.body.dataset.broken = pictures.filter(p => !p.naturalWidth).length;});</script></body>"
    )
    (tmp_path / "probed.html").write_text(page.read_text().replace("</body>", probe))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--enable-logging=stderr",
    ]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]
    address = (tmp_path / "probed.html").as_uri()
    run = subprocess.run([chromium, *options, address], capture_output=True, text=True, timeout=120, check=True)
    assert ":CONSOLE" not in run.stderr, run.stderr
    pictures = re.search(r'data-pictures="(\d+)"', run.stdout)
    assert pictures and int(pictures[1]) >= 24
    assert 'data-broken="0"' in run.stdout
    assert re.search(r"\d+ of 24 right", run.stdout)

import json

import numpy as np
import pytest
from click.testing import CliRunner

from cli.degrade_commands import main
from degrade.files.store import open_store
from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet
from degrade.shards.reader import read_pairs
from degrade.synth.preview import shard_preview

RECIPE = ["--degrader", "none", "--preset", "real-esrgan", "--crop-size", "128"]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def drawn(monkeypatch):
    """What is handed to the contact sheet: rows and titles of each call."""
    calls = []

    def spy(rows, **options):
        calls.append((rows, options))
        return contact_sheet(rows, **options)

    monkeypatch.setattr("degrade.synth.preview.contact_sheet", spy)
    return calls


@pytest.mark.parametrize("variants", [1, 3])
def test_preview_draws_what_synth_makes_and_writes_nothing_else(photo_folder, tmp_path, drawn, variants):
    picture = tmp_path / "new folder" / "p.png"
    result = run("preview", "-i", photo_folder, "-o", picture, *RECIPE, "--rows", 2)
    assert result.exit_code == 0 and result.output == f"{picture}\n"
    assert list(picture.parent.iterdir()) == [picture] and read_image(picture).std() > 20
    rows, options = drawn[0]
    assert [len(row) for row in rows] == [5, 5] and options["column_titles"] == ["HR", "clean", "LR 1", "LR 2", "LR 3"]
    run("synth", "-i", photo_folder, "-o", tmp_path / "out", *RECIPE, "--variants", variants, "--shard-size", 7)
    for row, source in zip(rows, options["row_titles"], strict=True):
        pairs = [pair for pair in read_pairs(tmp_path / "out") if pair["meta"]["source"] == source][:variants]
        for image, pair in zip(row[2:], pairs, strict=variants == 3):
            assert np.array_equal(image, (pair["lr"] * 255).round().byte().permute(1, 2, 0).numpy())


def test_rows_are_of_different_images(photo_folder, tmp_path, drawn):
    run("preview", "-i", photo_folder, "-o", tmp_path / "p.png", *RECIPE, "--rows", 8)
    run("synth", "-i", photo_folder, "-o", tmp_path / "out", *RECIPE)
    for _, options in drawn:
        assert sorted(options["row_titles"]) == ["astronaut.png", "chelsea.png", "coffee.png"]


def test_the_preview_of_shards_shows_all_variants_of_one_crop(photo_folder, tmp_path, drawn):
    run("synth", "-i", photo_folder, "-o", tmp_path / "out", *RECIPE, "--variants", 2)
    rows, options = drawn[0]
    assert options["column_titles"] == ["HR", "clean", "LR 1", "LR 2"]
    for row in rows:
        assert len(row) == 4 and not np.array_equal(row[2], row[3])
    shard_preview(open_store(tmp_path / "out"), "again.png")
    assert (tmp_path / "out" / "again.png").read_bytes() == (tmp_path / "out" / "preview.png").read_bytes()


def test_unusable_images_are_passed_over(photo_folder, photographs, tmp_path, drawn):
    for name in ("a", "b", "c"):
        (photo_folder / f"{name}.png").write_bytes(encode_image(photographs["coffee"], "png")[:5000])
    assert run("preview", "-i", photo_folder, "-o", tmp_path / "p.png", *RECIPE, "--rows", 3).exit_code == 0
    assert sorted(drawn[0][1]["row_titles"]) == ["astronaut.png", "chelsea.png", "coffee.png"]


@pytest.mark.parametrize("content", ["flat", "broken"])
def test_nothing_to_draw_is_one_sentence_with_the_reason(photographs, tmp_path, content):
    flat = encode_image(np.full((128, 128, 3), 200, np.uint8), "png")
    (tmp_path / "bad").mkdir()
    data = flat if content == "flat" else encode_image(photographs["coffee"], "png")[:5000]
    (tmp_path / "bad" / "a.png").write_bytes(data)
    result = run("preview", "-i", tmp_path / "bad", "-o", tmp_path / "p.png", *RECIPE)
    assert result.exit_code == 1 and result.output.startswith("Error: none of the first 1 images")
    assert ("flat" if content == "flat" else "truncated") in result.output and not (tmp_path / "p.png").exists()


def test_a_data_set_without_pairs_has_no_preview(tmp_path):
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").write_bytes(encode_image(np.full((128, 128, 3), 200, np.uint8), "png"))
    result = run("synth", "-i", tmp_path / "flat", "-o", tmp_path / "out", *RECIPE)
    assert result.exit_code == 0 and "preview.png" not in result.output
    assert not (tmp_path / "out" / "preview.png").exists()
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["skipped"] == 1

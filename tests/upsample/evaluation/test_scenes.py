"""Sets are named by their folders, and all are scored on the same scenes."""

from pathlib import Path

import numpy as np
import pytest

from degrade.images.codec import encode_image
from upsample.evaluation.scenes import list_scenes, name_sets, read_scene


def test_sets_have_the_shortest_names_that_tell_them_apart(tmp_path) -> None:
    paths = [tmp_path / "a" / "sr", tmp_path / "b" / "sr", tmp_path / "other", tmp_path / "bicubic", tmp_path / "hr"]
    names = list(name_sets(paths))
    assert names == ["a/sr", "b/sr", "other", f"{tmp_path.name}/bicubic", f"{tmp_path.name}/hr"]
    with pytest.raises(ValueError, match="other was given twice; give each set once"):
        name_sets([tmp_path / "other", tmp_path / "a" / ".." / "other"])


def write(folder: Path, *names: str, size: int = 32) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(encode_image(np.full((size, size, 3), 99, np.uint8), "png"))
    return folder


def test_only_scenes_that_every_set_has_are_scored_and_the_rest_is_named(tmp_path) -> None:
    hr = write(tmp_path / "hr", "1.png", "2.png", "3.png", "4.png")
    one, two = write(tmp_path / "one", "1.png", "2.png", "3.png"), write(tmp_path / "two", "1.png", "3.png", "4.png")
    lr = write(tmp_path / "lr", "1.png", "2.png", "4.png", size=8)
    scenes, unpaired = list_scenes({"one": one, "two": two}, hr, lr)
    assert [scene.hr.name for scene in scenes] == ["1.png"]
    told = "\n".join(unpaired)
    assert f"4.png has no partner in {one}" in told and f"2.png has no partner in {two}" in told
    assert f"3.png has no partner in {lr}" in told
    images = read_scene(scenes[0])
    assert list(images.made) == ["bicubic", "one", "two"] and images.scale == 4


def test_the_set_with_an_image_of_another_size_is_named(tmp_path) -> None:
    hr, good = write(tmp_path / "hr", "1.png"), write(tmp_path / "good", "1.png")
    bad = write(tmp_path / "bad", "1.png", size=26)
    scenes, _ = list_scenes({"good": good, "bad": bad}, hr, None)
    with pytest.raises(ValueError, match="SR of bad is 26x26, HR is 32x32; SR should be as large"):
        read_scene(scenes[0])

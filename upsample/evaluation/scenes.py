"""Match the files of each scene, name the sets of SR images, and read a scene cut to what all of its images show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from degrade.files.sources import Source, list_pairs
from degrade.images.codec import read_image
from degrade.images.geometry import Rgb
from degrade.images.tensors import to_image, to_tensor
from degrade.ops.resize import resize

HR, BICUBIC = "hr", "bicubic"  # names of the two sets that are not the user's
SCALES = (1, 2, 3, 4)  # of upscalers; the part of HR that one of them divides may be all that SR shows


class Scene(NamedTuple):
    """Hold the files of one scene: its HR, the SR of each set, and its LR, or None when no LR folder is given."""

    hr: Source
    sr: dict[str, Source]
    lr: Source | None


class SceneImages(NamedTuple):
    """Hold the images of one scene.

    Attributes:
        hr: (H, W, 3) uint8, cut to the part that LR was made from.
        made: the same part of each enlarged image by set: ``bicubic`` if there is an LR, then the SR.
        lr: (h, w, 3) uint8, or None.
        scale: HR side / LR side, or None without LR, or where their sizes fit no whole scale.
    """

    hr: Rgb
    made: dict[str, Rgb]
    lr: Rgb | None
    scale: int | None


def name_sets(sr_dirs: Sequence[Path]) -> dict[str, Path]:
    """Name each folder of SR images by the end of its path: as many folders of it as tell it from the others.

    Raises:
        ValueError: one folder was given twice.
    """
    paths = [path.resolve() for path in sr_dirs]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise ValueError(f"the SR folder {path} was given twice; give each set once")
    reserved = [(HR,), (BICUBIC,)]
    named: dict[str, Path] = {}
    for path in paths:
        others = [*reserved, *(other.parts for other in paths if other != path)]
        lengths = range(1, len(path.parts) + 1)
        length = next(n for n in lengths if all(parts[-n:] != path.parts[-n:] for parts in others))
        named["/".join(path.parts[-length:])] = path
    return named


def list_scenes(sr_dirs: Mapping[str, Path], hr_dir: Path, lr_dir: Path | None) -> tuple[list[Scene], list[str]]:
    """Match the files of each scene that has all of its images; the sets are compared on the same scenes.

    Returns:
        The scenes, and a sentence for each image that lacks a partner.
    """
    unpaired: list[str] = []
    sr: dict[str, dict[Source, Source]] = {}
    for name, sr_dir in sr_dirs.items():
        listing = list_pairs(hr_dir, sr_dir)
        sr[name] = dict(listing.pairs)
        unpaired += [line for line in listing.unpaired if line not in unpaired]
    in_all_sets = [hr for hr in next(iter(sr.values())) if all(hr in pairs for pairs in sr.values())]
    if lr_dir is None:
        return [Scene(hr, {name: pairs[hr] for name, pairs in sr.items()}, None) for hr in in_all_sets], unpaired
    lr_of = {hr.name: lr for hr, lr in list_pairs(hr_dir, lr_dir).pairs}
    unpaired += [f"{hr.name} has no partner in {lr_dir}" for hr in in_all_sets if hr.name not in lr_of]
    scenes = [
        Scene(hr, {name: pairs[hr] for name, pairs in sr.items()}, lr_of[hr.name])
        for hr in in_all_sets
        if hr.name in lr_of
    ]
    return scenes, unpaired


def read_scene(scene: Scene) -> SceneImages:
    """Read all images of a scene; HR and SR are cut to the part that LR was made from.

    Raises:
        ValueError: an image cannot be read, or an SR has another size.
    """
    hr = read_image(scene.hr.read())
    sr = {name: read_image(source.read()) for name, source in scene.sr.items()}
    lr = None if scene.lr is None else read_image(scene.lr.read())
    (height, width), scale = _scored_size(hr, sr, lr)
    for name, image in sr.items():
        if image.shape != hr.shape and image.shape[:2] != (height, width):
            which = "SR" if len(sr) == 1 else f"SR of {name}"
            raise ValueError(
                f"{which} is {image.shape[1]}x{image.shape[0]}, HR is {hr.shape[1]}x{hr.shape[0]}; SR should be as "
                "large, or as large as the part of HR that the scale divides: make it from the LR of this HR, at the "
                "full scale"
            )
    made: dict[str, Rgb] = {}
    if lr is not None:
        enlarged = resize(to_tensor(lr), (height, width), "bicubic", antialias=True)  # Keys' a = -0.5, as in MATLAB
        made[BICUBIC] = to_image(enlarged[0])
    made |= {name: image[:height, :width] for name, image in sr.items()}
    return SceneImages(hr[:height, :width], made, lr, scale)


def _scored_size(hr: Rgb, sr: Mapping[str, Rgb], lr: Rgb | None) -> tuple[tuple[int, int], int | None]:
    """Return height and width of the part of HR that LR or SR shows, scale * floor(HR / scale), and the scale of LR."""
    smallest = min((image.shape[:2] for image in sr.values()), key=lambda size: size[0] * size[1])
    for scale in SCALES:
        height, width = hr.shape[0] // scale * scale, hr.shape[1] // scale * scale
        if lr is not None and (lr.shape[0] * scale, lr.shape[1] * scale) == (height, width):
            return (height, width), scale
        if lr is None and smallest == (height, width):
            return (height, width), None
    return (hr.shape[0], hr.shape[1]), None

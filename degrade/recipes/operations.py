"""List the operations that a recipe can use.

To add an operation:

1. Write its two classes next to each other, in one of the modules imported here or in a new one. A ``BaseStep`` has the
   ranges that a recipe file may set; its ``_draw`` turns them into numbers. A ``DrawnStep`` has those numbers; its
   ``apply`` degrades an image with them.
2. Add the first to ``Operation`` and the second to ``DrawnOperation`` below. Recipe files, their JSON schema, the
   records in shards and the checks of both then accept the operation.
3. Use it in a recipe of ``tests/degrade/recipes/test_golden_records.py``, which fails until every operation is there.
"""

from typing import Annotated

from pydantic import Field

from degrade.recipes.blur import Blur, DrawnBlur, DrawnHalo, DrawnSharpen, Halo, Sharpen
from degrade.recipes.chroma import Chroma, DrawnChroma
from degrade.recipes.compress import DrawnJpeg, DrawnQuantise, DrawnWebp, Jpeg, Quantise, Webp
from degrade.recipes.lens import Aberration, DrawnAberration, DrawnLensBlur, LensBlur
from degrade.recipes.levels import Banding, Dither, DrawnBanding, DrawnDither
from degrade.recipes.noise import Camera, DrawnCamera, DrawnGrain, DrawnNoise, Grain, Noise
from degrade.recipes.resize import DrawnResize, Resize
from degrade.recipes.scan import DrawnInterlace, DrawnScanLines, Interlace, ScanLines
from degrade.recipes.screens import DrawnHalftone, DrawnScreentone, Halftone, Screentone
from degrade.recipes.video import DrawnVideo, Video

Operation = (
    Blur
    | LensBlur
    | Aberration
    | Resize
    | Noise
    | Grain
    | Camera
    | Jpeg
    | Webp
    | Video
    | Chroma
    | Sharpen
    | Halo
    | Banding
    | Dither
    | Halftone
    | Screentone
    | Interlace
    | ScanLines
    | Quantise
)
DrawnOperation = Annotated[
    DrawnBlur
    | DrawnLensBlur
    | DrawnAberration
    | DrawnResize
    | DrawnNoise
    | DrawnGrain
    | DrawnCamera
    | DrawnJpeg
    | DrawnWebp
    | DrawnVideo
    | DrawnChroma
    | DrawnSharpen
    | DrawnHalo
    | DrawnBanding
    | DrawnDither
    | DrawnHalftone
    | DrawnScreentone
    | DrawnInterlace
    | DrawnScanLines
    | DrawnQuantise,
    Field(discriminator="op"),
]

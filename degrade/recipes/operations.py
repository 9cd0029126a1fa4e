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

from degrade.recipes.blur import Blur, DrawnBlur, DrawnSharpen, Sharpen
from degrade.recipes.compress import Chroma, DrawnChroma, DrawnJpeg, DrawnQuantise, DrawnWebp, Jpeg, Quantise, Webp
from degrade.recipes.noise import Camera, DrawnCamera, DrawnNoise, Noise
from degrade.recipes.resize import DrawnResize, Resize

Operation = Blur | Resize | Noise | Camera | Jpeg | Webp | Chroma | Sharpen | Quantise
DrawnOperation = Annotated[
    DrawnBlur
    | DrawnResize
    | DrawnNoise
    | DrawnCamera
    | DrawnJpeg
    | DrawnWebp
    | DrawnChroma
    | DrawnSharpen
    | DrawnQuantise,
    Field(discriminator="op"),
]

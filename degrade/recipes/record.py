"""Records of drawn degradations that come back from files: checked before anything is computed from them.

What `Recipe.draw` and `DegradationMix.draw` write is within these bounds. What a stranger wrote into a shard might ask
for a kernel of a gigabyte, or for an operation that does not exist.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from degrade.recipes.file import validated
from degrade.recipes.steps import ChromaName, ModeName, StrictModel

_Strength = Annotated[float, Field(ge=0, le=1000)]
_Length = Annotated[float, Field(ge=0, le=100)]
_Angle = Annotated[float, Field(ge=-10, le=10)]
_Factor = Annotated[float, Field(ge=0.01, le=100)]
_Number = Annotated[float, Field(ge=-1e6, le=1e6)]
_Size = Annotated[int, Field(ge=1, le=101)]
_Quality = Annotated[int, Field(ge=1, le=100)]
_Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _GaussianBlur(StrictModel):
    op: Literal["blur"]
    kernel: Literal["gaussian", "generalized", "plateau"]
    size_px: _Size
    sigma_px: Annotated[list[_Strength], Field(min_length=1, max_length=2)]
    angle_rad: _Angle = 0.0
    beta: _Strength = 1.0


class _SincBlur(StrictModel):
    op: Literal["blur"]
    kernel: Literal["sinc"]
    size_px: _Size
    cutoff_rad: Annotated[float, Field(gt=0, le=4)]


class _DiskBlur(StrictModel):
    op: Literal["blur"]
    kernel: Literal["disk"]
    radius_px: _Length


class _MotionBlur(StrictModel):
    op: Literal["blur"]
    kernel: Literal["motion"]
    length_px: Annotated[float, Field(ge=1, le=100)]
    angle_rad: _Angle


class _Resize(StrictModel):
    op: Literal["resize"]
    of: Literal["input", "lr"]
    factor: _Factor
    mode: ModeName
    antialias: bool


class _PoissonNoise(StrictModel):
    op: Literal["noise"]
    family: Literal["poisson"]
    grey: bool
    seed: _Seed
    scale: _Strength


class _GaussianNoise(StrictModel):
    op: Literal["noise"]
    family: Literal["gaussian", "correlated"]
    grey: bool
    seed: _Seed
    sigma_255: _Strength
    correlation_px: _Length = 0.0
    mixing: Annotated[list[Annotated[list[_Number], Field(min_length=3, max_length=3)]], Field(min_length=3)] | None = (
        Field(default=None, max_length=3)
    )

    @model_validator(mode="after")
    def _grey_has_nothing_to_mix(self) -> "_GaussianNoise":
        if self.grey and self.mixing is not None:
            raise ValueError("grey noise has one channel and cannot have them mixed")
        return self


class _Camera(StrictModel):
    op: Literal["camera"]
    shot: _Strength
    read: Annotated[float, Field(ge=0, le=1e9)]
    gains: tuple[_Factor, _Factor]
    mosaic: bool
    seed: _Seed


class _Jpeg(StrictModel):
    op: Literal["jpeg"]
    quality: _Quality
    chroma: ChromaName
    codec: Literal["libjpeg", "kornia"]


class _Webp(StrictModel):
    op: Literal["webp"]
    quality: _Quality


class _Chroma(StrictModel):
    op: Literal["chroma"]
    chroma: ChromaName


class _Sharpen(StrictModel):
    op: Literal["sharpen"]
    amount: _Strength
    sigma_px: _Length
    threshold_255: _Strength


class _Quantise(StrictModel):
    op: Literal["quantise"]


_Blur = Annotated[_GaussianBlur | _SincBlur | _DiskBlur | _MotionBlur, Field(discriminator="kernel")]
_Noise = Annotated[_PoissonNoise | _GaussianNoise, Field(discriminator="family")]
_Step = Annotated[
    _Blur | _Resize | _Noise | _Camera | _Jpeg | _Webp | _Chroma | _Sharpen | _Quantise, Field(discriminator="op")
]


class _Params(StrictModel):
    scale: Literal[2, 3, 4]
    steps: list[_Step]


class _RecipeRecord(StrictModel):
    kind: Literal["recipe"]
    recipe: str
    params: _Params


class _LearnedRecord(StrictModel):
    kind: Literal["learned"]
    code: list[_Number]
    steps: Annotated[int, Field(ge=1, le=1000)]
    noise_seed: _Seed


def check_record(record: dict[str, Any], source: str) -> None:
    """See that a record of `DegradationMix.draw` is one.

    Args:
        record: as plain types.
        source: whose it is, for the sentence.

    Raises:
        ValueError: it is none, in one sentence that says where.
    """
    validated(_LearnedRecord if record.get("kind") == "learned" else _RecipeRecord, record, source=source)

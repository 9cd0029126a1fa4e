"""Define the record of a pair: what was done to which crop of which image."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from degrade.shards.layout import json_line

MAX_RECORD_BYTES = 1 << 24  # ours have one or two thousand; json needs gigabytes to read a hundred million


@dataclass(frozen=True, kw_only=True)
class SampleMeta:
    """Hold the record of one pair, ``KEY.json``: all that is needed to make the pair again.

    Every field is always present and has one plain type, because Hugging Face ``datasets`` takes the types from the
    first five samples and drops whatever differs later. So the drawn parameters, which differ from pair to pair, are
    stored as one string.

    Attributes:
        key: name of the pair in its shard, the number of its planned slot in nine digits.
        source: path of the HR image relative to the source root.
        source_sha256: hash of the file of the HR image.
        crop_top: top row of the crop in the decoded HR image.
        crop_left: left column of the crop.
        crop_height: height of the crop, px.
        crop_width: width of the crop, px.
        variant: number of the degradation of this crop.
        scale: HR side / LR side.
        seed: seed of this pair, 0 <= seed < 2**63.
        settings_hash: hash of the resolved settings of the run.
        kind: ``"learned"`` or ``"recipe"``.
        degrader: name or folder of the learned degrader, "" for a recipe.
        recipe: name of the recipe, "" for a learned degrader.
        steps: sampling steps of the learned degrader, 0 for a recipe.
        psnr_to_clean: PSNR of LR against the clean downsampling of its HR, in dB: how mild the degradation is.
        params: JSON object of the drawn parameters.

    Raises:
        ValueError: a field has another type or an impossible value.
    """

    key: str
    source: str
    source_sha256: str
    crop_top: int
    crop_left: int
    crop_height: int
    crop_width: int
    variant: int
    scale: int
    seed: int
    settings_hash: str
    kind: str
    degrader: str
    recipe: str
    steps: int
    psnr_to_clean: float
    params: str

    def __post_init__(self) -> None:
        for name, expected in type(self).__annotations__.items():
            value = getattr(self, name)
            # not isinstance: True and numpy floats would change the type of the column
            if type(value) is not expected:
                raise ValueError(f"{name} {value!r} is of type {type(value).__name__}; pass {expected.__name__}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(
                f"seed {self.seed} is outside 0..2**63-1, what an int64 column holds; take it modulo 2**63"
            )
        if self.kind not in ("learned", "recipe"):
            raise ValueError(f"kind {self.kind!r} is unknown; use 'learned' or 'recipe'")
        if not math.isfinite(self.psnr_to_clean):
            raise ValueError(
                f"psnr_to_clean {self.psnr_to_clean} is not a number that JSON can hold; cap it, for example at 100 dB"
            )

    def to_json(self) -> bytes:
        """Return the record as JSON with sorted keys: same record, same bytes."""
        return json_line(asdict(self))

    @classmethod
    def from_json(cls, data: bytes) -> "SampleMeta":
        """Read a record back.

        Raises:
            ValueError: the data is not JSON, or fields are missing, unknown or of another type.
        """
        record = read_record(data)
        differing = sorted(set(record) ^ set(cls.__annotations__))
        if differing:
            raise ValueError(f"not the record of a pair written here: {', '.join(differing)} missing or unknown")
        return cls(**record)


def read_record(data: bytes | str) -> dict[str, Any]:
    """Parse the record of a pair, a JSON object, made here or by other software.

    Raises:
        ValueError: the data is not a JSON object, too large, or nested too deeply.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise ValueError(f"the record has {len(data)} bytes, more than {MAX_RECORD_BYTES}")
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the record is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"the record is a {type(record).__name__}, not a JSON object; pass KEY.json")
    return record

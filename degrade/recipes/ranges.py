"""Define the small types of a recipe file: ranges, weighted choices, and the dice that draw from them.

A range is written ``[low, high]`` or as one number; a choice as a name, a list of names (equal weights) or a mapping of
names to weights. Both are checked when they are read, and one sentence says what is wrong.
"""

import math
import random
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from degrade.errors import shown

Name = TypeVar("Name", bound=str)


def _as_pair(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (value, value)
    return value


def _between(low: float, high: float) -> Callable[[tuple[float, float]], tuple[float, float]]:
    def check(value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"the range [{value[0]}, {value[1]}] is reversed; write [{value[1]}, {value[0]}]")
        if not low <= value[0] <= value[1] <= high:
            raise ValueError(f"the range [{value[0]}, {value[1]}] leaves [{low}, {high}]; keep both ends inside")
        return value

    return check


def _odd(value: tuple[int, int]) -> tuple[int, int]:
    for size in value:
        if size % 2 == 0:
            raise ValueError(f"kernel size {size} is even; use {size + 1}")
    return value


def _as_weights(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return dict.fromkeys(value, 1.0)
    return value


def _drawable(value: dict[str, float]) -> dict[str, float]:
    check_weights(tuple(value.values()))
    return value


def check_weights(weights: tuple[float, ...]) -> tuple[float, ...]:
    """Return the weights if they can be drawn from.

    Raises:
        ValueError: a weight is negative, or the sum of all is 0 or not finite.
    """
    if min(weights, default=0) < 0 or not 0 < sum(weights) < math.inf:
        told = shown(list(weights))
        raise ValueError(f"the weights {told} cannot be drawn from; none negative, their sum above 0 and finite")
    return weights


class _AlsoNumber:
    """Write a range into the JSON schema: the pair, or one number."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        pair = handler(schema)
        return {"anyOf": [pair["prefixItems"][0], pair]}


class _AlsoNames:
    """Write a choice into the JSON schema: the mapping, a list of its names, or one name."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        mapping = handler(schema)
        name = mapping.get("propertyNames", {"type": "string"})
        return {"anyOf": [name, {"type": "array", "items": name}, mapping]}


_Pair = BeforeValidator(_as_pair)
AngleRange = Annotated[tuple[float, float], _Pair, AfterValidator(_between(-360, 360)), _AlsoNumber()]
PositiveRange = Annotated[tuple[float, float], _Pair, AfterValidator(_between(0, 1000)), _AlsoNumber()]
LengthRange = Annotated[tuple[float, float], _Pair, AfterValidator(_between(0, 100)), _AlsoNumber()]
FactorRange = Annotated[tuple[float, float], _Pair, AfterValidator(_between(0.01, 100)), _AlsoNumber()]
FractionRange = Annotated[tuple[float, float], _Pair, AfterValidator(_between(0, 1)), _AlsoNumber()]
ShiftRange = Annotated[tuple[float, float], _Pair, AfterValidator(_between(-100, 100)), _AlsoNumber()]
PeriodRange = Annotated[tuple[float, float], _Pair, AfterValidator(_between(2, 100)), _AlsoNumber()]
LevelRange = Annotated[tuple[int, int], _Pair, AfterValidator(_between(2, 256)), _AlsoNumber()]
CrfRange = Annotated[tuple[int, int], _Pair, AfterValidator(_between(0, 51)), _AlsoNumber()]
Vp9CrfRange = Annotated[tuple[int, int], _Pair, AfterValidator(_between(0, 63)), _AlsoNumber()]
QuantiserRange = Annotated[tuple[int, int], _Pair, AfterValidator(_between(1, 31)), _AlsoNumber()]
QualityRange = Annotated[tuple[int, int], _Pair, AfterValidator(_between(1, 100)), _AlsoNumber()]
OddSizeRange = Annotated[tuple[int, int], _Pair, AfterValidator(_between(1, 101)), AfterValidator(_odd), _AlsoNumber()]
Probability = Annotated[float, Field(ge=0, le=1)]
# bounds of the numbers that are drawn from these ranges and stored in records
Angle = Annotated[float, Field(ge=-10, le=10)]
Strength = Annotated[float, Field(ge=0, le=1000)]
Length = Annotated[float, Field(ge=0, le=100)]
Factor = Annotated[float, Field(ge=0.01, le=100)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Shift = Annotated[float, Field(ge=-100, le=100)]
Period = Annotated[float, Field(ge=2, le=100)]
Levels = Annotated[int, Field(ge=2, le=256)]
Quality = Annotated[int, Field(ge=1, le=100)]
KernelSize = Annotated[int, Field(ge=1, le=101)]
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Shares = Annotated[tuple[float, ...], AfterValidator(check_weights)]
Weights = Annotated[
    dict[Name, float],
    BeforeValidator(_as_weights),
    AfterValidator(_drawable),
    _AlsoNames(),
]
Direction = Literal["up", "down", "keep"]


def span(bounds: tuple[float, float]) -> str:
    """Write a range for a summary: ``1-30``, or one number if both ends are the same."""
    return f"{bounds[0]:g}" if bounds[0] == bounds[1] else f"{bounds[0]:g}-{bounds[1]:g}"


class Dice:
    """Draw from a seed, with ``random.Random.random`` only: the one stream that Python promises never to change.

    Args:
        seed: non-negative integer.

    Raises:
        ValueError: the seed is negative.
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"seed {seed} is negative; use an integer from 0 up")
        self._random = random.Random(seed).random

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._random() < probability

    def uniform(self, bounds: tuple[float, float]) -> float:
        """Draw a number in [low, high)."""
        return bounds[0] + (bounds[1] - bounds[0]) * self._random()

    def log_uniform(self, bounds: tuple[float, float]) -> float:
        """Draw a number in [low, high), low > 0, whose logarithm is uniform."""
        return math.exp(self.uniform((math.log(bounds[0]), math.log(bounds[1]))))

    def normal(self) -> float:
        """Draw a standard normal number (Box-Muller)."""
        return math.sqrt(-2 * math.log(1 - self._random())) * math.cos(2 * math.pi * self._random())

    def integer(self, bounds: tuple[int, int], step: int = 1) -> int:
        """Draw one of low, low + step, ..., high."""
        return bounds[0] + step * int(self._random() * ((bounds[1] - bounds[0]) // step + 1))

    def pick(self, weights: Mapping[Name, float]) -> Name:
        """Draw one of the names, in proportion to its weight."""
        names = [name for name, weight in weights.items() if weight > 0]
        left = self._random() * sum(weights[name] for name in names)
        for name in names[:-1]:
            left -= weights[name]
            if left < 0:
                return name
        return names[-1]

    def order(self, count: int) -> list[int]:
        """Draw a permutation of range(count)."""
        keys = [self._random() for _ in range(count)]
        return sorted(range(count), key=keys.__getitem__)

    def seed(self) -> int:
        """Draw a seed for pixel noise, an integer in [0, 2^32): torch's CPU generator uses 32 bits."""
        return int(self._random() * 2**32)

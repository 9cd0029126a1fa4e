"""The small types of a recipe file: ranges, weighted choices, and the dice that draw from them.

A range is written ``[low, high]`` or as one number; a choice as a name, a list of names (equal weights) or a mapping of
names to weights. Both are checked on reading, with one sentence for what is wrong.
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
    """Refuse weights that nothing can be drawn by.

    Raises:
        ValueError: one is negative, or their sum is 0 or not finite.
    """
    if min(weights, default=0) < 0 or not 0 < sum(weights) < math.inf:
        told = shown(list(weights))
        raise ValueError(f"the weights {told} cannot be drawn from; none negative, their sum above 0 and finite")
    return weights


class _AlsoNumber:
    """JSON schema of a range: the pair, or one number."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        pair = handler(schema)
        return {"anyOf": [pair["prefixItems"][0], pair]}


class _AlsoNames:
    """JSON schema of a choice: the mapping, a list of its names, or one name."""

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
QualityRange = Annotated[tuple[int, int], _Pair, AfterValidator(_between(1, 100)), _AlsoNumber()]
OddSizeRange = Annotated[tuple[int, int], _Pair, AfterValidator(_between(1, 101)), AfterValidator(_odd), _AlsoNumber()]
Probability = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[tuple[float, ...], AfterValidator(check_weights)]
Weights = Annotated[
    dict[Name, float],
    BeforeValidator(_as_weights),
    AfterValidator(_drawable),
    _AlsoNames(),
]
Direction = Literal["up", "down", "keep"]


class Dice:
    """Draws from a seed. Uses ``random.Random.random`` only, the one stream that Python promises never to change.

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
        """True with that probability."""
        return self._random() < probability

    def uniform(self, bounds: tuple[float, float]) -> float:
        """A number in [low, high)."""
        return bounds[0] + (bounds[1] - bounds[0]) * self._random()

    def log_uniform(self, bounds: tuple[float, float]) -> float:
        """A number in [low, high), low > 0, whose logarithm is uniform."""
        return math.exp(self.uniform((math.log(bounds[0]), math.log(bounds[1]))))

    def normal(self) -> float:
        """A standard normal number (Box-Muller)."""
        return math.sqrt(-2 * math.log(1 - self._random())) * math.cos(2 * math.pi * self._random())

    def integer(self, bounds: tuple[int, int], step: int = 1) -> int:
        """One of low, low + step, ..., high."""
        return bounds[0] + step * int(self._random() * ((bounds[1] - bounds[0]) // step + 1))

    def pick(self, weights: Mapping[Name, float]) -> Name:
        """One of the names, in proportion to its weight."""
        names = [name for name, weight in weights.items() if weight > 0]
        left = self._random() * sum(weights[name] for name in names)
        for name in names[:-1]:
            left -= weights[name]
            if left < 0:
                return name
        return names[-1]

    def order(self, count: int) -> list[int]:
        """A permutation of range(count)."""
        keys = [self._random() for _ in range(count)]
        return sorted(range(count), key=keys.__getitem__)

    def seed(self) -> int:
        """An integer seed for pixel noise, in [0, 2^32): torch's CPU generator looks at 32 bits."""
        return int(self._random() * 2**32)

"""Define the two base classes of every operation.

A step of a recipe file has ranges. Drawing the step for one image gives drawn steps, which have numbers and apply them.
``degrade.recipes.operations`` lists the operations and explains how to add one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from degrade.recipes.ranges import Dice, Probability


class StrictModel(BaseModel):
    """A frozen model that refuses keys it does not know; attribute docstrings become the JSON schema's descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class BaseStep(StrictModel, ABC):
    """Base of the steps of a recipe: ranges, and how numbers are drawn from them."""

    later_options: ClassVar[tuple[str, ...]] = ()  # added when data sets had been made with the step

    probability: Probability = 1.0
    """Chance that the step happens at all, drawn per sample."""

    def draw(self, dice: Dice, scale: int) -> "Sequence[DrawnStep]":
        """Draw what the step does to one image: no operation, one, or several in order when the step is a group."""
        return self._draw(dice, scale) if dice.chance(self.probability) else []

    @abstractmethod
    def _draw(self, dice: Dice, scale: int) -> "Sequence[DrawnStep]": ...

    @model_serializer(mode="wrap")
    def _without_unused_later_options(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out later options at their defaults: the seed of a pair is a hash of the recipe with all it writes."""
        unused = {name for name in self.later_options if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in handler(self).items() if name not in unused}

    def summary(self) -> str:
        """Describe the step in a few words, for a one-line summary of the recipe."""
        return f"{self._summary()} ({self.probability:g})" if self.probability < 1 else self._summary()

    @abstractmethod
    def _summary(self) -> str: ...


class Sizes(NamedTuple):
    """Height and width in pixels of the HR image, and of the LR image that the last operation must give."""

    hr: tuple[int, int]
    lr: tuple[int, int]


class DrawnStep(StrictModel, ABC):
    """Base of the operations on one image: the drawn numbers, as a record in a shard stores them, and ``apply``.

    Every number has bounds, because records also come from files that others wrote: one that asks for a kernel of a
    gigabyte must be refused when it is read. A number that only some draws need has a default; records leave it out
    when it was not drawn.
    """

    @abstractmethod
    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Degrade one image.

        Args:
            image: RGB, (1, 3, H, W) in [0, 1]; after resizes, H and W are neither those of HR nor those of LR.
            sizes: sizes of HR and LR, for operations that depend on them.

        Returns:
            (1, 3, H', W'), in [0, 1] up to what interpolation and filters overshoot; differentiable in ``image``.
        """

    def with_seed(self, seed: int) -> Self:
        """Return the operation with another seed of its pixel noise; an operation without noise stays the same."""
        return self.model_copy(update={"seed": seed}) if "seed" in type(self).model_fields else self

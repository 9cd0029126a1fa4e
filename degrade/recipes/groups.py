"""Group steps: as a chain, a weighted choice, a random order, or a chain per scale. Groups nest freely."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from degrade.errors import shown
from degrade.recipes.operations import Operation
from degrade.recipes.ranges import Dice, Shares
from degrade.recipes.resize import Resize
from degrade.recipes.steps import BaseStep, DrawnStep, StrictModel


class Chain(BaseStep):
    """Do the steps in the written order; keeps steps together inside the other groups."""

    op: Literal["chain"] = "chain"
    steps: tuple["Step", ...] = Field(min_length=1)
    """The steps."""

    def _draw(self, dice: Dice, scale: int) -> Sequence[DrawnStep]:
        return draw_chain(self.steps, dice, scale)

    def _summary(self) -> str:
        return f"[{summarise(self.steps)}]"


class OneOf(BaseStep):
    """Do exactly one of the steps."""

    op: Literal["one_of"] = "one_of"
    steps: tuple["Step", ...] = Field(min_length=1)
    """The alternatives."""
    weights: Shares | None = None
    """One weight per alternative; null for equal chances."""

    @model_validator(mode="after")
    def _one_weight_per_step(self) -> "OneOf":
        if self.weights is not None and len(self.weights) != len(self.steps):
            raise ValueError(
                f"weights {shown(list(self.weights))} for {len(self.steps)} steps; write one per step, not all 0"
            )
        return self

    def _draw(self, dice: Dice, scale: int) -> Sequence[DrawnStep]:
        weights = self.weights or (1.0,) * len(self.steps)
        chosen = dice.pick({str(index): weight for index, weight in enumerate(weights)})
        return self.steps[int(chosen)].draw(dice, scale)

    def _summary(self) -> str:
        return f"one of [{summarise(self.steps, ' | ')}]"


class Shuffle(BaseStep):
    """Do all steps in a random order, but those that resize in the written order among themselves.

    Write a step that must come last after the shuffle.
    """

    op: Literal["shuffle"] = "shuffle"
    steps: tuple["Step", ...] = Field(min_length=1)
    """The steps."""

    def _draw(self, dice: Dice, scale: int) -> Sequence[DrawnStep]:
        order = dice.order(len(self.steps))
        resizing = iter(sorted(index for index in order if _resizes(self.steps[index])))
        order = [next(resizing) if _resizes(self.steps[index]) else index for index in order]
        return draw_chain([self.steps[index] for index in order], dice, scale)

    def _summary(self) -> str:
        return f"shuffle [{summarise(self.steps, ', ')}]"


class ByScale(BaseStep):
    """Do another chain for every scale, as recipes need whose published numbers depend on it."""

    op: Literal["by_scale"] = "by_scale"
    steps: dict[Literal[1, 2, 3, 4], tuple["Step", ...]] = Field(min_length=1)
    """Chain of each scale: 1, 2, 3 or 4."""

    @model_validator(mode="before")
    @classmethod
    def _scales_are_integers(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("steps"), dict):  # JSON and TOML have string keys only
            steps = {int(key) if str(key).isdecimal() else key: chain for key, chain in data["steps"].items()}
            return data | {"steps": steps}
        return data

    def _draw(self, dice: Dice, scale: int) -> Sequence[DrawnStep]:
        for own_scale, steps in self.steps.items():
            if own_scale == scale:
                return draw_chain(steps, dice, scale)
        raise ValueError(f"this recipe has no chain for scale {scale}; it has {sorted(self.steps)}")

    def _summary(self) -> str:
        return "by scale: " + "; ".join(f"x{scale} {summarise(steps)}" for scale, steps in self.steps.items())


Step = Annotated[Operation | Chain | OneOf | Shuffle | ByScale, Field(discriminator="op")]
GROUPS: tuple[type[StrictModel], ...] = (Chain, OneOf, Shuffle, ByScale)
for _group in GROUPS:
    _group.model_rebuild()


def draw_chain(steps: "tuple[Step, ...] | list[Step]", dice: Dice, scale: int) -> list[DrawnStep]:
    """Draw every step in turn and return the operations of one image in order."""
    return [drawn for step in steps for drawn in step.draw(dice, scale)]


def summarise(steps: "tuple[Step, ...]", separator: str = " > ") -> str:
    """Describe a chain of steps in one line."""
    return separator.join(step.summary() for step in steps)


def _resizes(step: BaseStep) -> bool:
    if isinstance(step, Chain | OneOf | Shuffle):
        return any(_resizes(inner) for inner in step.steps)
    if isinstance(step, ByScale):
        return any(_resizes(inner) for chain in step.steps.values() for inner in chain)
    return isinstance(step, Resize)

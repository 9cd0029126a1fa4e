"""Steps that hold steps: a chain, a weighted choice, a random order, a chain per scale. They nest freely."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from degrade.errors import shown
from degrade.recipes.ranges import Dice, Shares
from degrade.recipes.steps import (
    BaseStep,
    Blur,
    Camera,
    Chroma,
    Drawn,
    Jpeg,
    Noise,
    Quantise,
    Resize,
    Sharpen,
    StrictModel,
    Webp,
)


class Chain(BaseStep):
    """Steps in the written order; groups steps that belong together inside the other groups."""

    op: Literal["chain"] = "chain"
    steps: tuple["Step", ...] = Field(min_length=1)
    """The steps."""

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        return draw_chain(self.steps, dice, scale)

    def _summary(self) -> str:
        return f"[{summarise(self.steps)}]"


class OneOf(BaseStep):
    """Exactly one of the steps."""

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

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        weights = self.weights or (1.0,) * len(self.steps)
        chosen = dice.pick({str(index): weight for index, weight in enumerate(weights)})
        return self.steps[int(chosen)].draw(dice, scale)

    def _summary(self) -> str:
        return f"one of [{summarise(self.steps, ' | ')}]"


class Shuffle(BaseStep):
    """All the steps in a random order, except that those which resize keep their order among themselves.

    A step that must come last is written after the shuffle.
    """

    op: Literal["shuffle"] = "shuffle"
    steps: tuple["Step", ...] = Field(min_length=1)
    """The steps."""

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        order = dice.order(len(self.steps))
        resizing = iter(sorted(index for index in order if _resizes(self.steps[index])))
        order = [next(resizing) if _resizes(self.steps[index]) else index for index in order]
        return draw_chain([self.steps[index] for index in order], dice, scale)

    def _summary(self) -> str:
        return f"shuffle [{summarise(self.steps, ', ')}]"


class ByScale(BaseStep):
    """Another chain for every scale, for recipes whose published numbers depend on it."""

    op: Literal["by_scale"] = "by_scale"
    steps: dict[Literal[2, 3, 4], tuple["Step", ...]] = Field(min_length=1)
    """Chains by scale."""

    @model_validator(mode="before")
    @classmethod
    def _scales_are_integers(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("steps"), dict):  # JSON and TOML have string keys only
            steps = {int(key) if str(key).isdecimal() else key: chain for key, chain in data["steps"].items()}
            return data | {"steps": steps}
        return data

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        for own_scale, steps in self.steps.items():
            if own_scale == scale:
                return draw_chain(steps, dice, scale)
        raise ValueError(f"this recipe has no chain for scale {scale}; it has {sorted(self.steps)}")

    def _summary(self) -> str:
        return "by scale: " + "; ".join(f"x{scale} {summarise(steps)}" for scale, steps in self.steps.items())


Step = Annotated[
    Blur | Resize | Noise | Camera | Jpeg | Webp | Chroma | Sharpen | Quantise | Chain | OneOf | Shuffle | ByScale,
    Field(discriminator="op"),
]
GROUPS: tuple[type[StrictModel], ...] = (Chain, OneOf, Shuffle, ByScale)
for _group in GROUPS:
    _group.model_rebuild()


def draw_chain(steps: "tuple[Step, ...] | list[Step]", dice: Dice, scale: int) -> list[Drawn]:
    """Draw every step in turn; the operations of one sample."""
    return [drawn for step in steps for drawn in step.draw(dice, scale)]


def summarise(steps: "tuple[Step, ...]", separator: str = " > ") -> str:
    """One line for a chain of steps."""
    return separator.join(step.summary() for step in steps)


def _resizes(step: BaseStep) -> bool:
    if isinstance(step, Chain | OneOf | Shuffle):
        return any(_resizes(inner) for inner in step.steps)
    if isinstance(step, ByScale):
        return any(_resizes(inner) for chain in step.steps.values() for inner in chain)
    return isinstance(step, Resize)

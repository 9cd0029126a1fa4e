"""Define Adjustment: how the looks that the learned degrader draws are changed before they are applied."""

from dataclasses import dataclass

MOST = 2.0  # of strength and grain


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """Hold how a drawn look is changed. The default changes nothing.

    None of it takes part in the draw of a look, so the same seed gives the same look at every strength.

    Attributes:
        strength: range of `RealisticDegrader.forward`'s strength, drawn uniformly for each image.
        grain: factor on the noise alone, 0..2.
        blur: move towards softer looks, or sharper ones if negative, in standard deviations of the bank.
        noise: move towards noisier looks, or cleaner ones, likewise.
        jpeg: move towards stronger compression, or weaker, likewise.

    Raises:
        ValueError: ``strength`` or ``grain`` is out of range.
    """

    strength: tuple[float, float] = (1.0, 1.0)
    grain: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.strength
        for name, value in (("strength", low), ("strength", high), ("grain", self.grain)):
            if not 0 <= value <= MOST:
                raise ValueError(f"{name} {value} is outside 0..{MOST:g}")
        if low > high:
            raise ValueError(f"strength {low}..{high} is upside down; give the smaller number first")

    def moves(self) -> dict[str, float]:
        """Return the arguments of `RealisticDegrader.move`."""
        return {"blur": self.blur, "noise": self.noise, "jpeg": self.jpeg}

    def strength_at(self, share: float) -> float:
        """Return the strength at a share, 0..1, of the range."""
        low, high = self.strength
        return low + share * (high - low)


NEUTRAL = Adjustment()

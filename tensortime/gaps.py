"""How far numbers lie apart: absolutely, and relatively to the larger magnitude, as `math.isclose` has it. Pure.

NaN equals NaN, infinity equals infinity, -0.0 equals 0.0; between one of these and another number the distance is
infinite. Integers are exact.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

Number = int | float

TINY = 5e-324
"""Stands for the magnitude of two zeros, which do not differ."""


@dataclass(frozen=True, slots=True)
class Gap:
    """How one array (or column, or key) of a file differs from that of another."""

    name: str
    """Empty for the only array of a file."""
    problem: str = ""
    """`missing`, `extra`, `type`, `shape` (then `old` and `new` say which), `text` (what is no number differs); empty
    where numbers do."""
    max_abs: float | None = None
    max_rel: float | None = None
    """Infinite where only one of two numbers is NaN or infinite; None where not numbers differ."""
    old: str = ""
    new: str = ""


@dataclass(frozen=True, slots=True)
class Closeness:
    """How far two numeric files lie apart."""

    gaps: tuple[Gap, ...]
    """The arrays that differ, in the order of the first file; none where only the bytes around equal numbers do."""

    @property
    def max_abs(self) -> float | None:
        """The largest absolute difference; None where something else than numbers differs."""
        return largest([one.max_abs for one in self.gaps])

    @property
    def max_rel(self) -> float | None:
        """The largest relative difference; None where something else than numbers differs."""
        return largest([one.max_rel for one in self.gaps])


def largest(values: Sequence[float | None]) -> float | None:
    """The largest of all, unless one of them is not known."""
    known = [one for one in values if one is not None]
    return max(known, default=0.0) if len(known) == len(values) else None


def distance(old: Sequence[Number], new: Sequence[Number]) -> tuple[float, float]:
    """The largest absolute and the largest relative difference of two equally long rows, neither of them empty."""
    try:
        apart = list(map(abs, map(operator.sub, new, old)))
        if math.isfinite(sum(apart)):
            larger = map(max, map(abs, old), map(abs, new), repeat(TINY))
            return float(max(apart)), max(map(operator.truediv, apart, larger))
    except OverflowError:
        pass  # integers past all floats
    return distance_one_by_one(old, new)


def distance_one_by_one(old: Sequence[Number], new: Sequence[Number]) -> tuple[float, float]:
    """As `distance`, where some are NaN, infinite or too large to be subtracted."""
    widest, relative = 0.0, 0.0
    for one, other in zip(old, new, strict=True):
        if one == other or (one != one and other != other):
            continue
        try:
            apart = abs(float(other - one))
            share = abs(other - one) / (max(abs(one), abs(other)) or TINY)
        except OverflowError:
            apart = share = math.inf
        if not math.isfinite(apart):
            apart = share = math.inf
        widest, relative = max(widest, apart), max(relative, share)
    return widest, relative


def short_number(value: float | None) -> str:
    """A small or large number as one writes it: 3e-2, 1.2e-7, 0.5, 12."""
    if value is None:
        return "?"
    plain = f"{value:.2g}"
    text = plain if 0.1 <= abs(float(plain)) < 1e6 or value == 0 else f"{value:.1e}"
    mantissa, exponential, exponent = text.partition("e")
    if not exponential:
        return text
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"

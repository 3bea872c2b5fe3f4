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

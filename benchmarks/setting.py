"""What every scenario is given, and what it measures with."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.commands import Done, run
from benchmarks.rounds import Say, timed

TOP = Path(__file__).parent.parent
PROGRAM = Path(sys.executable).with_name("tensortime")


@dataclass(frozen=True)
class Setting:
    """Where and how thoroughly a scenario is measured."""

    folder: Path
    """Empty, on the disk that is measured, removed afterwards."""
    rounds: int
    scale: float
    say: Say

    def some(self, count: int) -> int:
        """So many at this scale, at least ten."""
        return max(10, round(count * self.scale))


def tensortime(*words: str | Path, project: Path) -> Done:
    """The command line, with the store where it is if nobody says otherwise. It is named all the same: a store in a
    folder further up would make all below it one project."""
    return run(PROGRAM, *words, "--store", store_of(project), cwd=project)


def store_of(project: Path) -> Path:
    """The store of a project."""
    return project / "tensortime"


def probe(name: str, *words: str | Path) -> dict[str, Any]:
    """One of `probes`, in a process of its own."""
    found: dict[str, Any] = json.loads(
        run(sys.executable, "-m", "benchmarks.probes", name, *words, cwd=TOP).output
    )
    return found


def in_turn(rounds: int, works: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each piece of work, one after the other in each round; a round before them does not count."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            seconds = timed(work)
            if number:
                found[name].append(seconds)
    return found


def middle(seconds: Sequence[float]) -> float:
    """The median."""
    return median(seconds)

"""All that was measured, as `numbers.json` keeps it: measured in pieces, joined here, reported at any time.

Each part (a tree, or a scenario) says when, where and at which scale it was measured; measured again it is replaced as
a whole, so that what is compared always comes out of one run.
"""

import json
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.commands import run

STEPS = ("first", "again", "changed", "restore")
TITLES = {"first": "first backup", "again": "unchanged", "changed": "after a change", "restore": "restore"}
BASE, OURS = "cp -r", "tensortime"


@dataclass(frozen=True)
class Conditions:
    """What the numbers of a part depend on."""

    date: str
    machine: str
    system: str
    file_system: str
    tensortime: str
    """Version, and the commit that was measured."""
    rounds: int
    scale: float
    """1: the sizes that the targets speak of."""


@dataclass
class Result:
    """What one tool took on one tree."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    """Of each round, by step; `add` is the part of git's first step that a target names."""
    bytes: dict[str, int] = field(default_factory=dict)
    """On the disk after the step."""
    peak: dict[str, int] = field(default_factory=dict)
    """Bytes of the largest process of the step, in any round."""
    problem: str = ""
    """Why it has no numbers, or that what it brought back was not the same."""

    def median(self, step: str) -> float | None:
        """The median of a step; None where there is none."""
        return statistics.median(self.seconds[step]) if self.seconds.get(step) else None


@dataclass
class TreePart:
    """One tree: every tool, in the same run."""

    conditions: Conditions
    results: dict[str, Result] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Why a tool is not there, by its name."""
    problem: str = ""
    """Why the tree was not measured."""


@dataclass
class ScenarioPart:
    """One scenario: what it found, or why it found nothing."""

    conditions: Conditions
    found: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass
class Numbers:
    """All parts."""

    trees: dict[str, TreePart] = field(default_factory=dict)
    scenarios: dict[str, ScenarioPart] = field(default_factory=dict)

    def result(self, tree: str, tool: str) -> Result | None:
        """What a tool took on a tree; None where it was not measured or failed."""
        part = self.trees.get(tree)
        found = part.results.get(tool) if part else None
        return found if found and not found.problem else None

    def found(self, scenario: str) -> Mapping[str, Any]:
        """What a scenario found; empty where it was not measured."""
        part = self.scenarios.get(scenario)
        return part.found if part else {}

    def problem(self, part: str) -> str:
        """Why a tree or scenario has no numbers; empty where it has."""
        found: TreePart | ScenarioPart | None = self.trees.get(part) or self.scenarios.get(part)
        return found.problem if found else "not in this run"

    def conditions(self, part: str) -> Conditions | None:
        """Of a tree or scenario that is there."""
        found: TreePart | ScenarioPart | None = self.trees.get(part) or self.scenarios.get(part)
        return found.conditions if found else None


def read_numbers(path: Path) -> Numbers:
    """What was measured so far; nothing where there is no file."""
    if not path.exists():
        return Numbers()
    data = json.loads(path.read_text())
    trees = {
        name: TreePart(
            Conditions(**part.pop("conditions")),
            {tool: Result(**result) for tool, result in part.pop("results").items()},
            **part,
        )
        for name, part in data["trees"].items()
    }
    scenarios = {
        name: ScenarioPart(Conditions(**part.pop("conditions")), **part)
        for name, part in data["scenarios"].items()
    }
    return Numbers(trees, scenarios)


def write_numbers(numbers: Numbers, path: Path) -> None:
    """Replace the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(numbers), indent=1) + "\n")


def conditions(folder: Path, rounds: int, scale: float) -> Conditions:
    """What is so here and now, for what is measured in this folder."""
    rows = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((row.split(":")[1].strip() for row in rows if "model name" in row), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Conditions(
        date=datetime.now().strftime("%Y-%m-%d %H:%M"),
        machine=f"{cpu}, {os.cpu_count()} cores, {memory / 1e9:.0f} GB of memory",
        system=f"Linux {platform.release()}, Python {platform.python_version()}",
        file_system=file_system(folder),
        tensortime=measured_version(),
        rounds=rounds,
        scale=scale,
    )


def file_system(folder: Path) -> str:
    """What it is called by mount."""
    return run("df", "--output=fstype", folder).output.split()[-1]


def measured_version() -> str:
    """The version, and where this is a checkout the commit, `-dirty` where the code is not that of the commit."""
    import tensortime

    top = Path(__file__).parent.parent
    try:
        commit = run("git", "-C", top, "describe", "--always").output.strip()
        # Not what the benchmark itself writes: its second part would count as another state of the code.
        changed = run(
            "git", "-C", top, "status", "--porcelain", "tensortime", "benchmarks", "pyproject.toml"
        ).output
    except RuntimeError:
        return tensortime.__version__
    return f"{tensortime.__version__} ({commit}{'-dirty' if changed else ''})"

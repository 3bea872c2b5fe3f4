"""The measuring: the same steps for every tool, in turn, several times over."""

import filecmp
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.tools import Missing, Place, Tool
from benchmarks.trees import Tree, change, make_tree, warm

STEPS = ("first", "again", "changed", "restore")


@dataclass
class Result:
    """What one tool took on one tree: seconds of each round by step, bytes on disk after the step."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    bytes: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    """Why it has no numbers, or that what it brought back was not the same."""

    def median(self, step: str) -> float | None:
        """The median of a step; None where there is none."""
        return statistics.median(self.seconds[step]) if self.seconds[step] else None


def install(tools: Sequence[Tool], folder: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Install each tool; the reason for each that is missing."""
    missing = {}
    for tool in tools:
        say(f"installing {tool.name}")
        try:
            tool.install(folder)
        except Missing as problem:
            missing[tool.name] = str(problem)
    return missing


def measure(
    tree: Tree, tools: Sequence[Tool], rounds: int, folder: Path, say: Callable[[str], None]
) -> dict[str, Result]:
    """All rounds on one tree. The order turns, so that none always comes behind the same other."""
    project = folder / tree.name / "project"
    say(f"making the tree {tree.name}: {tree.about}")
    make_tree(tree, project)
    results = {tool.name: Result() for tool in tools}
    try:
        for number in range(rounds):
            turn = number % len(tools)
            for place_in_round, tool in enumerate((*tools[turn:], *tools[:turn])):
                say(f"{tree.name}: round {number + 1} of {rounds}, {tool.name}")
                if not results[tool.name].problem:
                    one_round(
                        tree,
                        tool,
                        project,
                        number * 100 + place_in_round,
                        results[tool.name],
                        check=number == 0,
                    )
    finally:
        shutil.rmtree(folder / tree.name)
    return results


def one_round(tree: Tree, tool: Tool, project: Path, number: int, result: Result, *, check: bool) -> None:
    """First backup, again, after a change, restore; what it made is removed."""
    place = Place(project, project.parent / "store", project.parent / "restored")
    try:
        tool.prepare(place)
        for step, backup in (("first", 0), ("again", 1), ("changed", 2)):
            if step == "changed":
                change(tree, project, number)
            warm(project)
            result.seconds[step].append(timed(lambda backup=backup: tool.backup(place, backup), place.store))  # type: ignore[misc]
            result.bytes[step] = disk_usage(place.store)
        result.seconds["restore"].append(timed(lambda: tool.restore(place, 2), place.restored))
        if check and not same(project, place.restored):
            result.problem = "what it brought back differs"
    except (RuntimeError, OSError) as problem:
        result.problem = str(problem)
    finally:
        tool.clean(place)
        for path in (place.store, place.restored):
            if path.exists():
                run_quiet("chmod", "-R", "u+w", str(path))
                shutil.rmtree(path)
        os.sync()


def timed(work: Callable[[], None], written: Path) -> float:
    """Seconds until it is done and on the disk: `sync -f` of what was written belongs to it."""
    start = time.perf_counter()
    work()
    subprocess.run(["sync", "-f", written], check=True)
    return time.perf_counter() - start


def disk_usage(folder: Path) -> int:
    """Bytes that a folder takes on the disk."""
    out = subprocess.run(["du", "-s", "--block-size=1", folder], capture_output=True, text=True, check=True)
    return int(out.stdout.split()[0])


def same(project: Path, restored: Path) -> bool:
    """Whether every file of the project came back, byte for byte."""
    for folder, _, names in os.walk(project):
        relative = os.path.relpath(folder, project)
        for name in names:
            if name.startswith(".") or name.endswith(".dvc"):
                continue  # what a tool put there: the trees have no such names
            if not filecmp.cmp(Path(folder, name), restored / relative / name, shallow=False):
                return False
    return True


def run_quiet(*words: str) -> None:
    """A command whose failure does not matter."""
    subprocess.run(words, capture_output=True, check=False)

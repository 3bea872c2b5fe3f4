"""The measuring on trees: the same steps for every tool, in turn, several times over."""

import filecmp
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from benchmarks.commands import run_quiet, sync
from benchmarks.disks import fresh_disk
from benchmarks.numbers import Result
from benchmarks.tools import Missing, Place, Tool, disk_usage
from benchmarks.trees import Tree, change, make_tree, warm

Say = Callable[[str], None]
FAILURES = (RuntimeError, OSError, subprocess.SubprocessError)
"""What ends one tool, and not the run."""


def install(tools: Sequence[Tool], folder: Path, say: Say) -> tuple[dict[str, str], dict[str, str]]:
    """Install each tool; the versions of those that are there, and the reason for each that is missing."""
    versions, missing = {}, {}
    for tool in tools:
        say(f"installing {tool.name}")
        try:
            tool.install(folder)
            versions[tool.name] = tool.version()
        except (Missing, *FAILURES) as problem:
            missing[tool.name] = str(problem)
            say(f"{tool.name} is missing: {problem}")
    return versions, missing


def measure(
    tree: Tree, tools: Sequence[Tool], rounds: int, folder: Path, say: Say, scale: float = 1
) -> dict[str, Result]:
    """All rounds on one tree. The order turns, so that none always comes behind the same other.

    A tool that no target names stops once it has used up the tree's patience; all of them have at least one round.
    """
    project = folder / tree.name / "project"
    say(f"making the tree {tree.name}: {tree.about}" + (f", at scale {scale:g}" if scale != 1 else ""))
    make_tree(tree, project, scale)
    results = {tool.name: Result() for tool in tools}
    try:
        for number in range(rounds):
            turn = number % len(tools)
            for position, tool in enumerate((*tools[turn:], *tools[:turn])):
                result = results[tool.name]
                if result.problem or (tool.name not in tree.compared and spent(result) > tree.patience):
                    continue
                begun = time.monotonic()
                one_round(tree, tool, project, number * 100 + position, result, check=number == 0)
                took = f"{time.monotonic() - begun:.0f} s" + (
                    f", FAILED: {result.problem}" if result.problem else ""
                )
                say(f"{tree.name}: round {number + 1} of {rounds}, {tool.name}: {took}")
    finally:
        shutil.rmtree(folder / tree.name)
    return results


def spent(result: Result) -> float:
    """Seconds that the steps of a tool took in all rounds."""
    return sum(sum(seconds) for seconds in result.seconds.values())


def one_round(tree: Tree, tool: Tool, project: Path, number: int, result: Result, *, check: bool) -> None:
    """First backup, again, after a change, restore; what it made is removed."""
    with fresh_disk(project.parent, tree.fresh) if tree.fresh else nullcontext(project.parent) as disk:
        place = Place(project, disk / "store", disk / "restored")
        all_steps(tree, tool, place, number, result, check=check)


def all_steps(tree: Tree, tool: Tool, place: Place, number: int, result: Result, *, check: bool) -> None:
    """As `one_round`, in a place."""
    project, freed = place.project, 0
    try:
        tool.prepare(place)
        for step, backup in (("first", 0), ("again", 1), ("changed", 2)):
            if step == "changed":
                change(tree, project, number)
            warm(project)
            one_step(step, place, result, lambda backup=backup: tool.backup(place, backup), place.store)  # type: ignore[misc]
            result.bytes[step] = disk_usage(place.store) + freed
            if tree.tight and backup:
                freed += tool.forget(place, backup - 1)
        if not tree.tight:  # else both would not fit into the page cache: it holds what was just written
            warm(place.store)
        one_step("restore", place, result, lambda: tool.restore(place, 2), place.restored)
        if check and not same(project, place.restored):
            result.problem = "what it brought back differs"
    except FAILURES as problem:
        result.problem = str(problem)
    finally:
        tool.clean(place)
        for path in (place.store, place.restored):
            if path.exists():
                run_quiet("chmod", "-R", "u+w", path)
                shutil.rmtree(path)
        os.sync()


def one_step(step: str, place: Place, result: Result, work: Callable[[], None], written: Path) -> None:
    """Do it, until all of it is on the disk: `sync -f` of what was written belongs to it, and nothing before it."""
    sync(place.project)
    place.begin()
    work()
    place.lap("", written)
    result.seconds[step].append(place.laps.pop(""))
    result.peak[step] = max(result.peak.get(step, 0), place.peak)
    if step == "first":
        for name, seconds in place.laps.items():
            result.seconds.setdefault(name, []).append(seconds)


def timed(work: Callable[[], object], written: Path | None = None) -> float:
    """Seconds until it is done, and on the disk where something was `written`."""
    start = time.perf_counter()
    work()
    if written is not None:
        sync(written)
    return time.perf_counter() - start


def same(project: Path, restored: Path) -> bool:
    """Whether every file of the project came back, byte for byte. Names with a dot in front, and pointers of dvc, a
    tool put there: the trees have none."""
    for folder, folders, names in os.walk(project):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = os.path.relpath(folder, project)
        for name in names:
            if name.startswith(".") or name.endswith(".dvc"):
                continue
            if not filecmp.cmp(Path(folder, name), restored / relative / name, shallow=False):
                return False
    return True

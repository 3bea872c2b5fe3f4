"""No cliff: ten times as many files cost about ten times as much, at every step, whatever the number.

Compared is our own processor time with that of the gits we start, few against many files: neither the clock, which a busy
disk decides, nor the kernel's time, in which those who want one folder at once wait for each other.
"""

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree

from tensortime import api, intake, maintenance

AHEAD = -(10**12)
FACTOR = 2.0
"""How much more a file may cost among ten times as many."""
LEAST = 0.03
"""Seconds below which a time says nothing: each git that starts takes some of it."""

TRIES = 3

Make = Callable[[Tree, int], object]


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as older than the racy window."""
    monkeypatch.setattr(intake, "LARGE_WINDOW_NS", AHEAD)
    monkeypatch.setattr(intake, "SMALL_WINDOW_NS", AHEAD)


def one_folder(tree: Tree, count: int) -> None:
    """All of them in one folder."""
    fill(tree.root / "images", range(count))


def large_files(tree: Tree, count: int) -> None:
    """All of them large, by a setting; a thousand in each folder."""
    tree.file("tensortime.toml", b"large_size = 16\n")
    for start in range(0, count, 1000):
        fill(tree.root / "data" / f"part{start // 1000:03}", range(start, min(start + 1000, count)))


def fill(folder: Path, numbers: range) -> None:
    """A folder of small files, each with other bytes."""
    folder.mkdir(parents=True)
    for number in numbers:
        fd = os.open(folder / f"sample{number:07}.txt", os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(fd, b"one sample of many: %012d\n" % number)
        os.close(fd)


KINDS: dict[str, Make] = {"one folder": one_folder, "large files": large_files}


def processor_seconds() -> float:
    """What this process and its children that have ended took so far, outside the kernel."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(one).ru_utime for one in whose)


def costs_of_steps(folder: Path, make: Make, count: int) -> dict[str, float]:
    """The processor seconds of each step of a life with so many files."""
    tree = Tree(folder / "project")
    make(tree, count)
    steps: dict[str, Callable[[], object]] = {
        "backup": lambda: api.backup(directory=tree.root, name="first"),
        "unchanged": lambda: api.backup(directory=tree.root, name="second"),
        "log": lambda: api.log(directory=tree.root),
        "show": lambda: api.show("first", directory=tree.root),
        "diff": lambda: api.diff("first", "second", directory=tree.root),
        "diff now": lambda: api.diff("second", directory=tree.root),
        "restore": lambda: api.restore("first", folder / "back", directory=tree.root),
        "verify": lambda: maintenance.verify(directory=tree.root),
        "read": lambda: maintenance.verify(read_data="all", directory=tree.root),
        "gc": lambda: maintenance.gc(directory=tree.root),
    }
    spent = {}
    for name, work in steps.items():
        before = processor_seconds()
        work()
        spent[name] = processor_seconds() - before
    if count <= 10_000:
        assert_same_tree(tree.root, folder / "back")
    assert sum(len(names) for _, _, names in os.walk(folder / "back")) > count
    shutil.rmtree(folder)
    return spent


def assert_no_cliff(folder: Path, make: Make, count: int) -> None:
    """A tenth of the files, then all of them. A step that is too steep each time is; once, the machine was busy."""
    steep: dict[str, tuple[float, float]] = {}
    for _ in range(TRIES):
        few = costs_of_steps(folder / "few", make, count // 10)
        many = costs_of_steps(folder / "many", make, count)
        now = {
            name: (few[name], many[name]) for name in few if many[name] > 10 * FACTOR * max(few[name], LEAST)
        }
        steep = now if not steep else {name: times for name, times in now.items() if name in steep}
        if not steep:
            return
    raise AssertionError(f"seconds among few and among many: {steep}")


@pytest.mark.parametrize(("kind", "count"), [("one folder", 3000), ("large files", 500)])
def test_thousands_of_files(tmp_path: Path, kind: str, count: int) -> None:
    """What grows with the square of their number shows here already, unless each step of it is very small."""
    assert_no_cliff(tmp_path, KINDS[kind], count)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "count"), [("one folder", 300_000), ("large files", 100_000)])
def test_hundreds_of_thousands_of_files(tmp_path: Path, kind: str, count: int) -> None:
    """A folder of 300,000 files, 100,000 large files: at every step at most twice as much a file as with a tenth."""
    assert_no_cliff(tmp_path, KINDS[kind], count)

"""What `add` puts on top of an experiment: the new state of these paths, whatever was there before."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree
from round_trips import THRESHOLD

from tensortime import api


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with one file that always is there."""
    return Tree(tmp_path / "project").file("train.py", b"print()\n")


FORMER: dict[str, Callable[[Tree], object]] = {
    "a small file": lambda tree: tree.file("save", b"1"),
    "a large file": lambda tree: tree.file("save", size=THRESHOLD),
    "a link": lambda tree: tree.symlink("save", "train.py"),
}


@pytest.mark.parametrize("size", [1, THRESHOLD], ids=["small", "large"])
@pytest.mark.parametrize("former", sorted(FORMER))
def test_a_path_in_a_folder_that_was_a_file(project: Tree, former: str, size: int) -> None:
    """What was a file or a link when the experiment began is a folder now: it comes back as that."""
    FORMER[former](project)
    api.backup(directory=project.root, name="exp")
    (project.root / "save").unlink()
    project.file("save/model", size=size)
    api.backup(directory=project.root, name="exp", add=["save/model"])
    api.restore("exp", project.root.parent / "restored", directory=project.root)
    assert_same_tree(project.root, project.root.parent / "restored")


def test_a_ref_that_another_backup_holds(project: Tree) -> None:
    """Its lock is there as long as the disk takes to sync: that is waited for."""
    api.backup(directory=project.root, name="exp")
    lock = project.root / "tensortime" / ".shadow" / "refs" / "experiments" / "exp.lock"
    lock.touch()
    timer = threading.Timer(1.0, lock.unlink)
    timer.start()
    project.file("results.csv", b"1,2\n")
    assert api.backup(directory=project.root, name="exp", add=["results.csv"]).number == 2
    timer.join()

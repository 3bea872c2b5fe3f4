"""What `add` puts on top of an experiment: the new state of these paths, whatever was there before."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import Tree, assert_same_tree
from round_trips import THRESHOLD

from tensortime import api
from tensortime.commits import contents_of, overlay
from tensortime.errors import Message
from tensortime.manifest import Manifest, encode_manifest
from tensortime.monitor import NullMonitor
from tensortime.reports import BackupReport
from tensortime.shadow import Shadow

NOTHING = BackupReport(experiment=None)


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


def test_an_experiment_that_another_backup_joins_at_once(
    project: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the update of the ref and a look at it the ref may move on: this backup was made all the same."""
    project.file("results.csv", b"1,2\n")
    run, joined = Shadow.run, list[BackupReport]()

    def joining(self: Shadow, *words: str, **options: Any) -> Any:
        done = run(self, *words, **options)
        if words[0] == "update-ref" and not joined:
            joined.append(NOTHING)
            joined[0] = api.backup(directory=project.root, name="exp", add=["results.csv"])
        return done

    monkeypatch.setattr(Shadow, "run", joining)
    assert (api.backup(directory=project.root, name="exp").number, joined[0].number) == (1, 2)
    assert [one.name for one in api.log(directory=project.root).experiments] == ["exp"]


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


def test_what_a_later_version_recorded_is_kept(tmp_path: Path) -> None:
    """Files of `.tensortime/` that this version does not know survive an addition by it."""
    later = {**encode_manifest(Manifest({})), b"packages.txt": b"numpy 9\n", b"outputs/1": b"{}"}
    nothing = contents_of([], encode_manifest(Manifest({})))
    assert overlay(contents_of([], later), nothing, []).extra == {
        b"packages.txt": b"numpy 9\n",
        b"outputs/1": b"{}",
    }


class Warnings(NullMonitor):
    """Keeps what a person is warned about."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, line: Message) -> None:
        """Keep it."""
        self.lines.append(str(line))


def test_weights_that_ttignore_leaves_out_are_added_without_a_word(project: Tree) -> None:
    """`save/` in .ttignore and `add=["save"]` is how weights are meant to be stored; a secret is still said aloud."""
    project.file(".ttignore", b"save/\n").file("save/model.npz", b"w").file(".env", b"KEY=1")
    heard = Warnings()
    assert api.backup(directory=project.root, name="exp", monitor=heard).small == 2
    assert api.backup(directory=project.root, name="exp", add=["save"], monitor=heard).small == 3
    assert heard.lines == []
    api.backup(directory=project.root, name="exp", add=[".env"], monitor=heard)
    assert [line for line in heard.lines if ".env is added" in line] == heard.lines != []

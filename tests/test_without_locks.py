"""File systems without locks (Lustre mounted without flock, some NFS): what only a lock could tell is not assumed."""

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree

from tensortime import api, checkout, snapshot
from tensortime.errors import NoSpace, StoreBusy
from tensortime.reports import BackupReport
from tensortime.store import open_store


@pytest.fixture(autouse=True)
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Lustre."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with a large file, and a store."""
    tree = Tree(tmp_path / "project").file("train.py", b"1")
    api.backup(directory=tree.root, name="first")
    return tree.file("model.bin", size=1 << 20)


@pytest.mark.parametrize(("seconds", "kept"), [(3600, True), (3 * 86400, False)])
def test_the_staging_of_a_slow_backup_is_not_swept(project: Tree, seconds: int, kept: bool) -> None:
    """Nobody can tell whether its owner lives: an hour may be one large file, days are not."""
    store = open_store(str(project.root / "tensortime"))
    with store.staging() as running:
        old = time.time() - seconds
        os.utime(running, (old, old))
        with store.staging():
            assert os.path.isdir(running) is kept
        os.makedirs(running, exist_ok=True)


def test_a_failed_backup_takes_nothing_back(project: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one may rely on the objects that it brought."""

    def fail(*_: object) -> BackupReport:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(snapshot, "publish", fail)
    with pytest.raises(NoSpace):
        api.backup(directory=project.root)
    assert len(list((project.root / "tensortime" / ".objects" / "blake3").glob("*/*"))) == 1


def test_a_restore_that_runs_is_left_alone(project: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks restore one experiment: neither destroys what the other is making, and the first is whole."""
    api.backup(directory=project.root, name="second")
    place_all, seen = checkout.place_all, list[str]()

    def meanwhile(*words: object) -> object:
        monkeypatch.setattr(checkout, "place_all", place_all)
        with pytest.raises(StoreBusy, match="another process is restoring") as caught:
            api.restore("second", directory=project.root)
        seen.append(str(caught.value.hint))
        api.restore("first", directory=project.root)
        return place_all(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(checkout, "place_all", meanwhile)
    restored = api.restore("second", directory=project.root)
    assert seen and seen[0].endswith("second.partial")
    assert_same_tree(project.root, restored.path)


def test_the_place_of_another_is_not_removed(project: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was made between a look at the place and the first step there."""
    partial = project.root / "tensortime" / "first.partial"

    def too_late(*_: object) -> None:
        partial.mkdir()
        (partial / "theirs").touch()

    monkeypatch.setattr(checkout, "remove_stale", too_late)
    with pytest.raises(StoreBusy):
        api.restore("first", directory=project.root)
    assert (partial / "theirs").exists()


def test_what_a_restore_left_behind_long_ago_is_removed(project: Tree) -> None:
    """A day later nobody works at it any more."""
    partial = project.root / "tensortime" / "first.partial"
    partial.mkdir()
    with pytest.raises(StoreBusy):
        api.restore("first", directory=project.root)
    old = time.time() - 3 * 86400
    os.utime(partial, (old, old))
    assert api.restore("first", directory=project.root).files == 1

"""File systems without locks (Lustre mounted without flock, some NFS): what only a lock could tell is not assumed."""

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest
from builders import Tree

from tensortime import api, snapshot
from tensortime.errors import NoSpace
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

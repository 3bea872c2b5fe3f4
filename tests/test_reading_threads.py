"""Who reads the small files: one thread where nothing is waited for, several where they help."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree

from tensortime import api, intake
from tensortime.findings import FileStat

FILES = 3 * intake.BATCH_FILES

Read = Callable[[intake.Source, FileStat, set[bytes], int], object]


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The threads that read a small file; none of them ever waits, as far as they know."""
    found: set[str] = set()
    monkeypatch.setattr(intake, "read_small", noting(found))
    monkeypatch.setattr(time, "thread_time", time.monotonic)
    return found


def noting(found: set[str], wait: float = 0) -> Read:
    """Reads as before, and notes in which thread; `wait`: seconds that a disk takes to bring a file."""
    real = intake.read_small

    def read(source: intake.Source, file: FileStat, known: set[bytes], limit: int) -> object:
        found.add(threading.current_thread().name)
        time.sleep(wait)
        return real(source, file, known, limit)

    return read


def project_of(folder: Path, size: int) -> Tree:
    """FILES files of a size, no two alike."""
    tree = Tree(folder)
    for number in range(FILES):
        tree.file(f"part{number % 3}/file{number}.py", b"%-*d" % (size, number))
    return tree


def test_files_that_are_there_at_once_are_read_by_one_thread(tmp_path: Path, readers: set[str]) -> None:
    """Two would be no sooner done, and take a third more of the processor."""
    tree = project_of(tmp_path / "project", 2000)
    api.backup(directory=tree.root, name="exp")
    assert readers == {threading.current_thread().name}
    assert_same_tree(tree.root, api.restore("exp", directory=tree.root).path)


def test_larger_ones_are_read_by_several(tmp_path: Path, readers: set[str]) -> None:
    """What hashes and compresses needs no lock of Python's."""
    tree = project_of(tmp_path / "project", 2 * intake.ALONE_BYTES)
    api.backup(directory=tree.root, name="exp")
    assert any(name.startswith("tensortime") for name in readers)
    assert_same_tree(tree.root, api.restore("exp", directory=tree.root).path)


def test_where_the_disk_is_waited_for_several_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first batch tells."""
    found: set[str] = set()
    monkeypatch.setattr(intake, "read_small", noting(found, wait=0.001))
    tree = project_of(tmp_path / "project", 100)
    api.backup(directory=tree.root, name="exp")
    assert len(found) > 1
    assert_same_tree(tree.root, api.restore("exp", directory=tree.root).path)

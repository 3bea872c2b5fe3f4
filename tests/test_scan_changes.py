"""A scan beside somebody who changes the project: it looks nowhere else and waits for nothing. CASES B21, M04 to M07."""

import os
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Tree
from scanning import paths, walk

from tensortime import fsops
from tensortime import walk as module
from tensortime.findings import FolderStat
from tensortime.formats import RelPath
from tensortime.reports import Skipped


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A project."""
    return Tree(tmp_path / "project")


@pytest.fixture
def outside(tmp_path: Path) -> Tree:
    """A folder beside the project."""
    return Tree(tmp_path / "outside")


def test_what_is_no_file_is_skipped_within_100_ms(tree: Tree) -> None:
    """B21: opening a FIFO as a file waits for ever."""
    tree.fifo("pipe").file("a.py")
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(tree.root, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/sock")  # a socket's path may have 108 bytes
        os.close(folder)
        start = time.monotonic()
        found = walk(tree)
        assert time.monotonic() - start < 0.1
    assert found.skipped == [Skipped("pipe", "a FIFO"), Skipped("sock", "a socket")]
    assert paths(found) == [b"a.py"]


@pytest.mark.parametrize(
    ("kind", "reason"), [(stat.S_IFCHR, "a character device"), (stat.S_IFBLK, "a block device")]
)
def test_a_device_is_skipped(tree: Tree, kind: int, reason: str) -> None:
    """B21."""
    try:
        os.mknod(tree.root / "device", kind | 0o600, os.makedev(1, 3))
        os.stat(tree.root / "device")
    except PermissionError:
        pytest.skip("only root can make a device")
    assert walk(tree).skipped == [Skipped("device", reason)]


def failing(monkeypatch: pytest.MonkeyPatch, name: bytes, problem: Callable[[], object]) -> None:
    """Let something happen just before the folder `name` is opened."""
    original = fsops.open_folder

    def opening(path: bytes, dir_fd: int | None = None) -> int:
        if path == name:
            problem()
        return original(path, dir_fd=dir_fd)

    monkeypatch.setattr(module, "open_folder", opening)


def refuse() -> None:
    """What the kernel says to everyone but root."""
    raise PermissionError(13, "Permission denied")


def test_an_unreadable_folder_is_skipped_with_the_reason(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is stored."""
    tree.file("secret/x").file("a.py")
    failing(monkeypatch, b"secret", refuse)
    found = walk(tree)
    assert found.skipped == [Skipped("secret", "Permission denied")]
    assert (paths(found), found.folders) == ([b"a.py"], [])


def test_an_unreadable_folder_that_a_rule_leaves_out_is_no_problem(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way out of exit code 3."""
    tree.file("sub/secret/x").file("a.py")
    failing(monkeypatch, b"sub/secret", refuse)
    assert walk(tree, "secret").skipped == []


# What changes meanwhile


def test_a_folder_swapped_for_a_link_is_not_entered(
    tree: Tree, outside: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M04, M05: nothing outside is read."""
    tree.file("sub/x").file("a.py")
    outside.file("passwd")

    def swap() -> None:
        os.rename(tree.root / "sub", tree.root / "moved")
        os.symlink(outside.root, tree.root / "sub")

    failing(monkeypatch, b"sub", swap)
    found = walk(tree)
    assert paths(found) == [b"a.py"]
    assert [one.path for one in found.skipped] == ["sub"]


def test_a_folder_whose_parent_is_swapped_is_not_entered(
    tree: Tree, outside: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M05: O_NOFOLLOW guards the last part alone, device and inode guard the rest."""
    tree.file("top/sub/x").file("a.py")
    outside.file("sub/passwd")

    def swap() -> None:
        os.rename(tree.root / "top", tree.root / "moved")
        os.symlink(outside.root, tree.root / "top")

    failing(monkeypatch, b"top/sub", swap)
    found = walk(tree)
    assert paths(found) == [b"a.py"]
    assert found.skipped == [Skipped("top/sub", "replaced while it was read")]


def test_a_folder_swapped_for_a_fifo_does_not_block(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """M04."""
    tree.folder("sub")

    def swap() -> None:
        os.rmdir(tree.root / "sub")
        os.mkfifo(tree.root / "sub")

    failing(monkeypatch, b"sub", swap)
    assert [one.path for one in walk(tree).skipped] == ["sub"]


def test_what_vanishes_was_never_there(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """M06: a temporary folder that goes before it is read, a file that goes before it is asked about."""
    tree.folder("parent/gone").file("a.tmp").file("a.py")
    failing(monkeypatch, b"parent/gone", lambda: os.rmdir(tree.root / "parent/gone"))
    original = os.scandir

    def listing(fd: int) -> object:
        entries = original(fd)
        if os.path.exists(tree.root / "a.tmp"):
            with entries:
                kept = list(entries)
            os.unlink(tree.root / "a.tmp")
            return Listed(kept)
        return entries

    monkeypatch.setattr(os, "scandir", listing)
    found = walk(tree)
    assert (paths(found), found.skipped) == ([b"a.py"], [])
    assert found.folders == [FolderStat(RelPath(b"parent"), 0o755, True)]


class Listed(list["os.DirEntry[str]"]):
    """A listing that was taken earlier, closed like a fresh one."""

    def __enter__(self) -> "Listed":
        return self

    def __exit__(self, *_: object) -> None:
        return None


def test_files_that_appear_meanwhile_are_in_or_out(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """M07: the walk ends, and what it says it saw was there."""
    tree.file("sub/x").file("a.py")
    failing(monkeypatch, b"sub", lambda: tree.file("sub/new").file("late") and None)
    assert {b"a.py", b"sub/x"} <= set(paths(walk(tree))) <= {b"a.py", b"sub/x", b"sub/new", b"late"}


def test_no_descriptor_is_left_open(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after failures."""
    tree.file("secret/x").file("sub/data/x").file(".ttignore", b"data").symlink("link", "sub")
    failing(monkeypatch, b"secret", refuse)
    before = os.listdir("/dev/fd")
    walk(tree, follow=["link"])
    walk(tree, only=[b"sub/data", b"secret", b"nothing"])
    assert os.listdir("/dev/fd") == before


# Links

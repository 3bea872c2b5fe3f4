"""Root in somebody else's store, a store that nobody can write, and TENSORTIME=off."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import Tree, run_cli
from mounts import small_tmpfs

from tensortime import api

SOMEBODY = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root can give files away")


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with a small and a large file."""
    return Tree(tmp_path / "project").file("train.py", b"1").file("data.bin", size=1 << 20)


def owners(folder: Path) -> set[int]:
    """Who owns what in a folder."""
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


@as_root
def test_root_leaves_nothing_of_its_own_in_a_store(project: Tree) -> None:
    """sudo, or root in a container: what is made in somebody's project is theirs, so that they can go on."""
    for path in (project.root, *project.root.rglob("*")):
        os.chown(path, SOMEBODY, SOMEBODY)
    store = project.root / "tensortime"
    api.backup(directory=project.root, name="exp")
    assert owners(store) == {SOMEBODY}
    project.file("data.bin", size=2 << 20)
    api.backup(directory=project.root)
    api.restore("exp", project.root / "back", directory=project.root)
    assert owners(store) == {SOMEBODY}


@pytest.fixture
def frozen(project: Tree, tmp_path: Path) -> Iterator[Path]:
    """A store with one experiment on a disk that is mounted read-only."""
    disk = tmp_path / "disk"
    with small_tmpfs(disk, 32 << 20):
        api.backup(directory=project.root, store=disk / "store", name="exp", rehash=True)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield disk / "store"


@as_root
def test_a_store_on_a_read_only_disk_gives_back_what_it_has(
    project: Tree, frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D08: log, show and restore of single files work; a whole experiment comes back as plain files, and that is said."""
    words = ("--store", str(frozen))
    assert run_cli("log", *words, cwd=project.root).stdout.startswith("exp\t")
    done = run_cli("restore", "exp", str(tmp_path / "out"), *words, cwd=project.root)
    assert "plain files, no git worktree" in done.stderr
    assert (tmp_path / "out" / "train.py").read_bytes() == b"1"
    assert done.returncode in (0, 3)
    refused = run_cli("restore", "exp", *words, cwd=project.root)
    assert refused.returncode == 1 and "name a destination elsewhere" in refused.stderr


def test_off_means_off(project: Tree) -> None:
    """TENSORTIME=off makes every call a no-op, also one that is typed."""
    done = run_cli("backup", cwd=project.root, env={"TENSORTIME": "off"})
    assert (done.returncode, done.stdout) == (0, "nothing was backed up: TENSORTIME=off\n")
    assert not (project.root / "tensortime").exists()

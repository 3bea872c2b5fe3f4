"""What stays when only one of us dies: a git that outlives its backup, locks of a dead git, half a worktree. CASES K05-K07.

No command asks a person to remove anything.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree
from strikes import Strike

import tensortime
from tensortime import api, checkout, fsops, prune, reflocks, store
from tensortime.errors import StoreBusy, TargetExists

WAITING_GIT = """#!/bin/sh
case "$*" in *" {verb} "*) echo > {begun}; read line < {go};; esac
exec {git} "$@"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Experiments `base` (tagged, its ref packed) and `other`."""
    tree = Tree(tmp_path / "project").file("train.py", b"1").file("data.bin", size=1_100_000)
    api.backup(directory=tree.root, name="base")
    tensortime.tag("base", ["best"], directory=tree.root)
    open_store(tree.root).shadow.pack_refs()
    api.backup(directory=tree.file("train.py", b"2").root, name="other")
    return tree.root


def open_store(project: Path) -> store.Store:
    """The store of a project."""
    return store.open_store(str(project / "tensortime"))


def names(project: Path) -> set[str]:
    """The experiments; none is damaged."""
    report = api.log(directory=project)
    assert report.damaged == ()
    return {str(one.name) for one in report.experiments}


def orphaned_git(project: Path, verb: str, *words: str) -> Path:
    """Kill a command while its git waits; returns the FIFO that lets git go on."""
    folder = project.parent / "bin"
    folder.mkdir()
    begun, go = folder / "begun", folder / "go"
    os.mkfifo(begun)
    os.mkfifo(go)
    script = folder / "git"
    script.write_text(WAITING_GIT.format(verb=verb, begun=begun, go=go, git=shutil.which("git")))
    script.chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    process = subprocess.Popen([sys.executable, "-m", "tensortime", *words], cwd=project, env=env)
    begun.read_text()
    process.send_signal(signal.SIGKILL)
    process.wait()
    return go


def wait_until_alone(project: Path) -> None:
    """The last git has ended."""
    with fsops.locked(str(project / "tensortime/.lock"), wait=20, lockless=False) as alone:
        assert alone


def test_a_git_that_outlives_its_backup(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K05: it is about to move the ref. As long as it lives gc deletes nothing of what the ref will name."""
    monkeypatch.setattr(prune, "LOCK_WAIT", 0.1)
    Tree(project).file("new.bin", size=1_100_000)
    go = orphaned_git(project, "update-ref", "backup", "--name", "new")
    with pytest.raises(StoreBusy, match="in use"):
        tensortime.gc(directory=project)
    assert names(project) == {"base", "other"}
    go.write_text("go\n")
    wait_until_alone(project)
    tensortime.gc(directory=project)
    assert names(project) == {"base", "other", "new"}
    assert tensortime.verify(read_data="all", directory=project).problems == ()
    assert_same_tree(project, api.restore("new", project.parent / "out", directory=project).path)


def test_a_git_that_outlives_its_restore(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """K05: it is still writing into the half-made folder: nobody makes the same one meanwhile, then the next restore does."""
    go = orphaned_git(project, "worktree", "restore", "other", "../out")
    with monkeypatch.context() as patch, pytest.raises(StoreBusy, match="restoring"):
        patch.setattr(checkout, "LOCK_WAIT", 0.1)
        api.restore("other", project.parent / "out", directory=project)
    go.write_text("go\n")
    assert_same_tree(project, api.restore("other", project.parent / "out", directory=project).path)
    assert not (project.parent / "out.partial").exists()


LOCKS = (
    "refs/experiments/base.lock",
    "refs/experiments/other.lock",
    "refs/experiments/new.lock",
    "refs/tags/base/best.lock",
    "refs/tags/base/next.lock",
    "packed-refs.lock",
    "packed-refs.new",
)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_locks_of_a_git_that_was_killed(
    project: Path, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    """K07: whatever command comes next goes on as if they were not there."""
    monkeypatch.setattr(reflocks, "PERSONS_SECONDS", 0.1)
    path = Tree(project / "tensortime/.shadow").file(lock, b"0" * 20).root / lock
    api.backup(directory=project, name="new")
    assert not path.exists()
    path.touch()
    api.backup(directory=project, name="other", add=["train.py"])
    path.touch()
    tensortime.tag("base", ["next"], directory=project)
    path.touch()
    tensortime.rm(["base"], directory=project)
    Tree(path.parent).file(path.name)
    tensortime.gc(trash=True, directory=project)
    assert names(project) == {"new", "other"} and not path.exists()


def test_a_lock_of_somebody_who_lives_stays(project: Path) -> None:
    """Whoever uses the store may be writing a ref."""
    path = (
        Tree(project / "tensortime/.shadow").file("refs/experiments/base.lock").root
        / "refs/experiments/base.lock"
    )
    with fsops.locked(str(project / "tensortime/.lock"), shared=True):
        api.backup(directory=project, name="new")
        assert path.exists()


@pytest.mark.parametrize(
    "strike", [("unlink", 1), ("unlinkat", 1), ("unlinkat", 4), ("unlinkat", 6), ("rmdir", 2)]
)
def test_a_restore_that_dies_while_it_removes_what_a_dead_one_left(
    project: Path, strike: tuple[str, int]
) -> None:
    """What is left says whose it is, until nothing is left."""
    out = project.parent / "out"
    assert Strike("rename", 2).hit(["restore", "other", str(out)], cwd=project)
    assert (project.parent / "out.partial/train.py").exists()
    assert Strike(*strike).hit(["restore", "other", str(out)], cwd=project)
    assert_same_tree(project, api.restore("other", out, directory=project).path)
    assert not (project.parent / "out.partial").exists()


def test_a_folder_in_which_git_had_only_begun(project: Path) -> None:
    """It died between making `.git` and writing it. A folder with anything else in it stays."""
    out = project.parent / "out"
    partial = Tree(project.parent / "out.partial").file(".git").root
    assert_same_tree(project, api.restore("other", out, directory=project).path)
    assert not partial.exists()
    shutil.rmtree(out)
    Tree(partial).file(".git").file("mine.txt")
    with pytest.raises(TargetExists, match="in the way"):
        api.restore("other", out, directory=project)
    assert (partial / "mine.txt").exists()


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 7, 9])
def test_a_disk_that_fails_while_it_syncs(project: Path, number: int) -> None:
    """K12: a backup that was not synced is no backup: it says so, the next one stores all of it again."""
    Tree(project).file("new.bin", size=1_100_000).file("new.py", b"new")
    command = [
        "strace",
        "-f",
        "-o",
        os.devnull,
        "-e",
        "trace=fsync",
        "-e",
        f"inject=fsync:error=EIO:when={number}",
    ]
    done = subprocess.run(
        [*command, sys.executable, "-m", "tensortime", "backup", "--name", "new"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        "Traceback" not in done.stderr
        and tensortime.verify(read_data="all", directory=project).problems == ()
    )
    if done.returncode:
        assert done.returncode == 1 and ("rror" in done.stderr or "couldn't write" in done.stderr)
        assert names(project) == {"base", "other"}
    assert api.backup(directory=project, name="new").exit_code == 0
    assert tensortime.verify(read_data="all", directory=project).problems == ()


def test_a_git_that_dies_a_moment_after_us(project: Path) -> None:
    """K05, K07: as long as it lives its lock is its own, and no longer: the next command waits for that moment."""
    path = (
        Tree(project / "tensortime/.shadow").file("refs/experiments/other.lock").root
        / "refs/experiments/other.lock"
    )
    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as held:
        held.enter_context(fsops.locked(str(project / "tensortime/.lock"), shared=True))
        adding = pool.submit(api.backup, directory=project, name="other", add=["train.py"])
        time.sleep(0.2)
        assert path.exists() and not adding.done()
        held.close()
        assert adding.result(timeout=8).exit_code == 0
    assert not path.exists()


@pytest.mark.parametrize("strike", [("unlink", 2), ("unlink", 3), ("unlink", 4), ("rmdir", 1)])
@pytest.mark.parametrize("words", [["rm", "base"], ["undelete", "base"]])
def test_a_git_that_dies_while_it_deletes_the_refs_that_were_moved(
    project: Path, words: list[str], strike: tuple[str, int]
) -> None:
    """What it had deleted is nowhere but under the new names: these stay. A tag that it had not yet deleted keeps the name."""
    if words[0] == "undelete":
        tensortime.rm(["base"], directory=project)
    Strike(*strike, verb="update-ref", which=2).hit(words, cwd=project)
    if "base" not in names(project):
        tensortime.undelete(["base"], directory=project)
    assert names(project) in ({"base", "other"}, {"base-2", "other"})
    assert tensortime.verify(read_data="all", directory=project).problems == ()


def test_a_process_that_was_forked_at_that_moment_carries_no_lock_away(tmp_path: Path) -> None:
    """Between the opening of a lock's file and the note of it a fork copies what nobody in the child knows of."""
    path = str(tmp_path / "lock")
    with fsops.locked(path) as got:
        assert got
        (fd,) = (fd for fd in fsops.HELD if os.path.samestat(os.fstat(fd), os.stat(path)))
        copy = os.dup(fd)
    try:
        with fsops.locked(path, lockless=False) as again:
            assert again
    finally:
        os.close(copy)

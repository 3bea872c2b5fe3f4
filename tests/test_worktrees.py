"""Restored experiments as places to work in: which store they belong to, what git says in them, and what happens
when they or their project are moved, copied or deleted by hand. CASES E14, X13.
"""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, snapshot_of, user_git

import tensortime
from tensortime.store import open_store
from tensortime.worktrees import claimed


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with small and large files, empty and odd ones, and one experiment called `first`."""
    tree = Tree(tmp_path / "project").file("train.py", b"print(1)\n").file("weights.bin", size=1_200_000)
    tree.file("model/net.py", b"x = 1\n").file("run.sh", b"#!/bin/sh\n", mode=0o755).folder("empty")
    tree.file("data/part.bin", size=1_100_000).file("private.txt", b"p", mode=0o600).symlink("last", "model")
    tensortime.backup(directory=tree.root, name="first")
    return tree.root


def test_another_is_just_being_made(project: Path, tmp_path: Path) -> None:
    """C03: git dies of a record that another git has begun and not written. The restore goes on a moment later."""
    record = shadow(project) / "worktrees/other"
    record.mkdir(parents=True)
    Tree(record).file("gitdir", os.fsencode(tmp_path / "other.partial/.git")).file("commondir", b"")
    (record / "HEAD").write_text(user_git("rev-parse", "refs/experiments/first", cwd=shadow(project)))
    with claimed(open_store(str(project / "tensortime")), str(tmp_path / "other")) as got:
        assert got
        writer = threading.Timer(0.4, lambda: (record / "commondir").write_text("../..\n"))
        writer.start()
        place = restored("first", project, tmp_path / "out")
        writer.join()
    assert_same_tree(project, place)


def restored(name: str, directory: Path, destination: Path | None = None) -> Path:
    """The folder of a new worktree."""
    return Path(tensortime.restore(name, destination, directory=directory).path)


def names(directory: Path) -> list[str]:
    """The experiments that `log` shows there, newest first."""
    return [str(one.name) for one in tensortime.log(directory=directory).experiments]


def shadow(project: Path) -> Path:
    """The project's shadow repository."""
    return project / "tensortime" / ".shadow"


def records(project: Path) -> list[str]:
    """The worktrees that the store knows."""
    return sorted(os.listdir(shadow(project) / "worktrees"))


def works(worktree: Path) -> bool:
    """Whether git works in a worktree, finds it clean, and `diff` shows a change; which is undone."""
    assert user_git("status", "--porcelain", cwd=worktree) == ""
    before = (worktree / "train.py").read_bytes()
    (worktree / "train.py").write_bytes(b"print(2)\n")
    shown = user_git("diff", cwd=worktree)
    (worktree / "train.py").write_bytes(before)
    return "-print(1)\n+print(2)\n" in shown and user_git("status", "--porcelain", cwd=worktree) == ""


def commit(worktree: Path, text: str) -> str:
    """A commit that a person makes in a worktree."""
    (worktree / "train.py").write_text(text)
    user_git("commit", "--quiet", "--all", "--message", text, cwd=worktree)
    return user_git("rev-parse", "HEAD", cwd=worktree).strip()


# --- git in a worktree


def test_git_in_a_worktree_is_clean_and_useful(project: Path, tmp_path: Path) -> None:
    """`git status` shows nothing after a restore, then just what a person changed; `diff`, `log` and `show`
    work.
    """
    for worktree in (restored("first", project), restored("first", project, tmp_path / "elsewhere")):
        assert works(worktree)
        assert user_git("rev-parse", "--abbrev-ref", "HEAD", cwd=worktree) == "HEAD\n"
        assert user_git("log", "--all", "--oneline", cwd=worktree).count("\n") == 1
        Tree(worktree).file("new.py", b"").file("run.sh", b"#!/bin/sh\n", mode=0o644)
        assert user_git("status", "--porcelain", cwd=worktree) == " M run.sh\n?? new.py\n"
        assert user_git("show", "HEAD:model/net.py", cwd=worktree) == "x = 1\n"


def test_a_worktree_in_a_repository_of_the_user_is_its_own(project: Path) -> None:
    """Inside the user's work tree, `git` in a restored experiment speaks of that experiment, and not of the
    user's.
    """
    user_git("init", "--quiet", cwd=project)
    user_git("add", "--all", cwd=project)
    user_git("commit", "--quiet", "--message=mine", cwd=project)
    worktree = restored("first", project)
    assert works(worktree)
    assert user_git("rev-parse", "--show-toplevel", cwd=worktree).strip() == str(worktree)
    assert user_git("status", "--porcelain", cwd=project) == ""


def test_own_commits_outlive_the_worktree(project: Path) -> None:
    """X13: commits made in a worktree keep a ref when its folder is deleted by hand and the record is
    forgotten.
    """
    worktree = restored("first", project)
    mine = commit(worktree, "print('mine')\n")
    shutil.rmtree(worktree)
    second = restored("first", project)
    assert records(project) == ["first"]
    pins = user_git(
        f"--git-dir={shadow(project)}", "for-each-ref", "--format=%(objectname)", "refs/pins", cwd=project
    )
    assert pins.split() == [mine]
    assert_same_tree(project, second)
    user_git(f"--git-dir={shadow(project)}", "gc", "--prune=now", cwd=project)
    assert user_git("show", f"{mine}:train.py", cwd=second) == "print('mine')\n"


def test_a_deleted_worktree_without_commits_leaves_nothing(project: Path) -> None:
    """X13: the record of a worktree whose folder is gone is forgotten at the next restore, the others
    stay.
    """
    first, second = restored("first", project), restored("first", project, project / "tensortime" / "again")
    shutil.rmtree(first)
    assert records(project) == ["again", "first"]
    third = restored("first", project, project / "tensortime" / "third")
    assert records(project) == ["again", "third"]
    assert works(second) and works(third)
    assert user_git(f"--git-dir={shadow(project)}", "for-each-ref", "refs/pins", cwd=project) == ""


def test_a_worktree_on_a_disk_that_is_away_is_not_forgotten(project: Path, tmp_path: Path) -> None:
    """X13: where even the folder above a worktree is gone, it may be a disk that is not mounted: it comes
    back whole.
    """
    worktree = restored("first", project, tmp_path / "mnt" / "disk" / "first")
    mine = commit(worktree, "print(1)\n#\n")
    (tmp_path / "mnt" / "disk").rename(tmp_path / "away")
    restored("first", project)
    (tmp_path / "away").rename(tmp_path / "mnt" / "disk")
    assert user_git("rev-parse", "HEAD", cwd=worktree).strip() == mine


# --- X13: moved and copied


def test_inside_the_store_a_worktree_names_it_relatively(project: Path) -> None:
    """X13: `.git` of a worktree in the store is relative, of one elsewhere absolute."""
    assert (restored("first", project) / ".git").read_text() == "gitdir: ../.shadow/worktrees/first\n"
    outside = restored("first", project, project.parent / "outside")
    assert (outside / ".git").read_text() == f"gitdir: {shadow(project)}/worktrees/outside\n"


def test_a_moved_project_keeps_working(project: Path, tmp_path: Path) -> None:
    """X13: after a rename of the project its worktrees work at once, and its experiments, backups and
    restores too.
    """
    inside = restored("first", project)
    beside = restored("first", project, project / "kept" / "first")
    mine = commit(beside, "print(1)\n# mine\n")
    user_git("reset", "--quiet", "--hard", "HEAD~1", cwd=beside)
    moved = tmp_path / "new home" / "renamed"
    moved.parent.mkdir()
    project.rename(moved)
    inside, beside = (moved / one.relative_to(project) for one in (inside, beside))
    assert works(inside) and works(beside)
    assert names(moved) == ["first"]
    again = restored("first", moved, moved / "tensortime" / "again")
    assert records(moved) == ["again", "first", "first1"]
    assert works(inside) and works(beside) and works(again)
    listed = user_git("worktree", "list", "--porcelain", cwd=inside)
    assert all(f"worktree {one}\n" in listed for one in (inside, beside, again))
    assert user_git("show", f"{mine}:train.py", cwd=beside).endswith("# mine\n")
    assert tensortime.backup(directory=moved, name="second").experiment == "second"


def test_a_worktree_outside_a_moved_project_finds_it_again(project: Path, tmp_path: Path) -> None:
    """X13: a worktree elsewhere names the store absolutely: the next restore in the moved project mends
    that.
    """
    outside = restored("first", project, tmp_path / "outside")
    (outside / "train.py").write_bytes(b"print(1)  # mine\n")
    moved = project.rename(tmp_path / "renamed")
    restored("first", moved)
    assert user_git("status", "--porcelain", cwd=outside) == " M train.py\n"
    assert user_git("checkout", "train.py", cwd=outside) == "" and works(outside)
    assert names(outside) == ["first"]
    assert records(moved) == ["first", "outside"]


def test_a_worktree_moved_by_hand(project: Path, tmp_path: Path) -> None:
    """X13: a worktree that a person moves inside the store works at once, and its record follows."""
    worktree = restored("first", project)
    moved = worktree.rename(worktree.parent / "baseline")
    assert works(moved)
    restored("first", project)
    assert records(project) == ["first", "first1"]
    assert works(moved) and works(worktree)
    listed = user_git("worktree", "list", "--porcelain", cwd=moved)
    assert f"worktree {moved}\n" in listed and f"worktree {worktree}\n" in listed


def test_a_copied_project_never_writes_into_the_original(project: Path, tmp_path: Path) -> None:
    """X13: after `cp -a` both are whole; backups, restores and commits in the copy leave every original byte
    alone.
    """
    worktree = restored("first", project)
    beside = restored("first", project, project / "kept" / "first")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(project), str(copy)], check=True)
    before = snapshot_of(project)
    inside, kept = (copy / one.relative_to(project) for one in (worktree, beside))
    assert works(inside) and works(kept)
    (copy / "train.py").write_bytes(b"print('copy')\n")
    tensortime.backup(directory=copy, name="in-copy")
    tensortime.backup(directory=inside, name="in-worktree-of-copy")
    again = restored("in-copy", copy)
    assert works(inside) and works(kept)
    mine = commit(kept, "print('kept')\n")
    shutil.rmtree(kept)
    restored("first", copy, copy / "tensortime" / "third")
    assert names(copy) == ["in-worktree-of-copy", "in-copy", "first"]
    assert (again / "train.py").read_bytes() == b"print('copy')\n"
    assert mine in user_git(f"--git-dir={shadow(copy)}", "for-each-ref", "refs/pins", cwd=copy)
    assert snapshot_of(project) == before
    assert names(project) == ["first"] and works(worktree) and works(beside)


def test_a_copied_store_never_takes_the_originals_worktree(project: Path, tmp_path: Path) -> None:
    """X13: a worktree outside belongs to the original; the copy's record of it goes, the worktree stays as
    it is.
    """
    outside = restored("first", project, tmp_path / "outside")
    subprocess.run(["cp", "-a", str(project), str(tmp_path / "copy")], check=True)
    before = snapshot_of(project), snapshot_of(outside)
    restored("first", tmp_path / "copy")
    assert records(tmp_path / "copy") == ["first"]
    assert (snapshot_of(project), snapshot_of(outside)) == before
    assert names(outside) == ["first"] and works(outside)


# --- E14: backups and restores from inside a worktree


@pytest.mark.parametrize("place", ["inside the store", "outside"])
def test_a_backup_in_a_worktree_belongs_to_its_store(place: str, project: Path, tmp_path: Path) -> None:
    """E14: the worktree is the project, its store the one it came from, its experiment the parent."""
    worktree = restored("first", project, None if place == "inside the store" else tmp_path / "outside")
    Tree(worktree).file("model/net.py", b"x = 2\n").file("new.bin", size=1_300_000)
    report = tensortime.backup(directory=worktree / "model", name="second")
    assert report.store == str(project / "tensortime")
    assert not (worktree / "tensortime").exists() and not (worktree / "model" / "tensortime").exists()
    newest, first = tensortime.log(directory=project).experiments
    assert (newest.name, newest.parent, first.parent) == ("second", "first:1", "")
    second = restored("second", worktree, tmp_path / "second")
    assert_same_tree(snapshot_of(worktree, exclude=[".git", ".tensortime"]), second)
    assert names(second) == ["second", "first"]
    assert works(second)


def test_the_parent_is_the_backup_that_was_restored(project: Path) -> None:
    """E14: a worktree of an older backup names that one, with its number, as the parent."""
    Tree(project).file("out.txt", b"1")
    tensortime.backup(directory=project, name="first", add=["out.txt"])
    worktree = restored("first:1", project)
    tensortime.backup(directory=worktree, name="branch")
    oldest = tensortime.show("first", directory=project).history[-1]
    parent = tensortime.show("branch", directory=project).run["parent"]
    assert parent == {"experiment": "first", "backup": 1, "commit": oldest.commit}


def test_a_restore_inside_a_restored_experiment(project: Path) -> None:
    """E14: from inside a worktree the default place is the same store, beside the others and not within."""
    worktree = restored("first", project)
    tensortime.backup(directory=worktree, name="second")
    again = restored("second", worktree / "model")
    assert again == project / "tensortime" / "second"
    inner = restored("second", worktree, worktree / "inner")
    assert_same_tree(project, inner)
    assert works(inner) and works(again)
    user_git("status", cwd=worktree)
    assert records(project) == ["first", "inner", "second"]


def test_no_restored_experiment_is_ever_backed_up_with_the_project(project: Path) -> None:
    """E14: worktrees in the store stay out of every later backup, however deep one restores in another."""
    for name in ("a", "b", "c"):
        worktree = restored("@", project)
        report = tensortime.backup(directory=worktree, name=name)
        assert report.files == 7
    assert tensortime.backup(directory=project, name="d").files == 7


PAUSED = """
import sys, time
from pathlib import Path
import tensortime
from tensortime import checkout, worktrees
module, name, before = sys.argv[1:4]
whole = getattr(sys.modules["tensortime." + module], name)

def paused(*words, **options):
    result = None if before else whole(*words, **options)
    print("paused", flush=True)
    sys.stdin.readline()
    return whole(*words, **options) if before else result

setattr(sys.modules["tensortime." + module], name, paused)
tensortime.restore("first", sys.argv[4])
"""


@pytest.mark.parametrize(
    ("module", "name", "before"),
    [
        ("worktrees", "rename_record", ""),
        ("checkout", "link_worktree", ""),
        ("checkout", "write_marker", "b"),
    ],
)
def test_a_restore_mends_nothing_that_another_is_making(
    module: str, name: str, before: str, project: Path, tmp_path: Path
) -> None:
    """Half a worktree looks like one that is gone: its record stays, and both are whole in the end."""
    slow, fast = tmp_path / "slow", tmp_path / "fast"
    words = [sys.executable, "-c", PAUSED, module, name, before, str(slow)]
    process = subprocess.Popen(words, cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "paused\n"
    tensortime.restore("first", fast, directory=project)
    process.communicate("\n", timeout=60)
    assert process.returncode == 0
    for folder in (slow, fast):
        assert user_git("status", "--porcelain", cwd=folder) == ""
        record = Path((folder / ".git").read_text().removeprefix("gitdir: ").strip())
        assert (folder / record / "gitdir").read_text() == f"{folder}/.git\n"

"""diff A: what a person changed since a backup, found without storing anything."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import Tree, noise, run_cli, snapshot_of, user_git
from mounts import mounted, run

from tensortime import api, intake, present, statcache
from tensortime.differences import DiffReport
from tensortime.findings import FileStat
from tensortime.store import open_store

LARGE = (1 << 20) + 5


class Steps:
    """Remembers the steps that an operation begins."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []

    def begin(self, step: str, files: int, size: int) -> None:
        """A new step."""
        self.steps.append((step, files, size))

    def advance(self, files: int, size: int) -> None:
        """Some more."""

    def say(self, line: object) -> None:
        """A notice."""

    def warn(self, line: object) -> None:
        """A warning."""


@pytest.fixture
def lab(tmp_path: Path) -> Tree:
    """A project with code, data and an output, backed up as `a`."""
    tree = Tree(tmp_path / "lab").file("train.py", b"lr = 1\n").file("src/model.py", b"a = 1\n")
    tree.file("data/part.bin", size=LARGE).file("data/table.csv", b"1,2\n").symlink("last", "data/part.bin")
    api.backup(directory=tree.root, name="a")
    tree.file("save/w.bin", size=LARGE)
    api.backup(directory=tree.root, name="a", add=["save"])
    return tree


def now(tree: Tree, a: str = "a") -> DiffReport:
    """What differs from a backup to the project."""
    return api.diff(a, directory=tree.root)


def told(report: DiffReport) -> list[tuple[str, str, str]]:
    """All paths that differ: category, path, what happened."""
    categories = {"code": report.causes.code, "data": report.causes.data, "output": report.effects.outputs}
    return [(name, one.path, one.change) for name, found in categories.items() for one in found]


def edit(tree: Tree) -> None:
    """Change a line."""
    tree.file("train.py", b"lr = 2\n")


def edit_keeping_size_and_time(tree: Tree) -> None:
    """Change bytes and put the time back."""
    info = (tree.root / "src/model.py").stat()
    tree.file("src/model.py", b"a = 2\n", mtime_ns=info.st_mtime_ns)


def delete(tree: Tree) -> None:
    """Remove a file."""
    os.unlink(tree.root / "src/model.py")


def add(tree: Tree) -> None:
    """Make a file."""
    tree.file("src/new.py", b"1\n")


def rename(tree: Tree) -> None:
    """Move a small file."""
    os.rename(tree.root / "train.py", tree.root / "main.py")


def rename_large(tree: Tree) -> None:
    """Move a large file."""
    os.rename(tree.root / "data/part.bin", tree.root / "data/all.bin")


def chmod(tree: Tree) -> None:
    """Make a script executable."""
    os.chmod(tree.root / "train.py", 0o755)


def relink(tree: Tree) -> None:
    """Let a link lead elsewhere."""
    os.unlink(tree.root / "last")
    tree.symlink("last", "data/table.csv")


def large_of_same_size(tree: Tree) -> None:
    """Write other bytes into a large file."""
    tree.file("data/part.bin", noise(b"other", LARGE))


def large_grown(tree: Tree) -> None:
    """Append to a large file."""
    with open(tree.root / "data/part.bin", "ab") as file:
        file.write(b"more")


def table(tree: Tree) -> None:
    """Change a table."""
    tree.file("data/table.csv", b"1,3\n")


def output(tree: Tree) -> None:
    """Train again: other weights, and one more file beside them."""
    tree.file("save/w.bin", noise(b"other", LARGE)).file("save/log.txt", b"1\n")


def folder(tree: Tree) -> None:
    """Make an empty folder."""
    tree.folder("logs")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (edit, [("code", "train.py", "changed")]),
        (edit_keeping_size_and_time, [("code", "src/model.py", "changed")]),
        (delete, [("code", "src/model.py", "removed")]),
        (add, [("code", "src/new.py", "added")]),
        (rename, [("code", "main.py", "renamed")]),
        (rename_large, [("data", "data/all.bin", "renamed")]),
        (chmod, [("code", "train.py", "mode")]),
        (relink, [("code", "last", "changed")]),
        (large_of_same_size, [("data", "data/part.bin", "changed")]),
        (large_grown, [("data", "data/part.bin", "changed")]),
        (table, [("data", "data/table.csv", "changed")]),
        (output, [("output", "save/log.txt", "added"), ("output", "save/w.bin", "changed")]),
        (folder, [("code", "logs", "added")]),
        (lambda _: None, []),
    ],
)
def test_each_kind_of_change_is_told_and_no_other(
    lab: Tree, change: Callable[[Tree], None], found: list[tuple[str, str, str]]
) -> None:
    """After one change exactly that differs, in its category; untouched, nothing does."""
    change(lab)
    report = now(lab)
    assert told(report) == found
    assert report.is_empty is (not found)
    assert report.causes.environment == report.causes.machine == ()


def times(folder: Path) -> dict[str, int]:
    """When everything below a folder was last written."""
    return {str(path): path.lstat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_nothing_is_stored_and_nothing_written(lab: Tree) -> None:
    """Neither in the store nor in the project does a byte, mode or time change."""
    output(lab)
    edit(lab)
    before = snapshot_of(lab.root), times(lab.root)
    assert run_cli("diff", "a", "--patch", cwd=lab.root).returncode == 0
    assert (snapshot_of(lab.root), times(lab.root)) == before


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write below a folder: for root by a mount, for others by its modes."""
    if os.geteuid() == 0:
        with mounted(folder, "--bind", str(folder)):
            run("mount", "-o", "remount,ro,bind", str(folder))
            yield
        return
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*")) if not path.is_symlink()}
    try:
        for path in reversed(modes):
            os.chmod(path, modes[path] & 0o555)
        yield
    finally:
        for path, mode in modes.items():
            os.chmod(path, mode)


def test_a_store_that_cannot_be_written_is_enough(lab: Tree) -> None:
    """On a read-only disk, or in somebody else's store, the answer is the same."""
    edit(lab)
    expected = run_cli("diff", "a", "--json", cwd=lab.root).stdout
    with read_only(lab.root / "tensortime"):
        before = times(lab.root / "tensortime")
        done = run_cli("diff", "a", "--json", cwd=lab.root)
        assert (done.returncode, done.stderr) == (0, "")
        assert times(lab.root / "tensortime") == before
    moment = re.compile(r'"time": "[^"]*"')
    assert moment.sub("", done.stdout) == moment.sub("", expected)


def test_what_the_stat_cache_knows_is_not_read(lab: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untouched files cost one stat each; a touched one is read, and is the same."""
    monkeypatch.setattr(intake, "SMALL_WINDOW_NS", -(10**12))
    monkeypatch.setattr(intake, "LARGE_WINDOW_NS", -(10**12))
    api.backup(directory=lab.root, name="b")
    read: list[bytes] = []
    real = present.identity_of

    def noted(source: intake.Source, file: FileStat, meter: object = None) -> tuple[bytes, int] | None:
        read.append(file.path)
        return real(source, file, meter)  # type: ignore[arg-type]

    monkeypatch.setattr(present, "identity_of", noted)
    assert now(lab, "b").is_empty
    assert read == []
    os.utime(lab.root / "data/part.bin")
    os.utime(lab.root / "train.py")
    assert now(lab, "b").is_empty
    assert sorted(read) == [b"data/part.bin", b"train.py"]


def test_a_large_file_is_not_read_where_its_size_tells(lab: Tree) -> None:
    """Of a file that grew, and of a new one, no byte is read; of one that may be a moved one all are."""
    shutil.rmtree(lab.root / "tensortime/.cache")
    os.mkdir(lab.root / "tensortime/.cache")
    os.unlink(lab.root / "save/w.bin")
    large_grown(lab)
    lab.file("data/new.bin", size=2 * LARGE)
    steps = Steps()
    report = api.diff("a", directory=lab.root, monitor=steps)
    changed = {one.path: one.new and one.new.digest for one in report.causes.data}
    assert changed == {"data/new.bin": None, "data/part.bin": None}
    small = ("data/table.csv", "src/model.py", "train.py")
    assert steps.steps[-1] == ("check", 3, sum((lab.root / path).stat().st_size for path in small))


def test_the_cache_of_another_state_misleads_nobody(lab: Tree) -> None:
    """Bytes written within the racy window, with size and times put back, are seen: such entries are not kept."""
    cache = statcache.load_cache(
        str(next((lab.root / "tensortime/.cache").glob("stat-*"))),
        open_store(str(lab.root / "tensortime")).store_id,
        {},
    )
    assert b"train.py" not in cache.files, "it was too young when it was read"
    edit_keeping_size_and_time(lab)
    assert told(now(lab)) == [("code", "src/model.py", "changed")]


def test_the_rules_of_a_backup_hold(lab: Tree) -> None:
    """What .ttignore, the configuration or a built-in rule leaves out is neither added nor removed."""
    lab.file("tensortime.toml", b'ignore = ["*.log"]\n').file("a.log").file("src/b.log")
    lab.file("src/__pycache__/x.pyc").file(".env", b"KEY=1").file(".ttignore", b"data\nmodel.py\n")
    report = now(lab)
    assert told(report) == [("code", ".ttignore", "added"), ("code", "tensortime.toml", "added")]
    assert [(one.path, one.by, one.files) for one in report.left_out] == [
        ("data", "b", 2),
        ("src/model.py", "b", 1),
    ]


def test_what_the_backup_left_out_is_not_added(lab: Tree) -> None:
    """A folder that `ignore=[…]` left out of the backup says nothing about a change."""
    api.backup(directory=lab.root, name="b", ignore=["data"])
    report = now(lab, "b")
    assert report.is_empty
    assert [(one.path, one.by, one.files) for one in report.left_out] == [("data", "a", 2)]


def test_what_cannot_be_read_now_is_said(lab: Tree) -> None:
    """A FIFO in the place of a file: no change that could be told, but named."""
    delete(lab)
    lab.fifo("src/model.py")
    report = now(lab)
    assert told(report) == []
    assert [(one.path, one.by) for one in report.left_out] == [("src/model.py", "b")]


def test_a_folder_that_became_a_link_out(lab: Tree, tmp_path: Path) -> None:
    """The link came, the files went away: what lies behind it is not stored."""
    os.rename(lab.root / "src", tmp_path / "elsewhere")
    lab.symlink("src", tmp_path / "elsewhere")
    assert told(now(lab)) == [("code", "src", "added"), ("code", "src/model.py", "removed")]


def test_what_follow_names_is_compared_as_files(lab: Tree, tmp_path: Path) -> None:
    """`follow = ["raw"]`: the files behind the link, as a backup stores them."""
    outside = Tree(tmp_path / "outside").file("x.csv", b"1\n")
    lab.symlink("raw", outside.root).file("tensortime.toml", b'follow = ["raw"]\n')
    api.backup(directory=lab.root, name="b")
    assert now(lab, "b").is_empty
    outside.file("x.csv", b"2\n")
    assert told(now(lab, "b")) == [("data", "raw/x.csv", "changed")]


def test_a_restored_worktree_is_compared_with_what_it_came_from(lab: Tree) -> None:
    """In a worktree A is compared with the worktree's files: at first nothing differs, then what is edited there."""
    edit(lab)
    worktree = Tree(api.restore("a", directory=lab.root).path)
    assert now(worktree).is_empty
    worktree.file("src/model.py", b"a = 3\n")
    assert told(now(worktree)) == [("code", "src/model.py", "changed")]
    assert now(worktree).b.project == str(worktree.root)


def test_a_store_elsewhere(lab: Tree, tmp_path: Path) -> None:
    """`--store` names it: the same answer, and the folder itself is no part of the project."""
    shutil.move(lab.root / "tensortime", tmp_path / "store")
    edit(lab)
    done = run_cli("diff", "a", "--store", tmp_path / "store", cwd=lab.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert "train.py  +1 -1" in done.stdout


def test_the_users_git_is_environment(lab: Tree) -> None:
    """Another commit or branch of the user's own repository is told."""
    user_git("init", "--quiet", cwd=lab.root)
    user_git("add", "train.py", cwd=lab.root)
    user_git("commit", "--quiet", "--message=one", cwd=lab.root)
    api.backup(directory=lab.root, name="b")
    assert now(lab, "b").causes.environment == ()
    user_git("checkout", "--quiet", "-b", "wild", cwd=lab.root)
    assert [(one.key, one.old, one.new) for one in now(lab, "b").causes.environment] == [
        ("git.branch", "main", "wild")
    ]


def test_from_a_training_to_the_command_line_nothing_differs(lab: Tree) -> None:
    """A backup that train.py made, compared on the command line with the same project: no difference, no remark."""
    lab.file(
        "train.py", b"import sys\nfrom tensortime import TimeMachine\nTimeMachine(exp_dir='t').backup()\n"
    )
    # As in a shell with an activated environment.
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = ["python", "train.py", "--lr", "1"]
    subprocess.run(words, cwd=lab.root, check=True, capture_output=True, env=env)
    done = run_cli("diff", "t", cwd=lab.root, env=env)
    assert done.stdout == "t:1 -> the project now\nno difference\n"


def test_what_lies_behind_a_link_out_of_the_project_is_data(lab: Tree, tmp_path: Path) -> None:
    """It is not stored, but counted: other sizes, counts and times are told, also from one backup to another."""
    outside = Tree(tmp_path / "sets").file("one.csv", b"1\n", mtime_ns=10**18)
    lab.symlink("raw", outside.root)
    api.backup(directory=lab.root, name="b")
    api.backup(directory=lab.root, name="b", add=["train.py"])
    assert now(lab, "b").is_empty
    outside.file("two.csv", b"22\n", mtime_ns=10**18)
    (found,) = now(lab, "b").causes.data
    assert found.old and found.new
    assert (found.path, found.old.kind, found.old.files, found.new.files) == ("raw", "outside", 1, 2)
    assert (found.old.size, found.new.size) == (2, 5)
    api.backup(directory=lab.root, name="c")
    assert api.diff("b", "c", directory=lab.root).causes.data == (found,)
    done = run_cli("diff", "b", cwd=lab.root)
    assert "data         raw  1 file, 2 B -> 2 files, 5 B, behind the link, not stored" in done.stdout


def test_what_changed_around_the_project(lab: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that was installed since, and variables that are others now, are causes; ids of a job are none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("WORLD_SIZE", "1")
    api.backup(directory=lab.root, name="b")
    for name in ("SLURM_JOB_ID", "WORLD_SIZE"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    (tmp_path / "site" / "tensorchronic-1.5.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    causes = now(lab, "b").causes
    assert [(one.key, one.old, one.new) for one in causes.packages] == [("tensorchronic", None, "1.5")]
    assert [(one.key, one.old, one.new) for one in causes.environment] == [
        ("CUDA_VISIBLE_DEVICES", "0", "1"),
        ("PYTHONHASHSEED", None, "0"),
    ]
    assert causes.machine == ()

"""Where a store may be, whose folder it may take, and how it lives beside the user's own git. CASES B26,
E12, E13.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, snapshot_of, user_git

import tensortime
from tensortime.errors import ForeignFolder, UnsupportedFormat
from tensortime.folding import LARGEST_FOLDED, MOST_PACKS

LINE = b"/tensortime/\n"
GITFILE = b"gitdir: .shadow\n"


class Listener:
    """A monitor that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, step: str, files: int, size: int) -> None: ...

    def advance(self, files: int, size: int) -> None: ...

    def say(self, line: object) -> None:
        self.said.append(str(line))

    warn = say


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without git."""
    return Tree(tmp_path / "project").file("train.py", b"print(1)\n").file("weights.bin", size=1_100_000).root


@pytest.fixture
def repository(project: Path) -> Path:
    """A project with a git repository of the user's."""
    user_git("init", "--quiet", cwd=project)
    user_git("add", "train.py", cwd=project)
    user_git("commit", "--quiet", "--message=first", cwd=project)
    return project


def assert_restores(project: Path, destination: Path) -> None:
    """The newest experiment comes back as the project is."""
    tensortime.restore("@", destination, directory=project)
    assert_same_tree(project, destination)


def assert_has_exclude(project: Path, exclude: Path, line: bytes = LINE) -> None:
    """The two halves that let `git clean` pass by: the line once, and the gitfile."""
    assert exclude.read_bytes().splitlines(keepends=True).count(line) == 1
    assert (project / "tensortime" / ".git").read_bytes() == GITFILE


# --- B26: a folder that is called as ours


def own_repository(folder: Path) -> None:
    """Somebody's repository."""
    folder.mkdir()
    user_git("init", "--quiet", cwd=folder)


FOREIGN: dict[str, Callable[[Path], object]] = {
    "a package": lambda folder: Tree(folder).file("__init__.py", b"").file("core/model.py", b"x = 1\n"),
    "a data file": lambda folder: Tree(folder).folder("old").file("notes.txt", b"mine"),
    "a hidden file": lambda folder: Tree(folder).file(".env", b"KEY=1"),
    "a repository": own_repository,
    "a submodule": lambda folder: Tree(folder).file(".git", b"gitdir: ../.git/modules/tensortime\n"),
    "a plain file": lambda folder: folder.write_bytes(b"mine"),
    "a link to a file": lambda folder: folder.symlink_to("train.py"),
    "a link to nothing": lambda folder: folder.symlink_to("missing"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_folder_is_refused(what: str, project: Path, tmp_path: Path) -> None:
    """B26: somebody else's `tensortime` is named and left alone; another backup_dir is the way out."""
    FOREIGN[what](project / "tensortime")
    before = snapshot_of(project)
    if what == "a link to nothing":
        (project / "missing").write_bytes(b"")
        before = snapshot_of(project)
    with pytest.raises(ForeignFolder) as refused:
        tensortime.backup(directory=project)
    assert refused.value.exit_code == 2
    assert "backup_dir" in str(refused.value.hint)
    assert snapshot_of(project) == before
    done = tensortime.backup(directory=project, store="backups")
    assert done.store == str(project / "backups") and done.files >= 2


@pytest.mark.parametrize("store", [".", "..", "../.."])
def test_a_store_around_the_project_is_refused(store: str, tmp_path: Path) -> None:
    """It would back up itself, close a folder of the user's to others, and hide the project from the user's git."""
    project = Tree(tmp_path / "work" / "project").file("src/train.py", b"1").root
    os.chmod(tmp_path / "work", 0o755)
    before = snapshot_of(tmp_path)
    with pytest.raises(ForeignFolder, match="the project lies in it"):
        tensortime.backup(directory=project, store=store)
    assert snapshot_of(tmp_path) == before


def test_copies_of_version_0_1_0_stay_beside_the_store(project: Path, tmp_path: Path) -> None:
    """A `tensortime/` of folders only is accepted: one line says so, they are kept, not stored, and their
    names taken.
    """
    Tree(project / "tensortime").file("run-1/train.py", b"old").file("RUN-2/weights.bin", size=1_100_000)
    old = snapshot_of(project / "tensortime")
    listener = Listener()
    assert tensortime.backup(directory=project, name="run-1", monitor=listener).experiment == "run-1-2"
    assert tensortime.backup(directory=project, name="run-2").experiment == "run-2-2"
    assert len([line for line in listener.said if "0.1.0" in line and "RUN-2, run-1" in line]) == 1
    now = snapshot_of(project / "tensortime")
    assert {path: now.get(path) for path in old} == old
    restored = Path(tensortime.restore("run-1-2", directory=project).path)
    assert sorted(os.listdir(restored)) == [".git", ".tensortime", "train.py", "weights.bin"]


# --- a store of its own


EVERY_VERB: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(("backup", "log", "verify", "gc", "du", "trashed"), ()),
    **dict.fromkeys(("diff", "show", "restore", "rm_worktree", "rerun"), ("first",)),
    **dict.fromkeys(("rm", "undelete", "purge"), (["first"],)),
    "note": ("first", "x"),
    "tag": ("first", ["x"]),
    "export_experiment": ("first", "x.zip"),
}
"""Every verb of the package, and what it is given."""


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [("format = 1", "format = 2", "format 2"), ("format = 1", "format = 1\n\trequires = chunks", "chunks")],
)
def test_a_store_of_a_later_version_is_left_alone(old: str, new: str, named: str, project: Path) -> None:
    """An unknown format or `requires` is named with what can read it, and no verb changes a byte."""
    tensortime.backup(directory=project, name="first")
    exported = project.parent / "first.zip"
    tensortime.export_experiment("first", exported, directory=project)
    config = project / "tensortime" / ".shadow" / "config"
    config.write_text(config.read_text().replace(old, new))
    before = snapshot_of(project)
    for name, words in {**EVERY_VERB, "import_file": (exported,)}.items():
        with pytest.raises(UnsupportedFormat, match=named) as refused:
            getattr(tensortime, name)(*words, directory=project)
        assert "pip install -U tensortime" in str(refused.value.hint), name
    tensortime.run(["true"], directory=project)
    assert snapshot_of(project) == before


def test_the_verbs_that_were_tried_are_all() -> None:
    """A new verb goes into the list above; `doctor` and `settings` look, and `run` runs its command all the same."""
    faces = {"TimeMachine", "TensorTimeError", "__version__", "doctor", "settings", "run", "import_file"}
    assert set(EVERY_VERB) == set(tensortime.__all__) - faces


def check_packs(shadow: Path) -> list[Path]:
    """git finds the repository sound, and makes of every pack the index that we wrote."""
    user_git(f"--git-dir={shadow}", "fsck", "--strict", "--full", cwd=shadow)
    packs = sorted((shadow / "objects" / "pack").glob("*.pack"))
    for pack in packs:
        theirs = shadow.parent.parent.parent / f"{pack.stem}.idx"
        user_git("index-pack", "--strict", "-o", str(theirs), str(pack), cwd=shadow)
        assert theirs.read_bytes() == pack.with_suffix(".idx").read_bytes()
    return packs


def test_packs_are_folded_past_fifty_and_kept_where_they_are_large(project: Path, tmp_path: Path) -> None:
    """Past 50 packs they are joined, a pack with or due a `.keep` stays as it is, and every backup comes
    back.
    """
    assert (MOST_PACKS, LARGEST_FOLDED) == (50, 256 << 20)
    folder = project / "tensortime" / ".shadow" / "objects" / "pack"
    states = []
    for number in range(MOST_PACKS + 2):
        (project / "train.py").write_text(f"print({number})\n")
        tensortime.backup(directory=project, name=f"e{number}")
        states.append(len(list(folder.glob("*.pack"))))
        if number == 0:
            (kept,) = folder.glob("*.pack")
            kept.with_suffix(".keep").touch()
    # One has its .keep: the 51st that has none is one too many.
    assert states == [*range(1, MOST_PACKS + 2), 2]
    assert kept.exists() and len(check_packs(folder.parent.parent)) == 2
    for number in (0, 1, MOST_PACKS, MOST_PACKS + 1):
        restored = Path(tensortime.restore(f"e{number}", tmp_path / f"r{number}", directory=project).path)
        assert (restored / "train.py").read_text() == f"print({number})\n"


def test_a_large_pack_is_kept_by_the_fold(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack past the limit (lowered here: 256 MiB takes too long) gets a `.keep` before the others are
    joined.
    """
    monkeypatch.setattr("tensortime.folding.MOST_PACKS", 3)
    monkeypatch.setattr("tensortime.folding.LARGEST_FOLDED", 100_000)
    Tree(project).file("noise.dat", size=300_000)
    for number in range(4):
        (project / "train.py").write_text(f"print({number})\n")
        tensortime.backup(directory=project, name=f"e{number}")
    folder = project / "tensortime" / ".shadow" / "objects" / "pack"
    (keep,) = folder.glob("*.keep")
    assert keep.with_suffix(".pack").stat().st_size > 300_000
    assert len(list(folder.glob("*.pack"))) == 2
    check_packs(folder.parent.parent)


# --- E12, E13: beside the user's git


def test_without_git_there_is_no_gitfile(project: Path, tmp_path: Path) -> None:
    """E12: a project without git gets no `.git` in its store, and comes back."""
    tensortime.backup(directory=project)
    assert not (project / "tensortime" / ".git").exists()
    assert_restores(project, tmp_path / "restored")


def test_a_project_in_a_subdirectory_of_a_repository(tmp_path: Path) -> None:
    """E12: the exclude line names the store from the top of the user's work tree, every odd letter
    escaped.
    """
    top = tmp_path / "top"
    project = Tree(top / "a b" / "[x]*#!é").file("train.py", b"print(1)\n").root
    user_git("init", "--quiet", cwd=top)
    tensortime.backup(directory=project)
    line = "/a\\ b/\\[x\\]\\*\\#\\!é/tensortime/\n".encode()
    assert_has_exclude(project, top / ".git" / "info" / "exclude", line)
    assert user_git("status", "--porcelain", "-z", "-uall", cwd=top) == "?? a b/[x]*#!é/train.py\0"
    user_git("clean", "-fdx", "--quiet", cwd=top)
    assert not (project / "train.py").exists()
    assert tensortime.restore("@", tmp_path / "restored", directory=project).files == 1


def test_a_linked_worktree_of_the_user(repository: Path, tmp_path: Path) -> None:
    """E12: in a linked worktree the line goes to the exclude file that git reads there."""
    linked = tmp_path / "linked"
    user_git("worktree", "add", "--quiet", "-b", "other", str(linked), cwd=repository)
    tensortime.backup(directory=linked)
    assert_has_exclude(linked, repository / ".git" / "info" / "exclude")
    assert user_git("status", "--porcelain", "--ignored", cwd=linked) == "!! tensortime/\n"
    assert_restores(linked, tmp_path / "restored")


def test_a_bare_repository_as_project(repository: Path, tmp_path: Path) -> None:
    """E12: the files of a bare clone are files like others; without a work tree there is nothing to
    exclude.
    """
    hub = tmp_path / "hub.git"
    user_git("clone", "--quiet", "--bare", str(repository), str(hub), cwd=tmp_path)
    before = snapshot_of(hub)
    tensortime.backup(directory=hub)
    assert snapshot_of(hub, exclude=["tensortime"]) == before
    assert not (hub / "tensortime" / ".git").exists()
    assert_restores(hub, tmp_path / "restored")
    user_git("fsck", "--strict", cwd=tmp_path / "restored")


def test_without_an_info_folder_it_is_made(repository: Path) -> None:
    """E12: a repository made without a template has no `.git/info`; the line goes into a new one."""
    subprocess.run(["rm", "-r", str(repository / ".git" / "info")], check=True)
    tensortime.backup(directory=repository)
    assert_has_exclude(repository, repository / ".git" / "info" / "exclude")


def test_where_no_line_can_be_written_there_is_no_gitfile(repository: Path, tmp_path: Path) -> None:
    """E12: no exclude line, no gitfile: with one alone `git add -A` would see a submodule. The backup is made.

    The exclude file is a link, which is not written through: read-only modes do not stop an administrator.
    """
    tensortime.backup(directory=repository)
    exclude = repository / ".git" / "info" / "exclude"
    exclude.unlink()
    exclude.symlink_to(tmp_path / "shared-exclude")
    (tmp_path / "shared-exclude").write_bytes(b"*.tmp\n")
    tensortime.backup(directory=repository)
    assert (tmp_path / "shared-exclude").read_bytes() == b"*.tmp\n"
    assert not (repository / "tensortime" / ".git").exists()
    assert user_git("status", "--porcelain", cwd=repository) == "?? weights.bin\n"
    assert_restores(repository, tmp_path / "restored")


def test_git_init_later(project: Path, tmp_path: Path) -> None:
    """E13: `git init && git add -A` in a project with a store passes by it, and the next backup adds both
    halves.
    """
    tensortime.backup(directory=project)
    user_git("init", "--quiet", cwd=project)
    user_git("add", "--all", cwd=project)
    assert user_git("ls-files", cwd=project).split() == ["train.py", "weights.bin"]
    tensortime.log(directory=project)
    assert_has_exclude(project, project / ".git" / "info" / "exclude")
    assert_restores(project, tmp_path / "restored")


PASSING_BY: dict[str, list[tuple[str, ...]]] = {
    "clean": [("clean", "-fdx", "--quiet")],
    "stash": [("stash", "--all", "--quiet"), ("stash", "pop", "--quiet")],
    "add": [("add", "--all"), ("commit", "--quiet", "--message=all")],
    "reset": [("add", "--all"), ("reset", "--hard", "--quiet")],
}


@pytest.mark.parametrize("what", PASSING_BY)
def test_the_users_git_passes_by_the_store(what: str, repository: Path) -> None:
    """`git clean -fdx`, `git stash -a` and `git add -A` leave the store as it is, restored experiments
    included.
    """
    tensortime.backup(directory=repository, name="first")
    tensortime.restore("first", directory=repository)
    before = snapshot_of(repository / "tensortime")
    for words in PASSING_BY[what]:
        user_git(*words, cwd=repository)
    assert snapshot_of(repository / "tensortime") == before
    assert not any(path.startswith("tensortime") for path in user_git("ls-files", cwd=repository).split())
    assert user_git("log", "--all", "--format=%s", cwd=repository / "tensortime")


@pytest.mark.parametrize("half", ["gitfile", "line", "both"])
def test_a_missing_half_is_mended(half: str, repository: Path) -> None:
    """Whatever half is gone, the next command of any kind puts it back, and appends to what the user
    wrote.
    """
    tensortime.backup(directory=repository)
    exclude = repository / ".git" / "info" / "exclude"
    if half != "line":
        (repository / "tensortime" / ".git").unlink()
    if half != "gitfile":
        exclude.write_bytes(b"*.tmp\r\n# caf\xe9\nlast line without an end")
    kept = exclude.read_bytes()
    tensortime.log(directory=repository)
    assert_has_exclude(repository, exclude)
    assert exclude.read_bytes() == kept + (b"" if half == "gitfile" else b"\n" + LINE)


def test_the_exclude_file_is_appended_to(repository: Path, tmp_path: Path) -> None:
    """One line is added once, and the file keeps its inode, mode and lines."""
    exclude = repository / ".git" / "info" / "exclude"
    exclude.write_bytes(b"*.tmp\n")
    exclude.chmod(0o640)
    inode = exclude.stat().st_ino
    for _ in range(3):
        tensortime.backup(directory=repository)
    assert exclude.read_bytes() == b"*.tmp\n" + LINE
    assert (exclude.stat().st_ino, exclude.stat().st_mode & 0o777) == (inode, 0o640)


def test_a_git_folder_in_the_store_is_moved_aside(repository: Path) -> None:
    """S09: a `.git` folder that came with a store would rule a person's git in it; ours takes its place."""
    tensortime.backup(directory=repository)
    store = repository / "tensortime"
    (store / ".git").unlink()
    Tree(store / ".git").file("config", b"[core]\n\tfsmonitor = /bin/false\n")
    listener = Listener()
    tensortime.backup(directory=repository, monitor=listener)
    assert (store / ".git").read_bytes() == b"gitdir: .shadow\n"
    assert [line for line in listener.said if ".git was not ours" in line]

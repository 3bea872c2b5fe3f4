"""Room on the disk of the store: what is kept free, what is left out, what is said. CASES D01, D03, D07, D14."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, noise, run_cli
from mounts import small_tmpfs, used_bytes

from tensortime import api, folding, fsops, snapshot
from tensortime.errors import Message, NoSpace
from tensortime.monitor import NullMonitor
from tensortime.reports import BackupReport
from tensortime.shadow import Shadow

MIB, GIB = 1 << 20, 1 << 30
LARGE = 3 * MIB
CODE = b"print(1)\n"
Disk = Callable[[int, int], None]


class Listener(NullMonitor):
    """Keeps what a person would have read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: Message) -> None:
        """A notice."""
        self.lines.append(str(line))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Claims that the store's disk has so many bytes free, of so many: no test can fill a real terabyte."""

    def claim(free: int, total: int) -> None:
        monkeypatch.setattr(fsops, "free_space", lambda _: (free, total))

    return claim


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 24 MiB for the store."""
    with small_tmpfs(tmp_path / "disk", 24 * MIB) as place:
        yield place


def project_of(tmp_path: Path) -> Tree:
    """A script and one large file."""
    return Tree(tmp_path / "project").file("train.py", CODE).file("data/model.bin", size=LARGE)


def reasons(report: BackupReport) -> dict[str, str]:
    """What was skipped, and why."""
    return {one.path: one.reason for one in report.skipped}


def leftovers(store: Path) -> list[str]:
    """Objects, packs, refs and staged files of a store."""
    tops = (".objects", ".shadow/objects", ".shadow/refs", ".tmp")
    files = [path for top in tops for path in (store / top).rglob("*") if path.is_file()]
    return [str(path.relative_to(store)) for path in files if not path.name.endswith(".lock")]


@pytest.mark.parametrize(
    ("total", "reserve"),
    [(10 * GIB, GIB), (33 * GIB, GIB), (100 * GIB, 3 * GIB), (1000 * GIB, 30 * GIB)],
)
def test_the_space_kept_free(tmp_path: Path, disk: Disk, total: int, reserve: int) -> None:
    """D07: max(1 GiB, 3 %) stays free: a large file that leaves just that is stored, a byte less and it is not."""
    tree = project_of(tmp_path)
    disk(reserve + LARGE + len(CODE) - 1, total)
    report = api.backup(directory=tree.root, name="short")
    assert list(reasons(report)) == ["data/model.bin"]
    disk(reserve + LARGE + len(CODE), total)
    assert api.backup(directory=tree.root, name="enough").skipped == ()


def test_the_code_is_published_without_the_large_files(tmp_path: Path, disk: Disk) -> None:
    """D07: what finds no room is named with the numbers; the rest is an experiment, incomplete, and comes back."""
    tree = project_of(tmp_path).file("small.bin", size=2 * MIB)
    disk(GIB + len(CODE) + 2 * MIB, 10 * GIB)
    report = api.backup(directory=tree.root, name="exp")
    assert report.exit_code == 3
    (reason,) = [reason for path, reason in reasons(report).items() if path == "data/model.bin"]
    assert reason.startswith("no room: it needs 3,145,728 bytes, ")
    assert report.large == 1, "what still fits is stored"
    assert [one.status for one in api.log(directory=tree.root).experiments] == ["incomplete"]
    assert api.show("exp", directory=tree.root).run["skipped"]
    restored = api.restore("exp", directory=tree.root)
    assert_same_tree(tree.root, restored.path, ignored=["data/model.bin"])


def test_what_found_no_room_is_stored_once_there_is_some(tmp_path: Path, disk: Disk) -> None:
    """A skipped file is not taken for stored by the next backup."""
    tree = project_of(tmp_path)
    disk(GIB, 10 * GIB)
    assert api.backup(directory=tree.root).exit_code == 3
    disk(9 * GIB, 10 * GIB)
    report = api.backup(directory=tree.root, name="exp")
    assert report.exit_code == 0
    assert_same_tree(tree.root, api.restore("exp", directory=tree.root).path)


def test_a_disk_smaller_than_what_is_kept_free(tmp_path: Path, small_disk: Path) -> None:
    """D07 on a real disk: the command ends with 3, names the file, and the code is there."""
    tree = project_of(tmp_path)
    done = run_cli("backup", "--store", small_disk / "store", "--name", "exp", cwd=tree.root)
    assert done.returncode == 3, done.stderr
    assert "data/model.bin" in done.stdout and "no room" in done.stdout
    restored = run_cli("restore", "--store", small_disk / "store", "exp", tmp_path / "out", cwd=tree.root)
    assert restored.returncode == 3 and "NOT in this backup: data/model.bin" in restored.stdout
    assert_same_tree(tree.root, tmp_path / "out", ignored=["data/model.bin"])


def test_max_store(tmp_path: Path) -> None:
    """The store does not grow past `max_store`; what is in it already costs nothing again."""
    tree = project_of(tmp_path).file("tensortime.toml", b'max_store = "5 MiB"\n')
    assert api.backup(directory=tree.root).exit_code == 0
    tree.file("second.bin", size=LARGE)
    report = api.backup(directory=tree.root, name="exp")
    assert list(reasons(report)) == ["second.bin"] and "no room" in reasons(report)["second.bin"]
    assert report.large == 1


def test_small_files_may_use_what_is_kept_free(tmp_path: Path, disk: Disk) -> None:
    """Code is what a run cannot do without: up to 256 MiB of small files go into the space that is kept free."""
    assert snapshot.CODE_BYTES == 256 * MIB
    tree = project_of(tmp_path)
    disk(len(CODE), 10 * GIB)
    report = api.backup(directory=tree.root, name="exp")
    assert list(reasons(report)) == ["data/model.bin"] and report.small == 1


@pytest.mark.parametrize(("code_bytes", "free"), [(MIB, GIB), (256 * MIB, MIB)])
def test_too_many_small_files_are_refused(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, code_bytes: int, free: int
) -> None:
    """D01: more small files than may cross the reserve, or than fit at all, are refused before a byte is written."""
    tree = Tree(tmp_path / "project")
    for number in range(4):
        tree.file(f"{number}.txt", size=MIB // 2)
    monkeypatch.setattr(snapshot, "CODE_BYTES", code_bytes)
    disk(free, 10 * GIB)
    with pytest.raises(NoSpace, match=f"2,097,152 bytes of small files: {free:,} are free") as caught:
        api.backup(directory=tree.root)
    assert ".ttignore" in str(caught.value.hint) and "TENSORTIME_STORE" in str(caught.value.hint)
    assert leftovers(tree.root / "tensortime") == []


def test_a_large_copy_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before more than 1 GB is copied one line says how much, the three largest folders, why, and what avoids it."""
    assert snapshot.ANNOUNCED_BYTES == 10**9
    monkeypatch.setattr(snapshot, "ANNOUNCED_BYTES", 12 * MIB)
    monkeypatch.setattr(fsops, "clone", lambda *_: False)
    tree = Tree(tmp_path / "project")
    for folder, size in (("d", 2), ("c", 3), ("a/deep", 5), ("b", 4)):
        tree.file(f"{folder}/x.bin", size=size * MIB)
    tree.file("c/y.bin", size=3 * MIB)
    listener, heard = Listener(), list[str]()
    copy = fsops.copy_bytes

    def listen(*words: object, **options: bool) -> int:
        heard.extend(line for line in listener.lines if "copying" in line and line not in heard)
        return copy(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(fsops, "copy_bytes", listen)
    api.backup(directory=tree.root, monitor=listener)
    (line,) = heard
    kind = fsops.file_system_name(str(tree.root))
    assert f"copying {17 * MIB}: c, a/deep, b (copy: {kind} has no reflink)" in line
    assert ".ttignore" in line and 'hardlink = ["c/**"]' in line


def test_what_is_not_copied_is_not_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No announcement where the bytes are known, stored by hard link, or few."""
    tree = Tree(tmp_path / "project").file("a/x.bin", size=LARGE).file("h/x.bin", size=LARGE)
    tree.file("tensortime.toml", b'hardlink = ["h/*"]\n')
    monkeypatch.setattr(snapshot, "ANNOUNCED_BYTES", LARGE)
    for _ in range(2):
        listener = Listener()
        api.backup(directory=tree.root, monitor=listener)
        assert not [line for line in listener.lines if "copying" in line]
        monkeypatch.setattr(snapshot, "ANNOUNCED_BYTES", 0)


@pytest.fixture
def sure_of_room(disk: Disk) -> None:
    """What statvfs promised is gone once it is needed: somebody else writes to the same disk."""
    disk(1000 * GIB, 2000 * GIB)


@pytest.mark.usefixtures("sure_of_room")
def test_a_disk_that_fills_up_under_the_small_files(tmp_path: Path, small_disk: Path) -> None:
    """D01, D14: a full disk is a clear error; nothing is published, the disk no fuller, the old backup whole."""
    tree, store = project_of(tmp_path), small_disk / "store"
    api.backup(directory=tree.root, store=store, name="old")
    before, files = used_bytes(small_disk), leftovers(store)
    for number in range(30):
        tree.file(f"{number}.txt", size=MIB - 1)
    with pytest.raises(NoSpace, match="No space left"):
        api.backup(directory=tree.root, store=store)
    assert leftovers(store) == files and used_bytes(small_disk) <= before + 64 * 1024
    restored = api.restore("old", tmp_path / "out", directory=tree.root, store=store)
    assert (Path(restored.path) / "data/model.bin").read_bytes() == noise(b"data/model.bin", LARGE)


@pytest.mark.usefixtures("sure_of_room")
def test_a_disk_that_fills_up_under_a_large_file(tmp_path: Path, small_disk: Path) -> None:
    """D03: a large file that does not fit after all is skipped, its half is removed, the code is published."""
    tree, store = project_of(tmp_path).file("huge.bin", size=30 * MIB), small_disk / "store"
    report = api.backup(directory=tree.root, store=store, name="exp")
    assert reasons(report) == {"huge.bin": "no room: No space left on device"}
    assert used_bytes(small_disk) < 2 * LARGE
    restored = api.restore("exp", tmp_path / "out", directory=tree.root, store=store)
    assert_same_tree(tree.root, restored.path, ignored=["huge.bin"])


@pytest.mark.usefixtures("sure_of_room")
def test_a_disk_that_fills_up_at_the_very_end(tmp_path: Path, small_disk: Path) -> None:
    """D14: where the objects fitted and the pack did not, the objects are taken back."""
    tree, store = Tree(tmp_path / "project").file("train.py", CODE), small_disk / "store"
    api.backup(directory=tree.root, store=store, name="old")
    tree.file("model.bin", size=LARGE).file("table.csv", size=900_000)
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(b"x" * (free - LARGE - 400_000))
    before, files = used_bytes(small_disk), leftovers(store)
    with pytest.raises(NoSpace):
        api.backup(directory=tree.root, store=store)
    assert leftovers(store) == files and used_bytes(small_disk) <= before + 64 * 1024
    (small_disk / "filler").unlink()
    api.backup(directory=tree.root, store=store, name="new")
    restored = api.restore("new", tmp_path / "out", directory=tree.root, store=store)
    assert_same_tree(tree.root, restored.path)


def test_what_others_rely_on_is_not_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D14: a failed backup leaves the objects that another one has published meanwhile."""
    store = tmp_path / "store"
    mine, other = Tree(tmp_path / "mine"), Tree(tmp_path / "other")
    for tree in (mine, other):
        tree.file("model.bin", noise(b"same", LARGE))

    def fail(*_: object) -> BackupReport:
        monkeypatch.undo()
        api.backup(directory=other.root, store=store, name="other")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(snapshot, "publish", fail)
    with pytest.raises(NoSpace):
        api.backup(directory=mine.root, store=store, name="mine")
    restored = api.restore("other", tmp_path / "out", directory=other.root, store=store)
    assert_same_tree(other.root, restored.path)


def test_a_restore_that_finds_no_room(tmp_path: Path, small_disk: Path) -> None:
    """D06: where the target fills up nothing is left of it, and the error says so."""
    tree = project_of(tmp_path).file("huge.bin", size=30 * MIB)
    api.backup(directory=tree.root, name="exp")
    before = used_bytes(small_disk)
    with pytest.raises(NoSpace, match=r"no room for .*out"):
        api.restore("exp", small_disk / "out", directory=tree.root)
    assert not list(small_disk.iterdir()) and used_bytes(small_disk) == before
    assert not list((tree.root / "tensortime/.shadow/worktrees").iterdir())


class Warned(NullMonitor):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, line: Message) -> None:
        """A warning."""
        self.lines.append(str(line))


def test_a_backup_says_that_the_store_has_passed_max_store(tmp_path: Path) -> None:
    """One line, with the commands that help; none while there is room."""
    tree = project_of(tmp_path).file("tensortime.toml", b'max_store = "100 MB"\n')
    said = Warned()
    api.backup(directory=tree.root, monitor=said)
    assert said.lines == []
    tree.file("tensortime.toml", b'max_store = "1 MB"\n')
    api.backup(directory=tree.root, monitor=said)
    [line] = said.lines
    assert "max_store" in line and "tensortime du" in line and "tensortime gc" in line


def test_a_backup_says_that_little_is_free(tmp_path: Path, disk: Disk) -> None:
    """One line once the disk has less than what is kept free."""
    tree, said = project_of(tmp_path), Warned()
    disk(GIB, 10 * GIB)
    api.backup(directory=tree.root, monitor=said)
    assert said.lines == []
    disk(GIB - 1, 10 * GIB)
    api.backup(directory=tree.root, monitor=said)
    [line] = said.lines
    assert "are free" in line and "tensortime du" in line


def test_a_fold_that_fills_the_disk_is_no_failure_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backup is published by then; what git had half written is what the training needs now."""
    tree = Tree(tmp_path / "project")
    packs = tree.root / "tensortime/.shadow/objects/pack"

    def fill(_: Shadow) -> None:
        (packs / "tmp_pack_half").touch()
        raise NoSpace("the disk is full")

    monkeypatch.setattr(folding, "MOST_PACKS", 1)
    monkeypatch.setattr(Shadow, "join_packs", fill)
    for number in range(3):
        tree.file("train.py", b"%d" % number)
        report = api.backup(directory=tree.root, name=f"exp{number}")
        assert (report.experiment, report.exit_code) == (f"exp{number}", 0)
    assert not [path.name for path in packs.iterdir() if path.name.startswith("tmp_")]


def test_no_fold_where_there_is_no_room_for_one(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is joined is there twice for a moment."""
    tree, joined = project_of(tmp_path), list[int]()
    monkeypatch.setattr(folding, "MOST_PACKS", 1)
    monkeypatch.setattr(folding, "fold", lambda _: joined.append(1))
    for number, free in enumerate((100_000, 100_000, 1 * GIB)):
        tree.file("train.py", b"%d" % number).file("notes.md", noise(b"%d" % number, 60_000))
        disk(free, 10 * GIB)
        api.backup(directory=tree.root, add=["train.py", "notes.md"], name=f"exp{number}")
        assert len(joined) == (free == GIB)

"""Files that change under the backup: what is stored was hashed, is whole where it can be, and else is called changed.

The changes happen at one exact moment, by hooks around the very calls that read; the rest is real. CASES M01 to M06.
"""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import Tree, assert_same_tree, noise
from round_trips import THRESHOLD, assert_sound, contents, manifest_of, run_facts

from tensortime import api, fsops, sidecar, walk
from tensortime.reports import BackupReport

SMALL, LARGE = 50_000, 9 << 20
"""One that is read in one go, and one that is read in three blocks."""

Act = Callable[[], object]


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with bystanders, which always come back."""
    return Tree(tmp_path / "project").file("train.py", b"print()\n").file("data/other.bin", size=THRESHOLD)


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def size(request: pytest.FixtureRequest) -> int:
    """How large the file is that changes."""
    return int(request.param)


class Moments:
    """Lets something happen to one file exactly when the backup opens or reads it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: bytes) -> None:
        self.monkeypatch, self.path = monkeypatch, path
        self.opened = 0
        # Where the file system clones, all is over in one call; the copy is what can go wrong.
        monkeypatch.setattr(fsops, "clone", lambda source, target: False)
        open_with_stat = fsops.open_with_stat

        def counting(path: bytes | str, dir_fd: int | None = None) -> tuple[int, os.stat_result]:
            self.opened += os.fsencode(path) == self.path
            return open_with_stat(path, dir_fd)

        monkeypatch.setattr(fsops, "open_with_stat", counting)

    def before_open(self, act: Act) -> None:
        """The first time that the file is to be opened."""
        open_with_stat, left = fsops.open_with_stat, [act]

        def hooked(path: bytes | str, dir_fd: int | None = None) -> tuple[int, os.stat_result]:
            if left and os.fsencode(path) == self.path:
                left.pop()()
            return open_with_stat(path, dir_fd)

        self.monkeypatch.setattr(fsops, "open_with_stat", hooked)

    def at_read(self, act: Act, *, times: int = 1, before: bool = False) -> None:
        """Around the first read after each opening, for so many openings."""
        seen: set[int] = set()
        for name in ("pread", "preadv"):
            read = getattr(os, name)

            def hooked(fd: int, *args: Any, read: Callable[..., Any] = read) -> Any:
                first = self.opened not in seen and len(seen) < times and self.is_open_as(fd)
                if first:
                    seen.add(self.opened)
                if first and before:
                    act()
                answer = read(fd, *args)
                if first and not before:
                    act()
                return answer

            self.monkeypatch.setattr(os, name, hooked)

    def is_open_as(self, fd: int) -> bool:
        """Whether a descriptor is of the file."""
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self.path))
        except FileNotFoundError:
            return False


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch, project: Tree) -> Moments:
    """The moments of `data/file`."""
    return Moments(monkeypatch, project.path("data/file"))


def stored(tree: Tree) -> tuple[BackupReport, dict[str, bytes]]:
    """Back up and restore; what came back of the folder `data`. The store is sound whatever happened."""
    report = api.backup(directory=tree.root)
    restored = Path(api.restore("@", tree.root.parent / report.experiment, directory=tree.root).path)  # type: ignore[operator]
    assert_sound(tree.root / "tensortime")
    assert (restored / "train.py").read_bytes() == b"print()\n"
    return report, {path.name: path.read_bytes() for path in (restored / "data").iterdir() if path.is_file()}


def append(path: bytes, data: bytes) -> None:
    """As a logger does."""
    with open(path, "ab") as file:
        file.write(data)


def overwrite(path: bytes, data: bytes, offset: int) -> None:
    """As a database or a memory map does: the same size, other bytes."""
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def replace(path: bytes, data: bytes) -> None:
    """As careful writers do."""
    with open(path + b".new", "wb") as file:
        file.write(data)
    os.replace(path + b".new", path)


def test_file_that_only_grew_is_not_changed(project: Tree, moments: Moments, size: int) -> None:
    """M01: a log that is appended to while it is read is stored up to its length at open, at the first try."""
    before = noise(b"log", size)
    project.file("data/file", before)
    moments.at_read(lambda: append(moments.path, b"one more line\n"), times=3)
    report, found = stored(project)
    assert found["file"] == before
    assert (report.changed, report.exit_code, moments.opened) == ((), 0, 1)
    assert stored(project)[1]["file"] == before + b"one more line\n"


def overwrite_unseen(path: bytes, data: bytes) -> None:
    """Other bytes, and the time of the last change put back."""
    info = os.stat(path)
    overwrite(path, data, 0)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def test_file_that_is_overwritten_under_its_old_time(project: Tree, moments: Moments, size: int) -> None:
    """M01, M10: a write whose mtime is put back shows in the ctime: the file is read again, and is the new one whole."""
    old, new = noise(b"old", size), noise(b"new", size)
    project.file("data/file", old)
    moments.at_read(lambda: overwrite_unseen(moments.path, new))
    report, found = stored(project)
    assert found["file"] == new
    assert (report.changed, moments.opened) == ((), 2)


def test_file_that_is_overwritten_under_its_old_time_at_every_try(
    project: Tree, moments: Moments, size: int
) -> None:
    """M01: after three tries what was read last is stored, as it was hashed, and called changed."""
    project.file("data/file", size=size)
    turns = iter(range(100))
    moments.at_read(lambda: overwrite_unseen(moments.path, noise(b"%d" % next(turns), size)), times=9)
    report, found = stored(project)
    assert len(found["file"]) == size
    assert (report.changed, moments.opened) == (("data/file",), 3)


def test_file_whose_mode_changes_while_it_is_read_is_not_changed(
    project: Tree, moments: Moments, size: int
) -> None:
    """M01: a chmod moves the ctime too, and no byte."""
    project.file("data/file", size=size)
    moments.at_read(lambda: os.chmod(moments.path, 0o640))
    report, found = stored(project)
    assert found["file"] == noise(b"data/file", size)
    assert report.changed == ()


def test_file_that_grew_and_changed_is_read_again(project: Tree, moments: Moments, size: int) -> None:
    """M01: growing excuses nothing else: where bytes before the old end changed too, it is read again."""
    before = noise(b"db", size)
    project.file("data/file", before)

    def grow_and_change() -> None:
        overwrite(moments.path, b"CHANGED", size - 100)
        overwrite(moments.path, b"HEADER", 0)
        append(moments.path, b"x")

    moments.at_read(grow_and_change)
    report, found = stored(project)
    assert found["file"] == Path(os.fsdecode(moments.path)).read_bytes() != before
    assert (report.changed, report.exit_code, moments.opened) == ((), 0, 2)


def test_file_that_changes_under_every_try_is_called_changed(
    project: Tree, moments: Moments, size: int
) -> None:
    """M01: after three tries the last one's bytes are stored, and report, manifest and run.json call it changed."""
    project.file("data/file", size=size)
    numbers = iter(range(9))
    moments.at_read(lambda: overwrite(moments.path, b"%d" % next(numbers), 100), times=9)
    report, found = stored(project)
    assert (report.changed, report.skipped, report.exit_code) == (("data/file",), (), 3)
    assert moments.opened == 3
    assert found["file"][100:101] == b"1" and len(found["file"]) == size
    assert manifest_of(project.root.parent / str(report.experiment))["data/file"]["changed"] is True
    assert run_facts(project)["changed"] == ["data/file"]


@pytest.mark.parametrize("before", [True, False], ids=["before-read", "after-read"])
@pytest.mark.parametrize("rest", [0, 100, SMALL - 1])
def test_file_that_was_truncated_is_read_again(
    project: Tree, moments: Moments, size: int, rest: int, before: bool
) -> None:
    """M02: a file that is cut while it is read is read again, and stored as it is then."""
    project.file("data/file", size=size)
    moments.at_read(lambda: os.truncate(moments.path, rest), before=before)
    report, found = stored(project)
    assert found["file"] == noise(b"data/file", size)[:rest]
    assert (report.changed, report.exit_code, moments.opened) == ((), 0, 2)


def test_linked_file_that_is_written_to_under_every_try_is_copied(
    project: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M03: a link to it would hold other bytes than were hashed, and no link would leave a name without bytes."""
    project.file("tensortime.toml", b'hardlink = ["data/file"]\n').file("data/file", size=LARGE)
    hash_file = fsops.hash_file

    def hooked(fd: int, *args: Any) -> int:
        done = hash_file(fd, *args)
        if os.path.samestat(os.fstat(fd), os.lstat(project.path("data/file"))):
            append(project.path("data/file"), b"more")
        return done

    monkeypatch.setattr(fsops, "hash_file", hooked)
    report, files = stored(project)
    now = (project.root / "data" / "file").read_bytes()
    assert report.skipped == ()
    assert now.startswith(files["file"])


def test_file_that_shrinks_under_every_try(project: Tree, moments: Moments, size: int) -> None:
    """M02: one that is cut again at each try is stored as a true beginning of itself, and called changed."""
    project.file("data/file", size=size)
    rests = iter(range(size - 1, 0, -size // 8))
    moments.at_read(lambda: os.truncate(moments.path, next(rests)), times=9)
    report, found = stored(project)
    assert noise(b"data/file", size).startswith(found["file"]) and len(found["file"]) > size // 2
    assert (report.changed, moments.opened) == (("data/file",), 3)


@pytest.mark.parametrize("before", [True, False], ids=["before-read", "after-read"])
def test_file_that_is_replaced_while_read_is_the_old_or_the_new(
    project: Tree, moments: Moments, size: int, before: bool
) -> None:
    """M03: a rename over a file that is being read gives the old or the new one whole; the next backup has the new."""
    old, new = noise(b"old", size), noise(b"new", size)
    project.file("data/file", old)
    moments.at_read(lambda: replace(moments.path, new), before=before)
    report, found = stored(project)
    assert found["file"] in (old, new)
    assert (report.changed, report.exit_code) == ((), 0)
    assert stored(project)[1]["file"] == new


@pytest.mark.parametrize("new_size", [10, SMALL, THRESHOLD - 1, THRESHOLD, LARGE])
def test_file_that_is_replaced_before_it_is_opened(
    project: Tree, moments: Moments, size: int, new_size: int
) -> None:
    """M03: replaced between the walk and the reading, also by one on the other side of the threshold: the new one."""
    new = noise(b"new", new_size)
    project.file("data/file", size=size)
    moments.before_open(lambda: replace(moments.path, new))
    report, found = stored(project)
    assert found["file"] == new
    assert (report.changed, report.skipped, report.exit_code) == ((), (), 0)


def swap(path: bytes, kind: str, outside: Tree) -> None:
    """Put something else in the place of a file or folder, which goes outside."""
    os.rename(path, path + b".moved" if kind == "vanished" else outside.path("moved"))
    match kind:
        case "link":
            os.symlink(outside.path("secret"), path)
        case "link-to-folder":
            os.symlink(outside.root, path)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            os.mkdir(path)
        case "socket":
            server = socket.socket(socket.AF_UNIX)
            server.bind(os.path.relpath(path))
            server.close()


@pytest.fixture
def outside(tmp_path: Path) -> Tree:
    """What is not the project's, under names that the project has."""
    tree = Tree(tmp_path / "outside").file("secret", b"SECRET" * 300_000)
    return tree.file("file", b"SECRET").file("inner/file", b"SECRET")


@pytest.mark.parametrize("kind", ["link", "link-to-folder", "fifo", "folder", "socket"])
def test_file_that_became_something_else_is_refused(
    project: Tree, moments: Moments, outside: Tree, size: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M04: a file swapped for a link, a FIFO or a folder before it is opened is skipped with the reason, never followed."""
    project.file("data/file", size=size)
    monkeypatch.chdir(project.root)
    moments.before_open(lambda: swap(moments.path, kind, outside))
    report, found = stored(project)
    assert found.keys() == {"other.bin"}
    assert [one.path for one in report.skipped] == ["data/file"] and "something else" in report.skipped[
        0
    ].reason
    assert report.exit_code == 3


def hook_walk(monkeypatch: pytest.MonkeyPatch, path: bytes, act: Act) -> list[Act]:
    """Let something happen when the walk is about to open a folder; the list is empty once it has."""
    open_folder, left = fsops.open_folder, [act]

    def hooked(name: bytes | str, dir_fd: int | None = None) -> int:
        if left and name == path:
            left.pop()()
        return open_folder(name, dir_fd)

    monkeypatch.setattr(walk, "open_folder", hooked)
    return left


@pytest.mark.parametrize("kind", ["link-to-folder", "folder", "fifo"])
@pytest.mark.parametrize("level", [b"data/sub", b"data/sub/inner"], ids=["itself", "above-it"])
def test_folder_that_is_swapped_during_the_walk(
    project: Tree, outside: Tree, monkeypatch: pytest.MonkeyPatch, kind: str, level: bytes
) -> None:
    """M05: a folder swapped for a link before the walk enters it, or one below it, is skipped; nothing outside is read."""
    project.file("data/sub/inner/file", b"inside").file("data/kept", b"1")
    left = hook_walk(monkeypatch, level, lambda: swap(project.path("data/sub/x")[:-2], kind, outside))
    report, found = stored(project)
    assert left == []
    assert found == {"other.bin": noise(b"data/other.bin", THRESHOLD), "kept": b"1"}
    if report.skipped:
        assert [one.path for one in report.skipped] == [os.fsdecode(level)]
    else:
        assert kind == "folder" and level == b"data/sub/inner", "only what is gone may go unmentioned"


def test_folder_that_is_swapped_after_the_walk(
    project: Tree, moments: Moments, outside: Tree, size: int
) -> None:
    """M05: a folder swapped for a link between the walk and the reading leads no read outside."""
    moments.path = project.path("data/sub/file")
    project.file("data/sub/file", size=size)
    moments.before_open(lambda: swap(project.path("data/sub/x")[:-2], "link-to-folder", outside))
    report, found = stored(project)
    assert found.keys() == {"other.bin"}
    assert [one.path for one in report.skipped] == ["data/sub/file"]


def test_file_that_vanishes_is_nobody_s_concern(project: Tree, moments: Moments, size: int) -> None:
    """M06: a file that is deleted between the walk and the reading was never there: no word, exit code 0."""
    project.file("data/file", size=size)
    moments.before_open(lambda: os.unlink(moments.path))
    report, found = stored(project)
    assert found.keys() == {"other.bin"}
    assert (report.files, report.skipped, report.changed, report.exit_code) == (2, (), (), 0)


def test_file_that_is_away_for_a_moment_is_named(project: Tree, moments: Moments, size: int) -> None:
    """M02: it is there after the backup, so that nobody would guess that it was not stored."""
    path = project.path("data/file")
    project.file("data/file", size=size)
    open_with_stat = fsops.open_with_stat

    def without(tried: bytes | str, dir_fd: int | None = None) -> tuple[int, os.stat_result]:
        if os.fsencode(tried) in (path, b"file"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", tried)
        return open_with_stat(tried, dir_fd)

    moments.monkeypatch.setattr(fsops, "open_with_stat", without)
    report = api.backup(directory=project.root)
    assert [one.path for one in report.skipped] == ["data/file"]


def test_large_file_that_the_store_lost_while_storing_is_named(
    project: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody clears away the staging folder, "no such file" says nothing about the project's file."""
    project.file("data/file", size=LARGE)
    keep = sidecar.Sidecar.keep

    def after_a_cleaner(self: sidecar.Sidecar, staged: str, *args: Any) -> bool:
        os.unlink(staged)
        return keep(self, staged, *args)

    monkeypatch.setattr(sidecar.Sidecar, "keep", after_a_cleaner)
    report = api.backup(directory=project.root)
    assert {one.path for one in report.skipped} == {"data/other.bin", "data/file"}


def test_file_that_is_deleted_while_it_is_read_is_stored_whole(
    project: Tree, moments: Moments, size: int
) -> None:
    """M06: one that is deleted once it is open is stored."""
    project.file("data/file", size=size)
    moments.at_read(lambda: os.unlink(moments.path))
    report, found = stored(project)
    assert found["file"] == noise(b"data/file", size)
    assert report.exit_code == 0


def test_folder_whose_last_file_vanishes_comes_back_empty(project: Tree, moments: Moments, size: int) -> None:
    """M06: the folder of a file that went away, or became something else, is still a folder of the project."""
    moments.path = project.path("runs/now/file")
    project.file("runs/now/file", size=size)
    moments.before_open(lambda: os.unlink(moments.path))
    report, _ = stored(project)
    assert_same_tree(contents(project), project.root.parent / str(report.experiment))


def test_folder_that_vanishes_during_the_walk(project: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """M06: so is a folder."""
    project.folder("data/sub")
    left = hook_walk(monkeypatch, b"data/sub", lambda: os.rmdir(project.path("data/sub")))
    report, _ = stored(project)
    assert left == []
    assert (report.files, report.skipped, report.exit_code) == (2, (), 0)
    assert_same_tree(contents(project), project.root.parent / str(report.experiment))


WRITER = """
import os, sys
log, number = open("data/log", "ab", buffering=0), 0
while os.getppid() == int(sys.argv[1]):
    number += 1
    log.write(b"step %09d\\n" * 500 % ((number,) * 500))
    with open("data/model.new", "wb") as file:
        file.write(b"%08d" % number * 200_000)
    os.replace("data/model.new", "data/model.bin")
    if number == 1:
        print("running", flush=True)
"""


@pytest.fixture
def training(project: Tree) -> Iterator[None]:
    """A process that writes a log and replaces its model all the time."""
    command = [sys.executable, "-c", WRITER, str(os.getpid())]
    with subprocess.Popen(command, cwd=project.root, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"running\n"
        yield
        process.kill()


@pytest.mark.usefixtures("training")
def test_backups_under_a_process_that_writes(project: Tree) -> None:
    """M01, M03: beside a real writer each backup has the log as it once was and one model, whole."""
    logs = []
    for _ in range(4):
        report, found = stored(project)
        assert not [one for one in report.changed if one != "data/model.new"]
        logs.append(found["log"])
        model = found["model.bin"]
        assert len(model) == 1_600_000 and model == model[:8] * 200_000
    final = (project.root / "data" / "log").read_bytes()
    assert all(final.startswith(log) for log in logs) and logs == sorted(logs, key=len)

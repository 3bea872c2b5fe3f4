"""tm.backup(wait=False): what is there at once, what follows, what becomes of it where something comes in between.

Each large file waits at a gate before it is copied, so that a test decides when that happens.
"""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, run_cli
from mounts import loop_mount

from tensortime import TimeMachine, api, fsops, history, maintenance, packs, prune, upkeep
from tensortime.errors import StoreBusy
from tensortime.reports import QUEUED, BackupReport

LARGE = 2 << 20
PATIENCE = 30.0


class Gate:
    """Holds back the copying of large files in the background."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.copy, self.niceness = fsops.copy_bytes, -1
        self.passes: threading.Thread | None = None
        self.patch = patch
        patch.setattr(fsops, "copy_bytes", self.pass_through)

    def pass_through(self, source: int, target: int, size: int, *rest: object, **options: bool) -> int:
        """Copy once it is open; at once for whom the gate is not."""
        if threading.current_thread().name == "tensortime-backlog":
            self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            self.reached.set()
            while threading.current_thread() is not self.passes:
                if self.opened.wait(0.01):
                    break
        return self.copy(source, target, size, *rest, **options)  # type: ignore[arg-type]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A closed gate."""
    found = Gate(monkeypatch)
    yield found
    found.opened.set()
    for thread in threading.enumerate():
        if thread.name == "tensortime-backlog":
            thread.join(PATIENCE)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """A project with small files, large ones, hard links of these, and a folder of nothing else; the current folder."""
    tree = Tree(tmp_path / "p").file("train.py", b"print(1)\n").file("data/a.bin", size=LARGE)
    tree.file("data/raw/b.bin", size=LARGE + 1, mode=0o600, mtime_ns=1_700_000_000_123_456_789)
    os.link(tree.root / "data/a.bin", tree.root / "twin.bin")
    monkeypatch.chdir(tree.root)
    return tree


def begin(gate: Gate, **given: object) -> tuple[TimeMachine, BackupReport]:
    """An experiment called x, whose backup has returned and whose first large file stands at the gate."""
    tm = TimeMachine(exp_dir="x")
    report = tm.backup(wait=False, **given)  # type: ignore[arg-type]
    assert gate.reached.wait(PATIENCE)
    return tm, report


def end(gate: Gate, tm: TimeMachine) -> None:
    """Let everything be stored."""
    gate.opened.set()
    if tm._aftermath is not None:
        tm._aftermath.wait()


def missing(experiment: str) -> list[str]:
    """The paths that a backup says it lacks because they are queued."""
    run = api.show(experiment).run
    return [one.path for one in history.skipped_in(run) if one.reason == QUEUED]


def manifest(experiment: str) -> bytes | None:
    """The manifest of a backup."""
    return api.read_file(experiment, ".tensortime/manifest")[0]


# --- what is there at once, and what follows


def test_small_files_are_published_and_large_ones_follow(project: Tree, gate: Gate, tmp_path: Path) -> None:
    """It returns with everything small stored; log, show, restore and verify know what is missing, until it is not."""
    tm, report = begin(gate)
    names = ["data/a.bin", "data/raw/b.bin", "twin.bin"]
    assert (report.files, report.queued, report.queued_bytes) == (1, tuple(names), 3 * LARGE + 1)
    assert (report.skipped, report.exit_code) == ((), 0)
    (pending,) = api.log().experiments
    assert (pending.status, pending.files, pending.backups) == ("pending", 1, 1)
    assert missing("x") == names
    back = api.restore("x", tmp_path / "early")
    assert (back.exit_code, [one.path for one in back.skipped]) == (3, names)
    assert (tmp_path / "early/train.py").read_bytes() == b"print(1)\n"
    assert not maintenance.verify(read_data="all").problems
    end(gate, tm)
    (whole,) = api.log().experiments
    assert (whole.status, whole.files, whole.bytes, whole.backups) == ("done", 4, 3 * LARGE + 10, 1)
    assert whole.time_ns == pending.time_ns
    shown = api.show("x")
    assert (shown.exit_code, len(shown.history)) == (0, 1)
    assert api.restore("x", tmp_path / "late").exit_code == 0
    assert_same_tree(project.root, tmp_path / "late")
    assert (tmp_path / "late/data/raw/b.bin").stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert not maintenance.verify(read_data="all").problems


@pytest.mark.parametrize("add", [None, ["data", "twin.bin"]], ids=["all", "add"])
def test_in_the_end_it_is_what_waiting_would_have_stored(
    project: Tree, gate: Gate, add: list[str] | None
) -> None:
    """The manifest of a completed backup is that of one that waited, byte for byte; with `add` too."""
    first = TimeMachine(exp_dir="first")
    os.link(project.root / "train.py", project.root / "main.py")
    for tm in (first, other := TimeMachine(exp_dir="x")):
        if add is not None:
            tm.backup(ignore=add)
    other.backup(add=add, wait=False)
    early = manifest("x")
    end(gate, other)
    first.backup(add=add)
    assert manifest("x") == manifest("first") != early
    assert {one.status for one in api.log().experiments} == {"done"}


def test_with_nothing_large_it_is_whole_at_once(project: Tree, gate: Gate) -> None:
    """Where all large files are known nothing is queued, and no thread begins."""
    TimeMachine(exp_dir="first").backup()
    for path in (project.root / "data").rglob("*.bin"):
        os.utime(path, ns=(1_700_000_000_000_000_000, 1_700_000_000_000_000_000))
    report = TimeMachine(exp_dir="small").backup(ignore=["*.bin"], wait=False)
    assert (report.queued, api.show("small").experiment.status) == ((), "done")
    assert not [one for one in threading.enumerate() if one.name == "tensortime-backlog"]


def test_the_thread_steps_back(project: Tree, gate: Gate) -> None:
    """Its priority is low, that of the training is as it was."""
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    end(gate, begin(gate)[0])
    assert gate.niceness == max(before, fsops.LOW_PRIORITY) > 0
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_the_stat_cache_learns_of_it(project: Tree, gate: Gate) -> None:
    """So that the next backup need not read again what lies still."""
    tm, _ = begin(gate)
    (cache,) = (project.root / "tensortime/.cache").glob("stat-*")
    assert b"data/a.bin" not in cache.read_bytes()
    end(gate, tm)
    assert b"data/a.bin" in cache.read_bytes()


def test_what_is_said(project: Tree, gate: Gate, capsys: pytest.CaptureFixture[str]) -> None:
    """That files follow, and that they have."""
    end(gate, begin(gate)[0])
    said = capsys.readouterr().err
    assert "pending: 3 files, 6.3 MB follow in the background (data/a.bin, data/raw/b.bin, twin.bin)" in said
    assert ">> tensortime: x is whole: 3 files, 6.3 MB stored in the background in " in said


def test_wait_must_be_a_truth_value(project: Tree) -> None:
    """A caller's mistake shows at once."""
    with pytest.raises(TypeError, match="wait must be bool"):
        TimeMachine().backup(wait="no")  # type: ignore[arg-type]


# --- files that do not lie still


@pytest.mark.parametrize("how", ["written", "grown", "cut", "replaced", "as old as before"])
def test_a_file_that_changes_before_its_turn_is_changed(
    project: Tree, gate: Gate, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is stored of it is what was there when its turn came, and the backup says that it is not as it was."""
    tm, _ = begin(gate)
    path = project.root / "data/raw/b.bin"  # a.bin stands at the gate
    info = path.stat()
    if how == "replaced":
        (project.root / "new").write_bytes(path.read_bytes())
        os.replace(project.root / "new", path)
    else:
        with path.open("r+b") as file:
            file.seek(0, os.SEEK_END if how == "grown" else os.SEEK_SET)
            file.truncate(LARGE) if how == "cut" else file.write(b"something else")
    if how in ("replaced", "as old as before"):
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    end(gate, tm)
    assert api.show("x").run["changed"] == ["data/raw/b.bin"]
    assert api.show("x").exit_code == 3
    assert "not as it was when x was made: data/raw/b.bin" in capsys.readouterr().err
    api.restore("x", tmp_path / "back")
    assert (tmp_path / "back/data/raw/b.bin").read_bytes() == path.read_bytes()
    assert not maintenance.verify(read_data="all").problems


def test_a_file_that_is_written_ahead_of_the_reader_is_changed(project: Tree, gate: Gate) -> None:
    """It was as queued when it was opened, and the copy is what is there now: but not what was there then."""
    tm, _ = begin(gate)
    with (project.root / "data/a.bin").open("r+b") as file:  # which stands at the gate, open
        file.write(b"ahead")
    end(gate, tm)
    assert api.show("x").run["changed"] == ["data/a.bin", "twin.bin"]


def test_a_file_that_is_removed_before_its_turn_is_named(
    project: Tree, gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was there when the backup was made, so it is skipped, not passed over; the rest is stored."""
    tm, _ = begin(gate)
    (project.root / "data/raw/b.bin").unlink()
    end(gate, tm)
    shown = api.show("x")
    assert shown.run["skipped"] == [
        {"path": "data/raw/b.bin", "reason": "it was removed before it was stored"}
    ]
    assert (shown.experiment.status, shown.experiment.files) == ("incomplete", 3)
    assert "SKIPPED data/raw/b.bin: it was removed before it was stored" in capsys.readouterr().err


def test_with_reflinks_what_follows_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    """Where the file system can clone, each file is cloned aside at once: whatever happens to it then is of no matter."""
    with loop_mount("xfs", tmp_path, 512 << 20) as disk:
        tree = Tree(disk / "p").file("a.bin", size=LARGE, mtime_ns=1_700_000_000_000_000_000)
        tree.file("b.bin", size=LARGE)
        monkeypatch.chdir(tree.root)
        before = (tree.root / "a.bin").read_bytes()
        reading, real = threading.Event(), fsops.hash_file

        def slow(*given: object) -> int:
            assert reading.wait(PATIENCE)
            return real(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(fsops, "hash_file", slow)
        tm = TimeMachine(exp_dir="x")
        assert tm.backup(wait=False).queued == ("a.bin", "b.bin")
        tree.file("a.bin", b"new weights")
        (tree.root / "b.bin").unlink()
        reading.set()
        end(gate, tm)
        assert (api.show("x").exit_code, api.show("x").experiment.status) == (0, "done")
        api.restore("x", tmp_path / "back")
        assert (tmp_path / "back/a.bin").read_bytes() == before
        assert (tmp_path / "back/a.bin").stat().st_mtime_ns == 1_700_000_000_000_000_000
        assert (tmp_path / "back/b.bin").stat().st_size == LARGE
        assert not [one for one in (tree.root / "tensortime/.tmp").iterdir() if one.is_dir()]
        monkeypatch.chdir(tmp_path)


def test_what_a_hardlink_line_names_is_linked_later(project: Tree, gate: Gate) -> None:
    """No copy is made of it, in the background neither, and it is watched."""
    project.file("tensortime.toml", b'hardlink = ["data/raw/**"]\n')
    end(gate, begin(gate)[0])
    assert (project.root / "data/raw/b.bin").stat().st_nlink == 2
    assert (project.root / "tensortime/.cache/hardlinks").read_text().count("blake3:") == 1
    assert api.show("x").experiment.status == "done"


# --- what others do meanwhile


def test_c03_gc_takes_nothing_away(project: Tree, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """C03: what is stored and not yet named by a commit is safe: gc waits for the backlog as for any backup."""
    monkeypatch.setattr(prune, "LOCK_WAIT", 0.1)
    tm, _ = begin(gate)
    with pytest.raises(StoreBusy):
        maintenance.gc()
    end(gate, tm)
    maintenance.gc()
    assert not maintenance.verify(read_data="all").problems


def test_a_note_and_a_tag_of_meanwhile_stay(project: Tree, gate: Gate) -> None:
    """Who completes a backup takes its message as it is by then."""
    tm, _ = begin(gate)
    api.note("x", "better")
    api.tag("x", ["paper"])
    end(gate, tm)
    (one,) = api.log().experiments
    assert (one.note, one.tags, one.status, one.backups) == ("better", ("paper",), "done", 1)


def test_what_was_added_meanwhile_stays_on_top(project: Tree, gate: Gate, tmp_path: Path) -> None:
    """Another process adds a backup, and one of the queued files in a newer state: both backups become whole."""
    tm, _ = begin(gate)
    project.file("metrics.json", b"{}").file("data/raw/b.bin", b"newer" * LARGE)
    for path in ("metrics.json", "data/raw"):
        assert run_cli("backup", "--name", "x", "--add", path, cwd=project.root).returncode == 0
    assert missing("x:3") == ["data/a.bin", "twin.bin"]
    project.file("data/raw/b.bin", b"newest" * LARGE)
    end(gate, tm)
    (one,) = api.log().experiments
    assert (one.backups, one.status, one.files) == (3, "done", 5)
    assert [entry.number for entry in api.show("x").history] == [3, 2, 1]
    assert [api.show(f"x:{number}").experiment.status for number in (1, 2, 3)] == ["done"] * 3
    assert [api.show(f"x:{number}").experiment.files for number in (1, 2, 3)] == [4, 5, 5]
    for number in (1, 2, 3):
        api.restore(f"x:{number}", tmp_path / str(number))
    assert (tmp_path / "3/data/raw/b.bin").read_bytes() == b"newer" * LARGE
    assert (tmp_path / "2/data/raw/b.bin").read_bytes() == b"newest" * LARGE
    assert api.show("x:2").run["changed"] == ["data/raw/b.bin"]
    assert not (tmp_path / "1/metrics.json").exists()
    assert [row.path for row in api.diff("x:1", "x:3").effects.outputs] == [
        "data/raw/b.bin",
        "metrics.json",
    ]
    project.file("data/raw/b.bin", b"another" * LARGE)
    api.backup(name="y")
    compared = api.diff("x:1", "y")  # what later backups of x brought is nothing to its first
    assert [row.path for row in compared.causes.data] == ["data/raw/b.bin"]
    assert compared.effects.outputs == ()
    assert not maintenance.verify(read_data="all").problems


def test_another_backup_of_everything_stays_the_newest(project: Tree, gate: Gate) -> None:
    """A whole backup of meanwhile owes nothing to the pending one: only that is completed, and is not the newest."""
    tm, _ = begin(gate)
    api.backup(name="x", joins=True, ignore=["*.bin"])
    end(gate, tm)
    (one,) = api.log().experiments
    assert (one.backups, one.files, api.show("x:1").experiment.files) == (2, 1, 4)
    assert api.show("x:1").experiment.status == "done"


@pytest.mark.parametrize("add", [None, ["data"]], ids=["all", "add"])
def test_two_that_queue_the_same_files_keep_them_apart(
    project: Tree, gate: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, add: list[str] | None
) -> None:
    """Each stores what it has queued: the second found another state, which is no change to it."""
    tm, _ = begin(gate)
    project.file("data/raw/b.bin", b"newer" * LARGE)
    monkeypatch.setenv("TENSORTIME_EXPERIMENT", "x")
    other = TimeMachine()
    assert other.backup(add=add, wait=False).number == 2
    assert tm._aftermath is not None
    gate.passes = tm._aftermath.backlog.thread
    tm._aftermath.wait()
    end(gate, other)
    states = [api.show(f"x:{number}") for number in (1, 2)]
    assert [one.run["changed"] for one in states] == [["data/raw/b.bin"], []]
    assert [(one.experiment.status, one.experiment.files) for one in states] == [("done", 4)] * 2
    assert (api.log().experiments[0].backups, len(states[1].history)) == (2, 2)


def test_a_removed_experiment_is_not_completed(
    project: Tree, gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    """rm meanwhile: one line, nothing comes back by itself, what was stored goes, and undelete gives what was there."""
    tm, _ = begin(gate)
    upkeep.rm(["x"])
    TimeMachine(exp_dir="x").backup(ignore=["*.bin"])  # another one of the name
    end(gate, tm)
    assert "x stays pending: x was removed meanwhile" in capsys.readouterr().err
    assert api.show("x").experiment.files == 1
    assert maintenance.gc().objects == 2
    upkeep.undelete(["x"])
    assert {one.status for one in api.log().experiments} == {"done", "pending"}
    assert not maintenance.verify(read_data="all").problems


def test_the_next_backup_waits(project: Tree, gate: Gate) -> None:
    """A second call on the same object, waiting or not, comes after all that is queued: never in another order."""
    tm, _ = begin(gate)
    project.file("out.bin", size=LARGE)
    opener = threading.Timer(0.2, gate.opened.set)
    opener.start()
    report = tm.backup(add=["out.bin"], wait=False)
    assert (report.number, report.queued) == (2, ("out.bin",))
    end(gate, tm)
    (one,) = api.log().experiments
    assert (one.backups, one.status, one.files) == (2, "done", 5)
    facts = api.show("x:1").experiment
    assert (facts.status, facts.files) == ("done", 4)


# --- failures


def test_a_failure_leaves_it_pending_and_the_disk_as_it_was(
    project: Tree, gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk fills up before the supplement is written: one warning, no traceback, and no object that nobody names."""
    tm, _ = begin(gate)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packs.PackWriter, "finish", full)
    end(gate, tm)
    said = capsys.readouterr().err
    assert "warning: x stays pending: " in said
    assert "No space left" in said
    assert "Traceback" not in said
    assert "tensortime backup --name x --add data/a.bin --add data/raw/b.bin --add twin.bin stores" in said
    assert api.show("x").experiment.status == "pending"
    assert not [one for one in (project.root / "tensortime/.objects").rglob("*") if one.is_file()]


def test_a_file_that_cannot_be_read_is_skipped_and_named(
    project: Tree, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad file does not keep the others out."""
    tm, _ = begin(gate)
    real = fsops.open_with_stat

    def broken(path: fsops.Path, dir_fd: int | None = None) -> tuple[int, os.stat_result]:
        if os.fsencode(path).endswith(b"/b.bin"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, dir_fd)

    monkeypatch.setattr(fsops, "open_with_stat", broken)
    end(gate, tm)
    assert api.show("x").run["skipped"] == [{"path": "data/raw/b.bin", "reason": "Input/output error"}]
    assert api.show("x").experiment.status == "incomplete"


def test_what_finds_no_room_is_skipped(project: Tree, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at once where that is known, else at the end: training has filled the disk meanwhile."""
    reserve, total = 1 << 30, 16 << 30
    monkeypatch.setattr(fsops, "free_space", lambda _: (reserve + LARGE + 1000, total))
    tm, report = begin(gate)
    assert report.queued == ("data/a.bin",)
    assert [one.path for one in report.skipped] == ["data/raw/b.bin", "twin.bin"]
    assert all(one.reason.startswith("no room: it needs") for one in report.skipped)
    end(gate, tm)
    assert (api.show("x").experiment.status, api.show("x").experiment.files) == ("incomplete", 2)


def test_without_a_thread_it_waits(project: Tree, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread, it is as if the call had waited."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    backlog_alone = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        (refuse if thread.name == "tensortime-backlog" else backlog_alone)(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    tm = TimeMachine(exp_dir="x")
    tm.backup(wait=False)
    assert api.show("x").experiment.status == "done"


def test_another_rank_queues_nothing(project: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the process that backs up has a backlog."""
    monkeypatch.setenv("RANK", "1")
    assert TimeMachine(exp_dir="x").backup(wait=False) == BackupReport(experiment=None)
    assert not (project.root / "tensortime").exists()

"""tm.backup(wait=False) in processes that end, fork and die while large files are queued. CASES C08, K14, T08."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest
from builders import Tree, assert_same_tree, run_cli
from conftest import Tally
from terminals import PACKAGE, spawn

from tensortime import TimeMachine, api, fsops, maintenance, prune
from tensortime.errors import StoreBusy
from tensortime.store import create_store

LARGE = 2 << 20
PATIENCE = 30.0
NAMES = ["data/a.bin", "data/b.bin", "data/c.bin"]

GATES = """\
import os, threading, time
from tensortime import fsops

gate, free, real = os.environ["GATE"], int(os.environ["FREE"]), fsops.copy_bytes

def copy(source, target, size, hasher, advance, **options):
    global free
    free -= 1
    if threading.current_thread().name == "tensortime-backlog" and free < 0:
        open(gate + ".reached", "w").close()
        while not os.path.exists(gate):
            advance(0)
            time.sleep(0.01)
    return real(source, target, size, hasher, advance, **options)

def wait_for(end):
    while not os.path.exists(gate + end):
        time.sleep(0.01)

fsops.copy_bytes = copy
"""
"""Imported by a training: the background stands still before large file number FREE, until there is a file GATE."""

TRAIN = """\
import os, sys, gates
from tensortime import TimeMachine
tm = TimeMachine(exp_dir="x")
tm.backup(wait=False)
gates.wait_for(".reached")
print("trained", flush=True)
"""


class Training:
    """A project, and a script that backs it up and trains."""

    def __init__(self, base: Path) -> None:
        self.tree = Tree(base / "p")
        for name in NAMES:
            self.tree.file(name, size=LARGE)
        self.gate = base / "gate"
        Tree(base / "lib").file("gates.py", GATES.encode())
        self.variables = {
            "PYTHONPATH": f"{PACKAGE}:{base / 'lib'}",
            "GATE": str(self.gate),
            "FREE": "0",
        }

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.tree.root

    def start(self, end: str = "", free: int = 0) -> "subprocess.Popen[str]":
        """Start it without a terminal; returns once it has trained and the gate holds back a file."""
        self.tree.file("train.py", (TRAIN + end).encode())
        process = subprocess.Popen(
            [sys.executable, "train.py"],
            cwd=self.root,
            env={**os.environ, **self.variables, "FREE": str(free)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "trained\n"
        return process

    def sign(self, end: str = "") -> Path:
        """A file by which test and script tell each other something."""
        return self.gate.parent / (self.gate.name + end)

    def status(self) -> tuple[str, list[str]]:
        """The experiment's status, and what it says is missing."""
        shown = api.show("x", directory=self.root)
        rows = shown.run["skipped"]
        assert isinstance(rows, list)
        return shown.experiment.status, [row["path"] for row in rows]


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """One that has not begun."""
    return Training(tmp_path)


def wait_until(true: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- the exit of the interpreter


@pytest.mark.parametrize(("end", "code"), [("", 0), ("sys.exit(7)\n", 7), ("1 / 0\n", 1)])
def test_k14_the_exit_waits(training: Training, tmp_path: Path, end: str, code: int) -> None:
    """K14: a script that ends, however, ends when its backup is whole; its exit code is its own."""
    process = training.start(end)
    assert training.status() == ("pending", NAMES)
    waiting = (
        ">> tensortime: the backup is not whole yet, large files to store: 3 (6.3 MB); Ctrl-C ends that\n"
    )
    if code == 0:  # in a log, who has to wait is told why
        stream = process.stderr
        assert stream is not None
        wait_until(lambda: stream.readline() == waiting)
    training.gate.touch()
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "x is whole: 3 files, 6.3 MB stored in the background" in said
    assert said.count("Traceback") == (code == 1)
    assert training.status() == ("done", [])
    api.restore("x", tmp_path / "back", directory=training.root)
    assert_same_tree(training.root, tmp_path / "back")


def test_on_a_terminal_the_exit_shows_progress(training: Training) -> None:
    """A bar, which goes when all is stored."""
    training.tree.file("train.py", TRAIN.encode())
    child = spawn("train.py", cwd=training.root, variables=training.variables)
    child.expect("not whole yet, large files to store: 3")
    child.expect(r"storing \[ +\]   0% of 6.3 MB")
    training.gate.touch()
    child.expect("\r\x1b\\[K")
    child.expect("x is whole")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert training.status() == ("done", [])


def test_ctrl_c_at_exit_says_what_is_missing(training: Training, tmp_path: Path) -> None:
    """One line, no traceback; what was stored by then is kept, and the command that it names completes it."""
    training.tree.file("train.py", TRAIN.encode())
    child = spawn("train.py", cwd=training.root, columns=200, variables={**training.variables, "FREE": "1"})
    child.expect("storing ")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    said = (child.before or "").split("\x1b[K")[-1].strip()
    command = "tensortime backup --name x --add data/b.bin --add data/c.bin"
    assert said == (
        ">> tensortime: x is pending: 2 files, 4.2 MB are missing (data/b.bin, data/c.bin); "
        f"{command} stores what is there then"
    )
    assert training.status() == ("pending", NAMES[1:])
    assert run_cli(*command.split()[1:], cwd=training.root).returncode == 0
    assert training.status() == ("done", [])
    api.restore("x", tmp_path / "back", directory=training.root)
    assert_same_tree(training.root, tmp_path / "back")


# --- ends without an exit


def test_a_process_that_dies_leaves_a_pending_backup(training: Training, tmp_path: Path) -> None:
    """kill -9: what it has comes back, what it lacks is named, nothing is damaged, and --add completes it."""
    process = training.start(free=1)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert training.status() == ("pending", NAMES)
    assert not maintenance.verify(read_data="all", directory=training.root).problems
    shown = run_cli("show", "x", cwd=training.root)
    assert shown.returncode == 3
    assert "data/a.bin" in shown.stdout
    assert "tensortime backup --add stores it" in " ".join(shown.stdout.split())
    restored = run_cli("restore", "x", str(tmp_path / "back"), cwd=training.root)
    assert restored.returncode == 3
    assert all(name in restored.stdout + restored.stderr for name in NAMES)
    assert maintenance.gc(directory=training.root).objects == 1
    assert run_cli("backup", "--name", "x", "--add", "data", cwd=training.root).returncode == 0
    assert training.status() == ("done", [])
    assert not maintenance.verify(read_data="all", directory=training.root).problems


def test_os_exit_is_such_an_end(training: Training) -> None:
    """Nothing runs at such an exit, so nothing is waited for."""
    process = training.start("os._exit(3)\n")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert training.status() == ("pending", NAMES)


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.long)])
def test_killed_anywhere_it_is_pending_or_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally, step: int
) -> None:
    """kill -9 before files that the background opens, renames or removes, and programs that it starts."""
    for number in range(1, 300, step):
        tree = Tree(tmp_path / str(number)).file("train.py", b"1").file("data/a.bin", size=LARGE)
        tree.file("data/b.bin", size=LARGE)
        monkeypatch.chdir(tree.root)
        child = os.fork()
        if child == 0:
            die_at(number)
        _, ended = os.waitpid(child, 0)
        (one,) = api.log().experiments
        assert (one.status, one.files) in (("pending", 1), ("done", 3))
        assert not maintenance.verify(read_data="all").problems
        if os.waitstatus_to_exitcode(ended) == 0:
            break
        assert os.waitstatus_to_exitcode(ended) == -signal.SIGKILL
    assert one.status == "done"
    assert number > 20
    tally("kills", number // step)


def die_at(number: int) -> None:
    """In a child: make a backup, and be killed before so many things that its background does; 0 where all was done."""
    done = 0

    def count(event: str, _: object) -> None:
        nonlocal done
        if threading.current_thread().name == "tensortime-backlog":
            counts = event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "subprocess.Popen")
            done += counts
            if counts and done == number:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        sys.addaudithook(count)
        tm = TimeMachine(exp_dir="x")
        tm.backup(wait=False)
        assert tm._aftermath is not None
        tm._aftermath.wait()
        os._exit(0)
    finally:
        os._exit(1)


# --- forks


FORK = """\
child = os.fork()
if child == 0:
    open(gates.gate + ".child", "w").close()
    gates.wait_for(".end")
    tm = None
    sys.exit(0)
"""


def test_c08_a_child_keeps_no_lock_alive(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """C08: the process is killed, a child that it had forked (a DataLoader's worker) lives on: gc need not wait."""
    monkeypatch.setattr(prune, "LOCK_WAIT", 0.1)
    process = training.start(FORK)
    wait_until(training.sign(".child").exists)
    with pytest.raises(StoreBusy, match="is in use by"):
        maintenance.gc(directory=training.root)
    process.kill()
    process.wait(PATIENCE)
    try:
        maintenance.gc(directory=training.root)
        assert training.status() == ("pending", NAMES)
    finally:
        training.sign(".end").touch()
        process.communicate(timeout=PATIENCE)


def test_a_child_that_lets_go_takes_nothing_away(tmp_path: Path) -> None:
    """What a child has a copy of, it may end like its parent would: lock and staging folder are the parent's."""
    store = create_store(str(tmp_path / "store"))
    held = contextlib.ExitStack()
    held.enter_context(store.in_use())
    staging = held.enter_context(store.staging())
    child = os.fork()
    if child == 0:
        held.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.path.isdir(staging)
    with fsops.locked(store.path(".lock")) as alone:
        assert not alone
    held.close()
    assert not os.path.exists(staging)


def test_a_child_that_ends_takes_nothing_with_it(training: Training) -> None:
    """A child that ends, with all that Python does then, waits for nothing and leaves the parent's files alone."""
    process = training.start(FORK + "os.waitpid(child, 0)\nopen(gates.gate + '.ended', 'w').close()\n")
    training.sign(".end").touch()
    wait_until(training.sign(".ended").exists)
    assert [one for one in (training.root / "tensortime/.tmp").iterdir() if one.is_dir()]
    training.gate.touch()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert training.status() == ("done", [])


def test_workers_of_a_pool_are_unaffected(training: Training) -> None:
    """A pool that is forked meanwhile works, its workers back nothing up, and the backup becomes whole."""
    process = training.start(
        "import multiprocessing\n"
        "def work(_): return tm.backup(wait=False).experiment\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    print(pool.map(work, range(4)), flush=True)\n"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "[None, None, None, None]\n"
    training.gate.touch()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert training.status() == ("done", [])
    assert len(api.log(directory=training.root).experiments) == 1

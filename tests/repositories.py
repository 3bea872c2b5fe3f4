"""The user's own repositories in tests, and the watch over what a look at them leaves behind."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import user_git

import tensortime
from tensortime.repository import user_repository

PACKAGE = str(Path(tensortime.__file__).resolve().parent.parent)
CANARY = "canary0f5a1d"


def git(folder: Path | bytes, *words: str) -> str:
    """The user's own git, which may clone from a folder: submodules come from there."""
    return user_git("-c", "protocol.file.allow=always", *words, cwd=folder).strip()


def make_repository(folder: Path) -> Path:
    """A repository with one commit of one file."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q")
    (folder / "train.py").write_text("lr = 1\n")
    git(folder, "add", "train.py")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file under a folder: mode, time of change, bytes. Folders with their times too."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        found[str(path.relative_to(folder))] = (info.st_mode, info.st_mtime_ns, data)
    return found


def children() -> set[str]:
    """The processes that this one has started and that are not gone, zombies included."""
    found: set[str] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(task.read_text().split())
    return found


def python(code: str, *words: str, **changes: str) -> str:
    """Run a program of its own; its stdout, and stderr must be empty."""
    program = f"import sys; sys.path.insert(0, {PACKAGE!r})\n" + code
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, **changes},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def known(folder: Path | str) -> dict[str, Any]:
    """The facts of a repository that must be there."""
    facts = user_repository(str(folder))
    assert facts is not None
    assert json.loads(json.dumps(facts)) == facts
    return facts


def wait_until(question: Callable[[], bool]) -> None:
    """Wait for what must happen soon."""
    end = time.monotonic() + 10
    while not question():
        assert time.monotonic() < end
        time.sleep(0.005)


@contextlib.contextmanager
def watched_home(folder: Path) -> Iterator[Path]:
    """A home of its own; at the end threads, processes, descriptors, environment and signals are as before."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("cannot be installed: Linux's /proc")
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        before = process_state()
        yield folder
        end = time.monotonic() + 5
        while process_state() != before and time.monotonic() < end:
            time.sleep(0.01)
        assert process_state() == before


def process_state() -> tuple[object, ...]:
    """What a backup may not change of the process it runs in."""
    # SIGALRM belongs to the time limit of the tests.
    numbers = signal.valid_signals() - {signal.SIGALRM}
    return (
        sorted(thread.name for thread in threading.enumerate()),
        children(),
        len(os.listdir("/proc/self/fd")),
        {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        os.getcwd(),
        {number: signal.getsignal(number) for number in numbers},
    )


def is_alive(pid: str) -> bool:
    """Whether a process runs: one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""What run.json says of a run: the command, the machine, and git's facts in time. CASES E06, E09."""

import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from repositories import git, is_alive, known, make_repository, python, wait_until, watched_home

from tensortime import collector, environment
from tensortime import repository as repository_module
from tensortime.collector import start_collecting
from tensortime.environment import describe_run, host_id
from tensortime.formats import bytes_of
from tensortime.repository import NOT_IN_TIME, GitCalls, user_repository


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[Path]:
    """Every test ends as it began, in a home of its own."""
    with watched_home(tmp_path / "home") as folder:
        yield folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository with one commit."""
    return make_repository(tmp_path / "user")


def test_the_command_is_the_one_that_was_typed() -> None:
    """sys.orig_argv: with the interpreter and its options, which sys.argv has lost."""
    code = (
        "import json; from tensortime.environment import describe_run; "
        "from tensortime.interpreter import this_interpreter; "
        "print(json.dumps({**describe_run(), 'python': this_interpreter().facts}))"
    )
    facts = json.loads(python(code, "--lr", "3e-4", "实验"))
    assert facts["command"][0] == sys.executable
    assert facts["command"][1] == "-c"
    assert facts["command"][-3:] == ["--lr", "3e-4", "实验"]
    assert facts["python"] == {
        "version": ".".join(map(str, sys.version_info[:3])),
        "implementation": "cpython",
        "executable": sys.executable,
        "prefix": sys.prefix,
        "source": "this process",
    }


def test_a_command_in_an_ascii_locale() -> None:
    """E06: the same text under LC_ALL=C, and bytes that are no UTF-8 survive."""
    code = "import json; from tensortime.environment import describe_run; print(json.dumps(describe_run()['command']))"
    changes = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = json.loads(python(code, "实验", os.fsdecode(b"\xff"), **changes))
    assert [bytes_of(word) for word in command[-2:]] == ["实验".encode(), b"\xff"]


def test_a_deleted_current_folder(tmp_path: Path) -> None:
    """E09: no current folder is None, not an exception; git is still asked."""
    repository = make_repository(tmp_path / "r")
    (tmp_path / "gone").mkdir()
    code = (
        "import os; os.chdir(sys.argv[2]); os.rmdir(sys.argv[2]);"
        "from tensortime.collector import start_collecting; facts = start_collecting(sys.argv[1]).finish(30)[0];"
        "print(facts['cwd'], facts['git']['branch'], facts['git'].get('error'))"
    )
    assert python(code, str(repository), str(tmp_path / "gone")) == "None main None\n"


def test_describing_a_run_takes_no_time() -> None:
    """It runs at the start of every backup: far below a millisecond."""
    describe_run()
    times = []
    for _ in range(20):
        start = time.perf_counter()
        describe_run(["python", "train.py", *(f"--option-{n}=value" for n in range(50))])
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005


def test_the_host_keeps_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 hex digits of the machine id, which itself is not shown; without one, of the name."""
    assert re.fullmatch("[0-9a-f]{16}", host_id())
    assert host_id() == python("from tensortime.environment import host_id; print(host_id())").strip()
    file = tmp_path / "machine-id"
    monkeypatch.setattr(environment, "MACHINE_IDS", (str(tmp_path / "none"), str(file)))
    without = host_id()
    file.write_text("uninitialized\n")
    assert host_id() == without
    file.write_text("0123456789abcdef0123456789abcdef\n")
    assert host_id() != without
    assert host_id() not in file.read_text()


# --- collecting


def test_collecting_gives_the_whole_of_it(repository: Path, tmp_path: Path) -> None:
    """The run and the repository, ready for run.json; finish may be called again."""
    collector = start_collecting(str(repository), argv=["python", "train.py"])
    facts, files = collector.finish(30)
    always = {"command", "cwd", "python", "platform", "host", "pid", "machine", "git"}
    assert always <= set(facts) <= {*always, "environment", "launch"}
    assert set(files) == {b"packages.txt"}
    assert facts["command"] == ["python", "train.py"]
    assert facts["git"] == user_repository(str(repository))
    assert collector.finish(0) == (facts, files)
    assert start_collecting(str(tmp_path)).finish(30)[0]["git"] is None
    json.dumps(facts)


def test_a_finished_answer_costs_no_wait(repository: Path) -> None:
    """Once the files are in, the facts are there."""
    collector = start_collecting(str(repository))
    wait_until(lambda: threading.active_count() == 1)
    start = time.perf_counter()
    assert "error" not in collector.finish(1)[0]["git"]
    assert time.perf_counter() - start < 0.2


# --- a git that does not answer in time


@pytest.fixture(params=["git", "a child of git"])
def slow_git(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[], bool]]:
    """A git whose `status` hangs, by itself or in a process of its own; tells whether that is still there."""
    folder, real = tmp_path / "slow", shutil.which("git")
    folder.mkdir()
    mark = tmp_path / "pid"
    hang = f"echo $$ > {mark}; exec sleep 60"
    if request.param != "git":
        hang = f"sleep 60 & echo $! > {mark}; wait"
    (folder / "git").write_text(
        f'#!/bin/sh\nfor word; do if [ "$word" = status ]; then {hang}; fi; done\nexec {real} "$@"\n'
    )
    (folder / "git").chmod(0o755)

    def is_running() -> bool:
        pid = mark.read_text().strip() if mark.exists() else ""
        return bool(pid) and is_alive(pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield is_running


def test_what_git_cannot_tell_in_time(repository: Path, slow_git: Callable[[], bool]) -> None:
    """The backup goes on with what the files told, git is ended, and its thread ends by itself."""
    head = git(repository, "rev-parse", "HEAD") if not slow_git() else ""
    collector = start_collecting(str(repository))
    wait_until(slow_git)
    start = time.perf_counter()
    facts = collector.finish(0.05)[0]["git"]
    assert time.perf_counter() - start < 1
    assert facts["error"] == "not known in time"
    assert (facts["head"], facts["branch"], facts["dirty"]) == (head, "main", None)
    wait_until(lambda: not slow_git())
    wait_until(lambda: threading.active_count() == 1)


def test_a_cancelled_backup_ends_its_git(repository: Path, slow_git: Callable[[], bool]) -> None:
    """After Ctrl-C or a full disk nobody waits for facts."""
    collector = start_collecting(str(repository))
    wait_until(slow_git)
    collector.cancel()
    collector.cancel()
    wait_until(lambda: not slow_git())


def test_git_is_given_up_without_anybody_asking(
    repository: Path, slow_git: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The direct call has a limit of its own, and keeps what it knew before."""
    git(repository, "remote", "add", "origin", "../o")
    calls = GitCalls(seconds=2)
    monkeypatch.setattr(repository_module, "GitCalls", lambda: calls)
    facts = known(repository)
    assert (facts["error"], facts["remotes"]) == ("not known in time", {"origin": "../o"})
    assert not slow_git()


def test_where_no_thread_can_start(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of processes, or while Python ends: facts without git, no exception."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        facts, _ = start_collecting(str(repository)).finish(1)
    assert facts["git"] == {"error": "can't start new thread"}
    assert facts["cwd"] == os.getcwd()


def test_packages_that_are_read_slowly_keep_no_training_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be ended is not waited for beyond the 30 ms: it ends by itself beside the training."""
    go_on = threading.Event()

    def slowly(_: object) -> list[object]:
        go_on.wait(30)
        return []

    monkeypatch.setattr(collector, "installed", slowly)
    begun = start_collecting(str(tmp_path))
    started = time.monotonic()
    facts, files = begun.finish(0.03)
    begun.close()
    seconds = time.monotonic() - started
    go_on.set()
    assert seconds < 0.25
    assert facts["packages"] == {"error": NOT_IN_TIME}
    assert files == {}

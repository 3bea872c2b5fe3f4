"""tm.record(): appended by the training, cheap, by one process of a launch, and never a reason to stop."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import Tree

import tensortime
from tensortime import TimeMachine, api, recorder, records
from tensortime.errors import StoreUnusable, TensorTimeError, UnknownPath
from tensortime.recorder import Recorder

PACKAGE = str(Path(tensortime.__file__).parent.parent)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that is the current folder."""
    Tree(tmp_path / "p").file("train.py", b"1\n")
    monkeypatch.chdir(tmp_path / "p")
    return tmp_path / "p"


def lines(project: Path, name: str) -> list[dict[str, Any]]:
    """What an experiment has appended."""
    path = project / "tensortime/.records" / name / "records.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def trained(project: Path, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A training in a process of its own."""
    (project / "train.py").write_text(program)
    return subprocess.run(
        [sys.executable, "train.py"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": PACKAGE, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_each_call_is_a_line_at_once(project: Path) -> None:
    """With the time, the step where it is given, and the values; the last ones show in `log` before any backup."""
    tm = TimeMachine(exp_dir="x")
    tm.backup()
    tm.record(loss=0.5, step=1)
    tm.record(loss=0.25, acc=1, step=2, self="me")
    found = lines(project, "x")
    assert [{key: value for key, value in one.items() if key != "time"} for one in found] == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.25, "acc": 1, "self": "me"},
    ]
    assert all(len(one["time"]) == len("2026-11-23T09:41:30.125+01:00") for one in found)
    [shown] = api.log(directory=project).experiments
    assert shown.metrics == {"loss": 0.25, "acc": 1, "self": "me"}


def test_before_the_first_backup_it_is_held(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No store is made for it; the first backup lets it go to the experiment; of too many the last are kept."""
    monkeypatch.setattr(recorder, "MOST_WAITING", 3)
    tm = TimeMachine(exp_dir="x")
    for step in range(5):
        tm.record(loss=step)
    assert not (project / "tensortime").exists()
    tm.backup()
    tm.record(loss=9)
    assert [one["loss"] for one in lines(project, "x")] == [2, 3, 4, 9]


def test_a_name_that_was_taken(project: Path) -> None:
    """What is recorded goes to the experiment that it became."""
    api.backup(directory=project, name="x")
    tm = TimeMachine(exp_dir="x")
    tm.record(loss=1)
    tm.backup()
    assert (len(lines(project, "x")), len(lines(project, "x-2"))) == (0, 1)


def test_values_are_recorded_as_params_are(project: Path) -> None:
    """Numbers of NumPy and torch as numbers, nan as text, secrets not at all."""
    tm = TimeMachine(exp_dir="x")
    tm.backup()
    scalar = SimpleNamespace(item=lambda: 0.5)
    tm.record(
        loss=scalar,
        bad=float("nan"),
        api_key="abcdefgh",
        tags={"a"},
        step=SimpleNamespace(item=lambda: 3),
    )
    [found] = lines(project, "x")
    del found["time"]
    assert found == {"step": 3, "loss": 0.5, "bad": "nan", "api_key": "***", "tags": ["a"]}


@pytest.mark.parametrize(
    ("positional", "named"),
    [((), {}), ((), {"step": 3}), ((0.1,), {}), (({"loss": 1},), {}), ((), {"time": 3})],
    ids=["nothing", "only a step", "a number", "a mapping", "a time"],
)
def test_a_wrong_call_is_a_type_error(positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Also where nothing would be recorded: it is seen on the first try."""
    with pytest.raises(TypeError):
        TimeMachine().record(*positional, **named)


def test_an_experiment_begun_elsewhere(project: Path) -> None:
    """With TENSORTIME_EXPERIMENT it is appended to that one at once, without a backup of our own."""
    api.backup(directory=project, name="job")
    done = trained(
        project,
        "from tensortime import TimeMachine\nTimeMachine().record(loss=1)\n",
        TENSORTIME_EXPERIMENT="job",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [one["loss"] for one in lines(project, "job")] == [1]


def test_what_is_never_kept_is_said(project: Path) -> None:
    """A program that records and makes no backup is told at its end."""
    done = trained(
        project, "from tensortime import TimeMachine\ntm = TimeMachine()\nfor n in 1, 2: tm.record(loss=n)\n"
    )
    assert (done.returncode, done.stderr) == (
        0,
        ">> tensortime: records that are lost, as no backup was made: 2\n",
    )


def test_one_process_records(project: Path) -> None:
    """A forked child, another rank and TENSORTIME=off record nothing and say nothing."""
    program = (
        "import os\nfrom tensortime import TimeMachine\ntm = TimeMachine(exp_dir='x')\ntm.backup()\ntm.record(loss=1)\n"
        "if os.fork() == 0:\n    tm.record(loss=2)\n    raise SystemExit\n"
        "os.wait()\ntm.record(loss=3)\n"
    )
    assert trained(project, program).returncode == 0
    assert [one["loss"] for one in lines(project, "x")] == [1, 3]
    program = "from tensortime import TimeMachine\nTimeMachine().record(loss=2)\n"
    for variables in ({"RANK": "1"}, {"TENSORTIME": "off"}):
        done = trained(project, program, TENSORTIME_EXPERIMENT="x", **variables)
        assert (done.returncode, done.stderr) == (0, "")
    assert len(lines(project, "x")) == 2


def test_two_processes_and_threads_append_whole_lines(
    project: Path, tally: Callable[[str, int], None]
) -> None:
    """Nobody's line is cut by another's."""
    api.backup(directory=project, name="x")
    program = (
        "import threading\nfrom tensortime import TimeMachine\ntm = TimeMachine()\n"
        "def work(me):\n    for n in range(300): tm.record(text=me * 200, n=n)\n"
        "threads = [threading.Thread(target=work, args=(me,)) for me in 'ab']\n"
        "[one.start() for one in threads]; [one.join() for one in threads]\n"
    )
    environment = {**os.environ, "PYTHONPATH": PACKAGE, "TENSORTIME_EXPERIMENT": "x"}
    running = [
        subprocess.Popen([sys.executable, "-c", program], cwd=project, env=environment) for _ in range(2)
    ]
    assert [one.wait(60) for one in running] == [0, 0]
    found = lines(project, "x")
    assert len(found) == 1200 and {len(one["text"]) for one in found} == {200}
    tally("records appended at once", len(found))


def test_a_killed_training_leaves_what_it_recorded(project: Path) -> None:
    """kill -9: every line up to then is there, shows in `log`, and is committed by whoever adds to the experiment."""
    program = (
        "import os, signal\nfrom tensortime import TimeMachine\ntm = TimeMachine(exp_dir='x')\ntm.backup()\n"
        "for n in range(100): tm.record(loss=n)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert trained(project, program).returncode == -signal.SIGKILL
    assert api.log(directory=project).experiments[0].metrics == {"loss": 99}
    api.backup(directory=project, add=["train.py"])
    data, _ = api.read_file("x", ".tensortime/records/records.jsonl", directory=project)
    assert (data or b"").count(b"\n") == 100


def test_backups_beside_a_recording_training(project: Path, tally: Callable[[str, int], None]) -> None:
    """Each commits whole lines from the first on, however the training goes on meanwhile, and is killed at last."""
    api.backup(directory=project, name="x")
    program = (
        "import itertools, time\nfrom tensortime import TimeMachine\ntm = TimeMachine()\n"
        "for n in itertools.count(): tm.record(n=n, text='x' * (n % 300)) or time.sleep(0.0002)\n"
    )
    environment = {**os.environ, "PYTHONPATH": PACKAGE, "TENSORTIME_EXPERIMENT": "x"}
    seen = 0
    with subprocess.Popen([sys.executable, "-c", program], cwd=project, env=environment) as training:
        try:
            while seen < 3:
                report = api.backup(directory=project, name="x", add=["train.py"])
                try:
                    where = f"x:{report.number}", ".tensortime/records/records.jsonl"
                    data, _ = api.read_file(*where, directory=project)
                except UnknownPath:
                    continue  # it has not begun yet
                numbers = [json.loads(line)["n"] for line in (data or b"").splitlines()]
                assert numbers == list(range(len(numbers)))
                seen += 1
        finally:
            training.kill()
    assert [one["n"] for one in lines(project, "x")] == list(range(len(lines(project, "x"))))
    tally("backups beside a recording training", seen)


def test_a_failure_is_said_once_and_training_goes_on(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A full disk, a store that is gone: one line; with strict an error."""
    tm = TimeMachine(exp_dir="x")
    tm.backup()
    tm.record(loss=1)
    capfd.readouterr()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", full)
        tm.record(loss=2)
        tm.record(loss=3)
        said = capfd.readouterr().err
        assert said.count("\n") == 1 and "NOT recorded" in said and "No space left" in said
        tm.strict = True
        with pytest.raises(TensorTimeError):
            tm.record(loss=4)
    tm.record(loss=5)
    assert [one["loss"] for one in lines(project, "x")] == [1, 5]


def test_a_line_cut_by_a_full_disk_ends_before_the_next(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that record is lost."""
    tm = TimeMachine(exp_dir="x")
    tm.backup()
    real = os.write
    with monkeypatch.context() as broken:
        tm.record(loss=1)
        broken.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
        tm.record(loss=2)
    tm.record(loss=3)
    path = project / "tensortime/.records/x/records.jsonl"
    assert [json.loads(line)["loss"] for line in path.read_bytes().splitlines() if line.endswith(b"}")] == [
        1,
        3,
    ]
    assert api.log(directory=project).experiments[0].metrics == {"loss": 3}


def test_a_record_that_is_data_is_refused(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A megabyte in one line belongs into a file."""
    tm = TimeMachine(exp_dir="x")
    tm.backup()
    tm.record(loss=list(range(300_000)))
    assert "too long" in capfd.readouterr().err
    assert lines(project, "x") == []


def test_an_experiment_that_was_removed_meanwhile(project: Path) -> None:
    """Its records go with it into the trash; what is recorded after the next backup goes to the new one."""
    tm = TimeMachine(exp_dir="x")
    tm.backup()
    tm.record(loss=1)
    tensortime.rm(["x"], directory=project)
    tm.record(loss=2)
    tm.backup(add=["train.py"])
    tm.record(loss=3)
    assert [one["loss"] for one in lines(project, "x")] == [3]
    tensortime.undelete(["x"], directory=project)
    assert [one["loss"] for one in lines(project, "x-2")] == [1, 2]


def test_recording_waits_for_no_backup(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that backs up for minutes holds no loop back, also before there is an experiment."""
    tm = TimeMachine(exp_dir="x")
    started, may_end = threading.Event(), threading.Event()
    real = api.backup

    def slow(**options: Any) -> object:
        started.set()
        assert may_end.wait(30)
        return real(**options)

    monkeypatch.setattr(api, "backup", slow)
    backing_up = threading.Thread(target=tm.backup)
    backing_up.start()
    assert started.wait(30)
    recording = threading.Thread(target=tm.record, kwargs={"loss": 1})
    recording.start()
    recording.join(10)
    assert not recording.is_alive()
    may_end.set()
    backing_up.join(30)
    assert [one["loss"] for one in lines(project, "x")] == [1]


def test_a_store_that_cannot_be_written(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With strict the error says where."""
    tm = TimeMachine(exp_dir="x", strict=True)
    tm.backup()
    (project / "tensortime/.records").write_bytes(b"in the way")
    with pytest.raises(StoreUnusable):
        tm.record(loss=1)


def test_what_was_held_and_finds_no_room_is_counted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes only part of it: the line after that is whole, and the others count as lost."""
    own, real = Recorder(), os.write
    for step in range(3):
        own.record({"step": step})
    (project / "tensortime").mkdir()
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    own.attach(str(project / "tensortime"), "x")
    monkeypatch.undo()
    own.record({"step": 3})
    path = project / "tensortime/.records/x/records.jsonl"
    whole = [line for line in path.read_bytes().split(b"\n") if line.endswith(b"}")]
    assert [json.loads(line)["step"] for line in whole] == [0, 3]
    assert own.missing == 2


def test_the_number_of_a_records_file_is_never_that_of_another(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While records move to another experiment, a thread that is about to write must not meet a file of the program."""
    (project / "tensortime").mkdir()
    own, real, opened = Recorder(), records.open_records, list[int]()
    own.attach(str(project / "tensortime"), "x")
    before = own._fd

    def beside(*place: str) -> int:
        opened.append(os.open("train.py", os.O_RDWR))
        return real(*place)

    monkeypatch.setattr(recorder, "open_records", beside)
    own.attach(str(project / "tensortime"), "y")
    assert opened != [before] and own._fd == before
    os.close(opened[0])
    own.record({"loss": 1})
    assert [len(lines(project, name)) for name in "xy"] == [0, 1]

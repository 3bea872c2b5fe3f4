"""TimeMachine in one process: 0.1.0's calls, experiments, wrong calls, and failures that must not stop a training."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import Tree, assert_same_tree, snapshot_of

import tensortime
from tensortime import TimeMachine, api, fsops
from tensortime.errors import (
    BadConfig,
    BadName,
    ForeignFolder,
    NoGit,
    NoSpace,
    NotAProject,
    StoreUnusable,
    TensorTimeError,
    UsageError,
)
from tensortime.whereabouts import start_folder

PACKAGE = str(Path(tensortime.__file__).parent.parent)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """A small project that is the current folder; the running script (pytest) belongs to no project."""
    tree = (
        Tree(tmp_path / "p")
        .file("train.py", b"print(1)\n")
        .file("data/a.csv", b"1,2\n")
        .file("out/w.bin", b"w")
    )
    monkeypatch.chdir(tree.root)
    return tree


def names(tree: Tree, store: str | None = None) -> list[str]:
    """The experiments of a project, oldest first."""
    return [str(one.name) for one in reversed(api.log(directory=tree.root, store=store).experiments)]


def paths(tree: Tree, experiment: str) -> set[bytes]:
    """The files that come back for an experiment."""
    report = api.restore(
        experiment, tree.root.parent / f"back-{experiment.replace(':', '-')}", directory=tree.root
    )
    found = snapshot_of(report.path, exclude=[".git", ".tensortime"])
    return {path for path, entry in found.items() if entry.kind == "file"}


# --- the calls of 0.1.0


def test_the_three_parameters_by_position(project: Tree) -> None:
    """TimeMachine(backup_dir, exp_dir, exp_suffix) and backup(ignore, add), as scripts for 0.1.0 call them."""
    tm = TimeMachine("saved", "first", "a note")
    report = tm.backup(["data"])
    assert (report.experiment, report.note, report.store) == ("first", "a note", str(project.root / "saved"))
    assert (report.files, [one.path for one in report.ignored]) == (2, ["data"])
    added = tm.backup(None, ["data"])
    assert (added.experiment, added.number, added.files) == ("first", 2, 3)
    assert names(project, "saved") == ["first"]


def test_the_three_parameters_by_keyword(project: Tree) -> None:
    """The same by name, with paths and tuples where 0.1.0 took strings and lists."""
    tm = TimeMachine(backup_dir=Path("saved"), exp_dir="first", exp_suffix="a note")
    assert tm.backup(ignore=(Path("data"), "*.bin"), add=None).files == 1
    assert tm.backup(add=(Path("data/a.csv"),)).files == 2
    assert not (project.root / "tensortime").exists()


def test_a_bare_time_machine(project: Tree) -> None:
    """Without parameters: named by time, stored in tensortime/, and everything comes back."""
    report = TimeMachine().backup()
    assert report.experiment is not None
    assert len(report.experiment) == len("2026-11-23_09-36-04")
    restored = api.restore("@", directory=project.root)
    assert_same_tree(project.root, restored.path)


def test_the_note_makes_the_name(project: Tree) -> None:
    """exp_suffix goes behind the time, and is kept verbatim beside it."""
    report = TimeMachine(exp_suffix="lr 3e-4 / 大").backup()
    assert str(report.experiment).endswith("-lr-3e-4-大")
    assert api.show("@").experiment.note == "lr 3e-4 / 大"


# --- one object is one experiment


def test_the_first_backup_starts_and_the_later_ones_add(project: Tree) -> None:
    """backup() twice on one object is one experiment with two backups; another object is another experiment."""
    tm = TimeMachine(exp_dir="x", exp_suffix="n")
    assert tm.backup().number == 1
    project.file("train.py", b"print(22)\n")
    assert (tm.backup(params={"lr": 1}).number, tm.experiment) == (2, "x")
    other = TimeMachine(exp_dir="x", exp_suffix="n")
    assert other.backup().experiment == "x-2"
    assert other.backup(note="better").experiment == "x-2"
    assert names(project) == ["x", "x-2"]
    assert api.show("x:1").experiment.params == {}
    assert api.show("x:2").experiment.params == {"lr": 1}
    assert (api.show("x-2:1").experiment.note, api.show("x-2").experiment.note) == ("n", "better")


def test_a_taken_name_is_said(project: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """x becomes x-2 in another case too, with one line about it."""
    TimeMachine(exp_dir="x").backup()
    capsys.readouterr()
    assert TimeMachine(exp_dir="X").backup().experiment == "X-2"
    assert ">> tensortime: the name X is taken: this is X-2\n" in capsys.readouterr().err


def test_add_first_joins_the_experiment_of_that_name(project: Tree) -> None:
    """A second script that only adds its weights: they land on top of the experiment called exp_dir."""
    TimeMachine(exp_dir="x").backup(ignore=["out"])
    report = TimeMachine(exp_dir="x").backup(add=["out/w.bin"])
    assert (report.experiment, report.number) == ("x", 2)
    assert paths(project, "x:1") == {b"train.py", b"data/a.csv"}
    assert paths(project, "x:2") == {b"train.py", b"data/a.csv", b"out/w.bin"}


def test_add_first_without_such_an_experiment_starts_one(project: Tree) -> None:
    """With an unknown exp_dir, or without one, there is a new experiment with only those paths."""
    TimeMachine(exp_dir="old").backup()
    named, unnamed = TimeMachine(exp_dir="new"), TimeMachine(exp_suffix="some")
    assert named.backup(add=["out"]).experiment == "new"
    report = unnamed.backup(add=["out"])
    assert report.number == 1
    assert report.experiment not in ("old", "new")
    assert paths(project, "new") == paths(project, str(report.experiment)) == {b"out/w.bin"}


def test_add_wins_over_ignore(project: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """Both at once: what was named is stored, and a warning says that ignore has no effect."""
    tm = TimeMachine(exp_dir="x")
    tm.backup(["out"])
    tm.backup(["out"], ["out"])
    assert b"out/w.bin" in paths(project, "x:2")
    assert "warning: ignore has no effect together with add" in capsys.readouterr().err


def test_an_experiment_named_by_the_environment_is_joined(
    project: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TENSORTIME_EXPERIMENT: a requeued job goes on in its experiment, whatever exp_dir says."""
    monkeypatch.setenv("TENSORTIME_EXPERIMENT", "job-7")
    assert TimeMachine(exp_dir="x").backup().experiment == "job-7"
    assert TimeMachine().backup().number == 2
    assert names(project) == ["job-7"]


@pytest.mark.parametrize("word", ["off", "0", "OFF", "false"])
def test_switched_off(project: Tree, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """TENSORTIME=off: every call is a no-op and its report says so; nothing is made."""
    monkeypatch.setenv("TENSORTIME", word)
    report = TimeMachine("saved", "x", "n", strict=True).backup()
    assert report.experiment is None
    assert sorted(os.listdir(project.root)) == ["data", "out", "train.py"]


def test_s01_a_wild_name_becomes_a_tame_one(project: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    """S01: what cannot be in a name becomes - in exp_dir, which is said without raw control characters."""
    report = TimeMachine(exp_dir="../lr=\x1b[31m 3e-4\u202e").backup()
    assert report.experiment == "lr=-31m-3e-4"
    said = capsys.readouterr().err
    assert "is not possible everywhere: lr=-31m-3e-4 is used" in said
    assert "\x1b" not in said
    assert "\u202e" not in said


# --- wrong calls


@pytest.mark.parametrize(
    ("made", "called"),
    [
        ({"backup_dir": 7}, {}),
        ({"exp_dir": Path("x")}, {}),
        ({"exp_suffix": 3e-4}, {}),
        ({"strict": "yes"}, {}),
        ({"suffix": "x"}, {}),
        ({}, {"ignore": "data"}),
        ({}, {"ignore": Path("data")}),
        ({}, {"ignore": 7}),
        ({}, {"add": "out"}),
        ({}, {"add": b"out"}),
        ({}, {"add": ["out", None]}),
        ({}, {"note": 7}),
        ({}, {"params": ["lr"]}),
        ({}, {"metrics": 0.5}),
    ],
)
def test_a_wrong_type_always_raises(
    project: Tree, monkeypatch: pytest.MonkeyPatch, made: dict[str, Any], called: dict[str, Any]
) -> None:
    """A caller's mistake shows on every rank, switched off too: not only once the job runs for real."""
    before = snapshot_of(project.root)
    with pytest.raises(TypeError):
        TimeMachine(**made).backup(**called)
    monkeypatch.setenv("TENSORTIME", "off")
    with pytest.raises(TypeError):
        TimeMachine(**made).backup(**called)
    assert snapshot_of(project.root) == before


@pytest.mark.parametrize(
    ("made", "called", "error", "words"),
    [
        ({"exp_dir": ".."}, {}, BadName, "not a possible experiment name"),
        ({"exp_dir": ""}, {}, BadName, "cannot be empty"),
        ({"exp_suffix": "a\0b"}, {}, UsageError, "holds a NUL"),
        ({"exp_suffix": "a\ud800b"}, {}, UsageError, "half a character"),
        ({}, {"add": [""]}, UsageError, "an empty path"),
        ({"backup_dir": ""}, {}, UsageError, "is empty"),
        ({"backup_dir": "data"}, {}, ForeignFolder, "it holds a.csv"),
    ],
)
def test_a_wrong_value_always_raises(
    project: Tree, made: dict[str, Any], called: dict[str, Any], error: type[UsageError], words: str
) -> None:
    """A name, note, path or store that the caller got wrong: raised, strict or not, and nothing is half made."""
    before = snapshot_of(project.root)
    with pytest.raises(error, match=words):
        TimeMachine(**made).backup(**called)
    assert snapshot_of(project.root) == before


# --- failures of the environment


def spoil_disk(project: Tree, patch: pytest.MonkeyPatch) -> None:
    """Not a byte is free. Faked: a full disk cannot be had without mounting one."""
    patch.setattr(fsops, "free_space", lambda _: (0, 1 << 40))


def spoil_path(project: Tree, patch: pytest.MonkeyPatch) -> None:
    """The place of the store cannot be made: it is below a file."""
    patch.setenv("TENSORTIME_STORE", str(project.root / "train.py" / "store"))


def spoil_git(project: Tree, patch: pytest.MonkeyPatch) -> None:
    """There is no git."""
    patch.setenv("PATH", str(project.root))


def spoil_config(project: Tree, patch: pytest.MonkeyPatch) -> None:
    """Somebody is in the middle of editing the configuration."""
    project.file("tensortime.toml", b'ignore = ["da')


def spoil_place(project: Tree, patch: pytest.MonkeyPatch) -> None:
    """The current folder is the home folder."""
    patch.setenv("HOME", str(project.root))


def spoil_folder(project: Tree, patch: pytest.MonkeyPatch) -> None:
    """The folder called tensortime/ is somebody else's. B26."""
    project.file("tensortime/__init__.py", b"")


def spoil_fsync(project: Tree, patch: pytest.MonkeyPatch) -> None:
    """The disk reports an error. Faked: a broken disk cannot be had."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    patch.setattr(fsops, "sync_folder", fail)


FAILURES = [
    (spoil_disk, NoSpace, "no room"),
    (spoil_path, StoreUnusable, "the store"),
    (spoil_git, NoGit, "git"),
    (spoil_config, BadConfig, "tensortime.toml, line 1"),
    (spoil_place, NotAProject, "home folder"),
    (spoil_folder, ForeignFolder, "it holds __init__.py"),
    (spoil_fsync, StoreUnusable, "Input/output error"),
]


@pytest.mark.parametrize(("spoil", "error", "words"), FAILURES)
def test_a_failure_is_one_warning_and_training_goes_on(
    project: Tree,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Tree, pytest.MonkeyPatch], None],
    error: type[TensorTimeError],
    words: str,
) -> None:
    """Disk full, no store, no git, a broken config: one line that says NO BACKUP; with strict the error is raised."""
    spoil(project, monkeypatch)
    before = snapshot_of(project.root, exclude=["tensortime"])
    tm = TimeMachine(exp_dir="x")
    assert tm.backup().experiment is None
    said = [line for line in capsys.readouterr().err.splitlines() if "project" not in line.split()[:3]]
    assert len(said) == 1
    assert said[0].startswith(">> tensortime: NO BACKUP was made: ")
    assert words in said[0]
    assert said[0].endswith("; training goes on")
    with pytest.raises(error):
        TimeMachine(exp_dir="x", strict=True).backup()
    assert snapshot_of(project.root, exclude=["tensortime"]) == before
    monkeypatch.undo()
    monkeypatch.chdir(project.root)
    if spoil not in (spoil_config, spoil_folder):
        assert tm.backup().experiment == "x", "once the cause is gone the same object backs up"


def test_e04_elsewhere_import_works_and_backup_says_why_not(
    project: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """E04: on another system there is one line, training goes on, strict raises. Faked: there is no other system here."""
    monkeypatch.setattr("tensortime.time_machine.sys", SimpleNamespace(**{**vars(sys), "platform": "win32"}))
    assert TimeMachine(exp_dir="x").backup().experiment is None
    assert capsys.readouterr().err == (
        ">> tensortime: NO BACKUP was made: backups work on Linux and macOS only; training goes on\n"
    )
    with pytest.raises(TensorTimeError, match="Linux and macOS"):
        TimeMachine(exp_dir="x", strict=True).backup()


def test_import_loads_nothing_heavy() -> None:
    """`import tensortime` costs nothing; naming TimeMachine still loads neither typer, git, pathspec nor rich."""
    heavy = ["typer", "click", "git", "pathspec", "rich", "blake3", "isal", "asyncio", "subprocess", "json"]
    code = (
        "import sys; import tensortime; first = {m for m in sys.modules if m.startswith('tensortime')}\n"
        "assert first == {'tensortime'}, first\n"
        "from tensortime import TimeMachine; TimeMachine(exp_dir='x')\n"
        f"assert not set({heavy}) & set(sys.modules), set({heavy}) & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": PACKAGE},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_e10_a_script_that_belongs_to_python_is_no_project() -> None:
    """E10: under pytest (as here) or `python -m cProfile` the current folder counts, not where they are installed."""
    assert start_folder() is None


def test_a_suffix_and_a_note_are_both_kept(project: Tree) -> None:
    """The suffix is in the name, by which the experiment is found again; the note is the note."""
    report = TimeMachine(exp_suffix="lr 3e-4").backup(note="the baseline")
    assert str(report.experiment).endswith("-lr-3e-4")
    assert report.note == "the baseline"


def test_params_and_metrics_gather_over_the_backups_of_an_experiment(project: Tree) -> None:
    """The parameters come with the first backup, the results with the last: log shows both."""
    tm = TimeMachine(exp_dir="x")
    tm.backup(params={"lr": 0.1, "seed": 1})
    tm.backup(add=["train.py"], params={"seed": 2}, metrics={"accuracy": 0.9})
    [one] = api.log(directory=project.root).experiments
    assert (one.params, one.metrics) == ({"lr": 0.1, "seed": 2}, {"accuracy": 0.9})


def test_a_note_that_a_person_gives_meanwhile_stays(project: Tree) -> None:
    """`tensortime note` while it trains: the next backup does not bring the old note back; one with note= replaces it."""
    tm = TimeMachine(exp_dir="x", exp_suffix="first thought")
    assert tm.backup().note == "first thought"
    api.note("x", "it diverges", directory=project.root)
    assert tm.backup().note == "it diverges"
    assert tm.backup(add=["out"]).note == "it diverges"
    assert tm.backup(note="in the end it does not").note == "in the end it does not"
    api.note("x", "or does it", directory=project.root)
    assert tm.backup(add=["out"]).note == "or does it"


def test_a_note_waits_for_a_backup_that_succeeds(project: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failed backup was given is told by the next one."""
    tm = TimeMachine(exp_dir="x")
    tm.backup()
    with monkeypatch.context() as patch:
        spoil_disk(project, patch)
        assert tm.backup(note="late").experiment is None
    assert tm.backup().note == "late"


def test_a_name_in_the_environment_that_is_none(
    project: Tree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TENSORTIME_EXPERIMENT="..." stops no training: one warning, and nothing is joined; strict raises."""
    monkeypatch.setenv("TENSORTIME_EXPERIMENT", "...")
    tm = TimeMachine(exp_dir="x")
    assert tm.backup().experiment == "x"
    said = [line for line in capsys.readouterr().err.splitlines() if "TENSORTIME_EXPERIMENT" in line]
    assert len(said) == 1
    assert said[0].startswith(">> tensortime: TENSORTIME_EXPERIMENT has no effect: ")
    assert tm.backup().number == 2
    assert "TENSORTIME_EXPERIMENT" not in capsys.readouterr().err
    with pytest.raises(BadName):
        TimeMachine(exp_dir="y", strict=True).backup()
    assert names(project) == ["x"]

"""What a running experiment appends is committed by each backup of it, and goes where the experiment goes."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from builders import Tree, run_cli, user_git

import tensortime
from tensortime import api, records
from tensortime.errors import UnknownPath
from tensortime.records import read_records, records_folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one experiment, `base`."""
    project = tmp_path / "p"
    Tree(project).file("train.py", b"1\n")
    api.backup(directory=project, name="base")
    return project


def append(project: Path, data: bytes, name: str = "base", file: str = "records.jsonl") -> Path:
    """Append to what an experiment keeps."""
    folder = Path(records_folder(str(project / "tensortime"), name))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / file, "ab") as target:
        target.write(data)
    return folder


def committed(project: Path, name: str = "base", file: str = "records.jsonl") -> bytes:
    """What the newest backup holds of it."""
    data, _ = api.read_file(name, f".tensortime/records/{file}", directory=project)
    return data or b""


def metrics(project: Path, name: str = "base") -> dict[str, object]:
    """The metrics that `log` says."""
    [one] = [one for one in api.log(directory=project).experiments if one.name == name]
    return dict(one.metrics)


def test_every_file_is_committed_by_the_next_backup(project: Path) -> None:
    """By a backup that adds and by a whole one; the last value of each name is a metric."""
    append(
        project, b'{"time": "x", "step": 1, "loss": 0.5, "lr": 1}\n{"time": "y", "step": 2, "loss": 0.25}\n'
    )
    append(project, b"epoch 1\nepoch", file="output.log")
    Tree(project).file("w.bin", b"1")
    report = api.backup(directory=project, name="base", add=["w.bin"])
    assert report.exit_code == 0
    assert committed(project).count(b"\n") == 2
    assert committed(project, file="output.log") == b"epoch 1\nepoch"
    catalog = user_git("--git-dir=.shadow", "log", "-1", "--format=%B", "--all", cwd=project / "tensortime")
    assert 'Metrics: {"loss": 0.25, "lr": 1}' in catalog
    append(project, b'{"time": "z", "loss": 0.125}\n')
    api.backup(directory=project, name="base", joins=True)
    assert committed(project).endswith(b"0.125}\n")
    assert metrics(project) == {"loss": 0.125, "lr": 1}


def test_what_is_there_now_is_all(project: Path) -> None:
    """A file that its writer has put away is in no later backup; where the whole folder is gone, all of it stays."""
    folder = append(project, b"end", file="output.log.1")
    append(project, b"all", file="output.log")
    api.backup(directory=project, name="base", add=["train.py"])
    assert committed(project, file="output.log.1") == b"end"
    (folder / "output.log.1").unlink()
    api.backup(directory=project, name="base", add=["train.py"])
    with pytest.raises(UnknownPath):
        committed(project, file="output.log.1")
    shutil.rmtree(folder)
    api.backup(directory=project, name="base", add=["train.py"])
    assert committed(project, file="output.log") == b"all"


def test_what_is_not_committed_yet_shows_all_the_same(project: Path) -> None:
    """`log` and `show` of the newest backup look at the live file, an older backup has what it had."""
    api.backup(directory=project, name="base", add=["train.py"], metrics={"acc": 0.5, "best": 1})
    append(project, b'{"acc": 0.75}\n{"acc": 0.8')
    assert metrics(project) == {"acc": 0.75, "best": 1}
    assert api.show("base", directory=project).experiment.metrics == {"acc": 0.75, "best": 1}
    assert api.show("base:1", directory=project).experiment.metrics == {}
    [shown] = json.loads(run_cli("log", "--json", cwd=project).stdout)["experiments"]
    assert shown["metrics"] == {"acc": 0.75, "best": 1}


def test_a_torn_line_is_not_committed_and_ends_before_the_next(project: Path) -> None:
    """A writer that was killed in the middle of a line costs that line, and none of those before and after."""
    append(project, b'{"loss": 1}\n{"loss": 0.')
    api.backup(directory=project, name="base", add=["train.py"])
    assert committed(project) == b'{"loss": 1}\n'
    fd = records.open_records(str(project / "tensortime"), "base")
    os.write(fd, b'{"acc": 2}\n')
    os.close(fd)
    api.backup(directory=project, name="base", add=["train.py"])
    assert committed(project) == b'{"loss": 1}\n{"loss": 0.\n{"acc": 2}\n'
    assert metrics(project) == {"loss": 1, "acc": 2}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[1]",
        b"7",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b'{"a": ' * 10_000,
        b'{"a": [1, 2], "b": {"c": 1}}',
    ],
)
def test_lines_that_are_no_records_are_passed_over(project: Path, line: bytes) -> None:
    """Whatever stands there, the others count and nothing fails."""
    append(project, b'{"loss": 1}\n' + line + b"\n")
    assert metrics(project) == {"loss": 1}
    api.backup(directory=project, name="base", add=["train.py"])
    assert metrics(project) == {"loss": 1}


def test_a_later_given_metric_is_not_overruled_by_an_older_record(project: Path) -> None:
    """`backup(metrics=…)` is the last word until something is recorded anew."""
    append(project, b'{"acc": 0.5}\n')
    api.backup(directory=project, name="base", add=["train.py"], metrics={"acc": 0.97})
    assert metrics(project) == {"acc": 0.97}
    api.backup(directory=project, name="base", add=["train.py"])
    assert metrics(project) == {"acc": 0.97}
    append(project, b'{"acc": 0.98}\n')
    api.backup(directory=project, name="base", add=["train.py"])
    assert metrics(project) == {"acc": 0.98}


def test_a_long_file_keeps_its_ends_and_that_is_said(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first and the last lines are committed, the backup says what is missing, the live file stays whole."""
    monkeypatch.setattr(records, "LONGEST", 1000)
    lines = [b'{"step": %04d}\n' % number for number in range(200)]
    folder = append(project, b"".join(lines))
    report = api.backup(directory=project, name="base", add=["train.py"])
    kept = committed(project)
    assert 900 < len(kept) <= 1000
    assert set(kept.splitlines(True)) <= set(lines) and kept.startswith(lines[0]) and kept.endswith(lines[-1])
    missing = sum(map(len, lines)) - len(kept)
    [skipped] = report.skipped
    assert (skipped.path, report.exit_code) == (".tensortime/records/records.jsonl", 3)
    assert skipped.reason == f"its middle is left out: {missing} bytes"
    assert (folder / "records.jsonl").stat().st_size == sum(map(len, lines))
    report = api.backup(directory=project, name="base", add=["train.py"])
    assert len(api.show("base", directory=project).run["skipped"]) == 1  # type: ignore[arg-type]


def test_nothing_else_is_committed(project: Path, tmp_path: Path) -> None:
    """No link, no FIFO, no folder, no hidden or odd name; each file that cannot be taken is named."""
    (tmp_path / "secret").write_bytes(b"secret")
    folder = append(project, b'{"loss": 1}\n')
    tree = (
        Tree(folder)
        .symlink("link", tmp_path / "secret")
        .fifo("pipe")
        .file("sub/x")
        .file(".hidden")
        .file("a b")
    )
    assert tree.root == folder
    report = api.backup(directory=project, name="base", add=["train.py"])
    assert list(read_records(str(project / "tensortime"), "base").files) == [b"records/records.jsonl"]
    named = {one.path.removeprefix(".tensortime/records/") for one in report.skipped}
    assert named == {"link", "pipe", "sub"}
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    kept = read_records(str(project / "tensortime"), "base")
    assert (kept.files, [path for path, _ in kept.left_out]) == ({}, [".tensortime/records"])


def test_a_restored_worktree_has_them(project: Path, tmp_path: Path) -> None:
    """They are part of the tree; git status is clean; a backup made there does not take them for its own."""
    append(project, b'{"loss": 1}\n')
    api.backup(directory=project, name="base", add=["train.py"])
    worktree = tmp_path / "w"
    api.restore("base", worktree, directory=project)
    assert (worktree / ".tensortime/records/records.jsonl").read_bytes() == b'{"loss": 1}\n'
    assert user_git("status", "--porcelain", cwd=worktree) == ""
    api.backup(directory=worktree, name="again")
    assert metrics(project, "again") == {}


def test_they_are_no_outputs(project: Path) -> None:
    """diff tells of the metric, not of the file."""
    append(project, b'{"loss": 1}\n')
    api.backup(directory=project, name="base", add=["train.py"])
    report = api.diff("base:1", "base:2", directory=project)
    assert not report.effects.outputs and not report.causes.code
    assert [one.key for one in report.effects.metrics] == ["loss"]


def test_they_go_into_the_trash_and_come_back(project: Path) -> None:
    """Who takes the name meanwhile inherits nothing; under its new name the old experiment has its own again."""
    append(project, b'{"loss": 1}\n')
    tensortime.rm(["base"], directory=project)
    api.backup(directory=project, name="base")
    assert metrics(project) == {}
    append(project, b'{"loss": 2}\n')
    tensortime.undelete(["base"], directory=project)
    assert metrics(project) == {"loss": 2} and metrics(project, "base-2") == {"loss": 1}
    api.backup(directory=project, name="base-2", add=["train.py"])
    assert committed(project, "base-2") == b'{"loss": 1}\n'


def test_gc_frees_those_of_the_trash_with_it(project: Path) -> None:
    """They stay as long as they can come back, and go with the experiment; those of others stay."""
    append(project, b'{"loss": 1}\n')
    api.backup(directory=project, name="other")
    append(project, b'{"loss": 3}\n', "other")
    tensortime.rm(["base"], directory=project)
    tensortime.gc(directory=project)
    assert len(os.listdir(project / "tensortime/.records")) == 2
    assert tensortime.gc(directory=project, trash=True, dry_run=True).leftovers == 1
    tensortime.gc(directory=project, trash=True)
    assert os.listdir(project / "tensortime/.records") == ["other"]
    assert metrics(project, "other") == {"loss": 3}


def test_what_belongs_to_nobody_goes_a_day_later(project: Path) -> None:
    """A crash between rm and the move leaves a folder: no experiment takes its name, gc removes it when it is old."""
    append(project, b'{"loss": 1}\n', "gone")
    assert api.backup(directory=project, name="gone").experiment == "gone-2"
    tensortime.gc(directory=project)
    folder = project / "tensortime/.records/gone"
    assert folder.exists()
    day_before = time.time() - 100_000
    os.utime(folder / "records.jsonl", (day_before, day_before))
    os.utime(folder, (day_before, day_before))
    tensortime.gc(directory=project)
    assert not folder.exists()


def test_records_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    """A backup that lacks them is not whole."""
    folder = Path(records_folder(str(tmp_path), "x"))
    assert read_records(str(tmp_path), "x").left_out == ()
    folder.parent.mkdir(parents=True)
    folder.touch()
    ((path, reason),) = read_records(str(tmp_path), "x").left_out
    assert (path, reason) == (".tensortime/records", "Not a directory")

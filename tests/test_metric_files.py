"""`metrics = ["metrics.json", "logs/*.csv"]`: what a training writes into files becomes its metrics."""

import os
import time
from pathlib import Path

import pytest
from builders import Tree, run_cli

from tensortime import api
from tensortime.metricfiles import metrics_of_files
from tensortime.monitor import SILENT


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project that says where its metrics are, with those of the run before still there, and an experiment."""
    tree = Tree(tmp_path / "p").file("train.py", b"1\n").file("metrics.json", b'{"old": 1, "acc": 0.1}')
    tree.file("tensortime.toml", b'metrics = ["metrics.json", "logs/*.csv"]\n')
    os.utime(tree.root / "metrics.json", (1_700_000_000, 1_700_000_000))
    api.backup(directory=tree.root, name="x", metrics={"given": 7})
    return tree


def metrics(tree: Tree) -> dict[str, object]:
    """The metrics of the experiment."""
    return dict(api.log(directory=tree.root).experiments[0].metrics)


def test_what_was_written_since_the_experiment_began(project: Tree) -> None:
    """At backups that add and at whole ones; what the run before left behind is not this run's."""
    api.backup(directory=project.root, name="x", add=["train.py"])
    assert metrics(project) == {"given": 7}
    project.file(
        "metrics.json", b'{"acc": 0.5, "val": {"loss": 0.25, "n": [1]}, "ok": true, "name": "x", "nan": NaN}'
    )
    api.backup(directory=project.root, name="x", add=["train.py"])
    assert metrics(project) == {"given": 7, "acc": 0.5, "val.loss": 0.25, "nan": "nan"}
    project.file("logs/a.csv", b"epoch,loss,note\n1,0.5,x\n2,0.125,y\n")
    api.backup(directory=project.root, name="x", joins=True, metrics={"acc": 0.75})
    assert metrics(project) == {
        "given": 7,
        "acc": 0.75,
        "val.loss": 0.25,
        "nan": "nan",
        "epoch": 2,
        "loss": 0.125,
    }


def test_a_broken_file_is_a_warning(project: Tree) -> None:
    """Half-written, no object, or not to be read: the backup is made, the others count."""
    project.file("metrics.json", b'{"acc": 0.').file("logs/a.csv", b"loss\n1\n").folder("logs/b.csv")
    done = run_cli("backup", "--add", "train.py", cwd=project.root)
    assert done.returncode == 0
    assert "metrics.json: no metrics were read: " in done.stderr and "logs/b.csv: no metrics" in done.stderr
    assert metrics(project) == {"given": 7, "loss": 1}


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("a.csv", b"", {}),
        ("a.csv", b"loss\n", {}),
        ("a.csv", b"\xef\xbb\xbfepoch; loss\r\n1;0.5\r\n", {"epoch": 1, "loss": 0.5}),
        ("a.tsv", b"# epoch\tloss\n1\t-1e-3\n\n", {"epoch": 1, "loss": -0.001}),
        ("a.csv", b'"a,b",c\n1,2\n3', {"a,b": 1, "c": 2}),
        ("a.csv", b"step,loss\n" + b"1,0.5\n" * 100_000 + b"2,0.25\n", {"step": 2, "loss": 0.25}),
        ("a.jsonl", b'{"loss": 1}\n{"loss": 2}\n', {"loss": 2}),
        ("a.json", b"[1]", {}),
        ("a.json", b'{"a":' * 9000, {}),
        ("a.json", b" " * (5 << 20), {}),
        ("a.csv", b"a\n\xff\n2\n", {}),
        ("a.csv", b"loss\n1e999\n", {"loss": float("inf")}),
    ],
    ids=range(12),
)
def test_files_of_all_kinds(tmp_path: Path, name: str, data: bytes, found: dict[str, object]) -> None:
    """The last whole row of a table, the last line of a log of objects, the numbers of an object; else nothing."""
    Tree(tmp_path).file(name, data)
    assert metrics_of_files(str(tmp_path), [name], 0, SILENT) == found


def test_a_long_table_with_text_that_is_not_ascii(tmp_path: Path) -> None:
    """Only its two ends are read, and these may begin and end in the middle of a character."""
    row = "模型,0.5\n"
    rows = 400_000 // len(row.encode())
    for shift in range(3):
        table = "x" * shift + "name,loss\n" + row * rows + "模型,0.25\n"
        project = Tree(tmp_path / f"p{shift}").file("log.csv", table.encode()).root
        assert metrics_of_files(str(project), ["log.csv"], 0, SILENT)["loss"] == 0.25


def test_the_file_written_last_counts(tmp_path: Path) -> None:
    """Whatever their names; patterns do not lead out of the project."""
    now = time.time_ns()
    Tree(tmp_path / "p").file("a.json", b'{"a": 1, "b": 1}', mtime_ns=now).file(
        "b.json", b'{"a": 2}', mtime_ns=now - 9
    )
    Tree(tmp_path).file("c.json", b'{"c": 1}')
    patterns = ["*.json", "../c.json", str(tmp_path / "c.json")]
    assert metrics_of_files(str(tmp_path / "p"), patterns, 0, SILENT) == {"a": 1, "b": 1}

"""A backup that is not whole says so for as long as it is not: when more is added, and when it comes back."""

import json
import os
from pathlib import Path

import pytest
from builders import Tree, run_cli

from tensortime import TimeMachine, api


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with something in it that cannot be stored."""
    return Tree(tmp_path / "project").file("train.py", b"1").fifo("pipe").file("save/w.txt", b"w")


def test_what_was_skipped_stays_known_when_more_is_added(project: Tree) -> None:
    """The newest backup of an experiment is what log and show read: it lacks what the first lacked."""
    api.backup(directory=project.root, name="exp")
    report = api.backup(directory=project.root, name="exp", add=["save"])
    assert (report.skipped, report.exit_code) == ((), 0)
    shown = api.show("exp", directory=project.root)
    assert shown.experiment.status == "incomplete"
    assert [row["path"] for row in shown.run["skipped"]] == ["pipe"]  # type: ignore[attr-defined]


def test_what_could_be_added_later_is_no_longer_missing(project: Tree) -> None:
    """A path that is added takes its place among what is there."""
    api.backup(directory=project.root, name="exp")
    os.unlink(project.path("pipe"))
    api.backup(directory=project.root, name="exp", add=[project.file("pipe", b"now a file").root / "pipe"])
    assert api.show("exp", directory=project.root).experiment.status == "done"


def test_a_restore_names_what_the_backup_never_held(project: Tree, tmp_path: Path) -> None:
    """Every byte that is there was checked, but not all is there: that is said, with exit code 3."""
    api.backup(directory=project.root, name="exp")
    done = run_cli("restore", "exp", str(tmp_path / "out"), cwd=project.root)
    assert done.returncode == 3
    assert "NOT in this backup: pipe: a FIFO" in done.stdout
    document = json.loads(run_cli("restore", "exp", str(tmp_path / "two"), "--json", cwd=project.root).stdout)
    assert document["skipped"] == [{"path": "pipe", "reason": "a FIFO"}]
    assert run_cli("restore", "exp", "--path", "train.py", cwd=project.root).returncode == 0


def test_a_relative_path_to_add_is_what_the_script_would_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current folder comes first: the weights that were just written, and not old ones at the project's top."""
    tree = Tree(tmp_path / "project").file("save/w.txt", b"old").file("scripts/save/w.txt", b"new")
    api.backup(directory=tree.root, name="exp")
    tree.file("scripts/save/w.txt", b"newer")
    monkeypatch.chdir(tree.root / "scripts")
    tm = TimeMachine(exp_dir="exp")
    tm.backup(add=["save"])
    assert api.read_file("exp", "scripts/save/w.txt", directory=tree.root) == (b"newer", None)
    assert api.read_file("exp", "save/w.txt", directory=tree.root) == (b"old", None)


def test_names_are_those_of_this_project_in_a_shared_store(tmp_path: Path) -> None:
    """@, parts and --add see what log sees; another project's experiment is reached by its name."""
    one, two = Tree(tmp_path / "one").file("a.py", b"a"), Tree(tmp_path / "two").file("b.py", b"b")
    store = tmp_path / "store"
    api.backup(directory=one.root, store=store, name="first")
    api.backup(directory=two.root, store=store, name="second")
    one.file("results.csv", b"1")
    assert api.show("@", directory=one.root, store=store).experiment.name == "first"
    assert api.backup(directory=one.root, store=store, add=["results.csv"]).experiment == "first"
    assert [e.name for e in api.log(directory=two.root, store=store).experiments] == ["second"]
    assert api.show("second", directory=one.root, store=store).experiment.name == "second"

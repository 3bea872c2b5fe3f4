"""What `add` puts on top of an experiment: the new state of these paths, whatever was there before."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import Tree, assert_same_tree, run_cli, user_git
from round_trips import THRESHOLD

import tensortime
from tensortime import api, fsops
from tensortime.commits import contents_of, overlay
from tensortime.errors import Message
from tensortime.manifest import Manifest, encode_manifest
from tensortime.monitor import NullMonitor
from tensortime.reports import BackupReport
from tensortime.shadow import Shadow

NOTHING = BackupReport(experiment=None)


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with one file that always is there."""
    return Tree(tmp_path / "project").file("train.py", b"print()\n")


FORMER: dict[str, Callable[[Tree], object]] = {
    "a small file": lambda tree: tree.file("save", b"1"),
    "a large file": lambda tree: tree.file("save", size=THRESHOLD),
    "a link": lambda tree: tree.symlink("save", "train.py"),
}


@pytest.mark.parametrize("size", [1, THRESHOLD], ids=["small", "large"])
@pytest.mark.parametrize("former", sorted(FORMER))
def test_a_path_in_a_folder_that_was_a_file(project: Tree, former: str, size: int) -> None:
    """What was a file or a link when the experiment began is a folder now: it comes back as that."""
    FORMER[former](project)
    api.backup(directory=project.root, name="exp")
    (project.root / "save").unlink()
    project.file("save/model", size=size)
    api.backup(directory=project.root, name="exp", add=["save/model"])
    api.restore("exp", project.root.parent / "restored", directory=project.root)
    assert_same_tree(project.root, project.root.parent / "restored")


def test_an_experiment_that_another_backup_joins_at_once(
    project: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the update of the ref and a look at it the ref may move on: this backup was made all the same."""
    project.file("results.csv", b"1,2\n")
    run, joined = Shadow.run, list[BackupReport]()

    def joining(self: Shadow, *words: str, **options: Any) -> Any:
        done = run(self, *words, **options)
        if words[0] == "update-ref" and not joined:
            joined.append(NOTHING)
            joined[0] = api.backup(directory=project.root, name="exp", add=["results.csv"])
        return done

    monkeypatch.setattr(Shadow, "run", joining)
    assert (api.backup(directory=project.root, name="exp").number, joined[0].number) == (1, 2)
    assert [one.name for one in api.log(directory=project.root).experiments] == ["exp"]


def test_a_ref_that_another_backup_holds(project: Tree) -> None:
    """Its lock is there as long as the disk takes to sync: that is waited for."""
    api.backup(directory=project.root, name="exp")
    store = project.root / "tensortime"
    lock = store / ".shadow" / "refs" / "experiments" / "exp.lock"
    lock.touch()
    timer = threading.Timer(1.0, lock.unlink)
    timer.start()
    project.file("results.csv", b"1,2\n")
    with fsops.locked(str(store / ".lock"), shared=True):
        assert api.backup(directory=project.root, name="exp", add=["results.csv"]).number == 2
    timer.join()


def test_what_a_later_version_recorded_is_kept(tmp_path: Path) -> None:
    """Files of `.tensortime/` that this version does not know survive an addition by it."""
    later = {**encode_manifest(Manifest({})), b"packages.txt": b"numpy 9\n", b"outputs/1": b"{}"}
    nothing = contents_of([], encode_manifest(Manifest({})))
    assert overlay(contents_of([], later), nothing, []).extra == {
        b"packages.txt": b"numpy 9\n",
        b"outputs/1": b"{}",
    }


class Warnings(NullMonitor):
    """Keeps what a person is warned about."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, line: Message) -> None:
        """Keep it."""
        self.lines.append(str(line))


def test_weights_that_ttignore_leaves_out_are_added_without_a_word(project: Tree) -> None:
    """`save/` in .ttignore and `add=["save"]` is how weights are meant to be stored; a secret is still said aloud."""
    project.file(".ttignore", b"save/\n").file("save/model.npz", b"w").file(".env", b"KEY=1")
    heard = Warnings()
    assert api.backup(directory=project.root, name="exp", monitor=heard).small == 2
    assert api.backup(directory=project.root, name="exp", add=["save"], monitor=heard).small == 3
    assert heard.lines == []
    api.backup(directory=project.root, name="exp", add=[".env"], monitor=heard)
    assert [line for line in heard.lines if ".env is added" in line] == heard.lines != []


# --- what is known of the run


def trained(project: Tree, script: str, **env: str) -> dict[str, Any]:
    """What run.json says after a process of its own ran this script in the project."""
    project.file("train.py", script.encode())
    surroundings = {**os.environ, "PYTHONPATH": str(Path(tensortime.__file__).parent.parent), **env}
    words = [sys.executable, "train.py", "--lr", "3e-4"]
    subprocess.run(words, cwd=project.root, env=surroundings, check=True, capture_output=True)
    return dict(api.show("@", directory=project.root).run)


def test_who_adds_later_does_not_replace_what_is_known_of_the_run(project: Tree) -> None:
    """`tensortime backup --add results.csv` from a shell: command, Python, variables, launch, git and what was left out
    stay those of the training; who added is recorded beside them."""
    project.file("notes/x", b"1").file("big.log", b"2").file("results.csv", b"1,2\n")
    script = 'from tensortime import TimeMachine\nTimeMachine(exp_dir="run").backup(["notes", "big.log"])\n'
    first = trained(project, script, OMP_NUM_THREADS="4", SLURM_JOB_ID="4711")
    assert first["environment"]["OMP_NUM_THREADS"] == "4"
    done = run_cli("backup", "--add", "results.csv", "--add", "big.log", cwd=project.root)
    assert done.returncode == 0, done.stderr
    second: dict[str, Any] = dict(api.show("run:2", directory=project.root).run)
    for fact in ("command", "cwd", "pid", "python", "environment", "launch", "machine", "git", "platform"):
        assert second.get(fact) == first.get(fact), fact
    assert [row["path"] for row in first["ignored"]] == ["big.log", "notes"]
    assert [row["path"] for row in second["ignored"]] == ["notes"], "big.log is stored now"
    assert second["added"] == ["results.csv", "big.log"]
    assert "backup" in second["added_by"]["command"]
    shown = run_cli("show", "@", cwd=project.root).stdout
    rows = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert rows["command"].endswith("train.py --lr 3e-4")
    assert "--add results.csv" in rows["added"]
    assert rows["launch"] == "SLURM_JOB_ID=4711"
    report = api.diff("run:1", "run:2", directory=project.root)
    assert (report.causes.command, report.causes.environment, report.unknown) == (None, (), ())


def test_the_message_keeps_the_command_of_the_training(project: Tree) -> None:
    """What `git log` in the store shows is the training's command, in each of its backups."""
    trained(project, 'from tensortime import TimeMachine\nTimeMachine(exp_dir="run").backup()\n')
    api.backup(directory=project.root, name="run", add=["train.py"])
    text = user_git("log", "--format=%B", "refs/experiments/run", cwd=project.root / "tensortime/.shadow")
    assert text.count('"train.py", "--lr", "3e-4"]') == 2


def test_the_program_that_runs_adds_what_it_has_come_to_know(project: Tree) -> None:
    """The same process is the same run: nobody is named beside it, and a tracker that was opened meanwhile is there."""
    script = (
        "import os\nfrom tensortime import TimeMachine\ntm = TimeMachine(exp_dir='run')\ntm.backup()\n"
        "os.environ['SLURM_JOB_ID'] = '4711'\nopen('w.txt', 'w').write('1')\nassert tm.backup(add=['w.txt']).number == 2\n"
    )
    second = trained(project, script)
    first = api.show("run:1", directory=project.root).run
    assert "added_by" not in second
    assert second["launch"] == {"SLURM_JOB_ID": "4711"}
    assert {key: second[key] for key in ("command", "pid", "python", "git")} == {
        key: first[key] for key in ("command", "pid", "python", "git")
    }


def test_where_it_was_made_stays_known(project: Tree) -> None:
    """The parent of an experiment that was begun in a restored worktree is still told when somebody adds to it."""
    api.backup(directory=project.root, name="base")
    back = Tree(api.restore("base", directory=project.root).path).file("train.py", b"2")
    api.backup(directory=back.root, name="child")
    project.file("results.csv", b"1\n")
    api.backup(directory=project.root, name="child", add=["results.csv"])
    shown = api.show("child", directory=project.root)
    assert (shown.experiment.parent, shown.experiment.backups) == ("base:1", 2)
    assert shown.run["parent"] == api.show("child:1", directory=project.root).run["parent"]

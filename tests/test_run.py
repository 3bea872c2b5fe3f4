"""`tensortime run`: a command between two backups of one experiment, and what becomes of it. Issue 7."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import Tree, run_cli
from terminals import PACKAGE

from tensortime import api, outcome, running
from tensortime.errors import CommandNotFound, NotExecutable, UsageError
from tensortime.formats import RelPath

TRAIN = b"""\
import pathlib, sys
pathlib.Path("save").mkdir(exist_ok=True)
pathlib.Path("save/model.txt").write_text("weights")
pathlib.Path("metrics.json").write_text('{"loss": 0.5}')
pathlib.Path("old.log").unlink(missing_ok=True)
print("trained", *sys.argv[1:])
"""


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project whose training makes, changes and removes a file."""
    tree = Tree(tmp_path / "p").file("train.py", TRAIN).file("metrics.json", b"{}").file("old.log", b"old")
    return tree.file("data.bin", size=(1 << 20) + 1)


def run(
    tree: Tree, *words: str | bytes, code: int = 0, **env: str | None
) -> "subprocess.CompletedProcess[str]":
    """`tensortime run` with these words."""
    done = run_cli("run", *words, cwd=tree.root, env={"PYTHONPATH": PACKAGE, **env})
    assert done.returncode == code, done.stderr
    return done


def document(tree: Tree, *words: str, code: int = 0, **env: str | None) -> dict[str, Any]:
    """What `run --json` prints."""
    found = json.loads(run(tree, "--json", *words, code=code, **env).stdout)
    assert isinstance(found, dict)
    return found


def script(tree: Tree, text: str, name: str = "train.py") -> tuple[str, ...]:
    """Make this the training; returns the command."""
    tree.file(name, text.encode())
    return "--", sys.executable, name


def shown(tree: Tree, experiment: str = "@") -> dict[str, Any]:
    """What `show --json` says."""
    found = json.loads(run_cli("show", experiment, "--json", cwd=tree.root).stdout)
    assert isinstance(found, dict)
    return found


def content(tree: Tree, experiment: str, path: str) -> str:
    """A file of an experiment."""
    data, _ = api.read_file(experiment, path, directory=tree.root)
    assert data is not None
    return data.decode()


PYTHON = ("--", sys.executable, "train.py")


# --- inputs and outputs


def test_what_the_command_made_is_the_second_backup(project: Tree) -> None:
    """Inputs, then outputs: created, changed and removed files, with status, result and a list of their own."""
    done = run(project, "--name", "x", "--note", "lr 3e-4", "--tag", "paper", *PYTHON)
    assert done.stdout == "trained\n"
    found = shown(project, "x")
    assert (found["status"], found["note"], found["tags"], found["backups"]) == (
        "done",
        "lr 3e-4",
        ["paper"],
        2,
    )
    result = found["run"]["result"]
    assert result["exit_code"] == 0 and result["output"] == {"bytes": len("trained\n"), "cut": 0}
    assert shown(project, "x:1")["status"] == "running"
    listed = outcome.decode_outputs(content(project, "x", ".tensortime/outputs").encode())
    assert listed == {
        RelPath(b"metrics.json"): "changed",
        RelPath(b"old.log"): "removed",
        RelPath(b"save/model.txt"): "created",
    }
    assert content(project, "x:1", "old.log") == "old"
    assert content(project, "x", "save/model.txt") == "weights"
    assert run_cli("verify", "--read-data", cwd=project.root).returncode == 0


def test_a_restore_of_the_newest_is_the_project_after_the_run(project: Tree, tmp_path: Path) -> None:
    """Inputs and outputs together come back; what the command removed does not."""
    run(project, "--name", "x", *PYTHON)
    api.restore("x", tmp_path / "back", directory=project.root)
    back = {path.name for path in (tmp_path / "back").rglob("*") if path.is_file()} - {".git"}
    assert {"train.py", "data.bin", "metrics.json", "model.txt"} <= back
    assert "old.log" not in back


def test_a_run_that_makes_nothing_is_two_backups_too(project: Tree) -> None:
    """The second backup says how it ended even where there are no outputs."""
    found = document(project, "--name", "x", "--", "true")
    assert (found["outputs"], found["inputs"]["number"], found["added"]["number"]) == ([], 1, 2)
    assert shown(project, "x")["backups"] == 2


def test_a_source_edited_meanwhile_is_no_output(project: Tree) -> None:
    """What a person edits while it runs is named, and the experiment keeps what ran."""
    edits = "open('train.py', 'a').write('# edited\\n'); open('new.py', 'w').write('made')\n"
    command = script(project, "open('out.txt', 'w').write('made')\n" + edits)
    found = document(project, "--name", "x", *command)
    assert found["edited"] == ["train.py"]
    assert [one["path"] for one in found["outputs"]] == ["new.py", "out.txt"]
    assert "# edited" not in content(project, "x", "train.py").splitlines()


def test_ttignore_holds_for_outputs_and_what_it_hides_is_named(project: Tree) -> None:
    """What is written where a rule leaves it out is said, with the command that stores it; old files there are not."""
    project.file(".ttignore", b"save/\n*.ckpt\n").file("save/old.txt", b"of yesterday")
    command = script(project, TRAIN.decode() + "open('best.ckpt', 'w').write('1')\n")
    done = run(project, "--name", "x", *command)
    assert "save/" in done.stderr and "best.ckpt" in done.stderr
    assert "tensortime backup --name x --add best.ckpt --add save" in done.stderr
    assert run_cli("backup", "--name", "x", "--add", "save", cwd=project.root).returncode == 0
    listed = outcome.decode_outputs(content(project, "x", ".tensortime/outputs").encode())
    assert RelPath(b"save/model.txt") in listed


@pytest.mark.parametrize("how", ["config", "option"])
def test_outputs_that_a_rule_leaves_out_can_be_asked_for(project: Tree, how: str) -> None:
    """`outputs = [...]` and --add take what the run wrote there, and nothing that was there before."""
    project.file(".ttignore", b"save/\n").file("save/old.txt", b"of yesterday")
    if how == "config":
        project.file("tensortime.toml", b'outputs = ["save/*"]\n')
    option = ("--add", "save") if how == "option" else ()
    found = document(project, "--name", "x", *option, *PYTHON)
    paths = [one["path"] for one in found["outputs"]]
    assert "save/model.txt" in paths and "save/old.txt" not in paths
    assert found["missed"] == []


# --- how it ends


@pytest.mark.parametrize("code", [1, 2, 77])
def test_a_crash_keeps_the_outputs_so_far(project: Tree, code: int) -> None:
    """The exit code is the command's, the status says failed, and what there was is stored."""
    found = document(
        project, "--name", "x", *script(project, TRAIN.decode() + f"sys.exit({code})"), code=code
    )
    assert found["status"] == "failed" and found["exit_code"] == code
    assert content(project, "x", "save/model.txt") == "weights"
    assert shown(project, "x")["status"] == "failed"


def test_a_command_that_a_signal_ends_is_failed(project: Tree) -> None:
    """128+n, as a shell says it; killed from outside is not interrupted by us."""
    kill = TRAIN.decode() + "import os; os.kill(os.getpid(), 9)"
    found = document(project, "--name", "x", *script(project, kill), code=137)
    assert (found["status"], found["signal"]) == ("failed", "SIGKILL")
    assert shown(project, "x")["run"]["result"]["signal"] == "SIGKILL"


def started(tree: Tree, *words: str, **env: str) -> "subprocess.Popen[str]":
    """`tensortime run` in a process group of its own, once the command has printed a line."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tensortime", "run", *words],
        cwd=tree.root,
        env={**os.environ, "PYTHONPATH": PACKAGE, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


WAITS = "open('out.txt', 'w').write('so far')\nprint('ready', flush=True)\nimport time; time.sleep(30)\n"


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")])
def test_a_run_that_is_told_to_stop_keeps_its_outputs(project: Tree, number: int, name: str) -> None:
    """Slurm's SIGTERM, Ctrl-C: the command gets it, the outputs so far are stored, the status is interrupted."""
    child = started(project, "--name", "x", *script(project, WAITS))
    (os.killpg if number == signal.SIGINT else os.kill)(child.pid, number)
    _, said = child.communicate(timeout=60)
    assert child.returncode in (128 + number, 1, 130), said
    found = shown(project, "x")
    assert found["status"] == "interrupted" and found["backups"] == 2
    assert content(project, "x", "out.txt") == "so far"
    assert name in said


def test_a_runner_that_was_killed_shows_as_interrupted(project: Tree) -> None:
    """While it runs `log` says running; once its process is gone interrupted, without writing anything."""
    child = started(project, "--name", "x", *script(project, WAITS))
    tip = shown(project, "x")["commit"]
    assert shown(project, "x")["status"] == "running"
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)
    assert shown(project, "x")["status"] == "interrupted"
    assert [one.status for one in api.log(directory=project.root).experiments] == ["interrupted"]
    assert shown(project, "x")["commit"] == tip


# --- the command itself


def test_nothing_is_stored_for_a_command_that_is_not_there(project: Tree) -> None:
    """127 and 126, as a shell says; no store, no experiment."""
    assert "was not found" in run(project, "--", "no-such-program", code=127).stderr
    assert "cannot be executed" in run(project, "--", "./train.py", code=126).stderr
    assert not (project.root / "tensortime").exists()
    with pytest.raises(CommandNotFound):
        running.run(["no/such/program"], directory=project.root)
    with pytest.raises(NotExecutable):
        running.run(["./train.py"], directory=project.root)


def test_nothing_stays_of_a_command_that_cannot_be_started(project: Tree) -> None:
    """A script whose interpreter is missing is found out only when it is started: then the experiment goes again."""
    project.file("odd", b"#!/no/such/interpreter\n", mode=0o755)
    for isolated in ((), ("--isolated",)):
        run(project, *isolated, "--tag", "t", "--", "./odd", code=127)
        assert api.log(directory=project.root).experiments == ()
        assert not (project.root / "tensortime/.records").exists() or not os.listdir(
            project.root / "tensortime/.records"
        )
        assert not [one for one in os.listdir(project.root / "tensortime") if one.endswith(".run")]


def test_options_behind_the_command_are_its_own(project: Tree) -> None:
    """With and without `--`: what stands behind the command is passed on as it is, options of ours too."""
    words = ("train.py", "--note", "x", "--json", "--read-data", "-C", "..")
    for dashes in (("--",), ()):
        done = run(project, *dashes, sys.executable, *words)
        assert done.stdout.split() == ["trained", *words[1:]]
    assert run(project, code=2).stderr.startswith("tensortime: no command to run")


def test_switched_off_it_only_runs_the_command(project: Tree) -> None:
    """TENSORTIME=off, and every rank but the first: the command runs, and nothing else happens."""
    for name, value in (("TENSORTIME", "off"), ("RANK", "1"), ("SLURM_PROCID", "3")):
        done = run(project, *PYTHON, code=0, **{name: value})
        assert (done.stdout, done.stderr) == ("trained\n", "")
    assert not (project.root / "tensortime").exists()


def test_a_backup_that_fails_does_not_keep_the_command_from_running(project: Tree) -> None:
    """Training is never harmed: one warning, and its own exit code; a wrong call is refused before."""
    project.file("tensortime/somebody.py", b"else's")
    done = run(project, *script(project, "print('ran'); raise SystemExit(5)"), code=5)
    assert done.stdout == "ran\n" and "NO BACKUP was made" in done.stderr
    assert "NO BACKUP" not in run(project, "--isolated", *PYTHON, code=2).stderr
    with pytest.raises(UsageError):
        running.run(["true"], name="a b", directory=project.root)


def test_the_documents_stdout_is_not_the_commands(project: Tree) -> None:
    """With --json stdout holds one document: what the command prints goes to stderr."""
    done = run(project, "--json", *PYTHON)
    assert json.loads(done.stdout)["status"] == "done"
    assert "trained\n" in done.stderr


# --- a `tm.backup()` inside


JOINS = """\
from tensortime import TimeMachine
tm = TimeMachine(exp_suffix="from the code")
tm.backup(params={"lr": 0.1})
open("out.txt", "w").write("1")
tm.backup(add=["out.txt"], metrics={"loss": 0.5})
"""


def test_backups_inside_join_the_experiment(project: Tree) -> None:
    """The first stores nothing but params (the inputs are there), the second adds; the run's own has number 3."""
    run(project, "--name", "x", "--note", "typed", *script(project, JOINS))
    found = shown(project, "x")
    assert (found["backups"], found["params"], found["metrics"]) == (3, {"lr": 0.1}, {"loss": 0.5})
    assert found["note"] == "typed" and found["status"] == "done"
    assert found["run"]["python"]["source"] == "this process"
    assert found["run"]["command"] == [sys.executable, "train.py"]
    assert shown(project, "x:1")["params"] == {"lr": 0.1}
    assert len(api.log(directory=project.root).experiments) == 1


def test_a_whole_backup_inside_keeps_the_inputs_as_they_were(project: Tree) -> None:
    """What is new by then is an output; the inputs stay those that the run began with."""
    late = "open('out.txt', 'w').write('1')\nfrom tensortime import TimeMachine\nTimeMachine().backup()\n"
    run(project, "--name", "x", *script(project, late))
    listed = outcome.decode_outputs(content(project, "x", ".tensortime/outputs").encode())
    assert listed == {RelPath(b"out.txt"): "created"}


def test_a_backup_inside_that_does_not_wait_has_its_outputs_in_the_end(project: Tree, tmp_path: Path) -> None:
    """Large files that a command makes, or that grew out of small ones, come on top of its backup, and are in its list."""
    large = (
        "open('new.bin', 'wb').write(b'n' * (2 << 20))\nopen('metrics.json', 'wb').write(b'm' * (2 << 20))\n"
        "from tensortime import TimeMachine\nTimeMachine().backup(wait=False)\n"
    )
    run(project, "--name", "x", *script(project, large))
    for experiment in ("x:2", "x"):
        listed = outcome.decode_outputs(content(project, experiment, ".tensortime/outputs").encode())
        assert listed == {RelPath(b"metrics.json"): "changed", RelPath(b"new.bin"): "created"}
        assert shown(project, experiment)["run"]["skipped"] == []
        back = api.restore(experiment, tmp_path / experiment.replace(":", "-"), directory=project.root)
        for name in ("new.bin", "metrics.json", "data.bin"):
            assert Path(back.path, name).read_bytes() == (project.root / name).read_bytes()
    assert shown(project, "x")["status"] == "done"
    assert run_cli("verify", "--read-data", cwd=project.root).returncode == 0


def test_the_code_finds_the_store_of_the_run(project: Tree, tmp_path: Path) -> None:
    """A store that only the command line named, and code that names another: one experiment, in the run's store."""
    store = str(tmp_path / "store")
    code = JOINS.replace("TimeMachine(", "TimeMachine('elsewhere', ")
    run(project, "--store", store, "--name", "x", *script(project, code))
    one, *others = api.log(directory=project.root, store=store).experiments
    assert (one.backups, others) == (3, [])
    assert not (project.root / "elsewhere").exists()
    assert not (project.root / "tensortime").exists()


def test_a_run_inside_a_run_only_runs(project: Tree) -> None:
    """A Makefile whose rule is `tensortime run` too: one experiment, ended by the outer one."""
    project.file(
        "Makefile", f"train:\n\t{sys.executable} -m tensortime run -- {sys.executable} train.py\n".encode()
    )
    found = document(project, "--name", "x", "--", "make", "train")
    assert len(found["outputs"]) == 3
    assert [one.backups for one in api.log(directory=project.root).experiments] == [2]


RANKS = """\
import os, subprocess, sys
ranks = [
    subprocess.Popen([sys.executable, "rank.py"], env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "4"})
    for rank in range(4)
]
sys.exit(max(rank.wait() for rank in ranks))
"""


def test_a_launch_of_four_ranks_is_one_experiment(project: Tree) -> None:
    """Each rank writes its own file; rank 0 alone joins."""
    rank = 'import os\nopen("rank" + os.environ["RANK"], "w").write("1")\n' + JOINS
    project.file("rank.py", rank.encode())
    found = document(project, "--name", "x", *script(project, RANKS, "launch.py"))
    assert {"rank0", "rank1", "rank2", "rank3"} <= {one["path"] for one in found["outputs"]}
    assert [one.params for one in api.log(directory=project.root).experiments] == [{"lr": 0.1}]

"""`tensortime run`: a command between two backups of one experiment, and what becomes of it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest
from builders import Tree, run_cli
from terminals import PACKAGE, spawn

from tensortime import api, checkout, documents, history, outcome, runner, running, snapshot
from tensortime.errors import CommandNotFound, NoSpace, NotExecutable, UsageError
from tensortime.formats import RelPath, text_of
from tensortime.jobs import Request
from tensortime.names import ExperimentName
from tensortime.project import find_worktree
from tensortime.store import open_store

EXAMPLE = Path(PACKAGE) / "examples/digits"

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


def document(tree: Tree, *words: str, code: int = 0, **env: str) -> dict[str, Any]:
    """What `run --json` prints, made in this process; `words`: options, `--`, the command."""
    at = words.index("--")
    options, name = list(words[:at]), None
    if "--name" in options:
        name = options[options.index("--name") + 1]
    report = running.run(
        words[at + 1 :],
        name=name,
        isolated="--isolated" in options,
        add=[options[at + 1] for at, word in enumerate(options) if word == "--add"],
        directory=tree.root,
        environment={**os.environ, "PYTHONPATH": PACKAGE, **env},
    )
    assert report.exit_code == code
    return documents.run_json(report)


def script(tree: Tree, text: str, name: str = "train.py") -> tuple[str, ...]:
    """Make this the training; returns the command."""
    tree.file(name, text.encode())
    return "--", sys.executable, name


def shown(tree: Tree, experiment: str = "@") -> dict[str, Any]:
    """What `show --json` says."""
    return documents.show_json(api.show(experiment, directory=tree.root))


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


def test_what_is_said_of_an_edit_is_true_whenever_the_file_was_read(project: Tree) -> None:
    """A module that is imported after the edit ran as edited: the experiment has what was there when it began."""
    edits = "open('lib.py', 'w').write('V = 2')\nimport lib\nassert lib.V == 2\n"
    project.file("lib.py", b"V = 1")
    done = run(project, "--name", "x", *script(project, edits))
    assert "the experiment has them as they were when it began: lib.py" in done.stderr
    assert content(project, "x", "lib.py") == "V = 1"


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


def states(tree: Tree, experiment: str) -> dict[str, str]:
    """The outputs that an experiment lists."""
    listed = outcome.decode_outputs(content(tree, experiment, ".tensortime/outputs").encode())
    return {text_of(path): state for path, state in listed.items()}


REPEATS = """\
import os
open('same.txt', 'w').write('weights')
open('new.tmp', 'w').write('weights')
os.replace('new.tmp', 'moved.txt')
open('input.csv').read()
os.chmod('input.csv', 0o644)
os.link('input.csv', 'linked')
os.unlink('linked')
os.utime('helper.py')
"""


@pytest.mark.parametrize("isolated", [False, True])
def test_what_is_written_again_with_the_same_bytes_is_an_output(project: Tree, isolated: bool) -> None:
    """A deterministic training, run twice in one folder; what it only read is none, nor a source that was touched."""
    project.file("input.csv", b"1,2").file("helper.py", b"")
    command = script(project, REPEATS)
    run(project, "--name", "first", *command)
    run(project, "--name", "x", *(["--isolated"] if isolated else []), *command)
    found = states(project, "x")
    assert (found["same.txt"], found["moved.txt"]) == ("rewritten", "rewritten")
    assert "input.csv" not in found, "another ctime alone says nothing of its bytes"
    # In a folder of its own all that is written was written by the command.
    assert ("helper.py" in found) is isolated
    project.file("late.txt", b"added later")
    assert run_cli("backup", "--name", "x", "--add", "late.txt", cwd=project.root).returncode == 0
    assert states(project, "x") == {**found, "late.txt": "created"}


def test_a_path_that_was_asked_for_and_is_not_there_is_said(project: Tree) -> None:
    """It may be misspelt, and what was meant is then in no backup."""
    done = run(project, "--name", "x", "--add", "save", "--add", "sav", *PYTHON)
    assert "warning: --add: nothing is at sav\n" in done.stderr


# --- how it ends


def test_a_crash_keeps_the_outputs_so_far(project: Tree) -> None:
    """The exit code is the command's, the status says failed, and what there was is stored."""
    code = 77
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
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert shown(project, "x")["status"] == "interrupted", "also while its parent has not taken note of it"
    child.communicate(timeout=60)
    assert shown(project, "x")["status"] == "interrupted"
    assert [one.status for one in api.log(directory=project.root).experiments] == ["interrupted"]
    assert shown(project, "x")["commit"] == tip


# --- the command itself


def test_nothing_is_stored_for_a_command_that_is_not_there(project: Tree) -> None:
    """127 and 126, as a shell says; no store, no experiment."""
    for word, hint in (("no-such-program", "bash -ic"), ("/no/such", "moved"), ("python -c 1", "quotes")):
        told = run(project, "--", word, code=127).stderr
        assert f"{word} was not found" in told and hint in told
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


def test_what_nobody_foresaw_keeps_no_command_from_running(
    project: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the command: it runs all the same. After it: its exit code and that there is no backup are told."""
    back_up, calls = runner.back_up, list[int]()

    def fail_at(number: int) -> None:
        calls.clear()

        def failing(*words: object) -> object:
            calls.append(1)
            if len(calls) == number:
                raise ZeroDivisionError("a bug")
            return back_up(*words)  # type: ignore[arg-type]

        monkeypatch.setattr(runner, "back_up", failing)

    fail_at(1)
    found = document(project, *script(project, "open('ran', 'w')"))
    assert found["experiment"] is None and (project.root / "ran").exists()
    fail_at(2)
    found = document(project, *script(project, "raise SystemExit(7)"), code=7)
    assert "ZeroDivisionError: a bug" in str(found["problem"])
    fail_at(2)
    found = document(project, "--isolated", *script(project, "open('result', 'w')"))
    assert (Path(found["worktree"]) / "result").exists(), "what it made is nowhere else"


def test_an_error_is_the_document(project: Tree) -> None:
    """stdout is the command's; where there is no command it is `--json`'s."""
    done = run(project, "--json", "--", "no-such-program", code=127)
    assert json.loads(done.stdout)["error"]["message"].startswith("no-such-program was not found")


def test_a_secret_of_the_command_is_hidden_in_what_it_prints(project: Tree) -> None:
    """As in the recorded command, although nothing shows that it is one."""
    code = "import os, sys; print(sys.argv, os.environ['HF_TOKEN'])"
    words = (*script(project, code), "--wandb-key", "3b1f" * 10)
    done = run(project, "--name", "x", *words, HF_TOKEN="of-no-known-shape")
    assert "3b1f" in done.stdout and "of-no-known-shape" in done.stdout, "the person sees what is printed"
    log = content(project, "x", ".tensortime/records/output.log")
    assert log == "['train.py', '--wandb-key', '***'] ***\n"


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


# --- isolated


def test_an_isolated_run_sees_the_code_as_it_was(project: Tree) -> None:
    """Editing on while it runs changes nothing of it; its outputs, sources too, are in the experiment, not in the project."""
    code = (
        "import os, time\nprint('ready', flush=True)\n"
        f"while not os.path.exists({str(project.root / 'go')!r}): time.sleep(0.01)\n"
        "import helper\nopen('out.txt', 'w').write(helper.VALUE)\nopen('made.py', 'w').write('1')\n"
        "open('helper.py', 'a').write('# by itself')\n"
    )
    project.file("helper.py", b"VALUE = 'as it was'\n")
    child = started(project, "--isolated", "--name", "x", *script(project, code))
    project.file("helper.py", b"VALUE = 'edited'\n").file("go")
    _, said = child.communicate(timeout=60)
    assert child.returncode == 0, said
    assert content(project, "x", "out.txt") == "as it was"
    assert content(project, "x", "helper.py").endswith("# by itself")
    assert not (project.root / "out.txt").exists()
    found = shown(project, "x")
    assert (found["status"], found["parent"], found["backups"]) == ("done", None, 2)
    [one] = api.log(directory=project.root).experiments
    assert one.project == str(project.root)
    assert not worktrees(project)


def worktrees(tree: Tree) -> list[str]:
    """The folders of isolated commands that are still there, and git's records of them."""
    store = tree.root / "tensortime"
    records = store / ".shadow/worktrees"
    return sorted(
        one
        for one in [*os.listdir(store), *(os.listdir(records) if records.exists() else [])]
        if ".run" in one
    )


def test_an_isolated_run_reads_only_what_it_wrote(project: Tree) -> None:
    """The stat cache knows the files of the worktree; what is written at once after the start shows all the same."""
    same_size = "import os\nopen('metrics.json', 'w').write('[]')\nopen('data.bin', 'r+b').write(b'x')\n"
    found = document(project, "--isolated", "--name", "x", *script(project, same_size))
    assert [(one["path"], one["state"]) for one in found["outputs"]] == [
        ("data.bin", "changed"),
        ("metrics.json", "changed"),
    ]


def test_an_isolated_command_runs_where_it_was_typed(project: Tree) -> None:
    """In the same folder inside the project, with what only the project has: its environment's Python."""
    project.file("sub/where.py", b"import os; open('here.txt', 'w').write(os.getcwd() + os.environ['PWD'])")
    project.symlink("venv/bin/python", os.fsencode(sys.executable)).file("venv/pyvenv.cfg")
    run(project, "--name", "first", "--", "true")
    command = [sys.executable, "-m", "tensortime", "run", "--isolated", "--name", "x", "--keep"]
    done = subprocess.run(
        [*command, "--", "../venv/bin/python", "where.py"],
        cwd=project.root / "sub",
        env={**os.environ, "PYTHONPATH": PACKAGE},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    kept = project.root / "tensortime/x.run"
    assert content(project, "x", "sub/here.txt") == str(kept / "sub") * 2
    place = find_worktree(str(kept))
    assert place is not None and place.parent is not None and place.parent.number == 2
    assert str(kept) in done.stderr and (kept / "train.py").exists()
    assert run_cli("rm", "--worktree", str(kept), cwd=project.root).returncode == 0
    assert not worktrees(project)


@pytest.mark.parametrize("end", ["sys.exit(3)", "os.kill(os.getpid(), 15)"])
def test_the_worktree_goes_also_after_a_failure(project: Tree, end: str) -> None:
    """Its outputs are stored, so nothing is lost with it."""
    code = 3 if "exit" in end else 143
    document(
        project,
        "--isolated",
        "--name",
        "x",
        *script(project, "import os\n" + TRAIN.decode() + end),
        code=code,
    )
    assert content(project, "x", "save/model.txt") == "weights"
    assert not worktrees(project)


def test_a_worktree_with_files_that_are_not_stored_stays(project: Tree) -> None:
    """What a rule leaves out would be lost with it: it stays, and the command that stores it is said."""
    project.file(".ttignore", b"*.ckpt\n")
    command = script(project, "import os; os.mkdir('deep'); open('deep/best.ckpt', 'w').write('weights')")
    done = run(project, "--isolated", "--name", "x", *command)
    [folder] = {str(project.root / "tensortime" / one) for one in worktrees(project)}
    assert folder in done.stderr
    [told] = [line for line in done.stderr.splitlines() if "left out by your rules" in line]
    words = told.partition("(")[2].partition(" stores it")[0].split()
    assert run_cli(*words[1:], cwd=project.root).returncode == 0
    assert content(project, "x", "deep/best.ckpt") == "weights"
    assert shown(project, "x")["parent"] is None
    assert api.log(directory=project.root).experiments[0].project == str(project.root)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell")
def test_a_worktree_stays_where_somebody_still_works(project: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """What processes that the command left behind write later would be nowhere; what is about to end is waited for."""
    monkeypatch.setattr(runner, "PARTING", 0.1)
    fifo = project.root.parent / "fifo"
    os.mkfifo(fifo)
    line = f"(cat {fifo} > late.txt) >/dev/null 2>&1 &"
    found = document(project, "--isolated", "--name", "x", "--", "sh", "-c", line)
    fifo.write_text("late")
    assert found["worktree"] and Path(found["worktree"], "train.py").exists()
    monkeypatch.setattr(runner, "PARTING", 60)
    words = ("--", "sh", "-c", "sleep 1 >/dev/null 2>&1 &")
    assert not document(project, "--isolated", "--name", "y", *words)["worktree"]


def test_a_worktree_stays_where_adding_failed(project: Tree) -> None:
    """The outputs are nowhere else: the folder is named, the error too; the exit code is still the command's."""
    breaks = "import os, shutil; open('out.txt', 'w').write('1'); store = os.environ['TENSORTIME_STORE']\n"
    breaks += "os.rename(store + '/.shadow/objects', store + '/.shadow/gone')\n"
    found = document(project, "--isolated", "--name", "x", *script(project, breaks))
    assert found["problem"]["kind"] in ("git-failed", "damaged", "store-unusable")
    assert (Path(found["worktree"]) / "out.txt").read_text() == "1"


def test_absolute_paths_into_the_project_are_warned_of(project: Tree) -> None:
    """They are the person's business, but they lead out of the worktree."""
    path = str(project.root / "data.bin")
    done = run(project, "--isolated", "--name", "x", *PYTHON, path)
    assert f"warning: {path} is in the project" in done.stderr
    assert "is in the project" not in run(project, "--isolated", *PYTHON, "data.bin").stderr


def test_a_submitting_command_keeps_the_worktree_for_its_job(project: Tree) -> None:
    """`sbatch` returns at once: the job gets the experiment by its environment, and ends it."""
    project.file("bin/sbatch", b"#!/bin/sh\n(env > job.env; pwd > job.pwd) \n", mode=0o755)
    path = f"{project.root / 'bin'}:{os.environ['PATH']}"
    done = run(project, "--isolated", "--name", "x", "--", "sbatch", "job.sh", PATH=path)
    kept = project.root / "tensortime/x.run"
    assert str(kept) in done.stderr and shown(project, "x")["status"] == "submitted"
    assert "submitted (sbatch); whether" in run_cli("show", "x", cwd=project.root).stdout
    assert (kept / "job.pwd").read_text().strip() == str(kept)
    env = dict(line.partition("=")[::2] for line in (kept / "job.env").read_text().splitlines())
    job = {name: env[name] for name in env if name.startswith("TENSORTIME_") and "PAGER" not in name}
    assert job == {"TENSORTIME_EXPERIMENT": "x", "TENSORTIME_STORE": str(project.root / "tensortime")}
    document(Tree(kept), *PYTHON, code=0, **job)
    found = shown(project, "x")
    assert (found["status"], found["parent"]) == ("done", None)
    assert content(project, "x", "save/model.txt") == "weights"
    assert len(api.log(directory=project.root).experiments) == 1
    assert run_cli("rm", "--worktree", str(kept), cwd=project.root).returncode == 0


@pytest.mark.parametrize(
    ("typed", "submits"),
    [
        ("sbatch job.sh", True),
        ("sbatch --wait job.sh", False),
        ("sbatch -n 4 -W job.sh", False),
        ("sbatch job.sh -W error", True),
        ("srun python train.py", False),
        ("bsub -W 4:00 -o log python train.py", True),
        ("bsub -W 4:00 -K python train.py", False),
        ("qsub -W depend=afterok:7 job.sh", True),
        ("qsub -W block=true job.sh", False),
        ("qsub -sync n job.sh", True),
        ("qsub -sync y job.sh", False),
        ("env A=1 /usr/bin/sbatch job.sh", True),
    ],
)
def test_which_commands_hand_a_job_to_a_scheduler(project: Tree, typed: str, submits: bool) -> None:
    """A letter means something else in each of them; what stands behind the job's script is the job's."""
    project.file("job.sh")
    assert Request(tuple(typed.split()), str(project.root), {}).submits is submits


def test_nothing_stays_where_no_worktree_can_be_made(project: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error, nothing run, no experiment; one that was to go on is as it was."""
    run(project, "--name", "old", "--", "false", code=1)

    def full(*_: object) -> None:
        raise NoSpace("the disk is full")

    monkeypatch.setattr(checkout, "check_out", full)
    for env in ({}, {"TENSORTIME_EXPERIMENT": "old"}):
        with pytest.raises(NoSpace):
            running.run(
                ["touch", str(project.root / "ran")],
                isolated=True,
                tags=["t"],
                directory=project.root,
                environment={**os.environ, **env},
            )
    assert [one.name for one in api.log(directory=project.root).experiments] == ["old"]
    assert not (project.root / "ran").exists() and not worktrees(project)


def test_runs_beside_each_other_are_warned_of(project: Tree) -> None:
    """What one makes counts for the other too, unless one of them has a folder of its own."""
    child = started(project, "--name", "x", *script(project, WAITS))
    assert "warning: x runs here too" in run(project, "--", "true").stderr
    assert "runs here too" not in run(project, "--isolated", "--", "true").stderr
    os.kill(child.pid, signal.SIGTERM)
    child.communicate(timeout=60)
    assert "runs here too" not in run(project, "--", "true").stderr


# --- preempted, and continued


STEPS = """\
import os, signal, sys, time
done = len(os.listdir("steps")) if os.path.isdir("steps") else 0
os.makedirs("steps", exist_ok=True)
open(f"steps/{done}", "w").write(VERSION)
if done == 0:
    print("ready", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize(("how", "isolated"), [("environment", ()), ("slurm", ("--isolated",))])
def test_a_preempted_job_goes_on_with_its_experiment(
    project: Tree, how: str, isolated: tuple[str, ...]
) -> None:
    """Preempted by SIGTERM, requeued: one experiment with the outputs of both, of the code that it began with."""
    command = script(project, "VERSION = 'first'\n" + STEPS)
    env = {"SLURM_JOB_ID": "77"} if how == "slurm" else {"TENSORTIME_EXPERIMENT": "x"}
    words = (*isolated, *(("--name", "x") if how == "slurm" else ()))
    child = started(project, *words, *command, **env)
    os.kill(child.pid, signal.SIGTERM)
    child.communicate(timeout=60)
    assert shown(project, "x")["status"] == "interrupted"
    if isolated:
        project.file("train.py", b"VERSION = 'edited'\n" + STEPS.encode())
    again = {**env, "SLURM_RESTART_COUNT": "1"}
    found = document(project, *isolated, *command, code=0, **again)
    assert found["experiment"] == "x" and found["status"] == "done"
    assert [one["path"] for one in found["outputs"]] == ["steps/0", "steps/1"]
    assert content(project, "x", "steps/1") == "first"
    assert len(api.log(directory=project.root).experiments) == 1
    assert run_cli("verify", cwd=project.root).returncode == 0


@pytest.mark.long
def test_a_job_that_was_killed_goes_on_with_what_it_left(project: Tree) -> None:
    """Of a runner that died without a word the outputs so far lie in the project: they are stored when it goes on."""
    command = script(project, "VERSION = 'first'\n" + STEPS)
    child = started(project, "--name", "x", *command, SLURM_JOB_ID="77")
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)
    found = document(project, *command, SLURM_JOB_ID="77", SLURM_RESTART_COUNT="1")
    assert found["experiment"] == "x"
    assert [one["path"] for one in found["outputs"]] == ["steps/0", "steps/1"]


@pytest.mark.long
def test_another_command_or_job_begins_an_experiment_of_its_own(project: Tree) -> None:
    """A restarted job runs all of its commands again: one that had ended, or another one, is not gone on with."""
    run(project, "--name", "x", *PYTHON, SLURM_JOB_ID="77")
    restarted = {"SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": "1"}
    assert document(project, "--name", "y", *PYTHON, code=0, **restarted)["experiment"] == "y"
    run(project, "--name", "z", "--", "false", code=1, SLURM_JOB_ID="78")
    assert (
        document(project, "--name", "w", "--", "true", code=0, SLURM_JOB_ID="78", SLURM_RESTART_COUNT="1")[
            "experiment"
        ]
        == "w"
    )


def test_a_job_that_goes_on_with_other_code_has_inputs_of_its_own(project: Tree) -> None:
    """Without --isolated the code as it is now runs: then that is stored, whole, before it."""
    run(project, "--name", "x", *script(project, TRAIN.decode() + "sys.exit(1)"), code=1)
    script(project, TRAIN.decode() + "open('more.txt', 'w').write('1')")
    found = document(project, *PYTHON, TENSORTIME_EXPERIMENT="x")
    assert (found["experiment"], found["inputs"]["number"], found["added"]["number"]) == ("x", 3, 4)
    assert {one["path"]: one["state"] for one in found["outputs"]} == {
        "metrics.json": "rewritten",
        "more.txt": "created",
        "save/model.txt": "rewritten",
    }


# --- what shows of it


def test_show_says_how_it_ended_and_where_the_output_is(project: Tree) -> None:
    """Result, duration, memory, and the command that shows the log."""
    heavy = "x = bytearray(200 << 20)\nprint('much', 'hf_' + 'a' * 34)\nraise SystemExit(4)"
    run(project, "--name", "x", *script(project, heavy), code=4)
    text = run_cli("show", "x", cwd=project.root).stdout
    rows = {line[:11].strip(): line[12:] for line in text.splitlines()}
    assert (rows["status"], rows["result"]) == ("failed", "exit code 4")
    assert rows["duration"].endswith(" s") and rows["memory"].endswith(" MB")
    words = rows["output"].partition(": ")[2].split()
    log = run_cli(*words[1:], cwd=project.root).stdout
    assert log.startswith("much") and "hf_aaa" not in log


@pytest.mark.long
def test_log_shows_what_failed_and_what_runs(project: Tree) -> None:
    """As every other status: in front of the note."""
    run(project, "--name", "x", "--note", "n", "--", "false", code=1)
    assert (
        json.loads(run_cli("log", "--json", cwd=project.root).stdout)["experiments"][0]["status"] == "failed"
    )


def test_a_later_backup_keeps_how_it_ended(project: Tree) -> None:
    """Adding a file to a failed run does not make it a good one."""
    run(project, "--name", "x", "--", "false", code=1)
    project.file("report.md", b"why")
    assert run_cli("backup", "--name", "x", "--add", "report.md", cwd=project.root).returncode == 0
    assert shown(project, "x")["status"] == "failed"
    assert shown(project, "x")["run"]["result"]["exit_code"] == 1


@pytest.mark.long
def test_diff_finds_the_outputs_of_a_run(project: Tree) -> None:
    """Between two runs of the same code what they made are effects, not causes."""
    for name in ("a", "b"):
        run(
            project,
            "--name",
            name,
            *script(project, "import os; open('out.txt', 'w').write(os.urandom(4).hex())"),
        )
        (project.root / "out.txt").unlink()
    found = json.loads(run_cli("diff", "a", "b", "--json", cwd=project.root).stdout)
    assert [one["path"] for one in found["effects"]["outputs"]] == ["out.txt"]
    assert found["causes"]["code"] == []


def test_the_hook_makes_no_second_backup_of_a_run() -> None:
    """A typed line that starts `tensortime run` is backed up by that, whatever stands in front of it."""
    from tensortime.commandline import training_command

    for line in (
        "tensortime run -- python train.py",
        "nohup tensortime run python train.py &",
        "uv run tensortime run -- python train.py",
    ):
        assert training_command(line, "/p", {}) is None, line


def test_metrics_are_read_from_files_that_the_command_wrote(project: Tree) -> None:
    """Of the project, and of a worktree: what lay there before the run tells nothing of it."""
    project.file("tensortime.toml", b'metrics = ["metrics.json", "old.json"]\n').file(
        "old.json", b'{"old": 1}'
    )
    for name, options in (("x", ()), ("y", ("--isolated",))):
        document(project, *options, "--name", name, *PYTHON)
        assert shown(project, name)["metrics"] == {"loss": 0.5}


# --- a person at a terminal

PROGRESS = """\
import sys, time
assert sys.stdout.isatty() and sys.stdin.isatty()
sys.stdout.write("\\x1b[?1049h\\x1b[2J")
for step in range(20):
    sys.stdout.write(f"\\x1b[{1 + step % 5};1H\\x1b[32m{'#' * step:<20}\\x1b[0m {step * 5}%\\r")
    sys.stdout.flush()
sys.stdout.write("\\x1b[?1049l")
print("loss 0.5", input("go on? "))
"""


def test_a_full_screen_progress_bar_is_untouched(project: Tree) -> None:
    """All that the bare command writes to its terminal stands, byte for byte, in what the run writes; keys reach it."""
    project.file("train.py", PROGRESS.encode())
    screens = []
    for words in ((), ("-m", "tensortime", "run", "--name", "x", "--", sys.executable)):
        child = spawn(*words, "train.py", cwd=project.root)
        child.expect_exact("go on? ")
        before = child.before or ""
        child.sendline("yes")
        child.expect(pexpect.EOF)
        screens.append(before + "go on? " + (child.before or ""))
    bare, through = screens
    assert bare in through
    assert "loss 0.5 yes" in content(project, "x", ".tensortime/records/output.log")
    assert shown(project, "x")["status"] == "done"


def test_ctrl_c_at_the_keyboard_interrupts_the_command_alone(project: Tree) -> None:
    """The command is interrupted once; the outputs so far are stored after that."""
    project.file("train.py", WAITS.encode())
    child = spawn(
        "-m", "tensortime", "run", "--name", "x", "--", sys.executable, "train.py", cwd=project.root
    )
    child.expect_exact("ready")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130 and (child.before or "").count("KeyboardInterrupt") == 1
    assert "interrupted by SIGINT" in (child.before or "")
    found = shown(project, "x")
    assert (found["status"], found["run"]["result"]["signal"]) == ("interrupted", "SIGINT")
    assert content(project, "x", "out.txt") == "so far"


def test_the_example_through_run(tmp_path: Path) -> None:
    """The digits, learned for real: one experiment with inputs, params, weights and how it ended."""
    project = Tree(shutil.copytree(EXAMPLE, tmp_path / "digits"))
    subprocess.run([sys.executable, "make_data.py"], cwd=project.root, check=True, timeout=100)
    words = (sys.executable, "train.py", "--epochs", "1", "--hidden", "8")
    found = document(project, "--name", "x", "--", *words, code=0)
    assert {"save/model.npz", "save/metrics.json"} <= {one["path"] for one in found["outputs"]}
    known = shown(project, "x")
    assert (known["status"], known["params"]["hidden"], known["backups"]) == ("done", 8, 3)
    assert set(known["metrics"]) == {"loss", "accuracy"} and known["note"] == "lr0.001"
    assert "epoch 1: loss" in content(project, "x", ".tensortime/records/output.log")
    assert run_cli("verify", "--read-data", cwd=project.root).returncode == 0


# --- where it gets difficult


def test_an_isolated_job_that_was_killed_goes_on_in_its_worktree(project: Tree) -> None:
    """What it wrote until then is nowhere else: the next try finds it there, and it is stored."""
    command = script(project, "VERSION = 'first'\n" + STEPS)
    child = started(project, "--isolated", "--name", "x", *command, SLURM_JOB_ID="77")
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)
    left = str(project.root / "tensortime/x.run")
    assert shown(project, "x")["left"] == left
    told = run_cli("show", "x", cwd=project.root).stdout
    assert f"until it was killed is in {left}" in told and "TENSORTIME_EXPERIMENT=x tensortime run" in told
    assert "still in their folders: x; tensortime show x" in run_cli("doctor", cwd=project.root).stdout
    project.file("train.py", b"VERSION = 'edited'\n" + STEPS.encode())
    found = document(project, "--isolated", *command, code=0, SLURM_JOB_ID="77", SLURM_RESTART_COUNT="1")
    assert [one["path"] for one in found["outputs"]] == ["steps/0", "steps/1"]
    assert content(project, "x", "steps/1") == "first"
    assert not worktrees(project) and shown(project, "x")["left"] is None


def test_a_secret_written_meanwhile_is_not_told_of(project: Tree) -> None:
    """Nobody is asked to store the token that a login wrote."""
    command = script(project, "open('.env', 'w').write('TOKEN=1')\nopen('id_rsa', 'w').write('1')")
    assert document(project, "--name", "x", *command)["missed"] == []


def test_the_script_tells_the_project(project: Tree, tmp_path: Path) -> None:
    """From another folder the script's is the project, unless the folder has backups of its own; isolated is refused."""
    elsewhere = Tree(tmp_path / "elsewhere").file("here.txt")
    words = ["--", sys.executable, str(project.root / "train.py")]
    assert "was not" not in run(elsewhere, "--name", "x", *words).stderr
    assert [one.name for one in api.log(directory=project.root).experiments] == ["x"]
    assert not (elsewhere.root / "tensortime").exists()
    assert "inside the project" in run(elsewhere, "--isolated", *words, code=2).stderr
    api.backup(directory=elsewhere.root, name="own")
    run(elsewhere, "--name", "y", *words)
    assert [one.name for one in api.log(directory=elsewhere.root).experiments] == ["y", "own"]


def test_a_backup_of_another_project_inside_changes_no_inputs(project: Tree, tmp_path: Path) -> None:
    """A tool of the command that backs up its own folder joins with its params; its files are none of this experiment."""
    tool = Tree(tmp_path / "tool").file(
        "tool.py", JOINS.replace("tm.backup(add", "0 and tm.backup(add").encode()
    )
    code = f"import subprocess, sys; subprocess.run([sys.executable, 'tool.py'], cwd={str(tool.root)!r}, check=True)"
    found = document(project, "--name", "x", *script(project, code))
    assert found["outputs"] == [] and shown(project, "x")["params"] == {"lr": 0.1}
    assert shown(project, "x")["files"] == shown(project, "x:1")["files"]
    assert shown(project, "x")["backups"] == 2


def test_a_second_interrupt_while_the_outputs_are_stored(
    project: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is obeyed: nothing half done, the worktree stays, and the report says so."""
    real, calls = snapshot.back_up, list[int]()

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(snapshot, "back_up", interrupted)
    found = document(project, "--isolated", "--name", "x", *PYTHON)
    assert found["problem"]["kind"] == "interrupted" and found["added"] is None
    assert (Path(found["worktree"]) / "save/model.txt").read_text() == "weights"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_terminal_that_hangs_up_twice(
    project: Tree, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The system tells of it, and the shell: the second time the outputs are being stored, and are stored."""
    real, calls = snapshot.back_up, list[int]()

    def told_again(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return real(*args)

    heard = list[int]()
    before = signal.signal(number, lambda got, _: heard.append(got))
    monkeypatch.setattr(snapshot, "back_up", told_again)
    code = f"import os, time; open('out', 'w').close(); os.kill(os.getppid(), {int(number)}); time.sleep(60)"
    try:
        found = document(project, "--name", "x", *script(project, code), code=128 + number)
        os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)
    assert found["status"] == "interrupted" and [one["path"] for one in found["outputs"]] == ["out"]
    assert heard == [number], "heard again once all is stored"


def test_a_job_that_adds_its_results_itself_has_ended(project: Tree) -> None:
    """A submitted script without `run`, but with TimeMachine: its last word ends the experiment."""
    project.file("bin/sbatch", b"#!/bin/sh\n", mode=0o755)
    path = f"{project.root / 'bin'}:{os.environ['PATH']}"
    words = ("--", "env", "A=1", "sbatch", "job.sh")
    assert document(project, "--name", "x", *words, code=0, PATH=path)["status"] == "submitted"
    job = {"TENSORTIME_EXPERIMENT": "x", "TENSORTIME_STORE": str(project.root / "tensortime")}
    project.file("train.py", JOINS.encode())
    subprocess.run(
        [sys.executable, "train.py"],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": PACKAGE, **job},
        check=True,
    )
    assert shown(project, "x")["status"] == "done"
    assert content(project, "x", "out.txt") == "1"
    waits = document(project, "--name", "y", "--", "sbatch", "--wait", "job.sh", code=0, PATH=path)
    assert waits["status"] == "done"


def test_backups_inside_from_a_folder_of_the_project(project: Tree) -> None:
    """A script in a folder below, started there: the project is still that of the run, isolated or not."""
    project.file("sub/train.py", JOINS.encode())
    run(project, "--name", "first", "--", "true")
    for name, options in (("x", ()), ("y", ("--isolated",))):
        words = ["sh", "-c", f"cd sub && exec {sys.executable} train.py"]
        found = document(project, *options, "--name", name, "--", *words)
        assert [one["path"] for one in found["outputs"]] == ["sub/out.txt"], found
        assert shown(project, name)["params"] == {"lr": 0.1}
        (project.root / "sub/out.txt").unlink(missing_ok=True)
    assert {one.name for one in api.log(directory=project.root).experiments} == {"first", "x", "y"}


def test_an_experiment_that_is_removed_while_it_runs_comes_again(project: Tree) -> None:
    """What the command made is worth more than the order to forget it: it is there, with how it ended."""
    removes = f"import subprocess, sys\nsubprocess.run([{sys.executable!r}, '-m', 'tensortime', 'rm', 'x'], check=True)\n"
    found = document(project, "--name", "x", *script(project, TRAIN.decode() + removes))
    assert found["experiment"] == "x" and found["added"]["number"] == 1
    assert content(project, "x", "save/model.txt") == "weights"
    assert shown(project, "x")["run"]["result"]["exit_code"] == 0


LOOP = """\
import os, time
os.makedirs("steps", exist_ok=True)
for step in range(len(os.listdir("steps")), 60):
    with open(f"steps/{step:02}", "w") as file: file.write("x" * 1000)
    if step == 5:
        from tensortime import TimeMachine
        TimeMachine().backup(params={"step": step})
    time.sleep(0.01)
"""


@pytest.mark.long
@pytest.mark.parametrize("options", [(), ("--isolated",)])
def test_kills_at_any_moment(
    project: Tree, options: tuple[str, ...], tally: Callable[[str, int], None]
) -> None:
    """Whenever a run is killed the store is whole, and the next try ends the same experiment with all outputs."""
    project.file("train.py", LOOP.encode())
    for count in range(12):
        name = f"x{count}"
        env = {**os.environ, "PYTHONPATH": PACKAGE, "TENSORTIME_EXPERIMENT": name}
        words = [sys.executable, "-m", "tensortime", "run", *options, *PYTHON]
        child = subprocess.Popen(
            words, cwd=project.root, env=env, stderr=subprocess.DEVNULL, start_new_session=True
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.2 + 0.15 * count)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(60)
        assert run_cli("verify", cwd=project.root).returncode in (0, 4)  # 4: there is no store yet
        found = document(project, *options, *PYTHON, code=0, TENSORTIME_EXPERIMENT=name)
        assert found["status"] == "done"
        files = {path for path in small_files(project, name) if path.startswith("steps/")}
        assert files == {f"steps/{step:02}" for step in range(60)}, count
        shutil.rmtree(project.root / "steps", ignore_errors=True)
    assert not worktrees(project)
    tally("kills of a run", 12)


def small_files(tree: Tree, experiment: str) -> list[str]:
    """The small files of an experiment's newest backup."""
    opened = open_store(str(tree.root / "tensortime"))
    tip = opened.shadow.ref(history.experiment_ref(ExperimentName(experiment)))
    assert tip is not None
    return [text_of(item.path) for item in opened.shadow.tree(tip)]

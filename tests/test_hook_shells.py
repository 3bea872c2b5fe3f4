"""The pre-run hook in real bash, zsh and fish: what is backed up before a typed command, and what stays as it was."""

import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import Tree
from shells import BIN, LOADS, Shell

from tensortime import api, fsops, handover
from tensortime.chronicle import ShowReport
from tensortime.experiments import Experiment

SHELLS = ("bash", "zsh", "fish")
TRAIN = (
    b"import os, sys\nprint('TRAINS', *sys.argv[1:], flush=True)\nsys.exit(int(os.environ.get('CODE', 0)))\n"
)
JOINS = b"from tensortime import TimeMachine\nprint('JOINS', TimeMachine().backup().experiment)\n"
SAID = ">> tensortime: backed up "
Open = Callable[..., Shell]


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project that has a store with one experiment."""
    tree = Tree(tmp_path / "p").file("train.py", TRAIN).file("sub/train.py", TRAIN).file("joins.py", JOINS)
    tree.file("other.py", JOINS).file("pkg/__init__.py").file("pkg/train.py", TRAIN)
    api.backup(directory=tree.root, name="first")
    return tree


@pytest.fixture
def opened(tmp_path: Path, project: Tree) -> Iterator[Open]:
    """Opens shells in the project; they are ended with the test."""
    shells: list[Shell] = []

    def start(name: str, cwd: Path | None = None, **options: object) -> Shell:
        home = Tree(tmp_path / f"home-{len(shells)}").root
        shells.append(Shell(name, home, cwd or project.root, **options))  # type: ignore[arg-type]
        return shells[-1]

    yield start
    for shell in shells:
        shell.close()


def experiments(tree: Tree) -> list[Experiment]:
    """Those after the first, oldest first."""
    return list(reversed(api.log(directory=tree.root).experiments[:-1]))


def clones(tree: Tree) -> bool:
    """Whether files of the project can be stored without copying them."""
    with open(tree.root / "train.py", "rb") as source, open(tree.root.parent / "clone", "wb") as target:
        return fsops.clone(source.fileno(), target.fileno())


def newest(tree: Tree) -> ShowReport:
    """The newest experiment with its run.json."""
    return api.show("@", directory=tree.root)


# --- what is backed up


@pytest.mark.parametrize("name", SHELLS)
def test_a_typed_line_that_trains_is_preceded_by_a_backup(name: str, project: Tree, opened: Open) -> None:
    """The backup is there before the command prints; command and folder are recorded; the status is the command's."""
    shell = opened(name, env={"CODE": "3"})
    shown = shell.run("python train.py --lr '3 e' --api-key abc")
    assert shown.index(SAID) < shown.index("TRAINS --lr 3 e")
    assert shell.status == 3
    [one] = experiments(project)
    assert (one.files, one.status, one.note) == (6, "done", "")
    run = newest(project).run
    assert run["command"] == ["python", "train.py", "--lr", "3 e", "--api-key", "***"]
    assert run["cwd"] == str(project.root)
    assert shown.count("\n") == 1


LINES = {
    "cd sub && python train.py": ("sub", ["python", "train.py"]),
    "python train.py | cat": ("", ["python", "train.py"]),
    "python train.py 1; python train.py 2": ("", ["python", "train.py", "1"]),
    "false; python train.py": ("", ["python", "train.py"]),
    "env LR=1 nice python3 -u train.py >log 2>&1": ("", ["env", "LR=1", "nice", "python3", "-u", "train.py"]),
    "python -m pkg.train": ("", ["python", "-m", "pkg.train"]),
    "python \\\n    train.py --lr 1": ("", ["python", "train.py", "--lr", "1"]),
    " python train.py hidden": ("", ["python", "train.py", "hidden"]),
}
OWN_LINES = {
    "bash": {
        "(cd sub; python train.py)": ("sub", ["python", "train.py"]),
        "for i in 1 2; do python train.py $i; done": ("", ["python", "train.py", "$i"]),
        "LR=2 python train.py": ("", ["LR=2", "python", "train.py"]),
        "for i in 1 2\ndo python train.py x\ndone": ("", ["python", "train.py", "x"]),
    },
    "zsh": {
        "(cd sub; python train.py)": ("sub", ["python", "train.py"]),
        "for i in 1 2; do python train.py $i; done": ("", ["python", "train.py", "$i"]),
        "LR=2 python train.py": ("", ["LR=2", "python", "train.py"]),
    },
    "fish": {
        "for i in 1 2; python train.py $i; end": ("", ["python", "train.py", "$i"]),
        "cd sub; and python train.py": ("sub", ["python", "train.py"]),
        "begin; cd sub; python train.py; end": ("sub", ["python", "train.py"]),
    },
}


@pytest.mark.parametrize("name", SHELLS)
def test_lines_that_train(name: str, project: Tree, opened: Open) -> None:
    """Pipelines, `cd x && python …`, brackets, several commands, redirections, several lines: one backup a line."""
    shell = opened(name, env={"HISTCONTROL": ""})
    top = project.root
    for count, (line, expected) in enumerate({**LINES, **OWN_LINES[name]}.items(), 1):
        shell.run(f"cd {top}")
        shown = shell.run(line)
        assert shown.count(SAID) == 1, (line, shown)
        assert len(experiments(project)) == count, line
        run = newest(project).run
        folder, words = expected
        assert (run["cwd"], run["command"]) == (str(top / folder), words), line


@pytest.mark.parametrize("name", SHELLS)
def test_a_background_job(name: str, project: Tree, opened: Open) -> None:
    """`python train.py &`: the backup comes before the job, and the shell goes on at once."""
    shell = opened(name)
    assert SAID in shell.run("python train.py &")
    assert [newest(project).run["command"]] == [["python", "train.py"]]
    assert "alive" in shell.run("echo alive").splitlines()


@pytest.mark.parametrize("name", SHELLS)
def test_an_alias(name: str, project: Tree, opened: Open) -> None:
    """An alias for Python counts as what it stands for."""
    alias = "alias tr='python -u train.py'\n"
    shell = opened(name, after=alias)
    assert SAID in shell.run("tr --lr 1")
    assert newest(project).run["command"] == ["python", "-u", "train.py", "--lr", "1"]


@pytest.mark.parametrize("name", SHELLS)
def test_a_script_of_a_project_elsewhere(name: str, tmp_path: Path, project: Tree, opened: Open) -> None:
    """`python /path/to/train.py`, typed anywhere: its project is backed up."""
    shell = opened(name, cwd=Tree(tmp_path / "elsewhere").root)
    assert SAID in shell.run(f"python {project.root}/train.py")
    assert newest(project).run["cwd"] == str(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere" / "tensortime").exists()


# --- what is not


QUIET = (
    *("ls", "python -c 'print(1)'", "python -V", "echo python train.py", "python -m json.tool train.py"),
    *("tensortime log", "python nothing.py", "cat train.py", "python -m tensortime log"),
)


@pytest.mark.parametrize("name", SHELLS)
def test_lines_that_do_not_train(name: str, project: Tree, opened: Open) -> None:
    """Nothing is said and nothing is stored."""
    shell = opened(name)
    for line in QUIET:
        assert ">> tensortime" not in shell.run(line), line
    assert experiments(project) == []


@pytest.mark.parametrize("name", SHELLS)
def test_no_store_no_backup(name: str, tmp_path: Path, opened: Open) -> None:
    """Where no backup was ever made the hook makes none, and no store."""
    tree = Tree(tmp_path / "new").file("train.py", TRAIN)
    tree.file("pyproject.toml", b"[tool.tensortime]\nignore = []\n")
    shell = opened(name, cwd=tree.root)
    assert shell.run("python train.py") == "TRAINS"
    assert sorted(os.listdir(tree.root)) == ["pyproject.toml", "train.py"]


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize(
    "variables", [{"TENSORTIME": "off"}, {"TENSORTIME_EXPERIMENT": "first"}, {"RANK": "1"}]
)
def test_switched_off(name: str, variables: dict[str, str], project: Tree, opened: Open) -> None:
    """TENSORTIME=off, an experiment that is joined anyway, another rank: nothing."""
    shell = opened(name, env=variables)
    assert shell.run("python train.py") == "TRAINS"
    assert experiments(project) == []


# --- the shell stays as it was


def test_bash_keeps_its_variables(project: Tree, opened: Open) -> None:
    """$?, $_, PIPESTATUS, PROMPT_COMMAND and the PS0 of another tool are what they were."""
    shell = opened(
        "bash",
        before="HISTCONTROL=ignoreboth PS0='[ps0 $(echo other)]' PROMPT_COMMAND='prompted=yes'\n",
    )
    shell.run("(exit 5)")
    assert shell.run('python train.py "$?"').endswith("TRAINS 5")
    shell.run("echo one two")
    assert shell.run('python train.py "$_"').endswith("TRAINS two")
    shell.run("false | true | (exit 7)")
    assert shell.run('python train.py "${PIPESTATUS[@]}"').endswith("TRAINS 1 0 7")
    shown = shell.run('echo "$PROMPT_COMMAND $prompted"')
    assert shown == "[ps0 other]prompted=yes yes"
    assert len(experiments(project)) == 3


def test_zsh_and_fish_keep_their_status(project: Tree, opened: Open) -> None:
    """$?, $_ and pipestatus of zsh, $status of fish."""
    shell = opened("zsh")
    shell.run("(exit 5)")
    assert shell.run('python train.py "$?"').endswith("TRAINS 5")
    shell.run("echo one two")
    assert shell.run('python train.py "$_"').endswith("TRAINS two")
    shell.run("false | true | (exit 7)")
    assert shell.run('python train.py "${pipestatus[@]}"').endswith("TRAINS 1 0 7")
    shell = opened("fish")
    shell.run("sh -c 'exit 5'")
    assert shell.run("python train.py $status").endswith("TRAINS 5")
    shell.run("false | true")
    assert shell.run("python train.py $pipestatus").endswith("TRAINS 1 0")


STUBS = {
    "fails": "exit 7",
    "prints": "echo garbage; echo more; exit 1",
    "reads": "cat >/dev/null",
    "is killed": "kill -9 $$",
}


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("what", STUBS)
def test_a_broken_tensortime(name: str, what: str, tmp_path: Path, opened: Open) -> None:
    """Whatever tensortime does, the command runs, its output and status are its own, and stdin is not eaten."""
    stub = tmp_path / "stub" / "tensortime"
    shell = opened(name, env={"CODE": "4"})
    Tree(stub.parent).file("tensortime", f"#!/bin/sh\n{STUBS[what]}\n".encode(), mode=0o755)
    shell.run(f"export PATH={stub.parent}:$PATH" if name != "fish" else f"set -x PATH {stub.parent} $PATH")
    shown = shell.run("python train.py >out")
    assert shell.status == 4
    if what != "is killed":  # zsh says that something was
        assert shown == ("garbage\nmore" if what == "prints" else "")
    assert shell.run("cat out") == "TRAINS"


@pytest.mark.parametrize("name", SHELLS)
def test_a_missing_tensortime(name: str, tmp_path: Path, opened: Open) -> None:
    """Uninstalled, or another environment is active: nothing is said."""
    only = Tree(tmp_path / "bin").symlink("python", os.path.join(BIN, os.path.basename(sys.executable)))
    shell = opened(name)
    shell.run(
        f"export PATH={only.root}:/usr/bin:/bin"
        if name != "fish"
        else f"set -x PATH {only.root} /usr/bin /bin"
    )
    assert shell.run("python train.py") == "TRAINS"
    assert shell.status == 0


@pytest.mark.parametrize("name", SHELLS)
def test_loaded_twice(name: str, project: Tree, opened: Open) -> None:
    """One backup a line, however often the file is read."""
    shell = opened(
        name, before="export HISTCONTROL=ignoreboth\n" if name != "fish" else "", after=LOADS[name]
    )
    shell.run(LOADS[name].strip())
    assert shell.run("python train.py").count(SAID) == 1
    assert shell.run("python train.py").count(SAID) == 1
    assert len(experiments(project)) == 2


@pytest.mark.parametrize("name", ["bash", "zsh"])
@pytest.mark.parametrize("control", ["", "ignoreboth"])
def test_under_strict_options(name: str, control: str, project: Tree, opened: Open) -> None:
    """`set -u` and `set -e`, also while the file is read: the shell lives, the hook works, nothing is unbound."""
    shell = opened(name, before=f"HISTCONTROL={control}\nset -eu\n" if control else "set -eu\n")
    for _ in range(2):
        shown = shell.run("python train.py")
        assert shown.count(SAID) == 1
        assert shown.endswith("\nTRAINS")
    assert shell.run("echo $PWD") == str(project.root)
    assert shell.run("ls >/dev/null") == ""


def test_not_in_a_script(tmp_path: Path, project: Tree) -> None:
    """A shell that is not interactive loads nothing, and goes on behind the line that loads the hook."""
    for name in ("bash", "zsh"):
        text = f"{LOADS[name]}echo behind\npython train.py\n"
        script = Tree(tmp_path).file("script", text.encode()).root / "script"
        env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
        done = subprocess.run(
            [name, script], cwd=project.root, env=env, capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("behind\nTRAINS\n", "")
    assert experiments(project) == []


def test_other_hooks_go_on(project: Tree, opened: Open) -> None:
    """bash-preexec's functions, zsh's other preexec functions and fish's other events run as before."""
    preexec = 'bash_preexec_imported=defined preexec_functions=(other)\nother() { echo "other:$1"; }\n'
    # What bash-preexec does, in short.
    preexec += 'trap \'if [[ ${armed-} ]]; then armed=; for f in "${preexec_functions[@]}"; do '
    preexec += '"$f" "$(HISTTIMEFORMAT= history 1 | sed "s/^ *[0-9]* *//")"; done; fi\' DEBUG\nPROMPT_COMMAND="armed=1"\n'
    shell = opened("bash", before=preexec)
    shown = shell.run("python train.py")
    assert "other:python train.py" in shown
    assert shown.count(SAID) == 1
    assert shell.run('echo "ps0=${PS0-}"').endswith("ps0=")
    shell = opened(
        "zsh", before='preexec_functions=(other); other() { echo "other:$1" }; preexec() { echo "own:$1" }\n'
    )
    shown = shell.run("python train.py")
    assert shown.count(SAID) == 1
    assert "own:python train.py" in shown
    assert "other:python train.py" in shown
    shell = opened("fish", before='function other --on-event fish_preexec; echo "other:<$argv>"; end\n')
    shown = shell.run("python train.py")
    assert shown.count(SAID) == 1
    assert "other:<python train.py>" in shown


@pytest.mark.parametrize("control", ["", "ignorespace", "ignoredups", "ignoreboth", "erasedups"])
def test_bash_never_takes_an_older_line_for_the_typed_one(control: str, project: Tree, opened: Open) -> None:
    """With HISTCONTROL a line may not be in the history: one that repeats is backed up, one behind a blank is not
    taken for the line before it."""
    shell = opened("bash", before=f"HISTCONTROL={control}\n")
    hides = control in ("ignorespace", "ignoreboth")
    assert shell.run("python train.py 1").count(SAID) == 1
    assert shell.run("python train.py 1").count(SAID) == 1
    assert shell.run("python train.py 1 &").count(SAID) == 1
    shell.run("wait")
    assert shell.run("python train.py 1 | cat").count(SAID) == 1
    assert shell.run("python train.py 1 | cat").count(SAID) == 1
    assert shell.run(" ls").count(SAID) == 0
    assert shell.run(" echo python train.py").count(SAID) == 0
    assert shell.run(" cd sub").count(SAID) == 0
    assert shell.run(" cd ..").count(SAID) == 0
    assert shell.run(" python train.py").count(SAID) == (0 if hides else 1)
    shell.run("python train.py 4 >log 2>&1")
    assert shell.run("python train.py 4 >log 2>&1; cat log").count(SAID) == 1
    assert shell.run("python train.py 4 >log 2>&1; cat log").count(SAID) == 1
    shown = shell.run(" python train.py 2")
    assert shown.count(SAID) == (0 if hides else 1)
    assert shell.run("python \\\n  train.py 3").count(SAID) == 1
    assert shell.run(" ls").count(SAID) == 0
    assert shell.run("set +o history").count(SAID) == 0
    assert shell.run("ls").count(SAID) == 0


SLOW = """#!{python}
import sys, time
from tensortime import __main__, hook
hook.END_SECONDS, hook.back_up_before = 60, lambda *_: time.sleep(30)
__main__.main()
"""


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("stub", ["#!/bin/sh\nexec sleep 30\n", SLOW])
def test_ctrl_c_while_the_hook_runs(
    name: str, stub: str, tmp_path: Path, project: Tree, opened: Open
) -> None:
    """The prompt comes back at once, and the typed command is cancelled; fish goes on to it."""
    Tree(tmp_path / "stub").file("tensortime", stub.format(python=sys.executable).encode(), mode=0o755)
    shell = opened(name)
    shell.run(
        f"export PATH={tmp_path}/stub:$PATH" if name != "fish" else f"set -x PATH {tmp_path}/stub $PATH"
    )
    started = time.monotonic()
    shell.type_ahead("python train.py >ran", 1.5)
    shown = shell.interrupt()
    assert time.monotonic() - started < 15
    assert "Traceback" not in shown
    assert shell.run("echo alive").endswith("alive")
    assert (project.root / "ran").exists() == (name == "fish")


@pytest.mark.parametrize("name", SHELLS)
def test_an_editor_is_not_preceded_by_python(name: str, tmp_path: Path, opened: Open) -> None:
    """Lines without a word that could train, and folders without a store, start nothing at all."""
    canary = tmp_path / "canary"
    stub = f'#!/bin/sh\n(echo "$@"; cat) >>{canary}\n'.encode()
    Tree(tmp_path / "stub").file("tensortime", stub, mode=0o755)
    outside = Tree(tmp_path / "outside").file("train.py", TRAIN)
    shell = opened(name)
    shell.run(
        f"export PATH={tmp_path}/stub:$PATH" if name != "fish" else f"set -x PATH {tmp_path}/stub $PATH"
    )
    for line in ("cat train.py", "ls pythonic", "echo my-python x", f"cd {outside.root}", "python train.py"):
        shell.run(line)
    assert not canary.exists()
    shell.run(f"cd {outside.root} && python train.py 'a  b' \"$HOME\"")
    typed = f"cd {outside.root} && python train.py 'a  b' \"$HOME\""
    assert canary.read_text() == f"hook --before\n{typed}\n", "what is typed is no word that others can read"


# --- two seconds


@pytest.mark.parametrize("name", SHELLS)
def test_a_large_file_is_left_out_and_named(name: str, project: Tree, opened: Open) -> None:
    """What can neither be cloned nor is known is named, with the command that stores it; that command works."""
    project.file("data/big.bin", size=3 << 20).file("data/zero.bin", b"\0" * (2 << 20))
    shell = opened(name)
    shown = shell.run("python train.py")
    [one] = experiments(project)
    if clones(project):
        assert (one.status, one.files) == ("done", 8)
        return
    assert (one.status, one.files) == ("incomplete", 6)
    found = re.search(
        r"left out so that the command could start at once: data/big.bin, data/zero.bin; (.*) stores what is missing",
        shown,
    )
    assert found
    assert "backed up" in shell.run(found[1])
    [one] = experiments(project)
    assert (one.status, one.files, one.backups) == ("done", 8, 2)
    assert "left out" not in shell.run("python train.py")


# --- the command joins


@pytest.mark.parametrize("name", SHELLS)
def test_the_command_joins_the_experiment_of_the_hook(name: str, project: Tree, opened: Open) -> None:
    """tm.backup() in the command is the next backup of the same experiment, and complete."""
    project.file("data/big.bin", size=3 << 20)
    shell = opened(name)
    shown = shell.run("python joins.py")
    [one] = experiments(project)
    assert f"JOINS {one.name}" in shown
    assert (one.backups, one.files, one.status) == (2, 7, "done")


@pytest.mark.parametrize("name", SHELLS)
def test_only_one_process_joins(name: str, project: Tree, opened: Open) -> None:
    """`python a.py; python a.py`, jobs side by side: each makes an experiment of its own, only one is the hook's."""
    shell = opened(name)
    shell.run("python joins.py; python joins.py")
    assert [one.backups for one in experiments(project)] == [2, 1]
    shell.run("python joins.py & python other.py & wait")
    assert sorted(one.backups for one in experiments(project)) == [1, 1, 2, 2]
    shell.run("python joins.py & python joins.py & wait")
    assert sorted(one.backups for one in experiments(project)) == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    "line", ["nohup python joins.py >log 2>&1", "setsid -w python -u ./joins.py", "python -m joins"]
)
def test_it_joins_from_another_session_and_as_a_module(line: str, project: Tree, opened: Open) -> None:
    """nohup, setsid and `python -m` change nothing."""
    shell = opened("bash")
    shell.run(line)
    assert [one.backups for one in experiments(project)] == [2]


def test_the_first_rank_of_a_launch_joins(tmp_path: Path, project: Tree, opened: Open) -> None:
    """torchrun starts each rank in a session of its own: rank 0 joins, the others do nothing."""
    launcher = f"#!{sys.executable}\nimport os, subprocess, sys\nranks = [subprocess.Popen("
    launcher += "[sys.executable, '-u', *sys.argv[2:]], env={**os.environ, 'RANK': str(rank)}, start_new_session=True)"
    launcher += " for rank in range(2)]\nfor one in ranks: one.wait()\n"
    Tree(tmp_path / "launcher").file("torchrun", launcher.encode(), mode=0o755)
    shell = opened("bash")
    shell.run(f"export PATH={tmp_path}/launcher:$PATH")
    shown = shell.run("torchrun --nproc-per-node=2 joins.py")
    [one] = experiments(project)
    assert one.backups == 2
    assert f"JOINS {one.name}" in shown
    assert "JOINS None" in shown
    assert newest(project).run["command"] == [sys.executable, "-u", "joins.py"]
    assert api.show(f"{one.name}:1", directory=project.root).run["command"][0] == "torchrun"  # type: ignore[index]


def test_a_name_of_its_own_does_not_join(project: Tree, opened: Open) -> None:
    """exp_dir names another experiment; exp_suffix is the note of the joined one."""
    project.file("named.py", b"from tensortime import TimeMachine\nTimeMachine(exp_dir='mine').backup()\n")
    project.file("noted.py", b"from tensortime import TimeMachine\nTimeMachine(exp_suffix='lr 3').backup()\n")
    shell = opened("bash")
    shell.run("python named.py")
    assert sorted(one.backups for one in experiments(project)) == [1, 1]
    assert experiments(project)[-1].name == "mine"
    shell.run("python noted.py")
    assert (experiments(project)[-1].backups, experiments(project)[-1].note) == (2, "lr 3")


def test_a_run_that_never_asked_leaves_nothing_to_the_next(project: Tree, opened: Open) -> None:
    """What the hook began for a run that crashed is not joined by a later one, even of the same script."""
    project.file("joins.py", b"raise SystemExit(1)\n")
    shell = opened("bash")
    shell.run("python joins.py")
    project.file("joins.py", JOINS)
    shell.run("python joins.py; python joins.py")
    assert [one.backups for one in experiments(project)] == [1, 2, 1]


def test_old_records_are_swept(project: Tree, opened: Open) -> None:
    """Records of last month go with the next backup before a command; the cache holds no others."""
    cache = project.root / "tensortime" / ".cache"
    old = cache / f"{handover.PREFIX}1-{time.time_ns() - 40 * 86400 * 10**9}"
    old.write_bytes(b"{}")
    shell = opened("bash")
    shell.run("python train.py")
    assert not old.exists()
    [record] = cache.glob("hook-*")
    assert stat.S_IMODE(record.stat().st_mode) == 0o600

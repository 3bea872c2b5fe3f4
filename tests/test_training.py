"""Training scripts in processes of their own: what a backup leaves as it was, launches, stdin, odd ways to be called."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pexpect
import pytest
from builders import Tree, snapshot_of

import tensortime
from tensortime import api

PACKAGE = str(Path(tensortime.__file__).parent.parent)
TRAIN = b"""\
from tensortime import TimeMachine

report = TimeMachine(exp_dir="x").backup()
print("trained", report.experiment)
"""
ASKING = TRAIN.replace(b'exp_dir="x"', b"")

UNTOUCHED = b"""\
import gc, locale, os, random, resource, signal, sys, threading, warnings

def state():
    fds = os.listdir("/dev/fd")
    try:
        children = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        children = None
    umask = os.umask(0)
    os.umask(umask)
    return {
        "cwd": os.getcwd(), "environ": dict(os.environ), "locale": locale.setlocale(locale.LC_ALL), "umask": umask,
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "wakeup": signal.set_wakeup_fd(-1), "masked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "threads": [thread.name for thread in threading.enumerate()], "children": children, "fds": len(fds),
        "hooks": (sys.excepthook, sys.stdout, sys.stderr, sys.path[:], sys.argv[:], warnings.filters[:]),
        "random": random.getstate(), "limits": resource.getrlimit(resource.RLIMIT_NOFILE), "gc": gc.isenabled(),
    }

signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from tensortime import TimeMachine
before = state()
tm = TimeMachine(exp_dir="x")
assert tm.backup().experiment == "x"
assert tm.backup(add=["data"]).number == 2
os.environ["TENSORTIME_STORE"] = "/proc/nowhere"
before["environ"]["TENSORTIME_STORE"] = "/proc/nowhere"
assert tm.backup().experiment is None
for thread in threading.enumerate():  # what reads packages is not waited for, and ends by itself
    if thread.name == "tensortime-packages":
        thread.join(30)
after = state()
different = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
assert not different, different
"""


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with a script that backs up, and a large file."""
    tree = Tree(tmp_path / "p").file("train.py", TRAIN).file("ask.py", ASKING).file("untouched.py", UNTOUCHED)
    return tree.file("data/part.bin", size=(1 << 20) + 1)


def surroundings(**changed: str | None) -> dict[str, str]:
    """The sealed environment, with the package to be found; None removes a variable."""
    wanted = {**os.environ, "PYTHONPATH": PACKAGE, **changed}
    return {name: value for name, value in wanted.items() if value is not None}


def python(
    *words: str | Path, cwd: Path, env: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
) -> subprocess.CompletedProcess[str]:
    """Run Python to its end."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=env or surroundings(),
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def experiments(tree: Tree) -> list[str]:
    """The experiments of a project, newest first."""
    return [str(one.name) for one in api.log(directory=tree.root).experiments]


def times(tree: Tree) -> dict[str, int]:
    """The modification time of every path outside the store, the folders' too."""
    paths = [tree.root, *(path for path in tree.root.rglob("*") if "tensortime" not in path.parts)]
    return {str(path): path.lstat().st_mtime_ns for path in paths if path != tree.root}


# --- what stays as it was


def test_a_backup_changes_nothing_of_the_process_and_nothing_of_the_project(project: Tree) -> None:
    """Folder, environment, handlers, locale, umask, threads, children, descriptors, files: all as before, also after
    a backup that failed, and with SIGCHLD ignored."""
    before, clock = snapshot_of(project.root), times(project)
    done = python("untouched.py", cwd=project.root)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert snapshot_of(project.root, exclude=["tensortime"]) == before
    assert times(project) == clock


def test_what_a_backup_says_goes_to_stderr(project: Tree) -> None:
    """stdout belongs to the training; every line of ours is marked."""
    done = python("train.py", cwd=project.root)
    assert (done.returncode, done.stdout) == (0, "trained x\n")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(">> tensortime: ") for line in lines)


INTERRUPTS_ITSELF = b"""
import os, signal
from tensortime import TimeMachine, snapshot

tm, publish = TimeMachine(exp_dir="x"), snapshot.publish

def at_its_end(*words):
    os.kill(os.getpid(), signal.SIGUSR1)
    return publish(*words)

def save(*_):
    tm.record(saved=1)
    print("handler", tm.backup(add=["data"]).experiment, TimeMachine(exp_dir="y").backup().experiment, flush=True)

snapshot.publish = at_its_end
signal.signal(signal.SIGUSR1, save)
print("backup", tm.backup().experiment)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
print("later", tm.backup(add=["data"]).number)
"""


def test_a_signal_handler_that_asks_for_a_backup_during_one(project: Tree) -> None:
    """Schedulers send a signal before they end a job, and it may come at any moment: it would wait for itself."""
    project.file("signalled.py", INTERRUPTS_ITSELF)
    done = python("signalled.py", cwd=project.root)
    assert done.stdout.splitlines() == ["handler None None", "backup x", "later 2"], done.stderr
    assert done.stderr.count("no backup: this call interrupted one in the same thread") == 2


AT_EXIT = b"""
import atexit, sys
from tensortime import TimeMachine
tm = TimeMachine()
wait, first = (word == "True" for word in sys.argv[1:])
if first:
    tm.backup(wait=wait)
for number in range(150):
    open(f"{number}.txt", "w").write(f"{number}")
open("late.bin", "wb").write(b"late" * (1 << 19))
atexit.register(lambda: tm.backup(wait=wait))
"""


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("wait", [True, False])
def test_k14_a_backup_that_atexit_calls_is_whole(project: Tree, wait: bool, first: bool) -> None:
    """K14: where no thread can begin any more it does without, and what it does not wait for is waited for."""
    project.file("train.py", AT_EXIT)
    done = python("train.py", str(wait), str(first), cwd=project.root)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "NO BACKUP" not in done.stderr
    shown = api.show("@", directory=project.root)
    assert (shown.experiment.backups, shown.run["skipped"]) == (1 + first, []), done.stderr
    api.restore("@", directory=project.root)
    restored = project.root / "tensortime" / shown.experiment.name
    assert (restored / "late.bin").read_bytes() == b"late" * (1 << 19)
    assert (restored / "149.txt").read_bytes() == b"149"


# --- one launch, one experiment


def test_c15_eight_ranks_are_one_experiment(project: Tree) -> None:
    """C15: torchrun starts train.py eight times; rank 0 backs up, the others train on without a word."""
    ranks = [
        subprocess.Popen(
            [sys.executable, "train.py"],
            cwd=project.root,
            env=surroundings(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="8"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(8)
    ]
    said = [rank.communicate(timeout=60) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * 8
    assert experiments(project) == ["x"]
    assert said[0][0] == "trained x\n"
    assert said[1:] == [("trained None\n", "")] * 7


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_c15_children_that_run_train_py_again_do_nothing(project: Tree, method: str) -> None:
    """C15, E10: a DataLoader's workers import train.py from the top, or call backup() themselves: one experiment."""
    project.file(
        "train.py",
        TRAIN
        + b"import multiprocessing\n"
        + b"def work(_): return TimeMachine('t', 'y', strict=True).backup().experiment\n"
        + b"if __name__ == '__main__':\n"
        + f"    with multiprocessing.get_context('{method}').Pool(2) as pool:\n".encode()
        + b"        print(pool.map(work, range(2)))\n",
    )
    done = python("train.py", cwd=project.root)
    assert done.returncode == 0, done.stderr
    # A child that begins late says its line after that of the parent, which did not need it.
    assert "[None, None]" in done.stdout.splitlines()
    assert experiments(project) == ["x"]
    assert not (project.root / "t").exists()


# --- E07: nobody to ask


@pytest.mark.parametrize("stdin", ["closed", "null", "pipe", "nohup"])
def test_e07_without_a_terminal_nobody_is_asked(project: Tree, stdin: str) -> None:
    """E07: stdin closed, /dev/null, a pipe that never says anything, nohup: no prompt, a name by time."""
    command = [sys.executable, "ask.py"]
    if stdin == "closed":
        command = ["sh", "-c", '"$0" ask.py <&-', sys.executable]
    if stdin == "nohup":
        command = ["nohup", *command]
    read, write = os.pipe()
    try:
        source = read if stdin == "pipe" else subprocess.DEVNULL
        done = subprocess.run(
            command,
            cwd=project.root,
            env=surroundings(),
            stdin=source,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        os.close(read)
        os.close(write)
    assert done.returncode == 0, done.stderr
    assert "note for this experiment" not in done.stderr
    assert [f"trained {name}" for name in experiments(project)] == [done.stdout.strip()]


def on_a_terminal(project: Tree, *words: str, **changed: str | None) -> "pexpect.spawn[str]":
    """Start a program whose stdin, stdout and stderr are a terminal."""
    env = {"TERM": "xterm", "CI": None, **changed}
    return pexpect.spawn(
        words[0],
        list(words[1:]),
        cwd=str(project.root),
        env=surroundings(**env),
        encoding="utf-8",
        timeout=30,
    )


@pytest.mark.parametrize(("typed", "ending"), [("lr 3e-4", "-lr-3e-4"), ("", ""), ("学习率", "-学习率")])
def test_the_prompt(project: Tree, typed: str, ending: str) -> None:
    """On a terminal a person is asked once for a note; Enter means none."""
    child = on_a_terminal(project, sys.executable, "ask.py", LANG="C.UTF-8")
    child.expect_exact("note for this experiment (Enter: none) ")
    child.sendline(typed)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert api.show("@", directory=project.root).experiment.note == typed
    assert len(experiments(project)[0]) == len("2026-11-23_09-36-04" + ending)
    assert experiments(project)[0].endswith(ending)


def test_end_of_input_at_the_prompt_is_no_note(project: Tree) -> None:
    """Ctrl-D is an answer, too."""
    child = on_a_terminal(project, sys.executable, "ask.py")
    child.expect_exact("(Enter: none) ")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert len(experiments(project)) == 1


def test_ctrl_c_at_the_prompt_ends_the_script(project: Tree) -> None:
    """K08: KeyboardInterrupt belongs to the person, not to us."""
    child = on_a_terminal(project, sys.executable, "ask.py")
    child.expect_exact("(Enter: none) ")
    child.sendintr()
    child.expect("KeyboardInterrupt")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130 or child.signalstatus == signal.SIGINT
    assert not (project.root / "tensortime").exists()


@pytest.mark.parametrize("variables", [{"RANK": "1"}, {"CI": "true"}, {"TENSORTIME": "off"}])
def test_on_a_terminal_only_who_may_answer_is_asked(project: Tree, variables: dict[str, str]) -> None:
    """Another rank, CI, switched off: no prompt though there is a terminal."""
    child = on_a_terminal(project, sys.executable, "ask.py", **variables)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert "note for" not in (child.before or "")


def test_e07_a_background_job_is_never_stopped_by_the_prompt(project: Tree) -> None:
    """E07: `python train.py &` on a terminal: reading from it would stop the job; it is not asked and ends."""
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("needs job control: install bash")
    child = on_a_terminal(project, shell, "--norc", "--noprofile", "-i", PS1="$ ", HISTFILE=os.devnull)
    child.sendline(f"{sys.executable} ask.py & wait -n; echo ended-$?; jobs; echo listed")
    child.expect("ended-0")
    child.expect(r"listed\r\n")
    assert "Stopped" not in (child.before or "")
    child.sendline("exit")
    child.close(force=True)
    assert len(experiments(project)) == 1


# --- E09, E10: from where and how it is called


def test_e09_a_script_started_from_elsewhere_backs_up_its_own_folder(project: Tree, tmp_path: Path) -> None:
    """E09: Slurm, Hydra and cron start in a folder of their own: the script's folder is the project."""
    elsewhere = Tree(tmp_path / "job").root
    assert python(project.root / "train.py", cwd=elsewhere).returncode == 0
    assert python(project.root / "train.py", cwd=Path("/")).returncode == 0
    home = surroundings(HOME=str(tmp_path))
    assert python("p/train.py", cwd=tmp_path, env=home).returncode == 0
    assert experiments(project) == ["x-3", "x-2", "x"]
    assert os.listdir(elsewhere) == []


def test_the_current_folder_is_the_project_of_scripts_in_it(project: Tree) -> None:
    """`python scripts/train.py` backs up the whole project, and from below a store its project is found."""
    project.file("scripts/train.py", TRAIN)
    assert python("scripts/train.py", cwd=project.root).returncode == 0
    assert python("train.py", cwd=project.root / "scripts").returncode == 0
    assert experiments(project) == ["x-2", "x"]
    assert not (project.root / "scripts/tensortime").exists()


def test_e09_a_deleted_current_folder(project: Tree, tmp_path: Path) -> None:
    """E09: with a script its folder is the project; without one there is one warning and training goes on."""
    Tree(tmp_path / "gone")
    leave = 'cd "$1" && rmdir "$1" && exec "$0" "$2" "$3"'
    for words, said in ((("-W", "default"), ""), (("-c", TRAIN.decode()), "the current folder was deleted")):
        gone = Tree(tmp_path / "gone").root
        if not said:
            words = (str(project.root / "train.py"), "")
        done = subprocess.run(
            ["sh", "-c", leave, sys.executable, str(gone), *words],
            cwd=tmp_path,
            env=surroundings(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stderr
    assert experiments(project) == ["x"]


def test_e10_called_from_odd_places(project: Tree) -> None:
    """E10: python -c, -m, under cProfile, in a thread, in a forked child, in pytest: the current folder each time."""
    project.file("pkg/__init__.py").file("pkg/mod.py", TRAIN)
    project.file("test_it.py", b"def test_it():\n    import train\n    assert train.report.experiment")
    thread = b"import threading\nt = threading.Thread(target=lambda: exec(open('train.py').read()))\nt.start(); t.join()"
    fork = b"import os\npid = os.fork()\nif pid: assert os.waitpid(pid, 0)[1] == 0\nelse: import train"
    project.file("thread.py", thread).file("fork.py", fork)
    calls = [
        ("-c", TRAIN.decode()),
        ("-m", "pkg.mod"),
        ("-m", "cProfile", "-o", os.devnull, "train.py"),
        ("thread.py",),
        ("fork.py",),
        ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "test_it.py"),
        ("-I", "-c", f"import sys; sys.path.insert(0, {PACKAGE!r})\n{TRAIN.decode()}"),
    ]
    for count, words in enumerate(calls, 1):
        done = python(*words, cwd=project.root)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert len(experiments(project)) == count, (words, done.stderr)
    assert api.show("@", directory=project.root).experiment.project == str(project.root)


# --- the environment fails


def test_d08_a_store_of_somebody_else_is_one_warning(project: Tree) -> None:
    """D08, S16: the store cannot be read: NO BACKUP in one line, exit 0; strict ends the script with the error."""
    api.backup(directory=project.root, name="theirs")
    store = project.root / "tensortime"
    command = [sys.executable, "train.py"]
    if os.getuid() == 0:
        # root may do everything: this process gives up the right to pass by modes, and remains root otherwise.
        os.chown(store, 65534, 65534)
        command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", *command]
    else:
        store.chmod(0)
    try:
        done = subprocess.run(command, cwd=project.root, env=surroundings(), capture_output=True, text=True)
    finally:
        os.chown(store, os.getuid(), os.getgid())
        store.chmod(0o700)
    assert (done.returncode, done.stdout) == (0, "trained None\n")
    assert done.stderr.startswith(">> tensortime: NO BACKUP was made: ")
    assert "it belongs to " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert experiments(project) == ["theirs"]


def test_e08_nobody_listens(project: Tree) -> None:
    """E08: with stdout and stderr closed a training still backs up and ends well."""
    done = subprocess.run(
        ["sh", "-c", '"$0" train.py >&- 2>&-', sys.executable],
        cwd=project.root,
        env=surroundings(),
        timeout=60,
    )
    assert done.returncode == 0
    assert experiments(project) == ["x"]

"""`tensortime hook`: its scripts, and the backup before a command within two seconds, whatever happens."""

import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from builders import Tree, run_cli
from mounts import loop_mount

import tensortime
from tensortime import api, fsops, handover, hook
from tensortime.monitor import Meter, NullMonitor, OutOfTime
from tensortime.redaction import redact_arguments
from tensortime.reports import NOT_AT_ONCE

ROOT = Path(tensortime.__file__).parent.parent
LINE = "python train.py"


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project that has a store with one experiment."""
    tree = Tree(tmp_path / "p").file("train.py", b"print(1)\n")
    api.backup(directory=tree.root, name="first")
    return tree


def names(tree: Tree) -> list[str]:
    """The experiments after the first, oldest first."""
    return [str(one.name) for one in reversed(api.log(directory=tree.root).experiments)][1:]


def before(tree: Tree, line: str = LINE, patch: str = "", **env: str) -> tuple[str, float]:
    """What `hook --before` says on stderr, and how long it took; `patch` is Python code that runs in it first."""
    program = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{patch}\nfrom tensortime.__main__ import main\nmain()"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, "hook", "--before", line],
        cwd=tree.root,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == ""
    assert all(one.startswith(">> tensortime: ") for one in done.stderr.splitlines())
    assert len(done.stderr.splitlines()) <= 3
    return done.stderr, time.monotonic() - started


# --- the scripts


@pytest.mark.parametrize("shell", hook.SHELLS)
def test_the_scripts_are_found_in_a_checkout(shell: str) -> None:
    """`tensortime hook SHELL` prints the file in hooks/, also from an editable install."""
    done = run_cli("hook", shell, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "hooks" / f"tensortime.{shell}").read_text()


def test_the_scripts_are_in_the_wheel(tmp_path: Path) -> None:
    """A wheel carries them, and prints them once it is unpacked elsewhere."""
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    for shell in hook.SHELLS:
        program = f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r})\n"
        program += "from tensortime import hook; hook.print_script(sys.argv[1], 'completion'); "
        program += "sys.exit(hook.print_script(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-I", "-c", program, shell],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        both = [(ROOT / "hooks" / f"{what}.{shell}").read_text() for what in ("completion", "tensortime")]
        assert done.stdout == "".join(both)


@pytest.mark.parametrize("words", [(), ("tcsh",), ("",)])
def test_without_a_known_shell_it_says_what_to_do(words: tuple[str, ...]) -> None:
    """A usage error with the line for each shell; nothing on stdout that `eval` could take."""
    done = run_cli("hook", *words, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    for file, line in hook.SHELLS.values():
        assert f"{file} " in done.stderr
        assert done.stderr.count(line) == 1


def test_help_names_the_hook_and_hides_what_shells_call() -> None:
    """`hook` is in the help; --before is not for people."""
    assert "hook" in run_cli("--help", cwd=ROOT).stdout
    shown = run_cli("hook", "--help", cwd=ROOT).stdout
    assert 'eval "$(tensortime hook bash)"' in " ".join(shown.split())
    assert "--before" not in shown


def test_the_hooks_hold_no_python() -> None:
    """hooks/ has two scripts a shell, and nothing else."""
    assert sorted(os.listdir(ROOT / "hooks")) == [
        f"{what}.{shell}" for what in ("completion", "tensortime") for shell in sorted(hook.SHELLS)
    ]


# --- when nothing is to be done


@pytest.mark.parametrize(
    "line", ["ls", "python -c x", "python nothing.py", "cd /nowhere && python x.py", "", "python '"]
)
def test_saying_no_imports_nothing(line: str, tmp_path: Path, project: Tree) -> None:
    """A line that does not train, or a folder without a store: no more modules than it takes to see that."""
    bare = Tree(tmp_path / "bare").file("train.py").file("pyproject.toml", b"[project]\n")
    program = "import os, sys; before = set(sys.modules); from tensortime.__main__ import dispatch; "
    program += (
        "code = dispatch(['hook', '--before', sys.argv[1]]); print(code, *sorted(set(sys.modules) - before))"
    )
    for tree, typed in ((project, line), (bare, LINE)):
        done = subprocess.run(
            [sys.executable, "-S", "-c", program, typed],
            cwd=tree.root,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        own = {f"tensortime{name}" for name in ("", ".__main__", ".hook", ".commandline")}
        assert set(done.stdout.split()) <= {"0", *own, "time"}, done.stdout
    assert names(project) == []


@pytest.mark.parametrize(
    "line",
    [
        "python \0",
        "cd \0 && python x",
        "python \udcff.py",
        "uv run " * 5000,
        "nice " * 5000 + "python x",
        "python " + "x" * 5000,
    ],
)
def test_odd_lines_are_nobodys_failure(
    line: str, project: Tree, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What no file can be called, and what is too long: nothing is said, nothing is stored."""
    monkeypatch.chdir(project.root)
    assert hook.before(line) == 0
    assert capfd.readouterr() == ("", "")
    assert names(project) == []


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """The current folder was deleted: nothing is said."""
    program = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); os.rmdir(os.getcwd())\n"
    program += "from tensortime import hook; sys.exit(hook.before('python train.py'))"
    gone = Tree(tmp_path / "gone").root
    done = subprocess.run([sys.executable, "-c", program], cwd=gone, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_shared_store_is_no_licence(tmp_path: Path, project: Tree) -> None:
    """With TENSORTIME_STORE in the environment only projects are backed up that the store knows."""
    store = str(tmp_path / "shared")
    api.backup(directory=project.root, store=store, name="known")
    stranger = Tree(tmp_path / "stranger").file("train.py")
    assert before(stranger, TENSORTIME_STORE=store)[0] == ""
    assert ">> tensortime: backed up" in before(project, TENSORTIME_STORE=store)[0]
    assert len(api.log(directory=project.root, store=store).experiments) == 2
    assert names(project) == []


def test_a_restored_worktree_is_a_project(project: Tree) -> None:
    """In a restored worktree the hook's backup knows its parent."""
    back = api.restore("first", directory=project.root)
    assert "backed up" in before(Tree(back.path))[0]
    assert api.show("@", directory=project.root).experiment.parent == "first:1"


def test_the_python_of_the_command_is_recorded(tmp_path: Path, project: Tree) -> None:
    """Not that of the hook: the one on PATH, or the one that the command names."""
    venv = (
        Tree(tmp_path / "venv")
        .symlink("bin/python", sys.executable)
        .file("pyvenv.cfg", b"version = 3.11.9\n")
    )
    before(project, f"{venv.root}/bin/python train.py")
    python = api.show("@", directory=project.root).run["python"]
    assert isinstance(python, dict)
    assert (python["executable"], python["source"]) == (f"{venv.root}/bin/python", "command")
    before(project, PATH=f"{venv.root}/bin:{os.environ['PATH']}", VIRTUAL_ENV="")
    python = api.show("@", directory=project.root).run["python"]
    assert isinstance(python, dict)
    assert (python["executable"], python["source"]) == (f"{venv.root}/bin/python", "PATH")


# --- two seconds


def test_what_takes_too_long_is_given_up(project: Tree) -> None:
    """Small files that cannot be read in time: nothing is published, nothing is left behind, the shell goes on."""
    for number in range(400):
        project.file(f"many/{number}", b"%d" % number)
    slow = "import time, tensortime.intake as i; one = i.read_small\n"
    slow += "i.BATCH_FILES = 4; i.read_small = lambda *a: (time.sleep(0.05), one(*a))[1]"
    said, seconds = before(project, patch=slow)
    assert said == (
        ">> tensortime: the backup before this command was given up after 2 s; tensortime backup makes one\n"
    )
    assert seconds < 6
    assert names(project) == []
    assert [name for name in os.listdir(project.root / "tensortime/.tmp") if not name.endswith(".lock")] == []
    assert "backed up" in before(project)[0]


@pytest.mark.parametrize(
    "what",
    [
        "import tensortime.scan as m, tensortime.snapshot as s; s.scan = lambda *a, **k: time.sleep(60)",
        "import tensortime.publication as p; p.sync_ref = lambda *a: time.sleep(60)",
        "import tensortime.intake as i; i.read_small = lambda *a: time.sleep(60)",
    ],
)
def test_what_hangs_is_ended(what: str, project: Tree) -> None:
    """A file server that is gone: the process ends all the same, and the store is whole."""
    project.file("new.py", b"1")
    said, seconds = before(project, patch=f"import time\n{what}")
    assert "the backup before this command was given up" in said
    assert seconds < 6
    assert "backed up" in before(project)[0]
    assert api.restore("@", project.root.parent / "back", directory=project.root).files == 2


def test_the_bounds_are_in_order() -> None:
    """Large files end before the backup does, the process ends last, and the shell waits at most two and a half."""
    assert 0 < hook.LARGE_SECONDS < hook.GIVE_UP_SECONDS <= 2 < hook.END_SECONDS <= 2.5


def test_errors_are_one_line(project: Tree) -> None:
    """A broken configuration, a bug: said in one line, exit 0."""
    project.file("tensortime.toml", b"large_size = 0\n")
    said, _ = before(project)
    assert said.startswith(">> tensortime: NO BACKUP was made: tensortime.toml: large_size must be")
    project.file("tensortime.toml", b"")
    bug = "import tensortime.handover as h\ndef leave(*a): raise ZeroDivisionError('x')\nh.leave = leave"
    said, _ = before(project, patch=bug)
    assert said.startswith(">> tensortime: NO BACKUP was made: ZeroDivisionError: x; details in /")
    Path(said.split()[-1]).unlink()


def test_nobody_reads_what_is_said(project: Tree) -> None:
    """With stderr closed the backup is made all the same."""
    done = subprocess.run(
        ["sh", "-c", '"$0" -m tensortime hook --before "python train.py" 2>&-', sys.executable],
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0
    assert len(names(project)) == 1


# --- large files


def test_large_files_that_are_known_cost_nothing(project: Tree) -> None:
    """Stored once by a whole backup, they are in every quick one: also moved, also touched."""
    project.file("data/big.bin", size=3 << 20).file("data/more.bin", size=2 << 20)
    for path in ("data/big.bin", "data/more.bin"):
        os.utime(project.root / path, (1_600_000_000, 1_600_000_000))
    api.backup(directory=project.root, name="whole")
    os.rename(project.root / "data/big.bin", project.root / "moved.bin")
    os.utime(project.root / "data/more.bin")
    report = api.backup(directory=project.root, large_until=time.monotonic() + 20)
    assert (report.large, report.skipped, report.stored_bytes < 10_000) == (2, (), True)


def test_nothing_is_copied(project: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is neither known nor cloneable is skipped with its reason; the backup after it is whole."""
    monkeypatch.setattr(fsops, "clone", lambda *_: False)
    project.file("data/big.bin", size=3 << 20)
    report = api.backup(directory=project.root, name="quick", large_until=time.monotonic() + 20)
    assert [(one.path, one.reason) for one in report.skipped] == [("data/big.bin", NOT_AT_ONCE)]
    assert (report.files, report.exit_code) == (1, 3)
    whole = api.backup(directory=project.root, name="quick", add=["data/big.bin"])
    assert (whole.experiment, whole.number, whole.files, whole.skipped) == ("quick", 2, 2, ())
    assert api.show("quick", directory=project.root).experiment.status == "done"


def test_large_files_without_time(project: Tree) -> None:
    """After the deadline none is begun, and one that is being read is given up."""
    project.file("data/big.bin", size=3 << 20)
    report = api.backup(directory=project.root, large_until=time.monotonic() - 1)
    assert [one.reason for one in report.skipped] == [NOT_AT_ONCE]
    meter = Meter(NullMonitor(), 10, threading.Lock(), threading.Event(), time.monotonic() - 1)
    with pytest.raises(OutOfTime):
        meter(1)


def test_what_can_be_cloned_is_stored(tmp_path: Path) -> None:
    """On XFS a new large file is in the quick backup, and takes no room."""
    with loop_mount("xfs", tmp_path, 400 << 20) as disk:
        tree = Tree(disk / "p").file("train.py", b"1")
        api.backup(directory=tree.root, name="first")
        tree.file("data/big.bin", size=8 << 20)
        said, _ = before(tree)
        assert "left out" not in said
        [one] = api.log(directory=tree.root).experiments[:1]
        assert (one.files, one.status) == (2, "done")
        report = api.restore("@", disk / "back", directory=tree.root)
        assert report.files == 2


@pytest.mark.parametrize(
    ("paths", "command"),
    [
        (["a.bin"], "tensortime backup --name first --add a.bin"),
        (["a b", "c/d"], "tensortime backup --name first --add 'a b' --add c/d"),
        (["d/1", "d/2", "d/3", "d/4"], "tensortime backup --name first --add d"),
        (["d/1/x", "d/2/x", "d/3/x", "e", "d/4/x"], "tensortime backup --name first --add d --add e"),
        ([f"{n}.bin" for n in range(9)], "tensortime backup"),
    ],
)
def test_the_command_that_stores_the_rest(
    paths: list[str], command: str, project: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few files are named one by one, more by their folders; where that is too many, a new whole backup."""
    monkeypatch.chdir(project.root)
    report = api.backup(directory=project.root, name="first", joins=True)
    assert hook.command_to_add(report, str(project.root), paths) == command
    monkeypatch.chdir(project.root.parent)
    assert hook.command_to_add(report, str(project.root), paths).startswith(
        f"tensortime backup -C {project.root}"
    )


# --- the record that the command takes


def test_a_record_is_taken_once_and_only_by_its_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another project, another program, a record of the future, an old one, a broken one: nobody joins."""
    cache = Tree(tmp_path / "cache").file("hook-1-x").file("hook--").file("stat-1")
    folder, where = str(tmp_path), str(cache.root)
    monkeypatch.setattr(handover, "own_program", lambda: ({str(tmp_path / "train.py")}, set()))
    monkeypatch.setattr(handover, "whence", lambda: (time.time(), {os.getsid(0)}))
    monkeypatch.setattr(sys, "argv", ["train.py"])
    handover.leave(where, "/p", "mine", folder, ["python", "train.py"])
    assert handover.claim(where, "/other") is None
    assert handover.claim(where, "/p") == "mine"
    assert handover.claim(where, "/p") is None
    handover.leave(where, "/p", "other", folder, ["python", "other.py"])
    assert handover.claim(where, "/p") is None
    now, session = time.time_ns(), os.getsid(0)
    record = json.dumps(
        {"project": "/p", "experiment": "x", "folder": folder, "words": ["train.py"]}
    ).encode()
    cache.file(f"hook-{session}-{now + 10**10}", record).file(f"hook-{session}-{now - 200 * 10**9}", record)
    assert handover.claim(where, "/p") is None
    for broken in (b"", b"[]", b'{"project": "/p"}', b'{"project": "/p", "folder": 1, "words": 2}'):
        cache.file(f"hook-{session}-{time.time_ns()}", broken)
        assert handover.claim(where, "/p") is None


@pytest.mark.parametrize(
    ("typed", "ran", "joins"),
    [
        ("train.py --lr 3", "-u train.py --lr 3", True),
        ("train.py --help", "train.py --lr 3", False),
        ("train.py", "train.py --lr 3", False),
        ("train.py --lr 3 --seed 1", "train.py --lr 3", False),
        ("train.py --lr $LR --seed 1", "train.py --lr 3 --seed 1", True),
        ("train.py --lr $LR --seed 1", "train.py --lr 3 --seed 2", False),
        ("train.py $ARGS", "train.py", True),
        ("train.py data/*.csv --seed 1", "train.py data/a.csv data/b.csv --seed 1", True),
        ("train.py $A x $B y", "train.py 1 x 2 x 3 y", True),
        ("train.py $A x $B y", "train.py 1 2 3 y", False),
        ("train.py --api-key abc", "train.py --api-key abc", True),
        ("torchrun --nproc-per-node 2 train.py --lr 3", "-u train.py --lr 3", True),
        ("torchrun --nproc-per-node 2 train.py --lr 3", "-u train.py --lr 4", False),
        ("deepspeed train.py --lr 3", "-u train.py --local_rank=0 --lr 3", True),
        ("-m accelerate.commands.launch train.py --lr 3", "/elsewhere/train.py --lr 3", True),
    ],
)
def test_a_record_is_for_these_arguments(
    typed: str, ran: str, joins: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words behind the script are the process's own; those that only the shell knew may stand for any."""
    cache = str(Tree(tmp_path / "cache").root)
    monkeypatch.setattr(handover, "own_program", lambda: ({str(tmp_path / "train.py")}, set()))
    monkeypatch.setattr(handover, "whence", lambda: (time.time(), {os.getsid(0)}))
    monkeypatch.setattr(sys, "orig_argv", ["python", *ran.split()])
    monkeypatch.setattr(sys, "argv", ["train.py", "changed by the program"])
    handover.leave(cache, "/p", "mine", str(tmp_path), redact_arguments(["python", *typed.split()]))
    assert handover.claim(cache, "/p") == ("mine" if joins else None)


@pytest.mark.parametrize("ran", ["-m pkg.train --lr 3", "-mpkg.train --lr 3"])
def test_a_module_and_its_arguments(ran: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m pkg.train --lr 3`, typed in either way."""
    monkeypatch.setattr(handover, "own_program", lambda: (set(), {"pkg.train"}))
    monkeypatch.setattr(sys, "orig_argv", ["python", *ran.split()])
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert handover.runs_this(str(tmp_path), ["python", "-m", "pkg.train", "--lr", "3"])
    assert not handover.runs_this(str(tmp_path), ["python", "-m", "pkg.train", "--lr", "4"])


def test_a_command_that_never_backs_up_leaves_nothing_to_a_later_one(project: Tree) -> None:
    """`python train.py --help` ends without a backup of its own; what a script starts then is another experiment."""
    script = b"import sys\nif '--help' in sys.argv: sys.exit()\nfrom tensortime import TimeMachine\n"
    project.file("train.py", script + b"print(TimeMachine().backup().experiment)\n")
    before(project, "python train.py --help")
    [begun] = names(project)
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(*words: str) -> str:
        command = [sys.executable, "train.py", *words]
        done = subprocess.run(
            command, cwd=project.root, env=surroundings, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert run("--help") == ""
    assert run("--lr", "3") not in (begun, "None", "")
    assert len(names(project)) == 2


def test_no_cache_no_record(tmp_path: Path) -> None:
    """A store whose cache is gone or cannot be written: nothing happens."""
    handover.leave(str(tmp_path / "none"), "/p", "x", "/", ["python"])
    assert handover.claim(str(tmp_path / "none"), "/p") is None


def test_a_process_knows_when_it_started() -> None:
    """To a hundredth of a second; its own session is among those it looks for."""
    earlier = time.time()
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tensortime.handover import whence; print(*whence())"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    started = float(shown.split()[0])
    assert earlier - handover.TICK <= started <= time.time()
    assert str(os.getsid(0)) in shown

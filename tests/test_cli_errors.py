"""Bad input: one line that says what is wrong, one that says what to do, the right exit code, and nothing changed."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from builders import Entry, Tree, run_cli, snapshot_of

import tensortime
from tensortime import api
from tensortime.text import printable

PACKAGE = str(Path(tensortime.__file__).parent.parent)
LARGE = (1 << 20) + 1
Words = tuple[str, ...]


@pytest.fixture
def lab(tmp_path: Path) -> Tree:
    """A project with one experiment, base, of a small and a large file."""
    tree = Tree(tmp_path / "lab").file("train.py", b"print(1)\n").file("data/part.bin", size=LARGE)
    api.backup(directory=tree.root, name="base")
    return tree


def state(lab: Tree) -> dict[bytes, Entry]:
    """All that a command which fails may not change: everything but the locks that it leaves, empty, to be swept."""
    found = snapshot_of(lab.root.parent)
    locks = {path for path in found if path.startswith(b"lab/tensortime/.tmp/")}
    assert not any((lab.root.parent / os.fsdecode(path)).stat().st_size for path in locks)
    return {path: found[path] for path in found.keys() - locks - {b"lab/tensortime/.shadow/worktrees"}}


def assert_refused(
    done: subprocess.CompletedProcess[str], code: int, kind: str, *words: str, as_json: bool = True
) -> None:
    """The exit code, one message and at most one hint on stderr, the same as a document on stdout, no traceback."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("tensortime: ")
    assert len(lines) <= 2, done.stderr
    assert all(line.startswith("  ") for line in lines[1:])
    for word in words:
        assert word in done.stderr
    if as_json:
        error = json.loads(done.stdout)["error"]
        assert error["kind"] == kind
        assert set(error) == {"kind", "message", "hint"}
        texts = [f"tensortime: {error['message']}", *([f"  {error['hint']}"] if error["hint"] else [])]
        assert lines == [printable(text) for text in texts]


S01 = [
    "../../x",
    "/etc/x",
    "-x",
    "--help",
    "",
    ".",
    "..",
    "x" * 10_000,
    "a\nb",
    "\x1b[31m",
    "a:b",
    "@{",
    "x.lock",
]
S01 += ["\u202ex", "a\u200bb", "CON", "refs/heads/x", "12", "README", "a b", "@"]


@pytest.mark.parametrize("name", S01, ids=range(len(S01)))
def test_s01_a_wrong_name(lab: Tree, name: str) -> None:
    """S01: every wrong --name is refused before anything is made; nothing of it reaches the terminal raw."""
    before = state(lab)
    done = run_cli("backup", "--json", f"--name={name}", cwd=lab.root)
    assert_refused(done, 2, "bad-name", "name")
    assert all(line.isprintable() for line in done.stderr.splitlines())
    assert state(lab) == before


WRONG_CALLS: list[tuple[tuple[str, ...], int, str, Words]] = [
    (("frobnicate",), 2, "usage", ("No such command", "tensortime --help")),
    (("lgo",), 2, "usage", ("log",)),
    (("log", "--bogus"), 2, "usage", ("--bogus", "tensortime log --help")),
    (("log", "-n", "0"), 2, "usage", ("-n",)),
    (("log", "-n", "many"), 2, "usage", ("-n",)),
    (("show",), 2, "usage", ("EXP", "tensortime show --help")),
    (("log", "extra"), 2, "usage", ("extra",)),
    (("-C", "/nowhere", "backup"), 2, "not-a-project", ("/nowhere does not exist", "-C takes")),
    (("-C", "train.py", "log"), 2, "not-a-project", ("train.py is not a folder",)),
    (("-C", "", "log"), 2, "usage", ("-C is empty",)),
    (("--store", "", "backup"), 2, "usage", ("--store is empty",)),
    (("-C", "/", "backup"), 2, "not-a-project", ("/ is not a project", "-C DIR")),
    (
        ("log", "--store", "nothing-here"),
        4,
        "no-store",
        ("nothing-here does not exist", "tensortime backup makes one"),
    ),
    (("backup", "--store", "train.py"), 2, "foreign-folder", ("it is not a folder", "backup_dir")),
    (("backup", "--store", "data"), 2, "foreign-folder", ("it holds part.bin", "--store")),
    (
        ("backup", "--store", "/proc/x"),
        1,
        "store-unusable",
        ("the store /proc/x cannot be made", "--store DIR"),
    ),
    (("backup", "--add", "/etc/passwd"), 2, "outside-project", ("/etc/passwd is not inside the project",)),
    (("backup", "--add", "../other"), 2, "outside-project", ("../other is not inside the project",)),
    (("backup", "--add", ""), 2, "usage", ("an empty path",)),
    (("backup", "--add", "trian.py"), 4, "unknown-path", ("no such file or folder: trian.py",)),
    (("show", "bsae"), 4, "unknown-experiment", ("no experiment is called bsae", "did you mean base?")),
    (
        ("show", "base", "part.bin"),
        4,
        "unknown-path",
        ("base holds no part.bin", "did you mean data/part.bin?"),
    ),
    (
        ("show", "base", "data"),
        4,
        "unknown-path",
        ("data is a folder", "tensortime restore base --path data"),
    ),
    (("restore", "base", "--path", "x"), 4, "unknown-path", ("base holds no x",)),
    (
        ("restore", "base", "data"),
        1,
        "target-exists",
        ("lab/data exists", "no restored experiment", "OTHER-FOLDER"),
    ),
    (("restore", "base", "train.py"), 1, "target-exists", ("train.py exists and is a file",)),
    (("restore", "base", "tensortime"), 1, "target-exists", ("the store's own folders",)),
    (("restore", "base", "train.py/x"), 1, "store-unusable", ("train.py",)),
    (("restore", "base", ""), 2, "usage", ("the destination is empty",)),
    (("restore", "base", ".", "--path", "train.py"), 1, "target-exists", ("train.py exists already", "DEST")),
    (("restore", "base", "--link", "magic"), 2, "usage", ("magic", "auto, reflink, copy, hardlink, symlink")),
    (("restore", "--upload-pack=x", "base"), 2, "usage", ("--upload-pack",)),
    (("restore", "--", "-x"), 4, "unknown-experiment", ("no experiment is called -x",)),
    (("show", "--", "--help"), 4, "unknown-experiment", ("no experiment is called --help",)),
    (("show", "../../etc/passwd"), 4, "unknown-experiment", ("no experiment is called ../../etc/passwd",)),
    (("show", "base", "../../../etc/passwd"), 4, "unknown-path", ("base holds no",)),
]


@pytest.mark.parametrize(("words", "code", "kind", "said"), WRONG_CALLS, ids=range(len(WRONG_CALLS)))
def test_s03_a_wrong_call(lab: Tree, words: tuple[str, ...], code: int, kind: str, said: Words) -> None:
    """S03, S07: options that do not exist, names that look like options, places that are taken or are not there."""
    before = state(lab)
    at = words.index("--") if "--" in words else len(words)
    done = run_cli(*words[:at], "--json", *words[at:], cwd=lab.root)
    assert_refused(done, code, kind, *said)
    assert state(lab) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("lage_size = 1", ("tensortime.toml: unknown key lage_size", "did you mean large_size?")),
        ('large_size = "big"', ("large_size must be a size", "'big'")),
        ("large_size = 0", ("large_size must be a size",)),
        ('ignore = "data"', ("ignore must be a list of patterns",)),
        ("strict = 1", ("strict must be true or false",)),
        ('ignore = ["da', ("tensortime.toml, line 1",)),
        ("\n\nmax_store = -1", ("max_store must be a size",)),
    ],
    ids=range(7),
)
def test_a_wrong_configuration(lab: Tree, content: str, said: Words) -> None:
    """File, key or line, what it should be, and the key that was probably meant."""
    lab.file("tensortime.toml", content.encode())
    before = snapshot_of(lab.root)
    assert_refused(run_cli("backup", "--json", cwd=lab.root), 2, "bad-config", *said)
    assert snapshot_of(lab.root) == before


def test_a_broken_pattern_is_skipped_and_named(lab: Tree) -> None:
    """A pattern that says nothing leaves no file out: it is named with file and line, and the backup is made."""
    lab.file(".ttignore", b"*.tmp\nda[ta\n")
    done = run_cli("backup", "--json", "--ignore", "!", cwd=lab.root)
    assert done.returncode == 0
    assert "warning: .ttignore:2: the pattern da[ta is skipped: " in done.stderr
    assert "warning: ignore: the pattern ! is skipped: " in done.stderr
    assert json.loads(done.stdout)["files"] == 3


def test_without_a_store_every_reader_says_how_to_make_one(tmp_path: Path) -> None:
    """A project without backups: exit 4, and no store is made by looking."""
    tree = Tree(tmp_path / "p").file("train.py")
    for words in (("log",), ("show", "@"), ("restore", "@")):
        done = run_cli(*words, "--json", cwd=tree.root)
        assert_refused(done, 4, "no-store", "p/tensortime does not exist", "tensortime backup makes one")
    assert os.listdir(tree.root) == ["train.py"]


@pytest.mark.parametrize("path", ["tensortime/__init__.py", "tensortime/.git/config"])
def test_b26_a_foreign_folder_of_our_name(tmp_path: Path, path: str) -> None:
    """B26: a package or repository called tensortime/ is refused and not touched; another folder is offered."""
    tree = Tree(tmp_path / "p").file(path, b"theirs")
    before = snapshot_of(tree.root)
    done = run_cli("backup", "--json", cwd=tree.root, env={"PYTHONPATH": PACKAGE, "PYTHONSAFEPATH": "1"})
    assert_refused(done, 2, "foreign-folder", "p/tensortime is not a store of TensorTime", "--store backups")
    assert snapshot_of(tree.root) == before


def test_copies_of_version_0_1_0_stay_as_they_are(tmp_path: Path) -> None:
    """A tensortime/ of folders alone is accepted: said in one line, not touched, not backed up, their names taken."""
    tree = Tree(tmp_path / "p").file("train.py").file("tensortime/run1/train.py", b"old")
    before = snapshot_of(tree.root / "tensortime/run1")
    done = run_cli("backup", "--json", "--name", "run1", cwd=tree.root)
    assert (done.returncode, json.loads(done.stdout)["experiment"]) == (0, "run1-2")
    assert json.loads(done.stdout)["files"] == 1
    assert "did not make (copies of version 0.1.0?): run1; they stay" in done.stderr
    assert snapshot_of(tree.root / "tensortime/run1") == before


@pytest.mark.parametrize("words", [("log",), ("show", "@"), ("backup",), ("restore", "@")])
def test_s16_a_store_of_another_user(lab: Tree, words: tuple[str, ...]) -> None:
    """S16: whose it is, and what to do; git's "dubious ownership" is never shown."""
    store, command = lab.root / "tensortime", [sys.executable, "-m", "tensortime", *words, "--json"]
    if os.getuid() == 0:
        # root may do everything: the process gives up the right to pass by modes, as every other user has none.
        os.chown(store, 65534, 65534)
        command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", *command]
    else:
        store.chmod(0)
    try:
        done = subprocess.run(command, cwd=lab.root, capture_output=True, text=True, check=False)
    finally:
        os.chown(store, os.getuid(), os.getgid())
        store.chmod(0o700)
    assert_refused(
        done, 1, "store-unusable", "cannot be read: it belongs to ", "--store DIR or TENSORTIME_STORE"
    )


def test_d08_a_store_that_may_only_be_read(lab: Tree) -> None:
    """D08: log and show work in a store that cannot be written; backup and restore say so."""
    store = lab.root / "tensortime"
    prefix: list[str] = []
    if os.getuid() == 0:
        prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"]
    folders = [store, *(path for path in store.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o500)
    codes = {}
    try:
        for words in (
            ("log",),
            ("show", "base"),
            ("show", "base", "train.py"),
            ("backup",),
            ("restore", "base"),
        ):
            command = [*prefix, sys.executable, "-m", "tensortime", *words]
            done = subprocess.run(command, cwd=lab.root, capture_output=True, text=True, check=False)
            codes[words] = done.returncode
            assert "Traceback" not in done.stderr
            if words[0] in ("backup", "restore"):
                assert_refused(done, 1, "store-unusable", "Permission denied", as_json=False)
    finally:
        for path in folders:
            path.chmod(0o700)
    assert list(codes.values()) == [0, 0, 0, 1, 1]


def test_e09_in_a_deleted_folder(tmp_path: Path) -> None:
    """E09: said in one line by every verb, with a way out."""
    for words in ("log", "backup", "show @", "restore @ out", "backup --add x"):
        gone = Tree(tmp_path / "gone").root
        command = f'cd "$1" && rmdir "$1" && exec "$0" -m tensortime {words} --json'
        env = {**os.environ, "PYTHONPATH": PACKAGE}
        done = subprocess.run(
            ["sh", "-c", command, sys.executable, gone], env=env, capture_output=True, text=True
        )
        assert_refused(done, 2, "not-a-project", "the current folder was deleted", "-C DIR")


def test_a_damaged_object_is_named_and_nothing_is_left(lab: Tree) -> None:
    """Exit 5: which path cannot come back; no half of the experiment stays behind; the rest comes with --path."""
    (stored,) = (path for path in (lab.root / "tensortime/.objects").rglob("*") if path.is_file())
    stored.chmod(0o600)
    stored.write_bytes(b"x" * LARGE)
    before = state(lab)
    assert_refused(run_cli("restore", "base", "--json", cwd=lab.root), 5, "damaged", "data/part.bin")
    assert state(lab) == before
    assert_refused(
        run_cli("show", "base", "data/part.bin", cwd=lab.root), 5, "", "data/part.bin", as_json=False
    )
    assert run_cli("restore", "base", "out", "--path", "train.py", cwd=lab.root).returncode == 0


def test_a_busy_store(lab: Tree) -> None:
    """Exit 6: while another process collects, a backup waits some seconds and says that the store is busy."""
    code = "from tensortime import store, __main__; store.LOCK_WAIT = 0.1; __main__.main()"  # not the 5 s of a person
    with (lab.root / "tensortime/.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = subprocess.run(
            [sys.executable, "-c", code, "backup", "--json"],
            cwd=lab.root,
            capture_output=True,
            text=True,
            check=False,
        )
    assert_refused(done, 6, "store-busy", "another process", "try again")


def test_k08_ctrl_c_in_the_middle(lab: Tree) -> None:
    """K08: exit 130, one line, nothing published, nothing staged; the signal comes while files are stored."""
    lab.file("more.bin", size=LARGE)
    before = state(lab)
    code = (
        "import os, signal; from tensortime import terminal, __main__\n"
        "begin = terminal.TerminalMonitor.begin\n"
        "def interrupted(monitor, step, *sizes):\n"
        "    begin(monitor, step, *sizes)\n"
        "    if step == 'store': os.kill(os.getpid(), signal.SIGINT)\n"
        "terminal.TerminalMonitor.begin = interrupted\n"
        "__main__.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "backup"], cwd=lab.root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "tensortime: interrupted, nothing half done is left behind\n"
    assert state(lab) == before


def test_an_unexpected_error_is_no_traceback(lab: Tree) -> None:
    """A bug of ours is one line and the name of a file with the details, exit 1."""
    code = "from tensortime import api, __main__\ndef log(**_): 1 / 0\napi.log = log\n__main__.main()"
    env = {**os.environ, "TMPDIR": str(lab.root.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code, "log", "--json"],
        cwd=lab.root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert_refused(done, 1, "failed", "something unexpected went wrong: ZeroDivisionError", "report it")
    (report,) = lab.root.parent.glob("tensortime-error-*.txt")
    assert "ZeroDivisionError" in report.read_text()


def test_e04_without_git(lab: Tree) -> None:
    """E04: no git on the machine is one line that says which to install."""
    done = run_cli("backup", "--json", cwd=lab.root, env={"PATH": str(lab.root)})
    assert_refused(done, 1, "no-git", "git was not found", "install git 2.34 or later")
    assert shutil.which("git", path=str(lab.root)) is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("module", "typed"), [("shortcuts", ["log"]), ("commands", []), ("overview", ["--help"]), ("cli", ["gc"])]
)
def test_ctrl_c_while_a_verb_is_loaded(tmp_path: Path, module: str, typed: list[str]) -> None:
    """The exit code of what was interrupted, and no traceback."""
    program = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(name, *_):\n"
        f"        if name == 'tensortime.{module}': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted)\n"
        "from tensortime import __main__\n"
        "__main__.main()"
    )
    command = [sys.executable, "-c", program, *typed]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")

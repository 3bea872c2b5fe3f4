"""What run.json says of a run: the command, the machine, the user's repository. CASES E01 to E06, E09, E12, S14."""

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tensortime import environment
from tensortime.environment import (
    describe_run,
    host_id,
    nested_heads,
    redact_arguments,
    start_collecting,
    user_repository,
)
from tensortime.formats import RelPath, bytes_of

PACKAGE = str(Path(__file__).resolve().parent.parent)
CANARY = "canary0f5a1d"

USER = {
    "user.name": "A",
    "user.email": "a@example.org",
    "init.defaultBranch": "main",
    "protocol.file.allow": "always",
    "commit.gpgSign": "false",
}


def sealed() -> dict[str, str]:
    """An environment in which git knows only the repository it is in."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**plain, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "LC_ALL": "C"}


def git(folder: Path | bytes, *words: str) -> str:
    """The user's own git, undisturbed by whatever this test suite runs under."""
    settings = [word for key, value in USER.items() for word in ("-c", f"{key}={value}")]
    done = subprocess.run(
        ["git", *settings, *words], cwd=folder, env=sealed(), capture_output=True, check=True, timeout=60
    )
    return os.fsdecode(done.stdout).strip()


def make_repository(folder: Path) -> Path:
    """A repository with one commit of one file."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q")
    (folder / "train.py").write_text("lr = 1\n")
    git(folder, "add", "train.py")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file under a folder: mode, time of change, bytes. Folders with their times too."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        found[str(path.relative_to(folder))] = (info.st_mode, info.st_mtime_ns, data)
    return found


def children() -> set[str]:
    """The processes that this one has started and that are not gone, zombies included."""
    found: set[str] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(task.read_text().split())
    return found


def python(code: str, *words: str, **changes: str) -> str:
    """Run a program of its own, in which GitPython is not imported yet; its stdout, and stderr must be empty."""
    program = f"import sys; sys.path.insert(0, {PACKAGE!r})\n" + code
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env={**os.environ, **changes},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, so that no test reads the configuration of who runs it."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return folder


@pytest.fixture(autouse=True)
def nothing_left_behind(home: Path) -> Iterator[None]:
    """Every test ends with the threads, processes, descriptors, environment and signals it began with."""

    def state() -> tuple[object, ...]:
        # SIGALRM belongs to the time limit of the tests.
        handlers = {number: signal.getsignal(number) for number in signal.valid_signals() - {signal.SIGALRM}}
        return (
            sorted(thread.name for thread in threading.enumerate()),
            children(),
            len(os.listdir("/proc/self/fd")),
            {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
            os.getcwd(),
            handlers,
            logging.getLogger("git.cmd").filters[:],
        )

    before = state()
    yield
    end = time.monotonic() + 5
    while state() != before and time.monotonic() < end:
        time.sleep(0.01)
    assert state() == before


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository with one commit."""
    return make_repository(tmp_path / "user")


pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="cannot be installed: Linux's /proc"
)


def known(folder: Path | str) -> dict[str, Any]:
    """The facts of a repository that must be there."""
    facts = user_repository(str(folder))
    assert facts is not None
    assert json.loads(json.dumps(facts)) == facts
    return facts


# --- the user's repository as it is


def test_a_folder_without_git_has_no_repository(tmp_path: Path) -> None:
    """E12: no repository is no error, and GitPython is not even imported."""
    assert user_repository(str(tmp_path)) is None
    code = "from tensortime.environment import user_repository; user_repository(sys.argv[1])"
    assert python(f"{code}; print('git' in sys.modules)", str(tmp_path)) == "False\n"


def test_a_clean_repository(repository: Path) -> None:
    """Top, commit, branch, remotes; files that git does not track do not make it dirty."""
    (repository / "result.bin").write_bytes(b"untracked")
    git(repository, "remote", "add", "origin", "https://example.org/a.git")
    assert user_repository(str(repository)) == {
        "top": str(repository),
        "head": git(repository, "rev-parse", "HEAD"),
        "branch": "main",
        "dirty": False,
        "remotes": {"origin": "https://example.org/a.git"},
    }


def test_an_edited_file_makes_it_dirty(repository: Path) -> None:
    """The commit alone does not tell which code ran."""
    (repository / "train.py").write_text("lr = 2\n")
    assert known(repository)["dirty"] is True
    git(repository, "add", "train.py")
    assert known(repository)["dirty"] is True
    git(repository, "commit", "-q", "-m", "second")
    assert known(repository)["dirty"] is False
    (repository / "train.py").unlink()
    assert known(repository)["dirty"] is True


def test_a_project_below_the_top(repository: Path) -> None:
    """E12: the repository is found upward; an edit elsewhere in it counts too."""
    project = repository / "a" / "b"
    project.mkdir(parents=True)
    assert known(project)["top"] == str(repository)
    (repository / "train.py").write_text("lr = 2\n")
    assert known(project)["dirty"] is True


def test_a_project_behind_a_link_is_where_it_really_is(repository: Path, tmp_path: Path) -> None:
    """git follows links to the real folder before it looks upward."""
    (repository / "a").mkdir()
    (tmp_path / "link").symlink_to(repository / "a")
    assert known(tmp_path / "link")["top"] == str(repository)


def test_before_the_first_commit(tmp_path: Path) -> None:
    """An unborn branch has a name and no commit."""
    git(tmp_path, "init", "-q")
    facts = known(tmp_path)
    assert (facts["head"], facts["branch"], facts["dirty"]) == (None, "main", False)


def test_a_detached_head(repository: Path) -> None:
    """A commit without a branch."""
    git(repository, "checkout", "-q", "--detach")
    facts = known(repository)
    assert (facts["head"], facts["branch"]) == (git(repository, "rev-parse", "HEAD"), None)


def test_a_linked_worktree(repository: Path, tmp_path: Path) -> None:
    """E12: its own branch and changes, the remotes of all."""
    git(repository, "remote", "add", "origin", "../o")
    git(repository, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    (tmp_path / "linked" / "train.py").write_text("lr = 3\n")
    facts = known(tmp_path / "linked")
    assert (facts["top"], facts["branch"], facts["dirty"]) == (str(tmp_path / "linked"), "other", True)
    assert facts["remotes"] == {"origin": "../o"}
    assert known(repository)["dirty"] is False


def test_a_submodule_and_the_repository_around_it(repository: Path, tmp_path: Path) -> None:
    """The submodule is a repository of its own; another commit in it makes the outer one dirty, an edit does not."""
    source = make_repository(tmp_path / "source")
    git(repository, "submodule", "--quiet", "add", str(source), "sub")
    git(repository, "commit", "-q", "-m", "sub")
    sub = repository / "sub"
    assert known(sub) == {
        "top": str(sub),
        "head": git(source, "rev-parse", "HEAD"),
        "branch": "main",
        "dirty": False,
        "remotes": {"origin": str(source)},
    }
    (sub / "train.py").write_text("lr = 4\n")
    assert known(sub)["dirty"] is True
    assert known(repository)["dirty"] is False
    git(sub, "commit", "-q", "-a", "-m", "more")
    assert known(repository)["dirty"] is True


def test_a_bare_repository_around_the_project(repository: Path, tmp_path: Path) -> None:
    """E12: no work tree, so git cannot say whether it is dirty; commit, branch and remotes are still told."""
    bare = tmp_path / "hub"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(bare / ".git"))
    facts = known(bare)
    assert facts["head"] == git(repository, "rev-parse", "HEAD")
    assert (facts["branch"], facts["dirty"]) == ("main", None)
    assert facts["remotes"] == {"origin": str(repository)}
    assert "work tree" in facts["error"]


def test_a_repository_of_somebody_else(repository: Path) -> None:
    """git refuses it (CVE-2022-24765): its word is recorded, and what its files tell."""
    if os.geteuid() != 0:
        pytest.skip("cannot be installed: only root can give files away")
    head = git(repository, "rev-parse", "HEAD")
    for path in (repository, repository / ".git"):
        os.chown(path, 12345, 12345)
    facts = known(repository)
    assert (facts["head"], facts["branch"], facts["dirty"]) == (head, "main", None)
    assert "dubious ownership" in facts["error"]
    assert "\n" not in facts["error"]


def test_a_git_file_that_leads_nowhere(tmp_path: Path) -> None:
    """A worktree copied to another machine: an error among the facts, and only that."""
    (tmp_path / ".git").write_text("gitdir: /gone/.git/worktrees/x\n")
    assert "/gone/.git/worktrees/x" in known(tmp_path)["error"]
    (tmp_path / ".git").write_text("something else")
    assert known(tmp_path)["error"]


def test_an_empty_git_folder_is_passed_by(repository: Path) -> None:
    """git looks further up, and so do we."""
    (repository / "a" / ".git").mkdir(parents=True)
    assert known(repository / "a")["top"] == str(repository)


def test_a_damaged_repository_never_answers_for_one_further_up(repository: Path) -> None:
    """With a broken inner repository git would go on to the outer one and tell of its commits."""
    inner = repository / "inner" / ".git"
    inner.mkdir(parents=True)
    (inner / "HEAD").write_text("ref: refs/heads/main\n")
    facts = known(repository / "inner")
    assert facts["top"] == str(repository / "inner")
    assert facts["head"] is None
    assert "not a git repository" in facts["error"]


def test_a_restored_worktree_has_no_repository_of_the_user(repository: Path) -> None:
    """E14: its `.git` leads to the shadow repository, which is not the user's."""
    store = repository / "tensortime"
    store.mkdir()
    git(repository, "clone", "-q", "--bare", str(repository), str(store / ".shadow"))
    git(store / ".shadow", "worktree", "add", "-q", "--detach", str(store / "exp"))
    assert user_repository(str(store / "exp")) is None


def test_odd_names(tmp_path: Path) -> None:
    """Names that are no UTF-8, that look like variables or options, with line breaks, all come through."""
    top = os.fsencode(tmp_path) + b"/-c \xff\n$HOME ~ \xe5\xae\x9e"
    os.mkdir(top)
    git(top, "init", "-q")
    git(top, "checkout", "-q", "-b", "实验/一")
    git(top, "commit", "-q", "--allow-empty", "-m", "first")
    facts = known(os.fsdecode(top))
    assert bytes_of(facts["top"]) == top
    assert (facts["head"], facts["branch"]) == (git(top, "rev-parse", "HEAD"), "实验/一")
    assert "error" not in facts


def test_a_sha256_repository(tmp_path: Path) -> None:
    """The user's repository may use the other hash."""
    git(tmp_path, "init", "-q", "--object-format=sha256")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    assert len(known(tmp_path)["head"]) == 64


# --- read only


def test_the_index_is_not_refreshed(repository: Path) -> None:
    """A plain `git status` would write the index where only a time changed."""
    os.utime(repository / "train.py", (1, 1))
    before = contents(repository)
    assert known(repository)["dirty"] is False
    assert contents(repository) == before


def hostile_settings(script: str) -> str:
    """A configuration in which everything that git can start is `script`."""
    return f"""
[core]
    fsmonitor = {script}
    hooksPath = {os.path.dirname(script)}
    pager = {script}
    editor = {script}
    sshCommand = {script}
    untrackedCache = true
[filter "evil=\\"x y\\""]
    clean = {script}
    smudge = {script}
    required = true
[filter "long"]
    process = {script}
    required
[diff]
    external = {script}
[diff "evil"]
    textconv = {script}
[credential]
    helper = {script}
[status]
    submoduleSummary = true
    showUntrackedFiles = all
[alias]
    status = !{script}
    config = !{script}
"""


@pytest.mark.parametrize("where", ["of the repository", "of the user"])
def test_no_program_of_the_user_starts(repository: Path, home: Path, tmp_path: Path, where: str) -> None:
    """E02: no hook, filter, fsmonitor, pager or alias runs, and the repository keeps every byte and time."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("run", "post-index-change", "pre-auto-gc", "fsmonitor-watchman"):
        (scripts / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/{CANARY}'\ncat\n")
        (scripts / name).chmod(0o755)
    (repository / "big.bin").write_bytes(b"one")
    (repository / "long.bin").write_bytes(b"one")
    (repository / ".gitattributes").write_text('big.bin filter=evil="x diff=evil\nlong.bin filter=long\n')
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "files")
    config = repository / ".git" / "config" if where == "of the repository" else home / ".gitconfig"
    with config.open("a") as file:
        file.write(hostile_settings(str(scripts / "run")))
    for name in ("big.bin", "long.bin", "train.py"):
        os.utime(repository / name, (1, 1))
    before = contents(repository)
    facts = known(repository)
    assert (facts.get("error"), facts["branch"]) == (None, "main")
    assert contents(repository) == before
    assert not (tmp_path / CANARY).exists()


# --- leaked variables


def leaks(decoy: Path, script: str) -> dict[str, dict[str, str]]:
    """Every kind of `GIT_*` that a hook, a rebase or a container leaves behind, pointing at another repository."""
    inside = str(decoy / ".git")
    count = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.worktree", "GIT_CONFIG_VALUE_0": str(decoy)}
    single = {
        "GIT_DIR": inside,
        "GIT_WORK_TREE": str(decoy),
        "GIT_INDEX_FILE": inside + "/index",
        "GIT_OBJECT_DIRECTORY": inside + "/objects",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": inside + "/objects",
        "GIT_COMMON_DIR": inside,
        "GIT_NAMESPACE": "leaked",
        "GIT_QUARANTINE_PATH": inside + "/objects/incoming",
        "GIT_CONFIG": inside + "/config",
        "GIT_CONFIG_PARAMETERS": "'core.bare=true'",
        "GIT_CONFIG_GLOBAL": inside + "/config",
        "GIT_CONFIG_SYSTEM": inside + "/config",
        "GIT_TEMPLATE_DIR": inside + "/hooks",
        "GIT_TRACE": "1",
        "GIT_TRACE_SETUP": "1",
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_EXEC_PATH": inside + "/hooks",
        "GIT_CEILING_DIRECTORIES": str(decoy.parent),
        "GIT_PREFIX": "elsewhere/",
        "GIT_GRAFT_FILE": inside + "/grafts",
        "GIT_SHALLOW_FILE": inside + "/HEAD",
        "GIT_REPLACE_REF_BASE": "refs/heads/",
        "GIT_IMPLICIT_WORK_TREE": "0",
        "GIT_ATTR_SOURCE": "HEAD",
        "GIT_EXTERNAL_DIFF": script,
        "GIT_PAGER": script,
        "GIT_ASKPASS": script,
        "GIT_SSH_COMMAND": script,
        "GIT_OPTIONAL_LOCKS": "1",
        "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_TEST_SPLIT_INDEX": "1",
        "GIT_PYTHON_TRACE": "full",
        "GIT_PYTHON_REFRESH": "warn",
        "GIT_SOMETHING_OF_A_LATER_GIT": "1",
    }
    return {
        **{name: {name: value} for name, value in single.items()},
        "GIT_INTERNAL_SUPER_PREFIX": {"GIT_INTERNAL_SUPER_PREFIX": "elsewhere/"},
        "GIT_CONFIG_COUNT": count,
        "damaged configuration": {"GIT_CONFIG_PARAMETERS": "garbage", "GIT_CONFIG_COUNT": "many"},
        "all at once": {**single, **count},
    }


LEAKS = list(leaks(Path("/"), ""))


@pytest.fixture
def decoy(tmp_path: Path) -> Path:
    """Another repository of the user, with other commits, another branch and a file to refresh."""
    folder = make_repository(tmp_path / "decoy")
    git(folder, "commit", "-q", "--allow-empty", "-m", "decoy")
    git(folder, "branch", "-q", "-m", "decoy")
    git(folder, "remote", "add", "decoy", "../decoy")
    (folder / "train.py").write_text("changed\n")
    return folder


@pytest.mark.parametrize("leak", LEAKS)
def test_leaked_variables_change_nothing(
    repository: Path, decoy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leak: str
) -> None:
    """E01: the answer is that of a clean environment, and both repositories keep every byte and time."""
    (repository / "sub").mkdir()
    git(repository, "remote", "add", "origin", "../o")
    os.utime(repository / "train.py", (1, 1))
    expected = known(repository)
    assert (expected["branch"], expected["remotes"]) == ("main", {"origin": "../o"})
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch '{tmp_path}/{CANARY}'\n")
    script.chmod(0o755)
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        for name, value in leaks(decoy, str(script))[leak].items():
            patch.setenv(name, value)
        assert user_repository(str(repository / "sub")) == expected
        assert start_collecting(str(repository)).finish(30)["git"] == expected
    assert contents(tmp_path) == before


@pytest.mark.parametrize("leak", ["all at once", "damaged configuration", "GIT_INTERNAL_SUPER_PREFIX"])
def test_leaked_variables_while_gitpython_is_imported(
    repository: Path, decoy: Path, tmp_path: Path, leak: str
) -> None:
    """E01: the same in a process that has yet to import GitPython, which runs `git version` as it is.

    The last of these ends every command of git 2.39 that is no submodule's: then it is an error among the facts.
    """
    before = contents(tmp_path)
    code = "import json; from tensortime.environment import user_repository; answer = user_repository(sys.argv[1])"
    leaked = leaks(decoy, "/bin/false")[leak]
    facts = json.loads(python(code + "; print(json.dumps(answer))", str(repository), **leaked))
    assert (facts["head"], facts["branch"]) == (git(repository, "rev-parse", "HEAD"), "main")
    assert leak == "GIT_INTERNAL_SUPER_PREFIX" or (facts.get("error"), facts["dirty"]) == (None, False)
    assert contents(tmp_path) == before


def test_inside_a_real_pre_commit_hook(repository: Path, tmp_path: Path) -> None:
    """E01: a training started by a hook of another repository sees its own, and the commit takes what was added."""
    other = make_repository(tmp_path / "other")
    hook = other / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    program = (
        f"import sys, json; sys.path.insert(0, {PACKAGE!r})\n"
        "from tensortime.environment import user_repository\n"
        f"json.dump(user_repository({str(repository)!r}), open({str(tmp_path / 'answer')!r}, 'w'))\n"
    )
    (tmp_path / "training.py").write_text(program)
    hook.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{tmp_path}/training.py'\n")
    hook.chmod(0o755)
    (other / "more.txt").write_text("more\n")
    git(other, "add", "more.txt")
    before = contents(repository)
    git(other, "commit", "-q", "-m", "with a hook")
    facts = json.loads((tmp_path / "answer").read_text())
    assert (facts["top"], facts["branch"], facts.get("error")) == (str(repository), "main", None)
    assert git(other, "show", "--name-only", "--format=") == "more.txt"
    assert contents(repository) == before


# --- without git, with a strange git


def test_without_git(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E04: no git is an error among the facts; commit and branch are read from the files."""
    head = git(repository, "rev-parse", "HEAD")
    (tmp_path / "empty").mkdir()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "empty"))
        facts = known(repository)
    assert (facts["head"], facts["branch"], facts["dirty"]) == (head, "main", None)
    assert facts["error"] == "git was not found"
    code = (
        "import os; before = dict(os.environ); from tensortime.environment import user_repository as of;"
        "facts = of(sys.argv[1]); assert dict(os.environ) == before; print(facts['error'], 'git' in sys.modules)"
    )
    assert python(code, str(repository), PATH=str(tmp_path / "empty")) == "git was not found False\n"


def test_a_git_in_the_current_folder_is_not_run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E05: a PATH with "." in it must not run what lies in somebody's repository."""
    fake = repository / "git"
    fake.write_text(f"#!/bin/sh\ntouch {CANARY}\n")
    fake.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.chdir(repository)
        patch.setenv("PATH", ".")
        assert known(repository)["error"] == "git was not found"
    assert not (repository / CANARY).exists()


def test_a_module_of_the_user_called_git_is_not_run(repository: Path) -> None:
    """A project may have a git.py of its own, first on the path: importing it would run the user's code."""
    (repository / "git.py").write_text(f"open({CANARY!r}, 'w')\n")
    code = (
        "import os; os.chdir(sys.argv[1]); sys.path.insert(0, sys.argv[1]);"
        "from tensortime.environment import user_repository; print(user_repository(sys.argv[1])['error'])"
    )
    assert python(code, str(repository)) == "another module called git hides GitPython\n"
    assert not (repository / CANARY).exists()


def test_the_program_ignores_the_end_of_its_children(repository: Path) -> None:
    """With SIGCHLD ignored no exit code can be had: the answer itself says whether git answered."""
    code = (
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        "from tensortime.environment import user_repository; facts = user_repository(sys.argv[1]);"
        "print(facts['branch'], facts['dirty'], facts.get('error'))"
    )
    assert python(code, str(repository)) == "main False None\n"


def test_nothing_is_printed_or_logged(repository: Path) -> None:
    """GitPython logs every command at DEBUG, which a program with basicConfig(level=DEBUG) would show."""
    code = (
        "import logging; logging.basicConfig(level=logging.DEBUG, stream=sys.stdout);"
        "from tensortime.environment import user_repository, start_collecting;"
        "user_repository(sys.argv[1]); start_collecting(sys.argv[1]).finish(30);"
        "logging.getLogger('git.cmd').debug('the log of the program itself')"
    )
    assert python(code, str(repository)) == "DEBUG:git.cmd:the log of the program itself\n"


def test_without_a_home(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E03: HOME unset or nowhere."""
    with monkeypatch.context() as patch:
        patch.delenv("HOME")
        assert "error" not in known(repository)
        patch.setenv("HOME", "/nonexistent")
        assert "error" not in known(repository)


# --- a git that does not answer in time


@pytest.fixture
def slow_git(tmp_path: Path) -> Iterator[Callable[[], bool]]:
    """A git whose `status` takes a minute; tells whether one is still running."""
    folder, real = tmp_path / "slow", shutil.which("git")
    folder.mkdir()
    mark = tmp_path / "pid"
    (folder / "git").write_text(
        f'#!/bin/sh\nfor word; do if [ "$word" = status ]; then echo $$ > {mark}; exec sleep 60; fi; done\n'
        f'exec {real} "$@"\n'
    )
    (folder / "git").chmod(0o755)

    def is_running() -> bool:
        return mark.exists() and os.path.exists(f"/proc/{mark.read_text().strip() or 'none'}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield is_running


def wait_until(question: Callable[[], bool]) -> None:
    """Wait for what must happen soon."""
    end = time.monotonic() + 10
    while not question():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_git_cannot_tell_in_time(repository: Path, slow_git: Callable[[], bool]) -> None:
    """The backup goes on with what the files told, git is ended, and its thread ends by itself."""
    head = git(repository, "rev-parse", "HEAD") if not slow_git() else ""
    collector = start_collecting(str(repository))
    wait_until(slow_git)
    start = time.perf_counter()
    facts = collector.finish(0.05)["git"]
    assert time.perf_counter() - start < 1
    assert facts["error"] == "not known in time"
    assert (facts["head"], facts["branch"], facts["dirty"]) == (head, "main", None)
    wait_until(lambda: not slow_git())
    wait_until(lambda: threading.active_count() == 1)


def test_a_cancelled_backup_ends_its_git(repository: Path, slow_git: Callable[[], bool]) -> None:
    """After Ctrl-C or a full disk nobody waits for facts."""
    collector = start_collecting(str(repository))
    wait_until(slow_git)
    collector.cancel()
    collector.cancel()
    wait_until(lambda: not slow_git())


def test_git_is_given_up_without_anybody_asking(
    repository: Path, slow_git: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The direct call has a limit of its own, and keeps what it knew before."""
    git(repository, "remote", "add", "origin", "../o")
    calls = environment.GitCalls(seconds=2)
    monkeypatch.setattr(environment, "GitCalls", lambda: calls)
    facts = known(repository)
    assert (facts["error"], facts["remotes"]) == ("not known in time", {"origin": "../o"})
    assert not slow_git()


def test_where_no_thread_can_start(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of processes, or while Python ends: facts without git, no exception."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        facts = start_collecting(str(repository)).finish(1)
    assert facts["git"] == {"error": "can't start new thread"}
    assert facts["cwd"] == os.getcwd()


# --- collecting


def test_collecting_gives_the_whole_of_it(repository: Path, tmp_path: Path) -> None:
    """The run and the repository, ready for run.json; finish may be called again."""
    collector = start_collecting(str(repository), argv=["python", "train.py"])
    facts = collector.finish(30)
    assert set(facts) == {"command", "cwd", "python", "platform", "host", "pid", "git"}
    assert facts["command"] == ["python", "train.py"]
    assert facts["git"] == user_repository(str(repository))
    assert collector.finish(0) == facts
    assert start_collecting(str(tmp_path)).finish(30)["git"] is None
    json.dumps(facts)


def test_a_finished_answer_costs_no_wait(repository: Path) -> None:
    """Once the files are in, the facts are there."""
    collector = start_collecting(str(repository))
    wait_until(lambda: threading.active_count() == 1)
    start = time.perf_counter()
    assert "error" not in collector.finish(1)["git"]
    assert time.perf_counter() - start < 0.2


# --- nested repositories


def test_heads_of_nested_repositories(tmp_path: Path) -> None:
    """Loose and packed refs, detached, unborn, a worktree; no process is started for them."""
    folders = {name: make_repository(tmp_path / name) for name in ("loose", "packed", "detached")}
    git(folders["packed"], "pack-refs", "--all")
    git(folders["detached"], "checkout", "-q", "--detach")
    git(folders["loose"], "worktree", "add", "-q", "-b", "a/b", str(tmp_path / "linked"))
    folders["linked"] = tmp_path / "linked"
    (tmp_path / "unborn").mkdir()
    git(tmp_path / "unborn", "init", "-q")
    heads = {name: git(folder, "rev-parse", "HEAD") for name, folder in folders.items()}
    asked = [*folders, "unborn", "gone"]
    code = (
        "import os, json; from tensortime.environment import nested_heads;"
        "print(json.dumps(nested_heads((os.fsencode(p), os.path.basename(os.fsencode(p))) for p in sys.argv[1:])),"
        "'git' in sys.modules)"
    )
    answer, _, loaded = python(code, *(str(tmp_path / name) for name in asked), PATH="").rpartition(" ")
    assert json.loads(answer) == [
        *({"path": name, "head": head} for name, head in heads.items()),
        {"path": "unborn", "head": None},
    ]
    assert loaded == "False\n"


@pytest.mark.parametrize(
    "head", [b"ref: ../../secret", b"ref: refs/../../secret", b"", b"\xff" * 40, b"ref: refs/heads/a"]
)
def test_a_hostile_nested_repository_leads_nowhere(tmp_path: Path, head: bytes) -> None:
    """A HEAD that points out of the repository, to itself or to nothing has no commit."""
    (tmp_path / "secret").write_bytes(b"f" * 40)
    inside = tmp_path / "nested" / ".git"
    (inside / "refs" / "heads").mkdir(parents=True)
    (inside / "HEAD").write_bytes(head)
    (inside / "refs" / "heads" / "a").write_bytes(b"ref: refs/heads/a\n")
    nested = [(os.fsencode(tmp_path / "nested"), RelPath(b"nested"))]
    assert nested_heads(nested) == [{"path": "nested", "head": None}]


def test_a_pipe_as_head_holds_nothing_up(tmp_path: Path) -> None:
    """Opening a FIFO would wait for a writer for ever."""
    inside = tmp_path / "nested" / ".git"
    inside.mkdir(parents=True)
    os.mkfifo(inside / "HEAD")
    nested = [(os.fsencode(tmp_path / "nested"), RelPath(b"nested\xff"))]
    assert nested_heads(nested) == [{"path": "nested\udcff", "head": None}]


# --- the run


def test_the_command_is_the_one_that_was_typed() -> None:
    """sys.orig_argv: with the interpreter and its options, which sys.argv has lost."""
    code = "import json; from tensortime.environment import describe_run; print(json.dumps(describe_run()))"
    facts = json.loads(python(code, "--lr", "3e-4", "实验"))
    assert facts["command"][0] == sys.executable
    assert facts["command"][1] == "-c"
    assert facts["command"][-3:] == ["--lr", "3e-4", "实验"]
    assert facts["python"] == {
        "version": ".".join(map(str, sys.version_info[:3])),
        "implementation": "cpython",
        "executable": sys.executable,
        "prefix": sys.prefix,
    }


def test_a_command_in_an_ascii_locale() -> None:
    """E06: the same text under LC_ALL=C, and bytes that are no UTF-8 survive."""
    code = "import json; from tensortime.environment import describe_run; print(json.dumps(describe_run()['command']))"
    changes = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = json.loads(python(code, "实验", os.fsdecode(b"\xff"), **changes))
    assert [bytes_of(word) for word in command[-2:]] == ["实验".encode(), b"\xff"]


def test_a_deleted_current_folder(tmp_path: Path) -> None:
    """E09: no current folder is None, not an exception; git is still asked."""
    repository = make_repository(tmp_path / "r")
    (tmp_path / "gone").mkdir()
    code = (
        "import os; os.chdir(sys.argv[2]); os.rmdir(sys.argv[2]);"
        "from tensortime.environment import start_collecting; facts = start_collecting(sys.argv[1]).finish(30);"
        "print(facts['cwd'], facts['git']['branch'], facts['git'].get('error'))"
    )
    assert python(code, str(repository), str(tmp_path / "gone")) == "None main None\n"


def test_describing_a_run_takes_no_time() -> None:
    """It runs at the start of every backup: far below a millisecond."""
    describe_run()
    times = []
    for _ in range(20):
        start = time.perf_counter()
        describe_run(["python", "train.py", *(f"--option-{n}=value" for n in range(50))])
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005


def test_the_host_keeps_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 hex digits of the machine id, which itself is not shown; without one, of the name."""
    assert re.fullmatch("[0-9a-f]{16}", host_id())
    assert host_id() == python("from tensortime.environment import host_id; print(host_id())").strip()
    file = tmp_path / "machine-id"
    monkeypatch.setattr(environment, "MACHINE_IDS", (str(tmp_path / "none"), str(file)))
    without = host_id()
    file.write_text("uninitialized\n")
    assert host_id() == without
    file.write_text("0123456789abcdef0123456789abcdef\n")
    assert host_id() != without
    assert host_id() not in file.read_text()


# --- secrets


@pytest.mark.parametrize(
    "argument",
    [
        f"--api-key={CANARY}",
        f"--API_KEY={CANARY}",
        f"api_key={CANARY}",
        f"+model.hub.token={CANARY}",
        f"WANDB_API_KEY={CANARY}",
        f"--aws_secret_access_key={CANARY}/+ab=",
        f"--dbPassword={CANARY} with spaces",
        f"https://user:{CANARY}@example.org/x",
        f"https://{CANARY}@example.org/x",
        f"--db=postgres://u:{CANARY}@h/db",
        f"ssh://git:{CANARY}@example.org/x",
        f'{{"api_key": "{CANARY}", "lr": 1}}',
        f"import x; x.login(token='{CANARY}')",
        f"HF_TOKEN={CANARY} python train.py",
        f"Authorization: Bearer {CANARY}",
    ],
)
def test_a_secret_in_one_argument_is_hidden(argument: str) -> None:
    """S14: by its name, or as user and password of a URL."""
    hidden = redact_arguments([argument])[0]
    assert CANARY not in hidden
    assert "***" in hidden or "://" in hidden


@pytest.mark.parametrize(
    "option",
    ["--api-key", "--token", "--hf_token", "--password", "--secret", "--client-secret", "-token", "--apiKey"],
)
def test_a_secret_after_its_option_is_hidden(option: str) -> None:
    """S14: only the argument after it, and not an option that follows it."""
    assert redact_arguments([option, CANARY, "x"]) == [option, "***", "x"]
    assert redact_arguments([option, "--lr", "3"]) == [option, "--lr", "3"]


@pytest.mark.parametrize(
    "words",
    [
        ["--max-tokens", "512"],
        ["--tokenizer", "bert-base"],
        ["--pad-token", "<pad>"],
        ["--num_tokens=4096", "eos_token=2"],
        ["--secretary", "anna"],
        ["--key", "loss"],
        ["--sort-key=name", "model.key=3"],
        ["--passwordless", "yes"],
        ["--url", "https://example.org/a@v1?x=1"],
        ["git@example.org:a/b.git", "ssh://git@example.org/a"],
        ["--note", "token: the smallest unit"],
        ["--token"],
        [""],
    ],
)
def test_parameters_stay_as_typed(words: list[str]) -> None:
    """What a rerun needs is not hidden for a resemblance."""
    assert redact_arguments(words) == words


def test_remotes_carry_no_credentials(repository: Path) -> None:
    """S14: user and password, or a token in their place, never reach run.json; a plain ssh user does."""
    urls = {
        "pair": (f"https://me:{CANARY}@example.org/a.git", "https://example.org/a.git"),
        "token": (f"https://{CANARY}@example.org/a.git", "https://example.org/a.git"),
        "ssh": (f"ssh://git:{CANARY}@example.org:22/a", "ssh://git@example.org:22/a"),
        "scp": ("git@example.org:a.git", "git@example.org:a.git"),
        "helper": (f"codecommit::https://a:{CANARY}@x/y", "codecommit::https://x/y"),
        "with.dots and = signs": ("../o", "../o"),
    }
    for name, (url, _) in urls.items():
        git(repository, "config", f"remote.{name}.url", url)
    facts = known(repository)
    assert facts["remotes"] == {name: shown for name, (_, shown) in urls.items()}
    assert CANARY not in json.dumps(facts)

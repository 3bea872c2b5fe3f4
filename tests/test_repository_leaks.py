"""What surrounds a look at the user's repository: leaked variables, a strange git or none. CASES E01 to E05."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from repositories import CANARY, PACKAGE, contents, git, known, make_repository, python, watched_home

from tensortime.collector import start_collecting
from tensortime.repository import user_repository


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[Path]:
    """Every test ends as it began, in a home of its own."""
    with watched_home(tmp_path / "home") as folder:
        yield folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository with one commit."""
    return make_repository(tmp_path / "user")


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
        "GIT_TRACE_PERFORMANCE": str(decoy.parent / "trace"),
        "GIT_TRACE_PACKET": "2",
        "GIT_TRACE2": str(decoy.parent / "trace"),
        "GIT_TRACE2_EVENT": str(decoy.parent / "trace"),
        "GIT_TRACE2_PERF": "2",
        "GIT_REDIRECT_STDERR": str(decoy.parent / "trace"),
        "GIT_ICASE_PATHSPECS": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_SOMETHING_OF_A_LATER_GIT": "1",
    }
    # Not in "all at once", which is for git: with the first of these git 2.39 does nothing but for submodules.
    return {
        **{name: {name: value} for name, value in single.items()},
        "GIT_INTERNAL_SUPER_PREFIX": {"GIT_INTERNAL_SUPER_PREFIX": "elsewhere/"},
        "GIT_TRACE to a file": {"GIT_TRACE": str(decoy.parent / "trace")},
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
    (repository / "same.py").write_text("same\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "second")
    git(repository, "init", "-q", "--bare", "../o")
    git(repository, "remote", "add", "origin", "../o")
    git(repository, "push", "-q", "origin", "main")
    (repository / "train.py").write_text("lr = 2\n")
    os.utime(repository / "same.py", (1, 1))
    expected = known(repository)
    assert (expected["branch"], expected["remotes"]) == ("main", {"origin": "../o"})
    facts, files = start_collecting(str(repository)).finish(30)
    assert facts["git"] == {**expected, "pushed": {"commit": expected["head"], "patch": 187}}
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch '{tmp_path}/{CANARY}'\n")
    script.chmod(0o755)
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        for name, value in leaks(decoy, str(script))[leak].items():
            patch.setenv(name, value)
        assert user_repository(str(repository / "sub")) == expected
        leaked, same = start_collecting(str(repository)).finish(30)
        assert (leaked["git"], same[b"pushed.patch"]) == (facts["git"], files[b"pushed.patch"])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("leak", ["all at once", "damaged configuration", "GIT_INTERNAL_SUPER_PREFIX"])
def test_leaked_variables_from_the_start_of_a_process(
    repository: Path, decoy: Path, tmp_path: Path, leak: str
) -> None:
    """E01: the same in a process that was born with them, and nothing of a trace reaches its output."""
    before = contents(tmp_path)
    code = "import json; from tensortime.repository import user_repository; answer = user_repository(sys.argv[1])"
    leaked = leaks(decoy, "/bin/false")[leak]
    facts = json.loads(python(code + "; print(json.dumps(answer))", str(repository), **leaked))
    assert facts == {
        "top": str(repository),
        "head": git(repository, "rev-parse", "HEAD"),
        "branch": "main",
        "dirty": False,
        "remotes": {},
    }
    assert contents(tmp_path) == before


def test_inside_a_real_pre_commit_hook(repository: Path, tmp_path: Path) -> None:
    """E01: a training started by a hook of another repository sees its own, and the commit takes what was added."""
    other = make_repository(tmp_path / "other")
    hook = other / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    program = (
        f"import sys, json; sys.path.insert(0, {PACKAGE!r})\n"
        "from tensortime.repository import user_repository\n"
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
        "import os; before = dict(os.environ); from tensortime.repository import user_repository as of;"
        "facts = of(sys.argv[1]); assert dict(os.environ) == before; print(facts['error'])"
    )
    assert python(code, str(repository), PATH=str(tmp_path / "empty")) == "git was not found\n"


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
    """A project may have a git.py of its own, first on the path: it is not run, not imported, not in the way."""
    (repository / "git.py").write_text(f"open({CANARY!r}, 'w')\n")
    code = (
        "import os; os.chdir(sys.argv[1]); sys.path.insert(0, sys.argv[1]);"
        "from tensortime import api; run = api.show(str(api.backup().experiment)).run;"
        "print(run['git']['branch'], run['git'].get('error'), 'git' in sys.modules)"
    )
    assert python(code, str(repository)) == "main None False\n"
    assert not (repository / CANARY).exists()


def test_the_program_ignores_the_end_of_its_children(repository: Path) -> None:
    """With SIGCHLD ignored no exit code can be had: the answer itself says whether git answered."""
    code = (
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        "from tensortime.repository import user_repository; facts = user_repository(sys.argv[1]);"
        "print(facts['branch'], facts['dirty'], facts.get('error'))"
    )
    assert python(code, str(repository)) == "main False None\n"


def test_nothing_is_printed_or_logged(repository: Path) -> None:
    """A program that logs everything at DEBUG sees its own lines alone, and no word of git."""
    code = (
        "import logging; logging.basicConfig(level=logging.DEBUG, stream=sys.stdout);"
        "from tensortime.collector import start_collecting; from tensortime.repository import user_repository;"
        "user_repository(sys.argv[1]); start_collecting(sys.argv[1]).finish(30);"
        "logging.debug('the log of the program itself')"
    )
    assert python(code, str(repository)) == "DEBUG:root:the log of the program itself\n"


def test_without_a_home(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E03: HOME unset or nowhere."""
    with monkeypatch.context() as patch:
        patch.delenv("HOME")
        assert "error" not in known(repository)
        patch.setenv("HOME", "/nonexistent")
        assert "error" not in known(repository)

"""What the calls typed most often load: their time to start is the time of their imports.

The budgets, as ratios to `python -c pass`: `--version` and the hook's entry at most 2, bare `log` at most 5, `--help`
at most 8. Not the clock is looked at, which on a busy machine says nothing, but the modules.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from builders import Tree

from tensortime import api

PARSERS = {"typer", "click", "rich", "pydantic", "shellingham"}
LIBRARIES = PARSERS | {"git", "pathspec", "blake3", "isal"}
SLOW = LIBRARIES | {
    *("asyncio", "concurrent.futures", "multiprocessing", "logging", "unittest", "importlib.metadata"),
    *("email", "http", "urllib.request", "socket", "ssl", "hashlib", "uuid", "platform", "random"),
    *("tempfile", "shutil", "pathlib", "zipfile", "difflib", "traceback", "tomllib", "pwd"),
}
"""What takes milliseconds each, and nothing needs that only lists or says something."""

WRITING = {
    f"tensortime.{name}"
    for name in (
        "snapshot",
        "checkout",
        "editing",
        "extraction",
        "intake",
        "sidecar",
        "collector",
        "repository",
    )
}
OTHERS = {f"tensortime.{name}" for name in ("cli", "documents", "reports", "answers", "manifest", "overview")}
RARE = {
    f"tensortime.{name}"
    for name in (
        *("cli", "answers", "documents", "manual", "backlog", "supplement", "ongoing", "outcome", "pairs"),
        *("differences", "comparison", "extraction", "selection", "running"),
    )
}
"""What neither a backup nor a restore of a whole project needs."""

THREADS = {"concurrent.futures", "logging", "traceback"}
SLOWEST_OF_PYTHON = {"re", "enum", "typing", "dataclasses", "inspect", "contextlib", "json", "subprocess"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one backup."""
    Tree(tmp_path / "p").file("train.py", b"1")
    api.backup(directory=tmp_path / "p", name="base")
    return tmp_path / "p"


def loaded(statement: str, folder: Path) -> set[str]:
    """The modules that a process loads for a statement, beyond those with which Python starts."""
    program = "import sys\nbefore = set(sys.modules)\n"
    program += f"try:\n    {statement}\nexcept SystemExit as done:\n    assert not done.code, done.code\n"
    program += "print('\\n' + ' '.join(set(sys.modules) - before), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


def called(*arguments: str) -> str:
    """The statement that is a call of the command."""
    return f"sys.argv = ['tensortime', *{arguments!r}]; from tensortime.__main__ import main; main()"


def heavy(modules: set[str], forbidden: set[str]) -> set[str]:
    """Which of the forbidden ones, or of what is in them, were loaded."""
    return {name for name in modules if any(name == one or name.startswith(one + ".") for one in forbidden)}


@pytest.mark.parametrize(
    ("statement", "forbidden", "most"),
    [
        pytest.param("import tensortime", SLOW | SLOWEST_OF_PYTHON, 1, id="import"),
        pytest.param(called("--version"), SLOW | SLOWEST_OF_PYTHON, 3, id="version"),
        pytest.param(called("hook", "bash"), SLOW | SLOWEST_OF_PYTHON, 6, id="hook bash"),
        pytest.param(called("hook", "--before", "ls"), SLOW | SLOWEST_OF_PYTHON, 6, id="hook before"),
        # 64 of Python 3.11 (dataclasses, json, subprocess, typing and theirs) and 26 of ours; other versions differ.
        pytest.param(called("log"), SLOW | WRITING | OTHERS, 100, id="log"),
        pytest.param(
            called("backup", "--note", "x"),
            PARSERS | RARE | THREADS | {"pathlib", "tempfile", "shutil", "random", "difflib", "uuid"},
            165,
            id="backup",
        ),
        pytest.param(
            called("restore", "base", "there"), PARSERS | RARE | {"tempfile", "difflib"}, 165, id="restore"
        ),
        pytest.param(
            called("run", "--", "true"),
            PARSERS | {"tensortime.checkout", "tensortime.inventory"},
            190,
            id="run",
        ),
        pytest.param(called("diff"), PARSERS | THREADS | {"tensortime.answers"}, 165, id="diff"),
        pytest.param(called("show", "@"), PARSERS | RARE | WRITING, 105, id="show"),
        pytest.param(called("--help"), (SLOW | WRITING) - {"shutil"}, 85, id="help"),
    ],
)
def test_a_call_loads_only_what_it_needs(
    project: Path, statement: str, forbidden: set[str], most: int
) -> None:
    """Nothing slow that it does not need, and no more modules than it has now, plus a few."""
    modules = loaded(statement, project)
    assert not heavy(modules, forbidden)
    assert len(modules) <= most, sorted(modules)


def test_a_verb_loads_what_it_does_and_not_what_the_others_do(project: Path) -> None:
    """typer has its price; what backs up, restores and deletes is not added to it where the settings are shown."""
    modules = loaded(called("config"), project)
    assert "typer" in modules
    assert not heavy(modules, WRITING | (LIBRARIES - PARSERS))


@pytest.mark.parametrize(
    "typed",
    [
        ["backup", "--name", "x", "--note=y", "--add", "train.py"],
        ["-C", ".", "log", "-n", "3"],
        ["show", "@", "train.py"],
        ["restore", "base", "there"],
        ["diff", "base"],
        ["run", "--note", "x", "--", "true"],
    ],
    ids=" ".join,
)
def test_what_is_typed_most_does_not_load_typer(project: Path, typed: list[str]) -> None:
    """With their options and arguments, where these are right."""
    assert not heavy(loaded(called(*typed), project), PARSERS)

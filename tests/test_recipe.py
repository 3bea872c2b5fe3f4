"""How a recorded run is done again elsewhere: its words, folder, Python and variables."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from builders import Tree

from tensortime.errors import UsageError
from tensortime.recipe import Recipe, recipe_of

NOW = {"PATH": "/usr/bin:/bin", "HOME": "/home/ada"}


def recipe(
    *command: str,
    cwd: str = "/home/ada/p",
    arguments: tuple[str, ...] = (),
    environ: Mapping[str, str] = NOW,
    wanted: str | None = None,
    **facts: object,
) -> Recipe:
    """A run in /home/ada/p, to be done again in /new/p."""
    run = {"command": list(command), "cwd": cwd, "machine": {}, **facts}
    return recipe_of(run, "/home/ada/p", "/new/p", arguments, environ, name="x", python=wanted)


def test_a_typed_line_runs_as_the_shell_would_have_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook records a line that no shell has read yet: variables in front of it are no program, `~` is a folder."""
    monkeypatch.setenv("HOME", "/home/ada")
    found = recipe("A=1", "B=", "./train.sh", "~/sets", "lr=[1,2]", as_line=True)
    assert found.words == ("./train.sh", "/home/ada/sets", "lr=[1,2]")
    assert (found.environment["A"], found.environment["B"]) == ("1", "")
    assert recipe("./x", "A=1", "~/sets").words == ("./x", "A=1", "~/sets"), "these are the program's"
    for words in (("./train.sh", "--seed", "$SEED"), ("./train.sh", "`date`"), ("A=$B", "./train.sh")):
        with pytest.raises(
            UsageError, match=r"what the shell made of \S+ in the command of x was not recorded"
        ):
            recipe(*words, as_line=True)
    assert recipe(*words[1:], "$x", arguments=("1",), as_line=True).words == ("./train.sh", "1")


def test_words_and_folder_are_those_of_then() -> None:
    """In the same folder of the project, seen from its new place."""
    found = recipe("./train.sh", "--lr", "0.1", cwd="/home/ada/p/sub")
    assert (found.words, found.folder, found.notes) == (("./train.sh", "--lr", "0.1"), "/new/p/sub", ())


def test_what_led_into_the_project_leads_into_the_new_folder() -> None:
    """Absolute paths, alone or behind a `=`; what only begins alike stays."""
    found = recipe(
        "./t",
        "/home/ada/p/cfg.yaml",
        "--data=/home/ada/p/data",
        "x=/home/ada/p",
        "/home/ada/p2",
        "--o=/tmp/p",
    )
    assert found.words == (
        "./t",
        "/new/p/cfg.yaml",
        "--data=/new/p/data",
        "x=/new/p",
        "/home/ada/p2",
        "--o=/tmp/p",
    )


def test_a_run_from_outside_of_the_project_runs_in_the_new_folder() -> None:
    """Its script is found from there, and it says so."""
    found = recipe("bash", "p/train.sh", "other/x", cwd="/home/ada")
    assert (found.words, found.folder) == (("bash", "/new/p/train.sh", "other/x"), "/new/p")
    assert str(found.notes[0]) == "it ran in /home/ada, outside of the project; now it runs in the new folder"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("bash", "train.py", "--lr", "1"), ("bash", "train.py", "--seed", "2")),
        (
            ("torchrun", "--nproc-per-node", "4", "train.py", "--lr", "1"),
            ("torchrun", "--nproc-per-node", "4", "train.py", "--seed", "2"),
        ),
        (
            ("accelerate", "launch", "-m", "pkg.train", "a"),
            ("accelerate", "launch", "-m", "pkg.train", "--seed", "2"),
        ),
        (("make", "train"), ("make", "--seed", "2")),
        (
            ("python", "-m", "torch.distributed.run", "--nproc-per-node", "4", "train.py", "--lr", "1"),
            ("python", "-m", "torch.distributed.run", "--nproc-per-node", "4", "train.py", "--seed", "2"),
        ),
        (
            ("python", "-m", "accelerate", "launch", "train.py", "--lr", "1"),
            ("python", "-m", "accelerate", "launch", "train.py", "--seed", "2"),
        ),
        (("python", "-m", "pkg.train", "x.py"), ("python", "-m", "pkg.train", "--seed", "2")),
    ],
)
def test_other_arguments_stand_in_place_of_those_behind_the_script(
    command: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """Or behind the module; where there is neither, behind the program."""
    assert recipe(*command, arguments=("--seed", "2")).words == expected


def test_one_of_several_processes_runs_alone_and_says_so() -> None:
    """A rank of a launch recorded what it was, not how it was launched."""
    found = recipe("./train.sh", launch={"WORLD_SIZE": "4", "RANK": "0"})
    assert [str(note) for note in found.notes] == [
        "it was one of 4 processes of a launcher; now it runs alone"
    ]
    assert recipe("./train.sh", launch={"WORLD_SIZE": "1"}).notes == ()


def test_other_arguments_of_python() -> None:
    """What Python itself is told stays."""
    words = ("python3", "-u", "-X", "dev", "train.py", "--lr", "1")
    assert recipe(*words, arguments=("--seed", "2")).words[1:] == (
        "-u",
        "-X",
        "dev",
        "train.py",
        "--seed",
        "2",
    )


def test_a_run_without_a_command_takes_one() -> None:
    """A backup that was made by hand has none of its own; without one it cannot be run again."""
    assert recipe("tensortime", "backup", arguments=("bash", "t.sh")).words == ("bash", "t.sh")
    with pytest.raises(UsageError, match="x has no command that can be run again"):
        recipe("tensortime", "backup")
    with pytest.raises(UsageError, match="no command that can be run again"):
        recipe("jupyter", arguments=("bash",), notebook={"cells": 3})
    with pytest.raises(UsageError, match="typed into Python"):
        recipe("python")


def test_a_secret_is_asked_for_again() -> None:
    """It was not recorded: only arguments that are given anew can replace it."""
    with pytest.raises(UsageError, match="a secret in the command of x was not recorded"):
        recipe("bash", "train.py", "--token", "***")
    assert recipe("bash", "train.py", "--token", "***", arguments=("--token", "s")).words[-1] == "s"


@pytest.mark.parametrize(
    "facts",
    [
        {"command": ["./t", "a\0b"]},
        {"command": ["./t", "\ud800"]},
        {"cwd": "\0"},
        {"environment": {"PYTHONHASHSEED": "\0"}},
        {"python": {"executable": "\0"}},
    ],
)
def test_a_record_that_somebody_made_up_is_refused(facts: dict[str, object]) -> None:
    """One line, no exception of the system's."""
    run = {"command": ["./t"], "cwd": "/home/ada/p", "machine": {}, **facts}
    with pytest.raises(UsageError, match="holds what no command can be"):
        recipe_of(run, "/home/ada/p", "/new/p", (), NOW, name="x")


@pytest.mark.parametrize("odd", [3, None, [], {}, "x", [3], {"executable": 3}])
def test_a_record_of_odd_types_is_no_exception(odd: object) -> None:
    """What is not as a version of ours writes it counts as not recorded."""
    run = {"command": ["./t"], "cwd": odd, "environment": odd, "python": odd, "machine": odd}
    assert recipe_of(run, "/home/ada/p", "/new/p", (), NOW, name="x").words[0] == "./t"
    with pytest.raises(UsageError, match="no command that can be run again"):
        recipe_of({"command": odd if odd != [3] else 3}, "/p", "/new/p", (), NOW, name="x")


# --- Python


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A folder like that of a virtual environment."""
    Tree(tmp_path / "venv").file("pyvenv.cfg").file("bin/python3.11", b"#!/bin/sh\n", mode=0o755).symlink(
        "bin/python", "python3.11"
    )
    return tmp_path / "venv"


def test_the_python_of_then_runs_it(venv: Path) -> None:
    """By the name that was typed, found first; its environment is the one that tools see."""
    python = {"executable": str(venv / "bin/python")}
    environ = {**NOW, "VIRTUAL_ENV": "/other", "CONDA_PREFIX": "/conda"}
    recorded = {"VIRTUAL_ENV": str(venv)}
    found = recipe("python", "train.py", environ=environ, python=python, environment=recorded)
    assert found.words == ("python", "train.py")
    assert found.environment["PATH"] == f"{venv}/bin:/usr/bin:/bin"
    assert found.environment["VIRTUAL_ENV"] == str(venv)
    assert "CONDA_PREFIX" not in found.environment
    found = recipe("make", "train", environ=environ, python=python)
    assert found.environment["PATH"] == f"{venv}/bin:/usr/bin:/bin"
    assert "VIRTUAL_ENV" not in found.environment, "it was not active then"


def test_a_python_that_was_called_otherwise_is_called_by_its_path(venv: Path) -> None:
    """`python3` where the environment of then has only another name for it."""
    python = {"executable": str(venv / "bin/python3.11")}
    assert recipe("python3", "t.py", python=python).words[0] == str(venv / "bin/python3.11")
    assert recipe("/home/ada/p/.venv/bin/python", "t.py", python=python).words[0] == "python"


def test_a_python_that_is_gone_is_replaced_and_named(tmp_path: Path) -> None:
    """By the one that the shell would start."""
    environ = {"PATH": os.path.dirname(sys.executable)}
    found = recipe("python", "t.py", environ=environ, python={"executable": "/gone/bin/python"})
    assert found.words == ("python", "t.py")
    assert str(found.notes[0]).startswith("the Python of then is not here: /gone/bin/python; now it is ")
    assert recipe("/gone/bin/python", "t.py", environ={"PATH": str(tmp_path)}).words[0] == "python"


def test_another_python_can_be_wanted(venv: Path) -> None:
    """That of a rebuilt environment, whatever was recorded."""
    found = recipe("python", "t.py", wanted=str(venv / "bin/python"), python={"executable": sys.executable})
    assert found.environment["PATH"].startswith(f"{venv}/bin:")
    assert found.environment["VIRTUAL_ENV"] == str(venv)


# --- variables


def test_variables_that_change_a_result_are_those_of_then() -> None:
    """Set as they were, and none that was not set; what tells of the host, and all others, are those of now."""
    environ = {
        **NOW,
        "OMP_NUM_THREADS": "8",
        "PYTHONHASHSEED": "1",
        "CUDA_VISIBLE_DEVICES": "3",
        "HF_HOME": "/now",
        "EDITOR": "vi",
    }
    recorded = {
        "PYTHONHASHSEED": "0",
        "MKL_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "0",
        "HF_HOME": "/then",
        "LD_PRELOAD": "/x.so",
    }
    found = recipe("./t", environ=environ, environment=recorded).environment
    expected = {
        "PYTHONHASHSEED": "0",
        "MKL_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "3",
        "HF_HOME": "/now",
        "EDITOR": "vi",
    }
    assert found == {**NOW, **expected}


def test_the_search_path_leads_into_the_new_folder() -> None:
    """Of several folders that one which lies in the project."""
    found = recipe("./t", environment={"PYTHONPATH": "/home/ada/p/src:/opt/lib"})
    assert found.environment["PYTHONPATH"] == "/new/p/src:/opt/lib"


def test_marks_of_another_run_are_not_handed_on() -> None:
    """A rerun inside a run is an experiment of its own; a hidden value is not taken for one."""
    environ = {**NOW, "TENSORTIME_EXPERIMENT": "y", "TENSORTIME_RUNNER": "1", "XLA_FLAGS": "now"}
    assert recipe("./t", environ=environ, environment={"XLA_FLAGS": "***"}).environment == {
        **NOW,
        "XLA_FLAGS": "now",
    }


def test_a_run_that_recorded_no_variables_leaves_those_of_now() -> None:
    """A version that did not look cannot say that there were none."""
    run = {"command": ["./t"], "cwd": "/home/ada/p"}
    environ = {**NOW, "OMP_NUM_THREADS": "8"}
    assert recipe_of(run, "/home/ada/p", "/new/p", (), environ, name="x").environment == environ

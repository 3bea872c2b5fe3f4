"""What `show` says of what a backup remembers: short, and never an exception on what another version wrote."""

from pathlib import Path

import pytest
from builders import Tree, run_cli

from tensortime.messages import ENGLISH
from tensortime.recollection import python_row, recollection_rows
from tensortime.render import git_text

RUN = {
    "python": {"version": "3.12.4", "executable": "/venv/bin/python", "source": "VIRTUAL_ENV"},
    "machine": {
        "cpu": "AMD EPYC",
        "cpus": 64,
        "cpu_limit": 8,
        "memory": 1 << 40,
        "memory_limit": 32_000_000_000,
        "gpus": ["NVIDIA A100", "NVIDIA A100", "Instinct MI210"],
        "drivers": {"nvidia": "550.54.14"},
        "torch": {"version": "2.3.1", "cuda": "12.1"},
    },
    "launch": {"SLURM_JOB_ID": "4711", "WORLD_SIZE": "8"},
    "trackers": {
        "wandb": {"id": "a1", "path": "lin/digits/a1"},
        "mlflow": {"run_id": "0f", "tracking_uri": "x"},
    },
    "notebook": {"cells": 12, "path": "/code/a.ipynb"},
    "git": {"pushed": {"commit": "c7411900502a9fd473b2c17ff5f2ba5fa195e552", "patch": 2100}},
}


def test_every_fact_has_its_row() -> None:
    """One line a subject; limits before what there is; GPUs of a kind together."""
    assert python_row(RUN, ENGLISH) == ("python", "3.12.4 /venv/bin/python (VIRTUAL_ENV)")
    assert recollection_rows(RUN, ENGLISH) == [
        ("machine", "AMD EPYC, 8 CPUs, 32.0 GB of memory"),
        ("GPU", "2 × NVIDIA A100, Instinct MI210, nvidia 550.54.14, torch 2.3.1, cuda 12.1"),
        ("launch", "SLURM_JOB_ID=4711 WORLD_SIZE=8"),
        ("wandb", "lin/digits/a1"),
        ("mlflow", "0f"),
        ("notebook", "/code/a.ipynb (12 cells)"),
        ("pushed", "c7411900502a, and a patch of 2.1 kB"),
    ]


def test_what_is_not_known_says_why() -> None:
    """An error stands where the fact would."""
    late = {"error": "not known in time"}
    run = {"python": late, "machine": late, "packages": late, "git": {"pushed": {"commit": "c74119", **late}}}
    assert python_row(run, ENGLISH) == ("python", "not known in time")
    assert recollection_rows(run, ENGLISH) == [
        ("machine", "not known in time"),
        ("packages", "not known in time"),
        ("pushed", "c74119, not known in time"),
    ]


@pytest.mark.parametrize(
    "strange", [None, 7, "text", [], {}, {"error": None, "cells": "x", "gpus": 3, "torch": 1}]
)
def test_facts_of_another_kind(strange: object) -> None:
    """A later version, or a hostile store: whatever stands there, the rest is shown."""
    run = dict.fromkeys((*RUN, "packages"), strange)
    assert python_row(run, ENGLISH)[0] == "python"
    recollection_rows(run, ENGLISH)
    recollection_rows({"git": {"pushed": strange}, "trackers": {"x": strange}}, ENGLISH)


def test_show_says_it(tmp_path: Path) -> None:
    """Through the command line, from a backup that was really made."""
    Tree(tmp_path).file("train.py", b"x = 1\n")
    assert run_cli("backup", cwd=tmp_path, env={"SLURM_JOB_ID": "4711"}).returncode == 0
    rows = dict(line.split(maxsplit=1) for line in run_cli("show", "@", cwd=tmp_path).stdout.splitlines())
    assert rows["launch"] == "SLURM_JOB_ID=4711"
    assert {"machine", "python"} <= set(rows)


def test_untracked_files_are_not_called_clean() -> None:
    """git was asked of tracked files alone: without a commit there is nothing to say of them."""
    head = "c7411900502a9fd473b2c17ff5f2ba5fa195e552"
    assert git_text({"head": None, "branch": "master", "dirty": False}, ENGLISH) == "no commit (master)"
    told = "c7411900502a (main), no tracked file changed"
    assert git_text({"head": head, "branch": "main", "dirty": False}, ENGLISH) == told
    assert git_text({"head": head, "dirty": True}, ENGLISH) == "c7411900502a, with uncommitted changes"

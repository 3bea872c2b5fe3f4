"""Terminals of 20 and 40 columns: every verb that prints a table or a page."""

import re
from pathlib import Path

import pytest
from builders import Tree, run_cli
from terminals import columns_of, on_terminal

from tensortime import api

FIT = [("log",), ("undelete",), ("diff", "@~1", "@"), ("log", "--help"), ("restore", "--help"), ("--help",)]
"""What consists of cells that can be cut, or of words."""
WIDE = [("show", "@"), ("config",), ("du", "--paths"), ("doctor",), ("rm", "--keep-last", "1", "--dry-run")]
"""What holds names, paths and commands that are to be copied: these are never cut, the terminal breaks them."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long names, Chinese notes, one experiment in the trash."""
    tree = Tree(tmp_path_factory.mktemp("narrow") / "p").file("train.py", b"1\n").file("数据/x.csv", b"1\n")
    for number, name in enumerate(["gone", "2026-11-25_10-10-10-a-long-name-学习", "base"]):
        tree.file("train.py", b"%d\n" % number)
        note = "一个很长的笔记 and more of it"
        api.backup(directory=tree.root, name=name, note=note, params={"lr": number}, metrics={"loss": number})
    run_cli("rm", "gone", cwd=tree.root)
    return tree.root


@pytest.mark.parametrize("columns", [20, 40])
@pytest.mark.parametrize("words", FIT + WIDE, ids=" ".join)
def test_a_narrow_terminal(words: tuple[str, ...], columns: int, project: Path) -> None:
    """Nothing fails; at 40 columns, and in the table of log at 20, no line is wider than the terminal."""
    shown = on_terminal("-m", "tensortime", *words, cwd=project, columns=columns)
    assert shown.strip()
    assert "Traceback" not in shown
    if words == ("log",) or (words in FIT and columns == 40):
        lines = re.sub(r"\x1b\[\d*m", "", shown).splitlines()
        assert [line for line in lines if columns_of(line) > columns] == []

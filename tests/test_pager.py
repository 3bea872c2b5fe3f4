"""The pager: for what is longer than the terminal, where a person watches, and nowhere else."""

import re
import time

import pexpect
import pytest
from builders import Tree, run_cli
from terminals import on_terminal, spawn

from tensortime import api
from tensortime.pager import pager_words

STUB = '#!/bin/sh\necho PAGED "$@"; cat; echo "<$LESS $LESSCHARSET>"\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A project with more experiments than a terminal has lines."""
    tree = Tree(tmp_path_factory.mktemp("pager") / "p").file("train.py", b"1\n")
    tree.file("pager", STUB.encode(), mode=0o755).file(".ttignore", b"pager\nquits\n")
    tree.file("quits", b"#!/bin/sh\nexit 0\n", mode=0o755)
    for number in range(30):
        api.backup(directory=tree.root, name=f"x{number:02}", note="n" * 60)
    tree.file("train.py", b"".join(b"line %d\n" % number for number in range(50)))
    return tree


def shown(*words: str, project: Tree, pager: str | None = None, **variables: str) -> str:
    """What a terminal of 24 lines shows; `pager` in the project's folder."""
    own = {} if pager is None else {"TENSORTIME_PAGER": f"{project.root}/{pager}"}
    return on_terminal("-m", "tensortime", *words, cwd=project.root, variables={**own, **variables})


@pytest.mark.parametrize(
    "words",
    [("log", "-n", "30"), ("diff", "@", "--patch"), ("du", "-n", "30"), ("--help",), ("rm", "--help")],
)
def test_what_does_not_fit_is_paged(words: tuple[str, ...], project: Tree) -> None:
    """All of it goes through the pager, colours too, and nothing besides; less gets what it needs."""
    paged = shown(*words, project=project, pager="pager -x")
    assert paged.startswith("PAGED -x\n")
    assert paged.endswith("<FRX utf-8>\n")
    paged, plain = (re.sub(r"disk has .* left", "", text) for text in (paged, shown(*words, project=project)))
    assert paged.removeprefix("PAGED -x\n").removesuffix("<FRX utf-8>\n") == plain
    if words[0] == "diff":
        assert "\x1b[" in paged


@pytest.mark.parametrize("words", [("log", "-n", "5"), ("log", "--json"), ("note", "--help")])
def test_what_fits_is_not(words: tuple[str, ...], project: Tree) -> None:
    """Nor is the document of --json."""
    assert "PAGED" not in shown(*words, project=project, pager="pager")


def test_only_where_a_person_watches(project: Tree) -> None:
    """A dumb terminal, a pipe behind or before it: plain output."""
    pager = f"{project.root}/pager"
    assert "PAGED" not in shown("log", "-n", "30", project=project, pager="pager", TERM="dumb")
    assert "PAGED" not in run_cli("log", cwd=project.root, env={"TENSORTIME_PAGER": pager}).stdout
    script = (
        "import subprocess, sys; subprocess.run([sys.executable, '-m', 'tensortime', 'log', '-n', '30'], "
    )
    script += "stdin=subprocess.DEVNULL)"
    variables = {"TENSORTIME_PAGER": pager}
    assert "PAGED" not in on_terminal("-c", script, cwd=project.root, variables=variables)


@pytest.mark.parametrize("pager", ["", "cat", "/nowhere/pager", "less '", "/", "  "])
def test_without_a_pager_the_output_is_plain(pager: str, project: Tree) -> None:
    """None wanted, none there, a quote that nothing closes."""
    lines = shown("log", "-n", "30", project=project, TENSORTIME_PAGER=pager).splitlines()
    assert len(lines) == 31


def test_a_pager_that_quits_at_once(project: Tree) -> None:
    """Nothing is said, exit 0, also where much is left to be read."""
    assert shown("log", "-n", "30", project=project, pager="quits") == ""
    script = (
        "import sys; from tensortime import commands; commands.put_long(['x' * 70] * 50_000); sys.exit(0)"
    )
    variables = {"TENSORTIME_PAGER": f"{project.root}/quits"}
    assert on_terminal("-c", script, cwd=project.root, variables=variables) == ""


def test_ctrl_c_leaves_the_terminal_to_the_pager(project: Tree) -> None:
    """A pager that goes on after Ctrl-C is waited for; then all ends quietly."""
    project.file(
        "stays",
        b"#!/bin/sh\ntrap 'echo CAUGHT' INT\ncat >/dev/null\necho UP\nread x </dev/tty\nread x </dev/tty\n",
    )
    (project.root / "stays").chmod(0o755)
    words = ("-m", "tensortime", "log", "-n", "30")
    child = spawn(*words, cwd=project.root, variables={"TENSORTIME_PAGER": f"{project.root}/stays"})
    child.expect("UP")
    time.sleep(0.3)
    child.sendintr()
    child.expect("CAUGHT")
    child.sendline("")
    child.sendline("")
    child.expect(pexpect.EOF)
    child.close()
    assert "Traceback" not in (child.before or "")
    assert child.exitstatus == 0


def test_which_pager() -> None:
    """TENSORTIME_PAGER, else PAGER, each also to switch it off, else less."""
    assert pager_words({}) == ["less"]
    assert pager_words({"PAGER": "more -d"}) == ["more", "-d"]
    assert pager_words({"PAGER": "more", "TENSORTIME_PAGER": "less -S"}) == ["less", "-S"]
    assert pager_words({"PAGER": "more", "TENSORTIME_PAGER": ""}) == []
    assert pager_words({"PAGER": "cat"}) == []

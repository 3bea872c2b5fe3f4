"""TAB in real bash, zsh and fish on a terminal: what the line is after it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import Tree
from shells import Shell

from tensortime import api
from tensortime.completion import SHELLS

Typing = Callable[[str], str]
HOME = "\x01"
"""Ctrl-A: to the beginning of the line."""


@pytest.fixture(params=SHELLS)
def completed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Typing]:
    """Types keys in a shell of each kind; returns the words that the line has in the end."""
    tree = Tree(tmp_path / "p").file("train.py").file("data/train/a.txt").file("data/my file.txt")
    tree.file("data/big.bin", size=2 << 20).file("only-now/x")
    api.backup(directory=tree.root, name="base-one", note="it's $HOME")
    api.backup(directory=tree.root, name="学习-two")
    api.tag("base-one", ["best"], directory=tree.root)
    after = SHELLS[request.param][1] + "\n" + ("setopt zle\n" if request.param == "zsh" else "")
    after += "words() { printf '<%s>' \"$@\"; }\n" if request.param != "fish" else ""
    after += "function words; printf '<%s>' $argv; end\n" if request.param == "fish" else ""
    home = Tree(tmp_path / "home").root
    shell = Shell(request.param, home, tree.root, after=after, env={"LANG": "C.UTF-8"})

    def type_keys(keys: str) -> str:
        shown = shell.run(keys + HOME + "words ")
        return shown[shown.rindex("<tensortime>") :].replace(
            "/>", ">"
        )  # zsh takes the last / of a folder back

    yield type_keys
    shell.close()


def test_tab_completes(completed: Typing) -> None:
    """Verbs, options, experiments by their beginning or by the one that holds what is typed, paths, tags, values."""
    assert completed("tensortime sho\t") == "<tensortime><show>"
    assert completed("tensortime log --al\t") == "<tensortime><log><--all>"
    assert completed("tensortime -C . restore bas\t") == "<tensortime><-C><.><restore><base-one>"
    assert completed("tensortime show one\t") == "<tensortime><show><base-one>"
    assert completed("tensortime show 学\t") == "<tensortime><show><学习-two>"
    assert completed("tensortime show base-one:\t") == "<tensortime><show><base-one:1>"
    assert completed("tensortime show @ tr\t") == "<tensortime><show><@><train.py>"
    assert completed("tensortime show @ da\ttr\ta\t") == "<tensortime><show><@><data/train/a.txt>"
    assert completed("tensortime show @ data/bi\t") == "<tensortime><show><@><data/big.bin>"
    assert completed("tensortime restore --link=h\t") == "<tensortime><restore><--link=hardlink>"
    assert completed("tensortime tag base-one --remove b\t") == "<tensortime><tag><base-one><--remove><best>"


def test_tab_quotes(completed: Typing) -> None:
    """A path with a space stays one word, also where a quote is open already or a backslash was typed."""
    assert completed("tensortime show @ data/my\t") == "<tensortime><show><@><data/my file.txt>"
    assert completed("tensortime show @ data/my\\ f\t") == "<tensortime><show><@><data/my file.txt>"
    assert completed('tensortime show @ "data/my f\t') == "<tensortime><show><@><data/my file.txt>"


def test_files_are_left_to_the_shell(completed: Typing) -> None:
    """`-C`, `--store=` and DEST take folders, `--add` files; elsewhere the shell's files are not offered."""
    assert completed("tensortime log -C only\t") == "<tensortime><log><-C><only-now>"
    assert completed("tensortime log --store=only\t") == "<tensortime><log><--store=only-now>"
    assert completed("tensortime backup --add train\t") == "<tensortime><backup><--add><train.py>"
    assert completed("tensortime note @ train\t") == "<tensortime><note><@><train>"

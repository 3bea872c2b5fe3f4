"""What a person sees of a diff: the first lines, 80 and 200 columns, Chinese and hostile names, colours on a terminal."""

import os
import re
import sys
import unicodedata
from pathlib import Path

import pexpect
import pytest
from builders import Tree, noise, run_cli

import tensortime
from tensortime import api
from tensortime.differences import (
    Causes,
    CommandChange,
    DiffReport,
    Effects,
    FileChange,
    FileFacts,
    LeftOut,
    Side,
    ValueChange,
)
from tensortime.messages import ENGLISH
from tensortime.names import ExperimentName
from tensortime.render_diff import SHOWN, Style, diff_text

PACKAGE = str(Path(tensortime.__file__).parent.parent)
LARGE = (1 << 20) + 5
EVIL = "red\x1b[31m\x1b]0;owned\x07 back\b\r over\x9b2J bidi\u202e\u2066 del\x7f zero\u200b end"
SIDES = [Side(ExperimentName(name), 2, None, "", 0, "/p") for name in ("base", "wide")]
OLD, NEW = (
    FileFacts("file", 1000, 0o644, "git:" + "1" * 40),
    FileFacts("file", 1000, 0o644, "git:" + "2" * 40),
)


def page(
    causes: Causes | None = None, effects: Effects | None = None, width: int | None = 80, **others: object
) -> list[str]:
    """The lines of a report."""
    report = DiffReport(SIDES[0], SIDES[1], causes or Causes(), effects or Effects(), **others)  # type: ignore[arg-type]
    return diff_text(report, Style(ENGLISH, width))


def columns_of(text: str) -> int:
    """The cells that a terminal fills, counted without the code under test."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)


def on_terminal(*words: str, cwd: Path, columns: int = 80, **variables: str) -> str:
    """All that a command writes to a terminal so wide."""
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    child = pexpect.spawn(
        sys.executable,
        ["-m", "tensortime", *words],
        cwd=str(cwd),
        env={**env, "TERM": "xterm-256color", "PYTHONPATH": PACKAGE, **variables},
        encoding="utf-8",
        dimensions=(24, columns),
        timeout=60,
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return (child.before or "").replace("\r\n", "\n")


@pytest.fixture
def lab(tmp_path: Path) -> Tree:
    """A project with two experiments between which something of every sort of file changed."""
    tree = Tree(tmp_path / "lab").file("train.py", b"import x\n\tlr = 1\n").file("old.py", b"1\n2\n")
    tree.file("数据/训练集.bin", size=LARGE).file("data/table.csv", b"1,2\n").symlink("last", "data/one")
    tree.file("run.sh", b"#\n")
    api.backup(directory=tree.root, name="base", params={"lr": 0.1}, metrics={"acc": 0.5})
    tree.file("save/w.bin", size=LARGE)
    api.backup(directory=tree.root, name="base", add=["save"])
    tree.file("train.py", b"import x\n\tlr = 3\n\tmore()\n").file("new.py", b"1\n").file(
        f"{EVIL[:60]}.py", b"x\n"
    )
    os.rename(tree.root / "old.py", tree.root / "renamed.py")
    os.unlink(tree.root / "last")
    os.chmod(tree.root / "run.sh", 0o755)
    tree.symlink("last", "data/two").file("data/table.csv", b"1,23\n").file(
        "数据/训练集.bin", size=3 * LARGE
    ).file("😀.csv", b"1\n")
    api.backup(directory=tree.root, name="wide", params={"lr": 0.3}, metrics={"acc": 0.75})
    tree.file("save/w.bin", noise(b"other", LARGE))
    api.backup(directory=tree.root, name="wide", add=["save"])
    return tree


def test_the_page_as_a_whole(lab: Tree) -> None:
    """Causes first, each in its category with its name once, then effects; sizes, lines, modes, links, digests."""
    shown = run_cli("diff", "base", "wide", cwd=lab.root).stdout
    shown = re.sub(r"[0-9a-f]{8} -> [0-9a-f]{8}", "(digests)", shown)
    assert shown.splitlines()[:16] == [
        "base:2 -> wide:2",
        "CAUSES",
        "params       lr  0.1 -> 0.3",
        "code         last      link to data/one -> data/two",
        "             new.py    added, 1 line",
        "             red\\x1b[31m\\x1b]0;owned\\x07 back\\x08\\r over\\x9b2J bidi\\u202e\\u2066 del\\x7f zero\\u200b end.py  added, 1 line",
        "             old.py -> renamed.py  (renamed)",
        "             run.sh    mode 0644 -> 0755",
        "             train.py  +2 -1",
        "data         data/table.csv   4 B -> 5 B",
        "             数据/训练集.bin  1.0 MB -> 3.1 MB",
        "             😀.csv           added, 2 B",
        "",
        "EFFECTS",
        "metrics      acc  0.5 -> 0.75  (+0.25)",
        "outputs      save/w.bin  1.0 MB, (digests)",
    ]


@pytest.mark.parametrize("columns", [80, 40, 200])
def test_no_line_is_wider_than_the_terminal(lab: Tree, columns: int) -> None:
    """Chinese, emoji and escapes counted in cells, names aligned, and nothing that a terminal would obey."""
    shown = on_terminal("diff", "base", "wide", cwd=lab.root, columns=columns, NO_COLOR="1")
    assert [line for line in shown.splitlines() if columns_of(line) > columns] == []
    assert [char for char in shown if not char.isprintable() and char != "\n"] == []
    data = [line for line in shown.splitlines() if "MB -> 3.1 MB" in line or "added, 2 B" in line]
    assert len({columns_of(re.split(r"1\.0 MB|added", line)[0]) for line in data}) == (
        2 if columns == 40 else 1
    )


@pytest.mark.parametrize("verb", [("--patch",), ()])
def test_what_a_terminal_would_obey_is_shown_not_obeyed(tmp_path: Path, verb: tuple[str, ...]) -> None:
    """B06: names, lines, params, links and targets of hostile bytes come out as escapes, on a terminal and a pipe."""
    tree = (
        Tree(tmp_path / "p\x1b[2J").file("a.py", b"x\n").symlink("l", EVIL).file("b.py", b"\x1b[31mred\r\n")
    )
    api.backup(directory=tree.root, name="a", params={EVIL: EVIL}, metrics={"m": [EVIL]})
    os.unlink(tree.root / "l")
    tree.file("a.py", EVIL.encode() + b"\n").symlink("l", EVIL + "2").file(EVIL[:60], b"1").fifo(EVIL[:50])
    tree.file(b"\xff.py", b"\xff\n")
    os.rename(tree.root / "b.py", tree.root / "c\n.py")
    api.backup(directory=tree.root, name="b", params={EVIL: EVIL + "2"}, metrics={"m": [EVIL, 1]})
    for words in (("a", "b"), ("b", "a"), ("a",)):
        done = run_cli("diff", *words, *verb, cwd=tree.root)
        assert done.returncode == 0, done.stderr
        shown = on_terminal("diff", *words, *verb, cwd=tree.root, columns=80, NO_COLOR="1")
        for text in (done.stdout, done.stderr, shown):
            assert [char for char in text if not char.isprintable() and char != "\n"] == [], text
        assert "\\x1b]0;owned\\x07" in done.stdout
        assert "\\xff.py" in done.stdout
        if verb and words == ("a", "b"):
            assert "+\\xff\n" in done.stdout


def test_patch_shows_the_lines_with_tabs_as_spaces(lab: Tree) -> None:
    """Below the page, a file at a time, as git shows it."""
    shown = run_cli("diff", "base", "wide", "--patch", cwd=lab.root).stdout
    _, _, patch = shown.partition("\n\n--- train.py\n")
    assert (
        patch.splitlines()[:7]
        == [
            "+++ train.py",
            "@@ -1,2 +1,3 @@",
            " import x",
            "-        lr = 1",
            "+        lr = 3",
            "+        more()",
        ][:7]
        + patch.splitlines()[6:7]
    )
    assert "\n--- /dev/null\n+++ new.py\n@@ -0,0 +1 @@\n+1\n" in shown
    assert "old.py" not in shown.partition("EFFECTS")[2], "renamed, not a line of it changed"


def test_a_text_too_large_to_show(tmp_path: Path) -> None:
    """Its sizes in the page, one sentence in the patch."""
    tree = Tree(tmp_path / "p").file("long.txt", b"".join(b"%d\n" % (n % 7) for n in range(100_000)))
    api.backup(directory=tree.root, name="a")
    tree.file("long.txt", b"".join(b"%d\n" % (n % 5) for n in range(110_000)))
    lines = run_cli("diff", "a", "--patch", cwd=tree.root).stdout.splitlines()
    assert "code         long.txt  200 kB -> 220 kB" in lines
    assert lines[-3:] == ["--- long.txt", "+++ long.txt", "too large to show"]


# --- colours


def test_colours_only_where_a_person_sees_them(lab: Tree) -> None:
    """On a terminal; not through a pipe, with NO_COLOR, on a dumb terminal, or in --json. NO_COLOR= is no wish."""
    words = ("diff", "base", "wide", "--patch")
    shown = on_terminal(*words, cwd=lab.root)
    assert "\x1b[1mCAUSES\x1b[0m" in shown
    assert "\x1b[32m+2\x1b[0m \x1b[31m-1\x1b[0m" in shown
    assert "\x1b[32m+        lr = 3\x1b[0m" in shown
    assert "\x1b[36m@@ -1,2 +1,3 @@\x1b[0m" in shown
    assert "\x1b" in on_terminal(*words, cwd=lab.root, NO_COLOR="")
    plain = [
        on_terminal(*words, cwd=lab.root, NO_COLOR="1"),
        on_terminal(*words, cwd=lab.root, TERM="dumb"),
        on_terminal(*words, "--json", cwd=lab.root),
        run_cli(*words, cwd=lab.root).stdout,
    ]
    assert [text for text in plain if "\x1b" in text] == []
    assert re.sub(r"\x1b\[\d+m", "", shown) == plain[0]


# --- the small things, from reports


def test_no_difference() -> None:
    """Two words under the names."""
    assert page() == ["base:2 -> wide:2", "no difference"]


def test_effects_without_a_cause() -> None:
    """The same of everything, other results: that, too, is an answer."""
    lines = page(effects=Effects((ValueChange("acc", "changed", 1, 2),)))
    assert lines[1:] == ["CAUSES", "none that is known", "", "EFFECTS", "metrics      acc  1 -> 2  (+1)"]


def test_the_options_that_differ_stand_before_the_commands() -> None:
    """What to look at first, then all of it, quoted as a shell needs it."""
    options = (ValueChange("--amp", "removed", "", None), ValueChange("--lr", "changed", "1", "3"))
    change = CommandChange(("python", "a b.py", "--amp"), ("python", "a b.py"), options)
    assert page(Causes(command=change))[2:] == [
        "command      --amp  (set) -> (none)",
        "             --lr   1 -> 3",
        "             - python 'a b.py' --amp",
        "             + python 'a b.py'",
    ]


def test_long_lists_are_cut_on_a_terminal_and_whole_in_a_pipe() -> None:
    """Ten and how many more; one more is shown rather than counted."""
    files = tuple(FileChange(f"f{number:02}.py", "changed", OLD, NEW, None, 1, 2) for number in range(47))
    lines = page(Causes(code=files))
    assert len(lines) == 2 + SHOWN + 1
    assert lines[-1] == "             … and 37 more"
    assert len(page(Causes(code=files), width=None)) == 2 + 47
    assert len(page(Causes(code=files[: SHOWN + 1]))) == 2 + SHOWN + 1


def test_values_that_do_not_fit_beside_each_other_stand_below_each_other() -> None:
    """Both can be read, each on a line of its own."""
    change = ValueChange("python.executable", "changed", "/one/" + "x" * 40, "/two/" + "y" * 90)
    lines = page(Causes(environment=(change,)))[2:]
    assert lines[0] == "environment  python.executable  /one/" + "x" * 40
    assert re.fullmatch(r" {32}-> /two/y+…y+", lines[1])
    assert [len(line) <= 80 for line in lines] == [True, True]


def test_an_object_id_is_cut_where_one_stops_reading() -> None:
    """Twelve digits of a commit; everything else as it is."""
    change = ValueChange("git.head", "changed", "a" * 40, "b" * 40)
    assert page(Causes(environment=(change,)))[2] == f"environment  git.head  {'a' * 12} -> {'b' * 12}"


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        (0.12345678901234567, 0.2, "0.123457 -> 0.2"),
        (0.12345678, 0.12345679, "0.12345678 -> 0.12345679"),
        (1.0, 2, "1.0 -> 2"),
        (3e-4, 1e-3, "0.0003 -> 0.001"),
        (float("nan"), 0.1 + 0.2, "NaN -> 0.3"),
    ],
)
def test_numbers_in_as_many_digits_as_tell_them_apart(old: object, new: object, shown: str) -> None:
    """Six digits; all of them where six are the same."""
    assert page(Causes(params=(ValueChange("lr", "changed", old, new),)))[2] == f"params       lr  {shown}"


def test_what_was_not_compared_is_said() -> None:
    """What one side left out, and of what one side knows nothing, at the end."""
    lines = page(left_out=(LeftOut("data", "b", 12),), unknown=("command", "packages"))
    assert lines == [
        "base:2 -> wide:2",
        "no difference in what was compared",
        "",
        "not compared: data (12 files), it is left out of wide:2",
        "not known of both, so not compared: command, packages",
    ]


def test_names_too_long_for_one_line() -> None:
    """The two states below each other, cut in the middle, so that the ends can be read."""
    sides = [
        Side(ExperimentName("2026-01-01-" + letter * 150 + "-end"), 1, None, "", 0, "/p") for letter in "ab"
    ]
    lines = diff_text(DiffReport(sides[0], sides[1], Causes(), Effects()), Style(ENGLISH, 80))
    assert [columns_of(line) for line in lines[:2]] == [80, 80]
    assert lines[1].startswith("-> 2026-01-01-bb")
    assert lines[1].endswith("bb-end:1")

"""What a person sees on a terminal: the table of log, progress, no control characters; and output nobody reads."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders import Tree, run_cli
from terminals import columns_of, on_terminal

from tensortime import api
from tensortime.monitor import NullMonitor

NOTES = [
    ("plain", "a note"),
    (
        "学习率-三乘以十的负四次方-批量大小三十二",
        "这是一个很长的中文笔记，它比终端的宽度还要长得多，所以必须被截断，不能换行",
    ),
    ("x" * 190, "ends " + "y" * 200),
    ("emoji-😀", "😀" * 60),
    ("accents", "e\u0301" * 90 + " é"),
    ("korean", "한국어 노트와 ｆｕｌｌ ｗｉｄｔｈ"),
]
EVIL = "red \x1b[31m title \x1b]0;owned\x07 back\b\b\r over \x9b2J bidi \u202e \u2066 bell \x07 del \x7f zero\u200bwidth end"
QUICK = "from tensortime import terminal, __main__; terminal.PATIENCE = terminal.PAUSE = 0.0; __main__.main()"
"""Shows progress from the first moment: a step of more than a second would cost every run of the tests a second."""


@pytest.fixture
def noted(tmp_path: Path) -> Tree:
    """A project with experiments of awkward names and notes."""
    tree = Tree(tmp_path / "p").file("train.py", b"1")
    for name, note in NOTES:
        api.backup(directory=tree.root, name=name, note=note)
    return tree


@pytest.mark.parametrize("columns", [80, 40, 132])
def test_the_table_of_log_fits_and_is_aligned(noted: Tree, columns: int) -> None:
    """Chinese, emoji, accents, 190 letters: no line is wider than the terminal, and every column begins at one cell."""
    lines = on_terminal("-m", "tensortime", "log", cwd=noted.root, columns=columns).splitlines()
    assert len(lines) == 1 + len(NOTES)
    assert [columns_of(line) for line in lines if columns_of(line) > columns] == []
    assert "\x1b" not in "".join(lines)
    header = lines[0]
    middle = ["WHEN", "FILES", "SIZE"] if columns >= 80 else ["WHEN"]
    assert header.split() == ["EXPERIMENT", *middle, "NOTE"]
    when, note = header.index("WHEN"), header.index("NOTE")
    for line in lines[1:]:
        assert columns_of(line.partition("just now")[0]) == when
        before_note = " 1 B  " if "SIZE" in middle else "just now  "
        assert columns_of(line.partition(before_note)[0] + before_note) == note
    for name, text in NOTES:
        start = name[:3]
        assert any(line.startswith(start) for line in lines), name
        assert any(text[:1] in line for line in lines)


def test_log_shows_twenty_and_how_many_more(noted: Tree) -> None:
    """Twenty on a terminal, -n for others, and the last line says how to see all."""
    for _ in range(16):
        api.backup(directory=noted.root, name="again")
    lines = on_terminal("-m", "tensortime", "log", cwd=noted.root).splitlines()
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "… and 2 more: -n 22 shows all"
    assert len(on_terminal("-m", "tensortime", "log", "-n", "22", cwd=noted.root).splitlines()) == 1 + 22
    assert len(run_cli("log", cwd=noted.root).stdout.splitlines()) == 22


def test_b06_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    """B06, S01: ESC, C1, bidi, BEL, CR in notes, paths, project and patterns are shown as escapes by every verb."""
    tree = (
        Tree(tmp_path / "p\x1b[31m\u202e")
        .file("train.py")
        .file("evil\x1b]0;x\x07\n.py")
        .fifo("pipe\x1b[2J\r")
    )
    tree.folder("out\u202e/__pycache__").file("out\u202e/x")
    backup = ("backup", "--note", EVIL, "--name", "x", "--ignore", "out*")
    done = run_cli(*backup, cwd=tree.root)
    assert done.returncode == 3
    said = [done.stdout, done.stderr]
    for words in (
        ("log",),
        ("show", "x"),
        ("restore", "x"),
        ("restore", "x"),
        ("show", "\x1b[2Jx"),
        ("show", "x", "\x1b"),
    ):
        done = run_cli(*words, cwd=tree.root)
        said += [done.stdout, done.stderr]
    said.append(on_terminal("-m", "tensortime", "log", cwd=tree.root, columns=400))
    for text in said:
        raw = [char for char in text if not char.isprintable() and char not in "\n\t"]
        assert raw == [], text
    assert "\\x1b[31m title" in "".join(said)
    assert api.show("x", directory=tree.root).experiment.note == EVIL, "the note itself is kept verbatim"


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_progress_on_a_terminal(tmp_path: Path, variables: dict[str, str]) -> None:
    """A slow step draws one line over and over: a bar, size, rate, time left; it is gone at the end. Never a colour."""
    tree = Tree(tmp_path / "p").file("train.py").file("data.bin", size=6 << 20)
    shown = on_terminal("-c", QUICK, "backup", "--name", "x", cwd=tree.root, variables=variables)
    drawn = re.findall(
        r"\rtensortime: storing \[[# ]{10,20}\] +\d+% of 6\.3 MB, [\d.]+ .B/s, .*? left\x1b\[K", shown
    )
    assert drawn
    assert all(columns_of(line) - 4 < 80 for line in drawn)
    assert re.search(r"\r\x1b\[Kbacked up x: 2 files, 6\.3 MB", shown)
    assert "\x1b" not in shown.replace("\x1b[K", "")
    shown = on_terminal("-c", QUICK, "restore", "x", cwd=tree.root, variables=variables)
    assert re.search(r"\rtensortime: restoring \[", shown)
    assert re.search(r"\r\x1b\[Krestored x: 2 files", shown)


def test_no_progress_where_nobody_watches(tmp_path: Path) -> None:
    """Into a file or pipe, or on a dumb terminal: no bar, no escape, nothing on stderr but the first line."""
    tree = Tree(tmp_path / "p").file("data.bin", size=6 << 20)
    command = [sys.executable, "-c", QUICK, "backup", "--json"]
    done = subprocess.run(command, cwd=tree.root, capture_output=True, text=True, check=True)
    assert done.stderr == f"tensortime: project {tree.root}, store tensortime\n"
    tree.file("more.bin", size=6 << 20)
    shown = on_terminal("-c", QUICK, "backup", cwd=tree.root, variables={"TERM": "dumb"})
    assert "storing" not in shown
    assert "\x1b" not in shown


def test_a_quick_backup_shows_no_progress(tmp_path: Path) -> None:
    """What takes less than a second is not worth a bar."""
    tree = Tree(tmp_path / "p").file("train.py")
    assert "[" not in on_terminal("-m", "tensortime", "backup", "--name", "x", cwd=tree.root)


# --- E08: nobody reads


def test_e08_the_reader_goes_away(noted: Tree) -> None:
    """E08: `log | head -1`, `show EXP FILE | head -c 1`: quiet, exit 0 or 141, for much output, too."""
    noted.file("big.bin", size=3 << 20)
    api.backup(directory=noted.root, name="last", note="n" * 200_000)
    for words in ("log", "log --json", "show last", "show last big.bin"):
        script = f'"$0" -m tensortime {words} | head -c 1 >/dev/null; echo "${{PIPESTATUS[0]}}"'
        done = subprocess.run(
            ["bash", "-c", script, sys.executable], cwd=noted.root, capture_output=True, text=True, check=True
        )
        assert done.stdout in ("0\n", "141\n"), words
        assert done.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">&- 2>&- <&-"])
def test_e08_closed_streams(noted: Tree, closed: str) -> None:
    """E08: with stdout or stderr closed a backup is still made, exit 0, and nothing of ours lands in a wrong file."""
    script = f'"$0" -m tensortime backup --name quiet {closed}'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable], cwd=noted.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    report = api.restore("quiet", noted.root.parent / "back", directory=noted.root)
    assert (noted.root.parent / "back/train.py").read_bytes() == b"1"
    assert report.files == 1


def test_e08_a_full_disk_behind_stdout(noted: Tree) -> None:
    """`log > file` on a full disk is an error in one line, not silence and not a traceback."""
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "tensortime", "log"]
        done = subprocess.run(
            command, cwd=noted.root, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "report it" not in done.stderr


@pytest.mark.parametrize("locale", ["C", "xx_XX", "en_US.ISO-8859-1"])
def test_e06_a_locale_that_knows_no_chinese(noted: Tree, locale: str) -> None:
    """E06: LANG=C, a broken locale, ASCII output: what cannot be written is escaped, --json is whole."""
    env = {
        "LANG": locale,
        "LC_ALL": locale,
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "ascii",
        "PYTHONCOERCECLOCALE": "0",
    }
    done = run_cli("log", cwd=noted.root, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u5b66\\u4e60" in done.stdout
    assert run_cli("show", "emoji", "--json", cwd=noted.root, env=env).returncode == 0


def test_each_step_of_a_backup_is_announced(tmp_path: Path) -> None:
    """A walk that takes long shows a word, too, not a number alone."""
    begun: list[str] = []

    class Steps(NullMonitor):
        def begin(self, step: str, files: int, size: int) -> None:
            begun.append(step)

    api.backup(directory=Tree(tmp_path / "project").file("train.py", b"1").root, monitor=Steps())
    assert begun == ["scan", "store"]

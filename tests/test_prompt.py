"""The question for a note: asked of a person, in their language; answered, or given up after a silence. E07, E10."""

import os
import shutil
import sys
from pathlib import Path

import pexpect
import pytest
from builders import Tree
from terminals import PACKAGE, spawn

from tensortime import api

ASK = b"""\
import sys, termios
from tensortime import TimeMachine, time_machine
time_machine.PROMPT_SECONDS = float(sys.argv[1])
before = termios.tcgetattr(0)
try:
    machine = TimeMachine()
finally:
    print("the terminal is as it was:", termios.tcgetattr(0) == before, flush=True)
print("note", ascii(machine.note), flush=True)
if len(sys.argv) > 2:
    print("the program reads", ascii(input("its own question: ")), flush=True)
machine.backup()
"""
CHINESE, ENGLISH = {"TENSORTIME_LANG": "zh"}, {"TENSORTIME_LANG": "en"}


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project whose script asks."""
    return Tree(tmp_path / "digits").file("ask.py", ASK)


def ask(project: Tree, language: dict[str, str], *more: str, seconds: float = 60) -> "pexpect.spawn[str]":
    """Start the script, up to its question."""
    child = spawn("ask.py", str(seconds), *more, cwd=project.root, variables=language)
    question = "输入实验备注 " if language is CHINESE else "note for this experiment (Enter: none) "
    child.expect_exact(f">> tensortime: {question}")
    return child


def answer(child: "pexpect.spawn[str]", keys: str) -> str:
    """Press keys; returns the note that the script got."""
    child.send(keys)
    child.expect(r"the terminal is as it was: (\w+)\r\nnote ([^\r]*)\r\n")
    assert child.match is not None
    was, note = child.match.groups()
    assert was == "True"
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return str(eval(note))  # what ascii() wrote


@pytest.mark.parametrize("language", [ENGLISH, CHINESE], ids=["en", "zh"])
@pytest.mark.parametrize(
    ("keys", "note"),
    [
        ("lr 3e-4\r", "lr 3e-4"),
        ("\r", ""),
        ("\x04", ""),
        ("学习率\r", "学习率"),
        ("学习率\x7f\x7f习\r", "学习"),
        ("one two three\x17\x17four\r", "one four"),
        ("wrong\x15right\r", "right"),
        ("a\x1b[Db\x1bOA\x1b[3~c\r", "abc"),
        ("e\u0301\u0301x\x7f\x7fé\r", "é"),
        ("\x7f\x7fafter nothing\r", "after nothing"),
        ("tab\tand bell\x07\r", "taband bell"),
    ],
)
def test_what_is_typed_is_the_note(project: Tree, language: dict[str, str], keys: str, note: str) -> None:
    """Letters of any language, erased by character, word and line; arrow keys and control characters do nothing."""
    assert answer(ask(project, language), keys) == note
    assert api.show("@", directory=project.root).experiment.note == note


def test_what_is_typed_is_shown_and_erased_by_cells(project: Tree) -> None:
    """A Chinese character takes two cells of the terminal, and both are erased."""
    child = ask(project, CHINESE)
    child.send("学")
    child.expect_exact("学")
    child.send("\x7f")
    child.expect_exact("\b\b  \b\b")
    assert answer(child, "\r") == ""


@pytest.mark.parametrize("language", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_after_a_silence_training_goes_on_without_a_note(project: Tree, language: dict[str, str]) -> None:
    """Nobody is there: it says so, names the command that adds a note, and backs up."""
    child = ask(project, language, seconds=0.3)
    child.expect_exact("tensortime note @ ")
    assert answer(child, "") == ""
    assert len(api.log(directory=project.root).experiments) == 1


def test_each_key_begins_the_silence_anew(project: Tree) -> None:
    """Who types slowly is not cut off; who leaves in the middle of a word has typed that much of a note."""
    child = ask(project, ENGLISH, seconds=1.0)
    for key in "slow":
        child.send(key)
        child.expect_exact(key)
        with pytest.raises(pexpect.TIMEOUT):
            child.expect_exact("never", timeout=0.4)
    assert answer(child, "") == "slow"


def test_what_follows_the_line_is_the_programs(project: Tree) -> None:
    """A person who pastes two lines answers two questions: nothing behind the first line is swallowed."""
    child = ask(project, ENGLISH, "reads")
    child.send("first\rsecond\r")
    child.expect_exact("note 'first'")
    child.expect_exact("the program reads 'second'")
    child.expect(pexpect.EOF)


def test_ctrl_c_puts_the_terminal_back(project: Tree) -> None:
    """K08: an interrupt ends the script, and the shell behind it has its terminal again."""
    child = ask(project, ENGLISH)
    child.send("half a no")
    child.sendintr()
    child.expect_exact("the terminal is as it was: True")
    child.expect_exact("KeyboardInterrupt")
    child.expect(pexpect.EOF)
    assert not (project.root / "tensortime").exists()


SLOW = b"import time; print('starting', flush=True); time.sleep(0.5)\n"


def test_what_was_begun_before_the_question_is_its_answer(project: Tree) -> None:
    """Type-ahead is not lost while Python starts."""
    project.file("slow.py", SLOW + ASK)
    child = spawn("slow.py", "60", cwd=project.root, variables=ENGLISH)
    child.expect_exact("starting")
    child.send("ear")
    child.expect_exact("(Enter: none) ")
    child.send("ly\r")
    child.expect_exact("note 'early'")
    child.expect(pexpect.EOF)


def test_a_line_that_waits_already_is_the_programs(project: Tree) -> None:
    """Who pastes `python a.py` and `python b.py` into a shell means the second as a command, not as a note."""
    project.file("slow.py", SLOW + ASK)
    child = spawn("slow.py", "60", "reads", cwd=project.root, variables=ENGLISH)
    child.expect_exact("starting")
    child.send("python b.py\r")
    child.expect_exact("note ''")
    assert "note for this experiment" not in (child.before or "")
    child.expect_exact("the program reads 'python b.py'")
    child.expect(pexpect.EOF)


def test_a_job_that_is_sent_to_the_background_trains_on(project: Tree) -> None:
    """Ctrl-Z and `bg` at the question: nobody can answer, and setting the terminal's modes would stop the job."""
    shell = shutil.which("bash")
    assert shell
    env = {
        **os.environ,
        **ENGLISH,
        "TERM": "xterm",
        "PYTHONPATH": PACKAGE,
        "PS1": "$ ",
        "HISTFILE": os.devnull,
    }
    env.pop("CI", None)
    child = pexpect.spawn(
        shell, ["--norc", "--noprofile", "-i"], cwd=str(project.root), env=env, encoding="utf-8", timeout=30
    )
    child.sendline(f"{sys.executable} ask.py 60")
    child.expect_exact("(Enter: none) ")
    child.send("\x1a")
    child.expect("Stopped")
    child.sendline("bg; wait %1; echo ended-$?; jobs; echo listed")
    child.expect("ended-0")
    child.expect(r"listed\r\n")
    assert "Stopped" not in (child.before or "")
    child.sendline("exit")
    child.close(force=True)
    assert len(api.log(directory=project.root).experiments) == 1


@pytest.mark.parametrize(
    "stderr", ["None", "io.StringIO()", "type('Tee', (), {'write': lambda self, text: None})()", "object()"]
)
def test_a_stderr_that_is_no_stream_costs_the_question_not_the_training(project: Tree, stderr: str) -> None:
    """A logger in the place of stderr, or nothing: TimeMachine() never raises for the sake of a note."""
    project.file("odd.py", f"import io, sys\nsys.stderr = {stderr}\n".encode() + ASK)
    child = spawn("odd.py", "0.3", cwd=project.root, variables=ENGLISH)
    child.expect_exact("note ''")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus in (0, 120), "120: Python itself cannot flush it at its end"
    assert len(api.log(directory=project.root).experiments) == 1


@pytest.mark.parametrize("variables", [{"CI": "true"}, {"RANK": "1"}, {"TENSORTIME": "off"}])
def test_where_nobody_can_answer_nobody_is_asked(project: Tree, variables: dict[str, str]) -> None:
    """CI, another rank, switched off: not even on a terminal."""
    child = spawn("ask.py", "60", cwd=project.root, variables={**CHINESE, **variables})
    child.expect_exact("note ''")
    assert "输入" not in (child.before or "")
    child.expect(pexpect.EOF)


def test_in_a_notebook_nobody_is_asked(project: Tree) -> None:
    """E07: where a kernel is loaded, `input()` would stop "Run all" with a box."""
    project.file("ipykernel.py").file("kernel.py", b"import ipykernel\n" + ASK)
    child = spawn("kernel.py", "60", cwd=project.root, variables=ENGLISH)
    child.expect_exact("note ''")
    assert "note for" not in (child.before or "")
    child.expect(pexpect.EOF)

"""One command on a real terminal, run as if it were bare: what it draws, what it is told, what is typed."""

import contextlib
import os
import shlex
import signal
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from running import BARE, RUN, command_line, ending_in, log_in, python, variables

BAR = """
import os, sys, time
size = os.get_terminal_size()
write = sys.stdout.write
write("\\x1b[?1049h\\x1b[?25l\\x1b[2J")
for step in range(40):
    width = size.columns - 20
    done = "█" * (width * step // 39)
    write(f"\\x1b[{size.lines // 2};1H\\x1b[32m{done:<{width}}\\x1b[0m {step / 39:4.0%}")
    write(f"\\x1b[{size.lines};1Hloss {1 / (step + 1):.4f}\\x1b[K\\rstep {step}\\x1b[1A\\x1b[2C^\\n\\ttab\\x07")
    sys.stdout.flush()
write("\\x1b[?25h\\x1b[?1049l")
for step in range(30):
    print(f"\\r{step:3}/30 it/s", end="", file=sys.stderr)
print("\\ndone")
"""
"""A progress bar over the full screen, on the other screen, and one in one line: what tqdm and rich do."""

ANSWERS = """
import os, sys, termios
for fd in (0, 1, 2):
    print(fd, os.isatty(fd), file=sys.stderr)
    if os.isatty(fd):
        modes = termios.tcgetattr(fd)
        print(os.get_terminal_size(fd), modes[0], modes[2:4], file=sys.stderr)
if not all(map(os.isatty, (0, 1, 2))): modes[1] = "who makes the line ends"
print(os.isatty(0) and (os.tcgetpgrp(0) == os.getpgrp(), modes), file=sys.stderr)
with open("/dev/tty") as tty: print(os.get_terminal_size(tty.fileno()), file=sys.stderr)
"""


def spawn(way: str, words: list[str], folder: Path, **options: Any) -> "pexpect.spawn[bytes]":
    """A command on a terminal of 31 lines and 97 columns."""
    first, *rest = command_line(way, words, folder)
    given = {"dimensions": (31, 97), "timeout": 30, "cwd": str(folder), "env": variables({"TERM": "xterm"})}
    return pexpect.spawn(first, rest, **{**given, **options})


def seen(way: str, words: list[str], folder: Path) -> tuple[bytes, int | None, int | None]:
    """All that a terminal gets of a command, and how that ended."""
    child = spawn(way, words, folder)
    child.expect(pexpect.EOF)
    child.close()
    return child.before, child.exitstatus, child.signalstatus


def redirected(line: str) -> list[str]:
    """A command of which the shell redirects something."""
    return ["sh", "-c", line]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator["pexpect.spawn[str]"]:
    """A shell with job control."""
    child = pexpect.spawn(
        "bash",
        ["--norc", "--noprofile", "-i"],
        cwd=str(tmp_path),
        env={**variables(), "PS1": "READY ", "TERM": "dumb", "HISTFILE": "/dev/null"},
        encoding="utf-8",
        dimensions=(31, 200),
        timeout=30,
        echo=False,
    )
    child.expect("READY ")
    yield child
    child.close(force=True)


def line_for(words: list[str], folder: Path) -> str:
    """What a person types to run it."""
    return shlex.join(command_line(RUN, words, folder))


def test_a_full_screen_progress_bar(tmp_path: Path) -> None:
    """The terminal gets the same bytes as from the bare command, and the log has them."""
    bare, run = (seen(way, python(BAR), tmp_path) for way in (BARE, RUN))
    assert run == bare
    assert len(bare[0]) > 5000
    assert log_in(tmp_path) == bare[0]


@pytest.mark.parametrize("redirection", ["", "</dev/null", ">/dev/null", "2>&1 >/dev/null", "2>&1 | cat"])
def test_it_finds_the_terminal_that_it_would_find(redirection: str, tmp_path: Path) -> None:
    """Which streams are terminals, their sizes and modes, whose the keyboard is, what /dev/tty is."""
    shown = []
    for way in (BARE, RUN):
        line = shlex.join(command_line(way, python(ANSWERS), tmp_path))
        shown.append(seen(BARE, redirected(f"{line} {redirection}"), tmp_path))
    assert shown[0] == shown[1]
    assert b"columns=97, lines=31" in shown[0][0]
    assert shown[0][1] == 0


ASKING = """
import getpass, sys
print("Log in to the hub")
print("Name: ", end="", flush=True)
name = input()
word = getpass.getpass("Password: ")
print(f"<{name}> <{word[::-1]}>")
print(sys.stdin.read())
"""


@pytest.mark.parametrize("redirection", ["", "2>/dev/null"])
def test_it_asks_and_is_answered(redirection: str, tmp_path: Path) -> None:
    """input() edits a line, getpass() shows nothing, Ctrl-D is the end of the input."""
    for way in (BARE, RUN):
        line = shlex.join(command_line(way, python(ASKING), tmp_path))
        child = spawn(BARE, redirected(f"{line} {redirection}"), tmp_path)
        child.expect("Log in to the hub\r\n")
        child.expect("Name: ")
        child.send("adx\x7fa\r")
        child.expect("Password: ")
        child.send("geheim\r")
        child.expect("<(.*)> <mieheg>")
        assert child.match.group(1) == b"ada"
        assert b"geheim" not in child.before
        child.send("more\r\x04")
        child.expect("more\r\nmore\r\n")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
    assert b"geheim" not in log_in(tmp_path)


COUNTING = """
import signal, sys, time
got = []
def hear(number, _): got.append(signal.Signals(number).name)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT): signal.signal(number, hear)
print("up", file=sys.stderr, flush=True)
while not got: time.sleep(0.01)
time.sleep(0.2)
print(*got, file=sys.stderr, flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize("redirection", ["", ">/dev/null", "</dev/null"])
def test_ctrl_c_comes_once(redirection: str, tmp_path: Path) -> None:
    """The key is one SIGINT for the command, whichever of its streams are the terminal; we wait for it."""
    line = f"exec {line_for(python(COUNTING), tmp_path)} {redirection}"
    child = spawn(BARE, redirected(line), tmp_path)
    child.expect("up\r\n")
    child.send("\x03")
    child.expect(r"(\^C)?(SIGINT.*)\r\n")
    assert child.match.group(2) == b"SIGINT"
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 7
    assert ending_in(tmp_path)["interrupted"] == "SIGINT"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"])
def test_the_terminal_is_put_back(name: str, tmp_path: Path) -> None:
    """Also when we are told to stop: the command gets the signal, and the terminal its modes."""
    child = spawn(RUN, python(COUNTING), tmp_path)
    before = termios.tcgetattr(child.child_fd)
    child.expect("up\r\n")
    assert termios.tcgetattr(child.child_fd) != before
    child.kill(signal.Signals[name])
    child.expect(f"{name}\r\n")
    with contextlib.suppress(OSError):
        while os.read(child.child_fd, 1):
            pass
    assert termios.tcgetattr(child.child_fd) == before
    child.close()
    assert child.exitstatus == 7


def test_the_terminal_is_put_back_after_a_failure_of_ours(tmp_path: Path) -> None:
    """Whatever goes wrong between the command and us."""
    script = "import os, sys\nfrom tensortime import child, outputlog\n"
    script += "class Log(outputlog.OutputLog):\n  def write(self, *_): raise MemoryError\n"
    script += (
        "child.run_command(['sh', '-c', 'echo x; sleep 1'], folder='.', environment=os.environ, log=Log('l'))"
    )
    terminal = spawn(BARE, python(script), tmp_path)
    before = termios.tcgetattr(terminal.child_fd)
    terminal.expect("MemoryError")
    terminal.expect(pexpect.EOF)
    assert termios.tcgetattr(terminal.child_fd) == before
    terminal.close()


RESIZED = """
import os, signal, sys, time
sizes = []
signal.signal(signal.SIGWINCH, lambda *_: sizes.append(tuple(os.get_terminal_size(2))))
print("up", file=sys.stderr, flush=True)
while (50, 20) not in sizes: time.sleep(0.01)
print("seen", file=sys.stderr)
"""


@pytest.mark.parametrize("redirection", ["", ">/dev/null"])
def test_the_window_changes_its_size(redirection: str, tmp_path: Path) -> None:
    """The command is told, and finds the new size."""
    child = spawn(BARE, redirected(f"exec {line_for(python(RESIZED), tmp_path)} {redirection}"), tmp_path)
    child.expect("up\r\n")
    child.setwinsize(20, 50)
    child.expect("seen")
    child.expect(pexpect.EOF)


SAVING = COUNTING.replace(
    "sys.exit", "time.sleep(0.2)\nprint('saved', file=sys.stderr, flush=True)\nsys.exit"
)


def test_the_window_is_closed(tmp_path: Path) -> None:
    """The command gets SIGHUP, and whatever it says then is kept."""
    child = spawn(RUN, python(SAVING), tmp_path)
    child.expect("up\r\n")
    os.close(child.child_fd)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child.pid, 0)
    child.child_fd, child.closed, child.terminated = -1, True, True
    assert ending_in(tmp_path)["exit_code"] == 7
    assert log_in(tmp_path).split() == [b"up", b"SIGHUP", b"saved"]


CURSES = """
import curses
def main(screen):
    curses.curs_set(0)
    screen.addstr(3, 4, "loss", curses.A_BOLD)
    screen.refresh()
    key = screen.getkey()
    screen.addstr(5, 4, f"key {key}")
    screen.refresh()
    screen.getkey()
curses.wrapper(main)
print("left")
"""


def test_a_program_that_rules_the_screen(tmp_path: Path) -> None:
    """curses: keys come one by one without echo, and the screen gets the same bytes."""
    shown = []
    for way in (BARE, RUN):
        child = spawn(way, python(CURSES), tmp_path)
        child.expect("loss")
        parts = child.before
        child.send("k")
        child.expect("key k")
        parts += child.before
        child.send("q")
        child.expect(pexpect.EOF)
        shown.append(parts + child.before)
    assert shown[0] == shown[1]


def test_who_is_left_behind_lives_on(tmp_path: Path) -> None:
    """What the command leaves in the background gets no SIGHUP when it ends, as under a shell."""
    script = (
        "(trap 'echo HUP >> heard' HUP; touch up; i=0; while [ $i -lt 20 ]; do sleep 0.05; i=$((i+1)); done; "
    )
    script += "echo end >> heard) & while ! [ -e up ]; do sleep 0.01; done; echo started"
    shown = seen(RUN, ["sh", "-c", script], tmp_path)
    assert shown[:2] == (b"started\r\n", 0)
    for _ in range(500):
        if (tmp_path / "heard").exists() and (tmp_path / "heard").read_text():  # it is made, then written
            break
        time.sleep(0.05)
    assert (tmp_path / "heard").read_text() == "end\n"


STOPPABLE = """
import os, time
print("up", flush=True)
for i in range(1000):
    if os.path.exists("go"): break
    time.sleep(0.02)
print("went on", input(), flush=True)
"""


def test_ctrl_z_and_fg(tmp_path: Path, shell: "pexpect.spawn[str]") -> None:
    """The shell gets its terminal back; in the background the command goes on, in the foreground it can ask."""
    shell.sendline(line_for(python(STOPPABLE), tmp_path))
    shell.expect("up\r\n")
    shell.send("\x1a")
    shell.expect("Stopped")
    shell.expect("READY ")
    shell.sendline("echo $((6*7)); stty -a | grep -o ' icanon'")
    shell.expect("42\r\n icanon")
    shell.expect("READY ")
    shell.sendline("bg")
    shell.expect("READY ")
    shell.sendline("touch go; jobs; echo now")
    shell.expect("Running")
    shell.expect("now\r\n")
    shell.expect("READY ")
    shell.sendline("fg")
    shell.expect("running.py")
    shell.sendline("answer")
    shell.expect("went on answer")
    shell.expect("READY ")
    shell.sendline("echo code $?; stty -a | grep -o ' icanon'")
    shell.expect("code 0\r\n icanon")


def test_started_in_the_background(tmp_path: Path, shell: "pexpect.spawn[str]") -> None:
    """It takes nothing of the terminal until it is brought to the foreground."""
    shell.sendline(line_for(python(STOPPABLE), tmp_path) + " &")
    shell.expect("up\r\n")
    shell.sendline("touch go; echo $((6*7))")
    shell.expect("42\r\n")
    shell.sendline("fg")
    shell.expect("running.py")
    shell.sendline("later")
    shell.expect("went on later")
    shell.expect("READY ")


def test_a_pager_behind_it_has_the_keyboard(tmp_path: Path, shell: "pexpect.spawn[str]") -> None:
    """`run … | less`: the keys are the pager's."""
    pager = "import sys; sys.stdin.read(); t = open('/dev/tty'); print('KEY', t.readline())"
    line = line_for(["sh", "-c", "echo data; echo error >&2"], tmp_path)
    shell.sendline(f"{line} | {shlex.join(python(pager))}")
    shell.expect("error\r\n")
    shell.sendline("quit")
    shell.expect("KEY quit")
    shell.expect("READY ")

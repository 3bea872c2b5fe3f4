"""One line from a person, who may have gone away: a small editor on the terminal that gives up after a silence.

`input()` would wait for ever, and the kernel's own line editing hands a line over only when it is complete, so that
nobody could tell a person who is typing from an empty chair. It also erases half of a Chinese character.
"""

import codecs
import contextlib
import os
import select
import termios
import time
from collections.abc import Iterator
from typing import TextIO

from tensortime.text import cells

ENTER, ERASE = "\r\n", "\x08\x7f"
END = "\x04\0"
"""Ctrl-D; what was pressed before the question is a NUL by now."""
ERASE_LINE, ERASE_WORD, ESCAPE = "\x15", "\x17", "\x1b"

SLICE_SECONDS = 0.2
"""Python sees a Ctrl-C that comes just before a wait only when the wait is over."""

SEQUENCE_SECONDS = 0.05
"""The rest of an arrow key follows its ESC within so long."""


def ask_line(fd: int, stream: TextIO, question: str, seconds: float) -> str | None:
    """What a person types on the terminal `fd` until Enter, or until `seconds` without a key; None if that is nothing.

    Not a byte behind the line is read: it is the program's. A line that waits already is too, or the next command of
    a person who pasted several: then nothing is asked. KeyboardInterrupt passes, the terminal is put back. OSError
    where it is no terminal any more.
    """
    typed = ""
    # Before keys come one by one, only a whole line makes a terminal readable.
    if select.select([fd], [], [], 0)[0]:
        return ""
    try:
        with by_key(fd):
            stream.write(question)
            stream.flush()
            for char in keys(fd, seconds):
                if char in ENTER or (char in END and not typed):
                    return typed.strip()
                typed = edited(typed, char, stream)
    finally:
        stream.write("\n")
        stream.flush()
    return typed.strip() or None


@contextlib.contextmanager
def by_key(fd: int) -> Iterator[None]:
    """Let the terminal hand over each key at once and show none by itself; Ctrl-C still interrupts."""
    before, changed = termios.tcgetattr(fd), termios.tcgetattr(fd)
    changed[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        # A job that was sent to the background meanwhile would be stopped for it; the shell has set its own modes.
        if is_foreground(fd):
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def is_foreground(fd: int) -> bool:
    """Whether this process is the one that the terminal `fd` belongs to now."""
    return os.tcgetpgrp(fd) == os.getpgrp()


def keys(fd: int, seconds: float) -> Iterator[str]:
    """The characters that are typed, without arrow and function keys; ends after a silence and at the end of input."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while is_ready(fd, seconds):
        data = os.read(fd, 1)
        if not data:
            return
        char = decoder.decode(data)
        if char == ESCAPE:
            skip_sequence(fd)
        elif char:
            yield char


def is_ready(fd: int, seconds: float) -> bool:
    """Whether a key comes within so long, and this process is in the foreground."""
    end = time.monotonic() + seconds
    while is_foreground(fd) and (left := end - time.monotonic()) > 0:
        if select.select([fd], [], [], min(left, SLICE_SECONDS))[0]:
            return True
    return False


def skip_sequence(fd: int) -> None:
    """Read the rest of an arrow or function key: ESC, `[` or `O`, parameters, one final character."""
    if not is_ready(fd, SEQUENCE_SECONDS) or os.read(fd, 1) not in (b"[", b"O"):
        return
    while is_ready(fd, SEQUENCE_SECONDS):
        if b"@" <= os.read(fd, 1) <= b"~":
            return


def edited(typed: str, char: str, stream: TextIO) -> str:
    """The line after one more key, which is shown."""
    if char in ERASE:
        kept = without_last(typed)
    elif char == ERASE_LINE:
        kept = ""
    elif char == ERASE_WORD:
        kept = typed[: typed.rstrip().rfind(" ") + 1]
    else:
        kept = typed + char if char.isprintable() else typed
    gone = cells(typed) - cells(kept)
    stream.write(kept[len(typed) :] if gone <= 0 else "\b" * gone + " " * gone + "\b" * gone)
    stream.flush()
    return kept


def without_last(typed: str) -> str:
    """The line without its last character and the accents upon it."""
    while typed and not cells(typed[-1]):
        typed = typed[:-1]
    return typed[:-1]

"""The person's pager, for what is longer than the terminal. The one place where a program of the person's is started
to show something."""

import contextlib
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import TextIO

from tensortime.terminal import is_terminal, terminal_width
from tensortime.text import cells

NAMES = ("TENSORTIME_PAGER", "PAGER")
NONE = ("", "cat")
USUAL = "less"
DEFAULTS = {"LESS": "FRX", "LESSCHARSET": "utf-8"}
"""Quit if it fits, colours, leave it on the screen; with LANG=C less takes Chinese for a binary file."""


def pager_words(environ: Mapping[str, str]) -> list[str]:
    """The command of the pager; empty where the person wants none."""
    typed = next((environ[name] for name in NAMES if name in environ), USUAL).strip()
    try:
        return [] if typed in NONE else shlex.split(typed)
    except ValueError:
        return []  # a quote that nothing closes


def show(lines: Sequence[str], stdout: TextIO | None, stdin: TextIO | None) -> bool:
    """Show lines in the pager; False where nobody watches, they fit on the terminal, or there is no pager."""
    if stdout is None or not (is_terminal(stdout) and is_terminal(stdin)):
        return False
    columns = max(1, terminal_width())
    rows = sum(max(1, -(-cells(line) // columns)) for line in lines)
    with contextlib.suppress(OSError, ValueError):
        if rows >= os.get_terminal_size(stdout.fileno()).lines:
            text = "".join(line + "\n" for line in lines)
            return page(text.encode(stdout.encoding or "utf-8", "backslashreplace"))
    return False


def page(text: bytes, environ: Mapping[str, str] = os.environ) -> bool:
    """Show a text in the pager until the person has seen it; False where there is none, or it cannot start."""
    words = pager_words(environ)
    if not words:
        return False
    try:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, env={**DEFAULTS, **environ})
    except (OSError, ValueError):
        return False
    # Who has seen enough quits, or presses Ctrl-C: neither is a failure. The terminal is the pager's until it ends.
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        process.stdin.write(text)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        process.stdin.close()
    while process.returncode is None:
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
    return True

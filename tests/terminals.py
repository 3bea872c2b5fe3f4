"""Programs on a terminal of their own, as a person sees them."""

import os
import sys
import unicodedata
from pathlib import Path

import pexpect

import tensortime

PACKAGE = str(Path(tensortime.__file__).parent.parent)


def spawn(
    *words: str, cwd: Path, columns: int = 80, variables: dict[str, str] | None = None
) -> "pexpect.spawn[str]":
    """Start Python with these arguments on a terminal so wide."""
    unset = ("COLUMNS", "LINES", "CI")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    return pexpect.spawn(
        sys.executable,
        list(words),
        cwd=str(cwd),
        env={
            **env,
            "TERM": "xterm-256color",
            "PYTHONPATH": PACKAGE,
            "TENSORTIME_PAGER": "",
            **(variables or {}),
        },
        encoding="utf-8",
        dimensions=(24, columns),
        timeout=60,
    )


def on_terminal(
    *words: str, cwd: Path, columns: int = 80, variables: dict[str, str] | None = None, code: int = 0
) -> str:
    """All that Python writes to a terminal so wide, as the terminal gets it; `code`: how it must end."""
    child = spawn(*words, cwd=cwd, columns=columns, variables=variables)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == code, child.before
    return (child.before or "").replace("\r\n", "\n")


def columns_of(text: str) -> int:
    """The cells that a terminal fills, counted without the code under test."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)

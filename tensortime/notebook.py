"""What a notebook ran: the cells as they were typed, and where the notebook lies.

The file on disk is what was saved last, not what ran. IPython is asked only where it is loaded already.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tensortime.formats import bytes_of
from tensortime.redaction import redact_code

PATH_NAMES = ("__vsc_ipynb_file__", "__session__")
"""Where VS Code and ipykernel tell a notebook its path; others know it from JPY_SESSION_NAME."""


def notebook_cells() -> tuple[dict[str, object] | None, bytes]:
    """The facts of a notebook (`path` where it is known, `cells`) and `cells.py`; None and nothing elsewhere."""
    try:
        shell: Any = sys.modules["IPython"].get_ipython()
        names: Mapping[str, Any] = shell.user_ns
        cells = typed_cells(shell)
        is_kernel = getattr(shell, "kernel", None) is not None
    except Exception:  # noqa: BLE001 - no IPython, or one that is only half there
        return None, b""
    if not cells and not is_kernel:
        return None, b""
    facts: dict[str, object] = {"cells": len(cells)}
    path = notebook_path(names)
    if path:
        facts["path"] = path
    return facts, encode_cells(cells)


def typed_cells(shell: Any) -> list[str]:
    """The cells as typed; `In`, where only that is left, has `%magic` and `!command` as calls of Python."""
    history = getattr(getattr(shell, "history_manager", None), "input_hist_raw", None)
    # Index 0 is empty: cells are numbered from 1.
    return [str(cell) for cell in (history or shell.user_ns["In"])[1:]]


def notebook_path(names: Mapping[str, Any]) -> str:
    """The notebook's file, as the program around it says; empty where nobody says."""
    told = [*(names.get(name) for name in PATH_NAMES), os.environ.get("JPY_SESSION_NAME")]
    return next((text for text in told if isinstance(text, str) and text), "")


def encode_cells(cells: Sequence[str]) -> bytes:
    """The cells in the order they ran, each under its number, without secrets."""
    lines: list[str] = []
    for number, cell in enumerate(cells, 1):
        lines += [f"# In[{number}]", redact_code(cell), ""]
    return bytes_of_any("\n".join(lines))


def bytes_of_any(text: str) -> bytes:
    """A text as UTF-8; half a character, which a cell may hold, as `?`."""
    try:
        return bytes_of(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def without_connection(argv: Sequence[str]) -> list[str]:
    """A kernel's command without its connection file: nobody typed that, and it holds the kernel's key."""
    safe: list[str] = []
    for position, word in enumerate(argv):
        follows = position > 0 and argv[position - 1] in ("-f", "--f")
        is_named = word.startswith(("-f=", "--f=")) and word.endswith(".json")
        if follows and word.endswith(".json"):
            safe.pop()
        elif not is_named:
            safe.append(word)
    return safe

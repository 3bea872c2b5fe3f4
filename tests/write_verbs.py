"""Writes `tensortime/verbs.py`: the verbs and options of the command line as a plain table.

    python tests/write_verbs.py

`tests/test_completion.py` says when that is due.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEAD = '''"""The verbs and options of the command line as a plain table: what typer would take too long to tell a waiting shell.

Made by `python tests/write_verbs.py` from `cli`; not edited by hand.
"""

from typing import NamedTuple


class Option(NamedTuple):
    """Its names, what stands for its value (None: it takes none), what it does, and whether it can be repeated."""

    names: tuple[str, ...]
    value: str | None
    help: str
    repeats: bool = False


class Verb(NamedTuple):
    """What it does, what stands for its arguments (`TAG...`: any number), how many it needs, and its options."""

    help: str
    arguments: tuple[str, ...]
    needed: int
    options: tuple[Option, ...]


VERBS: dict[str, Verb] = '''


Declared = tuple[str, tuple[str, ...], int, tuple[tuple[tuple[str, ...], str | None, str, bool], ...]]
"""The fields of a Verb, with those of its Options."""


def declared() -> dict[str, Declared]:
    """The verbs as typer knows them, in English; without what is hidden."""
    import typer

    from tensortime import cli

    group: Any = typer.main.get_command(cli.app)
    return {
        name: (
            verb.help,
            tuple(
                one.metavar.rstrip(".") + ("..." if one.nargs == -1 else "")
                for one in verb.params
                if one.param_type_name == "argument"
            ),
            sum(one.required for one in verb.params if one.param_type_name == "argument"),
            tuple(
                (tuple(one.opts), None if one.is_flag else one.metavar, one.help, one.multiple)
                for one in verb.params
                if one.param_type_name == "option" and not one.hidden
            ),
        )
        for name, verb in group.commands.items()
        if not verb.hidden
    }


def text() -> str:
    """The module."""
    lines = ["{"]
    for name, (what, arguments, needed, options) in declared().items():
        lines += [f"{name!r}: Verb({what!r}, {arguments!r}, {needed}, ("]
        for names, value, told, repeats in options:
            lines += [f"Option({names!r}, {value!r}, {told!r}{', True' if repeats else ''}),"]
        lines += [")),"]
    return HEAD + "\n".join([*lines, "}"]) + "\n"


if __name__ == "__main__":
    os.environ["TENSORTIME_LANG"] = "en"
    sys.path.insert(0, str(ROOT))
    (ROOT / "tensortime" / "verbs.py").write_text(text(), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--quiet", "tensortime/verbs.py"], cwd=ROOT, check=True
    )

"""What `--help` shows, in both languages: laid out by cells, so that Chinese lines fit too. Pure functions.

typer's own layout counts characters, and cannot break a line that has no spaces.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tensortime.messages import Translator
from tensortime.text import cells, pad

WIDEST_NAMES = 26
"""Cells of the left column; what is longer gets a line of its own."""

LONGEST_LINE = 100

WIDE = "\u2e80-\uffdc"
OPENING = "(\u201c\u300a\u300c\uff08"
CLOSING = ",:;!?)\u201d\u2026\u3001\u3002\u300b\u300d\uff01\uff09\uff0c\uff1a\uff1b\uff1f"
"""Marks that never end, or never begin, a line."""

PIECE = re.compile(rf"[{OPENING}]*(?:[{WIDE}]|[^\s{WIDE}]+)[{CLOSING}]*\s*|\s+")
"""What is not broken: a word, or one Chinese character, with the marks around it and the spaces behind it."""


EXAMPLES = {
    "backup": 'tensortime backup --note "lr 3e-4"',
    "log": "tensortime log --sort val_loss --filter 'lr < 0.1' -n 5",
    "run": 'tensortime run --note "lr 3e-4" -- python train.py --lr 3e-4',
    "rerun": "tensortime rerun @ --verify --rtol 1e-6",
    "show": "tensortime show @ train.py",
    "diff": "tensortime diff @~1 @ --patch",
    "restore": "tensortime restore @~1 --path train.py",
    "export": "tensortime export @ baseline.zip",
    "import": "tensortime import baseline.zip",
    "note": 'tensortime note @ "lr 3e-4, warmup 500"',
    "tag": "tensortime tag @ paper keep",
    "config": "tensortime config --json",
    "du": "tensortime du --paths -n 5",
    "rm": "tensortime rm --keep-last 10 --dry-run",
    "undelete": "tensortime undelete baseline",
    "hook": "tensortime hook fish | source",
    "completion": "tensortime completion fish | source",
    "verify": "tensortime verify --read-data=5%",
    "gc": "tensortime gc --dry-run",
    "purge": "tensortime purge .env data/private --dry-run",
    "doctor": "tensortime doctor -C ~/project",
}
"""What teaches more than any option: one call of each verb."""


class Section(NamedTuple):
    """A heading, and rows of a name and what it is."""

    title: str
    rows: Sequence[tuple[str, str]]


def page_width() -> int:
    """The columns of a page: those of the terminal, as far as lines are still easy to read."""
    import shutil  # as slow to load as all of this module

    return min(shutil.get_terminal_size((80, 24)).columns, LONGEST_LINE)


def manual_page(
    usage: str,
    text: str,
    sections: Sequence[Section],
    epilog: Sequence[str],
    width: int,
    tr: Translator,
    verb: str = "",
) -> list[str]:
    """The lines of a help page; of a verb with its example."""
    lines = [*wrapped(tr("Usage: {usage}", usage=usage), width), "", *wrapped(text, width)]
    if verb in EXAMPLES:
        lines += ["", *wrapped(tr("Example: {command}", command=EXAMPLES[verb]), width)]
    for section in sections:
        if section.rows:
            lines += ["", section.title, *rows_of(section.rows, width)]
    for paragraph in epilog:
        lines += ["", *wrapped(paragraph, width)]
    return lines


def rows_of(rows: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Names to the left, what they are to the right, in as many lines as it takes."""
    left = min(max(cells(name) for name, _ in rows), WIDEST_NAMES, max(width // 2 - 4, 4))
    lines = []
    for name, text in rows:
        right = wrapped(text, width - left - 4)
        if cells(name) > left:
            lines.append(f"  {name}")
            name = ""
        first, *others = right or [""]
        lines.append(f"  {pad(name, left)}  {first}".rstrip())
        lines += [" " * (left + 4) + line for line in others]
    return lines


def wrapped(text: str, width: int) -> list[str]:
    """Text in lines of at most `width` cells, broken at spaces and between characters that take two cells."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for piece in PIECE.findall(paragraph):
            if line and cells(line) + cells(piece.rstrip()) > width:
                lines.append(line.rstrip())
                line, piece = "", piece.lstrip()
            line += piece
        lines.append(line.rstrip())
    return lines

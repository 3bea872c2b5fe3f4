"""Text for a terminal: what fits where, numbers and moments as people write them. Pure functions.

Text that a user wrote (names, notes, paths) never reaches a terminal raw: control characters, bidirectional
overrides and broken bytes are shown as escapes.
"""

import json
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from tensortime.errors import listing
from tensortime.messages import Translator

LISTED = 8
"""Paths of one sort that a summary names."""

LEAST = 24
"""Cells that a table leaves for its first and last column together, as long as there is another to drop."""

LONG = 120
"""Columns at most: a wide terminal is no reason for wide lines."""

AROUND = 32
"""Characters of a filter that are shown before and behind the place where it goes wrong."""


def printable(text: str) -> str:
    """Text that changes nothing on a terminal but the cells it fills."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escape(char) for char in text)


def escape(char: str) -> str:
    """One character that must not be printed, as an escape."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return known.get(char) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def cells(text: str) -> int:
    """How many columns a terminal uses for printable text: Chinese characters take two, accents none."""
    return len(text) if text.isascii() else sum(map(cell_width, text))


def cell_width(char: str) -> int:
    """The columns of one character."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(text: str, width: int) -> str:
    """Text cut to `width` cells, with an ellipsis where something is missing."""
    if cells(text) <= width:
        return text
    kept, used = [], 0
    for char in text:
        used += cell_width(char)
        if used > width - 1:
            break
        kept.append(char)
    return "".join(kept) + "…"


def fit_middle(text: str, width: int) -> str:
    """Text cut to `width` cells out of its middle: names begin with a date and end with what tells them apart."""
    if cells(text) <= width:
        return text
    head = fit(text, max(width // 3, 2))
    tail, used = "", cells(head)
    for char in reversed(text):
        used += cell_width(char)
        if used > width:
            break
        tail = char + tail
    return head + tail


def pad(text: str, width: int) -> str:
    """Text filled up to `width` cells."""
    return text + " " * (width - cells(text))


def size_text(size: int) -> str:
    """Bytes for a person: `0 B`, `999 B`, `1.2 MB`; powers of 1000, as disks are sold."""
    if size < 1000:
        return f"{size} B"
    amount, units = size / 1000, ["kB", "MB", "GB", "TB", "PB"]
    while amount >= 999.5 and len(units) > 1:
        amount /= 1000
        units.pop(0)
    unit = units[0]
    return f"{amount:.1f} {unit}" if amount < 99.95 else f"{amount:.0f} {unit}"


def seconds_text(seconds: float, tr: Translator) -> str:
    """A duration for a person."""
    if seconds < 60:
        number = f"{seconds:.0f}" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.2f}"
        return tr("{number} s", number=number)
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        hours, minutes = divmod(minutes, 60)
        return tr("{hours} h {minutes:02d} min", hours=hours, minutes=minutes)
    return tr("{minutes} min {seconds:02d} s", minutes=minutes, seconds=rest)


def when_text(time_ns: int, now: datetime, tr: Translator) -> str:
    """A moment, as short as it can be and still be told apart."""
    try:
        moment = datetime.fromtimestamp(time_ns / 1e9)
    except (OverflowError, ValueError, OSError):
        return "?"
    age = (now - moment).total_seconds()
    if 0 <= age < 60:
        return tr("just now")
    if 0 <= age < 3600:
        return tr("{minutes} min ago", minutes=int(age // 60))
    if moment.date() == now.date():
        return tr("{time} today", time=f"{moment:%H:%M}")
    return f"{moment:%m-%d %H:%M}" if moment.year == now.year else f"{moment:%Y-%m-%d}"


def files_text(count: int, tr: Translator) -> str:
    """`1 file`, `2 files`."""
    return tr("{count:,} file", count=count) if count == 1 else tr("{count:,} files", count=count)


def number_text(value: object) -> str:
    """A parameter or metric in as few cells as tell it apart: numbers to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def listed(texts: Sequence[str], tr: Translator) -> str:
    """The first texts of many."""
    return tr.text(listing([printable(text) for text in texts], LISTED))


def quoted(word: object) -> str:
    """A word of a command, in quotes where a shell would need them."""
    text = str(word)
    plain = text and all(char.isalnum() or char in "@%+=:,./-_~" for char in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"


def pointed_at(text: str, at: int) -> list[str]:
    """A line of what was typed, as far as it fits, and a caret under one of its characters."""
    start = max(at - AROUND, 0)
    before = ("…" if start else "") + printable(text[start:at])
    behind = printable(text[at : at + AROUND]) + ("…" if len(text) > at + AROUND else "")
    return [f"  {before}{behind}", f"  {' ' * cells(before)}^"]


class Column(NamedTuple):
    """The head of one column of a table."""

    title: str
    number: bool = False
    """Its cells are put to the right."""


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows in columns: the first gives way before it takes more than half, the last takes what is left.

    Where less than LEAST cells are left for these two, columns between them go.
    """
    header = [column.title for column in columns]
    everything = [header, *rows]
    widths = [max(cells(row[index]) for row in everything) for index in range(len(columns))]
    room = width - sum(widths[1:-1]) - 2 * (len(columns) - 1)
    between = range(1, len(columns) - 1)
    if room < LEAST and between:
        kept = [index for index in range(len(columns)) if index != len(columns) - 2]
        return table(
            [columns[index] for index in kept], [[row[index] for index in kept] for row in rows], width
        )
    room = max(room, LEAST // 2)
    widths[0] = min(widths[0], max(room - widths[-1], room * 3 // 4))
    widths[-1] = max(room - widths[0], 4)
    lines = []
    for row in everything:
        parts = [pad(fit_middle(row[0], widths[0]), widths[0])]
        for index in between:
            gap = " " * (widths[index] - cells(row[index]))
            parts.append(gap + row[index] if columns[index].number else row[index] + gap)
        parts.append(fit(row[-1], widths[-1]))
        lines.append("  ".join(parts).rstrip())
    return lines

"""What `log` says: a table that fits a terminal, lines for a pipe. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from tensortime.formats import iso_time
from tensortime.messages import Translator
from tensortime.names import note_beside
from tensortime.text import (
    LONG,
    Column,
    cells,
    fit,
    number_text,
    printable,
    size_text,
    table,
    when_text,
)

if TYPE_CHECKING:  # as in `render`
    from tensortime.experiments import Experiment, LogReport

SHOWN = 20
"""Experiments that `log` shows on a terminal."""

NAME_CELLS, NOTE_CELLS, VALUE_CELLS = 28, 14, 12
"""Cells that `log` leaves for a name and a note before others get columns; those of a value at most."""


def log_table(report: LogReport, limit: int | None, width: int, now: datetime, tr: Translator) -> list[str]:
    """`log` on a terminal: a table that fits `width` columns."""
    shown = report.experiments[:limit]
    lines = []
    if shown:
        lines += experiments_table(shown, min(width, LONG), now, tr, report.key)
    elif report.passed_over:
        lines.append(tr("none of {count} experiments is like that", count=report.passed_over))
    else:
        lines.append(tr("no experiment yet: tensortime backup makes the first"))
    more = len(report.experiments) - len(shown)
    if more:
        lines.append(tr("… and {count} more: -n {all} shows all", count=more, all=len(report.experiments)))
    if report.elsewhere:
        lines.append(tr("{count} of other projects in this store: --all shows them", count=report.elsewhere))
    return lines


def experiments_table(
    shown: Sequence[Experiment], width: int, now: datetime, tr: Translator, key: str = ""
) -> list[str]:
    """The experiments in columns: metrics, and parameters that differ, before sizes, as far as there is room.

    What they are sorted by, `key`, comes first.
    """
    names = [named(one) for one in shown]
    times = [when_text(one.time_ns, now, tr) for one in shown]
    notes = [marked_note(one, tr) for one in shown]
    outer = [
        (Column(tr("EXPERIMENT")), names),
        (Column(tr("WHEN")), times),
        (Column(tr("NOTE") if any(notes) else ""), notes),
    ]
    sizes = [
        (Column(tr("SIZE"), number=True), [size_text(one.bytes) for one in shown]),
        (Column(tr("FILES"), number=True), [f"{one.files:,}" for one in shown]),
    ]
    widths = [column_width(*one) for one in outer]
    room = width - min(widths[0], NAME_CELLS) - widths[1] - min(widths[2], NOTE_CELLS) - 4
    chosen = []
    for candidate in [*value_columns(shown, key), *sizes]:
        needed = column_width(*candidate) + 2
        if needed <= room:
            room -= needed
            chosen.append(candidate)
    between = [one for one in reversed(sizes) if one in chosen] + [one for one in chosen if one not in sizes]
    columns = [*outer[:2], *between, outer[2]]
    rows = list(zip(*(texts for _, texts in columns), strict=True))
    return table([column for column, _ in columns], rows, width)


def column_width(column: Column, texts: Sequence[str]) -> int:
    """The cells that a column takes."""
    return max(map(cells, [column.title, *texts]))


def value_columns(shown: Sequence[Experiment], first: str = "") -> Iterable[tuple[Column, list[str]]]:
    """A column for each metric, then for each parameter that is not the same in all; before them that called `first`."""
    before, others = [], []
    for kind in ("metrics", "params"):
        values: list[Mapping[str, object]] = [getattr(one, kind) for one in shown]
        for key in dict.fromkeys(key for row in values for key in row):
            texts = [
                fit(printable(number_text(row[key])), VALUE_CELLS) if key in row else "" for row in values
            ]
            number = all(isinstance(row.get(key, 0), int | float) for row in values)
            column = Column(fit(printable(key), VALUE_CELLS), number=number), texts
            if first in (key, f"{kind}.{key}"):
                before.append(column)
            elif kind == "metrics" or len(set(texts)) > 1:
                others.append(column)
    return [*before, *others]


def named(one: Experiment) -> str:
    """An experiment's name, and how many backups it has if that is more than one."""
    return printable(f"{one.name}:{one.backups}" if one.backups > 1 else one.name)


def marked_note(one: Experiment, tr: Translator) -> str:
    """The note in one line, behind the status if that is not `done` and the tags."""
    marks = "" if one.status in ("done", "") else f"[{tr.known(one.status)}] "
    tags = "".join(f"#{tag} " for tag in one.tags)
    return printable((marks + tags + note_beside(one.name, " ".join(one.note.split()))).rstrip())


def log_lines(report: LogReport) -> list[str]:
    """`log` through a pipe: name, time, backups, files, bytes, note, separated by tabs; the same in any language."""
    return [
        "\t".join(
            (
                printable(one.name),
                iso_time(one.time_ns),
                str(one.backups),
                str(one.files),
                str(one.bytes),
                printable(one.note),
            )
        )
        for one in report.experiments
    ]


def damaged_lines(report: LogReport, tr: Translator) -> list[str]:
    """A line for each ref that names no readable backup."""
    return [
        tr("damaged: {ref}: {reason}", ref=printable(one.ref), reason=printable(tr.known(one.reason)))
        for one in report.damaged
    ]

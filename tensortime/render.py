"""From reports to text: pure functions, no I/O.

Text that a user wrote (names, notes, paths) never reaches a terminal raw: control characters, bidirectional
overrides and broken bytes are shown as escapes.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from tensortime.errors import TensorTimeError
from tensortime.formats import iso_time
from tensortime.names import suggest_name
from tensortime.policy import SECRET_RULE
from tensortime.reports import (
    BackupReport,
    Experiment,
    Ignored,
    LinkOut,
    LogReport,
    RestoreReport,
    ShowReport,
    Skipped,
)

SHOWN = 20
"""Experiments that `log` shows on a terminal."""

LISTED = 8
"""Paths of one sort that a summary names."""

LEAST = 24
"""Cells that a table leaves for its first and last column together, as long as there is another to drop."""

LONG = 120
"""Columns at most: a wide terminal is no reason for wide lines."""


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


def seconds_text(seconds: float) -> str:
    """A duration for a person."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 or seconds == int(seconds) else f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def when_text(time_ns: int, now: datetime) -> str:
    """A moment, as short as it can be and still be told apart."""
    try:
        moment = datetime.fromtimestamp(time_ns / 1e9)
    except (OverflowError, ValueError, OSError):
        return "?"
    age = (now - moment).total_seconds()
    if 0 <= age < 60:
        return "just now"
    if 0 <= age < 3600:
        return f"{int(age // 60)} min ago"
    if moment.date() == now.date():
        return f"{moment:%H:%M} today"
    return f"{moment:%m-%d %H:%M}" if moment.year == now.year else f"{moment:%Y-%m-%d}"


def count_text(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def backup_text(report: BackupReport) -> list[str]:
    """What a backup ends with: what is stored, what is not and why, how to come back."""
    if report.experiment is None:
        return ["nothing was backed up: TENSORTIME=off"]
    name = printable(report.experiment)
    number = f", backup {report.number}" if report.number > 1 else ""
    what = f"{count_text(report.files, 'file')}, {size_text(report.bytes)} ({size_text(report.stored_bytes)} new)"
    lines = [f"backed up {name}{number}: {what} in {seconds_text(report.seconds)}"]
    left_out = ignored_text(report.ignored)
    if left_out:
        lines.append(f"left out: {left_out}")
    lines += [outside_text(one) for one in report.outside[:LISTED] if one.files or not one.complete]
    lines += skipped_text(report.skipped)
    if report.changed:
        lines.append(f"changed while being read, the stored state may be mixed: {listed(report.changed)}")
    for one in report.lost:
        lines.append(
            f"LOST: {printable(one.path)} in {listed(one.experiments)}: its hard-linked file was written to"
        )
    lines.append(f"restore: tensortime restore {name}")
    return lines


def outside_text(one: LinkOut) -> str:
    """A link whose content is elsewhere, and what stores it."""
    amount = f"{count_text(one.files, 'file')}, {size_text(one.bytes)}" + ("" if one.complete else " or more")
    path = printable(one.path)
    return f'{path} is a link out of the project: {amount} behind it are not stored (follow = ["{path}"] stores them)'


def ignored_text(ignored: Iterable[Ignored]) -> str:
    """What was left out, by rule: each top-level entry, and of what lies deeper each folder with sources that a
    user's pattern left out, and each file that a secret may be in."""
    by_rule: dict[str, list[str]] = {}
    for one in ignored:
        kind, _, detail = one.rule.partition(": ")
        secret = kind == SECRET_RULE
        if "/" not in one.path or one.sources or secret:
            plain = "a secret?" if secret else kind if kind == "built-in" and detail == one.path else one.rule
            by_rule.setdefault(plain, []).append(one.path + "/" * one.folder)
    return "; ".join(f"{listed(paths)} ({printable(rule)})" for rule, paths in by_rule.items())


def skipped_text(skipped: Sequence[Skipped]) -> list[str]:
    """A line for each of the first skipped paths, and how many more."""
    lines = [f"SKIPPED {printable(one.path)}: {printable(one.reason)}" for one in skipped[:LISTED]]
    if len(skipped) > LISTED:
        lines.append(f"SKIPPED {len(skipped) - LISTED} more: tensortime show @ names them")
    return lines


def listed(texts: Sequence[str]) -> str:
    """The first texts of many."""
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return ", ".join(printable(text) for text in texts[:LISTED]) + more


def log_table(report: LogReport, limit: int | None, width: int, now: datetime) -> list[str]:
    """`log` on a terminal: a table that fits `width` columns."""
    shown = report.experiments[:limit]
    lines = []
    if shown:
        rows = [log_row(one, now) for one in shown]
        header = ("EXPERIMENT", "WHEN", "FILES", "SIZE", "NOTE" if any(row[-1] for row in rows) else "")
        lines += table(header, rows, min(width, LONG))
    else:
        lines.append("no experiment yet: tensortime backup makes the first")
    if len(report.experiments) > len(shown):
        lines.append(
            f"… and {len(report.experiments) - len(shown)} more: -n {len(report.experiments)} shows all"
        )
    if report.elsewhere:
        lines.append(f"{report.elsewhere} of other projects in this store: --all shows them")
    return lines


def log_row(one: Experiment, now: datetime) -> tuple[str, ...]:
    """One experiment as the cells of a row."""
    marks = "" if one.status in ("done", "") else f"[{one.status}] "
    times = f"{one.name}:{one.backups}" if one.backups > 1 else str(one.name)
    tags = "".join(f"#{tag} " for tag in one.tags)
    note = marks + tags + note_beside(one.name, " ".join(one.note.split()))
    cells_of = (times, when_text(one.time_ns, now), f"{one.files:,}", size_text(one.bytes), note)
    return tuple(printable(cell) for cell in cells_of)


def note_beside(name: str, note: str) -> str:
    """The note, unless all of it stands in the name already."""
    slug = re.escape(suggest_name(note)) if note else ""
    return "" if slug and re.search(rf"(^|-){slug}(-\d+)?$", name) else note


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Rows in columns: the first gives way before it takes more than half, the last takes what is left.

    Where less than LEAST cells are left for these two, columns between them go.
    """
    everything = [header, *rows]
    widths = [max(cells(row[column]) for row in everything) for column in range(len(header))]
    room = width - sum(widths[1:-1]) - 2 * (len(header) - 1)
    if room < LEAST and len(header) > 2:
        gone = header.index(next(name for name in ("FILES", "SIZE", header[1]) if name in header[1:-1]))
        narrower = [row[:gone] + row[gone + 1 :] for row in everything]
        return table(narrower[0], narrower[1:], width)
    room = max(room, LEAST // 2)
    widths[0] = min(widths[0], max(room - widths[-1], room * 3 // 4))
    widths[-1] = max(room - widths[0], 4)
    lines = []
    for row in everything:
        parts = [pad(fit_middle(row[0], widths[0]), widths[0])]
        for column in range(1, len(row) - 1):
            number = header[column] in ("FILES", "SIZE")
            gap = " " * (widths[column] - cells(row[column]))
            parts.append(gap + row[column] if number else row[column] + gap)
        parts.append(fit(row[-1], widths[-1]))
        lines.append("  ".join(parts).rstrip())
    return lines


def log_lines(report: LogReport) -> list[str]:
    """`log` through a pipe: name, time, backups, files, bytes, note, separated by tabs."""
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


def damaged_lines(report: LogReport) -> list[str]:
    """A line for each ref that names no readable backup."""
    return [f"damaged: {printable(one.ref)}: {printable(one.reason)}" for one in report.damaged]


def show_text(report: ShowReport) -> list[str]:
    """One experiment for a person."""
    one, run = report.experiment, report.run
    rows: list[tuple[str, str]] = [
        ("experiment", one.name),
        ("note", one.note),
        ("time", iso_time(one.time_ns)),
        ("status", one.status),
        ("files", f"{one.files:,} ({size_text(one.bytes)})"),
        ("project", one.project),
        ("parent", one.parent),
        ("tags", ", ".join(one.tags)),
        *run_rows(run),
        *(
            (key, json.dumps(value))
            for key, value in (("params", dict(one.params)), ("metrics", dict(one.metrics)))
            if value
        ),
    ]
    lines = [f"{key:<11} {printable(value)}" for key, value in rows if value]
    for entry in report.history:
        times = f"{iso_time(entry.time_ns)}  {count_text(entry.files, 'file')}, {size_text(entry.bytes)}"
        lines.append(f"{'backup':<11} :{entry.number}  {times}")
    lines += problem_lines(run)
    older = f":{one.backups}" if one.backups != report.newest else ""
    lines.append(f"{'restore':<11} tensortime restore {printable(one.name)}{older}")
    return lines


def run_rows(run: Mapping[str, object]) -> list[tuple[str, str]]:
    """The rows of `show` that come from run.json."""
    command, python, git = run.get("command"), run.get("python"), run.get("git")
    rows = [("command", " ".join(map(quoted, command)) if isinstance(command, list) else "")]
    rows.append(("folder", str(run.get("cwd") or "")))
    if isinstance(python, dict):
        rows.append(("python", f"{python.get('version', '')} {python.get('executable', '')}"))
    rows.append(("platform", str(run.get("platform") or "")))
    if isinstance(git, dict):
        dirty = {"True": ", with uncommitted changes", "False": ", clean"}.get(str(git.get("dirty")), "")
        branch = f" ({git['branch']})" if git.get("branch") else ""
        rows.append(("git", f"{str(git.get('head') or 'no commit')[:12]}{branch}{dirty}"))
        remotes = git.get("remotes")
        if isinstance(remotes, dict):
            rows += [("remote", f"{name} {url}") for name, url in remotes.items()]
    return rows


def problem_lines(run: Mapping[str, object]) -> list[str]:
    """What run.json says was left out, skipped or changed."""
    lines = []
    for key in ("ignored", "skipped"):
        rows = run.get(key)
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict):
                why = row.get("rule") or row.get("reason") or ""
                lines.append(f"{key:<11} {printable(str(row.get('path')))}  ({printable(str(why))})")
    changed = run.get("changed")
    for path in changed if isinstance(changed, list) else []:
        lines.append(f"{'changed':<11} {printable(str(path))}")
    return lines


def quoted(word: object) -> str:
    """A word of a command, in quotes where a shell would need them."""
    text = str(word)
    plain = text and all(char.isalnum() or char in "@%+=:,./-_~" for char in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"


def restore_text(report: RestoreReport) -> list[str]:
    """What a restore ends with."""
    placed = ", ".join(f"{count} by {method}" for method, count in report.placed.items() if count)
    what = f"{count_text(report.files, 'file')}, {size_text(report.bytes)}"
    lines = [
        f"restored {printable(report.experiment)}: {what} in {seconds_text(report.seconds)}",
        "every byte checked" + (f"; large files: {placed}" if placed else ""),
    ]
    if report.plain_modes:
        lines.append(f"without their setuid or setgid bit: {listed(report.plain_modes)}")
    if report.changed:
        lines.append(f"changed while they were backed up, perhaps mixed: {listed(report.changed)}")
    missing = [
        f"NOT in this backup: {printable(one.path)}: {printable(one.reason)}" for one in report.skipped
    ]
    more = [f"NOT in this backup: {len(missing) - LISTED} more, tensortime show names them"]
    return lines + missing[:LISTED] + (more if len(missing) > LISTED else [])


def error_text(error: TensorTimeError) -> list[str]:
    """An error for a person: what is wrong, what to do."""
    hint = str(error.hint)
    lines = [f"tensortime: {printable(str(error))}"]
    return [*lines, f"  {printable(hint)}"] if hint else lines

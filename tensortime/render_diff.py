"""From a DiffReport to the lines that a person reads: causes first, then effects. Pure."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tensortime.differences import (
    ADDED,
    CHANGED,
    FILE,
    FOLDER,
    KIND,
    OUTSIDE,
    REMOVED,
    RENAMED,
    SYMLINK,
    Causes,
    CommandChange,
    DiffReport,
    FileChange,
    FileFacts,
    Hunk,
    Side,
    ValueChange,
)
from tensortime.gaps import Closeness, Gap, short_number
from tensortime.messages import Translator
from tensortime.suspects import suspects_of
from tensortime.text import cells, files_text, fit, fit_middle, pad, printable, quoted, size_text

SHOWN = 10
"""Rows of one category on a terminal."""

WIDEST_NAME = 36
"""Cells of the column of names at most: what is longer stands out of it, instead of moving all others."""

LONGEST_LINE = 400
"""Cells of a line of code on a terminal: more is what a program wrote."""

SUSPECTED = 3
"""So many of the causes are named as the likeliest, and those that are as likely as the last of them."""

DIGITS = 6
"""Of a number, where they tell it from the other."""

COLOURS = {"heading": "1", "added": "32", "removed": "31", "place": "36", "": ""}


@dataclass(frozen=True)
class Style:
    """How a page is written: in which language, how wide (None: as wide as it gets, and all of it), with colours."""

    tr: Translator
    width: int | None = None
    colour: bool = False

    def paint(self, text: str, name: str) -> str:
        """Text in the colour of this name."""
        code = COLOURS[name]
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code and text else text

    def fit(self, text: str, room: int) -> str:
        """Text cut to the room that there is, out of its middle."""
        return text if self.width is None else fit_middle(text, max(room, 8))


@dataclass(frozen=True)
class Row:
    """One difference: what it is, and how it differs."""

    what: str
    how: str
    after: str = ""
    """What it became, where that stands behind an arrow."""
    colour: str = ""
    parts: tuple[tuple[str, str], ...] = ()
    """In place of `how`: texts with their colours, on one line."""
    wide: bool = False
    """`how` needs the room of `what` too, which is empty."""


def diff_text(report: DiffReport, style: Style, *, patch: bool = False) -> list[str]:
    """The whole page."""
    tr, causes, effects = style.tr, report.causes, report.effects
    command = command_rows(causes.command, tr) if causes.command else []
    above = [
        (tr("command"), command),
        (tr("params"), value_rows(causes.params, tr)),
        (tr("packages"), value_rows(causes.packages, tr)),
        (tr("code"), file_rows(causes.code, tr)),
        (tr("data"), file_rows(causes.data, tr)),
        (tr("environment"), value_rows(causes.environment, tr)),
        (tr("machine"), value_rows(causes.machine, tr)),
    ]
    below = [
        (tr("metrics"), metric_rows(effects.metrics, tr)),
        (tr("outputs"), file_rows(effects.outputs, tr)),
    ]
    labels = max(cells(label) for label, _ in (*above, *below)) + 2
    lines = header(report, style)
    said = [fitted(line, style) for line in remarks(report, tr)]
    if report.is_empty:
        lines.append(tr("no difference in what was compared") if said else tr("no difference"))
    else:
        lines.append(style.paint(tr("CAUSES"), "heading"))
        rows = [line for label, found in above for line in category(label, found, labels, style)]
        lines += rows or [tr("none that is known")]
        rows = [line for label, found in below for line in category(label, found, labels, style)]
        if rows:
            lines += ["", style.paint(tr("EFFECTS"), "heading"), *rows, *suspect_lines(causes, labels, style)]
    lines += ["", *said] if said else []
    if patch:
        lines += [line for change in causes.code for line in patch_lines(change, style)]
    return lines


def widest_name(names: Sequence[str]) -> int:
    """The cells of a column of names: those that are wider than usual stand out of it."""
    return max((width for name in names if (width := cells(printable(name))) <= WIDEST_NAME), default=0)


def suspect_lines(causes: Causes, labels: int, style: Style) -> list[str]:
    """The causes that most likely explain the effects, where there is more than one to choose from."""
    tr, suspects = style.tr, suspects_of(causes)
    if len(suspects) < 2:
        return []
    lines = ["", style.paint(tr("LIKELIEST"), "heading")]
    # Of causes that are as likely none is named before the others.
    last = suspects[:SUSPECTED][-1].reason
    as_likely = [one for number, one in enumerate(suspects) if number < SUSPECTED or one.reason == last]
    shown = as_likely[:SHOWN]
    width = widest_name([one.key for one in shown])
    for one in shown:
        row = Row(pad(printable(one.key), width), tr(one.why.template))
        lines += category(tr(one.category), [row], labels, style)
    if len(as_likely) > len(shown):
        lines.append(" " * labels + tr("… and {count} more", count=len(as_likely) - len(shown)))
    return lines


def fitted(text: str, style: Style) -> str:
    """A line that is no wider than the page."""
    return text if style.width is None else fit(text, style.width)


def header(report: DiffReport, style: Style) -> list[str]:
    """Which two states these are: on one line if there is room."""
    a, b = side_text(report.a, style.tr), side_text(report.b, style.tr)
    one = f"{a} -> {b}"
    if style.width is None or cells(one) <= style.width:
        return [one]
    return [style.fit(a, style.width), "-> " + style.fit(b, style.width - 3)]


def side_text(side: Side, tr: Translator) -> str:
    """One of the two states."""
    if side.experiment is None:
        return tr("the project now")
    return f"{printable(side.experiment)}:{side.number}"


def category(label: str, rows: Sequence[Row], labels: int, style: Style) -> list[str]:
    """The rows of one category, its name before the first."""
    if not rows:
        return []
    shown = rows if style.width is None or len(rows) <= SHOWN + 1 else rows[:SHOWN]
    room = max(style.width - labels, 24) if style.width is not None else 1 << 16
    widths = [cells(row.what) for row in shown if not row.wide]
    names = max((width for width in widths if width <= min(WIDEST_NAME, room // 2)), default=0)
    lines = [line for row in shown for line in row_lines(row, names, room, style)]
    if len(rows) > len(shown):
        lines.append(style.tr("… and {count} more", count=len(rows) - len(shown)))
    return [pad(label if number == 0 else "", labels) + line for number, line in enumerate(lines)]


def row_lines(row: Row, names: int, room: int, style: Style) -> Iterator[str]:
    """One row on one line, or on two where before and after do not fit beside each other."""
    both = row.how + (f" -> {row.after}" if row.after else "")
    both = " ".join(text for text, _ in row.parts) or both
    # A name that is wider than the column takes what the rest leaves of the line.
    name = style.fit(row.what, min(max(names, room - cells(both) - 2), room - room // 3))
    left = "" if row.wide else pad(name, max(names, cells(name))) + "  "
    room -= cells(left)
    if row.parts:
        yield left + " ".join(style.paint(text, colour) for text, colour in row.parts)
    elif not row.after or cells(both) <= room:
        yield left + style.paint(style.fit(both, room), row.colour)
    else:
        yield left + style.fit(row.how, room)
        yield " " * cells(left) + "-> " + style.fit(row.after, room - 3)


def command_rows(change: CommandChange, tr: Translator) -> list[Row]:
    """The options that differ, then both commands."""
    rows = value_rows(change.options, tr, nothing=tr("(set)"))
    for mark, words, colour in (("-", change.old, "removed"), ("+", change.new, "added")):
        text = " ".join(quoted(word) for word in words)
        rows.append(Row("", f"{mark} {printable(text)}", colour=colour, wide=True))
    return rows


def value_rows(changes: Sequence[ValueChange], tr: Translator, nothing: str = '""') -> list[Row]:
    """Old and new value of each; `nothing`: how an empty text is shown."""
    rows = []
    for change in changes:
        before, after = short_numbers(change)
        old = tr("(none)") if change.change == ADDED else value_text(before, nothing)
        new = tr("(none)") if change.change == REMOVED else value_text(after, nothing)
        rows.append(Row(printable(change.key), old, new))
    return rows


def metric_rows(changes: Sequence[ValueChange], tr: Translator) -> list[Row]:
    """As `value_rows`, with the difference of numbers."""
    rows = value_rows(changes, tr)
    return [
        row if change.delta is None else Row(row.what, row.how, f"{row.after}  ({change.delta:+.4g})")
        for row, change in zip(rows, changes, strict=True)
    ]


def short_numbers(change: ValueChange) -> tuple[object, object]:
    """Old and new value, numbers to six digits, unless these are the same in both."""
    old, new = (
        float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for value in (change.old, change.new)
    )
    return (change.old, change.new) if old == new else (old, new)


def value_text(value: object, nothing: str) -> str:
    """A value for a person: text as it is, all else as JSON; an object id only as far as one reads it."""
    if isinstance(value, str):
        known = len(value) == 40 and all(char in "0123456789abcdef" for char in value)
        return printable(value[:12] if known else value) or nothing
    return printable(json.dumps(value, ensure_ascii=False, default=str))


def file_rows(changes: Sequence[FileChange], tr: Translator) -> list[Row]:
    """A row for each path."""
    return [file_row(change, tr) for change in changes]


def file_row(change: FileChange, tr: Translator) -> Row:
    """What happened to one path."""
    old, new, what = change.old, change.new, printable(change.path)
    if change.change == RENAMED:
        end = tr("renamed") + mode_text(old, new, tr, before=", ")
        return Row("", printable(change.old_path or ""), f"{what}  ({end})", wide=True)
    if change.change == ADDED and new is not None:
        text = tr("added, {what}", what=facts_text(new, change.lines_added, tr))
        return Row(what, text, colour="added")
    if change.change == REMOVED and old is not None:
        text = tr("removed, {what}", what=facts_text(old, change.lines_removed, tr))
        return Row(what, text, colour="removed")
    if old is None or new is None:
        return Row(what, "")
    if change.change == KIND:
        return Row(what, facts_text(old, None, tr, named=True), facts_text(new, None, tr, named=True))
    if change.change == CHANGED:
        return changed_row(change, old, new, tr)
    return Row(what, mode_text(old, new, tr))


def changed_row(change: FileChange, old: FileFacts, new: FileFacts, tr: Translator) -> Row:
    """A path whose bytes, or whose target, are others."""
    what, mode = printable(change.path), mode_text(old, new, tr, before=", ")
    if new.kind == OUTSIDE:
        after = tr("{what}, behind the link, not stored", what=facts_text(new, None, tr))
        return Row(what, facts_text(old, None, tr), after)
    if new.kind == SYMLINK:
        return Row(what, facts_text(old, None, tr), printable(new.target or "?"))
    if change.lines_added is not None and change.lines_removed is not None:
        counts = ((f"+{change.lines_added}", "added"), (f"-{change.lines_removed}", "removed"))
        numbers = numbers_text(change, tr)
        rest = [(text, "") for text in (numbers and " " + numbers, mode[2:]) if text]
        return Row(what, "", parts=(*counts, *rest))
    numbers = numbers_text(change, tr)
    if numbers:
        return Row(what, numbers + mode)
    before, after = size_text(old.size), size_text(new.size)
    if before == after and old.digest and new.digest:
        return Row(what, f"{before}, {short(old.digest)}", short(new.digest) + mode)
    return Row(what, before, after + mode)


def numbers_text(change: FileChange, tr: Translator) -> str:
    """How far the numbers of an output lie apart; empty where nobody knows."""
    if change.too_large:
        return tr(
            "{size}, too large to compare its numbers", size=size_text(change.new.size if change.new else 0)
        )
    return "" if change.closeness is None else closeness_text(change.closeness, tr)


def closeness_text(closeness: Closeness, tr: Translator) -> str:
    """How far the numbers of two files lie apart: of the first array that differs, and how many more do."""
    if not closeness.gaps:
        return tr("every number is equal")
    text = gap_text(closeness.gaps[0], tr)
    more = len(closeness.gaps) - 1
    return tr("{gap}, and {count} more", gap=text, count=more) if more else text


def gap_text(gap: Gap, tr: Translator) -> str:
    """How one array differs."""
    name = fit_middle(printable(gap.name), WIDEST_NAME)
    if not gap.problem:
        facts = {"distance": short_number(gap.max_abs), "relative": short_number(gap.max_rel)}
        return tr("{array} differs by {distance} (relative {relative})", array=name, **facts).lstrip()
    if gap.problem in ("shape", "type"):
        return f"{name} {printable(gap.old)} -> {printable(gap.new)}".lstrip()
    word = {"missing": tr("missing"), "extra": tr("added")}.get(gap.problem) or tr("differs")
    return f"{name} {word}".lstrip()


def short(digest: str) -> str:
    """As much of a digest as one compares with the eye."""
    return digest.partition(":")[2][:8]


def mode_text(old: FileFacts | None, new: FileFacts | None, tr: Translator, before: str = "") -> str:
    """Two modes that differ, behind `before`; empty where they do not."""
    if old is None or new is None or old.mode is None or new.mode is None or old.mode == new.mode:
        return ""
    return before + tr("mode {old} -> {new}", old=f"{old.mode:04o}", new=f"{new.mode:04o}")


def facts_text(facts: FileFacts, lines: int | None, tr: Translator, *, named: bool = False) -> str:
    """What a path is: its lines or size, where a link leads; `named`: also that it is a file."""
    if facts.kind == FOLDER:
        return tr("an empty folder")
    if facts.kind == OUTSIDE:
        return f"{files_text(facts.files or 0, tr)}, {size_text(facts.size)}"
    if facts.kind == SYMLINK:
        return tr("link to {target}", target=printable(facts.target or "?"))
    if named and facts.kind == FILE:
        return tr("file of {size}", size=size_text(facts.size))
    if lines is not None:
        return tr("1 line") if lines == 1 else tr("{count} lines", count=f"{lines:,}")
    return size_text(facts.size)


def remarks(report: DiffReport, tr: Translator) -> Iterator[str]:
    """What was not compared, and why."""
    for one in report.left_out[:SHOWN]:
        side = side_text(report.a if one.by == "a" else report.b, tr)
        yield tr(
            "not compared: {path} ({files}), it is left out of {side}",
            path=printable(one.path),
            files=files_text(one.files, tr),
            side=side,
        )
    if len(report.left_out) > SHOWN:
        yield tr("… and {count} more", count=len(report.left_out) - SHOWN)
    # A project that is only looked at has no command, params and metrics: nobody misses them.
    run = (
        {"command", "params", "metrics"} if None in (report.a.experiment, report.b.experiment) else set[str]()
    )
    unknown = [tr(name) for name in report.unknown if name not in run]
    if unknown:
        yield tr("not known of both, so not compared: {names}", names=", ".join(unknown))


def patch_lines(change: FileChange, style: Style) -> Iterator[str]:
    """The lines of one file that differ, as git shows them."""
    text = change.lines_added is not None
    if not text and (change.change != CHANGED or (change.new and change.new.kind != FILE)):
        return
    old = printable(change.old_path or change.path) if change.old else "/dev/null"
    new = printable(change.path) if change.new else "/dev/null"
    yield ""
    yield style.paint(f"--- {old}", "heading")
    yield style.paint(f"+++ {new}", "heading")
    if not text:
        yield style.tr("too large to show")
    for hunk in change.hunks:
        yield from hunk_lines(hunk, style)


def hunk_lines(hunk: Hunk, style: Style) -> Iterator[str]:
    """One hunk; what a terminal would obey is shown as an escape."""
    old, new = span(hunk.old_start, hunk.old_lines), span(hunk.new_start, hunk.new_lines)
    yield style.paint(f"@@ -{old} +{new} @@", "place")
    colours = {"+": "added", "-": "removed"}
    for line in hunk.lines:
        text = line[:1] + printable(line[1:].expandtabs(8))
        text = text if style.width is None else fit(text, LONGEST_LINE)
        yield style.paint(text, colours.get(line[:1], ""))


def span(start: int, lines: int) -> str:
    """Where a hunk lies, as diff writes it."""
    return str(start) if lines == 1 else f"{start},{lines}"

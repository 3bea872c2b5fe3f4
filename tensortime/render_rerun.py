"""From a RerunReport to the lines that a person reads: the verdict first, below it what differs. Pure."""

from collections.abc import Iterator

from tensortime.differences import ValueChange
from tensortime.errors import listing
from tensortime.messages import Translator
from tensortime.render_diff import (
    SHOWN,
    Row,
    Style,
    category,
    closeness_text,
    fitted,
    value_rows,
    widest_name,
)
from tensortime.suspects import Suspect
from tensortime.text import cells, pad, printable
from tensortime.verdict import (
    CLOSE,
    DIFFERENT,
    DIFFERS,
    EXTRA,
    IDENTICAL,
    MISSING,
    UNWRITTEN,
    OutputResult,
    RerunReport,
    line_of,
)

LEFT_OUT = 5
"""Paths of what the inputs lack, on one line."""

FILES = ("code", "data")
"""Categories whose keys are paths."""


def rerun_text(report: RerunReport, style: Style, shown_path: str) -> list[str]:
    """The whole answer; `shown_path`: the worktree as a person would type it."""
    tr = style.tr
    lines = (
        [printable(tr.text(line_of(report))), *output_lines(report, style)]
        if report.submitted or report.outputs is not None
        else []
    )
    if report.left_out and report.failed_anew:
        # Most often this is why.
        paths = listing([printable(path) for path in report.left_out], LEFT_OUT)
        lines.append(fitted(tr("its inputs were stored without: {paths}", paths=paths), style))
    if report.edited and report.verdict in (None, DIFFERENT):
        paths = listing([printable(path) for path in report.edited], LEFT_OUT)
        told = tr(
            "changed while the recorded run ran, which may have read them only then: {paths}", paths=paths
        )
        lines.append(fitted(told, style))
    lines += cause_lines(report, style)
    if report.experiment is not None:
        name, parent = printable(report.experiment), printable(report.parent)
        lines.append(
            tr(
                "recorded as {name} (from {parent}), in {path}",
                name=name,
                parent=parent,
                path=printable(shown_path),
            )
        )
    return lines


def output_lines(report: RerunReport, style: Style) -> Iterator[str]:
    """The outputs that are not as they were, and what was not compared."""
    tr = style.tr
    rows = [output_row(one, tr) for one in report.outputs or () if one.result != IDENTICAL]
    if rows:
        yield from category("", rows, 2, style)
        same = len(report.outputs or ()) - len(rows)
        if same:
            yield fitted(
                "  "
                + (tr("1 more is identical") if same == 1 else tr("{count} more are identical", count=same)),
                style,
            )
    if report.unrecorded:
        yield fitted(
            tr(
                "not compared: {count} files more, of which {parent} recorded nothing",
                count=report.unrecorded,
                parent=report.asked,
            ),
            style,
        )
    if report.missed:
        paths = listing([printable(path) for path in report.missed], LEFT_OUT)
        yield fitted(tr("not compared, as your rules leave it out: {paths}", paths=paths), style)


def output_row(one: OutputResult, tr: Translator) -> Row:
    """How one output came out."""
    words = {
        CLOSE: tr("close"),
        DIFFERS: tr("differs"),
        MISSING: tr("missing"),
        EXTRA: tr("extra"),
        UNWRITTEN: tr("not written"),
    }
    numbers = "" if one.closeness is None else closeness_text(one.closeness, tr)
    return Row(printable(one.path), words[one.result] + (f": {numbers}" if numbers else ""))


def cause_lines(report: RerunReport, style: Style) -> list[str]:
    """What differs between then and now, the likeliest cause of another result first."""
    tr, causes = style.tr, report.causes
    if not causes:
        return []
    if report.verdict == IDENTICAL:
        lines = [fitted(tr("what differs between then and now, and changed nothing:"), style)]
    else:
        lines = [fitted(tr("what differs between then and now, the likeliest cause first:"), style)]
    width = widest_name([one.key for one in causes[:SHOWN]])
    labels = max(cells(tr(one.category)) for one in causes) + 4
    for one in causes[:SHOWN]:
        lines += category("  " + tr(one.category), [cause_row(one, width, tr)], labels, style)
    if len(causes) > SHOWN:
        lines.append("  " + tr("… and {count} more", count=len(causes) - SHOWN))
    return lines


def cause_row(one: Suspect, width: int, tr: Translator) -> Row:
    """One of these."""
    why = tr(one.why.template)
    if one.category in FILES:
        return Row(pad(printable(one.key), width), f"{tr(one.change)}  ({why})")
    row = value_rows([ValueChange(one.key, one.change, one.old, one.new)], tr)[0]
    return Row(pad(row.what, width), row.how, f"{row.after}  ({why})")

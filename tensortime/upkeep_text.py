"""What `du`, `rm` and `undelete` say to a person: pure, from reports to lines."""

from collections.abc import Sequence
from datetime import datetime

from tensortime.formats import iso_time
from tensortime.inventory import (
    ClearingReport,
    RemovalPlan,
    RemovalReport,
    Restored,
    Trash,
    UndeleteReport,
    UsageReport,
)
from tensortime.messages import Translator
from tensortime.text import (
    LISTED,
    LONG,
    cells,
    fit_middle,
    listed,
    pad,
    printable,
    quoted,
    size_text,
    when_text,
)

SHOWN = 20
"""Rows of `du` on a terminal."""

LEAST = 16
"""Cells that the last column has at least; columns in front of it go before."""


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """A table whose last column, names or paths, takes what is left of `width`; the others are numbers and times."""
    everything = [tuple(map(printable, row)) for row in (header, *rows)]
    widths = [max(cells(row[column]) for row in everything) for column in range(len(header))]
    room = width - sum(widths[:-1]) - 2 * (len(header) - 1)
    if room < min(LEAST, widths[-1]) and len(header) > 2:
        narrower = [[*row[:-2], row[-1]] for row in everything]
        return columns(narrower[0], narrower[1:], width)
    lines = []
    for row in everything:
        parts = [
            " " * (widths[column] - cells(row[column])) + row[column] for column in range(len(header) - 1)
        ]
        lines.append("  ".join([*parts, fit_middle(row[-1], max(room, 4))]))
    return lines


def usage_text(report: UsageReport, limit: int, width: int, now: datetime, tr: Translator) -> list[str]:
    """`du` on a terminal."""
    width = min(width, LONG)
    shown = report.experiments[:limit]
    header = (tr("IF REMOVED"), tr("IN ALL"), tr("BACKUPS"), tr("WHEN"), tr("EXPERIMENT"))
    rows = [
        (
            size_text(one.freed),
            size_text(one.bytes),
            str(one.backups),
            when_text(one.time_ns, now, tr),
            one.name,
        )
        for one in shown
    ]
    lines = (
        columns(header, rows, width) if rows else [tr("no experiment yet: tensortime backup makes the first")]
    )
    lines += more_line(len(report.experiments), len(shown), tr)
    lines += [
        tr(
            "{name}: its restored folder holds {size} more",
            name=fit_middle(printable(one.name), max(width - 42, LEAST)),
            size=size_text(one.held),
        )
        for one in shown
        if one.held
    ]
    if report.together is not None:
        lines.append(tr("if all of these went: {size}", size=size_text(report.together)))
    if report.paths is not None:
        paths = report.paths[:limit]
        table = [(size_text(one.bytes), f"{one.versions:,}", one.path) for one in paths]
        lines += ["", *columns((tr("IN ALL"), tr("VERSIONS"), tr("PATH")), table, width)]
        lines += more_line(len(report.paths), len(paths), tr)
    return [*lines, "", *totals_text(report, width, tr)]


def more_line(count: int, shown: int, tr: Translator) -> list[str]:
    """How many rows are not shown."""
    return [tr("… and {more} more: -n {count} shows all", more=count - shown, count=count)] * (count > shown)


def totals_text(report: UsageReport, width: int, tr: Translator) -> list[str]:
    """Where the bytes of the store are, and which command gives some back."""
    all_of = report.totals
    rows = [
        (all_of.objects, tr("large files, {count} objects", count=f"{all_of.object_count:,}")),
        (all_of.packs, tr("small files and history, packs: {count}", count=f"{all_of.pack_count:,}")),
    ]
    optional = [
        (all_of.shared, tr("of these shared: freed when all that share them go (du A B adds up)")),
        (all_of.linked, tr("of these hard links to files of yours: no removal frees them")),
        (all_of.unreached, tr("needed by nothing: tensortime gc frees it")),
        (all_of.others, tr("kept by restored folders, pins and branches alone")),
        (all_of.records, tr("what experiments appended: tm.record, the output of tensortime run")),
        (all_of.cache, tr("stat cache, may be deleted")),
        (all_of.staging, tr("staging of running or interrupted backups")),
    ]
    rows += [row for row in optional if row[0]]
    if all_of.trashed:
        count = all_of.trashed
        rows.append(
            (all_of.trash, tr("only in the trash ({count}): tensortime gc --trash frees it", count=count))
        )
    sizes = [tr("SIZE"), *(size_text(size) for size, _ in rows)]
    wide = max(map(cells, sizes))
    texts = [tr("IN THE STORE"), *(text for _, text in rows)]
    lines = [" " * (wide - cells(size)) + f"{size}  {text}" for size, text in zip(sizes, texts, strict=True)]
    if report.worktrees:
        folders = [(size_text(size), one.path) for one, size in report.worktrees]
        lines += ["", *columns((tr("SIZE"), tr("RESTORED FOLDERS, YOURS")), folders, width)]
        lines.append(tr("tensortime rm --worktree NAME removes one, after comparing it with its backup"))
    lines += ["", tr("the disk has {size} left", size=size_text(all_of.free))]
    if report.missing:
        lines.append(
            tr(
                "{count} objects are missing or unreadable: tensortime verify names them",
                count=report.missing,
            )
        )
    return lines


def usage_lines(report: UsageReport) -> list[str]:
    """`du` through a pipe, separated by tabs: name, time, backups, bytes, freed; with paths: bytes, versions, path."""
    if report.paths is not None:
        return [f"{one.bytes}\t{one.versions}\t{printable(one.path)}" for one in report.paths]
    return [
        f"{printable(one.name)}\t{iso_time(one.time_ns)}\t{one.backups}\t{one.bytes}\t{one.freed}"
        for one in report.experiments
    ]


def removal_text(report: RemovalReport, tr: Translator) -> list[str]:
    """What `rm` ends with: what went, what takes it back, and that nothing is freed yet."""
    gone = [str(one.name) for one in report.plan.removed]
    if report.dry_run:
        lines = plan_text(report.plan, tr)
        lines.append(
            tr("nothing was done: without --dry-run {count} would go into the trash", count=len(gone))
        )
    elif not gone:
        return [tr("nothing to remove: every experiment is kept")]
    else:
        lines = [tr("in the trash now: {names}", names=listed(gone, tr))]
        named = " ".join(map(command_word, gone)) if len(gone) <= LISTED else tr("NAME…")
        lines.append(tr("take back: tensortime undelete {names}", names=named))
    if report.freeable is not None and gone:
        size, count = size_text(report.freeable), report.trashed
        lines.append(
            tr("tensortime gc --trash would then free {size} ({count} in the trash)", size=size, count=count)
            if report.dry_run
            else tr(
                "nothing is freed yet: tensortime gc --trash frees {size} ({count} in the trash)",
                size=size,
                count=count,
            )
        )
    return [*lines, *open_text(report.open_worktrees, tr)]


def plan_text(plan: RemovalPlan, tr: Translator) -> list[str]:
    """A line for each experiment: what happens to it, and why."""
    words = {True: tr("keep"), False: tr("remove")}
    width = max(map(cells, words.values()))
    return [
        f"{pad(words[one.keep], width)}  {printable(one.experiment.name)}  ({printable(tr.text(one.reason))})"
        for one in plan.choices
    ]


def open_text(folders: Sequence[Restored], tr: Translator) -> list[str]:
    """The restored folders of what was removed."""
    return [
        tr("its restored folder stays, and keeps what it came from: {path}", path=printable(one.path))
        for one in folders[:LISTED]
    ]


def command_word(name: str) -> str:
    """A name as a word of a command that can be copied."""
    return quoted(printable(name))


def clearing_text(report: ClearingReport, tr: Translator) -> list[str]:
    """What `rm --worktree` ends with."""
    folder = report.folder
    lines = [tr("removed the restored folder {path}", path=printable(folder.path))]
    if report.changed:
        lines.append(tr("with it went: {paths}", paths=listed(report.changed, tr)))
    if report.pin:
        lines.append(tr("commits that were made in it are kept as {ref}", ref=printable(report.pin)))
    name = command_word(f"{folder.experiment}:{folder.number}")
    return [*lines, tr("restore: tensortime restore {name}", name=name)]


def undelete_text(report: UndeleteReport, tr: Translator) -> list[str]:
    """What `undelete` ends with."""
    return [
        tr("{name} is back", name=printable(one.experiment))
        if one.experiment == one.was
        else tr(
            "{was} is back as {name}: its name was taken meanwhile",
            was=printable(one.was),
            name=printable(one.experiment),
        )
        for one in report.returned
    ]


def trash_text(trash: Trash, limit: int, width: int, now: datetime, tr: Translator) -> list[str]:
    """What `undelete` without a name lists."""
    if not trash.entries:
        return [tr("the trash is empty")]
    rows = [
        (when_text(one.removed_ns, now, tr), size_text(one.experiment.bytes), one.experiment.name)
        for one in trash.entries[:limit]
    ]
    lines = columns((tr("REMOVED"), tr("SIZE"), tr("EXPERIMENT")), rows, min(width, LONG))
    lines += more_line(len(trash.entries), len(rows), tr)
    return [*lines, tr("take back: tensortime undelete {names}", names=tr("NAME…"))]


def trash_lines(trash: Trash) -> list[str]:
    """The trash through a pipe: name, when it was removed, backups, files, bytes, separated by tabs."""
    return [
        f"{printable(one.experiment.name)}\t{iso_time(one.removed_ns)}\t{one.experiment.backups}"
        f"\t{one.experiment.files}\t{one.experiment.bytes}"
        for one in trash.entries
    ]


def damaged_trash(trash: Trash, tr: Translator) -> list[str]:
    """A line for each ref in the trash that leads to no readable backup."""
    return [
        tr("damaged: {ref}: {reason}", ref=printable(one.ref), reason=printable(tr.known(one.reason)))
        for one in trash.damaged
    ]

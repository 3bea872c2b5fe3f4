"""What du, rm and undelete do once they are parsed: one call, one rendering, one exit code."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tensortime import documents, upkeep, upkeep_text
from tensortime.commands import Common, answer, put, put_json, put_long
from tensortime.errors import UsageError
from tensortime.terminal import TerminalMonitor, is_terminal, terminal_width, write_line


def du(common: Common, experiments: Sequence[str], limit: int | None, paths: bool, everything: bool) -> int:
    """`tensortime du`."""

    def work(monitor: TerminalMonitor) -> int:
        report = upkeep.du(
            experiments,
            paths=paths,
            everything=everything,
            directory=common.directory,
            store=common.store,
            monitor=monitor,
        )
        monitor.clear()
        if common.as_json:
            put_json(documents.usage_json(report, limit))
        elif is_terminal(sys.stdout):
            shown = limit or upkeep_text.SHOWN
            put_long(upkeep_text.usage_text(report, shown, columns(), datetime.now(), common.tr))
        else:
            put(upkeep_text.usage_lines(report)[:limit])
        return 0

    return answer(common, work)


def columns() -> int:
    """How wide the terminal is."""
    return terminal_width()


@dataclass(frozen=True)
class Keep:
    """The `--keep-…` options of rm."""

    last: int | None = None
    within: str | None = None
    tags: Sequence[str] = ()
    daily: int | None = None
    weekly: int | None = None


def rm(common: Common, experiments: Sequence[str], keep: Keep, dry_run: bool) -> int:
    """`tensortime rm`."""

    def work(monitor: TerminalMonitor) -> int:
        report = upkeep.rm(
            experiments,
            keep_last=keep.last,
            keep_within=keep.within,
            keep_tags=keep.tags,
            keep_daily=keep.daily,
            keep_weekly=keep.weekly,
            dry_run=dry_run,
            directory=common.directory,
            store=common.store,
            monitor=monitor,
        )
        monitor.clear()
        if common.as_json:
            put_json(documents.removal_json(report))
        else:
            put(upkeep_text.removal_text(report, common.tr))
        return 0

    return answer(common, work)


def rm_worktree(common: Common, experiments: Sequence[str], keep: Keep, dry_run: bool, force: bool) -> int:
    """`tensortime rm --worktree`."""

    def work(_: TerminalMonitor) -> int:
        if len(experiments) != 1 or keep != Keep() or dry_run:
            raise UsageError(
                "--worktree takes one experiment or folder, and of the other options only --force",
                hint="tensortime rm --worktree NAME",
            )
        here = common.resolve(experiments[0])
        named = here if os.path.isdir(os.path.join(here, ".tensortime")) else experiments[0]
        report = upkeep.rm_worktree(named, force=force, directory=common.directory, store=common.store)
        if common.as_json:
            put_json(documents.clearing_json(report))
        else:
            put(upkeep_text.clearing_text(report, common.tr))
        return 0

    return answer(common, work)


def undelete(common: Common, experiments: Sequence[str], limit: int | None) -> int:
    """`tensortime undelete`; without a name the trash is listed."""

    def work(_: TerminalMonitor) -> int:
        if experiments:
            back = upkeep.undelete(experiments, directory=common.directory, store=common.store)
            if common.as_json:
                put_json(documents.undelete_json(back))
            else:
                put(upkeep_text.undelete_text(back, common.tr))
            return 0
        trash = upkeep.trashed(directory=common.directory, store=common.store)
        if common.as_json:
            put_json(documents.trash_json(trash, limit))
        elif is_terminal(sys.stdout):
            shown = limit or upkeep_text.SHOWN
            put_long(upkeep_text.trash_text(trash, shown, columns(), datetime.now(), common.tr))
        else:
            put(upkeep_text.trash_lines(trash)[:limit])
        for line in upkeep_text.damaged_trash(trash, common.tr):
            write_line(sys.stderr, line)
        return 5 if trash.damaged else 0

    return answer(common, work)

"""What verify, gc, purge and doctor do once they are parsed: one call, one rendering, one exit code."""

import sys
from collections.abc import Sequence

from tensortime import documents, maintenance, render_maintenance
from tensortime.answers import PurgeReport
from tensortime.commands import Common, answer, as_typed, put, put_json
from tensortime.errors import UsageError
from tensortime.terminal import TerminalMonitor, is_terminal, write_line


def verify(common: Common, experiment: str | None, read_data: str | None, repair: bool) -> int:
    """`tensortime verify`."""

    def work(monitor: TerminalMonitor) -> int:
        report = maintenance.verify(
            experiment,
            read_data=read_data,
            repair=repair,
            directory=common.directory,
            store=common.store,
            monitor=monitor,
        )
        monitor.clear()
        if common.as_json:
            put_json(documents.verify_json(report))
        else:
            put(render_maintenance.verify_text(report, common.tr))
        return report.exit_code

    return answer(common, work)


def gc(common: Common, dry_run: bool, trash: bool) -> int:
    """`tensortime gc`."""

    def work(monitor: TerminalMonitor) -> int:
        report = maintenance.gc(
            dry_run=dry_run, trash=trash, directory=common.directory, store=common.store, monitor=monitor
        )
        monitor.clear()
        if common.as_json:
            put_json(documents.gc_json(report))
        else:
            put(render_maintenance.gc_text(report, common.tr))
        return report.exit_code

    return answer(common, work)


def purge(common: Common, paths: Sequence[str], yes: bool, dry_run: bool) -> int:
    """`tensortime purge`: the plan, a question, then the deed."""

    def work(monitor: TerminalMonitor) -> int:
        tr, named = common.tr, [as_typed(common, path) for path in paths]

        def call(dry_run: bool) -> PurgeReport:
            report = maintenance.purge(
                named, dry_run=dry_run, directory=common.directory, store=common.store, monitor=monitor
            )
            monitor.clear()
            return report

        if not yes or dry_run:
            plan = call(dry_run=True)
            if dry_run:
                put_purge(common, plan)
                return 0
            if common.as_json or not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
                raise UsageError(
                    "purge cannot be taken back, and nobody is here to be asked",
                    hint="--dry-run shows what would go, --yes does it",
                )
            for line in render_maintenance.purge_text(plan, tr):
                write_line(sys.stderr, line)
            if not plan.commits or not agreed(tr("purge this for good? y/N ")):
                return 0
        report = call(dry_run=False)
        put_purge(common, report)
        return report.exit_code

    return answer(common, work)


def put_purge(common: Common, report: PurgeReport) -> None:
    """What was purged, or would be."""
    if common.as_json:
        put_json(documents.purge_json(report))
    else:
        put(render_maintenance.purge_text(report, common.tr))


def agreed(question: str) -> bool:
    """Ask on the terminal."""
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes", "是")


def doctor(common: Common) -> int:
    """`tensortime doctor`."""

    def work(monitor: TerminalMonitor) -> int:
        report = maintenance.doctor(directory=common.directory, store=common.store, monitor=monitor)
        monitor.clear()
        if common.as_json:
            put_json(documents.doctor_json(report))
        else:
            put(render_maintenance.doctor_text(report, common.tr))
        return report.exit_code

    return answer(common, work)

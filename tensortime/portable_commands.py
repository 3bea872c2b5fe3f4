"""What export and import do once they are parsed: one call, one rendering, one exit code."""

from tensortime import documents, portable, portable_text
from tensortime.commands import Common, answer, put, put_json, shortest
from tensortime.terminal import TerminalMonitor


def export(common: Common, experiment: str, file: str) -> int:
    """`tensortime export`."""

    def work(monitor: TerminalMonitor) -> int:
        report = portable.export_experiment(
            experiment,
            common.resolve(file),
            directory=common.directory,
            store=common.store,
            monitor=monitor,
        )
        monitor.clear()
        if common.as_json:
            put_json(documents.export_json(report))
        else:
            put(portable_text.export_text(report, shortest(report.path), common.tr))
        return report.exit_code

    return answer(common, work)


def import_(common: Common, file: str, name: str | None) -> int:
    """`tensortime import`."""

    def work(monitor: TerminalMonitor) -> int:
        report = portable.import_file(
            common.resolve(file),
            name=name,
            directory=common.directory,
            store=common.store,
            monitor=monitor,
        )
        monitor.clear()
        if common.as_json:
            put_json(documents.import_json(report))
        else:
            put(portable_text.import_text(report, common.tr))
        return 0

    return answer(common, work)

"""Reports of export and import as text: pure."""

from tensortime.answers import ExportReport, ImportReport
from tensortime.messages import Translator
from tensortime.render import missing_lines
from tensortime.text import files_text, listed, printable, quoted, seconds_text, size_text


def export_text(report: ExportReport, file: str, tr: Translator) -> list[str]:
    """What one export wrote; `file`: as a person would type it."""
    lines = [
        tr(
            "exported {name}: {files}, {bytes}; backups: {backups}; in {seconds}",
            name=report.experiment,
            files=files_text(report.files, tr),
            bytes=size_text(report.bytes),
            backups=report.backups,
            seconds=seconds_text(report.seconds, tr),
        ),
        tr("{file}, {size}: anybody can unpack and read it", file=quoted(file), size=size_text(report.size)),
        tr("elsewhere: tensortime import {file}", file=quoted(file)),
    ]
    if report.unlisted:
        names = listed([printable(path) for path in report.unlisted], tr)
        lines.append(tr("not readable without TensorTime, for their names: {paths}", paths=names))
    return [*lines, *missing_lines(report.skipped, tr)]


def import_text(report: ImportReport, tr: Translator) -> list[str]:
    """What one import brought."""
    lines = [
        tr(
            "imported {name}: {files}, {bytes} ({new} new); backups: {backups}; in {seconds}",
            name=report.experiment,
            files=files_text(report.files, tr),
            bytes=size_text(report.bytes),
            new=size_text(report.stored_bytes),
            backups=report.backups,
            seconds=seconds_text(report.seconds, tr),
        ),
    ]
    if report.experiment != report.wanted:
        lines.append(
            tr("the name {wanted} is taken: this is {name}", wanted=report.wanted, name=report.experiment)
        )
    return [
        *lines,
        tr("every byte checked, nothing of it was run; look before you run it"),
        tr("restore: tensortime restore {name}", name=quoted(report.experiment)),
    ]

"""What `tensortime rerun` does once it is parsed. stdout is the command's until it ends, then the verdict's."""

import sys
from collections.abc import Sequence

from tensortime import rerunning
from tensortime.commands import Common, answer, put_json, put_long, shortest
from tensortime.redaction import redact_arguments
from tensortime.rerunning import Begun
from tensortime.running_commands import stdout_for_document
from tensortime.terminal import TerminalMonitor, is_terminal, terminal_width, wants_colour, write_line
from tensortime.text import LONG, printable, quoted


def rerun(
    common: Common,
    experiment: str,
    arguments: Sequence[str],
    verify: bool,
    rebuild: bool,
    into: str | None,
    rtol: float,
    ignore: Sequence[str],
) -> int:
    """`tensortime rerun`; with `--verify` its exit code is the verdict, else the command's."""

    def work(monitor: TerminalMonitor) -> int:
        def on_begun(begun: Begun) -> None:
            monitor.clear()
            words = " ".join(quoted(word) for word in redact_arguments(begun.words))
            facts = {"path": printable(shortest(begun.folder)), "command": printable(words)}
            told = common.tr("{name} runs in {path}: {command}", name=begun.experiment, **facts)
            write_line(sys.stderr, monitor.prefix + told)

        with stdout_for_document(common.as_json):
            report = rerunning.rerun(
                experiment,
                arguments,
                verify=verify,
                rebuild=rebuild,
                into=None if into is None else common.resolve(into),
                rtol=rtol,
                ignore=ignore,
                directory=common.directory,
                store=common.store,
                on_begun=on_begun,
                monitor=monitor,
            )
        monitor.clear()
        if common.as_json:
            from tensortime import verdict_documents

            put_json(verdict_documents.rerun_json(report))
            return report.exit_code
        from tensortime.render_diff import Style
        from tensortime.render_rerun import rerun_text

        width = min(terminal_width(), LONG) if is_terminal(sys.stdout) else None
        put_long(rerun_text(report, Style(common.tr, width, wants_colour(sys.stdout)), shortest(report.path)))
        return report.exit_code

    return answer(common, work)

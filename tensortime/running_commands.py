"""What `tensortime run` does once it is parsed. All that it says itself goes to stderr: stdout is the command's."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from tensortime import running
from tensortime.commands import INTERRUPTED, Common, answer, as_typed, forget_stdout, put_json
from tensortime.errors import UsageError
from tensortime.render_run import begun_text, ended_text
from tensortime.reports import BackupReport
from tensortime.terminal import TerminalMonitor, write_line


def run(
    common: Common,
    words: Sequence[str],
    note: str,
    name: str | None,
    tags: Sequence[str],
    add: Sequence[str],
    isolated: bool,
    keep: bool,
) -> int:
    """`tensortime run`; its exit code is the command's."""

    def work(monitor: TerminalMonitor) -> int:
        if not words:
            raise UsageError("no command to run", hint="tensortime run -- python train.py")
        if keep and not isolated:
            raise UsageError(
                "--keep keeps what --isolated makes", hint="tensortime run --isolated --keep -- …"
            )

        def say(lines: Sequence[str]) -> None:
            monitor.clear()
            for line in lines:
                write_line(sys.stderr, monitor.prefix + line)

        def on_begun(begun: BackupReport) -> None:
            say(begun_text(begun, common.tr))

        with stdout_for_document(common.as_json):
            report = running.run(
                words,
                note=note,
                name=name,
                tags=tags,
                add=[as_typed(common, path) for path in add],
                isolated=isolated,
                keep=keep,
                directory=common.directory,
                store=common.store,
                on_begun=on_begun,
                monitor=monitor,
            )
        say(ended_text(report, common.tr))
        if common.as_json:
            from tensortime import documents  # what a run without --json need not pay

            try:
                put_json(documents.run_json(report))
            except BrokenPipeError:  # whose reader went away; the exit code is the command's all the same
                forget_stdout()
        was_cut_short = report.problem is not None and report.problem.kind == "interrupted"
        return report.exit_code or (INTERRUPTED if was_cut_short else 0)

    return answer(common, work)


@contextlib.contextmanager
def stdout_for_document(as_json: bool) -> Iterator[None]:
    """Keep stdout for the one document of `--json`, that of an error too: what the command writes there goes to stderr."""
    if not as_json:
        yield
        return
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)

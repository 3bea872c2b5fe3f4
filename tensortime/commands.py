"""What each command does once it is parsed: one call, one rendering, one exit code."""

import contextlib
import functools
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from tensortime import api, language, render
from tensortime.errors import TensorTimeError, UsageError, message
from tensortime.messages import Translator
from tensortime.terminal import (
    TerminalMonitor,
    bug_report,
    is_terminal,
    terminal_width,
    wants_colour,
    write_line,
)
from tensortime.text import LONG, quoted

if TYPE_CHECKING:
    from tensortime.experiments import Experiment

INTERRUPTED = 130
BLOCK = 1 << 20


@dataclass(frozen=True)
class Common:
    """The options that every verb takes."""

    directory: str | None = None
    store: str | None = None
    as_json: bool = False

    @functools.cached_property
    def tr(self) -> Translator:
        """The person's language."""
        return language.translator(self.directory, self.store)

    def resolve(self, path: str) -> str:
        """A path as typed after `-C`: as if tensortime had been started there."""
        return os.path.join(self.directory, path) if self.directory and path else path


def answer(common: Common, work: Callable[[TerminalMonitor], int]) -> int:
    """Do the work of a verb; every failure becomes its message and exit code."""
    monitor = TerminalMonitor(sys.stderr, tr=common.tr)
    try:
        try:
            return work(monitor)
        finally:
            monitor.clear()
    except TensorTimeError as error:
        report_error(common, error)
        return error.exit_code
    except KeyboardInterrupt:
        told = common.tr("interrupted, nothing half done is left behind")
        write_line(sys.stderr, f"tensortime: {told}")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nobody is left to tell.
        forget_stdout()
        return 0
    except Exception as problem:
        if os.environ.get("TENSORTIME_DEBUG"):
            raise
        bug = TensorTimeError(
            "something unexpected went wrong: {problem}",
            problem=f"{type(problem).__name__}: {problem}",
            hint=message("please report it with this file: {file}", file=bug_report(problem)),
        )
        report_error(common, bug)
        return bug.exit_code


def report_error(common: Common, error: TensorTimeError) -> None:
    """The error on stderr, and as a document on stdout where that was asked for."""
    for line in render.error_text(error, common.tr):
        write_line(sys.stderr, line)
    if common.as_json:
        from tensortime import documents

        write_line(sys.stdout, documents.json_text(documents.error_json(error)))


def put(lines: Sequence[str]) -> None:
    """Results go to stdout; a reader that went away ends us quietly."""
    stream: TextIO | None = sys.stdout  # None where it was closed: the work is done, nobody listens
    if stream is None:
        return
    encoding = stream.encoding or "utf-8"
    text = "".join(line + "\n" for line in lines)
    with written():
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()


def put_long(lines: Sequence[str]) -> None:
    """As `put`; where a person watches and it does not fit on the terminal, in their pager."""
    if is_terminal(sys.stdout):
        from tensortime import pager  # what scripts need not pay

        if pager.show(lines, sys.stdout, sys.stdin):
            return
    put(lines)


@contextlib.contextmanager
def written() -> Iterator[None]:
    """Turn a disk that is full behind stdout into an error that says so; a broken pipe stays one."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as problem:
        forget_stdout()
        reason = problem.strerror or str(problem)
        raise TensorTimeError("the output cannot be written: {reason}", reason=reason) from problem


def forget_stdout() -> None:
    """Let what is still buffered go nowhere: Python would try once more when it ends, and complain."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def put_json(document: Mapping[str, object]) -> None:
    """The one document of `--json`."""
    from tensortime import documents

    put([documents.json_text(document)])


def welcome(common: Common) -> int:
    """`tensortime` alone: what it is for, and where to begin."""
    tr = common.tr
    examples = [
        ('tensortime backup --note "lr 3e-4"', tr("back up the project now")),
        ("tensortime log", tr("list the experiments")),
        ("tensortime diff @", tr("what has changed since the newest")),
        ("tensortime restore @", tr("bring the newest back, in a new folder")),
    ]
    put(
        [
            tr("TensorTime backs up the whole project at every run: code, data, models."),
            "",
            *(f"  {command:<37} {what}" for command, what in examples),
            "",
            tr("tensortime --help lists all verbs, tensortime VERB --help says all about one."),
        ]
    )
    return 0


def backup(
    common: Common, note: str, name: str | None, add: Sequence[str], ignore: Sequence[str], rehash: bool
) -> int:
    """`tensortime backup`."""

    def work(monitor: TerminalMonitor) -> int:
        report = api.backup(
            directory=common.directory,
            store=common.store,
            note=note,
            name=name,
            ignore=ignore,
            add=[as_typed(common, path) for path in add] or None,
            rehash=rehash,
            from_shell=True,
            monitor=monitor,
        )
        monitor.clear()
        if common.as_json:
            from tensortime import documents

            put_json(documents.backup_json(report))
        else:
            put(render.backup_text(report, common.tr))
        return report.exit_code

    return answer(common, work)


def as_typed(common: Common, path: str) -> str:
    """A path to add: from where the person stands if it is there, else from the project's top."""
    here = common.resolve(path)
    return os.path.abspath(here) if os.path.lexists(here) else path


def log(
    common: Common,
    limit: int | None,
    everything: bool,
    *,
    where: str | None = None,
    since: str | None = None,
    sort: str | None = None,
    reverse: bool = False,
) -> int:
    """`tensortime log`."""

    from tensortime import render_log

    def work(_: TerminalMonitor) -> int:
        report = api.log(
            directory=common.directory,
            store=common.store,
            everything=everything,
            where=where,
            since=since,
            sort=sort,
            reverse=reverse,
        )
        if common.as_json:
            from tensortime import documents

            put_json(documents.log_json(report, limit))
        elif is_terminal(sys.stdout):
            width = terminal_width()
            put_long(
                render_log.log_table(
                    report, render_log.SHOWN if limit is None else limit, width, datetime.now(), common.tr
                )
            )
        else:
            put(render_log.log_lines(report)[:limit])
        for line in render_log.damaged_lines(report, common.tr):
            write_line(sys.stderr, line)
        return 5 if report.damaged else 0

    return answer(common, work)


def show(common: Common, experiment: str, path: str | None) -> int:
    """`tensortime show`."""

    def work(_: TerminalMonitor) -> int:
        if path is not None:
            data, fd = api.read_file(experiment, path, directory=common.directory, store=common.store)
            put_bytes(data, fd)
            return 0
        report = api.show(experiment, directory=common.directory, store=common.store)
        if common.as_json:
            from tensortime import documents

            put_json(documents.show_json(report))
        else:
            put_long(render.show_text(report, common.tr))
        return report.exit_code

    return answer(common, work)


def diff(common: Common, a: str, b: str | None, patch: bool) -> int:
    """`tensortime diff`."""

    def work(monitor: TerminalMonitor) -> int:
        report = api.diff(
            a,
            b,
            patch=patch,
            directory=common.directory,
            store=common.store,
            from_shell=True,
            monitor=monitor,
        )
        monitor.clear()
        if common.as_json:
            from tensortime import documents

            put_json(documents.diff_json(report))
            return 0
        from tensortime.render_diff import Style, diff_text  # only this verb pays for it

        width = None
        if is_terminal(sys.stdout):
            width = min(terminal_width(), LONG)
        style = Style(common.tr, width, wants_colour(sys.stdout))
        put_long(diff_text(report, style, patch=patch))
        return 0

    return answer(common, work)


def put_bytes(data: bytes | None, fd: int | None) -> None:
    """A file's bytes on stdout, as they are."""
    with contextlib.ExitStack() as stack:
        source = io.BytesIO(data or b"") if fd is None else stack.enter_context(os.fdopen(fd, "rb"))
        stream: TextIO | None = sys.stdout
        if stream is not None:
            stack.enter_context(written())
            import shutil  # 4 ms that the other verbs need not pay

            shutil.copyfileobj(source, stream.buffer, BLOCK)
            stream.flush()


def restore(common: Common, experiment: str, destination: str | None, paths: Sequence[str], link: str) -> int:
    """`tensortime restore`."""

    def work(monitor: TerminalMonitor) -> int:
        report = api.restore(
            experiment,
            None if destination is None else common.resolve(destination),
            paths=paths,
            link=link,
            directory=common.directory,
            store=common.store,
            monitor=monitor,
        )
        monitor.clear()
        if common.as_json:
            from tensortime import documents

            put_json(documents.restore_json(report))
        else:
            put([*render.restore_text(report, common.tr), f"cd {quoted(shortest(report.path))}"])
        return report.exit_code

    return answer(common, work)


def shortest(path: str) -> str:
    """A path from the current folder where that is shorter."""
    with contextlib.suppress(OSError):
        relative = os.path.relpath(path)
        return relative if len(relative) < len(path) else path
    return path


def note(common: Common, experiment: str, text: str) -> int:
    """`tensortime note`."""
    return edit(common, lambda: api.note(experiment, text, directory=common.directory, store=common.store))


def tag(common: Common, experiment: str, tags: Sequence[str], remove: bool) -> int:
    """`tensortime tag`; without tags it shows those that there are."""
    if remove and not tags:
        hint = message("tensortime tag {name} --remove TAG", name=experiment)
        report_error(common, error := UsageError("--remove needs a tag", hint=hint))
        return error.exit_code
    return edit(
        common,
        lambda: api.tag(experiment, tags, remove=remove, directory=common.directory, store=common.store),
    )


def edit(common: Common, change: Callable[[], "Experiment"]) -> int:
    """Change something about an experiment, and say how it is now."""

    def work(_: TerminalMonitor) -> int:
        report = change()
        if common.as_json:
            from tensortime import documents

            put_json(documents.experiment_json(report))
        else:
            put(render.edit_text(report, common.tr))
        return 0

    return answer(common, work)


def config(common: Common) -> int:
    """`tensortime config`."""

    def work(_: TerminalMonitor) -> int:
        report = api.settings(directory=common.directory, store=common.store)
        if common.as_json:
            from tensortime import documents

            put_json(documents.settings_json(report))
        else:
            put(render.settings_text(report, terminal_width(), common.tr))
        return 0

    return answer(common, work)

"""What each command does once it is parsed: one call, one rendering, one exit code."""

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

from tensortime import api, documents, maintenance, render, render_maintenance, upkeep, upkeep_text
from tensortime.errors import TensorTimeError, UsageError
from tensortime.messages import Translator, choose_language
from tensortime.reports import PurgeReport
from tensortime.terminal import TerminalMonitor, bug_report, is_terminal, write_line

INTERRUPTED = 130
BLOCK = 1 << 20


@dataclass(frozen=True)
class Common:
    """The options that every verb takes."""

    directory: str | None = None
    store: str | None = None
    as_json: bool = False

    def resolve(self, path: str) -> str:
        """A path as typed after `-C`: as if tensortime had been started there."""
        return os.path.join(self.directory, path) if self.directory and path else path


def answer(common: Common, work: Callable[[TerminalMonitor], int]) -> int:
    """Do the work of a verb; every failure becomes its message and exit code."""
    monitor = TerminalMonitor(sys.stderr)
    try:
        try:
            return work(monitor)
        finally:
            monitor.clear()
    except TensorTimeError as error:
        report_error(common, error)
        return error.exit_code
    except KeyboardInterrupt:
        write_line(sys.stderr, "tensortime: interrupted, nothing half done is left behind")
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
            hint=f"please report it with this file: {bug_report(problem)}",
        )
        report_error(common, bug)
        return bug.exit_code


def report_error(common: Common, error: TensorTimeError) -> None:
    """The error on stderr, and as a document on stdout where that was asked for."""
    for line in render.error_text(error):
        write_line(sys.stderr, line)
    if common.as_json:
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
    put([documents.json_text(document)])


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
            monitor=monitor,
        )
        monitor.clear()
        if common.as_json:
            put_json(documents.backup_json(report))
        else:
            put(render.backup_text(report))
        return report.exit_code

    return answer(common, work)


def as_typed(common: Common, path: str) -> str:
    """A path to add: from where the person stands if it is there, else from the project's top."""
    here = common.resolve(path)
    return os.path.abspath(here) if os.path.lexists(here) else path


def log(common: Common, limit: int | None, everything: bool) -> int:
    """`tensortime log`."""

    def work(_: TerminalMonitor) -> int:
        report = api.log(directory=common.directory, store=common.store, everything=everything)
        if common.as_json:
            put_json(documents.log_json(report, limit))
        elif is_terminal(sys.stdout):
            width = shutil.get_terminal_size((80, 24)).columns
            put(render.log_table(report, render.SHOWN if limit is None else limit, width, datetime.now()))
        else:
            put(render.log_lines(report)[:limit])
        for line in render.damaged_lines(report):
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
            put_json(documents.show_json(report))
        else:
            put([*render.show_text(report), *render_maintenance.purged_text(report.run, translator())])
        return 0

    return answer(common, work)


def put_bytes(data: bytes | None, fd: int | None) -> None:
    """A file's bytes on stdout, as they are."""
    with contextlib.ExitStack() as stack:
        source = io.BytesIO(data or b"") if fd is None else stack.enter_context(os.fdopen(fd, "rb"))
        stream: TextIO | None = sys.stdout
        if stream is not None:
            stack.enter_context(written())
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
            put_json(documents.restore_json(report))
        else:
            put([*render.restore_text(report), f"cd {render.quoted(shortest(report.path))}"])
        return report.exit_code

    return answer(common, work)


def shortest(path: str) -> str:
    """A path from the current folder where that is shorter."""
    with contextlib.suppress(OSError):
        relative = os.path.relpath(path)
        return relative if len(relative) < len(path) else path
    return path


def du(common: Common, experiments: Sequence[str], limit: int | None, paths: bool, everything: bool) -> int:
    """`tensortime du`."""

    def work(_: TerminalMonitor) -> int:
        report = upkeep.du(
            experiments, paths=paths, everything=everything, directory=common.directory, store=common.store
        )
        if common.as_json:
            put_json(documents.usage_json(report, limit))
        elif is_terminal(sys.stdout):
            put(upkeep_text.usage_text(report, limit or upkeep_text.SHOWN, columns(), datetime.now()))
        else:
            put(upkeep_text.usage_lines(report)[:limit])
        return 0

    return answer(common, work)


def columns() -> int:
    """How wide the terminal is."""
    return shutil.get_terminal_size((80, 24)).columns


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

    def work(_: TerminalMonitor) -> int:
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
        )
        if common.as_json:
            put_json(documents.removal_json(report))
        else:
            put(upkeep_text.removal_text(report))
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
            put(upkeep_text.clearing_text(report))
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
                put(upkeep_text.undelete_text(back))
            return 0
        trash = upkeep.trashed(directory=common.directory, store=common.store)
        if common.as_json:
            put_json(documents.trash_json(trash, limit))
        elif is_terminal(sys.stdout):
            put(upkeep_text.trash_text(trash, limit or upkeep_text.SHOWN, columns(), datetime.now()))
        else:
            put(upkeep_text.trash_lines(trash)[:limit])
        for one in trash.damaged:
            write_line(sys.stderr, f"damaged: {render.printable(one.ref)}: {render.printable(one.reason)}")
        return 5 if trash.damaged else 0

    return answer(common, work)


def translator() -> Translator:
    """The reader's language."""
    return Translator(choose_language(os.environ))


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
            put(render_maintenance.verify_text(report, translator()))
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
            put(render_maintenance.gc_text(report, translator()))
        return report.exit_code

    return answer(common, work)


def purge(common: Common, paths: Sequence[str], yes: bool, dry_run: bool) -> int:
    """`tensortime purge`: the plan, a question, then the deed."""

    def work(monitor: TerminalMonitor) -> int:
        tr, named = translator(), [as_typed(common, path) for path in paths]

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
        put(render_maintenance.purge_text(report, translator()))


def agreed(question: str) -> bool:
    """Ask on the terminal."""
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes", "是")


def doctor(common: Common) -> int:
    """`tensortime doctor`."""

    def work(_: TerminalMonitor) -> int:
        report = maintenance.doctor(directory=common.directory, store=common.store)
        if common.as_json:
            put_json(documents.doctor_json(report))
        else:
            put(render_maintenance.doctor_text(report, translator()))
        return report.exit_code

    return answer(common, work)

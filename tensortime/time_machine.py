"""TimeMachine: the face that train.py sees. It never stops a training because a backup failed, unless `strict`.

The parameters of `TimeMachine(backup_dir, exp_dir, exp_suffix)` and `backup(ignore, add)` are those of
tensortime 0.1.0, by position and by keyword.
"""

import atexit
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from tensortime import ranks
from tensortime.errors import (
    BadConfig,
    BadName,
    ForeignFolder,
    Message,
    NotAProject,
    OutsideProject,
    TensorTimeError,
    UsageError,
    message,
)
from tensortime.messages import Translator
from tensortime.names import ExperimentName, default_name, problem_of, suggest_name
from tensortime.reports import BackupReport
from tensortime.whereabouts import begun_by_hook, configured_strict, start_folder, store_with

if TYPE_CHECKING:
    from tensortime.aftermath import Aftermath
    from tensortime.backlog import Backlog
    from tensortime.recorder import Recorder

PathLike = str | os.PathLike[str]

PREFIX = ">> tensortime: "
PROMPT = message("note for this experiment (Enter: none)")
PROMPT_SECONDS = 60.0
"""Without a key for so long the training goes on."""

NOTHING_DONE = BackupReport(experiment=None)


BUSY: set[int] = set()
"""The threads that make a backup now."""


class TimeMachine:
    """One experiment: its first `backup()` starts it, later ones add to it.

    Args:
        backup_dir: the store's folder, relative to the project; default `tensortime`.
        exp_dir: the experiment's name; default: time and note.
        exp_suffix: the experiment's note. With neither this nor `exp_dir`, a person at the terminal is asked.
        strict: raise where a backup fails, instead of warning and going on.
    """

    def __init__(
        self,
        backup_dir: PathLike | None = None,
        exp_dir: str | None = None,
        exp_suffix: str | None = None,
        *,
        strict: bool = False,
    ) -> None:
        expect(backup_dir, "backup_dir", (str, os.PathLike), optional=True)
        expect(exp_dir, "exp_dir", (str,), optional=True)
        expect(exp_suffix, "exp_suffix", (str,), optional=True)
        expect(strict, "strict", (bool,))
        self.backup_dir = None if backup_dir is None else os.fspath(backup_dir)
        self.strict = strict
        self.note = self._suffix = exp_suffix or ""
        self._tells_note = True
        self.experiment: ExperimentName | None = None
        """The experiment's name, once there is a backup."""
        self._wanted = None if exp_dir is None else self._name_of(exp_dir)
        self._lock = threading.Lock()
        self._starting = threading.RLock()
        self._store = ""
        self._joined: ExperimentName | None = None
        self._recorder: Recorder | None = None
        self._may_record: bool | None = None
        """Whether this process is the one that records; None: to be found out."""
        self._has_complained = False
        self._aftermath: Aftermath | None = None
        """Of the last backup that did not wait."""
        # Asked for here, as in 0.1.0: before the data are loaded, while the person still looks.
        if exp_dir is None and exp_suffix is None and can_ask():
            self.note = ask_note(self.tr)

    @functools.cached_property
    def tr(self) -> Translator:
        """The person's language."""
        return translator(self.backup_dir)

    def backup(
        self,
        ignore: Sequence[PathLike] | None = None,
        add: Sequence[PathLike] | None = None,
        *,
        note: str | None = None,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, object] | None = None,
        rehash: bool = False,
        wait: bool = True,
    ) -> BackupReport:
        """Back up the project; with `add`, put only these files and folders on top of the last backup.

        Args:
            ignore: patterns of what to leave out, in the syntax of .gitignore.
            add: paths, relative to the project (or the current folder).
            note: replaces the experiment's note.
            params, metrics: recorded; `tensortime show` and `log --json` give them back.
            rehash: read every file, whatever its times say.
            wait: False returns once the small files are stored: the large ones follow in the background, the
                experiment is `pending` until then, and the process waits for them at its exit. A file that changes
                before its turn comes is `changed`. What fails by then is a warning, with `strict` too. The next backup
                of this object waits for all of them.

        Returns:
            What was stored; `queued` is what follows. Its `experiment` is None where nothing was: on other ranks, in child processes, with
            TENSORTIME=off, and after a failure that was only warned about.

        Raises:
            TypeError, UsageError: a wrong call, always. TensorTimeError: any failure, if `strict`.
        """
        ignored, added = paths_of(ignore, "ignore"), None if add is None else paths_of(add, "add")
        expect(note, "note", (str,), optional=True)
        expect(params, "params", (Mapping,), optional=True)
        expect(metrics, "metrics", (Mapping,), optional=True)
        expect(wait, "wait", (bool,))
        self._may_record = ranks.why_not_here(os.environ) is None
        if not self._may_record:
            return NOTHING_DONE
        if threading.get_ident() in BUSY:
            # A signal handler asks for it: it would wait for its own thread, for ever.
            warn_line(message("no backup: this call interrupted one in the same thread"), self.tr)
            return NOTHING_DONE
        with busy(), self._lock:
            if note is not None:
                self.note, self._tells_note = note, True
            try:
                return self._back_up(ignored, added, params, metrics, rehash, wait)
            except KeyboardInterrupt:
                warn_line(
                    message("interrupted: no backup was made, nothing half done is left behind"), self.tr
                )
                raise
            except Exception as problem:
                if (
                    self.strict
                    or configured_strict()
                    or (isinstance(problem, UsageError) and not self._is_surroundings(problem))
                ):
                    raise
                warn(problem, self.tr)
                return NOTHING_DONE

    def record(self, /, *, step: object = None, **values: object) -> None:
        """Record values, such as `loss=0.1`; `tensortime log` shows the last of each, the next backup holds all.

        Some microseconds a call: it may be called at every step. Until there is an experiment (the first `backup()`)
        they are held in memory. On other ranks and in child processes nothing is done.

        Raises:
            TypeError: without a value. TensorTimeError: any failure, if `strict`.
        """
        if not values or "time" in values:
            wrong = 'has a "time" of its own' if values else "takes values by name, such as loss=0.1"
            raise TypeError(f"record() {wrong}")
        if self._may_record is None:
            self._may_record = ranks.why_not_here(os.environ) is None
        if not self._may_record:
            return
        try:
            recorder = self._recorder or self._start_recording()
            if recorder.is_own:
                recorder.record(values if step is None else {"step": step, **values})
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is not worth a training
            self._complain(problem)

    def _start_recording(self) -> "Recorder":
        """What appends; to the experiment, if there is one by now."""
        from tensortime.recorder import Recorder

        with self._starting:
            if self._recorder is None:
                self._recorder = Recorder()
                atexit.register(tell_of_missing, self._recorder, self)
                begun = self.experiment or self._begun_elsewhere()
                store = self._store or (begun and store_with(begun, self._asked_store))
                if begun and store:
                    self._attach(store, begun)
            return self._recorder

    def _attach(self, store: str, experiment: ExperimentName) -> None:
        """Let what is recorded go to an experiment, if anything is."""
        self._store = store
        if self._recorder is not None:
            try:
                self._recorder.attach(store, experiment)
            except OSError as problem:
                self._complain(problem)

    def _complain(self, problem: Exception) -> None:
        """Warn, once, that something cannot be recorded; with `strict` raise."""
        from tensortime import lookup
        from tensortime.terminal import failure_message

        if isinstance(problem, OSError):
            problem = lookup.environment_failure(self._store, problem)
        if self.strict or configured_strict():
            raise problem
        if not self._has_complained:
            told = failure_message(problem)
            warn_line(message("NOT recorded: {problem}; training goes on", problem=told), self.tr)
        self._has_complained = True

    def _name_of(self, text: str) -> ExperimentName:
        """The experiment name nearest to `text`; BadName if nothing of it can be one. Said where it differs."""
        if problem_of(text) is None:
            return ExperimentName(text)
        name = ExperimentName(suggest_name(text) or text)
        line = message(
            "the name {text} is not possible everywhere: {name} is used", text=repr(text), name=name
        )
        warn_line(line, self.tr)
        return name

    def _named_by_environment(self) -> ExperimentName | None:
        """The experiment that TENSORTIME_EXPERIMENT names; one warning, or with strict BadName, where none can be."""
        named = os.environb.get(b"TENSORTIME_EXPERIMENT", b"").decode("utf-8", "surrogateescape")
        try:
            return self._name_of(named) if named else None
        except BadName as problem:
            if self.strict or configured_strict():
                raise
            told = {"variable": "TENSORTIME_EXPERIMENT", "problem": problem.message}
            warn_line(message("{variable} has no effect: {problem}", **told), self.tr)
            return None

    def _begun_elsewhere(self) -> ExperimentName | None:
        """The experiment that `run`, an earlier try of this job, or the shell hook began for this process."""
        with self._starting:
            if self._joined is None:
                self._joined = self._named_by_environment()
            if self._joined is None and self._wanted is None:
                self._joined = begun_by_hook(self.backup_dir)
            return self._joined

    @property
    def _asked_store(self) -> str | None:
        """The store that was asked for; in a command of `tensortime run` the one that this has chosen, as it tells us."""
        joins = os.environ.get("TENSORTIME_EXPERIMENT") and os.environ.get("TENSORTIME_STORE")
        return None if joins else self.backup_dir

    def _is_surroundings(self, problem: UsageError) -> bool:
        """Whether the call was right and the folder around it is not.

        Somebody may be editing tensortime.toml while the training runs, a job may start in the home folder, or its
        weights may go to another disk: found out hours later, that is no reason to stop it.
        """
        found_there = isinstance(problem, ForeignFolder) and self.backup_dir is None
        return found_there or isinstance(problem, BadConfig | NotAProject | OutsideProject)

    def _back_up(
        self,
        ignore: Sequence[str],
        add: Sequence[str] | None,
        params: Mapping[str, object] | None,
        metrics: Mapping[str, object] | None,
        rehash: bool,
        wait: bool,
    ) -> BackupReport:
        """One backup, with what is said about it."""
        if not (sys.platform.startswith("linux") or sys.platform == "darwin"):
            raise TensorTimeError("backups work on Linux and macOS only")
        from tensortime import api, render
        from tensortime.terminal import TerminalMonitor, write_line

        if self._aftermath is not None:
            self._aftermath.wait()
        backlog = None if wait else new_backlog()
        monitor = TerminalMonitor(sys.stderr, PREFIX, tr=self.tr)
        if ignore and add is not None:
            monitor.warn(message("ignore has no effect together with add"))
        joined = None if self.experiment is not None else self._begun_elsewhere()
        name = self.experiment or joined or self._wanted
        if name is None and self._suffix and self.note != self._suffix:
            # Both were given: the suffix is what the name is looked for by.
            name = default_name(datetime.now(), self._suffix)
        joins = self.experiment is not None or joined is not None or (add is not None and name is not None)
        try:
            report = api.backup(
                directory=start_folder(),
                store=self._asked_store,
                name=name,
                # Once only: a person may have given it another note since.
                note=self.note if self._tells_note else "",
                ignore=() if add is not None else ignore,
                add=add,
                joins=joins,
                params=params,
                metrics=metrics,
                rehash=rehash,
                backlog=backlog,
                monitor=monitor,
            )
        finally:
            monitor.clear()
        self.experiment, self._tells_note = report.experiment, False
        if report.experiment is not None:
            self._attach(report.store, report.experiment)
        for line in render.backup_text(report, self.tr):
            write_line(sys.stderr, PREFIX + line)
        if backlog is not None and report.queued:
            from tensortime.aftermath import Aftermath

            self._aftermath = Aftermath(backlog, lambda: sys.stderr, PREFIX, self.tr)
            self._aftermath.begin()
        return report


def expect(value: object, name: str, kinds: tuple[type, ...], *, optional: bool = False) -> None:
    """TypeError unless `value` is of one of these kinds (or None, if optional)."""
    if isinstance(value, kinds) or (optional and value is None):
        return
    wanted = " or ".join(kind.__name__ for kind in kinds)
    raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def paths_of(values: Sequence[PathLike] | None, name: str) -> list[str]:
    """A list of patterns or paths; TypeError for a single string, which would be taken apart letter by letter."""
    if values is None:
        return []
    if isinstance(values, str | bytes | os.PathLike) or not hasattr(values, "__iter__"):
        raise TypeError(f'{name} must be a list, such as ["data"], not {type(values).__name__}')
    for value in values:
        expect(value, f"each entry of {name}", (str, os.PathLike))
    return [os.fspath(value) for value in values]


def new_backlog() -> "Backlog":
    """Where a backup that does not wait leaves its large files."""
    from tensortime.backlog import Backlog

    return Backlog()


def translator(store: str | None = None) -> Translator:
    """The language of the person in front of this training."""
    from tensortime import language

    return language.translator(start_folder(), store)


def tell_of_missing(recorder: "Recorder", machine: TimeMachine) -> None:
    """At the end of the program: a warning if something that was recorded is in no experiment."""
    if not recorder.is_own or not recorder.missing or ranks.why_not_here(os.environ) is not None:
        return
    lost = message("records that are lost, as they could not be written: {count}", count=recorder.missing)
    if not recorder.is_open:
        lost = message("records that are lost, as no backup was made: {count}", count=recorder.missing)
    warn_line(lost, machine.tr)


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Note that this thread makes a backup."""
    me = threading.get_ident()
    BUSY.add(me)
    try:
        yield
    finally:
        BUSY.discard(me)


def can_ask() -> bool:
    """Whether a person can answer: rank 0, main process, no notebook, no CI, in the foreground of a terminal."""
    if ranks.why_not_here(os.environ) is not None or "ipykernel" in sys.modules:
        return False
    # In CI nobody answers; a joined experiment has its note.
    if os.environ.get("CI") or os.environ.get("TENSORTIME_EXPERIMENT"):
        return False
    try:
        fd = sys.stdin.fileno()
        # A background job that reads from its terminal is stopped by the kernel: it must not even try.
        return fd == 0 and os.isatty(fd) and os.isatty(2) and os.tcgetpgrp(fd) == os.getpgrp()
    except (AttributeError, OSError, ValueError):
        return False


def ask_note(tr: Translator) -> str:
    """The note that a person types; empty after PROMPT_SECONDS without a key."""
    from tensortime.prompt import ask_line

    # A terminal that went away, a stderr that is somebody's own object: a note is not worth an exception.
    with contextlib.suppress(Exception):
        typed = ask_line(sys.stdin.fileno(), sys.stderr, f"{PREFIX}{tr.text(PROMPT)} ", PROMPT_SECONDS)
        if typed is not None:
            return typed
        warn_line(message("no answer, it goes on without a note (later: tensortime note @ TEXT)"), tr)
    return ""


def warn(problem: Exception, tr: Translator) -> None:
    """One clear warning about a backup that failed; training goes on."""
    from tensortime.terminal import failure_message

    warn_line(
        message("NO BACKUP was made: {problem}; training goes on", problem=failure_message(problem)), tr
    )


def warn_line(line: Message, tr: Translator) -> None:
    """A warning on stderr that cannot itself fail."""
    from tensortime.terminal import message_text, write_line

    write_line(sys.stderr, PREFIX + message_text(line, tr))

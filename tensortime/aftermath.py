"""What becomes of a backup that did not wait: said when it ends, waited for at exit.

At exit the threads of a program have ended, no new one can begin, and what atexit calls runs while ours still works:
so it is waited for there, with progress. Ctrl-C ends that, and what is stored by then is kept.
"""

import atexit
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from tensortime.backlog import Backlog, Outcome
from tensortime.errors import message
from tensortime.messages import Translator
from tensortime.render import skipped_text
from tensortime.terminal import PATIENCE, PAUSE, TerminalMonitor, failure_message, message_text, write_line
from tensortime.text import files_text, listed, printable, quoted, seconds_text, size_text

END_SECONDS = 10.0
"""So long a file that is being stored may take to give up, after Ctrl-C."""

FEW = 3
"""Paths, or folders, that a command names."""

Stream = Callable[[], TextIO | None]
"""Where to write, now: a program may replace its stderr."""


class Aftermath:
    """Says how a backlog ends, and lets the program wait for that."""

    def __init__(self, backlog: Backlog, stream: Stream, prefix: str, tr: Translator) -> None:
        self.backlog, self.stream, self.prefix, self.tr = backlog, stream, prefix, tr
        self.lock = threading.RLock()  # a signal handler may ask while its thread has it
        self.monitor: TerminalMonitor | None = None
        """While somebody waits."""
        self.shown = (0, 0)
        """Files and bytes of which the monitor knows that they are done."""
        self.told = False

    def begin(self) -> None:
        """Let the thread begin, and have it waited for at exit."""
        if not UNFINISHED:
            atexit.unregister(finish_all)
            atexit.register(finish_all)
        UNFINISHED.append(self)
        self.backlog.start(self.tell)
        if not threading.main_thread().is_alive():
            self.finish()  # atexit called this backup, and calls nothing that is registered by now

    def tell(self, outcome: Outcome) -> None:
        """Say how it ended; called in its thread."""
        self.hide()
        with self.lock:
            self.told = True
            # A list of lines that cannot be made is no reason for a traceback out of a thread.
            with contextlib.suppress(Exception):
                for line in outcome_text(outcome, self.tr):
                    write_line(self.stream(), self.prefix + line)
        with contextlib.suppress(ValueError):
            UNFINISHED.remove(self)

    def wait(self) -> None:
        """Return when it has ended; what takes longer than a moment shows how far it is."""
        backlog, patient_until = self.backlog, time.monotonic() + PATIENCE
        try:
            while backlog.is_open:
                backlog.wait(PAUSE)
                if time.monotonic() > patient_until:
                    self.show()
        finally:
            self.hide()

    def show(self) -> None:
        """Draw how far it is; the first time say why the program does not go on."""
        with self.lock:
            backlog = self.backlog
            done = backlog.progress.files, backlog.progress.bytes
            if self.told or not backlog.is_open:
                return
            if self.monitor is None:
                left = len(backlog.files) - done[0], backlog.size - done[1]
                self.monitor = TerminalMonitor(self.stream(), self.prefix, tr=self.tr)
                self.say_waiting(self.monitor, *left)
                self.monitor.begin("store", *left)
                self.shown = done
            self.monitor.advance(done[0] - self.shown[0], done[1] - self.shown[1])
            self.shown = done

    def hide(self) -> None:
        """Take the progress away."""
        with self.lock:
            if self.monitor is not None:
                self.monitor.clear()
            self.monitor = None

    def say_waiting(self, monitor: TerminalMonitor, files: int, size: int) -> None:
        """Why the program does not go on."""
        monitor.say(
            message(
                "the backup is not whole yet, large files to store: {files} ({size}); Ctrl-C ends that",
                files=files,
                size=size,
            )
        )

    def finish(self) -> None:
        """Wait at exit; on Ctrl-C let it end where it is, which says what is missing."""
        try:
            self.wait()
        except KeyboardInterrupt:
            self.backlog.stop.set()
            with contextlib.suppress(KeyboardInterrupt):
                self.backlog.wait(END_SECONDS)


UNFINISHED: list[Aftermath] = []
"""Those that the exit of this process waits for."""


def finish_all() -> None:
    """At exit: wait for all of them."""
    for one in list(UNFINISHED):
        one.finish()


def outcome_text(outcome: Outcome, tr: Translator) -> list[str]:
    """How a backlog ended."""
    name = printable(outcome.experiment)
    lines = []
    if outcome.problem is not None:
        problem = message_text(failure_message(outcome.problem), tr)
        lines.append(
            tr("warning: {text}", text=tr("{name} stays pending: {problem}", name=name, problem=problem))
        )
    elif not outcome.missing and not outcome.skipped:
        facts = {
            "files": files_text(outcome.stored, tr),
            "size": size_text(outcome.bytes),
            "duration": seconds_text(outcome.seconds, tr),
        }
        lines.append(
            tr("{name} is whole: {files}, {size} stored in the background in {duration}", name=name, **facts)
        )
    lines += skipped_text(outcome.skipped, tr)
    if outcome.changed:
        lines.append(
            tr(
                "changed before it was stored, and not as it was when {name} was made: {paths}",
                name=name,
                paths=listed(outcome.changed, tr),
            )
        )
    if outcome.missing:
        lines.append(
            tr(
                "{name} is pending: {files}, {size} are missing ({paths}); {command} stores what is there then",
                name=name,
                files=files_text(len(outcome.missing), tr),
                size=size_text(outcome.missing_bytes),
                paths=listed(outcome.missing, tr),
                command=command_to_add(outcome.experiment, outcome.missing),
            )
        )
    return lines


def command_to_add(experiment: str, paths: Sequence[str]) -> str:
    """The command that stores what is missing; of many paths it names the folders that they are in."""
    named = sorted(paths)
    if len(named) > FEW:
        named = sorted({path.partition("/")[0] for path in named})
    words = ["tensortime", "backup"]
    if len(named) <= FEW:
        words += ["--name", experiment, *(word for path in named for word in ("--add", path))]
    return printable(" ".join(map(quoted, words)))

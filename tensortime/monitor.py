"""How an operation tells what it does: a small protocol that the faces implement."""

import threading
import time
from typing import Protocol

from tensortime.errors import Message


class Monitor(Protocol):
    """Receives facts while an operation runs. Calls come from one thread at a time."""

    def begin(self, step: str, files: int, size: int) -> None:
        """Start a step ("scan", "store", "place", "check", "compare", "count",
        "rewrite", "purge", "repair", "export", "import") of so many files and bytes; 0 where unknown."""

    def advance(self, files: int, size: int) -> None:
        """Some more files and bytes of the current step are done."""

    def say(self, line: Message) -> None:
        """Something a person should read now."""

    def warn(self, line: Message) -> None:
        """Something a person should read, and that may need doing something about."""


class Stopped(Exception):
    """Raised in a thread whose work nobody wants any more."""


class OutOfTime(Stopped):
    """Raised in a thread whose file takes longer than there is time for it."""


class Meter:
    """Reports the bytes of one file from the thread that moves them, and ends that thread when all is to stop."""

    def __init__(
        self,
        monitor: Monitor,
        size: int,
        lock: threading.Lock,
        stop: threading.Event,
        until: float | None = None,
    ) -> None:
        self.monitor, self.left, self.lock, self.stop = monitor, size, lock, stop
        self.until = until
        """The time.monotonic() at which this file is given up."""

    def __call__(self, count: int) -> None:
        """So many more bytes; more than the file has (it is read twice) are not counted. Stopped, OutOfTime."""
        if self.stop.is_set():
            raise Stopped
        if self.until is not None and time.monotonic() > self.until:
            raise OutOfTime
        counted = min(count, self.left)
        self.left -= counted
        with self.lock:
            self.monitor.advance(0, counted)

    def finish(self) -> None:
        """The file is done."""
        with self.lock:
            self.monitor.advance(1, self.left)
        self.left = 0


class NullMonitor:
    """Listens to nothing."""

    def begin(self, step: str, files: int, size: int) -> None:
        """Ignore it."""

    def advance(self, files: int, size: int) -> None:
        """Ignore it."""

    def say(self, line: Message) -> None:
        """Ignore it."""

    def warn(self, line: Message) -> None:
        """Ignore it."""


SILENT = NullMonitor()

"""How an operation tells what it does: a small protocol that the faces implement."""

from typing import Protocol

from tensortime.errors import Message


class Monitor(Protocol):
    """Receives facts while an operation runs. Calls come from one thread at a time."""

    def begin(self, step: str, files: int, size: int) -> None:
        """Start a step ("scan", "store", "place", "check") of so many files and bytes; 0 where unknown."""

    def advance(self, files: int, size: int) -> None:
        """Some more files and bytes of the current step are done."""

    def say(self, line: Message) -> None:
        """Something a person should read now."""

    def warn(self, line: Message) -> None:
        """Something a person should read, and that may need doing something about."""


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

"""Bytes on their way from one descriptor to another, and to whoever keeps them; nothing waits where it could."""

import contextlib
import os
import select
from collections.abc import Callable, Collection

BLOCK = 1 << 16
PIECE = 4096
"""Bytes that are written at once: what a pipe takes whole if it says that it takes anything (POSIX's PIPE_BUF)."""


class Relay:
    """What comes out of `source` goes into `target`. The reader stops while the target does not take it."""

    def __init__(self, source: int, target: int, keep: Callable[[bytes], None] | None = None) -> None:
        self.source, self.target, self.keep = source, target, keep
        self.pending = b""
        self.is_open = True
        """Whether more may come."""
        self.is_screen = os.isatty(target)
        """Whether the target is a terminal: when that hangs up, what is written is still kept."""
        self._is_deaf = False

    def take(self) -> int:
        """Read what there is; the number of bytes, 0 at the end."""
        try:
            data = os.read(self.source, BLOCK)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""  # EIO: nobody holds the other side of this terminal any more
        if not data:
            self.is_open = False
            return 0
        if self.keep is not None:
            self.keep(data)
        if not self._is_deaf:
            self.pending += data
        return len(data)

    def give(self) -> None:
        """Write what the target takes. Where it takes nothing any more, whoever writes shall notice it as we do."""
        try:
            self.pending = self.pending[os.write(self.target, self.pending[:PIECE]) :]
        except BlockingIOError:
            return
        except OSError:
            self.pending = b""
            # A terminal hung up: SIGHUP tells that.
            self._is_deaf = self.is_screen
            if not self._is_deaf:
                self.close()

    def close(self) -> None:
        """Read no more: the writer gets SIGPIPE, or an error."""
        self.is_open = False
        if self.source >= 0:
            with contextlib.suppress(OSError):
                os.close(self.source)
        self.source = -1


def awaited(
    readers: Collection[int], writers: Collection[int], seconds: float | None
) -> tuple[set[int], set[int]]:
    """The descriptors that can be read, and those that can be written, when the first can or the time is over.

    `select` serves terminals everywhere, but no descriptor past 1023, of which a process that calls us may have many.
    """
    try:
        can_read, can_write, _ = select.select(readers, writers, [], seconds)
        return set(can_read), set(can_write)
    except ValueError:
        poll = select.poll()
    for fd in {*readers, *writers}:
        poll.register(fd, (fd in readers) * select.POLLIN | (fd in writers) * select.POLLOUT)
    found = poll.poll(None if seconds is None else seconds * 1000)
    ended = select.POLLERR | select.POLLHUP | select.POLLNVAL
    ready = {fd for fd, events in found if fd in readers and events & (select.POLLIN | ended)}
    return ready, {fd for fd, events in found if fd in writers and events & (select.POLLOUT | ended)}

"""What a command wrote, as a file: the first and the last part of it, without the keys that show as such.

Two files beside it hold the end while the command runs, so that a machine that stops leaves what there was, and a
training that prints for a year fills no disk.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator

from tensortime import fsops
from tensortime.redaction import HIDDEN, redact_output

KEPT = 5_000_000
"""Bytes that are kept of the beginning, and as many of the end."""

HELD = 4096
"""Bytes of an unfinished line that wait for its end: a key is found only where it is whole."""

CUT_LINE = b"\n[tensortime: %d bytes are left out here]\n"
CUT = re.compile(rb"\n\[tensortime: (\d+) bytes are left out here\]\n")
KEY_BEGINS = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
KEY_LINE = re.compile(rb"[A-Za-z0-9+/=]{1,100}")
"""A line of such a key; its lines come one by one, so that only who remembers the first knows what they are."""

KEY_HEADER = re.compile(rb"(?:[\w-]+: [^\r\n]*)?")
LINE_ENDS = (b"\n", b"\r")
"""A progress bar is a line that a carriage return ends."""


class OutputLog:
    """The log of one experiment's command: `write` what comes, `close` it into one file.

    A log that is there already (the job was preempted, and goes on) is continued. Escape sequences stay as they are.
    `secrets`: values that are known to be some, and are hidden wherever they stand in a line. It never fails: what could
    not be written is a `problem`, and all that comes after is only counted.
    """

    def __init__(self, path: str | os.PathLike[str], secrets: Iterable[str] = ()) -> None:
        self.path = os.fspath(path)
        self._secrets = [os.fsencode(value) for value in secrets]
        self.bytes = 0
        """All that came, in bytes, as far as it was written: what waits for the end of its line is not yet in it."""
        self.cut = 0
        """How many of them are in no file any more."""
        self.problem: OSError | None = None
        """Why no more is written."""
        self._waiting: dict[int, bytes] = {}
        self._in_key: set[int] = set()
        """The streams that are in the middle of a private key."""
        self._head = self._tail = -1
        self._head_size = self._older_size = self._newer_size = 0
        with self._forgiving():
            os.makedirs(os.path.dirname(self.path) or ".", mode=0o700, exist_ok=True)
            self._open()

    def write(self, data: bytes, stream: int = 1) -> None:
        """Some more bytes of one of the command's streams; a line is kept together, whichever stream comes between."""
        whole, self._waiting[stream] = split_line(self._waiting.get(stream, b"") + data)
        self._keep(self._without_keys(whole, stream))

    def close(self) -> None:
        """Make the one file of it."""
        for stream in sorted(self._waiting):
            self._keep(self._without_keys(self._waiting.pop(stream), stream))
        with self._forgiving():
            self._join()
        for fd in (self._head, self._tail):
            if fd >= 0:
                os.close(fd)
        self._head = self._tail = -1

    def _without_keys(self, data: bytes, stream: int) -> bytes:
        """Lines without what lies between the first and the last one of a private key."""
        if stream not in self._in_key and b"PRIVATE KEY-----" not in data:
            return data
        kept = []
        for line in data.splitlines(keepends=True):
            body = line.strip()
            if stream in self._in_key and KEY_LINE.fullmatch(body):
                line = line.replace(body, HIDDEN.encode())
            elif stream in self._in_key and not KEY_HEADER.fullmatch(body):
                self._in_key.discard(stream)
            if KEY_BEGINS.search(line):
                self._in_key.add(stream)
            kept.append(line)
        return b"".join(kept)

    def _keep(self, data: bytes) -> None:
        """Write whole lines to where they belong."""
        if not data:
            return
        safe = redact_output(data, self._secrets)
        self.bytes += len(safe)
        if self.problem is not None:
            self.cut += len(safe)
            return
        with self._forgiving():
            if self._tail < 0:
                room = KEPT - self._head_size
                first = safe if len(safe) <= room else safe[: line_end(safe, room)]
                append(self._head, first)
                self._head_size += len(first)
                safe = safe[len(first) :]
            if safe:
                self._keep_end(safe)

    def _keep_end(self, data: bytes) -> None:
        """Write to the newer file of the end; once that is full it is the older one, and what was that is gone."""
        if self._tail < 0 or self._newer_size >= KEPT:
            self._turn()
        append(self._tail, data)
        self._newer_size += len(data)

    def _turn(self) -> None:
        """Begin a new file for the end."""
        if self._tail >= 0:
            os.replace(self._newer, self._older)
            os.close(self._tail)
            self.cut += self._older_size
            self._older_size = self._newer_size
        self._tail = create(self._newer)
        self._newer_size = 0

    def _open(self) -> None:
        """Open the log, and go on where an earlier one ended."""
        self._head = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        self._head_size = os.fstat(self._head).st_size
        self._older_size, self._newer_size = size_of(self._older), size_of(self._newer)
        if self._newer_size or self._older_size:
            self._tail = create(self._newer)
        elif self._head_size > KEPT:
            data = os.pread(self._head, self._head_size, 0)
            end = line_end(data, KEPT) if (found := CUT.search(data)) is None else found.start()
            self.cut = int(found[1]) if found else 0
            self._keep_end(data[found.end() if found else end :])
            os.ftruncate(self._head, end)
            self._head_size = end
        self.bytes = self.cut + self._head_size + self._older_size + self._newer_size

    def _join(self) -> None:
        """Put the end behind the beginning, with a line between where something is missing."""
        if self._tail < 0:
            return
        end = b""
        for path in (self._older, self._newer):
            with contextlib.suppress(FileNotFoundError):
                end += fsops.read_file(path)
        if len(end) > KEPT:
            start = len(end) - KEPT
            start += max(0, end.find(b"\n", start, start + HELD) + 1 - start)
            self.cut += start
            end = end[start:]
        if self.cut:
            append(self._head, CUT_LINE % self.cut)
        append(self._head, end)
        for path in (self._older, self._newer):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    @property
    def _older(self) -> str:
        return self.path + ".1"

    @property
    def _newer(self) -> str:
        return self.path + ".2"

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        """A full disk ends the log, not the training."""
        try:
            yield
        except OSError as problem:
            self.problem = problem


def split_line(data: bytes) -> tuple[bytes, bytes]:
    """What of some output is whole lines, and the rest; an endless line is parted between words."""
    end = max(data.rfind(one) for one in LINE_ENDS) + 1
    if len(data) - end > HELD:
        # Two words stay: what is a key may show only in the word before it.
        end = max(data.rfind(b" ", end, max(data.rfind(b" ", end), end)) + 1, end)
        end = len(data) if len(data) - end > HELD else end
    return data[:end], data[end:]


def line_end(data: bytes, limit: int) -> int:
    """Where the last line ends that fits into so many bytes; in the middle only of a line that is longer than usual."""
    return max(data.rfind(one, 0, limit) for one in LINE_ENDS) + 1 or (limit if limit > HELD else 0)


def size_of(path: str) -> int:
    """The size of a file, 0 where there is none."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def create(path: str) -> int:
    """Open a file of our own to append to it."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def append(fd: int, data: bytes) -> None:
    """Write all of it to the end of an open file."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]

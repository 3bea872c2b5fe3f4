"""What `tm.record()` appends: from one process, to the records of one experiment, one write a line.

Called in the middle of a training loop: some microseconds a call, no lock that a backup holds, no file opened twice.
"""

import math
import os
import threading
from collections import deque
from collections.abc import Mapping

from tensortime.errors import TensorTimeError
from tensortime.records import RECORDS, encode_record, open_records, records_folder
from tensortime.redaction import redact_named
from tensortime.trailers import plain

MOST_WAITING = 10_000
"""Lines that are held in memory as long as there is no experiment; of more the last ones."""

LONGEST_LINE = 1 << 20
"""Bytes; a longer one is data, which belongs into a file of the project."""


class Recorder:
    """Appends to one experiment, once there is one; until then it holds the lines."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._fd = -1
        self._place = ("", "")
        self._is_torn = False
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._lock = threading.RLock()  # a signal handler may record while its thread has it
        self.lost = 0
        """Records that could not be written, or held."""

    @property
    def is_open(self) -> bool:
        """Whether there is an experiment that it appends to."""
        return self._fd >= 0

    @property
    def missing(self) -> int:
        """How many records are in no file."""
        return len(self._waiting) + self.lost

    @property
    def is_own(self) -> bool:
        """False in a process that was forked from the one that made it."""
        return os.getpid() == self._pid

    def record(self, values: Mapping[str, object]) -> None:
        """Append one record, or hold it. OSError, TensorTimeError: it is lost."""
        try:
            line = encode_record({str(key): recorded(str(key), value) for key, value in values.items()})
            if len(line) > LONGEST_LINE:
                raise TensorTimeError(
                    "a record of {size:,} bytes is too long",
                    size=len(line),
                    hint="write such data into a file of the project, and back that up with add",
                )
            fd = self._fd
            if fd < 0:
                if self._hold(line):
                    return
                fd = self._fd
            self._write(fd, line)
        except BaseException:
            self.lost += 1
            raise

    def _hold(self, line: bytes) -> bool:
        """Hold a line; False where an experiment came up meanwhile."""
        with self._lock:
            if self._fd >= 0:
                return False
            self.lost += len(self._waiting) == MOST_WAITING
            self._waiting.append(line)
            return True

    def _write(self, fd: int, line: bytes) -> None:
        """One write. What is left of a line on a full disk is ended before the next."""
        data = b"\n" + line if self._is_torn else line
        self._is_torn = os.write(fd, data) < len(data)
        if self._is_torn:
            self.lost += 1

    def attach(self, store: str, experiment: str) -> None:
        """Append to this experiment from now on, first what was held. Costs nothing where it does so already."""
        with self._lock:
            if self._fd >= 0 and self._place == (store, experiment) and self._is_there():
                return
            old, self._fd = self._fd, -1
            fd = open_records(store, experiment)
            self._place = (store, experiment)
            try:
                self._write_held(fd)
            except OSError:
                os.close(fd)
                raise
            if old >= 0:
                # Closed, its number might be that of a file of the program, while another thread is about to write.
                os.dup2(fd, old, inheritable=False)
                os.close(fd)
            self._fd = old if old >= 0 else fd

    def _write_held(self, fd: int) -> None:
        """Write what was held; what a full disk does not take of it is lost."""
        if not self._waiting:
            return
        data = b"".join(self._waiting)
        written = os.write(fd, data)
        self._is_torn = written < len(data)
        self.lost += data[written:].count(b"\n")
        self._waiting.clear()

    def _is_there(self) -> bool:
        """Whether the open file is still the one that has the name: an experiment may have been removed."""
        try:
            named, opened = os.stat(os.path.join(records_folder(*self._place), RECORDS)), os.fstat(self._fd)
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def recorded(name: str, value: object) -> object:
    """A value as it is recorded: as JSON can hold it, without secrets."""
    if type(value) is float and math.isfinite(value):
        return value
    return redact_named(name, plain(value))

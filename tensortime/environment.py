"""Where and how a program runs: its command, its Python, its machine, the repository around it.

What cannot be found out in time is an `error` among the facts, never an exception.
"""

import contextlib
import hashlib
import os
import re
import sys
import threading
from collections.abc import Sequence

from tensortime import fsops
from tensortime.formats import text_of
from tensortime.redaction import redact_arguments
from tensortime.repository import NOT_IN_TIME, Facts, GitCalls, facts_of_files, facts_of_git, one_line

MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def describe_run(argv: Sequence[str] | None = None) -> Facts:
    """The command as typed, without its secrets, and where it runs; `argv` for another command than this process."""
    command = argv if argv is not None else (sys.orig_argv or sys.argv)
    system = os.uname()
    return {
        "command": redact_arguments([portable(word) for word in command]),
        "cwd": current_folder(),
        "python": {
            "version": sys.version.split()[0],
            "implementation": sys.implementation.name,
            "executable": portable(sys.executable or ""),
            "prefix": portable(sys.prefix),
        },
        "platform": f"{system.sysname} {system.release} {system.machine}",
        "host": portable(system.nodename),
        "pid": os.getpid(),
    }


def portable(text: str) -> str:
    """A string from the system, in the form of `text_of`: the same under every locale."""
    return text_of(os.fsencode(text))


def current_folder() -> str | None:
    """The current folder; None where it was deleted or cannot be read."""
    try:
        return text_of(os.getcwdb())
    except OSError:
        return None


def host_id() -> str:
    """16 hex digits that stay the same on this machine: of its machine id, else of its name."""
    for path in MACHINE_IDS:
        with contextlib.suppress(OSError):
            known = fsops.read_file(os.path.realpath(path), limit=4096).strip().lower()
            if re.fullmatch(rb"[0-9a-f]{32}", known):
                return short_hash(known)
    return short_hash(os.fsencode(os.uname().nodename))


def short_hash(data: bytes) -> str:
    """machine-id(5) asks never to show the id itself, only a keyed hash of it."""
    return hashlib.blake2b(data, digest_size=8, key=b"tensortime host").hexdigest()


class Collector:
    """The facts of one backup; git is asked in a thread of its own, beside the reading of the files."""

    def __init__(self, project: str, argv: Sequence[str] | None = None) -> None:
        self._run = describe_run(argv)
        self._git: Facts | None = {"error": NOT_IN_TIME}
        self._calls = GitCalls()
        self._thread = threading.Thread(target=self._ask, args=(project,), name="tensortime-facts")

    def start(self) -> None:
        """Begin to ask; where no thread can start, the facts will lack what git knows."""
        try:
            self._thread.start()
        except RuntimeError as problem:
            self._git = {"error": one_line(problem)}

    def finish(self, timeout_seconds: float) -> Facts:
        """All facts, after waiting at most so long for those of git; what is late is `"error"` in `"git"`."""
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        facts = {**self._run, "git": self._git}
        self.cancel()
        return facts

    def cancel(self) -> None:
        """End a git that is still running; its thread then ends by itself. May be called again and again."""
        self._calls.stop()

    def _ask(self, project: str) -> None:
        """What the thread does: first what files tell, in a millisecond, then what git adds."""
        known, where = facts_of_files(project)
        if known is None or where is None:
            self._git = known
            return
        self._git = {**known, "error": NOT_IN_TIME}
        self._git = facts_of_git(where, known, self._calls)


def start_collecting(project: str, argv: Sequence[str] | None = None) -> Collector:
    """Start to collect the facts of a backup; its `finish` returns them, its `cancel` gives up."""
    collector = Collector(project, argv)
    collector.start()
    return collector

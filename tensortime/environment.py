"""Where and how a program runs, as far as that is known at once: its command, folder, system, host."""

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Sequence

from tensortime import fsops
from tensortime.formats import text_of
from tensortime.redaction import redact_arguments
from tensortime.repository import Facts

MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def describe_run(argv: Sequence[str] | None = None, folder: str | None = None) -> Facts:
    """The command as typed, without its secrets, and where it runs.

    `argv`, `folder`: another command than this process, and where it was typed.
    """
    command = argv if argv is not None else (sys.orig_argv or sys.argv)
    system = os.uname()
    return {
        "command": redact_arguments([portable(word) for word in command]),
        "cwd": current_folder() if folder is None else portable(folder),
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

"""From the shell hook to the command: the experiment that the backup before a command began, for that to join.

A hook cannot set a variable for the command, so it leaves a record in the store's `.cache/`, and the process that
takes it renames it: of several only one joins. Nothing depends on it: where anything is odd, nobody joins.
"""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from tensortime.fsops import read_file, write_atomic
from tensortime.redaction import redact_arguments

PREFIX, TAKEN = "hook-", "taken"
LATEST_START = 120.0
"""Seconds after the backup within which the command must have started: `cd x && make data && python train.py` takes a
while. Short, as a run that is not joined is an experiment of its own and nothing is lost, while one that joins a record
that somebody else never took would be found under the wrong name."""

EXPANDED = "$`*?[{~"
"""A word with one of these may stand for any words: only the shell knew."""

RANK_GIVEN = re.compile(r"--local[-_]rank(=\d+)?")
"""What deepspeed and torch.distributed.launch put before the script's own arguments."""

KEPT_SECONDS = 7 * 86400.0
"""A training may go on for days before it makes its first backup."""

TICK = 0.02
"""The kernel knows when a process started to a hundredth of a second."""

ANCESTORS = 20
"""Processes between the shell and the training that are looked at; launchers start sessions of their own."""


class Record(NamedTuple):
    """A file in the cache: when it was made, in which session, and whether a process has taken it."""

    made_ns: int
    session: int
    taken: bool
    path: str


def leave(cache: str, project: str, experiment: str, folder: str, words: Sequence[str]) -> None:
    """Leave a record for the command `words`, typed in `folder`; `cache`: the store's `.cache`."""
    now = time.time_ns()
    record = {"project": project, "experiment": experiment, "folder": folder, "words": list(words)}
    with contextlib.suppress(OSError):
        for one in records(cache):
            if now - one.made_ns > KEPT_SECONDS * 1e9:
                os.unlink(one.path)
        path = os.path.join(cache, f"{PREFIX}{os.getsid(0)}-{now}")
        write_atomic(path, json.dumps(record).encode() + b"\n", durable=False)


def claim(cache: str, project: str) -> str | None:
    """The experiment that was begun for this process, and for no other; None if there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        started, sessions = whence()
        for one in records(cache):
            age = started + TICK - one.made_ns / 1e9
            if one.session not in sessions or not 0 <= age < LATEST_START:
                continue
            record = json.loads(read_file(one.path, 1 << 20))
            if record["project"] != project or not runs_this(record["folder"], record["words"]):
                continue
            # The newest is ours or nobody's: where two processes of one line ask, the second gets none.
            if one.taken:
                return None
            os.rename(one.path, f"{one.path}-{TAKEN}")
            return str(record["experiment"])
    return None


def records(cache: str) -> list[Record]:
    """The records in a store's cache, newest first."""
    found = []
    for name in os.listdir(cache):
        session, _, rest = name.removeprefix(PREFIX).partition("-")
        made_ns, _, state = rest.partition("-")
        if name.startswith(PREFIX) and session.isdecimal() and made_ns.isdecimal() and state in ("", TAKEN):
            found.append(Record(int(made_ns), int(session), state == TAKEN, os.path.join(cache, name)))
    return sorted(found, reverse=True)


def runs_this(folder: str, words: Sequence[str]) -> bool:
    """Whether a command typed in `folder` names what this process runs, with the arguments that it has."""
    paths, modules = own_program()
    own = own_arguments(paths, modules)
    return any(
        (
            word.removeprefix("-m") in modules
            or os.path.realpath(os.path.join(folder, os.path.expanduser(word))) in paths
        )
        and any(stand_for(words[at + 1 :], arguments) for arguments in own)
        for at, word in enumerate(words)
    )


def own_arguments(paths: Collection[str], modules: Collection[str]) -> list[list[str]]:
    """What this process was given behind its script or module, without secrets: as it was started, and as it says now.

    A launcher passes the script's arguments on, whatever stood before the script. The script is known by its last name:
    the program may be in another folder by now.
    """
    names = {os.path.basename(path) for path in paths} | set(modules)
    started = redact_arguments(sys.orig_argv)
    found = [
        started[at + 1 :]
        for at, word in enumerate(started)
        if at and (os.path.basename(word) in names or word.removeprefix("-m") in names)
    ]
    found.append(redact_arguments([str(word) for word in sys.argv])[1:])
    return found + [words[1:] for words in found if words and RANK_GIVEN.fullmatch(words[0])]


def stand_for(typed: Sequence[str], arguments: Sequence[str]) -> bool:
    """Whether the shell can have made these arguments of what was typed."""
    at = done = 0
    open_end: tuple[int, int] | None = (
        None  # the last word that may stand for any, and what it stood for up to
    )
    while done < len(arguments):
        if at < len(typed) and is_expanded(typed[at]):
            open_end = at, done
            at += 1
        elif at < len(typed) and typed[at] == arguments[done]:
            at, done = at + 1, done + 1
        elif open_end is not None:
            open_end = open_end[0], open_end[1] + 1
            at, done = open_end[0] + 1, open_end[1]
        else:
            return False
    return all(map(is_expanded, typed[at:]))


def is_expanded(word: str) -> bool:
    """Whether the shell may have made other words of this one."""
    return any(char in EXPANDED for char in word)


def own_program() -> tuple[set[str], set[str]]:
    """What this process runs: the real paths, or the module names, by which a command may have named it."""
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    name = getattr(spec, "name", None)
    if isinstance(name, str) and name != "__main__":  # which a folder or zip file is called that is run
        return set(), {name, name.removesuffix(".__main__")}
    if not isinstance(file, str):
        return set(), set()
    path = os.path.realpath(file)
    folder, base = os.path.split(path)
    return {path, folder} if base == "__main__.py" else {path}, set()


def whence() -> tuple[float, set[int]]:
    """When this process started (now, where the system does not tell), and its session and those of its ancestors."""
    started, sessions = time.time(), {os.getsid(0)}
    pid = os.getpid()
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        for generation in range(ANCESTORS):
            # See proc(5): behind the name in brackets, which may hold anything, comes the third field.
            fields = read_file(f"/proc/{pid}/stat", 1 << 16).rpartition(b")")[2].split()
            if generation == 0:
                age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
                started -= age
            sessions.add(int(fields[3]))
            pid = int(fields[1])
            if pid <= 1:
                break
    return started, sessions - {0}

"""What a command costs, counted by strace: never seconds, which say nothing on a busy machine.

    spent = costs_of(BACKUP, cwd=project)
    assert not within(spent.opened, project)

Counted are the calls of the process, of its threads and of every git that it starts. What a git maps into its memory
is not seen.
"""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builders import AnyPath
from traces import Call, Trace, command_line, parse, unhex

READING = ("read", "pread64", "readv", "preadv", "preadv2", "copy_file_range", "sendfile")
WRITING = ("write", "pwrite64", "writev", "pwritev", "pwritev2")
LOOKING = ("stat", "lstat", "newfstatat", "statx")
SYNCING = ("fsync", "fdatasync", "syncfs", "sync")
OPENING = ("open", "openat", "openat2", "creat")

# `?`: not every kernel has all of them.
NAMES = ",".join(f"?{name}" for name in (*READING, *WRITING, *LOOKING, *SYNCING, *OPENING, "execve"))
STRACE = ("strace", "-f", "--seccomp-bpf", "-xx", "-y", "-s256", "-esignal=none", f"-etrace={NAMES}", "-o")

SETTLED = "from tensortime import intake; intake.LARGE_WINDOW_NS = intake.SMALL_WINDOW_NS = -(10**12)\n"
"""Every file counts as older than the racy window: no test can wait for a minute."""

BACKUP = SETTLED + "from tensortime import api; api.backup()"
"""One backup of the current folder, as a training makes it."""


@dataclass(frozen=True)
class Costs:
    """What one command did; paths are absolute."""

    gits: list[str] = field(default_factory=list)
    """The command of each git in the order in which they began, those that git started itself included."""
    opened: Counter[bytes] = field(default_factory=Counter)
    """How often each file was opened; folders are not counted."""
    read: Counter[bytes] = field(default_factory=Counter)
    """The bytes that were read of each file."""
    written: Counter[bytes] = field(default_factory=Counter)
    """The bytes that were written to each."""
    looked_at: Counter[bytes] = field(default_factory=Counter)
    """How often the stat of each path was asked for."""
    synced: Counter[bytes] = field(default_factory=Counter)
    """How often each file or folder was synced."""


def costs_of(words: str | Sequence[str], *, cwd: Path) -> Costs:
    """Run a program (one text) or a command of the tool (its words) under strace; it must end well."""
    log = cwd.parent / f"{cwd.name}.costs"
    done = subprocess.run(
        [*STRACE, log, *command_line(["-c", words] if isinstance(words, str) else words)],
        cwd=cwd,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = log.read_text("ascii").splitlines()
    log.unlink()
    return sums_of(parse(lines, os.fsencode(cwd), done.returncode))


def sums_of(trace: Trace) -> Costs:
    """What the calls of a trace come to."""
    costs = Costs(gits=[verb for words in trace.commands.values() if (verb := git_verb(words))])
    for call in trace.calls:
        if call.failed and call.name not in LOOKING:
            continue
        if call.name in OPENING and "O_DIRECTORY" not in "".join(call.words):
            costs.opened[unhex(call.result.partition("<")[2])] += 1
        elif call.name in READING:
            costs.read[call.opened(0)] += number_in(call)
        elif call.name in WRITING:
            costs.written[call.opened(0)] += number_in(call)
        elif call.name in LOOKING:
            costs.looked_at[looked_at_by(call)] += 1
        elif call.name in SYNCING:
            costs.synced[call.opened(0) if call.words[0] else b""] += 1
    return costs


def number_in(call: Call) -> int:
    """What a call returned."""
    found = re.match(r"\d+", call.result)
    assert found is not None, call
    return int(found[0])


def looked_at_by(call: Call) -> bytes:
    """The path whose stat was asked for."""
    if call.name in ("stat", "lstat"):
        return call.text(0)
    return call.at(0, 1) if call.text(1) else call.opened(0)


def git_verb(words: Sequence[bytes]) -> str:
    """The command of a git; empty for any other program."""
    if os.path.basename(words[0]) != b"git" and not os.path.basename(words[0]).startswith(b"git-"):
        return ""
    rest = iter(words[1:])
    for word in rest:
        if word in (b"-c", b"-C"):
            next(rest)
        elif not word.startswith(b"-"):
            return word.decode()
    return ""


def within(counts: Counter[bytes], folder: AnyPath, *, without: AnyPath | None = None) -> dict[str, int]:
    """The part of some counts that is below a folder and not below another, by the path from there."""
    top = os.fsencode(folder) + b"/"
    other = (os.fsencode(without) if without else os.path.join(top, b"tensortime")) + b"/"
    found = ((path, count) for path, count in counts.items() if path.startswith(top))
    return {os.fsdecode(path[len(top) :]): count for path, count in found if not path.startswith(other)}

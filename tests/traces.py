"""What a command does to the disk, as strace tells it: every system call that changes something, in order.

    trace = record(["backup"], cwd=project, below=project)
    for call in trace.changing(): ...

The calls are those of the process, of its threads and of every git that it starts.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

CHANGING = (
    *("openat", "write", "pwrite64", "ftruncate", "fallocate", "copy_file_range", "ioctl"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat"),
    *("mkdir", "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "utimensat"),
    *("fsync", "fdatasync", "syncfs", "sync", "flock"),
)
"""The system calls that change what is on a disk, or when it is there."""

UNKNOWN = ("writev", "pwritev", "pwritev2", "sendfile", "splice", "truncate", "mknod", "creat", "open")
"""Those that change something too, and that nobody here calls: a test that meets one below its folder fails."""

OPENED_FOR_CHANGE = re.compile(r"O_CREAT|O_TRUNC")
LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\((.*)| resumed>(.*))")
RESULT = re.compile(r"(.*)\) += (-?\d+|\?)(.*)")
HEX = re.compile(r"\\x([0-9a-f]{2})")


class Call(NamedTuple):
    """One system call."""

    tracee: int
    """The thread that made it."""
    name: str
    words: tuple[str, ...]
    """The arguments as strace writes them, every string in hex."""
    result: str
    """What came back: a number, and the path of a descriptor behind it."""
    number: int
    """How many calls of this name this thread had made then, this one included."""
    entered: int
    """The line at which it began; it ended at the line that its place in the trace says."""
    left: int

    @property
    def failed(self) -> bool:
        """Whether it did nothing."""
        return self.result.startswith(("-", "?"))

    def text(self, word: int) -> bytes:
        """The bytes of a string argument."""
        return unhex(self.words[word])

    def opened(self, word: int) -> bytes:
        """The path of a descriptor that is an argument."""
        return unhex(self.words[word].partition("<")[2])

    def at(self, folder: int, name: int) -> bytes:
        """The path that a descriptor of a folder and a name mean together."""
        return os.path.normpath(os.path.join(self.opened(folder), self.text(name)))

    def paths(self) -> list[bytes]:
        """All absolute paths that are named, by a descriptor or in full."""
        found = [unhex(word) for word in (*self.words, self.result) if "\\x2f" in word]
        return [path for path in found if path.startswith(b"/")]

    @property
    def changes(self) -> bool:
        """Whether it may change something, or decides when that is on the disk."""
        if self.name == "openat":
            return bool(OPENED_FOR_CHANGE.search(self.words[2]))
        if self.name == "ioctl":
            return "FICLONE" in self.words[1] or "BTRFS_IOC_CLONE" in self.words[1]
        return self.name in CHANGING


@dataclass(frozen=True)
class Trace:
    """All calls of a command, in the order in which they ended."""

    calls: Sequence[Call]
    main: int
    """The thread that it began with."""
    commands: Mapping[int, Sequence[bytes]]
    """The command that each process started, by its first thread; threads and `main` have none."""
    below: bytes
    returncode: int

    def changing(self) -> Iterator[Call]:
        """The calls that change something below the folder."""
        for call in self.calls:
            if call.changes and any(path.startswith(self.below) for path in call.paths()):
                yield call


def unhex(word: str) -> bytes:
    """The bytes that strace wrote in hex."""
    return bytes(int(pair, 16) for pair in HEX.findall(word))


def command_line(words: Sequence[str | os.PathLike[str]]) -> list[str]:
    """How a test runs the tool: `-c` and a program, or the words behind `tensortime`."""
    first = [] if words[0] == "-c" else ["-m", "tensortime"]
    return [sys.executable, *first, *(os.fspath(word) for word in words)]


def record(
    words: Sequence[str | os.PathLike[str]], *, cwd: Path, below: Path, env: Mapping[str, str] | None = None
) -> Trace:
    """Run a command of the tool (or `-c` and a program) under strace; what it changes below a folder counts."""
    log = cwd.parent / f"{cwd.name}.trace"
    names = ",".join((*CHANGING, *UNKNOWN, "execve"))
    command = ["strace", "-f", "-xx", "-y", "-s", str(1 << 24), "-e", f"trace={names}", "-e", "signal=none"]
    done = subprocess.run(
        [*command, "-o", log, *command_line(words)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        check=False,
    )
    trace = parse(log.read_text("ascii").splitlines(), os.fsencode(below), done.returncode)
    log.unlink()
    strangers = [
        c for c in trace.calls if c.name in UNKNOWN and any(p.startswith(trace.below) for p in c.paths())
    ]
    assert not strangers, strangers[:3]
    return trace


def parse(lines: Iterable[str], below: bytes, returncode: int) -> Trace:
    """The calls of a log."""
    calls: list[Call] = []
    begun: dict[int, tuple[str, str, int, int]] = {}
    counts: dict[tuple[int, str], int] = {}
    commands: dict[int, Sequence[bytes]] = {}
    main = 0
    for at, line in enumerate(lines):
        found = LINE.match(line)
        if found is None:
            continue
        tracee, name, rest, resumed = int(found[1]), found[2], found[3], found[4]
        main = main or tracee
        if resumed is None:
            counts[tracee, name] = counts.get((tracee, name), 0) + 1
            begun[tracee] = (name, rest.removesuffix(" <unfinished ...>"), counts[tracee, name], at)
            if rest.endswith(" <unfinished ...>"):
                continue
            whole = rest
        else:
            whole = begun[tracee][1] + resumed
        parts = RESULT.fullmatch(whole)
        if parts is None:
            continue  # killed inside it
        _, _, number, entered = begun[tracee]
        call = Call(tracee, name, tuple(parts[1].split(", ")), parts[2] + parts[3], number, entered, at)
        if name == "execve" and not call.failed:
            commands[tracee] = [unhex(word) for word in call.words[1:]]
            if any(word.startswith(b"--git-dir=") for word in commands[tracee]):
                # Who follows this git from its start on does not count what was done between fork and exec.
                counts = {key: count for key, count in counts.items() if key[0] != tracee}
        calls.append(call)
    return Trace(
        calls, main, {one: words for one, words in commands.items() if one != main}, below, returncode
    )

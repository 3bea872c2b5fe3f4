"""kill -9 at a system call that somebody chose: strace lets a process die as it enters its n-th call of a name.

    for strike in strikes_of(record(["rm", "base"], ...)):
        struck = strike.hit(["rm", "base"], cwd=project)

strace counts for each thread and each name. So a call of our own main thread is reached by following that thread
alone, one of another thread by following all of them, if none comes to its number before. A call of git is reached in
git alone: a `git` that stands first in PATH follows the one that is meant.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from traces import Call, Trace, command_line

LIMIT = 100.0
"""Seconds that a command may take, struck or not."""

WRAPPER = """#!/bin/sh
case "$*" in *" {verb} "*) ;; *) exec {git} "$@";; esac
echo >> {count}
[ "$(wc -l < {count})" = {which} ] || exec {git} "$@"
strace -f -o {log} -e signal=none -e trace={name} -e inject={name}:signal=SIGKILL:when={number} {git} "$@"
code=$?
[ $code -lt 128 ] || {parent}
exit $code
"""


class Strike(NamedTuple):
    """A place to die."""

    name: str
    number: int
    """The n-th call of this name."""
    all_threads: bool = False
    verb: str = ""
    """The command of git that is to die; empty for us."""
    which: int = 1
    """The how manieth git with this command."""
    parent: bool = False
    """Whether we die with our git."""

    def hit(self, words: Sequence[str | os.PathLike[str]], *, cwd: Path) -> bool:
        """Run a command in which something dies there; returns whether it came to that."""
        command, env = command_line(words), dict(os.environ)
        log = cwd.parent / "strike.log"
        log.write_bytes(b"")
        if self.verb:
            folder = cwd.parent / "strike-bin"
            env["PATH"] = f"{folder}:{env['PATH']}"
            self.write_wrapper(folder, log)
        else:
            inject = f"inject={self.name}:signal=SIGKILL:when={self.number}"
            follow = ["-f"] if self.all_threads else []
            command = ["strace", *follow, "-o", str(log), "-e", f"trace={self.name}", "-e", inject, *command]
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, timeout=LIMIT, check=False)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return re.search(rb"\) += \?", log.read_bytes()) is not None

    def write_wrapper(self, folder: Path, log: Path) -> None:
        """Put a `git` into a folder that starts the real one, once under strace."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        script = folder / "git"
        script.write_text(
            WRAPPER.format(
                verb=self.verb,
                git=shutil.which("git"),
                count=folder / "count",
                which=self.which,
                log=log,
                name=self.name,
                number=self.number,
                parent="kill -9 $PPID" if self.parent else "exit $code",
            )
        )
        script.chmod(0o755)


def strikes_of(trace: Trace) -> Iterator[Strike]:
    """A strike for every call of a trace that changes something, for those of git two; without what cannot be reached."""
    # Threads of ours have no command of their own; what a git starts runs before the next git of ours begins.
    gits = {one: verb for one, words in trace.commands.items() if (verb := verb_of(words))}
    owner: dict[int, int] = {}
    current = 0
    for call in sorted(trace.calls, key=lambda one: one.entered):
        if call.tracee in gits:
            current = call.tracee
        ours = call.tracee == trace.main or (call.tracee not in gits and call.tracee not in trace.commands)
        owner.setdefault(call.tracee, trace.main if ours else current)
    for call in trace.changing():
        at = owner[call.tracee]
        if call.tracee == trace.main:
            yield Strike(call.name, call.number)
        elif (
            first_with(trace, call, {one for one, of in owner.items() if at in (trace.main, of)})
            == call.tracee
        ):
            if at == trace.main:
                yield Strike(call.name, call.number, all_threads=True)
                continue
            verb = gits[at]
            same = [one for one in gits if gits[one] == verb and one <= at]
            yield from (
                Strike(call.name, call.number, False, verb, len(same), both) for both in (False, True)
            )


def verb_of(words: Sequence[bytes]) -> str:
    """The command of a git that we started; empty for what is none, and for what git starts itself."""
    if not any(word.startswith(b"--git-dir=") for word in words):
        return ""
    rest = [word for word, before in zip(words[1:], words, strict=False) if before != b"-c"]
    return next(word.decode() for word in rest[1:] if not word.startswith(b"-"))


def first_with(trace: Trace, call: Call, among: set[int]) -> int:
    """Which of these threads makes a call of this name and number first."""
    alike = (one for one in trace.calls if (one.name, one.number) == (call.name, call.number))
    return min((one for one in alike if one.tracee in among), key=lambda one: one.entered).tracee

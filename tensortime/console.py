"""A command on a terminal of its own in place of ours: each key goes to it, and what it draws comes to ours.

Our terminal is raw meanwhile, so that the command's own terminal does all that a terminal does: echo, editing, the
signals of Ctrl-C and Ctrl-Z, colours, sizes. The command is in a session of its own under a leader, a copy of this
process that does nothing but wait: without one, Ctrl-Z could not stop it.
"""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import termios
import tty
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from tensortime.relay import Relay, awaited

GLANCE = 0.3
"""Seconds between two looks whether a command in the background came to the foreground: nothing else tells that."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended, as the system says it."""

    status: int
    """As `os.wait` has it."""
    peak: int = 0
    """`ru_maxrss` of it and of what it waited for."""
    refused: int = 0
    """The errno with which it could not be started; then nothing ran."""


@dataclass(frozen=True, slots=True)
class Order:
    """What shall run, where."""

    words: Sequence[str]
    folder: str
    environment: Mapping[str, str]


class Terminal:
    """Our terminal: raw while the command in the foreground has it, else as it was."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.modes = termios.tcgetattr(fd)
        self.is_raw = False
        self._raw_modes = self.modes

    def is_ours(self) -> bool:
        """Whether we are in its foreground: only then may we read it and change it."""
        try:
            return os.tcgetpgrp(self.fd) == os.getpgrp()
        except OSError:
            return False

    def take(self) -> None:
        """Make it raw, if we may and it is not."""
        if not self.is_ours():
            self.is_raw = False
            return
        with contextlib.suppress(termios.error):
            modes = termios.tcgetattr(self.fd)
            if not self.is_raw or modes != self._raw_modes:
                self.modes = modes
                # Not FLUSH: what was typed ahead is for the command.
                tty.setraw(self.fd, termios.TCSADRAIN)
                self.is_raw, self._raw_modes = True, termios.tcgetattr(self.fd)

    def give_back(self) -> None:
        """Put its modes back."""
        if self.is_raw:
            self.is_raw = False
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.fd, termios.TCSADRAIN, self.modes)


class Hosted:
    """A command on a terminal of its own."""

    def __init__(self, order: Order, keep: Callable[[bytes], None], interrupted: Callable[[], None]) -> None:
        self.outcome: Outcome | None = None
        self.pid = 0
        self._terminal = Terminal(0)
        self._interrupted = interrupted
        self._has_modes = self._leaves_ends = False
        self._ends = 0
        self._line = b""
        self._leader = self._reports = -1
        self._master, slave = os.openpty()
        self._keys = Relay(0, self._master, self._watch)
        self._keys.is_screen = True
        self._screen = Relay(self._master, 1, keep)
        self.outputs = [self._screen]
        self._dress()
        self._lead(order, slave)
        os.set_blocking(self._master, False)
        self._take()

    @property
    def inputs(self) -> list[Relay]:
        """Our keyboard, while it is ours."""
        return [self._keys] if self._terminal.is_raw and self.outcome is None else []

    @property
    def watched(self) -> list[int]:
        """What else may become readable: the word of the leader."""
        return [self._reports] if self._reports >= 0 else []

    @property
    def patience(self) -> float | None:
        """Seconds after which to look again even if nothing happens."""
        return None if self._terminal.is_raw else GLANCE

    def look(self) -> None:
        """Hear what the leader says, and whether the terminal is ours now."""
        if self.outcome is None and not self._terminal.is_raw:
            self._dress()
            self._take()
        while self._reports >= 0 and awaited([self._reports], [], 0)[0]:
            data = os.read(self._reports, 512)
            if not data:
                self._end(Outcome(signal.SIGKILL))  # somebody killed the leader
                return
            self._line += data
            while b"\n" in self._line:
                line, _, self._line = self._line.partition(b"\n")
                self._hear(*line.decode("ascii").split())

    def send(self, number: int) -> None:
        """Pass a signal on to the command and all that it started in its process group."""
        if self.pid and self.outcome is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def has_key(self, number: int) -> bool:
        """Whether the keyboard's signals reach the command without us: they do not come to us at all."""
        return False

    def notice(self, number: int) -> None:
        """Our terminal has another size, or we were continued."""
        if number == signal.SIGWINCH:
            copy_size(0, self._master)
        elif number == signal.SIGCONT:
            self._take()

    def close(self) -> None:
        """Put our terminal back as it was."""
        self._terminal.give_back()
        self._screen.close()
        if self._reports >= 0:
            os.close(self._reports)
            self._reports = -1
        if self._leader > 0:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._leader, 0)

    def _lead(self, order: Order, slave: int) -> None:
        """Start the leader, and through it the command."""
        self._reports, report = os.pipe()
        try:
            self._leader = os.fork()
            if not self._leader:
                lead(order, self._master, slave, report)
        except OSError as problem:
            self.outcome = Outcome(0, refused=problem.errno or errno.EIO)
        finally:
            os.close(slave)
            os.close(report)

    def _dress(self) -> None:
        """Make the command's terminal as ours is, once: in the background ours is as some shell wants it."""
        copy_size(0, self._master)
        if not self._has_modes and self._terminal.is_ours():
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._master, termios.TCSANOW, termios.tcgetattr(0))
                self._has_modes, self._leaves_ends = True, False

    def _take(self) -> None:
        """Take our terminal if we may; one of both makes the line ends, ours where it is not raw."""
        self._terminal.take()
        if self._leaves_ends == self._terminal.is_raw:
            self._leaves_ends = not self._terminal.is_raw
            with contextlib.suppress(termios.error):
                modes = termios.tcgetattr(self._master)
                if self._leaves_ends:
                    self._ends, modes[1] = modes[1] & termios.OPOST, modes[1] & ~termios.OPOST
                else:
                    modes[1] |= self._ends
                termios.tcsetattr(self._master, termios.TCSANOW, modes)

    def _watch(self, typed: bytes) -> None:
        """See a Ctrl-C among the keys: the command's terminal makes a signal of it, if it is set to."""
        with contextlib.suppress(termios.error):
            modes = termios.tcgetattr(self._master)
            if modes[3] & termios.ISIG and modes[6][termios.VINTR] in (
                typed[i : i + 1] for i in range(len(typed))
            ):
                self._interrupted()

    def _hear(self, what: str, *numbers: str) -> None:
        """One line of the leader."""
        if what == "started":
            self.pid = int(numbers[0])
        elif what == "stopped":
            self._stop()
        elif what == "refused":
            self._end(Outcome(0, refused=int(numbers[0])))
        else:
            self._end(Outcome(int(numbers[0]), int(numbers[1])))

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        os.close(self._reports)
        self._reports = -1

    def _stop(self) -> None:
        """The command was stopped (Ctrl-Z): so are we, until the shell lets us go on."""
        while awaited([self._master], [], 0)[0] and self._screen.take():
            while self._screen.pending:
                self._screen.give()
        self._terminal.give_back()
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        # All of the job, as the key would. Where no shell could let us go on, this does nothing.
        os.killpg(0, signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL if before is None else before)
        copy_size(0, self._master)
        self._take()
        self.send(signal.SIGCONT)


def lead(order: Order, master: int, slave: int, report: int) -> NoReturn:
    """Be the leader of the command's session, until that ends. Never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        os.close(master)
        os.login_tty(slave)
        watch_over(order, report)
    finally:
        os._exit(0)


def watch_over(order: Order, report: int) -> None:
    """Start the command and say what becomes of it, a line each: refused ERRNO, started PID, stopped, ended STATUS PEAK."""
    try:
        process = start(order, preexec_fn=come_to_front)
    except OSError as problem:
        os.write(report, b"refused %d\n" % (problem.errno or errno.EIO))
        return
    process.returncode = 0  # we wait for it ourselves
    os.write(report, b"started %d\n" % process.pid)
    while True:
        _, status, usage = os.wait4(process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        os.write(report, b"stopped\n")
    # When a leader ends, its foreground gets SIGHUP: that shall not be whom the command left behind.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.tcsetpgrp(0, os.getpgrp())
    os.write(report, b"ended %d %d\n" % (status, usage.ru_maxrss))


def come_to_front() -> None:
    """In the command, before it is itself: take the foreground of its terminal."""
    os.setpgid(0, 0)
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, before)


def start(
    order: Order,
    *,
    stdout: int | None = None,
    stderr: int | None = None,
    preexec_fn: Callable[[], None] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start the command; OSError if it cannot. What we inherited it inherits: make's job server is a descriptor."""

    def popen(words: Sequence[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            words,
            cwd=order.folder,
            env=order.environment,
            stdout=stdout,
            stderr=stderr,
            close_fds=False,
            preexec_fn=preexec_fn,
        )

    try:
        return popen(order.words)
    except OSError as problem:
        if problem.errno != errno.ENOEXEC:
            raise
        # A script without a first line that says for whom: shells take it for one of theirs.
        return popen(["/bin/sh", program_of(order), *order.words[1:]])


def carry_on(source: int, target: int) -> None:
    """Let a process of its own copy what comes, until nobody writes any more: we wait for none of it."""
    copy = "exec 3<&0; cat <&3 3<&- &"  # the shell ends at once, so that nobody has to wait for the copying
    with contextlib.suppress(OSError):
        subprocess.run(
            ["/bin/sh", "-c", copy],
            cwd="/",
            stdin=source,
            stdout=target,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=False,
        )


def program_of(order: Order) -> str:
    """The path of the program that the command's first word names."""
    return shutil.which(order.words[0], path=order.environment.get("PATH", os.defpath)) or order.words[0]


def copy_size(source: int, target: int) -> None:
    """Give one terminal the size of another; who is in its foreground is told."""
    with contextlib.suppress(termios.error, OSError):
        termios.tcsetwinsize(target, termios.tcgetwinsize(source))

"""One command, run so that neither it nor the person at its terminal notices: what it writes goes into a log too.

Where its three streams are one terminal, it gets a terminal of its own in their place (`console`). Otherwise it
stays in our process group, as a bare command would, so that the keys of the terminal, job control and pipelines
work as always; each stream that is a terminal is replaced by one, each other by a pipe, and its input is untouched.
"""

import contextlib
import errno
import functools
import os
import resource
import signal
import stat
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from tensortime.console import Hosted, Order, Outcome, carry_on, copy_size, start
from tensortime.errors import Message, message
from tensortime.outputlog import OutputLog
from tensortime.relay import Relay, awaited

GLANCE = 0.1
"""Seconds between two looks at a command whose end nothing tells."""
NOT_EXECUTABLE, NOT_FOUND = 126, 127
LINGER = 0.5
"""Seconds that the output of a command that ended is still waited for: who it left behind may hold it open."""
LEFT = 1 << 20
"""Bytes that are read after that: as many as a pipe may hold."""

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that tell a command to stop."""
PASSED_ON = (*STOPS, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
NOTICED = (signal.SIGCHLD, signal.SIGWINCH, signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended."""

    exit_code: int
    """As a shell says it: 128+n for a signal, 126 for what cannot be executed, 127 for what was not found."""
    signal: int | None
    """The signal that ended it."""
    started_ns: int
    ended_ns: int
    peak_memory: int | None
    """Bytes of the largest process among it and what it waited for; None where that is less than we took ourselves."""
    interrupted: str
    """The first of SIGINT, SIGTERM, SIGHUP that came while it ran, and that it got; else empty."""
    refused: Message | None = None
    """Why it could not be started."""


def run_command(
    words: Sequence[str], *, folder: str, environment: Mapping[str, str], log: OutputLog | None
) -> Ending:
    """Run a command to its end and tell how it ended; what it writes goes where ours goes, and into the log.

    The signals that come are the command's; in another thread than the main one they are not ours to pass on. The
    caller closes the log.
    """
    order = Order(words, folder, environment)
    started = time.time_ns()
    has_terminal = log is not None and is_main_thread() and is_on_one_terminal()
    with Signals((*PASSED_ON, signal.SIGTSTP) if has_terminal else PASSED_ON) as signals:
        command = hosted(order, log, signals) if has_terminal and log else Plain(order, log)
        try:
            signals.attach(command)
            pump(command, signals)
        finally:
            command.close()
            signals.detach()
    assert command.outcome is not None
    return ending_of(command.outcome, words, started, signals.interrupted)


def hosted(order: Order, log: OutputLog, signals: "Signals") -> "Hosted | Plain":
    """The command on a terminal of its own; where none is to be had, rather without a log than without one."""
    try:
        return Hosted(order, log.write, signals.note_interrupt)
    except OSError as problem:
        log.problem = problem
        return Plain(order, None)


def ending_of(outcome: Outcome, words: Sequence[str], started: int, interrupted: str) -> Ending:
    """What the system said of it, as an Ending."""
    code = os.waitstatus_to_exitcode(outcome.status)
    refused = None
    if outcome.refused:
        is_missing = outcome.refused in (errno.ENOENT, errno.ENOTDIR)
        code = NOT_FOUND if is_missing else NOT_EXECUTABLE
        refused = refusal(words[0], outcome.refused)
    return Ending(
        exit_code=128 - code if code < 0 else code,
        signal=-code if code < 0 else None,
        started_ns=started,
        ended_ns=time.time_ns(),
        peak_memory=peak_of(outcome),
        interrupted=interrupted,
        refused=refused,
    )


def refusal(word: str, problem: int) -> Message:
    """Why a command cannot be started, in a sentence."""
    if problem in (errno.ENOENT, errno.ENOTDIR):
        return message("{command} was not found", command=word)
    return message("{command} cannot be started: {problem}", command=word, problem=os.strerror(problem))


def peak_of(outcome: Outcome) -> int | None:
    """The peak memory of a command in bytes.

    The system counts in what a process was before it became the command: a copy of us. Where that was more, the
    command's own is not known.
    """
    if outcome.refused or outcome.peak <= own_peak():
        return None
    return outcome.peak if sys.platform == "darwin" else outcome.peak * 1024


def own_peak() -> int:
    """The most memory that we had, in the unit of `ru_maxrss`. That itself counts in what started us, before we were we."""
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/self/status", "rb") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(b"VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Signals:
    """The signals of this process while a command runs: they are the command's."""

    def __init__(self, passed_on: Sequence[signal.Signals]) -> None:
        self.passed_on = passed_on
        self.interrupted = ""
        self.fd = -1
        """Becomes readable when something is to be noticed."""
        self._command: Hosted | Plain | None = None
        self._early: list[int] = []
        self._noticed: set[int] = set()
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> "Signals":
        self.fd, self._bell = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._bell, False)
        if not is_main_thread():
            return self
        self._bell_before = signal.set_wakeup_fd(self._bell, warn_on_full_buffer=False)
        for number in (*self.passed_on, *NOTICED):
            before = signal.getsignal(number)
            # What is ignored (nohup) stays so, for the command too; a child that ends is always heard of.
            if before is not signal.SIG_IGN or number == signal.SIGCHLD:
                self._before[number] = before
                signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
        if is_main_thread():
            signal.set_wakeup_fd(self._bell_before)
        os.close(self.fd)
        os.close(self._bell)

    def attach(self, command: "Hosted | Plain") -> None:
        """From now on this command gets them; also those that came before it could."""
        self._command = command
        while self._early and command.pid:
            command.send(self._early.pop(0))

    def detach(self) -> None:
        """Nobody gets them any more."""
        self._command = None

    def note_interrupt(self) -> None:
        """The command was interrupted from the keyboard."""
        self.interrupted = self.interrupted or "SIGINT"

    def noticed(self) -> set[int]:
        """What happened since the last call, beside what was passed on."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fd, 512):
                pass
        found, self._noticed = self._noticed, set()
        return found

    def _hear(self, number: int, _: FrameType | None) -> None:
        if number in NOTICED:
            self._noticed.add(number)
            return
        if number in STOPS:
            self.interrupted = self.interrupted or signal.Signals(number).name
        if self._command is None or not self._command.pid:
            self._early.append(number)
        elif not self._command.has_key(number):
            self._command.send(number)


class Plain:
    """A command in our own process group."""

    def __init__(self, order: Order, log: OutputLog | None) -> None:
        self.outcome: Outcome | None = None
        self.pid = 0
        self.outputs: list[Relay] = []
        self.inputs: list[Relay] = []
        self.watched: list[int] = []
        self.patience = None if is_main_thread() else GLANCE
        self._screens: list[tuple[int, int]] = []
        self._keyboard = -1
        with contextlib.suppress(OSError):
            self._keyboard = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        theirs = self._connect(log) if log is not None else {}
        try:
            process = start(order, stdout=theirs.get(1), stderr=theirs.get(2))
            self.pid, process.returncode = process.pid, 0  # we wait for it ourselves
        except OSError as problem:
            self.outcome = Outcome(0, refused=problem.errno or errno.EIO)
        finally:
            for fd in set(theirs.values()):
                os.close(fd)

    def look(self) -> None:
        """See whether it has ended."""
        if self.outcome is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.outcome = Outcome(status, usage.ru_maxrss)

    def send(self, number: int) -> None:
        """Pass a signal on to the command."""
        if self.pid and self.outcome is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)

    def has_key(self, number: int) -> bool:
        """Whether a signal came from the keyboard: then the command, which is in our group, has it already."""
        if number not in (signal.SIGINT, signal.SIGQUIT) or self._keyboard < 0:
            return False
        try:
            return os.tcgetpgrp(self._keyboard) == os.getpgrp()
        except OSError:
            return False

    def notice(self, number: int) -> None:
        """A terminal of ours has another size: so have those that stand in its place."""
        if number in (signal.SIGWINCH, signal.SIGCONT):
            for ours, theirs in self._screens:
                copy_size(ours, theirs)
            if self._screens:
                self.send(signal.SIGWINCH)

    def close(self) -> None:
        """Close what is open between us and it."""
        for relay in self.outputs:
            # Whom the command left behind would get SIGPIPE at its next word. Of a pipe somebody waits for the end.
            if relay.is_open and self.outcome is not None and is_lasting(relay.target):
                carry_on(relay.source, relay.target)
            relay.close()
        if self._keyboard >= 0:
            os.close(self._keyboard)
            self._keyboard = -1

    def _connect(self, log: OutputLog) -> dict[int, int]:
        """A terminal or pipe for each of our outputs, one where both are one; descriptor to what the command gets."""
        theirs: dict[int, int] = {}
        known: dict[tuple[int, ...], int] = {}
        for fd in (1, 2):
            identity = identity_of(fd)
            if identity is None:
                continue
            if identity not in known:
                try:
                    source, known[identity] = self._screen(fd) if os.isatty(fd) else os.pipe()
                except OSError as problem:
                    log.problem = problem  # none to be had: it gets ours
                    continue
                self.outputs.append(Relay(source, fd, functools.partial(log.write, stream=fd)))
            theirs[fd] = known[identity]
        return theirs

    def _screen(self, fd: int) -> tuple[int, int]:
        """A terminal that stands in place of one of ours, and leaves to that what becomes of the line ends."""
        master, slave = os.openpty()
        with contextlib.suppress(termios.error):
            modes = termios.tcgetattr(fd)
            modes[1] &= ~termios.OPOST
            termios.tcsetattr(slave, termios.TCSANOW, modes)
        copy_size(fd, master)
        self._screens.append((fd, master))
        return master, slave


def pump(command: Hosted | Plain, signals: Signals) -> None:
    """Carry bytes and news until the command has ended and what it wrote is written."""
    deadline, left = None, LEFT
    while True:
        command.look()
        if command.pid:
            signals.attach(command)
        if command.outcome is not None and deadline is None:
            deadline = time.monotonic() + LINGER
        relays = [*command.outputs, *command.inputs]
        is_late = deadline is not None and time.monotonic() >= deadline
        reading = [one for one in relays if one.is_open and not one.pending and not (is_late and left <= 0)]
        writing = [one for one in relays if one.pending]
        if deadline is not None and not any(one.is_open or one.pending for one in command.outputs):
            return
        ready, free = awaited(
            [one.source for one in reading] + command.watched + [signals.fd],
            [one.target for one in writing],
            patience(command, deadline, bool(writing)),
        )
        if is_late and not writing and not any(one.source in ready for one in reading):
            return
        for number in signals.noticed():
            command.notice(number)
        for one in writing:
            if one.target in free:
                one.give()
        for one in reading:
            if one.source in ready:
                count = one.take()
                left -= count if is_late else 0


def patience(command: Hosted | Plain, deadline: float | None, is_writing: bool) -> float | None:
    """Seconds to wait for something to happen; None for as long as it takes."""
    if deadline is None:
        return command.patience
    return None if is_writing else max(0.0, deadline - time.monotonic())


@contextlib.contextmanager
def deaf_to(name: str) -> Iterator[None]:
    """Pass over SIGHUP or SIGTERM, whichever ended the command: of a terminal that hangs up the system and the shell tell.

    Ctrl-C is still heard: a person may not want to wait.
    """
    if name not in ("SIGHUP", "SIGTERM") or not is_main_thread():
        yield
        return
    number = signal.Signals[name]
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL if before is None else before)


def is_main_thread() -> bool:
    """Whether we are in the thread that gets the signals."""
    return threading.current_thread() is threading.main_thread()


def is_on_one_terminal() -> bool:
    """Whether input, output and errors are one terminal, and that is the one which controls us."""
    try:
        os.tcgetpgrp(0)
    except OSError:
        return False
    return all(os.isatty(fd) for fd in (0, 1, 2)) and identity_of(0) == identity_of(1) == identity_of(2)


def is_lasting(fd: int) -> bool:
    """Whether a descriptor is a file or a device: nobody is kept by who holds it open."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISCHR(mode)


def identity_of(fd: int) -> tuple[int, ...] | None:
    """What is behind a descriptor; two that are equal are one file. None where it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return (found.st_rdev,) if os.isatty(fd) else (found.st_dev, found.st_ino)

"""The shell hook: the scripts that shells load, and the backup that they ask for before a command that trains.

The shell waits, so what is not needed to say no is imported late, the backup has two seconds, and whatever happens
the command starts: nothing is raised, asked or returned but 0.
"""

import os
import sys
import time

from tensortime.commandline import Typed, training_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensortime.errors import Message, UsageError
    from tensortime.messages import Translator
    from tensortime.reports import BackupReport

PREFIX = ">> tensortime: "
LINES = 3
"""At most so many are written before a command."""

LARGE_SECONDS = 1.4
"""So long large files are cloned and hashed."""

GIVE_UP_SECONDS = 2.0
"""A backup that is still reading by then is given up."""

END_SECONDS = 2.4
"""One that hangs (a file server that is gone) is ended with its process; until the last step nothing has happened."""

LONGEST_LINE = 80_000
"""Bytes; the scripts pass on no longer one."""

FEW = 3
"""Paths that are named one by one; of more their folders."""

MANY = 8
"""More folders than this make no command that anybody would type."""

SHELLS = {
    "bash": ("~/.bashrc", 'eval "$(tensortime hook bash)"'),
    "zsh": ("~/.zshrc", 'eval "$(tensortime hook zsh)"'),
    "fish": ("~/.config/fish/config.fish", "tensortime hook fish | source"),
}
"""Where each shell looks for the line that loads the hook."""


def script_file(shell: str, what: str = "tensortime") -> str:
    """A script of a shell: in the package where it was installed, beside it in a checkout."""
    package = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(package, "_hooks", f"{what}.{shell}")
    return installed if os.path.exists(installed) else os.path.join(package, "..", "hooks", f"{what}.{shell}")


def print_script(shell: str, what: str = "tensortime") -> int:
    """`tensortime hook bash`: what `eval` takes."""
    with open(script_file(shell, what), encoding="utf-8") as file:
        sys.stdout.write(file.read())
    return 0


def answer(shell: str | None) -> int:
    """`tensortime hook`: the script, or where there is none for this shell, as a wrong call, how it is called."""
    if shell in SHELLS:
        return print_script(str(shell))
    from tensortime.errors import UsageError

    if shell is None:
        error = UsageError(
            "hook needs the name of your shell", hint="put the line of your shell into its file:"
        )
    else:
        error = UsageError(
            "there is no hook for {shell}", shell=shell, hint="put one of these into its file:"
        )
    return put_lines_for_shells(error, SHELLS)


def put_lines_for_shells(error: "UsageError", shells: "Mapping[str, tuple[str, str]]") -> int:
    """Say what is wrong with the call, and which line belongs into which shell's file."""
    from tensortime import language, render
    from tensortime.terminal import write_line

    lines = [f"  {file:<28}{line}" for file, line in shells.values()]
    for line in (*render.error_text(error, language.translator()), *lines):
        write_line(sys.stderr, line)
    return error.exit_code


def before(line: str) -> int:
    """What the scripts call with a typed line: back up first, if it trains in a project that has a store."""
    started = time.monotonic()
    watch: Watch | None = None
    lines: Sequence[str] = ()
    try:
        typed, starts = what_is_meant(line)
        if typed is not None and any(may_have_store(start) for start in starts):
            watch = Watch(started)
            lines = back_up_before(typed, starts, watch)
    except KeyboardInterrupt:
        # The person cancels what was typed: dying of it, without words, tells the shell so.
        sys.excepthook = lambda *_: None
        raise
    except BaseException as problem:  # noqa: BLE001 - a hook that fails is no reason not to run the command
        lines = what_went_wrong(problem)
    if watch is not None:
        watch.done = True
    write(lines)
    return 0


def typed_line() -> str:
    """The line that a script hands over, on stdin."""
    try:
        if sys.stdin is None or sys.stdin.isatty():
            return ""
        return os.fsdecode(sys.stdin.buffer.read(LONGEST_LINE)).removesuffix("\n")
    except (OSError, ValueError):
        return ""


def what_is_meant(line: str) -> "tuple[Typed | None, list[str]]":
    """The command of a line that trains, and the folders that it may be about."""
    try:
        typed = training_command(line, os.getcwd(), os.environ, sys.stdlib_module_names)
        return typed, [] if typed is None else possible_starts(typed)
    except (OSError, ValueError, RecursionError):
        return None, []  # the folder is gone, a path holds a NUL, `uv run` stands there a thousand times


class Watch:
    """Ends this process where the backup hangs, whatever it hangs on."""

    def __init__(self, started: float) -> None:
        import threading

        self.started = started
        self.done = False
        self.last_words = too_slow()  # now: the other thread may hang while it imports something
        timer = threading.Timer(max(0.0, started + END_SECONDS - time.monotonic()), self.end)
        timer.daemon = True
        timer.start()

    def end(self) -> None:
        """The time is over. What was staged is swept by a later backup."""
        if not self.done:
            write(self.last_words)
        os._exit(0)


def possible_starts(typed: Typed) -> list[str]:
    """The folders that a command may be about: where it runs, and its script's. None, if that is not there."""
    here = os.path.realpath(typed.folder)
    if not typed.script or any(char in typed.script for char in "$`*?"):
        return [here]
    script = os.path.realpath(os.path.join(here, os.path.expanduser(typed.script)))
    return [here, os.path.dirname(script)] if os.path.exists(script) else []


def may_have_store(start: str) -> bool:
    """Whether a folder, or one above it, looks as if it had a store: asked before anything is imported."""
    if os.environ.get("TENSORTIME_STORE"):
        return True
    folder, above = start, ""
    while folder != above:
        if any(os.path.exists(f"{folder}/{name}") for name in ("tensortime/.shadow", "tensortime.toml")):
            return True
        if os.path.isfile(f"{folder}/.git") or mentions_us(f"{folder}/pyproject.toml"):
            return True
        folder, above = os.path.dirname(folder), folder
    return False


def mentions_us(path: str) -> bool:
    """Whether a file may hold a configuration of ours."""
    try:
        with open(path, "rb") as file:
            return b"tensortime" in file.read(1 << 20)
    except OSError:
        return False


def back_up_before(typed: Typed, starts: "Sequence[str]", watch: Watch) -> "list[str]":
    """Make the backup, and leave word for the command; returns what to say."""
    from tensortime import api, handover, language, lookup, ranks
    from tensortime.project import start_of
    from tensortime.redaction import redact_arguments
    from tensortime.terminal import message_text

    if ranks.why_not_here(os.environ) is not None or os.environ.get("TENSORTIME_EXPERIMENT"):
        return []
    start = start_of(starts[-1], starts[0])
    place, _ = lookup.locate(start)
    if not lookup.is_backed_up(place):
        return []
    hurry = Hurried(watch.started + GIVE_UP_SECONDS)
    report = api.backup(
        directory=start,
        from_shell=True,
        command=typed.words,
        typed_in=typed.folder,
        large_until=watch.started + LARGE_SECONDS,
        monitor=hurry,
    )
    if report.experiment is None:
        return []
    words = redact_arguments(typed.words)
    handover.leave(
        os.path.join(report.store, ".cache"), place.project, report.experiment, typed.folder, words
    )
    tr = language.translator(start)
    return [*report_lines(report, place.project, tr), *(message_text(one, tr) for one in hurry.warnings)]


class Hurried:
    """A Monitor that ends the reading when the time is over, and keeps the warnings for later."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.warnings: list[Message] = []

    def begin(self, step: str, files: int, size: int) -> None:
        """Go on only while there is time. Stopped."""
        self.advance(0, 0)

    def advance(self, files: int, size: int) -> None:
        """Go on only while there is time. Stopped."""
        if time.monotonic() > self.until:
            from tensortime.monitor import Stopped

            raise Stopped

    def say(self, line: "Message") -> None:
        """Nothing is said before each command."""

    def warn(self, line: "Message") -> None:
        """Keep it."""
        self.warnings.append(line)


def report_lines(report: "BackupReport", project: str, tr: "Translator") -> "list[str]":
    """What was backed up, and what was not."""
    from tensortime.errors import listing
    from tensortime.render import backup_text, skipped_text
    from tensortime.reports import NOT_AT_ONCE
    from tensortime.text import printable

    later = sorted(one.path for one in report.skipped if one.reason == NOT_AT_ONCE)
    others = [one for one in report.skipped if one.reason != NOT_AT_ONCE]
    lines = backup_text(report, tr)[:1]
    if later:
        lines.append(
            tr(
                "left out so that the command could start at once: {paths}; {command} stores what is missing",
                paths=listing([printable(path) for path in later], FEW),
                command=command_to_add(report, project, later),
            )
        )
    return [*lines, *skipped_text(others, tr)]


def command_to_add(report: "BackupReport", project: str, paths: "Sequence[str]") -> str:
    """The command that stores what was left out, in the same experiment."""
    from tensortime.text import printable, quoted

    named = list(paths)
    if len(named) > FEW:
        named = sorted({os.path.dirname(path) or path for path in paths})
    if len(named) > FEW:
        named = sorted({path.partition("/")[0] for path in paths})
    try:
        inside = (os.path.realpath(os.getcwd()) + "/").startswith(project + "/")
    except OSError:
        inside = False
    words = ["tensortime", "backup", *([] if inside else ["-C", project])]
    if len(named) <= MANY:
        words += ["--name", str(report.experiment)]
        words += [word for path in named for word in ("--add", path)]
    return printable(" ".join(map(quoted, words)))


def too_slow() -> "list[str]":
    """What is said where the time was over."""
    from tensortime.messages import Translator, choose_language

    tr = Translator(choose_language(os.environ))
    return [
        tr(
            "the backup before this command was given up after {seconds} s; tensortime backup makes one",
            seconds=round(GIVE_UP_SECONDS),
        )
    ]


def what_went_wrong(problem: BaseException) -> "list[str]":
    """One line for a backup that failed."""
    from tensortime.errors import message
    from tensortime.messages import Translator, choose_language
    from tensortime.monitor import Stopped
    from tensortime.terminal import failure_message, message_text

    if isinstance(problem, Stopped):
        return too_slow()
    tr = Translator(choose_language(os.environ))
    return [message_text(message("NO BACKUP was made: {problem}", problem=failure_message(problem)), tr)]


def write(lines: "Sequence[str]") -> None:
    """A few lines on stderr; where nobody reads, that is nobody's failure."""
    text = "".join(f"{PREFIX}{line}\n" for line in lines[:LINES])
    try:
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        return

"""What both faces share: writing lines that cannot fail, and progress on a terminal."""

import contextlib
import math
import os
import time
from typing import TextIO

from tensortime.errors import Message, TensorTimeError, message
from tensortime.messages import ENGLISH, Translator
from tensortime.text import files_text, fit, printable, seconds_text, size_text

WORDS = {
    "scan": message("looking"),
    "store": message("storing"),
    "place": message("restoring"),
    "check": message("checking"),
    "compare": message("comparing"),
    "rewrite": message("writing packs anew"),
    "purge": message("purging"),
    "repair": message("repairing"),
    "export": message("exporting"),
    "import": message("importing"),
}
PATIENCE = 1.0
"""Seconds before a step shows its progress."""
PAUSE = 0.1


def write_line(stream: TextIO | None, text: str) -> None:
    """Write one line, whatever the stream's encoding; a closed or broken stream is nobody's failure."""
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    safe = text.encode(encoding, "backslashreplace").decode(encoding)
    with contextlib.suppress(OSError, ValueError):
        stream.write(safe + "\n")
        stream.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person watches this stream."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:
        return False


def wants_colour(stream: TextIO | None) -> bool:
    """Whether text on this stream may be coloured (https://no-color.org: any NO_COLOR that is not empty forbids it)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def terminal_width() -> int:
    """The columns of the terminal; 80 where there is none."""
    import shutil  # 4 ms that a pipe need not pay

    return shutil.get_terminal_size((80, 24)).columns


def message_text(line: Message, tr: Translator) -> str:
    """A message from the library for a person: sizes become readable."""
    values = {
        key: size_text(value) if key == "size" and isinstance(value, int) else value
        for key, value in line.values.items()
    }
    return printable(tr(line.template, **values))


def bug_report(problem: BaseException) -> str:
    """Write down an unexpected error; returns where."""
    import tempfile
    import traceback

    lines = traceback.format_exception(problem)
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="tensortime-error-",
            suffix=".txt",
            delete=False,
            encoding="utf-8",
            errors="backslashreplace",
        ) as file:
            file.writelines(lines)
            return file.name
    except OSError:
        return lines[-1].strip()


def failure_message(problem: BaseException) -> Message:
    """Why a backup failed, in one sentence: with what helps, or for what nobody expected with where it is written."""
    if not isinstance(problem, TensorTimeError):
        kind = f"{type(problem).__name__}: {problem}"
        return message("{problem}; details in {file}", problem=kind, file=bug_report(problem))
    if str(problem.hint):
        return message("{problem} ({hint})", problem=problem.message, hint=problem.hint)
    return problem.message


class TerminalMonitor:
    """Says notices at once, and draws a progress line for steps that take longer than a second."""

    def __init__(
        self,
        stream: TextIO | None,
        prefix: str = "tensortime: ",
        *,
        progress: bool = True,
        tr: Translator = ENGLISH,
    ) -> None:
        self.stream, self.prefix, self.tr = stream, prefix, tr
        self.progress = progress and is_terminal(stream)
        self.step, self.files, self.size = "", 0, 0
        self.done_files, self.done_size = 0, 0
        self.started = self.drawn = time.monotonic()
        self.visible = False

    def begin(self, step: str, files: int, size: int) -> None:
        """A new step."""
        self.clear()
        self.step, self.files, self.size = step, files, size
        self.done_files, self.done_size = 0, 0
        self.started = self.drawn = time.monotonic()

    def advance(self, files: int, size: int) -> None:
        """Redraw, not more often than a person can see."""
        self.done_files += files
        self.done_size += size
        now = time.monotonic()
        if self.progress and now - self.started > PATIENCE and now - self.drawn > PAUSE:
            self.drawn = now
            self.draw(now - self.started)

    def draw(self, seconds: float) -> None:
        """The progress line: a bar where the total is known, rate and remaining time."""
        rate, tr = self.done_size / seconds, self.tr
        word = tr.text(WORDS.get(self.step, self.step))
        if self.size:
            part = min(self.done_size / self.size, 1.0)
            seconds_left = math.ceil((self.size - self.done_size) / rate) if rate else None
            line = tr(
                "{step} [{bar}] {part:4.0%} of {size}, {rate}/s, {left} left",
                step=word,
                bar=f"{'#' * int(part * 20):<20}",
                part=part,
                size=size_text(self.size),
                rate=size_text(int(rate)),
                left="?" if seconds_left is None else seconds_text(seconds_left, tr),
            )
        else:
            line = tr("{step} {files}", step=word, files=files_text(self.done_files, tr))
        width = terminal_width()
        self.put("\r" + fit(self.prefix + line, width - 1) + "\x1b[K")
        self.visible = True

    def clear(self) -> None:
        """Remove the progress line."""
        if self.visible:
            self.put("\r\x1b[K")
            self.visible = False

    def put(self, text: str) -> None:
        """Write to the terminal without a new line."""
        if self.stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self.stream.write(text)
                self.stream.flush()

    def say(self, line: Message) -> None:
        """A notice."""
        self.clear()
        write_line(self.stream, self.prefix + message_text(line, self.tr))

    def warn(self, line: Message) -> None:
        """A warning."""
        self.clear()
        warning = self.tr("warning: {text}", text=message_text(line, self.tr))
        write_line(self.stream, self.prefix + warning)

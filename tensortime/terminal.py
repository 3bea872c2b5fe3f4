"""What both faces share: writing lines that cannot fail, and progress on a terminal."""

import contextlib
import math
import os
import time
from collections import deque
from typing import TextIO

from tensortime.errors import Message, TensorTimeError, message
from tensortime.messages import ENGLISH, Translator
from tensortime.text import cells, files_text, fit, printable, seconds_text, size_text

WORDS = {
    "scan": message("looking"),
    "store": message("storing"),
    "place": message("restoring"),
    "check": message("checking"),
    "compare": message("comparing"),
    "count": message("counting"),
    "rewrite": message("writing packs anew"),
    "purge": message("purging"),
    "repair": message("repairing"),
    "export": message("exporting"),
    "import": message("importing"),
}
PATIENCE = 1.0
"""Seconds before a step shows its progress."""
PAUSE = 0.1
RECENT = 5.0
"""Seconds over which the rate is taken: what was known, or was of another sort, says little about what is left."""
FILE_WORK = 40_000
"""Bytes that take as long as a file does, whatever its size: with small ones alone the rate says little about what is
left of the large."""
ENDLESS = 360_000
"""Seconds: who has so much left has stopped."""
BARS = (20, 10)
"""Cells of the bar, where there is room."""


def write_line(stream: TextIO | None, text: str) -> None:
    """Write one line, whatever the stream's encoding; a closed or broken stream is nobody's failure, nor is one of the
    user's own that has a `write` and nothing else."""
    if stream is None:
        return
    with contextlib.suppress(Exception):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person watches this stream."""
    with contextlib.suppress(Exception):  # it may be an object of the user's that knows of no terminals
        return stream is not None and bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
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


def bar(part: float, width: int) -> str:
    """So much of a bar."""
    return f"{'#' * int(part * width):<{width}}"


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
        self.seen = deque([(self.started, 0, 0)])
        """Moments, and the work and the bytes that were done by then."""
        self.visible = False

    def begin(self, step: str, files: int, size: int) -> None:
        """A new step."""
        self.clear()
        self.step, self.files, self.size = step, files, size
        self.done_files, self.done_size = 0, 0
        self.started = self.drawn = time.monotonic()
        self.seen = deque([(self.started, 0, 0)])

    def advance(self, files: int, size: int) -> None:
        """Redraw, not more often than a person can see."""
        self.done_files += files
        self.done_size += size
        now = time.monotonic()
        if self.progress and now - self.started > PATIENCE and now - self.drawn > PAUSE:
            self.drawn = now
            self.draw(now)

    def draw(self, now: float) -> None:
        """The progress line: the first that fits."""
        width = terminal_width() - 1
        lines = self.lines(now)
        line = next((one for one in lines if cells(one) <= width), fit(lines[-1], width))
        self.put("\r" + line + "\x1b[K")
        self.visible = True

    def lines(self, now: float) -> list[str]:
        """How far it is, the fullest line first: a bar where the total is known, rate and remaining time."""
        tr, word = self.tr, self.tr.text(WORDS.get(self.step, self.step))
        if not (self.size or self.files):
            short = tr("{step} {files}", step=word, files=files_text(self.done_files, tr))
            return [self.prefix + short, short]
        total, done = self.work(self.files, self.size), self.work(self.done_files, self.done_size)
        part, (work_rate, rate) = min(done / total, 1.0), self.rates(now, done)
        seconds = max(total - done, 0) / work_rate if work_rate else ENDLESS
        left = seconds_text(math.ceil(seconds), tr) if seconds < ENDLESS else "?"
        facts = {"step": word, "part": part, "left": left}
        last = tr("{step} {part:4.0%}", step=word, part=part)
        if not self.size:
            short = tr("{step} {part:4.0%}, {left} left", **facts)
            bars = [tr("{step} [{bar}] {part:4.0%}, {left} left", bar=bar(part, n), **facts) for n in BARS]
            return [*(self.prefix + line for line in (*bars, short)), short, last]
        facts |= {"rate": size_text(int(rate))}
        short = tr("{step} {part:4.0%}, {rate}/s, {left} left", **facts)
        facts |= {"size": size_text(self.size)}
        full = tr("{step} {part:4.0%} of {size}, {rate}/s, {left} left", **facts)
        bars = [
            tr("{step} [{bar}] {part:4.0%} of {size}, {rate}/s, {left} left", bar=bar(part, n), **facts)
            for n in BARS
        ]
        return [*(self.prefix + line for line in (*bars, full)), full, short, last]

    def work(self, files: int, size: int) -> int:
        """Files and bytes in one number."""
        return size + FILE_WORK * min(files, self.files)

    def rates(self, now: float, done: int) -> tuple[float, float]:
        """How much work, and how many bytes, were done each second of late."""
        while len(self.seen) > 1 and now - self.seen[1][0] >= RECENT:
            self.seen.popleft()
        since, work, size = self.seen[0]
        self.seen.append((now, done, self.done_size))
        passed = max(now - since, 0.001)
        return (done - work) / passed, (self.done_size - size) / passed

    def clear(self) -> None:
        """Remove the progress line."""
        if self.visible:
            self.put("\r\x1b[K")
            self.visible = False

    def put(self, text: str) -> None:
        """Write to the terminal without a new line."""
        if self.stream is not None:
            with contextlib.suppress(Exception):
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

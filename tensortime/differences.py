"""What `diff` returns: frozen facts about two states of a project, no words. Causes first, then effects.

Paths are strings with surrogate escapes for bytes that are not UTF-8; sizes are bytes; times are
nanoseconds since 1970.
"""

import math
from dataclasses import dataclass

from tensortime.formats import Oid
from tensortime.gaps import Closeness
from tensortime.names import ExperimentName

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
RENAMED, MODE, KIND = "renamed", "mode", "kind"
"""What happened to a path, beside the three: another name for the same bytes, other permissions, another kind."""

FILE, SYMLINK, FOLDER = "file", "symlink", "folder"
OUTSIDE = "outside"
"""What lies behind a link out of the project: it is not stored, only counted."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two states: a backup, or (`experiment` is None) the project as it is now."""

    experiment: ExperimentName | None
    number: int | None
    commit: Oid | None
    note: str
    time_ns: int
    project: str
    """The folder that was backed up, or is looked at."""


@dataclass(frozen=True, slots=True)
class ValueChange:
    """One value that differs."""

    key: str
    change: str
    """`added`, `removed` or `changed`."""
    old: object = None
    new: object = None

    @property
    def delta(self) -> float | None:
        """By how much a number grew; None where one of the two is no finite number."""
        old, new = self.old, self.new
        if not is_number(old) or not is_number(new):
            return None
        try:
            delta = float(new) - float(old)  # type: ignore[arg-type]
        except OverflowError:
            return None
        return delta if math.isfinite(delta) else None


def is_number(value: object) -> bool:
    """Whether a value is one that can be subtracted."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class CommandChange:
    """Two commands that differ."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    options: tuple[ValueChange, ...]
    """The options that differ; a value is the text behind the option, empty for a flag."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One path of one state."""

    kind: str
    """`file`, `symlink`, `folder`, or `outside`: all that lies behind a link out of the project."""
    size: int
    mode: int | None
    """Permission bits; None for links."""
    digest: str | None
    """`blake3:<hex>` of a large file, `git:<hex>` (the blob's id) of a small one; None where the size alone told
    the difference and nothing was read."""
    target: str | None = None
    """Of a link."""
    files: int | None = None
    """Of `outside`: how many there are."""
    newest: str | None = None
    """Of `outside`: when the last of them was written."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines that differ, with some around them, as in a unified diff."""

    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    lines: tuple[str, ...]
    """Each begins with ` `, `-`, `+`, or is `\\ No newline at end of file`."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """One path that differs."""

    path: str
    """In the second state, if it is there, else in the first."""
    change: str
    """`added`, `removed`, `changed`, `renamed`, `mode` or `kind`."""
    old: FileFacts | None = None
    new: FileFacts | None = None
    old_path: str | None = None
    """Of a renamed file."""
    lines_added: int | None = None
    lines_removed: int | None = None
    """None for what is no text, or too large to compare line by line."""
    hunks: tuple[Hunk, ...] = ()
    """Only where they were asked for."""
    closeness: Closeness | None = None
    """How far the numbers lie apart; of outputs alone, and None where they were not compared."""
    too_large: bool = False
    """The numbers of an output were not compared, as that would take too long."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Files that only one state holds because the other left them out: that says nothing about a change."""

    path: str
    """What was left out: a folder with all below it, or a file."""
    by: str
    """`a` or `b`."""
    files: int
    """So many files the other state has there."""


@dataclass(frozen=True, slots=True)
class Causes:
    """What a person, or the world, changed."""

    command: CommandChange | None = None
    params: tuple[ValueChange, ...] = ()
    packages: tuple[ValueChange, ...] = ()
    code: tuple[FileChange, ...] = ()
    data: tuple[FileChange, ...] = ()
    environment: tuple[ValueChange, ...] = ()
    machine: tuple[ValueChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Effects:
    """What came of it."""

    metrics: tuple[ValueChange, ...] = ()
    outputs: tuple[FileChange, ...] = ()


@dataclass(frozen=True, slots=True)
class DiffReport:
    """What differs between two states."""

    a: Side
    b: Side
    causes: Causes
    effects: Effects
    left_out: tuple[LeftOut, ...] = ()
    unknown: tuple[str, ...] = ()
    """Of these one of the two states knows nothing, so that nothing can be said: `command`, `params`, `packages`,
    `environment`, `machine`, `metrics`."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return self.causes == Causes() and self.effects == Effects()

"""What differs between two states of a project: pure, but that a state hands over the bytes of its small files.

Outputs (see `pairs`) are effects, all other paths are causes: data, or code.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from tensortime.conditions import (
    command_of,
    compare_commands,
    compare_environments,
    compare_machines,
    compare_outside,
    compare_values,
    named,
)
from tensortime.differences import (
    CHANGED,
    FILE,
    SYMLINK,
    Causes,
    CommandChange,
    DiffReport,
    Effects,
    FileChange,
    FileFacts,
    ValueChange,
)
from tensortime.errors import Damaged
from tensortime.formats import text_of
from tensortime.hunks import changes_between, count_lines, hunks_of, is_binary, lines_of
from tensortime.pairs import Item, Pair, State, comparable, output_rule, pair_up, with_renames

READ_AT_ONCE = 32 << 20
"""Bytes of small files of each state that are held in memory."""

MOST_NUMBERS = 64 << 20
"""Bytes of outputs whose numbers are compared: five seconds where all of them differ and there is no numpy."""


def compare(a: State, b: State, *, patch: bool = False) -> DiffReport:
    """All that differs from `a` to `b`; `patch`: with the lines of code."""
    pairs, left_out = comparable(a, b, pair_up(a, b))
    is_output = output_rule(a, b)
    pairs = with_renames(pairs, is_output)
    code, data, outputs = list[FileChange](), list[FileChange](), list[FileChange]()
    numbers = Numbers(a, b)
    for pair, change, is_data in described(a, b, pairs, patch, is_output):
        if is_output(pair):
            outputs.append(numbers.compared(pair, change))
        else:
            (data if is_data else code).append(change)
    known = Known(a, b)
    causes = Causes(
        known.command(),
        known.values("params", a.params, b.params),
        known.values("packages", a.packages, b.packages),
        tuple(code),
        (*data, *compare_outside(a.run, b.run)),
        known.environment(),
        known.machine(),
    )
    effects = Effects(known.values("metrics", a.metrics, b.metrics), tuple(outputs))
    return DiffReport(a.side, b.side, causes, effects, left_out, tuple(known.unknown))


class Numbers:
    """Compares the numbers in outputs, as long as that takes a moment."""

    def __init__(self, a: State, b: State) -> None:
        self.a, self.b, self.left = a, b, MOST_NUMBERS

    def compared(self, pair: Pair, change: FileChange) -> FileChange:
        """An output that differs, with how far its numbers lie apart where it is called like a file of numbers."""
        from tensortime.closeness import compare_numbers, is_numeric  # 10 ms that most diffs need not pay

        if change.change != CHANGED or [item.kind for item in pair.items] != [FILE, FILE]:
            return change
        if not is_numeric(pair.path):
            return change
        old_size, new_size = (item.size for item in pair.items)
        if old_size + new_size > self.left:
            return replace(change, too_large=True)
        self.left -= old_size + new_size
        # One that cannot be read any more is told by what is known of it.
        with (
            contextlib.suppress(OSError, Damaged),
            self.a.open(pair.path) as old,
            self.b.open(pair.path) as new,
        ):
            return replace(change, closeness=compare_numbers(pair.path, old, old_size, new, new_size))
        return change


class Known:
    """Compares what is no file, and notes of what one of two states knows nothing."""

    def __init__(self, a: State, b: State) -> None:
        self.a, self.b = a, b
        self.unknown: list[str] = []

    def values(
        self, what: str, old: Mapping[str, object] | None, new: Mapping[str, object] | None
    ) -> tuple[ValueChange, ...]:
        """Two mappings, where both are known."""
        if old is None or new is None:
            self.unknown.append(what)
            return ()
        return compare_values(old, new)

    def command(self) -> CommandChange | None:
        """The commands."""
        old, new = command_of(self.a.run), command_of(self.b.run)
        if old is None or new is None:
            self.unknown.append("command")
            return None
        return compare_commands(old, new)

    def environment(self) -> tuple[ValueChange, ...]:
        """Python, variables, launch, the user's git."""
        if not self.a.run.get("python") or not self.b.run.get("python"):
            self.unknown.append("environment")
        return compare_environments(self.a.run, self.b.run, self.a.side.project, self.b.side.project)

    def machine(self) -> tuple[ValueChange, ...]:
        """The machines."""
        if not named(self.a.run) or not named(self.b.run):
            self.unknown.append("machine")
        return compare_machines(self.a.run, self.b.run)


def described(
    a: State, b: State, pairs: Sequence[Pair], patch: bool, is_output: Callable[[Pair], bool]
) -> Iterator[tuple[Pair, FileChange, bool]]:
    """Each pair as a change, and whether it is data; the bytes of small files are read in portions."""
    for portion in portions(pairs):
        old = a.read([one.old_path for one in portion if one.old and wants_bytes(one, one.old)])
        new = b.read([one.path for one in portion if one.new and wants_bytes(one, one.new)])
        for pair in portion:
            before, after = old.get(pair.old_path), new.get(pair.path)
            is_data = pair.is_surely_data or (
                pair.is_text and any(is_binary(data) for data in (before, after) if data is not None)
            )
            hunks = patch and not is_output(pair)
            yield pair, change_of(pair, before, after, pair.is_text and not is_data, hunks), is_data


def wants_bytes(pair: Pair, item: Item) -> bool:
    """Whether the bytes of one side of a pair are looked at."""
    return pair.is_text or (item.kind == SYMLINK and item.target is None)


def portions(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Pairs in lists whose small files fit into memory."""
    portion, size = list[Pair](), 0
    for pair in pairs:
        portion.append(pair)
        size += sum(item.size for item in pair.items) if pair.is_text else 0
        if size > READ_AT_ONCE:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def change_of(
    pair: Pair, before: bytes | None, after: bytes | None, is_text: bool, patch: bool
) -> FileChange:
    """A pair as the report tells it; `before` and `after`: its bytes, of links the targets."""
    change = FileChange(
        text_of(pair.path),
        pair.change,
        facts_of(pair.old, before),
        facts_of(pair.new, after),
        text_of(pair.old_path) if pair.path != pair.old_path else None,
    )
    readable = all(
        data is not None for item, data in ((pair.old, before), (pair.new, after)) if item is not None
    )
    if not is_text or not readable:
        return change
    old, new = lines_of(before or b""), lines_of(after or b"")
    changes = changes_between(old, new)
    if changes is None:
        return change
    added, removed = count_lines(changes)
    hunks = hunks_of(old, new, changes) if patch else ()
    return FileChange(
        change.path, change.change, change.old, change.new, change.old_path, added, removed, hunks
    )


def facts_of(item: Item | None, data: bytes | None) -> FileFacts | None:
    """One side of a pair as the report tells it."""
    if item is None:
        return None
    if item.kind == SYMLINK:
        target = data if item.target is None else item.target
        return FileFacts(SYMLINK, item.size, None, None, None if target is None else text_of(target))
    digest = None
    if item.kind == FILE and item.identity is not None:
        digest = ("blake3:" if item.large else "git:") + item.identity.hex()
    return FileFacts(item.kind, item.size, item.mode, digest)

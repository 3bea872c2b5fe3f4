"""Which lines differ between two texts: counts, and hunks as in a unified diff. Pure, and bounded in time.

The answer for (old, new) is the mirror image of that for (new, old): difflib alone does not promise that.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from tensortime.differences import Hunk

LOOKED_AT = 8000
"""A file with a NUL among so many first bytes is no text: git's rule."""

CONTEXT = 3
"""Lines around a change."""

MOST_LINES = 5000
"""Lines between the first and the last that differ; more are too many to compare."""

MOST_PAIRS = 200_000
"""Pairs of equal lines there: difflib looks at each of them more than once."""

NO_NEWLINE = "\\ No newline at end of file"

Change = tuple[int, int, int, int]
"""Lines [i1, i2) of the old text became lines [j1, j2) of the new one."""


def is_binary(data: bytes) -> bool:
    """Whether these bytes are no text."""
    return b"\0" in data[:LOOKED_AT]


def lines_of(data: bytes) -> list[bytes]:
    """The lines with their ends; only `\\n` ends one."""
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def changes_between(old: Sequence[bytes], new: Sequence[bytes]) -> list[Change] | None:
    """The ranges of lines that differ, in order; None where comparing would take too long."""
    start, shorter = 0, min(len(old), len(new))
    while start < shorter and old[start] == new[start]:
        start += 1
    end = 0
    while end < shorter - start and old[-1 - end] == new[-1 - end]:
        end += 1
    left, right = old[start : len(old) - end], new[start : len(new) - end]
    if not left or not right:
        whole = (start, start + len(left), start, start + len(right))
        return [whole] if left or right else []
    if max(len(left), len(right)) > MOST_LINES or pairs(left, right) > MOST_PAIRS:
        return None
    # In one order whatever was asked, so that both ways give the same.
    swapped = (len(left), left) > (len(right), right)
    first, second = (right, left) if swapped else (left, right)
    found = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if tag != "equal":
            one, other = (i1 + start, i2 + start), (j1 + start, j2 + start)
            found.append((*other, *one) if swapped else (*one, *other))
    return found


def pairs(left: Sequence[bytes], right: Sequence[bytes]) -> int:
    """How many lines of one side equal how many of the other."""
    others = Counter(right)
    return sum(others[line] for line in left)


def count_lines(changes: Sequence[Change]) -> tuple[int, int]:
    """Lines added and lines removed."""
    return sum(j2 - j1 for _, _, j1, j2 in changes), sum(i2 - i1 for i1, i2, _, _ in changes)


def hunks_of(old: Sequence[bytes], new: Sequence[bytes], changes: Sequence[Change]) -> tuple[Hunk, ...]:
    """The changes with the lines around them; those that lie near each other are one hunk."""
    return tuple(hunk(old, new, group) for group in neighbours(changes))


def neighbours(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Changes with so few lines between them that these are shown anyway."""
    group: list[Change] = []
    for change in changes:
        if group and change[0] - group[-1][1] > 2 * CONTEXT:
            yield group
            group = []
        group.append(change)
    if group:
        yield group


def hunk(old: Sequence[bytes], new: Sequence[bytes], group: Sequence[Change]) -> Hunk:
    """One hunk."""
    before = min(group[0][0], CONTEXT)
    after = min(len(old) - group[-1][1], CONTEXT)
    i, j = group[0][0] - before, group[0][2] - before
    i_end, j_end = group[-1][1] + after, group[-1][3] + after
    lines: list[str] = []
    at = i
    for i1, i2, j1, j2 in group:
        for mark, part in ((" ", old[at:i1]), ("-", old[i1:i2]), ("+", new[j1:j2])):
            lines += marked(mark, part)
        at = i2
    lines += marked(" ", old[at:i_end])
    # As in git: an empty side begins at the line before it.
    return Hunk(i + (i_end > i), i_end - i, j + (j_end > j), j_end - j, tuple(lines))


def marked(mark: str, lines: Sequence[bytes]) -> Iterator[str]:
    """Lines as a hunk shows them, without their ends."""
    for line in lines:
        yield mark + line.removesuffix(b"\n").decode("utf-8", "surrogateescape")
        if not line.endswith(b"\n"):
            yield NO_NEWLINE

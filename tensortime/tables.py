"""JSON and CSV files as numbers with names: keys, or columns; what is no number must be equal.

Read as untrusted: a file that is too large, too deep or no such file is NotNumeric, and compared by its bytes alone.
"""

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import IO

from tensortime.arrays import NotNumeric
from tensortime.gaps import Gap, Number, distance

SUFFIXES = (".json", ".csv", ".tsv")

LARGEST_JSON = 16 << 20
"""Bytes: Python needs up to thirty times as many to hold it."""

LONGEST_LINE = 1 << 20
"""Characters of a line of CSV."""

MOST_COLUMNS = 10_000

NUMBER = re.compile(r"\s*[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
"""What a program writes for a number. `007` and `1_2` are names of something, though Python reads them as 7 and 12."""

NOT_FINITE = re.compile(r"\s*[+-]?(?:nan|inf(?:inity)?)\s*", re.IGNORECASE)


class Gaps:
    """Gathers how columns or keys differ."""

    def __init__(self) -> None:
        self.found: dict[str, Gap] = {}

    def add(self, gap: Gap) -> None:
        """Note a difference; of one name the first that is no number counts, else the largest numbers."""
        known = self.found.get(gap.name)
        if known is None or (gap.problem and not known.problem):
            self.found[gap.name] = gap
        elif not known.problem and known.max_abs is not None and gap.max_abs is not None:
            rel = max(known.max_rel or 0.0, gap.max_rel or 0.0)
            self.found[gap.name] = Gap(gap.name, "", max(known.max_abs, gap.max_abs), rel)

    def compare(self, name: str, old: object, new: object) -> None:
        """Compare two values: numbers by their distance, all else by equality."""
        if is_number(old) and is_number(new):
            widest, relative = distance([old], [new])  # type: ignore[list-item]
            if widest:
                self.add(Gap(name, "", widest, relative))
        elif type(old) is not type(new) or old != new:
            self.add(Gap(name, "text"))


def is_number(value: object) -> bool:
    """Whether a value can be subtracted."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def compare_tables(
    suffix: str, old: IO[bytes], old_size: int, new: IO[bytes], new_size: int
) -> tuple[Gap, ...]:
    """The keys or columns that differ; `suffix`: one of SUFFIXES. NotNumeric, or what a broken file raises."""
    if suffix == ".json":
        if max(old_size, new_size) > LARGEST_JSON:
            raise NotNumeric("too large")
        return compare_documents(read_json(old), read_json(new))
    return compare_columns(rows_of(old, suffix), rows_of(new, suffix))


def read_json(file: IO[bytes]) -> object:
    """A document."""
    file.seek(0)
    return json.loads(file.read(LARGEST_JSON + 1), object_pairs_hook=object_of)


def object_of(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """An object of a document; NotNumeric where a key comes twice: one of its values would be looked at by nobody."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotNumeric("a key comes twice")
    return found


def compare_documents(old: object, new: object) -> tuple[Gap, ...]:
    """Two documents, key by key; the elements of a list have the list's name."""
    gaps = Gaps()
    waiting = [("", old, new)]
    while waiting:
        name, one, other = waiting.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            inner = []
            for key in [*one, *(key for key in other if key not in one)]:
                below = f"{name}.{key}" if name else str(key)
                if key in one and key in other:
                    inner.append((below, one[key], other[key]))
                else:
                    gaps.add(Gap(below, "missing" if key in one else "extra"))
            waiting += reversed(inner)
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                gaps.add(Gap(name, "shape", old=f"({len(one)},)", new=f"({len(other)},)"))
            else:
                waiting += reversed([(name, left, right) for left, right in zip(one, other, strict=True)])
        else:
            gaps.compare(name, one, other)
    return tuple(gaps.found.values())


def rows_of(file: IO[bytes], suffix: str) -> Iterator[list[str]]:
    """The rows of a table, read line by line."""
    file.seek(0)
    text = io.TextIOWrapper(file, "utf-8-sig", errors="strict", newline="")
    try:
        lines = iter(lambda: text.readline(LONGEST_LINE), "")
        # Strict: a text that was cut within its quotes is not the whole one.
        for row in csv.reader(checked(lines), delimiter="\t" if suffix == ".tsv" else ",", strict=True):
            if len(row) > MOST_COLUMNS:
                raise NotNumeric("too many columns")
            yield row
    except csv.Error as problem:
        raise NotNumeric(str(problem)) from problem
    finally:
        text.detach()


def checked(lines: Iterator[str]) -> Iterator[str]:
    """Lines, none of them longer than is good."""
    for line in lines:
        if len(line) >= LONGEST_LINE:
            raise NotNumeric("a line is too long")
        yield line


def compare_columns(old: Iterator[list[str]], new: Iterator[list[str]]) -> tuple[Gap, ...]:
    """Two tables, column by column; the first row names the columns unless it has a number in it."""
    gaps, names = Gaps(), list[str]()
    for row, (one, other) in enumerate(itertools.zip_longest(old, new)):
        if one is None or other is None:
            gaps.add(Gap("", "shape", old=rows_text(row, one, old), new=rows_text(row, other, new)))
            break
        if row == 0:
            names = one if all(number_of(cell) is None for cell in one) else []
        if len(one) != len(other):
            gaps.add(Gap("", "shape", old=f"({row}, {len(one)})", new=f"({row}, {len(other)})"))
            break
        if one != other:
            for column, (left, right) in enumerate(zip(one, other, strict=True)):
                if left != right:
                    name = names[column] if column < len(names) else f"column {column + 1}"
                    compare_cells(gaps, name, left, right)
    return tuple(gaps.found.values())


def rows_text(row: int, cells: list[str] | None, rest: Iterator[list[str]]) -> str:
    """How many rows a table has, of which so many were read."""
    return f"({row + (0 if cells is None else 1 + sum(1 for _ in rest))},)"


def compare_cells(gaps: Gaps, name: str, left: str, right: str) -> None:
    """Two cells that are not the same text."""
    old, new = number_of(left), number_of(right)
    if old is None or new is None:
        gaps.add(Gap(name, "text"))
    else:
        gaps.compare(name, old, new)


def number_of(cell: str) -> Number | None:
    """The number in a cell; None for text."""
    if NUMBER.fullmatch(cell) is None:
        return float(cell) if NOT_FINITE.fullmatch(cell) else None
    try:
        return int(cell)
    except ValueError:
        number = float(cell)
    return number if math.isfinite(number) else None

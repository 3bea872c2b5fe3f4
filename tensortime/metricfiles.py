"""Metrics out of files that the training writes: `metrics = ["metrics.json", "logs/*.csv"]` in the configuration.

A file that cannot be read is a warning, as it may be half-written just now. All is bounded: a training may wait.
"""

import codecs
import csv
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tensortime import fsops
from tensortime.errors import message
from tensortime.monitor import Monitor
from tensortime.records import MOST_METRICS, read_part

MOST_FILES = 100
LONGEST = 4 << 20
"""Bytes of a JSON file; of a table or a log of lines, only so much of its beginning and its end is read as PART."""

PART = 256 << 10
SECONDS = 1.0

DELIMITERS = ",\t;"


def metrics_of_files(
    project: str, patterns: Sequence[str], since_ns: int, monitor: Monitor
) -> dict[str, object]:
    """The numbers in the files of a project that match these patterns (`*` within a folder) and were written since.

    Since the experiment began, that is: what the run before left behind is not this run's. Of a name in several files
    the one of the file that was written last counts.
    """
    found: dict[str, object] = {}
    end = time.monotonic() + SECONDS
    for _, path in sorted(files_like(project, patterns, since_ns, monitor))[-MOST_FILES:]:
        if time.monotonic() > end:
            monitor.warn(message("{path}: no metrics were read, there was no time left", path=path))
            break
        try:
            found.update(numbers_in(os.path.join(project, path)))
        except (OSError, ValueError, RecursionError, csv.Error) as problem:
            reason = (problem.strerror if isinstance(problem, OSError) else "") or str(problem)
            monitor.warn(message("{path}: no metrics were read: {problem}", path=path, problem=reason))
    return dict(list(found.items())[:MOST_METRICS])


def files_like(
    project: str, patterns: Iterable[str], since_ns: int, monitor: Monitor
) -> Iterator[tuple[int, str]]:
    """The files of a project that match, with the time they were written; only those that were written since."""
    from glob import glob, has_magic  # only where it is configured

    for pattern in patterns:
        if os.path.isabs(pattern) or ".." in pattern.split("/"):
            monitor.warn(message("metrics: {pattern} is not in the project", pattern=pattern))
            continue
        paths = glob(pattern, root_dir=project) if has_magic(pattern) else [pattern]
        for path in dict.fromkeys(paths):
            try:
                written = os.stat(os.path.join(project, path)).st_mtime_ns
            except OSError:
                continue  # it is not there yet
            if written > since_ns:
                yield written, path


def numbers_in(path: str) -> dict[str, object]:
    """The numbers of one file, by their names. OSError, ValueError, csv.Error."""
    ending = os.path.splitext(path)[1].lower()
    if ending in (".csv", ".tsv"):
        return numbers_of_table(*ends_of(path))
    if ending in (".jsonl", ".ndjson"):
        lines = [line for line in ends_of(path)[1].split(b"\n") if line.strip()]
        return dict(flat(json.loads(lines[-1]))) if lines else {}
    return dict(flat(json.loads(fsops.read_file(path, LONGEST))))


def ends_of(path: str) -> tuple[bytes, bytes]:
    """The beginning of a file, and its end: of a short one all of it, twice."""
    fd = fsops.open_regular(path)
    try:
        size = os.fstat(fd).st_size
        return read_part(fd, 0, PART), read_part(fd, max(size - PART, 0), PART)
    finally:
        os.close(fd)


def flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """The numbers in nested objects: `{"val": {"loss": 0.1}}` is `val.loss`. ValueError where it is no object at all."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, f"{name}.{key}" if name else str(key))
    elif not name:
        raise ValueError("it holds no object")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def numbers_of_table(head: bytes, tail: bytes) -> dict[str, object]:
    """The last row of a table that is whole, under the names of its first line."""
    # The head may end in the middle of a character, which a decoder in steps waits for.
    first, *rows = codecs.getincrementaldecoder("utf-8-sig")().decode(head).splitlines() or [""]
    delimiter = max(DELIMITERS, key=first.count)
    names = [name.strip() for name in next(csv.reader([first.lstrip("# ")], delimiter=delimiter), [])]
    if tail != head:
        rows = tail.decode("utf-8", "replace").splitlines()[1:]
    for row in reversed(rows):
        cells = next(csv.reader([row], delimiter=delimiter), [])
        if len(cells) == len(names) and row.strip():
            numbers = ((name, number_of(cell)) for name, cell in zip(names, cells, strict=True))
            return {name: number for name, number in numbers if name and number is not None}
    return {}


def number_of(text: str) -> object:
    """A cell as a number; None where it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and text.strip().lstrip("+-").isdigit() else number

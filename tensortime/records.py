"""What a running experiment appends: `.records/<experiment>/` in its store, committed by each backup of it.

    records.jsonl    what `tm.record()` was told, one JSON object a line
    output.log       what the command of `run` wrote

Several may append at once: each line is one write. A line that is not whole (its writer was killed in the middle) is
passed over by whoever reads, and not committed.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from tensortime import fsops
from tensortime.experiments import Experiment
from tensortime.formats import bytes_of, text_of

FOLDER = ".records"
RECORDS = "records.jsonl"

FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
"""Files of other names are not committed: they may be half-written."""

LONGEST = 32 << 20
"""Bytes of one file that a backup commits, as it holds them in memory: of a longer one the first and the last half."""

LOOKED_AT = 4 << 20
"""Bytes at the end of the records that a backup looks for the last values in; the earlier are metrics already."""

GLANCED_AT = 256 << 10
"""The same, for `log`."""

MOST_METRICS = 200
LONGEST_TEXT = 200
"""What is recorded beyond so many names, in longer texts, or as a list, is not among the metrics that `log` reads."""

NO_METRIC = ("time", "step")
"""What a record has besides values."""


class Kept(NamedTuple):
    """The records of one experiment, as a backup commits them."""

    files: Mapping[bytes, bytes]
    """By their path in `.tensortime/`."""
    metrics: Mapping[str, object]
    """The last value of each name."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Paths in the tree, and why they are not, or not all of them, there."""


NOTHING_KEPT = Kept({}, {})


def records_folder(store: str, experiment: str) -> str:
    """Where an experiment appends."""
    return os.path.join(store, FOLDER, os.fsdecode(bytes_of(experiment)))


def names_with_records(store: str) -> set[str]:
    """The names under `.records/`, in lower case: a new experiment takes none of them, or it would inherit."""
    with contextlib.suppress(OSError):
        return {text_of(name).lower() for name in os.listdir(os.fsencode(os.path.join(store, FOLDER)))}
    return set()


def read_records(store: str, experiment: str) -> Kept:
    """What an experiment has appended so far."""
    files, left_out, metrics = dict[bytes, bytes](), [], dict[str, object]()
    try:
        folder = fsops.open_folder(records_folder(store, experiment))
    except FileNotFoundError:
        return NOTHING_KEPT
    except OSError as problem:
        return Kept({}, {}, ((".tensortime/records", problem.strerror or str(problem)),))
    try:
        for name in sorted(os.listdir(folder)):
            if not FILE_NAME.fullmatch(name):
                continue
            path = f".tensortime/records/{name}"
            try:
                data, cut = read_ends(folder, name)
            except OSError as problem:
                left_out.append((path, problem.strerror or str(problem)))
                continue
            if cut:
                left_out.append((path, f"its middle is left out: {cut} bytes"))
            if name == RECORDS:
                data = whole_lines(data)
                metrics = last_values(data[-LOOKED_AT:])
            files[b"records/" + name.encode()] = data
    finally:
        os.close(folder)
    return Kept(files, metrics, tuple(left_out))


def read_ends(folder: int, name: str) -> tuple[bytes, int]:
    """A file, and 0; of one longer than LONGEST its first and last whole lines, and the bytes between."""
    fd = fsops.open_regular(name, dir_fd=folder)
    try:
        size = os.fstat(fd).st_size
        if size <= LONGEST:
            return read_part(fd, 0, size), 0
        half = LONGEST // 2
        head, tail = whole_lines(read_part(fd, 0, half)), read_part(fd, size - half, half)
        tail = tail.partition(b"\n")[2]
        return head + tail, size - len(head) - len(tail)
    finally:
        os.close(fd)


def read_part(fd: int, start: int, length: int) -> bytes:
    """Bytes of an open file; fewer where it ends before."""
    parts = []
    while length > 0 and (part := os.pread(fd, min(length, fsops.BLOCK), start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return b"".join(parts)


def whole_lines(data: bytes) -> bytes:
    """Without what stands behind the last line's end."""
    return data[: data.rfind(b"\n") + 1]


def last_values(data: bytes) -> dict[str, object]:
    """The last value of each name in some records; lines that are none are passed over."""
    found: dict[str, object] = {}
    for line in data.split(b"\n"):
        try:
            record = json.loads(line) if line else None
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            found.update(record)
    kept = {key: value for key, value in found.items() if key not in NO_METRIC and is_metric(value)}
    return kept if len(kept) <= MOST_METRICS else dict(list(kept.items())[:MOST_METRICS])


def is_metric(value: object) -> bool:
    """Whether `log` has a use for a recorded value."""
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= LONGEST_TEXT)


def live_metrics(store: str, experiment: str, since_ns: int) -> dict[str, object]:
    """What was recorded after a backup at that time and is in none yet; empty where nothing was.

    Cheap: one stat where nothing was, else a glance at the end of the file.
    """
    path = os.path.join(records_folder(store, experiment), RECORDS)
    with contextlib.suppress(OSError):
        if os.lstat(path).st_mtime_ns < since_ns:
            return {}
        fd = fsops.open_regular(path)
        try:
            size = os.fstat(fd).st_size
            return last_values(whole_lines(read_part(fd, max(size - GLANCED_AT, 0), GLANCED_AT)))
        finally:
            os.close(fd)
    return {}


def with_live_metrics(store: str, experiments: Iterable[Experiment]) -> tuple[Experiment, ...]:
    """Experiments with what they have recorded since their newest backups."""
    known = names_with_records(store)
    if not known:
        return tuple(experiments)
    return tuple(
        replace(one, metrics={**one.metrics, **live_metrics(store, one.name, one.time_ns)})
        if one.name.lower() in known
        else one
        for one in experiments
    )


def open_records(store: str, experiment: str) -> int:
    """The records of an experiment, open to append whole lines; made where there are none yet. OSError.

    A line that a writer left half behind is ended first.
    """
    folder = records_folder(store, experiment)
    for path in (os.path.dirname(folder), folder):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
    top = fsops.open_folder(folder)
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(RECORDS, flags, 0o600, dir_fd=top)
    finally:
        os.close(top)
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        os.write(fd, b"\n")
    return fd


def encode_record(values: Mapping[str, object]) -> bytes:
    """One line: when, and what. The values are such as JSON can hold."""
    moment = datetime.now().astimezone().isoformat(timespec="milliseconds")
    return json.dumps({"time": moment, **values}).encode() + b"\n"


def note_metrics(store: str, experiment: str, metrics: Mapping[str, object]) -> None:
    """Append the metrics that a backup was given, where records are kept at all: else an older record would be taken
    for the newer value by the next backup.
    """
    if not metrics or not os.path.exists(os.path.join(records_folder(store, experiment), RECORDS)):
        return
    with contextlib.suppress(OSError):
        fd = open_records(store, experiment)
        try:
            os.write(fd, encode_record(metrics))
        finally:
            os.close(fd)


def put_into_trash(store: str, experiment: str, removed_ns: int) -> None:
    """The records of a removed experiment go with it, or one that takes its name would inherit them.

    A process that still appends does so there.
    """
    with contextlib.suppress(OSError):
        os.rename(records_folder(store, experiment), os.path.join(store, FOLDER, f"@{removed_ns}"))


def take_out_of_trash(store: str, removed_ns: int, experiment: str) -> None:
    """The records of an experiment come back with it, under the name that it has now."""
    with contextlib.suppress(OSError):
        os.rename(os.path.join(store, FOLDER, f"@{removed_ns}"), records_folder(store, experiment))


def record_folders(store: str) -> dict[str, float]:
    """The names under `.records/`: of experiments, and `@<time>` of the trash; when each was last written to."""
    top = os.fsencode(os.path.join(store, FOLDER))
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(top):
            below = os.path.join(top, name)
            with contextlib.suppress(OSError):
                times = [os.lstat(os.path.join(below, one)).st_mtime for one in os.listdir(below)]
                found[text_of(name)] = max([os.lstat(below).st_mtime, *times])
    return found

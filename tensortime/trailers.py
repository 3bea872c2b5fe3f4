"""The commit message of a backup: the note, then trailers. `log` reads nothing else.

    first line of the note

    the rest of it

    Backup: 2
    Time-Ns: 1795500000000000000
    Status: done
    …

The trailers are the last paragraph and always there. A value that a person wrote (project, command,
params, metrics) is JSON on one line, so that no value can look like another trailer. FORMAT.md has a section on it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from tensortime.formats import bytes_of

Value = TypeVar("Value")

KNOWN = [
    "Backup",
    "Time-Ns",
    "Host-Id",
    "Project",
    "Status",
    "Files",
    "Bytes",
    "Parent",
    "Command",
    "Params",
    "Metrics",
    "Edited-Ns",
    "Runner",
]

KNOWN_KEYS = frozenset(KNOWN)

COUNT_BITS = 63
"""So many has a count or a time at most; none is negative."""

raw_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True)
class BackupFacts:
    """What a commit message says of its backup."""

    note: str
    number: int
    """1 for the backup that started the experiment."""
    time_ns: int
    """Nanoseconds since 1970; later backups of a store always have larger ones."""
    host_id: str
    project: str
    """Absolute path of the project when the backup was made."""
    status: str
    """pending, running, done, failed, interrupted or incomplete."""
    files: int
    size: int
    """Bytes of all files, before compression and sharing."""
    parent: str = ""
    """`NAME:n` of the backup whose worktree this project was, or empty."""
    command: tuple[str, ...] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, object] = field(default_factory=dict)
    edited_ns: int = 0
    """When the note was changed, nanoseconds since 1970; 0: never."""
    runner: Mapping[str, object] = field(default_factory=dict)
    """The process of `tensortime run` whose command is running (see `processes`); empty for all other backups."""
    unknown: tuple[tuple[str, str], ...] = ()
    """Trailers that a later version wrote: kept as they are."""


def encode_message(facts: BackupFacts) -> bytes:
    """The commit message of these facts."""
    rows = [
        ("Backup", str(facts.number)),
        ("Time-Ns", str(facts.time_ns)),
        ("Host-Id", facts.host_id),
        ("Project", one_line(facts.project)),
        ("Status", facts.status),
        ("Files", str(facts.files)),
        ("Bytes", str(facts.size)),
    ]
    if facts.parent:
        rows.append(("Parent", facts.parent))
    for key, value in (("Command", facts.command), ("Params", facts.params), ("Metrics", facts.metrics)):
        if value:
            rows.append((key, one_line(value)))
    if facts.edited_ns:
        rows.append(("Edited-Ns", str(facts.edited_ns)))
    if facts.runner:
        rows.append(("Runner", one_line(facts.runner)))
    rows += facts.unknown
    trailers = "".join(f"{key}: {value}\n" for key, value in rows)
    return bytes_of(f"{facts.note}\n\n{trailers}" if facts.note else trailers)


def one_line(value: object) -> str:
    """JSON on one line; text stays readable, bytes that are not UTF-8 are escaped."""
    value = plain(value)
    text = json.dumps(value, ensure_ascii=False)
    if any("\ud800" <= char <= "\udfff" or char in "\x85\u2028\u2029" for char in text):
        return json.dumps(value)
    return text


def plain(value: object) -> object:
    """A value as JSON can hold it: numbers of NumPy and torch as numbers, `nan` and `inf` and the rest as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    number = getattr(value, "item", None)
    if callable(number):
        try:
            return plain(number())
        except (TypeError, ValueError, RuntimeError):
            return str(value)
    return str(value)


def decode_message(text: str) -> BackupFacts:
    """Read a commit message (decoded with surrogateescape); ValueError if it is not a backup's."""
    note, _, block = text.rstrip("\n").rpartition("\n\n")
    rows: dict[str, str] = {}
    for line in block.split("\n"):
        key, colon, value = line.partition(": ")
        if not colon:
            raise ValueError(f"a line that is no trailer: {line[:80]!r}")
        rows[key] = value
    command: list[object] = typed(rows, "Command", [])
    try:
        facts = BackupFacts(
            note=note,
            number=int(rows["Backup"]),
            time_ns=int(rows["Time-Ns"]),
            host_id=rows.get("Host-Id", ""),
            project=typed(rows, "Project", ""),
            status=rows.get("Status", "done"),
            files=int(rows.get("Files", "0")),
            size=int(rows.get("Bytes", "0")),
            parent=rows.get("Parent", ""),
            command=tuple(map(str, command)),
            params=typed(rows, "Params", {}),
            metrics=typed(rows, "Metrics", {}),
            edited_ns=int(rows.get("Edited-Ns", "0")),
            runner=typed(rows, "Runner", {}),
            unknown=() if rows.keys() <= KNOWN_KEYS else unknown_in(rows),
        )
    except (KeyError, TypeError, RecursionError) as problem:
        raise ValueError(f"trailers of no backup: {problem}") from problem
    if (facts.number | facts.time_ns | facts.files | facts.size | facts.edited_ns) >> COUNT_BITS:
        raise ValueError("a count that is negative, or beyond all measure")
    return facts


def unknown_in(rows: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The trailers that this version does not know."""
    return tuple((key, value) for key, value in rows.items() if key not in KNOWN_KEYS)


def read_json(text: str) -> object:
    """As `json.loads`, which takes twice as long for a short text: `log` reads four of each experiment."""
    try:
        value, end = raw_decode(text)
    except ValueError:
        end = -1
    # Else there is space around it, or json.loads says what is wrong.
    return value if end == len(text) else json.loads(text)


def typed(rows: dict[str, str], key: str, default: Value) -> Value:
    """The JSON value of a trailer, which must have the type of `default`."""
    if key not in rows:
        return default
    value = read_json(rows[key])
    if not isinstance(value, type(default)):
        raise ValueError(f"{key} is not a {type(default).__name__}")
    return value

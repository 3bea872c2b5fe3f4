"""What is in the store and yet not to be relied on: `.cache/withdrawn`. A backup stores it again.

`verify` withdraws what it found damaged, so that the next backup heals it; `gc`, where no lock can be trusted, what
it is going to delete a day later, so that nobody comes to rely on it meanwhile. An entry counts only as long as the
very file that it was made for is there: who stores the bytes again has taken it back.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tensortime import fsops
from tensortime.formats import Digest, parse_digest

FileId = tuple[int, int, int]
"""Size, mtime and inode of an object's file."""

DAMAGED, UNUSED = "damaged", "unused"


class Mark(NamedTuple):
    """Why something is withdrawn, and since when (nanoseconds since 1970)."""

    why: str
    since_ns: int
    file: FileId = (0, 0, 0)


@dataclass(frozen=True)
class Withdrawn:
    """All that is withdrawn in a store."""

    objects: Mapping[Digest, Mark] = field(default_factory=dict)
    packs: Mapping[str, Mark] = field(default_factory=dict)
    """Whole packs, which nothing needs."""
    copies: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    """Packs, and the objects in them that are damaged."""

    def is_empty(self) -> bool:
        """Whether nothing is."""
        return not (self.objects or self.packs or self.copies)


def file_id(info: os.stat_result) -> FileId:
    """What tells a file from one that took its place. Not the ctime: a hard link changes it."""
    return info.st_size, info.st_mtime_ns, info.st_ino


def withdrawn_file(store: str) -> str:
    """Where it is written, in the folder of a store."""
    return os.path.join(store, ".cache", "withdrawn")


def read_withdrawn(store: str) -> Withdrawn:
    """What is withdrawn; nothing where the file is missing or damaged, which is safe: gc begins anew then."""
    try:
        rows = json.loads(fsops.read_file(withdrawn_file(store)))
        return Withdrawn(
            {parse_digest(name): read_mark(row) for name, row in rows["objects"].items()},
            {str(name): read_mark(row) for name, row in rows["packs"].items()},
            {str(name): frozenset(map(bytes.fromhex, oids)) for name, oids in rows["copies"].items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return Withdrawn()


def read_mark(row: Mapping[str, object]) -> Mark:
    """One mark from its JSON fields."""
    since, file = row["since"], row.get("file", [0, 0, 0])
    if not isinstance(since, int) or not isinstance(file, list):
        raise ValueError("no mark")
    size, mtime, inode = map(int, file)
    return Mark(str(row["why"]), since, (size, mtime, inode))


def write_withdrawn(store: str, found: Withdrawn) -> None:
    """Write it down; nothing at all where nothing is withdrawn."""
    if found.is_empty():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(withdrawn_file(store))
        return
    rows = {
        "objects": {digest: mark_row(mark) for digest, mark in found.objects.items()},
        "packs": {name: mark_row(mark) for name, mark in found.packs.items()},
        "copies": {name: sorted(oid.hex() for oid in oids) for name, oids in found.copies.items()},
    }
    data = json.dumps(rows, sort_keys=True).encode()
    fsops.write_atomic(withdrawn_file(store), data, staging=os.path.join(store, ".tmp"), durable=False)


def mark_row(mark: Mark) -> dict[str, object]:
    """The JSON fields of a mark."""
    return {"why": mark.why, "since": mark.since_ns, "file": list(mark.file)}


@contextlib.contextmanager
def changing_withdrawn(store: str) -> Iterator[Withdrawn]:
    """Read it to be written again, alone where there are locks."""
    with fsops.locked(os.path.join(store, ".tmp", "withdrawn.lock"), wait=5.0):
        yield read_withdrawn(store)

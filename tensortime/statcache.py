"""The stat cache: which bytes a path had when its stat was last like this. Safe to delete at any time.

It may only make a backup faster, never wrong. So an entry is kept only if the file was older than the racy
window when it was read (see git's technical/racy-git), the whole file carries a checksum, and what it claims
to be in the store is checked against the packs that are there.

Layout: MAGIC, BLAKE3 of the rest, then a header line of JSON, fixed records, NUL-separated paths, known ids.
"""

import contextlib
import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NewType

from blake3 import blake3

from tensortime.formats import RelPath
from tensortime.fsops import read_file, write_atomic

MAGIC = b"tensortime stat cache 1\n"
BODY = len(MAGIC) + 32
"""Where the header line begins, behind the checksum."""
KEY = struct.Struct("<QqqQ")
RECORD = struct.Struct("<QqqQB32s")
ID = KEY.size + 1
"""Where in a record the id begins; the byte in front is its length."""
SMALL_ID, LARGE_ID = 20, 32
"""Bytes of a git blob's id and of a BLAKE3 digest."""

SMALL_WINDOW_NS = 2_000_000_000
"""A file younger than this may change again without a change of its times (FAT counts in 2 s)."""

LARGE_WINDOW_NS = 60_000_000_000
"""A memory-mapped write can change bytes up to 30 s before it changes any time (dirty_expire, flush interval)."""


UNSETTLED = -(1 << 62)
"""In place of the mtime of a large file that may still change: its entry equals no file, but tells where a look
at the bytes probably saves a copy."""


class StatKey(NamedTuple):
    """What must be equal for a file to count as unchanged."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


Known = NewType("Known", bytes)
"""A cached file: one RECORD, as it stands in the file. A million of them are loaded and compared at each backup, and
bytes cost a third of the time and the memory of what they stand for."""


def key_in(known: Known) -> StatKey:
    """The stat that a cached file had."""
    return StatKey._make(KEY.unpack_from(known))


def has_key(known: Known, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> bool:
    """Whether a cached file had this stat."""
    try:
        return known.startswith(KEY.pack(size, mtime_ns, ctime_ns, inode))
    except struct.error:
        return False  # a time that no record can hold


def identity_in(known: Known) -> bytes:
    """The raw id of a cached file's bytes: SMALL_ID bytes (git's blob) or LARGE_ID (BLAKE3)."""
    return known[ID : ID + known[KEY.size]]


def is_large(known: Known) -> bool:
    """Whether the bytes of a cached file lie in the sidecar."""
    return known[KEY.size] == LARGE_ID


def note(files: dict[RelPath, Known], path: RelPath, key: StatKey, identity: bytes) -> None:
    """Put a file among the cached ones, unless its times do not fit into 64 bits (years 1678 to 2262)."""
    with contextlib.suppress(struct.error):
        files[path] = Known(RECORD.pack(*key, len(identity), identity))


@dataclass
class StatCache:
    """All that a store remembers of one project."""

    files: dict[RelPath, Known] = field(default_factory=dict)
    objects: set[bytes] = field(default_factory=set)
    """Raw ids of blobs and trees that are in the store's packs, beside those of `files`."""
    packs: dict[str, int] = field(default_factory=dict)
    """The packs that `objects` relies on, with their sizes."""

    def stored(self) -> set[bytes]:
        """Raw ids of all blobs and trees that are in the store's packs."""
        return self.objects | {identity_in(known) for known in self.files.values() if not is_large(known)}


def is_settled(key: StatKey, now_ns: int, window_ns: int) -> bool:
    """Whether a file with this stat, read at `now_ns`, can be recognised by its stat later."""
    return max(key.mtime_ns, key.ctime_ns) < now_ns - window_ns


def cache_name(project: str) -> str:
    """The file name of a project's cache in `.cache/`."""
    return "stat-" + blake3(os.fsencode(project)).hexdigest()[:16]


def load_cache(path: str, store_id: str, packs: Mapping[str, int]) -> StatCache:
    """Read a cache; an empty one if it is missing, damaged, of another store or another version."""
    try:
        data = read_file(path)
        if not data.startswith(MAGIC):
            return StatCache()
        if blake3(memoryview(data)[BODY:]).digest() != data[len(MAGIC) : BODY]:
            return StatCache()
        cache = decode_cache(data, store_id)
    except (OSError, ValueError, KeyError, TypeError):
        return StatCache()
    if any(packs.get(name) != size for name, size in cache.packs.items()):
        # A pack went away (folded, collected, deleted): whoever loads this asks the packs what is left.
        cache.packs = {}
    return cache


def decode_cache(data: bytes, store_id: str) -> StatCache:
    """Read what `save_cache` wrote; no part of it is copied as a whole. ValueError, KeyError, TypeError."""
    start = data.index(b"\n", BODY) + 1
    header = json.loads(data[BODY:start])
    if header["store"] != store_id:
        return StatCache()
    if not isinstance(header["packs"], dict):
        raise ValueError("no packs")
    end = start + header["files"] * RECORD.size
    names_end = end + header["names"]
    if not {*data[start + KEY.size : end : RECORD.size]} <= {SMALL_ID, LARGE_ID}:
        raise ValueError("an id of another length")
    paths = data[end:names_end].split(b"\0") if header["files"] else []
    files = {
        RelPath(path): Known(data[at : at + RECORD.size])
        for path, at in zip(paths, range(start, end, RECORD.size), strict=True)
    }
    objects = {data[at : at + SMALL_ID] for at in range(names_end, len(data), SMALL_ID)}
    return StatCache(files, objects, header["packs"])


def save_cache(path: str, store_id: str, cache: StatCache, staging: str) -> None:
    """Write a cache. Not synced: a lost cache costs time only."""
    body = encode_cache(cache, store_id)
    write_atomic(path, MAGIC + blake3(body).digest() + body, staging=staging, durable=False)


def encode_cache(cache: StatCache, store_id: str) -> bytes:
    """The bytes after the checksum."""
    names = b"\0".join(cache.files)
    header = {"store": store_id, "files": len(cache.files), "names": len(names), "packs": cache.packs}
    parts = json.dumps(header).encode(), b"\n", *cache.files.values(), names, *cache.objects
    return b"".join(parts)


def confirmed(cache: StatCache, present: Iterable[bytes]) -> StatCache:
    """A cache that knows what is `present`, and of its small files those that are."""
    objects = set(present)
    files = {
        path: known for path, known in cache.files.items() if is_large(known) or identity_in(known) in objects
    }
    return StatCache(files, objects)

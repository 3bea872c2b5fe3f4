"""The stat cache: which bytes a path had when its stat was last like this. Safe to delete at any time.

It may only make a backup faster, never wrong. So an entry is kept only if the file was older than the racy
window when it was read (see git's technical/racy-git), the whole file carries a checksum, and what it claims
to be in the store is checked against the packs that are there.

Layout: MAGIC, BLAKE3 of the rest, then a header line of JSON, fixed records, NUL-separated paths, known ids.
"""

import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from blake3 import blake3

from tensortime.formats import Digest, RelPath
from tensortime.fsops import read_file, write_atomic

MAGIC = b"tensortime stat cache 1\n"
RECORD = struct.Struct("<QqqQB32s")

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


class Known(NamedTuple):
    """A cached file: its key, and the raw id of its bytes (20 bytes: git's blob; 32: BLAKE3)."""

    key: StatKey
    identity: bytes

    @property
    def large(self) -> bool:
        """Whether the bytes lie in the sidecar."""
        return len(self.identity) == 32


@dataclass
class StatCache:
    """All that a store remembers of one project."""

    files: dict[RelPath, Known] = field(default_factory=dict)
    objects: set[bytes] = field(default_factory=set)
    """Raw ids of blobs and trees that are in the store's packs."""
    packs: dict[str, int] = field(default_factory=dict)
    """The packs that `objects` relies on, with their sizes."""


def is_settled(key: StatKey, now_ns: int, window_ns: int) -> bool:
    """Whether a file with this stat, read at `now_ns`, can be recognised by its stat later."""
    return max(key.mtime_ns, key.ctime_ns) < now_ns - window_ns


def digest_of(identity: bytes) -> Digest:
    """The digest of a large file's raw identity."""
    return Digest("blake3:" + identity.hex())


def cache_name(project: str) -> str:
    """The file name of a project's cache in `.cache/`."""
    return "stat-" + blake3(os.fsencode(project)).hexdigest()[:16]


def load_cache(path: str, store_id: str, packs: Mapping[str, int]) -> StatCache:
    """Read a cache; an empty one if it is missing, damaged, of another store or another version."""
    try:
        data = read_file(path)
        if not data.startswith(MAGIC):
            return StatCache()
        checksum, body = data[len(MAGIC) : len(MAGIC) + 32], memoryview(data)[len(MAGIC) + 32 :]
        if blake3(body).digest() != checksum:
            return StatCache()
        cache = decode_cache(bytes(body), store_id)
    except (OSError, ValueError, KeyError, struct.error):
        return StatCache()
    if any(packs.get(name) != size for name, size in cache.packs.items()):
        # A pack went away (folded, collected, deleted): whoever loads this asks the packs what is left.
        cache.packs = {}
    return cache


def decode_cache(body: bytes, store_id: str) -> StatCache:
    """Read what `encode_cache` wrote."""
    line, _, rest = body.partition(b"\n")
    header = json.loads(line)
    if header["store"] != store_id:
        return StatCache()
    end = header["files"] * RECORD.size
    names_end = end + header["names"]
    paths = rest[end:names_end].split(b"\0") if header["files"] else []
    files = {
        RelPath(path): Known(StatKey(size, mtime, ctime, inode), identity[:length])
        for path, (size, mtime, ctime, inode, length, identity) in zip(
            paths, RECORD.iter_unpack(rest[:end]), strict=True
        )
    }
    ids = rest[names_end:]
    objects = {ids[i : i + 20] for i in range(0, len(ids), 20)}
    return StatCache(files, objects, header["packs"])


def save_cache(path: str, store_id: str, cache: StatCache, staging: str) -> None:
    """Write a cache. Not synced: a lost cache costs time only."""
    body = encode_cache(cache, store_id)
    write_atomic(path, MAGIC + blake3(body).digest() + body, staging=staging, durable=False)


def encode_cache(cache: StatCache, store_id: str) -> bytes:
    """The bytes after the checksum."""
    names = b"\0".join(cache.files)
    records = b"".join(
        RECORD.pack(key.size, key.mtime_ns, key.ctime_ns, key.inode, len(identity), identity)
        for key, identity in cache.files.values()
        if fits(key)
    )
    if len(records) != RECORD.size * len(cache.files):
        return encode_cache(StatCache(without_odd_times(cache.files), cache.objects, cache.packs), store_id)
    header = {"store": store_id, "files": len(cache.files), "names": len(names), "packs": cache.packs}
    return json.dumps(header).encode() + b"\n" + records + names + b"".join(sorted(cache.objects))


def fits(key: StatKey) -> bool:
    """Whether the times fit into 64 bits (years 1678 to 2262)."""
    return min(key.mtime_ns, key.ctime_ns) >= -(1 << 63) and max(key.mtime_ns, key.ctime_ns) < 1 << 63


def without_odd_times(files: Mapping[RelPath, Known]) -> dict[RelPath, Known]:
    """Only the entries that the record can hold."""
    return {path: known for path, known in files.items() if fits(known.key)}


def confirmed(cache: StatCache, present: Iterable[bytes]) -> StatCache:
    """A cache that knows what is `present`, and of its small files those that are."""
    objects = set(present)
    files = {path: known for path, known in cache.files.items() if known.large or known.identity in objects}
    return StatCache(files, objects)

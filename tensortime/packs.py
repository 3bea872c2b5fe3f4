"""git objects, and the pack and idx files that hold them: the formats and one writer (`packreader` reads them).

The formats are git's: gitformat-pack(5) for `.pack` and `.idx`, both of version 2. We write whole objects,
never deltas: folding is the work of `git repack`.

    pack_object (any thread) ──> PackWriter.add (one thread) ──> finish: packs, then idx, then the folder

Ids are 20 raw bytes, sizes and offsets are bytes. Nothing here knows of projects or refs, or runs git.
"""

import array
import hashlib
import os
import re
import struct
import sys
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import IntEnum
from functools import cache
from io import BufferedRandom, FileIO
from itertools import count, islice
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, cast

from tensortime import fsops
from tensortime.threads import begin, start_threads

if TYPE_CHECKING:
    from concurrent.futures import Future

Data = bytes | bytearray | memoryview

OID_SIZE = 20
PACK_HEADER = struct.Struct(">4sII")  # "PACK", version, number of objects
INDEX_MAGIC = b"\xfftOc" + struct.pack(">I", 2)
FANOUT_END = len(INDEX_MAGIC) + 256 * 4
FIRST_LARGE_OFFSET = 1 << 31  # from here on it stands in the 64-bit table of the idx
BUFFER = 1 << 20
FULL = 512 << 20  # bytes of a pack: the last one is hashed while nothing is read, half of this on average
ALWAYS_TRY = 8 << 10  # up to here trying to compress costs hardly more than a sample
SAMPLE_WINDOWS, SAMPLE_WINDOW = 4, 1 << 10
LONGEST_BLOCK = 0xFFFF
STORED_BLOCK = struct.Struct("<?HH")  # last or not, length, its complement
STORED = 2 + 5 + 4  # the least that level 0 adds: zlib header, one block header, Adler-32
FOLDER = 0o40000
ROW_START = {mode: b"%o " % mode for mode in (FOLDER, 0o100644, 0o100755, 0o120000)}
MODES = frozenset(ROW_START)
TREE_ROW = re.compile(rb"([1-7][0-7]{4,5}) ([^/\0]+)\0(.{20})", re.DOTALL)
NO_NAMES = (b"", b".", b"..")
IDENT = re.compile(rb"[^<>\n\0]+ <[^<>\n\0]*>")
OURSELVES = b"TensorTime <tensortime@localhost>"
LATEST = (1 << 63) - 1  # seconds; `git fsck` calls more than a signed 64-bit time badDateOverflow


class Kind(IntEnum):
    """The type of an object, as a pack entry numbers it."""

    COMMIT = 1
    TREE = 2
    BLOB = 3
    TAG = 4
    """Annotated, made by a person in a restored worktree: copied, never written."""


WORDS = {kind: kind.name.lower().encode() + b" %d\0" for kind in Kind}
"""What is hashed in front of an object's bytes."""


class Packed(NamedTuple):
    """One object, ready for a pack: id, entry (header and zlib stream), CRC-32 of the entry for the idx."""

    oid: bytes
    entry: tuple[bytes, bytes]
    crc: int


def object_id(kind: Kind, data: Data) -> bytes:
    """Return git's id of an object: the SHA-1 of its kind, its size and its bytes."""
    digest = sha1(WORDS[kind] % len(data))
    digest.update(data)
    return digest.digest()


def pack_object(kind: Kind, data: Data, oid: bytes | None = None) -> Packed:
    """Hash (unless its `oid` is known) and compress one object. What takes long does not hold the GIL."""
    header, stream = entry_header(kind, len(data)), _deflate(data)
    crc32 = _codec().crc32
    return Packed(oid or object_id(kind, data), (header, stream), crc32(stream, crc32(header)))


def sha1(data: Data = b"") -> "hashlib._Hash":
    """A hasher: a name, no security decision of ours. Without the flag a FIPS build of OpenSSL refuses."""
    return hashlib.sha1(data, usedforsecurity=False)


def entry_header(kind: int, size: int) -> bytes:
    """How an entry begins: 3 bits of kind, 4 of size, then 7 of size a byte, lowest first; a top bit says that a byte follows."""
    byte, size, header = (kind << 4) | (size & 15), size >> 4, bytearray()
    while size:
        header.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    header.append(byte)
    return bytes(header)


def _deflate(data: Data) -> bytes:
    """Return a zlib stream: the fast compression where it helps, else the bytes as they are (level 0)."""
    if not _worth_compressing(data):
        return stored(data)
    packed = _codec().compress(data, 1)
    return packed if len(packed) <= len(data) + STORED else min(packed, stored(data), key=len)


def stored(data: Data) -> bytes:
    """Return a zlib stream of stored blocks (RFC 1950, RFC 1951 3.2.4): zlib's level 0, at a third of its cost."""
    view = memoryview(data)
    parts: list[bytes | memoryview] = [b"\x78\x01"]
    for start in range(0, max(len(view), 1), LONGEST_BLOCK):
        block = view[start : start + LONGEST_BLOCK]
        is_last = start + LONGEST_BLOCK >= len(view)
        parts += (STORED_BLOCK.pack(is_last, len(block), len(block) ^ 0xFFFF), block)
    parts.append(_codec().adler32(data).to_bytes(4, "big"))
    return b"".join(parts)


def _worth_compressing(data: Data) -> bool:
    """Whether a sample shrinks by more than 1/32: images, archives and float64 noise do not.

    The sample comes from several places: one incompressible part (an image in a notebook) shall not decide.
    """
    if len(data) <= ALWAYS_TRY:
        return True
    step = len(data) // SAMPLE_WINDOWS
    starts = [step * i + (step - SAMPLE_WINDOW) // 2 for i in range(SAMPLE_WINDOWS)]
    sample = b"".join(data[start : start + SAMPLE_WINDOW] for start in starts)
    return len(_codec().compress(sample, 1)) < len(sample) - len(sample) // 32


class Codec(Protocol):
    """What `zlib` and `isal.isal_zlib` have in common."""

    compress: Callable[[Data, int], bytes]
    crc32: Callable[..., int]
    adler32: Callable[[Data], int]


@cache
def _codec() -> Codec:
    """ISA-L, several times as fast as zlib. Imported late: most processes compress nothing."""
    try:
        from isal import isal_zlib
    except ImportError:
        return cast(Codec, zlib)
    return cast(Codec, isal_zlib)


class TreeEntry(NamedTuple):
    """One row of a tree: a file, a link or a folder under its name in that folder."""

    mode: int
    name: bytes
    oid: bytes


def encode_tree(entries: Iterable[TreeEntry]) -> bytes:
    """Return a tree object's bytes, rows in git's order; ValueError for a row that git could not read.

    Names that git reads but will not check out (`.git` and its disguises) are the caller's to keep out.
    """
    rows = sorted(entries, key=_tree_order)
    if not rows:
        return b""
    modes, names, oids = zip(*rows, strict=True)
    # All at once: one look a row takes longer than the rest of a backup in which nothing has changed.
    joined, different = b"/".join(names), {*names}
    if (
        not MODES.issuperset(modes)
        or {*map(len, oids)} != {OID_SIZE}
        or b"\0" in joined
        or joined.count(b"/") != len(names) - 1
        or not different.isdisjoint(NO_NAMES)
    ):
        raise ValueError(f"not a row of a git tree among {rows!r:.200}")
    if len(different) < len(rows):
        raise ValueError("the same name twice in one folder")
    return b"".join([ROW_START[mode] + name + b"\0" + oid for mode, name, oid in rows])


def _tree_order(entry: TreeEntry) -> bytes:
    """A folder sorts as if its name ended in `/`: `a.b`, then the folder `a`, then `a0`."""
    return entry.name + b"/" if entry.mode == FOLDER else entry.name


def decode_tree(data: bytes) -> list[TreeEntry]:
    """Return a tree object's rows as they stand; ValueError if the bytes are no tree."""
    rows = list(TREE_ROW.finditer(data))
    if sum(len(row[0]) for row in rows) != len(data):
        raise ValueError(f"not a git tree: {len(data)} bytes, begun by {len(rows)} rows")
    return [TreeEntry(int(mode, 8), name, oid) for mode, name, oid in (row.groups() for row in rows)]


def encode_commit(
    tree: bytes, parents: Sequence[bytes], seconds: int, message: bytes, ident: bytes = OURSELVES
) -> bytes:
    """Return a commit object's bytes: `ident` is author and committer, the zone is UTC, the message as given.

    `seconds` since 1970 are brought into the range that git accepts: a machine whose clock is wrong still
    gets its backup. ValueError for a NUL in the message, where git would end it, or an ident git cannot read.
    """
    if not IDENT.fullmatch(ident) or b"\0" in message:
        raise ValueError(f"git could not read this commit back: {ident!r}, {message[:80]!r}")
    if any(len(oid) != OID_SIZE for oid in (tree, *parents)):
        raise ValueError(f"an object id is {OID_SIZE} raw bytes: {tree!r}, {parents!r}")
    when = b"%s %d +0000" % (ident, min(max(seconds, 0), LATEST))
    lines = [b"tree " + tree.hex().encode(), *(b"parent " + parent.hex().encode() for parent in parents)]
    return b"\n".join([*lines, b"author " + when, b"committer " + when, b"", message])


class Full(NamedTuple):
    """A pack to which nothing is added any more, and its idx that is still empty."""

    pack: BufferedRandom
    idx: BufferedRandom
    oids: list[bytes]
    offsets: "array.array[int]"
    crcs: "array.array[int]"


class PackWriter:
    """Streams objects into packs of at most `limit` bytes (or one object) and publishes them all at once.

    One thread uses it; a pack that is full is completed by another while it goes on. Until `finish` all lies in
    the staging folder, on the same file system: a crash leaves `tmp_pack_*` and `tmp_idx_*` there, nothing else.
    As a context manager it removes these too, unless `finish` was reached. After an error in `add` or `finish`
    it has aborted: half an entry cannot be taken back.

    `objects` counts what was written, `bytes` the entries alone, without headers and trailers of packs.
    Memory: 130 bytes an object over all packs, and 140 for each of one pack while its idx is made.
    """

    def __init__(self, pack_folder: str, staging_folder: str, *, limit: int = FULL) -> None:
        self.objects = 0
        self.bytes = 0
        self._pack_folder, self._staging_folder = os.fspath(pack_folder), os.fspath(staging_folder)
        self._limit = limit
        # A dict for its order: the newest ids are those of the open pack, and no list has to repeat them.
        self._seen: dict[bytes, None] = {}
        self._open: BufferedRandom | None = None
        self._end = 0  # of the open pack: where its next entry goes
        self._offsets, self._crcs = array.array("Q"), array.array("I")
        self._begun = 0  # up to here the open pack was handed to the disk
        self._sealed: list[tuple[str, BufferedRandom, BufferedRandom]] = []  # name, pack, idx
        self._sealing: Future[None] | None = None  # the newest of the packs that are completed by a thread
        self._staged: list[BufferedRandom] = []
        self._closed = False

    @property
    def folder(self) -> str:
        """Where the packs go."""
        return self._pack_folder

    @property
    def names(self) -> list[str]:
        """The packs that are complete, published or not."""
        return [name for name, _, _ in self._sealed]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def __contains__(self, oid: bytes) -> bool:
        return oid in self._seen

    def add(self, packed: Packed) -> bool:
        """Append one object; False if this writer has it already."""
        self._check_open()
        if packed.oid in self._seen:
            return False
        size = sum(map(len, packed.entry))
        try:
            pack = self._pack_with_room(size)
            pack.writelines(packed.entry)
        except BaseException:
            self.abort()
            raise
        self._seen[packed.oid] = None
        self._offsets.append(self._end)
        self._crcs.append(packed.crc)
        self._end += size
        self._begun = fsops.begin_writeback(pack.fileno(), self._begun, self._end - BUFFER)
        self.objects += 1
        self.bytes += size
        return True

    def finish(self) -> list[str]:
        """Make the packs durable, then visible, and return their names: `pack-<40 hex>`, none for nothing.

        git looks for idx files, so these come last. A pack that has the name already has the same content, as
        the name is its SHA-1, or is damaged: taking its place is right both times.
        """
        self._check_open()
        with self:  # an error aborts
            self._wait_for_seal()
            if self._open:
                self._seal(self._close_pack(self._open))
            for name, pack, _ in self._sealed:
                os.replace(pack.name, os.path.join(self._pack_folder, f"{name}.pack"))
            for name, _, index in self._sealed:
                os.replace(index.name, os.path.join(self._pack_folder, f"{name}.idx"))
            if self._sealed:
                fsops.sync_folder(self._pack_folder)
            self._closed = True
        return self.names

    def abort(self) -> None:
        """Remove what is staged, and forget it; do nothing after `finish`."""
        if self._closed:
            return
        self._closed = True
        self._seen.clear()
        with suppress(Exception):  # of a pack that nobody wants any more
            self._wait_for_seal()
        for file in self._staged:  # what cannot be removed is left to the sweep of the staging folder
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                os.unlink(file.name)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this pack writer has finished or aborted")

    def _stage(self, prefix: str) -> BufferedRandom:
        # Read-only from the start, for all who open it later: what is published is never written again.
        path = os.path.join(self._staging_folder, f"{prefix}{os.urandom(8).hex()}")
        raw = FileIO(path, "x+", opener=lambda path, flags: os.open(path, flags, 0o400))
        self._staged.append(BufferedRandom(raw, BUFFER))
        return self._staged[-1]

    def _pack_with_room(self, size: int) -> BufferedRandom:
        """Return the open pack, or a new one if `size` more bytes and the trailer would cross the limit."""
        if self._open and self._end + size + OID_SIZE > self._limit:
            self._seal_beside(self._open)
        if not self._open:
            self._open, self._begun = self._stage("tmp_pack_"), 0
            self._end = self._open.write(PACK_HEADER.pack(b"PACK", 2, 0))  # the count comes at the end
        return self._open

    def _seal_beside(self, pack: BufferedRandom) -> None:
        """Let a thread complete the open pack: to hash and sync a full one takes as long as to read what is in the next.

        One at a time, so that what went wrong is known before a whole pack more is written.
        """
        self._wait_for_seal()
        closed = self._close_pack(pack)
        pool = start_threads(1)
        self._sealing = begin(pool, lambda: self._seal(closed))
        if pool is not None:
            pool.shutdown(wait=False)

    def _wait_for_seal(self) -> None:
        """Wait until no thread completes a pack; raises what that failed of."""
        if self._sealing:
            self._sealing.result()
            self._sealing = None  # not before: an interrupted wait is waited for again by `abort`

    def _close_pack(self, pack: BufferedRandom) -> Full:
        """Take the open pack, to which nothing is added any more."""
        objects = len(self._offsets)
        oids = list(islice(self._seen, len(self._seen) - objects, None))
        full = Full(pack, self._stage("tmp_idx_"), oids, self._offsets, self._crcs)
        self._open, self._offsets, self._crcs = None, array.array("Q"), array.array("I")
        return full

    def _seal(self, full: Full) -> None:
        """Complete a pack that was closed and write its idx; both are durable then, and still staged."""
        pack, index = full.pack, full.idx
        pack.seek(0)
        pack.write(PACK_HEADER.pack(b"PACK", 2, len(full.oids)))
        # The trailer covers the count in front, so all is read again, from the page cache: 0.07 s for 100 MB.
        pack.seek(0)
        checksum = hashlib.file_digest(pack, sha1).digest()
        pack.write(checksum)
        index.writelines(encode_index(full.oids, full.offsets, full.crcs, checksum))
        for file in (pack, index):
            file.flush()
            fsops.sync_file(file.fileno())
            file.close()
        self._sealed.append(("pack-" + checksum.hex(), pack, index))


def encode_index(
    oids: Sequence[bytes], offsets: Sequence[int], crcs: Sequence[int], checksum: bytes
) -> Iterator[bytes]:
    """Yield the parts of the idx of a pack whose trailer is `checksum`; any order, parallel sequences."""
    order = sorted(range(len(oids)), key=oids.__getitem__)
    rows = count(FIRST_LARGE_OFFSET)
    places = (offsets[i] if offsets[i] < FIRST_LARGE_OFFSET else next(rows) for i in order)
    large = (offsets[i] for i in order if offsets[i] >= FIRST_LARGE_OFFSET)
    ends = [bisect_left(order, bytes([first]), key=oids.__getitem__) for first in range(1, 256)]
    digest = sha1()
    for part in (
        INDEX_MAGIC + struct.pack(">256I", *ends, len(oids)),
        b"".join([oids[i] for i in order]),
        _big_endian("I", (crcs[i] for i in order)),
        _big_endian("I", places) + _big_endian("Q", large),
        checksum,
    ):
        digest.update(part)
        yield part
    yield digest.digest()


def _big_endian(width: str, values: Iterable[int]) -> bytes:
    numbers = array.array(width, values)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()

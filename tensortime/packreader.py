"""Packs as they lie on disk: which objects one holds, and their bytes, judged by what was promised of them.

Reads without git, so that one damaged object is one damaged object: git would end at the first. Our own packs hold
whole objects; those that `git repack` joined hold deltas too. Formats: gitformat-pack(5).
"""

import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from tensortime.packs import FANOUT_END, FIRST_LARGE_OFFSET, INDEX_MAGIC, OID_SIZE, PACK_HEADER, sha1

KINDS = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
OFFSET_DELTA, NAMED_DELTA = 6, 7
LONGEST_CHAIN = 5000
"""Deltas on deltas; git makes at most 4095."""

KEPT_BYTES = 16 << 20
"""Bases of deltas that are kept in memory, for each pack."""


class PackDamaged(ValueError):
    """An idx file that is no idx, or not all of one, or whose bytes have changed."""


class PackIndex:
    """The ids and offsets of one pack, out of its idx; PackDamaged if that is not whole.

    The file is read once and checked against its own SHA-1 (28 bytes an object, 30 ms for a million), never
    mapped: a mapped file that is truncated meanwhile kills the process.
    """

    def __init__(self, path: str) -> None:
        self._data = data = read_whole(path)
        if not data.startswith(INDEX_MAGIC) or len(data) < FANOUT_END + 2 * OID_SIZE:
            raise PackDamaged(f"{path} is no pack index of version 2, or only its beginning")
        self._fanout: tuple[int, ...] = (0, *struct.unpack_from(">256I", data, len(INDEX_MAGIC)))
        self._places = FANOUT_END + len(self) * (OID_SIZE + 4)  # behind the ids and the CRCs
        self._large = self._places + len(self) * 4
        rest = len(data) - 2 * OID_SIZE - self._large
        # The first entry of a pack stands at byte 12: at least one offset is not in the 64-bit table.
        if rest % 8 or not 0 <= rest // 8 <= max(len(self) - 1, 0):
            raise PackDamaged(f"{path} has {len(data)} bytes, which cannot be {len(self)} objects")
        if sha1(memoryview(data)[:-OID_SIZE]).digest() != data[-OID_SIZE:]:
            raise PackDamaged(f"{path} has changed: its SHA-1 is not the one it was written with")

    def __len__(self) -> int:
        return self._fanout[-1]

    def __iter__(self) -> Iterator[bytes]:
        """Yield the ids in ascending order."""
        return map(self._oid, range(len(self)))

    def __contains__(self, oid: bytes) -> bool:
        return self._row(oid) is not None

    @property
    def checksum(self) -> bytes:
        """The trailer of the pack that this idx belongs to."""
        return self._data[-2 * OID_SIZE : -OID_SIZE]

    def offset(self, oid: bytes) -> int:
        """Return where the object's entry begins in the pack; KeyError if the pack does not hold it."""
        row = self._row(oid)
        if row is None:
            raise KeyError(oid.hex())
        place = int.from_bytes(self._slice(self._places, row, 4), "big")
        if place < FIRST_LARGE_OFFSET:
            return place
        return self._far(place)

    def rows(self) -> list[tuple[int, bytes, int]]:
        """Return offset, id and CRC-32 of every entry, in the order in which they stand in the pack."""
        count = len(self)
        crcs = struct.unpack_from(f">{count}I", self._data, FANOUT_END + count * OID_SIZE)
        places = struct.unpack_from(f">{count}I", self._data, self._places)
        rows = [
            (place if place < FIRST_LARGE_OFFSET else self._far(place), oid, crc)
            for oid, place, crc in zip(self, places, crcs, strict=True)
        ]
        return sorted(rows)

    def _far(self, place: int) -> int:
        return int.from_bytes(self._slice(self._large, place - FIRST_LARGE_OFFSET, 8), "big")

    def _slice(self, table: int, row: int, width: int) -> bytes:
        return self._data[table + row * width : table + (row + 1) * width]

    def _oid(self, row: int) -> bytes:
        return self._slice(FANOUT_END, row, OID_SIZE)

    def _row(self, oid: bytes) -> int | None:
        """Return the place of an id in the sorted table; the fanout bounds the search."""
        rows = range(self._fanout[oid[0]], self._fanout[oid[0] + 1])
        row = rows.start + bisect_left(rows, oid, key=self._oid)
        return row if row < rows.stop and self._oid(row) == oid else None


class Content(NamedTuple):
    """An object: its kind (`commit`, `tree`, `blob`, `tag`) and its bytes."""

    kind: bytes
    data: bytes


class Entry(NamedTuple):
    """Where an object stands in a pack, and the CRC-32 that its bytes there should have."""

    oid: bytes
    start: int
    end: int
    crc: int


class Pack:
    """One pack with its idx. Opens the file for each read: a pack may go away, and many packs are few descriptors.

    PackDamaged where the two do not belong together, the idx is not whole, or an entry is not what it should be.
    """

    def __init__(self, stem: str) -> None:
        self.stem, self.name = stem, os.path.basename(stem)
        self.index = PackIndex(stem + ".idx")
        self.size = os.stat(stem + ".pack").st_size
        self._starts: list[int] = []
        self._entries: list[Entry] = []
        self._bases: dict[int, Content] = {}
        self._kept = 0

    def entries(self) -> list[Entry]:
        """All objects in the order in which they stand."""
        if not self._entries:
            rows = self.index.rows()
            ends = [*(start for start, _, _ in rows[1:]), self.size - OID_SIZE]
            entries = [Entry(oid, start, end, crc) for (start, oid, crc), end in zip(rows, ends, strict=True)]
            self._starts = [entry.start for entry in entries]
            self._entries = entries
        return self._entries

    def entry(self, oid: bytes) -> Entry:
        """Where an object stands; KeyError if this pack does not hold it."""
        return self.entry_at(self.index.offset(oid))

    def entry_at(self, start: int) -> Entry:
        """The entry that begins at an offset."""
        entries = self.entries()
        row = bisect_left(self._starts, start)
        if row == len(entries) or entries[row].start != start:
            raise PackDamaged("the base of its delta is not in the pack")
        return entries[row]

    def check_frame(self) -> None:
        """PackDamaged unless beginning, end and size are those of the pack that the idx belongs to."""
        with open(self.stem + ".pack", "rb") as file:
            head = file.read(PACK_HEADER.size)
            file.seek(max(self.size - OID_SIZE, 0))
            tail = file.read()
        if head != PACK_HEADER.pack(b"PACK", 2, len(self.index)):
            raise PackDamaged("it does not begin as the pack of its idx")
        if tail != self.index.checksum:
            raise PackDamaged("it was cut short, or does not end as the pack of its idx")
        entries = self.entries()
        if (entries[0].start if entries else self.size - OID_SIZE) != PACK_HEADER.size:
            raise PackDamaged("it holds bytes that its idx does not know")

    def raw(self, entry: Entry) -> bytes:
        """The bytes of an entry as they stand; PackDamaged unless they have their CRC-32."""
        with open(self.stem + ".pack", "rb", buffering=0) as file:
            data = os.pread(file.fileno(), max(entry.end - entry.start, 0), entry.start)
        if len(data) != entry.end - entry.start or not data or zlib.crc32(data) != entry.crc:
            raise PackDamaged("its bytes in the pack have changed")
        return data

    def read(self, entry: Entry) -> Content:
        """An object; PackDamaged unless its bytes hash to its id."""
        content = self._content(entry)
        if hash_of(content) != entry.oid:
            raise PackDamaged("it holds other bytes than its id says")
        return content

    def _content(self, entry: Entry) -> Content:
        """An object with all deltas applied. Several threads may read one pack: what they share is only a help."""
        deltas: list[tuple[int, bytes]] = []
        while True:
            found = self._bases.get(entry.start)
            if found is not None:
                break
            kind, base, data = self._parse(entry)
            if base is None:
                found = Content(KINDS[kind], data)
                if deltas:
                    self._keep(entry.start, found)
                break
            deltas.append((entry.start, data))
            if len(deltas) > LONGEST_CHAIN:
                raise PackDamaged("its deltas lead in a circle")
            entry = self.entry_at(base)
        for start, delta in reversed(deltas):
            found = Content(found.kind, apply_delta(found.data, delta))
            self._keep(start, found)
        return found

    def _parse(self, entry: Entry) -> tuple[int, int | None, bytes]:
        """The kind of an entry, where its base begins if it is a delta, and what it holds, inflated."""
        raw = self.raw(entry)
        kind, size, base, at = self.header(entry, raw)
        try:
            data = inflate()(raw[at:])
        except zlib.error as problem:
            raise PackDamaged("it cannot be unpacked") from problem
        if len(data) != size:
            raise PackDamaged("it has not the size that it states")
        return kind, base, data

    def header(self, entry: Entry, raw: bytes) -> tuple[int, int, int | None, int]:
        """The kind and size of an entry, where its base begins if it is a delta, and where its zlib stream does."""
        try:
            kind, size, at = read_entry_header(raw)
            base = None
            if kind == OFFSET_DELTA:
                distance, at = base_distance(raw, at)
                base = entry.start - distance
            elif kind == NAMED_DELTA:
                base, at = self.index.offset(raw[at : at + OID_SIZE]), at + OID_SIZE
            elif kind not in KINDS:
                raise PackDamaged("it is of an unknown kind")
        except (IndexError, KeyError) as problem:
            raise PackDamaged("it does not begin as an object of a pack") from problem
        return kind, size, base, at

    def _keep(self, start: int, content: Content) -> None:
        """Keep what deltas are made on, up to KEPT_BYTES."""
        if self._kept + len(content.data) > KEPT_BYTES:
            self._bases, self._kept = {}, 0
        self._bases[start] = content
        self._kept += len(content.data)


def hash_of(content: Content) -> bytes:
    """git's id of an object, as `packs.object_id`, for tags too."""
    digest = sha1(content.kind + b" %d\0" % len(content.data))
    digest.update(content.data)
    return digest.digest()


def read_entry_header(raw: bytes) -> tuple[int, int, int]:
    """The kind and size that an entry states, and where it goes on."""
    byte = raw[0]
    kind, size, shift, at = byte >> 4 & 7, byte & 15, 4, 1
    while byte & 0x80:
        byte = raw[at]
        size |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return kind, size, at


def base_distance(raw: bytes, at: int) -> tuple[int, int]:
    """How far before a delta its base begins, and where the entry goes on."""
    byte = raw[at]
    distance, at = byte & 0x7F, at + 1
    while byte & 0x80:
        byte = raw[at]
        distance, at = ((distance + 1) << 7) | (byte & 0x7F), at + 1
    return distance, at


def apply_delta(base: bytes, delta: bytes) -> bytes:
    """The object that a delta makes of its base; PackDamaged if it was not made for it."""
    try:
        base_size, at = delta_size(delta, 0)
        size, at = delta_size(delta, at)
        parts = []
        while at < len(delta):
            command, at = delta[at], at + 1
            if command & 0x80:
                numbers = [0] * 7
                for bit in range(7):
                    if command >> bit & 1:
                        numbers[bit], at = delta[at], at + 1
                start = int.from_bytes(bytes(numbers[:4]), "little")
                count = int.from_bytes(bytes(numbers[4:]), "little") or 0x10000
                parts.append(base[start : start + count])
            else:
                parts.append(delta[at : at + command])
                at += command
    except IndexError as problem:
        raise PackDamaged("a delta was cut short") from problem
    made = b"".join(parts)
    if base_size != len(base) or len(made) != size:
        raise PackDamaged("a delta does not fit its base")
    return made


def delta_size(delta: bytes, at: int) -> tuple[int, int]:
    """A number of a delta's head, 7 bits a byte, lowest first, and where it goes on."""
    size = shift = 0
    while True:
        byte, at = delta[at], at + 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return size, at


@cache
def inflate() -> Callable[[bytes], bytes]:
    """ISA-L's inflate, twice as fast as zlib's; imported late, as in `packs`."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.decompress
    return isal_zlib.decompress


def read_whole(path: str) -> bytes:
    """All bytes of a file. OSError."""
    with open(path, "rb", buffering=0) as file:
        return file.read()


def read_loose(path: str) -> Content:
    """An object that git itself wrote, in a file of its own; PackDamaged unless it is whole. OSError."""
    data = read_whole(path)
    try:
        head, nul, body = zlib.decompress(data).partition(b"\0")
        kind, size = head.split(b" ")
        if not nul or kind not in KINDS.values() or int(size) != len(body):
            raise ValueError(f"it begins with {head[:30]!r}")
    except (zlib.error, ValueError) as problem:
        raise PackDamaged("it cannot be unpacked") from problem
    return Content(kind, body)

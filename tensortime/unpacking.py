"""A pack from somebody else, read as a stream: whole objects, none larger than allowed, each with the id of its bytes.

The format is git's (gitformat-pack(5)). Deltas are refused: what we write has none, and without them nothing in a
pack can grow out of proportion or refer to what is not there.
"""

import zlib
from collections.abc import Iterator
from typing import IO

from tensortime.packreader import PackDamaged
from tensortime.packs import OID_SIZE, PACK_HEADER, Kind, sha1

BLOCK = 1 << 16
"""So much of the source is looked at at once: what an object leaves of it is copied."""

PLAIN = {Kind.COMMIT, Kind.TREE, Kind.BLOB}


class Stream:
    """A source read in blocks; hashes what is used up."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._hasher = source, sha1()
        self._data, self._at = b"", 0

    def take(self, count: int) -> bytes:
        """Exactly so many bytes; PackDamaged at an early end."""
        while len(self._data) - self._at < count:
            self._data, self._at = self._data[self._at :] + self._block(), 0
        taken = self._data[self._at : self._at + count]
        self._at += count
        self._hasher.update(taken)
        return taken

    def inflated(self, size: int) -> bytes:
        """The zlib stream that begins here, which must give exactly `size` bytes."""
        inflater, parts, left = zlib.decompressobj(), [], size + 1
        while not inflater.eof:
            data = self._data[self._at :] or self._block()
            try:
                part = inflater.decompress(data, left)
            except zlib.error as problem:
                raise PackDamaged("it cannot be unpacked") from problem
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            self._hasher.update(data[: len(data) - len(rest)])
            self._data, self._at = rest, 0
            parts.append(part)
            left -= len(part)
            if left <= 0:
                raise PackDamaged("it holds an object larger than it states")
        if left != 1:
            raise PackDamaged("it holds an object smaller than it states")
        return b"".join(parts)

    def checksum(self) -> bytes:
        """The SHA-1 of all that was taken so far."""
        return self._hasher.digest()

    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._data) and not self._source.read(1)

    def _block(self) -> bytes:
        block = self._source.read(BLOCK)
        if not block:
            raise PackDamaged("it ends too early")
        return block


def unpack(source: IO[bytes], limit: int) -> Iterator[tuple[Kind, bytes]]:
    """The objects of a pack in the order in which they stand, none larger than `limit` bytes.

    PackDamaged where it is not such a pack; what came before may have been used by then.
    """
    stream = Stream(source)
    magic, version, count = PACK_HEADER.unpack(stream.take(PACK_HEADER.size))
    if magic != b"PACK" or version != 2:
        raise PackDamaged("it is no git pack of version 2")
    for _ in range(count):
        byte = stream.take(1)[0]
        number, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 0x80:
            byte = stream.take(1)[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if shift > 60:
                raise PackDamaged("it states an impossible size")
        if number not in PLAIN:
            raise PackDamaged("it holds what is no commit, tree or file")
        if size > limit:
            raise PackDamaged("it holds an object that is too large")
        yield Kind(number), stream.inflated(size)
    checksum = stream.checksum()
    if stream.take(OID_SIZE) != checksum or not stream.is_at_end():
        raise PackDamaged("its checksum is wrong")

"""Reading the data of a store to see whether it is right: all of it, or a part that moves on from call to call.

The parts have names that do not change (an object's digest; a pack and a number in it) and an order. `.cache/verify`
keeps the name of the last part that was read; the next call begins behind it.
"""

import errno
import json
import os
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from blake3 import blake3

from tensortime import fsops
from tensortime.formats import Digest, digest_of
from tensortime.gitobjects import GitObjects, read_whole, reason_of
from tensortime.intake import THREADS
from tensortime.monitor import Meter, Monitor
from tensortime.packreader import Entry, Pack, PackDamaged
from tensortime.reach import stored_objects
from tensortime.store import Store
from tensortime.threads import in_threads, threads

STRETCH = 8 << 20
"""Bytes of a pack that are one part, read by one thread."""


@dataclass(frozen=True)
class Share:
    """How much is to be read: a part of all, or so many bytes."""

    part: float = 1.0
    size: int | None = None

    @property
    def everything(self) -> bool:
        """Whether that is all."""
        return self.size is None and self.part >= 1.0

    def of(self, total: int) -> int:
        """The bytes to be read."""
        return int(total * self.part) if self.size is None else self.size


class Part(NamedTuple):
    """What is read at once: an object, a stretch of a pack, or an object that git wrote loose."""

    name: str
    size: int
    path: str
    digest: Digest | None = None
    pack: Pack | None = None
    entries: Sequence[Entry] = ()
    oid: bytes = b""


class Wrong(NamedTuple):
    """Something that holds other bytes than it should."""

    what: bytes | Digest
    """A raw git id, or a digest."""
    place: str
    """The pack it is in; else the file."""
    reason: str
    gone: bool = False
    """It went away meanwhile, as a pack does that another process folds."""


def parts_of(
    store: Store, objects: GitObjects, oids: Collection[bytes] | None, digests: Collection[Digest] | None
) -> list[Part]:
    """All parts of a store in their order; of those alone that are asked for, unless these are None."""
    parts = [*object_parts(store, digests), *pack_parts(objects, oids)]
    for oid, path in objects.loose():
        if oids is None or oid in oids:
            parts.append(Part("loose/" + oid.hex(), os.path.getsize(path), path, oid=oid))
    return sorted(parts, key=lambda part: part.name)


def object_parts(store: Store, digests: Collection[Digest] | None) -> Iterator[Part]:
    """The objects of the sidecar."""
    sidecar = store.sidecar()
    for raw, stat in stored_objects(sidecar).items():
        digest = digest_of(raw)
        if digests is None or digest in digests:
            yield Part(digest, stat.size, sidecar.path_of(digest), digest=digest)


def pack_parts(objects: GitObjects, oids: Collection[bytes] | None) -> Iterator[Part]:
    """Packs, in stretches."""
    for name, pack in objects.packs.items():
        wanted = [entry for entry in pack.entries() if oids is None or entry.oid in oids]
        stretches: dict[int, list[Entry]] = {}
        for entry in wanted:
            stretches.setdefault(entry.start // STRETCH, []).append(entry)
        for number, entries in stretches.items():
            size = sum(entry.end - entry.start for entry in entries)
            yield Part(f"{name}/{number:06}", size, pack.stem + ".pack", pack=pack, entries=entries)


def choose(parts: Sequence[Part], share: Share, after: str) -> list[Part]:
    """The parts whose turn it is, at least one: from behind the one called `after` on, and round."""
    if share.everything:
        return list(parts)
    budget = share.of(sum(part.size for part in parts))
    turned = [part for part in parts if part.name > after] + [part for part in parts if part.name <= after]
    chosen: list[Part] = []
    for part in turned:
        if chosen and part.size > budget:
            break
        chosen.append(part)
        budget -= part.size
    return chosen


def read_parts(parts: Sequence[Part], monitor: Monitor) -> Iterator[tuple[Part, list[Wrong]]]:
    """Read these parts in threads, and tell of each what is wrong with it."""
    monitor.begin("check", len(parts), sum(part.size for part in parts))
    lock, stop = threading.Lock(), threading.Event()

    def read(part: Part) -> list[Wrong]:
        meter = Meter(monitor, part.size, lock, stop)
        wrong = list(read_part(part, meter))
        meter.finish()
        return wrong

    with threads(min(THREADS, len(parts))) as pool:
        yield from zip(parts, in_threads(pool, read, parts, 2 * THREADS, stop), strict=True)


def read_part(part: Part, meter: Meter) -> Iterator[Wrong]:
    """What is wrong with one part."""
    if part.digest is not None:
        reason = judge_object(part.path, part.digest, meter)
        if reason:
            yield Wrong(part.digest, part.path, reason, gone=not os.path.lexists(part.path))
        return
    if part.pack is None:
        try:
            read_whole(part.path, part.oid)
        except (PackDamaged, OSError) as problem:
            gone = not os.path.lexists(part.path)
            yield Wrong(part.oid, part.path, reason_of(problem), gone)
        return
    for entry in part.entries:
        meter(entry.end - entry.start)
        try:
            part.pack.read(entry)
        except (PackDamaged, OSError) as problem:
            reason = reason_of(problem)
            yield Wrong(entry.oid, part.pack.name, reason, gone=not os.path.lexists(part.path))


NO_MORE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""What this process lacks says nothing about a file."""


def judge_object(path: str, digest: Digest, meter: Meter | None = None) -> str:
    """Why an object is not what its digest says; empty where it is."""
    try:
        fd = fsops.open_regular(path)
    except OSError as problem:
        if problem.errno in NO_MORE:
            raise
        return reason_of(problem)
    try:
        hasher = blake3()
        fsops.hash_file(fd, os.fstat(fd).st_size, hasher, meter)
    except OSError as problem:
        return reason_of(problem)
    finally:
        os.close(fd)
    return "" if digest_of(hasher.digest()) == digest else "it holds other bytes than its digest says"


def position_file(store: Store) -> str:
    """Where the last part that was read is remembered."""
    return store.path(".cache", "verify")


def read_position(store: Store) -> str:
    """The name of the last part that was read; empty where that is not known."""
    try:
        return str(json.loads(fsops.read_file(position_file(store), 1 << 16))["after"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ""


def write_position(store: Store, name: str) -> None:
    """Remember it."""
    data = json.dumps({"after": name}).encode()
    fsops.write_atomic(position_file(store), data, staging=store.path(".tmp"), durable=False)

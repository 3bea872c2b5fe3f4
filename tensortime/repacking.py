"""Copying some objects of some packs into a new one: what gc, repair and purge do to a pack, which is never changed.

Entries are copied as they are, after their bytes were found right. A delta stays a delta where its base comes along
(named by id, as it may stand elsewhere in the new pack), else the whole object is written.
"""

import os
import zlib
from collections.abc import Callable, Iterable, Set

from tensortime import fsops
from tensortime.packreader import NAMED_DELTA, Entry, Pack
from tensortime.packs import Kind, Packed, PackWriter, entry_header, pack_object
from tensortime.store import Store

ENDINGS = (".idx", ".pack", ".keep", ".rev", ".bitmap", ".mtimes", ".promisor")
"""The files of a pack; without the first git does not look at the others."""

SHORTCUTS = ("pack/multi-pack-index", "info/commit-graph", "info/commit-graphs")
"""What a person's git may have written about packs and commits; git does without."""


def copy_objects(
    store: Store,
    staging: str,
    sources: Iterable[tuple[Pack, Set[bytes]]],
    advance: Callable[[int], None] | None = None,
) -> list[str]:
    """Copy these objects into new packs, published and read back; returns their names.

    `advance`: told of the bytes of each that was copied. PackDamaged, OSError: nothing is published then.
    """
    folder = pack_folder(store)
    with PackWriter(folder, staging) as writer:
        for pack, oids in sources:
            starts = {entry.start: entry.oid for entry in pack.entries()}
            for entry in pack.entries():
                if entry.oid in oids and entry.oid not in writer:
                    writer.add(copied(pack, entry, starts, oids))
                    if advance is not None:
                        advance(entry.end - entry.start)
        names = writer.finish()
    for name in names:
        made = Pack(os.path.join(folder, name))
        made.check_frame()
        for entry in made.entries():
            made.read(entry)
    return names


def copied(pack: Pack, entry: Entry, starts: dict[int, bytes], oids: Set[bytes]) -> Packed:
    """An entry as it goes into a new pack; PackDamaged unless its object is right."""
    content, raw = pack.read(entry), pack.raw(entry)
    _, size, base, at = pack.header(entry, raw)
    if base is None:
        return Packed(entry.oid, (raw[:at], raw[at:]), entry.crc)
    if starts[base] not in oids:
        return pack_object(Kind[content.kind.decode().upper()], content.data, entry.oid)
    header = entry_header(NAMED_DELTA, size) + starts[base]
    return Packed(entry.oid, (header, raw[at:]), zlib.crc32(raw[at:], zlib.crc32(header)))


def remove_pack(store: Store, name: str) -> None:
    """Remove a pack: its idx first, so that nobody finds half of it."""
    for ending in ENDINGS:
        remove_file(os.path.join(pack_folder(store), name + ending))


def remove_shortcuts(store: Store) -> None:
    """Remove what speaks of packs and commits that are about to go: git would believe it."""
    for name in SHORTCUTS:
        path = store.path(".shadow", "objects", *name.split("/"))
        if os.path.isdir(path) and not os.path.islink(path):
            fsops.remove_tree(path)
        else:
            remove_file(path)


def remove_file(path: str) -> bool:
    """Remove a file; False where there is none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def pack_folder(store: Store) -> str:
    """Where the packs lie."""
    return store.path(".shadow", "objects", "pack")

"""What of the project's files the stat cache recognises, and what it learns of the others.

A million of them are looked at in each backup: the loops are lean, and what is recognised leaves as little as it can.
"""

import contextlib
import os
from collections.abc import Iterable
from functools import cached_property

from tensortime import hardlinks
from tensortime.findings import FileStat
from tensortime.folding import pack_sizes
from tensortime.formats import RelPath, digest_of, is_under
from tensortime.intake import Intake, Source
from tensortime.packreader import PackDamaged, PackIndex
from tensortime.policy import Route, route
from tensortime.project import Place
from tensortime.session import Session
from tensortime.sidecar import is_like
from tensortime.statcache import (
    ID,
    SMALL_ID,
    StatCache,
    cache_name,
    confirmed,
    has_key,
    identity_in,
    is_large,
    key_in,
    load_cache,
    save_cache,
)
from tensortime.store import Store
from tensortime.trees import PERMISSIONS, LargeFile, SmallFile
from tensortime.withdrawn import read_withdrawn

FORGOTTEN_OBJECTS = 10_000
"""The stat cache forgets ids of former states once so many more than needed are there."""


class Recognition:
    """One backup's use of the stat cache. Small files that were recognised are dropped from `cache` at once."""

    def __init__(self, session: Session, taken: Intake, cache: StatCache) -> None:
        self.session, self.taken, self.cache = session, taken, cache
        self.loaded = len(cache.files)
        self.recognised = 0
        self.modes: dict[int, int] = {}
        """One number for all files of a mode."""
        self.alike: dict[RelPath, bool] = {}
        """Large files of which only the times have changed, as far as a few places tell."""

    def sift(self, files: list[FileStat]) -> list[FileStat]:
        """Take in what the cache knows of these files; returns the others."""
        options, sidecar, taken, modes = self.session.options, self.session.sidecar, self.taken, self.modes
        cached = {} if options.rehash else self.cache.files
        make, large_size, smalls, linked = tuple.__new__, options.large_size, taken.small, taken.linked
        unknown: list[FileStat] = []
        for file in files:
            path, size = file.path, file.size
            if file.links > 1:
                linked.append(file)
            known = cached.get(path)
            if known is not None and has_key(known, size, file.mtime_ns, file.ctime_ns, file.inode):
                if is_large(known):
                    digest = digest_of(identity_in(known))
                    if route(size, large_size, path) is Route.LARGE and sidecar.holds(digest, size):
                        taken.large[path] = LargeFile(digest, size, file.mode & PERMISSIONS, file.mtime_ns)
                        continue
                elif size < large_size:
                    mode = modes.setdefault(file.mode, file.mode & PERMISSIONS)
                    # a NamedTuple's own constructor costs three times as much
                    smalls[path] = make(SmallFile, (known[ID : ID + SMALL_ID], size, mode, False, None))
                    del cached[path]
                    continue
            unknown.append(file)
        self.recognised += len(files) - len(unknown)
        return unknown

    def divide(self, files: Iterable[FileStat]) -> tuple[list[FileStat], list[FileStat]]:
        """Files that are to be read, small and large ones."""
        small: list[FileStat] = []
        large: list[FileStat] = []
        large_size = self.session.options.large_size
        self.cache.files = dict(self.cache.files)  # without the room of the entries that were dropped
        for file in files:
            (large if route(file.size, large_size, file.path) is Route.LARGE else small).append(file)
        return small, large

    @cached_property
    def sizes(self) -> set[tuple[int, int]]:
        """Size and inode of each large file that is known."""
        keys = (key_in(known) for known in self.cache.files.values() if is_large(known))
        return {(key.size, key.inode) for key in keys}

    def seen_before(self, file: FileStat, source: Source) -> bool:
        """Whether a large file's bytes are probably stored: the same inode and size under another path (it was moved), or
        the same path and size, and the same bytes in a few places (it was touched; a new checkpoint has others)."""
        known = self.cache.files.get(file.path)
        if known is None or key_in(known).size != file.size:
            return (file.size, file.inode) in self.sizes
        if file.path not in self.alike:
            try:
                with os.fdopen(source.open(file), "rb", buffering=0) as opened:
                    digest = digest_of(identity_in(known))
                    self.alike[file.path] = is_like(self.session.sidecar, digest, file.size, opened.fileno())
            except OSError:
                self.alike[file.path] = False
        return self.alike[file.path]

    def stored_objects(self) -> set[bytes]:
        """Raw ids of all blobs and trees that are in the store's packs."""
        return self.cache.stored() | {one.oid for one in self.taken.small.values()}

    def remember(self, read: set[RelPath], stored: set[bytes]) -> None:
        """Save the stat cache; a failure costs time only. `read`: what was not recognised."""
        with contextlib.suppress(OSError):
            packs, relied_on = pack_sizes(self.session.store), self.cache.packs
            all_known = self.recognised == self.loaded and not read
            # Else what is there says it all: the few new ids of this backup's own trees are needed by no other.
            if not (all_known and relied_on and relied_on.items() <= packs.items()):
                self.save(read, stored, packs)

    def save(self, read: set[RelPath], stored: set[bytes], packs: dict[str, int]) -> None:
        """Write the stat cache anew. `packs`: those that were there before. OSError."""
        session, taken = self.session, self.taken
        store, only = session.store, session.options.only

        def is_current(path: RelPath) -> bool:
            if path in read:
                return False
            elsewhere = only is not None and not any(is_under(path, top) for top in only)
            return path in taken.small or path in taken.large or elsewhere

        old = usable_cache(store, session.place) if self.loaded else self.cache
        # What another backup has saved since those were listed relies on its own pack as well.
        packs = {**packs, **pack_sizes(store)}
        files = {path: known for path, known in old.files.items() if is_current(path)} | taken.learned
        objects = stored.difference(one.oid for path, one in taken.small.items() if path in files)
        if not session.options.rehash:
            gone = (known for path, known in old.files.items() if path not in files)
            objects.update(old.objects, (identity_in(known) for known in gone if not is_large(known)))
        if len(objects) > len(files) + FORGOTTEN_OBJECTS:
            objects = set()
        path = store.path(".cache", cache_name(session.place.project))
        save_cache(path, store.store_id, StatCache(files, objects, packs), session.staging)


def usable_cache(store: Store, place: Place) -> StatCache:
    """The project's stat cache, without what is no longer in the store's packs; a new one knows what these hold."""
    withdrawn = read_withdrawn(store.folder)
    present = {name: size for name, size in pack_sizes(store).items() if name not in withdrawn.packs}
    cache = load_cache(store.path(".cache", cache_name(place.project)), store.store_id, present)
    if not cache.packs or not withdrawn.copies.keys().isdisjoint(present):
        wrong = withdrawn.copies
        found = ((name, oid) for name in present for oid in ids_in_pack(store, name))
        return confirmed(cache, (oid for name, oid in found if oid not in wrong.get(name, ())))
    return cache


def ids_in_pack(store: Store, name: str) -> Iterable[bytes]:
    """The ids of a pack; none where the pack or its idx was cut short: their bytes are then stored again."""
    pack = store.path(".shadow", "objects", "pack", name)
    try:
        index = PackIndex(pack + ".idx")
        with open(pack + ".pack", "rb") as file:
            file.seek(-len(index.checksum), os.SEEK_END)
            return index if file.read() == index.checksum else ()
    except (PackDamaged, OSError):
        return ()


def remember_later(session: Session, taken: Intake) -> None:
    """Add large files to the saved stat cache, and to those that are watched; a failure costs time only."""
    store = session.store
    path = store.path(".cache", cache_name(session.place.project))
    linked = {file.digest for name, file in taken.large.items() if session.options.is_hardlink(name)}
    with contextlib.suppress(OSError):
        cache = load_cache(path, store.store_id, pack_sizes(store))
        cache.files.update(taken.learned)
        save_cache(path, store.store_id, cache, session.staging)
        if linked:
            hardlinks.update_watched(store, dict.fromkeys(linked, hardlinks.LOOK_AGAIN), keep_known=True)

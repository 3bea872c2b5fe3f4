"""The project as it is now, as `diff` compares it: looked at by the rules of a backup, and nothing is stored."""

import contextlib
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import IO

from blake3 import blake3

from tensortime import fsops, statcache
from tensortime.collector import start_collecting
from tensortime.commits import outside_facts
from tensortime.config import Config
from tensortime.differences import FILE, Side
from tensortime.findings import FileStat, Scan
from tensortime.formats import RelPath, bytes_of, covering, text_of
from tensortime.ignoring import Rules
from tensortime.intake import THREADS, Source, batches, read_bytes, threads_for
from tensortime.manifest import common_umask
from tensortime.monitor import Meter, Monitor
from tensortime.packages import decode_packages
from tensortime.packs import Kind, object_id
from tensortime.pairs import State, items_of
from tensortime.policy import Route, route
from tensortime.project import Place
from tensortime.scan import scan
from tensortime.store import Store
from tensortime.threads import in_threads
from tensortime.trees import PERMISSIONS

FACTS_SECONDS = 2.0
"""How long to wait for what git says of the user's repository, once the files are read."""

RUNS_OWN = ("command", "cwd", "pid", "trackers", "notebook")
"""What belongs to one run: the project as it is now has none of it."""


def of_project(
    place: Place, store: Store, config: Config, like: State, *, from_shell: bool, monitor: Monitor
) -> State:
    """The project as a backup would find it now. `like`: the state that it will be compared with, which says what
    need not be read to know that it differs. `from_shell`: the Python that would train is that of the shell.
    OSError where the project itself cannot be read."""
    collector = start_collecting(place.project, from_shell=from_shell, whole=False)
    try:
        found = look_around(place, store, config, monitor)
        looks = Looks(place, store, config, like, found)
        files, unread = looks.identify(monitor)
        facts, meta = collector.finish(FACTS_SECONDS)
    finally:
        collector.close()
    links = {link.path: (None, link.target) for link in found.links}
    folders = {one.path: (stat.S_IMODE(one.mode) & PERMISSIONS, one.empty) for one in found.folders}
    umask = common_umask(
        Counter(mode for _, _, mode in files.values()), Counter(mode for mode, _ in folders.values())
    )
    items = items_of(files, links, folders, umask, lambda path, _: path in looks.large)
    top = os.fsencode(place.project) + b"/"
    # A rule left out what is there and was not found: not all such paths are listed.
    missing = (path for path in like.items if path not in items)
    hidden = {path for path in missing if covering(path, links) is None and os.path.lexists(top + path)}
    named = [one.path for one in found.ignored] + [one.path for one in found.skipped]
    ignored = (RelPath(bytes_of(path)) for path in named)
    project = text_of(os.fsencode(place.project))
    return State(
        Side(None, None, None, "", time.time_ns(), project),
        items,
        {
            **{key: value for key, value in facts.items() if key not in RUNS_OWN},
            "launch": None,
            "outside": outside_facts(found),
        },
        left_out=frozenset({*ignored, *unread, *hidden}),
        packages=decode_packages(meta[b"packages.txt"]) if b"packages.txt" in meta else None,
        read=looks.read,
        open=looks.open,
    )


def look_around(place: Place, store: Store, config: Config, monitor: Monitor) -> Scan:
    """Walk the project by the rules of a backup."""
    inside = os.stat(store.folder)
    monitor.begin("scan", 0, 0)
    return scan(
        os.fsencode(place.project),
        Rules.start(config.ignore, (), place.project),
        store=(inside.st_dev, inside.st_ino),
        follow=config.follow,
        monitor=monitor,
    )


class Looks:
    """Finds out which bytes the files of the project hold, reading no more of them than it must."""

    def __init__(self, place: Place, store: Store, config: Config, like: State, found: Scan) -> None:
        self.source = Source(os.fsencode(place.project), 0, found.followed)
        self.found = {file.path: file for file in found.files}
        self.like, self.large_size = like.items, config.large_size
        cache = statcache.load_cache(
            store.path(".cache", statcache.cache_name(place.project)), store.store_id, {}
        )
        self.known = cache.files
        self.gone_sizes = {
            item.size for path, item in like.items.items() if item.large and path not in self.found
        }
        self.large: set[RelPath] = set()

    def identify(self, monitor: Monitor) -> tuple[dict[RelPath, tuple[bytes | None, int, int]], set[RelPath]]:
        """For each file identity, size and permissions; and the files that cannot be read."""
        files: dict[RelPath, tuple[bytes | None, int, int]] = {}
        small, large = list[FileStat](), list[FileStat]()
        for file in self.found.values():
            key = file.size, file.mtime_ns, file.ctime_ns, file.inode
            is_large, known = self.is_large(file), self.known.get(file.path)
            if is_large:
                self.large.add(file.path)
            if known is not None and statcache.has_key(known, *key) and statcache.is_large(known) == is_large:
                files[file.path] = statcache.identity_in(known), file.size, file.mode & PERMISSIONS
            elif is_large and not self.may_be_known(file):
                files[file.path] = None, file.size, file.mode & PERMISSIONS
            else:
                (large if is_large else small).append(file)
        monitor.begin("check", len(small) + len(large), sum(file.size for file in (*small, *large)))
        read = read_all(self.source, small, large, monitor)
        unread = set()
        for file in (*small, *large):
            result = read.get(file.path)
            if result is None:
                unread.add(file.path)
            else:
                files[file.path] = *result, file.mode & PERMISSIONS
        return files, unread

    def is_large(self, file: FileStat) -> bool:
        """Whether a file is identified as large files are: as it was in the other state, else as it would be stored."""
        twin = self.like.get(file.path)
        if twin is not None and twin.kind == FILE and twin.size == file.size:
            return twin.large
        return route(file.size, self.large_size, file.path) is Route.LARGE

    def may_be_known(self, file: FileStat) -> bool:
        """Whether the other state may hold a large file's bytes, here or under a name that is gone."""
        twin = self.like.get(file.path)
        return (twin is not None and twin.size == file.size) or (
            twin is None and file.size in self.gone_sizes
        )

    def open(self, path: RelPath) -> IO[bytes]:
        """A file to be read from any place in it."""
        return os.fdopen(self.source.open(self.found[path]), "rb")

    def read(self, paths: Sequence[RelPath]) -> Mapping[RelPath, bytes]:
        """The bytes of small files; one that cannot be read any more is missing."""
        read = {}
        for path in paths:
            with contextlib.suppress(OSError):
                fd = self.source.open(self.found[path])
                try:
                    read[path] = read_bytes(fd, os.fstat(fd).st_size)
                finally:
                    os.close(fd)
        return read


def read_all(
    source: Source, small: Sequence[FileStat], large: Sequence[FileStat], monitor: Monitor
) -> dict[RelPath, tuple[bytes, int]]:
    """Identity and size of files, in threads; those that cannot be read are missing."""
    lock, stop = threading.Lock(), threading.Event()

    def hash_small(batch: list[FileStat]) -> list[tuple[bytes, int] | None]:
        return [identity_of(source, file) for file in batch]

    def hash_large(file: FileStat) -> tuple[bytes, int] | None:
        meter = Meter(monitor, file.size, lock, stop)
        try:
            return identity_of(source, file, meter)
        finally:
            meter.finish()

    found: dict[RelPath, tuple[bytes, int]] = {}
    with threads_for([*small, *large]) as pool:
        portions = list(batches(small))
        for batch, results in zip(portions, in_threads(pool, hash_small, portions, 2 * THREADS), strict=True):
            found |= {file.path: one for file, one in zip(batch, results, strict=True) if one is not None}
            monitor.advance(len(batch), sum(file.size for file in batch))
        for file, result in zip(large, in_threads(pool, hash_large, large, THREADS, stop), strict=True):
            found |= {} if result is None else {file.path: result}
    return found


def identity_of(source: Source, file: FileStat, meter: Meter | None = None) -> tuple[bytes, int] | None:
    """The id of a file's bytes and how many they are; BLAKE3 with a meter, else git's; None if it cannot be read."""
    try:
        fd = source.open(file)
    except OSError:
        return None
    try:
        size = os.fstat(fd).st_size
        if meter is None:
            data = read_bytes(fd, size)
            return object_id(Kind.BLOB, data), len(data)
        hasher = blake3()
        size = fsops.hash_file(fd, size, hasher, meter)
        return hasher.digest(), size
    except OSError:
        return None
    finally:
        os.close(fd)

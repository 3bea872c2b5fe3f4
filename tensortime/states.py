"""The two states that `diff` can compare: a backup as it was stored, and the project as it is now. Nothing is written."""

import contextlib
import os
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from blake3 import blake3

from tensortime import fsops, history
from tensortime.commits import contents_of, outside_facts
from tensortime.config import Config
from tensortime.differences import FILE, FOLDER, SYMLINK, Side
from tensortime.environment import start_collecting
from tensortime.errors import Damaged
from tensortime.findings import FileStat, Scan
from tensortime.formats import META, RelPath, bytes_of, text_of
from tensortime.ignoring import Rules
from tensortime.intake import THREADS, Source, batches, in_threads, read_bytes
from tensortime.manifest import FILE as LARGE_FILE
from tensortime.manifest import SYMLINK as ODD_LINK
from tensortime.manifest import Manifest, common_umask, plain_mode
from tensortime.monitor import Meter, Monitor
from tensortime.packages import decode_packages, encode_packages, installed
from tensortime.packs import Kind, object_id
from tensortime.pairs import Item, State, covering
from tensortime.policy import Route, route
from tensortime.project import Place
from tensortime.scan import scan
from tensortime.shadow import Shadow
from tensortime.statcache import StatKey, cache_name, load_cache
from tensortime.store import Store
from tensortime.trees import PERMISSIONS

FACTS_SECONDS = 2.0
"""How long to wait for what git says of the user's repository, once the files are read."""

RUNS_OWN = ("command", "cwd", "launch", "pid")
"""What belongs to one run: the project as it is now has none of it."""


def of_backup(store: Store, target: history.Target) -> State:
    """One backup of an experiment. Damaged, GitFailed."""
    shadow = store.shadow
    tree = shadow.tree(target.commit)
    meta = history.read_meta(shadow, tree)
    contents, run = contents_of(tree, meta), history.run_of(meta)
    facts = history.read_facts(shadow, target.commit)
    files = {path: (one.oid, one.size, one.permissions) for path, one in contents.small.items()}
    large = {path: (raw(one.digest), one.size, one.permissions) for path, one in contents.large.items()}
    links = {path: (one.oid, one.target) for path, one in contents.links.items()}
    folders = {path: (one.permissions, one.empty) for path, one in contents.folders.items()}
    items = items_of({**files, **large}, links, folders)
    outputs, first_run = made_later(shadow, target, history.manifest_of(meta))
    packages = meta.get(b"packages.txt")

    def read(paths: Sequence[RelPath]) -> Mapping[RelPath, bytes]:
        with history.damage_in(target):
            return read_blobs(shadow, {path: items[path].identity or b"" for path in paths})

    name, number = target.experiment.name, target.number
    return State(
        Side(name, number, target.commit, facts.note, facts.time_ns, facts.project),
        items,
        # A backup that adds looks only at what it adds.
        {**({"outside": first_run["outside"]} if "outside" in first_run else {}), **run},
        outputs,
        left_out_of(run) | left_out_of(first_run),
        facts.params,
        facts.metrics,
        None if packages is None else decode_packages(packages),
        read,
    )


def raw(digest: str) -> bytes:
    """The 32 bytes of a digest."""
    return bytes.fromhex(digest.removeprefix("blake3:"))


def items_of(
    files: Mapping[RelPath, tuple[bytes | None, int, int]],
    links: Mapping[RelPath, tuple[bytes | None, bytes | None]],
    folders: Mapping[RelPath, tuple[int, bool]],
    large: Callable[[RelPath, bytes | None], bool] = lambda _, identity: len(identity or b"") == 32,
) -> dict[RelPath, Item]:
    """The paths of a state. Files: identity, size, permissions; links: blob, target; folders: permissions, empty."""
    umask = common_umask(
        Counter(mode for _, _, mode in files.values()), Counter(mode for mode, _ in folders.values())
    )
    modes = {mode: usual_mode(mode, umask) for _, _, mode in files.values()}
    items = {
        path: Item(FILE, size, modes[mode], identity, large(path, identity))
        for path, (identity, size, mode) in files.items()
    }
    for path, (mode, empty) in folders.items():
        usual = 0o755 if mode == 0o777 & ~umask else mode
        items[path] = Item(FOLDER, 0, usual, None, empty=empty)
    for path, (oid, target) in links.items():
        items[path] = Item(SYMLINK, 0, None, oid or object_id(Kind.BLOB, target or b""), target=target)
    return items


def usual_mode(mode: int, umask: int) -> int:
    """A file's permissions under umask 022, where they are nothing but what its own umask gives."""
    return plain_mode(mode, 0o022) if mode == plain_mode(mode, umask) else mode


def left_out_of(run: Mapping[str, object]) -> frozenset[RelPath]:
    """The paths that a backup ignored or skipped, as run.json lists them."""
    found = set()
    for key in ("ignored", "skipped"):
        rows = run.get(key)
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and isinstance(row.get("path"), str):
                found.add(RelPath(bytes_of(row["path"])))
    return frozenset(found)


def made_later(
    shadow: Shadow, target: history.Target, manifest: Manifest
) -> tuple[frozenset[RelPath], Mapping[str, object]]:
    """The paths that an experiment's later backups added or changed, and the run.json of its first."""
    first = history.read_history(shadow, target.commit)[-1:]
    if not first or first[0].number >= target.number:
        return frozenset(), {}
    meta = history.read_meta(shadow, shadow.tree(first[0].commit, META))
    before, after = outside_git(history.manifest_of(meta)), outside_git(manifest)
    paths = {path for path in shadow.changed_paths(first[0].commit, target.commit) if not is_meta(path)}
    paths |= {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return frozenset(paths), history.run_of(meta)


def is_meta(path: bytes) -> bool:
    """Whether a path is one of those that each backup writes itself."""
    return path.startswith(META + b"/")


def outside_git(manifest: Manifest) -> dict[RelPath, object]:
    """What the manifest alone holds, by path: digests, and the targets of links."""
    entries = manifest.entries.values()
    return {one.path: one.digest or one.target for one in entries if one.kind in (LARGE_FILE, ODD_LINK)}


def read_blobs(shadow: Shadow, wanted: Mapping[RelPath, bytes]) -> dict[RelPath, bytes]:
    """The bytes of small files, checked against their ids; Damaged names the first that is not whole."""
    blobs = dict(shadow.read_objects(sorted({oid.hex() for oid in wanted.values()}), missing_ok=True))
    for path, oid in wanted.items():
        if oid.hex() not in blobs or object_id(Kind.BLOB, blobs[oid.hex()]) != oid:
            raise Damaged("the bytes of {path} are missing or damaged", path=text_of(path))
    return {path: blobs[oid.hex()] for path, oid in wanted.items()}


def of_project(place: Place, store: Store, config: Config, like: State, monitor: Monitor) -> State:
    """The project as a backup would find it now. `like`: the state that it will be compared with, which says what
    need not be read to know that it differs. OSError where the project itself cannot be read."""
    collector = start_collecting(place.project)
    try:
        found = look_around(place, store, config, monitor)
        looks = Looks(place, store, config, like, found)
        files, unread = looks.identify(monitor)
        facts = collector.finish(FACTS_SECONDS)
    finally:
        collector.cancel()
    links = {link.path: (None, link.target) for link in found.links}
    folders = {one.path: (stat.S_IMODE(one.mode) & PERMISSIONS, one.empty) for one in found.folders}
    items = items_of(files, links, folders, lambda path, _: path in looks.large)
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
            "outside": outside_facts(found),
        },
        left_out=frozenset({*ignored, *unread, *hidden}),
        packages=packages_now(facts),
        read=looks.read,
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


def packages_now(facts: Mapping[str, object]) -> Mapping[str, str]:
    """The packages of the Python that would train, as a backup made now would record them."""
    python = facts.get("python")
    return decode_packages(encode_packages(installed(sys.path), python if isinstance(python, dict) else {}))


@dataclass(frozen=True)
class Task:
    """A file to read for its identity."""

    file: FileStat
    large: bool


class Looks:
    """Finds out which bytes the files of the project hold, reading no more of them than it must."""

    def __init__(self, place: Place, store: Store, config: Config, like: State, found: Scan) -> None:
        self.source = Source(os.fsencode(place.project), 0, found.followed)
        self.found = {file.path: file for file in found.files}
        self.like, self.large_size = like.items, config.large_size
        cache = load_cache(store.path(".cache", cache_name(place.project)), store.store_id, {})
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
            key = StatKey(file.size, file.mtime_ns, file.ctime_ns, file.inode)
            is_large, known = self.is_large(file), self.known.get(file.path)
            if is_large:
                self.large.add(file.path)
            if known is not None and known.key == key and known.large == is_large:
                files[file.path] = known.identity, file.size, file.mode & PERMISSIONS
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
    with ThreadPoolExecutor(THREADS, "tensortime") as pool:
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

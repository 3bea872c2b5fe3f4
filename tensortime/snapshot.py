"""One backup: scan, read what is new, lay it out, publish.

    scan ──> known to the stat cache | small ──> pack | large ──> object ──> manifest, trees, commit ──> ref

Objects first, then the pack, then their folders, then one ref update that must create (or move from the
expected old commit). Until the ref moves nothing has happened: a crash leaves only bytes nobody names.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from tensortime import fsops, hardlinks, history, intake
from tensortime.commits import Run, describe_run, gather, overlay, read_contents, write_commit
from tensortime.environment import host_id, nested_heads
from tensortime.errors import GitFailed, NoSpace, StoreBusy, message
from tensortime.formats import Digest, Oid, RelPath, text_of
from tensortime.ignoring import Rules
from tensortime.intake import Intake, Source
from tensortime.monitor import Monitor
from tensortime.names import LONGEST_NAME, ExperimentName, cut, default_name
from tensortime.packs import PackIndex, PackWriter
from tensortime.policy import Route, route
from tensortime.project import Place
from tensortime.reports import BackupReport, Lost
from tensortime.scan import FileStat, Scan, scan
from tensortime.shadow import NO_OID
from tensortime.sidecar import Room, Sidecar, can_clone
from tensortime.statcache import StatCache, StatKey, cache_name, load_cache, save_cache, still_there
from tensortime.store import Store
from tensortime.trailers import BackupFacts
from tensortime.trees import Contents

ANNOUNCED_BYTES = 1_000_000_000
"""A copy of more than this is announced, with what would avoid it."""

KEPT_FREE = 1 << 30
KEPT_FREE_PART = 0.03
"""max(1 GiB, 3 %) of the disk stays free: training writes its checkpoints there too."""

CODE_BYTES = 256 << 20
"""So many bytes of small files may use even the space that is kept free: code is what a run cannot do without."""

MOST_PACKS = 50
LARGEST_FOLDED = 256 << 20
"""Bytes. `repack --geometric` counts objects, not bytes: a pack past this gets a `.keep` and is left alone."""

FORGOTTEN_OBJECTS = 10_000
"""The stat cache forgets ids of former states once so many more than needed are there."""

ENVIRONMENT_SECONDS = 0.03
"""How long a backup waits, once the files are in, for what run.json records."""

ATTEMPTS = 5


class Collector(Protocol):
    """Finds out what run.json records, while the files are read."""

    def finish(self, timeout: float) -> dict[str, object]:
        """What is known by now."""


@dataclass(frozen=True)
class BackupOptions:
    """What a backup should do."""

    name: ExperimentName | None = None
    """None: made of the time and the note."""
    joins: bool = False
    """Add a backup to the experiment of this name if there is one, instead of starting `name-2`."""
    note: str = ""
    ignore: tuple[str, ...] = ()
    only: tuple[RelPath, ...] | None = None
    """Put only these paths on top of the experiment's newest backup."""
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, object] = field(default_factory=dict)
    rehash: bool = False
    """Read every file, whatever the stat cache says."""
    large_size: int = 1 << 20
    follow: tuple[str, ...] = ()
    ignored_by_config: tuple[str, ...] = ()
    is_hardlink: Callable[[RelPath], bool] = lambda _: False
    max_store: int | None = None


@dataclass(frozen=True)
class Begun:
    """Which experiment a backup goes into, as the store was when it began."""

    name: ExperimentName
    parent: Oid | None
    """The commit that the experiment's ref must still name."""
    number: int
    note: str
    time_ns: int


@dataclass(frozen=True)
class Session:
    """What all steps of one backup share."""

    place: Place
    store: Store
    options: BackupOptions
    staging: str
    monitor: Monitor

    @property
    def sidecar(self) -> Sidecar:
        """The store's objects, staged in our own folder."""
        return self.store.sidecar(self.staging)

    def writer(self) -> PackWriter:
        """A writer of new packs."""
        return PackWriter(self.store.path(".shadow", "objects", "pack"), self.staging, fsync=fsops.sync_file)


def back_up(place: Place, store: Store, options: BackupOptions, collector: Collector, monitor: Monitor) -> BackupReport:
    """Make one backup. NoSpace, StoreBusy, StoreUnusable, GitFailed, OSError; nothing is published then."""
    started = time.monotonic()
    with store.in_use(), store.staging() as staging:
        session = Session(place, store, options, staging, monitor)
        catalog = history.read_catalog(store.shadow)
        lost, linked = check_hardlinks(session, catalog)
        cache = usable_cache(store, place)
        found = find_files(session)
        source = Source(os.fsencode(place.project), os.stat(os.path.join(staging, "lock")).st_mtime_ns)
        with session.writer() as writer:
            taken = take_in(session, source, found, cache, writer)
            fresh = gather(writer, cache.objects, taken, found)
            report = publish(session, catalog, writer, cache, fresh, found, taken, collector)
        fold_when_due(store)
        remember(session, cache, taken)
        linked |= {file.digest for path, file in taken.large.items() if options.is_hardlink(path)}
        if linked:
            hardlinks.write_watched(store.path(".cache", "hardlinks"), session.sidecar, linked, staging)
    return replace(report, lost=lost, seconds=time.monotonic() - started)


def find_files(session: Session) -> Scan:
    """Walk the project; says which patterns are broken and which named paths a rule would have left out."""
    options, monitor = session.options, session.monitor
    inside = os.stat(session.store.folder)
    found = scan(
        os.fsencode(session.place.project),
        Rules.start(options.ignored_by_config, options.ignore, session.place.project),
        store=(inside.st_dev, inside.st_ino),
        follow=options.follow,
        only=options.only,
        monitor=monitor,
    )
    for broken in found.broken:
        monitor.warn(
            message(
                "{where}: the pattern {pattern} is skipped: {problem}",
                where=broken.where,
                pattern=broken.pattern,
                problem=broken.problem,
            )
        )
    for one in found.overruled:
        monitor.warn(message("{path} is added, although {rule} leaves it out", path=one.path, rule=one.rule))
    return found


def check_hardlinks(session: Session, catalog: history.Catalog) -> tuple[tuple[Lost, ...], set[Digest]]:
    """What was lost because somebody wrote to a hard-linked file, and the linked objects that are whole."""
    store = session.store
    watched = hardlinks.read_watched(store.path(".cache", "hardlinks"))
    if watched is None and os.listdir(store.path(".cache")):
        return (), set()
    good, written = hardlinks.drop_written(session.sidecar, watched)
    return history.losses(store.shadow, catalog, written), good


def usable_cache(store: Store, place: Place) -> StatCache:
    """The project's stat cache, without what is no longer in the store's packs."""
    present = pack_sizes(store)
    cache = load_cache(store.path(".cache", cache_name(place.project)), store.store_id, present)
    if cache.objects and not cache.packs:
        folder = store.path(".shadow", "objects", "pack")
        kept = (oid for name in present for oid in PackIndex(os.path.join(folder, name + ".idx")))
        return still_there(cache, kept)
    return cache


def pack_sizes(store: Store) -> dict[str, int]:
    """The store's packs (names without ending) that have an idx, and their sizes."""
    folder = store.path(".shadow", "objects", "pack")
    sizes: dict[str, int] = {}
    names = set(os.listdir(folder))
    for name in names:
        stem, ending = os.path.splitext(name)
        if ending == ".pack" and stem + ".idx" in names:
            sizes[stem] = os.lstat(os.path.join(folder, name)).st_size
    return sizes


def take_in(session: Session, source: Source, found: Scan, cache: StatCache, writer: PackWriter) -> Intake:
    """Read every file that the cache does not know."""
    options, sidecar, monitor = session.options, session.sidecar, session.monitor
    taken = Intake(skipped=list(found.skipped))
    small: list[FileStat] = []
    large: list[FileStat] = []
    for file in found.files:
        known = None if options.rehash else cache.files.get(file.path)
        is_large = route(file.size, options.large_size, file.path) is Route.LARGE
        key = StatKey(file.size, file.mtime_ns, file.ctime_ns, file.inode)
        if known and known.key == key and known.large == is_large and is_stored(sidecar, known.identity, key):
            intake.take_known(taken, file, known)
        else:
            (large if is_large else small).append(file)
    room = space_left(session.store, sum(file.size for file in small), options.max_store)
    monitor.begin("store", len(small) + len(large), sum(file.size for file in (*small, *large)))
    seen_before = moved_or_touched(cache)
    announce(source, sidecar, [file for file in large if not seen_before(file)], monitor)
    with ThreadPoolExecutor(intake.THREADS, "tensortime") as pool:
        reading = intake.Reading(source, options.large_size, monitor, pool)
        large += intake.take_small(taken, reading, small, writer, cache.objects)
        intake.take_large(
            taken, reading, large, sidecar, room=room, hash_first=seen_before, is_hardlink=options.is_hardlink
        )
    return taken


def moved_or_touched(cache: StatCache) -> Callable[[FileStat], bool]:
    """Tells large files whose bytes are probably stored: the same inode and size, or the same path and size."""
    sizes = {(known.key.size, known.key.inode) for known in cache.files.values() if known.large}

    def seen_before(file: FileStat) -> bool:
        known = cache.files.get(file.path)
        return (file.size, file.inode) in sizes or (known is not None and known.key.size == file.size)

    return seen_before


def is_stored(sidecar: Sidecar, identity: bytes, key: StatKey) -> bool:
    """Whether a cached large file's object is still there; small files were checked with the packs."""
    return len(identity) == 20 or sidecar.holds(Digest("blake3:" + identity.hex()), key.size)


def space_left(store: Store, small_bytes: int, max_store: int | None) -> Room:
    """What large files may still use. NoSpace if not even the small ones fit."""
    free, total = fsops.free_space(store.folder)
    reserve = max(KEPT_FREE, int(total * KEPT_FREE_PART))
    spare = free - reserve
    if small_bytes > free or (small_bytes > max(spare, 0) and small_bytes > CODE_BYTES):
        raise NoSpace(
            "no room for {needed:,} bytes of small files: {free:,} are free on the disk of the store, "
            "{reserve:,} are kept free for training",
            needed=small_bytes,
            free=free,
            reserve=reserve,
            hint="leave folders out with .ttignore, make room, or name another disk with TENSORTIME_STORE",
        )
    if max_store is not None:
        spare = min(spare, max_store - store.used_bytes())
    return Room(spare - small_bytes)


def announce(source: Source, sidecar: Sidecar, files: list[FileStat], monitor: Monitor) -> None:
    """Before more than a gigabyte is copied: how much, from where, why it is a copy, what avoids it."""
    total = sum(min(file.size, file.blocks * 512) for file in files)
    if total <= ANNOUNCED_BYTES or can_clone(sidecar, lambda: source.open(files[0])):
        return
    sizes: dict[str, int] = {}
    for file in files:
        folder = text_of(file.path.rpartition(b"/")[0]) or "."
        sizes[folder] = sizes.get(folder, 0) + file.size
    heaviest = sorted(sizes, key=lambda folder: sizes[folder], reverse=True)[:3]
    monitor.say(
        message(
            "copying {size}: {folders} (copy: {system} has no reflink); "
            '.ttignore leaves a folder out, hardlink = ["{first}/**"] in tensortime.toml avoids the copy',
            size=total,
            folders=", ".join(heaviest),
            system=fsops.file_system_name(sidecar.folder),
            first=heaviest[0],
        )
    )


def begin(session: Session, catalog: history.Catalog) -> Begun:
    """Choose the experiment: the one to join, else a new name that is free."""
    options = session.options
    now = time.time_ns()
    time_ns = max(now, catalog.newest_time_ns() + 1)
    wanted = options.name or default_name(datetime.fromtimestamp(now / 1e9), options.note)
    existing = catalog.find(wanted) if options.joins else None
    if existing is not None:
        return Begun(existing.name, existing.commit, existing.backups + 1, options.note or existing.note, time_ns)
    taken = catalog.taken_names() | {name.lower() for name in os.listdir(session.store.folder)}
    return Begun(free_name(wanted, taken), None, 1, options.note, time_ns)


def free_name(wanted: ExperimentName, taken: set[str]) -> ExperimentName:
    """`wanted`, or the first of `wanted-2`, `wanted-3`, … that nobody has."""
    name, number = wanted, 1
    while name.lower() in taken:
        number += 1
        ending = f"-{number}"
        name = ExperimentName(cut(wanted, LONGEST_NAME - len(ending)) + ending)
    return name


def publish(
    session: Session,
    catalog: history.Catalog,
    writer: PackWriter,
    cache: StatCache,
    fresh: Contents,
    found: Scan,
    taken: Intake,
    collector: Collector,
) -> BackupReport:
    """Write the commit and move the ref. If another backup took the name or moved the ref meanwhile: once more."""
    store, options = session.store, session.options
    facts = collector.finish(ENVIRONMENT_SECONDS)
    if found.nested:
        top = os.fsencode(session.place.project) + b"/"
        facts["nested"] = nested_heads((top + path, path) for path in found.nested)
    session.sidecar.sync({file.digest for file in taken.large.values()} if intake.brought_bytes(taken) else ())
    for _ in range(ATTEMPTS):
        begun = begin(session, catalog)
        contents = fresh
        if options.only is not None and begun.parent is not None:
            contents = overlay(read_contents(store.shadow, begun.parent), fresh, options.only)
        commit = commit_contents(session, writer, cache, contents, begun, facts, found, taken)
        try:
            writer.finish()
        except OSError as problem:
            raise intake.no_space(problem) from problem
        if store.shadow.create_ref(history.experiment_ref(begun.name), commit, begun.parent or NO_OID):
            sync_refs(store)
            return report_of(session, begun, commit, contents, found, taken, writer.bytes)
        catalog, writer = history.read_catalog(store.shadow), session.writer()
    raise StoreBusy("other backups of {name} keep coming in between", name=begun.name, hint="try again")


def commit_contents(
    session: Session,
    writer: PackWriter,
    cache: StatCache,
    contents: Contents,
    begun: Begun,
    collected: Mapping[str, object],
    found: Scan,
    taken: Intake,
) -> Oid:
    """Write the commit of these contents."""
    options, parent = session.options, session.place.parent
    run = Run(begun.number, begun.time_ns, parent, options.only, changed_paths(taken))
    skipped = [{"path": one.path, "reason": one.reason} for one in taken.skipped]
    command = collected.get("command")
    facts = BackupFacts(
        note=begun.note,
        number=begun.number,
        time_ns=begun.time_ns,
        host_id=host_id(),
        project=text_of(os.fsencode(session.place.project)),
        status="incomplete" if taken.skipped else "done",
        files=contents.files,
        size=contents.size,
        parent=f"{parent.experiment}:{parent.number}" if parent else "",
        command=tuple(str(word) for word in command) if isinstance(command, list) else (),
        params=options.params,
        metrics=options.metrics,
    )
    described = describe_run(run, collected, found, skipped)
    return write_commit(writer, cache.objects, contents, described, facts, begun.parent)


def changed_paths(taken: Intake) -> tuple[str, ...]:
    """The files that changed under every try to read them."""
    small = [path for path, file in taken.small.items() if file.changed]
    return tuple(text_of(path) for path in sorted(small + [path for path, file in taken.large.items() if file.changed]))


def report_of(
    session: Session, begun: Begun, commit: Oid, contents: Contents, found: Scan, taken: Intake, packed: int
) -> BackupReport:
    """What the caller gets to know."""
    return BackupReport(
        experiment=begun.name,
        commit=commit,
        number=begun.number,
        note=begun.note,
        time_ns=begun.time_ns,
        files=contents.files,
        bytes=contents.size,
        stored_bytes=taken.stored_bytes + packed,
        small=len(contents.small),
        large=len(contents.large),
        ignored=tuple(found.ignored),
        skipped=tuple(taken.skipped),
        changed=changed_paths(taken),
        store=session.store.folder,
    )


def sync_refs(store: Store) -> None:
    """Make the new ref's name survive a power loss; git synced its content."""
    with contextlib.suppress(OSError):
        fsops.sync_folder(store.path(".shadow", "refs", "experiments"))


def fold_when_due(store: Store) -> None:
    """Join packs once there are more than MOST_PACKS. Failing is no failure of the backup: the next one tries."""
    loose = [name for name in pack_sizes(store) if not os.path.exists(keep_file(store, name))]
    if len(loose) <= MOST_PACKS:
        return
    with fsops.locked(store.path(".tmp", "fold.lock")) as got, contextlib.suppress(GitFailed, OSError):
        if got:
            for name, size in pack_sizes(store).items():
                if size > LARGEST_FOLDED:
                    fsops.write_atomic(keep_file(store, name), b"")
            store.shadow.fold()


def keep_file(store: Store, pack: str) -> str:
    """The file that tells git to leave a pack alone."""
    return store.path(".shadow", "objects", "pack", pack + ".keep")


def remember(session: Session, cache: StatCache, taken: Intake) -> None:
    """Save the stat cache; a failure costs time only."""
    store, only = session.store, session.options.only
    files = taken.learned
    if only is not None:
        kept = {p: known for p, known in cache.files.items() if not any(under(p, top) for top in only)}
        files = {**kept, **taken.learned}
    objects = cache.objects
    if len(objects) > 2 * len(files) + FORGOTTEN_OBJECTS:
        objects = {known.identity for known in files.values() if not known.large}
    path = store.path(".cache", cache_name(session.place.project))
    with contextlib.suppress(OSError):
        save_cache(path, store.store_id, StatCache(files, objects, pack_sizes(store)), session.staging)


def under(path: bytes, top: bytes) -> bool:
    """Whether `path` is `top` or lies below it."""
    return path == top or path.startswith(top + b"/")

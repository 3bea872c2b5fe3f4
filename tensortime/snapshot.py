"""One backup: scan, read what is new, lay it out, publish.

    scan ──> known to the stat cache | small ──> pack | large ──> object ──> manifest, trees, commit ──> ref

Objects first, then the pack, then their folders, then one ref update that must create (or move from the
expected old commit). Until the ref moves nothing has happened: a crash leaves only bytes nobody names.
"""

import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tensortime import fsops, hardlinks, history, intake
from tensortime.commits import gather
from tensortime.errors import NoSpace, message
from tensortime.folding import fold_when_due, pack_sizes
from tensortime.formats import Digest, text_of
from tensortime.ignoring import Rules
from tensortime.intake import Intake, Source
from tensortime.monitor import Monitor
from tensortime.packs import PackIndex, PackWriter
from tensortime.policy import Route, route
from tensortime.project import Place
from tensortime.publication import publish
from tensortime.reports import BackupReport, Lost
from tensortime.scan import FileStat, Scan, scan
from tensortime.session import BackupOptions, Collector, Session
from tensortime.sidecar import Room, Sidecar, can_clone
from tensortime.statcache import StatCache, StatKey, cache_name, load_cache, save_cache, still_there
from tensortime.store import Store

ANNOUNCED_BYTES = 1_000_000_000
"""A copy of more than this is announced, with what would avoid it."""

KEPT_FREE = 1 << 30
KEPT_FREE_PART = 0.03
"""max(1 GiB, 3 %) of the disk stays free: training writes its checkpoints there too."""

CODE_BYTES = 256 << 20
"""So many bytes of small files may use even the space that is kept free: code is what a run cannot do without."""

FORGOTTEN_OBJECTS = 10_000
"""The stat cache forgets ids of former states once so many more than needed are there."""


def back_up(
    place: Place, store: Store, options: BackupOptions, collector: Collector, monitor: Monitor
) -> BackupReport:
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

"""One backup: scan, read what is new, lay it out, publish.

    scan ──> known to the stat cache | small ──> pack | large ──> object ──> manifest, trees, commit ──> ref

Objects first, then the pack, then their folders, then one ref update that must create (or move from the
expected old commit). Until the ref moves nothing has happened: a crash leaves only bytes nobody names.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tensortime import fsops, hardlinks, history, intake
from tensortime.commits import gather, groups_of
from tensortime.cycles import no_cycle_search
from tensortime.errors import GitFailed, NoSpace, listing, message
from tensortime.findings import FileStat, Scan
from tensortime.folding import fold_when_due, pack_sizes
from tensortime.formats import Oid, RelPath, bytes_of, covering, text_of
from tensortime.ignoring import Matcher, Rules
from tensortime.intake import Intake, Source
from tensortime.monitor import Monitor
from tensortime.packs import PackWriter
from tensortime.project import Place
from tensortime.publication import Gathered, publish
from tensortime.recognition import Recognition, remember_later, usable_cache
from tensortime.reports import QUEUED, BackupReport, Lost, Skipped
from tensortime.roster import read_roster
from tensortime.scan import scan
from tensortime.session import BackupOptions, Collector, Session
from tensortime.sidecar import Room, Sidecar, can_clone, why_no_link
from tensortime.store import Store
from tensortime.walk import Sift

if TYPE_CHECKING:
    from tensortime.backlog import Backlog, Duty

ANNOUNCED_BYTES = 1_000_000_000
"""A copy of more than this is announced, with what would avoid it."""

KEPT_FREE = 1 << 30
KEPT_FREE_PART = 0.03
"""max(1 GiB, 3 %) of the disk stays free: training writes its checkpoints there too."""

CODE_BYTES = 256 << 20
"""So many bytes of small files may use even the space that is kept free: code is what a run cannot do without."""


def back_up(
    place: Place,
    store: Store,
    options: BackupOptions,
    collector: Collector,
    monitor: Monitor,
    backlog: Backlog | None = None,
) -> BackupReport:
    """Make one backup. NoSpace, StoreBusy, StoreUnusable, GitFailed, OSError; nothing is published then.

    `backlog`: it gets the large files that are not stored yet, and where there are any, to start it is up to the caller.
    """
    started = time.monotonic()
    packs, taken = pack_sizes(store), Intake()
    try:
        with contextlib.ExitStack() as held:
            held.enter_context(store.in_use())
            session = Session(place, store, options, held.enter_context(store.staging()), monitor)
            with no_cycle_search() as resume:
                report = back_up_into(session, taken, collector, backlog, resume)
            if backlog is not None and backlog.duty is not None:
                backlog.duty.held.push(held.pop_all())
    except BaseException:
        take_back(store, taken, packs)
        raise
    return replace(report, seconds=time.monotonic() - started)


def back_up_into(
    session: Session,
    taken: Intake,
    collector: Collector,
    backlog: Backlog | None,
    resume: Callable[[], None],
) -> BackupReport:
    """All steps of a backup; what is read is noted in `taken`. `resume`: Python may search for cycles again."""
    place, store, options = session.place, session.store, session.options
    roster = read_roster(store)
    # The store may lie on a server whose clock is ahead: what has just changed is not to look old for that.
    now_ns = min(os.stat(os.path.join(session.staging, "lock")).st_mtime_ns, time.time_ns())
    lost, watched = check_hardlinks(session, now_ns)
    recognition = Recognition(session, taken, usable_cache(store, place))
    # Whoever adds to an experiment compares all files with it later; else those that are known are dropped as they come.
    whole = options.joins or options.run is not None or options.only is not None
    found = find_files(session, None if whole else recognition.sift)
    small, large = recognition.divide(recognition.sift(found.files) if whole else found.files)
    if small or large:
        resume()
    stored = recognition.stored_objects() if small else recognition.cache.objects
    if options.rehash:
        stored = set()  # every small file is stored again: a pack may have rotted
    taken.skipped += found.skipped
    source = Source(os.fsencode(place.project), now_ns, found.followed)
    with session.writer() as writer:
        take_in(session, taken, source, (small, large), recognition, stored, writer, backlog)
        fresh = gather(writer, stored, taken, found)
        missing = (*taken.skipped, *(Skipped(text_of(path), QUEUED) for path in taken.queued))
        gathered = Gathered(found, taken, fresh, missing, stored)
        report = publish(session, roster, writer, gathered, collector)
    # All is stored and named by now: none of this is a failure of the backup.
    with contextlib.suppress(OSError):
        if options.large_until is None or time.monotonic() < options.large_until:
            fold_when_due(store)
        tell_of_room(session)
    recognition.remember({file.path for file in (*small, *large)}, stored)
    linked = {file.digest for path, file in taken.large.items() if options.is_hardlink(path)}
    with contextlib.suppress(OSError):
        hardlinks.update_watched(store, {**dict.fromkeys(linked, hardlinks.LOOK_AGAIN), **watched})
    if backlog is not None and taken.queued:
        backlog.duty = duty_after(session, source, report, groups_of(taken), stored)
    return replace(report, lost=lost)


def duty_after(
    session: Session, source: Source, report: BackupReport, groups: Mapping[RelPath, int], known: set[bytes]
) -> Duty:
    """What a published backup leaves to its backlog."""
    from tensortime.backlog import Duty  # 4 ms that a backup without a backlog need not pay

    store, packs = session.store, pack_sizes(session.store)
    return Duty(
        session,
        source,
        report,
        groups,
        known,
        room=lambda: space_left(store, 0, session.options.max_store),
        remember=lambda taken: remember_later(session, taken),
        take_back=lambda taken: take_back(store, taken, packs),
    )


def take_back(store: Store, taken: Intake, packs: Mapping[str, int]) -> None:
    """Remove the objects and packs that a failed backup brought, so that it leaves the disk no fuller than it was.

    Only where nobody can have come to rely on them: no ref names what it wrote, no other backup runs now, and none has
    published since (each publishes at least one pack).
    """
    own = {name for writer in taken.writers for name in writer.names} - packs.keys()
    if not taken.brought and not own:
        return
    with (
        contextlib.suppress(OSError, GitFailed),
        fsops.locked(store.path(".lock"), lockless=False) as alone,
    ):
        others = any(os.path.isdir(store.path(".tmp", name)) for name in os.listdir(store.path(".tmp")))
        now = {name: size for name, size in pack_sizes(store).items() if name not in own}
        alone = alone and fsops.trusts_locks(store.folder)
        if not alone or others or now != packs or is_named(store, taken.commits):
            return
        doomed = [store.sidecar().path_of(digest) for digest in taken.brought]
        folder = store.path(".shadow", "objects", "pack")
        doomed += [os.path.join(folder, name + ending) for name in own for ending in (".idx", ".pack")]
        for path in doomed:
            with contextlib.suppress(OSError):
                os.unlink(path)


def is_named(store: Store, commits: Set[Oid]) -> bool:
    """Whether a ref names one of these commits: then the backup failed only after it was published."""
    if not commits:
        return False
    listed = store.shadow.run("for-each-ref", "--format=%(objectname)").stdout.decode()
    return not commits.isdisjoint(Oid(oid) for oid in listed.split())


def find_files(session: Session, sift: Sift | None = None) -> Scan:
    """Walk the project; says which patterns are broken and which named paths a rule would have left out."""
    options, monitor = session.options, session.monitor
    inside = os.stat(session.store.folder)
    monitor.begin("scan", 0, 0)
    found = scan(
        os.fsencode(session.place.project),
        Rules.start(options.ignored_by_config, options.ignore, session.place.project),
        store=(inside.st_dev, inside.st_ino),
        follow=options.follow,
        only=options.only,
        monitor=monitor,
        sift=sift,
    )
    if options.run is not None and options.run.also:
        found = with_named(session, found, options.run.also)
    if options.run is not None:
        options.run.on_found(found.files)
    for broken in found.broken:
        monitor.warn(
            message(
                "{where}: the pattern {pattern} is skipped: {problem}",
                where=broken.where,
                pattern=broken.pattern,
                problem=broken.problem,
            )
        )
    for pattern in options.follow if options.only is None else ():
        chosen = Matcher.of("follow", [pattern], session.place.project)
        if not any(chosen.chooses(path, True) for path in found.followed):
            monitor.warn(message("follow: {pattern} is no link to anything", pattern=pattern))
    for one in found.overruled:
        # `save/` in .ttignore and `add=["save"]` is how weights are meant to be stored: only what nobody wrote is said.
        if not one.rule.startswith("built-in"):
            continue
        monitor.warn(message("{path} is added, although {rule} leaves it out", path=one.path, rule=one.rule))
    return found


def with_named(session: Session, found: Scan, named: Sequence[RelPath]) -> Scan:
    """What a walk found, and what there is at some paths whatever the rules say."""
    project, inside = os.fsencode(session.place.project), os.stat(session.store.folder)
    there = [path for path in named if os.path.lexists(os.path.join(project, path))]
    if not there:
        return found
    store = (inside.st_dev, inside.st_ino)
    more = scan(project, Rules.start(), store=store, follow=session.options.follow, only=there)
    return replace(
        found,
        files=list({one.path: one for one in (*found.files, *more.files)}.values()),
        links=list({one.path: one for one in (*found.links, *more.links)}.values()),
        folders=list({one.path: one for one in (*found.folders, *more.folders)}.values()),
        ignored=[one for one in found.ignored if covering(RelPath(bytes_of(one.path)), there) is None],
        skipped=list({one.path: one for one in (*found.skipped, *more.skipped)}.values()),
        nested=list(dict.fromkeys((*found.nested, *more.nested))),
        outside=list({one.path: one for one in (*found.outside, *more.outside)}.values()),
        followed={**found.followed, **more.followed},
    )


def check_hardlinks(session: Session, now_ns: int) -> tuple[tuple[Lost, ...], hardlinks.Watched]:
    """What was lost because somebody wrote to a hard-linked file, and the linked objects that are whole."""
    store = session.store
    watched = hardlinks.read_watched(hardlinks.watch_file(store))
    good, written = hardlinks.drop_written(session.sidecar, watched, now_ns)
    if written:
        hardlinks.update_watched(store, good, lost=written)
    if not written:
        return (), good
    return history.losses(store.shadow, history.read_catalog(store.shadow), written), good


def take_in(
    session: Session,
    taken: Intake,
    source: Source,
    unknown: tuple[list[FileStat], list[FileStat]],
    recognition: Recognition,
    stored: set[bytes],
    writer: PackWriter,
    backlog: Backlog | None,
) -> None:
    """Read the small and large files that the cache does not know; where there is a backlog, it gets the large ones."""
    options, sidecar, monitor = session.options, session.sidecar, session.monitor
    small, large = unknown
    room = space_left(session.store, sum(file.size for file in small), options.max_store)
    quick = options.large_until is not None
    now = small if backlog is not None else [*small, *large]
    monitor.begin("store", len(now), sum(file.size for file in now))
    seen_before = partial(recognition.seen_before, source=source)
    fresh = [file for file in large if not seen_before(file)]
    if not quick:
        announce(source, sidecar, without_links(source, sidecar, fresh, options, monitor), monitor)
    reading = intake.Reading(source, options.large_size, options.rehash, monitor, options.large_until)
    large += intake.take_small(taken, reading, small, writer, stored)
    if backlog is not None:
        backlog.queue(taken, source, large, sidecar, room, seen_before, options.is_hardlink)
        return
    if any(options.is_hardlink(file.path) for file in large):
        hardlinks.forget_watched(session.store)
    intake.take_large(
        taken,
        reading,
        large,
        sidecar,
        room=Room(0) if quick else room,  # nothing is copied
        hash_first=seen_before,
        is_hardlink=options.is_hardlink,
    )


def space_left(store: Store, small_bytes: int, max_store: int | None) -> Room:
    """What large files may still use. NoSpace if not even the small ones fit."""
    free, total = fsops.free_space(store.folder)
    reserve = kept_free(total)
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


def kept_free(total: int) -> int:
    """The bytes of a disk of so many that large files do not take."""
    return max(KEPT_FREE, int(total * KEPT_FREE_PART))


def tell_of_room(session: Session) -> None:
    """One line when the store passes what it may take, or the disk what is kept free, and which command helps."""
    limit = session.options.max_store
    used = session.store.used_bytes() if limit is not None else 0
    if limit is not None and used >= limit:
        session.monitor.warn(
            message(
                "the store takes {size}, max_store is {limit:,} bytes: tensortime du shows what takes the room, "
                "tensortime rm and tensortime gc make some",
                size=used,
                limit=limit,
            )
        )
        return
    free, total = fsops.free_space(session.store.folder)
    if free < kept_free(total):
        session.monitor.warn(
            message(
                "{size} are free on the disk of the store, {reserve:,} bytes are kept for training: tensortime du "
                "shows what takes the room, tensortime rm and tensortime gc make some",
                size=free,
                reserve=kept_free(total),
            )
        )


def without_links(
    source: Source, sidecar: Sidecar, files: list[FileStat], options: BackupOptions, monitor: Monitor
) -> list[FileStat]:
    """The files that are not stored by hard link. Where linking was asked for and fails, that is said."""
    linked = [file for file in files if options.is_hardlink(file.path)]
    if not linked:
        return files
    problem = why_no_link(sidecar, source.root + b"/" + linked[0].path)
    if problem is None:
        return [file for file in files if not options.is_hardlink(file.path)]
    if not can_clone(sidecar, lambda: source.open(linked[0])):
        monitor.warn(
            message(
                "{path} cannot be hard-linked into {store} ({problem}): {size} are copied",
                path=listing([text_of(file.path) for file in linked], 1),
                store=os.path.dirname(sidecar.folder),
                problem=problem,
                size=sum(file.size for file in linked),
            )
        )
    return files


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

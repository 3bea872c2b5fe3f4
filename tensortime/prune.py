"""One gc: free what nobody needs. The only operation that deletes bytes of a store.

    alone ──> facts ──> plan ──> delete ──┐  packs of which little is needed: copied beside running backups,
    alone <── facts <── copy ─────────────┘  then, alone again and looked at again, deleted

Alone means the exclusive lock, which every backup and restore holds shared. Where locks cannot be trusted (network
file systems) nothing is deleted that was not withdrawn a day before: since then no backup has relied on it.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from tensortime import fsops, grace
from tensortime.answers import GcReport
from tensortime.condemned import Condemned, read_condemned, remove_condemned
from tensortime.errors import GitFailed, Message, NoSpace, StoreBusy, TensorTimeError, message
from tensortime.formats import Digest, bytes_of, raw_of, text_of
from tensortime.garbage import Facts, GcPlan, Rewrite, disk_size, freed_by, is_trash, make_plan, read_facts
from tensortime.gitobjects import GitObjects
from tensortime.leftovers import Leftover
from tensortime.monitor import Meter, Monitor
from tensortime.packreader import Pack, PackDamaged
from tensortime.reach import Root, read_reach, read_roots
from tensortime.repacking import copy_objects, pack_folder, remove_file, remove_pack, remove_shortcuts
from tensortime.shadow import failure, ref_has_moved
from tensortime.store import LOCK_WAIT, Store
from tensortime.withdrawn import (
    Mark,
)
from tensortime.worktrees import mend_worktrees

MARGIN = 4 << 20
"""Bytes that must stay free while packs are copied."""


ATTEMPTS = 5
"""How often the facts are read again because refs have moved meanwhile."""


@dataclass
class Copied:
    """What was copied out of packs, or read in others, so that these may go."""

    superseded: set[str] = field(default_factory=set)
    proven: dict[str, set[bytes]] = field(default_factory=dict)
    """Packs, and the objects in them that were just read and are right."""
    condemned: frozenset[bytes] = frozenset()
    """Objects that were purged: every pack that holds one is written anew."""

    def covers(self, one: Rewrite) -> bool:
        """Whether all that is needed of a pack was read in the other packs that have it."""
        known = all(oid in self.proven.get(name, ()) for oid, name in one.elsewhere.items())
        return known and not one.needed and not self.superseded & set(one.elsewhere.values())


@dataclass
class Tally:
    """What was done so far, and who is told."""

    monitor: Monitor
    freed: int = 0
    objects: int = 0
    packs: int = 0
    rewritten: int = 0
    leftovers: int = 0
    trash: tuple[str, ...] = ()
    waiting: int = 0
    """Bytes that a later gc frees."""
    notes: list[Message] = field(default_factory=list)


def collect(store: Store, *, trash: bool, dry_run: bool, monitor: Monitor) -> GcReport:
    """Free what nobody needs; `trash`: what is in the trash too; `dry_run`: only say what that would be.

    StoreBusy where backups or restores do not end; NoSpace where not even deleting works.
    """
    started = time.monotonic()
    trusted = fsops.trusts_locks(store.folder)
    tally = Tally(monitor)
    if dry_run:
        with store.in_use():
            blobs = still_condemned(store, tally).blobs
            plan = make_plan(
                read_facts(store, grace.now_ns() / 1e9, alone=False, monitor=monitor),
                trash=trash,
                condemned=blobs,
            )
        tally.freed = plan.frees
        return report_of(plan, tally, started, dry_run=True)
    condemned = still_condemned(store, tally)
    with holding(store, trusted):
        if trusted:  # else a restore that runs could lose its record
            with contextlib.suppress(OSError):
                mend_worktrees(store)
        plan = delete(store, trash, trusted, Copied(condemned=condemned.blobs), tally)
    plan = rewrite_packs(store, plan, trash, trusted, condemned, tally)
    forget_condemned(store, condemned)
    return report_of(plan, tally, started, dry_run=False)


def rewrite_packs(
    store: Store,
    plan: GcPlan,
    trash: bool,
    trusted: bool,
    condemned: Condemned,
    tally: Tally,
) -> GcPlan:
    """Copy what is needed of the packs that are to be written anew, and delete the old ones."""
    if not plan.rewrites:
        return plan
    copied = Copied(condemned=condemned.blobs)
    try:
        copy_needed(store, plan.rewrites, copied, tally)
    except OSError as problem:
        tally.notes.append(message("no pack could be written anew: {problem}", problem=problem.strerror))
    with holding(store, trusted):
        return delete(store, trash, trusted, copied, tally)


def sweep_condemned(store: Store, condemned: Condemned, trusted: bool, tally: Tally) -> Condemned:
    """Delete what a purge condemned; returns what of it is still there, as something else needs it."""
    with holding(store, trusted):
        plan = delete(store, False, trusted, Copied(condemned=condemned.blobs), tally)
    rewrite_packs(store, plan, False, trusted, condemned, tally)
    return forget_condemned(store, condemned)


def still_condemned(store: Store, tally: Tally) -> Condemned:
    """What a purge has still to delete; where its list is damaged, all that is in a pack and that nobody needs."""
    condemned = read_condemned(store.folder)
    if not condemned.damaged:
        return condemned
    tally.notes.append(
        message(
            "{path} is damaged: every pack with something in it that nobody needs is written anew",
            path=".shadow/purging",
        )
    )
    live = read_reach(store).live
    packs = GitObjects(store.path(".shadow")).packs.values()
    return Condemned(frozenset(oid for pack in packs for oid in pack.index if oid not in live), damaged=True)


def forget_condemned(store: Store, condemned: Condemned) -> Condemned:
    """Forget what is gone, or needed for something else; returns the latter. What only waits is remembered."""
    if condemned == Condemned():
        return condemned
    live = read_reach(store).live
    objects, sidecar = GitObjects(store.path(".shadow")), store.sidecar()
    blobs = frozenset(oid for oid in condemned.blobs if oid in objects)
    digests = frozenset(one for one in condemned.digests if os.path.lexists(sidecar.path_of(one)))
    waiting = any(oid not in live for oid in blobs) or any(raw_of(one) not in live for one in digests)
    if not waiting:
        remove_condemned(store.folder)
    return Condemned(
        frozenset(oid for oid in blobs if oid in live),
        frozenset(one for one in digests if raw_of(one) in live),
    )


@contextlib.contextmanager
def holding(store: Store, trusted: bool) -> Iterator[None]:
    """Hold the store alone, or where no lock tells who else is there, beside them."""
    if not trusted:
        with store.in_use():
            yield
        return
    lock = store.path(".lock")
    with store.locked(".lock", wait=LOCK_WAIT, lockless=False) as got:
        if not got:
            pids = [pid for pid in fsops.lock_holders(lock) if pid != os.getpid()]
            named = [f"{pid} ({fsops.command_of(pid)[:80]})" for pid in pids]
            raise StoreBusy(
                "the store {store} is in use by {who}",
                store=store.folder,
                who=", ".join(named) or "another process",
                hint="gc waits for no backup and no restore: try again when it has ended",
            )
        store.drop_dead_locks()
        yield


def delete(store: Store, trash: bool, trusted: bool, copied: Copied, tally: Tally) -> GcPlan:
    """Plan and delete what can go without anything being written; returns the plan, with what is left to rewrite."""
    planned = partial(make_plan, trash=trash, superseded=copied.superseded, condemned=copied.condemned)
    facts = read_facts(store, grace.now_ns() / 1e9, alone=trusted, monitor=tally.monitor)
    plan = planned(facts)
    if not trusted:
        facts, plan = agreed(store, facts, plan, planned)
    sweep(plan.leftovers, tally)
    if plan.trash and not drop_refs(store, plan.trash, tally):
        # Not a byte is free. What goes without a ref being written goes first, and makes the room for that.
        delete_unneeded(store, make_plan(facts, trash=False), trusted, Copied(), tally)
        store.drop_caches()
        if not drop_refs(store, plan.trash, tally):
            raise NoSpace(
                "the trash cannot be emptied: not even a ref can be written",
                hint="make a little room on that disk",
            )
    delete_unneeded(store, plan, trusted, copied, tally)
    if trash:
        for gap in facts.reach.gaps:
            if is_trash(gap):
                remove_file(store.path(".shadow", text_of(gap.node)))
        fsops.remove_tree(store.path(".objects", "damaged")) if plan.damaged else None
        tally.freed += plan.damaged
    return plan


def agreed(
    store: Store, facts: Facts, plan: GcPlan, planned: Callable[[Facts], GcPlan]
) -> tuple[Facts, GcPlan]:
    """Facts that know all refs there are: one that moves while they are listed, out of the trash, could be missed.

    Nor do they miss what another gc moved into a new pack meanwhile, or deleted with its name: damage is there twice.
    """
    missed: tuple[Message, ...] | None = None
    for _ in range(ATTEMPTS):
        tips = {tip for root in read_roots(store)[0] for tip in root.tips}
        if tips <= facts.reach.live and (not plan.kept or plan.kept == missed):
            return facts, plan
        missed = plan.kept
        facts = read_facts(store, grace.now_ns() / 1e9, alone=False)
        plan = planned(facts)
    raise StoreBusy("backups and removals keep coming in between", hint="try again when they have ended")


def delete_unneeded(store: Store, plan: GcPlan, trusted: bool, copied: Copied, tally: Tally) -> None:
    """Delete objects and packs that nobody needs, at once or a day after they were withdrawn."""
    store.sync_refs()
    covered = [one for one in plan.rewrites if copied.covers(one)]
    packs = [*plan.packs, *((one.name, one.size) for one in covered)]
    marks: Mapping[Digest, Mark] | None = None
    if not trusted:
        marks, ripe, tally.waiting = grace.ripe(store, plan, packs)
        packs = [(name, size) for name, size in packs if name in ripe]
    sidecar = store.sidecar()
    for digest, one in plan.objects:
        path = sidecar.path_of(digest)
        if marks is None:
            gone = remove_file(path)
        else:
            gone = digest in marks and grace.take_aside(store, path, marks[digest])
        if gone:
            tally.freed += freed_by(one)
            tally.objects += 1
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))
    if packs:
        remove_shortcuts(store)
    for name, size in packs:
        if marks is not None and not grace.is_same_pack(store, name, ripe[name]):
            continue  # a backup has just written it again
        remove_pack(store, name)
        tally.freed += size
        tally.packs += 1
    sweep(plan.loose, tally)
    if trusted:
        with contextlib.suppress(OSError):
            grace.forget_gone(store)


def drop_refs(store: Store, refs: Sequence[Root], tally: Tally) -> bool:
    """Let the trash go; False where that cannot be written."""
    lines = b"".join(b"delete %s %s\n" % (bytes_of(root.ref), root.tips[0].hex().encode()) for root in refs)
    try:
        done = store.shadow.run("update-ref", "--no-deref", "--stdin", stdin=lines, accept=(0, 1, 128))
        if ref_has_moved(done.stderr):
            raise StoreBusy("the trash changed meanwhile", hint="try again")
        if done.returncode:
            raise failure(("update-ref",), done)
    except GitFailed:
        if fsops.free_space(store.folder)[0] > MARGIN:
            raise
        return False
    tally.trash = (*tally.trash, *(root.ref for root in refs))
    return True


def sweep(files: Sequence[Leftover], tally: Tally) -> None:
    """Remove files and folders."""
    for path, size in files:
        with contextlib.suppress(OSError):
            if os.path.isdir(path) and not os.path.islink(path):
                fsops.remove_tree(path)
            elif not remove_file(path):
                continue
            tally.freed += size
            tally.leftovers += 1


def copy_needed(store: Store, rewrites: Sequence[Rewrite], copied: Copied, tally: Tally) -> None:
    """Copy what is needed of these packs into new ones, beside running backups.

    The smallest first: each makes room for the next. One that is damaged stays as it is, and is named.
    """
    tally.monitor.begin("rewrite", len(rewrites), sum(one.size for one in rewrites))
    with store.in_use(), fsops.locked(store.path(".tmp", "fold.lock"), wait=LOCK_WAIT):
        objects = GitObjects(store.path(".shadow"))
        for one in sorted(rewrites, key=lambda rewrite: (rewrite.size - rewrite.saved, rewrite.name)):
            meter = Meter(tally.monitor, one.size, threading.Lock(), threading.Event())
            try:
                copy_one(store, objects, one, copied, tally, meter)
            except (PackDamaged, OSError, TensorTimeError) as problem:
                tally.notes.append(
                    message("{pack} stays as it is: {problem}", pack=one.name, problem=str(problem))
                )
            meter.finish()


def copy_one(
    store: Store, objects: GitObjects, one: Rewrite, copied: Copied, tally: Tally, advance: Meter
) -> None:
    """Copy what is needed of one pack, and read what other packs have of it."""
    pack = objects.packs.get(one.name)
    if pack is None or not all(name in objects.packs for name in one.elsewhere.values()):
        return  # folded meanwhile
    for oid, name in one.elsewhere.items():
        other = objects.packs[name]
        other.read(other.entry(oid))
        copied.proven.setdefault(name, set()).add(oid)
    if one.needed:
        room, needed = fsops.free_space(store.folder)[0], one.size - one.saved + MARGIN
        if room < needed:
            raise NoSpace(
                "{needed:,} bytes are needed to write it anew, {free:,} are free", needed=needed, free=room
            )
        with store.staging() as staging:
            made = copy_objects(store, staging, [(pack, one.needed)], advance)
        for name in made:
            copy = Pack(os.path.join(pack_folder(store), name))
            copied.proven[name] = set(copy.index)
            tally.freed -= sum(disk_size(copy.stem + ending) for ending in (".pack", ".idx"))
        # One of them may be there already, out of a gc that was interrupted.
        copied.superseded.difference_update(made)
        if one.name in made:
            return
        tally.rewritten += 1
    copied.superseded.add(one.name)


def report_of(plan: GcPlan, tally: Tally, started: float, *, dry_run: bool) -> GcReport:
    """What the caller gets to know."""
    return GcReport(
        dry_run=dry_run,
        freed=max(tally.freed, 0),  # where nothing may be deleted yet, copies cost at first
        waiting=tally.waiting,
        held=plan.held,
        trash=tuple(root.ref for root in plan.trash) if dry_run else tally.trash,
        objects=len(plan.objects) if dry_run else tally.objects,
        packs=len(plan.packs) if dry_run else tally.packs,
        rewritten=len(plan.rewrites) if dry_run else tally.rewritten,
        leftovers=len(plan.leftovers) + len(plan.loose) if dry_run else tally.leftovers,
        kept=plan.kept,
        notes=tuple(tally.notes),
        seconds=time.monotonic() - started,
    )

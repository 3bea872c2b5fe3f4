"""What of a store nobody needs: the facts, read once, and the plan of a gc, which is pure.

    refs, worktrees, reflogs ──> what is needed ──┐
    packs, objects, loose objects, leftovers ─────┤──> plan: what goes, what is written anew, what stays and why
    what is withdrawn already ────────────────────┘

Where something that is needed cannot be read, what lies behind it is not known: then nothing of its kind is freed.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from tensortime.errors import Message, message
from tensortime.formats import Digest, digest_of, text_of
from tensortime.gitobjects import GitObjects, read_whole
from tensortime.leftovers import Leftover, appended, find_leftovers, size_of, unowned
from tensortime.monitor import SILENT, Monitor
from tensortime.packreader import PackDamaged
from tensortime.packs import FANOUT_END, OID_SIZE, PACK_HEADER
from tensortime.project import read_parent
from tensortime.reach import (
    EXPERIMENT,
    HIDDEN,
    MISSING,
    STAGED,
    TAG,
    TRASHED,
    UNNAMED,
    Gap,
    ObjectStat,
    Reach,
    Root,
    is_linked,
    read_reach,
)
from tensortime.repacking import ENDINGS
from tensortime.store import DEAD_SECONDS, STALE_SECONDS, Store
from tensortime.withdrawn import Withdrawn, read_withdrawn
from tensortime.worktrees import records

LOOSE_SECONDS = 14 * 86400.0
"""How long an object that a person's git wrote, and that nothing needs, is kept: as long as git itself keeps it."""

HALF = 0.5
"""A pack of which nobody needs more than this part is written anew."""

BLOCK = 4096
"""Bytes that a file takes at least: a small pack that would take no fewer blocks is not worth to be written anew."""

REFLOG_ID = re.compile(rb"\b[0-9a-f]{40}\b")


class PackFacts(NamedTuple):
    """One pack: its bytes on disk, and those of each object in it."""

    size: int
    entries: Mapping[bytes, int]


@dataclass(frozen=True)
class Facts:
    """All that a plan depends on."""

    reach: Reach
    extra: frozenset[bytes]
    """Commits that worktrees were restored from, and what reflogs name: needed, too."""
    wrong: frozenset[bytes]
    """Commits, trees and manifests that are needed and wrong in some place."""
    packs: Mapping[str, PackFacts]
    loose: Mapping[bytes, tuple[str, int, float]]
    """Loose objects: file, bytes on disk, age in seconds."""
    half_packs: tuple[Leftover, ...]
    """Packs without an idx: a crash left them."""
    leftovers: tuple[Leftover, ...]
    damaged: int
    """Bytes in `.objects/damaged`."""
    records: Mapping[str, tuple[Leftover, float]] = field(default_factory=dict)
    """See `leftovers.appended`."""
    withdrawn: Withdrawn = field(default_factory=Withdrawn)
    trusted: bool = True
    """Whether locks can be relied on."""


class Rewrite(NamedTuple):
    """A pack of which little is needed, or all that is needed stands in other packs too."""

    name: str
    size: int
    needed: frozenset[bytes]
    """What has to be copied."""
    elsewhere: Mapping[bytes, str]
    """What other packs have, and in which one it has to be right."""
    saved: int


@dataclass(frozen=True)
class GcPlan:
    """What a gc is going to do."""

    trash: tuple[Root, ...] = ()
    """Refs of the trash that go."""
    objects: tuple[tuple[Digest, ObjectStat], ...] = ()
    packs: tuple[tuple[str, int], ...] = ()
    """Packs that nobody needs anything of, with their sizes."""
    rewrites: tuple[Rewrite, ...] = ()
    loose: tuple[Leftover, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    damaged: int = 0
    """Bytes of what was moved aside, and goes too."""
    held: tuple[tuple[str, int], ...] = ()
    """What stays: by what, and how many bytes."""
    kept: tuple[Message, ...] = ()
    """Why something stays that perhaps nobody needs."""

    @property
    def frees(self) -> int:
        """The bytes that will be free."""
        objects = sum(freed_by(stat) for _, stat in self.objects)
        files = sum(one.size for one in (*self.loose, *self.leftovers))
        return (
            objects
            + files
            + sum(size for _, size in self.packs)
            + sum(one.saved for one in self.rewrites)
            + self.damaged
        )


def freed_by(stat: ObjectStat) -> int:
    """What the removal of an object frees: nothing where it is a file of the user too."""
    return 0 if is_linked(stat) else stat.disk


def read_facts(store: Store, now: float, *, alone: bool, monitor: Monitor = SILENT) -> Facts:
    """Look at the store. Refs are read first: what a backup adds later is more, never less."""
    reach = read_reach(store, monitor)
    objects = GitObjects(store.path(".shadow"))
    extra = frozenset(extra_tips(store, reach))
    live = reach.live | reach.closure([Root("extra", "", tuple(extra))])
    loose = {}
    for oid, path in objects.loose():
        info = os.lstat(path)
        loose[oid] = (path, info.st_blocks * 512, now - info.st_mtime)
    folder = store.path(".shadow", "objects", "pack")
    packs = {
        name: PackFacts(
            sum(disk_size(pack.stem + ending) for ending in ENDINGS),
            {entry.oid: entry.end - entry.start for entry in pack.entries()},
        )
        for name, pack in objects.packs.items()
        if name + ".pack" not in objects.broken
    }
    aside = store.path(".objects", "damaged")
    return Facts(
        reach,
        extra,
        frozenset(wrong_ones(objects, reach, live)),
        packs,
        loose,
        tuple(half_packs(folder, now - (STALE_SECONDS if alone else DEAD_SECONDS))),
        tuple(find_leftovers(store, now, alone=alone)),
        size_of(aside),
        appended(store, now),
        read_withdrawn(store.folder),
        alone,
    )


def disk_size(path: str) -> int:
    """The bytes that a file takes on disk; 0 where there is none."""
    try:
        return os.lstat(path).st_blocks * 512
    except FileNotFoundError:
        return 0


def extra_tips(store: Store, reach: Reach) -> Iterator[bytes]:
    """What each worktree was restored from (its links into the sidecar need that), and what reflogs name and is there."""
    for admin in records(store):
        parent = read_parent(admin)
        if parent is not None and re.fullmatch(r"[0-9a-f]{40}", parent.commit):
            yield bytes.fromhex(parent.commit)
    tops = [store.path(".shadow", "logs"), *(os.path.join(admin, "logs") for admin in records(store))]
    for top in tops:
        for folder, _, names in os.walk(top):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    ids = {bytes.fromhex(found.decode()) for found in REFLOG_ID.findall(file.read())}
                yield from (oid for oid in ids if oid in reach.packed)


def wrong_ones(objects: GitObjects, reach: Reach, live: Set[bytes]) -> Iterator[bytes]:
    """The commits, trees and manifests among what is needed that are wrong in a place where git may read them."""
    manifests = {node[1:] for node in live if len(node) == 21}
    for oid in (live & reach.inner.keys()) | manifests:
        if len(oid) != 20:
            continue
        try:
            for pack in objects.copies(oid):
                pack.read(pack.entry(oid))
            path = objects.loose_path(oid)
            if os.path.lexists(path):
                read_whole(path, oid)
        except (PackDamaged, OSError):
            yield oid


def half_packs(folder: str, before: float) -> Iterator[Leftover]:
    """Files of packs whose idx or pack is missing, last written before a time: a backup may just be at it."""
    names = set(os.listdir(folder))
    for name in sorted(names):
        stem, ending = os.path.splitext(name)
        whole = {stem + ".pack", stem + ".idx"} <= names
        if name.startswith("pack-") and ending in ENDINGS and not whole:
            info = os.lstat(os.path.join(folder, name))
            if info.st_mtime < before:
                yield Leftover(os.path.join(folder, name), info.st_blocks * 512)


def make_plan(
    facts: Facts, *, trash: bool, superseded: Collection[str] = (), condemned: Set[bytes] = frozenset()
) -> GcPlan:
    """What goes, what is written anew, what stays. Pure. `trash`: what is in the trash goes too; `superseded`: packs
    whose objects were just copied, or read in other packs; `condemned`: objects that were purged: no pack keeps them.
    """
    reach = facts.reach
    dropped = tuple(root for root in reach.roots if trash and root.kind == TRASHED)
    roots = [root for root in reach.roots if root not in dropped]
    live = reach.closure([*roots, Root("extra", "", tuple(facts.extra))])
    no_git, no_objects = unknowns(facts, roots, live, trash)
    objects: tuple[tuple[Digest, ObjectStat], ...] = ()
    packs: tuple[tuple[str, int], ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    loose: tuple[Leftover, ...] = ()
    leftovers = facts.leftovers
    if not no_objects:
        objects = tuple(
            (digest_of(node), one) for node, one in sorted(reach.objects.items()) if node not in live
        )
        leftovers = (*leftovers, *unowned(facts.records, roots, dropped))
    if not no_git:
        packs, rewrites = judge_packs(facts.packs, live, {*facts.withdrawn.packs, *superseded}, condemned)
        loose = tuple(
            Leftover(path, size)
            for oid, (path, size, age) in facts.loose.items()
            if oid not in live and (age > LOOSE_SECONDS or oid in condemned)
        )
        if all(node in reach.packed for node in live if len(node) == 20):
            leftovers = (*leftovers, *facts.half_packs)
    plan = GcPlan(
        dropped,
        objects,
        packs,
        rewrites,
        loose,
        leftovers,
        facts.damaged if trash else 0,
        (),
        tuple(no_objects),
    )
    return GcPlan(**{**plan.__dict__, "held": held_by(facts, plan)})


def unknowns(
    facts: Facts, roots: Sequence[Root], live: Set[bytes], trash: bool
) -> tuple[list[Message], list[Message]]:
    """Why git objects, and why objects, must all stay: something needed cannot be read. The latter holds the former."""
    reach = facts.reach
    nameless = (UNNAMED, STAGED, HIDDEN)
    broken = [gap for gap in reach.gaps if gap.problem in nameless and not (trash and is_trash(gap))]
    git = [
        message(
            "{ref} cannot be read, so nobody knows what it needs: tensortime verify", ref=text_of(gap.node)
        )
        for gap in broken
    ]
    tips = {tip for root in roots for tip in root.tips} | facts.extra
    parents = tips.union(*(reach.inner.get(node, ()) for node in live))
    files = set[bytes]().union(*(reach.leaves.get(node, ()) for node in live))
    unread = {gap.node for gap in reach.gaps if gap.problem not in (*nameless, MISSING)} | facts.wrong
    manifests = {node[1:] for node in live if len(node) == 21}
    lost = {node for node in live if len(node) == 20 and node not in reach.packed}
    hiding = ((lost & parents) - files) | (unread & live & (parents | reach.inner.keys()) - manifests)
    git += [
        message(
            "{oid} is missing or damaged, so nobody knows what it needs: tensortime verify", oid=oid.hex()
        )
        for oid in sorted(hiding)
    ]
    silent = manifests & (lost | unread | {oid for oid in manifests if oid not in reach.packed})
    objects = [
        message(
            "the manifest {oid} cannot be read, so that all large files stay: tensortime verify",
            oid=oid.hex(),
        )
        for oid in sorted(silent)
    ]
    if not roots and not trash and reach.inner:
        git.append(message("there are backups, and no name for any: if that is right, tensortime gc --trash"))
    return git, [*git, *objects]


def is_trash(gap: Gap) -> bool:
    """Whether a ref that names nothing is one of the trash."""
    return gap.problem == UNNAMED and gap.node.startswith(b"refs/trash/")


def judge_packs(
    packs: Mapping[str, PackFacts], live: Set[bytes], leaving: Set[str], condemned: Set[bytes]
) -> tuple[tuple[tuple[str, int], ...], tuple[Rewrite, ...]]:
    """The packs that nobody needs, and those that are worth to be written anew."""
    needed = {
        name: {oid: size for oid, size in pack.entries.items() if oid in live} for name, pack in packs.items()
    }
    # Of several copies the one counts whose pack is needed most; never one that is about to go.
    totals = {name: sum(pack.entries.values()) for name, pack in packs.items()}
    used = {name: sum(entries.values()) for name, entries in needed.items()}

    def rank(name: str) -> tuple[bool, float, int, str]:
        return name in leaving, -used[name] / max(totals[name], 1), -used[name], name

    order = sorted(packs, key=rank)
    home: dict[bytes, str] = {}
    for name in order:
        for oid in needed[name]:
            home.setdefault(oid, name)
    dead, rewrites = [], []
    for name in order:
        own = frozenset(oid for oid in needed[name] if home[oid] == name)
        size = sum(needed[name][oid] for oid in own)
        if not needed[name]:
            dead.append((name, packs[name].size))
            continue
        purged = any(oid in condemned and oid not in live for oid in packs[name].entries)
        saved = packs[name].size - (pack_size(size, len(own)) if own else 0)
        if purged or (size < totals[name] * HALF and saved > 0):
            elsewhere = {oid: home[oid] for oid in needed[name] if oid not in own}
            rewrites.append(Rewrite(name, packs[name].size, own, elsewhere, max(saved, 0)))
    return tuple(dead), tuple(rewrites)


def pack_size(entries: int, count: int) -> int:
    """The bytes on disk of a pack with so many bytes of so many objects, and of its idx."""
    files = (PACK_HEADER.size + entries + OID_SIZE, FANOUT_END + count * (OID_SIZE + 8) + 2 * OID_SIZE)
    return sum(-(-size // BLOCK) * BLOCK for size in files)


def held_by(facts: Facts, plan: GcPlan) -> tuple[tuple[str, int], ...]:
    """What the bytes that stay belong to."""
    reach = facts.reach
    gone = {id(root) for root in plan.trash}
    first = reach.closure(root for root in reach.roots if root.kind in (EXPERIMENT, TAG))
    trash = [root for root in reach.roots if root.kind == TRASHED and id(root) not in gone]
    others = [root for root in reach.roots if root.kind not in (EXPERIMENT, TAG, TRASHED)]
    second = reach.closure([*others, Root("extra", "", tuple(facts.extra))]) - first
    third = reach.closure(trash) - first - second
    rows = {
        kind: reach.held_bytes(nodes)
        for kind, nodes in (("experiments", first), ("worktrees", second), ("trash", third))
    }
    needed, leaving = (
        first | second | third,
        {name for name, _ in plan.packs} | {one.name for one in plan.rewrites},
    )
    staying = {name: pack for name, pack in facts.packs.items() if name not in leaving}
    rows["unused"] = sum(
        size for pack in staying.values() for oid, size in pack.entries.items() if oid not in needed
    )
    # What a pack has around its objects, idx and all, belongs to what it is there for.
    rows["experiments"] += sum(pack.size - sum(pack.entries.values()) for pack in staying.values())
    going = {path for path, _ in plan.loose}
    rows["unused"] += sum(
        size for oid, (path, size, _) in facts.loose.items() if oid not in needed and path not in going
    )
    if plan.kept:
        unneeded = sum(one.disk for node, one in reach.objects.items() if node not in needed)
        rows["unused"] += unneeded - sum(one.disk for _, one in plan.objects)
    return (*rows.items(), ("damaged", facts.damaged - plan.damaged))

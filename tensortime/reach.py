"""Which bytes a store's refs keep: what each experiment reaches, and what nobody but it reaches. Reads no data.

    refs, worktrees ──> roots ──┐
    one listing of all git objects ──> commits, trees, manifests ──> a graph ──> set arithmetic
    one walk over the sidecar ──┘

Nodes are raw ids: 20 bytes of a git object, 32 of a sidecar object's digest; a manifest that a commit has in its
`.tensortime/` is a node of its own (`m`, its shards `s`, and 20 bytes), so that a user's file with the same bytes
keeps nothing.

Reading costs O(objects + rows of the trees + lines of the manifests): one `git cat-file` over all objects (sizes and
types, no data), one over commits and trees, one over manifests, each parsed once however many experiments share it.
`exclusive` answers for all experiments at once and walks every edge at most twice; `closure` costs what is reached.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import NamedTuple

from tensortime import fsops
from tensortime.errors import GitFailed
from tensortime.formats import META, Digest, bytes_of, digest_of, text_of
from tensortime.history import EXPERIMENTS, PINS, TAGS, TRASH
from tensortime.monitor import SILENT, Monitor
from tensortime.packs import FOLDER, Kind, decode_tree, object_id
from tensortime.shadow import NO_OID, ObjectList, Shadow
from tensortime.sidecar import Sidecar
from tensortime.store import Store
from tensortime.worktrees import records

EXPERIMENT, TAG, TRASHED, PIN, WORKTREE, OTHER = "experiment", "tag", "trash", "pin", "worktree", "other"
"""Kinds of roots; `other`: a ref that a person made in a restored worktree, such as a branch or a stash."""

COMMIT_LINK = 0o160000
"""The mode of a submodule in a commit that a person made: its commit is not in this repository."""

MISSING = "it is missing"
UNNAMED = "it names nothing"
STAGED = "what is staged in this restored folder cannot be read"
HIDDEN = "this user may not read it"
"""What a gap may be; any other says how an object is unreadable."""

ATTEMPTS = 20
"""How often a worktree's record is read that changes while it is read."""

SHARED = -1
"""In place of a group's number: more than one reaches it."""

NOTHING: frozenset[bytes] = frozenset()
HASH = re.compile(r"[0-9a-f]{40}")
OBJECT_NAME = re.compile(r"[0-9a-f]{62}")
DIGEST = re.compile(rb'"digest"\s*:\s*"blake3:([0-9a-f]{64})"')
ANY_DIGEST = re.compile(rb'"digest"\s*:')
HEADER = re.compile(rb'\s*\{[^\n]*"format"\s*:\s*1\s*[,}]')


@dataclass(frozen=True, slots=True)
class Root:
    """Something that keeps bytes: a ref, or a restored worktree."""

    kind: str
    name: str
    """The experiment's, also of its tags and in the trash; of a worktree the folder of its record; else the ref's."""
    tips: tuple[bytes, ...]
    """Raw ids: one for a ref; for a worktree its HEAD, what a reset or merge left behind, and what is staged."""
    ref: str = ""
    """The full ref; empty for a worktree."""


class ObjectStat(NamedTuple):
    """An object of the sidecar, as its file is."""

    size: int
    disk: int
    """Bytes of its blocks: fewer than `size` where it has holes."""
    links: int
    """More than one: a file of the user is the same file, and removing this name frees nothing."""


class Gap(NamedTuple):
    """What is reached and cannot be read: what lies behind it is not known. `node`: of a broken ref its name."""

    node: bytes
    problem: str


@dataclass(frozen=True)
class Reach:
    """What all roots of a store reach. Pure: whatever is asked of it reads nothing."""

    roots: tuple[Root, ...]
    packed: Mapping[bytes, int]
    """Every git object of the store, also those that nothing reaches, with its bytes in its pack (or loose)."""
    objects: Mapping[bytes, ObjectStat]
    """Every object of the sidecar, also those that nothing reaches."""
    inner: Mapping[bytes, Set[bytes]] = field(repr=False)
    """Commits to parents, trees and manifests; trees to trees."""
    leaves: Mapping[bytes, Set[bytes]] = field(repr=False)
    """Trees to blobs, manifests to objects."""
    sizes: Mapping[bytes, int] = field(repr=False)
    """`packed`, and the blocks of `objects`."""
    live: Set[bytes] = field(repr=False)
    """All that some root reaches, whether it is there or not."""
    gaps: tuple[Gap, ...] = ()
    """While there are any, what nothing seems to reach may yet be needed: delete nothing."""

    def closure(self, roots: Iterable[Root]) -> set[bytes]:
        """All nodes that these roots reach."""
        return closure(self.inner, self.leaves, (tip for root in roots for tip in root.tips))

    def exclusive(self, groups: Sequence[Iterable[Root]]) -> list[set[bytes]]:
        """For each group of roots what nothing else reaches: no other group, and no root that is in none."""
        listed = [tuple(group) for group in groups]
        grouped = {id(root) for group in listed for root in group}
        others = self.closure(root for root in self.roots if id(root) not in grouped)
        owner: dict[bytes, int] = dict.fromkeys(others, SHARED)
        for number, group in enumerate(listed):
            self._claim(owner, number, [tip for root in group for tip in root.tips])
        found: list[set[bytes]] = [set() for _ in listed]
        for node, number in owner.items():
            if number != SHARED:
                found[number].add(node)
        return found

    def _claim(self, owner: dict[bytes, int], number: int, tips: Iterable[bytes]) -> None:
        """Note that a group reaches these nodes and all below; what another one has becomes shared.

        Below a shared node all is shared: nobody has to go there a third time.
        """
        pending = [(tip, number) for tip in tips]
        while pending:
            node, mark = pending.pop()
            known = owner.get(node)
            if known in (SHARED, mark):
                continue
            if known is not None:
                mark = SHARED
            owner[node] = mark
            for leaf in self.leaves.get(node, NOTHING):
                if owner.setdefault(leaf, mark) != mark:
                    owner[leaf] = SHARED
            pending += [(child, mark) for child in self.inner.get(node, NOTHING)]

    def held_bytes(self, nodes: Iterable[bytes]) -> int:
        """The bytes on disk of these nodes: git objects as they are packed, objects by their blocks."""
        return sum(map(self.sizes.get, nodes, repeat(0)))

    def held_by_each(self, groups: Iterable[Iterable[Root]]) -> list[int]:
        """For each group `held_bytes` of all that it reaches; between neighbours only what differs is walked."""
        counts: dict[bytes, int] = {}  # how often each node is named by what is reached
        results, total, before = [], 0, list[bytes]()
        for group in groups:
            tips = [tip for root in group for tip in root.tips]
            total += self._count(counts, tips, 1) + self._count(counts, before, -1)
            results.append(total)
            before = tips
        return results

    def _count(self, counts: dict[bytes, int], tips: Iterable[bytes], step: int) -> int:
        """Name these nodes once more, or once less; returns by how many bytes more is reached then."""
        pending, change = list(tips), 0
        while pending:
            node = pending.pop()
            known = counts.get(node, 0)
            counts[node] = known + step
            if known == 0 or known + step == 0:  # it is reached now and was not, or the other way round
                change += step * self.sizes.get(node, 0)
                pending += self.leaves.get(node, NOTHING)
                pending += self.inner.get(node, NOTHING)
        return change

    def freed_bytes(self, nodes: Iterable[bytes]) -> int:
        """As `held_bytes`, without objects that are a file of the user too: those blocks stay in use."""
        return self.held_bytes(node for node in nodes if node not in self.linked)

    @cached_property
    def linked(self) -> Set[bytes]:
        """Objects that are a file of the user too."""
        return {node for node, stored in self.objects.items() if is_linked(stored)}

    def unreached(self) -> set[bytes]:
        """What nothing reaches."""
        return (self.packed.keys() | self.objects.keys()) - self.live

    def missing_objects(self) -> set[Digest]:
        """Objects that some manifest names and the sidecar does not have."""
        return {digest_of(node) for node in self.live if len(node) == 32 and node not in self.objects}

    def reaching(self, nodes: Set[bytes]) -> dict[bytes, list[Root]]:
        """For each of these nodes the roots that reach it."""
        found: dict[bytes, list[Root]] = {node: [] for node in nodes}
        for root in self.roots:
            for node in self.closure([root]) & nodes:
                found[node].append(root)
        return found


def is_linked(stored: ObjectStat | None) -> bool:
    """Whether an object is another file too."""
    return stored is not None and stored.links > 1


def closure(
    inner: Mapping[bytes, Set[bytes]], leaves: Mapping[bytes, Set[bytes]], tips: Iterable[bytes]
) -> set[bytes]:
    """All nodes that can be reached from `tips`, these too."""
    seen = set(tips)
    pending, found = list(seen), set(seen)
    while pending:
        node = pending.pop()
        found |= leaves.get(node, NOTHING)
        fresh = inner.get(node, NOTHING) - seen
        seen |= fresh
        pending += fresh
    return found | seen


def read_reach(store: Store, monitor: Monitor = SILENT) -> Reach:
    """Read what a store's refs and worktrees reach. Refs first: what a backup adds meanwhile is more, never less."""
    shadow = store.shadow
    monitor.begin("count", 0, 0)
    roots, gaps = read_roots(store)
    listed = shadow.object_list()
    monitor.advance(len(listed.packed), 0)
    graph = Graph()
    read_containers(shadow, listed, graph, monitor)
    read_manifests(shadow, listed, graph)
    inner, leaves = graph.inner, graph.leaves
    live = closure(inner, leaves, (tip for root in roots for tip in root.tips))
    missing = [node for node in live if len(node) == 20 and node not in listed.packed]
    gaps += [Gap(node, MISSING) for node in sorted(missing)]
    graph.unreadable.update(dict.fromkeys(unread(roots, graph, listed, live), "it cannot be read"))
    gaps += [Gap(node[-20:], problem) for node, problem in sorted(graph.unreadable.items()) if node in live]
    objects = stored_objects(store.sidecar())
    sizes = {**listed.packed, **{node: one.disk for node, one in objects.items()}}
    return Reach(tuple(roots), listed.packed, objects, inner, leaves, sizes, live, tuple(gaps))


def read_roots(store: Store) -> tuple[list[Root], list[Gap]]:
    """All that keeps something, and the refs that name nothing."""
    listed = store.shadow.refs()
    roots = [root_of(ref.name, bytes.fromhex(ref.oid)) for ref in listed.refs]
    gaps = [Gap(bytes_of(name), UNNAMED) for name in listed.broken]
    gaps += [Gap(name, HIDDEN) for name in hidden_folders(store)]
    for admin in records(store):
        name = text_of(os.fsencode(os.path.basename(admin)))
        try:
            if not os.path.islink(admin):
                roots.append(Root(WORKTREE, name, settled_tips(store.shadow, admin)))
        except GitFailed:
            gaps.append(Gap(bytes_of(name), STAGED))
        except (FileNotFoundError, NotADirectoryError):
            continue  # it goes away at this moment, or is no record
        except OSError:
            gaps.append(Gap(bytes_of(name), HIDDEN))
    return roots, gaps


def hidden_folders(store: Store) -> list[bytes]:
    """The folders of refs that cannot be listed, as another user's: git passes over them and says nothing."""
    found: list[bytes] = []
    top = os.fsencode(store.path(".shadow"))

    def note(problem: OSError) -> None:
        if not isinstance(problem, FileNotFoundError):
            found.append(os.path.relpath(os.fsencode(problem.filename), top))

    for _ in os.walk(os.path.join(top, b"refs"), onerror=note):
        pass
    return found


def root_of(ref: str, tip: bytes) -> Root:
    """The root that a ref is."""
    if ref.startswith(EXPERIMENTS):
        return Root(EXPERIMENT, ref.removeprefix(EXPERIMENTS), (tip,), ref)
    if ref.startswith(TAGS) and ref.count("/") > 2:
        return Root(TAG, ref.removeprefix(TAGS).rpartition("/")[0], (tip,), ref)
    if ref.startswith(TRASH):
        # `refs/trash/<time>/<name>`, and for its tags `refs/trash/<time>/@<name>/<tag>`
        return Root(TRASHED, "/".join(ref.split("/")[3:4]).removeprefix("@"), (tip,), ref)
    return Root(PIN if ref.startswith(PINS) else OTHER, ref, (tip,), ref)


def settled_tips(shadow: Shadow, admin: str) -> tuple[bytes, ...]:
    """What a worktree's record names; nothing for one that goes away meanwhile, or gets its name: a restore ends."""
    for _ in range(ATTEMPTS):
        try:
            return tuple(dict.fromkeys(worktree_tips(shadow, admin)))
        except (FileNotFoundError, GitFailed):
            if not os.path.isdir(admin):
                return ()
            time.sleep(0.02)
    return tuple(dict.fromkeys(worktree_tips(shadow, admin)))


def worktree_tips(shadow: Shadow, admin: str) -> Iterator[bytes]:
    """What a worktree's record names: HEAD, ORIG_HEAD and the like, refs of its own, and what is staged in it."""
    files = [os.path.join(admin, name) for name in sorted(os.listdir(admin)) if name.endswith("HEAD")]
    for folder, _, names in os.walk(os.path.join(admin, "refs")):
        files += [os.path.join(folder, name) for name in names]
    for file in files:
        oid = os.fsdecode(fsops.read_file(file, 1 << 16)[:40])
        # A restore that has just begun, or was killed then, names nothing yet.
        if HASH.fullmatch(oid) and oid != NO_OID:
            yield bytes.fromhex(oid)
    if os.path.exists(os.path.join(admin, "index")):
        done = shadow.run("ls-files", "-s", "-z", git_dir=admin, work_tree=admin)
        for row in done.stdout.split(b"\0"):
            mode, _, rest = row.partition(b" ")
            if mode and int(mode, 8) != COMMIT_LINK:
                yield bytes.fromhex(rest[:40].decode())


@dataclass
class Graph:
    """What is being read."""

    inner: dict[bytes, Set[bytes]] = field(default_factory=dict)
    leaves: dict[bytes, Set[bytes]] = field(default_factory=dict)
    metas: dict[bytes, bytes] = field(default_factory=dict)
    """Trees with a `.tensortime` to that."""
    manifests: dict[bytes, Set[bytes]] = field(default_factory=dict)
    """Trees with a `manifest` or `manifest.d` to these."""
    unreadable: dict[bytes, str] = field(default_factory=dict)


def unread(roots: Iterable[Root], graph: Graph, listed: ObjectList, live: Set[bytes]) -> Iterator[bytes]:
    """What should lead further and does not: what git could not read, or takes for something else than it is."""
    for root in roots:
        if root.kind in (EXPERIMENT, TAG, TRASHED):
            yield from (tip for tip in root.tips if tip in listed.packed and tip not in graph.inner)
    for node in live:
        for child in graph.inner.get(node, NOTHING):
            if child not in graph.inner and child not in graph.leaves and child[-20:] in listed.packed:
                yield child


def read_containers(shadow: Shadow, listed: ObjectList, graph: Graph, monitor: Monitor) -> None:
    """Read all commits and trees of the store, reached or not: a walk would need a process for each generation."""
    tops: dict[bytes, bytes] = {}
    trees = set(listed.trees)
    for node, raw in shadow.contents(listed.packed, (*listed.trees, *listed.commits)):
        kind = Kind.TREE if node in trees else Kind.COMMIT
        try:
            if object_id(kind, raw) != node and not raw.startswith(b"object "):  # an annotated tag is neither
                raise ValueError("its bytes have changed")
            if kind is Kind.TREE:
                read_tree(graph, node, raw)
            elif (top := read_commit(graph, node, raw)) is not None:
                tops[node] = top
        except ValueError as problem:
            graph.unreadable[node] = str(problem)
        monitor.advance(0, 0)
    for commit, top in tops.items():
        found = graph.manifests.get(graph.metas.get(top, b""), NOTHING)
        shards = {b"s" + leaf for tree in found for leaf in graph.leaves.get(tree, NOTHING)}
        graph.inner[commit] = (
            graph.inner[commit] | {b"m" + node for node in found - graph.leaves.keys()} | shards
        )


def read_commit(graph: Graph, node: bytes, raw: bytes) -> bytes | None:
    """Note the ids in the head of a commit (or annotated tag); returns its tree."""
    head = raw.partition(b"\n\n")[0].split(b"\n")
    named = [line.split(b" ", 1) for line in head if line.startswith((b"tree ", b"parent ", b"object "))]
    graph.inner[node] = {bytes.fromhex(oid.decode("ascii")) for _, oid in named}
    return next((bytes.fromhex(oid.decode()) for key, oid in named if key == b"tree"), None)


def read_tree(graph: Graph, node: bytes, raw: bytes) -> None:
    """Note the rows of one tree."""
    inner: set[bytes] = set()
    leaves: set[bytes] = set()
    manifests: set[bytes] = set()
    for mode, name, oid in decode_tree(raw):
        if mode == FOLDER:
            inner.add(oid)
        elif mode != COMMIT_LINK:
            leaves.add(oid)
        if name == META:
            graph.metas[node] = oid
        elif name in (b"manifest", b"manifest.d"):
            manifests.add(oid)
    graph.inner[node], graph.leaves[node] = inner, leaves
    if manifests:
        graph.manifests[node] = manifests


def read_manifests(shadow: Shadow, listed: ObjectList, graph: Graph) -> None:
    """Read each manifest, and each shard of one, once."""
    wanted = {node for children in graph.inner.values() for node in children if len(node) == 21}
    for oid, raw in shadow.contents(listed.packed, sorted({node[1:] for node in wanted})):
        digests = DIGEST.findall(raw)
        leaves = {bytes.fromhex(digest.decode()) for digest in digests}
        understood = len(digests) == len(ANY_DIGEST.findall(raw))
        for node in wanted & {b"m" + oid, b"s" + oid}:
            graph.leaves[node] = leaves
            # Only the first file of a manifest says its format; no line may name its bytes in a way we do not know.
            if (
                not understood
                or (node.startswith(b"m") and not HEADER.match(raw))
                or object_id(Kind.BLOB, raw) != oid
            ):
                graph.unreadable[node] = "a manifest of a later version, or a damaged one"


def stored_objects(sidecar: Sidecar) -> dict[bytes, ObjectStat]:
    """Every object of the sidecar by its raw digest; what is no object's file is passed over."""
    found: dict[bytes, ObjectStat] = {}
    top = os.path.join(sidecar.folder, "blake3")
    for folder in sorted(os.listdir(top)) if os.path.isdir(top) else ():
        path = os.path.join(top, folder)
        if not re.fullmatch(r"[0-9a-f]{2}", folder) or os.path.islink(path) or not os.path.isdir(path):
            continue
        with os.scandir(path) as entries:
            for entry in entries:
                if OBJECT_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    info = entry.stat(follow_symlinks=False)
                    stat = ObjectStat(info.st_size, info.st_blocks * 512, info.st_nlink)
                    found[bytes.fromhex(folder + entry.name)] = stat
    return found

"""What a store's experiments cost: what each refers to, what each keeps alone, and where the bytes are. Reads no data."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tensortime import fsops
from tensortime.errors import Damaged, UnsupportedFormat
from tensortime.experiments import Experiment
from tensortime.formats import META, raw_of, text_of
from tensortime.inventory import (
    ExperimentUsage,
    PathUsage,
    Restored,
    Totals,
    UsageReport,
)
from tensortime.manifest import decode_manifest
from tensortime.monitor import SILENT, Monitor
from tensortime.packs import FOLDER, TreeEntry, decode_tree
from tensortime.reach import (
    COMMIT_LINK,
    EXPERIMENT,
    OTHER,
    PIN,
    TAG,
    TRASHED,
    WORKTREE,
    Reach,
    Root,
    read_reach,
)
from tensortime.shadow import Shadow
from tensortime.store import Store
from tensortime.trash import restored_folders

HEADER = b'{"format": 1}\n'


def measure(
    store: Store,
    shown: Sequence[Experiment],
    *,
    together: bool = False,
    paths: bool = False,
    monitor: Monitor = SILENT,
) -> UsageReport:
    """What these experiments cost; `together`: also what would be freed if all of them went; `paths`: by path too."""
    folders = list(restored_folders(store))
    reach = read_reach(store, monitor)
    groups = roots_by_name(reach)
    *alone, trash, others = reach.exclusive([*groups.values(), trash_roots(reach), other_roots(reach)])
    freed = dict(zip(groups, map(reach.freed_bytes, alone), strict=True))
    held = held_by_folders(reach, groups, folders)
    own = ([root for root in groups.get(one.name, []) if root.kind == EXPERIMENT] for one in shown)
    rows = [
        usage_of(one, size, freed.get(one.name, 0), held)
        for one, size in zip(shown, reach.held_by_each(own), strict=True)
    ]
    rows.sort(key=lambda row: (-row.freed, -row.bytes, -row.time_ns))
    return UsageReport(
        experiments=tuple(rows),
        together=freed_by(reach, shown) if together else None,
        totals=totals_of(store, reach, alone, trash, others),
        store=store.folder,
        worktrees=tuple((one, disk_bytes(one.path)) for _, one in folders),
        paths=path_usage(store.shadow, reach, shown) if paths else None,
        missing=len(reach.gaps) + len(reach.missing_objects()),
    )


def roots_by_name(reach: Reach) -> dict[str, list[Root]]:
    """Each experiment with its tags: they go into the trash together."""
    groups: dict[str, list[Root]] = {root.name: [root] for root in reach.roots if root.kind == EXPERIMENT}
    for root in reach.roots:
        if root.kind == TAG and root.name in groups:
            groups[root.name].append(root)
    return groups


def held_by_folders(
    reach: Reach, groups: Mapping[str, list[Root]], folders: Iterable[tuple[str, Restored]]
) -> dict[str, int]:
    """What would be freed if an experiment went together with the folders that it was restored into."""
    came_from = {text_of(os.fsencode(os.path.basename(admin))): one.experiment for admin, one in folders}
    wider: dict[str, list[Root]] = {}
    for root in reach.roots:
        name = came_from.get(root.name, "") if root.kind == WORKTREE else ""
        if name in groups:
            wider.setdefault(name, list(groups[name])).append(root)
    return {name: reach.freed_bytes(reach.exclusive([roots])[0]) for name, roots in wider.items()}


def trash_roots(reach: Reach) -> list[Root]:
    """All that lies in the trash."""
    return [root for root in reach.roots if root.kind == TRASHED]


def other_roots(reach: Reach) -> list[Root]:
    """What no verb of ours removes: records of restored folders, pins, a person's own branches."""
    return [root for root in reach.roots if root.kind in (WORKTREE, PIN, OTHER)]


def usage_of(one: Experiment, size: int, freed: int, held: Mapping[str, int]) -> ExperimentUsage:
    """The row of one experiment; `freed` by it alone, `held`: by it and its restored folders."""
    return ExperimentUsage(one.name, one.time_ns, one.backups, size, freed, held.get(one.name, freed) - freed)


def freed_by(reach: Reach, experiments: Iterable[Experiment], *, with_trash: bool = False) -> int:
    """What would be freed if all of these went; `with_trash`: together with what the trash holds already."""
    groups = roots_by_name(reach)
    roots = [root for one in experiments for root in groups.get(one.name, [])]
    (nodes,) = reach.exclusive([[*roots, *(trash_roots(reach) if with_trash else ())]])
    return reach.freed_bytes(nodes)


def freeable(store: Store, also: Iterable[Experiment], monitor: Monitor) -> int:
    """What emptying the trash would free, with these experiments in it too."""
    return freed_by(read_reach(store, monitor), also, with_trash=True)


def totals_of(
    store: Store, reach: Reach, alone: Sequence[set[bytes]], trash: set[bytes], others: set[bytes]
) -> Totals:
    """Where the bytes of the store are; `alone`, `trash`, `others`: what nothing but one experiment, and these, keep."""
    objects = reach.objects.values()
    counted = sum(map(reach.held_bytes, (*alone, trash, others)))
    packs = store.path(".shadow", "objects")
    pack_folder = os.path.join(packs, "pack")
    return Totals(
        objects=sum(one.disk for one in objects),
        object_count=len(objects),
        packs=disk_bytes(packs),
        pack_count=sum(name.endswith(".pack") for name in os.listdir(pack_folder)),
        linked=sum(one.disk for one in objects if one.links > 1),
        shared=reach.held_bytes(reach.live) - counted,
        trash=reach.freed_bytes(trash),
        trashed=sum(1 for root in trash_roots(reach) if "/@" not in root.ref),
        unreached=reach.freed_bytes(reach.unreached()),
        others=reach.freed_bytes(others),
        cache=disk_bytes(store.path(".cache")),
        staging=disk_bytes(store.path(".tmp")),
        free=fsops.free_space(store.folder)[0],
        records=disk_bytes(store.path(".records")),
    )


def disk_bytes(folder: str) -> int:
    """The blocks of all files below a folder, no link followed; what goes away meanwhile counts nothing."""
    used = 0
    for top, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            try:
                used += os.lstat(os.path.join(top, name)).st_blocks * 512
            except OSError:
                continue
    return used


def path_usage(shadow: Shadow, reach: Reach, shown: Sequence[Experiment]) -> tuple[PathUsage, ...]:
    """The paths of these experiments' backups, those first whose contents over time take most."""
    groups = roots_by_name(reach)
    nodes = reach.closure(root for one in shown for root in groups.get(one.name, []))
    contents: dict[bytes, set[bytes]] = {}
    for path, node in (*small_paths(shadow, reach, nodes), *large_paths(shadow, reach, nodes)):
        contents.setdefault(path, set()).add(node)
    rows = [PathUsage(text_of(path), reach.held_bytes(of), len(of)) for path, of in contents.items()]
    return tuple(sorted(rows, key=lambda row: (-row.bytes, row.path)))


def small_paths(shadow: Shadow, reach: Reach, nodes: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Every path in the trees of these commits with each blob it had; a folder that did not change is walked once."""
    trees = [node for node in nodes if node in reach.leaves and len(node) == 20]
    rows: dict[bytes, list[TreeEntry]] = {}
    for oid, raw in shadow.contents(reach.packed, trees):
        rows[oid] = decode_tree(raw)
    tops = {child for node in nodes - set(trees) for child in reach.inner.get(node, ()) if child in rows}
    pending = [(b"", tree) for tree in tops]
    seen = set(pending)
    while pending:
        folder, tree = pending.pop()
        for mode, name, oid in rows.get(tree, ()):
            path = folder + name
            if path == META:
                continue
            if mode != FOLDER:
                if mode != COMMIT_LINK:
                    yield path, oid
            elif (path + b"/", oid) not in seen:
                seen.add((path + b"/", oid))
                pending.append((path + b"/", oid))


def large_paths(shadow: Shadow, reach: Reach, nodes: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Every path in the manifests of these commits with each object it had."""
    shards = {node[1:] for node in nodes if len(node) == 21 and node.startswith(b"s")}
    blobs = {node[1:] for node in nodes if len(node) == 21}
    for oid, raw in shadow.contents(reach.packed, sorted(blobs)):
        files = {b"manifest": HEADER, b"manifest.d/x": raw} if oid in shards else {b"manifest": raw}
        try:
            manifest = decode_manifest(files)
        except (Damaged, UnsupportedFormat):
            continue
        for entry in manifest.large():
            if entry.digest is not None:
                yield entry.path, raw_of(entry.digest)


def worktrees_of(folders: Iterable[Restored], names: Iterable[str]) -> tuple[Restored, ...]:
    """The restored folders of these experiments."""
    wanted = set(names)
    return tuple(one for one in folders if one.experiment in wanted)

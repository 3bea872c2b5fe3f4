"""The history in a file that somebody else made: every object by the id of its bytes, every backup as a restore reads it.

Refused where anything is not as TensorTime would have written it, or is too much to keep in memory.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tensortime import history
from tensortime.bundle import HISTORY, BundleReader
from tensortime.errors import Damaged, NoSpace
from tensortime.formats import META, Oid, bytes_of, parse_path, text_of
from tensortime.manifest import ManifestEntry
from tensortime.monitor import Monitor
from tensortime.packs import (
    Kind,
    PackWriter,
    decode_tree,
    encode_commit,
    encode_tree,
    object_id,
    pack_object,
)
from tensortime.plans import check_paths
from tensortime.shadow import TreeItem, parse_commit
from tensortime.sidecar import NoRoom
from tensortime.trailers import BackupFacts, decode_message
from tensortime.trees import MODE_FOLDER
from tensortime.unpacking import unpack

LARGEST_SMALL = 256 << 20
"""Bytes of one object of the history: it is taken into memory."""

LARGEST_COMMIT = 64 << 20
"""Bytes of one commit, with note, params and metrics: every list of experiments reads it."""

LARGEST_KEPT = 1 << 30
"""Bytes of all commits, folders and manifests of a history, which are kept in memory until it is checked."""

MOST_PATHS = 5_000_000
"""Of one backup: folders that hold each other twice over make more paths than there are bytes."""

LONGEST_HISTORY = 100_000
"""Backups of one experiment."""

LATEST_SECONDS = 366 * 86400
"""A backup that says it was made later than this from now would come first in every list for ever."""


@dataclass
class Unpacked:
    """What a history.pack held."""

    commits: dict[bytes, bytes] = field(default_factory=dict)
    trees: dict[bytes, bytes] = field(default_factory=dict)
    sizes: dict[bytes, int] = field(default_factory=dict)
    """Of small files."""
    meta: dict[bytes, bytes] = field(default_factory=dict)
    """The small files of `.tensortime/`."""
    kept: int = 0
    """Bytes in memory."""

    def keep(self, kept: dict[bytes, bytes], oid: bytes, data: bytes) -> None:
        """Note an object's bytes; Refused where all of them together are too many."""
        self.kept += len(data)
        if self.kept > LARGEST_KEPT:
            raise Refused("its history is too large")
        kept[oid] = data


@dataclass(frozen=True)
class Link:
    """One commit of the history."""

    oid: bytes
    tree: bytes
    facts: BackupFacts
    large: Sequence[ManifestEntry]


class Refused(Exception):
    """What a file holds cannot be taken in; the reason in a few words."""


def read_pack(bundle: BundleReader, writer: PackWriter, room: int, monitor: Monitor) -> Unpacked:
    """Every object of the history into a pack of ours: by the id of its bytes, whatever the file calls it.

    NoSpace once it takes more than `room` bytes: a small file may hold a pack that inflates to any size.
    """
    found, written, done = Unpacked(), 0, 0
    meta: set[bytes] = set()
    with bundle.member(HISTORY) as source:
        order = Kind.COMMIT
        for kind, data in unpack(source, LARGEST_SMALL):
            if kind < order:
                raise Refused("its objects come in another order than export writes them")
            if kind is Kind.COMMIT and len(data) > LARGEST_COMMIT:
                raise Refused("it has a backup with too long a note, or too many params")
            if kind is Kind.BLOB and order is not Kind.BLOB:
                meta = meta_blobs(found)
            order = kind
            oid = object_id(kind, data)
            if kind is Kind.BLOB:
                found.sizes[oid] = len(data)
                if oid in meta:
                    found.keep(found.meta, oid, data)
            else:
                found.keep(found.commits if kind is Kind.COMMIT else found.trees, oid, data)
            packed = pack_object(kind, data, oid)
            written += sum(map(len, packed.entry))
            if written > room:
                raise no_space(HISTORY, NoRoom(written, room))
            writer.add(packed)
            monitor.advance(0, source.tell() - done)
            done = source.tell()
    monitor.advance(1, 0)
    return found


def no_space(name: bytes, problem: NoRoom) -> NoSpace:
    """What a person is told of a member that does not fit."""
    return NoSpace(
        "no room for {path}, {needed:,} bytes are needed and {free:,} are free",
        path=text_of(name),
        needed=problem.size,
        free=problem.free,
        hint="tensortime du and gc show and free what backups take",
    )


def meta_blobs(found: Unpacked) -> set[bytes]:
    """The ids of the files below `.tensortime/` of every backup."""
    blobs: set[bytes] = set()
    for data in found.commits.values():
        rows = {row.name: row for row in decode_tree(tree_of(found, parse_commit(data)[0].get("tree", "")))}
        if META in rows:
            blobs |= {
                item.oid for item in items_below(found, rows[META].oid, META) if item.mode != MODE_FOLDER
            }
    return blobs


def tree_of(found: Unpacked, name: str | bytes) -> bytes:
    """A tree's bytes."""
    oid = bytes.fromhex(name) if isinstance(name, str) else name
    if oid not in found.trees:
        raise Refused("it lacks a folder of its history")
    return found.trees[oid]


def items_below(found: Unpacked, tree: bytes, top: bytes = b"") -> list[TreeItem]:
    """All paths below a folder, folders included, each checked; sizes where they are known."""
    items: list[TreeItem] = []
    pending = [(tree, top)]
    while pending:
        oid, folder = pending.pop()
        data = tree_of(found, oid)
        rows = decode_tree(data)
        if encode_tree(rows) != data:
            raise Refused("it holds a folder that git would not have written")
        for row in rows:
            path = parse_path(folder + b"/" + row.name if folder else row.name)
            items.append(TreeItem(row.mode, row.oid, found.sizes.get(row.oid, 0), path))
            if len(items) > MOST_PATHS:
                raise Refused("it holds too many paths")
            if row.mode == MODE_FOLDER:
                pending.append((row.oid, path))
    return items


def check_history(found: Unpacked, tip: Oid) -> list[Link]:
    """The backups, newest first, each read as a restore reads it; Refused unless they are all there and nothing else."""
    chain: list[Link] = []
    used: set[bytes] = set()
    oid: bytes | None = bytes.fromhex(tip)
    while oid is not None:
        if oid not in found.commits or len(chain) >= LONGEST_HISTORY:
            raise Refused("it lacks a backup of its history")
        tree, parent, text = read_commit(found.commits[oid])
        link = read_link(found, oid, tree, text, used)
        if chain and link.facts.number > chain[-1].facts.number:
            raise Refused("its backups are in no order")
        chain.append(link)
        oid = parent
    if len(chain) != len(found.commits) or used != found.trees.keys() | found.sizes.keys():
        raise Refused("it holds what no backup of it needs")
    return chain


def read_commit(data: bytes) -> tuple[bytes, bytes | None, str]:
    """The tree, the parent and the message of a commit; Refused for one that we would have written in another way: git,
    which has to read it later, is not as forgiving as we are."""
    headers, text = parse_commit(data)
    tree = bytes.fromhex(headers.get("tree", ""))
    parent = bytes.fromhex(headers["parent"]) if "parent" in headers else None
    seconds = int(headers.get("committer", "").rpartition(" +")[0].rpartition(" ")[2])
    written = encode_commit(tree, [] if parent is None else [parent], seconds, bytes_of(text))
    if written != data:
        raise Refused("it holds a backup that TensorTime would not have written")
    return tree, parent, text


def read_link(found: Unpacked, oid: bytes, tree: bytes, text: str, used: set[bytes]) -> Link:
    """One backup; `used` grows by all that it needs."""
    facts = decode_message(text)
    if facts.number < 1 or facts.time_ns > time.time_ns() + LATEST_SECONDS * 1_000_000_000:
        raise Refused("it has a backup whose number or time is impossible")
    items = items_below(found, tree)
    used |= {tree, *(item.oid for item in items)}
    files = {item.oid for item in items if item.mode != MODE_FOLDER}
    if not files <= found.sizes.keys():
        raise Refused("it lacks a small file of its history")
    prefix = META + b"/"
    meta = {
        item.path.removeprefix(prefix): found.meta[item.oid]
        for item in items
        if item.path.startswith(prefix) and item.mode != MODE_FOLDER
    }
    try:
        manifest = history.manifest_of(meta)
        check_paths(items, manifest)
    except Damaged as problem:
        raise Refused(str(problem)) from problem
    return Link(oid, tree, facts, tuple(manifest.large()))

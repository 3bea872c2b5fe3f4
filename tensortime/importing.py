"""One import: an experiment out of a file that somebody else may have made.

    history.pack ──> every object by the id of its bytes ──> every backup as a restore would read it ──┐
    project/, objects/ ──> large files, each hashed, at most as long as its manifest says ──> sidecar ─┴──> ref

Nothing in the file decides where anything is written: small files arrive as git objects, large ones under their
digest. What is not right is refused, and nothing is published then.
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO

from blake3 import blake3

from tensortime import fsops, history
from tensortime.beginning import folders_in
from tensortime.bundle import FILES, HEADER, HISTORY, OBJECTS, BundleReader
from tensortime.checkout import check_paths
from tensortime.editing import tag_name, tag_ref
from tensortime.errors import (
    BadBundle,
    Damaged,
    NoSpace,
    StoreBusy,
    TargetExists,
    TensorTimeError,
    UnsupportedFormat,
)
from tensortime.formats import META, Digest, Oid, RelPath, parse_oid, parse_path, text_of
from tensortime.manifest import ManifestEntry
from tensortime.monitor import Monitor
from tensortime.names import ExperimentName, free_name, problem_of
from tensortime.packreader import PackDamaged
from tensortime.packs import Kind, PackWriter, decode_tree, encode_commit, encode_tree, object_id, pack_object
from tensortime.project import Place
from tensortime.publication import ATTEMPTS, sync_ref
from tensortime.reports import ImportReport
from tensortime.shadow import TreeItem, parse_commit
from tensortime.sidecar import OBJECT_MODE, NoRoom, Room, Sidecar
from tensortime.snapshot import space_left
from tensortime.store import Store
from tensortime.trailers import BackupFacts, decode_message, encode_message
from tensortime.trees import MODE_FOLDER
from tensortime.unpacking import unpack

FORMAT = 1
LONGEST_HEADER = 64 << 20
LARGEST_SMALL = 256 << 20
"""Bytes of one object of the history: it is taken into memory."""

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


def import_file(
    place: Place, store: Store, file: str, name: ExperimentName | None, monitor: Monitor
) -> ImportReport:
    """Take in an experiment; `name`: another name for it. BadBundle, TargetExists, NoSpace; nothing is published then."""
    started = time.monotonic()
    with BundleReader(file) as bundle, store.in_use(), store.staging() as staging:
        try:
            header = read_header(bundle)
            wanted = name or name_in(header)
            tip = parse_oid(str(header.get("commit")))
            refuse_known(store, tip, file)
            monitor.begin("import", 0, os.stat(file).st_size)
            writer = PackWriter(store.path(".shadow", "objects", "pack"), staging, fsync=fsops.sync_file)
            with writer:
                unpacked = read_pack(bundle, writer)
                chain = check_history(unpacked, tip)
                sidecar = store.sidecar(staging)
                large = wanted_objects(chain)
                brought = take_objects(bundle, sidecar, large, space_left(store, writer.bytes, None), monitor)
                facts = replace(
                    chain[0].facts,
                    project=text_of(os.fsencode(place.project)),
                    edited_ns=time.time_ns(),
                    unknown=(*chain[0].facts.unknown, ("Imported-From", json.dumps(os.path.basename(file)))),
                )
                commit = edit(writer, chain[0], facts)
                sidecar.sync(large)
                writer.finish()
        except (Refused, PackDamaged, ValueError, RecursionError) as problem:
            raise BadBundle(
                "{file} cannot be imported: {problem}",
                file=file,
                problem=str(problem)[:300],
                hint="nothing was imported; ask for the file again, from somebody you trust",
            ) from problem
        taken = publish(store, wanted, commit, header)
    return ImportReport(
        taken,
        wanted,
        commit,
        facts.note,
        facts.time_ns,
        facts.number,
        facts.files,
        facts.size,
        writer.bytes + brought,
        time.monotonic() - started,
    )


def read_header(bundle: BundleReader) -> Mapping[str, object]:
    """`export.json`. UnsupportedFormat where a later version wrote it."""
    with bundle.member(HEADER) as source:
        found = json.loads(source.read(LONGEST_HEADER))
    if not isinstance(found, dict):
        raise Refused("its export.json is no object")
    if found.get("format") != FORMAT:
        raise UnsupportedFormat(
            "the file has format {found}, this version reads format {known}",
            found=str(found.get("format"))[:20],
            known=FORMAT,
            hint="pip install -U tensortime",
        )
    return found


def name_in(header: Mapping[str, object]) -> ExperimentName:
    """The experiment's name."""
    text = header.get("experiment")
    if not isinstance(text, str) or problem_of(text) is not None:
        raise Refused(f"its experiment has an impossible name: {str(text)[:80]!r}")
    return ExperimentName(text)


def refuse_known(store: Store, tip: Oid, file: str) -> None:
    """TargetExists where this very experiment is here already."""
    if not dict(store.shadow.read_objects([tip], missing_ok=True)):
        return
    for one in history.read_catalog(store.shadow).experiments:
        if tip in store.shadow.lineage(one.commit):
            raise TargetExists(
                "{file} is here already: {name}",
                file=file,
                name=one.name,
                hint="tensortime show tells all about it",
            )


def read_pack(bundle: BundleReader, writer: PackWriter) -> Unpacked:
    """Every object of the history into a pack of ours: by the id of its bytes, whatever the file calls it."""
    found = Unpacked()
    meta: set[bytes] = set()
    with bundle.member(HISTORY) as source:
        order = Kind.COMMIT
        for kind, data in unpack(source, LARGEST_SMALL):
            if kind < order:
                raise Refused("its objects come in another order than export writes them")
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
            writer.add(pack_object(kind, data, oid))
    return found


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
        headers, text = parse_commit(found.commits[oid])
        parents = [
            line
            for line in found.commits[oid].partition(b"\n\n")[0].split(b"\n")
            if line.startswith(b"parent ")
        ]
        link = read_link(found, oid, headers.get("tree", ""), text, used)
        if len(parents) > 1 or (chain and link.facts.number > chain[-1].facts.number):
            raise Refused("its backups are in no order")
        chain.append(link)
        oid = bytes.fromhex(headers["parent"]) if parents else None
    if len(chain) != len(found.commits) or used != found.trees.keys() | found.sizes.keys():
        raise Refused("it holds what no backup of it needs")
    return chain


def read_link(found: Unpacked, oid: bytes, tree: str, text: str, used: set[bytes]) -> Link:
    """One backup; `used` grows by all that it needs."""
    facts = decode_message(text)
    if facts.number < 1 or facts.time_ns > time.time_ns() + LATEST_SECONDS * 1_000_000_000:
        raise Refused("it has a backup whose number or time is impossible")
    items = items_below(found, bytes.fromhex(tree))
    used |= {bytes.fromhex(tree), *(item.oid for item in items)}
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
    return Link(oid, bytes.fromhex(tree), facts, tuple(manifest.large()))


def wanted_objects(chain: Sequence[Link]) -> dict[Digest, tuple[int, list[RelPath]]]:
    """The large files of all backups: their sizes, and the paths of the newest backup where their bytes may lie."""
    found: dict[Digest, tuple[int, list[RelPath]]] = {}
    for number, link in enumerate(chain):
        for entry in link.large:
            if entry.digest is None or entry.size is None:
                continue
            size, paths = found.setdefault(entry.digest, (entry.size, []))
            if size != entry.size:
                raise Refused("its manifests do not agree on the size of an object")
            if number == 0:
                paths.append(entry.path)
    return found


def take_objects(
    bundle: BundleReader,
    sidecar: Sidecar,
    large: Mapping[Digest, tuple[int, list[RelPath]]],
    room: Room,
    monitor: Monitor,
) -> int:
    """Bring in the large files that are not here yet; returns their bytes. Refused where one is not what it should be:
    then none is kept."""
    staged: dict[Digest, str] = {}
    for digest, (size, paths) in large.items():
        if sidecar.holds(digest, size):
            continue
        names = [OBJECTS + digest.removeprefix("blake3:").encode(), *(FILES + path for path in paths)]
        name = next((name for name in names if name in bundle), None)
        if name is None:
            raise Refused(f"it lacks the bytes of {text_of(paths[0]) if paths else digest}")
        try:
            room.take(size)
        except NoRoom as problem:
            raise NoSpace(
                "no room for {path}, {needed:,} bytes are needed and {free:,} are free",
                path=text_of(name),
                needed=problem.size,
                free=problem.free,
                hint="tensortime du and gc show and free what backups take",
            ) from problem
        staged[digest] = os.path.join(sidecar.staging, f"import-{len(staged)}")
        with bundle.member(name) as source:
            take_object(source, staged[digest], name, digest, size, monitor)
    for digest, path in staged.items():
        sidecar.keep(path, digest)
    return sum(large[digest][0] for digest in staged)


def take_object(
    source: IO[bytes], path: str, name: bytes, digest: Digest, size: int, monitor: Monitor
) -> None:
    """One large file into a new file: never more bytes than its manifest says, Refused where these are others."""
    hasher, done = blake3(), 0
    fd = fsops.create_file(path, 0o600)
    try:
        while block := source.read(min(1 << 20, size - done + 1)):
            if done + len(block) > size:
                raise Refused(f"{text_of(name)} is longer than its manifest says")
            fsops.write_all(fd, block, done)
            hasher.update(block)
            done += len(block)
            monitor.advance(0, len(block))
        if done != size or "blake3:" + hasher.hexdigest() != digest:
            raise Refused(f"{text_of(name)} holds other bytes than its manifest says")
        os.fchmod(fd, OBJECT_MODE)
        fsops.sync_file(fd)
    finally:
        os.close(fd)
    monitor.advance(1, 0)


def edit(writer: PackWriter, tip: Link, facts: BackupFacts) -> Oid:
    """A commit on top that says to which project it belongs now; the history below stays as it was."""
    data = encode_commit(tip.tree, [tip.oid], facts.edited_ns // 1_000_000_000, encode_message(facts))
    writer.add(pack_object(Kind.COMMIT, data))
    return Oid(object_id(Kind.COMMIT, data).hex())


def publish(
    store: Store, wanted: ExperimentName, commit: Oid, header: Mapping[str, object]
) -> ExperimentName:
    """Let a free name point at the commit, and give it its tags."""
    for _ in range(ATTEMPTS):
        catalog = history.read_catalog(store.shadow)
        name = free_name(wanted, catalog.taken_names() | folders_in(store))
        ref = history.experiment_ref(name)
        if store.shadow.create_ref(ref, commit):
            sync_ref(store, ref)
            break
    else:
        raise StoreBusy("other backups of {name} keep coming in between", name=wanted, hint="try again")
    give_tags(store, name, commit, header.get("tags"))
    return name


def give_tags(store: Store, name: ExperimentName, commit: Oid, tags: object) -> None:
    """The tags that the experiment had; what can be none is left out."""
    experiment = history.read_catalog(store.shadow).find(name)
    if experiment is None or not isinstance(tags, list):
        return
    for tag in tags:
        with contextlib.suppress(TensorTimeError):
            ref = tag_ref(experiment, tag_name(str(tag)))
            store.shadow.set_ref(ref, commit)
            sync_ref(store, ref)

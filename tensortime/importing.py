"""One import: an experiment out of a file that somebody else may have made.

    history.pack ──> every object by the id of its bytes ──> every backup as a restore would read it ──┐
    project/, objects/ ──> large files, each hashed, at most as long as its manifest says ──> sidecar ─┴──> ref

Nothing in the file decides where anything is written: small files arrive as git objects, large ones under their
digest. project/, where a person looks before, must show the same files. What is not right is refused, and nothing is published then.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial

from blake3 import blake3

from tensortime import fsops, history
from tensortime.answers import ImportReport
from tensortime.beginning import folders_in
from tensortime.bundle import FILES, HEADER, OBJECTS, BundleReader, Source, fits_zip
from tensortime.editing import tag_name, tag_ref
from tensortime.errors import (
    BadBundle,
    StoreBusy,
    TargetExists,
    TensorTimeError,
    UnsupportedFormat,
)
from tensortime.formats import Digest, Oid, RelPath, digest_of, parse_oid, text_of
from tensortime.manifest import ManifestEntry
from tensortime.monitor import Monitor
from tensortime.names import ExperimentName, free_name, problem_of
from tensortime.packreader import PackDamaged
from tensortime.packs import Kind, PackWriter, encode_commit, object_id, pack_object
from tensortime.project import Place
from tensortime.publication import ATTEMPTS, sync_ref
from tensortime.shadow import TreeItem
from tensortime.sidecar import OBJECT_MODE, NoRoom, Room, Sidecar
from tensortime.snapshot import CODE_BYTES, space_left
from tensortime.store import Store
from tensortime.trailers import BackupFacts, encode_message
from tensortime.trees import MODE_FILE, MODE_PROGRAM
from tensortime.unpacked import Link, Refused, check_history, items_below, no_space, read_pack

FORMAT = 1
LONGEST_HEADER = 64 << 20

MOST_TAGS = 1000
"""Each is a file of its own, made durable: of millions nobody would see the end."""


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
            with PackWriter(store.path(".shadow", "objects", "pack"), staging) as writer:
                newest, brought = take_in(bundle, store, store.sidecar(staging), writer, tip, monitor)
                facts = replace(
                    newest.facts,
                    project=text_of(os.fsencode(place.project)),
                    edited_ns=time.time_ns(),
                    unknown=(*newest.facts.unknown, ("Imported-From", json.dumps(os.path.basename(file)))),
                )
                commit = edit(writer, newest, facts)
                writer.finish()
        except (Refused, PackDamaged, ValueError, RecursionError) as problem:
            raise refusal(file, problem) from problem
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


def take_in(
    bundle: BundleReader, store: Store, sidecar: Sidecar, writer: PackWriter, tip: Oid, monitor: Monitor
) -> tuple[Link, int]:
    """Check all that the file holds, and bring it in; returns the newest backup, and the bytes of large files that
    were not here."""
    monitor.begin("import", len(bundle.sizes), sum(bundle.sizes.values()))
    unpacked = read_pack(bundle, writer, max(space_left(store, 0, None).left, CODE_BYTES), monitor)
    chain = check_history(unpacked, tip)
    large = wanted_objects(chain)
    sources = find_sources(bundle, sidecar, large)
    taken = set(sources.values())
    here = [size for name, size in bundle.sizes.items() if name.startswith(OBJECTS) and name not in taken]
    monitor.advance(len(here), sum(here))
    check_shown(bundle, items_below(unpacked, chain[0].tree), chain[0].large, taken, monitor)
    # The pack lies on that disk already.
    brought = take_objects(bundle, sidecar, sources, large, space_left(store, 0, None), monitor)
    sidecar.sync(large)
    return chain[0], brought


def check_file(file: str) -> None:
    """BadBundle unless it looks like an export; UnsupportedFormat for one of a later version."""
    with BundleReader(file) as bundle:
        try:
            read_header(bundle)
        except (Refused, ValueError, RecursionError) as problem:
            raise refusal(file, problem) from problem


def refusal(file: str, problem: Exception) -> BadBundle:
    """The error for a file that cannot be taken in."""
    return BadBundle(
        "{file} cannot be imported: {problem}",
        file=file,
        problem=str(problem)[:300],
        hint="nothing was imported; ask for the file again, from somebody you trust",
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
    tags = found.get("tags")
    if isinstance(tags, list) and len(tags) > MOST_TAGS:
        raise Refused("it has too many tags")
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


def find_sources(
    bundle: BundleReader, sidecar: Sidecar, large: Mapping[Digest, tuple[int, list[RelPath]]]
) -> dict[Digest, bytes]:
    """The large files that are not here yet, and where in the file their bytes are."""
    found: dict[Digest, bytes] = {}
    for digest, (size, paths) in large.items():
        if sidecar.holds(digest, size):
            continue
        names = [OBJECTS + digest.removeprefix("blake3:").encode(), *(FILES + path for path in paths)]
        name = next((name for name in names if name in bundle), None)
        if name is None:
            raise Refused(f"it lacks the bytes of {text_of(paths[0]) if paths else digest}")
        found[digest] = name
    return found


def check_shown(
    bundle: BundleReader,
    items: Sequence[TreeItem],
    large: Sequence[ManifestEntry],
    taken: Set[bytes],
    monitor: Monitor,
) -> None:
    """Refused unless project/ shows the newest backup: what a person reads there is what a restore would make.

    `taken`: what is not read here, as it is when it is brought in.
    """
    shown = {name for name in bundle.sizes if name.startswith(FILES)}
    for item in items:
        name = FILES + item.path
        if item.mode not in (MODE_FILE, MODE_PROGRAM) or (name not in shown and not fits_zip(name)):
            continue
        with bundle.member(name) as source:
            if object_id(Kind.BLOB, source.read(item.size + 1)) != item.oid:
                raise Refused(f"{text_of(name)} is not what its history holds")
        monitor.advance(1, item.size)
        shown.discard(name)
    for entry in large:
        name = FILES + entry.path
        if name not in shown and not fits_zip(name):
            continue
        if name not in taken and entry.digest is not None and entry.size is not None:
            with bundle.member(name) as source:
                read_object(source, name, entry.digest, entry.size, lambda data, offset: None, monitor)
        shown.discard(name)
    if shown:
        raise Refused(f"{text_of(min(shown))} is in no backup of it")


def take_objects(
    bundle: BundleReader,
    sidecar: Sidecar,
    sources: Mapping[Digest, bytes],
    large: Mapping[Digest, tuple[int, list[RelPath]]],
    room: Room,
    monitor: Monitor,
) -> int:
    """Bring in these large files; returns their bytes. Refused where one is not what it should be: then none is kept."""
    staged: dict[Digest, str] = {}
    for digest, name in sources.items():
        size = large[digest][0]
        try:
            room.take(size)
        except NoRoom as problem:
            raise no_space(name, problem) from problem
        staged[digest] = os.path.join(sidecar.staging, f"import-{len(staged)}")
        with bundle.member(name) as source:
            take_object(source, staged[digest], name, digest, size, monitor)
    for digest, path in staged.items():
        sidecar.keep(path, digest)
    return sum(large[digest][0] for digest in staged)


def take_object(source: Source, path: str, name: bytes, digest: Digest, size: int, monitor: Monitor) -> None:
    """One large file into a new file."""
    fd = fsops.create_file(path, 0o600)

    try:
        read_object(source, name, digest, size, partial(fsops.write_all, fd), monitor)
        os.fchmod(fd, OBJECT_MODE)
        fsops.sync_file(fd)
    finally:
        os.close(fd)


def read_object(
    source: Source,
    name: bytes,
    digest: Digest,
    size: int,
    use: Callable[[bytes, int], None],
    monitor: Monitor,
) -> None:
    """Hand over a large file block by block: never more bytes than its manifest says, Refused where these are others."""
    hasher, done = blake3(), 0
    while block := source.read(min(1 << 20, size - done + 1)):
        if done + len(block) > size:
            raise Refused(f"{text_of(name)} is longer than its manifest says")
        use(block, done)
        hasher.update(block)
        done += len(block)
        monitor.advance(0, len(block))
    monitor.advance(1, 0)
    if done != size or digest_of(hasher.digest()) != digest:
        raise Refused(f"{text_of(name)} holds other bytes than its manifest says")


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

"""One export: an experiment with its history in one file, which can be imported elsewhere and read without TensorTime.

    commits, trees, small files ──> history.pack ┐
    the backup that was asked for ──> project/   ├──> FILE, under a name of its own until it is whole
    large files of older backups ──> objects/    ┘

Every byte is checked against its id or digest on the way: what is damaged is not handed on.
"""

import contextlib
import io
import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from blake3 import blake3

from tensortime import fsops
from tensortime.answers import ExportReport
from tensortime.bundle import FILES, HEADER, HISTORY, OBJECTS, README, BundleWriter, create_bundle, kind_of
from tensortime.census import commit_node
from tensortime.checkout import RESTORED_BITS
from tensortime.errors import Damaged, NoSpace, StoreUnusable, TargetExists
from tensortime.formats import META, Digest, Oid, bytes_of, encode_path, iso_time, text_of
from tensortime.gitobjects import GitObjects, Unreadable
from tensortime.history import Target, manifest_of, read_facts, read_meta
from tensortime.manifest import FILE, FOLDER, SYMLINK, plain_mode
from tensortime.messages import Translator
from tensortime.monitor import Monitor
from tensortime.packs import Kind, PackWriter, decode_tree, pack_object
from tensortime.plans import Plan, read_plan
from tensortime.shadow import TreeItem
from tensortime.sidecar import check_digest
from tensortime.store import Store
from tensortime.trailers import BackupFacts
from tensortime.trees import MODE_FOLDER, MODE_LINK, MODE_PROGRAM

FORMAT = 1
BLOCK = 1 << 20


@dataclass(frozen=True)
class Parcel:
    """What goes into one file."""

    target: Target
    plan: Plan
    facts: BackupFacts
    file: str
    """Its own name, without folders."""
    older: Mapping[Digest, int]
    """Large files that only earlier backups have, with their sizes."""

    @property
    def seconds(self) -> int:
        """The time that small members get: that of the backup. The same export gives the same bytes."""
        return self.facts.time_ns // 1_000_000_000

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self.plan.size + sum(self.older.values())


def export(
    store: Store, target: Target, file: str, languages: Sequence[Translator], monitor: Monitor
) -> ExportReport:
    """Write one backup of an experiment, and those before it, into a new file. TargetExists, Damaged, NoSpace.

    `languages`: those in which the file tells a person what it is.
    """
    started = time.monotonic()
    kind = kind_of(file)
    if os.path.lexists(file):
        raise TargetExists("{path} exists already", path=file, hint="name another file")
    with store.in_use():
        plan = read_plan(store, target)
        facts = read_facts(store.shadow, target.commit)
        parcel = Parcel(target, plan, facts, os.path.basename(file), older_objects(store, target, plan))
        with staged_beside(file, parcel.size) as staging:
            monitor.begin("export", plan.files + len(parcel.older), parcel.size)
            staged = os.path.join(staging, "file")
            bundle = create_bundle(staged, kind)
            unlisted = write_members(bundle, store, parcel, staging, languages, monitor)
            bundle.close()
            size = os.stat(staged).st_size
            publish(staged, file)
    return ExportReport(
        target.experiment.name,
        target.commit,
        file,
        target.number,
        plan.files,
        plan.size,
        size,
        unlisted,
        plan.skipped,
        time.monotonic() - started,
    )


@contextlib.contextmanager
def staged_beside(file: str, size: int) -> Iterator[str]:
    """A folder beside a file that is to be made, removed again. NoSpace before anything is written where it cannot fit."""
    folder = os.path.dirname(file)
    try:
        free = fsops.free_space(folder)[0]
        if free < size:
            raise NoSpace(
                "no room for {path}, {needed:,} bytes are needed and {free:,} are free",
                path=file,
                needed=size,
                free=free,
                hint="name a file on another disk",
            )
        staging = tempfile.mkdtemp(prefix=".tensortime-", dir=folder)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as problem:
        if isinstance(problem, FileExistsError):
            raise TargetExists("{path} exists already", path=file, hint="name another file") from problem
        kind = NoSpace if problem.errno in fsops.FULL else StoreUnusable
        raise kind("{path} cannot be made: {problem}", path=file, problem=problem.strerror) from problem


def publish(staged: str, file: str) -> None:
    """Give a finished file its name, which must be free; durable then."""
    fsops.sync_path(staged)
    folder = fsops.open_folder(os.path.dirname(file))
    try:
        source = os.path.join(os.path.basename(os.path.dirname(staged)), os.path.basename(staged))
        fsops.rename_file_to_new(folder, os.fsencode(source), os.fsencode(os.path.basename(file)))
    finally:
        os.close(folder)
    fsops.sync_folder(os.path.dirname(file))


def older_objects(store: Store, target: Target, plan: Plan) -> dict[Digest, int]:
    """The large files of the backups before one that it does not have itself."""
    here = {entry.digest for entry in plan.manifest.large()}
    found: dict[Digest, int] = {}
    for commit in store.shadow.lineage(target.commit)[1:]:
        meta = read_meta(store.shadow, store.shadow.tree(commit, META))
        for entry in manifest_of(meta).large():
            if entry.digest is not None and entry.size is not None and entry.digest not in here:
                found[entry.digest] = entry.size
    return found


def write_members(
    bundle: BundleWriter,
    store: Store,
    parcel: Parcel,
    staging: str,
    languages: Sequence[Translator],
    monitor: Monitor,
) -> tuple[str, ...]:
    """Everything, in the order in which it is read; returns the paths that the container has no name for."""
    objects, sidecar = GitObjects(store.shadow.git_dir), store.sidecar()
    odd = [item.path for item in parcel.plan.items if not bundle.holds(FILES + item.path)]
    odd += [entry.path for entry in parcel.plan.entries if not bundle.holds(FILES + entry.path)]
    unlisted = tuple(text_of(path) for path in sorted(set(odd)))

    def add(name: bytes, data: bytes) -> None:
        bundle.add(name, 0o644, parcel.seconds, len(data), io.BytesIO(data))

    def add_object(name: bytes, digest: Digest, size: int, mode: int, seconds: int) -> None:
        with Checked(sidecar.open_object(digest, size), digest, monitor) as source:
            bundle.add(name, mode, seconds, size, source)
            source.check()
        monitor.advance(1, 0)

    add(README, bytes_of(readme_text(parcel, unlisted, languages)))
    add(HEADER, header(parcel, unlisted))
    pack = write_pack(objects, parcel.target.commit, staging)
    with open(pack, "rb") as source:
        bundle.add(HISTORY, 0o644, parcel.seconds, os.stat(pack).st_size, source)
    for item in parcel.plan.items:
        if bundle.holds(FILES + item.path) and item.mode != MODE_FOLDER:
            add_small(bundle, item, blob(objects, item), parcel)
            monitor.advance(1, item.size)
    beside = dict(parcel.older)
    for entry in parcel.plan.entries:
        if not bundle.holds(FILES + entry.path):
            if entry.digest is not None and entry.size is not None:
                beside[entry.digest] = entry.size
        elif entry.kind == FILE and entry.digest is not None and entry.size is not None:
            mode = plain_mode(0, 0o022) if entry.mode is None else entry.mode & RESTORED_BITS
            seconds = (entry.mtime_ns or 0) // 1_000_000_000
            add_object(FILES + entry.path, entry.digest, entry.size, mode, seconds)
        elif entry.kind == SYMLINK:
            bundle.link(FILES + entry.path, parcel.seconds, entry.target or b"")
        elif entry.kind == FOLDER:
            bundle.folder(FILES + entry.path, 0o755 if entry.mode is None else entry.mode, parcel.seconds)
    for digest, size in beside.items():
        name = OBJECTS + digest.removeprefix("blake3:").encode()
        add_object(name, digest, size, 0o644, parcel.seconds)
    return unlisted


class Checked(io.RawIOBase):
    """An object's bytes from an open descriptor, hashed as they are read."""

    def __init__(self, fd: int, digest: Digest, monitor: Monitor) -> None:
        super().__init__()
        self._fd, self._digest, self._monitor, self._hasher = fd, digest, monitor, blake3()

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, at most 1 MiB; none at the end."""
        block = os.read(self._fd, BLOCK if size < 0 else min(size, BLOCK))
        self._hasher.update(block)
        self._monitor.advance(0, len(block))
        return block

    def close(self) -> None:
        """Close the descriptor."""
        if not self.closed:
            os.close(self._fd)
        super().close()

    def check(self) -> None:
        """Damaged unless all that was read is what the digest says."""
        check_digest(self._digest, self._hasher.digest(), whole=True)


def blob(objects: GitObjects, item: TreeItem) -> bytes:
    """The bytes of a small file, checked against their id; Damaged names the path."""
    try:
        return objects.read(item.oid).data
    except Unreadable as problem:
        raise Damaged(
            "{path} cannot come back: the store holds other bytes", path=text_of(item.path)
        ) from problem


def add_small(bundle: BundleWriter, item: TreeItem, data: bytes, parcel: Parcel) -> None:
    """One file or link that git carries."""
    entry = parcel.plan.manifest.entries.get(item.path)
    if item.mode == MODE_LINK:
        bundle.link(FILES + item.path, parcel.seconds, data)
        return
    mode = plain_mode(0o100 if item.mode == MODE_PROGRAM else 0, 0o022)
    if entry is not None and entry.mode is not None:
        mode = entry.mode & RESTORED_BITS
    bundle.add(FILES + item.path, mode, parcel.seconds, len(data), io.BytesIO(data))


def write_pack(objects: GitObjects, tip: Oid, staging: str) -> str:
    """All that a commit needs, in one pack: commits, then trees, then small files; returns its path."""
    commits, trees, blobs = walk_history(objects, tip)
    with PackWriter(staging, staging, limit=1 << 62) as writer:
        for kind, oids in ((Kind.COMMIT, commits), (Kind.TREE, trees), (Kind.BLOB, blobs)):
            for oid in oids:
                writer.add(pack_object(kind, read(objects, oid), oid))
        (name,) = writer.finish()
    return os.path.join(staging, name + ".pack")


def walk_history(objects: GitObjects, tip: Oid) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """The ids of a commit and those before it, of their trees, and of the files in these, each once."""
    commits: list[bytes] = []
    trees: dict[bytes, None] = {}
    blobs: dict[bytes, None] = {}
    pending = [bytes.fromhex(tip)]
    while pending:
        oid = pending.pop()
        node = commit_node(b"commit", read(objects, oid))
        if node is None:
            raise Damaged("the commit {oid} is no backup: {problem}", oid=oid.hex(), problem="no tree")
        commits.append(oid)
        pending += node.parents
        below = [node.tree]
        while below:
            tree = below.pop()
            if tree in trees:
                continue
            trees[tree] = None
            for row in decode_tree(read(objects, tree)):
                if row.mode == MODE_FOLDER:
                    below.append(row.oid)
                else:
                    blobs[row.oid] = None
    return commits, list(trees), list(blobs)


def read(objects: GitObjects, oid: bytes) -> bytes:
    """An object of the history; Damaged where it cannot be read."""
    try:
        return objects.read(oid).data
    except Unreadable as problem:
        raise Damaged(
            "the history is damaged: {oid}: {problem}",
            oid=oid.hex(),
            problem=problem.reason,
            hint="tensortime verify tells more",
        ) from problem


def header(parcel: Parcel, unlisted: Sequence[str]) -> bytes:
    """`export.json`: what the file holds."""
    target = parcel.target
    facts = {
        "format": FORMAT,
        "experiment": target.experiment.name,
        "backup": target.number,
        "commit": target.commit,
        "note": parcel.facts.note,
        "time": iso_time(parcel.facts.time_ns),
        "tags": list(target.experiment.tags),
        "files": parcel.plan.files,
        "bytes": parcel.plan.size,
        "not_in_project": [encode_path(bytes_of(path)) for path in unlisted],
    }
    return json.dumps(facts, indent=1).encode() + b"\n"


def readme_text(parcel: Parcel, unlisted: Sequence[str], languages: Sequence[Translator]) -> str:
    """What a person should know who finds the file, in each language."""
    name, note = parcel.target.experiment.name, parcel.facts.note
    command = shlex.join(parcel.facts.command)
    parts = []
    for tr in languages:
        lines = [
            tr("This is the experiment {name}, as TensorTime recorded it.", name=name),
            *([note] if note else []),
            "",
            tr("project/       its files: code, data, models"),
            tr(
                "history.pack   all its backups, as a git pack (commit {commit})", commit=parcel.target.commit
            ),
            tr("objects/       large files of earlier backups, named by the BLAKE3 of their bytes"),
            "",
            tr("To have it with its history, in any project folder:"),
            "",
            "    pip install tensortime",
            f"    tensortime import {shlex.quote(parcel.file)}",
            f"    tensortime restore {name}",
            "",
            tr("Without TensorTime: unpack this file; project/ is complete."),
        ]
        if unlisted:
            lines.append(
                tr(
                    "Not in project/, because a zip cannot hold their names: {paths}",
                    paths=", ".join(bytes_of(path).decode("utf-8", "backslashreplace") for path in unlisted),
                )
            )
        if command:
            lines += ["", tr("The command that was run:"), "", f"    {command}"]
        lines += [
            "",
            tr(
                "The files of .tensortime in it say more: run.json, packages.txt, manifest (sizes and hashes)."
            ),
        ]
        parts.append("\n".join(lines))
    return "\n\n\n".join(parts) + "\n"

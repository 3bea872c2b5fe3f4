"""One purge: some paths go out of every backup, as if they had never been there, and their bytes out of the store.

    commits ──> without the paths (trees, manifests, run.json says what was purged) ──> all refs at once
    ──> what the old ones alone needed is deleted: objects, and every pack that holds any of it is written anew

`.shadow/purging` remembers, from before the refs move until the last byte is gone, what has to go: a purge that was
interrupted in between is finished by the next one, or by gc.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from tensortime import fsops
from tensortime.answers import PurgeReport
from tensortime.census import commit_node
from tensortime.condemned import Condemned, remove_condemned, write_condemned
from tensortime.errors import Damaged, GitFailed, StoreBusy
from tensortime.formats import (
    META,
    Digest,
    RelPath,
    bytes_of,
    decode_path,
    is_under,
    parse_digest,
    raw_of,
    text_of,
)
from tensortime.garbage import extra_tips
from tensortime.gitobjects import GitObjects, Unreadable
from tensortime.manifest import escape_pattern
from tensortime.monitor import Monitor
from tensortime.packreader import Content
from tensortime.packs import (
    FOLDER,
    Kind,
    PackWriter,
    TreeEntry,
    decode_tree,
    encode_tree,
    object_id,
    pack_object,
)
from tensortime.prune import Tally, holding, still_condemned, sweep_condemned
from tensortime.reach import COMMIT_LINK, EXPERIMENT, TRASHED, WORKTREE, Root, read_reach
from tensortime.shadow import failure, ref_has_moved
from tensortime.store import Store
from tensortime.worktrees import MARKER, is_in_order, read_line, records

OID = re.compile(rb"\b[0-9a-f]{40}\b")


@dataclass
class Rewriting:
    """Commits and trees without some paths; what was seen at these."""

    objects: GitObjects
    paths: tuple[RelPath, ...]
    writer: PackWriter
    commits: dict[bytes, bytes] = field(default_factory=dict)
    """Old commits and tags to new ones; to themselves where nothing changes."""
    trees: dict[tuple[bytes, bytes], bytes | None] = field(default_factory=dict)
    fresh: dict[bytes, bytes] = field(default_factory=dict)
    """New trees, which are read again on the way up."""
    blobs: set[bytes] = field(default_factory=set)
    digests: set[Digest] = field(default_factory=set)

    def read(self, oid: bytes, kind: bytes | None = None) -> Content:
        """An object; Damaged where it cannot be read: nobody knows then what it holds."""
        try:
            content = self.objects.read(oid)
        except Unreadable as problem:
            raise Damaged(
                "{oid} is missing or damaged, so nobody knows what is in it",
                oid=oid.hex(),
                hint="tensortime verify tells more; nothing was changed",
            ) from problem
        if kind is not None and content.kind != kind:
            raise Damaged("{oid} is not what it should be", oid=oid.hex(), hint="nothing was changed")
        return content

    def write(self, kind: Kind, data: bytes) -> bytes:
        """A new object, unless the store has it."""
        oid = object_id(kind, data)
        if kind is Kind.TREE:
            self.fresh[oid] = data
        if oid not in self.objects:
            self.writer.add(pack_object(kind, data, oid))
        return oid

    def commit(self, tip: bytes) -> bytes:
        """The commit (or tag) in place of one, those before it first."""
        pending = [tip]
        while pending:
            oid = pending[-1]
            if oid in self.commits:
                pending.pop()
                continue
            kind, data = self.read(oid)
            node = commit_node(kind, data) if kind in (b"commit", b"tag") else None
            if node is None:
                self.commits[oid] = oid
                continue
            before = [parent for parent in node.parents if parent not in self.commits]
            if before:
                pending += before
                continue
            self.commits[oid] = self.replaced(oid, kind, data, node.tree)
        return self.commits[tip]

    def replaced(self, oid: bytes, kind: bytes, data: bytes, tree: bytes) -> bytes:
        """A commit with other parents and another tree, all else as it was."""
        head, gap, rest = data.partition(b"\n\n")
        new_tree = tree if kind == b"tag" else self.top(tree)

        def mapped(line: bytes) -> bytes:
            key, _, value = line.partition(b" ")
            if key == b"tree":
                return b"tree " + new_tree.hex().encode()
            if key in (b"parent", b"object"):
                return key + b" " + self.commits[bytes.fromhex(value.decode())].hex().encode()
            return line

        new = b"\n".join(map(mapped, head.split(b"\n"))) + gap + rest
        return oid if new == data else self.write(Kind[kind.decode().upper()], new)

    def top(self, tree: bytes) -> bytes:
        """The tree of a commit without the paths; it says in its run.json what was purged, if anything was."""
        if (tree, b"") not in self.trees:
            rows = self.rows(tree)
            meta = rows.get(META)
            listed = meta is not None and meta.mode == FOLDER and self.lists(meta.oid)
            new = self.without(tree, b"")
            if new != tree or listed:
                rows = self.rows(new) if new is not None else {}
                if meta is not None and meta.mode == FOLDER:
                    rows[META] = TreeEntry(FOLDER, META, self.meta(meta.oid))
                new = self.write(Kind.TREE, encode_tree(rows.values()))
            self.trees[tree, b""] = new
        return self.trees[tree, b""] or tree

    def rows(self, tree: bytes) -> dict[bytes, TreeEntry]:
        """The rows of a tree by name."""
        data = self.fresh[tree] if tree in self.fresh else self.read(tree, b"tree").data
        return {row.name: row for row in decode_tree(data)}

    def without(self, tree: bytes, folder: bytes) -> bytes | None:
        """A tree without the paths; None where nothing of it is left. Only folders on the way to a path are read."""
        rows = self.rows(tree)
        changed = False
        for name, row in list(rows.items()):
            path = RelPath(folder + name)
            if any(is_under(path, purged) for purged in self.paths):
                self.note(row)
                del rows[name]
                changed = True
            elif row.mode == FOLDER and any(is_under(purged, path) for purged in self.paths):
                below = self.without(row.oid, path + b"/")
                if below != row.oid:
                    changed = True
                    if below is None:
                        del rows[name]
                    else:
                        rows[name] = row._replace(oid=below)
        if not changed:
            return tree
        return self.write(Kind.TREE, encode_tree(rows.values())) if rows or not folder else None

    def note(self, row: TreeEntry) -> None:
        """Note all blobs at or below a row that goes."""
        pending = [row]
        while pending:
            mode, _, oid = pending.pop()
            if mode == FOLDER:
                pending += self.rows(oid).values()
            elif mode != COMMIT_LINK:
                self.blobs.add(oid)

    def manifest_files(self, meta: bytes) -> Iterator[tuple[bytes, bytes | None, bytes]]:
        """The files of a manifest: name, shard or None, blob."""
        rows = self.rows(meta)
        if b"manifest" in rows:
            yield b"manifest", None, rows[b"manifest"].oid
        if b"manifest.d" in rows:
            for name, row in self.rows(rows[b"manifest.d"].oid).items():
                yield b"manifest.d", name, row.oid

    def lists(self, meta: bytes) -> bool:
        """Whether a manifest has a line for one of the paths."""
        return any(self.filtered(blob) != blob for _, _, blob in list(self.manifest_files(meta)))

    def filtered(self, blob: bytes) -> bytes:
        """One file of a manifest without the lines of the paths; the others as they are."""
        lines = self.read(blob, b"blob").data.split(b"\n")
        kept = [line for line in lines if not self.is_purged(line)]
        return blob if kept == lines else self.write(Kind.BLOB, b"\n".join(kept))

    def is_purged(self, line: bytes) -> bool:
        """Whether a line of a manifest is of one of the paths; its object is noted then."""
        if not line.startswith(b'{"path'):
            return False
        try:
            fields = json.loads(line)
            path = decode_path(fields)
        except (ValueError, RecursionError) as problem:
            raise Damaged("a manifest is damaged", hint="tensortime verify tells more") from problem
        if not any(is_under(path, purged) for purged in self.paths):
            return False
        if "digest" in fields:
            self.digests.add(parse_digest(str(fields["digest"])))
        return True

    def meta(self, meta: bytes) -> bytes:
        """`.tensortime/` without the paths, and with what was purged in run.json."""
        rows = self.rows(meta)
        shards = self.rows(rows[b"manifest.d"].oid) if b"manifest.d" in rows else {}
        for name, shard, blob in list(self.manifest_files(meta)):
            target = rows if shard is None else shards
            key = name if shard is None else shard
            target[key] = target[key]._replace(oid=self.filtered(blob))
        if shards:
            row = rows[b"manifest.d"]
            rows[b"manifest.d"] = row._replace(oid=self.write(Kind.TREE, encode_tree(shards.values())))
        for name, change in ((b"run.json", self.run_json), (b"exclude", self.exclude)):
            if name in rows and rows[name].mode != FOLDER:
                data = self.read(rows[name].oid, b"blob").data
                rows[name] = rows[name]._replace(oid=self.write(Kind.BLOB, change(data)))
        return self.write(Kind.TREE, encode_tree(rows.values()))

    def run_json(self, data: bytes) -> bytes:
        """run.json with the paths that were purged, beside those of an earlier purge."""
        try:
            run = json.loads(data)
        except (ValueError, RecursionError):
            return data
        if not isinstance(run, dict):
            return data
        before = run.get("purged")
        names = [text_of(path) for path in self.paths]
        run["purged"] = list(dict.fromkeys([*(before if isinstance(before, list) else []), *names]))
        return json.dumps(run, ensure_ascii=True, indent=1, default=str).encode() + b"\n"

    def exclude(self, data: bytes) -> bytes:
        """The exclude file without the lines of the paths."""
        gone = [b"/" + escape_pattern(path) for path in self.paths]
        lines = data.split(b"\n")
        kept = (one for one in lines if not any(one == top or one.startswith(top + b"/") for top in gone))
        return b"\n".join(kept)


def purge(store: Store, paths: Sequence[RelPath], *, dry_run: bool, monitor: Monitor) -> PurgeReport:
    """Take these paths out of every backup, the trash, and what worktrees stand on. Damaged, StoreBusy.

    `dry_run`: only say what that would be; nothing is written.
    """
    started = time.monotonic()
    trusted = fsops.trusts_locks(store.folder)
    tally = Tally(monitor)
    if dry_run:
        with store.in_use(), new_writer(store, None) as writer:
            _, report = rewrite(store, paths, writer, monitor)
        return report
    with holding(store, trusted), store.staging() as staging:
        with new_writer(store, staging) as writer:
            work, report = rewrite(store, paths, writer, monitor)
            writer.finish()
        known = still_condemned(store, tally)
        condemned = Condemned(known.blobs | work.blobs, known.digests | work.digests)
        if known.damaged:
            remove_condemned(store.folder)
        if condemned != Condemned():
            write_condemned(store.folder, condemned)
            # The refs come last: from then on gc can finish it, and what else names old commits it could not put right.
            for admin in list(records(store)):
                remap_worktree(store, admin, work)
            remap_reflogs(store, work)
            drop_traces(store)
            swap_refs(store, work)
    if condemned == Condemned():
        return replace(report, dry_run=False)
    left = sweep_condemned(store, condemned, trusted, tally)
    return report_with(report, tally, left, time.monotonic() - started)


def drop_traces(store: Store) -> None:
    """Remove what may hold the bytes or names and is needed by nobody: stat caches, and what was moved aside."""
    store.drop_caches()
    damaged = store.path(".objects", "damaged")
    if os.path.isdir(damaged):
        fsops.remove_tree(damaged)


def new_writer(store: Store, staging: str | None) -> PackWriter:
    """A writer of new packs; without a staging folder one that is never asked to write."""
    folder = store.path(".shadow", "objects", "pack")
    return PackWriter(folder, staging) if staging else NoWriter(folder, "")


class NoWriter(PackWriter):
    """Takes objects and writes none: for a plan."""

    def add(self, packed: object) -> bool:
        """Forget it."""
        return True


def rewrite(
    store: Store, paths: Sequence[RelPath], writer: PackWriter, monitor: Monitor
) -> tuple[Rewriting, PurgeReport]:
    """Make all commits anew that have one of the paths, and those after them."""
    reach = read_reach(store, monitor)
    work = Rewriting(GitObjects(store.path(".shadow")), tuple(paths), writer)
    monitor.begin("purge", len(reach.roots), 0)
    touched: list[str] = []
    folders: list[str] = []
    for root in reach.roots:
        # What is staged in a worktree are files.
        tips = [tip for tip in root.tips if root.kind != WORKTREE or tip in reach.inner]
        before = len(work.blobs) + len(work.digests)
        changed = any(work.commit(tip) != tip for tip in tips)
        if changed and root.kind in (EXPERIMENT, TRASHED):
            touched.append(root.name if root.kind == EXPERIMENT else root.ref.removeprefix("refs/"))
        if root.kind == WORKTREE:
            folders += left_in_worktree(store, root, paths)
        monitor.advance(1, len(work.blobs) + len(work.digests) - before)
    for tip in extra_tips(store, reach):
        if tip in reach.inner:
            work.commit(tip)
    size = sum(reach.packed.get(blob, 0) for blob in work.blobs)
    size += reach.held_bytes(raw_of(digest) for digest in work.digests)
    changed_commits = sum(old != new for old, new in work.commits.items())
    report = PurgeReport(
        tuple(text_of(path) for path in paths),
        tuple(sorted(touched)),
        changed_commits,
        len(work.blobs) + len(work.digests),
        size,
        tuple(folders),
        dry_run=True,
    )
    return work, report


def left_in_worktree(store: Store, root: Root, paths: Sequence[RelPath]) -> Iterator[str]:
    """The files and folders of a restored worktree that are the paths: these are named, and stay."""
    admin = store.path(".shadow", "worktrees", os.fsdecode(bytes_of(root.name)))
    folder = os.path.dirname(read_line(os.path.join(admin, "gitdir")))
    for path in paths:
        there = os.path.join(folder, os.fsdecode(path))
        if folder and os.path.lexists(there):
            yield there


def swap_refs(store: Store, work: Rewriting) -> None:
    """Let all refs name the new commits, in one transaction: all or none. StoreBusy if one moved meanwhile."""
    lines = [
        b"update %s %s %s\n" % (bytes_of(ref.name), work.commits[old].hex().encode(), old.hex().encode())
        for ref in store.shadow.refs().refs
        if work.commits.get(old := bytes.fromhex(ref.oid), old) != old
    ]
    done = store.shadow.run("update-ref", "--no-deref", "--stdin", stdin=b"".join(lines), accept=(0, 1, 128))
    if ref_has_moved(done.stderr):
        raise StoreBusy("a backup was made meanwhile", hint="try again")
    if done.returncode:
        raise failure(("update-ref",), done)


def remap_worktree(store: Store, admin: str, work: Rewriting) -> None:
    """Let a worktree's record name the new commits, and its index know nothing of the paths.

    Its `.tensortime/` becomes that of the new commit; nothing else of it is touched.
    """
    for name in sorted(os.listdir(admin)):
        path = os.path.join(admin, name)
        if (name.endswith("HEAD") or name == MARKER) and os.path.isfile(path):
            remap_file(path, work)
    if os.path.exists(os.path.join(admin, "index")):
        listed = store.shadow.run("ls-files", "-z", git_dir=admin, work_tree=admin).stdout.split(b"\0")
        gone = [path for path in listed if path and any(is_under(RelPath(path), one) for one in work.paths)]
        if gone:
            names = b"".join(path + b"\0" for path in gone)
            store.shadow.run(
                "update-index", "--force-remove", "-z", "--stdin", stdin=names, git_dir=admin, work_tree=admin
            )
        folder = os.path.dirname(read_line(os.path.join(admin, "gitdir")))
        if is_in_order(admin) and os.path.isdir(os.path.join(folder, text_of(META))):
            with contextlib.suppress(GitFailed):
                meta = ("checkout", "-q", "HEAD", "--", text_of(META))
                store.shadow.run(*meta, git_dir=admin, work_tree=folder)


def remap_reflogs(store: Store, work: Rewriting) -> None:
    """Let reflogs name the new commits."""
    tops = [store.path(".shadow", "logs"), *(os.path.join(admin, "logs") for admin in records(store))]
    for top in tops:
        for folder, _, names in os.walk(top):
            for name in names:
                remap_file(os.path.join(folder, name), work)


def remap_file(path: str, work: Rewriting) -> None:
    """Put the ids of new commits in the place of old ones, in a file of text."""

    def mapped(found: re.Match[bytes]) -> bytes:
        old = bytes.fromhex(found[0].decode())
        return work.commits.get(old, old).hex().encode()

    data = fsops.read_file(path, 1 << 26)
    new = OID.sub(mapped, data)
    if new != data:
        fsops.write_atomic(path, new)


def report_with(report: PurgeReport, tally: Tally, left: Condemned, seconds: float) -> PurgeReport:
    """The report of what was done."""
    return replace(
        report,
        bytes=max(tally.freed, 0),
        still_needed=len(left.blobs) + len(left.digests),
        waiting=tally.waiting,
        notes=tuple(tally.notes),
        dry_run=False,
        seconds=seconds,
    )

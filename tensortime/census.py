"""The census of a store: every commit, tree and manifest that some root needs, read and checked, and who needs what.

What cannot be read is noted and passed by, so that one damaged object is one line of a report. Paths and backups
are looked up afterwards, only for what is damaged.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tensortime.errors import TensorTimeError, UnsupportedFormat
from tensortime.formats import META, Digest, RelPath, text_of
from tensortime.gitobjects import GitObjects, Unreadable
from tensortime.manifest import FILE, ManifestEntry, add_entry, read_fields
from tensortime.manifest import FORMAT as MANIFEST_FORMAT
from tensortime.packs import FOLDER, TreeEntry, decode_tree
from tensortime.reach import COMMIT_LINK, EXPERIMENT, TRASHED, WORKTREE, Root
from tensortime.shadow import parse_commit
from tensortime.trailers import decode_message


class CommitNode(NamedTuple):
    """What the census keeps of a commit."""

    tree: bytes
    parents: tuple[bytes, ...]
    number: int | None
    """Of the backup that it is; None for a commit that a person made."""


class Needs(NamedTuple):
    """Who needs something: backups as `NAME:n`, and the paths that it is at."""

    experiments: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass
class Census:
    """What has been seen so far."""

    objects: GitObjects
    commits: dict[bytes, CommitNode] = field(default_factory=dict)
    labels: dict[bytes, dict[str, None]] = field(default_factory=dict)
    """Commits, read or not, and the backups that they are, in the order in which they were met."""
    trees: set[bytes] = field(default_factory=set)
    blobs: set[bytes] = field(default_factory=set)
    manifests: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    """Top trees, and the blobs that their manifests are in."""
    digests: dict[Digest, set[int]] = field(default_factory=dict)
    """Objects that some manifest names, and the sizes that they should have."""
    unreadable: dict[bytes, Unreadable] = field(default_factory=dict)
    """Git objects that should be there and are not, or not right."""
    misread: dict[bytes, str] = field(default_factory=dict)
    """Manifests (blobs), or top trees without one, that are whole and yet say nothing."""
    lines: set[bytes] = field(default_factory=set)
    """Lines of manifests: most stand in many of them."""

    def take(self, root: Root, *, alone: bool = False) -> None:
        """Look at all that a root needs; `alone`: of a commit without those before it."""
        for tip in root.tips:
            self.take_tip(root, tip, alone)

    def take_tip(self, root: Root, tip: bytes, alone: bool) -> None:
        """A commit and those before it, a tag that a person made, or a file that is staged in a worktree."""
        named = root.kind in (EXPERIMENT, TRASHED)
        seen: set[bytes] = set()
        pending = [tip]
        while pending:
            oid = pending.pop()
            if oid in seen or oid in self.blobs or (not named and oid in self.labels):
                continue
            seen.add(oid)
            node = self.commit(oid, root)
            self.labels.setdefault(oid, {})[label_of(root, node)] = None
            if node is not None and not alone:
                pending += node.parents

    def commit(self, oid: bytes, root: Root) -> CommitNode | None:
        """Read a commit and all below it, once."""
        if oid in self.commits or oid in self.unreadable:
            return self.commits.get(oid)
        try:
            kind, data = self.objects.read(oid)
        except Unreadable as problem:
            self.unreadable[oid] = problem
            return None
        if kind == b"blob":
            self.blobs.add(oid)
            return None
        if kind == b"tree":
            self.tree(oid)
            return None
        node = commit_node(kind, data)
        if node is None:
            self.unreadable[oid] = Unreadable("it is no commit that can be read", missing=False)
            return None
        self.commits[oid] = node
        if kind == b"commit":
            self.tree(node.tree)
            self.manifest(node, ours=root.kind in (EXPERIMENT, TRASHED))
        return node

    def is_backup(self, oid: bytes) -> bool:
        """Whether a commit is a backup, as far as it can be read."""
        node = self.commits.get(oid)
        return oid in self.unreadable or (node is not None and node.number is not None)

    def tree(self, top: bytes) -> None:
        """Read a tree and all below it, once; files are only noted."""
        pending = [top]
        while pending:
            oid = pending.pop()
            if oid not in self.trees:
                self.trees.add(oid)
                for mode, _, child in self.rows(oid):
                    if mode == FOLDER:
                        pending.append(child)
                    elif mode != COMMIT_LINK and child not in self.blobs:
                        self.blobs.add(child)
                        if child not in self.objects:
                            self.unreadable[child] = Unreadable("it is missing", missing=True)

    def rows(self, oid: bytes) -> list[TreeEntry]:
        """The rows of a tree; none where it cannot be read."""
        if oid not in self.unreadable:
            try:
                kind, data = self.objects.read(oid)
                if kind == b"tree":
                    return decode_tree(data)
                self.unreadable[oid] = Unreadable("it is no tree", missing=False)
            except Unreadable as problem:
                self.unreadable[oid] = problem
            except ValueError:
                self.unreadable[oid] = Unreadable("it is no tree", missing=False)
        return []

    def manifest(self, node: CommitNode, *, ours: bool) -> None:
        """Read the manifest of a commit, each file of it and each line once."""
        top = node.tree
        if top in self.manifests:
            return
        meta = {name: oid for mode, name, oid in self.rows(top) if name == META and mode == FOLDER}
        files = {name: oid for _, name, oid in self.rows(meta[META])} if meta else {}
        shards = [oid for _, _, oid in self.rows(files[b"manifest.d"])] if b"manifest.d" in files else []
        blobs = (*([files[b"manifest"]] if b"manifest" in files else []), *shards)
        self.manifests[top] = blobs
        if b"manifest" not in files:
            if ours and node.number is not None and not (set(meta.values()) | {top}) & self.unreadable.keys():
                self.misread[top] = "it has no manifest"
            return
        for blob in blobs:
            self.manifest_file(blob, first=blob == files[b"manifest"])

    def manifest_file(self, blob: bytes, *, first: bool) -> None:
        """Note what one file of a manifest names."""
        if blob in self.misread or blob in self.unreadable:
            return
        try:
            for entry in new_entries(self.objects.read(blob).data, first, self.lines):
                if entry.kind == FILE and entry.digest is not None:
                    self.digests.setdefault(entry.digest, set()).add(entry.size or 0)
        except Unreadable as problem:
            self.unreadable[blob] = problem
        except UnsupportedFormat:
            self.misread[blob] = "a later version wrote it"
        except TensorTimeError:
            self.misread[blob] = "it is no manifest"

    def who_needs(self, nodes: Collection[bytes], digests: Collection[Digest]) -> dict[bytes | Digest, Needs]:
        """For each of these git objects and objects the backups and paths that need it."""
        search = Search(self, set(nodes), {digest.removeprefix("blake3:").encode() for digest in digests})
        found: dict[bytes | Digest, tuple[dict[str, None], dict[str, None]]] = {}
        for oid, labels in self.labels.items():
            node = self.commits.get(oid)
            places = [] if node is None else search.places(node.tree)
            if oid in search.nodes:
                places = [*places, (b"", oid)]
            for path, what in places:
                experiments, paths = found.setdefault(what, ({}, {}))
                experiments.update(labels)
                if path:
                    paths[text_of(path)] = None
        return {what: Needs(tuple(one), tuple(sorted(two))) for what, (one, two) in found.items()}


@dataclass
class Search:
    """Finds where bad things are, each tree and each file of a manifest looked at once."""

    census: Census
    nodes: set[bytes]
    digests: set[bytes]
    below: dict[bytes, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    listed: dict[bytes, list[tuple[bytes, Digest]]] = field(default_factory=dict)

    def places(self, top: bytes) -> list[tuple[bytes, bytes | Digest]]:
        """Paths of a commit's tree that need something bad, and what that is."""
        found: list[tuple[bytes, bytes | Digest]] = [*self.in_tree(top)]
        for blob in self.census.manifests.get(top, ()) if self.digests else ():
            found += self.in_manifest(blob)
        return found

    def in_tree(self, top: bytes) -> list[tuple[bytes, bytes]]:
        """Paths from a tree on. Deepest first, without recursion: folders may be nested as deep as a path is long."""
        pending = [top]
        while pending:
            oid = pending[-1]
            rows = [] if oid in self.below else self.census.rows(oid)
            unknown = [child for mode, _, child in rows if mode == FOLDER and child not in self.below]
            if oid not in self.below and not unknown:
                found = [(b"", oid)] if oid in self.nodes else []
                for mode, name, child in rows:
                    if mode == FOLDER:
                        found += [
                            (name + b"/" + path if path else name, one) for path, one in self.below[child]
                        ]
                    elif child in self.nodes:
                        found.append((name, child))
                self.below[oid] = found
            pending = pending + unknown if unknown else pending[:-1]
        return self.below[top]

    def in_manifest(self, blob: bytes) -> list[tuple[bytes, Digest]]:
        """Paths that one file of a manifest names with a bad object."""
        if blob not in self.listed:
            self.listed[blob] = []
            try:
                lines = self.census.objects.read(blob).data.split(b"\n")
            except Unreadable:
                lines = []
            for line in lines:
                _, _, rest = line.partition(b'"blake3:')
                if rest[:64] in self.digests:
                    entries: dict[RelPath, ManifestEntry] = {}
                    add_entry(entries, line, "manifest", 0)
                    self.listed[blob] += [(path, one.digest) for path, one in entries.items() if one.digest]
        return self.listed[blob]


def commit_node(kind: bytes, data: bytes) -> CommitNode | None:
    """A commit, or a tag as a commit without tree; None for what is neither."""
    headers, message = parse_commit(data)
    try:
        if kind == b"tag":
            return CommitNode(b"", (bytes.fromhex(headers["object"]),), None)
        tree = bytes.fromhex(headers["tree"])
    except (KeyError, ValueError):
        return None
    head = data.partition(b"\n\n")[0].split(b"\n")
    parents = tuple(bytes.fromhex(line[7:].decode()) for line in head if line.startswith(b"parent "))
    try:
        return CommitNode(tree, parents, decode_message(message).number)
    except ValueError:
        return CommitNode(tree, parents, None)


def label_of(root: Root, node: CommitNode | None) -> str:
    """How a report names a commit: `base:2`, `trash/<time>/base:2`, `worktrees/base`, `pins/…`."""
    if root.kind == WORKTREE:
        return "worktrees/" + root.name
    name = root.name if root.kind == EXPERIMENT else root.ref.removeprefix("refs/")
    return name if node is None or node.number is None else f"{name}:{node.number}"


def new_entries(data: bytes, first: bool, seen: set[bytes]) -> Iterator[ManifestEntry]:
    """The entries of one file of a manifest that stood in none before; Damaged, UnsupportedFormat."""
    lines: Iterable[bytes] = data.split(b"\n")
    if first:
        head, *lines = lines
        found = read_fields(head, "manifest", 1).get("format")
        if found != MANIFEST_FORMAT:
            raise UnsupportedFormat("the manifest has format {found}", found=str(found)[:20])
    for number, line in enumerate(lines, 2 if first else 1):
        if line and line not in seen:
            entries: dict[RelPath, ManifestEntry] = {}
            add_entry(entries, line, "manifest", number)
            seen.add(line)
            yield from entries.values()

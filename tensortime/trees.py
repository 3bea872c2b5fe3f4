"""From flat lists to a committed tree: what goes into git at its own path, what into the manifest. Pure but for the writer."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from tensortime.formats import META, Digest, RelPath, git_refuses_link, goes_into_git
from tensortime.manifest import (
    FILE,
    FOLDER,
    SMALL,
    SYMLINK,
    Manifest,
    ManifestEntry,
    common_umask,
    encode_exclude,
    encode_manifest,
    folders_of_nothing_else,
    plain_mode,
)
from tensortime.packs import Kind, PackWriter, TreeEntry, encode_tree, object_id, pack_object

PERMISSIONS = 0o7777
MODE_FOLDER, MODE_FILE, MODE_PROGRAM, MODE_LINK = 0o40000, 0o100644, 0o100755, 0o120000


class SmallFile(NamedTuple):
    """A file whose bytes are a git blob."""

    oid: bytes
    size: int
    permissions: int
    changed: bool = False
    link: int | None = None


class Symlink(NamedTuple):
    """A symbolic link: the blob of its target where git carries it, else the target itself."""

    oid: bytes | None
    target: bytes | None


class LargeFile(NamedTuple):
    """A file whose bytes are an object."""

    digest: Digest
    size: int
    permissions: int
    mtime_ns: int
    changed: bool = False
    link: int | None = None


class Folder(NamedTuple):
    """A folder, and whether nothing of it is stored."""

    permissions: int
    empty: bool


@dataclass(frozen=True)
class Contents:
    """All that one backup holds, but for what TensorTime writes itself."""

    small: Mapping[RelPath, SmallFile]
    large: Mapping[RelPath, LargeFile]
    links: Mapping[RelPath, Symlink]
    folders: Mapping[RelPath, Folder]
    root_mode: int
    """Permission bits of the project's own folder."""
    extra: Mapping[bytes, bytes] = field(default_factory=dict)
    """Files of `.tensortime/` beside those that every backup has; also such that a later version wrote."""

    @property
    def regular(self) -> Iterator[SmallFile | LargeFile]:
        """All files but the links."""
        yield from self.small.values()
        yield from self.large.values()

    @property
    def files(self) -> int:
        """How many files, links included."""
        return len(self.small) + len(self.large) + len(self.links)

    @cached_property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(attrgetter("size"), self.regular))


class Layout(NamedTuple):
    """Where each path of a backup is kept."""

    git: Mapping[bytes, Sequence[TreeEntry]]
    """By folder, the rows of the files and links that git carries in it."""
    manifest: Manifest


def rows_of(items: Iterable[tuple[bytes, int, bytes]]) -> dict[bytes, list[TreeEntry]]:
    """Paths that git carries, each with mode and id, as rows by folder."""
    rows: dict[bytes, list[TreeEntry]] = defaultdict(list)
    make = tuple.__new__  # runs for every file: a NamedTuple's own constructor costs three times as much
    for path, mode, oid in items:
        folder, _, name = path.rpartition(b"/")
        rows[folder].append(make(TreeEntry, (mode, name, oid)))
    return rows


def lay_out(contents: Contents) -> Layout:
    """Divide the contents between git and the manifest."""
    umask = common_umask(
        Counter(map(attrgetter("permissions"), contents.regular)),
        Counter(folder.permissions for folder in contents.folders.values()),
    )
    entries: dict[RelPath, ManifestEntry] = {}
    plain = {plain_mode(0, umask), plain_mode(0o100, umask)}
    for path, (_, _, permissions, changed, link) in contents.small.items():
        if permissions not in plain or changed or link is not None:
            odd = None if permissions in plain else permissions
            entries[path] = ManifestEntry(path, SMALL, odd, changed=changed, link=link)
    git = rows_of(
        chain(
            (
                (path, MODE_PROGRAM if small.permissions & 0o100 else MODE_FILE, small.oid)
                for path, small in contents.small.items()
            ),
            ((path, MODE_LINK, link.oid) for path, link in contents.links.items() if link.oid is not None),
        )
    )
    for path, large in contents.large.items():
        mode = None if large.permissions == 0o666 & ~umask else large.permissions
        entries[path] = ManifestEntry(
            path, FILE, mode, large.size, large.digest, large.mtime_ns, None, large.changed, large.link
        )
    for path, symlink in contents.links.items():
        if symlink.oid is None:
            entries[path] = ManifestEntry(path, SYMLINK, target=symlink.target)
    for path, folder in contents.folders.items():
        odd = folder.permissions != 0o777 & ~umask
        if folder.empty or odd:
            entries[path] = ManifestEntry(path, FOLDER, folder.permissions if odd else None)
    root_mode = None if contents.root_mode == 0o777 & ~umask else contents.root_mode
    return Layout(git, Manifest(entries, umask, root_mode))


def link_goes_into_git(path: bytes) -> bool:
    """Whether git can carry a symbolic link at this path."""
    return goes_into_git(path) and not git_refuses_link(path.rpartition(b"/")[2])


def meta_files(layout: Layout) -> dict[bytes, bytes]:
    """`manifest`, its shards, and `exclude`, by their path in `.tensortime/`."""
    outside = [entry.path for entry in layout.manifest.entries.values() if entry.kind in (FILE, SYMLINK)]
    exclude = encode_exclude(folders_of_nothing_else(outside, layout.git))
    return {**encode_manifest(layout.manifest), b"exclude": exclude}


def is_own_meta(name: bytes) -> bool:
    """Whether a file of `.tensortime/` is one that each backup writes anew."""
    return name in (b"manifest", b"exclude", b"run.json") or name.startswith(b"manifest.d/")


def write_tree(writer: PackWriter, known: set[bytes], layout: Layout, meta: Mapping[bytes, bytes]) -> bytes:
    """Write the trees of a layout and the files of `.tensortime/`; returns the id of the top tree."""
    children = defaultdict(list, {folder: [*rows] for folder, rows in layout.git.items()})
    children.setdefault(b"", [])
    for relative, data in meta.items():
        folder, _, name = (META + b"/" + relative).rpartition(b"/")
        oid = write_object(writer, known, Kind.BLOB, data)
        children[folder].append(TreeEntry(MODE_FILE, name, oid))
    add_folders_between(children)
    top = b""
    # Deepest first: a tree is written when all below it are.
    for folder in sorted(children, key=lambda path: path.count(b"/") if path else -1, reverse=True):
        top = write_object(writer, known, Kind.TREE, encode_tree(children[folder]))
        if folder:
            above, _, name = folder.rpartition(b"/")
            children[above].append(TreeEntry(MODE_FOLDER, name, top))
    return top


def add_folders_between(children: dict[bytes, list[TreeEntry]]) -> None:
    """Make sure that every folder above a listed one is listed."""
    for folder in list(children):
        above = folder.rpartition(b"/")[0]
        while above and above not in children:
            children[above] = []
            above = above.rpartition(b"/")[0]


def write_object(writer: PackWriter, known: set[bytes], kind: Kind, data: bytes) -> bytes:
    """Write an object unless the store has it; returns its id and notes it as known."""
    oid = object_id(kind, data)
    if oid not in known:
        writer.add(pack_object(kind, data, oid))
        known.add(oid)
    return oid


def link_groups(files: Iterable[tuple[RelPath, int, int]]) -> dict[RelPath, int]:
    """Number the groups of paths that share (device, inode); a path alone in its group has none."""
    groups: dict[tuple[int, int], list[RelPath]] = defaultdict(list)
    for path, device, inode in files:
        groups[device, inode].append(path)
    shared = sorted(sorted(paths) for paths in groups.values() if len(paths) > 1)
    return {path: number for number, paths in enumerate(shared, 1) for path in paths}

"""Single files of a backup: on stdout for `show EXP PATH`, as plain files for `restore EXP --path`."""

import contextlib
import difflib
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tensortime import fsops
from tensortime.checkout import (
    RESTORED_BITS,
    parent_of,
    place_large,
    place_plain,
    watch_links,
)
from tensortime.destination import refuse_inside_store
from tensortime.errors import (
    Damaged,
    Message,
    NoSpace,
    StoreUnusable,
    TargetExists,
    UnknownPath,
    UsageError,
    message,
)
from tensortime.formats import RelPath, bytes_of, is_under, text_of
from tensortime.history import Target
from tensortime.manifest import FILE, FOLDER, SYMLINK, ManifestEntry, plain_mode
from tensortime.monitor import Monitor
from tensortime.packs import Kind, object_id
from tensortime.plans import Plan, is_meta, read_plan
from tensortime.reports import RestoreReport
from tensortime.shadow import TreeItem
from tensortime.sidecar import POINTING
from tensortime.store import Store
from tensortime.trees import MODE_FOLDER, MODE_LINK, MODE_PROGRAM
from tensortime.worktrees import PARTIAL

EVERYTHING_TYPED, EVERYTHING = ".", b"."

READ_AT_ONCE = 64 << 20
"""Bytes of small files that one git process hands over at a time."""


@dataclass(frozen=True)
class Selection:
    """The paths of a backup that somebody asked for."""

    items: Sequence[TreeItem]
    entries: Sequence[ManifestEntry]

    @property
    def files(self) -> int:
        """How many files, links included."""
        return len(self.items) + sum(1 for entry in self.entries if entry.kind in (FILE, SYMLINK))

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(item.size for item in self.items) + sum(entry.size or 0 for entry in self.entries)


def select(plan: Plan, target: Target, paths: Sequence[str]) -> Selection:
    """The files at and below these paths; UnknownPath names the first that is not there."""
    wanted = [typed_path(path) for path in paths]
    items = [item for item in plan.items if item.mode != MODE_FOLDER and is_asked_for(item.path, wanted)]
    items = [item for item in items if not is_meta(item.path) or any(map(is_meta, wanted))]
    entries = [entry for entry in plan.entries if is_asked_for(entry.path, wanted)]
    known = {item.path for item in plan.items} | set(plan.manifest.entries)
    for top in wanted:
        if top != EVERYTHING and not any(is_under(path, top) for path in known):
            raise UnknownPath(
                "{experiment} holds no {path}",
                experiment=target.experiment.name,
                path=text_of(top),
                hint=near_path(text_of(top), known),
            )
    return Selection(items, entries)


def typed_path(path: str) -> bytes:
    """A path as the store knows it: `./data/` is `data`, `.` is all. UsageError for an empty one."""
    if not path:
        raise UsageError("an empty path names nothing", hint=". is everything")
    return bytes_of(os.path.normpath(path.strip("/")))


def is_asked_for(path: bytes, tops: Sequence[bytes]) -> bool:
    """Whether a path lies at or under one that was named."""
    return any(top == EVERYTHING or is_under(path, top) for top in tops)


def near_path(wanted: str, known: set[RelPath]) -> Message | str:
    """A hint: the path that was probably meant."""
    name = wanted.rpartition("/")[2]
    same_name = [text_of(path) for path in known if text_of(path).rpartition("/")[2] == name]
    near = same_name or difflib.get_close_matches(wanted, map(text_of, known), 1, 0.6)
    return message("did you mean {name}?", name=min(near, key=len)) if near else ""


def read_one(store: Store, target: Target, path: str) -> tuple[bytes | None, ManifestEntry | None]:
    """One file: its bytes where git holds them, else the manifest's entry. UnknownPath for a folder too."""
    plan = read_plan(store, target)
    selection = select(plan, target, [path])
    wanted = typed_path(path)
    for entry in selection.entries:
        if entry.path == wanted and entry.kind == FILE:
            return None, entry
        if entry.path == wanted and entry.kind == SYMLINK:
            return entry.target, None
    for item in selection.items:
        if item.path == wanted:
            return read_blob(store, item), None
    raise UnknownPath(
        "{path} is a folder",
        path=path,
        hint=message("tensortime restore {name} --path {path}", name=target.experiment.name, path=path),
    )


def read_blob(store: Store, item: TreeItem) -> bytes:
    """The bytes of a small file, checked against their id."""
    for _, data in store.shadow.read_objects([item.oid.hex()], missing_ok=True):
        if object_id(Kind.BLOB, data) == item.oid:
            return data
    raise Damaged("{path} cannot come back: the store holds other bytes", path=text_of(item.path))


def restore_paths(
    store: Store, target: Target, paths: Sequence[str], destination: str, how: str, monitor: Monitor
) -> RestoreReport:
    """Put single files below `destination`; TargetExists before anything is written if one is there already."""
    started = time.monotonic()
    with store.in_use():
        plan = read_plan(store, target)
        selection, tops = select(plan, target, paths), [typed_path(path) for path in paths]
        refuse_inside_store(store, destination)
        top = os.fsencode(destination)
        for path in (*(item.path for item in selection.items), *(one.path for one in selection.entries)):
            place = top + b"/" + path
            if os.path.lexists(place) and (os.path.islink(place) or not os.path.isdir(place)):
                raise TargetExists(
                    "{path} exists already",
                    path=os.fsdecode(place),
                    hint="name another folder as DEST",
                )
        monitor.begin("place", selection.files, selection.size)
        is_new = not os.path.lexists(destination)
        try:
            placed = place_selection(store, plan, selection, destination, how, monitor)
        except OSError as problem:
            if is_new:
                fsops.remove_tree(destination)
            kind = NoSpace if problem.errno in fsops.FULL else StoreUnusable
            raise kind(
                "{path} cannot be made: {problem}",
                path=destination,
                problem=problem.strerror or str(problem),
            ) from problem
    return RestoreReport(
        target.experiment.name,
        target.commit,
        destination,
        selection.files,
        selection.size,
        dict(placed),
        skipped=tuple(one for one in plan.skipped if is_asked_for(bytes_of(one.path), tops)),
        changed=tuple(text_of(entry.path) for entry in selection.entries if entry.changed),
        seconds=time.monotonic() - started,
    )


def place_selection(
    store: Store, plan: Plan, selection: Selection, destination: str, how: str, monitor: Monitor
) -> Counter[str]:
    """Write the selected files; counts the methods of the large ones."""

    def advance(size: int) -> None:
        monitor.advance(0, size)

    umask = plan.manifest.umask
    os.makedirs(destination, exist_ok=True)
    root = fsops.open_folder(destination)
    placed: Counter[str] = Counter()
    if how in POINTING:
        # Before there are any: the links made until something fails can be written through too.
        watch_links(store, {entry.digest for entry in selection.entries if entry.digest})
    try:
        for portion in portions(selection.items):
            blobs = dict(store.shadow.read_objects([item.oid.hex() for item in portion], missing_ok=True))
            for item in portion:
                place_small(root, item, blobs.get(item.oid.hex()), plan)
                monitor.advance(1, item.size)
        for entry in selection.entries:
            if entry.kind == FILE:
                with named_when_whole(root, entry.path, umask) as staged:
                    method = place_large(store.sidecar(), root, entry, umask, how, advance, staged=staged)
                placed[method] += 1
                monitor.advance(1, 0)
            elif entry.kind in (FOLDER, SYMLINK):
                place_plain(root, entry, umask)
    finally:
        os.close(root)
    return placed


@contextlib.contextmanager
def named_when_whole(root: int, path: RelPath, umask: int) -> Iterator[RelPath]:
    """Yield another name beside a path for what is to be there: it gets its own once it is right, or goes."""
    with parent_of(root, path, umask) as (folder, name):
        staged = b".tensortime-" + os.urandom(6).hex().encode() + PARTIAL.encode()
        try:
            yield RelPath(path.removesuffix(name) + staged)
            fsops.rename_file_to_new(folder, staged, name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(staged, dir_fd=folder)
            raise


def portions(items: Sequence[TreeItem]) -> Sequence[list[TreeItem]]:
    """Items in lists of about READ_AT_ONCE bytes."""
    parts: list[list[TreeItem]] = [[]]
    size = 0
    for item in items:
        if size > READ_AT_ONCE:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += item.size
    return parts


def place_small(root: int, item: TreeItem, data: bytes | None, plan: Plan) -> None:
    """Write one small file or link, whose bytes are checked against their id."""
    if data is None or object_id(Kind.BLOB, data) != item.oid:
        raise Damaged("{path} cannot come back: the store holds other bytes", path=text_of(item.path))
    entry, umask = plan.manifest.entries.get(item.path), plan.manifest.umask
    mode = plain_mode(0o100 if item.mode == MODE_PROGRAM else 0, umask)
    if item.mode == MODE_LINK:
        with parent_of(root, item.path, umask) as (folder, name):
            os.symlink(data, name, dir_fd=folder)
        return
    with (
        named_when_whole(root, item.path, umask) as staged,
        parent_of(root, staged, umask) as (folder, name),
    ):
        fd = fsops.create_file(name, 0o600, dir_fd=folder)
        try:
            fsops.write_all(fd, data, 0)
            os.fchmod(fd, mode if entry is None or entry.mode is None else entry.mode & RESTORED_BITS)
        finally:
            os.close(fd)

"""What processes that are gone left in a store: half-written files of ours, and what git leaves behind.

Only what is old enough to have no owner counts, and what no process can be writing while we hold the store alone.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tensortime import fsops
from tensortime.reach import EXPERIMENT, TRASHED, Root
from tensortime.records import record_folders, records_folder
from tensortime.store import DEAD_SECONDS, STALE_SECONDS, Store

HALF_PACK = re.compile(r"(tmp_(pack|idx|rev|mtimes|bitmap)_|\.tmp-).*")
HALF_OBJECT = re.compile(r"tmp_obj_.*")
STAGING = re.compile(r"\d+-[0-9a-f]{12}")


class Leftover(NamedTuple):
    """A file or folder that nobody needs."""

    path: str
    size: int


def find_leftovers(store: Store, now: float, *, alone: bool) -> list[Leftover]:
    """What can go. `alone`: we hold the store alone, so that no process of ours has begun anything in it."""
    patience = STALE_SECONDS if alone else DEAD_SECONDS
    # In a worktree, and where objects lie loose, a person's own git may be at work.
    found = [
        *files_like(store.path(".shadow", "objects", "pack"), HALF_PACK, now - patience),
        *files_like(
            store.path(".shadow"), re.compile(r"fast_import_crash_.*|packed-refs\.new"), now - patience
        ),
        *lock_files(store.path(".shadow"), now - patience, now - DEAD_SECONDS),
    ]
    for folder in loose_folders(store):
        found += files_like(folder, HALF_OBJECT, now - DEAD_SECONDS)
    return [*found, *stale_staging(store, now, alone)]


def files_like(folder: str, pattern: re.Pattern[str], before: float) -> Iterator[Leftover]:
    """The files of a folder with such a name that were last written before a time."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                info = entry.stat(follow_symlinks=False)
                if info.st_mtime < before:
                    yield Leftover(entry.path, info.st_blocks * 512)


def lock_files(top: str, before: float, before_in_worktrees: float) -> Iterator[Leftover]:
    """The locks of git whose process is gone: until they go, their ref or index cannot be written."""
    any_lock = re.compile(r".+\.lock")
    yield from files_like(top, any_lock, before)
    for name, limit in (("refs", before), ("worktrees", before_in_worktrees)):
        for folder, _, _ in os.walk(os.path.join(top, name)):
            yield from files_like(folder, any_lock, limit)


def loose_folders(store: Store) -> list[str]:
    """Where git writes objects that are in no pack."""
    top = store.path(".shadow", "objects")
    return [os.path.join(top, name) for name in os.listdir(top) if re.fullmatch(r"[0-9a-f]{2}", name)]


def stale_staging(store: Store, now: float, alone: bool) -> Iterator[Leftover]:
    """Staging folders whose process is gone: nobody holds their lock. One that may just be made is not touched."""
    top = store.path(".tmp")
    for name in os.listdir(top):
        path = os.path.join(top, name)
        if not STAGING.fullmatch(name) or os.path.islink(path):
            continue
        with contextlib.suppress(OSError):
            if not alone and now - os.lstat(path).st_mtime <= DEAD_SECONDS:
                continue
            with fsops.locked(os.path.join(path, "lock")) as got:
                if got:
                    yield Leftover(path, size_of(path))


def size_of(top: str) -> int:
    """The bytes on disk below a folder."""
    total = 0
    for folder, _, names in os.walk(top):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total


def appended(store: Store, now: float) -> dict[str, tuple[Leftover, float]]:
    """What experiments have appended, by their names, and by `@<time>` of the trash; with the seconds since the last."""
    found = {}
    for name, last in record_folders(store.folder).items():
        path = records_folder(store.folder, name)
        found[name] = Leftover(path, size_of(path)), now - last
    return found


def unowned(
    records: Mapping[str, tuple[Leftover, float]], roots: Sequence[Root], dropped: Sequence[Root]
) -> Iterator[Leftover]:
    """What was appended by experiments that are gone: at once where they go now, else when it is a day old."""
    owners = {owner_of(root) for root in roots}
    going = {owner_of(root) for root in dropped}
    for name, (folder, age) in records.items():
        if name not in owners and (name in going or age > DEAD_SECONDS):
            yield folder


def owner_of(root: Root) -> str:
    """The name under `.records/` that belongs to a root; empty where none does."""
    if root.kind == TRASHED:
        return "@" + root.ref.split("/")[2]
    return root.name if root.kind == EXPERIMENT else ""

"""The watch over hard-linked objects: the user's own file is the object, and the user can write to it.

`.cache/hardlinks` remembers the stat of each. It is only a shortcut: where it is missing, every object with
more than one link is hashed again.
"""

import contextlib
import errno
import json
import os
from collections.abc import Collection, Iterator

from tensortime import fsops
from tensortime.formats import Digest, parse_digest
from tensortime.sidecar import Sidecar, is_right
from tensortime.statcache import LARGE_WINDOW_NS, StatKey, is_settled
from tensortime.store import Store

Watched = dict[Digest, list[int]]
"""The stat that each object had when its bytes were right."""

NO_FILE = {errno.ELOOP, errno.EINVAL}
"""How opening a link or a folder as a regular file fails."""

LOOK_AGAIN: list[int] = []
"""In place of a stat that does not stand for the bytes: the next backup hashes this object again."""


def watch_file(store: Store) -> str:
    """Where the stats are remembered."""
    return store.path(".cache", "hardlinks")


def read_watched(path: str) -> Watched | None:
    """The remembered stats; None where they cannot be read."""
    try:
        rows = json.loads(fsops.read_file(path))
        return {parse_digest(digest): [int(number) for number in stat] for digest, stat in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def update_watched(
    store: Store, rows: Watched, *, lost: Collection[Digest] = (), keep_known: bool = False
) -> None:
    """Remember these stats, forget what was lost, keep what others noted meanwhile.

    `keep_known`: this is an addition. Where nothing can be read nothing is written then: a list of a few would
    hide the others, while no list makes the next backup look at all.
    """
    with fsops.locked(store.path(".tmp", "hardlinks.lock"), wait=1.0):
        found = read_watched(watch_file(store))
        if found is None and keep_known:
            return
        kept = {digest: stat for digest, stat in (found or {}).items() if digest not in lost}
        merged = {**kept, **rows}
        if merged != found:
            data = json.dumps(merged, sort_keys=True).encode()
            fsops.write_atomic(watch_file(store), data, staging=store.path(".tmp"), durable=False)


def forget_watched(store: Store) -> None:
    """Remember nothing until the next `update_watched`: whoever is killed while he links leaves an object that nobody
    watches, and without a list all are looked at."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(watch_file(store))
        fsops.sync_folder(store.path(".cache"))


def stat_of(sidecar: Sidecar, digest: Digest, now_ns: int) -> tuple[list[int], bool] | None:
    """What changes when somebody writes to an object, and whether it stands for the bytes; None if it is gone."""
    try:
        info = os.lstat(sidecar.path_of(digest))
    except OSError:
        return None
    key = StatKey(info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
    return list(key), is_settled(key, now_ns, LARGE_WINDOW_NS)


def linked_objects(sidecar: Sidecar) -> Iterator[Digest]:
    """All objects that have another name somewhere."""
    top = os.path.join(sidecar.folder, "blake3")
    for folder in sorted(os.listdir(top)):
        with os.scandir(os.path.join(top, folder)) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_nlink > 1:
                    yield Digest(f"blake3:{folder}{entry.name}")


def drop(sidecar: Sidecar, digest: Digest) -> None:
    """Take the name of an object away; a folder in its place is moved aside."""
    try:
        os.unlink(sidecar.path_of(digest))
    except (IsADirectoryError, PermissionError):  # the latter: macOS says so of a folder
        sidecar.move_aside(digest)


def drop_written(sidecar: Sidecar, watched: Watched | None, now_ns: int) -> tuple[Watched, list[Digest]]:
    """The hard-linked objects that are still right with their stats, and those that somebody wrote to.

    The latter lose their name in the store (the user's file stays), so that nobody takes the wrong bytes for
    them and a later backup can store the right ones again.
    """
    remembered = watched if watched is not None else dict.fromkeys(linked_objects(sidecar), LOOK_AGAIN)
    good: Watched = {}
    lost: list[Digest] = []
    for digest, stat in remembered.items():
        # Before the bytes are read: a write that comes meanwhile then shows as a change later.
        now = stat_of(sidecar, digest, now_ns)
        if now is None:
            continue
        try:
            right = now[0] == stat or is_right(sidecar, digest)
        except OSError as problem:
            # A file that just cannot be read (no descriptor, an error of the disk) keeps its name.
            right, now = problem.errno not in NO_FILE, (LOOK_AGAIN, False)
        if right:
            good[digest] = now[0] if now[1] else LOOK_AGAIN
        else:
            drop(sidecar, digest)
            lost.append(digest)
    return good, lost

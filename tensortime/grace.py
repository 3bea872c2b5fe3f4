"""A day of grace: how gc deletes where no lock tells who else uses the store.

What nobody needs is withdrawn first; from then on no backup relies on it. A day later, if nobody needs it still, the
very file that was withdrawn is deleted.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence

from tensortime.formats import Digest
from tensortime.garbage import GcPlan, freed_by
from tensortime.repacking import pack_folder
from tensortime.store import Store
from tensortime.withdrawn import (
    UNUSED,
    Mark,
    Withdrawn,
    changing_withdrawn,
    file_id,
    read_withdrawn,
    write_withdrawn,
)

GRACE_NS = 24 * 3600 * 1_000_000_000
"""Where locks cannot be trusted: so long something is withdrawn before it is deleted."""


def now_ns() -> int:
    """The time."""
    return time.time_ns()


def ripe(
    store: Store, plan: GcPlan, packs: Sequence[tuple[str, int]]
) -> tuple[dict[Digest, Mark], dict[str, Mark], int]:
    """The objects and packs that were withdrawn long enough ago, and the bytes that wait. All else that nobody needs is withdrawn now; what is needed again no longer.

    A backup that began before something was withdrawn may rely on it: as long as one runs nothing is ripe.
    """
    now, sidecar = now_ns(), store.sidecar()
    oldest = min(running_since_ns(store), default=now)
    with changing_withdrawn(store.folder) as known:
        marks = {digest: mark for digest, mark in known.objects.items() if mark.why != UNUSED}
        waiting = 0
        ready: dict[Digest, Mark] = {}
        for digest, one in plan.objects:
            with contextlib.suppress(FileNotFoundError):
                file, old = file_id(os.lstat(sidecar.path_of(digest))), known.objects.get(digest)
                same = old is not None and old.why == UNUSED and old.file == file
                mark = old if old is not None and same else Mark(UNUSED, now, file)
                marks[digest] = mark
                if is_ripe(mark, now, oldest):
                    ready[digest] = mark
                else:
                    waiting += freed_by(one)
        # Whether others have all of a pack is known only after these were read: until then its mark stays.
        rewritten = {one.name for one in plan.rewrites if not one.needed}
        kept = {name: mark for name, mark in known.packs.items() if name in rewritten}
        pack_marks, ready_packs = dict[str, Mark](kept), dict[str, Mark]()
        for name, size in packs:
            with contextlib.suppress(FileNotFoundError):
                before = known.packs.get(name)
                if before is not None and is_same_pack(store, name, before):
                    mark = before
                else:
                    mark = Mark(UNUSED, now, file_id(os.lstat(pack_file(store, name))))
                pack_marks[name] = mark
                if is_ripe(mark, now, oldest):
                    ready_packs[name] = mark
                else:
                    waiting += size
        write_withdrawn(store.folder, Withdrawn(marks, pack_marks, known.copies))
    return ready, ready_packs, waiting


def pack_file(store: Store, name: str) -> str:
    """Where a pack lies."""
    return os.path.join(pack_folder(store), name + ".pack")


def is_same_pack(store: Store, name: str, mark: Mark) -> bool:
    """Whether a pack is the very file that was withdrawn: a backup of the same files writes one of the same name."""
    try:
        return file_id(os.lstat(pack_file(store, name))) == mark.file
    except FileNotFoundError:
        return False


def is_ripe(mark: Mark, now: int, oldest: int) -> bool:
    """Whether something was withdrawn a day ago, and before every backup that runs began."""
    return now - mark.since_ns >= GRACE_NS and oldest > mark.since_ns


def running_since_ns(store: Store) -> Iterator[int]:
    """When each process that stages something began."""
    for name in os.listdir(store.path(".tmp")):
        with contextlib.suppress(OSError):
            if os.path.isdir(store.path(".tmp", name)):
                yield os.lstat(store.path(".tmp", name, "lock")).st_mtime_ns


def take_aside(store: Store, path: str, mark: Mark) -> bool:
    """Delete the very file that was withdrawn; one that a backup has just put in its place stays."""
    aside = store.path(".tmp", f"gc-{os.urandom(8).hex()}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return False
    if file_id(os.lstat(aside)) != mark.file:
        os.rename(aside, path)
        return False
    os.unlink(aside)
    return True


def forget_gone(store: Store) -> None:
    """Let what is withdrawn be only what is there and damaged: the rest a gc that is alone has just dealt with."""
    if read_withdrawn(store.folder).is_empty():
        return
    sidecar = store.sidecar()
    with changing_withdrawn(store.folder) as known:
        objects: dict[Digest, Mark] = {}
        for digest, mark in known.objects.items():
            with contextlib.suppress(FileNotFoundError):
                if mark.why != UNUSED and mark.file == file_id(os.lstat(sidecar.path_of(digest))):
                    objects[digest] = mark
        there = {os.path.splitext(name)[0] for name in os.listdir(pack_folder(store))}
        copies = {name: oids for name, oids in known.copies.items() if name in there}
        write_withdrawn(store.folder, Withdrawn(objects, {}, copies))

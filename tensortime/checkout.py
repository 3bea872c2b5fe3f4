"""One restore: resolve, `worktree add` under a `.partial` name, place, modes, re-hash, rename.

The final name appears only when everything below it was read back and is right. Nothing is written over
anything, and no symbolic link is followed on the way to a file.
"""

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tensortime import fsops, hardlinks
from tensortime.destination import discard, refuse_taken, remove_stale
from tensortime.errors import (
    Damaged,
    GitFailed,
    NoSpace,
    StoreBusy,
    StoreUnusable,
    message,
)
from tensortime.formats import Digest, RelPath, text_of
from tensortime.history import Target
from tensortime.intake import THREADS, read_bytes
from tensortime.manifest import FILE, FOLDER, SMALL, SYMLINK, ManifestEntry
from tensortime.monitor import Meter, Monitor
from tensortime.packs import Kind, object_id
from tensortime.plans import Plan, make_plan
from tensortime.project import read_record
from tensortime.reports import RestoreReport
from tensortime.shadow import TreeItem
from tensortime.sidecar import HARDLINK, POINTING, Sidecar, place_object
from tensortime.sidecar import SYMLINK as BY_SYMLINK
from tensortime.store import LOCK_WAIT, Store
from tensortime.threads import begin, in_threads, threads
from tensortime.trees import MODE_FOLDER, MODE_LINK
from tensortime.worktrees import PARTIAL, claimed, link_worktree, mend_worktrees, write_marker

if TYPE_CHECKING:
    from concurrent.futures import Future

RESTORED_BITS = 0o1777
"""setuid and setgid are not given back: the bytes are the same, who may become whom is not ours to decide."""

BATCH = 256
MOST_LOOKS = 64
"""Batches that are not there yet, before git is given time for more."""
LOOK_SECONDS = 0.02
"""How long to wait for git where it has finished nothing meanwhile."""
RECORD_BYTES = 1 << 16
"""What git's record of a worktree takes at least."""

LINKS = ("auto", "reflink", "copy", "hardlink", "symlink")


def restore(
    store: Store, project: str, target: Target, destination: str, how: str, monitor: Monitor
) -> RestoreReport:
    """Make a worktree of a backup at `destination` (absolute). TargetExists, Damaged, NoSpace, StoreBusy."""
    started = time.monotonic()
    with store.in_use():
        mend_worktrees(store)
        with claimed(store, destination, wait=LOCK_WAIT) as got:
            if not got:
                raise busy(destination)
            refuse_taken(store, target, destination, monitor)
            plan = make_plan(store, target)
            partial = destination + PARTIAL
            remove_stale(store, partial)
            try:
                make_place(destination)
            except OSError as problem:
                raise explain(problem, store, plan, destination) from problem
            try:
                report = build(store, project, target, plan, partial, destination, how, monitor)
            except BaseException as problem:
                discard(partial)
                raise explain(problem, store, plan, destination) from problem
    return replace(report, seconds=time.monotonic() - started)


def busy(destination: str) -> StoreBusy:
    """The error where another restore has the destination."""
    return StoreBusy(
        "another process is restoring into {path}",
        path=destination,
        hint=message("name another folder; if none is, remove {partial}", partial=destination + PARTIAL),
    )


def make_place(destination: str) -> None:
    """Make the folder in which git makes the worktree: what speaks against the place is said by the system. StoreBusy."""
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    try:
        os.mkdir(destination + PARTIAL)
    except FileExistsError as problem:  # locks do not keep others out here: it is not ours to remove
        raise busy(destination) from problem


def build(
    store: Store,
    project: str,
    target: Target,
    plan: Plan,
    partial: str,
    destination: str,
    how: str,
    monitor: Monitor,
) -> RestoreReport:
    """Fill `partial` and rename it."""
    monitor.begin("place", plan.files, plan.size)
    admin = make_worktree(store, target, plan, partial)
    root = fsops.open_folder(partial)
    try:
        with threads(1) as pool:
            # What git finds there already it does not make: two who make the same folder would get into each other's
            # way. But a file it puts in the place of another one: where two names may be one, it comes first.
            if not plan.has_twins:
                make_folders(root, plan)
            written = begin(pool, lambda: check_out(store, admin, plan, partial))
            if plan.has_twins:
                wait_for(written, monitor)
                make_folders(root, plan)
            placed = place_all(store, root, plan, how, monitor)
            check_small(root, plan, monitor, written)
        give_modes(root, plan)
    finally:
        os.close(root)
    link_worktree(store, admin, partial, destination, project)
    if plan.manifest.root_mode is not None:
        os.chmod(partial, plan.manifest.root_mode & RESTORED_BITS)
    fsops.rename_to_new(partial, destination)
    with contextlib.suppress(OSError):
        fsops.sync_folder(os.path.dirname(destination))
    plain = tuple(text_of(entry.path) for entry in plan.entries if (entry.mode or 0) & ~RESTORED_BITS)
    return RestoreReport(
        target.experiment.name,
        target.commit,
        destination,
        plan.files,
        plan.size,
        dict(placed),
        plain,
        plan.skipped,
        plan.changed,
    )


def make_worktree(store: Store, target: Target, plan: Plan, partial: str) -> str:
    """Let git make a worktree without files in a folder that we made; returns its record."""
    os.chmod(partial, 0o777 & ~plan.manifest.umask)
    store.shadow.add_worktree(os.fsencode(partial), target.commit, plan.manifest.umask)
    admin = read_record(partial)
    if admin is None:
        raise GitFailed("git made no worktree at {path}", path=partial)
    write_marker(admin, target)
    return admin


def check_out(store: Store, admin: str, plan: Plan, partial: str) -> None:
    """Let git write the small files."""
    store.shadow.fill_worktree(admin, partial, plan.manifest.umask)


def wait_for(written: "Future[None]", monitor: Monitor) -> None:
    """Wait for git, which says nothing meanwhile: whoever watches sees that something happens. What it failed of."""
    while not written.done():
        monitor.advance(0, 0)
        time.sleep(LOOK_SECONDS)
    written.result()


def make_folders(root: int, plan: Plan) -> None:
    """The folders and links of the manifest, and the folders around large files."""
    umask = plan.manifest.umask
    for entry in plan.entries:
        if entry.kind in (FOLDER, SYMLINK):
            place_plain(root, entry, umask)
    for folder in sorted({entry.path.rpartition(b"/")[0] for entry in plan.entries if entry.kind == FILE}):
        if folder:
            with parent_of(root, RelPath(folder), umask) as (above, name):
                make_folder(above, name, umask)


def place_all(store: Store, root: int, plan: Plan, how: str, monitor: Monitor) -> Counter[str]:
    """All large files, in threads; counts the methods."""
    sidecar, umask = store.sidecar(), plan.manifest.umask
    large = [entry for entry in plan.entries if entry.kind == FILE]
    lock, stop = threading.Lock(), threading.Event()

    def place(entry: ManifestEntry) -> str:
        meter = Meter(monitor, entry.size or 0, lock, stop)
        method = place_large(sidecar, root, entry, umask, how, meter)
        meter.finish()
        return method

    if how in POINTING and large:
        watch_links(store, {entry.digest for entry in large if entry.digest})
    with threads(min(THREADS, len(large))) as pool:
        return Counter(in_threads(pool, place, large, THREADS, stop))


def place_plain(root: int, entry: ManifestEntry, umask: int) -> None:
    """A folder, or a link that git would not carry."""
    with parent_of(root, entry.path, umask) as (folder, name):
        if entry.kind == FOLDER:
            make_folder(folder, name, umask)
        else:
            os.symlink(entry.target or b"", name, dir_fd=folder)


def place_large(
    sidecar: Sidecar,
    root: int,
    entry: ManifestEntry,
    umask: int,
    how: str,
    advance: Callable[[int], None],
    *,
    staged: RelPath | None = None,
) -> str:
    """One large file (at `staged` instead of its path) with its mode and time; returns the method.

    Damaged names the path.
    """
    if entry.digest is None or entry.size is None:
        raise Damaged("the manifest is damaged: {path} has no digest", path=text_of(entry.path))
    with parent_of(root, staged or entry.path, umask) as (folder, name):
        try:
            method = place_object(sidecar, entry.digest, entry.size, folder, name, how, advance)
        except Damaged as problem:
            raise Damaged(
                "{path} cannot come back: {problem}", path=text_of(entry.path), problem=str(problem)
            ) from problem
        if method not in (HARDLINK, BY_SYMLINK):
            mode = 0o666 & ~umask if entry.mode is None else entry.mode & RESTORED_BITS
            os.chmod(name, mode, dir_fd=folder)
            give_time(folder, name, entry.mtime_ns)
    return method


def give_time(folder: int, name: bytes, mtime_ns: int | None) -> None:
    """The file's own modification time, as near as the file system can keep it."""
    if mtime_ns is not None:
        # Not bounded by 64 bits of nanoseconds, which end in 2262: the kernel counts seconds.
        with contextlib.suppress(OSError, OverflowError):
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=folder, follow_symlinks=False)


@contextlib.contextmanager
def parent_of(root: int, path: RelPath, umask: int) -> Iterator[tuple[int, bytes]]:
    """The open folder above a path, made where it is missing, following no link; and the last component."""
    *parts, name = path.split(b"/")
    folder = os.dup(root)
    try:
        for part in parts:
            make_folder(folder, part, umask)
            below = fsops.open_folder(part, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder, name
    finally:
        os.close(folder)


def make_folder(folder: int, name: bytes, umask: int) -> None:
    """A folder with the mode that the experiment's umask gives, unless it is there."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
        os.chmod(name, 0o777 & ~umask, dir_fd=folder)


def give_modes(root: int, plan: Plan) -> None:
    """The modes that the manifest states, deepest first: a folder may come to refuse what lies below."""
    for entry in reversed(plan.entries):
        if entry.mode is not None and entry.kind in (SMALL, FOLDER):
            with parent_of(root, entry.path, plan.manifest.umask) as (folder, name):
                fd = fsops.open_unfollowed(name, folder)
                try:
                    os.fchmod(fd, entry.mode & RESTORED_BITS)
                finally:
                    os.close(fd)


def check_small(root: int, plan: Plan, monitor: Monitor, written: "Future[None]") -> None:
    """Read back what git writes, while it writes: git itself does not compare a file with its id at checkout.

    A file that is right is whole, and git is done with it. `written`: git's work. Damaged, and what git failed of.
    """
    items = [item for item in plan.items if item.mode != MODE_FOLDER]
    waiting = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    while waiting:
        is_done = written.done()
        if is_done:
            written.result()
        later: list[list[TreeItem]] = []
        for number, batch in enumerate(waiting):
            if not is_done and len(later) == MOST_LOOKS:
                later = waiting[number:] + later  # what was not looked at comes first the next time
                break
            # git writes about in this order: where the last is not there yet, hardly any of them is.
            if not is_done and not is_right(root, batch[-1]):
                later.append(batch)
                continue
            wrong = [item for item in batch if not is_right(root, item)]
            if wrong and is_done:
                path = text_of(wrong[0].path)
                raise Damaged("{path} cannot come back: the store holds other bytes", path=path)
            if wrong:
                later.append(wrong)
            size = sum(item.size for item in batch) - sum(item.size for item in wrong)
            monitor.advance(len(batch) - len(wrong), size)
        if len(later) == len(waiting):
            monitor.advance(0, 0)
            time.sleep(LOOK_SECONDS)
        waiting = later
    written.result()


def is_right(root: int, item: TreeItem) -> bool:
    """Whether the file on disk has the bytes that its id promises; not where there is none."""
    try:
        # From the open folder: with the folder's own path in front, the longest paths are too long for the kernel.
        if item.mode == MODE_LINK:
            return object_id(Kind.BLOB, os.readlink(item.path, dir_fd=root)) == item.oid
        fd = fsops.open_unfollowed(item.path, root)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return object_id(Kind.BLOB, read_bytes(fd, item.size + 1)) == item.oid
    finally:
        os.close(fd)


def explain(problem: BaseException, store: Store, plan: Plan, destination: str) -> BaseException:
    """The error that a person can act on. git does not always say that a disk is full; then there is too little room."""
    full = isinstance(problem, OSError) and problem.errno in fsops.FULL
    if full or isinstance(problem, GitFailed | NoSpace):
        said = problem.strerror if isinstance(problem, OSError) else str(problem)
        needs = ((os.path.dirname(destination), plan.size), (store.folder, RECORD_BYTES))
        for folder, needed in needs:
            free = fsops.free_space(folder)[0] if os.path.isdir(folder) else needed
            if free < needed:
                return NoSpace(
                    "no room for {path}, {needed:,} bytes are needed and {free:,} are free: {problem}",
                    path=destination,
                    needed=needed,
                    free=free,
                    problem=said,
                    hint="name a destination on another disk; tensortime du and gc show and free what backups take",
                )
    if isinstance(problem, OSError):
        if full:
            return NoSpace("no room for {path}: {problem}", path=destination, problem=problem.strerror)
        return StoreUnusable("{path} cannot be made: {problem}", path=destination, problem=problem.strerror)
    return problem


def watch_links(store: Store, digests: set[Digest]) -> None:
    """What is linked can be written through: it is watched from now on, before the first link is there."""
    with contextlib.suppress(OSError):
        hardlinks.update_watched(store, dict.fromkeys(digests, hardlinks.LOOK_AGAIN), keep_known=True)

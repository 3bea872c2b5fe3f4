"""A worktree of its own for one command: made of a backup, known to the stat cache, removed when all of it is stored."""

import contextlib
import os
import time

from tensortime import checkout, clearance, fsops, history
from tensortime.commits import read_contents
from tensortime.errors import StoreBusy
from tensortime.folding import pack_sizes
from tensortime.formats import META, RelPath, bytes_of, raw_of
from tensortime.history import Target
from tensortime.ignoring import Rules
from tensortime.monitor import Monitor
from tensortime.project import Parent, Place, admin_folder
from tensortime.scan import scan
from tensortime.statcache import (
    Known,
    StatCache,
    StatKey,
    cache_name,
    note,
    save_cache,
)
from tensortime.store import Store
from tensortime.worktrees import RUN, claimed, keep_commits, write_marker

TICK_SECONDS = 1.0
"""How long to wait for the file system's clock to go on; it counts in some milliseconds."""


def make_worktree(store: Store, project: str, target: Target, monitor: Monitor) -> Place:
    """Restore a backup into a new folder of the store; returns it as a project. All that `checkout.restore` raises."""
    folder = free_folder(store, str(target.experiment.name))
    checkout.restore(store, project, target, folder, "auto", monitor)
    place = Place(folder, store.folder, Parent(target.experiment.name, target.number, target.commit))
    with contextlib.suppress(OSError):
        learn(store, target, folder)
    return place


def free_folder(store: Store, name: str) -> str:
    """A path in the store that is not taken."""
    plain = os.fsdecode(bytes_of(name)) + RUN
    tries = (store.path(f"{plain}{number}") for number in ("", *(f"-{count}" for count in range(2, 1000))))
    for path in tries:
        if not os.path.lexists(path):
            return path
    raise StoreBusy("a thousand worktrees of {name} are there", name=name)


def learn(store: Store, target: Target, folder: str) -> None:
    """Tell the stat cache what the new files are, so that the backup after the command reads only what it wrote.

    The clock of the file system must have gone on before the command writes, or its first write might not show.
    """
    with history.damage_in(target):
        contents, _ = read_contents(store.shadow, target.commit)
    found = scan(os.fsencode(folder), Rules.start())
    files: dict[RelPath, Known] = {}
    for one in found.files:
        small, large = contents.small.get(one.path), contents.large.get(one.path)
        key = StatKey(one.size, one.mtime_ns, one.ctime_ns, one.inode)
        if small is not None:
            note(files, one.path, key, small.oid)
        elif large is not None:
            note(files, one.path, key, raw_of(large.digest))
    newest = max((one.ctime_ns for one in found.files), default=0)
    with store.staging() as staging:
        if not goes_on(staging, newest):
            return
        cache = StatCache(files, packs=pack_sizes(store))
        save_cache(store.path(".cache", cache_name(folder)), store.store_id, cache, staging)


def goes_on(staging: str, newest_ns: int) -> bool:
    """Wait until a new file would be younger than `newest_ns`; False where it does not come to that."""
    probe, end = os.path.join(staging, "clock"), time.monotonic() + TICK_SECONDS
    while time.monotonic() < end:
        fsops.write_atomic(probe, b"", durable=False)
        if os.stat(probe).st_mtime_ns > newest_ns:
            return True
        time.sleep(0.002)
    return False


def advance(store: Store, folder: str, target: Target) -> None:
    """Let a worktree that stays be one of the backup that holds what was made in it; of its files nothing changes."""
    admin = admin_folder(folder)
    if admin is None:
        return
    store.shadow.run("reset", "--quiet", target.commit, git_dir=admin, work_tree=folder)
    store.shadow.run("checkout", "--", os.fsdecode(META), git_dir=admin, work_tree=folder, umask=0o022)
    write_marker(admin, target)


def remove_worktree(store: Store, folder: str) -> None:
    """Remove a worktree whose files are all stored. Protected, StoreBusy, StoreUnusable; it stays then."""
    admin = admin_folder(folder)
    with store.in_use(), claimed(store, folder) as got:
        if not got:
            raise StoreBusy("another process works on {path}", path=folder)
        clearance.refuse_inside(store, folder)
        if admin is not None:
            keep_commits(store, admin)
        clearance.take_away(store, folder)
        if admin is not None:
            fsops.remove_tree(admin)
        with contextlib.suppress(OSError):
            os.unlink(store.path(".cache", cache_name(folder)))

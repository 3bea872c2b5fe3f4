"""The git worktrees that restore makes: their records in `.shadow/worktrees/`, mending and forgetting them.

A worktree and its record name each other (gitrepository-layout: `gitdir`, `commondir`). A project may be moved or
copied, a worktree deleted by hand; git's own `worktree prune` would then drop the records of the living ones.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator

from blake3 import blake3

from tensortime import fsops
from tensortime.errors import TensorTimeError
from tensortime.experiments import Experiment
from tensortime.formats import bytes_of, is_inside, parse_oid, text_of
from tensortime.history import PINS, Target
from tensortime.mending import clear_place
from tensortime.names import ExperimentName, suggest_name
from tensortime.project import Place, admin_folder, named_record, read_parent
from tensortime.shadow import NO_OID
from tensortime.store import DEAD_SECONDS, STALE_SECONDS, Store

PARTIAL = ".partial"
"""Ends the name of a worktree that is being made."""

RUN = ".run"
"""Ends the name of a worktree that a command runs in: the experiment's own name is left for what a person restores."""

MARKER = "tensortime"
"""The file in a worktree's record that says which backup it was restored from."""


def records(store: Store) -> Iterator[str]:
    """The record folders of all worktrees."""
    top = store.path(".shadow", "worktrees")
    if os.path.isdir(top) and not os.path.islink(top):
        yield from (os.path.join(top, name) for name in sorted(os.listdir(top)))


def left_worktree(store: Store, name: ExperimentName) -> Place | None:
    """The worktree that an earlier try of the experiment's command left behind when it was killed; None: there is none.

    What the command made until then may be nowhere else.
    """
    beginning = os.fsdecode(bytes_of(name)) + RUN
    for admin in records(store):
        folder, parent = os.path.dirname(read_line(os.path.join(admin, "gitdir"))), read_parent(admin)
        named = os.path.basename(folder).startswith(beginning)
        if named and parent and parent.experiment == name and admin_folder(folder) == os.path.realpath(admin):
            return Place(folder, store.folder, parent)
    return None


def left_folder(store: Store, experiment: Experiment) -> str:
    """Where there is what a killed command made, and perhaps nowhere else; empty where nothing is known of that.

    A rerun's project is its worktree.
    """
    if experiment.status != "interrupted" or not experiment.runner:
        return ""
    if experiment.runner.get("isolated"):
        place = left_worktree(store, experiment.name)
        return place.project if place is not None else ""
    path = os.fsdecode(bytes_of(experiment.project))
    return path if path.endswith(RUN) and admin_folder(path) is not None else ""


def write_marker(admin: str, target: Target) -> None:
    """Note in a worktree's record where it came from, and close to others what git made with the project's umask."""
    for folder, _, names in os.walk(admin):
        os.chmod(folder, 0o700)
        for name in names:
            os.chmod(os.path.join(folder, name), 0o600)
    os.chmod(os.path.dirname(admin), 0o700)
    fields = {"experiment": target.experiment.name, "number": target.number, "commit": target.commit}
    fsops.write_atomic(os.path.join(admin, MARKER), json.dumps(fields).encode() + b"\n")


def link_worktree(store: Store, admin: str, current: str, final: str, project: str) -> str:
    """Let a worktree that lies at `current` and its record name each other as they will be at `final`.

    Returns the record's folder, which gets the final folder's name. Inside the project (or store) the worktree
    names it relatively, so that all can move together.
    """
    admin = rename_record(admin, os.path.basename(final))
    together = is_inside(final, store.folder) or (
        is_inside(final, project) and is_inside(store.folder, project)
    )
    named = os.path.relpath(admin, final) if together else admin
    try:
        fsops.write_atomic(
            os.path.join(current, ".git"), b"gitdir: " + os.fsencode(named) + b"\n", mode=0o644
        )
        fsops.write_atomic(os.path.join(admin, "gitdir"), os.fsencode(os.path.join(final, ".git")) + b"\n")
    except BaseException:
        # The worktree is given up then, and nobody finds its record any more by the name that it had.
        with contextlib.suppress(OSError):
            fsops.remove_tree(admin)
        raise
    return admin


def rename_record(admin: str, name: str) -> str:
    """Give a record the name of its worktree, or with a number behind it."""
    for number in range(1000):
        wanted = os.path.join(os.path.dirname(admin), f"{name}{number or ''}")
        if not os.path.lexists(wanted):
            os.rename(admin, wanted)
            return wanted
    return admin


def mend_worktrees(store: Store) -> None:
    """Put right the records of worktrees that moved with their project; forget those whose folder is gone.

    To be called without a claim. What a restore that runs is just making is not looked at: it is half a worktree.
    """
    for admin in list(records(store)):
        if not os.path.isdir(admin) or os.path.islink(admin) or is_in_order(admin):
            continue
        gitdir = os.path.join(admin, "gitdir")
        try:
            recorded = os.path.dirname(os.fsdecode(fsops.read_file(gitdir, 1 << 16).split(b"\n", 1)[0]))
        except FileNotFoundError:
            recorded = ""
        except OSError:
            continue  # of another user
        # What cannot be put right here stops no restore elsewhere; verify names it.
        with contextlib.suppress(OSError):
            if not recorded and time.time() - os.lstat(admin).st_mtime < STALE_SECONDS:
                continue  # git has just made it
            with claimed(store, recorded.removesuffix(PARTIAL)) as got:
                if got and os.path.isdir(admin) and not is_in_order(admin):
                    mend_record(store, admin)


def is_in_order(admin: str) -> bool:
    """Whether a worktree and its record name each other."""
    gitfile = read_line(os.path.join(admin, "gitdir"))
    common = fsops.has_content(os.path.join(admin, "commondir"), b"../..\n")
    return bool(common and gitfile) and admin_folder(os.path.dirname(gitfile)) == os.path.realpath(admin)


@contextlib.contextmanager
def claimed(store: Store, destination: str, wait: float = 0.0) -> Iterator[bool]:
    """Claim a destination, as who makes or removes a worktree there does; yields whether nobody else has.

    `wait`: seconds for which another's is waited for: a git that outlives a restore that was killed has it too. Where
    the file system has no locks a worktree that is half made is another's, until it is older than DEAD_SECONDS.
    """
    name = "restore-" + blake3(os.fsencode(destination)).hexdigest()[:16]
    with store.locked(".tmp", name, wait=wait, lockless=not is_recent(destination + PARTIAL)) as got:
        yield got


def is_recent(path: str) -> bool:
    """Whether somebody may still be at work on a path."""
    try:
        return time.time() - os.lstat(path).st_mtime < DEAD_SECONDS
    except OSError:
        return False


def mend_record(store: Store, admin: str) -> None:
    """Put one record right, or forget it."""
    common = os.path.join(admin, "commondir")
    if not fsops.has_content(common, b"../..\n"):
        clear_place(common)
        fsops.write_atomic(common, b"../..\n")
    if is_in_order(admin):
        return
    gitfile = read_line(os.path.join(admin, "gitdir"))
    recorded = os.path.dirname(gitfile)
    moved_to = find_moved(store, admin, recorded)
    if moved_to is not None:
        gitdir = os.fsencode(os.path.join(moved_to, ".git")) + b"\n"
        fsops.write_atomic(os.path.join(admin, "gitdir"), gitdir)
    elif lost_its_store(recorded, admin):
        gitdir = b"gitdir: " + os.fsencode(os.path.realpath(admin)) + b"\n"
        fsops.write_atomic(os.path.join(recorded, ".git"), gitdir, mode=0o644)
    elif not gitfile or os.path.isdir(os.path.dirname(os.path.dirname(gitfile))):
        # Where even the folder above is gone it may be a disk that is not mounted now.
        forget(store, admin)


def find_moved(store: Store, admin: str, recorded: str) -> str | None:
    """Where the worktree of a record went: moved within the store's folder, or moved or copied with its project."""
    candidates = [store.path(name) for name in os.listdir(store.folder) if not name.startswith(".")]
    parts, above = recorded.strip("/").split("/"), os.path.dirname(store.folder)
    while above != os.path.dirname(above):
        # Of /old/project/kept/run, `kept/run` lies in the new project's folder.
        candidates += [os.path.join(above, *parts[start:]) for start in range(1, len(parts))]
        above = os.path.dirname(above)
    real = os.path.realpath(admin)
    return next((folder for folder in candidates if admin_folder(folder) == real), None)


def lost_its_store(worktree: str, admin: str) -> bool:
    """Whether a worktree elsewhere names this record in a store that is no longer where it was: the project moved."""
    named = named_record(worktree)
    return (
        named is not None
        and os.path.basename(named) == os.path.basename(admin)
        and not os.path.lexists(os.path.dirname(named))
    )


def forget(store: Store, admin: str) -> None:
    """Drop a worktree's record; commits that a person made in it get a ref of their own first."""
    try:
        keep_commits(store, admin)
    except TensorTimeError:
        return
    fsops.remove_tree(admin)


def keep_commits(store: Store, admin: str) -> str:
    """Give the commits that a person made in a worktree a ref of their own; returns it, or an empty string."""
    try:
        head = parse_oid(read_line(os.path.join(admin, "HEAD")))
    except ValueError:
        return ""  # a branch, which is a ref already
    parent = read_parent(admin)
    if parent is not None and parent.commit == head:
        return ""
    name = suggest_name(text_of(os.fsencode(os.path.basename(admin)))) or "worktree"
    ref = f"{PINS}{name}-{head[:8]}"
    store.shadow.create_ref(ref, head, NO_OID)
    store.sync_refs([ref])  # the record, which names them too, goes next
    return ref


def read_line(path: str) -> str:
    """The first line of a small file; empty where it cannot be read, or is damaged and can be no path."""
    try:
        line = os.fsdecode(fsops.read_file(path, 1 << 16).split(b"\n", 1)[0])
    except OSError:
        return ""
    return "" if "\0" in line else line

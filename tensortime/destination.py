"""Where a restore may put files: only where nothing is. What is there already is looked at and named."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial

from blake3 import blake3

from tensortime import fsops
from tensortime.errors import Message, TargetExists, listing, message
from tensortime.formats import Oid, digest_of, is_inside, text_of
from tensortime.history import Target, manifest_of, read_meta
from tensortime.manifest import FILE, SYMLINK, Manifest, ManifestEntry
from tensortime.monitor import Monitor
from tensortime.policy import LEFTOVERS, builtin_rule
from tensortime.project import admin_folder, read_parent
from tensortime.store import OWN_NAMES, Store

DELETED = (b" D", b"D ")
"""How `git status` marks a file that is gone."""


def refuse_taken(store: Store, target: Target, destination: str, monitor: Monitor) -> None:
    """TargetExists unless the destination is free, or an empty real folder."""
    refuse_inside_store(store, destination)
    try:
        info = os.lstat(destination)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(info.st_mode) or not stat.S_ISDIR(info.st_mode):
        what = message("a symbolic link") if stat.S_ISLNK(info.st_mode) else message("a file")
        raise TargetExists(
            "{path} exists and is {what}", path=destination, what=what, hint="name another folder"
        )
    if not os.listdir(destination):
        return
    raise TargetExists(
        "{path} exists: {state}",
        path=destination,
        state=describe_existing(store, target, destination, monitor),
        hint=message(
            "cd into it, or tensortime restore {name} OTHER-FOLDER puts it elsewhere",
            name=target.experiment.name,
        ),
    )


def refuse_inside_store(store: Store, destination: str) -> None:
    """TargetExists for the store's own folders; directly below the store a destination may lie."""
    inside = os.path.relpath(destination, store.folder)
    first = inside.split("/")[0]
    if is_inside(destination, store.folder) and (
        inside == "." or first in OWN_NAMES or first.startswith(".")
    ):
        raise TargetExists(
            "{path} lies in the store's own folders",
            path=destination,
            hint="name a folder elsewhere",
        )


def describe_existing(store: Store, target: Target, destination: str, monitor: Monitor) -> Message:
    """In words: whether a folder is the wanted experiment, whole or changed."""
    admin = admin_folder(destination)
    if admin is None or os.path.dirname(admin) != os.path.realpath(store.path(".shadow", "worktrees")):
        return message("it is not empty, and no restored experiment")
    parent = read_parent(admin)
    if parent is None or parent.commit != target.commit:
        if parent is None:
            return message("it is another experiment")
        return message("it is {name}", name=f"{parent.experiment}:{parent.number}")
    changed = changes_in(store, target.commit, admin, destination, monitor)
    if not changed:
        return message("it is {name}, whole and unchanged", name=target.experiment.name)
    return message(
        "it is {name}, changed since: {paths}", name=target.experiment.name, paths=listing(changed, 3)
    )


def changes_in(store: Store, commit: Oid, admin: str, folder: str, monitor: Monitor) -> list[str]:
    """The paths of a restored worktree that differ from its backup, new ones too."""
    manifest, rows = status_of(store, commit, admin, folder)
    changed = [
        text_of(path)
        for mark, path in rows
        if mark != b"!!" or not (path in manifest.entries or is_left_out(path))
    ]
    top, large = os.fsencode(folder) + b"/", list(manifest.large())
    monitor.begin("compare", len(large), sum(entry.size or 0 for entry in large))
    for entry in large:
        if not is_whole(top + entry.path, entry, partial(monitor.advance, 0)):
            changed.append(text_of(entry.path))
        monitor.advance(1, 0)
    return sorted(changed)


def losses_in(store: Store, commit: Oid, admin: str, folder: str) -> list[str]:
    """The paths of a restored worktree that would be lost with it: as `changes_in`, but what a backup would leave out
    (a secret, an environment) counts too, only caches do not. A large file that kept size and time is not read, and
    one that was deleted is no loss.
    """
    manifest, rows = status_of(store, commit, admin, folder)
    changed = [
        text_of(path)
        for mark, path in rows
        if mark not in DELETED and not is_cache(path) and (mark != b"!!" or path not in manifest.entries)
    ]
    for entry in manifest.entries.values():
        try:
            if entry.kind in (FILE, SYMLINK) and not is_kept(os.fsencode(folder) + b"/" + entry.path, entry):
                changed.append(text_of(entry.path))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            changed.append(text_of(entry.path))
    changed += [text_of(path) for path in unlooked_at(store, admin, folder)]
    return sorted(set(changed))


def unlooked_at(store: Store, admin: str, folder: str) -> Iterator[bytes]:
    """What `git status` says nothing of: repositories that a person made around files of the backup, folders that
    nobody may look into, and files that a person told git not to look at (`update-index --skip-worktree`,
    `--assume-unchanged`)."""
    top = os.fsencode(folder)
    closed: list[OSError] = []
    for inner, folders, files in os.walk(top, onerror=closed.append):
        if inner != top and b".git" in (*folders, *files):
            yield os.path.relpath(os.path.join(inner, b".git"), top)
    yield from (os.path.relpath(os.fsencode(one.filename), top) for one in closed)
    listed = store.shadow.run("ls-files", "-v", "-z", git_dir=admin, work_tree=folder).stdout
    for row in listed.split(b"\0"):
        if row and (row[:1].islower() or row[:1] == b"S") and os.path.lexists(os.path.join(top, row[2:])):
            yield row[2:]


def is_kept(path: bytes, entry: ManifestEntry) -> bool:
    """Whether what lies at a path is what the manifest says, by size and time or else by its bytes."""
    info = os.lstat(path)
    if entry.kind == SYMLINK:
        return stat.S_ISLNK(info.st_mode) and os.readlink(path) == entry.target
    same = (info.st_size, info.st_mtime_ns) == (entry.size, entry.mtime_ns)
    return (stat.S_ISREG(info.st_mode) and same) or is_whole(path, entry)


def status_of(
    store: Store, commit: Oid, admin: str, folder: str
) -> tuple[Manifest, list[tuple[bytes, bytes]]]:
    """The manifest of a backup, and what `git status` says of a worktree of it: marks and paths, ignored ones too."""
    # New files in a folder of large ones are ignored by git: our exclude file names the folder.
    words = ("--porcelain", "-z", "--no-renames", "--untracked-files=all", "--ignored=traditional")
    status = store.shadow.run("status", *words, git_dir=admin, work_tree=folder)
    manifest = manifest_of(read_meta(store.shadow, store.shadow.tree(commit)))
    return manifest, [(row[:2], row[3:]) for row in status.stdout.split(b"\0") if row]


def is_cache(path: bytes) -> bool:
    """Whether a path lies in a folder that tools make again by themselves, as `__pycache__` is."""
    return any(part in LEFTOVERS for part in path.split(b"/")[:-1])


def is_left_out(path: bytes) -> bool:
    """Whether a built-in rule leaves out a file at this path, as it does a `__pycache__`."""
    *folders, name = path.split(b"/")
    return builtin_rule(name, False) is not None or any(builtin_rule(part, True) for part in folders)


def is_whole(path: bytes, entry: ManifestEntry, advance: Callable[[int], None] | None = None) -> bool:
    """Whether the large file at `path` (or what a link there leads to) has the entry's bytes; `advance` is told of each
    block that was read."""
    try:
        fd = fsops.open_regular(os.path.realpath(path))
    except OSError:
        return False
    try:
        size = os.fstat(fd).st_size
        hasher = blake3()
        return (
            size == entry.size
            and fsops.hash_file(fd, size, hasher, advance) == size
            and digest_of(hasher.digest()) == entry.digest
        )
    finally:
        os.close(fd)


def remove_stale(store: Store, partial: str) -> None:
    """Remove what a restore that died left behind; anything else that has this name is in the way."""
    if not os.path.lexists(partial):
        return
    admin = None if os.path.islink(partial) else admin_folder(partial)
    ours = admin is not None and os.path.dirname(admin) == os.path.realpath(
        store.path(".shadow", "worktrees")
    )
    if ours or is_just_begun(partial):
        discard(partial)
        return
    raise TargetExists("{path} is in the way", path=partial, hint="move it, or name another destination")


def is_just_begun(partial: str) -> bool:
    """Whether a folder is empty, or holds the `.git` alone that git was about to write when it died."""
    if os.path.islink(partial) or not os.path.isdir(partial):
        return False
    names = os.listdir(partial)
    return not names or (names == [".git"] and fsops.has_content(os.path.join(partial, ".git"), b""))


def discard(partial: str) -> None:
    """Remove a half-made worktree and its record.

    `.git` goes last: if we die meanwhile it still says whose the rest is.
    """
    admin = admin_folder(partial) if os.path.isdir(partial) else None
    if admin is not None:
        for name in os.listdir(partial):
            if name != ".git":
                remove(os.path.join(partial, name))
    if os.path.lexists(partial):
        fsops.remove_tree(partial)
    if admin is not None:
        fsops.remove_tree(admin)


def remove(path: str) -> None:
    """Remove a file, a link or a folder; what cannot go stays."""
    if os.path.isdir(path) and not os.path.islink(path):
        fsops.remove_tree(path)
        return
    with contextlib.suppress(OSError):
        os.unlink(path)

"""What a command wrote and no backup holds, because a rule leaves it out. A bounded look."""

import math
import os
import time
from collections.abc import Collection, Iterator

from tensortime.commits import read_contents
from tensortime.formats import META, Oid, RelPath, bytes_of, text_of
from tensortime.landmarks import is_store
from tensortime.outcome import files_of
from tensortime.policy import LEFTOVERS, REPOSITORIES, VIRTUAL_ENVIRONMENT_MARKS, builtin_rule
from tensortime.project import admin_folder
from tensortime.reports import BackupReport
from tensortime.store import Store

MISSED_SECONDS = 1.0
"""How long is looked around a command that ran in the project; before a worktree is removed, at all of it."""

MARKS = frozenset(mark.encode() for mark in VIRTUAL_ENVIRONMENT_MARKS)

CLOCK_NS = 20_000_000
"""File systems tell a time that is up to some milliseconds old."""


def overlooked(store: Store, project: str, added: BackupReport, since_ns: int | None) -> tuple[str, ...]:
    """What the command wrote and a rule leaves out: files, or the folder that the rule is about.

    `since_ns`: only what was written since, without what may be a secret; where there is more to look at than
    MISSED_SECONDS allow, some of it. None: of a worktree of its own, where all is the command's.
    """
    contents, _ = read_contents(store.shadow, added.commit or Oid(""))
    held, top = files_of(contents), os.fsencode(project)
    folders = {RelPath(bytes_of(one.path)) for one in added.ignored if one.folder}
    known_bad = {bytes_of(one.path) for one in added.skipped}
    deadline = time.monotonic() + (MISSED_SECONDS if since_ns is not None else math.inf)
    found: dict[str, None] = {}
    for path, info in walk(top, os.fsencode(store.folder), deadline):
        if path in held or path in known_bad:
            continue
        is_new = since_ns is None or max(info.st_mtime_ns, info.st_ctime_ns) >= since_ns - CLOCK_NS
        may_be_told = since_ns is None or builtin_rule(path.rpartition(b"/")[2], False) is None
        if is_new and may_be_told:
            around = next((one for one in folders if path.startswith(one + b"/")), None)
            found[text_of(around + b"/" if around else path)] = None
    return tuple(sorted(found))


def is_ours(folder: bytes, names: Collection[bytes]) -> bool:
    """Whether a folder is another store, or a restored experiment."""
    path = os.fsdecode(folder)
    return (b".shadow" in names and is_store(path)) or (b".git" in names and admin_folder(path) is not None)


def walk(top: bytes, store: bytes, deadline: float) -> Iterator[tuple[RelPath, os.stat_result]]:
    """The regular files of a project and their stat, but for repositories, caches, environments, stores, worktrees."""
    waiting = [b""]
    while waiting and time.monotonic() < deadline:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(top, folder) if folder else top) as entries:
                listed = list(entries)
        except OSError:
            continue
        names = {one.name for one in listed}
        if names & MARKS or (folder and is_ours(os.path.join(top, folder), names)):
            continue
        for one in listed:
            path = RelPath(os.path.join(folder, one.name))
            if one.is_dir(follow_symlinks=False):
                if one.name not in REPOSITORIES | LEFTOVERS and one.path != store and path != META:
                    waiting.append(path)
            elif one.is_file(follow_symlinks=False) and one.name not in REPOSITORIES:
                yield path, one.stat(follow_symlinks=False)

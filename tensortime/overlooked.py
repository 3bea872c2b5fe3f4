"""What a command wrote and no backup holds, because a rule leaves it out. A bounded look."""

import os
import time
from collections.abc import Iterator

from tensortime.commits import read_contents
from tensortime.formats import META, Oid, RelPath, bytes_of, text_of
from tensortime.outcome import files_of
from tensortime.policy import LEFTOVERS, REPOSITORIES, VIRTUAL_ENVIRONMENT_MARKS
from tensortime.reports import BackupReport
from tensortime.store import Store

MISSED_SECONDS, WHOLE_SECONDS = 1.0, 60.0
"""How long is looked: around a command that ran in the project, and before a worktree is removed."""

CLOCK_NS = 20_000_000
"""File systems tell a time that is up to some milliseconds old."""


def overlooked(store: Store, project: str, added: BackupReport, since_ns: int | None) -> tuple[str, ...]:
    """What the command wrote and a rule leaves out: files, or the folder that the rule is about.

    `since_ns`: only what was written since; of a worktree of its own all is the command's. Where there is more to look
    at than MISSED_SECONDS allow, some of it.
    """
    contents, _ = read_contents(store.shadow, added.commit or Oid(""))
    held, top = files_of(contents), os.fsencode(project)
    folders = {RelPath(bytes_of(one.path)) for one in added.ignored if one.folder}
    known_bad = {bytes_of(one.path) for one in added.skipped}
    deadline = time.monotonic() + (WHOLE_SECONDS if since_ns is None else MISSED_SECONDS)
    found: dict[str, None] = {}
    for path, info in walk(top, os.fsencode(store.folder), deadline):
        if path in held or path in known_bad:
            continue
        if since_ns is None or max(info.st_mtime_ns, info.st_ctime_ns) >= since_ns - CLOCK_NS:
            around = next((one for one in folders if path.startswith(one + b"/")), None)
            found[text_of(around + b"/" if around else path)] = None
    return tuple(sorted(found))


def walk(top: bytes, store: bytes, deadline: float) -> Iterator[tuple[RelPath, os.stat_result]]:
    """The regular files of a project and their stat, but for repositories, caches, environments and the store."""
    waiting = [b""]
    while waiting and time.monotonic() < deadline:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(top, folder) if folder else top) as entries:
                listed = list(entries)
        except OSError:
            continue
        if VIRTUAL_ENVIRONMENT_MARKS & {os.fsdecode(one.name) for one in listed}:
            continue
        for one in listed:
            path = RelPath(os.path.join(folder, one.name))
            if one.is_dir(follow_symlinks=False):
                if one.name not in REPOSITORIES | LEFTOVERS and one.path != store and path != META:
                    waiting.append(path)
            elif one.is_file(follow_symlinks=False) and one.name not in REPOSITORIES:
                yield path, one.stat(follow_symlinks=False)

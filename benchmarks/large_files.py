"""Scenarios of large files: one of them changed; one of 8 GiB on file systems that share blocks."""

import fcntl
import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.commands import run, run_quiet, sync
from benchmarks.disks import loop_mount
from benchmarks.rounds import timed
from benchmarks.setting import Setting, probe, store_of, tensortime
from benchmarks.trees import CODE, HUGE, change_large, make_tree, warm

FICLONE = 0x40049409
SETTLED = 61
"""Seconds after which a written large file counts as settled: one younger is read again, whatever its times say."""


def one_changed(setting: Setting) -> dict[str, Any]:
    """One file of 128 MiB changed in *code*: `cp` of that file, the backup, and a backup of nothing new. In turn the file is
    written anew with as many bytes, as a checkpoint is, and a few bytes of it are changed."""
    project, copy = setting.folder / "project", setting.folder / "copy"
    make_tree(CODE, project, setting.scale)
    tensortime("backup", project=project)
    found: dict[str, list[float]] = {"unchanged": [], "copy": [], "rewritten": [], "edited": []}

    def backup() -> None:
        tensortime("backup", project=project)

    for number in range(2 * setting.rounds):
        setting.say(f"large-file: round {number + 1} of {2 * setting.rounds}, once all is settled")
        time.sleep(SETTLED if setting.scale == 1 else 0)
        backup()  # notices that it is
        warm(project)
        found["unchanged"].append(timed(backup, project))
        part = project / "data" / f"part{number % 8}.bin"
        if number % 2:
            change_large(part, number)
        else:
            part.write_bytes(os.urandom(part.stat().st_size))
        sync(project)
        changed = found["edited" if number % 2 else "rewritten"]
        if number % 4 > 1:  # the copy and the backup are first in turn
            changed.append(timed(backup, project))
        found["copy"].append(timed(partial(run, "cp", part, copy), copy))
        if number % 4 < 2:
            changed.append(timed(backup, project))
        copy.unlink()
    return dict(found)


def huge_shared(kind: str, setting: Setting) -> dict[str, Any]:
    """One file of 8 GiB where blocks can be shared: bytes that a first backup takes, its speed against one reader that
    hashes a fresh clone, peak memory of backup and restore."""
    found: dict[str, Any] = {"backup": [], "hash": [], "extra": [], "peak": 0, "restore_peak": 0}
    with loop_mount(kind, setting.folder, 14 << 30) as (place, direct):
        found["direct"] = direct
        project, clone = place / "project", place / "clone"
        make_tree(HUGE, project, setting.scale)
        source = project / (HUGE.large or "")
        found["bytes"] = source.stat().st_size
        sync(place)
        for number in range(setting.rounds):
            setting.say(f"huge-{kind}: round {number + 1} of {setting.rounds}")
            warm(source.parent)  # as everywhere: the source in the page cache, the clone's pages are its own
            make_clone(source, clone)
            sync(place)
            found["hash"].append(probe("hashing", clone)["seconds"])
            clone.unlink()
            before = used_bytes(place)
            start = time.perf_counter()
            done = tensortime("backup", project=project)
            sync(place)
            found["backup"].append(time.perf_counter() - start)
            found["extra"].append(used_bytes(place) - before)
            found["peak"] = max(found["peak"], done.peak)
            if number == 0:
                restored = place / "restored"
                done = tensortime("restore", "@", restored, project=project)
                found["restore_peak"] = done.peak
                run_quiet("chmod", "-R", "u+w", restored)
                shutil.rmtree(restored)
            shutil.rmtree(store_of(project))
    return found


def make_clone(source: Path, clone: Path) -> None:
    """A file that shares all blocks with another."""
    with open(source, "rb") as old, open(clone, "wb") as new:
        fcntl.ioctl(new, FICLONE, old.fileno())


def used_bytes(place: Path) -> int:
    """What df says is used, once all that was written has its blocks."""
    sync(place)
    info = os.statvfs(place)
    return (info.f_blocks - info.f_bfree) * info.f_frsize

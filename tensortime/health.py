"""What doctor looks at: git, the file systems, the clock, the room, the store, and what the newest backup left out.

What a file system can do is tried, in the store's staging folder; nothing else is written.
"""

import contextlib
import os
import platform
import time
from collections.abc import Iterator, Mapping

from tensortime import fsck, fsops, history
from tensortime.answers import BAD, FINE, WORTH_KNOWING, Check
from tensortime.config import Config
from tensortime.errors import GitFailed, Message, StoreBusy, TensorTimeError, listing, message
from tensortime.formats import iso_time
from tensortime.gitcommand import MINIMUM_GIT, git_version
from tensortime.monitor import Monitor
from tensortime.project import Place
from tensortime.snapshot import kept_free
from tensortime.store import Store
from tensortime.worktrees import left_folder

SLOW_SYNC = 0.1
"""Seconds: a disk that takes longer to make a small file safe slows every backup."""

CLOCK_SECONDS = 5.0
"""So far the clocks of the machine and of the file system may be apart."""

NAMED = 3
"""So many paths of a sort are named."""

LEFT_OUT = (("skipped", "reason"), ("ignored", "rule"), ("outside", "target"))
"""Lists of run.json, and what beside the path says why."""


def examine(place: Place, store: Store | None, config: Config, monitor: Monitor) -> tuple[Check, ...]:
    """All checks, in the order in which a person reads them. Without a store only those that need none."""
    checks = [check_git(), *check_system()]
    if store is None:
        said = message("no store at {store} yet: the first tensortime backup makes it", store=place.store)
        return (*checks, Check("store", WORTH_KNOWING, said))
    checks.append(
        Check("store", FINE, message("{store}, project {project}", store=store.folder, project=place.project))
    )
    if store.is_writable:
        with contextlib.suppress(TensorTimeError), store.staging() as folder:
            checks += [*check_abilities(folder, place), check_clock(folder, store)]
    else:
        checks.append(
            Check(
                "store",
                WORTH_KNOWING,
                message("this user cannot write the store: nothing can be backed up here"),
            )
        )
    checks += [
        *check_room(store, config),
        check_store(store, monitor),
        *check_killed(store),
        *check_coverage(store),
    ]
    return tuple(checks)


def check_git() -> Check:
    """Whether git is new enough."""
    try:
        version = git_version()
    except TensorTimeError as problem:
        return Check("git", BAD, problem.message)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    needed = ".".join(map(str, MINIMUM_GIT))
    if numbers < MINIMUM_GIT:
        return Check(
            "git",
            BAD,
            message(
                "git {found} is too old, {needed} is needed: install a newer one",
                found=version,
                needed=needed,
            ),
        )
    return Check("git", FINE, message("git {found}", found=version))


def check_system() -> Iterator[Check]:
    """Python and the operating system."""
    state = FINE if platform.system() in ("Linux", "Darwin") else BAD
    yield Check(
        "system",
        state,
        message(
            "Python {python} on {system}",
            python=platform.python_version(),
            system=platform.platform(terse=True),
        ),
    )


def check_abilities(folder: str, place: Place) -> Iterator[Check]:
    """What the file system of the store can do, and whether the project lies on the same."""
    kind = fsops.file_system_name(folder)
    same = os.stat(place.project).st_dev == os.stat(folder).st_dev
    if not same:
        yield Check(
            "disk",
            WORTH_KNOWING,
            message("the store is on another file system than the project: large files are copied"),
        )
    if same and can_clone(folder):
        yield Check(
            "reflink", FINE, message("{kind} shares the bytes of large files: they take no room", kind=kind)
        )
    elif same:
        said = message(
            'large files are copied: {kind} has no reflink; hardlink = ["data/**"] in tensortime.toml avoids the copy '
            "of files that are never written again",
            kind=kind,
        )
        yield Check("reflink", WORTH_KNOWING, said)
    linked = (
        message("hard links work")
        if can_link(folder)
        else message("no hard links: hardlink in tensortime.toml has no effect")
    )
    yield Check("hardlink", FINE if can_link(folder) else WORTH_KNOWING, linked)
    if fsops.trusts_locks(folder):
        yield Check("locks", FINE, message("locks can be trusted: gc frees bytes at once"))
    else:
        yield Check(
            "locks",
            WORTH_KNOWING,
            message("locks of {kind} may not hold for all machines: gc frees bytes a day later", kind=kind),
        )
    seconds = sync_seconds(folder)
    if seconds is None:
        yield Check(
            "fsync",
            WORTH_KNOWING,
            message(
                "this file system cannot be told to keep what was written: a power loss may cost the newest backup"
            ),
        )
    elif seconds > SLOW_SYNC:
        yield Check(
            "fsync",
            WORTH_KNOWING,
            message(
                "the disk takes {ms} ms to keep a small file: a backup waits for that a few times",
                ms=int(seconds * 1000),
            ),
        )
    else:
        yield Check(
            "fsync", FINE, message("what was written is kept in {ms} ms", ms=max(int(seconds * 1000), 1))
        )


def can_clone(folder: str) -> bool:
    """Whether two files can share their bytes here."""
    names = [os.path.join(folder, f"doctor-{end}") for end in "ab"]
    fds = [fsops.create_file(name, 0o600) for name in names]
    try:
        os.write(fds[0], bytes(8192))
        return fsops.clone(fds[0], fds[1])
    except OSError:
        return False
    finally:
        for fd, name in zip(fds, names, strict=True):
            os.close(fd)
            os.unlink(name)


def can_link(folder: str) -> bool:
    """Whether a file can have two names here."""
    name = os.path.join(folder, "doctor-link")
    try:
        os.link(os.path.join(folder, "lock"), name)
        os.unlink(name)
    except OSError:
        return False
    return True


def sync_seconds(folder: str) -> float | None:
    """How long it takes to make a small file safe; None where the file system cannot."""
    name = os.path.join(folder, "doctor-sync")
    fd = fsops.create_file(name, 0o600)
    try:
        os.write(fd, b"x")
        started = time.monotonic()
        os.fsync(fd)
        return time.monotonic() - started
    except OSError:
        return None
    finally:
        os.close(fd)
        os.unlink(name)


def check_clock(folder: str, store: Store) -> Check:
    """Whether the clock agrees with the file system's and with the newest backup."""
    now = time.time()
    apart = os.stat(os.path.join(folder, "lock")).st_mtime - now
    newest = 0
    with contextlib.suppress(TensorTimeError):
        newest = history.read_catalog(store.shadow).newest_time_ns()
    if newest / 1e9 > now + CLOCK_SECONDS:
        said = message(
            "the clock is behind the newest backup, of {time}: is it right?", time=iso_time(newest)
        )
        return Check("clock", WORTH_KNOWING, said)
    if abs(apart) > CLOCK_SECONDS:
        said = message(
            "the clock of the file system is {seconds} s off: is the machine's right?", seconds=int(apart)
        )
        return Check("clock", WORTH_KNOWING, said)
    return Check("clock", FINE, message("the clock agrees with the file system's"))


def check_room(store: Store, config: Config) -> Iterator[Check]:
    """What is free, and what the store takes."""
    free, total = fsops.free_space(store.folder)
    state = FINE if free > kept_free(total) else BAD
    said = message("{size} are free; tensortime du shows what takes the room", size=free)
    if state == BAD:
        said = message(
            "{size} are free, less than what is kept for training: tensortime du, rm and gc make room",
            size=free,
        )
    yield Check("room", state, said)
    if config.max_store is not None:
        used = store.used_bytes()
        passed = used >= config.max_store
        said = message(
            "the store takes {size} of its max_store of {limit:,} bytes", size=used, limit=config.max_store
        )
        yield Check("max_store", BAD if passed else FINE, said)


def check_store(store: Store, monitor: Monitor) -> Check:
    """Whether all is there that the backups need."""
    try:
        report = fsck.verify(store, fsck.Scope(), False, monitor)
    except (GitFailed, StoreBusy) as problem:
        return Check("health", WORTH_KNOWING, problem.message)
    if report.problems:
        said = message(
            "problems: {count}, in backups: {backups}; tensortime verify names them",
            count=len(report.problems),
            backups=report.backups,
        )
        return Check("health", BAD, said)
    return Check(
        "health",
        FINE,
        message(
            "all is there, backups: {backups} (tensortime verify --read-data reads every byte)",
            backups=report.backups,
        ),
    )


def check_killed(store: Store) -> Iterator[Check]:
    """The folders that hold what killed commands made."""
    try:
        experiments = history.read_catalog(store.shadow).experiments
    except TensorTimeError:
        return  # said by others
    left = [one.name for one in experiments if left_folder(store, one)]
    if left:
        said = message(
            "killed while they ran, and what they made is still in their folders: {names}; tensortime show {first} names it",
            names=listing(left, NAMED),
            first=left[0],
        )
        yield Check("killed", WORTH_KNOWING, said)


def check_coverage(store: Store) -> Iterator[Check]:
    """What the newest backup holds, and what it left out and why."""
    experiments = history.read_catalog(store.shadow).experiments
    if not experiments:
        yield Check("covered", WORTH_KNOWING, message("no backup yet: tensortime backup makes one"))
        return
    newest = experiments[0]
    yield Check(
        "covered",
        FINE,
        message("{name}: {files:,} files, {size}", name=newest.name, files=newest.files, size=newest.bytes),
    )
    try:
        run = history.run_of(history.read_meta(store.shadow, store.shadow.tree(newest.commit)))
    except TensorTimeError as problem:
        yield Check("covered", BAD, problem.message)
        return
    for kind, beside in LEFT_OUT:
        rows = rows_of(run, kind)
        if rows:
            names = ", ".join(f"{row.get('path')} ({row.get(beside)})" for row in rows[:NAMED])
            yield Check(kind, BAD if kind == "skipped" else WORTH_KNOWING, left_out(kind, len(rows), names))


def left_out(kind: str, count: int, names: str) -> Message:
    """What the newest backup does not hold, in words."""
    if kind == "skipped":
        return message("could not be stored: {count}: {names}", count=count, names=names)
    if kind == "ignored":
        return message(
            "left out by a rule (! in .ttignore takes one back): {count}: {names}", count=count, names=names
        )
    return message(
        "links that lead out of the project (follow stores that): {count}: {names}", count=count, names=names
    )


def rows_of(run: Mapping[str, object], key: str) -> list[dict[str, object]]:
    """A list of run.json."""
    rows = run.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

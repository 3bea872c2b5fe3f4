"""The large files that a backup did not wait for: one thread stores them, and completes the backup.

    queue ──> published as pending ──> start: store each, in order ──> the supplement, published

All the while the store's lock and a staging folder are held, as by any backup: no gc takes away what is stored and not
yet named. A process that ends in between leaves a pending backup, which says what it lacks.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tensortime import fsops
from tensortime.findings import FileStat
from tensortime.formats import RelPath, text_of
from tensortime.intake import Intake, Queued, Source, keep_large, key_of, what_stopped
from tensortime.monitor import Meter, NullMonitor, Stopped
from tensortime.names import ExperimentName
from tensortime.reports import BackupReport, Skipped
from tensortime.session import Session
from tensortime.sidecar import KNOWN, TRIES, NoRoom, Room, Sidecar, Stored, clone_aside, stat_key, store_file
from tensortime.statcache import StatKey
from tensortime.supplement import Supplement, publish_supplement

REMOVED = "it was removed before it was stored"
"""The reason of a queued file that went away: it was there when the backup was made."""


@dataclass(frozen=True)
class Outcome:
    """How a backlog ended."""

    experiment: ExperimentName
    stored: int
    """Files."""
    bytes: int
    seconds: float
    missing: tuple[str, ...]
    """Paths that still wait: the backup stays pending."""
    missing_bytes: int
    skipped: tuple[Skipped, ...]
    changed: tuple[str, ...]
    problem: Exception | None = None
    """What nobody expected, or what kept the supplement from being published."""


@dataclass(frozen=True)
class Duty:
    """What a published backup leaves to its backlog."""

    session: Session
    source: Source
    report: BackupReport
    groups: Mapping[RelPath, int]
    """As in Supplement."""
    known: set[bytes]
    """Raw ids of trees and blobs that are in packs."""
    room: Callable[[], Room]
    """What may be copied now."""
    remember: Callable[[Intake], None]
    """Called at the end with what was stored."""
    take_back: Callable[[Intake], None]
    """Called where what was stored has not been published."""
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """The store's lock and the staging folder."""


class Progress(NullMonitor):
    """Counts what is done."""

    def __init__(self) -> None:
        self.files, self.bytes = 0, 0

    def advance(self, files: int, size: int) -> None:
        """Some more of it."""
        self.files += files
        self.bytes += size


class Backlog:
    """The queue of one backup, and the thread that works it off."""

    def __init__(self) -> None:
        self.files: dict[RelPath, Queued] = {}
        self.duty: Duty | None = None
        self.thread: threading.Thread | None = None
        self.stop, self.ended = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self.taken = Intake()
        self.failed: dict[RelPath, str] = {}
        self.progress = Progress()
        self.owner = os.getpid()

    def queue(
        self,
        intake: Intake,
        source: Source,
        files: Iterable[FileStat],
        sidecar: Sidecar,
        room: Room,
        hash_first: Callable[[FileStat], bool],
        is_hardlink: Callable[[RelPath], bool],
    ) -> None:
        """Take in large files: clone each aside where that is possible, note the others while there is room."""
        clones = True
        for file in sorted(files, key=lambda file: file.path):
            one: Queued | None = None
            try:
                if clones and not is_hardlink(file.path):
                    one = clone_now(source, file, sidecar, hash_first(file))
                    clones = one is not None
                if one is None:
                    one = Queued(file, hash_first(file))
                    if not one.hash_first and not is_hardlink(file.path):
                        room.take(min(file.size, file.blocks * 512))
            except (NoRoom, OSError) as problem:
                reason = what_stopped(problem, source, file)
                if reason:
                    intake.skipped.append(Skipped(text_of(file.path), reason))
                continue
            self.files[file.path] = intake.queued[file.path] = one

    def start(self, tell: Callable[[Outcome], None]) -> None:
        """Begin to store; `tell` is called at the end, in the thread. Where no thread can be had, it is done here."""
        self.thread = threading.Thread(target=self.run, args=(tell,), name="tensortime-backlog", daemon=True)
        try:
            self.thread.start()
        except RuntimeError:
            self.thread = None
            self.run(tell)

    @property
    def is_open(self) -> bool:
        """Whether a thread of this process still works on it."""
        return self.owner == os.getpid() and self.thread is not None and not self.ended.is_set()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, at most so long. (Ctrl-C in `join` makes Python 3.11 forget the thread.)"""
        if self.is_open:
            self.ended.wait(seconds)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(one.file.size for one in self.files.values())

    def run(self, tell: Callable[[Outcome], None]) -> None:
        """Store all files, complete the backup, let the store go, and tell how it ended."""
        duty, started = self.duty, time.monotonic()
        assert duty is not None, "a backlog is started after its backup was published"
        problem: Exception | None = None
        try:
            with duty.held:
                if self.thread is not None:
                    fsops.step_back()
                try:
                    self.store_all(duty)
                except Exception as caught:  # noqa: BLE001 - it is told; nobody else could catch it here
                    problem = caught
                self.publish(duty)
        except BaseException as caught:
            duty.take_back(self.taken)
            self.taken = Intake()
            if not isinstance(caught, Exception):
                raise
            problem = caught
        try:
            tell(self.outcome(duty, problem, time.monotonic() - started))
        finally:
            self.duty = None  # which holds the ids of all small files
            self.ended.set()

    def store_all(self, duty: Duty) -> None:
        """Store one file after the other; ends early where it is to stop."""
        for path, one in self.files.items():
            if self.stop.is_set():
                return
            meter = Meter(self.progress, one.file.size, self.lock, self.stop)
            try:
                stored = store_queued(duty, one, meter)
                if stored.method != KNOWN:
                    self.taken.brought.add(stored.digest)
                keep_large(self.taken, duty.source, one.file, stored)
            except Stopped:
                return
            except (NoRoom, OSError) as problem:
                self.failed[path] = what_stopped(problem, duty.source, one.file) or REMOVED
            finally:
                meter.finish()

    def publish(self, duty: Duty) -> None:
        """Complete the backup as far as its files are stored."""
        if not self.taken.large and not self.failed:
            return
        session, report = duty.session, duty.report
        assert report.experiment is not None and report.commit is not None, "it was published"
        session.sidecar.sync(self.taken.to_sync)
        supplement = Supplement(
            report.experiment, report.number, report.commit, self.taken.large, self.failed, duty.groups
        )
        publish_supplement(session.store, session.staging, supplement, duty.known)
        duty.remember(self.taken)
        session.store.give_to_owner()

    def outcome(self, duty: Duty, problem: Exception | None, seconds: float) -> Outcome:
        """How it ended."""
        assert duty.report.experiment is not None, "it was published"
        stored = self.taken.large
        missing = {path: one for path, one in self.files.items() if path not in {*stored, *self.failed}}
        return Outcome(
            duty.report.experiment,
            len(stored),
            sum(file.size for file in stored.values()),
            seconds,
            tuple(map(text_of, missing)),
            sum(one.file.size for one in missing.values()),
            tuple(Skipped(text_of(path), reason) for path, reason in self.failed.items()),
            tuple(text_of(path) for path, file in stored.items() if file.changed),
            problem,
        )


def clone_now(source: Source, file: FileStat, sidecar: Sidecar, hash_first: bool) -> Queued | None:
    """Queue a file with a clone of it, as it is now; None where the file system cannot clone."""
    for attempt in range(1, TRIES + 1):
        fd = source.open(file)
        try:
            before = os.fstat(fd)
            clone = clone_aside(sidecar, fd)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if clone is None:
            return None
        changed = stat_key(before) != stat_key(after)
        if not changed or attempt == TRIES:
            return Queued(file, hash_first, clone, after, changed)
        os.unlink(clone)
    raise AssertionError("the loop returns")


def store_queued(duty: Duty, one: Queued, meter: Meter) -> Stored:
    """Bring a queued file into the sidecar: `changed` if it is not as it was when the backup was made."""
    file, source, options, sidecar = one.file, duty.source, duty.session.options, duty.session.sidecar
    as_queued = StatKey(file.size, file.mtime_ns, file.ctime_ns, file.inode)
    moved = False

    def reopen() -> int:
        nonlocal moved
        if one.clone:
            return fsops.open_regular(one.clone)
        fd = source.open(file)
        moved = moved or key_of(os.fstat(fd)) != as_queued
        return fd

    look_up = sidecar.holds_whole if options.rehash else sidecar.holds
    stored = store_file(
        sidecar,
        reopen,
        room=duty.room(),
        look_first=look_up if one.hash_first else None,
        link_from=source.root + b"/" + file.path if options.is_hardlink(file.path) else None,
        advance=meter,
    )
    if one.info is None:
        # Written ahead of the reader it is whole, and yet not what was there; a log only grows meanwhile.
        moved = moved or (key_of(stored.info) != as_queued and stored.info.st_size <= file.size)
        return stored._replace(changed=stored.changed or moved)
    os.unlink(one.clone)
    return stored._replace(info=one.info, changed=one.changed, settled=not one.changed)

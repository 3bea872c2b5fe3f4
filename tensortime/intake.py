"""Reading the project: each file once, small ones into packs, large ones into the sidecar.

What the stat cache knows is not opened. The bytes stored are the bytes hashed; a file that changes while it is
read is read again, three times at most, and then stored as `changed`.
"""

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from tensortime import fsops, statcache
from tensortime.findings import FileStat
from tensortime.formats import Digest, Oid, RelPath, raw_of, text_of
from tensortime.monitor import Meter, Monitor, OutOfTime
from tensortime.packs import Kind, Packed, PackWriter, object_id, pack_object
from tensortime.refusals import refusal
from tensortime.reports import NOT_AT_ONCE, Skipped
from tensortime.sidecar import COPY, HARDLINK, KNOWN, TRIES, NoRoom, Room, Sidecar, Stored, store_file
from tensortime.statcache import (
    LARGE_WINDOW_NS,
    SMALL_WINDOW_NS,
    UNSETTLED,
    Known,
    StatKey,
    is_settled,
)
from tensortime.threads import Result, in_threads, threads
from tensortime.trees import PERMISSIONS, LargeFile, SmallFile

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

THREADS = min(8, max(2, os.cpu_count() or 2))
LARGE_THREADS = THREADS + 1
"""One of them waits for the disk: each large file is synced."""
BATCH_FILES = 128
BATCH_BYTES = 4 << 20
"""A batch of small files is read by one thread and held in memory: at most so many files, about so many bytes."""

ALONE_BYTES = 8 << 10
"""Small files up to this size, on average, are read by one thread where nothing is waited for."""

BYTES_A_SECOND = 4e9
"""No thread hashes faster: what is larger than that allows is not begun where time is short."""


class Queued(NamedTuple):
    """A large file that is stored later."""

    file: FileStat
    hash_first: bool
    """Its bytes are probably stored already."""
    clone: str = ""
    """A staged file that shares the bytes that it had; empty where the file itself is read later."""
    info: os.stat_result | None = None
    """With a clone: the file's stat when that was made."""
    changed: bool = False
    """With a clone: it changed while that was made, three times over."""


@dataclass
class Intake:
    """What was read, growing while files come in."""

    small: dict[RelPath, SmallFile] = field(default_factory=dict)
    large: dict[RelPath, LargeFile] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    queued: dict[RelPath, Queued] = field(default_factory=dict)
    linked: list[FileStat] = field(default_factory=list)
    """Files that have other names as well."""
    learned: dict[RelPath, Known] = field(default_factory=dict)
    """For the stat cache: small files that have settled, and all large ones."""
    stored_bytes: int = 0
    brought: set[Digest] = field(default_factory=set)
    """Objects that were not in the sidecar before."""
    to_sync: set[Digest] = field(default_factory=set)
    """Objects whose names may not survive a power loss yet: those brought, and those that were just found there.
    Another backup may have brought them and died."""
    writers: list[PackWriter] = field(default_factory=list)
    commits: set[Oid] = field(default_factory=set)
    """What was written of packs, and the commits in them: should no ref come to name one of these, all is taken back."""


@dataclass(frozen=True)
class Source:
    """The project as something to open files in."""

    root: bytes
    now_ns: int
    """The file system's clock when the backup began: what is younger than the racy window is not cached."""

    followed: Mapping[RelPath, bytes] = field(default_factory=dict)
    """Links that are stored as what is behind them, and the real path of that."""

    def path_of(self, file: FileStat) -> bytes:
        """Where a scanned file was found."""
        return self.followed.get(file.path) or self.root + b"/" + file.path

    def open(self, file: FileStat) -> int:
        """Open a scanned file, and no other: not what a link that was put in a folder's place leads to."""
        return self.open_with_stat(file)[0]

    def open_with_stat(self, file: FileStat) -> tuple[int, os.stat_result]:
        """As `open`, with what `fstat` says of the file."""
        try:
            fd, info = fsops.open_with_stat(self.path_of(file))
        except OSError as problem:
            # Only the path of the project in front makes it too long for the kernel.
            if problem.errno != errno.ENAMETOOLONG:
                raise
            return self.open_stepwise(file.path)
        if info.st_ino == file.inode and info.st_dev == file.device:
            return fd, info
        os.close(fd)
        return self.open_stepwise(file.path)

    def open_stepwise(self, path: RelPath) -> tuple[int, os.stat_result]:
        """Open a file that was replaced since the scan, following no link on the way but those to be followed."""
        top, rest = self.root, bytes(path)
        for link, real in self.followed.items():
            if path == link:
                return fsops.open_with_stat(real)
            # Of links behind links the longest leads on.
            if path.startswith(link + b"/") and len(path) - len(link) <= len(rest):
                top, rest = real, path[len(link) + 1 :]
        *folders, name = rest.split(b"/")
        folder = fsops.open_folder(top)
        try:
            for part in folders:
                below = fsops.open_folder(part, dir_fd=folder)
                os.close(folder)
                folder = below
            return fsops.open_with_stat(name, dir_fd=folder)
        finally:
            os.close(folder)


class Reading(NamedTuple):
    """What reading needs, whatever is read."""

    source: Source
    large_size: int
    rehash: bool
    """Nothing is believed to be stored whole before it was read again."""
    monitor: Monitor
    large_until: float | None = None
    """As in BackupOptions."""

    def has_time_for(self, size: int) -> bool:
        """Whether so many bytes can be read in time."""
        if self.large_until is None:
            return True
        return size <= (self.large_until - time.monotonic()) * BYTES_A_SECOND


class SmallRead(NamedTuple):
    """One small file as a thread read it."""

    file: FileStat
    oid: bytes
    size: int
    packed: Packed | None
    """None where the store has these bytes."""
    info: os.stat_result
    changed: bool
    settled: bool


class Unread(NamedTuple):
    """A file that could not be read; `reason` is empty where it simply went away."""

    file: FileStat
    reason: str


class Outgrown(NamedTuple):
    """A small file that had become large when it was opened."""

    file: FileStat


def threads_for(
    files: Sequence[FileStat], count: int = THREADS
) -> "contextlib.AbstractContextManager[ThreadPoolExecutor | None]":
    """The threads that read these files; None where one of them would get all."""
    few = len(files) < BATCH_FILES and sum(file.size for file in files) < BATCH_BYTES
    return threads(0 if few else count)


def batches(files: Iterable[FileStat]) -> Iterator[list[FileStat]]:
    """Small files in portions for one thread each."""
    batch: list[FileStat] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.size
        if len(batch) >= BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def read_batches(
    read: Callable[[list[FileStat]], Result], files: Sequence[FileStat]
) -> Generator[Result, None, None]:
    """Read small files in batches: in this thread for as long as several would be no faster, then in several.

    A thread gives Python's lock away in each call of the system, and waits to have it back: two read 50,000 files of 4 KB no
    sooner than one, for a third more work of the processor, which is the training's. Several are better where the disk is
    waited for, and where files are so large that hashing and compressing them, which need no lock, take longest.
    """
    rest = batches(files)
    for batch in rest:
        started, worked = time.monotonic(), time.thread_time()
        results = read(batch)
        seconds, work = time.monotonic() - started, time.thread_time() - worked
        yield results
        if seconds > 2 * work or sum(file.size for file in batch) > ALONE_BYTES * len(batch):
            break
    following = next(rest, None)
    if following is not None:
        with threads(THREADS) as pool:
            yield from in_threads(pool, read, chain([following], rest), 2 * THREADS)


def read_small(
    source: Source, file: FileStat, known: set[bytes], limit: int
) -> SmallRead | Unread | Outgrown:
    """Read one small file."""
    try:
        for attempt in range(1, TRIES + 1):
            fd, before = source.open_with_stat(file)
            try:
                if before.st_size >= limit:
                    return Outgrown(file)
                data = read_bytes(fd, before.st_size)
                after = os.fstat(fd)
                same = same_stat(before, after) and len(data) == before.st_size
                grown = not same and after.st_size >= len(data) == before.st_size
                kept = same or (grown and read_bytes(fd, len(data)) == data)
            finally:
                os.close(fd)
            if kept or attempt == TRIES:
                break
    except OSError as problem:
        return Unread(file, reason_of(problem, source, file))
    oid = object_id(Kind.BLOB, data)
    packed = None if oid in known else pack_object(Kind.BLOB, data, oid)
    return SmallRead(file, oid, len(data), packed, after, not kept, same)


def read_bytes(fd: int, size: int) -> bytes:
    """Up to `size` bytes from the start of an open file."""
    data = os.pread(fd, size, 0)
    while 0 < len(data) < size:
        more = os.pread(fd, size - len(data), len(data))
        if not more:
            break
        data += more
    return data


def same_stat(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether nobody wrote to the file in between."""
    return (one.st_size, one.st_mtime_ns, one.st_ctime_ns) == (
        other.st_size,
        other.st_mtime_ns,
        other.st_ctime_ns,
    )


def reason_of(problem: OSError, source: Source, file: FileStat) -> str:
    """Why a file was not stored, in a few words; empty where it went away, which is nobody's concern."""
    if problem.errno == errno.ENOENT and not os.path.lexists(source.path_of(file)):
        return ""
    if problem.errno in (errno.ELOOP, errno.EINVAL, errno.ENOTDIR, errno.ENXIO):
        return "it became something else while it was read"
    return problem.strerror or str(problem)


def key_of(info: os.stat_result) -> StatKey:
    """The stat cache's key of a file."""
    return StatKey(info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)


def take_small(
    intake: Intake, reading: Reading, files: Sequence[FileStat], writer: PackWriter, known: set[bytes]
) -> list[FileStat]:
    """Read small files into the pack; returns those that had become large."""
    outgrown: list[FileStat] = []

    def read_batch(batch: list[FileStat]) -> list[SmallRead | Unread | Outgrown]:
        return [read_small(reading.source, file, known, reading.large_size) for file in batch]

    with contextlib.closing(read_batches(read_batch, files)) as batches_read:
        for results in batches_read:
            for result in results:
                if isinstance(result, SmallRead):
                    keep_small(intake, reading.source, result, writer, known)
                elif isinstance(result, Outgrown):
                    outgrown.append(result.file)
                elif result.reason:
                    intake.skipped.append(Skipped(text_of(result.file.path), result.reason))
            reading.monitor.advance(len(results), sum(result.file.size for result in results))
    return outgrown


def keep_small(
    intake: Intake, source: Source, read: SmallRead, writer: PackWriter, known: set[bytes]
) -> None:
    """Note a small file, and write its blob unless the store or this pack has it."""
    if read.packed is not None and read.oid not in known:
        try:
            writer.add(read.packed)
        except OSError as problem:
            raise refusal(writer.folder, problem) from problem
        known.add(read.oid)
    path, key = read.file.path, key_of(read.info)
    permissions = stat.S_IMODE(read.info.st_mode) & PERMISSIONS
    intake.small[path] = SmallFile(read.oid, read.size, permissions, read.changed)
    if read.settled and is_settled(key, source.now_ns, SMALL_WINDOW_NS):
        statcache.note(intake.learned, path, key, read.oid)


def take_large(
    intake: Intake,
    reading: Reading,
    files: Sequence[FileStat],
    sidecar: Sidecar,
    *,
    room: Room,
    hash_first: Callable[[FileStat], bool],
    is_hardlink: Callable[[RelPath], bool],
) -> None:
    """Bring large files into the sidecar; one that finds no room is skipped and named."""
    source = reading.source
    look_up = sidecar.holds_whole if reading.rehash else sidecar.holds
    lock, stop = threading.Lock(), threading.Event()

    def store(file: FileStat) -> Stored | NoRoom | OutOfTime | OSError:
        meter = Meter(reading.monitor, file.size, lock, stop, reading.large_until)
        if not reading.has_time_for(file.size):
            return OutOfTime()
        try:
            stored = store_file(
                sidecar,
                lambda: source.open(file),
                room=room,
                look_first=look_up if hash_first(file) else None,
                link_from=source.root + b"/" + file.path if is_hardlink(file.path) else None,
                advance=meter,
            )
            if stored.method != KNOWN:
                intake.brought.add(stored.digest)
            return stored
        except (NoRoom, OutOfTime, OSError) as problem:
            return problem
        finally:
            meter.finish()

    with (
        threads_for(files, LARGE_THREADS) as pool,
        contextlib.closing(in_threads(pool, store, files, LARGE_THREADS, stop)) as results,
    ):
        for file, result in zip(files, results, strict=True):
            if isinstance(result, Stored):
                keep_large(intake, source, file, result)
            else:
                reason = why_not_stored(result, reading, file)
                if reason:
                    intake.skipped.append(Skipped(text_of(file.path), reason))


def keep_large(intake: Intake, source: Source, file: FileStat, stored: Stored) -> None:
    """Note a large file that is in the sidecar."""
    info = stored.info
    intake.to_sync.add(stored.digest)
    intake.large[file.path] = LargeFile(
        stored.digest, stored.size, stat.S_IMODE(info.st_mode) & PERMISSIONS, info.st_mtime_ns, stored.changed
    )
    if stored.method == COPY:
        intake.stored_bytes += min(stored.size, info.st_blocks * 512)
    # A new hard link changed the file's ctime after `info` was taken.
    if stored.method == HARDLINK:
        with contextlib.suppress(OSError):
            info = os.lstat(source.root + b"/" + file.path)
    key = key_of(info)
    if not (stored.settled and key.size == stored.size and is_settled(key, source.now_ns, LARGE_WINDOW_NS)):
        key = key._replace(mtime_ns=UNSETTLED)
    identity = raw_of(stored.digest)
    statcache.note(intake.learned, file.path, key, identity)


def why_not_stored(problem: NoRoom | OutOfTime | OSError, reading: Reading, file: FileStat) -> str:
    """Why a large file was not stored; empty where it went away."""
    if isinstance(problem, OutOfTime) or (isinstance(problem, NoRoom) and reading.large_until is not None):
        return NOT_AT_ONCE
    return what_stopped(problem, reading.source, file)


def what_stopped(problem: NoRoom | OSError, source: Source, file: FileStat) -> str:
    """Why a large file could not be stored, with the numbers; empty where it went away."""
    if isinstance(problem, OSError):
        full = problem.errno in fsops.FULL
        return f"no room: {problem.strerror}" if full else reason_of(problem, source, file)
    return f"no room: it needs {problem.size:,} bytes, {problem.free:,} are left beside what is kept free"

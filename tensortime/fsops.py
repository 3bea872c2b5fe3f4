"""What depends on the operating system: cloning, copying, syncing, locking, opening without following links.

Linux and macOS. Nothing here knows what a store is. Paths are bytes or str; descriptors never outlive a call
unless they are returned.
"""

import contextlib
import errno
import fcntl
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

BLOCK = 128 << 10
"""Bytes read and written at a time, as `cp` does. Larger ones are no faster, and make the kernel look for large pieces of
free memory: in a virtual machine whose host has taken these back that is five times as slow."""
ZEROS = bytes(BLOCK)

WRITEBACK = 4 << 20
"""So many new bytes at a time are handed to the disk before the sync: with 16 MiB its last step is felt again."""

FICLONE = 0x40049409
"""ioctl_ficlone(2): share all extents of a file. Unlike copy_file_range it tells whether it did."""

NO_CLONE = {
    errno.EOPNOTSUPP,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOTTY,
    errno.ENOSYS,
    errno.EPERM,
    errno.ETXTBSY,
}
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EROFS, errno.ENOSYS}
"""Some network and FUSE file systems cannot sync a folder: nothing more can be done there."""

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No room on the disk or in the quota."""

LOW_PRIORITY = 10
"""Niceness of a thread that nobody waits for. From it Linux takes how its reads and writes are ranked, too."""

Path = bytes | str


class Hasher(Protocol):
    """What `hashlib` and `blake3` objects have in common."""

    def update(self, data: memoryview, /) -> object:
        """Take more bytes."""


def open_unfollowed(path: Path, dir_fd: int | None = None) -> int:
    """Open for reading what has this very name: never through a link (ELOOP), never waiting for the other end of a FIFO."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)


def open_regular(path: Path, dir_fd: int | None = None) -> int:
    """As `open_unfollowed`, a regular file; OSError EINVAL ("not a regular file") for anything else."""
    return open_with_stat(path, dir_fd)[0]


def open_with_stat(path: Path, dir_fd: int | None = None) -> tuple[int, os.stat_result]:
    """As `open_regular`, with what `fstat` says of the file."""
    fd = open_unfollowed(path, dir_fd)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd, info


def open_folder(path: Path, dir_fd: int | None = None) -> int:
    """Open a real folder (not a link to one)."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)


def create_file(path: Path, mode: int, dir_fd: int | None = None) -> int:
    """Create a file that must not exist yet, open for reading and writing."""
    return os.open(
        path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=dir_fd
    )


def clone(source: int, target: int) -> bool:
    """Make the open file `target` share all bytes of `source`; False where the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as problem:
        if problem.errno in NO_CLONE:
            return False
        raise
    return True


def tells_holes(fd: int) -> bool:
    """Whether to believe what lseek says of holes: OpenZFS before 2.2.2 takes data just written for one."""
    return file_system_name(f"/proc/self/fd/{fd}") != "zfs"


def parts_of(fd: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """The first `size` bytes of an open file as start, end, whether data is there; ends early if the file does."""
    if os.fstat(fd).st_blocks * 512 >= size or not tells_holes(fd):
        yield 0, size, True
        return
    start = 0
    while start < size:
        try:
            data = os.lseek(fd, start, os.SEEK_DATA)
            hole = os.lseek(fd, data, os.SEEK_HOLE)
        except OSError as problem:
            # ENXIO: nothing but a hole from here to the end. Anything else: holes are unknown here.
            known = problem.errno == errno.ENXIO
            yield start, min(size, os.fstat(fd).st_size) if known else size, not known
            return
        yield start, min(data, size), False
        yield min(data, size), min(hole, size), True
        start = hole


def blocks_of(fd: int, size: int) -> Iterator[tuple[int, memoryview, bool]]:
    """The first `size` bytes of an open file in blocks: offset, bytes, whether they were read.

    Holes are not read: a file of 10 GiB with 4 KiB of data costs what hashing zeros costs.
    """
    buffer, zeros = memoryview(bytearray(min(BLOCK, max(size, 1)))), memoryview(ZEROS)
    for start, end, is_data in parts_of(fd, size):
        while start < end:
            count = min(BLOCK, end - start)
            if is_data:
                count = os.preadv(fd, [buffer[:count]], start)
                if count == 0:
                    return
            yield start, (buffer if is_data else zeros)[:count], is_data
            start += count


def copy_bytes(
    source: int,
    target: int,
    size: int,
    hasher: Hasher | None,
    advance: Callable[[int], None] | None = None,
    *,
    will_sync: bool = False,
) -> int:
    """Copy up to `size` bytes from the start of `source` to `target`, hashing what is written.

    Holes stay holes: so does a block of zeros where the source has fewer blocks than bytes. Returns the
    bytes copied, fewer than `size` if the source became shorter. `will_sync`: the caller syncs `target` next.
    """
    sparse = os.fstat(source).st_blocks * 512 < size
    done = begun = 0
    for offset, block, is_data in blocks_of(source, size):
        # bytes(): comparing memoryviews goes item by item, fifty times as slow.
        if is_data and not (sparse and bytes(block) == ZEROS[: len(block)]):
            write_all(target, block, offset)
        if hasher is not None:
            hasher.update(block)
        done = offset + len(block)
        if will_sync:
            begun = begin_writeback(target, begun, done)
        if advance is not None:
            advance(len(block))
    os.ftruncate(target, done)
    return done


def begin_writeback(fd: int, begun: int, written: int) -> int:
    """Let the kernel write out what lies between two offsets, in whole steps of WRITEBACK; returns how far it was begun.

    The disk works while more comes in, and the sync at the end finds little left: 128 MiB are safe in 0.06 s, not 0.1 s.
    On Linux DONTNEED begins writing; pages that are dirty or being written stay in the cache.
    """
    end = written - written % WRITEBACK
    if end > begun and sys.platform != "darwin":
        with contextlib.suppress(OSError):  # advice alone: the sync does all of it
            os.posix_fadvise(fd, begun, end - begun, os.POSIX_FADV_DONTNEED)
    return max(begun, end)


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of `data` at `offset`."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def hash_file(fd: int, size: int, hasher: Hasher, advance: Callable[[int], None] | None = None) -> int:
    """Feed up to `size` bytes of an open file to `hasher`; returns how many there were."""
    done = 0
    for offset, block, _ in blocks_of(fd, size):
        hasher.update(block)
        done = offset + len(block)
        if advance is not None:
            advance(len(block))
    return done


def read_file(path: Path, limit: int = 1 << 30, dir_fd: int | None = None) -> bytes:
    """All bytes of a regular file that is not a link; OSError EFBIG past `limit` bytes."""
    fd = open_regular(path, dir_fd)
    with os.fdopen(fd, "rb", buffering=0) as file:
        if os.fstat(fd).st_size > limit:
            raise OSError(errno.EFBIG, "too large to be what it should be", path)
        return file.read()


def has_content(path: Path, content: bytes) -> bool:
    """Whether a regular file that is no link has exactly this content."""
    try:
        return read_file(path, 1 << 20) == content
    except OSError:
        return False


def sync_file(fd: int) -> None:
    """Make an open file survive a power loss."""
    try:
        if sys.platform == "darwin":
            try:
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
                return
            except OSError as problem:  # some file systems have only the weaker one
                if problem.errno in (errno.EIO, *FULL):
                    raise
        os.fsync(fd)
    except OSError as problem:
        if problem.errno not in NO_SYNC:
            raise


def sync_path(path: Path) -> None:
    """Make the bytes of a file survive a power loss, whoever wrote them; one that is not there needs nothing."""
    with contextlib.suppress(FileNotFoundError):
        fd = open_regular(path)
        try:
            sync_file(fd)
        finally:
            os.close(fd)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def write_atomic(
    path: Path, data: bytes, *, mode: int = 0o600, staging: Path | None = None, durable: bool = True
) -> None:
    """Write a file so that others see all of it or nothing. `staging` is a folder on the same file system."""
    folder = os.path.dirname(os.fsencode(path)) if staging is None else os.fsencode(staging)
    # tempfile would do the same, and take 5 ms to load.
    temporary = os.path.join(folder, b".tensortime-" + os.urandom(8).hex().encode())
    fd = create_file(temporary, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(fd, mode)
            if durable:
                sync_file(fd)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        sync_folder(os.path.dirname(os.fsencode(path)))


HELD: set[int] = set()
"""Open files that locks are held on. A lock outlives its process in every child that has the file open: each child of a
fork closes them."""


def let_go() -> None:
    """In a child: the locks are the parent's alone."""
    for fd in HELD:
        with contextlib.suppress(OSError):
            os.close(fd)
    HELD.clear()


os.register_at_fork(after_in_child=let_go)


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    shared: bool = False,
    wait: float = 0.0,
    lockless: bool = True,
    held: set[int] | None = None,
) -> Iterator[bool]:
    """Hold a lock on a file that is never removed; yields whether we got it within `wait` seconds.

    flock, not fcntl locks: those drop when any descriptor of the file closes. Where the file system has no
    locks (some network ones) this yields `lockless`: True where all is safe without, as publishing is.
    `held`: has the descriptor in it meanwhile. A process that is started with it holds the lock as well.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as problem:
        # Where nothing can be written nobody cleans up either: a reader needs no lock.
        if not shared or problem.errno not in (errno.EROFS, errno.EACCES):
            raise
        yield True
        return
    HELD.add(fd)
    held = set() if held is None else held
    try:
        got = take_lock(fd, shared, time.monotonic() + wait, lockless)
        if got:
            held.add(fd)
        yield got
    finally:
        held.discard(fd)
        if fd in HELD:  # else this is a child
            HELD.remove(fd)
            # Closing is not enough where a process was forked at this moment: its copy would keep the lock.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)


def take_lock(fd: int, shared: bool, deadline: float, lockless: bool) -> bool:
    """Try to lock an open file until `deadline` (monotonic seconds); `lockless` where that is not possible."""
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    while True:
        try:
            fcntl.flock(fd, operation)
            return True
        except OSError as problem:
            if problem.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
                return lockless
            if problem.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)


def step_back() -> None:
    """Let the calling thread work only where nothing else wants to; its reads and writes too (see ioprio_set(2))."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            thread = threading.get_native_id()
            now = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, max(now, LOW_PRIORITY))


def rename_to_new(source: Path, target: Path) -> None:
    """Move a folder to a name that must be free; an empty real folder there counts as free."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.lstat(target).st_mode):
            raise FileExistsError(errno.EEXIST, "already exists", target)
    os.rename(source, target)


def rename_file_to_new(folder: int, source: bytes, target: bytes) -> None:
    """Move a file or link within an open folder to a name that must be free."""
    try:
        os.link(source, target, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as problem:
        if problem.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        # No hard links here: a look and a rename, between which somebody could just make the name.
        with contextlib.suppress(FileNotFoundError):
            os.lstat(target, dir_fd=folder)
            raise FileExistsError(errno.EEXIST, "already exists", target) from None
        os.rename(source, target, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        os.unlink(source, dir_fd=folder)


def free_files(path: Path) -> int | None:
    """How many more files fit on this file system; None where it does not count them."""
    info = os.statvfs(path)
    return info.f_favail if info.f_files else None


def free_space(path: Path) -> tuple[int, int]:
    """Bytes that we may still write on this file system, and its size."""
    info = os.statvfs(path)
    return info.f_bavail * info.f_frsize, info.f_blocks * info.f_frsize


def file_system_name(path: Path) -> str:
    """The type of the file system that holds `path` ("ext4", "xfs"), or "this file system"."""
    best, name = b"", "this file system"
    target = os.path.realpath(os.fsencode(path)) + b"/"
    try:
        with open("/proc/self/mounts", "rb") as file:
            for line in file:
                mount, kind = line.split()[1:3]
                mount = mount.replace(b"\\040", b" ").rstrip(b"/") + b"/"
                if target.startswith(mount) and len(mount) >= len(best):
                    best, name = mount, kind.decode("ascii", "replace")
    except (OSError, ValueError):
        return name
    return name


def give_to(path: Path, owner: int, group: int) -> None:
    """Give what root made at or below a path of somebody else's to them; what is not root's stays whose it is."""
    top = os.fsencode(path)
    below = (os.path.join(folder, name) for folder, *names in os.walk(top) for name in (*names[0], *names[1]))
    for place in (top, *below):
        with contextlib.suppress(OSError):
            if os.lstat(place).st_uid == 0:
                os.chown(place, owner, group, follow_symlinks=False)


def remove_tree(path: Path) -> None:
    """Remove a folder of ours, also where parts of it are read-only; what cannot go stays."""

    def unlock_and_retry(function: Callable[..., object], name: Path, _: object) -> None:
        with contextlib.suppress(OSError):
            if name != path:  # what is around it is not ours
                os.chmod(os.path.dirname(name), 0o700)
            if not os.path.islink(name):
                os.chmod(name, 0o700)
            if function in (os.unlink, os.rmdir):
                function(name)
            else:
                shutil.rmtree(name, ignore_errors=True)

    import shutil  # as above

    shutil.rmtree(path, onerror=unlock_and_retry)


LOCAL_FILE_SYSTEMS = {
    *(
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "bcachefs",
        "zfs",
        "f2fs",
        "jfs",
        "reiserfs",
        "nilfs2",
        "ubifs",
    ),
    *("tmpfs", "ramfs", "overlay", "vfat", "exfat", "ntfs3", "fuseblk", "hfsplus", "apfs"),
}
"""Those that one machine alone writes to: what flock says there is true. Any other may be shared by several."""


def trusts_locks(path: Path) -> bool:
    """Whether a lock on this (existing) file or folder keeps everybody out who could write to it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno != errno.EWOULDBLOCK:
            return False
    finally:
        os.close(fd)
    # Elsewhere than on Linux nobody tells the type; there a lock that can be had is believed.
    return not sys.platform.startswith("linux") or file_system_name(path) in LOCAL_FILE_SYSTEMS


def lock_holders(path: Path) -> list[int]:
    """The processes that hold a lock on a file, as far as the system tells."""
    try:
        info = os.stat(path)
        with open("/proc/locks", encoding="ascii") as file:
            rows = [line.split() for line in file]
    except OSError:
        return []
    wanted = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    return sorted({int(row[4]) for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5] == wanted})


def command_of(pid: int) -> str:
    """What a process is, in one line; empty where that cannot be known."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return " ".join(os.fsdecode(file.read(4096).replace(b"\0", b" ")).split())
    except OSError:
        return ""

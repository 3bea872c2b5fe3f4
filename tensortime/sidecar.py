"""The sidecar: large files by the BLAKE3 of their bytes, `.objects/blake3/ab/cdef…`, never written again.

`store_file` brings one in (reflink, else copy; hardlink where asked for), `place_object` puts one out. What is
stored is what was hashed: bytes are hashed from the clone, or from the buffer that is written.
"""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from blake3 import blake3

from tensortime import fsops
from tensortime.errors import Damaged, StoreUnusable
from tensortime.formats import Digest, digest_of
from tensortime.withdrawn import Mark, file_id

LOOKS, LOOK_BYTES = 8, 4096

TRIES = 3
"""How often a file that changes while it is read is read again."""

OBJECT_MODE = 0o400

REFLINK, COPY, HARDLINK, SYMLINK, KNOWN = "reflink", "copy", "hardlink", "symlink", "known"
"""How bytes got to their place; `known`: they were there already."""

POINTING = (HARDLINK, SYMLINK)
"""What is placed so leads to the object itself: who writes to it writes into the store."""

Advance = Callable[[int], None]
LooksUp = Callable[[Digest, int], bool]
"""Tells whether the sidecar has an object of this digest and size."""

KEEPING = threading.Lock()


class Stored(NamedTuple):
    """A file that is now in the sidecar."""

    digest: Digest
    size: int
    method: str
    changed: bool
    """It changed under every try; these bytes are the last try's."""
    info: os.stat_result
    """The file's stat after its bytes were read: equal to the one before unless `changed` or grown."""
    settled: bool
    """Nothing moved while it was read, so that this stat stands for these bytes."""


class NoRoom(Exception):
    """A copy would cross the space that is kept free."""

    def __init__(self, size: int, free: int) -> None:
        super().__init__(size, free)
        self.size, self.free = size, free


class Room:
    """The bytes that may still be copied; shared by threads."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.lock = threading.Lock()

    def take(self, size: int) -> None:
        """Use so many bytes; NoRoom if there are fewer."""
        with self.lock:
            if size > self.left:
                raise NoRoom(size, max(self.left, 0))
            self.left -= size

    def give_back(self, size: int) -> None:
        """They were not needed after all."""
        with self.lock:
            self.left += size


@dataclass(frozen=True)
class Sidecar:
    """The folder of objects, and the staging folder on the same file system."""

    folder: str
    staging: str
    withdrawn: Mapping[Digest, Mark] = field(default_factory=dict)
    """Objects that are not to be relied on: who stores must store them again."""

    def path_of(self, digest: Digest) -> str:
        """Where the object lies."""
        name = digest.removeprefix("blake3:")
        return os.path.join(self.folder, "blake3", name[:2], name[2:])

    def holds(self, digest: Digest, size: int) -> bool:
        """Whether there is a regular file of this size under this digest, and nobody withdrew it."""
        try:
            info = os.lstat(self.path_of(digest))
        except OSError:
            return False
        mark = self.withdrawn.get(digest)
        whole = stat.S_ISREG(info.st_mode) and info.st_size == size
        return whole and (mark is None or mark.file != file_id(info))

    def holds_whole(self, digest: Digest, size: int) -> bool:
        """As `holds`, after reading the object."""
        return self.holds(digest, size) and rehash_object(self, digest)

    def open_object(self, digest: Digest, size: int) -> int:
        """Open an object for reading; Damaged if it is missing or has another size."""
        try:
            fd = fsops.open_regular(self.path_of(digest))
        except OSError as problem:
            raise Damaged(
                "the object {digest} cannot be read: {problem}", digest=digest, problem=problem.strerror
            ) from problem
        if os.fstat(fd).st_size != size:
            os.close(fd)
            raise Damaged("the object {digest} has the wrong size", digest=digest)
        return fd

    def keep(self, staged: str, digest: Digest) -> bool:
        """Give a staged file its name; False if the object was there already, right or wrong: then others need it.

        Then too the new bytes take the place of the old: they were just hashed, and heal an object that has rotted.
        """
        # Two threads with the same bytes: only one of them brought them. Between processes it is only a number.
        with KEEPING:
            target = self.path_of(digest)
            known = os.path.isfile(target) and not os.path.islink(target)
            folder = os.path.dirname(target)
            os.makedirs(folder, mode=0o700, exist_ok=True)
            if os.path.islink(folder):
                raise StoreUnusable(
                    "the store is not safe to use: {path} is a symbolic link",
                    path=folder,
                    hint="put the real folder back in its place",
                )
            if os.path.isdir(target) and not os.path.islink(target):
                self.move_aside(digest)
            os.rename(staged, target)
            return not known

    def move_aside(self, digest: Digest) -> None:
        """Move what lies in the place of an object and is no file to `.objects/damaged`."""
        damaged = os.path.join(self.folder, "damaged")
        os.makedirs(damaged, mode=0o700, exist_ok=True)
        name = f"{digest.removeprefix('blake3:')}-{os.urandom(4).hex()}"
        os.rename(self.path_of(digest), os.path.join(damaged, name))

    def sync(self, digests: Iterable[Digest]) -> None:
        """Make the names of these objects survive a power loss."""
        folders = {os.path.dirname(self.path_of(digest)) for digest in digests}
        for folder in sorted(folders):
            fsops.sync_folder(folder)
        if folders:
            fsops.sync_folder(os.path.join(self.folder, "blake3"))


@contextlib.contextmanager
def staged_file(sidecar: Sidecar) -> Iterator[tuple[int, str]]:
    """A new file in the staging folder, removed again unless it was renamed away."""
    name = os.path.join(sidecar.staging, f"object-{threading.get_ident()}-{os.urandom(4).hex()}")
    fd = fsops.create_file(name, 0o600)
    try:
        yield fd, name
    finally:
        os.close(fd)
        with contextlib.suppress(OSError):  # it has its final name, or is swept with the staging folder
            os.unlink(name)


def can_clone(sidecar: Sidecar, reopen: Callable[[], int]) -> bool:
    """Whether a file of the project can be stored without using room."""
    try:
        fd = reopen()
    except OSError:
        return False
    try:
        with staged_file(sidecar) as (target, _):
            return fsops.clone(fd, target)
    except OSError:
        return False
    finally:
        os.close(fd)


def clone_aside(sidecar: Sidecar, fd: int) -> str | None:
    """A staged file that shares all bytes of an open one; None where the file system cannot do that."""
    name = os.path.join(sidecar.staging, f"clone-{os.urandom(8).hex()}")
    target = fsops.create_file(name, 0o600)
    done = False
    try:
        done = fsops.clone(fd, target)
    finally:
        os.close(target)
        if not done:
            os.unlink(name)
    return name if done else None


def store_file(
    sidecar: Sidecar,
    reopen: Callable[[], int],
    *,
    room: Room,
    look_first: LooksUp | None = None,
    link_from: bytes | None = None,
    advance: Advance | None = None,
) -> Stored:
    """Bring the file that `reopen` opens into the sidecar.

    `look_first`: the bytes are probably known (a moved or touched file), so ask this before copying.
    `link_from`: the path for a hard link, where the user asked for one. NoRoom, OSError.
    """
    for attempt in range(1, TRIES + 1):
        fd = reopen()
        try:
            stored = try_once(sidecar, fd, room, look_first, link_from, advance)
        finally:
            os.close(fd)
        if not stored.changed or attempt == TRIES:
            return stored
    raise AssertionError("the loop returns")


def try_once(
    sidecar: Sidecar,
    fd: int,
    room: Room,
    look_first: LooksUp | None,
    link_from: bytes | None,
    advance: Advance | None,
) -> Stored:
    """One reading of an open file."""
    before = os.fstat(fd)
    size = before.st_size
    if look_first is not None or link_from is not None:
        hasher = blake3()
        whole = fsops.hash_file(fd, size, hasher, advance) == size
        digest = digest_of(hasher.digest())
        if whole and (look_first or sidecar.holds)(digest, size):
            return judge(fd, before, digest, size, KNOWN)
        if whole and link_from is not None and link_in(sidecar, link_from, fd, before, digest):
            return Stored(digest, size, HARDLINK, False, before, settled=True)
    with staged_file(sidecar) as (target, name):
        digest, done, method = copy_in(fd, target, size, room, advance)
        os.fchmod(target, OBJECT_MODE)
        fsops.sync_file(target)
        if not sidecar.keep(name, digest):
            method = KNOWN
    return judge(fd, before, digest, done, method)


def copy_in(fd: int, target: int, size: int, room: Room, advance: Advance | None) -> tuple[Digest, int, str]:
    """Clone or copy an open file into the staged one and hash what arrived."""
    hasher = blake3()
    if fsops.clone(fd, target):
        done = fsops.hash_file(target, os.fstat(target).st_size, hasher, advance)
        return digest_of(hasher.digest()), done, REFLINK
    on_disk = min(size, os.fstat(fd).st_blocks * 512)
    room.take(on_disk)
    try:
        done = fsops.copy_bytes(fd, target, size, hasher, advance, will_sync=True)
    except BaseException:
        room.give_back(on_disk)
        raise
    return digest_of(hasher.digest()), done, COPY


def judge(fd: int, before: os.stat_result, digest: Digest, done: int, method: str) -> Stored:
    """Whether the file stayed the same while it was read. One that only grew counts as stored, not as changed.

    Another ctime alone may be a chmod, or a write whose mtime was put back: the bytes are read once more.
    """
    after = os.fstat(fd)
    same = stat_key(before) == stat_key(after) and done == before.st_size
    untouched = same and before.st_ctime_ns == after.st_ctime_ns
    kept = untouched or (after.st_size >= done >= before.st_size and starts_with(fd, done, digest))
    return Stored(digest, done, method, not kept, after, same and kept)


def starts_with(fd: int, size: int, digest: Digest) -> bool:
    """Whether the first `size` bytes still hash to `digest`."""
    hasher = blake3()
    return fsops.hash_file(fd, size, hasher) == size and digest_of(hasher.digest()) == digest


def stat_key(info: os.stat_result) -> tuple[int, int, int, int]:
    """What tells that a file has not been written to. Not ctime: a hard link or chmod changes it."""
    return info.st_size, info.st_mtime_ns, info.st_ino, info.st_dev


def link_in(sidecar: Sidecar, source: bytes, fd: int, before: os.stat_result, digest: Digest) -> bool:
    """Make the user's file, hashed through `fd`, itself the object; False where that cannot be.

    A file that was written to or replaced while it was hashed never gets the name: others rely on what has one.
    """
    staged = os.path.join(sidecar.staging, "link-" + os.urandom(8).hex())
    try:
        os.link(source, staged, follow_symlinks=False)
    except OSError:
        return False
    fsops.sync_file(fd)
    if stat_key(os.lstat(staged)) != stat_key(before):
        os.unlink(staged)
        return False
    return sidecar.keep(staged, digest)


def why_no_link(sidecar: Sidecar, source: bytes) -> str | None:
    """Why a file of the project cannot be hard-linked into the store; None where it can."""
    staged = os.path.join(os.fsencode(sidecar.staging), b"link-" + os.urandom(8).hex().encode())
    try:
        os.link(source, staged, follow_symlinks=False)
        os.unlink(staged)
    except OSError as problem:
        return "another file system" if problem.errno == errno.EXDEV else problem.strerror
    return None


def place_object(
    sidecar: Sidecar,
    digest: Digest,
    size: int,
    folder_fd: int,
    name: bytes,
    how: str,
    advance: Advance | None = None,
) -> str:
    """Put an object at `name` in an open folder, where nothing may be yet; returns the method.

    What arrived is hashed; Damaged if it is not what the digest says. `how`: auto, reflink, copy, hardlink, symlink.
    """
    if how in POINTING:
        return point_at_object(sidecar, digest, size, folder_fd, name, how)
    source = sidecar.open_object(digest, size)
    try:
        target = fsops.create_file(name, 0o600, dir_fd=folder_fd)
        try:
            hasher = blake3()
            if how != COPY and fsops.clone(source, target):
                method, done = REFLINK, fsops.hash_file(target, size, hasher, advance)
            elif how == REFLINK:
                raise no_reflink()
            else:
                method, done = COPY, fsops.copy_bytes(source, target, size, hasher, advance)
        finally:
            os.close(target)
    finally:
        os.close(source)
    check_digest(digest, hasher.digest(), done == size)
    return method


def point_at_object(
    sidecar: Sidecar, digest: Digest, size: int, folder_fd: int, name: bytes, how: str
) -> str:
    """A hard or symbolic link to the object, whose bytes are checked first."""
    source = sidecar.open_object(digest, size)
    try:
        hasher = blake3()
        done = fsops.hash_file(source, size, hasher)
    finally:
        os.close(source)
    check_digest(digest, hasher.digest(), done == size)
    if how == SYMLINK:
        os.symlink(os.fsencode(sidecar.path_of(digest)), name, dir_fd=folder_fd)
        return SYMLINK
    try:
        os.link(os.fsencode(sidecar.path_of(digest)), name, dst_dir_fd=folder_fd, follow_symlinks=False)
    except OSError as problem:
        if problem.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP):
            raise
        raise StoreUnusable(
            "no hard link is possible here: {problem}",
            problem=problem.strerror,
            hint="use --link auto, or a destination on the file system of the store",
        ) from problem
    return HARDLINK


def check_digest(digest: Digest, found: bytes, whole: bool) -> None:
    """Damaged unless all bytes were there and hash to `digest`."""
    if not whole or digest_of(found) != digest:
        raise Damaged("the object {digest} holds other bytes than it should", digest=digest)


def is_like(sidecar: Sidecar, digest: Digest, size: int, fd: int) -> bool:
    """Whether an open file of `size` bytes has those of an object in LOOKS places from its start to its end. OSError."""
    try:
        stored = sidecar.open_object(digest, size)
    except Damaged:
        return False
    step = max(1, (size - LOOK_BYTES) // (LOOKS - 1))
    try:
        return all(
            os.pread(fd, LOOK_BYTES, at) == os.pread(stored, LOOK_BYTES, at)
            for at in range(0, step * LOOKS, step)
        )
    finally:
        os.close(stored)


def no_reflink() -> StoreUnusable:
    """The error for an asked-for reflink that the file system does not have."""
    return StoreUnusable(
        "this file system cannot share the bytes of files (no reflink)", hint="use --link auto"
    )


def rehash_object(sidecar: Sidecar, digest: Digest) -> bool:
    """Whether the object still holds what its digest says; False where it cannot be read."""
    try:
        return is_right(sidecar, digest)
    except OSError:
        return False


def is_right(sidecar: Sidecar, digest: Digest) -> bool:
    """As `rehash_object`; OSError where it cannot be read, which says nothing about its bytes."""
    fd = fsops.open_regular(sidecar.path_of(digest))
    try:
        hasher = blake3()
        fsops.hash_file(fd, os.fstat(fd).st_size, hasher)
    finally:
        os.close(fd)
    return digest_of(hasher.digest()) == digest

"""Folding: many small packs become few, and many small refs one file, after the ref has moved.

    packs ──> one that has all of theirs ──> on disk ──> the old ones go
    refs  ──> packed-refs ─────────────────> on disk ──> the loose ones go

git does the first halves. The second are ours: git removes what it has joined before the disk knows the new file's
name, and a power loss could take both. Failing is no failure of the backup.
"""

import contextlib
import os
from collections.abc import Iterator

from tensortime import fsops
from tensortime.errors import TensorTimeError
from tensortime.packreader import PackDamaged, PackIndex
from tensortime.repacking import pack_folder, remove_pack
from tensortime.store import Store

MOST_PACKS = 50
"""Packs without `.keep` that a store may have before they are folded."""

ROOM = 2
"""Times what is joined that must be free: both are on the disk for a moment, beside a training that writes as well."""

LARGEST_FOLDED = 256 << 20
"""Bytes. `repack --geometric` counts objects, not bytes: a pack past this gets a `.keep` and is left alone."""


def pack_sizes(store: Store) -> dict[str, int]:
    """The store's packs (names without ending) that have an idx, and the size of both: either may be cut short."""
    folder = store.path(".shadow", "objects", "pack")
    sizes: dict[str, int] = {}
    names = set(os.listdir(folder))
    for name in names:
        stem, ending = os.path.splitext(name)
        if ending == ".pack" and name.startswith("pack-") and stem + ".idx" in names:
            # One that another process folds meanwhile goes away.
            with contextlib.suppress(FileNotFoundError):
                sizes[stem] = sum(
                    os.lstat(os.path.join(folder, stem + end)).st_size for end in (ending, ".idx")
                )
    return sizes


def fold_when_due(store: Store) -> None:
    """Join packs once there are more than MOST_PACKS, and the disk has room for both. Failing is no failure of the
    backup: the next one tries."""
    sizes = pack_sizes(store)
    loose = [name for name in sizes if not os.path.exists(keep_file(store, name))]
    if len(loose) <= MOST_PACKS:
        return
    joined = sum(sizes[name] for name in loose if sizes[name] <= LARGEST_FOLDED)
    if fsops.free_space(store.folder)[0] < ROOM * joined:
        return
    with (
        store.locked(".tmp", "fold.lock") as got,
        contextlib.suppress(TensorTimeError, PackDamaged, OSError),
    ):
        if got:
            for name, size in pack_sizes(store).items():
                if size > LARGEST_FOLDED:
                    fsops.write_atomic(keep_file(store, name), b"")
            fold(store)


def fold(store: Store) -> None:
    """Join small packs and loose refs. Safe beside readers and backups; two folds at once are not. GitFailed."""
    before = pack_sizes(store).keys()
    with cleared(pack_folder(store)):
        store.shadow.join_packs()
    fsops.sync_folder(pack_folder(store))
    drop_joined(store, [name for name in before if not os.path.exists(keep_file(store, name))])
    store.shadow.pack_refs()
    fsops.sync_path(store.path(".shadow", "packed-refs"))  # git before 2.39 does not, or too early
    fsops.sync_folder(store.path(".shadow"))
    drop_packed(store)


@contextlib.contextmanager
def cleared(folder: str) -> Iterator[None]:
    """Where git fails of what it writes into a folder, remove what it leaves half written: it may be what fills the disk."""
    before = set(os.listdir(folder))
    try:
        yield
    except TensorTimeError:
        for name in set(os.listdir(folder)) - before:
            if name.startswith("tmp_"):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))
        raise


def drop_joined(store: Store, names: list[str]) -> None:
    """Remove those of these packs that a newer one has all of."""
    indexes = {name: PackIndex(os.path.join(pack_folder(store), name + ".idx")) for name in pack_sizes(store)}
    joined = {oid for name, index in indexes.items() if name not in names for oid in index}
    for name in names:
        if name in indexes and joined.issuperset(indexes[name]):
            remove_pack(store, name)


def drop_packed(store: Store) -> None:
    """Remove the loose refs that say what packed-refs says, each under git's own lock of it."""
    git_dir = os.fsencode(store.path(".shadow"))
    listed = os.path.join(git_dir, b"packed-refs")
    seen, data = os.stat(listed), fsops.read_file(listed)
    rows = (line.partition(b" ") for line in data.split(b"\n"))
    packed = {os.path.join(git_dir, name): oid for oid, _, name in rows if name.startswith(b"refs/")}
    for folder, _, names in os.walk(os.path.join(git_dir, b"refs")):
        for path in (os.path.join(folder, name) for name in names):
            if path in packed and is_ref_to(path, packed[path]):
                with contextlib.suppress(FileExistsError), ref_lock(path):
                    if not os.path.samestat(seen, os.stat(listed)):
                        return  # somebody takes refs away: what was read above is old
                    if is_ref_to(path, packed[path]):
                        os.unlink(path)


def is_ref_to(path: bytes, oid: bytes) -> bool:
    """Whether a loose ref names this commit."""
    return fsops.has_content(path, oid + b"\n")


@contextlib.contextmanager
def ref_lock(path: bytes) -> Iterator[None]:
    """Lock a ref as git does. FileExistsError where it is locked."""
    os.close(fsops.create_file(path + b".lock", 0o600))
    try:
        yield
    finally:
        os.unlink(path + b".lock")


def keep_file(store: Store, pack: str) -> str:
    """The file that tells git to leave a pack alone."""
    return store.path(".shadow", "objects", "pack", pack + ".keep")

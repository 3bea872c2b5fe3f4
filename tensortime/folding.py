"""Folding: many small packs become few, after the ref has moved. Failing is no failure of the backup."""

import contextlib
import os

from tensortime import fsops
from tensortime.errors import GitFailed
from tensortime.store import Store

MOST_PACKS = 50
"""Packs without `.keep` that a store may have before they are folded."""

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
    """Join packs once there are more than MOST_PACKS. Failing is no failure of the backup: the next one tries."""
    loose = [name for name in pack_sizes(store) if not os.path.exists(keep_file(store, name))]
    if len(loose) <= MOST_PACKS:
        return
    with fsops.locked(store.path(".tmp", "fold.lock")) as got, contextlib.suppress(GitFailed, OSError):
        if got:
            for name, size in pack_sizes(store).items():
                if size > LARGEST_FOLDED:
                    fsops.write_atomic(keep_file(store, name), b"")
            store.shadow.fold()


def keep_file(store: Store, pack: str) -> str:
    """The file that tells git to leave a pack alone."""
    return store.path(".shadow", "objects", "pack", pack + ".keep")

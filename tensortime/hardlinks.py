"""The watch over hard-linked objects: the user's own file is the object, and the user can write to it.

`.cache/hardlinks` remembers the stat of each. It is only a shortcut: where it is missing, every object with
more than one link is hashed again.
"""

import json
import os
from collections.abc import Iterator

from tensortime import fsops
from tensortime.formats import Digest, parse_digest
from tensortime.sidecar import Sidecar, rehash_object

Watched = dict[Digest, list[int]]


def read_watched(path: str) -> Watched | None:
    """The remembered stats; None where they cannot be read."""
    try:
        rows = json.loads(fsops.read_file(path))
        return {parse_digest(digest): [int(number) for number in stat] for digest, stat in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write_watched(path: str, sidecar: Sidecar, digests: set[Digest], staging: str) -> None:
    """Remember these objects as they are now."""
    rows = {digest: stat for digest in sorted(digests) if (stat := stat_of(sidecar, digest))}
    fsops.write_atomic(path, json.dumps(rows).encode(), staging=staging, durable=False)


def stat_of(sidecar: Sidecar, digest: Digest) -> list[int] | None:
    """What changes when somebody writes to an object; None where it is gone."""
    try:
        info = os.lstat(sidecar.path_of(digest))
    except OSError:
        return None
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


def linked_objects(sidecar: Sidecar) -> Iterator[Digest]:
    """All objects that have another name somewhere."""
    top = os.path.join(sidecar.folder, "blake3")
    for folder in sorted(os.listdir(top)):
        with os.scandir(os.path.join(top, folder)) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_nlink > 1:
                    yield Digest(f"blake3:{folder}{entry.name}")


def drop_written(sidecar: Sidecar, watched: Watched | None) -> tuple[set[Digest], list[Digest]]:
    """The hard-linked objects that are still right, and those that somebody wrote to.

    The latter lose their name in the store (the user's file stays), so that nobody takes the wrong bytes for
    them and a later backup can store the right ones again.
    """
    remembered = watched if watched is not None else dict.fromkeys(linked_objects(sidecar))
    good: set[Digest] = set()
    lost: list[Digest] = []
    for digest, stat in remembered.items():
        now = stat_of(sidecar, digest)
        if now is None:
            continue
        if now == stat or rehash_object(sidecar, digest):
            good.add(digest)
        else:
            os.unlink(sidecar.path_of(digest))
            lost.append(digest)
    return good, lost

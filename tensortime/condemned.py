"""What a purge has to delete, remembered until the last byte of it is gone: `.shadow/purging`."""

import contextlib
import json
import os
from dataclasses import dataclass

from tensortime import fsops
from tensortime.formats import Digest, parse_digest


@dataclass(frozen=True)
class Condemned:
    """What was purged, and must not stay in any pack: git's blobs, and objects."""

    blobs: frozenset[bytes] = frozenset()
    digests: frozenset[Digest] = frozenset()
    damaged: bool = False
    """It cannot be read: what was purged may be anything that nobody needs."""


def condemned_file(store: str) -> str:
    """Where it is remembered what a purge has to delete."""
    return os.path.join(store, ".shadow", "purging")


def read_condemned(store: str) -> Condemned:
    """What a purge has still to delete."""
    try:
        rows = json.loads(fsops.read_file(condemned_file(store)))
        blobs, digests = map(bytes.fromhex, rows["blobs"]), map(parse_digest, rows["digests"])
        return Condemned(frozenset(blobs), frozenset(digests))
    except FileNotFoundError:
        return Condemned()
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return Condemned(damaged=True)


def write_condemned(store: str, condemned: Condemned) -> None:
    """Remember what has to go."""
    rows = {"blobs": sorted(oid.hex() for oid in condemned.blobs), "digests": sorted(condemned.digests)}
    fsops.write_atomic(condemned_file(store), json.dumps(rows).encode())


def remove_condemned(store: str) -> None:
    """Forget it: all of it is gone, or whatever is there in its place is damaged."""
    path = condemned_file(store)
    if os.path.isdir(path) and not os.path.islink(path):
        fsops.remove_tree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

"""Repair of a store: what is provably wrong is moved aside, never deleted, so that the next backup can store it again.

`.objects/damaged/` keeps what was moved. Everything is judged once more before it is moved, and an object also after:
a backup may just have put right bytes in its place.
"""

import errno
import os
from dataclasses import dataclass, field

from tensortime import fsops
from tensortime.answers import Problem
from tensortime.errors import GitFailed
from tensortime.formats import Digest
from tensortime.gitobjects import GitObjects, read_whole
from tensortime.monitor import Monitor
from tensortime.packreader import Entry, Pack, PackDamaged
from tensortime.reading import judge_object
from tensortime.repacking import copy_objects, pack_folder, remove_pack, remove_shortcuts
from tensortime.salvage import name_the_lost, packed_refs, whole_lines, write_refs
from tensortime.store import Store

PACKED_REFS = "packed-refs"
MOVED = "moved to .objects/damaged"


@dataclass
class Findings:
    """What was found wrong, as far as it is known."""

    refs: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    """Packs and idx files that are not whole."""
    missing: dict[bytes | Digest, str] = field(default_factory=dict)
    damaged: dict[bytes | Digest, str] = field(default_factory=dict)
    loose: dict[bytes, str] = field(default_factory=dict)
    """Wrong objects that git wrote loose, and their files."""
    copies: dict[str, set[bytes]] = field(default_factory=dict)
    """Packs with the objects that are wrong in them; another pack may have these right."""
    spare: set[bytes] = field(default_factory=set)
    """Objects of `copies` that are right elsewhere."""
    objects_read: int = 0
    bytes_read: int = 0
    bytes_all: int = 0


def mend(store: Store, staging: str, findings: Findings, monitor: Monitor) -> tuple[Problem, ...]:
    """Put right what can be, move aside what is wrong; returns what was done."""
    done: list[Problem] = []
    monitor.begin("repair", 0, 0)
    if PACKED_REFS in findings.refs:
        done += mend_refs(store)
    objects = GitObjects(store.path(".shadow"))
    for name, reason in findings.files.items():
        stem, ending = os.path.splitext(name)
        if ending == ".idx" and mend_index(store, staging, stem):
            done.append(Problem("pack", name, reason, repair="its idx was made anew"))
        elif stem not in objects.packs:
            move_pack(store, stem)
            done.append(Problem("pack", name, reason, repair=MOVED))
    wrong = {*findings.copies, *(os.path.splitext(name)[0] for name in findings.files)}
    for stem in sorted(wrong & objects.packs.keys()):
        if save_the_rest(store, staging, objects.packs[stem]):
            done.append(Problem("pack", stem, "some of its objects are wrong", repair=MOVED))
    for oid, path in findings.loose.items():
        if not is_right(path, oid):
            move_aside(store, path, oid.hex())
            done.append(Problem("damaged", oid.hex(), findings.damaged.get(oid, ""), repair=MOVED))
    for what, reason in findings.damaged.items():
        if not isinstance(what, bytes) and move_object(store, what):
            done.append(Problem("damaged", what, reason, repair=MOVED))
    return tuple(done)


def mend_refs(store: Store) -> list[Problem]:
    """Keep of a damaged list of refs what it still says, and name anew what it no longer does."""
    path = packed_refs(store)
    lines, damaged = whole_lines(path)
    if not damaged:
        return []
    move_aside(store, path, PACKED_REFS)
    write_refs(store, lines)
    found = ", ".join(name_the_lost(store)) or "no backup"
    return [Problem("ref", PACKED_REFS, "it is damaged", repair=f"{MOVED}; found without a name: {found}")]


def mend_index(store: Store, staging: str, stem: str) -> bool:
    """Make the idx of a pack anew from the pack; False where the pack is not whole either."""
    pack = os.path.join(pack_folder(store), stem)
    made = os.path.join(staging, stem + ".idx")
    try:
        store.shadow.run("index-pack", "-o", made, pack + ".pack")
    except GitFailed:
        return False
    if os.path.isdir(pack + ".idx"):
        move_aside(store, pack + ".idx", stem + ".idx")
    os.replace(made, pack + ".idx")
    fsops.sync_folder(pack_folder(store))
    return True


def save_the_rest(store: Store, staging: str, pack: Pack) -> bool:
    """Copy what is right in a pack into a new one, and move the old one aside; False where all of it is right."""
    right = {entry.oid for entry in pack.entries() if reads_well(pack, entry)}
    if len(right) == len(pack.entries()):
        try:
            pack.check_frame()
        except PackDamaged:
            pass
        else:
            return False
    # Where only beginning or end were wrong the new pack has the name of the old one, and has taken its place.
    if pack.name not in copy_objects(store, staging, [(pack, right)]):
        move_pack(store, pack.name)
    return True


def reads_well(pack: Pack, entry: Entry) -> bool:
    """Whether an object of a pack is right. OSError where this process cannot read at all."""
    try:
        pack.read(entry)
    except PackDamaged:
        return False
    except OSError as problem:
        if problem.errno != errno.EIO:
            raise
        return False
    return True


def is_right(path: str, oid: bytes) -> bool:
    """Whether a loose object is right, or gone."""
    try:
        read_whole(path, oid)
    except FileNotFoundError:
        return True
    except (PackDamaged, OSError):
        return False
    return True


def move_pack(store: Store, stem: str) -> None:
    """Move a pack aside, and remove what only helped to read it."""
    path = os.path.join(pack_folder(store), stem + ".pack")
    remove_shortcuts(store)
    if os.path.lexists(path):
        move_aside(store, path, stem + ".pack")
    remove_pack(store, stem)


def move_object(store: Store, digest: Digest) -> bool:
    """Move an object aside that is wrong; False where there is none, or a right one by now."""
    path = store.sidecar().path_of(digest)
    if os.path.isfile(path) and not os.access(path, os.R_OK):
        return False  # who may not read it cannot say that it is wrong
    if not os.path.lexists(path) or not judge_object(path, digest):
        return False
    moved = move_aside(store, path, digest.removeprefix("blake3:"))
    if os.path.isfile(moved) and not judge_object(moved, digest):
        os.replace(moved, path)
        return False
    return True


def move_aside(store: Store, path: str, name: str) -> str:
    """Move a file to `.objects/damaged/`; returns where it lies now."""
    folder = store.path(".objects", "damaged")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    moved = os.path.join(folder, f"{name}-{os.urandom(4).hex()}")
    os.rename(path, moved)
    fsops.sync_folder(folder)
    fsops.sync_folder(os.path.dirname(path))
    return moved

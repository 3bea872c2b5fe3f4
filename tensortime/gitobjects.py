"""All git objects of a store, packed and loose: found and read without git, and checked as they are read."""

import contextlib
import os
import re
from collections.abc import Iterator

from tensortime.packreader import Content, Pack, PackDamaged, hash_of, read_loose

LOOSE = re.compile(r"[0-9a-f]{2}/[0-9a-f]{38}")


class Unreadable(Exception):
    """An object that is not there, or not what its id says; the reason in a few words."""

    def __init__(self, reason: str, *, missing: bool) -> None:
        super().__init__(reason)
        self.reason, self.missing = reason, missing


class GitObjects:
    """What a shadow repository holds now. Another process may fold packs meanwhile: `refresh` looks again."""

    def __init__(self, git_dir: str) -> None:
        self.folder = os.path.join(git_dir, "objects")
        self.packs: dict[str, Pack] = {}
        self.broken: dict[str, str] = {}
        """Files of packs that cannot be used, and why."""
        self._home: dict[bytes, Pack] = {}
        self._others: dict[bytes, list[Pack]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look which packs there are."""
        self.packs, self.broken, self._home, self._others = {}, {}, {}, {}
        folder = os.path.join(self.folder, "pack")
        names = set(os.listdir(folder))
        for stem in sorted({os.path.splitext(name)[0] for name in names if name.startswith("pack-")}):
            if {stem + ".pack", stem + ".idx"} <= names:
                self._open(os.path.join(folder, stem))
            elif stem + ".idx" in names:
                self.broken[stem + ".pack"] = "it is missing"

    def _open(self, stem: str) -> None:
        """Read the idx of one pack."""
        name = os.path.basename(stem)
        try:
            pack = Pack(stem)
        except (PackDamaged, OSError) as problem:
            if os.path.exists(stem + ".idx"):
                changed = "it was cut short, or its bytes have changed"
                self.broken[name + ".idx"] = (
                    changed if isinstance(problem, PackDamaged) else reason_of(problem)
                )
            return
        self.packs[name] = pack
        try:
            pack.check_frame()
        except (PackDamaged, OSError) as problem:
            self.broken[name + ".pack"] = reason_of(problem)
        for oid in pack.index:
            if self._home.setdefault(oid, pack) is not pack:
                self._others.setdefault(oid, []).append(pack)

    def copies(self, oid: bytes) -> list[Pack]:
        """The packs that hold an object."""
        home = self._home.get(oid)
        return [] if home is None else [home, *self._others.get(oid, ())]

    def loose_path(self, oid: bytes) -> str:
        """Where git writes an object that is in no pack."""
        name = oid.hex()
        return os.path.join(self.folder, name[:2], name[2:])

    def __contains__(self, oid: bytes) -> bool:
        return oid in self._home or os.path.exists(self.loose_path(oid))

    def read(self, oid: bytes) -> Content:
        """An object, from the first place where it is right; Unreadable where there is none."""
        reasons = []
        for pack in self.copies(oid):
            try:
                return pack.read(pack.entry(oid))
            except (PackDamaged, OSError) as problem:
                reasons.append(reason_of(problem))
        path = self.loose_path(oid)
        if os.path.lexists(path):
            try:
                return read_whole(path, oid)
            except (PackDamaged, OSError) as problem:
                reasons.append(reason_of(problem))
        raise Unreadable(reasons[0] if reasons else "it is missing", missing=not reasons)

    def loose(self) -> Iterator[tuple[bytes, str]]:
        """The objects that git itself wrote, each in a file of its own."""
        for folder in sorted(os.listdir(self.folder)):
            if len(folder) == 2:
                with contextlib.suppress(OSError):
                    for name in sorted(os.listdir(os.path.join(self.folder, folder))):
                        if LOOSE.fullmatch(f"{folder}/{name}"):
                            yield bytes.fromhex(folder + name), os.path.join(self.folder, folder, name)


def read_whole(path: str, oid: bytes) -> Content:
    """A loose object; PackDamaged unless its bytes hash to its id."""
    content = read_loose(path)
    if hash_of(content) != oid:
        raise PackDamaged("it holds other bytes than its id says")
    return content


def reason_of(problem: Exception) -> str:
    """A problem in a few words."""
    return problem.strerror or str(problem) if isinstance(problem, OSError) else str(problem)

"""What a walk over the project finds."""

from dataclasses import dataclass
from typing import NamedTuple

from tensortime.formats import RelPath
from tensortime.ignoring import BrokenPattern
from tensortime.reports import Ignored, Skipped


class FileStat(NamedTuple):
    """A regular file as `lstat` saw it."""

    path: RelPath
    mode: int
    """Permission bits, with setuid, setgid and sticky."""
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    links: int
    blocks: int
    """Of 512 bytes: fewer than the size says means holes."""


class LinkStat(NamedTuple):
    """A symbolic link that is stored as a link."""

    path: RelPath
    target: bytes


class FolderStat(NamedTuple):
    """A folder below the root."""

    path: RelPath
    mode: int
    empty: bool
    """Nothing in it is stored: it comes back as an empty folder, also where rules left out all it holds."""


class Outside(NamedTuple):
    """A stored link that leads out of the project, and what lies there."""

    path: RelPath
    target: bytes
    files: int
    bytes: int
    newest_ns: int
    """The latest mtime there; 0 where there is nothing."""
    complete: bool
    """False: the time was up, or part of it could not be read."""


@dataclass(frozen=True)
class Scan:
    """What one walk found; `files`, `links` and `folders` are in no particular order."""

    root_mode: int
    files: list[FileStat]
    """All of them, or those that whoever wanted the scan left in it."""
    links: list[LinkStat]
    folders: list[FolderStat]
    ignored: list[Ignored]
    """Every entry at the top, and every folder below it, that a rule left out."""
    skipped: list[Skipped]
    nested: list[RelPath]
    """Folders below the root with a `.git` of their own."""
    outside: list[Outside]
    broken: list[BrokenPattern]
    overruled: list[Ignored]
    """Named paths (`only`) that a rule would have left out."""
    followed: dict[RelPath, bytes]
    """Links that are stored as what is behind them, and the real path of that."""

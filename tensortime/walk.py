"""One walk over the project: what is there, what a rule leaves out, what cannot be stored.

Nothing is read but names, `lstat` and the `.ttignore` files. Folders are opened one at a time, without
following links, and must be the very folder that `lstat` saw: one that is swapped for a link during the walk
leads nowhere. The walk keeps its own stack, so depth costs nothing.
"""

import os
import stat
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tensortime.findings import FileStat, FolderStat, LinkStat, Outside, Scan
from tensortime.formats import LONGEST_PATH, META, RelPath, text_of
from tensortime.fsops import open_folder, open_regular, read_file
from tensortime.glances import GLANCE_SECONDS, GLANCES_SECONDS, holds_sources, leads_out
from tensortime.ignoring import FILE_NAME, BrokenPattern, Matcher, Rules
from tensortime.monitor import Monitor
from tensortime.policy import (
    OTHER_STORE,
    RESTORED,
    SECRET_END,
    SECRET_RULE,
    SPECIAL_FIRST,
    VIRTUAL_ENVIRONMENT,
    VIRTUAL_ENVIRONMENT_MARKS,
)
from tensortime.reports import Ignored, Skipped

ENCODING = sys.getfilesystemencoding()
TTIGNORE = FILE_NAME.decode()
META_NAME = META.decode()
LONGEST_TTIGNORE = 1 << 20
"""Bytes: more than that is no list of patterns."""

ODD_TYPES = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}

Identity = tuple[int, int]
"""Device and inode."""


Sift = Callable[[list[FileStat]], list[FileStat]]
"""Takes files that were found, and returns those that are to be kept in the list."""


class Pending(NamedTuple):
    """A folder that is still to be read."""

    path: bytes
    identity: Identity
    mode: int
    parent: int
    """Its place in `Walk.folders`."""
    rules: Rules
    reopened: bool = False
    """Asked for by a `!` line or by name: what it holds does not make it a built-in case."""
    linked: bool = False
    """It is a followed link."""
    through: bool = False
    """It is one, or lies behind one."""
    around: frozenset[Identity] = frozenset()
    """It and all folders around it; kept only where links are followed."""


class Walk:
    """The state of one walk: lists that fill, and a stack of folders to read."""

    def __init__(
        self,
        root: bytes,
        root_fd: int,
        rules: Rules,
        store: Identity | None,
        follow: Sequence[str],
        monitor: Monitor,
        sift: Sift | None = None,
    ) -> None:
        self.root, self.root_fd, self.store, self.monitor = root, root_fd, store, monitor
        self.sift = sift
        self.follow = Matcher.of("follow", follow, root)
        self.files: list[FileStat] = []
        self.links: list[LinkStat] = []
        self.folders: list[tuple[RelPath, int]] = []
        self.contents: list[int] = []
        """For each folder how many things in it are stored."""
        self.ignored: list[Ignored] = []
        self.skipped: list[Skipped] = []
        self.nested: list[RelPath] = []
        self.leading_out: list[LinkStat] = []
        self.outside: list[Outside] = []
        self.broken: list[BrokenPattern] = [*rules.broken, *self.follow.broken]
        self.overruled: list[Ignored] = []
        self.followed: dict[RelPath, bytes] = {}
        self.entered: set[Identity] = set()
        self.glances_left = GLANCES_SECONDS
        info = os.fstat(root_fd)
        around = frozenset({identity_of(info)}) if self.follow.patterns else frozenset()
        self.top = Pending(b"", identity_of(info), stat.S_IMODE(info.st_mode), 0, rules, around=around)
        self.stack: list[Pending] = []

    def result(self) -> Scan:
        """Everything found, the short lists sorted."""
        folders = [
            FolderStat(path, mode, count == 0)
            for (path, mode), count in zip(self.folders, self.contents, strict=True)
            if path
        ]
        return Scan(
            self.top.mode,
            self.files,
            self.links,
            folders,
            sorted(self.ignored, key=lambda item: item.path),
            sorted(self.skipped, key=lambda item: item.path),
            sorted(self.nested),
            self.outside,
            self.broken,
            self.overruled,
            self.followed,
        )

    def run(self) -> None:
        """Read folders until none is left."""
        while self.stack:
            folder = self.stack.pop()
            try:
                fd = self.open(folder)
            except OSError as problem:
                self.skip(folder.path, problem)
                continue
            try:
                if identity_of(os.fstat(fd)) == folder.identity:
                    self.read(folder, fd)
                else:
                    self.skipped.append(Skipped(text_of(folder.path), "replaced while it was read"))
            except OSError as problem:
                self.skip(folder.path, problem)
            finally:
                os.close(fd)

    def open(self, folder: Pending) -> int:
        """A descriptor of a folder that `lstat` saw."""
        if folder.linked:
            return os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.root_fd)
        return open_folder(folder.path or b".", dir_fd=self.root_fd)

    def read(self, folder: Pending, fd: int) -> None:
        """Take in one open folder, unless what it holds shows that it should be left out."""
        with os.scandir(fd) as iterator:
            entries = list(iterator)
        names = {entry.name for entry in entries}
        if folder.path and not folder.reopened:
            rule = telling_rule(names, fd)
            if rule is not None:
                self.ignored.append(Ignored(text_of(folder.path), rule, folder=True))
                return
        if ".git" in names and folder.path:
            self.nested.append(RelPath(folder.path))
        if TTIGNORE in names and not folder.rules.fixed:
            folder = folder._replace(rules=self.enter(folder.path, folder.rules, fd))
        index = self.add_folder(folder.path, folder.mode, folder.parent)
        before = len(self.files)
        self.take_entries(folder, fd, entries, index)
        self.contents[index] += len(self.files) - before
        self.monitor.advance(len(self.files) - before, 0)
        if self.sift is not None:
            self.files[before:] = self.sift(self.files[before:])

    def add_folder(self, path: bytes, mode: int, parent: int) -> int:
        """Note a folder; returns its place."""
        if path:
            self.contents[parent] += 1
        self.folders.append((RelPath(path), mode))
        self.contents.append(0)
        return len(self.folders) - 1

    def enter(self, folder: bytes, rules: Rules, fd: int) -> Rules:
        """The rules inside an open folder that has a `.ttignore`."""
        try:
            with os.fdopen(open_regular(FILE_NAME, dir_fd=fd), "rb") as file:
                data = file.read(LONGEST_TTIGNORE + 1)
            if len(data) > LONGEST_TTIGNORE:
                raise OSError(0, "longer than 1 MiB")
        except FileNotFoundError:
            return rules
        except OSError as problem:
            where = text_of(folder + b"/" + FILE_NAME if folder else FILE_NAME)
            self.broken.append(BrokenPattern(where, "", f"not read: {problem.strerror}"))
            return rules
        rules = rules.enter(folder, data)
        self.broken += rules.broken
        return rules

    def take_entries(self, folder: Pending, fd: int, entries: list["os.DirEntry[str]"], index: int) -> None:
        """Decide about each entry of a folder. Runs for every file of every backup: keep it lean."""
        prefix = folder.path + b"/" if folder.path else b""
        rules, files, make = folder.rules, self.files, tuple.__new__
        everything = rules.everything
        for entry in entries:
            name = entry.name.encode(ENCODING, "surrogateescape")
            path = prefix + name
            try:
                if everything or name[0] in SPECIAL_FIRST or name.endswith(SECRET_END):
                    is_folder = entry.is_dir(follow_symlinks=False)
                    rule = rules.decide(path, name, is_folder)
                    if rule is not None:
                        self.leave_out(path, name, rule, is_folder, fd)
                        continue
                info = entry.stat(follow_symlinks=False)
            except OSError as problem:
                self.skip(path, problem)
                continue
            mode = info.st_mode
            if mode & 0o170000 == 0o100000 and len(path) <= LONGEST_PATH:
                # a NamedTuple's own constructor costs three times as much
                fields = (
                    path,
                    mode & 0o7777,
                    info.st_size,
                    info.st_mtime_ns,
                    info.st_ctime_ns,
                    info.st_ino,
                    info.st_dev,
                    info.st_nlink,
                    info.st_blocks,
                )
                files.append(make(FileStat, fields))
            else:
                self.take_other(folder, path, info, (fd, name), index)

    def leave_out(self, path: bytes, name: bytes, rule: str, is_folder: bool, fd: int) -> None:
        """Note what a rule left out of an open folder, where it is worth saying."""
        deep = b"/" in path
        if deep and not is_folder and not rule.startswith(SECRET_RULE):
            return
        sources = False
        if deep and not rule.startswith("built-in") and self.glances_left > 0:
            start = time.monotonic()
            sources = holds_sources(name, fd, start + min(GLANCE_SECONDS, self.glances_left))
            self.glances_left -= time.monotonic() - start
        self.ignored.append(Ignored(text_of(path), rule, is_folder, sources))

    def skip(self, path: bytes, problem: OSError) -> None:
        """Note what cannot be read; what has vanished meanwhile was never there."""
        if not isinstance(problem, FileNotFoundError):
            self.skipped.append(Skipped(text_of(path), problem.strerror or str(problem)))

    def take_other(
        self, folder: Pending, path: bytes, info: os.stat_result, at: tuple[int, bytes], index: int
    ) -> None:
        """Take in what is no plain file of a folder; `at` is a descriptor and where from there it is."""
        kind = stat.S_IFMT(info.st_mode)
        if len(path) > LONGEST_PATH:
            self.skipped.append(Skipped(text_of(path), f"its path is longer than {LONGEST_PATH} bytes"))
        elif kind == stat.S_IFDIR:
            self.push(folder, path, info, index)
        elif kind == stat.S_IFLNK:
            self.take_link(folder, path, at, index)
        elif kind == stat.S_IFREG:
            self.take_file(path, info, index)
        else:
            self.skipped.append(Skipped(text_of(path), ODD_TYPES.get(kind, "of an unknown type")))

    def take_file(self, path: bytes, info: os.stat_result, index: int) -> None:
        """Take in one file that was named or lies behind a link."""
        times = info.st_mtime_ns, info.st_ctime_ns
        place = info.st_ino, info.st_dev, info.st_nlink, info.st_blocks
        self.files.append(FileStat(RelPath(path), stat.S_IMODE(info.st_mode), info.st_size, *times, *place))
        self.contents[index] += 1

    def push(
        self, folder: Pending, path: bytes, info: os.stat_result, index: int, linked: bool = False
    ) -> None:
        """Put a folder on the stack, unless it is the store or, by followed links, one that we are in."""
        identity = identity_of(info)
        if identity == self.store:
            return
        if identity in folder.around:
            self.skipped.append(Skipped(text_of(path), "leads back into itself"))
            return
        reopened = folder.rules.reopens(path, path.rpartition(b"/")[2])
        around = folder.around | {identity} if folder.around else folder.around
        through = linked or folder.through
        facts = path, identity, stat.S_IMODE(info.st_mode), index, folder.rules
        self.stack.append(Pending(*facts, reopened, linked, through, around))

    def take_link(self, folder: Pending, path: bytes, at: tuple[int, bytes], index: int) -> None:
        """Take in a link: what is behind it where the config says so, else the link itself."""
        fd, name = at
        try:
            link = LinkStat(RelPath(path), os.readlink(name, dir_fd=fd))
        except OSError as problem:
            self.skip(path, problem)
            return
        chosen = bool(self.follow.patterns) and self.follow.chooses(path, True)
        if (chosen or self.is_our_object(link)) and self.take_behind(folder, path, at, index):
            self.followed[RelPath(path)] = os.path.realpath(os.path.join(self.root, path))
            return
        self.links.append(link)
        self.contents[index] += 1
        if leads_out(self.root, link, folder.through):
            self.leading_out.append(link)

    def is_our_object(self, link: LinkStat) -> bool:
        """Whether a link was made by `restore --link symlink`: to the store's bytes, which may go one day."""
        store, mark, _ = link.target.partition(b"/.objects/blake3/")
        try:
            return bool(mark) and identity_of(os.stat(store)) == self.store
        except OSError:
            return False

    def take_behind(self, folder: Pending, path: bytes, at: tuple[int, bytes], index: int) -> bool:
        """Take in what is behind a link; False where there is nothing to store or it leads into a circle."""
        fd, name = at
        try:
            info = os.stat(name, dir_fd=fd)
        except OSError:
            return False
        if stat.S_ISREG(info.st_mode):
            self.take_file(path, info, index)
            return True
        identity = identity_of(info)
        if not stat.S_ISDIR(info.st_mode) or identity == self.store or identity in folder.around:
            return False
        if folder.through and identity in self.entered:
            return False  # links to links to links: each folder once, or they multiply
        self.entered.add(identity)
        rule = folder.rules.decide(path, path.rpartition(b"/")[2], True)
        if rule is not None:
            self.leave_out(path, name, rule, True, fd)
        else:
            self.push(folder, path, info, index, linked=True)
        return True


def identity_of(info: os.stat_result) -> Identity:
    """What makes a file the same file."""
    return info.st_dev, info.st_ino


def telling_rule(names: set[str], fd: int) -> str | None:
    """The built-in rule that leaves out a folder because of what it holds."""
    if not VIRTUAL_ENVIRONMENT_MARKS.isdisjoint(names):
        return VIRTUAL_ENVIRONMENT
    if ".shadow" in names and ".objects" in names:
        try:
            os.stat(b".shadow/config", dir_fd=fd, follow_symlinks=False)
        except OSError:
            return None
        return OTHER_STORE
    if ".git" in names and META_NAME in names:
        try:
            if b".shadow/worktrees/" in read_file(b".git", 1 << 16, dir_fd=fd):
                return RESTORED
        except OSError:
            return None  # a repository with a `.tensortime` of its own
    return None

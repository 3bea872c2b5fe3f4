"""One walk over the project: what is there, what a rule leaves out, what cannot be stored.

Nothing is read but names, `lstat` and the `.ttignore` files. Folders are opened one at a time, without
following links, and must be the very folder that `lstat` saw: one that is swapped for a link during the walk
leads nowhere. The walk keeps its own stack, so depth costs nothing.
"""

import os
import stat
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tensortime.formats import LONGEST_PATH, META, RelPath, parse_path, text_of
from tensortime.fsops import open_folder, open_regular
from tensortime.ignoring import FILE_NAME, BrokenPattern, Matcher, Rules
from tensortime.monitor import Monitor, NullMonitor
from tensortime.policy import (
    OTHER_STORE,
    OWN_STORE,
    RESERVED,
    VIRTUAL_ENVIRONMENT,
    VIRTUAL_ENVIRONMENT_MARKS,
    builtin_rule,
)
from tensortime.reports import Ignored, Skipped

ENCODING = sys.getfilesystemencoding()
TTIGNORE = FILE_NAME.decode()
LONGEST_TTIGNORE = 1 << 20
"""Bytes: more than that is no list of patterns."""

OUTSIDE_SECONDS = 1.0
"""For all links out of the project together."""
GLANCE_SECONDS, GLANCES_SECONDS, GLANCE_ENTRIES = 0.05, 0.3, 200
"""The look for source files in a folder that a pattern left out: at most that long, all of them, that far."""

# fmt: off
SOURCES = (
    ".py", ".pyx", ".ipynb", ".sh", ".yaml", ".yml", ".toml", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h",
    ".hpp", ".rs", ".go", ".js", ".ts", ".java", ".jl", ".R", ".r", ".lua",
)
# fmt: on
"""What people write by hand. Not .json and .md: folders of data are full of them."""

ODD_TYPES = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}

Identity = tuple[int, int]
"""Device and inode."""


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


def scan(
    root: bytes | str,
    rules: Rules,
    *,
    store: Identity | None = None,
    follow: Sequence[str] = (),
    only: Sequence[RelPath] | None = None,
    monitor: Monitor | None = None,
) -> Scan:
    """Walk over the project `root`.

    `store` is the folder that is never entered and never mentioned. `follow`: patterns of links that are
    stored as what is behind them. `only`: just these files and folders, whatever the user's rules say.
    `monitor` is told of files as they are found; the caller begins the step.
    OSError where the root itself cannot be read; any other failure is one entry of `skipped`.
    """
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        real_root = os.path.realpath(os.fsencode(root))
        walk = Walk(real_root, root_fd, rules, store, follow, monitor or NullMonitor())
        if only is None:
            walk.stack.append(walk.top)
            walk.run()
        else:
            Naming(walk).take(only)
        measure_outside(walk)
    finally:
        os.close(root_fd)
    return walk.result()


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
    ) -> None:
        self.root, self.root_fd, self.store, self.monitor = root, root_fd, store, monitor
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
        decide, files, make = folder.rules.decide, self.files, tuple.__new__
        for entry in entries:
            name = entry.name.encode(ENCODING, "surrogateescape")
            path = prefix + name
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
                rule = decide(path, name, is_folder)
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
        if deep and not is_folder:
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
        chosen = bool(self.follow.patterns) and self.follow.chooses(path, True)
        if chosen and self.take_behind(folder, path, at, index):
            self.followed[RelPath(path)] = os.path.realpath(os.path.join(self.root, path))
            return
        try:
            link = LinkStat(RelPath(path), os.readlink(name, dir_fd=fd))
        except OSError as problem:
            self.skip(path, problem)
            return
        self.links.append(link)
        self.contents[index] += 1
        if leads_out(self.root, link, folder.through):
            self.leading_out.append(link)

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


class Naming:
    """`only`: finds the named paths, and what the rules would have said about them."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        walk.add_folder(b"", walk.top.mode, 0)
        self.known: dict[bytes, tuple[int, Rules, str | None]] = {
            b"": (0, walk.enter(b"", walk.top.rules, walk.root_fd), None)
        }
        """For each folder around a named path: its place, the rules in it, the rule that leaves it out."""

    def take(self, only: Sequence[RelPath]) -> None:
        """Walk over the named paths alone."""
        for path in sorted(set(only)):
            try:
                self.take_path(parse_path(path))
            except (FileNotFoundError, NotADirectoryError):
                self.walk.skipped.append(Skipped(text_of(path), "no such file"))
            except OSError as problem:
                self.walk.skip(path, problem)
            except ValueError as problem:
                self.walk.skipped.append(Skipped(text_of(path), str(problem)))
        self.walk.run()
        self.forget_twins()

    def take_path(self, path: RelPath) -> None:
        """Take in one named path; OSError where it is not there, ValueError where it cannot be stored."""
        walk, parts = self.walk, path.split(b"/")
        for count in range(1, len(parts) + 1):
            part = b"/".join(parts[:count])
            info = os.lstat(part, dir_fd=walk.root_fd)
            rule = unconditional_rule(part, parts[count - 1], info, walk.store)
            if rule is not None:
                walk.ignored.append(Ignored(text_of(part), rule, stat.S_ISDIR(info.st_mode)))
                return
            if count < len(parts):
                self.pass_folder(part, info)
        parent, rules, rule = self.known[path.rpartition(b"/")[0]]
        is_folder = stat.S_ISDIR(info.st_mode)
        rule = rule or rules.decide(path, parts[-1], is_folder)
        if rule is None and is_folder and not rules.reopens(path, parts[-1]):
            rule = self.look(path)
        if rule is not None:
            walk.overruled.append(Ignored(text_of(path), rule, is_folder))
        inside = walk.top._replace(rules=Rules(fixed=True))
        before = len(walk.stack)
        walk.take_other(inside, path, info, (walk.root_fd, path), parent)
        walk.stack[before:] = [folder._replace(reopened=True) for folder in walk.stack[before:]]

    def pass_folder(self, path: bytes, info: os.stat_result) -> None:
        """Note a folder around a named path."""
        if path in self.known:
            return
        if stat.S_ISLNK(info.st_mode):
            raise ValueError("lies behind a symbolic link")
        parent, rules, rule = self.known[path.rpartition(b"/")[0]]
        reopened = rules.reopens(path, path.rpartition(b"/")[2])
        rule = rule or rules.decide(path, path.rpartition(b"/")[2], True)
        rule = rule or (None if reopened else self.look(path))
        fd = open_folder(path, dir_fd=self.walk.root_fd)
        try:
            rules = self.walk.enter(path, rules, fd)
        finally:
            os.close(fd)
        self.known[path] = self.walk.add_folder(path, stat.S_IMODE(info.st_mode), parent), rules, rule

    def look(self, path: bytes) -> str | None:
        """The built-in rule that a folder falls under because of what it holds."""
        fd = open_folder(path, dir_fd=self.walk.root_fd)
        try:
            return telling_rule(set(os.listdir(fd)), fd)
        finally:
            os.close(fd)

    def forget_twins(self) -> None:
        """Where one named path lies in another, keep what was found twice once; no folder around nothing."""
        walk, bare = self.walk, set()
        for path, (place, _, _) in reversed(self.known.items()):
            if path and walk.contents[place] == 0:
                bare.add(place)
                walk.contents[self.known[path.rpartition(b"/")[0]][0]] -= 1
        walk.files = list({item.path: item for item in walk.files}.values())
        walk.links = list({item.path: item for item in walk.links}.values())
        walk.leading_out = list({item.path: item for item in walk.leading_out}.values())
        counts: dict[tuple[RelPath, int], int] = {}
        for place, (folder, count) in enumerate(zip(walk.folders, walk.contents, strict=True)):
            if place not in bare:
                counts[folder] = counts.get(folder, 0) + count
        walk.folders, walk.contents = list(counts), list(counts.values())


def identity_of(info: os.stat_result) -> Identity:
    """What makes a file the same file."""
    return info.st_dev, info.st_ino


def unconditional_rule(path: bytes, name: bytes, info: os.stat_result, store: Identity | None) -> str | None:
    """The rule that holds even for a path that was named."""
    if name == b".git":
        return builtin_rule(name, True)
    if path == META:
        return RESERVED
    return OWN_STORE if identity_of(info) == store else None


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
    return None


def holds_sources(name: bytes, fd: int, deadline: float) -> bool:
    """Whether a quick look (until `deadline`, monotonic) at a folder finds a source file."""
    try:
        top = open_folder(name, dir_fd=fd)
    except OSError:
        return False
    waiting, seen = [b"."], 0
    try:
        while waiting and seen < GLANCE_ENTRIES and time.monotonic() < deadline:
            path = waiting.pop()
            inner = open_folder(path, dir_fd=top)
            try:
                with os.scandir(inner) as entries:
                    for entry in entries:
                        seen += 1
                        child = os.fsencode(entry.name)
                        if entry.is_dir(follow_symlinks=False):
                            waiting += [path + b"/" + child] if builtin_rule(child, True) is None else []
                        elif entry.name.endswith(SOURCES):
                            return True
                        if seen >= GLANCE_ENTRIES:
                            break
            finally:
                os.close(inner)
    except OSError:
        return False
    finally:
        os.close(top)
    return False


def leads_out(root: bytes, link: LinkStat, through: bool) -> bool:
    """Whether a link, by its text, leads out of the project; `through`: it lies behind a followed link."""
    if through and not link.target.startswith(b"/"):
        return False  # it stays in what was followed, or nobody can tell
    top = root.rstrip(b"/") + b"/"
    aim = os.path.normpath(os.path.join(top, os.path.dirname(link.path), link.target))
    return not (aim + b"/").startswith(top)


def measure_outside(walk: Walk) -> None:
    """Fill `walk.outside`, for all links together within OUTSIDE_SECONDS."""
    deadline = time.monotonic() + OUTSIDE_SECONDS
    top = walk.root.rstrip(b"/") + b"/"
    for link in walk.leading_out:
        if time.monotonic() > deadline:
            walk.outside.append(Outside(link.path, link.target, 0, 0, 0, complete=False))
            continue
        aim = os.path.realpath(top + link.path)
        if not (aim + b"/").startswith(top):
            files, size, newest, complete = measure(aim, deadline)
            walk.outside.append(Outside(link.path, link.target, files, size, newest, complete))


def measure(path: bytes, deadline: float) -> tuple[int, int, int, bool]:
    """Files, bytes, newest mtime (ns) of what lies at `path`, and whether that is all of it by `deadline`."""
    files, size, newest, complete = 0, 0, 0, True
    waiting: list[bytes] = []
    try:
        info = os.lstat(path)
        if stat.S_ISREG(info.st_mode):
            return 1, info.st_size, info.st_mtime_ns, True
        waiting += [path] if stat.S_ISDIR(info.st_mode) else []
    except OSError as problem:
        return 0, 0, 0, isinstance(problem, FileNotFoundError)
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if time.monotonic() > deadline:
                        return files, size, newest, False
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        info = entry.stat(follow_symlinks=False)
                        files, size, newest = files + 1, size + info.st_size, max(newest, info.st_mtime_ns)
        except OSError:
            complete = False
    return files, size, newest, complete

"""One scan of the project: all of it, or (`only`) the paths that were named."""

import os
import stat
import time
from collections.abc import Sequence

from tensortime.findings import Outside, Scan
from tensortime.formats import RelPath, parse_path, text_of
from tensortime.fsops import open_folder
from tensortime.glances import measure
from tensortime.ignoring import Rules
from tensortime.monitor import Monitor, NullMonitor
from tensortime.policy import OWN_STORE, unconditional_rule
from tensortime.reports import Ignored, Skipped
from tensortime.walk import Identity, Sift, Walk, identity_of, telling_rule

OUTSIDE_SECONDS = 1.0
"""For all links out of the project together."""


def scan(
    root: bytes | str,
    rules: Rules,
    *,
    store: Identity | None = None,
    follow: Sequence[str] = (),
    only: Sequence[RelPath] | None = None,
    monitor: Monitor | None = None,
    sift: Sift | None = None,
) -> Scan:
    """Walk over the project `root`.

    `store` is the folder that is never entered and never mentioned. `follow`: patterns of links that are
    stored as what is behind them. `only`: just these files and folders, whatever the user's rules say.
    `monitor` is told of files as they are found; the caller begins the step. `sift` gets the files of each folder and
    returns those that it wants to be among the scan's `files`.
    OSError where the root itself cannot be read; any other failure is one entry of `skipped`.
    """
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        real_root = os.path.realpath(os.fsencode(root))
        walk = Walk(real_root, root_fd, rules, store, follow, monitor or NullMonitor(), sift)
        if only is None:
            walk.stack.append(walk.top)
            walk.run()
        else:
            Naming(walk).take(only)
        measure_outside(walk)
    finally:
        os.close(root_fd)
    return walk.result()


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
            rule = unconditional_rule(part, parts[count - 1])
            if identity_of(info) == walk.store:
                rule = OWN_STORE
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

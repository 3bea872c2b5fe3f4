"""Bounded looks at what is not stored: folders that a rule left out, and what links out of the project lead to."""

import os
import stat
import time

from tensortime.findings import LinkStat
from tensortime.fsops import open_folder
from tensortime.policy import builtin_rule

GLANCE_SECONDS, GLANCES_SECONDS, GLANCE_ENTRIES = 0.05, 0.3, 200
"""The look for source files in a folder that a pattern left out: at most that long, all of them, that far."""

# fmt: off
SOURCES = (
    ".py", ".pyx", ".ipynb", ".sh", ".yaml", ".yml", ".toml", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h",
    ".hpp", ".rs", ".go", ".js", ".ts", ".java", ".jl", ".R", ".r", ".lua",
)
# fmt: on
"""What people write by hand. Not .json and .md: folders of data are full of them."""


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

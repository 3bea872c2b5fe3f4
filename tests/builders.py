"""What tests are built from: trees with awkward files, the one oracle that compares two of them, git and the tool.

tree = Tree(tmp_path / "project").file("train.py", b"...").file("data/part.bin", size=3 << 20).symlink("last", "data")
before = snapshot_of(tree.root)
run_cli("backup", cwd=tree.root)
assert_same_tree(tree.root, restored)
"""

import hashlib
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

AnyPath = str | bytes | os.PathLike[str]

STORE = b"tensortime"
OWN_IN_PROJECT = (b".git", STORE)
OWN_IN_WORKTREE = (b".git", b".tensortime")
ORDINARY_BITS = 0o1777
"""setuid and setgid are never given back."""


class Tree:
    """Makes files below one folder; every method returns the tree, so that calls chain."""

    def __init__(self, root: AnyPath) -> None:
        self.root = Path(os.fsdecode(root))
        self.root.mkdir(parents=True, exist_ok=True)

    def path(self, path: AnyPath) -> bytes:
        """Where a path of this tree lies; the folders above it are made."""
        full = os.path.join(os.fsencode(self.root), os.fsencode(path))
        os.makedirs(os.path.dirname(full), exist_ok=True)
        return full

    def file(
        self,
        path: AnyPath,
        data: bytes = b"",
        *,
        size: int | None = None,
        mode: int | None = None,
        mtime_ns: int | None = None,
    ) -> "Tree":
        """A regular file of these bytes, or of `size` bytes that do not compress and depend on the path alone."""
        full = self.path(path)
        with open(full, "wb") as file:
            file.write(data if size is None else noise(os.fsencode(path), size))
        if mode is not None:
            os.chmod(full, mode)
        if mtime_ns is not None:
            os.utime(full, ns=(mtime_ns, mtime_ns))
        return self

    def folder(self, path: AnyPath, *, mode: int | None = None) -> "Tree":
        """A folder, empty unless something is put into it."""
        full = self.path(path)
        os.makedirs(full, exist_ok=True)
        if mode is not None:
            os.chmod(full, mode)
        return self

    def symlink(self, path: AnyPath, target: AnyPath) -> "Tree":
        """A symbolic link with exactly this target, dangling or not."""
        os.symlink(os.fsencode(target), self.path(path))
        return self

    def fifo(self, path: AnyPath) -> "Tree":
        """A named pipe: opening it as a file waits for ever."""
        os.mkfifo(self.path(path))
        return self


def noise(seed: bytes, size: int) -> bytes:
    """The same incompressible bytes for the same seed."""
    return random.Random(seed).randbytes(size)


class Entry(NamedTuple):
    """What is compared of one path."""

    kind: str
    mode: int
    content: str
    """Digest of a file's bytes or of a link's target; empty for everything else."""


KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def snapshot_of(root: AnyPath, *, exclude: Iterable[AnyPath] = ()) -> dict[bytes, Entry]:
    """Everything below root, path to entry; `exclude` holds paths from root, left out with all below them."""
    left_out = {os.fsencode(path) for path in exclude}
    found: dict[bytes, Entry] = {}
    folders = [b""]
    while folders:
        folder = folders.pop()
        with os.scandir(os.path.join(os.fsencode(root), folder)) as entries:
            for item in entries:
                path = os.path.join(folder, item.name)
                if path in left_out:
                    continue
                found[path] = entry_of(item)
                if item.is_dir(follow_symlinks=False):
                    folders.append(path)
    return found


def entry_of(item: "os.DirEntry[bytes]") -> Entry:
    """One path as lstat and its bytes show it."""
    mode = item.stat(follow_symlinks=False).st_mode
    kind, bits = KINDS[stat.S_IFMT(mode)], mode & ORDINARY_BITS
    if kind == "file":
        with open(item.path, "rb") as file:
            return Entry(kind, bits, hashlib.file_digest(file, "blake2b").hexdigest())
    if kind == "symlink":
        return Entry(kind, 0, hashlib.blake2b(os.readlink(item.path)).hexdigest())
    return Entry(kind, bits, "")


def assert_same_tree(
    project: AnyPath | Mapping[bytes, Entry],
    restored: AnyPath | Mapping[bytes, Entry],
    *,
    ignored: Iterable[AnyPath] = (),
) -> None:
    """TREE-EQ: type, bytes, link target and mode of every path are equal, and no path is missing or extra.

    Either side may be a snapshot taken earlier. What TensorTime and git keep at the top of each is left out of
    folders; `ignored` are the paths of the project that were not to be backed up.
    """
    left = project if isinstance(project, Mapping) else snapshot_of(project, exclude=OWN_IN_PROJECT)
    right = restored if isinstance(restored, Mapping) else snapshot_of(restored, exclude=OWN_IN_WORKTREE)
    tops = [os.fsencode(path) for path in ignored]
    left = {path: entry for path, entry in left.items() if not any(is_within(path, top) for top in tops)}
    differences = [
        *(f"missing: {path!r} ({left[path].kind})" for path in sorted(left.keys() - right.keys())),
        *(f"extra: {path!r} ({right[path].kind})" for path in sorted(right.keys() - left.keys())),
        *(
            f"different: {path!r}: {difference(left[path], right[path])}"
            for path in sorted(left.keys() & right.keys())
            if left[path] != right[path]
        ),
    ]
    assert not differences, "\n".join([f"{len(differences)} paths differ", *differences[:30]])


def is_within(path: bytes, top: bytes) -> bool:
    """Whether a path is another one or lies below it."""
    return path == top or path.startswith(top + b"/")


def difference(left: Entry, right: Entry) -> str:
    """What it is that two entries disagree on."""
    if left.kind != right.kind:
        return f"{left.kind} became {right.kind}"
    if left.mode != right.mode:
        return f"mode {left.mode:04o} became {right.mode:04o}"
    return "link target" if left.kind == "symlink" else "bytes"


def clean_environment() -> dict[str, str]:
    """This process's environment without what the sealed world leaks into git, and with a plain configuration."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for role in ("AUTHOR", "COMMITTER"):
        plain[f"GIT_{role}_NAME"], plain[f"GIT_{role}_EMAIL"] = "Ada", "ada@example.org"
    return {
        **plain,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


def user_git(*args: AnyPath, cwd: AnyPath, check: bool = True) -> str:
    """git as a person with an ordinary setup uses it: makes and reads the user's own repositories in tests."""
    git = shutil.which("git")
    assert git, "the tests need git"
    command = [git, "-c", "init.defaultBranch=main", *args]
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=100
    )
    if check and done.returncode:
        raise AssertionError(f"git {args} ended with {done.returncode}: {os.fsdecode(done.stderr)}")
    return os.fsdecode(done.stdout)


def run_cli(
    *args: AnyPath,
    cwd: AnyPath,
    env: Mapping[str, str | None] | None = None,
    stdin: bytes = b"",
    timeout: float = 100,
) -> subprocess.CompletedProcess[str]:
    """The command line tool in a process of its own, with the sealed world's leaks; `env` adds, None removes."""
    changed = {**os.environ, **(env or {})}
    done = subprocess.run(
        [sys.executable, "-m", "tensortime", *args],
        cwd=cwd,
        env={name: value for name, value in changed.items() if value is not None},
        input=stdin,
        capture_output=True,
        timeout=timeout,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)
    )

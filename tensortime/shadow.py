"""The only door to the shadow repository: one runner, and the few commands that TensorTime needs.

Every call is hermetic: no `GIT_*` of the caller, no system or user configuration, no hooks, no prompts,
a shadow repository named by `--git-dir`. A git that was started from a hook leaves GIT_INDEX_FILE in the
environment, and `worktree add` would then write the *user's* index.
"""

import contextlib
import errno
import os
import re
import signal
import subprocess
import time
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from tensortime.errors import Damaged, GitFailed, TensorTimeError
from tensortime.formats import Oid, RelPath, bytes_of, parse_oid, parse_path, text_of
from tensortime.gitcommand import check_version, clean_environment, git_program
from tensortime.refusals import no_space

NO_OID = Oid("0" * 40)

NO_ROOM = ("no space left", "quota exceeded", "file too large")
"""What git says, in lower case, of a disk, a quota or a limit that takes no more."""

READ_AT_ONCE = 16 << 20
"""Packed bytes of objects that one git process is asked for: it answers into memory."""

SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "core.eol=lf",
    "core.attributesFile=/dev/null",
    "core.symlinks=true",
    "core.fileMode=true",
    "core.ignoreCase=false",
    "core.precomposeUnicode=false",
    "core.sparseCheckout=false",
    "core.splitIndex=false",
    "core.logAllRefUpdates=false",
    "core.fsync=all",
    # Another backup of the same experiment holds the ref's lock while its disk syncs; git gives up after 0.1 s.
    "core.filesRefLockTimeout=10000",
    "core.packedRefsTimeout=10000",
    # Else git maps whole packs: a restore of 2 GB of small files seemed to take as much memory. As fast, measured.
    "core.packedGitWindowSize=4m",
    "core.packedGitLimit=64m",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "protocol.allow=never",
    # As many workers as cores: on ext4 two measured two to four times as fast as one, in every alternating run.
    "checkout.workers=0",
    "checkout.thresholdForParallelism=1",
)

ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_DEFAULT_HASH": "sha1",
    "GIT_DEFAULT_REF_FORMAT": "files",
    "LC_ALL": "C",
}


class Ref(NamedTuple):
    """A ref and the commit it names; `commit` is the raw object, or None where it cannot be read."""

    name: str
    oid: Oid
    commit: bytes | None


class TreeItem(NamedTuple):
    """One path of a committed tree."""

    mode: int
    oid: bytes
    """20 raw bytes."""
    size: int
    """Bytes of a file; 0 for a folder."""
    path: RelPath


class RefList(NamedTuple):
    """All refs under a prefix, and the names of those that are broken."""

    refs: tuple[Ref, ...]
    broken: tuple[str, ...]


class ObjectList(NamedTuple):
    """Every object of the repository, packed or loose, by its raw id."""

    packed: Mapping[bytes, int]
    """The bytes that each one takes in its pack or file."""
    commits: tuple[bytes, ...]
    """Commits, and annotated tags that a person made."""
    trees: tuple[bytes, ...]


DIED = 128
"""git's exit code where it says `fatal:`."""

LOOKS = 20
"""How often a worktree is tried to be made beside another that is just being made."""


class Shadow:
    """The shadow repository of one store.

    `locks`: descriptors of the locks that its user holds. Each git holds them too, for as long as it lives: where we are
    killed and it is not, nobody takes for abandoned what it is still writing.
    """

    def __init__(self, git_dir: str, locks: Set[int] = frozenset()) -> None:
        self.git_dir = git_dir
        self.locks = locks

    def run(
        self,
        *words: str | bytes,
        stdin: bytes = b"",
        work_tree: str | None = None,
        git_dir: str | None = None,
        umask: int = 0o077,
        accept: Sequence[int] = (0,),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one git command in the shadow repository; GitFailed unless its exit code is one to `accept`."""
        command: list[str | bytes] = [git_program(), f"--git-dir={git_dir or self.git_dir}"]
        if work_tree is not None:
            command.append(f"--work-tree={work_tree}")
        for setting in SETTINGS:
            command += ["-c", setting]
        # A name is UTF-8 whatever the locale says; paths of the disk come as bytes.
        command += [bytes_of(word) if isinstance(word, str) else word for word in words]
        done = subprocess.run(
            command,
            cwd=work_tree or self.git_dir,
            env={**clean_environment(), **ENVIRONMENT},
            input=stdin,
            capture_output=True,
            umask=umask,
            check=False,
            pass_fds=tuple(self.locks),
        )
        done.returncode = true_code(done.returncode, done.stderr)
        if done.returncode not in accept:
            # Below the minimum every verb fails here, at the latest where it lists the refs: say why.
            check_version()
            raise failure(words, done, self.git_dir)
        return done

    def add_worktree(self, path: bytes, commit: Oid, umask: int) -> None:
        """Make a worktree of a commit at `path`, without its files.

        git looks at the records of all worktrees for that, before it makes anything, and dies of one whose
        `commondir` another git has made and not yet written: then once more.
        """
        words = ("worktree", "add", "--quiet", "--detach", "--no-checkout", path, commit)
        for _ in range(LOOKS):
            done = self.run(*words, umask=umask, accept=(0, 128))
            if done.returncode == 0:
                return
            if b"/commondir: " not in done.stderr:
                raise failure(words, done, self.git_dir)
            time.sleep(0.05)
        self.run(*words, umask=umask)

    def fill_worktree(self, admin: str, path: str, umask: int) -> None:
        """Write the files of a new worktree, whose record is `admin`."""
        words = ("read-tree", "--reset", "-u", "HEAD")
        self.run(*words, git_dir=admin, work_tree=path, umask=umask)
        os.chmod(os.path.join(admin, "index"), 0o600)  # the umask was that of the files

    def refs(self, *prefixes: str) -> RefList:
        """All refs under these prefixes with their commits, in one process."""
        layout = "--format=%(refname)%00%(objectname)%00%(raw:size)%00%(raw)"
        try:
            done = self.run("for-each-ref", layout, *prefixes)
        except GitFailed:
            return self.refs_one_by_one(*prefixes)
        refs, data, start = [], done.stdout, 0
        while start < len(data):
            fields = []
            for _ in range(3):
                end = data.index(b"\0", start)
                fields.append(data[start:end])
                start = end + 1
            size = int(fields[2])
            refs.append(Ref(text_of(fields[0]), Oid(fields[1].decode()), data[start : start + size]))
            start += size + 1
        return RefList(tuple(refs), broken_refs(done.stderr))

    def refs_one_by_one(self, *prefixes: str) -> RefList:
        """As `refs`, where the object of some ref is missing or damaged."""
        listed = self.tips(*prefixes)
        commits = dict(self.read_objects((ref.oid for ref in listed.refs), missing_ok=True))
        refs = tuple(ref._replace(commit=commits.get(ref.oid)) for ref in listed.refs)
        return RefList(refs, listed.broken)

    def tips(self, *prefixes: str) -> RefList:
        """All refs under these prefixes and what they name, which is not read: each `commit` is None."""
        done = self.run("for-each-ref", "--format=%(refname)%00%(objectname)", *prefixes)
        # As one text: every backup reads all of them.
        rows = (line.split("\0") for line in text_of(done.stdout).split("\n") if line)
        refs = tuple(Ref(name, Oid(oid), None) for name, oid in rows)
        return RefList(refs, broken_refs(done.stderr))

    def read_objects(self, names: Iterable[str], *, missing_ok: bool = False) -> Iterator[tuple[str, bytes]]:
        """The contents of objects, in order; a missing or damaged one is left out, or GitFailed.

        `names` are object ids or `<commit>:<path>` without line breaks in the path.
        """
        wanted = list(names)
        if not wanted:
            return
        done = self.run(
            "cat-file",
            "--batch",
            stdin=b"".join(bytes_of(name) + b"\n" for name in wanted),
            accept=(0, 128),
        )
        data, start = done.stdout, 0
        for name in wanted:
            end = data.find(b"\n", start)
            fields = data[start:end].rsplit(b" ", 2) if end >= 0 else []
            if len(fields) == 3 and fields[2].isdigit() and end + 1 + int(fields[2]) < len(data):
                size = int(fields[2])
                yield name, data[end + 1 : end + 1 + size]
                start = end + 1 + size + 1
                continue
            if not missing_ok:
                raise failure(("cat-file", name), done)
            # A damaged object ends the process, before or behind its first line: what follows is asked again.
            if end < 0 or len(fields) == 3:
                rest = wanted[wanted.index(name) + 1 :]
                yield from self.read_objects(rest, missing_ok=True)
                return
            start = end + 1

    def object_list(self) -> ObjectList:
        """List all objects, reached or not; of each only its header is read. Damaged ones are left out."""
        layout = "--batch-check=%(objectname) %(objecttype) %(objectsize:disk)"
        done = self.run("cat-file", layout, "--batch-all-objects", "--unordered", accept=(0, 128))
        packed: dict[bytes, int] = {}
        commits, trees = [], []
        for line in done.stdout.splitlines():
            name, _, rest = line.partition(b" ")
            kind, _, size = rest.partition(b" ")
            if not size.isdigit():
                continue
            oid = bytes.fromhex(name.decode())
            packed[oid] = int(size)
            if kind == b"tree":
                trees.append(oid)
            elif kind != b"blob":
                commits.append(oid)
        return ObjectList(packed, tuple(commits), tuple(trees))

    def contents(self, packed: Mapping[bytes, int], nodes: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """The bytes of many objects by their raw ids, as many at a time as fit into memory.

        `packed`: how many bytes each takes in its pack. One that is not in it, or cannot be read, is left out.
        """
        batch: list[str] = []
        size = 0
        for node in nodes:
            if node in packed:
                batch.append(node.hex())
                size += packed[node]
            if size > READ_AT_ONCE:
                yield from self.read_raw(batch)
                batch, size = [], 0
        yield from self.read_raw(batch)

    def read_raw(self, names: Iterable[str]) -> Iterator[tuple[bytes, bytes]]:
        """As `read_objects`, by raw id; what is missing or damaged is left out."""
        return ((bytes.fromhex(name), raw) for name, raw in self.read_objects(names, missing_ok=True))

    def tree(self, commit: Oid, under: bytes | None = None) -> list[TreeItem]:
        """All paths of a commit's tree, folders included, or those of one folder; Damaged for a path that could lead
        elsewhere."""
        return [tree_item(line) for line in self.tree_lines(commit, under)]

    def tree_lines(self, commit: Oid, under: bytes | None = None) -> list[bytes]:
        """As `tree`, a line of git a path: equal lines are equal files."""
        tops = () if under is None else (b"--", under + b"/")
        listed = self.run("ls-tree", "-r", "-t", "-z", "-l", "--full-tree", commit, *tops).stdout
        return listed.split(b"\0")[:-1]

    def folder(self, commit: Oid, path: bytes) -> list[tuple[bytes, bool]]:
        """The names in one folder of a commit's tree (empty: the top), each with whether it is a folder itself."""
        tops = (b"--", path + b"/") if path else ()
        listed = self.run("ls-tree", "-z", "--full-tree", commit, *tops).stdout.split(b"\0")[:-1]
        rows = [line.partition(b"\t") for line in listed]
        return [(name.rpartition(b"/")[2], b" tree " in facts) for facts, _, name in rows]

    def changed_paths(self, old: Oid, new: Oid) -> list[RelPath]:
        """The files whose bytes or modes differ between the trees of two commits; equal folders are not looked into."""
        done = self.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new)
        return [checked(path) for path in done.stdout.split(b"\0") if path]

    def create_ref(self, name: str, commit: Oid, expected: Oid = NO_OID) -> bool:
        """Let a ref point at `commit` if it still points at `expected` (NO_OID: if there is none)."""
        done = self.run("update-ref", "--no-deref", name, commit, expected, accept=(0, 1, 128))
        if done.returncode == 0:
            # Where the user ignores SIGCHLD the exit code says nothing: ask. Another backup of this experiment may
            # have moved the ref on by now.
            now = self.ref(name)
            return now == commit or (now is not None and commit in self.lineage(now))
        if ref_has_moved(done.stderr):
            return False
        raise failure(("update-ref", name), done, self.git_dir)

    def set_ref(self, name: str, commit: Oid) -> None:
        """Let a ref point at `commit`, whatever it pointed at."""
        self.run("update-ref", "--no-deref", name, commit)

    def delete_ref(self, name: str) -> None:
        """Remove a ref."""
        self.run("update-ref", "--no-deref", "-d", name)

    def lineage(self, tip: Oid) -> list[Oid]:
        """A commit and those before it, newest first."""
        return [Oid(line) for line in self.run("rev-list", "--first-parent", tip).stdout.decode().split()]

    def ref(self, name: str) -> Oid | None:
        """What a ref points at."""
        with (
            contextlib.suppress(OSError, ValueError),
            open(os.path.join(os.fsencode(self.git_dir), bytes_of(name)), encoding="ascii") as file,
        ):
            return parse_oid(file.read().strip())
        line = self.run("rev-parse", "--verify", "--quiet", name, accept=(0, 1)).stdout.decode().strip()
        return parse_oid(line) if line else None

    def join_packs(self) -> None:
        """Write a pack of what the small ones hold; these stay. One run at a time."""
        self.run("repack", "-n", "--quiet", "--geometric=2")

    def pack_refs(self) -> None:
        """Write all refs into one file; the loose ones stay."""
        self.run("pack-refs", "--all", "--no-prune")


def true_code(code: int, said: bytes) -> int:
    """The exit code of a git that wrote `said` to stderr: where the user ignores SIGCHLD, 0 is all that can be had."""
    return DIED if code == 0 and re.search(rb"^fatal: ", said, re.MULTILINE) else code


def ref_has_moved(stderr: bytes) -> bool:
    """Whether `update-ref` failed because a ref is no longer what it was seen as.

    One that was there and is gone cannot be resolved: its experiment went into the trash meanwhile.
    """
    gone = b"unable to resolve reference" in stderr and b"reference broken" not in stderr
    return gone or b"already exists" in stderr or b"but expected" in stderr


def tree_item(line: bytes) -> TreeItem:
    """One line of `tree_lines`; Damaged for a path that could lead elsewhere."""
    head, _, path = line.partition(b"\t")
    mode, _, oid, size = head.split()
    # A folder has no size, and that of a file whose bytes are gone is `BAD`: who reads them finds the damage.
    known = int(size) if size.isdigit() else 0
    return TreeItem(int(mode, 8), unhexlify(oid), known, checked(path))


def checked(path: bytes) -> RelPath:
    """A path of a tree; Damaged if it could lead out of a destination."""
    try:
        return parse_path(path)
    except ValueError as problem:
        raise Damaged("a tree in the store is not ours: {problem}", problem=str(problem)) from problem


def broken_refs(stderr: bytes) -> tuple[str, ...]:
    """The refs that git complained about while listing: empty files, garbage."""
    marks = (b"ignoring broken ref ", b"ignoring ref with broken name ", b"ignoring dangling symref ")
    found = []
    for line in stderr.splitlines():
        for mark in marks:
            if mark in line:
                found.append(text_of(line.split(mark, 1)[1]))
    return tuple(found)


def failure(
    words: Sequence[str | bytes], done: subprocess.CompletedProcess[bytes], where: str = ""
) -> TensorTimeError:
    """The error for a failed command: the last thing that git said; NoSpace where the disk of `where` is full."""
    said = text_of(done.stderr).strip().splitlines()
    text = next((line for line in said if line.startswith(("fatal:", "error:"))), said[-1] if said else "")
    verb = words[0] if isinstance(words[0], str) else text_of(words[0])
    full = next((line for line in said if any(mark in line.lower() for mark in NO_ROOM)), "")
    if full or done.returncode == -signal.SIGXFSZ:
        limited = not full or NO_ROOM[-1] in full.lower()
        return no_space(f"git {verb}", where, full or os.strerror(errno.EFBIG), limited=limited)
    return GitFailed(
        "git {verb} failed with code {code}: {said}",
        verb=verb,
        code=done.returncode,
        said=text.removeprefix("fatal: ") or "no message",
    )


def message_of(raw: bytes) -> str:
    """The message of a raw commit, exactly as written."""
    return raw.partition(b"\n\n")[2].decode("utf-8", "surrogateescape")


def parse_commit(raw: bytes) -> tuple[Mapping[str, str], str]:
    """The headers of a raw commit (the first of each key) and its message, exactly as written."""
    headers: dict[str, str] = {}
    for line in raw.partition(b"\n\n")[0].split(b"\n"):
        key, _, value = line.partition(b" ")
        headers.setdefault(key.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
    return headers, message_of(raw)

"""The store on disk: its folders, and what opening one checks and mends.

A store that came from somebody else is data only: its git configuration is written again if it is not ours,
and what could make git run code or read elsewhere is moved aside before git is called.
"""

import contextlib
import os
import pwd
import re
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from tensortime import fsops, shadow
from tensortime.errors import (
    ForeignFolder,
    Message,
    NoStore,
    StoreBusy,
    StoreUnusable,
    TensorTimeError,
    UnsupportedFormat,
    message,
)
from tensortime.sidecar import Sidecar

FORMAT = 1
DEFAULT_STORE = "tensortime"
KNOWN_FEATURES: frozenset[str] = frozenset()
"""`requires` lines of a store's config that this version understands."""

OWN_NAMES = {"README", ".gitignore", ".git", ".shadow", ".objects", ".records", ".cache", ".tmp", ".lock"}
OWN_FOLDERS = (".shadow", ".objects", ".cache", ".tmp")
STALE_SECONDS = 60.0
"""Staging younger than this is left alone: its owner may not have locked it yet."""

LOCK_WAIT = 5.0
"""Seconds that a backup or restore waits for the store's lock before it gives up."""

CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\tsymlinks = true
\tautocrlf = false
\tfsmonitor = false
\tuseReplaceRefs = false
\tlogAllRefUpdates = false
\thooksPath = /dev/null
\tattributesFile = /dev/null
\texcludesFile = .tensortime/exclude
[gc]
\tauto = 0
\tpruneExpire = never
\tworktreePruneExpire = never
[maintenance]
\tauto = false
[tensortime]
\tformat = 1
\tid = {id}
"""

ATTRIBUTES = b"* -text !eol -filter -ident -working-tree-encoding -export-subst -export-ignore !merge !diff\n"

README = b"""\
TensorTime keeps the backups of the project beside this folder here. Do not delete or edit anything by hand.
Type `tensortime log` in the project to see them, `tensortime restore NAME` to get one back.
"""

FOREIGN_IN_SHADOW = (
    "commondir",
    "config.worktree",
    "shallow",
    "hooks",
    "info/grafts",
    "info/sparse-checkout",
    "objects/info/alternates",
    "objects/info/http-alternates",
)
"""What git would follow or run, and we never write."""


@dataclass(frozen=True)
class Store:
    """An open store: paths, and the two places where bytes live."""

    folder: str
    store_id: str
    notices: tuple[Message, ...] = ()
    """What opening it found and put right."""

    @property
    def shadow(self) -> shadow.Shadow:
        """The shadow repository."""
        return shadow.Shadow(self.path(".shadow"))

    def sidecar(self, staging: str = "") -> Sidecar:
        """The folder of objects; files are staged in `staging`, which only storing needs."""
        return Sidecar(self.path(".objects"), staging)

    @contextlib.contextmanager
    def staging(self) -> Iterator[str]:
        """A folder of our own for half-written files; those of processes that died are swept first."""
        sweep(self.path(".tmp"))
        folder = self.path(".tmp", f"{os.getpid()}-{os.urandom(6).hex()}")
        try:
            os.mkdir(folder, 0o700)
        except OSError as problem:
            raise StoreUnusable(
                "the store {store} cannot be written: {problem}",
                store=self.folder,
                problem=problem.strerror,
                hint="is it yours, and is there room? ls -ld and df -h tell",
            ) from problem
        try:
            with fsops.locked(os.path.join(folder, "lock")):
                yield folder
        finally:
            fsops.remove_tree(folder)

    def path(self, *parts: str) -> str:
        """A path in the store."""
        return os.path.join(self.folder, *parts)

    def used_bytes(self) -> int:
        """The bytes of all packs and objects."""
        folders = [self.path(".objects"), self.path(".shadow", "objects")]
        return sum(
            os.lstat(os.path.join(folder, name)).st_size
            for top in folders
            for folder, _, names in os.walk(top)
            for name in names
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the store so that nothing is collected meanwhile; StoreBusy after some seconds."""
        with fsops.locked(self.path(".lock"), shared=True, wait=LOCK_WAIT) as got:
            if not got:
                raise StoreBusy(
                    "another process is cleaning up the store {store}",
                    store=self.folder,
                    hint="try again later",
                )
            yield


def sweep(folder: str) -> None:
    """Remove what processes that are gone left in the staging folder: theirs is no longer locked."""
    oldest = time.time() - STALE_SECONDS
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            path = entry.path
            if entry.stat(follow_symlinks=False).st_mtime > oldest:
                continue
            if entry.is_dir(follow_symlinks=False):
                with fsops.locked(os.path.join(path, "lock")) as got:
                    if got:
                        fsops.remove_tree(path)
            elif entry.name != "fold.lock":
                with fsops.locked(path) as got:
                    if got:
                        os.unlink(path)


def is_store(folder: str) -> bool:
    """Whether a folder looks like a finished store."""
    return os.path.isfile(os.path.join(folder, ".shadow", "config"))


def open_store(folder: str) -> Store:
    """Open an existing store, mending what is missing; NoStore if there is none."""
    if not is_store(folder):
        refuse_unreadable(folder)
        raise NoStore(
            "no store here: {store} does not exist",
            store=folder,
            hint="tensortime backup makes one; -C DIR or --store DIR name another place",
        )
    refuse_links(folder)
    store_id, config_notice = read_config(folder)
    notices = [config_notice] if config_notice else []
    try:
        notices += mend(folder)
    except OSError as problem:
        if not os.access(folder, os.W_OK):
            return Store(folder, store_id, tuple(notices))
        raise StoreUnusable("{store}: {problem}", store=folder, problem=problem.strerror) from problem
    return Store(folder, store_id, tuple(notices))


def refuse_unreadable(folder: str) -> None:
    """StoreUnusable for a store that this user may not look into: on a shared machine often somebody else's."""
    for path in (folder, os.path.join(folder, ".shadow")):
        if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
            raise StoreUnusable(
                "the store {store} cannot be read: it belongs to {owner}, you are {user}",
                store=folder,
                owner=user_name(os.stat(path).st_uid),
                user=user_name(os.geteuid()),
                hint="work as that user, or keep a store of your own: --store DIR or TENSORTIME_STORE",
            )


def user_name(uid: int) -> str:
    """The name of a user, or the number where nobody knows one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def create_store(folder: str) -> Store:
    """Open the store, making it first where there is none. Safe beside others that do the same."""
    if is_store(folder):
        return open_store(folder)
    refuse_unreadable(folder)
    notice = check_free(folder)
    shadow.check_version()
    try:
        make_folders(folder)
        fsops.write_atomic(os.path.join(folder, "README"), README)
        fsops.write_atomic(os.path.join(folder, ".gitignore"), b"*\n")
        write_shadow_files(folder)
        write_first_config(folder)
    except OSError as problem:
        raise StoreUnusable(
            "the store {store} cannot be made: {problem}",
            store=folder,
            problem=problem.strerror,
            hint="name another place with --store DIR or TENSORTIME_STORE",
        ) from problem
    opened = open_store(folder)
    return Store(opened.folder, opened.store_id, (*([notice] if notice else []), *opened.notices))


def check_free(folder: str) -> Message | None:
    """ForeignFolder if the place of a new store holds somebody else's files; one line to say for 0.1.0's copies."""
    if not os.path.lexists(folder):
        return None
    if not os.path.isdir(folder):
        raise foreign(folder, "it is not a folder")
    own_git = os.path.join(folder, ".git")
    if os.path.lexists(own_git) and not is_our_gitfile(own_git):
        raise foreign(folder, "it is a git repository of its own")
    with os.scandir(folder) as entries:
        others = [
            entry
            for entry in entries
            if entry.name not in OWN_NAMES and not entry.name.startswith(".tensortime-")
        ]
    files = sorted(entry.name for entry in others if not entry.is_dir(follow_symlinks=False))
    if files:
        raise foreign(folder, f"it holds {files[0]}")
    if not others:
        return None
    return message(
        "{store} holds {count} folders that TensorTime did not make (copies of version 0.1.0?): "
        "they stay as they are and are not backed up",
        store=folder,
        count=len(others),
    )


def foreign(folder: str, why: str) -> ForeignFolder:
    """The error for a folder that is somebody else's."""
    return ForeignFolder(
        "{folder} is not a store of TensorTime: {why}",
        folder=folder,
        why=why,
        hint='name another folder: TimeMachine(backup_dir="backups"), --store backups, or backup_dir in tensortime.toml',
    )


def is_our_gitfile(path: str) -> bool:
    """Whether this is the `.git` file that we put into a store."""
    try:
        return fsops.read_file(path, 1 << 12) == b"gitdir: .shadow\n"
    except OSError:
        return False


def make_folders(folder: str) -> None:
    """The folders of a store, whatever the umask; 0700."""
    os.makedirs(folder, exist_ok=True)
    for name in (
        "",
        *OWN_FOLDERS,
        ".objects/blake3",
        ".shadow/objects/pack",
        ".shadow/info",
        ".shadow/refs/experiments",
    ):
        path = os.path.join(folder, name)
        os.makedirs(path, mode=0o700, exist_ok=True)
        os.chmod(path, 0o700)
    for name in (".shadow/objects", ".shadow/refs"):
        os.chmod(os.path.join(folder, name), 0o700)


def write_shadow_files(folder: str) -> None:
    """HEAD (unborn) and attributes: with `objects/`, `refs/` and `config` all that git needs."""
    git_dir = os.path.join(folder, ".shadow")
    fsops.write_atomic(os.path.join(git_dir, "HEAD"), b"ref: refs/heads/none\n")
    fsops.write_atomic(os.path.join(git_dir, "info", "attributes"), ATTRIBUTES)


def write_first_config(folder: str) -> None:
    """Write `config`, the file that makes a store finished; the first of several processes wins."""
    git_dir = os.path.join(folder, ".shadow")
    staged = os.path.join(folder, ".tmp", f"config-{uuid.uuid4().hex}")
    fsops.write_atomic(staged, CONFIG.format(id=uuid.uuid4()).encode())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(staged, os.path.join(git_dir, "config"))
    except OSError:
        # No hard links here (exFAT, some FUSE): a plain rename, and the last one wins.
        os.replace(staged, os.path.join(git_dir, "config"))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(staged)
    fsops.sync_folder(git_dir)
    fsops.sync_folder(folder)


def refuse_links(folder: str) -> None:
    """StoreUnusable if a folder of the store is a symbolic link, which could lead anywhere."""
    for name in (*OWN_FOLDERS, ".objects/blake3", ".shadow/objects", ".shadow/refs", ".lock"):
        path = os.path.join(folder, name)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISLNK(os.lstat(path).st_mode):
                raise StoreUnusable(
                    "the store is not safe to use: {path} is a symbolic link",
                    path=path,
                    hint="put the real folder back in its place",
                )


def read_config(folder: str) -> tuple[str, Message | None]:
    """The store's id. A config that is not ours byte for byte is kept as `config.foreign` and written again."""
    path = os.path.join(folder, ".shadow", "config")
    try:
        found = fsops.read_file(path, 1 << 20).decode("utf-8", "replace")
    except OSError as problem:
        raise StoreUnusable(
            "the store {store} cannot be read: {problem}",
            store=folder,
            problem=problem.strerror,
            hint="is it yours? ls -ld shows its owner",
        ) from problem
    section = found.partition("[tensortime]")[2].partition("\n[")[0]
    features = re.findall(r"^\s*requires\s*=\s*(\S+)\s*$", section, re.MULTILINE)
    refuse_unknown(re.search(r"^\s*format\s*=\s*(\S+)\s*$", section, re.MULTILINE), features)
    identity = re.search(r"^\s*id\s*=\s*([0-9a-f-]{36})\s*$", section, re.MULTILINE)
    store_id = identity.group(1) if identity else str(uuid.uuid4())
    ours = CONFIG.format(id=store_id) + "".join(f"\trequires = {feature}\n" for feature in features)
    if found == ours:
        return store_id, None
    fsops.write_atomic(path + ".foreign", found.encode())
    fsops.write_atomic(path, ours.encode())
    return store_id, message(
        "the git configuration of the store was not ours and was written again; the other is kept as {path}",
        path=path + ".foreign",
    )


def refuse_unknown(stated: re.Match[str] | None, features: list[str]) -> None:
    """UnsupportedFormat for a store of a later TensorTime."""
    number = stated.group(1) if stated else str(FORMAT)
    unknown = [feature for feature in features if feature not in KNOWN_FEATURES]
    if number != str(FORMAT) or unknown:
        raise UnsupportedFormat(
            "this store needs a newer TensorTime: {need}",
            need=", ".join(unknown) if unknown else f"format {number}",
            hint="pip install -U tensortime",
        )


def mend(folder: str) -> list[Message]:
    """Put right what a hand, a crash or another program changed around the data."""
    notices = []
    git_dir = os.path.join(folder, ".shadow")
    for name in FOREIGN_IN_SHADOW:
        path = os.path.join(git_dir, name)
        if os.path.lexists(path):
            os.replace(path, f"{path}.foreign-{os.urandom(4).hex()}")
            notices.append(message("{path} was not ours and was moved aside", path=path))
    expected = [
        (os.path.join(folder, ".gitignore"), b"*\n"),
        (os.path.join(git_dir, "info", "attributes"), ATTRIBUTES),
    ]
    for path, content in expected:
        if not holds(path, content):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            fsops.write_atomic(path, content)
    for name in (".objects/blake3", ".cache", ".tmp", ".shadow/objects/pack", ".shadow/refs/experiments"):
        os.makedirs(os.path.join(folder, name), mode=0o700, exist_ok=True)
    mend_gitfile(folder)
    return notices


def holds(path: str, content: bytes) -> bool:
    """Whether a regular file has exactly this content."""
    try:
        return fsops.read_file(path, 1 << 20) == content
    except OSError:
        return False


def mend_gitfile(folder: str) -> None:
    """Keep `.git` and the user's exclude line together: both, or where no line can be written, neither.

    With both, `git clean -fdx` and `git stash -a` in the user's repository pass by the store.
    """
    gitfile = os.path.join(folder, ".git")
    found = None
    with contextlib.suppress(TensorTimeError, OSError):
        found = shadow.user_exclude_file(os.path.dirname(folder))
    if found is not None and add_exclude_line(folder, *found):
        if not is_our_gitfile(gitfile) and not os.path.lexists(gitfile):
            fsops.write_atomic(gitfile, b"gitdir: .shadow\n")
    elif is_our_gitfile(gitfile):
        os.unlink(gitfile)


def add_exclude_line(folder: str, top: str, exclude: str) -> bool:
    """Name the store in the user's `info/exclude` unless it is; False where that cannot be."""
    inside = os.path.relpath(folder, os.path.realpath(top))
    if inside.startswith(".."):
        return False
    line = ("/" + re.sub(r"([\\*?\[\]! #])", r"\\\1", inside) + "/").encode("utf-8", "surrogateescape")
    try:
        try:
            data = fsops.read_file(exclude, 1 << 24)
        except FileNotFoundError:
            data = b""
        if line in data.split(b"\n"):
            return True
        os.makedirs(os.path.dirname(exclude), exist_ok=True)
        with open(exclude, "ab") as file:
            file.write((b"" if data.endswith(b"\n") or not data else b"\n") + line + b"\n")
    except OSError:
        return False
    return True

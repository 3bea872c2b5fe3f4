"""The store on disk: its folders, how one is made, opened, used and swept."""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tensortime import fsops, reflocks, shadow
from tensortime.errors import (
    Damaged,
    ForeignFolder,
    Message,
    NoStore,
    StoreBusy,
    StoreUnusable,
    listing,
    message,
)
from tensortime.formats import bytes_of
from tensortime.gitcommand import check_version
from tensortime.landmarks import is_store
from tensortime.mending import (
    ATTRIBUTES,
    CONFIG,
    HEAD,
    OWN_FOLDERS,
    is_our_gitfile,
    mend,
    read_config,
    refuse_foreign,
    refuse_linked_folders,
    refuse_links,
)
from tensortime.refusals import refusal

if TYPE_CHECKING:
    from tensortime.sidecar import Sidecar

OWN_NAMES = {"README", ".gitignore", ".git", ".shadow", ".objects", ".records", ".cache", ".tmp", ".lock"}
STALE_SECONDS = 60.0
"""Staging younger than this is left alone: its owner may not have locked it yet."""

DEAD_SECONDS = 86400.0
"""Where the file system has no locks, only staging older than this is taken for that of a process that is gone."""

REFS_WAIT = 1.0
"""Seconds to wait for others that write refs, before one begins that may want the same."""

LOCK_WAIT = 5.0
"""Seconds that a backup or restore waits for the store's lock before it gives up."""

README = b"""\
TensorTime keeps the backups of the project beside this folder here. Do not delete or edit anything by hand.
Type `tensortime log` in the project to see them, `tensortime restore NAME` to get one back.
"""


@dataclass(frozen=True)
class Store:
    """An open store: paths, and the two places where bytes live."""

    folder: str
    store_id: str
    notices: tuple[Message, ...] = ()
    """What opening it found and put right."""
    locks: set[int] = field(default_factory=set, compare=False)
    """The descriptors of the locks that are held now."""

    @property
    def shadow(self) -> shadow.Shadow:
        """The shadow repository."""
        return shadow.Shadow(self.path(".shadow"), self.locks)

    def sidecar(self, staging: str = "") -> "Sidecar":
        """The folder of objects; files are staged in `staging`, which only storing needs.

        What is withdrawn counts as absent for who stores; who reads looks at the bytes.
        """
        from tensortime.sidecar import Sidecar  # who lists the experiments touches no object
        from tensortime.withdrawn import read_withdrawn

        withdrawn = read_withdrawn(self.folder).objects if staging else {}
        return Sidecar(self.path(".objects"), staging, withdrawn)

    @contextlib.contextmanager
    def staging(self) -> Iterator[str]:
        """A folder of our own for half-written files; those of processes that died are swept first."""
        sweep(self.path(".tmp"))
        owner = os.getpid()
        folder = self.path(".tmp", f"{owner}-{os.urandom(6).hex()}")
        try:
            os.mkdir(folder, 0o700)
        except OSError as problem:
            refuse_full(self.folder, problem)
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
            if os.getpid() == owner:  # a child has a copy of all this
                remove_staging(folder)

    def path(self, *parts: str) -> str:
        """A path in the store."""
        return os.path.join(self.folder, *parts)

    @property
    def is_writable(self) -> bool:
        """Whether this process may change it: not on a read-only disk, nor in somebody else's store."""
        return os.access(self.folder, os.W_OK) and os.access(self.path(".tmp"), os.W_OK)

    def give_to_owner(self) -> None:
        """Where root worked in somebody else's store (sudo, a container): what is new in it becomes theirs."""
        owner = os.lstat(self.folder)
        if os.geteuid() == 0 and owner.st_uid != 0:
            for name in OWN_NAMES:
                fsops.give_to(self.path(name), owner.st_uid, owner.st_gid)

    def drop_caches(self) -> None:
        """Make a little room on a full disk: what only saves time goes, and what dead processes left."""
        sweep(self.path(".tmp"))
        with contextlib.suppress(OSError):
            for name in os.listdir(self.path(".cache")):
                if name.startswith("stat-"):
                    os.unlink(self.path(".cache", name))

    def used_bytes(self) -> int:
        """The bytes of all packs and objects."""
        used = 0
        for top in (self.path(".objects"), self.path(".shadow", "objects")):
            for folder, _, names in os.walk(top):
                for name in names:
                    # A pack that another process folds meanwhile goes away.
                    with contextlib.suppress(FileNotFoundError):
                        used += os.lstat(os.path.join(folder, name)).st_size
        return used

    @contextlib.contextmanager
    def locked(
        self, *parts: str, shared: bool = False, wait: float = 0.0, lockless: bool = True
    ) -> Iterator[bool]:
        """Hold a lock on a file of the store, as `fsops.locked`. A git that is started meanwhile holds it too."""
        path = self.path(*parts)
        with fsops.locked(path, shared=shared, wait=wait, lockless=lockless, held=self.locks) as got:
            yield got

    def sync_refs(self, new: Iterable[str] = ()) -> None:
        """Make what was done to refs survive a power loss, before what they named is deleted.

        `new`: those that were written, whose content git syncs itself since 2.36, and packed-refs since 2.39.
        """
        for name in ("packed-refs", *new):
            fsops.sync_path(os.path.join(os.fsencode(self.path(".shadow")), bytes_of(name)))
        top = self.path(".shadow", "refs")
        for folder in (self.path(".shadow"), *(folder for folder, _, _ in os.walk(top))):
            with contextlib.suppress(FileNotFoundError):  # git removes folders of refs that have become empty
                fsops.sync_folder(folder)

    def drop_dead_locks(self) -> None:
        """Remove the locks that dead gits left on refs; to be called by who holds the store alone."""
        reflocks.remove_dead(self.path(".shadow"))

    def await_refs(self) -> None:
        """Wait some time until nobody writes a ref; where nobody is there who could, the locks are of dead gits."""
        deadline = time.monotonic() + REFS_WAIT
        while self.is_writable and reflocks.found_in(self.path(".shadow")):
            with self.locked(".lock", lockless=False) as got:
                alone = got and fsops.trusts_locks(self.folder)
                if alone:
                    self.drop_dead_locks()
            if alone or time.monotonic() > deadline:
                return
            time.sleep(0.02)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the store so that nothing is collected meanwhile; StoreBusy after some seconds."""
        self.await_refs()
        with self.locked(".lock", shared=True, wait=LOCK_WAIT) as got:
            if not got:
                raise StoreBusy(
                    "another process is cleaning up the store {store}",
                    store=self.folder,
                    hint="try again later",
                )
            yield


def remove_staging(folder: str) -> None:
    """Remove a folder for half-written files; what cannot go stays."""
    try:
        # All that is left but after a failure; remove_tree takes 3 ms to load what it needs.
        os.unlink(os.path.join(folder, "lock"))
        os.rmdir(folder)
    except OSError:
        fsops.remove_tree(folder)


def sweep(folder: str) -> None:
    """Remove what processes that are gone left in the staging folder: theirs is no longer locked."""
    now = time.time()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            path = entry.path
            age = now - entry.stat(follow_symlinks=False).st_mtime
            # A lock that other machines do not see says nothing of them.
            if age < STALE_SECONDS or (age < DEAD_SECONDS and not fsops.trusts_locks(folder)):
                continue
            if entry.is_dir(follow_symlinks=False):
                with fsops.locked(os.path.join(path, "lock"), lockless=age > DEAD_SECONDS) as got:
                    if got:
                        fsops.remove_tree(path)
            elif not entry.name.endswith(".lock"):
                with fsops.locked(path, lockless=age > DEAD_SECONDS) as got:
                    if got:
                        os.unlink(path)


def open_store(folder: str) -> Store:
    """Open an existing store, mending what is missing; NoStore if there is none."""
    if not is_store(folder):
        refuse_unreadable(folder)
        refuse_headless(folder)
        hint = "tensortime backup makes one; -C DIR or --store DIR name another place"
        if os.path.lexists(folder):
            raise NoStore("no store here: {store} is no store of TensorTime", store=folder, hint=hint)
        raise NoStore("no store here: {store} does not exist", store=folder, hint=hint)
    try:
        refuse_links(folder)
        refuse_linked_folders(folder)
    except OSError as problem:  # a folder that nobody may look into
        raise refusal(folder, problem) from problem
    store_id, config_notice = read_config(folder)
    notices = [config_notice] if config_notice else []
    try:
        notices += mend(folder)
    except OSError as problem:
        if not os.access(folder, os.W_OK):
            refuse_foreign(folder)
            return Store(folder, store_id, tuple(notices))
        refuse_full(folder, problem)
        raise StoreUnusable("{store}: {problem}", store=folder, problem=problem.strerror) from problem
    return Store(folder, store_id, tuple(notices))


def refuse_full(where: str, problem: OSError) -> None:
    """NoSpace, with what is left, where the disk is what stood in the way."""
    if problem.errno in fsops.FULL:
        raise refusal(where, problem) from problem


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


def refuse_headless(folder: str) -> None:
    """Damaged for a store whose configuration is gone: all else that it needs may be there."""
    config = os.path.join(folder, ".shadow", "config")
    if os.path.isdir(os.path.join(folder, ".shadow", "objects")):
        raise Damaged(
            "the store {store} is damaged: {path} is missing",
            store=folder,
            path=config,
            hint="tensortime backup writes it anew; the experiments are then as they were",
        )


def user_name(uid: int) -> str:
    """The name of a user, or the number where nobody knows one."""
    import pwd  # only for an error

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
    check_version()
    try:
        make_folders(folder)
        give_to_neighbour(folder)
        fsops.write_atomic(os.path.join(folder, "README"), README)
        fsops.write_atomic(os.path.join(folder, ".gitignore"), b"*\n")
        write_shadow_files(folder)
        write_first_config(folder)
    except OSError as problem:
        refuse_full(os.path.dirname(folder), problem)
        raise StoreUnusable(
            "the store {store} cannot be made: {problem}",
            store=folder,
            problem=problem.strerror,
            hint="name another place with --store DIR or TENSORTIME_STORE",
        ) from problem
    opened = open_store(folder)
    return Store(opened.folder, opened.store_id, (*([notice] if notice else []), *opened.notices))


def give_to_neighbour(folder: str) -> None:
    """A store that root makes in somebody's project is theirs, or they could not even list their experiments."""
    around = os.stat(os.path.dirname(folder))
    if os.geteuid() == 0 and os.lstat(folder).st_uid == 0 != around.st_uid:
        os.chown(folder, around.st_uid, around.st_gid)


def check_free(folder: str) -> Message | None:
    """ForeignFolder if the place of a new store holds somebody else's files; one line to say for 0.1.0's copies."""
    if not os.path.lexists(folder):
        return None
    if not os.path.isdir(folder):
        raise foreign(folder, message("it is not a folder"))
    own_git = os.path.join(folder, ".git")
    if os.path.lexists(own_git) and not is_our_gitfile(own_git):
        raise foreign(folder, message("it is a git repository of its own"))
    with os.scandir(folder) as entries:
        others = [
            entry
            for entry in entries
            if entry.name not in OWN_NAMES and not entry.name.startswith(".tensortime-")
        ]
    files = sorted(entry.name for entry in others if not entry.is_dir(follow_symlinks=False))
    if files:
        raise foreign(folder, message("it holds {name}", name=files[0]))
    names = sorted(entry.name for entry in others)
    if not names:
        return None
    return message(
        "{store} holds folders that TensorTime did not make (copies of version 0.1.0?): {names}; "
        "they stay as they are and are not backed up",
        store=folder,
        names=listing(names, 3),
    )


def foreign(folder: str, why: Message) -> ForeignFolder:
    """The error for a folder that is somebody else's."""
    return ForeignFolder(
        "{folder} is not a store of TensorTime: {why}",
        folder=folder,
        why=why,
        hint='name another folder: TimeMachine(backup_dir="backups"), --store backups, or backup_dir in tensortime.toml',
    )


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
    fsops.write_atomic(os.path.join(git_dir, "HEAD"), HEAD)
    fsops.write_atomic(os.path.join(git_dir, "info", "attributes"), ATTRIBUTES)


def write_first_config(folder: str) -> None:
    """Write `config`, the file that makes a store finished; the first of several processes wins."""
    import uuid  # once in the life of a store

    git_dir = os.path.join(folder, ".shadow")
    config = os.path.join(git_dir, "config")
    if os.path.isdir(config):
        os.replace(config, f"{config}.foreign-{os.urandom(4).hex()}")
    staged = os.path.join(folder, ".tmp", f"config-{uuid.uuid4().hex}")
    fsops.write_atomic(staged, CONFIG.format(id=uuid.uuid4()).encode())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(staged, config)
    except OSError:
        # No hard links here (exFAT, some FUSE): a plain rename, and the last one wins.
        os.replace(staged, config)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(staged)
    for name in (".shadow/refs", ".shadow/objects", ".shadow", ".objects", ""):
        fsops.sync_folder(os.path.join(folder, name))
    above = os.path.dirname(folder)
    # Those that had to be made on the way here are writable.
    while os.access(above, os.R_OK | os.W_OK) and above != "/":
        fsops.sync_folder(above)
        above = os.path.dirname(above)

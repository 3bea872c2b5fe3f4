"""What opening a store checks and puts right around the data.

A store that came from somebody else is data only: its git configuration is written again if it is not ours,
and what could make git run code or read elsewhere is moved aside before git is called.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator

from tensortime import fsops
from tensortime.errors import Message, StoreUnusable, TensorTimeError, UnsupportedFormat, message
from tensortime.gitcommand import user_exclude_file
from tensortime.refusals import refusal

FORMAT = 1
KNOWN_FEATURES: frozenset[str] = frozenset()
"""`requires` lines of a store's config that this version understands."""

OWN_FOLDERS = (".shadow", ".objects", ".cache", ".tmp")
WRITTEN_TO = (
    *(
        *OWN_FOLDERS,
        ".lock",
        ".records",
        ".objects/blake3",
        ".shadow/config",
        ".shadow/info",
        ".shadow/objects",
    ),
    *(".shadow/objects/pack", ".shadow/refs", ".shadow/refs/experiments", ".shadow/worktrees"),
    *(".shadow/refs/tags", ".shadow/refs/trash", ".shadow/refs/pins", ".shadow/packed-refs", ".shadow/HEAD"),
)
"""None of these may be a symbolic link: it could lead anywhere."""

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

GITFILE = b"gitdir: .shadow\n"

COMMON = b"../..\n"
"""What the record of a worktree says of where the repository is that it belongs to."""

HEAD = b"ref: refs/heads/none\n"
"""Unborn for ever; without it git takes the folder for no repository."""

LOCKS = (".lock", ".tmp/fold.lock", ".tmp/hardlinks.lock", ".tmp/withdrawn.lock", ".tmp/publish.lock")

ATTRIBUTES = b"* -text !eol -filter -ident -working-tree-encoding -export-subst -export-ignore !merge !diff\n"

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


def refuse_links(folder: str) -> None:
    """StoreUnusable if something that we write to is a symbolic link, or what git would wait at for ever."""
    for name in WRITTEN_TO:
        path = os.path.join(folder, name)
        with contextlib.suppress(FileNotFoundError):
            mode = os.lstat(path).st_mode
            if stat.S_ISFIFO(mode) and name == ".shadow/packed-refs":
                raise StoreUnusable(
                    "the store is not safe to use: {path} is a FIFO", path=path, hint="remove it"
                )
            if stat.S_ISLNK(mode):
                raise led_away(path)


def links_in(folder: str, *, deep: bool) -> Iterator[str]:
    """The symbolic links in a folder of the store, or anywhere below it. What another user closed is passed over."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield entry.path
            elif deep and entry.is_dir(follow_symlinks=False):
                yield from links_in(entry.path, deep=True)


def refuse_linked_folders(folder: str) -> None:
    """StoreUnusable if a folder of refs, objects or records is a symbolic link: what is stored in it would lie elsewhere.

    A ref that is a link itself is damage: git puts another in its place, and writes nothing behind it.
    """
    refs = links_in(os.path.join(folder, ".shadow", "refs"), deep=True)
    loose = links_in(os.path.join(folder, ".shadow", "objects"), deep=False)
    large = links_in(os.path.join(folder, ".objects", "blake3"), deep=False)
    records = links_in(os.path.join(folder, ".records"), deep=False)
    for path in (*refs, *loose, *large, *records):
        if os.path.isdir(path):
            raise led_away(path)


def led_away(path: str) -> StoreUnusable:
    """The error for a place in the store that is a symbolic link."""
    return StoreUnusable(
        "the store is not safe to use: {path} is a symbolic link",
        path=path,
        hint="put the real folder back in its place",
    )


def foreign_in(git_dir: str) -> Iterator[str]:
    """What git would follow or run in the shadow repository, and neither git nor we put there.

    A worktree's record names the repository that it belongs to in `commondir`: another one has another configuration.
    A git that is just making a record has not written that yet.
    """
    yield from filter(os.path.lexists, (os.path.join(git_dir, name) for name in FOREIGN_IN_SHADOW))
    logs, top = os.path.join(git_dir, "logs"), os.path.join(git_dir, "worktrees")
    yield from [logs] if os.path.islink(logs) else links_in(logs, deep=True)
    yield from links_in(top, deep=True)
    with contextlib.suppress(OSError):
        for name in os.listdir(top):
            common = os.path.join(top, name, "commondir")
            with contextlib.suppress(OSError):
                if fsops.read_file(common, 1 << 20).strip() not in (b"", b"../.."):
                    yield common


def refuse_foreign(folder: str) -> None:
    """StoreUnusable for a store with something for git to follow or run, where it cannot be moved aside."""
    for path in foreign_in(os.path.join(folder, ".shadow")):
        raise StoreUnusable(
            "the store is not safe to use: {path} is not ours, and cannot be moved aside",
            path=path,
            hint="copy the store to where you may write: cp -r; tensortime puts the copy right",
        )


def read_config(folder: str) -> tuple[str, Message | None]:
    """The store's id. A config that is not ours byte for byte is kept as `config.foreign` and written again."""
    path = os.path.join(folder, ".shadow", "config")
    try:
        found = fsops.read_file(path, 1 << 20).decode("utf-8", "replace")
    except OSError as problem:
        raise StoreUnusable(
            "the store {store} cannot be read: {problem}",
            store=path,
            problem=problem.strerror,
            hint="is it yours? ls -ld shows its owner",
        ) from problem
    section = found.partition("[tensortime]")[2].partition("\n[")[0]
    features = re.findall(r"^\s*requires\s*=\s*(\S+)\s*$", section, re.MULTILINE)
    refuse_unknown(re.search(r"^\s*format\s*=\s*(\S+)\s*$", section, re.MULTILINE), features)
    identity = re.search(r"^\s*id\s*=\s*([0-9a-f-]{36})\s*$", section, re.MULTILINE)
    store_id = identity.group(1) if identity else new_id()
    ours = CONFIG.format(id=store_id) + "".join(f"\trequires = {feature}\n" for feature in features)
    if found == ours:
        return store_id, None
    try:
        fsops.write_atomic(path + ".foreign", found.encode())
        fsops.write_atomic(path, ours.encode())
    except OSError as problem:
        if problem.errno in fsops.FULL:
            raise refusal(folder, problem) from problem
        raise StoreUnusable(
            "the store is not safe to use: {path} is not ours, and cannot be written again: {problem}",
            path=path,
            problem=problem.strerror,
            hint="copy the store to where you may write: cp -r; tensortime puts the copy right",
        ) from problem
    return store_id, message(
        "the git configuration of the store was not ours and was written again; the other is kept as {path}",
        path=path + ".foreign",
    )


def new_id() -> str:
    """An id for a store."""
    import uuid  # once in the life of a store, and 5 ms

    return str(uuid.uuid4())


def refuse_unknown(stated: re.Match[str] | None, features: list[str]) -> None:
    """UnsupportedFormat for a store of a later TensorTime."""
    number = stated.group(1) if stated else str(FORMAT)
    unknown = [feature for feature in features if feature not in KNOWN_FEATURES]
    if number != str(FORMAT) or unknown:
        raise UnsupportedFormat(
            "this store needs a newer TensorTime: {need}",
            need=", ".join(unknown) if unknown else message("format {number}", number=number),
            hint="pip install -U tensortime",
        )


def mend(folder: str) -> list[Message]:
    """Put right what a hand, a crash or another program changed around the data."""
    notices = []
    git_dir = os.path.join(folder, ".shadow")
    gitfile = os.path.join(folder, ".git")
    for path in list(foreign_in(git_dir)):
        notices.append(move_aside(path, into=git_dir))
        record, name = os.path.split(path)
        if name == "commondir" and os.path.dirname(record) == os.path.join(git_dir, "worktrees"):
            fsops.write_atomic(path, COMMON)
    if os.path.lexists(gitfile) and not is_our_gitfile(gitfile):
        notices.append(move_aside(gitfile))
    expected = [
        (os.path.join(folder, ".gitignore"), b"*\n"),
        (os.path.join(git_dir, "info", "attributes"), ATTRIBUTES),
        (os.path.join(git_dir, "HEAD"), HEAD),
    ]
    for path, content in expected:
        if not fsops.has_content(path, content):
            notices += clear_place(path)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            fsops.write_atomic(path, content)
    for name in LOCKS:
        notices += clear_place(os.path.join(folder, name))
    for name in (".objects/blake3", ".cache", ".tmp", ".shadow/objects/pack", ".shadow/refs/experiments"):
        path = os.path.join(folder, name)
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o700, exist_ok=True)
            fsops.sync_folder(os.path.dirname(path))
    mend_gitfile(folder)
    return notices


def clear_place(path: str) -> list[Message]:
    """Move aside what is no file in the place of a file of ours: nothing could be written or locked there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return [move_aside(path)]
    return []


def move_aside(path: str, into: str | None = None) -> Message:
    """Give something another name, which says that it was not ours; returns the line that tells of it.

    `into`: another folder, where git would follow it under any name where it is.
    """
    place = path if into is None else os.path.join(into, os.path.basename(path))
    os.replace(path, f"{place}.foreign-{os.urandom(4).hex()}")
    return message("{path} was not ours and was moved aside", path=path)


def mend_gitfile(folder: str) -> None:
    """Keep `.git` and the user's exclude line together: both, or where no line can be written, neither.

    With both, `git clean -fdx` and `git stash -a` in the user's repository pass by the store.
    """
    gitfile = os.path.join(folder, ".git")
    found = None
    with contextlib.suppress(TensorTimeError, OSError):
        found = user_exclude_file(os.path.dirname(folder))
    if found is not None and add_exclude_line(folder, *found):
        if not os.path.lexists(gitfile):
            fsops.write_atomic(gitfile, GITFILE)
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


def is_our_gitfile(path: str) -> bool:
    """Whether this is the `.git` file that we put into a store."""
    return fsops.has_content(path, GITFILE)

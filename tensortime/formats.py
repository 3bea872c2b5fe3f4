"""The small formats that everything else is made of: paths, digests, ids, times.

The values are plain `str` and `bytes` at run time and types of their own for the checker; a value that
comes from outside goes through its `parse_*` function, a value that we made ourselves is wrapped.
"""

import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import NewType

RelPath = NewType("RelPath", bytes)
"""A path inside the project: raw bytes, `/` between components, never absolute, no `.`, `..` or empty part."""

Digest = NewType("Digest", str)
"""The identity of a large file's bytes: `blake3:` and 64 lower-case hex digits."""

Oid = NewType("Oid", str)
"""A git object id: 40 lower-case hex digits."""

META = b".tensortime"
"""The folder of a tree that TensorTime itself writes."""

LONGEST_COMPONENT = 255
LONGEST_PATH = 4000
"""Bytes. Past 4096 the kernel refuses the path, and a restore goes into a folder that is longer than the project."""

HFS_IGNORABLE = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
GIT_SHORT_NAME = re.compile(r"git~\d+|gi[0-9a-f]{4}~\d+")


REFUSED_MARK = re.compile(rb"\.[gG]|~|\xe2[\x80\x81]|\xef\xbb\xbf")
"""Is in every path that `git_refuses`: `.g`, a short name, or a code point that HFS+ ignores. Asked for every file."""

GIT_SPECIAL_FILES = {".gitmodules", ".gitattributes", ".gitignore", ".mailmap"}


def parse_path(raw: bytes) -> RelPath:
    """Check a path that comes from a manifest or another outside place; ValueError if it could lead elsewhere."""
    if not raw or b"\0" in raw or len(raw) > LONGEST_PATH:
        raise ValueError(f"not a path inside a project: {raw[:80]!r}")
    for part in raw.split(b"/"):
        if part in (b"", b".", b"..") or len(part) > LONGEST_COMPONENT:
            raise ValueError(f"not a path inside a project: {raw[:80]!r}")
    return RelPath(raw)


def parse_digest(text: str) -> Digest:
    """Check a digest that comes from a manifest; ValueError if it is none."""
    if not re.fullmatch(r"blake3:[0-9a-f]{64}", text):
        raise ValueError(f"not a digest: {text[:80]!r}")
    return Digest(text)


def digest_of(raw: bytes) -> Digest:
    """The digest with these 32 bytes."""
    return Digest("blake3:" + raw.hex())


def raw_of(digest: str) -> bytes:
    """The 32 bytes of a digest."""
    return bytes.fromhex(digest.removeprefix("blake3:"))


def parse_oid(text: str) -> Oid:
    """Check a git object id; ValueError if it is none."""
    if not re.fullmatch(r"[0-9a-f]{40}", text):
        raise ValueError(f"not a git object id: {text[:80]!r}")
    return Oid(text)


def is_under(path: bytes, top: bytes) -> bool:
    """Whether `path` is `top` or lies below it."""
    return path == top or path.startswith(top + b"/")


def covering(path: RelPath, tops: Collection[RelPath]) -> RelPath | None:
    """The outermost path among `tops` that a path is, or lies below."""
    if not tops:
        return None
    return next((top for top in reversed((path, *folders_above(path))) if top in tops), None)


def folders_above(path: bytes) -> Iterator[RelPath]:
    """The folders that a path lies in, the nearest first."""
    folder = path.rpartition(b"/")[0]
    while folder:
        yield RelPath(folder)
        folder = folder.rpartition(b"/")[0]


def is_inside(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def goes_into_git(path: bytes) -> bool:
    """Whether git can carry a file at this path through a checkout."""
    return REFUSED_MARK.search(path) is None or not any(map(git_refuses, path.split(b"/")))


def git_refuses(component: bytes) -> bool:
    """Whether git will not check out a path with this component, on any file system.

    git protects `.git` under every disguise that HFS+ and NTFS see through (path.c, utf8.c of git):
    letter case, ignorable code points, trailing dots and spaces, stream suffixes, short names.
    """
    # To NTFS a backslash ends a component: git looks at what is between them, too.
    return any(looks_like_git(part) for part in component.split(b"\\"))


def looks_like_git(component: bytes) -> bool:
    """Whether one component without backslashes is `.git` in disguise."""
    if b"~" not in component and not component.startswith((b".", b"\xe2", b"\xef")):
        return False
    text = HFS_IGNORABLE.sub("", component.decode("utf-8", "surrogateescape")).lower()
    text = text.split(":")[0].rstrip(". ")
    return text == ".git" or GIT_SHORT_NAME.fullmatch(text) is not None


def git_refuses_link(component: bytes) -> bool:
    """Whether git treats a symbolic link of this name specially (`.gitmodules`, `.gitattributes`, …)."""
    if component[:1] not in (b".", b"g", b"G", b"\xe2", b"\xef"):
        return False
    text = HFS_IGNORABLE.sub("", component.decode("utf-8", "surrogateescape")).lower()
    text = text.split(":")[0].rstrip(". ")
    return text in GIT_SPECIAL_FILES or re.fullmatch(r"(git|gi)[a-z0-9]{3,4}~\d+", text) is not None


def encode_path(path: bytes) -> dict[str, str]:
    """The JSON fields of a path: `path` where it is UTF-8, else `path_base64`."""
    try:
        return {"path": path.decode("utf-8")}
    except UnicodeDecodeError:
        import base64  # hardly any path needs it

        return {"path_base64": base64.b64encode(path).decode("ascii")}


def decode_path(fields: dict[str, object]) -> RelPath:
    """Read what `encode_path` wrote; ValueError if it is no path inside a project."""
    plain, coded = fields.get("path"), fields.get("path_base64")
    if isinstance(plain, str):
        return parse_path(plain.encode("utf-8"))
    if isinstance(coded, str):
        import base64

        return parse_path(base64.b64decode(coded, validate=True))
    raise ValueError("an entry without a path")


def text_of(path: bytes) -> str:
    """A path as a string: bytes that are not UTF-8 become surrogate escapes, whatever the locale."""
    return path.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """The inverse of `text_of`."""
    return text.encode("utf-8", "surrogateescape")


def iso_time(time_ns: int) -> str:
    """A moment in nanoseconds since 1970 as ISO 8601 in the local zone, to the second."""
    try:
        return (
            datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).astimezone().isoformat(timespec="seconds")
        )
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC).isoformat(timespec="seconds")

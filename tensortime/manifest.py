"""The manifest: the committed list of what git cannot carry. FORMAT.md has a section on it.

JSON lines sorted by raw path bytes. The first line is the header, `{"format": 1}`, with the project's
`umask` where it is not 022 and the `mode` of the project's folder where the umask does not give it. Past SHARD_LIMIT entries the lines are split by top folder into `manifest.d/`,
so that a change in one folder writes one shard; the header then stands alone in `manifest`.
"""

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from blake3 import blake3

from tensortime.errors import Damaged, UnsupportedFormat
from tensortime.formats import Digest, RelPath, decode_path, encode_path, parse_digest

FORMAT = 1
SHARD_LIMIT = 10_000
DEFAULT_UMASK = 0o022
COMMON_UMASKS = (0o022, 0o002, 0o077, 0o027, 0o007, 0o000)

FILE, SMALL, FOLDER, SYMLINK = "file", "small", "dir", "symlink"
"""Kinds: an object of the sidecar; a file whose bytes are in git but not all else; a folder; a link git refuses."""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One line of the manifest."""

    path: RelPath
    kind: str
    mode: int | None = None
    """Permission bits, also setuid, setgid and sticky; None: what the umask gives."""
    size: int | None = None
    """Bytes; of `file` only."""
    digest: Digest | None = None
    """Of `file` only."""
    mtime_ns: int | None = None
    """Nanoseconds since 1970; of `file` only."""
    target: bytes | None = None
    """Where the link points; of `symlink` only."""
    changed: bool = False
    """The file changed while it was read, three times over: these bytes are one of its states, perhaps a mix."""
    link: int | None = None
    """Entries with the same number were hard links of each other. They come back as separate files."""


class Manifest(NamedTuple):
    """All entries of one backup, by path."""

    entries: Mapping[RelPath, ManifestEntry]
    umask: int = DEFAULT_UMASK
    root_mode: int | None = None
    """Permission bits of the project's own folder; None: what the umask gives."""

    def large(self) -> Iterator[ManifestEntry]:
        """The entries whose bytes lie in the sidecar."""
        return (entry for entry in self.entries.values() if entry.kind == FILE)


def encode_manifest(manifest: Manifest) -> dict[bytes, bytes]:
    """The files of `.tensortime/` that hold this manifest: name (`manifest`, `manifest.d/…`) to content."""
    header: dict[str, object] = {"format": FORMAT}
    if manifest.umask != DEFAULT_UMASK:
        header["umask"] = f"{manifest.umask:04o}"
    if manifest.root_mode is not None:
        header["mode"] = f"{manifest.root_mode:04o}"
    first = json.dumps(header) + "\n"
    if len(manifest.entries) <= SHARD_LIMIT:
        lines = (encode_entry(manifest.entries[path]) for path in sorted(manifest.entries))
        return {b"manifest": (first + "".join(lines)).encode()}
    shards: dict[bytes, list[str]] = {}
    for path in sorted(manifest.entries):
        folder, slash, _ = path.partition(b"/")
        top = folder if slash else b""
        name = b"manifest.d/" + blake3(top).hexdigest()[:16].encode()
        shards.setdefault(name, []).append(encode_entry(manifest.entries[path]))
    files = {name: "".join(lines).encode() for name, lines in shards.items()}
    return {b"manifest": first.encode(), **files}


def encode_entry(entry: ManifestEntry) -> str:
    """One line, with its newline; fields that say nothing are left out."""
    fields: dict[str, object] = {**encode_path(entry.path), "kind": entry.kind}
    if entry.size is not None:
        fields["size"] = entry.size
    if entry.digest is not None:
        fields["digest"] = entry.digest
    if entry.mode is not None:
        fields["mode"] = f"{entry.mode:04o}"
    if entry.mtime_ns is not None:
        fields["mtime_ns"] = entry.mtime_ns
    if entry.target is not None:
        fields["target_base64"] = base64.b64encode(entry.target).decode("ascii")
    if entry.changed:
        fields["changed"] = True
    if entry.link is not None:
        fields["link"] = entry.link
    return json.dumps(fields, ensure_ascii=False) + "\n"


def decode_manifest(files: Mapping[bytes, bytes]) -> Manifest:
    """Read what `encode_manifest` wrote. Damaged names the line; UnsupportedFormat if a later version wrote it."""
    head, _, rest = files.get(b"manifest", b"").partition(b"\n")
    header = read_fields(head, "manifest", 1)
    if header.get("format") != FORMAT:
        raise UnsupportedFormat(
            "the manifest has format {found}, this version reads format {known}",
            found=str(header.get("format"))[:20],
            known=FORMAT,
            hint="pip install -U tensortime",
        )
    entries: dict[RelPath, ManifestEntry] = {}
    shards = sorted((name, data, 1) for name, data in files.items() if name != b"manifest")
    for name, data, first in [(b"manifest", rest, 2), *shards]:
        for number, line in enumerate(data.split(b"\n"), first):
            if line:
                add_entry(entries, line, name.decode(), number)
    refuse_files_as_folders(entries)
    try:
        umask, root_mode = read_mode(header.get("umask"), 0o777), read_mode(header.get("mode"), 0o7777)
    except ValueError as problem:
        raise damaged("manifest", 1, str(problem)) from problem
    return Manifest(entries, DEFAULT_UMASK if umask is None else umask, root_mode)


def add_entry(entries: dict[RelPath, ManifestEntry], line: bytes, name: str, number: int) -> None:
    """Read one line into `entries`; Damaged if it is no entry or repeats one."""
    fields = read_fields(line, name, number)
    try:
        entry = decode_entry(fields)
    except (ValueError, TypeError, KeyError, binascii.Error) as problem:
        raise damaged(name, number, str(problem)) from problem
    if entry.path in entries:
        raise damaged(name, number, "a path that is listed twice")
    entries[entry.path] = entry


def decode_entry(fields: dict[str, object]) -> ManifestEntry:
    """One entry from its JSON fields; unknown fields are passed over, unknown kinds are not."""
    kind, target = fields.get("kind"), fields.get("target_base64")
    entry = ManifestEntry(
        path=decode_path(fields),
        kind=str(kind),
        mode=read_mode(fields.get("mode"), 0o7777),
        mtime_ns=read_number(fields.get("mtime_ns"), low=-(1 << 80)),
        changed=fields.get("changed") is True,
        link=read_number(fields.get("link")),
    )
    if kind == FILE:
        digest = parse_digest(str(fields.get("digest")))
        size = read_number(fields.get("size"))
        if size is None:
            raise ValueError("a file without a size")
        return replace(entry, size=size, digest=digest)
    if kind == SYMLINK:
        leads_to = base64.b64decode(str(target), validate=True)
        if not leads_to or b"\0" in leads_to:
            raise ValueError("a link that leads to no path")
        return replace(entry, target=leads_to)
    if kind not in (SMALL, FOLDER):
        raise ValueError(f"an unknown kind {str(kind)[:40]!r}")
    return entry


def read_fields(line: bytes, name: str, number: int) -> dict[str, object]:
    """The JSON object of a line; Damaged if it is none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise damaged(name, number, str(problem)) from problem
    if not isinstance(fields, dict):
        raise damaged(name, number, "not an object")
    return fields


def read_mode(value: object, mask: int) -> int | None:
    """An octal string; None where there is none."""
    if value is None:
        return None
    mode = int(str(value), 8)
    if mode & ~mask or mode < 0:
        raise ValueError(f"an impossible mode {str(value)[:20]}")
    return mode


def read_number(value: object, low: int = 0) -> int | None:
    """A whole number not under `low`; None where there is none."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"an impossible number {str(value)[:20]}")
    return value


def refuse_files_as_folders(entries: Mapping[RelPath, ManifestEntry]) -> None:
    """Damaged if one path lies below another that is no folder."""
    for path in entries:
        folder = path.rpartition(b"/")[0]
        while folder:
            above = entries.get(RelPath(folder))
            if above is not None and above.kind != FOLDER:
                raise Damaged("the manifest is damaged: {path} lies below a file", path=repr(path))
            folder = folder.rpartition(b"/")[0]


def damaged(name: str, number: int, problem: str) -> Damaged:
    """The error for one bad line."""
    return Damaged(
        "the manifest is damaged: .tensortime/{name} line {number}: {problem}",
        name=name,
        number=number,
        problem=problem[:200],
    )


def common_umask(file_modes: Counter[int], folder_modes: Counter[int]) -> int:
    """The umask that explains most of these permission bits, so that few paths need an entry of their own."""

    def unexplained(umask: int) -> int:
        files = sum(count for mode, count in file_modes.items() if mode != plain_mode(mode, umask))
        return files + sum(count for mode, count in folder_modes.items() if mode != 0o777 & ~umask)

    return min(COMMON_UMASKS, key=unexplained)


def plain_mode(mode: int, umask: int) -> int:
    """What git's checkout under `umask` makes of a file with these permission bits: only the owner's x counts."""
    return (0o777 if mode & 0o100 else 0o666) & ~umask


def encode_exclude(paths: Iterable[bytes]) -> bytes:
    """gitignore lines for these paths; `git status` in a worktree is then clean."""
    return b"".join(b"/" + escape_pattern(path) + b"\n" for path in sorted(paths))


def escape_pattern(path: bytes) -> bytes:
    """A path as a gitignore pattern. A line cannot hold a line break: `?` stands for it."""
    return re.sub(rb"([\\*?\[\] \t])", rb"\\\1", path).replace(b"\n", b"?").replace(b"\r", b"?")


def folders_of_nothing_else(large: Iterable[bytes], others: Iterable[bytes]) -> set[bytes]:
    """For the exclude file: the topmost folders that hold only `large` paths, and the large paths outside them.

    `others`: the folders that hold something else.
    """
    kept: set[bytes] = set()
    for folder in others:
        while folder and folder not in kept:
            kept.add(folder)
            folder = folder.rpartition(b"/")[0]
    lines: set[bytes] = set()
    for path in large:
        parts = path.split(b"/")
        prefix = b""
        for part in parts[:-1]:
            prefix = prefix + b"/" + part if prefix else part
            if prefix not in kept:
                lines.add(prefix + b"/")
                break
        else:
            lines.add(path)
    return lines

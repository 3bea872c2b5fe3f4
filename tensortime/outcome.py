"""What a command made of its inputs: which paths are outputs, and what the backup after it holds. Pure.

Outputs are told by comparing with the inputs, the experiment's last whole backup. In a project where people go on
working, a source file that was there before and is another one now was edited by a person, not made by the command:
it stays as it was, and is named.
"""

import contextlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from tensortime.formats import RelPath, bytes_of, covering, decode_path, encode_path, folders_above, text_of
from tensortime.glances import SOURCES
from tensortime.reports import OutputFile
from tensortime.trees import Contents, Folder, LargeFile, SmallFile, Symlink

FORMAT = 1
OUTPUTS = b"outputs"
"""The file of `.tensortime/` that lists them."""

CREATED, CHANGED, REMOVED = "created", "changed", "removed"
REWRITTEN = "rewritten"
"""Written by the command with the bytes that it had before."""

SOURCE_NAMES = {
    b"Makefile",
    b"makefile",
    b"GNUmakefile",
    b"Dockerfile",
    b"justfile",
    b"Justfile",
    b".ttignore",
}
SOURCE_SUFFIXES = tuple(suffix.encode() for suffix in SOURCES)

AnyFile = SmallFile | LargeFile | Symlink


@dataclass(frozen=True)
class Outcome:
    """What is stored on top of an experiment's newest backup."""

    contents: Contents
    edited: tuple[RelPath, ...]
    """Source files that a person changed or removed meanwhile: `contents` has them as they were."""


def is_source(path: bytes) -> bool:
    """Whether people write files like this by hand, going by the name."""
    return path.endswith(SOURCE_SUFFIXES) or path.rpartition(b"/")[2] in SOURCE_NAMES


def files_of(contents: Contents) -> dict[RelPath, AnyFile]:
    """All files and links by path."""
    return {**contents.small, **contents.large, **contents.links}


def is_same(old: AnyFile, new: AnyFile) -> bool:
    """Whether a path holds the same bytes with the same permissions."""
    if isinstance(old, SmallFile) and isinstance(new, SmallFile):
        return (old.oid, old.permissions) == (new.oid, new.permissions)
    if isinstance(old, LargeFile) and isinstance(new, LargeFile):
        return (old.digest, old.permissions) == (new.digest, new.permissions)
    return old == new


def outcome_of(
    inputs: Contents,
    newest: Contents,
    now: Contents,
    *,
    is_edited: Callable[[RelPath], bool],
    is_gone: Callable[[RelPath], bool],
    is_old: Callable[[RelPath], bool],
) -> Outcome:
    """`newest` with what differs in `now`.

    `is_edited`: a changed path like this was changed by a person; asked for paths that the inputs have. `is_gone`: what
    is not in `now` is not merely left out. `is_old`: it was there before the command, so it is no output.
    """
    given, held, found = files_of(inputs), files_of(newest), files_of(now)
    shift = max((file.link or 0 for file in newest.regular), default=0)
    kept: dict[RelPath, AnyFile] = {}
    taken: dict[RelPath, AnyFile] = {}
    edited = []
    for path, new in found.items():
        old = held.get(path)
        if old is not None and is_same(old, new):
            kept[path] = old
        elif path in given and is_edited(path):
            edited.append(path)
            kept |= {path: old} if old is not None else {}
        elif old is not None or not is_old(path):
            taken[path] = shifted(new, shift)
    for path in held.keys() - found.keys():
        if path in given and is_edited(path) and is_gone(path):
            edited.append(path)
        elif is_gone(path):
            continue
        kept[path] = held[path]
    files = {**without_conflicts(kept, taken), **taken}
    return Outcome(assembled(newest, now, files), tuple(sorted(edited)))


def shifted(file: AnyFile, shift: int) -> AnyFile:
    """A file whose link group gets a number of its own."""
    if isinstance(file, Symlink) or file.link is None:
        return file
    return file._replace(link=file.link + shift)


def without_conflicts(
    kept: Mapping[RelPath, AnyFile], taken: Mapping[RelPath, AnyFile]
) -> dict[RelPath, AnyFile]:
    """What is kept, but for files where there is a folder now, and what lies below a path that is a file now."""
    folders = {folder for path in taken for folder in folders_above(path)}
    return {
        path: file
        for path, file in kept.items()
        if path not in folders and not any(folder in taken for folder in folders_above(path))
    }


def assembled(newest: Contents, now: Contents, files: Mapping[RelPath, AnyFile]) -> Contents:
    """The contents with these files, and the folders that there are now, or that something kept lies in."""
    needed = {folder for path in files for folder in folders_above(path)}
    folders = {path: now.folders[path] for path in now.folders if path not in files}
    for path in needed - folders.keys():
        folders[path] = newest.folders.get(path, Folder(0o755, False))
    around = needed | {above for path in folders for above in folders_above(path)}
    return replace(
        now,
        small={path: file for path, file in files.items() if isinstance(file, SmallFile)},
        large={path: file for path, file in files.items() if isinstance(file, LargeFile)},
        links={path: file for path, file in files.items() if isinstance(file, Symlink)},
        folders={path: folder._replace(empty=path not in around) for path, folder in folders.items()},
    )


def outputs_between(
    inputs: Contents,
    now: Contents,
    passed_over: Collection[RelPath] = (),
    rewritten: Collection[RelPath] = (),
) -> tuple[OutputFile, ...]:
    """What differs, sorted by raw path, and what was `rewritten` with the same bytes.

    `passed_over`: inputs that could not be stored belong to the inputs all the same.
    """
    old, new = files_of(inputs), files_of(now)
    rows = []
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        same = before is not None and after is not None and is_same(before, after)
        if (same and path not in rewritten) or covering(path, passed_over):
            continue
        state = REWRITTEN if same else CREATED if before is None else REMOVED if after is None else CHANGED
        size = after.size if isinstance(after, SmallFile | LargeFile) else 0
        rows.append(OutputFile(text_of(path), state, size))
    return tuple(rows)


def encode_outputs(outputs: Collection[OutputFile]) -> bytes:
    """The file `.tensortime/outputs`."""
    rows = [{**encode_path(bytes_of(one.path)), "state": one.state} for one in outputs]
    lines = [json.dumps(row, ensure_ascii=False) for row in ({"format": FORMAT}, *rows)]
    return "".join(line + "\n" for line in lines).encode()


def decode_outputs(data: bytes) -> dict[RelPath, str]:
    """The state of each output, by path; ValueError for what nobody wrote so."""
    header, *rows = [json.loads(line) for line in data.decode().splitlines()] or [{}]
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError("not a list of outputs that this version knows")
    return {decode_path(row): str(row.get("state")) for row in rows if isinstance(row, dict)}


def rewritten_in(extra: Mapping[bytes, bytes]) -> frozenset[RelPath]:
    """What a backup lists as rewritten with the same bytes; `extra`: the files of its `.tensortime/`."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        states = decode_outputs(extra[OUTPUTS])
        return frozenset(path for path, state in states.items() if state == REWRITTEN)
    return frozenset()

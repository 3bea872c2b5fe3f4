"""The paths that differ between two states of a project: pure, but for the look at bytes of `equal_under_another_id`.

A path is an *output* if a backup of its experiment that only adds put it on top of the inputs, which are what a whole
backup holds, or should have held; so is what lies in a folder where an experiment has nothing but outputs.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import IO, NamedTuple

from blake3 import blake3

from tensortime.differences import (
    ADDED,
    CHANGED,
    FILE,
    FOLDER,
    KIND,
    MODE,
    REMOVED,
    RENAMED,
    SYMLINK,
    LeftOut,
    Side,
)
from tensortime.formats import RelPath, covering, folders_above, text_of
from tensortime.manifest import plain_mode
from tensortime.packs import Kind, object_id

# fmt: off
DATA_SUFFIXES = (
    b".csv", b".tsv", b".jsonl", b".ndjson", b".parquet", b".feather", b".arrow", b".orc", b".avro", b".xls", b".xlsx",
    b".h5", b".hdf5", b".npy", b".npz", b".mat", b".pt", b".pth", b".ckpt", b".safetensors", b".onnx", b".pkl",
    b".pickle", b".joblib", b".bin", b".dat", b".tfrecord", b".lmdb", b".db", b".sqlite", b".sqlite3", b".png", b".jpg",
    b".jpeg", b".gif", b".bmp", b".tif", b".tiff", b".webp", b".wav", b".mp3", b".flac", b".ogg", b".mp4", b".avi",
    b".pdf", b".zip", b".gz", b".tgz", b".tar", b".bz2", b".xz", b".zst", b".7z",
)
# fmt: on
"""Files called like this are data whatever is in them: tables, weights, pictures, sound, archives."""

LONGEST_TEXT = 4 << 20
"""Bytes: a longer file is data, and not compared line by line."""


Key = tuple[str, bytes | None, bool]
"""What files have in common that can be one file under two names: kind, bytes, whether it is an output."""


class Item(NamedTuple):
    """One path of a state."""

    kind: str
    size: int
    """Bytes of a file, else 0."""
    mode: int | None
    """Permission bits, as they are under umask 022 where they are what the state's own umask gives; None for links."""
    identity: bytes | None
    """20 bytes: git's blob (of a link: of its target); 32: BLAKE3; None: not read, as its size is another already."""
    large: bool = False
    target: bytes | None = None
    """Of a link, where it is known without reading a blob."""
    empty: bool = False
    """A folder of which nothing else is known."""


@dataclass(frozen=True)
class State:
    """All that is compared of one state."""

    side: Side
    items: Mapping[RelPath, Item]
    """All paths, or without some that are the same in the other state."""
    run: Mapping[str, object]
    """What run.json says, or would say now."""
    outputs: frozenset[RelPath] = frozenset()
    output_folders: frozenset[RelPath] = frozenset()
    """Folders of nothing but outputs."""
    left_out: frozenset[RelPath] = frozenset()
    """What a rule left out, or could not be stored or read; a folder stands for all below it."""
    params: Mapping[str, object] | None = None
    metrics: Mapping[str, object] | None = None
    packages: Mapping[str, str] | None = None
    read: Callable[[Sequence[RelPath]], Mapping[RelPath, bytes]] = lambda _: {}
    """The bytes of small files (of links: their targets); one that cannot be read now is missing."""
    open: Callable[[RelPath], IO[bytes]] = lambda _: BytesIO()
    """A file, small or large, to be read from any place in it. OSError, Damaged."""


def items_of(
    files: Mapping[RelPath, tuple[bytes | None, int, int]],
    links: Mapping[RelPath, tuple[bytes | None, bytes | None]],
    folders: Mapping[RelPath, tuple[int, bool]],
    umask: int,
    large: Callable[[RelPath, bytes | None], bool] = lambda _, identity: len(identity or b"") == 32,
) -> dict[RelPath, Item]:
    """The paths of a state. Files: identity, size, permissions; links: blob, target; folders: permissions, empty."""
    modes = {mode: usual_mode(mode, umask) for _, _, mode in files.values()}
    items = {
        path: Item(FILE, size, modes[mode], identity, large(path, identity))
        for path, (identity, size, mode) in files.items()
    }
    for path, (mode, empty) in folders.items():
        usual = 0o755 if mode == 0o777 & ~umask else mode
        items[path] = Item(FOLDER, 0, usual, None, empty=empty)
    for path, (oid, target) in links.items():
        items[path] = Item(SYMLINK, 0, None, oid or object_id(Kind.BLOB, target or b""), target=target)
    return items


def usual_mode(mode: int, umask: int) -> int:
    """A file's permissions under umask 022, where they are nothing but what its own umask gives."""
    return plain_mode(mode, 0o022) if mode == plain_mode(mode, umask) else mode


class Pair(NamedTuple):
    """A path that differs, as it is in both states."""

    path: RelPath
    old: Item | None
    new: Item | None
    old_path: RelPath
    """Another than `path` for a renamed file."""

    @property
    def items(self) -> list[Item]:
        """What there is."""
        return [item for item in (self.old, self.new) if item is not None]

    @property
    def change(self) -> str:
        """What happened to the path."""
        old, new = self.old, self.new
        if old is None or new is None:
            return ADDED if old is None else REMOVED
        if old.kind != new.kind:
            return KIND
        if self.path != self.old_path:
            return RENAMED
        return MODE if is_same(old, new) else CHANGED

    @property
    def is_text(self) -> bool:
        """Whether it may be worth comparing line by line."""
        lines = self.change in (ADDED, REMOVED, CHANGED) and self.items[0].kind == FILE
        return lines and not self.is_surely_data

    @property
    def is_surely_data(self) -> bool:
        """Whether it is data by its size or its name."""
        named = self.path.lower().endswith(DATA_SUFFIXES) or self.old_path.lower().endswith(DATA_SUFFIXES)
        files = [item for item in self.items if item.kind == FILE]
        return bool(files) and (named or any(one.large or one.size > LONGEST_TEXT for one in files))


def pair_up(a: State, b: State) -> list[Pair]:
    """The paths that differ, by path."""
    found = []
    twins = equal_under_another_id(a, b)
    for path in a.items.keys() | b.items.keys():
        old, new = a.items.get(path), b.items.get(path)
        if old is not None and new is not None and path in twins:
            new = new._replace(identity=old.identity, large=old.large)
        if old == new:
            continue
        if old is not None and new is not None and is_same(old, new):
            if old.mode != new.mode:
                found.append(Pair(path, old, new, path))
            continue
        # A folder with something in it is told by what is in it.
        old, new = (None if one is not None and is_filled(one) else one for one in (old, new))
        if old is not None or new is not None:
            found.append(Pair(path, old, new, path))
    return sorted(found, key=lambda one: one.path)


def is_filled(item: Item) -> bool:
    """Whether this is a folder with something in it."""
    return item.kind == FOLDER and not item.empty


def is_same(old: Item, new: Item) -> bool:
    """Whether two items of one kind are the same but for their modes."""
    return (
        old.kind == new.kind
        and old.identity == new.identity
        and (old.kind == FOLDER or old.identity is not None)
    )


def equal_under_another_id(a: State, b: State) -> set[RelPath]:
    """Files that are large in one state and small in the other (`large_size` was changed), and have the same bytes."""
    found = set()
    for path, old in a.items.items():
        new = b.items.get(path)
        if new is None or old.large == new.large or (old.kind, old.size) != (new.kind, new.size):
            continue
        small, large = (b, old) if old.large else (a, new)
        data = small.read([path]).get(path)
        if data is not None and blake3(data).digest() == large.identity:
            found.add(path)
    return found


def comparable(a: State, b: State, pairs: Iterable[Pair]) -> tuple[list[Pair], tuple[LeftOut, ...]]:
    """The pairs without what one state holds only because the other left it out, and a count of that."""
    kept, counts = list[Pair](), dict[tuple[RelPath, str], int]()
    for pair in pairs:
        other, letter = (a, "a") if pair.old is None else (b, "b")
        top = None if pair.old and pair.new else covering(pair.path, other.left_out)
        if top is None:
            kept.append(pair)
        else:
            counts[top, letter] = counts.get((top, letter), 0) + 1
    return kept, tuple(LeftOut(text_of(top), by, count) for (top, by), count in sorted(counts.items()))


def output_rule(a: State, b: State) -> Callable[[Pair], bool]:
    """What tells whether a path is an output."""
    outputs, folders = a.outputs | b.outputs, a.output_folders | b.output_folders

    def is_output(pair: Pair) -> bool:
        path = pair.path if pair.new is not None else pair.old_path
        return path in outputs or any(folder in folders for folder in folders_above(path))

    return is_output


def output_folders(files: Iterable[bytes], outputs: Collection[RelPath]) -> frozenset[RelPath]:
    """The folders below the top that hold outputs, and of all these files no other."""
    inputs = {path.rpartition(b"/")[0] for path in files if path not in outputs}
    around_inputs = {folder for path in inputs for folder in (path, *folders_above(path))}
    return frozenset(folder for path in outputs for folder in folders_above(path)) - around_inputs


def with_renames(pairs: Sequence[Pair], is_output: Callable[[Pair], bool]) -> list[Pair]:
    """One pair in place of two where a file went away and one of the same bytes came."""
    gone, came = defaultdict[Key, list[Pair]](list), defaultdict[Key, list[Pair]](list)
    for pair in pairs:
        item = pair.items[0]
        some = item.kind == SYMLINK or (item.kind == FILE and item.size and item.identity is not None)
        if pair.change in (ADDED, REMOVED) and some:
            key = (item.kind, item.identity, is_output(pair))
            (gone if pair.change == REMOVED else came).setdefault(key, []).append(pair)
    renamed = list[Pair]()
    for key in gone.keys() & came.keys():
        renamed += matched(gone[key], came[key])
    sources, targets = {one.old_path for one in renamed}, {one.path for one in renamed}
    kept = [
        one
        for one in pairs
        if not (
            (one.change == REMOVED and one.path in sources) or (one.change == ADDED and one.path in targets)
        )
    ]
    return sorted((*kept, *renamed), key=lambda one: one.path)


def matched(gone: Sequence[Pair], came: Sequence[Pair]) -> Iterator[Pair]:
    """Which of the files of the same bytes became which: first those that kept their name, the others in order."""
    by_name = defaultdict[bytes, deque[Pair]](deque)
    for new in came:
        by_name[name_of(new.path)].append(new)
    rest = []
    for old in gone:
        namesakes = by_name[name_of(old.path)]
        if namesakes:
            yield became(old, namesakes.popleft())
        else:
            rest.append(old)
    left = sorted((new for news in by_name.values() for new in news), key=lambda one: one.path)
    for old, new in zip(rest, left, strict=False):
        yield became(old, new)


def became(old: Pair, new: Pair) -> Pair:
    """One pair of a file that went away and the one that came."""
    return Pair(new.path, old.old, new.new, old.path)


def name_of(path: bytes) -> bytes:
    """The last part of a path."""
    return path.rpartition(b"/")[2]

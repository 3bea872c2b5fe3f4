"""The projects that are backed up: made from a seed, so that every run of the benchmark sees the same bytes.

All sizes are those of `scale` 1: a smaller one makes fewer files and shorter large ones, to try the benchmark itself.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

MIB = 1 << 20
WORDS = b"def return import for in if else self model loss batch epoch torch numpy lr weights data train eval step".split()
FILES_A_FOLDER = 250


@dataclass(frozen=True)
class Tree:
    """One kind of project, and how it is measured."""

    name: str
    about: str
    make: Callable[[Path, random.Random, float], None]
    """Makes it in a folder, at a scale."""
    small: str
    """The small file that is changed, relative to the project."""
    large: str | None = None
    """The large one; None: the tree has none."""
    compared: tuple[str, ...] = ("cp -r", "tensortime")
    """The tools that run all rounds: a target compares them."""
    patience: float = 60
    """Seconds. Any other tool starts no further round once its steps took so long; the table says how many it had."""
    tools: tuple[str, ...] | None = None
    """The tools that run at all; None: all of them."""
    place: Path | None = None
    """Another file system than the one that is measured, already there."""
    room: float = 0
    """Bytes that project, store and restored worktree take on the disk at the most."""
    fresh: int = 0
    """Bytes of the file system of its own that each tool gets in each round; 0: it gets none."""
    tight: bool = False
    """Whether whole copies that are no longer needed are deleted between the steps; their bytes are counted on."""


def text(chance: random.Random, size: int) -> bytes:
    """Bytes that compress as code does: about four to one."""
    words = chance.choices(WORDS, k=size // 5 + 1)
    lines = (
        b" ".join(words[at : at + 9]) + b" = %d\n" % chance.randrange(1 << 30)
        for at in range(0, len(words), 9)
    )
    return b"".join(lines)[:size].ljust(size, b"#")


def spread(top: Path, count: int) -> Iterator[Path]:
    """The paths of so many files, FILES_A_FOLDER in each folder."""
    for number in range(count):
        folder = top / f"part{number // FILES_A_FOLDER:03}"
        if number % FILES_A_FOLDER == 0:
            folder.mkdir(parents=True)
        yield folder / f"file{number:05}.py"


def write_noise(path: Path, size: int, chance: random.Random) -> None:
    """A file that does not compress, in small steps: what this process holds would count as its children's peak."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for at in range(0, size, MIB):
            file.write(chance.randbytes(min(MIB, size - at)))


def some(count: int, scale: float) -> int:
    """So many at this scale, at least ten."""
    return max(10, round(count * scale))


def large(size: int, scale: float) -> int:
    """So many bytes at this scale, still enough to be a large file."""
    return max(4 * MIB, round(size * scale))


def make_code(top: Path, chance: random.Random, scale: float) -> None:
    """2,000 files, 10 MB, and 8 times 128 MiB of data."""
    for path in spread(top / "src", some(2000, scale)):
        path.write_bytes(text(chance, 5000))
    for number in range(8):
        write_noise(top / "data" / f"part{number}.bin", large(128 * MIB, scale), chance)


def make_many(top: Path, chance: random.Random, scale: float) -> None:
    """50,000 files of 4 KB."""
    for path in spread(top / "src", some(50_000, scale)):
        path.write_bytes(text(chance, 4096))


def make_images(top: Path, chance: random.Random, scale: float) -> None:
    """20,000 files of 100 KB that do not compress."""
    for path in spread(top / "img", some(20_000, scale)):
        path.write_bytes(chance.randbytes(100_000))


def make_huge(top: Path, chance: random.Random, scale: float) -> None:
    """One file of 8 GiB, and a small one."""
    (top / "src").mkdir()
    (top / "src" / "train.py").write_bytes(text(chance, 5000))
    write_noise(top / "data" / "all.bin", large(8192 * MIB, scale), chance)


def make_quick(top: Path, chance: random.Random, scale: float) -> None:
    """3,000 files of 4 KB and 2 times 64 MiB."""
    for path in spread(top / "src", some(3000, scale)):
        path.write_bytes(text(chance, 4096))
    for number in range(2):
        write_noise(top / "data" / f"part{number}.bin", large(64 * MIB, scale), chance)


FIRST_SOURCE = "src/part000/file00000.py"
RIVALS = ("cp -r", "tensortime", "git", "dvc", "restic", "borg")
MEMORY = Path("/dev/shm")

CODE = Tree(
    "code",
    "2,000 files, 10 MB, and 8 x 128 MiB",
    make_code,
    FIRST_SOURCE,
    "data/part0.bin",
    compared=RIVALS,
    room=9e9,
    fresh=6 << 30,
)
MANY = Tree("many", "50,000 files of 4 KB", make_many, FIRST_SOURCE, compared=RIVALS, room=5e9, fresh=4 << 30)
IMAGES = Tree(
    "images", "20,000 files of 100 KB", make_images, "img/part000/file00000.py", room=14e9, fresh=11 << 30
)
HUGE = Tree("huge", "one file of 8 GiB", make_huge, "src/train.py", "data/all.bin", room=35e9, tight=True)
QUICK = Tree(
    "quick",
    "3,000 files of 4 KB and 2 x 64 MiB",
    make_quick,
    FIRST_SOURCE,
    "data/part0.bin",
    patience=7,
    room=4e9,
    fresh=3 << 30,
)
MANY_TMPFS = replace(
    MANY,
    name="many-tmpfs",
    about="50,000 files of 4 KB, all of it on tmpfs",
    compared=("cp -r", "tensortime"),
    tools=("cp -r", "rsync --link-dest", "tensortime", "git"),
    place=MEMORY,
    room=2e9,
    fresh=0,
)

TREES = {tree.name: tree for tree in (CODE, MANY, IMAGES, HUGE, MANY_TMPFS, QUICK)}


def make_tree(tree: Tree, top: Path, scale: float) -> None:
    """Make it on disk, its files old enough not to count as just written."""
    top.mkdir(parents=True)
    tree.make(top, random.Random(tree.name), scale)
    an_hour_ago = os.stat(top).st_mtime - 3600
    for folder, _, names in os.walk(top):
        for name in names:
            os.utime(os.path.join(folder, name), (an_hour_ago, an_hour_ago))


def change(tree: Tree, top: Path, round_number: int) -> None:
    """What one step of work changes: a line of a small file, a few bytes of a large one.

    Not in the second of the change before: rsync compares whole seconds, and would not see it.
    """
    time.sleep(max(0, os.stat(top / tree.small).st_mtime + 1.1 - time.time()))
    with open(top / tree.small, "r+b") as file:
        file.write(b"# round %06d\n" % round_number)
    if tree.large is not None:
        change_large(top / tree.large, round_number)


def change_large(path: Path, number: int) -> None:
    """A few bytes in the midst of a large file."""
    with open(path, "r+b") as file:
        file.seek(MIB)
        file.write(b"round %06d" % number)


def warm(top: Path) -> None:
    """Read every byte, so that the tree is in the page cache."""
    for folder, _, names in os.walk(top):
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path):
                with open(path, "rb", buffering=0) as file:
                    while file.read(MIB):
                        pass

"""The projects that are backed up: made from a seed, so that every run of the benchmark sees the same bytes."""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
WORDS = b"def return import for in if else self model loss batch epoch torch numpy lr weights data train eval step".split()
FILES_A_FOLDER = 250


@dataclass(frozen=True)
class Tree:
    """One kind of project."""

    name: str
    about: str
    make: Callable[[Path, random.Random], None]
    small: str
    """The small file that is changed, relative to the project."""
    large: str | None
    """The large one; None: the tree has none."""
    heavy: bool = False
    """Only plain copies and what keeps its pace run on it in the quick benchmark: never."""


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
    """A file that does not compress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for at in range(0, size, 16 * MIB):
            file.write(chance.randbytes(min(16 * MIB, size - at)))


def make_code(top: Path, chance: random.Random) -> None:
    """2,000 files, 10 MB, and 8 times 128 MiB of data."""
    for path in spread(top / "src", 2000):
        path.write_bytes(text(chance, 5000))
    for number in range(8):
        write_noise(top / "data" / f"part{number}.bin", 128 * MIB, chance)


def make_many(top: Path, chance: random.Random) -> None:
    """50,000 files of 4 KB."""
    for path in spread(top / "src", 50_000):
        path.write_bytes(text(chance, 4096))


def make_images(top: Path, chance: random.Random) -> None:
    """20,000 files of 100 KB that do not compress."""
    for path in spread(top / "img", 20_000):
        path.write_bytes(chance.randbytes(100_000))


def make_huge(top: Path, chance: random.Random) -> None:
    """One file of 8 GiB, and a small one."""
    (top / "src").mkdir()
    (top / "src" / "train.py").write_bytes(text(chance, 5000))
    write_noise(top / "data" / "all.bin", 8192 * MIB, chance)


def make_quick(top: Path, chance: random.Random) -> None:
    """3,000 files of 4 KB and 2 times 64 MiB."""
    for path in spread(top / "src", 3000):
        path.write_bytes(text(chance, 4096))
    for number in range(2):
        write_noise(top / "data" / f"part{number}.bin", 64 * MIB, chance)


FIRST_SOURCE = "src/part000/file00000.py"
TREES = {
    tree.name: tree
    for tree in (
        Tree("code", "2,000 files, 10 MB, and 8 x 128 MiB", make_code, FIRST_SOURCE, "data/part0.bin"),
        Tree("many", "50,000 files of 4 KB", make_many, FIRST_SOURCE, None),
        Tree("images", "20,000 files of 100 KB", make_images, "img/part000/file00000.py", None),
        Tree("huge", "one file of 8 GiB", make_huge, "src/train.py", "data/all.bin", heavy=True),
        Tree("quick", "3,000 files of 4 KB and 2 x 64 MiB", make_quick, FIRST_SOURCE, "data/part0.bin"),
    )
}


def make_tree(tree: Tree, top: Path) -> None:
    """Make it on disk, its files old enough not to count as just written."""
    top.mkdir(parents=True)
    tree.make(top, random.Random(tree.name))
    an_hour_ago = os.stat(top).st_mtime - 3600
    for folder, _, names in os.walk(top):
        for name in names:
            os.utime(os.path.join(folder, name), (an_hour_ago, an_hour_ago))


def change(tree: Tree, top: Path, round_number: int) -> None:
    """What one step of work changes: a line of a small file, a few bytes of a large one."""
    with open(top / tree.small, "r+b") as file:
        file.write(b"# round %06d\n" % round_number)
    if tree.large is not None:
        with open(top / tree.large, "r+b") as file:
            file.seek(MIB)
            file.write(b"round %06d" % round_number)


def warm(top: Path) -> None:
    """Read every byte, so that the tree is in the page cache."""
    for folder, _, names in os.walk(top):
        for name in names:
            with open(os.path.join(folder, name), "rb", buffering=0) as file:
                while file.read(8 * MIB):
                    pass

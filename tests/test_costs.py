"""What it costs, held as counts: git processes, opened files, bytes, syncs, looks. CASES T01.

Every number is the one of today or follows from the design, and is an upper bound: whoever makes it less lowers it
here. On a file system with reflinks the clone is read in place of the source; the sums are the same.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from builders import Tree, user_git
from conftest import Tally
from costs import BACKUP, Costs, costs_of, within

from tensortime import api, intake, upkeep
from tensortime.sidecar import LOOK_BYTES, LOOKS

LARGE = 1 << 20
SMALL_FILES = 40
AHEAD = -(10**12)
OLD = 10**18
"""Nanoseconds: 2001."""

CREATING = 15
"""Syncs of a new store: five files and their folders, then its own folders."""
PUBLISHING = 6
"""Syncs of every backup: pack, idx, their folder; the ref (by git, and once more for gits before 2.36), its folder."""
RESTORING = 10
"""Syncs of every restore: what git writes of a worktree, its two links to each other, the folder it gets its name in."""
FOLDING = 6
"""Syncs of a fold: its pack, idx, their folder; packed-refs (by git, and once more for gits before 2.39), its folder."""
NOTHING_NEW = 4_000
"""Bytes that a backup writes where nothing has changed: the commit, run.json, the idx; no stat cache, no tree."""
KEEPING_BOOKS = 12_000
"""Bytes that a backup of so few files may read and write besides contents: trees, manifest, run.json, packages, stat cache."""


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as older than the racy window, here as in the programs of `costs`."""
    monkeypatch.setattr(intake, "LARGE_WINDOW_NS", AHEAD)
    monkeypatch.setattr(intake, "SMALL_WINDOW_NS", AHEAD)


def project_of(folder: Path, *, small: int = SMALL_FILES, large: int = 2, size: int = 100) -> Tree:
    """So many small files of a size, and so many large ones; older than any index of git that they will be in."""
    tree = Tree(folder)
    for number in range(small):
        tree.file(f"src/part{number % 7}/file{number:05}.py", b"%-*d" % (size, number), mtime_ns=OLD)
    for number in range(large):
        tree.file(f"data/part{number:05}.bin", size=LARGE, mtime_ns=OLD)
    return tree


def backed_up(folder: Path, **options: int) -> Tree:
    """A project with one backup."""
    tree = project_of(folder, **options)
    api.backup(directory=tree.root, name="first")
    return tree


def with_rules(tree: Tree) -> set[str]:
    """Give a project the files that say what is backed up; returns their paths."""
    tree.file(".ttignore", b"none/\n", mtime_ns=OLD).file("src/.ttignore", b"none/\n", mtime_ns=OLD)
    tree.file("tensortime.toml", b'lang = "en"\n', mtime_ns=OLD)
    tree.file("pyproject.toml", b"[project]\n", mtime_ns=OLD)
    return {".ttignore", "src/.ttignore", "tensortime.toml", "pyproject.toml"}


def in_a_repository(tree: Tree) -> None:
    """Make it a clean repository of its user's."""
    user_git("init", "--quiet", cwd=tree.root)
    user_git("add", "--all", cwd=tree.root)
    user_git("commit", "--quiet", "--message=first", cwd=tree.root)


def read_and_written(spent: Costs, tree: Tree) -> tuple[int, int]:
    """The bytes that were read and written in the store."""
    store = tree.root / "tensortime"
    nothing = store / "nothing"
    return sum(within(spent.read, store, without=nothing).values()), sum(
        within(spent.written, store, without=nothing).values()
    )


def syncs_in_store(spent: Costs, tree: Tree) -> int:
    """How often something of the store, or the store's own folder, was synced."""
    store = os.fsencode(tree.root / "tensortime")
    return sum(count for path, count in spent.synced.items() if (path + b"/").startswith(store + b"/"))


def of_users(counts: Counter[bytes], tree: Tree) -> dict[str, int]:
    """Counts in the project, without its `.git`."""
    return within(Counter({path: count for path, count in counts.items() if b"/.git" not in path}), tree.root)


def assert_no_more(found: list[str], allowed: list[str]) -> None:
    """No git but these, and each as often at most."""
    assert not Counter(found) - Counter(allowed), found


# --- unchanged


@pytest.mark.parametrize("versioned", [False, True], ids=["no repository", "a clean repository"])
def test_an_unchanged_backup(tmp_path: Path, versioned: bool) -> None:
    """T01: no file is opened but those with rules and settings; one look a file (git's status takes another); four
    gits at most; six syncs; only books are kept."""
    tree = project_of(tmp_path / "p")
    rules = with_rules(tree)
    if versioned:
        in_a_repository(tree)
    api.backup(directory=tree.root)
    spent = costs_of(BACKUP, cwd=tree.root)
    assert_no_more(spent.gits, ["for-each-ref", "update-ref", *(["config", "status"] if versioned else [])])
    assert of_users(spent.opened, tree).keys() <= rules
    assert {path for path, size in of_users(spent.read, tree).items() if size} <= rules
    looks = {path: n for path, n in of_users(spent.looked_at, tree).items() if (tree.root / path).is_file()}
    assert looks.keys() >= {"data/part00000.bin", "src/part0/file00000.py"}
    assert {path: n for path, n in looks.items() if n > 1 + versioned and path not in rules} == {}
    assert syncs_in_store(spent, tree) == sum(spent.synced.values()) <= PUBLISHING
    read, written = read_and_written(spent, tree)
    assert read <= KEEPING_BOOKS
    assert written <= NOTHING_NEW


def test_an_unchanged_backup_of_more(tmp_path: Path) -> None:
    """What it reads in the store depends on how many files there are, not on their bytes; what it writes on neither."""
    spent = []
    for name, small, size in (("a", 40, 10), ("b", 40, 100_000), ("c", 400, 10)):
        tree = backed_up(tmp_path / name, small=small, size=size)
        spent.append(read_and_written(costs_of(BACKUP, cwd=tree.root), tree))
    (read, written), (of_larger, written_of_larger), (of_more, written_of_more) = spent
    assert max(written_of_larger, written_of_more) <= written + 500, spent
    assert of_larger <= read + 500, spent
    assert of_more <= read + 360 * 120, spent


# --- changed


@pytest.mark.parametrize(
    ("path", "way"),
    [
        *(("src/part1/file00001.py", way) for way in ("written", "renamed")),
        *(("data/part00000.bin", way) for way in ("written", "touched", "renamed", "moved")),
    ],
)
def test_only_what_changed_is_opened(tmp_path: Path, path: str, way: str) -> None:
    """T01: the one file is read once, whatever happened to it; where it is equal no byte of it is stored, only trees and a
    manifest. A large one of the same size is compared in a few places first, so that a new checkpoint is copied at once.
    """
    tree = backed_up(tmp_path / "p")
    place, now = tree.root / path, path
    if way == "written":
        place.write_bytes(place.read_bytes()[::-1])
    elif way == "touched":
        os.utime(place)
    else:
        now = "src/part1/other" if way == "renamed" else "elsewhere/other"
        (tree.root / now).parent.mkdir(exist_ok=True)
        place.rename(tree.root / now)
    size = (tree.root / now).stat().st_size
    spent = costs_of(BACKUP, cwd=tree.root)
    assert_no_more(spent.gits, ["for-each-ref", "update-ref"])
    looks = LOOKS * LOOK_BYTES if size >= LARGE and way in ("written", "touched") else 0
    assert of_users(spent.opened, tree) == {now: 2 if looks else 1}
    staged = sum(count for name, count in spent.read.items() if b"/object-" in name)
    assert size <= of_users(spent.read, tree).get(now, 0) + staged <= size + looks
    written = read_and_written(spent, tree)[1]
    assert written <= KEEPING_BOOKS + (size if way == "written" else 0)
    # A large one: its folder and the folder of these, and itself where it is new.
    of_object = 0 if size < LARGE else 3 if way == "written" else 2
    assert syncs_in_store(spent, tree) <= PUBLISHING + of_object


# --- the first


@pytest.mark.parametrize(("small", "large"), [(1, 0), (1000, 0), (1, 12)])
def test_a_first_backup(tmp_path: Path, small: int, large: int) -> None:
    """Each file is opened once and each byte read once, and what is written of a pack is read once more for its
    checksum. Three gits. Syncs: 15 for the store, 6, and where there are n large files 2 n + 1 (each, its folder, and
    the folder of these): as many for one small file as for a thousand.
    """
    tree = project_of(tmp_path / "p", small=small, large=large)
    spent = costs_of(BACKUP, cwd=tree.root)
    assert_no_more(spent.gits, ["version", "for-each-ref", "update-ref"])
    assert set(of_users(spent.opened, tree).values()) == {1}
    read = of_users(spent.read, tree)
    staged = sum(count for path, count in spent.read.items() if b"/object-" in path)
    assert sum(read.values()) + staged == small * 100 + large * LARGE
    assert max(read.values(), default=0) <= LARGE
    packed = {path: count for path, count in spent.read.items() if b"/tmp_pack_" in path}
    assert all(count <= spent.written[path] for path, count in packed.items())
    assert syncs_in_store(spent, tree) <= CREATING + PUBLISHING + (2 * large + 1 if large else 0)


def test_a_first_backup_in_a_repository(tmp_path: Path) -> None:
    """Two gits more, which look at the user's repository."""
    tree = project_of(tmp_path / "p")
    in_a_repository(tree)
    spent = costs_of(BACKUP, cwd=tree.root)
    assert_no_more(spent.gits, ["version", "config", "status", "for-each-ref", "update-ref"])
    assert set(of_users(spent.opened, tree).values()) == {1}


# --- back


@pytest.mark.parametrize(("small", "large"), [(1, 1), (300, 6)])
def test_a_restore(tmp_path: Path, small: int, large: int) -> None:
    """Each object is read once. Each small file is read back once behind git, and once by git where it is as young as
    the index. A fixed number of gits (the workers that they start aside) and of syncs, however many files."""
    tree = backed_up(tmp_path / "p", small=small, large=large)
    spent = costs_of(["restore", "first", "../back"], cwd=tree.root)
    gits = [verb for verb in spent.gits if verb != "checkout--worker"]
    allowed = ("for-each-ref", "ls-tree", "cat-file", "worktree", "update-ref", "read-tree", "update-index")
    assert_no_more(gits, list(allowed))
    back = within(spent.read, tmp_path / "back.partial")
    placed = sum(count for path, count in back.items() if path.startswith("data/"))
    objects = sum(count for path, count in spent.read.items() if b"/.objects/" in path)
    assert objects + placed == large * LARGE
    checked = sum(count for path, count in back.items() if path.startswith("src/"))
    assert small * 100 <= checked <= 2 * small * 100
    assert sum(spent.synced.values()) <= RESTORING


# --- looking


MEMORY = """
import resource, sys
from tensortime import api
api.restore("first", sys.argv[2], directory=sys.argv[1])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_memory_of_the_git_that_restores(tmp_path: Path) -> None:
    """It maps a part of a pack at a time, not 300 MB of it in as many processes as there are cores."""
    tree = Tree(tmp_path / "project")
    for number in range(600):
        tree.file(f"{number % 7}/{number}.jpg", size=500_000)
    api.backup(directory=tree.root, name="first")
    words = [sys.executable, "-c", MEMORY, str(tree.root), str(tmp_path / "restored")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=100)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 100_000_000


def test_git_processes_of_what_only_looks(tmp_path: Path) -> None:
    """`log` takes one, however many experiments there are; `show` and `diff` as many however many files; none is
    synced or opened in the project but what differs from what is known."""
    tree = backed_up(tmp_path / "p")
    of_show = ["ls-tree", "rev-list", *["cat-file"] * 3]
    for number in range(5):
        tree.file("src/new.py", b"%d\n" % number)
        api.backup(directory=tree.root)
    allowed = {
        ("log",): ["for-each-ref"],
        ("show", "@"): ["for-each-ref", *of_show],
        ("diff", "first", "@"): [*["for-each-ref"] * 2, *of_show * 2, "cat-file"],
        ("diff", "@"): ["for-each-ref", *of_show],
    }
    for words, gits in allowed.items():
        spent = costs_of(words, cwd=tree.root)
        assert_no_more(spent.gits, gits)
        assert not spent.synced, words
        assert not of_users(spent.opened, tree), words


# --- many


@pytest.mark.parametrize("count", [120, pytest.param(1000, marks=pytest.mark.long)])
def test_many_unchanged_backups(tmp_path: Path, tally: Tally, count: int) -> None:
    """Never more than 50 packs that could be folded, and 1 KB a backup on disk once they are.

    Each backup opens at most four files for each of those before it that are not folded yet (pack, idx, ref; the idx
    twice where git looks there first), and 40 besides; the one that folds starts three gits more and syncs five times more.
    """
    tree = project_of(tmp_path / "p", small=10, large=1)
    store = tree.root / "tensortime"
    packs = store / ".shadow/objects/pack"

    def size() -> int:
        return sum(path.lstat().st_size for path in store.rglob("*") if path.is_file())

    sizes: dict[int, int] = {}
    looked: dict[int, Costs] = {}
    for number in range(1, count + 1):
        if number in (5, 50, 51, 52, 100):
            looked[number] = costs_of(BACKUP, cwd=tree.root)
        else:
            api.backup(directory=tree.root, name=f"run-{number:04}")
        names = os.listdir(packs)
        unkept = sum(name.endswith(".pack") and name[:-4] + "keep" not in names for name in names)
        assert unkept <= 50
        if unkept == 1 < number:
            sizes[number] = size()
    first, last = min(sizes), max(sizes)
    assert last - first > count / 3
    assert (sizes[last] - sizes[first]) / (last - first) <= 1000
    assert first == 51
    for number, spent in looked.items():
        folds = number == first
        assert_no_more(
            spent.gits, ["for-each-ref", "update-ref", *["repack", "pack-objects", "pack-refs"] * folds]
        )
        assert sum(spent.synced.values()) <= PUBLISHING + FOLDING * folds
        opened = within(spent.opened, store, without=store / "nothing")
        assert folds or sum(opened.values()) <= 40 + 4 * (number - 1 - (first if number > first else 0))
    assert len(upkeep.du(directory=tree.root).experiments) == count
    tally("unchanged backups", count)

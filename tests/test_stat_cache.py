"""The stat cache makes a backup faster and never wrong. CASES M09, M10, X04, X05, K11.

No test can set a ctime or wait for a minute: `clock_ahead` shifts the racy windows instead, so that every file
counts as old.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from blake3 import blake3
from builders import Tree, assert_same_tree, noise

import tensortime
from tensortime import api, intake, recognition, statcache
from tensortime.folding import pack_sizes
from tensortime.formats import RelPath
from tensortime.statcache import LARGE_WINDOW_NS, SMALL_WINDOW_NS, UNSETTLED, StatCache, StatKey
from tensortime.store import open_store

LARGE = 2 << 20
SECOND = 10**9
AHEAD = -(10**12)


@pytest.fixture
def clock_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as older than the racy window."""
    monkeypatch.setattr(intake, "LARGE_WINDOW_NS", AHEAD)
    monkeypatch.setattr(intake, "SMALL_WINDOW_NS", AHEAD)


def project_of(tmp_path: Path) -> Tree:
    """A few small files and one large one."""
    tree = Tree(tmp_path / "project").file("train.py", b"print(1)\n").file("src/model.py", b"a = 1\n")
    return tree.file("data/model.bin", size=LARGE)


def cache_file(project: Path) -> Path:
    """Where a project's stat cache lies."""
    return project / "tensortime/.cache" / statcache.cache_name(str(project))


def store_id(project: Path) -> str:
    """The id of a project's store."""
    return (project / "tensortime/.shadow/config").read_text().rpartition("id = ")[2].split()[0]


def cache_of(project: Path) -> StatCache:
    """What the store remembers of a project."""
    packs = pack_sizes(open_store(str(project / "tensortime")))
    return statcache.load_cache(str(cache_file(project)), store_id(project), packs)


def packs_of(project: Path) -> list[Path]:
    """The packs of a store, oldest first."""
    packs = (project / "tensortime/.shadow/objects/pack").glob("*.pack")
    return sorted(packs, key=lambda path: path.stat().st_mtime_ns)


def check(tree: Tree, name: str) -> None:
    """The experiment comes back as the project is now."""
    assert_same_tree(tree.root, api.restore(name, directory=tree.root).path)


@pytest.mark.parametrize(
    ("window", "age", "settled"),
    [
        (SMALL_WINDOW_NS, 2 * SECOND, False),
        (SMALL_WINDOW_NS, 2 * SECOND + 1, True),
        (LARGE_WINDOW_NS, 60 * SECOND, False),
        (LARGE_WINDOW_NS, 60 * SECOND + 1, True),
        (SMALL_WINDOW_NS, -SECOND, False),
    ],
)
def test_the_racy_windows(window: int, age: int, settled: bool) -> None:
    """M09, M10: 2 s for small files, 60 s for large ones; either time counts, one in the future too."""
    now, old = 1_800_000_000 * SECOND, 1
    assert statcache.is_settled(StatKey(1, now - age, old, 1), now, window) is settled
    assert statcache.is_settled(StatKey(1, old, now - age, 1), now, window) is settled


def test_a_young_file_is_not_believed(tmp_path: Path) -> None:
    """M09, M10: what was just written is read again by the next backup, also where its mtime says it is old."""
    tree = project_of(tmp_path)
    for path in ("train.py", "data/model.bin"):
        os.utime(tree.root / path, ns=(1, 1))
    api.backup(directory=tree.root)
    files = cache_of(tree.root).files
    assert RelPath(b"train.py") not in files
    assert statcache.key_in(files[RelPath(b"data/model.bin")]).mtime_ns == UNSETTLED


@pytest.mark.usefixtures("clock_ahead")
def test_an_old_file_is_believed(tmp_path: Path) -> None:
    """A file whose stat is the remembered one is not read; `rehash=True` reads it all the same."""
    tree = project_of(tmp_path)
    api.backup(directory=tree.root, name="first")
    tree.file("train.py", b"print(2)\n").file("data/model.bin", noise(b"other", LARGE))
    forge_stats(tree.root)
    api.backup(directory=tree.root, name="believed")
    restored = Path(api.restore("believed", directory=tree.root).path)
    assert (restored / "train.py").read_bytes() == b"print(1)\n"
    assert (restored / "data/model.bin").read_bytes() == noise(b"data/model.bin", LARGE)
    api.backup(directory=tree.root, name="rehashed", rehash=True)
    check(tree, "rehashed")


def forge_stats(project: Path) -> None:
    """Let the cache say that the files as they are now have the bytes that they had."""
    cache = cache_of(project)
    for path, known in list(cache.files.items()):
        info = os.lstat(os.fsencode(project) + b"/" + path)
        statcache.note(cache.files, path, intake.key_of(info), statcache.identity_in(known))
    body = statcache.encode_cache(cache, store_id(project))
    cache_file(project).write_bytes(statcache.MAGIC + blake3(body).digest() + body)


def flip(data: bytes) -> bytes:
    """One bit of it."""
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "garbage": lambda data: os.urandom(len(data)),
    "one bit": flip,
    "cut short": lambda data: data[: len(data) // 2],
    "only the magic": lambda data: data[: len(statcache.MAGIC)],
    "longer": lambda data: data + b"\0",
    "another version": lambda data: data.replace(b"cache 1\n", b"cache 0\n", 1),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
@pytest.mark.usefixtures("clock_ahead")
def test_a_damaged_cache_is_an_empty_one(tmp_path: Path, damage: str) -> None:
    """X04: a cache that is not ours to the last bit is as good as none."""
    tree = project_of(tmp_path)
    api.backup(directory=tree.root)
    assert cache_of(tree.root).files
    cache_file(tree.root).write_bytes(DAMAGES[damage](cache_file(tree.root).read_bytes()))
    assert cache_of(tree.root) == StatCache()
    tree.file("train.py", b"print(2)\n")
    assert api.backup(directory=tree.root, name="exp").exit_code == 0
    check(tree, "exp")
    assert cache_of(tree.root).files


@pytest.mark.parametrize("kind", ["deleted", "a folder", "a link", "without its folder"])
@pytest.mark.usefixtures("clock_ahead")
def test_a_cache_that_is_no_file(tmp_path: Path, kind: str) -> None:
    """X04: the cache may be deleted at any time, or be something else; it costs time only."""
    tree = project_of(tmp_path)
    api.backup(directory=tree.root)
    path = cache_file(tree.root)
    shutil.move(path, tmp_path / "kept")
    if kind == "a folder":
        path.mkdir()
    elif kind == "a link":
        path.symlink_to(tmp_path / "kept")
    elif kind == "without its folder":
        shutil.rmtree(path.parent)
    assert cache_of(tree.root) == StatCache()
    assert api.backup(directory=tree.root, name="exp").exit_code == 0
    check(tree, "exp")


@pytest.mark.usefixtures("clock_ahead")
def test_a_cache_of_another_store(tmp_path: Path) -> None:
    """X04: a cache that was copied from another store claims bytes that are not in this one: it is not used."""
    tree = project_of(tmp_path)
    api.backup(directory=tree.root)
    foreign = cache_file(tree.root).read_bytes()
    shutil.rmtree(tree.root / "tensortime")
    api.backup(directory=tree.root)
    cache_file(tree.root).write_bytes(foreign)
    assert cache_of(tree.root) == StatCache()
    api.backup(directory=tree.root, name="exp")
    check(tree, "exp")


def remove(pack: Path) -> None:
    """Pack and idx are gone."""
    pack.unlink()
    pack.with_suffix(".idx").unlink()


def cut(path: Path, part: float = 0) -> None:
    """A file of ours after a power loss: empty, or a part of it."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: int(len(data) * part)])


LOSSES: dict[str, Callable[[Path], None]] = {
    "pack and idx gone": remove,
    "pack gone": lambda pack: pack.unlink(),
    "idx gone": lambda pack: pack.with_suffix(".idx").unlink(),
    "pack empty": cut,
    "pack cut short": lambda pack: cut(pack, 0.5),
    "idx empty": lambda pack: cut(pack.with_suffix(".idx")),
    "idx cut short": lambda pack: cut(pack.with_suffix(".idx"), 0.9),
}


def test_a_young_file_is_stored_once(tmp_path: Path) -> None:
    """M09: it is read again, and its bytes are known; so are those that a file had before, or under another name."""
    tree = Tree(tmp_path / "project").file("old.py", b"old\n" * 20)
    os.utime(tree.root / "old.py", ns=(1, 1))
    tree.file("young", noise(b"young", 200_000))
    api.backup(directory=tree.root)
    assert api.backup(directory=tree.root).stored_bytes < 10_000
    tree.file("young", noise(b"other", 200_000))
    api.backup(directory=tree.root)
    (tree.root / "young").rename(tree.root / "renamed")
    tree.file("young", noise(b"young", 200_000))
    assert api.backup(directory=tree.root, name="last").stored_bytes < 10_000
    check(tree, "last")


@pytest.mark.usefixtures("clock_ahead")
def test_a_file_that_comes_back_is_stored_once(tmp_path: Path) -> None:
    """The cache remembers the bytes of files that are gone, or have others now."""
    tree = Tree(tmp_path / "project").file("kept.py").file("gone", noise(b"gone", 200_000))
    tree.file("changed", noise(b"changed", 200_000))
    api.backup(directory=tree.root)
    (tree.root / "gone").unlink()
    api.backup(directory=tree.root)
    tree.file("changed", noise(b"now", 200_000))
    for _ in range(2):
        api.backup(directory=tree.root)
    tree.file("gone", noise(b"gone", 200_000)).file("changed", noise(b"changed", 200_000))
    assert api.backup(directory=tree.root, name="last").stored_bytes < 10_000
    check(tree, "last")


@pytest.mark.parametrize("where", ["the project", "a worktree", "another project"])
def test_without_a_cache_nothing_is_stored_twice(tmp_path: Path, where: str) -> None:
    """What the packs hold is known from their idx files."""
    tree = Tree(tmp_path / "project").file("part", size=200_000)
    api.backup(directory=tree.root, name="first")
    store, folder = tree.root / "tensortime", tree.root
    if where == "the project":
        cache_file(tree.root).unlink()
    elif where == "a worktree":
        folder = Path(api.restore("first", directory=tree.root).path)
    else:
        folder = Tree(tmp_path / "other").file("copy", noise(b"part", 200_000)).root
    assert api.backup(directory=folder, store=store, name="second").stored_bytes < 10_000
    restored = api.restore("second", tmp_path / "out", directory=folder, store=store)
    assert_same_tree(folder, restored.path, ignored=[".tensortime"])


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.usefixtures("clock_ahead")
def test_what_lay_in_a_lost_pack_is_stored_again(tmp_path: Path, loss: str) -> None:
    """X05, K11: no experiment names small files that only a lost or empty pack held."""
    tree = project_of(tmp_path)
    api.backup(directory=tree.root, name="first")
    tree.file("later.py", b"b = 2\n")
    api.backup(directory=tree.root, name="second")
    LOSSES[loss](packs_of(tree.root)[0])
    assert api.backup(directory=tree.root, name="third").exit_code == 0
    check(tree, "third")


@pytest.mark.usefixtures("clock_ahead")
def test_a_lost_object_is_stored_again(tmp_path: Path) -> None:
    """X05: the cache knows the large file, the sidecar lacks it: it is stored again."""
    tree = project_of(tmp_path)
    api.backup(directory=tree.root, name="first")
    shutil.rmtree(tree.root / "tensortime/.objects/blake3")
    report = api.backup(directory=tree.root, name="second")
    assert report.stored_bytes >= LARGE
    check(tree, "second")
    check(tree, "first")


@pytest.mark.usefixtures("clock_ahead")
def test_a_change_behind_unchanged_times_is_seen(tmp_path: Path) -> None:
    """M09: other bytes of the same size under the old mtime show in the ctime."""
    tree = project_of(tmp_path)
    api.backup(directory=tree.root)
    for path, data in (("train.py", b"print(2)\n"), ("data/model.bin", noise(b"other", LARGE))):
        before = os.stat(tree.root / path)
        with open(tree.root / path, "r+b") as file:
            file.write(data)
        os.utime(tree.root / path, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = os.stat(tree.root / path)
        assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
            before.st_size,
            before.st_mtime_ns,
            before.st_ino,
        )
    api.backup(directory=tree.root, name="exp")
    check(tree, "exp")


@pytest.mark.usefixtures("clock_ahead")
def test_a_change_of_mode_alone_is_seen(tmp_path: Path) -> None:
    """B16: other permissions without another byte are another backup, and no byte is stored for it."""
    tree = project_of(tmp_path)
    api.backup(directory=tree.root, name="first")
    (tree.root / "train.py").chmod(0o750)
    (tree.root / "data/model.bin").chmod(0o600)
    report = api.backup(directory=tree.root, name="second")
    assert report.stored_bytes < 10_000
    check(tree, "second")
    modes = [(Path(api.restore("first", directory=tree.root).path) / "train.py").stat().st_mode & 0o777]
    assert modes == [0o644]


@pytest.mark.usefixtures("clock_ahead")
def test_a_file_that_changes_sides(tmp_path: Path) -> None:
    """B27: after a change of `large_size` the cache does not keep a file on the side where it was."""
    tree = project_of(tmp_path).file("middle.bin", size=700_000)
    assert api.backup(directory=tree.root).large == 1
    tree.file("tensortime.toml", b'large_size = "512 KiB"\n')
    assert api.backup(directory=tree.root, name="exp").large == 2
    check(tree, "exp")


@pytest.mark.usefixtures("clock_ahead")
def test_two_projects_of_one_store(tmp_path: Path) -> None:
    """X04: each project of a store has a cache of its own, and they share what is stored."""
    store = tmp_path / "store"
    one, other = Tree(tmp_path / "one"), Tree(tmp_path / "other")
    for tree, text in ((one, b"1\n"), (other, b"2\n")):
        tree.file("train.py", text).file("same.bin", noise(b"same", LARGE))
        api.backup(directory=tree.root, store=store)
    for tree in (one, other):
        report = api.backup(directory=tree.root, store=store, name=tree.root.name)
        assert report.stored_bytes < 10_000
        restored = api.restore(
            tree.root.name, tmp_path / f"{tree.root.name}.out", directory=tree.root, store=store
        )
        assert_same_tree(tree.root, restored.path)


@pytest.mark.usefixtures("clock_ahead")
def test_what_another_backup_learned_meanwhile_is_believed_with_its_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X05: a backup that saves the cache while another one publishes does not believe in that one's files once
    they are collected."""
    tree, load = project_of(tmp_path), recognition.usable_cache
    api.backup(directory=tree.root, name="first")
    tree.file("train.py", b"print(2)\n")
    loads = []

    def beside_another(*words: object) -> StatCache:
        loads.append(words)
        if len(loads) == 1:  # the packs are listed, and now it asks what was saved
            tree.file("new.py", b"new = 1\n")
            api.backup(directory=tree.root, name="other")
        return load(*words)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(recognition, "usable_cache", beside_another)
        api.backup(directory=tree.root, name="second")
    assert len(loads) == 2
    tensortime.rm(["other"], directory=tree.root)
    tensortime.gc(trash=True, directory=tree.root)
    api.backup(directory=tree.root, name="third")
    check(tree, "third")


def test_a_store_whose_clock_is_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has just changed does not look old for that: it may still change without a change of its times."""
    tree = Tree(tmp_path / "project").file("train.py", b"1")
    stat = os.stat

    def ahead(path: str, *words: object, **more: object) -> object:
        info = stat(path, *words, **more)  # type: ignore[arg-type]
        if str(path).endswith("/lock"):
            fields = {name: getattr(info, name) for name in dir(info) if name.startswith("st_")}
            return SimpleNamespace(**{**fields, "st_mtime_ns": info.st_mtime_ns + 100 * 10**9})
        return info

    with monkeypatch.context() as patch:
        patch.setattr(intake, "SMALL_WINDOW_NS", SMALL_WINDOW_NS)
        patch.setattr(os, "stat", ahead)
        api.backup(directory=tree.root)
    assert cache_of(tree.root).files == {}

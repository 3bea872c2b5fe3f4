"""Large files in the store and out of it: reflink, copy and links, on real file systems. CASES M12, M13, X05."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, noise, run_cli
from mounts import loop_mount, small_tmpfs, used_bytes

from tensortime import api, fsops, intake, snapshot
from tensortime.errors import Damaged, Message, StoreUnusable
from tensortime.monitor import NullMonitor

MIB = 1 << 20
LARGE = 3 * MIB
HARDLINK = b'hardlink = ["data/*.bin"]\n'


class Listener(NullMonitor):
    """Keeps what a person would have read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: Message) -> None:
        """A notice."""
        self.lines.append(str(line))

    def warn(self, line: Message) -> None:
        """A warning."""
        self.lines.append(str(line))


@pytest.fixture(scope="session", params=["xfs", "btrfs"])
def reflinking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system with reflinks; large enough that the space kept free is not all of it."""
    with loop_mount(request.param, tmp_path_factory.mktemp("images"), 4 << 30) as place:
        yield place


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """Another file system than the project's, without reflinks."""
    with small_tmpfs(tmp_path / "other", 64 * MIB) as place:
        yield place


@pytest.fixture
def no_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small disks may be filled."""
    monkeypatch.setattr(snapshot, "KEPT_FREE", 0)
    monkeypatch.setattr(snapshot, "KEPT_FREE_PART", 0.0)


@pytest.fixture
def clock_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as old: no test can set a ctime, or wait for a minute."""
    monkeypatch.setattr(intake, "LARGE_WINDOW_NS", -(10**12))
    monkeypatch.setattr(intake, "SMALL_WINDOW_NS", -(10**12))


def objects(project: Path, store: str = "tensortime") -> dict[str, Path]:
    """The objects of a store by digest."""
    top = project / store / ".objects" / "blake3"
    return {folder.name + file.name: file for folder in top.iterdir() for file in folder.iterdir()}


def the_object(project: Path) -> Path:
    """The only object of a store."""
    (path,) = objects(project).values()
    return path


def linked_project(tmp_path: Path) -> Path:
    """A project whose one large file is stored by hard link, backed up as `first`."""
    tree = Tree(tmp_path / "project").file("data/part.bin", size=LARGE).file("tensortime.toml", HARDLINK)
    api.backup(directory=tree.root, name="first")
    return tree.root


def overwrite(path: Path, data: bytes = b"rewritten") -> None:
    """Write into a file that stays the same file, as torch.save to the same path does."""
    with path.open("r+b") as file:
        file.write(data)


def test_reflink_takes_no_room(reflinking: Path, tmp_path: Path) -> None:
    """On xfs and btrfs a large file is stored, and restored, without a byte more on the disk."""
    tree = Tree(reflinking / tmp_path.name).file("model.bin", size=48 * MIB)
    before = used_bytes(reflinking)
    stored = api.backup(directory=tree.root, name="exp")
    restored = api.restore("exp", directory=tree.root)
    assert used_bytes(reflinking) - before < 8 * MIB
    assert stored.stored_bytes < MIB
    assert restored.placed == {"reflink": 1}
    assert_same_tree(tree.root, restored.path)


def test_a_restored_copy_is_a_copy(reflinking: Path, tmp_path: Path) -> None:
    """`--link copy` shares no byte with the store even where it could."""
    tree = Tree(reflinking / tmp_path.name).file("model.bin", size=16 * MIB)
    api.backup(directory=tree.root, name="exp")
    before = used_bytes(reflinking)
    restored = api.restore("exp", directory=tree.root, link="copy")
    assert restored.placed == {"copy": 1}
    assert used_bytes(reflinking) - before >= 16 * MIB
    assert_same_tree(tree.root, restored.path)


def test_a_reflinked_source_can_be_rewritten(reflinking: Path, tmp_path: Path) -> None:
    """M13: writing into a file after its backup leaves the store as it was."""
    tree = Tree(reflinking / tmp_path.name).file("model.bin", size=LARGE)
    api.backup(directory=tree.root, name="exp")
    overwrite(tree.root / "model.bin")
    restored = Path(api.restore("exp", directory=tree.root).path)
    assert (restored / "model.bin").read_bytes() == noise(b"model.bin", LARGE)
    overwrite(restored / "model.bin")
    again = Path(api.restore("exp", reflinking / f"{tmp_path.name}.again", directory=tree.root).path)
    assert (again / "model.bin").read_bytes() == noise(b"model.bin", LARGE)


@pytest.mark.usefixtures("no_reserve")
def test_without_reflink_it_is_a_copy(other_disk: Path) -> None:
    """Where the file system has no reflinks a large file is copied both ways, and its bytes are counted."""
    tree = Tree(other_disk / "project").file("model.bin", size=LARGE)
    stored = api.backup(directory=tree.root, name="exp")
    restored = api.restore("exp", directory=tree.root)
    assert LARGE <= stored.stored_bytes < LARGE + MIB
    assert restored.placed == {"copy": 1}
    overwrite(tree.root / "model.bin")
    assert the_object(tree.root).read_bytes() == noise(b"model.bin", LARGE)


@pytest.mark.usefixtures("no_reserve")
def test_an_impossible_reflink_is_refused(other_disk: Path) -> None:
    """`--link reflink` fails where it cannot be, with the way out, and leaves nothing."""
    tree = Tree(other_disk / "project").file("model.bin", size=LARGE)
    api.backup(directory=tree.root, name="exp")
    with pytest.raises(StoreUnusable, match="no reflink") as caught:
        api.restore("exp", other_disk / "out", directory=tree.root, link="reflink")
    assert "--link auto" in str(caught.value.hint)
    assert sorted(path.name for path in other_disk.iterdir()) == ["project"]


def test_a_hard_link_where_it_was_asked_for(tmp_path: Path) -> None:
    """A file of a `hardlink` pattern becomes the object itself; one of no pattern does not."""
    tree = Tree(tmp_path / "project").file("data/part.bin", size=LARGE).file("tensortime.toml", HARDLINK)
    tree.file("model.bin", size=LARGE)
    listener = Listener()
    report = api.backup(directory=tree.root, monitor=listener)
    inodes = {path.stat().st_ino for path in objects(tree.root).values()}
    assert (tree.root / "data/part.bin").stat().st_ino in inodes
    assert (tree.root / "model.bin").stat().st_ino not in inodes
    assert report.stored_bytes < LARGE + MIB
    assert not [line for line in listener.lines if "hard-linked" in line]


@pytest.mark.parametrize("forgotten", ["nothing", "the cache", "the watch", "what the watch says"])
def test_writing_to_a_linked_file_is_noticed(tmp_path: Path, forgotten: str) -> None:
    """M12: the next backup says which experiments lost the file, also where the cache is gone or damaged."""
    project = linked_project(tmp_path)
    cache = project / "tensortime/.cache"
    if forgotten == "the cache":
        subprocess.run(["rm", "-r", str(cache)], check=True)
    elif forgotten == "the watch":
        (cache / "hardlinks").unlink()
    elif forgotten == "what the watch says":
        (cache / "hardlinks").write_bytes(b"\0garbage")
    overwrite(project / "data/part.bin")
    done = run_cli("backup", "--json", "--name", "second", cwd=project)
    assert done.returncode == 5
    assert json.loads(done.stdout)["lost"] == [{"path": "data/part.bin", "experiments": ["first"]}]
    with pytest.raises(Damaged, match=r"first .*data/part\.bin"):
        api.restore("first", directory=project)
    assert_same_tree(project, api.restore("second", directory=project).path)
    assert api.backup(directory=project, name="third").lost == ()


def test_the_loss_is_said_to_a_person(tmp_path: Path) -> None:
    """M12: without `--json` too the experiment and the path are named."""
    project = linked_project(tmp_path)
    overwrite(project / "data/part.bin")
    done = run_cli("backup", cwd=project)
    assert done.returncode == 5
    said = done.stdout + done.stderr
    assert "LOST: data/part.bin in first" in said


def test_a_write_that_leaves_the_times_is_noticed(tmp_path: Path) -> None:
    """M10: bytes of a linked file just stored are looked at again, whatever its times say."""
    project = linked_project(tmp_path)
    path = the_object(project)
    info = path.stat()
    stat = [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]
    rows = {f"blake3:{path.parent.name}{path.name}": stat}
    saved = json.loads((project / "tensortime/.cache/hardlinks").read_text())
    assert saved.keys() == rows.keys() and saved != rows, "the stat of a young file must not be believed"
    overwrite(project / "data/part.bin")
    assert api.backup(directory=project).lost


def test_an_unchanged_linked_file_is_no_loss(tmp_path: Path) -> None:
    """A linked file that was only touched, renamed or given another name has lost nothing."""
    project = linked_project(tmp_path)
    os.utime(project / "data/part.bin", ns=(1, 1))
    os.link(project / "data/part.bin", project / "data/twin.bin")
    os.rename(project / "data/part.bin", project / "data/renamed.bin")
    report = api.backup(directory=project, name="second")
    assert report.lost == () and report.exit_code == 0 and report.stored_bytes < MIB
    assert_same_tree(project, api.restore("second", directory=project).path)


def test_a_restore_does_not_hide_a_write(tmp_path: Path) -> None:
    """M12: a hard-linking restore of another experiment between write and backup does not hide the write."""
    project = linked_project(tmp_path)
    Tree(project).file("other.bin", size=LARGE)
    api.backup(directory=project, name="second", add=["other.bin"], joins=False)
    overwrite(project / "data/part.bin")
    api.restore("second", tmp_path / "out", paths=["other.bin"], directory=project, link="hardlink")
    assert [one.path for one in api.backup(directory=project).lost] == ["data/part.bin"]


def test_a_worktree_of_symlinks_is_watched(tmp_path: Path) -> None:
    """M12: for root, as in a container, a link to a read-only object can be written through, too."""
    tree = Tree(tmp_path / "project").file("model.bin", size=LARGE)
    api.backup(directory=tree.root, name="first")
    restored = api.restore("first", directory=tree.root, link="symlink")
    the_object(tree.root).chmod(0o600)
    overwrite(Path(restored.path) / "model.bin")
    lost = api.backup(directory=tree.root, name="second").lost
    assert [(one.path, one.experiments) for one in lost] == [("model.bin", ("first",))]
    assert_same_tree(tree.root, api.restore("second", directory=tree.root).path)


@pytest.mark.parametrize("cache_gone", [False, True])
def test_a_worktree_of_hard_links_is_watched(tmp_path: Path, cache_gone: bool) -> None:
    """M12: writing through a worktree made with `--link hardlink` is noticed by the next backup."""
    tree = Tree(tmp_path / "project").file("model.bin", size=LARGE)
    api.backup(directory=tree.root, name="first")
    if cache_gone:
        subprocess.run(["rm", "-r", str(tree.root / "tensortime/.cache")], check=True)
    restored = api.restore("first", directory=tree.root, link="hardlink")
    assert restored.placed == {"hardlink": 1}
    assert (Path(restored.path) / "model.bin").samefile(the_object(tree.root))
    overwrite(Path(restored.path) / "model.bin")
    lost = api.backup(directory=tree.root, name="second").lost
    assert [(one.path, one.experiments) for one in lost] == [("model.bin", ("first",))]
    assert_same_tree(tree.root, api.restore("second", directory=tree.root).path)


def test_a_worktree_of_symlinks(tmp_path: Path) -> None:
    """`--link symlink` leads to the object."""
    tree = Tree(tmp_path / "project").file("model.bin", size=LARGE)
    api.backup(directory=tree.root, name="first")
    restored = api.restore("first", directory=tree.root, link="symlink")
    place = Path(restored.path) / "model.bin"
    assert restored.placed == {"symlink": 1}
    assert place.is_symlink() and place.resolve() == the_object(tree.root)
    assert place.read_bytes() == noise(b"model.bin", LARGE)


@pytest.mark.usefixtures("no_reserve")
def test_a_hard_link_across_disks_is_a_copy(tmp_path: Path, other_disk: Path) -> None:
    """Where linking was asked for and the store is on another disk, that is said before the copy begins."""
    tree = Tree(tmp_path / "project").file("data/part.bin", size=LARGE).file("data/more.bin", size=LARGE)
    tree.file("tensortime.toml", HARDLINK)
    listener = Listener()

    def no_copy(*_: object, **__: object) -> int:
        heard.extend(listener.lines)
        raise OSError(5, "stopped by the test")

    heard: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fsops, "copy_bytes", no_copy)
        api.backup(directory=tree.root, store=other_disk / "store", monitor=listener)
    assert [line for line in heard if "hard-linked" in line and "another file system" in line]
    report = api.backup(directory=tree.root, store=other_disk / "store", name="exp")
    assert report.stored_bytes >= 2 * LARGE
    restored = api.restore("exp", directory=tree.root, store=other_disk / "store")
    assert_same_tree(tree.root, restored.path)


@pytest.mark.usefixtures("no_reserve")
def test_a_hard_link_out_of_the_disk_is_refused(tmp_path: Path, other_disk: Path) -> None:
    """`--link hardlink` to another disk fails, with the way out, and leaves nothing."""
    tree = Tree(tmp_path / "project").file("model.bin", size=LARGE)
    api.backup(directory=tree.root, name="exp")
    with pytest.raises(StoreUnusable, match="no hard link") as caught:
        api.restore("exp", other_disk / "out", directory=tree.root, link="hardlink")
    assert "--link auto" in str(caught.value.hint)
    assert not list(other_disk.iterdir())


@pytest.mark.skipif(sys.platform == "darwin", reason="the system has no such call")
def test_the_disk_works_while_a_large_file_comes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the rest of a step is handed to the disk before the sync; a restore, which does not sync, hands over nothing."""
    size = 2 * fsops.WRITEBACK + LARGE
    tree = Tree(tmp_path / "project").file("model.bin", size=size)
    steps: list[tuple[int, int] | str] = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _fd, start, length, _advice: steps.append((start, length))
    )
    monkeypatch.setattr(fsops, "clone", lambda *_: False)
    monkeypatch.setattr(fsops, "sync_file", lambda _fd: steps.append("sync"))
    api.backup(directory=tree.root, name="exp")
    first = steps.index((0, fsops.WRITEBACK))
    assert steps[first : first + 3] == [(0, fsops.WRITEBACK), (fsops.WRITEBACK, fsops.WRITEBACK), "sync"]
    steps.clear()
    api.restore("exp", directory=tree.root)
    assert set(steps) == {"sync"}


def test_a_disk_that_takes_no_advice_gets_the_bytes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sync does all of it."""
    tree = Tree(tmp_path / "project").file("model.bin", size=fsops.WRITEBACK + LARGE)

    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    report = api.backup(directory=tree.root, name="exp")
    assert not report.skipped
    assert_same_tree(tree.root, api.restore("exp", directory=tree.root).path)


@pytest.mark.parametrize("harm", ["truncated", "longer", "a folder", "a symlink", "deleted"])
def test_an_object_that_cannot_be_right_is_stored_again(tmp_path: Path, harm: str) -> None:
    """X05: what is missing, has another size or is no file any more is stored by the next backup, and said by none."""
    tree = Tree(tmp_path / "project").file("model.bin", size=LARGE)
    api.backup(directory=tree.root, name="first")
    path = the_object(tree.root)
    path.chmod(0o600)
    if harm == "truncated":
        os.truncate(path, 0)
    elif harm == "longer":
        os.truncate(path, LARGE + 1)
    else:
        path.unlink()
        if harm == "a folder":
            path.mkdir()
        elif harm == "a symlink":
            path.symlink_to(tree.root / "model.bin")
    with pytest.raises(Damaged, match=r"model\.bin"):
        api.restore("first", directory=tree.root)
    api.backup(directory=tree.root, name="second")
    for name in ("first", "second"):
        assert_same_tree(tree.root, api.restore(name, directory=tree.root).path)


def test_the_same_bytes_are_stored_once(tmp_path: Path) -> None:
    """Three files of the same bytes are one object, and only the first counts as new."""
    tree = Tree(tmp_path / "project")
    for name in ("a.bin", "b.bin", "deep/c.bin"):
        tree.file(name, noise(b"same", LARGE))
    report = api.backup(directory=tree.root, name="exp")
    assert len(objects(tree.root)) == 1
    assert report.large == 3 and report.stored_bytes < LARGE + MIB
    assert_same_tree(tree.root, api.restore("exp", directory=tree.root).path)


@pytest.mark.parametrize("at", [0, LARGE // 2, LARGE - 1])
def test_other_bytes_under_the_same_name_and_size_are_stored(tmp_path: Path, at: int) -> None:
    """Wherever they are: the few places that are compared first decide only what is tried first."""
    tree = Tree(tmp_path / "project").file("a.bin", size=LARGE)
    api.backup(directory=tree.root, name="first")
    with open(tree.root / "a.bin", "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    api.backup(directory=tree.root, name="second")
    assert_same_tree(tree.root, api.restore("second", directory=tree.root).path)
    assert len(objects(tree.root)) == 2


@pytest.mark.parametrize("aged", [False, True])
def test_a_moved_or_touched_file_is_not_copied(
    tmp_path: Path, aged: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file that was moved, touched or replaced by an equal one moves no byte into the store."""
    if aged:
        request.getfixturevalue("clock_ahead")
    tree = Tree(tmp_path / "project").file("moved.bin", size=LARGE).file("touched.bin", size=LARGE)
    tree.file("again.bin", size=LARGE)
    api.backup(directory=tree.root, name="first")
    tree.folder("deep")
    os.rename(tree.root / "moved.bin", tree.root / "deep/elsewhere.bin")
    os.utime(tree.root / "touched.bin")
    (tree.root / "again.bin").unlink()
    tree.file("again.bin", size=LARGE)

    def no_copy(*_: object, **__: object) -> int:
        raise AssertionError("a copy")

    with monkeypatch.context() as patch:
        patch.setattr(fsops, "copy_bytes", no_copy)
        patch.setattr(fsops, "clone", no_copy)
        report = api.backup(directory=tree.root, name="second")
    assert report.stored_bytes < MIB and not report.skipped
    assert_same_tree(tree.root, api.restore("second", directory=tree.root).path)


def test_processes_that_store_the_same_bytes(tmp_path: Path) -> None:
    """Four backups at once of equal large files into one store make one object of each, and all are whole."""
    projects = [
        Tree(tmp_path / f"p{n}").file("a.bin", noise(b"a", LARGE)).file("b.bin", noise(b"b", LARGE))
        for n in range(4)
    ]
    store = tmp_path / "store"
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tensortime",
                "backup",
                "--store",
                str(store),
                "--name",
                f"exp-{tree.root.name}",
            ],
            cwd=tree.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for tree in projects
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert len(objects(tmp_path, "store")) == 2
    assert not [name for name in os.listdir(store / ".tmp") if (store / ".tmp" / name).is_dir()]
    for tree in projects:
        restored = api.restore(
            f"exp-{tree.root.name}", tmp_path / f"{tree.root.name}.out", directory=tree.root, store=store
        )
        assert_same_tree(tree.root, restored.path)


def test_objects_are_never_written_again(tmp_path: Path) -> None:
    """S15: an object is read-only for its owner alone, whatever the file's own mode."""
    tree = Tree(tmp_path / "project").file("model.bin", size=LARGE, mode=0o666)
    api.backup(directory=tree.root)
    assert the_object(tree.root).stat().st_mode & 0o7777 == 0o400

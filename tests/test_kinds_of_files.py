"""Folders, modes, links, times and repositories in a project come back as they were. CASES B11 to B23."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, run_cli, user_git
from round_trips import THRESHOLD, assert_round_trip, contents, manifest_of, run_facts, store_whole

from tensortime import api, snapshot
from tensortime.findings import Scan
from tensortime.scan import scan


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with one file that always is there."""
    return Tree(tmp_path / "project").file("train.py", b"print('training')\n")


@pytest.fixture
def umask() -> Iterator[None]:
    """Puts the umask of this process back."""
    old = os.umask(0o022)
    yield
    os.umask(old)


def commit_all(folder: Path) -> str:
    """A repository of what is in a folder; returns its HEAD."""
    user_git("init", "--quiet", cwd=folder)
    user_git("add", "--all", cwd=folder)
    user_git("commit", "--quiet", "--message=x", cwd=folder)
    return user_git("rev-parse", "HEAD", cwd=folder).strip()


def heads(tree: Tree) -> dict[str, str]:
    """Path to HEAD of the nested repositories that the newest backup noted."""
    nested = run_facts(tree)["nested"]
    assert isinstance(nested, list)
    return {one["path"]: one["head"] for one in nested}


def test_nested_clone_is_stored_as_plain_files(project: Tree, tmp_path: Path) -> None:
    """B11: the files of a clone inside the project are stored, its .git is not, its HEAD is noted."""
    origin = Tree(tmp_path / "origin").file("lib.py", b"1\r\n").file("weights.bin", size=THRESHOLD + 1)
    head = commit_all(origin.root)
    user_git("clone", "--quiet", str(origin.root), str(project.root / "third_party" / "lib"), cwd=tmp_path)
    project.file("third_party/lib/uncommitted.py", b"2")
    before = {path: entry for path, entry in contents(project).items() if b"lib/.git" not in path}
    api.backup(directory=project.root, name="exp")
    api.restore("exp", tmp_path / "restored", directory=project.root)
    assert_same_tree(before, tmp_path / "restored")
    assert heads(project) == {"third_party/lib": head}


def test_submodule_is_stored_as_plain_files(project: Tree, tmp_path: Path) -> None:
    """B12: a submodule's files and .gitmodules are stored, its .git file is not, its HEAD is noted."""
    head = commit_all(Tree(tmp_path / "origin").file("sub.py", b"1").root)
    commit_all(project.root)
    user_git(
        *("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "origin"), "sub"),
        cwd=project.root,
    )
    assert (project.root / "sub" / ".git").is_file()
    before = {path: entry for path, entry in contents(project).items() if path != b"sub/.git"}
    api.backup(directory=project.root, name="exp")
    api.restore("exp", tmp_path / "restored", directory=project.root)
    assert_same_tree(before, tmp_path / "restored")
    assert heads(project) == {"sub": head}


def test_empty_files_and_folders(project: Tree) -> None:
    """B15: empty files, empty folders, and folders of nothing but empty folders come back."""
    project.file("empty").file("a/empty").folder("b").folder("c/d/e").folder("c/f").folder("a/g", mode=0o700)
    assert_round_trip(project)


def test_project_of_empty_folders_alone(tmp_path: Path) -> None:
    """B15: so does a project without a single file."""
    assert_round_trip(Tree(tmp_path / "project").folder("runs").folder("data/raw").folder("data/clean"))


MODES = [0o644, 0o755, 0o640, 0o600, 0o444, 0o400, 0o555, 0o666, 0o777, 0o711, 0o664, 0o775, 0o1644, 0o477]
# What not even its owner may read only root can back up.
MODES += [0o000] if os.geteuid() == 0 else []


@pytest.mark.parametrize(
    ("at_backup", "at_restore"),
    [(0o022, 0o077), (0o077, 0o022), (0o002, 0o077), (0o022, 0o002), (0o000, 0o077), (0o027, 0o000)],
    ids=lambda umask: f"{umask:03o}",
)
@pytest.mark.usefixtures("umask")
def test_modes_do_not_depend_on_the_umask(project: Tree, at_backup: int, at_restore: int) -> None:
    """B16: files and folders get their own modes back, whatever the umask was and is."""
    os.umask(at_backup)
    for path in ("plain", "sub/plain", "sub/deeper/plain"):
        project.file(path, b"1").file(path + ".bin", size=THRESHOLD).folder(path + ".dir")
    for mode in MODES:
        project.file(f"small/{mode:o}", b"%o" % mode, mode=mode).file(
            f"large/{mode:o}", size=THRESHOLD, mode=mode
        )
    for mode in (0o700, 0o750, 0o755, 0o775, 0o777, 0o555, 0o1777):
        project.file(f"folder/{mode:o}/x", b"1").folder(f"folder/{mode:o}", mode=mode)
        project.folder(f"empty/{mode:o}", mode=mode)
    before = contents(project)
    assert run_cli("backup", "--name", "exp", cwd=project.root).returncode == 0
    os.umask(at_restore)
    assert run_cli("restore", "exp", "../restored", cwd=project.root).returncode == 0
    assert_same_tree(before, project.root.parent / "restored")


def test_setuid_and_setgid_are_not_given_back(project: Tree) -> None:
    """B16: setuid and setgid are recorded and named, but a restore gives nobody another's rights."""
    project.file("setuid", b"1", mode=0o4755).file("setgid.bin", size=THRESHOLD, mode=0o2755)
    project.folder("shared", mode=0o2775)
    store_whole(project)
    report = api.restore("exp", project.root.parent / "restored", directory=project.root)
    assert set(report.plain_modes) == {"setuid", "setgid.bin", "shared"}
    entries = manifest_of(Path(report.path))
    assert [entries[path]["mode"] for path in ("setuid", "setgid.bin", "shared")] == ["4755", "2755", "2775"]
    for path, mode in {"setuid": 0o755, "setgid.bin": 0o755, "shared": 0o775}.items():
        assert stat.S_IMODE(os.lstat(Path(report.path) / path).st_mode) == mode
    done = run_cli("restore", "exp", "../said", cwd=project.root)
    assert "setuid" in done.stdout + done.stderr


def test_links_are_stored_as_links(project: Tree, tmp_path: Path) -> None:
    """B17: links of all sorts come back with the same target bytes, and nothing behind one is stored."""
    outside = Tree(tmp_path / "outside").file("secret", b"not the project's").file("large", size=THRESHOLD)
    project.file("dir/file", b"1").symlink("relative", "dir/file").symlink("to-folder", "dir")
    project.symlink("absolute", project.root / "train.py").symlink("dangling", "no/such/file")
    project.symlink("self", "self").symlink("dir/up", "..").symlink("parent", "../..").symlink("dot", ".")
    project.symlink("out", outside.root).symlink("out-file", outside.root / "secret").symlink("root", "/")
    project.symlink(b"latin", b"\xe9\xff").symlink("newline", "a\nb").symlink("longest", b"t" * 4095)
    project.symlink("slashes", "dir//file/").symlink("proc", "/proc/self/fd/0").symlink("crlf", "a\r\n")
    restored = assert_round_trip(project)
    assert os.readlink(os.fsencode(restored / "longest")) == b"t" * 4095
    noted = run_facts(project)["outside"]
    assert isinstance(noted, list)
    assert {"out", "out-file"} <= {one["path"] for one in noted}


def test_project_that_is_reached_through_a_link(project: Tree, tmp_path: Path) -> None:
    """B18: a project named through a link, or stood in through one, is the one project, resolved once."""
    (tmp_path / "way").symlink_to(project.root)
    project.file("data/part.bin", size=THRESHOLD)
    assert run_cli("backup", "--name", "exp", cwd=tmp_path / "way").returncode == 0
    assert run_cli("-C", tmp_path / "way", "backup", "--name", "two", cwd=tmp_path).returncode == 0
    listed = api.log(directory=project.root)
    assert [one.name for one in listed.experiments] == ["two", "exp"]
    assert {one.project for one in listed.experiments} == {os.path.realpath(project.root)}
    for name in ("exp", "two"):
        assert run_cli("restore", name, tmp_path / name, cwd=tmp_path / "way").returncode == 0
        assert_same_tree(contents(project), tmp_path / name)


def test_hard_links_come_back_as_files_of_their_own(project: Tree) -> None:
    """B19: names of one file come back with equal bytes, apart from each other; the manifest knows the group."""
    project.file("small", b"1").file("large", size=THRESHOLD).folder("sub")
    for name in ("small", "large"):
        os.link(project.root / name, project.root / "sub" / name)
    restored = assert_round_trip(project)
    entries = manifest_of(restored)
    for name in ("small", "large"):
        assert entries[name]["link"] == entries["sub/" + name]["link"]
        assert not os.path.samefile(restored / name, restored / "sub" / name)
    assert entries["small"]["link"] != entries["large"]["link"]


def blocks_below(folder: Path) -> int:
    """The bytes that a folder occupies on its disk."""
    return sum(os.lstat(path).st_blocks * 512 for path in folder.rglob("*"))


def test_sparse_file_stays_sparse(project: Tree) -> None:
    """B20: 10 GiB with 4 KiB of data costs the store and the restored folder next to nothing, and no minutes."""
    store_whole(project)
    before = blocks_below(project.root / "tensortime")
    with open(project.path("sparse"), "wb") as file:
        file.truncate(10 << 30)
        os.pwrite(file.fileno(), b"x" * 4096, 5 << 30)
    started = time.monotonic()
    report = api.backup(directory=project.root, name="sparse")
    restored = Path(api.restore("sparse", project.root.parent / "restored", directory=project.root).path)
    assert time.monotonic() - started < 40
    assert report.bytes > 10 << 30 and report.stored_bytes < THRESHOLD
    assert blocks_below(project.root / "tensortime") - before < THRESHOLD
    with open(restored / "sparse", "rb") as file:
        info = os.fstat(file.fileno())
        assert info.st_size == 10 << 30 and info.st_blocks * 512 < THRESHOLD
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 5 << 30
        assert os.lseek(file.fileno(), 5 << 30, os.SEEK_HOLE) == (5 << 30) + 4096
        assert os.pread(file.fileno(), 4096, 5 << 30) == b"x" * 4096


YEAR = 365 * 24 * 3600 * 10**9


def test_times_of_large_files(project: Tree) -> None:
    """B22: 1 ns, before 1970, past 2262 (where 64 bits of nanoseconds end), the future: large files get them back."""
    for name, mtime_ns in {
        "one": 1,
        "nanoseconds": 1_700_000_000_123_456_789,
        "year-1969": -1,
        "year-1910": -60 * YEAR + 7,
        "year-2300": 330 * YEAR + 5,
        "year-2400": 430 * YEAR + 5,
        "future": time.time_ns() + YEAR,
    }.items():
        project.file(f"large/{name}", size=THRESHOLD, mtime_ns=mtime_ns).file(
            f"small/{name}", mtime_ns=mtime_ns
        )
    restored = assert_round_trip(project)
    store_whole(project)
    assert_same_tree(contents(project), restored)


def test_extended_attributes_and_access_lists_do_no_harm(project: Tree) -> None:
    """B23: xattrs and ACLs are not promised; files that have them are stored like any other."""
    project.file("small", b"1").file("large", size=THRESHOLD).folder("folder")
    entry = b"%b\xff\xff\xff\xff"
    rows = (b"\x01\0\x06\0", b"\x02\0\x04\0", b"\x04\0\x04\0", b"\x10\0\x04\0", b"\x20\0\x04\0")
    owner = b"\x02\0\x04\0\x01\0\0\0"
    acl = b"\x02\0\0\0" + b"".join(owner if row == rows[1] else entry % row for row in rows)
    for name in ("small", "large", "folder"):
        os.setxattr(project.root / name, "user.note", b"\0\xff")
        os.setxattr(project.root / name, "system.posix_acl_access", acl)
    assert_round_trip(project)


def test_followed_links_are_stored_as_what_is_behind_them(project: Tree, tmp_path: Path) -> None:
    """`follow`: a link to a file and one to a folder come back as the file and the folder, small and large."""
    data = Tree(tmp_path / "disk").file("part.bin", size=THRESHOLD + 1).file("deep/notes.txt", b"notes")
    one = Tree(tmp_path / "other").file("one.txt", b"one").file("one.bin", size=THRESHOLD)
    project.file("tensortime.toml", b'follow = ["data", "one.*"]\n').symlink("data", os.fsencode(data.root))
    for name in ("one.txt", "one.bin"):
        project.symlink(name, os.fsencode(one.root / name))
    report = api.backup(directory=project.root, name="exp")
    assert (report.skipped, report.large) == ((), 2)
    restored = Path(api.restore("exp", tmp_path / "restored", directory=project.root).path)
    for path, source in (
        ("data", data.root),
        ("one.txt", one.root / "one.txt"),
        ("one.bin", one.root / "one.bin"),
    ):
        assert not (restored / path).is_symlink()
        if source.is_file():
            assert (restored / path).read_bytes() == source.read_bytes()
    assert_same_tree(contents(data), restored / "data")


def test_a_file_behind_a_followed_link_may_be_replaced_meanwhile(
    project: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`follow`, M03: what lies behind a link and was renamed over since the scan is stored as it is now."""
    data = Tree(tmp_path / "disk").file("deep/notes.txt", b"old")
    project.file("tensortime.toml", b'follow = ["data"]\n').symlink("data", os.fsencode(data.root))

    def replaced(*words: object, **options: object) -> Scan:
        found = scan(*words, **options)  # type: ignore[arg-type]
        os.rename(data.file("deep/new.txt", b"new").path("deep/new.txt"), data.path("deep/notes.txt"))
        return found

    monkeypatch.setattr(snapshot, "scan", replaced)
    assert api.backup(directory=project.root, name="exp").skipped == ()
    assert api.read_file("exp", "data/deep/notes.txt", directory=project.root) == (b"new", None)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o2775])
def test_the_mode_of_the_project_itself(project: Tree, tmp_path: Path, mode: int) -> None:
    """S15: a folder that others could not look into does not come back open to them."""
    os.chmod(project.root, mode)
    api.backup(directory=project.root, name="exp")
    api.backup(directory=project.root, name="exp", add=["train.py"])
    restored = api.restore("exp", tmp_path / "restored", directory=project.root).path
    assert stat.S_IMODE(os.stat(restored).st_mode) == mode & 0o1777

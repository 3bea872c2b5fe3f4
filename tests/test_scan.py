"""scan.py: what one walk finds, what it says about the rest, and where it never looks. CASES B06 to B21, M04 to M07."""

import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from builders import Tree, snapshot_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensortime import fsops
from tensortime import glances
from tensortime import scan as scanning
from tensortime import walk as module
from tensortime.errors import Message
from tensortime.findings import FolderStat, LinkStat, Scan
from tensortime.formats import LONGEST_PATH, RelPath
from tensortime.ignoring import Rules
from tensortime.reports import Skipped
from tensortime.scan import scan

NASTY = [
    *(
        b"new\nline",
        b"tab\t",
        b'qu"ote',
        b"back\\slash",
        b"-leading",
        b" space",
        b"space ",
        b"*",
        b"?",
        b"[x]",
    ),
    *(
        b":",
        b"C:col",
        b"#c",
        b"!n",
        b"latin\xe9",
        b"\xf0\x9f\x8e\xb2",
        b"\xc3\xa9",
        b"e\xcc\x81",
        b"a",
        b"A",
        b"x" * 255,
    ),
]


def walk(tree: Tree, *lines: str, follow: Sequence[str] = (), only: Sequence[bytes] | None = None) -> Scan:
    """A scan under the rules of an `ignore` argument."""
    named = None if only is None else [RelPath(path) for path in only]
    return scan(str(tree.root), Rules.start((), lines, str(tree.root)), follow=follow, only=named)


def paths(found: Scan) -> list[bytes]:
    """The files, sorted."""
    return sorted(file.path for file in found.files)


def left_out(found: Scan) -> dict[str, str]:
    """What was left out, and by which rule."""
    return {one.path: one.rule for one in found.ignored}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A project."""
    return Tree(tmp_path / "project")


@pytest.fixture
def outside(tmp_path: Path) -> Tree:
    """A folder beside the project."""
    return Tree(tmp_path / "outside")


# What there is


def test_every_file_comes_with_what_lstat_says(tree: Tree) -> None:
    """Nothing has to ask again."""
    tree.file("sub/x.sh", b"12345", mode=0o4751, mtime_ns=1_234_567_890_123_456_789)
    [file] = walk(tree).files
    info = os.lstat(tree.root / "sub/x.sh")
    assert file.path == b"sub/x.sh"
    assert (file.mode, file.size, file.mtime_ns) == (0o4751, 5, 1_234_567_890_123_456_789)
    assert (file.ctime_ns, file.inode, file.device) == (info.st_ctime_ns, info.st_ino, info.st_dev)
    assert (file.links, file.blocks) == (1, info.st_blocks)


@pytest.mark.parametrize("name", NASTY, ids=ascii)
def test_a_name_is_bytes(tree: Tree, name: bytes) -> None:
    """B06, B07, B08, B09: whatever the file system allows, as a file and as a folder."""
    tree.file(name).file(b"d-" + name[:250] + b"/" + name).symlink(b"l-" + name[:250], name)
    found = walk(tree)
    assert paths(found) == sorted([name, b"d-" + name[:250] + b"/" + name])
    assert found.links == [LinkStat(RelPath(b"l-" + name[:250]), name)]
    assert [folder.path for folder in found.folders] == [b"d-" + name[:250]]
    assert not found.skipped


def test_names_that_differ_in_case_or_form_alone_stay_apart(tree: Tree) -> None:
    """B07, B08: NFC and NFD side by side, `a` beside `A`."""
    for name in NASTY:
        tree.file(name)
    assert paths(walk(tree)) == sorted(NASTY)


def test_hard_links_and_holes_are_seen(tree: Tree) -> None:
    """B19, B20: the two names appear as they are; fewer blocks than bytes mean holes."""
    tree.file("one", b"x")
    os.link(tree.root / "one", tree.root / "two")
    with open(tree.root / "sparse", "wb") as file:
        file.truncate(1 << 30)
    by_path = {file.path: file for file in walk(tree).files}
    assert by_path[RelPath(b"one")].inode == by_path[RelPath(b"two")].inode
    assert by_path[RelPath(b"one")].links == 2
    assert by_path[RelPath(b"sparse")].blocks * 512 < by_path[RelPath(b"sparse")].size


def test_a_folder_of_which_nothing_is_stored_is_empty(tree: Tree) -> None:
    """B15, B16: git drops it, so the manifest has to say it."""
    tree.folder("empty", mode=0o1777).folder("of/empty").file("full/x").file("cache/__pycache__/x").fifo(
        "odd/pipe"
    )
    tree.symlink("linked/link", "nowhere")
    folders = {folder.path: folder.empty for folder in walk(tree).folders}
    assert folders == {
        b"empty": True,
        b"of": False,
        b"of/empty": True,
        b"full": False,
        b"cache": True,
        b"odd": True,
        b"linked": False,
    }
    assert FolderStat(RelPath(b"empty"), 0o1777, True) in walk(tree).folders


def test_an_empty_project_is_no_error(tree: Tree) -> None:
    """Its mode is known all the same."""
    os.chmod(tree.root, 0o2750)
    found = walk(tree)
    assert (found.root_mode, found.files, found.folders) == (0o2750, [], [])


def test_the_root_may_be_reached_through_a_link(tree: Tree, tmp_path: Path) -> None:
    """B18: the link above is the person's way of writing the path."""
    tree.file("a/x").symlink("a/up", "../a/x")
    os.symlink(tree.root, tmp_path / "alias")
    found = scan(str(tmp_path / "alias"), Rules.start())
    assert (paths(found), found.outside) == ([b"a/x"], [])


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_root_that_is_no_folder_is_an_error(tmp_path: Path, kind: str) -> None:
    """The one failure that is not collected."""
    if kind == "file":
        (tmp_path / "root").touch()
    with pytest.raises(OSError, match="root"):
        scan(str(tmp_path / "root"), Rules.start())


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & {0, 47} and name not in (b".", b"..")
)
KINDS = st.sampled_from(["file", "folder", "symlink"])


@settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, KINDS, max_size=4), max_size=5))
def test_nothing_is_missed_and_nothing_made_up(tmp_path: Path, layout: dict[bytes, dict[bytes, str]]) -> None:
    """The walk finds what a plain walk finds, under any names."""
    tree = Tree(tempfile.mkdtemp(dir=tmp_path))
    for folder, content in layout.items():
        tree.folder(b"d" + folder)
        for name, kind in content.items():
            path = b"d" + folder + b"/n" + name
            tree.symlink(path, name) if kind == "symlink" else getattr(tree, kind)(path)
    found = walk(tree)
    everything = {*paths(found), *(link.path for link in found.links), *(one.path for one in found.folders)}
    assert everything == set(snapshot_of(tree.root)) - {
        os.fsencode(one.path) for one in found.ignored if one.path
    }
    assert not found.skipped


# Depth and length


def test_a_tree_of_fifty_levels_is_ordinary(tree: Tree) -> None:
    """B10."""
    tree.file("d/" * 50 + "x")
    assert paths(walk(tree)) == [b"d/" * 50 + b"x"]


def chain_of_folders(root: Path, depth: int, name: bytes) -> None:
    """A tree deeper than a path can be long, built one step at a time."""
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def remove_chain(root: Path, name: bytes) -> None:
    """Its removal, which neither a path nor recursion can do: pull each level up, then remove the one above."""
    top, beside = os.path.join(os.fsencode(root), name), os.path.join(os.fsencode(root), b"below")
    while os.path.isdir(os.path.join(top, name)):
        os.rename(os.path.join(top, name), beside)
        os.rmdir(top)
        os.rename(beside, top)
    os.rmdir(top)


def test_a_tree_that_is_too_deep_is_skipped_with_a_reason(tree: Tree) -> None:
    """B10: ten thousand levels, no RecursionError; what a path can reach is stored."""
    tree.file("a.py")
    chain_of_folders(tree.root, 10_000, b"d")
    try:
        found = walk(tree)
    finally:
        remove_chain(tree.root, b"d")
    assert paths(found) == [b"a.py"]
    assert [one.reason for one in found.skipped] == [f"its path is longer than {LONGEST_PATH} bytes"]
    assert max(len(folder.path) for folder in found.folders) <= LONGEST_PATH


def test_a_path_that_is_too_long_is_skipped_with_a_reason(tree: Tree) -> None:
    """B09: built by going into it; a component of 255 bytes is fine."""
    name = b"n" * 255
    chain_of_folders(tree.root, 20, name)
    try:
        found = walk(tree)
    finally:
        remove_chain(tree.root, name)
    assert len(found.folders) == LONGEST_PATH // 256
    [skipped] = found.skipped
    assert "longer" in skipped.reason


# What is left out, and how it is said


def test_every_entry_at_the_top_that_is_left_out_is_said(tree: Tree) -> None:
    """Of any kind, by any rule; below the top the folders alone."""
    tree.file("a.log").file("sub/b.log").file("sub/logs/x").file("logs/x").file(".git/HEAD").file(
        ".env"
    ).file("x.py")
    found = walk(tree, "*.log", "logs")
    assert left_out(found) == {
        ".env": "built-in (secret): .env",
        ".git": "built-in: .git",
        "a.log": "ignore: *.log",
        "logs": "ignore: logs",
        "sub/logs": "ignore: logs",
    }
    assert [one.path for one in found.ignored if not one.folder] == [".env", "a.log"]


def test_a_deeper_folder_with_sources_is_marked(tree: Tree) -> None:
    """A name meant for the top, such as 0.1.0's `data`, must not take code away unseen."""
    tree.file("data/x.bin").file("data/prepare.py").file("src/data/deep/loader.py").file("runs/data/x.bin")
    tree.file("src/__pycache__/x.py")
    found = walk(tree, "data")
    assert {one.path: one.sources for one in found.ignored} == {
        "data": False,  # it is said anyway
        "runs/data": False,
        "src/__pycache__": False,  # no user's pattern
        "src/data": True,
    }


@pytest.mark.parametrize(
    ("limit", "value"), [("GLANCE_ENTRIES", 0), ("GLANCE_SECONDS", 0.0), ("GLANCES_SECONDS", 0.0)]
)
def test_the_look_for_sources_has_limits(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    """A folder of a million samples is not read for it, nor are a thousand folders."""
    tree.file("a/data/x.py")
    monkeypatch.setattr(glances if limit == "GLANCE_ENTRIES" else module, limit, value)
    assert [one.sources for one in walk(tree, "data").ignored] == [False]


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "conda-meta/history"])
def test_a_virtual_environment_is_known_by_what_it_holds(tree: Tree, mark: str) -> None:
    """Whatever its name; `!` reopens it; the project itself is never one."""
    tree.file(mark).file(f"tools/py/{mark}").file("tools/py/lib/x.py").file("a.py")
    found = walk(tree)
    assert left_out(found) == {"tools/py": "built-in: virtual environment"}
    assert b"a.py" in paths(found)
    assert FolderStat(RelPath(b"tools"), 0o755, True) in found.folders
    assert b"tools/py/lib/x.py" in paths(walk(tree, "!tools/py"))


def test_the_store_is_never_entered_and_never_mentioned(tree: Tree) -> None:
    """It is known by device and inode, not by name."""
    tree.file("deep/keep/.shadow/config").file("deep/keep/old/x").file("deep/x")
    info = os.stat(tree.root / "deep/keep")
    found = scan(str(tree.root), Rules.start(), store=(info.st_dev, info.st_ino))
    assert (paths(found), found.ignored, found.skipped) == ([b"deep/x"], [], [])


def test_another_store_is_left_out(tree: Tree) -> None:
    """A nested project that has its own backups."""
    tree.file("sub/tensortime/.shadow/config").file("sub/tensortime/.objects/x").file("sub/a.py")
    tree.file("like/.shadow/other").file("like/.objects/x")
    found = walk(tree)
    assert left_out(found) == {"sub/tensortime": "built-in: another TensorTime store"}
    assert paths(found) == [b"like/.objects/x", b"like/.shadow/other", b"sub/a.py"]


def test_the_folder_that_restore_writes_is_reserved(tree: Tree) -> None:
    """At the top alone."""
    tree.file(".tensortime/manifest").file("sub/.tensortime/x")
    found = walk(tree)
    assert left_out(found) == {".tensortime": "built-in: reserved"}
    assert paths(found) == [b"sub/.tensortime/x"]


def test_nested_repositories_are_stored_as_files_and_named(tree: Tree) -> None:
    """B11, B12: a clone with a `.git` folder, a submodule with a `.git` file."""
    tree.file("third/clone/.git/HEAD").file("third/clone/x.py").file(
        "sub/.git", b"gitdir: ../.git/modules/sub"
    )
    tree.file("sub/y.py").file(".git/HEAD")
    found = walk(tree)
    assert paths(found) == [b"sub/y.py", b"third/clone/x.py"]
    assert found.nested == [b"sub", b"third/clone"]


def test_broken_patterns_are_collected_from_everywhere(tree: Tree) -> None:
    """Each with its place."""
    tree.file(".ttignore", b"!\n").file("model/.ttignore", b"*.pt\n[\n").file("model/x.pt").file(
        "gone/.ttignore", b"["
    )
    rules = Rules.start(["a//b"], ["\\", "gone"])
    found = scan(str(tree.root), rules, follow=["["])
    assert [one.where for one in found.broken] == [
        "config",
        "ignore",
        "follow",
        ".ttignore:1",
        "model/.ttignore:2",
    ]


# What cannot be stored


def test_what_is_no_file_is_skipped_within_100_ms(tree: Tree) -> None:
    """B21: opening a FIFO as a file waits for ever."""
    tree.fifo("pipe").file("a.py")
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(tree.root, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/sock")  # a socket's path may have 108 bytes
        os.close(folder)
        start = time.monotonic()
        found = walk(tree)
        assert time.monotonic() - start < 0.1
    assert found.skipped == [Skipped("pipe", "a FIFO"), Skipped("sock", "a socket")]
    assert paths(found) == [b"a.py"]


@pytest.mark.parametrize(
    ("kind", "reason"), [(stat.S_IFCHR, "a character device"), (stat.S_IFBLK, "a block device")]
)
def test_a_device_is_skipped(tree: Tree, kind: int, reason: str) -> None:
    """B21."""
    try:
        os.mknod(tree.root / "device", kind | 0o600, os.makedev(1, 3))
        os.stat(tree.root / "device")
    except PermissionError:
        pytest.skip("only root can make a device")
    assert walk(tree).skipped == [Skipped("device", reason)]


def failing(monkeypatch: pytest.MonkeyPatch, name: bytes, problem: Callable[[], object]) -> None:
    """Let something happen just before the folder `name` is opened."""
    original = fsops.open_folder

    def opening(path: bytes, dir_fd: int | None = None) -> int:
        if path == name:
            problem()
        return original(path, dir_fd=dir_fd)

    monkeypatch.setattr(module, "open_folder", opening)


def refuse() -> None:
    """What the kernel says to everyone but root."""
    raise PermissionError(13, "Permission denied")


def test_an_unreadable_folder_is_skipped_with_the_reason(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is stored."""
    tree.file("secret/x").file("a.py")
    failing(monkeypatch, b"secret", refuse)
    found = walk(tree)
    assert found.skipped == [Skipped("secret", "Permission denied")]
    assert (paths(found), found.folders) == ([b"a.py"], [])


def test_an_unreadable_folder_that_a_rule_leaves_out_is_no_problem(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way out of exit code 3."""
    tree.file("sub/secret/x").file("a.py")
    failing(monkeypatch, b"sub/secret", refuse)
    assert walk(tree, "secret").skipped == []


# What changes meanwhile


def test_a_folder_swapped_for_a_link_is_not_entered(
    tree: Tree, outside: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M04, M05: nothing outside is read."""
    tree.file("sub/x").file("a.py")
    outside.file("passwd")

    def swap() -> None:
        os.rename(tree.root / "sub", tree.root / "moved")
        os.symlink(outside.root, tree.root / "sub")

    failing(monkeypatch, b"sub", swap)
    found = walk(tree)
    assert paths(found) == [b"a.py"]
    assert [one.path for one in found.skipped] == ["sub"]


def test_a_folder_whose_parent_is_swapped_is_not_entered(
    tree: Tree, outside: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M05: O_NOFOLLOW guards the last part alone, device and inode guard the rest."""
    tree.file("top/sub/x").file("a.py")
    outside.file("sub/passwd")

    def swap() -> None:
        os.rename(tree.root / "top", tree.root / "moved")
        os.symlink(outside.root, tree.root / "top")

    failing(monkeypatch, b"top/sub", swap)
    found = walk(tree)
    assert paths(found) == [b"a.py"]
    assert found.skipped == [Skipped("top/sub", "replaced while it was read")]


def test_a_folder_swapped_for_a_fifo_does_not_block(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """M04."""
    tree.folder("sub")

    def swap() -> None:
        os.rmdir(tree.root / "sub")
        os.mkfifo(tree.root / "sub")

    failing(monkeypatch, b"sub", swap)
    assert [one.path for one in walk(tree).skipped] == ["sub"]


def test_what_vanishes_was_never_there(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """M06: a temporary folder that goes before it is read, a file that goes before it is asked about."""
    tree.folder("parent/gone").file("a.tmp").file("a.py")
    failing(monkeypatch, b"parent/gone", lambda: os.rmdir(tree.root / "parent/gone"))
    original = os.scandir

    def listing(fd: int) -> object:
        entries = original(fd)
        if os.path.exists(tree.root / "a.tmp"):
            with entries:
                kept = list(entries)
            os.unlink(tree.root / "a.tmp")
            return Listed(kept)
        return entries

    monkeypatch.setattr(os, "scandir", listing)
    found = walk(tree)
    assert (paths(found), found.skipped) == ([b"a.py"], [])
    assert found.folders == [FolderStat(RelPath(b"parent"), 0o755, True)]


class Listed(list["os.DirEntry[str]"]):
    """A listing that was taken earlier, closed like a fresh one."""

    def __enter__(self) -> "Listed":
        return self

    def __exit__(self, *_: object) -> None:
        return None


def test_files_that_appear_meanwhile_are_in_or_out(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """M07: the walk ends, and what it says it saw was there."""
    tree.file("sub/x").file("a.py")
    failing(monkeypatch, b"sub", lambda: tree.file("sub/new").file("late") and None)
    assert {b"a.py", b"sub/x"} <= set(paths(walk(tree))) <= {b"a.py", b"sub/x", b"sub/new", b"late"}


def test_no_descriptor_is_left_open(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after failures."""
    tree.file("secret/x").file("sub/data/x").file(".ttignore", b"data").symlink("link", "sub")
    failing(monkeypatch, b"secret", refuse)
    before = os.listdir("/dev/fd")
    walk(tree, follow=["link"])
    walk(tree, only=[b"sub/data", b"secret", b"nothing"])
    assert os.listdir("/dev/fd") == before


# Links


def test_links_are_stored_as_links(tree: Tree) -> None:
    """B17: relative, absolute, dangling, to itself, to a folder, not UTF-8, long."""
    targets = [b"a.py", b"nowhere", b"loop", b"sub", b"latin\xe9", b"t" * 4000, b"."]
    tree.file("a.py").file("sub/x").symlink("loop", "loop")
    for number, target in enumerate(targets):
        tree.symlink(f"sub/{number}", target)
    found = walk(tree)
    assert sorted(found.links) == sorted(
        [LinkStat(RelPath(b"loop"), b"loop")]
        + [LinkStat(RelPath(b"sub/%d" % number), target) for number, target in enumerate(targets)]
    )
    assert (paths(found), found.skipped, found.outside) == ([b"a.py", b"sub/x"], [], [])


def test_a_link_that_leads_outside_is_measured(tree: Tree, outside: Tree) -> None:
    """So that the summary can name what is not in the backup."""
    outside.file("x", b"123", mtime_ns=10**18).file("deep/y", b"45", mtime_ns=2 * 10**18).symlink("self", ".")
    tree.symlink("data", outside.root).symlink("sub/file", "../../outside/x").symlink("inside", tree.root)
    tree.symlink("gone", "/nowhere/at/all")
    found = {one.path: one for one in walk(tree).outside}
    assert set(found) == {b"data", b"sub/file", b"gone"}
    assert found[RelPath(b"data")][1:] == (os.fsencode(outside.root), 2, 5, 2 * 10**18, True)
    assert found[RelPath(b"sub/file")][1:] == (b"../../outside/x", 1, 3, 10**18, True)
    assert found[RelPath(b"gone")][2:] == (0, 0, 0, True)


def test_measuring_outside_ends_in_time(tree: Tree, outside: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all links together; what is known by then is marked as a part."""
    outside.file("x").file("y")
    tree.symlink("a", outside.root).symlink("b", outside.root)
    monkeypatch.setattr(scanning, "OUTSIDE_SECONDS", 0.0)
    assert [(one.files, one.complete) for one in walk(tree).outside] == [(0, False), (0, False)]


def test_a_followed_link_is_stored_as_what_is_behind_it(tree: Tree, outside: Tree) -> None:
    """With the rules of the project, also those that lie behind the link."""
    outside.file("x").file("sub/y").file("sub/z.tmp").file("sub/.ttignore", b"*.tmp\n").symlink("rel", "x")
    tree.symlink("data", outside.root).symlink("one.bin", outside.root / "x").symlink("other", outside.root)
    found = walk(tree, follow=["/data", "*.bin"])
    assert paths(found) == [b"data/sub/.ttignore", b"data/sub/y", b"data/x", b"one.bin"]
    assert [link.path for link in found.links if link.path != b"other"] == [b"data/rel"]
    assert [one.path for one in found.outside] == [b"other"]
    assert found.followed == {
        b"data": os.fsencode(outside.root),
        b"one.bin": os.fsencode(outside.root / "x"),
    }
    assert {folder.path for folder in found.folders} == {b"data", b"data/sub"}


def test_a_followed_link_to_nothing_stays_a_link(tree: Tree) -> None:
    """The scratch disk is not mounted today."""
    tree.symlink("data", "/nowhere/at/all").fifo("pipe").symlink("odd", "pipe").symlink("loop", "loop")
    found = walk(tree, follow=["*"])
    assert sorted(link.path for link in found.links) == [b"data", b"loop", b"odd"]
    assert found.followed == {}


def test_followed_links_in_a_circle_end(tree: Tree, outside: Tree) -> None:
    """To itself, to the project, to each other, and all to all."""
    tree.file("a/x").symlink("a/up", "..").symlink("a/b", "../b").file("b/y").symlink("b/a", "../a")
    outside.symlink("back", tree.root)
    tree.symlink("out", outside.root)
    for one in range(6):
        for other in range(6):
            tree.symlink(f"all/{one}/{other}", f"../{other}")
    found = walk(tree, follow=["**"])
    assert {b"a/x", b"b/y", b"a/b/y", b"b/a/x"} <= set(paths(found))
    assert {b"a/up", b"out/back"} <= {link.path for link in found.links}
    assert len(found.folders) < 6**4


def test_a_folder_around_the_project_may_be_followed(tree: Tree, tmp_path: Path) -> None:
    """Then the project in it is not stored a second time."""
    tree.file("a.py").symlink("parent", "..")
    Tree(tmp_path).file("beside")
    found = walk(tree, follow=["parent"])
    assert paths(found) == [b"a.py", b"parent/beside"]
    assert found.skipped == [Skipped("parent/project", "leads back into itself")]


def test_a_followed_link_to_the_store_stays_a_link(tree: Tree) -> None:
    """A store in itself would never end."""
    tree.folder("tensortime").symlink("s", "tensortime")
    info = os.stat(tree.root / "tensortime")
    found = scan(str(tree.root), Rules.start(), store=(info.st_dev, info.st_ino), follow=["s"])
    assert [link.path for link in found.links] == [b"s"]


def test_a_followed_folder_that_a_rule_leaves_out_is_left_out(tree: Tree, outside: Tree) -> None:
    """`data/` speaks about folders, and a followed link is one."""
    outside.file("x")
    tree.symlink("data", outside.root)
    found = walk(tree, "data/", follow=["data"])
    assert (paths(found), left_out(found)) == ([], {"data": "ignore: data/"})


# Named paths


def test_only_the_named_paths_are_scanned(tree: Tree) -> None:
    """With the folders around them."""
    tree.file("a/b/x").file("a/y").file("c/z").file("top").symlink("a/link", "y")
    found = walk(tree, only=[b"a/b", b"top", b"a/link"])
    assert paths(found) == [b"a/b/x", b"top"]
    assert found.links == [LinkStat(RelPath(b"a/link"), b"y")]
    assert [folder.path for folder in found.folders] == [b"a", b"a/b"]


def test_a_named_path_wins_over_the_rules_and_the_rule_is_told(tree: Tree) -> None:
    """And so does what lies in it, as far as the user's own patterns go."""
    tree.file("data/x.bin").file("data/deep/y.bin").file("data/.ttignore", b"deep\n").file("x.log")
    tree.file(".ttignore", b"data\n*.log\n")
    found = walk(tree, "*.bin", only=[b"data/deep", b"x.log", b"data"])
    assert paths(found) == [b"data/.ttignore", b"data/deep/y.bin", b"data/x.bin", b"x.log"]
    assert {one.path: one.rule for one in found.overruled} == {
        "data": ".ttignore:1 data",
        "data/deep": ".ttignore:1 data",
        "x.log": ".ttignore:2 *.log",
    }


def test_a_path_that_no_rule_leaves_out_overrules_nothing(tree: Tree) -> None:
    """No warning without a reason."""
    tree.file("a/x").file(".ttignore", b"a\n!a\n")
    assert walk(tree, only=[b"a", b"a/x"]).overruled == []


def test_built_in_rules_hold_inside_a_named_folder_but_not_for_what_is_named(tree: Tree) -> None:
    """A secret has to be named itself."""
    tree.file("a/.env").file("a/__pycache__/x").file("a/venv/pyvenv.cfg").file("a/x").file("b/.env").file(
        "v/pyvenv.cfg"
    )
    found = walk(tree, only=[b"a", b"b/.env", b"v"])
    assert paths(found) == [b"a/x", b"b/.env", b"v/pyvenv.cfg"]
    assert [one.path for one in found.ignored] == ["a/.env", "a/__pycache__", "a/venv"]
    assert [one.path for one in found.overruled] == ["b/.env", "v"]
    both = walk(tree, only=[b"a", b"a/.env", b"a/x"])
    assert paths(both) == [b"a/.env", b"a/x"]


@pytest.mark.parametrize(
    "name", [b".git", b".git/HEAD", b"sub/.git", b"sub/.git/HEAD", b".tensortime/x", b"deep/store/x"]
)
def test_some_places_are_never_stored_even_when_named(tree: Tree, name: bytes) -> None:
    """Repositories, what restore writes, and the store."""
    tree.file(".git/HEAD").file("sub/.git/HEAD").file(".tensortime/x").file("deep/store/x")
    info = os.stat(tree.root / "deep/store")
    found = scan(str(tree.root), Rules.start(), store=(info.st_dev, info.st_ino), only=[RelPath(name)])
    assert (found.files, found.folders, len(found.ignored)) == ([], [], 1)


def test_a_named_path_that_cannot_be_stored_is_skipped_with_a_reason(tree: Tree, outside: Tree) -> None:
    """The others are stored."""
    tree.file("a").fifo("pipe").symlink("data", outside.root)
    outside.file("x")
    found = walk(tree, only=[b"a", b"a/b", b"nothing", b"no/thing", b"pipe", b"data/x", b"../outside/x"])
    assert paths(found) == [b"a"]
    reasons = {one.path: one.reason for one in found.skipped}
    assert reasons.pop("../outside/x").startswith("not a path inside a project")
    assert reasons == {
        "a/b": "no such file",
        "data/x": "lies behind a symbolic link",
        "no/thing": "no such file",
        "nothing": "no such file",
        "pipe": "a FIFO",
    }


# What it costs


class Counter:
    """A monitor that adds up."""

    def __init__(self) -> None:
        self.files = 0

    def begin(self, step: str, files: int, size: int) -> None:
        """Ignore it."""

    def advance(self, files: int, size: int) -> None:
        """Add up."""
        self.files += files

    def say(self, line: Message) -> None:
        """Ignore it."""

    def warn(self, line: Message) -> None:
        """Ignore it."""


def test_the_monitor_hears_of_every_file(tree: Tree) -> None:
    """Once."""
    tree.file("a").file("b/c").file("b/d")
    counter = Counter()
    scan(str(tree.root), Rules.start(), monitor=counter)
    assert counter.files == 3


def bare_walk(root: Path) -> int:
    """The cheapest walk there is."""
    count, waiting = 0, [os.fsencode(root)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode):
                    waiting.append(entry.path)
                else:
                    count += 1
    return count


def seconds(task: Callable[[], object]) -> float:
    """The best of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return min(times)


def test_a_walk_costs_little_more_than_the_stats(tree: Tree) -> None:
    """About 1.5 times the bare walk; three times would be a mistake in the loop (a busy machine is allowed for)."""
    for number in range(10_000):
        tree.file(f"part{number % 100}/file_{number}.txt")
    rules = Rules.start()
    assert bare_walk(tree.root) == 10_000
    assert seconds(lambda: scan(str(tree.root), rules)) < 3 * seconds(lambda: bare_walk(tree.root)) + 0.02

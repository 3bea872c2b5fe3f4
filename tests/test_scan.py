"""One scan: what it finds and what it says about the rest. CASES B06 to B20."""

import os
import tempfile
from pathlib import Path

import pytest
from builders import Tree, snapshot_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scanning import left_out, paths, walk

from tensortime import glances
from tensortime import walk as module
from tensortime.findings import FolderStat, LinkStat
from tensortime.formats import LONGEST_PATH, RelPath
from tensortime.ignoring import Rules
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

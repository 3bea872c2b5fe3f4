"""Links that are followed or not, paths that are named, and what the monitor hears. CASES B17."""

import os
from pathlib import Path

import pytest
from builders import Tree
from scanning import left_out, paths, walk

from tensortime import scan as scanning_module
from tensortime.errors import Message
from tensortime.findings import LinkStat
from tensortime.formats import RelPath
from tensortime.ignoring import Rules
from tensortime.reports import Skipped
from tensortime.scan import scan


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A project."""
    return Tree(tmp_path / "project")


@pytest.fixture
def outside(tmp_path: Path) -> Tree:
    """A folder beside the project."""
    return Tree(tmp_path / "outside")


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
    monkeypatch.setattr(scanning_module, "OUTSIDE_SECONDS", 0.0)
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

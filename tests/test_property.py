"""Any tree goes in and comes out, also after any change to it. CASES B30."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from builders import Tree, assert_same_tree, noise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from round_trips import THRESHOLD, assert_sound, contents

from tensortime import api, intake
from tensortime.policy import builtin_rule


class File(NamedTuple):
    """A file to make."""

    seed: bytes
    size: int | None
    """None: the seed is what is in it; else so many bytes made of it."""
    mode: int
    age: int
    """Its mtime, in nanoseconds before a moment in 2023."""

    def data(self) -> bytes:
        """What is in it."""
        if self.size is None:
            return self.seed
        return noise(self.seed, self.size) if self.seed else bytes(self.size)


class Link(NamedTuple):
    """A symbolic link to make."""

    target: bytes


class Folder(NamedTuple):
    """A folder to make."""

    children: "Mapping[bytes, Node]"
    mode: int


Node = File | Link | Folder

NASTY = (
    *(
        b"\n",
        b"a\tb",
        b'"',
        b"\\",
        b"-rf",
        b" a",
        b"a ",
        b"*",
        b"?",
        b"[x]",
        b":",
        b"#c",
        b"!n",
        b"\xe9",
        b"\xff\xfe",
    ),
    *(
        b"a",
        b"A",
        b"a.b",
        b"a-b",
        b"a0",
        b"x.lock",
        "\N{LATIN SMALL LETTER E WITH ACUTE}".encode(),
        "数据".encode(),
    ),
    *(
        "e\N{COMBINING ACUTE ACCENT}".encode(),
        b".GIT",
        b"git~1",
        b".git ",
        b".git.",
        ".g\u200cit".encode(),
        b".git:x",
    ),
    *(
        b".gitmodules",
        b".gitattributes",
        b".gitignore",
        b".GITIGNORE",
        b"gitmod~1",
        b".mailmap",
        b"HEAD",
        b"n" * 255,
    ),
)
SIZES = (0, 1, 8192, 8193, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1)
MOST = 5
"""In one folder."""
EPOCH = 1_700_000_000 * 10**9

# Random bytes are also taken from the constants of the code: `.pem` and others that the built-in list leaves out.
names = st.sampled_from(NASTY) | st.binary(min_size=1, max_size=6).map(
    lambda name: name.translate(bytes.maketrans(b"/\0", b"\\\1")).replace(b".", b"...")
).filter(lambda name: builtin_rule(name, is_folder=True) is None)
ages = st.sampled_from((0, 1, EPOCH, 2 * EPOCH + 1, -EPOCH))
modes = (st.sampled_from((0o644, 0o755)) | st.integers(0, 0o7777)).map(lambda mode: mode | 0o400)
# Few seeds, so that the same bytes turn up at several paths.
made = st.builds(File, st.sampled_from((b"", b"1", b"2")), st.sampled_from(SIZES), modes, ages)
files = made | st.builds(File, st.binary(max_size=40), st.none(), modes, ages)
links = st.binary(min_size=1, max_size=30).map(lambda target: Link(target.replace(b"\0", b"/")))
folder_modes = (st.just(0o755) | st.integers(0, 0o1777)).map(lambda mode: mode | 0o700)


def folders_of(nodes: st.SearchStrategy[Node], least: int = 0) -> st.SearchStrategy[Folder]:
    """Folders with these in them."""
    return st.builds(Folder, st.dictionaries(names, nodes, min_size=least, max_size=MOST), folder_modes)


leaves: st.SearchStrategy[Node] = files | links | st.builds(Folder, st.just({}), folder_modes)
folders = folders_of(leaves, 1)
trees = folders_of(leaves | folders | folders_of(leaves | folders, 1), 2)


def make(tree: Tree, path: bytes, node: Node) -> None:
    """Make a node in place of whatever is there."""
    full = tree.path(path)
    if os.path.isdir(full) and not os.path.islink(full):
        shutil.rmtree(full)
    elif os.path.lexists(full):
        os.unlink(full)
    match node:
        case File():
            tree.file(path, node.data(), mode=node.mode, mtime_ns=EPOCH - node.age)
        case Link(target):
            tree.symlink(path, target)
        case Folder(children, mode):
            tree.folder(path)
            for name, child in children.items():
                make(tree, path + b"/" + name, child)
            os.chmod(full, mode)


def rewrite(tree: Tree, path: bytes) -> None:
    """Other bytes of the same length in the same file, and the time put back: only the ctime tells."""
    full = tree.path(path)
    info = os.lstat(full)
    with open(full, "r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes(byte ^ 1 for byte in first))
    os.chmod(full, info.st_mode & 0o7777)
    os.utime(full, ns=(info.st_atime_ns, info.st_mtime_ns))


def change(tree: Tree, first: Folder, second: Folder, kept: frozenset[bytes]) -> None:
    """Keep some of the first tree, rewriting its files at the top; take the rest away; put the second over it."""
    for name, node in first.children.items():
        if name not in kept:
            make(tree, name, Link(b"x"))
            os.unlink(tree.path(name))
        elif isinstance(node, File) and (node.mode & 0o200 or os.geteuid() == 0):
            rewrite(tree, name)
    for name, node in second.children.items():
        if name not in kept:
            make(tree, name, node)


@pytest.fixture
def eager_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the stat cache believe in files of this very second; else it would be of no use before a minute is over."""
    for window in ("SMALL_WINDOW_NS", "LARGE_WINDOW_NS"):
        monkeypatch.setattr(intake, window, 0)


@pytest.mark.usefixtures("eager_cache")
@pytest.mark.timeout(600)  # making a failure small takes its time
@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    # Making a tree is slow, and each example has a folder of its own.
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
@given(trees, trees, st.tuples(*[st.booleans()] * MOST))
def test_any_tree_comes_back(tmp_path: Path, first: Folder, second: Folder, choice: tuple[bool, ...]) -> None:
    """B30: of any tree, changed in any way, the first and the second backup both come back, in a sound store."""
    kept = frozenset(name for name, keep in zip(sorted(first.children), choice, strict=False) if keep)
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        tree = Tree(Path(folder) / "project")
        for name, node in first.children.items():
            make(tree, name, node)
        before = contents(tree)
        one = api.backup(directory=tree.root, name="one")
        assert contents(tree) == before, "a backup has changed the project"
        change(tree, first, second, kept)
        after = contents(tree)
        two = api.backup(directory=tree.root, name="two")
        assert (one.exit_code, two.exit_code) == (0, 0), (one, two)
        for experiment, snapshot in {"one": before, "two": after}.items():
            restored = api.restore(experiment, Path(folder) / experiment, directory=tree.root)
            assert_same_tree(snapshot, restored.path)
        assert_sound(tree.root / "tensortime")

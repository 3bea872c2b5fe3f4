"""A backup and its way back, judged: TREE-EQ for whole projects. What the tests of byte exactness share."""

import json
import os
from pathlib import Path

from blake3 import blake3
from builders import Entry, Tree, assert_same_tree, snapshot_of, user_git

from tensortime import api
from tensortime.reports import BackupReport

THRESHOLD = 1 << 20
OWN = (b".git", b"tensortime", b".tensortime")
USER_CONTENT = (
    *(
        "gitmodulesBlob",
        "gitmodulesParse",
        "gitmodulesName",
        "gitmodulesUrl",
        "gitmodulesPath",
        "gitmodulesUpdate",
    ),
    *("gitattributesBlob", "gitattributesLarge", "gitattributesLineLength"),
)
"""What fsck says of a project's own `.gitmodules` and `.gitattributes` (CASES B14), which may be anything."""


def contents(tree: Tree) -> dict[bytes, Entry]:
    """What TREE-EQ compares of a project."""
    return snapshot_of(tree.root, exclude=OWN)


def store_whole(tree: Tree) -> BackupReport:
    """A backup that leaves nothing out and changes nothing."""
    before = contents(tree)
    report = api.backup(directory=tree.root, name="exp")
    assert report.exit_code == 0, (report.skipped, report.changed)
    assert contents(tree) == before, "a backup has changed the project"
    return report


def assert_round_trip(tree: Tree, destination: str = "restored") -> Path:
    """Back up and restore beside the project; TREE-EQ, with the mtimes of large files."""
    report = store_whole(tree)
    restored = tree.root.parent / destination
    api.restore(str(report.experiment), restored, directory=tree.root)
    assert_same_tree(contents(tree), restored)
    for path, entry in contents(tree).items():
        source = os.lstat(tree.path(path))
        if entry.kind == "file" and source.st_size >= THRESHOLD:
            assert os.lstat(Tree(restored).path(path)).st_mtime_ns == source.st_mtime_ns, path
    return restored


def manifest_of(restored: Path) -> dict[str, dict[str, object]]:
    """The manifest that a restored worktree carries, by path."""
    lines = (restored / ".tensortime" / "manifest").read_text().splitlines()
    return {entry["path"]: entry for entry in map(json.loads, lines[1:]) if "path" in entry}


def run_facts(tree: Tree) -> dict[str, object]:
    """run.json of the newest backup."""
    return dict(api.show("@", directory=tree.root).run)


def assert_sound(store: Path) -> None:
    """Every byte in a store is what its name says: git checks refs and packs, BLAKE3 the objects."""
    shadow = store / ".shadow"
    left_out = (word for name in USER_CONTENT for word in ("-c", f"fsck.{name}=ignore"))
    user_git("--git-dir", shadow, *left_out, "fsck", "--strict", "--full", "--no-progress", cwd=store)
    for pack in (shadow / "objects" / "pack").glob("*.pack"):
        judged = store / ".tmp" / "judged.idx"
        user_git("--git-dir", shadow, "index-pack", "-o", judged, pack, cwd=store)
        assert judged.read_bytes() == pack.with_suffix(".idx").read_bytes(), pack
        judged.unlink()
    for path in (store / ".objects" / "blake3").glob("*/*"):
        assert blake3(path.read_bytes()).hexdigest() == path.parent.name + path.name, path

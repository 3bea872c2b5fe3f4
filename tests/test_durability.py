"""What a backup reports as done survives a power loss: each name is synced into its folder before the ref is moved.

No test can cut the power; these hold which folders were synced, and before what.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from builders import Tree
from round_trips import THRESHOLD

import tensortime
from tensortime import api, folding, fsops, intake, snapshot, trash
from tensortime.reports import BackupReport
from tensortime.store import Store, open_store


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The folders that were synced."""
    found: set[str] = set()
    sync_folder = fsops.sync_folder

    def noting(path: bytes | str) -> None:
        found.add(os.path.realpath(os.fsdecode(path)))
        sync_folder(path)

    monkeypatch.setattr(fsops, "sync_folder", noting)
    return found


def folders_that_hold_folders(top: Path) -> set[str]:
    """The top and all folders below it that hold a folder of the store that lasts."""
    passing = {".cache", ".tmp", "worktrees"}
    return {
        str(folder)
        for folder, names, _ in os.walk(top)
        if set(names) - passing and not passing & set(Path(folder).parts)
    }


@pytest.mark.parametrize("store", ["tensortime", "made/on/the/way"])
def test_the_folders_of_a_new_store(tmp_path: Path, synced: set[str], store: str) -> None:
    """Also those that had to be made above it."""
    tree = Tree(tmp_path / "project").file("model.bin", size=THRESHOLD)
    api.backup(directory=tree.root, store=store)
    assert folders_that_hold_folders(tree.root) - synced == set()


def test_a_folder_that_opening_a_store_makes_again(tmp_path: Path, synced: set[str]) -> None:
    """Copying a store may lose its empty folders."""
    tree = Tree(tmp_path / "project").file("train.py", b"1")
    api.backup(directory=tree.root)
    (tree.root / "tensortime" / ".objects" / "blake3").rmdir()
    synced.clear()
    tree.file("model.bin", size=THRESHOLD)
    api.backup(directory=tree.root)
    assert str(tree.root / "tensortime" / ".objects") in synced


def test_an_object_that_another_backup_brought(
    tmp_path: Path, synced: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have died before it synced the name of the object that this one relies on."""
    tree = Tree(tmp_path / "project").file("model.bin", size=THRESHOLD)

    def killed(*_: object) -> BackupReport:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(snapshot, "publish", killed)
        patch.setattr(snapshot, "take_back", lambda *_: None)
        api.backup(directory=tree.root)
    (folder,) = (tree.root / "tensortime" / ".objects" / "blake3").iterdir()
    assert str(folder) not in synced
    api.backup(directory=tree.root)
    assert {str(folder), str(folder.parent)} <= synced


def test_packed_refs_are_on_the_disk_before_the_loose_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git before 2.39 does not sync them, or too early: a power loss would take all names."""
    tree, steps = Tree(tmp_path / "project").file("train.py", b"1"), list[str]()
    api.backup(directory=tree.root, name="x")
    sync_path, drop_packed = fsops.sync_path, folding.drop_packed

    def syncing(path: bytes | str) -> None:
        steps.append(os.path.basename(os.fsdecode(path)))
        sync_path(path)

    def dropping(store: Store) -> None:
        steps.append("drop")
        drop_packed(store)

    monkeypatch.setattr(fsops, "sync_path", syncing)
    monkeypatch.setattr(folding, "drop_packed", dropping)
    folding.fold(open_store(str(tree.root / "tensortime")))
    assert steps == ["packed-refs", "drop"]


def test_what_goes_into_the_trash_is_on_the_disk_there_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its new refs with their contents, not their names alone."""
    tree, synced = Tree(tmp_path / "project").file("train.py", b"1"), list[str]()
    api.backup(directory=tree.root, name="x")
    api.tag("x", ["best"], directory=tree.root)
    sync_path, transact = fsops.sync_path, trash.transact

    def syncing(path: bytes | str) -> None:
        synced.append(os.fsdecode(path))
        sync_path(path)

    def transacting(store: Store, rows: Sequence[str]) -> None:
        synced.append(rows[0].split()[0])
        transact(store, rows)

    monkeypatch.setattr(fsops, "sync_path", syncing)
    monkeypatch.setattr(trash, "transact", transacting)
    tensortime.rm(["x"], directory=tree.root)
    before = synced[synced.index("create") : synced.index("delete")]
    assert [path.rpartition("/")[2] for path in before if "/refs/trash/" in path] == ["x", "best"]


def test_while_files_are_linked_no_list_says_which_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed then leaves an object that the user's own file is: without a list all of them are looked at."""
    tree = Tree(tmp_path / "project").file("tensortime.toml", b'hardlink = ["*.bin"]\n')
    tree.file("first.bin", size=THRESHOLD)
    api.backup(directory=tree.root)
    listed, take_large, seen = tree.root / "tensortime/.cache/hardlinks", intake.take_large, list[bool]()
    assert len(json.loads(listed.read_bytes())) == 1

    def taking(*words: object, **more: object) -> None:
        seen.append(listed.exists())
        take_large(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(intake, "take_large", taking)
    tree.file("second.bin", size=THRESHOLD)
    api.backup(directory=tree.root)
    assert seen == [False]
    assert len(json.loads(listed.read_bytes())) == 2

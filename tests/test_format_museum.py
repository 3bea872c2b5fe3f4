"""Stores of every format ever written open and come back byte for byte, for ever: `tests/stores/`."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from builders import Entry, Tree, assert_same_tree
from round_trips import assert_sound

from tensortime import api, maintenance, manifest, mending, upkeep

MUSEUM = Path(__file__).parent / "stores"
VERSIONS = ["v1"]
BACKUPS = ["digits:1", "digits:2", "other"]


def unpack(version: str, folder: Path) -> Path:
    """A project with a store of the museum."""
    place = folder / "project" / "tensortime"
    place.mkdir(parents=True)
    with tarfile.open(MUSEUM / version / "store.tar.gz") as archive:
        archive.extractall(place, filter="fully_trusted")
    place.chmod(0o700)
    return place.parent


def trees(version: str) -> dict[str, dict[bytes, Entry]]:
    """What the projects looked like when they were backed up."""
    known = json.loads((MUSEUM / version / "trees.json").read_text("utf-8"))
    return {
        name: {path.encode("utf-8", "surrogateescape"): Entry(*entry) for path, *entry in rows}
        for name, rows in known.items()
    }


@pytest.mark.parametrize("backup", BACKUPS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_stored_backup_comes_back(tmp_path: Path, version: str, backup: str) -> None:
    """Type, bytes, link target and mode of every path are those of the day it was made."""
    project = unpack(version, tmp_path)
    api.restore(backup, tmp_path / "restored", directory=project)
    assert_same_tree(trees(version)[backup], tmp_path / "restored")
    if backup == "digits:1":
        assert (tmp_path / "restored/data/part.bin").stat().st_mtime_ns == 1_700_000_000_123_456_789
        assert (tmp_path / "restored/old.bin").stat().st_mtime_ns == -1_000_000_001


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_said_of_a_stored_backup_is_still_known(tmp_path: Path, version: str) -> None:
    """Names, numbers, notes, parameters, metrics and the run."""
    project = unpack(version, tmp_path)
    found = api.log(directory=project, everything=True).experiments
    assert [one.name for one in found] == ["other", "digits"]
    shown = [api.show(f"digits:{number}", directory=project) for number in (1, 2)]
    first, second = (one.experiment for one in shown)
    assert (first.note, second.note) == ("第一次\n\nwith all kinds", "changed")
    assert (dict(first.params), dict(second.metrics)) == ({"lr": 3e-4}, {"accuracy": 0.97})
    assert shown[0].run["command"] == ["python", "train.py", "--lr", "3e-4"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stored_store_takes_new_backups(tmp_path: Path, version: str) -> None:
    """An old store goes on: what is added is sound, and what was there stays as it was."""
    project = unpack(version, tmp_path)
    Tree(project).file("train.py", b"print('years later')\n").file("large.bin", size=2 << 20)
    assert api.backup(directory=project, name="digits", joins=True).number == 3
    assert_sound(project / "tensortime")
    api.restore("digits:3", tmp_path / "new", directory=project)
    assert (tmp_path / "new" / "large.bin").read_bytes() == (project / "large.bin").read_bytes()
    api.restore("digits:1", tmp_path / "old", directory=project)
    assert_same_tree(trees(version)["digits:1"], tmp_path / "old")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_verb_works_on_a_stored_store(tmp_path: Path, version: str) -> None:
    """What reads it finds no fault, and what changes it leaves every backup as it was."""
    project = unpack(version, tmp_path)
    assert api.diff("digits:1", "digits:2", directory=project).causes
    data, _ = api.read_file("digits:1", "run.sh", directory=project)
    assert data == b"#!/bin/sh\n"
    assert upkeep.du(directory=project, everything=True).experiments
    report = maintenance.verify(read_data="all", directory=project)
    assert (report.problems, report.objects > 0) == ((), True)
    api.note("other", "years later", directory=project)
    api.tag("other", ["seen"], directory=project)
    upkeep.rm(["other"], directory=project)
    maintenance.gc(directory=project)
    upkeep.undelete(["other"], directory=project)
    api.backup(directory=project, name="third")
    upkeep.rm(["third"], directory=project)
    maintenance.gc(trash=True, directory=project)
    assert maintenance.verify(read_data="all", directory=project).problems == ()
    found = api.log(directory=project, everything=True).experiments
    assert [(one.name, one.note, one.tags) for one in found if one.name == "other"] == [
        ("other", "years later", ("seen",))
    ]
    for backup in BACKUPS:
        api.restore(backup, tmp_path / "after", directory=project)
        assert_same_tree(trees(version)[backup], tmp_path / "after")
        shutil.rmtree(tmp_path / "after")


def test_every_stored_version_is_tested() -> None:
    """Each format that the code writes or wrote has a store in the museum, and each store its tests."""
    assert f"\tformat = {manifest.FORMAT}\n" in mending.CONFIG
    stored = {path.name for path in MUSEUM.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert stored == set(VERSIONS) == {f"v{number}" for number in range(1, manifest.FORMAT + 1)}
    for version in VERSIONS:
        assert list(trees(version)) == BACKUPS
        assert sum(path.stat().st_size for path in (MUSEUM / version).iterdir()) < 60_000

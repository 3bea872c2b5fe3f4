"""Links out of the project are said, and what restore itself puts into a project is not taken for the project's."""

import os
from pathlib import Path

import pytest
from builders import Tree, run_cli

from tensortime import api

LARGE = 1 << 20


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with one large file."""
    return Tree(tmp_path / "project").file("train.py", b"1").file("data.bin", size=LARGE)


def test_what_lies_behind_a_link_is_named(project: Tree, tmp_path: Path) -> None:
    """B17: the data that everybody keeps on another disk: not stored, and said, with the setting that stores it."""
    sets = Tree(tmp_path / "sets").file("a.bin", size=1000).file("b/c.bin", size=500)
    project.symlink("data", os.fsencode(sets.root)).symlink("inside", b"train.py").symlink(
        "nowhere", b"/nonexistent/x"
    )
    done = run_cli("backup", cwd=project.root)
    said = [line for line in done.stdout.splitlines() if "link" in line]
    assert said == [
        "data is a link out of the project: 2 files, 1.5 kB behind it are not stored "
        '(follow = ["data"] stores them)'
    ]
    [one] = [one for one in api.backup(directory=project.root).outside if one.files]
    assert (one.path, one.target, one.bytes, one.complete) == ("data", str(sets.root), 1500, True)


def test_a_setting_that_follows_nothing_is_named(project: Tree) -> None:
    """A typing error in `follow` would leave the data out in silence."""
    project.file("tensortime.toml", b'follow = ["dtaa"]\n')
    assert "follow: dtaa is no link to anything" in run_cli("backup", cwd=project.root).stderr


def test_a_restored_experiment_in_the_project_is_left_out(project: Tree) -> None:
    """E14: it is in the store already; the backup of a project that holds three of them is not four times as large."""
    api.backup(directory=project.root, name="exp")
    api.restore("exp", project.root / "old", directory=project.root)
    report = api.backup(directory=project.root)
    assert (report.files, [(one.path, one.rule) for one in report.ignored]) == (
        2,
        [("old", "built-in: a restored experiment")],
    )
    assert api.backup(directory=project.root / "old").files == 2


def test_links_that_a_restore_made_are_stored_as_their_bytes(project: Tree, tmp_path: Path) -> None:
    """A worktree from --link symlink: its backup holds the data, also when the first experiment is gone one day."""
    api.backup(directory=project.root, name="exp")
    worktree = api.restore("exp", tmp_path / "linked", link="symlink", directory=project.root).path
    assert (Path(worktree) / "data.bin").is_symlink()
    report = api.backup(directory=worktree, name="again")
    assert (report.large, report.exit_code) == (1, 0)
    restored = Path(api.restore("again", tmp_path / "out", directory=project.root).path, "data.bin")
    assert not restored.is_symlink()
    assert restored.read_bytes() == (project.root / "data.bin").read_bytes()

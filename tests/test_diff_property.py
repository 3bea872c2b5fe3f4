"""Of any two states of any tree: a diff with itself is empty, both ways mirror each other, and nothing is missed."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from builders import Entry, Tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from round_trips import contents
from test_property import MOST, Folder, change, make, trees

from tensortime import api, intake
from tensortime.differences import DiffReport, FileChange
from tensortime.formats import bytes_of

BACK = {"added": "removed", "removed": "added"}


@pytest.fixture
def eager_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the stat cache believe in files of this very second."""
    for window in ("SMALL_WINDOW_NS", "LARGE_WINDOW_NS"):
        monkeypatch.setattr(intake, window, 0)


def all_changes(report: DiffReport) -> list[FileChange]:
    """Every path that differs."""
    return [*report.causes.code, *report.causes.data, *report.effects.outputs]


def mirrored(changes: Sequence[FileChange]) -> list[FileChange]:
    """The same changes, seen from the other side."""
    turned = [
        replace(
            one,
            path=one.old_path or one.path,
            old_path=one.old_path and one.path,
            change=BACK.get(one.change, one.change),
            old=one.new,
            new=one.old,
            lines_added=one.lines_removed,
            lines_removed=one.lines_added,
        )
        for one in changes
    ]
    return sorted(turned, key=lambda one: bytes_of(one.path))


def differing(before: dict[bytes, Entry], after: dict[bytes, Entry]) -> set[bytes]:
    """The files and links that are not the same in two snapshots, whatever their modes."""

    def files(snapshot: dict[bytes, Entry]) -> dict[bytes, tuple[str, str]]:
        return {path: (one.kind, one.content) for path, one in snapshot.items() if one.kind != "folder"}

    left, right = files(before), files(after)
    return {path for path in left.keys() | right.keys() if left.get(path) != right.get(path)}


def named(changes: Sequence[FileChange]) -> set[bytes]:
    """The files and links whose bytes a report says are others, gone, or come."""
    found = set()
    for one in changes:
        kinds = {facts.kind for facts in (one.old, one.new) if facts is not None}
        if one.change != "mode" and kinds != {"folder"}:
            found |= {bytes_of(one.path)} | ({bytes_of(one.old_path)} if one.old_path is not None else set())
    return found


SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
STATES = given(trees, trees, st.tuples(*[st.booleans()] * MOST))


@pytest.mark.usefixtures("eager_cache")
@pytest.mark.timeout(600)  # making a failure small takes its time
@settings(SETTINGS, max_examples=20)
@STATES
def test_a_diff_tells_all_and_nothing_else(
    tmp_path: Path, first: Folder, second: Folder, choice: tuple[bool, ...]
) -> None:
    """From one backup to the next, back, to the project as it is, and from each to itself."""
    assert_told(tmp_path, first, second, choice)


@pytest.mark.long
@pytest.mark.usefixtures("eager_cache")
@settings(SETTINGS, max_examples=400)
@STATES
def test_diffs_of_many_states(
    tmp_path: Path, first: Folder, second: Folder, choice: tuple[bool, ...]
) -> None:
    """The same of twenty times as many."""
    assert_told(tmp_path, first, second, choice)


def assert_told(tmp_path: Path, first: Folder, second: Folder, choice: tuple[bool, ...]) -> None:
    """Back up one state, turn it into the other but for what `choice` keeps, and compare all diffs."""
    kept = frozenset(name for name, keep in zip(sorted(first.children), choice, strict=False) if keep)
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        tree = Tree(Path(folder) / "project")
        for name, node in first.children.items():
            make(tree, name, node)
        before = contents(tree)
        api.backup(directory=tree.root, name="one")
        change(tree, first, second, kept)
        after = contents(tree)
        now = api.diff("one", directory=tree.root)
        api.backup(directory=tree.root, name="two")
        there, back = (api.diff(*names, directory=tree.root) for names in (("one", "two"), ("two", "one")))
        for same in (("one", "one"), ("two", "two"), ("two", None)):
            assert api.diff(*same, directory=tree.root).is_empty
        assert named(all_changes(there)) == named(all_changes(now)) == differing(before, after)
        assert mirrored(there.causes.code) == list(back.causes.code)
        assert mirrored(there.causes.data) == list(back.causes.data)
        assert there.effects.outputs == ()
        assert there.left_out == now.left_out == ()

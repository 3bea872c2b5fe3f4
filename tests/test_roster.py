"""What a backup knows of all other experiments, and how few of their commits it reads for that."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Tree
from stores import Bulk

from tensortime import api, history, roster, upkeep
from tensortime.store import Store, open_store
from tensortime.trailers import decode_message

MANY = 200


@pytest.fixture
def crowd(tmp_path: Path) -> Store:
    """A store of MANY experiments, the newest of which is of next year, and its project."""
    bulk = Bulk(tmp_path / "project")
    for number in range(MANY):
        bulk.experiment(f"run-{number:03}", {b"train.py": b"lr = %d\n" % number})
    Tree(bulk.project).file("train.py", b"lr = 1\n")
    return bulk.finish()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many commit messages were decoded since it was asked last."""
    count = 0

    def counting(text: str) -> object:
        nonlocal count
        count += 1
        return decode_message(text)

    def asked() -> int:
        nonlocal count
        before, count = count, 0
        return before

    for module in (roster, history):
        monkeypatch.setattr(module, "decode_message", counting)
    return asked


def test_a_backup_reads_only_the_commits_that_are_new(
    crowd: Store, tmp_path: Path, decoded: Callable[[], int]
) -> None:
    """The first reads those of all others, a later one none, one that joins its own; and what others wrote is read."""
    project = tmp_path / "project"
    first = api.backup(directory=project, name="first")
    assert first.time_ns > 1_800_000_000 * 10**9 + MANY * 10**9
    assert decoded() == MANY
    assert api.backup(directory=project, name="second").time_ns == first.time_ns + 1
    assert decoded() == 0
    assert api.backup(directory=project, name="first", joins=True).number == 2
    assert decoded() == 1
    api.note("run-007", "edited", directory=project)
    decoded()
    api.backup(directory=project, name="third")
    assert decoded() == 1


def test_the_newest_time_is_known_without_the_cache_too(
    crowd: Store, tmp_path: Path, decoded: Callable[[], int]
) -> None:
    """Where the file is gone, cut, or something else, all commits are read again."""
    project, file = tmp_path / "project", Path(crowd.folder, ".cache", "experiments")
    newest = api.backup(directory=project).time_ns
    whole = file.read_bytes()
    for harm in (file.unlink, lambda: file.write_bytes(whole[:-44]), lambda: file.write_bytes(b"")):
        harm()
        decoded()
        report = api.backup(directory=project)
        assert report.time_ns == newest + 1
        assert decoded() >= MANY
        newest = report.time_ns
    file.unlink()
    file.mkdir()
    assert api.backup(directory=project).time_ns == newest + 1


def test_any_flipped_bit_is_noticed(tmp_path: Path, tally: Callable[..., None]) -> None:
    """A time that is not right would be believed for ever: no file with a wrong bit is."""
    Tree(tmp_path).file("train.py", b"lr = 1\n")
    api.backup(directory=tmp_path)
    file = tmp_path / "tensortime" / ".cache" / "experiments"
    whole = file.read_bytes()
    assert len(roster.remembered(str(file))) == 1
    for bit in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        assert roster.remembered(str(file)) == {}
    tally("flipped bits", len(whole) * 8)


def test_a_removed_experiment_is_forgotten(tmp_path: Path) -> None:
    """One whose clock was wrong, once it is in the trash, no longer drives the times of others."""
    bulk = Bulk(tmp_path / "project")
    bulk.experiment("future", {b"train.py": b"lr = 1\n"})
    bulk.finish()
    Tree(bulk.project).file("train.py", b"lr = 1\n")
    api.backup(directory=bulk.project, name="beside")
    for name in ("future", "beside"):
        upkeep.rm([name], directory=bulk.project)
    assert api.backup(directory=bulk.project).time_ns < time.time_ns()


def test_the_roster_says_what_the_catalog_says(crowd: Store, tmp_path: Path) -> None:
    """Names, newest time and facts are those that `log` reads, also of refs and commits that are damaged."""
    project = tmp_path / "project"
    api.tag("run-005", ["best"], directory=project)
    refs = Path(crowd.folder, ".shadow", "refs", "experiments")
    refs.joinpath("empty").write_bytes(b"")
    refs.joinpath("gone").write_text("1" * 40 + "\n")
    store = open_store(crowd.folder)
    for _ in range(2):
        catalog, known = history.read_catalog(store.shadow), roster.read_roster(store)
        assert known.taken_names() == catalog.taken_names()
        assert {"empty", "gone", "run-005"} <= known.taken_names()
        assert known.newest_time_ns() == catalog.newest_time_ns()
        for one in catalog.experiments:
            if one.name in ("run-000", "run-005"):
                assert known.find(store.shadow, one.name) == one
        assert known.has_project(str(project))
        assert not known.has_project(str(tmp_path))
        api.backup(directory=project)

"""Sixteen processes at one store, and a hundred first backups at once: what was reported done is whole. CASES C.

Real processes in a random schedule (`crowd.py`). A failure shows the seed: TENSORTIME_SEED=… draws the same steps
again, though not in the same moments.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import crowd
import pytest
from builders import user_git
from conftest import Tally
from terminals import PACKAGE

import tensortime
from tensortime import api

CROWD = Path(crowd.__file__)
SEED = os.environ.get("TENSORTIME_SEED")  # read before the world is sealed
LOCKS = pytest.mark.parametrize("locks", ["TRUSTED", "UNTRUSTED"])


def run(script: Path, *words: object, timeout: float, **variables: str) -> None:
    """Start the processes and wait for all; what any of them says on stderr is the failure."""
    process = subprocess.Popen(
        [sys.executable, script, *map(str, words)],
        env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join([str(CROWD.parent), PACKAGE])},
        cwd=script.parent,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    assert process.returncode == 0, said[-6000:]


@LOCKS
@pytest.mark.timeout(300)
def test_sixteen_processes_at_one_store(tmp_path: Path, tally: Tally, locks: str) -> None:
    """C03, C04: backups of the same and other files, rm, undelete, gc, folds, restores, verify and log.

    Without trusted locks gc runs at the same time as all others, and a round of two seconds stands for the day.
    """
    weather(tmp_path, tally, locks, 10)


@LOCKS
@pytest.mark.long
@pytest.mark.timeout(2400)
def test_sixteen_processes_for_ten_minutes(tmp_path: Path, tally: Tally, locks: str) -> None:
    """The same for longer."""
    weather(tmp_path, tally, locks, 600)


def weather(folder: Path, tally: Tally, locks: str, seconds: float) -> None:
    """Let the processes work for so long, and judge what they leave."""
    seed, store = SEED or os.urandom(4).hex(), folder / "store"
    run(CROWD, store, folder, seed, seconds, 16, timeout=seconds * 3 + 200, **{locks: "1"})
    journal = crowd.read_journals(folder)
    steps = Counter(told.what for told in journal)
    assert all(steps[what] for what in ("backup", "restore", "rm", "gc")), steps
    tally("schedules of sixteen processes")
    tally("steps of theirs", sum(steps.values()))
    home = folder / "project-0"
    assert tensortime.verify(read_data="all", directory=home, store=store).problems == ()
    written = {told.commit: told.files for told in journal if told.what == "backup"}
    for told in journal:
        if told.what == "restore":
            assert told.files == written[told.commit], told
        if told.what == "stays":
            assert crowd.files_of(folder / told.name) == written[told.commit], told
    living = {
        str(one.name): str(one.commit)
        for one in api.log(directory=home, store=store, everything=True).experiments
    }
    assert expected_names(journal) <= living.keys()
    for name, commit in living.items():
        made = api.restore(name, folder / f"last-{name}", directory=home, store=store).path
        assert crowd.files_of(Path(made)) == written[commit], (name, commit)
    assert [path for path in (store / ".tmp").iterdir() if path.is_dir()] == []


def expected_names(journal: list[crowd.Told]) -> set[str]:
    """The experiments whose last backup was reported done and began after every removal of that name."""
    done: dict[str, float] = {}
    removed: dict[str, float] = {}
    for told in journal:
        if told.what == "backup":
            done[told.name] = max(told.began, done.get(told.name, 0))
        elif told.what == "rm":
            removed[told.name] = max(told.ended, removed.get(told.name, 0))
    return {name for name, began in done.items() if began > removed.get(name, 0)}


def test_an_array_of_a_hundred_first_backups(tmp_path: Path, tally: Tally) -> None:
    """C01: a hundred tasks of a Slurm array in an empty project make one store of a hundred experiments."""
    project, journal = tmp_path / "project", tmp_path / "journal"
    journal.mkdir()
    project.mkdir()
    script = project / "train.py"
    script.write_text(
        f"import sys, crowd, pathlib\nsys.exit(crowd.array(pathlib.Path({str(journal)!r}), 100))\n"
    )
    (project / "data.bin").write_bytes(bytes(range(256)) * 8192)
    run(script, timeout=110)
    tally("first backups at once", 100)
    told = dict(path.read_text().split() for path in journal.iterdir())
    found = api.log(directory=project).experiments
    assert {str(one.name): str(one.commit) for one in found} == told
    assert len(told) == 100 == len({str(one.params["task"]) for one in found})
    assert tensortime.verify(read_data="all", directory=project).problems == ()
    listed = user_git(
        "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)", cwd=project / "tensortime/.shadow"
    )
    assert listed.split().count("commit") < 300, "a name that others took costs one more try, not hundreds"
    assert [path for path in (project / "tensortime/.tmp").iterdir() if path.is_dir()] == []
    wanted = crowd.files_of(project)
    for number in (0, 50, 99):
        made = api.restore(f"@~{number}", tmp_path / f"out{number}", directory=project).path
        assert crowd.files_of(Path(made)) == wanted

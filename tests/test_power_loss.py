"""The power fails while a command runs: what may be on the disk then is made, and looked at. CASES K09, K10.

`power_loss` says what may be there. Whatever a command had reported as done is whole, and so is all that was there
before; `log` works, and so does the next backup.
"""

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from power_loss import WHOLE, Disk, State
from test_kills import EDITS, OPERATIONS, Scene, Tally, names
from traces import record

import tensortime
from tensortime import api, reflocks

SHORT = 30
"""How many states of each command `make test` tries."""


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No person has a git of theirs at work."""
    monkeypatch.setattr(reflocks, "PERSONS_SECONDS", 0.02)


COMMANDS = {**OPERATIONS, **EDITS}
del COMMANDS["restore"]  # what it wrote can be restored again


def states_of(scene: Scene, variants: int) -> Iterator[tuple[State, bool]]:
    """What a power loss may leave of the project at any moment of the command, and whether it had ended then."""
    trace = record(scene.operation.words, cwd=scene.project, below=scene.project)
    assert trace.returncode == 0
    disk = Disk(scene.kept, trace, scene.project)
    assert disk.told <= disk.end
    for state in disk.states(random.Random(scene.operation.words[0]), variants):
        yield state, state.line >= disk.told


def assert_whole(scene: Scene, state: State, done: bool, *, go_on: bool) -> None:
    """Look at what is left as a person does when the machine is up again; `go_on`: also as the next backup does."""
    shutil.rmtree(scene.project)
    state.write(scene.project)
    lives = set(scene.operation.lives)
    assert not done or scene.operation.promised(scene.project)
    if lives:
        assert_sound(scene.project, lives)
    if scene.operation.words[0] in ("rm", "undelete"):
        removed = {one.experiment.name for one in tensortime.trashed(directory=scene.project).entries}
        assert "base" in {*names(scene.project), *removed}
    if go_on or not lives:
        assert api.backup(directory=scene.project, name="next").exit_code == 0
        assert_sound(scene.project, {*lives, "next"})
        if "base" in names(scene.project):
            tensortime.rm(["base"], directory=scene.project)
        tensortime.gc(trash=True, directory=scene.project)
        assert_sound(scene.project, {*lives, "next"} - {"base"})


def assert_sound(project: Path, lives: set[str]) -> None:
    """These experiments are listed and whole, every byte of them; there is no other, or it is whole too."""
    assert lives <= set(names(project))
    problems = tensortime.verify(read_data="all", directory=project).problems
    assert [one for one in problems if one.experiments] == []


def assert_survived(scene: Scene, states: Sequence[tuple[State, bool]], tally: Tally, every: int) -> None:
    """Look at these, and go on from every so manieth."""
    for number, (state, done) in enumerate(states):
        try:
            assert_whole(scene, state, done, go_on=number % every == 0)
        except Exception as problem:
            left = sorted(f"{os.fsdecode(path)}: {how}" for path, node, how in state.files if how != WHOLE)
            raise AssertionError(f"lost: line {state.line}, ended: {done}, {left}") from problem
    tally("power-loss states", len(states))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_power_fails(tmp_path: Path, tally: Tally, name: str) -> None:
    """K10: at some moments of a command."""
    scene = Scene(tmp_path, COMMANDS[name])
    states = list(states_of(scene, 6))
    chosen = random.Random(name).sample(states, min(SHORT, len(states)))
    assert_survived(scene, chosen, tally, every=8)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMMANDS)
def test_the_power_fails_at_any_moment(tmp_path: Path, tally: Tally, name: str) -> None:
    """K10: at all of them, and whatever of them the disk kept."""
    scene = Scene(tmp_path, COMMANDS[name])
    assert_survived(scene, list(states_of(scene, 40)), tally, every=2)

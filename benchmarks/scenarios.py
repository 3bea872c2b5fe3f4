"""The scenarios: what a target asks beyond the steps on the trees. `python -m benchmarks --scenarios NAME…`."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import large_files, repeated, starting
from benchmarks.commands import NotMeasured
from benchmarks.numbers import ScenarioPart, conditions
from benchmarks.rounds import FAILURES, Say
from benchmarks.setting import Setting


class Scenario(NamedTuple):
    """What is measured."""

    about: str
    measure: Callable[[Setting], dict[str, Any]]
    room: int = 1 << 30
    """Bytes that it takes on the disk at the most."""


SCENARIOS = {
    "import": Scenario("`import tensortime` against a bare Python", starting.importing),
    "log": Scenario("`tensortime log` of 10,000 experiments", starting.log),
    "unchanged": Scenario("*many* unchanged, in process, and a bare walk of it", repeated.unchanged, 2 << 30),
    "thousand": Scenario("1,000 unchanged backups", repeated.thousand),
    "large-file": Scenario("one file of 128 MiB changed in *code*", large_files.one_changed, 5 << 30),
    "ten-experiments": Scenario("10 experiments of *code*", repeated.ten_experiments, 4 << 30),
    "million": Scenario("1,000,000 files", repeated.million, 10 << 30),
    "huge-xfs": Scenario("one file of 8 GiB on XFS", partial(large_files.huge_shared, "xfs"), 12 << 30),
    "huge-btrfs": Scenario("one file of 8 GiB on btrfs", partial(large_files.huge_shared, "btrfs"), 12 << 30),
}


def measure_scenario(
    name: str, rounds: int, folder: Path, say: Say, scale: float, problem: str
) -> ScenarioPart:
    """Measure one; a reason instead of numbers where it cannot be (a `problem` that is known before), or fails."""
    part = ScenarioPart(conditions(folder, rounds, scale))
    say(f"{name}: {SCENARIOS[name].about}")
    if problem:
        say(f"{name}: not measured: {problem}")
        return ScenarioPart(part.conditions, problem=problem)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{name}-") as scratch:
        try:
            part.found = SCENARIOS[name].measure(Setting(Path(scratch), rounds, scale, say))
        except (NotMeasured, *FAILURES) as failure:
            part.problem = str(failure)
            say(f"{name}: not measured: {failure}")
    return part

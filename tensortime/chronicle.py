"""What `show` tells: one experiment and its backups. As `answers`, and apart from them for the same reason."""

from collections.abc import Mapping
from dataclasses import dataclass

from tensortime.experiments import Experiment
from tensortime.formats import Oid


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One backup of an experiment."""

    number: int
    commit: Oid
    time_ns: int
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ShowReport:
    """One backup of an experiment with the experiment's history, and what it recorded of its run."""

    experiment: Experiment
    """The facts of the backup that was asked for: its `backups` is that backup's number."""
    history: tuple[HistoryEntry, ...]
    run: Mapping[str, object]
    left: str = ""
    """The folder that its command ran in when it was killed: what it made may be nowhere else."""

    @property
    def newest(self) -> int:
        """The number of the newest backup."""
        return max((entry.number for entry in self.history), default=self.experiment.backups)

    @property
    def exit_code(self) -> int:
        """0 it holds all, 3 something was skipped or changed while it was read."""
        return 3 if self.run.get("skipped") or self.run.get("changed") else 0

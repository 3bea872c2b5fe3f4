"""What `log` lists. As `reports`, and apart from it: to define all that verbs return takes longer than to list."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tensortime.formats import Oid
from tensortime.names import ExperimentName

SUBMITTED = "submitted"
"""The status of an experiment whose command handed a job to a scheduler, as far as is known."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment as `log` knows it: the facts of its newest backup."""

    name: ExperimentName
    commit: Oid
    note: str
    time_ns: int
    """When it began: the time of its first backup is in the history; this is the newest backup's."""
    backups: int
    files: int
    bytes: int
    parent: str
    status: str
    project: str
    tags: tuple[str, ...] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, object] = field(default_factory=dict)
    runner: Mapping[str, object] = field(default_factory=dict)
    """The process that runs its command now, or did when it was killed."""


@dataclass(frozen=True, slots=True)
class DamagedRef:
    """A ref that names no readable backup."""

    ref: str
    reason: str


@dataclass(frozen=True, slots=True)
class LogReport:
    """The experiments, newest first."""

    experiments: tuple[Experiment, ...]
    damaged: tuple[DamagedRef, ...] = ()
    elsewhere: int = 0
    """Experiments of other projects in the same store, not listed."""
    passed_over: int = 0
    """Experiments that were not chosen, by a filter or by their time."""
    key: str = ""
    """The value that they are sorted by; empty: newest first."""

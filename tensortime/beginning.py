"""Which experiment a backup goes into, and what it says of that: note, params, metrics, status, who runs its command."""

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tensortime import history, records
from tensortime.commits import status_of
from tensortime.experiments import Experiment
from tensortime.formats import Oid, text_of
from tensortime.names import ExperimentName, default_name, free_name
from tensortime.reports import Skipped
from tensortime.roster import Roster
from tensortime.session import BackupOptions, Session
from tensortime.store import Store
from tensortime.trailers import plain

ENDED_BADLY = ("failed", "interrupted")
"""What a status stays when something is added later."""


@dataclass(frozen=True)
class Begun:
    """Which experiment a backup goes into, as the store was when it began."""

    name: ExperimentName
    parent: Oid | None
    """The commit that the experiment's ref must still name."""
    number: int
    note: str
    time_ns: int
    params: Mapping[str, object]
    """Those of the experiment so far, and what this backup adds."""
    metrics: Mapping[str, object]
    kept: records.Kept = records.NOTHING_KEPT
    """What the experiment has appended meanwhile."""
    existing: Experiment | None = None
    """The experiment that is joined."""
    is_edit: bool = False
    """The newest backup says more; there is no further one."""

    @property
    def runner(self) -> Mapping[str, object]:
        """Who runs the experiment's command; empty where nobody does."""
        return self.existing.runner if self.existing is not None else {}


def begin(session: Session, roster: Roster) -> Begun:
    """Choose the experiment: the one to join, else a new name that is free."""
    options = session.options
    now = time.time_ns()
    time_ns = max(now, roster.newest_time_ns() + 1)
    wanted = options.name or default_name(datetime.fromtimestamp(now / 1e9), options.note)
    existing = roster.find(session.store.shadow, wanted) if options.joins else None
    if existing is not None:
        kept = records.read_records(session.store.folder, existing.name)
        return Begun(
            existing.name,
            existing.commit,
            existing.backups + 1,
            note_of(options, existing),
            time_ns,
            {**existing.params, **options.params},
            {**existing.metrics, **metrics_written(session, existing), **kept.metrics, **options.metrics},
            kept,
            existing,
        )
    taken = (
        roster.taken_names() | folders_in(session.store) | records.names_with_records(session.store.folder)
    )
    return Begun(free_name(wanted, taken), None, 1, options.note, time_ns, options.params, options.metrics)


def metrics_written(session: Session, experiment: Experiment) -> dict[str, object]:
    """The metrics in the files that are configured for that, as far as they were written since the experiment began."""
    patterns = session.options.metric_files
    if not patterns:
        return {}
    from tensortime.metricfiles import metrics_of_files
    from tensortime.redaction import redact_named

    backups = history.read_history(session.store.shadow, experiment.commit)
    began_ns = min((one.time_ns for one in backups), default=experiment.time_ns)
    if session.place.parent is not None:
        # The files of a worktree are as old as that: those that were restored tell nothing of this run.
        with contextlib.suppress(OSError):
            began_ns = max(began_ns, os.stat(os.path.join(session.place.project, ".git")).st_mtime_ns)
    found = metrics_of_files(session.place.project, patterns, began_ns, session.monitor)
    return {name: redact_named(name, plain(value)) for name, value in found.items()}


def note_of(options: BackupOptions, existing: Experiment) -> str:
    """The note of an experiment that is joined: what was typed after `run --note` stays, whatever the code calls it."""
    if existing.runner and options.run is None:
        return existing.note or options.note
    return options.note or existing.note


def folders_in(store: Store) -> set[str]:
    """What lies in the store's folder, in lower case."""
    return {text_of(name).lower() for name in os.listdir(os.fsencode(store.folder))}


def is_own_worktree(session: Session, begun: Begun) -> bool:
    """Whether the project is a worktree of the very experiment that is added to: what `run --isolated` makes."""
    parent = session.place.parent
    return parent is not None and begun.existing is not None and parent.experiment == begun.existing.name


def runner_after(session: Session, begun: Begun) -> Mapping[str, object]:
    """Who runs the experiment's command once this backup is there."""
    if session.options.run is not None:
        return session.options.run.runner
    return {} if begun.existing and is_ended_by(session, begun.existing) else begun.runner


def is_ended_by(session: Session, existing: Experiment) -> bool:
    """Whether a job that was submitted adds its results by itself: nobody else will say that it has ended."""
    return session.options.only is not None and "submitted" in existing.runner


def status_in(session: Session, begun: Begun, skipped: Sequence[Skipped]) -> str:
    """The status that a backup has, of which this was skipped."""
    step, existing = session.options.run, begun.existing
    if step is not None:
        return status_of(skipped) if step.status == "done" else step.status
    if existing is not None and existing.runner and not is_ended_by(session, existing):
        return "running"
    if existing is not None and session.options.only is not None and existing.status in ENDED_BADLY:
        return existing.status
    return status_of(skipped)

"""What `du`, `rm` and `undelete` return: frozen facts about room, the trash, and what goes there."""

from dataclasses import dataclass

from tensortime.errors import Message
from tensortime.experiments import DamagedRef, Experiment
from tensortime.formats import Oid
from tensortime.names import ExperimentName


@dataclass(frozen=True, slots=True)
class Choice:
    """One experiment, whether it stays, and why."""

    experiment: Experiment
    keep: bool
    reason: Message


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    """What `rm` is going to do: every experiment that it looked at, newest first."""

    choices: tuple[Choice, ...]

    @property
    def removed(self) -> tuple[Experiment, ...]:
        """The experiments that go."""
        return tuple(one.experiment for one in self.choices if not one.keep)


@dataclass(frozen=True, slots=True)
class Trashed:
    """An experiment in the trash, with the facts of its newest backup and its tags."""

    experiment: Experiment
    removed_ns: int
    """When it was removed; unique in its store."""
    refs: tuple[tuple[str, Oid], ...]
    """All refs of it in the trash: itself and its tags."""


@dataclass(frozen=True, slots=True)
class Trash:
    """What can be taken back, the last removed first."""

    entries: tuple[Trashed, ...]
    damaged: tuple[DamagedRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """A folder that `restore` made."""

    experiment: str
    number: int
    path: str


@dataclass(frozen=True, slots=True)
class RemovalReport:
    """What `rm` did, or with `dry_run` would do."""

    plan: RemovalPlan
    dry_run: bool = False
    trashed: int = 0
    """Experiments in the trash now; with `dry_run`, that would be in it."""
    freeable: int | None = None
    """Bytes that nothing but the trash keeps: what emptying it frees. None where it could not be told."""
    open_worktrees: tuple[Restored, ...] = ()
    """Restored folders of what was removed: they stay as they are."""


@dataclass(frozen=True, slots=True)
class ClearingReport:
    """A restored folder that was removed."""

    folder: Restored
    changed: tuple[str, ...] = ()
    """What it held that its backup does not: only with force."""
    pin: str = ""
    """The ref that keeps the commits which a person made in it, or empty."""


@dataclass(frozen=True, slots=True)
class Returned:
    """An experiment that came back out of the trash."""

    experiment: ExperimentName
    was: str
    """Its name when it was removed: another one if that was taken meanwhile."""
    commit: Oid


@dataclass(frozen=True, slots=True)
class UndeleteReport:
    """What came back."""

    returned: tuple[Returned, ...]


@dataclass(frozen=True, slots=True)
class ExperimentUsage:
    """What one experiment costs."""

    name: ExperimentName
    time_ns: int
    backups: int
    bytes: int
    """On disk, of all that its backups refer to, shared or not."""
    freed: int
    """Of these, what nothing else refers to: what its removal and `gc` would free."""
    held: int = 0
    """What would be freed beyond that if its restored folders were removed too."""


@dataclass(frozen=True, slots=True)
class PathUsage:
    """What one path costs over all backups of all experiments."""

    path: str
    bytes: int
    """On disk, of all different contents that it ever had."""
    versions: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Where the bytes of a store are."""

    objects: int
    """Bytes of the sidecar's objects."""
    object_count: int
    packs: int
    """Bytes of the packs with their idx files, and of loose objects."""
    pack_count: int
    linked: int
    """Of the objects, the bytes that are the user's own files too (hard links): removing them frees nothing."""
    shared: int
    """Bytes that several experiments refer to: no removal of one alone frees them."""
    trash: int
    """Bytes that only the trash keeps."""
    trashed: int
    """Experiments in the trash."""
    unreached: int
    """Bytes that nothing keeps: what `gc` frees at once."""
    others: int
    """Bytes that only restored folders' records, pins or a person's own branches keep."""
    cache: int
    staging: int
    free: int
    """Bytes that the disk has left."""
    records: int = 0
    """Bytes of what experiments have appended, beside what backups hold of it."""


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What a store's experiments cost, those first that free most."""

    experiments: tuple[ExperimentUsage, ...]
    together: int | None
    """With names: what would be freed if all of these went; else None."""
    totals: Totals
    store: str
    worktrees: tuple[tuple[Restored, int], ...] = ()
    """Restored folders in the store's folder or elsewhere, with their bytes: they are the user's."""
    paths: tuple[PathUsage, ...] | None = None
    missing: int = 0
    """Objects and git objects that should be there and are not: `verify` says more."""

"""What the verbs return that neither back up, run nor restore.

As `reports`, and apart from it: to define these takes 5 ms, which a backup need not wait for.
"""

from dataclasses import dataclass

from tensortime.errors import Message
from tensortime.formats import Oid
from tensortime.names import ExperimentName
from tensortime.reports import Skipped


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the configuration: its value, and where that comes from."""

    key: str
    value: object
    source: str
    """A file, a variable, or `default`."""


@dataclass(frozen=True, slots=True)
class SettingsReport:
    """What holds in a project."""

    project: str
    store: str
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What one export wrote."""

    experiment: ExperimentName
    commit: Oid
    path: str
    backups: int
    """How many backups are in it."""
    files: int
    bytes: int
    """Of the files of the backup that was asked for."""
    size: int
    """Bytes of the file that was written."""
    unlisted: tuple[str, ...] = ()
    """Paths that a zip cannot show under their names; `import` brings them."""
    skipped: tuple[Skipped, ...] = ()
    """What the backup should have held and could not: it is not in the file either."""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 done, 3 the backup itself was not whole."""
        return 3 if self.skipped else 0


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What one import brought."""

    experiment: ExperimentName
    wanted: ExperimentName
    """The name in the file; another one where that was taken."""
    commit: Oid
    note: str
    time_ns: int
    backups: int
    files: int
    bytes: int
    stored_bytes: int
    """New bytes in the store."""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 done."""
        return 0


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a store that is missing or wrong, and who needs it."""

    kind: str
    """ref, pack, missing, damaged, manifest, or copy (wrong in one pack, right in another: nothing is lost)."""
    what: str
    """A ref, a file of a pack, a git object's id, or an object's digest."""
    reason: str
    experiments: tuple[str, ...] = ()
    """Backups as `NAME:n`; of the trash, worktrees and pins their refs."""
    paths: tuple[str, ...] = ()
    repair: str = ""
    """What `--repair` did about it; empty where it did nothing."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What one verification looked at, and what it found wrong."""

    backups: int
    git_objects: int
    objects: int
    bytes_read: int
    bytes_all: int
    """The bytes that there are to be read; 0 where none were."""
    problems: tuple[Problem, ...] = ()
    repaired: tuple[Problem, ...] = ()
    """What `--repair` did; `problems` is then what is left."""
    seconds: float = 0.0

    @property
    def lost(self) -> tuple[Problem, ...]:
        """The problems that some backup cannot come back whole for."""
        return tuple(one for one in self.problems if one.experiments)

    @property
    def exit_code(self) -> int:
        """0 all is there, 5 damage."""
        return 5 if self.problems else 0


@dataclass(frozen=True, slots=True)
class GcReport:
    """What one gc freed, or with `dry_run` would free, and what is left."""

    dry_run: bool
    freed: int
    waiting: int
    """Bytes that nobody needs and that a gc frees a day later, where locks cannot be trusted."""
    held: tuple[tuple[str, int], ...]
    """Bytes that stay: of experiments, worktrees, the trash, unused parts of packs, damaged ones moved aside."""
    trash: tuple[str, ...] = ()
    """Refs of the trash that went."""
    objects: int = 0
    packs: int = 0
    rewritten: int = 0
    leftovers: int = 0
    kept: tuple[Message, ...] = ()
    """Why things stay that perhaps nobody needs: something is damaged."""
    notes: tuple[Message, ...] = ()
    """Packs that could not be written anew, and why; a damaged list of what was purged."""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 done, 3 there are notes, 5 damage kept from freeing."""
        return 5 if self.kept else 3 if self.notes else 0


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What one purge took out of all backups, or with `dry_run` would."""

    paths: tuple[str, ...]
    experiments: tuple[str, ...]
    """Those that had one of the paths; of the trash as `trash/<time>/NAME`."""
    commits: int
    files: int
    """Different files that were at these paths."""
    bytes: int
    """Bytes that were freed; with `dry_run` those of the files."""
    worktrees: tuple[str, ...] = ()
    """Files in restored folders that are still there."""
    still_needed: int = 0
    """Files whose bytes are at another path too, and stay in the store for it."""
    waiting: int = 0
    """Bytes that go a day later, where locks cannot be trusted."""
    notes: tuple[Message, ...] = ()
    dry_run: bool = False
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 all of it is gone, 3 some of it is still there."""
        return 3 if self.worktrees or self.still_needed or self.waiting or self.notes else 0


FINE, WORTH_KNOWING, BAD = "ok", "note", "bad"
"""How a check of doctor came out: nothing to do; perhaps something to do; something to do."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that doctor looked at."""

    name: str
    state: str
    said: Message


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """All that doctor looked at."""

    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """0 all well enough, 5 the store is damaged, 1 something else is to be done."""
        bad = {one.name for one in self.checks if one.state == BAD}
        return 5 if "health" in bad else 1 if bad else 0

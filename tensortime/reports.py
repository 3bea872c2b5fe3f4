"""What the verbs return: frozen facts, no words. `render` turns them into text and JSON.

Paths are strings with surrogate escapes for bytes that are not UTF-8; sizes are bytes; times are
nanoseconds since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tensortime.errors import Message, TensorTimeError
from tensortime.experiments import Experiment
from tensortime.formats import Oid
from tensortime.names import ExperimentName

NOT_AT_ONCE = "left out so that the command could start at once"
"""The reason of a large file that the backup before a command has no time for."""

QUEUED = (
    "not stored yet: left to the background of the process that made this backup; "
    "if that has ended, tensortime backup --add stores it"
)
"""The reason of a large file that a backup did not wait for, until it is stored."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file or folder that a rule left out."""

    path: str
    rule: str
    """Which rule, as a person finds it: `.ttignore:3 *.log`, `ignore=['data']`, `built-in: __pycache__`."""
    folder: bool = False
    sources: bool = False
    """Below the top level only: a user's pattern left out a folder that holds source files."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that should be stored and could not be."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class LinkOut:
    """A link that is stored as a link and leads out of the project: what lies there is not stored."""

    path: str
    target: str
    files: int
    bytes: int
    complete: bool
    """False: there was no time to count all of it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A hard-linked object that somebody wrote to: these experiments no longer have this path."""

    path: str
    experiments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A path that a command made, changed or removed."""

    path: str
    state: str
    """created, changed or removed."""
    size: int = 0
    """Bytes; 0 for links and for what is gone."""


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What one backup did. `experiment` is None where nothing was to be done (another rank, switched off)."""

    experiment: ExperimentName | None
    commit: Oid | None = None
    number: int = 0
    """1 for the first backup of the experiment."""
    note: str = ""
    time_ns: int = 0
    files: int = 0
    bytes: int = 0
    stored_bytes: int = 0
    """New bytes in the store; a reflink or hardlink counts 0."""
    small: int = 0
    large: int = 0
    ignored: tuple[Ignored, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    changed: tuple[str, ...] = ()
    """Files that changed while they were read, three times over."""
    queued: tuple[str, ...] = ()
    """Large files that are stored in the background; the experiment is `pending` until all are."""
    queued_bytes: int = 0
    outside: tuple[LinkOut, ...] = ()
    lost: tuple[Lost, ...] = ()
    is_edit: bool = False
    """There was nothing new to store: the experiment's newest backup only says more now."""
    outputs: tuple[OutputFile, ...] = ()
    """Of a backup while or after `tensortime run` runs a command: all outputs so far."""
    edited: tuple[str, ...] = ()
    """Source files that a person changed meanwhile: the experiment keeps them as they were."""
    store: str = ""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 done, 3 something was skipped or changed, 5 an older experiment lost bytes."""
        return 5 if self.lost else 3 if self.skipped or self.changed else 0


@dataclass(frozen=True, slots=True)
class RunReport:
    """What became of a command that `tensortime run` ran."""

    exit_code: int
    """As a shell says it: 128 and the number of a signal that ended the command."""
    signal: str = ""
    """The name of that signal."""
    interrupted: str = ""
    """The signal with which we were told to stop, and passed on."""
    seconds: float = 0.0
    peak_memory: int | None = None
    """Bytes of the largest process."""
    log_bytes: int = 0
    log_cut: int = 0
    """Bytes of the output that are not in the log: its middle."""
    status: str = ""
    begun: BackupReport | None = None
    """The backup of the inputs; None where there is none."""
    added: BackupReport | None = None
    """The backup of the outputs; None where there is none."""
    problem: TensorTimeError | None = None
    """Why the outputs could not be added."""
    missed: tuple[str, ...] = ()
    """What the command wrote and a rule leaves out: files, and with `/` at the end folders."""
    worktree: str = ""
    """The folder of its own that it ran in, and that is still there."""
    why_kept: str = ""
    """asked, submitted, busy (processes that the command left behind work there), missed or failed."""

    @property
    def experiment(self) -> ExperimentName | None:
        """The experiment's name; None where nothing was backed up."""
        return self.begun.experiment if self.begun else None


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
class RestoreReport:
    """What one restore made."""

    experiment: ExperimentName
    commit: Oid
    path: str
    files: int
    bytes: int
    placed: Mapping[str, int]
    """How many large files came by reflink, copy, hardlink, symlink."""
    plain_modes: tuple[str, ...] = ()
    """Files whose setuid or setgid bit was not given back."""
    skipped: tuple[Skipped, ...] = ()
    """What the backup should have held and could not: it is not here either."""
    changed: tuple[str, ...] = ()
    """Files that changed while they were backed up: these bytes may be a mix of states."""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 done, 3 the backup itself was not whole."""
        return 3 if self.skipped or self.changed else 0


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

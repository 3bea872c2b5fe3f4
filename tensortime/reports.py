"""What backup, run and restore return: frozen facts, no words. `render` turns them into text and JSON.

What the other verbs return is in `answers`, `chronicle`, `experiments`, `inventory` and `differences`.

Paths are strings with surrogate escapes for bytes that are not UTF-8; sizes are bytes; times are
nanoseconds since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tensortime.errors import TensorTimeError
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

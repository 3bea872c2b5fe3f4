"""Everything that can go wrong, in one tree.

    TensorTimeError                 exit 1   the operation failed
    ├── UsageError                  exit 2   the caller's mistake: always raised, also inside training
    │   ├── QueryError  BadName  BadConfig  NotAProject  ForeignFolder  OutsideProject
    ├── NotFound                    exit 4   no such store or experiment, or an ambiguous name
    │   ├── NoStore  UnknownExperiment  AmbiguousName  UnknownPath
    ├── Damaged                     exit 5   bytes in the store are missing or wrong
    ├── StoreBusy                   exit 6   another process holds the store
    ├── CommandNotFound             exit 127 what `run` should run is not there
    ├── Interrupted                 exit 130 a person stopped it
    ├── NotExecutable               exit 126 it is there and is no program
    └── GitFailed  NoGit  NoSpace  StoreUnusable  UnsupportedFormat  TargetExists  BadBundle  Protected

A message is a template and its values, so that a face can put it into another language; `str()` is
the English text. A message says what is wrong, the hint what to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Message:
    """One sentence for a person: an English template and the values that fill it."""

    template: str
    values: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.template.format(**self.values)


def message(template: str, /, **values: object) -> Message:
    """Make a Message from keyword arguments."""
    return Message(template, values)


def listing(texts: Sequence[str], limit: int) -> Message | str:
    """The first texts of many, and how many more there are."""
    shown = ", ".join(texts[:limit])
    if len(texts) <= limit:
        return shown
    return message("{shown} and {count} more", shown=shown, count=len(texts) - limit)


class TensorTimeError(Exception):
    """Base of all errors that a user can meet; `kind` is its stable name in `--json`."""

    kind: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(self, template: str, /, *, hint: Message | str = "", **values: object) -> None:
        self.message = Message(template, values)
        self.hint = Message(hint.replace("{", "{{").replace("}", "}}")) if isinstance(hint, str) else hint
        super().__init__(str(self.message))


class GitFailed(TensorTimeError):
    """A git command that should have worked did not."""

    kind = "git-failed"


class NoGit(TensorTimeError):
    """git is missing or too old."""

    kind = "no-git"


class NoSpace(TensorTimeError):
    """The disk (or quota) cannot take what has to be written."""

    kind = "no-space"


class StoreUnusable(TensorTimeError):
    """The store exists but cannot be read or written as it is."""

    kind = "store-unusable"


class UnsupportedFormat(TensorTimeError):
    """The store was written by a TensorTime that knows more than this one."""

    kind = "unsupported-format"


class TargetExists(TensorTimeError):
    """Something is already at the place where files should appear."""

    kind = "target-exists"


class BadBundle(TensorTimeError):
    """A file to import is none, or not whole, or tries what it must not."""

    kind = "bad-bundle"


class Protected(TensorTimeError):
    """Something would be lost that a person marked to be kept, or that is nowhere else."""

    kind = "protected"


class CommandNotFound(TensorTimeError):
    """The command that is to be run is not there."""

    kind = "command-not-found"
    exit_code = 127


class NotExecutable(TensorTimeError):
    """The command that is to be run is there, and is no program."""

    kind = "not-executable"
    exit_code = 126


class Interrupted(TensorTimeError):
    """A person stopped it before it was done."""

    kind = "interrupted"
    exit_code = 130


class UsageError(TensorTimeError):
    """The call itself is wrong; never softened to a warning."""

    kind = "usage"
    exit_code = 2


class QueryError(UsageError):
    """A filter that says nothing: `text` is the filter, `at` the character where it goes wrong."""

    kind = "bad-query"

    def __init__(
        self, template: str, /, *, text: str, at: int, hint: Message | str = "", **values: object
    ) -> None:
        super().__init__(template, hint=hint, **values)
        self.text, self.at = text, at


class BadName(UsageError):
    """Not a possible experiment name."""

    kind = "bad-name"


class BadConfig(UsageError):
    """A key or value in the configuration is wrong."""

    kind = "bad-config"


class NotAProject(UsageError):
    """A folder that must not be backed up as a whole, such as `/` or the home folder."""

    kind = "not-a-project"


class ForeignFolder(UsageError):
    """The place of the store holds somebody else's files."""

    kind = "foreign-folder"


class OutsideProject(UsageError):
    """A path that should be in the project is not."""

    kind = "outside-project"


class NotFound(TensorTimeError):
    """Nothing answers to this name."""

    kind = "not-found"
    exit_code = 4


class NoStore(NotFound):
    """No store here or in any folder above."""

    kind = "no-store"


class UnknownExperiment(NotFound):
    """No experiment of this name."""

    kind = "unknown-experiment"


class AmbiguousName(NotFound):
    """More than one experiment answers to this name."""

    kind = "ambiguous-name"


class UnknownPath(NotFound):
    """The experiment holds no such path."""

    kind = "unknown-path"


class Damaged(TensorTimeError):
    """Bytes that the store promised are missing or wrong."""

    kind = "damaged"
    exit_code = 5


class StoreBusy(TensorTimeError):
    """Another process holds the store, or this destination."""

    kind = "store-busy"
    exit_code = 6

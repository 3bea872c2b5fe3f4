"""What `tensortime run` is asked for: the command, its program, and the experiment that it begins or goes on with."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile

from tensortime import history
from tensortime.commandline import WRAPPERS, script_of
from tensortime.config import Config
from tensortime.errors import (
    BadConfig,
    CommandNotFound,
    ForeignFolder,
    Message,
    NotAProject,
    NotExecutable,
    TensorTimeError,
    UsageError,
    message,
)
from tensortime.experiments import Experiment
from tensortime.formats import META, RelPath, text_of
from tensortime.landmarks import is_store
from tensortime.lookup import PathLike, locate, visible
from tensortime.monitor import Monitor
from tensortime.names import ExperimentName, suggest_name
from tensortime.project import Place, is_wide, start_of
from tensortime.redaction import redact_arguments
from tensortime.reports import BackupReport
from tensortime.store import Store

SUBMITTERS = {
    "sbatch": {"--wait", "-W"},
    "bsub": {"-K"},
    "qsub": {"-sync y", "-sync yes", "-W block=true"},
}
"""Programs that return at once, while the job that they submit waits; and the options with which they wait for its end."""

EARLIER = 200
"""Experiments among which a restarted job looks for its own."""


def is_in_front(word: str) -> bool:
    """Whether a word may stand before the program: `env`, `time`, `NAME=value`, an option of theirs."""
    return word.startswith("-") or "=" in word or os.path.basename(word) in WRAPPERS


def place_of(
    words: Sequence[str], folder: str, directory: PathLike | None, store: PathLike | None
) -> tuple[Place, Config]:
    """The project of a command that is typed in a folder, and its configuration.

    The folder's, if that has a store or the command names no script elsewhere; else the script's.
    """
    here = locate(directory, store)
    script = script_of(list(words), sys.stdlib_module_names)
    path = os.path.realpath(os.path.join(folder, script)) if script else ""
    if not path or not os.path.exists(path) or is_store(here[0].store):
        return here
    start = start_of(os.path.dirname(path), os.path.realpath(folder))
    return here if is_wide(start) else locate(start, store)


@dataclass(frozen=True)
class Request:
    """What is to be run, and how."""

    words: tuple[str, ...]
    folder: str
    """Where the command is typed: it runs there, or at the same place in its worktree."""
    environment: Mapping[str, str]
    note: str = ""
    name: ExperimentName | None = None
    tags: tuple[str, ...] = ()
    add: tuple[RelPath, ...] = ()
    """Paths whose changes are outputs although a rule leaves them out."""
    isolated: bool = False
    keep: bool = False
    alone: bool = False
    """Nobody but the command works in the project: a worktree that was made for it."""
    store: str | None = None
    on_begun: Callable[[BackupReport], None] = lambda _: None

    @property
    def submits(self) -> bool:
        """Whether it hands a job to a scheduler and ends, without waiting for it."""
        program, *words = [*dropwhile(is_in_front, self.words)] or [""]
        name = os.path.basename(program)
        return name in SUBMITTERS and not waits(name, words, self.folder)


def waits(program: str, words: Sequence[str], folder: str) -> bool:
    """Whether one of SUBMITTERS waits for the job, by the options in front of the job's script or command.

    Which word is an option's value is not known of all of them. What is taken for a submission although it waits keeps a
    folder; the other way round a job would lose the one that it waits to begin in.
    """
    before = ""
    for at, word in enumerate(words):
        is_option = word.startswith("-")
        if not is_option and (not before.startswith("-") or os.path.isfile(os.path.join(folder, word))):
            return False
        if SUBMITTERS[program] & {word, " ".join(words[at : at + 2])}:
            return True
        before = word
    return False


def find_program(words: Sequence[str], folder: str, environment: Mapping[str, str]) -> str:
    """The file that a command starts, absolute. CommandNotFound, NotExecutable."""
    word = words[0]
    if "/" in word:
        path = os.path.join(folder, word)
        candidates = [path] if os.path.lexists(path) else []
    else:
        folders = environment.get("PATH", os.defpath).split(os.pathsep)
        paths = (os.path.join(folder, one, word) for one in folders)
        candidates = [path for path in paths if os.path.isfile(path)]
    found = next((path for path in candidates if os.path.isfile(path) and os.access(path, os.X_OK)), None)
    if found is not None:
        return found
    if candidates:
        raise NotExecutable("{word} cannot be executed", word=word, hint="is it a program? ls -l tells")
    raise CommandNotFound(
        "{word} was not found",
        word=word,
        hint=hint_for_missing(word),
    )


def hint_for_missing(word: str) -> Message:
    """What the word of a program that is not there may have been meant for."""
    if "/" in word:
        return message("was it moved or removed?")
    if " " in word:
        return message("a command and its arguments are several words: no quotes around all of them")
    return message("an alias or a function of your shell is run by: bash -ic 'NAME …'")


def named(request: Request) -> bool:
    """Whether the environment names the experiment."""
    return bool(request.environment.get("TENSORTIME_EXPERIMENT"))


def experiment_to_join(
    place: Place, store: Store, request: Request, monitor: Monitor
) -> tuple[Experiment | None, ExperimentName | None]:
    """The experiment that goes on: the one that the environment names, or that a restarted job began; and the name."""
    own, catalog = visible(place, store)
    asked = text_of(os.fsencode(request.environment.get("TENSORTIME_EXPERIMENT", "")))
    if asked:
        name = ExperimentName(suggest_name(asked) or asked)
        if name != asked:
            monitor.warn(
                message(
                    "the name {text} is not possible everywhere: {name} is used", text=repr(asked), name=name
                )
            )
        return catalog.find(name), name
    restarts = request.environment.get("SLURM_RESTART_COUNT", "")
    job = request.environment.get("SLURM_JOB_ID", "")
    if job and restarts.isdecimal() and int(restarts):
        found = began_by(store, own.experiments, job, request.words)
        if found is not None:
            return found, found.name
    return None, request.name


def began_by(
    store: Store, experiments: Sequence[Experiment], job: str, words: Sequence[str]
) -> Experiment | None:
    """The newest experiment that a job began with this command and did not end."""
    open_ones = [
        one for one in experiments if one.status in ("running", "submitted", "interrupted", "failed")
    ][:EARLIER]
    command = redact_arguments([text_of(os.fsencode(word)) for word in words])
    for one in open_ones:
        names = [f"{one.commit}:{text_of(META)}/run.json"]
        run = next(
            (
                history.run_of({b"run.json": data})
                for _, data in store.shadow.read_objects(names, missing_ok=True)
            ),
            {},
        )
        launch = run.get("launch")
        if isinstance(launch, dict) and launch.get("SLURM_JOB_ID") == job and run.get("command") == command:
            return one
    return None


def is_own_mistake(error: TensorTimeError) -> bool:
    """Whether the call itself was wrong, and not what is around the command."""
    return isinstance(error, UsageError) and not isinstance(error, BadConfig | NotAProject | ForeignFolder)

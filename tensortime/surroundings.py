"""Where, with which words and variables a command runs, and what around it may lead elsewhere."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tensortime.errors import listing, message
from tensortime.formats import bytes_of
from tensortime.jobs import Request
from tensortime.lookup import visible
from tensortime.monitor import Monitor
from tensortime.names import ExperimentName
from tensortime.project import Place
from tensortime.reports import BackupReport
from tensortime.statsums import StatSums
from tensortime.store import Store


@dataclass(frozen=True)
class Work:
    """An experiment that is begun: where its command runs, and what is known for the backup after it."""

    store: Store
    place: Place
    """The project, or the worktree in its place."""
    experiment: ExperimentName
    runner: Mapping[str, object]
    begun: BackupReport
    before: StatSums = field(default_factory=StatSums)
    path: tuple[str, ...] = ()
    """Folders of the worktree that Python searches first: what `pip install -e` took from the project is there as it was."""


def placed(place: Place, work: Work, path: str) -> str:
    """A path of the project as it is in the command's worktree."""
    inside = os.path.relpath(os.path.realpath(path), place.project)
    if work.place is place or inside.startswith(".."):
        return path
    return os.path.normpath(os.path.join(work.place.project, inside))


def placed_words(place: Place, work: Work, request: Request) -> tuple[str, ...]:
    """The command's words; a program that only the project has (`.venv/bin/python`) is started where it is."""
    first, *others = request.words
    folder = placed(place, work, request.folder)
    if "/" in first and not os.path.lexists(os.path.join(folder, first)):
        first = os.path.join(request.folder, first)
    return (first, *others)


def variables(work: Work, request: Request, folder: str) -> dict[str, str]:
    """The command's environment: a `tm.backup()` in it, or a job that it submits, joins the experiment."""
    own = {
        "TENSORTIME_EXPERIMENT": os.fsdecode(bytes_of(work.experiment)),
        "TENSORTIME_STORE": work.store.folder,
        "PWD": folder,
    }
    if not request.submits:
        own["TENSORTIME_RUNNER"] = str(work.runner["id"])
    if work.path:
        from tensortime.recipe import searched_first  # what hardly any run needs

        own["PYTHONPATH"] = searched_first(work.path, request.environment)
    return {**request.environment, **own}


def warn_of_others(place: Place, store: Store, request: Request, monitor: Monitor) -> None:
    """Say which other commands write in the same folder, so that each one's outputs are the other's too."""
    if request.isolated or request.alone:
        return
    others = [
        one.name
        for one in visible(place, store)[0].experiments
        if one.status == "running" and "pid" in one.runner and not one.runner.get("isolated")
    ]
    if others:
        monitor.warn(
            message(
                "{names} runs here too: what it makes will be among the outputs; --isolated keeps runs apart",
                names=listing(others, 3),
            )
        )


def warn_of_words(place: Place, work: Work, request: Request, monitor: Monitor) -> None:
    """Say which words, and which search path, lead out of the worktree into the project."""
    words = [*request.words[1:], *request.environment.get("PYTHONPATH", "").split(os.pathsep)]
    for word in dict.fromkeys(words):
        path = os.path.realpath(word) if os.path.isabs(word) else ""
        if path == place.project or path.startswith(place.project + "/"):
            monitor.warn(
                message(
                    "{word} is in the project, not in the folder of its own that the command runs in: {path}",
                    word=word,
                    path=work.place.project,
                )
            )

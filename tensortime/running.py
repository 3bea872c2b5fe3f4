"""The verb that runs a command. As those of `api`, it returns a frozen report."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tensortime import runner
from tensortime.errors import UsageError
from tensortime.formats import is_inside
from tensortime.jobs import Request, find_program, is_own_mistake, place_of
from tensortime.lookup import PathLike, as_meant, check_texts, inside_project
from tensortime.monitor import SILENT, Monitor
from tensortime.names import ExperimentName
from tensortime.project import refuse_store_around, refuse_wide_project
from tensortime.ranks import why_not_here
from tensortime.reports import BackupReport, RunReport


def typed_in(directory: PathLike | None) -> str:
    """Where the command runs; `.` where that was deleted: nobody knows a name of it any more."""
    try:
        return os.path.abspath(os.fspath(directory) if directory is not None else os.getcwd())
    except FileNotFoundError:
        return "."


def run(
    words: Sequence[str],
    *,
    note: str = "",
    name: str | None = None,
    tags: Sequence[str] = (),
    add: Sequence[PathLike] = (),
    isolated: bool = False,
    keep: bool = False,
    alone: bool = False,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    environment: Mapping[str, str] | None = None,
    on_begun: Callable[[BackupReport], None] = lambda _: None,
    monitor: Monitor = SILENT,
) -> RunReport:
    """Run a command between two backups of one experiment: of its inputs, and of what it made of them.

    `directory`: where it runs. `environment`: its variables, default: ours. `isolated`: in a worktree of its own, which
    is removed afterwards unless `keep`. `alone`: nobody else works in the project, so that all that changes is an
    output. `add`: paths whose changes are outputs although a rule leaves them out. `on_begun` is told of the first
    backup before the command starts.

    CommandNotFound, NotExecutable, UsageError; the command has not been started then. Where no backup can be made it
    runs all the same, after a warning, unless it is `isolated`.
    """
    check_texts(note=note, name=name or "")
    request = Request(
        words=tuple(words),
        folder=typed_in(directory),
        environment=dict(os.environ if environment is None else environment),
        note=as_meant(note),
        name=None if name is None else ExperimentName(as_meant(name)),
        tags=tuple(as_meant(tag) for tag in tags),
        isolated=isolated,
        keep=keep,
        alone=alone,
        on_begun=on_begun,
    )
    find_program(request.words, request.folder, request.environment)
    if why_not_here(request.environment) is not None:
        return runner.run_bare(request)
    try:
        place, config = place_of(request.words, request.folder, directory, store)
        refuse_wide_project(place.project)
        refuse_store_around(place)
    except UsageError as problem:
        if isolated or is_own_mistake(problem):
            raise
        runner.warn_of(problem, monitor)
        return runner.run_bare(request)
    if isolated and not is_inside(os.path.realpath(request.folder), place.project):
        raise UsageError(
            "--isolated works inside the project {project}, not in {folder}",
            project=place.project,
            folder=request.folder,
            hint="cd into it, and name the script from there",
        )
    request = replace(request, add=tuple(inside_project(place, path) for path in add))
    return runner.run(place, config, request, monitor)

"""Where a person works and what they mean: the project around a folder, its store, its configuration, an experiment.

What the verbs of `api` and `upkeep` begin with. Reads only.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import ParamSpec, TypeVar

from tensortime import history
from tensortime.config import Config, load_config
from tensortime.errors import (
    NotAProject,
    OutsideProject,
    TensorTimeError,
    UnknownExperiment,
    UnknownPath,
    UsageError,
    message,
)
from tensortime.formats import RelPath, bytes_of, text_of
from tensortime.landmarks import is_store
from tensortime.language import place_around
from tensortime.monitor import Monitor
from tensortime.names import ExperimentName
from tensortime.project import Place, upward
from tensortime.refusals import refusal
from tensortime.store import Store, open_store

Words = ParamSpec("Words")
Result = TypeVar("Result")
PathLike = str | os.PathLike[str]


def locate(directory: PathLike | None = None, store: PathLike | None = None) -> tuple[Place, Config]:
    """The project around a folder (default: the current one), its store, and its configuration."""
    for option, given in (("-C", directory), ("--store", store)):
        if given is not None and not os.fspath(given):
            raise UsageError("{option} is empty", option=option, hint="leave it out, or name a folder")
    try:
        start = os.path.realpath(os.fspath(directory) if directory is not None else os.getcwd())
    except FileNotFoundError as problem:
        raise NotAProject(
            "the current folder was deleted", hint="cd into the project, or use -C DIR"
        ) from problem
    if not os.path.isdir(start):
        hint = "-C takes the project's folder"
        if os.path.lexists(start):
            raise NotAProject("{folder} is not a folder", folder=start, hint=hint)
        raise NotAProject("{folder} does not exist", folder=start, hint=hint)
    place = place_around(start, store)
    if place.parent is None and not place.store_inside and is_store(place.store):
        place = replace(place, project=recorded_project(place))
    return place, load_config(place.project)


def recorded_project(place: Place) -> str:
    """The nearest folder upward that a store elsewhere knows as a project, else the one that was found."""
    from tensortime.roster import read_roster  # for a store elsewhere only

    known = read_roster(open_store(place.store))
    folders = upward(place.project)
    return next((one for one in folders if known.has_project(text_of(os.fsencode(one)))), place.project)


def announce(place: Place, opened: Store, monitor: Monitor) -> None:
    """What a person should know of the store before the work begins."""
    for notice in opened.notices:
        monitor.say(notice)
    if not os.path.exists(opened.path(".cache")) or not os.listdir(opened.path(".cache")):
        monitor.say(
            message("project {project}, store {store}", project=place.project, store=place.shown_store)
        )


def say_if_taken(wanted: ExperimentName | None, name: ExperimentName | None, monitor: Monitor) -> None:
    """Say so where an experiment did not get the name that was asked for."""
    if wanted is not None and name != wanted:
        monitor.say(message("the name {wanted} is taken: this is {name}", wanted=wanted, name=name))


def is_backed_up(place: Place) -> bool:
    """Whether there is a store, and it is this project's: its own, or one elsewhere that has backups of it."""
    if not is_store(place.store):
        return False
    return (
        place.store_inside
        or place.parent is not None
        or bool(visible(place, open_store(place.store))[0].experiments)
    )


def paths_to_add(place: Place, add: Sequence[PathLike]) -> tuple[RelPath, ...]:
    """The paths to add, relative to the project; UnknownPath if there is none of them."""
    only = tuple(inside_project(place, path) for path in add)
    top = os.fsencode(place.project)
    if only and not any(os.path.lexists(os.path.join(top, path)) for path in only):
        raise UnknownPath(
            "nothing to add, no such file or folder: {paths}",
            paths=", ".join(text_of(path) for path in only[:3]),
            hint="paths are taken from the current folder, or from the project's top",
        )
    return only


def environment_failure(store: str, problem: OSError) -> TensorTimeError:
    """The error for a disk or permission that stopped an operation."""
    return refusal(store, problem)


def check_texts(**texts: str) -> None:
    """UsageError for what no file name and no commit message can carry."""
    for key, text in texts.items():
        if "\0" in text:
            raise UsageError("the {key} holds a NUL character", key=key)
        try:
            bytes_of(text)
        except UnicodeEncodeError as problem:
            raise UsageError("the {key} holds half a character: {text}", key=key, text=text[:80]) from problem


def as_meant(text: str) -> str:
    """A text as it was typed: under an ASCII locale Python hands over a UTF-8 argument as so many odd bytes."""
    try:
        return text_of(bytes_of(text))
    except UnicodeEncodeError:
        return text  # half a character: no name is like that


def inside_project(place: Place, path: PathLike) -> RelPath:
    """A path to add, relative to the project."""
    text = os.fspath(path)
    if not text or "\0" in text:
        raise UsageError("an empty path cannot be added")
    # What the script itself would open: from the current folder. Only what is not there is meant from the top.
    found = os.path.join(place.project, text)
    with contextlib.suppress(FileNotFoundError):  # the current folder may be gone
        here = os.path.abspath(text)
        found = here if os.path.lexists(here) else found
    folder, last = os.path.split(os.path.normpath(found))
    relative = os.path.relpath(os.path.join(os.path.realpath(folder), last), place.project)
    if relative == ".":
        raise UsageError("{path} is the whole project", path=text, hint="leave add out to back up all of it")
    if relative.startswith(".."):
        raise OutsideProject(
            "{path} is not inside the project {project}",
            path=text,
            project=place.project,
            hint="name a file or folder of the project; copy or link other things into it first",
        )
    return RelPath(bytes_of(relative))


def visible(place: Place, opened: Store) -> tuple[history.Catalog, history.Catalog]:
    """The experiments of this project, and all of the store. A store inside its project is all of it this project's."""
    catalog = history.read_catalog(opened.shadow)
    if place.store_inside or place.parent is not None:
        return catalog, catalog
    return history.of_project(catalog, place.project), catalog


def explaining(verb: Callable[Words, Result]) -> Callable[Words, Result]:
    """A verb whose failures at the disk are errors that a person can read, wherever they happen."""

    @functools.wraps(verb)
    def wrapper(*words: Words.args, **more: Words.kwargs) -> Result:
        try:
            return verb(*words, **more)
        except OSError as problem:
            raise refusal(os.curdir, problem) from problem

    return wrapper


@contextlib.contextmanager
def store_trouble(store: str) -> Iterator[None]:
    """What the disk or a permission stops becomes an error that says so."""
    try:
        yield
    except OSError as problem:
        raise environment_failure(store, problem) from problem


def find(experiment: str, directory: PathLike | None, store: PathLike | None) -> tuple[Store, history.Target]:
    """The store and the backup that a person named."""
    place, _ = locate(directory, store)
    opened = open_store(place.store)
    return opened, resolve(place, opened, experiment)


def resolve(place: Place, opened: Store, experiment: str) -> history.Target:
    """The backup that a person named: of this project, or by its name one of another in the same store."""
    return resolve_among(opened, *visible(place, opened), experiment)


def resolve_among(
    opened: Store, own: history.Catalog, catalog: history.Catalog, experiment: str
) -> history.Target:
    """As `resolve`, where the experiments are read already; `own`: those of this project."""
    text = as_meant(experiment)
    try:
        # Who names a store from a folder that it does not know means what is in it.
        return history.resolve(opened.shadow, own if own.experiments else catalog, text)
    except UnknownExperiment:
        if own is not catalog and not text.startswith("@"):
            with contextlib.suppress(UnknownExperiment):
                return history.resolve(opened.shadow, catalog, text)
        if not text.startswith("@") and catalog.find(text.rpartition(":")[0]) is None:
            point_at_trash(opened, text)
        raise


def point_at_trash(opened: Store, text: str) -> None:
    """UnknownExperiment with what takes it back, if what was named lies in the trash."""
    from tensortime.trash import trash_hint  # what a usual call need not pay

    hint = trash_hint(opened.shadow, text)
    if hint is not None:
        raise UnknownExperiment("no experiment is called {text}", text=text[:80], hint=hint) from None

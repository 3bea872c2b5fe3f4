"""The verbs: find the project, open the store, do one operation, return a frozen report.

The command line and TimeMachine call the same functions. None of them prints, asks, or changes the process.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tensortime import checkout, editing, extraction, history, snapshot
from tensortime.config import KEYS, Config, load_config
from tensortime.errors import (
    Damaged,
    NoSpace,
    NotAProject,
    OutsideProject,
    StoreUnusable,
    TensorTimeError,
    UnknownExperiment,
    UnknownPath,
    UsageError,
    message,
)
from tensortime.formats import RelPath, bytes_of, text_of
from tensortime.ignoring import Matcher
from tensortime.intake import FULL
from tensortime.manifest import ManifestEntry
from tensortime.messages import Translator, choose_language
from tensortime.monitor import Monitor, NullMonitor
from tensortime.names import ExperimentName
from tensortime.project import Place, find_place, refuse_store_around, refuse_wide_project, upward
from tensortime.ranks import is_off
from tensortime.redaction import redact_named
from tensortime.reports import (
    BackupReport,
    Experiment,
    LogReport,
    RestoreReport,
    Setting,
    SettingsReport,
    ShowReport,
)
from tensortime.session import BackupOptions, Collector
from tensortime.sidecar import rehash_object
from tensortime.store import DEFAULT_STORE, Store, create_store, is_store, open_store
from tensortime.trailers import plain

if TYPE_CHECKING:
    from tensortime.differences import DiffReport

SILENT = NullMonitor()
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


def place_around(start: str, store: PathLike | None) -> Place:
    """The project and store of a folder, as the paths and the configuration tell."""
    asked = os.fspath(store) if store is not None else os.environ.get("TENSORTIME_STORE") or None
    return find_place(start, asked, lambda folder: load_config(folder).backup_dir)


def translator(directory: PathLike | None = None, store: PathLike | None = None) -> Translator:
    """The language for the person who works around a folder. What is wrong there is for others to say."""
    configured = None
    with contextlib.suppress(TensorTimeError, OSError):
        start = os.path.realpath(directory or os.getcwd())
        configured = load_config(place_around(start, store).project).lang
    return Translator(choose_language(os.environ, configured))


def recorded_project(place: Place) -> str:
    """The nearest folder upward that a store elsewhere knows as a project, else the one that was found."""
    known = {one.project for one in history.read_catalog(open_store(place.store).shadow).experiments}
    return next((one for one in upward(place.project) if text_of(os.fsencode(one)) in known), place.project)


def backup(
    *,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    name: str | None = None,
    note: str = "",
    ignore: Sequence[PathLike] = (),
    add: Sequence[PathLike] | None = None,
    joins: bool | None = None,
    params: Mapping[str, object] | None = None,
    metrics: Mapping[str, object] | None = None,
    rehash: bool = False,
    from_shell: bool = False,
    command: Sequence[str] | None = None,
    typed_in: str | None = None,
    large_until: float | None = None,
    monitor: Monitor = SILENT,
) -> BackupReport:
    """Back up the project, or with `add` put only these paths on top of an experiment's newest backup.

    `joins`: continue the experiment called `name` if there is one, instead of starting `name-2`. Left out, `add`
    joins, without `name` the newest experiment. `from_shell`: made for a command that a person types, so the Python
    whose packages are recorded is not this one but that of the shell; `command`, `typed_in`: that command, and where.
    `large_until`: see BackupOptions. With TENSORTIME=off nothing is done, and the report's experiment
    is None. Raises TensorTimeError; nothing is published then.
    """
    check_texts(note=note, name=name or "")
    if is_off(os.environ):
        return BackupReport(experiment=None)
    place, config = locate(directory, store)
    refuse_wide_project(place.project)
    refuse_store_around(place)
    options = BackupOptions(
        name=None if name is None else ExperimentName(as_meant(name)),
        joins=add is not None if joins is None else joins,
        note=as_meant(note),
        ignore=tuple(os.fspath(pattern) for pattern in ignore),
        only=None if add is None else paths_to_add(place, add),
        params=recorded(params),
        metrics=recorded(metrics),
        rehash=rehash,
        large_size=config.large_size,
        follow=config.follow,
        ignored_by_config=config.ignore,
        is_hardlink=Matcher.of("hardlink", config.hardlink, place.project).covers,
        max_store=config.max_store,
        large_until=large_until,
    )
    # Not for `log` and `show`: what finds out about the run takes longer to load than they take altogether.
    from tensortime.collector import start_collecting

    newest = add is not None and name is None and joins is None
    collector = start_collecting(place.project, command, typed_in, from_shell=from_shell, whole=add is None)
    return back_up(place, options, collector, newest=newest, monitor=monitor)


def recorded(values: Mapping[str, object] | None) -> dict[str, object]:
    """Params or metrics as they are recorded: as JSON can hold them, without secrets."""
    return {str(key): redact_named(str(key), plain(value)) for key, value in (values or {}).items()}


def back_up(
    place: Place, options: BackupOptions, collector: Collector, *, newest: bool, monitor: Monitor
) -> BackupReport:
    """Open the store, making it first if there is none, and make the backup; `newest`: in the newest experiment."""
    try:
        opened = create_store(place.store)
        announce(place, opened, monitor)
        own = visible(place, opened)[0].experiments if newest else ()
        if own:
            options = replace(options, name=own[0].name)
        try:
            return snapshot.back_up(place, opened, options, collector, monitor)
        finally:
            opened.give_to_owner()
    except OSError as problem:
        raise environment_failure(place.store, problem) from problem
    finally:
        collector.cancel()


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


def announce(place: Place, opened: Store, monitor: Monitor) -> None:
    """What a person should know of the store before the work begins."""
    for notice in opened.notices:
        monitor.say(notice)
    if not os.path.exists(opened.path(".cache")) or not os.listdir(opened.path(".cache")):
        monitor.say(
            message("project {project}, store {store}", project=place.project, store=place.shown_store)
        )


def environment_failure(store: str, problem: OSError) -> TensorTimeError:
    """The error for a disk or permission that stopped an operation."""
    kind = NoSpace if problem.errno in FULL else StoreUnusable
    where = os.fsdecode(problem.filename) if problem.filename is not None else store
    return kind(
        "the store cannot be used: {path}: {problem}",
        path=where,
        problem=problem.strerror or str(problem),
        hint="ls -ld and df -h on that path show what is in the way",
    )


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


def log(
    *, directory: PathLike | None = None, store: PathLike | None = None, everything: bool = False
) -> LogReport:
    """The experiments of this project, newest first; `everything`: all of the store."""
    place, _ = locate(directory, store)
    own, catalog = visible(place, open_store(place.store))
    shown = (catalog if everything else own).experiments
    return LogReport(shown, catalog.damaged, len(catalog.experiments) - len(shown))


def show(experiment: str, *, directory: PathLike | None = None, store: PathLike | None = None) -> ShowReport:
    """One experiment: its facts, its backups, and what it recorded of its run."""
    opened, target = find(experiment, directory, store)
    with history.damage_in(target):
        items = [item for item in opened.shadow.tree(target.commit) if item.path == b".tensortime/run.json"]
        meta = history.read_meta(opened.shadow, items)
        facts = history.read_facts(opened.shadow, target.commit)
        entries = history.read_history(opened.shadow, target.experiment.commit)
    return ShowReport(
        history.described(target.experiment.name, target.commit, facts, target.experiment.tags),
        entries,
        history.run_of(meta),
    )


def note(
    experiment: str, text: str, *, directory: PathLike | None = None, store: PathLike | None = None
) -> Experiment:
    """Give an experiment another note; returns the experiment as it is then."""
    check_texts(note=text)
    opened, target = find(experiment, directory, store)
    editing.refuse_older(target)
    with history.damage_in(target), store_trouble(opened.folder):
        editing.write_note(opened, target.experiment.name, as_meant(text))
    return as_it_is_now(opened, target)


def tag(
    experiment: str,
    tags: Sequence[str],
    *,
    remove: bool = False,
    directory: PathLike | None = None,
    store: PathLike | None = None,
) -> Experiment:
    """Tag an experiment, or with `remove` take these tags off; returns the experiment as it is then."""
    if isinstance(tags, str):
        raise TypeError(f"tags must be a list, such as [{tags!r}], not one text")
    check_texts(tag="".join(tags))
    opened, target = find(experiment, directory, store)
    wanted = [as_meant(one) for one in tags]
    with store_trouble(opened.folder):
        if remove:
            editing.remove_tags(opened, target.experiment, wanted)
        else:
            editing.add_tags(opened, target, wanted)
    return as_it_is_now(opened, target)


def as_it_is_now(opened: Store, target: history.Target) -> Experiment:
    """An experiment after an edit."""
    return history.read_catalog(opened.shadow).find(target.experiment.name) or target.experiment


@contextlib.contextmanager
def store_trouble(store: str) -> Iterator[None]:
    """What the disk or a permission stops becomes an error that says so."""
    try:
        yield
    except OSError as problem:
        raise environment_failure(store, problem) from problem


def settings(*, directory: PathLike | None = None, store: PathLike | None = None) -> SettingsReport:
    """What is configured in a project, and where each value comes from."""
    place, config = locate(directory, store)
    asked = {
        "backup_dir": ("--store", store)
        if store
        else ("TENSORTIME_STORE", os.environ.get("TENSORTIME_STORE")),
        "lang": ("TENSORTIME_LANG", os.environ.get("TENSORTIME_LANG")),
    }
    implied = {"backup_dir": DEFAULT_STORE, "lang": choose_language(os.environ)}
    rows = []
    for key in KEYS:
        source, value = asked.get(key, ("", None))
        if not value:
            source, value = config.sources[key], getattr(config, key)
        rows.append(Setting(key, implied.get(key) if value is None else value, source))
    return SettingsReport(place.project, place.store, tuple(rows))


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


def diff(
    a: str,
    b: str | None = None,
    *,
    patch: bool = False,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    from_shell: bool = False,
    monitor: Monitor = SILENT,
) -> "DiffReport":
    """What differs from one backup to another, or without `b` to the project as it is now; nothing is stored.

    `a`, `b`: as a person names experiments (`lr3e-4`, `@`, `NAME:1`). The report has `a` and `b` (which states these
    are), `causes` (command, params, packages, code, data, environment, machine), `effects` (metrics, outputs: what
    later backups of an experiment added to its first or changed), `left_out` (what one state holds and the other
    left out), `unknown` (of what one of the two knows nothing) and `is_empty`. `patch`: with the lines of code. `from_shell`:
    the Python that would train is not this one but that of the shell.
    """
    from tensortime import comparison, present, stored  # 20 ms that the other verbs need not pay

    place, config = locate(directory, store)
    opened = open_store(place.store)
    target = resolve(place, opened, a)
    try:
        if b is not None:
            old, new = stored.of_backups(opened, target, resolve(place, opened, b))
        else:
            refuse_wide_project(place.project)
            old = stored.of_backup(opened, target)
            new = present.of_project(place, opened, config, old, from_shell=from_shell, monitor=monitor)
        return comparison.compare(old, new, patch=patch)
    except OSError as problem:
        raise environment_failure(place.store, problem) from problem


def read_file(
    experiment: str, path: str, *, directory: PathLike | None = None, store: PathLike | None = None
) -> tuple[bytes | None, int | None]:
    """One file of a backup: its bytes, or an open descriptor of the object that holds them (checked first)."""
    opened, target = find(experiment, directory, store)
    with history.damage_in(target):
        data, entry = extraction.read_one(opened, target, path)
        if entry is None or entry.digest is None or entry.size is None:
            return data, None
        checked(opened, entry, path)
        return None, opened.sidecar().open_object(entry.digest, entry.size)


def checked(opened: Store, entry: ManifestEntry, path: str) -> None:
    """Damaged unless the object holds what its digest says."""
    if entry.digest is not None and not rehash_object(opened.sidecar(), entry.digest):
        raise Damaged(
            "{path} cannot come back: the object {digest} is missing or damaged",
            path=path,
            digest=entry.digest,
        )


def restore(
    experiment: str,
    destination: PathLike | None = None,
    *,
    paths: Sequence[str] = (),
    link: str = "auto",
    directory: PathLike | None = None,
    store: PathLike | None = None,
    monitor: Monitor = SILENT,
) -> RestoreReport:
    """Bring a backup back: a new git worktree, or with `paths` these files alone. Never over existing files.

    `destination`: default `<store>/<experiment>` (`.files` behind it for `paths`). `link`: how large files are
    placed: auto (reflink, else copy), reflink, copy, hardlink or symlink.
    """
    if link not in checkout.LINKS:
        raise UsageError(
            "{link} is no way to place files",
            link=link,
            hint=message("one of {ways}", ways=", ".join(checkout.LINKS)),
        )
    if destination is not None and not os.fspath(destination):
        raise UsageError("the destination is empty", hint="leave it out, or name a new folder")
    place, _ = locate(directory, store)
    opened = open_store(place.store)
    target = resolve(place, opened, experiment)
    folder = str(target.experiment.name)
    if target.number != target.experiment.backups:
        folder += f"-{target.number}"
    default = opened.path(os.fsdecode(bytes_of(folder)) + (".files" if paths else ""))
    wanted = default if destination is None else os.path.abspath(os.fspath(destination))
    final = os.path.join(os.path.realpath(os.path.dirname(wanted)), os.path.basename(wanted))
    if not paths and not opened.is_writable:
        if destination is None:
            raise StoreUnusable(
                "the store {store} cannot be written: Permission denied, or a read-only disk",
                store=place.store,
                hint="name a destination elsewhere",
            )
        monitor.warn(message("the store cannot be written: these are plain files, no git worktree"))
        paths = [extraction.EVERYTHING_TYPED]
    try:
        with history.damage_in(target):
            if paths:
                return extraction.restore_paths(opened, target, paths, final, link, monitor)
            return checkout.restore(opened, place.project, target, final, link, monitor)
    except OSError as problem:
        raise environment_failure(place.store, problem) from problem
    finally:
        opened.give_to_owner()

"""The verbs: find the project, open the store, do one operation, return a frozen report.

The command line and TimeMachine call the same functions. None of them prints, asks, or changes the process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tensortime import history
from tensortime.config import KEYS
from tensortime.errors import (
    Damaged,
    StoreUnusable,
    UsageError,
    message,
)
from tensortime.experiments import LogReport
from tensortime.formats import bytes_of
from tensortime.landmarks import DEFAULT_STORE
from tensortime.lookup import (
    PathLike,
    announce,
    as_meant,
    check_texts,
    environment_failure,
    explaining,
    find,
    locate,
    paths_to_add,
    resolve,
    say_if_taken,
    store_trouble,
    visible,
)
from tensortime.messages import choose_language
from tensortime.monitor import SILENT, Monitor
from tensortime.names import ExperimentName
from tensortime.project import Place, refuse_store_around, refuse_wide_project
from tensortime.ranks import is_off
from tensortime.records import with_live_metrics
from tensortime.store import Store, create_store, open_store
from tensortime.trailers import plain

if TYPE_CHECKING:
    from tensortime.answers import SettingsReport
    from tensortime.backlog import Backlog
    from tensortime.chronicle import ShowReport
    from tensortime.differences import DiffReport
    from tensortime.experiments import Experiment
    from tensortime.manifest import ManifestEntry
    from tensortime.reports import BackupReport, RestoreReport
    from tensortime.session import BackupOptions, Collector


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
    backlog: Backlog | None = None,
    monitor: Monitor = SILENT,
) -> BackupReport:
    """Back up the project, or with `add` put only these paths on top of an experiment's newest backup.

    `joins`: continue the experiment called `name` if there is one, instead of starting `name-2`. Left out, `add`
    joins, without `name` the newest experiment. `from_shell`: made for a command that a person types, so the Python
    whose packages are recorded is not this one but that of the shell; `command`, `typed_in`: that command, as the words
    of a line that no shell has read yet, and where.
    `large_until`: see BackupOptions; `backlog`: see snapshot.back_up. With TENSORTIME=off nothing is done, and the report's experiment
    is None. Raises TensorTimeError; nothing is published then.
    """
    check_texts(note=note, name=name or "")
    if is_off(os.environ):
        from tensortime.reports import BackupReport

        return BackupReport(experiment=None)
    # Each verb loads its operation when it is called: `log` and `show` pay for none.
    from tensortime.collector import start_collecting
    from tensortime.session import configured

    place, config = locate(directory, store)
    refuse_wide_project(place.project)
    refuse_store_around(place)
    options = replace(
        configured(config, place.project),
        name=None if name is None else ExperimentName(as_meant(name)),
        joins=add is not None if joins is None else joins,
        note=as_meant(note),
        ignore=tuple(os.fspath(pattern) for pattern in ignore),
        only=None if add is None else paths_to_add(place, add),
        params=recorded(params),
        metrics=recorded(metrics),
        rehash=rehash,
        large_until=large_until,
    )
    newest = add is not None and name is None and joins is None
    collector = start_collecting(
        place.project,
        command,
        typed_in,
        from_shell=from_shell,
        whole=add is None,
        as_line=command is not None,
    )
    return back_up(place, options, collector, newest=newest, backlog=backlog, monitor=monitor)


def recorded(values: Mapping[str, object] | None) -> dict[str, object]:
    """Params or metrics as they are recorded: as JSON can hold them, without secrets."""
    from tensortime.redaction import redact_named

    return {str(key): redact_named(str(key), plain(value)) for key, value in (values or {}).items()}


def back_up(
    place: Place,
    options: BackupOptions,
    collector: Collector,
    *,
    newest: bool,
    monitor: Monitor,
    backlog: Backlog | None = None,
) -> BackupReport:
    """Open the store, making it first if there is none, and make the backup; `newest`: in the newest experiment."""
    from tensortime import snapshot

    try:
        opened = create_store(place.store)
        announce(place, opened, monitor)
        own = visible(place, opened)[0].experiments if newest else ()
        if own:
            options = replace(options, name=own[0].name)
        try:
            report = snapshot.back_up(place, opened, options, collector, monitor, backlog)
        finally:
            opened.give_to_owner()
        say_if_taken(options.name, report.experiment, monitor)
        return report
    except OSError as problem:
        raise environment_failure(place.store, problem) from problem
    finally:
        collector.close()


@explaining
def log(
    *,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    everything: bool = False,
    where: str | None = None,
    since: str | None = None,
    sort: str | None = None,
    reverse: bool = False,
) -> LogReport:
    """The experiments of this project, newest first; `everything`: all of the store.

    `where`: only those for which this holds, such as `lr < 0.1 and tag == "paper"`. `since`: only those with a backup
    since then: `2d` ago, or a date. `sort`: by this value, the smallest first (with `-` before it the largest), those
    without it last; `reverse` turns the order round. QueryError, UsageError.
    """
    place, _ = locate(directory, store)
    own, catalog = visible(place, open_store(place.store))
    shown = with_live_metrics(place.store, (catalog if everything else own).experiments)
    report = LogReport(shown, catalog.damaged, len(catalog.experiments) - len(shown))
    if where is None and since is None and sort is None and not reverse:
        return report
    from tensortime import selection  # what bare `log` need not pay

    return selection.select(report, where=where, since=since, sort=sort, reverse=reverse)


@explaining
def show(experiment: str, *, directory: PathLike | None = None, store: PathLike | None = None) -> ShowReport:
    """One experiment: its facts, its backups, and what it recorded of its run."""
    from tensortime.chronicle import ShowReport

    opened, target = find(experiment, directory, store)
    with history.damage_in(target):
        items = [item for item in opened.shadow.tree(target.commit) if item.path == b".tensortime/run.json"]
        meta = history.read_meta(opened.shadow, items)
        facts = history.read_facts(opened.shadow, target.commit)
        entries = history.read_history(opened.shadow, target.experiment.commit)
    shown = history.described(target.experiment.name, target.commit, facts, target.experiment.tags)
    if target.number == target.experiment.backups:
        [shown] = with_live_metrics(opened.folder, [replace(shown, status=target.experiment.status)])
    left = ""
    if shown.status == "interrupted" and shown.runner:
        from tensortime.worktrees import left_folder  # only a killed command left one

        left = left_folder(opened, shown)
    return ShowReport(shown, entries, history.run_of(meta), left)


@explaining
def note(
    experiment: str, text: str, *, directory: PathLike | None = None, store: PathLike | None = None
) -> Experiment:
    """Give an experiment another note; returns the experiment as it is then."""
    from tensortime import editing

    check_texts(note=text)
    opened, target = find(experiment, directory, store)
    editing.refuse_older(target)
    with history.damage_in(target), store_trouble(opened.folder):
        editing.write_note(opened, target.experiment.name, as_meant(text))
    return as_it_is_now(opened, target)


@explaining
def tag(
    experiment: str,
    tags: Sequence[str],
    *,
    remove: bool = False,
    directory: PathLike | None = None,
    store: PathLike | None = None,
) -> Experiment:
    """Tag an experiment, or with `remove` take these tags off; returns the experiment as it is then."""
    from tensortime import editing

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


def settings(*, directory: PathLike | None = None, store: PathLike | None = None) -> SettingsReport:
    """What is configured in a project, and where each value comes from."""
    from tensortime.answers import Setting, SettingsReport

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


@explaining
def diff(
    a: str,
    b: str | None = None,
    *,
    patch: bool = False,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    from_shell: bool = False,
    monitor: Monitor = SILENT,
) -> DiffReport:
    """What differs from one backup to another, or without `b` to the project as it is now; nothing is stored.

    `a`, `b`: as a person names experiments (`lr3e-4`, `@`, `NAME:1`). The report has `a` and `b` (which states these
    are), `causes` (command, params, packages, code, data, environment, machine), `effects` (metrics, outputs: what
    backups with `add` put on top of an experiment's whole ones), `left_out` (what one state holds and the other
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


@explaining
def read_file(
    experiment: str, path: str, *, directory: PathLike | None = None, store: PathLike | None = None
) -> tuple[bytes | None, int | None]:
    """One file of a backup: its bytes, or an open descriptor of the object that holds them (checked first)."""
    from tensortime import extraction

    opened, target = find(experiment, directory, store)
    with history.damage_in(target):
        data, entry = extraction.read_one(opened, target, path)
        if entry is None or entry.digest is None or entry.size is None:
            return data, None
        checked(opened, entry, path)
        return None, opened.sidecar().open_object(entry.digest, entry.size)


def checked(opened: Store, entry: ManifestEntry, path: str) -> None:
    """Damaged unless the object holds what its digest says."""
    from tensortime.sidecar import rehash_object

    if entry.digest is not None and not rehash_object(opened.sidecar(), entry.digest):
        raise Damaged(
            "{path} cannot come back: the object {digest} is missing or damaged",
            path=path,
            digest=entry.digest,
        )


@explaining
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
    from tensortime import checkout

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
    if paths or not opened.is_writable:
        from tensortime import extraction  # 2 ms that a whole worktree need not pay
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

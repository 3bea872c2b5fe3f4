"""The verbs that look after a store: verify, gc, purge, doctor. As those of `api`: find, open, do one operation."""

import re
from collections.abc import Sequence

from tensortime import fsck, health, prune, purging
from tensortime.answers import DoctorReport, GcReport, PurgeReport, VerifyReport
from tensortime.config import parse_size
from tensortime.errors import BadConfig, StoreUnusable, UsageError
from tensortime.history import damage_in
from tensortime.landmarks import is_store
from tensortime.lookup import PathLike, environment_failure, inside_project, locate, resolve
from tensortime.monitor import SILENT, Monitor
from tensortime.reading import Share
from tensortime.store import Store, open_store


def verify(
    experiment: str | None = None,
    *,
    read_data: str | None = None,
    repair: bool = False,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    monitor: Monitor = SILENT,
) -> VerifyReport:
    """Check that all is there that the backups need, and with `read_data` that it is right.

    `experiment`: only this one (`NAME:n`: only this backup). `read_data`: `all`, a part (`5%`) or a size (`1G`); calls
    with less than all go on where the last one ended. `repair`: move aside what is provably wrong.
    """
    share = None if read_data is None else parse_share(read_data)
    place, _ = locate(directory, store)
    opened = open_store(place.store)
    if repair:
        refuse_read_only(opened)
    target = None if experiment is None else resolve(place, opened, experiment)
    alone = experiment is not None and re.search(r".:\d+$", experiment) is not None
    scope = fsck.Scope(target, alone, share)
    try:
        if target is None:
            return fsck.verify(opened, scope, repair, monitor)
        with damage_in(target):
            return fsck.verify(opened, scope, repair, monitor)
    except OSError as problem:
        raise environment_failure(place.store, problem) from problem
    finally:
        opened.give_to_owner()


def gc(
    *,
    dry_run: bool = False,
    trash: bool = False,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    monitor: Monitor = SILENT,
) -> GcReport:
    """Free the bytes that nobody needs; `trash`: also what was removed and could still be taken back.

    `dry_run`: only say how much that would be. StoreBusy while a backup or restore runs.
    """
    place, _ = locate(directory, store)
    opened = open_store(place.store)
    if not dry_run:
        refuse_read_only(opened)
    try:
        return prune.collect(opened, trash=trash, dry_run=dry_run, monitor=monitor)
    except OSError as problem:
        raise environment_failure(place.store, problem) from problem
    finally:
        opened.give_to_owner()


def purge(
    paths: Sequence[PathLike],
    *,
    dry_run: bool = False,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    monitor: Monitor = SILENT,
) -> PurgeReport:
    """Take files and folders of the project out of every backup, and their bytes out of the store. No way back.

    `dry_run`: only say what that would be. Files in restored folders are named and stay. Damaged where a backup
    cannot be read: nothing is changed then.
    """
    if not paths:
        raise UsageError("nothing to purge", hint="tensortime purge PATH…")
    place, _ = locate(directory, store)
    opened = open_store(place.store)
    wanted = tuple(inside_project(place, path) for path in paths)
    if not dry_run:
        refuse_read_only(opened)
    try:
        return purging.purge(opened, wanted, dry_run=dry_run, monitor=monitor)
    except OSError as problem:
        raise environment_failure(place.store, problem) from problem
    finally:
        opened.give_to_owner()


def doctor(
    *,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    monitor: Monitor = SILENT,
) -> DoctorReport:
    """Look whether everything is as backups need it, and say what is not in words that a person can act on."""
    place, config = locate(directory, store)
    opened = open_store(place.store) if is_store(place.store) else None
    try:
        return DoctorReport(health.examine(place, opened, config, monitor))
    except OSError as problem:
        raise environment_failure(place.store, problem) from problem
    finally:
        if opened is not None:
            opened.give_to_owner()


def parse_share(text: str) -> Share:
    """How much data to read, as it is typed: `all`, `5%`, `1G`."""
    typed = text.strip().lower()
    part = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", typed)
    if typed in ("all", "true", "yes") or (part and float(part[1]) >= 100):
        return Share()
    if part and float(part[1]) > 0:
        return Share(part=float(part[1]) / 100)
    try:
        return Share(size=parse_size(typed))
    except (BadConfig, ValueError) as problem:
        raise UsageError(
            "{text} is no share of the data",
            text=text[:40],
            hint="--read-data, --read-data=5% or --read-data=1G",
        ) from problem


def refuse_read_only(opened: Store) -> None:
    """StoreUnusable where nothing can be changed."""
    if not opened.is_writable:
        raise StoreUnusable(
            "the store {store} cannot be written: Permission denied, or a read-only disk",
            store=opened.folder,
            hint="work as the user that it belongs to, on a disk that is mounted for writing",
        )

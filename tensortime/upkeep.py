"""The verbs that keep a store in order: `du`, `rm`, `undelete`. As those of `api`, each does one thing and returns a
frozen report.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence

from tensortime import clearance, trash, usage
from tensortime.errors import StoreUnusable, TensorTimeError, UsageError, message
from tensortime.experiments import Experiment
from tensortime.inventory import (
    ClearingReport,
    RemovalPlan,
    RemovalReport,
    Trash,
    UndeleteReport,
    UsageReport,
)
from tensortime.lookup import (
    PathLike,
    as_meant,
    environment_failure,
    explaining,
    locate,
    resolve_among,
    visible,
)
from tensortime.monitor import SILENT, Monitor
from tensortime.project import Place
from tensortime.retention import KeepRules, choose
from tensortime.store import Store, open_store


@explaining
def du(
    experiments: Sequence[str] = (),
    *,
    paths: bool = False,
    everything: bool = False,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    monitor: Monitor = SILENT,
) -> UsageReport:
    """What the experiments of this project cost, or only the named ones, and where the store's bytes are.

    With names, what would be freed if all of these went; `paths`: also the paths that take most; `everything`:
    the experiments of other projects in the same store too.
    """
    place, _ = locate(directory, store)
    opened = open_store(place.store)
    own, catalog = visible(place, opened)
    named = [resolve_among(opened, own, catalog, whole(text)).experiment for text in experiments]
    shown = list({one.name: one for one in named}.values())
    if not named:
        shown = list((catalog if everything else own).experiments)
    return usage.measure(opened, shown, together=bool(named), paths=paths, monitor=monitor)


def whole(text: str) -> str:
    """The text of an experiment; UsageError for `NAME:2`: the room of one backup alone cannot be had."""
    name, colon, number = text.rpartition(":")
    if colon and name and number.isdecimal():
        raise UsageError(
            "{text} is one backup: du tells what whole experiments cost",
            text=text,
            hint=message("tensortime du {name}", name=name),
        )
    return text


@explaining
def rm(
    experiments: Sequence[str] = (),
    *,
    keep_last: int | None = None,
    keep_within: str | None = None,
    keep_tags: Sequence[str] = (),
    keep_daily: int | None = None,
    keep_weekly: int | None = None,
    dry_run: bool = False,
    directory: PathLike | None = None,
    store: PathLike | None = None,
    monitor: Monitor = SILENT,
) -> RemovalReport:
    """Move experiments into the trash: the named ones, or all of this project that no `keep_…` rule keeps.

    No byte is freed: `undelete` takes them back, `gc` frees what nobody needs. `dry_run` only plans. Protected for a
    named one that is tagged `keep`; UsageError for rules that would keep nothing.
    """
    rules = KeepRules(keep_last, keep_within, tuple(keep_tags), keep_daily, keep_weekly)
    check_call(experiments, rules)
    place, _ = locate(directory, store)
    opened = open_store(place.store)
    plan = plan_removal(place, opened, experiments, rules)
    folders = usage.worktrees_of(
        (one for _, one in trash.restored_folders(opened)), (one.name for one in plan.removed)
    )
    before = len(trash.read_trash(opened.shadow).entries)
    if dry_run:
        count = before + len(plan.removed)
        return RemovalReport(plan, True, count, freeable(opened, plan.removed, monitor), folders)
    with changing(place, opened):
        trash.remove(opened, plan.removed)
    after = len(trash.read_trash(opened.shadow).entries)
    return RemovalReport(plan, False, after, freeable(opened, (), monitor), folders)


def check_call(experiments: Sequence[str], rules: KeepRules) -> None:
    """UsageError unless there are names or rules, and not both."""
    if experiments and rules.given:
        raise UsageError(
            "names and --keep rules do not go together",
            hint="name what to remove, or say what to keep of everything",
        )
    if not experiments and not rules.given:
        raise UsageError(
            "nothing to remove was named",
            hint="tensortime rm NAME…, or tensortime rm --keep-last 20 (--dry-run shows what it would do)",
        )
    counts = (("--keep-last", rules.last), ("--keep-daily", rules.daily), ("--keep-weekly", rules.weekly))
    for option, count in counts:
        if count is not None and count < 1:
            raise UsageError("{option} takes a number from 1 on, not {count}", option=option, count=count)


def plan_removal(place: Place, opened: Store, experiments: Sequence[str], rules: KeepRules) -> RemovalPlan:
    """Which experiments go, before anything is touched."""
    own, catalog = visible(place, opened)
    if rules.given:
        return choose(own.experiments, rules)
    for text in experiments:
        trash.refuse_single_backup(text)
    named = [resolve_among(opened, own, catalog, text).experiment for text in experiments]
    return trash.plan_named(catalog, named)


def freeable(opened: Store, also: Iterable[Experiment], monitor: Monitor) -> int | None:
    """What emptying the trash would free; None where a damaged store cannot tell."""
    with contextlib.suppress(TensorTimeError, OSError):
        return usage.freeable(opened, also, monitor)
    return None


@explaining
def rm_worktree(
    experiment: str,
    *,
    force: bool = False,
    directory: PathLike | None = None,
    store: PathLike | None = None,
) -> ClearingReport:
    """Remove the folder that `restore` made of an experiment (or that folder, named by its path), after comparing it.

    Protected where it holds what its backup does not, unless `force`. Commits that a person made in it are kept.
    """
    place, _ = locate(directory, store)
    opened = open_store(place.store)
    with changing(place, opened):
        return clearance.clear(opened, visible(place, opened)[1], as_meant(experiment), force=force)


@explaining
def undelete(
    experiments: Sequence[str], *, directory: PathLike | None = None, store: PathLike | None = None
) -> UndeleteReport:
    """Take experiments back out of the trash; of several with a name the one that was removed last."""
    place, _ = locate(directory, store)
    opened = open_store(place.store)
    with changing(place, opened):
        return UndeleteReport(trash.undelete(opened, [as_meant(text) for text in experiments]))


@explaining
def trashed(*, directory: PathLike | None = None, store: PathLike | None = None) -> Trash:
    """What can be taken back, the last removed first."""
    place, _ = locate(directory, store)
    return trash.read_trash(open_store(place.store).shadow)


@contextlib.contextmanager
def changing(place: Place, opened: Store) -> Iterator[None]:
    """Around what changes a store: StoreUnusable where it cannot be written, and what is new stays its owner's."""
    if not opened.is_writable:
        raise StoreUnusable(
            "the store {store} cannot be written: Permission denied, or a read-only disk",
            store=place.store,
            hint="is it yours? ls -ld shows its owner",
        )
    try:
        yield
    except OSError as problem:
        raise environment_failure(os.fspath(place.store), problem) from problem
    finally:
        opened.give_to_owner()

"""Removing a restored folder: compared first, and nothing but that folder and git's record of it.

find its record ──> refuse what stands in it ──> compare ──> keep a person's commits ──> rename away ──> remove
"""

import contextlib
import os
from collections.abc import Sequence

from tensortime import fsops
from tensortime.destination import losses_in
from tensortime.errors import (
    AmbiguousName,
    NotFound,
    Protected,
    StoreBusy,
    StoreUnusable,
    TensorTimeError,
    UnknownExperiment,
    listing,
    message,
)
from tensortime.formats import Oid, is_inside
from tensortime.history import Catalog, resolve_experiment
from tensortime.inventory import ClearingReport, Restored
from tensortime.project import read_parent
from tensortime.store import Store
from tensortime.trash import restored_folders
from tensortime.worktrees import PARTIAL, claimed, keep_commits, mend_worktrees

NAMED = 5
"""Changed paths that an error names."""


def clear(store: Store, catalog: Catalog, text: str, *, force: bool) -> ClearingReport:
    """Remove the folder that an experiment (or one of its backups, `NAME:1`) was restored into.

    `text` may be the folder itself. NotFound, AmbiguousName; Protected for a changed one unless `force`, and always
    for one that the current folder, the store or another restored folder lies in.
    """
    with store.in_use():
        mend_worktrees(store)
        admin, folder = find_folder(store, catalog, text)
        with claimed(store, folder.path) as got:
            if not got:
                raise StoreBusy("another process works on {path}", path=folder.path)
            refuse_inside(store, folder.path)
            changed = compare(store, admin, folder, force)
            pin = keep_commits(store, admin)
            take_away(store, folder.path)
            fsops.remove_tree(admin)
    return ClearingReport(folder, tuple(changed), pin)


def find_folder(store: Store, catalog: Catalog, text: str) -> tuple[str, Restored]:
    """The one restored folder that a person means, with its record."""
    known = [(admin, one) for admin, one in restored_folders(store) if not one.path.endswith(PARTIAL)]
    path = os.path.realpath(text)
    found = [(admin, one) for admin, one in known if text and os.path.realpath(one.path) == path]
    found = found or named_folders(known, catalog, text)
    if not found:
        raise NotFound(
            "no restored folder of {text} is known",
            text=text[:80],
            hint=message("the folders: {folders}", folders=listing([one.path for _, one in known], NAMED))
            if known
            else "nothing is restored here now",
        )
    if len(found) > 1:
        raise AmbiguousName(
            "{text} is restored in {count} folders: {folders}",
            text=text[:80],
            count=len(found),
            folders=listing([one.path for _, one in found], NAMED),
            hint="name the folder itself",
        )
    return found[0]


def named_folders(
    known: Sequence[tuple[str, Restored]], catalog: Catalog, text: str
) -> list[tuple[str, Restored]]:
    """The restored folders of an experiment; one that was removed meanwhile is known by its full name."""
    name, colon, number = text.rpartition(":")
    if not (colon and name and number.isdecimal()):
        name, number = text, ""
    with contextlib.suppress(UnknownExperiment):
        name = resolve_experiment(catalog, name).name
    of_it = [(admin, one) for admin, one in known if one.experiment == name]
    if number:
        return [(admin, one) for admin, one in of_it if one.number == int(number)]
    # Of several backups the one in the folder with the experiment's own name is meant.
    plain = [(admin, one) for admin, one in of_it if os.path.basename(one.path) == name]
    return plain if len(plain) == 1 else of_it


def refuse_inside(store: Store, folder: str) -> None:
    """Protected if the current folder, the store, another restored folder or another disk lies in the folder."""
    real = os.path.realpath(folder)
    with contextlib.suppress(FileNotFoundError):
        if is_inside(os.path.realpath(os.getcwd()), real):
            raise Protected("you are in {path}", path=folder, hint="cd out of it first")
    if is_inside(os.path.realpath(store.folder), real):
        raise Protected("the store itself lies in {path}", path=folder, hint="move the store elsewhere first")
    for _, other in restored_folders(store):
        inner = os.path.realpath(other.path)
        if inner != real and is_inside(inner, real):
            raise Protected(
                "another restored folder lies in {path}: {other}",
                path=folder,
                other=other.path,
                hint=message("remove that one first: tensortime rm --worktree {other}", other=other.path),
            )
    device = os.lstat(real).st_dev
    for top, _, _ in os.walk(os.fsencode(real)):
        if os.lstat(top).st_dev != device:
            raise Protected(
                "another disk is mounted in {path}: {mount}",
                path=folder,
                mount=os.fsdecode(top),
                hint="unmount it first",
            )


def compare(store: Store, admin: str, folder: Restored, force: bool) -> list[str]:
    """What the folder holds that its backup does not. Protected unless there is nothing, or `force`."""
    parent = read_parent(admin)
    try:
        changed = [] if parent is None else losses_in(store, Oid(parent.commit), admin, folder.path)
    except TensorTimeError as problem:
        if force:
            return []
        raise Protected(
            "{path} cannot be compared with its backup: {problem}",
            path=folder.path,
            problem=str(problem),
            hint="--force removes it as it is",
        ) from problem
    if changed and not force:
        raise Protected(
            "{path} holds what its backup does not: {paths}",
            path=folder.path,
            paths=listing(changed, NAMED),
            hint=message(
                "tensortime -C {path} backup keeps it; --force removes the folder as it is", path=folder.path
            ),
        )
    return changed


def take_away(store: Store, folder: str) -> None:
    """Remove a folder: renamed first, so that whatever happens no half of it stands under its name."""
    try:
        with store.staging() as staging:
            os.rename(folder, os.path.join(staging, "worktree"))
            return  # removed with the staging folder, by the next process if this one dies
    except (OSError, StoreUnusable):
        aside = folder + PARTIAL
    if os.path.lexists(aside):
        raise Protected("{path} is in the way", path=aside, hint="move it elsewhere")
    try:
        os.rename(folder, aside)
    except OSError as problem:
        raise StoreUnusable(
            "{path} cannot be removed: {problem}", path=folder, problem=problem.strerror
        ) from problem
    fsops.remove_tree(aside)
    if os.path.lexists(aside):
        raise StoreUnusable(
            "not all of {path} could be removed", path=aside, hint="is all of it yours? ls -lR"
        )

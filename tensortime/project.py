"""Which project, which store: from a start folder to a Place. Reads only.

The order: a restored worktree, else the nearest folder upward that holds a store, else the start itself.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tensortime import fsops
from tensortime.errors import ForeignFolder, NotAProject
from tensortime.landmarks import DEFAULT_STORE, is_store


class Parent(NamedTuple):
    """The backup that a restored worktree came from."""

    experiment: str
    number: int
    commit: str


@dataclass(frozen=True)
class Place:
    """A project and the folder of its store, which need not exist yet."""

    project: str
    store: str
    parent: Parent | None = None

    @property
    def store_inside(self) -> bool:
        """Whether the store lies in the project, and so is this project's alone."""
        return self.store.startswith(self.project + "/")

    @property
    def shown_store(self) -> str:
        """The store's path as a person would write it from the project."""
        inside = os.path.relpath(self.store, self.project)
        return self.store if inside.startswith("..") else inside


def home_folder() -> str:
    """The home folder, resolved; `/nonexistent` where there is none."""
    home = os.path.expanduser("~")
    return os.path.realpath(home) if os.path.isabs(home) else "/nonexistent"


def nothing_configured(_: str) -> None:
    """For callers without a configuration."""


def find_place(
    start: str, asked: str | None, configured: Callable[[str], str | None] = nothing_configured
) -> Place:
    """The project and store for a start folder.

    `asked`: the store that the caller or the environment named, relative to the project; `configured`: tells the
    `backup_dir` of a folder's configuration. A restored worktree belongs to the store that it came from.
    """
    start = os.path.realpath(start)
    worktree = find_worktree(start)
    if worktree is not None:
        if asked is None:
            return worktree
        return Place(worktree.project, store_in(worktree.project, asked), worktree.parent)
    project = nearest_with_store(start, asked, configured) or start
    return Place(project, store_in(project, asked or configured(project) or DEFAULT_STORE))


def store_in(project: str, wanted: str) -> str:
    """The store's folder; a relative one lies in the project."""
    return os.path.realpath(os.path.join(project, os.path.expanduser(wanted)))


def nearest_with_store(start: str, asked: str | None, configured: Callable[[str], str | None]) -> str | None:
    """The nearest folder from `start` upward, below home, that holds a store or says where its own is."""
    if asked is not None and os.path.isabs(os.path.expanduser(asked)):
        return None
    for folder in upward(start):
        named = asked or configured(folder)
        if is_store(store_in(folder, named or DEFAULT_STORE)) or (named and not asked):
            return folder
    return None


def upward(start: str) -> Iterator[str]:
    """`start` and the folders above it, below home."""
    home, folder = home_folder(), start
    while folder not in ("/", home):
        yield folder
        folder = os.path.dirname(folder)


def find_worktree(start: str) -> Place | None:
    """The restored worktree that `start` lies in, as a project with its store and parent."""
    folder = start
    while folder != "/":
        admin = admin_folder(folder)
        if admin is not None:
            return Place(folder, os.path.dirname(os.path.dirname(os.path.dirname(admin))), read_parent(admin))
        if os.path.lexists(os.path.join(folder, ".git")):
            return None
        folder = os.path.dirname(folder)
    return None


def admin_folder(worktree: str) -> str | None:
    """The folder in `.shadow/worktrees/` that a restored worktree's `.git` file names; None for any other folder."""
    admin = named_record(worktree)
    if admin is None:
        return None
    return admin if is_store(os.path.dirname(os.path.dirname(os.path.dirname(admin)))) else None


def named_record(worktree: str) -> str | None:
    """As `admin_folder`, also where the store is no longer there."""
    try:
        return read_record(worktree)
    except OSError:
        return None


def read_record(worktree: str) -> str | None:
    """As `named_record`; OSError where the `.git` file cannot be read."""
    line = fsops.read_file(os.path.join(worktree, ".git"), 1 << 16)
    if b"\0" in line:
        return None  # damaged: no path is like that
    named = os.fsdecode(line.removeprefix(b"gitdir: ").strip())
    admin = os.path.realpath(os.path.join(worktree, named))
    shadow_dir, worktrees = os.path.split(os.path.dirname(admin))
    return admin if worktrees == "worktrees" and os.path.basename(shadow_dir) == ".shadow" else None


def read_parent(admin: str) -> Parent | None:
    """The backup that a worktree was restored from, as its restore noted it."""
    try:
        fields = json.loads(fsops.read_file(os.path.join(admin, "tensortime"), 1 << 16))
        return Parent(str(fields["experiment"]), int(fields["number"]), str(fields["commit"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def refuse_store_around(place: Place) -> None:
    """ForeignFolder for a store that is the project itself or a folder around it, unless this is a worktree of it."""
    inside = (place.project + "/").startswith(place.store.rstrip("/") + "/")
    if inside and admin_folder(place.project) is None:
        raise ForeignFolder(
            "{store} cannot be the store: the project lies in it",
            store=place.store,
            hint="name a folder of its own for the store",
        )


def is_wide(folder: str) -> bool:
    """Whether a folder is `/`, home, or one that contains home."""
    home = home_folder()
    return folder == "/" or home == folder or home.startswith(folder + "/")


def start_of(script_folder: str, here: str) -> str:
    """Where the project of a script is looked for: `here` if the script lies in it, else the script's folder."""
    inside = script_folder == here or script_folder.startswith(here.rstrip("/") + "/")
    # cron and many a job start in the home folder: the script's own folder says what they are about.
    return here if inside and not is_wide(here) else script_folder


def refuse_wide_project(project: str) -> None:
    """NotAProject for `/`, home, and any folder that contains home."""
    if is_wide(project):
        raise NotAProject(
            "{folder} is not a project: it is (or holds) the home folder or the whole disk",
            folder=project,
            hint="change into the folder of your training code, or name it with -C DIR",
        )

"""Which project, which store: from a start folder to a Place. Reads only.

The order: a restored worktree, else the nearest folder upward that holds a store, else the start itself.
"""

import json
import os
from dataclasses import dataclass

from tensortime import fsops
from tensortime.errors import NotAProject
from tensortime.store import DEFAULT_STORE, is_store


@dataclass(frozen=True)
class Parent:
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
    def shown_store(self) -> str:
        """The store's path as a person would write it from the project."""
        inside = os.path.relpath(self.store, self.project)
        return self.store if inside.startswith("..") else inside


def home_folder() -> str:
    """The home folder, resolved; `/nonexistent` where there is none."""
    home = os.path.expanduser("~")
    return os.path.realpath(home) if os.path.isabs(home) else "/nonexistent"


def find_place(start: str, store: str | None, configured: str | None = None) -> Place:
    """The project and store for a start folder.

    `store`: what the caller or the environment asked for, relative to the project; `configured`: the
    config's `backup_dir`. A restored worktree belongs to the store that it came from.
    """
    start = os.path.realpath(start)
    worktree = find_worktree(start)
    if worktree is not None and store is None:
        return worktree
    project = nearest_with_store(start) or start
    if worktree is not None:
        project = worktree.project
    wanted = os.path.expanduser(store or configured or DEFAULT_STORE)
    return Place(project, os.path.realpath(os.path.join(project, wanted)), worktree.parent if worktree else None)


def nearest_with_store(start: str) -> str | None:
    """The nearest folder from `start` upward, below home, that holds a store."""
    home, folder = home_folder(), start
    while folder not in ("/", home):
        if is_store(os.path.join(folder, DEFAULT_STORE)):
            return folder
        folder = os.path.dirname(folder)
    return None


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
    try:
        line = fsops.read_file(os.path.join(worktree, ".git"), 1 << 16)
    except OSError:
        return None
    named = os.fsdecode(line.removeprefix(b"gitdir: ").strip())
    admin = os.path.realpath(os.path.join(worktree, named))
    shadow_dir, worktrees = os.path.split(os.path.dirname(admin))
    if worktrees != "worktrees" or os.path.basename(shadow_dir) != ".shadow":
        return None
    return admin if is_store(os.path.dirname(shadow_dir)) else None


def read_parent(admin: str) -> Parent | None:
    """The backup that a worktree was restored from, as its restore noted it."""
    try:
        fields = json.loads(fsops.read_file(os.path.join(admin, "tensortime"), 1 << 16))
        return Parent(str(fields["experiment"]), int(fields["number"]), str(fields["commit"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_wide(folder: str) -> bool:
    """Whether a folder is `/`, home, or one that contains home."""
    home = home_folder()
    return folder == "/" or home == folder or home.startswith(folder + "/")


def refuse_wide_project(project: str) -> None:
    """NotAProject for `/`, home, and any folder that contains home."""
    if is_wide(project):
        raise NotAProject(
            "{folder} is not a project: it is (or holds) the home folder or the whole disk",
            folder=project,
            hint="change into the folder of your training code, or name it with -C DIR",
        )



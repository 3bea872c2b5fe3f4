"""Which git runs, and in which environment: what every call of it has in common."""

import os
import subprocess

from tensortime.errors import NoGit

MINIMUM_GIT = (2, 34)
"""for-each-ref's `%(raw)`; worktrees, `update-ref --stdin` and pack index version 2 are older."""


def git_program() -> str:
    """The absolute path of git, never one in the current folder; NoGit where there is none."""
    folders = [path for path in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(path)]
    # shutil.which would do the same, and take 4 ms to load.
    for path in (os.path.join(folder, "git") for folder in folders):
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise NoGit("git was not found", hint="install git 2.34 or later, for instance: apt install git")


def clean_environment() -> dict[str, str]:
    """The caller's environment without any `GIT_*`."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}


def git_version() -> str:
    """The version of git, as it says it; NoGit where there is none."""
    answer = subprocess.run(
        [git_program(), "version"],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    words = answer.stdout.decode("ascii", "replace").split()
    return words[2] if len(words) > 2 else "unknown"


def check_version() -> None:
    """NoGit if this git is too old. One that cannot say how old it is fails by itself, and says why."""
    version = git_version()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < MINIMUM_GIT:
        raise NoGit(
            "git {found} is too old, TensorTime needs {needed} or later",
            found=version,
            needed=".".join(map(str, MINIMUM_GIT)),
            hint="install a newer git",
        )


def user_exclude_file(folder: str) -> tuple[str, str] | None:
    """The top of the user's work tree around `folder` and its `info/exclude`; None without a user's repository.

    The only question that is put to the user's git; it reads no file of the work tree and runs no hook.
    """
    top = folder
    while not os.path.lexists(os.path.join(top, ".git")):
        above = os.path.dirname(top)
        if above == top:
            return None
        top = above
    if os.path.isdir(os.path.join(top, ".git", "info")) and not os.path.islink(os.path.join(top, ".git")):
        return top, os.path.join(top, ".git", "info", "exclude")
    command = [git_program(), "-C", top, "rev-parse", "--show-toplevel", "--git-path", "info/exclude"]
    answer = subprocess.run(
        command, env=clean_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    lines = os.fsdecode(answer.stdout).split("\n")
    if answer.returncode or len(lines) < 2 or not lines[0]:
        return None
    return lines[0], os.path.join(top, lines[1])

"""Which git runs, and in which environment: what every call of it has in common."""

import os
import shutil
import subprocess

from tensortime.errors import NoGit

MINIMUM_GIT = (2, 34)
"""for-each-ref's `%(raw)`; worktrees, `update-ref --stdin` and pack index version 2 are older."""


def git_program() -> str:
    """The absolute path of git, never one in the current folder; NoGit where there is none."""
    folders = [path for path in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(path)]
    found = shutil.which("git", path=os.pathsep.join(folders))
    if found is None:
        raise NoGit("git was not found", hint="install git 2.34 or later, for instance: apt install git")
    return found


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
    """NoGit if this git is too old."""
    version = git_version()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MINIMUM_GIT:
        raise NoGit(
            "git {found} is too old, TensorTime needs {needed} or later",
            found=version,
            needed=".".join(map(str, MINIMUM_GIT)),
            hint="install a newer git",
        )

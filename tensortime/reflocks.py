"""The lock files by which git keeps others from a ref: one that was killed leaves them, and its refs cannot be written."""

import contextlib
import os
import time

OURS = ("experiments", "tags", "trash", "pins")
"""The kinds of refs that only we write; others a person's git may be writing in a restored worktree."""

PERSONS_SECONDS = 2.0
"""A lock of all packed refs that is older than this is of no git that a person started: that takes milliseconds."""


def found_in(git_dir: str) -> list[str]:
    """The lock files that are there: of gits that write a ref just now, or were killed while they did."""
    found = []
    for kind in OURS:
        for folder, _, names in os.walk(os.path.join(git_dir, "refs", kind)):
            found += [os.path.join(folder, name) for name in names if name.endswith(".lock")]
    packed = (os.path.join(git_dir, name) for name in ("packed-refs.lock", "packed-refs.new"))
    return [*found, *(path for path in packed if os.path.lexists(path))]


def remove_dead(git_dir: str) -> None:
    """Remove them, where no git of ours can be alive."""
    for path in found_in(git_dir):
        deadline = time.monotonic() + PERSONS_SECONDS
        while is_persons(path) and time.monotonic() < deadline:
            time.sleep(0.02)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def is_persons(path: str) -> bool:
    """Whether a lock may be of a person's git in a restored worktree, which takes no lock of ours."""
    try:
        age = time.time() - os.lstat(path).st_mtime
    except FileNotFoundError:
        return False
    return age < PERSONS_SECONDS and os.path.basename(path).startswith("packed-refs")

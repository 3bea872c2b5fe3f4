"""File systems of the benchmark's own: loop mounts of image files, as root."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.commands import NotMeasured, run, run_quiet
from benchmarks.tools import Missing, need

PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}
WORDS = {
    "ext4": ("-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-N", "500000"),
    "xfs": (),
    "btrfs": (),
}
"""ext4: all is written when it is made, nothing goes on in the background afterwards."""
FRESH = "ext4, made anew for each tool in each round"


@contextlib.contextmanager
def loop_mount(kind: str, folder: Path, size: int) -> Iterator[tuple[Path, bool]]:
    """A new file system in a sparse image, and whether it reads the disk past the image's page cache. NotMeasured."""
    image = folder / f"{kind}.img"
    try:
        with open(image, "wb") as file:
            file.truncate(size)
        with mounted(kind, image, folder / kind) as found:
            yield found
    finally:
        image.unlink(missing_ok=True)


@contextlib.contextmanager
def fresh_disk(folder: Path, size: int) -> Iterator[Path]:
    """A folder on an ext4 of `size` bytes that was made a moment ago; `folder` itself where we may not mount.

    ext4 makes new files slowly for minutes after many were deleted (it looks for inodes that are not `recently
    deleted`): what cleans up after one tool would otherwise be paid for by the next.
    """
    image = folder / "fresh.img"
    try:
        if not image.exists():
            with open(image, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        disk = contextlib.ExitStack()
        place, _ = disk.enter_context(mounted("ext4", image, folder / "fresh"))
    except (NotMeasured, OSError):
        image.unlink(missing_ok=True)
        yield folder
        return
    with disk:
        yield place


@contextlib.contextmanager
def mounted(kind: str, image: Path, place: Path) -> Iterator[tuple[Path, bool]]:
    """A new file system in an image, mounted at `place`. NotMeasured."""
    if os.geteuid() != 0:
        raise NotMeasured("mounting needs root")
    try:
        need(f"mkfs.{kind}", PACKAGES[kind])
    except Missing as problem:
        raise NotMeasured(str(problem)) from None
    place.mkdir(exist_ok=True)
    run(f"mkfs.{kind}", "-q", *WORDS[kind], image)
    device, direct = attach(image)
    try:
        done = subprocess.run(["mount", device, place], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotMeasured(f"mount failed: {done.stderr.strip()}")
        try:
            yield place, direct
        finally:
            run("umount", place)
    finally:
        run_quiet("losetup", "--detach", device)


def attach(image: Path) -> tuple[str, bool]:
    """A loop device of an image: its path, and whether it passes the page cache by. NotMeasured."""
    for direct in (True, False):
        words = ["losetup", "--find", "--show", f"--direct-io={'on' if direct else 'off'}", str(image)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip(), direct
    raise NotMeasured(f"losetup failed: {done.stderr.strip()}")

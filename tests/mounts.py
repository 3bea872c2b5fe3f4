"""Real file systems for tests, as root: loop mounts of sparse images and small tmpfs."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = {"xfs": "xfsprogs", "btrfs": "btrfs-progs"}


def require_root() -> None:
    """Skip where nothing can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("cannot be installed: mounting needs root")


@contextlib.contextmanager
def loop_mount(kind: str, folder: Path, size: int) -> Iterator[Path]:
    """A new file system in a sparse image, unmounted at the end."""
    require_root()
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is missing: apt install {PACKAGES[kind]}")
    image, place = folder / f"{kind}.img", folder / kind
    with image.open("wb") as file:
        file.truncate(size)
    place.mkdir()
    run(f"mkfs.{kind}", "-q", str(image))
    with mounted(place, "-o", "loop", str(image)):
        yield place
    image.unlink()


@contextlib.contextmanager
def small_tmpfs(place: Path, size: int) -> Iterator[Path]:
    """A tmpfs of so many bytes."""
    require_root()
    place.mkdir(exist_ok=True)
    with mounted(place, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield place


@contextlib.contextmanager
def mounted(place: Path, *words: str) -> Iterator[None]:
    """Mount something at a folder; skip where even root may not."""
    done = subprocess.run(["mount", *words, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot be installed: mount failed: {done.stderr.strip()}")
    try:
        yield
    finally:
        run("umount", "--lazy", str(place))


def run(*words: str) -> None:
    """Run a tool that has to work."""
    subprocess.run(words, check=True, capture_output=True)


def used_bytes(place: Path) -> int:
    """What df says is used, once all that was written has its blocks."""
    fd = os.open(place, os.O_RDONLY)
    try:
        subprocess.run(["sync", "-f", str(place)], check=True)
    finally:
        os.close(fd)
    info = os.statvfs(place)
    return (info.f_blocks - info.f_bfree) * info.f_frsize

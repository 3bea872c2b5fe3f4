"""Calls to the operating system that fail: the n-th of those that touch a folder, with any errno, in this process."""

import builtins
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CALLS = (
    *(
        "open",
        "pread",
        "preadv",
        "pwrite",
        "write",
        "fsync",
        "ftruncate",
        "fchmod",
        "chmod",
        "mkdir",
        "rmdir",
    ),
    *("rename", "replace", "link", "symlink", "unlink", "utime", "listdir", "scandir", "statvfs"),
)
MAKING = {"pwrite", "write", "fsync", "mkdir", "link", "symlink", "rename", "replace"}
"""What a full disk refuses; a file can still be opened for reading, and deleted."""


class Failing:
    """Counts the calls that touch `folder`, and lets some fail: the n-th alone, or from the n-th on all that make."""

    def __init__(
        self, patch: pytest.MonkeyPatch, folder: Path, number: int, code: int, *, stays: bool = False
    ) -> None:
        self.folder, self.number, self.code, self.stays = str(folder), number, code, stays
        self.seen, self.failed = 0, list[str]()
        self.lock, self.inside = threading.Lock(), threading.local()
        for name in CALLS:
            patch.setattr(os, name, self.wrapped(name, getattr(os, name)))
        patch.setattr(builtins, "open", self.wrapped("builtin open", open))
        patch.setattr(subprocess, "Popen", self.starting())

    def starting(self) -> type[subprocess.Popen[bytes]]:
        """Popen, which may find no descriptor or no process left."""
        count = self.count

        class Popen(subprocess.Popen[bytes]):
            def __init__(self, *words: Any, **more: Any) -> None:
                count("fork", "git")
                super().__init__(*words, **more)

        return Popen

    def wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call that may fail."""

        def wrapper(*words: Any, **more: Any) -> Any:
            place = words[0] if words else more.get("path", "")
            if not getattr(self.inside, "busy", False) and self.touches(place, more.get("dir_fd")):
                flags = words[1] if name == "open" and len(words) > 1 else 0
                new = bool(flags & os.O_EXCL) or bool(flags & os.O_CREAT and not os.path.lexists(place))
                making = name in MAKING or new
                self.count(name, place, making=making)
            return call(*words, **more)

        return wrapper

    def count(self, name: str, place: object, *, making: bool = True) -> None:
        """Count one call, and fail if its turn has come."""
        with self.lock:
            self.seen += 1
            due = self.seen == self.number or (
                self.stays and self.seen > self.number and making and name != "fork"
            )
            if due:
                self.failed.append(f"{name} {place!r}")
        if due:
            raise OSError(self.code, os.strerror(self.code), None if isinstance(place, int) else place)

    def touches(self, place: object, folder: object) -> bool:
        """Whether a call is about something in the folder."""
        if isinstance(place, int) or isinstance(folder, int):
            self.inside.busy = True
            try:
                where = os.readlink(f"/proc/self/fd/{place if isinstance(place, int) else folder}")
            except OSError:
                return False
            finally:
                self.inside.busy = False
            return where.startswith(self.folder)
        return isinstance(place, str | bytes | os.PathLike) and os.fsdecode(place).startswith(self.folder)

"""Running the programs that are measured: what they wrote, and the most memory that they held."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class NotMeasured(Exception):
    """Something cannot be measured here; the reason."""


class Done(NamedTuple):
    """A command that succeeded."""

    output: str
    peak: int
    """Bytes that the largest of its processes held. Never less than what this process has held itself: the kernel
    counts from the fork on."""


def plain_environment() -> dict[str, str]:
    """The caller's, without what it says to git and to TensorTime."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "TENSORTIME"))}


def run(*words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Run a command that must succeed. RuntimeError."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=cwd,
            env={**plain_environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, err):
            file.seek(0)
        if process.returncode:
            said = err.read().decode(errors="replace").strip()[-300:]
            raise RuntimeError(
                f"{' '.join(map(str, words))[:200]} ended with {process.returncode}: {said or 'it said nothing'}"
            )
        return Done(out.read().decode(errors="replace"), usage.ru_maxrss * 1024)


def sync(path: Path) -> None:
    """All that was written to the file system of this path is on its disk."""
    subprocess.run(["sync", "-f", path], check=True)


def run_quiet(*words: str | Path) -> None:
    """A command whose failure does not matter."""
    subprocess.run(words, capture_output=True, check=False)

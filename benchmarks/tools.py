"""What is measured: each tool as its manual says it is used, with its store outside the project, on the same disk.

A tool is installed by the benchmark itself; one that cannot be had is named in the report.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.commands import run, sync

OLD = """
import sys
from tensortime import TimeMachine
TimeMachine(sys.argv[1], sys.argv[2], "").backup()
"""


class Missing(Exception):
    """A tool cannot be had here; the reason."""


@dataclass
class Place:
    """Where one tool works in one round, and what a step of it took."""

    project: Path
    store: Path
    restored: Path
    peak: int = 0
    """Bytes: the largest process of the step."""
    started: float = 0
    laps: dict[str, float] = field(default_factory=dict)
    """Seconds of the step's beginning up to something that a target names."""

    def begin(self) -> None:
        """A step begins."""
        self.peak, self.laps, self.started = 0, {}, time.perf_counter()

    def run(self, *words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        """Run a command of the step, which must succeed."""
        self.peak = max(self.peak, run(*words, cwd=cwd, env=env).peak)

    def lap(self, name: str, written: Path) -> None:
        """So far the step has come, all of it on the disk."""
        sync(written)
        self.laps[name] = time.perf_counter() - self.started


class Tool:
    """One contestant. `store` is a folder that does not exist yet; `backup` is called again for each later state."""

    name = ""

    def install(self, folder: Path) -> None:
        """Make sure that it is there, in a folder of its own where it is a Python package. Missing."""

    def version(self) -> str:
        """What it calls itself."""
        raise NotImplementedError

    def prepare(self, place: Place) -> None:
        """What is done once and not measured, such as `git init`."""

    def backup(self, place: Place, number: int) -> None:
        """Back up the project; the first is number 0."""
        raise NotImplementedError

    def restore(self, place: Place, number: int) -> None:
        """Bring backup `number`, the newest, back into `place.restored`, which does not exist."""
        raise NotImplementedError

    def clean(self, place: Place) -> None:
        """Remove what it left in the project."""

    def forget(self, place: Place, number: int) -> int:
        """Delete what only backup `number` needs, if it is a whole copy; the bytes that this freed."""
        return 0


def forget_copy(place: Place, number: int) -> int:
    """Delete one whole copy."""
    shutil.rmtree(place.store / str(number))
    return disk_usage(place.project)


def disk_usage(folder: Path) -> int:
    """Bytes that a folder takes on the disk."""
    return int(run("du", "-s", "--block-size=1", folder).output.split()[0])


def need(program: str, package: str) -> None:
    """A program of the system, installed with apt where that is allowed. Missing."""
    if shutil.which(program) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "--yes", "-qq", package]
        if subprocess.run(install, capture_output=True, check=False).returncode:
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
            subprocess.run(install, capture_output=True, check=False)
    if shutil.which(program) is None:
        raise Missing(f"{program} is not installed (apt install {package})")


def python_with(folder: Path, requirement: str) -> Path:
    """A Python that has a package, in an environment of its own. Missing."""
    python, complete = folder / "bin" / "python", folder / ".complete"
    if complete.exists():
        return python
    run(sys.executable, "-m", "venv", "--clear", folder)
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", requirement], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Missing(f"pip install {requirement} failed: {done.stderr.strip()[-200:]}")
    complete.touch()
    return python


class Copy(Tool):
    """`cp -r`, into a new folder each time."""

    name = "cp -r"

    def version(self) -> str:
        """GNU coreutils."""
        return run("cp", "--version").output.splitlines()[0].split()[-1]

    def prepare(self, place: Place) -> None:
        """The folder of copies."""
        place.store.mkdir()

    def backup(self, place: Place, number: int) -> None:
        """A whole copy."""
        place.run("cp", "-r", place.project, place.store / str(number))

    def restore(self, place: Place, number: int) -> None:
        """A copy back."""
        place.run("cp", "-r", place.store / str(number), place.restored)

    def forget(self, place: Place, number: int) -> int:
        """An older copy."""
        return forget_copy(place, number)


class Rsync(Copy):
    """`rsync --link-dest`: unchanged files are hard links of the copy before."""

    name = "rsync --link-dest"

    def install(self, folder: Path) -> None:
        """From the distribution."""
        need("rsync", "rsync")

    def version(self) -> str:
        """rsync's own."""
        return run("rsync", "--version").output.splitlines()[0].split()[2]

    def backup(self, place: Place, number: int) -> None:
        """A copy that links to the one before."""
        before = (f"--link-dest={place.store / str(number - 1)}",) if number else ()
        place.run("rsync", "-a", *before, f"{place.project}/", place.store / str(number))

    def restore(self, place: Place, number: int) -> None:
        """A copy back."""
        place.run("rsync", "-a", f"{place.store / str(number)}/", place.restored)

    def forget(self, place: Place, number: int) -> int:
        """What changed since has its only copy there; the rest are links."""
        before = disk_usage(place.store)
        shutil.rmtree(place.store / str(number))
        return before - disk_usage(place.store)


class TensorTime(Tool):
    """This TensorTime, as the command line is used."""

    name = "tensortime"

    def __init__(self) -> None:
        self.program = Path(sys.executable).with_name("tensortime")

    def version(self) -> str:
        """Its version."""
        return run(self.program, "--version").output.split()[-1]

    def backup(self, place: Place, number: int) -> None:
        """`tensortime backup`."""
        place.run(self.program, "backup", "--name", f"run{number}", "--store", place.store, cwd=place.project)

    def restore(self, place: Place, number: int) -> None:
        """`tensortime restore`, every byte checked."""
        place.run(
            self.program, "restore", f"run{number}", place.restored, "--store", place.store, cwd=place.project
        )


class OldTensorTime(Tool):
    """tensortime 0.1.0, which copies everything each time."""

    name = "tensortime 0.1.0"

    def install(self, folder: Path) -> None:
        """From PyPI."""
        self.python = python_with(folder / "tensortime-0.1.0", "tensortime==0.1.0")

    def version(self) -> str:
        """The version is in its name."""
        return ""

    def backup(self, place: Place, number: int) -> None:
        """`TimeMachine(…).backup()`."""
        place.run(self.python, "-c", OLD, place.store, str(number), cwd=place.project)

    def restore(self, place: Place, number: int) -> None:
        """It has no verb for that: a copy back."""
        place.run("cp", "-r", place.store / str(number), place.restored)

    def forget(self, place: Place, number: int) -> int:
        """An older copy."""
        return forget_copy(place, number)


class Git(Tool):
    """`git add -A && git commit`, large files too; back with `git worktree add`."""

    name = "git"

    def version(self) -> str:
        """git's own."""
        return run("git", "--version").output.split()[-1]

    def _git(self, place: Place, *words: str | Path) -> None:
        identity = ("-c", "user.name=b", "-c", "user.email=b@b", "-c", "gc.auto=0")
        place.run(
            "git",
            f"--git-dir={place.store}",
            f"--work-tree={place.project}",
            *identity,
            *words,
            cwd=place.project,
        )

    def prepare(self, place: Place) -> None:
        """`git init`."""
        place.run("git", "init", "-q", "--bare", place.store)
        place.run("git", f"--git-dir={place.store}", "config", "core.bare", "false")

    def backup(self, place: Place, number: int) -> None:
        """`git add -A && git commit`; an unchanged state has nothing to commit."""
        self._git(place, "add", "-A")
        place.lap("add", place.store)
        self._git(place, "commit", "-q", "--allow-empty", "-m", str(number))

    def restore(self, place: Place, number: int) -> None:
        """A new worktree."""
        self._git(place, "worktree", "add", "-q", "--detach", place.restored, "HEAD")


class Dvc(Tool):
    """`dvc add` of all that is there (DVC without git), back with `dvc checkout`."""

    name = "dvc"
    env = {"DVC_NO_ANALYTICS": "1"}  # noqa: RUF012 - nobody changes it

    def install(self, folder: Path) -> None:
        """From PyPI."""
        self.program = python_with(folder / "dvc", "dvc").with_name("dvc")

    def version(self) -> str:
        """dvc's own."""
        return run(self.program, "--version", env=self.env).output.strip()

    def _dvc(self, place: Place, cwd: Path, *words: str | Path) -> None:
        place.run(self.program, *words, cwd=cwd, env=self.env)

    def prepare(self, place: Place) -> None:
        """`dvc init`, its cache outside the project."""
        self._dvc(place, place.project, "init", "-q", "--no-scm")
        self._dvc(place, place.project, "cache", "dir", place.store)
        self._dvc(place, place.project, "config", "core.check_update", "false")

    def backup(self, place: Place, number: int) -> None:
        """`dvc add` of each folder at the top."""
        tops = sorted(
            path.name for path in place.project.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
        self._dvc(place, place.project, "add", "-q", *tops)

    def restore(self, place: Place, number: int) -> None:
        """A copy of its pointers, and `dvc checkout`."""
        place.restored.mkdir()
        shutil.copytree(place.project / ".dvc", place.restored / ".dvc")
        for pointer in place.project.glob("?*.dvc"):
            shutil.copy(pointer, place.restored)
        self._dvc(place, place.restored, "checkout", "-q")

    def clean(self, place: Place) -> None:
        """What `dvc init` and `dvc add` made."""
        shutil.rmtree(place.project / ".dvc", ignore_errors=True)
        for path in (
            *place.project.glob("*.dvc"),
            place.project / ".dvcignore",
            place.project / ".gitignore",
        ):
            path.unlink(missing_ok=True)


class Restic(Tool):
    """restic, which also encrypts."""

    name = "restic"
    env = {"RESTIC_PASSWORD": "benchmark"}  # noqa: RUF012 - nobody changes it

    def install(self, folder: Path) -> None:
        """From the distribution."""
        need("restic", "restic")
        self.env = {**self.env, "RESTIC_CACHE_DIR": str(folder / "restic-cache")}

    def version(self) -> str:
        """restic's own."""
        return run("restic", "version").output.split()[1]

    def prepare(self, place: Place) -> None:
        """`restic init`."""
        place.run("restic", "-q", "-r", place.store, "init", env=self.env)

    def backup(self, place: Place, number: int) -> None:
        """`restic backup`."""
        place.run("restic", "-q", "-r", place.store, "backup", ".", cwd=place.project, env=self.env)

    def restore(self, place: Place, number: int) -> None:
        """`restic restore`."""
        place.run(
            "restic", "-q", "-r", place.store, "restore", "latest", "--target", place.restored, env=self.env
        )


class Borg(Tool):
    """borg without encryption, lz4 (its default)."""

    name = "borg"
    env = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}  # noqa: RUF012 - nobody changes it

    def install(self, folder: Path) -> None:
        """From the distribution."""
        need("borg", "borgbackup")
        self.env = {**self.env, "BORG_BASE_DIR": str(folder / "borg")}

    def version(self) -> str:
        """borg's own."""
        return run("borg", "--version").output.split()[1]

    def prepare(self, place: Place) -> None:
        """`borg init`."""
        place.run("borg", "init", "-e", "none", place.store, env=self.env)

    def backup(self, place: Place, number: int) -> None:
        """`borg create`."""
        place.run("borg", "create", f"{place.store}::{number}", ".", cwd=place.project, env=self.env)

    def restore(self, place: Place, number: int) -> None:
        """`borg extract`."""
        place.restored.mkdir()
        place.run("borg", "extract", f"{place.store}::{number}", cwd=place.restored, env=self.env)


TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (Copy(), Rsync(), TensorTime(), OldTensorTime(), Git(), Dvc(), Restic(), Borg())
}

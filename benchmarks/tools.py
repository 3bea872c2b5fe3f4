"""What is measured: each tool as its manual says it is used, with its store outside the project, on the same disk.

A tool is installed by the benchmark itself; one that cannot be had is named in the report.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

OLD = """
import sys
from tensortime import TimeMachine
TimeMachine(sys.argv[1], sys.argv[2], "").backup()
"""


class Missing(Exception):
    """A tool cannot be had here; the reason."""


@dataclass(frozen=True)
class Place:
    """Where one tool works in one round."""

    project: Path
    store: Path
    restored: Path


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


def run(*words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed; its output."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def need(program: str, package: str) -> None:
    """A program of the system, installed with apt where that is allowed. Missing."""
    if shutil.which(program) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "--yes", "-qq", package], capture_output=True, check=False)
    if shutil.which(program) is None:
        raise Missing(f"{program} is not installed (apt install {package})")


def python_with(folder: Path, requirement: str) -> Path:
    """A Python that has a package, in an environment of its own. Missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", folder)
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", requirement], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Missing(f"pip install {requirement} failed: {done.stderr.strip()[-200:]}")
    return python


class Copy(Tool):
    """`cp -r`, into a new folder each time."""

    name = "cp -r"

    def version(self) -> str:
        """GNU coreutils."""
        return run("cp", "--version").splitlines()[0].split()[-1]

    def prepare(self, place: Place) -> None:
        """The folder of copies."""
        place.store.mkdir()

    def backup(self, place: Place, number: int) -> None:
        """A whole copy."""
        run("cp", "-r", place.project, place.store / str(number))

    def restore(self, place: Place, number: int) -> None:
        """A copy back."""
        run("cp", "-r", place.store / str(number), place.restored)


class Rsync(Copy):
    """`rsync --link-dest`: unchanged files are hard links of the copy before."""

    name = "rsync --link-dest"

    def install(self, folder: Path) -> None:
        """From the distribution."""
        need("rsync", "rsync")

    def version(self) -> str:
        """rsync's own."""
        return run("rsync", "--version").splitlines()[0].split()[2]

    def backup(self, place: Place, number: int) -> None:
        """A copy that links to the one before."""
        before = (f"--link-dest={place.store / str(number - 1)}",) if number else ()
        run("rsync", "-a", *before, f"{place.project}/", place.store / str(number))

    def restore(self, place: Place, number: int) -> None:
        """A copy back."""
        run("rsync", "-a", f"{place.store / str(number)}/", place.restored)


class TensorTime(Tool):
    """This TensorTime, as the command line is used."""

    name = "tensortime"

    def __init__(self) -> None:
        self.program = Path(sys.executable).with_name("tensortime")

    def version(self) -> str:
        """Its version."""
        return run(self.program, "--version").split()[-1]

    def backup(self, place: Place, number: int) -> None:
        """`tensortime backup`."""
        run(self.program, "backup", "--name", f"run{number}", "--store", place.store, cwd=place.project)

    def restore(self, place: Place, number: int) -> None:
        """`tensortime restore`, every byte checked."""
        run(
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
        run(self.python, "-c", OLD, place.store, str(number), cwd=place.project)

    def restore(self, place: Place, number: int) -> None:
        """It has no verb for that: a copy back."""
        run("cp", "-r", place.store / str(number), place.restored)


class Git(Tool):
    """`git add -A && git commit`, large files too; back with `git worktree add`."""

    name = "git"

    def version(self) -> str:
        """git's own."""
        return run("git", "--version").split()[-1]

    def _git(self, place: Place, *words: str | Path) -> None:
        identity = ("-c", "user.name=b", "-c", "user.email=b@b", "-c", "gc.auto=0")
        run(
            "git",
            f"--git-dir={place.store}",
            f"--work-tree={place.project}",
            *identity,
            *words,
            cwd=place.project,
        )

    def prepare(self, place: Place) -> None:
        """`git init`."""
        run("git", "init", "-q", "--bare", place.store)
        run("git", f"--git-dir={place.store}", "config", "core.bare", "false")

    def backup(self, place: Place, number: int) -> None:
        """`git add -A && git commit`; an unchanged state has nothing to commit."""
        self._git(place, "add", "-A")
        self._git(place, "commit", "-q", "--allow-empty", "-m", str(number))

    def restore(self, place: Place, number: int) -> None:
        """A new worktree."""
        self._git(place, "worktree", "add", "-q", "--detach", place.restored, "HEAD")


class Dvc(Tool):
    """`dvc add` of all that is there (DVC without git), back with `dvc checkout`."""

    name = "dvc"

    def install(self, folder: Path) -> None:
        """From PyPI."""
        self.program = python_with(folder / "dvc", "dvc").with_name("dvc")

    def _dvc(self, cwd: Path, *words: str | Path) -> str:
        return run(self.program, *words, cwd=cwd, env={"DVC_NO_ANALYTICS": "1"})

    def version(self) -> str:
        """dvc's own."""
        return self._dvc(Path.cwd(), "--version").strip()

    def prepare(self, place: Place) -> None:
        """`dvc init`, its cache outside the project."""
        self._dvc(place.project, "init", "-q", "--no-scm")
        self._dvc(place.project, "cache", "dir", place.store)
        self._dvc(place.project, "config", "core.check_update", "false")

    def backup(self, place: Place, number: int) -> None:
        """`dvc add` of each folder at the top."""
        tops = sorted(
            path.name for path in place.project.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
        self._dvc(place.project, "add", "-q", *tops)

    def restore(self, place: Place, number: int) -> None:
        """A copy of its pointers, and `dvc checkout`."""
        place.restored.mkdir()
        shutil.copytree(place.project / ".dvc", place.restored / ".dvc")
        for pointer in place.project.glob("?*.dvc"):
            shutil.copy(pointer, place.restored)
        self._dvc(place.restored, "checkout", "-q")

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
        return run("restic", "version").split()[1]

    def prepare(self, place: Place) -> None:
        """`restic init`."""
        run("restic", "-q", "-r", place.store, "init", env=self.env)

    def backup(self, place: Place, number: int) -> None:
        """`restic backup`."""
        run("restic", "-q", "-r", place.store, "backup", ".", cwd=place.project, env=self.env)

    def restore(self, place: Place, number: int) -> None:
        """`restic restore`."""
        run("restic", "-q", "-r", place.store, "restore", "latest", "--target", place.restored, env=self.env)


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
        return run("borg", "--version").split()[1]

    def prepare(self, place: Place) -> None:
        """`borg init`."""
        run("borg", "init", "-e", "none", place.store, env=self.env)

    def backup(self, place: Place, number: int) -> None:
        """`borg create`."""
        run("borg", "create", f"{place.store}::{number}", ".", cwd=place.project, env=self.env)

    def restore(self, place: Place, number: int) -> None:
        """`borg extract`."""
        place.restored.mkdir()
        run("borg", "extract", f"{place.store}::{number}", cwd=place.restored, env=self.env)


TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (Copy(), Rsync(), TensorTime(), OldTensorTime(), Git(), Dvc(), Restic(), Borg())
}

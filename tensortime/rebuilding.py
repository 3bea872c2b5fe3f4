"""An environment as an experiment had it, built again from its `packages.txt` by uv, else by venv and pip.

It lies in the user's cache, is kept, and is used by all projects whose list is the same. What is installed from a
folder (`-e`) is no part of it: of the project itself the restored worktree is put on the path by whoever runs
something, of another project its folder. So is tensortime: the one that runs now, which needs no network.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import quote

from tensortime import __version__, fsops
from tensortime.errors import Message, StoreBusy, TensorTimeError, listing, message
from tensortime.formats import is_inside
from tensortime.monitor import Monitor
from tensortime.packages import SELF, Editable, Wanted, normal_name, wanted_by

COMPLETE = "tensortime-complete"
"""The file that an environment gets last: without it, it is a leftover. (It cannot be renamed: it holds its path.)"""
LOCKS = ".locks"
WAIT = 3600.0
"""Seconds to wait for another process that builds the same environment."""
SHOWN = 3
"""Names, or lines of an installer, in one message."""
LONGEST = 200
"""Characters of such a line."""

PYTHON_FACTS = (
    "import sys, sysconfig; print(sys.version.split()[0], sysconfig.get_path('purelib'), sep='\\n')"
)
MISLEADING = (
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PIP_USER",
    "PIP_TARGET",
    "PIP_PREFIX",
)
"""Variables that would send packages, or the installer, somewhere else."""
ERROR = re.compile(r"^(?:error|cause|caused by):\s*", re.IGNORECASE)
NOISE = re.compile(r"WARNING|Looking in|Using Python|\[notice\]")
CULPRIT = re.compile(
    r"(?:No matching distribution found for|satisfies the requirement|Failed building wheel for"
    r"|Failed to (?:build|download|fetch|prepare|parse)(?: and build)?:?|Because|no version of"
    r"|metadata for|Invalid requirement:)\s+[`'\"]*([A-Za-z0-9][\w.-]*)"
)
"""How pip and uv name the package that they could not install."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """An environment that can be used."""

    python: str
    """The path of its Python."""
    version: str
    folder: str
    path: tuple[str, ...]
    """Folders for PYTHONPATH: what was installed from the project's own folder, as the worktree has it."""
    is_new: bool
    differs: tuple[Message, ...]
    """What in it is not as it was."""


def environment_for(
    packages: bytes,
    python: Mapping[str, object],
    monitor: Monitor,
    *,
    cache: str = "",
    project: str = "",
    worktree: str = "",
) -> Rebuilt:
    """The environment of a `packages.txt`, built if there is none yet.

    `python`: the facts of the Python as run.json has them. `cache`: where environments are kept. `project`: the
    folder that the experiment recorded, `worktree`: where it is now. TensorTimeError names the package that cannot be
    installed; then nothing is left behind.
    """
    wanted = wanted_by(packages)
    path, elsewhere = parted(wanted.editables, project, worktree)
    base, version = base_python(python)
    differs = differences_of(wanted, python, version, elsewhere)
    lines = [f"{version} {os.path.realpath(base)} {sys.platform} {platform.machine()}", *wanted.requirements]
    lines += [f"{one.name} {one.version} {one.folder} {one in elsewhere}" for one in wanted.editables]
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:24]
    cache = cache or default_cache()
    folder = os.path.join(cache, digest)
    program = os.path.join(folder, "bin", "python")
    try:
        os.makedirs(os.path.join(cache, LOCKS), exist_ok=True)
        with fsops.locked(os.path.join(cache, LOCKS, digest), wait=WAIT) as is_ours:
            if not is_ours:
                raise StoreBusy("another process is building this environment: {path}", path=folder)
            is_new = not is_whole(folder)
            if is_new:
                with whole_or_gone(folder):
                    build(folder, base, wanted, monitor, worktree)
                    settle(folder, program, wanted, elsewhere, lines)
            link_self(site_packages(program)[1], wanted)
    except OSError as problem:
        raise TensorTimeError(
            "the environment cannot be made in {path}: {problem}",
            path=cache,
            problem=problem.strerror or str(problem),
            hint="XDG_CACHE_HOME says where it may be made",
        ) from problem
    return Rebuilt(program, version, folder, path, is_new, differs)


def default_cache(environ: Mapping[str, str] = os.environ) -> str:
    """Where environments are kept: they are big, and may be deleted at any time."""
    place = environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(place):
        place = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(place, "tensortime", "environments")


def parted(
    editables: Sequence[Editable], project: str, worktree: str
) -> tuple[tuple[str, ...], tuple[Editable, ...]]:
    """Folders for the path, of what was installed from the project's own folder; and what lies elsewhere.

    TensorTimeError for a folder that is no longer there.
    """
    path, elsewhere = [], []
    for one in editables:
        if project and worktree and is_inside(one.folder, project):
            path += sources(os.path.join(worktree, os.path.relpath(one.folder, project)))
        elif os.path.isdir(one.folder):
            elsewhere.append(one)
        else:
            raise TensorTimeError(
                "{package} cannot be installed: its folder {path} is no longer there",
                package=one.name,
                path=one.folder,
                hint="run it without --env, in an environment that has it",
            )
    return tuple(path), tuple(elsewhere)


def own_sources(packages: bytes, project: str, worktree: str) -> tuple[str, ...]:
    """Folders that Python has to search first for what was installed from the project's own folder to be that of a
    worktree; none where the list cannot be read: it says nothing of the project itself."""
    with contextlib.suppress(TensorTimeError):
        own = [one for one in wanted_by(packages).editables if project and is_inside(one.folder, project)]
        return parted(own, project, worktree)[0]
    return ()


def sources(folder: str) -> list[str]:
    """Where the modules of a project lie."""
    below = os.path.join(folder, "src")
    return [os.path.normpath(one) for one in (below, folder) if one == folder or os.path.isdir(one)]


def base_python(python: Mapping[str, object]) -> tuple[str, str]:
    """The Python that comes nearest to the recorded one, and its version. None is downloaded."""
    wanted = str(python.get("version") or "")
    minor = ".".join(wanted.split(".")[:2])
    near = ("", "")
    for program in candidates(python, wanted, minor):
        version = version_of(program)
        if version and version == wanted:
            return program, version
        if version and not near[0] and version.split(".")[:2] == wanted.split(".")[:2]:
            near = program, version
    return near if near[0] else (sys.executable, platform.python_version())


def candidates(python: Mapping[str, object], wanted: str, minor: str) -> list[str]:
    """Where that Python may be: where it was, on PATH, in pyenv, where uv keeps its own."""
    names = [str(python.get("executable") or "")]
    names += [shutil.which(f"python{minor}") or "", sys.executable]
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    names.append(os.path.join(pyenv, "versions", wanted, "bin", "python"))
    if (uv := shutil.which("uv")) and wanted:
        found = asked([uv, "python", "find", "--no-python-downloads", "--no-project", wanted])
        names.append(found.stdout.strip() if found is not None and not found.returncode else "")
    return [name for name in dict.fromkeys(names) if name and os.access(name, os.X_OK)]


def version_of(program: str) -> str:
    """The version of a Python, empty where it is none that runs."""
    found = asked([program, "-I", "-S", "-c", PYTHON_FACTS])
    return found.stdout.split("\n")[0] if found is not None and not found.returncode else ""


def site_packages(program: str) -> list[str]:
    """The version of an environment's Python, and the folder of its packages."""
    found = asked([program, "-I", "-c", PYTHON_FACTS])
    if found is None or found.returncode:
        raise TensorTimeError("the environment's Python does not run: {path}", path=program)
    return found.stdout.splitlines()


def asked(words: Sequence[str]) -> "subprocess.CompletedProcess[str] | None":
    """What a program answers; None where it cannot be started or does not end."""
    try:
        return ran(words, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None


def ran(
    words: Sequence[str], *, folder: str = "", timeout: float | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, with nothing that would lead it elsewhere; its output is kept.

    In `folder`, if that is there: a project may say there where uv finds its packages. Python gets `-I` before `-m`, as
    a `json.py` of the project is not Python's.
    """
    return subprocess.run(
        words,
        cwd=folder if os.path.isdir(folder) else None,
        env={key: value for key, value in os.environ.items() if key not in MISLEADING},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
    )


def build(folder: str, base: str, wanted: Wanted, monitor: Monitor, worktree: str) -> None:
    """Make the environment and install what an installer can; TensorTimeError says what it cannot."""
    uv = shutil.which("uv")
    tool = "uv" if uv else "pip"
    count = len(wanted.requirements)
    monitor.say(
        message(
            "making an environment of {count} packages with {tool}: {path}",
            count=count,
            tool=tool,
            path=folder,
        )
    )
    # Our own pip, where it fits, saves the making of one, and Debian's Python has none to make one of.
    borrows = find_spec("pip") is not None and version_of(base).split(".")[:2] == [
        *map(str, sys.version_info[:2])
    ]
    venv = [base, "-I", "-m", "venv", *(["--without-pip"] if borrows else [])]
    venv = [uv, "venv", "--quiet", "--no-project", "--python", base] if uv else venv
    made = ran([*venv, folder])
    if made.returncode:
        raise TensorTimeError(
            "the environment cannot be made: {problem}",
            problem=last_lines(made.stdout, 1),
            hint=message("{tool} said: {lines}", tool=tool, lines=last_lines(made.stdout, SHOWN)),
        )
    python = os.path.join(folder, "bin", "python")
    pip = [sys.executable, "-I", "-m", "pip", "--python", python] if borrows else [python, "-I", "-m", "pip"]
    pip = [uv, "pip"] if uv else [*pip, "--disable-pip-version-check", "--no-input"]
    target = ["--python", python] if uv else []
    if count:
        listed = os.path.join(folder, "packages.txt")
        with open(listed, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write("".join(f"{line}\n" for line in wanted.requirements))
        # No dependencies of theirs: the list has all that was there, also where its parts do not fit together.
        done = ran([*pip, "install", *target, "--no-deps", "--requirement", listed], folder=worktree)
        if done.returncode:
            raise not_installed(done.stdout, wanted.requirements, tool)
    if not uv and not borrows:
        surplus = {"pip", "setuptools", "wheel"} - {
            normal_name(name_in(line)) for line in wanted.requirements
        }
        ran([*pip, "uninstall", "--yes", *sorted(surplus)])


def not_installed(said: str, requirements: Sequence[str], tool: str) -> TensorTimeError:
    """What an installer could not do, by the package that it names."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    names = {normal_name(name_in(line)): line for line in requirements}
    blamed = [normal_name(found[1].rstrip(".")) for line in lines for found in CULPRIT.finditer(line)]
    blamed += [name for line in reversed(lines) for name in names if mentions(line, name)]
    package = next((re.split(r"\s*@", names[name])[0] for name in blamed if name in names), "")
    errors = [line for line in lines if ERROR.match(line)] or lines or [""]
    return TensorTimeError(
        "{package} cannot be installed: {problem}"
        if package
        else "the packages cannot be installed: {problem}",
        package=package,
        problem=ERROR.sub("", errors[-1]),
        hint=message("{tool} said: {lines}", tool=tool, lines=last_lines(said, SHOWN)),
    )


def mentions(line: str, name: str) -> bool:
    """Whether a line names a package, or a file of it."""
    return (
        re.search(rf"(?<![\w-]){name.replace('-', '[-_.]')}(?![a-zA-Z0-9])", line, re.IGNORECASE) is not None
    )


def name_in(requirement: str) -> str:
    """The name of the package that a line asks for."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def last_lines(text: str, count: int) -> str:
    """The last lines of an output that say something, in one."""
    lines = [line.strip()[:LONGEST] for line in text.splitlines() if line.strip() and not NOISE.match(line)]
    return " / ".join(lines[-count:])


def settle(
    folder: str, program: str, wanted: Wanted, elsewhere: Sequence[Editable], lines: Sequence[str]
) -> None:
    """Put in what no installer is needed for, and say that the environment is whole."""
    packages = site_packages(program)[1]
    for one in wanted.editables:
        describe(packages, one)
    paths = [path for one in elsewhere for path in sources(one.folder)]
    if paths:
        write(os.path.join(packages, "_tensortime_editables.pth"), "".join(f"{path}\n" for path in paths))
    write(os.path.join(folder, COMPLETE), "".join(f"{line}\n" for line in lines))


def describe(packages: str, one: Editable) -> None:
    """What an installer leaves beside a package, so that others, and a backup, find it."""
    info = os.path.join(packages, f"{one.name.replace('-', '_')}-{one.version}.dist-info")
    os.makedirs(info, exist_ok=True)
    write(
        os.path.join(info, "METADATA"), f"Metadata-Version: 2.1\nName: {one.name}\nVersion: {one.version}\n"
    )
    write(os.path.join(info, "INSTALLER"), "tensortime\n")
    if one.folder:
        url = "file://" + quote(os.fsencode(one.folder))
        write(os.path.join(info, "direct_url.json"), json.dumps({"url": url, "dir_info": {"editable": True}}))


def link_self(packages: str, wanted: Wanted) -> None:
    """Put in the tensortime that runs, where one is wanted: with each use, as it may have moved."""
    link, target = os.path.join(packages, SELF), os.path.dirname(os.path.abspath(__file__))
    if wanted.own is None or (os.path.islink(link) and os.readlink(link) == target):
        return
    for name in os.listdir(packages):
        if re.fullmatch(r"tensortime-.*\.dist-info", name):
            fsops.remove_tree(os.path.join(packages, name))
    describe(packages, Editable(SELF, __version__, wanted.own.folder))
    temporary = f"{link}.{os.getpid()}"
    os.symlink(target, temporary)
    os.replace(temporary, link)


def write(path: str, text: str) -> None:
    """Write a small file of an environment."""
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def is_whole(folder: str) -> bool:
    """Whether an environment was built to its end, and its Python is still there."""
    return os.path.isfile(os.path.join(folder, COMPLETE)) and os.access(
        os.path.join(folder, "bin", "python"), os.X_OK
    )


@contextlib.contextmanager
def whole_or_gone(folder: str) -> Iterator[None]:
    """Nothing of an environment is left where it did not become whole, now or the last time."""
    if os.path.lexists(folder):
        fsops.remove_tree(folder)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            fsops.remove_tree(folder)
        raise


def differences_of(
    wanted: Wanted, python: Mapping[str, object], version: str, elsewhere: Sequence[Editable]
) -> tuple[Message, ...]:
    """What will not be as it was, in sentences."""
    found = []
    recorded = str(python.get("version") or "")
    if version != recorded:
        found.append(
            message(
                "Python {version} instead of {recorded}, which is not here",
                version=version,
                recorded=recorded,
            )
        )
    if wanted.conda:
        found.append(message("conda's packages are not rebuilt: {names}", names=listing(wanted.conda, SHOWN)))
    found += [
        message("{package} is as its folder {path} is now", package=one.name, path=one.folder)
        for one in elsewhere
    ]
    return tuple(found)

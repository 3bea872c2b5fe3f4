"""Which Python trains: this process, or for a command that a person typed the one that the shell would start.

The tool itself may be installed elsewhere (pipx, uv), so the Python of the shell is found by path and described by
what lies around it. It is never started: that takes 20 ms at best, and a minute on a file server.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tensortime import fsops
from tensortime.formats import text_of

PROGRAMS = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""How programs begin, on Linux and macOS; a script that stands in for one does not."""

NAMES = ("python", "python3")
PYTHON_NAME = re.compile(rb"(?:python|pypy)(\d+\.\d+t?|\d*)")
LIBRARY = re.compile(rb"(?P<kind>python|pypy)(?P<version>\d+\.\d+)t?")
PATCH_LEVEL = re.compile(rb'^#define\s+PY_VERSION\s+"([^"]+)"', re.MULTILINE)
NOT_KNOWN = "a script that leads to no Python of pyenv: which one it starts is not known"


class Interpreter(NamedTuple):
    """A Python: the facts of it that are recorded, and where its packages lie."""

    facts: Mapping[str, object]
    """`version`, `implementation`, `executable`, `prefix`, `source`; with `error` only what is known of these."""
    folders: tuple[bytes, ...] = ()
    """Where packages may be, in the order of its path."""
    conda: bytes | None = None
    """The records of its conda environment."""


class Home(NamedTuple):
    """Where a Python lives."""

    prefix: bytes
    library: bytes
    """`lib/python3.12` or what stands for it; empty where it is not found."""
    version: str
    implementation: str
    system: bool
    """Whether the user's own packages and those of the system are on its path."""


def this_interpreter(path: Iterable[str] = ()) -> Interpreter:
    """The Python of this process; `path`: its `sys.path`, where its packages are wanted."""
    facts = {
        "version": sys.version.split()[0],
        "implementation": sys.implementation.name,
        "executable": text_of(os.fsencode(sys.executable or "")),
        "prefix": text_of(os.fsencode(sys.prefix)),
        "source": "this process",
    }
    return Interpreter(
        facts, tuple(os.fsencode(folder or ".") for folder in path), records_in(os.fsencode(sys.prefix))
    )


def shell_interpreter(environ: Mapping[str, str], folder: str, words: Iterable[str] = ()) -> Interpreter:
    """The Python that a command would start in `folder`: of VIRTUAL_ENV, CONDA_PREFIX or PATH, by path.

    `words`: the command, where it is known. It may name its Python itself: `./venv/bin/python train.py`.
    """
    for word in map(os.fsencode, words):
        program = os.path.join(os.fsencode(folder), word)
        if b"/" in word and PYTHON_NAME.fullmatch(os.path.basename(word)) and is_program(program):
            return described(program, "command", environ)
    for source in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        prefix = environ.get(source)
        for name in NAMES if prefix else ():
            program = os.fsencode(os.path.join(folder, str(prefix), "bin", name))
            if is_program(program):
                return described(program, source, environ)
    for program in on_path(environ, folder):
        target = program
        if begins(program) not in PROGRAMS:
            shimmed = behind_shim(program, environ, folder)
            if shimmed is None:
                return Interpreter({"executable": text_of(program), "source": "PATH", "error": NOT_KNOWN})
            if not shimmed:
                continue  # pyenv's `system`: the next one on PATH
            target = shimmed
        return described(target, "PATH", environ)
    return Interpreter({"error": "no python on PATH"})


def on_path(environ: Mapping[str, str], folder: str) -> Iterator[bytes]:
    """Every `python`, then every `python3` on PATH."""
    for name in NAMES:
        for place in environ.get("PATH", os.defpath).split(os.pathsep):
            program = os.fsencode(os.path.join(folder, place, name))
            if is_program(program):
                yield program


def is_program(path: bytes) -> bool:
    """Whether a shell would start it."""
    return os.path.isfile(path) and os.access(path, os.X_OK)


def begins(path: bytes) -> bytes:
    """The first four bytes of a file, through links; empty where it cannot be read."""
    with contextlib.suppress(OSError), open(os.path.realpath(path), "rb", buffering=0) as file:
        return file.read(4)
    return b""


def behind_shim(shim: bytes, environ: Mapping[str, str], folder: str) -> bytes | None:
    """What a shim of pyenv starts, by the files that pyenv looks at; empty for `system`, None if it is no shim."""
    root = os.fsencode(environ.get("PYENV_ROOT") or os.path.dirname(os.path.dirname(os.fsdecode(shim))))
    if os.path.realpath(os.path.dirname(shim)) != os.path.realpath(root + b"/shims"):
        return None
    version = os.fsencode(environ.get("PYENV_VERSION", "").split(":")[0]) or chosen_version(root, folder)
    if version == b"system":
        return b""
    versions = names_in(root + b"/versions")
    if version not in versions:
        # As pyenv does: `3.11` stands for the newest 3.11.x.
        newest = (name for name in reversed(versions) if name.startswith(version + b"."))
        version = next(newest, version)
    program = root + b"/versions/" + version + b"/bin/python"
    return program if is_program(program) else None


def names_in(folder: bytes) -> list[bytes]:
    """What lies in a folder, numbers in order; nothing where it cannot be read."""
    with contextlib.suppress(OSError):
        return sorted(os.listdir(folder), key=lambda name: [int(n) for n in re.findall(rb"\d+", name)])
    return []


def chosen_version(root: bytes, folder: str) -> bytes:
    """The first version that a `.python-version` upward names, else pyenv's own `version`, else `system`."""
    here = os.fsencode(folder)
    while True:
        found = first_line(here + b"/.python-version")
        above = os.path.dirname(here)
        if found or above == here:
            return found or first_line(root + b"/version") or b"system"
        here = above


def first_line(path: bytes) -> bytes:
    """The first word of a file that says something."""
    with contextlib.suppress(OSError):
        for line in fsops.read_file(os.path.realpath(path), limit=1 << 16).splitlines():
            words = line.split(b"#")[0].split()
            if words:
                return words[0]
    return b""


def described(program: bytes, source: str, environ: Mapping[str, str]) -> Interpreter:
    """A Python by the files around it."""
    facts: dict[str, object] = {"executable": text_of(program), "source": source}
    around = os.path.dirname(os.path.dirname(program))
    settings = read_settings(around)
    resolved = os.path.realpath(program)
    if PYTHON_NAME.fullmatch(os.path.basename(resolved)) is None:
        return Interpreter({**facts, "error": f"{text_of(resolved)} may be any Python"})
    # A virtual environment is known by the file beside the name that was used; all others by where the program is.
    home = find_home(around if settings is not None else None, resolved, settings or {})
    facts |= {"version": home.version, "implementation": home.implementation, "prefix": text_of(home.prefix)}
    if not home.version:
        facts["error"] = "its library was not found"
    folders = list(site_folders(home, environ))
    if settings is not None and home.system:
        folders += site_folders(find_home(None, resolved, {}), environ)
    return Interpreter(facts, tuple(dict.fromkeys(folders)), records_in(home.prefix))


def read_settings(prefix: bytes) -> dict[str, str] | None:
    """The `pyvenv.cfg` of a virtual environment; None where there is none."""
    try:
        data = fsops.read_file(os.path.realpath(prefix + b"/pyvenv.cfg"), limit=1 << 16)
    except OSError:
        return None
    lines = (line.partition("=") for line in text_of(data).splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in lines}


def find_home(venv: bytes | None, resolved: bytes, settings: Mapping[str, str]) -> Home:
    """Where a Python lives: in its virtual environment, else beside the program at its real path."""
    base, library = library_around(resolved)
    match = LIBRARY.fullmatch(os.path.basename(library))
    implementation = "pypy" if match and match["kind"] == b"pypy" else "cpython"
    version = full_version(base, library, text_of(match["version"]) if match else "")
    if venv is None:
        return Home(base, library, version, implementation, system=True)
    stated = re.match(r"\d+\.\d+\.\w+", settings.get("version_info") or settings.get("version") or "")
    own = [name for name in names_in(venv + b"/lib") if LIBRARY.fullmatch(name)]
    return Home(
        venv,
        venv + b"/lib/" + (os.path.basename(library) if not own else own[-1]),
        stated[0] if stated else version,
        implementation,
        system=settings.get("include-system-site-packages", "").lower() == "true",
    )


def library_around(resolved: bytes) -> tuple[bytes, bytes]:
    """The prefix and the library of the program at its real path; the library is empty where none is found."""
    name = PYTHON_NAME.fullmatch(os.path.basename(resolved))
    exact = name[1] if name and b"." in name[1] else b""
    prefix = os.path.dirname(os.path.dirname(resolved))
    for lib in (prefix + b"/lib", prefix + b"/lib64"):
        for one in reversed(names_in(lib)):
            if (
                LIBRARY.fullmatch(one)
                and one.endswith(exact)
                and os.path.exists(lib + b"/" + one + b"/os.py")
            ):
                return prefix, lib + b"/" + one
    return prefix, b""


def full_version(prefix: bytes, library: bytes, minor: str) -> str:
    """The version as exactly as files tell it: conda's record, the headers, else the library's name."""
    with contextlib.suppress(OSError):
        for name in os.listdir(prefix + b"/conda-meta"):
            match = re.fullmatch(rb"python-(\d[\w.]*)-[^-]+\.json", name)
            if match is not None:
                return text_of(match[1])
    header = prefix + b"/include/" + os.path.basename(library) + b"/patchlevel.h"
    with contextlib.suppress(OSError):
        match = PATCH_LEVEL.search(fsops.read_file(os.path.realpath(header), limit=1 << 16))
        return text_of(match[1]) if match else minor
    return minor


def site_folders(home: Home, environ: Mapping[str, str]) -> Iterator[bytes]:
    """Where this Python looks for packages: PYTHONPATH, the user's own, its site-packages, Debian's dist-packages."""
    yield from (os.fsencode(path) for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path)
    name = os.path.basename(home.library)
    if not name:
        return
    if home.system and not environ.get("PYTHONNOUSERSITE"):
        user = environ.get("PYTHONUSERBASE") or os.path.join(environ.get("HOME", "/nowhere"), ".local")
        yield os.fsencode(user) + b"/lib/" + name + b"/site-packages"
    yield home.prefix + b"/local/lib/" + name + b"/dist-packages"
    for lib in (b"/lib/", b"/lib64/"):
        yield home.prefix + lib + name + b"/site-packages"
    yield home.prefix + b"/lib/python3/dist-packages"


def records_in(prefix: bytes) -> bytes | None:
    """The folder of conda's records, where this is a conda environment."""
    folder = prefix + b"/conda-meta"
    return folder if os.path.isdir(folder) else None

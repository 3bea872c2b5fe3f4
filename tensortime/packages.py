"""Which packages are installed where a program runs, and `packages.txt`, which keeps them with a backup.

Folder names and `direct_url.json` tell all that is needed. `importlib.metadata` would take six times as long, and
reads only the Python that it runs in.
"""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tensortime import fsops
from tensortime.errors import TensorTimeError
from tensortime.formats import bytes_of, text_of
from tensortime.redaction import redact_text

EDITABLE = "-e "
SELF = "tensortime"
CONDA = "# conda: "
"""Begins the line of a conda package that pip does not know: a comment for pip, so the file stays one of its."""

NAME = rb"(?P<name>[A-Za-z0-9][\w.-]*?)"
DISTRIBUTION = re.compile(NAME + rb"-(?P<version>[\w.!+]+)\.dist-info")
EGG = re.compile(NAME + rb"(?:-(?P<version>\d[\w.!+]*))?(?:-py[\d.]+(?:-[\w.-]+)?)?\.egg-info")
CONDA_RECORD = re.compile(rb"(?P<name>[\w.][\w.-]*)-(?P<version>[^-]+)-(?P<build>[^-]+)\.json")
VERSION_LINE = re.compile(rb"^Version:\s*(\S+)", re.MULTILINE)

EDITABLE_COMMENT = re.compile(r"# Editable .*?\(([\w.-]+)==([^()\s]+)\)")
REQUIREMENT = re.compile(r"([A-Za-z0-9][\w.-]*)\s*(?:===?\s*([^\s;]+)|@\s*(\S+))")
CONDA_LINE = re.compile(r"# conda: ([\w.-]+)==(\S+)")

Path = bytes | str


class Package(NamedTuple):
    """A package that is installed."""

    name: str
    """As PyPI compares names: lower case, `-` between the parts."""
    version: str
    origin: str = ""
    """A direct reference (`git+https://…@<commit>`), `-e <folder>` for an editable install, else empty."""


def installed(folders: Iterable[Path]) -> list[Package]:
    """The packages in the folders of a path such as `sys.path`, sorted by name; the first folder that has one wins.

    A folder that cannot be read has none. Nothing is imported, nothing is started.
    """
    found: dict[str, Package] = {}
    built: dict[str, Package] = {}
    for folder in dict.fromkeys(map(os.fsencode, folders)):
        for package, is_build in packages_in(folder):
            (built if is_build else found).setdefault(package.name, package)
    # What building a project leaves beside its code says less than how it was installed.
    return [package for _, package in sorted({**built, **found}.items())]


def packages_in(folder: bytes) -> Iterator[tuple[Package, bool]]:
    """The packages of one folder; True with those that only a build in that place left there."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if name.endswith(b".dist-info"):
            match = DISTRIBUTION.fullmatch(name)
            if match is not None:
                yield described(match["name"], match["version"], origin_of(folder + b"/" + name)), False
        elif name.endswith(b".egg-info"):
            match = EGG.fullmatch(name)
            if match is not None:
                version = match["version"] or version_in(folder + b"/" + name)
                yield described(match["name"], version), match["version"] is None
        elif name.endswith(b".egg-link"):
            yield developed(folder, name), False


def described(name: bytes, version: bytes, origin: str = "") -> Package:
    """A package by what its folder is called."""
    return Package(normal_name(text_of(name)), text_of(version), origin)


def normal_name(name: str) -> str:
    """A name as PyPI compares it: `Scikit_Learn` is `scikit-learn`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def origin_of(info: bytes) -> str:
    """Where a package came from, if not from an index: the reference that its `direct_url.json` (PEP 610) gives."""
    try:
        return reference_of(json.loads(read(info + b"/direct_url.json")))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return ""


def read(path: bytes) -> bytes:
    """A small file; through a link too: some installers link every file from their cache."""
    try:
        return fsops.read_file(path, limit=1 << 20)
    except OSError as problem:
        if problem.errno != errno.ELOOP:
            raise
        return fsops.read_file(os.path.realpath(path), limit=1 << 20)


def reference_of(direct: Mapping[str, object]) -> str:
    """A `direct_url.json` in the words of `pip freeze`."""
    url = str(direct["url"]) if direct.get("url") else ""
    vcs, archive, folder = (direct.get(key) for key in ("vcs_info", "archive_info", "dir_info"))
    fragments = []
    if isinstance(folder, Mapping) and folder.get("editable"):
        return EDITABLE + path_of(url)
    if isinstance(vcs, Mapping):
        url = f"{vcs.get('vcs')}+{url}@{vcs.get('commit_id')}"
    if isinstance(archive, Mapping):
        hashes = archive.get("hashes")
        known = (
            next((f"{key}={value}" for key, value in hashes.items()), "")
            if isinstance(hashes, Mapping)
            else ""
        )
        fragments = [known or str(archive.get("hash") or "")]
    if direct.get("subdirectory"):
        fragments.append(f"subdirectory={direct['subdirectory']}")
    return url + ("#" if any(fragments) else "") + "&".join(filter(None, fragments))


def path_of(url: str) -> str:
    """The path of a `file://` URL; anything else as it is."""
    if not url.startswith("file://"):
        return url
    data = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), bytes_of(url))
    return text_of(data.removeprefix(b"file://").removeprefix(b"localhost"))


def developed(folder: bytes, link: bytes) -> Package:
    """What `setup.py develop` installed: the link's first line is the project, which holds the version."""
    name, place, version = link.removesuffix(b".egg-link"), b"", b""
    with contextlib.suppress(OSError):
        place = read(folder + b"/" + link).split(b"\n", 1)[0].strip()
        for one in os.listdir(place):
            match = EGG.fullmatch(one)
            if match is not None and normal_name(text_of(match["name"])) == normal_name(text_of(name)):
                version = match["version"] or version_in(place + b"/" + one)
    return described(name, version, EDITABLE + text_of(place) if place else "")


def version_in(info: bytes) -> bytes:
    """The version that an `.egg-info` states inside; empty where it does not."""
    for path in (info + b"/PKG-INFO", info):
        with contextlib.suppress(OSError):
            match = VERSION_LINE.search(read(path))
            return match[1] if match else b""
    return b""


def conda_packages(records: Path, known: Iterable[Package] = ()) -> list[Package]:
    """What conda installed, by the file names in an environment's `conda-meta/`, without what `known` has already."""
    names = {package.name for package in known}
    try:
        matches = [CONDA_RECORD.fullmatch(name) for name in sorted(os.listdir(os.fsencode(records)))]
    except OSError:
        return []
    found = [
        (match["name"], match["version"] + b"=" + match["build"]) for match in matches if match is not None
    ]
    return [
        Package(text_of(name), text_of(version))
        for name, version in found
        if normal_name(text_of(name)) not in names
    ]


def encode_packages(
    packages: Iterable[Package], python: Mapping[str, object], conda: Iterable[Package] = ()
) -> bytes:
    """`packages.txt`: a requirements file as `pip freeze` writes it, without secrets.

    The first line says which Python; the packages that only conda knows follow as comments.
    """
    said = (python.get("implementation") or "python", python.get("version") or "of unknown version")
    where = f": {python['executable']}" if python.get("executable") else ""
    lines = [f"# {said[0]} {said[1]}{where}"]
    for package in sorted(packages, key=lambda one: one.name):
        lines += requirement_lines(package)
    lines += [f"{CONDA}{one.name}=={one.version}" for one in sorted(conda, key=lambda one: one.name)]
    return b"".join(bytes_of(re.sub(r"[\r\n]", "?", line)) + b"\n" for line in lines)


def requirement_lines(package: Package) -> list[str]:
    """One package in the words of `pip freeze`."""
    origin = redact_text(package.origin)
    if origin.startswith(EDITABLE):
        return [f"# Editable install ({package.name}=={package.version or 'unknown'})", origin]
    if origin:
        return [f"{package.name} @ {origin}"]
    # A requirement needs a version; where none is known, the name alone is one too.
    return [f"{package.name}=={package.version}" if package.version else package.name]


def decode_packages(data: bytes) -> dict[str, str]:
    """The packages of a `packages.txt`, or of any requirements file: name to version, or to what stands in its place.

    That is the reference of a package with an origin (`-e <folder>` if editable), and for `conda:<name>` version and
    build. What is none of these lines is passed over.
    """
    found: dict[str, str] = {}
    editable = ""
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        text, announced = line.strip(), editable
        editable = ""
        if match := EDITABLE_COMMENT.match(text):
            editable = normal_name(match[1])
        elif match := CONDA_LINE.match(text):
            found[f"conda:{match[1]}"] = match[2]
        elif text.startswith(EDITABLE):
            named = re.search(r"[#&]egg=([\w.-]+)", text)
            found[announced or (normal_name(named[1]) if named else text.removeprefix(EDITABLE))] = text
        elif match := REQUIREMENT.match(text):
            found[normal_name(match[1])] = match[2] or match[3]
        elif re.fullmatch(r"[A-Za-z0-9][\w.-]*", text):
            found[normal_name(text)] = ""
    return found


class Editable(NamedTuple):
    """A package that was installed from a folder, which it used in place."""

    name: str
    version: str
    folder: str


class Wanted(NamedTuple):
    """What a `packages.txt` asks for."""

    requirements: tuple[str, ...]
    """Lines for an installer."""
    editables: tuple[Editable, ...]
    conda: tuple[str, ...]
    """Names of packages that only conda knows."""
    own: Editable | None = None
    """tensortime itself; its folder empty where it was installed as others are."""


def wanted_by(packages: bytes) -> Wanted:
    """What a `packages.txt` asks for; TensorTimeError for a line that is no package (an option could do anything)."""
    requirements, editables, conda, own = [], [], [], None
    announced: re.Match[str] | None = None
    for line in map(str.strip, packages.decode("utf-8", "surrogateescape").split("\n")):
        before, announced = announced, None
        found = REQUIREMENT.fullmatch(line)
        if line.startswith("#"):
            announced = EDITABLE_COMMENT.match(line)
            conda += [known[1]] if (known := CONDA_LINE.match(line)) else []
        elif line.startswith(EDITABLE):
            name, version = before.groups() if before else (os.path.basename(line), "0")
            one = Editable(normal_name(name), version, line.removeprefix(EDITABLE))
            own = one if one.name == SELF else own
            editables += [one] if one.name != SELF else []
        elif found and normal_name(found[1]) == SELF:
            own = Editable(SELF, found[2] or "", "")
        elif found or re.fullmatch(r"[A-Za-z0-9][\w.-]*", line):
            requirements.append(line)
        elif line:
            raise TensorTimeError("packages.txt has a line that is no package: {line}", line=line)
    return Wanted(tuple(requirements), tuple(editables), tuple(conda), own)

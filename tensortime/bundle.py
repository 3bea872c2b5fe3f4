"""The file that `export` writes and `import` reads: a zip or tar of one experiment. FORMAT.md has a section on it.

    README.txt     what this is, and how to get at it without TensorTime
    export.json    which experiment, which commit
    project/…      the files as `restore` would make them: for people
    objects/…      large files that only older backups have, or whose names a zip cannot hold
    history.pack   commits, trees and small files as a git pack: what `import` reads

One writer and one reader for both containers. The reader gives out bytes by name, never more than were asked for, and
writes nothing itself: names in a file from somebody else lead nowhere.
"""

import contextlib
import errno
import io
import os
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import IO, Protocol

from tensortime.errors import BadBundle, UsageError
from tensortime.formats import folders_above, text_of

README, HEADER, HISTORY = b"README.txt", b"export.json", b"history.pack"
FILES, OBJECTS = b"project/", b"objects/"

STORED_FROM = 1 << 20
"""From this size on a member of a zip is not compressed: data and weights hardly shrink, and deflate is slow."""

SMALLEST_YEAR, LARGEST_YEAR = 1980, 2107
"""What the times in a zip can say."""

UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)
"""What zipfile and tarfile raise at bytes that are not what they should be."""

PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What we write, and read: other ways fail in ways of their own."""


def fits_zip(name: bytes) -> bool:
    """Whether a member of a zip can have this name."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


class Source(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; none at the end."""


class BundleWriter(Protocol):
    """Puts members into a new file, in order."""

    def holds(self, name: bytes) -> bool:
        """Whether a member can have this name."""

    def add(self, name: bytes, mode: int, seconds: int, size: int, source: Source) -> None:
        """A file of `size` bytes, modified `seconds` after 1970."""

    def link(self, name: bytes, seconds: int, target: bytes) -> None:
        """A symbolic link."""

    def folder(self, name: bytes, mode: int, seconds: int) -> None:
        """An empty folder."""

    def close(self) -> None:
        """Complete the file."""


class ZipWriter:
    """A zip; names are UTF-8."""

    def __init__(self, path: str) -> None:
        self._zip = zipfile.ZipFile(path, "x", compresslevel=6)

    def holds(self, name: bytes) -> bool:
        """Whether a member can have this name."""
        return fits_zip(name)

    def add(self, name: bytes, mode: int, seconds: int, size: int, source: Source) -> None:
        """A file."""
        info = self._info(name, stat.S_IFREG | mode, seconds)
        info.file_size = size
        info.compress_type = zipfile.ZIP_STORED if size >= STORED_FROM else zipfile.ZIP_DEFLATED
        with self._zip.open(info, "w") as member:
            copy(source, member)

    def link(self, name: bytes, seconds: int, target: bytes) -> None:
        """A symbolic link, as Info-ZIP stores it: its target is its content."""
        self._zip.writestr(self._info(name, stat.S_IFLNK | 0o777, seconds), target)

    def folder(self, name: bytes, mode: int, seconds: int) -> None:
        """An empty folder."""
        self._zip.writestr(self._info(name + b"/", stat.S_IFDIR | mode, seconds), b"")

    def close(self) -> None:
        """Write the directory of the zip."""
        self._zip.close()

    def _info(self, name: bytes, mode: int, seconds: int) -> zipfile.ZipInfo:
        moment = time.gmtime(min(max(seconds, 0), 1 << 32))
        date = (min(max(moment.tm_year, SMALLEST_YEAR), LARGEST_YEAR), *moment[1:6])
        info = zipfile.ZipInfo(name.decode(), date)
        info.external_attr = mode << 16
        info.create_system = 3  # Unix: whoever unpacks it finds the modes
        return info


class TarWriter:
    """A tar, in the pax format; names are bytes."""

    def __init__(self, path: str) -> None:
        self._tar = tarfile.TarFile(
            path, "x", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        )

    def holds(self, name: bytes) -> bool:
        """Whether a member can have this name."""
        return bool(name)

    def add(self, name: bytes, mode: int, seconds: int, size: int, source: Source) -> None:
        """A file."""
        info = self._info(name, mode, seconds)
        info.size = size
        self._tar.addfile(info, source)

    def link(self, name: bytes, seconds: int, target: bytes) -> None:
        """A symbolic link."""
        info = self._info(name, 0o777, seconds)
        info.type, info.linkname = tarfile.SYMTYPE, text_of(target)
        self._tar.addfile(info)

    def folder(self, name: bytes, mode: int, seconds: int) -> None:
        """An empty folder."""
        info = self._info(name, mode, seconds)
        info.type = tarfile.DIRTYPE
        self._tar.addfile(info)

    def close(self) -> None:
        """Write the end of the tar."""
        self._tar.close()

    def _info(self, name: bytes, mode: int, seconds: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(text_of(name))
        info.mode, info.mtime = mode, max(seconds, 0)
        return info


def create_bundle(path: str, kind: str) -> BundleWriter:
    """A new file of this kind, `.zip` or `.tar`, which must not be there yet. OSError."""
    return ZipWriter(path) if kind == ".zip" else TarWriter(path)


def kind_of(path: str) -> str:
    """Which container a file name asks for; UsageError where it says neither zip nor tar."""
    kind = os.path.splitext(path)[1].lower()
    if kind not in (".zip", ".tar"):
        raise UsageError("{file} is neither .zip nor .tar", file=path, hint="name it FILE.zip or FILE.tar")
    return kind


class BundleReader:
    """Gives out the regular files of a zip or tar by name. BadBundle for a file that is neither, or broken."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open: zipfile.ZipFile | tarfile.TarFile
        with reading(path):
            # Not zipfile.is_zipfile: it looks at the end, where a tar may hold an npz.
            with open(path, "rb") as file:
                begins_as_zip = file.read(2) == b"PK"
            self._open = (
                zipfile.ZipFile(path)
                if begins_as_zip
                else tarfile.TarFile(path, encoding="utf-8", errors="surrogateescape")
            )
            try:
                check_names(self._listing())
                self._names = dict(self._members())
            except BaseException:
                self._open.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def __enter__(self) -> "BundleReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, name: bytes) -> bool:
        return name in self._names

    @cached_property
    def sizes(self) -> Mapping[bytes, int]:
        """All regular files by name, with the bytes that each is said to have."""
        return {
            name: max(row.file_size if isinstance(row, zipfile.ZipInfo) else row.size, 0)
            for name, row in self._names.items()
        }

    @contextlib.contextmanager
    def member(self, name: bytes) -> Iterator[IO[bytes]]:
        """The bytes of a member, from its beginning; BadBundle where there is none, and for what is read inside."""
        if name not in self._names:
            raise BadBundle("{file} lacks {name}", file=self._path, name=text_of(name))
        with reading(self._path):
            source = self._open_member(name)
            try:
                yield source
            finally:
                source.close()

    def _open_member(self, name: bytes) -> IO[bytes]:
        member = self._names[name]
        if isinstance(self._open, zipfile.ZipFile):
            assert isinstance(member, zipfile.ZipInfo)
            return self._open.open(member)
        assert isinstance(member, tarfile.TarInfo)
        return self._open.extractfile(member) or io.BytesIO()

    def _listing(self) -> Iterator[tuple[bytes, bool]]:
        """All names, each with whether it is a folder."""
        for name, row in self._rows():
            yield name, row.is_dir() if isinstance(row, zipfile.ZipInfo) else row.isdir()

    def _members(self) -> Iterator[tuple[bytes, zipfile.ZipInfo | tarfile.TarInfo]]:
        """Regular files alone: links, devices and folders are nothing to read."""
        for name, row in self._rows():
            if isinstance(row, zipfile.ZipInfo):
                kind = stat.S_IFMT(row.external_attr >> 16)
                if kind not in (0, stat.S_IFREG) or row.is_dir():
                    continue
                if row.compress_type not in PACKED:
                    raise NotImplementedError(
                        f"{row.filename[:80]!r} is packed in a way that export does not use"
                    )
                yield name, row
            elif row.isreg():
                yield name, row

    def _rows(self) -> Iterator[tuple[bytes, zipfile.ZipInfo | tarfile.TarInfo]]:
        """What the table of contents lists, of any type, by its name."""
        if isinstance(self._open, zipfile.ZipFile):
            yield from (
                (row.filename.encode("utf-8", "surrogateescape"), row) for row in self._open.infolist()
            )
        else:
            yield from ((row.name.encode("utf-8", "surrogateescape"), row) for row in self._open)


def check_names(listing: Iterable[tuple[bytes, bool]]) -> None:
    """ValueError where who unpacks the file could see something else than we read: two members in one place, one below a
    file, one in project/ under another spelling."""
    places: dict[bytes, bool] = {}
    for name, is_folder in listing:
        place = os.path.normpath(name.lstrip(b"/"))
        if place in places and not (is_folder and places[place]):
            raise ValueError(f"{text_of(name)} is in it twice")
        places[place] = is_folder
        elsewhere = os.path.normpath(name.replace(b"\\", b"/").lstrip(b"/"))
        if elsewhere.startswith(FILES) and not name.startswith(FILES):
            raise ValueError(f"{text_of(name)} is another name for what lies in project/")
    for place in places:
        if any(not places.get(above, True) for above in folders_above(place)):
            raise ValueError(f"{text_of(place)} lies below a file")


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what zipfile and tarfile raise at a broken file into BadBundle."""
    try:
        yield
    except (*UNREADABLE, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno != errno.EINVAL:
            raise
        # EINVAL: a place that the file names lies outside of it.
        raise BadBundle(
            "{file} cannot be read: {problem}",
            file=path,
            problem=str(problem)[:200] or type(problem).__name__,
            hint="is it whole, and was it written by tensortime export?",
        ) from problem


def copy(source: Source, target: IO[bytes]) -> None:
    """All bytes, in blocks of 1 MiB."""
    while block := source.read(1 << 20):
        target.write(block)

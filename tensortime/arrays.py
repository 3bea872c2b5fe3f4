"""The arrays in numeric files, npy, npz and safetensors: names, types, shapes, and their bytes as a stream.

Files may come from a store that somebody else made. A header that does not fit its file, an archive that inflates out
of proportion, and all that would have to be unpickled is refused (`NotNumeric`): such a file is compared by its bytes
alone. Nothing is read into memory but headers.
"""

import contextlib
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

MAGIC = b"\x93NUMPY"
HEADER = re.compile(
    r"\{\s*'descr'\s*:\s*'([<>|=]?)([a-zA-Z]\d*)'\s*,\s*'fortran_order'\s*:\s*(True|False)\s*,"
    r"\s*'shape'\s*:\s*\(([\d,\s]*)\)\s*,?\s*\}\s*"
)
"""What numpy writes above the numbers; types of several fields look otherwise."""

LONGEST_NPY_HEADER = 10_000
LONGEST_HEADER = 4 << 20
"""Bytes of JSON at the top of a safetensors file."""

MOST_DIRECTORY = 4 << 20
"""Bytes of an archive's table of contents: some 50,000 arrays."""

INFLATION, INFLATES_ANYWAY = 100, 1 << 30
"""An archive may hold so many times its size, and this much beyond it."""

# fmt: off
SIZES = {
    "b1": 1, "i1": 1, "u1": 1, "i2": 2, "u2": 2, "i4": 4, "u4": 4, "i8": 8, "u8": 8, "f2": 2,
    "f4": 4, "f8": 8, "c8": 8, "c16": 16, "bf16": 2, "f8_e4m3": 1, "f8_e5m2": 1,
}
# fmt: on
"""Bytes of one element of each type whose values are compared, by numpy's short names."""

# fmt: off
TENSORS = {
    "BOOL": "b1", "I8": "i1", "U8": "u1", "I16": "i2", "U16": "u2", "I32": "i4", "U32": "u4",
    "I64": "i8", "U64": "u8", "F16": "f2", "F32": "f4", "F64": "f8", "BF16": "bf16",
    "F8_E4M3": "f8_e4m3", "F8_E5M2": "f8_e5m2", "C64": "c8",
}
# fmt: on
"""Types as safetensors names them."""

UNREADABLE = (
    *(
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        RecursionError,
        MemoryError,
    ),
    *(EOFError, NotImplementedError, RuntimeError, OSError, struct.error, zipfile.BadZipFile, zlib.error),
)
"""What reading a file raises that is not what its name says."""


class NotNumeric(Exception):
    """A file whose numbers cannot be read: not what its name says, damaged, or out of all proportion."""


@dataclass(frozen=True, slots=True)
class Array:
    """One array of a file."""

    name: str
    """Empty for the only one of an npy file."""
    dtype: str
    """One of SIZES, or a type whose values are not compared, only the bytes: text, dates, what would be unpickled."""
    shape: tuple[int, ...]
    size: int | None
    """Bytes; None: up to the end of its part of the file."""
    open: Callable[[], IO[bytes]]
    """A stream whose next byte is the array's first."""
    big_endian: bool = False
    fortran: bool = False


@contextlib.contextmanager
def only_numeric() -> Iterator[None]:
    """Whatever a broken or hostile file makes a reader raise becomes NotNumeric."""
    try:
        yield
    except UNREADABLE as problem:
        raise NotNumeric(str(problem)) from problem


def arrays_of(file: IO[bytes], size: int, suffix: str) -> list[Array]:
    """The arrays of a file of so many bytes, in its order; `suffix`: `.npy`, `.npz` or `.safetensors`. NotNumeric."""
    with only_numeric():
        found = {".npy": npy_arrays, ".npz": npz_arrays, ".safetensors": tensors}[suffix](file, size)
        if len({one.name for one in found}) != len(found):
            raise NotNumeric("two arrays of one name")
        return found


def npy_arrays(file: IO[bytes], size: int) -> list[Array]:
    """The one array of an npy file."""
    file.seek(0)
    array, start = npy_header(file, "")
    refuse_other_size(array, start, size)
    return [at_offset(array, file, start)]


def refuse_other_size(array: Array, start: int, size: int) -> None:
    """NotNumeric unless an array that begins at `start` ends where its file ends: another may have been appended."""
    if array.size is not None and start + array.size != size:
        raise NotNumeric("the header promises more than there is, or less")


def at_offset(array: Array, file: IO[bytes], start: int) -> Array:
    """An array that lies in a file as it is."""

    def opened() -> IO[bytes]:
        file.seek(start)
        return file

    return Array(array.name, array.dtype, array.shape, array.size, opened, array.big_endian, array.fortran)


def npy_header(file: IO[bytes], name: str) -> tuple[Array, int]:
    """What the header of an npy stream says, and where its numbers begin."""
    if file.read(6) != MAGIC:
        raise NotNumeric("no npy file")
    short = file.read(2)[0] == 1
    width = 2 if short else 4
    (length,) = struct.unpack("<H" if short else "<I", file.read(width))
    if length > LONGEST_NPY_HEADER:
        raise NotNumeric("the header is too long")
    match = HEADER.fullmatch(file.read(length).decode("latin-1"))
    if match is None:
        raise NotNumeric("a type of several fields, or no header")
    order, dtype, fortran, text = match.groups()
    shape = tuple(int(number) for number in text.replace(" ", "").split(",") if number)
    width_of_one = SIZES.get(dtype)
    total = None if width_of_one is None else math.prod(shape) * width_of_one
    array = Array(name, dtype, shape, total, lambda: file, order == ">", fortran == "True" and len(shape) > 1)
    return array, 8 + width + length


def npz_arrays(file: IO[bytes], size: int) -> list[Array]:
    """The arrays of an archive."""
    if directory_bytes(file, size) > MOST_DIRECTORY:
        raise NotNumeric("too many parts")
    archive = zipfile.ZipFile(file)
    members = [one for one in archive.infolist() if not one.is_dir()]
    if any(one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for one in members):
        raise NotNumeric("packed in a way that numpy does not")
    if sum(one.file_size for one in members) > INFLATION * size + INFLATES_ANYWAY:
        raise NotNumeric("it inflates out of proportion")
    if not members:
        raise NotNumeric("no arrays")
    return [member_array(archive, one) for one in members]


def directory_bytes(file: IO[bytes], size: int) -> int:
    """How long an archive's table of contents is, by its end record; zipfile would read it before anybody can ask."""
    start = max(size - (1 << 16) - 98, 0)
    file.seek(start)
    tail = file.read(size - start)
    end = tail.rfind(b"PK\5\6")
    if end < 0:
        raise NotNumeric("no archive")
    (length,) = struct.unpack_from("<I", tail, end + 12)
    wide = tail.rfind(b"PK\6\6", 0, end)
    return max(int(length), *struct.unpack_from("<Q", tail, wide + 40)) if wide >= 0 else int(length)


def member_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """One part of an archive; what is no npy file is compared by its bytes."""
    name = member.filename

    def opened() -> IO[bytes]:
        return archive.open(member)

    if not name.endswith(".npy"):
        return Array(name, "file", (), None, opened)
    name = name.removesuffix(".npy")
    with opened() as stream:
        array, start = npy_header(stream, name)
    refuse_other_size(array, start, member.file_size)

    def at_numbers() -> IO[bytes]:
        stream = opened()
        stream.read(start)
        return stream

    return Array(name, array.dtype, array.shape, array.size, at_numbers, array.big_endian, array.fortran)


def tensors(file: IO[bytes], size: int) -> list[Array]:
    """The arrays of a safetensors file, in the order of their bytes."""
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(LONGEST_HEADER, size - 8):
        raise NotNumeric("the header is longer than the file, or too long")
    header, start = json.loads(file.read(length)), 8 + length
    found = []
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        first, last = facts["data_offsets"]
        shape = tuple(int(number) for number in facts["shape"])
        dtype = TENSORS.get(str(facts["dtype"]), str(facts["dtype"])[:16])
        if not 0 <= first <= last or min(shape, default=0) < 0:
            raise NotNumeric("a tensor has no place")
        if dtype in SIZES and math.prod(shape) * SIZES[dtype] != last - first:
            raise NotNumeric("a tensor's shape is not that of its bytes")
        array = Array(name, dtype, shape, last - first, lambda: file)
        found.append((first, last, at_offset(array, file, start + first)))
    found.sort(key=lambda one: one[:2])
    edges = [0, *(last for _, last, _ in found)]
    if [first for first, _, _ in found] != edges[:-1] or edges[-1] != size - start:
        raise NotNumeric("the tensors leave holes, or lie outside of the file")
    return [array for _, _, array in found]


def metadata_of(file: IO[bytes]) -> object:
    """What a safetensors file that was read already says beside its tensors."""
    with only_numeric():
        file.seek(0)
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)).get("__metadata__")

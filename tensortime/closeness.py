"""How far the numbers of two files lie apart, array by array.

Blocks of equal bytes are passed over, the others are decoded and compared. Memory is bounded whatever the files hold,
and what is not what its name says is left to its bytes.
"""

import math
import struct
import sys
from array import array
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import IO, Any

from tensortime.arrays import SIZES, Array, NotNumeric, arrays_of, metadata_of, only_numeric
from tensortime.gaps import TINY, Closeness, Gap, Number, distance
from tensortime.tables import SUFFIXES as TABLES
from tensortime.tables import compare_tables

ARRAYS = (".npy", ".npz", ".safetensors")
BLOCK = 1 << 20
"""Bytes that are compared at once: a multiple of the size of every element."""

WHOLE = 16 << 20
"""Bytes of an array that may be read into memory, where the two files have its elements in different orders."""

WORTH_NUMPY = 4 << 20
"""Bytes of an array from which on numpy, where it can be imported, is worth that."""

# fmt: off
CODES = {
    "b1": "B", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q",
    "u8": "Q", "f2": "e", "f4": "f", "f8": "d", "c8": "f", "c16": "d", "bf16": "f", "f8_e4m3": "f",
    "f8_e5m2": "f",
}
# fmt: on
"""What the struct module calls the numbers of each type, as they are decoded."""

IN_DOUBLES = "bBhHiIfd"
"""Numbers that a double holds exactly, so that numpy says the same as Python."""


def is_numeric(path: bytes) -> bool:
    """Whether a file is called like one whose numbers can be compared."""
    return suffix_of(path) in (*ARRAYS, *TABLES)


def suffix_of(path: bytes) -> str:
    """The end of a file's name, in lower case."""
    name = path.rpartition(b"/")[2]
    return "." + name.rpartition(b".")[2].decode("latin-1").lower() if b"." in name else ""


def compare_numbers(
    path: bytes, old: IO[bytes], old_size: int, new: IO[bytes], new_size: int
) -> Closeness | None:
    """How far two files (seekable, of these sizes) lie apart; None where they are not what their name says."""
    suffix = suffix_of(path)
    try:
        with only_numeric():
            compared = compare_tables if suffix in TABLES else compare_archives
            return Closeness(compared(suffix, old, old_size, new, new_size))
    except NotNumeric:
        return None


def compare_archives(
    suffix: str, old: IO[bytes], old_size: int, new: IO[bytes], new_size: int
) -> tuple[Gap, ...]:
    """The arrays that differ between two files of arrays."""
    before = {one.name: one for one in arrays_of(old, old_size, suffix)}
    after = {one.name: one for one in arrays_of(new, new_size, suffix)}
    found = list[Gap]()
    for name, one in before.items():
        gap = compare_arrays(one, after[name]) if name in after else Gap(name, "missing")
        if gap is not None:
            found.append(gap)
    found += [Gap(name, "extra") for name in after if name not in before]
    if suffix == ".safetensors" and metadata_of(old) != metadata_of(new):
        found.append(Gap("__metadata__", "text"))
    return tuple(found)


def compare_arrays(old: Array, new: Array) -> Gap | None:
    """How far two arrays of one name lie apart; None where all values are equal."""
    if old.dtype != new.dtype:
        return Gap(old.name, "type", old=old.dtype, new=new.dtype)
    if old.shape != new.shape:
        return Gap(old.name, "shape", old=str(old.shape), new=str(new.shape))
    if old.dtype not in SIZES or old.size is None or old.size != new.size:
        alike = (old.big_endian, old.fortran) == (new.big_endian, new.fortran)
        return None if alike and same_bytes(old.open(), new.open()) else Gap(old.name, "text")
    widest = (reordered if old.fortran != new.fortran else streamed)(old, new, old.size)
    return Gap(old.name, "", *widest) if widest[0] else None


def same_bytes(old: IO[bytes], new: IO[bytes]) -> bool:
    """Whether two streams hold the same to their end."""
    while True:
        one, other = old.read(BLOCK), new.read(BLOCK)
        if one != other:
            return False
        if not one:
            return True


def streamed(old: Array, new: Array, size: int) -> tuple[float, float]:
    """The largest absolute and relative difference of two arrays, read block by block."""
    numpy = numpy_module() if size >= WORTH_NUMPY else None
    first, second = old.open(), new.open()
    alike = old.big_endian == new.big_endian
    max_abs = max_rel = 0.0
    for start in range(0, size, BLOCK):
        one, other = read_block(first, size - start), read_block(second, size - start)
        if alike and one == other:
            continue
        widest, relative = block_distance(old, new, one, other, numpy)
        max_abs, max_rel = max(max_abs, widest), max(max_rel, relative)
    return max_abs, max_rel


def read_block(stream: IO[bytes], left: int) -> bytes:
    """The next block of an array of which so many bytes are left."""
    data = stream.read(min(BLOCK, left))
    if len(data) < min(BLOCK, left):
        raise NotNumeric("an array ends early")
    return data


def block_distance(
    old: Array, new: Array, one: bytes, other: bytes, numpy: ModuleType | None
) -> tuple[float, float]:
    """How far the numbers in two blocks of bytes lie apart."""
    if numpy is not None and CODES[old.dtype] in IN_DOUBLES:
        before = as_doubles(numpy, one, old.dtype, old.big_endian)
        after = as_doubles(numpy, other, new.dtype, new.big_endian)
        found = distance_by_numpy(numpy, before, after)
        if found is not None:
            return found
    return distance(numbers(one, old.dtype, old.big_endian), numbers(other, new.dtype, new.big_endian))


def numbers(data: bytes, dtype: str, big_endian: bool) -> Sequence[Number]:
    """The elements in some bytes; of complex numbers both parts."""
    code = CODES[dtype]
    if dtype == "f2":
        return struct.unpack(f"{'>' if big_endian else '<'}{len(data) // 2}e", data)
    found = array(code)
    found.frombytes(widened(data, dtype, big_endian))
    if big_endian is not (sys.byteorder == "big") and dtype not in WIDENED:
        found.byteswap()
    return found


WIDENED = ("bf16", "f8_e4m3", "f8_e5m2")
"""Types that Python has no word for: decoded as floats of four bytes."""


def widened(data: bytes, dtype: str, big_endian: bool) -> bytes:
    """Bytes of a type in WIDENED as floats of four bytes, in the machine's order; others as they are."""
    if dtype not in WIDENED:
        return data
    if dtype != "bf16":
        return b"".join(map(eighths(dtype).__getitem__, data))
    wide = bytearray(2 * len(data))
    # The upper half of a float, its lower half zero.
    high, low = (3, 2) if sys.byteorder == "little" else (0, 1)
    wide[high::4], wide[low::4] = (data[0::2], data[1::2]) if big_endian else (data[1::2], data[0::2])
    return bytes(wide)


@cache
def eighths(dtype: str) -> tuple[bytes, ...]:
    """All 256 floats of one byte, as floats of four bytes."""
    if dtype == "f8_e5m2":  # the upper half of a float of two bytes
        return tuple(struct.pack("=f", *struct.unpack("<e", bytes((0, byte)))) for byte in range(256))
    return tuple(struct.pack("=f", of_e4m3(byte)) for byte in range(256))


def of_e4m3(byte: int) -> float:
    """A float of one byte: a sign, four bits of exponent, three of mantissa; no infinity."""
    sign, exponent, mantissa = -1.0 if byte & 0x80 else 1.0, byte >> 3 & 15, byte & 7
    if byte & 0x7F == 0x7F:
        return math.nan
    return sign * (math.ldexp(mantissa, -9) if exponent == 0 else math.ldexp(8 + mantissa, exponent - 10))


@cache
def numpy_module() -> ModuleType | None:
    """numpy, if there is one: nothing needs it, it only saves time."""
    try:
        import numpy
    except Exception:  # noqa: BLE001 - one that is broken in whatever way is none
        return None
    return numpy


def as_doubles(numpy: ModuleType, data: bytes, dtype: str, big_endian: bool) -> Any:
    """The elements in some bytes as numpy's doubles."""
    order = "=" if dtype in WIDENED else ">" if big_endian else "<"
    return numpy.frombuffer(widened(data, dtype, big_endian), order + CODES[dtype]).astype("f8")


def distance_by_numpy(numpy: ModuleType, old: Any, new: Any) -> tuple[float, float] | None:
    """As `distance`; None where numbers are NaN or infinite."""
    with numpy.errstate(all="ignore"):
        apart = numpy.abs(new - old)
        if not numpy.isfinite(apart.sum()):
            return None
        larger = numpy.maximum(numpy.maximum(numpy.abs(old), numpy.abs(new)), TINY)
        return float(apart.max()), float((apart / larger).max())


def reordered(old: Array, new: Array, size: int) -> tuple[float, float]:
    """As `streamed`, where only one of two arrays is in Fortran's order."""
    if size > WHOLE:
        raise NotNumeric("too large to be put into another order")
    if not size:
        return 0.0, 0.0
    one, other = (in_order(each, read_all(each.open(), size)) for each in (old, new))
    return distance(one, other)


def read_all(stream: IO[bytes], size: int) -> bytes:
    """So many bytes."""
    data = stream.read(size)
    if len(data) < size:
        raise NotNumeric("an array ends early")
    return data


def in_order(one: Array, data: bytes) -> list[Number]:
    """The elements of an array, the last index running fastest; of complex numbers first all real parts."""
    values = numbers(data, one.dtype, one.big_endian)
    parts = (values[0::2], values[1::2]) if one.dtype.startswith("c") else (values,)
    return [number for part in parts for number in (unwound(part, one.shape) if one.fortran else part)]


def unwound(values: Sequence[Number], shape: Sequence[int]) -> list[Number]:
    """Elements of which the first index runs fastest, so that the last one does."""
    if len(shape) < 2 or not values:
        return list(values)
    rows = (unwound(values[start :: shape[0]], shape[1:]) for start in range(shape[0]))
    return [number for row in rows for number in row]

"""The stats of all files of a project in sixteen bytes each, so that they can be kept while a training runs."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable

from tensortime.findings import FileStat


class StatSums:
    """Tells what became of files since their stats were taken. Only within one process.

    `file in sums`: nothing of it changed. `sums.is_unwritten(file)`: neither was it written to nor replaced; another ctime
    alone is also a chmod, or a hard link that somebody's backup made of the whole project.
    """

    def __init__(self, files: Iterable[FileStat] = ()) -> None:
        listed = tuple(files)
        self.whole = array("q", sorted({hash((*data_of(one), one.ctime_ns)) for one in listed}))
        self.data = array("q", sorted({hash(data_of(one)) for one in listed}))

    def __contains__(self, file: FileStat) -> bool:
        return is_among(self.whole, hash((*data_of(file), file.ctime_ns)))

    def is_unwritten(self, file: FileStat) -> bool:
        """Whether it has the bytes that it had, as far as its stat tells."""
        return is_among(self.data, hash(data_of(file)))


def data_of(file: FileStat) -> tuple[bytes, int, int, int]:
    """What changes with the bytes. Two files have the same hash of it only by a chance of one in 2^64."""
    return file.path, file.size, file.mtime_ns, file.inode


def is_among(sums: "array[int]", wanted: int) -> bool:
    """Whether a number is among sorted ones."""
    at = bisect_left(sums, wanted)
    return at < len(sums) and sums[at] == wanted

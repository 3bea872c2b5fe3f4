"""The stats of all files of a project in eight bytes each, so that they can be kept while a training runs."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable

from tensortime.findings import FileStat


class StatSums:
    """Tells whether a file still has the stat that it had: `file in sums`. Only within one process."""

    def __init__(self, files: Iterable[FileStat] = ()) -> None:
        self.sums = array("q", sorted({sum_of(one) for one in files}))

    def __contains__(self, file: FileStat) -> bool:
        wanted = sum_of(file)
        at = bisect_left(self.sums, wanted)
        return at < len(self.sums) and self.sums[at] == wanted


def sum_of(file: FileStat) -> int:
    """What two files have in common only by a chance of one in 2^64, unless path and stat are the same."""
    return hash((file.path, file.size, file.mtime_ns, file.ctime_ns, file.inode))

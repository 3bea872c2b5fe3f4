"""What the operating system refused, as an error that a person can act on: no room, no right, no descriptor."""

import errno
import os

from tensortime import fsops
from tensortime.errors import Message, NoSpace, StoreUnusable, TensorTimeError, message

NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}


def refusal(where: str, problem: OSError) -> TensorTimeError:
    """The error for a disk, a permission or a limit that stopped an operation in `where`."""
    path = os.fsdecode(problem.filename) if isinstance(problem.filename, str | bytes) else where
    said = problem.strerror or str(problem)
    if problem.errno in fsops.FULL:
        return no_space(path, where, said, limited=problem.errno == errno.EFBIG)
    return StoreUnusable(
        "the store cannot be used: {path}: {problem}", path=path, problem=said, hint=what_helps(problem)
    )


def no_space(path: str, where: str, said: str, *, limited: bool = False) -> NoSpace:
    """The error for a disk, quota or limit that takes no more, with what the disk of `where` has left."""
    try:
        (free, _), files = fsops.free_space(where), fsops.free_files(where)
    except OSError:
        free, files = 0, None
    hint: Message | str = message(
        "make room on that disk (tensortime du shows what backups take, rm and gc free it), or name another place "
        "with TENSORTIME_STORE"
    )
    if limited:
        hint = message("a limit on the size of files stands in the way: ulimit -f shows it")
    elif files == 0:
        hint = message(
            "no more files fit on that disk, whatever is free: df -i shows it; delete many small ones"
        )
    return NoSpace(
        "the store cannot be written: {path}: {problem}, {free:,} bytes and {files} files are free on that disk",
        path=path,
        problem=said,
        free=free,
        files="?" if files is None else f"{files:,}",
        hint=hint,
    )


def what_helps(problem: OSError) -> Message | str:
    """What to do about an error that is not about room."""
    if problem.errno in NO_DESCRIPTORS:
        return message("this process has too many files open: ulimit -n raises the limit")
    if problem.errno == errno.EIO:
        return message(
            "the disk or the way to it fails: dmesg tells; tensortime verify --read-data says what is whole"
        )
    return "ls -ld and df -h on that path show what is in the way"

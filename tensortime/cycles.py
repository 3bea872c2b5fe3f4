"""Python's search for cycles of objects, put off while many objects are made that form none."""

import contextlib
import gc
import os
from collections.abc import Callable, Iterator

put_off: set[object] = set()
"""The block for which the search is put off."""


def resume_in_child() -> None:
    """A process that is forked meanwhile (another thread starts a DataLoader's worker) has nobody to end the block."""
    if put_off:
        put_off.clear()
        gc.enable()


os.register_at_fork(after_in_child=resume_in_child)


@contextlib.contextmanager
def no_cycle_search() -> Iterator[Callable[[], None]]:
    """For the time of a block or a function (`@no_cycle_search()`) that makes something for each file.

    The search looks at all of these again and again, a fifth of the time of a backup in which nothing has changed.
    For seconds only, since it holds for every thread of the process: never around the reading of files. What the
    block gets ends it early.
    """
    block = object()

    def resume() -> None:
        if block in put_off:
            gc.enable()
            put_off.discard(block)

    try:
        if gc.isenabled():
            put_off.add(block)
            gc.disable()
        yield resume
    finally:
        resume()

"""Python's search for cycles of objects, put off while many objects are made that form none."""

import contextlib
import gc
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def no_cycle_search() -> Iterator[Callable[[], None]]:
    """For the time of a block or a function (`@no_cycle_search()`) that makes something for each file.

    The search looks at all of these again and again, a fifth of the time of a backup in which nothing has changed.
    For seconds only, since it holds for every thread of the process: never around the reading of files. What the
    block gets ends it early.
    """
    resume = gc.enable if gc.isenabled() else lambda: None
    gc.disable()
    try:
        yield resume
    finally:
        resume()

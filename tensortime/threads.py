"""Threads for work that goes on without them where they cannot be: Python ends, or a limit on processes is reached."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads(count: int) -> "contextlib.AbstractContextManager[ThreadPoolExecutor | None]":
    """So many threads until the end of the block, or None."""
    pool = start_threads(count) if count else None
    return contextlib.nullcontext() if pool is None else pool


def start_threads(count: int) -> "ThreadPoolExecutor | None":
    """So many threads, or None. All of them begin here: one that could not begin later would fail what it is for."""
    everybody = threading.Event()
    try:
        from concurrent.futures import ThreadPoolExecutor  # 5 ms that what needs no threads need not pay

        pool = ThreadPoolExecutor(count, "tensortime")
    except RuntimeError:
        return None
    try:
        for _ in range(count):
            pool.submit(everybody.wait)
    except RuntimeError:
        pool.shutdown(wait=False)
        return None
    finally:
        everybody.set()
    return pool


def begin(pool: "ThreadPoolExecutor | None", work: Callable[[], Result]) -> "Future[Result]":
    """Let a thread do this; without a pool it is done here."""
    from concurrent.futures import Future

    if pool is not None:
        return pool.submit(work)
    done: Future[Result] = Future()
    done.set_result(work())
    return done


def in_threads(
    pool: "ThreadPoolExecutor | None",
    work: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int,
    stop: threading.Event | None = None,
) -> Generator[Result, None, None]:
    """Results in order, with at most `ahead` items under way: memory stays bounded. Without a pool, one by one.

    `stop` is set where the results are not wanted to the end (Ctrl-C, an error), so that long work can give up.
    """
    waiting: deque[Future[Result]] = deque()
    rest = iter(items)
    try:
        for item in rest if pool is not None else ():
            try:
                waiting.append(pool.submit(work, item))  # type: ignore[union-attr]
            except RuntimeError:
                # The main thread has ended: threads finish what they have, and take nothing new.
                rest = chain([item], rest)
                break
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        yield from map(work, rest)
    except BaseException:
        if stop is not None:
            stop.set()
        raise
    finally:
        for future in waiting:
            future.cancel()

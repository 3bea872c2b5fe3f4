"""Python's search for cycles is put off for a moment, and neither a training nor what it forks goes without it."""

import gc
import os
import threading
from collections.abc import Iterator

import pytest

from tensortime.cycles import no_cycle_search


@pytest.fixture(autouse=True)
def _searching() -> Iterator[None]:
    """However a test ends."""
    assert gc.isenabled()
    yield
    gc.enable()


def searches_in_child() -> bool:
    """Whether a process that is forked now searches."""
    child = os.fork()
    if child == 0:
        os._exit(7 if gc.isenabled() else 8)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_for_the_block_alone() -> None:
    """Also where it fails, and where another one is inside."""
    with pytest.raises(ZeroDivisionError), no_cycle_search():
        with no_cycle_search():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()


def test_whoever_does_without_it_keeps_doing_without() -> None:
    """A training that has put it off itself, before or after the block let it go on, and its children."""
    gc.disable()
    with no_cycle_search() as resume:
        resume()
        assert not searches_in_child()
    assert not gc.isenabled()
    gc.enable()
    with no_cycle_search() as resume:
        resume()
        assert gc.isenabled()
        gc.disable()
    assert not gc.isenabled()


def test_c08_what_is_forked_meanwhile_searches() -> None:
    """C08: a DataLoader's worker, forked while another thread backs up, lives for hours: it must not grow."""
    inside, end = threading.Event(), threading.Event()

    def back_up() -> None:
        with no_cycle_search():
            inside.set()
            end.wait()

    thread = threading.Thread(target=back_up)
    thread.start()
    inside.wait()
    try:
        assert searches_in_child()
        assert not gc.isenabled()
    finally:
        end.set()
        thread.join()
    assert gc.isenabled()
    assert searches_in_child()

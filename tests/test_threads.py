"""Work in threads, and without them: Python ends, or the process may have no more."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree

from tensortime import api, intake, maintenance
from tensortime.threads import begin, in_threads, start_threads, threads


def allow(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many threads begin, and no other."""
    left = [count]
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_all_of_them_or_none(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot begin is known before there is anything for it to do; those that did begin end."""
    before = threading.active_count()
    allow(count, monkeypatch)
    assert start_threads(4) is None
    for thread in threading.enumerate():
        if thread.name.startswith("tensortime"):
            thread.join(60)
    assert threading.active_count() == before


@pytest.mark.parametrize("count", [0, 3])
def test_results_come_in_order_with_threads_and_without(count: int) -> None:
    """Of as many items as there are, however few are under way at once."""
    with threads(count) as pool:
        assert (pool is None) == (count == 0)
        assert list(in_threads(pool, str, range(50), 5)) == [str(number) for number in range(50)]
        assert begin(pool, lambda: "done").result() == "done"


def test_threads_that_take_nothing_new_leave_the_rest_to_who_asks() -> None:
    """The main thread has ended while another one makes a backup: each item is still done once."""
    done: list[int] = []
    pool = start_threads(2)
    assert pool is not None

    def work(number: int) -> int:
        if number == 3:
            pool.shutdown(wait=False)
        done.append(number)
        return number

    assert list(in_threads(pool, work, range(20), 4)) == list(range(20))
    assert sorted(done) == list(range(20))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_everything_works_where_threads_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """`ulimit -u`, or a container's limit on processes: slower, and whole."""
    tree = Tree(tmp_path / "project")
    for number in range(2 * intake.BATCH_FILES):
        tree.file(f"file{number}", size=2 * intake.ALONE_BYTES)
    for number in range(5):
        tree.file(f"{number}.bin", size=2 << 20)
    verbs: list[Callable[[], object]] = [
        lambda: api.backup(directory=tree.root, name="exp"),
        lambda: assert_same_tree(tree.root, api.restore("exp", directory=tree.root).path),
        lambda: api.diff("exp", directory=tree.root),
    ]
    for verb in verbs:
        with monkeypatch.context() as patch:
            allow(count, patch)
            verb()
    with monkeypatch.context() as patch:
        allow(count, patch)
        assert maintenance.verify(read_data="all", directory=tree.root).exit_code == 0


BEHIND_MAIN = """
import sys, threading, time
from tensortime import api
def work():
    threading.main_thread().join()
    print(api.backup(directory=sys.argv[1], name="exp").files)
threading.Thread(target=work).start()
"""


def test_a_backup_in_a_thread_that_outlives_the_main_one(tmp_path: Path) -> None:
    """Python takes no work for threads any more then, and runs the thread to its end."""
    tree = Tree(tmp_path / "project")
    for number in range(2 * intake.BATCH_FILES):
        tree.file(f"file{number}", size=2 * intake.ALONE_BYTES)
    for number in range(5):
        tree.file(f"{number}.bin", size=2 << 20)
    done = subprocess.run(
        [sys.executable, "-c", BEHIND_MAIN, str(tree.root)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == f"{2 * intake.BATCH_FILES + 5}\n", done.stderr
    assert_same_tree(tree.root, api.restore("exp", directory=tree.root).path)

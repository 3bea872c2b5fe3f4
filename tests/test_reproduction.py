"""How the outputs of one experiment came out in another: output by output, small and large, listed or only added."""

import io
import shutil
from pathlib import Path

import numpy as np
from builders import Tree

from tensortime import api, history
from tensortime.monitor import SILENT
from tensortime.reproduction import Compared, causes_between, compare_outputs, read_recorded
from tensortime.store import Store, open_store
from tensortime.suspects import suspects_of

LARGE = 300_000


def npy(*values: float, size: int = 0) -> bytes:
    """An npy file, with zeros up to some size behind the values."""
    file, array = io.BytesIO(), np.zeros(max(size, len(values)), "f4")
    array[: len(values)] = values
    np.save(file, array)
    return file.getvalue()


def project(tmp_path: Path) -> Tree:
    """A project that leaves out what it makes, as far as it lies in `save`."""
    return Tree(tmp_path / "p").file("train.py", b"1").file(".ttignore", b"save/\n")


def run(tree: Tree, name: str, outputs: dict[str, bytes], add: tuple[str, ...] = ("save",)) -> None:
    """One experiment: the inputs, then these outputs on top."""
    api.backup(directory=tree.root, name=name)
    shutil.rmtree(tree.root / "save", ignore_errors=True)
    for path, data in outputs.items():
        tree.file(path, data)
    api.backup(directory=tree.root, name=name, add=list(add))


def store_of(tree: Tree) -> Store:
    """The store of a project."""
    return open_store(str(tree.root / "tensortime"))


def target(tree: Tree, text: str) -> history.Target:
    """A backup by its name."""
    shadow = store_of(tree).shadow
    return history.resolve(shadow, history.read_catalog(shadow), text)


def compared(tree: Tree, rtol: float = 0.0, passed_over: tuple[bytes, ...] = ()) -> Compared:
    """The outputs of `a` as they are in `b`."""
    return compare_outputs(
        store_of(tree), target(tree, "a"), target(tree, "b"), rtol, lambda path: path in passed_over, SILENT
    )


def told(found: Compared) -> dict[str, str]:
    """Path to result."""
    return {one.path: one.result for one in found.outputs}


def test_every_output_is_compared(tmp_path: Path) -> None:
    """Small files and large ones: the same, others, gone, and new in a folder of nothing but outputs."""
    tree = project(tmp_path)
    run(tree, "a", {"save/a.npy": npy(1), "save/b.npy": npy(size=LARGE), "save/c.txt": b"1", "save/d": b"x"})
    run(
        tree,
        "b",
        {"save/a.npy": npy(1), "save/b.npy": npy(0.5, size=LARGE), "save/c.txt": b"2", "save/e": b"x"},
    )
    found = compared(tree)
    assert told(found) == {
        "save/a.npy": "identical",
        "save/b.npy": "differs",
        "save/c.txt": "differs",
        "save/d": "missing",
        "save/e": "extra",
    }
    first = found.outputs[1].first
    assert first is not None
    assert (first.max_abs, first.max_rel) == (0.5, 1.0)


def test_permissions_are_no_result(tmp_path: Path) -> None:
    """Another umask gives the same bytes."""
    tree = project(tmp_path)
    run(tree, "a", {"save/x": b"1", "save/y": npy(size=LARGE)})
    (tree.root / "save/x").chmod(0o600)
    (tree.root / "save/y").chmod(0o600)
    api.backup(directory=tree.root, name="b")
    api.backup(directory=tree.root, name="b", add=["save"])
    assert told(compared(tree)) == {"save/x": "identical", "save/y": "identical"}


def test_the_bar_decides_what_is_close(tmp_path: Path) -> None:
    """Relative to the larger number."""
    tree = project(tmp_path)
    run(tree, "a", {"save/a.json": b"[1000]", "save/b.json": b"[1]"})
    run(tree, "b", {"save/a.json": b"[1001]", "save/b.json": b"[1.0]"})
    assert told(compared(tree)) == {"save/a.json": "differs", "save/b.json": "close"}
    assert told(compared(tree, 1e-2)) == {"save/a.json": "close", "save/b.json": "close"}


def test_what_a_person_passes_over_is_not_compared(tmp_path: Path) -> None:
    """A log with times in it is another every time."""
    tree = project(tmp_path)
    run(tree, "a", {"save/log": b"09:00", "save/x": b"1"})
    run(tree, "b", {"save/log": b"10:00", "save/x": b"1"})
    assert told(compared(tree, passed_over=(b"save/log",))) == {"save/x": "identical"}


def test_files_of_which_the_first_run_recorded_nothing_say_nothing(tmp_path: Path) -> None:
    """Who added `save` alone did not say that nothing else was made."""
    tree = project(tmp_path)
    run(tree, "a", {"save/x": b"1"})
    run(tree, "b", {"save/x": b"1", "trace.log": b"2"}, add=("save", "trace.log"))
    found = compared(tree)
    assert (told(found), found.unrecorded) == ({"save/x": "identical"}, 1)


def test_a_changed_input_is_an_output(tmp_path: Path) -> None:
    """What the second run left as the inputs have it, it did not write."""
    tree = project(tmp_path).file("state.txt", b"0")
    run(tree, "a", {"state.txt": b"1"}, add=("state.txt",))
    tree.file("state.txt", b"0")
    run(tree, "b", {"save/x": b"1"})
    assert told(compared(tree)) == {"state.txt": "unwritten"}


def test_a_changed_input_is_compared_by_its_bytes(tmp_path: Path) -> None:
    """Both runs changed it, each in its own way."""
    tree = project(tmp_path).file("state.txt", b"0")
    run(tree, "a", {"state.txt": b"1"}, add=("state.txt",))
    tree.file("state.txt", b"0")
    run(tree, "b", {"state.txt": b"2"}, add=("state.txt",))
    assert told(compared(tree)) == {"state.txt": "differs"}


def test_only_what_is_on_top_of_the_last_whole_backup_is_an_output(tmp_path: Path) -> None:
    """A run that went on in the same experiment began from what was there by then."""
    tree = project(tmp_path)
    run(tree, "a", {"early.txt": b"1"}, add=("early.txt",))
    api.backup(directory=tree.root, name="a", joins=True)
    tree.file("late.txt", b"1")
    api.backup(directory=tree.root, name="a", add=["late.txt"])
    found = read_recorded(store_of(tree), target(tree, "a"))
    assert (found.inputs.number, found.outputs) == (3, frozenset({b"late.txt"}))
    first = read_recorded(store_of(tree), target(tree, "a:2"))
    assert (first.inputs.number, first.outputs) == (1, frozenset({b"early.txt"}))
    assert read_recorded(store_of(tree), target(tree, "a:1")).outputs == frozenset()


def test_folders_of_nothing_but_outputs_stand_for_them(tmp_path: Path) -> None:
    """What a rerun has to look at although a rule leaves it out: also what is new there."""
    tree = project(tmp_path).file("src/model.py", b"1")
    outputs = {"save/deep/a": b"1", "save/deep/b": b"2", "save/c": b"3", "src/out.txt": b"4"}
    run(tree, "a", outputs, add=("save", "src/out.txt"))
    found = read_recorded(store_of(tree), target(tree, "a"))
    assert found.top_outputs == (b"save", b"src/out.txt")


def test_causes_are_those_of_the_inputs(tmp_path: Path) -> None:
    """Code and params that differ; outputs and what only one side told do not."""
    tree = project(tmp_path)
    api.backup(directory=tree.root, name="a", params={"lr": 1})
    api.backup(directory=tree.root, name="a", add=["train.py"])
    tree.file("train.py", b"2")
    api.backup(directory=tree.root, name="b", params={"lr": 2})
    api.backup(directory=tree.root, name="c")
    store, recorded = store_of(tree), read_recorded(store_of(tree), target(tree, "a"))
    causes = causes_between(store, recorded, target(tree, "b"), same_command=True)
    assert [(one.category, one.key) for one in suspects_of(causes)] == [
        ("code", "train.py"),
        ("params", "lr"),
    ]
    causes = causes_between(store, recorded, target(tree, "c"), same_command=True)
    assert [(one.category, one.key) for one in suspects_of(causes)] == [("code", "train.py")]

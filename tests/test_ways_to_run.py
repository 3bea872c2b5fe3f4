"""How else a training is started: threads, asyncio, two nodes on one project, an archive, a debugger. C14, C16, E10."""

import os
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest
from builders import Tree, run_cli
from terminals import PACKAGE

from tensortime import api

THREADS = b"""\
import threading
from tensortime import TimeMachine

shared, reports = TimeMachine(exp_dir="shared", strict=True), []
def work(number):
    own = TimeMachine(exp_dir=f"own{number}", strict=True)
    for machine in (shared, own):
        reports.append(machine.backup())
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(reports) == 8, reports
"""

TASKS = b"""\
import asyncio
from tensortime import TimeMachine

async def trial(number):
    await asyncio.sleep(0)
    return await asyncio.to_thread(TimeMachine(exp_dir=f"trial{number}", strict=True).backup)

async def main():
    inline = TimeMachine(exp_dir="inline", strict=True).backup()
    return [inline, *await asyncio.gather(*(trial(number) for number in range(4)))]

print(sorted(str(report.experiment) for report in asyncio.run(main())))
"""

TRAIN = (
    b"from tensortime import TimeMachine\nprint('trained', TimeMachine(exp_dir='x').backup().experiment)\n"
)


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with a large file."""
    return Tree(tmp_path / "p").file("train.py", TRAIN).file("data.bin", size=(1 << 20) + 1)


def start(
    tree: Tree, *words: str | Path, stdin: str | None = None, **variables: str
) -> "subprocess.Popen[str]":
    """Start Python in the project."""
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=tree.root,
        env={**os.environ, "PYTHONPATH": PACKAGE, **variables},
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def backups(tree: Tree) -> dict[str, int]:
    """How many backups each experiment has."""
    return {str(one.name): one.backups for one in api.log(directory=tree.root).experiments}


def all_is_whole(tree: Tree) -> bool:
    """Whether every byte of every backup is there."""
    return run_cli("verify", "--read-data", cwd=tree.root).returncode == 0


def test_c14_threads_share_a_machine_or_have_their_own(project: Tree) -> None:
    """C14: backups of one object are one after the other, each counted; objects of their own are experiments."""
    child = start(project.file("threads.py", THREADS), "threads.py")
    _, said = child.communicate(timeout=100)
    assert child.returncode == 0, said
    assert backups(project) == {"shared": 4, "own0": 1, "own1": 1, "own2": 1, "own3": 1}
    assert all_is_whole(project)


def test_c14_asyncio(project: Tree) -> None:
    """C14: inside a running loop, and from the threads that it hands work to."""
    child = start(project.file("tasks.py", TASKS), "tasks.py")
    out, said = child.communicate(timeout=100)
    assert child.returncode == 0, said
    assert out.strip() == "['inline', 'trial0', 'trial1', 'trial2', 'trial3']"
    assert all_is_whole(project)


def test_c16_two_nodes_with_one_project_are_one_experiment(project: Tree) -> None:
    """C16: `accelerate launch` on two machines starts train.py on both, with one folder for all of them."""
    ranks = [
        start(
            project,
            "train.py",
            RANK=str(2 * node + local),
            LOCAL_RANK=str(local),
            GROUP_RANK=str(node),
            WORLD_SIZE="4",
            LOCAL_WORLD_SIZE="2",
            MASTER_ADDR="node0",
        )
        for node in range(2)
        for local in range(2)
    ]
    said = [rank.communicate(timeout=100)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * 4
    assert said == ["trained x\n", *["trained None\n"] * 3]
    assert backups(project) == {"x": 1}


def test_c16_a_launcher_that_tells_only_node_and_local_rank(project: Tree) -> None:
    """C16: without RANK the first process of the first node backs up, not the first of each."""
    nodes = [start(project, "train.py", NODE_RANK=str(node), LOCAL_RANK="0") for node in range(2)]
    said = [node.communicate(timeout=100)[0] for node in nodes]
    assert said == ["trained x\n", "trained None\n"]
    assert backups(project) == {"x": 1}


def test_e10_a_training_in_an_archive(project: Tree, tmp_path: Path) -> None:
    """E10: `python app.pyz` backs up the folder that the archive lies in."""
    source = Tree(tmp_path / "source").file("__main__.py", TRAIN)
    zipapp.create_archive(source.root, project.root / "app.pyz")
    child = start(project, "app.pyz")
    out, said = child.communicate(timeout=100)
    assert (child.returncode, out) == (0, "trained x\n"), said
    assert api.read_file("x", "app.pyz", directory=project.root)[0]


def test_e10_under_the_debugger(project: Tree) -> None:
    """E10: `python -m pdb train.py` is the training, not a program of Python's own."""
    child = start(project, "-m", "pdb", "-c", "continue", "train.py", stdin="")
    out, said = child.communicate("q\n", timeout=100)
    assert "trained x" in out, said
    assert backups(project) == {"x": 1}
    assert api.show("x", directory=project.root).run["cwd"] == str(project.root)

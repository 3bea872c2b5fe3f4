"""One launch makes one backup: what ranks and child processes see. CASES C15, E10."""

import multiprocessing
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from tensortime.ranks import is_child_process, live_rank, rank_of, why_not_here

PACKAGE = str(Path(__file__).resolve().parent.parent)

TRAIN = """
import os, sys
sys.path.insert(0, {package!r})
from tensortime.ranks import why_not_here

def note(where):
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{{where}}: {{why_not_here(os.environ)}}\\n")

note("top of train.py")
"""

START_CHILDREN = """
import multiprocessing

def work(number=0):
    note("inside a child")

def main(method):
    context = multiprocessing.get_context(method)
    child = context.Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0
    with context.Pool(2) as pool:
        pool.map(work, range(4))
        pool.close()
        pool.join()
    note("main, after its children")

if __name__ == "__main__":
    main(sys.argv[1])
"""


def train(folder: Path, body: str, *words: str, **variables: str) -> list[str]:
    """Run a train.py whose top asks whether to back up, and return every answer of all its processes."""
    notes = folder / "notes"
    notes.touch()
    script = folder / "train.py"
    script.write_text(TRAIN.format(package=PACKAGE) + body)
    launch = {name: value for name, value in os.environ.items() if "RANK" not in name and "SLURM" not in name}
    launch.pop("TENSORTIME", None)
    environment = {**launch, "NOTES": str(notes), **variables}
    subprocess.run([sys.executable, str(script), *words], env=environment, cwd=folder, check=True, timeout=60)
    return notes.read_text().splitlines()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, types.ModuleType]]:
    """Modules that stand in for torch and jax, as if the program had loaded them."""
    modules = {
        name: types.ModuleType(name)
        for name in ("torch.distributed", "jax.distributed", "jax._src.distributed")
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield modules


# --- ranks of the environment


@pytest.mark.parametrize(
    ("environ", "rank"),
    [
        ({}, None),
        ({"RANK": "0"}, 0),
        ({"RANK": "7", "LOCAL_RANK": "0"}, 7),
        ({"OMPI_COMM_WORLD_RANK": "2"}, 2),
        ({"PMI_RANK": "3"}, 3),
        ({"PMIX_RANK": "4"}, 4),
        ({"MV2_COMM_WORLD_RANK": "5"}, 5),
        ({"JSM_NAMESPACE_RANK": "6"}, 6),
        ({"LOCAL_RANK": "0"}, 0),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, 1),
        ({"LOCAL_RANK": "1", "NODE_RANK": "2", "LOCAL_WORLD_SIZE": "4"}, 9),
        ({"LOCAL_RANK": "1", "GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "8"}, 9),
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, 1),
        ({"SLURM_PROCID": "3"}, 3),
        ({"TPU_WORKER_ID": "1"}, 1),
        ({"HOROVOD_RANK": "1"}, 1),
        ({"RANK": "", "PMI_RANK": "1"}, 1),
        ({"RANK": "first"}, None),
        ({"RANK": "1_0"}, None),
        ({"RANK": "٣"}, None),
        ({"LOCAL_RANK": "-1"}, None),
        ({"RANK": "9" * 5000}, None),
        ({"RANK": " 1 "}, 1),
    ],
)
def test_the_rank_is_the_launchers(environ: dict[str, str], rank: int | None) -> None:
    """The first variable that holds a number decides; what is no number is passed over."""
    assert rank_of(environ) == rank


def test_the_first_process_of_another_node_is_not_rank_0() -> None:
    """LOCAL_RANK=0 exists once a node: with nothing but the number of the node it must not count as first."""
    assert rank_of({"LOCAL_RANK": "0", "NODE_RANK": "1"}) != 0


def test_tasks_of_a_slurm_array_are_launches_of_their_own() -> None:
    """Each task of an array backs up: they are different experiments."""
    tasks = [
        {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(n), "SLURM_PROCID": "0"} for n in range(5)
    ]
    assert [why_not_here(task) for task in tasks] == [None] * 5


LAUNCHERS = {
    "torchrun": lambda n: {
        "RANK": str(n),
        "LOCAL_RANK": str(n % 4),
        "GROUP_RANK": str(n // 4),
        "WORLD_SIZE": "8",
    },
    "mpirun in a batch script": lambda n: {"OMPI_COMM_WORLD_RANK": str(n), "SLURM_PROCID": "0"},
    "srun": lambda n: {"SLURM_PROCID": str(n), "SLURM_LOCALID": str(n % 4)},
    "lightning, which starts only the others with a rank": lambda n: {"LOCAL_RANK": str(n)} if n else {},
    "two nodes without a global rank": lambda n: {"LOCAL_RANK": str(n % 4), "NODE_RANK": str(n // 4)},
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_exactly_one_of_eight_ranks_backs_up(launcher: str) -> None:
    """Whoever starts the eight processes, one of them gets no reason to stay quiet."""
    reasons = [why_not_here(LAUNCHERS[launcher](n)) for n in range(8)]
    assert reasons.count(None) == 1
    assert reasons[0] is None


def test_eight_real_processes_of_torchrun(tmp_path: Path) -> None:
    """Eight processes run the same train.py: one answer is to back up, seven name their rank."""
    answers: list[str] = []
    for rank in range(8):
        folder = tmp_path / str(rank)
        folder.mkdir()
        answers += train(folder, "", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="8")
    others = [f"top of train.py: rank {rank} of the launch" for rank in range(1, 8)]
    assert answers == ["top of train.py: None", *others]


# --- ranks of live objects


def test_torch_knows_its_rank_once_initialised(loaded: dict[str, types.ModuleType]) -> None:
    """A program that calls init_process_group itself sets no variable."""
    torch = loaded["torch.distributed"]
    started = False
    vars(torch).update(is_available=lambda: True, is_initialized=lambda: started, get_rank=lambda: 3)
    assert live_rank() is None
    started = True
    assert live_rank() == 3
    assert why_not_here({}) == "rank 3 of the launch"
    assert why_not_here({"SLURM_PROCID": "0"}) == "rank 3 of the launch"


def test_jax_knows_its_rank_and_no_back_end_starts(loaded: dict[str, types.ModuleType]) -> None:
    """jax.process_index() would claim the accelerator: it is not called."""
    vars(loaded["jax.distributed"]).update(is_initialized=lambda: True)
    vars(loaded["jax._src.distributed"]).update(global_state=types.SimpleNamespace(process_id=2))
    assert live_rank() == 2


def test_a_broken_torch_does_not_hide_jax(loaded: dict[str, types.ModuleType]) -> None:
    """Whatever a half-imported module raises, the question ends without an exception."""

    def broken() -> bool:
        raise RuntimeError("half imported")

    vars(loaded["torch.distributed"]).update(is_available=broken)
    assert live_rank() is None
    vars(loaded["jax.distributed"]).update(is_initialized=lambda: True)
    vars(loaded["jax._src.distributed"]).update(global_state=types.SimpleNamespace(process_id=1))
    assert live_rank() == 1


def test_nothing_is_imported_to_find_out() -> None:
    """A process without torch, jax and multiprocessing stays without them."""
    code = (
        "import os, sys; from tensortime.ranks import why_not_here; assert why_not_here({}) is None;"
        "assert not {'torch', 'jax', 'multiprocessing', 'subprocess'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PACKAGE, check=True, timeout=60)


# --- children


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_that_run_train_py_again_stay_quiet(tmp_path: Path, method: str) -> None:
    """However the children start, the top of train.py and their functions know that they are children."""
    answers = train(tmp_path, START_CHILDREN, method)
    assert answers.count("top of train.py: None") == 1
    assert answers.count("inside a child: a child process") == 5
    assert answers.count("main, after its children: None") == 1
    assert {answer for answer in answers if answer.endswith("None")} == {
        "top of train.py: None",
        "main, after its children: None",
    }
    if method == "spawn":
        assert answers.count("top of train.py: a child process") == 3


def test_children_of_a_forgotten_main_guard_stay_quiet(tmp_path: Path) -> None:
    """Without `if __name__` a spawned child fails in multiprocessing, and makes no backup before that."""
    body = """
import multiprocessing
def work(): pass
child = multiprocessing.get_context("spawn").Process(target=work)
child.start()
child.join()
"""
    assert train(tmp_path, body) == ["top of train.py: None", "top of train.py: a child process"]


def test_children_of_a_process_pool_executor_stay_quiet(tmp_path: Path) -> None:
    """concurrent.futures starts its workers through multiprocessing."""
    body = """
import concurrent.futures, multiprocessing
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(note, "inside a worker").result()
"""
    assert train(tmp_path, body) == [
        "top of train.py: None",
        "top of train.py: a child process",
        "inside a worker: a child process",
    ]


def test_modules_that_a_spawned_child_loads_stay_quiet(tmp_path: Path) -> None:
    """A child also imports the modules of what it is sent, before it is a process of its own name."""
    (tmp_path / "worker.py").write_text("import __main__\nimport train\ndef work(): pass\n")
    body = """
import multiprocessing
if __name__ == "__main__":
    import worker
    for method in ("spawn", "forkserver"):
        child = multiprocessing.get_context(method).Process(target=worker.work, name="MainProcess")
        child.start()
        child.join()
"""
    answers = train(tmp_path, body)
    # The main process itself imports `train` once more through `worker`.
    assert answers[:2] == ["top of train.py: None", "top of train.py: None"]
    assert len(answers) > 4
    assert set(answers[2:]) == {"top of train.py: a child process"}


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_modules_that_a_child_of_no_script_loads_stay_quiet(tmp_path: Path, method: str) -> None:
    """A program given by `-c` is not run again in its children, and so leaves no trace of itself there."""
    (tmp_path / "worker.py").write_text(TRAIN.format(package=PACKAGE) + "def work(): pass\n")
    code = (
        "import multiprocessing, worker;"
        f"child = multiprocessing.get_context({method!r}).Process(target=worker.work);"
        "child.start(); child.join()"
    )
    environment = {**os.environ, "NOTES": str(tmp_path / "notes")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=60)
    answers = (tmp_path / "notes").read_text().splitlines()
    assert answers == ["top of train.py: None", "top of train.py: a child process"]


def test_children_of_a_copy_of_multiprocessing_stay_quiet(tmp_path: Path) -> None:
    """`multiprocess` and `billiard` run train.py again in the same way, without multiprocessing being loaded."""
    body = """
if __name__ == "__main__":
    import runpy
    runpy.run_path(__file__, run_name="__mp_main__")
    assert "multiprocessing" not in sys.modules
"""
    assert train(tmp_path, body) == ["top of train.py: None", "top of train.py: a child process"]


def test_a_program_may_rename_its_main_process(tmp_path: Path) -> None:
    """The name of a process is the program's to choose: the main process still backs up."""
    body = """
import multiprocessing
multiprocessing.current_process().name = "trainer"
note("renamed")
"""
    assert train(tmp_path, body)[-1] == "renamed: None"


def test_a_program_started_by_a_child_is_no_child(tmp_path: Path) -> None:
    """A sweep that starts each training from a pool's worker: each training is a main process."""
    inner = tmp_path / "inner"
    inner.mkdir()
    body = """
import multiprocessing, subprocess
def work(): subprocess.run([sys.executable, sys.argv[1]], check=True)
if __name__ == "__main__" and len(sys.argv) > 1:
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
"""
    (inner / "other.py").write_text(TRAIN.format(package=PACKAGE).replace("top of train.py", "the other"))
    assert train(tmp_path, body, str(inner / "other.py"))[-1] == "the other: None"


def test_the_tests_themselves_run_in_a_main_process() -> None:
    """`__mp_main__` is in sys.modules of a parent too once multiprocessing is loaded; that says nothing."""
    assert "__mp_main__" in sys.modules
    assert not is_child_process()


# --- switched off


@pytest.mark.parametrize("value", ["off", "OFF", "0", "no", "false", " off "])
def test_tensortime_can_be_switched_off(value: str) -> None:
    """TENSORTIME=off comes first, and the reason repeats it as typed."""
    assert why_not_here({"TENSORTIME": value, "RANK": "3"}) == f"TENSORTIME={value.strip()}"


@pytest.mark.parametrize("value", ["", "on", "1", "yes", "anything"])
def test_any_other_value_leaves_it_on(value: str) -> None:
    """Only a clear no is a no."""
    assert why_not_here({"TENSORTIME": value}) is None

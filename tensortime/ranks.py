"""Whether this process is the one of its launch that backs up.

A training job is one program started many times: once a rank by torchrun, mpirun or srun, and once more in
every spawned child, which runs train.py again from the top. Exactly one of them makes the backup. Nothing is
imported here to find out: what is not loaded yet cannot be initialised.
"""

import sys
from collections.abc import Mapping
from typing import Any

GLOBAL_RANKS = (
    "RANK",
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "PMIX_RANK",
    "MV2_COMM_WORLD_RANK",
    "JSM_NAMESPACE_RANK",
)
NODE_RANKS = ("NODE_RANK", "GROUP_RANK")
LATE_RANKS = ("SLURM_PROCID", "TPU_WORKER_ID", "HOROVOD_RANK")
"""After LOCAL_RANK: SLURM_PROCID is 0 in every process that a batch script starts without srun."""

PROCESS_MODULES = ("multiprocessing.process", "multiprocess.process")
"""The second is the copy that `datasets` of Hugging Face maps with."""

OFF = {"off", "0", "no", "false"}


def rank_of(environ: Mapping[str, str]) -> int | None:
    """The rank that the launcher gave this process; None where no launcher left one.

    What is no number from 0 up is passed over (LOCAL_RANK=-1 means "not distributed"). Each task of a Slurm array
    is a launch of its own, rank 0. Without LOCAL_WORLD_SIZE the rank on another node than the first is only
    known not to be 0.
    """
    rank = first_number(environ, GLOBAL_RANKS)
    if rank is not None:
        return rank
    local = first_number(environ, ("LOCAL_RANK",))
    if local is not None:
        node = first_number(environ, NODE_RANKS) or 0
        size = first_number(environ, ("LOCAL_WORLD_SIZE",)) or local + 1
        return node * size + local
    return first_number(environ, LATE_RANKS)


def first_number(environ: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    """The value of the first of these variables that holds a number from 0 up."""
    for name in names:
        value = environ.get(name, "").strip()
        if value.isascii() and value.isdecimal() and len(value) < 10:
            return int(value)
    return None


def live_rank() -> int | None:
    """The rank that torch or jax knows, if the program has loaded and initialised them; never an exception."""
    for question in (torch_rank, jax_rank):
        try:
            rank = question()
        except Exception:  # noqa: BLE001, S112 - half-imported, patched or very old: then it does not know
            continue
        if isinstance(rank, int):
            return rank
    return None


def torch_rank() -> int | None:
    """torch.distributed's rank, None before init_process_group."""
    module: Any = sys.modules.get("torch.distributed")
    if module is None or not module.is_available() or not module.is_initialized():
        return None
    return int(module.get_rank())


def jax_rank() -> int | None:
    """jax.distributed's rank, None before initialize.

    Not through jax.process_index(): that starts the back end, which claims the accelerator's memory before the
    program could say how much of it.
    """
    module: Any = sys.modules.get("jax.distributed")
    state: Any = sys.modules.get("jax._src.distributed")
    if module is None or state is None or not module.is_initialized():
        return None
    return int(state.global_state.process_id)


def is_child_process() -> bool:
    """Whether multiprocessing started this process: by fork, spawn or forkserver, DataLoader workers included.

    `parent_process()` alone does not do: it is None as long as a spawned child runs train.py again. The name of
    the process alone does not either: a program may rename its main process, and would silently get no backup.
    """
    # In a parent `__mp_main__` is a second name of `__main__`; only in a child a module is called so.
    if getattr(sys.modules.get("__mp_main__"), "__name__", None) == "__mp_main__":
        return True
    return any(is_child_of(sys.modules.get(name)) for name in PROCESS_MODULES)


def is_child_of(module: Any) -> bool:
    """Whether this loaded module, or None, knows a process that started this one."""
    if module is None:
        return False
    try:
        # `_inheriting`: set while a child, or the server of forkserver, loads what it was sent; the only sign
        # where the main program is no file that could be run again.
        return bool(getattr(module.current_process(), "_inheriting", False) or module.parent_process())
    except AttributeError:
        return False


def is_off(environ: Mapping[str, str]) -> bool:
    """Whether TENSORTIME=off makes every call a no-op."""
    return environ.get("TENSORTIME", "").strip().lower() in OFF


def why_not_here(environ: Mapping[str, str]) -> str | None:
    """Why this process should not back up, in a few words; None if it should."""
    if is_off(environ):
        return f"TENSORTIME={environ['TENSORTIME'].strip()}"
    if is_child_process():
        return "a child process"
    # Either may know better: a launcher of the user's own sets no variable, and without srun every process of
    # a Slurm batch script reads SLURM_PROCID=0.
    rank = rank_of(environ) or live_rank()
    return f"rank {rank} of the launch" if rank else None

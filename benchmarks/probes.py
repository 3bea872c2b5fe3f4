"""What is measured within a process of its own: `python -m benchmarks.probes NAME ARGUMENT…` prints one JSON document.

A process of its own, as its peak memory is asked for, and as the benchmark's own modules and memory are in nobody's way.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

STORE = "tensortime"
"""The store's name in a project: a backup does not look into it, and neither does the walk."""


def walk(folder: str) -> int:
    """The bare walk that an unchanged backup is compared with: scandir, and lstat of every entry; how many."""
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
            count += 1
            if entry.is_dir(follow_symlinks=False) and entry.name != STORE:
                count += walk(entry.path)
    return count


def peak_memory() -> dict[str, int]:
    """Bytes: the most that this process held, and the largest of those it started."""
    rows = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"peak": int(rows["VmHWM"].split()[0]) * 1024, "peak_children": children * 1024}


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def back_up(project: str, name: str) -> int:
    """One backup, into the store where it is if nobody says otherwise; how many files it has."""
    import tensortime

    return tensortime.backup(directory=project, store=os.path.join(project, STORE), name=name).files


def unchanged(project: str, pairs: str) -> dict[str, object]:
    """`backup()` of a project whose backup exists, and a bare walk of it, in turn."""
    found: dict[str, list[float]] = {"walk": [], "backup": []}
    for number in range(2):  # the first loads modules and fills caches
        files = back_up(project, f"warm{number}")
        walk(project)
    for number in range(int(pairs)):
        found["walk"].append(timed(partial(walk, project)))
        found["backup"].append(timed(partial(back_up, project, f"again{number}")))
    return {**found, "files": files, **peak_memory()}


def thousand(project: str, count: str) -> dict[str, object]:
    """So many backups of an unchanged project: seconds of each, and how the store grows."""
    store = os.path.join(project, STORE)
    seconds, packs, sizes = [], [], []
    for number in range(int(count)):
        seconds.append(timed(partial(back_up, project, f"run{number}")))
        packs.append(packs_to_fold(Path(store)))
        if number == 0 or packs[-1] < packs[-2]:  # the first, and each that folded
            sizes.append((number + 1, apparent_size(store)))
    return {"seconds": seconds, "most_packs": max(packs), "folded": sizes, "last": apparent_size(store)}


def packs_to_fold(store: Path) -> int:
    """The packs without `.keep`."""
    names = set(os.listdir(store / ".shadow" / "objects" / "pack"))
    return sum(name.endswith(".pack") and name.removesuffix("pack") + "keep" not in names for name in names)


def apparent_size(folder: str) -> int:
    """Bytes of all files and folders, as `du --apparent-size` counts."""
    return sum(
        os.lstat(os.path.join(top, name)).st_size
        for top, folders, names in os.walk(folder)
        for name in (*folders, *names)
    )


def hashing(path: str) -> dict[str, object]:
    """One reader that hashes a file, in blocks of 4 MiB."""
    from blake3 import blake3

    def read() -> None:
        digest, block = blake3(), memoryview(bytearray(4 << 20))
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(block):
                digest.update(block[:count])

    return {"seconds": timed(read)}


PROBES: dict[str, Callable[..., dict[str, object]]] = {
    probe.__name__: probe for probe in (unchanged, thousand, hashing)
}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](*sys.argv[2:])))  # noqa: T201 - a program, not the library

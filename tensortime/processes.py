"""Which process runs an experiment's command, so that anybody can see later whether it is still there.

A pid alone is given again; with the time that the process started, in ticks since the machine did, it is one process.
"""

import contextlib
import os
import time
from collections.abc import Mapping

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def this_process() -> dict[str, object]:
    """What tells this process apart: host, pid, start, the boot and the pid namespace that these count in."""
    facts: dict[str, object] = {"host": os.uname().nodename, "pid": os.getpid()}
    started = start_of(os.getpid())
    if started is not None:
        facts |= {"start": started, "boot": boot(), "space": pid_space()}
    return facts


def is_gone(facts: Mapping[str, object]) -> bool:
    """Whether the process of these facts has surely ended: never true for one of another host or container."""
    pid, started = facts.get("pid"), facts.get("start")
    if facts.get("host") != os.uname().nodename or not isinstance(pid, int) or not isinstance(started, int):
        return False
    if facts.get("boot") != boot():
        return bool(facts.get("boot")) and bool(boot())
    return facts.get("space") == pid_space() and start_of(pid) != started


def start_of(pid: int) -> int | None:
    """When a process started, in ticks since boot; None where there is none, or the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        # See proc(5): behind the name in brackets, which may hold anything, comes the third field.
        state, *others = file.read().rpartition(b")")[2].split()
        # What was killed and is not yet waited for by its parent is still listed.
        return None if state in (b"Z", b"X") else int(others[18])
    return None


def boot() -> str:
    """The id of this boot of the machine; empty where it is not told."""
    with contextlib.suppress(OSError), open(BOOT_ID, encoding="ascii") as file:
        return file.read().strip()
    return ""


def pid_space() -> int:
    """The namespace that pids count in; 0 where there are none."""
    with contextlib.suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino
    return 0


def is_worked_in(folder: str, seconds: float) -> bool:
    """Whether processes work in a folder, and still do after so many seconds: what is about to end gets them."""
    deadline = time.monotonic() + seconds
    while works_in(folder):
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.05)
    return False


def works_in(folder: str) -> bool:
    """Whether a process works in a folder, as far as the system tells: one whose current folder it is, or lies below."""
    top = os.path.realpath(folder)
    with contextlib.suppress(OSError):
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                where = os.readlink(f"/proc/{pid}/cwd")
                if where == top or where.startswith(top + "/"):
                    return True
    return False

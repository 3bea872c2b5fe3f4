"""The machine that a program runs on: processor, memory, accelerators and their drivers.

Read from the files in which the kernel and the drivers tell it. No library is loaded and no program started: asking
CUDA takes a second and a piece of the GPU's memory.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from tensortime.formats import text_of

Facts = dict[str, Any]

NVIDIA_VERSION = re.compile(r"Kernel Module\b.*?\s(\d+(?:\.\d+)+)\s")
NVIDIA_NAME = re.compile(r"^Model:\s*(\S.*?)\s*$", re.MULTILINE)
CPU_NAME = re.compile(r"^(?:model name|cpu model|cpu|Hardware)\s*:\s*(\S.*?)\s*$", re.MULTILINE)
AMD = "0x1002"


def machine_facts(root: str = "/") -> Facts:
    """What is known of this machine; what is not known is left out. `root`: where `/proc` and `/sys` lie."""
    facts = {
        "cpu": cpu_name(root),
        "cpus": usable_cpus(),
        "cpu_limit": cpu_limit(root),
        "memory": memory(root),
        "memory_limit": memory_limit(root),
        "gpus": [*nvidia_gpus(root), *amd_gpus(root)],
        "drivers": drivers(root),
        "torch": loaded_torch(),
    }
    return {key: value for key, value in facts.items() if value not in (None, "", [], {})}


def text_in(*parts: str) -> str:
    """The beginning of a file that the kernel writes; empty where there is none."""
    # One read: such files have no size, and the long ones (a line per processor and fact) are not needed whole.
    with contextlib.suppress(OSError, ValueError), open(os.path.join(*parts), "rb", buffering=0) as file:
        return text_of(file.read(1 << 13) or b"")
    return ""


def names_in(*parts: str) -> list[str]:
    """What lies in a folder, in order; nothing where there is none."""
    with contextlib.suppress(OSError):
        return sorted(os.listdir(os.path.join(*parts)))
    return []


def cpu_name(root: str) -> str:
    """What the processor is called; on many ARM boards only the board says so."""
    found = CPU_NAME.search(text_in(root, "proc/cpuinfo"))
    return found[1] if found else text_in(root, "proc/device-tree/model").strip("\0\n ")


def usable_cpus() -> int | None:
    """How many processors this process may use: under Slurm, taskset and cpusets fewer than there are."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return len(os.sched_getaffinity(0))
    return os.cpu_count()


def control_group(root: str) -> Iterator[str]:
    """The folders of this process's control group (version 2), from its own up to the top."""
    line = re.search(r"^0::(/.*)$", text_in(root, "proc/self/cgroup"), re.MULTILINE)
    path = line[1].strip("/") if line else ""
    while True:
        yield os.path.join(root, "sys/fs/cgroup", path)
        if not path:
            return
        path = os.path.dirname(path)


def cpu_limit(root: str) -> float | None:
    """How many processors' worth of time a container may use; None without a limit."""
    limits = []
    for folder in control_group(root):
        words = text_in(folder, "cpu.max").split()
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            limits.append(round(int(words[0]) / int(words[1]), 2))
    return min(limits, default=None)


def memory(root: str) -> int | None:
    """Bytes of memory that the machine has."""
    found = re.search(r"^MemTotal:\s*(\d+) kB", text_in(root, "proc/meminfo"), re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    with contextlib.suppress(OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def memory_limit(root: str) -> int | None:
    """Bytes of memory that a container or a Slurm job may use; None without a limit."""
    found = (text_in(folder, "memory.max").strip() for folder in control_group(root))
    return min((int(text) for text in found if text.isdecimal()), default=None)


def nvidia_gpus(root: str) -> Iterator[str]:
    """The names of NVIDIA's GPUs, as their driver tells."""
    folder = os.path.join(root, "proc/driver/nvidia/gpus")
    for name in names_in(folder):
        found = NVIDIA_NAME.search(text_in(folder, name, "information"))
        yield found[1] if found else "NVIDIA"


def amd_gpus(root: str) -> Iterator[str]:
    """The names of AMD's GPUs, or their numbers where the driver has no name."""
    folder = os.path.join(root, "sys/class/drm")
    for card in names_in(folder):
        device = os.path.join(folder, card, "device")
        if re.fullmatch(r"card\d+", card) and text_in(device, "vendor").strip() == AMD:
            name = text_in(device, "product_name").strip()
            yield name or f"AMD {text_in(device, 'device').strip()}"


def drivers(root: str) -> dict[str, str]:
    """The versions of the drivers of GPUs."""
    nvidia = NVIDIA_VERSION.search(text_in(root, "proc/driver/nvidia/version") + "\n")
    found = {
        "nvidia": nvidia[1] if nvidia else text_in(root, "sys/module/nvidia/version").strip(),
        "amdgpu": text_in(root, "sys/module/amdgpu/version").strip(),
    }
    return {name: version for name, version in found.items() if version}


def loaded_torch() -> dict[str, str]:
    """What torch was built for, where the program has loaded it: nothing of it is called."""
    torch: Any = sys.modules.get("torch")
    version = getattr(torch, "version", None)
    found = {
        "version": getattr(torch, "__version__", None),
        "cuda": getattr(version, "cuda", None),
        "hip": getattr(version, "hip", None),
    }
    return {name: str(value) for name, value in found.items() if value}

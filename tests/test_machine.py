"""What is recorded of a machine, from the files of its kernel and drivers."""

import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from builders import Tree

from tensortime.machine import machine_facts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with two NVIDIA GPUs, a job of Slurm with limits, and one AMD GPU beside a screen's chip."""
    nvidia = b"NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC version:  gcc 12\n"
    tree = Tree(tmp_path / "root")
    tree.file(
        "proc/cpuinfo",
        b"processor\t: 0\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R) Gold 6230\nflags\t: fpu\n" * 99,
    )
    tree.file("proc/meminfo", b"MemTotal:       65536000 kB\nMemFree:  1 kB\n")
    tree.file("proc/self/cgroup", b"0::/slurm/job_7\n")
    tree.file("sys/fs/cgroup/slurm/cpu.max", b"max 100000\n").file("sys/fs/cgroup/slurm/memory.max", b"max\n")
    tree.file("sys/fs/cgroup/slurm/job_7/cpu.max", b"250000 100000\n")
    tree.file("sys/fs/cgroup/slurm/job_7/memory.max", b"17179869184\n")
    tree.file("proc/driver/nvidia/version", nvidia)
    for bus in ("0000:3b:00.0", "0000:d8:00.0"):
        text = b"Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 183\nGPU UUID: \t GPU-1b2c\n"
        tree.file(f"proc/driver/nvidia/gpus/{bus}/information", text)
    tree.file("sys/module/amdgpu/version", b"6.3.6\n")
    tree.file("sys/class/drm/card0/device/vendor", b"0x1a03\n")
    tree.file("sys/class/drm/card1/device/vendor", b"0x1002\n")
    tree.file("sys/class/drm/card1/device/product_name", b"Instinct MI210\n")
    tree.file("sys/class/drm/card1-DP-1/device/vendor", b"0x1002\n")
    return tmp_path / "root"


def test_processor_memory_accelerators_drivers(root: Path) -> None:
    """Names, numbers and limits, as the kernel and the drivers write them."""
    facts = machine_facts(str(root))
    assert facts.pop("cpus") >= 1
    assert facts == {
        "cpu": "Intel(R) Xeon(R) Gold 6230",
        "cpu_limit": 2.5,
        "memory": 65536000 * 1024,
        "memory_limit": 1 << 34,
        "gpus": ["NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB", "Instinct MI210"],
        "drivers": {"nvidia": "550.54.14", "amdgpu": "6.3.6"},
    }


def test_the_open_kernel_module(root: Path) -> None:
    """NVIDIA's other driver words its version differently; an AMD GPU without a name has a number."""
    text = b"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@x)\n"
    (root / "proc/driver/nvidia/version").write_bytes(text)
    (root / "sys/class/drm/card1/device/product_name").unlink()
    (root / "sys/class/drm/card1/device/device").write_text("0x740f\n")
    facts = machine_facts(str(root))
    assert facts["drivers"]["nvidia"] == "570.86.15"
    assert facts["gpus"][-1] == "AMD 0x740f"


def test_an_arm_board(tmp_path: Path) -> None:
    """No name of a processor: the board's."""
    tree = Tree(tmp_path).file("proc/cpuinfo", b"processor\t: 0\nBogoMIPS\t: 62.50\nCPU part\t: 0xd42\n")
    tree.file("proc/device-tree/model", b"NVIDIA Orin Nano Developer Kit\0")
    assert machine_facts(str(tmp_path))["cpu"] == "NVIDIA Orin Nano Developer Kit"


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    """No /proc, as on macOS: what the system's own calls tell."""
    facts = machine_facts(str(tmp_path))
    assert set(facts) <= {"cpus", "memory", "torch"}
    assert facts["memory"] > 1 << 20


def test_torch_is_looked_at_and_never_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the program has loaded it: for which CUDA it was built. A broken one costs nothing."""
    torch = types.ModuleType("torch")
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert "torch" not in machine_facts(str(tmp_path))
    torch.__dict__.update(__version__="2.3.1+cu121", version=types.SimpleNamespace(cuda="12.1", hip=None))
    assert machine_facts(str(tmp_path))["torch"] == {"version": "2.3.1+cu121", "cuda": "12.1"}


def test_this_machine_takes_no_time() -> None:
    """A few small files, and no module that has to be loaded for them."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        machine_facts()
        times.append(time.perf_counter() - start)
    assert min(times) < 0.01
    code = "import sys, tensortime.machine as m; m.machine_facts(); print({'platform', 'ctypes'} & set(sys.modules))"
    folder = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"

"""A restore that dies, that finds damage, that meets another one: the final name appears only when all is right.

CASES K02, K08, S07, X01, X02.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, run_cli, snapshot_of

from tensortime import api, fsops
from tensortime.errors import Damaged, StoreBusy, TensorTimeError

LARGE = 2 << 20
OLD_MODE = 0o400


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one experiment, `exp`."""
    tree = Tree(tmp_path / "project").file("train.py", b"print(1)\n").file("src/model.py", b"a = 1\n")
    tree.file("data/a.bin", size=LARGE).file("data/b.bin", size=LARGE)
    api.backup(directory=tree.root, name="exp")
    return tree.root


def objects(project: Path) -> list[Path]:
    """The two objects."""
    return sorted((project / "tensortime/.objects/blake3").glob("*/*"))


def object_of(project: Path, path: str) -> Path:
    """The object that holds a file's bytes."""
    wanted = (project / path).read_bytes()
    (found,) = [one for one in objects(project) if one.read_bytes() == wanted]
    return found


def overwrite(path: Path, data: bytes) -> None:
    """Put other bytes where a read-only file of the store was."""
    path.unlink()
    path.write_bytes(data)
    path.chmod(OLD_MODE)


EVENTS = (
    *("open", "os.mkdir", "os.rename", "os.chmod", "os.link", "os.truncate", "os.utime"),
    *("subprocess.Popen", "fcntl.ioctl"),
)
"""What a restore does to the disk, as audit events name it. The ioctl is the try to clone into a new, empty file."""

DYING = """
import os, signal, sys
from tensortime import api
left = int(sys.argv[2])
EVENTS = sys.argv[3].split()
def listen(event, words):
    global left
    if event in EVENTS:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(listen)
api.restore("exp", sys.argv[1], PATHS)
print(int(sys.argv[2]) - left)
"""


def die(
    project: Path, place: Path, after: int, events: Iterable[str] = EVENTS, paths: str = ""
) -> subprocess.CompletedProcess[str]:
    """A restore that is killed when it does its n-th thing to the disk; it prints how many there were if it lived."""
    code = DYING.replace("PATHS", paths)
    command = [sys.executable, "-c", code, str(place), str(after), " ".join(events)]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_a_killed_restore(tmp_path: Path, project: Path) -> None:
    """K02: killed at any moment a restore leaves nothing but `.partial`, which the next one removes."""
    total = int(die(project, tmp_path / "whole", 10**9).stdout)
    begin = int(die(project, tmp_path / "again", 10**9).stdout) and total // 3
    for number, after in enumerate([*range(begin, total, max(1, (total - begin) // 14)), total]):
        place = tmp_path / f"out{number}"
        assert die(project, place, after).returncode == -signal.SIGKILL
        if os.path.lexists(place):
            assert_same_tree(project, place)
            assert not os.path.lexists(f"{place}.partial")
            continue
        assert {path.name for path in tmp_path.glob(f"{place.name}*")} <= {f"{place.name}.partial"}
        report = api.restore("exp", place, directory=project)
        assert_same_tree(project, report.path)
        assert not os.path.lexists(f"{place}.partial")
    records = os.listdir(project / "tensortime/.shadow/worktrees")
    assert len(records) == len([path for path in tmp_path.iterdir() if (path / ".tensortime").exists()])


def test_an_interrupted_restore(tmp_path: Path, project: Path) -> None:
    """K08: Ctrl-C leaves nothing at all, and says so with 130."""
    Tree(project).file("data/c.bin", size=48 << 20)
    api.backup(directory=project, name="large")
    command = [sys.executable, "-m", "tensortime", "restore", "large", str(tmp_path / "out")]
    process = subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
    )
    limit = time.monotonic() + 20
    while not os.path.lexists(tmp_path / "out.partial/data/c.bin") and time.monotonic() < limit:
        time.sleep(0.001)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    output = process.communicate()[0].decode()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert not list(tmp_path.glob("out*")) and not os.listdir(project / "tensortime/.shadow/worktrees")


def harm(project: Path, what: str) -> None:
    """Let the object of data/a.bin be other than it was, at the right size."""
    one, other = object_of(project, "data/a.bin"), object_of(project, "data/b.bin")
    data = one.read_bytes()
    if what == "one bit":
        overwrite(one, data[:-1] + bytes([data[-1] ^ 1]))
    elif what == "missing":
        one.unlink()
    elif what == "cut short":
        overwrite(one, data[:-1])
    else:
        overwrite(one, other.read_bytes())
        overwrite(other, data)


@pytest.mark.parametrize("how", ["auto", "hardlink", "symlink"])
@pytest.mark.parametrize("what", ["one bit", "missing", "cut short", "swapped"])
def test_a_damaged_object(tmp_path: Path, project: Path, what: str, how: str) -> None:
    """X01, X02: wrong bytes are never given out: path and experiment are named, exit 5, nothing has the final name."""
    harm(project, what)
    done = run_cli("restore", "exp", tmp_path / "out", "--link", how, cwd=project)
    assert done.returncode == 5
    assert "tensortime: exp " in done.stderr and "data/" in done.stderr
    assert not list(tmp_path.glob("out*"))
    one = run_cli("restore", "exp", tmp_path / "out", "--path", "data/a.bin", "--link", how, cwd=project)
    assert one.returncode == 5 and "tensortime: exp " in one.stderr and "data/a.bin" in one.stderr
    assert not os.path.lexists(tmp_path / "out/data/a.bin")
    assert run_cli("show", "exp", "data/a.bin", cwd=project).returncode == 5


def test_a_flipped_bit_in_a_pack(tmp_path: Path, project: Path) -> None:
    """X01: whichever byte of a pack is wrong, a restore is right, or is damage and leaves nothing."""
    (pack,) = (project / "tensortime/.shadow/objects/pack").glob("*.pack")
    whole, outcomes = pack.read_bytes(), []
    want = snapshot_of(project, exclude=(".git", "tensortime"))
    for place in range(14, len(whole) - 20, max(1, len(whole) // 24)):
        overwrite(pack, whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            report = api.restore("exp", tmp_path / "out", directory=project)
        except TensorTimeError as problem:
            outcomes.append(problem.kind)
            assert problem.exit_code == 5, (place, str(problem))
            assert not list(tmp_path.glob("out*")), place
        else:
            assert_same_tree(want, report.path)
            shutil.rmtree(report.path)
    assert outcomes.count("damaged") > len(outcomes) // 2 > 3


def test_swapped_blobs(tmp_path: Path, project: Path) -> None:
    """X02: two small files whose loose objects were swapped are noticed; git itself does not look."""
    git_objects = project / "tensortime/.shadow/objects"
    blobs = {}
    for path in ("train.py", "src/model.py"):
        done = subprocess.run(
            ["git", "hash-object", path], cwd=project, capture_output=True, text=True, env=plain()
        )
        blobs[path] = git_objects / done.stdout[:2] / done.stdout[2:].strip()
    (pack,) = (git_objects / "pack").glob("*.pack")
    data = pack.read_bytes()
    for file in (git_objects / "pack").iterdir():
        file.unlink()
    command = ["git", f"--git-dir={git_objects.parent}", "unpack-objects", "-q"]
    subprocess.run(command, input=data, check=True, env=plain())
    one, other = blobs.values()
    held = one.read_bytes()
    overwrite(one, other.read_bytes())
    overwrite(other, held)
    for paths in ((), ("train.py",)):
        with pytest.raises(Damaged, match=r"train\.py|model\.py") as caught:
            api.restore("exp", tmp_path / "out", paths=paths, directory=project)
        assert str(caught.value).startswith("exp is damaged")
    assert not os.path.lexists(tmp_path / "out/train.py")


def plain() -> Mapping[str, str]:
    """An environment without what the sealed world leaks."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
        "GIT_CONFIG_GLOBAL": "/dev/null"
    }


def test_two_restores_into_one_place(tmp_path: Path, project: Path) -> None:
    """S07: one wins and is whole, every other is told."""
    command = [sys.executable, "-m", "tensortime", "restore", "exp", str(tmp_path / "out")]
    processes = [
        subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    said = [process.communicate()[1].decode() for process in processes]
    codes = [process.returncode for process in processes]
    assert sorted(codes)[:1] == [0] and set(codes) <= {0, 1, 6} and codes.count(0) == 1, said
    assert all("out" in text for text, code in zip(said, codes, strict=True) if code)
    assert_same_tree(project, tmp_path / "out")
    assert not list(tmp_path.glob("out.*"))


def test_a_place_that_another_restore_fills(tmp_path: Path, project: Path) -> None:
    """S07: while one restore works at a place, another is told that it is busy; elsewhere it may work."""
    inner: list[Exception] = []

    def meanwhile(source: fsops.Path, target: fsops.Path) -> None:
        with pytest.raises(StoreBusy, match="out") as caught:
            api.restore("exp", tmp_path / "out", directory=project)
        inner.append(caught.value)
        patch.undo()
        api.restore("exp", tmp_path / "elsewhere", directory=project)
        fsops.rename_to_new(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fsops, "rename_to_new", meanwhile)
        api.restore("exp", tmp_path / "out", directory=project)
    assert len(inner) == 1
    for name in ("out", "elsewhere"):
        assert_same_tree(project, tmp_path / name)


@pytest.mark.parametrize("large_files", [1, 2])
def test_a_killed_restore_of_paths(tmp_path: Path, project: Path, large_files: int) -> None:
    """K02: single files too have their final name only when they are whole."""
    place = tmp_path / "out"
    done = die(project, place, large_files, ["fcntl.ioctl"], 'paths=["."]')
    assert done.returncode == -signal.SIGKILL
    files = [path for path in place.rglob("*") if path.is_file()]
    assert [path for path in files if path.name.endswith(".partial")]
    for path in files:
        if not path.name.endswith(".partial"):
            assert path.read_bytes() == (project / path.relative_to(place)).read_bytes()

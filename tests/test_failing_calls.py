"""Every call to the operating system may fail, each with whatever errno: no room, no right, no descriptor, a bad disk.

The verbs run in this process while the n-th of their calls fails, alone or with all that follow, for every n in the
long variant and for some here. Whatever fails: our own error or none, nothing half under a final name, no staging left,
a disk no fuller, all older backups whole, and the next command works. CASES D01, D03, D04, D10, D11, D13, D14.
"""

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from builders import Entry, Tree, assert_same_tree, run_cli, snapshot_of
from failing_calls import Failing
from mounts import mounted, require_root, run, small_tmpfs

from tensortime import api, hardlinks, maintenance, snapshot, upkeep
from tensortime.errors import NoSpace, StoreUnusable, TensorTimeError

CODES = (
    *(
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EACCES,
        errno.EMFILE,
        errno.EROFS,
        errno.ENOMEM,
        errno.EFBIG,
    ),
    *(errno.EPERM, errno.ENFILE, errno.EAGAIN),
)
Verb = Callable[[Path], object]

VERBS: dict[str, Verb] = {
    "backup": lambda project: api.backup(directory=project, name="fresh"),
    "add": lambda project: api.backup(directory=project, add=["new.py", "data/b.bin"], name="old", joins=True),
    "restore": lambda project: api.restore("old", project / "out", directory=project),
    "restore --path": lambda project: api.restore("old", project / "out", paths=["train.py", "data/a.bin"], directory=project),
    "rm": lambda project: upkeep.rm(["old"], directory=project),
    "undelete": lambda project: upkeep.undelete(["gone"], directory=project),
    "gc": lambda project: maintenance.gc(trash=True, directory=project),
    "note": lambda project: api.note("old", "seen", directory=project),
    "tag": lambda project: api.tag("old", ["x"], directory=project),
    "log": lambda project: api.log(directory=project),
    "show": lambda project: api.show("old", directory=project),
    "diff": lambda project: api.diff("old", directory=project),
    "du": lambda project: upkeep.du(directory=project),
    "doctor": lambda project: maintenance.doctor(directory=project),
    "verify": lambda project: maintenance.verify(read_data="all", directory=project),
    "rm --worktree": lambda project: upkeep.rm_worktree("old", directory=project, force=True),
    "purge": lambda project: maintenance.purge(["spare.py"], directory=project),
}  # fmt: skip


class Template(NamedTuple):
    """A project with a store to work in, and what its experiment holds."""

    project: Path
    old: Mapping[bytes, Entry]


MADE: list[Template] = []


@pytest.fixture
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Made by the first test that needs it: `old` is restored, `gone` in the trash, and there is something new."""
    if not MADE:
        tree = Tree(tmp_path_factory.mktemp("calls") / "project")
        tree.file("tensortime.toml", b'large_size = 1024\nhardlink = ["links/*"]\n')
        tree.file("train.py", b"lr = 1\n" * 20).file("data/a.bin", size=3000).file("links/l.bin", size=2000)
        old = contents(tree.root)
        api.backup(directory=tree.root, name="old")
        tree.file("spare.py", b"spare\n")
        api.backup(directory=tree.root, name="gone")
        upkeep.rm(["gone"], directory=tree.root)
        api.restore("old", tree.root / "tensortime/worktree", directory=tree.root)
        tree.file("new.py", b"new\n").file("data/b.bin", size=4000)
        MADE.append(Template(tree.root, old))
    return MADE[0]


def contents(folder: Path) -> dict[bytes, Entry]:
    """What is backed up of a folder."""
    return snapshot_of(folder, exclude=["tensortime", ".git", ".tensortime", "out", "out.partial"])


def used(project: Path) -> int:
    """The bytes of a store, without what may be deleted at any time."""
    store = project / "tensortime"
    files = (path for path in store.rglob("*") if ".cache" not in path.parts)
    return sum(info.st_size for info in map(Path.lstat, files) if stat.S_ISREG(info.st_mode))


def fail(template: Template, folder: Path, name: str, number: int, *, stays: bool) -> bool:
    """Let one call of a verb fail and look at what is left; False where the verb needs fewer calls."""
    project, code = folder / "project", CODES[number % len(CODES)]
    shutil.copytree(template.project, project, symlinks=True)
    before, problem = used(project), None
    with pytest.MonkeyPatch.context() as patch:
        failing = Failing(patch, project, number, code, stays=stays)
        try:
            VERBS[name](project)
        except TensorTimeError as error:
            problem = error
    where = f"{name}, call {number}: {failing.failed[:2]} with {errno.errorcode[code]}: {problem}"
    assert [one for one in (project / "tensortime/.tmp").iterdir() if one.is_dir()] == [], where
    if problem is not None:
        assert str(problem.hint) or os.strerror(code) in str(problem), where
        # A note is a pack of a kilobyte; where only its last step failed gc removes it. A purge goes on later.
        assert name == "purge" or used(project) <= before + (2048 if name == "note" else 300), where
        assert name == "restore --path" or not (project / "out").exists(), where
    assert not (project / "out.partial").exists(), where
    look_after(template, project, name, where)
    shutil.rmtree(folder)
    return bool(failing.failed)


def look_after(template: Template, project: Path, name: str, where: str) -> None:
    """Once nothing fails any more all is whole, and the next backup is."""
    if not any(one.name == "old" for one in api.log(directory=project).experiments):
        assert name == "rm", where
        upkeep.undelete(["old"], directory=project)
    api.restore("old:1", project.parent / "old", directory=project)
    assert contents(project.parent / "old") == template.old, where
    if name in ("backup", "add", "gc", "purge"):
        assert maintenance.verify(read_data="all", directory=project).problems == (), where
        api.backup(directory=project, name="after")
        api.restore("after", project.parent / "after", directory=project)
        assert_same_tree(contents(project), contents(project.parent / "after"))


SHORT = {"backup": 11, "add": 13, "restore": 23, "gc": 23, "purge": 67, "restore --path": 9, "rm": 13}
"""Every so many calls; the other verbs fail at two."""


@pytest.mark.parametrize("name", VERBS)
def test_some_calls_fail(
    template: Template, tmp_path: Path, name: str, tally: Callable[[str, int], None]
) -> None:
    """D03, D11, D13: wherever it fails, and with what."""
    step = SHORT.get(name, 0)
    numbers = range(step // 2 + 1, 1000, step) if step else (6, 11)
    for count, number in enumerate(numbers):
        if not fail(template, tmp_path / "state", name, number, stays=bool(count % 2)):
            break
        tally("failing calls", 1)


GIT = """#!/bin/sh
exec strace -f -o /dev/null -e trace={call} -e inject={call}:error={code}:when={number} {git} "$@"
"""
GIT_CALLS = ("write", "rename", "openat", "fsync", "mkdir", "read", "unlink", "link")
GIT_VERBS = ("gc", "backup", "undelete", "restore", "rm", "purge", "tag", "add")


def refuse_git(template: Template, folder: Path, name: str, call: str, number: int) -> None:
    """Let every git of a verb meet a disk or quota that refuses its n-th call of a name, and look at what is left."""
    project, code, bin_folder = (
        folder / "project",
        ("EIO", "EDQUOT")[(number + len(call)) % 2],
        folder / "bin",
    )
    shutil.copytree(template.project, project, symlinks=True)
    bin_folder.mkdir()
    program = bin_folder / "git"
    program.write_text(GIT.format(call=call, code=code, number=number, git=shutil.which("git")))
    program.chmod(0o755)
    where = f"{name}: the {number}. {call} of each git with {code}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
        with contextlib.suppress(TensorTimeError):
            VERBS[name](project)
    assert [one for one in (project / "tensortime/.tmp").iterdir() if one.is_dir()] == [], where
    assert not (project / "out.partial").exists(), where
    look_after(template, project, name, where)
    shutil.rmtree(folder)


@pytest.mark.parametrize("turn", range(len(GIT_CALLS)))
def test_a_git_is_refused(
    template: Template, tmp_path: Path, turn: int, tally: Callable[[str, int], None]
) -> None:
    """D03, D04, D12: EIO and EDQUOT at the calls of the gits that a verb starts."""
    refuse_git(template, tmp_path / "state", GIT_VERBS[turn], GIT_CALLS[turn], 1)
    tally("failing calls", 1)


def test_a_git_that_cannot_say_its_version(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D10: what it did say is the error, not that it is too old."""
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\necho 'fatal: index: Input/output error' >&2\nexit 128\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(TensorTimeError, match="Input/output error"):
        api.log(directory=template.project)


@pytest.mark.long
@pytest.mark.parametrize("call", GIT_CALLS)
@pytest.mark.parametrize("name", GIT_VERBS)
def test_every_git_is_refused(
    template: Template, tmp_path: Path, name: str, call: str, tally: Callable[[str, int], None]
) -> None:
    """D03, D04, D12: at the first seven calls of each name."""
    for number in range(1, 8):
        refuse_git(template, tmp_path / "state", name, call, number)
    tally("failing calls", 7)


@pytest.mark.long
@pytest.mark.parametrize("stays", [False, True], ids=["one", "all"])
@pytest.mark.parametrize("name", VERBS)
def test_every_call_fails(
    template: Template, tmp_path: Path, name: str, stays: bool, tally: Callable[[str, int], None]
) -> None:
    """D03, D11, D13: each call of each verb, once alone and once with all later ones that make something."""
    number = 1
    while fail(template, tmp_path / "state", name, number, stays=stays):
        number += 1
    tally("failing calls", number)


def test_a_backup_that_is_published_has_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D13: what comes after the ref has moved only saves time or tells of room; it may fail."""

    def none_left(*_: object) -> None:
        raise OSError(errno.ENFILE, "Too many open files in system")

    tree = Tree(tmp_path / "project").file("train.py", b"lr = 1\n")
    for step in ("fold_when_due", "tell_of_room"):
        monkeypatch.setattr(snapshot, step, none_left)
    assert api.backup(directory=tree.root, name="exp").experiment == "exp"


def test_an_object_that_cannot_be_opened_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D13, M12: without a descriptor left nobody knows whether a hard-linked object was written to: it stays."""
    tree = Tree(tmp_path / "project").file("tensortime.toml", b'large_size = 1024\nhardlink = ["*.bin"]\n')
    tree.file("set.bin", size=2000)
    api.backup(directory=tree.root, name="exp")

    def none_left(*_: object) -> bool:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(hardlinks, "is_right", none_left)
        with contextlib.suppress(TensorTimeError):
            api.backup(directory=tree.root)
    assert maintenance.verify(read_data="all", directory=tree.root).problems == ()


@pytest.fixture
def no_inodes(tmp_path: Path) -> Iterator[Path]:
    """A disk with bytes for everything and room for few files."""
    require_root()
    place = tmp_path / "inodes"
    place.mkdir()
    with mounted(place, "-t", "tmpfs", "-o", "size=64m,nr_inodes=60", "tmpfs"):
        yield place


def test_a_disk_without_inodes(tmp_path: Path, no_inodes: Path) -> None:
    """D05: the message says that it is files, not bytes, that do not fit; rm and gc work, and the old backup is whole."""
    tree, store = Tree(tmp_path / "project").file("train.py", b"lr = 1\n"), no_inodes / "store"
    api.backup(directory=tree.root, store=store, name="old")
    tree.file("train.py", b"lr = 2\n")
    with contextlib.suppress(OSError):
        for number in range(100):
            (no_inodes / f"filler-{number}").touch()
    done = run_cli("backup", "--store", store, cwd=tree.root, env={"TENSORTIME_LANG": "en"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "0 files are free" in done.stderr and "df -i" in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(NoSpace):
        upkeep.rm(["old"], directory=tree.root, store=store)
    for number in range(8):  # a ref is a few files before it is one
        (no_inodes / f"filler-{number}").unlink()
    upkeep.rm(["old"], directory=tree.root, store=store)
    maintenance.gc(directory=tree.root, store=store)
    for filler in no_inodes.glob("filler-*"):
        filler.unlink()
    upkeep.undelete(["old"], directory=tree.root, store=store)
    api.restore("old", tmp_path / "out", directory=tree.root, store=store)
    assert (tmp_path / "out/train.py").read_bytes() == b"lr = 1\n"


def fill(path: Path) -> None:
    """Use all that is free on a disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(fd, b"x" * 4096):
            pass
    os.close(fd)


def test_nothing_is_free(tmp_path: Path) -> None:
    """D01: with 0 bytes free a backup says so with numbers, a training goes on, and rm and gc make room."""
    tree, disk = Tree(tmp_path / "project").file("train.py", b"lr = 1\n"), tmp_path / "disk"
    with small_tmpfs(disk, 2 << 20):
        store = disk / "store"
        api.backup(directory=tree.root, store=store, name="old")
        tree.file("table.csv", size=600_000)
        api.backup(directory=tree.root, store=store, name="big")
        fill(disk / "filler")
        tree.file("other.csv", size=300_000)
        with pytest.raises(NoSpace) as caught:
            api.backup(directory=tree.root, store=store)
        assert "bytes" in str(caught.value) and "free" in str(caught.value)
        code = f"import tensortime; tensortime.TimeMachine({str(store)!r}).backup(); print('trained')"
        script = tree.file("run.py", code.encode()).root / "run.py"
        done = run_python(script)
        assert (done.returncode, done.stdout) == (0, "trained\n") and "free" in done.stderr
        upkeep.rm(["big"], directory=tree.root, store=store)
        assert maintenance.gc(trash=True, directory=tree.root, store=store).freed > 500_000
        restored = api.restore("old", tmp_path / "out", directory=tree.root, store=store)
        assert (Path(restored.path) / "train.py").read_bytes() == b"lr = 1\n"


def run_python(script: Path, *, before: str = "") -> subprocess.CompletedProcess[str]:
    """A training in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(Path(api.__file__).parent.parent), "TENSORTIME_LANG": "en"}
    command = [sys.executable, "-c", f"{before}\nimport runpy; runpy.run_path({str(script)!r})"]
    return subprocess.run(command, cwd=script.parent, env=env, capture_output=True, text=True, check=False)


LIMITED = "import resource; resource.setrlimit(resource.{kind}, ({soft}, {soft}))"


@pytest.mark.parametrize(
    ("kind", "soft", "said"),
    [("RLIMIT_FSIZE", 40_000, "ulimit -f"), ("RLIMIT_NOFILE", 9, "Too many open files")],
)
def test_a_limit_of_the_process(tmp_path: Path, kind: str, soft: int, said: str) -> None:
    """D04, D13: a limit on files' sizes or on descriptors is named as what it is, and the training goes on."""
    tree = Tree(tmp_path / "project").file("table.csv", size=300_000)
    api.backup(directory=tree.root, name="old")
    tree.file("other.csv", size=300_000)
    script = tree.file(
        "run.py", b"import tensortime; tensortime.TimeMachine().backup(); print('trained')"
    ).root
    done = run_python(script / "run.py", before=LIMITED.format(kind=kind, soft=soft))
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert [one.name for one in api.log(directory=tree.root).experiments] == ["old"]
    assert maintenance.verify(read_data="all", directory=tree.root).problems == ()


def test_a_disk_that_is_mounted_read_only(tmp_path: Path) -> None:
    """D08: what reads works, restore gives plain files, what writes says why it cannot."""
    tree, disk = Tree(tmp_path / "project").file("train.py", b"lr = 1\n"), tmp_path / "disk"
    with small_tmpfs(disk, 4 << 20):
        store = disk / "store"
        api.backup(directory=tree.root, store=store, name="old")
        run("mount", "-o", "remount,ro", str(disk))
        where: Any = {"directory": tree.root, "store": store}
        assert [one.name for one in api.log(**where).experiments] == ["old"]
        assert api.show("old", **where).experiment.name == "old"
        assert maintenance.verify(read_data="all", **where).problems == ()
        api.restore("old", tmp_path / "out", **where)
        assert (tmp_path / "out/train.py").read_bytes() == b"lr = 1\n"
        for verb in (api.backup, maintenance.gc):
            with pytest.raises(StoreUnusable):
                verb(**where)
        for act in (upkeep.rm, upkeep.undelete):
            with pytest.raises(TensorTimeError):
                act(["old"], **where)
        with pytest.raises(TensorTimeError):
            api.note("old", "x", **where)
        with pytest.raises(TensorTimeError):
            api.tag("old", ["x"], **where)

"""kill -9 at the system calls that change something: of us, of our threads, of git, alone or together. CASES K01-K03.

After each: older experiments are whole, byte for byte; what was being made is whole or absent; the next command, at
once and by itself, ends well.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from builders import Tree, assert_same_tree, snapshot_of, user_git
from strikes import Strike, strikes_of
from traces import record

import tensortime
from tensortime import api, folding, reflocks

Tally = Callable[[str, int], None]

SHORT = 7
"""How many strikes of each operation `make test` tries; `make test-long` tries all."""


class Operation(NamedTuple):
    """A command that dies, and what has to hold then."""

    words: Sequence[str]
    again: Callable[[Path], object]
    """The same in this process: what a person types next."""
    lives: Sequence[str]
    """The experiments that have to be whole before and after."""
    check: Callable[[Path], None] = lambda _: None
    """What must have been reached in the end."""
    ready: Callable[[Path], None] = lambda _: None
    """What has to be there first."""
    promised: Callable[[Path], bool] = lambda _: True
    """What is so from the moment on at which it said that it had ended."""


FOLD = (
    "import sys; from tensortime import folding; from tensortime.__main__ import main; folding.MOST_PACKS = 2; "
    "sys.argv = ['tensortime', 'backup', '--name', 'new']; sys.exit(main())"
)


def fold(project: Path) -> None:
    """A backup that folds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "MOST_PACKS", 2)
        api.backup(directory=project, name="new")


def still_somewhere(project: Path) -> None:
    """Whatever died, `base` is an experiment, or in the trash, and can be taken back."""
    if "base" not in names(project):
        tensortime.undelete(["base"], directory=project)


def has_new(project: Path) -> bool:
    """The backup is there."""
    return "new" in names(project)


def never_backed_up(project: Path) -> None:
    """A project without a store."""
    shutil.rmtree(project / "tensortime")


def in_trash(project: Path) -> None:
    """`base` is removed, with most of what the first pack holds."""
    tensortime.rm(["base"], directory=project)


def nothing_waits(project: Path) -> None:
    """What was removed is gone."""
    assert tensortime.trashed(directory=project).entries == ()
    assert tensortime.gc(directory=project).freed == 0


def nowhere(project: Path) -> None:
    """No backup holds what was purged."""
    assert tensortime.purge(["data/a.bin", "src"], dry_run=True, directory=project).files == 0
    assert not (project / "tensortime/.shadow/purging").exists()


def whole_at(place: str) -> Callable[[Path], None]:
    """A restored folder is the project as it was, and nothing lies beside it."""

    def check(project: Path) -> None:
        assert_same_tree(snapshot_of(project.parent / "states" / "base"), project.parent / place)
        assert not (project.parent / f"{place}.partial").exists()

    return check


def restore_again(project: Path) -> None:
    """Unless it is there: the folder, and then whole."""
    if not (project.parent / "out").exists():
        api.restore("base", project.parent / "out", directory=project)
    whole_at("out")(project)


def remove_again(project: Path) -> None:
    """Unless it is gone."""
    if "base" in names(project):
        tensortime.rm(["base"], directory=project)


OPERATIONS = {
    "first backup": Operation(
        ["backup", "--name", "new"],
        lambda at: api.backup(directory=at, name="new"),
        (),
        ready=never_backed_up,
        promised=has_new,
    ),
    "backup": Operation(
        ["backup", "--name", "new"],
        lambda at: api.backup(directory=at, name="new"),
        ("base", "other"),
        promised=has_new,
    ),
    "add": Operation(
        ["backup", "--name", "other", "--add", "new.bin"],
        lambda at: api.backup(directory=at, name="other", add=["new.bin"]),
        ("base", "other"),
        promised=lambda at: api.show("other", directory=at).experiment.backups == 3,
    ),
    "restore": Operation(["restore", "base", "../out"], restore_again, ("base", "other"), whole_at("out")),
    "rm": Operation(
        ["rm", "base"],
        remove_again,
        ("other",),
        still_somewhere,
        promised=lambda at: names(at).count("base") == 0,
    ),
    "gc": Operation(
        ["gc", "--trash"],
        lambda at: tensortime.gc(directory=at, trash=True),
        ("other",),
        nothing_waits,
        in_trash,
    ),
    "purge": Operation(
        ["purge", "data/a.bin", "src", "--yes"],
        lambda at: tensortime.purge(["data/a.bin", "src"], directory=at),
        ("base", "other"),
        nowhere,
    ),
    "fold": Operation(["-c", FOLD], fold, ("base", "other"), promised=has_new),
}
EDITS = {
    "undelete": Operation(
        ["undelete", "base"],
        lambda at: tensortime.undelete(["base"], directory=at) if "base" not in names(at) else None,
        ("other",),
        still_somewhere,
        ready=lambda at: in_trash(at),
        promised=lambda at: "base" in names(at),
    ),
    "tag": Operation(
        ["tag", "other", "next"],
        lambda at: tensortime.tag("other", ["next"], directory=at),
        ("base", "other"),
        promised=lambda at: "next" in api.show("other", directory=at).experiment.tags,
    ),
    "note": Operation(
        ["note", "base", "better"],
        lambda at: tensortime.note("base", "better", directory=at),
        ("base", "other"),
        promised=lambda at: api.show("base", directory=at).experiment.note == "better",
    ),
}
"""They write little more than a ref."""


def names(project: Path) -> list[str]:
    """The experiments."""
    report = api.log(directory=project)
    assert report.damaged == ()
    return [str(one.name) for one in report.experiments]


class Scene:
    """A project with two experiments, set up again for every strike; and what each of them has to give back."""

    def __init__(self, folder: Path, operation: Operation) -> None:
        self.folder, self.operation = folder, operation
        self.project, self.kept = folder / "project", folder / "kept"
        tree = Tree(self.project).file("tensortime.toml", b'large_size = "1k"\n')
        tree.file("train.py", b"lr = 1\n" * 80).file("src/model.py", b"a = 1\n")
        tree.file("data/a.bin", size=9000).symlink("last", "data").folder("empty")
        self.back_up("base")
        tensortime.tag("base", ["best"], directory=self.project)
        for number in range(8):
            tree.file(f"noise/{number}.txt", size=900)
        os.unlink(tree.path("data/a.bin"))
        tree.file("data/b.bin", size=9000).file("train.py", b"lr = 2\n")
        self.back_up("other")
        # Some refs are packed, one is both packed and not.
        user_git("--git-dir", "tensortime/.shadow", "pack-refs", "--all", cwd=self.project)
        api.backup(directory=self.project, name="other", add=["train.py"])
        tree.file("new.bin", size=9000).file("new.py", b"new\n")
        self.keep("new")
        operation.ready(self.project)
        shutil.copytree(self.project, self.kept, symlinks=True)

    def keep(self, name: str) -> None:
        """Remember the project as it is."""
        shutil.copytree(self.project, self.state(name), symlinks=True, ignore=lambda *_: ["tensortime"])

    def state(self, name: str) -> Path:
        """The project as it was for an experiment."""
        return self.folder / "states" / name

    def back_up(self, name: str) -> None:
        """An experiment, and the state that it has to give back."""
        self.keep(name)
        api.backup(directory=self.project, name=name)

    def reset(self) -> None:
        """All as it was before the command."""
        for made in (self.project, self.folder / "out", self.folder / "out.partial"):
            shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(self.kept, self.project, symlinks=True)

    def strikes(self) -> list[Strike]:
        """All of this operation."""
        trace = record(self.operation.words, cwd=self.project, below=self.folder)
        assert trace.returncode == 0
        return list(strikes_of(trace))

    def survive(self, strike: Strike, *, restored: bool) -> bool:
        """Let the command die and look; returns whether somebody died. `restored`: give everything back, too."""
        self.reset()
        died = strike.hit(self.operation.words, cwd=self.project)
        before = snapshot_of(self.folder, exclude=["kept", "states", "project/tensortime"])
        self.operation.again(self.project)
        assert b"out" not in before or b"out/train.py" in before, "half a folder has its final name"
        self.operation.check(self.project)
        left = names(self.project)
        assert set(self.operation.lives) <= set(left)
        assert tensortime.verify(read_data="all", directory=self.project).problems == ()
        for name in {"base", "new"} & set(left) if restored and "src" not in self.operation.words else ():
            place = self.folder / "back" / name
            api.restore(name, place, directory=self.project)
            assert_same_tree(self.state(name), place)
            shutil.rmtree(place)
        return died


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No person has a git of theirs at work."""
    monkeypatch.setattr(reflocks, "PERSONS_SECONDS", 0.05)


def assert_survived(scene: Scene, strikes: Sequence[Strike], tally: Tally, *, restored: bool) -> None:
    """Try these, and count those that hit: threads do not make every call in the same order each time."""
    hits = 0
    for strike in strikes:
        try:
            hits += scene.survive(strike, restored=restored)
        except Exception as problem:
            raise AssertionError(f"not survived: {strike}") from problem
    tally("kills", hits)
    assert hits >= 0.7 * len(strikes), f"only {hits} of {len(strikes)} died"


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_command_that_is_killed(tmp_path: Path, tally: Tally, name: str) -> None:
    """K01-K03: at some of its system calls, spread over all of it."""
    scene = Scene(tmp_path, OPERATIONS[name])
    strikes = scene.strikes()
    some = [strikes[int((number + 0.5) * len(strikes) / SHORT)] for number in range(SHORT)]
    assert_survived(scene, some, tally, restored=False)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [*OPERATIONS, *EDITS])
def test_a_command_that_is_killed_at_every_system_call(tmp_path: Path, tally: Tally, name: str) -> None:
    """K01-K03: at each of them that changes something."""
    scene = Scene(tmp_path, {**OPERATIONS, **EDITS}[name])
    assert_survived(scene, scene.strikes(), tally, restored=True)

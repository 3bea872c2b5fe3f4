"""rm and undelete: refs go into the trash and come back, all or none, and no byte is written or freed. CASES C04, D08."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, run_cli, snapshot_of, user_git
from mounts import small_tmpfs
from stores import thousand

import tensortime
from tensortime import trash, upkeep
from tensortime.errors import (
    AmbiguousName,
    NoSpace,
    Protected,
    StoreBusy,
    StoreUnusable,
    UnknownExperiment,
    UsageError,
)
from tensortime.formats import Oid
from tensortime.store import Store, open_store


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Experiments `base` (two backups, tagged `best`), `next` and `last`, in this order."""
    tree = Tree(tmp_path / "p").file("train.py", b"1").file("data.bin", size=1_100_000)
    tensortime.backup(directory=tree.root, name="base")
    tensortime.backup(directory=tree.file("out.txt", b"o").root, name="base", add=["out.txt"])
    tensortime.backup(directory=tree.file("train.py", b"2").root, name="next")
    tensortime.backup(directory=tree.file("train.py", b"3").root, name="last")
    tag(tree.root, "base", "best")
    return tree.root


def store_of(project: Path) -> Store:
    """The store of a project."""
    return open_store(str(project / "tensortime"))


def refs(project: Path) -> dict[str, str]:
    """All refs of the shadow repository."""
    git_dir = f"--git-dir={project / 'tensortime/.shadow'}"
    listed = user_git(git_dir, "for-each-ref", "--format=%(refname) %(objectname)", cwd=project)
    return dict(line.split(" ") for line in listed.splitlines())


def tag(project: Path, name: str, word: str) -> None:
    """Tag an experiment."""
    store = store_of(project)
    tip = store.shadow.ref(f"refs/experiments/{name}")
    assert tip and store.shadow.create_ref(f"refs/tags/{name}/{word}", tip)


def names(project: Path) -> list[str]:
    """The experiments, newest first."""
    return [str(one.name) for one in tensortime.log(directory=project).experiments]


def in_trash(project: Path) -> list[str]:
    """The trash, the last removed first."""
    return [str(one.experiment.name) for one in tensortime.trashed(directory=project).entries]


def data_of(project: Path) -> dict[bytes, object]:
    """Packs and objects."""
    found = snapshot_of(project / "tensortime")
    return {
        path: entry for path, entry in found.items() if path.startswith((b".objects", b".shadow/objects"))
    }


# --- rm and undelete


def test_rm_moves_the_ref_and_undelete_moves_it_back(project: Path) -> None:
    """The experiment is out of log, its refs lie under refs/trash/<time>/, no byte of data changes; undelete restores
    every ref as it was, and the experiment comes back byte for byte."""
    before, data = refs(project), data_of(project)
    started = time.time_ns()
    report = tensortime.rm(["base"], directory=project)
    assert [one.name for one in report.plan.removed] == ["base"]
    assert names(project) == ["last", "next"] and in_trash(project) == ["base"]
    (entry,) = tensortime.trashed(directory=project).entries
    when = entry.removed_ns
    assert started <= when <= time.time_ns()
    tip = before["refs/experiments/base"]
    moved = {f"refs/trash/{when}/base": tip, f"refs/trash/{when}/@base/best": tip}
    others = {ref: oid for ref, oid in before.items() if "base" not in ref}
    assert refs(project) == {**others, **moved}
    assert (entry.experiment.backups, entry.experiment.tags) == (2, ("best",))
    assert data_of(project) == data
    back = tensortime.undelete(["base"], directory=project)
    assert [(one.experiment, one.was) for one in back.returned] == [("base", "base")]
    assert refs(project) == before and in_trash(project) == []
    restored = tensortime.restore("base", directory=project)
    assert (Path(restored.path) / "train.py").read_bytes() == b"1"


def test_the_trash_keeps_what_it_holds(project: Path) -> None:
    """git's own garbage collection takes nothing of an experiment in the trash."""
    tensortime.rm(["base"], directory=project)
    user_git(f"--git-dir={project / 'tensortime/.shadow'}", "gc", "--quiet", "--prune=now", cwd=project)
    tensortime.undelete(["base"], directory=project)
    assert [entry.number for entry in tensortime.show("base", directory=project).history] == [2, 1]
    assert tensortime.restore("base", directory=project).files == 3


@pytest.mark.parametrize(
    ("texts", "gone"),
    [
        (["base", "next"], {"base", "next"}),
        (["@"], {"last"}),
        (["@", "@~2"], {"last", "base"}),
        (["ne", "next", "@~1"], {"next"}),
        (["base", "next", "last"], {"base", "next", "last"}),
    ],
)
def test_rm_takes_names_as_every_verb_does(texts: list[str], gone: set[str], project: Path) -> None:
    """Several names, parts of names, `@`: all are resolved before the first one goes; twice the same is once."""
    report = tensortime.rm(texts, directory=project)
    assert {one.name for one in report.plan.removed} == gone == set(in_trash(project))
    assert set(names(project)) == {"base", "next", "last"} - gone


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        (["base", "nothing"], UnknownExperiment),
        (["base", "a"], AmbiguousName),
        (["base", "next:1"], UsageError),
        (["base", ""], UnknownExperiment),
        ([], UsageError),
    ],
)
def test_a_name_that_cannot_be_takes_nothing_with_it(
    texts: list[str], error: type[Exception], project: Path
) -> None:
    """One wrong name among several, or a single backup (`NAME:1`), and nothing is removed."""
    before = refs(project)
    with pytest.raises(error):
        tensortime.rm(texts, directory=project)
    assert refs(project) == before


def test_a_single_backup_is_refused_with_what_to_do(project: Path) -> None:
    """`rm base:1` says that whole experiments go, and how."""
    done = run_cli("rm", "base:1", cwd=project)
    assert done.returncode == 2 and done.stdout == ""
    assert "base:1 is one backup of an experiment" in done.stderr
    assert "tensortime rm base removes all its backups" in done.stderr


def test_keep_protects(project: Path) -> None:
    """An experiment that is tagged `keep` is not removed, nor is any other of the same call."""
    tag(project, "next", "keep")
    before = refs(project)
    done = run_cli("rm", "base", "next", cwd=project)
    assert done.returncode == 1 and "next is tagged keep, nothing was removed" in done.stderr
    assert "tensortime tag next --remove keep" in done.stderr
    with pytest.raises(Protected):
        tensortime.rm(["next"], directory=project)
    assert refs(project) == before


def test_dry_run_changes_nothing(project: Path) -> None:
    """--dry-run says what would go, keep and be freed, and not a byte of the store is another."""
    before = snapshot_of(project / "tensortime")
    report = tensortime.rm(["base"], dry_run=True, directory=project)
    assert report.dry_run and [one.name for one in report.plan.removed] == ["base"]
    assert report.trashed == 1 and report.freeable
    assert snapshot_of(project / "tensortime") == before


def test_what_emptying_the_trash_would_free(project: Path) -> None:
    """As long as somebody else needs the data rm frees next to nothing, and says so; once all are removed it says
    the size of the data."""
    size = os.stat(next((project / "tensortime/.objects/blake3").rglob("??*/*"))).st_blocks * 512
    small = tensortime.rm(["base"], directory=project).freeable
    assert small is not None and 0 < small < 5000
    planned = tensortime.rm(["next", "last"], dry_run=True, directory=project).freeable
    everything = tensortime.rm(["next", "last"], directory=project).freeable
    assert everything == planned
    assert everything is not None and size < everything < size + 20_000


# --- names that are taken, several of one name


def test_a_new_experiment_with_the_name_has_none_of_the_old_ones_tags(project: Path) -> None:
    """The tags go into the trash with their experiment, and come back with it, also under another name."""
    tensortime.rm(["base"], directory=project)
    tensortime.backup(directory=project, name="base")
    assert tensortime.show("base", directory=project).experiment.tags == ()
    (back,) = tensortime.undelete(["base"], directory=project).returned
    assert (back.experiment, back.was) == ("base-2", "base")
    assert tensortime.show("base-2", directory=project).experiment.tags == ("best",)
    assert tensortime.show("base", directory=project).experiment.tags == ()
    assert {ref for ref in refs(project) if ref.startswith("refs/tags/")} == {"refs/tags/base-2/best"}


def test_of_several_with_a_name_the_last_removed_comes_back(project: Path) -> None:
    """Each one in the trash is there for itself; undelete takes the newest, then the one before it."""
    for text in (b"first", b"second"):
        (project / "train.py").write_bytes(text)
        tensortime.backup(directory=project, name="x")
        tensortime.rm(["x"], directory=project)
    assert in_trash(project) == ["x", "x"]
    assert tensortime.undelete(["x"], directory=project).returned[0].experiment == "x"
    assert tensortime.undelete(["x"], directory=project).returned[0].experiment == "x-2"
    found = [
        (Path(tensortime.restore(name, directory=project).path) / "train.py").read_bytes()
        for name in ("x", "x-2")
    ]
    assert found == [b"second", b"first"]


def test_undelete_takes_names_as_every_verb_does(project: Path) -> None:
    """A part of a name, `@` (the last removed), several at once."""
    tensortime.rm(["base"], directory=project)
    tensortime.rm(["next"], directory=project)
    assert [one.experiment for one in tensortime.undelete(["@"], directory=project).returned] == ["next"]
    tensortime.rm(["next", "last"], directory=project)
    back = tensortime.undelete(["bas", "last", "last"], directory=project)
    assert [one.experiment for one in back.returned] == ["base", "last"]
    assert in_trash(project) == ["next"]


@pytest.mark.parametrize("text", ["nothing", "", "last"])
def test_what_is_not_in_the_trash(text: str, project: Path) -> None:
    """Another name, none, or one of an experiment that is not removed: said, and nothing moves."""
    tensortime.rm(["base"], directory=project)
    before = refs(project)
    with pytest.raises(UnknownExperiment):
        tensortime.undelete(["base", text], directory=project)
    assert refs(project) == before


@pytest.mark.parametrize("verb", ["show", "restore", "rm", "du"])
def test_other_verbs_say_that_it_is_in_the_trash(verb: str, project: Path) -> None:
    """A name that is not found and lies in the trash: the hint is what takes it back; exit code 4."""
    tensortime.rm(["base"], directory=project)
    for text in ("base", "bas"):
        done = run_cli(verb, text, cwd=project)
        assert done.returncode == 4
        assert done.stderr == (
            f"tensortime: no experiment is called {text}\n"
            "  base is in the trash: tensortime undelete base takes it back\n"
        )
    assert "undelete" not in run_cli(verb, "other", cwd=project).stderr


def test_removed_experiments_keep_their_restored_folder(project: Path) -> None:
    """An experiment whose folder is restored and open can be removed: that is said, the folder stays, git works in
    it, and a backup in it still knows its parent."""
    folder = Path(tensortime.restore("base", directory=project).path)
    report = tensortime.rm(["base"], directory=project)
    assert [one.path for one in report.open_worktrees] == [str(folder)]
    assert user_git("status", "--porcelain", cwd=folder) == ""
    tensortime.backup(directory=folder, name="child")
    assert tensortime.show("child", directory=project).experiment.parent == "base:2"


# --- policies


def test_rules_over_a_whole_project(project: Path) -> None:
    """--keep-last and --keep-tag add up; what is tagged `keep` stays whatever the rules say."""
    tag(project, "next", "keep")
    report = tensortime.rm(keep_last=1, directory=project)
    assert names(project) == ["last", "next"] and in_trash(project) == ["base"]
    tensortime.undelete(["base"], directory=project)
    report = tensortime.rm(keep_last=1, keep_tags=["best"], directory=project)
    assert report.plan.removed == () and len(names(project)) == 3


def test_rules_that_keep_nothing_are_refused(project: Path) -> None:
    """Nothing is removed where nothing would stay; nor with names and rules together, or a count of 0."""
    before = refs(project)
    done = run_cli("rm", "--keep-tag", "publshed", cwd=project)
    assert done.returncode == 2 and "would remove all 3 experiments" in done.stderr
    for words in (["--keep-last", "0"], ["--keep-last", "1", "base"], ["--keep-within", "soon"], []):
        assert run_cli("rm", *words, cwd=project).returncode == 2
    assert refs(project) == before


def test_rules_leave_other_projects_in_the_store_alone(tmp_path: Path) -> None:
    """In a store of several projects a rule speaks of the project that one stands in."""
    store = tmp_path / "store"
    for name in ("a", "b"):
        tree = Tree(tmp_path / name).file("train.py", name.encode())
        for number in (1, 2):
            tensortime.backup(directory=tree.root, store=store, name=f"{name}{number}")
    report = tensortime.rm(keep_last=1, directory=tmp_path / "a", store=store)
    assert [one.name for one in report.plan.removed] == ["a1"]
    listed = tensortime.log(directory=tmp_path / "a", store=store, everything=True).experiments
    assert {one.name for one in listed} == {"a2", "b1", "b2"}


def test_a_thousand_experiments(tmp_path: Path) -> None:
    """Nine hundred go in one transaction and come back one by one, in seconds; packed refs are no obstacle."""
    store = thousand(tmp_path / "p")
    store.shadow.run("pack-refs", "--all")
    started = time.monotonic()
    report = tensortime.rm(keep_last=100, directory=tmp_path / "p")
    assert time.monotonic() - started < 30
    assert len(report.plan.removed) == report.trashed == 900
    assert names(tmp_path / "p")[::99] == ["run-0999", "run-0900"]
    assert in_trash(tmp_path / "p")[0] == "run-0899"
    tensortime.undelete(["run-0000"], directory=tmp_path / "p")
    assert names(tmp_path / "p")[-1] == "run-0000"


# --- beside others, on a full disk, without the right to write


def test_a_backup_in_between_stops_the_removal(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the experiment got a backup after the plan was made nothing is removed: not that one, not the others."""
    plan = tensortime.log(directory=project).experiments
    (project / "new.txt").write_text("new")
    tensortime.backup(directory=project, name="next", add=["new.txt"])
    before = refs(project)
    with pytest.raises(StoreBusy):
        trash.remove(store_of(project), plan)
    assert refs(project) == before


def test_a_backup_beside_a_removal(project: Path) -> None:
    """While another process adds to an experiment again and again, it is removed again and again: every backup ends
    well, each removal takes a whole history, and what is left is sound."""
    code = (
        "import sys, tensortime\n"
        "for i in range(12):\n"
        "    open('out.txt', 'w').write(str(i))\n"
        "    tensortime.backup(name='busy', add=['out.txt'])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=project, stderr=subprocess.PIPE)
    removed = 0
    while process.poll() is None:
        try:
            tensortime.rm(["busy"], directory=project)
            removed += 1
        except (UnknownExperiment, StoreBusy):
            time.sleep(0.02)
    assert process.stderr and (process.returncode, process.stderr.read()) == (0, b"")
    process.stderr.close()
    with contextlib.suppress(UnknownExperiment):  # on a loaded machine it may not have come to one before
        tensortime.rm(["busy"], directory=project)
        removed += 1
    entries = tensortime.trashed(directory=project).entries
    assert removed == len(entries) > 0
    left = [one.backups for one in tensortime.log(directory=project).experiments if one.name == "busy"]
    assert sum([one.experiment.backups for one in entries] + left) == 12
    user_git(f"--git-dir={project / 'tensortime/.shadow'}", "fsck", "--strict", cwd=project)


def test_a_restore_beside_a_removal(project: Path, tmp_path: Path) -> None:
    """While another process restores an experiment again and again, it goes into the trash and comes back: each restore
    is whole, or says that there is no such experiment at this moment."""
    code = (
        "import sys, tensortime\nfrom tensortime.errors import UnknownExperiment\n"
        "for i in range(6):\n"
        "    try:\n        tensortime.restore('base', f'{sys.argv[1]}/{i}')\n"
        "    except UnknownExperiment:\n        pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], cwd=project, stderr=subprocess.PIPE
    )
    while process.poll() is None:
        tensortime.rm(["base"], directory=project)
        tensortime.undelete(["base"], directory=project)
    assert process.stderr and (process.returncode, process.stderr.read()) == (0, b"")
    process.stderr.close()
    whole = tensortime.restore("base", tmp_path / "whole", directory=project).path
    for folder in (tmp_path / "out").glob("*"):
        assert_same_tree(snapshot_of(whole, exclude=[".git", ".tensortime"]), folder)


def test_a_backup_that_joins_what_goes_meanwhile_starts_it_anew(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An experiment that goes into the trash between the beginning and the end of a backup: the backup is the first
    of a new one with its name."""
    create, done = type(store_of(project).shadow).create_ref, threading.Event()

    def late(shadow: object, name: str, commit: Oid, expected: Oid) -> bool:
        if not done.is_set():
            done.set()
            tensortime.rm(["base"], directory=project)
        return create(shadow, name, commit, expected)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store_of(project).shadow), "create_ref", late)
    report = tensortime.backup(directory=project, name="base", add=["train.py"])
    assert (report.experiment, report.number) == ("base", 1)
    assert in_trash(project) == ["base"]


def fill(disk: Path) -> None:
    """Use every byte that is left."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue


@pytest.mark.parametrize("packed", [False, True], ids=["loose refs", "packed refs"])
def test_rm_and_undelete_on_a_full_disk(packed: bool, tmp_path: Path) -> None:
    """D08: with 0 bytes free an experiment goes into the trash and comes back: the stat cache makes room for a ref."""
    with small_tmpfs(tmp_path / "disk", 8 << 20) as disk:
        tree = Tree(disk / "p").file("train.py", b"1")
        for number in range(100):
            tree.file(f"data/a-file-with-a-rather-long-name-{number}.txt")
        time.sleep(2.1)  # the stat cache remembers only what is older than its racy window
        for name in ("a", "b"):
            tensortime.backup(directory=tree.root, name=name)
        if packed:
            store_of(tree.root).shadow.run("pack-refs", "--all")
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            (disk / "more").write_bytes(b"x")
        tensortime.rm(["a"], directory=tree.root)
        assert names(tree.root) == ["b"]
        tensortime.undelete(["a"], directory=tree.root)
        assert names(tree.root) == ["b", "a"]
        (disk / "filler").unlink()
        restored = tensortime.restore("a", tmp_path / "out", directory=tree.root)
        assert_same_tree(tree.root, restored.path)


def test_a_disk_without_room_for_a_ref_is_said(tmp_path: Path) -> None:
    """Where there is nothing that could make room, nothing is lost, and the error says what to do."""
    with small_tmpfs(tmp_path / "disk", 8 << 20) as disk:
        tree = Tree(disk / "p").file("train.py", b"1")
        tensortime.backup(directory=tree.root, name="a")
        store_of(tree.root).drop_caches()
        fill(disk)
        before = refs(tree.root)
        with pytest.raises(NoSpace, match="full"):
            tensortime.rm(["a"], directory=tree.root)
        assert refs(tree.root) == before


def test_a_store_that_cannot_be_written(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a read-only disk, or in somebody else's store, rm and undelete say so before they begin."""
    monkeypatch.setattr(Store, "is_writable", property(lambda _: False))
    for call in (
        lambda: upkeep.rm(["base"], directory=project),
        lambda: upkeep.undelete(["base"], directory=project),
        lambda: upkeep.rm_worktree("base", directory=project),
    ):
        with pytest.raises(StoreUnusable, match="cannot be written"):
            call()


def test_a_store_that_is_being_cleaned_up(project: Path) -> None:
    """gc holds the lock alone: rm waits, then says that the store is busy."""
    code = "import fcntl,sys,time; f=open(sys.argv[1],'r+'); fcntl.flock(f,fcntl.LOCK_EX); print(1,flush=True); time.sleep(60)"
    lock = project / "tensortime/.lock"
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    assert holder.stdout and holder.stdout.readline()
    done = run_cli("rm", "base", cwd=project)
    holder.kill()
    holder.communicate()
    assert done.returncode == 6 and "cleaning up" in done.stderr
    assert len(names(project)) == 3


def test_a_damaged_entry_of_the_trash_is_named(project: Path) -> None:
    """What nobody can read in the trash is listed as damaged, exit code 5, and the rest comes back."""
    tensortime.rm(["base"], directory=project)
    (project / "tensortime/.shadow/refs/trash/77").mkdir()
    (project / "tensortime/.shadow/refs/trash/77/broken").write_bytes(b"")
    done = run_cli("undelete", cwd=project)
    assert done.returncode == 5 and "refs/trash/77/broken" in done.stderr
    assert done.stdout.startswith("base\t")
    assert tensortime.undelete(["base"], directory=project).returned[0].experiment == "base"

"""gc frees what nobody needs and nothing else: what is there, what goes, what keeps it from going. CASES C03, C04, K13."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, run_cli, snapshot_of, user_git
from test_damage_listing import replace_meta
from test_verify import drop_from_pack, flip, object_of, oid_of, place_of, store

import tensortime
from tensortime import api, commits, folding, prune
from tensortime.answers import GcReport
from tensortime.errors import StoreBusy, StoreUnusable
from tensortime.gitobjects import GitObjects
from tensortime.reach import read_reach
from tensortime.store import open_store

LARGE = 2 << 20


@pytest.fixture(autouse=True)
def own_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backups of one second would have one run.json, stored once."""
    times = iter(range(1_000_000))
    monkeypatch.setattr(commits, "iso_time", lambda _: f"time {next(times)}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """`base` and `other` share `model.bin`; each has a large and a small file of its own."""
    tree = Tree(tmp_path / "project").file("model.bin", size=LARGE)
    for name in ("base", "other"):
        tree.file(f"{name}.bin", size=LARGE).file(f"{name}.py", name.encode() * 1000)
        api.backup(directory=tree.root, name=name)
        (tree.root / f"{name}.bin").unlink()
        (tree.root / f"{name}.py").unlink()
    return tree.root


def gc(project: Path, *, trash: bool = False, dry_run: bool = False) -> GcReport:
    """One gc, after which everything that is named is whole."""
    report = tensortime.gc(directory=project, trash=trash, dry_run=dry_run)
    found = tensortime.verify(read_data="all", directory=project)
    assert found.problems == ()
    return report


def rm(project: Path, *names: str) -> None:
    """Move experiments into the trash."""
    tensortime.rm(names, directory=project)


def files(project: Path) -> set[Path]:
    """Objects, packs and loose objects."""
    tops = (".objects", ".shadow/objects")
    return {path for top in tops for path in store(project).joinpath(top).rglob("*") if not path.is_dir()}


def used(project: Path) -> int:
    """The bytes of them."""
    return sum(path.stat().st_blocks * 512 for path in files(project))


def test_nothing_is_freed_that_somebody_needs(project: Path) -> None:
    """With two living experiments every file stays the very file that it was."""
    before = {(path, path.stat().st_ino) for path in files(project)}
    report = gc(project, trash=True)
    assert report.freed == 0 and report.exit_code == 0
    assert {(path, path.stat().st_ino) for path in files(project)} == before


def test_the_trash_is_kept_until_it_is_asked_for(project: Path) -> None:
    """rm frees nothing, gc frees nothing of the trash, undelete brings it back; gc --trash frees it for good."""
    rm(project, "base")
    assert gc(project).freed == 0
    tensortime.undelete(["base"], directory=project)
    assert_round_trip(project, "base")
    rm(project, "base")
    before = used(project)
    report = gc(project, trash=True)
    assert len(report.trash) == 1 and report.objects == 1
    assert LARGE <= report.freed == before - used(project)
    assert_round_trip(project, "other")


def assert_round_trip(project: Path, name: str) -> None:
    """An experiment comes back as it was."""
    out = project.parent / f"out-{time.monotonic_ns()}"
    api.restore(name, out, directory=project)
    for part in (f"{name}.bin", "model.bin"):
        assert (out / part).read_bytes() == Tree(project.parent / "again").file(
            part, size=LARGE
        ).root.joinpath(part).read_bytes()
    assert (out / f"{name}.py").read_bytes() == name.encode() * 1000
    shutil.rmtree(out)


def test_shared_data_stays_for_the_other(project: Path) -> None:
    """model.bin is one object of two experiments: it goes with the second of them."""
    rm(project, "base")
    gc(project, trash=True)
    assert object_of(project, "model.bin").exists() and not object_of(project, "base.bin").exists()
    rm(project, "other")
    gc(project, trash=True)
    assert files(project) == set()


def test_a_dry_run_says_what_the_run_does_and_changes_nothing(project: Path) -> None:
    """The same numbers, and every file as it was."""
    rm(project, "base")
    before = snapshot_of(store(project), exclude=[".cache", ".tmp"])
    plan = gc(project, trash=True, dry_run=True)
    assert snapshot_of(store(project), exclude=[".cache", ".tmp"]) == before
    report = gc(project, trash=True)
    assert (plan.freed, plan.objects, plan.packs, plan.trash) == (
        report.freed,
        report.objects,
        report.packs,
        report.trash,
    )
    assert plan.dry_run and not report.dry_run


def test_after_a_gc_the_next_backup_is_whole(project: Path) -> None:
    """What the stat cache knew to be stored is gone: the next backup stores it again, small files and large ones."""
    tree = Tree(project).file("base.bin", size=LARGE).file("base.py", b"base" * 1000)
    old = time.time() - 1000
    for path in project.glob("*.*"):
        os.utime(path, (old, old))
    api.backup(directory=project, name="third")
    rm(project, "third", "base", "other")
    gc(project, trash=True)
    assert files(project) == set()
    api.backup(directory=project, name="fourth")
    assert tensortime.verify(read_data="all", directory=project).problems == ()
    assert_same_tree(tree.root, api.restore("fourth", directory=project).path)


def many_in_one_pack(project: Path) -> Path:
    """Twelve experiments whose small files were joined into one pack with a `.keep`."""
    for number in range(12):
        Tree(project).file("big.txt", os.urandom(20_000)).file("small.txt", b"%d" % number)
        api.backup(directory=project, name=f"run{number}")
    opened = open_store(str(store(project)))
    opened.shadow.run("repack", "-a", "-d", "--quiet")
    [pack] = (store(project) / ".shadow/objects/pack").glob("*.pack")
    pack.with_suffix(".keep").touch()
    return pack


def test_a_pack_that_is_more_than_half_dead_is_written_anew(project: Path) -> None:
    """Also one with a `.keep`; what it held of the living is in a new pack, half a pack of dead bytes is gone."""
    pack = many_in_one_pack(project)
    rm(project, *(f"run{number}" for number in range(5)))
    assert gc(project, trash=True).rewritten == 0 and pack.exists(), "less than half: not worth it"
    rm(project, *(f"run{number}" for number in range(5, 10)))
    before = used(project)
    report = gc(project, trash=True)
    assert report.rewritten == 1 and not pack.exists()
    assert not list(pack.parent.glob(pack.stem + "*"))
    assert report.freed > 150_000 and before - used(project) == pytest.approx(report.freed, abs=8192)
    reach = read_reach(open_store(str(store(project))))
    assert reach.unreached() == set()
    assert api.log(directory=project).experiments[0].name == "run11"
    assert_same_tree(project, api.restore("run11", directory=project).path)
    assert gc(project, trash=True).freed == 0


def test_deltas_stay_deltas(project: Path) -> None:
    """Where a person's git, or a fold, stored a file as the difference to another one, it is not blown up."""
    text = os.urandom(30_000).hex().encode()
    for number in range(12):
        Tree(project).file("log.txt", text + b"%d" % number).file("own.bin", os.urandom(60_000))
        api.backup(directory=project, name=f"run{number}")
    opened = open_store(str(store(project)))
    opened.shadow.run("repack", "-a", "-d", "-f", "--quiet")
    rm(project, *(f"run{number}" for number in (0, 1, 2, 3, 4, 5, 6, 7, 11)))
    report = gc(project, trash=True)
    assert report.rewritten == 1
    assert used(project) < 3 * LARGE + 3 * 62_000 + 2 * 40_000
    user_git(f"--git-dir={store(project) / '.shadow'}", "fsck", "--strict", "--full", cwd=project)
    for number in (8, 9, 10):
        out = Path(api.restore(f"run{number}", directory=project).path)
        assert (out / "log.txt").read_bytes() == text + b"%d" % number


def test_what_was_stored_twice_is_kept_once(project: Path) -> None:
    """--rehash stores every small file again: the older copies go, after the newer ones were read and are right."""
    Tree(project).file("code.py", os.urandom(50_000))
    api.backup(directory=project, name="first")
    api.backup(directory=project, name="second", rehash=True)
    before = used(project)
    report = gc(project)
    assert report.rewritten == 1
    assert used(project) < before - 45_000
    assert_same_tree(project, api.restore("first", directory=project).path)


@pytest.mark.parametrize("which", [0, 1])
def test_a_copy_goes_only_when_the_other_one_is_right(project: Path, which: int) -> None:
    """Whichever copy has rotted, the right one stays."""
    Tree(project).file("code.py", os.urandom(50_000))
    api.backup(directory=project, name="first")
    api.backup(directory=project, name="second", rehash=True)
    oid = bytes.fromhex(oid_of(project, "first:code.py"))
    packs = GitObjects(str(store(project) / ".shadow")).copies(oid)
    assert len(packs) == 2
    rotten = packs[which]
    entry = rotten.entry(oid)
    flip(Path(rotten.stem + ".pack"), (entry.start + entry.end) // 2)
    for _ in range(3):
        assert tensortime.gc(directory=project).exit_code in (0, 3)
        found = GitObjects(str(store(project) / ".shadow")).read(oid)
        assert found.data == (project / "code.py").read_bytes()


def cut(path: Path) -> None:
    """Half a file."""
    path.chmod(0o600)
    os.truncate(path, path.stat().st_size // 2)


def lose_refs(project: Path) -> None:
    """No experiment has a name any more."""
    shutil.rmtree(store(project) / ".shadow/refs/experiments")


UNKNOWN: dict[str, Callable[[Path], object]] = {
    "an empty ref": lambda project: (store(project) / ".shadow/refs/experiments/other").write_bytes(b""),
    "a ref to nothing": lambda project: (store(project) / ".shadow/refs/experiments/other").write_text(
        "1" * 40 + "\n"
    ),
    "a commit gone": lambda project: drop_from_pack(project, oid_of(project, "other")),
    "a tree gone": lambda project: drop_from_pack(project, oid_of(project, "other^{tree}")),
    "a tree flipped": lambda project: flip(*place_of(project, oid_of(project, "other^{tree}"))),
    "a commit flipped": lambda project: flip(*place_of(project, oid_of(project, "other"))),
    "a manifest gone": lambda project: drop_from_pack(project, oid_of(project, "other:.tensortime/manifest")),
    "a manifest flipped": lambda project: flip(
        *place_of(project, oid_of(project, "other:.tensortime/manifest"))
    ),
    "a pack gone": lambda project: os.unlink(place_of(project, oid_of(project, "other"))[0]),
    "an idx gone": lambda project: os.unlink(
        place_of(project, oid_of(project, "other"))[0].with_suffix(".idx")
    ),
    "an idx cut short": lambda project: cut(
        place_of(project, oid_of(project, "other"))[0].with_suffix(".idx")
    ),
    "the refs gone": lose_refs,
}


WITH_ONE_PACK = sorted(harm for harm in UNKNOWN if "pack" not in harm and "idx" not in harm)
"""Without its only pack nothing at all can be read."""


@pytest.mark.parametrize(
    ("harm", "folded"),
    [*((harm, False) for harm in sorted(UNKNOWN)), *((harm, True) for harm in WITH_ONE_PACK)],
)
def test_where_something_needed_cannot_be_read_nothing_is_freed(
    project: Path, harm: str, folded: bool
) -> None:
    """Nobody knows then what it needs: no object and no pack goes; the reason is said, exit code 5."""
    rm(project, "base")
    tensortime.undelete(["base"], directory=project)
    orphan = store(project) / ".objects/blake3/00"
    orphan.mkdir()
    (orphan / ("0" * 62)).write_bytes(b"nobody's")
    if folded:
        open_store(str(store(project))).shadow.run("repack", "-a", "-d", "--quiet", "-f")
    UNKNOWN[harm](project)
    before = files(project)
    report = tensortime.gc(directory=project)
    assert report.exit_code == 5 and report.kept and (report.objects, report.packs) == (0, 0)
    assert files(project) == before


@pytest.mark.parametrize("trash", [False, True])
@pytest.mark.parametrize(
    "hidden",
    ["refs", "refs/experiments", "refs/tags/other", "refs/trash", "worktrees/other/HEAD", "worktrees/other"],
)
def test_what_this_user_may_not_read_may_need_everything(project: Path, hidden: str, trash: bool) -> None:
    """Names and worktrees of another user (after a sudo that was killed): git passes over a folder of refs that it
    cannot list and says nothing. Nothing is freed; verify names it."""
    rm(project, "base")
    tensortime.tag("other", ["best"], directory=project)
    tensortime.restore("other", directory=project)
    before, path = files(project), store(project) / ".shadow" / hidden
    mode = path.stat().st_mode & 0o777
    rights = "-dac_override,-dac_read_search,-fowner"
    prefix = ["setpriv", "--bounding-set", rights] if os.getuid() == 0 else []
    command = [*prefix, sys.executable, "-m", "tensortime", "gc", *(["--trash"] if trash else []), "--json"]
    path.chmod(0)
    try:
        subprocess.run(command, cwd=project, check=False, capture_output=True)
        found = subprocess.run(
            [*prefix, sys.executable, "-m", "tensortime", "verify"], cwd=project, check=False
        )
    finally:
        path.chmod(mode)
    assert files(project) == before and found.returncode != 0
    assert tensortime.verify(read_data="all", directory=project).problems == ()


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff{", b'{"format": 2}\n', b'{"format": 1}\n{"digest": "sha3:0"}\n']
)
def test_a_manifest_that_is_not_understood_keeps_all_large_files(project: Path, content: bytes) -> None:
    """Damaged, or of a later version: it may name any of them."""
    (store(project) / ".shadow/refs/experiments/other").rename(
        store(project) / ".shadow/refs/experiments/broken"
    )
    replace_meta(project, "manifest", content)
    rm(project, "base")
    report = tensortime.gc(directory=project, trash=True)
    assert report.exit_code == 5 and report.objects == 0
    assert object_of(project, "base.bin").exists()


def test_a_lost_file_keeps_nobody_from_freeing(project: Path) -> None:
    """A blob or a large file that is missing hides nothing: what nobody needs goes."""
    drop_from_pack(project, oid_of(project, "other:other.py"))
    object_of(project, "other.bin").unlink()
    rm(project, "base")
    report = tensortime.gc(directory=project, trash=True)
    assert report.exit_code == 0 and report.objects == 1
    assert object_of(project, "model.bin").exists()


def test_damage_in_the_trash_goes_with_the_trash(project: Path) -> None:
    """A removed experiment that cannot be read blocks a plain gc, and not one that empties the trash."""
    rm(project, "base")
    [ref] = [path for path in (store(project) / ".shadow/refs/trash").rglob("*") if path.is_file()]
    git_dir = store(project) / ".shadow"
    tree = user_git(f"--git-dir={git_dir}", "rev-parse", f"{ref.read_text().strip()}^{{tree}}", cwd=project)
    drop_from_pack(project, tree.strip())
    assert tensortime.gc(directory=project).exit_code == 5
    ref.write_bytes(b"")
    assert tensortime.gc(directory=project).exit_code == 5
    report = gc(project, trash=True)
    assert report.exit_code == 0 and report.objects == 1 and not ref.exists()


@pytest.mark.parametrize("link", ["symlink", "hardlink", "copy"])
def test_a_restored_worktree_keeps_what_it_stands_on(project: Path, link: str) -> None:
    """C04: its experiment is removed and the trash emptied: its files can still be read, and its history."""
    out = project.parent / "out"
    api.restore("base", out, directory=project, link=link)
    before = snapshot_of(out)
    rm(project, "base")
    gc(project, trash=True)
    assert snapshot_of(out) == before
    assert user_git("status", "--porcelain", cwd=out) == ""
    assert (out / "base.bin").read_bytes() == object_of(project, "base.bin").read_bytes()


def test_a_restore_that_died_at_once_blocks_nothing(project: Path) -> None:
    """The record of a worktree names nothing yet then."""
    api.restore("base", project.parent / "out", directory=project)
    record = store(project) / ".shadow/worktrees/out"
    (record / "HEAD").write_text("0" * 40 + "\n")
    (record / "ORIG_HEAD").unlink(missing_ok=True)
    rm(project, "other")
    assert gc(project, trash=True).exit_code == 0


def test_what_a_person_did_in_a_worktree_stays(project: Path) -> None:
    """Commits, branches, both stashes (one is only in a reflog), what is staged: as git itself keeps it."""
    out = project.parent / "out"
    api.restore("base", out, directory=project)
    for name in ("one", "two"):
        (out / "base.py").write_text(name)
        user_git("stash", cwd=out)
    (out / "base.py").write_text("branch")
    user_git("checkout", "-q", "-b", "mine", cwd=out)
    user_git("commit", "-q", "-a", "-m", "mine", cwd=out)
    user_git("checkout", "-q", "--detach", "HEAD~1", cwd=out)
    user_git("tag", "-a", "-m", "annotated", "here", cwd=out)
    (out / "staged.py").write_text("staged")
    user_git("add", "-f", "staged.py", cwd=out)
    for path in (store(project) / ".shadow/objects").glob("??/*"):
        os.utime(path, (1, 1))
    rm(project, "base", "other")
    gc(project, trash=True)
    assert user_git("stash", "show", "-p", "stash@{1}", cwd=out).count("+one") == 1
    assert user_git("stash", "show", "-p", "stash@{0}", cwd=out).count("+two") == 1
    assert user_git("show", "mine:base.py", cwd=out) == "branch"
    assert user_git("show", ":staged.py", cwd=out) == "staged"
    user_git(f"--git-dir={store(project) / '.shadow'}", "fsck", "--strict", "--full", cwd=project)


def test_loose_objects_that_nobody_needs_go_after_two_weeks(project: Path) -> None:
    """A person's git may just have written them."""
    git_dir = store(project) / ".shadow"
    (project / "note").write_text("note")
    oid = user_git(f"--git-dir={git_dir}", "hash-object", "-w", "note", cwd=project).strip()
    loose = git_dir / "objects" / oid[:2] / oid[2:]
    gc(project)
    assert loose.exists()
    os.utime(loose, (time.time() - 15 * 86400,) * 2)
    gc(project)
    assert not loose.exists()


def test_what_verify_moved_aside_goes_with_the_trash(project: Path) -> None:
    """Somebody may want to look at it before."""
    flip(object_of(project, "base.bin"))
    tensortime.verify(read_data="all", repair=True, directory=project)
    [moved] = (store(project) / ".objects/damaged").iterdir()
    assert tensortime.gc(directory=project).freed == 0 and moved.exists()
    assert tensortime.gc(directory=project, trash=True).freed == LARGE and not moved.exists()


LEFTOVERS = (
    *(
        ".shadow/objects/pack/tmp_pack_XyZ",
        ".shadow/objects/pack/tmp_idx_XyZ",
        ".shadow/objects/pack/.tmp-17-pack-0.pack",
    ),
    *(
        ".shadow/objects/aa/tmp_obj_1",
        ".shadow/fast_import_crash_17",
    ),
    *(
        ".tmp/4194305-0123456789ab/object-1",
        f".shadow/objects/pack/pack-{'0' * 40}.pack",
    ),
)


@pytest.mark.parametrize("name", LEFTOVERS)
def test_leftovers_of_dead_processes_are_swept(project: Path, name: str) -> None:
    """What a process leaves that was killed, git's own too, once it is old enough to be nobody's."""
    path = Tree(store(project)).file(name, b"x" * 5000).root / name
    old = time.time() - 3 * 86400
    os.utime(path, (old, old))
    os.utime(path.parent, (old, old))
    before = files(project) - {path}
    report = gc(project)
    assert report.leftovers == 1 and report.freed >= 4096
    assert not path.exists() and files(project) == before


def test_what_may_still_have_an_owner_is_not_swept(project: Path) -> None:
    """Fresh files, and the index lock of a person's git in a worktree. Locks of refs: test_orphans."""
    api.restore("base", directory=project)
    fresh = [name for name in LEFTOVERS if not name.startswith(".tmp")] + [
        ".shadow/worktrees/base/index.lock"
    ]
    for name in fresh:
        Tree(store(project)).file(name, b"x")
    os.utime(store(project) / fresh[-1], (time.time() - 7200,) * 2)
    gc(project)
    assert [name for name in fresh if not (store(project) / name).exists()] == []


def test_shortcuts_that_a_persons_git_wrote_do_not_mislead(project: Path) -> None:
    """A multi-pack-index and a commit-graph speak of packs and commits that go."""
    git_dir = f"--git-dir={store(project) / '.shadow'}"
    user_git(git_dir, "multi-pack-index", "write", cwd=project)
    user_git(git_dir, "commit-graph", "write", "--reachable", cwd=project)
    rm(project, "base")
    gc(project, trash=True)
    assert user_git(git_dir, "fsck", "--strict", "--full", "--no-dangling", cwd=project) == ""
    assert_round_trip(project, "other")


def test_a_running_backup_keeps_gc_out(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gc waits some seconds, then names the process that holds the store; exit code 6; nothing was deleted."""
    rm(project, "base")
    before = files(project)
    monkeypatch.setattr(prune, "LOCK_WAIT", 0.1)
    with open(store(project) / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(StoreBusy, match="in use"):
            tensortime.gc(directory=project, trash=True)
        hold = subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()])
    try:
        done = run_cli("gc", "--trash", "--json", cwd=project)
        assert done.returncode == 6
        assert json.loads(done.stdout)["error"]["kind"] == "store-busy"
    finally:
        hold.kill()
        hold.wait()
    assert files(project) == before


def test_a_store_of_somebody_else_is_left_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D08: where nothing can be written gc says so; a dry run works."""
    rm(project, "base")
    monkeypatch.setattr(type(open_store(str(store(project)))), "is_writable", False)
    assert tensortime.gc(directory=project, trash=True, dry_run=True).freed >= LARGE
    with pytest.raises(StoreUnusable):
        tensortime.gc(directory=project, trash=True)


@pytest.fixture
def killed_after(project: Path) -> Iterator[list[str]]:
    """Places in gc at which its process dies."""
    yield ["remove_file", "remove_pack", "drop_refs", "copy_objects", "remove_shortcuts"]


def test_a_gc_that_dies_anywhere_harms_nothing(project: Path, killed_after: list[str]) -> None:
    """K03: after any step every living experiment is whole, and the next gc finishes."""
    many_in_one_pack(project)
    rm(project, *(f"run{number}" for number in range(10)), "base")
    for step in killed_after:
        for count in (0, 1, 3):
            program = (
                "import os, sys, tensortime\nfrom tensortime import prune\n"
                f"whole, left = prune.{step}, [{count}]\n"
                "def dying(*words, **options):\n"
                "  left[0] -= 1\n  result = whole(*words, **options)\n"
                "  if left[0] < 0: os.kill(os.getpid(), 9)\n  return result\n"
                f"prune.{step} = dying\ntensortime.gc(trash=True)\n"
            )
            subprocess.run([sys.executable, "-c", program], cwd=project, check=False, timeout=60)
            assert tensortime.verify(read_data="all", directory=project).problems == ()
            assert api.backup(directory=project, name=f"{step}{count}").exit_code == 0
    gc(project, trash=True)
    assert all(len(node) == 20 for node in read_reach(open_store(str(store(project)))).unreached())
    assert_round_trip(project, "other")


def test_the_command(project: Path) -> None:
    """It ends with what was freed, what is still held, and by what."""
    rm(project, "base")
    dry = run_cli("gc", "--dry-run", "--trash", cwd=project)
    assert dry.returncode == 0 and "would free 2.1 MB" in dry.stdout
    plain = run_cli("gc", cwd=project)
    assert plain.returncode == 0 and "freed 0 B" in plain.stdout and "the trash" in plain.stdout
    done = run_cli("gc", "--trash", cwd=project)
    assert done.returncode == 0, done.stderr
    assert (
        "freed 2.1 MB" in done.stdout
        and "still held: 4.2 MB" in done.stdout
        and "4.2 MB experiments" in done.stdout
    )


def test_folding_and_gc_agree(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many packs, folded ones among them, experiments that come and go: in the end nothing is left over."""
    monkeypatch.setattr(folding, "MOST_PACKS", 4)
    for number in range(20):
        Tree(project).file("own.py", os.urandom(3000)).file("log.txt", b"line\n" * number * 50)
        api.backup(directory=project, name=f"run{number}")
        if number % 3 == 2:
            rm(project, f"run{number - 1}")
            gc(project, trash=number % 2 == 0)
    rm(project, *(one.name for one in api.log(directory=project).experiments if one.name != "run19"))
    gc(project, trash=True)
    reach = read_reach(open_store(str(store(project))))
    dead = sum(reach.packed[node] for node in reach.unreached() & reach.packed.keys())
    packs = len(list((store(project) / ".shadow/objects/pack").glob("*.pack")))
    assert dead <= sum(reach.packed.values()) / 2 + 4096 * packs
    assert reach.objects.keys() <= reach.live
    assert_same_tree(project, api.restore("run19", directory=project).path)

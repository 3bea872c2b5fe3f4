"""purge: a secret, or a folder that should never have been backed up, is nowhere in the store any more. CASES S18."""

import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, run_cli, snapshot_of, user_git

import tensortime
from tensortime import api, fsops, grace
from tensortime.answers import PurgeReport
from tensortime.errors import Damaged, UsageError
from tensortime.gitobjects import GitObjects

SECRET = b"sk-" + b"5ecret-0f-my-c0mpany-" * 3
LARGE = 1 << 20


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A secret in a small file, another one in a large file, in experiments, their histories, tags and the trash."""
    tree = (
        Tree(tmp_path / "project")
        .file("train.py", b"print(1)\n")
        .file("conf/key.txt", SECRET)
        .file("keep.bin", size=LARGE)
    )
    tree.file("wandb/run.bin", SECRET + bytes(LARGE)).file("wandb/log.txt", SECRET * 2).file(
        "wandb/deep/x.txt", SECRET * 3
    )
    api.backup(directory=tree.root, name="first")
    tree.file("train.py", b"print(2)\n").file("conf/key.txt", SECRET + b" new").file(
        "conf/other.txt", b"other"
    )
    api.backup(directory=tree.root, name="first", joins=True)
    api.backup(directory=tree.root, name="removed")
    shutil.rmtree(tree.root / "wandb")
    (tree.root / "conf/key.txt").unlink()
    api.backup(directory=tree.root, name="clean")
    tensortime.rm(["removed"], directory=tree.root)
    return tree.root


def store(project: Path) -> Path:
    """The store."""
    return project / "tensortime"


def hits(project: Path) -> list[str]:
    """Every file of the store in which the secret is found, raw or inflated, and every object of a pack that holds it."""
    found = []
    for path in store(project).rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if SECRET in data:
                found.append(str(path))
            try:
                if SECRET in zlib.decompress(data):
                    found.append(f"loose {path}")
            except zlib.error:
                pass
    objects = GitObjects(str(store(project) / ".shadow"))
    for pack in objects.packs.values():
        found += [
            f"{pack.name} {entry.oid.hex()}" for entry in pack.entries() if SECRET in pack.read(entry).data
        ]
        raw = Path(pack.stem + ".pack").read_bytes()
        found += [
            f"stream in {pack.name}"
            for at in range(len(raw))
            if raw[at] == 0x78 and SECRET in inflated(raw[at:])
        ]
    return found


def inflated(data: bytes) -> bytes:
    """What a zlib stream holds, as far as it goes."""
    try:
        return zlib.decompressobj().decompress(data, 1 << 16)
    except zlib.error:
        return b""


def purge(project: Path, *paths: str) -> PurgeReport:
    """A purge after which everything is whole."""
    report = tensortime.purge(paths, directory=project)
    assert tensortime.verify(read_data="all", directory=project).problems == ()
    user_git(f"--git-dir={store(project) / '.shadow'}", "fsck", "--strict", "--full", cwd=project)
    return report


def test_nothing_of_it_is_left(project: Path) -> None:
    """S18: a search through every byte of the store, inflated, finds nothing: packs, objects, trash, caches."""
    assert len(hits(project)) >= 6
    report = purge(project, "conf/key.txt", "wandb")
    assert hits(project) == []
    assert report.exit_code == 0 and report.files == 5 and report.bytes >= LARGE
    assert report.experiments[0] == "first" and report.experiments[1].endswith("/removed")
    assert not (store(project) / ".shadow/purging").exists()


@pytest.mark.parametrize("folded", [False, True])
def test_all_else_stays(project: Path, folded: bool) -> None:
    """Every backup is as before but for the paths: names, numbers, notes, times, bytes; git deltas included."""
    if folded:
        user_git(
            f"--git-dir={store(project) / '.shadow'}",
            "repack",
            "-a",
            "-d",
            "-q",
            "-f",
            "--depth=50",
            cwd=project,
        )
    tensortime.undelete(["removed"], directory=project)
    names = ("first:1", "first:2", "removed", "clean")
    before = {
        name: snapshot_of(
            api.restore(name, project.parent / ("a" + name.replace(":", "-")), directory=project).path,
            exclude=[".git", ".tensortime"],
        )
        for name in names
    }
    logged = [
        (one.name, one.time_ns, one.note, one.backups) for one in api.log(directory=project).experiments
    ]
    clean = api.show("clean", directory=project).experiment.commit
    purge(project, "conf/key.txt", "wandb")
    assert [
        (one.name, one.time_ns, one.note, one.backups) for one in api.log(directory=project).experiments
    ] == logged
    assert api.show("clean", directory=project).experiment.commit == clean, "what never had it is untouched"
    for name in names:
        made = api.restore(name, project.parent / ("b" + name.replace(":", "-")), directory=project).path
        assert_same_tree(
            before[name],
            snapshot_of(made, exclude=[".git", ".tensortime"]),
            ignored=["conf/key.txt", "wandb"] + (["conf"] if name == "first:1" else []),
        )
        assert user_git("status", "--porcelain", cwd=made) == ""


def test_the_experiments_say_what_was_purged(project: Path) -> None:
    """run.json has the paths, those of an earlier purge too; show names them."""
    purge(project, "wandb")
    purge(project, "conf/key.txt")
    assert api.show("first:1", directory=project).run["purged"] == ["wandb", "conf/key.txt"]
    assert "purged" not in api.show("clean", directory=project).run
    assert "purged      wandb, conf/key.txt" in run_cli("show", "first", cwd=project).stdout


def test_a_restored_worktree_is_named_and_not_touched(project: Path) -> None:
    """Its files stay, a person may need them; its git knows nothing of them any more, and goes on working."""
    out = Path(api.restore("first", project.parent / "out", directory=project).path)
    (out / "train.py").write_text("mine\n")
    user_git("commit", "-q", "-a", "-m", "mine", cwd=out)
    before = snapshot_of(out, exclude=[".git", ".tensortime"])
    report = purge(project, "conf/key.txt", "wandb")
    assert set(report.worktrees) == {str(out / "conf/key.txt"), str(out / "wandb")}
    assert report.exit_code == 3
    assert snapshot_of(out, exclude=[".git", ".tensortime"]) == before
    assert hits(project) == []
    assert user_git("show", "HEAD:train.py", cwd=out) == "mine\n"
    assert "key.txt" not in user_git("ls-tree", "-r", "--name-only", "HEAD~1", cwd=out)
    assert user_git("status", "--porcelain", "train.py", ".tensortime", cwd=out) == ""
    api.backup(directory=out, name="child", ignore=["conf", "wandb"])


def test_bytes_that_are_at_another_path_too_stay_and_are_counted(project: Path) -> None:
    """The report says that the secret is still in the store; purging the other path ends it."""
    Tree(project).file("copy.txt", SECRET)
    api.backup(directory=project, name="copied")
    report = purge(project, "conf/key.txt", "wandb")
    assert report.still_needed == 1 and report.exit_code == 3
    purge(project, "copy.txt")
    assert hits(project) == []


def test_a_path_that_no_backup_has(project: Path) -> None:
    """Nothing changes."""
    before = {
        path: path.stat().st_ino
        for path in store(project).rglob("*")
        if path.is_file() and ".shadow" in str(path)
    }
    report = purge(project, "conf/nothing.txt")
    assert report.commits == 0 and report.files == 0
    after = {
        path: path.stat().st_ino
        for path in store(project).rglob("*")
        if path.is_file() and ".shadow" in str(path)
    }
    assert before == after


def test_where_a_backup_cannot_be_read_nothing_is_changed(project: Path) -> None:
    """Nobody knows what it holds: the command says so and ends with 5."""
    ref = store(project) / ".shadow/refs/experiments/first"
    objects = GitObjects(str(store(project) / ".shadow"))
    pack = objects.copies(bytes.fromhex(ref.read_text().strip()))[0]
    entry = pack.entry(bytes.fromhex(ref.read_text().strip()))
    path = Path(pack.stem + ".pack")
    data = bytearray(path.read_bytes())
    data[(entry.start + entry.end) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    before = snapshot_of(store(project), exclude=[".tmp"])
    with pytest.raises(Damaged):
        tensortime.purge(["wandb"], directory=project)
    assert snapshot_of(store(project), exclude=[".tmp"]) == before


@pytest.mark.parametrize(
    "step", ["swap_refs", "write_condemned", "remap_reflogs", "sweep_condemned", "rewrite"]
)
def test_a_purge_that_dies_is_finished_by_the_next(project: Path, step: str) -> None:
    """K03: after each step the store is whole; the same command, or a gc where the refs have moved, ends it."""
    tensortime.restore("first", project.parent / "restored", directory=project)
    program = (
        "import os, tensortime\nfrom tensortime import purging\n"
        f"whole = purging.{step}\n"
        "def dying(*words, **options):\n  whole(*words, **options)\n  os.kill(os.getpid(), 9)\n"
        f"purging.{step} = dying\ntensortime.purge(['conf/key.txt', 'wandb'])\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=project, check=False, timeout=60)
    assert tensortime.verify(read_data="all", directory=project).problems == ()
    if step == "swap_refs":
        tensortime.gc(directory=project)
    else:
        purge(project, "conf/key.txt", "wandb")
    assert hits(project) == []
    assert tensortime.verify(read_data="all", directory=project).problems == ()


@pytest.mark.parametrize("harm", ["cut", "folder", "link"])
@pytest.mark.parametrize("verb", ["gc", "purge"])
def test_a_damaged_list_of_what_was_purged_is_said_and_nothing_of_it_stays(
    project: Path, harm: str, verb: str
) -> None:
    """S18, X01: a purge died, and then the file that remembers it was damaged: gc and purge free all that may be meant."""
    program = (
        "import os, tensortime\nfrom tensortime import purging\n"
        "purging.sweep_condemned = lambda *_: os._exit(0)\ntensortime.purge(['conf/key.txt', 'wandb'])\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=project, check=False, timeout=60)
    listed = store(project) / ".shadow/purging"
    data = listed.read_bytes()
    listed.unlink()
    if harm == "cut":
        listed.write_bytes(data[: len(data) // 2])
    elif harm == "folder":
        (listed / "x").mkdir(parents=True)
    else:
        listed.symlink_to("/etc/hostname")
    assert hits(project)
    (problem,) = tensortime.verify(directory=project).problems
    assert problem.kind == "purging" and "gc" in problem.reason
    said = run_cli(*([verb] if verb == "gc" else [verb, "conf/other.txt", "--yes"]), cwd=project)
    assert said.returncode == 3 and "purging is damaged" in said.stdout + said.stderr, said
    assert hits(project) == [] and not os.path.lexists(listed)
    assert tensortime.verify(read_data="all", directory=project).problems == ()


def test_without_trusted_locks_the_bytes_go_a_day_later(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backups are without it at once; gc frees the bytes a day later."""
    monkeypatch.setattr(fsops, "file_system_name", lambda _: "nfs4")
    report = tensortime.purge(["conf/key.txt", "wandb"], directory=project)
    assert report.waiting > LARGE and report.exit_code == 3
    assert hits(project) and (store(project) / ".shadow/purging").exists()
    whole = grace.now_ns
    monkeypatch.setattr(grace, "now_ns", lambda: whole() + 25 * 3600 * 10**9)
    tensortime.gc(directory=project)
    assert hits(project) == [] and not (store(project) / ".shadow/purging").exists()


def test_the_command_asks(project: Path) -> None:
    """Without a terminal it takes --yes; --dry-run changes nothing and says what would go."""
    done = run_cli("purge", "wandb", cwd=project)
    assert done.returncode == 2 and "--yes" in done.stderr and hits(project)
    dry = run_cli("purge", "wandb", "--dry-run", cwd=project)
    assert dry.returncode == 0 and "backups and edits: 3" in dry.stdout and hits(project)
    done = run_cli("purge", "wandb", "conf/key.txt", "--yes", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["paths"] == ["wandb", "conf/key.txt"] and document["files"] == 5
    assert hits(project) == []


def test_a_person_at_a_terminal_is_asked(project: Path) -> None:
    """N, and nothing else than y, leaves everything as it was."""
    import pexpect

    for typed, left in (("n", True), ("", True), ("y", False)):
        env = {**os.environ, "TERM": "xterm"}
        child = pexpect.spawn(
            sys.executable,
            ["-m", "tensortime", "purge", "wandb", "conf/key.txt"],
            cwd=str(project),
            env=env,
            timeout=30,
        )
        child.expect("y/N")
        child.sendline(typed)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0 and bool(hits(project)) is left


def test_a_path_outside_the_project(project: Path) -> None:
    """Only what lies in the project can be in its backups."""
    for path in ("/etc/passwd", "../other", "."):
        with pytest.raises(UsageError):
            tensortime.purge([path], directory=project)

"""gc where it is hard: beside backups and restores, on a full disk, without locks, with a thousand experiments."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from builders import Tree, assert_same_tree, run_cli
from mounts import loop_mount, small_tmpfs
from test_verify import flip, object_of, store

import tensortime
from tensortime import api, fsops, grace, prune, snapshot
from tensortime.errors import NoSpace
from tensortime.folding import pack_sizes
from tensortime.formats import Digest, RelPath
from tensortime.garbage import Facts, make_plan, read_facts
from tensortime.manifest import FILE, Manifest, ManifestEntry, encode_manifest
from tensortime.packs import Kind, PackWriter, encode_commit, object_id, pack_object
from tensortime.reach import MISSING, Gap, read_reach
from tensortime.store import Store, open_store
from tensortime.trailers import BackupFacts, encode_message
from tensortime.trees import MODE_FILE, Layout, rows_of, write_object, write_tree
from tensortime.withdrawn import read_withdrawn

LARGE = 2 << 20
HOUR = 3600 * 1_000_000_000
Clock = Callable[[float], None]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two experiments; `base` has a file of its own."""
    tree = (
        Tree(tmp_path / "project")
        .file("model.bin", size=LARGE)
        .file("base.bin", size=LARGE)
        .file("a.py", b"a" * 999)
    )
    api.backup(directory=tree.root, name="base")
    (tree.root / "base.bin").unlink()
    tree.file("a.py", b"b" * 999)
    api.backup(directory=tree.root, name="other")
    return tree.root


@pytest.fixture
def no_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS: whether another machine uses the store no lock tells."""
    monkeypatch.setattr(fsops, "file_system_name", lambda _: "nfs4")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Lets hours pass for gc."""
    passed = [0]
    monkeypatch.setattr(grace, "now_ns", lambda: time.time_ns() + passed[0])

    def wait(hours: float) -> None:
        passed[0] += int(hours * HOUR)

    return wait


def collect(project: Path) -> int:
    """One gc that empties the trash; the bytes it freed. What is named is whole afterwards."""
    report = tensortime.gc(directory=project, trash=True)
    assert report.exit_code == 0
    assert tensortime.verify(read_data="all", directory=project).problems == ()
    return report.freed


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "lustre", "fuse.sshfs", "9p", "this file system"])
def test_locks_are_not_trusted_where_several_machines_may_write(
    project: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only file systems that one machine alone writes to are believed."""
    assert fsops.trusts_locks(str(project))
    monkeypatch.setattr(fsops, "file_system_name", lambda _: kind)
    assert not fsops.trusts_locks(str(project))


def test_locks_are_not_trusted_where_there_are_none(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lustre mounted without flock says so."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert not fsops.trusts_locks(str(project))
    tensortime.rm(["base"], directory=project)
    assert tensortime.gc(directory=project, trash=True).waiting >= LARGE


def test_without_trusted_locks_bytes_go_a_day_later(project: Path, no_trust: None, later: Clock) -> None:
    """The first gc only withdraws; one after 23 hours deletes nothing; one after 25 hours what is still not needed."""
    tensortime.rm(["base"], directory=project)
    first = tensortime.gc(directory=project, trash=True)
    assert (first.freed, first.objects, first.packs) == (0, 0, 0) and first.waiting >= LARGE
    later(23)
    assert collect(project) == 0 and object_of(project, "base.bin").exists()
    later(2)
    assert collect(project) >= LARGE
    assert not object_of(project, "base.bin").exists() and object_of(project, "model.bin").exists()
    reach = read_reach(open_store(str(store(project))))
    assert all(len(node) == 20 for node in reach.unreached()), "large files"
    later(25)
    assert collect(project) == 0 and read_withdrawn(str(store(project))).is_empty()


def test_what_another_gc_took_away_meanwhile_is_no_damage(
    project: Path, no_trust: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without trusted locks two may work at once: what one has listed the other moves into a new pack, or deletes."""
    reads: list[Facts] = []

    def read(opened: Store, now: float, *, alone: bool, **_: object) -> Facts:
        facts = read_facts(opened, now, alone=alone)
        reads.append(facts)
        if len(reads) > 1:
            return facts
        tip = facts.reach.roots[0].tips[0]
        packed = {oid: size for oid, size in facts.reach.packed.items() if oid != tip}
        return replace(facts, reach=replace(facts.reach, packed=packed, gaps=(Gap(tip, MISSING),)))

    monkeypatch.setattr(prune, "read_facts", read)
    report = tensortime.gc(directory=project)
    assert len(reads) == 2
    assert (report.exit_code, report.kept) == (0, ())


def test_damage_is_told_without_trusted_locks_as_well(project: Path, no_trust: None) -> None:
    """It is there when all is read again: nothing is freed, and the exit code says so."""
    [pack, *_] = sorted((store(project) / ".shadow/objects/pack").glob("*.pack"))
    pack.with_suffix(".idx").unlink()
    pack.unlink()
    report = tensortime.gc(directory=project)
    assert report.exit_code == 5 and report.kept
    assert report.freed == 0


def test_what_a_backup_used_again_meanwhile_stays(project: Path, no_trust: None, later: Clock) -> None:
    """The withdrawn object and pack are not relied on: the backup stores the bytes again, and they are as new."""
    tensortime.rm(["base"], directory=project)
    tensortime.gc(directory=project, trash=True)
    inode = object_of(project, "base.bin").stat().st_ino
    tree = Tree(project).file("base.bin", size=LARGE).file("a.py", b"a" * 999)
    later(25)
    api.backup(directory=project, name="again")
    assert object_of(project, "base.bin").stat().st_ino != inode
    later(25)
    collect(project)
    assert_same_tree(tree.root, api.restore("again", directory=project).path)


def test_a_backup_that_uses_it_again_at_the_last_moment(
    project: Path, no_trust: None, later: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look of the gc and its deletion a backup stores the bytes again: the new file stays."""
    tensortime.rm(["base"], directory=project)
    tensortime.gc(directory=project, trash=True)
    later(25)
    ripe = grace.ripe

    def late(*words: object) -> object:
        found = ripe(*words)  # type: ignore[arg-type]
        Tree(project).file("base.bin", size=LARGE)
        monkeypatch.setattr(grace, "ripe", ripe)
        with monkeypatch.context() as patch:
            patch.setattr(fsops, "file_system_name", lambda _: "ext4")
            api.backup(directory=project, name="late")
        return found

    monkeypatch.setattr(grace, "ripe", late)
    tensortime.gc(directory=project, trash=True)
    assert tensortime.verify(read_data="all", directory=project).problems == ()
    assert_same_tree(project, api.restore("late", directory=project).path)


def test_a_pack_that_a_backup_has_written_again_under_its_name(
    project: Path, no_trust: None, later: Clock
) -> None:
    """The same files make a pack of the same name: it is another file, and withdrawn from now on, if at all."""
    opened = open_store(str(store(project)))
    plan = make_plan(read_facts(opened, time.time(), alone=False), trash=False)
    packs = [(name, 1) for name in pack_sizes(opened)]
    assert grace.ripe(opened, plan, packs)[1] == {}
    later(25)
    ready = grace.ripe(opened, plan, packs)[1]
    assert len(ready) == 2
    name, other = ready
    path = grace.pack_file(opened, name)
    shutil.copyfile(path, path + ".again")
    os.replace(path + ".again", path)
    assert not grace.is_same_pack(opened, name, ready[name])
    assert list(grace.ripe(opened, plan, packs)[1]) == [other]


def test_what_only_this_machine_locks_is_left_alone_for_a_day(project: Path, no_trust: None) -> None:
    """A staging folder whose lock can be had may be another machine's, and so may the lock of a ref."""
    opened = open_store(str(store(project)))
    theirs, dead = Path(opened.path(".tmp", "7-00")), Path(opened.path(".tmp", "8-00"))
    for folder, hours in ((theirs, 1), (dead, 30)):
        folder.mkdir()
        (folder / "lock").touch()
        os.utime(folder, (time.time() - hours * 3600,) * 2)
    ref_lock = Path(opened.path(".shadow/refs/experiments/base.lock"))
    ref_lock.touch()
    api.backup(directory=project, name="more")
    assert theirs.exists() and not dead.exists() and ref_lock.exists()


def test_a_backup_that_failed_takes_nothing_back_that_another_machine_may_rely_on(
    project: Path, no_trust: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether one does no lock tells; gc has it a day later."""

    def fail(*_: object) -> None:
        raise NoSpace("the disk is full")

    Tree(project).file("new.bin", size=LARGE)
    monkeypatch.setattr(snapshot, "publish", fail)
    with pytest.raises(NoSpace):
        api.backup(directory=project)
    assert object_of(project, "new.bin").exists()


def test_nothing_is_ripe_while_a_backup_runs_that_began_before(
    project: Path, no_trust: None, later: Clock
) -> None:
    """K13: a machine that slept for two days in the middle of its backup may rely on what it saw."""
    opened = open_store(str(store(project)))
    with opened.staging():
        tensortime.rm(["base"], directory=project)
        tensortime.gc(directory=project, trash=True)
        later(25)
        assert collect(project) == 0 and object_of(project, "base.bin").exists()
    later(1)
    assert collect(project) >= LARGE


def test_a_staging_folder_that_is_just_being_made(project: Path, no_trust: None) -> None:
    """gc touches no young one beside a backup: a lock taken for a moment there would be missing to its owner."""
    young = store(project) / ".tmp/123-0123456789ab"
    young.mkdir()
    tensortime.gc(directory=project, trash=True)
    assert list(young.iterdir()) == []


def test_taken_back_meanwhile(project: Path, no_trust: None, later: Clock) -> None:
    """What got a name again is no longer withdrawn."""
    tensortime.rm(["base"], directory=project)
    git_dir = store(project) / ".shadow"
    [trash] = [path for path in (git_dir / "refs/trash").rglob("*") if path.is_file()]
    oid = trash.read_text()
    tensortime.gc(directory=project, trash=True)
    (git_dir / "refs/experiments").mkdir(exist_ok=True)
    (git_dir / "refs/experiments/base").write_text(oid)
    later(25)
    assert collect(project) == 0
    assert read_withdrawn(str(store(project))).is_empty()
    api.restore("base", directory=project)


def test_half_dead_packs_without_trusted_locks(project: Path, no_trust: None, later: Clock) -> None:
    """Copied at once, the old one goes a day later."""
    for number in range(8):
        Tree(project).file("own.bin", os.urandom(30_000))
        api.backup(directory=project, name=f"run{number}")
    open_store(str(store(project))).shadow.run("repack", "-a", "-d", "--quiet")
    tensortime.rm([f"run{number}" for number in range(7)], directory=project)
    for _ in range(3):
        tensortime.gc(directory=project, trash=True)
        later(5)
    packs = store(project) / ".shadow/objects/pack"
    assert len(list(packs.glob("*.pack"))) == 2
    later(20)
    assert collect(project) > 150_000
    assert len(list(packs.glob("*.pack"))) == 1


def test_the_marks_are_dropped_where_locks_are_trusted(
    project: Path, later: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was moved: a gc that is alone deletes at once, and leaves no marks."""
    tensortime.rm(["base"], directory=project)
    with monkeypatch.context() as patch:
        patch.setattr(fsops, "file_system_name", lambda _: "nfs4")
        assert tensortime.gc(directory=project, trash=True).freed == 0
    assert collect(project) >= LARGE
    assert read_withdrawn(str(store(project))).is_empty()


@pytest.fixture(params=["tmpfs", "ext4"])
def full_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A small real disk."""
    if request.param == "tmpfs":
        with small_tmpfs(tmp_path / "disk", 24 << 20) as place:
            yield place
    else:
        with loop_mount("ext4", tmp_path, 32 << 20) as place:
            yield place


def fill(place: Path) -> None:
    """Leave not one byte free."""
    with open(place / "filler", "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            while True:
                try:
                    if not file.write(bytes(size)):
                        break
                except OSError:
                    break
    assert os.statvfs(place).f_bavail == 0


def test_room_is_made_on_a_disk_that_is_full(
    full_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D07: with 0 bytes free gc works, and afterwards there is room."""
    monkeypatch.setattr(fsops, "free_space", lambda _: (1 << 40, 1 << 41))
    tree = Tree(full_disk / "project").file("model.bin", size=LARGE).file("base.bin", size=LARGE)
    api.backup(directory=tree.root, name="base")
    (tree.root / "base.bin").unlink()
    for number in range(6):
        tree.file("own.py", os.urandom(50_000))
        api.backup(directory=tree.root, name=f"run{number}")
    opened = open_store(str(store(tree.root)))
    opened.shadow.run("repack", "-a", "-d", "--quiet")
    opened.shadow.run("pack-refs", "--all")
    monkeypatch.undo()
    tensortime.rm(["base", *(f"run{number}" for number in range(5))], directory=tree.root)
    fill(full_disk)
    done = run_cli("gc", "--trash", cwd=tree.root)
    assert done.returncode in (0, 3), done.stderr + done.stdout
    assert os.statvfs(full_disk).f_bfree * os.statvfs(full_disk).f_frsize >= LARGE
    assert tensortime.verify(read_data="all", directory=tree.root).problems == ()
    assert_same_tree(
        tree.root, api.restore("run5", tmp_path / "out", directory=tree.root).path, ignored=["filler"]
    )


def thousand(project: Path, count: int) -> None:
    """A store of so many experiments, each with an object of its own, a shared one, and ten small files."""
    opened = open_store(str(store(project)))
    sidecar, known, lines = opened.sidecar(), set[bytes](), []
    with PackWriter(opened.path(".shadow", "objects", "pack"), opened.path(".tmp")) as writer:
        for number in range(count):
            entries = {}
            for data in (b"shared", b"own %d" % number):
                digest = Digest("blake3:" + blake3(data).hexdigest())
                path = sidecar.path_of(digest)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if not os.path.exists(path):
                    Path(path).write_bytes(data)
                name = RelPath(b"data/" + data.split()[0] + b".bin")
                entries[name] = ManifestEntry(name, FILE, None, len(data), digest, 1)
            git = rows_of(
                (
                    b"src/%d.py" % one,
                    MODE_FILE,
                    write_object(writer, known, Kind.BLOB, b"%d" % (one + number // 10)),
                )
                for one in range(10)
            )
            manifest = Manifest(entries)
            meta = {**encode_manifest(manifest), b"exclude": b"", b"run.json": b"{}\n"}
            top = write_tree(writer, known, Layout(git, manifest), meta)
            facts = BackupFacts(
                "", 1, 1_800_000_000_000_000_000 + number, "host", str(project), "done", 12, 99
            )
            data = encode_commit(top, [], 1_800_000_000 + number, encode_message(facts))
            writer.add(pack_object(Kind.COMMIT, data))
            lines.append(f"create refs/experiments/run{number:04} {object_id(Kind.COMMIT, data).hex()}\n")
        writer.finish()
    opened.shadow.run("update-ref", "--stdin", stdin="".join(lines).encode())


def test_a_thousand_experiments(project: Path) -> None:
    """verify and gc of a thousand take seconds, and damage in one object is found in all that share it."""
    thousand(project, 1000)
    started = time.monotonic()
    report = tensortime.verify(read_data="all", directory=project)
    assert (report.problems, report.backups) == ((), 1002)
    tensortime.rm(keep_last=300, directory=project)
    freed = tensortime.gc(directory=project, trash=True)
    assert freed.objects == 702 and freed.rewritten == 1
    assert time.monotonic() - started < 60
    assert tensortime.verify(read_data="all", directory=project).problems == ()
    [shared] = [
        path
        for path in (store(project) / ".objects/blake3").glob("*/*")
        if path.read_bytes()[:7] == b"shared"
    ]
    flip(shared)
    [found] = tensortime.verify(read_data="all", directory=project).problems
    assert len(found.experiments) == 300 and found.paths == ("data/shared.bin",)

"""verify: whatever is missing or wrong in a store is named, with every backup and path that needs it. CASES X01, X08."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from builders import Tree, assert_same_tree, noise, run_cli, user_git
from mounts import mounted, require_root
from test_damage_listing import replace_meta

import tensortime
from tensortime import api, commits, snapshot
from tensortime.answers import Problem, VerifyReport
from tensortime.errors import NoSpace, UnknownExperiment, UsageError
from tensortime.gitobjects import GitObjects
from tensortime.packreader import Entry, Pack
from tensortime.repacking import copy_objects, remove_pack
from tensortime.store import open_store
from tensortime.withdrawn import read_withdrawn

LARGE = 2 << 20


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`base` with two backups and `other` with one; `model.bin` is in all of them, `late.bin` in one."""
    times = (f"time {number}" for number in itertools.count())
    # Backups of one second would have one run.json, stored once.
    monkeypatch.setattr(commits, "iso_time", lambda _: next(times))
    tree = Tree(tmp_path / "project").file("model.bin", size=LARGE).file("src/train.py", b"print(1)\n" * 50)
    api.backup(directory=tree.root, name="base")
    tree.file("late.bin", size=LARGE)
    api.backup(directory=tree.root, name="base", joins=True)
    (tree.root / "late.bin").unlink()
    tree.file("src/other.py", b"print(2)\n" * 50)
    api.backup(directory=tree.root, name="other")
    return tree.root


def verified(project: Path, experiment: str | None = None, read_data: str | None = None) -> VerifyReport:
    """What verify finds, and that it changes nothing that a backup relies on."""
    return tensortime.verify(experiment, read_data=read_data, directory=project)


def store(project: Path) -> Path:
    """The store."""
    return project / "tensortime"


def object_of(project: Path, path: str) -> Path:
    """Where the bytes of a large file lie."""
    name = blake3(noise(path.encode(), LARGE)).hexdigest()
    return store(project) / ".objects/blake3" / name[:2] / name[2:]


def digest_at(path: Path) -> str:
    """The digest that an object's path stands for."""
    return "blake3:" + path.parent.name + path.name


def flip(path: Path, at: int = -1) -> None:
    """Change one bit of a file, whatever its mode."""
    data = bytearray(path.read_bytes())
    data[at if at >= 0 else len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def oid_of(project: Path, name: str) -> str:
    """git's id of something, as `base:src/train.py`."""
    return user_git(
        f"--git-dir={store(project) / '.shadow'}", "rev-parse", f"refs/experiments/{name}", cwd=project
    ).strip()


def place_of(project: Path, oid: str) -> tuple[Path, int]:
    """The pack that holds an object, and a byte in the middle of its entry."""
    objects = GitObjects(str(store(project) / ".shadow"))
    [pack] = objects.copies(bytes.fromhex(oid))
    entry = pack.entry(bytes.fromhex(oid))
    return Path(pack.stem + ".pack"), (entry.start + entry.end) // 2


def drop_from_pack(project: Path, oid: str) -> None:
    """Let a pack be one that never held this object."""
    opened = open_store(str(store(project)))
    pack = Pack(str(place_of(project, oid)[0]).removesuffix(".pack"))
    with opened.staging() as staging:
        copy_objects(opened, staging, [(pack, {one.oid for one in pack.entries()} - {bytes.fromhex(oid)})])
    remove_pack(opened, pack.name)


def test_a_sound_store_is_sound(project: Path) -> None:
    """Nothing is wrong, the counts are those of the store, and only --read-data reads."""
    quick, whole = verified(project), verified(project, read_data="all")
    assert quick.problems == whole.problems == ()
    assert (quick.backups, quick.objects, quick.bytes_read) == (3, 2, 0)
    assert whole.bytes_read == whole.bytes_all > 2 * LARGE
    assert quick.exit_code == 0


def replaced_by(path: Path, make: Callable[[Path], object]) -> None:
    """Something else in place of a file."""
    path.unlink()
    make(path)


LOST_OBJECT: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "cut short": lambda path: replaced_by(path, lambda path: path.write_bytes(b"x" * (LARGE - 1))),
    "empty": lambda path: replaced_by(path, Path.touch),
    "a folder": lambda path: replaced_by(path, Path.mkdir),
    "a link": lambda path: replaced_by(path, lambda path: path.symlink_to("/etc/hostname")),
}


@pytest.mark.parametrize("harm", sorted(LOST_OBJECT))
def test_a_lost_object_is_named_with_all_who_need_it(project: Path, harm: str) -> None:
    """Without reading data: what is gone or has another size, the backups that need it, and under which path."""
    LOST_OBJECT[harm](object_of(project, "model.bin"))
    [found] = verified(project).problems
    assert (found.what, found.paths) == (digest_at(object_of(project, "model.bin")), ("model.bin",))
    assert sorted(found.experiments) == ["base:1", "base:2", "other:1"]
    assert found.kind == ("missing" if harm == "deleted" else "damaged")
    object_of(project, "late.bin").unlink()
    assert {one.experiments for one in verified(project).problems if one.paths == ("late.bin",)} == {
        ("base:2",)
    }


def test_every_flipped_bit_of_an_object_is_found_by_reading(project: Path) -> None:
    """The size is right, so the quick look finds nothing; every byte read finds it."""
    path = object_of(project, "late.bin")
    flip(path, 0)
    assert verified(project).problems == ()
    [found] = verified(project, read_data="all").problems
    assert (found.kind, found.what, found.experiments, found.paths) == (
        "damaged",
        digest_at(path),
        ("base:2",),
        ("late.bin",),
    )


def test_swapped_objects_are_both_named(project: Path) -> None:
    """Two objects of one size that changed places: only reading tells."""
    one, two = object_of(project, "model.bin"), object_of(project, "late.bin")
    aside = one.with_name("aside")
    one.rename(aside), two.rename(one), aside.rename(two)
    found = verified(project, read_data="all").problems
    assert {problem.what for problem in found} == {digest_at(one), digest_at(two)}


@pytest.mark.parametrize(
    ("what", "experiments", "paths"),
    [
        ("base:src/train.py", {"base:1", "base:2", "other:1"}, ("src/train.py",)),
        ("other:src/other.py", {"other:1"}, ("src/other.py",)),
        ("other:src", {"other:1"}, ("src",)),
        ("other:.tensortime/manifest", {"other:1", "base:1"}, (".tensortime/manifest",)),
        ("base~1:.tensortime/run.json", {"base:1"}, (".tensortime/run.json",)),
        ("base", {"base:2"}, ()),
        ("base~1", {"base:1"}, ()),
        ("other", {"other"}, ()),
    ],
)
@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_a_lost_git_object_is_named(
    project: Path, what: str, experiments: set[str], paths: tuple[str, ...], harm: str
) -> None:
    """A file, a folder, a manifest, a commit: wrong bytes are found by reading, missing ones always, each by its id."""
    oid = oid_of(project, what)
    if harm == "gone":
        drop_from_pack(project, oid)
    else:
        flip(*place_of(project, oid))
    found = {
        one.what: one for one in verified(project, read_data="all" if harm == "flipped" else None).problems
    }
    assert list(found) == [oid]
    assert found[oid].kind == ("damaged" if harm == "flipped" else "missing")
    assert found[oid].paths == paths
    names = {name.partition(":")[0] for name in found[oid].experiments}
    assert names == {name.partition(":")[0] for name in experiments}
    if paths:
        assert set(found[oid].experiments) == experiments


def test_every_flipped_byte_of_packs_and_idx_is_found(project: Path) -> None:
    """X01: wherever in a pack or idx a bit flips, verify --read-data ends with 5."""
    files = sorted((store(project) / ".shadow/objects/pack").iterdir())
    for path in files:
        whole = path.read_bytes()
        for at in {0, 5, 9, 11, 12, 13, 20, *range(12, len(whole), 37), len(whole) - 21, len(whole) - 1}:
            flip(path, at)
            assert verified(project, read_data="all").exit_code == 5, (path.name, at)
            path.write_bytes(whole)
    assert verified(project, read_data="all").problems == ()


@pytest.mark.parametrize("ending", [".pack", ".idx"])
@pytest.mark.parametrize("harm", ["deleted", "empty", "cut"])
def test_a_lost_pack_is_named(project: Path, ending: str, harm: str) -> None:
    """The file itself where it is there, and all that cannot be read any more with who needs it."""
    path = place_of(project, oid_of(project, "other"))[0].with_suffix(ending)
    if harm == "deleted":
        path.unlink()
    else:
        path.chmod(0o600)
        os.truncate(path, 0 if harm == "empty" else path.stat().st_size - 3)
    report = verified(project)
    assert report.exit_code == 5
    if (ending, harm) != (".idx", "deleted"):
        assert [one.what for one in report.problems if one.kind == "pack"] == [path.name]
    assert {name.partition(":")[0] for one in report.lost for name in one.experiments} <= {"other"}
    if harm != "cut" or ending == ".idx":
        assert any("other" in one.experiments for one in report.lost)


REFS: dict[str, Callable[[Path, Path], object]] = {
    "empty": lambda _, ref: ref.write_bytes(b""),
    "garbage": lambda _, ref: ref.write_bytes(b"\xff\x00 no id\n"),
    "cut short": lambda _, ref: ref.write_text(ref.read_text()[:20]),
    "a tree": lambda project, ref: ref.write_text(oid_of(project, "other^{tree}")),
}


@pytest.mark.parametrize("harm", sorted(REFS))
def test_a_broken_ref_is_named(project: Path, harm: str) -> None:
    """With the experiment that it was; the others are looked at all the same."""
    REFS[harm](project, store(project) / ".shadow/refs/experiments/other")
    object_of(project, "late.bin").unlink()
    found = {one.kind: one for one in verified(project).problems}
    assert found["ref"].what == "refs/experiments/other" and found["missing"].experiments == ("base:2",)


def test_a_ref_to_nothing(project: Path) -> None:
    """The commit is missing, and the experiment that it was is named."""
    (store(project) / ".shadow/refs/experiments/other").write_text("1" * 40 + "\n")
    [found] = verified(project).problems
    assert (found.kind, found.what, found.experiments) == ("missing", "1" * 40, ("other",))


@pytest.mark.parametrize(
    "content", [None, b"", b"\x00\xff{", b'{"format": 1}\n{"path": "mo', b'{"format": 2}\n']
)
def test_a_manifest_that_says_nothing(project: Path, content: bytes | None) -> None:
    """X06: its bytes are as their id says, and they are no manifest."""
    (store(project) / ".shadow/refs/experiments/other").rename(
        store(project) / ".shadow/refs/experiments/broken"
    )
    replace_meta(project, "manifest", content)
    [found] = verified(project).problems
    assert found.kind == "manifest" and found.experiments == ("broken:1",)


def test_damage_in_the_trash_and_in_worktrees_is_named(project: Path) -> None:
    """What is removed and can be taken back is checked too, and what a restored worktree stands on."""
    api.restore("base", project.parent / "out", directory=project)
    tip = oid_of(project, "base")
    user_git(f"--git-dir={store(project) / '.shadow'}", "update-ref", "refs/trash/17/base", tip, cwd=project)
    (store(project) / ".shadow/refs/experiments/base").unlink()
    object_of(project, "late.bin").unlink()
    [found] = verified(project).problems
    assert found.experiments == ("trash/17/base:2",)


def test_one_experiment(project: Path) -> None:
    """Only what it needs is looked at: `base:1` and `other` know nothing of `late.bin`."""
    flip(object_of(project, "late.bin"))
    for name, code in {"base": 5, "base:2": 5, "base:1": 0, "other": 0, "@": 0, "@~1:2": 5}.items():
        assert verified(project, name, "all").exit_code == code, name
    with pytest.raises(UnknownExperiment):
        verified(project, "nothing")


def test_a_part_of_the_data_turns(tmp_path: Path) -> None:
    """Calls with a part read other bytes each time, until all were read; one damaged object is found by one of them."""
    tree = Tree(tmp_path / "project")
    for number in range(8):
        tree.file(f"{number}.bin", size=LARGE)
    api.backup(directory=tree.root, name="base")
    flip(object_of(tree.root, "5.bin"))
    reports = [verified(tree.root, read_data="3M") for _ in range(8)]
    assert all(0 < one.bytes_read <= 3 * LARGE for one in reports)
    assert [one.exit_code for one in reports].count(5) == 1
    (store(tree.root) / ".cache/verify").write_bytes(b"{")
    assert 5 in [verified(tree.root, read_data="13%").exit_code for _ in range(9)]


@pytest.mark.parametrize("text", ["", "5x", "-1", "0%", "%", "5%%", "nan%"])
def test_a_share_that_is_none(project: Path, text: str) -> None:
    """What cannot be understood is a wrong call."""
    with pytest.raises(UsageError, match="share"):
        verified(project, read_data=text)


def test_a_damaged_object_is_stored_again_by_the_next_backup(project: Path) -> None:
    """Once verify has found it: the project still has the bytes, so every experiment is whole again."""
    path = object_of(project, "model.bin")
    flip(path)
    api.backup(directory=project, name="blind")
    assert verified(project, read_data="all").exit_code == 5
    api.backup(directory=project, name="healing")
    assert verified(project, read_data="all").problems == ()
    stored = path.stat().st_ino
    api.backup(directory=project, name="after")
    assert path.stat().st_ino == stored, "healed once is enough"


def test_a_healed_object_outlives_the_backup_that_fails(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a failed backup brought it takes back; not what it healed: other experiments need that."""
    path = object_of(project, "model.bin")
    flip(path)
    assert verified(project, read_data="all").exit_code == 5

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "publish", fail)
        with pytest.raises(NoSpace):
            api.backup(directory=project, name="failing")
    assert verified(project, read_data="all").problems == ()


def test_a_damaged_file_of_git_is_stored_again_by_the_next_backup(project: Path) -> None:
    """As with large files; the wrong copy stays in its pack until somebody rewrites that."""
    oid = oid_of(project, "other:src/other.py")
    flip(*place_of(project, oid))
    assert verified(project, read_data="all").exit_code == 5
    api.backup(directory=project, name="healing")
    report = verified(project, read_data="all")
    assert [one.kind for one in report.problems] == ["copy"] and report.lost == ()
    assert_same_tree(project, api.restore("other", directory=project).path)
    packs = len(list((store(project) / ".shadow/objects/pack").glob("*.pack")))
    assert oid not in [one.oid.hex() for one in newest_pack(project, api.backup(directory=project).commit)]
    assert len(list((store(project) / ".shadow/objects/pack").glob("*.pack"))) == packs + 1


def newest_pack(project: Path, commit: str | None) -> list[Entry]:
    """The entries of the pack that holds a commit."""
    objects = GitObjects(str(store(project) / ".shadow"))
    return list(objects.copies(bytes.fromhex(str(commit)))[0].entries())


def test_what_is_missing_is_stored_again_by_the_next_backup(project: Path) -> None:
    """Without anybody having looked: an object that is gone is missed at once."""
    object_of(project, "model.bin").unlink()
    api.backup(directory=project)
    assert verified(project, read_data="all").problems == ()


def test_repair_moves_aside_what_is_wrong_and_nothing_else(project: Path) -> None:
    """The wrong object lies in `.objects/damaged`, all others where they were; what is lost is listed; exit code 5."""
    path = object_of(project, "late.bin")
    flip(path)
    others = {one for one in store(project).joinpath(".objects/blake3").glob("*/*") if one != path}
    wrong = path.read_bytes()
    report = tensortime.verify(read_data="all", repair=True, directory=project)
    assert [(one.kind, one.what, one.experiments) for one in report.problems] == [
        ("missing", digest_at(path), ("base:2",))
    ]
    assert [one.what for one in report.repaired] == [digest_at(path)]
    assert set(store(project).joinpath(".objects/blake3").glob("*/*")) == others
    [moved] = store(project).joinpath(".objects/damaged").iterdir()
    assert moved.read_bytes() == wrong
    Tree(project).file("late.bin", size=LARGE)
    api.backup(directory=project)
    assert verified(project, read_data="all").problems == ()


@pytest.mark.parametrize("what", ["other:src/other.py", "base:src", "base"])
def test_repair_keeps_what_is_right_in_a_pack(project: Path, what: str) -> None:
    """The other objects of the pack go into a new one, the old one moves aside; only the wrong object is lost."""
    oid = oid_of(project, what)
    flip(*place_of(project, oid))
    report = tensortime.verify(read_data="all", repair=True, directory=project)
    assert [(one.kind, one.what) for one in report.problems] == [("missing", oid)]
    assert [one.kind for one in report.repaired] == ["pack"]
    if what.startswith("other"):
        api.backup(directory=project)
        assert verified(project, read_data="all").problems == ()


def test_repair_makes_a_lost_idx_anew(project: Path) -> None:
    """Nothing is lost: the pack says all that its idx said."""
    index = place_of(project, oid_of(project, "other"))[0].with_suffix(".idx")
    whole = index.read_bytes()
    flip(index)
    report = tensortime.verify(repair=True, directory=project)
    assert report.problems == () and report.exit_code == 0 and len(report.repaired) == 1
    assert index.read_bytes() == whole


@pytest.mark.parametrize("at", [5, 10, -1])
def test_repair_saves_all_of_a_pack_whose_frame_is_damaged(project: Path, at: int) -> None:
    """Its first or last bytes are wrong and every object is right: git would read none of them."""
    path = place_of(project, oid_of(project, "other"))[0]
    flip(path, at if at >= 0 else path.stat().st_size - 1)
    report = tensortime.verify(read_data="all", repair=True, directory=project)
    assert report.problems == () and len(report.repaired) == 1
    assert_same_tree(project, api.restore("other", directory=project).path)


def test_repair_does_not_touch_a_sound_store(project: Path) -> None:
    """Every file is the one it was."""

    def state() -> set[tuple[str, int]]:
        tops = (".objects", ".shadow")
        return {
            (str(path), path.lstat().st_ino)
            for top in tops
            for path in store(project).joinpath(top).rglob("*")
        }

    before = state()
    assert tensortime.verify(read_data="all", repair=True, directory=project).repaired == ()
    assert state() == before


def test_the_command(project: Path) -> None:
    """Exit code 0 and one line; with damage 5, what is wrong, who needs it and what helps."""
    sound = run_cli("verify", cwd=project)
    assert sound.returncode == 0 and "all is there" in sound.stdout
    assert run_cli("verify", "--read-data", cwd=project).returncode == 0
    assert run_cli("verify", "base", "--read-data=50%", cwd=project).returncode == 0
    flip(object_of(project, "late.bin"))
    done = run_cli("verify", "--read-data", cwd=project)
    assert done.returncode == 5 and "Traceback" not in done.stderr
    for part in (digest_at(object_of(project, "late.bin")), "base:2", "late.bin", "--repair"):
        assert part in done.stdout
    document = json.loads(run_cli("verify", "--read-data", "--json", cwd=project).stdout)
    assert document["ok"] is False
    assert document["problems"][0]["paths"] == ["late.bin"]


def test_a_store_that_cannot_be_written_is_checked_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D08: nothing is noted then, and what is wrong is found all the same."""
    require_root()
    flip(object_of(project, "late.bin"))
    place = project.parent / "mount"
    place.mkdir()
    with mounted(place, "--bind", str(project)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        assert [one.paths for one in verified(place, read_data="all").problems] == [("late.bin",)]
        done = run_cli("verify", "--repair", cwd=place)
        assert done.returncode == 1 and "cannot be written" in done.stderr
    assert read_withdrawn(str(store(project))).is_empty()


def test_beside_a_running_backup_and_a_fold(project: Path) -> None:
    """Packs come and are joined meanwhile: nothing of it is damage."""
    program = "import tensortime, sys\nfor n in range(25):\n  open('src/more.py','w').write(str(n)*99)\n  tensortime.backup(name='run')\n"
    fold = "from tensortime import folding; folding.MOST_PACKS = 3\n"
    with subprocess.Popen([sys.executable, "-c", fold + program], cwd=project) as running:
        while running.poll() is None:
            report = verified(project, read_data="all")
            assert report.problems == ()
        assert running.returncode == 0
    assert verified(project, read_data="all").backups == 28


def test_an_interrupted_verification_says_so(project: Path) -> None:
    """Ctrl-C: exit code 130, no traceback, and the store is as it was."""
    program = (
        "import os, signal, sys\nfrom tensortime import cli, reading\n"
        "def judge(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        "reading.judge_object = judge\nsys.exit(cli.run(['verify', '--read-data']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert verified(project, read_data="all").problems == ()


def test_problems_are_listed_once(project: Path) -> None:
    """Every problem stands once in the report, what is needed first."""
    flip(object_of(project, "late.bin"))
    orphan = store(project) / ".objects/blake3/00"
    orphan.mkdir(exist_ok=True)
    (orphan / ("0" * 62)).write_bytes(b"nobody's")
    found = verified(project, read_data="all").problems
    assert [one.experiments for one in found] == [("base:2",), ()]
    assert found[1] == Problem("damaged", "blake3:" + "0" * 64, "it holds other bytes than its digest says")

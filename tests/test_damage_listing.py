"""One damaged experiment among others: the rest is listed, restored and added to. CASES K11, X08."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, run_cli, user_git

from tensortime import api, commits
from tensortime.errors import Damaged, TensorTimeError
from tensortime.formats import Oid
from tensortime.store import open_store

LARGE = 2 << 20
BROKEN = "broken"
OTHERS = ("first", "last")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three experiments, the middle one to be damaged."""
    tree = Tree(tmp_path / "project").file("model.bin", size=LARGE)
    times = iter(("first", BROKEN, "last"))
    with monkeypatch.context() as patch:
        # Backups of one second have one run.json, stored once: the last would need the pack of the middle one.
        patch.setattr(commits, "iso_time", lambda _: next(times))
        for name in ("first", BROKEN, "last"):
            tree.file("train.py", f"print({name!r})\n".encode())
            api.backup(directory=tree.root, name=name)
    return tree.root


def shadow(project: Path) -> Path:
    """The shadow repository."""
    return project / "tensortime/.shadow"


def ref(project: Path) -> Path:
    """The file of the middle experiment's ref."""
    return shadow(project) / "refs/experiments" / BROKEN


def tip(project: Path) -> str:
    """The commit of the middle experiment."""
    return ref(project).read_text().strip()


def git(project: Path, *words: str) -> str:
    """git in the shadow repository, as somebody who knows what he does."""
    return user_git(f"--git-dir={shadow(project)}", *words, cwd=project).strip()


def own_pack(project: Path) -> Path:
    """The pack that the middle backup wrote."""
    packs = (shadow(project) / "objects/pack").glob("*.pack")
    return sorted(packs, key=lambda path: path.stat().st_mtime_ns)[1]


def cut_pack(project: Path, ending: str) -> None:
    """A pack or idx of length zero, as a power loss leaves it."""
    path = own_pack(project).with_suffix(ending)
    path.unlink()
    path.touch()


def pack_refs(project: Path) -> None:
    """All refs in one file, where the middle one names nothing that is there."""
    git(project, "pack-refs", "--all")
    packed = shadow(project) / "packed-refs"
    oid = git(project, "rev-parse", f"refs/experiments/{BROKEN}")
    packed.write_text(packed.read_text().replace(oid, "1" * 40))


HARMS: dict[str, Callable[[Path], object]] = {
    "an empty ref": lambda project: ref(project).write_bytes(b""),
    "a ref of zeros": lambda project: ref(project).write_bytes(bytes(41)),
    "garbage in the ref": lambda project: ref(project).write_bytes(b"\xff\x00 no id\n"),
    "a ref cut short": lambda project: ref(project).write_text(tip(project)[:20]),
    "a ref to nothing": lambda project: ref(project).write_text("1" * 40 + "\n"),
    "a ref to a tree": lambda project: ref(project).write_text(
        git(project, "rev-parse", f"{tip(project)}^{{tree}}")
    ),
    "a ref to a commit of somebody else": lambda project: ref(project).write_text(
        git(project, "commit-tree", "-m", "hello", f"{tip(project)}^{{tree}}")
    ),
    "an empty pack": lambda project: cut_pack(project, ".pack"),
    "an empty idx": lambda project: cut_pack(project, ".idx"),
    "no pack": lambda project: own_pack(project).unlink(),
    "packed refs": pack_refs,
}


@pytest.mark.parametrize("harm", sorted(HARMS))
def test_the_rest_is_listed_and_the_broken_one_named(project: Path, harm: str) -> None:
    """K11, X08: log lists the others, newest first, names the broken one with a reason, and ends with 5."""
    HARMS[harm](project)
    plain, listed = run_cli("log", cwd=project), run_cli("log", "--json", cwd=project)
    assert plain.returncode == listed.returncode == 5, plain.stderr
    assert [line for line in plain.stderr.splitlines() if BROKEN in line]
    document = json.loads(listed.stdout)
    assert [one["experiment"] for one in document["experiments"]] == ["last", "first"]
    ((name, reason),) = [(one["ref"], one["reason"]) for one in document["damaged"]]
    assert name == f"refs/experiments/{BROKEN}" and reason
    assert "Traceback" not in plain.stderr


@pytest.mark.parametrize("harm", sorted(HARMS))
def test_the_rest_is_whole(project: Path, harm: str) -> None:
    """X08: the others come back, the broken one is called damaged, and a new backup takes no name from it."""
    HARMS[harm](project)
    for name in OTHERS:
        restored = api.restore(name, directory=project)
        assert (Path(restored.path) / "train.py").read_text() == f"print({name!r})\n"
    for verb in (api.restore, api.show):
        with pytest.raises(Damaged) as caught:
            verb(BROKEN, directory=project)
        assert BROKEN in str(caught.value) and caught.value.exit_code == 5
    report = api.backup(directory=project, name=BROKEN)
    assert report.experiment == f"{BROKEN}-2" and report.exit_code == 0
    assert_same_tree(project, api.restore(f"{BROKEN}-2", directory=project).path)
    assert_same_tree(project, api.restore("@", project.parent / "out", directory=project).path)


@pytest.mark.parametrize("harm", sorted(HARMS))
def test_with_sigchld_ignored_no_other_experiment_is_overlooked(project: Path, harm: str) -> None:
    """git dies of some of these, and its exit code cannot be had then: what it wrote before is not all there is."""
    HARMS[harm](project)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        listed = api.log(directory=project)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert [one.name for one in listed.experiments] == ["last", "first"]
    assert [one.ref for one in listed.damaged] == [f"refs/experiments/{BROKEN}"]


def test_a_gc_whose_parent_ignores_sigchld_frees_nothing_that_is_needed(project: Path) -> None:
    """What is ignored is inherited: the program has exit codes all the same."""
    pack_refs(project)
    subprocess.run(
        [sys.executable, "-m", "tensortime", "gc"],
        cwd=project,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        capture_output=True,
        timeout=100,
    )
    for name in OTHERS:
        restored = api.restore(name, directory=project)
        assert (Path(restored.path) / "train.py").read_text() == f"print({name!r})\n"


def replace_meta(project: Path, name: str, data: bytes | None) -> None:
    """Let the middle experiment be a backup whose `.tensortime/<name>` is other bytes, or not there."""
    store = open_store(str(project / "tensortime"))
    loose = project.parent / "loose"
    loose.write_bytes(data or b"")
    blob = git(project, "hash-object", "-w", "--no-filters", str(loose))
    rows = git(project, "ls-tree", f"{tip(project)}:.tensortime").splitlines()
    rows = [row for row in rows if not row.endswith(f"\t{name}")]
    rows += [] if data is None else [f"100644 blob {blob}\t{name}"]
    meta = (
        store.shadow.run("mktree", stdin="".join(f"{row}\n" for row in rows).encode()).stdout.decode().strip()
    )
    tops = [
        row for row in git(project, "ls-tree", tip(project)).splitlines() if not row.endswith(".tensortime")
    ]
    tops.append(f"040000 tree {meta}\t.tensortime")
    tree = (
        store.shadow.run("mktree", stdin="".join(f"{row}\n" for row in tops).encode()).stdout.decode().strip()
    )
    body = git(project, "cat-file", "commit", tip(project)).partition("\n")[2] + "\n"
    raw = f"tree {tree}\n{body}".encode()
    oid = store.shadow.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw).stdout.decode().strip()
    assert store.shadow.create_ref(f"refs/experiments/{BROKEN}", Oid(oid), Oid(tip(project)))


MANIFESTS: dict[str, bytes | None] = {
    "missing": None,
    "empty": b"",
    "no JSON": b"\x00\xff{",
    "a list": b"[]\n",
    "deep": b"[" * 100_000,
    "a line that is cut": b'{"format": 1}\n{"path": "mo',
    "no kind": b'{"format": 1}\n{"path": "model.bin"}\n',
    "not a number": b'{"format": 1}\n{"path": "model.bin", "kind": "file", "size": NaN, "digest": "blake3:%s"}\n'
    % (b"0" * 64),
    "a negative size": b'{"format": 1}\n{"path": "model.bin", "kind": "file", "size": -1, "digest": "blake3:%s"}\n'
    % (b"0" * 64),
    "no digest": b'{"format": 1}\n{"path": "model.bin", "kind": "file", "size": 1}\n',
}


@pytest.mark.parametrize("state", sorted(MANIFESTS))
def test_a_damaged_manifest(project: Path, state: str) -> None:
    """K11, X06: a manifest that cannot be read is damage with a place, nothing is made, the others come back."""
    replace_meta(project, "manifest", MANIFESTS[state])
    before = sorted(os.listdir(project / "tensortime"))
    done = run_cli("restore", BROKEN, "--json", cwd=project)
    assert done.returncode == 5
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "damaged" and "manifest" in error["message"]
    assert sorted(os.listdir(project / "tensortime")) == before
    assert run_cli("restore", "last", cwd=project).returncode == 0


def test_a_manifest_of_a_later_version(project: Path) -> None:
    """C17: a manifest that a later version wrote is no damage: the way out is a newer version."""
    replace_meta(project, "manifest", b'{"format": 2}\n')
    with pytest.raises(TensorTimeError, match="format 2") as caught:
        api.restore(BROKEN, directory=project)
    assert caught.value.kind == "unsupported-format" and "pip install -U" in str(caught.value.hint)


@pytest.mark.parametrize("data", [None, b"", b"{", b"[1]"])
def test_a_damaged_run_json_costs_only_itself(project: Path, data: bytes | None) -> None:
    """K11: what a run recorded may be lost; show and restore work without it."""
    replace_meta(project, "run.json", data)
    assert api.show(BROKEN, directory=project).run == {}
    restored = Path(api.restore(BROKEN, directory=project).path)
    assert (restored / "train.py").read_text() == f"print({BROKEN!r})\n"


def test_a_name_that_tensortime_never_gives(project: Path) -> None:
    """S01: a ref that somebody else made under our prefix is named, not shown as an experiment."""
    git(project, "update-ref", "refs/experiments/-rf", tip(project))
    report = api.log(directory=project)
    assert [one.ref for one in report.damaged] == ["refs/experiments/-rf"]
    assert [one.name for one in report.experiments] == ["last", BROKEN, "first"]


def test_an_object_with_wrong_bytes_is_healed_when_its_file_is_copied_again(tmp_path: Path) -> None:
    """X01: bytes that have rotted under the right size are replaced by what was just read and hashed."""
    tree = Tree(tmp_path / "project").file("data.bin", size=LARGE)
    whole = tree.root.joinpath("data.bin").read_bytes()
    api.backup(directory=tree.root, name="exp")
    [rotten] = [path for path in (tree.root / "tensortime" / ".objects").rglob("*") if path.is_file()]
    rotten.chmod(0o600)
    rotten.write_bytes(whole[:-1] + b"?")
    tree.file("copy.bin", whole)
    api.backup(directory=tree.root)
    assert rotten.read_bytes() == whole
    assert (
        Path(api.restore("exp", tmp_path / "restored", directory=tree.root).path, "data.bin").read_bytes()
        == whole
    )


@pytest.mark.parametrize("what", [".objects", ".shadow/objects/pack"])
def test_rehash_heals_what_the_project_still_holds(tmp_path: Path, what: str) -> None:
    """X01: --rehash believes nothing of the store: what has rotted there is stored again, for all experiments."""
    tree = Tree(tmp_path / "project").file("data.bin", size=LARGE).file("train.py", os.urandom(5000))
    api.backup(directory=tree.root, name="exp")
    rotten = max(
        (tree.root / "tensortime" / what).rglob("*"), key=lambda path: path.is_file() * path.stat().st_size
    )
    data = bytearray(rotten.read_bytes())
    data[len(data) // 2] ^= 1
    rotten.chmod(0o600)
    rotten.write_bytes(data)
    with pytest.raises(Damaged):
        api.restore("exp", tmp_path / "no", directory=tree.root)
    report = api.backup(directory=tree.root, name="healed", rehash=True)
    assert_same_tree(tree.root, api.restore("healed", tmp_path / "yes", directory=tree.root).path)
    if what == ".objects":
        api.restore("exp", tmp_path / "too", directory=tree.root)
    assert report.exit_code == 0

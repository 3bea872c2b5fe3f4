"""A restore writes only where nothing is, only below its destination, and only what was backed up.

CASES S04, S05, S06, S07, K02.
"""

import base64
import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Entry, Tree, assert_same_tree, noise, snapshot_of
from mounts import small_tmpfs
from stores import Row, forge

from tensortime import api, checkout, plans
from tensortime.errors import Damaged, NoSpace, TargetExists, TensorTimeError

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


def state(folder: Path) -> dict[bytes, Entry]:
    """Everything on the test's disk but locks: what a refused restore must leave as it was."""
    found = snapshot_of(folder)
    locks = (
        b"project/tensortime/.tmp/",
        b"project/tensortime/.shadow/worktrees",
        b"project/tensortime/.lock",
    )
    return {path: entry for path, entry in found.items() if not path.startswith(locks)}


def row(project: Path, path: str | bytes, **fields: object) -> Row:
    """A line of a manifest that names an object of the store."""
    one = object_of(project, "data/a.bin")
    named: dict[str, object] = (
        {"path": path} if isinstance(path, str) else {"path_base64": base64.b64encode(path).decode()}
    )
    digest = f"blake3:{one.parent.name}{one.name}"
    return {**named, "kind": "file", "size": LARGE, "digest": digest, "mode": "0755", **fields}


HOSTILE_PATHS = (
    *("../x", "/abs", "a/../../x", "a//b", ".", "..", "./x", "a/.", "a/", ""),
    *(".git", ".git/hooks/post-checkout", "sub/.git/hooks/post-checkout", ".git/config"),
    *(".tensortime", ".tensortime/manifest", ".tensortime/x"),
    *("train.py", "src", "train.py/x", "src/model.py/x", "x" * 256, "y/" * 2100 + "y"),
)


@pytest.mark.parametrize("path", [*HOSTILE_PATHS, b"a\0b", b"../\xff", "nul\0l"])
@pytest.mark.parametrize("paths", [(), (".",)], ids=["all", "--path"])
def test_a_hostile_path_is_refused(project: Path, path: str | bytes, paths: tuple[str, ...]) -> None:
    """S04: a manifest path that leads elsewhere, or over what git brings, is refused before anything is written."""
    files = {b"train.py": b"print(2)\n", b"src/model.py": b"a = 2\n"}
    forge(project, "evil", [row(project, path)], files=files)
    before = state(project.parent)
    with pytest.raises(Damaged) as caught:
        api.restore("evil", project.parent / "out", paths=paths, directory=project)
    assert caught.value.exit_code == 5
    assert state(project.parent) == before


MANIFESTS: dict[str, Callable[[Path], list[Row]]] = {
    "a path twice": lambda project: [row(project, "x"), row(project, "x")],
    "a path twice, in two spellings": lambda project: [row(project, "x"), row(project, b"x")],
    "a file as a folder": lambda project: [row(project, "x"), row(project, "x/y")],
    "a link as a folder": lambda project: [
        {"path": "x", "kind": "symlink", "target_base64": base64.b64encode(b"/").decode()},
        row(project, "x/y"),
    ],
    "a mode for a file that is not there": lambda _: [{"path": "no.py", "kind": "small", "mode": "0777"}],
    "a mode for a folder of git": lambda _: [{"path": "src", "kind": "small", "mode": "0777"}],
    "a folder over a file": lambda _: [{"path": "train.py", "kind": "dir", "mode": "0777"}],
    "an unknown kind": lambda project: [row(project, "x", kind="device")],
    "an impossible mode": lambda project: [row(project, "x", mode="70777")],
}


@pytest.mark.parametrize("what", sorted(MANIFESTS))
def test_a_manifest_that_contradicts_itself_is_refused(project: Path, what: str) -> None:
    """S04: duplicates, files with something below them, modes of nothing: refused before anything is written."""
    files = {b"train.py": b"print(2)\n", b"src/model.py": b"a = 2\n"}
    forge(project, "evil", MANIFESTS[what](project), files=files)
    before = state(project.parent)
    for paths in ((), (".",)):
        with pytest.raises(Damaged, match="manifest"):
            api.restore("evil", project.parent / "out", paths=paths, directory=project)
    assert state(project.parent) == before


@pytest.mark.parametrize("path", [b".git/hooks/post-checkout", b"sub/.git/config", b".GIT/config", b"git~1"])
def test_a_hostile_tree_is_refused(project: Path, path: bytes) -> None:
    """S04: a tree that holds what git itself would refuse is refused, also where git is not asked (`--path`)."""
    forge(project, "evil", [], files={b"train.py": b"", path: b"#!/bin/sh\n"})
    before = state(project.parent)
    for paths in ((), (".",)):
        with pytest.raises(Damaged, match="not ours"):
            api.restore("evil", project.parent / "out", paths=paths, directory=project)
    assert state(project.parent) == before


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("paths", [(), (".",)], ids=["all", "--path"])
def test_nothing_is_written_through_a_link(
    project: Path, monkeypatch: pytest.MonkeyPatch, checked: bool, paths: tuple[str, ...]
) -> None:
    """S05: a tree with the link `a -> /victim` and a manifest with `a/x` write nothing there, checked or not."""
    victim = Tree(project.parent / "victim").file("kept", b"as it was").root
    forge(project, "evil", [row(project, "a/x")], files={b"a": os.fsencode(victim)}, modes={b"a": 0o120000})
    if not checked:
        monkeypatch.setattr(plans, "check_paths", lambda *_: None)
    out = project.parent / "out"
    with pytest.raises(Damaged) if checked else contextlib.suppress(TensorTimeError):
        api.restore("evil", out, paths=paths, directory=project)
    assert os.listdir(victim) == ["kept"]
    assert paths or not checked or not os.path.lexists(out)


@pytest.mark.parametrize("how", checkout.LINKS)
@pytest.mark.parametrize(
    "kind", ["symlink to the same bytes", "symlink to a secret", "hard link to a secret", "fifo"]
)
def test_an_object_that_leads_elsewhere(project: Path, kind: str, how: str) -> None:
    """S06: an object that is a link out of the store is damage: nothing of what it leads to is read or given out."""
    secret = project.parent / "secret"
    same = kind == "symlink to the same bytes"
    secret.write_bytes((project / "data/a.bin").read_bytes() if same else b"s" * LARGE)
    secret.chmod(0o600)
    one = object_of(project, "data/a.bin")
    one.unlink()
    if kind == "fifo":
        os.mkfifo(one)
    elif kind == "hard link to a secret":
        os.link(secret, one)
    else:
        one.symlink_to(secret)
    with pytest.raises(TensorTimeError) as caught:
        api.restore("exp", project.parent / "out", directory=project, link=how)
    assert caught.value.kind == ("store-unusable" if how == "reflink" and "hard" in kind else "damaged")
    with pytest.raises(Damaged):
        api.read_file("exp", "data/a.bin", directory=project)
    assert not os.path.lexists(project.parent / "out")
    assert secret.stat().st_mode & 0o777 == 0o600


def wrong_places(tmp_path: Path, project: Path) -> dict[str, Path]:
    """Destinations where something is already."""
    full = Tree(tmp_path / "full").file("notes.txt", b"mine").root
    empty = Tree(tmp_path / "empty").root
    (tmp_path / "to-empty").symlink_to(empty)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "fifo")
    store = project / "tensortime"
    inside = {
        name: store / name for name in (".shadow", ".objects", ".shadow/new", ".tmp/new", ".hidden", "README")
    }
    return {
        "a full folder": full,
        "a file": full / "notes.txt",
        "a link to an empty folder": tmp_path / "to-empty",
        "a dangling link": tmp_path / "dangling",
        "a fifo": tmp_path / "fifo",
        "the root": Path("/"),
        "the project": project,
        "the store": store,
        **inside,
    }


KINDS = sorted([*("a full folder", "a file", "a link to an empty folder", "a dangling link", "a fifo", "the root"),
                *("the project", "the store", ".shadow", ".objects", ".shadow/new", ".tmp/new", ".hidden", "README")])  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_destination(tmp_path: Path, project: Path, kind: str) -> None:
    """S07: nothing is written over, through or beside what is there; the store's own folders are no place."""
    place = wrong_places(tmp_path, project)[kind]
    before = state(tmp_path)
    with pytest.raises(TargetExists) as caught:
        api.restore("exp", place, directory=project)
    assert str(caught.value.hint) and caught.value.exit_code == 1
    assert state(tmp_path) == before
    assert not os.path.lexists(f"{place}.partial") and not os.path.lexists("/.partial")


@pytest.mark.parametrize(
    "kind", ["absent", "empty", "deep", "in the store", "through a link above", "in a worktree"]
)
def test_a_good_destination(tmp_path: Path, project: Path, kind: str) -> None:
    """S07: an absent or empty real folder is a place, and the folders above it are made."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    worktree = Path(api.restore("exp", tmp_path / "worktree", directory=project).path)
    places = {
        "absent": tmp_path / "out",
        "empty": tmp_path / "real",
        "deep": tmp_path / "some/where/deep",
        "in the store": project / "tensortime/mine",
        "through a link above": tmp_path / "link/out",
        "in a worktree": worktree / "out",
    }
    report = api.restore("exp", places[kind], directory=project)
    assert report.path == os.path.realpath(places[kind])
    assert_same_tree(project, report.path)


@pytest.mark.parametrize("occupied", ["nothing", "an old file", "a foreign folder"])
def test_a_name_that_ends_in_partial(tmp_path: Path, project: Path, occupied: str) -> None:
    """K02, S07: only what a dead restore left is removed; somebody's own `out.partial` is in the way and stays."""
    partial = tmp_path / "out.partial"
    if occupied == "an old file":
        partial.write_bytes(b"mine")
    elif occupied == "a foreign folder":
        Tree(partial).file("mine", b"mine")
    before = state(tmp_path)
    if occupied == "nothing":
        api.restore("exp", tmp_path / "out", directory=project)
        assert not os.path.lexists(partial)
        return
    with pytest.raises(TargetExists, match="in the way"):
        api.restore("exp", tmp_path / "out", directory=project)
    assert state(tmp_path) == before


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda _: None, "exp, whole and unchanged"),
    "a small file": (lambda out: (out / "train.py").write_bytes(b"print(3)\n"), "changed since: train.py"),
    "a large file": (
        lambda out: overwrite(out / "data/a.bin", noise(b"x", LARGE)),
        "changed since: data/a.bin",
    ),
    "a file gone": (lambda out: (out / "src/model.py").unlink(), "changed since: src/model.py"),
    "a large file gone": (lambda out: (out / "data/b.bin").unlink(), "changed since: data/b.bin"),
    "a new file": (lambda out: (out / "new.txt").write_bytes(b"new"), "changed since: new.txt"),
    "a new file among large ones": (
        lambda out: (out / "data/new.bin").write_bytes(b"new"),
        "changed since: data/new.bin",
    ),
    "a cache of Python": (lambda out: Tree(out).file("data/__pycache__/x.pyc"), "exp, whole and unchanged"),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_what_is_at_the_destination_is_named(project: Path, change: str) -> None:
    """S07: an existing destination is that experiment whole, or changed, and what was changed is named and kept."""
    out = Path(api.restore("exp", directory=project).path)
    act, said = CHANGES[change]
    act(out)
    before = snapshot_of(out)
    with pytest.raises(TargetExists) as caught:
        api.restore("exp", directory=project)
    assert said in str(caught.value)
    assert snapshot_of(out) == before


def test_another_experiment_at_the_destination(tmp_path: Path, project: Path) -> None:
    """S07: another experiment, another backup of the same one, and a foreign folder are told apart."""
    Tree(project).file("train.py", b"print(2)\n")
    api.backup(directory=project, name="other")
    api.backup(directory=project, name="other", joins=True)
    out = tmp_path / "out"
    api.restore("other:1", out, directory=project)
    for wanted, said in (
        ("exp", "it is other:1"),
        ("other:2", "it is other:1"),
        ("other:1", "whole and unchanged"),
    ):
        with pytest.raises(TargetExists, match=said):
            api.restore(wanted, out, directory=project)
    shutil.rmtree(out)
    Tree(out).file("notes.txt", b"mine")
    with pytest.raises(TargetExists, match="no restored experiment"):
        api.restore("exp", out, directory=project)


def test_a_disk_that_is_full_is_said(project: Path, tmp_path: Path) -> None:
    """Also where git was writing, which does not always say why it could not; nothing is left behind."""
    with small_tmpfs(tmp_path / "disk", 2 << 20) as disk:
        for number in range(4):
            Tree(project).file(f"part{number}.txt", size=900_000)
        api.backup(directory=project, name="wide")
        with pytest.raises(NoSpace, match="no room") as caught:
            api.restore("wide", disk / "here", directory=project)
        assert "tensortime du" in str(caught.value.hint)
        assert os.listdir(disk) == []


@pytest.mark.parametrize(
    ("small", "large", "are_twins"),
    [
        (["a.py", "b.py"], [], False),
        (["a.py", "A.py"], [], True),
        (["model.BIN"], ["Model.bin"], True),
        ([], ["a/x.bin", "A/y.bin"], True),
        (["data"], ["Data/raw/x.bin"], True),
        (["caf\u00e9", "cafe\u0301"], [], True),
        (["STRASSE/a", "stra\u00dfe/b"], [], True),
        (["caf\u00e9", "cafe"], [], False),
    ],
)
def test_names_that_another_system_takes_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: list[str], large: list[str], are_twins: bool
) -> None:
    """Where git would put a file in the place of one that is there already, it comes first: what is lost then shows."""
    tree, before = Tree(tmp_path / "project"), []
    for path in small:
        tree.file(path, path.encode())
    for path in large:
        tree.file(path, size=LARGE)
    api.backup(directory=tree.root, name="exp")
    make_folders = checkout.make_folders

    def noting(root: int, plan: plans.Plan) -> None:
        before.append(set(os.listdir(root)))
        make_folders(root, plan)

    monkeypatch.setattr(checkout, "make_folders", noting)
    assert_same_tree(tree.root, api.restore("exp", directory=tree.root).path)
    expected = {".git"}
    if are_twins:
        expected |= {".tensortime", *(path.partition("/")[0] for path in small)}
    assert before == [expected]

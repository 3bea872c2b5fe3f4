"""Which bytes each ref keeps, and what nobody else keeps: the arithmetic behind du and gc. CASES C03, C04.

git and a slow walk over every backup are the judges.
"""

import json
import os
import random
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from builders import Tree, user_git
from stores import Bulk, forge, thousand

import tensortime
from tensortime.formats import digest_of, raw_of
from tensortime.reach import (
    EXPERIMENT,
    OTHER,
    PIN,
    TAG,
    TRASHED,
    WORKTREE,
    Reach,
    Root,
    read_reach,
)
from tensortime.store import Store, open_store

SHARED, OWN = b"shared" * 1000, b"own" * 1000


def reach_of(project: Path) -> Reach:
    """What the store of a project reaches."""
    return read_reach(open_store(str(project / "tensortime")))


def roots(reach: Reach, kind: str, name: str | None = None) -> list[Root]:
    """The roots of one kind, of this name."""
    return [root for root in reach.roots if root.kind == kind and name in (None, root.name)]


def by_git(store: Store, *revisions: str) -> set[bytes]:
    """What git says that these reach."""
    listed = store.shadow.run("rev-list", "--objects", *revisions).stdout
    return {bytes.fromhex(line.split()[0].decode()) for line in listed.splitlines()}


def git_nodes(nodes: Iterable[bytes]) -> set[bytes]:
    """The git objects among nodes."""
    return {node for node in nodes if len(node) == 20}


def objects(nodes: Iterable[bytes]) -> set[str]:
    """The digests of the sidecar objects among nodes."""
    return {digest_of(node) for node in nodes if len(node) == 32}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Experiments `a` (two backups) and `b`; both have data.bin, each has a large file of its own."""
    tree = Tree(tmp_path / "p").file("train.py", b"1").file("data.bin", size=1_100_000)
    tensortime.backup(directory=tree.root, name="a")
    tensortime.backup(directory=tree.file("a.bin", size=1_200_000).root, name="a", add=["a.bin"])
    (tree.root / "a.bin").unlink()
    tensortime.backup(directory=tree.file("b.bin", size=1_300_000).root, name="b")
    return tree.root


def digests(project: Path, name: str) -> dict[str, str]:
    """The large files of a backup, as its manifest in git says."""
    text = user_git(
        f"--git-dir={project / 'tensortime/.shadow'}", "show", f"{name}:.tensortime/manifest", cwd=project
    )
    rows = [json.loads(line) for line in text.splitlines()[1:]]
    return {row["path"]: row["digest"] for row in rows if row["kind"] == "file"}


def test_an_experiment_reaches_all_its_backups(project: Path) -> None:
    """What a root reaches is what git says, with the objects that the manifests of every backup name."""
    reach = reach_of(project)
    store = open_store(str(project / "tensortime"))
    for name, larges in (("a", {"a.bin", "data.bin"}), ("b", {"b.bin", "data.bin"})):
        (root,) = roots(reach, EXPERIMENT, name)
        nodes = reach.closure([root])
        assert git_nodes(nodes) == by_git(store, f"refs/experiments/{name}")
        assert objects(nodes) == set(digests(project, f"refs/experiments/{name}").values())
        assert set(digests(project, f"refs/experiments/{name}")) == larges
    assert git_nodes(reach.live) == by_git(store, "--all")
    assert reach.gaps == () and reach.unreached() == set() and reach.missing_objects() == set()


def test_what_only_one_experiment_keeps(project: Path) -> None:
    """Exclusive to a root is what it reaches and no other does: shared data belongs to nobody alone, to both
    together."""
    reach = reach_of(project)
    (a,), (b,) = roots(reach, EXPERIMENT, "a"), roots(reach, EXPERIMENT, "b")
    only_a, only_b = reach.exclusive([[a], [b]])
    assert only_a == reach.closure([a]) - reach.closure([b])
    assert only_b == reach.closure([b]) - reach.closure([a])
    assert objects(only_a) == {digests(project, "refs/experiments/a")["a.bin"]}
    (both,) = reach.exclusive([[a, b]])
    assert both == set(reach.live)


def test_exclusive_is_what_the_slow_definition_says(tmp_path: Path) -> None:
    """Over experiments that share whole folders, single files and objects in every combination, the one walk finds
    the same as the difference of two closures for each group; so it is with the bytes that each of them reaches."""
    bulk = Bulk(tmp_path / "p")
    for number in range(24):
        small = {b"%d/%d.py" % (bit, number >> bit): b"%d" % bit for bit in range(5)}
        large = {b"%d.bin" % bit: b"%d" % (number >> bit) * 99 for bit in range(4)}
        first = bulk.experiment(f"e{number}", small, large)
        if number % 3 == 0:
            bulk.experiment(f"e{number}", {**small, b"2/0.py": b"new"}, large, parent=first, number=2)
    reach = read_reach(bulk.finish())
    groups = [[one] for one in reach.roots[:9]] + [list(reach.roots[9:12]), list(reach.roots[12:20])]
    for group, found in zip(groups, reach.exclusive(groups), strict=True):
        others = [root for root in reach.roots if root not in group]
        assert found == reach.closure(group) - reach.closure(others)
    assert any(reach.exclusive(groups))
    assert reach.held_by_each(groups) == [reach.held_bytes(reach.closure(group)) for group in groups]


def test_every_ref_and_every_worktree_is_a_root(project: Path) -> None:
    """Tags, the trash, pins, what a person made in a restored worktree (a branch, a commit, what is staged, what a
    reset left behind): all of it keeps what it reaches."""
    store = open_store(str(project / "tensortime"))
    tip = store.shadow.ref("refs/experiments/a")
    assert tip
    for ref in ("refs/tags/a/best", "refs/trash/123/gone", "refs/trash/123/@gone/old", "refs/pins/mine"):
        assert store.shadow.create_ref(ref, tip)
    worktree = Path(tensortime.restore("b", directory=project).path)
    user_git("branch", "topic", cwd=worktree)
    (worktree / "train.py").write_text("mine")
    user_git("commit", "--quiet", "--all", "--message", "mine", cwd=worktree)
    mine = user_git("rev-parse", "HEAD", cwd=worktree).strip()
    user_git("reset", "--quiet", "--hard", "HEAD~1", cwd=worktree)
    (worktree / "staged.py").write_text("staged")
    user_git("add", "staged.py", cwd=worktree)
    staged = user_git("rev-parse", ":staged.py", cwd=worktree).strip()
    reach = reach_of(project)
    assert {root.name for root in roots(reach, TAG)} == {"a"}
    assert [root.name for root in roots(reach, TRASHED)] == ["gone", "gone"]
    assert [root.ref for root in roots(reach, PIN)] == ["refs/pins/mine"]
    assert [root.ref for root in roots(reach, OTHER)] == ["refs/heads/topic"]
    (restored,) = roots(reach, WORKTREE)
    assert restored.name == "b" and restored.ref == ""
    assert {bytes.fromhex(mine), bytes.fromhex(staged)} < reach.closure([restored])
    assert reach.gaps == () and reach.unreached() == set()


def test_an_annotated_tag_of_a_person(project: Path) -> None:
    """`git tag -a` in a worktree makes an object that leads to the commit: both are kept."""
    worktree = Path(tensortime.restore("b", directory=project).path)
    user_git("tag", "-a", "v1", "-m", "for the paper", cwd=worktree)
    reach = reach_of(project)
    (root,) = roots(reach, OTHER)
    (b,) = roots(reach, EXPERIMENT, "b")
    assert reach.closure([b]) < reach.closure([root])
    assert reach.gaps == ()


def test_what_nothing_reaches(project: Path) -> None:
    """After a ref is gone its own git objects and its own large file are reached by nothing; shared data is."""
    before = digests(project, "refs/experiments/b")
    store = open_store(str(project / "tensortime"))
    store.shadow.run("update-ref", "-d", "refs/experiments/b")
    reach = reach_of(project)
    assert objects(reach.unreached()) == {before["b.bin"]}
    assert git_nodes(reach.unreached()) == set(reach.packed) - by_git(store, "--all") != set()


def test_a_users_file_that_looks_like_a_manifest_keeps_nothing(tmp_path: Path) -> None:
    """Only what a commit has as its own `.tensortime/manifest` names objects: not a copy of such a file among the
    project's files, and not a file called manifest."""
    bulk = Bulk(tmp_path / "p")
    row = bulk.entry(b"x.bin", OWN)  # type: ignore[arg-type]
    text = b'{"format": 1}\n{"path": "x.bin", "kind": "file", "size": 3000, "digest": "%s"}\n'
    text %= str(row.digest).encode()
    bulk.experiment("copy", {b"manifest": text, b"sub/.tensortime/manifest": text})
    reach = read_reach(bulk.finish())
    assert objects(reach.live) == set() and objects(reach.unreached()) == {row.digest}


def test_a_sharded_manifest(tmp_path: Path) -> None:
    """Past 10,000 entries the lines lie in shards: what these name is kept as well."""
    bulk = Bulk(tmp_path / "p")
    bulk.experiment("many", {}, {b"%d/%d.bin" % (n % 3, n): b"%d" % (n % 7) for n in range(10_001)})
    reach = read_reach(bulk.finish())
    assert len(objects(reach.live)) == 7 and reach.gaps == () and reach.unreached() == set()


def test_sizes_are_those_on_disk(tmp_path: Path) -> None:
    """Bytes are what they take: compressed in the pack, blocks in the sidecar, a hole nothing; what a hard link of
    the user holds is held, and not freed."""
    bulk = Bulk(tmp_path / "p")
    bulk.experiment("a", {b"log.txt": b"epoch\n" * 10_000}, {b"big.bin": OWN, b"linked.bin": SHARED})
    store = bulk.finish()
    reach = read_reach(store)
    small = max(size for node, size in reach.packed.items() if len(node) == 20)
    assert small < 2000
    linked, big = bulk.entry(b"x", SHARED).digest, bulk.entry(b"x", OWN).digest  # type: ignore[arg-type]
    assert linked and big
    path = store.sidecar().path_of(linked)
    os.link(path, tmp_path / "p" / "linked.bin")
    reach = read_reach(store)
    blocks = {digest: os.stat(store.sidecar().path_of(digest)).st_blocks * 512 for digest in (linked, big)}
    nodes = [raw_of(linked), raw_of(big)]
    assert reach.held_bytes(nodes) == sum(blocks.values())
    assert reach.freed_bytes(nodes) == blocks[big]
    packs = sum(path.stat().st_size for path in Path(store.path(".shadow", "objects", "pack")).glob("*.pack"))
    assert sum(reach.packed.values()) == packs - 12 - 20  # header and trailer


def test_damage_is_a_gap_and_not_a_failure(project: Path) -> None:
    """An object that is missing, a ref that names nothing, a manifest that nobody understands: each is named, the
    rest is read. Whoever deletes has to look at the gaps first."""
    forge(project, "later", [{"path": "x", "kind": "file", "size": 1, "digest": "sha999:00"}])
    (project / "tensortime/.shadow/refs/experiments/empty").write_bytes(b"")
    store = open_store(str(project / "tensortime"))
    blob = store.shadow.run("rev-parse", "refs/experiments/b:train.py").stdout.decode().strip()
    tree = store.shadow.run("rev-parse", "refs/experiments/a:.tensortime").stdout.decode().strip()
    for pack in Path(store.path(".shadow/objects/pack")).glob("*.pack"):
        shutil.move(pack, project / "tensortime/.tmp" / pack.name)
    for pack in Path(store.path(".tmp")).glob("*.pack"):
        store.shadow.run("unpack-objects", "-q", stdin=pack.read_bytes())
    for oid in (blob, tree):
        (project / "tensortime/.shadow/objects" / oid[:2] / oid[2:]).unlink()
    reach = reach_of(project)
    found = {gap.node: gap.problem for gap in reach.gaps}
    assert {bytes.fromhex(blob), bytes.fromhex(tree), b"refs/experiments/empty"} < set(found)
    assert "a manifest of a later version, or a damaged one" in found.values() and len(found) == 4
    needing = reach.reaching({bytes.fromhex(blob)})[bytes.fromhex(blob)]
    assert [root.name for root in needing] == ["a", "b"]


def test_packs_that_have_rotted(project: Path) -> None:
    """Wherever a bit is flipped or bytes are zeroed, also where git takes a commit for a file then or answers with half
    an object: what cannot be relied on is a gap, or nothing that was kept is missed. (Files are not read.)"""
    whole, chance = reach_of(project), random.Random(5)
    packs = {path: path.read_bytes() for path in (project / "tensortime/.shadow/objects/pack").glob("*.pack")}
    gaps = 0
    for _ in range(80):
        for path, data in packs.items():
            start, count = chance.randrange(12, len(data) - 24), chance.choice((1, 4, 60))
            rotten = bytes(count) if count > 1 else bytes([data[start] ^ 1 << chance.randrange(8)])
            path.chmod(0o600)
            path.write_bytes((data[:start] + rotten + data[start + count :])[: len(data)])
        reach = reach_of(project)
        gaps += bool(reach.gaps)
        assert reach.gaps or reach.live == whole.live
        assert reach.live <= whole.live | {gap.node for gap in reach.gaps}
        assert reach.objects == whole.objects
    assert gaps > 40


def test_a_worktree_record_that_is_broken(project: Path) -> None:
    """An index that git cannot read is a gap, as what is staged there is not known; a file that is no record, or one
    that goes away at this moment, is nothing."""
    admin = project / "tensortime/.shadow/worktrees/b"
    tensortime.restore("b", directory=project)
    (admin.parent / "stray").write_text("x")
    (admin.parent / "link").symlink_to(admin)
    assert reach_of(project).gaps == ()
    (admin / "index").write_bytes(b"DIRC, or what is left of it")
    (gap,) = reach_of(project).gaps
    assert gap.node == b"b" and "staged" in gap.problem
    assert tensortime.du(directory=project).missing == 1


def test_objects_that_are_gone(project: Path) -> None:
    """A digest that a manifest names and the sidecar does not have is listed."""
    store = open_store(str(project / "tensortime"))
    lost = digests(project, "refs/experiments/b")["b.bin"]
    os.unlink(store.sidecar().path_of(lost))  # type: ignore[arg-type]
    assert reach_of(project).missing_objects() == {lost}


def test_a_thousand_experiments_in_seconds(tmp_path: Path) -> None:
    """A thousand experiments of a hundred files: read, and asked for all of them at once, in a few seconds, and what
    each keeps alone is its commit, its trees, its script and its weights."""
    store = thousand(tmp_path / "p")
    started = time.monotonic()
    reach = read_reach(store)
    alone = reach.exclusive([[root] for root in reach.roots])
    held = reach.held_by_each([root] for root in reach.roots)
    assert time.monotonic() - started < 10
    assert len(reach.roots) == len(alone) == len(held) == 1000
    assert {len(objects(nodes)) for nodes in alone} == {1}
    assert {len(git_nodes(nodes)) for nodes in alone} == {5}

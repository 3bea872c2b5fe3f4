"""du: what each experiment refers to, what its removal alone would free, and where the bytes of a store are."""

import json
import os
import pty
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from builders import Tree, run_cli
from stores import Bulk, thousand

import tensortime
from tensortime.errors import UsageError
from tensortime.inventory import ExperimentUsage, PathUsage, Restored, Totals, UsageReport
from tensortime.messages import ENGLISH
from tensortime.names import ExperimentName
from tensortime.store import open_store
from tensortime.text import cells
from tensortime.upkeep_text import trash_text, usage_text

BLOCK = 4096


def rows(report: UsageReport) -> dict[str, tuple[int, int]]:
    """By name: bytes that are referred to, and bytes that would be freed."""
    return {str(one.name): (one.bytes, one.freed) for one in report.experiments}


def near(size: int) -> object:
    """So many bytes, and what trees, manifest and commit take beside them."""
    return pytest.approx(size, abs=6000)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """`a` and `b` share 1,2 MB; `b` has 1,4 MB of its own; `c` has 2 MB of its own and 1.6 MB with its 2nd backup."""
    tree = Tree(tmp_path / "p").file("train.py", b"1").file("shared.bin", size=300 * BLOCK)
    tensortime.backup(directory=tree.root, name="a")
    tensortime.backup(directory=tree.file("b.bin", size=350 * BLOCK).root, name="b")
    for name in ("shared.bin", "b.bin"):
        (tree.root / name).unlink()
    tensortime.backup(directory=tree.file("c.bin", size=500 * BLOCK).root, name="c")
    tensortime.backup(directory=tree.file("out.bin", size=400 * BLOCK).root, name="c", add=["out.bin"])
    return tree.root


def test_what_is_shared_is_freed_by_nobody_alone(project: Path) -> None:
    """Each experiment refers to all its data, older backups too; alone it frees only what no other has; the table is
    sorted by that."""
    report = tensortime.du(directory=project)
    assert list(rows(report)) == ["c", "b", "a"]
    assert rows(report) == {
        "a": (near(300 * BLOCK), near(0)),
        "b": (near(650 * BLOCK), near(350 * BLOCK)),
        "c": (near(900 * BLOCK), near(900 * BLOCK)),
    }
    assert report.together is None and report.missing == 0
    assert report.totals.shared == near(300 * BLOCK)


def test_what_several_free_together(project: Path) -> None:
    """`du A B`: only these are listed, and the sum holds what they share."""
    report = tensortime.du(["a", "b", "b"], directory=project)
    assert set(rows(report)) == {"a", "b"}
    assert report.together == near(650 * BLOCK)
    assert tensortime.du(["a"], directory=project).together == near(0)
    with pytest.raises(UsageError):
        tensortime.du(["a:1"], directory=project)


def test_what_du_says_is_what_goes(project: Path) -> None:
    """The bytes that git and the sidecar no longer need after a removal for good are those that du had named."""
    expected = rows(tensortime.du(directory=project))["b"][1]
    before = tensortime.du(directory=project).totals
    store = open_store(str(project / "tensortime"))
    store.shadow.run("update-ref", "-d", "refs/experiments/b")
    assert tensortime.du(directory=project).totals.unreached == expected
    assert before.unreached == 0


def test_totals(project: Path) -> None:
    """Objects and packs as `du -s` counts them, the trash, the stat cache; restored folders apart, as the user's."""
    tensortime.restore("a", directory=project)
    tensortime.rm(["b"], directory=project)
    Tree(project / "tensortime/.records/a").file("records.jsonl", b'{"loss": 1}\n')
    report = tensortime.du(directory=project)
    totals = report.totals

    def blocks(folder: str) -> int:
        files = [path for path in (project / "tensortime" / folder).rglob("*") if path.is_file()]
        return sum(path.lstat().st_blocks * 512 for path in files)

    assert (totals.objects, totals.object_count) == (blocks(".objects"), 4)
    assert (totals.packs, totals.pack_count) == (blocks(".shadow/objects"), 4)
    assert totals.records == blocks(".records") > 0
    assert (totals.cache, totals.staging) == (blocks(".cache"), blocks(".tmp"))
    assert (totals.trash, totals.trashed) == (near(350 * BLOCK), 1)
    assert totals.free > 0 and totals.linked == 0
    ((folder, size),) = report.worktrees
    assert folder == Restored("a", 1, str(project / "tensortime/a"))
    assert size == blocks("a")


def test_a_hard_link_of_the_user_is_not_freed(project: Path) -> None:
    """An object that is a file of the user too takes no room of its own: its removal frees nothing, and that is
    said."""
    (linked,) = [
        path
        for path in (project / "tensortime/.objects/blake3").rglob("*/*")
        if path.stat().st_size == 350 * BLOCK
    ]
    os.link(linked, project / "b-again.bin")
    report = tensortime.du(directory=project)
    assert rows(report)["b"] == (near(650 * BLOCK), near(0))
    assert report.totals.linked == 350 * BLOCK


def test_a_hole_takes_no_room(tmp_path: Path) -> None:
    """A sparse file costs its blocks, not its length."""
    tree = Tree(tmp_path / "p").file("train.py")
    with (tree.root / "sparse.bin").open("wb") as file:
        file.truncate(1 << 30)
    tensortime.backup(directory=tree.root, name="a")
    assert rows(tensortime.du(directory=tree.root))["a"][0] < 1 << 20


def test_restored_folders_hold_what_they_came_from(project: Path) -> None:
    """An open restored folder needs its backup: that experiment frees nothing until the folder is gone."""
    tensortime.restore("c:1", directory=project)
    report = tensortime.du(directory=project)
    assert rows(report)["c"][1] == near(400 * BLOCK)
    assert [one.held for one in report.experiments if one.name == "c"] == [near(500 * BLOCK)]
    assert "c: its restored folder holds 2.0 MB more" in usage_text(report, 20, 80, datetime.now(), ENGLISH)
    tensortime.rm_worktree("c:1", directory=project)
    assert rows(tensortime.du(directory=project))["c"][1] == near(900 * BLOCK)


def test_the_largest_paths(project: Path) -> None:
    """--paths: for each path all contents it ever had, small files as they are packed, the largest first; nothing of
    TensorTime's own."""
    (project / "c.bin").write_bytes(bytes(range(256)) * 16 * 500)
    tensortime.backup(directory=project, name="d")
    paths = tensortime.du(paths=True, directory=project).paths
    assert paths
    found = {one.path: (one.bytes, one.versions) for one in paths}
    assert found["c.bin"] == (1000 * BLOCK, 2) and found["shared.bin"] == (300 * BLOCK, 1)
    assert [one.path for one in paths][:3] == ["c.bin", "out.bin", "b.bin"]
    assert set(found) == {"c.bin", "out.bin", "b.bin", "shared.bin", "train.py"}
    only = tensortime.du(["a"], paths=True, directory=project).paths
    assert only and {one.path for one in only} == {"shared.bin", "train.py"}


def test_paths_in_folders_and_shards(tmp_path: Path) -> None:
    """A path below folders has its whole name, also where the manifest is sharded or a folder is there twice."""
    bulk = Bulk(tmp_path / "p")
    large = {b"%d/%d.bin" % (n % 3, n): b"%d" % (n % 7) for n in range(10_001)}
    bulk.experiment("many", {b"a/b/c.py": b"1", b"d/b/c.py": b"1"}, large)
    bulk.finish()
    paths = tensortime.du(paths=True, directory=tmp_path / "p").paths
    assert paths and {one.path for one in paths} == {"a/b/c.py", "d/b/c.py", *map(os.fsdecode, large)}


def test_a_damaged_store_is_measured_as_far_as_it_can_be(project: Path) -> None:
    """Objects that are gone cost nothing and are counted as missing."""
    shutil.rmtree(project / "tensortime/.objects/blake3")
    report = tensortime.du(directory=project)
    assert report.missing == 4 and report.totals.objects == 0
    assert rows(report)["a"][0] == near(0)


def test_no_data_is_read(project: Path) -> None:
    """Objects that nobody may read are measured all the same."""
    for path in (project / "tensortime/.objects/blake3").rglob("*/*"):
        path.chmod(0)
    before = {path: path.stat().st_atime_ns for path in (project / "tensortime/.objects").rglob("*/*")}
    assert rows(tensortime.du(directory=project))["a"][0] == near(300 * BLOCK)
    assert {path: path.stat().st_atime_ns for path in before} == before


def test_a_thousand_experiments_that_share(tmp_path: Path) -> None:
    """In seconds; removing one frees next to nothing of what all share, and du says so; all together free it."""
    store = thousand(tmp_path / "p")
    started = time.monotonic()
    report = tensortime.du(paths=True, directory=tmp_path / "p")
    assert time.monotonic() - started < 10
    assert len(report.experiments) == 1000
    assert all(one.freed < one.bytes - 2 * BLOCK for one in report.experiments)
    everything = [str(one.name) for one in report.experiments]
    assert tensortime.du(everything, directory=tmp_path / "p").together == pytest.approx(
        report.totals.objects + report.totals.packs, abs=600_000
    )
    assert store.folder == report.store


# --- what is printed


def test_json(project: Path) -> None:
    """The document has all that the report has; -n limits the rows."""
    tensortime.restore("a", directory=project)
    found = json.loads(run_cli("du", "--json", "--paths", "-n", "2", "a", "b", "c", cwd=project).stdout)
    assert [one["experiment"] for one in found["experiments"]] == ["b", "c"] or len(found["experiments"]) == 2
    assert len(found["paths"]) == 2 and found["together"] > 1000 * BLOCK
    assert found["worktrees"][0]["experiment"] == "a"
    assert json.loads(run_cli("du", "--json", cwd=project).stdout)["paths"] is None


def test_through_a_pipe(project: Path) -> None:
    """One line an experiment, tabs between: name, time, backups, bytes, freed; with --paths bytes, versions, path."""
    lines = run_cli("du", cwd=project).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["c", "b", "a"]
    assert {len(line.split("\t")) for line in lines} == {5}
    lines = run_cli("du", "--paths", cwd=project).stdout.splitlines()
    assert lines[0].split("\t")[1:] == ["1", "c.bin"]


HOSTILE = "x\x1b[2J\n\u202eexe.\udcff 学习率" * 4


def hostile_report() -> UsageReport:
    """Names and paths that would like to rule the terminal."""
    names = [ExperimentName("学习率-" * 9 + "z"), ExperimentName("a" * 200), ExperimentName("b")]
    return UsageReport(
        tuple(ExperimentUsage(name, 1_700_000_000_000_000_000, 12, 10**12, 10**6, 10**9) for name in names),
        10**9,
        Totals(10**12, 12345, 10**9, 51, 10**9, 10**8, 10**7, 3, 10**6, 10**5, 10**5, 10**5, 10**10),
        "/store",
        ((Restored("b", 1, f"/home/{HOSTILE}"), 10**9),),
        (PathUsage(HOSTILE, 10**9, 12), PathUsage("checkpoints/last.pt", 10**9, 400)),
        3,
    )


@pytest.mark.parametrize("width", [80, 200, 40, 20])
def test_tables_fit_their_terminal(width: int) -> None:
    """No row of a table is wider than the terminal (from 80 columns on no line at all), nothing raw gets through, and
    what a name begins and ends with is seen."""
    lines = usage_text(hostile_report(), 20, width, datetime(2026, 11, 20), ENGLISH)
    assert all(line.isprintable() for line in lines)
    table = lines if width >= 80 else lines[1:4]
    assert max(map(cells, table)) <= width
    text = "\n".join(lines)
    assert "checkpoints/last.pt" in text or width < 80
    for words in (
        "gc --trash frees it",
        "all that share them",
        "rm --worktree",
        "verify",
        "if all of these",
    ):
        assert words in text
    if width == 200:
        assert "学习率-学习率" in text and "-z" in text


def test_rows_that_are_not_shown_are_counted(project: Path) -> None:
    """Past the limit a line says how many more there are."""
    report = tensortime.du(directory=project)
    assert "… and 2 more: -n 3 shows all" in usage_text(report, 1, 80, datetime.now(), ENGLISH)
    tensortime.rm(["a", "b"], directory=project)
    lines = trash_text(tensortime.trashed(directory=project), 1, 80, datetime.now(), ENGLISH)
    assert "… and 1 more: -n 2 shows all" in lines


def test_on_a_terminal(project: Path) -> None:
    """A person gets the table and the totals."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tensortime", "du"],
        cwd=project,
        stdout=slave,
        env={**os.environ, "COLUMNS": "80"},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(master)
    assert process.wait() == 0
    lines = shown.decode().splitlines()
    assert lines[0].split() == ["IF", "REMOVED", "IN", "ALL", "BACKUPS", "WHEN", "EXPERIMENT"]
    assert lines[1].split()[-1] == "c"
    assert any("large files, 4 objects" in line for line in lines)


def test_an_empty_store(tmp_path: Path) -> None:
    """No experiment yet: said, with the totals."""
    Bulk(tmp_path / "p").finish()
    report = tensortime.du(directory=tmp_path / "p")
    assert (
        usage_text(report, 20, 80, datetime.now(), ENGLISH)[0]
        == "no experiment yet: tensortime backup makes the first"
    )

"""Whatever is backed up, removed, taken back and collected, in any order: what has a name is whole, what has none goes."""

import shutil
import tempfile
from pathlib import Path

from builders import Entry, Tree, assert_same_tree, snapshot_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tensortime
from tensortime import api, folding
from tensortime.reach import read_reach
from tensortime.store import open_store

OWN = (b".git", b"tensortime", b".tensortime")
LARGE = 1 << 20

files = st.dictionaries(
    st.sampled_from(["a.py", "src/b.py", "src/c.bin", "d.bin"]),
    st.tuples(st.integers(0, 5), st.booleans()),
    max_size=4,
)
actions = st.one_of(
    st.tuples(st.just("backup"), st.integers(0, 3), files),
    st.tuples(st.just("add"), st.integers(0, 3), files),
    st.tuples(st.just("rehash"), st.integers(0, 3), files),
    st.tuples(st.sampled_from(["rm", "undelete"]), st.integers(0, 9), st.none()),
    st.tuples(st.sampled_from(["gc", "gc --trash", "fold", "verify"]), st.just(0), st.none()),
)


class Bench:
    """A project, its store, and what every experiment should hold."""

    def __init__(self, folder: Path) -> None:
        self.tree = Tree(folder / "project")
        self.whole: dict[str, dict[bytes, Entry]] = {}
        self.trash: dict[str, dict[bytes, Entry]] = {}

    def write(self, wanted: dict[str, tuple[int, bool]]) -> None:
        """Let the project hold exactly these files."""
        for path in self.tree.root.iterdir():
            if path.name != "tensortime":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, (content, large) in wanted.items():
            self.tree.file(name, bytes([content]) * (LARGE if large else 5000))

    def backup(self, number: int, wanted: dict[str, tuple[int, bool]], what: str = "") -> None:
        """One backup, whose experiment then holds what the project does."""
        self.write(wanted)
        report = api.backup(
            directory=self.tree.root, name=f"e{number}", joins=what == "add", rehash=what == "rehash"
        )
        assert report.exit_code == 0
        self.whole[str(report.experiment)] = snapshot_of(self.tree.root, exclude=OWN)

    def act(self, what: str, number: int, wanted: dict[str, tuple[int, bool]] | None) -> None:
        """One action."""
        root = self.tree.root
        if wanted is not None:
            self.backup(number, wanted, what)
        elif what == "rm" and self.whole:
            name = sorted(self.whole)[number % len(self.whole)]
            tensortime.rm([name], directory=root)
            self.trash[name] = self.whole.pop(name)
        elif what == "undelete" and self.trash:
            name = sorted(self.trash)[number % len(self.trash)]
            [back] = tensortime.undelete([name], directory=root).returned
            self.whole[str(back.experiment)] = self.trash.pop(name)
        elif what.startswith("gc") and (root / "tensortime").exists():
            report = tensortime.gc(directory=root, trash=what == "gc --trash")
            assert report.exit_code == 0
            if what == "gc --trash":
                self.trash.clear()
        elif what == "fold" and (root / "tensortime").exists():
            folding.fold(open_store(str(root / "tensortime")))
        elif what == "verify" and (root / "tensortime").exists():
            assert tensortime.verify(read_data="all", directory=root).problems == ()

    def judge(self) -> None:
        """Everything with a name comes back; what has none is gone, but for half of a pack."""
        root = self.tree.root
        assert tensortime.verify(read_data="all", directory=root).problems == ()
        assert {one.name for one in api.log(directory=root).experiments} == set(self.whole)
        for number, (name, expected) in enumerate(sorted(self.whole.items())):
            made = api.restore(name, root.parent / f"out{number}", directory=root).path
            assert_same_tree(expected, snapshot_of(made, exclude=OWN))
            shutil.rmtree(made)
        assert tensortime.gc(directory=root, trash=True).exit_code == 0
        reach = read_reach(open_store(str(root / "tensortime")))
        assert reach.objects.keys() <= reach.live
        dead = reach.packed.keys() - reach.live
        packs = len(list((root / "tensortime/.shadow/objects/pack").glob("*.pack")))
        # A pack that takes no fewer blocks without them keeps its dead objects.
        assert sum(reach.packed[oid] for oid in dead) <= sum(reach.packed.values()) / 2 + 4096 * packs
        assert tensortime.gc(directory=root, trash=True).freed == 0
        assert tensortime.verify(read_data="all", directory=root).problems == ()


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(actions, min_size=3, max_size=14))
def test_any_order(steps: list[tuple[str, int, dict[str, tuple[int, bool]] | None]]) -> None:
    """Backups, additions, removals, folds, gcs: what is named is whole at the end, and nothing else is kept."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.backup(0, {"a.py": (1, False)})
        for step in steps:
            bench.act(*step)
        bench.judge()

"""Single bits of the store, flipped by the thousand: what a reader of it says is right, or it says that it is damaged.

The readers are those that every verb uses, without a process each, so that ten thousand flips take a minute. What git
reads is judged by a restore. CASES X01, X04, X07.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from builders import Tree, snapshot_of

from tensortime import api
from tensortime.errors import TensorTimeError
from tensortime.formats import Digest
from tensortime.mending import read_config
from tensortime.packreader import Pack, PackDamaged
from tensortime.sidecar import place_object
from tensortime.statcache import load_cache
from tensortime.store import open_store

Read = Callable[[], object]
"""What a reader gives; an exception of its kind where it sees the damage."""

SAYS_DAMAGED = (TensorTimeError, PackDamaged)


class Case(NamedTuple):
    """A file, who reads it, and in how many of its bits it is flipped in `make test`."""

    path: Path
    read: Read
    flips: int


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One experiment with files of both kinds."""
    tree = Tree(tmp_path / "project").file("tensortime.toml", b"large_size = 1024\n")
    for number in range(8):
        tree.file(f"src/{number}.py", b"x = %d\n" % number * 40)
    tree.file("noise.key", size=600).file("data/part.bin", size=3000).file("odd", b"1", mode=0o600)
    api.backup(directory=tree.root, name="exp")
    return tree.root


def cases(project: Path, out: Path) -> Iterator[Case]:
    """Every file that we read ourselves."""
    store = open_store(str(project / "tensortime"))
    (pack,) = Path(store.path(".shadow/objects/pack")).glob("*.pack")
    (part,) = Path(store.path(".objects/blake3")).glob("*/*")
    (cache,) = Path(store.path(".cache")).glob("stat-*")
    digest = Digest(f"blake3:{part.parent.name}{part.name}")

    def contents() -> list[object]:
        one = Pack(str(pack.with_suffix("")))
        one.check_frame()
        return [one.read(entry) for entry in one.entries()]

    def placed() -> bytes:
        folder = os.open(out, os.O_RDONLY)
        try:
            place_object(store.sidecar(), digest, 3000, folder, b"placed", "auto")
            return (out / "placed").read_bytes()
        finally:
            os.close(folder)
            (out / "placed").unlink(missing_ok=True)

    def cached() -> tuple[object, object]:
        found = load_cache(str(cache), store.store_id, {})
        if not found.files:
            raise PackDamaged("taken for none")
        return found.files, found.objects

    yield Case(pack, contents, 1200)
    yield Case(pack.with_suffix(".idx"), contents, 800)
    yield Case(part, placed, 600)
    yield Case(cache, cached, 600)


def flipped(data: bytes, bit: int) -> bytes:
    """The same bytes but for one bit."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def wrong_answers(case: Case, bits: Iterator[int] | list[int]) -> list[int]:
    """The flips after which a reader gave something else than what is true, and did not say so."""
    good, truth = case.path.read_bytes(), case.read()
    case.path.chmod(0o600)
    wrong = []
    with open(case.path, "r+b", buffering=0) as file:
        for bit in bits:
            os.pwrite(file.fileno(), flipped(good, bit)[bit // 8 : bit // 8 + 1], bit // 8)
            try:
                if case.read() != truth:
                    wrong.append(bit)
            except SAYS_DAMAGED:
                pass
            os.pwrite(file.fileno(), good[bit // 8 : bit // 8 + 1], bit // 8)
    assert case.read() == truth
    return wrong


def test_every_reader_sees_a_flipped_bit(
    project: Path, tmp_path: Path, tally: Callable[[str, int], None]
) -> None:
    """X01, X04, X07: packs, idx files, objects and the stat cache: the truth, or damage; never anything else."""
    out = Tree(tmp_path / "out").root
    for case in cases(project, out):
        bits = random.Random(case.path.suffix).sample(range(case.path.stat().st_size * 8), case.flips)
        assert wrong_answers(case, bits) == [], case.path
        tally("flips", len(bits))


@pytest.mark.long
def test_every_reader_sees_any_flipped_bit(
    project: Path, tmp_path: Path, tally: Callable[[str, int], None]
) -> None:
    """X01, X04, X07: each bit of each of these files, some 60,000."""
    out = Tree(tmp_path / "out").root
    for case in cases(project, out):
        bits = list(range(case.path.stat().st_size * 8))
        assert wrong_answers(case, bits) == [], case.path
        tally("flips", len(bits))


def restores(project: Path, out: Path) -> object:
    """What a restore gives; None where it says that something is damaged, and then nothing is left of it."""
    try:
        api.restore("exp", out, directory=project)
    except TensorTimeError:
        assert not out.exists()
        return None
    found = snapshot_of(out, exclude=[".git"])
    shutil.rmtree(out)
    return found


NAMES = (".shadow/config", ".shadow/HEAD", ".shadow/refs/experiments/exp", ".shadow/info/attributes")


def flip_and_restore(project: Path, out: Path, name: str, bits: list[int]) -> None:
    """A restore after each flip of a bit in one of the small files around the data."""
    path, truth = project / "tensortime" / name, restores(project, out)
    good = path.read_bytes()
    for bit in bits:
        path.write_bytes(flipped(good, bit % (len(good) * 8)))
        assert restores(project, out) in (truth, None), f"bit {bit} of {name}"
        path.write_bytes(good)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_around_the_data(
    project: Path, tmp_path: Path, name: str, tally: Callable[[str, int], None]
) -> None:
    """X01: settings and names: what was stored comes back, or nothing does and that is said."""
    bits = random.Random(name).sample(range(10**6), 6)
    flip_and_restore(project, tmp_path / "out", name, bits)
    tally("flips", len(bits))


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_around_the_data(
    project: Path, tmp_path: Path, name: str, tally: Callable[[str, int], None]
) -> None:
    """X01: each bit of them."""
    bits = list(range((project / "tensortime" / name).stat().st_size * 8))
    flip_and_restore(project, tmp_path / "out", name, bits)
    tally("flips", len(bits))


def test_a_flipped_configuration_is_ours_again(project: Path, tally: Callable[[str, int], None]) -> None:
    """X01: a bit of the settings that git would obey is put back before git is called, or the store is refused."""
    store = str(project / "tensortime")
    path, good = project / "tensortime/.shadow/config", (project / "tensortime/.shadow/config").read_bytes()
    ours = good.partition(b"\tid =")[0]
    bits = random.Random(0).sample(range(len(good) * 8), 100)
    for bit in bits:
        path.write_bytes(flipped(good, bit))
        try:
            read_config(store)
        except TensorTimeError:
            continue
        assert path.read_bytes().startswith(ours), f"bit {bit}"
    tally("flips", len(bits))

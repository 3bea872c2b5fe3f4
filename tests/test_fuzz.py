"""Everything that is read from a store or a project may be anything: it is refused in words or counts as absent, and never
as something that leads elsewhere. CASES X06, S04, S11.

The same bytes with a few of them changed find more than random ones, so most inputs are mutations of real files.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Tree
from conftest import Tally
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import forge

from tensortime import api, documents, hardlinks, render, statcache, store
from tensortime.condemned import condemned_file, read_condemned
from tensortime.config import load_config
from tensortime.errors import BadConfig, Damaged, TensorTimeError, UnsupportedFormat
from tensortime.formats import parse_path
from tensortime.manifest import decode_manifest
from tensortime.messages import ENGLISH, Translator
from tensortime.packreader import Pack, PackDamaged, PackIndex
from tensortime.packs import Kind, PackWriter, decode_tree, encode_tree, pack_object
from tensortime.reading import position_file, read_position
from tensortime.shadow import parse_commit
from tensortime.trailers import decode_message
from tensortime.unpacking import unpack
from tensortime.withdrawn import read_withdrawn, withdrawn_file

FUZZ = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
MANY, SOME = settings(FUZZ, max_examples=300), settings(FUZZ, max_examples=60)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
"""Any document, NaN and numbers past 64 bits included."""


@st.composite
def mutations(draw: st.DrawFn, real: bytes) -> bytes:
    """Real bytes with some cut out, changed, doubled or put in."""
    data = bytearray(real)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        count = draw(st.integers(0, 24))
        change = draw(st.sampled_from(["cut", "change", "double", "insert", "end"]))
        if change == "cut":
            del data[at : at + count]
        elif change == "change" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif change == "double":
            data[at:at] = data[at : at + count]
        elif change == "insert":
            data[at:at] = draw(st.binary(max_size=count))
        else:
            del data[at:]
    return bytes(data)


MANIFEST = b"""\
{"format": 1, "umask": "0027", "mode": "0750"}
{"path": "data/part.bin", "kind": "file", "size": 3145728, "digest": "blake3:%s", "mtime_ns": -5}
{"path": "empty", "kind": "dir", "mode": "0700"}
{"path_base64": "bGF0aW7p", "kind": "symlink", "target_base64": "L2V0Yy9wYXNzd2Q="}
{"path": "run.sh", "kind": "small", "mode": "0700", "changed": true, "link": 1}
""" % (b"ab" * 32)

ODD_FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "path",
            "path_base64",
            "kind",
            "size",
            "digest",
            "mode",
            "mtime_ns",
            "target_base64",
            "changed",
            "link",
        ]
    ),
    st.sampled_from(
        ["file", "dir", "small", "symlink", "../x", "/x", "a//b", "blake3:" + "0" * 64, "0644", "Lg=="]
    )
    | JSON,
)


@MANY
@given(
    mutations(MANIFEST)
    | st.lists(ODD_FIELDS, max_size=4).map(
        lambda rows: b"\n".join(json.dumps(row).encode() for row in ({"format": 1}, *rows))
    )
)
def test_manifests(tally: Tally, data: bytes) -> None:
    """A manifest is read, or Damaged; what is read leads nowhere else."""
    tally("fuzzed inputs")
    with contextlib.suppress(Damaged, UnsupportedFormat):
        for path, entry in decode_manifest({b"manifest": data}).entries.items():
            assert path == entry.path == parse_path(path)
            assert entry.mode is None or 0 <= entry.mode <= 0o7777
            assert (entry.kind == "file") == (entry.size is not None and entry.digest is not None)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"size":' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"NaN",
        b'"' + b"x" * 4_000_000,
    ],
)
def test_manifests_of_bombs(line: bytes) -> None:
    """X06: depth, digits, length: refused in a line."""
    with pytest.raises(Damaged):
        decode_manifest({b"manifest": b'{"format": 1}\n' + line})


MESSAGE = """\
lr 3e-4

Backup: 2
Time-Ns: 1795500000000000000
Host-Id: 0b4e7fa8c1d2e3f4
Project: "/home/lin/digits"
Status: done
Files: 2008
Bytes: 1077936128
Parent: base:1
Command: ["python", "train.py"]
Params: {"lr": 0.0003}
Metrics: {"accuracy": 0.97}
"""
COMMIT = b"tree " + b"ab" * 20 + b"\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\n" + MESSAGE.encode()


@MANY
@given(mutations(COMMIT))
def test_commits(tally: Tally, raw: bytes) -> None:
    """A commit that is no backup is a ValueError, which `log` names and passes by."""
    tally("fuzzed inputs")
    with contextlib.suppress(ValueError):
        facts = decode_message(parse_commit(raw)[1])
        assert isinstance(facts.params, dict) and isinstance(facts.number, int)


@MANY
@given(mutations(b"100644 a\0" + b"1" * 20 + b"40000 b\0" + b"2" * 20 + b"120000 c\0" + b"3" * 20))
def test_trees(tally: Tally, data: bytes) -> None:
    """Rows, or ValueError; what our own writer takes back is what git would have written."""
    tally("fuzzed inputs")
    with contextlib.suppress(ValueError):
        rows = decode_tree(data)
        assert all(b"/" not in row.name and row.name for row in rows)
        encode_tree(rows)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stem of a small pack."""
    folder = tmp_path_factory.mktemp("pack")
    with PackWriter(str(folder), str(folder)) as writer:
        for data in (b"a" * 300, b"b", b"", os.urandom(200)):
            writer.add(pack_object(Kind.BLOB, data))
        (name,) = writer.finish()
    return folder / name


@MANY
@given(st.data())
def test_packs_and_their_indexes(pack: Path, tmp_path: Path, tally: Tally, data: st.DataObject) -> None:
    """Every object that comes out has the bytes that its id says; all else is PackDamaged."""
    tally("fuzzed inputs")
    stem = tmp_path / "pack-x"
    which = data.draw(st.sampled_from([".pack", ".idx"]))
    for ending in (".pack", ".idx"):
        real = Path(f"{pack}{ending}").read_bytes()
        stem.with_suffix(ending).write_bytes(data.draw(mutations(real)) if ending == which else real)
    with contextlib.suppress(PackDamaged, KeyError):
        assert list(PackIndex(f"{stem}.idx"))
        found = Pack(str(stem))
        for entry in found.entries():
            with contextlib.suppress(PackDamaged):
                found.read(entry)


@MANY
@given(st.data())
def test_packs_from_elsewhere(pack: Path, tmp_path: Path, tally: Tally, data: st.DataObject) -> None:
    """As a stream: whole objects within the limit, or PackDamaged."""
    tally("fuzzed inputs")
    file = tmp_path / "history.pack"
    file.write_bytes(data.draw(mutations(pack.with_suffix(".pack").read_bytes())))
    with open(file, "rb") as source, contextlib.suppress(PackDamaged):
        for _, content in unpack(source, 1000):
            assert len(content) <= 1000


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a backup."""
    tree = (
        Tree(tmp_path_factory.mktemp("fuzz") / "project").file("train.py", b"1").file("w.bin", size=1 << 20)
    )
    api.backup(directory=tree.root, name="base")
    return tree.root


def opened(project: Path) -> store.Store:
    """Its store."""
    return store.open_store(str(project / "tensortime"))


READERS: dict[str, tuple[Callable[[Path], str], Callable[[Path], object]]] = {
    "withdrawn": (
        lambda project: withdrawn_file(str(project / "tensortime")),
        lambda project: read_withdrawn(str(project / "tensortime")),
    ),
    "condemned": (
        lambda project: condemned_file(str(project / "tensortime")),
        lambda project: read_condemned(str(project / "tensortime")),
    ),
    "hardlinks": (
        lambda project: hardlinks.watch_file(opened(project)),
        lambda project: hardlinks.read_watched(hardlinks.watch_file(opened(project))),
    ),
    "verify": (
        lambda project: position_file(opened(project)),
        lambda project: read_position(opened(project)),
    ),
    "stat cache": (
        lambda project: str(project / "tensortime" / ".cache" / statcache.cache_name(str(project))),
        lambda project: statcache.load_cache(
            str(project / "tensortime" / ".cache" / statcache.cache_name(str(project))), "id", {}
        ),
    ),
}
REAL = (
    b'{"objects": {"blake3:%s": {"why": "damaged", "since": 5, "file": [1, 2, 3]}}, "packs": {}, "copies": {}, "blobs": [], "digests": [], "after": "x"}'
    % (b"0" * 64)
)


@pytest.mark.parametrize("which", READERS)
def test_small_files_of_a_store(which: str, project: Path, tally: Tally) -> None:
    """Whatever is in them, they are read as far as they make sense, or count as absent."""
    path_of, read = READERS[which]

    @SOME
    @given(mutations(REAL) | JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
    def any_content(data: bytes) -> None:
        tally("fuzzed inputs")
        path = path_of(project)
        Path(path).write_bytes(data)
        try:
            read(project)
        except TensorTimeError:
            pass
        finally:
            os.unlink(path)

    any_content()


def test_the_configuration_of_a_store(project: Path, tally: Tally) -> None:
    """Any bytes: it is ours again before git sees it, or the store is refused; the experiment is there."""
    path = project / "tensortime" / ".shadow" / "config"
    ours = path.read_bytes()

    @SOME
    @given(mutations(ours) | st.binary(max_size=200))
    def any_content(data: bytes) -> None:
        tally("fuzzed inputs")
        path.write_bytes(data)
        try:
            opened(project)
            assert path.read_bytes().startswith(ours.partition(b"\tid")[0][:20])
            assert b"hooksPath = /dev/null" in path.read_bytes()
        except TensorTimeError:
            pass
        finally:
            for name in os.listdir(path.parent):
                if "foreign" in name:
                    os.unlink(path.parent / name)
            path.write_bytes(ours)

    any_content()
    assert [one.name for one in api.log(directory=project).experiments] == ["base"]


def test_the_settings_of_a_project(tmp_path: Path, tally: Tally) -> None:
    """Any tensortime.toml: settings, or BadConfig."""
    real = b'backup_dir = "x"\nlarge_size = "4 MiB"\nignore = ["a"]\nmax_store = "1 GB"\nlang = "zh"\nstrict = true\n'

    @SOME
    @given(mutations(real) | st.binary(max_size=80))
    def any_content(data: bytes) -> None:
        tally("fuzzed inputs")
        (tmp_path / "tensortime.toml").write_bytes(data)
        with contextlib.suppress(BadConfig):
            load_config(str(tmp_path))

    any_content()


KNOWN_FACTS = st.sampled_from(
    [
        "command",
        "cwd",
        "pid",
        "python",
        "platform",
        "host",
        "machine",
        "launch",
        "environment",
        "trackers",
        "notebook",
        "git",
        "parent",
        "added",
        "added_by",
        "ignored",
        "skipped",
        "changed",
        "outside",
        "nested",
        "purged",
        "packages",
        "result",
    ]
)


def test_what_a_run_recorded(tmp_path: Path, tally: Tally) -> None:
    """Any run.json: `show`, `diff` and `restore` say what they can, in both languages, and never end in a traceback."""
    tree = Tree(tmp_path / "project").file("train.py", b"1")
    api.backup(directory=tree.root, name="base")
    count = 0

    @settings(FUZZ, max_examples=30)
    @given(st.dictionaries(KNOWN_FACTS, JSON, max_size=8) | JSON)
    def any_facts(facts: object) -> None:
        nonlocal count
        count += 1
        name = f"forged{count}"
        forge(tree.root, name, [], files={b"train.py": b"2"}, meta={b"run.json": json.dumps(facts).encode()})
        shown = api.show(name, directory=tree.root)
        for tr in (ENGLISH, Translator("zh")):
            assert render.show_text(shown, tr)
        assert documents.show_json(shown)
        documents.diff_json(api.diff("base", name, directory=tree.root))
        api.restore(name, tmp_path / name, directory=tree.root)

    any_facts()
    tally("fuzzed inputs", count)

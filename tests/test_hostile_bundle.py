"""A file to import comes from somebody else: it can run nothing, write nowhere else, fill no memory. CASES S04, S05, S10, S11."""

import contextlib
import io
import json
import os
import random
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from builders import Tree
from conftest import Tally
from round_trips import THRESHOLD

from tensortime import api, fsops, importing, portable, snapshot, unpacked
from tensortime.errors import BadBundle, TargetExists, TensorTimeError
from tensortime.packs import (
    FOLDER,
    Kind,
    Packed,
    PackWriter,
    TreeEntry,
    encode_commit,
    encode_tree,
    entry_header,
    object_id,
    sha1,
)
from tensortime.trailers import BackupFacts, encode_message

Object = tuple[Kind, bytes]
FILE = 0o100644


def pack_of(objects: Iterable[tuple[int, bytes]], *, sizes: Mapping[int, int] | None = None) -> bytes:
    """A pack of these objects; `sizes`: what some of them state instead of their size."""
    listed = list(objects)
    body = b"PACK" + struct.pack(">II", 2, len(listed))
    for number, (kind, data) in enumerate(listed):
        body += entry_header(kind, (sizes or {}).get(number, len(data))) + zlib.compress(data)
    return body + sha1(body).digest()


class Forgery:
    """An experiment as somebody wants it to be, checked by nobody."""

    def __init__(self) -> None:
        self.name: object = "theirs"
        self.format: object = 1
        self.tags: list[object] = ["fine", "../x", 7]
        self.rows: list[TreeEntry] = []
        self.blobs: list[bytes] = []
        self.trees: list[bytes] = []
        self.manifest: list[Mapping[str, object]] = []
        self.members: dict[str, bytes] = {}
        self.shown: dict[str, bytes] = {}
        self.facts = BackupFacts("", 1, 1_800_000_000_000_000_000 - 10**17, "host", "/theirs", "done", 1, 1)
        self.raw_tree: bytes | None = None
        self.change_pack: Callable[[list[Object]], bytes] = pack_of
        self.change_commit: Callable[[bytes], bytes] = lambda data: data

    def file(self, name: bytes, data: bytes, mode: int = FILE) -> "Forgery":
        """A small file at the top."""
        self.blobs.append(data)
        self.rows.append(TreeEntry(mode, name, object_id(Kind.BLOB, data)))
        return self

    def large(
        self, path: str, data: bytes, *, size: int | None = None, member: str | None = None
    ) -> "Forgery":
        """A large file; its manifest may lie about the size."""
        digest = "blake3:" + blake3(data).hexdigest()
        self.manifest.append({"path": path, "kind": "file", "size": size or len(data), "digest": digest})
        self.members[member or f"objects/{digest[7:]}"] = self.shown[path] = data
        return self

    def shows(self, row: TreeEntry) -> bool:
        """Whether project/ has a regular file for it."""
        return row.mode in (FILE, 0o100755)

    def bytes_of(self, row: TreeEntry) -> bytes:
        """The bytes of a small file."""
        return next(data for data in self.blobs if object_id(Kind.BLOB, data) == row.oid)

    def write(self, path: Path) -> Path:
        """The file, as a zip or tar."""
        lines = [{"format": 1}, *sorted(self.manifest, key=lambda row: str(row["path"]).encode())]
        meta = {
            b"manifest": b"".join(json.dumps(line).encode() + b"\n" for line in lines),
            b"exclude": b"",
            b"run.json": b"{}\n",
        }
        below = encode_tree(TreeEntry(FILE, name, object_id(Kind.BLOB, data)) for name, data in meta.items())
        rows = [*self.rows, TreeEntry(FOLDER, b".tensortime", object_id(Kind.TREE, below))]
        top = self.raw_tree or encode_tree(rows)
        commit = encode_commit(object_id(Kind.TREE, top), [], 1_700_000_000, encode_message(self.facts))
        commit = self.change_commit(commit)
        objects: list[Object] = [(Kind.COMMIT, commit)]
        objects += [(Kind.TREE, data) for data in (top, below, *self.trees)]
        objects += [(Kind.BLOB, data) for data in dict.fromkeys((*self.blobs, *meta.values()))]
        header = {
            "format": self.format,
            "experiment": self.name,
            "commit": object_id(Kind.COMMIT, commit).hex(),
            "tags": self.tags,
        }
        members = {
            "export.json": json.dumps(header).encode(),
            "history.pack": self.change_pack(objects),
            **{f"project/{row.name.decode()}": self.bytes_of(row) for row in self.rows if self.shows(row)},
            **{f"project/.tensortime/{name.decode()}": data for name, data in meta.items()},
            **{
                f"project/{row['path']}": self.shown[str(row["path"])]
                for row in self.manifest
                if row["path"] in self.shown
            },
            **self.members,
        }
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
                for name, data in members.items():
                    packed.writestr(name, data)
        else:
            with tarfile.open(path, "w") as tarred:
                for name, data in members.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tarred.addfile(info, io.BytesIO(data))
        return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one experiment of its own."""
    tree = Tree(tmp_path / "project").file("train.py", b"1")
    api.backup(directory=tree.root, name="mine")
    return tree.root


def refused(project: Path, file: Path, *, says: str = ".") -> None:
    """The file is refused in words, nothing of it is published, and what was there before is whole."""
    before = everything(project)
    with pytest.raises(TensorTimeError, match=says):
        portable.import_file(file, directory=project)
    assert [one.name for one in api.log(directory=project).experiments] == ["mine"]
    assert everything(project) == before, "a refused file leaves nothing behind"


def everything(project: Path) -> list[str]:
    """All files of the project and its store."""
    return sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(project)
        for name in names
        if ".cache" not in folder
    )


def test_an_honest_forgery_is_taken(project: Path, tmp_path: Path) -> None:
    """What the other tests change is all that is wrong with it; a tag that can be none is left out."""
    for kind in ("zip", "tar"):
        forgery = Forgery().file(b"train.py", b"print(2)").large("data.bin", b"d" * THRESHOLD)
        forgery.name = f"by-{kind}"
        forgery.facts = BackupFacts(kind, 1, 1_700_000_000_000_000_000, "host", "/theirs", "done", 2, 1)
        got = portable.import_file(forgery.write(tmp_path / f"f.{kind}"), directory=project)
        assert got.experiment == f"by-{kind}"
        restored = api.restore(got.experiment, tmp_path / kind, directory=project)
        assert (Path(restored.path) / "data.bin").read_bytes() == b"d" * THRESHOLD
    assert {one.tags for one in api.log(directory=project).experiments} == {(), ("fine",)}


BAD_PATHS = [
    "../x",
    "/abs",
    "a/../../x",
    "a//b",
    ".",
    "",
    "a/.",
    ".git/hooks/post-checkout",
    "sub/.git/config",
    ".tensortime/run.json",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_of_a_manifest_stay_inside(project: Path, tmp_path: Path, path: str) -> None:
    """S04: refused before anything is written."""
    refused(project, Forgery().large(path, b"x").write(tmp_path / "f.zip"))


@pytest.mark.parametrize("name", [b".git", b".GIT", b"git~1", b".git "])
def test_a_tree_holds_no_git_folder(project: Path, tmp_path: Path, name: bytes) -> None:
    """A checkout would make a repository of it, or fail for the whole experiment."""
    refused(project, Forgery().file(name, b"[core]").write(tmp_path / "f.zip"), says="cannot be imported")


@pytest.mark.parametrize(
    "rows", [b"100644 ..\0", b"100644 a/b\0", b"160000 sub\0", b"100664 a\0", b"40000 a\0"]
)
def test_rows_of_a_tree_are_ours(project: Path, tmp_path: Path, rows: bytes) -> None:
    """S11: names that lead elsewhere, submodules, modes that git does not write, a folder that is not there."""
    forgery = Forgery().file(b"a", b"1")
    forgery.raw_tree = rows + object_id(Kind.BLOB, b"1")
    refused(project, forgery.write(tmp_path / "f.zip"))


def test_no_name_stands_twice_in_a_folder(project: Path, tmp_path: Path) -> None:
    """S11: two readers would see two different files."""
    forgery = Forgery().file(b"a", b"1")
    row = b"100644 a\0" + object_id(Kind.BLOB, b"1")
    forgery.raw_tree = row + row
    refused(project, forgery.write(tmp_path / "f.zip"), says="same name twice")


def test_a_link_and_what_lies_below_it(project: Path, tmp_path: Path) -> None:
    """S05: `a -> /victim` and `a/x` in the manifest."""
    victim = tmp_path / "victim"
    victim.mkdir()
    forgery = Forgery().file(b"a", os.fsencode(victim), 0o120000).large("a/x", b"x")
    refused(project, forgery.write(tmp_path / "f.zip"), says="below a file")
    assert not list(victim.iterdir())


@pytest.mark.parametrize("name", ["../../x", "-x", "", "a b", "x.lock", "CON", 7, None, "a" * 300])
def test_names_are_those_of_experiments(project: Path, tmp_path: Path, name: object) -> None:
    """S01: a name becomes a ref and a folder."""
    forgery = Forgery()
    forgery.name = name
    refused(project, forgery.write(tmp_path / "f.zip"), says="impossible name")


def test_tags_are_few(project: Path, tmp_path: Path) -> None:
    """Each becomes a file that is made durable: of millions nobody would see the end."""
    forgery = Forgery()
    forgery.tags = [f"t{number}" for number in range(1001)]
    refused(project, forgery.write(tmp_path / "f.zip"), says="too many tags")


def test_archives_that_export_would_not_write(project: Path, tmp_path: Path) -> None:
    """Members packed in another way, and a table of contents that lies outside of the file, are refused in words."""
    honest = Forgery().file(b"a", b"1").write(tmp_path / "f.zip")
    for kind in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        other = tmp_path / f"{kind}.zip"
        with zipfile.ZipFile(honest) as source, zipfile.ZipFile(other, "w", kind) as packed:
            for name in source.namelist():
                packed.writestr(name, source.read(name))
        refused(project, other, says="packed in a way")
    data = bytearray(honest.read_bytes())
    end = data.rfind(b"PK\5\6")
    data[end + 16 : end + 20] = b"\xff\xff\xff\x7f"
    (tmp_path / "far.zip").write_bytes(data)
    refused(project, tmp_path / "far.zip", says="cannot be read")


def test_other_formats_are_for_other_versions(project: Path, tmp_path: Path) -> None:
    """Refused instead of guessed."""
    forgery = Forgery()
    forgery.format = 2
    refused(project, forgery.write(tmp_path / "f.zip"), says="format 2")


def test_a_backup_of_the_far_future_would_be_the_newest_for_ever(project: Path, tmp_path: Path) -> None:
    """Later backups would have to count on from there."""
    forgery = Forgery()
    forgery.facts = BackupFacts("", 1, 1 << 62, "host", "/theirs", "done", 1, 1)
    refused(project, forgery.write(tmp_path / "f.zip"), says="time is impossible")


def test_large_files_are_what_their_manifest_says(project: Path, tmp_path: Path) -> None:
    """Longer, shorter, other bytes, or not there at all."""
    for number, forgery in enumerate(
        (
            Forgery().large("x", b"x" * 100, size=99),
            Forgery().large("x", b"x" * 100, size=101),
            Forgery().large("x", b"x" * 100, member="elsewhere"),
        )
    ):
        if number == 2:
            forgery.shown.clear()
        refused(project, forgery.write(tmp_path / f"{number}.zip"), says="manifest says|lacks the bytes of x")
    forgery = Forgery().large("x", b"x" * 100)
    forgery.members = dict.fromkeys(forgery.members, b"y" * 100)
    refused(project, forgery.write(tmp_path / "other.zip"), says="other bytes")


def test_a_bomb_stops_at_the_size_that_was_promised(project: Path, tmp_path: Path) -> None:
    """64 MiB of zeros in 64 kB of zip are never unpacked."""
    forgery = Forgery().large("x", b"x" * 100)
    (name,) = forgery.members
    forgery.members = {}
    file = forgery.write(tmp_path / "f.zip")
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as packed, packed.open(name, "w") as member:
        for _ in range(4):
            member.write(bytes(16 << 20))
    refused(project, file, says="longer than its manifest says")


def test_objects_of_a_pack_are_whole_and_of_the_stated_size(project: Path, tmp_path: Path) -> None:
    """S11: deltas, tags, sizes that lie, a size beyond reason, a wrong checksum, bytes behind the end."""
    changes: list[Callable[[list[Object]], bytes]] = [
        lambda objects: pack_of([*objects, (6, b"delta")]),
        lambda objects: pack_of([*objects, (7, b"delta")]),
        lambda objects: pack_of([*objects, (4, b"object")]),
        lambda objects: pack_of(objects, sizes={0: 1}),
        lambda objects: pack_of(objects, sizes={0: 10_000}),
        lambda objects: pack_of(objects, sizes={0: 1 << 50}),
        lambda objects: pack_of(objects, sizes={0: 1 << 90}),
        lambda objects: pack_of(objects)[:-1] + b"?",
        lambda objects: pack_of(objects) + b"more",
        lambda objects: pack_of(objects)[:-30],
        lambda objects: pack_of(reversed(objects)),
        lambda objects: pack_of([*objects, (Kind.BLOB, b"superfluous")]),
        lambda objects: pack_of(objects[1:]),
        lambda objects: pack_of(objects[:-1]),
        lambda objects: b"PACK" + struct.pack(">II", 2, 1 << 31),
        lambda objects: b"PACK",
        lambda objects: b"",
    ]
    for number, change in enumerate(changes):
        forgery = Forgery().file(b"train.py", b"1")
        forgery.change_pack = change
        refused(project, forgery.write(tmp_path / f"{number}.zip"))


def test_folders_that_hold_each_other_many_times(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty trees make a million million paths: it is given up at the first few."""
    monkeypatch.setattr(unpacked, "MOST_PATHS", 10_000)
    forgery = Forgery().file(b"a", b"1")
    data = encode_tree([TreeEntry(FILE, b"a", object_id(Kind.BLOB, b"1"))])
    for _ in range(40):
        forgery.trees.append(data)
        oid = object_id(Kind.TREE, data)
        data = encode_tree([TreeEntry(FOLDER, b"l", oid), TreeEntry(FOLDER, b"r", oid)])
    forgery.trees.append(data)
    forgery.rows.append(TreeEntry(FOLDER, b"bomb", object_id(Kind.TREE, data)))
    refused(project, forgery.write(tmp_path / "f.zip"), says="too many paths")


def test_a_history_stops_where_the_room_ends(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when all of it is written: a small archive may hold a pack of any size, on the disk that a training needs."""
    forgery, added = Forgery(), list[int]()
    for number in range(20):
        forgery.file(b"%02d" % number, random.Random(number).randbytes(10_000))

    class Counting(PackWriter):
        def add(self, packed: Packed) -> bool:
            added.append(1)
            return super().add(packed)

    monkeypatch.setattr(importing, "PackWriter", Counting)
    monkeypatch.setattr(importing, "CODE_BYTES", 50_000)
    monkeypatch.setattr(fsops, "free_space", lambda _: (1 << 20, 1 << 20))
    refused(project, forgery.write(tmp_path / "f.zip"), says="no room for history.pack")
    assert len(added) < 12


def test_a_history_has_a_size(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What must stay in memory until it is checked is bounded."""
    monkeypatch.setattr(unpacked, "LARGEST_KEPT", 100)
    refused(project, Forgery().file(b"a", b"1").write(tmp_path / "f.zip"), says="too large")


def test_what_a_person_reads_is_what_a_restore_makes(project: Path, tmp_path: Path) -> None:
    """project/ with another file, other bytes, or one file less than the history: refused, as somebody reads it first."""
    changes: list[dict[str, bytes]] = [
        {"project/train.py": b"print('kind')"},
        {"project/more.py": b""},
        {"project/data.bin": b"e" * 100},
    ]
    for number, members in enumerate(changes):
        forgery = Forgery().file(b"train.py", b"print('evil')").large("data.bin", b"d" * 100)
        forgery.members |= members
        refused(
            project, forgery.write(tmp_path / f"{number}.zip"), says="history holds|in no backup|other bytes"
        )


SHADOWS = {
    "a kind file first": [("project/train.py", tarfile.REGTYPE, b"kind")],
    "a link last": [("project/train.py", tarfile.SYMTYPE, b"")],
    "another spelling": [("./project/train.py", tarfile.REGTYPE, b"kind")],
    "an absolute one": [("/project/train.py", tarfile.REGTYPE, b"kind")],
    "a detour": [("x/../project/train.py", tarfile.REGTYPE, b"kind")],
    "for Windows": [("project\\train.py", tarfile.REGTYPE, b"kind")],
    "through a link": [("x", tarfile.SYMTYPE, b""), ("x/train.py", tarfile.REGTYPE, b"kind")],
}


@pytest.mark.parametrize("way", sorted(SHADOWS))
def test_no_other_member_shows_in_place_of_a_file(project: Path, tmp_path: Path, way: str) -> None:
    """Unpacked by others, the file that a person reads would be another one than that which is imported."""
    file = Forgery().file(b"train.py", b"print('evil')").write(tmp_path / "f.tar")
    with tarfile.open(file, "a") as tarred:
        for name, kind, data in SHADOWS[way]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "project", len(data)
            tarred.addfile(info, io.BytesIO(data))
    refused(project, file, says="twice|another name|below a file")


def test_no_member_of_a_zip_stands_twice(project: Path, tmp_path: Path) -> None:
    """`unzip -n` and what browsers show take the first, others the last."""
    file = Forgery().file(b"train.py", b"print('evil')").write(tmp_path / "f.zip")
    with zipfile.ZipFile(file, "a") as packed, pytest.warns(UserWarning, match="Duplicate name"):
        packed.writestr("project/train.py", "print('kind')")
    refused(project, file, says="twice")


def test_commits_are_as_we_write_them(project: Path, tmp_path: Path) -> None:
    """git has to read them later, for every list and every gc, and is not as forgiving as we are."""
    changes: list[Callable[[bytes], bytes]] = [
        lambda data: data.replace(b"author ", b"writer "),
        lambda data: data.replace(b"+0000\ncommitter", b"+0000\nencoding latin-1\ncommitter"),
        lambda data: data.replace(b"tree ", b"tree  ", 1),
        lambda data: data.replace(b"<tensortime@localhost>", b"tensortime@localhost"),
        lambda data: re.sub(rb"^(tree .*\n)(author .*\n)", rb"\2\1", data),
        lambda data: re.sub(rb"committer.*", b"committer", data),
        lambda data: re.sub(rb" \d+ \+0000", b" 99999999999999999999 +0000", data),
    ]
    for number, change in enumerate(changes):
        forgery = Forgery().file(b"train.py", b"1")
        forgery.change_commit = change
        refused(project, forgery.write(tmp_path / f"{number}.zip"), says="cannot be imported")


@pytest.mark.parametrize("field", ["number", "time_ns", "files", "size", "edited_ns"])
@pytest.mark.parametrize("count", [-1, 1 << 63, 10**400])
def test_counts_are_possible(project: Path, tmp_path: Path, field: str, count: int) -> None:
    """A size of 400 digits would be published, and fail every list from then on."""
    forgery = Forgery().file(b"a", b"1")
    forgery.facts = replace(forgery.facts, **{field: count})  # type: ignore[arg-type]
    refused(project, forgery.write(tmp_path / "f.zip"), says="beyond all measure|cannot be imported")


def test_a_note_has_an_end(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every list of experiments reads it."""
    monkeypatch.setattr(unpacked, "LARGEST_COMMIT", 1000)
    forgery = Forgery().file(b"a", b"1")
    forgery.facts = replace(forgery.facts, note="n" * 1000)
    refused(project, forgery.write(tmp_path / "f.zip"), says="too long a note")


@pytest.mark.parametrize("target", ["", "AAAA", "YQBi"])
def test_links_lead_somewhere(project: Path, tmp_path: Path, target: str) -> None:
    """To no path, or to one with a NUL, the system makes no link."""
    forgery = Forgery()
    forgery.manifest.append({"path": "link", "kind": "symlink", "target_base64": target})
    refused(project, forgery.write(tmp_path / "f.zip"), says="leads to no path")


def test_no_link_has_a_name_that_git_refuses(project: Path, tmp_path: Path) -> None:
    """The whole checkout would fail."""
    forgery = Forgery().file(b".gitmodules", b"elsewhere", 0o120000)
    refused(project, forgery.write(tmp_path / "f.zip"), says="not ours")


def test_a_history_that_fits_leaves_room_for_itself(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is staged its bytes are gone from what is free: they do not count twice."""
    forgery = Forgery().file(b"a", random.Random(1).randbytes(60_000)).large("x.bin", b"x" * 10_000)
    monkeypatch.setattr(importing, "CODE_BYTES", 0)
    free = iter([100_000, 40_000])
    monkeypatch.setattr(snapshot, "kept_free", lambda total: 0)
    monkeypatch.setattr(fsops, "free_space", lambda _: (next(free), 1 << 40))
    assert portable.import_file(forgery.write(tmp_path / "f.zip"), directory=project).experiment == "theirs"


def test_members_beside_those_that_are_needed_are_never_written(project: Path, tmp_path: Path) -> None:
    """S10: `..`, absolute names, links, devices, hard links to links: nothing in the file decides where bytes go."""
    file = Forgery().file(b"a", b"1").write(tmp_path / "f.tar")
    with tarfile.open(file, "a") as tarred:
        for name, kind, target in (
            ("../escaped", tarfile.REGTYPE, ""),
            ("/escaped", tarfile.REGTYPE, ""),
            ("elsewhere", tarfile.SYMTYPE, "/etc"),
            ("elsewhere-too/passwd", tarfile.REGTYPE, ""),
            ("project/link", tarfile.SYMTYPE, "/etc"),
            ("project/hard", tarfile.LNKTYPE, "/etc/passwd"),
            ("project/null", tarfile.CHRTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tarred.addfile(info, io.BytesIO())
    before = set(os.listdir(tmp_path))
    assert portable.import_file(file, directory=project).experiment == "theirs"
    assert set(os.listdir(tmp_path)) == before


def test_a_link_in_place_of_a_large_file(project: Path, tmp_path: Path) -> None:
    """S06: what a link in the file points at is not read."""
    forgery = Forgery().large("x", b"root\n")
    forgery.members = forgery.shown = {}
    file = forgery.write(tmp_path / "f.zip")
    with zipfile.ZipFile(file, "a") as packed:
        info = zipfile.ZipInfo("project/x")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, "/etc/hostname")
    refused(project, file, says="lacks the bytes of x")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_flips_and_cuts(project: Path, tmp_path: Path, kind: str, tally: Tally) -> None:
    """Any byte changed, any length cut: refused in words, or the very experiment that was sent."""
    sent = Forgery().file(b"train.py", b"print(2)" * 50).large("data.bin", b"d" * 5000)
    good = sent.write(tmp_path / f"f.{kind}").read_bytes()
    chance, tried = random.Random(kind), 150
    for number in range(tried):
        data = bytearray(good)
        if number % 3:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        else:
            del data[chance.randrange(len(data)) :]
        (tmp_path / f"x.{kind}").write_bytes(data)
        with contextlib.suppress(BadBundle, TargetExists, TensorTimeError):
            got = portable.import_file(tmp_path / f"x.{kind}", directory=project)
            assert api.read_file(got.experiment, "train.py", directory=project)[0] == b"print(2)" * 50
            data_bin = api.read_file(got.experiment, "data.bin", directory=project)[1]
            assert data_bin is not None
            assert os.read(data_bin, 6000) == b"d" * 5000
            os.close(data_bin)
    tally("flips", tried)

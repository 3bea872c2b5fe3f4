"""packs.py against git itself: what we write git reads, byte for byte as it would have written it."""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pack_store import Store, blob, noise, sound_store, text

from tensortime import packs
from tensortime.packs import Kind, TreeEntry
from tensortime.packs import pack_object as pack

FILE, SCRIPT, LINK, FOLDER = 0o100644, 0o100755, 0o120000, 0o40000
ROOT = Path(packs.__file__).parent.parent
EDGE_SIZES = [0, 1, 15, 16, 17, 2047, 2048, 8192, 8193, 65535, 65536, 1 << 20]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that git judges at the end."""
    with sound_store(tmp_path) as made:
        yield made


# Objects


@pytest.mark.parametrize("size", EDGE_SIZES)
def test_git_reads_a_blob_of_any_size_that_is_text_noise_or_zeros(store: Store, size: int) -> None:
    """The sizes at which an entry header, the sample or a stored block changes shape."""
    blobs = {packed.oid: data for data in (text(size), noise(size), bytes(size)) for packed in [blob(data)]}
    store.publish(*(blob(data) for data in blobs.values()))
    for oid, data in blobs.items():
        assert store.read(Kind.BLOB, oid) == data


@pytest.mark.parametrize("kind", Kind)
def test_an_id_is_the_one_that_git_gives(store: Store, kind: Kind) -> None:
    data = text(3000)
    arguments = ("hash-object", "--literally", "--stdin", "-t", kind.name.lower())
    assert packs.object_id(kind, data).hex() == store.git(*arguments, stdin=data).stdout.decode().strip()


@pytest.mark.parametrize("view", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("data", [noise(50_000), text(50_000), b""], ids=["noise", "text", "empty"])
def test_every_kind_of_buffer_gives_the_same_object(data: bytes, view: type) -> None:
    assert pack(Kind.BLOB, view(data)) == blob(data)


def test_what_does_not_compress_is_stored_as_it_is() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("arr_0.npy", noise(30_000).hex())
    for data in (noise(100), noise(4096), noise(300_000), archive.getvalue()):
        _, stream = blob(data).entry
        assert data[:4000] in stream, "not level 0"
        assert zlib.decompress(stream) == data


def test_an_entry_is_never_much_longer_than_its_data() -> None:
    for size in (*range(40), *EDGE_SIZES):
        for data in (noise(size), text(size), bytes(size)):
            assert sum(map(len, blob(data).entry)) <= len(data) + 32 + len(data) // 1000


@pytest.mark.parametrize("size", [0, 1, 65_534, 65_535, 65_536, 131_070, 200_000])
def test_stored_blocks_are_what_zlib_reads(size: int) -> None:
    """At the edges of a block, and without any byte; no longer than zlib's own."""
    stream = packs.stored(noise(size))
    assert zlib.decompress(stream) == noise(size)
    assert len(stream) <= len(zlib.compress(noise(size), 0))


def test_one_incompressible_part_in_the_middle_does_not_decide_for_the_whole() -> None:
    notebook = text(100_000) + noise(60_000) + text(100_000)
    assert len(blob(notebook).entry[1]) < len(notebook) * 2 // 3


def test_without_isal_zlib_does_the_work(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    packs._codec.cache_clear()
    try:
        objects = [blob(text(20_000)), blob(noise(20_000)), blob(b"")]
    finally:
        packs._codec.cache_clear()
    store.publish(*objects)
    assert store.read(Kind.BLOB, objects[0].oid) == text(20_000)
    assert len(objects[0].entry[1]) < 10_000


# Trees


def test_git_finds_the_sort_order_of_a_tree_right(store: Store) -> None:
    """A folder sorts as if its name ended in a slash, which moves it behind `a-b` and `a.b`."""
    leaf, empty = blob(b"x"), pack(Kind.TREE, b"")
    entries = [TreeEntry(FOLDER, name, empty.oid) for name in (b"a", b"b.d", b"\xff")]
    entries += [
        TreeEntry(FILE, name, leaf.oid) for name in (b"a0", b"a.b", b"a-b", b"aa", b"A", b"b", b"\xfe")
    ]
    entries += [TreeEntry(SCRIPT, b"run me\n.sh", leaf.oid), TreeEntry(LINK, b"link", leaf.oid)]
    tree = pack(Kind.TREE, packs.encode_tree(entries))
    store.publish(leaf, empty, tree)
    listing = [
        b"%06o %s %s\t%s\0" % (mode, b"tree" if mode == FOLDER else b"blob", oid.hex().encode(), name)
        for mode, name, oid in entries
    ]
    assert tree.oid.hex() == store.git("mktree", "-z", stdin=b"".join(listing)).stdout.decode().strip()
    names = [entry.name for entry in packs.decode_tree(store.read(Kind.TREE, tree.oid))]
    assert names.index(b"a-b") < names.index(b"a.b") < names.index(b"a") < names.index(b"a0")


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: name not in packs.NO_NAMES and not {*name} & {*b"/\0"}
)
ENTRIES = st.builds(
    TreeEntry, st.sampled_from([FILE, SCRIPT, LINK, FOLDER]), NAMES, st.binary(min_size=20, max_size=20)
)


@given(st.lists(ENTRIES, unique_by=lambda entry: entry.name))
def test_a_tree_comes_back_from_its_bytes(entries: list[TreeEntry]) -> None:
    data = packs.encode_tree(entries)
    decoded = packs.decode_tree(data)
    assert sorted(decoded) == sorted(entries)
    assert packs.encode_tree(reversed(decoded)) == data


ODD_NAMES = [TreeEntry(FILE, name, bytes(20)) for name in (b"", b".", b"..", b"a/b", b"a\0b")]
ODD_ROWS = [TreeEntry(0o100664, b"another mode", bytes(20)), TreeEntry(FILE, b"hex id", b"0" * 40)]


@pytest.mark.parametrize("entry", ODD_NAMES + ODD_ROWS)
def test_a_row_that_git_could_not_read_is_refused(entry: TreeEntry) -> None:
    with pytest.raises(ValueError, match="not a row"):
        packs.encode_tree([entry])


def test_a_file_and_a_folder_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        packs.encode_tree([TreeEntry(FILE, b"a", bytes(20)), TreeEntry(FOLDER, b"a", bytes(20))])


@pytest.mark.parametrize("part", [slice(1, None), slice(None, -1), slice(0, 40)])
def test_bytes_that_are_no_tree_are_refused(part: slice) -> None:
    whole = packs.encode_tree([TreeEntry(FILE, b"a", b"1" * 20), TreeEntry(FILE, b"b", b"2" * 20)])
    with pytest.raises(ValueError, match="not a git tree"):
        packs.decode_tree(whole[part])


# Commits


@pytest.mark.parametrize(
    "message", [b"", b"note", b"note\n", b"caf\xe9 \xff\xfe\n\nbody\n\n\nTime-Ns: 1\n", b"\n\nx"]
)
def test_a_commit_message_is_kept_to_the_byte(store: Store, message: bytes) -> None:
    tree = pack(Kind.TREE, b"")
    commit = pack(Kind.COMMIT, packs.encode_commit(tree.oid, [], 1_700_000_000, message))
    store.publish(tree, commit)
    assert store.read(Kind.COMMIT, commit.oid).split(b"\n\n", 1)[1] == message


def test_git_reads_parents_author_and_time(store: Store) -> None:
    tree = pack(Kind.TREE, b"")
    first, second = (pack(Kind.COMMIT, packs.encode_commit(tree.oid, [], n, b"")) for n in (1, 2))
    data = packs.encode_commit(tree.oid, [first.oid, second.oid], 1_700_000_000, b"both", b"A B <a@b>")
    both = pack(Kind.COMMIT, data)
    store.publish(tree, first, second, both)
    shown = store.git(
        "show", "-s", "--format=%T %P %an %ae %cn %ce %at %ct %s", both.oid.hex()
    ).stdout.decode()
    ids = f"{tree.oid.hex()} {first.oid.hex()} {second.oid.hex()}"
    assert shown == f"{ids} A B a@b A B a@b 1700000000 1700000000 both\n"


@pytest.mark.parametrize(
    ("seconds", "kept"), [(-5, 0), (0, 0), (2**34, 2**34), (2**63, 2**63 - 1), (2**70, 2**63 - 1)]
)
def test_a_wrong_clock_still_gives_a_commit_that_git_accepts(store: Store, seconds: int, kept: int) -> None:
    tree = pack(Kind.TREE, b"")
    commit = pack(Kind.COMMIT, packs.encode_commit(tree.oid, [], seconds, b"x"))
    store.publish(tree, commit)
    assert b"committer TensorTime <tensortime@localhost> %d +0000\n" % kept in store.read(
        Kind.COMMIT, commit.oid
    )
    store.git("update-ref", "refs/experiments/x", commit.oid.hex())
    assert store.git("for-each-ref", "--format=%(objectname)").stdout.decode().strip() == commit.oid.hex()


@pytest.mark.parametrize(
    "ident", [b"", b"A", b"<a@b>", b"A <a@b", b"A\nB <a@b>", b"A <a<b>", b"A<a@b>", b"A <a\0>"]
)
def test_an_identity_that_git_cannot_read_is_refused(ident: bytes) -> None:
    with pytest.raises(ValueError, match="could not read"):
        packs.encode_commit(bytes(20), [], 1, b"x", ident)


def test_a_nul_in_a_message_and_a_hex_id_are_refused() -> None:
    with pytest.raises(ValueError, match="could not read"):
        packs.encode_commit(bytes(20), [], 1, b"a\0b")
    with pytest.raises(ValueError, match="20 raw bytes"):
        packs.encode_commit(b"0" * 40, [], 1, b"x")


# Writing


def test_a_writer_counts_what_it_wrote_and_writes_it_once(store: Store) -> None:
    one, two = blob(b"one"), blob(b"two")
    with store.writer() as writer:
        assert [writer.add(one), writer.add(two), writer.add(one)] == [True, True, False]
        assert one.oid in writer
        assert blob(b"three").oid not in writer
        assert writer.objects == 2
        assert writer.bytes == sum(map(len, one.entry + two.entry))
        [name] = writer.finish()
    assert (store.packs / f"{name}.pack").stat().st_size == 12 + writer.bytes + 20
    assert one.oid in writer


def test_what_is_published_is_private_and_read_only(store: Store) -> None:
    [name] = store.publish(blob(b"x"))
    assert store.published() == [f"{name}.idx", f"{name}.pack"]
    assert {path.stat().st_mode & 0o777 for path in store.packs.iterdir()} == {0o400}
    assert store.publish() == [], "nothing added"
    assert store.published() == [f"{name}.idx", f"{name}.pack"]
    assert store.staged() == []


@pytest.mark.parametrize("limit", [1, 1000, 5000])
def test_packs_stay_within_the_limit_and_no_object_is_split(store: Store, limit: int) -> None:
    objects = [blob(noise(300 + n, n)) for n in range(40)] + [blob(noise(3000))]
    names = store.publish(*objects, *objects, limit=limit)
    held = {name: set(store.index(name)) for name in names}
    assert len(names) > 1
    assert sum(map(len, held.values())) == len(objects), "an object stands in two packs"
    assert set().union(*held.values()) == {packed.oid for packed in objects}
    for name, oids in held.items():
        assert (store.packs / f"{name}.pack").stat().st_size <= limit or len(oids) == 1


def test_data_is_durable_before_it_has_its_name_and_a_pack_has_it_before_its_idx(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    rename = os.replace

    def replace(source: str, target: str) -> None:
        steps.append(f"rename {Path(target).suffix}")
        rename(source, target)

    def sync(fd: int) -> None:
        steps.append("sync folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "sync file")

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "fsync", sync)
    with store.writer(limit=1000) as writer:
        writer.add(blob(noise(900, 1)))
        writer.add(blob(noise(900, 2)))
        writer.finish()
    renames = ["rename .pack"] * 2 + ["rename .idx"] * 2
    if sys.platform == "linux":
        assert steps == ["sync file"] * 4 + renames + ["sync folder"]


@pytest.mark.parametrize("gone", ["nothing", "idx", "content"])
def test_the_same_objects_again_leave_one_sound_pack(store: Store, gone: str) -> None:
    """The second writer mends what a crash between the two renames, or a bad disk, left of the first."""
    [name] = store.publish(blob(b"x"), blob(noise(5000)))
    if gone == "idx":
        (store.packs / f"{name}.idx").unlink()
    if gone == "content":
        (store.packs / f"{name}.pack").chmod(0o600)
        (store.packs / f"{name}.pack").write_bytes(b"PACK")
    assert store.publish(blob(b"x"), blob(noise(5000))) == [name]
    assert store.published() == [f"{name}.idx", f"{name}.pack"]
    assert store.staged() == []


def test_an_exception_in_the_with_block_removes_all_that_was_staged(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.writer(limit=1000) as writer:
        for n in range(5):
            writer.add(blob(noise(900, n)))
        raise KeyboardInterrupt
    assert store.published() == store.staged() == []


def test_abort_leaves_nothing_and_ends_the_writer(store: Store) -> None:
    writer = store.writer(limit=1000)
    packed = blob(noise(900))
    writer.add(packed)
    writer.add(blob(noise(900, 1)))
    assert store.published() == [], "visible before finish"
    assert store.staged() != []
    writer.abort()
    writer.abort()
    assert store.published() == store.staged() == []
    assert packed.oid not in writer
    with pytest.raises(ValueError, match="finished or aborted"):
        writer.add(packed)
    with pytest.raises(ValueError, match="finished or aborted"):
        writer.finish()


@pytest.mark.parametrize("full_at", ["add", "finish"])
def test_a_full_disk_aborts_the_writer(store: Store, monkeypatch: pytest.MonkeyPatch, full_at: str) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    writer = store.writer(limit=1000)
    writer.add(blob(noise(900)))
    with pytest.raises(OSError, match="no space left"):
        if full_at == "add":  # known at the latest when the next pack is full
            writer.add(blob(noise(900, 1)))
            writer.add(blob(noise(900, 2)))
        writer.finish()
    assert store.published() == store.staged() == []
    with pytest.raises(ValueError, match="finished or aborted"):
        writer.add(blob(b"later"))


def test_a_full_pack_is_completed_while_the_next_one_grows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To hash and sync a pack takes as long as to read what is in it: nobody waits for that."""
    synced, goes_on = threading.Event(), threading.Event()

    def slow(_: int) -> None:
        synced.set()
        assert goes_on.wait(60)

    monkeypatch.setattr(os, "fsync", slow)
    writer = store.writer(limit=1000)
    writer.add(blob(noise(900, 1)))
    writer.add(blob(noise(900, 2)))
    assert synced.wait(60)
    assert writer.names == []
    goes_on.set()
    assert len(writer.finish()) == 2


def test_a_full_pack_is_completed_where_no_thread_can_begin(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of Python, or where a limit on processes is reached."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer = store.writer(limit=1000)
    for number in range(3):
        writer.add(blob(noise(900, number)))
    assert len(writer.finish()) == 3


def test_a_full_pack_is_completed_in_what_atexit_calls(store: Store) -> None:
    """Then not even what makes threads can be loaded."""
    program = (
        "import atexit, os, sys\n"
        "from tensortime.packs import Kind, PackWriter, pack_object\n"
        "def write():\n"
        "    writer = PackWriter(sys.argv[1], sys.argv[2], limit=1000)\n"
        "    for n in range(3): writer.add(pack_object(Kind.BLOB, os.urandom(900)))\n"
        "    print(len(writer.finish()))\n"
        "atexit.register(write)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, store.packs, store.staging], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("3\n", "")


def test_a_killed_process_leaves_only_staged_files(store: Store) -> None:
    program = (
        "import os, signal, sys\n"
        "from tensortime.packs import Kind, PackWriter, pack_object\n"
        "writer = PackWriter(sys.argv[1], sys.argv[2], limit=100_000)\n"
        "for n in range(30): writer.add(pack_object(Kind.BLOB, os.urandom(20_000)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, store.packs, store.staging], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert store.published() == []
    assert {name[:8] for name in store.staged()} == {"tmp_pack", "tmp_idx_"}


def test_git_folds_and_checks_out_what_we_wrote(store: Store) -> None:
    leaf = blob(text(5000))
    tree = pack(Kind.TREE, packs.encode_tree([TreeEntry(FILE, b"train.log", leaf.oid)]))
    commit = pack(Kind.COMMIT, packs.encode_commit(tree.oid, [], 1, b"x"))
    store.publish(leaf, blob(noise(5000)))
    store.publish(tree, commit)
    store.git("update-ref", "refs/experiments/x", commit.oid.hex())
    store.git("repack", "-n", "-d", "-q", "--geometric=2")
    out = store.folder / "out"
    store.git("worktree", "add", "-q", "--detach", str(out), "refs/experiments/x")
    assert (out / "train.log").read_bytes() == text(5000)


def test_importing_the_module_does_not_import_isal() -> None:
    program = "import sys, tensortime.packs; sys.exit('isal' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0

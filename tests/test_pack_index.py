"""PackIndex finds what a pack holds where git finds it, and takes no damaged index for a whole one."""

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pack_store import Store, blob, noise, sound_store

from tensortime import packs
from tensortime.packreader import PackDamaged, PackIndex


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that git judges at the end."""
    with sound_store(tmp_path) as made:
        yield made


def test_an_index_finds_each_object_where_git_finds_it(store: Store) -> None:
    objects = [blob(b"%d" % n) for n in range(700)]
    [name] = store.publish(*objects)
    index = store.index(name)
    listing = store.git("show-index", stdin=(store.packs / f"{name}.idx").read_bytes()).stdout.decode()
    rows = [line.split() for line in listing.splitlines()]
    assert [oid.hex() for oid in index] == [oid for _, oid, _ in rows]
    assert [index.offset(oid) for oid in index] == [int(offset) for offset, _, _ in rows]
    assert len(index) == 700
    assert all(packed.oid in index for packed in objects)
    assert not any(bytes([n]) + bytes(19) in index for n in range(256))
    with pytest.raises(KeyError, match="00" * 20):
        index.offset(bytes(20))


def made_up_index(path: Path, offsets: list[int]) -> list[bytes]:
    oids = [hashlib.sha1(b"%d" % n).digest() for n in range(len(offsets))]
    crcs = [zlib.crc32(oid) for oid in oids]
    path.write_bytes(b"".join(packs.encode_index(oids, offsets, crcs, bytes(20))))
    return oids


def test_offsets_past_two_gibibytes_go_through_the_64_bit_table(store: Store, tmp_path: Path) -> None:
    offsets = [12, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**40 + 7, 500]
    oids = made_up_index(tmp_path / "big.idx", offsets)
    index = PackIndex(str(tmp_path / "big.idx"))
    assert [index.offset(oid) for oid in oids] == offsets
    listing = store.git("show-index", stdin=(tmp_path / "big.idx").read_bytes()).stdout.decode()
    expected = {(str(n), oid.hex(), f"({zlib.crc32(oid):08x})") for n, oid in zip(offsets, oids, strict=True)}
    assert {tuple(line.split()) for line in listing.splitlines()} == expected


def test_the_64_bit_table_that_git_writes_is_read(store: Store, tmp_path: Path) -> None:
    objects = [blob(noise(100, n)) for n in range(50)]
    [name] = store.publish(*objects)
    forced = tmp_path / "forced.idx"
    store.git("index-pack", "--index-version=2,0x200", "-o", str(forced), str(store.packs / f"{name}.pack"))
    ours, theirs = store.index(name), PackIndex(str(forced))
    assert forced.stat().st_size > (store.packs / f"{name}.idx").stat().st_size
    assert [theirs.offset(oid) for oid in ours] == [ours.offset(oid) for oid in ours]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty file": lambda data: b"",
    "magic": lambda data: b"PACK" + data[4:],
    "version": lambda data: data[:4] + struct.pack(">I", 3) + data[8:],
    "only the fanout": lambda data: data[: 8 + 1024],
    "one byte short": lambda data: data[:-1],
    "one row short": lambda data: data[:-28],
    "eight bytes more": lambda data: data + bytes(8),
    "another count": lambda data: data[:1028] + struct.pack(">I", 2**31) + data[1032:],
    "one bit of an id": lambda data: data[:1040] + bytes([data[1040] ^ 1]) + data[1041:],
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_called_damaged(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.idx"
    made_up_index(path, [12, 50, 90])
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(PackDamaged, match=r"x\.idx"):
        PackIndex(str(path))

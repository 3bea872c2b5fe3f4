"""How far the numbers of two files lie apart, whatever wrote them; and files that are not what their names say."""

import csv
import io
import json
import math
import random
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensortime import arrays, closeness, gaps, tables
from tensortime.closeness import compare_numbers
from tensortime.gaps import Closeness, Gap

ROW = [0.0, 1.0, -2.5, 1e-3]


def compared(name: str, old: bytes, new: bytes) -> Closeness | None:
    """Two files of these bytes."""
    return compare_numbers(name.encode(), io.BytesIO(old), len(old), io.BytesIO(new), len(new))


def gaps_of(name: str, old: bytes, new: bytes) -> dict[str, Gap]:
    """What differs between two files that can be read, by its name."""
    found = compared(name, old, new)
    assert found is not None
    return {one.name: one for one in found.gaps}


def npy(values: object, dtype: str = "f4", *, fortran: bool = False) -> bytes:
    """An npy file."""
    file, array = io.BytesIO(), np.array(values, dtype)
    np.save(file, np.asfortranarray(array) if fortran else array)
    return file.getvalue()


def npz(*, packed: bool = False, **named: np.ndarray) -> bytes:
    """An npz file."""
    file = io.BytesIO()
    write: Callable[..., None] = np.savez_compressed if packed else np.savez
    write(file, **named)
    return file.getvalue()


def safetensors(named: Mapping[str, tuple[str, list[int], bytes]], metadata: object = None) -> bytes:
    """A safetensors file: name to type, shape and bytes."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    body = b""
    for name, (dtype, shape, data) in named.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


# --- numbers


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", ">f2"])
def test_the_largest_difference_of_floats_is_found(dtype: str) -> None:
    """Absolute, and relative to the larger of the two numbers, whatever the width and order of their bytes."""
    found = gaps_of("w.npy", npy(ROW, dtype), npy([0.0, 1.5, -2.0, 1e-3], dtype))[""]
    assert found.max_abs == 0.5
    assert found.max_rel == pytest.approx(1 / 3)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", ">u2", "i4", "u4", "i8", "u8"])
def test_integers_differ_by_whole_numbers(dtype: str) -> None:
    """Of either sign and every width; the difference of unsigned ones does not wrap round."""
    found = gaps_of("n.npy", npy([1, 2, 100], dtype), npy([1, 3, 0], dtype))[""]
    assert (found.max_abs, found.max_rel) == (100.0, 1.0)


def test_integers_past_the_doubles_are_exact() -> None:
    """2^63 + 1 and 2^63 differ by one, though a double cannot tell them apart."""
    found = gaps_of("n.npy", npy([2**63 + 1], "u8"), npy([2**63], "u8"))[""]
    assert found.max_abs == 1.0
    assert found.max_rel == pytest.approx(2**-63)


def test_truth_and_complex_numbers() -> None:
    """True is one apart from False; of complex numbers each part counts by itself."""
    assert gaps_of("b.npy", npy([True, False], "?"), npy([True, True], "?"))[""].max_abs == 1.0
    for dtype in ("c8", "c16", ">c8"):
        found = gaps_of("c.npy", npy([1 + 2j, 3], dtype), npy([1 + 2.5j, 3], dtype))[""]
        assert (found.max_abs, found.max_rel) == (0.5, 0.2)


@pytest.mark.parametrize(("dtype", "bits"), [("BF16", 0x3F80), ("F16", 0x3C00)])
def test_half_floats_of_both_kinds(dtype: str, bits: int) -> None:
    """1.0 and -1.0 as sixteen bits, which Python itself has no word for in one of them."""
    one, other = struct.pack("<H", bits), struct.pack("<H", bits | 0x8000)
    old, new = (safetensors({"w": (dtype, [1], data)}) for data in (one, other))
    assert gaps_of("w.safetensors", old, new) == {"w": Gap("w", "", 2.0, 2.0)}


def test_floats_of_one_byte() -> None:
    """Zeros, subnormals, ones, the largest and NaN of both kinds, by their published tables."""
    known = {
        "F8_E4M3": {0x00: 0.0, 0x01: 2**-9, 0x07: 7 * 2**-9, 0x08: 2**-6, 0x38: 1.0, 0x7E: 448.0, 0xB8: -1.0},
        "F8_E5M2": {0x00: 0.0, 0x01: 2**-16, 0x3C: 1.0, 0x7B: 57344.0, 0xBC: -1.0},
    }
    for dtype, table in known.items():
        for byte, value in table.items():
            old, new = (safetensors({"w": (dtype, [1], bytes([one]))}) for one in (0, byte))
            found = gaps_of("w.safetensors", old, new)
            assert (found["w"].max_abs if found else 0.0) == abs(value)
        old, new = (safetensors({"w": (dtype, [1], bytes([one]))}) for one in (0x7F, 0xFF))
        assert gaps_of("w.safetensors", old, new) == {}, "NaN is NaN"


def test_nan_equals_nan_and_nothing_else() -> None:
    """Whatever its bits; infinity equals infinity of the same sign; both are infinitely far from numbers."""
    old = npy([math.nan, math.inf, -math.inf, 1.0], "f8")
    payload = bytearray(old)
    payload[-32:-24] = struct.pack("<Q", 0x7FF8_0000_0000_0001)
    assert gaps_of("w.npy", old, bytes(payload)) == {}
    for new in (
        [1.0, math.inf, -math.inf, 1.0],
        [math.nan, -math.inf, -math.inf, 1.0],
        [math.nan, 9.0, -math.inf, 1.0],
    ):
        assert gaps_of("w.npy", old, npy(new, "f8"))[""].max_abs == math.inf


def test_minus_zero_is_zero() -> None:
    """The bytes differ, the number does not."""
    found = compared("w.npy", npy([0.0, 1.0]), npy([-0.0, 1.0]))
    assert found == Closeness(())
    assert (found.max_abs, found.max_rel) == (0.0, 0.0)


def test_the_order_of_bytes_and_rows_is_no_difference() -> None:
    """Big and little endian, C's and Fortran's order hold the same numbers; a change in them is found."""
    cube = np.arange(24.0).reshape(2, 3, 4)
    for dtype in (">f8", "f8", ">i4"):
        assert gaps_of("w.npy", npy(cube, dtype), npy(cube, dtype, fortran=True)) == {}
    assert gaps_of("w.npy", npy(cube, "<f8"), npy(cube, ">f8")) == {}
    assert gaps_of("w.npy", npy(cube * 1j, "c16"), npy(cube * 1j, "c16", fortran=True)) == {}
    assert gaps_of("w.npy", npy([1], "<u2"), npy([256], ">u2"))[""].max_abs == 255, "the bytes are the same"
    other = cube.copy()
    other[1, 2, 0] += 3
    assert gaps_of("w.npy", npy(cube, "f8"), npy(other, "f8", fortran=True))[""].max_abs == 3.0


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["f4", "f8", "i4", "u1", "i8"]))
def test_both_ways_to_compare_agree(data: st.DataObject, dtype: str) -> None:
    """With numpy and without the answers are the same to the last bit, and those of one number at a time."""
    one = st.integers(0, 255) if dtype[0] in "iu" else st.floats(width=32)
    pairs = data.draw(st.lists(st.tuples(one, one), min_size=1, max_size=8))
    old, new = (npy(values, dtype) for values in zip(*pairs, strict=True))
    slow = gaps.distance_one_by_one(*(np.load(io.BytesIO(file)).tolist() for file in (old, new)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closeness, "WORTH_NUMPY", 1 << 60)
        plain = compared("w.npy", old, new)
        patch.setattr(closeness, "WORTH_NUMPY", 0)
        assert compared("w.npy", old, new) == plain
    assert plain is not None
    assert [(one.max_abs, one.max_rel) for one in plain.gaps] == ([slow] if slow[0] else [])


def test_numbers_are_compared_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large array where numpy cannot be imported: the same answer, and only the blocks that differ are decoded."""
    count, decoded = closeness.WORTH_NUMPY, list[int]()
    old = np.zeros(count, "f4")
    new = old.copy()
    new[5], new[-1] = 1e-3, 2.0
    monkeypatch.setitem(sys.modules, "numpy", None)
    closeness.numpy_module.cache_clear()
    try:
        real = closeness.numbers

        def counted(data: bytes, dtype: str, big_endian: bool) -> Sequence[float]:
            decoded.append(len(data))
            return real(data, dtype, big_endian)

        monkeypatch.setattr(closeness, "numbers", counted)
        assert gaps_of("w.npy", npy(old), npy(new))[""].max_abs == 2.0
    finally:
        closeness.numpy_module.cache_clear()
    assert decoded == [closeness.BLOCK] * 4, "two blocks of sixteen, on both sides"


# --- files of several arrays


@pytest.mark.parametrize("packed", [False, True])
def test_every_array_of_an_archive_is_compared(packed: bool) -> None:
    """In the order of the first file: those that differ with their numbers, those that only one has, other shapes."""
    same = np.ones(3, "f4")
    old = npz(packed=packed, a=same, b=same, c=same, d=same, e=same)
    new = npz(
        packed=packed, a=same, c=same + np.float32(0.25), b=same.astype("f8"), d=np.ones((3, 1), "f4"), f=same
    )
    found = gaps_of("model.npz", old, new)
    assert list(found) == ["b", "c", "d", "e", "f"]
    assert found["b"] == Gap("b", "type", old="f4", new="f8")
    assert found["c"].max_abs == 0.25
    assert found["d"] == Gap("d", "shape", old="(3,)", new="(3, 1)")
    assert (found["e"].problem, found["f"].problem) == ("missing", "extra")


def test_an_archive_packed_otherwise_holds_the_same_numbers() -> None:
    """Compressed or not: the bytes differ, the arrays do not."""
    same = np.arange(100.0)
    assert gaps_of("model.npz", npz(w=same), npz(packed=True, w=same)) == {}


def test_tensors_are_compared_in_the_order_of_their_bytes() -> None:
    """And what the file says of itself must be the same."""
    one, other = struct.pack("<2f", 1, 2), struct.pack("<2f", 1, 2.5)
    old = safetensors({"z": ("F32", [2], one), "a": ("F32", [2], one)}, {"format": "pt"})
    new = safetensors({"z": ("F32", [2], other), "a": ("F32", [2], other)}, {"format": "np"})
    found = gaps_of("model.safetensors", old, new)
    assert list(found) == ["z", "a", "__metadata__"]
    assert found["z"].max_rel == 0.2


def test_text_in_arrays_must_be_equal() -> None:
    """Words, dates and what is no array at all are compared by their bytes."""
    words, dates = np.array(["a", "bc"]), np.array(["2026-11-25"], "M8[D]")
    assert gaps_of("w.npz", npz(w=words, d=np.ones(1)), npz(w=words, d=np.ones(1))) == {}
    assert gaps_of("w.npz", npz(w=words), npz(w=np.array(["a", "bd"])))["w"].problem == "text"
    assert compared("w.npy", npy(dates, "M8[D]"), npy(dates, "M8[D]")) is None


# --- JSON and CSV


def told(old: object, new: object) -> dict[str, Gap]:
    """What differs between two JSON documents."""
    return gaps_of("m.json", json.dumps(old).encode(), json.dumps(new, indent=1).encode())


def test_numbers_in_json_are_named_by_their_keys() -> None:
    """With dots between the levels; a list is one array; layout and order of keys do not count."""
    old = {"loss": {"val": 0.5, "train": [1, 2.0, 3]}, "name": "x", "ok": True}
    new = {"ok": True, "loss": {"train": [1.0, 2.5, 3], "val": 0.25}, "name": "x"}
    found = told(old, new)
    assert list(found) == ["loss.val", "loss.train"]
    assert (found["loss.val"].max_abs, found["loss.train"].max_abs) == (0.25, 0.5)
    assert told(old, {"ok": True, **old}) == {}


def test_what_is_no_number_in_json_must_be_equal() -> None:
    """Words, true for 1, null for 0, missing keys, longer lists."""
    found = told(
        {"a": "x", "b": 1, "c": 0, "d": 1, "f": [1], "g": [1], "h": math.nan},
        {"a": "y", "b": True, "c": None, "e": 1, "f": [1, 2], "g": {}, "h": math.nan},
    )
    expected = dict.fromkeys("abcg", "text") | {"d": "missing", "e": "extra", "f": "shape"}
    assert {name: gap.problem for name, gap in found.items()} == expected


def table(rows: list[list[object]], suffix: str = "csv") -> bytes:
    """A CSV file."""
    text = io.StringIO()
    csv.writer(text, delimiter="\t" if suffix == "tsv" else ",").writerows(rows)
    return text.getvalue().encode()


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_tables_are_compared_column_by_column(suffix: str) -> None:
    """The first row names them; how a number is written does not count, a word does."""
    old = table([["epoch", "loss", "who, what"], [1, 0.5, "a"], [2, "1e-3", "b"]], suffix)
    new = table([["epoch", "loss", "who, what"], ["1.0", 0.25, "a"], [2, "0.001", "c"]], suffix)
    found = gaps_of(f"log.{suffix}", old, new)
    assert found == {"loss": Gap("loss", "", 0.25, 0.5), "who, what": Gap("who, what", "text")}


def test_tables_without_names_and_of_other_sizes() -> None:
    """Columns count from one; a row more, or a column more, is another shape."""
    assert list(gaps_of("x.csv", b"1,2\n3,4\n", b"1,2\n3,5\n")) == ["column 2"]
    assert gaps_of("x.csv", b"1\n2\n", b"1\n2\n3\n")[""] == Gap("", "shape", old="(2,)", new="(3,)")
    assert gaps_of("x.csv", b"1,2\n", b"1\n")[""].problem == "shape"
    assert gaps_of("x.csv", b"", b"\xef\xbb\xbf") == {}


# --- files that are not what their name says


@pytest.mark.parametrize(("old", "new"), [("007", "7"), ("1_2", "12"), ("1e999", "2e999"), ("0x1", "1")])
def test_what_only_looks_like_a_number_must_be_equal(old: str, new: str) -> None:
    """A name such as 007 is not the name 7, and what is too large to be held is not its neighbour."""
    assert gaps_of("x.csv", f"id\n{old}\n".encode(), f"id\n{new}\n".encode()) == {"id": Gap("id", "text")}


@pytest.mark.parametrize("number", ["0", "-1", "+.5e-3", " 2. ", "1E+5", "NaN", "-inf"])
def test_numbers_of_a_table_may_be_written_otherwise(number: str) -> None:
    """As other programs write the same."""
    assert gaps_of("x.csv", f"a\n{number}\n".encode(), f"a\n{float(number)!r}\n".encode()) == {}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("m.json", b'{"loss": 0.5, "loss": 1}', b'{"loss": 0.9, "loss": 1}'),
        ("m.csv", b'a,b\n1,"x y"\n', b'a,b\n1,"x y'),
        ("m.csv", b'a\n"x"y\n', b"a\nxy\n"),
    ],
)
def test_what_a_reader_would_pass_over_is_left_to_its_bytes(name: str, old: bytes, new: bytes) -> None:
    """A key that comes twice, a text that was cut within its quotes: readers are silent about them."""
    assert compared(name, old, new) is None


def test_texts_in_another_order_are_others() -> None:
    """The same bytes of texts, told to be in another order of rows, or of bytes, are not the same texts."""
    data, header = "abcd".encode("utf-32-le"), "{{'descr': '{}', 'fortran_order': {}, 'shape': (2, 2), }}"
    plain, other = (lying_npy(header.format("<U1", order)) + data for order in (False, True))
    assert gaps_of("a.npy", plain, other)[""].problem == "text"
    assert gaps_of("a.npy", plain, lying_npy(header.format(">U1", False)) + data)[""].problem == "text"


def lying_npy(header: str) -> bytes:
    """An npy file with any header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"\0" * 16


class Canary:
    """Leaves a trace when it is unpickled."""

    touched = False

    def __reduce__(self) -> tuple[object, ...]:
        return (setattr, (Canary, "touched", True))


def test_nothing_is_ever_unpickled() -> None:
    """An array of objects is compared by its bytes alone."""
    old = npz(w=np.array([Canary(), None], object))
    new = npz(w=np.array([Canary(), 1], object))
    assert gaps_of("model.npz", old, new)["w"].problem == "text"
    assert not Canary.touched


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npy", b""),
        ("a.npy", b"\x93NUMPY\x01\x00\xff\xff"),
        ("a.npy", lying_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }")),
        ("a.npy", lying_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }" % ("9" * 5000))),
        ("a.npy", lying_npy("(" * 9000)),
        ("a.npy", lying_npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }")),
        ("a.npy", npy(ROW) + npy(ROW)),
        ("a.npz", b"PK\5\6" + b"\0" * 18 + b"junk"),
        ("a.npz", b"PK\5\6" + b"\0" * 8 + b"\xff" * 8 + b"\0\0"),
        ("a.npz", npz(w=np.ones(9))[:-30]),
        ("a.safetensors", struct.pack("<Q", 1 << 60) + b"{}"),
        ("a.safetensors", struct.pack("<Q", 2) + b"[]"),
        ("a.safetensors", safetensors({"w": ("F32", [1 << 40], b"1234")})),
        ("a.safetensors", safetensors({"w": ("F32", [-1], b"")})),
        ("a.safetensors", safetensors({"w": ("F32", [1], b"1234")}) + b"1234"),
        ("a.json", b"[" * 200_000),
        ("a.json", b'{"a": 1'),
        ("a.json", b"9" * 5000),
        ("a.csv", b"1," * 200_000),
        ("a.csv", b"x" * (3 << 20)),
        ("a.csv", b"\xff\xfe\0"),
    ],
)
def test_a_file_that_lies_is_left_to_its_bytes(name: str, data: bytes) -> None:
    """Headers that promise more than there is, cut files, depth without end: no numbers, no exception, at once."""
    assert compared(name, data, data + b" ") is None
    assert compared(name, data + b" ", data) is None


def test_an_archive_that_inflates_out_of_proportion_is_left_to_its_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand times its size: it is not read at all."""
    bomb = npz(packed=True, w=np.zeros(1 << 20))
    monkeypatch.setattr(arrays, "INFLATES_ANYWAY", 1 << 20)
    assert compared("a.npz", bomb, bomb + b"\0") is None


def test_a_broken_part_of_an_archive_leaves_it_to_its_bytes() -> None:
    """Its checksum tells; no difference is made up of what was read before it."""
    good = npz(w=np.arange(1000.0))
    bad = bytearray(good)
    bad[300] ^= 1
    assert compared("a.npz", good, bytes(bad)) is None


def test_a_document_too_large_for_memory_is_left_to_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only JSON has to be held as a whole."""
    monkeypatch.setattr(tables, "LARGEST_JSON", 10)
    assert compared("a.json", b"[1,2,3,4,5,6]", b"[1]") is None


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """64 MB of floats that all differ are compared within a few blocks' room."""
    import tracemalloc

    paths = []
    for number in (1, 2):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 24,)}
        )
        with (
            zipfile.ZipFile(tmp_path / f"{number}.npz", "w", zipfile.ZIP_DEFLATED) as packed,
            packed.open("w.npy", "w", force_zip64=True) as part,
        ):
            part.write(header.getvalue())
            for _ in range(16):
                part.write(np.full(1 << 20, number, "f4").tobytes())
        paths.append(tmp_path / f"{number}.npz")
    closeness.numpy_module()
    tracemalloc.start()
    try:
        with open(paths[0], "rb") as old, open(paths[1], "rb") as new:
            sizes = [path.stat().st_size for path in paths]
            found = compare_numbers(b"w.npz", old, sizes[0], new, sizes[1])
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert found is not None
    assert found.max_abs == 1.0


def test_only_files_called_so_are_numeric() -> None:
    """By their last name, in any case."""
    for path in (b"a.npy", b"x/B.NPZ", b"m.safetensors", b"m.json", b"l.csv", b"l.tsv"):
        assert closeness.is_numeric(path)
    for path in (b"npy", b"a.npy/b", b"a.pt", b"a.npy.txt", b"\xff.bin", b".json.d/x"):
        assert not closeness.is_numeric(path)


def damaged(data: bytes, seed: int) -> bytes:
    """A file with some bytes changed, cut off, or put in."""
    random_ = random.Random(seed)
    found = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(found))
        way = random_.randrange(4)
        if way == 0:
            found[at] = random_.randrange(256)
        elif way == 1:
            del found[at : at + random_.randint(1, 8)]
        elif way == 2:
            found[at:at] = random_.randbytes(4)
        else:
            found[at : at + 4] = random_.choice([b"\xff" * 4, b"\0" * 4, b"[[[[", b"9999"])
        if not found:
            found = bytearray(b"x")
    return bytes(found)


def test_no_damage_is_an_exception(tally: Callable[[str, int], None]) -> None:
    """Files of every kind with bytes changed, removed and put in: an answer, or none, and at once."""
    one = np.arange(6.0).reshape(2, 3)
    files = {
        "a.npy": npy(one),
        "a.npz": npz(w=one, n=np.arange(3)),
        "b.npz": npz(packed=True, w=one),
        "a.safetensors": safetensors({"w": ("F32", [2], b"12345678"), "b": ("BF16", [1], b"12")}, {"a": "b"}),
        "a.json": b'{"a": [1, 2.5, null], "b": {"c": "x"}}',
        "a.csv": b'a,b\n1,"x"\n2.5,y\n',
    }
    tried = 0
    for name, data in files.items():
        for seed in range(300):
            bad = damaged(data, seed)
            found = compared(name, data, bad)
            again = compared(name, bad, data)
            assert (found is None) == (again is None), (name, seed)
            tried += 2
    tally("damaged numeric files", tried)

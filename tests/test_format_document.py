"""FORMAT.md says what the code does: the code reads its samples, its tables name what the code writes."""

import dataclasses
import re
from pathlib import Path

import pytest

from tensortime import mending, roster, statcache
from tensortime.formats import Digest, RelPath
from tensortime.manifest import (
    FILE,
    FOLDER,
    SMALL,
    SYMLINK,
    Manifest,
    ManifestEntry,
    decode_manifest,
    encode_entry,
    encode_manifest,
)
from tensortime.trailers import KNOWN, BackupFacts, decode_message, encode_message

DOCUMENT = (Path(__file__).parent.parent / "FORMAT.md").read_text("utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def block(beginning: str) -> str:
    """The one sample that begins like this."""
    [found] = [text for text in BLOCKS if text.startswith(beginning)]
    return str(found)


def rows(header: str) -> dict[str, list[str]]:
    """The table with this first column: every name in it, with the other cells of its row."""
    table = DOCUMENT[DOCUMENT.index(f"| {header} |") :].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: rest for first, *rest in cells for name in re.split(r", (?:or )?", first)}


def full_entries() -> list[ManifestEntry]:
    """An entry of every kind with every field that it can have."""
    path, digest = RelPath(b"a"), Digest("blake3:" + "0" * 64)
    return [
        ManifestEntry(path, FILE, 0o600, 1, digest, 1, changed=True, link=1),
        ManifestEntry(path, SMALL, 0o600, changed=True, link=1),
        ManifestEntry(path, FOLDER, 0o700),
        ManifestEntry(RelPath(b"\xff"), SYMLINK, target=b"x"),
    ]


def test_the_sample_message_is_a_backup() -> None:
    """The note, each trailer with the value that is shown, and the same bytes when written again."""
    text = block("lr 3e-4")
    facts = decode_message(text)
    assert facts == BackupFacts(
        note="lr 3e-4, more layers",
        number=2,
        time_ns=1795500000000000000,
        host_id="0b4e7fa8c1d2e3f4",
        project="/home/lin/digits",
        status="done",
        files=2008,
        size=1077936128,
        parent="2026-11-23_09-36-04-base:1",
        command=("python", "train.py", "--lr", "3e-4"),
        params={"lr": 0.0003},
        metrics={"accuracy": 0.97},
        edited_ns=1795600000000000000,
        runner={
            "host": "node7",
            "pid": 4711,
            "start": 917040,
            "boot": "5d1f1c9e-1f0e-4c55-9f0e-2f1d8c7a9b10",
            "space": 4026531836,
            "id": "9f86d081884c7d65",
        },
    )
    assert encode_message(facts).decode() == text
    assert re.findall(r"^([A-Z][\w-]*): ", text, re.MULTILINE) == KNOWN


def test_every_trailer_has_a_row_and_every_row_is_a_trailer() -> None:
    """Nothing is written that the document does not explain."""
    assert set(rows("trailer")) == set(KNOWN)


def test_the_sample_manifest_is_one() -> None:
    """It is read, and written again it is the sample, byte for byte."""
    text = block('{"format"').encode()
    found = decode_manifest({b"manifest": text})
    assert [(entry.path, entry.kind) for entry in found.entries.values()] == [
        (b"data/part.bin", FILE),
        (b"empty", FOLDER),
        (b"run.sh", SMALL),
    ]
    assert found.entries[RelPath(b"data/part.bin")].size == 3145728
    assert encode_manifest(found) == {b"manifest": text}


def test_every_field_of_the_manifest_has_a_row_that_names_its_kinds() -> None:
    """A field is explained, and the document says of which kinds it is."""
    table = rows("field")
    written: dict[str, set[str]] = {}
    for entry in full_entries():
        for name in re.findall(r'"(\w+)": ', encode_entry(entry)):
            written.setdefault(name, set()).add(entry.kind)
    assert set(table) == set(written)
    everything = {FILE, SMALL, FOLDER, SYMLINK}
    for name, kinds in written.items():
        said = table[name][0]
        if name not in ("path", "path_base64", "kind"):
            meant = everything - {SYMLINK} if said == "all but symlink" else set(said.split(", "))
            assert meant == kinds, name
    assert set(re.findall(r"`(\w+)`(?: \(|,|$)", table["kind"][1])) >= everything


def test_every_field_of_an_entry_can_be_written() -> None:
    """The entries of these tests leave none out: a new field has to come here, and so into the document."""
    for field in dataclasses.fields(ManifestEntry):
        assert any(getattr(entry, field.name) != field.default for entry in full_entries()), field.name


def test_the_sample_header_says_what_the_code_writes() -> None:
    """`umask` stands in the header where it is not 0022, as the document says."""
    assert encode_manifest(Manifest({}, 0o077)) == {b"manifest": b'{"format": 1, "umask": "0077"}\n'}
    assert "`umask` (octal string) where it is not `0022`" in " ".join(DOCUMENT.split())


def test_the_records_of_the_caches_are_those_described() -> None:
    """The layouts and the first lines of the stat cache and of what is remembered of all experiments."""
    layouts = re.findall(r"little endian `(<\w+)`", DOCUMENT)
    assert layouts == [statcache.RECORD.format, roster.RECORD.format]
    assert f"{roster.RECORD.size} bytes" in DOCUMENT
    for cache in (statcache, roster):
        assert f"`{cache.MAGIC.decode().strip()}`" in DOCUMENT


@pytest.mark.parametrize(
    "setting", ["excludesFile = .tensortime/exclude", "useReplaceRefs = false", "auto = 0"]
)
def test_the_settings_that_the_document_explains_are_written(setting: str) -> None:
    """The rationale is about the configuration that a store has."""
    assert f"\t{setting}\n" in mending.CONFIG
    assert setting in " ".join(DOCUMENT.split()).replace("gc.", "")

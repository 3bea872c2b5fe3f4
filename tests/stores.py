"""Stores that a hostile or broken hand made: commits of any content, written with our own pack writer."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from tensortime.formats import Oid, RelPath
from tensortime.manifest import Manifest
from tensortime.packs import Kind, PackWriter, encode_commit, object_id, pack_object
from tensortime.store import open_store
from tensortime.trailers import BackupFacts, encode_message
from tensortime.trees import MODE_FILE, GitEntry, Layout, write_object, write_tree

Row = Mapping[str, object]


def forge(
    project: Path,
    name: str,
    rows: Iterable[Row],
    *,
    files: Mapping[bytes, bytes] | None = None,
    modes: Mapping[bytes, int] | None = None,
    meta: Mapping[bytes, bytes] | None = None,
    params: Mapping[str, object] | None = None,
    metrics: Mapping[str, object] | None = None,
) -> None:
    """Publish an experiment whose tree holds `files` and whose manifest says `rows`, checked by nobody.

    `meta`: files of `.tensortime/`, such as `run.json`.
    """
    store, modes = open_store(str(project / "tensortime")), modes or {}
    lines = [json.dumps(row).encode() for row in ({"format": 1}, *rows)]
    meta = {b"manifest": b"\n".join(lines) + b"\n", b"exclude": b"", b"run.json": b"{}\n", **(meta or {})}
    known: set[bytes] = set()
    with PackWriter(store.path(".shadow", "objects", "pack"), store.path(".tmp")) as writer:
        git = {
            RelPath(path): GitEntry(modes.get(path, MODE_FILE), write_object(writer, known, Kind.BLOB, data))
            for path, data in (files or {}).items()
        }
        top = write_tree(writer, known, Layout(git, Manifest({})), meta)
        facts = BackupFacts("", 1, 1_800_000_000_000_000_000, "host", str(project), "done", 1, 1)
        facts = replace(facts, params=params or {}, metrics=metrics or {})
        data = encode_commit(top, [], 1_800_000_000, encode_message(facts))
        writer.add(pack_object(Kind.COMMIT, data))
        writer.finish()
    commit = Oid(object_id(Kind.COMMIT, data).hex())
    assert store.shadow.create_ref(f"refs/experiments/{name}", commit)

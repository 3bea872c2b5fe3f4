"""Stores that a hostile or broken hand made: commits of any content, written with our own pack writer."""

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from blake3 import blake3
from builders import user_git

from tensortime.formats import Digest, Oid, RelPath
from tensortime.manifest import FILE, Manifest, ManifestEntry
from tensortime.packs import Kind, PackWriter, encode_commit, object_id, pack_object
from tensortime.store import Store, create_store, open_store
from tensortime.trailers import BackupFacts, encode_message
from tensortime.trees import MODE_FILE, Layout, meta_files, rows_of, write_object, write_tree

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
    runner: Mapping[str, object] | None = None,
) -> None:
    """Publish an experiment whose tree holds `files` and whose manifest says `rows`, checked by nobody.

    `meta`: files of `.tensortime/`, such as `run.json`.
    """
    store, modes = open_store(str(project / "tensortime")), modes or {}
    lines = [json.dumps(row).encode() for row in ({"format": 1}, *rows)]
    meta = {b"manifest": b"\n".join(lines) + b"\n", b"exclude": b"", b"run.json": b"{}\n", **(meta or {})}
    known: set[bytes] = set()
    with PackWriter(store.path(".shadow", "objects", "pack"), store.path(".tmp")) as writer:
        git = rows_of(
            (path, modes.get(path, MODE_FILE), write_object(writer, known, Kind.BLOB, data))
            for path, data in (files or {}).items()
        )
        top = write_tree(writer, known, Layout(git, Manifest({})), meta)
        facts = BackupFacts("", 1, 1_800_000_000_000_000_000, "host", str(project), "done", 1, 1)
        facts = replace(facts, params=params or {}, metrics=metrics or {}, runner=runner or {})
        facts = replace(facts, status="running") if runner else facts
        data = encode_commit(top, [], 1_800_000_000, encode_message(facts))
        writer.add(pack_object(Kind.COMMIT, data))
        writer.finish()
    commit = Oid(object_id(Kind.COMMIT, data).hex())
    assert store.shadow.create_ref(f"refs/experiments/{name}", commit)


class Bulk:
    """Many experiments in no time: trees, manifests and commits straight into one pack, objects beside it."""

    def __init__(self, project: Path) -> None:
        project.mkdir(parents=True, exist_ok=True)
        self.project, self.store = project, create_store(str(project / "tensortime"))
        self.known: set[bytes] = set()
        self.writer = PackWriter(self.store.path(".shadow", "objects", "pack"), self.store.path(".tmp"))
        self.refs: dict[str, str] = {}
        self.time_ns = 1_800_000_000_000_000_000

    def experiment(
        self,
        name: str,
        small: Mapping[bytes, bytes],
        large: Mapping[bytes, bytes] | None = None,
        *,
        parent: str | None = None,
        number: int = 1,
    ) -> str:
        """One backup of these files (bytes of the small and of the large ones); returns its commit."""
        git = rows_of(
            (path, MODE_FILE, write_object(self.writer, self.known, Kind.BLOB, data))
            for path, data in small.items()
        )
        rows = {RelPath(path): self.entry(RelPath(path), data) for path, data in (large or {}).items()}
        layout = Layout(git, Manifest(rows))
        top = write_tree(self.writer, self.known, layout, {**meta_files(layout), b"run.json": b"{}\n"})
        self.time_ns += 1_000_000_000
        size = sum(map(len, [*small.values(), *(large or {}).values()]))
        facts = BackupFacts(
            "", number, self.time_ns, "host", str(self.project), "done", len(small) + len(rows), size
        )
        parents = [bytes.fromhex(parent)] if parent else []
        data = encode_commit(top, parents, self.time_ns // 1_000_000_000, encode_message(facts))
        self.writer.add(pack_object(Kind.COMMIT, data))
        commit = object_id(Kind.COMMIT, data).hex()
        self.refs[f"refs/experiments/{name}"] = commit
        return commit

    def entry(self, path: RelPath, data: bytes) -> ManifestEntry:
        """A line of the manifest, and the object that it names."""
        digest = Digest("blake3:" + blake3(data).hexdigest())
        where = Path(self.store.sidecar().path_of(digest))
        if not where.exists():
            where.parent.mkdir(exist_ok=True)
            where.write_bytes(data)
            where.chmod(0o400)
        return ManifestEntry(path, FILE, None, len(data), digest, 0)

    def finish(self) -> Store:
        """Publish the pack, then all refs."""
        self.writer.finish()
        lines = "".join(f"create {ref} {commit}\n" for ref, commit in self.refs.items())
        self.store.shadow.run("update-ref", "--stdin", stdin=lines.encode())
        return self.store


def thousand(project: Path, count: int = 1000, files: int = 100) -> Store:
    """So many experiments of so many small files: one of them and one large file are new each time, one large file is
    the same in all."""
    bulk = Bulk(project)
    same = {b"src/file%03d.py" % number: b"x = %d\n" % number for number in range(files - 1)}
    for number in range(count):
        own = b"lr = %d\n" % number
        large = {b"data/set.bin": b"shared" * 1000, b"out/weights.bin": own * 1000}
        bulk.experiment(f"run-{number:04d}", {**same, b"train.py": own}, large)
    return bulk.finish()


def everything_in(store: Path) -> dict[str, bytes]:
    """All that a store holds, inflated: every git object, every file."""
    found = {
        str(path): path.read_bytes() for path in store.rglob("*") if path.is_file() and not path.is_symlink()
    }
    shadow = str(store / ".shadow")
    listing = user_git("--git-dir", shadow, "cat-file", "--batch-all-objects", "--batch-check", cwd=store)
    for line in listing.splitlines():
        oid, kind, _ = line.split()
        command = ["git", "--git-dir", shadow, "cat-file", kind, oid]
        plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        found[oid] = subprocess.run(command, capture_output=True, check=True, env=plain).stdout
    return found

"""How the museum's stores are made, from the project's top:

    PYTHONPATH=.:tests python tests/make_store.py /home/lin/digits tests/stores/v1

Run once for each format, by the first version that writes it, and never again: what lies here is what people
have. The project's path is recorded in the store, so it is made where no machine is recognised.
"""

import gzip
import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

from builders import Tree, snapshot_of

from tensortime import api, environment

RUN: dict[str, Any] = {
    "command": ["python", "train.py", "--lr", "3e-4"],
    "cwd": "/home/lin/digits",
    "python": {
        "version": "3.11.7",
        "implementation": "cpython",
        "executable": "/usr/bin/python3",
        "prefix": "/usr",
    },
    "platform": "Linux 6.1.0 x86_64",
    "host": "museum",
    "pid": 1,
}
DISPOSABLE = (".cache", ".tmp", ".lock")


def fill(tree: Tree) -> None:
    """Every kind of path that a format must carry."""
    tree.file("tensortime.toml", b"large_size = 1024\n")
    tree.file("train.py", b"print('digits')\r\n").file("run.sh", b"#!/bin/sh\n", mode=0o755)
    tree.file("data/part.bin", size=3000, mtime_ns=1_700_000_000_123_456_789).file("data/just", size=1024)
    tree.file("data/under", size=1023).file("old.bin", size=1100, mtime_ns=-1_000_000_001)
    tree.file("secret.key", b"k", mode=0o600).file("model.bin", size=2000, mode=0o640).file("empty.txt")
    tree.folder("empty").folder("shared", mode=0o1777).file("shared/note", b"n").folder("a/b/c")
    tree.symlink("latest", "data/part.bin").symlink("dangling", b"no\xffwhere").symlink(
        "sub/.gitmodules", "x"
    )
    tree.file(b"caf\xe9.txt", b"latin-1").file(b"big-\xff.bin", size=1500).file(
        "笔记/实验 一.txt", "好".encode()
    )
    tree.file("nested/GIT~1/x", b"git will not check this out").file("line\nbreak", b"two lines")
    os.link(tree.path("model.bin"), tree.path("copy.bin"))


def change(tree: Tree) -> None:
    """What the second backup has to tell apart from the first."""
    tree.file("train.py", b"print('digits, again')\n").file("data/part.bin", size=3001)
    os.unlink(tree.path("old.bin"))
    os.rmdir(tree.path("empty"))
    tree.folder("empty2").file("run.sh", b"#!/bin/sh\n", mode=0o644)


def expected(root: Path) -> list[list[object]]:
    """What a restore has to give back."""
    found = snapshot_of(root, exclude=["tensortime", ".git"])
    return [[path.decode("utf-8", "surrogateescape"), *entry] for path, entry in sorted(found.items())]


def pack(store: Path) -> bytes:
    """The store as a tar that depends on its content alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(store.rglob("*")):
            name = path.relative_to(store)
            if name.parts[0] in DISPOSABLE and path.name != name.parts[0]:
                continue
            item = archive.gettarinfo(str(path), arcname=str(name))
            item.uid = item.gid = item.mtime = 0
            item.uname = item.gname = ""
            with path.open("rb") if item.isreg() else io.BytesIO() as content:
                archive.addfile(item, content if item.isreg() else None)
    return gzip.compress(buffer.getvalue(), mtime=0)


def main(project: str, out: str) -> None:
    """Two backups of one experiment, one of another."""
    os.umask(0o022)
    environment.describe_run = lambda argv=None, folder=None: dict(RUN)
    environment.short_hash = lambda data: "0b4e7fa8c1d2e3f4"
    tree, trees = Tree(project), {}
    fill(tree)
    trees["digits:1"] = expected(tree.root)
    api.backup(directory=project, name="digits", note="第一次\n\nwith all kinds", params={"lr": 3e-4})
    change(tree)
    trees["digits:2"] = expected(tree.root)
    api.backup(directory=project, name="digits", note="changed", joins=True, metrics={"accuracy": 0.97})
    tree.file("train.py", b"another\n")
    trees["other"] = expected(tree.root)
    api.backup(directory=project, name="other")
    Path(out, "store.tar.gz").write_bytes(pack(tree.root / "tensortime"))
    lines = (
        f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for name, rows in trees.items()
    )
    Path(out, "trees.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

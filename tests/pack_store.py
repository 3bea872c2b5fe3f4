"""A bare repository with a staging folder, and git to judge what packs.py writes into it."""

import contextlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from builders import clean_environment

from tensortime.packreader import PackIndex
from tensortime.packs import Kind, Packed, PackWriter, pack_object


class Store:
    """A bare repository with a staging folder, and git to judge it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packs, self.staging = folder / "git" / "objects" / "pack", folder / "staging"
        self.staging.mkdir()
        self.git("init", "-q", "--bare", "--template=", str(folder / "git"))

    def git(self, *args: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        env = clean_environment()
        if (self.folder / "git").exists():
            env["GIT_DIR"] = str(self.folder / "git")
        done = subprocess.run(["git", *args], input=stdin, env=env, cwd=self.folder, capture_output=True)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done

    def writer(self, limit: int = 1 << 30) -> PackWriter:
        return PackWriter(str(self.packs), str(self.staging), limit=limit)

    def publish(self, *objects: Packed, limit: int = 1 << 30) -> list[str]:
        with self.writer(limit) as writer:
            for packed in objects:
                writer.add(packed)
            return writer.finish()

    def read(self, kind: Kind, oid: bytes) -> bytes:
        return self.git("cat-file", kind.name.lower(), oid.hex()).stdout

    def published(self) -> list[str]:
        return sorted(path.name for path in self.packs.iterdir())

    def staged(self) -> list[str]:
        return sorted(path.name for path in self.staging.iterdir())

    def index(self, name: str) -> PackIndex:
        return PackIndex(str(self.packs / f"{name}.idx"))


@contextlib.contextmanager
def sound_store(folder: Path) -> Iterator[Store]:
    """A store; whatever a test does to it, git finds it sound afterwards and every published idx its own."""
    made = Store(folder)
    yield made
    report = made.git("fsck", "--strict", "--full", "--no-dangling")
    assert report.stdout == b""
    assert all(line.startswith(b"notice: ") for line in report.stderr.splitlines()), report.stderr
    for path in made.packs.glob("*.pack"):
        theirs = folder / f"{path.stem}.git.idx"
        made.git("index-pack", "--strict", "-o", str(theirs), str(path))
        assert path.with_suffix(".idx").read_bytes() == theirs.read_bytes()


def blob(data: bytes) -> Packed:
    return pack_object(Kind.BLOB, data)


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def text(size: int) -> bytes:
    return b"".join(b"epoch %d loss %f\n" % (i, 1 / (i + 1)) for i in range(size // 10 + 1))[:size]

"""docs/json.md says what --json prints: every document has the fields of its example, every kind of error is listed."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import Tree, run_cli, user_git
from stores import forge

from tensortime import errors

TEXT = (Path(__file__).parent.parent / "docs/json.md").read_text(encoding="utf-8")
RUN = """\
import os, sys
memory = bytearray(120 << 20)
os.mkdir("cache")
for path in ("out.txt", "cache/y", "train.py"):
    open(path, "a").write("x")
sys.exit(1)
"""
VERBS = {
    "backup": ("backup", "--name", "x"),
    "rerun": ("rerun", "again", "--verify", "--json", "--", "t.sh", "--a", "2"),
    "run": ("run", "--name", "x", "--json", "--", sys.executable, "-c", RUN),
    "log": ("log",),
    "show": ("show", "base"),
    "config": ("config",),
    "restore": ("restore", "base"),
    "export": ("export", "base", "../base.zip"),
    "import": ("import", "../base.zip"),
    "du": ("du", "base", "--paths"),
    "rm": ("rm", "--keep-last", "1"),
    "rm --worktree": ("rm", "--worktree", "--force", "base"),
    "undelete": ("undelete", "base"),
    "undelete without a name": ("undelete",),
    "verify": ("verify",),
    "gc": ("gc",),
    "purge": ("purge", "train.py", "--yes"),
    "doctor": ("doctor",),
    "error": ("show", "nothing"),
}


def example(verb: str) -> dict[str, Any]:
    """The example in the section of a verb."""
    section = TEXT.split(f"\n## {verb}\n")[1].split("\n## ")[0]
    found = re.search(r"```json\n(.*?)```", section, re.DOTALL)
    assert found, f"no example of {verb}"
    document = json.loads(found[1])
    assert isinstance(document, dict)
    return document


def shape(value: object, *, free: bool = False) -> object:
    """The fields of a document, in their order, down to what a person or run.json may fill freely."""
    if isinstance(value, dict) and not free:
        return {key: shape(item, free=key in ("params", "metrics", "run")) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value and isinstance(value[0], dict) else []
    return type(value).__name__


def prepare(verb: str, tree: Tree) -> None:
    """Make what a verb speaks of: a restored folder, with a commit of its own, and an experiment in the trash."""
    if verb in ("du", "rm", "rm --worktree"):
        run_cli("restore", "base", cwd=tree.root)
        run_cli("backup", "--name", "final", cwd=tree.root)
    if verb == "rm --worktree":
        folder = Tree(tree.root / "tensortime/base").file("train.py", b"mine").root
        user_git("commit", "-q", "-a", "-m", "mine", cwd=folder)
        (folder / "notes.txt").write_text("mine")
    if verb == "run":
        tree.file(".ttignore", b"cache/\n")
    if verb == "rerun":
        tree.file("t.sh", b'echo "[$$]" > r.json')
        run_cli("run", "--name", "again", "--", "sh", "t.sh", "--a", "1", cwd=tree.root)
    if verb == "verify":
        (tree.root / "tensortime/.shadow/refs/experiments/gone").write_text("1" * 40 + "\n")
    if verb == "import":
        run_cli("export", "base", "../base.zip", cwd=tree.root)
        shutil.rmtree(tree.root / "tensortime")
    if verb.startswith("undelete"):
        run_cli("rm", "base", cwd=tree.root)


@pytest.mark.parametrize("verb", VERBS)
def test_every_document_is_as_its_example(tmp_path: Path, verb: str) -> None:
    """Real output and example have the same fields of the same types in the same order."""
    tree = Tree(tmp_path / "p").file("train.py").file(".env").fifo("pipe").symlink("raw", b"../outside")
    Tree(tmp_path / "outside").file("a.bin")
    run_cli("backup", "--name", "base", cwd=tree.root)
    if verb == "show":
        run_cli("backup", "--name", "base", "--add", "train.py", cwd=tree.root)
    prepare(verb, tree)
    found = json.loads(run_cli(*VERBS[verb], "--json", cwd=tree.root).stdout)
    assert json.dumps(shape(found)) == json.dumps(shape(example(verb)))


def test_the_document_of_diff_is_as_its_example(tmp_path: Path) -> None:
    """Two backups that differ in all that the example shows: the same fields of the same types in the same order."""
    root = Tree(tmp_path / "p").file("train.py").root
    run_cli("backup", cwd=root)
    for name, lr, ignored in (("a", 3e-4, []), ("b", 1e-4, [{"path": "data", "rule": "ignore=['data']"}])):
        run = {
            "command": ["python", "train.py", "--lr", str(lr)],
            "python": {"version": "3"},
            "git": {"branch": name},
            "host": name,
            "ignored": ignored,
        }
        forge(
            root,
            name,
            [],
            files={b"train.py": name.encode(), **({} if ignored else {b"data/x.csv": b"1"})},
            meta={b"run.json": json.dumps(run).encode(), b"packages.txt": b"numpy==" + name.encode()},
            params={"lr": lr},
            metrics={"accuracy": lr},
        )
    found = json.loads(run_cli("diff", "a", "b", "--patch", "--json", cwd=root).stdout)
    document = example("diff")
    assert (found.pop("unknown"), document.pop("unknown")) == ([], ["packages"])
    assert json.dumps(shape(found)) == json.dumps(shape(document))


def kinds(error: type[errors.TensorTimeError]) -> dict[str, int]:
    """An error's kind and those of all below it, with their exit codes."""
    below = {kind: code for child in error.__subclasses__() for kind, code in kinds(child).items()}
    return {error.kind: error.exit_code, **below}


def test_every_kind_of_error_is_listed_with_its_exit_code() -> None:
    """The table at the end names all kinds, each in the row of its exit code."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", TEXT, re.MULTILINE)
    listed = {kind: int(code) for code, names in rows for kind in re.findall(r"`([a-z-]+)`", names)}
    assert listed == kinds(errors.TensorTimeError)

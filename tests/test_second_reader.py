"""A store is read without TensorTime: GitPython finds in the shadow repository what FORMAT.md says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from builders import Tree, clean_environment

from tensortime import api
from tensortime.trailers import decode_message

READER = """\
import json, sys
import git
with git.Repo(sys.argv[1], odbt=git.GitCmdObjectDB) as repository:
    answer = {"bare": repository.bare, "heads": [head.name for head in repository.heads], "refs": {}}
    for ref in repository.refs:
        commits = []
        for commit in repository.iter_commits(ref.path):
            entries = {item.path: (oct(item.mode), item.data_stream.read().decode())
                       for item in commit.tree.traverse() if item.type == "blob"}
            who = (commit.author.name, commit.author.email, commit.committer.name, commit.committer.email)
            when = commit.committed_date
            commits.append({"message": commit.message, "entries": entries, "who": who, "time": when})
        answer["refs"][ref.path] = commits
print(json.dumps(answer))
"""
"""GitPython hands this process's environment to git, leaks and all: it runs in a process with a clean one."""


def read(shadow: Path) -> dict[str, Any]:
    """A shadow repository as GitPython sees it."""
    done = subprocess.run(
        [sys.executable, "-c", READER, str(shadow)], env=clean_environment(), capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_gitpython_reads_a_shadow_repository(tmp_path: Path) -> None:
    """Experiments are refs, backups commits with trailers, small files blobs at their paths."""
    tree = (
        Tree(tmp_path / "project")
        .file("src/train.py", b"lr = 1\r\n")
        .file("run.sh", b"#!/bin/sh\n", mode=0o755)
    )
    tree.symlink("latest", "src").file("data.bin", size=1 << 20)
    first = api.backup(directory=tree.root, name="exp", note="one\n\nmore", params={"lr": 1})
    tree.file("src/train.py", b"lr = 2\n")
    second = api.backup(directory=tree.root, name="exp", note="two", joins=True)
    api.backup(directory=tree.root, name="实验")

    seen = read(tree.root / "tensortime" / ".shadow")
    assert (seen["bare"], seen["heads"]) == (True, [])
    assert set(seen["refs"]) == {"refs/experiments/exp", "refs/experiments/实验"}
    newest, oldest = seen["refs"]["refs/experiments/exp"]
    facts = [decode_message(commit["message"]) for commit in (oldest, newest)]
    assert [(one.number, one.note, one.time_ns) for one in facts] == [
        (1, "one\n\nmore", first.time_ns),
        (2, "two", second.time_ns),
    ]
    assert oldest["message"].startswith("one\n\nmore\n\nBackup: 1\nTime-Ns: ")
    assert newest["time"] == second.time_ns // 10**9
    assert newest["who"] == ["TensorTime", "tensortime@localhost"] * 2
    assert_entries(oldest["entries"], "lr = 1\r\n")
    assert_entries(newest["entries"], "lr = 2\n")


def assert_entries(entries: dict[str, list[str]], code: str) -> None:
    """The files of a backup, with git's modes; the large one is in the manifest alone."""
    own = {path: entries.pop(path)[1] for path in list(entries) if path.startswith(".tensortime/")}
    always = {".tensortime/manifest", ".tensortime/exclude", ".tensortime/run.json"}
    assert always <= set(own) <= {*always, ".tensortime/packages.txt"}
    assert entries == {
        "src/train.py": ["0o100644", code],
        "run.sh": ["0o100755", "#!/bin/sh\n"],
        "latest": ["0o120000", "src"],
    }
    header, line = map(json.loads, own[".tensortime/manifest"].splitlines())
    assert (header, line["path"], line["size"]) == ({"format": 1}, "data.bin", 1 << 20)
    assert own[".tensortime/exclude"] == "/data.bin\n"

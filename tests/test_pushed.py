"""The patch from the nearest pushed commit to the work tree: who has only the remote can make the code from it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import assert_same_tree, snapshot_of
from repositories import CANARY, contents, git, make_repository, watched_home

import tensortime
from tensortime import pushed as pushed_module
from tensortime import repository as repository_module
from tensortime.collector import start_collecting
from tensortime.pushed import parse_patch, unquoted


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[Path]:
    """Every test ends as it began, in a home of its own."""
    with watched_home(tmp_path / "home") as folder:
        yield folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose one commit is on a remote."""
    folder = make_repository(tmp_path / "user")
    git(folder, "init", "-q", "--bare", str(tmp_path / "origin"))
    git(folder, "remote", "add", "origin", str(tmp_path / "origin"))
    git(folder, "push", "-q", "-u", "origin", "main")
    return folder


def commit(folder: Path, name: str, text: str) -> str:
    """Commit one file; the commit's id."""
    (folder / name).write_text(text)
    git(folder, "add", name)
    git(folder, "commit", "-q", "-m", name)
    return git(folder, "rev-parse", "HEAD")


def collected(folder: Path) -> tuple[Any, bytes]:
    """What run.json says under `git.pushed`, and the patch."""
    facts, files = start_collecting(str(folder)).finish(30)
    return facts["git"].get("pushed", "nothing"), files.get(b"pushed.patch", b"")


def rebuilt(tmp_path: Path, commit: str, patch: bytes) -> Path:
    """What a colleague gets: a clone of the remote, the commit, the patch."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(tmp_path / "origin"), str(clone))
    git(clone, "checkout", "-q", commit)
    (tmp_path / "the.patch").write_bytes(patch)
    git(clone, "apply", "--whitespace=nowarn", str(tmp_path / "the.patch"))
    return clone


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of git that collecting in `folder` starts."""
    started: list[list[str]] = []
    start = repository_module.GitCalls._start

    def note(self: Any, top: bytes, words: Any, settings: Any) -> Any:
        started.append(list(words))
        return start(self, top, words, settings)

    with monkeypatch.context() as patch:
        patch.setattr(repository_module.GitCalls, "_start", note)
        start_collecting(str(folder)).finish(30)
    return started


def test_a_colleague_gets_the_same_files(repository: Path, tmp_path: Path) -> None:
    """Commits that are not pushed and changes that are not committed: text, bytes, modes, links, odd names."""
    pushed = git(repository, "rev-parse", "HEAD")
    commit(repository, "new.py", "committed\n")
    (repository / "train.py").write_text("lr = 2\r\nno line break")
    (repository / "new.py").chmod(0o755)
    os.symlink("train.py", repository / "link")
    for name in ('ünï\tcode "x"', "diff --git a b", "-dash"):
        (repository / name).write_bytes(b"\0binary\xff" * 99)
    (repository / "empty").touch()
    git(repository, "add", "--all")
    (repository / "untracked").write_text("is in the backup, not in git")
    before = contents(repository)
    facts, patch = collected(repository)
    assert contents(repository) == before
    assert facts == {"commit": pushed, "patch": len(patch)}
    clone = rebuilt(tmp_path, pushed, patch)
    (repository / "untracked").unlink()
    ours, theirs = (snapshot_of(one, exclude=[".git"]) for one in (repository, clone))
    assert_same_tree(
        *(
            {path: entry._replace(mode=entry.mode & 0o100) for path, entry in one.items()}
            for one in (ours, theirs)
        )
    )


def test_removed_moved_and_turned_into_links(repository: Path, tmp_path: Path) -> None:
    """Every kind of change can be applied."""
    for name in ("a", "b", "c"):
        commit(repository, name, f"{name}\n" * 9)
    git(repository, "push", "-q")
    pushed = git(repository, "rev-parse", "HEAD")
    git(repository, "rm", "-q", "a")
    git(repository, "mv", "b", "moved")
    (repository / "c").unlink()
    os.symlink("moved", repository / "c")
    facts, patch = collected(repository)
    assert facts["commit"] == pushed
    clone = rebuilt(tmp_path, pushed, patch)
    assert sorted(os.listdir(clone)) == [".git", "c", "moved", "train.py"]
    assert os.readlink(clone / "c") == "moved"


def test_what_is_pushed_costs_nothing(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean, pushed branch: not one process more. Behind its remote, or under no branch: one."""
    head = git(repository, "rev-parse", "HEAD")
    assert collected(repository) == ({"commit": head, "patch": 0}, b"")
    assert [words[0] for words in programs(repository, monkeypatch)] == ["config", "status"]
    git(repository, "checkout", "-q", "--detach")
    assert collected(repository) == ({"commit": head, "patch": 0}, b"")
    assert [words[0] for words in programs(repository, monkeypatch)] == ["config", "status", "rev-list"]


def test_without_a_remote_there_is_nothing(tmp_path: Path) -> None:
    """No remote: no field. A remote that has nothing: null. No commit yet: no field."""
    folder = make_repository(tmp_path / "r")
    assert collected(folder) == ("nothing", b"")
    git(folder, "remote", "add", "origin", "https://host.example/x")
    assert collected(folder) == (None, b"")
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q")
    git(tmp_path / "empty", "remote", "add", "origin", "https://host.example/x")
    assert collected(tmp_path / "empty") == ("nothing", b"")


def test_a_merge_of_pushed_and_not_pushed(repository: Path, tmp_path: Path) -> None:
    """A history with more than one pushed neighbour: one of them is taken, and the patch fits it."""
    git(repository, "checkout", "-q", "-b", "side")
    commit(repository, "side.py", "side\n")
    git(repository, "push", "-q", "origin", "side")
    git(repository, "checkout", "-q", "main")
    commit(repository, "main.py", "main\n")
    git(repository, "merge", "-q", "-m", "both", "side")
    facts, patch = collected(repository)
    clone = rebuilt(tmp_path, facts["commit"], patch)
    assert sorted(os.listdir(clone)) == [".git", "main.py", "side.py", "train.py"]


def test_secrets_do_not_get_in(repository: Path) -> None:
    """S14: tracked files that are called like secrets, at any depth, changed or new; the facts name them."""
    for folder in (repository, repository / "sub"):
        folder.mkdir(exist_ok=True)
        for name in (".env", ".env.local", "id_rsa", "id_ed25519.old", ".netrc", "kaggle.json", "server.pem"):
            (folder / name).write_text("old\n")
    git(repository, "add", "--all", "--force")
    git(repository, "commit", "-q", "-m", "careless")
    git(repository, "push", "-q")
    for folder in (repository, repository / "sub"):
        for name in os.listdir(folder):
            if (folder / name).is_file():
                (folder / name).write_text(CANARY)
    (repository / "new").mkdir()
    (repository / "new" / ".env").write_text(CANARY)
    git(repository, "add", "--all", "--force")
    (repository / "train.py").write_text("lr = 3\n")
    (repository / ".env.example").write_text("KEY=\n")
    git(repository, "add", ".env.example")
    facts, patch = collected(repository)
    assert facts["patch"] == len(patch) > 0
    assert (CANARY.encode() in patch, b"+KEY=" in patch) == (False, True)
    assert {".env", "sub/.env", "new/.env", "sub/server.pem"} <= set(facts["without"])
    assert len(facts["without"]) == 15


def test_what_the_backup_leaves_out_stays_out(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that .ttignore names is not in the patch either; nor is the store, nor what lies outside the project."""
    monkeypatch.setattr("tensortime.publication.ENVIRONMENT_SECONDS", 30)
    project = repository / "project"
    project.mkdir()
    (project / ".ttignore").write_text("private.yaml\n")
    for path in (project / "private.yaml", project / "model.py", repository / "common.py"):
        path.write_text("old\n")
    git(repository, "add", "--all")
    git(repository, "commit", "-q", "-m", "second")
    git(repository, "push", "-q")
    (project / "private.yaml").write_text(CANARY)
    (project / "model.py").write_text("new model\n")
    (repository / "common.py").write_text(CANARY)
    (repository / "project-2").write_text(CANARY)
    git(repository, "add", "project-2")
    report = tensortime.backup(directory=project)
    (project / "tensortime" / ".git").unlink()
    git(repository, "add", "--force", "project/tensortime")
    assert report.experiment is not None
    second = tensortime.backup(directory=project)
    assert second.experiment is not None
    from tensortime import api

    for name in (report.experiment, second.experiment):
        patch, _ = api.read_file(name, ".tensortime/pushed.patch", directory=project)
        assert patch is not None
        assert CANARY.encode() not in patch
        assert (b"+new model" in patch, b"common" in patch) == (True, False)
        assert b"tensortime/" not in patch.replace(b".tensortime/", b"")
        facts = api.show(name, directory=project).run["git"]
        assert isinstance(facts, dict)
        assert facts["pushed"]["patch"] == len(patch)
        assert {"common.py", "project-2", "project/private.yaml"} <= set(facts["pushed"]["without"])


def test_what_the_backup_would_leave_out_is_not_told_when_it_is_gone(repository: Path) -> None:
    """A removal shows all that was in a file: of what a rule leaves out there is none, whichever rule it is."""
    told = ("gone.py", "sub/gone.py", "kept/gone.log", "away/gone.py")
    untold = (
        "x.log",
        "private/a/b.yaml",
        "sub/own.yaml",
        "data/c.csv",
        "venv/lib/a.py",
        "__pycache__/a.py",
        "old/s.yaml",
    )
    for name in (*told, *untold):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(CANARY if name in untold else f"told {name}\n")
    (repository / ".ttignore").write_text("*.log\n/private/\n")
    (repository / "sub" / ".ttignore").write_text("own.yaml\n")
    (repository / "kept" / ".ttignore").write_text("!*.log\n")
    (repository / "old" / ".ttignore").write_text("s.yaml\n")
    (repository / "venv" / "pyvenv.cfg").touch()
    git(repository, "add", "--all", "--force")
    git(repository, "commit", "-q", "-m", "second")
    git(repository, "push", "-q")
    for name in (*told, *untold, "old/.ttignore"):
        (repository / name).unlink()
    for folder in ("private/a", "private", "old", "away"):
        (repository / folder).rmdir()
    tensortime.backup(directory=repository, ignore=["data"])
    from tensortime import api

    patch, _ = api.read_file("@", ".tensortime/pushed.patch", directory=repository)
    assert patch is not None
    assert not [name for name in told if f"-told {name}".encode() not in patch]
    assert CANARY.encode() not in patch
    facts: Any = api.show("@", directory=repository).run["git"]
    assert set(facts["pushed"]["without"]) == set(untold)


def test_a_patch_that_is_data(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit there is none, and the facts say so."""
    monkeypatch.setattr(pushed_module, "LONGEST_PATCH", 1 << 20)
    (repository / "train.py").write_bytes(os.urandom(2 << 20))
    facts, patch = collected(repository)
    assert facts == {"commit": git(repository, "rev-parse", "HEAD"), "error": "more than 1 MiB"}
    assert patch == b""


def test_a_merge_in_progress(repository: Path, tmp_path: Path) -> None:
    """The files are as they are, marks of the conflict included."""
    git(repository, "checkout", "-q", "-b", "side")
    commit(repository, "train.py", "side\n")
    git(repository, "checkout", "-q", "main")
    commit(repository, "train.py", "main\n")
    with pytest.raises(AssertionError, match="merge"):
        git(repository, "merge", "side")
    facts, patch = collected(repository)
    clone = rebuilt(tmp_path, facts["commit"], patch)
    assert (clone / "train.py").read_bytes() == (repository / "train.py").read_bytes()


def test_filters_are_not_started(repository: Path, tmp_path: Path) -> None:
    """What git-lfs and its like make is neither made nor in the patch; the rest of it fits."""
    script = tmp_path / "filter"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/{CANARY}\ncat\n")
    script.chmod(0o755)
    (repository / ".gitattributes").write_text("*.bin filter=lfs\n*.py diff=own\n")
    (repository / "model.bin").write_text("version https://git-lfs.example/spec/v1\n")
    git(repository, "add", "--all")
    git(repository, "commit", "-q", "-m", "second")
    git(repository, "push", "-q")
    for key in (
        "filter.lfs.clean",
        "filter.lfs.process",
        "diff.own.textconv",
        "diff.own.command",
        "diff.external",
    ):
        git(repository, "config", key, str(script))
    git(repository, "config", "filter.lfs.required", "true")
    (repository / "model.bin").write_bytes(b"\0" * 9999)
    (repository / "train.py").write_text("lr = 4\n")
    facts, patch = collected(repository)
    assert not (tmp_path / CANARY).exists()
    assert (b"model.bin" in patch, b"+lr = 4" in patch) == (False, True)
    assert (facts["patch"], facts["filters"]) == (len(patch), ["lfs"])


def test_a_hostile_configuration_of_diff(repository: Path, tmp_path: Path) -> None:
    """Whatever the user prefers to see, the patch can be applied."""
    commit(repository, "long.py", "".join(f"{number}\n" for number in range(99)))
    git(repository, "push", "-q")
    (tmp_path / "order").write_text("train.py\n")
    for key, value in {
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "diff.renames": "copies",
        "diff.context": "0",
        "diff.interHunkContext": "9",
        "diff.suppressBlankEmpty": "true",
        "diff.submodule": "log",
        "diff.relative": "true",
        "diff.wsErrorHighlight": "all",
        "diff.colorMoved": "zebra",
        "diff.orderFile": str(tmp_path / "order"),
        "diff.dirstat": "lines",
        "color.ui": "always",
        "core.quotePath": "false",
        "core.pager": "false",
    }.items():
        git(repository, "config", key, value)
    git(repository, "mv", "long.py", "ünter.py")
    (repository / "train.py").write_text("lr = 5\n\n")
    facts, patch = collected(repository)
    clone = rebuilt(tmp_path, facts["commit"], patch)
    assert (clone / "train.py").read_text() == "lr = 5\n\n"
    assert (clone / "ünter.py").read_bytes() == (repository / "ünter.py").read_bytes()


def test_an_answer_that_is_no_patch() -> None:
    """Parts that cannot be told apart are an error, never a guess."""
    record = b":100644 100644 61780798228d17af2d34fce4cfbdf35856532472 0000000000000000000000000000000000000000 M\tb\n"
    section = b"diff --git a/b b/b\n--- a/b\n+++ b/b\n"
    [one] = parse_patch(record + b"\n" + section)
    assert (one.path, one.is_gone, one.data) == (b"b", False, section)
    assert parse_patch(b"") == ()
    for broken in (section, record, record + record + b"\n" + section, b"warning: x\n" + record + section):
        with pytest.raises(ValueError, match=r"git diff gave no answer|told apart"):
            parse_patch(broken)
    assert unquoted(rb'"a\tb\"\\\303\274"') == 'a\tb"\\ü'.encode()
    assert unquoted(b"plain") == b"plain"


def test_adding_keeps_the_patch_of_the_start(repository: Path) -> None:
    """The backup of the weights changes nothing of what the code was."""
    from tensortime import api

    (repository / "train.py").write_text("lr = 6\n")
    name = api.backup(directory=repository, name="x").experiment
    assert name == "x"
    patch, _ = api.read_file("x", ".tensortime/pushed.patch", directory=repository)
    packages, _ = api.read_file("x", ".tensortime/packages.txt", directory=repository)
    (repository / "train.py").write_text("lr = 7\n")
    (repository / "weights").write_bytes(b"w" * 99)
    assert api.backup(directory=repository, name="x", add=[repository / "weights"]).number == 2
    assert api.read_file("x", ".tensortime/pushed.patch", directory=repository)[0] == patch
    assert api.read_file("x", ".tensortime/packages.txt", directory=repository)[0] == packages
    facts = api.show("x", directory=repository).run["git"]
    assert facts == api.show("x:1", directory=repository).run["git"], "pushed too"
    third = api.backup(directory=repository, name="x", joins=True)
    assert (third.number, third.experiment) == (3, "x")
    latest, _ = api.read_file("x", ".tensortime/pushed.patch", directory=repository)
    assert latest is not None
    assert b"+lr = 7" in latest

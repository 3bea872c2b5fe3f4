"""The user's repository as git and its files tell it; read, never written. CASES E02, E12, E14, S14."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from repositories import CANARY, contents, git, known, make_repository, python, watched_home

from tensortime.formats import RelPath, bytes_of
from tensortime.repository import nested_heads, user_repository


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[Path]:
    """Every test ends as it began, in a home of its own."""
    with watched_home(tmp_path / "home") as folder:
        yield folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository with one commit."""
    return make_repository(tmp_path / "user")


def test_a_folder_without_git_has_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E12: no repository is no error, and no git is needed to know it."""
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        assert user_repository(str(tmp_path)) is None


def test_a_clean_repository(repository: Path) -> None:
    """Top, commit, branch, remotes; files that git does not track do not make it dirty."""
    (repository / "result.bin").write_bytes(b"untracked")
    git(repository, "remote", "add", "origin", "https://example.org/a.git")
    assert user_repository(str(repository)) == {
        "top": str(repository),
        "head": git(repository, "rev-parse", "HEAD"),
        "branch": "main",
        "dirty": False,
        "remotes": {"origin": "https://example.org/a.git"},
    }


def test_an_edited_file_makes_it_dirty(repository: Path) -> None:
    """The commit alone does not tell which code ran."""
    (repository / "train.py").write_text("lr = 2\n")
    assert known(repository)["dirty"] is True
    git(repository, "add", "train.py")
    assert known(repository)["dirty"] is True
    git(repository, "commit", "-q", "-m", "second")
    assert known(repository)["dirty"] is False
    (repository / "train.py").unlink()
    assert known(repository)["dirty"] is True


def test_a_project_below_the_top(repository: Path) -> None:
    """E12: the repository is found upward; an edit elsewhere in it counts too."""
    project = repository / "a" / "b"
    project.mkdir(parents=True)
    assert known(project)["top"] == str(repository)
    (repository / "train.py").write_text("lr = 2\n")
    assert known(project)["dirty"] is True


def test_a_project_behind_a_link_is_where_it_really_is(repository: Path, tmp_path: Path) -> None:
    """git follows links to the real folder before it looks upward."""
    (repository / "a").mkdir()
    (tmp_path / "link").symlink_to(repository / "a")
    assert known(tmp_path / "link")["top"] == str(repository)


def test_before_the_first_commit(tmp_path: Path) -> None:
    """An unborn branch has a name and no commit."""
    git(tmp_path, "init", "-q")
    facts = known(tmp_path)
    assert (facts["head"], facts["branch"], facts["dirty"]) == (None, "main", False)


def test_a_detached_head(repository: Path) -> None:
    """A commit without a branch."""
    git(repository, "checkout", "-q", "--detach")
    facts = known(repository)
    assert (facts["head"], facts["branch"]) == (git(repository, "rev-parse", "HEAD"), None)


def test_a_linked_worktree(repository: Path, tmp_path: Path) -> None:
    """E12: its own branch and changes, the remotes of all."""
    git(repository, "remote", "add", "origin", "../o")
    git(repository, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    (tmp_path / "linked" / "train.py").write_text("lr = 3\n")
    facts = known(tmp_path / "linked")
    assert (facts["top"], facts["branch"], facts["dirty"]) == (str(tmp_path / "linked"), "other", True)
    assert facts["remotes"] == {"origin": "../o"}
    assert known(repository)["dirty"] is False


def test_a_submodule_and_the_repository_around_it(repository: Path, tmp_path: Path) -> None:
    """The submodule is a repository of its own; another commit in it makes the outer one dirty, an edit does not."""
    source = make_repository(tmp_path / "source")
    git(repository, "submodule", "--quiet", "add", str(source), "sub")
    git(repository, "commit", "-q", "-m", "sub")
    sub = repository / "sub"
    assert known(sub) == {
        "top": str(sub),
        "head": git(source, "rev-parse", "HEAD"),
        "branch": "main",
        "dirty": False,
        "remotes": {"origin": str(source)},
    }
    (sub / "train.py").write_text("lr = 4\n")
    assert known(sub)["dirty"] is True
    assert known(repository)["dirty"] is False
    git(sub, "commit", "-q", "-a", "-m", "more")
    assert known(repository)["dirty"] is True


def test_a_bare_repository_around_the_project(repository: Path, tmp_path: Path) -> None:
    """E12: no work tree, so git cannot say whether it is dirty; commit, branch and remotes are still told."""
    bare = tmp_path / "hub"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(bare / ".git"))
    facts = known(bare)
    assert facts["head"] == git(repository, "rev-parse", "HEAD")
    assert (facts["branch"], facts["dirty"]) == ("main", None)
    assert facts["remotes"] == {"origin": str(repository)}
    assert "work tree" in facts["error"]


def test_a_repository_of_somebody_else(repository: Path) -> None:
    """git refuses it (CVE-2022-24765): its word is recorded, and what its files tell."""
    if os.geteuid() != 0:
        pytest.skip("cannot be installed: only root can give files away")
    head = git(repository, "rev-parse", "HEAD")
    for path in (repository, repository / ".git"):
        os.chown(path, 12345, 12345)
    facts = known(repository)
    assert (facts["head"], facts["branch"], facts["dirty"]) == (head, "main", None)
    assert "dubious ownership" in facts["error"]
    assert "\n" not in facts["error"]


def test_a_git_file_that_leads_nowhere(tmp_path: Path) -> None:
    """A worktree copied to another machine: an error among the facts, and only that."""
    (tmp_path / ".git").write_text("gitdir: /gone/.git/worktrees/x\n")
    assert "/gone/.git/worktrees/x" in known(tmp_path)["error"]
    (tmp_path / ".git").write_text("something else")
    assert known(tmp_path)["error"]


def test_an_empty_git_folder_is_passed_by(repository: Path) -> None:
    """git looks further up, and so do we."""
    (repository / "a" / ".git").mkdir(parents=True)
    assert known(repository / "a")["top"] == str(repository)


def test_a_damaged_repository_never_answers_for_one_further_up(repository: Path) -> None:
    """With a broken inner repository git would go on to the outer one and tell of its commits."""
    inner = repository / "inner" / ".git"
    inner.mkdir(parents=True)
    (inner / "HEAD").write_text("ref: refs/heads/main\n")
    facts = known(repository / "inner")
    assert facts["top"] == str(repository / "inner")
    assert facts["head"] is None
    assert "not a git repository" in facts["error"]


def test_a_restored_worktree_has_no_repository_of_the_user(repository: Path) -> None:
    """E14: its `.git` leads to the shadow repository, which is not the user's."""
    store = repository / "tensortime"
    store.mkdir()
    git(repository, "clone", "-q", "--bare", str(repository), str(store / ".shadow"))
    git(store / ".shadow", "worktree", "add", "-q", "--detach", str(store / "exp"))
    assert user_repository(str(store / "exp")) is None


def test_odd_names(tmp_path: Path) -> None:
    """Names that are no UTF-8, that look like variables or options, with line breaks, all come through."""
    top = os.fsencode(tmp_path) + b"/-c \xff\n$HOME ~ \xe5\xae\x9e"
    os.mkdir(top)
    git(top, "init", "-q")
    git(top, "checkout", "-q", "-b", "实验/一")
    git(top, "commit", "-q", "--allow-empty", "-m", "first")
    facts = known(os.fsdecode(top))
    assert bytes_of(facts["top"]) == top
    assert (facts["head"], facts["branch"]) == (git(top, "rev-parse", "HEAD"), "实验/一")
    assert "error" not in facts


def test_a_sha256_repository(tmp_path: Path) -> None:
    """The user's repository may use the other hash."""
    git(tmp_path, "init", "-q", "--object-format=sha256")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    assert len(known(tmp_path)["head"]) == 64


def test_remotes_carry_no_credentials(repository: Path) -> None:
    """S14: user and password, or a token in their place, never reach run.json; a plain ssh user does."""
    urls = {
        "pair": (f"https://me:{CANARY}@example.org/a.git", "https://example.org/a.git"),
        "token": (f"https://{CANARY}@example.org/a.git", "https://example.org/a.git"),
        "ssh": (f"ssh://git:{CANARY}@example.org:22/a", "ssh://git@example.org:22/a"),
        "scp": ("git@example.org:a.git", "git@example.org:a.git"),
        "helper": (f"codecommit::https://a:{CANARY}@x/y", "codecommit::https://x/y"),
        "with.dots and = signs": ("../o", "../o"),
    }
    for name, (url, _) in urls.items():
        git(repository, "config", f"remote.{name}.url", url)
    facts = known(repository)
    assert facts["remotes"] == {name: shown for name, (_, shown) in urls.items()}
    assert CANARY not in json.dumps(facts)


# --- read only


def test_the_index_is_not_refreshed(repository: Path) -> None:
    """A plain `git status` would write the index where only a time changed."""
    os.utime(repository / "train.py", (1, 1))
    before = contents(repository)
    assert known(repository)["dirty"] is False
    assert contents(repository) == before


def hostile_settings(script: str) -> str:
    """A configuration in which everything that git can start is `script`."""
    return f"""
[core]
    fsmonitor = {script}
    hooksPath = {os.path.dirname(script)}
    pager = {script}
    editor = {script}
    sshCommand = {script}
    untrackedCache = true
[filter "evil=\\"x y\\""]
    clean = {script}
    smudge = {script}
    required = true
[filter "long"]
    process = {script}
    required
[diff]
    external = {script}
[diff "evil"]
    textconv = {script}
[credential]
    helper = {script}
[status]
    submoduleSummary = true
    showUntrackedFiles = all
[alias]
    status = !{script}
    config = !{script}
[trace2]
    normalTarget = {script}.trace
    perfTarget = {script}.trace
    eventTarget = {script}.trace
"""


@pytest.mark.parametrize("where", ["of the repository", "of the user"])
def test_no_program_of_the_user_starts(repository: Path, home: Path, tmp_path: Path, where: str) -> None:
    """E02: no hook, filter, fsmonitor, pager or alias runs, and the repository keeps every byte and time."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("run", "post-index-change", "pre-auto-gc", "fsmonitor-watchman"):
        (scripts / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/{CANARY}'\ncat\n")
        (scripts / name).chmod(0o755)
    (repository / "big.bin").write_bytes(b"one")
    (repository / "long.bin").write_bytes(b"one")
    (repository / ".gitattributes").write_text('big.bin filter=evil="x diff=evil\nlong.bin filter=long\n')
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "files")
    config = repository / ".git" / "config" if where == "of the repository" else home / ".gitconfig"
    with config.open("a") as file:
        file.write(hostile_settings(str(scripts / "run")))
    for name in ("big.bin", "long.bin", "train.py"):
        os.utime(repository / name, (1, 1))
    before = contents(repository)
    facts = known(repository)
    assert (facts.get("error"), facts["branch"]) == (None, "main")
    assert contents(repository) == before
    assert not (tmp_path / CANARY).exists()
    assert not (scripts / "run.trace").exists()


# --- nested repositories


def test_heads_of_nested_repositories(tmp_path: Path) -> None:
    """Loose and packed refs, detached, unborn, a worktree; no process is started for them."""
    folders = {name: make_repository(tmp_path / name) for name in ("loose", "packed", "detached")}
    git(folders["packed"], "pack-refs", "--all")
    git(folders["detached"], "checkout", "-q", "--detach")
    git(folders["loose"], "worktree", "add", "-q", "-b", "a/b", str(tmp_path / "linked"))
    folders["linked"] = tmp_path / "linked"
    (tmp_path / "unborn").mkdir()
    git(tmp_path / "unborn", "init", "-q")
    heads = {name: git(folder, "rev-parse", "HEAD") for name, folder in folders.items()}
    asked = [*folders, "unborn", "gone"]
    code = (
        "import os, json; from tensortime.repository import nested_heads;"
        "print(json.dumps(nested_heads((os.fsencode(p), os.path.basename(os.fsencode(p))) for p in sys.argv[1:])))"
    )
    answer = python(code, *(str(tmp_path / name) for name in asked), PATH="")
    assert json.loads(answer) == [
        *({"path": name, "head": head} for name, head in heads.items()),
        {"path": "unborn", "head": None},
    ]


@pytest.mark.parametrize(
    "head", [b"ref: ../../secret", b"ref: refs/../../secret", b"", b"\xff" * 40, b"ref: refs/heads/a"]
)
def test_a_hostile_nested_repository_leads_nowhere(tmp_path: Path, head: bytes) -> None:
    """A HEAD that points out of the repository, to itself or to nothing has no commit."""
    (tmp_path / "secret").write_bytes(b"f" * 40)
    inside = tmp_path / "nested" / ".git"
    (inside / "refs" / "heads").mkdir(parents=True)
    (inside / "HEAD").write_bytes(head)
    (inside / "refs" / "heads" / "a").write_bytes(b"ref: refs/heads/a\n")
    nested = [(os.fsencode(tmp_path / "nested"), RelPath(b"nested"))]
    assert nested_heads(nested) == [{"path": "nested", "head": None}]


def test_a_pipe_as_head_holds_nothing_up(tmp_path: Path) -> None:
    """Opening a FIFO would wait for a writer for ever."""
    inside = tmp_path / "nested" / ".git"
    inside.mkdir(parents=True)
    os.mkfifo(inside / "HEAD")
    nested = [(os.fsencode(tmp_path / "nested"), RelPath(b"nested\xff"))]
    assert nested_heads(nested) == [{"path": "nested\udcff", "head": None}]

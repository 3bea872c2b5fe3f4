"""Nothing that surrounds a backup reaches it, and it reaches nothing: leaked variables, odd systems.

CASES E01 to E06.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from builders import Entry, Tree, assert_same_tree, run_cli, snapshot_of, user_git

import tensortime
from tensortime.errors import NoGit

EXCLUDE = b".git/info/exclude"
TESTS = str(Path(__file__).resolve().parent)
TRAIN = """\
from tensortime import TimeMachine
report = TimeMachine().backup()
print("trained after", ascii(report.experiment))
"""


class Watched(NamedTuple):
    """A user's repository, and how it was."""

    folder: Path
    before: dict[bytes, Entry]
    exclude: bytes

    def assert_untouched(self) -> None:
        """Every byte is as it was, but for the one line in `info/exclude`."""
        after = snapshot_of(self.folder, exclude=["tensortime"])
        del after[EXCLUDE]
        assert after == self.before
        assert (self.folder / os.fsdecode(EXCLUDE)).read_bytes() == self.exclude + b"/tensortime/\n"


def watch(folder: Path) -> Watched:
    """Note how a repository is."""
    before = snapshot_of(folder, exclude=["tensortime"])
    del before[EXCLUDE]
    return Watched(folder, before, (folder / os.fsdecode(EXCLUDE)).read_bytes())


def make_repository(folder: Path) -> Path:
    """A user's repository with two commits, something staged, something changed and something new."""
    tree = Tree(folder).file("train.py", TRAIN.encode()).file("data/part.csv", b"1,2\r\n3,4\r\n")
    tree.file("run.sh", b"#!/bin/sh\n", mode=0o755).symlink("latest", "data").folder("empty")
    user_git("init", "--quiet", cwd=folder)
    for message in ("first", "second"):
        tree.file("log.txt", message.encode())
        user_git("add", "--all", cwd=folder)
        user_git("commit", "--quiet", "--message", message, cwd=folder)
    tree.file("staged.py", b"x = 1\n")
    user_git("add", "staged.py", cwd=folder)
    tree.file("log.txt", b"changed").file("weights.bin", size=1_200_000)
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository that is also the project."""
    return make_repository(tmp_path / "project")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the project, for canaries and what does not belong to it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    return folder


def canary(path: Path, sign: Path) -> Path:
    """A program that leaves a sign when it runs, and then fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "$0 $*" >> {shlex.quote(str(sign))}\nexit 1\n')
    path.chmod(0o755)
    return path


def assert_whole(project: Path, restored: Path) -> None:
    """The restored project is the project, and the store needs nobody else's objects for it."""
    assert_same_tree(project, restored)
    user_git(f"--git-dir={project}/tensortime/.shadow", "fsck", "--strict", "--full", cwd=project)


# --- E01, E02: what is leaked into the environment

LEAKS = {
    "GIT_DIR": "{git}",
    "GIT_WORK_TREE": "{project}",
    "GIT_INDEX_FILE": "{git}/index",
    "GIT_OBJECT_DIRECTORY": "{git}/objects",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES": "{git}/objects",
    "GIT_COMMON_DIR": "{git}",
    "GIT_NAMESPACE": "theirs",
    "GIT_QUARANTINE_PATH": "{git}/objects/incoming",
    "GIT_CONFIG_PARAMETERS": "'core.fsmonitor'='{program}' 'core.bare'='false'",
    "GIT_TEMPLATE_DIR": "{outside}/template",
    "GIT_TRACE": "{outside}/trace",
    "GIT_DEFAULT_HASH": "sha256",
    "GIT_EXEC_PATH": "{outside}/bin",
    "GIT_EXTERNAL_DIFF": "{program}",
    "GIT_REPLACE_REF_BASE": "refs/experiments/",
    "GIT_CONFIG_COUNT": "1",
}
"""What a hook or a careless shell leaves behind, all of it about the user's own repository."""


def leaked(names: list[str], project: Path, outside: Path) -> dict[str, str]:
    """These variables filled in, with programs that leave a sign if git ever runs them."""
    program = canary(outside / "bin" / "git-worktree", outside / "sign")
    canary(outside / "template" / "hooks" / "post-checkout", outside / "sign")
    places = {"git": project / ".git", "project": project, "outside": outside, "program": program}
    found = {name: LEAKS[name].format(**places) for name in names}
    if "GIT_CONFIG_COUNT" in found:
        found |= {"GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": str(program)}
    return found


@pytest.mark.parametrize("name", LEAKS)
def test_a_leaked_variable_leads_git_nowhere_else(
    name: str, repository: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E01: with one GIT_* inherited, the user's repository is left alone and the store holds everything."""
    for other in [one for one in os.environ if one.startswith("GIT_")]:
        monkeypatch.delenv(other)
    for key, value in leaked([name], repository, outside).items():
        monkeypatch.setenv(key, value)
    watched = watch(repository)
    tensortime.backup(directory=repository, name="leak")
    tensortime.restore("leak", outside / "restored", directory=repository)
    watched.assert_untouched()
    assert_whole(repository, outside / "restored")
    assert not (outside / "sign").exists() and not (outside / "trace").exists()


def test_all_leaked_variables_at_once(repository: Path, outside: Path) -> None:
    """E01: the same with every variable at once, in processes of their own, and run.json tells of the right
    branch.
    """
    env = leaked(list(LEAKS), repository, outside)
    watched = watch(repository)
    head = user_git("rev-parse", "HEAD", cwd=repository).strip()
    assert run_cli("backup", "--name", "leak", cwd=repository, env=env).returncode == 0
    assert run_cli("restore", "leak", outside / "restored", cwd=repository, env=env).returncode == 0
    watched.assert_untouched()
    assert_whole(repository, outside / "restored")
    assert tensortime.show("leak", directory=repository).run["git"]["head"] == head  # type: ignore[index]
    assert not (outside / "sign").exists() and not (outside / "trace").exists()


HOOK = """\
#!{python}
import os, subprocess, sys
sys.path.insert(0, {tests!r})
from builders import snapshot_of

def state():
    left_out = ["tensortime", ".git/info/exclude"]
    return [snapshot_of(folder, exclude=left_out) for folder in {watched!r}]

def tool(*words):
    subprocess.run([sys.executable, "-m", "tensortime", *words, "-C", {project!r}], check=True)

before = state()
tool("backup", "--name", {name!r})
tool("restore", {name!r}, {restored!r})
assert state() == before, "the hook changed somebody's repository"
with open({report!r}, "w") as file:
    file.write(" ".join(name for name in os.environ if name.startswith("GIT_")))
"""


def write_hook(path: Path, project: Path, outside: Path, watched: list[Path]) -> None:
    """A hook that backs up and restores, and fails if that changes one of the watched repositories."""
    text = HOOK.format(
        python=sys.executable,
        tests=TESTS,
        watched=[str(folder) for folder in watched],
        project=str(project),
        name=path.name,
        restored=str(outside / "restored"),
        report=str(outside / "variables"),
    )
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def test_a_backup_in_a_pre_commit_hook(repository: Path, outside: Path) -> None:
    """E01: inside `git commit -a` GIT_INDEX_FILE names a lock file, and the commit is what it would have
    been.
    """
    write_hook(repository / ".git" / "hooks" / "pre-commit", repository, outside, [repository])
    user_git("commit", "--quiet", "--all", "--message", "with a hook", cwd=repository)
    assert "GIT_INDEX_FILE" in (outside / "variables").read_text()
    assert user_git("show", "HEAD", "--format=", "--name-only", cwd=repository).split() == [
        "log.txt",
        "staged.py",
    ]
    assert user_git("status", "--porcelain", cwd=repository) == "?? weights.bin\n"
    assert_whole(repository, outside / "restored")


def test_a_backup_in_a_pre_receive_hook(repository: Path, outside: Path) -> None:
    """E01: while a push is in quarantine git refuses to move refs; the store's are moved all the same."""
    hub = outside / "hub.git"
    user_git("clone", "--quiet", "--bare", str(repository), str(hub), cwd=outside)
    write_hook(hub / "hooks" / "pre-receive", repository, outside, [repository, hub])
    user_git("commit", "--quiet", "--all", "--message", "to push", cwd=repository)
    user_git("push", "--quiet", str(hub), "HEAD:refs/heads/pushed", cwd=repository)
    assert "GIT_QUARANTINE_PATH" in (outside / "variables").read_text()
    assert_whole(repository, outside / "restored")


def test_a_backup_in_a_rebase(repository: Path, outside: Path) -> None:
    """E01: `git rebase --exec` goes on as if nothing had happened between two of its steps."""
    user_git("commit", "--quiet", "--all", "--message", "third", cwd=repository)
    write_hook(outside / "step", repository, outside, [repository])
    user_git("rebase", "--quiet", "--force-rebase", "--exec", f"{outside}/step", "HEAD~1", cwd=repository)
    assert (outside / "variables").read_text()
    assert user_git("log", "--format=%s", cwd=repository).split() == ["third", "second", "first"]
    assert_whole(repository, outside / "restored")


def test_the_configuration_of_the_user_changes_no_byte(repository: Path, outside: Path) -> None:
    """E02: under a global configuration of filters, hooks, CRLF and signing (see conftest) every byte comes
    back.
    """
    Tree(repository).file(".gitattributes", b"* text eol=crlf filter=lfs ident\n").file(
        "id.txt", b"$Id$\n\r\n"
    )
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        assert os.environ[name]
    assert run_cli("backup", "--name", "plain", cwd=repository).returncode == 0
    assert run_cli("restore", "plain", outside / "restored", cwd=repository).returncode == 0
    assert_whole(repository, outside / "restored")
    assert user_git("status", "--porcelain", cwd=outside / "restored") == ""


# --- E03 to E06: the system


@pytest.mark.parametrize("home", [None, "", "/nonexistent", "a file"])
def test_a_backup_needs_no_home(home: str | None, repository: Path, outside: Path) -> None:
    """E03: HOME may be unset, empty, missing, or no folder."""
    if home == "a file":
        home = str(canary(outside / "file", outside / "sign"))
    env = {"HOME": home, "XDG_CONFIG_HOME": home}
    done = run_cli("backup", "--name", "homeless", cwd=repository, env=env)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert run_cli("restore", "homeless", outside / "restored", cwd=repository, env=env).returncode == 0
    assert_whole(repository, outside / "restored")


def train(project: Path, **env: str | None) -> list[str]:
    """Run train.py as a person does; it must train, and what it said on stderr is returned."""
    changed = {**os.environ, **env}
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=project,
        env={name: value for name, value in changed.items() if value is not None},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"trained after")
    return os.fsdecode(done.stderr).splitlines()


OLD_GIT = """\
#!/bin/sh
case "$*" in
version|--version) echo "git version 2.17.1"; exit 0 ;;
*%\\(raw*) echo "fatal: unknown field name: raw:size" >&2; exit 128 ;;
esac
exec {git} "$@"
"""


def test_without_git_training_goes_on(tmp_path: Path) -> None:
    """E04: with no git on PATH the import works, one line says what to install, and nothing is left
    behind.
    """
    project = Tree(tmp_path / "project").file("train.py", TRAIN.encode()).root
    said = train(project, PATH=str(tmp_path))
    assert len(said) == 1 and "NO BACKUP" in said[0] and "git was not found" in said[0]
    assert os.listdir(project) == ["train.py"]


def test_with_an_old_git_training_goes_on(tmp_path: Path) -> None:
    """E04: a git below the minimum is named in one line where it would make a store.

    The old git is a script: it answers `version`, and fails as 2.17 does where it is asked for %(raw).
    """
    project = Tree(tmp_path / "project").file("train.py", TRAIN.encode()).root
    (tmp_path / "git").write_text(OLD_GIT.format(git=shutil.which("git")))
    (tmp_path / "git").chmod(0o755)
    said = train(project, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert len(said) == 1 and "NO BACKUP" in said[0] and "git 2.17.1 is too old" in said[0], said
    assert not (project / "tensortime").exists()


def test_with_an_old_git_in_a_store_of_a_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E04: a cluster's old node still backs up, which asks git for nothing new; what does names the git."""
    project = Tree(tmp_path / "project").file("train.py", TRAIN.encode()).root
    tensortime.backup(directory=project, name="first")
    (tmp_path / "git").write_text(OLD_GIT.format(git=shutil.which("git")))
    (tmp_path / "git").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert not any("NO BACKUP" in line for line in train(project, PATH=path))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", path)
        with pytest.raises(NoGit, match=r"git 2\.17\.1 is too old"):
            tensortime.log(directory=project)
    assert len(tensortime.log(directory=project).experiments) == 2


@pytest.mark.parametrize("first", [".", "", "relative/bin"])
def test_a_git_in_the_current_folder_is_never_used(first: str, repository: Path, outside: Path) -> None:
    """E05: a program called git in the project stays a file, also where PATH begins with the current
    folder.
    """
    for place in ("git", "relative/bin/git"):
        canary(repository / place, outside / "sign")
    said = train(repository, PATH=f"{first}:{os.environ['PATH']}")
    assert not (outside / "sign").exists()
    assert not any("NO BACKUP" in line for line in said)
    tensortime.restore("@", outside / "restored", directory=repository)
    assert_whole(repository, outside / "restored")


LOCALES: dict[str, dict[str, str | None]] = {
    "C": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "broken": {"LANG": "xx_YY.UTF-99", "LC_ALL": "xx_YY.UTF-99", "PYTHONUTF8": "0"},
    "ASCII output": {"LANG": "C", "PYTHONIOENCODING": "ascii:strict"},
    "POSIX": {"LANG": "POSIX", "LC_ALL": None, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("locale", LOCALES)
def test_names_and_notes_are_the_same_under_every_locale(locale: str, tmp_path: Path, outside: Path) -> None:
    """E06: emoji, Chinese and bytes that are no UTF-8 come back as they were, and no command fails to print
    them.
    """
    env = LOCALES[locale]
    tree = Tree(tmp_path / "项目 🚀").file("train.py", TRAIN.replace("()", "(None, '火🔥', 'Ω')", 1).encode())
    project = (
        tree.file("模型/🧠.py", b"1").file(b"latin-\xe9.txt", b"2").file("大🐘.bin", size=1_100_000).root
    )
    assert train(project, **env)[-1].startswith(">> tensortime: ")
    done = run_cli("backup", "--note", "lr 🔥 学习", cwd=project, env=env)
    assert done.returncode == 0, done.stderr
    for words in (("log",), ("log", "--json"), ("show", "@"), ("show", "@", "模型/🧠.py")):
        assert run_cli(*words, cwd=project, env=env).returncode == 0
    assert run_cli("restore", "@", outside / "r", cwd=project, env=env).returncode == 0
    newest, first = tensortime.log(directory=project).experiments
    assert (first.name, first.note, newest.note) == ("火🔥", "Ω", "lr 🔥 学习")
    assert newest.name.endswith("-lr-🔥-学习")
    assert_whole(project, outside / "r")

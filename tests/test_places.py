"""Which folder is the project, and where its store is. CASES E09."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, run_cli, snapshot_of

import tensortime
from tensortime.errors import NoStore, NotAProject
from tensortime.project import find_place

TRAIN = b"""\
import sys
from tensortime import TimeMachine
report = TimeMachine(*sys.argv[1:], exp_suffix="").backup()
print("trained after", report.store)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a script in it, and one in a folder of it."""
    return Tree(tmp_path / "project").file("train.py", TRAIN).file("src/deep/train.py", TRAIN).root


def run_script(script: Path, *words: str, cwd: Path, **env: str) -> str:
    """Run a training script as a person does, and return the store that its backup went into."""
    done = subprocess.run(
        [sys.executable, str(script), *words],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().removeprefix("trained after ") or done.stderr


def test_the_project_is_the_nearest_folder_upward_with_a_store(project: Path) -> None:
    """From any folder below, the project is the nearest one that holds a store; else the start itself."""
    deep = project / "src" / "deep"
    assert find_place(str(deep), None).project == str(deep)
    tensortime.backup(directory=project)
    assert find_place(str(deep), None).project == str(project)
    tensortime.backup(directory=project / "src", store=project / "src" / "tensortime")
    assert find_place(str(deep), None).project == str(project / "src")
    assert find_place(str(project / "other"), None).project == str(project)


def test_home_ends_the_way_upward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that lies in the home folder itself is nobody's below it."""
    home = Tree(tmp_path / "home").file("run/train.py", TRAIN).root
    tensortime.backup(directory=home)
    monkeypatch.setenv("HOME", str(home))
    assert find_place(str(home / "run"), None).project == str(home / "run")


@pytest.mark.parametrize("wide", ["/", "~", "above home", "a link to home"])
def test_a_folder_that_holds_everything_is_refused(
    wide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/`, home and what contains home are no project, and nothing is made in them."""
    home = Tree(tmp_path / "users" / "ada").file("train.py", TRAIN).root
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "link").symlink_to(home)
    folder = {"/": Path("/"), "~": home, "above home": home.parent, "a link to home": tmp_path / "link"}[wide]
    before = snapshot_of(tmp_path)
    with pytest.raises(NotAProject) as refused:
        tensortime.backup(directory=folder, store=tmp_path / "store")
    assert (refused.value.exit_code, "-C DIR" in str(refused.value.hint)) == (2, True)
    assert snapshot_of(tmp_path) == before
    assert not os.path.lexists("/tensortime")


def test_home_is_refused_inside_training_too(tmp_path: Path) -> None:
    """The command line says it in one line and a hint, with the exit code of a wrong call."""
    home = Tree(tmp_path / "ada").file("train.py", TRAIN).root
    done = run_cli("backup", cwd=home, env={"HOME": str(home)})
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 2)


def test_a_script_is_its_project_from_wherever_it_is_started(project: Path, tmp_path: Path) -> None:
    """E09: `python /abs/train.py` from another folder backs up the script's folder; from a folder above,
    that one.
    """
    elsewhere = Tree(tmp_path / "elsewhere").file("other.py").root
    script = project / "src" / "deep" / "train.py"
    assert run_script(script, cwd=elsewhere) == str(script.parent / "tensortime")
    assert os.listdir(elsewhere) == ["other.py"]
    assert run_script(project / "train.py", cwd=elsewhere) == str(project / "tensortime")
    fresh = Tree(tmp_path / "fresh").file("src/train.py", TRAIN).root
    assert run_script(fresh / "src" / "train.py", cwd=fresh) == str(fresh / "tensortime")


def test_a_deleted_current_folder(project: Path, tmp_path: Path) -> None:
    """E09: a script trains and is backed up where the current folder was deleted; the command line says what
    is wrong.
    """
    code = f"import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); os.execv({sys.executable!r}, %r)"
    script = [sys.executable, "-c", code % [sys.executable, str(project / "train.py")]]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"trained after {project}/tensortime\n"), done.stderr
    verb = [sys.executable, "-c", code % [sys.executable, "-m", "tensortime", "log"]]
    done = subprocess.run(verb, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "") and "was deleted" in done.stderr
    assert "Traceback" not in done.stderr


WAYS = ("backup_dir", "config", "pyproject", "TENSORTIME_STORE", "--store", "relative")


@pytest.mark.parametrize("way", WAYS)
def test_a_store_elsewhere(way: str, project: Path, tmp_path: Path) -> None:
    """Every way to name another store leads to it, makes none in the project, and `log` and `restore` find
    it too.
    """
    store = tmp_path / "scratch" / "stores" / "a"
    env, words = {}, ["--store", str(store)]
    if way in ("config", "pyproject"):
        name, head = ("tensortime.toml", "") if way == "config" else ("pyproject.toml", "[tool.tensortime]\n")
        (project / name).write_text(f'{head}backup_dir = "{store}"\n')
        words = []
    elif way == "TENSORTIME_STORE":
        env, words = {"TENSORTIME_STORE": str(store)}, []
    elif way == "relative":
        words = ["--store", "../scratch/stores/a"]
    if way == "backup_dir":
        assert run_script(project / "train.py", str(store), cwd=project) == str(store)
    else:
        assert run_cli("backup", "--name", "far", *words, cwd=project, env=env).returncode == 0
    assert not (project / "tensortime").exists()
    assert (store / ".shadow" / "config").exists()
    assert len(run_cli("log", *words, cwd=project, env=env).stdout.splitlines()) == 1
    assert run_cli("restore", "@", tmp_path / "r", *words, cwd=project, env=env).returncode == 0
    assert_same_tree(project, tmp_path / "r")


def test_what_is_asked_for_wins(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument wins over the environment, the environment over the configuration, that over the
    default.
    """
    (project / "tensortime.toml").write_text('backup_dir = "from-config"\n')
    assert tensortime.backup(directory=project).store == str(project / "from-config")
    monkeypatch.setenv("TENSORTIME_STORE", "from-environment")
    assert tensortime.backup(directory=project).store == str(project / "from-environment")
    assert tensortime.backup(directory=project, store="asked").store == str(project / "asked")
    monkeypatch.setenv("TENSORTIME_STORE", "")
    assert tensortime.backup(directory=project).store == str(project / "from-config")


def test_two_projects_in_one_store(project: Path, tmp_path: Path) -> None:
    """`log` shows the experiments of this project, with `everything` all of the store."""
    other = Tree(tmp_path / "other").file("train.py", b"2").root
    for folder, name in ((project, "one"), (other, "two")):
        tensortime.backup(directory=folder, store=tmp_path / "store", name=name)
    assert [one.name for one in tensortime.log(directory=project, store=tmp_path / "store").experiments] == [
        "one"
    ]
    everything = tensortime.log(directory=project, store=tmp_path / "store", everything=True)
    assert [one.name for one in everything.experiments] == ["two", "one"]


def test_no_store_is_made_by_looking(project: Path) -> None:
    """`log`, `show` and `restore` without a store name the place, end with 4, and make nothing."""
    before = snapshot_of(project)
    for words in (("log",), ("show", "@"), ("restore", "@")):
        done = run_cli(*words, cwd=project)
        assert (done.returncode, done.stdout) == (4, "") and str(project) in done.stderr
    with pytest.raises(NoStore):
        tensortime.log(directory=project)
    assert snapshot_of(project) == before

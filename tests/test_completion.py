"""`tensortime completion`: what is offered for the words typed so far, as shells ask for it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import write_verbs
from builders import Tree, run_cli

import tensortime
from tensortime import api
from tensortime.completion import SHELLS, Typed, understood, wanted
from tensortime.verbs import VERBS

ROOT = Path(tensortime.__file__).parent.parent


def offers(*words: str, cwd: Path, **env: str) -> dict[str, str]:
    """What is offered for the last word, each with what it is. Nothing is ever said, and nothing fails."""
    count = str(len(words))
    done = run_cli("completion", "--words", count, "--", "tensortime", *words, cwd=cwd, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.partition("\t") for line in done.stdout.splitlines()]
    return {word: about for word, _, about in rows}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with three experiments, one of them in the trash."""
    tree = Tree(tmp_path_factory.mktemp("completion") / "p").file("train.py").file(".hidden").folder("empty")
    tree.file("data/big.bin", size=2 << 20).file("data/a b.txt").file("data/deep/x").file("data/evil\x1b[2J")
    tree.file("fifth\u202e.py").file("data/big.d/y", size=2 << 20)
    api.backup(directory=tree.root, name="base", note="first line\nsecond \x1b[31m")
    api.backup(directory=tree.root, name="base", note="again", joins=True)
    api.backup(directory=tree.root, name="学习")
    api.backup(directory=tree.root, name="gone")
    api.tag("base", ["best", "paper"], directory=tree.root)
    api.tag("学习", ["other"], directory=tree.root)
    run_cli("rm", "gone", cwd=tree.root)
    return tree.root


# --- the words, without a store


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("", "verb"),
        ("sh", "verb"),
        ("-", "option"),
        ("-C ", "DIR"),
        ("-C dir ", "verb"),
        ("--store=dir sh", "verb"),
        ("show ", "EXP"),
        ("show -C dir ", "EXP"),
        ("show x ", "PATH"),
        ("show --json x y", "PATH"),
        ("show x y ", ""),
        ("show x --", "option"),
        ("show -- -", "EXP"),
        ("diff a ", "B"),
        ("tag a b c ", "TAG"),
        ("restore x --path ", "PATH"),
        ("restore x --path=", "PATH"),
        ("restore x --link ", "HOW"),
        ("restore --link=copy ", "EXP"),
        ("verify --read-data ", "EXP"),
        ("verify --read-data=5% ", "EXP"),
        ("backup --note ", "TEXT"),
        ("rm a --keep-last 3 ", "EXP"),
        ("nonsense ", ""),
        ("nonsense --wrong x", ""),
    ],
)
def test_what_stands_at_the_cursor(line: str, what: str) -> None:
    """Options that take a value, `=`, `--`, arguments that repeat, and what nobody knows."""
    assert wanted(understood(["tensortime", *line.split(" ")])) == what


def test_nothing_was_typed() -> None:
    """Not even the program."""
    assert understood([]) == Typed()


def test_the_table_is_what_typer_knows() -> None:
    """`tensortime/verbs.py` is as `cli` declares it; `python tests/write_verbs.py` writes it anew."""
    assert list(VERBS) == list(write_verbs.declared())
    for name, verb in write_verbs.declared().items():
        found = VERBS[name]
        assert (*found[:3], tuple(map(tuple, found.options))) == verb, name


# --- what the store has


def test_verbs_and_options_with_what_they_do(project: Path) -> None:
    """Each with the line of its help, in the person's language."""
    assert offers("sho", cwd=project) == {"show": "Show one experiment, or one file of it."}
    assert set(offers("", cwd=project)) == set(VERBS)
    assert offers("log", "-", cwd=project)["-n"] == "At most N experiments."
    assert "--path" in offers("restore", "--", cwd=project)
    assert (
        offers("sho", cwd=project, TENSORTIME_LANG="zh")["show"] != "Show one experiment, or one file of it."
    )


def test_experiments_newest_first_with_their_notes(project: Path) -> None:
    """`@`, names by their beginning, or the only one that holds what is typed; no name twice; `NAME:` its backups."""
    assert list(offers("show", "", cwd=project)) == ["@", "学习", "base"]
    assert offers("show", "ba", cwd=project) == {"base": "again"}
    assert list(offers("show", "as", cwd=project)) == ["base"]
    assert list(offers("du", "base", "", cwd=project)) == ["@", "学习"]
    assert list(offers("show", "base:", cwd=project)) == ["base:2", "base:1"]
    assert list(offers("undelete", "", cwd=project)) == ["gone"]
    assert list(offers("show", "", cwd=project.parent)) == []
    assert list(offers("-C", str(project), "show", "b", cwd=project.parent)) == ["base"]
    assert list(offers("show", "学", cwd=project, LC_ALL="C")) == ["学习"]


def test_paths_of_a_backup_a_level_at_a_time(project: Path) -> None:
    """Small files, large ones and empty folders alike; hidden ones with a dot; none that a terminal would obey."""
    assert list(offers("show", "@", "", cwd=project)) == ["data/", "empty/", "train.py"]
    assert list(offers("show", "base:1", "data/", cwd=project)) == [
        "data/a b.txt",
        "data/big.bin",
        "data/big.d/",
        "data/deep/",
    ]
    assert list(offers("restore", "@", "--path=data/d", cwd=project)) == ["--path=data/deep/"]
    assert list(offers("show", "@", ".h", cwd=project)) == [".hidden"]
    assert offers("show", "@", "data/none/", cwd=project) == {}
    assert offers("show", "nobody", "", cwd=project) == {}


def test_tags(project: Path) -> None:
    """All tags that are in use; behind --remove those of the experiment."""
    assert list(offers("tag", "base", "", cwd=project)) == ["best", "other", "paper"]
    assert list(offers("tag", "base", "--remove", "", cwd=project)) == ["best", "paper"]
    assert list(offers("rm", "--keep-tag", "p", cwd=project)) == ["paper"]


def test_what_is_left_to_the_shell(project: Path) -> None:
    """One line without a word says what: files or folders."""
    for words in (["log", "-C", ""], ["log", "--store="], ["restore", "@", ""]):
        assert offers(*words, cwd=project) == {"": "folders"}
    for words in (["backup", "--add", ""], ["purge", "a", ""]):
        assert offers(*words, cwd=project) == {"": "files"}


@pytest.mark.parametrize("arguments", [(), ("x", "--"), ("9", "--", "a"), ("-7", "--"), ("1",)])
def test_a_call_that_no_shell_makes(arguments: tuple[str, ...], project: Path) -> None:
    """Nothing is said, nothing fails."""
    done = run_cli("completion", "--words", *arguments, cwd=project)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_broken_store_offers_nothing(tmp_path: Path) -> None:
    """Damage, a broken configuration: completion is not the place to hear of it."""
    tree = Tree(tmp_path / "p").file("train.py")
    api.backup(directory=tree.root, name="x")
    shutil.rmtree(tree.root / "tensortime/.shadow/objects")
    (tree.root / "tensortime/.shadow/config").unlink()
    assert offers("show", "", cwd=tree.root) == {}
    tree.file("tensortime.toml", b"lang = [[[")
    assert offers("show", "", cwd=tree.root) == {}
    assert offers("sho", cwd=tree.root) == {"show": "Show one experiment, or one file of it."}


# --- the scripts


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts(shell: str) -> None:
    """`tensortime completion SHELL` prints the file in hooks/, also from an editable install."""
    done = run_cli("completion", shell, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "hooks" / f"completion.{shell}").read_text()


@pytest.mark.parametrize("words", [(), ("tcsh",), ("",)])
def test_without_a_known_shell_it_says_what_to_do(words: tuple[str, ...]) -> None:
    """A usage error with the line for each shell; nothing on stdout that `eval` could take."""
    done = run_cli("completion", *words, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    for file, line in SHELLS.values():
        assert f"{file} " in done.stderr
        assert done.stderr.count(line) == 1


def test_completion_does_without_typer(project: Path) -> None:
    """A waiting person is not made to wait for what the table knows."""
    program = "import sys\nfrom tensortime.__main__ import dispatch\n"
    program += "dispatch(['completion', '--words', '2', '--', 'tensortime', 'show', ''])\n"
    program += "print('typer' in sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("@\t")
    assert done.stderr == "False\n"

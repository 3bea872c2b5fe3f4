"""`tensortime config`: what holds in a project, and where each value comes from."""

import json
from pathlib import Path

import pytest
from builders import Tree, run_cli

from tensortime import api


def sources(tree: Tree) -> dict[str, tuple[object, str]]:
    """Key to value and source."""
    return {one.key: (one.value, one.source) for one in api.settings(directory=tree.root).settings}


def test_without_a_file_all_is_default(tmp_path: Path) -> None:
    """Each key is there, with the value that holds."""
    tree = Tree(tmp_path / "p")
    found = sources(tree)
    assert found["large_size"] == (1 << 20, "default")
    assert found["backup_dir"] == ("tensortime", "default")
    assert found["lang"] == ("en", "default")
    assert found["ignore"] == ((), "default")
    assert {source for _, source in found.values()} == {"default"}


def test_each_value_names_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that set it, or the variable that overrules the file."""
    tree = Tree(tmp_path / "p").file(
        "pyproject.toml", b'[tool.tensortime]\nlarge_size = "4 MiB"\nlang = "zh"\nbackup_dir = "b"\n'
    )
    table = "pyproject.toml [tool.tensortime]"
    assert sources(tree)["large_size"] == (4 << 20, table)
    assert sources(tree)["lang"] == ("zh", table)
    monkeypatch.setenv("TENSORTIME_LANG", "en")
    monkeypatch.setenv("TENSORTIME_STORE", str(tmp_path / "s"))
    assert sources(tree)["lang"] == ("en", "TENSORTIME_LANG")
    assert sources(tree)["backup_dir"] == (str(tmp_path / "s"), "TENSORTIME_STORE")
    done = run_cli("config", "--json", "--store", "other", cwd=tree.root)
    document = json.loads(done.stdout)
    assert document["config"]["backup_dir"] == {"value": "other", "source": "--store"}
    assert document["project"] == str(tree.root)
    assert document["store"] == str(tree.root / "other")


def test_the_command_line_shows_a_row_a_key(tmp_path: Path) -> None:
    """Values as they would be written into the file; `-` where nothing is set. No store is made by asking."""
    tree = Tree(tmp_path / "p").file("tensortime.toml", b'ignore = ["wandb/", "*.tmp"]\n')
    done = run_cli("config", cwd=tree.root)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert ["ignore", "tensortime.toml", '["wandb/", "*.tmp"]'] in rows
    assert ["max_store", "default", "-"] in rows
    assert not (tree.root / "tensortime").exists()


def test_a_mistake_in_the_file_is_named(tmp_path: Path) -> None:
    """Exit code 2, the file, the key, and what was probably meant."""
    tree = Tree(tmp_path / "p").file("tensortime.toml", b'ignroe = ["x"]\n')
    done = run_cli("config", cwd=tree.root)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "tensortime: tensortime.toml: unknown key ignroe",
        "  did you mean ignore?",
    ]

"""The questions of the day after: `log --sort`, `--filter`, `--since`, on a terminal, through a pipe and as JSON."""

import json
import re
from pathlib import Path

import pytest
from builders import Tree, run_cli
from stores import Bulk
from terminals import columns_of, on_terminal

from tensortime import api
from tensortime.errors import QueryError, UsageError

RUNS = {"a": (0.1, 0.9), "b": (0.01, 0.5), "c": (0.001, 0.7)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four experiments: three with a learning rate and a loss, the newest with neither."""
    tree = Tree(tmp_path_factory.mktemp("questions") / "p").file("train.py", b"1\n")
    for name, (lr, loss) in RUNS.items():
        params = {"lr": lr, "seed": 1}
        api.backup(directory=tree.root, name=name, params=params, metrics={"acc": 1 - loss, "val_loss": loss})
    api.backup(directory=tree.root, name="plain")
    api.tag("b", ["paper"], directory=tree.root)
    return tree.root


def listed(project: Path, *options: str) -> str:
    """The names that `log` lists through a pipe."""
    done = run_cli("log", *options, cwd=project)
    assert done.returncode == 0, done.stderr
    return " ".join(line.split("\t")[0] for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--sort", "val_loss"), "b c a plain"),
        (("--sort", "-acc"), "b c a plain"),
        (("--sort", "lr", "--reverse", "-n", "2"), "a b"),
        (("--reverse",), "a b c plain"),
        (("--filter", 'lr < 0.1 and not tag == "paper"'), "c"),
        (("--filter", "lr", "--sort", "name", "--since", "1d"), "a b c"),
        (("--since", "2030-01-01"), ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_command_line(project: Path, options: tuple[str, ...], expected: str) -> None:
    """Each option, and several together."""
    assert listed(project, *options) == expected


def test_as_json_and_from_python(project: Path) -> None:
    """The same in the document, and from `tensortime.log`."""
    done = run_cli("log", "--json", "--sort=-val_loss", "--filter", "val_loss >= 0.7", cwd=project)
    assert [one["experiment"] for one in json.loads(done.stdout)["experiments"]] == ["a", "c"]
    report = api.log(directory=project, where="tag == 'paper'", since="1h", sort="lr")
    assert [one.name for one in report.experiments] == ["b"]
    assert (report.passed_over, report.key) == (3, "lr")


def test_a_filter_that_is_none(project: Path) -> None:
    """What is wrong, the text with a caret under the place, what helps; exit code 2, and a kind of its own in JSON."""
    done = run_cli("log", "--filter", 'lr < 0.1 && tag == "学习"', cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "tensortime: & means nothing here",
        '  lr < 0.1 && tag == "学习"',
        "           ^",
        "  that is written and",
    ]
    done = run_cli("log", "--filter", "loss < 1", "--json", cwd=project)
    error = json.loads(done.stdout)["error"]
    assert error == {
        "kind": "bad-query",
        "message": "no experiment has loss",
        "hint": "did you mean val_loss?",
    }
    with pytest.raises(QueryError):
        api.log(directory=project, where="lr <")
    with pytest.raises(UsageError):
        api.log(directory=project, sort="los")
    with pytest.raises(UsageError):
        api.log(directory=project, since="often")


def test_a_long_filter_shows_what_is_around_the_place(project: Path) -> None:
    """The caret stands under it, whatever is cut and however wide its characters are."""
    text = "学习 == 1 or " * 20 + "lr = 1 or " + "lr == 1 or " * 20
    shown = run_cli("log", "--filter", text, cwd=project).stderr.splitlines()
    cells = 0
    for char in shown[1]:
        if cells == shown[2].index("^"):
            assert char == "="
            break
        cells += 1 + (char in "学习")
    assert all(columns_of(line) <= 90 for line in shown)


def test_the_table_on_80_columns(project: Path) -> None:
    """What it is sorted by, the metrics, and the parameters that differ are columns; none is wider than the terminal."""
    shown = on_terminal("-m", "tensortime", "log", "--sort", "lr", "--filter", "lr", cwd=project, columns=80)
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()
    head = next(line for line in lines if "EXPERIMENT" in line)
    assert re.search(r"WHEN .*SIZE +lr +acc +val_loss", head) and "seed" not in head
    assert all(columns_of(line) <= 80 for line in lines)
    shown = on_terminal(
        "-m", "tensortime", "log", "--sort", "seed", "--filter", "lr", cwd=project, columns=80
    )
    assert re.search(r"seed +acc +val_loss +lr", shown)
    assert "none of 4 experiments is like that" in on_terminal(
        "-m", "tensortime", "log", "--filter", "lr > 5", cwd=project, columns=80
    )


def test_many_experiments(tmp_path: Path) -> None:
    """Of a thousand those that are asked for, in the order that is asked for."""
    bulk = Bulk(tmp_path / "p")
    for number in range(1000):
        bulk.experiment(f"run-{number}", {b"train.py": b"1"})
    bulk.finish()
    report = api.log(directory=tmp_path / "p", where="files == 1 and name ~ '99'", sort="-name")
    assert len(report.experiments) == 19 and report.experiments[0].name == "run-999"

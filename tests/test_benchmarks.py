"""The benchmark's page and picture, from numbers that are given: nothing is measured here."""

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import main
from benchmarks.chart import chart
from benchmarks.numbers import (
    Conditions,
    Numbers,
    Result,
    ScenarioPart,
    TreePart,
    read_numbers,
    write_numbers,
)
from benchmarks.report import BOUNDS, page, summary
from benchmarks.targets import TARGETS, judge

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "benchmarks"
HERE = Conditions("2026-11-25 21:00", "a machine", "Linux 6", "ext4", "0.2.0 (abc)", 5, 1)


def took(first: float, restore: float, rounds: int = 5) -> Result:
    """A tool that took so long, in so many rounds."""
    steps = {"first": first, "again": 0.3, "changed": 0.5, "restore": restore}
    sizes = dict.fromkeys(("first", "again", "changed"), 300_000_000)
    seconds = {step: [value] * rounds for step, value in steps.items()}
    return Result(seconds, sizes, dict.fromkeys(steps, 80_000_000))


@pytest.fixture
def numbers() -> Numbers:
    """One tree, two scenarios; a tool is missing, one failed, one had fewer rounds."""
    results = {
        "cp -r": took(6, 7),
        "tensortime": took(5, 8),
        "dvc": took(60, 50, rounds=2),
        "borg": Result(problem="ended | with 2"),
    }
    many = TreePart(HERE, results, {"cp -r": "9.1"}, {"restic": "is not installed"})
    imported = {"bare": [0.01] * 25, "import": [0.0104] * 25, "modules": ["tensortime"], "heavy": []}
    return Numbers(
        {"many": many},
        {
            "import": ScenarioPart(HERE, imported),
            "huge-xfs": ScenarioPart(HERE, problem="mounting needs root"),
        },
    )


def test_the_page_says_of_each_target_whether_it_is_met(numbers: Numbers) -> None:
    """Met, missed with a place for the reason, and not measured with the reason: none is left out."""
    lines = page(numbers).splitlines()
    rows = [line for line in lines if line.startswith("| ") and line.count("|") == 5]
    assert len(rows) - 1 == len(TARGETS)
    assert "| first backup, *many* | at most 1.0 x `cp -r` | 0.83 x (5.00 s, `cp -r` 6.00 s) | met |" in rows
    assert (
        "| restore, *many* | at most 1.1 x `cp -r` | 1.14 x (8.00 s, `cp -r` 7.00 s) | **missed** |" in rows
    )
    assert sum("mounting needs root | not measured |" in row for row in rows) == 4
    assert any(line.startswith("* **restore, *many*, at most 1.1 x `cp -r`**: ") for line in lines)


def test_the_page_names_what_is_missing_what_failed_and_who_had_fewer_rounds(numbers: Numbers) -> None:
    """No contestant is dropped in silence."""
    text = page(numbers)
    assert "| dvc (n=2) |" in text
    assert "| borg | **failed**: ended \\| with 2 |" in text
    assert "| restic | missing: is not installed |" in text
    assert "* **missing**: restic: is not installed" in text


def test_what_was_measured_at_a_smaller_scale_meets_nothing(numbers: Numbers) -> None:
    """A tree that is too small says nothing of its targets."""
    numbers.trees["many"].conditions = replace(HERE, scale=0.01)
    assert "(at scale 0.01) | too small to tell |" in page(numbers)
    assert "missed**" not in page(numbers)


def test_numbers_come_back_from_their_file(numbers: Numbers, tmp_path: Path) -> None:
    """So that page and picture can be written again, and parts be measured one after the other."""
    write_numbers(numbers, tmp_path / "a" / "numbers.json")
    assert read_numbers(tmp_path / "a" / "numbers.json") == numbers
    assert read_numbers(tmp_path / "nothing.json") == Numbers()


def test_the_picture_shows_every_tool_and_marks_what_it_cuts(numbers: Numbers) -> None:
    """A well-formed SVG: a bar of each tool and step that has a number, a word for the others, a gap in the long ones."""
    top = ElementTree.fromstring(chart(numbers))
    shapes = [shape.get("class", "") for shape in top.iter()]
    assert sum(one.startswith("bar") for one in shapes) == 3 * 4
    assert shapes.count("bar ours") == 4
    assert shapes.count("cut") == 2
    words = [shape.text for shape in top.iter() if shape.text]
    assert (words.count("missing"), words.count("failed"), "60 s" in words) == (4, 4, True)


def test_an_empty_page_says_that_nothing_was_measured() -> None:
    """Without any numbers there is still a page with all targets."""
    assert page(Numbers()).count("not in this run | not measured |") == len(TARGETS)
    ElementTree.fromstring(chart(Numbers()))


def test_what_bounds_a_target_names_a_target() -> None:
    """A sentence in bounds.toml belongs to a target that there is, and targets have names of their own."""
    names = [target.name for target in TARGETS]
    assert set(tomllib.loads(BOUNDS.read_text())) <= set(names)
    assert len(set(names)) == len(names) == len(judge(Numbers()))


def test_each_part_is_measured_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel counts a program's memory from that of who starts it: 28 MB had become 163 behind other parts."""
    started: list[list[str]] = []

    def note(words: list[object], **_: object) -> subprocess.CompletedProcess[bytes]:
        started.append([str(word) for word in words])
        return subprocess.CompletedProcess([], 3 if "log" in words else 0)

    monkeypatch.setattr(subprocess, "run", note)
    words = ["--trees", "many", "--scenarios", "log", "huge-xfs", "--rounds", "7", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    assert main() == 3
    assert [one[-2:] for one in started] == [
        ["--scenarios", "log"],
        ["--scenarios", "huge-xfs"],
        ["--trees", "many"],
    ]
    assert all(one[one.index("--rounds") + 1] == "7" and str(tmp_path) in one for one in started)


def test_page_and_picture_are_those_of_the_numbers() -> None:
    """Nobody wrote them by hand, and none was forgotten when the numbers changed."""
    measured = read_numbers(DOCS / "numbers.json")
    assert (DOCS / "README.md").read_text() == page(measured)
    assert (DOCS / "benchmark.svg").read_text() == chart(measured)


@pytest.mark.parametrize("readme", ["README.md", "docs/README.zh-CN.md"])
def test_readme_shows_what_was_measured(readme: str) -> None:
    """Its table of seconds is that of the last benchmark, row for row."""
    rows = summary(read_numbers(DOCS / "numbers.json"))
    lines = (ROOT / readme).read_text(encoding="utf-8").splitlines()
    assert rows
    assert [line for line in lines if line.startswith("| *")] == rows

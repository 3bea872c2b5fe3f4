"""Experiment names: what is allowed, what becomes of anything else, and that git takes every one. CASES S01."""

import os
import re
import shlex
import subprocess
import unicodedata
from datetime import datetime
from pathlib import Path

import pytest
from builders import Tree, clean_environment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensortime import api
from tensortime.errors import BadName, UsageError
from tensortime.names import (
    LONGEST_NAME,
    LONGEST_NOTE_PART,
    ExperimentName,
    default_name,
    free_name,
    problem_of,
    suggest_name,
)

MOMENT = datetime(2026, 11, 23, 9, 36, 4)
NASTY = st.text(
    st.one_of(
        st.sampled_from(
            list("./\\-@{}~^:?*[]<>|\"' \t\n\0\x1b\x7f\u202e\u200b\u2028\ufeff\udcff0aAée\u0301学😀")
        ),
        st.characters(),
    ),
    max_size=300,
)
NEARLY_VALID = st.text(st.sampled_from(list("ab.lock-partialCON2@{é学")), min_size=1, max_size=40)

S01 = [
    ("../../x", "it holds /", "x"),
    ("/etc/x", "it holds /", "etc-x"),
    ("-x", "it starts with -", "x"),
    ("--help", "it starts with -", "help"),
    ("@", "it starts with @", ""),
    ("@{", "it starts with @", ""),
    (".", "it starts with .", ""),
    ("..", "it starts with .", ""),
    (".hidden", "it starts with .", "hidden"),
    ("a..b", "it ends like a temporary file, or holds .. or @{", "a-b"),
    ("x" * 10_000, "it is longer than 200 bytes", "x" * 200),
    ("学" * 67, "it is longer than 200 bytes", "学" * 66),
    ("a\0b", "it holds the character U+0000", "a-b"),
    ("a\nb", "it holds the character U+000A", "a-b"),
    ("\x1b[31mred", "it holds the character U+001B", "31mred"),
    ("a:b", "it holds :", "a-b"),
    ("a b", "it holds a space", "a-b"),
    ("a\u00a0b", "it holds the character U+00A0", "a-b"),
    ("x.lock", "it ends like a temporary file, or holds .. or @{", "x"),
    ("x.LOCK.lock", "it ends like a temporary file, or holds .. or @{", "x"),
    ("x.partial", "it ends like a temporary file, or holds .. or @{", "x"),
    ("x.", "it ends like a temporary file, or holds .. or @{", "x"),
    ("a\u202eb", "it holds the character U+202E", "a-b"),
    ("a\u200bb", "it holds the character U+200B", "a-b"),
    ("a\udcffb", "it holds the character U+DCFF", "a-b"),
    ("e\u0301", "it is not in Unicode form NFC", "é"),
    ("CON", "it is a reserved word", "exp-CON"),
    ("nul.txt", "it is a reserved word", "exp-nul.txt"),
    ("COM1", "it is a reserved word", "exp-COM1"),
    ("README", "it is a reserved word", "exp-README"),
    ("refs/heads/x", "it holds /", "refs-heads-x"),
    ("12", "it is only digits", "exp-12"),
    ("", "it is empty", ""),
]
GOOD = [
    "HEAD",
    "a",
    "lr=3e-4,bs=32",
    "学习率",
    "pаypal",
    "a.b.c",
    "v1.0_2+3",
    "x" * 200,
    "(draft)",
    "exp#7",
    "naïve",
    "😀",
    "a{b}",
]


@pytest.mark.parametrize(("text", "problem", "suggestion"), S01, ids=range(len(S01)))
def test_s01_what_is_no_name(text: str, problem: str, suggestion: str) -> None:
    """S01: refused with the reason, and with the nearest name that is possible."""
    assert str(problem_of(text)) == problem
    assert suggest_name(text) == suggestion
    with pytest.raises(BadName) as caught:
        ExperimentName(text)
    assert str(caught.value.hint) == (f"try {suggestion}" if suggestion else "")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", GOOD, ids=range(len(GOOD)))
def test_s01_what_is_a_name(text: str) -> None:
    """S01: letters of every language, homoglyphs and HEAD are names; a name is kept as it is."""
    assert problem_of(text) is None
    assert suggest_name(text) == ExperimentName(text) == text


def is_ref(name: str) -> bool:
    """Whether git takes a name as the last part of a ref."""
    command = ["git", "check-ref-format", f"refs/experiments/{name}"]
    return subprocess.run(command, env=clean_environment(), check=False).returncode == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(NASTY.map(suggest_name), NEARLY_VALID).filter(lambda name: not problem_of(name)))
def test_s01_git_takes_every_name(name: str) -> None:
    """S01: a valid name is a ref component for `git check-ref-format`, one folder name, and no option."""
    assert is_ref(name)
    assert os.path.basename(name) == name
    assert len(os.fsencode(f"{name}-2.partial")) < 255
    assert not name.startswith("-")
    assert unicodedata.normalize("NFC", name) == name
    assert name.isprintable()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(NASTY, NEARLY_VALID))
def test_s01_a_suggestion_is_a_name_or_nothing(text: str) -> None:
    """S01: whatever is typed, what is suggested is valid; and a valid name is suggested as it is."""
    suggestion = suggest_name(text)
    assert suggestion == "" or problem_of(suggestion) is None
    if not problem_of(text):
        assert suggestion == text


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NASTY)
def test_s01_any_note_makes_a_default_name(note: str) -> None:
    """S01: time, then what the note's first line leaves, never longer than fits."""
    name = default_name(MOMENT, note)
    assert re.match(r"2026-11-23_09-36-04(-.|$)", name)
    assert problem_of(name) is None
    assert len(name.encode()) <= len("2026-11-23_09-36-04-") + LONGEST_NOTE_PART


@pytest.mark.parametrize(
    ("note", "ending"),
    [
        ("lr 3e-4", "-lr-3e-4"),
        ("", ""),
        (" \n ", ""),
        ("...", ""),
        ("a/b\nmore", "-a-b"),
        ("学习率 1", "-学习率-1"),
        ("7", "-exp-7"),
    ],
)
def test_the_default_name(note: str, ending: str) -> None:
    """The time to the second sorts, the note says what it was."""
    assert default_name(MOMENT, note) == "2026-11-23_09-36-04" + ending


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NASTY.map(suggest_name).filter(bool), st.integers(0, 12))
def test_a_taken_name_gets_the_first_free_number(text: str, others: int) -> None:
    """NAME, NAME-2, NAME-3 …: valid and within the length however long the name is; letter case does not tell twins apart."""
    wanted, taken = ExperimentName(text), set[str]()
    for _ in range(others):
        name = free_name(wanted, taken)
        assert name.lower() not in taken
        taken.add(name.lower())
    last = free_name(wanted, taken)
    assert last == wanted if not others else last.endswith(f"-{others + 1}")
    assert problem_of(last) is None
    assert len(last.encode()) <= LONGEST_NAME


def test_s01_as_a_note_everything_is_kept(tmp_path: Path) -> None:
    """S01: as a note each of these is kept verbatim, and the experiment gets a possible name; only NUL is refused."""
    tree = Tree(tmp_path / "p").file("train.py")
    for text, _, _ in S01:
        if "\0" in text:
            with pytest.raises(UsageError, match="holds a NUL"):
                api.backup(directory=tree.root, note=text)
            continue
        report = api.backup(directory=tree.root, note=text)
        assert report.experiment is not None
        assert problem_of(report.experiment) is None
        assert api.show("@", directory=tree.root).experiment.note == text


@pytest.mark.parametrize(
    "note", ["x;id", "lr 3e-4 (warmup)", 'a; rm $x & "q" it\'s *', "`id`", "$(id)", "{a,b}!", "#1"]
)
def test_a_name_made_of_a_note_is_typed_without_quotes(note: str) -> None:
    """The line that tells how to come back is copied into a shell: nothing in it may be obeyed."""
    name = default_name(MOMENT, note)
    assert shlex.split(f"restore {name}") == ["restore", name]
    assert not set(name) & set("()[]{}&;$'`!#\"*")
    assert name.startswith("2026-11-23_09-36-04")

"""The language of `log --filter`: what holds when, and that nothing but QueryError comes out of it."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensortime.errors import QueryError, UsageError
from tensortime.experiments import Experiment
from tensortime.formats import Oid
from tensortime.names import ExperimentName
from tensortime.query import (
    COMPARISONS,
    Among,
    Comparison,
    Every,
    Expression,
    Given,
    Name,
    Not,
    Some,
    Value,
    moment_ns,
    parse,
)
from tensortime.selection import chosen, facts_of, matches, ordered

NOW = datetime(2026, 11, 25, 12, 0, 0)
DAY = 86_400_000_000_000


def experiment(name: str = "base", days: float = 0, **more: object) -> Experiment:
    """An experiment that was made so many days ago."""
    facts: dict[str, object] = {
        "note": "",
        "backups": 1,
        "files": 3,
        "bytes": 1000,
        "parent": "",
        "status": "done",
    }
    time_ns = int(NOW.timestamp() * 1e9) - int(days * DAY)
    return Experiment(
        ExperimentName(name),
        Oid("0" * 40),
        time_ns=time_ns,
        project="/p",
        **{**facts, **more},  # type: ignore[arg-type]
    )


ONE = experiment(
    "lr3e-4-wide",
    days=1.5,
    note="Wider layers, no warmup",
    tags=("paper", "keep"),
    parent="base:1",
    params={
        "lr": 0.0003,
        "optimizer": {"name": "adam", "lr": 1},
        "layers": 12,
        "amp": True,
        "seed": None,
        "k-fold": 5,
    },
    metrics={"val/loss": 0.25, "acc@1": 0.97, "diverged": "nan", "top": "inf", "top 5": 0.99, "name": 7},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr < 0.1 and tag == 'paper'", True),
        ('lr<1e-3 and tag=="draft"', False),
        ("lr == 3e-4", True),
        ("lr == '3e-4'", True),
        ("lr > .0001 and not layers <= 11", True),
        ("val/loss < 0.3 or nothing == 1", True),
        ("acc@1 >= 0.97 and `top 5` > 0.98", True),
        ("optimizer.name == 'adam' and optimizer.lr == 1 and params.optimizer.lr == 1", True),
        ("k-fold in (3, 5)", True),
        ("k-fold not in (3, 5)", False),
        ("status in ('failed', 'done')", True),
        ("'paper' in tags and 'pape' not in tags", True),
        ("'warmup' in note", True),
        ("note ~ 'WIDER'", True),
        ("name ~ '3E-4' and tag ~ 'PAP'", True),
        ("tag != 'paper'", False),
        ("tag != 'draft'", True),
        ("amp", True),
        ("amp == true and not seed and seed == none", True),
        ("missing", False),
        ("missing != 1", False),
        ("not missing == 1", True),
        ("missing not in (1, 2)", True),
        ("diverged < 1 or diverged > 1 or diverged == 1", False),
        ("diverged == 'nan'", True),
        ("top > 1000", True),
        ("lr < 'small'", False),
        ("lr != 'small'", True),
        ("note < 1", False),
        ("parent == 'base:1' and parent", True),
        ("metrics.name == 7 and name != 7", True),
        ("files == 3 and bytes <= 1000 and size == 1e3", True),
        ("time > '2d' and time < '1d'", True),
        ("time >= '2026-11-23' and when < '2026-11-25T00:00'", True),
        ("0.1 > lr", True),
        ("lr < layers", True),
        ("(lr == 1 or layers == 12) and AND_ == 1", False),
        ("layers == 12 or lr == 1 and lr == 2", True),
        ("(layers == 12 or lr == 1) and lr == 2", False),
        ("not not layers == 12", True),
        ("layers == 12 AND Not Lr == 1", True),
        (r'note == "Wider layers, no warm\up"', True),
        ("1", True),
        ("optimizer", True),
        ("optimizer < 1", False),
        ("lr == -0.0003", False),
    ],
)
def test_what_holds(text: str, expected: bool) -> None:
    """One experiment against many filters; a value that is missing, or of another kind, never holds."""
    assert matches(parse(text).expression, facts_of(ONE), NOW) is expected


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("", 0, "a name or value is missing here"),
        ("lr <", 4, "a name or value is missing here"),
        ("lr = 1", 3, "= means nothing here"),
        ("lr < 1 && acc > 2", 7, "& means nothing here"),
        ("lr < 1 acc", 7, "acc is not expected here"),
        ("0 < lr < 1", 7, "one comparison at a time"),
        ("(lr < 1", 7, ") is missing here"),
        ("lr < 1)", 6, ") is not expected here"),
        ("note == 'it", 8, "the text that begins here does not end"),
        ("lr in (acc)", 7, "acc is no value"),
        ("lr in (1 2)", 9, "2 is not expected here"),
        ("lr not 1", 3, "not is not expected here"),
        ("and", 0, "a name or value is missing here"),
        ("5shot > 1", 0, "5 means nothing here"),
        ("lr + 1", 3, "+ means nothing here"),
        ("lr < 1e999", 5, "the number is too large"),
        ("time == '2d'", 5, "a time is only before or after another"),
        ("time > 'often'", 7, '"often" is no time'),
        ("time > 3", 7, "3 is no time"),
        ("x.__class__()", 11, "( is not expected here"),
        ("import os; os", 9, "; means nothing here"),
        ("(" * 60, 51, "more than 50 brackets within each other"),
        ("not " * 60, 204, "more than 50 brackets within each other"),
    ],
)
def test_what_is_no_filter(text: str, at: int, message: str) -> None:
    """It says what is wrong, and where."""
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert (str(caught.value), caught.value.at) == (message, at)


def test_a_name_that_nobody_has() -> None:
    """The place, and what was probably meant; where one experiment has it, it is a name."""
    with pytest.raises(QueryError, match="no experiment has val_loss") as caught:
        chosen([ONE], parse("lr < 1 and val_loss < 2"), NOW)
    assert caught.value.at == 11 and str(caught.value.hint) == "did you mean val/loss?"
    with pytest.raises(QueryError) as caught:
        chosen([experiment(metrics={"loss": 1})], parse("zzz"), NOW)
    assert "there are: loss, name, " in str(caught.value.hint)
    assert chosen([ONE, experiment(metrics={"zzz": 1})], parse("zzz == 1"), NOW)[0].metrics == {"zzz": 1}
    assert chosen([], parse("zzz == 1"), NOW) == []


def names(experiments: list[Experiment]) -> str:
    """Their names in a row."""
    return "".join(one.name for one in experiments)


def test_the_order() -> None:
    """Numbers, then texts, then those without, which are last either way; equal ones stay newest first."""
    values: dict[str, object] = {"a": 2, "b": 0.5, "c": "nan", "d": None, "e": "x", "f": 2, "g": "-inf"}
    found = [experiment(name, metrics={"loss": value}) for name, value in values.items()] + [experiment("h")]
    assert names(ordered(found, "loss")) == "gbafcedh"
    assert names(ordered(found, "-loss")) == "afbgecdh"
    assert names(ordered(found, "loss", reverse=True)) == names(ordered(found, "-loss"))
    assert names(ordered(found, "-loss", reverse=True)) == names(ordered(found, "loss"))
    assert names(ordered(found, "name")) == "abcdefgh"
    with pytest.raises(UsageError, match="no experiment has los"):
        ordered(found, "los")


@pytest.mark.parametrize(
    ("key", "expected"),
    [("size", "bac"), ("files", "cab"), ("-time", "cab"), ("note", "bca"), ("tag", "cba")],
)
def test_what_every_experiment_has_is_a_key_too(key: str, expected: str) -> None:
    """Its size, files, time, note and tags; those without a note or tag are last."""
    found = [
        experiment("a", 2, bytes=2, files=2),
        experiment("b", 3, bytes=1, files=3, note="Ax", tags=("z",)),
        experiment("c", 1, bytes=3, files=1, note="b", tags=("k", "z")),
    ]
    assert names(ordered(found, key)) == expected


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2d", NOW - timedelta(days=2)),
        ("3h", NOW - timedelta(hours=3)),
        ("1w1d", NOW - timedelta(days=8)),
        ("today", datetime(2026, 11, 25)),
        ("yesterday", datetime(2026, 11, 24)),
        ("2026-11-23", datetime(2026, 11, 23)),
        ("2026-11-23 09:30", datetime(2026, 11, 23, 9, 30)),
    ],
)
def test_moments(text: str, moment: datetime) -> None:
    """So long ago, or a date, in the local zone."""
    assert moment_ns(text, NOW) == int(moment.timestamp() * 1e9)


@pytest.mark.parametrize(
    "text", ["", "2", "2 days", "d", "often", "2026-13-01", "0001-01-01", "9999999999999d", "５d"]
)
def test_what_is_no_moment(text: str) -> None:
    """It says what could be written."""
    try:
        assert isinstance(moment_ns(text, NOW), int)
        assert text == "0001-01-01"
    except UsageError as problem:
        assert "2026-11-23" in str(problem.hint)


PIECES = st.sampled_from(
    [
        *(
            "lr",
            "val/loss",
            "tag",
            "time",
            "`a b`",
            "and",
            "or",
            "not",
            "in",
            "(",
            ")",
            ",",
            "true",
            "none",
            '"',
            "'",
            "`",
        ),
        *COMPARISONS,
        *("1", "-2.5e-3", "1e999", "0x1", '"a"', "'2d'", "=", "&&", "\\", "\n", "é", "\udcff", "\0"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=40), st.lists(PIECES, max_size=25).map(" ".join), st.lists(PIECES).map("".join)
    )
)
def test_nothing_but_query_errors_comes_out(text: str) -> None:
    """Whatever is typed: a filter, which says the same when printed, or an error with a place in the text."""
    try:
        expression = parse(text).expression
    except QueryError as problem:
        assert 0 <= problem.at <= len(text)
        return
    assert parse(str(expression)).expression == expression
    assert isinstance(matches(expression, facts_of(ONE), NOW), bool)


NAMES = st.sampled_from(["lr", "a.b", "top 5", "in", "TRUE", "é", "x-1", "5", "note", "tags", "missing"]).map(
    Name
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(max_size=8)
VALUES = st.one_of(st.integers(), FLOATS, TEXTS, st.none(), st.booleans()).map(Value)
OPERANDS = st.one_of(NAMES, VALUES)
LEAVES: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Comparison, st.sampled_from((*COMPARISONS, "in")), OPERANDS, OPERANDS),
    st.builds(Among, OPERANDS, st.lists(VALUES, min_size=1, max_size=3).map(tuple)),
    st.builds(Given, OPERANDS),
)


def joined(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    """What is made of parts."""
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return st.one_of(st.builds(Not, parts), st.builds(Every, several), st.builds(Some, several))


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(LEAVES, joined, max_leaves=8),
    st.dictionaries(
        st.sampled_from(["lr", "a", "top 5", "x-1"]), st.one_of(FLOATS, TEXTS, st.lists(FLOATS), st.none())
    ),
)
def test_every_filter_says_the_same_when_printed(expression: Expression, params: dict[str, object]) -> None:
    """What is printed is parsed to what it was; and it holds or does not, whatever the values are."""
    assert parse(str(expression)).expression == expression
    assert isinstance(matches(expression, facts_of(experiment(params=params)), NOW), bool)

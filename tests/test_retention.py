"""rm --keep-…: which experiments stay. Pure: restic's meaning, where rules add up."""

from datetime import datetime, timedelta

import pytest

from tensortime.errors import UsageError
from tensortime.experiments import Experiment
from tensortime.formats import Oid
from tensortime.names import ExperimentName
from tensortime.retention import KeepRules, choose, duration_ns

NEWEST = datetime(2026, 11, 20, 12)
HOUR = timedelta(hours=1)


def experiment(name: str, age: timedelta, *tags: str) -> Experiment:
    """An experiment so much older than the newest."""
    time_ns = int((NEWEST - age).timestamp()) * 1_000_000_000
    return Experiment(ExperimentName(name), Oid("0" * 40), "", time_ns, 1, 1, 1, "", "done", "/p", tags)


WEEK = [
    experiment("a", 0 * HOUR),
    experiment("b", 1 * HOUR),
    experiment("c", 24 * HOUR, "best"),
    experiment("d", 25 * HOUR),
    experiment("e", 24 * 8 * HOUR, "keep"),
    experiment("f", 24 * 9 * HOUR),
    experiment("g", 24 * 40 * HOUR, "best", "paper"),
]


def kept(rules: KeepRules) -> str:
    """The names that stay."""
    return "".join(one.experiment.name for one in choose(WEEK, rules).choices if one.keep)


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        (KeepRules(last=1), "ae"),
        (KeepRules(last=3), "abce"),
        (KeepRules(last=99), "abcdefg"),
        (KeepRules(within="0h"), "ae"),
        (KeepRules(within="1h"), "abe"),
        (KeepRules(within="1d"), "abce"),
        (KeepRules(within="1d1h"), "abcde"),
        (KeepRules(within="2w"), "abcdef"),
        (KeepRules(tags=("best",)), "ceg"),
        (KeepRules(tags=("best", "nothing")), "ceg"),
        (KeepRules(daily=2), "ace"),
        (KeepRules(daily=3), "ace"),
        (KeepRules(daily=4), "acef"),
        (KeepRules(weekly=2), "ae"),
        (KeepRules(last=2, within="1d", tags=("paper",)), "abceg"),
    ],
)
def test_rules_add_up(rules: KeepRules, names: str) -> None:
    """What any rule keeps stays, and what is tagged `keep` always; `within` counts from the newest experiment."""
    assert kept(rules) == names


def test_every_choice_has_its_reason() -> None:
    """The plan names each experiment, newest first, and why it stays or goes."""
    plan = choose(WEEK, KeepRules(last=2, tags=("best",)))
    reasons = [str(one.reason) for one in plan.choices]
    assert reasons == [
        "one of the last 2",
        "one of the last 2",
        "it is tagged best",
        "no rule keeps it",
        "it is tagged keep",
        "no rule keeps it",
        "it is tagged best",
    ]
    assert [one.name for one in plan.removed] == ["d", "f"]


def test_a_plan_that_would_leave_nothing_is_refused() -> None:
    """As restic refuses it: a tag that was mistyped must not empty the store. Where nothing is, nothing is refused."""
    with pytest.raises(UsageError, match="would remove all 4 experiments"):
        choose(WEEK[:4], KeepRules(tags=("bset",)))
    assert choose([], KeepRules(last=1)).choices == ()


@pytest.mark.parametrize(
    ("text", "hours"), [("12h", 12), ("30d", 720), ("1w2d", 216), ("1y", 8760), ("0d", 0)]
)
def test_durations(text: str, hours: int) -> None:
    """Hours, days, weeks, years, one behind the other."""
    assert duration_ns(text) == hours * 3600 * 10**9


@pytest.mark.parametrize("text", ["", "30", "d", "1m", "-1d", "1.5d", "30 d", "1d ", "٣d", "9999999d"])
def test_no_duration(text: str) -> None:
    """Anything else is refused, months and minutes too: nobody knows which `m` means."""
    with pytest.raises(UsageError, match="no duration"):
        duration_ns(text)

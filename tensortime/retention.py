"""Which experiments `rm --keep-…` keeps: pure, from the list of experiments to a plan.

As with restic, rules add up: what any of them keeps stays. `within` counts back from the newest experiment, not from
now, so that a project that rests for a year does not lose what it has.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tensortime.errors import Message, UsageError, message
from tensortime.experiments import Experiment
from tensortime.inventory import Choice, RemovalPlan

PROTECTING = "keep"
"""An experiment with this tag is never removed."""

SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


@dataclass(frozen=True, slots=True)
class KeepRules:
    """What to keep; rules that are not given keep nothing."""

    last: int | None = None
    within: str | None = None
    """A duration: `30d`, `12h`, `2w`, `1y`, or several in a row."""
    tags: tuple[str, ...] = ()
    daily: int | None = None
    weekly: int | None = None

    @property
    def given(self) -> bool:
        """Whether there is any rule."""
        return bool(self.tags) or any(
            rule is not None for rule in (self.last, self.within, self.daily, self.weekly)
        )


def duration_ns(text: str) -> int:
    """`30d`, `12h`, `1w3d` in nanoseconds; UsageError for anything else."""
    if not re.fullmatch(r"([0-9]{1,6}[hdwy])+", text):
        raise UsageError("{text} is no duration", text=text, hint="write 30d, 12h, 2w or 1y")
    return (
        sum(int(count) * SECONDS[unit] for count, unit in re.findall(r"([0-9]+)([hdwy])", text))
        * 1_000_000_000
    )


def choose(experiments: Sequence[Experiment], rules: KeepRules) -> RemovalPlan:
    """Decide over experiments that stand newest first. UsageError where nothing would stay."""
    reasons: dict[str, Message] = {}
    for one in experiments:
        if PROTECTING in one.tags:
            reasons[one.name] = message("it is tagged keep")
    last, daily, weekly = rules.last, rules.daily, rules.weekly
    keep_first(reasons, experiments, last, name_of, message("one of the last {count}", count=last))
    keep_first(
        reasons, experiments, daily, day_of, message("the last of its day, one of {count}", count=daily)
    )
    keep_first(
        reasons, experiments, weekly, week_of, message("the last of its week, one of {count}", count=weekly)
    )
    if rules.within is not None and experiments:
        oldest = experiments[0].time_ns - duration_ns(rules.within)
        for one in experiments:
            if one.time_ns >= oldest:
                reasons.setdefault(
                    one.name, message("within {duration} of the newest", duration=rules.within)
                )
    for tag in rules.tags:
        for one in experiments:
            if tag in one.tags:
                reasons.setdefault(one.name, message("it is tagged {tag}", tag=tag))
    if experiments and not reasons:
        raise UsageError(
            "these rules would remove all {count} experiments",
            count=len(experiments),
            hint="name the experiments themselves if that is meant: tensortime rm NAME…",
        )
    return RemovalPlan(
        tuple(
            Choice(one, True, reasons[one.name])
            if one.name in reasons
            else Choice(one, False, message("no rule keeps it"))
            for one in experiments
        )
    )


def keep_first(
    reasons: dict[str, Message],
    experiments: Sequence[Experiment],
    count: int | None,
    period: Callable[[Experiment], object],
    reason: Message,
) -> None:
    """Keep the newest experiment of each of the last `count` periods that have any."""
    seen: set[object] = set()
    for one in experiments:
        if count is None or (len(seen) >= count and period(one) not in seen):
            return
        if period(one) not in seen:
            seen.add(period(one))
            reasons.setdefault(one.name, reason)


def moment(one: Experiment) -> datetime:
    """When an experiment's newest backup was made, in local time."""
    try:
        return datetime.fromtimestamp(one.time_ns / 1e9)
    except (OverflowError, ValueError, OSError):
        return datetime.min


def name_of(one: Experiment) -> object:
    """The name of an experiment: each is a period of its own."""
    return one.name


def day_of(one: Experiment) -> object:
    """The day of an experiment."""
    return moment(one).date()


def week_of(one: Experiment) -> object:
    """The week of an experiment."""
    return moment(one).isocalendar()[:2]

"""Which experiments `log` lists, and in which order: filters and keys, applied to what each has. Pure.

A filter never fails on a value of another kind than it expects: it does not hold.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tensortime.errors import Message, QueryError, UsageError, message
from tensortime.experiments import Experiment, LogReport
from tensortime.query import (
    FIELDS,
    Among,
    Every,
    Expression,
    Given,
    Name,
    Not,
    Query,
    Some,
    Value,
    is_no_moment,
    moment_ns,
    parse,
)


class Missing:
    """Stands for a value that an experiment does not have."""


MISSING = Missing()


class Moment(int):
    """Nanoseconds since 1970."""


@dataclass(frozen=True)
class Facts:
    """The values of one experiment, by name."""

    experiment: Experiment
    metrics: Mapping[str, object]
    params: Mapping[str, object]

    def get(self, name: str) -> object:
        """The value of that name, or MISSING."""
        if name in FIELDS:
            value = getattr(self.experiment, FIELDS[name])
            return Moment(value) if FIELDS[name] == "time_ns" else None if value == "" else value
        for mapping in (self.metrics, self.params):
            if name in mapping:
                return mapping[name]
        kind, _, rest = name.partition(".")
        return {"metrics": self.metrics, "params": self.params}.get(kind, {}).get(rest, MISSING)

    @property
    def names(self) -> list[str]:
        """The names of its metrics and parameters."""
        return [*self.metrics, *self.params]


def facts_of(one: Experiment) -> Facts:
    """The values of an experiment."""
    return Facts(one, dict(levels(one.metrics)), dict(levels(one.params)))


def levels(values: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """Values by their names, with dots between the levels; what has levels has a value of its own, too."""
    for key, value in values.items():
        yield above + key, value
        if isinstance(value, Mapping):
            yield from levels(value, f"{above}{key}.")


def matches(expression: Expression, facts: Facts, now: datetime) -> bool:
    """Whether a filter holds for an experiment. What compares a value that is missing does not hold."""
    if isinstance(expression, Every):
        return all(matches(part, facts, now) for part in expression.parts)
    if isinstance(expression, Some):
        return any(matches(part, facts, now) for part in expression.parts)
    if isinstance(expression, Not):
        return not matches(expression.part, facts, now)
    if isinstance(expression, Given):
        value = value_of(expression.what, facts)
        return value is not MISSING and bool(value)
    if isinstance(expression, Among):
        left = value_of(expression.left, facts)
        return left is not MISSING and any(holds("==", left, one.value, now) for one in expression.values)
    left, right = value_of(expression.left, facts), value_of(expression.right, facts)
    return left is not MISSING and right is not MISSING and holds(expression.sign, left, right, now)


def value_of(operand: Name | Value, facts: Facts) -> object:
    """The value of an operand for an experiment."""
    return facts.get(operand.text) if isinstance(operand, Name) else operand.value


def holds(sign: str, left: object, right: object, now: datetime) -> bool:
    """Whether a comparison holds. Of several tags one is enough, but for `!=`."""
    if sign == "!=":
        return not holds("==", left, right, now)
    if sign == "in":
        return holds("==" if isinstance(right, list | tuple) else "in text", left, right, now)
    if isinstance(left, list | tuple) and not isinstance(right, list | tuple):
        return any(holds(sign, one, right, now) for one in left)
    if isinstance(right, list | tuple) and not isinstance(left, list | tuple):
        return any(holds(sign, left, one, now) for one in right)
    if sign == "in text":
        return isinstance(left, str) and isinstance(right, str) and left in right
    if sign == "~":
        return isinstance(left, str) and isinstance(right, str) and right.casefold() in left.casefold()
    a, b = comparable(left, right, now)
    if sign == "==":
        return bool(a == b)
    if not isinstance(a, int | float | str) or isinstance(a, str) != isinstance(b, str):
        return False
    if not isinstance(b, int | float | str):
        return False
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign]  # type: ignore[operator]


def comparable(left: object, right: object, now: datetime) -> tuple[object, object]:
    """Two values so that they compare: a text beside a number as the number it is, beside a time as the time it is."""
    for a, b in ((left, right), (right, left)):
        if isinstance(a, str) and isinstance(b, Moment):
            moment = None if is_no_moment(a) else moment_ns(a, now)
            return (moment, b) if a is left else (b, moment)
        if isinstance(a, str) and isinstance(b, int | float) and not isinstance(b, bool):
            number = number_in(a)
            return (number, b) if a is left else (b, number)
    return left, right


def number_in(text: str) -> float | None:
    """A text as the number it is; None for any other. Metrics that are not finite are recorded as texts."""
    try:
        return float(text)
    except ValueError:
        return None


def select(
    report: LogReport, *, where: str | None, since: str | None, sort: str | None, reverse: bool
) -> LogReport:
    """What of a report is asked for, in the order that is asked for. QueryError, UsageError."""
    now = datetime.now()
    query = None if where is None else parse(where)
    begin_ns = None if since is None else moment_ns(since, now)
    shown = list(report.experiments)
    if query is not None:
        shown = chosen(shown, query, now)
    if begin_ns is not None:
        shown = [one for one in shown if one.time_ns >= begin_ns]
    passed_over = len(report.experiments) - len(shown)
    if sort is not None:
        shown = ordered(shown, sort, reverse=reverse)
    elif reverse:
        shown.reverse()
    key = "" if sort is None else sort.removeprefix("-")
    return replace(report, experiments=tuple(shown), passed_over=passed_over, key=key)


def chosen(experiments: Iterable[Experiment], query: Query, now: datetime) -> list[Experiment]:
    """The experiments that a filter holds for. QueryError for a name that none of them has."""
    facts = [facts_of(one) for one in experiments]
    for name, at in query.places.items():
        if facts and name not in FIELDS and all(one.get(name) is MISSING for one in facts):
            raise QueryError(
                "no experiment has {name}", name=name, text=query.text, at=at, hint=names_hint(name, facts)
            )
    return [one.experiment for one in facts if matches(query.expression, one, now)]


def ordered(experiments: Iterable[Experiment], key: str, *, reverse: bool = False) -> list[Experiment]:
    """Experiments by a value, the smallest first, with `-` before its name the largest: numbers, then texts, then those
    that do not have it, which are last either way. UsageError for a name that none of them has.
    """
    name = key.removeprefix("-")
    facts = [facts_of(one) for one in experiments]
    values = [(one.get(name), one.experiment) for one in facts]
    if facts and name not in FIELDS and all(value is MISSING for value, _ in values):
        raise UsageError("no experiment has {name}", name=name, hint=names_hint(name, facts))
    numbers: list[tuple[float, Experiment]] = []
    texts: list[tuple[str, Experiment]] = []
    rest: list[Experiment] = []
    for value, one in values:
        number = number_in(value) if isinstance(value, str) and name not in FIELDS else value
        if isinstance(number, int | float) and number == number:
            numbers.append((number, one))
        elif value is MISSING or value is None or value == ():
            rest.append(one)
        else:
            texts.append((" ".join(value) if isinstance(value, tuple) else str(value), one))
    down = key.startswith("-") != reverse
    numbers.sort(key=lambda pair: pair[0], reverse=down)
    texts.sort(key=lambda pair: pair[0].casefold(), reverse=down)
    return [one for _, one in numbers] + [one for _, one in texts] + rest


def names_hint(name: str, facts: Sequence[Facts]) -> Message:
    """What may have been meant by a name that nobody has, or what there is."""
    import difflib  # only for an error

    known = [*dict.fromkeys(each for one in facts for each in one.names), *FIELDS]
    near = difflib.get_close_matches(name, known, 3, 0.6)
    if near:
        return message("did you mean {name}?", name=near[0])
    shown = ", ".join(known[:30]) + (", …" if len(known) > 30 else "")
    return message("there are: {names}", names=shown)

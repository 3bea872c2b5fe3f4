"""What a filter of `log` may say, and a moment. Pure: from a text to a tree, and back.

    any     := all ("or" all)*
    all     := one ("and" one)*
    one     := "not" one | "(" any ")" | operand [comparison]
    comparison := ("==" | "!=" | "<" | "<=" | ">" | ">=" | "~" | ["not"] "in") operand
                | ["not"] "in" "(" value ("," value)* ")"
    operand := name | value             value := number | "text" | 'text' | true | false | none

Names are those of metrics and parameters (`val/loss`, `optimizer.lr`, in backquotes whatever else) and FIELDS. Nothing is
evaluated but that: no call, no arithmetic, no attribute.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from tensortime.errors import QueryError, UsageError, message
from tensortime.retention import duration_ns

FIELDS = {
    "name": "name",
    "experiment": "name",
    "note": "note",
    "status": "status",
    "tag": "tags",
    "tags": "tags",
    "parent": "parent",
    "files": "files",
    "bytes": "bytes",
    "size": "bytes",
    "time": "time_ns",
    "when": "time_ns",
    "backups": "backups",
}
"""What every experiment has; a metric or parameter of the same name is `metrics.name` or `params.name`."""

LONGEST = 10_000
DEEPEST = 50

CONSTANTS = {"true": True, "false": False, "none": None, "null": None}
WORDS = {"and", "or", "not", "in"}
NAME = r"[^\W\d][\w.@]*(?:[/:-][\w.@]+)*"
TOKEN = re.compile(
    rf"""\s*(?:
        (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
        | (?P<name>{NAME})
        | `(?P<quoted>[^`]+)`
        | "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>(?:[^'\\]|\\.)*)'
        | (?P<sign>==|!=|<=|>=|<|>|~|\(|\)|,)
        | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "~")
MEANT = {"=": "==", "&": "and", "|": "or", "!": "not"}
"""What people type who know it from elsewhere, and what it is called here."""


@dataclass(frozen=True, slots=True)
class Name:
    """The value that an experiment has under this name."""

    text: str

    def __str__(self) -> str:
        plain = re.fullmatch(NAME, self.text) and self.text.lower() not in {*WORDS, *CONSTANTS}
        return self.text if plain else f"`{self.text}`"


@dataclass(frozen=True, slots=True)
class Value:
    """A number, text, true, false or none."""

    value: object

    def __str__(self) -> str:
        if isinstance(self.value, str):
            return '"' + re.sub(r'(["\\])', r"\\\1", self.value) + '"'
        return "none" if self.value is None else repr(self.value).lower()


@dataclass(frozen=True, slots=True)
class Comparison:
    """One of COMPARISONS, or `in`."""

    sign: str
    left: Name | Value
    right: Name | Value

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


@dataclass(frozen=True, slots=True)
class Among:
    """Whether something is one of several values."""

    left: Name | Value
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.left} in ({', '.join(map(str, self.values))})"


@dataclass(frozen=True, slots=True)
class Given:
    """Whether there is such a value, and it is neither false, nor zero, nor empty."""

    what: Name | Value

    def __str__(self) -> str:
        return str(self.what)


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary."""

    part: "Expression"

    def __str__(self) -> str:
        return f"not {in_brackets(self.part)}"


@dataclass(frozen=True, slots=True)
class Every:
    """Joined by `and`."""

    parts: tuple["Expression", ...]

    def __str__(self) -> str:
        return " and ".join(map(in_brackets, self.parts))


@dataclass(frozen=True, slots=True)
class Some:
    """Joined by `or`."""

    parts: tuple["Expression", ...]

    def __str__(self) -> str:
        return " or ".join(map(in_brackets, self.parts))


Expression = Comparison | Among | Given | Not | Every | Some


def in_brackets(part: Expression) -> str:
    """A part of something larger."""
    return f"({part})" if isinstance(part, Every | Some) else str(part)


class Token(NamedTuple):
    """A word of a filter, and where it stands."""

    kind: str
    text: str
    at: int


@dataclass(frozen=True)
class Query:
    """A filter that was understood."""

    text: str
    expression: Expression
    places: Mapping[str, int]
    """The names in it, and where each stands."""


def parse(text: str) -> Query:
    """A filter as a person types it. QueryError, with the place, for whatever is none."""
    if len(text) > LONGEST:
        raise QueryError("the filter is longer than {limit} characters", limit=LONGEST, text=text, at=LONGEST)
    parser = Parser(text)
    expression = parser.some(0)
    parser.expect("end")
    return Query(text, expression, parser.places)


def tokens_of(text: str) -> Iterator[Token]:
    """The words of a filter; the last is its end."""
    at = 0
    while found := TOKEN.match(text, at):
        kind = found.lastgroup or "end"
        word = found[kind]
        start, at = found.end() - len(found[0].lstrip()), found.end()
        if kind in ("double", "single"):
            kind, word = "text", re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL)
        elif kind == "name" and word.lower() in {*WORDS, *CONSTANTS}:
            word = word.lower()
            kind = "word" if word in WORDS else "constant"
        yield Token("name" if kind == "quoted" else kind, word, start)
        if kind == "end":
            return
    at += len(text[at:]) - len(text[at:].lstrip())
    sign = text[at]
    if sign in MEANT:
        meant = message("that is written {word}", word=MEANT[sign])
        raise QueryError("{sign} means nothing here", sign=sign, text=text, at=at, hint=meant)
    if sign in "\"'`":
        raise QueryError("the text that begins here does not end", text=text, at=at)
    hint = "an odd name stands in backquotes, a text in quotes"
    raise QueryError("{sign} means nothing here", sign=sign, text=text, at=at, hint=hint)


class Parser:
    """Reads the words of one filter, one rule of the grammar a method."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(tokens_of(text))
        self.position = 0
        self.places: dict[str, int] = {}

    @property
    def word(self) -> Token:
        """The word that comes."""
        return self.tokens[self.position]

    def take(self, kind: str, *texts: str) -> Token | None:
        """The next word if it is such a one."""
        token = self.word
        if token.kind != kind or (texts and token.text not in texts):
            return None
        self.position += 1
        return token

    def expect(self, kind: str, text: str = "") -> Token:
        """The next word, which must be such a one."""
        token = self.take(kind, *([text] if text else []))
        if token is not None:
            return token
        if self.word.kind == "end":
            raise self.problem("{word} is missing here", word=text or kind)
        if self.word.kind == "sign" and self.word.text in COMPARISONS:
            raise self.problem("one comparison at a time", hint="join two of them by and")
        raise self.problem(
            "{word} is not expected here", word=self.word.text, hint="and, or join two comparisons"
        )

    def problem(self, template: str, /, *, hint: str = "", **values: object) -> QueryError:
        """What is wrong with the next word."""
        return QueryError(template, hint=hint, text=self.text, at=self.word.at, **values)

    def some(self, depth: int) -> Expression:
        """Parts joined by `or`."""
        parts = [self.every(depth)]
        while self.take("word", "or"):
            parts.append(self.every(depth))
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def every(self, depth: int) -> Expression:
        """Parts joined by `and`."""
        parts = [self.one(depth)]
        while self.take("word", "and"):
            parts.append(self.one(depth))
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def one(self, depth: int) -> Expression:
        """A negation, brackets, or a comparison."""
        if depth > DEEPEST:
            raise self.problem("more than {limit} brackets within each other", limit=DEEPEST)
        if self.take("word", "not"):
            return Not(self.one(depth + 1))
        if self.take("sign", "("):
            inner = self.some(depth + 1)
            self.expect("sign", ")")
            return inner
        return self.comparison()

    def comparison(self) -> Expression:
        """Two operands, one among values, or one alone."""
        left = self.operand()
        place = self.position
        if sign := self.take("sign", *COMPARISONS):
            right = self.operand()
            self.check_time(sign, left, right)
            return Comparison(sign.text, left, right)
        negated = self.take("word", "not")
        if self.take("word", "in"):
            inside = self.values() if self.take("sign", "(") else None
            found = Comparison("in", left, self.operand()) if inside is None else Among(left, inside)
            return Not(found) if negated else found
        self.position = place
        return Given(left)

    def values(self) -> tuple[Value, ...]:
        """The values in brackets behind `in`."""
        found = []
        while True:
            place = self.position
            operand = self.operand()
            if not isinstance(operand, Value):
                self.position = place
                raise self.problem(
                    "{word} is no value", word=operand.text, hint='write texts in quotes: "paper"'
                )
            found.append(operand)
            if not self.take("sign", ","):
                self.expect("sign", ")")
                return tuple(found)

    def operand(self) -> Name | Value:
        """A name or a value."""
        token = self.word
        if token.kind == "number":
            value = Value(self.number(token))
        elif token.kind == "text":
            value = Value(token.text)
        elif token.kind == "constant":
            value = Value(CONSTANTS[token.text])
        elif token.kind == "name":
            self.position += 1
            self.places.setdefault(token.text, token.at)
            return Name(token.text)
        else:
            raise self.problem("a name or value is missing here")
        self.position += 1
        return value

    def number(self, token: Token) -> int | float:
        """A number; QueryError for one that is too large."""
        try:
            whole = int(token.text)
            return whole if abs(whole) < 1 << 1000 else self.too_large()
        except ValueError:
            number = float(token.text)
            return number if abs(number) != float("inf") else self.too_large()

    def too_large(self) -> int:
        """QueryError."""
        raise self.problem("the number is too large")

    def check_time(self, sign: Token, *operands: Name | Value) -> None:
        """QueryError where `time` is compared with what is no moment."""
        if not any(isinstance(one, Name) and FIELDS.get(one.text) == "time_ns" for one in operands):
            return
        hint = 'write time > "2d", time < "2026-11-23"'
        if sign.text not in ("<", "<=", ">", ">="):
            self.position -= 2
            raise self.problem("a time is only before or after another", hint=hint)
        for one in operands:
            if isinstance(one, Value) and (not isinstance(one.value, str) or is_no_moment(one.value)):
                self.position -= 1
                raise self.problem("{word} is no time", word=str(one), hint=hint)


def is_no_moment(text: str) -> bool:
    """Whether a text is no time."""
    try:
        moment_ns(text, datetime.now())
    except UsageError:
        return True
    return False


def moment_ns(text: str, now: datetime) -> int:
    """`2d`, `12h`, `1w` ago, `today`, `yesterday`, or a date with or without a time of day: in nanoseconds since 1970.

    UsageError for anything else.
    """
    words = {"today": now, "yesterday": now - timedelta(days=1)}
    try:
        if text in words:
            start = words[text].replace(hour=0, minute=0, second=0, microsecond=0)
            return int(start.timestamp() * 1e9)
        if re.fullmatch(r"([0-9]+[a-z])+", text):
            return int(now.timestamp() * 1e9) - duration_ns(text)
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except (ValueError, OverflowError, OSError, UsageError):
        raise UsageError(
            "{text} is no time",
            text=text[:80],
            hint="write 2d, 12h, 1w, or a date: 2026-11-23, 2026-11-23T09:30",
        ) from None

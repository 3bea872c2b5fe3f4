"""The configuration of a project: `tensortime.toml`, or `[tool.tensortime]` in its `pyproject.toml`.

No file is the usual case and costs two failed opens. A wrong key or value is the person's mistake and
raises BadConfig, which names the file, the key and what it should be.
"""

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from tensortime.errors import BadConfig, message

OWN_FILE = "tensortime.toml"
SHARED_FILE = "pyproject.toml"
SHARED_TABLE = "pyproject.toml [tool.tensortime]"

DEFAULT_LARGE_SIZE = 1 << 20
HIGHEST_LARGE_SIZE = 512 << 20
"""Bytes. A small file is held in memory whole while it is packed; a higher `large_size` counts as this."""

UNITS = {"": 1, "b": 1} | {
    form: factor**power
    for power, letter in enumerate("kmgt", start=1)
    for form, factor in ((letter, 1024), (f"{letter}ib", 1024), (f"{letter}b", 1000))
}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE | re.ASCII)
A_SIZE = 'a size of at least one byte, such as 1048576 or "4 MiB"'
A_TEXT = "a text"
A_SWITCH = "true or false"
A_LANGUAGE = '"en" or "zh"'
INNER_PATHS = 'a list of paths inside the project, such as ["save/", "logs/*.csv"]'
PATTERNS = 'a list of patterns, such as ["data/*.bin"]'


@dataclass(frozen=True)
class Config:
    """What a person may set; the defaults need no file."""

    large_size: int = DEFAULT_LARGE_SIZE
    """Bytes: files from this size on go to the sidecar."""
    hardlink: tuple[str, ...] = ()
    """Patterns (gitignore syntax) of large files that may be hard-linked into the store."""
    follow: tuple[str, ...] = ()
    """Patterns of symbolic links that are stored as what is behind them."""
    ignore: tuple[str, ...] = ()
    """Patterns to leave out; `.ttignore` and the `ignore` argument come after them."""
    metrics: tuple[str, ...] = ()
    """Patterns of files, from the project's top, out of which metrics are read."""
    outputs: tuple[str, ...] = ()
    """Paths, or globs of them, from the project's top: what `run` stores of them although a rule leaves it out."""
    backup_dir: str | None = None
    max_store: int | None = None
    """Bytes that the store may take."""
    lang: str | None = None
    strict: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each value comes from: `tensortime.toml`, `pyproject.toml [tool.tensortime]` or `default`."""


KEYS = tuple(key.name for key in fields(Config) if key.name != "sources")
DEFAULT_SOURCES = dict.fromkeys(KEYS, "default")


def load_config(project: str) -> Config:
    """The configuration of the folder `project`; BadConfig where a file, a key or a value is wrong."""
    found = read_table(project)
    return Config(sources=DEFAULT_SOURCES) if found is None else build(*found)


def read_language(project: str) -> str | None:
    """The `lang` of a configuration in which something else may be wrong: the person is told so in it."""
    with contextlib.suppress(BadConfig):
        table, _ = read_table(project) or ({}, "")
        lang = table.get("lang")
        return lang if isinstance(lang, str) else None
    return None


def read_table(project: str) -> tuple[Mapping[str, object], str] | None:
    """The table of the folder `project` and where it stands; None where there is none. BadConfig."""
    text = read_text(project, OWN_FILE)
    if text is not None:
        return parse_toml(text, OWN_FILE), OWN_FILE
    text = read_text(project, SHARED_FILE)
    if text is None or "tensortime" not in text:
        return None
    try:
        document = parse_toml(text, SHARED_FILE)
    except BadConfig:
        if "tool.tensortime" in text:
            raise
        return None  # somebody else's file, broken for somebody else
    table: object = document.get("tool")
    table = table.get("tensortime", {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict):
        raise BadConfig(
            "{file}: tool.tensortime must be a table", file=SHARED_FILE, hint="write [tool.tensortime]"
        )
    return table, SHARED_TABLE


def read_text(project: str, name: str) -> str | None:
    """A file of the project as text, None where there is none; BadConfig where it cannot be read."""
    try:
        with open(os.path.join(project, name), encoding="utf-8-sig", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as problem:
        if name == SHARED_FILE:
            return None  # no TOML at all, so nothing of ours is in it
        line = problem.object[: problem.start].count(b"\n") + 1
        raise BadConfig("{file}, line {line}: not UTF-8", file=name, line=line) from None
    except OSError as problem:
        if name == SHARED_FILE:
            return None
        raise BadConfig("{file} cannot be read: {reason}", file=name, reason=problem.strerror) from None


def parse_toml(text: str, name: str) -> dict[str, object]:
    """The document in `text`; BadConfig with file and line where it is no TOML."""
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        reason, _, position = str(problem).partition(" (at ")
        match = re.match(r"line (\d+)", position)
        line = int(match[1]) if match else text.rstrip().count("\n") + 1
        raise BadConfig("{file}, line {line}: {reason}", file=name, line=line, reason=reason) from None


def build(table: Mapping[str, object], source: str) -> Config:
    """A Config from the keys of one table; BadConfig for an unknown key or a wrong value."""
    values: dict[str, object] = {}
    for key, value in table.items():
        check = CHECKS.get(key)
        if check is None:
            raise unknown_key(key, source)
        try:
            values[key] = check(value)
        except ValueError as problem:
            raise BadConfig(
                "{file}: {key} must be {wanted}, not {value}",
                file=source,
                key=key,
                wanted=message(str(problem)),
                value=repr(value)[:80],
            ) from None
    sources = DEFAULT_SOURCES | dict.fromkeys(values, source)
    return Config(**values, sources=sources)  # type: ignore[arg-type]  # each value went through its check


def unknown_key(key: str, source: str) -> BadConfig:
    """The error for a key that does not exist, with the one that was probably meant."""
    import difflib

    near = difflib.get_close_matches(key.lower().replace("-", "_"), KEYS, n=1)
    hint = (
        message("did you mean {name}?", name=near[0])
        if near
        else message("the keys are {keys}", keys=", ".join(KEYS))
    )
    return BadConfig("{file}: unknown key {key}", file=source, key=key[:80], hint=hint)


def parse_size(value: int | str) -> int:
    """Bytes from a number or a text such as `4 MiB`, `4MB`, `512k`; ValueError says what it should be.

    `KiB` and a bare `k` are 1024, `kB` is 1000. Letter case does not count.
    """
    size = 0
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str):
        from decimal import Decimal

        match = SIZE.fullmatch(value.strip())
        if match and match[2].lower() in UNITS:
            size = int(Decimal(match[1]) * UNITS[match[2].lower()])
    if size < 1:
        raise ValueError(A_SIZE)
    return size


def check_size(value: object) -> int:
    """A size; ValueError says what it should be."""
    if not isinstance(value, int | str):
        raise ValueError(A_SIZE)
    return parse_size(value)


def check_large_size(value: object) -> int:
    """A size, at most HIGHEST_LARGE_SIZE."""
    return min(check_size(value), HIGHEST_LARGE_SIZE)


def check_patterns(value: object) -> tuple[str, ...]:
    """A list of strings; ValueError says what it should be."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(PATTERNS)
    return tuple(value)


def check_inner_paths(value: object) -> tuple[str, ...]:
    """A list of paths inside the project, as they are when nothing is to be cut off; ValueError says what it should be."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError(INNER_PATHS)
    paths = tuple(os.path.normpath(item) for item in value)
    if any(os.path.isabs(path) or path.split("/")[0] in (".", "..") or "\0" in path for path in paths):
        raise ValueError(INNER_PATHS)
    return paths


def check_text(value: object) -> str:
    """A string that is not empty; ValueError says what it should be."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(A_TEXT)
    return value


def check_language(value: object) -> str:
    """A language that TensorTime speaks; ValueError says which these are."""
    if not isinstance(value, str) or not re.match(r"en|zh|chinese|中|英|汉|漢|简|繁", value.lower()):
        raise ValueError(A_LANGUAGE)
    return value


def check_switch(value: object) -> bool:
    """True or false; ValueError says what it should be."""
    if not isinstance(value, bool):
        raise ValueError(A_SWITCH)
    return value


CHECKS: dict[str, Callable[[object], object]] = {
    "large_size": check_large_size,
    "hardlink": check_patterns,
    "follow": check_patterns,
    "ignore": check_patterns,
    "metrics": check_patterns,
    "outputs": check_inner_paths,
    "backup_dir": check_text,
    "max_store": check_size,
    "lang": check_language,
    "strict": check_switch,
}

"""The ignore rules: gitignore syntax, from the config, from `.ttignore` at any depth and from `ignore=[…]`.

The last and deepest match decides: built-in < config < `.ttignore` from shallow to deep < the argument; `!`
reopens. What lies in a folder that is left out is never asked about, as with git.

pathspec turns a pattern into a regular expression. It does not read all patterns as git does, and a pattern
that matches more leaves out a file that nobody misses until it is needed. So a line is read here as git reads
it (dir.c, wildmatch.c); pathspec gets what both understand alike, and the rest is put into its expression.
"""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from tensortime.formats import bytes_of, text_of
from tensortime.policy import builtin_rule, unconditional_rule

FILE_NAME = b".ttignore"

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SPECIAL = re.compile(rb"[*?\[\\]")
AFRESH = re.compile(rb"(?P<rest>(?:\*\*+/)*\*\*+(?=\\/|\Z))|(?:\*\*+/)+")
PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
SLOT = b"\0"
"""Stands in a pattern for a piece of the expression; it occurs in no path."""

CLASSES = {
    b"alnum": rb"[0-9A-Za-z]",
    b"alpha": rb"[A-Za-z]",
    b"blank": rb"[ \t]",
    b"cntrl": rb"[\x00-\x1f\x7f]",
    b"digit": rb"[0-9]",
    b"graph": rb"[!-~]",
    b"lower": rb"[a-z]",
    b"print": rb"[ -~]",
    b"punct": rb"[!-/:-@\[-`{-~]",
    b"space": rb"[ \t\n\r]",
    b"upper": rb"[A-Z]",
    b"xdigit": rb"[0-9A-Fa-f]",
}
"""What git puts into a POSIX class, whatever the locale."""


class BrokenPattern(NamedTuple):
    """A line that leaves out nothing because nobody can say what it means."""

    where: str
    """`.ttignore:3`, `model/.ttignore:1`, `ignore`, `config`."""
    pattern: str
    problem: str


class Pattern(NamedTuple):
    """One line, ready to be asked."""

    rule: str
    """The line as a person finds it: `.ttignore:3 *.log`."""
    reopens: bool
    folders_only: bool
    by_name: bool
    """It sees the last component alone, at any depth."""
    start: int
    """Bytes of a path before the part it sees: the folder of its `.ttignore`."""
    match: Callable[[bytes], object]

    def matches(self, path: bytes, name: bytes, is_folder: bool) -> bool:
        """Whether the line speaks about exactly this entry (not about what lies in it)."""
        if self.folders_only and not is_folder:
            return False
        return bool(self.match(name if self.by_name else path[self.start :]))


class Broken(ValueError):
    """The problem of a pattern that can match nothing."""


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules in force in one folder; never changed, a folder below gets its own with `enter`."""

    argument: tuple[Pattern, ...] = ()
    """Each of these from the last line, which decides, to the first."""
    files: tuple[Pattern, ...] = ()
    config: tuple[Pattern, ...] = ()
    everything: tuple[Pattern, ...] = ()
    broken: tuple[BrokenPattern, ...] = ()
    """The lines that the last step (`start` or `enter`) could not use."""
    fixed: bool = False
    """Nothing is added by a `.ttignore`: what holds inside a folder that was named."""

    @classmethod
    def start(
        cls,
        config_ignore: Iterable[str] = (),
        argument_ignore: Iterable[str | os.PathLike[str]] = (),
        root: bytes | str = b"",
    ) -> "Rules":
        """The rules at the top of the project `root`; TypeError for an entry that is no text or path."""
        broken: list[BrokenPattern] = []
        config = parse_entries("config", config_ignore, os.fsencode(root), broken)
        argument = parse_entries("ignore", argument_ignore, os.fsencode(root), broken)
        return cls(argument, (), config, argument + config, tuple(broken))

    def enter(self, folder: bytes, ttignore: bytes | None) -> "Rules":
        """The rules inside `folder` (b"" at the top), which holds a `.ttignore` with these bytes, or none."""
        if ttignore is None:
            return self
        broken: list[BrokenPattern] = []
        own = parse_file(folder, ttignore, broken)
        files = own + self.files
        return Rules(self.argument, files, self.config, self.argument + files + self.config, tuple(broken))

    def last_match(self, path: bytes, name: bytes, is_folder: bool) -> Pattern | None:
        """The user's line that decides about an entry, or None where no line speaks about it."""
        for pattern in self.everything:
            if pattern.matches(path, name, is_folder):
                return pattern
        return None

    def reopens(self, path: bytes, name: bytes) -> bool:
        """Whether a `!` line asks for this folder, so that what it holds does not make it a built-in case."""
        pattern = self.last_match(path, name, True)
        return pattern is not None and pattern.reopens

    def decide(self, path: bytes, name: bytes, is_folder: bool) -> str | None:
        """The rule that leaves out an entry (`name` is the last part of `path`), or None: it is stored."""
        for pattern in self.everything:
            if pattern.matches(path, name, is_folder):
                return unconditional_rule(path, name) if pattern.reopens else pattern.rule
        return unconditional_rule(path, name) or builtin_rule(name, is_folder)


@dataclass(frozen=True, slots=True)
class Matcher:
    """A list of patterns from the config that choose paths: `hardlink`, `follow`."""

    patterns: tuple[Pattern, ...]
    broken: tuple[BrokenPattern, ...]

    @classmethod
    def of(cls, where: str, entries: Iterable[str], root: bytes | str = b"") -> "Matcher":
        """Compile `entries`; `where` is the config key, for the broken ones."""
        broken: list[BrokenPattern] = []
        return cls(parse_entries(where, entries, os.fsencode(root), broken), tuple(broken))

    def chooses(self, path: bytes, is_folder: bool = False) -> bool:
        """Whether the last line that speaks about exactly this path chooses it."""
        name = path.rpartition(b"/")[2]
        for pattern in self.patterns:
            if pattern.matches(path, name, is_folder):
                return not pattern.reopens
        return False

    def covers(self, path: bytes) -> bool:
        """Whether a file is chosen, or a folder that it lies in."""
        if not self.patterns:
            return False
        parts = path.split(b"/")
        folders = (b"/".join(parts[:count]) for count in range(1, len(parts)))
        return any(self.chooses(folder, True) for folder in folders) or self.chooses(path)


def parse_file(folder: bytes, data: bytes, broken: list[BrokenPattern]) -> tuple[Pattern, ...]:
    """The lines of the `.ttignore` of `folder`, last first; what cannot be used is added to `broken`."""
    prefix = folder + b"/" if folder else b""
    patterns = []
    for number, raw in enumerate(data.removeprefix(BYTE_ORDER_MARK).split(b"\n"), start=1):
        line = raw.removesuffix(b"\r")
        where = f"{text_of(prefix + FILE_NAME)}:{number}"
        try:
            pattern = parse_line(line, f"{where} ", len(prefix))
        except Broken as problem:
            broken.append(BrokenPattern(where, text_of(line), str(problem)))
        else:
            patterns += [pattern] if pattern else []
    return tuple(reversed(patterns))


def parse_entries(
    where: str, entries: Iterable[str | os.PathLike[str]], root: bytes, broken: list[BrokenPattern]
) -> tuple[Pattern, ...]:
    """The entries of a list, last first; what cannot be used is added to `broken`."""
    if isinstance(entries, str | bytes):
        raise TypeError(f"{where} must be a list of patterns, not one text: [{entries!r}]")
    patterns = []
    for entry in entries:
        if not isinstance(entry, str | os.PathLike):
            raise TypeError(f"{where} must hold texts or paths, not {type(entry).__name__}")
        line = bytes_of(os.fspath(entry))
        try:
            pattern = parse_line(relative_entry(line, root), f"{where}: ", 0)
            if pattern is None:
                raise Broken("it is empty, or a comment (write \\# for a name that starts with #)")
        except Broken as problem:
            broken.append(BrokenPattern(where, text_of(line), str(problem)))
        else:
            patterns.append(pattern._replace(rule=f"{where}: {text_of(line)}"))
    return tuple(reversed(patterns))


def relative_entry(line: bytes, root: bytes) -> bytes:
    """An entry of a list as a gitignore line: `./data` and `<project>/data` mean the one at the top."""
    sign, line = (b"!", line[1:]) if line.startswith(b"!") else (b"", line)
    if root and line.startswith(root.rstrip(b"/") + b"/"):
        line = line[len(root.rstrip(b"/")) :]
    while line.startswith(b"./"):
        line = b"/" + line[2:].lstrip(b"/")
        line = line[1:] if line.startswith(b"/./") else line
    return sign + line.replace(b"/./", b"/")


def parse_line(line: bytes, label: str, start: int) -> Pattern | None:
    """One gitignore line, None for an empty one or a comment; Broken for one that can match nothing."""
    if line.startswith(b"#"):
        return None
    text = trim(line)
    if not text:
        return None
    reopens = text.startswith(b"!")
    core = text[1:] if reopens else text
    folders_only = core.endswith(b"/")
    core = core[:-1] if folders_only else core
    by_name = b"/" not in core
    core = core.removeprefix(b"/")
    if not core:
        raise Broken("nothing is left of it")
    if b"\0" in core:
        raise Broken("it holds a NUL byte")
    return Pattern(label + text_of(text), reopens, folders_only, by_name, start, matcher(core, by_name))


def trim(line: bytes) -> bytes:
    """A line without its trailing spaces (spaces alone, as git does), unless a backslash keeps them."""
    short = line.rstrip(b" ")
    backslashes = len(short) - len(short.rstrip(b"\\"))
    return short + b" " if backslashes % 2 and len(short) < len(line) else short


def matcher(core: bytes, by_name: bool) -> Callable[[bytes], object]:
    """A test for the pattern `core`, on a name or on a path; Broken where it can match nothing."""
    if by_name and core.startswith(b"*") and not SPECIAL.search(core, 1):
        return partial(ends_with, core[1:])
    if not SPECIAL.search(core):
        check_components(core)
        return core.__eq__
    glob = Glob()
    glob.read(core, by_name)
    text = settle(glob.text)
    if text in (b"*", b"**/*") and (by_name or text == b"**/*"):
        return partial(ends_with, b"")
    return compile_glob(text, glob.slots)


def ends_with(suffix: bytes, subject: bytes) -> bool:
    """Whether `subject` ends with `suffix`: what `*.log` asks."""
    return subject.endswith(suffix)


def check_components(text: bytes) -> None:
    """Broken where no path can have these components."""
    for part in text.split(b"/"):
        if not part:
            raise Broken("it has an empty part between two slashes")
        if part in (b".", b".."):
            raise Broken(f"no path has the part {part.decode()}")


def settle(text: bytes) -> bytes:
    """A glob with `**` in the one form that pathspec reads as git does: never twice, never at the end."""
    check_components(text)
    parts: list[bytes] = []
    for part in text.split(b"/"):
        if part != b"**" or parts[-1:] != [b"**"]:
            parts.append(part)
    return b"/".join(parts + [b"*"] * (parts[-1] == b"**"))


def compile_glob(text: bytes, slots: list[bytes]) -> Callable[[bytes], object]:
    """A test made by pathspec from a glob; each SLOT is filled with its piece of the expression."""
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    expression, _ = GitIgnoreSpecPattern.pattern_to_regex(b"/" + text)
    if expression is None:
        raise Broken("pathspec makes nothing of it")
    pieces = expression.split(SLOT)
    filled = pieces[0] + b"".join(slot + piece for slot, piece in zip(slots, pieces[1:], strict=True))
    return re.compile(filled, re.DOTALL).fullmatch


class Glob:
    """A pattern read as git reads it and written for pathspec: letters, `?`, `*`, `**`, `/` and slots."""

    def __init__(self) -> None:
        self.text = b""
        self.slots: list[bytes] = []

    def slot(self, expression: bytes) -> None:
        """Add a piece of the expression as it is."""
        self.text += SLOT
        self.slots.append(expression)

    def literal(self, byte: bytes) -> None:
        """Add a byte that stands for itself. (pathspec would strip a last 0xA0: half of a UTF-8 `à`.)"""
        if byte == b"/" or byte[0] in PLAIN:
            self.text += byte
        else:
            self.slot(re.escape(byte))

    def read(self, core: bytes, by_name: bool) -> None:
        """Read all of a pattern; Broken where it can match nothing."""
        at = 0
        while at < len(core):
            byte = core[at : at + 1]
            if byte == b"*":
                at = self.read_stars(core, at, by_name)
            elif byte == b"[":
                expression, at = read_set(core, at)
                self.slot(expression)
            elif byte == b"?":
                self.text += byte
                at += 1
            else:
                at += byte == b"\\"
                if at == len(core):
                    raise Broken("it ends with a backslash")
                self.literal(core[at : at + 1])
                at += 1

    def read_stars(self, core: bytes, at: int, by_name: bool) -> int:
        r"""Read a run of `*` at `at`; returns where it ends.

        git compares the plain start of a pattern by itself and begins anew after it, so that `**` right
        after it counts as a component: `a**/b` is `ab` and `ax/y/b`. And `**\/` is at least one folder.
        """
        after_slash = at == 0 or core[at - 1 : at] == b"/"
        afresh = AFRESH.match(core, at)
        if afresh and not by_name and not after_slash and not SPECIAL.search(core[:at]):
            self.slot(b".*" if afresh["rest"] else b"(?:.*/)?")
            return afresh.end()
        end = len(core) - len(core[at:].lstrip(b"*"))
        escaped = core.startswith(b"\\/", end)
        bounded = end == len(core) or core.startswith(b"/", end) or escaped
        if by_name or end - at == 1 or not bounded or not after_slash:
            self.text += b"*"
        else:
            self.text += b"*/**" if escaped else b"**"
        return end


def read_set(core: bytes, at: int) -> tuple[bytes, int]:
    """The set that begins at `at`, as an expression, and where it ends; Broken if it never does."""
    members: set[int] = set()
    negated = core[at + 1 : at + 2] in (b"!", b"^")
    at += 1 + negated
    first = True
    while first or core[at : at + 1] != b"]":
        first = False
        found, at = read_member(core, at)
        members |= found
    members = (set(range(1, 256)) - members if negated else members) - {ord("/")}
    if not members:
        raise Broken("no character is in its [...]")
    return b"[" + b"".join(b"\\x%02x" % member for member in sorted(members)) + b"]", at + 1


def read_member(core: bytes, at: int) -> tuple[set[int], int]:
    """One character, range or class inside a set, and where it ends; Broken if the pattern ends first."""
    if core.startswith(b"[:", at):
        end = core.find(b"]", at + 2)
        if end < 0:
            raise Broken("a [ is never closed")
        if end > at + 2 and core[end - 1 : end] == b":":
            return class_members(core[at + 2 : end - 1]), end + 1
    low, at = read_character(core, at)
    if core[at : at + 1] != b"-" or core[at + 1 : at + 2] in (b"", b"]"):
        return {low}, at
    high, at = read_character(core, at + 1)
    return {low, *range(low, high + 1)}, at  # git has seen the first end as a character: `[z-a]` is `[z]`


def read_character(core: bytes, at: int) -> tuple[int, int]:
    """One character inside a set, maybe after a backslash."""
    at += core[at : at + 1] == b"\\"
    if at >= len(core):
        raise Broken("a [ is never closed")
    return core[at], at + 1


def class_members(name: bytes) -> set[int]:
    """The bytes of `[:name:]`; Broken where there is no such class."""
    if name not in CLASSES:
        raise Broken(f"there is no class [:{text_of(name)}:]")
    return {code for code in range(1, 256) if re.match(CLASSES[name], bytes([code]))}

"""The way from a pushed commit to the files as they are: a patch for who has only the public repository.

`git checkout <commit> && git apply pushed.patch` makes the code of the backup. Only git's own plumbing takes part:
no filter, no textconv, no external diff.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from tensortime import policy
from tensortime.formats import text_of
from tensortime.repository import GitCalls, GitFolders, Settled, one_line

LONGEST_PATCH = 8 << 20
"""Bytes. A longer one is data under version control; the backup itself has it."""

RULES_FILE = b".ttignore"

UNPUSHED = ("rev-list", "--boundary", "HEAD", "--not", "--remotes")

DIFF = (
    *("diff", "--raw", "--patch", "--binary", "--full-index", "--no-renames", "--no-color", "--no-relative"),
    *("--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "--submodule=short", "-O/dev/null"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--inter-hunk-context=0"),
)
"""Every option that the user's configuration could change is given."""

SETTINGS = {
    "core.useReplaceRefs": "false",
    "diff.suppressBlankEmpty": "false",
    "diff.ignoreSubmodules": "dirty",
}

SECTION = re.compile(rb"^diff --git ", re.MULTILINE)
RECORD = re.compile(rb":(\d+) (\d+) [0-9a-f]+\.* [0-9a-f]+\.* ([A-Z])\d*\t(.+)")
ESCAPE = re.compile(rb'\\([abfnrtv"\\]|[0-7]{3})')
ESCAPED = dict(zip(b'abfnrtv"\\', b'\a\b\f\n\r\t\v"\\', strict=True))


class Section(NamedTuple):
    """What a patch does to one file."""

    path: bytes
    """From the top of the work tree."""
    is_gone: bool
    """The file is no longer there: all that the section shows was pushed."""
    data: bytes


class Pushed(NamedTuple):
    """The nearest commit that a remote has, and how the files differ from it."""

    commit: str | None
    """None where no remote has anything of HEAD's history."""
    sections: Sequence[Section] = ()
    filters: Sequence[str] = ()
    """Files under these were not looked at: what a filter makes (git-lfs: a pointer) nobody made."""
    error: str = ""


def find_pushed(where: GitFolders, head: str, dirty: bool, settled: Settled, calls: GitCalls) -> Pushed:
    """Ask git how the work tree differs from the nearest pushed commit. A clean, pushed HEAD costs no process."""
    commit: str | None = head
    try:
        if not settled.is_pushed:
            commit = nearest(calls.ask(where.top, UNPUSHED, settings=SETTINGS), head)
        if commit is None or (commit == head and not dirty):
            return Pushed(commit)
        names = filter_names(settled.filters)
        answer = calls.ask(
            where.top,
            (*DIFF, commit, "--", ":(top)", *(f":(exclude,top,attr:filter={name})" for name in names)),
            settings={**SETTINGS, **settled.filters},
            limit=LONGEST_PATCH,
        )
        return Pushed(commit, parse_patch(answer), names)
    except Exception as problem:  # noqa: BLE001 - a patch is never worth a backup
        return Pushed(commit, error=one_line(problem))


def nearest(answer: bytes, head: str) -> str | None:
    """The newest pushed commit that `git rev-list --boundary` shows: HEAD itself if all of it is pushed."""
    lines = answer.decode("ascii", "replace").split()
    return next((line[1:] for line in lines if line.startswith("-")), None if lines else head)


def filter_names(settings: Iterable[str]) -> list[str]:
    """The filters that are configured, of the settings that switch them off, as far as a pathspec can name them."""
    names = {key.removeprefix("filter.").rpartition(".")[0] for key in settings}
    return sorted(name for name in names if re.fullmatch(r"[\w-]+", name, re.ASCII))


def parse_patch(answer: bytes) -> tuple[Section, ...]:
    """The sections of `git diff --raw --patch`; ValueError where they cannot be told apart."""
    starts = [match.start() for match in SECTION.finditer(answer)]
    head = answer[: starts[0] if starts else len(answer)]
    if b"\n* Unmerged path " in answer or head.startswith(b"* Unmerged path "):
        raise ValueError("a merge has conflicts that no patch can tell")
    bodies = [answer[start:end] for start, end in pairwise([*starts, len(answer)])]
    sections, used = [], 0
    for line in filter(None, head.split(b"\n")):
        record = RECORD.fullmatch(line)
        if record is None:
            raise ValueError("git diff gave no answer")
        # Where a file became a link, one section removes it and the next makes the other.
        count = 2 if record[3] == b"T" else 1
        data = b"".join(bodies[used : used + count])
        sections.append(Section(unquoted(record[4]), record[2] == b"000000", data))
        used += count
    if used != len(bodies):
        raise ValueError("the parts of the patch cannot be told apart")
    return tuple(sections)


def unquoted(path: bytes) -> bytes:
    """A path as git writes it, in quotes where it holds odd characters."""
    if not path.startswith(b'"'):
        return path
    return ESCAPE.sub(
        lambda found: bytes([ESCAPED[found[1][0]] if len(found[1]) == 1 else int(found[1], 8)]), path[1:-1]
    )


def is_secret(path: bytes) -> bool:
    """Whether a path looks like one that no backup takes for fear of a secret."""
    rules = (policy.builtin_rule(part, False) for part in path.split(b"/"))
    return any(rule is not None and rule.startswith(policy.SECRET_RULE) for rule in rules)


def choose(pushed: Pushed, may_tell: Callable[[bytes, bool], bool]) -> tuple[bytes, dict[str, object] | None]:
    """The patch, and what run.json says of it; `may_tell`: whether it may of a path from the top, gone or not.

    What rules that are gone left out nobody knows, so of what went together with its `.ttignore` nothing is told.
    """
    unruled = tuple(
        one.path.removesuffix(RULES_FILE)
        for one in pushed.sections
        if one.is_gone and one.path.rpartition(b"/")[2] == RULES_FILE
    )
    told = [
        one
        for one in pushed.sections
        if not is_secret(one.path)
        and may_tell(one.path, one.is_gone)
        and not (one.is_gone and one.path.startswith(unruled) and not one.path.endswith(RULES_FILE))
    ]
    patch = b"".join(one.data for one in told)
    if pushed.commit is None and not pushed.error:
        return b"", None
    facts: dict[str, object] = {"commit": pushed.commit}
    if pushed.error:
        return b"", {**facts, "error": pushed.error}
    facts["patch"] = len(patch)
    without = [text_of(one.path) for one in pushed.sections if one not in told]
    facts |= {key: names for key, names in (("without", without), ("filters", list(pushed.filters))) if names}
    return patch, facts

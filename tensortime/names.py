"""Experiment names: what is allowed, and how any text becomes one."""

import re
import unicodedata
from datetime import datetime

from tensortime.errors import BadName, Message, message

LONGEST_NAME = 200
"""Bytes of UTF-8: a name is a file name in the store and a folder name after restore, with room for suffixes."""

LONGEST_NOTE_PART = 80
"""Bytes of a note that go into the default name."""

FORBIDDEN = set('<>:"|?*\\~^[/')
PLAIN = re.compile(r"[\w.,;=+@%-]+", re.ASCII)
"""What most names are made of: none of it is forbidden. Ten thousand names are not looked at a character at a time."""

BAD_ENDINGS = (".lock", ".partial", ".files", ".")
BAD_STARTS = (".", "-", "@")
RESERVED = {"readme", "con", "prn", "aux", "nul"} | {
    f"{port}{n}" for port in ("com", "lpt") for n in range(10)
}


class ExperimentName(str):
    """A valid experiment name: it is a git ref component, a folder name, and typed without quotes."""

    __slots__ = ()

    def __new__(cls, text: str) -> "ExperimentName":
        """Check `text`; BadName says what is wrong with it."""
        problem = problem_of(text)
        if problem:
            if not text:
                raise BadName("an experiment's name cannot be empty")
            suggestion = suggest_name(text)
            raise BadName(
                "not a possible experiment name: {name} ({problem})",
                name=text[:80],
                problem=problem,
                hint=message("try {name}", name=suggestion) if suggestion else "",
            )
        return super().__new__(cls, text)


def is_forbidden(char: str) -> bool:
    """Whether this character may not stand in a name: space, control, format, surrogate or special to shells."""
    return char in FORBIDDEN or unicodedata.category(char)[0] in "ZC"


def problem_of(text: str) -> Message | None:
    """Why `text` is no experiment name; None where it is one."""
    if not text:
        return message("it is empty")
    bad = None if PLAIN.fullmatch(text) else next((char for char in text if is_forbidden(char)), None)
    if bad is not None:
        if bad == " ":
            return message("it holds a space")
        if bad.isprintable():
            return message("it holds {char}", char=bad)
        return message("it holds the character U+{code:04X}", code=ord(bad))
    if len(text.encode()) > LONGEST_NAME:
        return message("it is longer than {limit} bytes", limit=LONGEST_NAME)
    if text != unicodedata.normalize("NFC", text):
        return message("it is not in Unicode form NFC")
    if text.startswith(BAD_STARTS):
        return message("it starts with {char}", char=text[0])
    if text.lower().endswith(BAD_ENDINGS) or ".." in text or "@{" in text:
        return message("it ends like a temporary file, or holds .. or @{{")
    if text.isdigit():
        return message("it is only digits")
    if text.lower().split(".")[0] in RESERVED:
        return message("it is a reserved word")
    return None


def suggest_name(text: str) -> str:
    """The nearest possible name, or an empty string where nothing of `text` is left."""
    if not problem_of(text):
        return text
    text = unicodedata.normalize("NFC", text.strip())
    text = "".join("-" if is_forbidden(char) else char for char in text)
    text = re.sub(r"-{2,}", "-", text.replace("..", "-").replace("@{", "-"))
    text = cut(text.lstrip("".join(BAD_STARTS)), LONGEST_NAME).rstrip(".-")
    while text.lower().endswith(BAD_ENDINGS):
        text = text.rpartition(".")[0].rstrip(".-")
    if not text.strip("-"):
        return ""
    if text.isdigit() or text.lower().split(".")[0] in RESERVED:
        text = f"exp-{text}"
    return "" if problem_of(text) else text


def cut(text: str, size: int) -> str:
    """The longest start of `text` with at most `size` bytes of UTF-8."""
    return text.encode()[:size].decode("utf-8", "ignore")


def words_of(note: str) -> str:
    """The first line of a note without what a shell would obey: the name made of it is typed without quotes."""
    first_line = note.strip().splitlines()[0] if note.strip() else ""
    plain = re.sub(r"[()\[\]{}&;$'`!#]+", "-", first_line.encode("utf-8", "replace").decode())
    return re.sub(r"-{2,}", "-", plain).strip("- ")


def default_name(moment: datetime, note: str) -> ExperimentName:
    """`2026-11-23_09-36-04-<note>`: sorts by time, says what it was."""
    stamp = moment.strftime("%Y-%m-%d_%H-%M-%S")
    slug = cut(suggest_name(words_of(note)), LONGEST_NOTE_PART).rstrip(".-")
    return ExperimentName(suggest_name(f"{stamp}-{slug}") if slug else stamp)


def free_name(wanted: ExperimentName, taken: set[str]) -> ExperimentName:
    """`wanted`, or the first of `wanted-2`, `wanted-3`, … that nobody has."""
    name, number = wanted, 1
    while name.lower() in taken:
        number += 1
        ending = f"-{number}"
        name = ExperimentName(cut(wanted, LONGEST_NAME - len(ending)) + ending)
    return name


def note_beside(name: str, note: str) -> str:
    """The note, unless all of it stands in the name already."""
    slug = re.escape(suggest_name(note)) if note else ""
    return "" if slug and re.search(rf"(^|-){slug}(-\d+)?$", name) else note

"""What people read, in English and Chinese: which language, and a template put into it.

A text for a person is an English template with named placeholders. The template itself is the key of the Chinese
catalogue (`chinese.py`), so code reads as what it says, and English costs no look-up and no import.
`tests/test_messages.py` holds both languages to the same templates and placeholders.
"""

import functools
import re
from collections.abc import Mapping

from tensortime.errors import Message

ENGLISH_CODE, CHINESE_CODE = "en", "zh"

LOCALE_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
"""In the order in which the C library asks them."""

NO_LANGUAGE = {"", "c", "posix"}
"""Locales that say nothing about a person: clusters set C.UTF-8."""

RECORDED = (
    "built-in: {name}",
    "built-in (secret): {name}",
    "default",
    "its commit {oid} is missing or damaged",
    "its commit {oid} is no backup: {problem}",
    "its middle is left out: {count} bytes",
    "its path is longer than {limit} bytes",
    "left out so that the command could start at once",
    "no python on PATH",
    "no room: it needs {size} bytes, {free} are left beside what is kept free",
    "no room: {problem}",
    "not known in time",
)
PARSER = (
    "(Possible options: {names})",
    "Did you mean {name}?",
    "Got unexpected extra argument ({names})",
    "Got unexpected extra argument(s) ({names})",
    "Got unexpected extra arguments ({names})",
    "Input should be a valid integer, unable to parse string as an integer",
    "Input should be greater than or equal to {limit}",
    "Invalid value for {name}: {problem}",
    "Invalid value: {problem}",
    "Missing argument {name}.",
    "Missing option {name}.",
    "Missing parameter: {name}",
    "No such command {name}.",
    "No such command {name}. Did you mean {other}?",
    "No such option {name}.",
    "No such option: {name}",
    "Option {name} does not take a value.",
    "Option {name} requires an argument.",
    "Option {name} requires {count} arguments.",
    "{value} is not a valid int range.",
    "{value} is not a valid integer range.",
    "{value} is not a valid integer.",
    "{value} is not in the range {range}.",
)
FOUND = (
    "a delta does not fit its base",
    "a delta was cut short",
    "a later version wrote it",
    "it cannot be unpacked",
    "it does not begin as an object of a pack",
    "it does not begin as the pack of its idx",
    "it has no manifest",
    "it has not the size that it states",
    "it has the wrong size",
    "it holds bytes that its idx does not know",
    "it holds other bytes than its digest says",
    "it holds other bytes than its id says",
    "it is missing",
    "it is no commit that can be read",
    "it is no manifest",
    "it is no regular file",
    "it is no tree",
    "it is of an unknown kind",
    "it is wrong in one pack, and right in another",
    "it names no backup",
    "it names nothing",
    "it was cut short, or does not end as the pack of its idx",
    "it was cut short, or its bytes have changed",
    "its bytes in the pack have changed",
    "its deltas lead in a circle",
    "its idx was made anew",
    "moved to .objects/damaged",
    "some of its objects are wrong",
    "the base of its delta is not in the pack",
    "the refs cannot be listed",
    "tensortime gc frees what was purged",
    "what is staged in this restored folder cannot be read",
)
"""Why something in a store is wrong, and what was done about it, as a report of verify holds it."""

READY_MADE = RECORDED + PARSER + FOUND
"""Texts that come filled in English: those that a backup recorded, those that typer's parser says, and those of verify."""


class Translator:
    """Puts templates into one language. `Translator("zh")("restored {name}", name="base")`."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._catalog: Mapping[str, str] = {}
        if language == CHINESE_CODE:
            from tensortime.chinese import CHINESE

            self._catalog = CHINESE

    def __call__(self, template: str, /, **values: object) -> str:
        """The template in this language, filled; a Message among the values is put into it too."""
        filled = {key: self.text(one) if isinstance(one, Message) else one for key, one in values.items()}
        return self._catalog.get(template, template).format(**filled)

    def text(self, text: Message | str) -> str:
        """A message of the library in this language; what is text already stays as it is."""
        return self(text.template, **text.values) if isinstance(text, Message) else text

    def known(self, text: str) -> str:
        """A text that comes ready-made in English, in this language where the catalogue has it."""
        if not self._catalog or text in self._catalog:
            return self._catalog.get(text, text)
        for template in READY_MADE:
            found = ready_made(template).fullmatch(text)
            if found:
                return self(template, **{key: self.known(part) for key, part in found.groupdict().items()})
        return text


@functools.cache
def ready_made(template: str) -> re.Pattern[str]:
    """What matches a filled template, with a group for each placeholder."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(template)), re.DOTALL)


ENGLISH = Translator(ENGLISH_CODE)


def choose_language(environ: Mapping[str, str], configured: str | None = None) -> str:
    """`en` or `zh`: TENSORTIME_LANG, else the configuration's `lang`, else the locale.

    Of the locale, LANGUAGE (a list) comes first, as with gettext, unless the locale is C. Whatever is neither
    English nor Chinese is English.
    """
    for wanted in (environ.get("TENSORTIME_LANG"), configured):
        if wanted:
            return language_of(wanted)
    locale = next((environ[name] for name in LOCALE_VARIABLES if environ.get(name)), "")
    if plain(locale) in NO_LANGUAGE:
        return ENGLISH_CODE
    listed = [part for part in environ.get("LANGUAGE", "").split(":") if plain(part) not in NO_LANGUAGE]
    return language_of(listed[0] if listed else locale)


def language_of(name: str) -> str:
    """The language of a locale's name or of what a person types: `zh_CN.UTF-8`, `zh-TW`, `Chinese`, `中文`."""
    return CHINESE_CODE if re.match(r"zh|chinese|中|简|繁|汉|漢", plain(name)) else ENGLISH_CODE


def plain(locale: str) -> str:
    """A locale's name without its encoding, in lower case: `c` for `C.UTF-8`."""
    return locale.strip().partition(".")[0].lower()

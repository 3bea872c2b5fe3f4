"""What people read, in English and Chinese: which language, and a template put into it.

A text for a person is an English template with named placeholders. The template itself is the key of the Chinese
catalogue (`chinese.py`), so code reads as what it says, and English costs no look-up and no import.
`tests/test_messages.py` holds both languages to the same templates and placeholders.
"""

import re
from collections.abc import Mapping

from tensortime.errors import Message

ENGLISH_CODE, CHINESE_CODE = "en", "zh"

LOCALE_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
"""In the order in which the C library asks them."""

NO_LANGUAGE = {"", "c", "posix"}
"""Locales that say nothing about a person: clusters set C.UTF-8."""


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
        filled = {key: self.message(one) if isinstance(one, Message) else one for key, one in values.items()}
        return self._catalog.get(template, template).format(**filled)

    def message(self, message: Message) -> str:
        """A message of the library in this language."""
        return self(message.template, **message.values)

    def known(self, text: str) -> str:
        """A text that was recorded in English, in this language if it is one of the catalogue's, else as it is."""
        return self._catalog.get(text, text)


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
    return CHINESE_CODE if re.match(r"zh|chinese|中|简|繁|汉", plain(name)) else ENGLISH_CODE


def plain(locale: str) -> str:
    """A locale's name without its encoding, in lower case: `c` for `C.UTF-8`."""
    return locale.strip().partition(".")[0].lower()

"""Secrets in commands and addresses: what is hidden before anything is recorded.

By its name, or by a shape that only keys have. That is documented: a key inside a notebook or a data file is not
found, files are stored as they are.
"""

import re
from collections.abc import Mapping, Sequence

HIDDEN = "***"

SECRET_WORDS = {"apikey", "credential", "credentials", "passphrase", "passwd", "password", "secret", "token"}
SECRET_KEYS = {"access", "account", "api", "auth", "private", "secret"}
"""`key` is a secret only behind one of these: api-key, secret_access_key."""

PLAIN_TOKENS = {
    *(
        "audio",
        "begin",
        "bos",
        "cls",
        "decoder",
        "end",
        "eos",
        "first",
        "image",
        "last",
        "mask",
        "max",
        "min",
    ),
    *(
        "new",
        "next",
        "num",
        "pad",
        "per",
        "sep",
        "separator",
        "special",
        "start",
        "stop",
        "text",
        "unk",
        "video",
    ),
}
"""`token` is a parameter of a model behind one of these: pad-token, eos_token."""

NAMED_VALUE = re.compile(r"([+~-]*[\w.@/+-]+)=(.+)", re.DOTALL)
INNER_VALUE = re.compile(
    r"""([\w.-]+)(["']?\]?\s*[=:]\s*)("[^"]*"|'[^']*'|[\w+/=-]{8,}(?=[\s;&|"',}]|$))""", re.ASCII
)
TOKEN = re.compile(
    r"""(?<![\w-])(?:
        hf_[A-Za-z0-9]{30,}                                             # Hugging Face
        | sk-(?:[0-9a-f]{32,}|(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]*[A-Za-z0-9]{20,}[\w-]*)  # OpenAI and its like
        | gh[opsur]_[A-Za-z0-9]{30,} | github_pat_\w{30,}               # GitHub
        | glpat-[\w-]{20,}                                              # GitLab
        | (?:AKIA|ASIA)[0-9A-Z]{16}                                     # AWS
        | AIza[\w-]{35}                                                 # Google
        | xox[abeoprs]-[\w-]{10,}                                       # Slack
        | eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*                               # JSON web tokens
    )(?![\w])""",
    re.VERBOSE | re.ASCII,
)
"""What is a key by its shape, whatever it is called."""

BEARER = re.compile(r"\b(bearer)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
URL_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\s]*)@")


def redact_arguments(argv: Sequence[str]) -> list[str]:
    """The arguments with `***` for what is a secret by its name.

    Hidden are: the argument after `--api-key`, `--password`, `--hf-token` and their like, unless it is an option
    itself; the value of such a `name=value`, also inside a longer argument; what follows `Bearer`; user and
    password in a URL. A name is secret if it ends in one of SECRET_WORDS or in `key` behind one of SECRET_KEYS;
    `--pad-token` and the other PLAIN_TOKENS are parameters and stay.
    """
    safe, hide = [], False
    for argument in argv:
        safe.append(HIDDEN if hide and not argument.startswith("-") else redact_text(argument))
        hide = argument.startswith("-") and "=" not in argument and names_secret(argument)
    return safe


def redact_text(text: str) -> str:
    """One argument, URL or message without the secrets that show as such."""
    named = NAMED_VALUE.fullmatch(text)
    if named is not None and names_secret(named[1]):
        return f"{named[1]}={HIDDEN}"
    text = INNER_VALUE.sub(redact_inner, text)
    return redact_shapes(text)


def redact_shapes(text: str) -> str:
    """A text without what is a secret by its shape: keys, what follows `Bearer`, user and password in a URL."""
    return TOKEN.sub(HIDDEN, BEARER.sub(rf"\1 {HIDDEN}", redact_url(text)))


def redact_code(line: str) -> str:
    """A line of code, as typed into a notebook, without the secrets that show as such; calls stay readable."""
    if line.lstrip().startswith(("!", "%")):
        return " ".join(redact_arguments(line.split(" ")))
    return redact_shapes(INNER_VALUE.sub(redact_inner, line))


def redact_value(value: object) -> object:
    """A value as JSON holds it, without secrets: in mappings by their keys, in lists as arguments, in texts by shape."""
    if isinstance(value, Mapping):
        return {key: redact_named(str(key), item) for key, item in value.items()}
    if isinstance(value, list):
        words = [item for item in value if isinstance(item, str)]
        return redact_arguments(words) if len(words) == len(value) else [redact_value(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def redact_named(name: str, value: object) -> object:
    """A value under a name; what can be no secret (`None`, a switch, a fraction, an empty text) stays under any."""
    if value is None or isinstance(value, bool | float) or value in ("", [], {}):
        return value
    return HIDDEN if names_secret(name) else redact_value(value)


def redact_inner(found: re.Match[str]) -> str:
    """`name = value` somewhere in a text, with its quotes."""
    if not names_secret(found[1]):
        return found[0]
    quote = found[3][0] if found[3][0] in "\"'" else ""
    return f"{found[1]}{found[2]}{quote}{HIDDEN}{quote}"


def names_secret(name: str) -> bool:
    """Whether a value of this name is a secret: `--hf-token`, `apiKey`, `WANDB_API_KEY`, not `--max-tokens`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    parts = [part for part in re.split(r"[^a-z0-9]+", words) if part]
    last, before = parts[-1:], parts[-2:-1]
    if last == ["key"]:
        return bool(SECRET_KEYS.intersection(before))
    if last == ["token"]:
        return not PLAIN_TOKENS.intersection(before)
    return bool(SECRET_WORDS.intersection(last))


def redact_url(text: str) -> str:
    """A URL without user and password. The user of an ssh URL stays: it is no secret and part of the address."""

    def without_user(found: re.Match[str]) -> str:
        scheme, user = found[1], found[2].partition(":")[0]
        return f"{scheme}://{user}@" if user and scheme.lower().endswith("ssh") else f"{scheme}://"

    return URL_USER.sub(without_user, text)

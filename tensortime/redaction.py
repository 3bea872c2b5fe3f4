"""Secrets in commands and addresses: what is hidden before anything is recorded.

By its name, or by a shape that only keys have. That is documented: a key inside a notebook or a data file is not
found, files are stored as they are.

What is searched may be any text of any length, beside a training that waits: every expression here begins at a
boundary and never reads a run of characters twice.
"""

import re
from collections.abc import Mapping, Sequence

from tensortime.credentials import is_plain, names_in_query, names_secret

HIDDEN = "***"

LONGEST = 1 << 18
"""Characters of one text that are searched and recorded. A longer one is data, and is cut."""

NAMED = re.compile(r"[\w.@/+~-]+", re.ASCII)
INNER_NAME = re.compile(
    r"""(?<![\w.-])(?:
        (?P<option>--?[A-Za-z][\w-]*+)[ \t]+(?=[^\s-])
        | (?P<name>[\w.-]++)(?P<sign>\\*["']?\]?\s*(?::=|==?|:)\s*)
    )""",
    re.VERBOSE | re.ASCII,
)
"""What may name a value inside a text: `name = `, `"name": `, `--name `."""

VALUE = re.compile(
    r"""(?P<open>\(?\s*[rbfu]{0,2}(?P<quote>\"{3}|'{3}|\\+["']))(?P<scheme>(?:basic|bearer|digest|token)\s+)?
            (?P<text>.*?)(?:(?P=quote)|\Z)
        | (?P<open1>\(?\s*[rbfu]{0,2}(?P<quote1>["']))(?P<scheme1>(?:basic|bearer|digest|token)\s+)?
            (?P<text1>(?:\\.|(?!(?P=quote1))[^\\])*+)(?:(?P=quote1)|\Z)
        | (?P<text2>\[[^\[\]]*+\]|\{[^{}]*+\}?)
        | (?P<scheme3>(?:basic|bearer|digest|token)[ \t]+)?(?P<text3>[^\s;&|"',}]++)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE | re.ASCII,
)
"""A value behind its name: between quotes, between brackets, or up to what ends a word, whatever it is made of."""

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

SIGNS = (
    *(b"hf_", b"sk-", b"gho_", b"ghp_", b"ghs_", b"ghu_", b"ghr_", b"github_pat_", b"glpat-"),
    *(b"AKIA", b"ASIA", b"AIza", b"xox", b"eyJ", b"://"),
)
"""One of these is in whatever TOKEN or URL_USER finds: looking for them is many times as fast."""

SHORTEST = 8
"""Characters of a secret that is looked for in what a program prints."""

BEARER = re.compile(r"\b(bearer)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
URL_USER = re.compile(r"""(ssh)?://([^/?#\s"]*)@""", re.IGNORECASE)
LOGIN = re.compile(r"(?<![\w-])(login\s+)[^\s-]\S{15,}")
ENV_MAGIC = re.compile(r"(%(?:set_)?env\s+)(\w+)(\s+)[^\s=].*")

PYTHON_MAGICS = frozenset({"capture", "prun", "time", "timeit", "memit", "mprun", "heat", "python_load"})
"""Cell magics whose cell is Python; what is under another one is searched as a text."""

PIECE = r"""(?xsmi)(?P<command>^[ \t]*(?:[^\n=!%"'\#]*=[ \t]*)?[!%](?:[^\n\\]|\\.)*+)
        | (?P<comment>\#[^\n]*+)
        | (?P<literal>(?:(?<!\w)[rbfu]{1,2})?(?:
            \"{3}(?:\\.|(?!\"{3})[^\\])*+(?:\"{3}|\Z) | '{3}(?:\\.|(?!'{3})[^\\])*+(?:'{3}|\Z)
            | "(?:\\.|[^"\\\n])*+"? | '(?:\\.|[^'\\\n])*+'?))
    """
"""What a cell is made of, beside code: lines for the shell or IPython, comments, texts. Compiled when there is one."""
ASSIGNED_NAME = re.compile(r"(?<![\w.])([\w.]++)\s*(?::\s*[^=:;\n]{1,80})?[:=|]?=\Z")
OR_ELSE = re.compile(r"(?<![\w.])([\w.]++)\s*=(?!=)[^\n]*\bor\s*\Z")
LOGIN_CALL = re.compile(r"(?<!\w)login\((?:[^()]*,)?\s*(?:key\s*=\s*)?\Z")
CONTEXT = 200
"""Characters of code in front of a text that may name it."""


def redact_arguments(argv: Sequence[str]) -> list[str]:
    """The arguments with `***` for what is a secret by its name.

    Hidden are: the argument after `--api-key`, `--password`, `--hf-token` and their like, unless it is an option
    itself; the value of such a `name=value`, also inside a longer argument; what follows `Bearer`; user and
    password in a URL. A name is secret if it ends in one of SECRET_WORDS, in `token`, or in `key` behind one of
    SECRET_KEYS; `--pad-token` and the other PLAIN_TOKENS are parameters and stay, and so do small numbers.
    """
    safe, name, is_login = [], "", False
    for argument in argv:
        if argument.startswith("-"):
            name = "" if "=" in argument or not names_secret(argument) else argument
            safe.append(redact_text(argument))
        elif (name and not is_plain(name, argument)) or (is_login and LOGIN.fullmatch(f"login {argument}")):
            safe.append(HIDDEN)
            name = name if name.lower().endswith("s") else ""
        else:
            safe.append(redact_text(argument))
            name = ""
        is_login = argument == "login"
    return safe


def redact_text(text: str) -> str:
    """One argument, URL or message without the secrets that show as such."""
    name, equals, value = text.partition("=")
    if equals and NAMED.fullmatch(name) and names_secret(name):
        return text if is_plain(name, value) else f"{name}={HIDDEN}"
    return redact_shapes(redact_named_values(shortened(text)))


def redact_shapes(text: str) -> str:
    """A text without what is a secret by its shape: keys, what follows `Bearer`, user and password in a URL."""
    return TOKEN.sub(HIDDEN, BEARER.sub(rf"\1 {HIDDEN}", redact_url(text)))


def hidden_values(argv: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """What `redact_arguments` hides of these, and the values of variables that are secrets by their name; none shorter
    than SHORTEST, which could be any word. The longest come first."""
    found = {value for name, value in environ.items() if names_secret(name) and not is_plain(name, value)}
    for word, safe in zip(argv, redact_arguments(argv), strict=True):
        before, hidden, after = safe.partition(HIDDEN)
        if hidden and HIDDEN not in after and word.startswith(before) and word.endswith(after):
            found.add(word[len(before) : len(word) - len(after)])
    return sorted(
        (value for value in found if len(value) >= SHORTEST), key=lambda value: (-len(value), value)
    )


def redact_output(data: bytes, values: Sequence[bytes] = ()) -> bytes:
    """What a program printed, in whole lines, without these values and what is a secret by its shape; all else stays."""
    for value in values:
        data = data.replace(value, HIDDEN.encode())
    if not any(sign in data for sign in SIGNS) and b"bearer" not in data.lower():
        return data
    return redact_shapes(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def redact_named_values(text: str) -> str:
    """A text without the values of secret names inside it, with their quotes."""
    parts, done, at = [], 0, 0
    while found := INNER_NAME.search(text, at):
        at = found.end()
        name = found["option"] or found["name"]
        in_query = found.start() > 0 and text[found.start() - 1] in "?&"
        value = VALUE.match(text, at) if names_secret(name) or (in_query and names_in_query(name)) else None
        if value is None or is_plain(name, inside(value)) or is_prose(name, found["sign"], value):
            continue
        parts += [text[done:at], masked(value)]
        done = at = value.end()
    return "".join([*parts, text[done:]])


def redact_command(text: str) -> str:
    """Lines as typed for a shell, or a magic of IPython."""
    safe = ENV_MAGIC.sub(
        lambda found: f"{found[1]}{found[2]}{found[3]}{HIDDEN}" if names_secret(found[2]) else found[0], text
    )
    return redact_shapes(LOGIN.sub(rf"\1{HIDDEN}", redact_named_values(safe)))


def redact_code(cell: str) -> str:
    """Code, as typed into a notebook, without the secrets that show as such; calls stay readable."""
    cell = shortened(cell)
    magic = re.match(r"\s*%%(\w+)", cell)
    if magic is not None and magic[1] not in PYTHON_MAGICS:
        return redact_command(cell)
    parts, at, gap, previous, was_hidden, context = [], 0, "", "", False, ""
    for found in re.finditer(PIECE, cell):
        code = cell[at : found.start()]
        piece, at = found[0], found.end()
        gap += code
        context = (context + code)[-CONTEXT:]
        if found["literal"] is None:
            parts += [code, redact_command(piece)]
            continue
        value = VALUE.match(piece)
        text = inside(value) if value is not None else ""
        name = named_by(gap, context, previous, text) or (
            "+" if was_hidden and not gap.strip(" \t\n\\+") else ""
        )
        was_hidden = bool(name) and value is not None and not is_plain(name, text)
        if was_hidden and value is not None:
            piece = masked(value)
        elif previous in ("env", "set_env"):
            piece = piece[0] + redact_command(f"%env {piece[1:-1]}").removeprefix("%env ") + piece[-1]
        else:
            piece = redact_named_values(piece)
        parts += [code, piece]
        previous, gap, context = text, "", context + '""'
    return redact_shapes("".join([*parts, cell[at:]]))


def named_by(gap: str, context: str, previous: str, text: str) -> str:
    """The secret name that a text in code has, empty if none.

    It is assigned to it, the text before is it (`environ["HF_TOKEN"] = `, `putenv("HF_TOKEN", `), or it is a login.
    """
    if (
        names_secret(previous)
        and gap.strip(" \t\n\\()[]{},:=|") in ("", "or", "value")
        and not text.startswith("-")
    ):
        return previous
    if gap.rstrip(" \t\n\\([{").endswith("="):
        assigned = ASSIGNED_NAME.search(context.rstrip(" \t\n\\([{"))
        if assigned is not None and names_secret(assigned[1]):
            return assigned[1]
    if gap.rstrip().endswith(" or"):
        assigned = OR_ELSE.search(context)
        if assigned is not None and names_secret(assigned[1]):
            return assigned[1]
    return "login" if LOGIN_CALL.search(context) else ""


def redact_value(value: object) -> object:
    """A value as JSON holds it, without secrets: in mappings by their keys, in lists as arguments, in texts by shape."""
    if isinstance(value, Mapping):
        return {key: redact_named(str(key), item) for key, item in value.items()}
    if isinstance(value, list):
        words = [item for item in value if isinstance(item, str)]
        return redact_arguments(words) if len(words) == len(value) else [redact_value(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def redact_named(name: str, value: object) -> object:
    """A value under a name; what can be no secret (`None`, a switch, a small number, an empty text) stays under any."""
    if value is None or isinstance(value, bool | float) or value in ("", [], {}) or not names_secret(name):
        return redact_value(value)
    return value if isinstance(value, int | str) and is_plain(name, str(value)) else HIDDEN


def is_prose(name: str, sign: str | None, value: re.Match[str]) -> bool:
    """Whether a name and its value are rather words of a sentence: `token: the smallest unit`."""
    is_sentence = sign is not None and sign.rstrip(" ") == ":" and sign != ":" and name.isalpha()
    return is_sentence and bool(value["text3"]) and value["text3"].isalpha() and len(value["text3"]) < 8


def inside(value: re.Match[str]) -> str:
    """What VALUE found, without its quotes."""
    return next((value[key] for key in ("text", "text1", "text2", "text3") if value[key] is not None), "")


def masked(value: re.Match[str]) -> str:
    """What stands in place of a value: its quotes, and how it authorizes, stay."""
    opened, quote = value["open"] or value["open1"] or "", value["quote"] or value["quote1"] or ""
    scheme = value["scheme"] or value["scheme1"] or value["scheme3"] or ""
    return f"{opened}{scheme}{HIDDEN}{quote}"


def shortened(text: str) -> str:
    """A text, without what is too long to be searched."""
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}... ({len(text) - LONGEST} characters more)"


def redact_url(text: str) -> str:
    """A URL without user and password. The user of an ssh URL stays: it is no secret and part of the address."""

    def without_user(found: re.Match[str]) -> str:
        scheme, user = found[1] or "", found[2].partition(":")[0]
        return f"{scheme}://{user}@" if user and scheme else f"{scheme}://"

    return URL_USER.sub(without_user, text)

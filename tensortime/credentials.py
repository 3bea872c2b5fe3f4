"""Which names say that their value is a secret, and which values are none under any name. Pure.

A list decides: what it lacks leaks, what it has too much destroys a parameter that a run needs.
"""

import re
from functools import lru_cache

LONGEST_NAME = 200
"""Characters at the end of a name that tell what it is."""

PASSWORDS = frozenset({"pass", "passcode", "passphrase", "passwd", "password", "pwd"})
"""These may be numbers too."""

SECRET_WORDS = PASSWORDS | {
    *("apikey", "auth", "authorization", "cookie", "credential", "credentials", "creds", "jwt", "secret"),
    *("accesskey", "authtoken", "accesstoken", "apitoken", "secretkey"),
}

VENDORS = frozenset(
    {
        *("anthropic", "aws", "azure", "clearml", "cohere", "comet", "dashscope", "datadog", "deepseek"),
        *("elevenlabs", "gemini", "gh", "github", "gitlab", "google", "groq", "hf", "huggingface", "kaggle"),
        *("labelbox", "langchain", "langsmith", "mistral", "mlflow", "moonshot", "neptune", "ngc", "openai"),
        *("openrouter", "pinecone", "qdrant", "roboflow", "serper", "slack", "swanlab", "tavily", "wandb"),
        *("weaviate", "xai", "zhipu"),
    }
)

SECRET_KEYS = VENDORS | {
    *("access", "account", "admin", "api", "app", "auth", "client", "deploy", "encryption", "license"),
    *("master", "private", "secret", "service", "signing", "ssh", "storage", "subscription"),
}
"""`key` is a secret only behind one of these, and so are several `tokens`: api-key, WANDB_KEY. Behind any other
word it is a column or a parameter of a model (label-key, sort_key, attn_key), and a run needs it."""

PLAIN_PASSES = frozenset(
    {
        "backward",
        "band",
        "first",
        "forward",
        "high",
        "low",
        "multi",
        "n",
        "num",
        "one",
        "second",
        "single",
        "two",
    }
)

PLAIN_TOKENS = frozenset(
    {
        *(
            "answer",
            "audio",
            "begin",
            "blank",
            "bod",
            "boi",
            "bop",
            "bos",
            "byte",
            "char",
            "class",
            "cls",
            "decoder",
        ),
        *(
            "delimiter",
            "dist",
            "distill",
            "doc",
            "dummy",
            "each",
            "encoder",
            "end",
            "eod",
            "eoi",
            "eom",
            "eop",
            "eos",
        ),
        *(
            "eot",
            "every",
            "expert",
            "extra",
            "fim",
            "first",
            "generated",
            "global",
            "image",
            "img",
            "initializer",
        ),
        *(
            "input",
            "label",
            "lang",
            "language",
            "last",
            "latent",
            "mask",
            "max",
            "mean",
            "memory",
            "min",
            "n",
            "new",
        ),
        *(
            "newline",
            "next",
            "null",
            "num",
            "output",
            "pad",
            "padding",
            "patch",
            "per",
            "placeholder",
            "prefix",
        ),
        *(
            "prev",
            "previous",
            "prompt",
            "query",
            "reg",
            "register",
            "reserved",
            "sentinel",
            "sep",
            "separator",
        ),
        *("sos", "source", "space", "special", "speech", "split", "src", "start", "stop", "style", "suffix"),
        *(
            "target",
            "task",
            "text",
            "tgt",
            "think",
            "time",
            "timestamp",
            "total",
            "trigger",
            "unk",
            "unknown",
        ),
        *("unused", "video", "vision", "visual", "word"),
    }
)
"""`token` is a parameter of a model behind one of these: pad-token, eos_token."""

QUERY_SECRETS = frozenset({"code", "key", "sig", "signature"})
"""Secrets as the last word of a name in the query of a URL alone: `?sig=…`, `&X-Amz-Signature=…`."""

SPLIT_NAME = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
WORD = re.compile(r"[a-z0-9]+")
PLAIN_VALUE = re.compile(r"\*\*\*|<[^<>\s]{0,40}>|\[[A-Z0-9_]{1,40}\]|none|null|true|false", re.IGNORECASE)
"""No secrets under any name: nothing, a switch, and the words of a vocabulary such as `<pad>`, `[MASK]`."""
PLAIN_NUMBER = re.compile(
    r"-?(?:\d{1,9}|\d{0,9}\.\d+(?:e[+-]?\d+)?|\d{1,9}e[+-]?\d+)", re.ASCII | re.IGNORECASE
)


@lru_cache(4096)
def names_secret(name: str) -> bool:
    """Whether a value of this name is a secret: `--hf-token`, `apiKey`, `WANDB_API_KEY`, not `--max-tokens`."""
    parts = words_of(name)
    last, before = (parts or [""])[-1], (parts[-2:-1] or [""])[0]
    if last in ("key", "keys", "tokens"):
        return before in SECRET_KEYS
    if last == "token":
        return before not in PLAIN_TOKENS
    if last == "pass":
        return before not in PLAIN_PASSES
    if last == "pat":
        return not before or before in SECRET_KEYS
    return last.removesuffix("s") in SECRET_WORDS or last in SECRET_WORDS or is_run_together(last)


def is_run_together(word: str) -> bool:
    """Whether a word is made of several, the last of which is a secret: `dbpassword`, `hftoken`, `openaikey`."""
    if word.endswith(("password", "passwd", "apikey", "clientsecret")):
        return True
    return word.endswith(("key", "token")) and word.removesuffix("key").removesuffix("token") in SECRET_KEYS


def names_in_query(name: str) -> bool:
    """Whether a name is one of a secret in the query of a URL."""
    return last_word(name) in QUERY_SECRETS


def last_word(name: str) -> str:
    """The last word of a name; a number behind it does not count."""
    return (words_of(name) or [""])[-1]


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, without a number at its end: `HFToken_2` is `hf`, `token`."""
    parts: list[str] = WORD.findall(SPLIT_NAME.sub("-", name[-LONGEST_NAME:]).lower())
    trimmed = [*parts[:-1], parts[-1].rstrip("0123456789")] if parts else []
    return trimmed if trimmed[-1:] != [""] else words_of("-".join(trimmed[:-1]))


def is_plain(name: str, value: str) -> bool:
    """Whether a value can be no secret, whatever its name; a small number can, but not of a password."""
    if not value or PLAIN_VALUE.fullmatch(value) or (name in ("PWD", "OLDPWD") and value.startswith("/")):
        return True
    return last_word(name) not in PASSWORDS and PLAIN_NUMBER.fullmatch(value) is not None

"""Where a file goes and what is left out without being asked: pure decisions on names and sizes.

`builtin_rule` runs for every entry of every backup, so it is made of set and prefix tests alone.
"""

from enum import Enum

from tensortime.formats import META, goes_into_git


class Route(Enum):
    """Which of the two stores takes a file."""

    SMALL = "small"
    """Into a pack, as a file of a git tree."""
    LARGE = "large"
    """Into the sidecar, named by the manifest."""


REPOSITORIES = frozenset({b".git", b".hg", b".svn"})
"""Folders, or the files that stand for them in submodules and linked worktrees."""

LEFTOVERS = frozenset(
    {
        b"__pycache__",
        b"node_modules",
        b".ipynb_checkpoints",
        b".pytest_cache",
        b".mypy_cache",
        b".ruff_cache",
        b".tox",
        b".nox",
    }
)
"""Folders that tools make again by themselves."""

SECRETS = frozenset({b".env", b".netrc", b"kaggle.json"})
SECRET_STARTS = (b".env.", b"id_rsa", b"id_ed25519")
SECRET_END = b".pem"
NO_SECRET = b".env.example"

VIRTUAL_ENVIRONMENT = "built-in: virtual environment"
"""A folder that holds one of VIRTUAL_ENVIRONMENT_MARKS."""
VIRTUAL_ENVIRONMENT_MARKS = frozenset({"pyvenv.cfg", "conda-meta"})

OTHER_STORE = "built-in: another TensorTime store"
OWN_STORE = "built-in: the store"
RESTORED = "built-in: a restored experiment"
RESERVED = "built-in: reserved"


def route(size: int, large_size: int, path: bytes) -> Route:
    """Where a file of `size` bytes goes; `large_size` (bytes) is the first size that is large.

    A path that git would refuse to check out goes through the manifest whatever its size: one such name
    in a tree, and git restores nothing of the whole experiment.
    """
    if size >= large_size:
        return Route.LARGE
    return Route.SMALL if goes_into_git(path) else Route.LARGE


SECRET_RULE = "built-in (secret)"
"""How a rule begins that leaves out a file for fear of a secret: such files are named at any depth."""


NAMED = REPOSITORIES | LEFTOVERS | SECRETS | {META}
"""The names that a built-in rule lists one by one."""

SPECIAL_FIRST = frozenset(name[0] for name in (*NAMED, *SECRET_STARTS))
"""The first bytes of the names that a built-in rule can speak about, but for those that end as SECRET_END."""


def unconditional_rule(path: bytes, name: bytes) -> str | None:
    """The rule that holds even for a path that was asked for: no restore could put these back."""
    if name == b".git":
        return "built-in: .git"
    return RESERVED if path == META else None


def builtin_rule(name: bytes, is_folder: bool) -> str | None:
    """The built-in rule that leaves out an entry called `name`, as a report shows it, or None."""
    if name in REPOSITORIES or (is_folder and name in LEFTOVERS):
        return f"built-in: {name.decode()}"
    if name in SECRETS or name.endswith(SECRET_END) or (name.startswith(SECRET_STARTS) and name != NO_SECRET):
        return f"{SECRET_RULE}: {name.decode('utf-8', 'surrogateescape')}"
    return None

"""policy.py: which store takes a file, and what is left out without being asked. CASES B11, B13, B27."""

import pytest

from tensortime.formats import git_refuses
from tensortime.policy import Route, builtin_rule, route

THRESHOLD = 1 << 20


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, Route.SMALL), (THRESHOLD - 1, Route.SMALL), (THRESHOLD, Route.LARGE), (THRESHOLD + 1, Route.LARGE)],
)
def test_a_file_is_large_from_the_threshold_on(size: int, expected: Route) -> None:
    """B27: the threshold itself is large."""
    assert route(size, THRESHOLD, b"data/part.bin") is expected


@pytest.mark.parametrize(
    "path",
    [
        b".GIT/config",
        b"sub/git~1",
        b"sub/.git /x",
        b".git.",
        b"a/.git::$INDEX_ALLOCATION",
        b".git\xe2\x80\x8c",
        b"\xef\xbb\xbf.git/x",
        b"a/.g\xe2\x80\x8cit",
        b"gi0123~4",
    ],
)
def test_what_git_would_not_check_out_is_never_handed_to_git(path: bytes) -> None:
    """B13: one such name in a tree, and git restores nothing of it."""
    assert any(map(git_refuses, path.split(b"/")))
    assert route(1, THRESHOLD, path) is Route.LARGE


@pytest.mark.parametrize(
    "path", [b".gitignore", b"a/.github/x.yml", b"model.gz", b"notes~", b"\xe2\x82\xac.txt"]
)
def test_names_that_only_look_special_are_ordinary(path: bytes) -> None:
    """The quick test before `git_refuses` decides nothing by itself."""
    assert route(1, THRESHOLD, path) is Route.SMALL


@pytest.mark.parametrize("name", [b".git", b".hg", b".svn"])
def test_repositories_are_left_out_as_folders_and_as_files(name: bytes) -> None:
    """B12: a submodule has a file where others have a folder."""
    assert builtin_rule(name, True) == builtin_rule(name, False) == f"built-in: {name.decode()}"


@pytest.mark.parametrize(
    "name",
    [
        b"__pycache__",
        b"node_modules",
        b".ipynb_checkpoints",
        b".pytest_cache",
        b".mypy_cache",
        b".ruff_cache",
        b".tox",
        b".nox",
    ],
)
def test_folders_that_tools_make_again_are_left_out(name: bytes) -> None:
    """A file of that name is somebody's file."""
    assert builtin_rule(name, True) == f"built-in: {name.decode()}"
    assert builtin_rule(name, False) is None


@pytest.mark.parametrize(
    "name",
    [
        b".env",
        b".env.local",
        b"id_rsa",
        b"id_rsa.pub",
        b"id_ed25519_work",
        b".netrc",
        b"kaggle.json",
        b"x.pem",
    ],
)
def test_secrets_are_left_out_and_called_so(name: bytes) -> None:
    """The rule names the file, so that the summary can."""
    assert builtin_rule(name, False) == f"built-in (secret): {name.decode()}"


@pytest.mark.parametrize(
    "name",
    [b".env.example", b".environment", b"env", b"rsa", b"kaggle.json.txt", b"pem", b".gitignore", b"wandb"],
)
def test_everything_else_is_backed_up(name: bytes) -> None:
    """Also what .gitignore files usually name: that is where data and results are."""
    assert builtin_rule(name, False) is None
    assert builtin_rule(name, True) is None

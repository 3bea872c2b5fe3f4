"""Both languages say the same: every template of the package is in the Chinese catalogue, with its placeholders."""

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import tensortime
from tensortime import errors
from tensortime.chinese import CHINESE
from tensortime.messages import READY_MADE, Translator, choose_language, ready_made

PACKAGE = Path(tensortime.__file__).parent
ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type)} | {"kind"}
"""Classes that take a template first; `kind` is a variable that holds one of them."""

KNOWN = {"Skipped", "DamagedRef"}
"""Reports whose second part is a text: it is recorded in English."""

STATES = {"pending", "running", "done", "failed", "interrupted", "incomplete"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    """The modules of the package."""
    for path in sorted(PACKAGE.glob("*.py")):
        yield path.stem, ast.parse(path.read_text("utf-8"))


def literals(node: ast.AST) -> Iterator[str]:
    """The texts that an expression may be, where it is written out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)


def called(node: ast.Call) -> str:
    """The last part of the name of what is called."""
    return ast.unparse(node.func).rpartition(".")[2]


def templates_of(tree: ast.Module) -> Iterator[str]:
    """The templates that stand in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if called(node) in ERRORS | {"tr", "message"} and node.args:
                yield from literals(node.args[0])
            if called(node) in KNOWN and len(node.args) > 1:
                yield from literals(node.args[1])
                if isinstance(node.args[1], ast.Call):
                    yield from literals(node.args[1].args[-1])
            for keyword in node.keywords:
                if keyword.arg == "hint":
                    yield from literals(keyword.value)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            if target == "hint" or re.fullmatch("A_[A-Z]+|PATTERNS", target):
                yield from literals(node.value)
            if isinstance(node.value, ast.Constant) and str(node.value.value).startswith("built-in"):
                yield str(node.value.value)
            if target == "ODD_TYPES" and isinstance(node.value, ast.Dict):
                for value in node.value.values:
                    yield from literals(value)


TEMPLATES = {text for _, tree in sources() for text in templates_of(tree) if text} | set(READY_MADE) | STATES
ALIKE = {text for text in TEMPLATES if not re.search(r"[A-Za-z]", re.sub(r"\{[^}]*\}", "", text))}
"""Templates without a word are the same in both languages."""


def placeholders(template: str) -> set[tuple[str, str, str]]:
    """The placeholders of a template, with their formats."""
    parsed = string.Formatter().parse(template)
    return {(name, spec or "", conversion or "") for _, name, spec, conversion in parsed if name is not None}


def test_every_template_has_its_chinese() -> None:
    """What a person can read in English can be read in Chinese."""
    assert sorted(TEMPLATES - ALIKE - set(CHINESE)) == []


def test_the_catalogue_holds_nothing_else() -> None:
    """What is no longer said is no longer translated."""
    assert sorted(set(CHINESE) - TEMPLATES) == []


@pytest.mark.parametrize("template", sorted(set(CHINESE) & TEMPLATES))
def test_both_languages_have_the_same_placeholders(template: str) -> None:
    """A translation says all that the English says, with the same formats."""
    assert placeholders(CHINESE[template]) == placeholders(template)


def test_templates_are_written_out() -> None:
    """No text for a person is put together from pieces: the catalogue could not know it."""
    built = []
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node) in ERRORS | {"tr", "message"} and node.args:
                texts = [node.args[0], *(word.value for word in node.keywords if word.arg == "hint")]
                built += [
                    f"{name}:{node.lineno}" for one in texts if isinstance(one, ast.JoinedStr | ast.BinOp)
                ]
    assert built == []


def test_every_placeholder_is_given() -> None:
    """A call names each placeholder of its template as a keyword, unless it passes a mapping on."""
    wrong = []
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node) in ERRORS | {"tr", "message"} and node.args:
                given = {word.arg for word in node.keywords}
                for text in literals(node.args[0]):
                    wanted = {field for field, _, _ in placeholders(text)}
                    if None not in given and wanted - given:
                        wrong.append(f"{name}:{node.lineno} {sorted(wanted - given)}")
    assert wrong == []


@pytest.mark.parametrize(
    ("variables", "configured", "language"),
    [
        ({}, None, "en"),
        ({"LANG": "zh_CN.UTF-8"}, None, "zh"),
        ({"LANG": "zh_TW.UTF-8"}, None, "zh"),
        ({"LANG": "C.UTF-8"}, None, "en"),
        ({"LANG": "C.UTF-8", "LANGUAGE": "zh_CN:en"}, None, "en"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_CN:en"}, None, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, None, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "de_DE.UTF-8"}, None, "en"),
        ({"LANG": "de_DE.UTF-8"}, None, "en"),
        ({"LANG": "xx broken"}, None, "en"),
        ({"LANG": "C.UTF-8"}, "zh", "zh"),
        ({"LANG": "zh_CN.UTF-8"}, "en", "en"),
        ({"TENSORTIME_LANG": "zh", "LANG": "C.UTF-8"}, "en", "zh"),
        ({"TENSORTIME_LANG": "en"}, "zh", "en"),
        ({"TENSORTIME_LANG": "中文"}, None, "zh"),
        ({"TENSORTIME_LANG": "klingon"}, "zh", "en"),
        ({"TENSORTIME_LANG": ""}, "zh", "zh"),
    ],
)
def test_which_language(variables: dict[str, str], configured: str | None, language: str) -> None:
    """TENSORTIME_LANG, then the configuration, then the locale; C says nothing, and all others are English."""
    assert choose_language(variables, configured) == language


def test_a_text_that_comes_ready_made_is_translated_with_its_values() -> None:
    """A reason that an older backup recorded in English is shown in Chinese; what nobody knows stays as it is."""
    chinese = Translator("zh")
    text = "no room: it needs 5,000 bytes, 300 are left beside what is kept free"
    assert chinese.known(text) != text
    assert "5,000" in chinese.known(text)
    assert chinese.known("built-in: virtual environment") == CHINESE["built-in: virtual environment"]
    assert chinese.known("an unknown reason {with} braces") == "an unknown reason {with} braces"
    assert Translator("en").known(text) == text
    for template in READY_MADE:
        assert ready_made(template).fullmatch(re.sub(r"\{\w+\}", "7", template))

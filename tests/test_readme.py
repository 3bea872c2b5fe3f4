"""README says what is true, in both languages: its commands parse, its links lead somewhere, its session runs."""

import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pexpect
import pytest
import typer
from builders import Tree

from tensortime import cli, config

ROOT = Path(__file__).parent.parent
README = {"en": ROOT / "README.md", "zh": ROOT / "docs/README.zh-CN.md"}
TEXT = {language: path.read_text(encoding="utf-8") for language, path in README.items()}
LANGUAGES = pytest.mark.parametrize("language", TEXT)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
CALL = re.compile(r"""(?<![\w./'"-])tensortime ((?:[^|;&#"()]|"[^"]*")+)""")
LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")
WIDE_MARKS = re.compile("[\u3001\u3002\uff01-\uff0f\uff1a-\uff1f]")
"""The marks of Chinese, and full-width forms of the marks of ASCII."""

ANY_LINES = "…"
"""In a session: here are lines that README does not show."""

SAME = {
    r"\x1b\[[0-9;]*m": "",
    r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d": "TIME",
    r"(\d+ (min|分) )?\d+(\.\d+)? (s\b|秒)": "DURATION",
    r"(differs by|相差) \S+ ?[(\uff08](relative|相对) [\d.e-]+[)\uff09]": "DISTANCE",
    r"\d+(\.\d+)? ([kMGT]?B)\b": "SIZE",
    r"\b[0-9a-f]{8}\b": "ID",
    r"\d+\.\d+": "NUMBER",
    r"just now|\d+ min ago|刚刚|\d+ 分钟前": "AGE",
    r"\b(copy|reflink)\b": "HOW",
    r" +": " ",
}
"""What is not the same on every day and every machine."""

DATASETS = """
from types import SimpleNamespace
import numpy as np

def load_digits():
    return SimpleNamespace(images=np.zeros((1797, 8, 8)), target=np.arange(1797) % 10)
"""
NETWORK = """
import numpy as np

class MLPClassifier:
    def __init__(self, *args, learning_rate_init, **kwargs):
        self.rate = learning_rate_init

    def partial_fit(self, *args, **kwargs):
        self.coefs_ = [np.full(shape, self.rate) for shape in ((64, 256), (512, 256), (256, 10))]
        self.intercepts_ = []
        self.loss_ = 1 / 3 + self.rate

    def score(self, *args):
        return 2 / 3 - self.rate
"""
"""In the place of scikit-learn: the same files and lines, in no time. Numbers are not compared."""


def fences(language: str, *kinds: str) -> list[str]:
    """The code blocks of these kinds."""
    return [code for kind, code in FENCE.findall(TEXT[language]) if kind in kinds]


def prose(language: str) -> str:
    """README without its code blocks."""
    return FENCE.sub("", TEXT[language])


def session(language: str) -> list[tuple[str, list[str]]]:
    """Each command behind a `$`, in order, with the lines that README shows under it."""
    steps: list[tuple[str, list[str]]] = []
    for line in "\n".join(fences(language, "console")).splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


def calls(language: str) -> Iterator[list[str]]:
    """The words of every call of tensortime that a reader may copy."""
    typed = [command for command, _ in session(language)]
    typed += [line for code in fences(language, "") for line in code.splitlines()]
    typed += SPAN.findall(prose(language))
    for line in typed:
        for call in CALL.findall(line):
            yield shlex.split(call.replace("[", "").replace("]", ""))


def plain(lines: list[str]) -> str:
    """Lines of a terminal, without what differs from run to run."""
    text = "\n".join(lines).strip("\n") + "\n"
    for pattern, word in SAME.items():
        text = re.sub(pattern, word, text)
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@LANGUAGES
def test_every_command_is_one(language: str) -> None:
    """Each call of tensortime in README names a verb and options that exist; no verb is missing."""
    verbs = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    named = set()
    for verb, *words in calls(language):
        named.add(verb)
        verbs[verb].make_context(verb, cli.with_values([verb, *words])[1:])
    assert named == {name for name, verb in verbs.items() if not verb.hidden}


@LANGUAGES
def test_every_link_leads_somewhere(language: str) -> None:
    """What is linked is a file of the project, or a heading."""
    headings = {slug(line.lstrip("#")) for line in TEXT[language].splitlines() if line.startswith("#")}
    for path, anchor in LINK.findall(TEXT[language]):
        assert path.startswith("https:") or (README[language].parent / path).exists(), path
        assert path or anchor in headings, anchor


@LANGUAGES
def test_the_settings_are_all_there_are(language: str) -> None:
    """The block of settings has every key once, each with a value that is accepted."""
    (block,) = fences(language, "toml")
    table = tomllib.loads(block)
    assert sorted(table) == sorted(config.KEYS)
    assert config.build(table, "README").ignore == tuple(table["ignore"])


@LANGUAGES
def test_the_session_is_a_real_one(tmp_path: Path, language: str) -> None:
    """Every command behind a `$`, typed in a terminal, prints what README shows; only the learning is quicker."""
    project = tmp_path / "digits"
    shutil.copytree(ROOT / "examples/digits", project)
    for name in ("README.md", "demo.sh"):
        (project / name).unlink()
    learner = Tree(tmp_path).file("sklearn/datasets.py", DATASETS.encode())
    learner.file("sklearn/neural_network.py", NETWORK.encode())
    type_into_terminal("python make_data.py", project, language)
    for command, shown in session(language):
        printed = type_into_terminal(command, project, language).replace(str(tmp_path), "/home/lin")
        expected, found = plain(shown), plain(printed.splitlines())
        pattern = re.escape(expected).replace(re.escape(ANY_LINES) + "\\\n", r"(?:.*\n)*")
        assert re.fullmatch(pattern, found) or found == expected, command


def type_into_terminal(command: str, folder: Path, language: str) -> str:
    """All that a terminal of 100 columns shows of a command, which must succeed."""
    unset = ("COLUMNS", "LINES", "CI", "NO_COLOR")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    path = os.pathsep.join([os.path.dirname(sys.executable), env["PATH"]])
    child: pexpect.spawn[str] = pexpect.spawn(
        "bash",
        ["-c", command],
        cwd=str(folder),
        env={
            **env,
            "PATH": path,
            "TERM": "xterm-256color",
            "PAGER": "cat",
            "TENSORTIME_LANG": language,
            "PYTHONPATH": str(folder.parent),
        },
        encoding="utf-8",
        dimensions=(60, 100),
        timeout=120,
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return (child.before or "").replace("\r\n", "\n")


def test_both_languages_say_the_same() -> None:
    """Chapters, questions, rows and points are as many; what is typed is the same, but for notes and names."""

    def counted(language: str) -> dict[str, int]:
        starts = ("## ", "* ", "|", "**", "![")
        lines = prose(language).splitlines()
        return {start: sum(line.startswith(start) for line in lines) for start in starts}

    def skeleton(language: str) -> list[list[str]]:
        return [[word for word in call if word.isascii() and " " not in word][:2] for call in calls(language)]

    chinese = counted("zh")
    chinese["**"] -= 1  # how to see Chinese, which an English reader need not know
    assert chinese == counted("en")
    assert [command for command, _ in session("en")] == [command for command, _ in session("zh")]
    assert skeleton("en") == skeleton("zh")


def test_a_chinese_reader_sees_at_once_how_to_see_chinese() -> None:
    """Clusters set C.UTF-8, which names no language: the first lines say what to type."""
    assert "export TENSORTIME_LANG=zh" in TEXT["zh"].splitlines()[:20]


def test_chinese_marks_are_in_chinese_prose_only() -> None:
    """`!keep.bin` with a full-width mark would be another pattern; prose with half-width ones looks wrong."""
    typed = [*SPAN.findall(prose("zh")), *(command for command, _ in session("zh"))]
    assert [code for code in typed if WIDE_MARKS.search(code)] == []
    text = re.sub(r"\]\([^)]*\)", "]", SPAN.sub("", prose("zh")))
    assert re.findall(r"[\u4e00-\u9fff] ?[,;:!?()]|[,;:!?()] ?[\u4e00-\u9fff]", text) == []


@pytest.mark.parametrize("name", ["session.svg", "session.zh-CN.svg"])
def test_the_picture_needs_nothing_and_tells_nothing(name: str) -> None:
    """It is one whole document, refers to nothing elsewhere, and names no folder of the machine that made it."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert re.findall(r"href|url\(|@import|<script|/tmp|/root|/home/(?!lin)", text) == []
    assert "/home/lin/digits" in text

"""Both languages at work: every verb, its help, its errors and its tables, at the widths of real terminals."""

import json
import re
from pathlib import Path

import pytest
from builders import Tree, run_cli
from terminals import columns_of, on_terminal

from tensortime import api

LANGUAGES = {"en": {"TENSORTIME_LANG": "en"}, "zh": {"TENSORTIME_LANG": "zh"}}
EVIL = "red \x1b[31m title \x1b]0;owned\x07 back\b\r over \x9b2J bidi \u202e bell \x07 zero\u200bwidth"
NOTES = ["a plain note", "学习率三乘以十的负四次方，" * 8, "😀" * 50, EVIL, "e\u0301" * 90]
HAN = re.compile("[\u4e00-\u9fff]")
ERRORS = [
    (("show", "nothing"), 4),
    (("restore", "@~9"), 4),
    (("log", "-n", "x"), 2),
    (("lgo",), 2),
    (("backup", "--name", "a b"), 2),
    (("show",), 2),
    (("log", "-C", "/nowhere"), 2),
    (("tag", "@", "--remove"), 2),
    (("note",), 2),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A project whose experiments have awkward notes, parameters, metrics and tags."""
    tree = Tree(tmp_path_factory.mktemp("languages") / "项目").file("train.py", b"1")
    for number, note in enumerate(NOTES):
        params = {"lr": 10.0**-number, "optimizer": "adam", "层数": number}
        api.backup(directory=tree.root, note=note, params=params, metrics={"val_loss": 1 / (number + 1)})
    api.tag("@", ["论文"], directory=tree.root)
    return tree


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("language", LANGUAGES)
def test_log_fits_the_terminal_in_both_languages(project: Tree, language: str, columns: int) -> None:
    """No line is wider than the terminal, nothing hostile is obeyed, and every column begins at one cell."""
    shown = on_terminal(
        "-m", "tensortime", "log", cwd=project.root, columns=columns, variables=LANGUAGES[language]
    )
    lines = shown.splitlines()
    assert len(lines) == 1 + len(NOTES)
    assert [line for line in lines if columns_of(line) > columns] == []
    assert [char for char in shown if not char.isprintable() and char != "\n"] == []
    when = {"en": ("WHEN", "just now"), "zh": ("时间", "刚刚")}[language]
    at = columns_of(lines[0].partition(when[0])[0])
    assert {columns_of(line.partition(when[1])[0]) for line in lines[1:]} == {at}


def test_log_has_columns_for_metrics_and_the_parameters_that_differ(project: Tree) -> None:
    """What is the same in all needs no column; where there is no room, metrics come before parameters."""
    wide = on_terminal("-m", "tensortime", "log", cwd=project.root, columns=200).splitlines()
    assert re.search(r"EXPERIMENT +WHEN +FILES +SIZE +val_loss +lr +层数 +NOTE", wide[0])
    assert "optimizer" not in wide[0]
    assert re.search(r" 0\.2 +0\.0001 +4 ", wide[1])
    narrow = on_terminal("-m", "tensortime", "log", cwd=project.root, columns=66).splitlines()
    assert "val_loss" in narrow[0]
    assert "lr" not in narrow[0].split()


HELP = """
import sys
from tensortime.__main__ import main
for verb in sys.argv[1:]:
    sys.argv = ["tensortime", verb, "--help"]
    try:
        main()
    except SystemExit as end:
        assert not end.code
    print(chr(12))
"""


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("columns", [80, 60])
def test_every_help_page_fits_and_is_in_the_language(project: Tree, language: str, columns: int) -> None:
    """Each verb has help; no line is too wide; in Chinese each verb and option is explained in Chinese."""
    variables = LANGUAGES[language]
    page = on_terminal("-m", "tensortime", "--help", cwd=project.root, columns=columns, variables=variables)
    verbs = re.findall(r"^  ([a-z]+)  ", page, re.MULTILINE)
    assert {"backup", "log", "show", "restore", "note", "tag", "config"} <= set(verbs)
    pages = on_terminal("-c", HELP, *verbs, cwd=project.root, columns=columns, variables=variables)
    for verb, page in zip(verbs, pages.removesuffix("\f\n").split("\f\n"), strict=True):
        assert f"tensortime {verb} " in page
        assert [line for line in page.splitlines() if columns_of(line) > columns] == [], verb
        assert bool(HAN.search(page)) == (language == "zh")
        rows = re.findall(r"^  (?:-|[A-Z])\S.*\n(?:  {6}.*\n)*", page, re.MULTILINE)
        assert rows
        for row in rows:
            assert bool(HAN.search(row)) == (language == "zh"), row


@pytest.mark.parametrize(("words", "code"), ERRORS, ids=[" ".join(words) for words, _ in ERRORS])
@pytest.mark.parametrize("language", LANGUAGES)
def test_errors_in_both_languages(project: Tree, language: str, words: tuple[str, ...], code: int) -> None:
    """What is wrong and what to do, in the language; the document of --json stays English."""
    done = run_cli(*words, cwd=project.root, env=dict(LANGUAGES[language]))
    assert (done.returncode, done.stdout) == (code, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("tensortime: ")
    assert bool(HAN.search(lines[0])) == (language == "zh"), lines
    as_json = run_cli(*words, "--json", cwd=project.root, env=dict(LANGUAGES[language]))
    error = json.loads(as_json.stdout)["error"]
    assert not HAN.search(error["message"].replace("项目", "") + str(error["hint"]))


def test_a_chinese_backup_speaks_the_words_of_0_1_0(tmp_path: Path) -> None:
    """创建备份文件夹, 忽略, 成功备份到 — and at the end how to come back."""
    tree = Tree(tmp_path / "p").file("train.py", b"1").file(".env", b"KEY=1").folder("data").file("data/x")
    script = "from tensortime import TimeMachine; TimeMachine(exp_dir='基线').backup(ignore=['data'])"
    tree.file("run.py", script.encode())
    said = on_terminal("run.py", cwd=tree.root, variables=LANGUAGES["zh"]).splitlines()
    assert said[0].startswith(">> tensortime: 创建备份文件夹 tensortime")
    assert said[1].startswith(">> tensortime: 成功备份到 基线")
    assert said[2].startswith(">> tensortime: 忽略")
    assert ".env" in said[2]
    assert "data/" in said[2]
    assert said[-1] == ">> tensortime: 还原: tensortime restore 基线"


def test_the_configuration_chooses_the_language(tmp_path: Path) -> None:
    """`lang = "zh"` holds for the command line (with -C, too) and for training, whatever the locale of a cluster."""
    tree = Tree(tmp_path / "p").file("train.py", b"1").file("tensortime.toml", b'lang = "zh"\n')
    assert "成功备份到" in run_cli("backup", cwd=tree.root).stdout
    assert "成功备份到" in run_cli("backup", "-C", tree.root, cwd=tmp_path).stdout
    tree.file("run.py", b"from tensortime import TimeMachine; TimeMachine(exp_dir='x').backup()")
    assert "成功备份到" in on_terminal("run.py", cwd=tree.root)
    assert "用法" in run_cli("log", "--help", cwd=tree.root).stdout


def test_a_mistake_in_the_configuration_is_told_in_its_language(tmp_path: Path) -> None:
    """`lang = "zh"` beside a wrong key: the error about that key is in Chinese."""
    tree = Tree(tmp_path / "p").file("tensortime.toml", b'lang = "zh"\nlarge_size = "x"\n')
    assert HAN.search(run_cli("log", cwd=tree.root).stderr)


def test_the_first_page_is_in_both_languages(tmp_path: Path) -> None:
    """`tensortime` alone."""
    assert "bring the newest back" in run_cli(cwd=tmp_path, env=dict(LANGUAGES["en"])).stdout
    said = run_cli(cwd=tmp_path, env=dict(LANGUAGES["zh"])).stdout
    assert HAN.search(said)
    assert "tensortime restore @" in said


def test_what_a_backup_recorded_in_english_is_shown_in_chinese(tmp_path: Path) -> None:
    """Rules and reasons are stored in English, whoever made the backup, and shown in the reader's language."""
    tree = Tree(tmp_path / "p").file("train.py", b"1").fifo("pipe").file("venv/pyvenv.cfg")
    assert run_cli("backup", "--name", "x", cwd=tree.root, env=dict(LANGUAGES["zh"])).returncode == 3
    run = api.show("x", directory=tree.root).run
    assert run["skipped"] == [{"path": "pipe", "reason": "a FIFO"}]
    said = run_cli("show", "x", cwd=tree.root, env=dict(LANGUAGES["zh"])).stdout
    assert "命名管道" in said
    assert "虚拟环境" in said

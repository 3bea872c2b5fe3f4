"""Help that teaches: an example a verb; words for a number."""

import shlex
from typing import Any

import pytest
import typer
from builders import Tree, run_cli

from tensortime import cli
from tensortime.manual import EXAMPLES

GROUP: Any = typer.main.get_command(cli.app)
VERBS = [name for name, verb in GROUP.commands.items() if not verb.hidden]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_one_example_that_parses(verb: str) -> None:
    """Between what the verb does and its arguments; it is one line, and what it shows can be typed."""
    with GROUP.make_context("tensortime", [verb], resilient_parsing=True) as above:
        command = GROUP.get_command(above, verb)
        with command.make_context(verb, [], parent=above, resilient_parsing=True) as context:
            lines = cli.page(command, context).split("\n")
        [at] = [number for number, line in enumerate(lines) if line.startswith("Example: ")]
        assert lines[at - 1] == lines[at + 1] == ""
        assert lines[at + 2] in ("Arguments:", "Options:")
        example = lines[at].removeprefix("Example: ")
        assert example == EXAMPLES[verb]
        program, called, *words = shlex.split(example.partition(" | ")[0])
        assert (program, called) == ("tensortime", verb)
        # Not resilient: wrong options, missing arguments and bad values raise.
        command.make_context(verb, words, parent=above)


def test_no_example_without_its_verb() -> None:
    """What is gone from the command line is gone from here."""
    assert set(EXAMPLES) == set(VERBS)


def test_arguments_that_repeat_have_three_dots(tmp_path: Any) -> None:
    """Not six; and what is missing is named as it is in the usage."""
    assert run_cli("purge", "--help", cwd=tmp_path).stdout.startswith("Usage: tensortime purge PATH... [")
    assert "Missing argument 'PATH'." in run_cli("purge", cwd=tmp_path).stderr


@pytest.mark.parametrize("words", [("log", "-n", "x"), ("rm", "--keep-last", "x"), ("du", "-n", "x")])
def test_a_word_in_place_of_a_number(words: tuple[str, ...], tmp_path: Any) -> None:
    """The option and the word, not what a parser thinks of it."""
    done = run_cli(*words, cwd=Tree(tmp_path).root)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == f"tensortime: {words[1]} takes a number, not x"

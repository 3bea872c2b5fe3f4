"""The verbs typed most are understood without typer: as typer understands them, or not at all."""

import inspect
from collections.abc import Iterator

import pytest
from conftest import Tally
from hypothesis import given, settings
from hypothesis import strategies as st

from tensortime import cli, commands, running_commands, shortcuts
from tensortime.verbs import VERBS

OPTIONS = sorted({name for verb in VERBS.values() for option in verb.options for name in option.names})
WORDS = [
    *("", "-", "--", "---", "-x", "a", "@", "@~2", "NAME:1", "a b", "学习", "\udce4", "=", "-1", "train.py"),
    *(
        "0",
        "1",
        "007",
        "+3",
        " 3 ",
        "1_000",
        "1" * 12,
        "٣",
        "3.0",
        "--note=",
        "--name=a=b",
        "--json=1",
        "--add",
    ),
    *(
        "--jso",
        "--no",
        "-n3",
        "-n=3",
        "-mtext",
        "-m=",
        "-pC",
        "-C.",
        "--help",
        "-h",
        "--version",
        "--all=",
        "-=",
    ),
]
SHAPES = st.sampled_from(
    ["{option}", "{option} {word}", "{option} {word}", "{option}={word}", "{word}", "{word}"]
)


@st.composite
def calls(draw: st.DrawFn) -> list[str]:
    """What somebody may type: mostly options of the verb and words behind them, and now and then anything."""
    verb = draw(st.sampled_from(shortcuts.TYPED_MOST))
    own = [name for option in VERBS[verb].options for name in option.names]
    typed = [verb]
    for _ in range(draw(st.integers(0, 6))):
        option = draw(st.sampled_from(own) | st.sampled_from(own) | st.sampled_from(OPTIONS))
        word = draw(st.sampled_from(WORDS) | st.sampled_from("abc") | st.text(max_size=4))
        typed += [part.format(option=option, word=word) for part in draw(SHAPES).split(" ")]
    at = draw(st.sampled_from([0, 0, 0, len(typed), draw(st.integers(0, len(typed)))]))
    return [*typed[at:], *typed[:at]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Which functions were called with what, instead of doing it."""
    seen: list[object] = []

    def record(module: object, name: str) -> None:
        signature = inspect.signature(getattr(module, name))

        def recorded(*values: object, **named: object) -> int:
            bound = signature.bind(*values, **named)
            bound.apply_defaults()
            seen.append((name, dict(bound.arguments)))
            return 7

        monkeypatch.setattr(module, name, recorded)

    for name in ("backup", "restore", "log", "show", "diff"):
        record(commands, name)
    record(running_commands, "run")
    yield seen


def test_what_is_understood_is_what_typer_understands(made: list[object], tally: Tally) -> None:
    """The same function with the same values, for whatever is typed; of the others nothing is done."""

    @settings(deadline=None, max_examples=600)
    @given(calls())
    def check(typed: list[str]) -> None:
        tally("command lines")
        made.clear()
        code = shortcuts.answer(list(typed))
        if code is None:
            assert not made
            return
        tally("command lines understood without typer")
        assert (code, len(made)) == (7, 1)
        assert cli.run(list(typed)) == 7, typed
        assert made[0] == made[1], typed

    check()


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "backup",
            "backup --name x --note=y --store s --add a --add b",
            "backup -m text --ignore *.pt --rehash",
        ),
        *(
            "backup --json",
            "-C d backup",
            "--store=s log",
            "log -n 3",
            "log --sort -loss --all",
            "log --json",
        ),
        *(
            "restore @ dest --store s",
            "restore --path a --path b -- -x",
            "restore x --link copy",
            "show @ train.py",
        ),
        *(
            "diff",
            "diff a",
            "diff a b -p",
            "run -- python train.py --lr 3",
            "run --name x python train.py --name y",
        ),
    ],
)
def test_what_people_type_is_understood(made: list[object], typed: str) -> None:
    """typer is not asked for what is right."""
    assert shortcuts.answer(typed.split()) == 7
    assert cli.run(typed.split()) == 7
    assert made[0] == made[1]


@pytest.mark.parametrize(
    "typed",
    [
        *("backup --help", "backup x", "backup --nam x", "backup --name", "backup --json=1", "backup -mtext"),
        *(
            "log -n 0",
            "log -n many",
            "log x",
            "restore",
            "restore a b c",
            "show",
            "diff a b c",
            "gc",
            "",
            "--json",
        ),
    ],
)
def test_all_else_is_left_to_typer(made: list[object], typed: str) -> None:
    """What is wrong, shortened or asks for help is explained by typer, as ever."""
    assert shortcuts.answer(typed.split()) is None
    assert not made

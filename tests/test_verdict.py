"""The verdict on a rerun: one line that a person can put into a paper, and the exit code."""

import json
import math
from dataclasses import replace

import pytest

from tensortime.gaps import Closeness, Gap, short_number
from tensortime.names import ExperimentName
from tensortime.verdict import (
    CLOSE,
    DIFFERS,
    EXTRA,
    IDENTICAL,
    MISSING,
    OutputResult,
    RerunReport,
    line_of,
    result_of,
)
from tensortime.verdict_documents import rerun_json

SAME = OutputResult("a.npz", IDENTICAL)
DONE = RerunReport(ExperimentName("x-rerun"), "x:2", "x:1", ("python", "t.py"), 0, None, "/w/x-rerun", ())


def gap(name: str = "w", max_abs: float = 3e-2, max_rel: float = 0.1) -> Gap:
    """An array whose numbers differ."""
    return Gap(name, "", max_abs, max_rel)


def output(*gaps: Gap, rtol: float = 0.0, path: str = "model.npz") -> OutputResult:
    """A numeric file whose bytes differ."""
    closeness = Closeness(gaps)
    return OutputResult(path, result_of(closeness, rtol), closeness)


def judged(*outputs: OutputResult, **facts: object) -> tuple[str, str | None, int]:
    """Line, verdict and exit code of a rerun with these outputs."""
    report = replace(DONE, outputs=outputs, **facts)  # type: ignore[arg-type]
    return str(line_of(report)), report.verdict, report.exit_code


def test_the_same_bytes_are_reproduced_bit_for_bit() -> None:
    """However many outputs there are."""
    assert judged(SAME) == ("reproduced bit for bit (1 output)", "identical", 0)
    assert judged(*[SAME] * 7) == ("reproduced bit for bit (7 outputs)", "identical", 0)


def test_numbers_within_the_bar_are_reproduced_within_it() -> None:
    """The bar counts for each element, relative to the larger of two; at the bar is within."""
    near = output(gap(max_rel=1e-6), gap("b", 1, 1e-7), rtol=1e-6)
    assert near.result == CLOSE
    assert judged(SAME, near, rtol=1e-6) == ("reproduced within 1e-6 (2 outputs)", "close", 0)
    assert output(gap(max_rel=1.1e-6), rtol=1e-6).result == DIFFERS


def test_without_a_bar_every_number_counts() -> None:
    """However small the difference; but other bytes around the very same numbers are none."""
    line = "not reproduced: model.npz[w] differs by 1e-9"
    assert judged(output(gap(max_abs=1e-9, max_rel=1e-9))) == (line, "different", 5)
    assert judged(SAME, output()) == ("reproduced, every number equal (2 outputs)", "close", 0)


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (output(gap("layer2.weight")), "model.npz[layer2.weight] differs by 3e-2"),
        (output(gap(""), path="w.npy"), "w.npy differs by 3e-2"),
        (output(gap(max_abs=math.inf, max_rel=math.inf)), "model.npz[w] differs by inf"),
        (output(Gap("w", "shape", old="(3,)", new="(4,)")), "model.npz[w] has shape (4,), not (3,)"),
        (output(Gap("w", "type", old="f4", new="f8")), "model.npz[w] has type f8, not f4"),
        (output(Gap("w", "missing")), "model.npz[w] is missing"),
        (output(Gap("w", "extra")), "model.npz[w] is there now, and was not"),
        (output(Gap("w", "text")), "model.npz[w] differs"),
        (OutputResult("log.txt", DIFFERS), "log.txt differs"),
        (OutputResult("log.txt", MISSING), "log.txt is missing"),
        (OutputResult("log.txt", EXTRA), "log.txt is there now, and was not"),
    ],
)
def test_the_first_difference_is_named(one: OutputResult, line: str) -> None:
    """File, array, and by how much, or what else it is."""
    assert judged(SAME, one, OutputResult("z", DIFFERS)) == (f"not reproduced: {line}", "different", 5)


def test_an_array_within_the_bar_is_not_named() -> None:
    """The first one beyond it is."""
    one = output(gap("a", 1e-9, 1e-9), gap("b", 0.5, 0.5), rtol=1e-6)
    assert judged(one, rtol=1e-6)[0] == "not reproduced: model.npz[b] differs by 0.5"


def test_no_bar_is_wide_enough_for_what_is_no_number() -> None:
    """Shapes, types, text and NaN differ whatever the bar is."""
    for one in (Gap("w", "shape"), Gap("w", "text"), gap(max_abs=math.inf, max_rel=math.inf)):
        assert output(one, rtol=1e300).result == DIFFERS


def test_a_difference_that_rounds_to_nothing_is_one() -> None:
    """Beside a number past all floats one is relatively nothing, and a difference all the same."""
    assert output(gap(max_abs=1, max_rel=0.0)).result == DIFFERS
    assert output(gap(max_abs=1, max_rel=0.0), rtol=1e-9).result == CLOSE


def test_a_rerun_that_fails_is_not_reproduced() -> None:
    """Unless the first run failed in the same way; one that succeeds where the first had failed is not either."""
    assert judged(SAME, command_exit=1) == ("not reproduced: it ended with 1", "different", 5)
    assert judged(SAME, command_exit=1, first_exit=0)[2] == 5
    both = "reproduced bit for bit (1 output); both ended with exit code 1"
    assert judged(SAME, command_exit=1, first_exit=1) == (both, "identical", 0)
    other = judged(SAME, command_exit=127, first_exit=1)
    assert other == ("not reproduced: it ended with 127", "different", 5), "it may never have come as far"
    line = "not reproduced: it succeeded, the recorded run had ended with 1"
    assert judged(SAME, first_exit=1) == (line, "different", 5)


def test_nothing_to_compare_is_nothing_reproduced() -> None:
    """Where --ignore leaves no output it says so, and the exit code is not that of a success."""
    assert judged() == ("nothing was compared: --ignore names all outputs of x:2", None, 3)


def test_without_a_comparison_the_exit_code_is_the_command_s() -> None:
    """As `run` has it; a rerun that was told to stop is interrupted whatever it compared."""
    assert replace(DONE, outputs=None, command_exit=7).exit_code == 7
    assert replace(DONE, interrupted="SIGINT", command_exit=0).exit_code == 130
    assert replace(DONE, interrupted="SIGTERM", command_exit=143).exit_code == 143


def test_numbers_are_written_as_in_a_paper() -> None:
    """A digit or two, and no zero that says nothing."""
    values = (3e-2, 1e-6, 1.25e-7, 0.5, 0.0999999, 12, 123456, 1e9, 0.0, math.inf, None)
    shown = ["3e-2", "1e-6", "1.2e-7", "0.5", "0.1", "12", "1.2e5", "1e9", "0", "inf", "?"]
    assert [short_number(one) for one in values] == shown


def test_the_document_holds_only_numbers_that_json_knows() -> None:
    """An infinite distance is null; identical outputs are at distance zero."""
    report = replace(
        DONE, outputs=(SAME, output(gap(max_abs=math.inf, max_rel=math.inf)), OutputResult("t", DIFFERS))
    )
    rows = json.loads(json.dumps(rerun_json(report), allow_nan=False))["outputs"]
    assert [(row["result"], row["max_abs"], row["first"]) for row in rows] == [
        ("identical", 0.0, None),
        ("differs", None, "w"),
        ("differs", None, None),
    ]

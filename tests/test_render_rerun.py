"""What `rerun` shows: the verdict first, then what is not as it was, then what differs between then and now."""

from dataclasses import replace

from tensortime.gaps import Closeness, Gap
from tensortime.messages import Translator
from tensortime.names import ExperimentName
from tensortime.render_diff import Style
from tensortime.render_rerun import rerun_text
from tensortime.suspects import Suspect
from tensortime.verdict import OutputResult, RerunReport

GAPS = (Gap("w", "", 3e-2, 0.1), Gap("b", "shape", old="(3,)", new="(4,)"))
OUTPUTS = (
    OutputResult("save/a", "identical"),
    OutputResult("save/b.npz", "differs", Closeness(GAPS)),
    OutputResult("save/c.npy", "close", Closeness(())),
    OutputResult("save/d", "missing"),
    OutputResult("save/\x1b[31m", "extra"),
)
CAUSES = (
    Suspect("data", "x.csv", "data"),
    Suspect("packages", "numpy", "numeric", "changed", "1.26.4", "2.0.0"),
    Suspect("environment", "OMP_NUM_THREADS", "cpu", "added", None, "4"),
)
REPORT = RerunReport(ExperimentName("x-rerun"), "x:2", "x:1", ("t",), 0, None, "/w", OUTPUTS, causes=CAUSES)


def shown(report: RerunReport, width: int | None = None) -> list[str]:
    """The lines."""
    return rerun_text(report, Style(Translator("en"), width), "tensortime/x-rerun.run")


def test_all_of_it() -> None:
    """Nothing of a path or value is obeyed by the terminal."""
    assert shown(replace(REPORT, unrecorded=2)) == [
        "not reproduced: save/b.npz[w] differs by 3e-2",
        "  save/b.npz     differs: w differs by 3e-2 (relative 0.1), and 1 more",
        "  save/c.npy     close: every number is equal",
        "  save/d         missing",
        "  save/\\x1b[31m  extra",
        "  1 more is identical",
        "not compared: 2 files more, of which x:2 recorded nothing",
        "what differs between then and now, the likeliest cause first:",
        "  data         x.csv            changed  (it read other data)",
        "  packages     numpy            1.26.4 -> 2.0.0  (a numeric library may compute otherwise in another version)",
        "  environment  OMP_NUM_THREADS  (none) -> 4  (other processors or threads may add numbers in another order)",
        "recorded as x-rerun (from x:1), in tensortime/x-rerun.run",
    ]


def test_a_terminal_shows_the_first_of_many() -> None:
    """No line is wider than it, and lists end with how many there are."""
    many = tuple(OutputResult(f"save/{number:03}", "differs") for number in range(50))
    causes = tuple(
        Suspect("packages", f"p{number}", "package", "changed", "1" * 99, "2") for number in range(30)
    )
    lines = shown(replace(REPORT, outputs=many, causes=causes), 60)
    assert "  … and 40 more" in lines
    assert "  … and 20 more" in lines
    assert all(len(line) <= 60 for line in lines[1:-1])


def test_the_verdict_is_one_line_whatever_names_there_are() -> None:
    """Paths and arrays come from files that anybody may have written."""
    odd = OutputResult("a\x1b[2J\n.npz", "differs", Closeness((Gap("w\nx", "", 1.0, 1.0),)))
    assert shown(replace(REPORT, outputs=(odd,)))[0] == "not reproduced: a\\x1b[2J\\n.npz[w\\nx] differs by 1"


def test_without_a_verdict_only_what_differs_is_told() -> None:
    """A rerun that was not to be verified."""
    assert shown(replace(REPORT, outputs=None))[0].startswith("what differs between then and now")
    assert shown(replace(REPORT, outputs=None, causes=(), experiment=None)) == []

"""Whether a run gave the result of another: output by output, and as one line for a paper. Pure."""

from dataclasses import dataclass

from tensortime.errors import Message, message
from tensortime.gaps import Closeness, Gap, short_number
from tensortime.names import ExperimentName
from tensortime.suspects import Suspect

IDENTICAL, CLOSE, DIFFERS, MISSING, EXTRA = "identical", "close", "differs", "missing", "extra"
UNWRITTEN = "unwritten"
"""How an output of the second run is to that of the first: the same bytes; numbers within the bar and nothing else;
neither; only the first run made it; only the second; it lies there as it came with the inputs, and only the first run
wrote it."""

DIFFERENT = "different"
"""The verdict where any output is neither identical nor close."""


@dataclass(frozen=True, slots=True)
class OutputResult:
    """How one output came out."""

    path: str
    result: str
    closeness: Closeness | None = None
    """None where not numbers were compared."""

    @property
    def first(self) -> Gap | None:
        """The first array that differs."""
        return self.closeness.gaps[0] if self.closeness is not None and self.closeness.gaps else None


def result_of(closeness: Closeness | None, rtol: float) -> str:
    """Of two files whose bytes differ: whether their numbers are close all the same."""
    if closeness is None or any(is_beyond(gap, rtol) for gap in closeness.gaps):
        return DIFFERS
    return CLOSE


def is_beyond(gap: Gap, rtol: float) -> bool:
    """Whether an array differs by more than the bar; without one every difference is, also one that rounds to nothing."""
    return gap.problem != "" or gap.max_rel is None or not rtol or not gap.max_rel <= rtol


@dataclass(frozen=True, slots=True)
class RerunReport:
    """What one rerun did, and how it came out."""

    experiment: ExperimentName | None
    """The new experiment; None where nothing could be recorded."""
    asked: str
    """The backup that was to be run again, as `NAME:n`."""
    parent: str
    """The backup that holds its inputs."""
    command: tuple[str, ...]
    command_exit: int
    """The exit code of the command."""
    first_exit: int | None
    """That of the first run; None where it is not known."""
    path: str
    """The worktree, absolute."""
    outputs: tuple[OutputResult, ...] | None = None
    """None where they were not compared."""
    unrecorded: int = 0
    """Files that the rerun made, and of which the first run's experiment does not say whether it made them too."""
    rtol: float = 0.0
    causes: tuple[Suspect, ...] = ()
    left_out: tuple[str, ...] = ()
    """What a rule of the person left out of the inputs, or could not be stored: it is not in the worktree."""
    missed: tuple[str, ...] = ()
    """What the rerun wrote and a rule leaves out, with `/` at the end folders: no backup holds it, nothing compared it."""
    edited: tuple[str, ...] = ()
    """Sources that were edited while the first run ran: it may have read what was there only then."""
    interrupted: str = ""
    """The signal with which it was told to stop."""
    submitted: bool = False
    """The command handed a job to a scheduler, which goes on with the experiment: nothing can be compared yet."""
    seconds: float = 0.0

    @property
    def failed_anew(self) -> bool:
        """Whether it ended otherwise than the first run: one failed and the other did not, or each in its own way."""
        return self.command_exit != (self.first_exit or 0)

    @property
    def verdict(self) -> str | None:
        """`identical`, `close` or `different`; None where nothing was compared."""
        if self.outputs is None or self.submitted:
            return None
        if self.failed_anew:
            return DIFFERENT
        results = {one.result for one in self.outputs}
        if not results:
            return None
        return IDENTICAL if results == {IDENTICAL} else CLOSE if results <= {IDENTICAL, CLOSE} else DIFFERENT

    @property
    def exit_code(self) -> int:
        """Of a verification 0 reproduced, 5 not, 3 nothing to compare; else, or where it was stopped, the command's."""
        if self.interrupted:
            return self.command_exit or 130
        if self.outputs is None:
            return self.command_exit
        return {IDENTICAL: 0, CLOSE: 0, DIFFERENT: 5}.get(self.verdict or "", 3)


def line_of(report: RerunReport) -> Message:
    """The verdict as one line."""
    outputs, verdict = report.outputs or (), report.verdict
    if report.submitted:
        return message(
            "submitted: the job goes on with {name}; when it has ended, tensortime diff {first} {name} compares them",
            name=report.experiment,
            first=report.asked,
        )
    if report.failed_anew:
        return failure_line(report)
    if verdict is None:
        return message(
            "nothing was compared: --ignore names all outputs of {experiment}", experiment=report.asked
        )
    count = message("1 output") if len(outputs) == 1 else message("{count} outputs", count=len(outputs))
    if verdict == DIFFERENT:
        return difference_line(report, next(one for one in outputs if one.result not in (IDENTICAL, CLOSE)))
    if verdict == IDENTICAL:
        line = message("reproduced bit for bit ({count})", count=count)
    elif not any(one.first for one in outputs):
        line = message("reproduced, every number equal ({count})", count=count)
    else:
        line = message("reproduced within {rtol} ({count})", rtol=short_number(report.rtol), count=count)
    return with_failure(report, line)


def with_failure(report: RerunReport, line: Message) -> Message:
    """The line, and that both runs failed where they did: what they made until then is all that was reproduced."""
    if not report.command_exit:
        return line
    return message("{line}; both ended with exit code {code}", line=line, code=report.command_exit)


def failure_line(report: RerunReport) -> Message:
    """The two runs ended otherwise."""
    if report.command_exit == 0:
        return message(
            "not reproduced: it succeeded, the recorded run had ended with {first}", first=report.first_exit
        )
    return message("not reproduced: it ended with {code}", code=report.command_exit)


def difference_line(report: RerunReport, output: OutputResult) -> Message:
    """What the first output that is not reproduced differs by."""
    if output.result == MISSING:
        return message("not reproduced: {path} is missing", path=output.path)
    if output.result == UNWRITTEN:
        return message("not reproduced: {path} was not written", path=output.path)
    if output.result == EXTRA:
        return message("not reproduced: {path} is there now, and was not", path=output.path)
    gaps = () if output.closeness is None else output.closeness.gaps
    gap = next((one for one in gaps if is_beyond(one, report.rtol)), None)
    if gap is None:
        return message("not reproduced: {path} differs", path=output.path)
    where = {"path": output.path, "array": f"[{gap.name}]" if gap.name else ""}
    if not gap.problem:
        return message(
            "not reproduced: {path}{array} differs by {distance}", distance=short_number(gap.max_abs), **where
        )
    if gap.problem == "shape":
        return message(
            "not reproduced: {path}{array} has shape {new}, not {old}", new=gap.new, old=gap.old, **where
        )
    if gap.problem == "type":
        return message(
            "not reproduced: {path}{array} has type {new}, not {old}", new=gap.new, old=gap.old, **where
        )
    if gap.problem == MISSING:
        return message("not reproduced: {path}{array} is missing", **where)
    if gap.problem == EXTRA:
        return message("not reproduced: {path}{array} is there now, and was not", **where)
    return message("not reproduced: {path}{array} differs", **where)

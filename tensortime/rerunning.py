"""The verb that does a recorded run again, in a new folder, and says whether it gave the same result.

inputs of the backup ──> worktree ──> the recorded command ──> a new experiment ──> compare its outputs ──> verdict
"""

import contextlib
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tensortime import checkout, extraction, history, isolation, plans, running
from tensortime.errors import (
    CommandNotFound,
    Message,
    NotExecutable,
    TargetExists,
    TensorTimeError,
    UsageError,
    message,
)
from tensortime.experiments import SUBMITTED
from tensortime.formats import text_of
from tensortime.history import Target
from tensortime.ignoring import Matcher
from tensortime.lookup import PathLike, locate, resolve, store_trouble
from tensortime.monitor import SILENT, Monitor
from tensortime.names import LONGEST_NAME, ExperimentName, cut, free_name
from tensortime.project import Place
from tensortime.ranks import is_off
from tensortime.recipe import Recipe, recipe_of, refuse_unusable
from tensortime.reports import RunReport
from tensortime.reproduction import Recorded, causes_between, compare_outputs, read_recorded
from tensortime.store import Store, open_store
from tensortime.suspects import suspects_of
from tensortime.verdict import RerunReport

ENDING = "-rerun"
"""Ends the name of what was run again."""

AGAIN = re.compile(rf"{ENDING}(-\d+)?$")


@dataclass(frozen=True)
class Repetition:
    """One rerun: what is run again, where, under which name."""

    store: Store
    place: Place
    """The project that the person is in."""
    recorded: Recorded
    project: str
    """Where the run took place then."""
    name: ExperimentName
    folder: str

    @property
    def asked(self) -> str:
        """The backup that is run again, as a person names it."""
        return named(self.recorded.asked)


@dataclass(frozen=True)
class Begun:
    """What is about to start."""

    experiment: ExperimentName | None
    folder: str
    words: tuple[str, ...]


def rerun(
    experiment: str,
    arguments: Sequence[str] = (),
    *,
    verify: bool = False,
    rebuild: bool = False,
    into: PathLike | None = None,
    rtol: float = 0.0,
    ignore: Sequence[str] = (),
    directory: PathLike | None = None,
    store: PathLike | None = None,
    on_begun: Callable[[Begun], None] = lambda _: None,
    monitor: Monitor = SILENT,
) -> RerunReport:
    """Restore the inputs of a backup into a new worktree, run its command there, record that as a new experiment.

    `arguments`: in place of those behind the recorded script. `verify`: compare every output with the recorded one;
    `rtol`: the relative difference up to which two numbers are close; `ignore`: patterns of outputs that are not
    compared. `rebuild`: in an environment made anew from the recorded list of packages. `into`: the new folder, default
    `<store>/<name of the new experiment>`. `on_begun` is told when the command is about to start. Where the command cannot start nothing is left behind.
    """
    if not (rtol >= 0 and math.isfinite(rtol)):
        raise UsageError(
            "{rtol} is no relative difference", rtol=rtol, hint="--rtol takes a number such as 1e-6"
        )
    if is_off(os.environ):
        raise UsageError("TENSORTIME=off: nothing can be recorded", hint="unset TENSORTIME")
    started = time.monotonic()
    place, _ = locate(directory, store)
    opened = open_store(place.store)
    target = resolve(place, opened, experiment)
    again = plan(place, opened, target, into)
    if verify and not again.recorded.outputs:
        raise TensorTimeError(
            "nothing to compare: {experiment} has no outputs",
            experiment=again.asked,
            hint=hint_for_none(again, target),
        )
    known = again.recorded.run, again.project, again.folder, arguments, os.environ
    recipe_of(
        *known, name=target.experiment.name
    )  # what cannot be run again is told before anything is restored
    begun: list[Begun] = []

    def tell(one: Begun) -> None:
        begun.append(one)
        on_begun(one)

    with worktree_of(again, begun, monitor):
        wanted = environment_of(again, rebuild, monitor)
        recipe = recipe_of(*known, name=target.experiment.name, python=wanted.python, path=wanted.path)
        report = run_in_worktree(again, replace(recipe, notes=(*wanted.notes, *recipe.notes)), tell, monitor)
    done = reported(again, recipe, report)
    if not done.interrupted:
        bar = Bar(rtol, Matcher.of("--ignore", ignore).covers) if verify else None
        done = judged(again, done, report, bar, same_command=not arguments, rebuilt=rebuild, monitor=monitor)
    return replace(done, seconds=time.monotonic() - started)


def hint_for_none(again: Repetition, target: Target) -> Message:
    """What to do about a run of which no outputs are known: one that `run` watched wrote none that a rule lets in."""
    if again.recorded.result:
        return message("it wrote nothing that your rules let in; without --verify it is run all the same")
    return message(
        "tensortime backup --add PATH --name {name} adds those that are still there; without --verify it is run all the same",
        name=target.experiment.name,
    )


def plan(place: Place, opened: Store, target: Target, into: PathLike | None) -> Repetition:
    """What is run again, under which name, and where."""
    recorded = read_recorded(opened, target)
    facts = history.read_facts(opened.shadow, recorded.inputs.commit)
    base = cut(AGAIN.sub("", target.experiment.name), LONGEST_NAME - 2 * len(ENDING)).rstrip(".-")
    taken = history.read_catalog(opened.shadow).taken_names() | {
        one.lower() for one in os.listdir(opened.folder)
    }
    name = free_name(ExperimentName(base + ENDING), taken)
    default = isolation.free_folder(opened, str(name))
    wanted = default if into is None else os.path.abspath(os.fspath(into))
    folder = os.path.join(os.path.realpath(os.path.dirname(wanted)), os.path.basename(wanted))
    return Repetition(opened, place, recorded, facts.project, name, folder)


def named(target: Target) -> str:
    """A backup as a person names it."""
    return f"{target.experiment.name}:{target.number}"


@dataclass(frozen=True)
class Environment:
    """The Python that the command gets, where it is not simply the recorded one."""

    python: str | None = None
    path: tuple[str, ...] = ()
    """What was installed from the project's own folder, as the worktree has it."""
    notes: tuple[Message, ...] = ()


def environment_of(again: Repetition, rebuild: bool, monitor: Monitor) -> Environment:
    """The environment of the command: of then, or with `rebuild` made anew of the recorded packages."""
    from tensortime import rebuilding  # only a rerun pays for it

    packages, python = again.recorded.packages, again.recorded.run.get("python")
    if rebuild and packages is None:
        raise TensorTimeError(
            "{experiment} did not record its packages", experiment=again.asked, hint="leave --env out"
        )
    facts, places = (
        python if isinstance(python, Mapping) else {},
        {"project": again.project, "worktree": again.folder},
    )
    if rebuild:
        made = rebuilding.environment_for(packages or b"", facts, monitor, **places)
        return Environment(made.python, made.path, made.differs)
    return Environment(path=rebuilding.own_sources(packages or b"", **places))


@contextlib.contextmanager
def worktree_of(again: Repetition, begun: Sequence[Begun], monitor: Monitor) -> Iterator[None]:
    """Restore the inputs; where the command cannot be started after all, the worktree is removed again.

    `begun`: something, once it was about to start: what it made may be nowhere else.
    """
    store, inputs = again.store, again.recorded.inputs
    try:
        with store_trouble(store.folder), history.damage_in(inputs):
            checkout.restore(store, again.place.project, inputs, again.folder, "auto", monitor)
    except TargetExists as problem:
        elsewhere = message("tensortime rerun {name} --into OTHER-FOLDER runs it elsewhere", name=again.asked)
        raise TargetExists("{problem}", problem=problem.message, hint=elsewhere) from problem
    try:
        with store_trouble(store.folder), history.damage_in(again.recorded.asked):
            place_late(again, monitor)
        yield
    except BaseException as problem:
        if not begun or isinstance(problem, CommandNotFound | NotExecutable):
            with contextlib.suppress(TensorTimeError, OSError):
                isolation.remove_worktree(store, again.folder)
        raise
    finally:
        store.give_to_owner()


def place_late(again: Repetition, monitor: Monitor) -> None:
    """Put beside the inputs what belongs to them and was stored later."""
    store, asked, late = again.store, again.recorded.asked, again.recorded.late
    if not late:
        return
    with store.in_use():
        plan = plans.read_plan(store, asked)
        selection = extraction.Selection(
            [item for item in plan.items if item.path in late],
            [entry for entry in plan.entries if entry.path in late],
        )
        extraction.place_selection(store, plan, selection, again.folder, "auto", monitor)


def run_in_worktree(
    again: Repetition, recipe: Recipe, on_begun: Callable[[Begun], None], monitor: Monitor
) -> RunReport:
    """Run the command in the restored worktree, between two backups of a new experiment."""
    with contextlib.suppress(OSError):
        isolation.learn(again.store, again.recorded.inputs, again.folder)
    refuse_unusable(recipe)
    for note in recipe.notes:
        monitor.warn(note)
    return running.run(
        recipe.words,
        name=again.name,
        add=[os.path.join(again.folder, os.fsdecode(path)) for path in again.recorded.top_outputs],
        alone=True,
        directory=recipe.folder,
        store=again.store.folder,
        environment=recipe.environment,
        on_begun=lambda backup: on_begun(Begun(backup.experiment, again.folder, recipe.words)),
        monitor=monitor,
    )


def reported(again: Repetition, recipe: Recipe, report: RunReport) -> RerunReport:
    """What is known when the command has ended."""
    first = again.recorded.result.get("exit_code")
    return RerunReport(
        report.experiment,
        again.asked,
        named(again.recorded.inputs),
        recipe.words,
        report.exit_code,
        first if isinstance(first, int) else None,
        again.folder,
        left_out=left_out_of(again.recorded),
        edited=tuple(text_of(path) for path in sorted(again.recorded.edited)),
        missed=report.missed,
        interrupted=report.interrupted if report.status == "interrupted" else "",
    )


def left_out_of(recorded: Recorded) -> tuple[str, ...]:
    """The paths that the inputs lack, as a rule left them out or they could not be stored, but for what nobody misses."""
    lists = [recorded.run.get(key) for key in ("ignored", "skipped")]
    rows = [row for one in lists if isinstance(one, list) for row in one if isinstance(row, dict)]
    paths = (str(row.get("path")) for row in rows if not str(row.get("rule", "")).startswith("built-in"))
    late = {text_of(path) for path in recorded.late}
    return tuple(path for path in paths if path not in late)


@dataclass(frozen=True)
class Bar:
    """How outputs are compared."""

    rtol: float
    is_passed_over: Callable[[bytes], bool]


def judged(
    again: Repetition,
    done: RerunReport,
    report: RunReport,
    bar: Bar | None,
    *,
    same_command: bool,
    rebuilt: bool,
    monitor: Monitor,
) -> RerunReport:
    """The report with what differs between then and now, and with a bar how each output came out."""
    if report.status == SUBMITTED:
        return replace(done, submitted=True, outputs=None if bar is None else ())
    if bar is not None and (report.begun is None or report.added is None):
        raise report.problem or TensorTimeError(
            "the rerun was not recorded, so that nothing can be compared",
            hint=message("it is in {path}", path=again.folder),
        )
    if done.experiment is None:
        return done
    with store_trouble(again.store.folder):
        new = history.resolve(again.store.shadow, history.read_catalog(again.store.shadow), done.experiment)
        if report.added is not None and not report.added.skipped:
            with contextlib.suppress(TensorTimeError):  # it then stays a worktree of the inputs
                isolation.advance(again.store, again.folder, new)
        causes = causes_between(again.store, again.recorded, new, same_command=same_command, rebuilt=rebuilt)
        done = replace(done, causes=suspects_of(causes))
        if bar is None:
            return done
        found = compare_outputs(again.store, again.recorded.asked, new, bar.rtol, bar.is_passed_over, monitor)
        return replace(done, outputs=found.outputs, unrecorded=found.unrecorded, rtol=bar.rtol)

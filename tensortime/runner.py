"""`tensortime run`: back up the inputs, run a command, add what it made to the same experiment.

    find the program ──> backup, status running ──> [worktree] ──> run ──> backup of the outputs ──> [worktree away]

The command runs whatever becomes of the backups, unless it was to be isolated. Nothing here speaks of success: the
report says what there is.
"""

import contextlib
import glob
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from signal import Signals

from tensortime import editing, fsops, history, snapshot
from tensortime.child import Ending, deaf_to, run_command
from tensortime.collector import start_collecting
from tensortime.config import Config
from tensortime.errors import (
    CommandNotFound,
    Interrupted,
    NotExecutable,
    TensorTimeError,
    listing,
    message,
)
from tensortime.experiments import SUBMITTED, Experiment
from tensortime.findings import FileStat
from tensortime.formats import RelPath, bytes_of, iso_time, text_of
from tensortime.history import Target
from tensortime.ignoring import Rules
from tensortime.jobs import Request, experiment_to_join, is_own_mistake, named
from tensortime.lookup import announce, environment_failure, say_if_taken
from tensortime.monitor import Monitor
from tensortime.names import ExperimentName
from tensortime.outputlog import OutputLog
from tensortime.overlooked import overlooked
from tensortime.processes import is_worked_in, this_process
from tensortime.project import Place
from tensortime.records import records_folder
from tensortime.redaction import hidden_values
from tensortime.reports import BackupReport, RunReport
from tensortime.scan import scan
from tensortime.session import RunStep, configured
from tensortime.statsums import StatSums
from tensortime.store import Store, create_store
from tensortime.surroundings import Work, placed, placed_words, variables, warn_of_others, warn_of_words
from tensortime.worktrees import left_worktree

LOG = "output.log"
"""What the command wrote, among the experiment's records."""

STOPS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that end a command because somebody wants it to end."""


PARTING = 2.0
"""Seconds that what a command started may take to end after it, before its folder is left to them."""


def run_bare(request: Request) -> RunReport:
    """Run the command and nothing else."""
    ending = run_command(request.words, folder=request.folder, environment=request.environment, log=None)
    return replace(told(ending), status=status_of(ending))


def told(ending: Ending) -> RunReport:
    """What a report says of a command's end."""
    return RunReport(
        exit_code=ending.exit_code,
        signal=Signals(ending.signal).name if ending.signal else "",
        interrupted=ending.interrupted,
        seconds=(ending.ended_ns - ending.started_ns) / 1e9,
        peak_memory=ending.peak_memory,
    )


def status_of(ending: Ending) -> str:
    """How the command ended: done, failed or interrupted."""
    by = Signals(ending.signal).name if ending.signal else ""
    # What lives on after Ctrl-C and ends well was not interrupted: a debugger, a notebook.
    if by in STOPS or (ending.interrupted and (ending.exit_code or ending.interrupted != "SIGINT")):
        return "interrupted"
    return "failed" if ending.exit_code else "done"


def run(place: Place, config: Config, request: Request, monitor: Monitor) -> RunReport:
    """Run the command between its two backups. UsageError; where it is isolated, what the first one raises."""
    try:
        work = begin(place, config, request, monitor)
    except Exception as problem:  # a person's command runs, whatever is wrong with us
        error = as_error(problem, place.store)
        if request.isolated or is_own_mistake(error):
            raise error from problem
        warn_of(error, monitor)
        return run_bare(request)
    if work is None:
        return run_bare(request)
    request.on_begun(work.begun)
    log = OutputLog(
        os.path.join(records_folder(work.store.folder, work.experiment), LOG),
        hidden_values(request.words, request.environment),
    )
    folder = placed(place, work, request.folder)
    with contextlib.ExitStack() as after:
        try:
            ending = run_command(
                placed_words(place, work, request),
                folder=folder,
                environment=variables(work, request, folder),
                log=log,
            )
            after.enter_context(deaf_to(ending.interrupted))
        finally:
            log.close()
        if ending.refused is not None:
            take_back(place, work)
            kind = CommandNotFound if ending.exit_code == CommandNotFound.exit_code else NotExecutable
            raise kind("{problem}", problem=ending.refused)
        report = replace(
            told(ending), status=status_of(ending), begun=work.begun, log_bytes=log.bytes, log_cut=log.cut
        )
        return finish(place, config, request, work, report, ending, monitor)


def take_back(place: Place, work: Work) -> None:
    """Nothing stays of an experiment whose command could not be started; of one that goes on, what there was."""
    store, begun = work.store, work.begun
    if work.place is not place:
        from tensortime import isolation  # 13 ms that a command in the project itself need not pay

        isolation.remove_worktree(store, work.place.project)
    if begun.is_edit or begun.number > 1:
        return
    fsops.remove_tree(records_folder(store.folder, work.experiment))
    with store.in_use():
        for ref in store.shadow.refs(f"{history.TAGS}{work.experiment}/").refs:
            store.shadow.delete_ref(ref.name)
        store.shadow.delete_ref(history.experiment_ref(work.experiment))


def as_error(problem: Exception, store: str) -> TensorTimeError:
    """What went wrong, as something that a person can be told."""
    if isinstance(problem, TensorTimeError):
        return problem
    if isinstance(problem, OSError):
        return environment_failure(store, problem)
    said = f"{type(problem).__name__}: {problem}"
    return TensorTimeError("something unexpected went wrong: {problem}", problem=said)


def warn_of(error: TensorTimeError, monitor: Monitor) -> None:
    """Say that there is no backup."""
    problem = (
        message("{problem} ({hint})", problem=error.message, hint=error.hint)
        if str(error.hint)
        else error.message
    )
    monitor.warn(message("NO BACKUP was made: {problem}; the command runs all the same", problem=problem))


def begin(place: Place, config: Config, request: Request, monitor: Monitor) -> Work | None:
    """Store the inputs and note who runs the command; None where this runs in a command that `run` runs already."""
    opened = create_store(place.store)
    announce(place, opened, monitor)
    for tag in request.tags:
        editing.tag_name(tag)
    existing, name = experiment_to_join(place, opened, request, monitor)
    if existing is not None and existing.runner.get("id") == request.environment.get("TENSORTIME_RUNNER", ""):
        return None
    runner = {**this_process(), "id": os.urandom(8).hex(), "isolated": request.isolated}
    warn_of_others(place, opened, request, monitor)
    seen = list[FileStat]()
    try:
        if existing is not None and request.isolated:
            begun = go_on(opened, existing, runner)
        else:
            step = RunStep("running", runner=runner, alone=request.alone, on_found=seen.extend)
            begun = back_up(
                place, opened, config, request, step, name, existing is not None or named(request), monitor
            )
        work = Work(opened, place, name_of(begun), runner, begun)
        try:
            return prepared(place, config, request, work, existing, seen, monitor)
        except BaseException:
            take_back(place, work)
            raise
    finally:
        opened.give_to_owner()


def may_take_over(request: Request, existing: Experiment | None) -> bool:
    """Whether nobody works any more in a worktree that an earlier try of this command left behind."""
    restarted = request.environment.get("SLURM_RESTART_COUNT", "0") != "0"
    return existing is not None and (restarted or existing.status == "interrupted")


def prepared(
    place: Place,
    config: Config,
    request: Request,
    work: Work,
    existing: Experiment | None,
    seen: Sequence[FileStat],
    monitor: Monitor,
) -> Work:
    """The experiment with its tags, its worktree, and how its files are before the command; `seen`: in the project."""
    if request.tags:
        editing.add_tags(work.store, target_of(work.store, work), request.tags)
    if request.isolated:
        from tensortime import isolation, rebuilding  # as above

        target = target_of(work.store, work)
        left = left_worktree(work.store, work.experiment) if may_take_over(request, existing) else None
        work = replace(
            work, place=left or isolation.make_worktree(work.store, place.project, target, monitor)
        )
        packages = stored_packages(work.store, target)
        path = rebuilding.own_sources(packages, place.project, work.place.project)
        work = replace(work, path=path)
        warn_of_words(place, work, request, monitor)
        seen = scan(os.fsencode(work.place.project), Rules.start()).files
    named_too = files_at(work.place, also(work.place, config, request))
    return replace(work, before=StatSums((*seen, *named_too)))


def stored_packages(store: Store, target: Target) -> bytes:
    """What was installed when a backup was made, as it lists it; empty where it did not."""
    name = f"{target.commit}:.tensortime/packages.txt"
    return next((data for _, data in store.shadow.read_objects([name], missing_ok=True)), b"")


def name_of(begun: BackupReport) -> ExperimentName:
    """The name of an experiment that is begun."""
    return ExperimentName(str(begun.experiment))


def back_up(
    place: Place,
    store: Store,
    config: Config,
    request: Request,
    step: RunStep,
    name: ExperimentName | None,
    joins: bool,
    monitor: Monitor,
) -> BackupReport:
    """One backup of the folder that the command runs in."""
    options = replace(configured(config, place.project), name=name, joins=joins, note=request.note, run=step)
    collector = start_collecting(
        place.project,
        request.words,
        request.folder,
        from_shell=True,
        whole=step.result is None,
        environ=request.environment,
    )
    try:
        report = snapshot.back_up(place, store, options, collector, monitor)
    finally:
        collector.close()
    if not joins:
        say_if_taken(name, report.experiment, monitor)
    return report


def go_on(store: Store, existing: Experiment, runner: Mapping[str, object]) -> BackupReport:
    """Note who runs the command of an experiment whose newest backup is all that it needs."""
    editing.change_facts(
        store, existing.name, lambda facts: replace(facts, status="running", runner=dict(runner))
    )
    return BackupReport(
        existing.name,
        existing.commit,
        existing.backups,
        existing.note,
        existing.time_ns,
        existing.files,
        existing.bytes,
        is_edit=True,
        store=store.folder,
    )


def target_of(store: Store, work: Work) -> Target:
    """The newest backup of the experiment."""
    catalog = history.read_catalog(store.shadow)
    return history.resolve(store.shadow, catalog, str(work.experiment))


def also(place: Place, config: Config, request: Request) -> tuple[RelPath, ...]:
    """The paths that are looked at although a rule leaves them out, as there are now."""
    found: dict[RelPath, None] = dict.fromkeys(request.add)
    for pattern in config.outputs:
        hits = glob.glob(pattern, root_dir=place.project, recursive=True, include_hidden=True)
        found |= dict.fromkeys(RelPath(os.fsencode(hit)) for hit in sorted(hits))
    return tuple(found)


def warn_of_nothing(place: Place, request: Request, monitor: Monitor) -> None:
    """Say which paths were asked for and are not there; a rerun's are those of the first run, and its verdict says so."""
    top = os.fsencode(place.project)
    gone = [text_of(path) for path in request.add if not os.path.lexists(os.path.join(top, path))]
    if gone and not request.alone:
        monitor.warn(message("--add: nothing is at {paths}", paths=listing(gone, 3)))


def files_at(place: Place, paths: Sequence[RelPath]) -> Sequence[FileStat]:
    """The files at and under some paths, whatever the rules say."""
    top = os.fsencode(place.project)
    there = [path for path in paths if os.path.lexists(os.path.join(top, path))]
    return scan(top, Rules.start(), only=there).files if there else ()


def finish(
    place: Place,
    config: Config,
    request: Request,
    work: Work,
    report: RunReport,
    ending: Ending,
    monitor: Monitor,
) -> RunReport:
    """The backup after the command, and the end of its worktree."""
    isolated = work.place is not place
    try:
        if request.submits and not ending.exit_code:
            mark_submitted(work, request)
            report = replace(report, status=SUBMITTED)
            return kept_for(report, work, "submitted") if isolated else report
        step = RunStep(
            report.status,
            result=result_of(report, ending),
            also=also(work.place, config, request),
            before=work.before,
            alone=request.alone or isolated,
        )
        added = back_up(
            work.place,
            work.store,
            config,
            replace(request, note=""),
            step,
            work.experiment,
            True,
            monitor,
        )
        since = None if isolated else ending.started_ns
        warn_of_nothing(work.place, request, monitor)
        missed = overlooked(work.store, work.place.project, added, since)
        report = replace(report, added=added, missed=missed)
        if isolated:
            report = part_from_worktree(request, work, report)
        if is_own_worktree(work) and os.path.lexists(work.place.project):
            from tensortime import isolation  # as above

            isolation.advance(work.store, work.place.project, target_of(work.store, work))
        return report
    except Exception as problem:  # noqa: BLE001 - the command has run: that is told, and its folder stays
        failed = as_error(problem, work.store.folder)
    except KeyboardInterrupt:
        failed = Interrupted("interrupted before the outputs were stored")
    finally:
        work.store.give_to_owner()
    report = replace(report, problem=failed)
    return kept_for(report, work, "failed") if isolated else report


def kept_for(report: RunReport, work: Work, why: str) -> RunReport:
    """The report of a command whose worktree stays."""
    return replace(report, worktree=work.place.project, why_kept=why)


def is_own_worktree(work: Work) -> bool:
    """Whether the command runs in a worktree of its own experiment: made here, or for the job that submitted it."""
    return work.place.parent is not None and work.place.parent.experiment == work.experiment


def mark_submitted(work: Work, request: Request) -> None:
    """Note that a job carries the experiment on; where it has begun already, that one says so itself."""
    waiting = {"submitted": os.path.basename(request.words[0])}
    editing.change_facts(
        work.store,
        work.experiment,
        lambda facts: (
            replace(facts, runner=waiting) if facts.runner.get("id") == work.runner["id"] else facts
        ),
    )


def result_of(report: RunReport, ending: Ending) -> dict[str, object]:
    """What run.json says of the command's end."""
    facts: dict[str, object] = {
        "exit_code": ending.exit_code,
        "signal": report.signal,
        "interrupted": report.interrupted,
        "started": iso_time(ending.started_ns),
        "ended": iso_time(ending.ended_ns),
        "seconds": round(report.seconds, 3),
        "peak_memory": ending.peak_memory,
        "output": {"bytes": report.log_bytes, "cut": report.log_cut},
    }
    return {key: value for key, value in facts.items() if value not in ("", None)}


def part_from_worktree(request: Request, work: Work, report: RunReport) -> RunReport:
    """Remove the command's worktree if all of it is stored and nobody wants it."""
    folder, added = work.place.project, report.added
    why = "asked" if request.keep else "missed" if report.missed else ""
    if added is None or added.changed or any(holds_bytes(folder, one.path) for one in added.skipped):
        why = why or "failed"
    if not why and is_worked_in(folder, PARTING):
        why = "busy"
    if not why:
        from tensortime import isolation  # as above

        try:
            isolation.remove_worktree(work.store, folder)
        except TensorTimeError as problem:
            return kept_for(replace(report, problem=problem), work, "failed")
    return kept_for(report, work, why) if why else report


def holds_bytes(folder: str, path: str) -> bool:
    """Whether something is lost with a skipped path: not with a FIFO, a socket, or what is gone."""
    try:
        mode = os.lstat(os.path.join(os.fsencode(folder), bytes_of(path))).st_mode
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))

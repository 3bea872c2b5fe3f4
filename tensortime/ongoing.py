"""Backups of an experiment whose command runs, or has just ended: everything new is an output, on top of the inputs.

The inputs are the experiment's last whole backup. `tensortime run` made it before the command, so a `tm.backup()` in
the command needs no second one: where nothing is new it only tells what it knows, as an edit of the newest backup.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tensortime import history, outcome
from tensortime.commits import OF_ONE_BACKUP, RUNNING, contents_of, facts_under, read_contents
from tensortime.formats import Oid, RelPath, bytes_of, covering, text_of
from tensortime.reports import OutputFile
from tensortime.session import RunStep
from tensortime.shadow import Shadow
from tensortime.trees import Contents

KNOWN_INSIDE = ("trackers", "notebook")
"""Facts that only a process of the command can know."""

OF_PYTHON = ("python", "machine", "packages", "environment")
"""Facts of the Python that really runs; `run` itself can only look for it."""


@dataclass(frozen=True)
class Inputs:
    """The last whole backup of an experiment."""

    contents: Contents
    passed_over: frozenset[RelPath]
    """What it should hold and could not."""


@dataclass(frozen=True)
class OnTop:
    """A backup on top of the newest."""

    contents: Contents
    facts: dict[str, object]
    added: tuple[RelPath, ...] | None
    """None: the tree is still that of a whole backup."""
    is_edit: bool
    """Nothing is new in the tree: the newest backup says more, and there is no further one."""
    outputs: tuple[OutputFile, ...] = ()
    edited: tuple[RelPath, ...] = field(default=())


def passed_over_in(run: Mapping[str, object]) -> frozenset[RelPath]:
    """What a backup should hold and could not."""
    return frozenset(RelPath(bytes_of(one.path)) for one in history.skipped_in(run))


def read_inputs(shadow: Shadow, tip: Oid, known: Inputs | None = None) -> Inputs:
    """The last whole backup that a commit is, or is on top of; `known`: that of the commit itself, if it is whole."""
    entries = history.read_history(shadow, tip)
    runs = history.runs_of(shadow, [entry.commit for entry in entries])
    whole = next((entry for entry in entries if "added" not in runs.get(entry.number, {})), entries[-1])
    if known is not None and whole.commit == tip:
        return known
    contents, run = read_contents(shadow, whole.commit)
    return Inputs(contents, passed_over_in(run))


def with_outputs(shadow: Shadow, tip: Oid, contents: Contents) -> tuple[Contents, tuple[OutputFile, ...]]:
    """Contents that list what differs from the inputs, and that list."""
    inputs = read_inputs(shadow, tip)
    rewritten = outcome.rewritten_in(contents.extra)
    outputs = outcome.outputs_between(inputs.contents, contents, inputs.passed_over, rewritten)
    extra = {**contents.extra, outcome.OUTPUTS: outcome.encode_outputs(outputs)}
    return replace(contents, extra=extra), outputs


def put_on_top(
    shadow: Shadow,
    tip: Oid,
    now: Contents,
    collected: Mapping[str, object],
    step: RunStep | None,
    *,
    elsewhere: bool,
    alone: bool,
    waits: bool,
    is_gone: Callable[[RelPath], bool],
    is_old: Callable[[RelPath], bool],
    is_written: Callable[[RelPath], bool],
) -> OnTop | None:
    """What a look at the whole project adds to an experiment whose command runs. `step`: of `run` itself, else None.

    `elsewhere`: the look was at another project, of a process that the command started there: its files are none of it.
    `waits`: large files are still to be read, and come on top of this backup later. `is_written`: somebody wrote it
    while the command ran, whatever bytes it has; asked only when that has ended.
    None where `run` begins anew and source files are others by now: then it is a whole backup, with inputs of its own.
    """
    items = shadow.tree(tip)
    meta = history.read_meta(shadow, items)
    newest, below = contents_of(items, meta), history.run_of(meta)
    inputs = read_inputs(shadow, tip, Inputs(newest, passed_over_in(below)))
    now = replace(newest, extra=now.extra) if elsewhere else now
    also = step.also if step is not None else ()

    def is_edited(path: RelPath) -> bool:
        return not alone and outcome.is_source(path) and covering(path, also) is None

    found = outcome.outcome_of(
        inputs.contents, newest, now, is_edited=is_edited, is_gone=is_gone, is_old=is_old
    )
    begins, ends = step is not None and step.result is None, step is not None and step.result is not None
    if begins and found.edited:
        return None
    news = (*RUNNING, *((b"packages.txt",) if step is None and knows_python(below, collected) else ()))
    facts = facts_so_far(below, collected, step)
    if ends and found.edited:
        facts["edited"] = [text_of(path) for path in found.edited]
    extra = {name: data for name, data in newest.extra.items() if not (begins and name == b"pushed.patch")}
    told = now.extra if begins else {name: now.extra[name] for name in news if name in now.extra}
    extra.update(told)
    same = outcome.files_of(found.contents) == outcome.files_of(newest)
    rewritten = set(outcome.rewritten_in(newest.extra))
    if ends:
        rewritten |= {path for path in outcome.files_of(now) if is_written(path) and not is_edited(path)}
    outputs = outcome.outputs_between(inputs.contents, found.contents, inputs.passed_over, rewritten)
    added = tuple(RelPath(bytes_of(one.path)) for one in outputs)
    if same and not ends and not waits:
        was_added = added if "added" in below else None
        return OnTop(replace(newest, extra=extra), facts, was_added, True, outputs, found.edited)
    extra[outcome.OUTPUTS] = outcome.encode_outputs(outputs)
    return OnTop(replace(found.contents, extra=extra), facts, added, False, outputs, found.edited)


def knows_python(below: Mapping[str, object], collected: Mapping[str, object]) -> bool:
    """Whether a process of the command knows of its Python what was only looked for from outside."""
    here, there = facts_under(collected, "python").get("source"), facts_under(below, "python").get("source")
    return here == "this process" != there


def facts_so_far(
    below: Mapping[str, object], collected: Mapping[str, object], step: RunStep | None
) -> dict[str, object]:
    """The facts of a run that something is added to, by `run` itself or by a process of its command."""
    if step is not None and step.result is None:
        # The command begins again, perhaps on another machine: what ran before is told by the older backups.
        return {key: value for key, value in collected.items() if key != "parent"} | parent_of(below)
    kept = {key: value for key, value in below.items() if key not in OF_ONE_BACKUP}
    if step is not None:
        return kept
    told = [*KNOWN_INSIDE, *(OF_PYTHON if knows_python(below, collected) else ())]
    return {**kept, **{key: collected[key] for key in told if key in collected}}


def parent_of(below: Mapping[str, object]) -> dict[str, object]:
    """The fact where an experiment's first backup came from."""
    return {"parent": below["parent"]} if below.get("parent") else {}
